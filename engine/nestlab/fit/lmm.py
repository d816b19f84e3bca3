"""Linear mixed models from sufficient statistics: what a method needs to know once, and the fit of a block of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram, Shift
from ..simulate.layout import Design, pair
from ..spec.far import expanded
from ..spec.formula import same_term
from ..spec.methods import estimator_of
from ..spec.model import Formula, Method, term_variables
from .kernel import fit_block
from .lanes import LANES
from .workspace import get_workspace, make_shape

__all__ = [
    "Fits", "Plan", "compile_plan", "congruent", "coordinates", "counts", "fit_gram", "fit_replicates", "for_lanes", "packed_map",
    "pairs",
]  # fmt: skip

Array = NDArray[np.float64]


def pairs(q: int) -> list[tuple[int, int]]:
    """The entries (i, k), i <= k, of a symmetric q x q matrix in the order in which kernels store them."""
    return [(i, k) for k in range(q) for i in range(k + 1)]


@dataclass(frozen=True)
class Plan:
    """One method on one design, in the kernel's terms. p fixed effects, q random columns (none: `ols` fits it).

    zcols (q), xcols (p): level-1 columns; xweights (p): index into `multipliers`; blocks (q): number of each column's random
    term; start (q(q+1)/2): true G relative to the residual variance. true_beta (p): added to the estimates, for the terms that
    the truth contains (`omitted` holds the others); equation (p): the random column of which a fixed effect is a
    cluster-constant multiple, -1 if there is none. rows: N, or 0 where it differs between replicates (`counts`). shift: where the
    plan is of a model in other coordinates than the formula's; zcols may then count `Shift.extra` after the design's columns.
    """

    formula: Formula
    zcols: tuple[int, ...]
    xcols: tuple[int, ...]
    xweights: NDArray[np.int64]
    blocks: NDArray[np.int64]
    multipliers: list[tuple[str, ...]]
    omitted: dict[str, float]
    true_beta: Array
    start: Array
    groups: NDArray[np.int64]
    rows: int
    equation: tuple[int, ...]
    reml: bool
    shift: Shift | None = None

    def back(self, fits: Fits) -> Fits:
        """Fits in the formula's own coordinates, where the plan's are without the constants of predictors far from 0."""
        if self.shift is None:
            return fits
        fixed, random = self.shift.fixed, self.shift.random
        return replace(
            fits,
            beta=fits.beta @ fixed.T + self.shift.true,
            vcov=congruent(fits.vcov, fixed),
            varcomp=congruent(fits.varcomp, random),
        )

    def alone(self, gram: Gram, r: int) -> tuple[Plan, Gram]:
        """Replicate r by itself, without empty clusters, with a plan that knows its rows."""
        sizes = gram.dd[:, 0, r if gram.dd.shape[2] > 1 else 0]
        kept = np.flatnonzero(sizes > 0)

        def take(array: Array) -> Array:
            return np.ascontiguousarray(array[..., r : r + 1] if array.shape[-1] > 1 else array)

        one = Gram(take(gram.dd)[kept], take(gram.dy)[kept], take(gram.yy)[kept], take(gram.weights)[:, kept])
        return replace(self, rows=int(sizes.sum()), groups=np.arange(len(kept))), one

    @cached_property
    def shape(self) -> NDArray[np.void]:
        """The same as the kernel takes it."""
        return make_shape(
            self.zcols, self.xcols, self.xweights, self.blocks, self.start,
            rows=self.rows, clusters=len(self.groups), reml=self.reml,
        )  # fmt: skip


def counts(plan_rows: int, gram: Gram, first: int, last: int) -> tuple[Array, Array]:
    """Rows and clusters of replicates first .. last - 1 of a Gram, (last - first) or (1) where all have the same.

    plan_rows: `Plan.rows`; 0 counts them, by the Intercept's column, which is the first: empty clusters are not there.
    """
    if plan_rows:
        return np.array([float(plan_rows)]), np.array([float(len(gram.dd))])
    sizes = gram.dd[:, 0, first:last] if gram.dd.shape[2] > 1 else gram.dd[:, 0]
    return sizes.sum(axis=0), (sizes > 0).sum(axis=0).astype(float)


@dataclass(frozen=True)
class Fits:
    """Fits of R replicates: status codes (R), iterations (R), deviance (R), certificate residual (R), beta (R, p), vcov of beta
    (R, p(p+1)/2) and covariance of the random effects (R, q(q+1)/2) by pairs, residual variance (R)."""

    status: NDArray[np.int64]
    iterations: NDArray[np.int64]
    deviance: Array
    residual: Array
    beta: Array
    vcov: Array
    varcomp: Array
    sigma2: Array

    @staticmethod
    def concatenate(parts: Sequence[Fits]) -> Fits:
        """One after the other."""
        return Fits(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Fits)))

    @property
    def se(self) -> Array:
        """Standard errors of beta (R, p); nan where a variance is negative (an estimator that did not converge)."""
        p = self.beta.shape[1]
        diagonal = [k for k, (i, j) in enumerate(pairs(p)) if i == j]
        variances = self.vcov[:, diagonal]
        return np.sqrt(np.where(variances >= 0, variances, np.nan))


def congruent(packed: Array, M: Array) -> Array:
    """M V M' of symmetric V (R, k(k+1)/2) by pairs, M (k, k)."""
    if np.array_equal(M, np.eye(len(M))):
        return packed
    return np.asarray(np.einsum("rn,mn->rm", packed, packed_map(M)))


def packed_map(M: Array) -> Array:
    """(pairs, pairs): what M V M' does to the pairs of symmetric V."""
    both = pairs(len(M))
    return np.array([[M[a, i] * M[b, k] + (M[a, k] * M[b, i] if i != k else 0.0) for i, k in both] for a, b in both])


def compile_plan(design: Design, method: Method) -> Plan:
    """A method's plan on a design; paid once per condition."""
    plan = _plan(design, method)
    return _shifted(plan, design, method) if design.moved and _can_shift(method) else plan


def _can_shift(method: Method) -> bool:
    """Whether a method's results follow from those in other coordinates: not limits of profiles, nor draws of the bootstrap."""
    drawn = {method.intervals, method.variance_intervals, method.reference if method.compare is not None else None}
    return not estimator_of(method).by_rows and not drawn & {"profile", "profile-reml", "bootstrap"}


def _shifted(plan: Plan, design: Design, method: Method) -> Plan:
    """The plan in coordinates without the constants; as it is where the formula lacks a term that these need.

    Random columns that lack theirs in their own term stay as they are, beside fixed effects that are shifted.
    """
    fixed = coordinates(plan.formula.fixed, design, free=estimator_of(method).absorbs)
    if fixed is None:
        return plan
    to_fixed = fixed[1]
    columns = plan.formula.random_columns
    to_random, extra = (np.eye(len(columns)), np.eye(len(columns))), list[int]()
    zcols = list(plan.zcols)
    for block in np.unique(plan.blocks):
        members = np.flatnonzero(plan.blocks == block)
        own = coordinates([columns[m] for m in members], design)
        if own is not None:
            for whole, part in zip(to_random, own, strict=True):
                whole[np.ix_(members, members)] = part
            continue
        for m in members:
            if len(expanded(columns[m], design.moved)) > 1:
                zcols[m] = len(design.columns) + len(extra)
                extra.append(plan.zcols[m])
    return replace(
        plan,
        zcols=tuple(zcols),
        true_beta=np.zeros(len(plan.true_beta)),
        start=congruent(plan.start[None], to_random[0])[0],
        groups=_groups(design, tuple(zcols)),
        shift=Shift(to_fixed, to_random[1], plan.true_beta, tuple(extra)),
    )


def coordinates(terms: Sequence[str], design: Design, *, free: bool = False) -> tuple[Array, Array] | None:
    """(k, k) each: from effects of terms to those of terms less constants, and back; None where such a term is missing.

    With x = x0 + c, sum_t b_t t = sum_t b_t sum_s c_ts s0: effects of s0 are sum_t c_ts b_t; back, with -c, likewise. free: terms
    that are constant within clusters need not be there, for clusters absorb them.
    """
    place = {tuple(sorted(term_variables(term))): i for i, term in enumerate(terms)}
    there, back = np.zeros((len(terms), len(terms))), np.zeros((len(terms), len(terms)))
    opposite = {name: -constant for name, constant in design.moved.items()}
    for found, constants in ((there, design.moved), (back, opposite)):
        for k, term in enumerate(terms):
            for variables, value in expanded(term, constants).items():
                if variables in place:
                    found[place[variables], k] = value
                elif not (free and all(v in design.between for v in variables)):
                    return None
    return there, back


def _plan(design: Design, method: Method) -> Plan:
    formula, truth = method.formula, design.condition.truth
    split = [design.split(term) for term in formula.fixed]
    multipliers: list[tuple[str, ...]] = list(dict.fromkeys([(), *(outer for _, outer in split)]))
    zcols = tuple(design.split(column)[0] for column in formula.random_columns)
    true = dict(zip(truth.formula.fixed, truth.fixed, strict=True))

    def value(term: str) -> float:
        return next((v for t, v in true.items() if same_term(t, term)), 0.0)

    omitted = {t: v for t, v in true.items() if v != 0.0 and not any(same_term(t, f) for f in formula.fixed)}
    return Plan(
        formula=formula,
        zcols=zcols,
        xcols=tuple(column for column, _ in split),
        xweights=np.array([multipliers.index(outer) for _, outer in split], dtype=np.int64),
        blocks=np.repeat(np.arange(len(formula.random)), formula.block_sizes).astype(np.int64),
        multipliers=multipliers,
        omitted=omitted,
        true_beta=np.array([value(term) for term in formula.fixed]),
        start=_start(design, zcols),
        groups=_groups(design, zcols),
        rows=design.rows if design.settled else 0,
        equation=tuple(zcols.index(column) if column in zcols else -1 for column, _ in split),
        reml=method.reml,
    )


def _start(design: Design, zcols: tuple[int, ...]) -> Array:
    """The truth's G for the method's random columns: in a simulation it is known, and a good place to start."""
    covariance = design.random_factor @ design.random_factor.T / design.condition.truth.residual_variance
    q = len(zcols)
    G = np.zeros((q, q))
    for a, left in enumerate(zcols):
        for b, right in enumerate(zcols):
            if left in design.random and right in design.random:
                G[a, b] = covariance[design.random.index(left), design.random.index(right)]
    return np.array([G[i, k] for i, k in pairs(q)])


def _groups(design: Design, zcols: tuple[int, ...]) -> NDArray[np.int64]:
    """Of each cluster the first one that has the same Z'Z in all replicates: those of one size where q = 1, for example."""
    if not design.settled or max(zcols, default=design.known) >= design.known:
        return np.arange(design.clusters)
    entries = [pair(a, b) for a in zcols for b in zcols]
    _, first, inverse = np.unique(design.known_gram[:, entries], axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[inverse.ravel()], dtype=np.int64)


def fit_gram(plan: Plan, gram: Gram, first: int, last: int) -> Fits:
    """Fit replicates first .. last - 1 of a block; beta includes the truth's contribution that `respond` left out."""
    fits = fit_replicates(plan.shape, plan.groups, gram, first, last)
    np.add(fits.beta, plan.true_beta, out=fits.beta)
    return fits


def fit_replicates(shape: NDArray[np.void], groups: NDArray[np.int64], gram: Gram, first: int, last: int) -> Fits:
    """Run the kernel on replicates first .. last - 1 of a Gram; shape: see `make_shape`, groups: see `Plan`."""
    p, n, R = int(shape["p"][0]), int(shape["q"][0]) * (int(shape["q"][0]) + 1) // 2, last - first
    fits = Fits(
        np.empty(R, dtype=np.int64), np.empty(R, dtype=np.int64), np.full(R, np.nan), np.full(R, np.nan),
        np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, n), np.nan), np.full(R, np.nan),
    )  # fmt: skip
    dd, weights = (array if array.shape[-1] == 1 else for_lanes(array) for array in (gram.dd, gram.weights))
    fit_block(
        groups, shape, get_workspace(), dd, for_lanes(gram.dy), for_lanes(gram.yy), weights, first, last,
        fits.status, fits.iterations, fits.deviance, fits.residual, fits.beta, fits.vcov, fits.varcomp, fits.sigma2,
    )  # fmt: skip
    return fits


def for_lanes(array: Array) -> Array:
    """Contiguous, the last of a few replicates repeated until they fill a vector."""
    missing = LANES - array.shape[-1]
    if missing > 0:
        array = np.concatenate([array, np.repeat(array[..., -1:], missing, axis=-1)], axis=-1)
    return np.ascontiguousarray(array)
