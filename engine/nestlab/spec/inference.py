"""What the keys of a method, its estimator and its formulas do not allow, and what its likelihood ratio test tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .comparison import compare
from .estimand import Estimand
from .methods import ESTIMATORS, estimator_of
from .model import DF_RULES, Errors, Formula, Method
from .problems import Problems
from .tables import MethodTable

__all__ = ["check_known_errors", "check_known_variances", "check_levels", "check_method", "df_rules", "tested_estimand"]

#: Rules of cluster-robust standard errors.
_ROBUST_RULES = ("clusters", "bell-mccaffrey")


def df_rules(table: MethodTable) -> tuple[str, ...]:
    """The rules of degrees of freedom of a method, or the default of its estimator."""
    if table.df is not None:
        return table.df
    if table.robust is not None:
        return ("bell-mccaffrey" if table.robust == "CR2" else "clusters",)
    return estimator_of(table).rules[:1]


def check_method(table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    """Add to `problems` what does not go together; written: the formula before the estimator took its part."""
    key, row = f"method.{table.name}", estimator_of(table)
    for word in dict.fromkeys(word for each in ESTIMATORS.values() for word in sorted(each.keys)):
        value = getattr(table, word)
        if word not in row.keys and value != type(table).model_fields[word].default:
            needed = _either([each.name for each in ESTIMATORS.values() if word in each.keys])
            repair = "remove one of the two" if "estimator" in table.model_fields_set else "add it, or remove this"
            problems.add_value(f"{key}.{word}", _written(value), f"needs estimator = {needed}; {repair}")
    _check_rules(key, table, problems)
    row.check(key, table, method, written, problems)
    if table.compare is None and table.reference is not None:
        text = "judges a likelihood ratio, and there is none; add compare"
        problems.add_value(f"{key}.reference", table.reference, text)
    if table.draws is not None and not method.random:
        text = "is for the bootstrap and exact tests, and there is none; remove it"
        problems.add_value(f"{key}.draws", table.draws, text)
    if table.select_alpha is not None and table.select != "lrt":
        text = 'is the level of a selecting test, and there is none; add select = "lrt", or remove it'
        problems.add_number(f"{key}.select_alpha", table.select_alpha, text)
    if method.compare is not None and "compare" in row.keys:
        _check_comparison(key, method, problems)


def _written(value: Any) -> Any:
    """A value as a study file has it: a list of one as that one."""
    return value if not isinstance(value, tuple) else value[0] if len(value) == 1 else list(value)


def _either(words: Sequence[str]) -> str:
    """The words in quotes: "a", "b" or "c"."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _check_rules(key: str, table: MethodTable, problems: Problems) -> None:
    row, given = estimator_of(table), set(table.df or ())
    robust = table.robust is not None and "robust" in row.keys
    allowed = {*row.rules} if not robust else {"z", "residual", *_ROBUST_RULES}
    if robust and "between-within" in row.rules:
        allowed.add("between-within")
    shown = "" if table.df is None else _written(table.df)
    needing = [f'"{rule}"' for rule in _ROBUST_RULES if rule in given and "robust" in row.keys]
    if row.own_df and table.df is not None:
        text = f"is not yours to choose here: they are {row.own_df}; remove it"
        problems.add_value(f"{key}.df", shown, text)
        return
    if not row.covariances:
        return  # it gives degrees of freedom of its own
    if given <= allowed:
        if "kenward-roger" in given and not table.reml:
            text = 'must leave out "kenward-roger", which needs REML; remove reml = false, or write "satterthwaite"'
            problems.add_value(f"{key}.df", shown, text)
        return
    if needing and not robust:
        text = f"must leave out {' and '.join(needing)}, for cluster-robust standard errors"
        problems.add_value(f"{key}.df", shown, f'{text}; add robust = "CR2", or remove df')
        return
    one = "write it" if len(allowed) == 1 else "write one of these"
    where = "with robust" if robust else f'for estimator = "{table.estimator}"'
    words = _either([rule for rule in DF_RULES if rule in allowed])
    problems.add_value(f"{key}.df", shown, f"must be {words} {where}; {one}, or remove df")


def _check_comparison(key: str, method: Method, problems: Problems) -> None:
    assert method.compare is not None
    if method.smaller and method.select is None:
        text = 'must be one model, unless select chooses from a list; add select = "lrt" or "aic", or keep one'
        problems.add_value(f"{key}.compare", [method.compare.text, *(each.text for each in method.smaller)], text)
        return
    chain = [method.formula, method.compare, *method.smaller]
    for larger, smaller in itertools.pairwise(chain):
        before = len(problems)
        _check_pair(key, replace(method, formula=larger, compare=smaller), problems)
        if len(problems) > before:
            return


def _check_pair(key: str, method: Method, problems: Problems) -> None:
    """What a test of the model of `compare` within that of the formula forbids."""
    assert method.compare is not None
    try:
        found = compare(method.compare, method.formula)
    except ValueError as error:
        problems.add_value(f"{key}.compare", method.compare.text, f"must be nested in the method's formula: {error}")
        return
    if found.needs_ml and method.reml:
        text = "needs reml = false, for restricted likelihoods of different fixed effects can't be compared; add it"
        problems.add_value(f"{key}.compare", method.compare.text, text)
    if method.reference == "asymptotic" and method.select != "aic" and not found.mixture:
        text = f'must be "bootstrap" for a test of {found.name}, which has no known large-sample distribution; write it'
        problems.add_value(f"{key}.reference", method.reference, text)
    if method.reference == "exact" and not (found.exact and method.reml):
        text = (
            'must be "asymptotic" or "bootstrap" here: the exact test is of the only random column, against '
            "none, by REML; write one of these"
        )
        problems.add_value(f"{key}.reference", method.reference, text)


def check_known_variances(methods: Sequence[Method], drawn: Sequence[str], problems: Problems) -> None:
    """No prior may draw variances that a method knows. drawn: the paths that priors set."""
    path = next((p for p in drawn if p.startswith(("truth.random.", "truth.residual"))), None)
    for method in methods:
        if estimator_of(method).variances_known and path is not None:
            text = (
                f"knows the variances, and a prior draws {path} anew in each replicate; remove the prior, or the method"
            )
            problems.add_value(f"method.{method.name}.estimator", method.estimator, text)


def check_known_errors(methods: Sequence[Method], errors: Errors, problems: Problems) -> None:
    """What is taken as known with the variances: errors of one variance and no correlation. Clusters' own have it on average."""
    found = [("truth.errors.ar1", errors.ar1)] if errors.ar1 else []
    found += [(f"truth.errors.variance_ratio.{name}", ratio) for name, ratio in errors.ratios if ratio != 1.0]
    named = [method for method in methods if estimator_of(method).variances_known]
    for path, value in found if named else ():
        text = (
            f'must be {0 if path.endswith("ar1") else 1} beside estimator = "{named[0].estimator}" (method {named[0].name}), '
            "which weighs by the variances of the random effects and one residual variance; remove it, or the method"
        )
        problems.add_number(path, value, text)


def check_levels(methods: Sequence[Method], varied: Sequence[str], problems: Problems) -> None:
    """What an estimator leaves out must be known before the grid is expanded. varied: the paths that axes set."""
    axis = next((path for path in varied if path.startswith("predictors.") and path.endswith(".level")), None)
    for method in methods:
        if axis is not None and estimator_of(method).by_level:
            text = f"needs levels that no axis changes, and one sets {axis}; remove the axis, or the method"
            problems.add_value(f"method.{method.name}.estimator", method.estimator, text)


def tested_estimand(method: Method) -> Estimand:
    """What a method's likelihood ratio test is a test of: one estimand, or several together, "x, x:z".

    A slope that comes with its covariances is named by its variance.
    """
    assert method.compare is not None
    found = compare(method.compare, method.formula)
    if found.kind == "slope":
        return next(each for each in found.tested if each.kind == "var")
    return found.tested[0] if len(found.tested) == 1 else Estimand("test", columns=tuple(e.name for e in found.tested))
