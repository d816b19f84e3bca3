"""Cross-products of a model with several grouping factors, arranged for elimination.

The factor with most random effects leads: its levels are eliminated one by one, as each has its own rows. What they leave, the
rest, falls into units: levels of the other factors that rows connect directly or through others (a school of a nested design;
all of a crossed one). A unit's rest is a dense matrix of order s; units of one shape stand in one array (units, s, s). Where
there are many shapes, levels without rows fill them up: their products are 0 and their random effects change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...spec.problems import DataError

__all__ = ["Batch", "Entry", "FactorColumns", "Products", "make_products", "respond"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Entries of the rest's matrices, of which a fit holds about six copies: 300 MB each.
MOST_ENTRIES = 36_000_000
#: Shapes of units beyond which units are filled up to fewer shapes.
MOST_SHAPES = 12


@dataclass(frozen=True)
class FactorColumns:
    """The random columns of one grouping factor: codes (N) of its levels 0 .. levels - 1, Z (N, q), columns of each of its
    terms."""

    codes: Indices
    levels: int
    Z: Array
    sizes: tuple[int, ...]

    @property
    def q(self) -> int:
        return int(self.Z.shape[1])


@dataclass(frozen=True)
class Batch:
    """Units of one shape: how many; levels of each factor, the leading one first; where the batch begins among the rest's effects
    (`vector`) and among the entries of the rest's matrices (`matrix`); its first unit's number."""

    units: int
    shape: tuple[int, ...]
    order: int
    vector: int
    matrix: int
    first: int

    def vectors(self, flat: Array) -> Array:
        """The part (units, order, ...) of an array over the rest's effects."""
        part = flat[self.vector : self.vector + self.units * self.order]
        return part.reshape(self.units, self.order, *flat.shape[1:])

    def matrices(self, flat: Array) -> Array:
        """The part (units, order, order) of an array over the entries of the rest's matrices."""
        size = self.order * self.order
        return flat[self.matrix : self.matrix + self.units * size].reshape(self.units, self.order, self.order)


@dataclass(frozen=True)
class Entry:
    """A free entry of G: of factor f, row a, column b <= a within the factor."""

    factor: int
    a: int
    b: int

    def direction(self, q: int) -> Array:
        """E: 1 at the entry and its mirror image."""
        E = np.zeros((q, q))
        E[self.a, self.b] = E[self.b, self.a] = 1.0
        return E


@dataclass(frozen=True)
class Products:
    """Cross-products of F factors with [X y], p + 1 columns, N rows.

    q, levels, sizes: per factor, random columns, levels, columns of each term. lead: the number of the leading factor; rest: the
    others'. A (levels, q, q), B (levels, q, p + 1): Z'Z and Z'[X y] of each of its levels. Of its products with the rest: those
    of level j are values[start[j] : start[j + 1]] (., q), with effect `place` of the unit's rest. vector_base, matrix_base,
    order: per leading level, its unit's first effect, its matrix's first entry and its matrix's order. rest_gram (flat),
    rest_cross (effects, p + 1): products of the rest. places: per factor of the rest (levels, q), the effects' numbers; unit,
    local: per factor, each level's unit and number within it. XX (p + 1, p + 1).
    """

    rows: int
    q: tuple[int, ...]
    levels: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    lead: int
    A: Array
    B: Array
    start: Indices
    place: Indices
    values: Array
    vector_base: Indices
    matrix_base: Indices
    order: Indices
    rest_gram: Array
    rest_cross: Array
    places: dict[int, Indices]
    unit: tuple[Indices, ...]
    local: tuple[Indices, ...]
    batches: tuple[Batch, ...]
    XX: Array

    @property
    def p(self) -> int:
        return len(self.XX) - 1

    @property
    def rest(self) -> tuple[int, ...]:
        return tuple(f for f in range(len(self.q)) if f != self.lead)

    @cached_property
    def owner(self) -> Indices:
        """The leading level of each entry of `values`."""
        return np.repeat(np.arange(len(self.A)), np.diff(self.start))

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Each factor's place among all random columns."""
        ends = np.cumsum((0, *self.q)).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @cached_property
    def blocks(self) -> Indices:
        """The number of each random column's term."""
        sizes = [size for own in self.sizes for size in own]
        return np.repeat(np.arange(len(sizes)), sizes)

    @cached_property
    def entries(self) -> list[Entry]:
        """The free entries of G, by columns of each term."""
        found = []
        for f, sizes in enumerate(self.sizes):
            first = 0
            for size in sizes:
                found += [Entry(f, a, b) for b in range(first, first + size) for a in range(b, first + size)]
                first += size
        return found

    @cached_property
    def directions(self) -> list[Array]:
        """Per factor (q^2, entries): the matrix E of each free entry, its entries in one column; 0 for those of other factors."""
        found = [np.zeros((q * q, len(self.entries))) for q in self.q]
        for s, e in enumerate(self.entries):
            found[e.factor][:, s] = e.direction(self.q[e.factor]).ravel()
        return found

    def segments(self, batch: Batch) -> list[tuple[int, int, int]]:
        """Of a unit's rest: (factor, its first effect, its levels)."""
        found, first = [], 0
        for f, levels in zip(self.rest, batch.shape[1:], strict=True):
            found.append((f, first, levels))
            first += levels * self.q[f]
        return found


def make_products(factors: Sequence[FactorColumns], X: Array, y: Array) -> Products:
    """Reduce rows to cross-products; X (N, p), y (N). Raises DataError where the rest is too large."""
    lead = max(range(len(factors)), key=lambda f: factors[f].levels * factors[f].q)
    order = [lead, *(f for f in range(len(factors)) if f != lead)]
    unit, local, batches = _arrange([factors[f] for f in order])
    first = factors[lead]
    unit_vector = np.concatenate([b.vector + b.order * np.arange(b.units) for b in batches])
    unit_matrix = np.concatenate([b.matrix + b.order**2 * np.arange(b.units) for b in batches])
    unit_order = np.repeat([b.order for b in batches], [b.units for b in batches])
    own = unit[0]
    rest = [factors[f] for f in order[1:]]
    within = _offsets(batches, [f.q for f in rest], unit[1:], local[1:])
    places = [w + unit_vector[u][:, None] for w, u in zip(within, unit[1:], strict=True)]
    columns = np.column_stack([X, y])
    effects, size = (sum(b.units * b.order**k for b in batches) for k in (1, 2))
    if size > MOST_ENTRIES:
        raise DataError(
            "the grouping factors are too large to be fitted together: beside the one with most levels, "
            f"{max(b.order for b in batches)} random effects are connected with one another, and at most "
            f"{int(MOST_ENTRIES**0.5)} are possible; leave out a factor or a random column"
        )
    start, place, values = _pairs(first, rest, within)
    sorted_by = np.argsort(order)
    matrix_base, unit_orders = unit_matrix[own], unit_order[own]
    return Products(
        rows=len(y), q=tuple(f.q for f in factors), levels=tuple(f.levels for f in factors),
        sizes=tuple(f.sizes for f in factors), lead=lead, A=_sums(first.codes, first.levels, first.Z, first.Z),
        B=_sums(first.codes, first.levels, first.Z, columns), start=start, place=place, values=values,
        vector_base=unit_vector[own], matrix_base=matrix_base, order=unit_orders,
        rest_gram=_rest_products(first, rest, within, matrix_base, unit_orders, size),
        rest_cross=_rest_vectors(rest, places, columns, effects), places=dict(zip(order[1:], places, strict=True)),
        unit=tuple(unit[k] for k in sorted_by), local=tuple(local[k] for k in sorted_by), batches=tuple(batches),
        XX=columns.T @ columns,
    )  # fmt: skip


def respond(m: Products, factors: Sequence[FactorColumns], X: Array, y: Array) -> Products:
    """The products with another response y (N); factors, X: those that they were made of."""
    lead, p = factors[m.lead], m.p
    B, rest, XX = m.B.copy(), m.rest_cross.copy(), m.XX.copy()
    rest[:, p] = 0.0
    for a in range(lead.q):
        B[:, a, p] = np.bincount(lead.codes, lead.Z[:, a] * y, lead.levels)
    for f in m.rest:
        for a in range(factors[f].q):
            rest[m.places[f][:, a], p] = np.bincount(factors[f].codes, factors[f].Z[:, a] * y, factors[f].levels)
    XX[p, :p] = XX[:p, p] = X.T @ y
    XX[p, p] = y @ y
    return replace(m, B=B, rest_cross=rest, XX=XX)


def _sums(codes: Indices, levels: int, left: Array, right: Array) -> Array:
    """(levels, a, b): the products of columns, summed by level."""
    found = np.empty((levels, left.shape[1], right.shape[1]))
    for a in range(left.shape[1]):
        for b in range(right.shape[1]):
            found[:, a, b] = np.bincount(codes, left[:, a] * right[:, b], levels)
    return found


def _arrange(factors: list[FactorColumns]) -> tuple[list[Indices], list[Indices], list[Batch]]:
    """Each level's unit and number within it, by factor, and the units by shape; they are numbered batch by batch."""
    from scipy.sparse import coo_array  # 0.1 s: fits with one factor do without
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0, *(f.levels for f in factors)])
    lead = np.concatenate([factors[0].codes] * max(1, len(factors) - 1))
    other = np.concatenate([f.codes + s for f, s in zip(factors[1:], starts[1:-1], strict=True)] or [factors[0].codes])
    n = int(starts[-1])
    graph = coo_array((np.ones(len(lead), bool), (lead, other)), shape=(n, n))
    count, label = connected_components(graph, directed=False)
    labels = [label[a:b] for a, b in pairwise(starts)]
    shapes = np.stack([np.bincount(own, minlength=count) for own in labels], axis=1)
    distinct, kind = np.unique(shapes, axis=0, return_inverse=True)
    if len(distinct) > MOST_SHAPES:
        distinct, kind = np.unique(_rounded(shapes), axis=0, return_inverse=True)
    kind = kind.ravel()
    number = np.empty(count, np.int64)
    number[np.argsort(kind, kind="stable")] = np.arange(count)
    batches, vector, matrix, first = [], 0, 0, 0
    for shape, units in zip(distinct.tolist(), np.bincount(kind).tolist(), strict=True):
        order = sum(m * f.q for m, f in zip(shape[1:], factors[1:], strict=True))
        batches.append(Batch(units, tuple(shape), order, vector, matrix, first))
        vector, matrix, first = vector + units * order, matrix + units * order**2, first + units
    return [number[own] for own in labels], [_ranks(own) for own in labels], batches


def _rounded(counts: Indices) -> Indices:
    """At most an eighth more, so that there are few different ones."""
    step = 2 ** np.maximum(np.floor(np.log2(np.maximum(counts, 1))).astype(np.int64) - 3, 0)
    found: Indices = -(-counts // step) * step
    return found


def _ranks(labels: Indices) -> Indices:
    """The number of each entry among those of its label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return ranks


def _offsets(batches: list[Batch], q: list[int], unit: list[Indices], local: list[Indices]) -> list[Indices]:
    """(levels, q) for each factor of the rest: the number of each effect within its unit."""
    shapes = np.repeat([b.shape[1:] for b in batches], [b.units for b in batches], axis=0)
    ends = np.cumsum(shapes * np.array(q, np.int64), axis=1).astype(np.int64)
    found = []
    for f, columns in enumerate(q):
        begin = ends[unit[f], f - 1] if f else np.zeros(len(unit[f]), np.int64)
        found.append((begin + local[f] * columns)[:, None] + np.arange(columns))
    return found


def _pairs(lead: FactorColumns, rest: list[FactorColumns], within: list[Indices]) -> tuple[Indices, Indices, Array]:
    """(start, place, values) of the products of the leading factor with the rest."""
    owners, placed, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, lead.q))]
    for factor, place in zip(rest, within, strict=True):
        keys, inverse = np.unique(lead.codes * factor.levels + factor.codes, return_inverse=True)
        products = _sums(inverse.ravel(), len(keys), lead.Z, factor.Z)
        owners.append(np.repeat(keys // factor.levels, factor.q))
        placed.append(place[keys % factor.levels].ravel())
        values.append(np.moveaxis(products, 1, 2).reshape(-1, lead.q))
    owner = np.concatenate(owners)
    by_owner = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[by_owner], np.arange(lead.levels + 1))
    return start.astype(np.int64), np.concatenate(placed)[by_owner], np.concatenate(values)[by_owner]


def _rest_products(
    lead: FactorColumns, rest: list[FactorColumns], within: list[Indices], base: Indices, order: Indices, size: int
) -> Array:
    """The products of the rest with itself, unit by unit, both triangles."""
    total = np.zeros(size)
    base, order = base[lead.codes], order[lead.codes]
    for f, left in zip(rest, within, strict=True):
        for g, right in zip(rest, within, strict=True):
            for a in range(f.q):
                row = base + left[f.codes, a] * order
                for b in range(g.q):
                    total += np.bincount(row + right[g.codes, b], f.Z[:, a] * g.Z[:, b], size)
    return total


def _rest_vectors(rest: list[FactorColumns], places: list[Indices], columns: Array, effects: int) -> Array:
    total = np.zeros((effects, columns.shape[1]))
    for f, place in zip(rest, places, strict=True):
        for a in range(f.q):
            for k in range(columns.shape[1]):
                total[:, k] += np.bincount(place[f.codes, a], f.Z[:, a] * columns[:, k], effects)
    return total
