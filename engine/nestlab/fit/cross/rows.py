"""A block of replicates as rows, a method's plan on their design, and the sums by which replicates enter a fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...spec.model import MOST_RANDOM
from ..lanes import LANES
from ..lmm import for_lanes
from ..workspace import make_shape
from .accumulate import add_drawn, add_rows
from .structure import CrossDesign, CrossMethod, RowProgram, UnitStructure, make_program, make_structure

__all__ = ["CrossPlan", "CrossRows", "compile_cross"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class CrossPlan:
    """One method on one design: paid once per condition."""

    design: CrossDesign
    method: CrossMethod
    structure: UnitStructure
    _programs: dict[tuple[bool, ...], tuple[list[Array | None], RowProgram]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _smaller: dict[tuple[int, ...], CrossPlan] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def shape(self) -> NDArray[np.void]:
        """The model as compiled code takes it."""
        q, p = self.method.q, len(self.method.fixed)
        start = np.full(q * (q + 1) // 2, -1.0)
        if self.method.start is not None:
            start = np.array([self.method.start[i, k] for k in range(q) for i in range(k + 1)])
        return make_shape(
            range(q), range(p), np.zeros(p, np.int64), self.method.blocks, start, rows=self.design.rows,
            clusters=max(self.design.levels[f] for f in self.structure.slots), reml=self.method.reml, moments=False,
            most=MOST_RANDOM,
        )  # fmt: skip

    def program(self, shared: list[Array | None], *, missing: bool) -> RowProgram:
        """How rows add up; made once for all blocks that share their columns."""
        key = (missing, *(c is None for c in shared))
        before, found = self._programs.get(key, (None, None))
        if found is None or before is None or not all(map(_same, before, shared)):
            found = make_program(self.design, self.structure, shared, missing=missing, differ=True)
            found = replace(found, base=self._base(shared, missing=missing))
            self._programs[key] = (shared, found)
        return found

    def _base(self, shared: list[Array | None], *, missing: bool) -> Array:
        """The sums that all replicates share, by the loops that make a replicate's: which of them are shared changes no bit."""
        p, N = make_program(self.design, self.structure, shared, missing=missing, differ=False), self.design.rows
        values = np.array([np.zeros(N) if c is None else c for c in shared], dtype=float).reshape(-1, N)
        none, out = np.full(len(shared), -1), np.empty((1, self.structure.targets, LANES))
        add_rows(
            p.rows, p.cells, p.entries, p.start, p.source, p.base, values, np.zeros((1, 1, 1)), none, np.zeros((N, LANES)),
            np.zeros((0, 1)), out,
        )  # fmt: skip
        return np.ascontiguousarray(out[0, :, 0])

    def without(self, kept: tuple[int, ...]) -> CrossPlan:
        """The plan of the method with the random columns at these places only."""
        if kept not in self._smaller:
            self._smaller[kept] = compile_cross(self.design, self.method.subset(kept))
        return self._smaller[kept]


def compile_cross(design: CrossDesign, method: CrossMethod) -> CrossPlan:
    """Arrange a method on a design."""
    return CrossPlan(design, method, make_structure(design, method))


@dataclass(frozen=True)
class CrossRows:
    """A block of R replicates of N rows.

    columns: the distinct columns of X and Z, each (N) where all replicates share it, or (N, R); centred if they are far from 0.
    y (N, R): the response, or better what known fixed effects leave of it (add these to beta), as digits are lost to a large
    mean. kept (N, R): whether a row is there; None where all are. codes: by factor (N, R) where the design draws its levels,
    else None.
    """

    columns: tuple[Array, ...]
    y: Array
    kept: NDArray[np.bool_] | None = None
    codes: tuple[Indices | None, ...] | None = None
    _targets: dict[int, tuple[CrossPlan, Array]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def replicates(self) -> int:
        return int(self.y.shape[1])

    @property
    def redrawn(self) -> list[bool]:
        """Whether each column differs by replicate."""
        return [c.ndim > 1 and c.shape[1] > 1 for c in self.columns]

    def column(self, c: int, r: int) -> Array:
        """A column in replicate r, all rows of the design."""
        found = self.columns[c]
        return found.reshape(-1) if found.size == len(self.y) else found[:, r]

    def codes_of(self, design: CrossDesign, f: int, r: int) -> Indices:
        """The levels of factor f in replicate r, of all rows."""
        codes = design.codes[f]
        if codes is None:
            assert self.codes is not None
            drawn = self.codes[f]
            assert drawn is not None
            return drawn[:, r]
        return codes

    def take(self, members: list[int]) -> CrossRows:
        """Some of the replicates."""
        codes = None if self.codes is None else tuple(None if c is None else c[:, members] for c in self.codes)
        return CrossRows(
            tuple(c[:, members] if drawn else c for c, drawn in zip(self.columns, self.redrawn, strict=True)),
            self.y[:, members],
            None if self.kept is None else self.kept[:, members],
            codes,
        )

    def targets(self, plan: CrossPlan) -> Array:
        """(batches, targets, lanes): the sums by which the replicates enter a fit."""
        if id(plan) not in self._targets:
            self._targets[id(plan)] = (plan, self.add_up(plan))
        return self._targets[id(plan)][1]

    def add_up(self, plan: CrossPlan) -> Array:
        """The same, made anew."""
        lanes, N = self.redrawn, len(self.y)
        shared = [None if own else c.reshape(-1) for c, own in zip(self.columns, lanes, strict=True)]
        redrawn = [for_lanes(c) for c, own in zip(self.columns, lanes, strict=True) if own]
        drawn = np.stack(redrawn) if redrawn else np.zeros((1, 1, 1))
        place = np.array([sum(lanes[:k]) if own else -1 for k, own in enumerate(lanes)], np.int64)
        values = np.array([np.zeros(N) if c is None else c for c in shared], dtype=float).reshape(-1, N)
        y = for_lanes(np.asarray(self.y, dtype=float))
        kept = np.zeros((0, 1)) if self.kept is None else for_lanes(np.asarray(self.kept, dtype=float))
        out = np.empty((-(-y.shape[1] // LANES), plan.structure.targets, LANES))
        if plan.design.drawn:
            self._add_drawn(plan, values, drawn, place, y, kept, out)
            return out
        p = plan.program(shared, missing=self.kept is not None)
        add_rows(p.rows, p.cells, p.entries, p.start, p.source, p.base, values, drawn, place, y, kept, out)
        return out

    def _add_drawn(
        self, plan: CrossPlan, values: Array, drawn: Array, place: Indices, y: Array, kept: Array, out: Array
    ) -> None:
        s, R = plan.structure, self.replicates
        each = [np.stack([self.codes_of(plan.design, f, r) for r in range(R)], axis=1) for f in s.slots]
        codes = np.stack([for_lanes(c.astype(float)) for c in each]).astype(np.int64)
        add_drawn(
            s.units, s.head, _table(s.unit), _table(s.place), s.ranks, _table([np.array(c) for c in s.columns]),
            np.array(s.fixed, np.int64), codes, values, drawn, place, y, kept, out,
        )  # fmt: skip


def _same(one: Array | None, other: Array | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _table(rows: tuple[Indices, ...] | list[Indices]) -> Indices:
    """Rows of unequal length as one array."""
    found = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for k, row in enumerate(rows):
        found[k, : len(row)] = row
    return found
