"""CellStatistics of replicates drawn directly: multivariate normal C'P_s Y and Wishart rest, without rows, cells or levels.

In stratum s, of d_s degrees of freedom, Y is free of fixed effects; K_s = L L', C'P_s C = F'F with F triangular, c_s columns.
With Z (min(c_s, d_s), r) standard normal and T Bartlett's factor of a Wishart with d_s - c_s degrees of freedom, trapezoidal
where these are fewer than r,

    C'P_s Y = F'Z L',   Y'P_s Y = L (Z'Z + T'T) L'

(M. S. Bartlett 1933, Proc. R. Soc. Edinb. 53:260-283). A column that depends on others in a replicate leaves its row of Z to the
Wishart. Random effects that are not normal are drawn by level and projected, U; the rest of Y is then drawn with [C U] in place
of C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from ..compiled import compiled
from ..deviates import chi_square, standard_normal
from .cells import CellDesign, CellStatistics, gram, pair

__all__ = ["CellTruth", "TrueTerm", "draw_statistics"]

Array = NDArray[np.float64]

#: Pivot of C'P_s C over its diagonal below which a column depends on others.
PIVOT_TOLERANCE = 1e-12


@dataclass(frozen=True)
class TrueTerm:
    """Random effects of a factor (its number): columns (r0, q), combinations of D's; covariance (q, q), or (q, q, R) where
    replicates have their own."""

    factor: int
    columns: Array
    covariance: Array


@dataclass(frozen=True)
class CellTruth:
    """What is drawn: random effects of terms, normal unless their values are given, and normal errors; residual_variance: a
    number or (R)."""

    terms: tuple[TrueTerm, ...]
    residual_variance: float | Array


def draw_statistics(
    design: CellDesign, truth: CellTruth, generator: Generator, replicates: int, *,
    drawn: Mapping[int, Array] | None = None, effects: Mapping[int, Array] | None = None,
) -> CellStatistics:  # fmt: skip
    """The statistics of a block, without fixed effects (`CellStatistics.with_fixed` adds those that an analysis leaves out).

    drawn: values (levels, R or 1) of redrawn multipliers, by number. effects: random effects (levels, q, R) of terms, by number,
    that were drawn elsewhere; the others are normal. The order of the draws is part of the draw version.
    """
    effects = effects or {}
    normal = CellTruth(tuple(t for n, t in enumerate(truth.terms) if n not in effects), truth.residual_variance)
    L = _factors(_covariances(design, normal))
    found = CellStatistics.empty(design, replicates)
    if design.products is None or effects:
        tables = design.tables_of(drawn or {})
        cc = gram(design.strata, tables)
        if design.products is None:
            found.cc[...] = cc
    else:
        cc = design.products[:, :, None]
    if not effects:
        _draw(design, cc, design.present, L, generator, found.cy, found.yy)
    else:
        _draw_given(design, truth, tables, effects, L, generator, found)
    df = np.array([design.within_df])
    found.values[-1] = chi_square(generator, df, replicates)[0] * truth.residual_variance
    return found


def _covariances(design: CellDesign, truth: CellTruth) -> Array:
    """K_s (S, r, r, R or 1)."""
    eye = np.eye(design.r)[:, :, None]
    found = np.stack([eye * truth.residual_variance for _ in design.strata.strata])
    for term in truth.terms:
        Z = design.root @ np.asarray(term.columns, float) * np.sqrt(design.strata.cells_of(term.factor))
        covariance = np.asarray(term.covariance, float)
        covariance = covariance if covariance.ndim == 3 else covariance[:, :, None]
        share = np.einsum("ai,ikr,bk->abr", Z, covariance, Z)
        for s, stratum in enumerate(design.strata.strata):
            if term.factor in stratum:
                found = found + share * (np.arange(len(found)) == s)[:, None, None, None]
    return found


def _factors(K: Array) -> Array:
    """Lower factors L (S, r, r, R or 1)."""
    found = np.linalg.cholesky(np.moveaxis(K, 3, 1))
    return np.ascontiguousarray(np.moveaxis(found, 1, 3), dtype=float)


def _draw(
    design: CellDesign, cc: Array, present: NDArray[np.bool_], L: Array, generator: Generator, cy: Array, yy: Array
) -> None:
    """Fill cy (S, k, r, R) and yy (S, pairs(r), R)."""
    r, R = design.r, yy.shape[2]
    df = np.array([s.df for s in design.strata.strata])
    most = np.minimum(present.sum(axis=1), df)
    if cc.shape[2] == 1:
        _limit_to_ranks(cc, most)
    left = np.maximum((df - most)[:, None] - np.arange(r), 0)
    rows = np.minimum(df - most, r)
    above = [sum(r - 1 - e for e in range(n)) for n in rows.tolist()]
    normals = standard_normal(generator, (int(most.sum()) * r + sum(above), R))
    squares = chi_square(generator, left, R)
    _assemble(cc, L, most, rows, normals, squares, cy, yy)


def _draw_given(
    design: CellDesign, truth: CellTruth, tables: list[dict[int, Array]], effects: Mapping[int, Array], L: Array,
    generator: Generator, found: CellStatistics,
) -> None:  # fmt: skip
    """Fill C'P_s Y and Y'P_s Y with random effects that were drawn by level."""
    k, r, R = design.k, design.r, found.replicates
    given = _projected(design, truth, effects)
    both = [*tables, *({s: table[:, a] for s, table in given.items()} for a in range(r))]
    cc = gram(design.strata, both)
    if cc.shape[2] == 1 < R:
        cc = np.repeat(cc, R, axis=2)
    present = np.array([[s in own for own in both] for s in range(len(design.strata))])
    cy, yy = np.empty((len(cc), k + r, r, R)), np.empty((len(cc), r * (r + 1) // 2, R))
    _draw(design, cc, present, L, generator, cy, yy)
    for b in range(r):
        for m in range(k):
            found.cy[:, m, b] = cc[:, pair(m, k + b)] + cy[:, m, b]
        for a in range(b + 1):
            crossed = cc[:, pair(k + a, k + b)] + cy[:, k + a, b] + cy[:, k + b, a]
            found.yy[:, pair(a, b)] = crossed + yy[:, pair(a, b)]


def _projected(design: CellDesign, truth: CellTruth, effects: Mapping[int, Array]) -> dict[int, Array]:
    """By stratum (levels of its partition, r, R): the given random effects' part in Y."""
    found: dict[int, Array] = {}
    for n, u in effects.items():
        factor = truth.terms[n].factor
        values = np.einsum("ai,liR->laR", design.root @ np.asarray(truth.terms[n].columns, float), u)
        wanted = [s for s, stratum in enumerate(design.strata.strata) if factor in stratum]
        for s, table in design.strata.tables(design.strata.factors[factor], values, wanted).items():
            found[s] = found[s] + table if s in found else table
    return found


@njit(error_model="numpy")
def _triangle(
    cc: Array, s: int, x: int, limit: int, F: Array, pivots: NDArray[np.int64], upto: NDArray[np.int64]
) -> int:
    """Rows of F, F'F = C'P_s C of replicate x, one for each independent column, `limit` at most; their number. pivots: each row's
    first column; upto: the rows in which a column has a part."""
    count = 0
    for m in range(len(upto)):
        whole = cc[s, m * (m + 1) // 2 + m, x]
        left = whole
        for e in range(count):
            c = pivots[e]
            value = cc[s, m * (m + 1) // 2 + c, x]
            for h in range(e):
                value -= F[h, c] * F[h, m]
            F[e, m] = value / F[e, c]
            left -= F[e, m] * F[e, m]
        if left > PIVOT_TOLERANCE * whole and count < limit:
            F[count, m] = math.sqrt(left)
            pivots[count] = m
            count += 1
        upto[m] = count
    return count


@compiled()
def _limit_to_ranks(cc: Array, most: NDArray[np.int64]) -> None:
    """Bring `most` (S) down to the ranks of C'P_s C, which all replicates share."""
    k = int((math.sqrt(8.0 * cc.shape[1] + 1.0) - 1.0) / 2.0 + 0.5)
    F, pivots, upto = np.empty((k, k)), np.empty(k, np.int64), np.empty(k, np.int64)
    for s in range(len(most)):
        most[s] = _triangle(cc, s, 0, most[s], F, pivots, upto)


@compiled(fastmath={"contract"})
def _assemble(
    cc: Array,
    L: Array,
    most: NDArray[np.int64],
    rows: NDArray[np.int64],
    normals: Array,
    squares: Array,
    cy: Array,
    yy: Array,
) -> None:
    """cy (S, k, r, R) and yy (S, pairs(r), R) of normal deviates and of chi-squares (S, r, R).

    most, rows (S): rows of Z and of T, whose normal deviates follow one another.
    """
    S, k, r, R = cy.shape
    F, pivots, upto = np.empty((k, k)), np.empty(k, np.int64), np.empty(k, np.int64)
    v = np.empty((k + r, r))
    first = 0
    for s in range(S):
        for x in range(R):
            if x == 0 or cc.shape[2] > 1:
                _triangle(cc, s, x if cc.shape[2] > 1 else 0, most[s], F, pivots, upto)
            own = x if L.shape[3] > 1 else 0
            n = first
            for e in range(most[s]):
                for a in range(r - 1, -1, -1):
                    value = 0.0
                    for c in range(a + 1):
                        value += L[s, a, c, own] * normals[n + c, x]
                    v[e, a] = value
                n += r
            for e in range(rows[s]):
                for a in range(r):
                    value = 0.0
                    if a >= e:
                        value = L[s, a, e, own] * math.sqrt(squares[s, e, x])
                        for c in range(e + 1, a + 1):
                            value += L[s, a, c, own] * normals[n + c - e - 1, x]
                    v[most[s] + e, a] = value
                n += r - 1 - e
            for b in range(r):
                for a in range(b + 1):
                    value = 0.0
                    for e in range(most[s] + rows[s]):
                        value += v[e, a] * v[e, b]
                    yy[s, b * (b + 1) // 2 + a, x] = value
                for m in range(k):
                    value = 0.0
                    for e in range(upto[m]):
                        value += F[e, m] * v[e, b]
                    cy[s, m, b, x] = value
        first = n
