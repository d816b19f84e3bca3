"""Least squares on rows, with or without fixed effects of factors, y = X b + (dummies) + e.

Off the dummies, X = R'Q with orthonormal rows Q (p, N) by Gram and Schmidt, R upper-triangular: b = R^-1 Q y, e = y - Q'Q y,
Cov(b) = s2 R^-1 R'^-1, s2 = e'e / (N - p - rank of the dummies). By Frisch, Waugh and Lovell these are the coefficients,
residuals and covariance of the regression that has the dummies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clustered import Counts, least_squares_rules, robust_rules
from ..inference import Hypotheses, Inference
from ..lmm import Fits, pairs
from ..reduce import PERFECT_TOLERANCE, PIVOT_TOLERANCE
from ..robust import Sandwich
from ..status import Status
from .absorb import Dummies
from .multiway import Robust, robust_pattern
from .rows import Array, CrossedRows, Pattern, product

__all__ = ["Regressed", "Regression", "absorbed_terms", "regress", "regress_pattern"]

#: Values of regressors and dummies in memory at once.
MOST_VALUES = 4_000_000
#: A residual sum of squares of this share of y'y is rounding.
ROUNDING = 1e-28


@dataclass(frozen=True)
class Regression:
    """One pattern of rows, regressed; D is its number of designs X.

    Q (D, p, N), inverse (D, p, p): R^-1; least (D): the smallest pivot of X'X over its diagonal, 0 where it has no full rank;
    status (replicates), coefficients Q y (replicates, p), residuals (replicates, N), rss (replicates); fixed: the number of
    parameters, dummies included.
    """

    pattern: Pattern
    dummies: Dummies | None
    Q: Array
    inverse: Array
    least: Array
    status: NDArray[np.int64]
    scores: Array
    residuals: Array
    rss: Array
    fixed: int

    @property
    def rows(self) -> int:
        return int(self.Q.shape[2])

    @property
    def beta(self) -> Array:
        """(replicates, p)"""
        return product(self.inverse, self.scores[:, None])[:, :, 0]

    @property
    def unit(self) -> Array:
        """(D, p, p): the covariance of b over the residual variance."""
        return product(self.inverse, self.inverse)

    @property
    def sigma2(self) -> Array:
        """(replicates)"""
        left = self.rows - self.fixed
        return np.asarray(self.rss / (left if left > 0 else np.nan))


@dataclass(frozen=True)
class Regressed:
    """R replicates by least squares. sizes: rows, the least number of levels of the factors that errors are clustered by (of rows
    where by none), parameters. robust: None for the model's own standard errors. repaired (R): see `Robust`."""

    fits: Fits
    sizes: Counts
    robust: Sandwich | None
    repaired: NDArray[np.bool_]

    def by_rule(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        """Standard errors and df by the rules "z" and "residual"; robust ones also by "clusters", the fewest levels less 1, and
        "bell-mccaffrey", Satterthwaite's of `multiway`."""
        if self.robust is None:
            return least_squares_rules(self.fits, self.sizes, hypotheses, rules)
        return robust_rules(
            "CR0", self.robust, self.fits, self.sizes, hypotheses, rules
        )  # CR1's factors are in it already


def regress(
    rows: CrossedRows, hypotheses: Hypotheses, *, absorbed: Sequence[str] = (), robust: Robust | None = None
) -> Regressed:
    """Regress y on X. absorbed: the factors that have fixed effects. robust: the kind of standard errors, by `multiway`."""
    R, p, H = rows.replicates, len(rows.X), len(hypotheses)
    n = p * (p + 1) // 2
    fits = Fits(
        np.empty(R, dtype=np.int64), np.zeros(R, dtype=np.int64), np.full(R, np.nan), np.full(R, np.nan), np.full((R, p), np.nan),
        np.full((R, n), np.nan), np.empty((R, 0)), np.full(R, np.nan),
    )  # fmt: skip
    found = Sandwich(np.full((R, n), np.nan), np.full((R, H), np.nan), np.full((R, H), np.nan))
    counts = Counts(np.empty(R), np.empty(R), np.empty(R))
    repaired = np.zeros(R, dtype=bool)
    for pattern in rows.patterns(_most(rows, absorbed)):
        at = pattern.replicates
        each = regress_pattern(pattern, absorbed)
        levels = [len(np.unique(pattern.codes[name])) for name in (robust.clustered if robust else ())]
        counts.rows[at], counts.fixed[at], counts.clusters[at] = each.rows, each.fixed, min(levels, default=each.rows)
        fits.status[at] = each.status
        ok = each.status == Status.ok
        if not ok.any():
            continue
        good = at[ok]
        fits.beta[good], fits.sigma2[good], fits.residual[good] = each.beta[ok], each.sigma2[ok], 0.0
        packed = np.stack([each.unit[:, i, k] for i, k in pairs(p)], axis=1)
        fits.vcov[good] = (each.sigma2[:, None] * packed)[ok]
        if robust is not None:
            made, mended = robust_pattern(each, robust, hypotheses)
            found.vcov[good], found.df[good], found.scale[good] = made.vcov[ok], made.df[ok], made.scale[ok]
            repaired[good] = mended[ok]
    return Regressed(fits, counts, None if robust is None else found, repaired)


def _most(rows: CrossedRows, absorbed: Sequence[str]) -> int:
    """How many replicates with their own X are handled at once, for the sake of memory."""
    width = len(rows.X) + sum(len(np.unique(rows.codes[name])) for name in absorbed)
    return int(np.clip(MOST_VALUES // (len(rows.y) * width), 1, 64))


def regress_pattern(pattern: Pattern, absorbed: Sequence[str] = ()) -> Regression:
    """Regress the replicates of one pattern."""
    X, y = pattern.X, pattern.y
    _, p, N = X.shape
    dummies = Dummies.of([pattern.codes[name] for name in absorbed]) if absorbed and N else None
    fixed = p + (0 if dummies is None else dummies.rank)
    finite = np.asarray(np.isfinite(y).all(axis=1))
    status = np.where(finite, Status.ok, Status.nonfinite)
    y = y if finite.all() else np.where(finite[:, None], y, 0.0)
    scores, rss, residuals = np.full((len(y), p), np.nan), np.full(len(y), np.nan), y
    Q, inverse, least = orthonormal(X, dummies)
    status[(status == Status.ok) & (~(least > 0) | (fixed >= N))] = Status.rank_deficient
    if (status == Status.ok).any():
        size = (y * y).sum(axis=1)
        residuals = y if dummies is None else dummies.off(y)
        centred = residuals - residuals.mean(axis=1, keepdims=True)
        spread = (centred * centred).sum(axis=1)
        scores = np.zeros((len(y), p))
        for _ in range(2):
            for i in range(p):
                step = (residuals * Q[:, i]).sum(axis=1)
                scores[:, i] += step
                residuals = residuals - step[:, None] * Q[:, i]
        rss = (residuals * residuals).sum(axis=1)
        status[(status == Status.ok) & ~(rss > PERFECT_TOLERANCE * spread + ROUNDING * size)] = Status.nonfinite
    return Regression(pattern, dummies, Q, inverse, least, status, scores, residuals, rss, fixed)


def orthonormal(X: Array, dummies: Dummies | None) -> tuple[Array, Array, Array]:
    """Q (D, p, N), R^-1 (D, p, p) and the smallest pivot over its diagonal (D) of columns X (D, p, N) off the dummies.

    The pivot is 0 where a column depends on others.
    """
    D, p, _ = X.shape
    Q, R, least = np.zeros_like(X), np.zeros((D, p, p)), np.ones(D)
    for i in range(p):
        size = (X[:, i] * X[:, i]).sum(axis=1)
        v = X[:, i] if dummies is None else dummies.off(X[:, i])
        for _ in range(2):
            for k in range(i):
                step = (Q[:, k] * v).sum(axis=1)
                R[:, k, i] += step
                v = v - step[:, None] * Q[:, k]
        pivot = (v * v).sum(axis=1)
        sound = pivot > PIVOT_TOLERANCE * size
        least = np.where(sound, np.minimum(least, pivot / np.where(sound, size, 1.0)), 0.0)
        R[:, i, i] = np.sqrt(np.where(sound, pivot, 1.0))
        Q[:, i] = v / R[:, i, i, None]
    inverse = np.zeros((D, p, p))
    for i in range(p):  # by columns of R
        inverse[:, i, i] = 1 / R[:, i, i]
        inverse[:, :i, i] = -(inverse[:, :i, :i] * R[:, None, :i, i]).sum(axis=2) / R[:, i, i, None]
    return Q, inverse, least


def absorbed_terms(pattern: Pattern, absorbed: Sequence[str]) -> tuple[int, ...]:
    """The columns of X that fixed effects of factors absorb: those that are sums of constants of their levels."""
    off = Dummies.of([pattern.codes[name] for name in absorbed]).off(pattern.X)
    left = ((off * off).sum(axis=2) <= PIVOT_TOLERANCE * (pattern.X * pattern.X).sum(axis=2)).all(axis=0)
    return tuple(np.flatnonzero(left).tolist())
