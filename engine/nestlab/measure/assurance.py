"""How far power varies over a prior: the spread of the conditional power, whose mean is the assurance.

Replicate i draws d_i (k values) from the priors and its test rejects (r_i = 1) or not. The share of rejections is the assurance
(O'Hagan, Stevens and Campbell 2005, Pharm Stat 4:187): power averaged over the prior. The conditional power pi(d) = P(r = 1 | d)
is not seen, so it is estimated by a probit regression of r on natural cubic splines of each drawn value and on products of
different values,

    pi(d) = Phi(b'B(d)),    b maximises sum log Phi(+-b'B(d_i)) - ridge |b|^2 / 2, B orthonormal,

by Fisher scoring. power_sd is the standard deviation of pi(d_i) over the replicates, power_q10, power_q50 and power_q90 its
quantiles. Noise in b widens the spread; what it adds to the variance, mean Var(pi_i) - Var(mean pi) by the delta method, is
taken off, and the quantiles are drawn towards the mean by the same factor. MCSEs are the jackknife's over groups of replicates,
each b without a group by one scoring step from b; for quantiles, half a replicate of the N/p that decide on one column is added
in quadrature, as the jackknife says nothing where all tests reject; and where the spread is hardly above its noise, MCSEs are not
below that noise. What the splines can't follow is not in the MCSE: tests/calibration/test_assurance.py holds it against exact
values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy

from ..spec.measures import MEASURES, Array, Mask
from .measured import Measured

__all__ = ["SPREAD", "Drawn", "power_spread", "spread_basis"]

#: power_sd and the quantiles.
SPREAD = tuple(name for name, row in MEASURES.items() if row.of == "drawn")
NAN = math.nan

_TAILS = (0.1, 0.5, 0.9)
#: Groups of the jackknife; replicates a column of the regression; the most columns a value has, and all have together.
_GROUPS, _PER_COLUMN, _MOST_EACH, _MOST = 20, 40, 8, 30
#: Rejections, and non-rejections, below which nothing is said.
_LEAST = 10
_RIDGE = 0.01
#: Beyond this many standard deviations Phi(-x) has no digits to weigh.
_FARTHEST = 7.0


class Drawn:
    """The values that replicates drew from the priors, k arrays (R,), with their basis, which all tests share."""

    def __init__(self, values: Sequence[Array]) -> None:
        self.values = tuple(np.asarray(v, dtype=np.float64) for v in values)

    @cached_property
    def _whole(self) -> Array:
        return spread_basis(self.values)

    def basis(self, mask: Mask) -> Array:
        """`spread_basis` of some replicates."""
        return self._whole if mask.all() else spread_basis([v[mask] for v in self.values])


def power_spread(rejects: Mask, basis: Array) -> list[Measured]:
    """power_sd and the quantiles of the conditional power of N tests; basis: `spread_basis` of their drawn values, (p, N).

    nan where there are fewer than 10 rejections or non-rejections.
    """
    n, hits = rejects.size, int(np.count_nonzero(rejects))
    if min(hits, n - hits) < _LEAST:
        return [Measured(name, NAN, NAN, n) for name in SPREAD]
    fit = _fit(basis, rejects.astype(np.float64))
    noise = _noise(basis, fit)
    values = _spread(scipy.special.ndtr(fit.eta), noise)
    ends = np.linspace(0, n, _GROUPS + 1).astype(int)
    without = []
    for first, last in itertools.pairwise(ends):
        part = basis[:, first:last]
        information = fit.information - _gram(part, fit.weights[first:last])
        b = fit.b - np.linalg.solve(information, _times(part, fit.residual[first:last]))
        apart = scipy.special.ndtr(_combined(b, basis))
        without.append(_spread(np.concatenate([apart[:first], apart[last:]]), noise))
    deviation = np.array(without) - np.mean(without, axis=0)
    mcse = np.sqrt((_GROUPS - 1) / _GROUPS * (deviation**2).sum(axis=0))
    unseen = _unseen(scipy.special.ndtr(fit.eta), noise, len(basis))
    mcse = np.hypot(mcse, [0.0, *[0.5 * len(basis) / n] * 3])
    mcse = np.maximum(mcse, unseen) if values[0] > 0 else np.hypot(mcse, unseen)
    return [Measured(name, float(v), float(e), n) for name, v, e in zip(SPREAD, values, mcse, strict=True)]


def spread_basis(drawn: Sequence[Array]) -> Array:
    """(p, N): 1, then orthonormal rows (of mean square 1) that span splines and products of k drawn values, each (N,)."""
    n = len(drawn[0])
    scaled = [_standard(d) for d in drawn if n and np.ptp(d) > 0]
    rows = [_standard(row) for row in _columns(scaled, min(n // _PER_COLUMN, _MOST)) if np.ptp(row) > 0]
    if not rows:
        return np.ones((1, n))
    found = np.array(rows)
    values, vectors = np.linalg.eigh(_gram(found, np.full(n, 1 / n)))
    kept = values > 1e-10 * values[-1]
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    return np.vstack([np.ones((1, n)), *(_combined(column, found)[None] for column in whiten.T)])


# Products are small, so that BLAS starts no threads: beneath the workers' own they wait for one another (25 times the time on two
# busy cores), and the last digits depend on their number.
_SMALL = 200_000


def _gram(rows: Array, weights: Array) -> Array:
    """(p, p): sum of w_i x_i x_i'."""
    p, n = rows.shape
    size = max(1, _SMALL // (p * p))
    whole = n - n % size
    left = rows * weights
    rest = np.einsum("in,jn->ij", left[:, whole:], rows[:, whole:])
    left, right = (each[:, :whole].reshape(p, -1, size).transpose(1, 0, 2) for each in (left, rows))
    return np.asarray(rest + np.matmul(left, right.transpose(0, 2, 1)).sum(axis=0))


def _times(rows: Array, values: Array) -> Array:
    """(p,): sum of v_i x_i."""
    return np.asarray(np.einsum("pn,n->p", rows, values))


def _combined(b: Array, rows: Array) -> Array:
    """(N,): b'x_i."""
    return np.asarray(np.einsum("p,pn->n", b, rows))


def _columns(scaled: Sequence[Array], room: int) -> list[Array]:
    """Splines of as many columns as there is room for, then products."""
    k = len(scaled)
    couples = [(a, b) for a in range(k) for b in range(k) if a != b]
    for each in range(_MOST_EACH, 2, -1):
        if 1 + k * each + len(couples) * (each - 1) <= room:
            splines = [_natural_spline(d, each) for d in scaled]
            crossed = [s * scaled[b] for a, b in couples for s in (splines[a] if a < b else splines[a][1:])]
            return [s for spline in splines for s in spline] + crossed
    products = [scaled[a] * scaled[b] for a, b in couples if a < b]
    for each in range(_MOST_EACH, 1, -1):
        if 1 + k * each + len(products) <= room:
            return [s for d in scaled for s in _natural_spline(d, each)] + products
    return list(scaled)


def _standard(values: Array) -> Array:
    return np.asarray((values - values.mean()) / values.std())


def _natural_spline(x: Array, columns: int) -> list[Array]:
    """x and columns - 1 natural cubic splines, linear beyond the outer knots (Hastie, Tibshirani and Friedman 2009, 5.4)."""
    knots = np.unique(np.quantile(x, np.linspace(0.02, 0.98, columns + 1)))
    if len(knots) < 3:
        return [x]
    last = np.maximum(x - knots[-1], 0.0) ** 3

    def bend(knot: float) -> Array:
        return np.asarray((np.maximum(x - knot, 0.0) ** 3 - last) / (knots[-1] - knot))

    final = bend(knots[-2])
    return [x, *(bend(knot) - final for knot in knots[:-2])]


class _Probit(NamedTuple):
    """b (p,), eta = B b, scoring weights and residuals (N,), information (p, p) with the ridge."""

    b: Array
    eta: Array
    weights: Array
    residual: Array
    information: Array


def _fit(B: Array, r: Array) -> _Probit:
    """The ridged probit regression of r on the rows of B."""
    p = len(B)
    b, ridge = np.zeros(p), np.full(p, _RIDGE)
    ridge[0], b[0] = 0.0, scipy.special.ndtri(r.mean())
    found = _at(B, r, b, ridge)
    value = _objective(B, r, b, ridge)
    for _ in range(50):
        step = np.linalg.solve(found.information, _times(B, found.residual) - ridge * b)
        for _ in range(20):  # halved until it climbs
            after = _objective(B, r, b + step, ridge)
            if after >= value - 1e-12 * abs(value):
                break
            step /= 2
        b, rise, value = b + step, after - value, after
        found = _at(B, r, b, ridge)
        if rise < 1e-4:
            break
    return found


def _at(B: Array, r: Array, b: Array, ridge: Array) -> _Probit:
    eta = np.clip(_combined(b, B), -_FARTHEST, _FARTHEST)
    density, power = _density(eta), scipy.special.ndtr(eta)
    slope = density / (power * scipy.special.ndtr(-eta))
    weights = density * slope
    return _Probit(b, eta, weights, (r - power) * slope, _gram(B, weights) + np.diag(ridge))


def _density(eta: Array) -> Array:
    return np.asarray(np.exp(-0.5 * eta * eta) / math.sqrt(2 * math.pi))


def _objective(B: Array, r: Array, b: Array, ridge: Array) -> float:
    eta = np.clip(_combined(b, B), -_FARTHEST, _FARTHEST)
    return float(np.log(scipy.special.ndtr(np.where(r > 0, eta, -eta))).sum() - 0.5 * (ridge * b * b).sum())


def _noise(B: Array, fit: _Probit) -> float:
    """What the noise in b adds to the variance of pi over the replicates."""
    density, n = _density(fit.eta), len(fit.eta)
    covariance = np.linalg.inv(fit.information)
    mean = _times(B, density) / n
    return float((covariance * (_gram(B, density**2) / n - np.outer(mean, mean))).sum())


def _unseen(power: Array, noise: float, p: int) -> Array:
    """How far sd and quantiles may be off where the spread is hardly above the noise, and the jackknife sees it cut at 0.

    The noise is roughly a chi-square's share on p - 1 df, so the variance is known to noise sqrt(2 / (p - 1)) at best.
    """
    variance = float(power.var())
    if variance == 0 or p < 2:
        return np.zeros(1 + len(_TAILS))
    kept = max(variance - noise, 0.0)
    sd = math.sqrt(kept + noise * math.sqrt(2 / (p - 1))) - math.sqrt(kept)
    tails = np.abs(np.quantile(power, _TAILS) - power.mean()) / math.sqrt(variance)
    return sd * np.array([1.0, *tails])


def _spread(power: Array, noise: float) -> Array:
    """sd and quantiles, less the noise."""
    variance = float(power.var())
    kept = math.sqrt(max(1 - noise / variance, 0.0)) if variance > 0 else 0.0
    mean = float(power.mean())
    tails = np.quantile(power, _TAILS)
    return np.array([kept * math.sqrt(variance), *(mean + kept * (tails - mean))])
