"""The parametric bootstrap of a fit with several grouping factors: new responses from the fit, refitted; intervals and tests.

y* = Z u* + e*, u* ~ N(0, s2 G), e* ~ N(0, s2 I): X b is left out, as estimates are equivariant. The rows of y* are reduced to the
products that a fit needs, those of Z and X being the data's. Intervals, tests and what fails: see `fit.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..bootstrap import BootstrapTest, share_failed
from ..compare import lr_statistic
from ..status import Status
from .model import PlainModel, SeveralModel
from .products import Products, respond
from .steer import Optimum, find_optimum

__all__ = ["Draws", "bootstrap_fit", "bootstrap_lrt", "drawn_responses"]

Array = NDArray[np.float64]

#: Responses that are drawn and reduced together.
AT_ONCE = 64


@dataclass(frozen=True)
class Draws:
    """What refits found, nan where they failed, in the units of the data: beta (draws, p), without what the OLS fit found;
    varcomp (draws, q_t, q_t) of each term; sigma2 (draws). failed: whether a refit has no result."""

    beta: Array
    varcomp: tuple[Array, ...]
    sigma2: Array
    failed: NDArray[np.bool_]

    @property
    def unusable(self) -> bool:
        """Whether too many failed."""
        return share_failed(int(self.failed.sum()), len(self.failed))

    def limits(self, values: Array, level: float) -> tuple[float, float]:
        """Percentile limits of a quantity (draws), nan where it is undefined; nan where there are none."""
        found = values[np.isfinite(values)]
        if not len(found) or self.unusable:
            return np.nan, np.nan
        tail = (1.0 - level) / 2.0
        lower, upper = np.quantile(found, [tail, 1.0 - tail], method="weibull")
        return float(lower), float(upper)


def bootstrap_fit(model: SeveralModel, *, draws: int, generator: Generator) -> Draws:
    """Refits of responses drawn from a fit, which must be usable."""
    assert model.optimum.status <= Status.singular, "only an optimum can be drawn from"
    beta, sigma2 = np.full((draws, model.p), np.nan), np.full(draws, np.nan)
    varcomp = tuple(np.full((draws, len(R), len(R)), np.nan) for R in model.roots)
    for r, y in enumerate(drawn_responses(model, draws, generator)):
        made = refitted(model, y, model.optimum.G)
        if made.optimum.status <= Status.singular:
            beta[r], sigma2[r] = model.back @ (model.beta + made.beta) * model.scale, made.sigma2 * model.scale**2
            for found, T in zip(varcomp, made.covariances(), strict=True):
                found[r] = T @ T.T * sigma2[r]
    return Draws(beta, varcomp, sigma2, np.isnan(sigma2))


def bootstrap_lrt(
    null: SeveralModel | PlainModel, full: SeveralModel, *, draws: int, generator: Generator
) -> BootstrapTest:
    """The likelihood ratio test of the null within the full model, both fitted by ML or both by REML to the same rows."""
    assert null.reml == full.reml, "likelihoods of one kind"
    statistic = float(lr_statistic(null.neg2loglik, full.neg2loglik))
    usable = full.optimum.status <= Status.singular
    if isinstance(null, SeveralModel):
        usable = usable and null.optimum.status <= Status.singular
    if np.isnan(statistic) or not usable:
        return BootstrapTest(np.nan, statistic, draws, 0)
    if statistic == 0.0:
        return BootstrapTest(1.0, statistic, draws, 0)
    drawn = []
    for y in drawn_responses(null, draws, generator):
        after = refitted(full, y * (null.scale / full.scale), None)
        if isinstance(null, SeveralModel):
            made = refitted(null, y, null.optimum.G)
            before = made.neg2loglik if made.optimum.status <= Status.singular else np.nan
        else:
            before = replace(null, y=y).neg2loglik
        if after.optimum.status <= Status.singular:
            drawn.append(float(lr_statistic(before, after.neg2loglik)))
    counted = np.array([T for T in drawn if not np.isnan(T)])
    failures = draws - len(counted)
    p = np.nan if share_failed(failures, draws) else (1.0 + (counted >= statistic).sum()) / (1.0 + len(counted))
    return BootstrapTest(float(p), statistic, draws, failures)


def drawn_responses(model: SeveralModel | PlainModel, draws: int, generator: Generator) -> Iterator[Array]:
    """Responses (N), less X b, from a fit: in y's unit there."""
    sigma = float(np.sqrt(model.sigma2))
    factors = zip(model.white, model.optimum.G, strict=True) if isinstance(model, SeveralModel) else ()
    roots = []
    for factor, G in factors:
        values, vectors = np.linalg.eigh(G)
        roots.append((factor, vectors * np.sqrt(np.maximum(values, 0.0))))
    for first in range(0, draws, AT_ONCE):
        n = min(AT_ONCE, draws - first)
        y = generator.standard_normal((n, len(model.y)))
        for factor, root in roots:
            u = generator.standard_normal((n, factor.levels, factor.q)) @ root.T
            y += np.einsum("ia,nia->ni", factor.Z, u[:, factor.codes])
        yield from y * sigma


def refitted(model: SeveralModel, y: Array, start: tuple[Array, ...] | None) -> SeveralModel:
    """The model fitted to another response (N)."""
    products: Products = respond(model.products, model.white, model.X, y)
    optimum: Optimum = find_optimum(products, reml=model.reml, start=start)
    return replace(model, y=y, products=products, optimum=optimum)
