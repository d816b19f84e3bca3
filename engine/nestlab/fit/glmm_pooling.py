"""Rows of binary and count outcomes pooled: equal rows of a cluster into one, equal clusters into one with a repeat count."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..simulate.compiled import compiled

__all__ = ["Pooled", "pool_rows", "sums_of"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pooled:
    """The rows of R replicates, one after the other, as `glmm_kernel.fit_glmm` takes them. n: trials, or rows pooled."""

    X: Array
    Z: Array
    y: Array
    n: Array
    starts: Integers
    cluster: Integers
    repeat: Array
    repeats: Array
    first_row: Integers
    first_cluster: Integers

    def added(self) -> Array:
        """(R): sum of y log n, which offsets of log n add to the log likelihood of pooled counts."""
        return sums_of(self.repeats * self.y * np.log(self.n), self.first_row)


def sums_of(values: Array, starts: Integers) -> Array:
    """(R): the sums of values from one start to the next; each on its own, so that its bits do not depend on those before."""
    return np.array([values[first:last].sum() for first, last in itertools.pairwise(starts)])


def pool_rows(X: Array, Z: Array, y: Array, starts: Integers, J: int, trials: int) -> Pooled:
    """Pool the rows of replicates of J clusters each; starts (R J + 1): where clusters begin. Clusters without rows are left out.

    X (p, N), Z (q, N), y (N). Rows of a cluster are pooled if all their columns are equal; to be found they must follow the first
    of their kind within a few distinct rows, so that clusters of distinct rows cost little.
    """
    N, R = len(y), (len(starts) - 1) // J
    rows, clusters = np.zeros(R + 1, dtype=np.int64), np.zeros(R + 1, dtype=np.int64)
    place, made = np.empty(N, dtype=np.int64), np.empty(N)
    n, cluster, repeats = np.empty(N), np.empty(N, dtype=np.int64), np.empty(N)
    begin, repeat = np.empty(len(starts) + R, dtype=np.int64), np.empty(len(starts))
    _pool(X, Z, y, starts, J, float(trials), rows, clusters, place, made, n, cluster, repeats, begin, repeat)
    kept = rows[-1]
    place = place[:kept]
    return Pooled(
        np.ascontiguousarray(X[:, place]), np.ascontiguousarray(Z[:, place]), made[:kept], n[:kept],
        begin[: clusters[-1] + R], cluster[:kept], repeat[: clusters[-1]], repeats[:kept], rows, clusters,
    )  # fmt: skip


@compiled()
def _pool(X, Z, y, starts, J, trials, rows, clusters, place, made, n, cluster, repeats, begin, repeat):
    few = 8
    p, q = len(X), len(Z)
    done, total = 0, 0
    for r in range(len(rows) - 1):
        first_row, first_cluster = done, total
        begin[total + r] = 0
        for j in range(r * J, r * J + J):
            if starts[j] == starts[j + 1]:
                continue
            top = done
            for i in range(starts[j], starts[j + 1]):
                found = -1
                for k in range(top, min(done, top + few)):
                    same = True
                    for c in range(p):
                        if X[c, i] != X[c, place[k]]:
                            same = False
                            break
                    if same:
                        for c in range(q):
                            if Z[c, i] != Z[c, place[k]]:
                                same = False
                                break
                    if same:
                        found = k
                        break
                if found < 0:
                    place[done], made[done], n[done] = i, y[i], trials
                    done += 1
                else:
                    made[found] += y[i]
                    n[found] += trials
            # a cluster like one before, of few rows
            size, twin = done - top, -1
            if size <= few:
                for c in range(first_cluster, total):
                    if c - first_cluster > 64:
                        break
                    start = first_row + begin[c + r]
                    if begin[c + r + 1] - begin[c + r] != size:
                        continue
                    same = True
                    for k in range(size):
                        a, b = top + k, start + k
                        if made[a] != made[b] or n[a] != n[b]:
                            same = False
                            break
                    if same:
                        for k in range(size):
                            for c2 in range(p):
                                if X[c2, place[top + k]] != X[c2, place[start + k]]:
                                    same = False
                            for c2 in range(q):
                                if Z[c2, place[top + k]] != Z[c2, place[start + k]]:
                                    same = False
                    if same:
                        twin = c
                        break
            if twin >= 0:
                repeat[twin] += 1.0
                done = top
            else:
                repeat[total] = 1.0
                for k in range(top, done):
                    cluster[k] = total - first_cluster
                total += 1
                begin[total + r] = done - first_row
        for k in range(first_row, done):
            repeats[k] = repeat[first_cluster + cluster[k]]
        rows[r + 1], clusters[r + 1] = done, total
