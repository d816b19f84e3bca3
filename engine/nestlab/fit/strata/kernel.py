"""The compiled fit of strata: searches in lanes, as `fit.kernel` runs them for one factor."""

from __future__ import annotations

import math

import numpy as np

from ...simulate.compiled import compiled
from ..kernel import advance_lanes
from ..lanes import LANES, put
from ..search import IDENTIFY, IDLE, begin
from ..several.steer import MOST_STARTS
from ..small import apart, helper
from .entries import reduce_entries
from .passes import derive_entries, evaluate_groups

__all__ = ["fit_strata", "set_whitening"]


@helper
def set_whitening(shape, U, work):
    """U in every lane."""
    apart()
    for a in range(shape.q):
        for b in range(shape.q):
            put(work.U, (a, b), U[a, b])


@helper
def _move_in(lane, e, shape, lines, Bs, B, ready, work):
    """Copy entry e of the replicates that are ready to a lane."""
    apart()
    q, width = shape.q, shape.p + 1
    for k in range(lines * width):
        B[k, lane] = Bs[k, e]
    for s in range(width * (width + 1) // 2):
        work.S0[s, lane] = ready.S0[s, e]
    for s in range(q * (q + 1) // 2):
        work.moments[s, lane] = ready.moments[s, e]
    work.unit[lane], work.m[lane] = ready.unit[e], ready.m[e]
    work.present[lane], work.irregularity[lane] = ready.present[e], ready.irregularity[e]


@compiled()
def fit_strata(
    shapes, records, memory, entry_map, U, values, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first .. last - 1 of a block into the output arrays (index: replicate - first). Releases the GIL.

    shapes, memory: see `workspace`; records: see `plan`; entry_map: see `entries`. U (q, q): the whitening factor. values (., R):
    the statistics, R at least LANES. Outputs: as those of `fit.kernel.fit_block`.
    """
    apart()
    shape, parts, work, ready = shapes[0], records[0], memory[0], memory[1]
    width, roots = shape.p + 1, entry_map.roots
    entries, pool = np.zeros((parts.entries, LANES)), np.zeros((parts.pool, LANES))
    size = (parts.lines * width, LANES)
    Bs, B, T = np.zeros(size), np.zeros(size), np.zeros(size)
    set_whitening(shape, U, work)
    for lane in range(LANES):
        work.phase[lane] = IDLE
        for a in range(shape.q):
            for b in range(shape.q):
                work.F[a, b, lane] = work.frame[a, b, lane] = 0.0
    base, entry, following, busy = 0, LANES, first, 0
    while True:
        for lane in range(LANES):
            while work.phase[lane] == IDLE and following < last:
                if entry == LANES:
                    base = min(following, values.shape[1] - LANES)
                    entry = following - base
                    reduce_entries(shape, parts, entry_map, base, values, entries, Bs, pool, ready)
                o = following - first
                if math.isnan(ready.status[entry]):
                    _move_in(lane, entry, shape, parts.lines, Bs, B, ready, work)
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
        evaluate_groups(shape, parts, roots, B, T, pool, work)
        identify = False
        for lane in range(LANES):
            identify = identify or work.phase[lane] == IDENTIFY
        if identify:
            derive_entries(shape, parts, roots, T, pool, work)
        busy -= advance_lanes(
            shape, MOST_STARTS, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2
        )
