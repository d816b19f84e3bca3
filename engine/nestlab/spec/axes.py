"""What a grid axis may name, short or as a dotted path, and what it sets.

An axis sets one value of the study, or several (`covariance`), under the keys that `identity.describe` gives a
condition. Short names are applied after dotted paths, in the order of SHORT_NAMES; with s2 the residual variance and t2
the intercept's,

    icc = t2 / (t2 + s2)    variance_ratio = t2 / s2    slope_variance_ratio = slope variance / t2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import values
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
from .stated import restated
from .values import Kind

__all__ = ["PREDICTOR_KINDS", "SHORT_NAMES", "SIZE_KINDS", "Setting", "axis_paths", "setting"]

SHORT_NAMES = ("clusters", "cluster_size", "icc", "variance_ratio", "slope_variance_ratio", "slope_correlation")

SIZE_KINDS = {"clusters": values.CLUSTERS, "cluster_size": values.CLUSTER_SIZE}

PREDICTOR_KINDS = {
    "level": values.LEVEL,
    "distribution": values.DISTRIBUTION,
    "mean": values.NUMBER,
    "sd": values.POSITIVE_SD,
    "redraw": values.FLAG,
}

Flat = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one axis sets: the keys, the kind of its values, and how (rank 0 first, then short names in their order).

    name: with terms named as in the formula. reads: keys whose values decide what is set. apply takes arrays as well.
    """

    name: str
    paths: tuple[str, ...]
    kind: Kind
    apply: Callable[[Flat, Any], None]
    rank: int = 0
    reads: tuple[str, ...] = ()


def axis_paths(name: str, truth: Formula) -> tuple[str, ...]:
    """The keys of a condition's description that an axis sets; () if it names nothing.

    >>> from .formula import parse_formula
    >>> axis_paths("icc", parse_formula("y ~ x + (1 | school)"))
    ('truth.random.school.variance.Intercept',)
    """
    found = setting(name, truth)
    return found.paths if found else ()


def setting(name: str, truth: Formula) -> Setting | None:
    """How the axis `name` acts on a study of this true model; None if it names nothing."""
    if name in SHORT_NAMES:
        return _short(name, truth)
    match name.split("."):
        case ["design", "clusters" | "cluster_size" as key]:
            return _plain(name, SIZE_KINDS[key])
        case ["truth", "residual_variance"]:
            return _plain(name, values.RESIDUAL_VARIANCE)
        case ["truth", "residual_sd"]:
            return _squared(name, "truth.residual_variance", values.RESIDUAL_SD)
        case ["truth", "fixed", term]:
            found = find_term(truth.fixed, term)
            return _plain(f"truth.fixed.{found}", values.EFFECT) if found else None
        case ["truth", "fixed", term, "d" | "r2" as unit] if found := find_term(truth.fixed, term):
            return _in_units(f"truth.fixed.{found}", unit) if found != INTERCEPT or unit == "d" else None
        case ["truth", "random", group, *rest] if group == truth.group:
            return _random(rest, truth)
        case ["predictors", predictor, "distribution"]:
            plain = _plain(name, values.DISTRIBUTION)
            # What else a predictor has depends on its distribution.
            others = tuple(f"predictors.{predictor}.{key}" for key in ("mean", "sd", "redraw"))
            return Setting(name, (name, *others), plain.kind, plain.apply)
        case ["predictors", _, key] if key in PREDICTOR_KINDS:
            return _plain(name, PREDICTOR_KINDS[key])
    return None


def _plain(path: str, kind: Kind, rank: int = 0, name: str = "") -> Setting:
    def assign(flat: Flat, value: Any) -> None:
        flat[path] = value

    return Setting(name or path, (path,), kind, assign, rank)


def _in_units(path: str, unit: str) -> Setting:
    """An effect in standard units, for the number or the table that the file gives."""

    def assign(flat: Flat, value: Any) -> None:
        flat[path] = restated(flat.get(path), unit, value)

    return Setting(f"{path}.{unit}", (path,), values.NUMBER if unit == "d" else values.R2, assign)


def _squared(name: str, path: str, kind: Kind) -> Setting:
    def assign(flat: Flat, value: Any) -> None:
        flat[path] = value * value

    return Setting(name, (path,), kind, assign)


def _random(rest: Sequence[str], truth: Formula) -> Setting | None:
    columns = truth.random_columns
    match rest:
        case ["variance", column] if found := find_term(columns, column):
            return _plain(variance_path(truth, found), values.VARIANCE)
        case ["sd", column] if found := find_term(columns, column):
            path = variance_path(truth, found)
            return _squared(path.replace(".variance.", ".sd.", 1), path, values.RANDOM_SD)
        case ["correlation", key] if not isinstance(pair := find_pair(truth, key), str):
            return _plain(correlation_path(truth, columns[pair[0]], columns[pair[1]]), values.CORRELATION)
        case ["covariance"]:
            return _whole_covariance(truth)
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
    return Setting(f"truth.random.{truth.group}.covariance", covariance_paths(truth), kind, assign)


def _short(name: str, truth: Formula) -> Setting | None:
    columns, rank = truth.random_columns, 1 + SHORT_NAMES.index(name)
    slopes = [column for column in columns if column != INTERCEPT]
    slope = variance_path(truth, slopes[0]) if len(slopes) == 1 else None
    intercept = variance_path(truth, INTERCEPT) if INTERCEPT in columns else None
    residual = "truth.residual_variance"
    match name:
        case "clusters" | "cluster_size":
            return _plain(f"design.{name}", SIZE_KINDS[name], rank, name)
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
