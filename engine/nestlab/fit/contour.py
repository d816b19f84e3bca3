"""The compiled search for profile-likelihood limits: eight at once, each a state machine in its lane.

A parameter psi is held, the deviance D minimised over the other coordinates x (`chart`, `held`): D_p(psi), of slope D_psi and
curvature D_psi,psi - D_psi,x H^-1 D_x,psi at the optimal x. A limit is where zeta = sqrt(D_p - D_min) reaches sqrt(chi2). Each
evaluation of D, its gradient and its Hessian makes a Newton step in x and, once x is close, one in psi towards the limit along
the tangent of the optimal x (Venzon & Moolgavkar 1988, Appl. Stat. 37(1), 87-94, with a bracket; zeta: Bates & Watts 1988, ch.
6). Steps in x are damped, saddle-free where the Hessian is indefinite, and leave saddles. Bounds (sd 0, correlations -1 and 1)
come first: where D_p is not above its target there, they are the limit. D is not convex: at a limit it is minimised from other
starts, and the search goes on from one that is lower. A deviance below the fit's shows that the fit was not the optimum: no
limit.
"""

from __future__ import annotations

import math

import numpy as np

from ..simulate.compiled import compiled
from .chart import CORRELATION, FIXED, SD, SIGMA, estimate, is_zero, make_chart
from .held import IDLE, deviance, differentiate, evaluate
from .lanes import LANES
from .passes import Clusters
from .reduce import pool, reduce_lanes
from .search import IRREGULAR, REGULAR, spread
from .small import apart, eigen, helper, pair, sym
from .status import Status

__all__ = ["profile_block"]

#: What the evaluation is for that a lane waits for: a point after psi moved, or a step in x with psi held.
MOVED, STEP = 1, 2
#: What to do next with an evaluation.
GO_ON, WAIT, DONE = 0, 1, 2
SINGULAR = int(Status.singular)
#: Evaluations of one limit (both of an interval took 295 at most without other starts), and of one other start.
MAX_EVALUATIONS, CHALLENGE_EVALUATIONS = 400, 80
#: zeta below which its slope says little, curvature of D_p in scale-free units below which it says little.
NEAR, FLATTEST = 1e-3, 1e-8
#: Width of a bracket, over 1 + its lower end, at which it has collapsed; distance at which there is no limit.
COLLAPSED, FAR = 1e-9, 1e6
#: How often the outer end of a bracket is doubted.
DOUBTS = 4
#: Deviance by which another start must be lower at a limit to move it.
LOWER = 1e-6
#: Shorter steps tried along one direction.
SHORTENINGS = 25
#: Newton decrement, in deviance, at which x counts as optimal; |zeta - target| from which one Newton step is exact.
SETTLED, CLOSE = 1e-9, 1e-5
#: Share of D_p's distance from its target that the decrement may be for psi to move on, and the most in deviance.
SHARE, MOST = 0.02, 0.1
#: The same share where D_p is only compared with its target.
COMPARED = 0.2
#: 1 - |correlation| below which it is -1 or 1.
PERFECT = 1e-9
#: Deviance below the fit's (over 1 + its size) that shows that the fit was not the optimum.
BELOW = 1e-8
#: Eigenvalue of the Hessian over the largest: as which smaller ones count, and below whose negative a point is a saddle.
FLAT, SADDLE = 1e-10, 1e-7
SUFFICIENT, NOISE = 1e-4, 1e-12
#: An sd that must stay positive and wants to be 0 is held below this (whitened, over sigma).
PINNED = 1e-4
#: Share that a step leaves of it.
KEPT = 0.05


@helper
def _pin(lane, state):
    """Hold an sd that must be positive, is nearly 0 and wants to be less."""
    apart()
    nx = state.nx[lane]
    for i in range(nx):
        state.pinned[i] = 0
    if state.kind[lane] == CORRELATION:
        c = state.second[lane]
        for i in range(c - 1, c + 1):
            if state.x[i, lane] < PINNED and state.g[i] > 0.0:
                state.pinned[i] = 1


@helper
def _solve(lane, state):
    """Newton step and tangent of x by Cholesky; False where the Hessian is not positive definite."""
    apart()
    nx, h, M, newton, tangent = state.nx[lane], state.h, state.M, state.newton, state.tangent
    for i in range(nx):
        if state.pinned[i]:
            state.g[i] = 0.0
            state.h[nx, i] = 0.0
            for k in range(nx):
                h[max(i, k), min(i, k)] = 1.0 if i == k else 0.0
    for i in range(nx):
        newton[i] = -state.g[i]
        tangent[i] = -h[nx, i]
        for k in range(i + 1):
            value = h[i, k]
            for e in range(k):
                value -= M[i, e] * M[k, e]
            if k < i:
                M[i, k] = value / M[k, k]
            elif not value > FLAT * abs(h[i, i]):
                return False
            else:
                M[i, i] = math.sqrt(value)
        for k in range(i):
            newton[i] -= M[i, k] * newton[k]
            tangent[i] -= M[i, k] * tangent[k]
        newton[i] /= M[i, i]
        tangent[i] /= M[i, i]
    for i in range(nx - 1, -1, -1):
        for k in range(i + 1, nx):
            newton[i] -= M[k, i] * newton[k]
            tangent[i] -= M[k, i] * tangent[k]
        newton[i] /= M[i, i]
        tangent[i] /= M[i, i]
    return True


@helper
def _solve_saddle(lane, state):
    """The same with the absolute eigenvalues of the Hessian, flat directions left out of the tangent. Returns the smallest
    eigenvalue over the largest; its vector goes to the first column of M."""
    apart()
    nx, h, M, values, vectors = state.nx[lane], state.h, state.M, state.values, state.vectors
    for i in range(nx):
        for k in range(i + 1):
            M[i, k] = h[i, k]
            M[k, i] = h[i, k]
        state.newton[i] = 0.0
        state.tangent[i] = 0.0
    eigen(nx, M, values, vectors)
    largest, least = 0.0, 0
    for e in range(nx):
        largest = max(largest, abs(values[e]))
        if values[e] < values[least]:
            least = e
    for e in range(nx):
        down, along = 0.0, 0.0
        for i in range(nx):
            down -= vectors[i, e] * state.g[i]
            along -= vectors[i, e] * h[nx, i]
        size = max(abs(values[e]), FLAT * largest + 1e-300)
        bent = along / values[e] if values[e] > SADDLE * largest else 0.0
        for i in range(nx):
            state.newton[i] += vectors[i, e] * down / size
            state.tangent[i] += vectors[i, e] * bent
    for i in range(nx):
        M[i, 0] = vectors[i, least]
    return values[least] / largest if largest > 0.0 else 0.0


@helper
def _set_step(lane, state):
    """x to the end of the step; an sd that must be positive keeps a share."""
    apart()
    factor = state.factor[lane]
    for i in range(state.nx[lane]):
        state.x[i, lane] = state.begun[i, lane] + factor * state.step[i, lane]
    if state.kind[lane] == CORRELATION:
        c = state.second[lane]
        for i in range(c - 1, c + 1):
            state.x[i, lane] = max(state.x[i, lane], KEPT * state.begun[i, lane])


@helper
def _begin_step(lane, value, slope, state):
    """A step in x with psi held, whose first-order change of D is `slope`; its length is bounded."""
    apart()
    largest, size = 0.0, 1.0
    for i in range(state.nx[lane]):
        state.begun[i, lane] = state.x[i, lane]
        largest = max(largest, abs(state.step[i, lane]))
        size = max(size, abs(state.x[i, lane]))
    if state.kind[lane] != SIGMA:
        largest = max(largest, 2.0 * size * abs(state.step[state.nx[lane] - 1, lane]))
    state.factor[lane] = min(1.0, (1.0 + 2.0 * size) / largest) if largest > 0.0 else 1.0
    state.value[lane] = value
    state.slope[lane] = slope
    state.tries[lane] = 0
    state.phase[lane] = STEP
    _set_step(lane, state)


@helper
def _move(lane, t, state):
    """psi to t, x along the tangent; the tangent's part is bounded."""
    apart()
    nx = state.nx[lane]
    change = state.side[lane] * (t - state.t[lane])
    largest, size = 0.0, 1.0
    for i in range(nx):
        largest = max(largest, abs(change * state.tangent[i]))
        size = max(size, abs(state.x[i, lane]))
    factor = min(1.0, size / largest) if largest > 0.0 else 1.0
    for i in range(nx):
        state.begun[i, lane] = state.x[i, lane]
        state.step[i, lane] = state.newton[i] + factor * change * state.tangent[i]
    state.factor[lane] = 1.0
    _set_step(lane, state)
    state.from_t[lane] = state.t[lane]
    state.t[lane] = t
    state.tries[lane] = 0
    state.phase[lane] = MOVED


@helper
def _finish(lane, psi, state):
    """The limit in the units of the data."""
    apart()
    kind = state.kind[lane]
    if kind == SD:
        psi = max(psi, 0.0) * state.size[lane]
    elif kind == CORRELATION:
        psi = math.sin(min(max(psi, -0.5 * math.pi), 0.5 * math.pi))
    elif kind == SIGMA:
        psi = math.exp(0.5 * psi) * state.size[lane]
    else:
        psi = (state.b[lane] + state.se[lane] * psi) * state.size[lane]
    state.answer[lane] = psi
    return True


@helper
def _fail(lane, state):
    """This way leads nowhere: the next of the other starts, if they are being tried; else the limit can't be found."""
    apart()
    if state.challenge[lane] > 0:
        return _challenge(lane, state)
    state.failed[lane] = 1
    return True


@helper
def _retry(lane, state):
    """After a step that was too long. Whether the search has failed."""
    apart()
    state.tries[lane] += 1
    if state.tries[lane] > SHORTENINGS:
        return _fail(lane, state)
    state.factor[lane] *= 0.5 if state.tries[lane] < 4 else 0.1
    if state.phase[lane] == MOVED:
        state.t[lane] = 0.5 * (state.t[lane] + state.from_t[lane])
    _set_step(lane, state)
    return False


@helper
def _in_bracket(lane, t, target, state):
    """t if it lies in the bracket; else between its ends by zeta there, or further out where no end is known."""
    apart()
    low, high = state.inside[lane], state.outside[lane]
    if high == np.inf:
        return min(t, 3.0 * low + 4.0) if t > low else low + 1.0
    if low < t < high:
        return t
    share = (target - state.zeta_in[lane]) / (state.zeta_out[lane] - state.zeta_in[lane])
    return low + min(max(share, 0.1), 0.9) * (high - low)


@helper
def _return(lane, state):
    """Back to the last point inside: the one outside may be the optimum of another valley."""
    apart()
    for i in range(state.nx[lane]):
        state.x[i, lane], state.tangent[i] = state.x_in[i, lane], state.tangent_in[i, lane]
        state.newton[i] = 0.0
    state.t[lane] = state.inside[lane]


@helper
def _challenge(lane, state):
    """At a limit that was found: minimise from other starts, for D_p may be lower there than along the path. True when no start
    is left: the limit stands, or none was found if the bracket had collapsed (the path jumped to another valley)."""
    apart()
    if state.challenge[lane] == state.challenges[lane]:
        if state.collapsed[lane]:
            state.failed[lane] = 1
            return True
        return _finish(lane, state.centre[lane] + state.side[lane] * state.found[lane], state)
    number = state.challenge[lane] + 1
    nx = state.nx[lane]
    last = nx if state.kind[lane] == SIGMA else nx - 1
    amplitude = 0.1 * 100.0 ** spread(number, 5)
    for i in range(last):
        state.x[i, lane] = amplitude * (2.0 * spread(number + i // 5, i % 5) - 1.0)
    if state.kind[lane] == CORRELATION:
        c = state.second[lane]
        for i in range(c - 1, c + 1):
            state.x[i, lane] = abs(state.x[i, lane]) + 0.01
    for i in range(last, nx):
        state.x[i, lane] = -4.0 * spread(number, 4)
    for i in range(nx):
        state.begun[i, lane], state.step[i, lane] = state.x[i, lane], 0.0
    state.t[lane], state.from_t[lane] = state.found[lane], state.found[lane]
    state.factor[lane], state.tries[lane] = 0.0, 0
    state.phase[lane] = MOVED
    state.challenge[lane] = number
    state.most[lane] = state.evaluations[lane] + CHALLENGE_EVALUATIONS
    return False


@helper
def _leave_bound(lane, zeta, state):
    """D_p is above its target at the bound: from the estimate towards it."""
    apart()
    state.outside[lane] = state.t[lane]
    state.zeta_out[lane], state.zeta_bound[lane] = zeta, zeta
    state.at_bound[lane] = 0
    for i in range(state.nx[lane]):
        state.x[i, lane] = state.x0[i, lane]
    state.t[lane] = 0.0
    state.phase[lane] = MOVED
    return False


@helper
def _note(lane, outside, zeta, state):
    """Take the point into the bracket. Whether the bracket has collapsed: the path jumped to another valley."""
    apart()
    t = state.t[lane]
    if not outside and t >= state.inside[lane]:
        state.inside[lane], state.zeta_in[lane] = t, zeta
        state.returns[lane] = 0
        for i in range(state.nx[lane]):
            state.x_in[i, lane] = state.x[i, lane] + state.newton[i]
            state.tangent_in[i, lane] = state.tangent[i]
    elif outside and t <= state.outside[lane]:
        state.outside[lane], state.zeta_out[lane] = t, zeta
        state.returns[lane] += 1
    return state.outside[lane] - state.inside[lane] < COLLAPSED * (1.0 + state.inside[lane])


@helper
def _doubt(lane, state):
    """Forget the outer end of the bracket, if it is not the bound: it was the optimum of another, higher valley. False if that
    has been done too often."""
    apart()
    state.beyond[lane] = 0
    if state.outside[lane] >= state.bound[lane] or state.doubts[lane] == DOUBTS:
        return False
    state.doubts[lane] += 1
    state.outside[lane], state.zeta_out[lane] = state.bound[lane], state.zeta_bound[lane]
    return True


@helper
def _settled(lane, excess, decrement, chi2, state):
    """x is optimal, or nearly: to the next psi. True when the limit is found, or can't be."""
    apart()
    nx, t = state.nx[lane], state.t[lane]
    if state.challenge[lane] > 0:
        return _challenge(lane, state)
    value = max(excess - 0.5 * decrement, 0.0)
    zeta, target = math.sqrt(value), math.sqrt(chi2)
    if state.at_bound[lane]:
        return _leave_bound(lane, zeta, state)
    slope, curvature = state.g[nx], state.h[nx, nx]
    for i in range(nx):
        slope += state.h[nx, i] * state.newton[i]
        curvature += state.h[nx, i] * state.tangent[i]
    slope *= state.side[lane]
    after = t + (target - zeta) * 2.0 * zeta / slope if slope > 0.0 else np.inf
    close = t > 0.0 and abs(zeta - target) < CLOSE and slope > 0.0
    if close and decrement <= SETTLED:
        state.found[lane] = after
        return _challenge(lane, state)
    collapsed = _note(lane, value >= chi2, zeta, state)
    if value < chi2 and after >= state.outside[lane]:
        state.beyond[lane] += 1
    elif value < chi2:
        state.beyond[lane] = 0
    if (collapsed or state.beyond[lane] > 2) and _doubt(lane, state):
        collapsed = False
    if collapsed:
        state.found[lane], state.collapsed[lane] = state.outside[lane], 1
        return _challenge(lane, state)
    if state.inside[lane] > FAR:
        return _fail(lane, state)
    if t == 0.0 or zeta < NEAR:
        after = t + (target * math.sqrt(2.0 / curvature) if curvature > FLATTEST else 1.0)
    if not close:
        if value >= chi2 and (state.returns[lane] > 2 or not state.inside[lane] < after < state.outside[lane]):
            _return(lane, state)
        after = _in_bracket(lane, after, target, state)
    _move(lane, after, state)
    return False


@helper
def _judge(lane, excess, unit, chi2, state):
    """What the deviance alone tells: DONE, WAIT for another point, or GO_ON."""
    apart()
    if excess < -BELOW * unit:
        state.failed[lane] = 1
        return DONE
    lower = state.challenge[lane] > 0 and excess < chi2 - LOWER
    if (state.at_bound[lane] and excess <= chi2) or (lower and state.t[lane] >= state.bound[lane]):
        _finish(lane, state.centre[lane] + state.side[lane] * state.bound[lane], state)
        return DONE
    if lower:
        state.inside[lane], state.zeta_in[lane] = state.t[lane], math.sqrt(max(excess, 0.0))
        state.outside[lane], state.zeta_out[lane] = state.bound[lane], state.zeta_bound[lane]
        state.challenge[lane], state.collapsed[lane], state.returns[lane] = 0, 0, 0
        state.most[lane] = state.evaluations[lane] + MAX_EVALUATIONS
    if state.phase[lane] == STEP:
        enough = state.value[lane] + SUFFICIENT * state.factor[lane] * state.slope[lane] + NOISE * unit
        if not excess <= enough:
            return DONE if _retry(lane, state) else WAIT
    elif not excess < 1e4 * chi2 + 1e3 and not state.at_bound[lane]:
        return DONE if _retry(lane, state) else WAIT
    elif not math.isfinite(excess):
        return DONE if _fail(lane, state) else WAIT
    return GO_ON


@helper
def _advance(lane, shape, work, state, chi2):
    """Take a lane on to its next evaluation. Whether its limit is done instead."""
    apart()
    nx = state.nx[lane]
    state.evaluations[lane] += 1
    if state.evaluations[lane] > state.most[lane]:
        return _fail(lane, state)
    excess = deviance(lane, shape, work, state) - state.least[lane]
    todo = _judge(lane, excess, 1.0 + abs(state.least[lane]), chi2, state)
    if todo != GO_ON:
        return todo == DONE
    differentiate(lane, shape, work, state)
    _pin(lane, state)
    sharpness = 1.0 if _solve(lane, state) else _solve_saddle(lane, state)
    decrement = 0.0
    for i in range(nx):
        decrement -= state.g[i] * state.newton[i]
    distance = abs(excess - 0.5 * decrement - chi2)
    if state.challenge[lane] > 0 and decrement < 10.0 * LOWER:
        distance = np.inf
    # nothing starts from the minimum at a bound or from elsewhere: it is only compared
    compared = state.at_bound[lane] or state.challenge[lane] > 0
    tolerance = max(SETTLED, COMPARED * distance if compared else min(MOST, SHARE * distance))
    if sharpness < -SADDLE and decrement <= SETTLED:
        for i in range(nx):
            state.step[i, lane] = state.M[i, 0] * math.sqrt(min(1.0, -sharpness))
        _begin_step(lane, excess, -1e-3 * SETTLED, state)
        return False
    inside = compared and excess - decrement <= chi2 - 20.0 * LOWER
    if sharpness >= -SADDLE and decrement <= tolerance and not inside:
        return _settled(lane, excess, decrement, chi2, state)
    for i in range(nx):
        state.step[i, lane] = state.newton[i]
    _begin_step(lane, excess, -decrement, state)
    return False


@helper
def _move_in(lane, e, k, shape, Rs, Bs, ready, clusters, work):
    """Copy entry e of the replicates that are ready to a lane, fixed effect k (or none, -1) exchanged with the last one."""
    apart()
    p = shape.p
    width = p + 1
    work.m[lane] = ready.m[e]
    for i in range(len(Rs)):
        clusters.R[i, lane] = Rs[i, e]
    for i in range(len(Bs)):
        clusters.B[i, lane] = Bs[i, e]
    for s in range(pair(0, width)):
        work.S0[s, lane] = ready.S0[s, e]
    if 0 <= k < p - 1:
        for r in range(len(Bs) // width):
            clusters.B[r * width + k, lane] = Bs[r * width + p - 1, e]
            clusters.B[r * width + p - 1, lane] = Bs[r * width + k, e]
        for i in range(width):
            for j in range(i + 1):
                a = p - 1 if i == k else (k if i == p - 1 else i)
                b = p - 1 if j == k else (k if j == p - 1 else j)
                work.S0[pair(j, i), lane] = ready.S0[sym(a, b), e]


@helper
def _other_starts(e, shape, ready):
    """From how many other starts a limit is tried: more where clusters are few or unlike each other, as the fit's."""
    most = 2 + shape.free
    if 2 * shape.p + 2 >= ready.present[e]:
        return most
    share = (ready.irregularity[e] - REGULAR) / (IRREGULAR - REGULAR)
    return 1 + int((most - 1) * min(max(share, 0.0), 1.0))


@helper
def _known(lane, kind, a, b, side, q, state):
    """Whether the limit is known from the estimate: the lower one of an sd of 0, and correlations with it."""
    apart()
    if kind == CORRELATION and (is_zero(a, q, state) or is_zero(b, q, state)):
        state.answer[lane] = side
        return True
    if kind == SD and is_zero(a, q, state):
        for k in range(q):
            state.cov[a, k], state.cov[k, a] = 0.0, 0.0
        if side < 0.0:
            state.answer[lane] = 0.0
            return True
    return False


@helper
def _begin(lane, e, o, kind, a, b, side, challenges, shape, ready, units, fits, state):
    """Begin with a limit. False if its answer is known already."""
    apart()
    deviances, beta, vcov, varcomp, sigma2 = fits
    unit, cov = ready.unit[e], state.cov
    state.failed[lane] = 0
    state.answer[lane] = np.nan
    estimate(e, o, shape, ready, units, varcomp, sigma2, state)
    if _known(lane, kind, a, b, side, shape.q, state):
        return False
    state.challenges[lane] = challenges if challenges >= 0 else _other_starts(e, shape, ready)
    state.kind[lane], state.side[lane] = kind, side
    state.least[lane] = deviances[o] + 2.0 * ready.m[e] * math.log(unit)
    state.log_s2[lane] = math.log(sigma2[o]) + 2.0 * math.log(unit)
    state.size[lane] = math.sqrt(sigma2[o])
    state.centre[lane], state.bound[lane] = 0.0, np.inf
    length = make_chart(lane, a, b, shape, state)
    if kind == SD:
        state.centre[lane] = math.sqrt(cov[a, a]) * length
        state.size[lane] /= length
        state.bound[lane] = state.centre[lane] if side < 0.0 else np.inf
    elif kind == CORRELATION:
        rho = cov[b, a] / math.sqrt(cov[a, a] * cov[b, b])
        rho = min(max(rho, -1.0), 1.0) if 1.0 - abs(rho) > PERFECT else math.copysign(1.0, rho)
        state.centre[lane] = math.asin(rho)
        state.bound[lane] = 0.5 * math.pi - side * state.centre[lane]
    elif kind == FIXED:
        state.b[lane] = beta[o, a] * unit
        state.se[lane] = math.sqrt(vcov[o, pair(a, a)]) * unit
        state.size[lane] = 1.0 / unit
    _set_search(lane, state)
    return True


@helper
def _set_search(lane, state):
    apart()
    for i in range(state.nx[lane]):
        state.x0[i, lane] = state.x[i, lane]
    state.inside[lane], state.zeta_in[lane] = 0.0, 0.0
    state.outside[lane] = np.inf
    state.evaluations[lane], state.tries[lane], state.challenge[lane], state.collapsed[lane] = 0, 0, 0, 0
    state.returns[lane], state.beyond[lane], state.doubts[lane] = 0, 0, 0
    state.most[lane] = MAX_EVALUATIONS
    state.at_bound[lane] = 1 if state.bound[lane] < np.inf else 0
    state.t[lane] = state.bound[lane] if state.at_bound[lane] else 0.0
    state.from_t[lane] = 0.0
    state.phase[lane] = MOVED
    state.factor[lane] = 0.0
    for i in range(state.nx[lane]):
        state.begun[i, lane], state.step[i, lane] = state.x[i, lane], 0.0


@helper
def _store(lane, state, limits, failed, counts):
    apart()
    row, task = state.row[lane], state.task[lane]
    bad = state.failed[lane] != 0 or not math.isfinite(state.answer[lane])
    limits[row, task] = np.nan if bad else state.answer[lane]
    failed[row, task] = bad
    counts[row, task] = state.evaluations[lane]


@compiled()
def profile_block(
    groups, shapes, memory, states, dd, dy, yy, weights, first, last, units, parameters, chi2, challenges, known, status, fits,
    limits, failed, counts,
):  # fmt: skip
    """Profile limits of replicates first .. last - 1 of a block into the output arrays (index: replicate - first).

    groups, shapes, memory, dd, dy, yy, weights: as for `kernel.fit_block`; states: see `get_states`. units (q, q), upper
    triangular: F = units F_data. parameters (k, 3): kind, a, b. chi2: rise of the deviance. challenges: other starts for each
    limit, or negative. known (., 2 k): correlations that are -1 and 1. status, fits (deviances, beta, vcov, varcomp, sigma2): the
    fits'. Outputs: limits (., 2 k), lower and upper of each parameter in turn; failed; counts (of evaluations). Releases the GIL.
    """
    apart()
    shape, work, ready, state = shapes[0], memory[0], memory[1], states[0]
    q, width = shape.q, shape.p + 1
    n, x, J = q * (q + 1) // 2, q * width, dd.shape[0]
    origin, repeats, slot = pool(groups, x)
    K = len(origin)
    Rs, Bs = np.zeros((K * n, LANES)), np.zeros((K * x, LANES))
    A, B = (np.zeros((J * n, LANES)), np.zeros((J * x, LANES))) if K < J else (Rs, Bs)
    clusters = Clusters(
        np.zeros((K * n, LANES)), np.zeros((K * x, LANES)), np.zeros((K * n, LANES)), np.zeros((K * x, LANES)),
        np.zeros((K * n, LANES)), np.zeros((K, LANES)),
    )  # fmt: skip
    tasks = 2 * len(parameters)
    base, entry, following, task, busy = 0, LANES, first, 0, 0
    for lane in range(LANES):
        state.phase[lane] = IDLE
        work.yes[lane] = 1.0
    while True:
        for lane in range(LANES):
            while state.phase[lane] == IDLE and following < last:
                if entry == LANES:
                    base = min(following, yy.shape[1] - LANES)
                    entry = following - base
                    reduce_lanes(shape, origin, slot, base, dd, dy, yy, weights, A, B, Rs, Bs, ready)
                o = following - first
                if known[o, task]:
                    limits[o, task] = 1.0 if task & 1 else -1.0
                    failed[o, task] = False
                elif status[o] <= SINGULAR:
                    kind, a, b = parameters[task >> 1, 0], parameters[task >> 1, 1], parameters[task >> 1, 2]
                    state.row[lane], state.task[lane] = o, task
                    side = 1.0 if task & 1 else -1.0
                    if _begin(lane, entry, o, kind, a, b, side, challenges, shape, ready, units, fits, state):
                        _move_in(lane, entry, a if kind == FIXED else -1, shape, Rs, Bs, ready, clusters, work)
                        busy += 1
                    else:
                        state.evaluations[lane] = 0
                        _store(lane, state, limits, failed, counts)
                task += 1
                if task == tasks:
                    task = 0
                    entry += 1
                    following += 1
        if busy == 0:
            break
        evaluate(shape, repeats, clusters, work, state)
        for lane in range(LANES):
            if state.phase[lane] != IDLE and _advance(lane, shape, work, state, chi2):
                _store(lane, state, limits, failed, counts)
                state.phase[lane] = IDLE
                busy -= 1
