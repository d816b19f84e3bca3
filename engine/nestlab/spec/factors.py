"""Predictors with categories: in formulas a name stands for its columns, `k` for `k[b] + k[c]`, in products too."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from .formula import MAX_FIXED, FormulaError, canonical_term, random_term_text
from .model import INTERCEPT, Formula, term_variables

__all__ = ["expand"]


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
