"""Triangular factors of the known columns of clusters: of each of a design's clusters, or of each size that clusters may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .known import known_columns, patterns
from .layout import Array, Design, cluster_sums

__all__ = ["FactorTable", "Factors", "Integers", "known_factor", "known_gram", "known_origin"]

Integers = NDArray[np.int64]

#: What is left of a known column beside the earlier ones, relative to itself, below which it depends on them.
DEPENDENT = 1e-10
#: Rows of known columns that are held at once.
HELD = 2_000_000


def known_factor(K: Array, sizes: Integers) -> Array:
    """(J, k, k): upper-triangular R of each cluster, R'R = K'K, K (N, k), by modified Gram-Schmidt.

    The row of a column that depends on earlier ones is 0.
    """
    rest = K.copy()
    k = K.shape[1]
    factor = np.zeros((len(sizes), k, k))
    for m in range(k):
        length = np.sqrt(cluster_sums(rest[:, m] ** 2, sizes))
        whole = np.sqrt(cluster_sums(K[:, m] * K[:, m], sizes))
        kept = length > DEPENDENT * whole
        factor[kept, m, m] = length[kept]
        q = rest[:, m] * np.repeat(np.divide(1.0, length, out=np.zeros_like(length), where=kept), sizes)
        for i in range(m + 1, k):
            factor[:, m, i] = cluster_sums(q * rest[:, i], sizes)
            rest[:, i] -= q * np.repeat(factor[:, m, i], sizes)
    return factor


def known_gram(K: Array, sizes: Integers) -> Array:
    """(J, pairs): K'K of each cluster, K (N, k)."""
    k = K.shape[1]
    return np.stack([cluster_sums(K[:, i] * K[:, m], sizes) for m in range(k) for i in range(m + 1)], axis=1)


def known_origin(design: Design) -> Array:
    """(known): about which known columns are taken for a while: the mean of those that are centred, 0 for others."""
    origin = np.zeros(design.known)
    for source in {*(source for source, _ in design.centred), *design.means}:
        if source < design.known:
            origin[source] = design.known_rows[:, source].mean()
    return origin


@dataclass(frozen=True)
class Factors:
    """Of T kinds of clusters: sizes n (T), the factor (T, k, k) of the known columns and their Gram (T, pairs); place (patterns,
    largest + 1): the kind of a cluster by its pattern and size, -1 if there is none."""

    n: Integers
    factor: Array
    gram: Array
    place: Integers

    @property
    def active(self) -> Array:
        """(T, k): 1 for columns that do not depend on earlier ones."""
        return (np.diagonal(self.factor, axis1=1, axis2=2) > 0).astype(float)


class FactorTable:
    """Factors of known columns less their `origin`, by pattern and size, made when a size first occurs: `table(sizes)`, sizes
    (J, R), gives Factors and the kind of each cluster (J, R)."""

    def __init__(self, design: Design, origin: Array) -> None:
        self.design, self.origin = design, origin
        self.pattern = patterns(design.condition)
        self.model = np.unique(self.pattern, return_index=True)[1]  # a cluster of each pattern
        k = design.known
        nothing = np.full((len(self.model), 1), -1)
        self._factors = Factors(np.empty(0, np.int64), np.empty((0, k, k)), np.empty((0, k * (k + 1) // 2)), nothing)

    def __call__(self, sizes: Integers) -> tuple[Factors, Integers]:
        factors = self._factors
        largest = int(sizes.max(initial=0))
        if largest >= factors.place.shape[1] or (factors.place[self.pattern[:, None], sizes] < 0).any():
            factors = self._grown(factors, sizes, largest)
            self._factors = factors  # threads that grow it at once lose time only
        return factors, factors.place[self.pattern[:, None], sizes]

    def _grown(self, old: Factors, sizes: Integers, largest: int) -> Factors:
        place = np.full((len(self.model), max(largest + 1, old.place.shape[1])), -1)
        wanted = np.zeros(place.shape, dtype=bool)
        wanted[self.pattern[:, None], sizes] = True
        place[:, : old.place.shape[1]] = old.place
        pattern, n = np.nonzero(wanted & (place < 0))
        place[pattern, n] = len(old.n) + np.arange(len(n))
        parts = [self._made(self.model[pattern[some]], n[some]) for some in _pieces(n)]
        factor, gram = (
            np.concatenate([before, *new]) for before, *new in zip((old.factor, old.gram), *parts, strict=True)
        )
        return Factors(np.concatenate([old.n, n]), factor, gram, place)

    def _made(self, clusters: Integers, n: Integers) -> tuple[Array, Array]:
        if self.design.known == 1:
            return np.sqrt(n.astype(float))[:, None, None], n.astype(float)[:, None]
        K = known_columns(self.design.condition, n, clusters) - self.origin
        return known_factor(K, n), known_gram(K, n)


def _pieces(n: Integers) -> Iterator[slice]:
    """Runs of clusters with not too many rows in all."""
    run = np.cumsum(n) // HELD
    ends = np.flatnonzero(np.diff(run)) + 1
    for first, last in zip([0, *ends], [*ends, len(n)], strict=True):
        yield slice(first, last)
