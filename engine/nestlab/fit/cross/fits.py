"""Fits of a block of replicates with several grouping factors, and what is inferred from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...spec.model import MOST_RANDOM
from ..inference import Hypotheses
from ..lanes import LANES
from ..lmm import Fits, for_lanes
from ..workspace import get_workspace, make_shape
from .accumulate import add_drawn, add_rows
from .kernel import fit_targets, inform_targets
from .structure import CrossDesign, CrossMethod, Program, Structure, make_program, make_structure

__all__ = ["CrossPlan", "CrossRows", "Informed", "compile_cross", "fit_lanes", "inform_lanes"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CrossPlan:
    """One method on one design: paid once per condition."""

    design: CrossDesign
    method: CrossMethod
    structure: Structure
    _programs: dict[tuple[bool, ...], Program] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def shape(self) -> NDArray[np.void]:
        """The model as compiled code takes it."""
        q, p = self.method.q, len(self.method.fixed)
        start = np.full(q * (q + 1) // 2, -1.0)
        if self.method.start is not None:
            start = np.array([self.method.start[i, k] for k in range(q) for i in range(k + 1)])
        return make_shape(
            range(q), range(p), np.zeros(p, np.int64), self.method.blocks, start, rows=self.design.rows,
            clusters=max(self.design.levels[f] for f in self.structure.slots), reml=self.method.reml, moments=False,
            most=MOST_RANDOM,
        )  # fmt: skip


@dataclass(frozen=True)
class CrossRows:
    """A block of R replicates of N rows.

    columns: the distinct columns of X and Z, each (N) where all replicates share it, or (N, R). y (N, R): the response, or what is
    left of it without known fixed effects (add these to beta): digits of a large mean are lost. kept (N, R): whether a row is there;
    None where all are.
    """

    columns: tuple[Array, ...]
    y: Array
    kept: NDArray[np.bool_] | None = None
    _targets: dict[int, tuple[CrossPlan, Array]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def replicates(self) -> int:
        return int(self.y.shape[1])

    def targets(self, plan: CrossPlan) -> Array:
        """(batches, targets, lanes): the sums by which the replicates enter a fit."""
        if id(plan) not in self._targets:
            self._targets[id(plan)] = (plan, self._add_up(plan))
        return self._targets[id(plan)][1]

    def _add_up(self, plan: CrossPlan) -> Array:
        lanes = [c.ndim > 1 and c.shape[1] > 1 for c in self.columns]
        shared = [None if drawn else c.reshape(-1) for c, drawn in zip(self.columns, lanes, strict=True)]
        N = len(self.y)
        redrawn = [for_lanes(c) for c, drawn in zip(self.columns, lanes, strict=True) if drawn]
        drawn = np.stack(redrawn) if redrawn else np.zeros((1, 1, 1))
        place = np.array([sum(lanes[:k]) if own else -1 for k, own in enumerate(lanes)], np.int64)
        values = np.array([np.zeros(N) if c is None else c for c in shared], dtype=float).reshape(-1, N)
        y = for_lanes(np.asarray(self.y, dtype=float))
        kept = np.zeros((0, 1)) if self.kept is None else for_lanes(np.asarray(self.kept, dtype=float))
        out = np.empty((-(-y.shape[1] // LANES), plan.structure.targets, LANES))
        if plan.design.drawn:
            self._add_drawn(plan, values, drawn, place, y, kept, out)
            return out
        key = (self.kept is not None, *lanes)
        if key not in plan._programs or not all(lanes):
            plan._programs[key] = make_program(plan.design, plan.structure, shared, missing=self.kept is not None)
        p = plan._programs[key]
        add_rows(p.rows, p.cells, p.entries, p.start, p.source, p.base, values, drawn, place, y, kept, out)
        return out

    @staticmethod
    def _add_drawn(
        plan: CrossPlan, values: Array, drawn: Array, place: NDArray[np.int64], y: Array, kept: Array, out: Array
    ) -> None:
        s, R = plan.structure, y.shape[1]
        codes = [plan.design.codes[f] for f in s.slots]
        both = np.stack([for_lanes(c) if c.ndim > 1 else np.repeat(c[:, None], R, axis=1) for c in codes])
        most = max(map(len, s.unit))

        def table(rows: Sequence[Sequence[int] | NDArray[np.int64]], width: int) -> NDArray[np.int64]:
            found = np.zeros((len(rows), width), np.int64)
            for k, row in enumerate(rows):
                found[k, : len(row)] = row
            return found

        add_drawn(
            s.units, s.head, table(s.unit, most), table(s.place, most), s.ranks, table(s.columns, max(map(len, s.columns))),
            np.array(s.fixed, np.int64), both.astype(np.int64), values, drawn, place, y, kept, out,
        )  # fmt: skip


def compile_cross(design: CrossDesign, method: CrossMethod) -> CrossPlan:
    """A method's plan on a design."""
    return CrossPlan(design, method, make_structure(design, method))


def fit_lanes(plan: CrossPlan, block: CrossRows, first: int, last: int) -> Fits:
    """Fit replicates first .. last - 1 of a block, as many at once as a vector has lanes."""
    p, n, R = len(plan.method.fixed), plan.method.q * (plan.method.q + 1) // 2, last - first
    fits = Fits(
        np.empty(R, dtype=np.int64), np.empty(R, dtype=np.int64), np.full(R, np.nan), np.full(R, np.nan),
        np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, n), np.nan), np.full(R, np.nan),
    )  # fmt: skip
    fit_targets(
        plan.structure.units, plan.structure.head, plan.shape, get_workspace(MOST_RANDOM), block.targets(plan), max(block.replicates, LANES),
        first, last, fits.status, fits.iterations, fits.deviance, fits.residual, fits.beta, fits.vcov, fits.varcomp, fits.sigma2,
    )  # fmt: skip
    return fits


@dataclass(frozen=True)
class Informed:
    """What curvature says of R replicates, of no rows where it is not asked for: df by Satterthwaite (R, H), of Kenward and Roger
    df and scales (R, H) and the covariance of beta (R, p(p+1)/2), and the covariance of the variance components by pairs."""

    satterthwaite: Array
    df: Array
    scale: Array
    vcov: Array
    varcov: Array


def inform_lanes(
    plan: CrossPlan, block: CrossRows, fits: Fits, first: int, last: int, hypotheses: Hypotheses, wanted: Sequence[str]
) -> Informed:
    """wanted: "satterthwaite", "kenward-roger", "variances"."""
    R, H, p = len(fits.status), len(hypotheses), fits.beta.shape[1]
    k = fits.varcomp.shape[1] + 1

    def room(rule: str, size: int) -> Array:
        return np.full((R if rule in wanted else 0, size), np.nan)

    found = Informed(
        room("satterthwaite", H), room("kenward-roger", H), room("kenward-roger", H), room("kenward-roger", p * (p + 1) // 2),
        room("variances", k * (k + 1) // 2),
    )  # fmt: skip
    usable = np.isfinite(fits.sigma2) & (fits.sigma2 > 0) & np.isfinite(fits.varcomp).all(axis=1)
    inform_targets(
        plan.structure.units, plan.structure.head, plan.shape, get_workspace(MOST_RANDOM), block.targets(plan), max(block.replicates, LANES),
        first, last, usable, fits.varcomp, fits.sigma2, hypotheses.starts, hypotheses.rows,
        found.satterthwaite, found.df, found.scale, found.vcov, found.varcov,
    )  # fmt: skip
    for df in (found.satterthwaite, found.df):
        df[~((df > 0) & np.isfinite(df))] = np.nan
    return found
