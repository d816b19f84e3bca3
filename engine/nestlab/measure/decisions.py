"""Whether the test of each replicate rejects: by its p value, by t on one side or both, or by two one-sided tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..spec.measures import Array, Mask
from .intervals import critical_values
from .results import Estimates, MethodResults

__all__ = ["Decisions", "decide", "reject_all"]


class Decisions(NamedTuple):
    """rejects: (R,), of no meaning where not known; known: (R,) where there is a test."""

    rejects: Mask
    known: Mask


def reject_all(method: MethodResults, estimands: Sequence[str]) -> Decisions:
    """Whether the tests of all the estimands reject, replicate by replicate; known where the fit converged and all of them are.

    Raises KeyError for an estimand that the method does not test.
    """
    rejects, known = np.ones(len(method.replicate), dtype=bool), np.array(method.converged)
    for name in estimands:
        decided = decide(method.estimands[name], None, method.alpha)
        if decided is None:
            raise KeyError(name)
        rejects &= decided.rejects
        known &= decided.known
    return Decisions(rejects & known, known)


def decide(part: Estimates, half: Array | None, alpha: float) -> Decisions | None:
    """The decisions of one estimand's tests at level alpha; None if it has none.

    half: (R,) half-widths t_{1 - alpha/2} se where they are computed already. A test is known where p lies in [0, 1],
    else where t_{1 - alpha} se (two-sided: half) is finite.
    """
    if part.p is not None:
        p = np.asarray(part.p, dtype=np.float64)
        return Decisions(p <= alpha, (p >= 0) & (p <= 1))
    if part.estimate is None or part.se is None or part.df is None:
        return None
    x, se = np.asarray(part.estimate, dtype=np.float64), np.asarray(part.se, dtype=np.float64)
    two_sided = part.alternative == "two-sided" and part.equivalence is None
    known_half = half if two_sided else None
    reach = critical_values(part.df, alpha, sides=2 if two_sided else 1) * se if known_half is None else known_half
    return Decisions(_beyond(part, x, reach), np.isfinite(reach))


def _beyond(part: Estimates, x: Array, reach: Array) -> Mask:
    if part.equivalence is not None:
        low, high = part.equivalence
        return (x - low > reach) & (high - x > reach)
    if part.alternative == "greater":
        return x - part.null > reach
    if part.alternative == "less":
        return part.null - x > reach
    return np.abs(x - part.null) > reach
