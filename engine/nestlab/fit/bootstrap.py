"""The parametric bootstrap of one replicate: new sufficient statistics from its fit, refitted; intervals and tests.

Given the fit (b, G, s2; G here the covariance of u itself) and the replicate's D'D, a draw has u* ~ N(0, G), e* ~ N(0, s2 I) and,
cluster by cluster, with R'R = D'D, z ~ N(0, I),

    D'e* = s R'z,  e*'e* = s2 (z'z + chi2(n_j - rank R)),  y* = Z u* + e*

which is exact in distribution and needs no row (`simulate.moments`). X b is left out: estimates are equivariant, so that b is
added to those of b, and the deviance does not change where the model's X holds that of the fit.

Percentile intervals: order statistics (draws + 1) alpha / 2 and (draws + 1) (1 - alpha / 2), interpolated (Efron & Tibshirani
1993, ch. 13). Test: p = (1 + number of T* >= T) / (1 + draws), T* of draws from the null fit (Davison & Hinkley 1997, eq. 4.11).
Draws whose refit failed are left out of both and counted; where they are many there is no inference.

20 clusters of 50, 999 draws, a core: a draw takes 0.6 to 0.7 us, with its refit 2.6 us (random intercept) or 4.7 to 10 (random
slope, the most where its variance is near 0), in a test with both refits 4.5 or 12 (random slope).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..simulate.gram import Gram, response
from ..simulate.layout import lower_factor, pair
from ..simulate.moments import draw_errors, random_effects
from ..spec.estimand import ICC, RESIDUAL, Estimand
from ..spec.model import INTERCEPT
from .compare import lr_statistic, lr_statistics
from .lmm import Fits, Plan, pairs
from .ols import fit_model
from .reduce import PIVOT_TOLERANCE
from .status import Status

__all__ = [
    "MOST_FAILED", "BootstrapIntervals", "BootstrapTest", "Fitted", "bootstrap_intervals", "bootstrap_test", "draw_gram",
    "quantities", "refit", "share_failed",
]  # fmt: skip

Array = NDArray[np.float64]

#: Share of refits that may fail before the replicate's inference does.
MOST_FAILED = 0.1


@dataclass(frozen=True)
class Fitted:
    """A model fitted to replicates first, first + 1, ... of a block: its plan, the Gram it was fitted to, the fits."""

    plan: Plan
    gram: Gram
    fits: Fits
    first: int = 0

    def usable(self, replicate: int) -> bool:
        """Whether the fit of a replicate is an optimum."""
        return bool(self.fits.status[replicate - self.first] <= Status.singular)

    def covariance(self, replicate: int) -> Array:
        """G (q, q), absolute."""
        q = len(self.plan.zcols)
        G = np.zeros((q, q))
        for value, (i, k) in zip(self.fits.varcomp[replicate - self.first], pairs(q), strict=True):
            G[i, k] = G[k, i] = value
        return G

    def weights(self, replicate: int) -> Array:
        """(w, J, 1): the level-2 multipliers of a replicate."""
        weights = self.gram.weights
        return weights if weights.shape[2] == 1 else weights[:, :, replicate : replicate + 1]


@dataclass(frozen=True)
class BootstrapIntervals:
    """Percentile intervals by quantity (see `quantities`), nan where no draw has one or the inference failed.

    used: draws with a value, by quantity; failed_refits: draws without a fit.
    """

    lower: dict[str, float]
    upper: dict[str, float]
    used: dict[str, int]
    draws: int
    failed_refits: int

    @property
    def failed(self) -> bool:
        return share_failed(self.failed_refits, self.draws)


@dataclass(frozen=True)
class BootstrapTest:
    """A p-value, nan where the inference failed: a fit is no optimum, or too many refits are none."""

    p: float
    statistic: float
    draws: int
    failed_refits: int

    @property
    def failed(self) -> bool:
        return bool(np.isnan(self.p))


def bootstrap_intervals(
    fitted: Fitted, replicate: int, sizes: NDArray[np.int64], *, level: float, draws: int, generator: Generator
) -> BootstrapIntervals:
    """Intervals of coverage `level` for all that a model estimates; none if the fit is no optimum.

    sizes (J): rows of each cluster. draws: 999 and 1999 make order statistics of the usual levels.
    """
    if not fitted.usable(replicate):
        names = quantities(fitted.plan, fitted.fits)
        missing = dict.fromkeys(names, np.nan)
        return BootstrapIntervals(missing, dict(missing), dict.fromkeys(names, 0), draws, draws)
    refits = refit(fitted, replicate, sizes, draws=draws, generator=generator)
    failures = int((refits.status > Status.singular).sum())
    lower, upper, used = {}, {}, {}
    for name, values in quantities(fitted.plan, refits).items():
        found = values[np.isfinite(values)]
        used[name] = len(found)
        lower[name] = upper[name] = np.nan
        if len(found) and not share_failed(failures, draws):
            tail = (1.0 - level) / 2.0
            lower[name], upper[name] = map(float, np.quantile(found, [tail, 1.0 - tail], method="weibull"))
    return BootstrapIntervals(lower, upper, used, draws, failures)


def bootstrap_test(
    null: Fitted, full: Fitted, replicate: int, sizes: NDArray[np.int64], *, draws: int, generator: Generator
) -> BootstrapTest:
    """The likelihood ratio test of the null within the full model, both fitted by ML or both by REML to the same replicates."""
    assert null.plan.reml == full.plan.reml, "likelihoods of one kind"
    deviances = (fitted.fits.deviance[replicate - fitted.first] for fitted in (null, full))
    statistic = float(lr_statistic(*deviances))
    if np.isnan(statistic) or not (null.usable(replicate) and full.usable(replicate)):
        return BootstrapTest(np.nan, statistic, draws, 0)
    if statistic == 0.0:
        return BootstrapTest(1.0, statistic, draws, 0)
    columns = _columns(null.plan, full.plan)
    gram = draw_gram(null, replicate, sizes, columns, draws=draws, generator=generator)
    before, after = (
        fit_model(
            _at(fitted.plan, columns, null, replicate), replace(gram, weights=fitted.weights(replicate)), 0, draws
        )
        for fitted in (null, full)
    )
    drawn = lr_statistics(before, after)
    drawn = drawn[~np.isnan(drawn)]
    failures = draws - len(drawn)
    p = np.nan if share_failed(failures, draws) else (1.0 + (drawn >= statistic).sum()) / (1.0 + len(drawn))
    return BootstrapTest(float(p), statistic, draws, failures)


def refit(fitted: Fitted, replicate: int, sizes: NDArray[np.int64], *, draws: int, generator: Generator) -> Fits:
    """Fits of `draws` data sets drawn from a replicate's fit, which must be usable; beta includes the fit's beta."""
    assert fitted.usable(replicate), "only an optimum can be drawn from"
    columns = _columns(fitted.plan)
    gram = draw_gram(fitted, replicate, sizes, columns, draws=draws, generator=generator)
    plan = _at(fitted.plan, columns, fitted, replicate)
    return fit_model(plan, replace(gram, weights=fitted.weights(replicate)), 0, draws)


def quantities(plan: Plan, fits: Fits) -> dict[str, Array]:
    """All that a model estimates, by the names of estimands: (R) each, nan where a fit failed or a correlation is undefined."""
    columns, group = plan.formula.random_columns, plan.formula.group
    usable = fits.status <= Status.singular
    varcomp = dict(zip(pairs(len(columns)), fits.varcomp.T, strict=True))
    found = {Estimand("fixed", columns=(term,)): fits.beta[:, i] for i, term in enumerate(plan.formula.fixed)}
    variances = {Estimand("var", group, (column,)): varcomp[k, k] for k, column in enumerate(columns)}
    variances[RESIDUAL] = fits.sigma2
    found |= variances
    with np.errstate(invalid="ignore", divide="ignore"):
        found |= {each.of("sd"): np.sqrt(values) for each, values in variances.items()}
        for (a, b), values in varcomp.items():
            if a < b and plan.blocks[a] == plan.blocks[b]:
                covariance = Estimand("cov", group, (columns[a], columns[b]))
                scale = np.sqrt(varcomp[a, a]) * np.sqrt(varcomp[b, b])
                correlation = np.where(scale > 0, np.clip(values / scale, -1.0, 1.0), np.nan)
                found |= {covariance: values, covariance.of("cor"): correlation}
        if INTERCEPT in columns:
            variance = varcomp[(columns.index(INTERCEPT),) * 2]
            found[ICC] = variance / (variance + fits.sigma2)
    return {each.name: np.where(usable, values, np.nan) for each, values in found.items()}


def draw_gram(
    fitted: Fitted,
    replicate: int,
    sizes: NDArray[np.int64],
    columns: Sequence[int],
    *,
    draws: int,
    generator: Generator,
) -> Gram:
    """The Gram of `draws` data sets Z u* + e* from a replicate's fit: columns of D as listed (they hold those of Z), D'D shared.

    Weights are the fit's.
    """
    dd = fitted.gram.dd
    r = replicate if dd.shape[2] > 1 else 0
    dd = np.ascontiguousarray(dd[:, [pair(columns[i], columns[k]) for i, k in pairs(len(columns))], r : r + 1])
    sigma = float(np.sqrt(fitted.fits.sigma2[replicate - fitted.first]))
    u = random_effects(lower_factor(fitted.covariance(replicate)), len(sizes), generator, draws)
    de, ee = draw_errors(_factor(dd[:, :, 0], len(columns)), sizes, sigma, generator, draws)
    dy, yy = response(dd, de, ee, [columns.index(z) for z in fitted.plan.zcols], u)
    return Gram(dd, dy, yy, fitted.weights(replicate))


def _columns(*plans: Plan) -> list[int]:
    """The columns of D that the models use."""
    return sorted({column for plan in plans for column in (*plan.xcols, *plan.zcols)})


def _at(plan: Plan, columns: Sequence[int], truth: Fitted, replicate: int) -> Plan:
    """The plan for draws from `truth` on some columns of D. It starts at their G and adds their beta if it is their own model."""
    i, zcols = replicate - truth.first, truth.plan.zcols
    G = truth.covariance(replicate) / truth.fits.sigma2[i]
    start = [
        G[zcols.index(a), zcols.index(b)] if a in zcols and b in zcols else 0.0
        for a, b in ((plan.zcols[a], plan.zcols[b]) for a, b in pairs(len(plan.zcols)))
    ]
    return replace(
        plan,
        rows=truth.plan.rows,
        zcols=tuple(columns.index(z) for z in plan.zcols),
        xcols=tuple(columns.index(x) for x in plan.xcols),
        start=np.array(start),
        true_beta=truth.fits.beta[i] if plan is truth.plan else np.zeros(len(plan.xcols)),
    )


def _factor(dd: Array, d: int) -> Array:
    """(J, d, d): upper-triangular R of D'D by pairs (J, d(d+1)/2); the row of a column that depends on earlier ones is 0."""
    R = np.zeros((len(dd), d, d))
    for m in range(d):
        row = dd[:, [pair(m, k) for k in range(m, d)]] - np.einsum("ji,jik->jk", R[:, :m, m], R[:, :m, m:])
        kept = row[:, 0] > PIVOT_TOLERANCE * dd[:, pair(m, m)]
        R[kept, m, m:] = row[kept] / np.sqrt(row[kept, :1])
    return R


def share_failed(failures: int, draws: int) -> bool:
    """Whether too many draws failed for there to be any inference."""
    return failures > MOST_FAILED * draws
