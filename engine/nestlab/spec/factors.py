"""Predictors with categories: in formulas a name stands for its columns, `k` for `k[b] + k[c]`, in products too; their values are
contrasts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formula import FormulaError, canonical_term, random_term_text
from .model import INTERCEPT, MAX_FIXED, Formula, Predictor, term_variables

__all__ = ["coded", "contrast_values", "expand"]

Array = NDArray[np.float64]


def expand(formula: Formula, columns: Mapping[str, tuple[str, ...]]) -> Formula:
    """The formula with the columns of each factor in the place of its name. columns: by the names of factors.

    Raises FormulaError for a factor as a random column, a category that it has not, and too many terms.

    >>> from .formula import parse_formula
    >>> expand(parse_formula("y ~ k*x + (1 | g)"), {"k": ("k[b]", "k[c]")}).fixed
    ('Intercept', 'k[b]', 'k[c]', 'x', 'k[b]:x', 'k[c]:x')
    """
    terms = (*formula.fixed, *formula.random_columns)
    if not any(variable in columns for term in terms for variable in term_variables(term)):
        return formula
    for random in formula.random:
        for variable in (v for column in random.columns for v in term_variables(column) if v in columns):
            reason = f"must name one column of {variable} in {random_term_text(random)}; write {' or '.join(columns[variable])}"
            raise FormulaError(formula.text, reason)
    fixed: dict[str, str] = {}
    for term in formula.fixed:
        choices = [columns.get(variable, (variable,)) for variable in term_variables(term)]
        for choice in itertools.product(*reversed(choices)):  # the first factor's columns vary fastest, as in R
            name = ":".join(reversed(choice)) or INTERCEPT
            fixed.setdefault(canonical_term(name), name)
    if len(fixed) > MAX_FIXED:
        names = ", ".join(f"{len(columns[name])} of {name}" for name in columns)
        reason = f"has {len(fixed)} fixed terms (columns: {names}); at most {MAX_FIXED} are possible: remove some"
        raise FormulaError(formula.text, reason)
    return replace(formula, fixed=tuple(fixed.values()))


def contrast_values(predictor: Predictor) -> Array:
    """Return (K, K - 1): the values of a predictor's columns for each of its K categories.

    treatment: 1 in its own category, the first has none; sum: 1 in its own, -1 in the last; helmert: column i holds -1 in
    categories 0 .. i and i + 1 in the next, as R's contr.helmert.
    """
    K = len(predictor.categories)
    if predictor.coding == "treatment":
        return np.eye(K)[:, 1:]
    if predictor.coding == "sum":
        return np.vstack([np.eye(K - 1), -np.ones((1, K - 1))])
    return np.diag(np.arange(1.0, K), -1)[:, :-1] - np.triu(np.ones((K, K - 1)))


def coded(predictor: Predictor, values: NDArray[Any]) -> dict[str, Array]:
    """Return the values of a predictor by its columns: itself, or contrasts where they are numbers of categories."""
    if not predictor.categories:
        return {predictor.name: values.astype(np.float64)}
    return dict(zip(predictor.columns, contrast_values(predictor)[values.astype(np.int64)].T, strict=True))
