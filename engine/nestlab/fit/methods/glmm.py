"""Generalised linear mixed models with one grouping factor, by the compiled fit of `glmm_kernel`.

Rows of a cluster with equal columns are pooled into one with the sum of their outcomes and trials, and clusters with equal rows
and outcomes into one with a repeat count; all that a likelihood takes from them is left (sufficient statistics).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial.hermite import hermgauss
from numpy.typing import NDArray
from scipy.special import gammaln

from ...simulate.outcomes import OutcomeDraw, terms_of_rows
from ..glmm_kernel import fit_glmm
from ..glmm_pooling import Pooled, pool_rows, sums_of
from ..inference import Inference, between_within_df
from ..lmm import Fits, pairs
from ..status import Status, is_failed
from .analysis import Analysed, Block, Prepared

__all__ = ["GeneralisedModel", "compile_analysis"]

Array = NDArray[np.float64]

TOLERANCES = (
    "Generalised models: Newton steps with exact derivatives until the Newton decrement is below 1e-11 units of the log "
    "likelihood and the Hessian is positive definite; a fit counts as singular where the least eigenvalue of the random effects' "
    "covariance, in units of what a cluster tells, is below 1e-7, and as separated where steps that no row opposes never end."
)


def compile_analysis(on: Prepared) -> GeneralisedModel:
    """Prepare a generalised linear mixed model."""
    return GeneralisedModel(on)


@dataclass(frozen=True)
class GeneralisedModel:
    """A generalised linear mixed model on one design."""

    on: Prepared

    @cached_property
    def _theta(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The entries of the factor L of the random effects' covariance that are estimated, by columns."""
        block = np.repeat(np.arange(len(self.on.method.formula.random)), self.on.method.formula.block_sizes)
        q = len(block)
        found = [(i, k) for k in range(q) for i in range(k, q) if block[i] == block[k]]
        a, b = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return np.ascontiguousarray(a), np.ascontiguousarray(b)

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        draw = block.draw
        assert isinstance(draw, OutcomeDraw)
        fits = self.fit(draw, first, last)
        clusters, rows = (draw.counts[name][first:last] for name in ("clusters", "rows"))
        found = {rule: self._inference(rule, fits, clusters, rows) for rule in self.on.method.df}
        return self.on.analysed(fits, self.on.inferred(fits, found))

    def fit(self, draw: OutcomeDraw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block, without inference."""
        on, formula = self.on, self.on.method.formula
        truth, J = on.condition.truth, on.design.clusters
        X = terms_of_rows(draw, on.design, formula.fixed, first, last)
        Z = terms_of_rows(draw, on.design, formula.random_columns, first, last)
        starts = draw.starts[first * J : last * J + 1]
        y = draw.y[starts[0] : starts[-1]]
        infinite = ~np.isfinite(y)
        lost = np.diff(np.concatenate([[0], np.cumsum(infinite)])[starts[::J] - starts[0]]) > 0
        y = np.where(infinite, 0.0, y)
        pooled = pool_rows(X, Z, y, starts - starts[0], J, truth.trials)
        return self._fitted(pooled, self._constants(y, starts - starts[0], J), lost)

    def _constants(self, y: Array, starts: NDArray[np.int64], J: int) -> Array:
        """(R): what the log likelihood has in y alone."""
        truth, family = self.on.condition.truth, self.on.method.formula.family
        if family.counts:
            each = -gammaln(y + 1)
        elif truth.trials == 1:
            return np.zeros((len(starts) - 1) // J)
        else:
            each = gammaln(truth.trials + 1) - gammaln(y + 1) - gammaln(truth.trials - y + 1)
        return sums_of(each, starts[::J])

    def _fitted(self, pooled: Pooled, constants: Array, lost: NDArray[np.bool_]) -> Fits:
        on, family = self.on, self.on.method.formula.family
        p, q, R = len(pooled.X), len(pooled.Z), len(pooled.first_row) - 1
        a, b = self._theta
        K = p + len(a)
        status, steps = np.empty(R, dtype=np.int64), np.empty(R, dtype=np.int64)
        F, psi, vcov, G = np.empty(R), np.empty((R, K)), np.empty((R, K, K)), np.empty((R, q, q))
        nodes, weights = hermgauss(on.method.nodes)
        offset = np.zeros(len(pooled.y))
        if family.counts:
            offset = np.log(pooled.n * on.condition.truth.exposure)
            constants = constants - pooled.added()
        fit_glmm(
            family.kind, 1.0, a, b, nodes, np.log(weights) + nodes**2, pooled.X, pooled.Z, pooled.y, pooled.n, offset,
            pooled.starts, pooled.cluster, pooled.repeat, pooled.repeats, pooled.first_row, pooled.first_cluster, status, steps,
            F, psi, vcov, G,
        )  # fmt: skip
        status[lost] = Status.nonfinite
        gone = is_failed(status)
        beta = np.where(gone[:, None], np.nan, psi[:, :p])
        varcomp = np.stack([np.where(gone, np.nan, G[:, i, k]) for i, k in pairs(q)], axis=1)
        packed = np.stack([vcov[:, i, k] for i, k in pairs(p)], axis=1)
        deviance = np.where(gone, np.nan, 2 * (F - constants))
        return Fits(status, steps, deviance, np.zeros(R), beta, packed, varcomp, np.full(R, np.nan))

    def _inference(self, rule: str, fits: Fits, clusters: NDArray[np.int32], rows: NDArray[np.int32]) -> Inference:
        hypotheses, R = self.on.hypotheses, len(fits.status)
        if rule == "z":
            df = np.full((R, len(hypotheses)), np.inf)
        else:
            own = between_within_df(self.on.plan.equation, clusters=clusters, rows=rows)
            df = np.stack([own[:, members].min(axis=1) for members in hypotheses.effects], axis=1)
        return Inference(np.where(is_failed(fits.status)[:, None], np.nan, df), fits.vcov, np.ones(df.shape))
