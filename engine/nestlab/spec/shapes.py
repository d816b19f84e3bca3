"""Distributions but for their mean and variance, of predictors, errors and random effects; errors and effects of one condition.

Both are read from flat values, with what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from .model import NORMAL, Distribution, Errors
from .problems import Items, Made, Problems, nearest

__all__ = [
    "ERRORS",
    "PARAMETERS",
    "SHAPE_KEYS",
    "USUAL",
    "Read",
    "check_shape",
    "error_words",
    "read_effects",
    "read_errors",
    "read_shape",
    "shape_words",
]

ERRORS = "truth.errors"
RATIO = "variance_ratio."
SHAPE_KEYS = ("distribution", "df", "skewness", "share", "ratio")
#: The parameters that each distribution needs.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "normal": (),
    "uniform": (),
    "t": ("df",),
    "skew-normal": ("skewness",),
    "gamma": ("skewness",),
    "lognormal": ("skewness",),
    "chi-square": ("df",),
    "contaminated": ("share", "ratio"),
}
#: The first distribution that comes to mind for a parameter.
USUAL = {"df": "t", "skewness": "gamma", "share": "contaminated", "ratio": "contaminated"}
_EXAMPLES = {"df": "5", "skewness": "0.8", "share": "0.1", "ratio": "3"}
#: A skew-normal distribution cannot be more skewed than this (Azzalini 1985: 0.9953).
_MOST_SKEWED = 0.995

#: A value by its key within one table, or None.
Read = Callable[[str], Any]


def read_shape(kind: str, read: Read) -> Distribution:
    """The distribution; what is normal in all but its name is normal: a skewness, a share of contamination of 0."""
    if read("skewness") == 0 and "skewness" in PARAMETERS[kind]:
        return NORMAL
    if kind == "contaminated" and (read("share") == 0 or read("ratio") == 1):
        return NORMAL
    if kind == "normal":
        return NORMAL
    return Distribution(kind, tuple((key, float(read(key))) for key in PARAMETERS[kind]))


def check_shape(kind: str, table: str, read: Read, problems: Problems) -> bool:
    """Whether the parameters that `kind` needs are there and possible; adds to `problems` what is wrong, under `table`."""
    before = len(problems)
    for key in PARAMETERS[kind]:
        if read(key) is None:
            problems.add(
                f"{table}.{key}", f'is missing: distribution = "{kind}" needs it; add {key} = {_EXAMPLES[key]}, say'
            )
    if len(problems) == before:
        df, skewness = read("df"), read("skewness")
        if kind == "t" and df <= 2:
            text = 'must be > 2 for distribution = "t", which else has no variance; write 3 or more, say'
            problems.add_number(f"{table}.df", df, text)
        if kind == "skew-normal" and abs(skewness) > _MOST_SKEWED:
            text = f'must be within +-{_MOST_SKEWED} for distribution = "skew-normal"; lower it, or write distribution = "gamma"'
            problems.add_number(f"{table}.skewness", skewness, text)
    return len(problems) == before


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
    kind = given.get("distribution", "normal")
    for key in given:
        if key != "distribution" and key not in PARAMETERS[kind] and not varies:
            text = f'must be absent for distribution = "{kind}"; remove it, or write distribution = "{USUAL[key]}"'
            problems.add_number(f"{table}.{key}", given[key], text)
    if problems or not check_shape(kind, table, given.get, problems):
        return Made(None, tuple(problems))
    return Made(read_shape(kind, given.get))


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
