"""From rows to the sums that a replicate enters by, as many replicates at once as a vector has lanes."""

from __future__ import annotations

import numpy as np

from ...simulate.compiled import compiled
from ..lanes import LANES, choose, fma, get, get_from, put, splat
from ..small import apart, helper, pair
from .structure import AT_B, AT_M, ORDER

__all__ = ["add_drawn", "add_rows"]


@helper
def _load_cell(r, rows, begin, end, shared, drawn, place, y, kept, values):
    """The columns of a cell's rows in replicates r, r + 1, ...: (1 if the row is there, D, y), 0 where it isn't."""
    apart()
    d = len(place)
    for n in range(begin, end):
        i, at = rows[n], (n - begin) * (d + 2)
        there = splat(1.0)
        if len(kept) > 0:
            there = get_from(kept, i, r)
        put(values, at, there)
        for c in range(d):
            value = splat(0.0)
            if place[c] < 0:
                value = splat(shared[c, i])
            else:
                value = get_from(drawn, (place[c], i), r)
            put(values, at + 1 + c, choose(there, 0.5, value, 0.0))
        put(values, at + 1 + d, choose(there, 0.5, get_from(y, i, r), 0.0))


@compiled()
def add_rows(rows, cells, entries, start, source, base, shared, drawn, place, y, kept, out):
    """Fill out (batches, targets, lanes): batch b holds replicates min(8 b, R - 8), .... Releases the GIL.

    rows .. base: see `structure.RowProgram`; shared (d, N): columns that all replicates share; drawn (., N, R): others,
    column c of which stands at place[c] (d), -1 if it is shared; y (N, R); kept (N, R) of 0 and 1, or of no rows.
    """
    apart()
    d, E, K = len(place), len(entries), len(cells) - 1
    longest = 0
    for k in range(K):
        longest = max(longest, cells[k + 1] - cells[k])
    values, sums = np.empty((longest * (d + 2), LANES)), np.empty((K * E, LANES))
    for b in range(len(out)):
        r = min(b * LANES, y.shape[1] - LANES)
        for k in range(K):
            size = cells[k + 1] - cells[k]
            _load_cell(r, rows, cells[k], cells[k + 1], shared, drawn, place, y, kept, values)
            for e in range(E):
                left, right = entries[e, 0], entries[e, 1]
                if left < 0:
                    left = d + 1
                value = splat(0.0)
                if left == 0 and right == 0:
                    for n in range(size):
                        value = value + get(values, n * (d + 2))
                else:
                    if right < 0:
                        right = d + 1
                    for n in range(size):
                        value = fma(get(values, n * (d + 2) + left), get(values, n * (d + 2) + right), value)
                put(sums, k * E + e, value)
        for t in range(out.shape[1]):
            value = splat(base[t])
            for s in range(start[t], start[t + 1]):
                value = value + get(sums, source[s])
            put(out, (b, t), value)


@compiled()
def add_drawn(units, heads, unit, place, ranks, columns, fixed, codes, shared, drawn, at, y, kept, out):
    """The same where levels are drawn for each replicate.

    units, heads, unit, place, ranks: see `structure.UnitStructure`, unit and place (slots, most levels); columns (slots, most q),
    fixed (p): numbers of columns; codes (slots, N, R or 1); shared .. kept: as for `add_rows`, at (d) for its place.
    """
    apart()
    N, R = y.shape
    head = heads[0]
    q, F, p = head.q, head.F, len(fixed)
    n = pair(0, q[0])
    x = np.empty(p + 1)
    z = np.empty((F, columns.shape[1]))
    where, level = np.empty(F, np.int64), np.empty(F, np.int64)
    for b in range(len(out)):
        for lane in range(LANES):
            r = min(b * LANES, R - LANES) + lane
            for t in range(out.shape[1]):
                out[b, t, lane] = 0.0
            for i in range(N):
                if len(kept) > 0 and kept[i, r] < 0.5:
                    continue
                for k in range(F):
                    level[k] = codes[k, i, r if codes.shape[2] > 1 else 0]
                    where[k] = place[k, level[k]]
                    out[b, head.counts[k] + level[k], lane] += 1.0
                    for a in range(q[k]):
                        c = columns[k, a]
                        z[k, a] = shared[c, i] if at[c] < 0 else drawn[at[c], i, r]
                for a in range(p):
                    c = fixed[a]
                    x[a] = shared[c, i] if at[c] < 0 else drawn[at[c], i, r]
                x[p] = y[i, r]
                u = unit[0, level[0]]
                order = units[u, ORDER]
                t = head.targets[1] + ranks[level[0]] * n
                for a in range(q[0]):
                    for c in range(a + 1):
                        out[b, t + pair(c, a), lane] += z[0, a] * z[0, c]
                    row = head.targets[2] + units[u, AT_B] + (where[0] + a) * (order + p + 1)
                    for k in range(1, F):
                        for c in range(q[k]):
                            out[b, row + where[k] + c, lane] += z[0, a] * z[k, c]
                    for c in range(p + 1):
                        out[b, row + order + c, lane] += z[0, a] * x[c]
                t = head.targets[3] + units[u, AT_M]
                for k in range(1, F):
                    for a in range(q[k]):
                        for g in range(k, F):
                            for c in range(q[g]):
                                if g > k or c >= a:
                                    out[b, t + pair(where[k] + a, where[g] + c), lane] += z[k, a] * z[g, c]
                        for c in range(p + 1):
                            out[b, t + pair(where[k] + a, order + c), lane] += z[k, a] * x[c]
                t = head.targets[4]
                for a in range(p + 1):
                    for c in range(a + 1):
                        out[b, t + pair(c, a), lane] += x[a] * x[c]
