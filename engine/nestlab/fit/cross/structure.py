"""The parts of a model with several grouping factors that all replicates share: units, places of products, and how rows add up.

Slots: the factor with most random effects leads (slot 0), the others are the rest (slots 1, 2, ...). A unit is a set of
levels that rows connect (a school with its classes; everything where factors are crossed). Of unit u with J_u leading levels
and s_u random effects of the rest, the columns to the right of the leading factor are [rest, X, y], s_u + p + 1 of them.
Targets are the sums that a replicate enters by, in this order, symmetric ones by pairs (`small.pair`):

    counts    rows of each level, slot by slot
    A         Z_1'Z_1 of each leading level
    B         Z_1'[rest X y] of each leading level, unit by unit
    M         [rest X y]'[rest X y] of each unit, without [X y]'[X y]
    XX        [X y]'[X y]

Rows of one cell (with the same level of every factor) are added up first. Columns are numbered with 0 for the rows themselves
(1 where a row is there), 1 .. d for the distinct columns and -1 for y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...spec.model import MOST_RANDOM

__all__ = [
    "AT_B", "AT_M", "AT_S", "AT_V", "AT_W", "BEGIN", "COUNT", "FIRST", "LEVELS", "ORDER",
    "CrossDesign", "CrossMethod", "RowProgram", "UnitStructure", "make_program", "make_structure",
]  # fmt: skip

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class CrossDesign:
    """N rows and the levels of the grouping factors to which they belong.

    codes: by factor the level of each row (N), 0 .. levels - 1, or None where it is drawn for each replicate. levels: their
    numbers.
    """

    rows: int
    codes: tuple[Indices | None, ...]
    levels: tuple[int, ...]

    @property
    def drawn(self) -> bool:
        """Whether a factor's levels are drawn for each replicate."""
        return any(codes is None for codes in self.codes)


@dataclass(frozen=True)
class CrossMethod:
    """A model: random terms in the formula's order, each (factor's number, numbers of its columns); numbers of the fixed effects'
    columns; G relative to the residual variance to start from (q, q), in a simulation the truth."""

    random: tuple[tuple[int, tuple[int, ...]], ...]
    fixed: tuple[int, ...]
    reml: bool = True
    start: Array | None = None

    @property
    def q(self) -> int:
        return sum(len(columns) for _, columns in self.random)

    @property
    def columns(self) -> tuple[int, ...]:
        """The distinct column of each random column."""
        return tuple(c for _, columns in self.random for c in columns)

    @property
    def factor_of(self) -> tuple[int, ...]:
        """The factor of each random column."""
        return tuple(f for f, columns in self.random for _ in columns)

    @property
    def blocks(self) -> Indices:
        """The term of each random column."""
        return np.repeat(np.arange(len(self.random)), [len(columns) for _, columns in self.random]).astype(np.int64)

    def subset(self, kept: Sequence[int]) -> CrossMethod:
        """The model with the random columns at these places only, without a start."""
        places = iter(range(self.q))
        terms = [(f, tuple(c for c in columns if next(places) in kept)) for f, columns in self.random]
        return replace(self, random=tuple((f, columns) for f, columns in terms if columns), start=None)


#: Columns of the table of units: first leading level and their number; effects of the rest; where the unit begins among the
#: rows B, the matrices M, W, the scores v and `short`; then for each slot its first effect in the unit, the rest's before the
#: leading ones, and its levels.
FIRST, COUNT, ORDER, AT_B, AT_M, AT_W, AT_V, AT_S, BEGIN, LEVELS = range(10)

#: What compiled code needs to know beside the units. F slots; of each its random columns, how many (q) and which (own); where
#: each slot's levels begin among all (counts), the parts of the targets, and among `sums` the sums over two slots (Q). Then
#: where each array begins in the lanes' memory: of the replicate R, B, M; scratch A, K, Y; of the point T, W_jj of leading
#: levels, W, v, H, sums, two blocks and `short` (see `passes._shorten`); its size. orders: of the largest unit s, [rest lead
#: X y] and effects.
_HEAD = np.dtype(
    [
        ("F", "i8"), ("q", "i8", (MOST_RANDOM,)), ("own", "i8", (MOST_RANDOM, MOST_RANDOM)), ("counts", "i8", (MOST_RANDOM +
        1,)), ("targets", "i8", (5,)), ("Q", "i8", (MOST_RANDOM, MOST_RANDOM)), ("orders", "i8", (3,)), *((name, "i8") for
        name in ("R", "B", "M", "A", "K", "Y", "T", "lead", "W", "v", "H", "sums", "left", "right", "short", "size")),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class UnitStructure:
    """units (U, .): see FIRST; head: a record, see _HEAD; slots: the factor of each slot; columns: of each slot the distinct
    column of each random one; fixed: those of X; unit, place: per slot and level, the unit and the first effect in it (of the
    leading slot among the leading effects); ranks: of the leading levels, their number in the order of units."""

    units: Indices
    head: NDArray[np.void]
    slots: tuple[int, ...]
    columns: tuple[tuple[int, ...], ...]
    fixed: tuple[int, ...]
    unit: tuple[Indices, ...]
    place: tuple[Indices, ...]
    ranks: Indices

    @property
    def effects(self) -> Indices:
        """Random effects of each unit."""
        found: Indices = self.units[:, COUNT] * self.head["q"][0, 0] + self.units[:, ORDER]
        return found

    @property
    def targets(self) -> int:
        width = len(self.fixed) + 1
        return int(self.head["targets"][0, 4]) + width * (width + 1) // 2

    @cached_property
    def work(self) -> float:
        """Products of an evaluation, about."""
        wide = self.effects + len(self.fixed) + 1
        return float((self.units[:, ORDER] * wide**2 / 2 + self.effects**2).sum())


def _pairs(q: int) -> list[tuple[int, int]]:
    return [(i, k) for k in range(q) for i in range(k + 1)]


def make_structure(design: CrossDesign, method: CrossMethod) -> UnitStructure:
    """Arrange the factors that the method has random effects of."""
    used = [f for f in range(len(design.levels)) if f in method.factor_of]
    numbers = {f: [c for c, g in enumerate(method.factor_of) if g == f] for f in used}
    lead = max(used, key=lambda f: design.levels[f] * len(numbers[f]))
    slots = (lead, *(f for f in used if f != lead))
    q = np.array([len(numbers[f]) for f in slots], np.int64)
    own = np.zeros((len(slots), MOST_RANDOM), np.int64)
    for k, f in enumerate(slots):
        own[k, : len(numbers[f])] = numbers[f]
    unit = _units_of(design, slots)
    U = max(int(u.max()) for u in unit) + 1
    levels = np.stack([np.bincount(u, minlength=U) for u in unit], axis=1).astype(np.int64)
    local = [_ranks(u) for u in unit]
    order = (levels[:, 1:] * q[1:]).sum(axis=1)
    ends = np.cumsum(levels[:, 1:] * q[1:], axis=1)
    begin = np.concatenate([order[:, None], ends - levels[:, 1:] * q[1:]], axis=1)
    place = [local[0] * q[0], *(begin[u, k] + n * q[k] for k, (u, n) in enumerate(zip(unit, local, strict=True)) if k)]
    first = np.cumsum(levels[:, 0]) - levels[:, 0]
    width = len(method.fixed) + 1
    ahead = levels[:, 0] * q[0]
    wide, packed = order + width, (order + width) * (order + width + 1) // 2
    whole = order + ahead + width
    parts = {
        "B": ahead * wide,
        "M": packed,
        "W": whole * (whole + 1) // 2,
        "V": (order + ahead) * width,
        "S": 1 + order * width,
    }
    starts = {name: np.cumsum(size) - size for name, size in parts.items()}
    columns = [first, levels[:, 0], order, *starts.values()]
    for k in range(len(slots)):
        columns += [begin[:, k], levels[:, k]]
    sizes = [int(order.max()), int(whole.max()), int((order + ahead).max())]
    counts = np.cumsum([0, *(design.levels[f] for f in slots)])
    n = int(q[0] * (q[0] + 1) // 2) * design.levels[slots[0]]
    squares = np.outer(q, q) ** 2
    block = int((levels.max(axis=0)[:, None] * np.outer(q, q)).max())
    head = np.zeros(1, _HEAD)
    record = head[0]
    record["F"], record["q"][: len(q)], record["own"][: len(q)] = len(q), q, own
    record["counts"][: len(counts)], record["orders"] = counts, sizes
    record["targets"] = np.cumsum([0, counts[-1], n, parts["B"].sum(), parts["M"].sum()])
    record["Q"][: len(q), : len(q)] = (np.cumsum(squares) - squares.ravel()).reshape(squares.shape)
    s, c, E = sizes
    arrays = {
        "R": n, "B": parts["B"].sum(), "M": parts["M"].sum(), "A": (s + width) * (s + width + 1) // 2, "K": max(s * s, s +
        width), "Y": max(s * c, s), "T": parts["B"].sum(), "lead": n, "W": parts["W"].sum(), "v": parts["V"].sum(), "H": E *
        (E + 1) // 2, "sums": squares.sum(), "left": block, "right": block, "short": parts["S"].sum(),
    }  # fmt: skip
    for name, size in arrays.items():
        record[name] = record["size"]
        record["size"] += size
    return UnitStructure(
        np.stack(columns, axis=1).astype(np.int64), head, slots,
        tuple(tuple(method.columns[c] for c in numbers[f]) for f in slots), method.fixed, tuple(unit), tuple(place),
        first[unit[0]] + local[0],
    )  # fmt: skip


def _units_of(design: CrossDesign, slots: Sequence[int]) -> list[Indices]:
    """The unit of each level, by slot, numbered by their first leading level; all is one unit where levels are drawn."""
    starts = np.cumsum([0, *(design.levels[f] for f in slots)])
    known = [codes for f in slots if (codes := design.codes[f]) is not None]
    if len(known) < len(slots):
        return [np.zeros(design.levels[f], np.int64) for f in slots]
    from scipy.sparse import coo_array  # 0.1 s
    from scipy.sparse.csgraph import connected_components

    rows = np.concatenate([known[0]] * max(1, len(known) - 1))
    columns = np.concatenate([codes + s for codes, s in zip(known[1:], starts[1:-1], strict=True)] or [known[0]])
    n = int(starts[-1])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    first = np.unique(label, return_index=True)[1]  # the first level, in the order of slots
    rank = np.argsort(np.argsort(first))
    return [rank[label[a:b]].astype(np.int64) for a, b in pairwise(starts)]


def _ranks(labels: Indices) -> Indices:
    """The number of each entry among those of its label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return ranks


@dataclass(frozen=True)
class RowProgram:
    """How products of rows add up to targets.

    rows (N), in the order of cells; cells (K + 1): where each begins. entries (E, 2): the products that differ by replicate,
    of two columns each; start (targets + 1), source: the sums that make a target, each cell * E + entry. base (targets): what
    all replicates share.
    """

    rows: Indices
    cells: Indices
    entries: Indices
    start: Indices
    source: Indices
    base: Array


def make_program(
    design: CrossDesign, structure: UnitStructure, shared: Sequence[Array | None], *, missing: bool, differ: bool
) -> RowProgram:
    """Of the products that differ by replicate, or of the others, with a base of 0.

    shared: each distinct column (N) that all replicates share, None for one that is redrawn; missing: whether rows are.
    """
    keys, known = np.zeros(design.rows, np.int64), []
    for f in structure.slots:
        codes = design.codes[f]
        assert codes is not None, "levels that are drawn are added up row by row"
        known.append(codes)
        keys = np.unique(keys * design.levels[f] + codes, return_inverse=True)[1].ravel()
    rows = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(keys[rows]) > 0])
    redrawn = [False, *(c is None for c in shared), True]  # of the rows themselves, D and y
    alias = [0, *(0 if c is not None and (c == 1.0).all() else k for k, c in enumerate(shared, 1)), -1]
    entries: dict[tuple[int, int], int] = {}
    targets, sources = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    numbers = []
    for (a, b), target in _terms(structure, [codes[rows[starts]] for codes in known]):
        if (missing or redrawn[a] or redrawn[b]) == differ:
            entry = (min(alias[a], alias[b]), max(alias[a], alias[b]))
            numbers.append(entries.setdefault(entry, len(entries)))
            targets.append(target)
    sources += [np.arange(len(starts)) * len(entries) + number for number in numbers]
    target, source = np.concatenate(targets), np.concatenate(sources)
    by = np.argsort(target, kind="stable")
    return RowProgram(
        rows, np.r_[starts, design.rows], np.array(list(entries), np.int64).reshape(-1, 2),
        np.searchsorted(target[by], np.arange(structure.targets + 1)).astype(np.int64), source[by],
        np.zeros(structure.targets),
    )  # fmt: skip


def _terms(structure: UnitStructure, codes: Sequence[Indices]) -> list[tuple[tuple[int, int], Indices]]:
    """(entry, the target of each cell) for all products that are needed."""
    units, head = structure.units, structure.head[0]
    counts, at_A, at_B, at_M, at_XX = head["targets"].tolist()
    found: list[tuple[tuple[int, int], Indices]] = []

    def add(a: int, b: int, target: Indices) -> None:
        found.append(((min(a, b), max(a, b)), target))

    columns = [tuple(c + 1 for c in own) for own in structure.columns]
    outer = [*(c + 1 for c in structure.fixed), -1]
    unit = structure.unit[0][codes[0]]
    places = [place[code] for place, code in zip(structure.place, codes, strict=True)]
    rank = structure.ranks[codes[0]]
    q, order = int(head["q"][0]), units[unit, ORDER]
    wide = order + len(outer)
    for k, code in enumerate(codes):
        add(0, 0, counts + head["counts"][k] + code)
    for n, (a, b) in enumerate(_pairs(q)):
        add(columns[0][a], columns[0][b], at_A + rank * (q * (q + 1) // 2) + n)
    for a in range(q):
        row = at_B + units[unit, AT_B] + (places[0] + a) * wide
        for k in range(1, len(codes)):
            for c, column in enumerate(columns[k]):
                add(columns[0][a], column, row + places[k] + c)
        for i, column in enumerate(outer):
            add(columns[0][a], column, row + order + i)
    for k in range(1, len(codes)):
        for a, left in enumerate(columns[k]):
            for g in range(k, len(codes)):
                for b, right in enumerate(columns[g]):
                    if g > k or b >= a:
                        low, high = places[k] + a, places[g] + b
                        add(left, right, at_M + units[unit, AT_M] + (high * (high + 1) // 2) + low)
            for i, right in enumerate(outer):
                high = order + i
                add(left, right, at_M + units[unit, AT_M] + (high * (high + 1) // 2) + places[k] + a)
    for n, (i, k) in enumerate(_pairs(len(outer))):
        add(outer[i], outer[k], np.full(len(unit), at_XX + n))
    return found
