"""Which coefficients of a generalised linear model run to infinity, by linear programming.

A direction d of beta is one of recession if no row's log density falls along it: x_i'd >= 0 where y_i is all events, <= 0 where
it has none, = 0 elsewhere (counts: <= 0 where y_i = 0, = 0 elsewhere). Random effects integrate over products of such densities,
so the likelihood of the mixed model rises along d too, at any theta: it has a maximum only where all such d leave every row as
it is (Albert & Anderson 1984, Biometrika 71, 1-10). In the limit the rows with x_i'd != 0 have probability 1 and drop out; the
coefficients that no such d moves stay finite and are estimated from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack

from ..several.products import FactorColumns
from .families import ObservedRows

__all__ = ["Recession", "find_recession", "separable"]

Array = NDArray[np.float64]

#: What an entry of d, at most 1 in units of X's columns, counts as 0.
ZERO = 1e-7


@dataclass(frozen=True)
class Recession:
    """kept (N): the rows that no direction of recession changes; signs (p): 1 or -1 where a coefficient runs to plus or minus
    infinity, nan where to either, 0 where it stays finite."""

    kept: NDArray[np.bool_]
    signs: Array

    @property
    def any(self) -> bool:
        return not self.kept.all()


def find_recession(outcome: ObservedRows, X: Array) -> Recession:
    """Find the directions of recession of an outcome on X (N, p)."""
    y = outcome.y
    if outcome.family.counts:
        side = np.where(y == 0, -1.0, 0.0)
    else:
        side = np.where(y == outcome.trials, 1.0, np.where(y == 0, -1.0, 0.0))
    sizes = np.abs(X).max(axis=0)
    rows, kind = np.unique(np.column_stack([X / np.where(sizes > 0, sizes, 1.0), side]), axis=0, return_inverse=True)
    free, S = rows[:, -1] != 0, rows[:, :-1]
    N, p = S.shape
    signed = S[free] * rows[free, -1:]
    gains = len(signed)
    # c_i <= x_i'd, at most 1: with d of any length, their sum is largest where as many as possible are 1, and the others 0
    A = np.hstack([-signed, np.eye(gains)])
    B = np.hstack([S[~free], np.zeros((N - gains, gains))])
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * p + [(0.0, 1.0)] * gains
    found = linprog(np.r_[np.zeros(p), -np.ones(gains)], A, np.zeros(gains), B, np.zeros(N - gains), bounds)
    changed = np.zeros(N, dtype=bool)
    if found.x is not None:
        changed[free] = found.x[p:] > 0.5
    kept = ~changed[kind.ravel()]
    if kept.all():
        return Recession(kept, np.zeros(p))
    signs = np.zeros(p)
    for k in range(p):
        ends = []
        for direction in (1.0, -1.0):
            cost = np.zeros(p)
            cost[k] = -direction
            best = linprog(cost, -signed, np.zeros(gains), S[~free], np.zeros(N - gains), (-1.0, 1.0))
            ends.append(best.x is not None and direction * best.x[k] > ZERO)
        signs[k] = np.nan if all(ends) else float(ends[0]) - float(ends[1])
    return Recession(kept, signs)


def separable(outcome: ObservedRows, X: Array, factors: Sequence[FactorColumns]) -> bool:
    """Whether fixed and random effects, all free, can give every row of a binary outcome its side of 0."""
    if ((outcome.y > 0) & (outcome.y < outcome.trials)).any():
        return False
    side = np.where(outcome.y > 0, 1.0, -1.0)
    N = len(X)
    columns = [csr_array(X)]
    for factor in factors:
        columns += [csr_array((z, (np.arange(N), factor.codes)), shape=(N, factor.levels)) for z in factor.Z.T]
    A = hstack(columns).multiply(side[:, None]).tocsr()
    found = linprog(np.zeros(A.shape[1]), -A, -np.ones(N), bounds=(None, None))
    return bool(found.status == 0)
