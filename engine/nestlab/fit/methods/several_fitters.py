"""Fits of one formula to blocks of several grouping factors: from the statistics of strata, or from rows by cross-products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...simulate.several import SeveralDesign, SeveralDraw, StrataDraw
from ...simulate.several.strata import StrataSampler, split_term
from ...simulate.strata.cells import CellStatistics
from ...spec.formula import find_term, same_term
from ...spec.model import Formula
from .. import cross
from ..cross import CrossDesign, CrossMethod, CrossPlan, CrossRows
from ..inference import Hypotheses, Inference
from ..lmm import Fits
from ..ols import fit_products
from ..several.model import PlainModel
from ..strata.model import covariance_of_variances, fit_cells, infer_cells
from ..strata.plan import CellEffect, CellPlan, CellTerm, compile_cells
from .analysis import Block
from .several_intervals import ReplicateModel, replicate_models

__all__ = ["SeveralFits", "SeveralFitter"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class SeveralFits(Protocol):
    """Fits of some replicates of a block, with what can be inferred from them."""

    @property
    def fits(self) -> Fits: ...

    def infer(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        """Each rule on the hypotheses."""
        ...

    def variances(self) -> Array:
        """Covariance (R, k(k+1)/2), by pairs, of the variance components, see `inference.variance_covariance`."""
        ...


@dataclass(frozen=True)
class SeveralFitter:
    """A formula on one design."""

    design: SeveralDesign
    formula: Formula
    reml: bool
    singular_df: str

    def __call__(self, block: Block, first: int, last: int) -> SeveralFits:
        """Fit replicates first .. last - 1 of a block."""
        draw = block.draw
        if not self.formula.random:
            return _OfNothing(self, block.several_rows(first, last))
        if isinstance(draw, StrataDraw) and (plan := self._strata(draw.sampler)) is not None:
            return _OfStrata(plan, draw.responses(self.formula.fixed), self.singular_df, first, last)
        part = block.several_rows(first, last)
        return _OfRows(self._cross(part), self._rows(part), self.true_beta, self.singular_df)

    def models(self, block: Block, first: int, last: int) -> list[ReplicateModel | None]:
        """The models of replicates first .. last - 1 one by one, for what needs refits; None where there is no optimum."""
        part = block.several_rows(first, last)
        return list(replicate_models(self._cross(part), self._rows(part)))

    def least_squares(self, block: Block, first: int, last: int) -> list[PlainModel]:
        """The same of a formula without random terms."""
        part = block.several_rows(first, last)
        y, X = part.response(self.formula.fixed), [part.term(term) for term in self.formula.fixed]
        found = []
        for r in range(part.replicates):
            kept = slice(None) if part.kept is None else part.kept[:, r]
            own = np.column_stack([np.broadcast_to(x, y.shape)[kept, r] for x in X])
            found.append(PlainModel(own, y[kept, r], self.reml))
        return found

    @cached_property
    def true_beta(self) -> Array:
        """(p): the condition's coefficients, which y is without; 0 of terms that the truth has not."""
        truth = self.design.condition.truth
        names = [find_term(truth.formula.fixed, term) for term in self.formula.fixed]
        return np.array([0.0 if n is None else truth.fixed[truth.formula.fixed.index(n)] for n in names])

    @cached_property
    def start(self) -> Array:
        """(q, q): the truth's G for the method's random columns: in a simulation it is known, and a good place to start."""
        truth = self.design.condition.truth
        G = np.array(truth.covariance, dtype=float) / truth.residual_variance
        where = []
        for group, column in self.formula.places:
            own = (k for k, (g, c) in enumerate(truth.formula.places) if g == group and same_term(c, column))
            where.append(next(own, -1))
        found = np.array([[G[i, k] if i >= 0 and k >= 0 else 0.0 for k in where] for i in where])
        block = np.repeat(np.arange(len(self.formula.random)), self.formula.block_sizes)
        return np.where(block[:, None] == block[None, :], found, 0.0)

    # -- strata ----------------------------------------------------------------------------------------------------------------

    def _strata(self, sampler: StrataSampler) -> CellPlan | None:
        """The plan on strata; None where a random column or a fixed one is none of a cell's."""
        if "plan" not in self._kept:
            self._kept["plan"] = self._compile(sampler)
        return self._kept["plan"]

    @cached_property
    def _kept(self) -> dict[str, CellPlan | None]:
        return {}

    def _compile(self, sampler: StrataSampler) -> CellPlan | None:
        inner = {column: split_term(self.design, column) for column in self.formula.random_columns}
        if not self.formula.random or any(outer or own not in sampler.inner for own, outer in inner.values()):
            return None
        effects = [sampler.effect(term) for term in self.formula.fixed]
        found = [CellEffect(*effect) for effect in effects if effect is not None]
        if len(found) < len(effects) or any(group not in sampler.factors for group in self.formula.groups):
            return None
        terms, starts, first = [], [], 0
        for term in self.formula.random:
            size = len(term.columns)
            terms.append(CellTerm(sampler.factors[term.group], sampler.combinations(term.columns)))
            starts.append(self.start[first : first + size, first : first + size])
            first += size
        return compile_cells(sampler.cells, found, terms, reml=self.reml, start=starts, true_beta=self.true_beta)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _terms(self) -> list[str]:
        """The distinct columns of the model."""
        found: list[str] = []
        for term in (*self.formula.fixed, *self.formula.random_columns):
            if not any(same_term(term, other) for other in found):
                found.append(term)
        return found

    def _cross(self, part: SeveralDraw) -> CrossPlan:
        """The plan on rows such as these: how many there are, and which factors' levels they draw, may differ between blocks."""
        codes = [part.codes[group] for group in self.formula.groups]
        key = (part.members.rows, *(code.shape[1] > 1 for code in codes))
        if key not in self._plans:
            self._plans[key] = self._arranged(part.members.rows, codes)
        return self._plans[key]

    @cached_property
    def _plans(self) -> dict[tuple[int, ...], CrossPlan]:
        return {}

    def _arranged(self, rows: int, codes: Sequence[Integers]) -> CrossPlan:
        def place(term: str) -> int:
            return next(k for k, other in enumerate(self._terms) if same_term(term, other))

        groups, design = list(self.formula.groups), self.design
        random = tuple((groups.index(t.group), tuple(place(c) for c in t.columns)) for t in self.formula.random)
        fixed = tuple(place(term) for term in self.formula.fixed)
        shared = tuple(None if code.shape[1] > 1 else code[:, 0] for code in codes)
        return cross.compile_cross(
            CrossDesign(rows, shared, tuple(design.levels[g] for g in groups)),
            CrossMethod(random, fixed, self.reml, self.start),
        )

    def _rows(self, part: SeveralDraw) -> CrossRows:
        columns = [np.ascontiguousarray(part.term(term)) for term in self._terms]
        flat = tuple(column[:, 0] if column.shape[1] == 1 else column for column in columns)
        codes = tuple(code if (code := part.codes[g]).shape[1] > 1 else None for g in self.formula.groups)
        return CrossRows(flat, part.response(self.formula.fixed), part.kept, codes)


@dataclass(frozen=True)
class _OfStrata:
    plan: CellPlan
    statistics: CellStatistics
    singular_df: str
    first: int
    last: int

    @cached_property
    def fits(self) -> Fits:
        return fit_cells(self.plan, self.statistics, self.first, self.last)

    def infer(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        return infer_cells(
            self.plan,
            self.statistics,
            self.fits,
            self.first,
            self.last,
            hypotheses,
            rules,
            singular_df=self.singular_df,
        )

    def variances(self) -> Array:
        return covariance_of_variances(self.plan, self.statistics, self.fits, self.first, self.last)


@dataclass(frozen=True)
class _OfRows:
    plan: CrossPlan
    block: CrossRows
    true_beta: Array
    singular_df: str

    @cached_property
    def fits(self) -> Fits:
        fits = cross.fit(self.plan, self.block, 0, self.block.replicates)
        np.add(fits.beta, self.true_beta, out=fits.beta)
        return fits

    def infer(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        return cross.infer(
            self.plan, self.block, self.fits, 0, self.block.replicates, hypotheses, rules, singular_df=self.singular_df
        )

    def variances(self) -> Array:
        return cross.covariance_of_variances(self.plan, self.block, self.fits, 0, self.block.replicates)


@dataclass(frozen=True)
class _OfNothing:
    """Least squares, of a formula without random terms."""

    fitter: SeveralFitter
    part: SeveralDraw

    @cached_property
    def _rows(self) -> Array:
        return self.part.counts["rows"].astype(float)

    @cached_property
    def fits(self) -> Fits:
        part, terms = self.part, self.fitter.formula.fixed
        y = part.response(terms)
        columns = [*(part.term(term) for term in terms), y]
        kept = 1.0 if part.kept is None else part.kept
        S = np.empty((part.replicates, len(columns), len(columns)))
        for i, left in enumerate(columns):
            for k, right in enumerate(columns[: i + 1]):
                S[:, i, k] = S[:, k, i] = np.broadcast_to(left * right * kept, y.shape).sum(axis=0)
        return fit_products(S, self._rows, reml=self.fitter.reml, true_beta=self.fitter.true_beta)

    def infer(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        fits = self.fits
        shape = (len(fits.status), len(hypotheses))
        left = self._rows - len(self.fitter.formula.fixed)
        df = np.where(np.isfinite(fits.sigma2) & (left > 0), left, np.nan)[:, None]
        return {
            rule: Inference(np.broadcast_to(df * np.inf if rule == "z" else df, shape), fits.vcov, np.ones(shape))
            for rule in rules
        }

    def variances(self) -> Array:
        left = self._rows - len(self.fitter.formula.fixed)
        found: Array = 2 * self.fits.sigma2[:, None] ** 2 / left[:, None]
        return found
