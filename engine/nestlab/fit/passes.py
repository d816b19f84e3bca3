"""The deviance and its derivatives, of as many replicates at once as a vector has lanes.

Two passes over the clusters: the first weighs each cluster by K^-1 and adds up S = [X y]'V^-1 [X y]; the second, which needs the
factor of S, adds up gradient and Hessian. Then the chain to the free entries of L, and the Newton step. Formulas stand in
`kernel`. Lane arrays have the lane as their last axis; symmetric matrices are stored by pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lanes import LANES, any_above, choose, fma, get, put, root, splat
from .small import apart, helper, pair, sym

__all__ = ["Clusters", "add_products", "derive", "evaluate", "factor", "newton", "to_scores", "weigh"]

Array = NDArray[np.float64]

#: Pivot of the Hessian over its diagonal: below this it is not positive definite.
HESSIAN_TOLERANCE = 1e-10
#: A product of determinants beyond this is turned into its logarithm.
LARGE = 1e200


class Clusters(NamedTuple):
    """Of K clusters, by rows of one array: R (K x q(q+1)/2) and B (K x q x (p + 1)); at the point W = R'K^-1 R like R, T like B:
    K^-1 B, then v, Y like R, and |K| (K)."""

    R: Array
    B: Array
    W: Array
    T: Array
    Y: Array
    det: Array


@helper
def add_products(rows, A, a, B, b, lower, sign, out):
    """out += sign sum_r A_r B_r', A_r and B_r of a and b entries: the lower triangle by pairs, or all a x b.

    Sums of three products at once stay in registers while the loop runs over the rows: 1.3 loads a product, not 3 and a store.
    """
    apart()
    for x in range(a):
        end = x + 1 if lower else b
        base = pair(0, x) if lower else x * b
        y = 0
        while y + 2 < end:
            one, two, three = get(out, base + y), get(out, base + y + 1), get(out, base + y + 2)
            for r in range(rows):
                left = sign * get(A, r * a + x)
                one = fma(left, get(B, r * b + y), one)
                two = fma(left, get(B, r * b + y + 1), two)
                three = fma(left, get(B, r * b + y + 2), three)
            put(out, base + y, one)
            put(out, base + y + 1, two)
            put(out, base + y + 2, three)
            y += 3
        while y < end:
            one = get(out, base + y)
            for r in range(rows):
                one = fma(sign * get(A, r * a + x), get(B, r * b + y), one)
            put(out, base + y, one)
            y += 1


@helper
def _weigh_one(p, K, clusters, work):
    """Weigh the clusters by K^-1 where q = 1: sets W, T = K^-1 B and |K|."""
    apart()
    width = p + 1
    for j in range(K):
        r = get(clusters.R, j)
        square = r * r
        det = fma(square, get(work.G, 0), 1.0)
        inverse = 1.0 / det
        put(clusters.W, j, square * inverse)
        for i in range(j * width, j * width + width):
            put(clusters.T, i, get(clusters.B, i) * inverse)
        put(clusters.det, j, det)


@helper
def _weigh_two(p, K, clusters, work):
    """The same where q = 2: K = I + N N' = E D E', N = R F, E unit lower; |K| without cancellation."""
    apart()
    width = p + 1
    R, B, F = clusters.R, clusters.B, work.F
    f0, f1, f2, f3 = get(F, (0, 0)), get(F, (0, 1)), get(F, (1, 0)), get(F, (1, 1))
    volume = fma(f0, f3, -1.0 * (f1 * f2))
    for j in range(K):
        r0, r1, r2 = get(R, 3 * j), get(R, 3 * j + 1), get(R, 3 * j + 2)
        n0, n1, n2, n3 = fma(r0, f0, r1 * f2), fma(r0, f1, r1 * f3), r2 * f2, r2 * f3
        whole = r0 * r2 * volume
        pivot = fma(n0, n0, fma(n1, n1, 1.0))
        det = fma(n2, n2, fma(n3, n3, fma(whole, whole, pivot)))
        both = 1.0 / (pivot * det)
        d0, d1 = both * det, both * (pivot * pivot)
        e = fma(n0, n2, n1 * n3) * (-1.0 * d0)
        u0, u1 = e * r0, fma(e, r1, r2)
        s0, s1 = r0 * d0, u0 * d1
        put(clusters.W, 3 * j, fma(s1, u0, s0 * r0))
        put(clusters.W, 3 * j + 1, fma(s1, u1, s0 * r1))
        put(clusters.W, 3 * j + 2, fma(u1 * d1, u1, r1 * d0 * r1))
        for i in range(2 * j * width, 2 * j * width + width):
            b0 = get(B, i)
            z1 = fma(e, b0, get(B, i + width)) * d1
            put(clusters.T, i, fma(e, z1, b0 * d0))
            put(clusters.T, i + width, z1)
        put(clusters.det, j, det)


@helper
def _weigh_any(q, p, K, clusters, work):
    """The same for any q: by the Cholesky factor of K = I + N N', N = R F."""
    apart()
    width, n = p + 1, q * (q + 1) // 2
    R, B, N, M, rows, T = clusters.R, clusters.B, work.N, work.K, work.scaled, clusters.T
    for j in range(K):
        for a in range(q):
            for e in range(q):
                value = splat(0.0)
                for k in range(a, q):
                    value = fma(get(R, j * n + pair(a, k)), get(work.F, (k, e)), value)
                put(N, (a, e), value)
        for a in range(q):
            for e in range(a + 1):
                value = splat(1.0 if a == e else 0.0)
                for k in range(q):
                    value = fma(get(N, (a, k)), get(N, (e, k)), value)
                put(M, (a, e), value)
        det = splat(1.0)
        for a in range(q):  # the factor, with the inverse of its diagonal
            for e in range(a + 1):
                value = get(M, (a, e))
                for k in range(e):
                    value = fma(-1.0 * get(M, (a, k)), get(M, (e, k)), value)
                if e < a:
                    put(M, (a, e), value * get(M, (e, e)))
                else:
                    det = det * value
                    put(M, (a, a), 1.0 / root(value))
        for a in range(q):  # K^-1/2 [R B]
            for i in range(q + width):
                value = splat(0.0)
                if i >= q:
                    value = get(B, (j * q + a) * width + i - q)
                elif i >= a:
                    value = get(R, j * n + pair(a, i))
                for k in range(a):
                    value = fma(-1.0 * get(M, (a, k)), get(rows, (k, i)), value)
                put(rows, (a, i), value * get(M, (a, a)))
        for a in range(q):
            for e in range(a + 1):
                value = splat(0.0)
                for k in range(q):
                    value = fma(get(rows, (k, a)), get(rows, (k, e)), value)
                put(clusters.W, j * n + pair(e, a), value)
        for a in range(q - 1, -1, -1):  # K^-1/2' of that of B
            for i in range(width):
                value = get(rows, (a, q + i))
                for k in range(a + 1, q):
                    value = fma(-1.0 * get(M, (k, a)), get(T, (j * q + k) * width + i), value)
                put(T, (j * q + a) * width + i, value * get(M, (a, a)))
        put(clusters.det, j, det)


@helper
def weigh(shape, repeats, clusters, work):
    """First pass: W, T = K^-1 B, log|K| as logdet + log(product), and S (in C)."""
    apart()
    q, p, K = shape.q, shape.p, len(repeats)
    if q == 1:
        _weigh_one(p, K, clusters, work)
    elif q == 2:
        _weigh_two(p, K, clusters, work)
    else:
        _weigh_any(q, p, K, clusters, work)
    for lane in range(LANES):
        work.logdet[lane] = 0.0
    product = splat(1.0)
    for j in range(K):
        if repeats[j] == 1.0:
            product = product * get(clusters.det, j)
            if any_above(product, LARGE):
                put(work.product, (), product)
                for lane in range(LANES):
                    if work.product[lane] > LARGE:
                        work.logdet[lane] += math.log(work.product[lane])
                        work.product[lane] = 1.0
                product = get(work.product, ())
        elif repeats[j] > 1.0:
            for lane in range(LANES):
                work.logdet[lane] += repeats[j] * math.log(clusters.det[j, lane])
    put(work.product, (), product)
    for s in range(pair(p, p) + 1):
        put(work.C, s, get(work.S0, s))
    add_products(K * q, clusters.T, p + 1, clusters.B, p + 1, True, 1.0, work.C)


@helper
def factor(shape, work):
    """C, lower-triangular, S = C C'; a pivot that is not positive leaves nan or 0 on the diagonal."""
    apart()
    width = shape.p + 1
    C = work.C
    for j in range(width):
        pivot = get(C, pair(j, j))
        for k in range(j):
            value = get(C, pair(k, j))
            pivot = fma(-1.0 * value, value, pivot)
        pivot = root(pivot)
        inverse = 1.0 / pivot
        put(C, pair(j, j), pivot)
        for i in range(j + 1, width):
            value = get(C, pair(j, i))
            for k in range(j):
                value = fma(-1.0 * get(C, pair(k, i)), get(C, pair(k, j)), value)
            put(C, pair(j, i), value * inverse)
        put(work.inverse, j, inverse if j < width - 1 else inverse * root(get(work.m, ())) * get(work.yes, ()))


@helper
def to_scores(rows, width, T, work):
    """From T = K^-1 B (rows x width) to T C'^-1, in place."""
    apart()
    for i in range(width):
        inverse = get(work.inverse, i)
        for k in range(i):
            factor = -1.0 * get(work.C, pair(k, i))
            last = inverse if k == i - 1 else splat(1.0)
            for r in range(rows):
                put(T, r * width + i, fma(factor, get(T, r * width + k), get(T, r * width + i)) * last)
        if i == 0:
            for r in range(rows):
                put(T, r * width, get(T, r * width) * inverse)


@helper
def _scores(shape, clusters, work):
    """From T = K^-1 B to v = R'K^-1 B C'^-1, in place."""
    apart()
    q, width, T, R = shape.q, shape.p + 1, clusters.T, clusters.R
    n, rows = q * (q + 1) // 2, len(T) // width
    to_scores(rows, width, T, work)
    for j in range(rows // q):
        for a in range(q - 1, -1, -1):
            for i in range((j * q + a) * width, (j * q + a + 1) * width):
                value = get(R, j * n + pair(a, a)) * get(T, i)
                for k in range(a):
                    value = fma(get(R, j * n + pair(k, a)), get(T, i - (a - k) * width), value)
                put(T, i, value)


@helper
def derive(shape, repeats, clusters, work):
    """Second pass: gradient Sg and Hessian H over pairs, E_ii = e_i e_i', E_ik = e_i e_k' + e_k e_i'.

    v_p, of y, is sqrt(m) times that of the formulas, so that all weights but that of D_pp^2 are 1.
    """
    apart()
    q, width, v = shape.q, shape.p + 1, clusters.T
    n, K = q * (q + 1) // 2, len(repeats)
    start = 0 if shape.reml else shape.p  # ML: the fixed effects have no part in the determinant
    _scores(shape, clusters, work)
    for a in range(q):
        for e in range(a + 1):
            s = pair(e, a)
            slope = splat(0.0)
            for j in range(K):
                left, right = (j * q + a) * width, (j * q + e) * width
                value = splat(0.0)
                i = start
                while i + 2 < width:
                    value = fma(get(v, left + i), get(v, right + i), value)
                    value = fma(get(v, left + i + 1), get(v, right + i + 1), value)
                    value = fma(get(v, left + i + 2), get(v, right + i + 2), value)
                    i += 3
                while i < width:
                    value = fma(get(v, left + i), get(v, right + i), value)
                    i += 1
                weight = repeats[j] * get(clusters.W, j * n + s)
                slope = slope + (weight - value)
                put(clusters.Y, j * n + s, fma(2.0, value, -1.0 * weight))
            put(work.Sg, s, slope)
    for s in range(n * n):
        put(work.Q, s, splat(0.0))
    add_products(K, clusters.W, n, clusters.Y, n, False, 1.0, work.Q)
    x = q * width
    for s in range(x * (x + 1) // 2):
        put(work.vv, s, splat(0.0))
    add_products(K, v, x, v, x, True, 1.0, work.vv)
    _hessian(shape, work)


@helper
def _hessian(shape, work):
    """H from the sums: tr(E W E Y) of Q and, of vv, the D_ik(E) for all pairs of columns i, k of [X y]."""
    apart()
    q, p = shape.q, shape.p
    width, n = p + 1, q * (q + 1) // 2
    Q, D, vv, H = work.Q, work.D, work.vv, work.H
    for a in range(q):
        for e in range(a + 1):
            half = 0.5 if a == e else 1.0
            for i in range(width):
                for k in range(i + 1):
                    value = get(vv, sym(a * width + i, e * width + k))
                    value = half * (value + get(vv, sym(a * width + k, e * width + i)))
                    put(D, (pair(e, a), pair(k, i)), value)
    for a in range(q):
        for e in range(a + 1):
            s = pair(e, a)
            for f in range(q):
                for g in range(f + 1):
                    u = pair(g, f)
                    if u > s:
                        continue
                    value = get(Q, sym(e, f) * n + sym(g, a)) + get(Q, sym(a, f) * n + sym(g, e))
                    value = value + (get(Q, sym(e, g) * n + sym(f, a)) + get(Q, sym(a, g) * n + sym(f, e)))
                    value = value * (0.25 * (1.0 if a == e else 2.0) * (1.0 if f == g else 2.0))
                    last = get(D, (s, pair(p, p))) * get(D, (u, pair(p, p)))
                    value = fma(last, -1.0 / get(work.m, ()), value)
                    for i in range(p):
                        term = get(D, (s, pair(i, p))) * get(D, (u, pair(i, p)))
                        if shape.reml:
                            for k in range(i):
                                term = fma(get(D, (s, pair(k, i))), get(D, (u, pair(k, i))), term)
                            own = get(D, (s, pair(i, i))) * get(D, (u, pair(i, i)))
                            value = value - own
                        value = fma(-2.0, term, value)
                    put(H, (s, u), value)
                    put(H, (u, s), value)


@helper
def _chain(shape, work):
    """Gradient g and Hessian HL in the free entries of L: dG/dL_ij = v_i F_j' + F_j v_i', columns of the frame V and of F."""
    apart()
    q, f, rows, cols = shape.q, shape.free, shape.rows, shape.cols
    n = q * (q + 1) // 2
    F, frame, dG, Sg = work.F, work.frame, work.dG, work.Sg
    for s in range(f):
        i, j = rows[s], cols[s]
        slope = splat(0.0)
        for a in range(q):
            for e in range(a + 1):
                value = get(frame, (a, i)) * get(F, (e, j))
                value = fma(get(frame, (e, i)), get(F, (a, j)), value)
                put(dG, (s, pair(e, a)), value)
                slope = fma(get(Sg, pair(e, a)), value if a == e else 2.0 * value, slope)
        put(work.g, s, slope)
    for s in range(f):
        for u in range(s + 1):
            value = splat(0.0)
            for a in range(n):
                inner = splat(0.0)
                for e in range(n):
                    inner = fma(get(work.H, (a, e)), get(dG, (u, e)), inner)
                value = fma(get(dG, (s, a)), inner, value)
            if cols[s] == cols[u]:
                curve = splat(0.0)
                for a in range(q):
                    inner = splat(0.0)
                    for e in range(q):
                        inner = fma(get(Sg, sym(a, e)), get(frame, (e, rows[u])), inner)
                    curve = fma(get(frame, (a, rows[s])), inner, curve)
                value = fma(2.0, curve, value)
            put(work.HL, (s, u), value)
            put(work.HL, (u, s), value)


@helper
def newton(shape, work):
    """The Newton step of the lanes whose Hessian is positive definite, which `definite` tells; its factor in M."""
    apart()
    f = shape.free
    M, step = work.M, work.step
    definite = splat(1.0)
    for s in range(f):
        for u in range(s + 1):
            value = get(work.HL, (s, u))
            for k in range(u):
                value = fma(-1.0 * get(M, (s, k)), get(M, (u, k)), value)
            if u < s:
                put(M, (s, u), value / get(M, (u, u)))
            else:
                definite = choose(value, HESSIAN_TOLERANCE * get(work.HL, (s, s)), definite, 0.0)
                put(M, (s, s), root(value))
        value = -1.0 * get(work.g, s)
        for u in range(s):
            value = fma(-1.0 * get(M, (s, u)), get(step, u), value)
        put(step, s, value / get(M, (s, s)))
    slope = splat(0.0)
    for s in range(f - 1, -1, -1):
        value = get(step, s)
        for u in range(s + 1, f):
            value = fma(-1.0 * get(M, (u, s)), get(step, u), value)
        value = value / get(M, (s, s))
        put(step, s, value)
        slope = fma(get(work.g, s), value, slope)
    put(work.slope, (), slope)
    put(work.definite, (), definite)


@helper
def evaluate(shape, repeats, clusters, work):
    """All pieces at the lanes' F. repeats (K): how many clusters share R with cluster j and are counted with it (0: counted
    with an earlier one)."""
    q = shape.q
    for a in range(q):
        for e in range(a + 1):
            value = splat(0.0)
            for k in range(q):
                value = fma(get(work.F, (a, k)), get(work.F, (e, k)), value)
            put(work.G, pair(e, a), value)
    weigh(shape, repeats, clusters, work)
    factor(shape, work)
    derive(shape, repeats, clusters, work)
    _chain(shape, work)
    newton(shape, work)
