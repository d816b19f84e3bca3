"""Least-false values: what the estimates of a method tend to whose model does not hold the truth.

Rows are sum_k w_k h_k, w_0 = 1 and h_k constant within a cluster. As clusters become many the coefficients solve

    sum_kl Lambda_kl E[h_k h_l'] beta = sum_kl Lambda_kl E[h_k g_l]        (g: the same of the truth's fixed part)

(White 1982, Econometrica 50:1), with weights Lambda that depend on the estimator and on the limits of its variances. A
coefficient that is the same whatever these are is given; others are unknown (nan). Covariances are those of the clusters' parts
that are left, where the method has a random column for each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .methods import UnknownError, estimator_of
from .model import INTERCEPT, Condition, Layout, Method, source_of, term_variables
from .paths import variable_levels
from .polynomials import TOLERANCE, Atom, Means, codings, polynomial_of
from .predictors import distribution_of
from .predictors.allotted import takes_turns
from .variances import cluster_moments, moments_of

__all__ = ["LeastFalse", "common"]

Array: TypeAlias = NDArray[np.float64]

#: Trial sizes of clusters where they are drawn or rows are lost.
_TRIAL_SIZES = (2, 5, 9, 40)
#: How many trial weights show whether a value depends on them.
_TRIALS = 6


def common(arrays: Sequence[Array]) -> Array:
    """The entries that are the same in all arrays, nan elsewhere."""
    stacked = np.stack(arrays)
    scale = np.maximum(1.0, np.abs(stacked).max(axis=0))
    same = np.ptp(stacked, axis=0) <= 1e-7 * scale  # linear equations were solved for them
    return np.where(same, stacked[0], np.nan)


class LeastFalse:
    """The truth projected on a method.

    terms: the method's fixed terms, then those of the truth that are held beside them; of_truth, own_means: what center() takes
    off in the truth and in the method. Raises UnknownError where moments do not follow from the study.
    """

    def __init__(
        self, condition: Condition, method: Method, terms: Sequence[str], of_truth: Means, own_means: Means
    ) -> None:
        if not estimator_of(method).every_term:
            raise UnknownError("what a function estimates where its formula does not hold is not known")
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
                    raise UnknownError(f"{term} multiplies a predictor with itself")
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
        """Raise UnknownError unless products within clusters are the same whatever is between them."""
        condition, missing = self.condition, self.condition.missing
        if missing is not None and missing.at_random is not None:
            raise UnknownError("which rows are observed goes with a predictor or the outcome")
        truth = condition.truth.formula
        if missing is not None and missing.loses_rows:
            for name, hows in codings((*truth.fixed, *truth.random_columns)).items():
                if hows & {"within", "between"}:
                    raise UnknownError(
                        f"the truth has means of {name} over all rows of a cluster, analyses over those left"
                    )
        named = {name for monomial in self.monomials for name, part in monomial if not part}
        outer = [p for p in condition.predictors if p.level == 2 and named.intersection(p.columns)]
        placed = [p.name for p in outer if not p.redraw or p.blocks]
        if placed and (len(set(condition.layout.sizes)) > 1 or len(condition.layout.drawn) > 1):
            raise UnknownError(f"{placed[0]} goes with the sizes of the clusters")
        known = [name for name in self._inner if distribution_of(condition.predictor(name)).alike]
        for name in self._inner:
            predictor = condition.predictor(name)
            row = distribution_of(predictor)
            odd = takes_turns(predictor) and any(n % 2 for n in self._sizes)
            if predictor.categories:
                raise UnknownError(f"{name} has categories that vary within clusters")
            if odd or (row.known and not row.alike):  # halves are alike where the number of rows is even
                raise UnknownError(f"{name} does not vary in the same way in all clusters")
            if name not in known and not predictor.redraw:
                raise UnknownError(f"{name} is drawn once")
            if any(name in (a, b) for a, b, r in condition.correlations if r):
                raise UnknownError(f"{name} is correlated with another predictor")
            if name not in known and not row.gaussian and self._goes_with_its_spread(name):
                raise UnknownError(f"{name} is not normal, so that its spread in a cluster goes with its mean there")
        if len(known) > 1 or (known and len(set(self._sizes)) > 1):
            raise UnknownError(f"the values of {' and '.join(known)} are the same in every replicate")

    def _goes_with_its_spread(self, name: str) -> bool:
        """Whether the mean of a predictor in a cluster multiplies a part, or weights, in which its spread there is."""
        of_mean = [u for monomial, u in self.monomials.items() if (name, "m") in monomial]
        spread = [k for part, k in self.parts.items() if name in part or self._weighs_all]
        return any(H[np.ix_(spread, range(H.shape[1]), of_mean)].any() for H in (self.terms, self.of_truth))

    @property
    def _weighs_all(self) -> bool:
        """Whether the estimator weighs products of what is within and between clusters, as random slopes make it."""
        known = estimator_of(self.method).variances_known
        formula = self.condition.truth.formula if known else self.method.formula
        return set(formula.random_columns) > {INTERCEPT} or formula.random_columns not in ((), (INTERCEPT,))

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Sizes of clusters; trial ones where they are drawn or rows are lost."""
        layout = self.condition.layout
        return _TRIAL_SIZES if layout.drawn or self.condition.missing else layout.sizes

    def coefficients(self, active: NDArray[np.bool_]) -> Array:
        """(terms, p_t): the method's coefficients of the truth's, nan where unknown. active (p_t): terms that have an effect."""
        A = np.where(active, common([self._solved(weights) for weights in self._weights()]), 0.0)
        A[np.abs(A) < TOLERANCE] = 0.0
        return A

    def left(self, A: Array, active: NDArray[np.bool_]) -> Array:
        """(parts, p_t, monomials): what of the truth's terms the method's do not fit."""
        found = np.where(active[:, None], self.of_truth - np.einsum("st,ksu->ktu", A, self.terms), 0.0)
        found[np.abs(found) < TOLERANCE] = 0.0
        return found

    def _weights(self) -> list[list[tuple[int, Array]]]:
        """Trial weights of an estimator: (size, Lambda) of the clusters of each size."""
        row, n_parts = estimator_of(self.method), len(self.parts)
        sizes, counts = np.unique(self._sizes, return_counts=True)
        variances = [float(np.prod([self._within(name) for name in part])) for part in self.parts]
        if row.equal_rows(self.method):
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
                scale[[k for part, k in self.parts.items() if not row.sees(["w"] * len(part))]] = 0.0
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
            raise UnknownError("its terms depend on one another")
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
                raise UnknownError(
                    f"the moments of {' and '.join(dict.fromkeys(outer))} do not follow from the predictors"
                )
            M[i, j] = found[0]
            for name in {name for name, part in (*s, *t) if part == "m"}:
                parts = cluster_moments(self.condition.predictor(name), layout)
                if parts is None:
                    raise UnknownError(f"the moments of {name} do not follow from its distribution")
                both = (name, "m") in s and (name, "m") in t
                M[i, j] *= parts.mean**2 + parts.between if both else parts.mean
        return M

    def _within(self, name: str) -> float:
        parts = cluster_moments(self.condition.predictor(name), Layout(self.condition.layout.sizes))
        if parts is None:
            raise UnknownError(f"the variance of {name} does not follow from its distribution")
        return parts.within

    def covariances(self, left: Array) -> tuple[Array, Array]:
        """Spread and leftover (`translation.Translation`). left: what the method's fixed terms do not fit, see `left`.

        Raises UnknownError where the method's random columns can't take up what varies, or sizes of clusters decide.
        """
        places = [self._place(c) for c in range(self.columns.shape[1])]
        for part, k in self.parts.items():
            if k not in places and (left[k].any() or self.random[k].any()):
                what = f"with {':'.join(part)} within clusters" if part else "between clusters"
                raise UnknownError(f"the method has no random column for what varies {what}")
        found = []
        for n in dict.fromkeys(self._sizes):
            M = self._products(n)
            found.append([np.einsum("ksu,uv,ltv->klst", H[places], M, H[places]) for H in (self.random, left)])
        spreads, leftovers = ([pair[i] for pair in found] for i in (0, 1))
        if np.isnan(common(spreads)).any() or np.isnan(common(leftovers)).any():
            raise UnknownError("its limit depends on the sizes of the clusters")
        return spreads[0], leftovers[0]

    def _place(self, column: int) -> int:
        """The part w_k that a random column of the method is."""
        H = self.columns[:, column]
        k = int(np.abs(H).sum(axis=1).argmax())
        one = np.zeros_like(H)
        one[k, 0] = 1.0
        if not np.array_equal(H, one):
            raise UnknownError("a random column of the method varies both within and between clusters")
        return k
