"""Rows of any kind: drawn, thinned by what is missing, and summed into the sufficient statistics; none is kept.

Serves what has no exact draw of its statistics: predictors and errors that are not normal, autocorrelated or heteroscedastic
rows, rows that are missing. A block first draws what clusters have (level-2 predictors, random effects, sizes, parts of
predictors that a cluster's rows share, residual variances, dropout), for all replicates at once; then a row of normal scores for
each row of complete data, replicate after replicate, so that how many are held at once changes nothing.

Truth and centring refer to the complete data, analyses to the rows that are left: within(x), between(x) and center(x) of a draw
are the analyst's. What the truth's amounts to beyond them is part of e, so that y = X beta + Z u + e holds with the analyst's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..spec.uncertain import DrawnTruth
from .between import draw_between
from .deviates import standard_normal
from .distributions import latent_ar1, predictor_transform, score_correlations, transform
from .gram import Draw
from .known import known_columns, realise
from .layout import Array, Design, lower_factor
from .missing import lose_at_random, observed, rows_left
from .moments import with_known
from .outcomes import OutcomeDraw, draw_outcomes
from .priors import correlate, truth_factors
from .replicate import ReplicateRows
from .segments import accumulate, add_linear, centre, compress, count, make_errors, means, score
from .sizes import draw_sizes

__all__ = ["LongSampler"]

Integers = NDArray[np.int64]
#: Normal deviates held at once: of the size of the second-level cache.
HELD = 131_072


@dataclass(frozen=True)
class _LongClusters:
    """What a block's clusters have, replicate last. sizes (J, R), complete; left (J, R): rows that outlast dropout; z (m, J, R or
    1), u (J, q, R); shared (g, J, R): scores that rows of a cluster share; scale (J, R): residual sd; fixed (p, R or 1)."""

    sizes: Integers
    left: Integers
    z: Array
    u: Array
    shared: Array
    scale: Array
    fixed: Array

    def of(self, r: int) -> _LongClusters:
        """Of replicate r alone."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        one = {name: part[..., r : r + 1] if part.shape[-1] > 1 else part for name, part in parts.items()}
        return _LongClusters(**one)


@dataclass(frozen=True)
class _RowsLeft:
    """Rows that are left of some replicates: D (d, n), e (n), segments `starts`; means (sources, segments) of clusters. e has the
    outcomes themselves where they are not Gaussian."""

    D: Array
    e: Array
    starts: Integers
    means: Array


@dataclass(frozen=True)
class _Terms:
    """Some of the truth's terms: `fixed` and `random` are places among the fixed ones, each (column, level-2 multipliers) in
    `parts`, and among the random columns."""

    parts: list[tuple[int, tuple[str, ...]]]
    fixed: list[int]
    random: list[int]

    def of(self, columns: set[int], between: set[str], random: Sequence[int]) -> _Terms:
        """Those on some columns, or multiplied by some level-2 columns."""
        fixed = [t for t in self.fixed if self.parts[t][0] in columns or between.intersection(self.parts[t][1])]
        return _Terms(self.parts, fixed, [k for k in self.random if random[k] in columns])


class LongSampler:
    """Draws blocks of one condition by rows of any kind: `LongSampler(design)(generator, replicates)`."""

    def __init__(self, design: Design) -> None:
        condition = design.condition
        self.design = design
        self._errors, self._missing = condition.truth.errors, condition.missing
        self._error_table = transform(self._errors.distribution).cubics
        self._ar1 = latent_ar1(self._errors)
        R, self._shares = score_correlations(design.predictors, condition.correlations)
        self._weights = lower_factor(R)
        self._effects = transform(condition.truth.random)
        self._ratios = [(name, 0.5 * np.log(ratio)) for name, ratio in self._errors.ratios if ratio != 1.0]
        terms = [design.split(term) for term in condition.truth.formula.fixed]
        self._all = _Terms(terms, list(range(len(terms))), list(range(len(design.random))))
        self._centred = self._all.of(
            _centred_columns(design), set(design.between[len(design.between) - len(design.means) :]), design.random
        )

    # -- blocks ----------------------------------------------------------------------------------------------------------------

    def __call__(self, generator: Generator, replicates: int, truths: DrawnTruth | None = None) -> Draw:
        """Draw a whole block. The order of the draws is part of the draw version. truths: of replicates, where they differ."""
        design, J, R = self.design, self.design.clusters, replicates
        d, known = len(design.columns), design.known if design.settled else 0
        clusters = self._clusters(generator, R, truths)
        z = np.repeat(clusters.z, R, axis=2) if design.means and clusters.z.shape[2] == 1 else clusters.z
        dd = with_known(design.known_gram, d, R) if known else np.empty((J, d * (d + 1) // 2, R))
        de, ee = np.empty((J, d, R)), np.empty((J, R))
        m = len(z) - len(design.means)
        for first, last, noise in self._noise(generator, clusters.sizes):
            rows = self._rows(clusters, noise, first, last)
            accumulate(rows.D, rows.e, rows.starts, J, first, known, dd, de, ee)
            if design.means:
                z[m:, :, first:last] = rows.means.reshape(-1, last - first, J).transpose(0, 2, 1)
        return Draw(dd, de, ee, clusters.u, z, truths)

    def outcomes(self, generator: Generator, replicates: int, truths: DrawnTruth | None = None) -> OutcomeDraw:
        """Draw a whole block of outcomes that are not Gaussian, with its rows."""
        clusters = self._clusters(generator, replicates, truths)
        parts, starts, end = [], [np.zeros(1, dtype=np.int64)], 0
        z = clusters.z
        if self.design.means and z.shape[2] == 1:
            z = np.repeat(z, replicates, axis=2)
        m = len(z) - len(self.design.means)
        for first, last, noise in self._noise(generator, clusters.sizes):
            rows = self._rows(clusters, noise, first, last)
            parts.append((rows.D, rows.e))
            starts.append(end + rows.starts[1:])
            end += len(rows.e)
            if self.design.means:
                z[m:, :, first:last] = rows.means.reshape(-1, last - first, self.design.clusters).transpose(0, 2, 1)
        D, y = (np.concatenate([part[i] for part in parts], axis=-1) for i in range(2))
        return OutcomeDraw(D, y, np.concatenate(starts), clusters.u, z, truths)

    def replicate(
        self, generator: Generator, replicates: int, r: int, truths: DrawnTruth | None = None
    ) -> ReplicateRows:
        """The rows of replicate r of a block, from the same stream as `__call__` draws it."""
        return next(self.walk(generator, replicates, r, truths))

    def walk(
        self, generator: Generator, replicates: int, first: int, truths: DrawnTruth | None = None
    ) -> Iterator[ReplicateRows]:
        """The rows of replicates first, first + 1, ... of a block; the generator is its own until the end."""
        clusters = self._clusters(generator, replicates, truths)
        counts = clusters.sizes.sum(axis=0)
        before = int(counts[:first].sum()) * self._width
        while before > 0:
            standard_normal(generator, (min(before, HELD),))
            before -= HELD
        for r in range(first, replicates):
            one = clusters.of(r)
            rows = self._rows(one, standard_normal(generator, (int(counts[r]), self._width)), 0, 1)
            z = one.z[:, :, 0].copy()
            z[len(z) - len(rows.means) :] = rows.means
            fixed = None if truths is None else tuple(one.fixed[:, 0].tolist())
            D = self.design.stated(np.ascontiguousarray(rows.D.T))
            yield ReplicateRows(D, z, one.u[:, :, 0], rows.e, fixed, np.diff(rows.starts))

    @cached_property
    def _width(self) -> int:
        """Scores of a row: the drawn predictors', the error's, what is lost at random."""
        missing = self._missing
        lost = 0 if missing is None else (missing.rows > 0) + (missing.at_random is not None)
        return len(self.design.predictors) + 1 + lost

    def _noise(self, generator: Generator, sizes: Integers) -> Iterator[tuple[int, int, Array]]:
        """(first, last, scores (n, width)) of replicates first .. last - 1, as many as are held."""
        ends = np.cumsum(sizes.sum(axis=0))
        first, done = 0, 0
        while first < len(ends):
            last = max(first + 1, int(np.searchsorted(ends, done + HELD // self._width, side="right")))
            yield first, last, standard_normal(generator, (int(ends[last - 1]) - done, self._width))
            first, done = last, int(ends[last - 1])

    # -- clusters --------------------------------------------------------------------------------------------------------------

    def _clusters(self, generator: Generator, R: int, truths: DrawnTruth | None) -> _LongClusters:
        design, J, errors = self.design, self.design.clusters, self._errors
        truth = design.condition.truth
        z = draw_between(design, generator, R)
        u = self._effects(standard_normal(generator, (J, len(design.random), R)))
        if truths is None:
            correlate(design.random_factor[:, :, None], u)
            scale = np.full((J, R), design.residual_sd if truth.formula.family.gaussian else 1.0)
            fixed = np.array(truth.fixed, dtype=float)[:, None]
        else:
            correlate(truth_factors(truths), u)
            scale = np.repeat(np.sqrt(truths.residual_variance)[None, :], J, axis=0)
            if not truth.formula.family.gaussian:
                scale[:] = 1.0
            fixed = np.stack([np.broadcast_to(value, (R,)) for value in truths.fixed])
        sizes = draw_sizes(design.condition.layout, design.sizes, generator, R)
        shared = self._shared(generator, R)
        if errors.cluster_cv:
            s = np.sqrt(np.log1p(errors.cluster_cv**2))
            scale *= np.exp((s * standard_normal(generator, (J, R)) - s * s / 2) / 2)
        for name, half_log in self._ratios:
            if name in design.between:
                scale *= np.exp(half_log * z[design.between.index(name)])
        left = sizes if self._missing is None else rows_left(self._missing, sizes, generator)
        return _LongClusters(sizes, left, z, u, shared, scale, fixed)

    def _shared(self, generator: Generator, R: int) -> Array:
        """(g, J, R): correlated scores that rows of a cluster share, of all drawn predictors if any has such a part."""
        if not self._shares.any():
            return np.empty((0, self.design.clusters, R))
        scores = standard_normal(generator, (len(self._shares), self.design.clusters, R))
        for i in range(len(scores) - 1, -1, -1):  # score i needs scores 0 .. i
            scores[i] *= self._weights[i, i]
            for k in range(i):
                scores[i] += self._weights[i, k] * scores[k]
        return scores

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def _rows(self, clusters: _LongClusters, noise: Array, first: int, last: int) -> _RowsLeft:
        """The rows of replicates first .. last - 1 that are left."""
        design, missing = self.design, self._missing
        sizes = _flat(clusters.sizes[:, first:last])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        D = np.empty((len(design.columns), len(noise)))
        self._known(D, sizes, last - first)
        self._drawn(D, clusters, noise, starts, first, last)
        found = self._derived(D, starts, last - first)
        e = np.empty(len(noise))
        g = len(design.predictors)
        make_errors(noise, g, self._error_table, self._ar1, _flat(clusters.scale[:, first:last]), starts, e)
        for name, half_log in self._ratios:
            if name in design.columns:
                column = design.columns.index(name)
                e *= np.exp(half_log * (D[column] + design.constants[column]))
        gaussian = design.condition.truth.formula.family.gaussian
        if missing is None and gaussian:
            return _RowsLeft(D, e, starts, found)
        z = clusters.z[:, :, first:last] if clusters.z.shape[2] > 1 else np.repeat(clusters.z, last - first, axis=2)
        u, fixed = clusters.u[:, :, first:last], clusters.fixed
        fixed = fixed[:, first:last] if fixed.shape[1] > 1 else fixed
        z = self._with_means(z, found)
        if not gaussian:
            eta = np.zeros(len(e))
            add_linear(D, *self._linear(self._all, z, u, fixed), starts, eta)
            draw_outcomes(design.condition.truth, eta, e)
        if missing is None:
            return _RowsLeft(D, e, starts, found)
        kept = self._kept(D, e, starts, noise, _flat(clusters.left[:, first:last]), z, u, fixed)
        if gaussian:
            add_linear(D, *self._linear(self._centred, z, u, fixed), starts, e)
        starts, complete = np.empty_like(starts), starts
        count(kept, complete, starts)
        D, e = _compressed(D, kept, int(starts[-1])), _compressed(e[None], kept, int(starts[-1]))[0]
        found = self._derived(D, starts, last - first)
        if not gaussian:
            return _RowsLeft(D, e, starts, found)
        columns, weights = self._linear(self._centred, self._with_means(z, found), u, fixed)
        add_linear(D, columns, -weights, starts, e)
        return _RowsLeft(D, e, starts, found)

    def _known(self, D: Array, sizes: Integers, replicates: int) -> None:
        design = self.design
        k = design.known
        if k == 1:
            D[0] = 1.0
        elif design.condition.layout.redrawn:
            D[:k] = known_columns(design.condition, sizes, np.tile(np.arange(design.clusters), replicates)).T
        else:
            D[:k].reshape(k, replicates, -1)[:] = design.known_rows.T[:, None, :]

    def _drawn(self, D: Array, clusters: _LongClusters, noise: Array, starts: Integers, first: int, last: int) -> None:
        column = self.design.known
        scores = np.empty(len(noise))
        none = np.empty(0)
        for p, predictor in enumerate(self.design.predictors):
            share = float(self._shares[p])
            shared = _flat(clusters.shared[p, :, first:last]) if share else none
            score(noise, self._weights[p, : p + 1], share, shared, starts, scores)
            if predictor.categories:
                D[column : column + len(predictor.columns)] = realise(predictor, scores)
            else:
                predictor_transform(predictor)(scores, out=D[column])
                if self.design.constants[column]:
                    D[column] -= self.design.constants[column]
            column += len(predictor.columns)

    def _derived(self, D: Array, starts: Integers, replicates: int) -> Array:
        """Centred columns and products, made in D of these rows; (sources, segments) the means that are level-2 columns."""
        design = self.design
        kept: dict[int, Array] = {}
        for source in {*design.means, *(source for source, how in design.centred if how == "within")}:
            kept[source] = np.empty(len(starts) - 1)
            means(D[source], starts, kept[source])
        whole = starts[:: design.clusters]
        for place, (source, how) in enumerate(design.centred, start=design.known + design.drawn):
            if how == "within":
                centre(D[source], kept[source], starts, D[place])
            else:
                mean = np.empty(replicates)
                means(D[source], whole, mean)
                centre(D[source], mean, whole, D[place])
        for place, factors in enumerate(design.products, start=len(design.columns) - len(design.products)):
            np.multiply(D[factors[0]], D[factors[1]], out=D[place])
            for factor in factors[2:]:
                D[place] *= D[factor]
        found = [kept[source] + design.constants[source] for source in design.means]
        return np.array(found).reshape(len(design.means), len(starts) - 1)

    # -- what is missing -------------------------------------------------------------------------------------------------------

    def _kept(
        self, D: Array, e: Array, starts: Integers, noise: Array, left: Integers, z: Array, u: Array, fixed: Array
    ) -> NDArray[np.bool_]:
        """(n): which rows are observed."""
        missing, design = self._missing, self.design
        assert missing is not None
        kept = observed(missing, noise, len(design.predictors) + 1, left, starts)
        if missing.at_random is not None:
            on = missing.at_random[0]
            if on == "previous":
                cause = e.copy()
                if design.condition.truth.formula.family.gaussian:
                    add_linear(D, *self._linear(self._all, z, u, fixed), starts, cause)
            elif on in design.between:
                cause = np.repeat(_flat(z[design.between.index(on)]), np.diff(starts))
            else:
                column = design.columns.index(on)
                cause = D[column] + design.constants[column]
            lose_at_random(missing, cause, noise, starts, kept, previous=on == "previous")
        return kept

    def _linear(self, terms: _Terms, z: Array, u: Array, fixed: Array) -> tuple[Integers, Array]:
        """Columns of D and their weights (segments, columns) in the sum of some of the truth's terms."""
        design = self.design
        columns = list(
            dict.fromkeys([*(terms.parts[t][0] for t in terms.fixed), *(design.random[k] for k in terms.random)])
        )
        weights = np.zeros((len(columns), z.shape[2], z.shape[1]))
        for t in terms.fixed:
            column, outer = terms.parts[t]
            value = np.broadcast_to(fixed[t], z.shape[1:])
            for name in outer:
                value = value * z[design.between.index(name)]
            weights[columns.index(column)] += value.T
        for k in terms.random:
            weights[columns.index(design.random[k])] += u[:, k].T
        columns, weights = design.moved_weights(columns, weights)
        return np.array(columns, dtype=np.int64), np.ascontiguousarray(
            weights.reshape(len(columns), z.shape[1] * z.shape[2]).T
        )

    def _with_means(self, z: Array, found: Array) -> Array:
        """z (m, J, replicates) with means (sources, segments) in its last columns."""
        if not len(found):
            return z
        filled = z.copy()
        filled[len(z) - len(found) :] = found.reshape(len(found), z.shape[2], z.shape[1]).transpose(0, 2, 1)
        return filled


def _compressed(values: Array, kept: NDArray[np.bool_], rows: int) -> Array:
    out = np.empty(len(values) * rows + 1)
    compress(values, kept, out)
    return out[:-1].reshape(len(values), rows)


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """(J, replicates) in the order of segments."""
    return np.ascontiguousarray(values.T).reshape(-1)


def _centred_columns(design: Design) -> set[int]:
    """Level-1 columns that depend on which rows there are: centred ones and products with them."""
    products = len(design.columns) - len(design.products)
    found = set(range(design.known + design.drawn, products))
    for place, factors in enumerate(design.products, start=products):
        if found.intersection(factors):
            found.add(place)
    return found
