"""The strata of grouping factors: their joint eigenspaces, where averaging over one factor commutes with averaging over another.

Factors are partitions of the cells. Averages A_f and A_g commute where, within each class of their join (the finest partition
that is coarser than both), each level of f meets each level of g in equally many cells; then A_f A_g averages over the join
(R. A. Bailey 2004, Association Schemes, ch. 4). So every partition h of the closure under joins has a stratum: what is constant
on its levels and orthogonal to all coarser strata. A factor holds the strata of all partitions that are as coarse as itself or
coarser. No matrix of order cells x cells is formed: projections are means over levels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Partition", "Strata", "Stratum", "UnbalancedError", "find_strata"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class UnbalancedError(ValueError):
    """Factors that have no strata, with a sentence that says why."""


@dataclass(frozen=True)
class Partition:
    """codes (cells) of the levels 0 .. levels - 1, numbered by their first cell."""

    codes: Indices
    levels: int

    @staticmethod
    def of(codes: NDArray[Any]) -> Partition:
        """The partition of integer codes, whatever their values are."""
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        number = np.empty(len(first), np.int64)
        number[np.argsort(first)] = np.arange(len(first))
        return Partition(number[inverse.ravel()], len(first))

    @cached_property
    def sizes(self) -> Indices:
        """(levels): cells of each level."""
        return np.bincount(self.codes, minlength=self.levels)

    @cached_property
    def first(self) -> Indices:
        """(levels): the first cell of each level."""
        return np.unique(self.codes, return_index=True)[1].astype(np.int64)

    def join(self, other: Partition) -> Partition:
        """The finest partition that is coarser than both."""
        if self.is_coarser(other):
            return self
        if other.is_coarser(self):
            return other
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n = self.levels + other.levels
        edges = (np.ones(len(self.codes), bool), (self.codes, other.codes + self.levels))
        label = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1]
        return Partition.of(label[self.codes])

    def is_coarser(self, other: Partition) -> bool:
        """Whether each level of the other lies within one of this partition; so do its own."""
        return bool((self.codes[other.first][other.codes] == self.codes).all())

    def averages(self, finer: Partition) -> Any:
        """(levels, finer.levels), sparse: the mean over a level of this partition of what is constant on levels of another, which
        need not be finer."""
        from scipy.sparse import coo_array

        kept = self._averages.get(id(finer))
        if kept is None or kept[0] is not finer:
            weights = 1.0 / self.sizes[self.codes]
            made = coo_array((weights, (self.codes, finer.codes)), shape=(self.levels, finer.levels)).tocsr()
            kept = self._averages[id(finer)] = finer, made
        return kept[1]

    @cached_property
    def _averages(self) -> dict[int, tuple[Partition, Any]]:
        """What `averages` has made, with the partition that it is for, which keeps its identity."""
        return {}


@dataclass(frozen=True)
class Stratum:
    """The stratum of a partition: its degrees of freedom, the numbers of the factors that hold it, and those of the coarser
    strata, which have to be taken off."""

    partition: Partition
    df: int
    holders: tuple[int, ...]
    coarser: tuple[int, ...]

    def __contains__(self, factor: int) -> bool:
        return factor in self.holders


@dataclass(frozen=True)
class Strata:
    """The strata of factors, the coarsest first; those of 0 degrees of freedom are left out.

    averages: by stratum and partition (its identity), the partition and the matrix that averages it.
    """

    factors: tuple[Partition, ...]
    strata: tuple[Stratum, ...]
    averages: dict[tuple[int, int], tuple[Partition, Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def cells(self) -> int:
        return len(self.factors[0].codes)

    def __len__(self) -> int:
        return len(self.strata)

    def cells_of(self, factor: int) -> float:
        """n_f: the cells of each level of a factor."""
        return self.cells / self.factors[factor].levels

    def _average(self, s: int, partition: Partition) -> Any:
        """The matrix that averages what is constant on a partition over a stratum's levels; made once, for all blocks."""
        key = s, id(partition)
        if key not in self.averages:
            self.averages[key] = partition, self.strata[s].partition.averages(partition)
        return self.averages[key][1]

    def tables(self, partition: Partition, values: Array, wanted: Collection[int] | None = None) -> dict[int, Array]:
        """By stratum s, (levels of its partition, ...): P_s of what is constant on the levels of a partition, values (levels,
        ...). wanted: the strata, where it has no part in others."""
        found: dict[int, Array] = {}
        flat = values.reshape(len(values), -1)
        for s, stratum in enumerate(self.strata):
            if wanted is None or s in wanted:
                table = self._average(s, partition) @ flat
                for k in (k for k in stratum.coarser if k in found):
                    table -= found[k][self.strata[k].partition.codes[stratum.partition.first]]
                found[s] = table
        return {s: table.reshape(len(table), *values.shape[1:]) for s, table in found.items()}


def find_strata(codes: Sequence[NDArray[Any]], names: Sequence[str] = ()) -> Strata:
    """The strata of factors given by codes (cells) of their levels; names: for messages. Raises UnbalancedError."""
    names = list(names) or [str(f) for f in range(len(codes))]
    factors = tuple(Partition.of(np.asarray(c)) for c in codes)
    for name, factor in zip(names, factors, strict=True):
        least, most = int(factor.sizes.min()), int(factor.sizes.max())
        if least != most:
            raise UnbalancedError(f"the levels of {name} have {least} to {most} cells each; strata need equally many")
    for f, factor in enumerate(factors):
        for g in range(f):
            if not _is_orthogonal(factors[g], factor):
                raise UnbalancedError(
                    f"the levels of {names[g]} and {names[f]} meet in unequal numbers of cells; strata need factors that "
                    "are nested or fully crossed"
                )
    found = _closure([*factors, Partition(np.arange(len(factors[0].codes)), len(factors[0].codes))])
    found.sort(key=lambda h: h.levels)
    strata: list[Stratum] = []
    for h in found:
        coarser = tuple(k for k, other in enumerate(strata) if other.partition.is_coarser(h))
        df = h.levels - sum(strata[k].df for k in coarser)
        holders = tuple(f for f, factor in enumerate(factors) if h.is_coarser(factor))
        if df > 0:
            strata.append(Stratum(h, df, holders, coarser))
    return Strata(factors, tuple(strata))


def _is_orthogonal(left: Partition, right: Partition) -> bool:
    join = left.join(right)
    keys, first, counts = np.unique(left.codes * right.levels + right.codes, return_index=True, return_counts=True)
    del keys
    expected = left.sizes[left.codes[first]] * right.sizes[right.codes[first]]
    return bool((counts * join.sizes[join.codes[first]] == expected).all())


def _closure(partitions: Sequence[Partition]) -> list[Partition]:
    """The partitions and all their joins, each once."""
    found: list[Partition] = []
    waiting = list(partitions)
    while waiting:
        new = waiting.pop(0)
        if any(h.levels == new.levels and np.array_equal(h.codes, new.codes) for h in found):
            continue
        waiting += [new.join(h) for h in found]
        found.append(new)
    return found
