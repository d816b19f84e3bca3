"""A generalised linear mixed model fitted to arrays: from columns of any units to the search and back.

The search sees orthonormal columns of X and of each term's Z times sqrt(N), so that its steps have one unit, that of the linear
predictor. Where fixed effects separate the outcomes, the rows that this makes certain are left out and the coefficients that stay
finite are estimated from the others (`separation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...spec.family import Family, linear_predictor
from ..problem import relative_factor
from ..several.products import FactorColumns
from ..status import Status
from .families import ObservedRows
from .layout import EffectsLayout
from .objective import Curvature, Objective
from .search import SearchEnd, certify, find_optimum, minimise
from .separation import Recession, find_recession, separable

__all__ = ["GlmmModel", "PlainStart", "fit_glmm", "fit_plain", "orthonormal", "unfitted", "whitened"]

Array = NDArray[np.float64]

#: Newton steps of the model without random effects.
GLM_STEPS = 40
#: Least eigenvalue of its information, per row and whitened, above which its optimum proves that nothing is separated.
OVERLAP = 1e-4
#: Whitened standard deviation of a binary outcome's random effects above which these may separate it.
SUSPECT = 8.0
#: k over the mean at which the slope of a negative binomial likelihood is that at Poisson's limit.
NEAR_LIMIT = 1e6
#: What of a column of X, or of a coefficient, is not in the span of the rows that are left.
SPANNED = 1e-8


@dataclass(frozen=True)
class GlmmModel:
    """A fitted model. outcome, X (N, p), offset (N), factors: as given.

    objective, point: of the search, None where no row is left to fit; back (p, r): from its beta to that of X's columns; roots:
    per term R with Z = white R; estimable (p): the coefficients that it finds; recession: what runs to infinity; status.
    limit: whether a negative binomial outcome is at its Poisson limit.
    """

    outcome: ObservedRows
    X: Array
    offset: Array
    factors: tuple[FactorColumns, ...]
    objective: Objective | None
    point: SearchEnd | None
    back: Array
    roots: tuple[Array, ...]
    estimable: NDArray[np.bool_]
    recession: Recession
    status: Status
    limit: bool = False

    @property
    def lost(self) -> bool:
        """Whether nothing finite is estimated: no row is left, or the random effects separate the outcomes."""
        return self.point is None or (self.status == Status.separated and not self.recession.any)

    @cached_property
    def beta(self) -> Array:
        """(p): infinite where a coefficient runs there, nan where its limit is not known."""
        if self.objective is None or self.point is None or self.lost:
            with np.errstate(invalid="ignore"):
                return np.where(self.recession.signs == 0, np.nan, self.recession.signs * np.inf)
        found = self.back @ self.point.psi[: self.objective.p]
        with np.errstate(invalid="ignore"):
            gone = np.where(self.recession.signs == 0, np.nan, self.recession.signs * np.inf)
        return np.where(self.estimable, found, gone)

    @property
    def used(self) -> NDArray[np.bool_]:
        """(n): the parameters of the search that an information matrix is of: all but the columns of L that vanished."""
        assert self.point is not None
        return ~self.point.vanished

    @cached_property
    def covariance(self) -> Array:
        """(n, n): the inverse of half the deviance's Hessian in the search's parameters; 0 for those on the boundary."""
        assert self.point is not None
        n = len(self.point.psi)
        full = np.zeros((n, n))
        at = np.ix_(self.used, self.used)
        H = self.point.hessian[at] / 2
        try:
            np.linalg.cholesky(H)
            full[at] = np.linalg.inv(H)
        except np.linalg.LinAlgError:
            full[at] = np.nan
        return full

    @cached_property
    def vcov(self) -> Array:
        """(p, p) of beta; nan where it is not estimated."""
        if self.objective is None or self.lost:
            return np.full((len(self.estimable),) * 2, np.nan)
        r = self.objective.p
        found = self.back @ self.covariance[:r, :r] @ self.back.T
        return np.where(np.outer(self.estimable, self.estimable), found, np.nan)

    def terms_of(self, psi: Array) -> list[Array]:
        """For each term a T with T T' its G in the units of the data."""
        assert self.objective is not None
        found: list[Array] = []
        k = 0
        L = self.objective.layout.factor_matrices(psi[None, self.objective.theta])
        for own, factor in zip(L, self.factors, strict=True):
            start = 0
            for size in factor.sizes:
                at = slice(start, start + size)
                found.append(np.asarray(np.linalg.solve(self.roots[k], own[0, at, at])))
                start, k = start + size, k + 1
        return found

    @cached_property
    def covariances(self) -> list[Array]:
        """G (q, q) of each term's random effects; infinite or nan where there is none."""
        sizes = [size for f in self.factors for size in f.sizes]
        if self.point is None or self.lost:
            return [np.full((size, size), np.nan) for size in sizes]
        return [T @ T.T for T in self.terms_of(self.point.psi)]

    @cached_property
    def theta(self) -> Array:
        """lme4's: the free entries of L by columns, L L' = G."""
        if self.point is None or self.lost:
            return np.full(sum(len(G) * (len(G) + 1) // 2 for G in self.covariances), np.nan)
        roots = [relative_factor(T) for T in self.terms_of(self.point.psi)]
        return np.concatenate([L.T[np.triu_indices(len(L))] for L in roots])

    @property
    def deviance(self) -> float:
        """-2 log likelihood; in the limit where it runs to infinity."""
        if self.point is None:
            return float("nan") if self.recession.kept.any() else 0.0
        return self.point.deviance

    @property
    def dispersion(self) -> float:
        """k of a negative binomial outcome, infinite at Poisson's limit; nan for other families."""
        if not self.outcome.dispersed or self.point is None:
            return float("nan")
        return float("inf") if self.limit else float(np.exp(self.point.psi[-1]))

    @cached_property
    def modes(self) -> list[Array]:
        """By factor the conditional modes u (levels, q) of the random effects in the units of the data."""
        if self.point is None or self.objective is None:
            return [np.full((f.levels, f.q), np.nan) for f in self.factors]
        found, k = [], 0
        L = self.objective.layout.factor_matrices(self.point.psi[None, self.objective.theta])
        for own, factor, v in zip(L, self.factors, self.point.at.modes, strict=True):
            effects = v[:, 0] @ own[0].T
            parts, start = [], 0
            for size in factor.sizes:
                parts.append(np.linalg.solve(self.roots[k], effects[:, start : start + size].T).T)
                start, k = start + size, k + 1
            found.append(np.hstack(parts))
        return found

    @cached_property
    def linear_predictor(self) -> Array:
        """(N): eta at the modes; infinite in rows that are certain."""
        eta = np.full(len(self.X), np.nan)
        if self.point is not None and self.objective is not None:
            objective, psi = self.objective, self.point.psi
            L = objective.layout.factor_matrices(psi[None, objective.theta])
            own = objective.fixed_part(psi[None]) + objective.layout.spread(L, self.point.at.modes)
            eta[self.recession.kept] = own[:, 0]
        certain = ~self.recession.kept
        eta[certain] = np.where(self.outcome.y[certain] > 0, np.inf, -np.inf)
        return eta


def fit_glmm(
    outcome: ObservedRows, X: Array, factors: Sequence[FactorColumns], offset: Array, *, nodes: int = 1,
    curvature: Curvature = "observed", without_random: bool = False,
) -> GlmmModel:  # fmt: skip
    """Fit an outcome (N) on X (N, p) of full rank and the factors' random columns.

    without_random: fit the fixed part alone.
    """
    factors = tuple(factors)
    p = X.shape[1]
    recession = Recession(np.ones(len(X), dtype=bool), np.zeros(p))
    scaled, back, estimable = orthonormal(X)
    start = fit_plain(outcome, scaled, offset)
    if not start.overlapping:
        recession = find_recession(outcome, X)
    kept, own_factors = outcome, factors
    if recession.any:
        rows = recession.kept
        kept = ObservedRows(outcome.family, outcome.y[rows], outcome.trials[rows])
        if not rows.any() or np.linalg.matrix_rank(X[rows]) == 0:
            return unfitted(outcome, X, offset, factors, recession)
        scaled, back, estimable = orthonormal(X[rows])
        estimable &= recession.signs == 0
        start = fit_plain(kept, scaled, offset[rows])
        own_factors = tuple(replace(f, codes=f.codes[rows], Z=f.Z[rows]) for f in factors)
    white, roots = whitened(own_factors)
    objective = Objective(kept, scaled, offset[recession.kept], EffectsLayout(white), nodes, curvature)
    point: SearchEnd | None = None
    limit, status = False, Status.separated
    if without_random or not _pure(kept, objective):
        point, limit = _searched(kept, objective, start, without_random)
        status = _status(kept, objective, point, limit) if not recession.any else Status.separated
    return GlmmModel(outcome, X, offset, factors, objective, point, back, roots, estimable, recession, status, limit)


def unfitted(
    outcome: ObservedRows, X: Array, offset: Array, factors: Sequence[FactorColumns], recession: Recession
) -> GlmmModel:
    """The model where no row is left to fit: nothing is finite."""
    p = X.shape[1]
    roots = tuple(np.eye(size) for f in factors for size in f.sizes)
    none = np.zeros(p, dtype=bool)
    back = np.zeros((p, 0))
    return GlmmModel(outcome, X, offset, tuple(factors), None, None, back, roots, none, recession, Status.separated)


@dataclass(frozen=True)
class PlainStart:
    """The model without random effects: beta, log k (None for other families), and whether its optimum is clear."""

    beta: Array
    log_k: float | None
    overlapping: bool


def orthonormal(X: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Orthonormal columns times sqrt(N) that span X's; back to X's coefficients; which of these the rows determine."""
    N = len(X)
    sizes = np.maximum(np.abs(X).max(axis=0), 1e-300)
    U, d, Vt = np.linalg.svd(X / sizes, full_matrices=False)
    kept = d > SPANNED * d[0]
    back = (Vt[kept].T / d[kept]) * np.sqrt(N) / sizes[:, None]
    estimable = np.linalg.norm(Vt[~kept], axis=0) < 1e-6 if not kept.all() else np.ones(X.shape[1], dtype=bool)
    return U[:, kept] * np.sqrt(N), back, estimable & (len(d) == X.shape[1])


def whitened(factors: Sequence[FactorColumns]) -> tuple[tuple[FactorColumns, ...], tuple[Array, ...]]:
    """The factors with each term's columns orthonormal times sqrt(N), and R per term with Z = white R."""
    white, roots = [], []
    for factor in factors:
        parts, start = [], 0
        for size in factor.sizes:
            Q, R = np.linalg.qr(factor.Z[:, start : start + size])
            N = np.sqrt(len(Q))
            if len(R) < size or (np.abs(np.diag(R)) < SPANNED * np.abs(R).max(initial=1e-300)).any():
                # of rank size on all rows, not on those that are left
                Q, R = factor.Z[:, start : start + size] / N, np.eye(size) * N
            parts.append(Q * N)
            roots.append(R / N)
            start += size
        white.append(replace(factor, Z=np.hstack(parts)))
    return tuple(white), tuple(roots)


def fit_plain(outcome: ObservedRows, X: Array, offset: Array) -> PlainStart:
    """Fit the fixed part by damped Newton steps, counts by Poisson's likelihood, and k by moments."""
    plain = ObservedRows(Family("poisson", "log"), outcome.y, outcome.trials) if outcome.family.counts else outcome
    N, p = X.shape
    # an intercept near the marginal mean
    mean = (plain.y.sum() + 0.5) / (plain.trials.sum() + 1) if not plain.family.counts else plain.y.mean() + 0.1
    centre = float(linear_predictor(plain.family.link, mean)) - (offset.mean() if plain.family.counts else 0.0)
    beta = X.T @ np.full(N, centre) / N
    value = -np.inf
    overlapping = False
    step: Array = np.zeros(p)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(GLM_STEPS):
            t = 1.0
            for _ in range(30):
                eta = offset + X @ (beta + t * step)
                logf, g1, g2 = plain.derivatives(eta, 2)
                if logf.sum() >= value - 1e-12 * (1 + abs(value)):
                    break
                t /= 2
            beta, value = beta + t * step, logf.sum()
            H = (X.T * -g2) @ X
            lowest = np.linalg.eigvalsh(H)[0] if np.isfinite(H).all() else 0.0
            if not lowest > 1e-9 * N:
                break
            step = np.asarray(np.linalg.solve(H, X.T @ g1))
            if step @ (X.T @ g1) < 1e-12:
                overlapping = bool(lowest > OVERLAP * N * min(1.0, plain.y.mean()))
                break
    if plain.family.name == "binomial" and np.abs(X @ beta).max() > 8:
        beta = beta * (8 / np.abs(X @ beta).max())
    log_k = None
    if outcome.dispersed:
        mu = np.exp(np.clip(offset + X @ beta, -50, 50))
        inverse = ((outcome.y - mu) ** 2 - mu).sum() / max((mu**2).sum(), 1e-300)
        log_k = float(np.log(1 / np.clip(inverse, 0.02, 20.0)))
    return PlainStart(beta, log_k, overlapping)


def _searched(
    outcome: ObservedRows, objective: Objective, start: PlainStart, without_random: bool
) -> tuple[SearchEnd, bool]:
    """The optimum, and whether it is Poisson's of a negative binomial outcome."""
    if not outcome.dispersed:
        return _optimum(objective, start, without_random), False
    # the limit first: where it is an optimum the search runs there, step by step
    limit = _poisson_limit(outcome, objective, start, without_random)
    if limit is not None:
        start = replace(start, log_k=min(start.log_k or 0.0, 1.0))
    point = _optimum(objective, start, without_random, once=limit is not None)
    if limit is not None and not (point.certified and point.deviance < limit.deviance):
        return limit, True
    return point, False


def _optimum(objective: Objective, start: PlainStart, without_random: bool, *, once: bool = False) -> SearchEnd:
    if without_random:
        return _without_random(objective, start.beta, start.log_k)
    return find_optimum(objective, start.beta, start.log_k, once=once)


def _without_random(objective: Objective, beta: Array, log_k: float | None) -> SearchEnd:
    """The optimum at theta = 0."""
    psi = np.zeros(objective.n)
    psi[: objective.p] = beta
    if log_k is not None:
        psi[-1] = log_k
    free = np.ones(objective.n, dtype=bool)
    free[objective.theta] = False
    found = minimise(objective, psi, free=free)
    judged = certify(objective, found.psi, found.at, ~free, free)
    return replace(judged, iterations=found.iterations, away=found.away)


def _poisson_limit(
    outcome: ObservedRows, objective: Objective, start: PlainStart, without_random: bool
) -> SearchEnd | None:
    """Poisson's optimum, if the likelihood does not rise as 1 / k leaves 0 there."""
    poisson = ObservedRows(Family("poisson", "log"), outcome.y, outcome.trials)
    own = _optimum(replace(objective, outcome=poisson), replace(start, log_k=None), without_random)
    psi = np.append(own.psi, np.log1p(outcome.y.mean()) + np.log(NEAR_LIMIT))
    slope = objective(psi[None], own.at.modes).gradient[0, -1]
    if not own.certified or not slope <= 1e-9:
        return None
    hessian = np.zeros((len(psi), len(psi)))
    hessian[:-1, :-1] = own.hessian
    at = replace(own.at, gradient=np.append(own.at.gradient, [[0.0]], axis=1))
    return replace(own, psi=psi, at=at, hessian=hessian, vanished=np.append(own.vanished, True))


def _status(outcome: ObservedRows, objective: Objective, point: SearchEnd, limit: bool) -> Status:
    if not np.isfinite(point.deviance):
        return Status.nonfinite
    theta = np.abs(point.psi[objective.theta]).max(initial=0.0)
    # fixed and random effects together, all free, give every row its side: the variances grow without end
    suspect = objective.outcome.family.name == "binomial" and (point.away or theta > SUSPECT)
    if suspect and separable(outcome, objective.X, objective.layout.factors):
        return Status.separated
    if not point.certified:
        return Status.not_converged
    used = ~point.vanished
    try:
        np.linalg.cholesky(point.hessian[np.ix_(used, used)])
    except np.linalg.LinAlgError:
        return Status.rank_deficient
    return Status.singular if point.singular or limit else Status.ok


def _pure(outcome: ObservedRows, objective: Objective) -> bool:
    """Whether every level of a factor with an intercept has one outcome only, and fixed effects that are constant within it.

    The likelihood of a binary outcome is then highest where the variance is infinite, as all is explained there.
    """
    X = objective.X
    if outcome.family.name != "binomial" or ((outcome.y > 0) & (outcome.y < outcome.trials)).any():
        return False
    for factor in objective.layout.factors:
        events = np.bincount(factor.codes, outcome.y > 0, factor.levels)
        counts = np.bincount(factor.codes, minlength=factor.levels)
        first = np.zeros(factor.levels, dtype=np.int64)
        first[factor.codes[::-1]] = np.arange(len(X))[::-1]
        constant = np.abs(X - X[first[factor.codes]]).max() < 1e-9 * np.abs(X).max()
        pure = ((events == 0) | (events == counts)).all() and np.bincount(factor.codes, outcome.trials).max() > 1
        if pure and constant and np.ptp(factor.Z, axis=0).min() < 1e-9:
            return True
    return False
