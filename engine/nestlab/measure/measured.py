"""What is found of one measure, as the readers of `spec.measures` give it."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mcse", "MeasureRow", "Measured", "of_counts", "proportion"]

Mcse: TypeAlias = Literal["distribution-free", "morris"]


class Measured(NamedTuple):
    """One measure: value, MCSE (both nan where undetermined), replicates used, and the count behind a proportion."""

    measure: str
    value: float
    mcse: float
    n: int
    successes: float = math.nan


class MeasureRow(NamedTuple):
    """One measure of one method, before it stands in a table."""

    method: str
    estimand: str
    subset: str
    measured: Measured
    missing: int | None


def of_counts(measure: str, k: int, n: int) -> Measured:
    """The share c of n replicates of which k are hits, with sqrt(c (1 - c)/n)."""
    if n == 0:
        return Measured(measure, math.nan, math.nan, 0, 0)
    return Measured(measure, k / n, math.sqrt(k * (n - k) / n) / n, n, k)


def proportion(measure: str, hits: NDArray[Any], among: NDArray[np.bool_]) -> Measured:
    """The share of hits among some replicates; both (R,)."""
    return of_counts(measure, int(np.count_nonzero(hits & among)), int(np.count_nonzero(among)))
