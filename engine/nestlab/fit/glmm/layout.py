"""The random effects of a model by grouping factor, and the elimination of H = I + L'Z'W Z L.

With one factor H falls into a q x q block per level. With several, the factor that has most levels is eliminated by its blocks D
first, and what is left of the others, E - C'D^-1 C, is one dense matrix of their order r. Of H^-1 only what rows touch is ever
needed: for row i the products of its blocks with the row's own random columns.

A batch of B parameter vectors is worked on at once. Arrays of rows are (N, B, ...), those of effects (levels, B, q) by factor,
and the factors L (B, q, q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..several.products import FactorColumns

__all__ = ["EffectsLayout", "Elimination", "lower_times", "times"]

Array = NDArray[np.float64]
Effects = list[Array]
Indicators = Any  # a matrix of 0 and 1, dense or sparse

#: Entries of such a matrix up to which its products are faster dense.
DENSE = 30_000


@dataclass(frozen=True)
class EffectsLayout:
    """The grouping factors of a model, the one that has most random effects first."""

    factors: tuple[FactorColumns, ...]

    @property
    def rows(self) -> int:
        return len(self.factors[0].codes)

    @property
    def orders(self) -> tuple[int, ...]:
        """The number of random effects of each factor."""
        return tuple(f.levels * f.q for f in self.factors)

    @cached_property
    def entries(self) -> list[tuple[int, int, int]]:
        """(factor, a, b) of the free entries of L, term by term, each by columns: lme4's theta."""
        found = []
        for f, factor in enumerate(self.factors):
            start = 0
            for size in factor.sizes:
                found += [(f, start + a, start + b) for b in range(size) for a in range(b, size)]
                start += size
        return found

    @cached_property
    def sums(self) -> list[Indicators]:
        """By factor, the indicators (levels, N) whose products with rows are sums over levels."""
        return [_indicator(f.codes, f.levels) for f in self.factors]

    @cached_property
    def units(self) -> Indicators:
        """The indicators of what has random effects of its own: the levels of one factor, or all rows of several."""
        if len(self.factors) == 1:
            return self.sums[0]
        return _indicator(np.zeros(self.rows, dtype=np.int64), 1)

    @cached_property
    def squares(self) -> list[Array]:
        """By factor the products (N, q q) of a row's own random columns."""
        return [(f.Z[:, :, None] * f.Z[:, None, :]).reshape(len(f.Z), -1) for f in self.factors]

    @cached_property
    def crossings(self) -> dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64], Indicators, Array]]:
        """For factors f < g: the pairs of levels that occur (two arrays), their indicators, and products (N, q_f q_g)."""
        found = {}
        for f, one in enumerate(self.factors):
            for g in range(f + 1, len(self.factors)):
                other = self.factors[g]
                keys, codes = np.unique(one.codes * other.levels + other.codes, return_inverse=True)
                products = (one.Z[:, :, None] * other.Z[:, None, :]).reshape(len(one.Z), -1)
                found[f, g] = (keys // other.levels, keys % other.levels, _indicator(codes, len(keys)), products)
        return found

    def factor_matrices(self, theta: Array) -> list[Array]:
        """L (B, q, q) of each factor from theta (B, entries)."""
        found = [np.zeros((len(theta), f.q, f.q)) for f in self.factors]
        for k, (f, a, b) in enumerate(self.entries):
            found[f][:, a, b] = theta[:, k]
        return found

    def spread(self, L: Sequence[Array], effects: Effects) -> Array:
        """(N, B): sum over factors of z_i' L v of the row's level."""
        total: Array | float = 0.0
        for factor, own, v in zip(self.factors, L, effects, strict=True):
            for a in range(factor.q):  # q is small, and einsum slower
                u = sum(own[:, a, c] * v[:, :, c] for c in range(a + 1))
                total = total + np.asarray(u)[factor.codes] * factor.Z[:, a : a + 1]
        return np.asarray(total)

    def columns(self, L: Sequence[Array]) -> Effects:
        """By factor a_i = L'z_i, (N, B, q)."""
        return [lower_times(own, f.Z[:, None, :]) for f, own in zip(self.factors, L, strict=True)]

    def gather(self, rows: Array) -> Effects:
        """By factor the sums (levels, B, q) over a level's rows of z_i times rows (N, B)."""
        found = []
        for factor, sums in zip(self.factors, self.sums, strict=True):
            if factor.Z.shape[1] == 1:
                found.append((sums @ (rows * factor.Z))[:, :, None])
                continue
            products = rows[:, :, None] * factor.Z[:, None, :]
            found.append((sums @ products.reshape(len(rows), -1)).reshape(factor.levels, rows.shape[1], factor.q))
        return found

    def gather_within(self, f: int, rows: Array) -> Array:
        """Of factor f the sums (levels, B, q, q) of z_i times rows (N, B, q)."""
        factor = self.factors[f]
        products = factor.Z[:, None, :, None] * rows[:, :, None, :]
        shape = (factor.levels, rows.shape[1], factor.q, factor.q)
        return np.asarray(self.sums[f] @ products.reshape(len(rows), -1)).reshape(shape)

    def weighted_squares(self, f: int, W: Array) -> Array:
        """Z'W Z of factor f, (levels, B, q, q), from W (N, B)."""
        factor, squares = self.factors[f], self.squares[f]
        products = W * squares if factor.q == 1 else (W[:, :, None] * squares[:, None, :]).reshape(len(W), -1)
        return np.asarray(self.sums[f] @ products).reshape(factor.levels, W.shape[1], factor.q, factor.q)

    def eliminate(self, L: Sequence[Array], W: Array) -> Elimination:
        """Factor H at weights W (N, B)."""
        blocks = [_turned(own, self.weighted_squares(f, W)) + np.eye(self.factors[f].q) for f, own in enumerate(L)]
        lead = blocks[0]
        if len(self.factors) == 1:
            return Elimination(self, lead, inverse_of(lead), None, None, None)
        B = W.shape[1]
        J, q = self.factors[0].levels, self.factors[0].q
        starts = np.cumsum([0, *self.orders[1:]])
        C, E = np.zeros((B, J, q, starts[-1])), np.zeros((B, starts[-1], starts[-1]))
        for g, factor in enumerate(self.factors[1:]):
            at = starts[g] + np.arange(factor.levels * factor.q).reshape(-1, factor.q)
            E[:, at[:, :, None], at[:, None, :]] = blocks[g + 1].swapaxes(0, 1)
        for (f, g), (ones, others, indicator, products) in self.crossings.items():
            qf, qg = self.factors[f].q, self.factors[g].q
            found = (indicator @ (W[:, :, None] * products[:, None, :]).reshape(len(W), -1)).reshape(-1, B, qf, qg)
            found = (L[f].swapaxes(1, 2) @ found @ L[g]).swapaxes(0, 1)
            columns = starts[g - 1] + others[:, None] * qg + np.arange(qg)
            if f == 0:
                C[:, ones[:, None, None], np.arange(qf)[None, :, None], columns[:, None, :]] = found
            else:
                lines = starts[f - 1] + ones[:, None] * qf + np.arange(qf)
                E[:, lines[:, :, None], columns[:, None, :]] = found
                E[:, columns[:, :, None], lines[:, None, :]] = found.swapaxes(2, 3)
        inverse = inverse_of(lead)
        half = inverse.swapaxes(0, 1) @ C
        rest = E - C.reshape(B, J * q, -1).swapaxes(1, 2) @ half.reshape(B, J * q, -1)
        return Elimination(self, lead, inverse, half, rest, inverse_of(rest))


@dataclass(frozen=True)
class Elimination:
    """H, factored.

    lead, inverse (levels, B, q, q): the blocks D of the leading factor and their inverses. Where there are other factors, half
    (B, levels, q, r): D^-1 C, and rest, rest_inverse (B, r, r): the Schur complement.
    """

    layout: EffectsLayout
    lead: Array
    inverse: Array
    half: Array | None
    rest: Array | None
    rest_inverse: Array | None

    @cached_property
    def logdet(self) -> Array:
        """log|H|: (levels, B) with one factor, (1, B) with several; nan where H is not positive definite."""
        own = logdet_of(self.lead)
        if self.rest is None:
            return own
        return np.asarray(own.sum(axis=0, keepdims=True) + logdet_of(self.rest)[None])

    def solve(self, right: Effects) -> Effects:
        """H^-1 times effects."""
        if self.half is None or self.rest_inverse is None:
            return [times(self.inverse, right[0])]
        factors = self.layout.factors
        B = right[0].shape[1]
        below = np.concatenate([r.swapaxes(0, 1).reshape(B, -1) for r in right[1:]], axis=1)
        lead = factors[0]
        half = self.half.reshape(B, lead.levels * lead.q, -1)
        above = right[0].swapaxes(0, 1).reshape(B, 1, -1)
        below = below - (above @ half)[:, 0]
        solved = (self.rest_inverse @ below[:, :, None])[..., 0]
        first = (half @ solved[:, :, None]).reshape(B, lead.levels, lead.q).swapaxes(0, 1)
        found = [times(self.inverse, right[0]) - first]
        start = 0
        for factor in factors[1:]:
            stop = start + factor.levels * factor.q
            found.append(solved[:, start:stop].reshape(B, factor.levels, factor.q).swapaxes(0, 1))
            start = stop
        return found

    def rowwise(self, L: Sequence[Array]) -> Effects:
        """By factor (N, B, q): for each row i the part of H^-1 a_i at its level, a_i = L'z_i over all factors."""
        factors = self.layout.factors
        a = self.layout.columns(L)
        lead = factors[0]
        if self.half is None or self.rest_inverse is None:
            return [times(self.inverse[lead.codes], a[0])]
        B = len(self.half)
        across = self.half @ self.rest_inverse[:, None]  # -M_12
        own = self.inverse + (across @ self.half.swapaxes(2, 3)).swapaxes(0, 1)
        found: Effects = [times(own[lead.codes], a[0])]
        starts = np.cumsum([0, *self.layout.orders[1:]])
        for g, factor in enumerate(factors[1:], start=1):
            part = across[..., starts[g - 1] : starts[g]].reshape(B, lead.levels, lead.q, factor.levels, factor.q)
            touched = part[:, lead.codes, :, factor.codes]  # (N, B, q, q_g): the indices come first
            found[0] = found[0] - times(touched, a[g])
            total = -times(touched.swapaxes(2, 3), a[0])
            for h, other in enumerate(factors[1:], start=1):
                block = self.rest_inverse[:, starts[g - 1] : starts[g], starts[h - 1] : starts[h]]
                block = block.reshape(B, factor.levels, factor.q, other.levels, other.q)
                total = total + times(block[:, factor.codes, :, other.codes], a[h])
            found.append(np.asarray(total))
        return found


def inverse_of(H: Array) -> Array:
    """The inverses of small matrices."""
    return np.asarray(1.0 / H if H.shape[-1] == 1 else np.linalg.inv(H), dtype=float)


def logdet_of(H: Array) -> Array:
    """log|H|, nan where it is not positive."""
    if H.shape[-1] == 1:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.log(H[..., 0, 0]))
    sign, value = np.linalg.slogdet(H)
    return np.where(sign > 0, value, np.nan)


def times(M: Array, v: Array) -> Array:
    """Matrices (..., a, b) times vectors (..., b)."""
    if M.shape[-1] == 1 and M.shape[-2] == 1:
        return M[..., 0] * v
    return np.asarray((M @ v[..., None])[..., 0])


def lower_times(L: Array, effects: Array) -> Array:
    """L' times effects (levels, B, q)."""
    q = L.shape[-1]
    if q == 1:
        return np.asarray(effects * L[:, 0])
    return np.stack([np.asarray(sum(L[:, a, c] * effects[:, :, a] for a in range(c, q))) for c in range(q)], axis=2)


def _turned(L: Array, S: Array) -> Array:
    """L'S L, for L (B, q, q) and S (levels, B, q, q)."""
    if L.shape[-1] == 1:
        return S * (L * L)
    return np.asarray(L.swapaxes(1, 2) @ S @ L)


def _indicator(codes: NDArray[np.int64], levels: int) -> Indicators:
    N = len(codes)
    if levels * N <= DENSE:
        found = np.zeros((levels, N))
        found[codes, np.arange(N)] = 1.0
        return found
    return csr_array((np.ones(N), (codes, np.arange(N))), shape=(levels, N))
