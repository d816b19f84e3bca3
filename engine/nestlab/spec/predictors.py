"""Predictors of one condition: from the flat values to `model.Predictor`, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .model import Predictor
from .problems import Problem, Problems
from .shapes import PARAMETERS, USUAL, check_shape, read_shape
from .tables import PredictorTable
from .values import MADE, SHAPES

__all__ = ["CORRELATED", "KEYS", "Made", "base_columns", "base_levels", "predictor_words", "read_predictor"]

#: All keys of [predictors.<name>], in their order.
KEYS = tuple(PredictorTable.model_fields)
_SCALED = ("mean", "sd", "redraw", "icc")
_USED: dict[str, tuple[str, ...]] = {kind: (*_SCALED, *PARAMETERS[kind]) for kind in SHAPES} | {
    "balanced": ("redraw",),
    "binary": ("share", "redraw", "icc"),
    "categorical": ("categories", "shares", "coding", "redraw"),
    "time": ("start", "step"),
    "list": ("values",),
    "resampled": ("values", "redraw"),
    "schedule": ("sequences", "design", "periods", "baseline", "rows_per_period"),
    "period": ("periods", "rows_per_period", "coding"),
    "arms": ("clusters", "coding", "redraw"),
}
_NEEDED = {
    "binary": ("share", "0.3"),
    "categorical": ("categories", '["a", "b", "c"]'),
    "list": ("values", "[1, 2, 5]"),
    "resampled": ("file", '"pupils.csv" and column = "ses"'),
    "period": ("periods", "4"),
    "arms": ("clusters", "[12, 8]"),
}
#: Along the rows of a cluster, hence of level 1.
_BY_ROW = ("time", "schedule", "period")
#: Distributions that may have correlations.
CORRELATED = (*SHAPES, "binary", "resampled")

Items = tuple[tuple[str, Any], ...]


class Made(NamedTuple):
    """A predictor, or what is wrong with it."""

    predictor: Predictor | None
    problems: tuple[Problem, ...]


def default_level(distribution: str | None) -> int | None:
    """The level of what can have one only, or has one usually."""
    return 1 if distribution in _BY_ROW else 2 if distribution == "arms" else None


def base_columns(name: str, table: PredictorTable) -> tuple[str, ...] | None:
    """The columns for which a predictor's name stands in formulas, if it is a factor."""
    if table.distribution == "categorical" and table.categories:
        categories = table.categories
    elif table.distribution == "period" and table.periods and table.coding:
        categories = tuple(map(str, range(table.periods)))
    elif table.distribution == "arms" and table.clusters and table.coding:
        categories = tuple(map(str, range(len(table.clusters))))
    else:
        return None
    return Predictor(name, 1, "categorical", categories=categories, coding=table.coding or "treatment").columns  # type: ignore[arg-type]


def base_levels(predictors: Mapping[str, PredictorTable]) -> dict[str, int | None]:
    """The level on which every predictor varies, as far as the file's tables say it.

    Arms, and schedules that never change, are constant within clusters whatever their level, which lets them have random effects.
    """
    return {
        name: 2 if _is_constant(table) else table.level or default_level(table.distribution)
        for name, table in predictors.items()
    }


def _is_constant(table: PredictorTable) -> bool:
    """Whether a predictor has one value in each cluster, by its distribution."""
    if table.distribution == "schedule" and table.sequences:
        return all(len(set(sequence)) == 1 for sequence in table.sequences)
    return table.distribution == "arms"


def read_predictor(flat: Mapping[str, Any], name: str, *, varies: bool) -> Made:
    """The predictor as the flat values have it. varies: whether its distribution is an axis; keys may then be idle."""
    items = tuple((key, flat[path]) for key in KEYS if (path := f"predictors.{name}.{key}") in flat)
    return _read(name, items, varies)


@lru_cache(maxsize=4096)
def _read(name: str, items: Items, varies: bool) -> Made:
    problems, given, key = Problems(), dict(items), f"predictors.{name}"
    kind: str = given["distribution"]
    if not varies:
        _check_idle(kind, given, key, problems)
    _check_needed(kind, given, key, problems)
    _check_level(kind, given, key, problems)
    if not problems and kind in SHAPES:
        check_shape(kind, key, given.get, problems)
    if not problems:
        _check_values(kind, given, key, problems)
    if problems:
        return Made(None, tuple(problems))
    return Made(_make(name, kind, given), ())


def _check_idle(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    for word in given:
        if word in ("level", "distribution", "source", *_USED[kind]) or (kind == "balanced" and word == "redraw"):
            continue
        if word == "column" and "file" in given:
            continue
        kinds = ("normal", "binary", USUAL.get(word, "t"), *MADE)
        other = next((k for k in kinds if word in _USED[k]), "resampled")
        text = f'must be absent for distribution = "{kind}"; remove it, or write distribution = "{other}"'
        problems.add_number(f"{key}.{word}", given[word], text)


def _check_needed(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    need, example = _NEEDED.get(kind, ("", ""))
    if kind == "resampled" and "values" in given:
        return
    if need and need not in given:
        problems.add(f"{key}.{need}", f'is missing: distribution = "{kind}" needs it; add {need} = {example}, say')
    if kind != "schedule":
        return
    if "sequences" not in given and "design" not in given:
        text = 'is missing: distribution = "schedule" needs it; add sequences = [[0, 1, 1], [0, 0, 1]], or a design'
        problems.add(f"{key}.sequences", text)
    elif "sequences" in given:
        for word in ("design", "periods", "baseline"):
            if word in given:
                text = f"must not stand beside {key}.sequences, which say it; remove one of the two"
                problems.add_value(f"{key}.{word}", given[word], text)
    elif "periods" not in given:
        problems.add(f"{key}.periods", f'is missing: design = "{given["design"]}" needs it; add periods = 4, say')


def _check_level(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    level = given["level"]
    if kind in _BY_ROW and level == 2:
        text = f'must be 1 for distribution = "{kind}", which runs over the rows of a cluster; write 1'
        problems.add_value(f"{key}.level", level, text)
    if level == 2 and given.get("icc") and "icc" in _USED[kind]:
        text = "must be 0 or absent at level 2, where all of the variance is between clusters; remove it, or write level = 1"
        problems.add_number(f"{key}.icc", given["icc"], text)
    if level == 1 and given.get("redraw") and kind in ("balanced", "arms"):
        text = f"must be false or absent for {_A[kind]} predictor of level 1, the same in every replicate; remove it"
        problems.add_value(f"{key}.redraw", True, text)


_A = {"balanced": "a balanced", "arms": 'an "arms"'}


def _check_values(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    if kind == "binary" and given["share"] == 0:
        text = "must be between 0 and 1, neither included, for a binary predictor; write a share such as 0.3"
        problems.add_number(f"{key}.share", 0.0, text)
    if kind == "categorical" and "shares" in given and len(given["shares"]) != len(given["categories"]):
        text = (
            f"must be a share for each category, {len(given['categories'])} and not {len(given['shares'])}; correct them, or "
            "remove them for equal shares"
        )
        problems.add_number(f"{key}.shares", given["shares"], text)
    if kind in ("list", "resampled") and len(set(given["values"])) == 1:
        text = "must hold two different numbers at least, or it cannot be told from the intercept; correct them"
        problems.add_number(f"{key}.values", given["values"], text)
    if kind == "schedule" and given.get("design") == "parallel-baseline":
        if given.get("baseline", 1) >= given["periods"]:
            text = f"must be less than {key}.periods, {given['periods']}, so that treatment has a period; lower it"
            problems.add_value(f"{key}.baseline", given["baseline"], text)
    elif kind == "schedule" and "baseline" in given:
        text = 'must be absent unless design = "parallel-baseline"; remove it'
        problems.add_value(f"{key}.baseline", given["baseline"], text)


def _make(name: str, kind: str, given: Mapping[str, Any]) -> Predictor:
    level, redraw = given["level"], given.get("redraw", True)
    icc = given.get("icc") or 0.0
    if kind in SHAPES:
        shape = read_shape(kind, given.get)
        return Predictor(
            name,
            level,
            shape.kind,
            given.get("mean", 0.0),
            given.get("sd", 1.0),
            redraw,
            shape=shape.parameters,
            icc=icc,
        )
    match kind:
        case "balanced":
            return Predictor(name, level, kind, redraw=given.get("redraw", False))
        case "binary":
            return Predictor(name, level, kind, mean=given["share"], redraw=redraw, icc=icc)
        case "categorical":
            categories = given["categories"]
            shares = given.get("shares") or (1 / len(categories),) * len(categories)
            coding = given.get("coding", "treatment")
            return Predictor(name, level, kind, redraw=redraw, categories=categories, shares=shares, coding=coding)
        case "time":
            return Predictor(name, level, kind, given.get("start", 0.0), given.get("step", 1.0), redraw=False)
        case "list":
            return Predictor(name, level, kind, redraw=False, values=given["values"])
        case "resampled":
            return Predictor(name, level, kind, redraw=redraw, values=given["values"])
        case "schedule":
            return Predictor(name, level, kind, redraw=False, sequences=_sequences(given))
        case "period":
            return _period(name, given)
    arms, coding = given["clusters"], given.get("coding")
    categories = tuple(map(str, range(len(arms)))) if coding else ()
    redraw = given.get("redraw", False)
    return Predictor(name, level, kind, redraw=redraw, arms=arms, categories=categories, coding=coding or "treatment")


def _period(name: str, given: Mapping[str, Any]) -> Predictor:
    periods, rows = given["periods"], given.get("rows_per_period", 1)
    values = tuple(float(period) for period in range(periods) for _ in range(rows))
    if "coding" not in given:
        return Predictor(name, 1, "period", redraw=False, values=values)
    categories = tuple(map(str, range(periods)))
    return Predictor(name, 1, "period", redraw=False, values=values, categories=categories, coding=given["coding"])


def _sequences(given: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
    """A value for every row: each period's repeated for its rows."""
    rows = given.get("rows_per_period", 1)
    sequences = given.get("sequences") or _designed(given["design"], given["periods"], given.get("baseline", 1))
    return tuple(tuple(float(value) for value in sequence for _ in range(rows)) for sequence in sequences)


def _designed(design: str, periods: int, baseline: int) -> list[list[int]]:
    """The sequences of a design by its name.

    >>> _designed("stepped-wedge", 3, 1), _designed("crossover", 2, 1), _designed("parallel-baseline", 3, 1)
    ([[0, 1, 1], [0, 0, 1]], [[0, 1], [1, 0]], [[0, 0, 0], [0, 1, 1]])
    """
    if design == "stepped-wedge":
        return [[int(period >= start) for period in range(periods)] for start in range(1, periods)]
    if design == "crossover":
        return [[(period + first) % 2 for period in range(periods)] for first in (0, 1)]
    return [[0] * periods, [int(period >= baseline) for period in range(periods)]]


def _by_period(sequences: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    """Sequences by row as the fewest periods that say them.

    >>> _by_period(((0.0, 0.0, 1.0, 1.0), (1.0, 1.0, 0.0, 0.0)))
    {'sequences': [[0.0, 1.0], [1.0, 0.0]], 'rows_per_period': 2}
    """
    changes = [i for values in sequences for i in range(1, len(values)) if values[i] != values[i - 1]]
    rows = math.gcd(len(sequences[0]), *changes)
    return {"sequences": [list(values[::rows]) for values in sequences], "rows_per_period": rows}


def predictor_words(predictor: Predictor) -> dict[str, Any]:
    """The predictor in the study file's words; lists are whole. Those of a normal or balanced one are as they always were."""
    p = predictor
    made: dict[str, Any] = {"level": p.level, "distribution": p.distribution}
    if p.distribution in SHAPES:
        made |= {"mean": float(p.mean), "sd": float(p.sd), "redraw": p.redraw, **dict(p.shape)}
    match p.distribution:
        case "balanced" | "arms":
            made |= {"redraw": True} if p.redraw else {}
        case "binary":
            made |= {"share": float(p.mean), "redraw": p.redraw}
        case "categorical":
            made |= {"categories": list(p.categories), "shares": [float(v) for v in p.shares], "redraw": p.redraw}
        case "time":
            made |= {"start": float(p.mean), "step": float(p.sd)}
        case "list":
            made |= {"values": [float(v) for v in p.values]}
        case "period":
            made |= {"periods": int(max(p.values)) + 1, "rows_per_period": p.values.count(0.0)}
        case "resampled":
            made |= {"values": [float(v) for v in p.values], "redraw": p.redraw}
        case "schedule":
            made |= _by_period(p.sequences)
    if p.distribution == "arms":
        made |= {"clusters": list(p.arms)}
    if p.categories:
        made |= {"coding": p.coding}
    if p.icc:
        made |= {"icc": float(p.icc)}
    return made
