"""What the outcome looks like within arms: its variance, the correlation of two rows of a cluster, what covariates explain.

Planners of trials state effects in standard deviations of the outcome, and the intraclass correlation of the outcome before any
covariate is looked at. With R the terms of the fixed part that are not given by the arm, b their coefficients, G the covariance
of the random effects with columns z, and s2 the residual variance,

    Var(y | arm)      = Var(R b | arm) + E[z' G z] + E[s2]               averaged by the arms' shares
    Cov(y, y' | arms) = Cov(R b, R' b | arms) + E[z' G z']               of two rows of a cluster, averaged over pairs
    icc               = Cov(y, y' | arms) / Var(y | arm)                 unconditional; absent where errors are autocorrelated
    r2 within         = what R b adds to Var - Cov, over Var - Cov       R2 at level 1 of PowerUp! (Dong and Maynard 2013)
    r2 between        = what R b adds to Cov, over Cov                   R2 at level 2

The conditional icc, t2 / (t2 + s2), is what is left of it given all predictors. Given an arm means less the regression on its
columns, which for 0/1 predictors and categories is exact: E Var(y | arm) = Var(y) - Var(E(y | arm)). In one arm, the control,
the predictors take its values, which must be independent of all others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .family import mean_of
from .model import INTERCEPT, NORMAL, Condition, Predictor, Truth, source_of, term_variables
from .predictors import distribution_of
from .predictors.categories import contrast_values
from .variances import PredictorMoments, moments_of

__all__ = [
    "MarginalMean",
    "Outcome",
    "UnknownVarianceError",
    "arms_of",
    "linear_is_normal",
    "marginal_means",
    "outcome",
    "predictors_of",
]

Parts: TypeAlias = tuple[float, float]
Array: TypeAlias = NDArray[np.float64]


class UnknownVarianceError(ValueError):
    """What of the outcome's variance does not follow from the predictors, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome within arms, in parts: of two rows of a cluster (between), and the rest (within).

    given: the predictors that are held fixed. explained, slopes: (between, within) of the other fixed terms, and of random
    effects. residual: mean residual variance. intercept: variance of the random intercept, nan without one. ar1: whether errors
    are autocorrelated, so that two rows of a cluster have no one correlation.
    """

    given: tuple[str, ...]
    explained: Parts
    random: Parts
    residual: float
    intercept: float
    ar1: bool

    @property
    def between(self) -> float:
        return self.explained[0] + self.random[0]

    @property
    def within(self) -> float:
        return self.explained[1] + self.random[1] + self.residual

    @property
    def variance(self) -> float:
        return self.between + self.within

    @property
    def icc(self) -> float:
        """The correlation of two rows of a cluster in their arms, unconditional of covariates; nan with autocorrelated errors."""
        return math.nan if self.ar1 or self.variance <= 0 else self.between / self.variance

    @property
    def icc_conditional(self) -> float:
        """That of the model's random intercept, given all predictors; nan without an intercept."""
        total = self.total
        return self.intercept / total if total > 0 else math.nan

    @property
    def total(self) -> float:
        """Intercept and residual variance, which d by total variance divides by; nan without an intercept."""
        return self.intercept + self.residual

    @property
    def r2_within(self) -> float:
        return self.explained[1] / self.within if self.within > 0 else math.nan

    @property
    def r2_between(self) -> float:
        """nan where nothing varies between clusters."""
        return self.explained[0] / self.between if self.between > 0 else math.nan


def predictors_of(term: str) -> tuple[str, ...]:
    """The predictors that a term multiplies.

    >>> predictors_of("arm[b]:within(x)"), predictors_of("Intercept")
    (('arm', 'x'), ())
    """
    return tuple(dict.fromkeys(source_of(variable)[0] for variable in term_variables(term)))


def arms_of(condition: Condition, covariates: Iterable[str] = ()) -> tuple[str, ...]:
    """The predictors that allocate arms: balanced, arms and schedule, of whole clusters if there are any.

    covariates: predictors that are none.
    """
    used = {name for term in condition.truth.formula.fixed for name in predictors_of(term)} - set(covariates)
    found = [p for p in condition.predictors if distribution_of(p).assigned and p.name in used]
    whole = [p for p in found if p.outer]
    return tuple(p.name for p in whole or found)


def outcome(
    condition: Condition, given: Sequence[str], fixed: Mapping[str, float] | None = None, *, control: bool = False
) -> Outcome:
    """The outcome of a condition within arms. UnknownVarianceError where it does not follow from the predictors.

    given: predictors whose arms these are; fixed: coefficients by term instead of the truth's; control: of the arm in which all
    of them are 0, or at their first category, instead of the mean over arms.
    """
    truth = condition.truth
    if truth.formula.family.counts:
        raise UnknownVarianceError("counts have no residual variance on the scale of their effects")
    if fixed is None:
        fixed = dict(zip(truth.formula.fixed, truth.fixed, strict=True))
    moments = moments_of(condition.predictors, condition.layout, condition.correlations, pairs=True)
    columns, covariance = list(truth.formula.random_columns), np.array(truth.covariance or [[0.0]])
    values: dict[str, float] = {}
    if control:
        values = _control(condition, given, moments)
        fixed = _at(values, fixed)
        columns, covariance = _random_at(values, columns, covariance)
    rest = {t: b for t, b in fixed.items() if b and not set(predictors_of(t)) <= set(given)}
    explained = _explained(moments, rest, _given_columns(condition, given) if rest and not control else [])
    random = _random(moments, columns, covariance)
    has_intercept = INTERCEPT in truth.formula.random_columns
    place = truth.formula.random_columns.index(INTERCEPT) if has_intercept else 0
    return Outcome(
        given=tuple(given),
        explained=explained,
        random=random,
        residual=truth.residual_variance * _mean_ratio(condition, moments, values),
        intercept=truth.covariance[place][place] if has_intercept else math.nan,
        ar1=truth.errors.ar1 != 0,
    )


def _mean_ratio(condition: Condition, moments: PredictorMoments, values: Mapping[str, float]) -> float:
    """What the errors' variance ratios multiply the residual variance by, on average; values: of predictors that are held."""
    product, ratios = 1.0, condition.truth.errors.ratios
    for column, ratio in ratios:
        if column in values:
            product *= ratio ** values[column]
            continue
        alone = all(moments.apart(column, other) for other, _ in ratios if other not in (column, *values))
        found = _mean_power(condition.predictor(source_of(column)[0]), column, ratio, moments) if alone else None
        if found is None:
            raise UnknownVarianceError(f"the mean residual variance over {column} does not follow from the predictors")
        product *= found
    return product


def _mean_power(predictor: Predictor, column: str, ratio: float, moments: PredictorMoments) -> float | None:
    """The mean of ratio ** column; None where it is not known."""
    parts = moments.parts(column)
    if mean_exp := distribution_of(predictor).mean_exp:
        return mean_exp(predictor, math.log(ratio))
    if parts is None or not _is_binary(predictor):
        return None
    return 1 + (ratio - 1) * parts.mean


# -- means of other families ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MarginalMean:
    """The mean of an outcome that is not Gaussian in one arm, a probability or a rate: typical, where random effects are 0 and
    other predictors at their means, and marginal, over all of them; icc: the correlation of two rows of a cluster on the
    outcome's own scale; of counts it depends on the exposure, as their sampling variance counts."""

    arm: tuple[tuple[str, float], ...]
    typical: float
    marginal: float
    icc: float


def marginal_means(condition: Condition, given: Sequence[str]) -> tuple[MarginalMean, ...]:
    """The means in each arm, the combinations of the values of given 0/1 predictors. UnknownVarianceError where one is not 0/1,
    or the rest of the linear predictor does not follow from the predictors.

    The rest is taken as normal between and within clusters, by Gauss-Hermite quadrature with 40 nodes each: exact where
    `linear_is_normal`, and out by .01 or so where it is not.
    """
    truth = condition.truth
    moments = moments_of(condition.predictors, condition.layout, condition.correlations, pairs=True)
    control = _control(condition, given, moments)
    fixed = dict(zip(truth.formula.fixed, truth.fixed, strict=True))
    columns, covariance = list(truth.formula.random_columns), np.array(truth.covariance or [[0.0]])
    found = []
    for point in itertools.product((0.0, 1.0), repeat=len(control)):
        values = dict(zip(control, point, strict=True))
        if any(sum(values[c] for c in condition.predictor(n).columns) > 1 for n in given):
            continue  # a category is one of several columns
        rest = _at(values, fixed)
        mean = 0.0
        for term, b in rest.items():
            parts = None if term == INTERCEPT else moments.parts(term)
            if term != INTERCEPT and parts is None:
                raise UnknownVarianceError(f"the mean of {term} does not follow from the predictors")
            mean += b * (1.0 if parts is None else parts.mean)
        slopes = {t: b for t, b in rest.items() if b and t != INTERCEPT}
        (fixed_b, fixed_w), (random_b, random_w) = (
            _explained(moments, slopes, []),
            _random(moments, *_random_at(values, columns, covariance)),
        )
        found.append(_marginal(truth, tuple(values.items()), mean, fixed_b + random_b, fixed_w + random_w))
    return tuple(found)


def linear_is_normal(condition: Condition, given: Sequence[str]) -> bool:
    """Whether the linear predictor is normal in each arm: normal predictors, no products of them, normal random intercepts."""
    truth = condition.truth
    if truth.random != NORMAL or any(set(term_variables(c)) - {*given} for c in truth.formula.random_columns):
        return False
    rest = [[n for n in predictors_of(term) if n not in given] for term in truth.formula.fixed]
    return all(
        len(names) <= 1 and all(distribution_of(condition.predictor(n)).gaussian for n in names) for names in rest
    )


def _marginal(
    truth: Truth, arm: tuple[tuple[str, float], ...], mean: float, between: float, within: float
) -> MarginalMean:
    family = truth.formula.family
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    eta = mean + math.sqrt(max(between, 0.0)) * nodes[:, None] + math.sqrt(max(within, 0.0)) * nodes
    means = mean_of(family.link, eta)
    cluster = means @ weights
    marginal = float(weights @ cluster)
    shared = float(weights @ (cluster - marginal) ** 2)
    if family.counts:
        whole = float(weights @ (means - marginal) ** 2 @ weights) + marginal / truth.exposure
    else:
        whole = marginal * (1 - marginal)
    return MarginalMean(arm, float(mean_of(family.link, mean)), marginal, shared / whole if whole > 0 else math.nan)


# -- the fixed part --------------------------------------------------------------------------------------------------------


def _explained(moments: PredictorMoments, rest: Mapping[str, float], given: Sequence[str]) -> Parts:
    """What the terms explain beside the given columns: of two rows of a cluster, and the rest."""
    sums = np.zeros(2)
    for (s, b), (t, c) in itertools.product(rest.items(), rest.items()):
        sums += b * c * np.array(_covariance(moments, s, t))
    columns = [d for d in given if any(not moments.apart(d, t) for t in rest)]
    if not columns:
        return float(sums[0]), float(sums[1])
    own = np.array([[_covariance(moments, d, e) for e in columns] for d in columns])  # (k, k, 2)
    with_rest = np.array([sum(b * np.array(_covariance(moments, d, t)) for t, b in rest.items()) for d in columns])
    slopes = np.linalg.pinv(own.sum(axis=2), hermitian=True) @ with_rest.sum(axis=1)
    sums -= 2 * slopes @ with_rest - np.einsum("i,ijk,j->k", slopes, own, slopes)
    return float(sums[0]), float(sums[1])


def _covariance(moments: PredictorMoments, s: str, t: str) -> Parts:
    found = moments.covariance(s, t)
    if found is None:
        what = f"the variance of {s}" if s == t else f"the covariance of {s} and {t}"
        raise UnknownVarianceError(f"{what} does not follow from the predictors")
    return found


def _given_columns(condition: Condition, given: Sequence[str]) -> list[str]:
    """The formula's columns of the given predictors, and the products of those of different ones."""
    terms = [*condition.truth.formula.fixed, *condition.truth.formula.random_columns]
    own: dict[str, list[str]] = {}
    for name in given:
        used = [v for term in terms for v in term_variables(term) if source_of(v)[0] == name]
        predictor = condition.predictor(name)
        own[name] = list(dict.fromkeys([*(predictor.columns if predictor.categories else ()), *used]))
    found = []
    for size in range(1, len(own) + 1):
        for names in itertools.combinations(own, size):
            found += [":".join(columns) for columns in itertools.product(*(own[name] for name in names))]
    return found


# -- the random part -------------------------------------------------------------------------------------------------------


def _random(moments: PredictorMoments, columns: Sequence[str], covariance: Array) -> Parts:
    """E[z' G z'] of two rows of a cluster, and what E[z' G z] has more."""
    sums = np.zeros(2)
    for (i, s), (j, t) in itertools.product(enumerate(columns), enumerate(columns)):
        if covariance[i, j] == 0:
            continue
        found = moments.products(s, t)
        if found is None:
            raise UnknownVarianceError(f"the variance of random effects of {s} does not follow from the predictors")
        sums += covariance[i, j] * np.array([found[1], found[0] - found[1]])
    return float(sums[0]), float(sums[1])


# -- the control arm -------------------------------------------------------------------------------------------------------


def _control(condition: Condition, given: Sequence[str], moments: PredictorMoments) -> dict[str, float]:
    """The value of each column of the given predictors in the control arm."""
    values: dict[str, float] = {}
    others = {v for term in condition.truth.formula.fixed for v in term_variables(term)}
    for name in given:
        predictor = condition.predictor(name)
        if not (predictor.categories or _is_binary(predictor)):
            raise UnknownVarianceError(f"{name} has no control arm, being neither 0/1 nor categories")
        columns = predictor.columns
        first = contrast_values(predictor)[0] if predictor.categories else np.zeros(1)
        values |= dict(zip(columns, map(float, first), strict=True))
        tied = [v for v in others if source_of(v)[0] not in given and not moments.apart(columns[0], v)]
        if tied:
            raise UnknownVarianceError(f"that of the control arm does not follow where {tied[0]} goes with {name}")
    return values


def _is_binary(predictor: Predictor) -> bool:
    """Whether its columns are 0 or 1."""
    if predictor.categories:
        return predictor.coding == "treatment"
    levels = distribution_of(predictor).levels
    return levels is not None and set(levels(predictor).tolist()) <= {0.0, 1.0}


def _at(values: Mapping[str, float], fixed: Mapping[str, float]) -> dict[str, float]:
    """Terms and coefficients of the other variables where some have the values given.

    >>> _at({"arm": 0.0}, {"x": 2.0, "arm": 3.0, "arm:x": 4.0})
    {'x': 2.0, 'Intercept': 0.0}
    """
    found: dict[str, float] = {}
    for term, b in fixed.items():
        kept, factor = _split(values, term)
        found[kept] = found.get(kept, 0.0) + b * factor
    return found


def _split(values: Mapping[str, float], term: str) -> tuple[str, float]:
    """What is left of a term, and the number that its other variables multiply it by."""
    variables = term_variables(term)
    factor = math.prod(values[v] for v in variables if v in values)
    return ":".join(v for v in variables if v not in values) or INTERCEPT, factor


def _random_at(values: Mapping[str, float], columns: Sequence[str], covariance: Array) -> tuple[list[str], Array]:
    split = [_split(values, column) for column in columns]
    kept = list(dict.fromkeys(name for name, _ in split))
    M = np.zeros((len(kept), len(columns)))
    for j, (name, factor) in enumerate(split):
        M[kept.index(name), j] = factor
    return kept, M @ covariance @ M.T
