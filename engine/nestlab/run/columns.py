"""The columns of replicate rows: those that a study has, and those that hold what was drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..fit.methods import Columns
from ..simulate.centres import centres_of
from ..spec.estimand import ICC, Column, Estimand
from ..spec.inference import tested_estimand
from ..spec.methods import estimator_of
from ..spec.model import Condition, Method
from ..spec.truths import varying_names
from ..spec.uncertain import DrawnTruth, prior_names

__all__ = ["counted", "drawn_columns", "every_column", "truth_columns"]


def every_column(estimands: Mapping[str, Estimand], methods: Sequence[Method]) -> list[str]:
    """Every column of the study after `deviance`, in the order of the estimands: estimates, then what each rule makes."""
    known = [each for each in estimands.values() if not each.derived and each.kind != "test"]
    tested = {tested_estimand(method).name for method in methods if method.tests_ratio}
    fixed = [each.name for each in known if each.kind == "fixed"]
    variances = [each.name for each in known if each.kind in ("var", "cov")]
    correlations = [each.of("cor").name for each in known if each.kind == "cov"]
    wald = any((method.variance_intervals or "").startswith("wald") for method in methods)
    ends = [*fixed] * any(method.intervals != "t" for method in methods)
    ends += [*variances, *correlations] * any(method.variance_intervals is not None for method in methods)
    ends += [ICC.name] * any(method.variance_intervals == "bootstrap" for method in methods)
    rules = list(dict.fromkeys(rule for method in methods for rule in method.rules))
    joint = {c.name for method in methods for c in method.contrasts if c.joint}
    contrasts = [each.name for each in known if each.kind == "contrast"]
    single = [*fixed, *(name for name in contrasts if name not in joint)]
    errors = ["", *(rule for rule in rules if rule == "kenward-roger")]
    columns = [
        *(Column("estimate", each.name) for each in known if each.name not in joint),
        *(Column("se", name, rule) for name in single for rule in errors),
        *(Column("se", name) for name in [*variances, *correlations] if wald),
        *(Column("df", name, rule) for name in single for rule in rules),
        *(Column("p", name, rule) for name in contrasts if name in joint for rule in rules),
        *(Column("p", name) for name in sorted(tested)),
        *(column for name in ends for column in (Column("lower", name), Column("upper", name))),
        *(Column("inference", rule=rule) for rule in rules),
    ]
    return [
        *(column.name for column in columns),
        *(["selected"] if any(method.select is not None for method in methods) else []),
        *(["message", "warnings"] if any(estimator_of(method).messages for method in methods) else []),
    ]


def truth_columns(truths: DrawnTruth, varying: Sequence[str], values: Mapping[str, Any]) -> Columns:
    """What each replicate's truth is: `prior.<axis>`, the values drawn, and `true.<estimand>` of those that they change.

    values: the true values, of a method or shared by all (`truths.TrueValues`)."""
    shape = np.shape(next(iter(truths.values.values())))
    columns: Columns = {Column("prior", name).name: drawn for name, drawn in truths.values.items()}
    return columns | {Column("true", name).name: np.broadcast_to(values[name], shape) for name in varying}


def counted(conditions: Iterable[Condition]) -> list[str]:
    """The columns of a draw's counts, where replicates of some condition can differ in them."""
    uneven = [condition for condition in conditions if condition.uneven]
    return ["rows", *(["clusters"] if any(c.structure is None for c in uneven) else [])] if uneven else []


def drawn_columns(conditions: Iterable[Condition], methods: Sequence[Method]) -> list[str]:
    """The columns of `truth_columns` that some condition has."""
    columns: dict[str, None] = {}
    for condition in conditions:
        if condition.priors:
            varying = varying_names(condition, methods, centres_of(condition))
            columns |= dict.fromkeys(Column("prior", name).name for name in prior_names(condition))
            columns |= dict.fromkeys(Column("true", name).name for name in varying)
    return sorted(columns)
