"""The compiled fit of a generalised linear mixed model with one grouping factor, for many replicates.

Model: y | u from a family with linear predictor eta = x'b + z'u + offset, u ~ N(0, G), G = L L', L lower-triangular (its free
entries are theta; block-diagonal over random terms). With u = L v and a = L'z, cluster j has the log joint density
g(v) = sum log f(y | eta) - v'v / 2, its mode v^ and H = I + sum w a a' (observed weights w = -(log f)''). The Laplace
approximation of the log likelihood, and adaptive Gauss-Hermite quadrature (one random column; Pinheiro and Bates 1995, J. Comput.
Graph. Stat. 4(1)) with nodes v_i = v^ + sqrt(2 / H) t_i, are

    l_j = g(v^) - log|H| / 2,    l_j = log[ (pi H)^(-1/2) sum_i omega_i exp(t_i^2) exp(g(v_i)) ]

F = -sum_j l_j is minimised over psi = (b, theta) by damped Newton steps. Derivatives are exact; the mode moves with psi. With D_k
the total derivative, eta_k and a_k the partial ones in psi_k, h = a'H^-1 a, e_k = eta_k + a'v_k:

    v_k   = D_k v^  = H^-1 sum [ l1 a_k - w eta_k a ]
    D_k H = sum [ w1 e_k a a' + w (a_k a' + a a_k') ]
    F_k   = sum_j [ -sum l1 eta_k + tr(H^-1 D_k H) / 2 ]
    F_kl  = sum_j [ sum w eta_k eta_l - v_k'H v_l - tr(H^-1 D_k H H^-1 D_l H) / 2 + (D_l D_k log|H| without that) / 2 ]

where second derivatives of v^ enter through the adjoint lambda = H^-1 sum w1 h a / 2 alone. `glmm.families` is the twin in NumPy.

An optimum is certified by the Newton decrement F_k F_kl^-1 F_l / 2, which is free of units, and by a Hessian without negative
eigenvalues: F is even in a column of L that is 0, so that the Hessian there tells whether the boundary is a minimum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simulate.compiled import compiled
from .glmm_densities import log_density, row_loop
from .small import cholesky, helper

__all__ = ["evaluate_glmm", "fit_glmm"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_MODE_STEPS = 60
_STEPS = 60
#: Newton decrements in v below which a mode is kept as it is, and below which one more step ends there.
_MODE_DONE, _MODE_NEAR = 1e-19, 1e-10
#: Newton decrement in psi, in units of the log likelihood, at an optimum.
_DONE = 1e-11
#: The least eigenvalue of L'AL, A the mean of Z'WZ over clusters, relative to which a random effect counts as 0.
_SINGULAR = 1e-7
#: The same where rounding hides any further progress.
_ROUNDED = 1e-7
#: The sd of random effects on the scale of the linear predictor beyond which data that effects can tell apart count as separated.
_WIDE = 8.0
#: The sd, on that scale, from which a second search starts.
_START = 1.5
OK, SINGULAR, NOT_CONVERGED, RANK_DEFICIENT, NONFINITE, SEPARATED = 0, 1, 2, 3, 4, 6
L1, W, W1, W2, EXP, ALPHA, BETA, SCRATCH = range(8)


class KernelRows(NamedTuple):
    """The rows of one replicate, cluster after cluster. X (p, N), Z (q, N), y, n (trials), offset (N); starts (J + 1): where
    clusters begin, 0 first; cluster (N): of each row; repeat (J): how many clusters are like it, repeats (N): likewise by row."""

    X: Array
    Z: Array
    y: Array
    n: Array
    offset: Array
    starts: Integers
    cluster: Integers
    repeat: Array
    repeats: Array


class KernelModel(NamedTuple):
    """kind, dispersion: see `log_density`; ta, tb (t): the entries of L that are theta; nodes
    (i), logs (i): t_i and log omega_i + t_i^2 of quadrature, one for Laplace."""

    kind: int
    dispersion: float
    ta: Integers
    tb: Integers
    nodes: Array
    logs: Array


class KernelWork(NamedTuple):
    """Scratch; v (q, J) the modes and V (K, q, J) their derivatives, from which the next evaluation starts.

    By row: A (q, N) = L'Z, HA = H^-1 A, R the derivatives of densities and what is made of them, D and E (K, N) the partial and
    total derivatives of linear predictors, eta0 without and eta with random effects. By cluster: H (q, q, J) and its factor,
    HI its inverse, DH (K, q, q, J) = H^-1 D_k H, rhs (K, q, J) = H V, lam (q, J) the adjoint, sums, step.
    """

    v: Array
    V: Array
    A: Array
    HA: Array
    R: Array
    D: Array
    E: Array
    eta0: Array
    eta: Array
    H: Array
    HI: Array
    DH: Array
    rhs: Array
    lam: Array
    step: Array
    sums: Array
    L: Array
    whole: Integers
    power: Array
    node: Array
    VV: Array
    HH: Array
    small: Array
    kept: Array


# Loops over rows and over clusters take whole arrays and the rows of them that they work on: a view costs 20 ns.


@row_loop
def _add_column(out, X, k, factor, m):
    for r in range(m):
        out[r] += factor * X[k, r]


@row_loop
def _copy(out, x, m):
    for r in range(m):
        out[r] = x[r]


@row_loop
def _add_effects(out, A, v, cluster, q, m):
    """out += A'v by rows."""
    for a in range(q):
        for r in range(m):
            out[r] += A[a, r] * v[a, cluster[r]]


@row_loop
def _scaled_columns(A, Z, L, q, m):
    """A = L'Z."""
    for a in range(q):
        for r in range(m):
            A[a, r] = 0.0
        for c in range(a, q):
            x = L[c, a]
            if x != 0.0:
                for r in range(m):
                    A[a, r] += x * Z[c, r]


@row_loop
def _sums(out, w, x, k, starts, J):
    """out[j]: sum of w x over the rows of cluster j."""
    if starts[J] == J:
        for j in range(J):
            out[j] = w[j] * x[k, j]
        return
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            total += w[r] * x[k, r]
        out[j] = total


@row_loop
def _products(out, w, x, k, y, i, starts, J):
    """out[j]: sum of w x y over the rows of cluster j."""
    if starts[J] == J:
        for j in range(J):
            out[j] = w[j] * x[k, j] * y[i, j]
        return
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            total += w[r] * x[k, r] * y[i, r]
        out[j] = total


@row_loop
def _total2(x, y, i, m):
    total = 0.0
    for r in range(m):
        total += x[r] * y[i, r]
    return total


@row_loop
def _total3(w, x, k, y, i, m):
    total = 0.0
    for r in range(m):
        total += w[r] * x[k, r] * y[i, r]
    return total


@row_loop
def _pair(w, D, alpha, E, k, i, m):
    """Sum of w D_k D_i + alpha E_k E_i."""
    total = 0.0
    for r in range(m):
        total += w[r] * D[k, r] * D[i, r] + alpha[r] * E[k, r] * E[i, r]
    return total


@row_loop
def _factors(H, q, J):
    """Replace H (q, q, J) by lower Cholesky factors; False if one has none."""
    for j in range(q):
        for k in range(j):
            for c in range(J):
                H[j, j, c] -= H[j, k, c] * H[j, k, c]
        for c in range(J):
            if not H[j, j, c] > 0.0:
                return False
        for c in range(J):
            H[j, j, c] = math.sqrt(H[j, j, c])
        for i in range(j + 1, q):
            for k in range(j):
                for c in range(J):
                    H[i, j, c] -= H[i, k, c] * H[j, k, c]
            for c in range(J):
                H[i, j, c] /= H[j, j, c]
    return True


@row_loop
def _solves(C, x, q, J):
    """Solve C C'x = x (q, J) in place."""
    for i in range(q):
        for k in range(i):
            for c in range(J):
                x[i, c] -= C[i, k, c] * x[k, c]
        for c in range(J):
            x[i, c] /= C[i, i, c]
    for i in range(q - 1, -1, -1):
        for k in range(i + 1, q):
            for c in range(J):
                x[i, c] -= C[k, i, c] * x[k, c]
        for c in range(J):
            x[i, c] /= C[i, i, c]


@row_loop
def _mode_gradient(step, kept, v, sums, q, J):
    """step and kept become the gradients of g; sums get - v'v / 2."""
    for a in range(q):
        for c in range(J):
            x = v[a, c]
            step[a, c] -= x
            kept[a, c] = step[a, c]
            sums[c] -= 0.5 * x * x


@row_loop
def _decrements(step, kept, out, q, J):
    """out[c] = step'kept; the largest, or nan."""
    worst = 0.0
    for c in range(J):
        total = 0.0
        for a in range(q):
            total += step[a, c] * kept[a, c]
        out[c] = total
        if not total >= 0.0:
            return math.nan
        worst = max(worst, total)
    return worst


@row_loop
def _shorten(step, A, decrements, starts, q, J):
    """Shorten steps that move the linear predictor of a row by more than 3."""
    for c in range(J):
        if decrements[c] > 0.25:
            most = 0.0
            for r in range(starts[c], starts[c + 1]):
                x = 0.0
                for a in range(q):
                    x += A[a, r] * step[a, c]
                most = max(most, abs(x))
            if most > 3.0:
                for a in range(q):
                    step[a, c] *= 3.0 / most


@row_loop
def _move(v, step, q, J):
    for a in range(q):
        for c in range(J):
            v[a, c] += step[a, c]


@helper
def _densities(model, rows, work, final):
    """The densities and their derivatives with the random effects at v."""
    m, R = rows.starts[-1], work.R
    _copy(work.eta, work.eta0, m)
    _add_effects(work.eta, work.A, work.v, rows.cluster, len(rows.Z), m)
    log_density(model.kind, model.dispersion, rows.y, rows.n, rows.starts, len(rows.repeat), work.eta, R[L1], R[W],
                R[W1], R[W2], R[EXP], (work.whole, work.power), work.sums, final)  # fmt: skip


@helper
def _find_modes(model, rows, work):
    """Move v to the modes. Leaves g in sums, the factors of H, the densities' derivatives. False where a mode is not found."""
    J, q, final = len(rows.repeat), len(rows.Z), False
    l1, w, starts = work.R[L1], work.R[W], rows.starts
    for _ in range(_MODE_STEPS):
        _densities(model, rows, work, final)
        for a in range(q):
            for b in range(a + 1):
                _products(work.H[a, b], w, work.A, a, work.A, b, starts, J)
            for c in range(J):
                work.H[a, a, c] += 1.0
            _sums(work.step[a], l1, work.A, a, starts, J)
        _mode_gradient(work.step, work.kept, work.v, work.sums, q, J)
        if not _factors(work.H, q, J):
            return False
        if final:
            return True
        _solves(work.H, work.step, q, J)
        worst = _decrements(work.step, work.kept, work.lam[0], q, J)
        if not worst < math.inf:
            return False
        if worst > 0.25:
            _shorten(work.step, work.A, work.lam[0], starts, q, J)
        _move(work.v, work.step, q, J)
        final = worst < _MODE_NEAR
    return False


@row_loop
def _inverses(C, HI, step, q, J):
    for b in range(q):
        for a in range(q):
            for c in range(J):
                step[a, c] = 1.0 if a == b else 0.0
        _solves(C, step, q, J)
        for a in range(q):
            for c in range(J):
                HI[a, b, c] = step[a, c]


@row_loop
def _partial(D, k, Z, c, v, b, cluster, m):
    """The partial derivative of linear predictors by L_cb: z_c v_b."""
    for r in range(m):
        D[k, r] = Z[c, r] * v[b, cluster[r]]


@row_loop
def _total(E, D, A, V, k, cluster, q, m):
    """E_k = D_k + A'V_k."""
    for r in range(m):
        E[k, r] = D[k, r]
    for a in range(q):
        for r in range(m):
            E[k, r] += A[a, r] * V[k, a, cluster[r]]


@row_loop
def _negated(out, step, q, J):
    for a in range(q):
        for c in range(J):
            out[a, c] = step[a, c]


@helper
def _mode_derivatives(model, rows, work):
    """V, and the partial and total derivatives of the linear predictors."""
    p, q, J, m = len(rows.X), len(rows.Z), len(rows.repeat), rows.starts[-1]
    l1, w = work.R[L1], work.R[W]
    for k in range(p + len(model.ta)):
        if k >= p:
            _partial(work.D, k, rows.Z, model.ta[k - p], work.v, model.tb[k - p], rows.cluster, m)
        rhs, V = work.rhs[k], work.V[k]
        for a in range(q):
            _products(rhs[a], w, work.D, k, work.A, a, rows.starts, J)
            for c in range(J):
                rhs[a, c] = -rhs[a, c]
        if k >= p:
            b = model.tb[k - p]
            _sums(work.kept[0], l1, rows.Z, model.ta[k - p], rows.starts, J)
            for c in range(J):
                rhs[b, c] += work.kept[0, c]
        _negated(V, rhs, q, J)
        _solves(work.H, V, q, J)
        _total(work.E, work.D, work.A, work.V, k, rows.cluster, q, m)


@row_loop
def _inverse_columns(HA, h, HI, A, cluster, q, m):
    """HA = H^-1 A and h = A'H^-1 A by rows."""
    for r in range(m):
        h[r] = 0.0
    for a in range(q):
        for r in range(m):
            HA[a, r] = 0.0
        for b in range(q):
            for r in range(m):
                HA[a, r] += HI[a, b, cluster[r]] * A[b, r]
        for r in range(m):
            h[r] += A[a, r] * HA[a, r]


@row_loop
def _times(out, a, E, k, m):
    for r in range(m):
        out[r] = a[r] * E[k, r]


@row_loop
def _add_scaled(out, HI, a, d, x, J):
    for c in range(J):
        out[c] += HI[a, d, c] * x[c]


@helper
def _traces(model, rows, work):
    """HA, h in BETA's place, and DH."""
    p, q, J, m, R = len(rows.X), len(rows.Z), len(rows.repeat), rows.starts[-1], work.R
    scratch, w, w1, sums = R[SCRATCH], R[W], R[W1], work.kept[0]
    _inverse_columns(work.HA, R[BETA], work.HI, work.A, rows.cluster, q, m)
    for k in range(p + len(model.ta)):
        _times(scratch, w1, work.E, k, m)
        for a in range(q):
            for b in range(q):
                _products(work.DH[k, a, b], scratch, work.HA, a, work.A, b, rows.starts, J)
        if k >= p:
            # H^-1 sum w z (e_d A' + A e_d')
            c, d = model.ta[k - p], model.tb[k - p]
            for b in range(q):
                _products(sums, w, rows.Z, c, work.A, b, rows.starts, J)
                for a in range(q):
                    _add_scaled(work.DH[k, a, b], work.HI, a, d, sums, J)
            for a in range(q):
                _products(sums, w, rows.Z, c, work.HA, a, rows.starts, J)
                for i in range(J):
                    work.DH[k, a, d, i] += sums[i]


@row_loop
def _trace(DH, k, repeat, q, J):
    total = 0.0
    for a in range(q):
        for c in range(J):
            total += repeat[c] * DH[k, a, a, c]
    return total


@row_loop
def _between(rhs, V, DH, k, i, repeat, q, J):
    """Sum over clusters of rhs_k'V_i + tr(DH_k DH_i) / 2."""
    total = 0.0
    for a in range(q):
        for c in range(J):
            total += repeat[c] * rhs[k, a, c] * V[i, a, c]
        for b in range(q):
            for c in range(J):
                total += 0.5 * repeat[c] * DH[k, a, b, c] * DH[i, b, a, c]
    return total


@row_loop
def _by_adjoint(R, A, lam, cluster, repeats, q, m):
    """alpha = w2 h / 2 - w1 lambda'A and beta = w1 h / 2 - w lambda'A; these, w and w1 times the repeats."""
    for r in range(m):
        R[SCRATCH, r] = 0.0
    for a in range(q):
        for r in range(m):
            R[SCRATCH, r] += A[a, r] * lam[a, cluster[r]]
    for r in range(m):
        h, x, times = R[BETA, r], R[SCRATCH, r], repeats[r]
        w, w1 = R[W, r], R[W1, r]
        R[ALPHA, r] = times * (0.5 * R[W2, r] * h - w1 * x)
        R[BETA, r] = times * (0.5 * w1 * h - w * x)
        R[W, r] = times * w
        R[W1, r] = times * w1


@row_loop
def _by_theta(R, Z, z, E, i, HA, b, V, lam, cluster, m):
    """What the derivative of a by theta_k, z e_b, adds beside psi_i."""
    total = 0.0
    for r in range(m):
        j = cluster[r]
        total += Z[z, r] * (R[BETA, r] * V[i, b, j] + E[i, r] * (R[W1, r] * HA[b, r] - R[W, r] * lam[b, j]))
    return total


@row_loop
def _by_thetas(R, Z, z, y, HI, b, d, cluster, m):
    total = 0.0
    for r in range(m):
        total += R[W, r] * Z[z, r] * Z[y, r] * HI[b, d, cluster[r]]
    return total


@helper
def _laplace(model, rows, work, gradient, hessian):
    """The gradient and the Hessian by Laplace's approximation, the modes being found."""
    p, q, J, m = len(rows.X), len(rows.Z), len(rows.repeat), rows.starts[-1]
    K, R, E, D = p + len(model.ta), work.R, work.E, work.D
    scratch = R[SCRATCH]
    for r in range(m):
        scratch[r] = R[L1, r] * rows.repeats[r]
    for k in range(K):
        gradient[k] = 0.5 * _trace(work.DH, k, rows.repeat, q, J) - _total2(scratch, D, k, m)
    for r in range(m):
        scratch[r] = 0.5 * R[W1, r] * R[BETA, r]
    for a in range(q):
        _sums(work.lam[a], scratch, work.HA, a, rows.starts, J)
    _by_adjoint(R, work.A, work.lam, rows.cluster, rows.repeats, q, m)
    w, alpha = R[W], R[ALPHA]
    for k in range(K):
        for i in range(k + 1):
            hessian[k, i] = _pair(w, D, alpha, E, k, i, m) - _between(
                work.rhs, work.V, work.DH, k, i, rows.repeat, q, J
            )
    for k in range(p, K):
        c, b = model.ta[k - p], model.tb[k - p]
        for i in range(K):
            x = _by_theta(R, rows.Z, c, E, i, work.HA, b, work.V, work.lam, rows.cluster, m)
            if i <= k:
                hessian[k, i] += x
            if i >= k:
                hessian[i, k] += x
        for i in range(p, k + 1):
            hessian[k, i] += _by_thetas(R, rows.Z, c, model.ta[i - p], work.HI, b, model.tb[i - p], rows.cluster, m)


@row_loop
def _cubes(R, A, E, k, i, z, starts, j):
    """Sums over a cluster's rows of w1 e_k e_i A, w2 e_k e_i A^2."""
    one, two = 0.0, 0.0
    for r in range(starts[j], starts[j + 1]):
        x = E[k, r] * E[i, r] * A[0, r]
        one += R[W1, r] * x
        two += R[W2, r] * x * A[0, r]
    return one, two


@row_loop
def _second_derivatives(R, A, Z, E, V, HI, VV, HH, p, K, starts, J):
    """v_kl and D_k D_l H / H (K, K, J) for one random column."""
    for j in range(J):
        first, last, over = starts[j], starts[j + 1], HI[0, 0, j]
        waz, wzz, w1azz, w1aaa = 0.0, 0.0, 0.0, 0.0
        for r in range(first, last):
            a, z = A[0, r], Z[0, r]
            waz += R[W, r] * a * z
            wzz += R[W, r] * z * z
            w1azz += R[W1, r] * a * a * z
            w1aaa += R[W1, r] * a * a * a
        for k in range(K):
            for i in range(k + 1):
                base = (V[i, 0, j] if k >= p else 0.0) + (V[k, 0, j] if i >= p else 0.0)
                one, two = _cubes(R, A, E, k, i, Z, starts, j)
                x = -waz * base - one
                y = w1azz * base + two
                if k >= p:
                    for r in range(first, last):
                        x -= R[W, r] * E[i, r] * Z[0, r]
                        y += 2.0 * R[W1, r] * E[i, r] * A[0, r] * Z[0, r]
                if i >= p:
                    for r in range(first, last):
                        x -= R[W, r] * E[k, r] * Z[0, r]
                        y += 2.0 * R[W1, r] * E[k, r] * A[0, r] * Z[0, r]
                if k >= p and i >= p:
                    y += 2.0 * wzz
                x *= over
                VV[k, i, j] = x
                HH[k, i, j] = (y + w1aaa * x) * over


@row_loop
def _nodes(v, modes, HI, far, J):
    for j in range(J):
        v[0, j] = modes[j] + far * math.sqrt(HI[0, 0, j])


@row_loop
def _at_node(i, log, far, p, K, starts, J, R, A, X, Z, E, v, V, VV, HI, HH, DH, sums, node, moves):
    """The log of the integrand at node i of every cluster, and its derivatives, into node (nodes, 1 + K + K (K + 1) / 2, J)."""
    for j in range(J):
        first, last = starts[j], starts[j + 1]
        x, spread = v[0, j], far * math.sqrt(HI[0, 0, j])
        l1a, l1z = 0.0, 0.0
        for r in range(first, last):
            l1a += R[L1, r] * A[0, r]
            l1z += R[L1, r] * Z[0, r]
        node[i, 0, j] = log + sums[j] - 0.5 * x * x
        place = 1 + K
        for k in range(K):
            move = V[k, 0, j] - 0.5 * spread * DH[k, 0, 0, j]
            moves[k] = move
            total = -x * move
            if k < p:
                for r in range(first, last):
                    E[k, r] = X[k, r] + A[0, r] * move
                    total += R[L1, r] * E[k, r]
            else:
                for r in range(first, last):
                    E[k, r] = Z[0, r] * x + A[0, r] * move
                    total += R[L1, r] * E[k, r]
            node[i, 1 + k, j] = total
            for c in range(k + 1):
                second = VV[k, c, j] + spread * (0.75 * DH[k, 0, 0, j] * DH[c, 0, 0, j] - 0.5 * HH[k, c, j])
                base = (moves[c] if k >= p else 0.0) + (moves[k] if c >= p else 0.0)
                total = l1z * base + (l1a - x) * second - move * moves[c]
                for r in range(first, last):
                    total -= R[W, r] * E[k, r] * E[c, r]
                node[i, place, j] = total
                place += 1


@row_loop
def _over_nodes(count, K, J, repeat, HI, HH, DH, node, moves, gradient, hessian):
    """F, its gradient and its Hessian from the integrand at all nodes."""
    F = 0.0
    for k in range(K):
        gradient[k] = 0.0
        for c in range(k + 1):
            hessian[k, c] = 0.0
    for j in range(J):
        most = node[0, 0, j]
        for i in range(1, count):
            most = max(most, node[i, 0, j])
        total = 0.0
        for i in range(count):
            node[i, 0, j] = math.exp(node[i, 0, j] - most)
            total += node[i, 0, j]
        times = repeat[j]
        F += times * (0.5 * math.log(math.pi / HI[0, 0, j]) - most - math.log(total))
        place = 1 + K
        for k in range(K):
            mean = 0.0
            for i in range(count):
                mean += node[i, 0, j] * node[i, 1 + k, j]
            mean /= total
            moves[k] = mean
            gradient[k] += times * (0.5 * DH[k, 0, 0, j] - mean)
            for c in range(k + 1):
                x = 0.0
                for i in range(count):
                    x += node[i, 0, j] * (node[i, place, j] + node[i, 1 + k, j] * node[i, 1 + c, j])
                hessian[k, c] += times * (
                    0.5 * (HH[k, c, j] - DH[k, 0, 0, j] * DH[c, 0, 0, j]) - x / total + mean * moves[c]
                )
                place += 1
    return F


@helper
def _quadrature(model, rows, work, gradient, hessian):
    """F, its gradient and its Hessian by adaptive Gauss-Hermite quadrature for one random column, the modes being found."""
    p, J = len(rows.X), len(rows.repeat)
    K = p + len(model.ta)
    _second_derivatives(work.R, work.A, rows.Z, work.E, work.V, work.HI, work.VV, work.HH, p, K, rows.starts, J)
    modes, moves = work.lam[0], work.small[0]
    _copy(modes, work.v[0], J)
    for i in range(len(model.nodes)):
        far = math.sqrt(2.0) * model.nodes[i]
        _nodes(work.v, modes, work.HI, far, J)
        _densities(model, rows, work, True)
        _at_node(i, model.logs[i], far, p, K, rows.starts, J, work.R, work.A, rows.X, rows.Z, work.E, work.v, work.V, work.VV,
                 work.HI, work.HH, work.DH, work.sums, work.node, moves)  # fmt: skip
    _copy(work.v[0], modes, J)
    return _over_nodes(
        len(model.nodes), K, J, rows.repeat, work.HI, work.HH, work.DH, work.node, moves, gradient, hessian
    )


@row_loop
def _laplace_value(sums, H, repeat, q, J):
    F = 0.0
    for j in range(J):
        x = sums[j]
        for a in range(q):
            x -= math.log(H[a, a, j])
        F -= repeat[j] * x
    return F


@helper
def _evaluate(model, rows, psi, work, gradient, hessian):
    """F at psi with its gradient and Hessian (lower triangle); inf where a mode is not found."""
    p, q, J, m = len(rows.X), len(rows.Z), len(rows.repeat), rows.starts[-1]
    for k in range(len(model.ta)):
        work.L[model.ta[k], model.tb[k]] = psi[p + k]
    _copy(work.eta0, rows.offset, m)
    for k in range(p):
        _add_column(work.eta0, rows.X, k, psi[k], m)
    _scaled_columns(work.A, rows.Z, work.L, q, m)
    if not _find_modes(model, rows, work):
        return math.inf
    F = _laplace_value(work.sums, work.H, rows.repeat, q, J)
    _inverses(work.H, work.HI, work.step, q, J)
    _mode_derivatives(model, rows, work)
    _traces(model, rows, work)
    if len(model.nodes) > 1:
        return _quadrature(model, rows, work, gradient, hessian)
    _laplace(model, rows, work, gradient, hessian)
    return F


@helper
def _solve(q, C, x):
    """Solve C C'x = x in place."""
    for i in range(q):
        t = x[i]
        for k in range(i):
            t -= C[i, k] * x[k]
        x[i] = t / C[i, i]
    for i in range(q - 1, -1, -1):
        t = x[i]
        for k in range(i + 1, q):
            t -= C[k, i] * x[k]
        x[i] = t / C[i, i]


@helper
def _newton(K, gradient, hessian, factor, scale, step):
    """The step -(H + ridge)^-1 g; returns g'H^-1 g and whether the Hessian itself is positive definite."""
    for k in range(K):
        scale[k] = 1.0 / math.sqrt(max(abs(hessian[k, k]), 1e-300))
    ridge, sure = 0.0, True
    while True:
        for k in range(K):
            for i in range(k + 1):
                factor[k, i] = hessian[k, i] * scale[k] * scale[i]
            factor[k, k] += ridge
        if cholesky(K, factor, 0.0):
            break
        ridge, sure = max(2e-3, 4.0 * ridge), False
        if not ridge < 1e9:
            return math.nan, False
    decrement = 0.0
    for k in range(K):
        step[k] = -gradient[k] * scale[k]
    _solve(K, factor, step)
    for k in range(K):
        step[k] *= scale[k]
        decrement -= step[k] * gradient[k]
    return decrement, sure


@helper
def _without_random_effects(model, rows, psi, work, gradient, hessian, factor, scale, step):
    """b of the model with G = 0, by Newton steps from 0, of counts from log(y + 0.1): from 0 a large count overflows.

    False where X lacks columns.
    """
    p, J, m, R = len(rows.X), len(rows.repeat), rows.starts[-1], work.R
    for k in range(p):
        psi[k] = 0.0
    before = math.inf
    for it in range(12):
        by_counts = it == 0 and model.kind >= 3
        _copy(work.eta, rows.offset, m)
        for k in range(p):
            _add_column(work.eta, rows.X, k, psi[k], m)
        if by_counts:
            for r in range(m):
                work.eta[r] = math.log(rows.y[r] + 0.1)
        log_density(model.kind, model.dispersion, rows.y, rows.n, rows.starts, J, work.eta, R[L1], R[W], R[W1],
                    R[W2], R[EXP], (work.whole, work.power), work.sums, True)  # fmt: skip
        now = 0.0
        for j in range(J):
            now -= rows.repeat[j] * work.sums[j]
        if not now <= before:
            for k in range(p):
                step[k] *= 0.5
                psi[k] -= step[k]
            continue
        before = math.inf if by_counts else now
        for r in range(m):
            score = R[L1, r] + (R[W, r] * (work.eta[r] - rows.offset[r]) if by_counts else 0.0)
            R[SCRATCH, r] = score * rows.repeats[r]
            R[BETA, r] = R[W, r] * rows.repeats[r]
        for k in range(p):
            gradient[k] = -_total2(R[SCRATCH], rows.X, k, m)
            for i in range(k + 1):
                hessian[k, i] = _total3(R[BETA], rows.X, k, rows.X, i, m)
        decrement, sure = _newton(p, gradient, hessian, factor, scale, step)
        if it == 0:
            for k in range(p):
                if not (sure and factor[k, k] > 1e-5):
                    return False
        if not decrement >= 0.0:
            return True
        for k in range(p):
            psi[k] += step[k]
        if decrement < 1e-2:
            break
    return True


@helper
def _first_theta(model, rows, psi, work, wide):
    """Start of theta: a diagonal L, by the spread of the clusters' scores beyond what sampling makes (S^2 - W over W^2).

    wide: random effects that move the linear predictor by _START instead.
    """
    p, J, R, m = len(rows.X), len(rows.repeat), work.R, rows.starts[-1]
    for k in range(len(model.ta)):
        psi[p + k] = 0.0
        if model.ta[k] != model.tb[k]:
            continue
        c, above, below = model.ta[k], 0.0, 1e-300
        if wide:
            _times(R[SCRATCH], rows.repeats, rows.Z, c, m)
            psi[p + k] = _START * math.sqrt(m / max(_total2(R[SCRATCH], rows.Z, c, m), 1e-300))
            continue
        _sums(work.kept[0], R[L1], rows.Z, c, rows.starts, J)
        _products(work.lam[0], R[W], rows.Z, c, rows.Z, c, rows.starts, J)
        for j in range(J):
            S, V = work.kept[0, j], work.lam[0, j]
            above += rows.repeat[j] * (S * S - V)
            below += rows.repeat[j] * V * V
        psi[p + k] = math.sqrt(max(above / below, 1e-2 * math.sqrt(J / below)))


@helper
def _moves_of_rows(model, rows, step):
    """The farthest that a step moves the linear predictor of a row by its fixed effects, and whether no row's density falls."""
    most = 0.0
    for r in range(rows.starts[-1]):
        x = 0.0
        for k in range(len(rows.X)):
            x += rows.X[k, r] * step[k]
        most = max(most, abs(x))
    rises = most > 0.0
    for r in range(rows.starts[-1]):
        x = 0.0
        for k in range(len(rows.X)):
            x += rows.X[k, r] * step[k]
        up = rows.y[r] > 0.0
        down = model.kind >= 3 or rows.y[r] < rows.n[r]
        if (down and x > 1e-4 * most) or (up and x < -1e-4 * most):
            rises = False
    return most, rises


@helper
def _search(model, least, rows, psi, work, gradient, hessian, factor, scale, step, trial, bound):
    """Newton steps from psi. Returns the status, F and the number of steps; the Hessian's factor is left in `factor`.

    least: F of a fit on the boundary that was found before, or -inf: a search that shrinks to it is given up.
    """
    p, q, J = len(rows.X), len(rows.Z), len(rows.repeat)
    K = p + len(model.ta)
    for a in range(q):
        for j in range(J):
            work.v[a, j] = 0.0
    for k in range(p):
        for r in range(rows.starts[-1]):
            work.D[k, r] = rows.X[k, r]
    F = _evaluate(model, rows, psi, work, gradient, hessian)
    if not math.inf > F:
        return NOT_CONVERGED, F, 0
    start = 0.0
    for k in range(p, K):
        start = max(start, abs(psi[k]))
    for it in range(1, _STEPS + 1):
        decrement, sure = _newton(K, gradient, hessian, factor, scale, step)
        if not decrement >= 0.0:
            return NOT_CONVERGED, F, it
        if decrement < _DONE:
            far, rises = _moves_of_rows(model, rows, step)
            if far > 1e-3 and sure:
                return (SEPARATED if rises else NOT_CONVERGED), F, it
            if sure:
                for k in range(K):
                    psi[k] += step[k]
                return OK, F - 0.5 * decrement, it
            # a saddle, at a column of L that is 0
            for k in range(p, K):
                if hessian[k, k] < 0.0:
                    step[k] = 0.3 * scale[k]
        far, rises = _moves_of_rows(model, rows, step)
        size = min(1.0, 6.0 / far) if far > 0.0 else 1.0
        for k in range(p, K):
            size = min(size, max(1.0, 2.0 * abs(psi[k])) / max(abs(step[k]), 1e-300))
        for a in range(q):
            for j in range(J):
                bound[a, j] = work.v[a, j]
        found = math.inf
        for k in range(K):
            trial[k] = psi[k]
        for _ in range(30):
            for a in range(q):
                for j in range(J):
                    x = bound[a, j]
                    for k in range(K):
                        x += size * step[k] * work.V[k, a, j]
                    work.v[a, j] = x
            for k in range(K):
                psi[k] = trial[k] + size * step[k]
            found = _evaluate(model, rows, psi, work, gradient, hessian)
            if found <= F + 1e-12 * (1.0 + abs(F)):
                break
            size *= 0.3
        if not found <= F + 1e-12 * (1.0 + abs(F)):
            for k in range(K):
                psi[k] = trial[k]
            F = _evaluate(model, rows, psi, work, gradient, hessian)
            decrement, sure = _newton(K, gradient, hessian, factor, scale, step)
            return (OK if sure and decrement < _ROUNDED else NOT_CONVERGED), F, it
        F = found
        widest = 0.0
        for k in range(p, K):
            widest = max(widest, abs(psi[k]))
        if widest > 1e3:
            return SEPARATED, F, it
        if widest < 0.4 * start and least - 1e-9 < F and least > -math.inf:
            return NOT_CONVERGED, F, it
    return NOT_CONVERGED, F, _STEPS


@helper
def _told_apart(rows, work):
    """Whether the fixed and random effects put every row on its side of 0, with random effects of a large variance: Laplace's
    approximation may have an optimum there, the likelihood has none."""
    widest = 0.0
    for r in range(rows.starts[-1]):
        x = 0.0
        for a in range(len(rows.Z)):
            x += work.A[a, r] * work.A[a, r]
        widest = max(widest, x)
        none, all_ = rows.y[r] <= 0.0, rows.y[r] >= rows.n[r]
        if not (none and work.eta[r] < 0.0) and not (all_ and work.eta[r] > 0.0):
            return False
    return widest > _WIDE * _WIDE


@helper
def _least_share(model, rows, psi, work):
    """The least pivot of L'AL, A the mean of Z'WZ over clusters: how much the weakest random effect adds to what is known."""
    q, J, R = len(rows.Z), len(rows.repeat), work.R
    total = 0.0
    for j in range(J):
        total += rows.repeat[j]
    M, N, z = work.small[:q], work.small[q : 2 * q], rows.Z
    for a in range(q):
        for b in range(a + 1):
            M[a, b] = _total3(R[W], z, a, z, b, rows.starts[-1]) / total
    # A = C C'; rows of C'L
    least = math.inf
    if not cholesky(q, M, 0.0):
        return 0.0
    for a in range(q):
        for b in range(q):
            x = 0.0
            for c in range(q):
                x += (M[c, a] if c >= a else 0.0) * work.L[c, b]
            N[a, b] = x
    # Gram-Schmidt on the columns: pivots of L'AL
    for b in range(q):
        for c in range(b):
            x, y = 0.0, 0.0
            for a in range(q):
                x += N[a, c] * N[a, b]
                y += N[a, c] * N[a, c]
            if y > 0.0:
                for a in range(q):
                    N[a, b] -= x / y * N[a, c]
        x = 0.0
        for a in range(q):
            x += N[a, b] * N[a, b]
        least = min(least, x)
    return least


@helper
def _fit_once(model, least, rows, psi, work, gradient, hessian, factor, scale, step, trial, bound):
    """A search from the usual start or, where a fit of F = least is on the boundary, from a wide one.

    Returns its status, F and number of steps; leaves psi and the factor of the Hessian.
    """
    p = len(rows.X)
    K = p + len(model.ta)
    if not _without_random_effects(model, rows, psi, work, gradient, hessian, factor, scale, step):
        return RANK_DEFICIENT, math.nan, 0
    _first_theta(model, rows, psi, work, least > -math.inf)
    status, F, steps = _search(model, least, rows, psi, work, gradient, hessian, factor, scale, step, trial, bound)
    if status != OK:
        return status, F, steps
    if model.kind < 3:
        _densities(model, rows, work, True)
        if _told_apart(rows, work):
            return SEPARATED, F, steps
    if _least_share(model, rows, psi, work) < _SINGULAR:
        status = SINGULAR
        if p + 1 == K:
            psi[p] = 0.0
            at = _evaluate(model, rows, psi, work, gradient, hessian)
            _newton(K, gradient, hessian, factor, scale, step)
            F = min(F, at)
    return status, F, steps


@helper
def _reverse(Z, m):
    q = len(Z)
    for a in range(q // 2):
        for r in range(m):
            Z[a, r], Z[q - 1 - a, r] = Z[q - 1 - a, r], Z[a, r]


@helper
def _fit(model, turned, rows, psi, work, gradient, hessian, factor, scale, step, trial, bound, best, G):
    """The fit of one replicate: its status, F and number of steps; psi, the factor of the Hessian, and G.

    Where the first random column has no variance but others have, L_11 = 0 leaves the directions of the next columns open and
    steps stall: the search is then made again with the columns in reverse order (`turned`). A fit on the boundary is checked by
    the same second search, which starts elsewhere, and the lower of the two is kept. best (K + 2, K): scratch.
    """
    p, q, m = len(rows.X), len(rows.Z), rows.starts[-1]
    for a in range(q):
        for b in range(q):
            work.L[a, b] = 0.0
    status, F, steps = _fit_once(
        model, -math.inf, rows, psi, work, gradient, hessian, factor, scale, step, trial, bound
    )
    again = status == SINGULAR or (status == NOT_CONVERGED and q > 1)
    if again:
        K = len(psi)
        for k in range(K):
            best[K, k], best[K + 1, k] = psi[k], scale[k]
            for i in range(K):
                best[k, i] = factor[k, i]
        first, least = status, F
        _reverse(rows.Z, m)
        for a in range(q):
            for b in range(q):
                work.L[a, b] = 0.0
        status, F, more = _fit_once(
            turned,
            F if status == SINGULAR else -math.inf,
            rows,
            psi,
            work,
            gradient,
            hessian,
            factor,
            scale,
            step,
            trial,
            bound,
        )
        steps += more
        _reverse(rows.Z, m)
        if first == SINGULAR and not (status <= SINGULAR and least - 1e-9 > F):
            again, status, F = False, first, least
            for k in range(K):
                psi[k], scale[k] = best[K, k], best[K + 1, k]
                for i in range(K):
                    factor[k, i] = best[k, i]
    for a in range(q):
        for b in range(q):
            work.L[a, b] = 0.0
    L = work.L
    for k in range(len(model.ta)):
        if again:
            L[turned.ta[k], turned.tb[k]] = psi[p + k]
        else:
            L[model.ta[k], model.tb[k]] = psi[p + k]
    for a in range(q):
        for b in range(q):
            x = 0.0
            for c in range(q):
                x += L[q - 1 - a if again else a, c] * L[q - 1 - b if again else b, c]
            G[a, b] = x
    return status, F, steps


@helper
def _work(p, q, t, J, m, nodes):
    K = p + t
    whole, side = np.empty(m, np.int64), max(2 * q, K)
    second = (K, K, J) if nodes > 1 else (1, 1, 1)
    return KernelWork(
        np.zeros((q, J)), np.zeros((K, q, J)), np.empty((q, m)), np.empty((q, m)), np.empty((8, m)), np.empty((K, m)),
        np.empty((K, m)), np.empty(m), np.empty(m), np.empty((q, q, J)), np.empty((q, q, J)), np.empty((K, q, q, J)),
        np.empty((K, q, J)), np.empty((q, J)), np.empty((q, J)), np.empty(J), np.zeros((q, q)), whole, whole.view(np.float64),
        np.empty((nodes, 1 + K + K * (K + 1) // 2, J) if nodes > 1 else (1, 1, 1)), np.empty(second), np.empty(second),
        np.empty((side, side)), np.empty((q, J)),
    )  # fmt: skip


@compiled()
def fit_glmm(kind, dispersion, ta, tb, nodes, logs, X, Z, y, n, offset, starts, cluster, repeat, repeats, first_row,
             first_cluster, status, steps, F, psi, vcov, G):  # fmt: skip
    """Fit R replicates whose rows and clusters lie one after another.

    X (p, N), Z (q, N), y, n, offset, repeats, cluster (N): rows, `cluster` counted from 0 in each replicate; starts: where
    clusters begin in their replicate, J + 1 numbers each; repeat: of clusters. first_row, first_cluster (R + 1): where replicates
    begin. Fills status, steps, F (R), psi (R, K), vcov (R, K, K), the inverse of the Hessian, and G (R, q, q); Z is scratch.
    theta in psi and vcov is that of the columns in reverse order where these had to be reversed (`_fit`).
    """
    p, q, t = len(X), len(Z), len(ta)
    K, most, clusters = p + t, 1, 1
    for r in range(len(status)):
        most = max(most, first_row[r + 1] - first_row[r])
        clusters = max(clusters, first_cluster[r + 1] - first_cluster[r])
    work = _work(p, q, t, clusters, most, len(nodes))
    model = KernelModel(kind, dispersion, ta, tb, nodes, logs)
    turned = KernelModel(kind, dispersion, q - 1 - tb, q - 1 - ta, nodes, logs)
    gradient, hessian, factor = np.empty(K), np.empty((K, K)), np.empty((K, K))
    best = np.empty((K + 2, K))
    scale, step, trial, bound = np.empty(K), np.empty(K), np.empty(K), np.empty((q, clusters))
    for r in range(len(status)):
        a, b, c, d = first_row[r], first_row[r + 1], first_cluster[r], first_cluster[r + 1]
        rows = KernelRows(X[:, a:b], Z[:, a:b], y[a:b], n[a:b], offset[a:b], starts[c + r : d + r + 1], cluster[a:b], repeat[c:d],
                    repeats[a:b])  # fmt: skip
        status[r], F[r], steps[r] = _fit(
            model, turned, rows, psi[r], work, gradient, hessian, factor, scale, step, trial, bound, best, G[r]
        )
        for i in range(K):
            for k in range(K):
                vcov[r, i, k] = math.nan
        if status[r] <= SINGULAR:
            for i in range(K):
                for k in range(K):
                    step[k] = scale[i] if k == i else 0.0
                _solve(K, factor, step)
                for k in range(K):
                    vcov[r, i, k] = step[k] * scale[k]


@compiled()
def evaluate_glmm(kind, dispersion, ta, tb, nodes, logs, X, Z, y, n, offset, starts, cluster, repeat, repeats, psi,
                  gradient, hessian):  # fmt: skip
    """F of one replicate at psi, with its gradient (K) and Hessian (K, K, lower triangle)."""
    work = _work(len(X), len(Z), len(ta), len(repeat), len(y), len(nodes))
    for k in range(len(X)):
        for r in range(len(y)):
            work.D[k, r] = X[k, r]
    model = KernelModel(kind, dispersion, ta, tb, nodes, logs)
    return _evaluate(
        model, KernelRows(X, Z, y, n, offset, starts, cluster, repeat, repeats), psi, work, gradient, hessian
    )
