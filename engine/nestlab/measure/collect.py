"""Replicates of one condition to the sums that the measures need (`sums.py`); `summed.py` makes the measures of them.

One quantity a row, x_i the estimates (less the replicate's own truth, where it has one):

    population                  count   the replicates of the subset, with a result or without
    estimate                    spread  estimates
    error                       spread and mean of (x, own truth), of replicates with truths of their own
    square                      mean    (x - truth)^2
    se                          spread and mean of (x, se^2)
    cover, below, above, width  count, and mean of the widths
    power, wrong, size          count, count, mean of |x - null| / |truth - null| or means of both (see `rejection_measures`)
    pair                        spreads of (x, the reference's x - x)
    converged, ...              count   of the method as a whole
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .performance import Run, Target, aligned, targets_of
from .results import MethodResults
from .sums import KINDS, LEAF, Key, Sums, leaf_counts, leaf_moments, subtrees

__all__ = ["OF_A_METHOD", "collect"]

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)

#: Measures of a method as a whole.
OF_A_METHOD = ("converged", "singular", "failed", "inference_failed", "selected")


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
    grid = _Grid(first, last)
    found: dict[str, list[tuple[Key, Array]]] = {kind: [] for kind in KINDS}
    with np.errstate(all="ignore"):
        for key, kind, values in _all(aligned(methods), truth, grid):
            found[kind].append((key, values))
    leaves = {kind: np.stack([values for _, values in listed]) for kind, listed in found.items() if listed}
    keys = {kind: tuple(key for key, _ in listed) for kind, listed in found.items() if listed}
    with np.errstate(all="ignore"):
        return Sums(keys, tuple(subtrees(leaves, first, last)))


class _Grid(NamedTuple):
    """Replicates first .. last - 1 laid out by leaves."""

    first: int
    last: int

    def __call__(self, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """(R,) to (leaves, LEAF), 0 where there is no replicate."""
        before, after = self.first % LEAF, -self.last % LEAF
        padded = np.zeros(before + len(values) + after, dtype=values.dtype)
        padded[before : before + len(values)] = values
        return padded.reshape(-1, LEAF)


class _Quantity(NamedTuple):
    """What is summed where a method has a result of some kind, and `within`: hits (counts), or columns x and y. All (R,)."""

    name: str
    kind: str
    result: str
    x: NDArray[Any]
    y: Array | None = None
    within: Mask | None = None


class _Summed:
    """One quantity by leaves: `summed(mask)`. Equal masks share their sums."""

    def __init__(self, quantity: _Quantity, grid: _Grid) -> None:
        self._kind, self._grid = KINDS[quantity.kind], grid
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
        values = leaf_moments(mask, self._x, self._y, self._kind) if self._kind.moments else leaf_counts(mask, self._x)
        self._made.append((mask, values))
        return values


def _all(runs: Sequence[Run], truth: Mapping[str, float], grid: _Grid) -> Iterator[tuple[Key, str, Array]]:
    for run in runs:
        for name, subset, mask, hits in _of_method(run.method):
            yield Key(run.method.name, "", subset, name), "count", leaf_counts(grid(mask), grid(hits))
    for estimand in dict.fromkeys(name for run in runs for name in run.method.estimands):
        for target, subsets in targets_of(estimand, runs):
            quantities = [
                (q, _Summed(q, grid)) for q in _quantities(target, target.run.method.true_value(estimand, truth))
            ]
            for subset, masks, population in subsets:
                own = Key(target.run.method.name, estimand, subset, "population")
                if population is not None:
                    whole = grid(population)
                    yield own, "count", leaf_counts(whole, whole)
                laid = {kind: grid(mask) for kind, mask in masks.items()}
                for quantity, summed in quantities:
                    yield own._replace(quantity=quantity.name), quantity.kind, summed(laid[quantity.result])


def _of_method(method: MethodResults) -> Iterator[tuple[str, str, Mask, Mask]]:
    """(measure, subset, replicates, hits) of a method as a whole."""
    everyone = np.ones(method.replicate.size, dtype=bool)
    for measure in ("converged", "singular", "failed", "inference_failed"):
        hits = getattr(method, measure)
        if hits is not None:
            yield measure, "all", everyone, hits
    if method.selected is not None:
        yield "selected", "all", np.isfinite(method.selected), method.selected > 0
    yield "singular", "converged", method.converged, method.singular


def _quantities(target: Target, truth: float) -> Iterator[_Quantity]:
    part, x, error = target.part, target.x, target.error
    own = None if part.truth is None else np.asarray(part.truth, dtype=np.float64)
    if x is not None and error is not None:
        yield _Quantity("estimate", "spread", "estimate", x)
        if own is not None:
            yield _Quantity("error", "spread and mean", "estimate", error, own)
        if own is not None or math.isfinite(truth):
            away = error if own is not None else x - truth
            yield _Quantity("square", "mean", "estimate", away * away)
        yield from _inference(target, error, truth if own is None else 0.0)
    if target.rejects is not None:
        yield _Quantity("power", "count", "test", target.rejects)
        if x is not None and part.equivalence is None:
            yield from _rejections(target.rejects, x - part.null, (truth if own is None else own) - part.null)


def _inference(target: Target, x: Array, truth: float) -> Iterator[_Quantity]:
    """Of standard errors, intervals and relprec; x: estimates, or errors about a truth of 0."""
    if target.se is not None:
        yield _Quantity("se", "spread and mean", "error", x, target.se * target.se)
    width, below, above = None, None, None
    if target.ends is not None:
        lower, upper = target.ends
        width, below, above = upper - lower, upper < truth, lower > truth
    elif target.half is not None:
        error = x - truth
        width, below, above = 2 * target.half, -error > target.half, error > target.half
    if width is not None and below is not None and above is not None:
        if math.isfinite(truth):
            for name, hits in (("cover", ~(below | above)), ("below", below), ("above", above)):
                yield _Quantity(name, "count", "interval", hits)
        yield _Quantity("width", "mean", "interval", width)
    if target.reference is not None:
        yield _Quantity("pair", "spreads", "pair", x, target.reference - x)


def _rejections(rejects: Mask, found: Array, effect: float | Array) -> Iterator[_Quantity]:
    """Of type_s and type_m; found and effect: estimates and truth less the null."""
    if isinstance(effect, np.ndarray):
        kept = rejects & np.isfinite(found) & np.isfinite(effect)
        yield _Quantity("wrong", "count", "test", found * effect < 0, within=kept)
        yield _Quantity("size", "means", "test", np.abs(found), np.abs(effect), within=kept)
    elif effect != 0 and math.isfinite(effect):
        found, kept = found / effect, rejects & np.isfinite(found)
        yield _Quantity("wrong", "count", "test", found < 0, within=kept)
        yield _Quantity("size", "mean", "test", np.abs(found), within=kept)
