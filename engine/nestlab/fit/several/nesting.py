"""Which factor lies within which, and between-within degrees of freedom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .products import FactorColumns

__all__ = ["CONTAINED", "Nesting", "between_within_df", "container_of"]

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


@dataclass(frozen=True)
class Nesting:
    """What between-within degrees of freedom need to know of a data set.

    levels, containers: of each factor, see `container_of`. inside: of each random column (factor, its number there) for each
    fixed effect whether it is a multiple, constant within the factor's levels. alike: the factors that have a random column
    of which this one is such a multiple.
    """

    rows: int
    levels: tuple[int, ...]
    containers: tuple[int | None, ...]
    inside: Mapping[tuple[int, int], Sequence[bool] | NDArray[np.bool_]]
    alike: Mapping[tuple[int, int], frozenset[int]]

    def degrees_of_freedom(self) -> Array:
        """(p), see `between_within_df`."""
        levels = {
            (f, c): self.levels[f]
            - (self.levels[outer] if (outer := self.containers[f]) is not None and outer in self.alike[f, c] else 0)
            for f, c in self.inside
        }
        p = len(next(iter(self.inside.values())))
        judged = [
            min((at for at, own in self.inside.items() if own[k]), key=lambda at: levels[at], default=None)
            for k in range(p)
        ]
        finest = [f for f in range(len(self.levels)) if f not in self.containers]
        explained = sum(self.levels[f] for f in finest) - (len(finest) - 1)
        found = np.array(
            [(self.rows - explained if at is None else levels[at]) - judged.count(at) for at in judged], dtype=float
        )
        found[found <= 0] = np.nan
        return found


def between_within_df(factors: Sequence[FactorColumns], X: Array, rows: int | None = None) -> Array:
    """(p): between-within degrees of freedom (Schluchter & Elashoff 1990), extended to several factors.

    A fixed effect that is a multiple of a random column, the multiple constant within the levels of the column's factor, is
    judged on those levels; of several such columns, on the one that has fewest degrees of freedom. These are the factor's
    levels, less the levels of the factor in which they lie if this has the same column (their means are estimated there), less
    the number of effects that are judged there. Effects of no random column are judged on the rows: rows less what the levels
    of all factors can explain (of crossed factors one degree of freedom is shared), less the number of these effects. nan where
    none is left. rows: their number, where those of X and of the factors are fewer with the same products.
    """
    places = [(f, c) for f, factor in enumerate(factors) for c in range(factor.q)]
    containers = tuple(container_of(factors, f) for f in range(len(factors)))

    def alike(f: int, c: int) -> frozenset[int]:
        outer = containers[f]
        if outer is None:
            return frozenset()
        z = factors[f].Z[:, c]
        return frozenset([outer] if any(_is_multiple(z, factors[outer], d) for d in range(factors[outer].q)) else [])

    inside = {(f, c): [_is_multiple(x, factors[f], c) for x in X.T] for f, c in places}
    return Nesting(
        rows or len(X), tuple(f.levels for f in factors), containers, inside, {place: alike(*place) for place in places}
    ).degrees_of_freedom()


def _is_multiple(x: Array, factor: FactorColumns, column: int) -> bool:
    """Whether x is a multiple of a random column, constant within levels."""
    z = factor.Z[:, column]
    zz, xz, xx = (np.bincount(factor.codes, w, factor.levels) for w in (z * z, x * z, x * x))
    explained = np.divide(xz**2, zz, out=np.zeros_like(zz), where=zz > 0)
    return bool(np.all(xx - explained <= CONTAINED * np.maximum(xx, 1e-300)))
