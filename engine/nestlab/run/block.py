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

from ..fit.methods import Analysed, Analysis, Columns, compile_analysis
from ..simulate.centres import centres_of
from ..simulate.gram import Draw
from ..simulate.layout import Design, compile_design
from ..simulate.long import LongSampler
from ..simulate.moments import MomentSampler
from ..simulate.priors import draw_truths, unit_design, with_truths, with_truths_of
from ..simulate.replicate import ConditionalRows, ReplicateRows
from ..simulate.rows import RowSampler
from ..simulate.streams import block_generator, conditional_generator
from ..spec.estimand import Column
from ..spec.estimands import as_named, study_estimands
from ..spec.identity import data_key
from ..spec.model import Condition, Method, Predictor
from ..spec.paths import is_plain
from ..spec.predictors.categories import contrast_values
from ..spec.translation import Translation, translate
from ..spec.truths import translated, varying_names
from ..spec.uncertain import DrawnTruth
from .columns import count_columns, truth_columns

__all__ = ["CompiledCondition", "compile_condition"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CompiledCondition:
    """A condition's sampler and its methods' analyses.

    sampler: of the condition, or of its unit design where replicates have truths of their own; a `LongSampler` takes these.
    """

    condition: Condition
    key: str
    design: Design
    sampler: MomentSampler | RowSampler | LongSampler
    methods: tuple[Method, ...]

    @cached_property
    def analyses(self) -> tuple[Analysis, ...]:
        """Of each method."""
        return tuple(compile_analysis(self.design, method, self.key) for method in self.methods)

    def draw(self, block: int) -> Draw:
        """The whole of a block (0, 1, ...), from its own stream."""
        condition = self.condition
        generator = block_generator(condition.seed, self.key, block)
        truths = draw_truths(condition, self.key, block) if condition.priors else None
        if isinstance(self.sampler, LongSampler):
            return self.sampler(generator, condition.block_size, truths)
        draw = self.sampler(generator, condition.block_size)
        return draw if truths is None else with_truths(draw, truths)

    def rows(self, replicate: int, draw: Draw | None = None) -> ReplicateRows:
        """The rows of one replicate (0, 1, ...); draw: its block, where that is at hand."""
        condition = self.condition
        block, r = divmod(replicate, condition.block_size)
        truths = draw_truths(condition, self.key, block) if condition.priors else None
        generator = block_generator(condition.seed, self.key, block)
        if isinstance(self.sampler, LongSampler):
            walk = self._walks.pop((block, r), None)
            if walk is None:
                walk = self.sampler.walk(generator, condition.block_size, r, truths)
            self._walks.clear()
            rows = next(walk)
            self._walks[block, r + 1] = walk
            return rows
        if isinstance(self.sampler, RowSampler):
            rows = self.sampler.replicate(generator, condition.block_size, r)
            return rows if truths is None else with_truths_of(rows, truths, r)
        stream = conditional_generator(condition.seed, self.key, block, r)
        rows = self._conditional(self.draw(block) if draw is None else draw, r, stream)
        return rows if truths is None else replace(rows, fixed=tuple(float(value[r]) for value in truths.fixed))

    @cached_property
    def _walks(self) -> dict[tuple[int, int], Iterator[ReplicateRows]]:
        """At most one, by the replicate that it gives next: who asks for one after the other draws each once."""
        return {}

    @cached_property
    def _conditional(self) -> ConditionalRows:
        return ConditionalRows(self.design)

    def analyse(self, draw: Draw, method: int, block: int, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block by one of the methods."""
        return self.analyses[method](DrawnBlock(self, block, draw), first, last)

    def frame(self, replicate: int, *, truth: bool = False, draw: Draw | None = None) -> pd.DataFrame:
        """One replicate's rows under the study's names: the cluster (1, 2, ...), the predictors, the response.

        Only rows that are observed; a cluster without any has no row, and the others keep their numbers. Categorical predictors
        are text. truth: also the random effects, "u:<column>", the errors, "e", and, of estimands with a truth of each
        replicate's own, that truth, "true.<estimand>". draw: its block, where that is at hand.
        """
        design, rows = self.design, self.rows(replicate, draw)
        formula, grouping = self.condition.truth.formula, self.condition.grouping
        numbers = np.arange(1, grouping.levels + 1)
        columns: dict[str, NDArray[np.generic]] = {grouping.name: rows.spread(design, numbers)}
        for predictor in self.condition.predictors:
            columns[predictor.name] = self._values(rows, predictor)
        columns[formula.response] = rows.response(design)
        if truth:
            for k, name in enumerate(formula.random_columns):
                columns[f"u:{name}"] = rows.spread(design, rows.u[:, k])
            columns["e"] = rows.e
            for name, value in self._truths_of(replicate).items():
                columns[name] = np.full(len(rows.e), value)
        return pd.DataFrame(columns)

    def _values(self, rows: ReplicateRows, predictor: Predictor) -> NDArray[np.generic]:
        """(N): a predictor's values; of a categorical one the categories, found by their contrasts."""
        if not predictor.categories:
            return rows.term(self.design, predictor.name)
        found = np.stack([rows.term(self.design, column) for column in predictor.columns], axis=1)
        distance = np.abs(found[:, None, :] - contrast_values(predictor)[None, :, :]).sum(axis=2)
        return np.asarray(np.array(predictor.categories, dtype=object)[distance.argmin(axis=1)])

    @cached_property
    def _varying(self) -> list[list[str]]:
        """Estimands with a truth of each replicate's own, of the truth and of each method, whatever the other methods are."""
        return [varying_names(self.condition, [method], centres_of(self.condition)) for method in self.methods]

    @cached_property
    def _translations(self) -> list[Translation | None]:
        centres = centres_of(self.condition)
        return [translate(self.condition, method, centres) for method in self.methods]

    def truths(self, drawn: DrawnTruth) -> list[Columns]:
        """The true values of what each method estimates, where replicates have truths of their own: its `truth_columns`."""
        methods = zip(self.methods, self._translations, self._varying, strict=True)
        return [truth_columns(drawn, names, translated(drawn, [m], [t]).of(m.name)) for m, t, names in methods]

    def _truths_of(self, replicate: int) -> dict[str, float]:
        """The replicate's own true values, by column."""
        block, r = divmod(replicate, self.condition.block_size)
        if not self.condition.priors:
            return {}
        drawn = draw_truths(self.condition, self.key, block)
        shared = translated(drawn, self.methods, self._translations).shared
        found = truth_columns(drawn, varying_names(self.condition, self.methods, centres_of(self.condition)), shared)
        return {name: float(found[name][r]) for name in Column.of(found, "true")}

    def analysed(self, first: int, last: int) -> Iterator[tuple[int, list[Analysed]]]:
        """Analyse replicates first .. last - 1, a block at a time: (replicates done, what each method found)."""
        size = self.condition.block_size
        for block in range(first // size, (last - 1) // size + 1):
            origin = block * size
            start, stop = max(first, origin) - origin, min(last - origin, size)
            draw = self.draw(block)
            found = [self.analyse(draw, m, block, start, stop) for m in range(len(self.methods))]
            counts = count_columns(draw)
            known = [{}] * len(found) if draw.truths is None else self.truths(draw.truths)
            beside = [{name: values[start:stop] for name, values in (counts | truths).items()} for truths in known]
            yield stop - start, [replace(f, inferred=f.inferred | b) for f, b in zip(found, beside, strict=True)]

    def replicates(self, first: int, last: int) -> list[Columns]:
        """Rows of replicates first .. last - 1, a table a method."""
        parts = zip(*(found for _, found in self.analysed(first, last)), strict=True)
        return [self.joined(m, first, part) for m, part in enumerate(parts)]

    def joined(self, place: int, first: int, parts: Sequence[Analysed]) -> Columns:
        """The rows of a method's blocks, one after the other."""
        columns = Analysed.concatenate(parts).columns(first, self.condition.block_size)
        method, truth = self.methods[place], self.condition.truth.formula
        return as_named(columns, method, study_estimands(method.formula, [method]), study_estimands(truth, [method]))


@dataclass(frozen=True)
class DrawnBlock:
    """A block as analyses take it."""

    compiled: CompiledCondition
    number: int
    draw: Draw

    @property
    def _origin(self) -> int:
        return self.number * self.compiled.condition.block_size

    def rows(self, first: int, last: int) -> Iterator[ReplicateRows]:
        return (self.compiled.rows(self._origin + r, self.draw) for r in range(first, last))

    def frames(self, first: int, last: int) -> Iterator[pd.DataFrame]:
        return (self.compiled.frame(self._origin + r, draw=self.draw) for r in range(first, last))


def compile_condition(condition: Condition, methods: Sequence[Method]) -> CompiledCondition:
    """Prepare a condition for the methods; milliseconds, unless a predictor with many rows is drawn once."""
    analyses = [formula for method in methods for formula in (method.formula, method.compare) if formula is not None]
    design = compile_design(condition, analyses)
    drawn = unit_design(design) if condition.priors else design
    by_rows = condition.path == "rows"
    sampler = MomentSampler(drawn) if not by_rows else RowSampler(drawn) if is_plain(condition) else LongSampler(design)
    return CompiledCondition(condition, data_key(condition), design, sampler, tuple(methods))
