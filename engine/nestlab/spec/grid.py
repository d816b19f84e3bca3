"""The grid of a study: its axes, explicit cases, and their full factorial."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .axes import Setting, layout_axes, number_axes, setting
from .covariance import correlation_paths, variance_paths
from .formula import formula_text
from .keys import AXES, KEYS, STUDY, find_key
from .model import INTERCEPT, FactorValue, Formula
from .prior import Prior, looks_like_prior
from .problems import Problems, close_path, nearest, show
from .stated import UNITS

__all__ = ["MOST_CONDITIONS", "Given", "Grid", "raw_points", "read_grid"]

MOST_CONDITIONS = 100_000

# What says what the study is, not what a condition is.
_NO_AXES = [name for name, key in STUDY.below.items() if not key.axis and not (key.below and key.part == "data")]
#: Keys of a predictor that are proposed for an axis that names none.
_FIRST_KEYS = ("level", "distribution", "mean", "sd", "redraw")

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """What the study file gives that decides which axes it may have.

    scales: by grouping factor, "variance", "sd" or "covariance" of the random effects; residual: "residual_variance" or
    "residual_sd"; "" where the file gives none. paths: of all values that it gives; factors: the columns of predictors with
    categories.
    """

    truth: Formula
    predictors: tuple[str, ...]
    scales: Mapping[str, str]
    residual: str
    paths: tuple[str, ...] = ()
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grid:
    """Axes in the order of the file.

    Each dimension lists points {axis: value}: a plain axis is one dimension, all cases together are one. listed: the
    axes that have a list or a prior among their values. sets: all keys that an axis names, refused axes included. priors: of
    [prior], which act like axes of one level and are no factors.
    """

    settings: Mapping[str, Setting]
    priors: Mapping[str, Prior]
    sets: frozenset[str]
    listed: frozenset[str]
    dimensions: tuple[tuple[Point, ...], ...]

    def points(self) -> Iterator[Point]:
        """The full factorial, the last dimension fastest."""
        return _product(self.dimensions)

    def __len__(self) -> int:
        return math.prod(map(len, self.dimensions))

    def factors(self, point: Point) -> dict[str, FactorValue]:
        """A point for people and tables: the levels of an axis that has a list or a prior among them become text."""
        return {name: _level_text(value) if name in self.listed else value for name, value in point.items()}

    def in_order(self) -> list[tuple[str, Setting]]:
        """The axes in the order in which they are applied."""
        return sorted(self.settings.items(), key=lambda item: item[1].rank)


def _level_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return json.dumps(int(value))
    return value.text if isinstance(value, Prior) else json.dumps(value)


def read_grid(raw: Mapping[str, Any], prior: Mapping[str, Any], given: Given, problems: Problems) -> Grid:
    """The grid of a study file's [grid] and [prior]. Adds all that is wrong with them to `problems`."""
    reader = _Reader(given, problems)
    dimensions: list[tuple[Point, ...]] = []
    for key, value in raw.items():
        if key == "cases":
            dimensions.append(reader.cases(value))
        else:
            dimensions.extend(reader.axis(name, levels) for name, levels in _leaves({key: value}))
    dimensions = [dimension for dimension in dimensions if dimension]
    points = [point for dimension in dimensions for point in dimension]
    listed = frozenset(name for point in points for name, value in point.items() if isinstance(value, tuple | Prior))
    priors = reader.priors(prior)
    grid = Grid(reader.settings, priors, frozenset(reader.sets), listed, tuple(dimensions))
    if len(grid) > MOST_CONDITIONS:
        problems.add("grid", f"has {len(grid)} conditions: at most {MOST_CONDITIONS} are possible; split the study")
    return grid


def raw_points(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of a study file's [grid] as {axis: value}, values as in the file; one empty point where there is no grid.

    >>> raw_points({"icc": [0.1, 0.2], "cases": [{"clusters": 8}]})
    [{'icc': 0.1, 'clusters': 8}, {'icc': 0.2, 'clusters': 8}]
    """
    dimensions: list[list[dict[str, Any]]] = []
    for key, value in raw.items():
        if key == "cases":
            dimensions.append([dict(_leaves(case)) for case in value])
        else:
            dimensions.extend([{name: level} for level in levels] for name, levels in _leaves({key: value}))
    return list(_product(dimensions))


def _product(dimensions: Iterable[Sequence[Point]]) -> Iterator[Point]:
    for combination in itertools.product(*dimensions):
        yield {name: value for point in combination for name, value in point.items()}


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) for all that is not a table; an empty table is a leaf, and so is a prior."""
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not _is_value(path, value):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _is_value(path: str, table: Mapping[str, Any]) -> bool:
    """Whether a table is a prior of the value at `path` rather than a table of paths below it."""
    key = find_key(path.split("."))
    of_sizes = path.startswith("design.cluster_size") and table.get("distribution") in ("normal", "beta", "pilot")
    below = key is not None and bool(key.below) and not key.takes_prior and not of_sizes
    by_factor = all(isinstance(value, list | Mapping) for value in table.values())  # icc.school = [0.1, 0.2]
    return (path in AXES and not by_factor) or (not below and looks_like_prior(table))


class _Reader:
    """Reads axes and cases, remembering who sets which key."""

    def __init__(self, given: Given, problems: Problems) -> None:
        self.given = given
        self.problems = problems
        self.settings: dict[str, Setting] = {}
        self.owner: dict[str, str] = {}
        self.sets: set[str] = set()

    def axis(self, name: str, raw: object) -> tuple[Point, ...]:
        key = f"grid.{name}"
        claimed = None if raw == {} else self.claim(name, raw, key)
        if not isinstance(raw, list) or not raw:
            repair = f"write [{show(raw)}]" if not isinstance(raw, list | Mapping) else "list values or remove it"
            if isinstance(raw, Mapping) and looks_like_prior(raw):
                repair = "write [ ] around it, or move it to [prior]"
            self.problems.add_value(key, raw, f"must be a list of at least one value; {repair}")
            return ()
        if claimed is None:
            return ()
        levels: list[Any] = []
        for value in raw:
            try:
                level = claimed.key.check(value)
            except ValueError as refused:
                self.problems.add_value(key, value, f"every value {refused}")
                continue
            if level in levels:
                self.problems.add_value(key, raw, f"must have every value once; remove the second {show(value)}")
            levels.append(level)
        return tuple({name: level} for level in levels)

    def cases(self, raw: object) -> tuple[Point, ...]:
        key = "grid.cases"
        if not isinstance(raw, list) or not raw or not all(isinstance(case, Mapping) for case in raw):
            self.problems.add_value(key, raw, "must be a list of at least one table; write [[grid.cases]] before each")
            return ()
        tables = [dict(_leaves(case)) for case in raw]
        names = list(tables[0])
        for name in names:
            self.claim(name, tables[0][name], f"{key}.1.{name}")
        points: list[Point] = []
        for number, table in enumerate(tables, start=1):
            here = f"{key}.{number}"
            if not table or set(table) != set(names):
                need = f"the same axes, at least one; make all like the first: {', '.join(names) or 'give it an axis'}"
                self.problems.add_value(here, raw[number - 1], f"all cases must name {need}")
                continue
            point = {name: self.case_value(name, table[name], f"{here}.{name}") for name in names}
            if point in points:
                repeats = points.index(point) + 1
                self.problems.add_value(
                    here, raw[number - 1], f"must be there once; it repeats case {repeats}: remove it"
                )
            points.append(point)
        return tuple(points)

    def case_value(self, name: str, raw: object, key: str) -> Any:
        found = self.settings.get(name)
        if found is None:
            return raw
        try:
            return found.key.check(raw)
        except ValueError as refused:
            self.problems.add_value(key, raw, str(refused))
            return raw

    def priors(self, tables: Mapping[str, Any]) -> dict[str, Prior]:
        found: dict[str, Prior] = {}
        for name, raw in _leaves(tables):
            key = f"prior.{name}"
            claimed = self.claim(name, raw, key, kind="prior")
            if claimed is None:
                continue
            try:
                found[name] = claimed.key.check_prior(raw)
            except ValueError as refused:
                self.problems.add_value(key, raw, str(refused))
        return found

    def claim(self, name: str, raw: object, key: str, kind: str = "axis") -> Setting | None:
        """The axis's or prior's setting, if it names something that no other one sets."""
        found = setting(name, self.given.truth)
        self.sets.update(found.paths if found else ())
        refusal = _refusal(name, found, self.given)
        if found is None or refusal:
            self.problems.add_value(key, raw, refusal or "")
            guess = close_path(name, _known(self.given))
            meant = setting(guess, self.given.truth) if guess else None  # it is not missing then
            self.sets.update(meant.paths if meant else ())
            return None
        for path in found.paths:
            owner = self.owner.setdefault(path, f'{kind} "{name}"')
            if name in self.settings or owner != f'{kind} "{name}"':
                text = f"must be the only {kind} that sets {path}; remove it or the {owner}"
                self.problems.add_value(key, raw, text)
                return None
        self.settings[name] = found
        return found


def _refusal(name: str, found: Setting | None, given: Given) -> str | None:
    """Why the study cannot have this axis: what is allowed, and the repair."""
    first = name.partition(".")[0]
    if first in _NO_AXES:
        return f"{first} is the same in all conditions; remove it here, and run one study per {first} if you must"
    if name == "truth.formula":
        return "the formula is the same in all conditions; keep every term and vary its true value (0 removes it)"
    if name in AXES:
        return None if found else _short_refusal(name, given.truth)
    columns = {*given.predictors, *(c for cs in given.factors.values() for c in cs)}
    if found and first in ("correlation", "truth") and (unknown := sorted(_predictors_of(name) - columns)):
        return f"names {unknown[0]}, which is no predictor of the study; {nearest(unknown[0], sorted(columns))}"
    if found and not _predictors_of(name) <= columns:
        found = None
    if found is None:
        return f"names nothing that can vary; {_other_names(name, given)}"
    return _scale_refusal(name, given)


def _predictors_of(name: str) -> set[str]:
    """The predictors that an axis names outside formulas."""
    match name.split("."):
        case ["predictors", predictor, *_] | ["truth", "errors", "variance_ratio", predictor]:
            return {predictor}
        case ["correlation", pair]:
            return set(pair.split(":"))
    return set()


def _other_names(name: str, given: Given) -> str:
    known = _known(given)
    if guess := close_path(name, known):
        return f'did you mean "{guess}"?'
    table = name.rpartition(".")[0]
    beside = [other for other in known if table and other.rpartition(".")[0] == table]
    if beside:
        return f"use one of {', '.join(beside)}"
    short = ", ".join(word for word in AXES if word in known)
    return f"use {short} or a dotted path such as truth.fixed.{given.truth.fixed[-1]}"


def _short_refusal(name: str, truth: Formula) -> str:
    text = formula_text(truth)
    if truth.factors:
        if name == "icc":
            return (
                f"needs the factor that is meant; use one of {', '.join(f'icc.{group}' for group in truth.intercepts)}"
            )
        if name in ("clusters", "cluster_size"):
            return f"is for one grouping factor; use one of {', '.join(number_axes(truth).values())}"
        return (
            "is for one grouping factor; name the value by its dotted path, such as "
            + variance_paths(truth.parts[-1])[-1]
        )
    if name in ("icc", "variance_ratio"):
        return f"needs a random intercept, which {text} has not; write (1 + ... | {truth.group})"
    if name == "slope_variance_ratio":
        return f"needs a random intercept and one random slope, unlike {text}; name the variance by its dotted path"
    return f"needs an intercept and one slope in one random term, unlike {text}; write (1 + x | {truth.group})"


def _scale_refusal(name: str, given: Given) -> str | None:
    """An axis on a variance given as sd, or its reverse."""
    parts = name.split(".")
    if (
        parts[:2] == ["truth", "random"]
        and parts[3:4]
        and parts[3] not in ("variance", "sd", "covariance", "correlation")
    ):
        return None
    if parts[:2] in (["truth", "residual_variance"], ["truth", "residual_sd"]):
        if given.residual in ("", parts[1]):
            return None
        return f"the file gives truth.{given.residual}; name that, or give truth.{parts[1]} in the file"
    scale = given.scales.get(parts[2], "") if parts[:2] == ["truth", "random"] else ""
    if not scale:
        return None
    wanted, table = parts[3], f"truth.random.{parts[2]}"
    # A covariance is read as variances and correlations, so axes may name those.
    fits = {"variance": ("variance", "covariance"), "sd": ("sd",), "covariance": ("covariance",)}
    if wanted == "correlation" or scale in fits[wanted]:
        return None
    named = "variance" if scale == "covariance" else scale
    return f"the file gives {table}.{scale}; name {table}.{named}.<column>, or give {table}.{wanted} in the file"


def _known(given: Given) -> list[str]:
    """All axes that this study may have."""
    truth = given.truth
    known = [*AXES, *layout_axes(truth), f"truth.{given.residual or 'residual_variance'}"]
    known += [f"truth.fixed.{term}" for term in truth.fixed]
    units = ("d", "r2") if truth.family.gaussian else UNITS
    known += [f"truth.fixed.{term}.{unit}" for term in truth.fixed for unit in units if term != INTERCEPT]
    for part in truth.parts:
        paths = variance_paths(part)
        known += [p.replace(".variance.", ".sd.", 1) for p in paths] if given.scales.get(part.group) == "sd" else paths
    known += correlation_paths(truth).values()
    known += [f"predictors.{name}.{key}" for name in given.predictors for key in _FIRST_KEYS]
    named = [path for path, key in KEYS.items() if key.axis and "<" not in path]
    known += [path for path in named if path.count(".") > 1 or path.startswith("missing.")]
    known += [path for path in given.paths if path not in known and setting(path, truth)]
    return [name for name in known if name not in AXES or setting(name, truth)]
