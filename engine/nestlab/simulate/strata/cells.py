"""Cells that share their rows, the multipliers of fixed columns, and the sufficient statistics of replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .structure import Partition, Strata

__all__ = ["CellDesign", "CellStatistics", "Multiplier", "cell_design", "pair", "reduce_cells"]

Array = NDArray[np.float64]

#: Pivot of D'D over its diagonal below which a column is a combination of earlier ones.
PIVOT_TOLERANCE = 1e-10
#: Share of a multiplier's sum of squares that is rounding.
SHARE_TOLERANCE = 1e-13


def pair(i: int, k: int) -> int:
    """The place of entry (i, k) of a symmetric matrix by pairs."""
    return max(i, k) * (max(i, k) + 1) // 2 + min(i, k)


@dataclass(frozen=True)
class Multiplier:
    """What multiplies the rows of a cell in fixed columns: values (levels) by level of a partition of the cells, or None where
    each replicate has its own."""

    partition: Partition
    values: Array | None

    @staticmethod
    def one(cells: int) -> Multiplier:
        """The constant 1."""
        return Multiplier(Partition(np.zeros(cells, np.int64), 1), np.ones(1))

    @staticmethod
    def of(codes: NDArray[Any], values: ArrayLike | None = None) -> Multiplier:
        """Codes (cells) of levels 0, 1, ...; values (levels)."""
        codes = np.asarray(codes, np.int64)
        return Multiplier(Partition(codes, int(codes.max()) + 1), None if values is None else np.asarray(values, float))


@dataclass(frozen=True)
class CellDesign:
    """Cells with their strata, rows and multipliers.

    basis (n, r), root (r, r0): D = Q R; products (S, pairs(k)): C'P_s C, or None where a multiplier is redrawn; present (S, k):
    whether a multiplier has a part in a stratum.
    """

    strata: Strata
    basis: Array
    root: Array
    multipliers: tuple[Multiplier, ...]
    products: Array | None
    present: NDArray[np.bool_]

    @property
    def r(self) -> int:
        """The rank of D."""
        return int(self.basis.shape[1])

    @property
    def k(self) -> int:
        return len(self.multipliers)

    @property
    def rows(self) -> int:
        """N: of all cells."""
        return self.strata.cells * len(self.basis)

    @property
    def within_df(self) -> int:
        """Degrees of freedom within cells."""
        return self.strata.cells * (len(self.basis) - self.r)

    @cached_property
    def single(self) -> Partition:
        """Of the cells into single ones."""
        return Partition(np.arange(self.strata.cells), self.strata.cells)

    @cached_property
    def cuts(self) -> tuple[int, int, int, int]:
        """Where C'P_s C (0 rows where fixed), C'P_s Y, Y'P_s Y and the sum of squares within cells begin among the rows of
        `CellStatistics.values`; the last is one row."""
        S, k, r = len(self.strata), self.k, self.r
        first = S * k * (k + 1) // 2 if self.products is None else 0
        return 0, first, first + S * k * r, first + S * k * r + S * r * (r + 1) // 2

    def products_of(self, drawn: Mapping[int, Array]) -> Array:
        """C'P_s C (S, pairs(k), R or 1) with the values (levels, R or 1) of redrawn multipliers, by number."""
        return gram(self.strata, self.tables_of(drawn))

    def tables_of(self, drawn: Mapping[int, Array]) -> list[dict[int, Array]]:
        """For each multiplier, by stratum in which it has a part, P_s of it, (levels of the stratum's partition, R or 1)."""
        return [
            self._tables(k, drawn[k]) if m.values is None else self._known[k] for k, m in enumerate(self.multipliers)
        ]

    @cached_property
    def _known(self) -> dict[int, dict[int, Array]]:
        """The tables of multipliers that are not redrawn."""
        return {k: self._tables(k, m.values[:, None]) for k, m in enumerate(self.multipliers) if m.values is not None}

    def _tables(self, k: int, values: Array) -> dict[int, Array]:
        return self.strata.tables(self.multipliers[k].partition, values, np.flatnonzero(self.present[:, k]).tolist())


@dataclass(frozen=True)
class CellStatistics:
    """The statistics of R replicates: values (rows, R), see `CellDesign.cuts`."""

    design: CellDesign
    values: Array

    @property
    def replicates(self) -> int:
        return int(self.values.shape[1])

    @property
    def cc(self) -> Array:
        """C'P_s C (S, pairs(k), R or 1)."""
        d = self.design
        if d.products is not None:
            return d.products[:, :, None]
        return self.values[: d.cuts[1]].reshape(len(d.strata), -1, self.replicates)

    @property
    def cy(self) -> Array:
        """C'P_s Y (S, k, r, R)."""
        d = self.design
        return self.values[d.cuts[1] : d.cuts[2]].reshape(len(d.strata), d.k, d.r, self.replicates)

    @property
    def yy(self) -> Array:
        """Y'P_s Y (S, pairs(r), R)."""
        d = self.design
        return self.values[d.cuts[2] : d.cuts[3]].reshape(len(d.strata), -1, self.replicates)

    @property
    def within(self) -> Array:
        """Sum of squares within cells (R)."""
        found: Array = self.values[-1]
        return found

    @staticmethod
    def empty(design: CellDesign, replicates: int) -> CellStatistics:
        """Room for them."""
        return CellStatistics(design, np.empty((design.cuts[3] + 1, replicates)))

    def with_fixed(self, effects: Sequence[tuple[ArrayLike, int, float | Array]]) -> CellStatistics:
        """Add fixed effects to y: (combination (r0) of D's columns, multiplier, value or values (R)) each."""
        d = self.design
        w = np.zeros((d.k, d.r, self.replicates))
        for combination, m, value in effects:
            w[m] += (d.root @ np.asarray(combination, float))[:, None] * value
        if not w.any():
            return self
        found = CellStatistics(d, self.values.copy())
        cc, cy, yy = self.cc, found.cy, found.yy
        for s in range(len(d.strata)):
            for m in range(d.k):
                before = cy[s, m].copy()
                for other in range(d.k):
                    if d.present[s, m] and d.present[s, other]:
                        cy[s, m] += cc[s, pair(m, other)] * w[other]
                for b in range(d.r):
                    for a in range(b + 1):
                        yy[s, pair(a, b)] += w[m, a] * before[b] + cy[s, m, a] * w[m, b]
        return found

    def subset(self, members: Sequence[int]) -> CellStatistics:
        """Some of the replicates."""
        return replace(self, values=np.ascontiguousarray(self.values[:, members]))


def gram(strata: Strata, tables: Sequence[Mapping[int, Array]]) -> Array:
    """(S, pairs, R or 1): weighted products of tables; what is rounding beside a column's whole sum of squares is 0."""
    k, R = len(tables), max(table.shape[1] for own in tables for table in own.values())
    found = np.zeros((len(strata), k * (k + 1) // 2, R))
    for s, stratum in enumerate(strata.strata):
        sizes = stratum.partition.sizes.astype(float)
        members = [m for m in range(k) if s in tables[m]]
        for b in members:
            weighted = sizes[:, None] * tables[b][s]
            for a in (a for a in members if a <= b):
                found[s, pair(a, b)] = (tables[a][s] * weighted).sum(axis=0)
    for b in range(k):
        own = found[:, pair(b, b)]
        gone = own <= SHARE_TOLERANCE * own.sum(axis=0)
        for a in range(k):
            found[:, pair(a, b)][gone] = 0.0
    return found


def cell_design(strata: Strata, D: ArrayLike, multipliers: Sequence[Multiplier]) -> CellDesign:
    """Cells with rows D (n, r0) each. The multipliers in use: those of the fixed columns of truth and methods."""
    D = np.asarray(D, float)
    basis, root = _decompose(D)
    redrawn = any(m.values is None for m in multipliers)
    rng = np.random.default_rng(0)  # any values show in which strata a redrawn multiplier has a part
    some = {k: rng.normal(size=(m.partition.levels, 1)) for k, m in enumerate(multipliers) if m.values is None}
    design = CellDesign(strata, basis, root, tuple(multipliers), None, np.ones((len(strata), len(multipliers)), bool))
    products = design.products_of(some)[:, :, 0]
    present = np.stack([products[:, pair(m, m)] > 0 for m in range(len(multipliers))], axis=1)
    return replace(design, products=None if redrawn else products, present=present)


def _decompose(D: Array) -> tuple[Array, Array]:
    """Q (n, r) and R (r, r0) of D = Q R, R's diagonal positive; dependent columns have no row."""
    basis: list[Array] = []
    for column in D.T:
        left = column.copy()
        for _ in range(2):
            for q in basis:
                left -= (q @ left) * q
        if left @ left > PIVOT_TOLERANCE * (column @ column):
            basis.append(left / np.sqrt(left @ left))
    Q = np.stack(basis, axis=1)
    R = Q.T @ D
    R[np.abs(R) <= 1e-14 * np.sqrt((D * D).sum(axis=0))] = 0.0
    return Q, R


def reduce_cells(design: CellDesign, y: Array, drawn: Mapping[int, Array] | None = None) -> CellStatistics:
    """The statistics of rows y (cells, n, R); drawn: values of redrawn multipliers."""
    found = CellStatistics.empty(design, y.shape[2])
    tables = design.tables_of(drawn or {})
    Y = np.einsum("na,jnr->jar", design.basis, y)
    left = y - np.einsum("na,jar->jnr", design.basis, Y)
    found.values[-1] = np.einsum("jnr,jnr->r", left, left)
    parts = design.strata.tables(design.single, Y)
    for s, stratum in enumerate(design.strata.strata):
        own, sizes = parts[s], stratum.partition.sizes.astype(float)
        for b in range(design.r):
            for a in range(b + 1):
                found.yy[s, pair(a, b)] = np.einsum("l,lr,lr->r", sizes, own[:, a], own[:, b])
        for m in range(design.k):
            found.cy[s, m] = 0.0
            if s in tables[m]:
                found.cy[s, m] = ((sizes[:, None] * tables[m][s])[:, None] * own).sum(axis=0)
    if design.products is None:
        found.cc[...] = gram(design.strata, tables)
    return found
