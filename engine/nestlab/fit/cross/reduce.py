"""From a replicate's sums to what the passes work on, for as many replicates at once as a vector has lanes.

Random columns are whitened within each term: the mean of Z'Z over the levels that have rows is the identity. Levels without rows,
of one replicate or of all, have products of 0: they change nothing and are not counted.
"""

from __future__ import annotations

import math

import numpy as np

from ..lanes import LANES, choose, fma, get, put, root, splat
from ..reduce import NONFINITE, PIVOT_TOLERANCE, RANK_DEFICIENT, full_rank, whiten
from ..small import apart, helper, pair, sym
from .passes import add_outer

__all__ = ["reduce_targets"]

#: What is left of y with every random effect free, over what OLS leaves, at which there is no noise; what OLS leaves, over y'y, that
#: is rounding.
NOISELESS, FITTED = 1e-11, 1e-26


@helper
def _count(shape, units, targets, b, ready):
    """Rows, m, and the largest number of levels of a factor that have rows; those of each slot, in `length`."""
    apart()
    present, observed = splat(0.0), splat(0.0)
    for k in range(len(units.q)):
        count, total = splat(0.0), splat(0.0)
        for j in range(units.counts[k], units.counts[k + 1]):
            size = get(targets, (b, j))
            total = total + size
            count = count + choose(size, 0.0, 1.0, 0.0)
        put(ready.length, k, count)
        present = choose(count, present, count, present)
        observed = total
    put(ready.observed, (), observed)
    put(ready.present, (), present)
    put(ready.m, (), observed - (shape.p if shape.reml else 0))


@helper
def _load(shape, units, targets, b, pieces, ready):
    """Copy a batch's sums, y scaled by a power of 2 that brings y'y near 1; status where a replicate isn't finite."""
    apart()
    q, p = units.q[0], shape.p
    width, at = p + 1, units.targets
    check = splat(0.0)
    for t in range(targets.shape[1]):
        check = check + get(targets, (b, t))
    put(ready.rank, (), check)
    put(ready.unit, (), get(targets, (b, at[4] + pair(p, p))))
    for lane in range(LANES):
        size = ready.unit[lane]
        usable = 0.0 < size < np.inf and math.isfinite(ready.rank[lane])
        ready.status[lane] = np.nan if usable else NONFINITE
        ready.unit[lane] = math.ldexp(1.0, -(math.frexp(size)[1] // 2)) if usable else 0.0
    unit = get(ready.unit, ())
    for k in range(at[2] - at[1]):
        put(pieces.R, k, get(targets, (b, at[1] + k)))
    for u in range(len(units.count)):
        s = units.order[u]
        wide = s + width
        for e in range(units.count[u] * q):
            row = units.B[u] + e * wide
            for i in range(wide - 1):
                put(pieces.B, row + i, get(targets, (b, at[2] + row + i)))
            put(pieces.B, row + wide - 1, get(targets, (b, at[2] + row + wide - 1)) * unit)
        for k in range(pair(0, wide)):
            put(pieces.M, units.M[u] + k, get(targets, (b, at[3] + units.M[u] + k)))
        for i in range(s):
            k = units.M[u] + pair(i, wide - 1)
            put(pieces.M, k, get(pieces.M, k) * unit)
    for i in range(width):
        for k in range(i + 1):
            value = get(targets, (b, at[4] + pair(k, i)))
            if i == p:
                value = value * unit
            if k == p:
                value = value * unit
            put(ready.S0, pair(k, i), value)


@helper
def _mean(shape, units, pieces, ready):
    """The mean of Z'Z over each factor's levels, of the columns of one term."""
    apart()
    n = pair(0, units.q[0])
    for s in range(pair(0, shape.q)):
        put(ready.mean, s, splat(0.0))
    for k in range(len(units.q)):
        q, present = units.q[k], get(ready.length, k)
        for a in range(q):
            for c in range(a + 1):
                value = splat(0.0)
                if k == 0:
                    for j in range(len(pieces.own) // n):
                        value = value + get(pieces.R, j * n + pair(c, a))
                else:
                    for u in range(len(units.count)):
                        for j in range(units.levels[u, k]):
                            e = units.begin[u, k] + j * q
                            value = value + get(pieces.M, units.M[u] + pair(e + c, e + a))
                put(ready.mean, sym(units.own[k, a], units.own[k, c]), value / present)


@helper
def _whiten_rest(shape, units, pieces, ready):
    """Whiten the rest's columns, in M and B."""
    apart()
    width, X = shape.p + 1, ready.N
    for u in range(len(units.count)):
        s, M, at = units.order[u], pieces.M, units.M[u]
        wide = s + width
        for k in range(1, len(units.q)):
            q, own = units.q[k], units.own
            for j in range(units.levels[u, k]):
                begin = units.begin[u, k] + j * q
                for b in range(q):
                    inverse = 1.0 / get(ready.U, (own[k, b], own[k, b]))
                    for row in range(units.B[u], units.B[u] + units.count[u] * units.q[0] * wide, wide):
                        value = get(pieces.B, row + begin + b)
                        for a in range(b):
                            left = -1.0 * get(pieces.B, row + begin + a)
                            value = fma(left, get(ready.U, (own[k, a], own[k, b])), value)
                        put(pieces.B, row + begin + b, value * inverse)
                    for i in range(wide):
                        if begin <= i < begin + q:
                            continue
                        value = get(M, at + sym(begin + b, i))
                        for a in range(b):
                            left = -1.0 * get(M, at + sym(begin + a, i))
                            value = fma(left, get(ready.U, (own[k, a], own[k, b])), value)
                        put(M, at + sym(begin + b, i), value * inverse)
                for a in range(q):  # the level's own block, from both sides
                    for b in range(q):
                        value = get(M, at + sym(begin + a, begin + b))
                        for c in range(b):
                            value = fma(-1.0 * get(X, (a, c)), get(ready.U, (own[k, c], own[k, b])), value)
                        put(X, (a, b), value / get(ready.U, (own[k, b], own[k, b])))
                for b in range(q):
                    for a in range(b + 1):
                        value = get(X, (a, b))
                        for c in range(a):
                            value = fma(
                                -1.0 * get(ready.U, (own[k, c], own[k, a])),
                                get(M, at + pair(begin + c, begin + b)),
                                value,
                            )
                        put(M, at + pair(begin + a, begin + b), value / get(ready.U, (own[k, a], own[k, a])))


@helper
def _triangulate(shape, units, pieces, ready):
    """Leading levels: Z'Z = R'R to R, B to R'^-1 B; then R is whitened. Rows of R that a level is too small for are 0."""
    apart()
    q, R, B, own = units.q[0], pieces.R, pieces.B, units.own
    n, width = pair(0, q), shape.p + 1
    for u in range(len(units.count)):
        wide, at = units.order[u] + width, units.B[u]
        for j in range(units.first[u], units.first[u] + units.count[u]):
            for a in range(q):
                pivot = get(R, j * n + pair(a, a))
                smallest = PIVOT_TOLERANCE * pivot
                for k in range(a):
                    value = get(R, j * n + pair(k, a))
                    pivot = fma(-1.0 * value, value, pivot)
                inverse = choose(pivot, smallest, 1.0 / root(pivot), 0.0)
                put(R, j * n + pair(a, a), choose(pivot, smallest, pivot, 0.0) * inverse)
                for e in range(a + 1, q):
                    value = get(R, j * n + pair(a, e))
                    for k in range(a):
                        value = fma(-1.0 * get(R, j * n + pair(k, a)), get(R, j * n + pair(k, e)), value)
                    put(R, j * n + pair(a, e), value * inverse)
                for i in range(at + a * wide, at + (a + 1) * wide):
                    value = get(B, i)
                    for k in range(a):
                        value = fma(-1.0 * get(R, j * n + pair(k, a)), get(B, i - (a - k) * wide), value)
                    put(B, i, value * inverse)
            for e in range(q):
                inverse = 1.0 / get(ready.U, (own[0, e], own[0, e]))
                for a in range(e + 1):
                    value = get(R, j * n + pair(a, e))
                    for k in range(a, e):
                        value = fma(-1.0 * get(R, j * n + pair(a, k)), get(ready.U, (own[0, k], own[0, e])), value)
                    put(R, j * n + pair(a, e), value * inverse)
            at += q * wide


@helper
def _within(shape, units, pieces, ready):
    """M less the sum of B'B, its [X y]'[X y] into S0; what is left of that with every random effect free into C."""
    apart()
    q, width, A, K, C = units.q[0], shape.p + 1, pieces.A, pieces.K, ready.C
    for k in range(pair(0, width)):
        put(C, k, splat(0.0))
    for u in range(len(units.count)):
        s, M, at = units.order[u], pieces.M, units.M[u]
        wide = s + width
        for i in range(s):
            put(pieces.Y, i, get(M, at + pair(i, i)))
        add_outer(units.count[u] * q, pieces.B, units.B[u], wide, pieces.B, units.B[u], wide, True, -1.0, M, at)
        for i in range(width):
            for k in range(i + 1):
                place = at + pair(s + k, s + i)
                put(ready.S0, pair(k, i), get(ready.S0, pair(k, i)) + get(M, place))
                put(M, place, splat(0.0))
        for k in range(pair(0, wide)):
            put(A, k, get(M, at + k))
        for a in range(s):  # row a of A_22's upper factor, outer-product form; A beyond it is what is left
            pivot = get(A, pair(a, a))
            inverse = choose(pivot, PIVOT_TOLERANCE * get(pieces.Y, a), 1.0 / root(pivot), 0.0)
            for e in range(a + 1, wide):
                put(K, e, get(A, pair(a, e)) * inverse)
            for e in range(a + 1, wide):
                left = -1.0 * get(K, e)
                for c in range(a + 1, e + 1):
                    put(A, pair(c, e), fma(left, get(K, c), get(A, pair(c, e))))
        for i in range(width):
            for k in range(i + 1):
                put(C, pair(k, i), get(C, pair(k, i)) + get(A, pair(s + k, s + i)))
    for k in range(pair(0, width)):
        put(C, k, get(C, k) + get(ready.S0, k))


@helper
def _left_by_ols(lane, p, ready):
    """y'y less what the fixed effects explain; ready.one: the factor of X'X."""
    apart()
    L, column = ready.one, ready.column
    left = ready.S0[pair(p, p), lane]
    for i in range(p):
        value = ready.S0[pair(i, p), lane]
        for k in range(i):
            value -= L[i, k] * column[k]
        column[i] = value / L[i, i]
        left -= column[i] * column[i]
    return left


@helper
def _left_by_all(lane, p, ready):
    """y'y less what fixed and random effects explain, these free."""
    apart()
    C = ready.two
    pivot = 0.0
    for i in range(p + 1):
        pivot = ready.C[pair(i, i), lane]
        for k in range(i):
            value = ready.C[pair(k, i), lane]
            for e in range(k):
                value -= C[i, e] * C[k, e]
            C[i, k] = value / C[k, k]
            pivot -= C[i, k] * C[i, k]
        if i < p:
            C[i, i] = math.sqrt(pivot) if pivot > PIVOT_TOLERANCE * ready.diagonal[i, lane] else np.inf
    return pivot


@helper
def _enough(lane, shape, units, ready):
    """Whether rows and levels are enough for the effects."""
    apart()
    if shape.p >= ready.observed[lane]:
        return False
    for k in range(len(units.q)):
        present = ready.length[k, lane]
        if present < 2:
            return False
        for a in range(units.q[k]):
            size = 0
            for c in range(units.q[k]):
                size += shape.blocks[units.own[k, c]] == shape.blocks[units.own[k, a]]
            if present * size >= ready.observed[lane]:
                return False
    return True


@helper
def reduce_targets(shape, units, targets, b, pieces, ready):
    """Reduce batch b of `targets` into R, B and M of pieces and the record `ready`."""
    apart()
    p = shape.p
    _count(shape, units, targets, b, ready)
    _load(shape, units, targets, b, pieces, ready)
    _mean(shape, units, pieces, ready)
    for i in range(p + 1):
        put(ready.diagonal, i, get(ready.S0, pair(i, i)))
    for lane in range(LANES):
        ready.irregularity[lane], ready.best[lane] = 0.0, np.nan
        white = whiten(lane, shape.q, shape.blocks, ready)
        if math.isnan(ready.status[lane]):
            if white and _enough(lane, shape, units, ready) and full_rank(lane, p, ready):
                ready.best[lane] = _left_by_ols(lane, p, ready)
            else:
                ready.status[lane] = RANK_DEFICIENT
    _whiten_rest(shape, units, pieces, ready)
    _triangulate(shape, units, pieces, ready)
    _within(shape, units, pieces, ready)
    for lane in range(LANES):
        if math.isnan(ready.status[lane]):
            left = ready.best[lane]
            if not (left > FITTED * ready.diagonal[p, lane] and _left_by_all(lane, p, ready) > NOISELESS * left):
                ready.status[lane] = NONFINITE
