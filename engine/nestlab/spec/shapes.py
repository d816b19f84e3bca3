"""Errors and random effects of one condition: their distributions but for the variance, and how errors differ between rows.

Both are read from flat values, with what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from .model import NORMAL, Distribution, Errors
from .predictors import SHAPES
from .predictors.reading import check_idle, check_needed
from .predictors.scaled import SCALED, read_shape
from .problems import Items, Made, Problems, nearest

__all__ = ["ERRORS", "SHAPE_KEYS", "error_words", "read_effects", "read_errors", "shape_words"]

ERRORS = "truth.errors"
RATIO = "variance_ratio."
SHAPE_KEYS = ("distribution", *dict.fromkeys(key for row in SHAPES.values() for key in row.keys if key not in SCALED))


def shape_words(distribution: Distribution) -> dict[str, Any]:
    """The distribution as a study file has it.

    >>> shape_words(Distribution("t", (("df", 5.0),)))
    {'distribution': 't', 'df': 5.0}
    """
    return {"distribution": distribution.kind, **dict(distribution.parameters)}


def read_errors(flat: Mapping[str, Any], columns: Collection[str], *, varies: bool) -> Made[Errors]:
    """The errors as the flat values have them. columns: of all predictors; varies: whether the distribution is an axis."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith(ERRORS))
    return _read(items, tuple(columns), varies) if items else Made(Errors())


def read_effects(flat: Mapping[str, Any], table: str, *, varies: bool) -> Made[Distribution]:
    """The distribution of the random effects, whose table in a study file is given."""
    items = tuple((key, flat[path]) for key in SHAPE_KEYS if (path := f"{table}.{key}") in flat)
    return _shape(table, items, varies) if items else Made(NORMAL)


@lru_cache(maxsize=4096)
def _read(items: Items, columns: tuple[str, ...], varies: bool) -> Made[Errors]:
    given, problems = {path.removeprefix(f"{ERRORS}."): value for path, value in items}, Problems()
    shape = _shape(ERRORS, tuple((key, given[key]) for key in SHAPE_KEYS if given.get(key) is not None), varies)
    problems.extend(shape.problems)
    ratios = {key.removeprefix(RATIO): value for key, value in given.items() if key.startswith(RATIO)}
    for name, value in ratios.items():
        if name not in columns:
            problems.add_number(f"{ERRORS}.{RATIO}{name}", value, f"must name a predictor; {nearest(name, columns)}")
    if problems or shape.value is None:
        return Made(None, tuple(problems))
    kept = tuple(sorted((name, float(ratio)) for name, ratio in ratios.items() if ratio != 1))
    return Made(Errors(shape.value, kept, given.get("cluster_cv") or 0.0, given.get("ar1") or 0.0))


@lru_cache(maxsize=4096)
def _shape(table: str, items: Items, varies: bool) -> Made[Distribution]:
    given, problems = dict(items), Problems()
    row = SHAPES[given.pop("distribution", NORMAL.kind)]
    if not varies:
        check_idle(row, SHAPES, given, table, problems)
    if not problems:
        check_needed(row, given, table, problems)
    if not problems:
        row.check(given, table, None, problems)
    return Made(None, tuple(problems)) if problems else Made(read_shape(row.name, given))


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
