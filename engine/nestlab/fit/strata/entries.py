"""From statistics of strata to what a fit starts from, for as many replicates at once as a vector has lanes (see `plan`)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..lanes import LANES, choose, fma, get, get_from, put, root, splat
from ..passes import add_products
from ..reduce import NONFINITE, PERFECT_TOLERANCE, POOL_TOLERANCE, RANK_DEFICIENT, full_rank, within_rank
from ..small import apart, helper, pair

__all__ = ["EntryMap", "reduce_entries"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class EntryMap(NamedTuple):
    """What turns statistics into entries, and entries into rows of B.

    Entry k is bias[k] + the sum of weight x values[place] over start[k] .. start[k + 1] - 1; y is a factor of it degree times,
    and own is 1 where it is part of y'y. roots: each group's R; multiplied: each fixed effect's multiplier among each group's, -1
    where it has no part; fixed: each group's x_i (p, rho); one group after the other.
    """

    start: Indices
    place: Indices
    weight: Array
    bias: Array
    degree: Indices
    own: Array
    roots: Array
    multiplied: Indices
    fixed: Array


@helper
def _load(parts, base, m, values, entries, ready):
    """Fill the entries of replicates base .. base + LANES - 1, y in a unit, a power of 2, that brings y'y near 1."""
    apart()
    total, check = splat(0.0), splat(0.0)
    for k in range(parts.entries):
        value = splat(m.bias[k])
        for n in range(m.start[k], m.start[k + 1]):
            value = fma(get_from(values, m.place[n], base), m.weight[n], value)
        put(entries, k, value)
        check = check + value
        total = fma(m.own[k], value, total)
    put(ready.unit, (), total)
    put(ready.rank, (), check)
    for lane in range(LANES):
        size = ready.unit[lane]
        usable = 0.0 < size < np.inf and math.isfinite(ready.rank[lane])
        ready.status[lane] = np.nan if usable else NONFINITE
        ready.unit[lane] = math.ldexp(1.0, -(math.frexp(size)[1] // 2)) if usable else 0.0
    unit = get(ready.unit, ())
    for k in range(parts.entries):
        if m.degree[k] == 1:
            put(entries, k, get(entries, k) * unit)
        elif m.degree[k] == 2:
            put(entries, k, get(entries, k) * unit * unit)


@helper
def _factor_group(g, parts, entries, pool, ready):
    """The factor of a group's products, in outer-product form: its rows, one after the other, in the pool."""
    apart()
    x, first = parts.kg[g] + parts.rho[g], parts.entry[g]
    rows, sums = pool[parts.row :], ready.sums
    for s in range(x * (x + 1) // 2):
        put(sums, s, get(entries, first + s))
    for a in range(x):
        put(ready.length, a, get(sums, pair(a, a)))
    for a in range(parts.rows[g]):
        pivot = get(sums, pair(a, a))
        inverse = choose(pivot, POOL_TOLERANCE * get(ready.length, a), 1.0 / root(pivot), 0.0)
        for b in range(x):
            value = splat(0.0)
            if b >= a:
                value = get(sums, pair(a, b)) * inverse
            put(rows, a * x + b, value)
        for b in range(a + 1, x):
            for c in range(a + 1, b + 1):
                s = pair(c, b)
                put(sums, s, fma(-1.0 * get(rows, a * x + b), get(rows, a * x + c), get(sums, s)))


@helper
def _expand_group(g, p, parts, multiplied, fixed, pool, B):
    """A group's rows of B: columns x_i times the entry of i's multiplier, and y."""
    apart()
    rho, kg, width = parts.rho[g], parts.kg[g], p + 1
    x, mg, xs = kg + rho, parts.multiplied[g], parts.xs[g]
    for e in range(parts.rows[g]):
        for a in range(rho):
            line = (parts.first[g] + e * rho + a) * width
            for i in range(p):
                m = multiplied[mg + i]
                value = splat(0.0)
                if m >= e and fixed[xs + i * rho + a] != 0.0:
                    value = get(pool, parts.row + e * x + m) * fixed[xs + i * rho + a]
                put(B, line + i, value)
            put(B, line + p, get(pool, parts.row + e * x + kg + a))


@helper
def _take_moments(g, p, parts, B, pool):
    """What the rows beside a group's multipliers say of K: their mean square, rho x rho, where K^-1/2 will be."""
    apart()
    rho, width = parts.rho[g], p + 1
    for a in range(rho):
        for b in range(rho):
            value = splat(0.0)
            for e in range(parts.kg[g], parts.rows[g]):
                line = parts.first[g] + e * rho
                value = fma(get(B, (line + a) * width + p), get(B, (line + b) * width + p), value)
            put(pool, parts.inverse[g] + a * rho + b, value / max(parts.left[g], 1.0))


@helper
def _estimate(shape, parts, roots, pool, ready):
    """G by moments, term by term: R_t'(K - I) R_t less what the terms of other factors in the group add to it; -1 where a term
    can't be told. `length` has 1 / s2."""
    apart()
    q, blocks = shape.q, shape.blocks
    for s in range(q * (q + 1) // 2):
        put(ready.moments, s, 0.0)
    for n in range(parts.terms):
        t = parts.order[n]
        g = parts.own[t]
        for a in range(q):
            for b in range(a + 1):
                if blocks[a] == t and blocks[b] == t:
                    value = splat(-1.0) if g < 0 else _moment(a, b, g, q, blocks, parts, roots, pool, ready)
                    put(ready.moments, pair(b, a), value)


@helper
def _moment(a, b, g, q, blocks, parts, roots, pool, ready):
    """The entry (a, b) of G by moments."""
    apart()
    rho, R, nc = parts.rho[g], parts.root[g], parts.nc[g]
    value, inverse = splat(0.0), get(ready.length, 0)
    for i in range(rho):
        for k in range(rho):
            weight = roots[R + i * q + a] * roots[R + k * q + b]
            if weight != 0.0:
                own = fma(get(pool, parts.inverse[g] + i * rho + k), inverse, -1.0 if i == k else 0.0)
                value = fma(weight, own, value)
    for x in range(nc):
        c = parts.cols[parts.cs[g] + x]
        if parts.family[c] != parts.family[a]:
            for y in range(nc):
                d = parts.cols[parts.cs[g] + y]
                left = right = 0.0
                for i in range(rho):
                    left += roots[R + i * q + a] * roots[R + i * q + c]
                    right += roots[R + i * q + b] * roots[R + i * q + d]
                if blocks[c] == blocks[d] and left * right != 0.0:
                    value = fma(-left * right, get(ready.moments, pair(min(c, d), max(c, d))), value)
    return value


@helper
def reduce_entries(shape, parts, entry_map, base, values, entries, B, pool, ready):
    """Reduce replicates base .. base + LANES - 1 of `values` to B (lines x (p + 1)) and the record `ready`."""
    apart()
    p = shape.p
    width = p + 1
    _load(parts, base, entry_map, values, entries, ready)
    for g in range(parts.groups):
        _factor_group(g, parts, entries, pool, ready)
        _expand_group(g, p, parts, entry_map.multiplied, entry_map.fixed, pool, B)
        _take_moments(g, p, parts, B, pool)
    for s in range(width * (width + 1) // 2):
        put(ready.S0, s, get(entries, s))
    add_products(parts.lines, B, width, B, width, True, 1.0, ready.S0)
    m = float(shape.N - (p if shape.reml else 0))
    put(ready.length, 0, 0.0)
    for lane in range(LANES):
        ready.observed[lane], ready.present[lane], ready.m[lane] = shape.N, shape.J, m
        ready.irregularity[lane] = 0.0
        for i in range(width):
            ready.diagonal[i, lane] = ready.S0[pair(i, i), lane]
        if math.isnan(ready.status[lane]) and (p >= shape.N or not full_rank(lane, p, ready)):
            ready.status[lane] = RANK_DEFICIENT
    for s in range(width * (width + 1) // 2):
        put(ready.S0, s, get(entries, s))
    for lane in range(LANES):
        if math.isnan(ready.status[lane]):
            within, least = within_rank(lane, p, ready)
            left = shape.N - parts.rank - within
            if left <= 0:
                ready.status[lane] = RANK_DEFICIENT
            elif not least > PERFECT_TOLERANCE * ready.diagonal[p, lane]:
                ready.status[lane] = NONFINITE
            else:
                ready.length[0, lane] = left / least
    _estimate(shape, parts, entry_map.roots, pool, ready)
