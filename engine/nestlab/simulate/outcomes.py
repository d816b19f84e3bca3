"""Outcomes that are not Gaussian: drawn from their family given the linear predictor, by inversion of one normal score a row.

Row by row, y = F^-1(Phi(score); mean), F the distribution function of the family at link^-1(eta). The score stands in the place
of a Gaussian outcome's error, so that predictors, sizes, missing rows and random effects are drawn as for those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..spec.model import Truth
from ..spec.uncertain import DrawnTruth
from .compiled import compiled
from .gram import Draw
from .layout import Array, Design
from .segments import accumulate

__all__ = ["OutcomeDraw", "as_errors", "draw_outcomes", "terms_of_rows"]

Integers = NDArray[np.int64]
_LOGIT, _PROBIT, _CLOGLOG = 0, 1, 2
#: Standard deviations above the mean, and counts beside them, at which a count stops: what lies beyond has no probability.
_FAR = 60.0
#: Standard deviations below the mean from which parts of a binomial distribution are summed: below there is less than 1e-20.
_NEAR = 10.0


@dataclass(frozen=True)
class OutcomeDraw:
    """One block as rows, replicate after replicate and cluster after cluster; n rows in all, J clusters, R replicates.

    D (d, n): the design's level-1 columns; y (n); starts (R J + 1): where the rows of each cluster of each replicate begin;
    z (m, J, R or 1): level-2 predictors, u (J, q, R). truths: of each replicate, where the condition has priors.
    """

    D: Array
    y: Array
    starts: Integers
    u: Array
    z: Array
    truths: DrawnTruth | None = None

    @property
    def replicates(self) -> int:
        return int(self.u.shape[2])

    @property
    def sizes(self) -> Integers:
        """(J, R): the rows of each cluster."""
        return np.diff(self.starts).reshape(self.replicates, -1).T

    @cached_property
    def gram(self) -> Draw:
        """The sufficient statistics that linear models take: the outcomes in the place of errors, without random effects."""
        (d, _), J, R = self.D.shape, self.u.shape[0], self.replicates
        dd, de, ee = np.empty((J, d * (d + 1) // 2, R)), np.empty((J, d, R)), np.empty((J, R))
        accumulate(self.D, self.y, self.starts, J, 0, 0, dd, de, ee)
        return Draw(dd, de, ee, np.zeros_like(self.u), self.z)

    @property
    def counts(self) -> dict[str, NDArray[np.int32]]:
        """What each replicate has: `rows` and `clusters`, those with rows."""
        sizes = self.sizes
        return {"rows": sizes.sum(axis=0).astype(np.int32), "clusters": (sizes > 0).sum(axis=0).astype(np.int32)}


def terms_of_rows(draw: OutcomeDraw, design: Design, terms: tuple[str, ...], first: int, last: int) -> Array:
    """(terms, n): the values of terms on the rows of replicates first .. last - 1."""
    J = design.clusters
    a, b = int(draw.starts[first * J]), int(draw.starts[last * J])
    sizes = np.diff(draw.starts[first * J : last * J + 1])
    D = design.stated(draw.D[:, a:b].T).T
    z = draw.z[:, :, first:last] if draw.z.shape[2] > 1 else np.repeat(draw.z, last - first, axis=2)
    values = np.empty((len(terms), b - a))
    for k, term in enumerate(terms):
        column, outer = design.split(term)
        values[k] = D[column]
        for name in outer:
            values[k] *= np.repeat(z[design.between.index(name)].T.ravel(), sizes)
    return values


def as_errors(design: Design) -> Design:
    """The design of a linear model of outcomes that are not Gaussian: they stand in the place of errors, all effects are 0."""
    truth = design.condition.truth
    none = replace(truth, fixed=(0.0,) * len(truth.fixed))
    return replace(design, condition=replace(design.condition, truth=none))


def draw_outcomes(truth: Truth, eta: Array, scores: Array) -> None:
    """Turn the scores (n) into outcomes, given the linear predictors eta (n)."""
    family = truth.formula.family
    if family.counts:
        _counts(eta + math.log(truth.exposure), scores)
    else:
        _successes(family.kind, truth.trials, eta, scores)


@njit(error_model="numpy")
def _probability(kind, eta):  # pragma: no cover
    if kind == _LOGIT:
        return 1.0 / (1.0 + math.exp(-eta))
    if kind == _PROBIT:
        return 0.5 * math.erfc(-eta / math.sqrt(2.0))
    return -math.expm1(-math.exp(eta))


@compiled()
def _successes(kind: int, trials: int, eta: Array, scores: Array) -> None:  # pragma: no cover
    """Binomial counts: the number of the distribution function's values below Phi(score), from the nearer end."""
    for i in range(len(eta)):
        p = _probability(kind, eta[i])
        above = 0.5 * math.erfc(scores[i] / math.sqrt(2.0))
        if trials == 1:
            scores[i] = 1.0 if above < p else 0.0
            continue
        # counts of failures from the upper tail where successes are many
        many = p > 0.5
        q, u = (1.0 - p, above) if many else (p, 0.5 * math.erfc(-scores[i] / math.sqrt(2.0)))
        k = max(0.0, math.floor(trials * q - _NEAR * math.sqrt(trials * q)))
        term = trials * math.log1p(-q)
        if k > 0.0:
            term = k * math.log(q) + (trials - k) * math.log1p(-q) + math.lgamma(trials + 1.0)
            term -= math.lgamma(k + 1.0) + math.lgamma(trials - k + 1.0)
        term = math.exp(term)
        total = term
        while total <= u and k < trials:
            term *= (trials - k) / (k + 1.0) * q / (1.0 - q)
            k += 1.0
            total += term
            if term < 1e-300 and k > trials * q:
                break
        scores[i] = trials - k if many else k


@compiled()
def _counts(eta: Array, scores: Array) -> None:  # pragma: no cover
    """Poisson counts; above a mean of 500 by Giles (2016, ACM Trans. Math. Softw. 42(1), Algorithm 955), without a sum."""
    for i in range(len(eta)):
        mean, s = math.exp(eta[i]), scores[i]
        if mean > 500.0:
            root = math.sqrt(mean)
            x = mean + root * s + s * s / 6.0 + 1.0 / 3.0 - (2.0 * s + s**3) / (72.0 * root)
            scores[i] = max(0.0, math.floor(x))
            continue
        u = 0.5 * math.erfc(-s / math.sqrt(2.0))
        most = mean + _FAR * math.sqrt(mean) + _FAR
        k, term = 0.0, math.exp(-mean)
        total = term
        while total <= u and k < most:
            k += 1.0
            term *= mean / k
            total += term
        scores[i] = k
