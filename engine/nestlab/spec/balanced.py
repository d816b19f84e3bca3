"""Balanced predictors: 0/1 in halves that are as equal as the numbers of units allow.

Within clusters of an odd number of rows one value has a row more. It is 0 in one such cluster and 1 in the next, in each arm (or
other kind of cluster that the design knows), so that neither value has fewer rows than the other by more than one a kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .model import Layout, Predictor

__all__ = ["alternating", "has_odd_rows", "kinds_of_clusters", "odd_rows"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def alternating(sizes: Integers, earlier: Sequence[Integers]) -> Integers:
    """0/1 alternating within each group of `sizes` units, beginning with 0, crossed with the balanced predictors before it.

    Units are taken in the order of a Gray code of the earlier ones. So three of them on four units are half of a 2^3 design, with
    separate main effects; in plain order the third would equal the second.
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    keys = [np.bitwise_xor.reduce(earlier[:k], axis=0) for k in range(1, len(earlier) + 1)]
    order = np.lexsort((*reversed(keys), group))  # sorted by its last key first; ties keep their order
    values = np.empty(len(group), dtype=np.int64)
    values[order] = (np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)) % 2
    return values


def kinds_of_clusters(predictors: Sequence[Predictor], clusters: int) -> list[Array]:
    """(J) each: what the design knows of its clusters: arms, balanced and listed values, sequences of schedules."""
    found: list[Array] = []
    balanced: list[Integers] = []
    for p in predictors:
        if p.distribution == "arms":
            found.append(np.resize(np.repeat(np.arange(len(p.arms)), p.arms), clusters).astype(float))
        elif p.distribution == "schedule":
            found.append((np.arange(clusters) % len(p.sequences)).astype(float))
        elif p.level == 2 and p.distribution == "balanced":
            balanced.append(alternating(np.array([clusters]), balanced))
            found.append(balanced[-1].astype(float))
        elif p.level == 2 and p.distribution == "list":
            found.append(np.resize(np.array(p.values, dtype=float), clusters))
    return found


def odd_rows(odd: NDArray[np.bool_], kinds: Sequence[Array]) -> Integers:
    """(J): the value that has a row more in each of some clusters, `odd` (J): 0, 1, 0, ... sorted by `kinds` (J) each; else 0."""
    places = np.flatnonzero(odd)
    order = np.lexsort(tuple(kind[places] for kind in reversed(kinds))) if kinds else np.arange(len(places))
    values = np.zeros(len(odd), dtype=np.int64)
    values[places[order]] = np.arange(len(places)) % 2
    return values


def has_odd_rows(predictors: Sequence[Predictor], layout: Layout) -> bool:
    """Whether a balanced predictor varies within clusters of which some have, or may have, an odd number of rows."""
    odd = any(size % 2 for size in layout.sizes) or any(sizes is not None for _, sizes in layout.drawn)
    return odd and any(p.level == 1 and p.distribution == "balanced" for p in predictors)
