"""The moments that measures are functions of, from columns of N replicates and from sums of them that were merged.

With d, e the deviations of x and y from their means and W = sum (2 d e + e^2), the influences on the mean of x, the mean of y,
the variance of x, and the gain (the variance of x + y less that of x) are r_k, of the latter two times the jackknife's N/(N - 2):

    d,    e,    d^2 - mean d^2,    2 d e + e^2 - W/N,

so that sum psi^2 of what has some slope by these four (`spec.dual`) follows from the inner products r_j'r_k. Sums have them by
their co-moments M_pq = sum d^p e^q: M_20, M_11, M_02 of the means, M_30, M_21 of these with the variance, and of variance and
gain M_40 - M_20^2/N, 2 M_31 + M_22 - M_20 W/N, 4 M_22 + 4 M_13 + M_04 - W^2/N. Only differences of methods need psi itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.dual import Slope
from ..spec.measures import MEASURES, QUANTITIES, Array, Mask, Measure, QuantityMoments
from .measured import Mcse, Measured
from .quantities import Quantity, at
from .sums import KINDS

__all__ = ["CentredColumn", "ColumnMoments", "measured", "of_sums", "rows_of", "standard_error"]

NAN = math.nan
#: A sum of squares below this share of its terms is rounding.
_ROUNDING = 1e-13
_ROWS_OF = {of: [row for row in MEASURES.values() if row.of == of] for of in QUANTITIES}


def rows_of(quantity: Quantity) -> Sequence[Measure]:
    """The measures of a quantity."""
    return [row for name in quantity.serves for row in _ROWS_OF[name]] if quantity.serves else _ROWS_OF[quantity.name]


def measured(row: Measure, moments: QuantityMoments, mcse: Mcse) -> Measured | None:
    """A smooth measure with its MCSE; None where there is no such measure."""
    assert row.value is not None
    if not row.exists(moments):
        return None
    found, n = row.value(moments), moments.n
    if mcse == "morris" and row.morris is not None:
        return Measured(row.name, found.value, row.morris(moments), n)
    return Measured(row.name, found.value, _error(_squares(moments, found.slope), n), n)


def standard_error(influence: Array) -> float:
    """sqrt(sum psi_i^2 / (N (N - 1))); nan below two values."""
    return _error(_dot(influence, influence), influence.size)


def _error(squares: float, n: int) -> float:
    return math.sqrt(squares / n / (n - 1)) if n > 1 and squares >= 0 else NAN


def _dot(a: Array, b: Array) -> float:
    """Not by BLAS, whose last digits depend on the number of its threads."""
    return float(np.einsum("i,i->", a, b))


def _weights(slope: Slope, n: int) -> list[tuple[int, float]] | None:
    """(k, weight) of the r_k that count in psi; None where psi is not determined."""
    x, y, variance, gain = slope
    if variance or gain:
        jackknife = n / (n - 2) if n > 2 else NAN
        variance, gain = variance * jackknife, gain * jackknife
    if not math.isfinite(x + y + variance + gain):
        return None
    return [each for each in enumerate((x, y, variance, gain)) if each[1]]


def _squares(m: QuantityMoments, slope: Slope) -> float:
    """sum psi^2, 0 where it is rounding."""
    own = cross = 0.0
    if (weights := _weights(slope, m.n)) is None:
        return NAN
    for place, (k, by) in enumerate(weights):
        own += by * by * m.dot(k, k)
        for j, other in weights[:place]:
            cross += 2 * by * other * m.dot(j, k)
    return _above_rounding(own + cross, own)


def _above_rounding(value: float, scale: float) -> float:
    """0 instead of a sum of squares that is the rounding of its terms."""
    return 0.0 if value <= _ROUNDING * scale else value


def _about_mean(values: Array) -> Array:
    values -= np.add.reduce(values) / values.size if values.size else 0.0
    return values


class CentredColumn:
    """A column of the replicates of a mask, with its mean and the deviations from it.

    Deviations are taken from one of the values first: those of a constant column are exactly 0, not an ulp.
    """

    def __init__(self, source: NDArray[Any], mask: Mask) -> None:
        self.source, self.mask = source, mask
        self.values: Array = at(mask, source)
        self.mean, self.deviation = NAN, self.values
        self.dots: dict[tuple[int, int], float] = {}
        if self.values.size:
            shift = float(self.values[0])
            self.deviation = self.values - shift
            offset = float(np.add.reduce(self.deviation)) / self.values.size
            self.deviation -= offset
            self.mean = shift + offset

    @cached_property
    def square(self) -> Array:
        """d^2 less its mean."""
        return _about_mean(self.deviation * self.deviation)

    def holds(self, source: NDArray[Any], mask: Mask) -> bool:
        """Whether it is this one."""
        return source is self.source and (mask is self.mask or bool((mask == self.mask).all()))


class ColumnMoments:
    """The columns of one quantity in the N replicates of a mask. known: keeps the first column made, to be used again."""

    def __init__(self, quantity: Quantity, mask: Mask, known: list[CentredColumn]) -> None:
        mask = mask if quantity.within is None else mask & quantity.within
        again = known and known[0].holds(quantity.x, mask)
        self._column = known[0] if again else CentredColumn(quantity.x, mask)
        if not known:
            known.append(self._column)
        self._y = None if quantity.y is None else CentredColumn(quantity.y, mask)
        self.x, self.mean, self.deviation = self._column.values, self._column.mean, self._column.deviation
        self.n = self.x.size
        self.more: Sequence[Array] = [at(mask, column) for column in quantity.more]
        self._dots: dict[tuple[int, int], float] = {}
        mean_y = NAN if self._y is None else self._y.mean
        self.moments = QuantityMoments(self.n, self.mean, mean_y, quantity.truth, self._inner)

    @cached_property
    def ordered(self) -> Array:
        """x, sorted: faster than `np.partition` to the four places that a median's error needs."""
        return np.sort(self.x)

    def influence(self, slope: Slope) -> Array:
        """psi, (N,), of what has this slope."""
        if (weights := _weights(slope, self.n)) is None:
            return np.full(self.n, NAN)
        parts = [by * self._r(k) for k, by in weights]
        return sum(parts[1:], parts[0]) if parts else np.zeros(self.n)

    def _inner(self, j: int, k: int) -> float:
        known = self._dots if j % 2 or k % 2 else self._column.dots  # without y
        if (j, k) not in known:
            known[j, k] = _dot(self._r(j), self._r(k))
        return known[j, k]

    def _r(self, k: int) -> Array:
        if k % 2 == 0:
            return self._column.square if k else self.deviation
        assert self._y is not None
        return self._cross if k == 3 else self._y.deviation

    @cached_property
    def _cross(self) -> Array:
        assert self._y is not None
        d, e = self.deviation, self._y.deviation
        return _about_mean((d + d + e) * e)


#: Of d and e in the first three r.
_EXPONENTS = ((1, 0), (0, 1), (2, 0))


def of_sums(values: Array, kind: str, truth: float | None) -> QuantityMoments:
    """The moments that `sums.py` keeps of one quantity. truth: the one truth, or None where replicates have their own."""
    n, *means = (float(v) for v in values[:5])
    x, y = (means[0] + means[2], means[1] + means[3]) if n else (NAN, NAN)
    m: dict[tuple[int, int], float] = dict(zip(KINDS[kind].moments, values[5:].tolist(), strict=True))

    def inner(j: int, k: int) -> float:
        if k < 2 or j < 2:
            (p, q), (s, t) = _EXPONENTS[j], _EXPONENTS[k]
            return m[p + s, q + t]
        if k == 2:
            return _above_rounding(m[4, 0] - m[2, 0] * m[2, 0] / n, m[4, 0])
        gain = 2 * m[1, 1] + m[0, 2]
        if j == 2:
            return 2 * m[3, 1] + m[2, 2] - m[2, 0] * gain / n
        return _above_rounding(4 * m[2, 2] + 4 * m[1, 3] + m[0, 4] - gain * gain / n, 4 * m[2, 2] + m[0, 4])

    return QuantityMoments(int(n), x, y, truth, inner)
