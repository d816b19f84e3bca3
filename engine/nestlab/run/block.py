"""One condition, ready to run: what depends on it alone is paid once, then each call handles a block of replicates.

Nothing here reads or writes files; a call's result depends on its arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..fit.lmm import Fits, Plan
from ..fit.reference.gee import GeeTable
from ..simulate.gram import Draw
from ..simulate.layout import Design, compile_design
from ..simulate.moments import Moments
from ..simulate.priors import draw_truths, unit_design, with_truths, with_truths_of
from ..simulate.replicate import ConditionalRows, ReplicateRows
from ..simulate.rows import Rows
from ..simulate.streams import block_generator, conditional_generator
from ..spec.estimands import varying_estimands
from ..spec.identity import data_key
from ..spec.model import Condition, Method
from .analysis import Analysis
from .by_rows import analyse_by_function, analyse_by_gee
from .columns import Columns, contrasts_of, fit_columns, truth_columns
from .selection import Selection

__all__ = ["Columns", "CompiledCondition", "compile_condition"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CompiledCondition:
    """A condition's sampler and its methods' plans: `condition.block(number)`, then `condition.fit(...)`.

    sampler: of the condition, or of its unit design where replicates have truths of their own.
    """

    condition: Condition
    key: str
    design: Design
    sampler: Moments | Rows
    methods: tuple[Method, ...]

    @cached_property
    def analyses(self) -> tuple[Analysis, ...]:
        """Of each method."""
        return tuple(Analysis(method, self.design, self.key, self.condition.seed) for method in self.methods)

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(analysis.plan for analysis in self.analyses)

    def draw(self, block: int) -> Draw:
        """The whole of a block (0, 1, ...), from its own stream."""
        generator = block_generator(self.condition.seed, self.key, block)
        draw = self.sampler(generator, self.condition.block_size)
        return with_truths(draw, draw_truths(self.condition, self.key, block)) if self.condition.priors else draw

    def rows(self, replicate: int, draw: Draw | None = None) -> ReplicateRows:
        """The rows of one replicate (0, 1, ...); draw: its block, where that is at hand."""
        condition = self.condition
        block, r = divmod(replicate, condition.block_size)
        truths = draw_truths(condition, self.key, block) if condition.priors else None
        if isinstance(self.sampler, Rows):
            rows = self.sampler.replicate(block_generator(condition.seed, self.key, block), condition.block_size, r)
            return rows if truths is None else with_truths_of(rows, truths, r)
        stream = conditional_generator(condition.seed, self.key, block, r)
        rows = self._conditional(self.draw(block) if draw is None else draw, r, stream)
        return rows if truths is None else replace(rows, fixed=tuple(float(value[r]) for value in truths.fixed))

    @cached_property
    def _conditional(self) -> ConditionalRows:
        return ConditionalRows(self.design)

    def fit(self, draw: Draw, method: int, first: int, last: int) -> Fits:
        """Fit replicates first .. last - 1 of a block by one of the methods, from the sufficient statistics."""
        return self.analyses[method].fit(draw, first, last)

    def analyse(self, draw: Draw, method: int, block: int, first: int, last: int) -> tuple[Fits, Columns]:
        """The same by any method, with what it infers."""
        analysis, estimator = self.analyses[method], self.methods[method].estimator
        if estimator == "lmm":
            chosen = self._selections.get(method, analysis)
            return chosen(draw, block, first, last)
        origin = block * self.condition.block_size
        if estimator == "gee":
            rows = (self.rows(origin + r, draw) for r in range(first, last))
            return analyse_by_gee(analysis, (self._table(each, analysis.plan) for each in rows))
        if estimator == "function":
            frames = (self.frame(origin + r, draw=draw) for r in range(first, last))
            return analyse_by_function(analysis, frames, (analysis.stream(block, r) for r in range(first, last)))
        fits = self._fit_rows(draw, method, block, first, last)
        return fits, analysis.rules(None, fits, first, last)

    @cached_property
    def _selections(self) -> dict[int, Selection]:
        """Of the methods that choose between two models."""
        return {m: Selection(a) for m, a in enumerate(self.analyses) if a.method.select is not None}

    def _table(self, rows: ReplicateRows, plan: Plan) -> GeeTable:
        """y (N), X (N, p) and the cluster of each row (N)."""
        design = self.design
        X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
        return rows.response(design), X, np.repeat(np.arange(design.clusters), design.sizes)

    def _fit_rows(self, draw: Draw, method: int, block: int, first: int, last: int) -> Fits:
        from ..fit.reference import fit_rows

        design, plan = self.design, self.analyses[method].plan
        origin = block * self.condition.block_size
        data = []
        for r in range(first, last):
            rows = self.rows(origin + r, draw)
            X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
            data.append((rows.response(design), X, rows.D[:, list(plan.zcols)]))
        return fit_rows(data, np.repeat(np.arange(design.clusters), design.sizes), plan.blocks, reml=plan.reml)

    def frame(self, replicate: int, *, truth: bool = False, draw: Draw | None = None) -> pd.DataFrame:
        """One replicate's rows under the study's names: the cluster (1, 2, ...), the predictors, the response.

        truth: also the random effects, "u:<column>", the errors, "e", and, of estimands with a truth of each replicate's own,
        that truth, "true.<estimand>". draw: its block, where that is at hand.
        """
        design, rows = self.design, self.rows(replicate, draw)
        formula = self.condition.truth.formula
        columns: dict[str, Array | NDArray[np.int64]] = {
            formula.group: np.repeat(np.arange(1, design.clusters + 1), design.sizes)
        }
        for predictor in self.condition.predictors:
            columns[predictor.name] = rows.term(design, predictor.name)
        columns[formula.response] = rows.response(design)
        if truth:
            for k, name in enumerate(formula.random_columns):
                columns[f"u:{name}"] = np.repeat(rows.u[:, k], design.sizes)
            columns["e"] = rows.e
            for name, value in self._truths_of(replicate).items():
                columns[name] = np.full(design.rows, value)
        return pd.DataFrame(columns)

    @cached_property
    def varying(self) -> list[str]:
        """Estimands with a truth of each replicate's own."""
        formulas = [method.formula for method in self.methods]
        return varying_estimands(self.condition, formulas, contrasts_of(self.methods))

    def _truths_of(self, replicate: int) -> dict[str, float]:
        """The replicate's own true values, by column."""
        block, r = divmod(replicate, self.condition.block_size)
        if not self.condition.priors:
            return {}
        found = truth_columns(draw_truths(self.condition, self.key, block), self.varying, self.methods)
        return {name: float(values[r]) for name, values in found.items() if name.startswith("true.")}

    def fits(self, first: int, last: int) -> Iterator[tuple[int, list[tuple[Fits, Columns]]]]:
        """Fit replicates first .. last - 1, a block at a time: (replicates done, fits and inference of each method)."""
        size = self.condition.block_size
        for block in range(first // size, (last - 1) // size + 1):
            origin = block * size
            start, stop = max(first, origin) - origin, min(last - origin, size)
            draw = self.draw(block)
            found = [self.analyse(draw, m, block, start, stop) for m in range(len(self.methods))]
            if draw.truths is not None:
                known = truth_columns(draw.truths, self.varying, self.methods)
                for _, columns in found:
                    columns |= {name: values[start:stop] for name, values in known.items()}
            yield stop - start, found

    def replicates(self, first: int, last: int) -> list[Columns]:
        """Rows of replicates first .. last - 1, a table a method."""
        parts = zip(*(found for _, found in self.fits(first, last)), strict=True)
        return [self.joined(m, first, part) for m, part in enumerate(parts)]

    def joined(self, method: int, first: int, parts: Sequence[tuple[Fits, Columns]]) -> Columns:
        """The rows of a method's blocks, one after the other."""
        fits = Fits.concatenate([part for part, _ in parts])
        found = {name: np.concatenate([columns[name] for _, columns in parts]) for name in parts[0][1]}
        analysis = self.analyses[method]
        return fit_columns(analysis.plan, analysis.names, fits, first, self.condition.block_size) | found


def compile_condition(condition: Condition, methods: Sequence[Method]) -> CompiledCondition:
    """Prepare a condition for the methods; milliseconds, unless a predictor with many rows is drawn once."""
    design = compile_design(condition)
    drawn = unit_design(design) if condition.priors else design
    sampler = Rows(drawn) if condition.path == "rows" else Moments(drawn)
    return CompiledCondition(condition, data_key(condition), design, sampler, tuple(methods))
