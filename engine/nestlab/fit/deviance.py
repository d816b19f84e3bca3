"""The profiled deviance in NumPy: the reference twin of the kernel, one data set at a time, as the formulas read.

Notation as in `kernel`. All functions take the statistics of one data set: A (J, q, q), B (J, q, p), c (J, q), XX (p, p), Xy (p),
yy, and rows N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..simulate.layout import pair
from .lmm import Fits, Plan, counts, pairs

__all__ = ["Statistics", "deviance", "gradient", "hessian", "relative_covariance", "statistics", "statistics_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of one data set."""

    A: Array
    B: Array
    c: Array
    XX: Array
    Xy: Array
    yy: float
    N: int


@dataclass(frozen=True)
class _Pieces:
    W: Array
    T: Array
    t: Array
    K: Array
    rss: float
    m: int
    deviance: float
    beta: Array


def statistics(y: Array, X: Array, Z: Array, groups: NDArray[np.int64]) -> Statistics:
    """Statistics of rows: y (N), X (N, p), Z (N, q), groups (N) numbered 0 .. J - 1."""
    parts = [(Z[groups == j], X[groups == j], y[groups == j]) for j in range(int(groups.max()) + 1)]
    return Statistics(
        A=np.array([z.T @ z for z, _, _ in parts]),
        B=np.array([z.T @ x for z, x, _ in parts]),
        c=np.array([z.T @ v for z, _, v in parts]),
        XX=X.T @ X,
        Xy=X.T @ y,
        yy=float(y @ y),
        N=len(y),
    )


def statistics_of(plan: Plan, gram: Gram, r: int) -> Statistics:
    """Statistics of replicate r of a block, as a method sees it."""
    rd, rw = (r if array.shape[2] > 1 else 0 for array in (gram.dd, gram.weights))
    w = [gram.weights[k, :, rw] for k in plan.xweights]
    z, x = list(plan.zcols), list(plan.xcols)
    dd = {(a, b): gram.dd[:, pair(a, b), rd] for a in {*z, *x} for b in {*z, *x}}
    return Statistics(
        A=np.array([[dd[a, b] for b in z] for a in z]).transpose(2, 0, 1),
        B=np.array([[dd[a, c] * v for c, v in zip(x, w, strict=True)] for a in z]).transpose(2, 0, 1),
        c=gram.dy[:, z, r],
        XX=np.array([[(dd[a, b] * v * u).sum() for b, u in zip(x, w, strict=True)] for a, v in zip(x, w, strict=True)]),
        Xy=np.array([(gram.dy[:, a, r] * v).sum() for a, v in zip(x, w, strict=True)]),
        yy=float(gram.yy[:, r].sum()),
        N=int(counts(plan.rows, gram, r, r + 1)[0][0]),
    )


def relative_covariance(fits: Fits, r: int) -> Array:
    """G (q, q) of fit r: the covariance of the random effects over the residual variance."""
    values = fits.varcomp[r] / fits.sigma2[r]
    q = math.isqrt(2 * len(values))  # q < sqrt(q (q + 1)) < q + 1
    G = np.empty((q, q))
    for value, (i, k) in zip(values, pairs(q), strict=True):
        G[i, k] = G[k, i] = value
    return G


def _pieces(s: Statistics, G: Array, reml: bool) -> _Pieces:
    q, p = s.B.shape[1:]
    M = np.eye(q) + s.A @ G
    W, T = np.asarray(np.linalg.solve(M, s.A), dtype=float), np.asarray(np.linalg.solve(M, s.B), dtype=float)
    d = np.linalg.solve(M, s.c[..., None])[..., 0]
    S = s.XX - np.einsum("jai,ab,jbk->ik", s.B, G, T)
    r = s.Xy - np.einsum("jai,ab,jb->i", s.B, G, d)
    K = np.linalg.inv(S)
    beta = K @ r
    rss = s.yy - np.einsum("ja,ab,jb->", s.c, G, d) - r @ beta
    m = s.N - p if reml else s.N
    dev = np.linalg.slogdet(M)[1].sum() + m * (1 + np.log(2 * np.pi * rss / m))
    dev += np.linalg.slogdet(S)[1] if reml else 0.0
    return _Pieces(W, T, d - T @ beta, K, float(rss), m, float(dev), beta)


def deviance(s: Statistics, G: Array, *, reml: bool) -> float:
    """Profiled deviance (-2 log likelihood, or lme4's REML criterion) at G, the covariance of u relative to s2."""
    return _pieces(s, G, reml).deviance


def gradient(s: Statistics, G: Array, *, reml: bool) -> Array:
    """Sg (q, q): the derivative with respect to symmetric G, d dev = tr(Sg dG)."""
    v = _pieces(s, G, reml)
    Sg = v.W.sum(0) - v.m / v.rss * np.einsum("ja,jb->ab", v.t, v.t)
    if reml:
        Sg = Sg - np.einsum("jai,ik,jbk->ab", v.T, v.K, v.T)
    return np.asarray(Sg, dtype=float)


def hessian(s: Statistics, G: Array, Ea: Array, Eb: Array, *, reml: bool) -> float:
    """Second derivative of the profiled deviance in the symmetric directions Ea and Eb (q, q)."""
    v = _pieces(s, G, reml)
    scale = v.m / v.rss
    Y = -v.W + 2 * scale * np.einsum("ja,jb->jab", v.t, v.t)
    if reml:
        Y = Y + 2 * np.einsum("jai,ik,jbk->jab", v.T, v.K, v.T)
    D = [np.einsum("jai,ab,jbk->ik", v.T, E, v.T) for E in (Ea, Eb)]
    d = [np.einsum("jai,ab,jb->i", v.T, E, v.t) for E in (Ea, Eb)]
    qq = [np.einsum("ja,ab,jb->", v.t, E, v.t) for E in (Ea, Eb)]
    value = np.einsum("ab,jbc,cd,jda->", Ea, v.W, Eb, Y) - scale * (2 * d[0] @ v.K @ d[1] + qq[0] * qq[1] / v.rss)
    if reml:
        value -= np.trace(v.K @ D[0] @ v.K @ D[1])
    return float(value)
