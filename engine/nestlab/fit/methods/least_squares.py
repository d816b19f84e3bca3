"""Least squares: the clusters ignored, absorbed or averaged, with the model's standard errors or cluster-robust ones; and rows
weighed by the true variances.

All of them work on the same Gram as the mixed models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...simulate.gram import Draw, Gram, respond
from ...spec.methods import estimator_of
from ...spec.model import Method
from ..clustered import Counts, least_squares_rules, robust_rules
from ..gls import fit_gls
from ..lmm import Fits, Plan, compile_plan, counts
from ..ols import fit_ols
from ..reduce import PIVOT_TOLERANCE
from ..robust import sandwich
from ..within import means_gram, within_gram
from .analysis import Analysed, Block, Prepared

__all__ = ["KnownVariances", "LeastSquares", "compile_analysis"]

Array = NDArray[np.float64]

TOLERANCES = (
    "Least squares is solved from the cross-products; a pivot of X'X of at most "
    f"{PIVOT_TOLERANCE:g} times its diagonal counts as rank deficient."
)


def compile_analysis(on: Prepared) -> LeastSquares | KnownVariances:
    """Prepare least squares, of one kind or another."""
    return KnownVariances(on) if estimator_of(on.method).variances_known else LeastSquares(on)


def _rows(full: Gram, columns: list[int], method: Method, sizes: Counts) -> tuple[Gram, Counts]:
    return _chosen(full, columns), sizes


def _within(full: Gram, columns: list[int], method: Method, sizes: Counts) -> tuple[Gram, Counts]:
    return within_gram(full, columns), replace(sizes, fixed=sizes.fixed + sizes.clusters)


def _means(full: Gram, columns: list[int], method: Method, sizes: Counts) -> tuple[Gram, Counts]:
    return means_gram(full, columns, by_size=method.weights == "size"), replace(sizes, rows=sizes.clusters)


#: What is regressed, by estimator: its sufficient statistics, and how many there are of what.
_REGRESSED: Mapping[str, Callable[[Gram, list[int], Method, Counts], tuple[Gram, Counts]]] = {
    "ols": _rows,
    "fixed-effects": _within,
    "cluster-means": _means,
}


@dataclass(frozen=True)
class LeastSquares:
    """Least squares on one design."""

    on: Prepared

    @cached_property
    def plan(self) -> Plan:
        """Terms that clusters absorb need not be added to y: deviations from cluster means lose them."""
        plan, design = self.on.plan, self.on.design
        if not estimator_of(self.on.method).absorbs:
            return plan
        return replace(plan, omitted={t: v for t, v in plan.omitted.items() if design.split(t)[0] != 0})

    @cached_property
    def columns(self) -> list[int]:
        """The level-1 columns of the fixed effects."""
        return sorted(set(self.plan.xcols))

    @cached_property
    def reduced(self) -> Plan:
        """The plan on these columns only, as `gram` orders them."""
        return replace(self.plan, xcols=tuple(self.columns.index(c) for c in self.plan.xcols))

    def gram(self, draw: Draw, first: int, last: int) -> tuple[Gram, Counts]:
        """The sufficient statistics of replicates first .. last - 1 as the method sees them, and their numbers of rows."""
        plan = self.plan
        full = _part(respond(draw, self.on.design, plan.omitted, plan.multipliers, plan.shift), first, last)
        rows, clusters = counts(plan.rows, full, 0, last - first)
        sizes = Counts(rows, clusters, np.array([float(len(plan.xcols))]))
        return _REGRESSED[self.on.method.estimator](full, self.columns, self.on.method, sizes)

    def fit(self, draw: Draw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block, without inference."""
        return self.plan.back(self._fit(*self.gram(draw, first, last), last - first))

    def _fit(self, gram: Gram, sizes: Counts, replicates: int) -> Fits:
        plan = self.reduced
        fits = fit_ols(plan, gram, 0, replicates, rows=sizes.rows - sizes.fixed + len(plan.xcols))
        if not estimator_of(self.on.method).equal_rows(self.on.method):
            fits.deviance[:] = np.nan  # not of the rows, or not of all their parameters
        return fits

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        on, method, plan = self.on, self.on.method, self.reduced
        gram, sizes = self.gram(block.draw, first, last)
        fits = self._fit(gram, sizes, last - first)
        if method.robust is None:
            found = least_squares_rules(fits, sizes, on.hypotheses, method.df)
        else:
            terms, beta = (plan.xcols, plan.xweights), fits.beta - plan.true_beta
            hypotheses = on.hypotheses.moved(plan.shift)
            meat = sandwich(terms, gram, beta, hypotheses, 0, last - first, adjusted=method.robust == "CR2")
            found = robust_rules(method.robust, meat, fits, sizes, hypotheses, method.df)
        found, fits = {rule: one.back(plan.shift) for rule, one in found.items()}, plan.back(fits)
        return on.analysed(fits, on.inferred(fits, found))


@dataclass(frozen=True)
class KnownVariances:
    """Generalised least squares with the true variances on one design."""

    on: Prepared

    @cached_property
    def plan(self) -> Plan:
        """The plan with the truth's random columns; deviances are of the likelihood."""
        formula = replace(self.on.method.formula, random=self.on.design.condition.truth.formula.random)
        return compile_plan(self.on.design, replace(self.on.method, formula=formula, reml=False))

    def fit(self, draw: Draw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block, without inference."""
        plan, design = self.plan, self.on.design
        gram = respond(draw, design, plan.omitted, plan.multipliers, plan.shift)
        fits = fit_gls(plan, gram, first, last, sigma2=design.condition.truth.residual_variance)
        return replace(plan.back(fits), varcomp=np.empty((last - first, 0)))

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        on, none = self.on, np.array([np.nan])
        fits = self.fit(block.draw, first, last)
        found = least_squares_rules(fits, Counts(none, none, none), on.hypotheses, on.method.df)
        return on.analysed(fits, on.inferred(fits, found))


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
