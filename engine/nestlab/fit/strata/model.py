"""Fits of strata and their inference: the interface.

With `design` and `statistics` as `simulate.strata` shows them, of D's columns 1 and c and the multiplier 1, number 0:

    effects = [CellEffect([1, 0], 0), CellEffect([0, 1], 0)]
    terms = [CellTerm(0, np.eye(2)), CellTerm(1, np.eye(2))]        # (1 + c | subject) + (1 + c | item)
    plan = compile_cells(design, effects, terms, reml=True, start=[G_subject, G_item])
    fits = fit_cells(plan, statistics, 0, statistics.replicates)
    rules = infer_cells(plan, statistics, fits, 0, statistics.replicates, Hypotheses.of(plan.p), ["satterthwaite"])

A fixed effect of the truth that is in the plan has no part in the statistics: `true_beta` is added to the estimates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...simulate.strata.cells import CellStatistics
from ...spec.model import MOST_RANDOM
from ..inference import BY_DESIGN, Hypotheses, Inference, refit_df, smallest_df, vanished
from ..lanes import LANES
from ..lmm import Fits, for_lanes
from ..several.nesting import between_within_df
from ..several.products import FactorColumns
from ..status import Status
from ..workspace import get_workspace
from .curvature import inform_strata
from .kernel import fit_strata
from .plan import CellPlan

__all__ = ["covariance_of_variances", "fit_cells", "infer_cells"]

Array = NDArray[np.float64]


def fit_cells(plan: CellPlan, statistics: CellStatistics, first: int, last: int) -> Fits:
    """Fit replicates first .. last - 1; varcomp by pairs over all random columns, those between terms 0."""
    p, q, R = plan.p, plan.q, last - first
    n = q * (q + 1) // 2
    fits = Fits(
        np.full(R, int(Status.rank_deficient)), np.zeros(R, dtype=np.int64), np.full(R, np.nan), np.full(R, np.nan),
        np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, n), np.nan), np.full(R, np.nan),
    )  # fmt: skip
    if plan.deficient:
        return fits
    fit_strata(
        plan.shape, plan.parts, get_workspace(MOST_RANDOM, LANES), plan.entry_map, plan.U, for_lanes(statistics.values),
        first, last,
        fits.status, fits.iterations, fits.deviance, fits.residual, fits.beta, fits.vcov, fits.varcomp, fits.sigma2,
    )  # fmt: skip
    np.add(fits.beta, plan.true_beta, out=fits.beta)
    return fits


def infer_cells(
    plan: CellPlan, statistics: CellStatistics, fits: Fits, first: int, last: int, hypotheses: Hypotheses,
    rules: Sequence[str], *, singular_df: str = "lmertest", terms: NDArray[np.bool_] | None = None,
) -> dict[str, Inference]:  # fmt: skip
    """Each rule on the fits of replicates first .. last - 1; arguments as those of `inference.infer`."""
    ones, found = np.ones((len(fits.status), len(hypotheses))), {}
    for rule in set(rules) & set(BY_DESIGN):
        df = smallest_df(_design_df(plan, rule)[None], hypotheses, terms)
        found[rule] = Inference(np.where(np.isfinite(fits.sigma2)[:, None], df, np.nan), fits.vcov, ones)
    satterthwaite, roger = "satterthwaite" in rules, "kenward-roger" in rules
    if satterthwaite or roger:
        df, kr, scale, vcov, _ = _inform(plan, statistics, fits, first, last, hypotheses, satterthwaite, roger)
        if satterthwaite and singular_df == "refit":
            _refitted(plan, statistics, fits, first, hypotheses, df)
        found["satterthwaite"] = Inference(df, fits.vcov, ones)
        found["kenward-roger"] = Inference(kr, vcov, scale)
    return {rule: found[rule] for rule in rules}


def covariance_of_variances(plan: CellPlan, statistics: CellStatistics, fits: Fits, first: int, last: int) -> Array:
    """Covariance (R, k(k+1)/2), by pairs, of the variance components, as `inference.variance_covariance` gives it."""
    return _inform(plan, statistics, fits, first, last, Hypotheses.of(plan.p), False, False, variances=True)[4]


def _inform(
    plan: CellPlan, statistics: CellStatistics, fits: Fits, first: int, last: int, hypotheses: Hypotheses,
    satterthwaite: bool, roger: bool, variances: bool = False,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    R, H, p = len(fits.status), len(hypotheses), plan.p
    k = fits.varcomp.shape[1] + 1

    def room(wanted: bool, *size: int) -> Array:
        return np.full((R if wanted else 0, *size), np.nan)

    df, kr, scale = room(satterthwaite, H), room(roger, H), room(roger, H)
    vcov, varcov = room(roger, p * (p + 1) // 2), room(variances, k * (k + 1) // 2)
    usable = np.isfinite(fits.sigma2) & (fits.sigma2 > 0) & np.isfinite(fits.varcomp).all(axis=1)
    if not plan.deficient:
        inform_strata(
            plan.shape, plan.parts, get_workspace(MOST_RANDOM, LANES), plan.entry_map, plan.U,
            for_lanes(statistics.values), first, last, usable, fits.varcomp, fits.sigma2, hypotheses.starts,
            hypotheses.rows, df, kr, scale, vcov, varcov,
        )  # fmt: skip
    for found in (df, kr):
        found[~((found > 0) & np.isfinite(found))] = np.nan
    return df, kr, scale, vcov, varcov


def _refitted(
    plan: CellPlan, statistics: CellStatistics, fits: Fits, first: int, hypotheses: Hypotheses, df: Array
) -> None:
    """Replace the df of singular fits by those of the model without the random columns that vanished."""
    roots = [plan.design.root @ t.columns * np.sqrt(plan.design.strata.cells_of(t.factor)) for t in plan.terms]
    scale = np.concatenate([np.sqrt((Z * Z).sum(axis=0)) for Z in roots])

    def gone(r: int, columns: tuple[int, ...], varcomp: Array) -> set[int]:
        del r
        return vanished(columns, plan.blocks[list(columns)], varcomp, scale[list(columns)])

    def again(kept: tuple[int, ...], members: list[int]) -> tuple[Fits, Array]:
        smaller, part = plan.without(kept), statistics.subset([first + r for r in members])
        found = fit_cells(smaller, part, 0, len(members))
        return found, _inform(smaller, part, found, 0, len(members), hypotheses, True, False)[0]

    refit_df(fits, plan.q, df, gone, again, lambda _: np.array([float(plan.shape["N"][0] - plan.p * plan.reml)]))


def _design_df(plan: CellPlan, rule: str) -> Array:
    """Degrees of freedom (p) of the fixed effects that the design decides."""
    design = plan.design
    if rule == "between-within":
        return between_within_df(*_rows(plan), rows=design.rows)
    return np.full(plan.p, np.inf if rule == "z" else float(design.rows - plan.p))


def _rows(plan: CellPlan) -> tuple[list[FactorColumns], Array]:
    """The factors' random columns and X, with r rows a cell, R in place of D; any values stand for redrawn multipliers."""
    design = plan.design
    rng, codes = np.random.default_rng(0), [f.codes for f in design.strata.factors]
    values = [rng.normal(size=m.partition.levels) if m.values is None else m.values for m in design.multipliers]
    cells = [v[m.partition.codes] for v, m in zip(values, design.multipliers, strict=True)]
    X = np.stack([np.outer(cells[e.multiplier], x).ravel() for e, x in zip(plan.effects, plan.x, strict=True)], axis=1)
    factors: dict[int, list[Array]] = {}
    for t in plan.terms:
        factors.setdefault(t.factor, []).append(np.tile(design.root @ t.columns, (design.strata.cells, 1)))
    return [
        FactorColumns(
            np.repeat(codes[f], design.r),
            design.strata.factors[f].levels,
            np.hstack(own),
            tuple(Z.shape[1] for Z in own),
        )
        for f, own in factors.items()
    ], X
