"""Which factor lies within which, and between-within degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .products import FactorColumns

__all__ = ["between_within_df", "container_of"]

Array = NDArray[np.float64]

#: What a fixed effect leaves beside a multiple of a random column, level by level, of its sum of squares: rounding.
CONTAINED = 1e-10


def container_of(factors: Sequence[FactorColumns], f: int) -> int | None:
    """The factor with most levels in which those of factor f lie, each within one; None if there is none."""
    inner, found = factors[f], []
    for g, outer in enumerate(factors):
        if outer.levels < inner.levels:
            used = len(np.unique(inner.codes * outer.levels + outer.codes))
            if used == inner.levels:
                found.append((outer.levels, g))
    return max(found)[1] if found else None


def between_within_df(factors: Sequence[FactorColumns], X: Array, rows: int | None = None) -> Array:
    """(p): between-within degrees of freedom (Schluchter & Elashoff 1990), extended to several factors.

    A fixed effect that is a multiple of a random column, the multiple constant within the levels of the column's factor, is
    judged on those levels; of several such columns, on the one that has fewest degrees of freedom. These are the factor's
    levels, less the levels of the factor in which they lie if this has the same column (their means are estimated there), less
    the number of effects that are judged there. Effects of no random column are judged on the rows: rows less what the levels
    of all factors can explain (of crossed factors one degree of freedom is shared), less the number of these effects. nan where
    none is left. rows: their number, where those of X and of the factors are fewer with the same products.
    """
    N, p = X.shape
    places = [(f, c) for f, factor in enumerate(factors) for c in range(factor.q)]
    inside = {place: [_is_multiple(X[:, k], factors[place[0]], place[1]) for k in range(p)] for place in places}
    levels = {}
    for f, c in places:
        outer = container_of(factors, f)
        shared = outer is not None and any(
            _is_multiple(factors[f].Z[:, c], factors[outer], d) for d in range(factors[outer].q)
        )
        levels[f, c] = factors[f].levels - (factors[outer].levels if outer is not None and shared else 0)
    judged = [
        min((place for place in places if inside[place][k]), key=lambda place: levels[place], default=None)
        for k in range(p)
    ]
    finest = [f for f in range(len(factors)) if not any(container_of(factors, g) == f for g in range(len(factors)))]
    explained = sum(factors[f].levels for f in finest) - (len(finest) - 1)
    found = np.array(
        [((rows or N) - explained if at is None else levels[at]) - judged.count(at) for at in judged], dtype=float
    )
    found[found <= 0] = np.nan
    return found


def _is_multiple(x: Array, factor: FactorColumns, column: int) -> bool:
    """Whether x is a multiple of a random column, constant within levels."""
    z = factor.Z[:, column]
    zz, xz, xx = (np.bincount(factor.codes, w, factor.levels) for w in (z * z, x * z, x * x))
    explained = np.divide(xz**2, zz, out=np.zeros_like(zz), where=zz > 0)
    return bool(np.all(xx - explained <= CONTAINED * np.maximum(xx, 1e-300)))
