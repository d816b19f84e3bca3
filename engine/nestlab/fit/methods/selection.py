"""A model chosen by the data, then reported as if it had been fixed beforehand: the larger one, or the smaller one of `compare`.

The larger model is kept where a likelihood ratio test rejects the smaller one, or where its AIC is smaller, deviance + 2 x the
number of parameters. Both criteria are the method's own: restricted likelihoods are comparable where the fixed parts are equal,
as in anova(refit = FALSE) in R. Where only one of the two fits is an optimum, that one is reported, as people do; where neither
is, the larger one with its status. Parameters that only the larger model has are missing where the smaller one is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...simulate.gram import Draw, Gram
from ...spec.comparison import compare
from ...spec.contrasts import can_estimate
from ...spec.formula import find_term
from ..compare import lr_statistics
from ..inference import Inference
from ..lmm import Fits, Plan, counts, pairs
from ..ols import fit_model
from ..status import is_converged
from .analysis import Analysed, Block, Columns, Prepared
from .mixed import TOLERANCES, MixedModel

__all__ = ["TOLERANCES", "Selection", "compile_analysis"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def compile_analysis(on: Prepared) -> Selection:
    """Prepare the choice between two mixed models."""
    return Selection(MixedModel(on))


@dataclass(frozen=True)
class Selection:
    """One method that chooses, on one design; larger: its analysis by the formula's model."""

    larger: MixedModel

    @property
    def on(self) -> Prepared:
        return self.larger.on

    @cached_property
    def smaller(self) -> MixedModel:
        """The analysis by the model of `compare`."""
        method = self.larger.method
        assert method.compare is not None
        null = replace(method, formula=method.compare, compare=None, select=None)
        null = replace(null, contrasts=tuple(c for c in method.contrasts if can_estimate(null, c)))
        return MixedModel(replace(self.on, method=null))

    def fit(self, draw: Draw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block by the larger model, without inference."""
        return self.larger.fit(draw, first, last)

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block by the model chosen for each."""
        large, small = self.larger, self.smaller
        grams = large.gram(block.draw), small.gram(block.draw)
        fits = fit_model(large.plan, grams[0], first, last), fit_model(small.plan, grams[1], first, last)
        chosen = self._chooses(block, grams[0], *fits, first, last)
        columns = large.rules(grams[0], fits[0], first, last)
        others = _rules(small, grams[1], fits[1], first, last)
        for name, values in columns.items():
            other = others.get(name)
            columns[name] = np.where(chosen, values, np.nan if other is None else other).astype(values.dtype)
        known = is_converged(fits[0].status) | is_converged(fits[1].status)
        columns["selected"] = np.where(known, chosen, np.nan)
        full, null = large.plan.back(fits[0]), small.plan.back(fits[1])
        return self.on.analysed(_chosen(chosen, large.plan, full, small.plan, null), columns)

    def _chooses(self, block: Block, gram: Gram, full: Fits, null: Fits, first: int, last: int) -> Mask:
        """Whether the larger model is reported."""
        method = self.larger.method
        if method.select == "aic":
            assert method.compare is not None
            parameters = len(compare(method.compare, method.formula).tested)
            rejects = lr_statistics(null, full) > 2 * parameters
        else:
            rejects = self.larger.ratio_test(block, gram, full, first, last) <= method.select_alpha
        return np.asarray(rejects | ~is_converged(null.status))


def _rules(analysis: MixedModel, gram: Gram, fits: Fits, first: int, last: int) -> Columns:
    """Inference by the smaller model. Without random terms every rule but z has the rows' degrees of freedom, rows - p."""
    if analysis.plan.zcols:
        return analysis.rules(gram, fits, first, last)
    fits = analysis.plan.back(fits)
    on = analysis.on
    method, p, shape = on.method, len(on.names), (len(fits.status), len(on.hypotheses))
    rows, _ = counts(analysis.plan.rows, gram, first, last)
    left = np.broadcast_to(rows - p, len(fits.status))
    df = np.where(np.isfinite(fits.sigma2) & (left > 0), left, np.nan)[:, None]
    rules = {
        rule: Inference(np.broadcast_to(df * np.inf if rule == "z" else df, shape), fits.vcov, np.ones(shape))
        for rule in method.df
    }
    return on.inferred(fits, rules, 2 * fits.sigma2[:, None] ** 2 / df)


def _chosen(chosen: Mask, large: Plan, full: Fits, small: Plan, null: Fits) -> Fits:
    """The fits chosen, laid out as those of the larger model; nan for what the smaller one has not."""
    terms = [find_term(small.formula.fixed, term) for term in large.formula.fixed]
    places = [None if term is None else small.formula.fixed.index(term) for term in terms]
    random = [find_term(small.formula.random_columns, column) for column in large.formula.random_columns]
    columns = [None if name is None else small.formula.random_columns.index(name) for name in random]
    laid_out = {
        "beta": _columns(null.beta, places),
        "vcov": _columns(null.vcov, _packed(places)),
        "varcomp": _columns(null.varcomp, _packed(columns, small.blocks)),
    }
    merged = {}
    for field in fields(Fits):
        values = getattr(full, field.name)
        other = laid_out.get(field.name, getattr(null, field.name))
        merged[field.name] = np.where(chosen if values.ndim == 1 else chosen[:, None], values, other)
    merged["iterations"] = full.iterations + null.iterations
    return Fits(**merged)


def _columns(values: Array, places: list[int | None]) -> Array:
    """Columns (R, k) of an array at these places; nan for None."""
    empty = np.full(len(values), np.nan)
    made = [empty if place is None else values[:, place] for place in places]
    return np.stack(made, axis=1) if made else np.empty((len(values), 0))


def _packed(places: list[int | None], blocks: NDArray[np.int64] | None = None) -> list[int | None]:
    """Of the pairs of columns, where the smaller model's packed matrix has them; None also between its random terms."""
    found: list[int | None] = []
    for i, k in pairs(len(places)):
        a, b = places[i], places[k]
        if a is None or b is None or (blocks is not None and blocks[a] != blocks[b]):
            found.append(None)
        else:
            low, high = min(a, b), max(a, b)
            found.append(high * (high + 1) // 2 + low)
    return found
