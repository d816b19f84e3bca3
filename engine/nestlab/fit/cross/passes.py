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

Where the leading factor has one column, a search needs no W_jk between its levels. With x_j columns of Y, d_j = R_j'K_j^-1 R_j:
W_jk = [j = k] d_j - x_j'x_k, so that

    sum_jk W_jk^2 = sum_j (d_j^2 - 2 d_j x_j'x_j) + |X X'|^2,   sum_jk v_j W_jk v_k = sum_j d_j v_j^2 - |X v|^2

which is linear in the levels (30 x 10 crossed: a third of the products of an evaluation are saved; 100 x 20: two thirds).
"""

from __future__ import annotations

import math

from ..lanes import LANES, any_above, fma, get, put, root, splat
from ..passes import LARGE, factor, newton
from ..small import apart, helper, pair, sym
from .structure import AT_B, AT_M, AT_S, AT_V, AT_W, BEGIN, COUNT, FIRST, LEVELS, ORDER

__all__ = ["add_outer", "clear", "evaluate"]


@helper
def add_outer(rows, A, a, B, b, lower, sign, first, stop, last, out, mem):
    """mem[out:] += sign sum_r A_r B_r', A_r and B_r of a and b entries, rows r from mem[A:] and mem[B:]: all a x b, or the
    lower triangle by pairs; of its rows first .. stop - 1, columns before `last`. See `passes.add_products`."""
    apart()
    for x in range(first, stop):
        end = min(x + 1, last) if lower else b
        base = out + (pair(0, x) if lower else x * b)
        y = 0
        while y + 2 < end:
            one, two, three = get(mem, base + y), get(mem, base + y + 1), get(mem, base + y + 2)
            for r in range(rows):
                left = sign * get(mem, A + r * a + x)
                s = B + r * b + y
                one = fma(left, get(mem, s), one)
                two = fma(left, get(mem, s + 1), two)
                three = fma(left, get(mem, s + 2), three)
            put(mem, base + y, one)
            put(mem, base + y + 1, two)
            put(mem, base + y + 2, three)
            y += 3
        while y < end:
            one = get(mem, base + y)
            for r in range(rows):
                one = fma(sign * get(mem, A + r * a + x), get(mem, B + r * b + y), one)
            put(mem, base + y, one)
            y += 1


@helper
def _add_symmetric(rows, A, s, lead, width, whole, sign, out, mem):
    """Add to a symmetric matrix of order s + lead + width; if not whole, without the products of leading levels with others."""
    apart()
    c = s + lead + width
    if whole:
        add_outer(rows, A, c, A, c, True, sign, 0, c, c, out, mem)
        return
    add_outer(rows, A, c, A, c, True, sign, 0, s, c, out, mem)
    add_outer(rows, A, c, A, c, True, sign, s, s + lead, s, out, mem)
    add_outer(rows, A, c, A, c, True, sign, s + lead, c, c, out, mem)
    for e in range(s, s + lead):
        place = out + pair(e, e)
        value = get(mem, place)
        for r in range(rows):
            left = get(mem, A + r * c + e)
            value = fma(sign * left, left, value)
        put(mem, place, value)


@helper
def _shorten(u, shape, head, units, mem):
    """Of a unit sum_jk W_jk^2 over leading levels j and k, and X times their T, into `short`."""
    apart()
    s, lead, width, Y = units[u, ORDER], units[u, COUNT], shape.p + 1, head.Y + units[u, ORDER]
    c, short, own = s + lead + width, head.short + units[u, AT_S], head.lead + units[u, FIRST]
    total = splat(0.0)
    for j in range(lead):
        d, W = get(mem, own + j), get(mem, head.W + units[u, AT_W] + pair(s + j, s + j))
        total = fma(d, 2.0 * W - d, total)  # d^2 - 2 d (d - W)
    for r in range(s):
        for i in range(r + 1):
            value = splat(0.0)
            for j in range(lead):
                value = fma(get(mem, Y + r * c + j), get(mem, Y + i * c + j), value)
            total = fma(value, value if i == r else 2.0 * value, total)
        for i in range(width):
            row = head.W + units[u, AT_W] + pair(0, s + lead + i) + s
            value = splat(0.0)
            for j in range(lead):
                value = fma(get(mem, Y + r * c + j), get(mem, row + j), value)
            put(mem, short + 1 + i * s + r, value)
    put(mem, short, total)


@helper
def _shortened_trace(u, shape, head, units, mem, work):
    """Of a unit sum_jk W_jk Y_jk over leading levels j and k."""
    apart()
    s, lead, width = units[u, ORDER], units[u, COUNT], shape.p + 1
    v, X, own = head.v + units[u, AT_V] + s, head.short + units[u, AT_S] + 1, head.lead + units[u, FIRST]
    total = splat(0.0)
    for i in range(width):
        inverse = get(work.inverse, i)
        value = splat(0.0)
        for r in range(s):
            along = get(mem, X + i * s + r)
            for k in range(i):
                along = fma(-1.0 * get(work.C, pair(k, i)), get(mem, X + k * s + r), along)
            along = along * inverse
            put(mem, X + i * s + r, along)
            value = fma(-1.0 * along, along, value)
        for j in range(lead):
            score = get(mem, v + i * (s + lead) + j)
            value = fma(get(mem, own + j) * score, score, value)
        if i == shape.p or shape.reml:
            total = total + value
    return 2.0 * total - get(mem, head.short + units[u, AT_S])


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
def _weigh_lead(shape, head, units, mem, work):
    """Of leading levels: own = R'K^-1 R, T = K^-1 B, and their determinants."""
    apart()
    q, width, own = head.q[0], shape.p + 1, head.own
    n = pair(0, q)
    R, B, T, N, M, rows = head.R, head.B, head.T, work.N, work.K, work.scaled
    product = splat(1.0)
    for u in range(len(units)):
        wide, at = units[u, ORDER] + width, units[u, AT_B]
        for j in range(units[u, FIRST], units[u, FIRST] + units[u, COUNT]):
            if q == 1:
                r = get(mem, R + j)
                square = r * r
                det = fma(square, get(work.G, pair(own[0, 0], own[0, 0])), 1.0)
                inverse = 1.0 / det
                put(mem, head.lead + j, square * inverse)
                for i in range(at, at + wide):
                    put(mem, T + i, get(mem, B + i) * inverse)
                product = product * det
                at += wide
            else:
                for a in range(q):
                    for e in range(q):
                        value = splat(0.0)
                        for k in range(a, q):
                            value = fma(get(mem, R + j * n + pair(a, k)), get(work.F, (own[0, k], own[0, e])), value)
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
                        value = get(mem, R + j * n + pair(a, i)) if i >= a else splat(0.0)
                        for k in range(a):
                            value = fma(-1.0 * get(M, (a, k)), get(rows, (k, i)), value)
                        put(rows, (a, i), value * get(M, (a, a)))
                for a in range(q):
                    for e in range(a + 1):
                        value = splat(0.0)
                        for k in range(q):
                            value = fma(get(rows, (k, a)), get(rows, (k, e)), value)
                        put(mem, head.lead + j * n + pair(e, a), value)
                for i in range(at, at + wide):  # K^-1 B
                    for a in range(q):
                        value = get(mem, B + i + a * wide)
                        for k in range(a):
                            value = fma(-1.0 * get(M, (a, k)), get(mem, T + i + k * wide), value)
                        put(mem, T + i + a * wide, value * get(M, (a, a)))
                    for a in range(q - 1, -1, -1):
                        value = get(mem, T + i + a * wide)
                        for k in range(a + 1, q):
                            value = fma(-1.0 * get(M, (k, a)), get(mem, T + i + k * wide), value)
                        put(mem, T + i + a * wide, value * get(M, (a, a)))
                at += q * wide
            if any_above(product, LARGE):
                _count_determinant(product, work)
                product = get(work.product, ())
    put(work.product, (), product)


@helper
def _to_columns(q, levels, at, wide, R, T, mem):
    """T = K^-1 B of a unit to R'K^-1 B, in place."""
    apart()
    n = pair(0, q)
    for j in range(levels):
        for a in range(q - 1, -1, -1):
            own = get(mem, R + j * n + pair(a, a))
            for i in range(at + a * wide, at + (a + 1) * wide):
                value = own * get(mem, T + i)
                for k in range(a):
                    value = fma(get(mem, R + j * n + pair(k, a)), get(mem, T + i - (a - k) * wide), value)
                put(mem, T + i, value)
        at += q * wide


@helper
def _arrange(u, shape, head, units, whole, mem):
    """[rest lead X y]'V_1^-1 [rest lead X y] of a unit into W, by pairs."""
    apart()
    q, width, s, W, A, T = head.q[0], shape.p + 1, units[u, ORDER], head.W, head.A, head.T
    n, wide, lead, at = pair(0, q), s + width, units[u, COUNT] * q, units[u, AT_W]
    for k in range(pair(0, s)):
        put(mem, W + at + k, get(mem, A + k))
    for e in range(lead):
        row, place = units[u, AT_B] + e * wide, at + pair(0, s + e)
        for y in range(s):
            put(mem, W + place + y, get(mem, T + row + y))
        for y in range(s, s + e + 1 if whole else s):
            put(mem, W + place + y, splat(0.0))
        block = (units[u, FIRST] + e // q) * n
        a = e % q
        for c in range(a + 1):
            put(mem, W + place + s + e - a + c, get(mem, head.lead + block + pair(c, a)))
    for i in range(width):
        place = at + pair(0, s + lead + i)
        for y in range(s):
            put(mem, W + place + y, get(mem, A + pair(y, s + i)))
        for e in range(lead):
            put(mem, W + place + s + e, get(mem, T + units[u, AT_B] + e * wide + s + i))
        for k in range(i + 1):
            put(mem, W + place + s + lead + k, get(mem, A + pair(s + k, s + i)))


@helper
def _project(u, shape, head, units, mem, work):
    """F_2'[A_22 | A_j' | A_2X] of a unit into Y (s x all), and the lower triangle of I + F_2'A_22 F_2 into K (s x s)."""
    apart()
    s, W, Y, K, at = units[u, ORDER], head.W, head.Y, head.K, units[u, AT_W]
    c = s + units[u, COUNT] * head.q[0] + shape.p + 1
    for k in range(1, head.F):
        q, own = head.q[k], head.own
        for j in range(units[u, LEVELS + 2 * k]):
            begin = units[u, BEGIN + 2 * k] + j * q
            for b in range(q):
                r = begin + b
                for i in range(c):
                    value = splat(0.0)
                    for a in range(q):
                        value = fma(get(work.F, (own[k, a], own[k, b])), get(mem, W + at + sym(begin + a, i)), value)
                    put(mem, Y + r * c + i, value)
    for k in range(1, head.F):
        q, own = head.q[k], head.own
        for j in range(units[u, LEVELS + 2 * k]):
            begin = units[u, BEGIN + 2 * k] + j * q
            for b in range(q):
                for r in range(begin + b, s):
                    value = splat(1.0 if r == begin + b else 0.0)
                    for a in range(q):
                        value = fma(get(mem, Y + r * c + begin + a), get(work.F, (own[k, a], own[k, b])), value)
                    put(mem, K + r * s + begin + b, value)


@helper
def _factor_rest(s, K, mem, work):
    """K's Cholesky factor in place, with the inverse of its diagonal, and its determinant."""
    apart()
    product = get(work.product, ())
    for i in range(s):
        for k in range(i + 1):
            value = get(mem, K + i * s + k)
            for e in range(k):
                value = fma(-1.0 * get(mem, K + i * s + e), get(mem, K + k * s + e), value)
            if k < i:
                put(mem, K + i * s + k, value * get(mem, K + k * s + k))
            else:
                product = product * value
                put(mem, K + i * s + i, 1.0 / root(value))
        if any_above(product, LARGE):
            _count_determinant(product, work)
            product = get(work.product, ())
    put(work.product, (), product)


@helper
def _solve_rest(s, c, K, Y, mem):
    """Y (s x c) to C^-1 Y."""
    apart()
    i = 0
    while i + 2 < c:
        for r in range(s):
            one, two, three = get(mem, Y + r * c + i), get(mem, Y + r * c + i + 1), get(mem, Y + r * c + i + 2)
            for k in range(r):
                left = -1.0 * get(mem, K + r * s + k)
                one = fma(left, get(mem, Y + k * c + i), one)
                two = fma(left, get(mem, Y + k * c + i + 1), two)
                three = fma(left, get(mem, Y + k * c + i + 2), three)
            last = get(mem, K + r * s + r)
            put(mem, Y + r * c + i, one * last)
            put(mem, Y + r * c + i + 1, two * last)
            put(mem, Y + r * c + i + 2, three * last)
        i += 3
    while i < c:
        for r in range(s):
            one = get(mem, Y + r * c + i)
            for k in range(r):
                one = fma(-1.0 * get(mem, K + r * s + k), get(mem, Y + k * c + i), one)
            put(mem, Y + r * c + i, one * get(mem, K + r * s + r))
        i += 1


@helper
def _weigh(shape, head, units, whole, mem, work):
    """First pass: W, T and S (in C), log|V| as logdet + log(product)."""
    apart()
    q, width = head.q[0], shape.p + 1
    n = pair(0, q)
    for lane in range(LANES):
        work.logdet[lane] = 0.0
    _weigh_lead(shape, head, units, mem, work)
    for k in range(pair(0, width)):
        put(work.C, k, get(work.S0, k))
    for u in range(len(units)):
        s, lead = units[u, ORDER], units[u, COUNT] * q
        wide, c = s + width, s + lead + width
        for k in range(pair(0, wide)):
            put(mem, head.A + k, get(mem, head.M + units[u, AT_M] + k))
        add_outer(
            lead, head.T + units[u, AT_B], wide, head.B + units[u, AT_B], wide, True, 1.0, 0, wide, wide, head.A, mem
        )
        _to_columns(q, units[u, COUNT], units[u, AT_B], wide, head.R + units[u, FIRST] * n, head.T, mem)
        _arrange(u, shape, head, units, whole, mem)
        if s > 0:
            _project(u, shape, head, units, mem, work)
            _factor_rest(s, head.K, mem, work)
            _solve_rest(s, c, head.K, head.Y, mem)
            _add_symmetric(s, head.Y, s, lead, width, whole, -1.0, head.W + units[u, AT_W], mem)
        if not whole:
            _shorten(u, shape, head, units, mem)
        for i in range(width):
            for k in range(i + 1):
                value = get(mem, head.W + units[u, AT_W] + pair(s + lead + k, s + lead + i))
                put(work.C, pair(k, i), get(work.C, pair(k, i)) + value)


@helper
def _scores(u, shape, head, units, mem, work):
    """v (p + 1 x effects) of a unit: T C'^-1, its last row times sqrt(m)."""
    apart()
    width, E = shape.p + 1, units[u, ORDER] + units[u, COUNT] * head.q[0]
    W, v, at, vt = head.W, head.v, units[u, AT_W], units[u, AT_V]
    for i in range(width):
        inverse, row = get(work.inverse, i), at + pair(0, E + i)
        for e in range(E):
            value = get(mem, W + row + e)
            for k in range(i):
                # the earlier rows are whole already, so that this is a substitution
                value = fma(-1.0 * get(work.C, pair(k, i)), get(mem, v + vt + k * E + e), value)
            put(mem, v + vt + i * E + e, value * inverse)


@helper
def _gradient(u, shape, head, units, mem, work):
    """Add a unit to Sg, and to D of the free entries."""
    apart()
    E, W, v, H = units[u, ORDER] + units[u, COUNT] * head.q[0], head.W, head.v, head.H
    at, vt, width, D = units[u, AT_W], units[u, AT_V], shape.p + 1, work.D
    for k in range(head.F):
        q, begin = head.q[k], units[u, BEGIN + 2 * k]
        end = begin + units[u, LEVELS + 2 * k] * q
        for a in range(q):
            for b in range(a + 1):
                one, two = head.own[k, a], head.own[k, b]
                if shape.blocks[one] != shape.blocks[two]:
                    continue
                place = sym(one, two)
                value = splat(0.0)
                for e in range(begin, end, q):
                    s = pair(e + b, e + a)
                    value = value + (get(mem, W + at + s) - get(mem, H + s))
                put(work.Sg, place, fma(0.5, value, get(work.Sg, place)))
                for i in range(width):
                    for m in range(i + 1):
                        value = get(D, (place, pair(m, i)))
                        left, right = vt + i * E, vt + m * E
                        if a == b:
                            for e in range(begin + a, end + a, q):
                                value = fma(get(mem, v + left + e), get(mem, v + right + e), value)
                        else:
                            for e in range(begin, end, q):
                                value = fma(get(mem, v + left + e + a), get(mem, v + right + e + b), value)
                                value = fma(get(mem, v + left + e + b), get(mem, v + right + e + a), value)
                        put(D, (place, pair(m, i)), value)


@helper
def _traces(u, shape, head, units, whole, mem, work):
    """Add a unit's sums over levels j and k of W_jk[a, c] Y_jk[b, d] to Q, [(a, c), (b, d)]."""
    apart()
    W, H, Q, at = head.W, head.H, head.sums, units[u, AT_W]
    for f in range(head.F):
        for g in range(f, head.F):
            qf, qg, begin, start = head.q[f], head.q[g], units[u, BEGIN + 2 * f], units[u, BEGIN + 2 * g]
            if g == 0 and not whole:
                value = _shortened_trace(u, shape, head, units, mem, work)
                put(mem, Q + head.Q[0, 0], get(mem, Q + head.Q[0, 0]) + value)
            elif qf == 1 and qg == 1:
                low, high = min(begin, start), max(begin, start)
                inner = units[u, LEVELS + 2 * f] if begin <= start else units[u, LEVELS + 2 * g]
                outer = units[u, LEVELS + 2 * g] if begin <= start else units[u, LEVELS + 2 * f]
                value, twice = get(mem, Q + head.Q[f, g]), splat(0.0)
                for k in range(outer):
                    row = pair(low, high + k)
                    for s in range(row, row + (k if f == g else inner)):
                        twice = fma(get(mem, W + at + s), get(mem, H + s), twice)
                    if f == g:
                        value = fma(get(mem, W + at + row + k), get(mem, H + row + k), value)
                put(mem, Q + head.Q[f, g], fma(2.0 if f == g else 1.0, twice, value))
            else:
                levels = units[u, LEVELS + 2 * f]
                for k in range(units[u, LEVELS + 2 * g]):
                    for j in range(levels):
                        for a in range(qf):
                            for c in range(qg):
                                s = sym(begin + j * qf + a, start + k * qg + c)
                                put(mem, head.left + (j * qf + a) * qg + c, get(mem, W + at + s))
                                put(mem, head.right + (j * qf + a) * qg + c, get(mem, H + s))
                    x = qf * qg
                    add_outer(levels, head.left, x, head.right, x, False, 1.0, 0, x, x, Q + head.Q[f, g], mem)


@helper
def _combine(shape, head, mem, work):
    """H of free entries from Q."""
    apart()
    Q = head.sums
    for f in range(head.F):
        for g in range(f, head.F):
            qf, qg, at = head.q[f], head.q[g], head.Q[f, g]
            x = qf * qg
            for a in range(qf):
                for b in range(a + 1):
                    if shape.blocks[head.own[f, a]] != shape.blocks[head.own[f, b]]:
                        continue
                    one = sym(head.own[f, a], head.own[f, b])
                    for c in range(qg):
                        for d in range(c + 1):
                            if shape.blocks[head.own[g, c]] != shape.blocks[head.own[g, d]]:
                                continue
                            two = sym(head.own[g, c], head.own[g, d])
                            value = get(mem, Q + at + (b * qg + c) * x + a * qg + d)
                            value = value + get(mem, Q + at + (a * qg + c) * x + b * qg + d)
                            value = value + get(mem, Q + at + (b * qg + d) * x + a * qg + c)
                            value = value + get(mem, Q + at + (a * qg + d) * x + b * qg + c)
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
def _derive(shape, head, units, whole, mem, work):
    """Second pass: Sg, D and H over free entries."""
    apart()
    width = shape.p + 1
    start = 0 if shape.reml else shape.p  # ML: the fixed effects have no part in the determinant
    for s in range(shape.free):
        place = pair(shape.cols[s], shape.rows[s])
        put(work.Sg, place, splat(0.0))
        for k in range(pair(0, width)):
            put(work.D, (place, k), splat(0.0))
    for k in range(head.left - head.sums):
        put(mem, head.sums + k, splat(0.0))
    for u in range(len(units)):
        E = units[u, ORDER] + units[u, COUNT] * head.q[0]
        _scores(u, shape, head, units, mem, work)
        s = units[u, ORDER]
        for x in range(E):
            for y in range(x + 1):
                if whole or y < s or y == x:
                    k = pair(y, x)
                    put(mem, head.H + k, -1.0 * get(mem, head.W + units[u, AT_W] + k))
        at = units[u, AT_V] + start * E
        _add_symmetric(width - start, head.v + at, s, E - s, 0, whole, 2.0, head.H, mem)
        _gradient(u, shape, head, units, mem, work)
        _traces(u, shape, head, units, whole, mem, work)
    _combine(shape, head, mem, work)
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
def evaluate(shape, head, units, whole, mem, work):
    """All pieces at the lanes' F; if not whole, without W_jk between leading levels where they have one column."""
    q, whole = shape.q, whole or head.q[0] > 1
    for a in range(q):
        for e in range(a + 1):
            value = splat(0.0)
            for k in range(q):
                value = fma(get(work.F, (a, k)), get(work.F, (e, k)), value)
            put(work.G, pair(e, a), value)
    _weigh(shape, head, units, whole, mem, work)
    factor(shape, work)
    _derive(shape, head, units, whole, mem, work)
    _chain(shape, work)
    newton(shape, work)
