"""Replicates that are too large to be held side by side: each by the fit of one data set (`several`), with the same outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...spec.problems import DataError
from ..inference import Hypotheses
from ..lmm import Fits, congruent, pairs
from ..problem import symmetric
from ..reduce import PERFECT_TOLERANCE, PIVOT_TOLERANCE
from ..several.model import fit_factors
from ..several.products import FactorColumns
from ..status import Status
from .rows import CrossPlan, CrossRows

__all__ = ["OneReplicate", "fit_one", "inform_one"]

Array = NDArray[np.float64]


class OneReplicate:
    """One replicate's rows, levels without any left out. order (q): the place in the method of each random column here, factor by
    factor."""

    def __init__(self, plan: CrossPlan, block: CrossRows, r: int):
        method = plan.method
        kept = np.ones(plan.design.rows, bool) if block.kept is None else block.kept[:, r]
        self.X = np.column_stack([block.column(c, r)[kept] for c in method.fixed])
        self.y = np.asarray(block.y[kept, r], dtype=float)
        self.factors, self.order, self.terms = [], list[int](), list[slice]()
        for f in plan.structure.slots:
            labels, codes = np.unique(block.codes_of(plan.design, f, r)[kept], return_inverse=True)
            terms = [columns for g, columns in method.random if g == f]
            Z = np.column_stack([block.column(c, r)[kept] for columns in terms for c in columns])
            self.order += [k for k, g in enumerate(method.factor_of) if g == f]
            sizes = tuple(map(len, terms))
            self.factors.append(FactorColumns(codes.ravel().astype(np.int64), len(labels), Z, sizes))
            for size in sizes:
                begin = self.terms[-1].stop if self.terms else 0
                self.terms.append(slice(begin, begin + size))

    @property
    def failure(self) -> Status | None:
        """Why there is nothing to fit; None where there is."""
        rows, p = self.X.shape
        if not all(np.isfinite(a).all() for a in (self.X, self.y, *(f.Z for f in self.factors))) or not self.y.any():
            return Status.nonfinite
        if rows <= p or any(f.levels < 2 or rows <= f.levels * max(f.sizes) for f in self.factors):
            return Status.rank_deficient
        parts = [self.X]
        for f in self.factors:
            parts += np.split(f.Z, np.cumsum(f.sizes)[:-1], axis=1)
        if not all(map(_is_regular, parts)):
            return Status.rank_deficient
        left = self.y - self.X @ np.linalg.lstsq(self.X, self.y, rcond=None)[0]
        return None if left @ left > PERFECT_TOLERANCE * (self.y @ self.y) else Status.nonfinite


def _is_regular(X: Array) -> bool:
    """Whether no column is a combination of those before it, by the rule of compiled fits."""
    size = np.linalg.norm(X, axis=0)
    if not (size > 0).all():
        return False
    return bool((np.diag(np.linalg.qr(X / size, mode="r")) ** 2 > PIVOT_TOLERANCE).all())


def fit_one(plan: CrossPlan, block: CrossRows, r: int, fits: Fits, o: int) -> None:
    """Fit replicate r of a block into row o of the outputs, which stay as they are where there is no estimate."""
    rows = OneReplicate(plan, block, r)
    fits.iterations[o] = 0
    if (failure := rows.failure) is not None:
        fits.status[o] = failure
        return
    try:
        model = fit_factors(rows.factors, rows.X, rows.y, reml=plan.method.reml)
    except DataError:
        fits.status[o] = Status.method_error
        return
    optimum = model.optimum
    fits.status[o], fits.iterations[o] = optimum.status, optimum.iterations
    if not np.isfinite(optimum.deviance):
        return
    s2 = model.sigma2 * model.scale**2
    back = model.back * model.scale
    projected = np.linalg.lstsq(rows.X, rows.y, rcond=None)[0]
    q = len(rows.order)
    varcomp = np.zeros((q, q))
    for own, T in zip(rows.terms, model.covariances(), strict=True):
        members = np.array(rows.order[own])
        varcomp[np.ix_(members, members)] = T @ T.T * s2
    fits.deviance[o], fits.residual[o], fits.sigma2[o] = model.neg2loglik, optimum.residual, s2
    fits.beta[o] = projected + back @ model.beta
    fits.vcov[o] = _packed(back @ model.vcov @ back.T)
    fits.varcomp[o] = _packed(varcomp)


def inform_one(
    plan: CrossPlan, block: CrossRows, r: int, fits: Fits, o: int, hypotheses: Hypotheses, wanted: Sequence[str],
    outputs: tuple[Array, Array, Array, Array, Array],
) -> None:  # fmt: skip
    """Set row o of `fits.Informed`'s arrays."""
    rows = OneReplicate(plan, block, r)
    G = symmetric(plan.method.q, fits.varcomp[o]) / fits.sigma2[o]
    order = np.array(rows.order)
    known = [G[np.ix_(order[own], order[own])] for own in rows.terms]
    model = fit_factors(rows.factors, rows.X, rows.y, reml=plan.method.reml, known=known)
    satterthwaite, df, scale, vcov, varcov = outputs
    turned = Hypotheses(hypotheses.rows @ model.back, hypotheses.starts)
    for rule in wanted:
        if rule == "satterthwaite":
            satterthwaite[o] = model.inform(turned, rule).satterthwaite[0]
        elif rule == "kenward-roger":
            found = model.inform(turned, rule)
            df[o], scale[o] = found.df[0], found.scale[0]
            vcov[o] = congruent(found.vcov, model.back * model.scale)[0]
        else:
            varcov[o] = _in_own_order(model.variances().covariance, rows)


def _in_own_order(covariance: Array, rows: OneReplicate) -> Array:
    """Covariance of the variance components, by pairs: from the order of factors to the method's."""
    q = len(rows.order)
    places = {pair: k for k, pair in enumerate(pairs(q))}
    here = {rows.order[k]: k for k in range(q)}
    both = [(here[i], here[k]) for i, k in pairs(q)]
    order = [*(places[min(pair), max(pair)] for pair in both), len(places)]
    return _packed(covariance[np.ix_(order, order)])


def _packed(M: Array) -> Array:
    rows, columns = np.tril_indices(len(M))
    found: Array = M[rows, columns]
    return found
