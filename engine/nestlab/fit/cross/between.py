"""Between-within degrees of freedom of many replicates: what lies within what is asked once of those that are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..several.nesting import CONTAINED, Nesting, between_within_df
from ..several.products import FactorColumns
from .rows import CrossPlan, CrossRows

__all__ = ["between_within"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


def between_within(plan: CrossPlan, block: CrossRows, first: int, last: int) -> Array:
    """(last - first, p): see `several.nesting.between_within_df`; nan where none is left."""
    p = len(plan.method.fixed)
    if plan.design.drawn:
        return np.array([_of_one(plan, block, r) for r in range(first, last)]).reshape(-1, p)
    alike = block.kept is None and not any(block.redrawn)
    facts = _facts(plan, block, first, first + 1 if alike else last)
    distinct, which = np.unique(facts, axis=0, return_inverse=True)
    found = np.array([_df(plan, row) for row in distinct]).reshape(-1, p)[which.ravel()]
    return np.repeat(found, last - first, axis=0) if alike else found


def _of_one(plan: CrossPlan, block: CrossRows, r: int) -> Array:
    method = plan.method
    kept = np.ones(plan.design.rows, bool) if block.kept is None else block.kept[:, r]
    factors = []
    for f, columns in zip(plan.structure.slots, plan.structure.columns, strict=True):
        labels, codes = np.unique(block.codes_of(plan.design, f, r)[kept], return_inverse=True)
        Z = np.column_stack([block.column(c, r)[kept] for c in columns])
        factors.append(FactorColumns(codes.ravel().astype(np.int64), len(labels), Z, (len(columns),)))
    return between_within_df(factors, np.column_stack([block.column(c, r)[kept] for c in method.fixed]))


def _facts(plan: CrossPlan, block: CrossRows, first: int, last: int) -> Indices:
    """(R, .): rows, levels of each factor, which lies within which, and which column is a multiple of which random column,
    constant within its factor's levels."""
    slots, R = plan.structure.slots, last - first
    known = [codes for f in slots if (codes := plan.design.codes[f]) is not None]
    kept = np.ones((plan.design.rows, 1), bool) if block.kept is None else block.kept[:, first:last]

    def present(codes: Indices) -> Indices:
        labels, inverse = np.unique(codes, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        starts = np.searchsorted(inverse.ravel()[order], np.arange(len(labels)))
        found: Indices = np.logical_or.reduceat(kept[order], starts, axis=0).sum(axis=0)
        return found

    facts = [kept.sum(axis=0), *(levels := [present(codes) for codes in known])]
    for f, inner in enumerate(known):
        for g, outer in enumerate(known):
            within = levels[g] < levels[f]
            if f != g and within.any():
                within = within & (present(inner * plan.design.levels[slots[g]] + outer) == levels[f])
            facts.append(within if f != g else np.zeros_like(within))
    random = [c for own in plan.structure.columns for c in own]
    for codes, columns in zip(known, plan.structure.columns, strict=True):
        order = np.argsort(codes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        groups.sort(key=len, reverse=True)
        for z in columns:
            facts += [_multiple(block, x, z, groups, kept, first, last) for x in (*plan.structure.fixed, *random)]
    return np.stack([np.broadcast_to(np.asarray(f, np.int64), R) for f in facts], axis=1)


def _multiple(block: CrossRows, x: int, z: int, groups: Sequence[Indices], kept: Flags, first: int, last: int) -> Flags:
    """Whether x is a multiple of z, constant within groups of rows, in each replicate (or in all)."""
    if x == z:
        return np.ones(1, bool)
    redrawn = block.redrawn

    def values(c: int, rows: Indices) -> Array:
        column = block.columns[c]
        return column[rows, first:last] if redrawn[c] else column.reshape(-1)[rows, None]

    every = not (redrawn[x] or redrawn[z])
    alive = np.ones(last - first, bool)
    for rows in groups:
        left, right = values(x, rows), values(z, rows)
        if every and _leaves_nothing(left, right)[0]:
            continue  # of all its rows, so of any of them
        there = kept[rows]
        alive &= _leaves_nothing(left * there, right * there)
        if not alive.any():
            break
    return alive


def _leaves_nothing(x: Array, z: Array) -> Flags:
    xx, xz, zz = (x * x).sum(axis=0), (x * z).sum(axis=0), (z * z).sum(axis=0)
    explained = np.divide(xz**2, zz, out=np.zeros(np.broadcast_shapes(xz.shape, zz.shape)), where=zz > 0)
    found: Flags = xx - explained <= CONTAINED * np.maximum(xx, 1e-300)
    return found


def _df(plan: CrossPlan, row: Indices) -> Array:
    """Degrees of freedom from one replicate's facts."""
    columns, p = plan.structure.columns, len(plan.method.fixed)
    F, total = len(columns), sum(map(len, columns))
    rows, levels, rest = row[0], row[1 : 1 + F], row[1 + F :]
    lies = rest[: F * F].reshape(F, F)
    multiples = rest[F * F :].reshape(total, p + total)
    owner = np.repeat(np.arange(F), [len(own) for own in columns])
    places = [(int(f), k - int(np.argmax(owner == f))) for k, f in enumerate(owner)]
    containers = [max(((int(levels[g]), g) for g in range(F) if lies[f, g]), default=(0, None))[1] for f in range(F)]
    return Nesting(
        int(rows),
        tuple(int(n) for n in levels),
        tuple(containers),
        {place: multiples[k, :p] > 0 for k, place in enumerate(places)},
        {place: frozenset(owner[multiples[:, p + c] > 0].tolist()) for c, place in enumerate(places)},
    ).degrees_of_freedom()
