"""Least squares as methods: the clusters ignored, absorbed or averaged, with the model's standard errors or cluster-robust ones.

All of them work on the same Gram as the mixed models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..fit.clustered import Sizes, least_squares_rules, robust_rules
from ..fit.gls import fit_gls
from ..fit.inference import Hypotheses
from ..fit.lmm import Fits, Plan, compile_plan, counts
from ..fit.ols import fit_ols
from ..fit.robust import sandwich
from ..fit.within import means_gram, within_gram
from ..simulate.gram import Draw, Gram, respond
from ..simulate.layout import Design
from ..spec.model import Method
from .columns import Columns, hypotheses_of, inference_columns, study_names

__all__ = ["LeastSquares"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LeastSquares:
    """One such method on one design: `analysis(draw, block, first, last)` gives fits and columns, as an `Analysis` does."""

    method: Method
    design: Design

    @cached_property
    def plan(self) -> Plan:
        """Terms that clusters absorb need not be added to y: deviations from cluster means lose them."""
        plan, design = compile_plan(self.design, self.method), self.design
        if self.method.estimator != "fixed-effects":
            return plan
        return replace(plan, omitted={t: v for t, v in plan.omitted.items() if design.split(t)[0] != 0})

    @cached_property
    def known(self) -> Plan:
        """The plan with the truth's random columns, whose variances "gls" knows; deviances are of the likelihood."""
        truth = self.design.condition.truth.formula
        formula = replace(self.method.formula, random=truth.random)
        return compile_plan(self.design, replace(self.method, formula=formula, reml=False))

    @cached_property
    def columns(self) -> list[int]:
        """The level-1 columns of the fixed effects."""
        return sorted(set(self.plan.xcols))

    @cached_property
    def reduced(self) -> Plan:
        """The plan on these columns only, as `gram` orders them."""
        return replace(self.plan, xcols=tuple(self.columns.index(c) for c in self.plan.xcols))

    @cached_property
    def hypotheses(self) -> Hypotheses:
        return hypotheses_of(self.method)

    @cached_property
    def names(self) -> list[str]:
        """The method's fixed effects as the study calls them."""
        return study_names(self.design.condition.truth.formula.fixed, self.plan.formula.fixed)

    def gram(self, draw: Draw, first: int, last: int) -> tuple[Gram, Sizes]:
        """The sufficient statistics of replicates first .. last - 1 as the method sees them, and their numbers of rows."""
        plan, estimator = self.plan, self.method.estimator
        full = _part(respond(draw, self.design, plan.omitted, plan.multipliers, plan.shift), first, last)
        rows, clusters = counts(self.plan.rows, full, 0, last - first)
        p = np.array([float(len(plan.xcols))])
        if estimator == "fixed-effects":
            return within_gram(full, self.columns), Sizes(rows, clusters, p + clusters)
        if estimator == "cluster-means":
            gram = means_gram(full, self.columns, by_size=self.method.weights == "size")
            return gram, Sizes(clusters, clusters, p)
        return _chosen(full, self.columns), Sizes(rows, clusters, p)

    def fit(self, draw: Draw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block, without inference."""
        if self.method.estimator == "gls":
            plan = self.known
            gram = respond(draw, self.design, plan.omitted, plan.multipliers, plan.shift)
            fits = fit_gls(plan, gram, first, last, sigma2=self.design.condition.truth.residual_variance)
            return replace(plan.back(fits), varcomp=np.empty((last - first, 0)))
        return self.plan.back(self._fit(*self.gram(draw, first, last), last - first))

    def _fit(self, gram: Gram, sizes: Sizes, replicates: int) -> Fits:
        plan = self.reduced
        fits = fit_ols(plan, gram, 0, replicates, rows=sizes.rows - sizes.fixed + len(plan.xcols))
        if self.method.estimator != "ols":
            fits.deviance[:] = np.nan  # not of the rows, or not of all their parameters
        return fits

    def __call__(self, draw: Draw, block: int, first: int, last: int) -> tuple[Fits, Columns]:
        """Fits of replicates first .. last - 1 of a block, and what is inferred from them."""
        method, plan = self.method, self.reduced
        if method.estimator == "gls":
            fits, none = self.fit(draw, first, last), np.array([np.nan])
            found = least_squares_rules(fits, Sizes(none, none, none), self.hypotheses, method.df)
            return fits, inference_columns(method, self.names, fits, found, None)
        gram, sizes = self.gram(draw, first, last)
        fits = self._fit(gram, sizes, last - first)
        if method.robust is None:
            found = least_squares_rules(fits, sizes, self.hypotheses, method.df)
        else:
            terms, beta = (plan.xcols, plan.xweights), fits.beta - plan.true_beta
            hypotheses = self.hypotheses.moved(plan.shift)
            meat = sandwich(terms, gram, beta, hypotheses, 0, last - first, adjusted=method.robust == "CR2")
            found = robust_rules(method.robust, meat, fits, sizes, hypotheses, method.df)
        found, fits = {rule: one.back(plan.shift) for rule, one in found.items()}, plan.back(fits)
        return fits, inference_columns(method, self.names, fits, found, None)


def _part(gram: Gram, first: int, last: int) -> Gram:
    """Some replicates of a Gram."""
    dd, weights = (a if a.shape[-1] == 1 else a[..., first:last] for a in (gram.dd, gram.weights))
    return Gram(dd, gram.dy[..., first:last], gram.yy[..., first:last], weights)


def _chosen(gram: Gram, columns: list[int]) -> Gram:
    """The Gram of some level-1 columns."""
    if columns == list(range(gram.dy.shape[1])):
        return gram
    entries = [i + k * (k + 1) // 2 for n, k in enumerate(columns) for i in columns[: n + 1]]
    return Gram(gram.dd[:, entries], gram.dy[:, columns], gram.yy, gram.weights)
