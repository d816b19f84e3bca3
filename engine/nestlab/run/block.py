"""One condition, ready to run: what depends on it alone is paid once, then each call handles a block of replicates.

Nothing here reads or writes files; a call's result depends on its arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from ..fit.methods import Analysed, Analysis, Columns, compile_analysis
from ..simulate.centres import centres_of
from ..simulate.priors import draw_truths
from ..simulate.replicate import ReplicateRows
from ..simulate.several import SeveralDraw
from ..simulate.source import AnyDraw, Source, source_of_data
from ..spec.estimand import Column
from ..spec.estimands import as_named, study_estimands
from ..spec.identity import data_key
from ..spec.model import Condition, Method
from ..spec.translation import Translation, translate
from ..spec.truths import translated, varying_names
from ..spec.uncertain import DrawnTruth
from .columns import truth_columns

__all__ = ["CompiledCondition", "compile_condition"]


@dataclass(frozen=True)
class CompiledCondition:
    """A condition's source of data and its methods' analyses."""

    condition: Condition
    key: str
    source: Source
    methods: tuple[Method, ...]

    @cached_property
    def analyses(self) -> tuple[Analysis, ...]:
        """Of each method."""
        return tuple(compile_analysis(self.source.design, method, self.key) for method in self.methods)

    def draw(self, block: int) -> AnyDraw:
        """The whole of a block (0, 1, ...), from its own stream."""
        return self.source.draw(block)

    def analyse(self, draw: AnyDraw, method: int, block: int, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block by one of the methods."""
        return self.analyses[method](DrawnBlock(self, block, draw), first, last)

    def frame(self, replicate: int, *, truth: bool = False, draw: AnyDraw | None = None) -> pd.DataFrame:
        """One replicate's rows under the study's names; truth: also random effects and errors, and, of estimands with a truth of
        each replicate's own, that truth, "true.<estimand>". draw: its block, where that is at hand."""
        frame = self.source.frame(replicate, truth=truth, draw=draw)
        for name, value in self._truths_of(replicate).items() if truth else ():
            frame[name] = value
        return frame

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
            counts = draw.counts
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
    draw: AnyDraw

    @property
    def _origin(self) -> int:
        return self.number * self.compiled.condition.block_size

    def rows(self, first: int, last: int) -> Iterator[ReplicateRows]:
        source = self.compiled.source
        return (source.rows(self._origin + r, self.draw) for r in range(first, last))

    def several_rows(self, first: int, last: int) -> SeveralDraw:
        return self.compiled.source.several_rows(self.number, self.draw, first, last)

    def frames(self, first: int, last: int) -> Iterator[pd.DataFrame]:
        source = self.compiled.source
        return (source.frame(self._origin + r, draw=self.draw) for r in range(first, last))


def compile_condition(condition: Condition, methods: Sequence[Method]) -> CompiledCondition:
    """Prepare a condition for the methods; milliseconds, unless a predictor with many rows is drawn once."""
    models = [(method.formula, method.compare, *method.smaller) for method in methods]
    analyses = [formula for chain in models for formula in chain if formula is not None]
    key = data_key(condition)
    return CompiledCondition(condition, key, source_of_data(condition, analyses, key), tuple(methods))
