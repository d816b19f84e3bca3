"""The columns of a pilot under names that a study can have: transformed ones as they are, text as categories.

A study's formula has no functions and no categories in its random part. So `log(x)` becomes a column `log_x`, `poly(x, 2)` two of
them, `factor(k)` a categorical one; each is computed from the rows that the fit uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..spec.columns import Factor
from ..spec.estimand import RESERVED
from ..spec.expression import read_variable, variables_in
from ..spec.formula import FormulaError, formula_text, parse_formula, respelled
from ..spec.matrices import ModelMatrices, model_matrices
from ..spec.model import INTERCEPT, Formula, RandomTerm, source_of, term_variables
from ..spec.problems import DataError

__all__ = ["PilotColumn", "TakenOver", "take_over"]

Array = NDArray[np.float64]

#: What the name of a category may not hold.
_ODD = re.compile(r"[^\w-]+")
_LONGEST_CATEGORY = 40


@dataclass(frozen=True)
class PilotColumn:
    """A predictor of the pilot on the N rows of the fit.

    written: as the formula has it; values (N): numbers, or those of categories, 0, 1, ...; variables: the data's columns that it
    is made of. labels: of categories, their names in the data.
    """

    name: str
    written: str
    values: Array
    variables: frozenset[str]
    categories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def made(self) -> bool:
        """Whether it is no column of the data."""
        return self.variables != {self.written.strip("`")}


@dataclass(frozen=True)
class TakenOver:
    """A pilot's data and formula in the words of a study.

    frame: the columns by their new names, without rows that have missing values; fitted: the formula to fit to it; study: that of
    the study, which names a category's column in the random part. groups: the data's columns of the grouping factors, by their
    names in the study. names: the data's name by the study's, where they differ.
    """

    frame: pd.DataFrame
    fitted: str
    study: str
    columns: tuple[PilotColumn, ...]
    groups: dict[str, str]
    names: dict[str, str]
    coded: dict[str, tuple[str, str]]


def take_over(frame: pd.DataFrame, written: str) -> TakenOver:
    """Name and compute the columns of a formula. Raises DataError and FormulaError for what a study can't have."""
    before = model_matrices(written, frame)
    formula = before.formula
    if formula.offsets:
        text = f"can't have offset({formula.offsets[0]}) in a study; make it a column of the data, or leave it out"
        raise FormulaError(formula.text, text)
    columns: dict[str, list[PilotColumn]] = {}
    coded: dict[str, tuple[str, str]] = {}
    taken: dict[str, str] = {}
    response = _free_name(formula.response.strip("`"), taken)
    taken[response] = formula.response
    variables = [v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)]
    for variable in dict.fromkeys(variables):
        columns[variable] = _columns(variable, before.factors[variable], taken, coded)
    groups: dict[str, str] = {}
    grouping: dict[str, str] = {}
    for grouped in dict.fromkeys(name for group in formula.groups for name in term_variables(group)):
        own = next(variables_in(read_variable(grouped)))
        name = grouping[grouped] = _free_name(own, taken)
        groups[name] = taken[name] = own
    made = pd.DataFrame(
        {response: before.y} | {n: frame.loc[before.index, own].to_numpy() for n, own in groups.items()}
    )
    for column in (c for found in columns.values() for c in found):
        made[column.name] = (
            pd.Categorical.from_codes(column.values.astype(int), categories=pd.Index(column.categories))
            if column.categories
            else column.values
        )
    fitted = _rewritten(written, formula, response, grouping, columns)
    _check_coefficients(before, fitted, made, columns, coded)
    names = {response: formula.response.strip("`"), **groups} | {
        c.name: c.written.strip("`") for found in columns.values() for c in found
    }
    return TakenOver(
        made,
        fitted,
        _with_categories(fitted, columns),
        tuple(c for found in columns.values() for c in found),
        groups,
        {new: old for new, old in names.items() if new != old},
        coded,
    )


def _free_name(old: str, taken: Mapping[str, str]) -> str:
    """Letters, digits and _, a letter first, and no word that is taken."""
    clean = re.sub(r"\W+", "_", old).strip("_") or "v"
    clean = clean if re.match(r"[^\W\d_]", clean) else f"v{clean}"
    clean = f"{clean}_" if clean in RESERVED else clean
    new, k = clean, 2
    while new in taken:
        new, k = f"{clean}_{k}", k + 1
    return new


def _columns(
    variable: str, found: Factor, taken: dict[str, str], coded: dict[str, tuple[str, str]]
) -> list[PilotColumn]:
    """The study's columns of one variable of the formula; `taken` and `coded` are added to."""
    variables = frozenset(variables_in(read_variable(variable)))

    def named(base: str, written: str, values: Array, *more: tuple[str, ...]) -> PilotColumn:
        name = _free_name(base, taken)
        taken[name] = written
        return PilotColumn(name, written, values, variables, *more)

    base, labels = variable.strip("`"), found.labels
    if found.truth or (not found.contrasts and len(labels) == 1):
        return [named(base, variable, found.columns[:, 0])]
    if not found.contrasts:
        return [named(f"{base}_{k}", f"{variable}[{k}]", x) for k, x in zip(labels, found.columns.T, strict=True)]
    codes = found.columns[:, 0]
    if len(labels) == 2:
        column = named(base, variable, codes)
        coded[column.name] = (labels[0], labels[1])
        return [column]
    return [named(base, variable, codes, _category_names(labels), labels)]


def _category_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Names that a study can have for categories.

    >>> _category_names(["Grade 1", "Grade-2", "Grade 1 "])
    ('Grade_1', 'Grade-2', 'Grade_1_2')
    """
    names: list[str] = []
    for label in labels:
        clean = _ODD.sub("_", label).strip("_")[: _LONGEST_CATEGORY - 3] or "other"
        same = sum(name == clean or name.startswith(f"{clean}_") for name in names)
        names.append(f"{clean}_{same + 1}" if clean in names else clean)
    return tuple(names)


def _rewritten(
    written: str,
    formula: Formula,
    response: str,
    grouping: Mapping[str, str],
    columns: Mapping[str, Sequence[PilotColumn]],
) -> str:
    """The formula with the study's names; several columns of one factor as their sum. grouping: names of grouping factors."""
    if all(len(found) == 1 for found in columns.values()) and not grouping.keys() & columns.keys():
        new = {
            formula.response: response,
            **grouping,
            **{variable: found[0].name for variable, found in columns.items()},
        }
        return respelled(written, new)
    random = tuple(
        RandomTerm(":".join(grouping[name] for name in term_variables(t.group)), _multiplied(t.columns, columns))
        for t in formula.random
    )
    return formula_text(Formula("", response, _multiplied(formula.fixed, columns), random))


def _multiplied(terms: Sequence[str], columns: Mapping[str, Sequence[PilotColumn]]) -> tuple[str, ...]:
    """Terms with each column of each factor in its place, the first factor's columns varying fastest."""
    found: list[str] = []
    for term in terms:
        choices = [[c.name for c in columns[variable]] for variable in term_variables(term)]
        found += [":".join(reversed(choice)) or INTERCEPT for choice in product(*reversed(choices))]
    return tuple(found)


def _with_categories(fitted: str, columns: Mapping[str, Sequence[PilotColumn]]) -> str:
    """The formula with the columns of categories in its random part."""
    formula = parse_formula(fitted)
    factors = {
        c.name: [f"{c.name}[{k}]" for k in c.categories[1:]]
        for found in columns.values()
        for c in found
        if c.categories
    }
    if not any(v in factors for column in formula.random_columns for v in term_variables(column)):
        return fitted
    random = []
    for term in formula.random:
        names: list[str] = []
        for column in term.columns:
            choices = [factors.get(v, [v]) for v in term_variables(column)]
            names += [":".join(reversed(choice)) or INTERCEPT for choice in product(*reversed(choices))]
        random.append(RandomTerm(term.group, tuple(names)))
    return formula_text(Formula("", formula.response, formula.fixed, tuple(random)))


def _check_coefficients(
    before: ModelMatrices,
    fitted: str,
    made: pd.DataFrame,
    columns: Mapping[str, Sequence[PilotColumn]],
    coded: Mapping[str, tuple[str, str]],
) -> None:
    """Whether each factor has a coefficient for all categories but one, as in a study."""
    after = model_matrices(fitted, made)
    names = [*after.fixed_names, *(name for part in after.random_names for name in part)]
    used = {source_of(variable) for name in names for variable in term_variables(name)}
    for column in (c for found in columns.values() for c in found if c.categories):
        if (column.name, f"[{column.categories[0]}]") in used:
            raise DataError(
                f"{column.written} has a coefficient for each of its {len(column.categories)} categories here, and a study's "
                "factor has one for all but the first; add an intercept (1) and the main effects of products, or make columns of "
                "0 and 1"
            )
    if after.X.shape != before.X.shape or [Z.shape for Z in after.Z] != [Z.shape for Z in before.Z]:
        text = " and ".join(c.written for found in columns.values() for c in found if c.name in coded)
        raise DataError(f"{text} has a coefficient for each of its two categories here; make it a column of 0 and 1")
