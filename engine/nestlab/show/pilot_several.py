"""The design of a pilot of several grouping factors as a study can make it.

Where every combination of levels that nesting and crossing allow has rows, the design has numbers of levels and of rows, and each
predictor lives on the factor with the fewest levels within which it has one value. So a study of more levels, or fewer, can be
made of it. Where some combinations have no rows, the rows are the pilot's own: those of its file, or of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.problems import StudyError
from .pilot_columns import PilotColumn
from .pilot_factors import PilotCells, PilotFactor, divided, numbered_as_in_file, within_names
from .pilot_predictors import MOST_NUMBERS, PilotPlan, PilotPredictor, PilotRows, is_constant, reasons

__all__ = ["PilotFile", "several_plans"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PilotFile:
    """The data file of a pilot, by its path from the study's folder. columns: the file's name of each of the study's predictors
    and factors that stand in it as they are, on all its rows and on no others."""

    path: str
    columns: Mapping[str, str]

    def words(self, name: str) -> dict[str, Any] | None:
        """The column of a predictor or a factor as a study names it."""
        return {"file": self.path, "column": self.columns[name]} if name in self.columns else None


def several_plans(
    columns: Sequence[PilotColumn], factors: Sequence[PilotFactor], file: PilotFile
) -> Iterator[PilotPlan]:
    """The plans of a pilot, the most like its predictors' distributions first. Raises StudyError where there is none: a study can
    only list the pilot's rows, which are too many for that."""
    none = True
    for plan in _plans(columns, factors, file):
        if plan is not None:
            none = False
            yield plan
    if none:
        rows = f"{len(factors[0].codes):,} rows, which the file does not have as they are"
        text = f"it needs {rows}; write a file of these rows alone, with columns of numbers, and start from it"
        raise StudyError([text])


def _plans(
    columns: Sequence[PilotColumn], factors: Sequence[PilotFactor], file: PilotFile
) -> Iterator[PilotPlan | None]:
    """The plans in turn, None for one of more rows than a study should list."""
    natural = {factor.name: np.arange(factor.levels) for factor in factors if not factor.within}
    cells = divided(factors, natural)
    if cells is None:
        yield _of_rows(columns, factors, file, "some combinations of levels have no rows")
        return
    squares = [p for column in columns if (p := _latin_square(column, cells))]
    if not squares:
        turns = {name: np.argsort(PilotRows(columns, _codes(factors, name)).turns) for name in natural}
        cells = divided(factors, turns)
        assert cells is not None, "the order of levels leaves no cell without rows"
    design = _Divided([c for c in columns if c.name not in {p.name for p in squares}], cells, squares)
    if not design.kept:
        yield design.plan({})
    listed = [design.kept] if design.kept or design.outer else []
    free = {c.name: "" for c in design.rows.inner if not design.rows.is_placed(c)}
    if not free.keys() <= design.kept.keys():
        listed.append(free)
    for kept in listed:
        if not design.can_list(kept):
            yield _of_rows(columns, factors, file, reasons(kept))
            return
        yield design.plan(kept, in_turn=True)


def _codes(factors: Sequence[PilotFactor], name: str) -> Integers:
    return next(factor.codes for factor in factors if factor.name == name)


class _Divided:
    """A pilot whose cells all have rows."""

    def __init__(self, columns: Sequence[PilotColumn], cells: PilotCells, known: Sequence[PilotPredictor]) -> None:
        self.cells, self.known = cells, tuple(known)
        places = {column.name: place_of(column, cells) for column in columns}
        own = {
            place: PilotRows([c for c in columns if places[c.name] == place], cells.of(place), place)
            for place in dict.fromkeys(places.values())
            if place
        }
        self.outer = tuple(own.values())
        self.rows = PilotRows([c for c in columns if not places[c.name]], cells.cells, 1)
        self.kept = {name: why for part in (*self.outer, self.rows) for name, why in part.kept.items()}
        for part in self.outer:
            if ":" in str(part.place):
                few = [c.name for c in part.outer if c.categories or len(np.unique(c.values)) == 2]
                self.kept |= {name: f"{name} goes by {' and '.join(str(part.place).split(':'))}" for name in few}

    def can_list(self, kept: Mapping[str, str]) -> bool:
        """Whether those of some predictors that are of rows may be listed cell by cell."""
        sizes, copied = self.rows.sizes, sum(column.name in kept for column in self.rows.inner)
        return copied == 0 or bool(sizes.max() > 1 and len(sizes) * sizes.max() * copied <= MOST_NUMBERS)

    def plan(self, kept: Mapping[str, str], *, in_turn: bool = False) -> PilotPlan:
        """Predictors of levels from distributions, or in_turn as the pilot's levels have them; those of rows in `kept` as its
        cells have them. kept: why, by predictor."""
        every = np.arange(self.rows.J)
        between = [part.listed(np.arange(part.J)) if in_turn else part.drawn_between() for part in self.outer]
        within = self.rows.drawn_within(kept, every, int(self.rows.sizes.max()))
        drawn = () if in_turn else zip(self.outer, between, strict=True)
        correlations = [pair for part, own in drawn for pair in part.correlations(own, [])]
        return PilotPlan(
            (*self.known, *chain(*between), *within), (*correlations, *self.rows.correlations([], within)),
            _number(self.rows.sizes), self._factors(), why=reasons(kept),
        )  # fmt: skip

    def _factors(self) -> dict[str, int | dict[str, Any]]:
        structure = self.cells.structure
        return {
            each.name: {"within": each.within, "number": _number(np.array(own))} if each.within else own[0]
            for each, own in zip(structure.groupings, structure.numbers, strict=True)
        }


def _number(sizes: Integers) -> int | dict[str, Any]:
    """A number for all, or one for each in turn."""
    values = sizes.tolist()
    return int(values[0]) if len(set(values)) == 1 else {"values": values, "in_turn": True}


# -- where predictors live -------------------------------------------------------------------------------------------------


def place_of(column: PilotColumn, cells: PilotCells) -> str:
    """The factor or crossing with the fewest levels within each of which a predictor has one value; "" if it is one of rows."""
    structure = cells.structure
    holders = {each.name: each.within or "" for each in structure.groupings}
    above = {name: within_names(holders, name) for name in holders}
    found = list(holders)
    for size in range(2, len(holders) + 1):
        found += [
            ":".join(names)
            for names in combinations(holders, size)
            if all(a not in above[b] and b not in above[a] for a, b in combinations(names, 2))
        ]
    rows = len(cells.cells)
    there = {place: structure.grouping(place).levels for place in found}
    for place in sorted(found, key=lambda p: there[p]):
        if there[place] > rows:
            break
        codes = cells.of(place)
        if ":" in place and len(np.unique(codes)) < there[place]:
            continue  # a list would need values of combinations without rows
        if is_constant(column.values, codes):
            return place
    return ""


def _latin_square(column: PilotColumn, cells: PilotCells) -> PilotPredictor | None:
    """A predictor that is condition (i + k) mod their number at level i of one factor and k of another, if it is one."""
    place = place_of(column, cells)
    names = place.split(":")
    levels = [cells.structure.grouping(name).levels for name in names]
    values = np.unique(column.values)
    if len(names) != 2 or not 2 <= len(values) <= min(levels):
        return None
    first, second = (cells.codes[name] for name in names)
    turns = (first + second) % len(values)
    conditions = np.zeros(len(values))
    conditions[turns] = column.values
    if len(np.unique(conditions)) < len(values) or (conditions[turns] != column.values).any():
        return None
    words: dict[str, Any] = {"distribution": "latin-square"}
    if column.categories:
        words |= {"categories": list(column.categories)}
    words["values"] = [float(value) for value in conditions]
    return PilotPredictor(column.name, place, words, "as in the data")


# -- the pilot's own rows --------------------------------------------------------------------------------------------------


def _of_rows(
    columns: Sequence[PilotColumn], factors: Sequence[PilotFactor], file: PilotFile, why: str
) -> PilotPlan | None:
    """Factors and predictors as the pilot's rows have them; None for more numbers than a study file should list."""
    cells = numbered_as_in_file(factors)
    rows = len(cells.cells)
    own: dict[str, int | dict[str, Any]] = {}
    listed = 0
    for factor in factors:
        above = [cells.codes[factor.within]] if factor.within else []
        words = file.words(factor.name) if factor.is_as_written(above) else None
        listed += words is None
        words = words or {"values": (factor.numbers(above) + 1).tolist()}
        own[factor.name] = ({"within": factor.within} if factor.within else {}) | words
    predictors: list[PilotPredictor] = []
    for column in columns:
        place = next(
            (f.name for f in sorted(factors, key=lambda f: f.levels) if is_constant(column.values, f.codes)), ""
        )
        if place:
            predictors += PilotRows([column], cells.codes[place], place).listed(np.arange(_levels(cells, place)))
            continue
        words = file.words(column.name)
        listed += words is None
        words = words or {
            **({"categories": list(column.categories)} if column.categories else {}),
            "values": column.values.tolist(),
        }
        predictors.append(PilotPredictor(column.name, 1, {"distribution": "list", **words}, "the pilot's rows"))
    if listed * rows > MOST_NUMBERS:
        return None
    return PilotPlan(tuple(predictors), (), None, own, why=why)


def _levels(cells: PilotCells, place: str) -> int:
    return cells.structure.grouping(place).levels
