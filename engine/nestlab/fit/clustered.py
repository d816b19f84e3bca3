"""Degrees of freedom of least squares and of cluster-robust standard errors, by each rule.

"z": infinite. "residual": rows - fixed effects. "clusters": clusters - 1. "between-within": as for mixed models.
"bell-mccaffrey": Satterthwaite's under the working model (`robust`). Several rows are tested by F(r, df); by Bell and
McCaffrey's rule with the scale and the df of Hotelling's T^2. Numbers of rows and clusters are those of each replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .inference import Hypotheses, Inference, between_within_df
from .lmm import Fits
from .robust import Sandwich

__all__ = ["Counts", "least_squares_rules", "robust_rules"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Of each replicate (R) or all of them (1): rows, clusters that have any, and fixed effects, those of clusters included."""

    rows: Array
    clusters: Array
    fixed: Array


def least_squares_rules(
    fits: Fits, sizes: Counts, hypotheses: Hypotheses, rules: Sequence[str]
) -> dict[str, Inference]:
    """The model's own standard errors, by the rules "z" and "residual"."""
    return {rule: _inference(fits, fits.vcov, _df(rule, sizes, hypotheses, ()), None) for rule in rules}


def robust_rules(
    kind: str, found: Sandwich, fits: Fits, sizes: Counts, hypotheses: Hypotheses, rules: Sequence[str],
    equation: Sequence[int] = (),
) -> dict[str, Inference]:  # fmt: skip
    """CR0, CR1, CR1S or CR2 by each rule; equation: see `between_within_df`. found: of CR2 the adjusted sandwich, else CR0's.

    Undefined with one cluster, and where the sandwich is.
    """
    vcov = found.vcov * _factor(kind, sizes)[:, None]
    rows = np.diff(hypotheses.starts)
    result = {}
    for rule in rules:
        if rule == "bell-mccaffrey":
            result[rule] = Inference(found.df, vcov, found.scale)
            continue
        df = _df(rule, sizes, hypotheses, equation)
        df = np.where(sizes.clusters[:, None] > rows, df, np.nan)  # the scores of J clusters have rank J - 1 at most
        result[rule] = _inference(fits, vcov, np.where(np.isnan(found.df), np.nan, df), None)
    return result


def _inference(fits: Fits, vcov: Array, df: Array, scale: Array | None) -> Inference:
    shape = (len(fits.status), df.shape[1])
    df = np.where(np.isfinite(fits.sigma2)[:, None] & (df > 0), np.broadcast_to(df, shape), np.nan)
    return Inference(df, vcov, np.ones(shape) if scale is None else scale)


def _factor(kind: str, sizes: Counts) -> Array:
    """What CR0 is multiplied by (R or 1); nan with one cluster."""
    J = np.where(sizes.clusters > 1, sizes.clusters, np.nan)
    if kind == "CR1":
        return np.asarray(J / (J - 1))
    if kind == "CR1S":
        left = np.where(sizes.rows > sizes.fixed, sizes.rows - sizes.fixed, np.nan)
        return np.asarray(J * (sizes.rows - 1) / ((J - 1) * left))
    return np.asarray(J / J)


def _df(rule: str, sizes: Counts, hypotheses: Hypotheses, equation: Sequence[int]) -> Array:
    """(R or 1, H)."""
    one = np.ones(len(hypotheses))
    if rule == "z":
        return np.inf * one[None]
    if rule == "residual":
        return np.asarray((sizes.rows - sizes.fixed)[:, None] * one)
    if rule == "clusters":
        return np.asarray((sizes.clusters - 1)[:, None] * one)
    kinds, which = np.unique(np.stack(np.broadcast_arrays(sizes.clusters, sizes.rows)), axis=1, return_inverse=True)
    used = hypotheses.effects
    found = []
    for clusters, rows in kinds.T:
        df = between_within_df(equation, clusters=int(clusters), rows=int(rows))
        found.append([np.min(df[members]) for members in used])
    return np.array(found)[which.ravel()]
