"""Who belongs to what: the cells of rows, and the levels of the factors on each row.

Most designs have the same rows in every replicate. Where numbers of levels or rows are drawn in each, there are as many levels
as there can be, and those that a replicate lacks have no rows in it. Its rows stand cell by cell. The largest of a block fills
all rows; what the others have fewer is padding that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ...spec.identity import numbers_key
from ...spec.model import INTERCEPT, Condition, Grouping, Joined, Structure, term_variables
from ...spec.structure import cells_of, rows_per_cell
from ..deviates import standard_normal
from ..sizes import drawn_once, drawn_sizes, size_distribution
from ..streams import fixed_generator

__all__ = ["Members", "draw_members", "settled_members", "widest"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Members:
    """The rows of a draw, of replicates that differ (R) or share them (1).

    sizes (cells, R or 1): the rows of each cell; cell and place (N, R or 1): the cell of each row and its place there, 0, 1, ...
    codes (N, R or 1): by factor, and by crossing, the level of each row. kept (N, R): rows that a replicate has, None if all.
    """

    sizes: Integers
    cell: Integers
    place: Integers
    codes: Mapping[str, Integers]
    kept: NDArray[np.bool_] | None

    @property
    def rows(self) -> int:
        return len(self.cell)

    def part(self, first: int, last: int) -> Members:
        """Replicates first .. last - 1."""

        def some(values: Integers) -> Integers:
            return values if values.shape[1] == 1 else values[:, first:last]

        return Members(
            some(self.sizes), some(self.cell), some(self.place), {name: some(own) for name, own in self.codes.items()},
            None if self.kept is None else self.kept[:, first:last],
        )  # fmt: skip

    def spread(self, group: str, values: Array) -> Array:
        """(N, R or 1): values of a factor's levels (levels, R or 1) on the rows."""
        return spread(self.codes[group], values)

    def term(self, columns: Mapping[str, Array], places: Mapping[str, str], name: str) -> Array:
        """(N, R or 1): a term such as "x:z" on the rows. columns: by name, on the levels where they live; places: those factors
        or crossings, "" for rows."""
        value = np.ones((1, 1))
        for variable in () if name == INTERCEPT else term_variables(name):
            at, own = places[variable], columns[variable]
            value = value * (self.spread(at, own) if at else own)
        return np.broadcast_to(value, (self.rows, value.shape[1]))


def spread(codes: Integers, values: NDArray[Any]) -> NDArray[Any]:
    """(N, R or 1): values (levels, R or 1) at codes (N, R or 1)."""
    if codes.shape[1] == 1:
        return values[codes[:, 0]]
    if values.shape[1] == 1:
        return values[:, 0][codes]
    return np.take_along_axis(values, codes, axis=0)


# -- levels ----------------------------------------------------------------------------------------------------------------


def widest(condition: Condition) -> Structure:
    """The structure with numbers of levels that are drawn once as they are drawn, and others at the most that there can be."""
    structure = condition.structure
    assert structure is not None, "a condition of one grouping factor has a layout"
    drawn, levels = dict(structure.drawn), dict[str, int]()
    if not any(drawn):
        return structure
    groupings, numbers = [], []
    for grouping, own in zip(structure.groupings, structure.numbers, strict=True):
        holders = levels[grouping.within] if grouping.within else 1
        if sizes := drawn.get(grouping.name):
            if sizes.redraw:
                own = (int(size_distribution(sizes)[0][-1]),) * holders
            else:
                key = numbers_key(condition, grouping.name)
                own = tuple(drawn_once(sizes, condition.seed, key, holders).tolist())
        elif len(own) != holders:
            own = own[:1] * holders
        levels[grouping.name] = sum(own)
        groupings.append(Grouping(grouping.name, sum(own), grouping.within))
        numbers.append(own)
    return replace(structure, groupings=tuple(groupings), numbers=tuple(numbers))


def settled_members(condition: Condition, structure: Structure, named: Mapping[str, int]) -> Members:
    """The rows of all replicates, but for the levels that rows draw anew in each; those of numbers that are redrawn are left to
    `draw_members`. structure: the widest; named: the factors and crossings that have codes, with their numbers of levels."""
    cells = cells_of(structure)
    count = len(next(iter(cells.values())))
    if structure.listed:
        sizes, cell = np.array([[structure.rows]]), np.zeros(count, dtype=np.int64)
        codes = {name: own[:, None] for name, own in cells.items()}
    else:
        rows = dict(structure.drawn).get("")
        if rows is not None and not rows.redraw:
            sizes = drawn_once(rows, condition.seed, numbers_key(condition, ""), count)[:, None]
        else:
            same = structure.sizes or (structure.rows,) * count
            sizes = np.array(same, dtype=np.int64)[:, None]
        cell = np.repeat(np.arange(count), sizes[:, 0])
        codes = {name: own[cell][:, None] for name, own in cells.items()}
    start = np.cumsum(sizes[:, 0]) - sizes[:, 0]
    place = np.arange(len(cell)) - start[cell]
    found = Members(sizes, cell[:, None], place[:, None], codes, None)
    for name, how in structure.joined:
        if not how.redraw:
            generator = fixed_generator(condition.seed, numbers_key(condition, name))
            found.codes[name] = _join(structure, name, how, found, generator, 1)  # type: ignore[index]
    return _with_crossings(found, structure, named)


def draw_members(
    structure: Structure, settled: Members, named: Mapping[str, int], generator: Generator, replicates: int
) -> Members:
    """The rows of a block: `settled`, with what is drawn in each replicate. structure: the widest."""
    found = settled
    if structure.redrawn:
        found = _draw_numbers(structure, generator, replicates)
    redrawn = [(name, how) for name, how in structure.joined if how.redraw]
    if not redrawn and found is settled:
        return settled
    codes = dict(found.codes)
    found = replace(found, codes=codes)
    for name, how in redrawn:
        codes[name] = _join(structure, name, how, found, generator, replicates)
    return _with_crossings(found, structure, named)


def _draw_numbers(structure: Structure, generator: Generator, R: int) -> Members:
    """Numbers of levels and of rows in each replicate, which are drawn in the order of the factors, rows last."""
    cells, drawn = cells_of(structure), dict(structure.drawn)
    count = len(next(iter(cells.values())))
    there = np.ones((count, R), dtype=bool)
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        sizes = drawn.get(grouping.name)
        if sizes is None or not sizes.redraw:
            continue
        own = drawn_sizes(sizes, generator, (len(numbers), R))
        first = np.cumsum(numbers) - np.array(numbers)
        holder = cells[grouping.within] if grouping.within else np.zeros(count, dtype=np.int64)
        there &= (cells[grouping.name] - first[holder])[:, None] < own[holder]
    rows = drawn.get("")
    if rows is not None and rows.redraw:
        each = drawn_sizes(rows, generator, (count, R))
    else:
        each = np.array(rows_per_cell(structure), dtype=np.int64)[:, None]
    sizes_of = np.where(there, each, 0)
    total = sizes_of.sum(axis=0)
    N = int(total.max())
    kept = np.arange(N)[:, None] < total
    each_row = np.repeat(np.tile(np.arange(count), R), sizes_of.T.ravel())  # replicate by replicate
    starts = (np.cumsum(sizes_of, axis=0) - sizes_of).T  # (R, cells): of each cell among the rows of its replicate
    cell = np.zeros((R, N), dtype=np.int64)
    cell[kept.T] = each_row
    cell = np.ascontiguousarray(cell.T)
    place = np.where(kept, np.arange(N)[:, None] - np.take_along_axis(starts.T, cell, axis=0), 0)
    return Members(sizes_of, cell, place, {name: own[cell] for name, own in cells.items()}, kept)


# -- levels that rows draw -------------------------------------------------------------------------------------------------


def _join(
    structure: Structure, name: str, how: Joined, members: Members, generator: Generator, replicates: int
) -> Integers:
    """(N, R): the level of a factor that each row draws, given its level of another one."""
    levels, width = structure.grouping(name).levels, how.width(structure.grouping(name).levels)
    own = members.codes[how.given] * levels // structure.grouping(how.given).levels
    uniform = ndtr(standard_normal(generator, (members.rows, replicates)))
    # a uniform number of exactly 1 is one beyond the last level
    found = (own + np.minimum((uniform * width).astype(np.int64), width - 1)) % levels
    if how.mixing:
        anywhere = standard_normal(generator, (members.rows, replicates)) < ndtri(how.mixing)
        found = np.where(anywhere, np.minimum((uniform * levels).astype(np.int64), levels - 1), found)
    return np.asarray(found, dtype=np.int64)


def _with_crossings(members: Members, structure: Structure, named: Mapping[str, int]) -> Members:
    """The members with the levels of crossings, the first factor's changing slowest, of those whose factors have codes."""
    codes = dict(members.codes)
    for name in named:
        parts = name.split(":")
        if (name in codes and len(parts) == 1) or any(part not in codes for part in parts):
            continue
        code: Integers = np.zeros((1, 1), dtype=np.int64)
        for part in parts:
            code = code * structure.grouping(part).levels + codes[part]
        codes[name] = code
    return replace(members, codes=codes)
