"""Numbers with their derivatives: a measure that is written once has its Monte Carlo standard error too.

A measure is a smooth function of four numbers of N replicates: the means of two columns x and y, the variance of x, and how much
larger the variance of x + y is. A `Dual` holds a value and its derivatives by these four; arithmetic carries both (forward
differentiation, Griewank and Walther 2008, Evaluating Derivatives, ch. 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["NONE", "Dual", "Slope"]

#: Derivatives by mean x, mean y, the variance of x, and that of x + y less that of x.
Slope: TypeAlias = tuple[float, float, float, float]
NONE: Slope = (0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class Dual:
    """A value and its slope; both are nan where there is no value, the slope alone where a root has none.

    >>> variance = Dual(4.0, (0.0, 0.0, 1.0, 0.0))
    >>> variance.sqrt()
    Dual(value=2.0, slope=(0.0, 0.0, 0.25, 0.0))
    >>> (100 * (variance / 2 - 1)).value
    100.0
    """

    value: float
    slope: Slope = NONE

    def __add__(self, other: Dual | float) -> Dual:
        if isinstance(other, Dual):
            return _joined(self.value + other.value, 1.0, self.slope, 1.0, other.slope)
        return Dual(self.value + other, self.slope)

    def __sub__(self, other: Dual | float) -> Dual:
        return self + -1.0 * other

    def __mul__(self, other: Dual | float) -> Dual:
        by = other if isinstance(other, Dual) else Dual(other)
        return _joined(self.value * by.value, by.value, self.slope, self.value, by.slope)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Dual | float) -> Dual:
        by = other if isinstance(other, Dual) else Dual(other)
        if by.value == 0:
            return Dual(math.nan, (math.nan,) * 4)
        ratio = self.value / by.value
        return _joined(ratio, 1 / by.value, self.slope, -ratio / by.value, by.slope)

    def sqrt(self) -> Dual:
        if not self.value > 0:
            return Dual(0.0 if self.value == 0 else math.nan, (math.nan,) * 4)
        root = math.sqrt(self.value)
        return _joined(root, 0.5 / root, self.slope, 0.0, NONE)


def _joined(value: float, p: float, one: Slope, q: float, two: Slope) -> Dual:
    """With the slope p one + q two."""
    if two is NONE:
        a, b, c, d = one
        return Dual(value, (p * a, p * b, p * c, p * d))
    (a, b, c, d), (e, f, g, h) = one, two
    return Dual(value, (p * a + q * e, p * b + q * f, p * c + q * g, p * d + q * h))
