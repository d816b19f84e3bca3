"""Least squares and cluster-robust standard errors as methods: what of a formula they estimate, and what they refuse.

"ols" ignores the clusters. "fixed-effects" gives each cluster a dummy, which absorbs every term that is constant within clusters.
"cluster-means" regresses the means of the clusters. "gls" weighs rows by the true variances, as nobody with data can: a
yardstick. None of them has a random part to estimate; that of the formula is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .model import CENTRINGS, LEAST_SQUARES, Formula, Method, source_of, term_variables
from .problems import Problems
from .tables import MethodTable

__all__ = ["absorbed", "analysed", "check_known_variances", "check_least_squares", "check_levels"]


def absorbed(formula: Formula, level: Mapping[str, int | None]) -> tuple[str, ...]:
    """The fixed terms that are constant within clusters: the Intercept and products of level-2 predictors.

    >>> from .formula import parse_formula
    >>> absorbed(parse_formula("y ~ x * z"), {"x": 1, "z": 2})
    ('Intercept', 'z')
    """
    return tuple(term for term in formula.fixed if all(_between(v, level) for v in term_variables(term)))


def _between(variable: str, level: Mapping[str, int | None]) -> bool:
    """Whether a variable is constant within clusters."""
    name, made = source_of(variable)
    return made == "between" or (level.get(name) == 2 and made not in CENTRINGS)


def analysed(formula: Formula, estimator: str, level: Mapping[str, int | None]) -> Formula:
    """The part of a formula that an estimator estimates.

    >>> from .formula import formula_text, parse_formula
    >>> formula_text(analysed(parse_formula("y ~ x * z + (1 | g)"), "fixed-effects", {"x": 1, "z": 2}))
    'y ~ 0 + x + x:z'
    """
    if estimator not in LEAST_SQUARES:
        return formula
    gone = absorbed(formula, level) if estimator == "fixed-effects" else ()
    return replace(formula, fixed=tuple(term for term in formula.fixed if term not in gone), random=())


def check_least_squares(table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    """Keys that least squares and robust standard errors give no meaning to; written: the formula before `analysed`."""
    key = f"method.{table.name}"
    if method.least_squares and not table.reml:
        problems.add_value(f"{key}.reml", False, "has no meaning for least squares; remove it")
    if table.singular_df != "lmertest" and (method.least_squares or table.robust):
        problems.add_value(f"{key}.singular_df", table.singular_df, 'is for df = "satterthwaite" only; remove it')
    if not method.formula.fixed:
        text = (
            f"leaves nothing to estimate: {', '.join(written.fixed)} do not vary within clusters, whose effects absorb them; "
            'add a term that varies within clusters, or choose another estimator than "fixed-effects"'
        )
        problems.add_value("truth.formula" if table.formula is None else f"{key}.formula", written.text, text)
    if table.estimator == "gls":
        _check_known(key, table, problems)
    if table.weights is not None and table.estimator != "cluster-means":
        problems.add_value(f"{key}.weights", table.weights, 'needs estimator = "cluster-means"; remove one of the two')
    if table.robust is not None:
        _check_robust(key, table, method, problems)


def _check_known(key: str, table: MethodTable, problems: Problems) -> None:
    """Where the variances are known, estimates are normal and their standard errors exact."""
    if table.robust is not None:
        text = 'has no meaning for estimator = "gls", which knows the variances; remove one of the two'
        problems.add_value(f"{key}.robust", table.robust, text)
    if table.df is not None and table.df != ("z",):
        shown = table.df[0] if len(table.df) == 1 else list(table.df)
        text = 'must be "z" for estimator = "gls", which knows the variances; remove it'
        problems.add_value(f"{key}.df", shown, text)


def check_known_variances(methods: Sequence[Method], drawn: Sequence[str], problems: Problems) -> None:
    """No prior may draw what "gls" knows. drawn: the paths that priors set."""
    path = next((p for p in drawn if p.startswith(("truth.random.", "truth.residual"))), None)
    for method in methods:
        if method.estimator == "gls" and path is not None:
            text = (
                f"knows the variances, and a prior draws {path} anew in each replicate; remove the prior, or the method"
            )
            problems.add_value(f"method.{method.name}.estimator", method.estimator, text)


def _check_robust(key: str, table: MethodTable, method: Method, problems: Problems) -> None:
    if method.by_rows:
        text = (
            'needs estimator = "lmm", "ols", "fixed-effects" or "cluster-means"; write one of these, or remove robust'
        )
        problems.add_value(f"{key}.robust", table.robust, text)
    if table.weights is not None:
        problems.add_value(f"{key}.robust", table.robust, "must not stand beside weights; remove one of the two")
    if table.compare is not None:
        text = "must not stand beside compare, for it changes no likelihood ratio; remove one of the two"
        problems.add_value(f"{key}.robust", table.robust, text)
    if table.estimator == "lmm" and table.intervals != "t":
        text = 'must be "t" with robust, for the others take the model\'s variances as right; remove one of the two'
        problems.add_value(f"{key}.intervals", table.intervals, text)


def check_levels(methods: Sequence[Method], varied: Sequence[str], problems: Problems) -> None:
    """What "fixed-effects" absorbs must be known before the grid is expanded. varied: the paths that axes set."""
    axis = next((path for path in varied if path.startswith("predictors.") and path.endswith(".level")), None)
    for method in methods:
        if axis is not None and method.estimator == "fixed-effects":
            text = f"needs levels that no axis changes, and one sets {axis}; remove the axis, or the method"
            problems.add_value(f"method.{method.name}.estimator", method.estimator, text)
