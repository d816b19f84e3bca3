"""Profile and bootstrap intervals, and bootstrap tests, with several grouping factors: one replicate after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...spec.estimand import ICC, RESIDUAL, Estimand
from ...spec.model import INTERCEPT, Formula
from ..cross import CrossPlan, CrossRows
from ..cross.one_by_one import OneReplicate
from ..profile import profile_parameters
from ..several.bootstrap import bootstrap_fit, bootstrap_lrt
from ..several.model import PlainModel, SeveralModel, fit_factors
from ..several.profile import by_criterion, profile_fit
from ..status import Status

__all__ = ["Limits", "ReplicateModel", "bootstrap_p", "percentiles", "profiles", "replicate_models"]

Array = NDArray[np.float64]
#: (lower, upper), (R) each, by the names of estimands.
Limits = dict[str, tuple[Array, Array]]


@dataclass(frozen=True)
class ReplicateModel:
    """The fit of one replicate. ols (p): what the least-squares fit found, beside which the model's beta is; order (q): the place
    in the formula of each random column of the model."""

    model: SeveralModel
    ols: Array
    order: tuple[int, ...]


def replicate_models(plan: CrossPlan, block: CrossRows) -> Iterator[ReplicateModel | None]:
    """The model of each replicate; None where there is no optimum."""
    for r in range(block.replicates):
        rows = OneReplicate(plan, block, r)
        found = None
        if rows.failure is None:
            model = fit_factors(rows.factors, rows.X, rows.y, reml=plan.method.reml)
            if model.optimum.status <= Status.singular:
                ols = np.asarray(np.linalg.lstsq(rows.X, rows.y, rcond=None)[0], dtype=float)
                found = ReplicateModel(model, ols, tuple(rows.order))
        yield found


def _estimand(formula: Formula, kind: str, a: int, b: int, order: tuple[int, ...]) -> Estimand:
    """Of the random columns a and b of a model."""
    if kind in ("sigma", "residual"):
        return RESIDUAL
    places = [formula.places[k] for k in sorted({order[a], order[b]})]
    return Estimand(
        "var" if kind == "sd" else kind,  # type: ignore[arg-type]
        places[0][0],
        tuple(column for _, column in places),
    )


def profiles(
    formula: Formula, models: list[ReplicateModel | None], *, level: float, reml: bool, fixed: bool, variances: bool
) -> Limits:
    """Limits of the ML deviance, or of the restricted criterion; nan where there are none. fixed, variances: what is wanted."""
    found: Limits = {}

    def room(name: str) -> tuple[Array, Array]:
        return found.setdefault(name, (np.full(len(models), np.nan), np.full(len(models), np.nan)))

    p = len(formula.fixed)
    for r, each in enumerate(models):
        if each is None:
            continue
        model = by_criterion(each.model, reml=reml)
        parameters = profile_parameters(model.products.blocks.tolist()) if variances else []
        limits = profile_fit(
            model, level=level, parameters=parameters, contrasts=list(np.eye(p)) if fixed else [], starts=0
        )
        for i, (kind, a, b) in enumerate(parameters):
            ends = room(_estimand(formula, kind, a, b, each.order).name)
            power = 1 if kind == "cor" else 2
            ends[0][r], ends[1][r] = limits.lower[0, i] ** power, limits.upper[0, i] ** power
        for k in range(p if fixed else 0):
            ends = room(formula.fixed[k])
            i = len(parameters) + k
            ends[0][r], ends[1][r] = limits.lower[0, i] + each.ols[k], limits.upper[0, i] + each.ols[k]
    return found


def percentiles(
    formula: Formula, models: list[ReplicateModel | None], *, level: float, draws: int, streams: Iterator[Generator]
) -> Limits:
    """Percentile limits of all that the formula estimates, by a parametric bootstrap of each fit."""
    found: Limits = {}
    for r, (each, generator) in enumerate(zip(models, streams, strict=False)):
        if each is None:
            continue
        drawn = bootstrap_fit(each.model, draws=draws, generator=generator)
        values = {term: drawn.beta[:, k] + each.ols[k] for k, term in enumerate(formula.fixed)}
        values |= _variance_draws(formula, drawn.varcomp, drawn.sigma2, each.order)
        for name, own in values.items():
            ends = found.setdefault(name, (np.full(len(models), np.nan), np.full(len(models), np.nan)))
            ends[0][r], ends[1][r] = drawn.limits(own, level)
    return found


def _variance_draws(
    formula: Formula, varcomp: tuple[Array, ...], sigma2: Array, order: tuple[int, ...]
) -> Mapping[str, Array]:
    values, first, intercepts = {RESIDUAL.name: sigma2}, 0, dict[str, Array]()
    with np.errstate(invalid="ignore", divide="ignore"):
        for own in varcomp:
            for a in range(own.shape[1]):
                variance = _estimand(formula, "var", first + a, first + a, order)
                values[variance.name] = own[:, a, a]
                if variance.columns == (INTERCEPT,):
                    intercepts[variance.group] = own[:, a, a]
                for b in range(a):
                    covariance = _estimand(formula, "cov", first + a, first + b, order)
                    scale = np.sqrt(own[:, a, a] * own[:, b, b])
                    values[covariance.name] = own[:, a, b]
                    values[covariance.of("cor").name] = np.where(
                        scale > 0, np.clip(own[:, a, b] / scale, -1.0, 1.0), np.nan
                    )
            first += own.shape[1]
        whole: Any = sigma2 + sum(intercepts.values())
        for group, own_variance in intercepts.items():
            name = Estimand("icc", group).name if formula.factors else ICC.name
            values[name] = own_variance / whole
    return values


def bootstrap_p(
    full: list[ReplicateModel | None],
    null: list[ReplicateModel | PlainModel | None],
    *,
    draws: int,
    streams: Iterator[Generator],
) -> Array:
    """P values (R) of the bootstrap test of the null models within the full ones; nan where there is no optimum."""
    found = np.full(len(full), np.nan)
    for r, (larger, smaller, generator) in enumerate(zip(full, null, streams, strict=False)):
        if larger is not None and smaller is not None:
            before = smaller if isinstance(smaller, PlainModel) else smaller.model
            found[r] = bootstrap_lrt(before, larger.model, draws=draws, generator=generator).p
    return found
