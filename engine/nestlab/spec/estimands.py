"""What a condition's methods estimate, with the true values.

Names: a fixed effect by its term; `var:<group>:<column>`, `cov:<group>:<a>:<b>` for columns of one random term,
`var:residual`; derived from those: `sd:...`, `cor:...` (undefined where a variance is 0: nan), and
icc = intercept variance / (intercept variance + residual variance), the other slopes' predictors at 0.

The residual variance is the stated one: where errors differ, that of rows whose predictors with a variance ratio are 0, in the
mean over clusters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .centred import centred_columns, centred_values
from .contrasts import true_contrast
from .formula import canonical_term, find_term, same_term
from .model import INTERCEPT, Condition, Contrast, Formula, Truth
from .uncertain import DrawnTruth, drawn_truth, drawn_values, prior_names

__all__ = ["drawn_estimands", "estimands", "find_estimand", "is_derived", "varying_estimands"]

#: Draws by which it is seen what varies.
_PROBES = 4


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
    found = _values(truths, method_formulas, contrasts)
    return {name: value for name, value in found.items() if not is_derived(name)}


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
    group = truth.formula.group or next((formula.group for formula in formulas if formula.random), "")
    columns = _distinct(column for formula in formulas for column in formula.random_columns)
    couples = _couples(formulas, columns)
    alike = centred_columns(truth.formula, method_formulas)
    variances = {column: _covariance(truth, alike, column, column) for column in columns}
    covariances = {(a, b): _covariance(truth, alike, a, b) for a, b in couples}
    residual = truth.residual_variance
    fixed = _distinct(term for formula in formulas for term in formula.fixed)
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


def is_derived(name: str) -> bool:
    """Whether an estimand is computed from others and not stored.

    >>> is_derived("icc"), is_derived("sd:residual"), is_derived("var:residual"), is_derived("x:z")
    (True, True, False, False)
    """
    return name == "icc" or name.startswith(("sd:", "cor:"))


def find_estimand(names: Iterable[str], name: str) -> str | None:
    """The one of `names` that `name` means ("z:x" is "x:z"), or None.

    >>> find_estimand(["x:z", "cov:g:Intercept:x"], "cov:g:x:Intercept")
    'cov:g:Intercept:x'
    """
    names = list(names)
    if name in names:
        return name
    head, _, rest = name.partition(":")
    if head not in ("var", "sd", "cov", "cor"):
        return next((n for n in names if not n.startswith(_PREFIXES) and same_term(n, name)), None)
    group, _, columns = rest.partition(":")
    alike = (n for n in names if n.startswith(f"{head}:{group}:"))
    return next((n for n in alike if same_term(n.split(":", 2)[2], columns)), None)


_PREFIXES = ("var:", "sd:", "cov:", "cor:")


def _distinct(terms: Iterable[str]) -> list[str]:
    """Each term once, by the name it has first."""
    found: dict[str, str] = {}
    for term in terms:
        found.setdefault(canonical_term(term), term)
    return list(found.values())


def _couples(formulas: Iterable[Formula], columns: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of columns that share a random term of some formula, named and ordered as in `columns`."""
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for formula in formulas:
        for term in formula.random:
            places = sorted(columns.index(find_term(columns, column) or "") for column in term.columns)
            for i, j in itertools.combinations(places, 2):
                found.setdefault((i, j), (columns[i], columns[j]))
    return list(found.values())


def _fixed(truth: Truth | DrawnTruth, term: str) -> Any:
    name = find_term(truth.formula.fixed, term)
    return 0.0 if name is None else truth.fixed[truth.formula.fixed.index(name)]


def _covariance(truth: Truth | DrawnTruth, alike: Mapping[str, str], a: str, b: str) -> Any:
    columns = truth.formula.random_columns
    found = [find_term(columns, alike.get(column, column)) for column in (a, b)]
    if found[0] is None or found[1] is None:
        return 0.0
    return truth.covariance[columns.index(found[0])][columns.index(found[1])]
