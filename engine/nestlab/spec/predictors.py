"""Predictors of one condition: from the flat values to `model.Predictor`, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .allocation import arm_counts
from .model import Predictor
from .problems import Items, Made, Problems, nearest
from .shapes import PARAMETERS, USUAL, check_shape, read_shape
from .tables import PredictorTable
from .values import MADE, SHAPES

__all__ = [
    "CORRELATED",
    "KEYS",
    "base_columns",
    "base_levels",
    "check_blocks",
    "predictor_words",
    "read_predictor",
]

#: All keys of [predictors.<name>], in their order.
KEYS = tuple(PredictorTable.model_fields)
_SCALED = ("mean", "sd", "redraw", "icc")
_USED: dict[str, tuple[str, ...]] = {kind: (*_SCALED, *PARAMETERS[kind]) for kind in SHAPES} | {
    "balanced": ("categories", "shares", "coding", "blocks", "redraw"),
    "binary": ("share", "redraw", "icc"),
    "categorical": ("categories", "shares", "coding", "redraw"),
    "time": ("start", "step"),
    "list": ("values", "categories", "coding"),
    "resampled": ("values", "redraw"),
    "schedule": ("sequences", "design", "periods", "baseline", "rows_per_period", "categories", "coding"),
    "period": ("periods", "rows_per_period", "coding"),
    "arms": ("clusters", "categories", "shares", "coding", "redraw"),
}
_NEEDED = {
    "binary": ("share", "0.3"),
    "categorical": ("categories", '["a", "b", "c"]'),
    "list": ("values", "[1, 2, 5]"),
    "resampled": ("file", '"pupils.csv" and column = "ses"'),
    "period": ("periods", "4"),
}
#: Distributions whose values may be numbers of categories, 0, 1, ...
_NUMBERED = ("list", "schedule")
#: Distributions that allocate units to categories by shares.
_ALLOTTED = ("balanced", "arms")
#: Along the rows of a cluster, hence of level 1.
_BY_ROW = ("time", "schedule", "period")
#: Distributions that may have correlations.
CORRELATED = (*SHAPES, "binary", "resampled")


def default_level(distribution: str | None) -> int | None:
    """The level of what can have one only, or has one usually."""
    return 1 if distribution in _BY_ROW else 2 if distribution == "arms" else None


def base_columns(name: str, table: PredictorTable) -> tuple[str, ...] | None:
    """The columns for which a predictor's name stands in formulas, if it is a factor."""
    if table.distribution in ("categorical", *_ALLOTTED, *_NUMBERED) and table.categories:
        categories = table.categories
    elif table.distribution == "period" and table.periods and table.coding:
        categories = tuple(map(str, range(table.periods)))
    elif table.distribution == "arms" and (parts := table.clusters or table.shares) and table.coding:
        categories = tuple(map(str, range(len(parts))))
    else:
        return None
    return Predictor(name, 1, "categorical", categories=categories, coding=table.coding or "treatment").columns


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


def read_predictor(flat: Mapping[str, Any], name: str, *, varies: bool) -> Made[Predictor]:
    """The predictor as the flat values have it. varies: whether its distribution is an axis; keys may then be idle."""
    items = tuple((key, flat[path]) for key in KEYS if (path := f"predictors.{name}.{key}") in flat)
    follows = flat.get(f"predictors.{name}.distribution") in _ALLOTTED
    return _read(name, items, varies, flat.get("design.clusters") if follows else None)


@lru_cache(maxsize=4096)
def _read(name: str, items: Items, varies: bool, clusters: int | None) -> Made[Predictor]:
    """clusters: their number, where the predictor's shares are of clusters."""
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
    if not problems:
        _check_categories(kind, given, key, problems)
    if not problems and kind in _ALLOTTED:
        _check_allotted(kind, given, key, clusters, problems)
    if problems:
        return Made(None, tuple(problems))
    return Made(_make(name, kind, given, clusters))


def _check_idle(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    for word in given:
        if word in ("level", "distribution", "source", *_USED[kind]):
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
    if kind == "arms" and not {"clusters", "categories", "shares"} & given.keys():
        text = (
            'is missing: distribution = "arms" needs it, or shares; add clusters = [12, 8], say, or shares = [0.6, 0.4]'
        )
        problems.add(f"{key}.clusters", text)
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
    if level == 1 and given.get("redraw") and kind in _ALLOTTED:
        text = f"must be false or absent for {_A[kind]} predictor of level 1, the same in every replicate; remove it"
        problems.add_value(f"{key}.redraw", True, text)
    if level == 1 and "blocks" in given and kind == "balanced":
        text = "must be absent at level 1, where every cluster is a block; remove it, or write level = 2"
        problems.add_value(f"{key}.blocks", given["blocks"], text)


_A = {"balanced": "a balanced", "arms": 'an "arms"'}


def _check_values(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    if kind == "binary" and given["share"] == 0:
        text = "must be between 0 and 1, neither included, for a binary predictor; write a share such as 0.3"
        problems.add_number(f"{key}.share", 0.0, text)
    if kind == "categorical" and "shares" in given and abs((total := math.fsum(given["shares"])) - 1) > 1e-9:
        text = f"must sum to 1, and sum to {total:.6g}; correct them, or remove them for equal shares"
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


def _check_categories(kind: str, given: Mapping[str, Any], key: str, problems: Problems) -> None:
    """Whether categories, shares, counts and numbers of categories go together."""
    if kind not in ("categorical", *_ALLOTTED, *_NUMBERED):
        return
    categories = given.get("categories")
    for word, what in (("shares", "a share"), ("clusters", "a number of clusters")):
        if categories and word in given and len(given[word]) != len(categories):
            repair = "correct them, or remove them for equal shares" if word == "shares" else "correct one of the two"
            text = f"must be {what} for each category, {len(categories)} and not {len(given[word])}; {repair}"
            problems.add_number(f"{key}.{word}", given[word], text)
    if "coding" in given and not categories and kind in ("balanced", *_NUMBERED):
        text = f'needs categories; add {key}.categories = ["a", "b"], say, or remove it'
        problems.add_value(f"{key}.coding", given["coding"], text)
    if kind in _NUMBERED and categories:
        word = "values" if "values" in given else "sequences"
        rows = [given["values"]] if word == "values" else _sequences(given)
        if odd := [v for row in rows for v in row if v not in range(len(categories))]:
            text = f"must hold numbers of categories, 0 to {len(categories) - 1}, and hold {odd[0]:g}; correct them"
            problems.add_number(f"{key}.{word}", given.get(word, odd[0]), text)


def _check_allotted(kind: str, given: Mapping[str, Any], key: str, clusters: int | None, problems: Problems) -> None:
    """Whether the shares of an "arms" or a balanced predictor can be had."""
    shares = given.get("shares") or _equal(len(given.get("categories", (0, 1))))
    if kind == "arms" and "clusters" in given:
        if "shares" in given:
            text = f"must not stand beside {key}.clusters, which say it; remove one of the two"
            problems.add_number(f"{key}.shares", given["shares"], text)
        return
    if kind == "balanced" and len(shares) > 2 and "categories" not in given:
        text = f'needs categories for more than two shares; add {key}.categories = ["a", "b", "c"], say'
        problems.add_number(f"{key}.shares", shares, text)
    if len(shares) < 2:
        problems.add_number(f"{key}.shares", shares, "must be two shares or more; add one")
    if problems or clusters is None or (given["level"] == 1 and kind == "balanced") or not _states_shares(given):
        return
    counts = arm_counts(_normed(shares), clusters)
    if 0 in counts:
        text = (
            f"must give each category a cluster, and of {clusters} clusters it gives {' + '.join(map(str, counts))}; "
        )
        problems.add_number(f"{key}.shares", shares, text + "raise design.clusters or the least share")


def _states_shares(given: Mapping[str, Any]) -> bool:
    return "shares" in given or "categories" in given


def _equal(n: int) -> tuple[float, ...]:
    return (1 / n,) * n


def _normed(shares: tuple[float, ...]) -> tuple[float, ...]:
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


#: Level-2 distributions that may be strata of an allocation.
_STRATA = ("balanced", "arms", "binary", "categorical", "list", "resampled")


def check_blocks(predictors: tuple[Predictor, ...]) -> Problems:
    """What is wrong with the predictors that name others as strata."""
    problems, by_name = Problems(), {p.name: p for p in predictors}
    for p in predictors:
        if not isinstance(p.blocks, str):
            continue
        key, other = f"predictors.{p.name}.blocks", by_name.get(p.blocks)
        if other is None or other is p:
            text = f"must be another predictor of level 2, and is {'none' if other is None else 'itself'}; "
            names = [q.name for q in predictors if q.level == 2 and q is not p and q.distribution in _STRATA]
            repair = nearest(p.blocks, names) if names else "add one, or write a number of clusters"
            problems.add_value(key, p.blocks, text + repair)
        elif other.level == 1 or other.distribution not in _STRATA or other.blocks:
            what = (
                "varies within clusters" if other.level == 1 else "has blocks itself" if other.blocks
                else f'is "{other.distribution}"'
            )  # fmt: skip
            text = f"must be a predictor of level 2 with a few values, and {other.name} {what}; name another"
            problems.add_value(key, p.blocks, text)
        elif other.redraw and not p.redraw:
            text = (
                f"must be the same in every replicate unless {p.name} is redrawn, and {other.name} is drawn anew in each; add "
                f"predictors.{p.name}.redraw = true"
            )
            problems.add_value(key, p.blocks, text)
    return problems


def _make(name: str, kind: str, given: Mapping[str, Any], clusters: int | None = None) -> Predictor:
    level, redraw = given["level"], given.get("redraw", True)
    icc = given.get("icc") or 0.0
    if kind in SHAPES:
        shape = read_shape(kind, given.get)
        mean, sd = given.get("mean", 0.0), given.get("sd", 1.0)
        return Predictor(name, level, shape.kind, mean, sd, redraw, shape=shape.parameters, icc=icc)
    match kind:
        case "balanced":
            shares = _normed(given.get("shares") or _equal(len(given.get("categories", (0, 1)))))
            return Predictor(
                name, level, kind, redraw=given.get("redraw", False), blocks=given.get("blocks", 0),
                shares=shares if _states_shares(given) else (), **_coded(given),
            )  # fmt: skip
        case "binary":
            return Predictor(name, level, kind, mean=given["share"], redraw=redraw, icc=icc)
        case "categorical":
            categories = given["categories"]
            shares = given.get("shares") or _equal(len(categories))
            coding = given.get("coding", "treatment")
            return Predictor(name, level, kind, redraw=redraw, categories=categories, shares=shares, coding=coding)
        case "time":
            return Predictor(name, level, kind, given.get("start", 0.0), given.get("step", 1.0), redraw=False)
        case "list":
            return Predictor(name, level, kind, redraw=False, values=given["values"], **_coded(given))
        case "resampled":
            return Predictor(name, level, kind, redraw=redraw, values=given["values"])
        case "schedule":
            return Predictor(name, level, kind, redraw=False, sequences=_sequences(given), **_coded(given))
        case "period":
            return _period(name, given)
    counts, shares = given.get("clusters"), ()
    if counts is None:
        shares = _normed(given.get("shares") or _equal(len(given["categories"])))
        counts = arm_counts(shares, clusters or len(shares))
    numbered = {"categories": tuple(map(str, range(len(counts))))} if "coding" in given else {}
    redraw = given.get("redraw", False)
    return Predictor(name, level, kind, redraw=redraw, arms=counts, shares=shares, **_coded({**numbered, **given}))


def _coded(given: Mapping[str, Any]) -> dict[str, Any]:
    """The categories of a predictor and their coding."""
    return {"categories": given.get("categories", ()), "coding": given.get("coding", "treatment")}


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


def predictor_words(predictor: Predictor) -> dict[str, Any]:
    """The predictor in the study file's words; lists are whole. Those of a normal or balanced one are as they always were."""
    p = predictor
    made: dict[str, Any] = {"level": p.level, "distribution": p.distribution}
    if p.distribution in SHAPES:
        made |= {"mean": float(p.mean), "sd": float(p.sd), "redraw": p.redraw, **dict(p.shape)}
    match p.distribution:
        case "balanced" | "arms":
            made |= {"redraw": True} if p.redraw else {}
            made |= {"shares": [float(v) for v in p.shares]} if p.shares else {}
            made |= {"blocks": p.blocks} if p.blocks else {}
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
            changes = [i for values in p.sequences for i in range(1, len(values)) if values[i] != values[i - 1]]
            rows = math.gcd(len(p.sequences[0]), *changes)
            made |= {"sequences": [list(values[::rows]) for values in p.sequences], "rows_per_period": rows}
    if p.distribution == "arms" and not p.shares:
        made |= {"clusters": list(p.arms)}
    named = p.categories and p.categories != tuple(map(str, range(len(p.arms))))
    if named and p.distribution in (*_ALLOTTED, *_NUMBERED):
        made |= {"categories": list(p.categories)}
    if p.categories:
        made |= {"coding": p.coding}
    if p.icc:
        made |= {"icc": float(p.icc)}
    return made
