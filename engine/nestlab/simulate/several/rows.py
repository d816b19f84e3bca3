"""Blocks of several grouping factors drawn as rows.

The order of the draws: numbers of levels and rows, and levels of rows, where replicates differ in them; the predictors of each
factor in turn, the random effects of each; the parts of predictors of rows that are those of levels; for every row the scores of
the predictors that are drawn there and of the error; what is lost, of rows, cells, levels of each factor, by dropout and at
random. The replicate is the last index everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from ...spec.formula import same_term
from ...spec.missing import PREVIOUS
from ...spec.model import Missing
from ...spec.uncertain import DrawnTruth
from ..between import draw_between
from ..deviates import standard_normal
from ..distributions import factor_shares, latent_ar1, score_correlations, transform
from ..known import known_columns, lower_factor, realise, stated_values
from ..missing import rows_left
from ..priors import correlate
from .design import Array, Integers, SeveralDesign
from .members import Members, draw_members, spread

__all__ = ["SeveralDraw", "SeveralSampler", "random_factor", "replicate_frame"]


@dataclass(frozen=True, slots=True)
class SeveralDraw:
    """One block of R replicates. members: who belongs to what; columns: of predictors, by name, on the levels where they live
    (levels or N, R or 1); u: by grouping factor (levels, q, R); e (N, R); kept (N, R): which rows are observed, None where all
    are. truths: of each replicate, where the condition has priors."""

    design: SeveralDesign
    members: Members
    columns: Mapping[str, Array]
    u: Mapping[str, Array]
    e: Array
    kept: NDArray[np.bool_] | None
    truths: DrawnTruth | None = None

    @property
    def replicates(self) -> int:
        return int(self.e.shape[1])

    @property
    def codes(self) -> Mapping[str, Integers]:
        """(N, R or 1): by factor and crossing, the level of each row."""
        return self.members.codes

    @property
    def counts(self) -> dict[str, NDArray[np.int32]]:
        """How many rows each replicate has."""
        rows = np.full(self.replicates, self.members.rows) if self.kept is None else self.kept.sum(axis=0)
        return {"rows": rows.astype(np.int32)}

    def part(self, first: int, last: int) -> SeveralDraw:
        """Replicates first .. last - 1."""

        def some(values: Array) -> Array:
            return values if values.shape[-1] == 1 and self.replicates > 1 else values[..., first:last]

        kept = None if self.kept is None else self.kept[:, first:last]
        columns = {name: some(values) for name, values in self.columns.items()}
        u = {group: values[..., first:last] for group, values in self.u.items()}
        truths = None if self.truths is None else self.truths.part(first, last)
        return SeveralDraw(self.design, self.members.part(first, last), columns, u, self.e[:, first:last], kept, truths)

    def term(self, name: str) -> Array:
        """(N, R or 1): a term such as "x:z" on the rows."""
        return self.members.term(self.columns, self.design.places, name)

    def noise(self) -> Array:
        """(N, R): Z u + e."""
        made = self.e.copy()
        truth = self.design.condition.truth.formula
        for group, u in self.u.items():
            for k, column in enumerate(truth.of(group).random_columns):
                made += self.term(column) * self.members.spread(group, u[:, k])
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
        self._ar1 = latent_ar1(condition.truth.errors)
        inner = design.inner
        self._shares = factor_shares(inner.predictors)
        self._scores_factor = lower_factor(score_correlations(inner.predictors, inner.condition.correlations)[0])
        self._ratios = [(name, np.log(ratio) / 2) for name, ratio in condition.truth.errors.ratios]

    def __call__(self, generator: Generator, replicates: int, truths: DrawnTruth | None = None) -> SeveralDraw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, truth, R = self.design, self.design.condition.truth, replicates
        members = draw_members(design.structure, design.members, design.levels, generator, R)
        columns: dict[str, Array] = {name: values[:, None] for name, values in design.running.items()}
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
        columns |= self._known_rows(members)
        for predictor, score in zip(design.inner.predictors, self._row_scores(members, generator, R), strict=True):
            columns |= dict(zip(predictor.columns, realise(predictor, score), strict=True))
        e = standard_normal(generator, (members.rows, R))
        if self._ar1:
            _follow(self._ar1, members.place, e)
        if not self._error.normal:
            e = self._error(e)
        e *= scale
        for name, half_log in self._ratios:
            e *= np.exp(half_log * members.term(columns, design.places, name))
        whole = SeveralDraw(design, members, columns, u, e, None, truths)
        return replace(whole, kept=self._kept(generator, whole))

    def _known_rows(self, members: Members) -> dict[str, Array]:
        """(N, R or 1): the columns of predictors of rows that are known."""
        inner, settled = self.design.inner, self.design.members
        names = inner.columns[1 : inner.known]
        if not names:
            return {}
        if members.sizes is settled.sizes:
            return {name: inner.known_rows[:, k, None] for k, name in enumerate(names, start=1)}
        found = np.zeros((len(names), *members.cell.shape))
        for r, sizes in enumerate(members.sizes.T):
            values = known_columns(inner.condition, np.ascontiguousarray(sizes))
            found[:, : len(values), r] = values[:, 1 : inner.known].T
        return dict(zip(names, found, strict=True))

    def _row_scores(self, members: Members, generator: Generator, R: int) -> list[Array]:
        """(N, R) of each predictor of rows: the sum of its parts between the levels of factors and of its part of rows."""
        count, parts = len(self.design.inner.predictors), []
        for factor in self._shares:
            drawn = [standard_normal(generator, (self.design.levels[factor], R)) for _ in range(count)]
            parts.append((factor, self._correlated(drawn)))
        scores = self._correlated([standard_normal(generator, (members.rows, R)) for _ in range(count)])
        for k, score in enumerate(scores):
            if (rest := 1 - sum(shares[k] for shares in self._shares.values())) < 1:
                score *= np.sqrt(rest)
            for factor, drawn in parts:
                if share := self._shares[factor][k]:
                    score += np.sqrt(share) * members.spread(factor, drawn[k])
        return scores

    def _correlated(self, scores: list[Array]) -> list[Array]:
        """The scores of predictors with their correlations."""
        L = self._scores_factor
        for i in reversed(range(len(scores))):  # score i needs scores 0 .. i
            if L[i, i] != 1.0:
                scores[i] *= L[i, i]
                for k in np.flatnonzero(L[i, :i]).tolist():
                    scores[i] += L[i, k] * scores[k]
        return scores

    def _kept(self, generator: Generator, whole: SeveralDraw) -> NDArray[np.bool_] | None:
        """(N, R): which rows are observed, of a draw whose rows all are."""
        members, R = whole.members, whole.replicates
        missing, kept = self.design.condition.missing, members.kept
        if missing is None:
            return kept
        found = np.ones((members.rows, R), dtype=bool) if kept is None else kept.copy()
        if missing.rows:
            found &= standard_normal(generator, (members.rows, R)) > ndtri(missing.rows)
        cells = len(members.sizes)
        if missing.cells:
            found &= spread(members.cell, standard_normal(generator, (cells, R)) > ndtri(missing.cells))
        for name, share in missing.levels:
            found &= spread(
                members.codes[name], standard_normal(generator, (self.design.levels[name], R)) > ndtri(share)
            )
        if missing.hazard or missing.weibull is not None:
            left = rows_left(missing, np.broadcast_to(members.sizes, (cells, R)), generator)
            found &= members.place < spread(members.cell, left)
        if missing.at_random is not None:
            found &= ~_lost_at_random(missing, whole, standard_normal(generator, (members.rows, R)))
        return found


def _lost_at_random(missing: Missing, draw: SeveralDraw, scores: Array) -> NDArray[np.bool_]:
    """(N, R): rows that are lost by a predictor, or by the outcome of the row before in their cell, so that the first row stays.

    scores (N, R): standard normal; monotone: what follows in the cell is lost, too.
    """
    assert missing.at_random is not None
    on, intercept, slope = missing.at_random
    cause, follows = draw.term(on) if on != PREVIOUS else draw.response(), draw.members.place > 0
    likely = ndtri(expit(intercept + slope * cause))
    if on == PREVIOUS:
        likely = np.where(follows, np.vstack([likely[:1], likely[:-1]]), -np.inf)
    lost = np.asarray(scores < likely)
    for n in range(1, len(lost)) if missing.monotone else ():
        lost[n] |= lost[n - 1] & follows[n]
    return lost


def _follow(ar1: float, place: Integers, e: Array) -> None:
    """Make standard normal scores (N, R) of rows in turn follow an autoregression within each cell. place (N, R or 1)."""
    fresh = np.sqrt(1 - ar1 * ar1)
    for n in range(1, len(e)):
        follows = place[n] > 0
        e[n] = np.where(follows, ar1 * e[n - 1] + fresh * e[n], e[n])


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
    columns: dict[str, NDArray[np.generic]] = {name: one.codes[name][:, 0] + 1 for name in design.structure.names}
    for predictor in design.condition.predictors:
        columns[predictor.name] = stated_values(predictor, lambda name: np.ascontiguousarray(one.term(name)[:, 0]))
    columns[formula.response] = one.response()[:, 0]
    if truth:
        for group, u in one.u.items():
            for k, column in enumerate(formula.of(group).random_columns):
                columns[f"u:{group}:{column}"] = one.members.spread(group, u[:, k])[:, 0]
        columns["e"] = one.e[:, 0]
    return pd.DataFrame({name: values[kept] for name, values in columns.items()})
