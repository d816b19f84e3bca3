"""Summary measures of repeated measurements: each cluster is its first row, the baseline, and the mean of its later rows.

"change-scores" regresses the mean less the baseline, "ancova" the mean on the baseline too, on the terms that are constant within
clusters (Frison and Pocock 1992, Stat Med 11:1685). Where the truth has a term b f z, f of the row and z of the cluster, the
coefficient of z is the sum over these terms of

    b (mean of later f - c f_1),   c = 1 for change scores;   for ancova c = Z' G Z_1 / (Z_1' G Z_1 + s2)

with Z_1 the random columns in the first row and Z their mean over later rows: the regression of the mean on the baseline among
clusters that are alike. As a projection it holds whatever the distributions. With time 0 at the baseline and no effect there,
both give the coefficient of z:time times the mean of the later times. A term whose z the method leaves out counts by the
regression of z on the method's terms. Where f is drawn for each row, rows of a cluster are exchangeable and the mean of f stands
for it; only the coefficient of the cluster's own mean, between(f), is then unknown given the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..model import CENTRINGS, INTERCEPT, Condition, Formula, Layout, Method, source_of, term_variables
from ..polynomials import TOLERANCE
from ..predictors import is_known
from ..variances import PredictorMoments, moments_of, predictor_mean
from .estimator import Estimator, Levels, UnknownError
from .least_squares import absorbed, check_terms

__all__ = ["ANCOVA", "CHANGE_SCORES"]

Array = NDArray[np.float64]


def _left_out(formula: Formula, level: Levels) -> tuple[str, ...]:
    kept = absorbed(formula, level)
    return tuple(term for term in formula.fixed if term not in kept)


def _too_few(method: Method, layout: Layout, *, adjusted: bool) -> list[str]:
    p, pairs = len(method.formula.fixed) + adjusted, sum(n > 1 for n in layout.sizes)
    if layout.drawn or pairs > p:
        return []
    return [
        f"must have fewer fixed terms{' and the baseline' * adjusted} than clusters of two rows or more, and has {p} for "
        f"{pairs}; raise design.{'cluster_size' if pairs < layout.clusters else 'clusters'} or use fewer terms"
    ]


# -- what the coefficients are ------------------------------------------------------------------------------------------------


def _translate(condition: Condition, method: Method, *, adjusted: bool) -> tuple[Array, str]:
    layout, truth, fixed = condition.layout, condition.truth, method.formula.fixed
    if len(set(layout.sizes)) > 1 or layout.drawn or condition.missing is not None:
        raise UnknownError("clusters have different rows")
    moments = moments_of(condition.predictors, layout, condition.correlations)
    by_row, own = moments.by_row(), [frozenset(term_variables(term)) for term in fixed]
    active = [k for k, b in enumerate(truth.fixed) if b != 0 or condition.priors]
    terms = {k: _Term.of(truth.formula.fixed[k], condition, by_row) for k in active}
    alike = not condition.priors and all(not each.drawn and frozenset(each.outer) in own for each in terms.values())
    c = 1.0 if not adjusted else _slope(condition, by_row) if alike else math.nan
    A = np.zeros((len(own), len(truth.fixed)))
    for k, each in terms.items():
        value = each.rise + (1 - c) * each.first if adjusted and each.first else each.rise
        if value:
            share = _share(each.outer, fixed, moments, condition)
            A[share != 0, k] = value * share[share != 0]
        if adjusted and each.drawn:  # the first row goes with the cluster's mean
            A[[any(source_of(v)[1] == "between" for v in variables) for variables in own], k] = np.nan
    return A, "the regression on the baseline does not follow from the study" if np.isnan(A).any() else ""


@dataclass(frozen=True)
class _Term:
    """A term of the truth: f of the row times the variables `outer` of the cluster. rise: the mean of later f less `first`.

    drawn: f is drawn for each row, first its mean. Nothing that clusters have tells its rows apart, so they do not rise.
    """

    outer: tuple[str, ...]
    first: float
    rise: float
    drawn: bool = False

    @classmethod
    def of(cls, term: str, condition: Condition, by_row: Mapping[str, Array]) -> _Term:
        inner, outer = _apart(term, condition)
        if (values := _product(inner, by_row, condition.layout.sizes[0])) is not None:
            return cls(outer, float(values[0]), float(values[1:].mean() - values[0]))
        if len(inner) > 1:
            raise UnknownError(f"{':'.join(inner)} does not vary in the same way in all clusters")
        name, made = source_of(inner[0])
        predictor = condition.predictor(name)
        if is_known(predictor):
            raise UnknownError(f"{name} does not vary in the same way in all clusters")
        if not predictor.redraw:
            raise UnknownError(f"{name} is drawn once")
        mean = 0.0 if made in CENTRINGS else math.nan if predictor.categories else predictor_mean(predictor)
        return cls(outer, mean, 0.0, drawn=True)


def _apart(term: str, condition: Condition) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables of a term that vary within clusters, and the others."""
    inner: list[str] = []
    outer: list[str] = []
    for variable in term_variables(term):
        name, made = source_of(variable)
        (outer if made == "between" or condition.predictor(name).outer else inner).append(variable)
    return tuple(inner), tuple(outer)


def _product(variables: Sequence[str], by_row: Mapping[str, Array], rows: int) -> Array | None:
    """(rows): the values of a product by the row in its cluster; None where they are not the same in all clusters."""
    values = np.ones(rows)
    for variable in variables:
        name, made = source_of(variable)
        own = by_row.get(name if made in CENTRINGS else variable)
        if own is None:
            return None
        values = values * (own - own.mean() if made in CENTRINGS else own)
    return values


def _share(outer: tuple[str, ...], fixed: Sequence[str], moments: PredictorMoments, condition: Condition) -> Array:
    """(p): the regression of a product of clusters' variables on the method's terms."""
    share = np.array([float(set(term_variables(term)) == set(outer)) for term in fixed])
    if share.any():
        return share
    left = ":".join(outer) or INTERCEPT
    for variable in dict.fromkeys(v for term in (left, *fixed) for v in term_variables(term)):
        predictor = condition.predictor(source_of(variable)[0])
        if not predictor.redraw and not is_known(predictor):
            raise UnknownError(f"{predictor.name} is drawn once")
    products = [[moments.products(a, b) for b in (*fixed, left)] for a in fixed]
    found = np.array([[np.nan if each is None else each[0] for each in row] for row in products])
    if not np.isfinite(found).all() or np.linalg.matrix_rank(found[:, :-1], hermitian=True) < len(fixed):
        raise UnknownError(f"the regression of {left}, which the method leaves out, on its terms does not follow")
    share = np.linalg.solve(found[:, :-1], found[:, -1])
    return np.where(np.abs(share) > TOLERANCE, share, 0.0)


def _slope(condition: Condition, by_row: Mapping[str, Array]) -> float:
    """The regression of the mean of later rows on the first row; nan where it does not follow."""
    truth, columns = condition.truth, condition.truth.formula.random_columns
    if truth.errors.ar1 or any(ratio != 1 for _, ratio in truth.errors.ratios):
        return math.nan
    parts = [_apart(column, condition) for column in columns]
    Z = [_product(inner, by_row, condition.layout.sizes[0]) for inner, outer in parts if not outer]
    known = [values for values in Z if values is not None]
    if len(known) < len(columns):
        return math.nan
    D = np.array(known).reshape(len(columns), condition.layout.sizes[0])
    between = D.T @ np.array(truth.covariance).reshape(len(columns), len(columns)) @ D
    return float(between[1:, 0].mean() / (between[0, 0] + truth.residual_variance))


def _row(name: str, text: str, *, adjusted: bool) -> Estimator:
    def words(method: Method) -> Iterator[tuple[str, str]]:
        yield "estimator", f"least squares on clusters: {text}"

    return Estimator(
        name=name,
        module="summary_measures",
        words=words,
        needs="rows",
        rules=("residual", "z"),
        residual=False,
        by_level=True,
        left_out=_left_out,
        check=partial(check_terms, gone="vary within clusters", where="between"),
        too_few=partial(_too_few, adjusted=adjusted),
        translate=partial(_translate, adjusted=adjusted),
    )


CHANGE_SCORES = _row("change-scores", "the mean of later rows less the first row", adjusted=False)
ANCOVA = _row("ancova", "the mean of later rows, given the first row (analysis of covariance)", adjusted=True)
