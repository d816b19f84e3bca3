"""The compiled fit and inference of a block of replicates with several grouping factors: `kernel` and `information` on other passes."""

from __future__ import annotations

import math

import numpy as np

from ...simulate.compiled import compiled
from ..information import invert_information, satterthwaite_all, set_nothing, set_point, without_y
from ..kernel import move_out
from ..lanes import LANES, fma, get, put, splat
from ..search import IDLE, advance, begin
from ..small import apart, helper, pair
from .passes import Pieces, clear, evaluate
from .reduce import reduce_targets

__all__ = ["fit_targets", "inform_targets"]


@helper
def _make_pieces(shape, units):
    apart()
    sizes, levels, n = units.sizes, units.counts[1], pair(0, units.q[0])
    s, c, E = sizes[5], sizes[6], sizes[7]
    most = 1
    for f in range(len(units.q)):
        for g in range(f, len(units.q)):
            for u in range(len(units.count)):
                most = max(most, units.levels[u, f] * units.q[f] * units.q[g])
    blocks = np.zeros((most, LANES))
    return Pieces(
        np.zeros((levels * n, LANES)), np.zeros((sizes[0], LANES)), np.zeros((sizes[1], LANES)), np.zeros((levels * n, LANES)),
        np.zeros((sizes[0], LANES)), np.zeros((sizes[2], LANES)), np.zeros((sizes[3], LANES)),
        np.zeros((pair(0, s + shape.p + 1), LANES)), np.zeros((max(s * c, 1), LANES)),
        np.zeros((max(s * s, s + shape.p + 1), LANES)), np.zeros((pair(0, E), LANES)), np.zeros((sizes[4], LANES)), blocks,
        np.zeros((most, LANES)),
    )  # fmt: skip


@helper
def _move_in(lane, e, shape, source, ready, target, work):
    """Copy entry e of the replicates that are ready to a lane."""
    apart()
    q = shape.q
    for k in range(len(source.R)):
        target.R[k, lane] = source.R[k, e]
    for k in range(len(source.B)):
        target.B[k, lane] = source.B[k, e]
    for k in range(len(source.M)):
        target.M[k, lane] = source.M[k, e]
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
    units, shapes, memory, targets, replicates, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first..last-1 of a block of at least as many as a vector has lanes. Releases the GIL.

    units: see `structure`; shapes, memory: see `workspace`; targets: see `accumulate.add_rows`; replicates: of the block. Outputs as
    of `kernel.fit_block`.
    """
    apart()
    shape, work, ready = shapes[0], memory[0], memory[1]
    pieces = _make_pieces(shape, units)
    waiting = Pieces(
        np.zeros_like(pieces.R), np.zeros_like(pieces.B), np.zeros_like(pieces.M), pieces.own, pieces.T, pieces.W, pieces.v,
        pieces.A, pieces.Y, pieces.K, pieces.H, pieces.Q, pieces.left, pieces.right,
    )  # fmt: skip
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
                    reduce_targets(shape, units, targets, b, waiting, ready)
                o = following - first
                if math.isnan(ready.status[entry]):
                    _move_in(lane, entry, shape, waiting, ready, pieces, work)
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
        evaluate(shape, units, pieces, work)
        for lane in range(LANES):
            if work.phase[lane] != IDLE and advance(lane, shape, work):
                o = work.output[lane]
                move_out(lane, o, shape, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2)
                work.phase[lane] = IDLE
                busy -= 1


@helper
def _multiply(shape, units, pieces, u, x, s):
    """W times x (effects, scratch `left`) of a unit, into `right`: only rows of effects; s effects."""
    apart()
    W, at = pieces.W, units.W[u]
    for e in range(s):
        value = splat(0.0)
        for k in range(e + 1):
            value = fma(get(W, at + pair(k, e)), get(x, k), value)
        for k in range(e + 1, s):
            value = fma(get(W, at + pair(e, k)), get(x, k), value)
        put(pieces.H, e, value)


@helper
def _direct(shape, units, u, f, i, v, E, x):
    """E_f v_i of a unit, by effects, for free entry f."""
    apart()
    row, column = shape.rows[f], shape.cols[f]
    for e in range(E):
        put(x, e, splat(0.0))
    for k in range(len(units.q)):
        a = b = -1
        for c in range(units.q[k]):
            if units.own[k, c] == row:
                a = c
            if units.own[k, c] == column:
                b = c
        if a >= 0:
            for j in range(units.levels[u, k]):
                e = units.begin[u, k] + j * units.q[k]
                put(x, e + a, get(v, units.V[u] + i * E + e + b))
                put(x, e + b, get(v, units.V[u] + i * E + e + a))


@helper
def _adjust(shape, units, pieces, work):
    """sum_ab W_ab [(E_a v)'W (E_b v) - D_a D_b], by pairs of fixed effects, in `adjusted`, symmetric."""
    apart()
    p, free = shape.p, shape.free
    most = units.sizes[7]
    all_ = np.zeros((free * p * most, LANES))
    x = np.zeros((most, LANES))
    for s in range(pair(0, p)):
        put(work.adjusted, s, splat(0.0))
    for u in range(len(units.count)):
        E = units.order[u] + units.count[u] * units.q[0]
        for f in range(free):
            for i in range(p):
                _direct(shape, units, u, f, i, pieces.v, E, x)
                for e in range(E):
                    put(all_, (f * p + i) * E + e, get(x, e))
        for f in range(free):
            one = pair(shape.cols[f], shape.rows[f])
            for i in range(p):
                for e in range(E):
                    put(x, e, get(all_, (f * p + i) * E + e))
                _multiply(shape, units, pieces, u, x, E)
                for g in range(free):
                    weight = get(work.weights, (one, pair(shape.cols[g], shape.rows[g])))
                    for k in range(p):
                        value = splat(0.0)
                        for e in range(E):
                            value = fma(get(pieces.H, e), get(all_, (g * p + k) * E + e), value)
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
    units, shapes, memory, targets, replicates, first, last, usable, varcomp, sigma2, hypotheses, rows,
    satterthwaite, df, scale, vcov, varcov,
):  # fmt: skip
    """Degrees of freedom and covariances of replicates first .. last - 1 of a block, at their estimates. Releases the GIL.

    units .. last as for `fit_targets`, the others as for `information.inform_block`.
    """
    apart()
    shape, work = shapes[0], memory[1]
    pieces = _make_pieces(shape, units)
    clear(shape, work)
    following = first
    while following < last:
        b = following // LANES
        base = min(b * LANES, replicates - LANES)
        reduce_targets(shape, units, targets, b, pieces, work)
        start, end = following - base, min(last - base, LANES)
        following = base + end
        for lane in range(LANES):
            o = base + lane - first
            work.ready[lane] = start <= lane < end and usable[o]
            work.yes[lane] = 1.0
            if work.ready[lane] != 0:
                set_point(lane, o, shape, varcomp, sigma2, work)
            else:
                set_nothing(lane, shape, work)
        if satterthwaite.shape[0] > 0:
            evaluate(shape, units, pieces, work)
            for lane in range(LANES):
                if work.ready[lane] != 0:
                    satterthwaite_all(lane, base + lane - first, shape, hypotheses, rows, satterthwaite, work)
        if df.shape[0] > 0 or varcov.shape[0] > 0:
            for lane in range(LANES):
                work.yes[lane] = 0.0
            evaluate(shape, units, pieces, work)
            for lane in range(LANES):
                work.ready[lane] = invert_information(lane, shape, work) and work.ready[lane] != 0
            if df.shape[0] > 0:
                _adjust(shape, units, pieces, work)
            for lane in range(LANES):
                if work.ready[lane] != 0:
                    o = base + lane - first
                    without_y(
                        lane, o, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work
                    )
