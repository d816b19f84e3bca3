"""The deviance and its derivatives with several grouping factors, of as many replicates at once as a vector has lanes.

Notation of `several.point` and `several.curvature`, in the arrangement of `structure`. A leading level j enters by the triangular
factor of its rows, Z_j'Z_j = R_j'R_j, and B_j = R_j'^-1 Z_j'[rest X y]; M0 = M - sum B_j'B_j is what is left within levels. At G,
unit by unit,

    K_j = I + R_j G_1 R_j',   A = M0 + sum_j B_j'K_j^-1 B_j,   A_j = R_j'K_j^-1 B_j  (sums of positive terms)
    K = I + F_2'A_22 F_2 = C C',  G_2 = F_2 F_2',   Y = C^-1 F_2'A_2.,  A_2. = [A_22 | A_j' for all j | A_2X]
    [rest lead X y]'V^-1 [rest lead X y] = A_.. - Y'Y

One product Y'Y serves W = Z'V^-1 Z, T = Z'V^-1 [X y] and S. Then, with S = C C', v = T C'^-1, gradient and Hessian are

    Sg_f = sum_j [W_jj - sum_i w_i v_ij v_ij'],  H(E, F) = sum_jk tr(E W_jk F Y_kj) - sum_ik w_ik D_ik(E) D_ik(F),
    Y = 2 sum_i w_i v_i v_i' - W

over levels j of the factor of E and k of the factor of F (`kernel` has the same with one factor).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..lanes import LANES, any_above, fma, get, put, root, splat
from ..passes import LARGE, factor, newton
from ..small import apart, helper, pair, sym

__all__ = ["Pieces", "add_outer", "clear", "evaluate"]

Array = NDArray[np.float64]


class Pieces(NamedTuple):
    """Of the replicates in lanes, rows of one array each: R, B, M (see above; M: M0, its [X y]'[X y] 0); at the point W_j of
    leading levels, T: K^-1 B, then R'K^-1 B; of all units W (with the rows T and S) and v; scratch of one unit: A, Y, K, H (Y of
    the Hessian); Q: sums of products of W and Y, pairs: blocks of both."""

    R: Array
    B: Array
    M: Array
    own: Array
    T: Array
    W: Array
    v: Array
    A: Array
    Y: Array
    K: Array
    H: Array
    Q: Array
    left: Array
    right: Array


@helper
def add_outer(rows, A, at, a, B, bt, b, lower, sign, out, ot):
    """out[ot:] += sign sum_r A_r B_r', A_r and B_r of a and b entries, from A[at:] and B[bt:]: the lower triangle by pairs, or all
    a x b. See `passes.add_products`."""
    apart()
    for x in range(a):
        end = x + 1 if lower else b
        base = ot + (pair(0, x) if lower else x * b)
        y = 0
        while y + 2 < end:
            one, two, three = get(out, base + y), get(out, base + y + 1), get(out, base + y + 2)
            for r in range(rows):
                left = sign * get(A, at + r * a + x)
                s = bt + r * b + y
                one = fma(left, get(B, s), one)
                two = fma(left, get(B, s + 1), two)
                three = fma(left, get(B, s + 2), three)
            put(out, base + y, one)
            put(out, base + y + 1, two)
            put(out, base + y + 2, three)
            y += 3
        while y < end:
            one = get(out, base + y)
            for r in range(rows):
                one = fma(sign * get(A, at + r * a + x), get(B, bt + r * b + y), one)
            put(out, base + y, one)
            y += 1


@helper
def _count_determinant(product, work):
    """The product, or 1 in lanes whose logarithm was taken."""
    apart()
    put(work.product, (), product)
    for lane in range(LANES):
        if work.product[lane] > LARGE:
            work.logdet[lane] += math.log(work.product[lane])
            work.product[lane] = 1.0


@helper
def _weigh_lead(shape, units, pieces, work):
    """Of leading levels: own = R'K^-1 R, T = K^-1 B, and their determinants."""
    apart()
    q, width, own = units.q[0], shape.p + 1, units.own
    n = pair(0, q)
    R, B, T, N, M, rows = pieces.R, pieces.B, pieces.T, work.N, work.K, work.scaled
    product = splat(1.0)
    for u in range(len(units.count)):
        wide, at = units.order[u] + width, units.B[u]
        for j in range(units.first[u], units.first[u] + units.count[u]):
            if q == 1:
                r = get(R, j)
                square = r * r
                det = fma(square, get(work.G, pair(own[0, 0], own[0, 0])), 1.0)
                inverse = 1.0 / det
                put(pieces.own, j, square * inverse)
                for i in range(at, at + wide):
                    put(T, i, get(B, i) * inverse)
                product = product * det
                at += wide
            else:
                for a in range(q):
                    for e in range(q):
                        value = splat(0.0)
                        for k in range(a, q):
                            value = fma(get(R, j * n + pair(a, k)), get(work.F, (own[0, k], own[0, e])), value)
                        put(N, (a, e), value)
                for a in range(q):
                    for e in range(a + 1):
                        value = splat(1.0 if a == e else 0.0)
                        for k in range(q):
                            value = fma(get(N, (a, k)), get(N, (e, k)), value)
                        put(M, (a, e), value)
                for a in range(q):  # the factor, with the inverse of its diagonal
                    for e in range(a + 1):
                        value = get(M, (a, e))
                        for k in range(e):
                            value = fma(-1.0 * get(M, (a, k)), get(M, (e, k)), value)
                        if e < a:
                            put(M, (a, e), value * get(M, (e, e)))
                        else:
                            product = product * value
                            put(M, (a, a), 1.0 / root(value))
                for a in range(q):  # K^-1/2 R
                    for i in range(q):
                        value = get(R, j * n + pair(a, i)) if i >= a else splat(0.0)
                        for k in range(a):
                            value = fma(-1.0 * get(M, (a, k)), get(rows, (k, i)), value)
                        put(rows, (a, i), value * get(M, (a, a)))
                for a in range(q):
                    for e in range(a + 1):
                        value = splat(0.0)
                        for k in range(q):
                            value = fma(get(rows, (k, a)), get(rows, (k, e)), value)
                        put(pieces.own, j * n + pair(e, a), value)
                for i in range(at, at + wide):  # K^-1 B
                    for a in range(q):
                        value = get(B, i + a * wide)
                        for k in range(a):
                            value = fma(-1.0 * get(M, (a, k)), get(T, i + k * wide), value)
                        put(T, i + a * wide, value * get(M, (a, a)))
                    for a in range(q - 1, -1, -1):
                        value = get(T, i + a * wide)
                        for k in range(a + 1, q):
                            value = fma(-1.0 * get(M, (k, a)), get(T, i + k * wide), value)
                        put(T, i + a * wide, value * get(M, (a, a)))
                at += q * wide
            if any_above(product, LARGE):
                _count_determinant(product, work)
                product = get(work.product, ())
    put(work.product, (), product)


@helper
def _to_columns(q, levels, at, wide, R, first, T):
    """T = K^-1 B of a unit to R'K^-1 B, in place."""
    apart()
    n = pair(0, q)
    for j in range(levels):
        for a in range(q - 1, -1, -1):
            own = get(R, first + j * n + pair(a, a))
            for i in range(at + a * wide, at + (a + 1) * wide):
                value = own * get(T, i)
                for k in range(a):
                    value = fma(get(R, first + j * n + pair(k, a)), get(T, i - (a - k) * wide), value)
                put(T, i, value)
        at += q * wide


@helper
def _arrange(u, shape, units, pieces):
    """[rest lead X y]'V_1^-1 [rest lead X y] of a unit into W, by pairs."""
    apart()
    q, width, s, W, A, T = units.q[0], shape.p + 1, units.order[u], pieces.W, pieces.A, pieces.T
    n, wide, lead, at = pair(0, q), s + width, units.count[u] * q, units.W[u]
    for k in range(pair(0, s)):
        put(W, at + k, get(A, k))
    for e in range(lead):
        row, place = units.B[u] + e * wide, at + pair(0, s + e)
        for y in range(s):
            put(W, place + y, get(T, row + y))
        for y in range(s, s + e + 1):
            put(W, place + y, splat(0.0))
        block = (units.first[u] + e // q) * n
        a = e % q
        for c in range(a + 1):
            put(W, place + s + e - a + c, get(pieces.own, block + pair(c, a)))
    for i in range(width):
        place = at + pair(0, s + lead + i)
        for y in range(s):
            put(W, place + y, get(A, pair(y, s + i)))
        for e in range(lead):
            put(W, place + s + e, get(T, units.B[u] + e * wide + s + i))
        for k in range(i + 1):
            put(W, place + s + lead + k, get(A, pair(s + k, s + i)))


@helper
def _project(u, shape, units, pieces, work):
    """F_2'[A_22 | A_j' | A_2X] of a unit into Y (s x all), and the lower triangle of I + F_2'A_22 F_2 into K (s x s)."""
    apart()
    s, W, Y, K, at = units.order[u], pieces.W, pieces.Y, pieces.K, units.W[u]
    c = s + units.count[u] * units.q[0] + shape.p + 1
    for k in range(1, len(units.q)):
        q, own = units.q[k], units.own
        for j in range(units.levels[u, k]):
            begin = units.begin[u, k] + j * q
            for b in range(q):
                r = begin + b
                for i in range(c):
                    value = splat(0.0)
                    for a in range(q):
                        value = fma(get(work.F, (own[k, a], own[k, b])), get(W, at + sym(begin + a, i)), value)
                    put(Y, r * c + i, value)
    for k in range(1, len(units.q)):
        q, own = units.q[k], units.own
        for j in range(units.levels[u, k]):
            begin = units.begin[u, k] + j * q
            for b in range(q):
                for r in range(begin + b, s):
                    value = splat(1.0 if r == begin + b else 0.0)
                    for a in range(q):
                        value = fma(get(Y, r * c + begin + a), get(work.F, (own[k, a], own[k, b])), value)
                    put(K, r * s + begin + b, value)


@helper
def _factor_rest(s, K, work):
    """K's Cholesky factor in place, with the inverse of its diagonal, and its determinant."""
    apart()
    product = get(work.product, ())
    for i in range(s):
        for k in range(i + 1):
            value = get(K, i * s + k)
            for e in range(k):
                value = fma(-1.0 * get(K, i * s + e), get(K, k * s + e), value)
            if k < i:
                put(K, i * s + k, value * get(K, k * s + k))
            else:
                product = product * value
                put(K, i * s + i, 1.0 / root(value))
        if any_above(product, LARGE):
            _count_determinant(product, work)
            product = get(work.product, ())
    put(work.product, (), product)


@helper
def _solve_rest(s, c, K, Y):
    """Y (s x c) to C^-1 Y."""
    apart()
    i = 0
    while i + 2 < c:
        for r in range(s):
            one, two, three = get(Y, r * c + i), get(Y, r * c + i + 1), get(Y, r * c + i + 2)
            for k in range(r):
                left = -1.0 * get(K, r * s + k)
                one = fma(left, get(Y, k * c + i), one)
                two = fma(left, get(Y, k * c + i + 1), two)
                three = fma(left, get(Y, k * c + i + 2), three)
            last = get(K, r * s + r)
            put(Y, r * c + i, one * last)
            put(Y, r * c + i + 1, two * last)
            put(Y, r * c + i + 2, three * last)
        i += 3
    while i < c:
        for r in range(s):
            one = get(Y, r * c + i)
            for k in range(r):
                one = fma(-1.0 * get(K, r * s + k), get(Y, k * c + i), one)
            put(Y, r * c + i, one * get(K, r * s + r))
        i += 1


@helper
def _weigh(shape, units, pieces, work):
    """First pass: W, T and S (in C), log|V| as logdet + log(product)."""
    apart()
    q, width = units.q[0], shape.p + 1
    n = pair(0, q)
    for lane in range(LANES):
        work.logdet[lane] = 0.0
    _weigh_lead(shape, units, pieces, work)
    for k in range(pair(0, width)):
        put(work.C, k, get(work.S0, k))
    for u in range(len(units.count)):
        s, lead = units.order[u], units.count[u] * q
        wide, c = s + width, s + lead + width
        for k in range(pair(0, wide)):
            put(pieces.A, k, get(pieces.M, units.M[u] + k))
        add_outer(lead, pieces.T, units.B[u], wide, pieces.B, units.B[u], wide, True, 1.0, pieces.A, 0)
        _to_columns(q, units.count[u], units.B[u], wide, pieces.R, units.first[u] * n, pieces.T)
        _arrange(u, shape, units, pieces)
        if s > 0:
            _project(u, shape, units, pieces, work)
            _factor_rest(s, pieces.K, work)
            _solve_rest(s, c, pieces.K, pieces.Y)
            add_outer(s, pieces.Y, 0, c, pieces.Y, 0, c, True, -1.0, pieces.W, units.W[u])
        for i in range(width):
            for k in range(i + 1):
                value = get(pieces.W, units.W[u] + pair(s + lead + k, s + lead + i))
                put(work.C, pair(k, i), get(work.C, pair(k, i)) + value)


@helper
def _scores(u, shape, units, pieces, work):
    """v (p + 1 x effects) of a unit: T C'^-1, its last row times sqrt(m)."""
    apart()
    width, E = shape.p + 1, units.order[u] + units.count[u] * units.q[0]
    W, v, at, vt = pieces.W, pieces.v, units.W[u], units.V[u]
    for i in range(width):
        inverse, row = get(work.inverse, i), at + pair(0, E + i)
        for e in range(E):
            value = get(W, row + e)
            for k in range(i):
                # the earlier rows are whole already, so that this is a substitution
                value = fma(-1.0 * get(work.C, pair(k, i)), get(v, vt + k * E + e), value)
            put(v, vt + i * E + e, value * inverse)


@helper
def _gradient(u, shape, units, pieces, work):
    """Add a unit to Sg, and to D of the free entries."""
    apart()
    E, W, v, H = units.order[u] + units.count[u] * units.q[0], pieces.W, pieces.v, pieces.H
    at, vt, width, D = units.W[u], units.V[u], shape.p + 1, work.D
    for k in range(len(units.q)):
        q, begin = units.q[k], units.begin[u, k]
        end = begin + units.levels[u, k] * q
        for a in range(q):
            for b in range(a + 1):
                one, two = units.own[k, a], units.own[k, b]
                if shape.blocks[one] != shape.blocks[two]:
                    continue
                place = sym(one, two)
                value = splat(0.0)
                for e in range(begin, end, q):
                    s = pair(e + b, e + a)
                    value = value + (get(W, at + s) - get(H, s))
                put(work.Sg, place, fma(0.5, value, get(work.Sg, place)))
                for i in range(width):
                    for m in range(i + 1):
                        value = get(D, (place, pair(m, i)))
                        left, right = vt + i * E, vt + m * E
                        if a == b:
                            for e in range(begin + a, end + a, q):
                                value = fma(get(v, left + e), get(v, right + e), value)
                        else:
                            for e in range(begin, end, q):
                                value = fma(get(v, left + e + a), get(v, right + e + b), value)
                                value = fma(get(v, left + e + b), get(v, right + e + a), value)
                        put(D, (place, pair(m, i)), value)


@helper
def _traces(u, units, pieces):
    """Add a unit's sums over levels j and k of W_jk[a, c] Y_jk[b, d] to Q, [(a, c), (b, d)]."""
    apart()
    W, H, Q, at = pieces.W, pieces.H, pieces.Q, units.W[u]
    for f in range(len(units.q)):
        for g in range(f, len(units.q)):
            qf, qg, begin, start = units.q[f], units.q[g], units.begin[u, f], units.begin[u, g]
            if qf == 1 and qg == 1:
                low, high = min(begin, start), max(begin, start)
                inner = units.levels[u, f] if begin <= start else units.levels[u, g]
                outer = units.levels[u, g] if begin <= start else units.levels[u, f]
                value, twice = get(Q, units.Q[f, g]), splat(0.0)
                for k in range(outer):
                    row = pair(low, high + k)
                    for s in range(row, row + (k if f == g else inner)):
                        twice = fma(get(W, at + s), get(H, s), twice)
                    if f == g:
                        value = fma(get(W, at + row + k), get(H, row + k), value)
                put(Q, units.Q[f, g], fma(2.0 if f == g else 1.0, twice, value))
            else:
                levels = units.levels[u, f]
                for k in range(units.levels[u, g]):
                    for j in range(levels):
                        for a in range(qf):
                            for c in range(qg):
                                s = sym(begin + j * qf + a, start + k * qg + c)
                                put(pieces.left, (j * qf + a) * qg + c, get(W, at + s))
                                put(pieces.right, (j * qf + a) * qg + c, get(H, s))
                    x = qf * qg
                    add_outer(levels, pieces.left, 0, x, pieces.right, 0, x, False, 1.0, Q, units.Q[f, g])


@helper
def _combine(units, shape, pieces, work):
    """H of free entries from Q."""
    apart()
    Q = pieces.Q
    for f in range(len(units.q)):
        for g in range(f, len(units.q)):
            qf, qg, at = units.q[f], units.q[g], units.Q[f, g]
            x = qf * qg
            for a in range(qf):
                for b in range(a + 1):
                    if shape.blocks[units.own[f, a]] != shape.blocks[units.own[f, b]]:
                        continue
                    one = sym(units.own[f, a], units.own[f, b])
                    for c in range(qg):
                        for d in range(c + 1):
                            if shape.blocks[units.own[g, c]] != shape.blocks[units.own[g, d]]:
                                continue
                            two = sym(units.own[g, c], units.own[g, d])
                            value = get(Q, at + (b * qg + c) * x + a * qg + d)
                            value = value + get(Q, at + (a * qg + c) * x + b * qg + d)
                            value = value + get(Q, at + (b * qg + d) * x + a * qg + c)
                            value = value + get(Q, at + (a * qg + d) * x + b * qg + c)
                            value = value * ((0.5 if a == b else 1.0) * (0.5 if c == d else 1.0))
                            put(work.H, (one, two), value)
                            put(work.H, (two, one), value)


@helper
def _less_products(shape, work):
    """H less the products of D. Of D_pp only one weight is not 1, as v_p has the root of m."""
    apart()
    p, D = shape.p, work.D
    last = pair(p, p)
    for s in range(shape.free):
        one = pair(shape.cols[s], shape.rows[s])
        for u in range(s + 1):
            two = pair(shape.cols[u], shape.rows[u])
            value = get(work.H, (one, two))
            value = fma(get(D, (one, last)) * get(D, (two, last)), -1.0 / get(work.m, ()), value)
            for i in range(p):
                term = get(D, (one, pair(i, p))) * get(D, (two, pair(i, p)))
                if shape.reml:
                    for k in range(i):
                        term = fma(get(D, (one, pair(k, i))), get(D, (two, pair(k, i))), term)
                    own = get(D, (one, pair(i, i))) * get(D, (two, pair(i, i)))
                    value = value - own
                value = fma(-2.0, term, value)
            put(work.H, (one, two), value)
            put(work.H, (two, one), value)


@helper
def _derive(shape, units, pieces, work):
    """Second pass: Sg, D and H over free entries."""
    apart()
    width = shape.p + 1
    start = 0 if shape.reml else shape.p  # ML: the fixed effects have no part in the determinant
    for s in range(shape.free):
        place = pair(shape.cols[s], shape.rows[s])
        put(work.Sg, place, splat(0.0))
        for k in range(pair(0, width)):
            put(work.D, (place, k), splat(0.0))
    for k in range(len(pieces.Q)):
        put(pieces.Q, k, splat(0.0))
    for u in range(len(units.count)):
        E = units.order[u] + units.count[u] * units.q[0]
        _scores(u, shape, units, pieces, work)
        for k in range(pair(0, E)):
            put(pieces.H, k, -1.0 * get(pieces.W, units.W[u] + k))
        at = units.V[u] + start * E
        add_outer(width - start, pieces.v, at, E, pieces.v, at, E, True, 2.0, pieces.H, 0)
        _gradient(u, shape, units, pieces, work)
        _traces(u, units, pieces)
    _combine(units, shape, pieces, work)
    _less_products(shape, work)


@helper
def _chain(shape, work):
    """Gradient g and Hessian HL in the free entries of L, as `passes`, term by term: dG and H are 0 between terms."""
    apart()
    q, f, rows, cols, blocks = shape.q, shape.free, shape.rows, shape.cols, shape.blocks
    F, frame, dG, Sg, inner = work.F, work.frame, work.dG, work.Sg, work.M
    for s in range(f):
        i, j = rows[s], cols[s]
        slope = splat(0.0)
        for a in range(q):
            if blocks[a] != blocks[i]:
                continue
            for e in range(a + 1):
                if blocks[e] != blocks[i]:
                    continue
                value = get(frame, (a, i)) * get(F, (e, j))
                value = fma(get(frame, (e, i)), get(F, (a, j)), value)
                put(dG, (s, pair(e, a)), value)
                slope = fma(get(Sg, pair(e, a)), value if a == e else 2.0 * value, slope)
        put(work.g, s, slope)
    for u in range(f):
        for s in range(f):
            value = splat(0.0)
            for k in range(f):
                if blocks[cols[k]] == blocks[cols[u]]:
                    both = pair(cols[k], rows[k])
                    value = fma(get(work.H, (pair(cols[s], rows[s]), both)), get(dG, (u, both)), value)
            put(inner, (u, s), value)
    for s in range(f):
        for u in range(s + 1):
            value = splat(0.0)
            for k in range(f):
                if blocks[cols[k]] == blocks[cols[s]]:
                    value = fma(get(dG, (s, pair(cols[k], rows[k]))), get(inner, (u, k)), value)
            if cols[s] == cols[u]:
                curve = splat(0.0)
                for a in range(q):
                    if blocks[a] != blocks[cols[s]]:
                        continue
                    along = splat(0.0)
                    for e in range(q):
                        if blocks[e] == blocks[a]:
                            along = fma(get(Sg, sym(a, e)), get(frame, (e, rows[u])), along)
                    curve = fma(get(frame, (a, rows[s])), along, curve)
                value = fma(2.0, curve, value)
            put(work.HL, (s, u), value)
            put(work.HL, (u, s), value)


@helper
def clear(shape, work):
    """Set to 0 what no pass sets: entries between terms."""
    apart()
    n = pair(0, shape.q)
    for s in range(n):
        put(work.Sg, s, splat(0.0))
        for u in range(n):
            put(work.H, (s, u), splat(0.0))
            put(work.dG, (s, u), splat(0.0))
        for k in range(pair(0, shape.p + 1)):
            put(work.D, (s, k), splat(0.0))


@helper
def evaluate(shape, units, pieces, work):
    """All pieces at the lanes' F."""
    q = shape.q
    for a in range(q):
        for e in range(a + 1):
            value = splat(0.0)
            for k in range(q):
                value = fma(get(work.F, (a, k)), get(work.F, (e, k)), value)
            put(work.G, pair(e, a), value)
    _weigh(shape, units, pieces, work)
    factor(shape, work)
    _derive(shape, units, pieces, work)
    _chain(shape, work)
    newton(shape, work)
