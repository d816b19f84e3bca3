"""The log density of an outcome given its linear predictor eta, and its derivatives in eta, elementwise and stable in the tails.

    binomial            y log(mu) + (n - y) log(1 - mu) + log C(n, y)
        logit           mu = 1 / (1 + exp(-eta))
        probit          mu = Phi(eta); d log Phi = r = phi / Phi, r' = -r (eta + r), with eta + r by a continued fraction and,
                        further out, all of them by the asymptotic series of Mills' ratio
        cloglog         mu = 1 - exp(-t), t = exp(eta); d log mu = b = t / (exp(t) - 1), t db/dt = b (1 - t - b), near t = 0 by
                        the series of b, sum of B_k t^k / k! with Bernoulli's numbers
    poisson             y eta - mu - log y!
    negative-binomial   y eta - (y + k) log(1 + mu / k) + sum_{j < y} log(1 + j / k) - log y!, dispersion k: Var y = mu + mu^2 / k

Rows stand on the first axis of arrays, and any number of linear predictors of them on the following ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, expit, gammaln, log_ndtr

from ...spec.family import Family

__all__ = ["Density", "ObservedRows"]

Array = NDArray[np.float64]

#: Below minus this, derivatives of log Phi come from the asymptotic series, and from minus `NEAR` on from the continued fraction.
FAR, NEAR = 20.0, 5.0
#: Mills' ratio, far out: phi / Phi at -x is x + 1/x - 2/x^3 + 10/x^5 ...
_MILLS = (1.0, -2.0, 10.0, -74.0, 706.0, -8162.0, 110410.0)
#: Terms of the continued fraction.
_FRACTIONS = 60
#: Below this t / (exp(t) - 1) is the sum of its series; coefficients of t^1, t^2, t^4, t^6 ...
SMALL = 0.5
_BERNOULLI = (
    (1, -1 / 2), (2, 1 / 12), (4, -1 / 720), (6, 1 / 30240), (8, -1 / 1209600), (10, 1 / 47900160), (12, -691 / 1307674368000),
)  # fmt: skip
#: Linear predictors beyond this are taken as this in exponentials, which stay finite.
LARGEST = 700.0
#: Counts up to which a table is made, and dispersions above which Stirling's series is exact to rounding.
LONGEST_TABLE, STIRLING = 1_000, 30.0


class Density(Protocol):
    """What an objective needs of the density of the rows given eta."""

    @property
    def family(self) -> Family: ...
    @property
    def dispersed(self) -> bool: ...
    def derivatives(self, eta: Array, order: int, log_k: Array | float = 0.0) -> list[Array]: ...
    def expected_weights(self, eta: Array) -> tuple[Array, Array]: ...
    def in_dispersion(self, eta: Array, log_k: Array | float) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True)
class ObservedRows:
    """What was observed. y (N): counts; trials (N): of a binomial outcome, 1 for others.

    The functions take eta (N, ...) and, for negative binomial outcomes, log_k broadcasting against it.
    """

    family: Family
    y: Array
    trials: Array

    @property
    def dispersed(self) -> bool:
        """Whether there is a dispersion parameter."""
        return self.family.name == "negative-binomial"

    @cached_property
    def constant(self) -> Array:
        """(N): the part of the log density that depends on y alone."""
        if self.family.name == "binomial":
            n = self.trials
            found: Array = gammaln(n + 1) - gammaln(self.y + 1) - gammaln(n - self.y + 1)
            return found
        return np.asarray(-gammaln(self.y + 1))

    def derivatives(self, eta: Array, order: int, log_k: Array | float = 0.0) -> list[Array]:
        """log f(y | eta), and its derivatives in eta up to an order from 0 to 4."""
        y, constant = self._shaped(self.y, eta), self._shaped(self.constant, eta)
        if self.family.counts:
            mu = np.exp(np.minimum(eta, LARGEST))
            if self.dispersed:
                return _negative_binomial(y, constant + self._rising(log_k, eta), eta, mu, log_k, order)
            return [y * eta - mu + constant, y - mu, -mu, -mu, -mu][: order + 1]
        n = self._shaped(self.trials, eta)
        if self.family.link == "logit":
            found = _logit(y, n, eta, order)
        elif self.family.link == "probit":
            up, down = _log_ndtr(eta, order), _log_ndtr(-eta, order)
            found = [y * u + (n - y) * (-d if k % 2 else d) for k, (u, d) in enumerate(zip(up, down, strict=True))]
        else:
            t = np.exp(np.minimum(eta, LARGEST))
            found = [y * u - (n - y) * t for u in _log_event(t, order)]
        found[0] = found[0] + constant
        return found

    def expected_weights(self, eta: Array) -> tuple[Array, Array]:
        """The expected information about eta of a binomial or Poisson outcome, and its derivative.

        It differs from the observed one where the link is not canonical: n mu'^2 / (mu (1 - mu)).
        """
        n = self._shaped(self.trials, eta)
        if self.family.link == "probit":
            (_, r, dr), (_, s, ds) = _log_ndtr(eta, 2), _log_ndtr(-eta, 2)
            return n * r * s, n * (dr * s - r * ds)
        if self.family.link == "cloglog":
            t = np.exp(np.minimum(eta, LARGEST))
            _, b, db = _log_event(t, 2)
            return n * t * b, n * t * (b + db)
        _, _, second, third = self.derivatives(eta, 3)
        return -second, -third

    def in_dispersion(self, eta: Array, log_k: Array | float) -> tuple[Array, Array, Array]:
        """The derivatives in log k of log f and of its first two derivatives in eta, for a negative binomial outcome."""
        y = self._shaped(self.y, eta)
        k = np.exp(log_k)
        s = expit(eta - log_k)
        mu = np.exp(np.minimum(eta, LARGEST))
        value = -k * np.log1p(mu / k) + (y + k) * s + self._rising_slope(log_k, eta)
        ss = s * (1 - s)
        return value, ss * (y - mu), ss * ((y + k) * (1 - 2 * s) - k)

    def _shaped(self, values: Array, eta: Array) -> Array:
        return values.reshape(-1, *[1] * (eta.ndim - 1))

    def _rising(self, log_k: Array | float, eta: Array) -> Array:
        """sum_{j < y} log(1 + j / k) row by row."""
        return self._by_count(np.log1p, _rising_far, log_k, eta)

    def _rising_slope(self, log_k: Array | float, eta: Array) -> Array:
        return self._by_count(lambda r: -r / (1 + r), _rising_slope_far, log_k, eta)

    def _by_count(
        self, of: Callable[[Array], Array], far: Callable[[Array, Array], Array], log_k: Array | float, eta: Array
    ) -> Array:
        """The sum over j < y of a function of j / k: of a table, exact for large k where gamma functions cancel, or far out."""
        k = np.exp(np.asarray(log_k, dtype=float))
        most = int(self.y.max(initial=0))
        if most > LONGEST_TABLE:
            return far(self._shaped(self.y, eta), k)
        shared = k.reshape(k.shape[1:]) if k.ndim == eta.ndim else k  # one for all rows
        j = np.arange(most).reshape(-1, *[1] * shared.ndim)
        sums = np.concatenate([np.zeros((1, *shared.shape)), np.cumsum(of(j / shared), axis=0)])
        found: Array = sums[self.y.astype(np.int64)]
        return found if found.ndim == eta.ndim else found.reshape(len(self.y), *[1] * (eta.ndim - 1))


def _rising_far(y: Array, k: Array) -> Array:
    """log Gamma(y + k) - log Gamma(k) - y log k; for large k by Stirling's series, whose large terms cancel here."""

    def rest(z: Array) -> Array:
        return np.asarray((1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * z * z)) / (z * z)) / (z * z)) / z)

    big = np.maximum(k, STIRLING)
    series = (y + big - 0.5) * np.log1p(y / big) - y + rest(y + big) - rest(big)
    return np.where(k > STIRLING, series, gammaln(y + k) - gammaln(k) - y * np.log(k))


def _rising_slope_far(y: Array, k: Array) -> Array:
    """Its derivative in log k: k (psi(y + k) - psi(k)) - y."""

    def rest(z: Array) -> Array:
        return np.asarray(-(1 / 2 + (1 / 12 - (1 / 120 - 1 / (252 * z * z)) / (z * z)) / z) / z)

    big = np.maximum(k, STIRLING)
    series = big * (np.log1p(y / big) + rest(y + big) - rest(big)) - y
    return np.where(k > STIRLING, series, k * (digamma(y + k) - digamma(k)) - y)


def _logit(y: Array, n: Array, eta: Array, order: int) -> list[Array]:
    small = np.exp(-np.abs(eta))
    found = [y * eta - n * (np.maximum(eta, 0.0) + np.log1p(small))]
    if order:
        mu = np.where(eta >= 0, 1.0, small) / (1 + small)
        v = n * small / ((1 + small) * (1 + small))
        found += [y - n * mu, -v, -v * (1 - 2 * mu), -v * (1 - 6 * mu * (1 - mu))][:order]
    return found


def _negative_binomial(
    y: Array, constant: Array, eta: Array, mu: Array, log_k: Array | float, order: int
) -> list[Array]:
    k = np.exp(log_k)
    found = [y * eta - (y + k) * np.log1p(mu / k) + constant]
    if order:
        s = expit(eta - log_k)
        rest = expit(log_k - eta)
        v = (y + k) * s * rest
        found += [(y - mu) * rest, -v, -v * (1 - 2 * s), -v * (1 - 6 * s * rest)][:order]
    return found


def _log_ndtr(x: Array, order: int) -> list[Array]:
    """log Phi(x) and its derivatives."""
    value = log_ndtr(x)
    if not order:
        return [value]
    size = -x
    with np.errstate(over="ignore"):  # far to the right the ratio is 0
        r = np.exp(-0.5 * x * x - value - 0.5 * math.log(2 * math.pi))
    rest = x + r  # r' = -r (x + r)
    if (near := size > NEAR).any():
        z = size[near]
        fraction = z.copy()
        for k in range(_FRACTIONS, 1, -1):
            fraction = z + k / fraction
        rest[near] = 1 / fraction
        r[near] = z + rest[near]
    r1 = -r * rest
    r2 = r * (rest * rest - 1 + r * rest)
    r3 = -r2 * rest - 2 * r1 * (1 + r1) - r * r2
    found = [r, r1, r2, r3]
    if (far := size > FAR).any():
        z = size[far]
        inverse = 1 / z
        series = [np.zeros_like(z) for _ in range(4)]
        for k, c in enumerate(_MILLS):
            power = 2 * k + 1
            term = c * inverse**power
            for d in range(4):
                series[d] = series[d] + term
                term = term * (power + d) * inverse  # d/dx of z^-m, z = -x, is m z^-(m+1)
        series[0], series[1] = series[0] + z, series[1] - 1
        for whole, own in zip(found, series, strict=True):
            whole[far] = own
    return [value, *found[:order]]


def _log_event(t: Array, order: int) -> list[Array]:
    """log(1 - exp(-t)) and its derivatives in log t."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gone = -np.expm1(-t)
        value = np.where(t > 0, np.log(gone), -np.inf)
        if not order:
            return [value]
        b = np.where(t > 0, t * np.exp(-t) / gone, 1.0)
        c = 1 - t - b
        slope = -(t + b * c)
        b1 = b * c
        b2 = b1 * c + b * slope
        b3 = b1 * c * c + 3 * b1 * slope - b * (t + b2)
    found = [b, b1, b2, b3]
    if (small := t < SMALL).any():
        own = t[small]
        series = [np.ones_like(own), *(np.zeros_like(own) for _ in range(3))]
        for power, coefficient in _BERNOULLI:
            term = coefficient * own**power
            for d in range(4):
                series[d] = series[d] + term * power**d
        for whole, part in zip(found, series, strict=True):
            whole[small] = part
    return [value, *found[:order]]
