"""What estimators that work on rows, and the choice between two models, may say: their keys, and which of them go together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .model import Formula, Method
from .problems import Problems
from .tables import MethodTable

__all__ = ["check_estimator", "needs_random_term", "own_formula", "own_keys"]

#: Estimators whose formula has fixed terms only: its random terms name the cluster and no more.
_MARGINAL = ("gee", "function")


def needs_random_term(table: MethodTable) -> bool:
    """Whether the method's formula must have a random term."""
    return table.estimator not in _MARGINAL


def own_formula(table: MethodTable, formula: Formula) -> Formula:
    """The formula as the estimator takes it: a GEE and a Python function estimate no random effects."""
    return replace(formula, random=()) if table.estimator in _MARGINAL else formula


def own_keys(table: MethodTable) -> dict[str, Any]:
    """The values of a `Method` that only these estimators and the selection of a model have."""
    found = {"select": table.select, "select_alpha": table.select_alpha, "function": table.function}
    found |= {"working": table.working, "covariance": table.covariance}
    return {key: value for key, value in found.items() if value is not None}


def check_estimator(table: MethodTable, method: Method, problems: Problems) -> None:
    """Adds to `problems` the keys that do not belong to the method's estimator, and what its selection lacks."""
    key = f"method.{table.name}"
    for word in ("working", "covariance"):
        if getattr(table, word) is not None and table.estimator != "gee":
            problems.add_value(f"{key}.{word}", getattr(table, word), 'needs estimator = "gee"; add it, or remove this')
    if table.function is not None and table.estimator != "function":
        problems.add_value(f"{key}.function", table.function, 'needs estimator = "function"; add it, or remove this')
    if table.function is None and table.estimator == "function":
        text = 'is missing: estimator = "function" calls it; add function = "module:function"'
        problems.add(f"{key}.function", text)
    if table.estimator in _MARGINAL:
        for word in {"reml", "singular_df"} & table.model_fields_set:
            text = 'is of mixed models, and this method fits none; remove it, or write estimator = "lmm"'
            problems.add_value(f"{key}.{word}", getattr(table, word), text)
    if table.estimator == "function" and table.df is not None:
        text = "is not nestlab's to choose here: the function gives the degrees of freedom; remove it"
        problems.add_value(f"{key}.df", table.df[0] if len(table.df) == 1 else list(table.df), text)
    _check_selection(table, method, problems)


def _check_selection(table: MethodTable, method: Method, problems: Problems) -> None:
    key = f"method.{table.name}"
    if table.select_alpha is not None and table.select != "lrt":
        text = 'is the level of a selecting test, and there is none; add select = "lrt", or remove it'
        problems.add_number(f"{key}.select_alpha", table.select_alpha, text)
    if table.select is None:
        return
    if table.estimator != "lmm":
        text = 'needs estimator = "lmm"; remove one of the two'
        problems.add_value(f"{key}.select", table.select, text)
    elif table.compare is None:
        text = 'needs the smaller model; add compare = "y ~ x + (1 | cluster)", say, or remove it'
        problems.add_value(f"{key}.select", table.select, text)
    if table.select == "aic" and table.reference is not None:
        text = 'judges a test, and select = "aic" makes none; remove it, or write select = "lrt"'
        problems.add_value(f"{key}.reference", table.reference, text)
    for word, none in (("intervals", "t"), ("variance_intervals", None)):
        value = getattr(method, word)
        if value != none:
            problems.add_value(
                f"{key}.{word}", value, "must be absent beside select, which reports t intervals; remove it"
            )
