"""Generalised least squares at the true variances, from the Gram: the analysis of someone who knows them.

With V_j = s2 (I + Z G Z') of the truth, S = X'V^-1 X and r = X'V^-1 y: b = S^-1 r, Cov(b) = S^-1, and b is normal whatever the
design, so that z tests have exactly the power that formulas give them (Hussey & Hughes 2007, for stepped wedges). No method for
data has less variance among unbiased linear ones, which makes it a yardstick.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..simulate.layout import pair
from .lmm import Fits, Plan, counts, pairs
from .ols import fixed_products
from .reduce import PIVOT_TOLERANCE
from .status import Status

__all__ = ["fit_gls"]

Array = NDArray[np.float64]


def fit_gls(plan: Plan, gram: Gram, first: int, last: int, *, sigma2: float) -> Fits:
    """Fit replicates first .. last - 1 of a Gram at G = `plan.start` (of the plan's random columns) and residual variance sigma2.

    beta includes `plan.true_beta`, as in `fit_gram`; variance components are those given. Statuses: rank_deficient where X is,
    nonfinite where y is.
    """
    q, p, R = len(plan.zcols), len(plan.xcols), last - first
    gram = _part(gram, first, last)
    rows, _ = counts(plan.rows, gram, 0, R)
    with np.errstate(invalid="ignore"):
        S, r, yy, logdet = _weighted(plan, gram, _square(plan.start, q))
    S = np.broadcast_to(S, (R, p, p)).copy()
    finite = np.isfinite(S).all(axis=(1, 2)) & np.isfinite(r).all(axis=1) & np.isfinite(yy)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(np.einsum("rii->ri", np.where(finite[:, None, None], S, np.eye(p))))
        scaled = S / (scale[:, :, None] * scale[:, None, :])
    usable = finite & (scale > 0).all(axis=1)
    scaled[~usable] = np.eye(p)
    values, vectors = np.linalg.eigh(scaled)
    usable &= values[:, 0] > PIVOT_TOLERANCE
    inverse = np.einsum("rik,rk,rjk->rij", vectors, 1.0 / np.maximum(values, PIVOT_TOLERANCE), vectors)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse /= scale[:, :, None] * scale[:, None, :]
        beta = np.einsum("rij,rj->ri", inverse, r)
        quadratic = yy - np.einsum("ri,ri->r", beta, r)
    m = rows - p if plan.reml else rows
    deviance = logdet + rows * np.log(2.0 * np.pi * sigma2) + quadratic / sigma2
    if plan.reml:
        deviance += 2.0 * np.log(scale).sum(axis=1) + np.log(np.maximum(values, PIVOT_TOLERANCE)).sum(axis=1)
        deviance -= (rows - m) * np.log(2.0 * np.pi * sigma2)
    status = np.where(usable, Status.ok, np.where(finite, Status.rank_deficient, Status.nonfinite)).astype(np.int64)
    beta, inverse, deviance = beta + plan.true_beta, inverse * sigma2, np.broadcast_to(deviance, (R,)).copy()
    for array in (beta, inverse, deviance):
        array[~usable] = np.nan
    return Fits(
        status, np.zeros(R, dtype=np.int64), deviance, np.where(usable, 0.0, np.nan), beta,
        np.stack([inverse[:, i, k] for i, k in pairs(p)], axis=1),
        np.where(usable[:, None], np.tile(plan.start * sigma2, (R, 1)), np.nan), np.where(usable, sigma2, np.nan),
    )  # fmt: skip


def _part(gram: Gram, first: int, last: int) -> Gram:
    def take(array: Array) -> Array:
        return array if array.shape[-1] == 1 else array[..., first:last]

    return Gram(take(gram.dd), gram.dy[..., first:last], gram.yy[..., first:last], take(gram.weights))


def _square(packed: Array, q: int) -> Array:
    G = np.zeros((q, q))
    for value, (i, k) in zip(packed, pairs(q), strict=True):
        G[i, k] = G[k, i] = value
    return G


def _weighted(plan: Plan, gram: Gram, G: Array) -> tuple[Array, Array, Array, Array]:
    """s2 X'V^-1 X (R or 1, p, p), s2 X'V^-1 y (R, p), s2 y'V^-1 y (R) and log|V / s2| (R or 1), by K = G (I + A G)^-1."""
    z, x = plan.zcols, plan.xcols
    weights = [gram.weights[w] for w in plan.xweights]
    shape = np.broadcast_shapes(gram.dd[:, 0].shape, gram.weights[0].shape)
    A = np.stack([np.stack([gram.dd[:, pair(a, b)] for b in z], axis=-1) for a in z], axis=-2)
    B = np.stack(
        [
            np.stack([np.broadcast_to(gram.dd[:, pair(a, b)] * w, shape) for b, w in zip(x, weights, strict=True)], -1)
            for a in z
        ],
        axis=-2,
    )
    M = np.eye(len(z)) + A @ G
    K = G @ _inverse(M)
    KB = K @ B
    S = fixed_products(plan, gram) - np.ascontiguousarray(np.einsum("jrak,jral->rklj", B, KB)).sum(axis=-1)
    c = np.stack([gram.dy[:, a] for a in z], axis=-1)
    Xy = np.stack([(gram.dy[:, b] * w) for b, w in zip(x, weights, strict=True)], axis=-1)
    r = _sum(Xy - np.einsum("jrak,jra->jrk", KB, c))
    yy = _sum(gram.yy - np.einsum("jra,jrab,jrb->jr", c, K, c))
    return S, r, yy, _sum(np.linalg.slogdet(M)[1])


def _inverse(M: Array) -> Array:
    """Inverses of (..., q, q); nan where one is singular, which NumPy tells of all of them at once."""
    try:
        return np.asarray(np.linalg.inv(M))
    except np.linalg.LinAlgError:
        found = np.full_like(M, np.nan)
        for place in np.ndindex(M.shape[:-2]):
            with suppress(np.linalg.LinAlgError):
                found[place] = np.linalg.inv(M[place])
        return found


def _sum(values: Array) -> Array:
    """Sums over clusters, the first axis, in one order for any number of replicates."""
    return np.asarray(np.ascontiguousarray(np.moveaxis(values, 0, -1)).sum(axis=-1), dtype=float)
