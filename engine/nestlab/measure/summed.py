"""Sums of replicates (`sums.py`) to the measures that the replicates give (`measures.py`): the same values, MCSEs and counts.

With M_pq the central co-moments of N replicates, d = x - mean x, psi the influences of `measures.py`, c = N/(N - 2):

    empse     sum psi^2 = c^2 (M_40 - M_20^2/N)
    relerror  psi = (se^2 - mean se^2)/(2 v) - c (d^2 - M_20/N)/(2 s^2),  sum psi^2 = M_02/(4 v^2) - c M_21/(2 v s^2)
              + c^2 (M_40 - M_20^2/N)/(4 s^4),  v = mean se^2, s^2 = M_20/(N - 1)
    relprec   of x and the reference x + e, r the ratio of their variances: r - 1 = (2 M_11 + M_02)/M_20, psi = c ((1 - r) d^2 +
              2 d e + e^2), whose mean is 0: nothing cancels where two methods hardly differ
    ratios    of means m_x/m_y = r: sum (d_x - r d_y)^2 = M_20 - 2 r M_11 + r^2 M_02

Not determined by sums, and left out: the median, becover (it asks of each interval whether it holds the mean of all estimates),
and the spread of power over a prior (`UNAVAILABLE`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .assurance import SPREAD
from .collect import OF_A_METHOD
from .measures import NAN, Mcse, Measured, of_counts
from .performance import BOUNDED, MEASURES, SUBSETS, Row
from .sums import KINDS, Key

__all__ = ["UNAVAILABLE", "measure_sums"]

Array: TypeAlias = NDArray[np.float64]

_SPREAD = "fits a regression to all tests and the values drawn"
#: Measures that sums do not hold, and why.
UNAVAILABLE: Mapping[str, str] = {
    "median": "needs all estimates in order",
    "becover": "needs every interval again once the mean of all estimates is known",
    **dict.fromkeys(SPREAD, _SPREAD),
}
#: A sum of squares below this share of its terms is rounding.
_ROUNDING = 1e-13


def measure_sums(
    sums: Mapping[Key, Array],
    truth: Mapping[str, float],
    *,
    mcse: Mcse,
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Row]:
    """The rows of `performance.measure`, but for those that are UNAVAILABLE. sums: by key (`Sums.total`), of all methods.

    truth: as the sums were collected with; own: true values of methods' own, by method and estimand. ValueError for an unknown
    `mcse`.
    """
    if mcse not in get_args(Mcse):
        raise ValueError(
            f"mcse is {mcse!r}; allowed are {' and '.join(map(repr, get_args(Mcse)))}; leave it out for the first"
        )
    groups: dict[tuple[str, str, str], dict[str, Array]] = {}
    for key, values in sums.items():
        groups.setdefault(key[:3], {})[key.quantity] = values
    methods = list(dict.fromkeys(key.method for key in sums))
    estimands = list(dict.fromkeys(key.estimand for key in sums if key.estimand))
    rows = [row for method in methods for row in _of_method(method, groups)]
    with np.errstate(all="ignore"):
        for estimand in estimands:
            for method in methods:
                value = (own or {}).get(method, {}).get(estimand, truth.get(estimand, NAN))
                for subset in SUBSETS:
                    found = groups.get((method, estimand, subset), {})
                    measures = _measures(found, value, mcse)
                    for measured in sorted(measures, key=lambda m: MEASURES.index(m.measure)):
                        missing = int(found["population"][0]) - measured.n if "population" in found else 0
                        bounded = measured.measure in BOUNDED
                        rows.append(Row(method, estimand, subset, measured, missing if bounded else None))
    return rows


def _of_method(method: str, groups: Mapping[tuple[str, str, str], Mapping[str, Array]]) -> Iterator[Row]:
    for subset in ("all", "converged"):
        found = groups.get((method, "", subset), {})
        for measure in OF_A_METHOD:
            if measure in found:
                yield Row(method, "", subset, _proportion(measure, found[measure]), None)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Moments of one key. x, y: means; sums: M_pq."""

    n: int
    x: float
    y: float
    sums: Mapping[tuple[int, int], float]

    @staticmethod
    def of(values: Array, kind: str) -> _Moments:
        n, numbers = int(values[0]), [float(v) for v in values]
        means = (numbers[1] + numbers[3], numbers[2] + numbers[4]) if n else (NAN, NAN)
        return _Moments(n, *means, dict(zip(KINDS[kind].moments, numbers[5:], strict=True)))

    def __getitem__(self, exponents: tuple[int, int]) -> float:
        return self.sums[exponents]

    @property
    def variance(self) -> float:
        """Of x; nan below two values."""
        return self[2, 0] / (self.n - 1) if self.n > 1 else NAN

    @property
    def jackknife(self) -> float:
        """N/(N - 2), nan below three values: what influences on a variance have before them."""
        return self.n / (self.n - 2) if self.n > 2 else NAN

    @property
    def fourth(self) -> float:
        """sum (d^2 - mean d^2)^2, 0 where it is rounding."""
        return _above_rounding(self[4, 0] - self[2, 0] * self[2, 0] / self.n, self[4, 0])

    def error(self, squares: float) -> float:
        """sqrt(sum psi^2 / (N (N - 1))); nan below two values."""
        return _root(squares / self.n / (self.n - 1)) if self.n > 1 else NAN


def _measures(found: Mapping[str, Array], truth: float, mcse: Mcse) -> Iterator[Measured]:
    if "estimate" in found:
        yield from _estimates(found, truth, mcse)
    if "se" in found:
        yield from _errors(_Moments.of(found["se"], "spread and mean"), mcse)
    for measure in ("cover", "below", "above", "power"):
        if measure in found:
            yield _proportion(measure, found[measure])
    if "width" in found:
        width = _Moments.of(found["width"], "mean")
        yield Measured("width", width.x, width.error(width[2, 0]), width.n)
    if "wrong" in found:
        yield _proportion("type_s", found["wrong"])
        yield _exaggeration(found["size"])
    if "pair" in found:
        yield _precision(_Moments.of(found["pair"], "spreads"), mcse)


def _estimates(found: Mapping[str, Array], truth: float, mcse: Mcse) -> Iterator[Measured]:
    """See `measures.estimate_measures`."""
    estimate, own = _Moments.of(found["estimate"], "spread"), "error" in found
    mean_error = estimate.error(estimate[2, 0])
    spread = _Moments.of(found["error"], "spread and mean") if own else estimate
    n, empse = spread.n, _root(spread.variance)
    yield Measured("mean", estimate.x, mean_error, n)
    if mcse == "morris":
        error = empse / math.sqrt(2 * (n - 1)) if n > 1 else NAN
    else:
        error = _ratio(spread.error(spread.jackknife**2 * spread.fourth) if n > 2 else NAN, 2 * empse)
    yield Measured("empse", empse, error, n)
    if own:
        yield from _own_bias(spread)
    elif math.isfinite(truth):
        bias = estimate.x - truth
        yield Measured("bias", bias, mean_error, n)
        if truth != 0:
            yield Measured("relbias", 100 * bias / truth, 100 / abs(truth) * mean_error, n)
    if "square" in found:
        square = _Moments.of(found["square"], "mean")
        rmse, error = _root(square.x), square.error(square[2, 0])
        yield Measured("mse", square.x, error, n)
        yield Measured("rmse", rmse, _ratio(error, 2 * rmse), n)


def _own_bias(error: _Moments) -> Iterator[Measured]:
    yield Measured("bias", error.x, error.error(error[2, 0]), error.n)
    if error.n and error.y != 0:
        ratio = error.x / error.y
        yield Measured("relbias", 100 * ratio, 100 * error.error(_off(error, ratio)) / abs(error.y), error.n)


def _off(m: _Moments, ratio: float) -> float:
    """sum (d_x - r d_y)^2."""
    return _above_rounding(m[2, 0] - 2 * ratio * m[1, 1] + ratio * ratio * m[0, 2], m[2, 0] + ratio * ratio * m[0, 2])


def _errors(m: _Moments, mcse: Mcse) -> Iterator[Measured]:
    """See `measures.error_measures`."""
    n, v, s2 = m.n, m.y, m.variance
    modelse, empse = _root(v), _root(s2)
    modelse_error = _ratio(m.error(m[0, 2]), 2 * modelse)
    ratio, c = _ratio(modelse, empse), m.jackknife
    if mcse == "morris":
        term = 1 / (2 * (n - 1)) if n > 1 else NAN
        relative = _root(_ratio(modelse_error * modelse_error, v) + term)
    elif v > 0 and s2 > 0:
        own, other = m[0, 2] / (4 * v * v), c * c * m.fourth / (4 * s2 * s2)
        relative = m.error(_above_rounding(own - c * m[2, 1] / (2 * v * s2) + other, own + other))
    else:
        relative = NAN
    yield Measured("modelse", modelse, modelse_error, n)
    yield Measured("relerror", 100 * (ratio - 1), 100 * ratio * relative, n)


def _exaggeration(values: Array) -> Measured:
    """type_m."""
    own = len(values) == KINDS["means"].width
    size = _Moments.of(values, "means" if own else "mean")
    if not own:
        return Measured("type_m", size.x, size.error(size[2, 0]), size.n)
    ratio = _ratio(size.x, size.y)
    return Measured("type_m", ratio, _ratio(size.error(_off(size, ratio)), size.y), size.n)


def _precision(m: _Moments, mcse: Mcse) -> Measured:
    """See `measures.relative_precision`."""
    more = _ratio(2 * m[1, 1] + m[0, 2], m[2, 0])
    reference = m[2, 0] + 2 * m[1, 1] + m[0, 2]
    if mcse == "morris":
        both = m[2, 0] * m[0, 2]
        unshared = _ratio(_above_rounding(both - m[1, 1] * m[1, 1], both), m[2, 0] * reference)
        known = m.n > 1 and unshared == unshared
        error = 200 * (1 + more) * math.sqrt(max(unshared, 0.0) / (m.n - 1)) if known else NAN
    elif m.n > 2 and m.variance > 0:
        squares = more * more * m[4, 0] - 4 * more * m[3, 1] + (4 - 2 * more) * m[2, 2] + 4 * m[1, 3] + m[0, 4]
        squares = _above_rounding(squares, more * more * m[4, 0] + 4 * m[2, 2] + m[0, 4])
        error = 100 * m.error(m.jackknife**2 * squares) / m.variance
    else:
        error = NAN
    return Measured("relprec", 100 * more, error, m.n)


def _proportion(measure: str, values: Array) -> Measured:
    return of_counts(measure, int(values[1]), int(values[0]))


def _above_rounding(value: float, scale: float) -> float:
    """0 instead of a sum of squares that is the rounding of its terms."""
    return 0.0 if value <= _ROUNDING * scale else value


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else NAN


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else NAN
