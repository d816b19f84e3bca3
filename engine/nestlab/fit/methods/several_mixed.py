"""Linear mixed models with several grouping factors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec.comparison import Comparison, compare
from ...spec.estimand import Column, Estimand
from ...spec.inference import tested_estimand
from ...spec.model import Method
from ..compare import lr_statistics, p_value
from ..lmm import Fits, pairs
from ..status import InferenceStatus
from ..wald import wald_intervals
from .analysis import Analysed, Block, Candidate, Columns, PreparedSeveral
from .mixed import TOLERANCES
from .several_fitters import SeveralFitter

__all__ = ["TOLERANCES", "SeveralMixed", "compile_analysis"]

Array = NDArray[np.float64]


def compile_analysis(on: PreparedSeveral) -> SeveralMixed:
    """Prepare a mixed model."""
    return SeveralMixed(on)


@dataclass(frozen=True)
class SeveralMixed:
    """A mixed model on one design."""

    on: PreparedSeveral

    @property
    def method(self) -> Method:
        return self.on.method

    @cached_property
    def fitter(self) -> SeveralFitter:
        return SeveralFitter(self.on.design, self.method.formula, self.method.reml, self.method.singular_df)

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        method = self.method
        problem = self.fitter(block, first, last)
        fits = problem.fits
        found = problem.infer(self.on.hypotheses, method.df)
        wanted = method.variance_intervals is not None or any(c.standardise for c in method.contrasts)
        variances = problem.variances() if wanted else None
        columns = self.on.inferred(fits, found, variances)
        unfinished = np.full(len(fits.status), InferenceStatus.ok)
        if method.variance_intervals is not None:
            assert variances is not None
            columns |= self._wald(fits, variances, unfinished)
        if method.tests_ratio:
            p = self._ratio_test(block, fits, first, last)
            unfinished[np.isnan(p)] = InferenceStatus.no_test
            columns[Column("p", tested_estimand(method).name).name] = p
        for name in Column.of(columns, "inference"):
            status = columns[name]
            status[:] = np.where(status == InferenceStatus.ok, unfinished, status)
        return self.on.analysed(fits, columns)

    def candidate(self, block: Block, first: int, last: int) -> Candidate:
        """Fit replicates first .. last - 1 of a block, as one of the models that a method chooses from."""
        problem = self.fitter(block, first, last)
        wanted = any(c.standardise for c in self.method.contrasts)
        variances = problem.variances() if wanted else None
        columns = self.on.inferred(problem.fits, problem.infer(self.on.hypotheses, self.method.df), variances)
        return Candidate(self.method.formula, problem.fits, columns, None)

    def test_of_smaller(self, block: Block, candidate: Candidate, first: int, last: int) -> Array:
        """P values (R) of the likelihood ratio test of the model of `compare` within this one."""
        return self._ratio_test(block, candidate.fits, first, last)

    def _wald(self, fits: Fits, variances: Array, unfinished: NDArray[Any]) -> Columns:
        method, places, columns = self.method, self.method.formula.places, Columns()
        blocks = np.repeat(np.arange(len(method.formula.random)), method.formula.block_sizes)
        log = method.variance_intervals == "wald-log"
        found = wald_intervals(fits, variances, blocks, level=1 - method.alpha, log=log)
        for (kind, a, b), interval in found.items():
            group = "" if kind == "residual" else places[a][0]
            names = () if kind == "residual" else tuple(places[k][1] for k in sorted({a, b}))
            estimand = Estimand("var") if kind == "residual" else Estimand(kind, group, names)  # type: ignore[arg-type]
            columns[Column("lower", estimand.name).name] = interval.lower
            columns[Column("upper", estimand.name).name] = interval.upper
            if interval.se is not None:
                columns[Column("se", estimand.name).name] = interval.se
            lost = np.isnan(interval.lower) | np.isnan(interval.upper)
            if kind == "cor":
                order = pairs(len(places))
                lost &= (fits.varcomp[:, [order.index((k, k)) for k in (a, b)]] > 0).all(axis=1)
            unfinished[lost] = InferenceStatus.no_interval
        return columns

    @cached_property
    def _null(self) -> tuple[Comparison, SeveralFitter]:
        method = self.method
        assert method.compare is not None
        fitter = SeveralFitter(self.on.design, method.compare, method.reml, method.singular_df)
        return compare(method.compare, method.formula), fitter

    def _ratio_test(self, block: Block, fits: Fits, first: int, last: int) -> Array:
        comparison, fitter = self._null
        null = fitter(block, first, last).fits
        return p_value(comparison, lr_statistics(null, fits), mixture=self.method.reference == "asymptotic")
