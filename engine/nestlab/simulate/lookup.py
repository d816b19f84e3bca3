"""Compiled look-ups of what a standard normal deviate becomes: by a table of cubics, or by steps."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .compiled import compiled

__all__ = ["REACH", "look_up", "step", "value_at"]

Array = NDArray[np.float64]
#: Scores that tables hold: a normal deviate lies beyond them with probability 2e-19, and then takes the value at the end.
REACH = 9.0


@njit(error_model="numpy", fastmath={"contract"}, inline="always")
def value_at(cubics: Array, g: float) -> float:  # pragma: no cover
    """The table's value at score g. cubics (n, 4): coefficients of u in [0, 1), over n equal intervals of -REACH .. REACH."""
    n = cubics.shape[0]
    place = (g + REACH) * (n / (2.0 * REACH))
    place = min(max(place, 0.0), n * (1.0 - 1e-15))
    i = int(place)
    u = place - i
    value: float = cubics[i, 0] + u * (cubics[i, 1] + u * (cubics[i, 2] + u * cubics[i, 3]))
    return value


@compiled(fastmath={"contract"})
def look_up(cubics: Array, mean: float, sd: float, g: Array, out: Array) -> None:  # pragma: no cover
    """out = mean + sd * table(g), elementwise; a table without intervals is the identity. g and out may be one."""
    if cubics.shape[0] == 0:
        for k in range(len(g)):
            out[k] = mean + sd * g[k]
    else:
        for k in range(len(g)):
            out[k] = mean + sd * value_at(cubics, g[k])


@compiled()
def step(thresholds: Array, levels: Array, g: Array, out: Array) -> None:  # pragma: no cover
    """out = levels[number of thresholds below g], elementwise. thresholds (k) ascending, levels (k + 1). g and out may be one."""
    for m in range(len(g)):
        low, high = 0, len(thresholds)
        while low < high:
            middle = (low + high) // 2
            if thresholds[middle] < g[m]:
                low = middle + 1
            else:
                high = middle
        out[m] = levels[low]
