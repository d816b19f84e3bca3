"""Where a condition's data come from: blocks, from streams of their own, and the rows of single replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..spec.model import Condition, Formula
from ..spec.paths import is_plain
from ..spec.uncertain import DrawnTruth
from .gram import Draw
from .known import stated_values
from .layout import Design, compile_design
from .long import LongSampler
from .moments import MomentSampler
from .outcomes import OutcomeDraw
from .priors import draw_truths, unit_design, with_truths, with_truths_of
from .replicate import ConditionalRows, ReplicateRows
from .rows import RowSampler
from .several import (
    SeveralDesign,
    SeveralDraw,
    SeveralSampler,
    StrataDraw,
    StrataSampler,
    compile_several,
    replicate_frame,
)
from .streams import block_generator, conditional_generator

__all__ = ["AnyDesign", "AnyDraw", "Source", "source_of_data"]

AnyDesign: TypeAlias = Design | SeveralDesign
AnyDraw: TypeAlias = Draw | OutcomeDraw | SeveralDraw | StrataDraw


class Source(Protocol):
    """A condition's data."""

    @property
    def design(self) -> AnyDesign: ...

    def draw(self, block: int) -> AnyDraw:
        """The whole of a block (0, 1, ...), from its own stream."""
        ...

    def rows(self, replicate: int, draw: AnyDraw | None = None) -> ReplicateRows:
        """The rows of one replicate (0, 1, ...) of one grouping factor; draw: its block, where that is at hand."""
        ...

    def several_rows(self, block: int, draw: AnyDraw, first: int, last: int, *, truth: bool = False) -> SeveralDraw:
        """The rows of replicates first .. last - 1 of a block of several grouping factors. truth: with their random effects."""
        ...

    def frame(self, replicate: int, *, truth: bool = False, draw: AnyDraw | None = None) -> pd.DataFrame:
        """One replicate's observed rows under the study's names: grouping factors (1, 2, ...), predictors, the response.

        Categorical predictors are text. truth: also the random effects, "u:<column>", and the errors, "e".
        """
        ...


def source_of_data(condition: Condition, analyses: Sequence[Formula], key: str) -> Source:
    """Prepare the data of a condition; milliseconds, unless a predictor with many rows is drawn once. analyses: the formulas of
    methods; key: the condition's data key."""
    if condition.structure is not None:
        groups = list(dict.fromkeys(group for formula in analyses for group in formula.groups))
        several = compile_several(condition, groups)
        by_strata = condition.path == "strata"
        return SeveralSource(condition, key, several, StrataSampler(several) if by_strata else SeveralSampler(several))
    design = compile_design(condition, analyses)
    drawn = unit_design(design) if condition.priors else design
    by_rows = condition.path == "rows"
    sampler = MomentSampler(drawn) if not by_rows else RowSampler(drawn) if is_plain(condition) else LongSampler(design)
    return OneFactorSource(condition, key, design, sampler)


def _truths_of_block(condition: Condition, key: str, block: int) -> DrawnTruth | None:
    return draw_truths(condition, key, block) if condition.priors else None


@dataclass(frozen=True)
class SeveralSource:
    """Of several grouping factors."""

    condition: Condition
    key: str
    design: SeveralDesign
    sampler: SeveralSampler | StrataSampler

    def draw(self, block: int) -> SeveralDraw | StrataDraw:
        condition = self.condition
        generator = block_generator(condition.seed, self.key, block)
        return self.sampler(generator, condition.block_size, _truths_of_block(condition, self.key, block))

    def rows(self, replicate: int, draw: AnyDraw | None = None) -> ReplicateRows:
        raise AssertionError("the front door refuses methods on rows of one factor")

    def several_rows(self, block: int, draw: AnyDraw, first: int, last: int, *, truth: bool = False) -> SeveralDraw:
        condition = self.condition
        if isinstance(draw, SeveralDraw):
            return draw.part(first, last)
        assert isinstance(draw, StrataDraw)
        streams = [conditional_generator(condition.seed, self.key, block, r) for r in range(first, last)]
        return draw.rows(first, last, streams, effects=truth)

    def frame(self, replicate: int, *, truth: bool = False, draw: AnyDraw | None = None) -> pd.DataFrame:
        block, r = divmod(replicate, self.condition.block_size)
        drawn = self.draw(block) if draw is None else draw
        return replicate_frame(self.several_rows(block, drawn, r, r + 1, truth=truth), 0, truth=truth)


@dataclass(frozen=True)
class OneFactorSource:
    """Of one grouping factor. sampler: of the condition, or of its unit design where replicates have truths of their own; a
    `LongSampler` takes these."""

    condition: Condition
    key: str
    design: Design
    sampler: MomentSampler | RowSampler | LongSampler

    def draw(self, block: int) -> Draw | OutcomeDraw:
        condition = self.condition
        generator = block_generator(condition.seed, self.key, block)
        truths = _truths_of_block(condition, self.key, block)
        if isinstance(self.sampler, LongSampler):
            if not condition.truth.formula.family.gaussian:
                return self.sampler.outcomes(generator, condition.block_size, truths)
            return self.sampler(generator, condition.block_size, truths)
        draw = self.sampler(generator, condition.block_size)
        return draw if truths is None else with_truths(draw, truths)

    def rows(self, replicate: int, draw: AnyDraw | None = None) -> ReplicateRows:
        condition = self.condition
        block, r = divmod(replicate, condition.block_size)
        truths = _truths_of_block(condition, self.key, block)
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
        drawn = self.draw(block) if draw is None else draw
        assert isinstance(drawn, Draw)
        rows = self._conditional(drawn, r, stream)
        return rows if truths is None else replace(rows, fixed=tuple(float(value[r]) for value in truths.fixed))

    def several_rows(self, block: int, draw: AnyDraw, first: int, last: int, *, truth: bool = False) -> SeveralDraw:
        raise AssertionError("it has one grouping factor")

    @cached_property
    def _walks(self) -> dict[tuple[int, int], Iterator[ReplicateRows]]:
        """At most one, by the replicate that it gives next: who asks for one after the other draws each once."""
        return {}

    @cached_property
    def _conditional(self) -> ConditionalRows:
        return ConditionalRows(self.design)

    def frame(self, replicate: int, *, truth: bool = False, draw: AnyDraw | None = None) -> pd.DataFrame:
        """A cluster without any observed row has none, and the others keep their numbers."""
        design, rows = self.design, self.rows(replicate, draw)
        formula, grouping = self.condition.truth.formula, self.condition.grouping
        numbers = np.arange(1, grouping.levels + 1)
        columns: dict[str, NDArray[np.generic]] = {grouping.name: rows.spread(design, numbers)}
        for predictor in self.condition.predictors:
            columns[predictor.name] = stated_values(predictor, partial(rows.term, design))
        columns[formula.response] = rows.response(design)
        told = self.condition.truth
        for name, value in (("trials", told.trials), ("exposure", told.exposure)):
            if value != 1:
                columns[name] = np.full(len(rows.e), value)
        if truth:
            for k, name in enumerate(formula.random_columns):
                columns[f"u:{name}"] = rows.spread(design, rows.u[:, k])
            if formula.family.gaussian:
                columns["e"] = rows.e
        return pd.DataFrame(columns)
