"""The grouping factors of a pilot: which is nested in which, and how they divide its rows into cells.

Levels of a nested factor are counted in the whole design, whether the data number them so or begin again in each level of the
factor that holds them. Random effects of `(1 | a:b)` are the same where b is nested in a and where both are crossed. b is taken
for nested where no other term has it without a, and where the data have each of its levels in one level of a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..spec.model import Formula, Grouping, Structure, term_variables
from ..spec.structure import cells_of, least_cells

__all__ = ["PilotCells", "PilotFactor", "divided", "find_factors", "numbered_as_in_file", "within_names"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PilotFactor:
    """A grouping factor on the N rows of a pilot.

    within: the factor in which it is nested, or "". codes (N): its levels 0, 1, ... in the whole design, those of one level of
    `within` together; written (N): as the data have them, numbered in the order in which they come.
    """

    name: str
    within: str
    codes: Integers
    written: Integers

    @property
    def levels(self) -> int:
        return int(self.codes.max()) + 1

    def is_as_written(self, above: Sequence[Integers]) -> bool:
        """Whether the levels are those that the data have. above: the codes of the factor that holds it, if any."""
        return _same(_joint([*above, self.written]), self.codes)

    def numbers(self, above: Sequence[Integers]) -> Integers:
        """(N): what a study is given as levels; numbers may begin again in each level of the factor that holds them."""
        return self.written if self.is_as_written(above) else pd.factorize(self.codes)[0].astype(np.int64)


def find_factors(formula: Formula, frame: pd.DataFrame, names: Sequence[str]) -> tuple[PilotFactor, ...]:
    """The factors of a formula, those that are nested in none first, and each after the one in which it is nested. names: their
    columns of the frame.
    """
    labels = {name: pd.factorize(frame[name], sort=True)[0].astype(np.int64) for name in names}
    beside = _always_beside(formula, labels)
    codes = {name: _joint([labels[other] for other in (*beside[name], name)]) for name in names}
    for name, others in beside.items():  # of a crossing of several, no factor of which holds it
        if others and not any(_same(codes[other], _joint([labels[o] for o in others])) for other in others):
            codes[name] = labels[name]
    levels = {name: int(own.max()) + 1 for name, own in codes.items()}
    holders = {
        name: max(
            (w for w in names if w != name and _nests(codes[w], codes[name])), key=lambda w: levels[w], default=""
        )
        for name in names
    }
    found: dict[str, PilotFactor] = {}
    while len(found) < len(names):
        left = sorted((n for n in names if n not in found), key=lambda n: holders[n] != "")
        name = next(n for n in left if holders[n] in ("", *found))
        holder = holders[name]
        own = codes[name] if not holder else _joint([found[holder].codes, codes[name]])
        found[name] = PilotFactor(name, holder, own, pd.factorize(frame[name])[0].astype(np.int64))
    return tuple(found.values())


def within_names(holders: Mapping[str, str], name: str) -> frozenset[str]:
    """A factor with all that hold it. holders: the factor in which each is nested, or ""."""
    found = set()
    while name:
        found.add(name)
        name = holders[name]
    return frozenset(found)


def _always_beside(formula: Formula, labels: Mapping[str, Integers]) -> dict[str, tuple[str, ...]]:
    """The factors without which no random term has a factor: its labels may begin again in each of their levels."""
    groups = [tuple(dict.fromkeys(name.replace("`", "") for name in term_variables(group))) for group in formula.groups]
    found: dict[str, tuple[str, ...]] = {}
    for name in reversed(list(labels)):
        own = [group for group in groups if name in group]
        found[name] = tuple(
            other
            for other in own[0]
            if other != name
            and all(other in group for group in own)
            and name not in found.get(other, ())
            and not _nests(labels[name], labels[other])
        )
    return found


def _joint(parts: Sequence[Integers]) -> Integers:
    """The numbers 0, 1, ... of combinations of levels, the first factor's changing slowest."""
    code = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        code = np.unique(code * (int(part.max()) + 1) + part, return_inverse=True)[1].astype(np.int64)
    return code


def _nests(outer: Integers, inner: Integers) -> bool:
    """Whether each level of `inner` lies in one of `outer`, which has fewer."""
    return int(outer.max()) < int(inner.max()) and _joint([inner, outer]).max() == inner.max()


def _same(a: Integers, b: Integers) -> bool:
    return bool(a.max() == b.max() == _joint([a, b]).max())


# -- cells -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PilotCells:
    """How the factors divide the N rows. structure: of a study; codes: by factor, the level of each row as a study numbers them;
    cells (N): the cell of each row. All rows are one cell where some combination of levels has none."""

    structure: Structure
    codes: Mapping[str, Integers]
    cells: Integers

    def of(self, place: str) -> Integers:
        """(N): the level of each row, of a factor or a crossing of factors, as a study numbers them."""
        code = np.zeros(len(self.cells), dtype=np.int64)
        for name in place.split(":"):
            code = code * self.structure.grouping(name).levels + self.codes[name]
        return code


def divided(factors: Sequence[PilotFactor], order: Mapping[str, Integers]) -> PilotCells | None:
    """The cells of a pilot of which every cell has a row; None where one has none.

    order: by factor that is nested in none, the place of each of its levels.
    """
    codes: dict[str, Integers] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    groupings = []
    for factor in factors:
        if factor.within:
            holder = codes[factor.within]
            codes[factor.name] = _joint([holder, factor.codes])
            first = np.unique(codes[factor.name], return_index=True)[1]
            numbers[factor.name] = tuple(np.bincount(holder[first]).tolist())
        else:
            codes[factor.name] = order[factor.name][factor.codes]
            numbers[factor.name] = (factor.levels,)
        groupings.append(Grouping(factor.name, factor.levels, factor.within or None))
    structure = Structure(tuple(groupings), tuple(numbers.values()), 1)
    own = _joint(list(codes.values()))
    there = int(own.max()) + 1
    if least_cells(structure) > there:
        return None
    made = cells_of(structure)
    if len(next(iter(made.values()))) > there:
        return None
    # cells stand in the order of their levels, the first factor's changing slowest, and so do combinations
    return PilotCells(structure, codes, own)


def numbered_as_in_file(factors: Sequence[PilotFactor]) -> PilotCells:
    """The rows of a pilot as those of a file, whose levels a study numbers in the order in which they come."""
    codes: dict[str, Integers] = {}
    for factor in factors:
        above = [codes[factor.within]] if factor.within else []
        codes[factor.name] = _joint([*above, factor.numbers(above)])
    groupings = tuple(Grouping(f.name, f.levels, f.within or None) for f in factors)
    rows = len(factors[0].codes)
    listed = tuple(tuple(codes[f.name].tolist()) for f in factors)
    structure = Structure(groupings, tuple((f.levels,) for f in factors), rows, listed=listed)
    return PilotCells(structure, codes, np.zeros(rows, dtype=np.int64))
