"""The deviance with one parameter held, and its derivatives in the coordinates of `chart`, from the kernel's passes.

-2 log likelihood (or the restricted one) at covariance s2 L L' and residual variance exp(s) = s2 exp(d); notation as in `kernel`,
with G = L L' exp(-d) and A the sum of the log-determinants:

    D = A(G) + m (s + log 2 pi) + rss(G) exp(-s)

The passes give A, rss and their derivatives in G; at fixed s where v_p is t = R'K^-1 (y - X b) exp(-s / 2) and the term -D_pp
D_pp / m of the Hessian, due to the profile over s, is added back. With beta_k held, x_k last: rss is C_pp^2 + (C_p,p-1 - beta_k
C_p-1,p-1)^2, v_p is of y - x_k beta_k, and v_p-1 is not among the effects over which D is a minimum.
"""

from __future__ import annotations

import math

import numpy as np

from .chart import CORRELATION, FIXED, SIGMA, set_point
from .lanes import LANES, fma, get, put, splat
from .passes import derive, factor, weigh
from .small import apart, helper, pair, sym

__all__ = ["IDLE", "deviance", "differentiate", "evaluate"]

#: The phase of a lane without a search.
IDLE = 0
LOG_2PI = math.log(2.0 * math.pi)


@helper
def _weigh_residuals(lane, shape, work, state):
    """Between the factor of S and the derivatives: rss, with x_k held at its value, and v_p over the residual sd."""
    apart()
    p = shape.p
    C = work.C
    last = C[pair(p, p), lane]
    rss = last * last
    if state.kind[lane] == FIXED:
        own = C[pair(p - 1, p - 1), lane]
        held = (state.b[lane] + state.se[lane] * state.x[state.nx[lane], lane]) * own
        part = C[pair(p - 1, p), lane] - held
        C[pair(p - 1, p), lane] = held
        rss += part * part
        state.part[lane] = part
    state.rss[lane] = rss
    work.inverse[p, lane] = math.exp(-0.5 * (state.log_s2[lane] + state.delta[lane]))


@helper
def evaluate(shape, repeats, clusters, work, state):
    """Deviance and derivatives in G at the points of all lanes."""
    for lane in range(LANES):
        if state.phase[lane] != IDLE:
            set_point(lane, shape, work, state)
    for a in range(shape.q):
        for e in range(a + 1):
            value = splat(0.0)
            for k in range(shape.q):
                value = fma(get(work.F, (a, k)), get(work.F, (e, k)), value)
            put(work.G, pair(e, a), value)
    weigh(shape, repeats, clusters, work)
    factor(shape, work)
    for lane in range(LANES):
        if state.phase[lane] != IDLE:
            _weigh_residuals(lane, shape, work, state)
    derive(shape, repeats, clusters, work)


@helper
def deviance(lane, shape, work, state):
    """nan where rss or a pivot of S is not positive."""
    apart()
    p = shape.p
    value = work.logdet[lane] + math.log(work.product[lane])
    for i in range(p + 1):
        if not work.C[pair(i, i), lane] > 0.0:
            return np.nan
    if shape.reml:
        for i in range(p):
            value += 2.0 * math.log(work.C[pair(i, i), lane])
    s = state.log_s2[lane] + state.delta[lane]
    return value + work.m[lane] * (s + LOG_2PI) + state.rss[lane] * math.exp(-s)


@helper
def _gather(lane, shape, work, state):
    """Sg, H and G of a lane, H at fixed residual variance and, for a fixed effect, without x_k."""
    apart()
    p, n = shape.p, pair(0, shape.q)
    fixed = state.kind[lane] == FIXED
    for s in range(n):
        state.Sg[s] = work.Sg[s, lane]
        state.G[s] = work.G[s, lane]
        state.own[s] = work.D[s, pair(p, p), lane]
        state.cross[s] = work.D[s, pair(p - 1, p), lane] if fixed else 0.0
    for s in range(n):
        for u in range(n):
            value = work.H[s, u, lane] + state.own[s] * state.own[u] / work.m[lane]
            state.H[s, u] = value + 2.0 * state.cross[s] * state.cross[u]


@helper
def _first_derivatives(lane, shape, work, state):
    """dG of each coordinate; f = F d, Sw = Sg w and the gradient g (the parameter held comes last)."""
    apart()
    q, nx, kind = shape.q, state.nx[lane], state.kind[lane]
    place = nx if kind == SIGMA else nx - 1
    scale = math.exp(-0.5 * state.delta[lane])
    s2 = math.exp(state.log_s2[lane] + state.delta[lane])
    for i in range(nx + 1):
        state.g[i] = 0.0
        flat = kind == FIXED and i == nx
        for a in range(q):
            state.f[i, a] = 0.0
            state.Sw[i, a] = 0.0
            if i != place and not flat:
                for e in range(q):
                    state.f[i, a] += work.F[a, e, lane] * state.d[i, e, lane]
                    state.Sw[i, a] += state.Sg[sym(a, e)] * state.w[i, e, lane]
        for a in range(q):
            for e in range(a + 1):
                s = pair(e, a)
                value = -state.G[s] if i == place else 0.0
                if i != place and not flat:
                    value = scale * (state.w[i, a, lane] * state.f[i, e] + state.w[i, e, lane] * state.f[i, a])
                state.dG[i, s] = value
                state.g[i] += state.Sg[s] * value * (1.0 if a == e else 2.0)
    state.g[place] += work.m[lane] - state.rss[lane] / s2
    if kind == FIXED:
        own = work.C[pair(shape.p - 1, shape.p - 1), lane]
        state.g[nx] = -2.0 * own * state.part[lane] * state.se[lane] / s2


@helper
def _scale_derivatives(lane, place, shape, state):
    """What the residual variance, coordinate `place`, adds to the Hessian beside the part through G."""
    apart()
    q, nx, h = shape.q, state.nx[lane], state.h
    n = pair(0, q)
    own, whole = 0.0, 0.0
    for a in range(q):
        for e in range(a + 1):
            s = pair(e, a)
            own += state.own[s] * state.G[s]
            whole += state.Sg[s] * state.G[s] * (1.0 if a == e else 2.0)
    for i in range(nx + 1):
        if i != place:
            value = -state.g[i]
            for s in range(n):
                value += state.own[s] * state.dG[i, s]
            h[max(i, place), min(i, place)] += value
    h[place, place] += whole - 2.0 * own + state.rss[lane] / math.exp(state.log_s2[lane] + state.delta[lane])


@helper
def _fixed_derivatives(lane, shape, work, state):
    """The last row of the Hessian where a fixed effect is held."""
    apart()
    nx, h = state.nx[lane], state.h
    s2 = math.exp(state.log_s2[lane] + state.delta[lane])
    edge = work.C[pair(shape.p - 1, shape.p - 1), lane]
    for i in range(nx):
        value = 0.0
        for s in range(pair(0, shape.q)):
            value += state.cross[s] * state.dG[i, s]
        h[nx, i] += 2.0 * edge * state.se[lane] * value / math.sqrt(s2)
    h[nx, nx] = 2.0 * edge * edge * state.se[lane] * state.se[lane] / s2


@helper
def _bend(lane, scale, shape, state):
    """The second derivatives of L in phi, and in phi and r."""
    apart()
    nx, c, h = state.nx[lane], state.second[lane], state.h
    r = state.x[c, lane]
    twice, mixed = 0.0, 0.0
    for a in range(shape.q):
        twice -= r * state.Sw[c, a] * state.f[c, a]
        mixed += state.Sw[c, a] * state.f[nx, a]
    h[nx, nx] += 2.0 * scale * twice
    h[nx, c] += 2.0 * scale * mixed / r


@helper
def _second_derivatives(lane, shape, work, state):
    """The Hessian h of all coordinates (lower triangle)."""
    apart()
    q, nx, kind, h = shape.q, state.nx[lane], state.kind[lane], state.h
    n = pair(0, q)
    place = nx if kind == SIGMA else nx - 1
    scale = math.exp(-0.5 * state.delta[lane])
    for i in range(nx + 1):
        for s in range(n):
            value = 0.0
            for u in range(n):
                value += state.H[s, u] * state.dG[i, u]
            state.HdG[i, s] = value
        for k in range(i + 1):
            value = 0.0
            for s in range(n):
                value += state.dG[k, s] * state.HdG[i, s]
            if i != place and k != place:
                curve = 0.0
                along = 0.0
                for a in range(q):
                    curve += state.Sw[i, a] * state.w[k, a, lane]
                    along += state.d[i, a, lane] * state.d[k, a, lane]
                if kind != FIXED or i < nx:
                    value += 2.0 * scale * scale * curve * along
            h[i, k] = value
    _scale_derivatives(lane, place, shape, state)
    if kind == FIXED:
        _fixed_derivatives(lane, shape, work, state)
    elif kind == CORRELATION:
        _bend(lane, scale, shape, state)


@helper
def differentiate(lane, shape, work, state):
    """Gradient g and Hessian h (lower triangle) of a lane's coordinates, the parameter held last."""
    apart()
    _gather(lane, shape, work, state)
    _first_derivatives(lane, shape, work, state)
    _second_derivatives(lane, shape, work, state)
