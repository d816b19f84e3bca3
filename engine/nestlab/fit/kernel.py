"""The compiled fit of a linear mixed model from sufficient statistics, for many replicates.

Model, for cluster j of J: y_j = X_j b + Z_j u_j + e_j, u_j ~ N(0, s2 G), e_j ~ N(0, s2 I), G block-diagonal over random terms; q
random columns, p fixed effects. A cluster enters by the triangular factor of its rows, made once from its cross-products:
Z'Z = R'R, B = R'^-1 Z'[X y]; S0 = [X y]'[X y] - sum B'B is what is left within clusters. Then at G

    K = I + R G R',  S = S0 + sum B'K^-1 B = C C',  C lower-triangular of order p + 1: S = [X y]'V^-1 [X y]
    rss = C_pp^2 (the last entry),  m = N - p (REML) or N (ML)
    dev = sum log|K| + [REML] 2 sum_{i<p} log C_ii + m (1 + log(2 pi rss / m))

(Bates et al. 2015, J. Stat. Softw. 67(1), eqs. 34, 41 and 42, cluster by cluster, with [X y] in place of X.) All sums are of
positive terms: no digits are lost where G is large. With W = R'K^-1 R, T = R'K^-1 B, v = T C'^-1 (columns v_i), weights
w_i = 1 (REML) or 0 (ML) for the fixed effects and w_p = m, the gradient with respect to symmetric G and the Hessian in directions
E and F are

    Sg = sum W - sum_i w_i v_i v_i'
    H(E, F) = sum tr(E W F Y) - sum_ik w_ik D_ik(E) D_ik(F),  Y = -W + 2 sum_i w_i v_i v_i',  D_ik(E) = sum v_i'E v_k

with w_ik = m where i or k is p and w_i elsewhere; v_p is the sum of squares' share, (R'K^-1 (y - X b)) / sqrt(rss).

Coordinates. The columns of Z are whitened within each random term, so that the mean over clusters of Z'Z is the identity: steps,
tolerances and the rule for `singular` are then free of the units of y and of the predictors. G = F F', F = V L with V (the frame)
orthogonal within terms and L lower-triangular: damped Newton steps in the free entries of L. The frame is turned to the
eigenvectors of G, largest first, where the Hessian is not positive definite or a column of F outgrows the one before. There the
boundary is a last column of F at 0, and the way to it is smooth; in a fixed frame a vanishing L_11 stalls the steps.

The certificate. At an optimum, block k of G has Sg_k G_k = 0 and Sg_k positive semi-definite on null(G_k). It is necessary, not
sufficient, for the deviance is not convex: `_wanted_starts` says how many starts must agree.

Lanes. As many replicates as a vector has lanes are evaluated at once (`passes`), each at its own point of its own search
(`search`); a lane that is done takes the next replicate. One compilation serves all models: with q and p compiled in, a fit took
a quarter less at best, which repays the wait for each new shape after 10 million fits.
"""

from __future__ import annotations

import math

import numpy as np

from ..simulate.compiled import compiled
from .lanes import LANES
from .passes import Clusters, evaluate
from .reduce import pool, reduce_lanes
from .search import IDLE, RANK_DEFICIENT, advance, begin
from .small import apart, helper

__all__ = ["advance_lanes", "fit_block"]

#: More starts than a search makes: of one grouping factor it ends by itself.
ALL_STARTS = 1 << 30


@helper
def _move_in(lane, e, q, width, Rs, Bs, ready, clusters, work):
    """Copy entry e of the replicates that are ready to a lane."""
    apart()
    for k in range(len(Rs)):
        clusters.R[k, lane] = Rs[k, e]
    for k in range(len(Bs)):
        clusters.B[k, lane] = Bs[k, e]
    for s in range(width * (width + 1) // 2):
        work.S0[s, lane] = ready.S0[s, e]
    for a in range(q):
        for b in range(q):
            work.U[a, b, lane] = ready.U[a, b, e]
    for s in range(q * (q + 1) // 2):
        work.moments[s, lane] = ready.moments[s, e]
    work.unit[lane] = ready.unit[e]
    work.m[lane] = ready.m[e]
    work.present[lane] = ready.present[e]
    work.irregularity[lane] = ready.irregularity[e]


@helper
def move_out(lane, o, shape, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2):
    """Store what became of the replicate in a lane, row o of the outputs; without an estimate they stay nan."""
    apart()
    status[o] = work.best_status[lane]
    iterations[o] = work.iterations[lane]
    if work.best_status[lane] == RANK_DEFICIENT or work.best[lane] == np.inf:
        return
    deviances[o] = work.best[lane] - 2.0 * work.m[lane] * math.log(work.unit[lane])
    residuals[o] = work.residual[lane]
    sigma2[o] = work.sigma2[lane]
    for i in range(beta.shape[1]):
        beta[o, i] = work.beta[i, lane]
    for i in range(vcov.shape[1]):
        vcov[o, i] = work.vcov[i, lane]
    for i in range(varcomp.shape[1]):
        varcomp[o, i] = work.varcomp[i, lane]


@helper
def advance_lanes(
    shape, most, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Take lanes on to their next evaluation and store what became of those that are done, at the latest after `most` starts. How
    many are done."""
    apart()
    done = 0
    for lane in range(LANES):
        if work.phase[lane] != IDLE and (advance(lane, shape, work) or work.which[lane] >= most):
            o = work.output[lane]
            move_out(lane, o, shape, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2)
            work.phase[lane] = IDLE
            done += 1
    return done


@compiled()
def fit_block(
    groups, shapes, memory, dd, dy, yy, weights, first, last,
    status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2,
):  # fmt: skip
    """Fit replicates first..last-1 of a block into the output arrays (index: replicate - first). Releases the GIL.

    groups (J): of each cluster the first one that has the same Z'Z in all replicates. shapes, memory: see `workspace`. dd
    (J, d(d+1)/2, R or 1), dy (J, d, R), yy (J, R), weights (w, J, R or 1): the Gram, R at least LANES. Outputs over last - first
    replicates: status and iterations (steps of all starts), to be set; deviances, residuals (the certificate), beta (., p), vcov
    (., p(p+1)/2), varcomp (., q(q+1)/2), sigma2: left as they are where there is no estimate.
    """
    apart()
    shape, work, ready = shapes[0], memory[0], memory[1]
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

    base, entry, following, busy = 0, LANES, first, 0
    for lane in range(LANES):
        work.phase[lane] = IDLE
    while True:
        for lane in range(LANES):  # finished lanes take the next replicate, so that a slow fit holds nobody
            while work.phase[lane] == IDLE and following < last:
                if entry == LANES:
                    base = min(following, yy.shape[1] - LANES)
                    entry = following - base
                    reduce_lanes(shape, origin, slot, base, dd, dy, yy, weights, A, B, Rs, Bs, ready)
                o = following - first
                if math.isnan(ready.status[entry]):
                    _move_in(lane, entry, q, width, Rs, Bs, ready, clusters, work)
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
        evaluate(shape, repeats, clusters, work)
        busy -= advance_lanes(
            shape, ALL_STARTS, work, status, iterations, deviances, residuals, beta, vcov, varcomp, sigma2
        )
