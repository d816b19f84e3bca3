"""Penalised quasi-likelihood: a linear mixed model of weighted pseudo-data, refitted until it stands still.

    z = eta - o + (y / n - mu) / mu',  w = n mu'^2 / V(mu)

are fitted by ML or REML with Var z = scale^2 / w given the random effects, and give the next eta (Breslow & Clayton 1993, JASA
88, 9-25). With scale = "estimated" this is MASS's glmmPQL, whose standard errors by ML have a factor sqrt(N / (N - p)); with
"fixed" it is SAS GLIMMIX's RSPL (REML) and MSPL. There is no likelihood: the certificate is that of the last pseudo-model.
Variances are biased downwards for binary outcomes in small clusters.

At a fixed scale the pseudo-model's deviance is the mixed model objective with a normal density of known variance; REML adds X to
the random effects, with a standard deviation so large that their prior is flat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...spec.family import GAUSSIAN, Family, mean_of
from ...spec.matrices import ModelMatrices
from ...spec.problems import DataError
from ..checks import check_rules, one_of
from ..problem import relative_factor
from ..several.model import factors_of
from ..several.nesting import between_within_df
from ..several.products import FactorColumns
from ..single import Fit, by_term, fit_rows, is_balanced, term_names
from ..status import Status
from ..weights import weighted
from .checks import check_columns, check_options
from .families import ObservedRows
from .layout import EffectsLayout
from .model import fit_plain, orthonormal, unfitted, whitened
from .objective import Objective
from .search import RESIDUAL_TOLERANCE, find_optimum, minimise, projected
from .separation import Recession, find_recession

if TYPE_CHECKING:
    import pandas as pd

    from .single import GeneralisedFit, GeneralisedOptions

__all__ = ["SCALES", "fit_pql"]

Array = NDArray[np.float64]

#: What the residual scale may be.
SCALES = ("estimated", "fixed")
#: Rounds, and the share of eta's sum of squares that a change of it may have at the last.
ROUNDS = 200
STILL = 1e-18
#: The standard deviation of a flat prior, in units of the pseudo-data, and linear predictors that a round may reach.
FLAT_SD, LARGEST = 1e4, 30.0


@dataclass(frozen=True)
class NormalRows:
    """Pseudo-data z (N) with known variances 1 / w, as a density of eta for `Objective`."""

    z: Array
    w: Array
    family: Family = GAUSSIAN
    dispersed: bool = False

    def derivatives(self, eta: Array, order: int, log_k: Array | float = 0.0) -> list[Array]:
        """log f(z | eta), and its derivatives in eta up to an order."""
        shape = (-1, *[1] * (eta.ndim - 1))
        z, w = self.z.reshape(shape), self.w.reshape(shape)
        rest, nothing = z - eta, np.zeros_like(eta)
        value = (np.log(w / (2 * np.pi)) - w * rest * rest) / 2
        return [value, w * rest, nothing - w, nothing, nothing][: order + 1]

    def expected_weights(self, eta: Array) -> tuple[Array, Array]:
        """w, and its derivative, 0."""
        _, _, second, third = self.derivatives(eta, 3)
        return -second, third

    def in_dispersion(self, eta: Array, log_k: Array | float) -> tuple[Array, Array, Array]:
        """There is no dispersion."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Round:
    """A fit of pseudo-data: beta (p), vcov (p, p), df (p) or None, the terms' T with T T' = G, scale, effects Zu (N), status,
    certificate."""

    beta: Array
    vcov: Array
    df: Array | None
    terms: list[Array]
    scale: float
    effects: Array
    status: Status
    certificate: float


def fit_pql(
    formula: str, data: pd.DataFrame, family: Family, options: GeneralisedOptions, *, offset: str | None
) -> GeneralisedFit:
    """Fit by penalised quasi-likelihood; see `nestlab.fit`."""
    from .single import RULES, read_outcome

    one_of("scale", options.scale, SCALES)
    df = options.df or "z"
    if options.nodes != 1:
        raise DataError(f"nodes = {options.nodes!r}: penalised quasi-likelihood has no nodes; leave it out")
    if options.scale == "fixed":
        check_options(family, nodes=1, curvature=options.curvature, df=df, rules=RULES)
    else:
        check_rules(df, "lmertest", reml=options.reml)
    if family.name == "negative-binomial":
        raise DataError("method = 'pql': families binomial and poisson are possible; fit by method = 'likelihood'")
    m, outcome, o = read_outcome(formula, data, family, options, offset=offset)
    check_columns(m, family, outcome.trials, 1)
    written = " ".join(formula.split())
    recession = Recession(np.ones(len(m.y), dtype=bool), np.zeros(m.X.shape[1]))
    scaled, back, _ = orthonormal(m.X)
    start = fit_plain(outcome, scaled, o)
    if not start.overlapping:
        recession = find_recession(outcome, m.X)
    fitting = _Fixed(m, options.reml) if options.scale == "fixed" else _Estimated(m, options.reml, df, written)
    eta = o + m.X @ (back @ start.beta)
    found, rounds, still = None, 0, False
    while not recession.any and rounds < ROUNDS and not still:
        rounds += 1
        z, w = pseudo_data(outcome, eta)
        found = fitting(z - o, w)
        now = o + m.X @ found.beta + found.effects
        still = bool(((now - eta) ** 2).sum() <= STILL * (now**2).sum())
        eta = now
        if not np.abs(eta).max() < LARGEST:
            break
    return _described(m, outcome, o, family, written, df, options, found, recession, rounds, still, eta)


def pseudo_data(outcome: ObservedRows, eta: Array) -> tuple[Array, Array]:
    """z, the offset still in it, and w of an outcome at eta."""
    mu = mean_of(outcome.family.link, eta)
    w, _ = outcome.expected_weights(eta)
    w = np.maximum(w, 1e-10)
    # w / n = mu'^2 / V, and the score is (y / n - mu) n mu' / V: their ratio is (y / n - mu) / mu'
    if outcome.family.counts:
        return eta + (outcome.y - mu) / mu, w
    (_, g1) = outcome.derivatives(eta, 1)
    return eta + g1 / w, w


@dataclass(frozen=True)
class _Estimated:
    """Fit weighted pseudo-data by the linear mixed model."""

    m: ModelMatrices
    reml: bool
    df: str
    formula: str

    def __call__(self, z: Array, w: Array) -> _Round:
        rows = weighted(replace(self.m, y=z), w)
        fit: Fit = fit_rows(rows, self.formula, reml=self.reml, df=self.df, singular_df="lmertest")
        beta = np.array(list(fit.beta.values()))
        effects = z - fit.scaled_residuals * fit.sigma / np.sqrt(w) - self.m.X @ beta
        N, p = self.m.X.shape
        size = 1.0 if self.reml else N / (N - p)
        terms, k = [], 0
        for names in fit.random_names:
            q = len(names)
            T = np.zeros((q, q))
            T.T[np.triu_indices(q)] = fit.theta[k : k + q * (q + 1) // 2] * fit.sigma
            terms.append(T)
            k += q * (q + 1) // 2
        df = np.array(list(fit.df.values()))
        vcov = np.array(fit.vcov_beta)
        if self.df == "kenward-roger":
            se = np.array(list(fit.se.values()))
            vcov = vcov * np.outer(se, se) / np.sqrt(np.outer(np.diag(vcov), np.diag(vcov)))
        return _Round(beta, vcov * size, df, terms, fit.sigma, effects, fit.status, fit.certificate)


class _Fixed:
    """Fit weighted pseudo-data at scale 1, each round from where the last ended."""

    def __init__(self, m: ModelMatrices, reml: bool) -> None:
        self.m, self.reml = m, reml
        self.X, self.back, _ = orthonormal(m.X)
        self.white, self.roots = whitened(factors_of(m))
        N, r = self.X.shape
        flat = FactorColumns(np.zeros(N, dtype=np.int64), 1, self.X, (1,) * r)
        self.full = EffectsLayout((*self.white, flat))
        self.theta: Array | None = None
        self.modes: list[Array] | None = None

    def __call__(self, z: Array, w: Array) -> _Round:
        N, r = self.X.shape
        rows = NormalRows(z, w)
        full = Objective(rows, self.X[:, :0], np.zeros(N), self.full)
        free = np.arange(full.n) < full.n - r
        if self.theta is None or not self.reml:
            plain = Objective(rows, self.X, np.zeros(N), EffectsLayout(self.white))
            start = self.X.T @ z / N
            if self.theta is None:
                point = find_optimum(plain, start, None)
            else:
                point = minimise(plain, np.concatenate([start, self.theta]), self.modes)
            theta, residual, away = point.psi[plain.theta], point.residual, point.away
        else:
            theta, residual, away = self.theta, np.inf, False
        psi = np.concatenate([theta, np.full(r, FLAT_SD)])
        if self.reml:
            point = minimise(full, psi, None, free)
            psi, away = point.psi, point.away
        now = full(psi[None])
        moved, gone = projected(full, psi, now)
        if gone.any():
            psi = moved
            if self.reml:
                psi = minimise(full, moved, now.modes, free & ~gone).psi
            now = full(psi[None], now.modes)
        self.theta = psi[:-r]
        if gone.any():  # a variance that vanished may come back with other weights
            self.theta = np.where(gone[:-r] & (self.theta == 0), 1e-2, self.theta)
        L = self.full.factor_matrices(psi[None])
        residual = self._residual(rows, psi, now, residual)
        made = self.full.eliminate(L, w[:, None])
        vcov = np.empty((r, r))
        for k in range(r):
            right = [np.zeros_like(v) for v in now.modes]
            right[-1][0, 0, k] = 1.0
            vcov[:, k] = made.solve(right)[-1][0, 0] * FLAT_SD**2
        b = FLAT_SD * now.modes[-1][0, 0]
        effects = self.full.spread(L, now.modes)[:, 0] - self.X @ b
        terms: list[Array] = []
        k = 0
        for own, factor in zip(L, self.white, strict=False):
            at = 0
            for size in factor.sizes:
                terms.append(np.asarray(np.linalg.solve(self.roots[k], own[0, at : at + size, at : at + size])))
                at, k = at + size, k + 1
        status = Status.singular if gone.any() else Status.ok
        if away or not residual < RESIDUAL_TOLERANCE:
            status = Status.not_converged
        return _Round(self.back @ b, self.back @ vcov @ self.back.T, None, terms, 1.0, effects, status, residual)

    def _residual(self, rows: NormalRows, psi: Array, now: object, found: float) -> float:
        """The largest entry of (dD/dL) L' of the criterion that was minimised."""
        r = self.X.shape[1]
        if self.reml:
            objective = Objective(rows, self.X[:, :0], np.zeros(len(self.X)), self.full)
            at, where = psi, slice(0, len(psi) - r)
            layout = self.full
        else:
            objective = Objective(rows, self.X, np.zeros(len(self.X)), EffectsLayout(self.white))
            layout = objective.layout
            full = Objective(rows, self.X[:, :0], np.zeros(len(self.X)), self.full)(psi[None])
            at = np.concatenate([FLAT_SD * full.modes[-1][0, 0], psi[:-r]])
            where = objective.theta
        gradient = objective(at[None]).gradient[0]
        kept = np.zeros_like(gradient)
        kept[where] = gradient[where]
        slopes = layout.factor_matrices(kept[None, objective.theta])
        L = layout.factor_matrices(at[None, objective.theta])
        return float(max(np.abs(s @ own.swapaxes(1, 2)).max() for s, own in zip(slopes, L, strict=True)))


def _described(
    m: ModelMatrices, outcome: ObservedRows, o: Array, family: Family, formula: str, df: str, options: GeneralisedOptions,
    found: _Round | None, recession: Recession, rounds: int, still: bool, eta: Array,
) -> GeneralisedFit:  # fmt: skip
    from .single import GeneralisedFit, pearson

    factors, p = factors_of(m), m.X.shape[1]
    nothing = unfitted(outcome, m.X, o, factors, recession)
    groups = tuple(dict.fromkeys(m.term_groups))
    if found is None:
        beta, vcov, status = nothing.beta, nothing.vcov, Status.separated
        terms, modes = nothing.covariances, nothing.modes
        free: Array | None = np.full(p, np.nan)
        scale, certificate = float("nan"), float("nan")
    else:
        beta, vcov, free, scale, certificate = found.beta, found.vcov, found.df, found.scale, found.certificate
        status = found.status if still else Status.not_converged
        terms = [T @ T.T for T in found.terms]
        modes = _modes(factors, found, pseudo_data(outcome, eta), m.X, o)
    if free is None:
        free = between_within_df(factors, m.X) if df == "between-within" else np.full(p, np.inf)
    fitted = mean_of(family.link, eta) * outcome.trials
    theta = nothing.theta if found is None else np.concatenate([_packed(T) for T in found.terms])
    return GeneralisedFit(
        formula=formula, response=m.response, family=family.name, link=family.link,
        levels=dict(zip(groups, (f.levels for f in factors), strict=True)), nodes=1, curvature="expected", method="pql",
        rows=len(m.y), balanced=is_balanced(m), dropped=m.dropped, beta=by_term(m, beta),
        se=by_term(m, np.sqrt(np.diag(vcov))), df=by_term(m, free), df_rule=df, vcov_beta=vcov, theta=theta,
        varcomp=dict(zip(term_names(m), terms, strict=True)), random_names=tuple(m.random_names[t] for t in m.term_order),
        dispersion=float("nan"), scale=scale, neg2loglik=float("nan"), status=status,
        diverging=tuple(name for name, s in zip(m.fixed_names, recession.signs, strict=True) if s != 0),
        iterations=rounds, certificate=certificate, modes=dict(zip(groups, modes, strict=True)), fitted=fitted,
        scaled_residuals=pearson(outcome, fitted, float("nan")), matrices=m, _model=nothing, reml=options.reml,
        trials=options.trials,
    )  # fmt: skip


def _packed(T: Array) -> Array:
    L = relative_factor(T)
    return np.asarray(L.T[np.triu_indices(len(L))])


def _modes(factors: list[FactorColumns], found: _Round, pseudo: tuple[Array, Array], X: Array, o: Array) -> list[Array]:
    """Predictions (levels, q) of the random effects by factor, at the last pseudo-data."""
    z, w = pseudo
    layout = EffectsLayout(tuple(factors))
    rows = NormalRows(z - o - X @ found.beta, w / found.scale**2)
    theta = np.concatenate([_packed(T) for T in found.terms])
    now = Objective(rows, X[:, :0], np.zeros(len(X)), layout)(theta[None])
    L = layout.factor_matrices(theta[None])
    return [v[:, 0] @ own[0].T for v, own in zip(now.modes, L, strict=True)]
