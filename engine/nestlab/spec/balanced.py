"""Balanced predictors: 0/1 in halves that are as equal as the numbers of units allow, or by other shares.

Within clusters of an odd number of rows one value has a row more. It is 0 in one such cluster and 1 in the next, in each arm (or
other kind of cluster that the design knows), so that neither value has fewer rows than the other by more than one a kind. By
other shares than halves, every cluster of one size has the same numbers of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .allocation import allotted
from .factors import coded
from .model import Layout, Predictor

__all__ = [
    "allocated",
    "alternating",
    "between_numbers",
    "blocks_of",
    "has_odd_rows",
    "kinds_of_clusters",
    "odd_rows",
    "takes_turns",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
_HALVES = (0.5, 0.5)


def alternating(sizes: Integers, earlier: Sequence[Integers], shares: Sequence[float] = ()) -> Integers:
    """0, 1, ... by their shares (0/1 alternating) within each group of `sizes` units, crossed with the balanced ones before it.

    Units are taken in the order of a Gray code of the earlier ones. So three of them on four units are half of a 2^3 design, with
    separate main effects; in plain order the third would equal the second.
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    keys = [np.bitwise_xor.reduce(earlier[:k], axis=0) for k in range(1, len(earlier) + 1)]
    order = np.lexsort((*reversed(keys), group))  # sorted by its last key first; ties keep their order
    values = np.empty(len(group), dtype=np.int64)
    turns = allotted(shares or _HALVES, int(sizes.max(initial=0)))
    values[order] = turns[np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)]
    return values


def allocated(predictor: Predictor, strata: Sequence[Array], clusters: int) -> Integers:
    """(J): the numbers of a level-2 predictor, handed out block by block.

    strata (J) each: what tells the blocks apart, the first one deciding first; where they are drawn, or none is known, numbers
    are handed out in the order of the clusters.
    """
    values = np.empty(clusters, dtype=np.int64)
    order = np.lexsort(tuple(reversed(strata))) if len(strata) else np.arange(clusters)
    values[order] = allotted(predictor.shares or _HALVES, clusters)
    return values


def between_numbers(predictors: Sequence[Predictor], clusters: int) -> dict[str, Array]:
    """(J) each, by name: the values, or numbers of categories, that the layout gives to whole clusters.

    So it does for arms, and for balanced and listed predictors of level 2; strata come before what is allocated within them.
    """
    by_name, found = {p.name: p for p in predictors}, dict[str, Array]()
    balanced: list[Integers] = []
    for p in sorted(predictors, key=lambda p: bool(p.blocks)):
        if p.distribution == "arms":
            found[p.name] = np.resize(np.repeat(np.arange(len(p.arms)), p.arms), clusters).astype(float)
        elif p.level == 2 and p.blocks:
            found[p.name] = allocated(p, blocks_of(p, by_name, found, clusters), clusters).astype(float)
        elif p.level == 2 and p.distribution == "balanced":
            balanced.append(alternating(np.array([clusters]), balanced, p.shares))
            found[p.name] = balanced[-1].astype(float)
        elif p.level == 2 and p.distribution == "list":
            found[p.name] = np.resize(np.array(p.values, dtype=float), clusters)
    return found


def blocks_of(
    predictor: Predictor, by_name: Mapping[str, Predictor], numbers: Mapping[str, Array], clusters: int
) -> list[Array]:
    """(J) each: what tells the blocks of a predictor apart; nothing where they are values of a predictor that is drawn."""
    if isinstance(predictor.blocks, int):
        return [np.asarray(np.arange(clusters) // predictor.blocks, dtype=float)]
    if predictor.blocks not in numbers:
        return []
    return list(coded(by_name[predictor.blocks], numbers[predictor.blocks]).values())


def kinds_of_clusters(predictors: Sequence[Predictor], clusters: int) -> list[Array]:
    """(J) each: what the design knows of its clusters: arms, balanced and listed values, sequences of schedules."""
    numbers = between_numbers(predictors, clusters)
    for p in predictors:
        if p.distribution == "schedule":
            numbers[p.name] = (np.arange(clusters) % len(p.sequences)).astype(float)
    return [numbers[p.name] for p in predictors if p.name in numbers]


def takes_turns(predictor: Predictor) -> bool:
    """Whether it has halves of each cluster's rows, of which the odd one is of each kind in turn."""
    return predictor.level == 1 and predictor.distribution == "balanced" and predictor.shares in ((), _HALVES)


def odd_rows(odd: NDArray[np.bool_], kinds: Sequence[Array]) -> Integers:
    """(J): the value that has a row more in each of some clusters, `odd` (J): 0, 1, 0, ... sorted by `kinds` (J) each; else 0."""
    places = np.flatnonzero(odd)
    order = np.lexsort(tuple(kind[places] for kind in reversed(kinds))) if kinds else np.arange(len(places))
    values = np.zeros(len(odd), dtype=np.int64)
    values[places[order]] = np.arange(len(places)) % 2
    return values


def has_odd_rows(predictors: Sequence[Predictor], layout: Layout) -> bool:
    """Whether a predictor in halves varies within clusters of which some have, or may have, an odd number of rows."""
    odd = any(size % 2 for size in layout.sizes) or any(sizes is not None for _, sizes in layout.drawn)
    return odd and any(map(takes_turns, predictors))
