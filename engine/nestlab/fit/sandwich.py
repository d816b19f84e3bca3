"""Cluster-robust covariance of fixed effects, CR0 and CR2, and Bell and McCaffrey's degrees of freedom, one replicate at a time.

Estimates b = M sum_j X_j'V_j^-1 y_j, M = (sum_j X_j'V_j^-1 X_j)^-1, with the working model V_j = I + Z_j G Z_j' in units of the
residual variance (least squares: G = 0, V_j = I). With residuals e_j = y_j - X_j b,

    Cov(b) = f M [ sum_j X_j'V_j^-1 A_j e_j e_j'A_j V_j^-1 X_j ] M
    CR0: A_j = I, f = 1      CR1: f = J / (J - 1)      CR1S: f = J (N - 1) / ((J - 1) (N - p))
    CR2: A_j is the symmetric solution of A_j (V_j - X_j M X_j') A_j = V_j, f = 1

(Bell & McCaffrey 2002, Surv. Methodol. 28, 169-181; Pustejovsky & Tipton 2018, JBES 36, 672-683). In CR2 the square root of a
singular matrix is Moore and Penrose's, where a cluster alone identifies a term. Pustejovsky and Tipton's A_j, D'(D B D')^(-1/2) D
with D'D = V_j, is the same for every root D: it does not depend on the order of the rows, and the Gram is enough.

All of it happens in a basis of the range of the d level-1 columns that the model holds, D_j'D_j = C C': D_j is C', its residual
C^-1 D_j'e_j; what lies outside of it, V_j and A_j leave alone. Whitened by V = L L', X = L^-1 X_j and e = L^-1 e_j; with
K K' = M, B = I - X M X' and P = L'L

    Y_j = P (P B P)^(-1/2) X K  (CR0: X K),   score K'X_j'V_j^-1 A_j e_j = Y_j'e

Under the working model the scores l_s'Y_j'e have covariances P_st[i, j] = delta_ij d_i - a_si'a_tj, where d = (Y l_s)'(Y l_t)
and a_s = K'X'Y l_s. So one row has df = (tr P)^2 / |P|^2, and r rows have Hotelling's T^2 with eta - r + 1 df,
eta = r (r + 1) / sum_st Var(V_st) after the expected covariance is made I (HTZ: Tipton & Pustejovsky 2015, JEBS 40, 604-634).
"""

from __future__ import annotations

import math

import numpy as np

from ..simulate.compiled import compiled
from .small import apart, cholesky, eigen, helper, pair, sym

__all__ = ["sandwich_block"]

#: Pivot of X'V^-1X, or of the expected covariance of a joint hypothesis, over its diagonal: below this it is singular.
PIVOT_TOLERANCE = 1e-10
#: Pivot of a cluster's D'D over its diagonal that is rounding: the column is a combination of earlier ones in this cluster.
RANGE_TOLERANCE = 1e-13
#: Eigenvalue of I - H, or of what stands in its place, that is 0; or ROUNDING over the least pivot of X'V^-1X, if that is more:
#: where it should be 0 it was 4e-16 over that pivot at most, in 1,000 designs with predictors shifted by up to 10,000 sds.
SINGULAR_TOLERANCE, ROUNDING = 1e-12, 2e-15
#: So many times that: below this share of the model's variance a sandwich is expected to have none, and says nothing.
SILENT = 1e4
#: What one score alone gives eta is 1, more give more; below this the scores are rounding.
LEAST_ETA = 1.0 - 1e-3


@helper
def _range(d, S):
    """Lower Cholesky factor of positive semi-definite S in place; a pivot that is rounding leaves a column of 0."""
    apart()
    for j in range(d):
        pivot = S[j, j]
        diagonal = pivot
        for k in range(j):
            pivot -= S[j, k] * S[j, k]
        if pivot > RANGE_TOLERANCE * diagonal:
            root = math.sqrt(pivot)
            S[j, j] = root
            for i in range(j + 1, d):
                value = S[i, j]
                for k in range(j):
                    value -= S[i, k] * S[j, k]
                S[i, j] = value / root
        else:
            for i in range(j, d):
                S[i, j] = 0.0


@helper
def _forward(n, C, v):
    """C^-1 v in place for lower C; 0 where a pivot is 0."""
    for i in range(n):
        value = v[i]
        for k in range(i):
            value -= C[i, k] * v[k]
        v[i] = value / C[i, i] if C[i, i] != 0.0 else 0.0


@helper
def _working(d, q, C, zplace, G, r, L):
    """L, the lower Cholesky factor of V = I + Z G Z' in the range; C is the range's."""
    apart()
    for i in range(d):
        for k in range(i + 1):
            value = 1.0 if i == k else 0.0
            for a in range(q):
                for b in range(q):
                    value += (
                        C[zplace[a], i] * G[r, sym(a, b)] * C[zplace[b], k]
                        if zplace[a] >= i and zplace[b] >= k
                        else 0.0
                    )
            L[i, k] = value
    return cholesky(d, L, 0.0)


@helper
def _whiten(j, r, columns, place, xweights, zplace, dd, dy, weights, beta, G, X, e, L, C, v):
    """X = L^-1 X_j, e = L^-1 e_j and L of cluster j in the range of its columns. False where V is not positive definite."""
    apart()
    d, p, q = len(columns), len(place), len(zplace)
    rd = r if dd.shape[0] > 1 else 0
    rw = r if weights.shape[0] > 1 else 0
    for i in range(d):
        for k in range(i + 1):
            C[i, k] = dd[rd, j, sym(columns[i], columns[k])]
        v[i] = dy[r, j, columns[i]]
    _range(d, C)
    _forward(d, C, v)
    for k in range(d):
        e[j, k] = v[k]
    for i in range(p):
        weight = 1.0 if xweights[i] == 0 else weights[rw, j, xweights[i]]
        for k in range(d):
            X[j, k, i] = C[place[i], k] * weight if k <= place[i] else 0.0
            e[j, k] -= X[j, k, i] * beta[r, i]
    if q == 0:
        return True
    if not _working(d, q, C, zplace, G, r, L[j]):
        return False
    _forward(d, L[j], e[j])
    for i in range(p):
        _forward(d, L[j], X[j, :, i])
    return True


@helper
def _adjust(d, p, q, tolerance, L, X, Y, P, B, T, values, vectors):
    """Y = F'X for F = (P B P)^(-1/2) P, B = I - X X', P = L'L."""
    apart()
    for i in range(d):
        for k in range(d):
            value = 0.0 if q else (1.0 if i == k else 0.0)
            if q:
                for m in range(max(i, k), d):
                    value += L[m, i] * L[m, k]
            P[i, k] = value
            value = 1.0 if i == k else 0.0
            for m in range(p):
                value -= X[i, m] * X[k, m]
            B[i, k] = value
    largest = 1.0
    if q:
        for i in range(d):  # T = P B, then B = T P
            for k in range(d):
                value = 0.0
                for m in range(d):
                    value += P[i, m] * B[m, k]
                T[i, k] = value
        for i in range(d):
            for k in range(i + 1):
                value = 0.0
                for m in range(d):
                    value += T[i, m] * P[m, k]
                B[i, k] = value
                B[k, i] = value
            largest = max(largest, P[i, i] * P[i, i])
    eigen(d, B, values, vectors)
    for k in range(d):  # T = eigenvectors' X, scaled
        scale = 1.0 / math.sqrt(values[k]) if values[k] > tolerance * largest else 0.0
        for i in range(p):
            value = 0.0
            for m in range(d):
                value += vectors[m, k] * X[m, i]
            T[k, i] = value * scale
    for m in range(d):  # B = P eigenvectors; Y = B T
        for k in range(d):
            value = 0.0
            for i in range(d):
                value += P[m, i] * vectors[i, k]
            B[m, k] = value
        for i in range(p):
            value = 0.0
            for k in range(d):
                value += B[m, k] * T[k, i]
            Y[m, i] = value


@helper
def _variation(n, c, X, Y, omega, v, a, products):
    """omega (n, n), the expected covariance of n rows c under the working model, and the sum of the variances of the entries of
    the estimated one."""
    apart()
    J, d, p = X.shape
    for s in range(n):
        for t in range(n):
            omega[s, t] = 0.0
            for i in range(p):
                for k in range(p):
                    products[s, t, i, k] = 0.0
    total = 0.0
    for j in range(J):
        for s in range(n):
            for m in range(d):
                value = 0.0
                for i in range(p):
                    value += Y[j, m, i] * c[s, i]
                v[s, m] = value
            for i in range(p):
                value = 0.0
                for m in range(d):
                    value += X[j, m, i] * v[s, m]
                a[s, i] = value
        trace, square = 0.0, 0.0
        for s in range(n):
            for t in range(n):
                own, joint = 0.0, 0.0
                for m in range(d):
                    own += v[s, m] * v[t, m]
                for i in range(p):
                    joint += a[s, i] * a[t, i]
                    for k in range(p):
                        products[s, t, i, k] += a[s, i] * a[t, k]
                omega[s, t] += own - joint
                total += own * own - 2.0 * own * joint
                if s == t:
                    trace += own
                    square += joint
        total += trace * trace - 2.0 * trace * square
    for s in range(n):
        for t in range(n):
            for i in range(p):
                for k in range(p):
                    total += products[s, t, i, k] * (products[s, t, i, k] + products[s, t, k, i])
    return total


@helper
def _satterthwaite(r, h, n, least, C, weights, X, Y, c, omega, v, a, products, df, scale):
    """df and scale of hypothesis h, n rows of weights, where its expected variance is above the least share of the model's."""
    apart()
    p = X.shape[2]
    for s in range(n):
        for i in range(p):
            c[s, i] = weights[s, i]
        _forward(p, C, c[s])
    total = _variation(n, c, X, Y, omega, v, a, products)
    for s in range(n):
        size = 0.0
        for i in range(p):
            size += c[s, i] * c[s, i]
        if not omega[s, s] > least * size:
            return
    if n == 1:
        eta = 2.0 * omega[0, 0] * omega[0, 0] / total
    else:
        if not cholesky(n, omega, PIVOT_TOLERANCE):
            return
        for i in range(p):
            _forward(n, omega, c[:, i])
        eta = n * (n + 1) / _variation(n, c, X, Y, omega, v, a, products)
    if not eta > LEAST_ETA:
        return
    df[r, h] = eta - n + 1
    scale[r, h] = (eta - n + 1) / eta


@helper
def _meat(r, e, Y, C, meat, v, vcov):
    """vcov = C'^-1 [ sum_j Y_j'e_j e_j'Y_j ] C^-1."""
    apart()
    J, d, p = Y.shape
    for i in range(p):
        for k in range(p):
            meat[i, k] = 0.0
    for j in range(J):
        for i in range(p):
            value = 0.0
            for m in range(d):
                value += Y[j, m, i] * e[j, m]
            v[i] = value
        for i in range(p):
            for k in range(i + 1):
                meat[i, k] += v[i] * v[k]
    for i in range(p):
        for k in range(i + 1, p):
            meat[i, k] = meat[k, i]
    for _ in range(2):  # rows become C'^-1 times them, then the matrix is transposed
        for k in range(p):
            for i in range(p - 1, -1, -1):
                value = meat[i, k]
                for m in range(i + 1, p):
                    value -= C[m, i] * meat[m, k]
                meat[i, k] = value / C[i, i]
        for i in range(p):
            for k in range(i):
                meat[i, k], meat[k, i] = meat[k, i], meat[i, k]
    for k in range(p):
        for i in range(k + 1):
            vcov[r, pair(i, k)] = meat[i, k]


@helper
def _total(p, X, C):
    """C, the factor of sum_j X_j'X_j; the tolerance of a zero eigenvalue, which a small pivot raises, or -1: no full rank."""
    apart()
    J, d, _ = X.shape
    for i in range(p):
        for k in range(i + 1):
            value = 0.0
            for j in range(J):
                for m in range(d):
                    value += X[j, m, i] * X[j, m, k]
            C[i, k] = value
    least = 1.0
    for i in range(p):
        diagonal = C[i, i]
        C[p, i] = diagonal
    if not cholesky(p, C, PIVOT_TOLERANCE):
        return -1.0
    for i in range(p):
        least = min(least, C[i, i] * C[i, i] / C[p, i])
    return max(SINGULAR_TOLERANCE, ROUNDING / least)


@compiled()
def sandwich_block(
    columns, place, xweights, zplace, dd, dy, weights, beta, G, usable, adjusted, starts, rows, vcov, df, scale
):  # pragma: no cover
    """Replicates one by one; see `robust.sandwich`. Arrays of the Gram are (R or 1, J, ...): with replicates last, the values of
    one would lie a page apart, all in the same few lines of the cache."""
    J, d, p, q = dd.shape[1], len(columns), len(place), len(zplace)
    n = max(p, d)
    most = 1
    for h in range(len(starts) - 1):
        most = max(most, starts[h + 1] - starts[h])
    X, Y, e, L = np.zeros((J, d, p)), np.zeros((J, d, p)), np.zeros((J, d)), np.zeros((J, d, d))
    C, D, S = np.zeros((p + 1, p)), np.zeros((d, d)), np.zeros((p, p))
    P, B, T, values, vectors = np.zeros((d, d)), np.zeros((d, d)), np.zeros((d, p)), np.zeros(d), np.zeros((d, d))
    c, omega, v, a = np.zeros((most, p)), np.zeros((most, most)), np.zeros((most, n)), np.zeros((most, p))
    products = np.zeros((most, most, p, p))
    for r in range(len(usable)):
        if not usable[r]:
            continue
        sound = True
        for j in range(J):
            sound = sound and _whiten(
                j, r, columns, place, xweights, zplace, dd, dy, weights, beta, G, X, e, L, D, v[0]
            )
        tolerance = _total(p, X, C) if sound else -1.0
        if tolerance < 0.0:
            continue
        for j in range(J):
            for m in range(d):
                _forward(p, C, X[j, m])
                for i in range(p):
                    Y[j, m, i] = X[j, m, i]
            if adjusted:
                _adjust(d, p, q, tolerance, L[j], X[j], Y[j], P, B, T, values, vectors)
        _meat(r, e, Y, C, S, v[0], vcov)
        for h in range(len(starts) - 1):
            low = starts[h]
            _satterthwaite(
                r, h, starts[h + 1] - low, SILENT * tolerance, C, rows[low:], X, Y, c, omega, v, a, products, df, scale
            )
