"""Wald intervals of variance components from the expected information: on their own scale, or on that of log and Fisher's z.

With z the normal quantile, V = Cov(variances, covariances, s2) (see `inference.variance_covariance`) and r = c / sqrt(v1 v2):

    variances: v -+ z se, 0 instead of a negative limit;  log scale: v exp(-+ z se / v), 0 to infinity where v = 0
    covariances: c -+ z se;  none on the other scale
    correlations: r -+ z se(r), within [-1, 1], se by the delta method;  Fisher's z: tanh(atanh r -+ z se(r) / (1 - r^2)), -1 to 1
    where |r| = 1; none where a variance is 0

The intervals of an sd are the square roots. (Variance scale: Longford 1993, Random Coefficient Models; log and z: Pinheiro &
Bates 2000, Mixed-Effects Models in S and S-PLUS, sect. 2.4.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from .lmm import pairs

__all__ = ["Interval", "wald_intervals"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Of one quantity in R replicates: standard errors, or None, and limits; nan where there is none."""

    se: Array | None
    lower: Array
    upper: Array


def wald_intervals(
    varcomp: Array, sigma2: Array, covariance: Array, blocks: NDArray[np.int64], *, level: float, log: bool
) -> dict[tuple[str, int, int], Interval]:
    """By ("var", a, a), ("cov", a, b), ("cor", a, b), a < b columns of one term (`blocks`: its number), and ("residual", -1, -1).

    varcomp (R, k): by pairs, sigma2 (R); covariance (R, (k+1)(k+2)/2): of both, by pairs; level in (0, 1).
    """
    q, z = len(blocks), float(ndtri(0.5 + level / 2))
    place = {pair: k for k, pair in enumerate(pairs(q))}
    packed = {pair: k for k, pair in enumerate(pairs(len(place) + 1))}
    variances = {("var", a, a): (varcomp[:, place[a, a]], place[a, a]) for a in range(q)}
    variances["residual", -1, -1] = (sigma2, len(place))
    found = {}
    for key, (v, k) in variances.items():
        se = _root(covariance[:, packed[k, k]])
        found[key] = _of_variance(v, se, z, log=log)
    for (a, b), k in place.items():
        if a != b and blocks[a] == blocks[b]:
            c, se = varcomp[:, k], _root(covariance[:, packed[k, k]])
            if not log:
                found["cov", a, b] = Interval(se, c - z * se, c + z * se)
            v1, v2 = varcomp[:, place[a, a]], varcomp[:, place[b, b]]
            places = sorted((place[a, a], k, place[b, b]))
            part = {(x, y): covariance[:, packed[min(x, y), max(x, y)]] for x in places for y in places}
            found["cor", a, b] = _of_correlation(c, v1, v2, part, (k, place[a, a], place[b, b]), z, log=log)
    return found


def _root(variance: Array) -> Array:
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def _of_variance(v: Array, se: Array, z: float, *, log: bool) -> Interval:
    if not log:
        return Interval(se, np.maximum(v - z * se, 0.0), v + z * se)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = np.exp(z * se / v)
        inside = v > 0
        lower, upper = np.where(inside, v / factor, 0.0), np.where(inside, v * factor, np.inf)
    known = np.isfinite(se) & np.isfinite(v)
    return Interval(se, np.where(known, lower, np.nan), np.where(known, upper, np.nan))


def _of_correlation(
    c: Array,
    v1: Array,
    v2: Array,
    part: dict[tuple[int, int], Array],
    places: tuple[int, int, int],
    z: float,
    *,
    log: bool,
) -> Interval:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        product = np.sqrt(v1) * np.sqrt(v2)
        r = np.where(product > 0, np.clip(c / product, -1.0, 1.0), np.nan)
        gradient = (1 / product, -r / (2 * v1), -r / (2 * v2))
        variance = sum(
            left * right * part[x, y]
            for left, x in zip(gradient, places, strict=True)
            for right, y in zip(gradient, places, strict=True)
        )
        se = _root(np.asarray(variance))
        if not log:
            return Interval(se, np.maximum(r - z * se, -1.0), np.minimum(r + z * se, 1.0))
        half, centre = z * se / (1 - r**2), np.arctanh(r)
        edge = np.abs(r) >= 1.0 - 1e-12
        lower, upper = np.where(edge, -1.0, np.tanh(centre - half)), np.where(edge, 1.0, np.tanh(centre + half))
        known = np.isfinite(se)
        return Interval(se, np.where(known, lower, np.nan), np.where(known, upper, np.nan))
