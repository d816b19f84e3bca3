"""Replicates with truths of their own, drawn from the condition's priors.

A block is drawn as if all covariances were the identity; then, with L_r L_r' the covariance of replicate r and s_r its residual
standard deviation, random effects become L_r u, errors s_r e. Its fixed effects go into the response in `gram`, as what they are
beyond the condition's. The priors have a stream of their own, a row of uniforms a prior, so that the block's draws are in the
same order as without them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..spec.model import Condition
from ..spec.uncertain import DrawnTruth, drawn_truth, drawn_values, prior_names
from .gram import Draw
from .layout import Array, Design
from .replicate import ReplicateRows
from .streams import prior_generator

__all__ = ["correlate", "draw_truths", "truth_factors", "unit_design", "with_truths", "with_truths_of"]


def unit_design(design: Design) -> Design:
    """The design with random effects and errors of unit variance, uncorrelated."""
    q, truth = len(design.random), design.condition.truth
    unit = replace(truth, covariance=tuple(map(tuple, np.eye(q).tolist())), residual_variance=1.0)
    return replace(design, condition=replace(design.condition, truth=unit), random_factor=np.eye(q))


def draw_truths(condition: Condition, key: str, block: int) -> DrawnTruth:
    """The truths of a block's replicates; key: the condition's data key."""
    words = prior_generator(condition.seed, key, block).bit_generator.random_raw(
        len(prior_names(condition)) * condition.block_size
    )
    uniforms = ((np.asarray(words) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # inside (0, 1)
    return drawn_truth(condition, drawn_values(condition, uniforms.reshape(-1, condition.block_size)))


def with_truths(draw: Draw, truths: DrawnTruth) -> Draw:
    """A block that was drawn from the unit design, under the truths of its replicates; its arrays are used up."""
    scale = np.sqrt(truths.residual_variance)
    np.multiply(draw.de, scale, out=draw.de)
    np.multiply(draw.ee, truths.residual_variance, out=draw.ee)
    correlate(truth_factors(truths), draw.u)
    return replace(draw, truths=truths)


def with_truths_of(rows: ReplicateRows, truths: DrawnTruth, r: int) -> ReplicateRows:
    """The same for the rows of replicate r alone."""
    u = rows.u[:, :, None].copy()
    correlate(truth_factors(truths)[:, :, r : r + 1], u)
    fixed = tuple(float(value[r]) for value in truths.fixed)
    return replace(rows, u=u[:, :, 0], e=rows.e * np.sqrt(truths.residual_variance[r]), fixed=fixed)


def correlate(L: Array, u: Array) -> None:
    """u (J, q, R) to L u in place, L (q, q, R): row i needs rows 0 .. i of the noise."""
    for i in range(len(L) - 1, -1, -1):
        u[:, i] *= L[i, i]
        for k in range(i):
            if L[i, k].any():
                u[:, i] += L[i, k] * u[:, k]


def truth_factors(truths: DrawnTruth) -> Array:
    """(q, q, R): lower factors of the covariances, as `layout.lower_factor` makes one; a zero pivot leaves a zero column."""
    q, R = len(truths.covariance), len(truths.residual_variance)
    C = np.array(truths.covariance).reshape(q, q, R)
    L = np.zeros((q, q, R))
    for j in range(q):
        pivot = C[j, j] - (L[j, :j] ** 2).sum(axis=0)
        kept = pivot > 1e-12 * C[j, j]
        L[j, j] = np.sqrt(np.where(kept, pivot, 0.0))
        for i in range(j + 1, q):
            rest = C[i, j] - (L[i, :j] * L[j, :j]).sum(axis=0)
            np.divide(rest, L[j, j], out=L[i, j], where=kept)
    return L
