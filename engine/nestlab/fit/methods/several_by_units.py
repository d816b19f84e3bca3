"""Analyses by the units of one factor, min F' and both analyses at once, with several grouping factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from ...simulate.several import StrataDraw
from ...simulate.several.strata import StrataSampler, split_term
from ...spec.estimand import Column
from ...spec.methods.by_units import unit_bases, units_of
from ..lmm import Fits
from ..rivals.by_units import EffectTests, UnitDesign, UnitTests, both_tests, by_units, min_f
from ..rivals.rows import CrossedRows
from ..rivals.unit_strata import UnitPlan, plan_units, tests_of_strata
from ..status import InferenceStatus, is_failed
from .analysis import Analysed, Block, Columns, PreparedSeveral
from .least_squares import TOLERANCES
from .several_rows import crossed_rows, true_coefficients

__all__ = ["TOLERANCES", "ByUnits", "compile_analysis"]


def compile_analysis(on: PreparedSeveral) -> ByUnits:
    """Prepare the analyses by one factor or two."""
    return ByUnits(on)


@dataclass(frozen=True)
class ByUnits:
    """Analyses by units on one design."""

    on: PreparedSeveral

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        on, rows = self.on, cache(lambda: self.rows(block, first, last))
        found = [self.tests(unit, block.draw, first, last, rows) for unit in units_of(on.method)]
        status = np.max([each.status for each in found], axis=0)
        tests = found[0].tests
        if len(found) > 1:
            combine = min_f if on.method.estimator == "min-f" else both_tests
            tests = combine(tests, found[1].tests)
        p, none = len(on.names), np.full(len(status), np.nan)
        fits = Fits(
            status, np.zeros(len(status), dtype=np.int64), none, none, tests.estimate[:, :p], np.empty((len(status), 0)),
            np.empty((len(status), 0)), none,
        )  # fmt: skip
        return on.analysed(fits, self._columns(tests, status))

    def _columns(self, tests: EffectTests, status: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Columns:
        """Every effect and contrast has a test of its own, and none is made of the others."""
        columns: Columns = {}
        contrasts = [contrast.name for contrast in self.on.method.contrasts]
        df = np.where(np.isfinite(tests.se), tests.df, np.nan)
        for h, name in enumerate([*self.on.names, *contrasts]):
            if h >= len(self.on.names):
                columns[Column("estimate", name).name] = tests.estimate[:, h]
            columns[Column("se", name).name], columns[Column("df", name).name] = tests.se[:, h], df[:, h]
        inference = np.where(np.isnan(df).any(axis=1), InferenceStatus.no_df, InferenceStatus.ok)
        inference[is_failed(status)] = InferenceStatus.no_fit
        return columns | {Column("inference").name: inference.astype(np.int8)}

    def rows(self, block: Block, first: int, last: int) -> CrossedRows:
        """The rows of replicates first .. last - 1 of a block."""
        terms = self.on.method.formula.fixed
        return crossed_rows(block.several_rows(first, last), terms, units_of(self.on.method), without=terms)

    def tests(self, unit: str, draw: Any, first: int, last: int, rows: Callable[[], CrossedRows]) -> UnitTests:
        """The analysis by one factor: from the statistics of strata where they have it, else from rows."""
        on, terms = self.on, self.on.method.formula.fixed
        if isinstance(draw, StrataDraw) and (plan := self._plan(unit, draw.sampler)) is not None:
            found = tests_of_strata(plan, draw.responses(terms), first, last, on.hypotheses)
        else:
            found = by_units(rows(), unit, on.hypotheses, self.design(unit))
        return replace(found, beta=found.beta + true_coefficients(on))

    def design(self, unit: str) -> UnitDesign:
        """How effects stand to units, by the factors on which predictors live: whatever the values of a replicate are."""
        bases = [inner for inner, _ in self._bases(unit)]
        return UnitDesign(tuple(bases.index(inner) if inner else -1 for inner in bases))

    def _bases(self, unit: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        places = {predictor.name: predictor.at for predictor in self.on.condition.predictors}
        return unit_bases(self.on.method.formula, unit, places)

    # -- strata ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def _plans(self) -> dict[str, UnitPlan | None]:
        return {}

    def _plan(self, unit: str, sampler: StrataSampler) -> UnitPlan | None:
        if unit not in self._plans:
            self._plans[unit] = self._compile(unit, sampler)
        return self._plans[unit]

    def _compile(self, unit: str, sampler: StrataSampler) -> UnitPlan | None:
        design, bases = self.on.design, self._bases(unit)
        terms = self.on.method.formula.fixed
        effects: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for place, (term, (inner, _)) in enumerate(zip(terms, bases, strict=True)):
            effect = sampler.effect(term)
            if effect is None or split_term(design, term)[0] != inner:
                return None
            effects.setdefault(inner, []).append((place, effect[1]))
        columns = sampler.cell_columns
        combinations = [np.eye(columns.shape[1])[sampler.inner.index(inner)] for inner in effects]
        return plan_units(sampler.cells, columns, sampler.factors[unit], combinations, list(effects.values()))
