"""The deviance of strata and its derivatives, of as many replicates at once as a vector has lanes.

Formulas are those of `kernel`, with a group of strata of d degrees of freedom in place of d clusters of one R. In a group's own
coordinates K = I + sum_t R_t G_t R_t' is of order rho; with rows u of K^-1 B C'^-1, weights w and Z = sum w u u', sums over
groups give

    Sg_t = sum R_t'(d K^-1 - Z) R_t,   tr(E W F Y): W = K^-1, Y = 2 Z - d K^-1,   D_ik(E) = sum u_i'E u_k

for the directions E = R_t (e_i e_k' + e_k e_i') R_t' of G's entries and for those of L's, in which a = R_t V e_i, b = R_t F e_k
and E = a b' + b a': the chain is taken through the columns a and b, and no more of H is formed than the free entries need.
"""

from __future__ import annotations

import math

from ..lanes import LANES, fma, get, put, root, splat
from ..passes import add_products, factor, newton, to_scores
from ..small import apart, helper, pair

__all__ = ["derive_entries", "evaluate_groups"]

ROOT_2 = math.sqrt(2.0)


@helper
def _set_G(shape, work):
    """G = F F', term by term."""
    apart()
    q, blocks = shape.q, shape.blocks
    for a in range(q):
        for e in range(a + 1):
            value = splat(0.0)
            if blocks[a] == blocks[e]:
                for k in range(q):
                    if blocks[k] == blocks[a]:
                        value = fma(get(work.F, (a, k)), get(work.F, (e, k)), value)
            put(work.G, pair(e, a), value)


@helper
def _set_sides(shape, parts, roots, pool, work):
    """Each group's columns R V, then R F."""
    apart()
    q, blocks = shape.q, shape.blocks
    for g in range(parts.groups):
        nc, cs = parts.nc[g], parts.cs[g]
        for a in range(parts.rho[g]):
            line, R = parts.side[g] + 2 * nc * a, parts.root[g] + a * q
            for x in range(nc):
                c = parts.cols[cs + x]
                left, right = splat(0.0), splat(0.0)
                for y in range(nc):
                    e = parts.cols[cs + y]
                    if blocks[e] == blocks[c] and roots[R + e] != 0.0:
                        left = fma(roots[R + e], get(work.frame, (e, c)), left)
                        right = fma(roots[R + e], get(work.F, (e, c)), right)
                put(pool, line + x, left)
                put(pool, line + nc + x, right)


@helper
def _set_entries(shape, parts, roots, pool):
    """Each group's columns R, twice."""
    apart()
    for g in range(parts.groups):
        nc, cs = parts.nc[g], parts.cs[g]
        for a in range(parts.rho[g]):
            line = parts.side[g] + 2 * nc * a
            for x in range(nc):
                value = splat(roots[parts.root[g] + a * shape.q + parts.cols[cs + x]])
                put(pool, line + x, value)
                put(pool, line + nc + x, value)


@helper
def _factor_K(g, parts, pool, work):
    """K^-1/2, lower-triangular, and log|K| times the degrees of freedom."""
    apart()
    rho, nc, at = parts.rho[g], parts.nc[g], parts.inverse[g]
    det = splat(1.0)
    for a in range(rho):
        left = parts.side[g] + 2 * nc * a + nc
        for e in range(a + 1):
            right = parts.side[g] + 2 * nc * e + nc
            value = splat(1.0 if a == e else 0.0)
            for x in range(nc):
                value = fma(get(pool, left + x), get(pool, right + x), value)
            for k in range(e):
                value = fma(-1.0 * get(pool, at + a * rho + k), get(pool, at + e * rho + k), value)
            if e < a:
                put(pool, at + a * rho + e, value * get(pool, at + e * rho + e))
            else:
                det = det * value
                put(pool, at + a * rho + a, 1.0 / root(value))
    for a in range(rho):  # its inverse, in place
        own = get(pool, at + a * rho + a)
        for e in range(a):
            value = splat(0.0)
            for k in range(e, a):
                value = fma(get(pool, at + a * rho + k), get(pool, at + k * rho + e), value)
            put(pool, at + a * rho + e, -1.0 * own * value)
    put(work.product, (), det)
    for lane in range(LANES):
        work.logdet[lane] += parts.df[g] * math.log(work.product[lane])


@helper
def _weigh_group(g, width, parts, B, T, pool):
    """T = K^-1 B."""
    apart()
    rho, at, half = parts.rho[g], parts.inverse[g], parts.half
    for e in range(parts.rows[g]):
        line = (parts.first[g] + e * rho) * width
        for i in range(width):
            for a in range(rho):
                value = splat(0.0)
                for k in range(a + 1):
                    value = fma(get(pool, at + a * rho + k), get(B, line + k * width + i), value)
                put(pool, half + a, value)
            for a in range(rho):
                value = splat(0.0)
                for k in range(a, rho):
                    value = fma(get(pool, at + k * rho + a), get(pool, half + k), value)
                put(T, line + a * width + i, value)


@helper
def _set_forms(g, shape, parts, pool, T, work):
    """W and Y between a group's columns, 2 nc each way; Sg of its terms is added to, from its r-space pieces."""
    apart()
    width, rho, nc = shape.p + 1, parts.rho[g], parts.nc[g]
    start = 0 if shape.reml else shape.p
    at, side, half, Z = parts.inverse[g], parts.side[g], parts.half, parts.Z
    both = 2 * nc
    for a in range(rho):
        for b in range(a + 1):
            value = splat(0.0)
            for e in range(parts.rows[g]):
                left = (parts.first[g] + e * rho + a) * width
                right = (parts.first[g] + e * rho + b) * width
                for i in range(start, width):
                    value = fma(get(T, left + i), get(T, right + i), value)
            put(pool, Z + a * rho + b, value)
            put(pool, Z + b * rho + a, value)
    for a in range(rho):
        for x in range(both):
            value = splat(0.0)
            for k in range(a + 1):
                value = fma(get(pool, at + a * rho + k), get(pool, side + k * both + x), value)
            put(pool, half + a * both + x, value)
    for x in range(both):
        for y in range(x + 1):
            value = splat(0.0)
            for a in range(rho):
                value = fma(get(pool, half + a * both + x), get(pool, half + a * both + y), value)
            put(pool, parts.W + x * both + y, value)
            put(pool, parts.W + y * both + x, value)
    for a in range(rho):
        for x in range(both):
            value = splat(0.0)
            for b in range(rho):
                value = fma(get(pool, Z + a * rho + b), get(pool, side + b * both + x), value)
            put(pool, half + a * both + x, value)
    df = parts.df[g]
    for x in range(both):
        for y in range(x + 1):
            value = splat(0.0)
            for a in range(rho):
                value = fma(get(pool, side + a * both + x), get(pool, half + a * both + y), value)
            value = fma(-1.0 * df, get(pool, parts.W + x * both + y), 2.0 * value)
            put(pool, parts.Y + x * both + y, value)
            put(pool, parts.Y + y * both + x, value)


@helper
def _add_Sg(g, shape, parts, roots, pool, work):
    """Add a group's part of Sg: R_t'(d K^-1 - Z) R_t."""
    apart()
    q, rho, nc, cs = shape.q, parts.rho[g], parts.nc[g], parts.cs[g]
    at, half, Z = parts.inverse[g], parts.half, parts.Z
    for a in range(rho):
        for b in range(a + 1):
            value = splat(0.0)
            for k in range(a, rho):
                value = fma(get(pool, at + k * rho + a), get(pool, at + k * rho + b), value)
            value = fma(parts.df[g], value, -1.0 * get(pool, Z + a * rho + b))
            put(pool, Z + a * rho + b, value)
            put(pool, Z + b * rho + a, value)
    for x in range(nc):
        c = parts.cols[cs + x]
        for a in range(rho):
            value = splat(0.0)
            for b in range(rho):
                weight = roots[parts.root[g] + b * q + c]
                if weight != 0.0:
                    value = fma(weight, get(pool, Z + a * rho + b), value)
            put(pool, half + a, value)
        for y in range(x + 1):
            d = parts.cols[cs + y]
            if shape.blocks[c] == shape.blocks[d]:
                value = get(work.Sg, pair(d, c))
                for a in range(rho):
                    weight = roots[parts.root[g] + a * q + d]
                    if weight != 0.0:
                        value = fma(weight, get(pool, half + a), value)
                put(work.Sg, pair(d, c), value)


@helper
def _add_forms(g, chained, shape, parts, pool, work):
    """Add tr(E W F Y) over pairs of a group's free entries; chained: the slopes g and the curvature of G in L besides."""
    apart()
    nc, fs = parts.nc[g], parts.fs[g]
    both = 2 * nc
    W, Y, df = parts.W, parts.Y, parts.df[g]
    for i in range(parts.nf[g]):
        s = parts.free[fs + i]
        a = parts.local[g, shape.rows[s]]
        b = parts.local[g, shape.cols[s]] + nc
        if chained:
            slope = fma(df, get(pool, W + a * both + b), -1.0 * get(pool, Y + a * both + b))
            put(work.g, s, get(work.g, s) + slope)
        for k in range(i + 1):
            u = parts.free[fs + k]
            c = parts.local[g, shape.rows[u]]
            d = parts.local[g, shape.cols[u]] + nc
            value = get(work.Q, pair(u, s))
            value = fma(get(pool, W + b * both + c), get(pool, Y + d * both + a), value)
            value = fma(get(pool, W + b * both + d), get(pool, Y + c * both + a), value)
            value = fma(get(pool, W + a * both + c), get(pool, Y + d * both + b), value)
            value = fma(get(pool, W + a * both + d), get(pool, Y + c * both + b), value)
            if chained and b == d:
                value = value + fma(df, get(pool, W + a * both + c), -1.0 * get(pool, Y + a * both + c))
            put(work.Q, pair(u, s), value)


@helper
def _add_D(g, shape, parts, T, pool):
    """Add a group's D_ik(E), by pairs of columns of [X y] and free entries."""
    apart()
    width, rho, nc, fs, rows = shape.p + 1, parts.rho[g], parts.nc[g], parts.fs[g], parts.rows[g]
    both, alpha, f = 2 * nc, parts.alpha, shape.free
    for x in range(both):
        for e in range(rows):
            line = (parts.first[g] + e * rho) * width
            for i in range(width):
                value = splat(0.0)
                for a in range(rho):
                    value = fma(get(pool, parts.side[g] + a * both + x), get(T, line + a * width + i), value)
                put(pool, alpha + (x * rows + e) * width + i, value)
    for n in range(parts.nf[g]):
        s = parts.free[fs + n]
        a = alpha + parts.local[g, shape.rows[s]] * rows * width
        b = alpha + (parts.local[g, shape.cols[s]] + nc) * rows * width
        for i in range(width):
            for k in range(i + 1):
                at = parts.D + pair(k, i) * f + s
                value = get(pool, at)
                for e in range(rows):
                    value = fma(get(pool, a + e * width + i), get(pool, b + e * width + k), value)
                    value = fma(get(pool, b + e * width + i), get(pool, a + e * width + k), value)
                put(pool, at, value)


@helper
def _add_groups(chained, shape, parts, roots, T, pool, work):
    """H over pairs of free entries, in `Q`, and D in the pool, times the roots of its weights; Sg and g if chained."""
    apart()
    p, f = shape.p, shape.free
    width = p + 1
    for s in range(f * (f + 1) // 2):
        put(work.Q, s, 0.0)
    for s in range(width * (width + 1) // 2 * f):
        put(pool, parts.D + s, 0.0)
    if chained:
        for s in range(f):
            put(work.g, s, 0.0)
            put(work.Sg, pair(shape.cols[s], shape.rows[s]), 0.0)
    for g in range(parts.groups):
        _set_forms(g, shape, parts, pool, T, work)
        _add_D(g, shape, parts, T, pool)
        _add_forms(g, chained, shape, parts, pool, work)
        if chained:
            _add_Sg(g, shape, parts, roots, pool, work)
    last = 1.0 / root(get(work.m, ()))
    for i in range(width):
        for k in range(i + 1):
            weight = splat(1.0 if i == k else ROOT_2)
            if k == p:
                weight = last
            for s in range(f):
                at = parts.D + pair(k, i) * f + s
                put(pool, at, get(pool, at) * weight)
    first = 0 if shape.reml else pair(0, p)
    D = pool[parts.D + first * f :]
    add_products(pair(p, p) + 1 - first, D, f, D, f, True, -1.0, work.Q)


@helper
def evaluate_groups(shape, parts, roots, B, T, pool, work):
    """All pieces at the lanes' F: deviance, gradient, Hessian in the free entries of L, and the Newton step."""
    apart()
    width = shape.p + 1
    _set_G(shape, work)
    _set_sides(shape, parts, roots, pool, work)
    for lane in range(LANES):
        work.logdet[lane] = 0.0
    for g in range(parts.groups):
        _factor_K(g, parts, pool, work)
        _weigh_group(g, width, parts, B, T, pool)
    put(work.product, (), 1.0)
    for s in range(pair(shape.p, shape.p) + 1):
        put(work.C, s, get(work.S0, s))
    add_products(parts.lines, T, width, B, width, True, 1.0, work.C)
    factor(shape, work)
    to_scores(parts.lines, width, T, work)
    _add_groups(True, shape, parts, roots, T, pool, work)
    for s in range(shape.free):
        for u in range(s + 1):
            value = get(work.Q, pair(u, s))
            put(work.HL, (s, u), value)
            put(work.HL, (u, s), value)
    newton(shape, work)


@helper
def derive_entries(shape, parts, roots, T, pool, work):
    """After an evaluation, Hessian and D in the entries of G, by pairs of random columns: H and D of `work`. (E_ii is half of
    e_i e_i' + e_i e_i'.)"""
    apart()
    p, f, rows, cols = shape.p, shape.free, shape.rows, shape.cols
    _set_entries(shape, parts, roots, pool)
    _add_groups(False, shape, parts, roots, T, pool, work)
    for s in range(f):
        row = pair(cols[s], rows[s])
        scale = 0.5 if rows[s] == cols[s] else 1.0
        for u in range(s + 1):
            column = pair(cols[u], rows[u])
            value = get(work.Q, pair(u, s)) * (scale * (0.5 if rows[u] == cols[u] else 1.0))
            put(work.H, (row, column), value)
            put(work.H, (column, row), value)
        for i in range(p + 1):
            for k in range(i + 1):
                value = get(pool, parts.D + pair(k, i) * f + s) * (scale if i == k else scale / ROOT_2)
                if k == p:
                    value = value * root(get(work.m, ()))
                put(work.D, (row, pair(k, i)), value)
