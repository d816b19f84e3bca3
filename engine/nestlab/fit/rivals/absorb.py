"""Fixed effects of factors: the exact projection off their dummies, for balanced and unbalanced crossings alike.

The dummies of the factor with most levels are taken out by level means, x* = x - mean of its level. The dummies D of the other
factors, so reduced, have cross-products S = D*'D* = D'D - sum over levels g of c_g c_g' / n_g, where c_g counts the levels of
the others among the n_g rows of g. Elimination leaves out the dummies that depend on earlier ones, for two factors one per
connected part of the crossing. With W S W' = I on the rest, x** = x* - D* W'W D*'x*. (For two factors: Abowd, Creecy & Kramarz
2002.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .rows import Array, Codes, level_sums, relabelled

__all__ = ["Dummies"]

#: Pivot of a dummy, over its number of rows, that is rounding: the dummy depends on earlier ones. One row that links two
#: parts of n rows leaves 1 / n.
PIVOT_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Dummies:
    """The dummies of factors on N rows. first: levels (N) of the factor with most levels, `sizes` its rows per level.

    others: per other factor the column (N) of each row's dummy among all h of them. W (k, h): D* W' is orthonormal.
    """

    first: Codes
    sizes: NDArray[np.int64]
    others: tuple[Codes, ...]
    W: Array

    @staticmethod
    def of(factors: Sequence[NDArray[np.integer]]) -> Dummies:
        """The dummies of factors by their levels (N)."""
        coded = sorted((relabelled([codes]) for codes in factors), key=lambda each: -each[1])
        (first, levels), rest = coded[0], coded[1:]
        starts = np.cumsum([0, *(n for _, n in rest)])
        others = tuple(codes + start for (codes, _), start in zip(rest, starts, strict=False))
        sizes, h = np.bincount(first, minlength=levels), int(starts[-1])
        counts, both = np.zeros(levels * h), np.zeros(h * h)
        for a in others:
            counts += np.bincount(first * h + a, minlength=levels * h)
            for b in others:
                both += np.bincount(a * h + b, minlength=h * h)
        C, D = counts.reshape(levels, h), both.reshape(h, h)
        S = D - np.einsum("ga,gb->ab", C / sizes[:, None], C)
        return Dummies(first, sizes, others, _inverse_root(S, np.diagonal(D)))

    @property
    def rank(self) -> int:
        """The number of parameters that the dummies take."""
        return len(self.sizes) + len(self.W)

    def off(self, x: Array) -> Array:
        """x (..., N) less its projection on the dummies."""
        for _ in range(2):  # the second time takes off what rounding left
            x = self._once(x)
        return x

    def _once(self, x: Array) -> Array:
        x = self._off_first(x)
        if not len(self.W):
            return x
        h = self.W.shape[1]
        sums = sum((level_sums(x, codes, h) for codes in self.others), np.zeros((*x.shape[:-1], h)))
        effects = np.einsum("kh,...k->...h", self.W, np.einsum("kh,...h->...k", self.W, sums))
        for codes in self.others:
            x = x - effects[..., codes]
        return self._off_first(x)

    def _off_first(self, x: Array) -> Array:
        return np.asarray(x - (level_sums(x, self.first, len(self.sizes)) / self.sizes)[..., self.first])

    @cached_property
    def basis(self) -> Array:
        """(rank, N): an orthonormal basis of the dummies."""
        N, h = len(self.first), self.W.shape[1]
        own = np.zeros((len(self.sizes), N))
        own[self.first, np.arange(N)] = 1 / np.sqrt(self.sizes[self.first])
        D = np.zeros((h, N))
        for codes in self.others:
            D[codes, np.arange(N)] = 1.0
        return np.concatenate([own, np.einsum("kh,hn->kn", self.W, self._off_first(D))])


def _inverse_root(S: Array, sizes: Array) -> Array:
    """W (k, h) with W S W' = I for positive semi-definite S (h, h) of rank k, from the columns that earlier ones don't give."""
    h = len(S)
    left, W, kept = S.copy(), np.eye(h), []
    for j in range(h):
        pivot = left[j, j]
        if not pivot > PIVOT_TOLERANCE * sizes[j]:
            continue
        kept.append(j)
        factor = left[j + 1 :, j] / pivot
        left[j + 1 :] -= factor[:, None] * left[j]
        W[j + 1 :, : j + 1] -= factor[:, None] * W[j, : j + 1]
        W[j] /= np.sqrt(pivot)
    return W[kept]
