"""Analyses by the units of a factor of balanced designs, from the statistics of their strata: no row need exist.

A unit's coefficients are b_i = M T_i, T_i (r) the mean of its cells' reduced rows: every cell has the same rows, and with equally
many rows for all values of the base columns, means of values weigh as rows do. The regression of b_i on constants z of the units
needs sums over units of T T', z T' and z z' only. These are sums of Y'P_s Y, C'P_s Y and C'P_s C over the strata that the factor
holds, over the number of cells of a unit. Effects whose base column lives on another factor are not told apart there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...simulate.strata.cells import CellDesign, CellStatistics, pair
from ..inference import Hypotheses
from ..lmm import Fits, pairs
from ..ols import fit_products
from ..reduce import PIVOT_TOLERANCE
from ..status import Status
from .by_units import UnitTests

__all__ = ["UnitPlan", "plan_units", "tests_of_strata"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class UnitPlan:
    """An analysis by the levels of a factor (its number).

    M (bases, r): coefficients of a unit from its mean reduced row. effects: of each base column those that are tested by
    it, by place in the formula; multipliers: the numbers of their constants of units.
    """

    factor: int
    M: Array
    effects: tuple[tuple[int, ...], ...]
    multipliers: tuple[tuple[int, ...], ...]


def plan_units(
    design: CellDesign,
    columns: Array,
    factor: int,
    bases: Sequence[Array],
    effects: Sequence[Sequence[tuple[int, int]]],
) -> UnitPlan | None:
    """Plan an analysis; None where strata do not give it.

    columns (n, r0): a cell's rows. bases: combinations (r0) of them, the Intercept's included. effects: of each base column
    (place, multiplier) of every effect.
    """
    W = columns @ np.stack(bases, axis=1)
    counts = np.unique(W, axis=0, return_counts=True)[1]
    B = design.root @ np.stack(bases, axis=1)
    S = B.T @ B
    scale = np.sqrt(np.diagonal(S))
    if np.ptp(counts) or not (scale > 0).all():
        return None
    if np.linalg.eigvalsh(S / np.outer(scale, scale))[0] <= PIVOT_TOLERANCE:
        return None
    M = np.asarray(np.linalg.solve(S, B.T), dtype=float)
    own = [tuple(zip(*each, strict=True)) for each in effects]
    return UnitPlan(factor, M, tuple(places for places, _ in own), tuple(numbers for _, numbers in own))


def tests_of_strata(
    plan: UnitPlan, statistics: CellStatistics, first: int, last: int, hypotheses: Hypotheses
) -> UnitTests:
    """Test replicates first .. last - 1 of a block, of whose y the statistics are."""
    strata = statistics.design.strata
    held = [s for s, stratum in enumerate(strata.strata) if plan.factor in stratum]
    units, cells = strata.factors[plan.factor].levels, strata.cells_of(plan.factor)

    def over_units(values: Array) -> Array:
        own = values if values.shape[-1] == 1 < statistics.replicates else values[..., first:last]
        return np.asarray(own[held].sum(axis=0) / cells)

    cc, cy, yy = over_units(statistics.cc), over_units(statistics.cy), over_units(statistics.yy)
    r, R, p = statistics.design.r, last - first, sum(map(len, plan.effects))
    T = np.stack([np.stack([yy[pair(a, b)] for b in range(r)]) for a in range(r)])
    bb = np.einsum("la,abx,mb->lmx", plan.M, T, plan.M)
    found = UnitTests(
        hypotheses, np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, len(hypotheses)), np.nan),
        np.full(R, units), np.full(R, Status.ok, dtype=np.int64),
    )  # fmt: skip
    fits, zb = [], []
    for row, base, numbers in zip(plan.M, range(len(plan.M)), plan.multipliers, strict=True):
        zb.append(np.stack([np.einsum("a,ax->x", row, cy[m]) for m in numbers], axis=1))
        S = np.empty((R, len(numbers) + 1, len(numbers) + 1))
        for i, m in enumerate(numbers):
            for k, other in enumerate(numbers):
                S[:, i, k] = cc[pair(m, other)]
        S[:, -1, :-1] = S[:, :-1, -1] = zb[-1]
        S[:, -1, -1] = bb[base, base]
        fits.append(fit_products(S, np.array([float(units)]), reml=True, true_beta=np.zeros(len(numbers))))
        np.maximum(found.status, fits[-1].status, out=found.status)
    _fill(plan, fits, zb, bb, units, found)
    bad = found.status != Status.ok
    for values in (found.beta, found.vcov, found.df):
        values[bad] = np.nan
    return found


def _fill(
    plan: UnitPlan, fits: Sequence[Fits], zb: Sequence[Array], bb: Array, units: int, found: UnitTests
) -> None:  # fmt: skip
    """Coefficients, their covariance and df; effects of two base columns covary where they have the same constants of units."""
    p = found.beta.shape[1]
    place = {pair: n for n, pair in enumerate(pairs(p))}
    left, alike = np.full(p, np.nan), np.zeros((p, p), dtype=bool)
    for a, (effects, numbers, fit) in enumerate(zip(plan.effects, plan.multipliers, fits, strict=True)):
        found.beta[:, effects] = fit.beta
        left[list(effects)] = units - len(effects)
        order = {pair: n for n, pair in enumerate(pairs(len(effects)))}
        for b, others in enumerate(plan.effects):
            if plan.multipliers[b] != numbers:
                continue
            rest = (bb[a, b] - (fit.beta * zb[b]).sum(axis=1)) / (units - len(effects))
            for i, k in enumerate(effects):
                for j, m in enumerate(others):
                    alike[k, m] = True
                    if k <= m:
                        unit = fit.vcov[:, order[min(i, j), max(i, j)]] / fit.sigma2
                        found.vcov[:, place[k, m]] = rest * unit
    for h in range(len(found.hypotheses)):
        weights = found.hypotheses[h]
        used = np.flatnonzero(weights[0])
        if len(weights) == 1 and alike[np.ix_(used, used)].all():
            found.df[:, h] = left[used].min()
