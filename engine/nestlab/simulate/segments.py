"""Compiled work on ragged rows: segments, one a cluster and replicate, follow one another in arrays of n rows.

Segment s is rows starts[s] .. starts[s + 1] - 1; those of a replicate's J clusters stand side by side. What a segment's rows give
depends on them alone, so how many segments are held at once changes nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .compiled import compiled
from .lookup import value_at

__all__ = ["accumulate", "add_linear", "centre", "compress", "count", "make_errors", "means", "score"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
#: Relative to a mean, deviations from it that are none.
ROUNDING = 1e-14


@compiled(fastmath={"contract"})
def score(
    noise: Array, weights: Array, share: float, between: Array, starts: Integers, out: Array
) -> None:  # pragma: no cover
    """out (n): normal scores sqrt(share) between[s] + sqrt(1 - share) (weights . noise). noise (n, w), weights (k <= w); between
    (segments), or empty where the share is 0."""
    k = len(weights)
    if len(between) == 0:
        for i in range(len(out)):
            value = 0.0
            for m in range(k):
                value += weights[m] * noise[i, m]
            out[i] = value
        return
    inner, outer = np.sqrt(1.0 - share), np.sqrt(share)
    for s in range(len(starts) - 1):
        common = outer * between[s]
        for i in range(starts[s], starts[s + 1]):
            value = 0.0
            for m in range(k):
                value += weights[m] * noise[i, m]
            out[i] = common + inner * value


@compiled(fastmath={"contract"})
def make_errors(
    noise: Array, column: int, cubics: Array, ar1: float, scale: Array, starts: Integers, e: Array
) -> None:  # pragma: no cover
    """e (n): scale[s] times what the table makes of normal scores, which are an autoregression of variance 1 with correlation
    ar1; so each row has the table's distribution."""
    new = np.sqrt(1.0 - ar1 * ar1)
    for s in range(len(starts) - 1):
        before = 0.0
        for i in range(starts[s], starts[s + 1]):
            value = noise[i, column]
            if ar1 != 0.0:
                if i > starts[s]:
                    value = ar1 * before + new * value
                before = value
            if cubics.shape[0] > 0:
                value = value_at(cubics, value)
            e[i] = scale[s] * value


@compiled()
def means(values: Array, starts: Integers, out: Array) -> None:  # pragma: no cover
    """out (segments): the mean of each, 0 of an empty one."""
    for s in range(len(starts) - 1):
        total = 0.0
        for i in range(starts[s], starts[s + 1]):
            total += values[i]
        out[s] = total / max(starts[s + 1] - starts[s], 1)


@compiled()
def centre(values: Array, mean: Array, starts: Integers, out: Array) -> None:  # pragma: no cover
    """out = values less the mean of their segment; 0 where all that is left of the segment is rounding."""
    for s in range(len(starts) - 1):
        largest = 0.0
        for i in range(starts[s], starts[s + 1]):
            out[i] = values[i] - mean[s]
            largest = max(largest, abs(out[i]))
        if largest <= ROUNDING * abs(mean[s]):
            out[starts[s] : starts[s + 1]] = 0.0


@compiled(fastmath={"contract"})
def add_linear(D: Array, columns: Integers, weights: Array, starts: Integers, out: Array) -> None:  # pragma: no cover
    """out (n) += D[columns] . weights of the segment. D (d, n), weights (segments, columns)."""
    for s in range(len(starts) - 1):
        for k in range(len(columns)):
            column, weight = columns[k], weights[s, k]
            if weight != 0.0:
                for i in range(starts[s], starts[s + 1]):
                    out[i] += weight * D[column, i]


@compiled()
def compress(values: Array, kept: NDArray[np.bool_], out: Array) -> None:  # pragma: no cover
    """out (columns * n + 1) = values[:, kept], n rows, and a number of no meaning: a row that is lost is written, too, and then
    written over, which costs less than a branch."""
    place = 0
    for k in range(values.shape[0]):
        for i in range(values.shape[1]):
            out[place] = values[k, i]
            place += kept[i]


@compiled()
def count(kept: NDArray[np.bool_], starts: Integers, out: Integers) -> None:  # pragma: no cover
    """out (segments + 1): where segments begin when only the rows kept are left."""
    total = 0
    for s in range(len(starts) - 1):
        out[s] = total
        for i in range(starts[s], starts[s + 1]):
            total += kept[i]
    out[len(starts) - 1] = total


@njit(error_model="numpy", fastmath={"contract"})
def _dot(a: Array, b: Array, start: int, stop: int) -> float:  # pragma: no cover
    """Four sums side by side: one alone waits for itself."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    i = start
    while i + 3 < stop:
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        i += 4
    while i < stop:
        s0 += a[i] * b[i]
        i += 1
    return (s0 + s1) + (s2 + s3)


@compiled(fastmath={"contract"})
def accumulate(
    D: Array, e: Array, starts: Integers, J: int, first: int, known: int, dd: Array, de: Array, ee: Array
) -> None:  # pragma: no cover
    """D'D (J, pairs, R) of columns known, known + 1, ... with all before them, D'e (J, d, R) and e'e (J, R) of replicates first,
    first + 1, ..., from D (d, n) and e (n)."""
    for s in range(len(starts) - 1):
        j, r = s % J, first + s // J
        start, stop = starts[s], starts[s + 1]
        for k in range(D.shape[0]):
            de[j, k, r] = _dot(D[k], e, start, stop)
            if k >= known:
                for i in range(k + 1):
                    dd[j, k * (k + 1) // 2 + i, r] = _dot(D[i], D[k], start, stop)
        ee[j, r] = _dot(e, e, start, stop)
