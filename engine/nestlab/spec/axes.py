"""What a grid axis may name, short or as a dotted path, and what it sets.

An axis sets one value of the study, or several (`covariance`), under the keys that `identity.describe` gives a
condition. Short names are applied after dotted paths, in the order of SHORT_NAMES; with s2 the residual variance and t2
the intercept's,

    icc = t2 / (t2 + s2)    variance_ratio = t2 / s2    slope_variance_ratio = slope variance / t2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import PlainValidator

from . import values
from .association import correlation_key
from .covariance import (
    correlation_path,
    covariance_paths,
    covariance_problem,
    decompose,
    find_pair,
    pairs,
    variance_path,
)
from .formula import find_term
from .model import INTERCEPT, Formula
from .sizes import MOST_ARMS
from .stated import restated
from .tables import (
    AtRandomTable,
    ErrorsTable,
    KeyTable,
    MissingTable,
    OutcomeTable,
    PredictorTable,
    ShapeTable,
    SizesTable,
    WeibullTable,
)
from .values import Kind

__all__ = [
    "FIRST_KEYS",
    "OTHER_KINDS",
    "OUTCOME",
    "OUTCOME_KINDS",
    "PREDICTOR_KINDS",
    "SHORT_NAMES",
    "SIZE_KINDS",
    "Setting",
    "axis_paths",
    "outcome_sets",
    "setting",
]

SHORT_NAMES = ("clusters", "cluster_size", "icc", "variance_ratio", "slope_variance_ratio", "slope_correlation")

SIZE_KINDS = {"clusters": values.CLUSTERS, "cluster_size": values.CLUSTER_SIZE}

#: Keys that every predictor may have.
FIRST_KEYS = ("level", "distribution", "mean", "sd", "redraw")


def _kinds(table: type[KeyTable], *left_out: str) -> dict[str, Kind]:
    """The kinds of a table's values by key, but those that no axis sets."""
    found: dict[str, Kind] = {}
    for key, field in table.model_fields.items():
        beside = (note for kind in get_args(field.annotation) for note in getattr(kind, "__metadata__", ()))
        checks = [note.func for note in (*field.metadata, *beside) if isinstance(note, PlainValidator)]
        if key not in left_out and checks and isinstance(kind := getattr(checks[0], "__self__", None), Kind):
            found[key] = kind
    return found


_OF_FILES = ("file", "column", "source")
PREDICTOR_KINDS = _kinds(PredictorTable, *_OF_FILES, "categories", "coding")
SIZES_KINDS = _kinds(SizesTable, *_OF_FILES)
EFFECT_KINDS = _kinds(ShapeTable)
OUTCOME_KINDS = _kinds(OutcomeTable, "arm")
#: The table of the outcome within arms, from which a condition's variances follow.
OUTCOME = "truth.outcome"
#: Axes whose last word is a plain key, by their tables.
OTHER_KINDS: dict[str, dict[str, Kind]] = {
    "design.cluster_size": SIZES_KINDS,
    "truth.errors": _kinds(ErrorsTable),
    OUTCOME: OUTCOME_KINDS,
    "missing": _kinds(MissingTable),
    "missing.weibull": _kinds(WeibullTable),
    "missing.at_random": _kinds(AtRandomTable),
}

Flat = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one axis sets: the keys, the kind of its values, and how (rank 0 first, then short names in their order).

    name: with terms named as in the formula. reads: keys whose values decide what is set. apply takes arrays as well. affects:
    other keys of a description that may come and go with it.
    """

    name: str
    paths: tuple[str, ...]
    kind: Kind
    apply: Callable[[Flat, Any], None]
    rank: int = 0
    reads: tuple[str, ...] = ()
    affects: tuple[str, ...] = ()


def axis_paths(name: str, truth: Formula) -> tuple[str, ...]:
    """The keys of a condition's description that an axis sets; () if it names nothing.

    >>> from .formula import parse_formula
    >>> axis_paths("icc", parse_formula("y ~ x + (1 | school)"))
    ('truth.random.school.variance.Intercept',)
    """
    found = setting(name, truth)
    return (*found.paths, *found.affects) if found else ()


def setting(name: str, truth: Formula) -> Setting | None:
    """How the axis `name` acts on a study of this true model; None if it names nothing."""
    if name in SHORT_NAMES:
        return _short(name, truth)
    match name.split("."):
        case ["design", "clusters"]:
            return _plain(name, SIZE_KINDS["clusters"])
        case ["design", "cluster_size"]:
            return _sizes(name)
        case ["design", "cluster_size", "arms", arm] if arm.isdecimal():
            return _plain(name, values.ARM_SIZE, affects=_all_sizes())
        case ["design", "cluster_size", "arms", arm, key] if arm.isdecimal() and key in SIZES_KINDS:
            return _plain(name, SIZES_KINDS[key], affects=_all_sizes())
        case ["truth", "residual_variance"]:
            return _plain(name, values.RESIDUAL_VARIANCE)
        case ["truth", "residual_sd"]:
            return _plain("truth.residual_variance", values.RESIDUAL_SD, name=name, made=_square)
        case ["truth", "fixed", term]:
            found = find_term(truth.fixed, term)
            return _plain(f"truth.fixed.{found}", values.EFFECT) if found else None
        case ["truth", "fixed", term, "d" | "r2" as unit] if found := find_term(truth.fixed, term):
            return _in_units(f"truth.fixed.{found}", unit) if found != INTERCEPT or unit == "d" else None
        case ["truth", "random", group, *rest] if group == truth.group:
            return _random(rest, truth)
        case ["truth", "outcome", key] if key in OUTCOME_KINDS:
            sets = outcome_sets(key, truth)
            return _plain(name, OUTCOME_KINDS[key], instead=sets) if sets or key != "icc" else None
        case ["truth", "errors", "variance_ratio", _]:
            return _plain(name, values.VARIANCE_RATIO)
        case ["correlation", pair]:
            return _plain(correlation_key(pair), values.PLAIN_CORRELATION)
        case ["predictors", predictor, key] if key in PREDICTOR_KINDS:
            return _plain(name, PREDICTOR_KINDS[key], affects=_beside(f"predictors.{predictor}", key, PREDICTOR_KINDS))
    table, _, key = name.rpartition(".")
    if key in OTHER_KINDS.get(table, ()):
        kinds = OTHER_KINDS[table]
        affects = _all_sizes() if table == "design.cluster_size" else _beside(table, key, kinds)
        return _plain(name, kinds[key], affects=affects)
    return None


#: Keys that leave a predictor's other keys as they are.
_ALONE = ("mean", "sd", "redraw", "icc", "shares", "start", "step", "values")


def _beside(table: str, key: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Keys beside one that may come and go with it: what a distribution needs, or is at a limit."""
    if key in _ALONE or table == "missing":
        return ()
    return tuple(f"{table}.{other}" for other in kinds if other != key)


@cache
def _all_sizes() -> tuple[str, ...]:
    size = "design.cluster_size"
    below = [f"{size}.{key}" for key in SIZES_KINDS]
    arms = [f"{size}.arms.{arm}" for arm in range(1, MOST_ARMS + 1)]
    return (size, *below, *arms, *(f"{arm}.{key}" for arm in arms for key in SIZES_KINDS))


def _sizes(name: str, rank: int = 0) -> Setting:
    """Sizes of all clusters; a number is the mean where the file gives a distribution with a mean."""
    path = "design.cluster_size"

    def assign(flat: Flat, value: Any) -> None:
        if isinstance(value, int) and f"{path}.mean" in flat:
            flat[f"{path}.mean"] = float(value)
            return
        for key in [key for key in flat if key.startswith(f"{path}.")]:
            del flat[key]
        flat[path] = value

    return Setting(name, (path,), SIZE_KINDS["cluster_size"], assign, rank, affects=_all_sizes())


def _plain(
    path: str, kind: Kind, rank: int = 0, name: str = "", *, affects: tuple[str, ...] = (), instead: tuple[str, ...] = (),
    made: Callable[[Any], Any] = lambda value: value,
) -> Setting:  # fmt: skip
    """One value, as `made` of that of the axis; instead: the values that follow from it."""

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = made(value)

    return Setting(name or path, (path, *instead), kind, assign, rank, affects=affects)


def _in_units(path: str, unit: str) -> Setting:
    """An effect in standard units, for the number or the table that the file gives."""

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = restated(flat.get(path), unit, value)

    return Setting(f"{path}.{unit}", (path,), values.NUMBER if unit == "d" else values.R2, assign)


def outcome_sets(key: str, truth: Formula) -> tuple[str, ...]:
    """The values of a condition that a key of [truth.outcome] takes the place of."""
    if key == "variance":
        return ("truth.residual_variance",)
    return (variance_path(truth, INTERCEPT),) if key == "icc" and INTERCEPT in truth.random_columns else ()


def _square(sd: Any) -> Any:
    return sd * sd


def _random(rest: Sequence[str], truth: Formula) -> Setting | None:
    columns = truth.random_columns
    match rest:
        case ["variance", column] if found := find_term(columns, column):
            return _plain(variance_path(truth, found), values.VARIANCE)
        case ["sd", column] if found := find_term(columns, column):
            path = variance_path(truth, found)
            return _plain(path, values.RANDOM_SD, name=path.replace(".variance.", ".sd.", 1), made=_square)
        case ["correlation", key] if not isinstance(pair := find_pair(truth, key), str):
            return _plain(correlation_path(truth, columns[pair[0]], columns[pair[1]]), values.CORRELATION)
        case ["covariance"]:
            return _whole_covariance(truth)
        case [key] if key in EFFECT_KINDS:
            table = truth.random_table
            return _plain(f"{table}.{key}", EFFECT_KINDS[key], affects=_beside(table, key, EFFECT_KINDS))
    return None


def _whole_covariance(truth: Formula) -> Setting:
    def accept(value: object) -> Any:
        matrix = values.MATRIX.accept(value)
        if matrix is not None and (problem := covariance_problem(truth, matrix)):
            raise ValueError(problem)
        return matrix

    def assign(flat: Flat, value: Any) -> None:
        flat.update(decompose(truth, value))

    kind = Kind(values.MATRIX.allowed, values.MATRIX.repair, accept)
    return Setting(f"{truth.random_table}.covariance", covariance_paths(truth), kind, assign)


def _short(name: str, truth: Formula) -> Setting | None:
    columns, rank = truth.random_columns, 1 + SHORT_NAMES.index(name)
    slopes = [column for column in columns if column != INTERCEPT]
    slope = variance_path(truth, slopes[0]) if len(slopes) == 1 else None
    intercept = variance_path(truth, INTERCEPT) if INTERCEPT in columns else None
    residual = "truth.residual_variance"
    match name:
        case "clusters":
            return _plain("design.clusters", SIZE_KINDS[name], rank, name)
        case "cluster_size":
            return _sizes(name, rank)
        case "icc" if intercept:
            return _scaled(name, (intercept, residual), values.ICC, lambda icc: icc / (1 - icc), rank)
        case "variance_ratio" if intercept:
            return _scaled(name, (intercept, residual), values.RATIO, lambda ratio: ratio, rank)
        case "slope_variance_ratio" if slope and intercept:
            return _scaled(name, (slope, intercept), values.RATIO, lambda ratio: ratio, rank)
        case "slope_correlation" if slope and list(pairs(truth)):
            return _plain(correlation_path(truth, *columns), values.CORRELATION, rank, name)
    return None


def _scaled(name: str, paths: tuple[str, str], kind: Kind, ratio: Callable[[Any], Any], rank: int) -> Setting:
    """A variance, the first path, as a multiple of another."""
    path, base = paths

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = flat[base] * ratio(value)

    return Setting(name, (path,), kind, assign, rank, (base,))
