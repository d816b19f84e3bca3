"""What the moments path does after its plain draw for data as they are: correlated predictors, predictors and errors that differ
between clusters, centred columns, lost clusters.

The plain draw has columns about 0, independent and without a share between clusters. What they become are operations on columns
(`centring`), in an order that keeps digits: correlate, centre within, add what is between clusters, centre, add means.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri

from .centring import add_column, centre, centre_within, cluster_means, overall_mean, scale_column
from .deviates import standard_normal
from .distributions import score_correlations
from .factors import known_origin
from .gram import Draw
from .known import lower_factor
from .layout import Array, Design

__all__ = ["Varied", "error_scale", "kept_clusters"]


def error_scale(design: Design, z: Array, generator: Generator, replicates: int) -> Array | None:
    """(J, R or 1): by what the errors of clusters are multiplied; None where it is 1 throughout.

    A level-2 predictor's ratio to the power of its value, and a lognormal variable with mean 1, multiply their variance.
    """
    errors = design.condition.truth.errors
    factors: list[Array] = [ratio ** (0.5 * z[design.between.index(name)]) for name, ratio in errors.ratios]
    if errors.cluster_cv > 0:
        spread = np.log1p(errors.cluster_cv**2)
        scores = standard_normal(generator, (design.clusters, replicates))
        factors.append(np.exp(0.5 * (np.sqrt(spread) * scores - 0.5 * spread)))
    return np.asarray(math.prod(factors[1:], start=factors[0])) if factors else None


def kept_clusters(design: Design, generator: Generator, replicates: int) -> Array | None:
    """(J, R): 0 for clusters that are lost, completely at random, else 1; None where none can be."""
    missing = design.condition.missing
    if missing is None or not missing.clusters:
        return None
    scores = standard_normal(generator, (design.clusters, replicates))
    return np.asarray(scores > ndtri(missing.clusters), dtype=float)


class Varied:
    """Finishes blocks of plain columns: `Varied(design)(draw, generator)`.

    The plain draw takes known columns less their `origin` (known), drawn ones with `mean` and `sd` (drawn).
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        score, self._shares = score_correlations(design.predictors, design.condition.correlations)
        self._L = lower_factor(score)
        self._mixed = not np.array_equal(score, np.eye(len(score)))
        self.origin = known_origin(design)
        sources = {source - design.known for source, _ in design.centred} | {s - design.known for s in design.means}
        direct = [not self._mixed and not share and i not in sources for i, share in enumerate(self._shares)]
        self.mean = np.where(direct, design.drawn_mean, 0.0)
        self._within_sd = design.drawn_sd * np.sqrt(1.0 - self._shares)
        self.sd = np.ones(design.drawn) if self._mixed else self._within_sd

    def __call__(self, draw: Draw, generator: Generator) -> Draw:
        """All columns, z with means of clusters, and errors as they are; the order of the draws is part of the draw version."""
        design, R = self.design, draw.replicates
        dd, de, ee, z = *self._widened(draw), draw.ee, draw.z
        self._correlate(dd, de)
        centre_within(design, dd, de)
        self._add_between(dd, de, generator, R)
        scale = error_scale(design, z, generator, R)
        if scale is not None:
            de *= scale[:, None]
            ee *= scale**2
        kept = kept_clusters(design, generator, R)
        everywhere = self._overall(dd)
        if kept is not None:
            dd *= kept[:, None]
            de *= kept[:, None]
            ee *= kept
        offsets = None if kept is None else self._overall(dd) - everywhere
        self._fill_means(dd, z)
        centre(design, dd, de)
        self._add_means(dd, de)
        return Draw(dd, de, ee, draw.u, z, offsets=offsets)

    def _widened(self, draw: Draw) -> tuple[Array, Array]:
        """D'D and D'e with centred columns at 0, of a replicate's own where that will be needed."""
        design = self.design
        J, plain, R = draw.de.shape
        d = plain + len(design.centred)
        dd = np.zeros((J, d * (d + 1) // 2, draw.dd.shape[2] if design.settled else R))
        dd[:, : draw.dd.shape[1]] = draw.dd
        de = np.zeros((J, d, R))
        de[:, :plain] = draw.de
        return dd, de

    def _correlate(self, dd: Array, de: Array) -> None:
        """Independent drawn columns to those with the predictors' correlations and sds, column i by columns 0 .. i."""
        first = self.design.known
        for i in reversed(range(len(self._L) if self._mixed else 0)):
            scale_column(dd, de, first + i, self._within_sd[i] * self._L[i, i])
            for k in np.flatnonzero(self._L[i, :i]):
                add_column(dd, de, first + int(k), first + i, self._within_sd[i] * self._L[i, k])

    def _add_between(self, dd: Array, de: Array, generator: Generator, replicates: int) -> None:
        """The part of drawn columns that rows of a cluster share."""
        if not self._shares.any():
            return
        scores = standard_normal(generator, (len(self._shares), self.design.clusters, replicates))
        for i, share in enumerate(self._shares):
            if share:
                mixed = sum(self._L[i, k] * scores[k] for k in np.flatnonzero(self._L[i]))
                add_column(dd, de, 0, self.design.known + i, self.design.drawn_sd[i] * np.sqrt(share) * mixed)

    def _overall(self, dd: Array) -> Array:
        """(centred, 1, R or 1): means over all rows of what is centred there, 0 for other columns."""
        centred = self.design.centred
        means = np.zeros((len(centred), 1, dd.shape[2]))
        for k, (source, how) in enumerate(centred):
            if how == "center":
                means[k, 0] = overall_mean(dd, source)
        return means

    def _fill_means(self, dd: Array, z: Array) -> None:
        """The level-2 columns that are means of clusters, 0 without rows."""
        design = self.design
        means = np.concatenate([self.origin, design.drawn_mean])
        for k, source in enumerate(design.means, start=len(design.between) - len(design.means)):
            known = means[source] + design.constants[source]
            z[k] = np.where(dd[:, 0] > 0, known + cluster_means(dd, source), 0.0)

    def _add_means(self, dd: Array, de: Array) -> None:
        """What columns were drawn without."""
        without = np.concatenate([self.origin, self.design.drawn_mean - self.mean])
        for column in np.flatnonzero(without):
            add_column(dd, de, 0, int(column), float(without[column]))
