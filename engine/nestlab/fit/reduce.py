"""From the Gram of replicates to what the deviance is made of, for as many replicates at once as a vector has lanes.

Per cluster Z'Z = R'R, whitened: R U^-1 with U'U the mean over clusters of Z'Z within each random term; B = R'^-1 Z'[X y];
S0 = [X y]'[X y] - sum B'B. Clusters that have one R by design (balanced, x fixed) are pooled: the deviance needs their B only as
the sum of vec(B)vec(B)', so that the rows of its factor, at most q (p + 1), stand for all of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .lanes import LANES, choose, fma, get, get_from, put, root, splat
from .passes import add_products
from .small import apart, cholesky, helper, pair, sym
from .status import Status

__all__ = [
    "NONFINITE", "PERFECT_TOLERANCE", "PIVOT_TOLERANCE", "RANK_DEFICIENT", "full_rank", "pool", "reduce_lanes", "whiten",
    "within_rank",
]  # fmt: skip

Array = NDArray[np.float64]

RANK_DEFICIENT, NONFINITE = int(Status.rank_deficient), int(Status.nonfinite)
#: A pivot of X'X, of the mean of Z'Z or of a cluster's Z'Z, over its diagonal: below this a column is a combination of others.
#: Shifts of a predictor by k of its standard deviations bring pivots of k^-2 and rounding of 1e-16 k^2.
PIVOT_TOLERANCE = 1e-10
#: Sum of squares of a fixed effect within clusters, over the whole, that is rounding.
WITHIN_TOLERANCE = 1e-13
#: Residual sum of squares with every random effect free, over y'y: below this the response is fitted perfectly, or its digits
#: are lost to its mean.
PERFECT_TOLERANCE = 1e-12
#: What is left of a pooled row beside the earlier ones, over the whole, that is rounding.
POOL_TOLERANCE = 1e-15


@helper
def pool(groups, most):
    """(first (K), repeats (K), slot (J)): for groups of clusters with one R, numbered by their first cluster, rising.

    A group of more than `most` clusters becomes `most` rows; smaller ones stay as they are. first: a cluster of the row's group;
    slot: the first row of each cluster's group if it is pooled, else -1 - its own row.
    """
    apart()
    J = len(groups)
    size = np.zeros(J, np.int64)
    for j in range(J):
        size[groups[j]] += 1
    row = np.full(J, -1, np.int64)
    first, repeats, slot = np.empty(J, np.int64), np.empty(J), np.empty(J, np.int64)
    K = 0
    for j in range(J):
        g = groups[j]
        if size[g] <= most:
            first[K], repeats[K], slot[j] = j, 1.0, -1 - K
            K += 1
        else:
            if row[g] < 0:
                row[g] = K
                for k in range(most):
                    first[K + k], repeats[K + k] = j, size[g] if k == 0 else 0.0
                K += most
            slot[j] = row[g]
    return first[:K], repeats[:K], slot


@helper
def _column(X, j, s, r):
    """X[j, s, r : r + lanes], or what all replicates share."""
    if X.shape[2] > 1:
        return get_from(X, (j, s), r)
    return splat(X[j, s, 0])


@helper
def _weight(weights, k, j, r):
    """Of level-2 multiplier k; 0 is the constant 1."""
    return splat(1.0) if k == 0 else _column(weights, k, j, r)


@helper
def _count(shape, r, dd, ready):
    """Rows and clusters of replicates r, r + 1, ..., and m."""
    apart()
    observed, present = splat(float(shape.N)), splat(float(shape.J))
    if shape.N == 0:
        present = observed
        for j in range(shape.J):
            size = _column(dd, j, 0, r)
            observed = observed + size
            present = present + choose(size, 0.0, 1.0, 0.0)
    put(ready.observed, (), observed)
    put(ready.present, (), present)
    put(ready.m, (), observed - (shape.p if shape.reml else 0))


@helper
def _load(shape, r, dd, dy, yy, weights, A, B, ready):
    """Gather replicates r, r + 1, ...: A = Z'Z, B = Z'[X y], [X y]'[X y] in S0; status where a replicate isn't finite.

    y is scaled by a power of 2 that brings y'y near 1, so that nothing overflows and no digit changes.
    """
    apart()
    q, p, zcols, xcols, xweights = shape.q, shape.p, shape.zcols, shape.xcols, shape.xweights
    n, width, J = q * (q + 1) // 2, p + 1, shape.J
    _count(shape, r, dd, ready)
    total = splat(0.0)
    for j in range(J):
        total = total + get_from(yy, j, r)
    put(ready.unit, (), total)
    for lane in range(LANES):
        size = ready.unit[lane]
        usable = 0.0 < size < np.inf
        ready.status[lane] = np.nan if usable else NONFINITE
        ready.unit[lane] = math.ldexp(1.0, -(math.frexp(size)[1] // 2)) if usable else 0.0
    unit = get(ready.unit, ())
    check = total
    for a in range(q):
        for j in range(J):
            value = get_from(dy, (j, zcols[a]), r) * unit
            put(B, (j * q + a) * width + p, value)
            check = check + value
        for b in range(a + 1):
            for j in range(J):
                value = _column(dd, j, sym(zcols[b], zcols[a]), r)
                put(A, j * n + pair(b, a), value)
                check = check + value
    put(ready.S0, pair(p, p), total * unit * unit)
    for i in range(p):
        xi, wi = xcols[i], xweights[i]
        value = splat(0.0)
        for j in range(J):
            value = fma(_weight(weights, wi, j, r), get_from(dy, (j, xi), r), value)
        put(ready.S0, pair(i, p), value * unit)
        check = check + value * unit
        for a in range(q):
            for j in range(J):
                put(B, (j * q + a) * width + i, _weight(weights, wi, j, r) * _column(dd, j, sym(zcols[a], xi), r))
        for k in range(i + 1):
            xk, wk = xcols[k], xweights[k]
            value = splat(0.0)
            for j in range(J):
                weight = _weight(weights, wi, j, r) * _weight(weights, wk, j, r)
                value = fma(weight, _column(dd, j, sym(xk, xi), r), value)
            put(ready.S0, pair(k, i), value)
            check = check + value
    put(ready.rank, (), check)
    for lane in range(LANES):
        if not math.isfinite(ready.rank[lane]):
            ready.status[lane] = NONFINITE


@helper
def full_rank(lane, p, ready):
    """Whether no fixed effect is a combination of others."""
    apart()
    for i in range(p):
        for k in range(i + 1):
            ready.one[i, k] = ready.S0[pair(k, i), lane]
    return cholesky(p, ready.one, PIVOT_TOLERANCE)


@helper
def whiten(lane, q, blocks, ready):
    """U (upper) from the mean of Z'Z. False if columns of a term are collinear."""
    apart()
    for a in range(q):
        for b in range(a + 1):
            ready.one[a, b] = ready.mean[pair(b, a), lane] if blocks[a] == blocks[b] else 0.0
    if not cholesky(q, ready.one, PIVOT_TOLERANCE):
        return False
    for a in range(q):
        for b in range(a, q):
            ready.U[a, b, lane] = ready.one[b, a]
    return True


@helper
def _mean(n, J, A, ready):
    apart()
    for s in range(n):
        value = splat(0.0)
        for j in range(J):
            value = value + get(A, j * n + s)
        put(ready.mean, s, value / get(ready.present, ()))


@helper
def _triangulate(q, width, J, A, B, ready):
    """Cluster by cluster: A = R'R to R, B to R'^-1 B; S0 less the sum of B'B. Rows of R that a cluster is too small for are 0.
    `rank` is that of Z."""
    apart()
    n = q * (q + 1) // 2
    rank = splat(0.0)
    for j in range(J):
        for a in range(q):
            pivot = get(A, j * n + pair(a, a))
            smallest = PIVOT_TOLERANCE * pivot
            for k in range(a):
                value = get(A, j * n + pair(k, a))
                pivot = fma(-1.0 * value, value, pivot)
            inverse = choose(pivot, smallest, 1.0 / root(pivot), 0.0)
            rank = rank + choose(pivot, smallest, 1.0, 0.0)
            put(A, j * n + pair(a, a), pivot * inverse)
            for e in range(a + 1, q):
                value = get(A, j * n + pair(a, e))
                for k in range(a):
                    value = fma(-1.0 * get(A, j * n + pair(k, a)), get(A, j * n + pair(k, e)), value)
                put(A, j * n + pair(a, e), value * inverse)
            for i in range((j * q + a) * width, (j * q + a + 1) * width):
                value = get(B, i)
                for k in range(a):
                    value = fma(-1.0 * get(A, j * n + pair(k, a)), get(B, i - (a - k) * width), value)
                put(B, i, value * inverse)
    put(ready.rank, (), rank)
    add_products(J * q, B, width, B, width, True, -1.0, ready.S0)


@helper
def _scale(q, J, A, ready):
    """R to R U^-1. Sets irregularity, how unlike the clusters' Z'Z are: mean square of whitened Z'Z about its mean, over q J."""
    apart()
    n, present = q * (q + 1) // 2, get(ready.present, ())
    for e in range(q):
        inverse = 1.0 / get(ready.U, (e, e))
        for a in range(e + 1):
            for j in range(J):
                value = get(A, j * n + pair(a, e))
                for k in range(a, e):
                    value = fma(-1.0 * get(A, j * n + pair(a, k)), get(ready.U, (k, e)), value)
                put(A, j * n + pair(a, e), value * inverse)
    spread = splat(0.0)
    for a in range(q):
        for e in range(a + 1):
            total = splat(0.0)
            square = splat(0.0)
            for j in range(J):
                value = splat(0.0)
                for k in range(e + 1):
                    value = fma(get(A, j * n + pair(k, a)), get(A, j * n + pair(k, e)), value)
                total = total + value
                square = fma(value, value, square)
            twice = 1.0 if a == e else 2.0
            spread = fma(twice, fma(-1.0 * total, total / present, square), spread)
    put(ready.irregularity, (), spread / (present * present * q))


@helper
def _between(q, width, J, A, B, ready):
    """Sums over clusters of r = R^-1 R'^-1 Z'y, of r r' and of (R'R)^-1, for the start by moments: r is u_j with noise."""
    apart()
    n, X, total, product, noise = q * (q + 1) // 2, ready.K, ready.centre, ready.product_sums, ready.noise
    for a in range(q):
        put(total, a, 0.0)
    for s in range(n):
        put(product, s, 0.0)
        put(noise, s, 0.0)
    for j in range(J):
        for a in range(q - 1, -1, -1):
            pivot = get(A, j * n + pair(a, a))
            inverse = choose(pivot, 0.0, 1.0 / pivot, 0.0)
            put(X, (a, a), inverse)
            r = inverse * get(B, (j * q + a) * width + width - 1)
            for e in range(a + 1, q):
                value = splat(0.0)
                for k in range(a + 1, e + 1):
                    value = fma(get(A, j * n + pair(a, k)), get(X, (k, e)), value)
                value = -1.0 * inverse * value
                put(X, (a, e), value)
                r = fma(value, get(B, (j * q + e) * width + width - 1), r)
            put(ready.length, a, r)
            put(total, a, get(total, a) + r)
        for a in range(q):
            for e in range(a + 1):
                value = get(noise, pair(e, a))
                for k in range(a, q):
                    value = fma(get(X, (e, k)), get(X, (a, k)), value)
                put(noise, pair(e, a), value)
                put(product, pair(e, a), fma(get(ready.length, a), get(ready.length, e), get(product, pair(e, a))))


@helper
def _estimate(lane, q, sigma2, ready):
    """The moments' estimate of G: the covariance of r over s2, less the mean of its noise; of two clusters or more."""
    apart()
    J = ready.present[lane]
    for a in range(q):
        for e in range(a + 1):
            s = pair(e, a)
            value = ready.product_sums[s, lane] - ready.centre[a, lane] * ready.centre[e, lane] / J
            ready.moments[s, lane] = value / ((J - 1) * sigma2) - ready.noise[s, lane] / J


@helper
def _pool_rows(q, width, first, slot, A, B, R, rows, ready):
    """Copy R and B of unpooled clusters; of each pooled group R, and the factor of the sum of vec(B)vec(B)'."""
    apart()
    n, x = q * (q + 1) // 2, q * width
    sums, row = ready.sums, ready.row
    J, K = len(slot), len(first)
    for k in range(K):
        for s in range(n):
            put(R, k * n + s, get(A, first[k] * n + s))
    for j in range(J):
        if slot[j] < 0:
            for i in range(x):
                put(rows, (-1 - slot[j]) * x + i, get(B, j * x + i))
    k = 0
    while k < K:
        if slot[first[k]] < 0:
            k += 1
            continue
        for s in range(x * (x + 1) // 2):
            put(sums, s, splat(0.0))
        j = 0
        while j < J:  # runs of neighbours in the group
            end = j
            while end < J and slot[end] == k:
                end += 1
            if end > j:
                add_products(end - j, B[j * x :], x, B[j * x :], x, True, 1.0, sums)
            j = max(end, j + 1)
        for a in range(x):
            put(ready.length, a, get(sums, pair(a, a)))
        for a in range(x):  # row a of the upper factor, outer-product form
            pivot = get(sums, pair(a, a))
            inverse = choose(pivot, POOL_TOLERANCE * get(ready.length, a), 1.0 / root(pivot), 0.0)
            for b in range(x):
                value = splat(0.0)
                if b >= a:
                    value = get(sums, pair(a, b)) * inverse
                put(rows, (k + a) * x + b, value)
                put(row, b, value)
            for b in range(a + 1, x):
                for c in range(a + 1, b + 1):
                    s = pair(c, b)
                    put(sums, s, fma(-1.0 * get(row, b), get(row, c), get(sums, s)))
        k += x


@helper
def within_rank(lane, p, ready):
    """(rank of X within clusters, residual sum of squares with every u_j free), of S0 of a lane.

    Columns of X that vary within clusters as those of Z do only are made exactly 0 in S0, where they are rounding.
    """
    apart()
    S0, C = ready.one, ready.two
    for i in range(p + 1):
        for k in range(i + 1):
            S0[i, k] = ready.S0[pair(k, i), lane]
    for i in range(p):
        if not S0[i, i] > WITHIN_TOLERANCE * ready.diagonal[i, lane]:
            for k in range(p + 1):
                S0[max(i, k), min(i, k)] = 0.0
                ready.S0[sym(k, i), lane] = 0.0
    rank = 0
    for i in range(p + 1):
        pivot = S0[i, i]
        for k in range(i):
            value = S0[i, k]
            for e in range(k):
                value -= C[i, e] * C[k, e]
            C[i, k] = value / C[k, k]
            pivot -= C[i, k] * C[i, k]
        if i == p:
            return rank, pivot
        C[i, i] = np.inf
        if pivot > PIVOT_TOLERANCE * ready.diagonal[i, lane]:
            rank += 1
            C[i, i] = math.sqrt(pivot)
    return rank, 0.0


@helper
def reduce_lanes(shape, first, slot, r, dd, dy, yy, weights, A, B, R, rows, ready):
    """Reduce replicates r .. r + LANES - 1 into R (K x q(q+1)/2), rows (K x q (p + 1): their B) and the record `ready`; first,
    slot: see `pool`; A and B (J x .): scratch, or R and rows themselves where no cluster is pooled."""
    apart()
    q, p, J = shape.q, shape.p, shape.J
    _load(shape, r, dd, dy, yy, weights, A, B, ready)
    _mean(q * (q + 1) // 2, J, A, ready)
    for lane in range(LANES):
        for i in range(p + 1):
            ready.diagonal[i, lane] = ready.S0[pair(i, i), lane]
        if math.isnan(ready.status[lane]) and (
            p >= ready.observed[lane]
            or ready.present[lane] * shape.largest >= ready.observed[lane]
            or ready.present[lane] < 2
            or not full_rank(lane, p, ready)
            or not whiten(lane, q, shape.blocks, ready)
        ):
            ready.status[lane] = RANK_DEFICIENT
    _triangulate(q, p + 1, J, A, B, ready)
    _scale(q, J, A, ready)
    _between(q, p + 1, J, A, B, ready)
    if len(first) < J:
        _pool_rows(q, p + 1, first, slot, A, B, R, rows, ready)
    for lane in range(LANES):
        if math.isnan(ready.status[lane]):
            within, least = within_rank(lane, p, ready)
            free = ready.observed[lane] - ready.rank[lane] - within
            if free <= 0:
                ready.status[lane] = RANK_DEFICIENT
            elif not least > PERFECT_TOLERANCE * ready.diagonal[p, lane]:
                ready.status[lane] = NONFINITE
            else:
                _estimate(lane, q, least / free, ready)
