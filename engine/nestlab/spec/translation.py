"""Express what a method's parameters mean in terms of the truth's, where the same name means two things.

Terms are polynomials in the parts of predictors within clusters and between them (`polynomials`). A method that centres otherwise
than the truth, or over other rows because some are missing, is

- the same model in other parameters, where its columns span the truth's. Then beta_method = A beta_truth exactly, and random
  effects that the method's random columns span have the covariance B T B'. With center(x) * z for x * z, z is z + c x:z.
- another model, where they do not. Then its parameters are least-false values, where these can be known (`least_false`).

So is a method that leaves out a product but not its factors: its x is the effect of x averaged over what x is multiplied with. A
method that leaves out other things (a covariate, a random slope, the clusters) is held against the truth's parameters of the same
names: its bias is what leaving out costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .formula import find_term, same_term
from .least_false import LeastFalse, common
from .methods import UnknownError, estimator_of
from .model import INTERCEPT, Condition, Formula, Method, Truth, source_of, term_variables
from .outcome import UnknownVarianceError, linear_is_normal, marginal_means
from .paths import variable_levels
from .polynomials import Atom, Means, Polynomial, codings, polynomial_of, solve

__all__ = ["Centres", "Translation", "translate"]

Array: TypeAlias = NDArray[np.float64]
#: The means of a level-1 predictor that center() takes off in the truth and in methods: over all rows, and over those observed.
#: nan where they are not known.
Centres: TypeAlias = Callable[[str], tuple[float, float]]

#: Trial values of a mean that is not known: what they change is not known either.
_MEANS = (0.0, 1.0)


@dataclass(frozen=True)
class Translation:
    """A method's parameters in terms of the truth's.

    fixed (p, p_t): the method's coefficients of the truth's, nan where unknown. random (q, q_t): the method's random effects of
    the truth's, where they are. spread (q, q, q_t, q_t) and leftover (q, q, p_t, p_t): the covariances of the method's random
    effects are sum spread T + b' leftover b; None where they are unknown. why: some value is unknown. constant (p): the
    coefficients themselves, of a linear model of outcomes that are not Gaussian, where they are no combination of the truth's.
    """

    fixed: Array
    random: Array | None = None
    spread: Array | None = None
    leftover: Array | None = None
    why: str = ""
    constant: Array | None = None


def translate(condition: Condition, method: Method, centres: Centres) -> Translation | None:
    """What a method's parameters are; None where names mean the truth's parameters.

    It follows from the predictors, the layout and which effects are not 0, so that the points of a grid share it.
    """
    truth, own = condition.truth, estimator_of(method).translate
    if truth.formula.family != method.formula.family:
        return _of_linear(condition, method)
    if own is not None:
        try:
            fixed, why = own(condition, method)
        except UnknownError as unknown:
            fixed, why = np.full((len(method.formula.fixed), len(truth.fixed)), np.nan), str(unknown)
        return Translation(_rounded(fixed), why=why)
    if condition.structure is not None:
        return _of_several(condition, method)
    active = tuple(float(b != 0 or bool(condition.priors)) for b in truth.fixed)
    plain = Truth(truth.formula, active, covariance=(), residual_variance=1.0)
    alike = replace(condition, truth=plain, seed=0, priors=())
    found = {name: centres(name) for name in _centred(truth.formula, method.formula)}
    return _translate(alike, replace(method, name="", contrasts=()), tuple(found.items()))


def _of_linear(condition: Condition, method: Method) -> Translation:
    """What a linear model of binary outcomes or counts estimates: its regression on the arms' marginal means, where these are all
    that its terms tell apart. It then holds exactly whatever the weights and the random part (Rosenblum and van der Laan 2009,
    Biometrics 65(3))."""
    terms = method.formula.fixed
    unknown = np.full((len(terms), len(condition.truth.fixed)), np.nan)
    given = tuple(dict.fromkeys(source_of(v)[0] for term in terms for v in term_variables(term)))
    try:
        if condition.priors:
            raise UnknownVarianceError("differs between replicates, whose truths are drawn")
        if not linear_is_normal(condition, given):
            raise UnknownVarianceError("does not follow where the linear predictor is not normal within arms")
        means = marginal_means(condition, given)
    except UnknownVarianceError as why:
        return Translation(unknown, why=f"on the scale of the outcome it is not known: {why}")
    points = [dict(mean.arm) for mean in means]
    X = np.array([[math.prod(point[v] for v in term_variables(term)) for term in terms] for point in points])
    y = np.array([mean.marginal for mean in means])
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    if np.abs(X @ beta - y).max() > 1e-9:
        return Translation(unknown, why="on the scale of the outcome the effects of its terms do not add up")
    return Translation(unknown, constant=beta)


def _of_several(condition: Condition, method: Method) -> Translation | None:
    """With several grouping factors nothing is centred, and what a product that is left out does to other terms is not known; one
    that dummies absorb does nothing."""
    truth, own = condition.truth, method.formula
    effects = dict(zip(truth.formula.fixed, truth.fixed, strict=True))
    places = {predictor.name: predictor.at for predictor in condition.predictors}
    absorbed = estimator_of(method).absorbed(truth.formula, places, method.factors)
    left_out = (t for t in _products_left_out(truth.formula, own) if t not in absorbed)
    gone = [t for t in left_out if effects[t] or condition.priors]
    if not gone:
        return None
    touched = {variable for term in gone for variable in term_variables(term)}
    fixed = np.array([[float(same_term(term, t)) for t in truth.formula.fixed] for term in own.fixed])
    for i, term in enumerate(own.fixed):
        if term == INTERCEPT or touched & set(term_variables(term)):
            fixed[i] = np.nan
    return Translation(fixed, why=f"the truth has {', '.join(gone)} too, which the method leaves out")


@lru_cache(maxsize=4096)
def _translate(
    condition: Condition, method: Method, centres: tuple[tuple[str, tuple[float, float]], ...]
) -> Translation | None:
    """`translate` of a condition whose coefficients are 1 where there is an effect, else 0."""
    formulas, found = (condition.truth.formula, method.formula), dict(centres)
    selective = condition.missing is not None and condition.missing.selective
    apart = {name for name, (a, b) in found.items() if selective and a != b}
    recoded = _recoded(*formulas) | (apart & set(_centred(formulas[0])) & set(_centred(formulas[1])))
    if not recoded and not _products_left_out(*formulas):
        return None
    unknown = [name for name, means in found.items() if np.isnan(means).any()]
    trials = []
    for means in itertools.product(_MEANS, repeat=2 * len(unknown)):
        pairs = dict(zip(unknown, zip(means[::2], means[1::2], strict=True), strict=True))
        both = {name: _tried(found[name], pair, apart=name in apart) for name, pair in pairs.items()}
        of_truth, own = ({name: pair[k] for name, pair in {**found, **both}.items()} for k in (0, 1))
        trials.append(_Translator(condition, method, recoded, of_truth, own)())
    first, fixed = trials[0], common([trial.fixed for trial in trials])
    spreads = [trial.spread for trial in trials if trial.spread is not None]
    alike = len(spreads) == len(trials) and not np.isnan(common(spreads)).any()
    why = first.why
    if unknown and not why:
        why = f"the mean of {' and '.join(unknown)} over the observed rows does not follow from the study"
    fixed = _rounded(fixed)
    if not alike:
        return Translation(fixed, why=why)
    random, spread, leftover = (
        None if x is None else _rounded(x) for x in (first.random, first.spread, first.leftover)
    )
    return Translation(fixed, random, spread, leftover, why)


def _tried(known: tuple[float, float], trial: tuple[float, float], *, apart: bool) -> tuple[float, float]:
    """The means of a predictor with trial values for those that are not known; one value where both are the same mean."""
    if not apart:
        return trial[0], trial[0]
    a, b = (t if np.isnan(mean) else mean for mean, t in zip(known, trial, strict=True))
    return a, b


def _recoded(truth: Formula, method: Formula) -> frozenset[str]:
    """The predictors that both have, and centre in different ways."""
    found: set[str] = set()
    for both in ((truth.fixed, method.fixed), (truth.random_columns, method.random_columns)):
        own, other = map(codings, both)
        found |= {name for name in own.keys() & other.keys() if own[name] != other[name]}
    own, other = (codings((*formula.fixed, *formula.random_columns)) for formula in (truth, method))
    return frozenset(found | {name for name in own.keys() & other.keys() if not own[name] & other[name]})


def _products_left_out(truth: Formula, method: Formula) -> list[str]:
    """The truth's products that a method leaves out although it has one of their predictors, whose effect it then averages."""
    own = codings(method.fixed).keys()
    return [
        term
        for term in truth.fixed
        if len(variables := term_variables(term)) > 1
        and find_term(method.fixed, term) is None
        and any(source_of(v)[0] in own for v in variables)
    ]


def _centred(*formulas: Formula) -> list[str]:
    found = [codings((*formula.fixed, *formula.random_columns)) for formula in formulas]
    return sorted({name for coding in found for name, hows in coding.items() if "center" in hows})


def _rounded(values: Array) -> Array:
    """Values to 12 digits: what is beyond is the rounding of linear equations."""
    return np.array([float(f"{value:.12g}") for value in values.ravel()]).reshape(values.shape)


@dataclass(frozen=True)
class _Translator:
    """The translation where the means that center() takes off are known."""

    condition: Condition
    method: Method
    recoded: frozenset[str]
    of_truth: Means
    own: Means

    def __call__(self) -> Translation:
        own, truth = self.method.formula, self.condition.truth.formula
        p = len(own.fixed)
        seen = {term: self._seen(term, self.own) for term in self._terms}
        columns = [polynomial for term, polynomial in seen.items() if polynomial or term in own.fixed]
        A = solve(columns, [self._seen(term, self.of_truth) for term in truth.fixed])[:p]
        active = self._active
        if not np.isnan(A[:, active]).any():
            A[:, ~active] = np.nan_to_num(A[:, ~active])
            B = solve(
                [self._polynomial(column, self.own) for column in own.random_columns],
                [self._polynomial(column, self.of_truth) for column in truth.random_columns],
            )
            if not np.isnan(B).any():
                return Translation(A, B, np.einsum("ik,jl->ijkl", B, B))
        else:
            A[:] = np.nan
        return self._least_false(None if np.isnan(A).any() else A)

    def _least_false(self, exact: Array | None) -> Translation:
        """The limits of the estimates. exact (p, p_t): the coefficients, where the method spans the truth."""
        p, active = len(self.method.formula.fixed), self._active
        A = np.full((p, len(active)), np.nan) if exact is None else exact
        try:
            limits = LeastFalse(self.condition, self.method, self._terms, self.of_truth, self.own)
            left = np.zeros_like(limits.of_truth)
            if exact is None:
                every = limits.coefficients(active)
                A, left = every[:p], limits.left(every, active)
                if np.isnan(every).any():
                    return Translation(A, why="its limit depends on how the method weighs rows and clusters")
            return Translation(A, None, *limits.covariances(left))
        except UnknownError as unknown:
            return Translation(A, why=str(unknown))

    @cached_property
    def _active(self) -> NDArray[np.bool_]:
        """(p_t): whether a term of the truth has an effect in any replicate."""
        return np.array(self.condition.truth.fixed, dtype=bool)

    @cached_property
    def _terms(self) -> tuple[str, ...]:
        """The method's fixed terms, then those of the truth that it leaves out and that no term of its own takes up."""
        own, truth = self.method.formula, self.condition.truth.formula
        changed = _products_left_out(truth, own)
        kept = [
            t
            for t in truth.fixed
            if t not in changed and not {name for name, _ in map(source_of, term_variables(t))} & self.recoded
        ]
        return (*own.fixed, *(t for t in kept if find_term(own.fixed, t) is None))

    def _polynomial(self, term: str, centres: Means) -> Polynomial:
        return polynomial_of(term, {*self.recoded, *centres}, centres)

    def _seen(self, term: str, centres: Means) -> Polynomial:
        """A term as the estimator sees it: clusters' effects absorb what is constant in a cluster, means lose what is within."""
        found, level = self._polynomial(term, centres), variable_levels(self.condition.predictors)

        def inner(monomial: tuple[Atom, ...]) -> list[str]:
            return [part for name, part in monomial if part == "w" or (not part and level[name] == 1)]

        sees = estimator_of(self.method).sees
        return {monomial: c for monomial, c in found.items() if sees(inner(monomial))}
