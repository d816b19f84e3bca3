"""The compiled fit of a linear mixed model from sufficient statistics, for many replicates.

Model, for cluster j of J: y_j = X_j b + Z_j u_j + e_j, u_j ~ N(0, s2 G), e_j ~ N(0, s2 I), G block-diagonal over random terms; q
random columns, p fixed effects. A cluster enters by the triangular factor of its rows, made once from its cross-products:
Z'Z = R'R, B = R'^-1 Z'[X y]; S0 = [X y]'[X y] - sum B'B is what is left within clusters. Then at G

    K = I + R G R',  S = S0 + sum B'K^-1 B = C C',  C lower-triangular of order p + 1: S = [X y]'V^-1 [X y]
    rss = C_pp^2 (the last entry),  m = N - p (REML) or N (ML)
    dev = sum log|K| + [REML] 2 sum_{i<p} log C_ii + m (1 + log(2 pi rss / m))

(Bates et al. 2015, J. Stat. Softw. 67(1), eqs. 34, 41 and 42, cluster by cluster, with [X y] in place of X.) All sums are of
positive terms: no digits are lost where G is large. With W = R'K^-1 R, T = R'K^-1 B, v = T C'^-1 (columns v_i), weights
w_i = 1 (REML) or 0 (ML) for the fixed effects and w_p = m, the gradient with respect to symmetric G and the Hessian in directions
E and F are

    Sg = sum W - sum_i w_i v_i v_i'
    H(E, F) = sum tr(E W F Y) - sum_ik w_ik D_ik(E) D_ik(F),  Y = -W + 2 sum_i w_i v_i v_i',  D_ik(E) = sum v_i'E v_k

with w_ik = m where i or k is p and w_i elsewhere; v_p is the sum of squares' share, (R'K^-1 (y - X b)) / sqrt(rss).

Coordinates. The columns of Z are whitened within each random term, so that the mean over clusters of Z'Z is the identity: steps,
tolerances and the rule for `singular` are then free of the units of y and of the predictors. G = F F', F = V L with V (the frame)
orthogonal within terms and L lower-triangular: damped Newton steps in the free entries of L. The frame is turned to the
eigenvectors of G, largest first, where the Hessian is not positive definite or a column of F outgrows the one before. There the
boundary is a last column of F at 0, and the way to it is smooth; in a fixed frame a vanishing L_11 stalls the steps.

The certificate. At an optimum, block k of G has Sg_k G_k = 0 and Sg_k positive semi-definite on null(G_k). It is necessary, not
sufficient, for the deviance is not convex: `_wanted_starts` says how many starts must agree.

q and p are the lengths of `zcols` and `xcols`: passed as tuples they are part of the type, so that Numba compiles a kernel for
each shape and LLVM unrolls its small loops; passed as arrays one compilation serves all shapes. Helpers must stay in this file:
Numba's disk cache notices changes of the file of the cached function only. They copy arrays element by element, because
`A[:, :] = B` makes Numba compile its error messages, 3 s a shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["MAX_ITERATIONS", "RESIDUAL_TOLERANCE", "SINGULAR_TOLERANCE", "fit_block"]

Array = NDArray[np.float64]

OK, SINGULAR, NOT_CONVERGED, RANK_DEFICIENT, NONFINITE = 0, 1, 2, 3, 4

#: Newton steps from one start. Largest seen on 5 million starts of small designs: 33 (q = 1), 39 (two terms), 101 (q = 2, once).
MAX_ITERATIONS = 100
#: Newton decrement g'H^-1 g, in units of deviance, at which steps stop: G is then within 1e-10 of its optimum, relatively.
DECREMENT_TOLERANCE = 1e-20
#: A decrement below this that no longer halves is rounding.
STALLED_TOLERANCE = 1e-12
#: Largest entry of Sg G, in units of deviance per relative change of G, at which a fit counts as converged.
RESIDUAL_TOLERANCE = 1e-6
#: The same over J and the largest entry of G: rounding.
ROUNDING = 1e-13
#: A fit is singular when an eigenvalue of whitened G (signal per cluster over s2) is below this, and certified singular when Sg
#: on the null space is above its negative times J, the slope that an eigenvalue of this size would leave.
SINGULAR_TOLERANCE = 1e-8
#: A pivot of X'X, of the mean of Z'Z or of a cluster's Z'Z, over its diagonal: below this a column is a combination of others.
#: Shifts of a predictor by k of its standard deviations bring pivots of k^-2 and rounding of 1e-16 k^2.
PIVOT_TOLERANCE = 1e-10
#: Sum of squares of a fixed effect within clusters, over the whole, that is rounding.
WITHIN_TOLERANCE = 1e-13
#: Residual sum of squares with every random effect free, over y'y: below this the response is fitted perfectly, or its digits
#: are lost to its mean.
PERFECT_TOLERANCE = 1e-12
#: Pivot of the correlations among the variance parameters' derivatives: below this they can't be told apart.
IDENTIFIED_TOLERANCE = 1e-8
#: Curvature of the deviance at an optimum, over J or over its diagonal, below which identification is looked into.
WEAK_TOLERANCE = 1e-6
#: Pivot of the Hessian over its diagonal: below this it is not positive definite.
HESSIAN_TOLERANCE = 1e-10
#: Whitened variance at which the residual variance is 0 for all practical purposes.
HUGE = 1e14
#: Deviances, over 1 + their size, that are the same optimum.
SAME_DEVIANCE = 1e-8
#: Irregularity (see `_reduce`) below which an interior optimum needs no second start, and above which all starts are made.
REGULAR, IRREGULAR = 0.03, 0.13
#: Turns between Newton steps and the boundary.
TURNS = 6
#: Shorter steps tried along one direction: 3 halves, then tenths.
SHORTENINGS = 30
#: Share of the predicted decrease that a step must reach, unless both are rounding: this, over 1 + the deviance's size.
SUFFICIENT = 1e-4
LINE_NOISE = 1e-10
LOG_2PI = math.log(2.0 * math.pi)
#: Square roots of primes: their multiples modulo 1 spread evenly.
ROOTS = (2.0**0.5, 3.0**0.5, 5.0**0.5, 7.0**0.5, 11.0**0.5, 13.0**0.5)
#: Fused multiply-add only; nothing that would reorder sums.
CONTRACT = {"contract"}

#: Called from compiled code only: without the wrappers for Python a shape compiles in 15 s instead of 19.
_helper = njit(error_model="numpy", fastmath=CONTRACT, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


class Model(NamedTuple):
    """What all replicates share: blocks (q), the number of each column's random term; rows, cols: the free entries of L."""

    zcols: tuple[int, ...] | NDArray[np.int64]
    xcols: tuple[int, ...] | NDArray[np.int64]
    blocks: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    reml: bool
    m: float


class Data(NamedTuple):
    """A replicate, reduced: R (J, q(q+1)/2) by pairs, B (J, q (p + 1)) of [X y], S0 (p + 1, p + 1; lower)."""

    R: Array
    B: Array
    S0: Array


class Point(NamedTuple):
    """The deviance's pieces at G: G, W (J, .) by pairs, T (J, q (p + 1)) of [X y], the factor C of S (p + 1, p + 1); scratch."""

    G: Array
    W: Array
    T: Array
    C: Array
    N: Array
    K: Array
    rows: Array


class Slopes(NamedTuple):
    """Sg by pairs and the Hessian H over pairs; scratch: v of a cluster, the sum of v v', Y of a cluster, its sums Q, D."""

    Sg: Array
    H: Array
    v: Array
    vv: Array
    Y: Array
    Q: Array
    D: Array


class Path(NamedTuple):
    """Where a search stands: F, its frame V, the step before it; gradient and Hessian over the free entries of L; scratch."""

    F: Array
    frame: Array
    before: Array
    move: Array
    dG: Array
    g: Array
    H: Array
    step: Array
    escape: Array
    M: Array
    values: Array
    vectors: Array


@_helper
def _pair(i, k):
    """Index of the entry (i, k), i <= k, of a symmetric matrix stored by columns of its upper triangle."""
    return k * (k + 1) // 2 + i


@_helper
def _sym(i, k):
    return _pair(i, k) if i <= k else _pair(k, i)


@_helper
def _copy(q, source, target):
    for a in range(q):
        for b in range(q):
            target[a, b] = source[a, b]


@_helper
def _cholesky(n, M, tolerance):
    """Lower Cholesky factor in place (lower triangle); False if a pivot is not above tolerance x its diagonal."""
    for j in range(n):
        pivot = M[j, j]
        diagonal = pivot
        for k in range(j):
            pivot -= M[j, k] * M[j, k]
        if not pivot > tolerance * diagonal:
            return False
        root = math.sqrt(pivot)
        M[j, j] = root
        for i in range(j + 1, n):
            value = M[i, j]
            for k in range(j):
                value -= M[i, k] * M[j, k]
            M[i, j] = value / root
    return True


@_helper
def _eigen(n, M, values, vectors):
    """Eigenvalues and vectors (columns) of symmetric M by cyclic Jacobi rotations; M is destroyed."""
    for i in range(n):
        for k in range(n):
            vectors[i, k] = 1.0 if i == k else 0.0
    for _ in range(30):
        off = 0.0
        scale = 0.0
        for i in range(n):
            scale += M[i, i] * M[i, i]
            for k in range(i + 1, n):
                off += M[i, k] * M[i, k]
        if off <= 1e-34 * scale or off == 0.0:
            break
        for i in range(n - 1):
            for k in range(i + 1, n):
                if M[i, k] == 0.0:
                    continue
                h = (M[k, k] - M[i, i]) / (2.0 * M[i, k])
                t = 1.0 / (abs(h) + math.sqrt(1.0 + h * h))
                if h < 0.0:
                    t = -t
                cosine = 1.0 / math.sqrt(1.0 + t * t)
                sine = t * cosine
                for m in range(n):
                    left, right = M[m, i], M[m, k]
                    M[m, i] = cosine * left - sine * right
                    M[m, k] = sine * left + cosine * right
                for m in range(n):
                    left, right = M[i, m], M[k, m]
                    M[i, m] = cosine * left - sine * right
                    M[k, m] = sine * left + cosine * right
                for m in range(n):
                    left, right = vectors[m, i], vectors[m, k]
                    vectors[m, i] = cosine * left - sine * right
                    vectors[m, k] = sine * left + cosine * right
    for i in range(n):
        values[i] = M[i, i]


@_helper
def _free_entries(blocks):
    """Rows and columns of the free entries of L, column by column; the size of the largest term."""
    q = len(blocks)
    rows, cols = np.empty(q * (q + 1) // 2, np.int64), np.empty(q * (q + 1) // 2, np.int64)
    count = 0
    largest = 0
    for k in range(q):
        size = 0
        for i in range(q):
            if blocks[i] == blocks[k]:
                size += 1
                if i >= k:
                    rows[count], cols[count] = i, k
                    count += 1
        largest = max(largest, size)
    return rows[:count], cols[:count], largest


@_helper
def _load(zcols, xcols, r, xweights, dd, dy, yy, weights, A, B, S0):
    """Gather replicate r: A = Z'Z and B = Z'[X y] of each cluster, [X y]'[X y] (lower) in S0.

    y is scaled by a power of 2 that brings y'y near 1, so that nothing overflows and no digit changes. Returns that power; 0
    unless all is finite and y'y > 0.
    """
    q, p = len(zcols), len(xcols)
    rd = r if dd.shape[2] > 1 else 0
    rw = r if weights.shape[2] > 1 else 0
    total = 0.0
    for j in range(dd.shape[0]):
        total += yy[j, r]
    if not 0.0 < total < np.inf:
        return 0.0
    unit = math.ldexp(1.0, -(math.frexp(total)[1] // 2))
    for i in range(p + 1):
        for k in range(i + 1):
            S0[i, k] = 0.0
    S0[p, p] = total * unit * unit
    check = 0.0
    for j in range(dd.shape[0]):
        for a in range(q):
            B[j, a * (p + 1) + p] = dy[j, zcols[a], r] * unit
            for b in range(a + 1):
                A[j, _pair(b, a)] = dd[j, _sym(zcols[b], zcols[a]), rd]
            check += B[j, a * (p + 1) + p] + A[j, _pair(a, a)]
        for i in range(p):
            wi = weights[xweights[i], j, rw]
            S0[p, i] += wi * dy[j, xcols[i], r] * unit
            for a in range(q):
                B[j, a * (p + 1) + i] = wi * dd[j, _sym(zcols[a], xcols[i]), rd]
            for k in range(i + 1):
                S0[i, k] += wi * weights[xweights[k], j, rw] * dd[j, _sym(xcols[k], xcols[i]), rd]
    for i in range(p):
        check += S0[p, i] + S0[i, i]
    return unit if math.isfinite(check) else 0.0


@_helper
def _full_rank(p, XX, M):
    """Whether no fixed effect is a combination of others."""
    for i in range(p):
        for k in range(i + 1):
            M[i, k] = XX[i, k]
    return _cholesky(p, M, PIVOT_TOLERANCE)


@_helper
def _whiten(q, blocks, A, U, M):
    """U (upper), each term's mean over clusters of Z'Z = U'U. False if columns of a term are collinear."""
    J = A.shape[0]
    for a in range(q):
        for b in range(a + 1):
            U[a, b] = 0.0
            M[a, b] = 0.0
            if blocks[a] == blocks[b]:
                for j in range(J):
                    M[a, b] += A[j, _pair(b, a)]
                M[a, b] /= J
    if not _cholesky(q, M, PIVOT_TOLERANCE):
        return False
    for a in range(q):
        for b in range(a, q):
            U[a, b] = M[b, a]
    return True


@_helper
def _reduce(q, p, U, A, B, S0, mean):
    """In place and cluster by cluster: A = R'R to R U^-1, B to R'^-1 B; S0 less the sum of B'B. Rows of R that a cluster is too
    small for are 0.

    Returns (rank of Z, irregularity: how unlike the clusters' Z'Z are, the mean square of whitened Z'Z about its mean over q J).
    """
    J = A.shape[0]
    width = p + 1
    rank = 0
    spread = 0.0
    for s in range(q * (q + 1) // 2):
        mean[s] = 0.0
    for j in range(J):
        for a in range(q):
            pivot = A[j, _pair(a, a)]
            smallest = PIVOT_TOLERANCE * pivot
            for k in range(a):
                pivot -= A[j, _pair(k, a)] * A[j, _pair(k, a)]
            inverse = 0.0
            if pivot > smallest:
                rank += 1
                inverse = 1.0 / math.sqrt(pivot)
            for e in range(a, q):
                value = A[j, _pair(a, e)]
                for k in range(a):
                    value -= A[j, _pair(k, a)] * A[j, _pair(k, e)]
                A[j, _pair(a, e)] = value * inverse
            for i in range(width):
                value = B[j, a * width + i]
                for k in range(a):
                    value -= A[j, _pair(k, a)] * B[j, k * width + i]
                value *= inverse
                B[j, a * width + i] = value
                for k in range(i + 1):
                    S0[i, k] -= value * B[j, a * width + k]
        for a in range(q):
            for e in range(a, q):
                value = A[j, _pair(a, e)]
                for k in range(a, e):
                    value -= A[j, _pair(a, k)] * U[k, e]
                A[j, _pair(a, e)] = value / U[e, e]
        for a in range(q):
            for e in range(a + 1):
                value = 0.0
                for k in range(e + 1):
                    value += A[j, _pair(k, a)] * A[j, _pair(k, e)]
                mean[_pair(e, a)] += value
                spread += value * value if a == e else 2.0 * value * value
    for a in range(q):
        for e in range(a + 1):
            value = mean[_pair(e, a)] / J
            spread -= J * value * value * (1.0 if a == e else 2.0)
    return rank, spread / (q * J * J)


@_helper
def _within(p, scale, S0, C):
    """Rank of X within clusters (of S0) and the residual sum of squares with every u_j free; scale: the diagonal of X'X.

    Columns of X that vary within clusters as those of Z do only are made exactly 0 in S0, where they are rounding.
    """
    for i in range(p):
        if not S0[i, i] > WITHIN_TOLERANCE * scale[i]:
            for k in range(p + 1):
                S0[max(i, k), min(i, k)] = 0.0
    rank = 0
    for i in range(p + 1):
        pivot = S0[i, i]
        for k in range(i):
            value = S0[i, k]
            for l in range(k):
                value -= C[i, l] * C[k, l]
            C[i, k] = value / C[k, k]
            pivot -= C[i, k] * C[i, k]
        if i == p:
            return rank, pivot
        C[i, i] = np.inf
        if pivot > PIVOT_TOLERANCE * scale[i]:
            rank += 1
            C[i, i] = math.sqrt(pivot)
    return rank, 0.0


@_helper
def _weigh_one(model, j, F, data, at):
    """Weigh cluster j by K^-1 where q = 1: sets W and T, adds B'K^-1 B to S (in C). Returns |K|."""
    width = len(model.xcols) + 1
    R, B, W, T, S = data.R, data.B, at.W, at.T, at.C
    det = 1.0 + R[j, 0] * R[j, 0] * F[0, 0] * F[0, 0]
    inverse = 1.0 / det
    W[j, 0] = R[j, 0] * R[j, 0] * inverse
    for i in range(width):
        z = B[j, i] * inverse
        T[j, i] = R[j, 0] * z
        for k in range(i + 1):
            S[i, k] += z * B[j, k]
    return det


@_helper
def _weigh_two(model, j, F, data, at):
    """The same where q = 2: K = I + N N' = E D E', N = R F, E unit lower; |K| without cancellation."""
    width = len(model.xcols) + 1
    R, B, W, T, S = data.R, data.B, at.W, at.T, at.C
    r0, r1, r2 = R[j, 0], R[j, 1], R[j, 2]
    n0, n1, n2, n3 = r0 * F[0, 0] + r1 * F[1, 0], r0 * F[0, 1] + r1 * F[1, 1], r2 * F[1, 0], r2 * F[1, 1]
    root = r0 * r2 * (F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0])
    pivot = 1.0 + n0 * n0 + n1 * n1
    det = pivot + n2 * n2 + n3 * n3 + root * root
    d0 = 1.0 / pivot
    d1 = pivot / det
    e = (n0 * n2 + n1 * n3) * d0
    u0, u1 = -e * r0, r2 - e * r1
    W[j, 0] = r0 * r0 * d0 + u0 * u0 * d1
    W[j, 1] = r0 * r1 * d0 + u0 * u1 * d1
    W[j, 2] = r1 * r1 * d0 + u1 * u1 * d1
    for i in range(width):
        z1 = (B[j, width + i] - e * B[j, i]) * d1
        z0 = B[j, i] * d0 - e * z1
        T[j, i] = r0 * z0
        T[j, width + i] = r1 * z0 + r2 * z1
        for k in range(i + 1):
            S[i, k] += z0 * B[j, k] + z1 * B[j, width + k]
    return det


@_helper
def _weigh_any(model, j, F, data, at):
    """The same for any q: the rows of K^-1/2 [R B] by the Cholesky factor of K = I + N N', N = R F."""
    q, width = len(model.zcols), len(model.xcols) + 1
    R, B, W, T, S, N, K, rows = data.R, data.B, at.W, at.T, at.C, at.N, at.K, at.rows
    for a in range(q):
        for e in range(q):
            value = 0.0
            for k in range(a, q):
                value += R[j, _pair(a, k)] * F[k, e]
            N[a, e] = value
    for a in range(q):
        for e in range(a + 1):
            value = 1.0 if a == e else 0.0
            for k in range(q):
                value += N[a, k] * N[e, k]
            K[a, e] = value
    _cholesky(q, K, 0.0)
    det = 1.0
    for a in range(q):
        inverse = 1.0 / K[a, a]
        det *= K[a, a] * K[a, a]
        for i in range(q + width):
            value = B[j, a * width + i - q] if i >= q else (R[j, _pair(a, i)] if i >= a else 0.0)
            for k in range(a):
                value -= K[a, k] * rows[k, i]
            rows[a, i] = value * inverse
        for i in range(width):
            for k in range(i + 1):
                S[i, k] += rows[a, q + i] * rows[a, q + k]
    for a in range(q):
        for i in range(q + width):
            value = 0.0
            for k in range(q):
                value += rows[k, a] * rows[k, i]
            if i <= a:
                W[j, _pair(i, a)] = value
            elif i >= q:
                T[j, a * width + i - q] = value
    return det


@_helper
def _covariance(q, F, G):
    for a in range(q):
        for b in range(a + 1):
            value = 0.0
            for k in range(q):
                value += F[a, k] * F[b, k]
            G[_pair(b, a)] = value


@_helper
def _deviance(model, data, F, at):
    """First pass over the clusters: the deviance at G = F F', nan where rss is not positive. Leaves the pieces in `at`."""
    q, p = len(model.zcols), len(model.xcols)
    C = at.C
    _covariance(q, F, at.G)
    for i in range(p + 1):
        for k in range(i + 1):
            C[i, k] = data.S0[i, k]
    logdet = 0.0
    product = 1.0
    for j in range(data.R.shape[0]):
        if q == 1:
            product *= _weigh_one(model, j, F, data, at)
        elif q == 2:
            product *= _weigh_two(model, j, F, data, at)
        else:
            product *= _weigh_any(model, j, F, data, at)
        if product > 1e200:
            logdet += math.log(product)
            product = 1.0
    logdet += math.log(product)
    if not _cholesky(p + 1, C, 0.0):
        return np.nan
    if model.reml:
        for i in range(p):
            logdet += 2.0 * math.log(C[i, i])
    return logdet + model.m * (1.0 + LOG_2PI + math.log(C[p, p] * C[p, p] / model.m))


@_helper
def _derivatives(model, at, slopes):
    """Second pass: gradient Sg (by pairs) and Hessian H over pairs, E_ii = e_i e_i', E_ik = e_i e_k' + e_k e_i'."""
    q, p = len(model.zcols), len(model.xcols)
    n, width = q * (q + 1) // 2, p + 1
    first = 0 if model.reml else p  # ML: the fixed effects have no part in the determinant
    m = model.m
    W, T, C = at.W, at.T, at.C
    Sg, H, v, vv, Y, Q, D = slopes
    for a in range(n):
        Sg[a] = 0.0
        for k in range(n):
            Q[a, k] = 0.0
    for x in range(q * width):
        for y in range(x + 1):
            vv[x, y] = 0.0
    for i in range(width):  # until D is made, its first row holds what the clusters divide by
        D[0, i] = 1.0 / C[i, i]
    for j in range(W.shape[0]):
        for a in range(q):
            for i in range(width):
                value = T[j, a * width + i]
                for k in range(i):
                    value -= C[i, k] * v[a * width + k]
                v[a * width + i] = value * D[0, i]
        for a in range(q):
            for e in range(a + 1):
                s = _pair(e, a)
                value = m * v[a * width + p] * v[e * width + p]
                for i in range(first, p):
                    value += v[a * width + i] * v[e * width + i]
                Sg[s] += W[j, s] - value
                Y[s] = 2.0 * value - W[j, s]
        for a in range(n):
            for e in range(n):
                Q[a, e] += W[j, a] * Y[e]
        for x in range(q * width):
            for y in range(x + 1):
                vv[x, y] += v[x] * v[y]
    for a in range(q):
        for e in range(a + 1):
            s = _pair(e, a)
            half = 0.5 if a == e else 1.0
            for i in range(width):
                for k in range(i + 1):
                    x, y = a * width + i, e * width + k
                    value = vv[max(x, y), min(x, y)]
                    x, y = a * width + k, e * width + i
                    D[s, _pair(k, i)] = half * (value + vv[max(x, y), min(x, y)])
    for a in range(q):
        for e in range(a + 1):
            s = _pair(e, a)
            for f in range(q):
                for g in range(f + 1):
                    u = _pair(g, f)
                    if u > s:
                        continue
                    # tr(E_s W E_u Y), symmetrised over the pairs
                    value = (
                        Q[_sym(e, f), _sym(g, a)]
                        + Q[_sym(a, f), _sym(g, e)]
                        + Q[_sym(e, g), _sym(f, a)]
                        + Q[_sym(a, g), _sym(f, e)]
                    )
                    value *= 0.25 * (1.0 if a == e else 2.0) * (1.0 if f == g else 2.0)
                    for i in range(first, p):
                        value -= D[s, _pair(i, i)] * D[u, _pair(i, i)]
                        for k in range(first, i):
                            value -= 2.0 * D[s, _pair(k, i)] * D[u, _pair(k, i)]
                    for i in range(p):
                        value -= 2.0 * m * D[s, _pair(i, p)] * D[u, _pair(i, p)]
                    value -= m * D[s, _pair(p, p)] * D[u, _pair(p, p)]
                    H[s, u] = value
                    H[u, s] = value


@_helper
def _chain(model, slopes, path):
    """Chain to the free entries of L, F = V L: dG/dL_ij = v_i F_j' + F_j v_i', with columns of V and F."""
    q = len(model.zcols)
    n = q * (q + 1) // 2
    rows, cols = model.rows, model.cols
    F, frame, dG, g, H = path.F, path.frame, path.dG, path.g, path.H
    Sg = slopes.Sg
    for s in range(len(rows)):
        i, j = rows[s], cols[s]
        g[s] = 0.0
        for a in range(q):
            for e in range(a):
                dG[s, _pair(e, a)] = frame[a, i] * F[e, j] + frame[e, i] * F[a, j]
                g[s] += 2.0 * Sg[_pair(e, a)] * dG[s, _pair(e, a)]
            dG[s, _pair(a, a)] = 2.0 * frame[a, i] * F[a, j]
            g[s] += Sg[_pair(a, a)] * dG[s, _pair(a, a)]
    for s in range(len(rows)):
        for u in range(s + 1):
            value = 0.0
            for a in range(n):
                inner = 0.0
                for e in range(n):
                    inner += slopes.H[a, e] * dG[u, e]
                value += dG[s, a] * inner
            if cols[s] == cols[u]:
                for a in range(q):
                    for e in range(q):
                        value += 2.0 * frame[a, rows[s]] * Sg[_sym(a, e)] * frame[e, rows[u]]
            H[s, u] = value
            H[u, s] = value


@_helper
def _newton_step(path):
    """Newton step where the Hessian is positive definite. Returns (g'step, whether it is); leaves its factor in M."""
    g, H, M, step = path.g, path.H, path.M, path.step
    n = len(g)
    for s in range(n):
        for u in range(s + 1):
            M[s, u] = H[s, u]
    if not _cholesky(n, M, HESSIAN_TOLERANCE):
        return 0.0, False
    for s in range(n):
        value = -g[s]
        for u in range(s):
            value -= M[s, u] * step[u]
        step[s] = value / M[s, s]
    slope = 0.0
    for s in range(n - 1, -1, -1):
        value = step[s]
        for u in range(s + 1, n):
            value -= M[u, s] * step[u]
        step[s] = value / M[s, s]
        slope += g[s] * step[s]
    return slope, True


@_helper
def _saddle_free_step(path):
    """The step with the absolute eigenvalues of the Hessian, which it destroys: away from saddles. Returns g'step."""
    g, step, values, vectors = path.g, path.step, path.values, path.vectors
    n = len(g)
    _eigen(n, path.H, values, vectors)
    largest = 0.0
    for e in range(n):
        largest = max(largest, abs(values[e]))
        step[e] = 0.0
    slope = 0.0
    for e in range(n):
        along = 0.0
        for s in range(n):
            along -= vectors[s, e] * g[s]
        size = along / max(abs(values[e]), HESSIAN_TOLERANCE * largest + 1e-300)
        slope -= along * size
        for s in range(n):
            step[s] += vectors[s, e] * size
    return slope


@_helper
def _eigenframe(model, tolerance, G, path):
    """F = V sqrt(D) from G = V D V', term by term, largest first; eigenvalues below tolerance become 0. Whether there are any."""
    q = len(model.zcols)
    F, frame, M, values, vectors = path.F, path.frame, path.M, path.values, path.vectors
    singular = False
    for a in range(q):
        for b in range(q):
            F[a, b] = 0.0
            frame[a, b] = 0.0
    first = 0
    while first < q:
        size = _term_size(model, first)
        for a in range(size):
            for b in range(size):
                M[a, b] = G[_sym(first + a, first + b)]
        _eigen(size, M, values, vectors)
        for k in range(first, first + size):
            largest = 0
            for e in range(size):
                if values[e] > values[largest]:
                    largest = e
            value = values[largest]
            values[largest] = -np.inf
            singular = singular or value < tolerance
            root = math.sqrt(value) if value >= tolerance and value > 0.0 else 0.0
            for a in range(size):
                frame[first + a, k] = vectors[a, largest]
                F[first + a, k] = root * vectors[a, largest]
        first += size
    return singular


@_helper
def _term_size(model, first):
    size = 1
    while first + size < len(model.zcols) and model.blocks[first + size] == model.blocks[first]:
        size += 1
    return size


@_helper
def _square(q, F, k):
    value = 0.0
    for a in range(q):
        value += F[a, k] * F[a, k]
    return value


@_helper
def _disordered(model, F):
    """Whether a column of F is longer than the one before it (sqrt 2 times, so that this stays rare): a poor frame near the
    boundary, where L's leading entries may approach 0 with the later ones large."""
    q = len(model.zcols)
    for k in range(1, q):
        if model.blocks[k] == model.blocks[k - 1] and _square(q, F, k) > 2.0 * _square(q, F, k - 1):
            return True
    return False


@_helper
def _residual(model, G, Sg):
    """Largest entry of Sg_k G_k over the diagonal blocks k."""
    q, blocks = len(model.zcols), model.blocks
    worst = 0.0
    for a in range(q):
        for b in range(q):
            if blocks[a] != blocks[b]:
                continue
            value = 0.0
            for k in range(q):
                if blocks[k] == blocks[a]:
                    value += Sg[_sym(a, k)] * G[_sym(k, b)]
            worst = max(worst, abs(value))
    return worst


@_helper
def _curvature(model, Sg, path):
    """Smallest eigenvalue of Sg on null(G), term by term, for F in its eigenframe; its direction goes to `escape`."""
    q = len(model.zcols)
    F, frame, M, values, vectors, escape = path.F, path.frame, path.M, path.values, path.vectors, path.escape
    curvature = np.inf
    first = 0
    while first < q:
        stop = first + _term_size(model, first)
        null = first
        while null < stop and _square(q, F, null) > 0.0:
            null += 1
        for e in range(null, stop):
            for f in range(null, stop):
                value = 0.0
                for a in range(first, stop):
                    for b in range(first, stop):
                        value += frame[a, e] * Sg[_sym(a, b)] * frame[b, f]
                M[e - null, f - null] = value
        _eigen(stop - null, M, values, vectors)
        for e in range(stop - null):
            if values[e] < curvature:
                curvature = values[e]
                for a in range(q):
                    escape[a] = 0.0
                    for f in range(null, stop):
                        escape[a] += frame[a, f] * vectors[f - null, e]
        first = stop
    return curvature


@_helper
def _weak(model, J, path):
    """Whether the positive definite Hessian (its factor in M) is nearly flat in some direction, per relative change."""
    q = len(model.zcols)
    for s in range(len(model.rows)):
        pivot = path.M[s, s] * path.M[s, s]
        if pivot * _square(q, path.F, model.cols[s]) < WEAK_TOLERANCE * J or pivot < WEAK_TOLERANCE * path.H[s, s]:
            return True
    return False


@_helper
def _largest_variance(model, G):
    value = 0.0
    for a in range(len(model.zcols)):
        value = max(value, G[_pair(a, a)])
    return value


@_helper
def _descend(model, data, at, slopes, path):
    """Damped Newton steps from F until they gain nothing. Returns (deviance, steps, whether the Hessian is firmly positive
    definite there). One long function: a call with all these arrays would cost 0.2 us, and there are two a step to be saved."""
    q = len(model.zcols)
    F, frame, before, move, step = path.F, path.frame, path.before, path.move, path.step
    rows, cols = model.rows, model.cols
    deviance = _deviance(model, data, F, at)
    decrement = np.inf
    steps = 0
    moved = True
    while True:
        size = _largest_variance(model, at.G)
        if not math.isfinite(deviance) or size > HUGE:
            return np.inf, steps, False

        # the direction, in a frame that suits
        _derivatives(model, at, slopes)
        framed = _disordered(model, F)
        if framed:
            _eigenframe(model, 0.0, at.G, path)
        while True:
            _chain(model, slopes, path)
            slope, definite = _newton_step(path)
            if definite:
                break
            if framed:
                slope = _saddle_free_step(path)
                break
            _eigenframe(model, 0.0, at.G, path)
            framed = True
        steps += 1
        stalled = -slope < STALLED_TOLERANCE and -slope >= 0.5 * decrement
        decrement = -slope
        if decrement < DECREMENT_TOLERANCE or stalled or not moved or steps >= MAX_ITERATIONS:
            return deviance, steps, definite and not _weak(model, data.R.shape[0], path)

        # along it to a sufficiently lower deviance; back to where it was if there is none, for then the slope is rounding
        for a in range(q):
            for e in range(q):
                before[a, e] = F[a, e]
                move[a, e] = 0.0
        largest = 0.0
        for s in range(len(rows)):
            largest = max(largest, abs(step[s]))
            for a in range(q):
                move[a, cols[s]] += frame[a, rows[s]] * step[s]
        factor = min(1.0, (1.0 + 2.0 * math.sqrt(max(1.0, size))) / largest)
        noise = LINE_NOISE * (1.0 + abs(deviance))
        for tries in range(SHORTENINGS + 1):
            moved = tries < SHORTENINGS
            for a in range(q):
                for e in range(q):
                    F[a, e] = before[a, e] + factor * move[a, e] if moved else before[a, e]
            trial = _deviance(model, data, F, at)
            if trial <= deviance + SUFFICIENT * factor * slope or (decrement < noise and trial <= deviance + noise):
                break
            factor *= 0.5 if tries < 3 else 0.1
        deviance = trial


@_helper
def _escape(model, data, deviance, curvature, at, slopes, path):
    """From the boundary along the direction of negative curvature to a lower deviance, where there is one to be seen."""
    q = len(model.zcols)
    v, G0 = path.escape, slopes.Sg
    for s in range(q * (q + 1) // 2):
        G0[s] = at.G[s]
    # the second derivative is about J where Z is whitened
    factor = min(1.0, -curvature / data.R.shape[0])
    noise = 1e-13 * (1.0 + abs(deviance))
    for _ in range(8):
        for a in range(q):
            for e in range(a + 1):
                at.G[_pair(e, a)] = G0[_pair(e, a)] + factor * v[a] * v[e]
        _eigenframe(model, 0.0, at.G, path)
        if _deviance(model, data, path.F, at) <= deviance + noise:
            break
        factor *= 0.1


@_helper
def _search(model, data, at, slopes, path):
    """From F to an optimum: Newton steps, then the boundary.

    Returns (outcome, deviance, residual, steps, firm: an interior optimum with a firmly positive definite Hessian).
    """
    J = data.R.shape[0]
    steps = 0
    outcome = NOT_CONVERGED
    for turn in range(TURNS):
        deviance, used, firm = _descend(model, data, at, slopes, path)
        steps += used
        if deviance == np.inf:
            return NONFINITE, np.inf, np.inf, steps, False
        singular = _eigenframe(model, SINGULAR_TOLERANCE, at.G, path)
        curvature = 0.0
        if singular:
            firm = False
            deviance = _deviance(model, data, path.F, at)
            _derivatives(model, at, slopes)
            curvature = _curvature(model, slopes.Sg, path)
        residual = _residual(model, at.G, slopes.Sg)
        stationary = residual <= max(RESIDUAL_TOLERANCE, ROUNDING * J * _largest_variance(model, at.G))
        if curvature < -SINGULAR_TOLERANCE * J and turn < TURNS - 1:
            _escape(model, data, deviance, curvature, at, slopes, path)
        elif stationary and curvature >= -SINGULAR_TOLERANCE * J:
            outcome = SINGULAR if singular else OK
            break
        elif not singular:
            break
    return outcome, deviance, residual, steps, firm


@_helper
def _identified(model, data, at, slopes, path):
    """Whether s2 and the entries of G can be told apart: the matrix of tr(P V_a P V_b), V_0 = I, V_a = Z E_a Z', is regular (P:
    projection off X, or I for ML). At G = 0 and rss = inf, -H and Sg hold its entries."""
    q = len(model.zcols)
    n = len(model.rows)
    for a in range(q):
        for b in range(q):
            path.F[a, b] = 0.0
    _deviance(model, data, path.F, at)
    p = len(model.xcols)
    for i in range(p):
        at.C[p, i] = 0.0
    at.C[p, p] = np.inf  # of y nothing is left
    _derivatives(model, at, slopes)
    M = path.M
    M[0, 0] = model.m
    for s in range(n):
        row = _pair(model.cols[s], model.rows[s])
        M[s + 1, 0] = slopes.Sg[row] * (1.0 if model.cols[s] == model.rows[s] else 2.0)
        for u in range(s + 1):
            M[s + 1, u + 1] = -slopes.H[row, _pair(model.cols[u], model.rows[u])]
    return _cholesky(n + 1, M, IDENTIFIED_TOLERANCE)


@_helper
def _wanted_starts(model, J, irregularity, firm):
    """How many starts must agree."""
    full = 2 + 6 * len(model.rows)
    if J <= 2 * len(model.xcols) + 2:
        return full
    if firm and irregularity < REGULAR:
        return 1
    share = (irregularity - REGULAR) / (IRREGULAR - REGULAR)
    return 2 + int(6 * len(model.rows) * min(max(share, 0.0), 1.0))


@_helper
def _spread(number, k):
    """Point `number` of a sequence that spreads evenly over (0, 1), one sequence for each k."""
    value = 0.5 + number * ROOTS[k]
    return value - math.floor(value)


@_helper
def _start(model, which, start, U, at, path):
    """Set F to a starting point: 0 the one given (raw G relative to s2, moved off the boundary), if one is; then the identity;
    then terms of one column at the corners of (0.1, 30), larger ones at a long axis in directions that spread evenly."""
    q, blocks, G = len(model.zcols), model.blocks, at.G
    for a in range(q):
        for b in range(a + 1):
            G[_pair(b, a)] = 1.0 if a == b else 0.0
    if which == 0 and start[0] >= 0.0:
        for a in range(q):
            for b in range(a, q):
                value = 0.05 if a == b else 0.0
                if blocks[a] == blocks[b]:
                    for k in range(a, q):
                        for l in range(b, q):
                            if blocks[k] == blocks[a] and blocks[l] == blocks[a]:
                                value += U[a, k] * start[_sym(k, l)] * U[b, l]
                G[_pair(a, b)] = value
    elif which > 0:
        number = which if start[0] < 0.0 else which - 1
        first = 0
        while number > 0 and first < q:
            size = _term_size(model, first)
            if size == 1:
                G[_pair(first, first)] = 30.0 if (number >> blocks[first]) & 1 else 0.1
            else:
                length = 100.0 ** _spread(number, 4)
                width = 0.0225 * 100.0 ** _spread(number, 5)
                square = 0.0
                for a in range(first, first + size):
                    path.escape[a] = 2.0 * _spread(number, a) - 1.0
                    square += path.escape[a] * path.escape[a]
                for a in range(first, first + size):
                    for b in range(first, a + 1):
                        G[_pair(b, a)] = length * path.escape[a] * path.escape[b] / square + (width if a == b else 0.0)
            first += size
    _eigenframe(model, 0.0, G, path)


@_helper
def _finish(q, p, U, at, sigma2, unit, M, column, varcomp, beta, vcov):
    """Undo the whitening and y's unit: varcomp = s2 U^-1 G U^-T (by pairs); b and s2 S^-1 (by pairs) from the factor C."""
    G, C = at.G, at.C
    for a in range(q):  # columns of U^-1
        for k in range(q - 1, -1, -1):
            value = 1.0 if k == a else 0.0
            for l in range(k + 1, q):
                value -= U[k, l] * M[l, a]
            M[k, a] = value / U[k, k]
    for a in range(q):
        for b in range(a, q):
            value = 0.0
            for k in range(a, q):
                for l in range(b, q):
                    value += M[a, k] * G[_sym(k, l)] * M[b, l]
            varcomp[_pair(a, b)] = value * sigma2
    for i in range(p + 1):  # columns of S^-1, then b
        for k in range(p):
            value = C[p, k] if i == p else (1.0 if k == i else 0.0)
            if i < p:
                for l in range(k):
                    value -= C[k, l] * column[l]
                value /= C[k, k]
            column[k] = value
        for k in range(p - 1, -1, -1):
            value = column[k]
            for l in range(k + 1, p):
                value -= C[l, k] * column[l]
            column[k] = value / C[k, k]
        for k in range(p):
            if i == p:
                beta[k] = column[k] / unit
            elif k <= i:
                vcov[_pair(k, i)] = column[k] * sigma2


@_helper
def _forget(o, deviances, residuals, beta, vcov, varcomp, sigma2):
    deviances[o] = np.nan
    residuals[o] = np.nan
    sigma2[o] = np.nan
    beta[o, :] = np.nan
    vcov[o, :] = np.nan
    varcomp[o, :] = np.nan


@njit(cache=True, nogil=True, error_model="numpy", fastmath=CONTRACT)
def fit_block(
    zcols, xcols, xweights, blocks, dd, dy, yy, weights, N, reml, start, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first..last-1 of a block into the output arrays (index: replicate - first). Releases the GIL.

    zcols (q), xcols (p): indices of level-1 columns, as tuples of integers (q and p are compiled in) or as arrays (one
    compilation for all shapes). xweights (p): indices of level-2 multipliers; blocks (q): the number of each column's random
    term, rising. dd (J, d(d+1)/2, R or 1), dy (J, d, R), yy (J, R), weights (w, J, R or 1): the Gram. N: rows. start
    (q(q+1)/2, by pairs): G relative to s2; a negative first entry: none. Outputs over last - first replicates: status,
    iterations (steps of all starts), deviances, residuals (the certificate), beta (., p), vcov (., p(p+1)/2), varcomp
    (., q(q+1)/2), sigma2.
    """
    q, p = len(zcols), len(xcols)
    J = dd.shape[0]
    n, width = q * (q + 1) // 2, p + 1
    rows, cols, largest = _free_entries(blocks)
    f = len(rows)
    m = float(N - p) if reml else float(N)
    model = Model(zcols, xcols, blocks, rows, cols, reml, m)
    A, B = np.empty((J, n)), np.empty((J, q * width))
    S0, U, scale = np.empty((width, width)), np.empty((q, q)), np.empty(width)
    at = Point(
        np.empty(n), np.empty((J, n)), np.empty((J, q * width)), np.empty((width, width)),
        np.empty((q, q)), np.empty((q, q)), np.empty((q, q + width)),
    )  # fmt: skip
    slopes = Slopes(
        np.empty(n), np.empty((n, n)), np.empty(q * width), np.empty((q * width, q * width)), np.empty(n),
        np.empty((n, n)), np.empty((n, width * (width + 1) // 2)),
    )  # fmt: skip
    path = Path(
        np.empty((q, q)), np.empty((q, q)), np.empty((q, q)), np.empty((q, q)), np.empty((f, n)), np.empty(f),
        np.empty((f, f)), np.empty(f), np.empty(q), np.empty((n + 1, n + 1)), np.empty(n), np.empty((n, n)),
    )  # fmt: skip

    for rep in range(first, last):
        o = rep - first
        iterations[o] = 0
        _forget(o, deviances, residuals, beta, vcov, varcomp, sigma2)
        unit = _load(zcols, xcols, rep, xweights, dd, dy, yy, weights, A, B, S0)
        if unit == 0.0:
            status[o] = NONFINITE
            continue
        if N <= p or N <= J * largest or not _full_rank(p, S0, at.C) or not _whiten(q, blocks, A, U, path.M):
            status[o] = RANK_DEFICIENT
            continue
        for i in range(width):
            scale[i] = S0[i, i]
        rank, irregularity = _reduce(q, p, U, A, B, S0, at.G)
        within, least = _within(p, scale, S0, at.C)
        if N <= rank + within or not least > PERFECT_TOLERANCE * scale[p]:
            status[o] = RANK_DEFICIENT if N <= rank + within else NONFINITE
            continue
        data = Data(A, B, S0)

        best = np.inf
        best_status = NONFINITE
        agree = True
        wanted = 1
        for which in range(2 * (2 + 6 * f)):
            if which >= wanted:
                break
            _start(model, which, start, U, at, path)
            outcome, deviance, residual, steps, firm = _search(model, data, at, slopes, path)
            iterations[o] += steps
            same = SAME_DEVIANCE * (1.0 + abs(deviance))
            converged, had = outcome <= SINGULAR, best_status <= SINGULAR
            if not converged or (which > 0 and abs(deviance - best) > same):
                agree = False
            # a converged fit is preferred to one that is not, then the lower deviance counts
            if outcome != NONFINITE and ((converged and not had) or (converged == had and deviance < best - same)):
                best = deviance
                best_status = outcome
                deviances[o] = best - 2.0 * m * math.log(unit)
                residuals[o] = residual
                sigma2[o] = at.C[p, p] * at.C[p, p] / m / unit / unit
                _finish(q, p, U, at, sigma2[o], unit, path.M, scale, varcomp[o], beta[o], vcov[o])
            if which == 0:
                wanted = _wanted_starts(model, J, irregularity, firm)
                if not firm and not _identified(model, data, at, slopes, path):
                    best_status = RANK_DEFICIENT
                    _forget(o, deviances, residuals, beta, vcov, varcomp, sigma2)
                    break
            if which + 1 == wanted and not agree:
                wanted = 2 * (2 + 6 * f)
        status[o] = best_status
