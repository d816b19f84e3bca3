"""Express what a method's parameters mean in terms of the truth's, where the same name means two things.

x = w + m: w the deviation from the cluster's mean, m that mean. So within(x) = w, between(x) = m, center(x) = w + m - c with c
the mean of all rows, and every term is a polynomial in such parts and in the other variables. A method that centres otherwise
than the truth, or over other rows because some are missing, is

- the same model in other parameters, where its columns span the truth's. Then beta_method = A beta_truth exactly, and random
  effects that the method's random columns span have the covariance B T B'. With center(x) * z for x * z, z is z + c x:z.
- another model, where they do not. Then its parameters are least-false values (White 1982, Econometrica 50:1): the limits of the
  estimates as clusters become many. Rows are sum_k w_k h_k with w_0 = 1 and h_k constant within a cluster. The coefficients solve

      sum_kl Lambda_kl E[h_k h_l'] beta = sum_kl Lambda_kl E[h_k g_l]        (g: the same of the truth's fixed part)

  with weights Lambda that depend on the estimator and on the limits of its variances. A coefficient that is the same whatever
  these are is given; others are unknown (nan). Covariances are those of the clusters' parts that are left, where the method has a
  random column for each of them.

So is a method that leaves out a product but not its factors: its x is the effect of x averaged over what x is multiplied with. A
method that leaves out other things (a covariate, a random slope, the clusters) is held against the truth's parameters of the same
names: its bias is what leaving out costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .balanced import takes_turns
from .formula import find_term
from .model import CENTRINGS, INTERCEPT, Condition, Formula, Layout, Method, source_of, term_variables
from .paths import variable_levels
from .variances import cluster_moments, moments_of

__all__ = ["Centres", "Translation", "translate"]

Array: TypeAlias = NDArray[np.float64]
#: A variable, or its part "w" within clusters or "m" of the cluster's mean.
Atom: TypeAlias = tuple[str, str]
Polynomial: TypeAlias = dict[tuple[Atom, ...], float]
#: The means of a level-1 predictor that center() takes off in the truth and in methods: over all rows, and over those observed.
#: nan where they are not known.
Centres: TypeAlias = Callable[[str], tuple[float, float]]
#: What center() takes off each predictor.
Means: TypeAlias = Mapping[str, float]

#: Trial values of a mean that is not known: what they change is not known either.
_MEANS = (0.0, 1.0)
#: Trial sizes of clusters where they are drawn or rows are lost.
_TRIAL_SIZES = (2, 5, 9, 40)
#: Level-1 predictors that have the same values in all clusters of a size; those in halves where that is even.
_KNOWN = ("balanced", "time", "list")
#: How many trial weights show whether a least-false value depends on them.
_TRIALS = 6
_TOLERANCE = 1e-9


class _UnknownError(Exception):
    """Why a least-false value does not follow from the study."""


@dataclass(frozen=True)
class Translation:
    """A method's parameters in terms of the truth's.

    fixed (p, p_t): the method's coefficients of the truth's, nan where unknown. random (q, q_t): the method's random effects of
    the truth's, where they are. spread (q, q, q_t, q_t) and leftover (q, q, p_t, p_t): the covariances of the method's random
    effects are sum spread T + b' leftover b; None where they are unknown. why: some value is unknown.
    """

    fixed: Array
    random: Array | None = None
    spread: Array | None = None
    leftover: Array | None = None
    why: str = ""


def translate(condition: Condition, method: Method, centres: Centres) -> Translation | None:
    """What a method's parameters are; None where names mean the truth's parameters."""
    formulas = condition.truth.formula, method.formula
    found = {name: centres(name) for name in _centred(*formulas)}
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
    first, fixed = trials[0], _common([trial.fixed for trial in trials])
    spreads = [trial.spread for trial in trials if trial.spread is not None]
    alike = len(spreads) == len(trials) and not np.isnan(_common(spreads)).any()
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
        own, other = map(_codings, both)
        found |= {name for name in own.keys() & other.keys() if own[name] != other[name]}
    own, other = (_codings((*formula.fixed, *formula.random_columns)) for formula in (truth, method))
    return frozenset(found | {name for name in own.keys() & other.keys() if not own[name] & other[name]})


def _products_left_out(truth: Formula, method: Formula) -> list[str]:
    """The truth's products that a method leaves out although it has one of their predictors, whose effect it then averages."""
    own = _codings(method.fixed).keys()
    return [
        term
        for term in truth.fixed
        if len(variables := term_variables(term)) > 1
        and find_term(method.fixed, term) is None
        and any(source_of(v)[0] in own for v in variables)
    ]


def _codings(terms: Sequence[str]) -> dict[str, set[str]]:
    """How terms centre each predictor, "" for as it is: {"x": {"within", "between"}}."""
    found: dict[str, set[str]] = {}
    for name, made in (source_of(v) for term in terms for v in term_variables(term)):
        found.setdefault(name, set()).add(made if made in CENTRINGS else "")
    return found


def _centred(*formulas: Formula) -> list[str]:
    codings = [_codings((*formula.fixed, *formula.random_columns)) for formula in formulas]
    return sorted({name for coding in codings for name, hows in coding.items() if "center" in hows})


def _common(arrays: Sequence[Array]) -> Array:
    """The entries that are the same in all arrays, nan elsewhere."""
    stacked = np.stack(arrays)
    scale = np.maximum(1.0, np.abs(stacked).max(axis=0))
    same = np.ptp(stacked, axis=0) <= 1e-7 * scale  # linear equations were solved for them
    return np.where(same, stacked[0], np.nan)


def _rounded(values: Array) -> Array:
    """Values to 12 digits: what is beyond is the rounding of linear equations."""
    return np.array([float(f"{value:.12g}") for value in values.ravel()]).reshape(values.shape)


# -- polynomials -------------------------------------------------------------------------------------------------------------


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    found: Polynomial = {}
    for (s, x), (t, y) in itertools.product(a.items(), b.items()):
        key = tuple(sorted((*s, *t)))
        found[key] = found.get(key, 0.0) + x * y
    return {key: value for key, value in found.items() if value}


def _solve(columns: Sequence[Polynomial], targets: Sequence[Polynomial]) -> Array:
    """(columns, targets): the coefficients of the columns that make each target, nan where there are none or several."""
    monomials = list(dict.fromkeys(m for polynomial in (*columns, *targets) for m in polynomial))
    X, Y = (
        np.array([[p.get(m, 0.0) for p in ps] for m in monomials]).reshape(len(monomials), len(ps))
        for ps in (columns, targets)
    )
    A: Array = np.linalg.pinv(X) @ Y
    single = np.linalg.matrix_rank(X) == len(columns)
    spanned = np.abs(X @ A - Y).max(axis=0, initial=0.0) <= _TOLERANCE * np.maximum(
        1.0, np.abs(Y).max(axis=0, initial=0.0)
    )
    return np.where(single & spanned, np.where(np.abs(A) < _TOLERANCE, 0.0, A), np.nan)


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
        A = _solve(columns, [self._seen(term, self.of_truth) for term in truth.fixed])[:p]
        active = self._active
        if not np.isnan(A[:, active]).any():
            A[:, ~active] = np.nan_to_num(A[:, ~active])
            B = _solve(
                [self._polynomial(column, self.own) for column in own.random_columns],
                [self._polynomial(column, self.of_truth) for column in truth.random_columns],
            )
            if not np.isnan(B).any():
                return Translation(A, B, np.einsum("ik,jl->ijkl", B, B))
        else:
            A[:] = np.nan
        try:
            projection = _Projection(self.condition, self.method, self._terms, self.of_truth, self.own)
            return projection.translation(active, None if np.isnan(A).any() else A)
        except _UnknownError as unknown:
            return Translation(A, why=str(unknown))

    @cached_property
    def _active(self) -> NDArray[np.bool_]:
        """(p_t): whether a term of the truth has an effect in any replicate."""
        return np.array([b != 0 or bool(self.condition.priors) for b in self.condition.truth.fixed], dtype=bool)

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

        if self.method.estimator == "fixed-effects":
            return {monomial: c for monomial, c in found.items() if inner(monomial)}
        if self.method.estimator == "cluster-means":
            return {monomial: c for monomial, c in found.items() if inner(monomial) != ["w"]}
        return found


def polynomial_of(term: str, split: set[str], centres: Means) -> Polynomial:
    """A term as a polynomial in its variables, the predictors in `split` taken apart.

    >>> polynomial_of("center(x):z", {"x"}, {"x": 3.0})
    {(('x', 'w'), ('z', '')): 1.0, (('x', 'm'), ('z', '')): 1.0, (('z', ''),): -3.0}
    """
    found: Polynomial = {(): 1.0}
    for variable in term_variables(term):
        name, made = source_of(variable)
        parts = {"within": "w", "between": "m"}.get(made, "wm") if name in split else ""
        factor: Polynomial = {((name, part),): 1.0 for part in parts} or {((variable, ""),): 1.0}
        if made == "center" and name in split:
            factor[()] = -centres[name]
        found = _times(found, factor)
    return found


# -- least-false values ------------------------------------------------------------------------------------------------------


class _Projection:
    """The truth's fixed part projected on the terms of a method that does not span it."""

    def __init__(
        self, condition: Condition, method: Method, terms: Sequence[str], of_truth: Means, own_means: Means
    ) -> None:
        if method.estimator == "function":
            raise _UnknownError("what a function estimates where its formula does not hold is not known")
        self.condition, self.method, truth = condition, method, condition.truth.formula
        own = method.formula
        level = variable_levels(condition.predictors)
        everything = (*terms, *truth.fixed, *own.random_columns, *truth.random_columns)
        inner = {
            source_of(v)[0] for term in everything for v in term_variables(term) if level[v] == 1 or source_of(v)[1]
        }
        self._inner = sorted(name for name in inner if condition.predictor(name).level == 1)
        #: () for what is constant within clusters, then what varies there: a predictor, or several multiplied.
        self.parts: dict[tuple[str, ...], int] = {(): 0}
        self.monomials: dict[tuple[Atom, ...], int] = {(): 0}
        lists = (
            (terms, own_means),
            (truth.fixed, of_truth),
            (own.random_columns, own_means),
            (truth.random_columns, of_truth),
        )
        entries = [self._apart(*each) for each in lists]
        self.terms, self.of_truth, self.columns, self.random = (self._array(*each) for each in entries)
        self._check()

    def _apart(self, terms: Sequence[str], centres: Means) -> tuple[int, list[tuple[int, int, int, float]]]:
        """The number of terms, and (part, term, monomial, value) of their multipliers h_k of the parts w_k."""
        entries = []
        for t, term in enumerate(terms):
            for monomial, value in polynomial_of(term, set(self._inner), centres).items():
                within = tuple(name for name, part in monomial if part == "w")
                outer = tuple(atom for atom in monomial if atom[1] != "w")
                if len(set(within)) < len(within) or len(set(outer)) < len(outer):
                    raise _UnknownError(f"{term} multiplies a predictor with itself")
                k = self.parts.setdefault(within, len(self.parts))
                entries.append((k, t, self.monomials.setdefault(outer, len(self.monomials)), value))
        return len(terms), entries

    def _array(self, terms: int, entries: Sequence[tuple[int, int, int, float]]) -> Array:
        """(parts, terms, monomials)."""
        H = np.zeros((len(self.parts), terms, len(self.monomials)))
        for k, t, place, value in entries:
            H[k, t, place] += value
        return H

    def _check(self) -> None:
        """Raise _UnknownError unless products within clusters are the same whatever is between them."""
        condition, missing = self.condition, self.condition.missing
        if missing is not None and missing.at_random is not None:
            raise _UnknownError("which rows are observed goes with a predictor or the outcome")
        truth = condition.truth.formula
        if missing is not None and missing.loses_rows:
            for name, hows in _codings((*truth.fixed, *truth.random_columns)).items():
                if hows & {"within", "between"}:
                    raise _UnknownError(
                        f"the truth has means of {name} over all rows of a cluster, analyses over those left"
                    )
        named = {name for monomial in self.monomials for name, part in monomial if not part}
        outer = [p for p in condition.predictors if p.level == 2 and named.intersection(p.columns)]
        placed = [p.name for p in outer if not p.redraw or p.distribution == "list" or p.blocks]
        if placed and (len(set(condition.layout.sizes)) > 1 or len(condition.layout.drawn) > 1):
            raise _UnknownError(f"{placed[0]} goes with the sizes of the clusters")
        known = [name for name in self._inner if condition.predictor(name).distribution in _KNOWN]
        for name in self._inner:
            predictor = condition.predictor(name)
            odd = takes_turns(predictor) and any(n % 2 for n in self._sizes)
            if predictor.categories:
                raise _UnknownError(f"{name} has categories that vary within clusters")
            if odd or predictor.distribution in ("arms", "schedule", "period"):
                raise _UnknownError(f"{name} does not vary in the same way in all clusters")
            if name not in known and not predictor.redraw:
                raise _UnknownError(f"{name} is drawn once")
            if any(name in (a, b) for a, b, r in condition.correlations if r):
                raise _UnknownError(f"{name} is correlated with another predictor")
            if name not in known and predictor.distribution != "normal" and self._goes_with_its_spread(name):
                raise _UnknownError(f"{name} is not normal, so that its spread in a cluster goes with its mean there")
        if len(known) > 1 or (known and len(set(self._sizes)) > 1):
            raise _UnknownError(f"the values of {' and '.join(known)} are the same in every replicate")

    def _goes_with_its_spread(self, name: str) -> bool:
        """Whether the mean of a predictor in a cluster multiplies a part, or weights, in which its spread there is."""
        of_mean = [u for monomial, u in self.monomials.items() if (name, "m") in monomial]
        spread = [k for part, k in self.parts.items() if name in part or self._weighs_all]
        return any(H[np.ix_(spread, range(H.shape[1]), of_mean)].any() for H in (self.terms, self.of_truth))

    @property
    def _weighs_all(self) -> bool:
        """Whether the estimator weighs products of what is within and between clusters, as random slopes make it."""
        formula = self.condition.truth.formula if self.method.estimator == "gls" else self.method.formula
        return set(formula.random_columns) > {INTERCEPT} or formula.random_columns not in ((), (INTERCEPT,))

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Sizes of clusters; trial ones where they are drawn or rows are lost."""
        layout = self.condition.layout
        return _TRIAL_SIZES if layout.drawn or self.condition.missing else layout.sizes

    def translation(self, active: NDArray[np.bool_], exact: Array | None) -> Translation:
        """active (p_t): terms of the truth with an effect; exact (p, p_t): the coefficients, where the method spans the truth."""
        p = len(self.method.formula.fixed)
        if exact is not None:
            return self._with_covariances(exact, np.zeros_like(self.of_truth))
        A = np.where(active, _common([self._solved(weights) for weights in self._weights()]), 0.0)
        A[np.abs(A) < _TOLERANCE] = 0.0
        if np.isnan(A).any():
            return Translation(A[:p], why="its limit depends on how the method weighs rows and clusters")
        left = np.where(active[:, None], self.of_truth - np.einsum("st,ksu->ktu", A, self.terms), 0.0)
        left[np.abs(left) < _TOLERANCE] = 0.0
        return self._with_covariances(A[:p], left)

    def _with_covariances(self, A: Array, left: Array) -> Translation:
        try:
            return Translation(A, None, *self._covariances(left))
        except _UnknownError as unknown:
            return Translation(A, why=str(unknown))

    def _weights(self) -> list[list[tuple[int, Array]]]:
        """Trial weights of an estimator: (size, Lambda) of the clusters of each size."""
        estimator, n_parts = self.method.estimator, len(self.parts)
        sizes, counts = np.unique(self._sizes, return_counts=True)
        variances = [float(np.prod([self._within(name) for name in part])) for part in self.parts]
        if estimator == "ols" or (self.method.working == "independence" and estimator == "gee"):
            of_size = ((n, c, [n, *((n - 1) * v for v in variances[1:])]) for n, c in zip(sizes, counts, strict=True))
            exact = [(int(n), c * np.diag(weights)) for n, c, weights in of_size]
            return (
                [exact] if not (self.condition.layout.drawn or self.condition.missing) else [[pair] for pair in exact]
            )
        generator = np.random.default_rng(1)
        trials = []
        for _ in range(_TRIALS):
            trial = []
            for n in sizes:
                F = generator.normal(size=(n_parts, n_parts)) if self._weighs_all else np.diag(np.ones(n_parts))
                between, within = np.exp(generator.uniform(-3, 3, size=2))
                scale = np.sqrt([between, *(within * v for v in variances[1:])])
                if estimator == "fixed-effects":
                    scale[0] = 0.0
                if estimator == "cluster-means":
                    scale[[k for part, k in self.parts.items() if len(part) == 1]] = 0.0
                trial.append((int(n), scale[:, None] * (F @ F.T) * scale))
            trials.append(trial)
        return trials

    def _solved(self, weights: Sequence[tuple[int, Array]]) -> Array:
        """(terms, p_t): the coefficients under these weights."""
        width = self.terms.shape[1]
        G, g = np.zeros((width, width)), np.zeros((width, self.of_truth.shape[1]))
        for n, L in weights:
            M = self._products(n)
            G = G + np.einsum("kl,ksu,uv,ltv->st", L, self.terms, M, self.terms)
            g = g + np.einsum("kl,ksu,uv,ltv->st", L, self.terms, M, self.of_truth)
        used = np.diag(G) > 0
        A = np.zeros_like(g)
        if np.linalg.matrix_rank(G[np.ix_(used, used)], hermitian=True) < used.sum():
            raise _UnknownError("its terms depend on one another")
        A[used] = np.linalg.solve(G[np.ix_(used, used)], g[used])
        return A

    def _products(self, n: int) -> Array:
        """(monomials, monomials): means of products over clusters of n rows."""
        layout = Layout((n,) * self.condition.layout.clusters)
        moments = moments_of(self.condition.predictors, layout, self.condition.correlations)
        M = np.empty((len(self.monomials), len(self.monomials)))
        for (s, i), (t, j) in itertools.product(self.monomials.items(), repeat=2):
            outer = [":".join(name for name, part in m if not part) or INTERCEPT for m in (s, t)]
            found = moments.products(*outer)
            if found is None:
                raise _UnknownError(
                    f"the moments of {' and '.join(dict.fromkeys(outer))} do not follow from the predictors"
                )
            M[i, j] = found[0]
            for name in {name for name, part in (*s, *t) if part == "m"}:
                parts = cluster_moments(self.condition.predictor(name), layout)
                if parts is None:
                    raise _UnknownError(f"the moments of {name} do not follow from its distribution")
                both = (name, "m") in s and (name, "m") in t
                M[i, j] *= parts.mean**2 + parts.between if both else parts.mean
        return M

    def _within(self, name: str) -> float:
        parts = cluster_moments(self.condition.predictor(name), Layout(self.condition.layout.sizes))
        if parts is None:
            raise _UnknownError(f"the variance of {name} does not follow from its distribution")
        return parts.within

    def _covariances(self, left: Array) -> tuple[Array, Array]:
        """Spread and leftover. left (parts, p_t, monomials): what of the truth's terms the method's do not fit."""
        places = [self._place(c) for c in range(self.columns.shape[1])]
        for part, k in self.parts.items():
            if k not in places and (left[k].any() or self.random[k].any()):
                what = f"with {':'.join(part)} within clusters" if part else "between clusters"
                raise _UnknownError(f"the method has no random column for what varies {what}")
        found = []
        for n in dict.fromkeys(self._sizes):
            M = self._products(n)
            found.append([np.einsum("ksu,uv,ltv->klst", H[places], M, H[places]) for H in (self.random, left)])
        spreads, leftovers = ([pair[i] for pair in found] for i in (0, 1))
        if np.isnan(_common(spreads)).any() or np.isnan(_common(leftovers)).any():
            raise _UnknownError("its limit depends on the sizes of the clusters")
        return spreads[0], leftovers[0]

    def _place(self, column: int) -> int:
        """The part w_k that a random column of the method is."""
        H = self.columns[:, column]
        k = int(np.abs(H).sum(axis=1).argmax())
        one = np.zeros_like(H)
        one[k, 0] = 1.0
        if not np.array_equal(H, one):
            raise _UnknownError("a random column of the method varies both within and between clusters")
        return k
