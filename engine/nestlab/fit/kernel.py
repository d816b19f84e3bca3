"""The compiled fit of a linear mixed model from sufficient statistics, for many replicates.

Model, for cluster j of J: y_j = X_j b + Z_j u_j + e_j, u_j ~ N(0, s2 G), e_j ~ N(0, s2 I), G = L L' with L lower-triangular q x q
(block-diagonal over random terms), p fixed effects. From A = Z'Z, B = Z'X, c = Z'y of each cluster and the totals X'X, X'y, y'y:

    W = (I + A G)^-1 A,  T = (I + A G)^-1 B,  t = (I + A G)^-1 (c - B b)
    S = X'X - sum B' G T,  r = X'y - sum B' G (I + A G)^-1 c,  b = S^-1 r,  rss = y'V^-1 y - r'b
    dev = sum log|I + A G| + [REML] log|S| + m (1 + log(2 pi rss / m)),  m = N - p (REML) or N (ML)

(Bates et al. 2015, J. Stat. Softw. 67(1), eqs. 34, 41 and 42, cluster by cluster.) The gradient with respect to symmetric G is
Sg = sum [W - T S^-1 T' (REML) - (m/rss) t t'], and the Hessian in directions E_a, E_b is
sum tr(E_a W E_b Y) - tr(K D_a K D_b) (REML) - (m/rss) [2 d_a' K d_b + q_a q_b / rss], K = S^-1,
Y = -W + 2 T K T' (REML) + 2 (m/rss) t t', D_a = sum T'E_a T, d_a = sum T'E_a t, q_a = sum t'E_a t.
Both are chained to the free entries of L for damped Newton steps.

Coordinates: within each random term the columns of Z are whitened so that the mean over clusters of A is the identity. Steps,
tolerances and the rule for `singular` are then free of the units of y and of the predictors.

At an optimum, block k of G has Sg_k G_k = 0 and Sg_k positive semi-definite on null(G_k): the certificate. A fit that ends
singular or without its certificate is started again from other places and the lowest deviance is kept: the deviance is not convex.

q and p are the lengths of `zcols` and `xcols`: passed as tuples they are part of the type, so that Numba compiles a kernel for
each shape and LLVM unrolls its small loops; passed as arrays one compilation serves all shapes. The helpers must stay in this
file: Numba's disk cache notices changes of the file of the cached function only.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["MAX_ITERATIONS", "RESIDUAL_TOLERANCE", "SINGULAR_TOLERANCE", "fit_block"]

OK, SINGULAR, NOT_CONVERGED, RANK_DEFICIENT, NONFINITE = 0, 1, 2, 3, 4

MAX_ITERATIONS = 100
#: Largest entry of Sg G, in units of deviance per relative change of G, at which a fit counts as converged.
RESIDUAL_TOLERANCE = 1e-6
#: A fit is singular when an eigenvalue of whitened G (signal per cluster over s2) is below this.
SINGULAR_TOLERANCE = 1e-8
#: Eigenvalues below this are tried at exactly 0.
SNAP_TOLERANCE = 1e-3
#: Newton decrement g'H^-1 g, in units of deviance, at which the iteration stops.
DECREMENT_TOLERANCE = 1e-20
#: A pivot of X'X or of sum Z'Z relative to its diagonal: below this a column is a combination of others.
PIVOT_TOLERANCE = 1e-10
#: Residual sum of squares relative to the raw one: below this the response is constant or fitted perfectly.
PERFECT_TOLERANCE = 1e-20
#: Whitened variance at which the residual variance is 0 for all practical purposes.
HUGE = 1e14
STARTS = 4
LOG_2PI = math.log(2.0 * math.pi)
#: Fused multiply-add only; nothing that would reorder sums.
CONTRACT = {"contract"}


@njit(error_model="numpy", fastmath=CONTRACT)
def _pair(i, k):
    """Index of the entry (i, k), i <= k, of a symmetric matrix stored by columns of its upper triangle."""
    return k * (k + 1) // 2 + i


@njit(error_model="numpy", fastmath=CONTRACT)
def _sym(i, k):
    return _pair(i, k) if i <= k else _pair(k, i)


@njit(error_model="numpy", fastmath=CONTRACT)
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


@njit(error_model="numpy", fastmath=CONTRACT)
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


@njit(error_model="numpy", fastmath=CONTRACT)
def _load(zcols, xcols, r, xweights, dd, dy, yy, weights, A, B, c, XX, Xy):
    """Gather replicate r: A, B, c of each cluster, X'X (upper), X'y; returns y'y."""
    q, p = len(zcols), len(xcols)
    rd = r if dd.shape[2] > 1 else 0
    rw = r if weights.shape[2] > 1 else 0
    for i in range(p):
        Xy[i] = 0.0
        for k in range(i + 1):
            XX[k, i] = 0.0
    total = 0.0
    for j in range(dd.shape[0]):
        total += yy[j, r]
        for a in range(q):
            c[j, a] = dy[j, zcols[a], r]
            for b in range(a + 1):
                A[j, _pair(b, a)] = dd[j, _sym(zcols[b], zcols[a]), rd]
        for i in range(p):
            wi = weights[xweights[i], j, rw]
            Xy[i] += wi * dy[j, xcols[i], r]
            for a in range(q):
                B[j, a * p + i] = wi * dd[j, _sym(zcols[a], xcols[i]), rd]
            for k in range(i + 1):
                XX[k, i] += wi * weights[xweights[k], j, rw] * dd[j, _sym(xcols[k], xcols[i]), rd]
    return total


@njit(error_model="numpy", fastmath=CONTRACT)
def _whiten(q, p, blocks, A, B, c, U):
    """Whiten Z within each random term: mean A = U'U, Z <- Z U^-1; U upper. False if columns of Z are collinear."""
    J = A.shape[0]
    M = np.zeros((q, q))
    for a in range(q):
        for b in range(q):
            U[a, b] = 0.0
            if blocks[a] == blocks[b]:
                for j in range(J):
                    M[a, b] += A[j, _sym(a, b)]
                M[a, b] /= J
    if not _cholesky(q, M, PIVOT_TOLERANCE):
        return False
    for a in range(q):
        for b in range(a, q):
            U[a, b] = M[b, a]
    full = np.empty((q, q))
    for j in range(J):
        for a in range(q):  # forward substitution with U', on B, c and both sides of A
            for i in range(p):
                value = B[j, a * p + i]
                for k in range(a):
                    value -= U[k, a] * B[j, k * p + i]
                B[j, a * p + i] = value / U[a, a]
            value = c[j, a]
            for k in range(a):
                value -= U[k, a] * c[j, k]
            c[j, a] = value / U[a, a]
            for b in range(q):
                value = A[j, _sym(a, b)]
                for k in range(a):
                    value -= U[k, a] * full[k, b]
                full[a, b] = value / U[a, a]
        for a in range(q):
            for b in range(a, q):
                value = full[a, b]
                for k in range(b):
                    value -= (full[a, k] if k >= a else A[j, _pair(k, a)]) * U[k, b]
                full[a, b] = value / U[b, b]
                A[j, _pair(a, b)] = full[a, b]
    return True


@njit(error_model="numpy", fastmath=CONTRACT)
def _weigh(zcols, xcols, j, G, L, A, B, c, W, T, t, work):
    """W, T and (I + A G)^-1 c of cluster j; returns |I + A G|. For q <= 2 without cancellation: W = (A + |A| adj G) / |I + A G|."""
    q, p = len(zcols), len(xcols)
    if q == 1:
        det = 1.0 + A[j, 0] * G[0]
        inverse = 1.0 / det
        W[j, 0] = A[j, 0] * inverse
        for i in range(p):
            T[j, i] = B[j, i] * inverse
        t[j, 0] = c[j, 0] * inverse
        return det
    if q == 2:
        a0, a1, a2 = A[j, 0], A[j, 1], A[j, 2]
        g0, g1, g2 = G[0], G[1], G[2]
        detA = a0 * a2 - a1 * a1
        detG = L[0, 0] * L[0, 0] * L[1, 1] * L[1, 1]
        det = 1.0 + a0 * g0 + 2.0 * a1 * g1 + a2 * g2 + detA * detG
        inverse = 1.0 / det
        W[j, 0] = (a0 + detA * g2) * inverse
        W[j, 1] = (a1 - detA * g1) * inverse
        W[j, 2] = (a2 + detA * g0) * inverse
        # (I + A G)^-1 = (I + adj G adj A) / det
        f00 = (1.0 + g2 * a2 + g1 * a1) * inverse
        f01 = (-g2 * a1 - g1 * a0) * inverse
        f10 = (-g1 * a2 - g0 * a1) * inverse
        f11 = (1.0 + g1 * a1 + g0 * a0) * inverse
        for i in range(p):
            T[j, i] = f00 * B[j, i] + f01 * B[j, p + i]
            T[j, p + i] = f10 * B[j, i] + f11 * B[j, p + i]
        t[j, 0] = f00 * c[j, 0] + f01 * c[j, 1]
        t[j, 1] = f10 * c[j, 0] + f11 * c[j, 1]
        return det
    return _weigh_cholesky(zcols, xcols, j, L, A, B, c, W, T, t, work)


@njit(error_model="numpy", fastmath=CONTRACT)
def _weigh_cholesky(zcols, xcols, j, L, A, B, c, W, T, t, work):
    """The same for any q, by M = I + L'A L = C C' and F = I - A L M^-1 L'; work is 3 x q x q."""
    q, p = len(zcols), len(xcols)
    AL, M, Q = work[0], work[1], work[2]
    for a in range(q):
        for b in range(q):
            value = 0.0
            for k in range(b, q):
                value += A[j, _sym(a, k)] * L[k, b]
            AL[a, b] = value
    for a in range(q):
        for b in range(a + 1):
            value = 1.0 if a == b else 0.0
            for k in range(a, q):
                value += L[k, a] * AL[k, b]
            M[a, b] = value
    _cholesky(q, M, 0.0)
    det = 1.0
    for a in range(q):
        det *= M[a, a] * M[a, a]
        for b in range(q):  # Q = C^-1 (A L)'
            value = AL[b, a]
            for k in range(a):
                value -= M[a, k] * Q[k, b]
            Q[a, b] = value / M[a, a]
    for a in range(q):
        for b in range(a + 1):
            value = A[j, _pair(b, a)]
            for k in range(q):
                value -= Q[k, a] * Q[k, b]
            W[j, _pair(b, a)] = value
    for i in range(p + 1):  # the last column is c
        for a in range(q):
            value = 0.0
            for k in range(a, q):
                value += L[k, a] * (B[j, k * p + i] if i < p else c[j, k])
            for k in range(a):
                value -= M[a, k] * AL[k, 0]
            AL[a, 0] = value / M[a, a]
        for a in range(q):
            value = B[j, a * p + i] if i < p else c[j, a]
            for k in range(q):
                value -= Q[k, a] * AL[k, 0]
            if i < p:
                T[j, a * p + i] = value
            else:
                t[j, a] = value
    return det


@njit(error_model="numpy", fastmath=CONTRACT)
def _solve(p, S, r, b):
    """Replace S (upper given) by its lower Cholesky factor, b = S^-1 r; returns (log|S|, r'b), nan if S is not positive definite."""
    for i in range(p):
        for k in range(i):
            S[i, k] = S[k, i]
    if not _cholesky(p, S, 0.0):
        return np.nan, np.nan
    logdet = 0.0
    explained = 0.0
    for i in range(p):
        value = r[i]
        for k in range(i):
            value -= S[i, k] * b[k]
        b[i] = value / S[i, i]
        explained += b[i] * b[i]
        logdet += 2.0 * math.log(S[i, i])
    for i in range(p - 1, -1, -1):
        value = b[i]
        for k in range(i + 1, p):
            value -= S[k, i] * b[k]
        b[i] = value / S[i, i]
    return logdet, explained


@njit(error_model="numpy", fastmath=CONTRACT)
def _covariance(q, L, G):
    for a in range(q):
        for b in range(a + 1):
            value = 0.0
            for k in range(b + 1):
                value += L[a, k] * L[b, k]
            G[_pair(b, a)] = value


@njit(error_model="numpy", fastmath=CONTRACT)
def _deviance(zcols, xcols, reml, m, L, A, B, c, XX, Xy, yy, G, W, T, t, S, r, b, work, GT):
    """First pass over the clusters: (deviance, rss). Leaves W, T, (I + A G)^-1 c, chol S and b."""
    q, p = len(zcols), len(xcols)
    _covariance(q, L, G)
    for i in range(p):
        r[i] = Xy[i]
        for k in range(i + 1):
            S[k, i] = XX[k, i]
    rss = yy
    logdet = 0.0
    product = 1.0
    for j in range(A.shape[0]):
        product *= _weigh(zcols, xcols, j, G, L, A, B, c, W, T, t, work)
        if product > 1e200:
            logdet += math.log(product)
            product = 1.0
        for i in range(p + 1):
            for a in range(q):
                value = 0.0
                for k in range(q):
                    value += G[_sym(a, k)] * (T[j, k * p + i] if i < p else t[j, k])
                GT[a * (p + 1) + i] = value
        for i in range(p):
            for k in range(i + 1):
                value = 0.0
                for a in range(q):
                    value += B[j, a * p + k] * GT[a * (p + 1) + i]
                S[k, i] -= value
            value = 0.0
            for a in range(q):
                value += B[j, a * p + i] * GT[a * (p + 1) + p]
            r[i] -= value
        for a in range(q):
            rss -= c[j, a] * GT[a * (p + 1) + p]
    logdet += math.log(product)
    logS, explained = _solve(p, S, r, b)
    rss -= explained
    if not rss > 0.0:
        return np.nan, rss
    deviance = logdet + m * (1.0 + LOG_2PI + math.log(rss / m))
    if reml:
        deviance += logS
    return deviance, rss


@njit(error_model="numpy", fastmath=CONTRACT)
def _derivatives(zcols, xcols, reml, m, rss, W, T, t, B, c, S, b, Sg, H, Y, Q, D, d, Th, th):
    """Second pass: gradient Sg (upper, by pairs) and Hessian H over pairs, E_ii = e_i e_i', E_ik = e_i e_k' + e_k e_i'."""
    q, p = len(zcols), len(xcols)
    n = q * (q + 1) // 2
    pp = p * (p + 1) // 2
    scale = m / rss
    for a in range(n):
        Sg[a] = 0.0
        for k in range(n):
            Q[a, k] = 0.0
        for k in range(pp):
            D[a, k] = 0.0
        for k in range(p):
            d[a, k] = 0.0
    qsum = Y[1]
    for a in range(n):
        qsum[a] = 0.0
    for j in range(W.shape[0]):
        for a in range(q):
            value = t[j, a]
            for i in range(p):
                value -= T[j, a * p + i] * b[i]
            th[a] = value
            if reml:
                for i in range(p):  # rows of T C'^-1, S = C C': then K is the identity
                    value = T[j, a * p + i]
                    for k in range(i):
                        value -= S[i, k] * Th[a * p + k]
                    Th[a * p + i] = value / S[i, i]
            else:
                for i in range(p):
                    value = T[j, a * p + i]
                    for k in range(i):
                        value -= S[i, k] * Th[a * p + k]
                    Th[a * p + i] = value / S[i, i]
        for a in range(q):
            for e in range(a + 1):
                s = _pair(e, a)
                tt = th[a] * th[e]
                qsum[s] += tt
                value = scale * tt
                if reml:
                    for i in range(p):
                        value += Th[a * p + i] * Th[e * p + i]
                Sg[s] += W[j, s] - value
                Y[0, s] = 2.0 * value - W[j, s]
                double = 1.0 if a == e else 2.0
                if reml:
                    for i in range(p):
                        for k in range(i + 1):
                            D[s, _pair(k, i)] += (
                                0.5 * double * (Th[a * p + i] * Th[e * p + k] + Th[a * p + k] * Th[e * p + i])
                            )
                for i in range(p):
                    d[s, i] += 0.5 * double * (Th[a * p + i] * th[e] + Th[e * p + i] * th[a])
        for a in range(n):
            for e in range(n):
                Q[a, e] += W[j, a] * Y[0, e]
    for a in range(q):
        for e in range(a + 1):
            s = _pair(e, a)
            ds = 1.0 if a == e else 2.0
            for f in range(q):
                for g in range(f + 1):
                    u = _pair(g, f)
                    du = 1.0 if f == g else 2.0
                    # tr(E_s W E_u Y), symmetrised over the pairs
                    value = (
                        Q[_sym(e, f), _sym(g, a)]
                        + Q[_sym(a, f), _sym(g, e)]
                        + Q[_sym(e, g), _sym(f, a)]
                        + Q[_sym(a, g), _sym(f, e)]
                    )
                    value *= 0.25 * ds * du
                    if reml:
                        for i in range(p):
                            value -= D[s, _pair(i, i)] * D[u, _pair(i, i)]
                            for k in range(i):
                                value -= 2.0 * D[s, _pair(k, i)] * D[u, _pair(k, i)]
                    inner = 0.0
                    for i in range(p):
                        inner += d[s, i] * d[u, i]
                    H[s, u] = value - scale * (2.0 * inner + ds * qsum[s] * du * qsum[u] / rss)


@njit(error_model="numpy", fastmath=CONTRACT)
def _chain(zcols, npar, rows, cols, L, Sg, H, V, g, HL):
    """Chain to the free entries of L: dG/dL_ij = e_i L_j' + L_j e_i' (L_j a column of L)."""
    q = len(zcols)
    n = q * (q + 1) // 2
    for s in range(npar):
        i, j = rows[s], cols[s]
        for a in range(n):
            V[s, a] = 0.0
        g[s] = 0.0
        for k in range(q):
            V[s, _sym(i, k)] = 2.0 * L[i, j] if k == i else L[k, j]
            g[s] += 2.0 * Sg[_sym(i, k)] * L[k, j]
    for s in range(npar):
        for u in range(s + 1):
            value = 0.0
            for a in range(n):
                inner = 0.0
                for e in range(n):
                    inner += H[a, e] * V[u, e]
                value += V[s, a] * inner
            if cols[s] == cols[u]:
                value += 2.0 * Sg[_sym(rows[s], rows[u])]
            HL[s, u] = value
            HL[u, s] = value


@njit(error_model="numpy", fastmath=CONTRACT)
def _newton_step(npar, g, HL, M, step):
    """Step of a positive definite modification of the Hessian; returns (g'step, whether the Hessian was modified)."""
    largest = 0.0
    for s in range(npar):
        largest = max(largest, abs(HL[s, s]))
    damping = 0.0
    for _ in range(60):
        for s in range(npar):
            for u in range(npar):
                M[s, u] = HL[s, u]
            # a parameter at exactly 0 with a flat direction has a zero row: leave it where it is
            M[s, s] += damping + 1e-14 * largest
        if _cholesky(npar, M, 1e-13):
            break
        damping = max(4.0 * damping, 1e-3 * largest + 1e-300)
    for s in range(npar):
        value = -g[s]
        for u in range(s):
            value -= M[s, u] * step[u]
        step[s] = value / M[s, s]
    for s in range(npar - 1, -1, -1):
        value = step[s]
        for u in range(s + 1, npar):
            value -= M[u, s] * step[u]
        step[s] = value / M[s, s]
    slope = 0.0
    for s in range(npar):
        slope += g[s] * step[s]
    return slope, damping > 0.0


@njit(error_model="numpy", fastmath=CONTRACT)
def _block_eigen(q, blocks, block, G, size_index, M, values, vectors):
    """Eigen-decomposition of one diagonal block of G (by pairs); returns its size. size_index lists its columns."""
    size = 0
    for a in range(q):
        if blocks[a] == block:
            size_index[size] = a
            size += 1
    for a in range(size):
        for b in range(size):
            M[a, b] = G[_sym(size_index[a], size_index[b])]
    _eigen(size, M, values, vectors)
    return size


@njit(error_model="numpy", fastmath=CONTRACT)
def _factor(q, G, L):
    """Lower-triangular L with L L' = G (by pairs) for positive semi-definite G: a zero pivot leaves a zero column."""
    for j in range(q):
        for i in range(j):
            L[i, j] = 0.0
        pivot = G[_pair(j, j)]
        for k in range(j):
            pivot -= L[j, k] * L[j, k]
        # a pivot that is rounding only would blow up its column
        root = math.sqrt(pivot) if pivot > 1e-15 * G[_pair(j, j)] else 0.0
        L[j, j] = root
        for i in range(j + 1, q):
            if root == 0.0:
                L[i, j] = 0.0
            else:
                value = G[_sym(j, i)]
                for k in range(j):
                    value -= L[i, k] * L[j, k]
                L[i, j] = value / root


@njit(error_model="numpy", fastmath=CONTRACT)
def _residual(q, G, Sg, blocks):
    """Largest entry of Sg_k G_k over the diagonal blocks k."""
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


@njit(error_model="numpy", fastmath=CONTRACT)
def _boundary(q, nblocks, blocks, tolerance, G, Sg, snapped, escape):
    """Look at G's near-null space, block by block.

    Returns (singular, curvature): whether an eigenvalue is below `tolerance`, and the smallest eigenvalue of Sg on that null
    space. snapped is G with those eigenvalues at exactly 0; escape the direction (in all q columns) of the smallest curvature.
    """
    index = np.empty(q, np.int64)
    M = np.empty((q, q))
    values = np.empty(q)
    vectors = np.empty((q, q))
    null = np.empty((q, q))
    null_values = np.empty(q)
    null_vectors = np.empty((q, q))
    singular = False
    curvature = np.inf
    for a in range(q * (q + 1) // 2):
        snapped[a] = G[a]
    for block in range(nblocks):
        size = _block_eigen(q, blocks, block, G, index, M, values, vectors)
        nulls = 0
        for e in range(size):
            if values[e] < tolerance:
                for a in range(size):
                    null[a, nulls] = vectors[a, e]
                    for b in range(a, size):
                        snapped[_sym(index[a], index[b])] -= values[e] * vectors[a, e] * vectors[b, e]
                nulls += 1
        if nulls == 0:
            continue
        singular = True
        if nulls == size:
            for a in range(size):
                for b in range(a, size):
                    snapped[_sym(index[a], index[b])] = 0.0
        for e in range(nulls):
            for f in range(nulls):
                value = 0.0
                for a in range(size):
                    for b in range(size):
                        value += null[a, e] * Sg[_sym(index[a], index[b])] * null[b, f]
                M[e, f] = value
        _eigen(nulls, M, null_values, null_vectors)
        for e in range(nulls):
            if null_values[e] < curvature:
                curvature = null_values[e]
                for a in range(q):
                    escape[a] = 0.0
                for a in range(size):
                    for f in range(nulls):
                        escape[index[a]] += null[a, f] * null_vectors[f, e]
    return singular, curvature


@njit(error_model="numpy", fastmath=CONTRACT)
def _start(q, blocks, which, start, U, G, L):
    """Set L to a starting point: 0 the one given (raw G relative to s2, moved off the boundary), others spread out."""
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
        _factor(q, G, L)
        return
    for a in range(q):
        for b in range(q):
            L[a, b] = 0.0
        if which == 1 or which == 0:
            L[a, a] = 1.0
        else:
            L[a, a] = 3.0 if (a + which) % 2 == 0 else 0.15


@njit(error_model="numpy", fastmath=CONTRACT)
def _finish(q, p, U, G, sigma2, S, b, M, varcomp, beta, vcov):
    """Undo the whitening: varcomp = s2 U^-1 G U^-T (by pairs); beta and s2 S^-1 (by pairs) from the factor of S."""
    for a in range(q):  # columns of U^-1
        for k in range(q - 1, -1, -1):
            value = 1.0 if k == a else 0.0
            for l in range(k + 1, q):
                value -= U[k, l] * M[l, a]
            M[k, a] = value / U[k, k]
    for a in range(q):
        for b2 in range(a, q):
            value = 0.0
            for k in range(a, q):
                for l in range(b2, q):
                    value += M[a, k] * G[_sym(k, l)] * M[b2, l]
            varcomp[_pair(a, b2)] = value * sigma2
    for i in range(p):
        beta[i] = b[i]
    column = np.empty(p)
    for i in range(p):
        for k in range(p):
            value = 1.0 if k == i else 0.0
            for l in range(k):
                value -= S[k, l] * column[l]
            column[k] = value / S[k, k]
        for k in range(p - 1, -1, -1):
            value = column[k]
            for l in range(k + 1, p):
                value -= S[l, k] * column[l]
            column[k] = value / S[k, k]
        for k in range(i + 1):
            vcov[_pair(k, i)] = column[k] * sigma2


@njit(cache=True, nogil=True, error_model="numpy", fastmath=CONTRACT)
def fit_block(
    zcols, xcols, xweights, blocks, dd, dy, yy, weights, N, reml, start, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first..last-1 of a block into the output arrays (index: replicate - first). Releases the GIL.

    zcols (q), xcols (p): indices of level-1 columns, as tuples of integers (q and p are compiled in) or as arrays (one
    compilation for all shapes). xweights (p): indices of level-2 multipliers; blocks (q): the number of each column's random term,
    rising. dd (J, d(d+1)/2, R or 1), dy (J, d, R), yy (J, R), weights (w, J, R or 1): the Gram. N: rows. start (q(q+1)/2, by
    pairs): G relative to s2; a negative first entry: none. Outputs over last - first replicates: status, iterations, deviances,
    residuals (the certificate), beta (., p), vcov (., p(p+1)/2), varcomp (., q(q+1)/2), sigma2.
    """
    q, p = len(zcols), len(xcols)
    J = dd.shape[0]
    n = q * (q + 1) // 2
    pp = p * (p + 1) // 2
    nblocks = blocks[q - 1] + 1
    npar = 0
    rows = np.empty(n, np.int64)
    cols = np.empty(n, np.int64)
    for k in range(q):
        for i in range(k, q):
            if blocks[i] == blocks[k]:
                rows[npar], cols[npar] = i, k
                npar += 1
    m = float(N - p) if reml else float(N)
    A, B, c = np.empty((J, n)), np.empty((J, q * p)), np.empty((J, q))
    W, T, t = np.empty((J, n)), np.empty((J, q * p)), np.empty((J, q))
    XX, S, Xy, r, b = np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty(p), np.empty(p)
    U, L, L0, Lbest, M = np.empty((q, q)), np.zeros((q, q)), np.zeros((q, q)), np.zeros((q, q)), np.empty((q, q))
    G, Sg, snapped, escape = np.empty(n), np.empty(n), np.empty(n), np.empty(q)
    work, GT = np.empty((3, q, q)), np.empty(q * (p + 1))
    H, Y, Q = np.empty((n, n)), np.empty((2, n)), np.empty((n, n))
    D, d, Th, th = np.empty((n, pp)), np.empty((n, p)), np.empty(q * p), np.empty(q)
    V, g, HL, HM, step = np.empty((n, n)), np.empty(n), np.empty((n, n)), np.empty((n, n)), np.zeros(n)

    for rep in range(first, last):
        o = rep - first
        iterations[o] = 0
        deviances[o] = np.nan
        residuals[o] = np.nan
        sigma2[o] = np.nan
        beta[o, :] = np.nan
        vcov[o, :] = np.nan
        varcomp[o, :] = np.nan
        total = _load(zcols, xcols, rep, xweights, dd, dy, yy, weights, A, B, c, XX, Xy)
        if not math.isfinite(total):
            status[o] = NONFINITE
            continue
        for i in range(p):
            for k in range(i + 1):
                S[i, k] = XX[k, i]
        if N <= p or not _cholesky(p, S, PIVOT_TOLERANCE) or not _whiten(q, p, blocks, A, B, c, U):
            status[o] = RANK_DEFICIENT
            continue

        best = np.inf
        best_status = NOT_CONVERGED
        best_residual = np.inf
        for which in range(STARTS):
            if which > 0 and best_status == OK:
                break
            _start(q, blocks, which, start, U, G, L)
            mode = 0  # 0 start, 1 Newton step, 2 snap to the boundary, 3 leave it, 4 back to where it was
            deviance = np.inf
            slope = 0.0
            factor = 1.0
            tries = 0
            escapes = 0
            snaps = 0
            outcome = NOT_CONVERGED
            residual = np.inf
            previous = np.inf
            for _ in range(4 * MAX_ITERATIONS):
                trial, rss = _deviance(zcols, xcols, reml, m, L, A, B, c, XX, Xy, total, G, W, T, t, S, r, b, work, GT)
                if mode == 1:
                    noise = 1e-10 * (1.0 + abs(deviance))
                    if not (trial <= deviance + 1e-4 * factor * slope or (-slope < noise and trial <= deviance + noise)):
                        tries += 1
                        if tries > 30:
                            mode = 4
                        else:
                            factor *= 0.5 if tries < 4 else 0.1
                        for s in range(npar):
                            move = 0.0 if mode == 4 else factor * step[s]
                            L[rows[s], cols[s]] = L0[rows[s], cols[s]] + move
                        continue
                elif mode == 2 and not trial <= deviance + 1e-12 * (1.0 + abs(deviance)):
                    L[:, :] = L0
                    mode = 4
                    continue
                elif mode == 3 and not trial < deviance - 1e-10:
                    tries += 1
                    if tries > 8:
                        L[:, :] = L0
                        mode = 4
                        continue
                    factor *= 0.1
                    _covariance(q, L0, G)
                    for a in range(q):
                        for e in range(a, q):
                            G[_pair(a, e)] += factor * escape[a] * escape[e]
                    _factor(q, G, L)
                    continue
                if not math.isfinite(trial):
                    outcome = NONFINITE
                    break
                deviance = trial
                if rss <= PERFECT_TOLERANCE * total:
                    outcome = NONFINITE
                    break
                _derivatives(zcols, xcols, reml, m, rss, W, T, t, B, c, S, b, Sg, H, Y, Q, D, d, Th, th)
                residual = _residual(q, G, Sg, blocks)
                if mode != 4:
                    iterations[o] += 1
                    _chain(zcols, npar, rows, cols, L, Sg, H, V, g, HL)
                    slope, modified = _newton_step(npar, g, HL, HM, step)
                    stalled = -slope < 1e-12 and -slope >= 0.5 * previous
                    previous = -slope
                    if not (-slope < DECREMENT_TOLERANCE or stalled):
                        if iterations[o] > MAX_ITERATIONS * (which + 1):
                            break
                        largest = 0.0
                        size = 1.0
                        for a in range(n):
                            size = max(size, abs(G[a]))
                        if size > HUGE:
                            outcome = NONFINITE
                            break
                        for s in range(npar):
                            largest = max(largest, abs(step[s]))
                        factor = min(1.0, (1.0 + 2.0 * math.sqrt(size)) / (largest + 1e-300))
                        L0[:, :] = L
                        for s in range(npar):
                            L[rows[s], cols[s]] += factor * step[s]
                        tries = 0
                        mode = 1
                        continue
                tolerance = SINGULAR_TOLERANCE if mode == 4 or snaps > 0 else SNAP_TOLERANCE
                singular, curvature = _boundary(q, nblocks, blocks, tolerance, G, Sg, snapped, escape)
                if singular and tolerance == SNAP_TOLERANCE:
                    snaps += 1
                    L0[:, :] = L
                    _factor(q, snapped, L)
                    mode = 2
                    continue
                if singular and curvature < -RESIDUAL_TOLERANCE and mode != 4 and escapes < 4:
                    escapes += 1
                    snaps = 0
                    tries = 0
                    factor = 1.0
                    L0[:, :] = L
                    for a in range(q):
                        for e in range(a, q):
                            G[_pair(a, e)] += factor * escape[a] * escape[e]
                    _factor(q, G, L)
                    previous = np.inf
                    mode = 3
                    continue
                if residual <= RESIDUAL_TOLERANCE and not (singular and curvature < -1e-4):
                    outcome = SINGULAR if singular else OK
                break
            if outcome == NONFINITE and best_status == NOT_CONVERGED and best == np.inf:
                best_status = NONFINITE
            # a converged fit is preferred to one that is not, then the lower deviance counts
            better = deviance < best - 1e-9 or (best_status > SINGULAR and outcome <= SINGULAR and deviance < best + 1e-6)
            if outcome != NONFINITE and better:
                best = deviance
                best_status = outcome
                best_residual = residual
                Lbest[:, :] = L
                _finish(q, p, U, G, rss / m, S, b, M, varcomp[o], beta[o], vcov[o])
                sigma2[o] = rss / m
        status[o] = best_status
        deviances[o] = best if best < np.inf else np.nan
        residuals[o] = best_residual
