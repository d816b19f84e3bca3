"""Linear mixed models with several grouping factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...spec.comparison import Comparison, compare
from ...spec.estimand import Column, Estimand, listed
from ...spec.inference import tested_estimand
from ...spec.model import Method
from ..compare import lr_statistics, p_value
from ..lmm import Fits, pairs
from ..status import InferenceStatus
from ..wald import wald_intervals
from .analysis import Analysed, Block, Candidate, Columns, PreparedSeveral
from .mixed import TOLERANCES
from .several_fitters import SeveralFits, SeveralFitter
from .several_intervals import Limits, bootstrap_p, percentiles, profiles

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
        wanted = method.variance_intervals in ("wald", "wald-log") or any(c.standardise for c in method.contrasts)
        variances = problem.variances() if wanted else None
        columns = self.on.inferred(fits, found, variances)
        intervals = self._intervals(block, problem, variances, first, last)
        lacks = self._lacks_a_limit(fits, intervals)
        unfinished = np.where(lacks, InferenceStatus.no_interval, InferenceStatus.ok)
        columns |= intervals
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

    # -- intervals -------------------------------------------------------------------------------------------------------------

    def _intervals(self, block: Block, problem: SeveralFits, variances: Array | None, first: int, last: int) -> Columns:
        """Limits that can't be derived from standard errors, and the standard errors of Wald intervals of variances."""
        method, columns = self.method, Columns()
        kinds = {method.intervals, method.variance_intervals}
        if variances is not None and kinds & {"wald", "wald-log"}:
            columns |= self._wald(problem.fits, variances)
        if not kinds & {"profile", "profile-reml", "bootstrap"}:
            return columns
        models = self.fitter.models(block, first, last)
        for kind in ("profile", "profile-reml"):
            if kind in kinds:
                columns |= self._put(
                    profiles(
                        method.formula, models, level=1 - method.alpha, reml=kind == "profile-reml",
                        fixed=method.intervals == kind, variances=method.variance_intervals == kind,
                    )
                )  # fmt: skip
        if "bootstrap" in kinds:
            found = percentiles(
                method.formula,
                models,
                level=1 - method.alpha,
                draws=method.draws,
                streams=self._streams(block, first, last),
            )
            fixed, others = method.intervals == "bootstrap", method.variance_intervals == "bootstrap"
            columns |= self._put(
                {n: ends for n, ends in found.items() if (fixed if n in method.formula.fixed else others)}
            )
        return columns

    def _streams(self, block: Block, first: int, last: int) -> Iterator[Generator]:
        return (self.on.stream(block.number, r) for r in range(first, last))

    def _put(self, limits: Limits) -> Columns:
        """The columns of limits, fixed effects moved by what y is without."""
        columns, fixed = Columns(), self.method.formula.fixed
        for name, (lower, upper) in limits.items():
            place = fixed.index(name) if name in fixed else None
            known = name if place is None else self.on.names[place]
            moved = 0.0 if place is None else self.fitter.true_beta[place]
            columns[Column("lower", known).name], columns[Column("upper", known).name] = lower + moved, upper + moved
        return columns

    def _wald(self, fits: Fits, variances: Array) -> Columns:
        method, places, columns = self.method, self.method.formula.places, Columns()
        blocks = np.repeat(np.arange(len(method.formula.random)), method.formula.block_sizes)
        log = method.variance_intervals == "wald-log"
        found = wald_intervals(fits.varcomp, fits.sigma2, variances, blocks, level=1 - method.alpha, log=log)
        for (kind, a, b), interval in found.items():
            names = () if kind == "residual" else tuple(places[k][1] for k in sorted({a, b}))
            estimand = Estimand("var") if kind == "residual" else Estimand(kind, places[a][0], names)  # type: ignore[arg-type]
            columns[Column("lower", estimand.name).name] = interval.lower
            columns[Column("upper", estimand.name).name] = interval.upper
            if interval.se is not None:
                columns[Column("se", estimand.name).name] = interval.se
        return columns

    def _lacks_a_limit(self, fits: Fits, intervals: Columns) -> NDArray[np.bool_]:
        """Whether a limit is missing where the estimate is not: a correlation is undefined where a variance is 0."""
        places, order = self.method.formula.places, pairs(len(self.method.formula.places))
        missing = np.zeros(len(fits.status), dtype=bool)
        for name, column in Column.of(intervals, "lower", "upper").items():
            lost = np.isnan(intervals[name])
            estimand = self._estimands.get(column.estimand)
            if estimand is not None and estimand.kind == "cor":
                own = [places.index((estimand.group, c)) for c in estimand.columns]
                lost &= (fits.varcomp[:, [order.index((k, k)) for k in own]] > 0).all(axis=1)
            missing |= lost
        return missing

    @cached_property
    def _estimands(self) -> dict[str, Estimand]:
        return listed([self.method.formula])

    # -- likelihood ratio test -------------------------------------------------------------------------------------------------

    @cached_property
    def _null(self) -> tuple[Comparison, SeveralFitter]:
        method = self.method
        assert method.compare is not None
        fitter = SeveralFitter(self.on.design, method.compare, method.reml, method.singular_df)
        return compare(method.compare, method.formula), fitter

    def _ratio_test(self, block: Block, fits: Fits, first: int, last: int) -> Array:
        comparison, fitter = self._null
        method = self.method
        if method.reference == "bootstrap":
            full = self.fitter.models(block, first, last)
            smaller: list[Any] = (
                fitter.models(block, first, last)
                if fitter.formula.random
                else [*fitter.least_squares(block, first, last)]
            )
            return bootstrap_p(full, smaller, draws=method.draws, streams=self._streams(block, first, last))
        null = fitter(block, first, last).fits
        return p_value(comparison, lr_statistics(null, fits), mixture=method.reference == "asymptotic")
