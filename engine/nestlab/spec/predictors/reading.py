"""Predictors of one condition: from the flat values to `model.Predictor`, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..model import Predictor, Structure
from ..problems import Items, Made, Problems, nearest
from ..tables import PredictorTable
from . import DISTRIBUTIONS, PredictorDistribution, distribution_of
from .distribution import Given

__all__ = [
    "KEYS",
    "base_columns",
    "base_levels",
    "base_places",
    "check_blocks",
    "check_idle",
    "check_needed",
    "default_level",
    "predictor_words",
    "read_predictor",
]

#: All keys of [predictors.<name>], in their order.
KEYS = tuple(PredictorTable.model_fields)


def default_level(distribution: str | None) -> int | None:
    """The level of what can have one only, or has one usually."""
    return DISTRIBUTIONS[distribution].level if distribution else None


def base_columns(name: str, table: PredictorTable) -> tuple[str, ...] | None:
    """The columns for which a predictor's name stands in formulas, if it is a factor."""
    categories = DISTRIBUTIONS[table.distribution].categories(_given(table)) if table.distribution else ()
    if not categories:
        return None
    return Predictor(name, 1, "categorical", categories=categories, coding=table.coding or "treatment").columns


def base_levels(predictors: Mapping[str, PredictorTable]) -> dict[str, int | None]:
    """The level on which every predictor varies, as far as the file's tables say it.

    Arms, and schedules that never change, are constant within clusters whatever their level, which lets them have random effects.
    """
    return {
        name: 2
        if _is_constant(table) or isinstance(table.level, str)
        else table.level or default_level(table.distribution)
        for name, table in predictors.items()
    }


def base_places(predictors: Mapping[str, PredictorTable]) -> dict[str, str]:
    """The factor, or the crossing of several, that every predictor lives on, "" for rows."""
    return {name: table.level if isinstance(table.level, str) else "" for name, table in predictors.items()}


def _is_constant(table: PredictorTable) -> bool:
    return bool(table.distribution) and DISTRIBUTIONS[str(table.distribution)].constant(_given(table))


def _given(table: PredictorTable) -> dict[str, Any]:
    return {key: value for key, value in table if value is not None}


def read_predictor(
    flat: Mapping[str, Any], name: str, *, varies: bool, structure: Structure | None = None
) -> Made[Predictor]:
    """The predictor as the flat values have it. varies: whether its distribution is an axis; keys may then be idle. structure: of
    several grouping factors."""
    items = tuple((key, flat[path]) for key in KEYS if (path := f"predictors.{name}.{key}") in flat)
    shares = f"predictors.{name}.icc."
    iccs = tuple(sorted((path.removeprefix(shares), value) for path, value in flat.items() if path.startswith(shares)))
    row = DISTRIBUTIONS.get(flat.get(f"predictors.{name}.distribution", ""))
    at = str(level) if isinstance(level := flat.get(f"predictors.{name}.level"), str) else ""
    clusters = flat.get("design.clusters") if structure is None else structure.grouping(at).levels
    place = _NOWHERE if structure is None or not at else _place(at, structure)
    return _read(name, items, iccs, varies, clusters if row and row.allotted else None, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a predictor lives that is not of rows: the factor or crossing, and how many levels each of its factors has.

    within: the factor whose levels hold those of `at`, as a cluster holds rows; of a crossing of two the first.
    """

    at: str = ""
    crossing: tuple[int, ...] = ()
    within: str = ""


_NOWHERE = _Place()


def _place(at: str, structure: Structure) -> _Place:
    found = [structure.grouping(name) for name in at.split(":")]
    within = (found[0].within or "") if len(found) == 1 else found[0].name if len(found) == 2 else ""
    return _Place(at, tuple(grouping.levels for grouping in found), within)


@lru_cache(maxsize=4096)
def _read(name: str, items: Items, iccs: Items, varies: bool, clusters: int | None, place: _Place) -> Made[Predictor]:
    """iccs: by factor; clusters: their number, where the predictor's shares are of clusters; place: the factor whose levels stand
    for them."""
    problems, given, key = Problems(), dict(items), f"predictors.{name}"
    if iccs and "icc" in given:
        text = f"must be absent beside {key}.icc.{iccs[0][0]}; remove one of the two"
        problems.add_number(f"{key}.icc", given["icc"], text)
    given |= ({"level": 2} if place.at else {}) | ({"icc": dict(iccs)} if iccs else {})
    row = DISTRIBUTIONS[given["distribution"]]
    if not varies:
        own = {word: value for word, value in given.items() if word not in ("level", "distribution", "source")}
        if "file" in own:
            own.pop("column", None)
        check_idle(row, DISTRIBUTIONS, own, key, problems)
    check_needed(row, given, key, problems)
    _check_level(row, given, key, place, problems)
    if not problems:
        row.check(given, key, clusters, problems)
    if problems:
        return Made(None, tuple(problems))
    made = row.make(name, given | {"icc": 0.0} if iccs else given, clusters)
    return Made(replace(made, at=place.at, crossing=place.crossing, iccs=tuple((f, r) for f, r in iccs if r)))


def check_idle(
    row: PredictorDistribution,
    others: Mapping[str, PredictorDistribution],
    given: Given,
    key: str,
    problems: Problems,
) -> None:
    """Check that the distribution uses all keys; else name the one of the others that people mean by such a key."""
    for word in given:
        if word not in row.keys:
            using = [name for name, other in others.items() if word in other.keys] or ["resampled"]
            usual = next((name for name in using if word in others[name].usual), using[0])
            text = f'must be absent for distribution = "{row.name}"; remove it, or write distribution = "{usual}"'
            problems.add_number(f"{key}.{word}", given[word], text)


def check_needed(row: PredictorDistribution, given: Given, key: str, problems: Problems) -> None:
    """Check that the distribution has all keys that it needs."""
    for need in row.needs:
        if not {need.key, *need.instead} & given.keys():
            text = f'is missing: distribution = "{row.name}" needs it{need.words}; add {need.add}'
            problems.add(f"{key}.{need.key}", text)


def _check_level(row: PredictorDistribution, given: Given, key: str, place: _Place, problems: Problems) -> None:
    level = given["level"]
    if row.crossed and len(place.crossing) != 2:
        text = f'must be a crossing of two factors of [design.factors] for distribution = "{row.name}"; write "subject:item", say'
        problems.add_value(f"{key}.level", place.at or level, text)
    elif row.level == 1 and place.at:
        if not place.within:
            text = (
                f'must be 1, a nested factor or a crossing of two for distribution = "{row.name}", which runs over what a level '
                'holds; write 1, or such as "school:visit"'
            )
            problems.add_value(f"{key}.level", place.at, text)
    elif row.level == 1 and level == 2:
        text = f'must be 1 for distribution = "{row.name}", which runs over the rows of a cluster; write 1'
        problems.add_value(f"{key}.level", level, text)
    if level == 2 and given.get("icc") and "icc" in row.keys:
        text = "must be 0 or absent at level 2, where all of the variance is between clusters; remove it, or write level = 1"
        problems.add_number(f"{key}.icc", given["icc"], text)
    if level == 1 and given.get("redraw") and row.allotted:
        text = f'must be false or absent for distribution = "{row.name}" at level 1, the same in every replicate; remove it'
        problems.add_value(f"{key}.redraw", True, text)
    if level == 1 and "blocks" in given and "blocks" in row.keys:
        text = "must be absent at level 1, where every cluster is a block; remove it, or write level = 2"
        problems.add_value(f"{key}.blocks", given["blocks"], text)


def check_blocks(predictors: tuple[Predictor, ...]) -> Problems:
    """What is wrong with the predictors that name others as strata."""
    problems, by_name = Problems(), {p.name: p for p in predictors}
    for p in predictors:
        if not isinstance(p.blocks, str):
            continue
        key, other = f"predictors.{p.name}.blocks", by_name.get(p.blocks)
        if other is None or other is p:
            text = f"must be another predictor of level 2, and is {'none' if other is None else 'itself'}; "
            names = [q.name for q in predictors if q.level == 2 and q is not p and distribution_of(q).stratum]
            repair = nearest(p.blocks, names) if names else "add one, or write a number of clusters"
            problems.add_value(key, p.blocks, text + repair)
        elif other.level == 1 or not distribution_of(other).stratum or other.blocks:
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


def predictor_words(predictor: Predictor) -> dict[str, Any]:
    """The predictor in the study file's words; lists are whole."""
    p, row = predictor, distribution_of(predictor)
    made: dict[str, Any] = {"level": p.at or p.level, "distribution": p.distribution, **row.words(p)}
    if "categories" in row.keys and p.categories and p.categories != tuple(map(str, range(len(p.arms)))):
        made |= {"categories": list(p.categories)}
    if p.categories:
        made |= {"coding": p.coding}
    if p.icc or p.iccs:
        made |= {"icc": {factor: float(share) for factor, share in p.iccs} or float(p.icc)}
    return made
