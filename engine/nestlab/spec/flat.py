"""Tables of a study file as `{dotted path: value}`, which is what axes act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .association import correlation_key
from .kinds import KeyTable
from .model import Formula, source_of
from .predictors import DISTRIBUTIONS
from .predictors.reading import default_level
from .problems import Problems
from .shapes import SHAPE_KEYS
from .tables import ArmSizesTable, MissingTable, PredictorTable, RandomTable, TruthTable

__all__ = ["flat_shape", "flat_table", "named_elsewhere", "predictor_correlations", "predictor_values"]


def flat_table(path: str, table: KeyTable) -> dict[str, Any]:
    """The values of a table and of those in it by their paths; of a list of them with the place in it, from 1."""
    flat: dict[str, Any] = {}
    for key, value in table:
        here = f"{path}.{key}"
        if isinstance(value, ArmSizesTable):
            for number, size in enumerate(value.arms, start=1):
                arm = f"{here}.arms.{number}"
                flat |= flat_table(arm, size) if isinstance(size, KeyTable) else {arm: size}
        elif isinstance(value, KeyTable):
            flat |= flat_table(here, value)
        elif isinstance(value, Mapping):
            for name, item in value.items():
                below = f"{here}.{name}"
                flat |= flat_table(below, item) if isinstance(item, KeyTable) else {below: item}
        elif value is not None:
            flat[here] = value
    return flat


def flat_shape(tables: Mapping[str, RandomTable], formula: Formula) -> dict[str, Any]:
    """The distributions of the random effects."""
    flat: dict[str, Any] = {}
    for part in formula.parts:
        table = tables.get(part.group)
        given = {key: getattr(table, key) for key in SHAPE_KEYS} if table else {}
        flat |= {f"{part.random_table}.{key}": value for key, value in given.items() if value is not None}
    return flat


def predictor_values(predictors: Mapping[str, PredictorTable]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, table in predictors.items():
        flat |= flat_table(f"predictors.{name}", table)
        if table.level is None and (level := default_level(table.distribution)):
            flat[f"predictors.{name}.level"] = level
    return flat


def predictor_correlations(correlation: Mapping[str, float], problems: Problems) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for pair, value in correlation.items():
        path = correlation_key(pair)
        if path in flat:
            problems.add_number(
                f"correlation.{pair}", value, "must be given once, and this pair is given twice; remove one"
            )
        flat[path] = value
    return flat


def named_elsewhere(
    truth: TruthTable,
    correlation: Mapping[str, float],
    missing: MissingTable | None,
    predictors: Mapping[str, PredictorTable],
) -> set[str]:
    """Predictors that have a use although no formula has them: variances, missing rows, arms, strata, correlations."""
    names = {
        name for name, table in predictors.items() if table.distribution and DISTRIBUTIONS[table.distribution].outer
    }
    names.update(table.blocks for table in predictors.values() if isinstance(table.blocks, str))
    names.update(name for pair in correlation for name in pair.split(":"))
    if truth.errors and truth.errors.variance_ratio:
        names.update(source_of(variable)[0] for variable in truth.errors.variance_ratio)
    if missing and missing.at_random and missing.at_random.on:
        names.add(source_of(missing.at_random.on)[0])
    return names
