"""A model chosen by the data among nested ones, then reported as if it had been fixed beforehand.

The models go from the method's formula to smaller ones, those of `compare`. Backward: a model is kept where a likelihood ratio
test rejects the next smaller one, otherwise that one is tried. By AIC: the model with the least deviance + 2 x the number of
parameters. Both criteria are the method's own: restricted likelihoods are comparable where the fixed parts are equal, as in
anova(refit = FALSE) in R. A model without an optimum is not reported where another one has an optimum, as people do; where none
has, the largest one is, with its status. Parameters that the reported model lacks are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec.comparison import compare
from ...spec.contrasts import can_estimate
from ...spec.formula import same_term
from ...spec.model import Formula, Method
from ..lmm import Fits, pairs
from ..status import is_converged
from .analysis import Analysed, Block, Candidate, Columns, MethodColumns, Prepared
from .mixed import TOLERANCES, MixedModel

__all__ = ["TOLERANCES", "Selection", "compile_analysis", "nested_methods"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class CandidateModel(Protocol):
    """A mixed model that may be one of several."""

    @property
    def on(self) -> MethodColumns: ...

    def candidate(self, block: Block, first: int, last: int) -> Candidate:
        """Fit replicates first .. last - 1 of a block."""
        ...

    def test_of_smaller(self, block: Block, candidate: Candidate, first: int, last: int) -> Array:
        """P values (R) of the likelihood ratio test of the model of `compare` within this one."""
        ...


def compile_analysis(on: Prepared) -> Selection:
    """Prepare the choice between mixed models."""
    return Selection(tuple(MixedModel(replace(on, method=method)) for method in nested_methods(on.method)), on.method)


def nested_methods(method: Method) -> list[Method]:
    """A method for each model, the largest first; each compares itself with the next."""
    assert method.compare is not None
    chain = [method.formula, method.compare, *method.smaller]
    found = []
    for k, formula in enumerate(chain):
        own = replace(method, formula=formula, compare=chain[k + 1] if k + 1 < len(chain) else None, smaller=())
        own = replace(own, select=None, reference=method.reference if own.compare is not None else "asymptotic")
        found.append(replace(own, contrasts=tuple(c for c in method.contrasts if can_estimate(own, c, {}))))
    return found


@dataclass(frozen=True)
class Selection:
    """One method that chooses, on one design; models: the largest first."""

    models: tuple[CandidateModel, ...]
    method: Method

    @property
    def on(self) -> MethodColumns:
        return self.models[0].on

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block by the model chosen for each."""
        found = [model.candidate(block, first, last) for model in self.models]
        chosen = self._choose(block, found, first, last)
        rows = np.arange(last - first)
        columns = Columns()
        for name, values in found[0].columns.items():
            empty = np.full(len(rows), np.nan)
            columns[name] = np.stack([each.columns.get(name, empty) for each in found])[chosen, rows].astype(
                values.dtype
            )
        known = np.any([is_converged(each.fits.status) for each in found], axis=0)
        columns["selected"] = np.where(known, chosen == 0, np.nan)
        return self.on.analysed(_merged(found, chosen), columns)

    def _choose(self, block: Block, found: Sequence[Candidate], first: int, last: int) -> NDArray[np.int64]:
        """(R): the number of the model that is reported."""
        converged = np.stack([is_converged(each.fits.status) for each in found])
        if self.method.select == "aic":
            largest = found[0].formula
            extra = np.array([0, *(len(compare(each.formula, largest).tested) for each in found[1:])])
            criteria = np.stack([each.fits.deviance for each in found]) - 2.0 * extra[:, None]
            criteria[~converged] = np.inf
            best = np.argmin(criteria[::-1], axis=0)  # the smaller one of equals
            return np.where(converged.any(axis=0), len(found) - 1 - best, 0)
        chosen = np.zeros(last - first, dtype=np.int64)
        going = np.ones(last - first, dtype=bool)
        for k, (model, candidate) in enumerate(zip(self.models[:-1], found[:-1], strict=True)):
            if not going.any():
                break
            p = model.test_of_smaller(block, candidate, first, last)
            rejects = p <= self.method.select_alpha
            going &= ~rejects & converged[k + 1]
            chosen[going] = k + 1
        return chosen


def _merged(found: Sequence[Candidate], chosen: NDArray[np.int64]) -> Fits:
    """The fits chosen, laid out as those of the largest model; nan for what a smaller one has not."""
    rows, like = np.arange(len(chosen)), found[0].formula
    laid_out = [_laid_out(each, like) for each in found]
    merged = {
        field.name: np.stack([getattr(each, field.name) for each in laid_out])[chosen, rows] for field in fields(Fits)
    }
    merged["iterations"] = np.sum([each.fits.iterations for each in found], axis=0)
    return Fits(**merged)


def _laid_out(candidate: Candidate, like: Formula) -> Fits:
    own, fits = candidate.formula, candidate.fits
    fixed = [_place(own.fixed, lambda term, t=term: same_term(term, t)) for term in like.fixed]
    one = len(own.groups) < 2 and len(like.groups) < 2
    random = [
        _place(own.places, lambda at, g=group, c=column: (one or at[0] == g) and same_term(at[1], c))
        for group, column in like.places
    ]
    blocks = np.repeat(np.arange(len(own.random)), own.block_sizes)
    return replace(
        fits,
        beta=_columns(fits.beta, fixed),
        vcov=_columns(fits.vcov, _packed(fixed)),
        varcomp=_columns(fits.varcomp, _packed(random, blocks)),
    )


def _place(entries: Sequence[Any], is_wanted: Any) -> int | None:
    return next((k for k, entry in enumerate(entries) if is_wanted(entry)), None)


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
