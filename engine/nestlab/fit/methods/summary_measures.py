"""Change scores and analysis of covariance: each cluster's first row, and the mean of its later ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...simulate.replicate import ReplicateRows
from ...spec.model import INTERCEPT
from ..clustered import Counts, least_squares_rules
from ..lmm import Fits, pairs
from ..reduce import PERFECT_TOLERANCE, PIVOT_TOLERANCE
from ..status import Status
from .analysis import Analysed, Block, Prepared

__all__ = ["SummaryMeasures", "compile_analysis"]

Array = NDArray[np.float64]


def compile_analysis(on: Prepared) -> SummaryMeasures:
    """Prepare regressions of summary measures."""
    return SummaryMeasures(on, adjusted=on.method.estimator == "ancova")


@dataclass(frozen=True)
class SummaryMeasures:
    """Least squares on clusters with a first row and later ones. adjusted: the first row is a regressor, not taken off."""

    on: Prepared
    adjusted: bool

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        p = len(self.on.names)
        R, n = last - first, p * (p + 1) // 2
        status, none = np.full(R, Status.rank_deficient, dtype=np.int64), np.zeros(R, dtype=np.int64)
        empty, beta, vcov = np.full(R, np.nan), np.full((R, p), np.nan), np.full((R, n), np.nan)
        fits = Fits(status, none, empty, empty, beta, vcov, np.empty((R, 0)), empty.copy())
        clusters = np.array([self._fit(fits, r, rows) for r, rows in enumerate(block.rows(first, last))], dtype=float)
        sizes = Counts(clusters, clusters, np.array([float(p + self.adjusted)]))
        found = least_squares_rules(fits, sizes, self.on.hypotheses, self.on.method.df)
        return self.on.analysed(fits, self.on.inferred(fits, found))

    def _fit(self, fits: Fits, r: int, rows: ReplicateRows) -> int:
        """Fit one replicate; the number of its clusters."""
        fixed = self.on.method.formula.fixed
        X, first, later = self._summaries(rows)
        y = later if self.adjusted else later - first
        # near 0, for the sake of digits
        shift, base = (y.mean(), first.mean()) if INTERCEPT in fixed and len(y) else (0.0, 0.0)
        y = y - shift
        if self.adjusted:
            X = np.column_stack([X, first - base])
        N, p, k = len(X), X.shape[1], len(fixed)
        scale = np.sqrt((X * X).sum(axis=0))
        if p >= N or (scale == 0).any():
            return N
        Q, upper = np.linalg.qr(X / scale)
        if (np.diagonal(upper) ** 2 <= PIVOT_TOLERANCE).any():
            return N
        inverse = np.linalg.inv(upper) / scale[:, None]
        beta = inverse @ (Q.T @ y)
        residual = y - X @ beta
        rss = float(residual @ residual)
        if not rss > PERFECT_TOLERANCE * float(y @ y):
            fits.status[r] = Status.nonfinite
            return N
        back = np.eye(p)[:k]
        if self.adjusted and base:
            back[fixed.index(INTERCEPT), k] = -base
        fits.status[r], fits.sigma2[r], fits.beta[r] = Status.ok, rss / (N - p), back @ beta
        if shift:
            fits.beta[r, fixed.index(INTERCEPT)] += shift
        vcov = rss / (N - p) * back @ inverse @ inverse.T @ back.T
        fits.vcov[r] = [vcov[i, j] for i, j in pairs(k)]
        return N

    def _summaries(self, rows: ReplicateRows) -> tuple[Array, Array, Array]:
        """X (N, p), first rows (N) and means of later rows (N) of the clusters that have both."""
        design = self.on.design
        y, sizes = rows.response(design), design.sizes if rows.sizes is None else rows.sizes
        used = sizes > 1
        starts = (np.cumsum(sizes) - sizes)[used]
        X = np.column_stack([rows.term(design, term)[starts] for term in self.on.method.formula.fixed])
        sums = np.bincount(np.repeat(np.arange(len(sizes)), sizes), y, len(sizes))[used]
        return X, y[starts], (sums - y[starts]) / (sizes[used] - 1)
