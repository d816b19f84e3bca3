"""Errors and random effects of one condition: their distributions, from the flat values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .model import NORMAL, Distribution, Errors
from .problems import Problem, Problems, nearest
from .shapes import PARAMETERS, USUAL, check_shape, read_shape, reader, shape_words

__all__ = ["ERRORS", "SHAPE_KEYS", "MadeErrors", "error_words", "read_effects", "read_errors"]

ERRORS = "truth.errors"
RATIO = f"{ERRORS}.variance_ratio."
SHAPE_KEYS = ("distribution", "df", "skewness", "share", "ratio")

Items = tuple[tuple[str, Any], ...]


class MadeErrors(NamedTuple):
    """Errors, or what is wrong with them."""

    errors: Errors | None
    problems: tuple[Problem, ...]


class MadeShape(NamedTuple):
    """A distribution, or what is wrong with it."""

    distribution: Distribution | None
    problems: tuple[Problem, ...]


def read_errors(flat: Mapping[str, Any], columns: Collection[str], *, varies: bool) -> MadeErrors:
    """The errors as the flat values have them. columns: of all predictors; varies: whether the distribution is an axis."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith(ERRORS))
    return _read(items, tuple(columns), varies) if items else MadeErrors(Errors(), ())


def read_effects(flat: Mapping[str, Any], group: str, *, varies: bool) -> MadeShape:
    """The distribution of the random effects of a grouping factor."""
    table = f"truth.random.{group}"
    items = tuple((key, flat[path]) for key in SHAPE_KEYS if (path := f"{table}.{key}") in flat)
    return _shape(table, items, varies) if items else MadeShape(NORMAL, ())


@lru_cache(maxsize=4096)
def _read(items: Items, columns: tuple[str, ...], varies: bool) -> MadeErrors:
    flat, problems = dict(items), Problems()
    read = reader(flat, ERRORS)
    shape = _shape(ERRORS, tuple((key, read(key)) for key in SHAPE_KEYS if read(key) is not None), varies)
    problems.extend(shape.problems)
    ratios = {path.removeprefix(RATIO): value for path, value in items if path.startswith(RATIO)}
    for name, value in ratios.items():
        if name not in columns:
            problems.add_number(RATIO + name, value, f"must name a predictor; {nearest(name, columns)}")
    if problems or shape.distribution is None:
        return MadeErrors(None, tuple(problems))
    kept = tuple(sorted((name, float(ratio)) for name, ratio in ratios.items() if ratio != 1))
    return MadeErrors(Errors(shape.distribution, kept, read("cluster_cv") or 0.0, read("ar1") or 0.0), ())


@lru_cache(maxsize=4096)
def _shape(table: str, items: Items, varies: bool) -> MadeShape:
    given, problems = dict(items), Problems()
    kind = given.get("distribution", "normal")
    for key in given:
        if key != "distribution" and key not in PARAMETERS[kind] and not varies:
            text = f'must be absent for distribution = "{kind}"; remove it, or write distribution = "{USUAL[key]}"'
            problems.add_number(f"{table}.{key}", given[key], text)
    if problems or not check_shape(kind, table, given.get, problems):
        return MadeShape(None, tuple(problems))
    return MadeShape(read_shape(kind, given.get), ())


def error_words(errors: Errors) -> dict[str, Any]:
    """What is not as usual of the errors, in the study file's words."""
    made: dict[str, Any] = {} if errors.distribution == NORMAL else shape_words(errors.distribution)
    if errors.ratios:
        made["variance_ratio"] = {name: float(ratio) for name, ratio in errors.ratios}
    if errors.cluster_cv:
        made["cluster_cv"] = float(errors.cluster_cv)
    if errors.ar1:
        made["ar1"] = float(errors.ar1)
    return made
