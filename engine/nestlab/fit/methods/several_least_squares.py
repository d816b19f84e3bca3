"""Least squares with several grouping factors: with dummies of some, and with errors that are robust to clustering by some."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...spec.methods.least_squares import absorbing, clustering
from ..lmm import Fits, pairs
from ..rivals.multiway import Robust
from ..rivals.regression import regress
from .analysis import Analysed, Block, PreparedSeveral
from .least_squares import TOLERANCES
from .several_rows import crossed_rows, true_coefficients

__all__ = ["TOLERANCES", "SeveralLeastSquares", "compile_analysis"]


def compile_analysis(on: PreparedSeveral) -> SeveralLeastSquares:
    """Prepare least squares."""
    return SeveralLeastSquares(on)


@dataclass(frozen=True)
class SeveralLeastSquares:
    """Least squares on one design."""

    on: PreparedSeveral

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The factors that have dummies."""
        method = self.on.method
        return absorbing(method.formula, method.factors) if method.estimator == "fixed-effects" else ()

    @property
    def robust(self) -> Robust | None:
        method = self.on.method
        if method.robust is None:
            return None
        return Robust(method.robust, clustering(method), satterthwaite="bell-mccaffrey" in method.df)

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        on, terms, robust = self.on, self.on.method.formula.fixed, self.robust
        clustered = robust.clustered if robust else ()
        rows = crossed_rows(block.several_rows(first, last), terms, {*self.absorbed, *clustered}, without=terms)
        found = regress(rows, on.hypotheses, absorbed=self.absorbed, robust=robust)
        fits = replace(found.fits, beta=found.fits.beta + true_coefficients(on))
        if not self.absorbed:  # beside dummies not all parameters are there
            fits = replace(fits, deviance=_deviance(fits, found.sizes.rows - found.sizes.fixed))
        return on.analysed(fits, on.inferred(fits, found.by_rule(on.hypotheses, on.method.df)))


def _deviance(fits: Fits, m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R): the restricted one, as by `ols`: m (1 + log(2 pi s2)) + log|X'X|, m rows less fixed effects."""
    p = fits.beta.shape[1]
    V = np.empty((len(fits.beta), p, p))
    for n, (i, k) in enumerate(pairs(p)):
        V[:, i, k] = V[:, k, i] = fits.vcov[:, n] / fits.sigma2
    known = np.isfinite(V).all(axis=(1, 2))
    found = np.full(len(V), np.nan)
    found[known] = (m * (1 + np.log(2 * np.pi * fits.sigma2)))[known] - np.linalg.slogdet(V[known])[1]
    return found
