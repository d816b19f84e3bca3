"""What normal scores become: deviates of every distribution, and the correlation of scores behind a stated one.

Everything random but counts is drawn as a standard normal deviate g, its score, and becomes x = F^-1(Phi(g)): a Gaussian copula,
so that predictors of any distribution can be correlated, and one stream serves all. F^-1(Phi(.)) is tabulated by cubics with the
exact quantiles as knots. Every distribution has mean 0 and variance 1 before a predictor's own are applied.

A share of the variance of a t distribution with few degrees of freedom lies in deviates that no study ever draws (beyond a score
of 9, probability 2e-19): 1e-6 of it at df = 3, 14 % at df = 2.1; the standardisation is the distribution's own all the same.

M. C. Cario and B. L. Nelson (1997), Modeling and generating random vectors with arbitrary marginal distributions and correlation
matrix, Northwestern University (NORTA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from ..spec.model import Distribution, Errors, Predictor
from ..spec.predictors import DISTRIBUTIONS, distribution_of
from ..spec.problems import StudyError
from .lookup import REACH, look_up, step

__all__ = [
    "Transform",
    "attainable",
    "factor_shares",
    "latent_ar1",
    "latent_correlation",
    "latent_icc",
    "predictor_transform",
    "score_correlations",
    "score_thresholds",
    "tabulated",
    "transform",
]

Array = NDArray[np.float64]
#: Error of the tables, relative to 1 or the value, and the finest one.
ERROR, FINEST = 1e-9, 512
#: Of the quadratures over scores: the trapezoidal rule is exact to its last digits for what is smooth.
_SCORES = np.linspace(-REACH, REACH, 433)
_WEIGHTS = np.exp(-(_SCORES**2) / 2) / np.sqrt(2 * np.pi) * (_SCORES[1] - _SCORES[0])
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(160)


@dataclass(frozen=True, eq=False)
class Transform:
    """A function of a normal score, non-decreasing: `transform(g)` is mean + sd * table(g), or by steps.

    cubics (n, 4): the table, see `lookup.value_at`; without intervals it is the identity. bounds: of the values, if any.
    By steps: thresholds (k) in scores and levels (k + 1), which are the values themselves.
    """

    cubics: Array = field(default_factory=lambda: np.empty((0, 4)))
    mean: float = 0.0
    sd: float = 1.0
    bounds: tuple[float, float] | None = None
    thresholds: Array | None = None
    levels: Array | None = None

    def __call__(self, g: Array, out: Array | None = None) -> Array:
        """Values at scores g, of any shape; out: where they are written, g itself for instance; both contiguous."""
        out = np.empty_like(g) if out is None else out
        if self.thresholds is None:
            look_up(self.cubics, self.mean, self.sd, g.reshape(-1), out.reshape(-1))
            if self.bounds is not None:
                np.clip(out, *self.bounds, out=out)
        else:
            step(self.thresholds, self.levels, g.reshape(-1), out.reshape(-1))
        return out

    @property
    def normal(self) -> bool:
        return self.thresholds is None and not len(self.cubics)


@lru_cache(maxsize=256)
def transform(distribution: Distribution) -> Transform:
    """The standardised distribution: mean 0, variance 1. A skewness of 0 is the normal distribution.

    >>> float(transform(Distribution("uniform"))(np.array([0.6744897501960817]))[0])  # the upper quartile
    0.8660254037844386
    """
    parameters, quantile = dict(distribution.parameters), DISTRIBUTIONS[distribution.kind].quantile
    skewness = parameters.get("skewness")
    if quantile is None or skewness == 0:
        return Transform()
    if skewness is not None and skewness < 0:
        parameters["skewness"] = -skewness
        return Transform(_turned(transform(Distribution(distribution.kind, tuple(parameters.items()))).cubics))
    return Transform(tabulated(lambda g: quantile(distribution, g)))


def tabulated(function: Callable[[Array], Array]) -> Array:
    """Cubics through a function of scores, with slopes by a sixth-order difference; refined until the error is small."""
    per_unit = 64
    while True:
        n = int(2 * REACH * per_unit)
        g = np.linspace(
            -REACH - 3 / per_unit, REACH + 3 / per_unit, 2 * (n + 6) + 1
        )  # knots and what is half-way between
        x = function(g)
        cubics = _hermite(x[::2])
        middle = cubics @ np.array([1.0, 0.5, 0.25, 0.125])
        exact = x[6:-6][1::2]
        if per_unit >= FINEST or np.all(np.abs(middle - exact) <= ERROR * np.maximum(1.0, np.abs(exact))):
            return cubics
        per_unit *= 2


def _hermite(x: Array) -> Array:
    """(n, 4): cubics between x[3] .. x[-4], of unit intervals, from equidistant values."""
    slope = (x[6:] - x[:-6] - 9 * (x[5:-1] - x[1:-5]) + 45 * (x[4:-2] - x[2:-4])) / 60
    start, end, left, right = x[3:-4], x[4:-3], slope[:-1], slope[1:]
    rise = end - start
    return np.ascontiguousarray(np.stack([start, left, 3 * rise - 2 * left - right, left + right - 2 * rise], axis=1))


def _turned(cubics: Array) -> Array:
    """The table of -x(-g)."""
    a, b, c, d = cubics[::-1].T
    return np.ascontiguousarray(-np.stack([a + b + c + d, -b - 2 * c - 3 * d, c + 3 * d, -d], axis=1))


@lru_cache(maxsize=256)
def predictor_transform(predictor: Predictor) -> Transform:
    """A redrawn predictor's: with its mean and sd, or by steps (of a categorical one to the category's place, 0, 1, ...).

    Raises ValueError for one that is not drawn row by row, or cluster by cluster.
    """
    row = distribution_of(predictor)
    if row.steps is not None:
        levels, probabilities = row.steps(predictor)
        return Transform(thresholds=score_thresholds(probabilities), levels=levels)
    if row.standard is None:
        raise ValueError(f"{predictor.distribution!r} is not a distribution that is drawn from scores")
    return Transform(transform(row.standard(predictor)).cubics, predictor.mean, predictor.sd, row.bounds)


def score_thresholds(probabilities: Array) -> Array:
    """(k): the scores between k + 1 levels; from the side on which the probability is small."""
    below, above = np.cumsum(probabilities)[:-1], np.cumsum(probabilities[::-1])[::-1][1:]
    found: Array = np.where(below < 0.5, special.ndtri(np.minimum(below, 1.0)), -special.ndtri(np.minimum(above, 1.0)))
    return found


# -- correlations of scores ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def attainable(a: Transform, b: Transform) -> tuple[float, float]:
    """The least and the greatest Pearson correlation of two variables of these distributions: those of scores at -1 and 1."""
    if a.normal and b.normal:
        return -1.0, 1.0
    return _correlation(a, b, -1.0), _correlation(a, b, 1.0)


@lru_cache(maxsize=1024)
def latent_correlation(a: Transform, b: Transform, r: float, key: str = "correlation") -> float:
    """The correlation of normal scores that gives Pearson correlation r. key: what the study calls it.

    Raises StudyError where no two variables of these distributions have it in a Gaussian copula.
    """
    low, high = attainable(a, b)
    if not low <= r <= high:
        raise StudyError(
            [
                f"{key} = {r:g}: must be between {_inward(low)} and {_inward(high)}, all that variables of these "
                "distributions can have; write a weaker correlation or other distributions"
            ]
        )
    if r == 0.0 or (a.normal and b.normal):
        return r
    if r in (low, high):
        return -1.0 if r == low else 1.0
    return float(optimize.brentq(lambda rho: _correlation(a, b, rho) - r, -1.0, 1.0, xtol=1e-13, rtol=1e-13))


def latent_ar1(errors: Errors) -> float:
    """The correlation of neighbouring rows' normal scores that gives their errors the correlation `ar1`."""
    drawn = transform(errors.distribution)
    return latent_correlation(drawn, drawn, errors.ar1, "truth.errors.ar1") if errors.ar1 else 0.0


def latent_icc(predictor: Predictor) -> float:
    """The share of the variance of scores between clusters that gives two rows of a cluster the correlation `icc`."""
    drawn = predictor_transform(predictor)
    return latent_correlation(drawn, drawn, predictor.icc, f"predictors.{predictor.name}.icc") if predictor.icc else 0.0


def factor_shares(predictors: Sequence[Predictor]) -> dict[str, Array]:
    """(k) by grouping factor, of several: the shares of the variance of predictors of rows that lie between its levels."""
    factors = dict.fromkeys(factor for p in predictors for factor, _ in p.iccs)
    return {factor: np.array([dict(p.iccs).get(factor, 0.0) for p in predictors]) for factor in factors}


def score_correlations(
    predictors: Sequence[Predictor], correlations: Sequence[tuple[str, str, float]]
) -> tuple[Array, Array]:
    """Of predictors of one level: (k, k) the correlations of scores within and between clusters, and (k) their shares between.

    The score of predictor a in row i of cluster j is sqrt(s_a) b_ja + sqrt(1 - s_a) w_ija, b and w with the same correlations R,
    so that those of the rows are R_ab (sqrt(s_a s_b) + sqrt((1 - s_a)(1 - s_b))); with several grouping factors there is such a
    part for each (`factor_shares`). Raises StudyError for a correlation that the distributions or the shares rule out, and for
    correlations that contradict each other.
    """
    place = {predictor.name: k for k, predictor in enumerate(predictors)}
    shares = np.array([latent_icc(p) if p.level == 1 else 0.0 for p in predictors])
    parts = np.stack([shares, *factor_shares(predictors).values()])
    parts = np.vstack([parts, 1 - parts.sum(axis=0)])
    R = np.eye(len(predictors))
    for a, b, r in correlations:
        if a not in place or b not in place:
            continue
        i, k = place[a], place[b]
        key = f'correlation."{a}:{b}"'
        drawn = predictor_transform(predictors[i]), predictor_transform(predictors[k])
        score = latent_correlation(*drawn, r, key)
        most = float(np.sqrt(parts[:, i] * parts[:, k]).sum())
        if abs(score) > most:
            ends = [_correlation(*drawn, float(end)) for end in (-most, most)]
            raise StudyError(
                [
                    f"{key} = {r:g}: must be between {_inward(ends[0])} and {_inward(ends[1])} with these intraclass "
                    f"correlations of {a} and {b}; write a weaker one, or intraclass correlations that are nearer to each other"
                ]
            )
        R[i, k] = R[k, i] = score / most
    _check_definite(R, {p.name: k for p, k in zip(predictors, place.values(), strict=True)}, correlations)
    return R, shares


def _check_definite(R: Array, place: Mapping[str, int], correlations: Sequence[tuple[str, str, float]]) -> None:
    least = float(np.linalg.eigvalsh(R)[0]) if len(R) else 1.0
    if least < -1e-10:
        stated = ", ".join(f'"{a}:{b}" = {r:g}' for a, b, r in correlations if a in place and b in place)
        raise StudyError(
            [
                f"correlation: {stated} contradict each other (the smallest eigenvalue of the scores' correlations is "
                f"{least:.3g}, it must be 0 or more); write weaker ones"
            ]
        )


def _inward(value: float) -> str:
    """Three decimals, rounded towards 0, so that what is printed is allowed."""
    return f"{np.trunc(value * 1000) / 1000:g}"


def _correlation(a: Transform, b: Transform, rho: float) -> float:
    """Pearson correlation of two variables whose scores have correlation rho."""
    return float(_covariance(a, b, rho) / (_sd(a) * _sd(b)))


@lru_cache(maxsize=1024)
def _sd(a: Transform) -> float:
    return float(np.sqrt(_covariance(a, a, 1.0)))


def _covariance(a: Transform, b: Transform, rho: float) -> float:
    """By quadrature, of variables without their means and sds (levels of steps as they are)."""
    if a.thresholds is not None and b.thresholds is not None:
        return _step_covariance(a, b, rho)
    if a.thresholds is not None:
        a, b = b, a
    values = Transform(a.cubics)
    other = np.sqrt(max(0.0, 1 - rho * rho)) * _SCORES
    if b.thresholds is None:
        inner = Transform(b.cubics)(rho * _SCORES[:, None] + other[None, :]) @ _WEIGHTS
        return float((values(_SCORES.copy()) * inner * _WEIGHTS).sum())
    assert b.levels is not None
    total = 0.0
    for threshold, rise in zip(b.thresholds, np.diff(b.levels), strict=True):
        if abs(threshold) < REACH:
            half = (REACH - threshold) / 2
            t = threshold + half * (_NODES + 1)
            inner = values(rho * t[:, None] + other[None, :]) @ _WEIGHTS
            total += rise * half * float((inner * np.exp(-t * t / 2) * _NODE_WEIGHTS).sum()) / np.sqrt(2 * np.pi)
    return total


def _step_covariance(a: Transform, b: Transform, rho: float) -> float:
    """Of indicators g1 > c and g2 > d the integral over the angle of the bivariate normal density (Drezner & Wesolowsky 1990)."""
    assert a.thresholds is not None
    assert b.thresholds is not None
    assert a.levels is not None
    assert b.levels is not None
    angle = np.arcsin(rho) / 2 * (_NODES + 1)
    c, d = a.thresholds[:, None, None], b.thresholds[None, :, None]
    squared = 2 * np.cos(angle) ** 2
    density = np.exp(-(c * c + d * d - 2 * c * d * np.sin(angle)) / squared)
    rises = np.diff(a.levels)[:, None] * np.diff(b.levels)[None, :]
    return float((rises[:, :, None] * density * _NODE_WEIGHTS).sum() * np.arcsin(rho) / (4 * np.pi))
