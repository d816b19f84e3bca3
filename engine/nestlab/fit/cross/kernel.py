"""The compiled fit and inference of a block of replicates with several grouping factors: `kernel` and `information` on other
passes."""

from __future__ import annotations

import math

import numpy as np

from ...simulate.compiled import compiled
from ..information import invert_lanes, satterthwaite_lanes, set_points, without_y_lanes
from ..kernel import advance_lanes
from ..lanes import LANES, fma, get, put, splat
from ..search import IDLE, begin
from ..several.steer import MOST_STARTS
from ..small import apart, helper, pair, sym
from .passes import clear, evaluate
from .reduce import reduce_targets
from .structure import AT_V, AT_W, BEGIN, COUNT, LEVELS, ORDER

__all__ = ["fit_targets", "inform_targets"]


@helper
def _move_in(lane, e, shape, size, waiting, ready, mem, work):
    """Copy entry e of the replicates that are ready to a lane."""
    apart()
    q = shape.q
    for k in range(size):
        mem[k, lane] = waiting[k, e]
    for s in range(pair(0, shape.p + 1)):
        work.S0[s, lane] = ready.S0[s, e]
    for a in range(q):
        for b in range(q):
            work.U[a, b, lane] = ready.U[a, b, e]
    work.unit[lane] = ready.unit[e]
    work.m[lane] = ready.m[e]
    work.present[lane] = ready.present[e]
    work.irregularity[lane] = ready.irregularity[e]


@compiled()
def fit_targets(
    units, heads, shapes, memory, targets, replicates, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first..last-1 of a block of at least as many as a vector has lanes. Releases the GIL.

    units, heads: see `structure`; shapes, memory: see `workspace`; targets: see `accumulate.add_rows`; replicates: of the
    block. Outputs as of `kernel.fit_block`.
    """
    apart()
    shape, head, work, ready = shapes[0], heads[0], memory[0], memory[1]
    mem, waiting = np.zeros((head.size, LANES)), np.zeros((head.Y + head.orders[0], LANES))
    clear(shape, work)
    base, entry, following, busy = 0, LANES, first, 0
    for lane in range(LANES):
        work.phase[lane] = IDLE
    while True:
        for lane in range(LANES):
            while work.phase[lane] == IDLE and following < last:
                if entry == LANES:
                    b = following // LANES
                    base = min(b * LANES, replicates - LANES)
                    entry = following - base
                    reduce_targets(shape, head, units, targets, b, waiting, ready)
                o = following - first
                if math.isnan(ready.status[entry]):
                    _move_in(lane, entry, shape, head.A, waiting, ready, mem, work)
                    work.output[lane] = o
                    begin(lane, shape, work)
                    busy += 1
                else:
                    status[o] = int(ready.status[entry])
                    iterations[o] = 0
                entry += 1
                following += 1
        if busy == 0:
            break
        evaluate(shape, head, units, False, mem, work)
        busy -= advance_lanes(
            shape, MOST_STARTS, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2
        )


@helper
def _multiply(s, W, x, out, mem):
    """mem[out:] = W x, of order s, by pairs from mem[W:]."""
    apart()
    for e in range(s):
        value = splat(0.0)
        for k in range(s):
            value = fma(get(mem, W + sym(k, e)), get(x, k), value)
        put(mem, out + e, value)


@helper
def _direct(shape, head, units, u, f, v, x, mem):
    """E_f times a vector of a unit's effects, mem[v:], for free entry f."""
    apart()
    E = units[u, ORDER] + units[u, COUNT] * head.q[0]
    row, column = shape.rows[f], shape.cols[f]
    for e in range(E):
        put(x, e, splat(0.0))
    for k in range(head.F):
        a = b = -1
        for c in range(head.q[k]):
            if head.own[k, c] == row:
                a = c
            if head.own[k, c] == column:
                b = c
        if a >= 0:
            for j in range(units[u, LEVELS + 2 * k]):
                e = units[u, BEGIN + 2 * k] + j * head.q[k]
                put(x, e + a, get(mem, v + e + b))
                put(x, e + b, get(mem, v + e + a))


@helper
def _adjust(shape, head, units, mem, work):
    """sum_ab W_ab [(E_a v)'W (E_b v) - D_a D_b], by pairs of fixed effects, in `adjusted`, symmetric."""
    apart()
    p, free = shape.p, shape.free
    most = head.orders[2]
    all_ = np.zeros((free * p * most, LANES))
    x = np.zeros((most, LANES))
    for s in range(pair(0, p)):
        put(work.adjusted, s, splat(0.0))
    for u in range(len(units)):
        E = units[u, ORDER] + units[u, COUNT] * head.q[0]
        for f in range(free):
            for i in range(p):
                _direct(shape, head, units, u, f, head.v + units[u, AT_V] + i * E, x, mem)
                for e in range(E):
                    put(all_, (f * p + i) * E + e, get(x, e))
        for f in range(free):
            one = pair(shape.cols[f], shape.rows[f])
            for i in range(p):
                for e in range(E):
                    put(x, e, get(all_, (f * p + i) * E + e))
                _multiply(E, head.W + units[u, AT_W], x, head.H, mem)
                for g in range(free):
                    weight = get(work.weights, (one, pair(shape.cols[g], shape.rows[g])))
                    for k in range(p):
                        value = splat(0.0)
                        for e in range(E):
                            value = fma(get(mem, head.H + e), get(all_, (g * p + k) * E + e), value)
                        half = 0.5 if i != k else 1.0
                        place = pair(min(i, k), max(i, k))
                        put(work.adjusted, place, fma(half * weight, value, get(work.adjusted, place)))
    for f in range(free):
        one = pair(shape.cols[f], shape.rows[f])
        for g in range(free):
            two = pair(shape.cols[g], shape.rows[g])
            weight = -1.0 * get(work.weights, (one, two))
            for i in range(p):
                for k in range(p):
                    value = splat(0.0)
                    for e in range(p):
                        left = get(work.D, (one, pair(min(i, e), max(i, e))))
                        value = fma(left, get(work.D, (two, pair(min(k, e), max(k, e)))), value)
                    half = 0.5 if i != k else 1.0
                    place = pair(min(i, k), max(i, k))
                    put(work.adjusted, place, fma(half * weight, value, get(work.adjusted, place)))


@compiled()
def inform_targets(
    units, heads, shapes, memory, targets, replicates, first, last, usable, varcomp, sigma2, hypotheses, rows,
    satterthwaite, df, scale, vcov, varcov,
):  # fmt: skip
    """Degrees of freedom and covariances of replicates first .. last - 1 of a block, at their estimates. Releases the GIL.

    units .. last as for `fit_targets`, the others as for `information.inform_block`.
    """
    apart()
    shape, head, work = shapes[0], heads[0], memory[1]
    mem = np.zeros((head.size, LANES))
    clear(shape, work)
    following = first
    while following < last:
        b = following // LANES
        base = min(b * LANES, replicates - LANES)
        reduce_targets(shape, head, units, targets, b, mem, work)
        start, end = following - base, min(last - base, LANES)
        following = base + end
        set_points(base, first, start, end, usable, shape, varcomp, sigma2, work)
        if satterthwaite.shape[0] > 0:
            evaluate(shape, head, units, True, mem, work)
            satterthwaite_lanes(base - first, shape, hypotheses, rows, satterthwaite, work)
        if df.shape[0] > 0 or varcov.shape[0] > 0:
            for lane in range(LANES):
                work.yes[lane] = 0.0
            evaluate(shape, head, units, True, mem, work)
            invert_lanes(shape, work)
            if df.shape[0] > 0:
                _adjust(shape, head, units, mem, work)
            without_y_lanes(base - first, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work)
