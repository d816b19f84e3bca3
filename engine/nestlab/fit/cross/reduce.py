"""From a replicate's sums to what the passes work on, for as many replicates at once as a vector has lanes.

Random columns are whitened within each term: the mean of Z'Z over the levels that have rows is the identity. Levels without rows,
of one replicate or of all, have products of 0: they change nothing and are not counted.
"""

from __future__ import annotations

import math

import numpy as np

from ..lanes import LANES, choose, fma, get, put, root, splat
from ..reduce import NONFINITE, PERFECT_TOLERANCE, PIVOT_TOLERANCE, RANK_DEFICIENT, full_rank, whiten
from ..small import apart, helper, pair, sym
from .passes import add_outer
from .structure import AT_B, AT_M, BEGIN, COUNT, FIRST, LEVELS, ORDER

__all__ = ["reduce_targets"]

#: What is left of y with every random effect free, over what OLS leaves, at which there is no noise.
NOISELESS = 1e-11


@helper
def _count(shape, head, targets, b, ready):
    """Rows, m, and the largest number of levels of a factor that have rows; those of each slot, in `length`."""
    apart()
    present, observed = splat(0.0), splat(0.0)
    for k in range(head.F):
        count, total = splat(0.0), splat(0.0)
        for j in range(head.counts[k], head.counts[k + 1]):
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
def _load(shape, head, units, targets, b, mem, ready):
    """Copy a batch's sums, y scaled by a power of 2 that brings y'y near 1; status where a replicate isn't finite."""
    apart()
    q, p = head.q[0], shape.p
    width, at = p + 1, head.targets
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
        put(mem, head.R + k, get(targets, (b, at[1] + k)))
    for u in range(len(units)):
        s = units[u, ORDER]
        wide = s + width
        for e in range(units[u, COUNT] * q):
            row = units[u, AT_B] + e * wide
            for i in range(wide - 1):
                put(mem, head.B + row + i, get(targets, (b, at[2] + row + i)))
            put(mem, head.B + row + wide - 1, get(targets, (b, at[2] + row + wide - 1)) * unit)
        for k in range(pair(0, wide)):
            put(mem, head.M + units[u, AT_M] + k, get(targets, (b, at[3] + units[u, AT_M] + k)))
        for i in range(s):
            k = units[u, AT_M] + pair(i, wide - 1)
            put(mem, head.M + k, get(mem, head.M + k) * unit)
    for i in range(width):
        for k in range(i + 1):
            value = get(targets, (b, at[4] + pair(k, i)))
            if i == p:
                value = value * unit
            if k == p:
                value = value * unit
            put(ready.S0, pair(k, i), value)


@helper
def _mean(shape, head, units, mem, ready):
    """The mean of Z'Z over each factor's levels, of the columns of one term."""
    apart()
    n = pair(0, head.q[0])
    for s in range(pair(0, shape.q)):
        put(ready.mean, s, splat(0.0))
    for k in range(head.F):
        q, present = head.q[k], get(ready.length, k)
        for a in range(q):
            for c in range(a + 1):
                value = splat(0.0)
                if k == 0:
                    for j in range(head.counts[1]):
                        value = value + get(mem, head.R + j * n + pair(c, a))
                else:
                    for u in range(len(units)):
                        for j in range(units[u, LEVELS + 2 * k]):
                            e = units[u, BEGIN + 2 * k] + j * q
                            value = value + get(mem, head.M + units[u, AT_M] + pair(e + c, e + a))
                put(ready.mean, sym(head.own[k, a], head.own[k, c]), value / present)


@helper
def _whiten_rest(shape, head, units, mem, ready):
    """Whiten the rest's columns, in M and B."""
    apart()
    width, X = shape.p + 1, ready.N
    for u in range(len(units)):
        s, M, at = units[u, ORDER], head.M, units[u, AT_M]
        wide = s + width
        for k in range(1, head.F):
            q, own = head.q[k], head.own
            for j in range(units[u, LEVELS + 2 * k]):
                begin = units[u, BEGIN + 2 * k] + j * q
                for b in range(q):
                    inverse = 1.0 / get(ready.U, (own[k, b], own[k, b]))
                    for row in range(units[u, AT_B], units[u, AT_B] + units[u, COUNT] * head.q[0] * wide, wide):
                        value = get(mem, head.B + row + begin + b)
                        for a in range(b):
                            left = -1.0 * get(mem, head.B + row + begin + a)
                            value = fma(left, get(ready.U, (own[k, a], own[k, b])), value)
                        put(mem, head.B + row + begin + b, value * inverse)
                    for i in range(wide):
                        if begin <= i < begin + q:
                            continue
                        value = get(mem, M + at + sym(begin + b, i))
                        for a in range(b):
                            left = -1.0 * get(mem, M + at + sym(begin + a, i))
                            value = fma(left, get(ready.U, (own[k, a], own[k, b])), value)
                        put(mem, M + at + sym(begin + b, i), value * inverse)
                for a in range(q):  # the level's own block, from both sides
                    for b in range(q):
                        value = get(mem, M + at + sym(begin + a, begin + b))
                        for c in range(b):
                            value = fma(-1.0 * get(X, (a, c)), get(ready.U, (own[k, c], own[k, b])), value)
                        put(X, (a, b), value / get(ready.U, (own[k, b], own[k, b])))
                for b in range(q):
                    for a in range(b + 1):
                        value = get(X, (a, b))
                        for c in range(a):
                            value = fma(
                                -1.0 * get(ready.U, (own[k, c], own[k, a])),
                                get(mem, M + at + pair(begin + c, begin + b)),
                                value,
                            )
                        put(mem, M + at + pair(begin + a, begin + b), value / get(ready.U, (own[k, a], own[k, a])))


@helper
def _triangulate(shape, head, units, mem, ready):
    """Leading levels: Z'Z = R'R to R, B to R'^-1 B; then R is whitened. Rows of R that a level is too small for are 0."""
    apart()
    q, R, B, own = head.q[0], head.R, head.B, head.own
    n, width = pair(0, q), shape.p + 1
    for u in range(len(units)):
        wide, at = units[u, ORDER] + width, units[u, AT_B]
        for j in range(units[u, FIRST], units[u, FIRST] + units[u, COUNT]):
            for a in range(q):
                pivot = get(mem, R + j * n + pair(a, a))
                smallest = PIVOT_TOLERANCE * pivot
                for k in range(a):
                    value = get(mem, R + j * n + pair(k, a))
                    pivot = fma(-1.0 * value, value, pivot)
                inverse = choose(pivot, smallest, 1.0 / root(pivot), 0.0)
                put(mem, R + j * n + pair(a, a), choose(pivot, smallest, pivot, 0.0) * inverse)
                for e in range(a + 1, q):
                    value = get(mem, R + j * n + pair(a, e))
                    for k in range(a):
                        value = fma(-1.0 * get(mem, R + j * n + pair(k, a)), get(mem, R + j * n + pair(k, e)), value)
                    put(mem, R + j * n + pair(a, e), value * inverse)
                for i in range(at + a * wide, at + (a + 1) * wide):
                    value = get(mem, B + i)
                    for k in range(a):
                        value = fma(-1.0 * get(mem, R + j * n + pair(k, a)), get(mem, B + i - (a - k) * wide), value)
                    put(mem, B + i, value * inverse)
            for e in range(q):
                inverse = 1.0 / get(ready.U, (own[0, e], own[0, e]))
                for a in range(e + 1):
                    value = get(mem, R + j * n + pair(a, e))
                    for k in range(a, e):
                        value = fma(
                            -1.0 * get(mem, R + j * n + pair(a, k)), get(ready.U, (own[0, k], own[0, e])), value
                        )
                    put(mem, R + j * n + pair(a, e), value * inverse)
            at += q * wide


@helper
def _within(shape, head, units, mem, ready):
    """M less the sum of B'B, its [X y]'[X y] into S0; what is left of that with every random effect free into C."""
    apart()
    q, width, A, K, C = head.q[0], shape.p + 1, head.A, head.K, ready.C
    for k in range(pair(0, width)):
        put(C, k, splat(0.0))
    for u in range(len(units)):
        s, M, at = units[u, ORDER], head.M, units[u, AT_M]
        wide = s + width
        for i in range(s):
            put(mem, head.Y + i, get(mem, M + at + pair(i, i)))
        B = head.B + units[u, AT_B]
        add_outer(units[u, COUNT] * q, B, wide, B, wide, True, -1.0, 0, wide, wide, M + at, mem)
        for i in range(width):
            for k in range(i + 1):
                place = at + pair(s + k, s + i)
                put(ready.S0, pair(k, i), get(ready.S0, pair(k, i)) + get(mem, M + place))
                put(mem, M + place, splat(0.0))
        for k in range(pair(0, wide)):
            put(mem, A + k, get(mem, M + at + k))
        for a in range(s):  # row a of A_22's upper factor, outer-product form; A beyond it is what is left
            pivot = get(mem, A + pair(a, a))
            inverse = choose(pivot, PIVOT_TOLERANCE * get(mem, head.Y + a), 1.0 / root(pivot), 0.0)
            for e in range(a + 1, wide):
                put(mem, K + e, get(mem, A + pair(a, e)) * inverse)
            for e in range(a + 1, wide):
                left = -1.0 * get(mem, K + e)
                for c in range(a + 1, e + 1):
                    put(mem, A + pair(c, e), fma(left, get(mem, K + c), get(mem, A + pair(c, e))))
        for i in range(width):
            for k in range(i + 1):
                put(C, pair(k, i), get(C, pair(k, i)) + get(mem, A + pair(s + k, s + i)))
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
def _enough(lane, shape, head, ready):
    """Whether rows and levels are enough for the effects."""
    apart()
    if shape.p >= ready.observed[lane]:
        return False
    for k in range(head.F):
        present = ready.length[k, lane]
        if present < 2:
            return False
        for a in range(head.q[k]):
            size = 0
            for c in range(head.q[k]):
                size += shape.blocks[head.own[k, c]] == shape.blocks[head.own[k, a]]
            if present * size >= ready.observed[lane]:
                return False
    return True


@helper
def reduce_targets(shape, head, units, targets, b, mem, ready):
    """Reduce batch b of `targets` into R, B and M of mem and the record `ready`."""
    apart()
    p = shape.p
    _count(shape, head, targets, b, ready)
    _load(shape, head, units, targets, b, mem, ready)
    _mean(shape, head, units, mem, ready)
    for i in range(p + 1):
        put(ready.diagonal, i, get(ready.S0, pair(i, i)))
    for lane in range(LANES):
        ready.irregularity[lane], ready.best[lane] = 0.0, np.nan
        white = whiten(lane, shape.q, shape.blocks, ready)
        if math.isnan(ready.status[lane]):
            if white and _enough(lane, shape, head, ready) and full_rank(lane, p, ready):
                ready.best[lane] = _left_by_ols(lane, p, ready)
            else:
                ready.status[lane] = RANK_DEFICIENT
    _whiten_rest(shape, head, units, mem, ready)
    _triangulate(shape, head, units, mem, ready)
    _within(shape, head, units, mem, ready)
    for lane in range(LANES):
        if math.isnan(ready.status[lane]):
            least = max(NOISELESS * ready.best[lane], PERFECT_TOLERANCE * ready.diagonal[p, lane])
            if not _left_by_all(lane, p, ready) > least:
                ready.status[lane] = NONFINITE
