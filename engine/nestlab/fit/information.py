"""What the curvature at an optimum says of uncertainty: degrees of freedom, Kenward and Roger's covariance, expected information.

Notation as in `kernel`. At the estimates S = C C', c = C^-1 l for a contrast l'b, and D(E) in the basis of C: D_ik = sum v_i'E
v_k.

Satterthwaite (1941), as lmerTest computes it (Kuznetsova et al. 2017, J. Stat. Softw. 82(13)): df = 2 f^2 / (g'Vg), f =
l'Cov(b)l, g its gradient and V twice the inverse Hessian of the deviance in (theta, sigma). df does not depend on the
parametrization, and sigma is profiled out exactly: with H the Hessian of the profiled deviance and w the gradient of log f
profiled,

    df = 1 / (w'H^-1 w + 1/m),   w(E) = c'D(E)c / c'c - D_pp(E) / m

At the boundary derivatives are along the matrices G of the estimate's rank, which is what a theta at 0 does to lmerTest's: where
G = 0, df = m.

Kenward and Roger (1997, Biometrics 53:983), as pbkrtest (Halekoh & Hojsgaard 2014, J. Stat. Softw. 59(9)). Var(y) is linear in
(s2 G, s2), so that there are no R_ij. In the basis of the directions s2 Z E_a Z' and Var(y) itself the expected information
times 2 is

    [ -H0  b ]
    [  b'  m ],   H0 and b: Hessian and gradient with y left out (v_p = 0)

and of the adjustment only the first block is left: with W = 2 (-H0 - b b'/m)^-1, M_j = sum_ab W_ab E_a W_j E_b,

    Cov_A(b) = s2 C'^-1 (I + 2 sum_j v_j'M_j v_j - 2 sum_ab W_ab D_a D_b) C^-1

For Q, an orthonormal basis (p x r) of C^-1 times the contrasts, and D*_a = Q'D_a Q - (b_a/m) I,

    A1 = sum_ab W_ab tr D*_a tr D*_b + 2 r^2/m,   A2 = sum_ab W_ab tr(D*_a D*_b) + 2 r/m

which give df and the scale of F; for r = 1, df = 2/A2 and the scale is 1.
"""

from __future__ import annotations

import math

import numpy as np

from ..simulate.compiled import compiled
from .lanes import LANES, fma, get, put, splat
from .passes import Clusters, evaluate
from .reduce import pool, reduce_lanes
from .search import SINGULAR_TOLERANCE, column_square, eigenframe
from .small import apart, cholesky, eigen, helper, pair, sym

__all__ = [
    "adjust", "inform_block", "invert_information", "invert_lanes", "satterthwaite_all", "satterthwaite_lanes", "set_point",
    "set_points", "without_y", "without_y_lanes",
]  # fmt: skip

#: Pivot over its diagonal of a Hessian or an information matrix: below this it is singular, and there are no degrees of freedom.
PIVOT_TOLERANCE = 1e-10
#: Eigenvalue of G over the largest that is rounding.
RANK_TOLERANCE = 1e-14
#: Differences of degrees of freedom that are none.
SAME_DF = 1e-8


@helper
def set_point(lane, o, shape, varcomp, sigma2, work):
    """F and frame at the estimates: eigenvectors of G, whitened from them, term by term; those of no variance are 0 in F."""
    apart()
    q, U, blocks = shape.q, work.U, shape.blocks
    largest = 0.0
    for a in range(q):
        for b in range(a, q):
            value = 0.0
            for k in range(a, q):
                for e in range(b, q):
                    if blocks[k] == blocks[a] and blocks[e] == blocks[a]:
                        value += U[a, k, lane] * varcomp[o, sym(k, e)] / sigma2[o] * U[b, e, lane]
            work.covariance[pair(a, b)] = value
        largest = max(largest, work.covariance[pair(a, a)])
    eigenframe(lane, max(0.5 * SINGULAR_TOLERANCE, RANK_TOLERANCE * largest), shape, work.covariance, work)


@helper
def set_nothing(lane, shape, work):
    """G = 0, for a lane without estimates."""
    apart()
    for a in range(shape.q):
        for b in range(shape.q):
            work.F[a, b, lane] = 0.0
            work.frame[a, b, lane] = 0.0


@helper
def _set_contrast(lane, h, hypotheses, rows, p, work):
    """An orthonormal basis (columns of `basis`) of C^-1 times the rows of a hypothesis, along the eigenvectors of its covariance;
    how many."""
    apart()
    Q, M, V, values, column = work.basis, work.one, work.two, work.values, work.three
    first, count = hypotheses[h], hypotheses[h + 1] - hypotheses[h]
    for r in range(count):
        for i in range(p):
            value = rows[first + r, i]
            for k in range(i):
                value -= work.C[pair(k, i), lane] * column[k, r]
            column[i, r] = value / work.C[pair(i, i), lane]
    for r in range(count):
        for s in range(count):
            M[r, s] = 0.0
            for i in range(p):
                M[r, s] += column[i, r] * column[i, s]
    if count == 1:
        values[0], V[0, 0] = M[0, 0], 1.0
    else:
        eigen(count, M, values, V)
    for r in range(count):
        for i in range(p):
            Q[i, r] = 0.0
            for s in range(count):
                Q[i, r] += column[i, s] * V[s, r] / math.sqrt(values[r])
    return count


@helper
def _along(lane, s, r, t, p, work):
    """q_r'D_s q_t."""
    apart()
    Q, D = work.basis, work.D
    value = 0.0
    for i in range(p):
        for k in range(p):
            value += Q[i, r] * D[s, sym(i, k), lane] * Q[k, t]
    return value


@helper
def _factor_hessian(lane, shape, work):
    """Cholesky factor (in `curvature`) of the Hessian in the free entries that move G, which are left in `moves`; their number,
    -1 if it is not positive definite."""
    apart()
    H, moves = work.curvature, work.moves
    count = 0
    for s in range(shape.free):
        if column_square(lane, shape.cols[s], shape, work) > 0.0:
            moves[count] = s
            count += 1
    for s in range(count):
        for u in range(s + 1):
            H[s, u] = work.HL[moves[s], moves[u], lane]
    return count if cholesky(count, H, PIVOT_TOLERANCE) else -1


@helper
def _satterthwaite(lane, r, count, shape, work):
    """Degrees of freedom of row r of `basis`."""
    apart()
    p = shape.p
    H, along, moved, moves = work.curvature, work.values, work.column, work.moves
    for x in range(shape.free):
        s = shape.inside[x]
        along[s] = _along(lane, s, r, r, p, work) - work.D[s, pair(p, p), lane] / work.m[lane]
    square = 0.0
    for s in range(count):
        value = 0.0
        for x in range(shape.free):
            u = shape.inside[x]
            value += work.dG[moves[s], u, lane] * along[u]
        for u in range(s):
            value -= H[s, u] * moved[u]
        moved[s] = value / H[s, s]
        square += moved[s] * moved[s]
    return 1.0 / (square + 1.0 / work.m[lane])


@helper
def _joint_df(df, count):
    """Denominator degrees of freedom of an F that is the mean of squares of independent t (Fai & Cornelius 1996, eq. 9)."""
    lowest, highest, mean = np.inf, -np.inf, 0.0
    for r in range(count):
        lowest, highest = min(lowest, df[r]), max(highest, df[r])
        mean += df[r] / count
    if highest - lowest < SAME_DF:
        return mean
    if not lowest > 2.0:
        return 2.0 if lowest == lowest else np.nan
    total = 0.0
    for r in range(count):
        total += df[r] / (df[r] - 2.0)
    return 2.0 * total / (total - count)


@helper
def satterthwaite_all(lane, o, shape, hypotheses, rows, out, work):
    apart()
    count = _factor_hessian(lane, shape, work)
    for h in range(len(hypotheses) - 1):
        r = _set_contrast(lane, h, hypotheses, rows, shape.p, work)
        for k in range(r):
            work.dfs[k] = _satterthwaite(lane, k, count, shape, work) if count >= 0 else np.nan
        out[o, h] = _joint_df(work.dfs, r)


@helper
def _take_slopes(lane, shape, work):
    """b, by pairs."""
    apart()
    for s in range(pair(0, shape.q)):
        work.slopes[s] = 0.0
    for s in range(shape.free):
        i = pair(shape.cols[s], shape.rows[s])
        work.slopes[i] = work.Sg[i, lane] * (1.0 if shape.cols[s] == shape.rows[s] else 2.0)


@helper
def invert_information(lane, shape, work):
    """W (in `weights`, by pairs of G's entries, those between terms left out). False if the information is singular."""
    apart()
    f, rows, cols = shape.free, shape.rows, shape.cols
    M, V, column = work.one, work.two, work.column
    _take_slopes(lane, shape, work)
    for s in range(f):
        i = pair(cols[s], rows[s])
        for u in range(s + 1):
            k = pair(cols[u], rows[u])
            M[s, u] = -work.H[i, k, lane] - work.slopes[i] * work.slopes[k] / work.m[lane]
    regular = cholesky(f, M, PIVOT_TOLERANCE)
    for i in range(f):
        for k in range(f):
            work.weights[shape.inside[i], shape.inside[k], lane] = 0.0
    if not regular:
        return False
    for u in range(f):
        for s in range(f):
            value = 1.0 if s == u else 0.0
            for k in range(s):
                value -= M[s, k] * column[k]
            column[s] = value / M[s, s]
        for s in range(f - 1, -1, -1):
            value = column[s]
            for k in range(s + 1, f):
                value -= M[k, s] * column[k]
            column[s] = value / M[s, s]
        for s in range(f):
            V[s, u] = column[s]
    for s in range(f):
        for u in range(f):
            work.weights[pair(cols[s], rows[s]), pair(cols[u], rows[u]), lane] = V[s, u] + V[u, s]
    return True


@helper
def adjust(shape, clusters, work):
    """sum_j v_j'M_j v_j - sum_ab W_ab D_a D_b, by pairs of fixed effects, in `adjusted`."""
    apart()
    q, p, v, blocks = shape.q, shape.p, clusters.T, shape.blocks
    n, width, K = pair(0, q), p + 1, len(clusters.det)
    for s in range(pair(0, p)):
        put(work.adjusted, s, splat(0.0))
    for j in range(K):
        for a in range(q):
            for b in range(a + 1):
                value = splat(0.0)
                for c in range(q):
                    for d in range(q):
                        if blocks[c] != blocks[a] or blocks[d] != blocks[b]:
                            continue
                        value = fma(
                            get(work.weights, (sym(a, c), sym(b, d))), get(clusters.W, j * n + sym(c, d)), value
                        )
                put(work.K, (a, b), value)
                put(work.K, (b, a), value)
        for i in range(p):
            for a in range(q):
                value = splat(0.0)
                for b in range(q):
                    value = fma(get(work.K, (a, b)), get(v, (j * q + b) * width + i), value)
                put(work.scaled, (a, i), value)
        for i in range(p):
            for k in range(i + 1):
                value = get(work.adjusted, pair(k, i))
                for a in range(q):
                    value = fma(get(work.scaled, (a, i)), get(v, (j * q + a) * width + k), value)
                put(work.adjusted, pair(k, i), value)
    for x in range(shape.free):
        for y in range(shape.free):
            s, u = shape.inside[x], shape.inside[y]
            weight = -1.0 * get(work.weights, (s, u))
            for i in range(p):
                for k in range(i + 1):
                    value = splat(0.0)
                    for e in range(p):
                        value = fma(get(work.D, (s, sym(i, e))), get(work.D, (u, sym(e, k))), value)
                    put(work.adjusted, pair(k, i), fma(weight, value, get(work.adjusted, pair(k, i))))


@helper
def _adjusted_covariance(lane, o, shape, sigma2, out, work):
    """Cov_A(b) of a lane, by pairs."""
    apart()
    p, X, A = shape.p, work.two, work.one
    for i in range(p):  # column i of C^-1, in column i of X
        for k in range(p):
            value = 1.0 if k == i else 0.0
            for e in range(i, k):
                value -= work.C[pair(e, k), lane] * X[e, i]
            X[k, i] = value / work.C[pair(k, k), lane] if k >= i else 0.0
    for i in range(p):
        for k in range(p):
            value = X[i, k]
            for e in range(p):
                value += 2.0 * work.adjusted[sym(i, e), lane] * X[e, k]
            A[i, k] = value
    for i in range(p):
        for k in range(i + 1):
            value = 0.0
            for e in range(i, p):
                value += X[e, i] * A[e, k]
            out[o, pair(k, i)] = value * sigma2[o]


@helper
def _kenward_roger(lane, r, shape, work):
    """(df, scale of F) of the r columns of `basis`, from W and b; pbkrtest's formulas, with its guards against 0/0."""
    apart()
    p, m = shape.p, work.m[lane]
    one, two = 2.0 * r * r / m, 2.0 * r / m
    P = work.projected
    for x in range(shape.free):
        s = shape.inside[x]
        for i in range(r):
            for k in range(r):
                P[s, i * r + k] = _along(lane, s, i, k, p, work) - (work.slopes[s] / m if i == k else 0.0)
    for x in range(shape.free):
        for y in range(shape.free):
            s, u = shape.inside[x], shape.inside[y]
            weight = work.weights[s, u, lane]
            if weight != 0.0:
                left = right = inner = 0.0
                for i in range(r):
                    left += P[s, i * r + i]
                    right += P[u, i * r + i]
                    for k in range(r):
                        inner += P[s, i * r + k] * P[u, k * r + i]
                one += weight * left * right
                two += weight * inner
    if r == 1:
        return 2.0 / two, 1.0
    B = (one + 6.0 * two) / (2.0 * r)
    g = ((r + 1.0) * one - (r + 4.0) * two) / ((r + 2.0) * two)
    share = 3.0 * r + 2.0 * (1.0 - g)
    V0, V1 = 1.0 + g / share * B, 1.0 - (r - g) / share * B
    V2 = 1.0 - (r + 2.0 - g) / share * B
    if abs(V0) < 1e-10:
        V0 = 0.0
    E = 1.0 - two / r
    ratio = 1.0 if abs(E) < 1e-14 and abs(V1) < 1e-14 else E / V1
    rho = ratio * ratio * V0 / V2 / r
    df = 4.0 + (r + 2.0) / (r * rho - 1.0)
    return df, 1.0 if abs(df - 2.0) < 1e-2 else df * E / (df - 2.0)


@helper
def _variance_covariance(lane, o, shape, varcomp, sigma2, out, work):
    """Cov of (covariance of the random effects by pairs, s2), by pairs, from W: d(s2) = s2 e_V, d(s2 G)_a = s2 (e_a + G_a
    e_V)."""
    apart()
    q, U, m = shape.q, work.U, work.m[lane]
    n = pair(0, q)
    inverse, J = work.basis, work.three
    for a in range(q):  # U^-1
        for k in range(q - 1, -1, -1):
            value = 1.0 if k == a else 0.0
            for e in range(k + 1, q):
                value -= U[k, e, lane] * inverse[e, a]
            inverse[k, a] = value / U[k, k, lane]
    # the parameters' derivatives in (e_a, e_V), times W's factor: columns a of J, then that of e_V, less its regression
    for a in range(q):
        for b in range(a + 1):
            x = pair(b, a)
            for c in range(q):
                for d in range(c + 1):
                    value = inverse[a, c] * inverse[b, d]
                    if c != d:
                        value += inverse[a, d] * inverse[b, c]
                    J[x, pair(d, c)] = value * sigma2[o]
            J[x, n] = varcomp[o, x]
    for s in range(n):
        J[n, s] = 0.0
    J[n, n] = sigma2[o]
    for x in range(n + 1):
        for s in range(n):
            J[x, s] -= J[x, n] * work.slopes[s] / m
    for x in range(n + 1):
        for y in range(x + 1):
            value = 2.0 / m * J[x, n] * J[y, n]
            for i in range(shape.free):
                s = shape.inside[i]
                if J[x, s] != 0.0:
                    for k in range(shape.free):
                        u = shape.inside[k]
                        value += J[x, s] * work.weights[s, u, lane] * J[y, u]
            out[o, pair(y, x)] = value


@helper
def without_y(lane, o, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work):
    """What needs the expected information only, of a lane for which it is regular."""
    apart()
    _take_slopes(lane, shape, work)
    if df.shape[0] > 0:
        _adjusted_covariance(lane, o, shape, sigma2, vcov, work)
        for h in range(len(hypotheses) - 1):
            r = _set_contrast(lane, h, hypotheses, rows, shape.p, work)
            df[o, h], scale[o, h] = _kenward_roger(lane, r, shape, work)
    if varcov.shape[0] > 0:
        _variance_covariance(lane, o, shape, varcomp, sigma2, varcov, work)


@helper
def set_points(base, first, begin, end, usable, shape, varcomp, sigma2, work):
    """Set lanes begin .. end - 1 to the estimates of their replicates, of which lane 0 is number `base`; the others have nothing
    to infer from."""
    apart()
    for lane in range(LANES):
        o = base + lane - first
        work.ready[lane] = begin <= lane < end and usable[o]
        work.yes[lane] = 1.0
        if work.ready[lane] != 0:
            set_point(lane, o, shape, varcomp, sigma2, work)
        else:
            set_nothing(lane, shape, work)


@helper
def satterthwaite_lanes(offset, shape, hypotheses, rows, out, work):
    """Satterthwaite's degrees of freedom of the lanes, whose first is row `offset` of `out`."""
    apart()
    for lane in range(LANES):
        if work.ready[lane] != 0:
            satterthwaite_all(lane, offset + lane, shape, hypotheses, rows, out, work)


@helper
def invert_lanes(shape, work):
    """Invert the information of the lanes; those where it is singular are ready no longer."""
    apart()
    for lane in range(LANES):
        work.ready[lane] = invert_information(lane, shape, work) and work.ready[lane] != 0


@helper
def without_y_lanes(offset, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work):
    """`without_y` of the lanes that are ready, whose first is row `offset` of the outputs."""
    apart()
    for lane in range(LANES):
        if work.ready[lane] != 0:
            o = offset + lane
            without_y(lane, o, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work)


@compiled()
def inform_block(
    groups, shapes, memory, dd, dy, yy, weights, first, last, usable, varcomp, sigma2, hypotheses, rows,
    satterthwaite, df, scale, vcov, varcov,
):  # fmt: skip
    """Degrees of freedom and covariances of replicates first .. last - 1 of a block, at their estimates. Releases the GIL.

    groups .. last: as for `fit_block`. usable (last - first): whether there are estimates; varcomp, sigma2: they.
    hypotheses (H + 1): the rows first .. of each hypothesis among `rows` (., p). Outputs, over replicates, of no rows if not
    wanted, else nan: satterthwaite (., H); df, scale (., H) and vcov (., p(p+1)/2) of Kenward and Roger, which needs
    REML; varcov (., k(k+1)/2), k = q(q+1)/2 + 1, of the variance components.
    """
    apart()
    shape, work = shapes[0], memory[1]
    n, x, J = pair(0, shape.q), shape.q * (shape.p + 1), dd.shape[0]
    origin, repeats, slot = pool(groups, x)
    K = len(origin)
    Rs, Bs = np.zeros((K * n, LANES)), np.zeros((K * x, LANES))
    A, B = (np.zeros((J * n, LANES)), np.zeros((J * x, LANES))) if K < J else (Rs, Bs)
    clusters = Clusters(
        Rs, Bs, np.zeros((K * n, LANES)), np.zeros((K * x, LANES)), np.zeros((K * n, LANES)), np.zeros((K, LANES))
    )
    following = first
    while following < last:
        base = min(following, yy.shape[1] - LANES)
        reduce_lanes(shape, origin, slot, base, dd, dy, yy, weights, A, B, Rs, Bs, work)
        begin, end = following - base, min(last - base, LANES)
        following = base + end
        set_points(base, first, begin, end, usable, shape, varcomp, sigma2, work)
        if satterthwaite.shape[0] > 0:
            evaluate(shape, repeats, clusters, work)
            satterthwaite_lanes(base - first, shape, hypotheses, rows, satterthwaite, work)
        if df.shape[0] > 0 or varcov.shape[0] > 0:
            for lane in range(LANES):
                work.yes[lane] = 0.0
            evaluate(shape, repeats, clusters, work)
            invert_lanes(shape, work)
            if df.shape[0] > 0:
                adjust(shape, clusters, work)
            without_y_lanes(base - first, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work)
