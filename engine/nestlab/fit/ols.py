"""The model without random terms, y = X b + e, from the Gram: the null model of tests of all variances.

The factor of [X y]'[X y] = C C' (C lower-triangular, order p + 1) holds everything, as in `kernel` at G = 0:

    rss = C_pp^2 (the last entry),  m = N - p (REML) or N (ML),  s2 = rss / m,  Cov(b) = s2 (X'X)^-1
    dev = m (1 + log(2 pi rss / m)) + [REML] log|X'X|

so that its deviance and that of a mixed model are to be compared. All replicates are handled at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..simulate.layout import pair
from .lmm import Fits, Plan, counts, fit_gram, pairs
from .reduce import PERFECT_TOLERANCE, PIVOT_TOLERANCE
from .status import Status

__all__ = ["fit_model", "fit_ols", "fit_products", "fixed_products"]

Array = NDArray[np.float64]


def fit_model(plan: Plan, gram: Gram, first: int, last: int) -> Fits:
    """Fit replicates first .. last - 1 of a Gram: by the kernel, or by least squares where there is no random term."""
    return fit_gram(plan, gram, first, last) if plan.zcols else fit_ols(plan, gram, first, last)


def fit_ols(plan: Plan, gram: Gram, first: int, last: int, *, rows: Array | None = None) -> Fits:
    """The same for a plan without random columns; `varcomp` is (R, 0). beta includes `plan.true_beta`, as in `fit_gram`.

    rows (R or 1): N of each replicate, where it is not the plan's.

    Statuses are the kernel's: rank_deficient where X is (or p >= N), nonfinite where y is constant or fitted perfectly.
    """
    N = counts(plan.rows, gram, first, last)[0] if rows is None else np.asarray(rows, dtype=float)
    return fit_products(_cross_products(plan, gram, first, last), N, reml=plan.reml, true_beta=plan.true_beta)


def fit_products(S: Array, rows: Array, *, reml: bool, true_beta: Array) -> Fits:
    """Least squares from [X y]'[X y] (R, p + 1, p + 1), which is used up; rows (R or 1): N; true_beta (p): added to beta."""
    R, p = len(S), S.shape[1] - 1
    N = np.broadcast_to(rows, (R,))
    m = N - p if reml else N
    status = _status(S, N)
    S[status != Status.ok] = np.eye(p + 1)
    scale = np.sqrt(np.einsum("rii->ri", S))
    with np.errstate(over="ignore", invalid="ignore"):  # after a pivot of 0
        C, pivots = _factor(S / (scale[:, :, None] * scale[:, None, :]))
    status[(status == Status.ok) & (pivots[:, :p] <= PIVOT_TOLERANCE).any(axis=1)] = Status.rank_deficient
    status[(status == Status.ok) & (pivots[:, p] <= PERFECT_TOLERANCE)] = Status.nonfinite
    rss, inverse = pivots[:, p] * scale[:, p] ** 2, np.zeros((R, p, p))
    C[status != Status.ok] = np.eye(p + 1)
    for i in range(p):  # C^-1 by rows
        inverse[:, i, i] = 1.0
        inverse[:, i] -= np.einsum("rk,rkl->rl", C[:, i, :i], inverse[:, :i])
        inverse[:, i] /= C[:, i, i, None]
    beta = np.einsum("rki,rk->ri", inverse, C[:, p, :p]) * scale[:, p, None] / scale[:, :p] + true_beta
    vcov = np.einsum("rki,rkl->ril", inverse, inverse) / (scale[:, :p, None] * scale[:, None, :p])
    bad = status != Status.ok
    sigma2 = np.where(bad, np.nan, rss / np.where(m > 0, m, np.nan))
    deviance = m * (1.0 + np.log(2.0 * np.pi * np.where(bad, 1.0, sigma2)))
    if reml:
        deviance += 2.0 * np.log(np.einsum("rii->ri", C[:, :p, :p]) * scale[:, :p]).sum(axis=1)
    beta[bad], deviance[bad] = np.nan, np.nan
    columns = [vcov[:, i, k] * sigma2 for i, k in pairs(p)]
    return Fits(
        status, np.zeros(R, dtype=np.int64), deviance, np.where(bad, np.nan, 0.0), beta, np.stack(columns, axis=1),
        np.empty((R, 0)), sigma2,
    )  # fmt: skip


def fixed_products(plan: Plan, gram: Gram) -> Array:
    """X'X (R, p, p); R is 1 where all replicates share the design."""
    p = len(plan.xcols)
    w = [gram.weights[k] for k in plan.xweights]
    R = max(gram.dd.shape[2], gram.weights.shape[2])
    XX = np.empty((R, p, p))
    for i, k in pairs(p):
        XX[:, i, k] = XX[:, k, i] = _sum(gram.dd[:, pair(plan.xcols[i], plan.xcols[k])] * w[i] * w[k])
    return XX


def _sum(values: Array) -> Array:
    """Sums over clusters (R or 1) of (J, R or 1), in one order for any R: as they lie, NumPy would add those of a single
    replicate in another order than those of several."""
    return np.asarray(np.ascontiguousarray(values.T).sum(axis=1), dtype=float)


def _cross_products(plan: Plan, gram: Gram, first: int, last: int) -> Array:
    """[X y]'[X y] (R, p + 1, p + 1) of replicates first .. last - 1."""
    shared = gram.dd, gram.weights
    dd, weights = (array if array.shape[2] == 1 else array[:, :, first:last] for array in shared)
    dy, yy, p = gram.dy[:, :, first:last], gram.yy[:, first:last], len(plan.xcols)
    S = np.empty((last - first, p + 1, p + 1))
    S[:, :p, :p] = fixed_products(plan, Gram(dd, dy, yy, weights))
    for i in range(p):
        S[:, i, p] = S[:, p, i] = _sum(weights[plan.xweights[i]] * dy[:, plan.xcols[i]])
    S[:, p, p] = _sum(yy)
    return S


def _status(S: Array, rows: Array) -> NDArray[np.int64]:
    """ok, or what forbids a fit before anything is computed."""
    diagonal, p = np.einsum("rii->ri", S), S.shape[1] - 1
    status = np.full(len(S), Status.ok, dtype=np.int64)
    status[(diagonal[:, :p] <= 0).any(axis=1) | (p >= rows)] = Status.rank_deficient
    status[~np.isfinite(S).all(axis=(1, 2)) | ~(diagonal[:, p] > 0)] = Status.nonfinite
    return status


def _factor(S: Array) -> tuple[Array, Array]:
    """C (R, n, n), lower, and its squared diagonal (R, n), of S with a unit diagonal; pivots are kept above 0."""
    C, pivots = np.zeros_like(S), np.empty(S.shape[:2])
    for k in range(S.shape[1]):
        column = S[:, k:, k] - np.einsum("ril,rl->ri", C[:, k:, :k], C[:, k, :k])
        pivots[:, k] = column[:, 0]
        column[:, 0] = np.maximum(column[:, 0], np.finfo(float).tiny)
        C[:, k:, k] = column / np.sqrt(column[:, :1])
    return C, pivots
