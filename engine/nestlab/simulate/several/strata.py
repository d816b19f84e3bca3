"""Blocks of balanced designs as statistics of their strata, and the rows that such statistics leave open.

What a study's methods may name decides what is drawn, never the methods themselves: every factor and crossing has its strata,
a cell's columns are those of the predictors of rows, its multipliers those of the other predictors, with the products of either
that the truth has.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...spec.formula import same_term
from ...spec.model import INTERCEPT, term_variables
from ...spec.uncertain import DrawnTruth
from ..between import draw_between
from ..deviates import standard_normal
from ..distributions import transform
from ..priors import correlate
from ..strata.cells import CellDesign, CellStatistics, Multiplier, cell_design
from ..strata.draw import CellTruth, TrueTerm, draw_statistics
from ..strata.rows import CellRows
from ..strata.structure import Partition, find_strata
from .design import SeveralDesign
from .rows import SeveralDraw, random_factor

__all__ = ["StrataDraw", "StrataSampler", "split_term"]

Array = NDArray[np.float64]


def split_term(design: SeveralDesign, term: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables of a term that vary by row, and those that live on factors, each in order."""
    variables = () if term == INTERCEPT else term_variables(term)
    inner = tuple(sorted(v for v in variables if not design.places[v]))
    return inner, tuple(sorted(v for v in variables if design.places[v]))


class StrataSampler:
    """Draws blocks of one condition: `StrataSampler(design)(generator, replicates, truths)`.

    factors: the number of each factor and crossing among those of the strata. inner: the products of predictors of rows that are
    columns of a cell; outer: those of other predictors that multiply them.
    """

    def __init__(self, design: SeveralDesign) -> None:
        self.design = design
        condition, structure = design.condition, design.structure
        truth = condition.truth
        crossed = [g.name for g in structure.groupings if not any(h.within == g.name for h in structure.groupings)]
        names = dict.fromkeys([*structure.names, *truth.formula.groups, *(_crossings(crossed))])
        self.factors = {name: k for k, name in enumerate(names)}
        terms = (*truth.formula.fixed, *truth.formula.random_columns)
        parts = [split_term(design, term) for term in terms]
        single = [(column,) for p in condition.predictors for column in p.columns]
        self.inner = list(dict.fromkeys([(), *(s for s in single if not design.places[s[0]]), *(i for i, _ in parts)]))
        self.outer = list(dict.fromkeys([(), *(s for s in single if design.places[s[0]]), *(o for _, o in parts)]))
        self._shapes = {group: transform(truth.shape_of(group)) for group in truth.formula.groups}

    @cached_property
    def cells(self) -> CellDesign:
        design = self.design
        codes = {name: design.code_of_cells(name) for name in self.factors}
        count = len(next(iter(codes.values())))
        multipliers = [Multiplier.one(count)]
        for outer in self.outer[1:]:
            place = self._place(outer)
            redrawn = any(self._redrawn(v) for v in outer)
            values = None if redrawn else self._values({v: self._known(v) for v in outer}, outer)[:, 0]
            code, levels = design.code_of_cells(place), design.structure.grouping(place).levels
            multipliers.append(Multiplier(Partition(code, levels), values))
        return cell_design(find_strata(list(codes.values()), list(codes)), self.cell_columns, multipliers)

    @property
    def cell_columns(self) -> Array:
        """(rows of a cell, columns): D, of every cell."""
        inner = self.design.inner
        rows, names = inner.known_rows[: self.design.structure.rows], inner.columns
        return np.stack(
            [np.prod([rows[:, names.index(v)] for v in (INTERCEPT, *own)], axis=0) for own in self.inner], axis=1
        )

    def _place(self, outer: tuple[str, ...]) -> str:
        """The factor or crossing on whose levels a product lives."""
        named = {part for v in outer for part in self.design.places[v].split(":")}
        return ":".join(name for name in self.design.structure.names if name in named)

    def _redrawn(self, variable: str) -> bool:
        if variable in self.design.running:
            return False
        own = self.design.outer[self.design.places[variable]]
        return bool(own.between_drawn[own.between.index(variable)])

    def _known(self, variable: str) -> Array:
        if variable in self.design.running:
            return self.design.running[variable][:, None]
        own = self.design.outer[self.design.places[variable]]
        return np.asarray(own.between_fixed[own.between.index(variable)][:, None])

    def _values(self, columns: Mapping[str, Array], outer: tuple[str, ...]) -> Array:
        """(levels, R or 1): a product on the levels where it lives."""
        place, value = self._place(outer), np.ones((1, 1))
        first = self._first_cells(place)
        for v in outer:
            value = value * columns[v][self.design.code_of_cells(self.design.places[v])[first]]
        return value

    def _first_cells(self, place: str) -> NDArray[np.int64]:
        """(levels): a cell of each level."""
        code = self.design.code_of_cells(place)
        return np.unique(code, return_index=True)[1].astype(np.int64)

    def __call__(self, generator: Generator, replicates: int, truths: DrawnTruth | None = None) -> StrataDraw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, R, truth = self.design, replicates, self.design.condition.truth
        columns = {name: values[:, None] for name, values in design.running.items()}
        for outer in design.outer.values():
            z = draw_between(outer, generator, R)
            columns |= {name: z[k] for k, name in enumerate(outer.between)}
        drawn = {
            k: self._values(columns, self.outer[k]) for k, m in enumerate(self.cells.multipliers) if m.values is None
        }
        effects = {}
        for number, group in enumerate(truth.formula.groups):
            if not self._shapes[group].normal:
                u = self._shapes[group](
                    standard_normal(generator, (design.levels[group], len(design.factors[group]), R))
                )
                correlate(random_factor(design, group, truths), u)
                effects[number] = u
        statistics = draw_statistics(self.cells, self.truth(truths), generator, R, drawn=drawn, effects=effects)
        inner = design.inner
        columns |= {name: inner.known_rows[:, k, None] for k, name in enumerate(inner.columns[: inner.known]) if k}
        return StrataDraw(self, statistics, columns, drawn, truths)

    def truth(self, truths: DrawnTruth | None = None) -> CellTruth:
        """The random effects of the truth, and the errors."""
        truth = self.design.condition.truth
        terms = []
        for group in truth.formula.groups:
            own = [k for k, (g, _) in enumerate(truth.formula.places) if g == group]
            given: Any = truth.covariance if truths is None else truths.covariance
            covariance = np.array([[given[i][k] for k in own] for i in own], dtype=float)
            terms.append(
                TrueTerm(self.factors[group], self.combinations(truth.formula.of(group).random_columns), covariance)
            )
        residual = truth.residual_variance if truths is None else truths.residual_variance
        return CellTruth(tuple(terms), residual)

    def combinations(self, columns: Collection[str]) -> Array:
        """(columns of a cell, q): columns that vary by row as combinations of those of a cell."""
        found = np.zeros((len(self.inner), len(columns)))
        for k, column in enumerate(columns):
            found[self.inner.index(split_term(self.design, column)[0]), k] = 1.0
        return found

    def effect(self, term: str) -> tuple[Array, int] | None:
        """A fixed term as a combination (columns of a cell) and the number of its multiplier; None where it has none."""
        inner, outer = split_term(self.design, term)
        if inner not in self.inner or outer not in self.outer:
            return None
        return np.eye(len(self.inner))[self.inner.index(inner)], self.outer.index(outer)


def _crossings(names: Collection[str]) -> list[str]:
    return [":".join(some) for size in range(2, len(names) + 1) for some in itertools.combinations(names, size)]


@dataclass(frozen=True)
class StrataDraw:
    """One block of R replicates: statistics of Z u + e, and the predictors (`SeveralDraw.columns`). drawn: the redrawn
    multipliers of cells (levels, R or 1), by number; truths: of each replicate, where the condition has priors."""

    sampler: StrataSampler
    statistics: CellStatistics
    columns: Mapping[str, Array]
    drawn: Mapping[int, Array]
    truths: DrawnTruth | None = None

    @property
    def replicates(self) -> int:
        return int(self.statistics.replicates)

    @property
    def counts(self) -> dict[str, NDArray[np.int32]]:
        """How many rows each replicate has."""
        return {"rows": np.full(self.replicates, self.sampler.design.rows, dtype=np.int32)}

    def responses(self, without: Collection[str]) -> CellStatistics:
        """The statistics of y, but for the condition's coefficients of the terms `without`, see `SeveralDraw.response`."""
        truth = self.sampler.design.condition.truth
        drawn: Any = truth.fixed if self.truths is None else self.truths.fixed
        effects = []
        for term, central, value in zip(truth.formula.fixed, truth.fixed, drawn, strict=True):
            left = value - central if any(same_term(term, other) for other in without) else value
            if np.any(left != 0.0):
                effect = self.sampler.effect(term)
                assert effect is not None, "the truth's own terms have their columns"
                effects.append((*effect, left))
        return self.statistics.with_fixed(effects) if effects else self.statistics

    def rows(self, first: int, last: int, generators: Collection[Generator], *, effects: bool = False) -> SeveralDraw:
        """Rows of replicates first .. last - 1 that have these statistics, each from a generator of its own.

        effects: draw the random effects too, given the rows; without them `SeveralDraw.e` holds Z u + e.
        """
        design, made = self.sampler.design, self._cell_rows
        noise = [
            made.noise(
                self.statistics, r, g, {k: v[:, r : r + 1] if v.shape[1] > 1 else v for k, v in self.drawn.items()}
            )
            for r, g in zip(range(first, last), generators, strict=True)
        ]
        e = np.stack(noise, axis=1)
        u: dict[str, Array] = {}
        part = None if self.truths is None else self.truths.part(first, last)
        if effects:
            found = []
            for k, g in enumerate(generators):
                truths = None if part is None else part.part(k, k + 1)
                found.append(made.effects(self.sampler.truth(truths), noise[k], g))
            groups = design.condition.truth.formula.groups
            u = {group: np.stack([one[n] for one in found], axis=2) for n, group in enumerate(groups)}
        columns = {
            name: values if values.shape[-1] == 1 and self.replicates > 1 else values[..., first:last]
            for name, values in self.columns.items()
        }
        draw = SeveralDraw(design, design.members, columns, u, e, None, part)
        return SeveralDraw(design, design.members, columns, u, 2 * e - draw.noise(), None, part) if effects else draw

    @cached_property
    def _cell_rows(self) -> CellRows:
        return CellRows(self.sampler.cells)
