"""Least squares and cluster-robust standard errors as methods: what of a formula they estimate, and what they refuse.

"ols" ignores the clusters. "fixed-effects" gives each cluster a dummy, which absorbs every term that is constant within clusters.
"cluster-means" regresses the means of the clusters. "gls" weighs rows by the true variances, as nobody with data can: a
yardstick. None of them has a random part to estimate; that of the formula is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .model import CENTRINGS, LEAST_SQUARES, Errors, Formula, Method, source_of, term_variables
from .problems import Problems
from .tables import MethodTable

__all__ = [
    "absorbed",
    "analysed",
    "averaged_out",
    "check_known_errors",
    "check_known_variances",
    "check_least_squares",
    "check_levels",
]


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


def averaged_out(formula: Formula, level: Mapping[str, int | None]) -> tuple[str, ...]:
    """The fixed terms whose mean is 0 in every cluster: within(x) and its products with what is constant there.

    >>> from .formula import parse_formula
    >>> averaged_out(parse_formula("y ~ within(x) * z + between(x)"), {"x": 1, "z": 2})
    ('within(x)', 'within(x):z')
    """
    varying = {term: [v for v in term_variables(term) if not _between(v, level)] for term in formula.fixed}
    return tuple(term for term, inner in varying.items() if len(inner) == 1 and source_of(inner[0])[1] == "within")


def analysed(formula: Formula, estimator: str, level: Mapping[str, int | None]) -> Formula:
    """The part of a formula that an estimator estimates.

    >>> from .formula import formula_text, parse_formula
    >>> formula_text(analysed(parse_formula("y ~ x * z + (1 | g)"), "fixed-effects", {"x": 1, "z": 2}))
    'y ~ 0 + x + x:z'
    """
    if estimator not in LEAST_SQUARES:
        return formula
    left_out = {"fixed-effects": absorbed, "cluster-means": averaged_out}.get(estimator)
    gone = left_out(formula, level) if left_out else ()
    return replace(formula, fixed=tuple(term for term in formula.fixed if term not in gone), random=())


def check_least_squares(table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    """Keys that least squares and robust standard errors give no meaning to; written: the formula before `analysed`."""
    key = f"method.{table.name}"
    if method.least_squares and not table.reml:
        problems.add_value(f"{key}.reml", False, "has no meaning for least squares; remove it")
    if table.singular_df != "lmertest" and (method.least_squares or table.robust):
        problems.add_value(f"{key}.singular_df", table.singular_df, 'is for df = "satterthwaite" only; remove it')
    if not method.formula.fixed:
        within = table.estimator == "fixed-effects"
        why = "do not vary within clusters, whose effects absorb them" if within else "average to 0 in every cluster"
        text = (
            f"leaves nothing to estimate: {', '.join(written.fixed)} {why}; add a term that varies "
            f'{"within" if within else "between"} clusters, or choose another estimator than "{table.estimator}"'
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


def check_known_errors(methods: Sequence[Method], errors: Errors, problems: Problems) -> None:
    """What "gls" takes as known, errors of one variance and no correlation. Clusters' own variances have that one on average."""
    found = [("truth.errors.ar1", errors.ar1)] if errors.ar1 else []
    found += [(f"truth.errors.variance_ratio.{name}", ratio) for name, ratio in errors.ratios if ratio != 1.0]
    named = [method.name for method in methods if method.estimator == "gls"]
    for path, value in found if named else ():
        text = (
            f'must be {0 if path.endswith("ar1") else 1} beside estimator = "gls" (method {named[0]}), which weighs by the '
            "variances of the random effects and one residual variance; remove it, or the method"
        )
        problems.add_number(path, value, text)


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
