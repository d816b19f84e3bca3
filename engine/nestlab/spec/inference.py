"""What the inference of a method needs of its estimator, its criterion and its formulas."""

from __future__ import annotations

from .comparison import compare
from .estimand import Estimand
from .model import LEAST_SQUARES, Method
from .problems import Problems
from .tables import MethodTable

__all__ = ["check_inference", "df_rules", "tested_estimand"]


def df_rules(table: MethodTable, problems: Problems) -> tuple[str, ...]:
    """The rules of a method, which its estimator and criterion must allow."""
    key = f"method.{table.name}.df"
    if table.df is None:
        return (_default_rule(table),)
    shown = table.df[0] if len(table.df) == 1 else list(table.df)
    if text := _not_of_robust(table):
        problems.add_value(key, shown, text)
    elif table.estimator in LEAST_SQUARES:
        pass
    elif table.estimator != "lmm" and not set(table.df) <= {"z", "residual", "between-within"}:
        text = 'must be "z", "residual" or "between-within" for this estimator; write one of these, or remove estimator'
        problems.add_value(key, shown, text)
    elif "kenward-roger" in table.df and not table.reml:
        text = 'must leave out "kenward-roger", which needs REML; remove reml = false, or write "satterthwaite"'
        problems.add_value(key, shown, text)
    return table.df


def _default_rule(table: MethodTable) -> str:
    if table.robust is not None:
        return "bell-mccaffrey" if table.robust == "CR2" else "clusters"
    if table.estimator in LEAST_SQUARES:
        return "z" if table.estimator == "gls" else "residual"
    return "satterthwaite" if table.estimator == "lmm" else "z"


def _not_of_robust(table: MethodTable) -> str:
    """What is wrong with rules beside least squares or robust standard errors, or with the latter's rules without those."""
    rules = set(table.df or ())
    least_squares = table.estimator in LEAST_SQUARES
    if table.robust is None:
        possible = table.estimator in ("lmm", *LEAST_SQUARES)
        needing = [f'"{rule}"' for rule in ("clusters", "bell-mccaffrey") if rule in rules and possible]
        if needing:
            return f'must leave out {" and ".join(needing)}, for cluster-robust standard errors; add robust = "CR2", or remove df'
        if least_squares and not rules <= {"z", "residual"}:
            return f'must be "z" or "residual" for estimator = "{table.estimator}"; write one of these, or remove df'
        return ""
    allowed = ["z", "residual", *(["between-within"] * (not least_squares)), "clusters", "bell-mccaffrey"]
    if table.estimator in ("lmm", *LEAST_SQUARES) and not rules <= set(allowed):
        words = ", ".join(f'"{rule}"' for rule in allowed[:-1])
        return f'must be {words} or "bell-mccaffrey" with robust; write one of these, or remove df'
    return ""


def check_inference(table: MethodTable, method: Method, problems: Problems) -> None:
    """Intervals and likelihood ratio tests; adds to `problems` what does not go together."""
    key = f"method.{method.name}"
    if method.estimator != "lmm":
        for word in ("variance_intervals", "compare"):
            if getattr(table, word) is not None:
                problems.add_value(
                    f"{key}.{word}", getattr(table, word), 'needs estimator = "lmm"; remove one of the two'
                )
        if method.intervals != "t":
            problems.add_value(f"{key}.intervals", method.intervals, 'needs estimator = "lmm"; remove one of the two')
    if table.compare is None and table.reference is not None:
        problems.add_value(
            f"{key}.reference", table.reference, "judges a likelihood ratio, and there is none; add compare"
        )
    if table.draws is not None and not method.random:
        problems.add_value(
            f"{key}.draws", table.draws, "is for the bootstrap and exact tests, and there is none; remove it"
        )
    if method.compare is not None and method.estimator == "lmm":
        _check_comparison(key, method, problems)


def _check_comparison(key: str, method: Method, problems: Problems) -> None:
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


def tested_estimand(method: Method) -> Estimand:
    """What a method's likelihood ratio test is a test of: one estimand, or several together, "x, x:z".

    A slope that comes with its covariances is named by its variance.
    """
    assert method.compare is not None
    found = compare(method.compare, method.formula)
    if found.kind == "slope":
        return next(each for each in found.tested if each.kind == "var")
    return found.tested[0] if len(found.tested) == 1 else Estimand("test", columns=tuple(e.name for e in found.tested))
