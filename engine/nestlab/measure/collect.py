"""Replicates of one condition to the sums that the measures need (`sums.py`), a row a quantity (`quantities.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..spec.measures import QUANTITIES, Array, Mask
from .quantities import Quantity, aligned, columns_of, of_method, quantities
from .results import MethodResults
from .sums import KINDS, LEAF, SumKey, Sums, leaf_counts, leaf_moments, subtrees

__all__ = ["collect"]

#: (R,) to (leaves, LEAF), 0 where there is no replicate.
_Grid: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


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

    def grid(values: NDArray[Any]) -> NDArray[Any]:
        return np.pad(values, (first % LEAF, -last % LEAF)).reshape(-1, LEAF)

    found: dict[str, dict[SumKey, Array]] = {kind: {} for kind in KINDS}
    with np.errstate(all="ignore"):
        for key, kind, values in _all(methods, truth, grid):
            found[kind][key] = values
        leaves = {kind: np.stack(list(listed.values())) for kind, listed in found.items() if listed}
        return Sums({kind: tuple(found[kind]) for kind in leaves}, tuple(subtrees(leaves, first, last)))


def _all(
    methods: Sequence[MethodResults], truth: Mapping[str, float], grid: _Grid
) -> Iterator[tuple[SumKey, str, Array]]:
    runs = aligned(methods)
    for method in methods:
        for name, subset, told, hits in of_method(method):
            yield SumKey(method.name, "", subset, name), "count", leaf_counts(grid(told), grid(hits))
    for estimand in dict.fromkeys(name for method in methods for name in method.estimands):
        for columns, subsets in columns_of(estimand, runs):
            method = columns.run.method
            listed = [q for q in quantities(columns, method.true_value(estimand, truth)) if QUANTITIES[q.name][1]]
            summed = [_summed(quantity, grid) for quantity in listed]
            for subset, masks, population in subsets:
                own = SumKey(method.name, estimand, subset, "population")
                if population is not None:
                    yield own, "count", leaf_counts(grid(population), grid(population))
                laid = {kind: grid(mask) for kind, mask in masks.items()}
                for quantity, (kind, sums) in zip(listed, summed, strict=True):
                    yield own._replace(quantity=quantity.name), kind, sums(laid[QUANTITIES[quantity.name][0]])


def _summed(quantity: Quantity, grid: _Grid) -> tuple[str, Callable[[Mask], Array]]:
    """What is kept of a quantity, and its sums (leaves, width) by mask (leaves, LEAF); equal masks share them."""
    name = "means" if quantity.name == "size" and quantity.y is not None else QUANTITIES[quantity.name][1]
    x, kind = grid(quantity.x), KINDS[name]
    y, within = (None if column is None else grid(column) for column in (quantity.y, quantity.within))
    made: list[tuple[Mask, Array]] = []

    def sums(mask: Mask) -> Array:
        mask = mask if within is None else mask & within
        for known, values in made:
            if np.array_equal(known, mask):
                return values
        made.append((mask, leaf_moments(mask, x, y, kind) if kind.moments else leaf_counts(mask, x)))
        return made[-1][1]

    return name, sums
