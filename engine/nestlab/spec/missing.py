"""Missing rows and clusters of one condition, from the flat values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from .model import Missing
from .problems import Items, Made, Problems, nearest

__all__ = ["PREVIOUS", "missing_words", "read_missing"]

PREVIOUS = "previous"
_EXAMPLES = {"scale": "5", "shape": "1.2", "on": '"previous"', "intercept": "-2", "slope": "0.5"}


def read_missing(flat: Mapping[str, Any], columns: Collection[str]) -> Made[Missing]:
    """What is missing as the flat values have it, None for nothing. columns: of all predictors."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith("missing."))
    return _read(items, tuple(columns)) if items else Made(None)


@lru_cache(maxsize=4096)
def _read(items: Items, columns: tuple[str, ...]) -> Made[Missing]:
    given, problems = {path.removeprefix("missing."): value for path, value in items}, Problems()
    weibull = _table(given, "weibull", ("scale", "shape"), problems)
    if weibull and "hazard" in given:
        text = "must not stand beside missing.weibull: one of the two says when clusters are lost; remove the other"
        problems.add_number("missing.hazard", given["hazard"], text)
    at_random = _table(given, "at_random", ("on", "intercept", "slope"), problems)
    on = given.get("at_random.on")
    if on is not None and on != PREVIOUS and on not in columns:
        known = (*columns, PREVIOUS)
        text = f'must be a predictor or "previous", the outcome of the row before; {nearest(on, known)}'
        problems.add_value("missing.at_random.on", on, text)
    if problems:
        return Made(None, tuple(problems))
    levels = {key.removeprefix("levels."): share for key, share in given.items() if key.startswith("levels.")}
    found = Missing(
        cells=given.get("cells", 0.0), levels=tuple(sorted((name, share) for name, share in levels.items() if share)),
        rows=given.get("rows", 0.0), clusters=given.get("clusters", 0.0), hazard=given.get("hazard", 0.0),
        weibull=(weibull["scale"], weibull["shape"]) if weibull else None,
        at_random=(at_random["on"], at_random["intercept"], at_random["slope"]) if at_random else None,
        monotone=given.get("at_random.monotone", False),
    )  # fmt: skip
    return Made(None if found == Missing() else found)


def _table(given: Mapping[str, Any], table: str, needed: tuple[str, ...], problems: Problems) -> dict[str, Any] | None:
    """The values below a table, all of which it needs; None where there is no such table."""
    if not any(key.startswith(f"{table}.") for key in given):
        return None
    for key in needed:
        if f"{table}.{key}" not in given:
            problems.add(f"missing.{table}.{key}", f"is missing; add {key} = {_EXAMPLES[key]}, say")
    return {key: given.get(f"{table}.{key}") for key in needed}


def missing_words(missing: Missing) -> dict[str, Any]:
    """What is missing in the study file's words."""
    made: dict[str, Any] = {}
    for key in ("rows", "clusters", "cells", "hazard"):
        if value := getattr(missing, key):
            made[key] = float(value)
    if missing.levels:
        made["levels"] = {name: float(share) for name, share in missing.levels}
    if missing.weibull:
        made["weibull"] = {"scale": float(missing.weibull[0]), "shape": float(missing.weibull[1])}
    if missing.at_random:
        on, intercept, slope = missing.at_random
        odds = {"on": on, "intercept": float(intercept), "slope": float(slope)}
        made["at_random"] = odds | {"monotone": missing.monotone}
    return made
