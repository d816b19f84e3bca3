"""Rows of R replicates with their grouping factors, and the patterns of rows and levels that replicates share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CrossedRows", "Pattern", "level_sums", "product", "relabelled"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


def relabelled(codes: Sequence[NDArray[np.integer]]) -> tuple[Codes, int]:
    """The levels of a factor, or of the crossing of several, as 0, 1, ... (N), and their number.

    >>> relabelled([np.array([7, 7, 2]), np.array([0, 1, 0])])
    (array([1, 2, 0]), 3)
    """
    found, levels = _ranked(codes[0])
    for each in codes[1:]:
        own, number = _ranked(each)
        found, levels = _ranked(found * number + own)
    return found, levels


def _ranked(values: NDArray[np.generic]) -> tuple[Codes, int]:
    """The rank (N) of each value among the distinct ones, and their number."""
    if (
        values.dtype.kind in "iu" and len(values) and np.ptp(values) < 16 * len(values)
    ):  # a table is faster than sorting
        places = values.astype(np.int64) - int(values.min())
        ranks = np.cumsum(np.bincount(places) > 0) - 1
        return ranks[places], int(ranks[-1]) + 1
    names, found = np.unique(values, return_inverse=True)
    return found.reshape(-1).astype(np.int64), len(names)


def level_sums(values: Array, codes: Codes, levels: int) -> Array:
    """Sums (..., levels) of values (..., N) over the rows of each level."""
    flat = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    places = codes + levels * np.arange(len(flat))[:, None]
    sums = np.bincount(places.reshape(-1), flat.reshape(-1), levels * len(flat))
    return np.asarray(sums.reshape(*values.shape[:-1], levels), dtype=float)


def product(A: Array, B: Array) -> Array:
    """A B' (..., i, j) of A (..., i, k) and B (..., j, k), the sums always in one order."""
    return np.asarray((A[..., :, None, :] * B[..., None, :, :]).sum(axis=-1))


@dataclass(frozen=True)
class Pattern:
    """Replicates that share their rows and levels: X (D, p, N), D the number of replicates, or 1 where they share X too; y
    (replicates, N); the levels (N) of each factor as the study numbers them. replicates: their places among all."""

    replicates: NDArray[np.int64]
    X: Array
    y: Array
    codes: Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class CrossedRows:
    """Rows of R replicates.

    X (p, N, R or 1): the columns of the fixed effects. y (N, R). codes: by factor the level of each row, (N), or (N, R) where
    it is drawn anew. kept (N, R): the rows that a replicate has, None where it has all.
    """

    X: Array
    y: Array
    codes: Mapping[str, NDArray[np.integer]]
    kept: NDArray[np.bool_] | None = None

    @property
    def replicates(self) -> int:
        return int(self.y.shape[1])

    @property
    def same_levels(self) -> bool:
        """Whether the levels are those of all replicates, but for missing rows."""
        return all(codes.ndim == 1 for codes in self.codes.values())

    @property
    def shared(self) -> bool:
        """Whether X and the levels are those of all replicates, but for missing rows."""
        return self.X.shape[2] == 1 and self.same_levels

    def patterns(self, most: int = 64) -> Iterator[Pattern]:
        """All replicates at once where they share rows, levels and X; at most `most` where they share rows and levels; else one
        after the other."""
        R = self.replicates
        if self.kept is not None or not self.same_levels:
            most = 1
        elif self.shared:
            most = R
        for low in range(0, R, most):
            yield self.alone(np.arange(low, min(low + most, R)))

    def alone(self, replicates: NDArray[np.int64], *, whole: bool = False) -> Pattern:
        """The rows of replicates that share them. whole: of the design, missing ones included."""
        r = int(replicates[0])
        N = len(self.y)
        rows = np.arange(N) if self.kept is None or whole else np.flatnonzero(self.kept[:, r])
        X = (self.X if self.X.shape[2] == 1 else self.X[:, :, replicates]).transpose(2, 0, 1)
        codes = {name: (codes if codes.ndim == 1 else codes[:, r])[rows] for name, codes in self.codes.items()}
        y = self.y[:, replicates].T[:, rows]
        return Pattern(replicates, np.ascontiguousarray(X[:, :, rows]), np.ascontiguousarray(y), codes)
