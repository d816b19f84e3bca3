"""What the curvature at the optimum of strata says of uncertainty: the rules of `fit.information`, in lanes."""

from __future__ import annotations

import numpy as np

from ...simulate.compiled import compiled
from ..information import adjust, invert_lanes, satterthwaite_lanes, set_points, without_y_lanes
from ..lanes import LANES, fma, get, put, splat
from ..passes import Clusters
from ..small import apart, helper, pair
from .entries import reduce_entries
from .kernel import set_whitening
from .passes import derive_entries, evaluate_groups

__all__ = ["inform_strata"]


@helper
def _set_chain(shape, work):
    """dG of the free entries of L."""
    apart()
    q, blocks = shape.q, shape.blocks
    for s in range(shape.free):
        i, j = shape.rows[s], shape.cols[s]
        for a in range(q):
            for e in range(a + 1):
                value = splat(0.0)
                if blocks[a] == blocks[i] and blocks[e] == blocks[i]:
                    value = get(work.frame, (a, i)) * get(work.F, (e, j))
                    value = fma(get(work.frame, (e, i)), get(work.F, (a, j)), value)
                put(work.dG, (s, pair(e, a)), value)


@helper
def _clear(shape, work):
    """0 for the pairs of random columns of different terms."""
    apart()
    q, p = shape.q, shape.p
    for s in range(q * (q + 1) // 2):
        put(work.Sg, s, 0.0)
        for i in range(pair(p, p) + 1):
            put(work.D, (s, i), 0.0)
        for u in range(q * (q + 1) // 2):
            put(work.H, (s, u), 0.0)


@helper
def _fill_clusters(shape, parts, roots, T, pool, clusters):
    """W and v of each row, over all random columns, as `information.adjust` takes them."""
    apart()
    q, width = shape.q, shape.p + 1
    n = q * (q + 1) // 2
    row = 0
    for g in range(parts.groups):
        rho, R, at = parts.rho[g], parts.root[g], parts.inverse[g]
        for e in range(parts.rows[g]):
            for a in range(q):
                for k in range(rho):
                    value = splat(0.0)
                    for i in range(k + 1):
                        value = fma(roots[R + i * q + a], get(pool, at + k * rho + i), value)
                    put(pool, parts.W + a * rho + k, value)
                for b in range(a + 1):
                    value = splat(0.0)
                    for k in range(rho):
                        value = fma(get(pool, parts.W + a * rho + k), get(pool, parts.W + b * rho + k), value)
                    put(clusters.W, row * n + pair(b, a), value)
                for i in range(width):
                    value = splat(0.0)
                    for k in range(rho):
                        line = parts.first[g] + e * rho + k
                        value = fma(roots[R + k * q + a], get(T, line * width + i), value)
                    put(clusters.T, (row * q + a) * width + i, value)
            row += 1


@compiled()
def inform_strata(
    shapes, records, memory, entry_map, U, values, first, last, usable, varcomp, sigma2, hypotheses, rows,
    satterthwaite, df, scale, vcov, varcov,
):  # fmt: skip
    """Degrees of freedom and covariances of replicates first .. last - 1, at their estimates. Releases the GIL.

    shapes .. last: as for `kernel.fit_strata`; the rest: as for `information.inform_block`.
    """
    apart()
    shape, parts, work = shapes[0], records[0], memory[1]
    width, roots, q = shape.p + 1, entry_map.roots, shape.q
    n = q * (q + 1) // 2
    entries, pool = np.zeros((parts.entries, LANES)), np.zeros((parts.pool, LANES))
    size = (parts.lines * width, LANES)
    B, T = np.zeros(size), np.zeros(size)
    K = 0
    for g in range(parts.groups):
        K += parts.rows[g]
    K = K if df.shape[0] > 0 else 0
    none = np.zeros((0, LANES))
    clusters = Clusters(
        none, none, np.zeros((K * n, LANES)), np.zeros((K * q * width, LANES)), none, np.zeros((K, LANES))
    )
    set_whitening(shape, U, work)
    _clear(shape, work)
    following = first
    while following < last:
        base = min(following, values.shape[1] - LANES)
        reduce_entries(shape, parts, entry_map, base, values, entries, B, pool, work)
        begin, end = following - base, min(last - base, LANES)
        following = base + end
        set_points(base, first, begin, end, usable, shape, varcomp, sigma2, work)
        if satterthwaite.shape[0] > 0:
            evaluate_groups(shape, parts, roots, B, T, pool, work)
            derive_entries(shape, parts, roots, T, pool, work)
            _set_chain(shape, work)
            satterthwaite_lanes(base - first, shape, hypotheses, rows, satterthwaite, work)
        if df.shape[0] > 0 or varcov.shape[0] > 0:
            for lane in range(LANES):
                work.yes[lane] = 0.0
            evaluate_groups(shape, parts, roots, B, T, pool, work)
            derive_entries(shape, parts, roots, T, pool, work)
            invert_lanes(shape, work)
            if df.shape[0] > 0:
                _fill_clusters(shape, parts, roots, T, pool, clusters)
                adjust(shape, clusters, work)
            without_y_lanes(base - first, shape, hypotheses, rows, varcomp, sigma2, df, scale, vcov, varcov, work)
