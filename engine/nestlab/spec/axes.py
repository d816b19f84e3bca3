"""What a grid axis may name, short or as a dotted path, and what it sets.

An axis sets one value of the study, or several (`covariance`), under the keys that `identity.describe` gives a
condition. Short names are applied after dotted paths, in the order of AXES; with s2 the residual variance and t2
the intercept's,

    icc = t2 / (t2 + s2)    variance_ratio = t2 / s2    slope_variance_ratio = slope variance / t2.

With several grouping factors icc.school is the share of school's intercept variance in all intercept variances and s2; those
that are given hold together. clusters.class is the number of classes, in each school where they are nested, size.class what a
class holds: levels of the one factor that is nested in it, or rows. rows is the number of rows in each cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator

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
from .factor_keys import FACTORS, ROWS
from .formula import find_term
from .keys import AXES, KEYS, Key, find_key
from .kinds import Share
from .model import INTERCEPT, Effect, Formula
from .sizes import MOST_ARMS
from .stated import UNITS, restated
from .structure import factors_of

__all__ = [
    "OUTCOME",
    "OUTCOME_KEYS",
    "Setting",
    "axis_paths",
    "is_number",
    "layout_axes",
    "number_axes",
    "number_word",
    "outcome_sets",
    "setting",
]

#: The table of the outcome within arms, from which a condition's variances follow, and its numbers.
OUTCOME = "truth.outcome"
OUTCOME_KEYS = tuple(name for name, key in KEYS[OUTCOME].below.items() if key.axis)

_SIZE = "design.cluster_size"
#: Where the shares of intraclass correlations stand while the values of a condition are made.
_SHARE = "icc of "
_EFFECT = Key("truth.fixed.<term>", values.EffectLevel, example=0.5)
_ARM_SIZE = Key(f"{_SIZE}.arms.<arm>", values.Size, example=20)
_NUMBER = Key(f"{FACTORS}.<factor>.number", values.NumberLevel, example=3)
_ROWS = Key(ROWS, values.RowsLevel, example=25)

#: The keys of a distribution of sizes that may be axes.
_SIZE_WORDS = tuple(word for word, key in KEYS[_SIZE].below.items() if key.axis and word != "arms")

Flat = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one axis sets: the paths, the key that checks its values, and how (rank 0 first, then short names in their order).

    name: with terms named as in the formula. reads: keys whose values decide what is set. apply takes arrays as well. affects:
    other keys of a description that may come and go with it.
    """

    name: str
    paths: tuple[str, ...]
    key: Key
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
    if truth.factors and (own := _by_factor(name, truth)):
        return own
    if truth.factors and (name in AXES or name.startswith(("design.clusters", _SIZE))):
        return None
    if name in AXES:
        return _short(name, truth)
    words = name.split(".")
    key = find_key(words)
    match words:
        case ["design", "cluster_size"]:
            return _sizes(name)
        case ["design", "cluster_size", "arms", arm, *_] if not arm.isdecimal():
            return None
        case ["design", "cluster_size", "arms", _]:
            return _plain(name, _ARM_SIZE, affects=_all_sizes())
        case ["design", "cluster_size", *_] if key and key.axis:
            return _plain(name, key, affects=_all_sizes())
        case ["truth", "residual_sd"] if key:
            return _plain("truth.residual_variance", key, name=name, made=_square)
        case ["truth", "fixed", term]:
            found = find_term(truth.fixed, term)
            return _plain(f"truth.fixed.{found}", _EFFECT) if found else None
        case ["truth", "fixed", term, unit] if unit in UNITS and (found := find_term(truth.fixed, term)):
            return _in_units(f"truth.fixed.{found}", unit) if found != INTERCEPT or unit == "d" else None
        case ["truth", "baseline"] if key:
            return _plain(f"truth.fixed.{INTERCEPT}", key, name=name, made=partial(Effect, "baseline"))
        case ["truth", "fixed", *_]:
            return None
        case ["truth", "random", group, *rest]:
            return (
                _random(rest, truth.of(group) if truth.factors else truth, key)
                if group in truth.groups and key
                else None
            )
        case ["design", "factors", *_]:
            return _factor(name, truth)
        case ["design", "rows"] if truth.factors:
            return _sizes(name, path=ROWS, key=_ROWS)
        case ["truth", "outcome", word] if key and key.axis:
            sets = outcome_sets(word, truth)
            return _plain(name, key, instead=sets) if sets or word != "icc" else None
        case ["predictors", _, "icc"] if key:
            return _plain(name, replace(key, annotation=Share, below={}))
        case ["correlation", pair] if key:
            return _plain(correlation_key(pair), key)
    return _plain(name, key, affects=_beside(name, key)) if key and key.axis else None


def layout_axes(truth: Formula) -> list[str]:
    """The axes that set the numbers of clusters and rows, but for short names of all studies."""
    if not truth.factors:
        return ["design.clusters", "design.cluster_size"]
    short = [f"{word}.{name}" for word in ("clusters", "size") for name, _ in truth.factors]
    iccs = [f"icc.{group}" for group in truth.intercepts]
    return [*short, "rows", *iccs, *(factors_of(truth).number_path(name) for name, _ in truth.factors), ROWS]


def number_axes(truth: Formula) -> dict[str, str]:
    """The axes that are numbers of a design, by the words that costs and searches have for them.

    >>> from .formula import parse_formula
    >>> number_axes(parse_formula("y ~ x + (1 | school)"))
    {'clusters': 'clusters', 'cluster_size': 'cluster_size'}
    >>> number_axes(replace(parse_formula("y ~ x + (1 | a) + (1 | b)"), factors=(("a", ""), ("b", "a"))))
    {'rows': 'rows', 'a': 'clusters.a', 'b': 'clusters.b'}
    """
    if not truth.factors:
        return {"clusters": "clusters", "cluster_size": "cluster_size"}
    return {"rows": "rows"} | {name: f"clusters.{name}" for name, _ in truth.factors}


def is_number(axis: str) -> bool:
    """Whether an axis of `number_axes` is meant."""
    return axis in ("clusters", "cluster_size", "rows") or axis.startswith("clusters.")


def number_word(axis: str) -> str:
    """The word that a cost has for a number of a design: "school" for clusters.school."""
    return axis.removeprefix("clusters.")


def _factor(path: str, truth: Formula) -> Setting | None:
    """A number of [design.factors], or of a distribution or a way to join there."""
    factors, key = factors_of(truth), find_key(path.split("."))
    for name in factors.names:
        number = factors.number_path(name)
        if path == number:
            return (
                _sizes(path, path=path, key=_NUMBER) if number.endswith(".number") else _plain(path, AXES["clusters"])
            )
        if path.startswith(f"{FACTORS}.{name}.") and key and key.axis:
            return _plain(path, key, affects=_beside(path, key) if path.startswith(f"{number}.") else ())
    return None


def _by_factor(name: str, truth: Formula) -> Setting | None:
    """A short name with a grouping factor of several: "icc.school"; without one, of the only factor that can be meant."""
    word, _, factor = name.partition(".")
    holders, factors = dict(truth.factors), factors_of(truth)
    rank = 1 + [*AXES].index(word) if word in AXES else 0
    if name == "rows":
        return _sizes(name, path=ROWS, key=_ROWS)
    if word == "icc":
        groups = truth.intercepts
        group = factor or (groups[0] if len(groups) == 1 else "")
        return _shared_icc(name, group, truth, rank) if group in groups else None
    if word == "clusters" and factor in holders:
        found = _factor(factors.number_path(factor), truth)
        return None if found is None else replace(found, name=name, rank=rank)
    if word == "size" and factor in holders:
        held = [other for other, within in truth.factors if within == factor]
        found = _factor(factors.number_path(held[0]), truth) if len(held) == 1 else None
        rows = _sizes(ROWS, path=ROWS, key=_ROWS) if not held else None
        return None if (one := found or rows) is None else replace(one, name=name, rank=rank)
    return None


def _shared_icc(name: str, group: str, truth: Formula, rank: int) -> Setting:
    """The share of a factor's intercept in all intercept variances and the residual one; those that are given hold together."""
    paths = {each: variance_path(truth.of(each), INTERCEPT) for each in truth.intercepts}
    residual = "truth.residual_variance"

    def assign(flat: Flat, value: Any) -> None:
        shares = {each: flat[key] for each in paths if (key := f"{_SHARE}{each}") in flat} | {group: value}
        flat[f"{_SHARE}{group}"] = value
        rest = flat[residual] + sum(flat.get(path, 0.0) for each, path in paths.items() if each not in shares)
        left = 1 - sum(shares.values())
        whole = math.inf if isinstance(left, float | int) and left <= 0 else rest / left
        for each, share in shares.items():
            flat[paths[each]] = share * whole

    others = tuple(path for each, path in paths.items() if each != group)
    return Setting(name, (paths[group],), AXES["icc"], assign, rank, (residual, *others), others)


#: Keys that leave a predictor's other keys as they are.
_ALONE = ("mean", "sd", "redraw", "icc", "shares", "start", "step", "values")


def _beside(name: str, key: Key) -> tuple[str, ...]:
    """Keys beside one that may come and go with it: what a distribution needs, or is at a limit."""
    table = name.rpartition(".")[0]
    if key.name in _ALONE or table in ("missing", "design", "truth"):
        return ()
    beside = find_key(table.split("."))
    assert beside is not None
    return tuple(
        f"{table}.{other}" for other, each in beside.below.items() if each.axis and other not in (key.name, "<>")
    )


@cache
def _all_sizes() -> tuple[str, ...]:
    arms = [f"{_SIZE}.arms.{arm}" for arm in range(1, MOST_ARMS + 1)]
    return (_SIZE, *arms, *(f"{size}.{word}" for size in (_SIZE, *arms) for word in _SIZE_WORDS))


def _sizes(name: str, rank: int = 0, *, path: str = _SIZE, key: Key | None = None) -> Setting:
    """Sizes of all clusters, or such numbers at another path; a number is the mean where a distribution with one is given."""

    def assign(flat: Flat, value: Any) -> None:
        if isinstance(value, int) and f"{path}.mean" in flat:
            flat[f"{path}.mean"] = float(value)
            return
        for other in [other for other in flat if other.startswith(f"{path}.")]:
            del flat[other]
        flat[path] = value

    affects = _all_sizes() if path == _SIZE else (path, *(f"{path}.{word}" for word in _SIZE_WORDS))
    return Setting(name, (path,), key or AXES["cluster_size"], assign, rank, affects=affects)


def _plain(
    path: str, key: Key, rank: int = 0, name: str = "", *, affects: tuple[str, ...] = (), instead: tuple[str, ...] = (),
    made: Callable[[Any], Any] = lambda value: value,
) -> Setting:  # fmt: skip
    """One value, as `made` of that of the axis; instead: the values that follow from it."""

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = made(value)

    return Setting(name or path, (path, *instead), key, assign, rank, affects=affects)


def _in_units(path: str, unit: Any) -> Setting:
    """An effect in standard units, for the number or the table that the file gives."""

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = restated(flat.get(path), unit, value)

    return Setting(f"{path}.{unit}", (path,), KEYS[f"truth.fixed.<term>.{unit}"], assign)


def outcome_sets(key: str, truth: Formula) -> tuple[str, ...]:
    """The values of a condition that a key of [truth.outcome] takes the place of."""
    if key == "variance":
        return ("truth.residual_variance",)
    return (variance_path(truth, INTERCEPT),) if key == "icc" and INTERCEPT in truth.random_columns else ()


def _square(sd: Any) -> Any:
    return sd * sd


def _random(rest: Sequence[str], truth: Formula, key: Key) -> Setting | None:
    columns = truth.random_columns
    match rest:
        case ["variance", column] if found := find_term(columns, column):
            return _plain(variance_path(truth, found), key)
        case ["sd", column] if found := find_term(columns, column):
            path = variance_path(truth, found)
            return _plain(path, key, name=path.replace(".variance.", ".sd.", 1), made=_square)
        case ["correlation", pair] if not isinstance(places := find_pair(truth, pair), str):
            return _plain(correlation_path(truth, columns[places[0]], columns[places[1]]), key)
        case ["covariance"]:
            return _whole_covariance(truth, key)
        case [word] if key.axis:
            return _plain(f"{truth.random_table}.{word}", key, affects=_beside(f"{truth.random_table}.{word}", key))
    return None


def _whole_covariance(truth: Formula, key: Key) -> Setting:
    def fits(matrix: Any) -> Any:
        if problem := covariance_problem(truth, matrix):
            raise ValueError(problem)
        return matrix

    def assign(flat: Flat, value: Any) -> None:
        flat.update(decompose(truth, value))

    fitting = replace(key, annotation=Annotated[values.Matrix, AfterValidator(fits)])
    return Setting(f"{truth.random_table}.covariance", covariance_paths(truth), fitting, assign)


def _short(name: str, truth: Formula) -> Setting | None:
    columns, rank = truth.random_columns, 1 + [*AXES].index(name)
    slopes = [column for column in columns if column != INTERCEPT]
    slope = variance_path(truth, slopes[0]) if len(slopes) == 1 else None
    intercept = variance_path(truth, INTERCEPT) if INTERCEPT in columns else None
    residual = "truth.residual_variance"
    match name:
        case "clusters":
            return _plain("design.clusters", AXES[name], rank, name)
        case "cluster_size":
            return _sizes(name, rank)
        case "icc" if intercept:
            return _scaled(name, (intercept, residual), AXES[name], lambda icc: icc / (1 - icc), rank)
        case "variance_ratio" if intercept:
            return _scaled(name, (intercept, residual), AXES[name], lambda ratio: ratio, rank)
        case "slope_variance_ratio" if slope and intercept:
            return _scaled(name, (slope, intercept), AXES[name], lambda ratio: ratio, rank)
        case "slope_correlation" if slope and list(pairs(truth)):
            return _plain(correlation_path(truth, *columns), AXES[name], rank, name)
    return None


def _scaled(name: str, paths: tuple[str, str], key: Key, ratio: Callable[[Any], Any], rank: int) -> Setting:
    """A variance, the first path, as a multiple of another."""
    path, base = paths

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = flat[base] * ratio(value)

    return Setting(name, (path,), key, assign, rank, (base,))
