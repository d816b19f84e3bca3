"""Replicates of one condition to the sums that the measures need (`sums.py`), a row a quantity (`quantities.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..spec.measures import QUANTITIES
from .quantities import AlignedMethod, Mask, Quantity, aligned, columns_of, of_method, quantities
from .results import MethodResults
from .sums import KINDS, LEAF, Key, Sums, leaf_counts, leaf_moments, subtrees

__all__ = ["collect"]

Array: TypeAlias = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)


def collect(methods: Sequence[MethodResults], truth: Mapping[str, float]) -> Sums:
    """The sums of replicates first, first + 1, ..., the same of all methods; the first method is the reference of relprec.

    truth: as in `performance.summarise`. ValueError where methods do not have the same consecutive replicates.
    """
    replicate = methods[0].replicate
    first, last = int(replicate[0]), int(replicate[-1]) + 1
    if any(not np.array_equal(method.replicate, np.arange(first, last)) for method in methods):
        raise ValueError(
            "methods have different replicates, or some are left out; give consecutive ones, the same of each"
        )
    grid = _Leaves(first, last)
    found: dict[str, list[tuple[Key, Array]]] = {kind: [] for kind in KINDS}
    with np.errstate(all="ignore"):
        for key, kind, values in _all(aligned(methods), truth, grid):
            found[kind].append((key, values))
    leaves = {kind: np.stack([values for _, values in listed]) for kind, listed in found.items() if listed}
    keys = {kind: tuple(key for key, _ in listed) for kind, listed in found.items() if listed}
    with np.errstate(all="ignore"):
        return Sums(keys, tuple(subtrees(leaves, first, last)))


class _Leaves(NamedTuple):
    """Replicates first .. last - 1 laid out by leaves."""

    first: int
    last: int

    def __call__(self, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """(R,) to (leaves, LEAF), 0 where there is no replicate."""
        before, after = self.first % LEAF, -self.last % LEAF
        padded = np.zeros(before + len(values) + after, dtype=values.dtype)
        padded[before : before + len(values)] = values
        return padded.reshape(-1, LEAF)


class _SummedQuantity:
    """One quantity by leaves: `summed(mask)`. Equal masks share their sums."""

    def __init__(self, quantity: Quantity, grid: _Leaves) -> None:
        kind = "means" if quantity.name == "size" and quantity.y is not None else QUANTITIES[quantity.name][1]
        self.kind, self._grid = KINDS[kind], grid
        self._x: NDArray[Any] = grid(quantity.x)
        self._y = None if quantity.y is None else grid(quantity.y)
        self._within = None if quantity.within is None else grid(quantity.within)
        self._made: list[tuple[Mask, Array]] = []

    def __call__(self, mask: Mask) -> Array:
        """(leaves, width). mask: (leaves, LEAF)."""
        mask = mask if self._within is None else mask & self._within
        for known, values in self._made:
            if np.array_equal(known, mask):
                return values
        values = leaf_moments(mask, self._x, self._y, self.kind) if self.kind.moments else leaf_counts(mask, self._x)
        self._made.append((mask, values))
        return values


def _all(runs: Sequence[AlignedMethod], truth: Mapping[str, float], grid: _Leaves) -> Iterator[tuple[Key, str, Array]]:
    for run in runs:
        for name, subset, told, hits in of_method(run.method):
            yield Key(run.method.name, "", subset, name), "count", leaf_counts(grid(told), grid(hits))
    for estimand in dict.fromkeys(name for run in runs for name in run.method.estimands):
        for columns, subsets in columns_of(estimand, runs):
            method = columns.run.method
            listed = quantities(columns, method.true_value(estimand, truth))
            summed = [(q.name, _SummedQuantity(q, grid)) for q in listed if QUANTITIES[q.name][1]]
            for subset, masks, population in subsets:
                own = Key(method.name, estimand, subset, "population")
                if population is not None:
                    whole = grid(population)
                    yield own, "count", leaf_counts(whole, whole)
                laid = {kind: grid(mask) for kind, mask in masks.items()}
                for name, quantity in summed:
                    yield own._replace(quantity=name), quantity.kind.name, quantity(laid[QUANTITIES[name][0]])
