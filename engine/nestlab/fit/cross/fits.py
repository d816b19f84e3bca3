"""Fits of a block of replicates with several grouping factors, and what is inferred from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spec.model import MOST_RANDOM
from ..inference import Hypotheses, Inference, refit_df, smallest_df, vanished
from ..lanes import LANES
from ..lmm import Fits
from ..workspace import get_workspace
from .between import between_within
from .kernel import fit_targets, inform_targets
from .one_by_one import fit_one, inform_one
from .rows import CrossPlan, CrossRows

__all__ = ["MOST_EFFECTS", "MOST_NUMBERS", "covariance_of_variances", "fit", "in_lanes", "infer", "way"]

Array = NDArray[np.float64]

#: Random effects of a unit, and numbers that a replicate's fit holds, up to which replicates are fitted side by side. Beyond, the
#: fits of `several` are faster: they call LAPACK, and do without the whole of Z'V^-1 Z.
MOST_EFFECTS, MOST_NUMBERS = 400, 2_000_000


def in_lanes(plan: CrossPlan) -> bool:
    """Whether replicates are fitted side by side."""
    return bool(plan.structure.effects.max() <= MOST_EFFECTS and plan.structure.head["size"][0] <= MOST_NUMBERS)


def way(plan: CrossPlan) -> str:
    """How a plan's replicates are fitted, in words."""
    effects = plan.structure.effects
    units = f"in {len(effects):,} separate units" if len(effects) > 1 else "all connected"
    if in_lanes(plan):
        return f"cross-products, {LANES} replicates side by side ({int(effects.sum()):,} random effects, {units})"
    return (
        f"cross-products, one replicate after the other ({int(effects.sum()):,} random effects, {units}: too many to hold "
        f"{LANES} replicates' at once)"
    )


def fit(plan: CrossPlan, block: CrossRows, first: int, last: int) -> Fits:
    """Fit replicates first .. last - 1 of a block. varcomp: by pairs of all random columns in the method's order, 0 between
    terms."""
    p, n, R = len(plan.method.fixed), plan.method.q * (plan.method.q + 1) // 2, last - first
    fits = Fits(
        np.empty(R, dtype=np.int64), np.empty(R, dtype=np.int64), np.full(R, np.nan), np.full(R, np.nan),
        np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, n), np.nan), np.full(R, np.nan),
    )  # fmt: skip
    if R and in_lanes(plan):
        fit_targets(
            plan.structure.units, plan.structure.head, plan.shape, get_workspace(MOST_RANDOM), block.targets(plan),
            max(block.replicates, LANES), first, last, fits.status, fits.iterations, fits.deviance, fits.residual, fits.beta,
            fits.vcov, fits.varcomp, fits.sigma2,
        )  # fmt: skip
    elif R:
        for o in range(R):
            fit_one(plan, block, first + o, fits, o)
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


def _inform(
    plan: CrossPlan, block: CrossRows, fits: Fits, first: int, hypotheses: Hypotheses, wanted: Sequence[str]
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
    outputs = (found.satterthwaite, found.df, found.scale, found.vcov, found.varcov)
    if R and in_lanes(plan):
        inform_targets(
            plan.structure.units, plan.structure.head, plan.shape, get_workspace(MOST_RANDOM), block.targets(plan),
            max(block.replicates, LANES), first, first + R, usable, fits.varcomp, fits.sigma2, hypotheses.starts, hypotheses.rows,
            *outputs,
        )  # fmt: skip
    else:
        for o in np.flatnonzero(usable):
            inform_one(plan, block, first + int(o), fits, int(o), hypotheses, wanted, outputs)
    for df in (found.satterthwaite, found.df):
        df[~((df > 0) & np.isfinite(df))] = np.nan
    return found


def infer(
    plan: CrossPlan, block: CrossRows, fits: Fits, first: int, last: int, hypotheses: Hypotheses, rules: Sequence[str],
    *, singular_df: str = "lmertest", terms: NDArray[np.bool_] | None = None,
) -> dict[str, Inference]:  # fmt: skip
    """Each rule on the fits of replicates first .. last - 1: "z", "residual", "between-within", "satterthwaite" and, of REML
    fits, "kenward-roger" (with its own covariance of beta). singular_df, terms: as for `inference.infer`."""
    R, H, p = len(fits.status), len(hypotheses), fits.beta.shape[1]
    assert last - first == R, "fits are those of the replicates"
    ones, usable = np.ones((R, H)), np.isfinite(fits.sigma2)[:, None]
    found = {}
    for rule in rules:
        if rule in ("satterthwaite", "kenward-roger"):
            continue
        if rule == "z":
            by_effect = np.full((R, p), np.inf)
        elif rule == "residual":
            by_effect = np.repeat(_rows(plan, block, first, last)[:, None] - p, p, axis=1)
        else:
            by_effect = between_within(plan, block, first, last)
        found[rule] = Inference(np.where(usable, smallest_df(by_effect, hypotheses, terms), np.nan), fits.vcov, ones)
    wanted = [rule for rule in rules if rule not in found]
    if wanted:
        informed = _inform(plan, block, fits, first, hypotheses, wanted)
        if "satterthwaite" in wanted:
            df = informed.satterthwaite
            if singular_df == "refit":
                _refitted(plan, block, fits, first, hypotheses, df)
            found["satterthwaite"] = Inference(df, fits.vcov, ones)
        if "kenward-roger" in wanted:
            found["kenward-roger"] = Inference(informed.df, informed.vcov, informed.scale)
    return {rule: found[rule] for rule in rules}


def covariance_of_variances(plan: CrossPlan, block: CrossRows, fits: Fits, first: int, last: int) -> Array:
    """Covariance (R, k(k+1)/2), by pairs, of the variance components (k = q(q+1)/2 + 1: those of `Fits.varcomp`, sigma2), from
    the expected information; nan where it is singular."""
    assert last - first == len(fits.status), "fits are those of the replicates"
    return _inform(plan, block, fits, first, Hypotheses.of(fits.beta.shape[1]), ["variances"]).varcov


def _rows(plan: CrossPlan, block: CrossRows, first: int, last: int) -> Array:
    """The rows of each replicate."""
    if block.kept is None:
        return np.full(last - first, float(plan.design.rows))
    found: Array = block.kept[:, first:last].sum(axis=0).astype(float)
    return found


def _refitted(plan: CrossPlan, block: CrossRows, fits: Fits, first: int, hypotheses: Hypotheses, df: Array) -> None:
    """Replace the df of singular fits by those of the model without the random columns that vanished, see `refit_df`."""
    method = plan.method

    def gone(r: int, columns: tuple[int, ...], varcomp: Array) -> set[int]:
        there = slice(None) if block.kept is None else block.kept[:, first + r]
        scale = []
        for c in columns:
            z = block.column(method.columns[c], first + r)[there]
            levels = len(np.unique(block.codes_of(plan.design, method.factor_of[c], first + r)[there]))
            scale.append(np.sqrt(z @ z / levels))
        return vanished(columns, method.blocks[list(columns)], varcomp, np.array(scale))

    def again(kept: tuple[int, ...], members: list[int]) -> tuple[Fits, Array]:
        smaller, part = plan.without(kept), block.take([first + r for r in members])
        found = fit(smaller, part, 0, len(members))
        return found, _inform(smaller, part, found, 0, hypotheses, ["satterthwaite"]).satterthwaite

    def ordinary(members: list[int]) -> Array:
        m = _rows(plan, block, first, first + len(df))[members] - (len(method.fixed) if method.reml else 0)
        return np.repeat(m[:, None], df.shape[1], axis=1)

    refit_df(fits, method.q, df, gone, again, ordinary)
