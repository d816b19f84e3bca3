"""The two readers of the rows of `spec.measures`: columns of N replicates, and sums of them that were merged.

Either gives the moments of a quantity, and sum psi^2 of what has some slope by them (`spec.dual`). With d, e the deviations
of x and y from their means, c = N/(N - 2), the influences are

    mean x, mean y    d,  e
    variance of x     c (d^2 - mean d^2), the jackknife's
    gain              c (2 d e + e^2 - its mean), of the variance of x + y less that of x

Columns hold them; from the co-moments M_pq = sum d^p e^q their products follow: M_20, M_11, M_02 of the means, c M_30 and c
M_21 of these with the variance, and of variance and gain c^2 (M_40 - M_20^2/N), c^2 (2 M_31 + M_22 - M_20 W/N) and c^2 (4
M_22 + 4 M_13 + M_04 - W^2/N), where W = 2 M_11 + M_02.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..spec.dual import Slope
from ..spec.measures import MEASURES, QUANTITIES, Measure, QuantityMoments
from .measured import Mcse, Measured
from .quantities import Mask, Quantity, at
from .sums import KINDS

__all__ = ["CentredColumn", "ColumnMoments", "SummedMoments", "measured", "rows_of", "standard_error"]

Array: TypeAlias = NDArray[np.float64]
NAN = math.nan
#: A sum of squares below this share of its terms is rounding.
_ROUNDING = 1e-13
_ROWS_OF = {of: [row for row in MEASURES.values() if row.of == of] for of in QUANTITIES}


def rows_of(quantity: Quantity) -> Sequence[Measure]:
    """The measures of a quantity."""
    return [row for name in quantity.serves for row in _ROWS_OF[name]] if quantity.serves else _ROWS_OF[quantity.name]


def measured(row: Measure, of: ColumnMoments | SummedMoments, mcse: Mcse) -> Measured | None:
    """A smooth measure with its MCSE; None where there is no such measure."""
    assert row.value is not None
    moments = of.moments
    if not row.exists(moments):
        return None
    found = row.value(moments)
    morris = mcse == "morris" and row.morris is not None
    error = row.morris(moments) if morris and row.morris is not None else _error(of.squares(found.slope), of.n)
    return Measured(row.name, found.value, error, of.n)


def standard_error(influence: Array) -> float:
    """sqrt(sum psi_i^2 / (N (N - 1))); nan below two values."""
    return _error(_squares(influence), influence.size)


def _error(squares: float, n: int) -> float:
    return math.sqrt(squares / n / (n - 1)) if n > 1 and squares >= 0 else NAN


def _sum(values: Array) -> float:
    return float(values.sum())


def _squares(values: Array) -> float:
    return float(np.einsum("i,i->", values, values))


class CentredColumn:
    """A column of the replicates of a mask, with its mean and the deviations from it.

    Deviations are taken from one of the values first: those of a constant column are exactly 0, not an ulp.
    """

    def __init__(self, source: NDArray[Any], mask: Mask) -> None:
        self.source, self.mask = source, mask
        self.values: Array = at(mask, source)
        self.mean, self.deviation = NAN, self.values
        if self.values.size:
            shift = self.values[0]
            self.deviation = self.values - shift
            offset = _sum(self.deviation) / self.values.size
            self.deviation -= offset
            self.mean = float(shift) + offset
        self.squares = _squares(self.deviation)

    def holds(self, source: NDArray[Any], mask: Mask) -> bool:
        """Whether it is this one."""
        return source is self.source and (mask is self.mask or bool((mask == self.mask).all()))

    @cached_property
    def of_variance(self) -> Array:
        """psi of the variance, but for the jackknife's N/(N - 2)."""
        square = self.deviation * self.deviation
        square -= self.squares / square.size
        return square


class ColumnMoments:
    """The columns of one quantity in the N replicates of a mask. known: a column that may be wanted again."""

    def __init__(self, quantity: Quantity, mask: Mask, known: CentredColumn | None = None) -> None:
        mask = mask if quantity.within is None else mask & quantity.within
        again = known is not None and known.holds(quantity.x, mask)
        self.column = known if known is not None and again else CentredColumn(quantity.x, mask)
        self._y = None if quantity.y is None else CentredColumn(quantity.y, mask)
        self.x, self.mean, self.deviation = self.column.values, self.column.mean, self.column.deviation
        self.n = self.x.size
        self.more: Sequence[Array] = [at(mask, column) for column in quantity.more]
        mean_y = NAN if self._y is None else self._y.mean
        self.moments = QuantityMoments(self.n, self.mean, mean_y, quantity.truth, self.comoment, self._crossed)

    @cached_property
    def ordered(self) -> Array:
        """x, sorted: faster than `np.partition` to the four places that a median's error needs."""
        return np.sort(self.x)

    def comoment(self, p: int, q: int) -> float:
        """M_pq."""
        if (p, q) == (2, 0):
            return self.column.squares
        return _sum(reduce(np.multiply, [self.deviation] * p + [self._e] * q))

    def _crossed(self) -> float:
        return _sum(self._cross)

    def _influence(self, k: int) -> Array:
        """psi of one of the four moments, but for the jackknife's N/(N - 2)."""
        if k == 0:
            return self.deviation
        if k == 2:
            return self.column.of_variance
        return self._e if k == 1 else self._cross - _sum(self._cross) / self.n

    @property
    def _e(self) -> Array:
        assert self._y is not None
        return self._y.deviation

    @cached_property
    def _cross(self) -> Array:
        """2 d e + e^2, of which the gain is the sum."""
        d, e = self.deviation, self._e
        return np.asarray((d + d + e) * e)

    def influence(self, slope: Slope) -> Array:
        """psi, (N,), of what has this slope."""
        jackknife = self.n / (self.n - 2) if self.n > 2 else NAN
        total = None
        for k, by in enumerate(slope):
            if by != 0:
                weight = by if k < 2 else by * jackknife
                if not math.isfinite(weight):
                    return np.full(self.n, NAN)
                part = weight * self._influence(k)
                total = part if total is None else np.add(total, part, out=total)
        return np.zeros(self.n) if total is None else total

    def squares(self, slope: Slope) -> float:
        """sum psi^2 of what has this slope."""
        by_x, by_y, *others = slope
        if others != [0, 0] or (by_x != 0 and by_y != 0):
            return _squares(self.influence(slope))
        return by_x * by_x * self.column.squares if self._y is None or by_y == 0 else by_y * by_y * self._y.squares


class SummedMoments:
    """The numbers that `sums.py` keeps of one quantity. truth: the one truth, or None where replicates have their own."""

    def __init__(self, values: Array, kind: str, truth: float | None) -> None:
        numbers = [float(v) for v in values]
        self.n, n = int(numbers[0]), numbers[0]
        x, y = (numbers[1] + numbers[3], numbers[2] + numbers[4]) if n else (NAN, NAN)
        self._sums = dict(zip(KINDS[kind].moments, numbers[5:], strict=True))
        self.moments = QuantityMoments(self.n, x, y, truth, self.comoment, self._cross)

    def comoment(self, p: int, q: int) -> float:
        return self._sums[p, q]

    def _cross(self) -> float:
        return 2 * self._sums[1, 1] + self._sums[0, 2]

    def squares(self, slope: Slope) -> float:
        """sum psi^2 of what has this slope, 0 where it is rounding."""
        if not all(map(math.isfinite, slope)):
            return NAN
        by = [k for k in range(4) if slope[k] != 0]
        own = sum(slope[k] * slope[k] * self._product(k, k) for k in by)
        cross = sum(2 * slope[k] * slope[j] * self._product(k, j) for k in by for j in by if k < j)
        return _above_rounding(own + cross, own)

    def _product(self, k: int, j: int) -> float:
        """sum psi_k psi_j of two of the four moments, k <= j."""
        m, n = self._sums, self.n
        c = n / (n - 2) if n > 2 else NAN
        if j < 2:
            return m[2 - k - j, k + j]
        if k < 2:
            return c * m[3 - k, k]
        gain = self._cross() if j == 3 else 0.0
        if k == 3:
            fourth = 4 * m[2, 2] + 4 * m[1, 3] + m[0, 4]
            return c * c * _above_rounding(fourth - gain * gain / n, 4 * m[2, 2] + m[0, 4])
        if j == 3:
            return c * c * (2 * m[3, 1] + m[2, 2] - m[2, 0] * gain / n)
        return c * c * _above_rounding(m[4, 0] - m[2, 0] * m[2, 0] / n, m[4, 0])


def _above_rounding(value: float, scale: float) -> float:
    """0 instead of a sum of squares that is the rounding of its terms."""
    return 0.0 if value <= _ROUNDING * scale else value
