"""The memory in which lanes are fitted: one record, so that compiled functions pass a single pointer.

A tuple of arrays in its place costs 0.5 us a call: Numba copies each array's shape and strides and counts its references. Room is
for the largest model, so that all models share one type and the code that steers a search is compiled once for them: 12 MB. Fits
with several grouping factors have a type of their own, of one lane and more random columns. Lane
arrays have the lane as their last axis; symmetric matrices are stored by pairs (`small.pair`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..spec.model import MAX_FIXED, MAX_RANDOM
from .lanes import LANES

__all__ = ["get_workspace", "make_shape"]


@cache
def _shape_type(q: int) -> np.dtype[np.void]:
    """What all replicates share.

    q, p; the number of each column's random term; row and column of the free entries of L; the pairs of columns of one term,
    rising; the start, G relative to s2 (a negative first entry: none), and whether one by moments goes before it; J clusters; N
    rows, or 0 where they differ between replicates, whose rows and clusters are then counted from their Gram; columns of the
    largest random term; whether there is room for more columns than one factor has (its results are older than `eigen_large`).
    """
    n = q * (q + 1) // 2
    return np.dtype(
        [
            *((name, "i8") for name in ("q", "p", "free", "J", "N", "largest", "reml", "moments", "wide")),
            ("zcols", "i8", (q,)), ("xcols", "i8", (MAX_FIXED,)), ("xweights", "i8", (MAX_FIXED,)), ("blocks", "i8", (q,)),
            ("rows", "i8", (n,)), ("cols", "i8", (n,)), ("inside", "i8", (n,)), ("start", "f8", (n,)),
        ]
    )  # fmt: skip


@cache
def _workspace_type(q: int, lanes: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            *((name, "f8", size) for name, size in _numbers(q, lanes)),
            *((name, "i8", (lanes,)) for name in _COUNTS),
            ("moves", "i8", (q * (q + 1) // 2,)),
        ]
    )


def _numbers(q: int, lanes: int) -> list[tuple[str, tuple[int, ...]]]:
    """Arrays of doubles."""
    n, width = q * (q + 1) // 2, MAX_FIXED + 1
    s, x, m = width * (width + 1) // 2, q * width, max(width, n + 1)
    return [
        # the replicate: S0, whitening factor U, the unit of y, irregularity, status (nan while there is none)
        ("S0", (s, lanes)), ("U", (q, q, lanes)), ("unit", (lanes,)), ("irregularity", (lanes,)), ("status", (lanes,)),
        ("moments", (n, lanes)),
        # its rows and clusters; m = rows - p (REML) or rows
        ("observed", (lanes,)), ("present", (lanes,)), ("m", (lanes,)),
        # the point: G = F F', F = frame L; yes: 1, or 0 where y counts for nothing (rss = inf)
        ("F", (q, q, lanes)), ("frame", (q, q, lanes)), ("yes", (lanes,)), ("G", (n, lanes)),
        # the pieces: the factor C of S, its inverse diagonal (the last entry times sqrt(m)), log|K| = logdet + log(product)
        ("C", (s, lanes)), ("inverse", (width, lanes)), ("product", (lanes,)), ("logdet", (lanes,)),
        # derivatives in G; in the free entries of L, with the Hessian's factor M; the Newton step, g'step, definite (1 or 0)
        ("Sg", (n, lanes)), ("H", (n, n, lanes)), ("g", (n, lanes)), ("HL", (n, n, lanes)), ("M", (n, n, lanes)),
        ("step", (n, lanes)), ("slope", (lanes,)), ("definite", (lanes,)),
        # scratch of the passes
        ("vv", (x * (x + 1) // 2, lanes)), ("Q", (n * n, lanes)), ("N", (q, q, lanes)),
        ("D", (n, s, lanes)), ("dG", (n, n, lanes)), ("K", (q, q, lanes)), ("scaled", (q, q + width, lanes)),
        # the search: where the step began and its direction, cut to `factor`; the way off the boundary, from G0
        ("F0", (q, q, lanes)), ("frame0", (q, q, lanes)), ("move", (q, q, lanes)), ("factor", (lanes,)),
        ("deviance", (lanes,)), ("decrement", (lanes,)), ("predicted", (lanes,)), ("escape", (q, lanes)), ("G0", (n, lanes)),
        # the best search so far: deviance and certificate, estimates
        ("best", (lanes,)), ("residual", (lanes,)), ("beta", (MAX_FIXED, lanes)), ("vcov", (s, lanes)),
        ("varcomp", (n, lanes)), ("sigma2", (lanes,)),
        # scratch of the reduction
        ("mean", (n, lanes)), ("rank", (lanes,)), ("diagonal", (width, lanes)), ("row", (x, lanes)), ("length", (x, lanes)),
        ("sums", (x * (x + 1) // 2, lanes)), ("centre", (q, lanes)), ("product_sums", (n, lanes)), ("noise", (n, lanes)),
        # Kenward and Roger: twice the inverse of the information, the adjustment
        ("weights", (n, n, lanes)), ("adjusted", (s, lanes)),
        # scratch of one lane
        ("three", (m, m)), ("curvature", (n, n)), ("basis", (m, m)), ("dfs", (width,)),
        ("slopes", (n,)), ("projected", (n, MAX_FIXED * MAX_FIXED)),
        ("covariance", (n,)), ("one", (m, m)), ("two", (m, m)), ("values", (m,)), ("column", (m,)),
    ]  # fmt: skip


#: By lane: what it waits for, the output's index, the start (0, 1, ...), whether start 0 was the identity, how many starts are
#: wanted, whether all searches agreed, whether the frame is an eigenframe, whether the Hessian was firmly definite, counts within
#: the search, what became of it.
_COUNTS = (
    "phase", "output", "which", "fallback", "wanted", "agree", "framed", "firm", "turn", "steps", "tries", "outcome",
    "best_status", "iterations", "ready",
)  # fmt: skip


_own = threading.local()


def get_workspace(random: int = MAX_RANDOM, lanes: int = LANES) -> NDArray[np.void]:
    """This thread's two records: of the lanes at work, and of the replicates that are ready to be taken in."""
    records: dict[tuple[int, int], NDArray[np.void]] = _own.__dict__.setdefault("records", {})
    if (random, lanes) not in records:
        records[random, lanes] = np.zeros(2, _workspace_type(random, lanes))
    return records[random, lanes]


def make_shape(
    zcols: Sequence[int], xcols: Sequence[int], xweights: NDArray[np.int64], blocks: NDArray[np.int64],
    start: NDArray[np.float64], *, rows: int, clusters: int, reml: bool, moments: bool = True,
    most: int = MAX_RANDOM,
) -> NDArray[np.void]:  # fmt: skip
    """One record. zcols (q), xcols (p): indices of level-1 columns; xweights (p): of level-2 multipliers; blocks (q): the number
    of each column's random term, rising; start (q(q+1)/2); rows: N, or 0 to count each replicate's from its Gram;
    most: random columns that the workspace has room for."""
    q, p = len(zcols), len(xcols)
    assert 1 <= q <= most, "the front door refuses larger models"
    assert p <= MAX_FIXED, "the front door refuses larger models"
    free = [(i, k) for k in range(q) for i in range(k, q) if blocks[i] == blocks[k]]
    shape = np.zeros(1, _shape_type(most))
    record = shape[0]
    record["q"], record["p"], record["free"], record["J"], record["N"] = q, p, len(free), clusters, rows
    record["moments"], record["wide"] = moments, most > MAX_RANDOM
    record["largest"], record["reml"] = np.bincount(blocks).max(), reml
    record["zcols"][:q], record["xcols"][:p], record["xweights"][:p] = zcols, xcols, xweights
    record["blocks"][:q], record["start"][: len(start)] = blocks, start
    record["rows"][: len(free)], record["cols"][: len(free)] = zip(*free, strict=True)
    record["inside"][: len(free)] = sorted(i * (i + 1) // 2 + k for i, k in free)
    return shape
