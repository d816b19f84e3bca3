"""How each lane finds its optimum: a state machine that asks for one evaluation at a time.

A search goes from a starting point by damped Newton steps; where they end on the boundary it looks along it, and leaves it if the
deviance falls inwards. Searches start from several places until enough of them agree. Every state stands in arrays by lane, for
the evaluation that a lane waits for is made together with those of its neighbours.
"""

from __future__ import annotations

import math

import numpy as np

from .small import apart, cholesky, eigen, eigen_large, helper, pair, sym
from .status import Status

__all__ = [
    "IDENTIFY", "IDLE", "RANK_DEFICIENT", "SINGULAR_TOLERANCE", "advance", "begin", "column_square", "eigenframe", "spread",
]  # fmt: skip

OK, SINGULAR, NOT_CONVERGED, RANK_DEFICIENT, NONFINITE = (int(status) for status in list(Status)[:5])

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
#: Share of the largest variance + 1 below which an eigenvalue may be singular.
INNER = 1e-6
#: Pivot of the correlations among the variance parameters' derivatives: below this they can't be told apart.
IDENTIFIED_TOLERANCE = 1e-8
#: Curvature of the deviance at an optimum, over J or over its diagonal, below which identification is looked into.
WEAK_TOLERANCE = 1e-6
#: Whitened variance that a start by moments must exceed, and that is added to a given one.
MODEST = 0.05
#: Eigenvalue of the Hessian over the largest, as which smaller ones count in a saddle-free step.
FLAT_TOLERANCE = 1e-10
#: Whitened variance at which the residual variance is 0 for all practical purposes.
HUGE = 1e14
#: Deviances, over 1 + their size, that are the same optimum.
SAME_DEVIANCE = 1e-8
#: Irregularity (see `reduce`) below which an interior optimum needs no second start, and above which all starts are made.
REGULAR, IRREGULAR = 0.03, 0.13
#: Turns between Newton steps and the boundary.
TURNS = 6
#: Shorter steps tried along one direction, 3 halves, then tenths; and lengths tried on the way off the boundary.
SHORTENINGS, ESCAPES = 30, 8
#: Share of the predicted decrease that a step must reach, unless both are rounding: this, over 1 + the deviance's size.
SUFFICIENT = 1e-4
LINE_NOISE, ESCAPE_NOISE = 1e-10, 1e-13
LOG_2PI = math.log(2.0 * math.pi)
#: Square roots of primes: their multiples modulo 1 spread evenly.
ROOTS = tuple(
    k**0.5
    for k in (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0, 37.0, 41.0, 43.0, 47.0, 53.0, 59.0, 61.0)
)

#: What the evaluation is for that a lane waits for: the first point of a search, a step, the way back from steps that found
#: nothing, the same point in another frame, the point moved to the boundary, a way off it, and G = 0 with y left out.
IDLE, FIRST, STEP, BACK, REFRAMED, BOUNDARY, ESCAPE, IDENTIFY = 0, 1, 2, 3, 4, 5, 6, 7
#: What to do next with an evaluation, or none: wait for another, or the replicate is done.
DIRECT, LAND, JUDGE, TALLY, WAIT, DONE = 0, 1, 2, 3, 4, 5


@helper
def _term_size(shape, first):
    size = 1
    while first + size < shape.q and shape.blocks[first + size] == shape.blocks[first]:
        size += 1
    return size


@helper
def column_square(lane, k, shape, work):
    """Of column k of F."""
    apart()
    value = 0.0
    for a in range(shape.q):
        value += work.F[a, k, lane] * work.F[a, k, lane]
    return value


@helper
def _copy(lane, q, source, target):
    apart()
    for a in range(q):
        for b in range(q):
            target[a, b, lane] = source[a, b, lane]


@helper
def eigenframe(lane, tolerance, shape, G, work):
    """F = V sqrt(D) from G = V D V', term by term, largest first; eigenvalues below tolerance become 0. Whether there are any."""
    apart()
    q = shape.q
    F, frame, M, values, vectors = work.F, work.frame, work.one, work.values, work.two
    singular = False
    for a in range(q):
        for b in range(q):
            F[a, b, lane] = 0.0
            frame[a, b, lane] = 0.0
    first = 0
    while first < q:
        size = _term_size(shape, first)
        for a in range(size):
            for b in range(size):
                M[a, b] = G[sym(first + a, first + b)]
        eigen(size, M, values, vectors)
        for k in range(first, first + size):
            largest = 0
            for e in range(size):
                if values[e] > values[largest]:
                    largest = e
            value = values[largest]
            values[largest] = -np.inf
            singular = singular or value < tolerance
            length = math.sqrt(value) if value >= tolerance and value > 0.0 else 0.0
            for a in range(size):
                frame[first + a, k, lane] = vectors[a, largest]
                F[first + a, k, lane] = length * vectors[a, largest]
        first += size
    return singular


@helper
def _take_covariance(lane, shape, work):
    apart()
    for s in range(pair(0, shape.q)):
        work.covariance[s] = work.G[s, lane]


@helper
def _disordered(lane, shape, work):
    """Whether a column of F is longer than the one before it (sqrt 2 times, so that this stays rare): a poor frame near the
    boundary, where L's leading entries may approach 0 with the later ones large."""
    apart()
    blocks = shape.blocks
    for k in range(1, shape.q):
        if blocks[k] == blocks[k - 1] and column_square(lane, k, shape, work) > 2.0 * column_square(
            lane, k - 1, shape, work
        ):
            return True
    return False


@helper
def _deviance(lane, shape, work):
    """The deviance from its pieces, nan where rss or a pivot of S is not positive."""
    apart()
    p = shape.p
    value = work.logdet[lane] + math.log(work.product[lane])
    for i in range(p + 1):
        if not work.C[pair(i, i), lane] > 0.0:
            return np.nan
    if shape.reml:
        for i in range(p):
            value += 2.0 * math.log(work.C[pair(i, i), lane])
    last = work.C[pair(p, p), lane]
    return value + work.m[lane] * (1.0 + LOG_2PI + math.log(last * last / work.m[lane]))


@helper
def _largest_variance(lane, shape, work):
    apart()
    value = 0.0
    for a in range(shape.q):
        value = max(value, work.G[pair(a, a), lane])
    return value


@helper
def _saddle_free_step(lane, shape, work):
    """The step with the absolute eigenvalues of the Hessian: away from saddles."""
    apart()
    M, values, vectors = work.one, work.values, work.two
    f = shape.free
    for s in range(f):
        for u in range(f):
            M[s, u] = vectors[s, u] = work.HL[s, u, lane]
    if shape.wide == 0:
        eigen(f, M, values, vectors)
    else:
        eigen_large(f, values, vectors, work.column)
    largest = 0.0
    for e in range(f):
        largest = max(largest, abs(values[e]))
        work.step[e, lane] = 0.0
    slope = 0.0
    for e in range(f):
        along = 0.0
        for s in range(f):
            along -= vectors[s, e] * work.g[s, lane]
        size = along / max(abs(values[e]), FLAT_TOLERANCE * largest + 1e-300)
        slope -= along * size
        for s in range(f):
            work.step[s, lane] += vectors[s, e] * size
    work.slope[lane] = slope


@helper
def _weak(lane, shape, work):
    """Whether the positive definite Hessian (its factor in M) is nearly flat in some direction, per relative change."""
    apart()
    for s in range(shape.free):
        pivot = work.M[s, s, lane] * work.M[s, s, lane]
        size = column_square(lane, shape.cols[s], shape, work)
        if pivot * size < WEAK_TOLERANCE * work.present[lane] or pivot < WEAK_TOLERANCE * work.HL[s, s, lane]:
            return True
    return False


@helper
def _residual(lane, shape, work):
    """Largest entry of Sg_k G_k over the diagonal blocks k."""
    apart()
    blocks = shape.blocks
    q = shape.q
    worst = 0.0
    for a in range(q):
        for b in range(q):
            if blocks[a] == blocks[b]:
                value = 0.0
                for k in range(q):
                    if blocks[k] == blocks[a]:
                        value += work.Sg[sym(a, k), lane] * work.G[sym(k, b), lane]
                worst = max(worst, abs(value))
    return worst


@helper
def _curvature(lane, shape, work):
    """Smallest eigenvalue of Sg on null(G), term by term, for F in its eigenframe; its direction goes to `escape`."""
    apart()
    frame, M, values, vectors = work.frame, work.one, work.values, work.two
    q = shape.q
    curvature = np.inf
    first = 0
    while first < q:
        stop = first + _term_size(shape, first)
        null = first
        while null < stop and column_square(lane, null, shape, work) > 0.0:
            null += 1
        for e in range(null, stop):
            for f in range(null, stop):
                value = 0.0
                for a in range(first, stop):
                    for b in range(first, stop):
                        value += frame[a, e, lane] * work.Sg[sym(a, b), lane] * frame[b, f, lane]
                M[e - null, f - null] = value
        eigen(stop - null, M, values, vectors)
        for e in range(stop - null):
            if values[e] < curvature:
                curvature = values[e]
                for a in range(q):
                    work.escape[a, lane] = 0.0
                    for f in range(null, stop):
                        work.escape[a, lane] += frame[a, f, lane] * vectors[f - null, e]
        first = stop
    return curvature


@helper
def _identified(lane, shape, work):
    """Whether s2 and the entries of G can be told apart: the matrix of tr(P V_a P V_b), V_0 = I, V_a = Z E_a Z', is regular (P:
    projection off X, or I for ML). At G = 0 with y left out, -H and Sg hold its entries."""
    apart()
    M, rows, cols = work.one, shape.rows, shape.cols
    M[0, 0] = work.m[lane]
    for s in range(shape.free):
        row = pair(cols[s], rows[s])
        M[s + 1, 0] = work.Sg[row, lane] * (1.0 if cols[s] == rows[s] else 2.0)
        for u in range(s + 1):
            M[s + 1, u + 1] = -work.H[row, pair(cols[u], rows[u]), lane]
    return cholesky(shape.free + 1, M, IDENTIFIED_TOLERANCE)


@helper
def _wanted_starts(lane, shape, firm, work):
    """How many starts must agree: the deviance is not convex, and a certificate is only a local one."""
    apart()
    f = shape.free
    if 2 * shape.p + 2 >= work.present[lane]:
        return 2 + 6 * f
    irregularity = work.irregularity[lane]
    if firm and irregularity < REGULAR:
        return 1
    share = (irregularity - REGULAR) / (IRREGULAR - REGULAR)
    return 2 + int(6 * f * min(max(share, 0.0), 1.0))


@helper
def spread(number, k):
    """Point `number` of a sequence that spreads evenly over (0, 1), one sequence for each k."""
    value = 0.5 + number * ROOTS[k]
    return value - math.floor(value)


@helper
def _from_moments(lane, shape, work):
    """G by moments, if its smallest eigenvalue in each term is above MODEST. Whether it is."""
    apart()
    q, G, M = shape.q, work.covariance, work.one
    for a in range(q):
        for b in range(a + 1):
            same = shape.blocks[a] == shape.blocks[b]
            G[pair(b, a)] = work.moments[pair(b, a), lane] if same else 0.0
            M[a, b] = G[pair(b, a)] - (MODEST if a == b else 0.0)
    return cholesky(q, M, 0.0)


@helper
def _from_given(lane, shape, work):
    """G as given, whitened and moved off the boundary."""
    apart()
    blocks, start, U = shape.blocks, shape.start, work.U
    q = shape.q
    for a in range(q):
        for b in range(a, q):
            value = MODEST if a == b else 0.0
            if blocks[a] == blocks[b]:
                for k in range(a, q):
                    for e in range(b, q):
                        if blocks[k] == blocks[a] and blocks[e] == blocks[a]:
                            value += U[a, k, lane] * start[sym(k, e)] * U[b, e, lane]
            work.covariance[pair(a, b)] = value


@helper
def _from_afar(number, shape, work):
    """0: the identity; then terms of one column at the corners of (0.1, 30), larger ones at a long axis in directions that spread
    evenly."""
    apart()
    G, axis = work.covariance, work.column
    for a in range(shape.q):
        for b in range(a + 1):
            G[pair(b, a)] = 1.0 if a == b else 0.0
    first = 0
    while number > 0 and first < shape.q:
        size = _term_size(shape, first)
        if size == 1:
            G[pair(first, first)] = 30.0 if (number >> shape.blocks[first]) & 1 else 0.1
        else:
            length = 100.0 ** spread(number, 4)
            width = 0.0225 * 100.0 ** spread(number, 5)
            square = 0.0
            for a in range(first, first + size):
                axis[a] = 2.0 * spread(number, a if a < 4 else a + 2) - 1.0
                square += axis[a] * axis[a]
            for a in range(first, first + size):
                for b in range(first, a + 1):
                    G[pair(b, a)] = length * axis[a] * axis[b] / square + (width if a == b else 0.0)
        first += size


@helper
def _place(lane, which, shape, work):
    """Set F to starting point `which`: 0 is by moments, where they give an inner point, or the given one, if there is one (in a
    simulation the truth), or the identity; others are far apart, the identity first if it was not start 0."""
    apart()
    if which > 0:
        _from_afar(which - 1 + work.fallback[lane], shape, work)
    else:
        inner = shape.moments != 0 and _from_moments(lane, shape, work)
        work.fallback[lane] = 0
        if not inner and shape.start[0] >= 0.0:
            _from_given(lane, shape, work)
        elif not inner:
            _from_afar(0, shape, work)
            work.fallback[lane] = 1
    q, M = shape.q, work.one
    for a in range(q):
        for b in range(q):
            M[a, b] = work.covariance[sym(a, b)]
    if cholesky(q, M, FLAT_TOLERANCE):
        for a in range(q):
            for b in range(q):
                work.F[a, b, lane] = M[a, b] if b <= a else 0.0
                work.frame[a, b, lane] = 1.0 if a == b else 0.0
        if not _disordered(lane, shape, work):
            return
    eigenframe(lane, 0.0, shape, work.covariance, work)


@helper
def _set_search(lane, shape, work):
    """Begin a search from start `which`."""
    apart()
    _place(lane, work.which[lane], shape, work)
    work.phase[lane] = FIRST
    work.framed[lane] = 0
    work.turn[lane] = 0
    _set_descent(lane, work)


@helper
def _set_descent(lane, work):
    work.steps[lane] = 0
    work.tries[lane] = 0
    work.decrement[lane] = np.inf


@helper
def begin(lane, shape, work):
    """Begin with a replicate, whose data stand in a lane."""
    apart()
    work.yes[lane] = 1.0
    work.iterations[lane] = 0
    work.which[lane] = 0
    work.wanted[lane] = 1
    work.agree[lane] = 1
    work.best[lane] = np.inf
    work.best_status[lane] = NONFINITE
    _set_search(lane, shape, work)


@helper
def _set_step(lane, shape, work):
    """F to the end of the step, in an eigenframe if it is disordered there; back where the step began after too many tries."""
    apart()
    moved = work.tries[lane] < SHORTENINGS
    factor = work.factor[lane]
    for a in range(shape.q):
        for b in range(shape.q):
            change = factor * work.move[a, b, lane] if moved else 0.0
            work.F[a, b, lane] = work.F0[a, b, lane] + change
            work.frame[a, b, lane] = work.frame0[a, b, lane]
    work.phase[lane] = STEP if moved else BACK
    work.framed[lane] = 0
    if _disordered(lane, shape, work):
        for a in range(shape.q):
            for b in range(a + 1):
                value = 0.0
                for k in range(shape.q):
                    value += work.F[a, k, lane] * work.F[b, k, lane]
                work.covariance[pair(b, a)] = value
        eigenframe(lane, 0.0, shape, work.covariance, work)
        work.framed[lane] = 1


@helper
def _direct(lane, shape, work):
    """At a point of the descent: its next step, or its end."""
    apart()
    size = _largest_variance(lane, shape, work)
    if not math.isfinite(work.deviance[lane]) or size > HUGE:
        work.outcome[lane] = NONFINITE
        return TALLY
    definite = work.definite[lane] > 0.0
    if not definite:
        if work.framed[lane] == 0:
            _take_covariance(lane, shape, work)
            eigenframe(lane, 0.0, shape, work.covariance, work)
            work.framed[lane] = 1
            work.phase[lane] = REFRAMED
            return WAIT
        _saddle_free_step(lane, shape, work)
    work.steps[lane] += 1
    work.iterations[lane] += 1
    slope = work.slope[lane]
    stalled = -slope < STALLED_TOLERANCE and -slope >= 0.5 * work.decrement[lane]
    work.decrement[lane] = -slope
    if -slope < DECREMENT_TOLERANCE or stalled or work.tries[lane] >= SHORTENINGS or work.steps[lane] >= MAX_ITERATIONS:
        work.firm[lane] = definite and not _weak(lane, shape, work)
        return LAND
    _copy(lane, shape.q, work.F, work.F0)
    _copy(lane, shape.q, work.frame, work.frame0)
    for a in range(shape.q):
        for b in range(shape.q):
            work.move[a, b, lane] = 0.0
    largest = 0.0
    for s in range(shape.free):
        largest = max(largest, abs(work.step[s, lane]))
        for a in range(shape.q):
            work.move[a, shape.cols[s], lane] += work.frame[a, shape.rows[s], lane] * work.step[s, lane]
    work.predicted[lane] = slope
    work.factor[lane] = min(1.0, (1.0 + 2.0 * math.sqrt(max(1.0, size))) / largest)
    work.tries[lane] = 0
    _set_step(lane, shape, work)
    return WAIT


@helper
def _low_enough(lane, value, work):
    apart()
    before = work.deviance[lane]
    noise = LINE_NOISE * (1.0 + abs(before))
    if value <= before + SUFFICIENT * work.factor[lane] * work.predicted[lane]:
        return True
    return work.decrement[lane] < noise and value <= before + noise


@helper
def _is_inner(lane, shape, work):
    """Whether all eigenvalues of G are so far above the tolerance that they need not be found."""
    apart()
    M, least = work.one, INNER * (1.0 + _largest_variance(lane, shape, work))
    for a in range(shape.q):
        for b in range(a + 1):
            M[a, b] = work.G[pair(b, a), lane] - (least if a == b else 0.0)
    return cholesky(shape.q, M, 0.0)


@helper
def _land(lane, shape, work):
    """At the end of a descent: to the boundary, if it is near."""
    apart()
    if _is_inner(lane, shape, work):
        return JUDGE
    _take_covariance(lane, shape, work)
    if eigenframe(lane, SINGULAR_TOLERANCE, shape, work.covariance, work):
        work.firm[lane] = 0
        work.framed[lane] = 1
        work.phase[lane] = BOUNDARY
        return WAIT
    return JUDGE


@helper
def _judge(lane, shape, work):
    """Whether the point is an optimum; from the boundary the search may go on, inwards."""
    apart()
    singular = work.phase[lane] == BOUNDARY
    curvature = _curvature(lane, shape, work) if singular else 0.0
    tolerance = max(RESIDUAL_TOLERANCE, ROUNDING * work.present[lane] * _largest_variance(lane, shape, work))
    stationary = _residual(lane, shape, work) <= tolerance
    inwards = curvature < -SINGULAR_TOLERANCE * work.present[lane]
    again = singular and work.turn[lane] < TURNS - 1
    work.turn[lane] += 1
    if inwards and again:
        for s in range(pair(0, shape.q)):
            work.G0[s, lane] = work.G[s, lane]
        work.factor[lane] = min(
            1.0, -curvature / work.present[lane]
        )  # where Z is whitened the second derivative is about J
        work.tries[lane] = 0
        _set_escape(lane, shape, work)
        return WAIT
    if stationary and not inwards:
        work.outcome[lane] = SINGULAR if singular else OK
        return TALLY
    if again:
        _set_descent(lane, work)
        return DIRECT
    work.outcome[lane] = NOT_CONVERGED
    return TALLY


@helper
def _set_escape(lane, shape, work):
    apart()
    for a in range(shape.q):
        for b in range(a + 1):
            s = pair(b, a)
            work.covariance[s] = work.G0[s, lane] + work.factor[lane] * work.escape[a, lane] * work.escape[b, lane]
    eigenframe(lane, 0.0, shape, work.covariance, work)
    work.framed[lane] = 1
    work.phase[lane] = ESCAPE


@helper
def _finish(lane, shape, work):
    """Undo the whitening and y's unit: varcomp = s2 U^-1 G U^-T (by pairs); b and s2 S^-1 (by pairs) from the factor C."""
    apart()
    q, p, blocks = shape.q, shape.p, shape.blocks
    U, M, C, column = work.U, work.one, work.two, work.column
    unit, sigma2 = work.unit[lane], work.sigma2[lane]
    for a in range(q):  # columns of U^-1
        for k in range(q - 1, -1, -1):
            if blocks[k] != blocks[a]:
                M[k, a] = 0.0
                continue
            value = 1.0 if k == a else 0.0
            for e in range(k + 1, q):
                value -= U[k, e, lane] * M[e, a]
            M[k, a] = value / U[k, k, lane]
    for a in range(q):
        for b in range(a, q):
            value = 0.0
            for k in range(a, q):
                for e in range(b, q):
                    if blocks[a] != blocks[b] or blocks[k] != blocks[a] or blocks[e] != blocks[a]:
                        break
                    value += M[a, k] * work.G[sym(k, e), lane] * M[b, e]
            work.varcomp[pair(a, b), lane] = value * sigma2
    for i in range(p + 1):
        for k in range(i + 1):
            C[i, k] = work.C[pair(k, i), lane]
    for i in range(p + 1):  # columns of S^-1, then b
        for k in range(p):
            value = C[p, k] if i == p else (1.0 if k == i else 0.0)
            if i < p:
                for e in range(k):
                    value -= C[k, e] * column[e]
                value /= C[k, k]
            column[k] = value
        for k in range(p - 1, -1, -1):
            value = column[k]
            for e in range(k + 1, p):
                value -= C[e, k] * column[e]
            column[k] = value / C[k, k]
        for k in range(p):
            if i == p:
                work.beta[k, lane] = column[k] / unit
            elif k <= i:
                work.vcov[pair(k, i), lane] = column[k] * sigma2


@helper
def _tally(lane, shape, work):
    """At the end of a search: keep it if it is the best; a converged one is preferred, then the lower deviance counts."""
    apart()
    outcome = work.outcome[lane]
    deviance = work.deviance[lane] if outcome != NONFINITE else np.inf
    same = SAME_DEVIANCE * (1.0 + abs(deviance))
    converged, had = outcome <= SINGULAR, work.best_status[lane] <= SINGULAR
    if not converged or (work.which[lane] > 0 and abs(deviance - work.best[lane]) > same):
        work.agree[lane] = 0
    if outcome != NONFINITE and ((converged and not had) or (converged == had and deviance < work.best[lane] - same)):
        p, unit = shape.p, work.unit[lane]
        last = work.C[pair(p, p), lane]
        work.best[lane] = deviance
        work.best_status[lane] = outcome
        work.residual[lane] = _residual(lane, shape, work)
        work.sigma2[lane] = last * last / work.m[lane] / unit / unit
        _finish(lane, shape, work)
    if work.which[lane] == 0:
        firm = outcome != NONFINITE and work.firm[lane] != 0
        work.wanted[lane] = _wanted_starts(lane, shape, firm, work)
        if not firm:
            for a in range(shape.q):
                for b in range(shape.q):
                    work.F[a, b, lane] = 0.0
            work.yes[lane] = 0.0
            work.phase[lane] = IDENTIFY
            return WAIT
    return _next_search(lane, shape, work)


@helper
def _next_search(lane, shape, work):
    """The next start, or the end when enough of them agree."""
    apart()
    most = 2 * (2 + 6 * shape.free)
    work.which[lane] += 1
    if work.which[lane] == work.wanted[lane] and work.agree[lane] == 0:
        work.wanted[lane] = most
    if work.which[lane] < min(work.wanted[lane], most):
        _set_search(lane, shape, work)
        return WAIT
    return DONE


@helper
def _receive(lane, shape, work):
    """What to do with the evaluation that a lane waited for."""
    apart()
    phase = work.phase[lane]
    if phase == IDENTIFY:
        work.yes[lane] = 1.0
        if _identified(lane, shape, work):
            return _next_search(lane, shape, work)
        work.best_status[lane] = RANK_DEFICIENT
        return DONE
    value = _deviance(lane, shape, work)
    if phase == STEP and not _low_enough(lane, value, work):
        work.factor[lane] *= 0.5 if work.tries[lane] < 3 else 0.1
        work.tries[lane] += 1
        _set_step(lane, shape, work)
        return WAIT
    if phase == ESCAPE:
        before = work.deviance[lane]
        if not value <= before + ESCAPE_NOISE * (1.0 + abs(before)) and work.tries[lane] < ESCAPES - 1:
            work.tries[lane] += 1
            work.factor[lane] *= 0.1
            _set_escape(lane, shape, work)
            return WAIT
        _set_descent(lane, work)
    work.deviance[lane] = value
    return JUDGE if phase == BOUNDARY else DIRECT


@helper
def advance(lane, shape, work):
    """Take a lane on to its next evaluation. Whether its replicate is done instead."""
    apart()
    todo = _receive(lane, shape, work)
    while todo < WAIT:
        if todo == DIRECT:
            todo = _direct(lane, shape, work)
        elif todo == LAND:
            todo = _land(lane, shape, work)
        elif todo == JUDGE:
            todo = _judge(lane, shape, work)
        else:
            todo = _tally(lane, shape, work)
    return todo == DONE
