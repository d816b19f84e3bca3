"""Which rows of complete data are never observed.

Clusters are lost as wholes, from some row on (dropout), or row by row, each by a normal score of its own, which is part of the
stream of the rest.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import special

from ..spec.model import Missing
from .compiled import compiled
from .deviates import standard_normal
from .distributions import tabulated
from .lookup import value_at

__all__ = ["lose_at_random", "observed", "rows_left"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def rows_left(missing: Missing, sizes: Integers, generator: Generator) -> Integers:
    """(J, R): how many rows of each cluster, its first ones, outlast dropout and the loss of whole clusters.

    hazard: row i is observed with probability (1 - hazard)^i; weibull: with exp(-(i / scale)^shape), i = 0, 1, ...
    """
    left = sizes.copy()
    if missing.hazard or missing.weibull is not None:
        # -log of a uniform, by the tail in which it is small
        exponential = -special.log_ndtr(standard_normal(generator, sizes.shape))
        if missing.weibull is not None:
            scale, shape = missing.weibull
            time = scale * exponential ** (1 / shape)
        else:
            time = exponential / -np.log1p(-missing.hazard) if missing.hazard < 1 else np.zeros(sizes.shape)
        left = np.minimum(left, np.minimum(time, 2.0**62).astype(np.int64) + 1)
    if missing.clusters:
        left[standard_normal(generator, sizes.shape) < special.ndtri(missing.clusters)] = 0
    return left


def observed(missing: Missing, noise: Array, column: int, left: Integers, starts: Integers) -> NDArray[np.bool_]:
    """(n): rows that neither dropout (left, of each segment) nor chance takes, by the scores noise[:, column]."""
    kept = np.empty(len(noise), dtype=np.bool_)
    _observe(noise, column, special.ndtri(missing.rows) if missing.rows else -np.inf, left, starts, kept)
    return kept


def lose_at_random(
    missing: Missing, cause: Array, noise: Array, starts: Integers, kept: NDArray[np.bool_], *, previous: bool
) -> None:
    """Rows lost with log odds intercept + slope * cause, cause (n) the row's own or, if `previous`, that of the row before it,
    so that the first row stays. kept (n) is changed; monotone: what follows a lost row is lost. By the last scores."""
    assert missing.at_random is not None
    _, intercept, slope = missing.at_random
    _lose(intercept + slope * cause, noise, _log_odds(), starts, previous, missing.monotone, kept)


@cache
def _log_odds() -> Array:
    """The table of the log odds of Phi(g)."""
    return tabulated(lambda g: special.log_ndtr(g) - special.log_ndtr(-g))


@compiled()
def _observe(
    noise: Array, column: int, threshold: float, left: Integers, starts: Integers, kept: NDArray[np.bool_]
) -> None:  # pragma: no cover
    for s in range(len(starts) - 1):
        for i in range(starts[s], starts[s + 1]):
            kept[i] = i - starts[s] < left[s]
        if threshold > -np.inf:  # without a branch a row, which chance would decide
            for i in range(starts[s], starts[s + 1]):
                kept[i] &= noise[i, column] >= threshold


@compiled()
def _lose(
    log_odds: Array, noise: Array, table: Array, starts: Integers, previous: bool, monotone: bool, kept: NDArray[np.bool_]
) -> None:  # fmt: skip  # pragma: no cover
    for s in range(len(starts) - 1):
        gone = False
        for i in range(starts[s], starts[s + 1]):
            asked = i > starts[s] or not previous
            lost = asked and value_at(table, noise[i, noise.shape[1] - 1]) < log_odds[i - previous]
            gone = lost or (gone and monotone)
            if gone:
                kept[i] = False
