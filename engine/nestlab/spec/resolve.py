"""From tables to conditions: every point of the grid is applied to the base, checked and frozen."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .association import Correlations, read_correlations
from .axes import OUTCOME, OUTCOME_KEYS, axis_paths, outcome_sets, setting
from .base import Base, read_base
from .checks import Checks
from .covariance import (
    correlations,
    held_correlations,
    not_semidefinite,
    prior_of_correlation,
    true_covariance,
    variance_paths,
)
from .derived import Derived
from .effects import converted, take_stated
from .family_keys import check_axes
from .grid import Grid, read_grid
from .inference import check_known_variances, check_levels
from .missing import read_missing
from .model import (
    INTERCEPT,
    NORMAL,
    Condition,
    Distribution,
    Errors,
    FactorValue,
    Layout,
    Method,
    Missing,
    Predictor,
    Structure,
    Truth,
)
from .outcome import predictors_of
from .outcome_inputs import refused_beside, take_outcome
from .paths import block_size, is_plain, path_of
from .predictors.reading import check_blocks, read_predictor
from .prior import Prior
from .problems import Made, Problem, Problems, nearest, show
from .several import rows_of, several_block
from .shapes import ERRORS, read_effects, read_errors
from .sizes import read_layout
from .structure import factors_of, read_structure
from .uncertain import steps

if TYPE_CHECKING:
    from .study import StudyFile

__all__ = ["Resolved", "report_points", "resolve"]

Flat = dict[str, Any]
Shapes = dict[str, Distribution]
_MOST_PER_KEY = 3


@dataclass(frozen=True, slots=True)
class Resolved:
    """A study expanded: conditions in the order of the grid (last axis fastest), methods in the order of the file."""

    conditions: tuple[Condition, ...]
    methods: tuple[Method, ...]


def resolve(study: StudyFile, problems: Problems, *, expand: bool = True) -> Resolved | None:
    """Expand a study. Adds all that is wrong to `problems`; the result is None where no condition could be made.

    expand: False checks the file without its points, for a file of which a part could not be read.
    """
    base = read_base(study, problems)
    if base is None:
        return None
    before = len(problems)
    axes = read_grid(study.grid, study.prior, base.given, problems)
    given = axes.sets.union(base.flat)
    follows = _follows(base, given)
    for path in base.required:
        if path in given or (path.startswith("design.") and any(other.startswith(f"{path}.") for other in given)):
            continue
        if path in follows:
            continue
        table, _, word = path.rpartition(".")
        if table.startswith(("truth.fixed", "truth.random")):
            shown = word if re.fullmatch(r"[\w-]+", word) else f'"{word}"'
            text = f"is missing: every term of {base.truth.text} needs a true value; add {shown} = 0, or its value"
        elif path == "truth.residual_variance":
            text = "is missing: one of residual_variance and residual_sd is needed; add residual_variance = 1, say"
        else:
            examples = {"cluster_size": "50", "level": "1", "distribution": '"normal"', "number": "3", "rows": "10"}
            text = f"is missing; add {word} = {examples.get(word, '20')} to [{table}], or an axis of the grid"
        problems.add(path, text)
    _check_priors(base, axes, problems)
    _check_outcome(base, axes, problems)
    check_axes(base.truth.family, axes.settings, base.flat, problems)
    check_levels(base.methods, sorted(axes.sets), problems)
    if not expand or len(problems) > before or not base.sound:
        return None
    return Resolved(_conditions(study.seed, base, axes, problems), base.methods)


def _follows(base: Base, given: Collection[str]) -> set[str]:
    """What may be missing, as it follows from [truth.outcome]."""
    truth, asked = base.truth, [key for key in OUTCOME_KEYS if f"{OUTCOME}.{key}" in given]
    found = {path for key in asked for path in outcome_sets(key, truth)}
    if {"r2_within", "r2_between"} & set(asked):
        found |= {f"truth.fixed.{term}" for term in truth.fixed if term != INTERCEPT}
    return found


def _check_outcome(base: Base, grid: Grid, problems: Problems) -> None:
    """Nothing else sets, or reads, what [truth.outcome] gives; its arms are predictors of the formula."""
    truth = base.truth
    used = {name for term in truth.fixed for name in predictors_of(term)}
    for name in base.flat.get(f"{OUTCOME}.arm", ()):
        if name not in used:
            text = f"must name predictors of {truth.text}; {nearest(name, sorted(used))}"
            problems.add_value(f"{OUTCOME}.arm", name, text)
    for key in OUTCOME_KEYS:
        path, sets = f"{OUTCOME}.{key}", outcome_sets(key, truth)
        if path not in base.flat and path not in grid.sets:
            continue
        if key == "icc" and not sets:
            text = (
                f"needs a random intercept, which {truth.text} has not; write (1 + ... | {truth.group}), or remove it"
            )
            problems.add(path, text)
        if path in base.flat and path not in grid.sets:
            for other in sorted(set(sets) & set(base.flat)):
                problems.add_number(other, base.flat[other], refused_beside(key, truth))
        for name, found in grid.settings.items():
            if not found.name.startswith(f"{OUTCOME}.") and set(sets) & {*found.paths, *found.reads}:
                problems.add(f"{'prior' if name in grid.priors else 'grid'}.{name}", refused_beside(key, truth))


def _check_priors(base: Base, grid: Grid, problems: Problems) -> None:
    """No value has one prior in [truth] and another in [prior]; an axis takes the place of either's number or prior."""
    own = {path for name in base.priors for path in axis_paths(name, base.truth)}
    for name, prior in grid.priors.items():
        for path in own.intersection(grid.settings[name].paths):
            text = f"must be the only prior that sets {path}; remove it or the one in [truth]"
            problems.add_value(f"prior.{name}", prior.text, text)
    drawn = [*own, *(path for name in grid.priors for path in grid.settings[name].paths)]
    check_known_variances(base.methods, drawn, problems)


def _conditions(seed: int, base: Base, grid: Grid, problems: Problems) -> tuple[Condition, ...]:
    build = _Builder(seed, base, grid.sets)
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
        stated, inputs = take_stated(flat, base.truth.fixed), take_outcome(flat, base.truth)
        parts = build.parts(flat)
        trouble = parts if isinstance(parts, tuple) else build.problems(flat, drawn, parts)
        condition = None
        if not trouble and not isinstance(parts, tuple):
            condition, trouble = converted(build.condition(flat, factors, drawn, parts), stated, inputs)
        for problem in trouble:
            found.setdefault(problem, []).append(factors)
        if condition is None or trouble:
            continue
        same = conditions.setdefault(condition, condition)
        if same is not condition:
            repeated.append((same, condition))
    report_points(found, len(grid), problems)
    if repeated:  # such as two correlations with a variance of 0: their replicates would be the same
        first, second = (_places(condition.factors) for condition in repeated[0])
        pairs = f"; {len(repeated)} such pairs" if len(repeated) > 1 else ""
        text = f"has the same truth at {first} and at {second}{pairs}: all conditions must be different"
        problems.add("grid", f"{text}; keep one of each pair, by [[grid.cases]]")
    return tuple(conditions)


def report_points(
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


def _located(problem: Problem, places: Sequence[Mapping[str, FactorValue]], points: int) -> Problem:
    """The problem with the conditions that have it, where not all have."""
    if len(places) == points:
        return problem
    more = f", and {len(places) - 1} more conditions" if len(places) > 1 else ""
    return Problem(problem.key, f"{problem.line} (at {_places(places[0])}{more})")


def _places(factors: Mapping[str, FactorValue]) -> str:
    return ", ".join(f"{name} = {show(value)}" for name, value in factors.items())


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What one condition is made of beside its true values."""

    predictors: tuple[Predictor, ...]
    layout: Layout
    correlations: Correlations
    errors: Errors
    effects: Shapes
    missing: Missing | None
    made: Derived
    structure: Structure | None


class _Builder:
    """Checks and freezes the flat values of one condition. sets: the keys that axes set."""

    def __init__(self, seed: int, base: Base, sets: frozenset[str]) -> None:
        self.seed = seed
        self.base = base
        self.sets = sets
        self.checks = Checks(base.truth, base.methods)
        self.fixed = [f"truth.fixed.{term}" for term in base.truth.fixed]
        self.variances = variance_paths(base.truth)
        tables = [part.random_table for part in base.truth.parts]
        true = (
            "truth.fixed.",
            "truth.residual_",
            *(f"{t}.{word}." for t in tables for word in ("variance", "correlation")),
        )
        self.others = sorted(path for path in sets.union(base.flat) if not path.startswith(true))
        self._parts: dict[tuple[Any, ...], _Surroundings | tuple[Problem, ...]] = {}

    def parts(self, flat: Flat) -> _Surroundings | tuple[Problem, ...]:
        """The parts of a condition, or what is wrong with them."""
        key = tuple([flat.get(path) for path in self.others])
        if key not in self._parts:
            self._parts[key] = self._made(flat)
        return self._parts[key]

    def _made(self, flat: Flat) -> _Surroundings | tuple[Problem, ...]:
        problems, structure_given = Problems(), None
        if self.base.truth.factors:
            divided = read_structure(flat, factors_of(self.base.truth))
            if divided.value is None:
                return divided.problems
            structure_given = divided.value
        made = [
            read_predictor(flat, name, varies=f"predictors.{name}.distribution" in self.sets, structure=structure_given)
            for name in self.base.given.predictors
        ]
        for each in made:
            problems.extend(each.problems)
        predictors = tuple(each.value for each in made if each.value is not None)
        problems.extend(self._other_columns(predictors))
        problems.extend(() if problems else check_blocks(predictors))
        if problems:
            return tuple(problems)
        columns = tuple(column for predictor in predictors for column in predictor.columns)
        if structure_given is None:
            layout = read_layout(flat, [p for p in predictors if p.arms])
        else:
            layout = Made(Layout((rows_of(structure_given),)))
        errors = read_errors(flat, columns, varies=f"{ERRORS}.distribution" in self.sets)
        effects = self._effects(flat)
        missing = read_missing(flat, columns)
        correlations = read_correlations(flat, predictors)
        for found in (layout, errors, effects, missing, correlations):
            problems.extend(found.problems)
        if problems or layout.value is None or errors.value is None or effects.value is None:
            return tuple(problems)
        structure = self.checks.structure(
            predictors, errors.value, missing.value, structure_given, correlations.value or ()
        )
        if structure.problems:
            return structure.problems
        return _Surroundings(
            predictors, layout.value, correlations.value or (), errors.value, effects.value, missing.value, structure,
            structure_given,
        )  # fmt: skip

    def _effects(self, flat: Flat) -> Made[Shapes]:
        """The distributions of the random effects, by grouping factor."""
        found, problems = dict[str, Distribution](), Problems()
        for part in self.base.truth.parts:
            table = part.random_table
            one = read_effects(flat, table, varies=f"{table}.distribution" in self.sets)
            problems.extend(one.problems)
            found[part.group] = one.value or NORMAL
        return Made(None if problems else found, tuple(problems))

    def _other_columns(self, predictors: Sequence[Predictor]) -> Problems:
        """Factors whose columns are not those that the formulas name."""
        problems = Problems()
        for predictor in predictors:
            named = self.base.given.factors.get(predictor.name, (predictor.name,))
            if predictor.columns != named:
                text = (
                    f"must give the columns {', '.join(named)} in all conditions, and gives {', '.join(predictor.columns)} here; "
                    "keep categories and periods, or run two studies"
                )
                problems.add_value(f"predictors.{predictor.name}.distribution", predictor.distribution, text)
        return problems

    def problems(
        self, flat: Flat, drawn: Sequence[tuple[str, Prior | float]], parts: _Surroundings
    ) -> tuple[Problem, ...]:
        found = Problems()
        found.extend(self.checks.layout(parts.layout, parts.predictors, parts.structure))
        for truth in self.base.truth.parts:
            if text := not_semidefinite(truth, flat):
                found.add_value(f"{truth.random_table}.correlation", correlations(truth, flat), text)
            for name, value in drawn:
                if isinstance(value, Prior) and (text := prior_of_correlation(truth, name)):
                    found.add_value(name, value.text, text)
        for path in self.variances:
            if not math.isfinite(flat[path]):
                found.add_number(path, flat[path], "must be a finite number >= 0; lower the ratio or the variance")
        return tuple(found)

    def condition(
        self,
        flat: Flat,
        factors: Mapping[str, FactorValue],
        drawn: tuple[tuple[str, Prior | float], ...],
        parts: _Surroundings,
    ) -> Condition:
        truth, made, layout, structure = self.base.truth, parts.made, parts.layout, parts.structure
        shapes = tuple((group, shape) for group, shape in parts.effects.items() if shape != NORMAL)
        one, path = parts.effects.get(truth.group, NORMAL), path_of(made.reasons, structure)
        if structure is None:
            size = block_size(layout.clusters, made.level_1)
        else:
            size = several_block(structure, made.level_1, strata=path == "strata")
        condition = Condition(
            factors=factors,
            seed=self.seed,
            layout=layout,
            truth=Truth(
                formula=truth,
                fixed=tuple(flat[path] for path in self.fixed),
                covariance=true_covariance(truth, flat),
                residual_variance=flat["truth.residual_variance"],
                errors=parts.errors,
                random=NORMAL if structure is not None else one,
                shapes=shapes if structure is not None else (),
                trials=flat.get("truth.trials", 1),
                exposure=flat.get("truth.exposure", 1.0),
            ),
            predictors=parts.predictors,
            path=path,
            block_size=size,
            structure=structure,
            held=held_correlations(truth, flat),
            priors=drawn,
            correlations=parts.correlations,
            missing=parts.missing,
        )
        if structure is not None or condition.path == "moments" or is_plain(condition):
            return condition
        size = block_size(layout.clusters, made.level_1 + made.made, rows=layout.rows)
        return replace(condition, block_size=size)
