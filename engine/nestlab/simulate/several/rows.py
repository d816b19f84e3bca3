"""Blocks of several grouping factors drawn as rows.

The order of the draws: the predictors of each factor in turn, the random effects of each, then for every row the scores of the
predictors that are drawn there, of the error and of what is lost. The replicate is the last index everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtri

from ...spec.formula import same_term
from ...spec.uncertain import DrawnTruth
from ..between import draw_between
from ..deviates import standard_normal
from ..distributions import transform
from ..known import lower_factor, realise, stated_values
from ..priors import correlate
from .design import Array, SeveralDesign

__all__ = ["SeveralDraw", "SeveralSampler", "random_factor", "replicate_frame"]


@dataclass(frozen=True, slots=True)
class SeveralDraw:
    """One block of R replicates. columns: of predictors, by name, on the levels where they live (levels or N, R or 1); u: by
    grouping factor (levels, q, R); e (N, R); kept (N, R): which rows are observed, None where all are. truths: of each
    replicate, where the condition has priors."""

    design: SeveralDesign
    columns: Mapping[str, Array]
    u: Mapping[str, Array]
    e: Array
    kept: NDArray[np.bool_] | None
    truths: DrawnTruth | None = None

    @property
    def replicates(self) -> int:
        return int(self.e.shape[1])

    @property
    def counts(self) -> dict[str, NDArray[np.int32]]:
        """How many rows each replicate has."""
        rows = np.full(self.replicates, self.design.rows) if self.kept is None else self.kept.sum(axis=0)
        return {"rows": rows.astype(np.int32)}

    def part(self, first: int, last: int) -> SeveralDraw:
        """Replicates first .. last - 1."""

        def some(values: Array) -> Array:
            return values if values.shape[-1] == 1 and self.replicates > 1 else values[..., first:last]

        kept = None if self.kept is None else self.kept[:, first:last]
        columns = {name: some(values) for name, values in self.columns.items()}
        u = {group: values[..., first:last] for group, values in self.u.items()}
        truths = None if self.truths is None else self.truths.part(first, last)
        return SeveralDraw(self.design, columns, u, self.e[:, first:last], kept, truths)

    def term(self, name: str) -> Array:
        """(N, R or 1): a term such as "x:z" on the rows."""
        return self.design.term(self.columns, name)

    def noise(self) -> Array:
        """(N, R): Z u + e."""
        made = self.e.copy()
        truth = self.design.condition.truth.formula
        for group, u in self.u.items():
            for k, column in enumerate(truth.of(group).random_columns):
                made += self.term(column) * self.design.spread(group, u[:, k])
        return made

    def response(self, without: Collection[str] = ()) -> Array:
        """(N, R): y = X beta + Z u + e, but for the condition's coefficients of the terms `without`.

        Estimates are equivariant, so the true values of the terms that an analysis has are added to its estimates instead; what
        a replicate's own truth differs from the condition's stays in y.
        """
        truth, made = self.design.condition.truth, self.noise()
        drawn: Any = truth.fixed if self.truths is None else self.truths.fixed
        for term, central, value in zip(truth.formula.fixed, truth.fixed, drawn, strict=True):
            left = value - central if any(same_term(term, other) for other in without) else value
            if np.any(left != 0.0):
                made += self.term(term) * left
        return made


class SeveralSampler:
    """Draws blocks of one condition: `SeveralSampler(design)(generator, replicates, truths)`."""

    def __init__(self, design: SeveralDesign) -> None:
        self.design = design
        condition = design.condition
        self._error = transform(condition.truth.errors.distribution)
        self._shapes = {group: transform(condition.truth.shape_of(group)) for group in condition.truth.formula.groups}
        self._ratios = [(name, np.log(ratio) / 2) for name, ratio in condition.truth.errors.ratios]

    def __call__(self, generator: Generator, replicates: int, truths: DrawnTruth | None = None) -> SeveralDraw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, truth, R = self.design, self.design.condition.truth, replicates
        columns: dict[str, Array] = {}
        for outer in design.outer.values():
            z = draw_between(outer, generator, R)
            columns |= {name: z[k] for k, name in enumerate(outer.between)}
        scale: Any = design.residual_sd if truths is None else np.sqrt(truths.residual_variance)
        u = {}
        for group in truth.formula.groups:
            effects = standard_normal(generator, (design.levels[group], len(design.factors[group]), R))
            if not self._shapes[group].normal:
                effects = self._shapes[group](effects)
            correlate(random_factor(design, group, truths), effects)
            u[group] = effects
        inner = design.inner
        columns |= {name: inner.known_rows[:, k, None] for k, name in enumerate(inner.columns[: inner.known]) if k}
        for predictor in inner.predictors:
            made = realise(predictor, standard_normal(generator, (design.rows, R)))
            columns |= dict(zip(predictor.columns, made, strict=True))
        e = standard_normal(generator, (design.rows, R))
        if not self._error.normal:
            e = self._error(e)
        e *= scale
        for name, half_log in self._ratios:
            e *= np.exp(half_log * design.term(columns, name))
        return SeveralDraw(design, columns, u, e, self._kept(generator, R), truths)

    def _kept(self, generator: Generator, R: int) -> NDArray[np.bool_] | None:
        """(N, R): which rows are observed."""
        missing = self.design.condition.missing
        if missing is None:
            return None
        return np.asarray(standard_normal(generator, (self.design.rows, R)) > ndtri(missing.rows))


def random_factor(design: SeveralDesign, group: str, truths: DrawnTruth | None) -> Array:
    """(q, q, R or 1): lower factors of a grouping factor's covariances."""
    if truths is None:
        return design.factors[group][:, :, None]
    own = [k for k, (g, _) in enumerate(design.condition.truth.formula.places) if g == group]
    C = np.array([[truths.covariance[i][k] for k in own] for i in own])
    return np.stack([lower_factor(C[:, :, r]) for r in range(C.shape[2])], axis=2)


def replicate_frame(draw: SeveralDraw, r: int, *, truth: bool = False) -> pd.DataFrame:
    """The observed rows of replicate r of a block under the study's names: factors (levels 1, 2, ...), predictors, response.

    Categorical predictors are text. truth: also the random effects, "u:<factor>:<column>", and the errors, "e".
    """
    design = draw.design
    formula = design.condition.truth.formula
    one = draw.part(r, r + 1)
    kept = slice(None) if one.kept is None else one.kept[:, 0]
    columns: dict[str, NDArray[np.generic]] = {name: design.codes[name] + 1 for name in design.structure.names}
    for predictor in design.condition.predictors:
        columns[predictor.name] = stated_values(predictor, lambda name: np.ascontiguousarray(one.term(name)[:, 0]))
    columns[formula.response] = one.response()[:, 0]
    if truth:
        for group, u in one.u.items():
            for k, column in enumerate(formula.of(group).random_columns):
                columns[f"u:{group}:{column}"] = design.spread(group, u[:, k, 0])
        columns["e"] = one.e[:, 0]
    return pd.DataFrame({name: values[kept] for name, values in columns.items()})
