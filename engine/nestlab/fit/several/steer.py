"""The search of `search`, which steers lanes of one-factor fits, for one fit with several factors.

Columns are whitened: the mean over a factor's levels of Z'Z is the identity within each term, as for one factor. So G,
tolerances and the rule for `singular` are free of units. The record that the search steers by has one lane; its evaluations are
made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from ...spec.model import MOST_RANDOM
from ..passes import HESSIAN_TOLERANCE
from ..problem import symmetric
from ..search import IDENTIFY, RANK_DEFICIENT
from ..status import Status
from ..workspace import get_workspace, make_shape
from .compiled_loops import advance_search, begin_search
from .curvature import Derivatives, is_small
from .point import Point, point_at
from .products import Products

__all__ = ["Optimum", "find_optimum", "load", "open_record", "point_of"]

Array = NDArray[np.float64]

#: Searches from different starts at most, where a fit is singular or searches disagree: of small problems, of large ones.
MOST_STARTS, MOST_LARGE_STARTS = 24, 4
#: Evaluations of a fit at most, of small and of large problems. Most seen on the golden files and in tests: some 60.
MOST_EVALUATIONS, MOST_LARGE_EVALUATIONS = 2_000, 200
#: Whitened variance at which random effects are as good as free, and the share of y'y left there that is no noise.
FREE, NOISELESS = 1e12, 1e-11


@dataclass(frozen=True)
class Optimum:
    """Where a search ended: its status, Newton steps of all starts, the certificate (largest entry of Sg G), deviance, and G by
    factor."""

    status: Status
    iterations: int
    residual: float
    deviance: float
    G: tuple[Array, ...]


def open_record(
    m: Products, *, reml: bool, start: Sequence[Array] | None = None
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """The shape and the record (both of length 1 or 2, as compiled functions take them) of a problem; start: G where a search
    begins."""
    q = sum(m.q)
    rows, columns = np.tril_indices(q)
    given = np.full(len(rows), -1.0) if start is None else block_diag(*start)[rows, columns]
    shape = make_shape(
        range(q), range(m.p), np.zeros(m.p, np.int64), m.blocks, given, rows=m.rows, clusters=max(m.levels), reml=reml,
        moments=False, most=MOST_RANDOM,
    )  # fmt: skip
    memory = get_workspace(MOST_RANDOM, 1)
    work = memory[0]
    work["U"][:q, :q, 0] = np.eye(q)
    work["unit"], work["present"], work["m"] = 1.0, max(m.levels), m.rows - (m.p if reml else 0)
    work["irregularity"] = 0.0
    return shape, memory


def find_optimum(m: Products, *, reml: bool, start: Sequence[Array] | None = None) -> Optimum:
    """Search from several starts, as many as the case needs; start: the first one's G by factor (in a simulation the truth)."""
    shape, memory = open_record(m, reml=reml, start=start)
    work, small = memory[0], is_small(m)
    most, evaluations = (MOST_STARTS, MOST_EVALUATIONS) if small else (MOST_LARGE_STARTS, MOST_LARGE_EVALUATIONS)
    begin_search(shape, memory)
    for _ in range(0 if _is_noiseless(m) else evaluations):
        identify = int(work["phase"][0]) == IDENTIFY
        found = Derivatives(point_of(m, work), reml, with_y=not identify)
        load(found, found.hessian() if small or identify else found.average(), shape, work)
        if advance_search(shape, memory) or int(work["which"][0]) >= most:
            break
    status, iterations = Status(int(work["best_status"][0])), int(work["iterations"][0])
    if status == RANK_DEFICIENT or not np.isfinite(work["best"][0]):
        return Optimum(status, iterations, np.nan, np.nan, tuple(np.full((q, q), np.nan) for q in m.q))
    q = sum(m.q)
    whole = symmetric(q, work["varcomp"][: q * (q + 1) // 2, 0]) / work["sigma2"][0]
    return Optimum(
        status,
        iterations,
        float(work["residual"][0]),
        float(work["best"][0]),
        tuple(whole[own, own] for own in m.columns),
    )


def _is_noiseless(m: Products) -> bool:
    """Whether fixed and random effects, these free, fit y perfectly."""
    C = Derivatives(point_at(m, [FREE * np.eye(q) for q in m.q]), reml=False).C
    return bool(
        C[-1, -1] ** 2 <= NOISELESS * m.XX[-1, -1]
    )  # nan: what is left of X is rounding, and y is not looked at


def point_of(m: Products, work: np.void) -> Point:
    """Evaluate at the record's F."""
    q = sum(m.q)
    F = work["F"][:q, :q, 0]
    G = F @ F.T
    return point_at(m, [G[own, own] for own in m.columns])


def load(found: Derivatives, H: Array, shape: NDArray[np.void], work: np.void) -> None:
    """Enter derivatives, the Hessian over pairs of free entries, its chain to the free entries of L, and the Newton step."""
    m, free = found.products, found.products.entries
    q, p, k = sum(m.q), m.p, len(free)
    whole = np.zeros((2, q, q))
    for own, G, gradient in zip(m.columns, found.point.G, found.gradient, strict=True):
        whole[0, own, own], whole[1, own, own] = G, gradient
    Sg = whole[1]
    work["logdet"], work["product"] = found.point.logdet, 1.0
    low, high = np.tril_indices(q)
    both = _pair(high, low)
    work["G"][both, 0], work["Sg"][both, 0] = whole[0, low, high], Sg[low, high]
    i, j = np.tril_indices(p + 1)
    work["C"][_pair(j, i), 0] = found.C[i, j]
    a, b = np.array([(m.columns[e.factor].start + e.a, m.columns[e.factor].start + e.b) for e in free]).T
    work["H"][np.ix_(_pair(b, a), _pair(b, a))] = H[:, :, None]
    rows, columns = shape["rows"][0, :k], shape["cols"][0, :k]
    F, frame = work["F"][:q, :q, 0], work["frame"][:q, :q, 0]
    dG = np.moveaxis(frame[:, None, rows] * F[None, :, columns], 2, 0)
    dG = dG + np.swapaxes(dG, 1, 2)
    work["dG"][np.ix_(np.arange(k), both)] = dG[:, low, high, None]
    along = dG[:, a, b]
    same = columns[:, None] == columns
    g = np.einsum("sab,ab->s", dG, Sg)
    HL = along @ H @ along.T + 2.0 * same * (frame[:, rows].T @ Sg @ frame[:, rows])
    work["g"][:k, 0], work["HL"][:k, :k, 0] = g, HL
    _newton(k, work, g, HL)


def _newton(k: int, work: np.void, g: Array, HL: Array) -> None:
    """The Newton step where the Hessian is positive definite; its factor in M."""
    work["definite"], work["slope"] = 0.0, 0.0
    diagonal = np.diag(HL)
    if not (np.isfinite(HL).all() and (diagonal > 0).all()):
        return
    try:
        M = np.linalg.cholesky(HL)
    except np.linalg.LinAlgError:
        return
    step = -np.linalg.solve(M.T, np.linalg.solve(M, g))
    work["M"][:k, :k, 0], work["step"][:k, 0] = M, step
    work["definite"], work["slope"] = float((np.diag(M) ** 2 > HESSIAN_TOLERANCE * diagonal).all()), g @ step


def _pair(i: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of entries (i, k), i <= k, in storage by pairs."""
    found: NDArray[np.int64] = k * (k + 1) // 2 + i
    return found
