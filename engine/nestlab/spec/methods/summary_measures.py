"""Summary measures of repeated measurements: each cluster is its first row, the baseline, and the mean of its later rows.

"change-scores" regresses the mean less the baseline, "ancova" the mean on the baseline too, on the terms that are constant within
clusters (Frison and Pocock 1992, Stat Med 11:1685). Where the truth has a term b f z, f of the row and z of the cluster, the
coefficient of z is the sum over these terms of

    b (mean of later f - c f_1),   c = 1 for change scores;   for ancova c = Z' G Z_1 / (Z_1' G Z_1 + s2)

with Z_1 the random columns in the first row and Z their mean over later rows: the regression of the mean on the baseline among
clusters that are alike. As a projection it holds whatever the distributions. With time 0 at the baseline and no effect there,
both give the coefficient of z:time times the mean of the later times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..model import INTERCEPT, Condition, Formula, Method, Predictor, source_of, term_variables
from .estimator import Estimator, Levels, UnknownError
from .least_squares import absorbed, check_terms

if TYPE_CHECKING:
    from ..problems import Problems
    from ..tables import MethodTable

__all__ = ["ANCOVA", "CHANGE_SCORES"]

Array = NDArray[np.float64]


def _left_out(formula: Formula, level: Levels) -> tuple[str, ...]:
    kept = absorbed(formula, level)
    return tuple(term for term in formula.fixed if term not in kept)


def _check(key: str, table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    check_terms(key, table, method, written, problems, gone="vary within clusters", where="between")


def _words(text: str) -> Callable[[Method], Iterator[tuple[str, str]]]:
    def words(method: Method) -> Iterator[tuple[str, str]]:
        yield "estimator", f"least squares on clusters: {text}"

    return words


# -- what the coefficients are ------------------------------------------------------------------------------------------------


def _translate(condition: Condition, method: Method, *, adjusted: bool) -> tuple[Array, str]:
    rows, truth = _rows(condition), condition.truth
    own = [frozenset(term_variables(term)) for term in method.formula.fixed]
    A, alike = np.zeros((len(own), len(truth.fixed))), not condition.priors
    ends: list[tuple[int, int, float, float]] = []
    for k, term in enumerate(truth.formula.fixed):
        if truth.fixed[k] == 0 and not condition.priors:
            continue
        inner, outer = _apart(term, condition)
        values = _by_place(inner, condition, rows)
        if frozenset(outer) in own:
            first, later = values[0], values[1:].mean()
            ends.append((own.index(frozenset(outer)), k, float(first), float(later)))
        elif len(outer) > 1:
            raise UnknownError(f"{':'.join(outer)} is in the truth and not in the method, which averages over it")
        else:
            alike = False
        alike &= not any(_drawn(condition, name) for name in inner)
    c = 1.0 if not adjusted else _slope(condition, rows) if alike else math.nan
    for place, k, first, later in ends:
        A[place, k] = later - c * first if first else later
    unknown = np.isnan(A).any()
    return A, "the regression on the baseline does not follow from the study" if unknown else ""


def _rows(condition: Condition) -> int:
    if len(set(condition.layout.sizes)) > 1 or condition.layout.drawn or condition.missing is not None:
        raise UnknownError("clusters have different rows")
    if (rows := condition.layout.sizes[0]) < 2:
        raise UnknownError("clusters have one row, and none after the baseline")
    return rows


def _apart(term: str, condition: Condition) -> tuple[list[str], list[str]]:
    """The variables of a term that vary within clusters, and the others."""
    inner: list[str] = []
    outer: list[str] = []
    for variable in term_variables(term):
        name, made = source_of(variable)
        (outer if made == "between" or condition.predictor(name).outer else inner).append(variable)
    return inner, outer


def _drawn(condition: Condition, variable: str) -> bool:
    return condition.predictor(source_of(variable)[0]).distribution not in ("time", "list")


def _by_place(variables: Sequence[str], condition: Condition, rows: int) -> Array:
    """(rows): the values of a product by the row in its cluster, or their means where they are drawn for each row."""
    if len(variables) > 1 and any(_drawn(condition, v) for v in variables):
        raise UnknownError(f"{':'.join(variables)} is drawn and varies within clusters")
    values = np.ones(rows)
    for variable in variables:
        name, made = source_of(variable)
        predictor = condition.predictor(name)
        if made or predictor.categories:
            raise UnknownError(f"the values of {variable} by row do not follow from the study")
        values = values * _values(predictor, rows)
    return values


def _values(predictor: Predictor, rows: int) -> Array:
    match predictor.distribution:
        case "time":
            return np.asarray(predictor.mean + predictor.sd * np.arange(rows), dtype=np.float64)
        case "list":
            return np.resize(np.array(predictor.values, dtype=np.float64), rows)
        case "balanced" | "schedule" | "period" | "arms":
            raise UnknownError(f"{predictor.name} does not have the same values in all clusters")
    if not predictor.redraw:
        raise UnknownError(f"{predictor.name} is drawn once")
    return np.full(rows, float(predictor.mean))


def _slope(condition: Condition, rows: int) -> float:
    """The regression of the mean of later rows on the first row; nan where it does not follow."""
    truth, columns = condition.truth, condition.truth.formula.random_columns
    if truth.errors.ar1 or any(ratio != 1 for _, ratio in truth.errors.ratios):
        return math.nan
    inner = {column: [] if column == INTERCEPT else _apart(column, condition)[0] for column in columns}
    if any(_apart(c, condition)[1] or any(_drawn(condition, v) for v in inner[c]) for c in columns if c != INTERCEPT):
        return math.nan
    Z = np.array([_by_place(inner[column], condition, rows) for column in columns]).reshape(len(columns), rows)
    between = Z.T @ np.array(truth.covariance).reshape(len(columns), len(columns)) @ Z
    return float(between[1:, 0].mean() / (between[0, 0] + truth.residual_variance))


CHANGE_SCORES = Estimator(
    name="change-scores",
    module="summary_measures",
    words=_words("the mean of later rows less the first row"),
    needs="rows",
    rules=("residual", "z"),
    residual=False,
    left_out=_left_out,
    check=_check,
    translate=partial(_translate, adjusted=False),
)
ANCOVA = Estimator(
    name="ancova",
    module="summary_measures",
    words=_words("the mean of later rows, given the first row (analysis of covariance)"),
    needs="rows",
    rules=("residual", "z"),
    residual=False,
    left_out=_left_out,
    check=_check,
    translate=partial(_translate, adjusted=True),
)
