"""Targets beyond coefficients: [[contrast]] of a study file, checked against the formulas, and their true values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from .estimand import ICC, listed
from .formula import canonical_term, find_term
from .methods import ESTIMATORS, estimator_of
from .methods.estimator import Levels
from .model import INTERCEPT, Contrast, Formula, Method, source_of
from .problems import Problems, nearest
from .tables import ContrastTable

__all__ = ["can_estimate", "read_contrasts", "weights_of"]


def read_contrasts(
    tables: Sequence[ContrastTable], truth: Formula, methods: Sequence[Method], level: Levels, problems: Problems
) -> tuple[Method, ...]:
    """The methods with the contrasts that each can estimate; adds to `problems` what is wrong with the tables.

    level: see `methods.estimator.Levels`.
    """
    contrasts: list[Contrast] = []
    formulas = [truth, *(method.formula for method in methods)]
    terms = list(dict.fromkeys(term for formula in formulas for term in formula.fixed))
    for table in tables:
        before = len(problems)
        _check_name(table, {*listed(formulas), INTERCEPT, ICC.name}, [c.name for c in contrasts], problems)
        weights = _weights(table, terms, problems)
        test = _test(table, problems)
        if len(problems) == before:
            null, alternative, equivalence = test
            contrasts.append(Contrast(table.name, weights, table.standardise, null, alternative, equivalence))  # type: ignore[arg-type]
    for contrast in contrasts:
        if not any(can_estimate(method, contrast, level) for method in methods):
            key = f"contrast.{contrast.name}.weights"
            needed = f"all of {', '.join(contrast.terms)} in its formula"
            if contrast.standardise is not None:
                estimators = " or ".join(f'"{row.name}"' for row in ESTIMATORS.values() if row.of_variances)
                needed += f", estimator = {estimators}{' and a random intercept' * (contrast.standardise == 'total')}"
            if own := [m for m in methods if not _tests(m, contrast, level)]:
                several = " jointly" if contrast.joint else ""
                needed += f'; "{own[0].estimator}" tests effects one by one, and has no test of these{several}'
            problems.add(key, f"is estimated by no method: none has {needed}; add one")
    return tuple(replace(m, contrasts=tuple(c for c in contrasts if can_estimate(m, c, level))) for m in methods)


def _tests(method: Method, contrast: Contrast, level: Levels) -> bool:
    """Whether a method has a test of these effects together, of this null."""
    row = estimator_of(method)
    terms = [term for name in contrast.terms if (term := find_term(method.formula.fixed, name)) is not None]
    shifted = contrast.null != 0 or contrast.equivalence is not None
    return (row.joint or not contrast.joint) and (row.shifts or not shifted) and row.combines(method, terms, level)


def can_estimate(method: Method, contrast: Contrast, level: Levels) -> bool:
    """Whether a method's formula and estimator have all that a contrast is made of."""
    row = estimator_of(method)
    if not row.covariances or not _tests(method, contrast, level):
        return False
    return all(find_term(method.formula.fixed, term) is not None for term in contrast.terms) and (
        contrast.standardise is None
        or (row.of_variances and (contrast.standardise == "residual" or INTERCEPT in method.formula.random_columns))
    )


def _check_name(table: ContrastTable, taken: Collection[str], names: Sequence[str], problems: Problems) -> None:
    key = f"contrast.{table.name}.name"
    if table.name in names:
        problems.add_value(key, table.name, "must be a name of its own, and is given twice; rename one")
    if table.name in taken:
        problems.add_value(key, table.name, "must not be the name of a fixed effect or of another estimand; rename it")


def _near(name: str, terms: Sequence[str]) -> str:
    """What to write instead of a term that no formula has."""
    factor, made = source_of(name)
    columns = [term for term in terms if made.startswith("[") and term.startswith(f"{factor}[") and ":" not in term]
    return f"of {factor} these are {', '.join(columns)}; use one of them" if columns else nearest(name, terms)


def _weights(
    table: ContrastTable, terms: Sequence[str], problems: Problems
) -> tuple[tuple[tuple[str, float], ...], ...]:
    key = f"contrast.{table.name}.weights"
    rows = []
    for row in table.weights:
        found: dict[str, float] = {}
        for name, weight in row.items():
            term = find_term(terms, name)
            if term is None:
                problems.add_number(
                    f"{key}.{name}", weight, f"must be a fixed effect of a formula; {_near(name, terms)}"
                )
            elif term in found:
                problems.add_number(
                    f"{key}.{name}", weight, f"must be given once, and {term} is given twice; remove one"
                )
            else:
                found[term] = weight
        rows.append(tuple((term, weight) for term, weight in found.items() if weight != 0))
    matrix = np.array([[dict(row).get(term, 0.0) for term in terms] for row in rows])
    if len(rows) > 1 and np.linalg.matrix_rank(matrix) < len(rows):
        problems.add(key, "must be rows that do not depend on one another; remove those that follow from the others")
    return tuple(rows)


def _test(table: ContrastTable, problems: Problems) -> tuple[float, str, tuple[float, float] | None]:
    """(null, alternative, equivalence)."""
    key = f"contrast.{table.name}"
    joint = len(table.weights) > 1
    given = [w for w in ("standardise", "null", "alternative", "margin") if getattr(table, w) is not None]
    if joint and (given or table.test != "difference"):
        words = given + (["test"] if table.test != "difference" else [])
        problems.add(
            key, f"is a joint test, which has no {' and no '.join(words)}; remove it, or give one row of weights"
        )
    if table.test == "difference":
        if table.margin is not None:
            problems.add(
                f"{key}.margin", 'belongs to test = "non-inferiority" or "equivalence"; add test, or remove it'
            )
        return table.null or 0.0, table.alternative or "two-sided", None
    if table.margin is None:
        problems.add(f"{key}.margin", f'is missing: test = "{table.test}" needs it; add margin = 0.2, say')
        return 0.0, "two-sided", None
    if table.null is not None:
        problems.add_number(
            f"{key}.null", table.null, f'must be absent for test = "{table.test}": margin says it; remove it'
        )
    if table.test == "equivalence":
        if table.alternative is not None:
            problems.add(f"{key}.alternative", 'has no meaning for test = "equivalence"; remove it')
        ends = table.margin if isinstance(table.margin, tuple) else (-table.margin, table.margin)
        return 0.0, "two-sided", ends
    if isinstance(table.margin, tuple) or table.alternative == "two-sided":
        text = 'must have one margin, and alternative = "greater" (larger is better) or "less"; correct them'
        problems.add(f"{key}", text)
        return 0.0, "two-sided", None
    alternative = table.alternative or "greater"
    return (-table.margin if alternative == "greater" else table.margin), alternative, None


def weights_of(contrast: Contrast, fixed: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Weights (r, p) on the fixed effects of a formula."""
    places = {canonical_term(term): i for i, term in enumerate(fixed)}
    matrix = np.zeros((len(contrast.weights), len(fixed)))
    for r, row in enumerate(contrast.weights):
        for term, weight in row:
            matrix[r, places[canonical_term(term)]] = weight
    return matrix
