"""The memory in which lanes are fitted: one record, so that compiled functions pass a single pointer.

A tuple of arrays in its place costs 0.5 us a call: Numba copies each array's shape and strides and counts its references. Room is
for the largest model, so that all models share one type and the code that steers a search is compiled once for them: 12 MB. Lane
arrays have the lane as their last axis; symmetric matrices are stored by pairs (`small.pair`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..spec.model import MAX_FIXED, MAX_RANDOM
from .lanes import LANES

__all__ = ["get_workspace", "make_shape"]

_Q = MAX_RANDOM
_N = _Q * (_Q + 1) // 2
_WIDTH = MAX_FIXED + 1
_S = _WIDTH * (_WIDTH + 1) // 2
_X = _Q * _WIDTH

#: What all replicates share: q, p; the number of each column's random term; row and column of the free entries of L; the start,
#: G relative to s2 (a negative first entry: none), and whether
#: one by moments goes before it; J clusters; N rows, or 0 where they differ between replicates, whose rows and clusters are then
#: counted from their Gram; columns of the largest random term.
_SHAPE = np.dtype(
    [
        *((name, "i8") for name in ("q", "p", "free", "J", "N", "largest", "reml", "moments")),
        ("zcols", "i8", (_Q,)), ("xcols", "i8", (MAX_FIXED,)), ("xweights", "i8", (MAX_FIXED,)), ("blocks", "i8", (_Q,)),
        ("rows", "i8", (_N,)), ("cols", "i8", (_N,)), ("start", "f8", (_N,)),
    ]
)  # fmt: skip


def _numbers() -> list[tuple[str, tuple[int, ...]]]:
    """Arrays of doubles."""
    return [
        # the replicate: S0, whitening factor U, the unit of y, irregularity, status (nan while there is none)
        ("S0", (_S, LANES)), ("U", (_Q, _Q, LANES)), ("unit", (LANES,)), ("irregularity", (LANES,)), ("status", (LANES,)),
        ("moments", (_N, LANES)),
        # its rows and clusters; m = rows - p (REML) or rows
        ("observed", (LANES,)), ("present", (LANES,)), ("m", (LANES,)),
        # the point: G = F F', F = frame L; yes: 1, or 0 where y counts for nothing (rss = inf)
        ("F", (_Q, _Q, LANES)), ("frame", (_Q, _Q, LANES)), ("yes", (LANES,)), ("G", (_N, LANES)),
        # the pieces: the factor C of S, its inverse diagonal (the last entry times sqrt(m)), log|K| = logdet + log(product)
        ("C", (_S, LANES)), ("inverse", (_WIDTH, LANES)), ("product", (LANES,)), ("logdet", (LANES,)),
        # derivatives in G; in the free entries of L, with the Hessian's factor M; the Newton step, g'step, definite (1 or 0)
        ("Sg", (_N, LANES)), ("H", (_N, _N, LANES)), ("g", (_N, LANES)), ("HL", (_N, _N, LANES)), ("M", (_N, _N, LANES)),
        ("step", (_N, LANES)), ("slope", (LANES,)), ("definite", (LANES,)),
        # scratch of the passes
        ("vv", (_X * (_X + 1) // 2, LANES)), ("Q", (_N * _N, LANES)), ("N", (_Q, _Q, LANES)),
        ("D", (_N, _S, LANES)), ("dG", (_N, _N, LANES)), ("K", (_Q, _Q, LANES)), ("scaled", (_Q, _Q + _WIDTH, LANES)),
        # the search: where the step began and its direction, cut to `factor`; the way off the boundary, from G0
        ("F0", (_Q, _Q, LANES)), ("frame0", (_Q, _Q, LANES)), ("move", (_Q, _Q, LANES)), ("factor", (LANES,)),
        ("deviance", (LANES,)), ("decrement", (LANES,)), ("predicted", (LANES,)), ("escape", (_Q, LANES)), ("G0", (_N, LANES)),
        # the best search so far: deviance and certificate, estimates
        ("best", (LANES,)), ("residual", (LANES,)), ("beta", (MAX_FIXED, LANES)), ("vcov", (_S, LANES)),
        ("varcomp", (_N, LANES)), ("sigma2", (LANES,)),
        # scratch of the reduction
        ("mean", (_N, LANES)), ("rank", (LANES,)), ("diagonal", (_WIDTH, LANES)), ("row", (_X, LANES)), ("length", (_X, LANES)),
        ("sums", (_X * (_X + 1) // 2, LANES)), ("centre", (_Q, LANES)), ("product_sums", (_N, LANES)), ("noise", (_N, LANES)),
        # Kenward and Roger: twice the inverse of the information, the adjustment
        ("weights", (_N, _N, LANES)), ("adjusted", (_S, LANES)),
        # scratch of one lane
        ("three", (_WIDTH, _WIDTH)), ("curvature", (_N, _N)), ("basis", (_WIDTH, _WIDTH)), ("dfs", (_WIDTH,)),
        ("slopes", (_N,)), ("projected", (_N, MAX_FIXED * MAX_FIXED)),
        ("covariance", (_N,)), ("one", (_WIDTH, _WIDTH)), ("two", (_WIDTH, _WIDTH)), ("values", (_WIDTH,)), ("column", (_WIDTH,)),
    ]  # fmt: skip


#: By lane: what it waits for, the output's index, the start (0, 1, ...), whether start 0 was the identity, how many starts are
#: wanted, whether all searches agreed, whether the frame is an eigenframe, whether the Hessian was firmly definite, counts within
#: the search, what became of it.
_COUNTS = (
    "phase", "output", "which", "fallback", "wanted", "agree", "framed", "firm", "turn", "steps", "tries", "outcome",
    "best_status", "iterations", "ready",
)  # fmt: skip


_own = threading.local()
_WORKSPACE = np.dtype(
    [*((n, "f8", s) for n, s in _numbers()), *((n, "i8", (LANES,)) for n in _COUNTS), ("moves", "i8", (_N,))]
)


def get_workspace() -> NDArray[np.void]:
    """This thread's two records: of the lanes at work, and of the replicates that are ready to be taken in."""
    if not hasattr(_own, "records"):
        _own.records = np.zeros(2, _WORKSPACE)
    records: NDArray[np.void] = _own.records
    return records


def make_shape(
    zcols: Sequence[int], xcols: Sequence[int], xweights: NDArray[np.int64], blocks: NDArray[np.int64],
    start: NDArray[np.float64], *, rows: int, clusters: int, reml: bool, moments: bool = True,
) -> NDArray[np.void]:  # fmt: skip
    """One record. zcols (q), xcols (p): indices of level-1 columns; xweights (p): of level-2 multipliers; blocks (q): the number
    of each column's random term, rising; start (q(q+1)/2); rows: N, or 0 to count each replicate's from its Gram."""
    q, p = len(zcols), len(xcols)
    assert 1 <= q <= MAX_RANDOM, "the front door refuses larger models"
    assert p <= MAX_FIXED, "the front door refuses larger models"
    free = [(i, k) for k in range(q) for i in range(k, q) if blocks[i] == blocks[k]]
    shape = np.zeros(1, _SHAPE)
    record = shape[0]
    record["q"], record["p"], record["free"], record["J"], record["N"] = q, p, len(free), clusters, rows
    record["moments"] = moments
    record["largest"], record["reml"] = np.bincount(blocks).max(), reml
    record["zcols"][:q], record["xcols"][:p], record["xweights"][:p] = zcols, xcols, xweights
    record["blocks"][:q], record["start"][: len(start)] = blocks, start
    record["rows"][: len(free)], record["cols"][: len(free)] = zip(*free, strict=True)
    return shape
