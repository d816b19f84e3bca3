"""From tables to conditions: every point of the grid is applied to the base, checked and frozen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .axes import axis_paths, setting
from .base import Base, read_base
from .checks import Checks, Levels, block_size, layout_of
from .covariance import (
    correlations,
    held_correlations,
    not_semidefinite,
    prior_of_correlation,
    true_covariance,
    variance_path,
)
from .grid import Grid, read_grid
from .least_squares import check_levels
from .model import Condition, FactorValue, Method, Predictor, Truth
from .prior import Prior
from .problems import Problem, Problems, show
from .tables import ContrastTable, DesignTable, MethodTable, PredictorTable, TruthTable
from .uncertain import steps

__all__ = ["Resolved", "resolve"]

Flat = dict[str, Any]
_MOST_PER_KEY = 3


@dataclass(frozen=True, slots=True)
class Resolved:
    """A study expanded: conditions in the order of the grid (last axis fastest), methods in the order of the file."""

    conditions: tuple[Condition, ...]
    methods: tuple[Method, ...]


def resolve(
    *,
    seed: int,
    design: DesignTable,
    truth: TruthTable,
    predictors: Mapping[str, PredictorTable],
    methods: Sequence[MethodTable],
    contrasts: Sequence[ContrastTable] = (),
    grid: Mapping[str, Any],
    prior: Mapping[str, Any],
    problems: Problems,
    expand: bool = True,
) -> Resolved | None:
    """Expand a study. Adds all that is wrong to `problems`; the result is None where no condition could be made.

    expand: False checks the file without its points, for a file of which a part could not be read.
    """
    base = read_base(design, truth, predictors, methods, problems, contrasts)
    if base is None:
        return None
    before = len(problems)
    axes = read_grid(grid, prior, base.given, problems)
    _check_required(base, axes, problems)
    _check_priors(base, axes, problems)
    check_levels(base.methods, sorted(axes.sets), problems)
    if not expand or len(problems) > before or not base.sound:
        return None
    return Resolved(_conditions(seed, base, axes, problems), base.methods)


def _check_required(base: Base, grid: Grid, problems: Problems) -> None:
    given = grid.sets.union(base.flat)
    for path in base.required:
        if path in given:
            continue
        table, _, word = path.rpartition(".")
        if table.startswith(("truth.fixed", "truth.random")):
            text = f"is missing: every term of {base.truth.text} needs a true value; add {word} = 0, or its value"
        elif path == "truth.residual_variance":
            text = "is missing: one of residual_variance and residual_sd is needed; add residual_variance = 1, say"
        else:
            example = {"clusters": "20", "cluster_size": "50", "level": "1", "distribution": '"normal"'}[word]
            text = f"is missing; add {word} = {example} to [{table}], or an axis of the grid"
        problems.add(path, text)


def _check_priors(base: Base, grid: Grid, problems: Problems) -> None:
    """No value has one prior in [truth] and another in [prior]; an axis takes the place of either's number or prior."""
    own = {path for name in base.priors for path in axis_paths(name, base.truth)}
    for name, prior in grid.priors.items():
        for path in own.intersection(grid.settings[name].paths):
            text = f"must be the only prior that sets {path}; remove it or the one in [truth]"
            problems.add_value(f"prior.{name}", prior.text, text)


def _conditions(seed: int, base: Base, grid: Grid, problems: Problems) -> tuple[Condition, ...]:
    build = _Builder(seed, base)
    own = [(axis, prior) for name, prior in base.priors.items() if (axis := setting(name, base.truth))]
    axes = grid.in_order()
    found: dict[Problem, list[Mapping[str, FactorValue]]] = {}
    conditions: dict[Condition, Condition] = {}
    repeated: list[tuple[Condition, Condition]] = []
    for point in grid.points():
        flat = dict(base.flat)
        given = [(each, grid.priors[name] if name in grid.priors else point[name]) for name, each in axes]
        for each, value in given:
            each.apply(flat, value.mean if isinstance(value, Prior) else value)
        drawn = steps([*own, *given])
        factors = grid.factors(point)
        trouble = build.problems(flat, drawn)
        for problem in trouble:
            found.setdefault(problem, []).append(factors)
        if trouble:
            continue
        condition = build.condition(flat, factors, drawn)
        same = conditions.setdefault(condition, condition)
        if same is not condition:
            repeated.append((same, condition))
    _report_points(found, len(grid), problems)
    _check_repeated(repeated, problems)
    return tuple(conditions)


def _report_points(
    found: Mapping[Problem, Sequence[Mapping[str, FactorValue]]], points: int, problems: Problems
) -> None:
    """The problems of the grid's points, with where they are; at most _MOST_PER_KEY of one key."""
    counts: Counter[str] = Counter()
    for problem, places in found.items():
        counts[problem.key] += 1
        if counts[problem.key] <= _MOST_PER_KEY:
            problems.extend([_located(problem, places, points)])
    for key, count in counts.items():
        if count > _MOST_PER_KEY:
            others = count - _MOST_PER_KEY
            problems.add(key, f"has the same trouble in other conditions ({others} more); correct the grid or the file")


def _check_repeated(repeated: Sequence[tuple[Condition, Condition]], problems: Problems) -> None:
    """Points of one truth, such as two correlations with a variance of 0: their replicates would be the same."""
    if repeated:
        first, second = (_places(condition.factors) for condition in repeated[0])
        pairs = f"; {len(repeated)} such pairs" if len(repeated) > 1 else ""
        text = f"has the same truth at {first} and at {second}{pairs}: all conditions must be different"
        problems.add("grid", f"{text}; keep one of each pair, by [[grid.cases]]")


def _located(problem: Problem, places: Sequence[Mapping[str, FactorValue]], points: int) -> Problem:
    """The problem with the conditions that have it, where not all have."""
    if len(places) == points:
        return problem
    more = f", and {len(places) - 1} more conditions" if len(places) > 1 else ""
    return Problem(problem.key, f"{problem.line} (at {_places(places[0])}{more})")


def _places(factors: Mapping[str, FactorValue]) -> str:
    return ", ".join(f"{name} = {show(value)}" for name, value in factors.items())


class _Builder:
    """Checks and freezes the flat values of one condition."""

    def __init__(self, seed: int, base: Base) -> None:
        self.seed = seed
        self.base = base
        self.checks = Checks(base.truth, base.methods)
        self.fixed = [f"truth.fixed.{term}" for term in base.truth.fixed]
        self.variances = [variance_path(base.truth, column) for column in base.truth.random_columns]

    def levels(self, flat: Flat) -> Levels:
        names = self.base.given.predictors
        return tuple((n, flat[f"predictors.{n}.level"], flat[f"predictors.{n}.distribution"]) for n in names)

    def problems(self, flat: Flat, drawn: Sequence[tuple[str, Prior | float]]) -> tuple[Problem, ...]:
        levels = self.levels(flat)
        found = Problems()
        found.extend(self.checks.structure(levels).problems)
        found.extend(self.checks.layout(flat["design.clusters"], flat["design.cluster_size"], levels))
        found.extend(_predictor_problems(flat, levels))
        truth = self.base.truth
        if text := not_semidefinite(truth, flat):
            found.add_value(f"truth.random.{truth.group}.correlation", correlations(truth, flat), text)
        for name, value in drawn:
            if isinstance(value, Prior) and (text := prior_of_correlation(truth, name)):
                found.add_value(name, value.text, text)
        for path in self.variances:
            if not math.isfinite(flat[path]):
                found.add_number(path, flat[path], "must be a finite number >= 0; lower the ratio or the variance")
        return tuple(found)

    def condition(
        self, flat: Flat, factors: Mapping[str, FactorValue], drawn: tuple[tuple[str, Prior | float], ...]
    ) -> Condition:
        truth, levels = self.base.truth, self.levels(flat)
        structure = self.checks.structure(levels)
        layout = layout_of(flat["design.clusters"], flat["design.cluster_size"])
        return Condition(
            factors=factors,
            seed=self.seed,
            layout=layout,
            truth=Truth(
                formula=truth,
                fixed=tuple(flat[path] for path in self.fixed),
                covariance=true_covariance(truth, flat),
                residual_variance=flat["truth.residual_variance"],
            ),
            predictors=tuple(_predictor(flat, name) for name in self.base.given.predictors),
            path=structure.path,
            block_size=block_size(layout.clusters, structure.level_1),
            held=held_correlations(truth, flat),
            priors=drawn,
        )


@lru_cache(maxsize=4096)
def _made(name: str, level: Any, distribution: Any, mean: float | None, sd: float | None, redraw: bool) -> Predictor:
    if distribution == "balanced":
        return Predictor(name, level, distribution, redraw=False)
    return Predictor(name, level, distribution, 0.0 if mean is None else mean, 1.0 if sd is None else sd, redraw)


def _predictor(flat: Flat, name: str) -> Predictor:
    key = f"predictors.{name}."
    mean, sd, redraw = flat.get(key + "mean"), flat.get(key + "sd"), flat.get(key + "redraw", True)
    return _made(name, flat[key + "level"], flat[key + "distribution"], mean, sd, redraw)


def _predictor_problems(flat: Flat, levels: Levels) -> Problems:
    problems = Problems()
    for name, _, distribution in levels:
        if distribution != "balanced":
            continue
        for word in ("mean", "sd"):
            key = f"predictors.{name}.{word}"
            if key in flat:
                text = (
                    'must be absent for a balanced predictor, which is 0/1; remove it or write distribution = "normal"'
                )
                problems.add_number(key, flat[key], text)
        if flat.get(f"predictors.{name}.redraw"):
            text = "must be false or absent for a balanced predictor, the same in every replicate; remove it"
            problems.add_value(f"predictors.{name}.redraw", True, text)
    return problems
