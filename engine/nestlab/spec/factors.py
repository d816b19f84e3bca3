"""The formulas of studies: what they can't have is refused, and a predictor with categories stands for its columns, `k` for
`k[b] + k[c]`, in products too."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace

from .expression import read_variable, variables_in
from .formula import (
    FormulaError,
    canonical_term,
    parse_formula,
    random_term_text,
    respelled,
)
from .model import CENTRINGS, INTERCEPT, MAX_FIXED, MAX_RANDOM, MOST_RANDOM, Formula, term_variables
from .problems import close_match
from .structure import NO_FACTORS, GroupingFactors, with_factors

__all__ = ["expand", "study_formula"]

_NAME = re.compile(r"[^\W\d_][\w.]*(?:\[[\w-]+\])?")
_OWN = "give {f}_{x} a distribution of its own in [predictors.{f}_{x}] and write {f}_{x}"
_CATEGORIES = 'write {x}, and categories = ["a", "b"] (the reference first) with its distribution in [predictors.{x}]'
#: What to write in a study instead of a function of the predictor x.
_INSTEAD = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan"), _OWN),
    "I": "give it as a predictor of its own, {x}_2 with [predictors.{x}_2], or write products of predictors as x:z",
    "poly": "give each power as a predictor of its own, {x} and {x}_2 with [predictors.{x}_2]",
    "scale": "write {x}, and mean = 0 and sd = 1 in [predictors.{x}]",
    **dict.fromkeys(("factor", "as.factor", "relevel"), _CATEGORIES),
    "C": f'{_CATEGORIES}, or coding = "sum" or "helmert"',
    "as.numeric": "write {x}",
    "offset": "leave it out, as it moves the outcome by known amounts and no estimate with it",
}


def study_formula(text: str, columns: Mapping[str, tuple[str, ...]], factors: GroupingFactors = NO_FACTORS) -> Formula:
    """Read a formula of a study, with the columns of each category in the place of its name. columns: by the names of predictors
    with categories; factors: the grouping factors of [design.factors].

    Raises FormulaError for what a study can't have, with what to write instead.

    >>> study_formula("y ~ factor(k)*x + (1 | g)", {"k": ("k[b]", "k[c]")}).fixed
    ('Intercept', 'k[b]', 'k[c]', 'x', 'k[b]:x', 'k[c]:x')
    """
    formula = parse_formula(text)
    calls = {f"{call}({name})": name for call in ("factor", "as.factor") for name in columns}
    if any(v in calls for v in _variables(formula)):
        formula = replace(parse_formula(respelled(text, calls)), text=formula.text)
    formula = with_factors(formula, factors)
    if reason := _impossible(formula):
        raise FormulaError(formula.text, reason)
    return expand(formula, columns)


def _variables(formula: Formula) -> list[str]:
    return [v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)]


def _impossible(formula: Formula) -> str | None:
    """Why a study can't have a formula."""
    if read_variable(formula.response).kind != "name":
        return (
            f'the left side of "~" must be one name, not {formula.response}; a study draws the outcome as it is analysed: '
            'write it as "y ~ ..."'
        )
    for name in dict.fromkeys([*_variables(formula), *(f"offset({name})" for name in formula.offsets)]):
        if reason := _impossible_variable(name):
            return reason
    if ":" in formula.group and not formula.factors:
        return f"must have a grouping factor of one name; write {formula.group.replace(':', '_')} for {formula.group}"
    if len(formula.fixed) > MAX_FIXED:
        return f"has {len(formula.fixed)} fixed terms; at most {MAX_FIXED} are possible: remove some"
    most = MOST_RANDOM if formula.factors else MAX_RANDOM
    if (q := len(formula.random_columns)) > most:
        return f"has {q} random columns; at most {most} are possible: remove some"
    for part in formula.parts if formula.factors else ():
        twice = [column for column in part.random_columns if part.random_columns.count(column) > 1]
        if twice:
            return f"has two random effects {twice[0]} of {part.group}; remove one"
    return None


def _impossible_variable(name: str) -> str | None:
    node = read_variable(name)
    if node.kind == "name":
        return (
            None if _NAME.fullmatch(name) else f"{name} is no name of a predictor; rename it with letters, digits and _"
        )
    if node.value in CENTRINGS:
        plain = [part for part in node.parts if part.kind == "name" and _NAME.fullmatch(part.value)]
        return (
            None
            if len(plain) == len(node.parts) == 1
            else f"{node.value}(...) takes one predictor; write {node.value}(x)"
        )
    guess = close_match(node.value, CENTRINGS)
    repair = f"did you mean {guess}(...)?" if guess else "give the variable as a predictor"
    repair = _INSTEAD.get(node.value, repair).format(x=next(variables_in(node), "x"), f=node.value)
    return f"calls such as {node.value}(...) are not possible in a study formula; {repair}"


def expand(formula: Formula, columns: Mapping[str, tuple[str, ...]]) -> Formula:
    """The formula with the columns of each factor in the place of its name. columns: by the names of factors.

    Raises FormulaError for a factor as a random column, a category that it has not, and too many terms.

    >>> expand(parse_formula("y ~ k*x + (1 | g)"), {"k": ("k[b]", "k[c]")}).fixed
    ('Intercept', 'k[b]', 'k[c]', 'x', 'k[b]:x', 'k[c]:x')
    """
    if not any(variable in columns for variable in _variables(formula)):
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
