"""What a condition's methods estimate, with the true values.

Names: a fixed effect by its term; `var:<group>:<column>`, `cov:<group>:<a>:<b>` for columns of one random term,
`var:residual`; derived from those: `sd:...`, `cor:...` (undefined where a variance is 0: nan), and
icc = intercept variance / (intercept variance + residual variance), the other slopes' predictors at 0.

The residual variance is the stated one: where errors differ, that of rows whose predictors with a variance ratio are 0, in the
mean over clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .centred import centred_columns, centred_values
from .contrasts import true_contrast
from .estimand import Estimand, distinct, listed, random_part
from .formula import canonical_term, find_term
from .inference import tested_estimand
from .model import INTERCEPT, Condition, Contrast, Formula, Method, Truth
from .uncertain import DrawnTruth, drawn_truth, drawn_values, prior_names

__all__ = ["drawn_estimands", "estimands", "study_estimands", "varying_estimands"]

#: Draws by which it is seen what varies.
_PROBES = 4


def study_estimands(truth: Formula, methods: Sequence[Method]) -> dict[str, Estimand]:
    """All that a study has measures of, by name and in order: the estimands, and what likelihood ratio tests test.

    >>> from .formula import parse_formula
    >>> formula = parse_formula("y ~ x + (1 | g)")
    >>> list(study_estimands(formula, [Method("m", formula, compare=parse_formula("y ~ 1"), reml=False)]))[-2:]
    ['icc', 'x, var:g:Intercept']
    """
    contrasts = tuple(dict.fromkeys(contrast for method in methods for contrast in method.contrasts))
    found = listed([truth, *(method.formula for method in methods)], contrasts)
    tested = [tested_estimand(method) for method in methods if method.tests_ratio]
    return found | {each.name: each for each in tested if each.name not in found}


def estimands(
    condition: Condition, method_formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()
) -> dict[str, float]:
    """The true value of each estimand, in order: fixed, contrasts, variances, covariances, residual, then the derived ones.

    Terms and random columns that only a method has stand after those of the truth, with a true value of 0; those on centred
    predictors with what the truth says in other ones (`centred`). Where values have priors, those at their means.
    """
    found = _values(condition.truth, method_formulas, contrasts)
    return {name: float(value) for name, value in found.items()}


def drawn_estimands(
    truths: DrawnTruth, method_formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()
) -> dict[str, Any]:
    """The same of each replicate, (R,) or a number where no draw can change it, without the derived ones."""
    contrasts = tuple(contrasts)
    found, known = _values(truths, method_formulas, contrasts), listed([truths.formula, *method_formulas], contrasts)
    return {name: value for name, value in found.items() if not known[name].derived}


def varying_estimands(
    condition: Condition, method_formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()
) -> list[str]:
    """The names of those that differ between replicates."""
    priors = len(prior_names(condition))
    probes = np.arange(1.0, priors * _PROBES + 1).reshape(priors, _PROBES) * 0.6180339887498949 % 1
    truths = drawn_truth(condition, drawn_values(condition, probes))
    found = drawn_estimands(truths, method_formulas, contrasts)
    return [name for name, value in found.items() if np.ndim(value) and np.ptp(value) > 0]


def _values(
    truth: Truth | DrawnTruth, method_formulas: Sequence[Formula], contrasts: Iterable[Contrast]
) -> dict[str, Any]:
    formulas = [truth.formula, *method_formulas]
    group, columns, couples = random_part(formulas)
    alike = centred_columns(truth.formula, method_formulas)
    variances = {column: _covariance(truth, alike, column, column) for column in columns}
    covariances = {(a, b): _covariance(truth, alike, a, b) for a, b in couples}
    residual = truth.residual_variance
    fixed = distinct(term for formula in formulas for term in formula.fixed)
    other = centred_values(truth.formula, lambda term: _fixed(truth, term), method_formulas)
    values: dict[str, Any] = {term: other.get(canonical_term(term), _fixed(truth, term)) for term in fixed}
    values |= {contrast.name: true_contrast(contrast, truth, values) for contrast in contrasts}
    values |= {f"var:{group}:{column}": variance for column, variance in variances.items()}
    values |= {f"cov:{group}:{a}:{b}": covariance for (a, b), covariance in covariances.items()}
    values["var:residual"] = residual
    values |= {f"sd:{group}:{column}": np.sqrt(variance) for column, variance in variances.items()}
    values["sd:residual"] = np.sqrt(residual)
    for (a, b), covariance in covariances.items():
        scale = np.sqrt(variances[a]) * np.sqrt(variances[b])
        with np.errstate(invalid="ignore", divide="ignore"):
            values[f"cor:{group}:{a}:{b}"] = np.where(scale > 0, np.divide(covariance, scale), np.nan)
    if INTERCEPT in variances:
        values["icc"] = variances[INTERCEPT] / (variances[INTERCEPT] + residual)
    return values


def _fixed(truth: Truth | DrawnTruth, term: str) -> Any:
    name = find_term(truth.formula.fixed, term)
    return 0.0 if name is None else truth.fixed[truth.formula.fixed.index(name)]


def _covariance(truth: Truth | DrawnTruth, alike: Mapping[str, str], a: str, b: str) -> Any:
    columns = truth.formula.random_columns
    found = [find_term(columns, alike.get(column, column)) for column in (a, b)]
    if found[0] is None or found[1] is None:
        return 0.0
    return truth.covariance[columns.index(found[0])][columns.index(found[1])]
