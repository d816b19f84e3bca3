"""Coordinates of the deviance with one parameter held, and the record in which eight limits are searched for.

L, the factor of the random effects' covariance over the estimated residual variance s2, is linear in coordinates x, which have no
constraints: L = sum x_i w_i d_i', w_i directions in the whitened space of the columns, d_i of the columns of L. Held are

    sd of column a      L_aa, a first in the order of L's rows
    correlation of a, b  phi = asin(rho), a and b first: L_ba = r sin(phi), L_bb = r cos(phi), r free; smooth at rho = -1 and 1
    sigma               log of the residual variance over s2, elsewhere the last coordinate
    fixed effect k      (beta_k - estimate) / standard error

Rows that are free get the eigenvectors of their (conditional) covariance at the estimate as a frame, so that what is singular is
a last column of 0.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

from ..spec.model import MAX_RANDOM
from .lanes import LANES
from .small import apart, eigen, helper, sym

__all__ = [
    "CORRELATION", "FIXED", "SD", "SIGMA", "estimate", "get_states", "is_zero", "make_chart", "set_point",
]  # fmt: skip

SD, CORRELATION, SIGMA, FIXED = 0, 1, 2, 3
#: Whitened variance over s2 below which an estimate is 0, as the kernel's rule for `singular`.
ZERO = 1e-8

_Q = MAX_RANDOM
_N = _Q * (_Q + 1) // 2
_C = _N + 2  # coordinates: L, log s2, and the parameter held, which comes last

_STATE = np.dtype(
    [
        *(
            (name, "f8", shape)
            for name, shape in [
                # by lane: the chart; x now, at the estimate, and with its tangent at the last point inside
                ("w", (_C, _Q, LANES)), ("d", (_C, _Q, LANES)), ("x", (_C, LANES)), ("x0", (_C, LANES)),
                ("x_in", (_C, LANES)), ("tangent_in", (_C, LANES)),
                # the step: where it began, its direction cut to `factor`, D there and its predicted change
                ("begun", (_C, LANES)), ("step", (_C, LANES)), ("factor", (LANES,)), ("value", (LANES,)), ("slope", (LANES,)),
                # psi = centre + side t: t now, where it moved from, the bound; bracket and zeta at its ends
                ("centre", (LANES,)), ("side", (LANES,)), ("t", (LANES,)), ("from_t", (LANES,)), ("bound", (LANES,)),
                ("inside", (LANES,)), ("outside", (LANES,)), ("zeta_in", (LANES,)), ("zeta_out", (LANES,)),
                ("zeta_bound", (LANES,)),
                # the fit: deviance, log s2, estimate and standard error of beta_k; units of the limit
                ("least", (LANES,)), ("log_s2", (LANES,)), ("b", (LANES,)), ("se", (LANES,)), ("size", (LANES,)),
                # pieces at the point: log residual variance relative to the estimate, rss, x_k's part in it
                ("delta", (LANES,)), ("rss", (LANES,)), ("part", (LANES,)), ("answer", (LANES,)),
                # where the limit was found, while other starts are tried
                ("found", (LANES,)),
                # scratch of one lane
                ("cov", (_Q, _Q)), ("W", (_Q, _Q)), ("loads", (2, _Q)), ("rest", (_Q, _Q)), ("basis", (_Q, _Q)),
                ("R", (_Q, _Q)), ("values", (_C,)), ("vectors", (_C, _C)), ("M", (_C, _C)), ("g", (_C,)), ("h", (_C, _C)),
                ("dG", (_C, _N)), ("HdG", (_C, _N)), ("Sw", (_C, _Q)), ("f", (_C, _Q)), ("Sg", (_N,)), ("H", (_N, _N)),
                ("G", (_N,)), ("own", (_N,)), ("cross", (_N,)), ("newton", (_C,)), ("tangent", (_C,)),
            ]
        ),
        *((name, "i8", (LANES,)) for name in (
            "phase", "kind", "nx", "first", "second", "at_bound", "tries", "evaluations", "failed", "row", "task",
            "challenge", "challenges", "most", "returns", "beyond", "doubts", "collapsed",
        )),
        ("order", "i8", (_Q,)), ("pinned", "i8", (_C,)),
    ]
)  # fmt: skip

_own = threading.local()


def get_states() -> NDArray[np.void]:
    """This thread's record of the lanes' searches."""
    if not hasattr(_own, "states"):
        _own.states = np.zeros(1, _STATE)
    states: NDArray[np.void] = _own.states
    return states


@helper
def _add(lane, column, x, source, index, q, state):
    """A coordinate: the direction `source[:, index]` in a column of L."""
    apart()
    c = state.nx[lane]
    for a in range(q):
        state.w[c, a, lane] = source[a, index]
        state.d[c, a, lane] = 1.0 if a == column else 0.0
    state.x[c, lane] = x
    state.nx[lane] = c + 1


@helper
def _direction(lane, c, row, q, state):
    """Coordinate c moves row `row` of L in the units of the data, by whitened unit length; its length is returned."""
    apart()
    square = 0.0
    for a in range(q):
        square += state.W[a, row] * state.W[a, row]
    length = math.sqrt(square)
    for a in range(q):
        state.w[c, a, lane] = state.W[a, row] / length
        state.d[c, a, lane] = 0.0
    return length


@helper
def _condition(leads, rest, state):
    """The other rows' loadings on the columns of the leading ones, and what is left of their covariance."""
    apart()
    cov, order, loads = state.cov, state.order, state.loads
    a, b = order[0], order[1]
    root = math.sqrt(cov[a, a]) if leads > 0 else 0.0
    for i in range(rest):
        row = order[leads + i]
        loads[0, i] = cov[row, a] / root if root > 0.0 else 0.0
        loads[1, i] = 0.0
        if leads == 2:
            along = cov[a, b] / root
            left = cov[b, b] - along * along
            if left > 1e-14 * cov[b, b]:
                loads[1, i] = (cov[row, b] - loads[0, i] * along) / math.sqrt(left)
    for i in range(rest):
        for k in range(rest):
            value = cov[order[leads + i], order[leads + k]]
            state.rest[i, k] = value - loads[0, i] * loads[0, k] - loads[1, i] * loads[1, k]


@helper
def _orthonormalise(leads, rest, q, state):
    """Directions of the other rows in whitened space: W_row = sum_k basis_k R_k,row."""
    apart()
    basis, R, W = state.basis, state.R, state.W
    for i in range(rest):
        row = state.order[leads + i]
        for a in range(q):
            basis[a, i] = W[a, row]
        for k in range(i):
            along = 0.0
            for a in range(q):
                along += basis[a, k] * basis[a, i]
            for a in range(q):
                basis[a, i] -= along * basis[a, k]
            R[k, i] = along
        square = 0.0
        for a in range(q):
            square += basis[a, i] * basis[a, i]
        R[i, i] = math.sqrt(square)
        for a in range(q):
            basis[a, i] /= R[i, i]


@helper
def _add_term(lane, first, size, leads, q, state):
    """Coordinates of the rows of a term (columns first, ...) that follow its leading ones: loadings on the columns of those,
    then a triangle in the eigenvectors of what is left."""
    apart()
    rest = size - leads
    _condition(leads, rest, state)
    _orthonormalise(leads, rest, q, state)
    M, R, values, vectors = state.M, state.R, state.values, state.vectors
    for i in range(rest):
        for k in range(rest):
            M[i, k] = 0.0
            for e in range(i, rest):
                for f in range(k, rest):
                    M[i, k] += R[i, e] * state.rest[e, f] * R[k, f]
    eigen(rest, M, values, vectors)
    scale = 0.0
    for i in range(rest):
        scale = max(scale, values[i])
    frame = state.M
    for i in range(rest):
        largest = 0
        for e in range(rest):
            if values[e] > values[largest]:
                largest = e
        value = values[largest]
        values[largest] = -np.inf
        for a in range(q):
            frame[a, 0] = 0.0
            for e in range(rest):
                frame[a, 0] += state.basis[a, e] * vectors[e, largest]
        for k in range(leads):
            load = 0.0
            for e in range(rest):
                for f in range(e, rest):
                    load += vectors[e, largest] * R[e, f] * state.loads[k, f]
            _add(lane, first + k, load, frame, 0, q, state)
        for k in range(i + 1):
            root = math.sqrt(value) if k == i and value > max(1e-12 * scale, 0.01 * ZERO) else 0.0
            _add(lane, first + leads + k, root, frame, 0, q, state)


@helper
def _lead(lane, a, b, first, q, state):
    """The coordinates sd_a and r = sd_b of the rows that a correlation is of; the directions of r turn with phi (`set_point`)."""
    apart()
    c, cov = state.nx[lane], state.cov
    state.x[c, lane] = math.sqrt(cov[a, a]) * _direction(lane, c, a, q, state)
    state.d[c, first, lane] = 1.0
    state.x[c + 1, lane] = math.sqrt(cov[b, b]) * _direction(lane, c + 1, b, q, state)
    state.second[lane] = c + 1
    state.nx[lane] = c + 2


@helper
def make_chart(lane, a, b, shape, state):
    """The chart of parameter (kind, a, b) and the estimate in it; cov and W are set. Returns the whitened length of column a."""
    apart()
    q, blocks, order, kind = shape.q, shape.blocks, state.order, state.kind[lane]
    state.nx[lane] = 0
    first = 0
    while first < q:
        size = 1
        while first + size < q and blocks[first + size] == blocks[first]:
            size += 1
        leads = 0
        if kind <= CORRELATION and blocks[a] == blocks[first]:
            order[0], order[1] = a, b
            leads = 1 if kind == SD else 2
            state.first[lane] = first
        rest = leads
        for k in range(first, first + size):
            if leads == 0 or (k != a and (leads == 1 or k != b)):
                order[rest] = k
                rest += 1
        if leads == 2:
            _lead(lane, a, b, first, q, state)
        _add_term(lane, first, size, leads, q, state)
        first += size
    if kind != SIGMA:
        state.x[state.nx[lane], lane] = 0.0
        state.nx[lane] += 1
    nx, length = state.nx[lane], 1.0
    if kind == SD:
        length = _direction(lane, nx, a, q, state)
        state.d[nx, state.first[lane], lane] = 1.0
    elif kind == CORRELATION:
        _direction(lane, nx, b, q, state)
    return length


@helper
def set_point(lane, shape, work, state):
    """F, and log of the residual variance, at x and t."""
    apart()
    q, nx, kind = shape.q, state.nx[lane], state.kind[lane]
    x, w, d, F = state.x, state.w, state.d, work.F
    psi = state.centre[lane] + state.side[lane] * state.t[lane]
    delta = psi if kind == SIGMA else x[nx - 1, lane]
    state.delta[lane] = delta
    if kind == CORRELATION:
        c, k = state.second[lane], state.first[lane]
        sine, cosine = math.sin(psi), math.cos(psi)
        d[c, k, lane], d[c, k + 1, lane] = sine, cosine
        d[nx, k, lane], d[nx, k + 1, lane] = cosine * x[c, lane], -sine * x[c, lane]
    x[nx, lane] = psi
    last = nx if kind == SIGMA else nx - 1
    scale = math.exp(-0.5 * delta)
    for a in range(q):
        for e in range(q):
            value = psi * w[nx, a, lane] * d[nx, e, lane] if kind == SD else 0.0
            for i in range(last):
                value += x[i, lane] * w[i, a, lane] * d[i, e, lane]
            F[a, e, lane] = scale * value


@helper
def estimate(e, o, shape, ready, units, varcomp, sigma2, state):
    """cov: the estimate's covariance over s2 in the units of the data (to the kernel's by `units`); W: from those to whitened."""
    apart()
    q, cov, W, M = shape.q, state.cov, state.W, state.M
    for a in range(q):
        for b in range(q):
            W[a, b] = 0.0
            for k in range(a, q):
                W[a, b] += ready.U[a, k, e] * units[k, b]
            cov[a, b] = varcomp[o, sym(a, b)] / sigma2[o]
    for b in range(q):  # units^-1 cov units^-T; units is upper triangular
        for a in range(q - 1, -1, -1):
            value = cov[a, b]
            for k in range(a + 1, q):
                value -= units[a, k] * M[k, b]
            M[a, b] = value / units[a, a]
    for a in range(q):
        for b in range(q - 1, -1, -1):
            value = M[a, b]
            for k in range(b + 1, q):
                value -= units[b, k] * cov[a, k]
            cov[a, b] = value / units[b, b]


@helper
def is_zero(a, q, state):
    """Whether the sd of column a is estimated to be 0."""
    apart()
    square = 0.0
    for k in range(q):
        square += state.W[k, a] * state.W[k, a]
    return not square * state.cov[a, a] > ZERO
