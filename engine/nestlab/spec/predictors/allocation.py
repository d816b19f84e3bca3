"""Allocation by shares: which category each unit of a row takes, so that every beginning of the row has about the shares.

The i-th unit of a category with share s has the priority (i - 1/2) / s, and units are handed out in the order of priorities: the
divisor method of Webster and Sainte-Lague. A row of n units has exactly n s of each category wherever these are whole numbers,
and one more unit takes none away from a category (M. L. Balinski and H. P. Young 1982, Fair Representation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_TURNS", "allotted", "arm_counts", "whole_at"]

Integers = NDArray[np.int64]
#: The longest round of units after which shares, or sequences in turn, are as stated that a search keeps to.
MOST_TURNS = 12


def allotted(shares: Sequence[float], n: int) -> Integers:
    """(n): the category, 0, 1, ..., of each of n units in turn.

    >>> allotted((0.5, 0.5), 5).tolist(), allotted((2 / 3, 1 / 3), 6).tolist()
    ([0, 1, 0, 1, 0], [0, 1, 0, 0, 1, 0])
    """
    found = _allotted(tuple(shares), n)
    return found.copy()


@lru_cache(maxsize=256)
def _allotted(shares: tuple[float, ...], n: int) -> Integers:
    counts = [min(n, int(share * n) + len(shares) + 1) for share in shares]
    priority = np.concatenate([(np.arange(count) + 0.5) / share for count, share in zip(counts, shares, strict=True)])
    categories = np.repeat(np.arange(len(shares)), counts)
    digits = np.round(priority, 9)  # equal ones are equal whatever their last digits
    return np.asarray(categories[np.lexsort((categories, digits))][:n], dtype=np.int64)


def arm_counts(shares: Sequence[float], clusters: int) -> tuple[int, ...]:
    """How many clusters each arm has.

    >>> arm_counts((1 / 3, 1 / 3, 1 / 3), 31), arm_counts((0.9, 0.1), 40)
    ((11, 10, 10), (36, 4))
    """
    return tuple(np.bincount(allotted(shares, clusters), minlength=len(shares)).tolist())


def whole_at(shares: Sequence[float]) -> int:
    """The least number of units that can have exactly these shares; 1 where it is above MOST_TURNS.

    >>> whole_at((2 / 3, 1 / 3)), whole_at((0.6, 0.4)), whole_at((0.905, 0.095))
    (3, 5, 1)
    """
    found = math.lcm(*(Fraction(share).limit_denominator(MOST_TURNS).denominator for share in shares))
    exact = all(abs(share * found - round(share * found)) < 1e-6 for share in shares)
    return found if exact and found <= MOST_TURNS else 1
