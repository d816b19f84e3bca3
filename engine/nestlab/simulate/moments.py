"""The moments path: sufficient statistics drawn directly, without a row.

For cluster j with n rows, D = [K, X]: k known columns and g Gaussian ones, X = 1 mu' + noise, noise rows N(0, diag(sd^2)). With
K = Q R_K, Q orthonormal with a column for each of K's rank(K) independent columns, the factor R of D'D = R'R is

    R = [ R_K   Q'1 mu' + N(0, 1) sd ]    Q'1 is the first column of R_K, as K's first column is 1
        [ 0     T sd                 ]    T: Bartlett's upper factor of a Wishart with n - rank(K) degrees of freedom

(Bartlett 1933; trapezoidal, with n - rank(K) rows, where that is less than g). Given R, Gaussian errors give D'e = s R'v,
v ~ N(0, I), and e'e = s2 (v'v + chi2(n - rows of R)): exact in distribution, at a cost that does not depend on n.

A row of R that a small cluster or a dependent column lacks stands as a row of zeros, `active` is 0 there.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from .compiled import compiled
from .deviates import chi_square, standard_normal
from .gram import Draw
from .between import draw_between
from .layout import Array, Design

__all__ = ["Moments", "draw_between", "draw_errors", "draw_random_effects", "random_effects"]

#: What is left of a known column beside the earlier ones, relative to itself, below which it depends on them.
DEPENDENT = 1e-10


class Moments:
    """Draws blocks of one condition by the moments path: `Moments(design)(generator, replicates)`."""

    def __init__(self, design: Design) -> None:
        assert not design.products, "products of redrawn predictors are not Gaussian: they need the rows path"
        self.design = design
        self._known_factor = _known_factor(design)
        known = np.diagonal(self._known_factor, axis1=1, axis2=2) > 0
        left = design.sizes - known.sum(axis=1)
        bartlett = np.maximum(left[:, None] - np.arange(design.drawn + 1), 0)
        self._df = np.column_stack([bartlett[:, : design.drawn], np.maximum(left - design.drawn, 0)])
        self._active = np.column_stack([known, bartlett[:, : design.drawn] > 0]).astype(float)

    def __call__(self, generator: Generator, replicates: int) -> Draw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, J, R = self.design, self.design.clusters, replicates
        k, g = design.known, design.drawn
        z = draw_between(design, generator, R)
        q = len(design.random_factor)
        u, across, above, v = _normals(generator, (J, q, R), (J, k, g, R), (J, g * (g - 1) // 2, R), (J, k + g, R))
        _correlate(design.random_factor, u)
        squares = chi_square(generator, self._df, R)
        dd = known_dd(design, R)
        de, ee = np.empty_like(v), np.empty((J, R))
        _assemble(
            self._known_factor, self._active, design.drawn_mean, design.drawn_sd, design.residual_sd,
            across, above, v, squares, dd, de, ee,
        )  # fmt: skip
        return Draw(dd, de, ee, u, z)


def _normals(generator: Generator, *shapes: tuple[int, ...]) -> list[Array]:
    """Several arrays of N(0, 1) one after the other, in one call."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    together = standard_normal(generator, (int(ends[-1]),))
    parts = np.split(together, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def known_dd(design: Design, replicates: int) -> Array:
    """(J, d(d+1)/2, R or 1): D'D with its known part filled in; the rest is for the caller."""
    if not design.drawn:
        return design.known_gram[:, :, None]
    d = len(design.columns)
    dd = np.empty((design.clusters, d * (d + 1) // 2, replicates))
    dd[:, : design.known_gram.shape[1]] = design.known_gram[:, :, None]
    return dd


def draw_random_effects(design: Design, generator: Generator, replicates: int) -> Array:
    """(J, q, R): u = L N(0, I), L L' the truth's covariance."""
    return random_effects(design.random_factor, design.clusters, generator, replicates)


def random_effects(L: Array, clusters: int, generator: Generator, replicates: int) -> Array:
    """(J, q, R): u = L N(0, I), L (q, q) lower-triangular."""
    u = standard_normal(generator, (clusters, len(L), replicates))
    _correlate(L, u)
    return u


def draw_errors(
    factor: Array, sizes: NDArray[np.int64], sigma: float, generator: Generator, replicates: int
) -> tuple[Array, Array]:
    """D'e (J, d, R) and e'e (J, R) of errors N(0, sigma^2) given D.

    factor (J, d, d): upper-triangular R of each cluster, R'R = D'D; the row of a column that depends on earlier ones is 0.
    sizes (J): rows, at least the rank of R.
    """
    J, d = factor.shape[:2]
    active = np.diagonal(factor, axis1=1, axis2=2) > 0
    v = standard_normal(generator, (J, d, replicates))
    squares = chi_square(generator, sizes[:, None] - active.sum(axis=1, keepdims=True), replicates)
    de, ee, none = np.empty_like(v), np.empty((J, replicates)), np.empty(0)
    _assemble(
        factor, active.astype(float), none, none, sigma, np.empty((J, d, 0, replicates)), np.empty((J, 0, replicates)), v,
        squares, np.empty((J, 0, replicates)), de, ee,
    )  # fmt: skip
    return de, ee


@compiled()
def _correlate(L: Array, u: Array) -> None:  # pragma: no cover
    """u (J, q, R) to L u in place: row i needs rows 0 .. i of the noise."""
    for j in range(len(u)):
        for i in range(len(L) - 1, -1, -1):
            for r in range(u.shape[2]):
                u[j, i, r] *= L[i, i]
            for k in range(i):
                if L[i, k] != 0.0:
                    for r in range(u.shape[2]):
                        u[j, i, r] += L[i, k] * u[j, k, r]


def _known_factor(design: Design) -> Array:
    """(J, k, k): R_K of all clusters at once by modified Gram-Schmidt; a dependent column's row is 0."""
    rest = design.known_rows.copy()
    k = design.known
    factor = np.zeros((design.clusters, k, k))
    for m in range(k):
        length = np.sqrt(design.cluster_sums(rest[:, m] ** 2))
        whole = np.sqrt(design.known_gram[:, m + m * (m + 1) // 2])
        kept = length > DEPENDENT * whole
        factor[kept, m, m] = length[kept]
        q = rest[:, m] * np.repeat(np.divide(1.0, length, out=np.zeros_like(length), where=kept), design.sizes)
        for i in range(m + 1, k):
            factor[:, m, i] = design.cluster_sums(q * rest[:, i])
            rest[:, i] -= q * np.repeat(factor[:, m, i], design.sizes)
    return factor


@njit(error_model="numpy", fastmath={"contract"})
def _factor(
    known_factor: Array, active: Array, mean: Array, sd: Array, across: Array, above: Array, squares: Array, F: Array
) -> None:  # pragma: no cover
    """R of one cluster, by pairs (d(d+1)/2, R); arguments are those of `_assemble` at cluster j."""
    k, g, R = across.shape
    for i in range(k):
        for m in range(i + 1):
            for r in range(R):
                F[i * (i + 1) // 2 + m, r] = known_factor[m, i]
    for i in range(g):
        column = (k + i) * (k + i + 1) // 2
        for m in range(k):
            location, scale = mean[i] * known_factor[m, 0], sd[i] * active[m]
            for r in range(R):
                F[column + m, r] = location + scale * across[m, i, r]
        for m in range(i):
            scale = sd[i] * active[k + m]
            for r in range(R):
                F[column + k + m, r] = scale * above[i * (i - 1) // 2 + m, r]
        for r in range(R):
            F[column + k + i, r] = sd[i] * np.sqrt(squares[i, r])


@compiled(fastmath={"contract"})
def _assemble(
    known_factor: Array, active: Array, mean: Array, sd: Array, sigma: float, across: Array, above: Array, v: Array,
    squares: Array, dd: Array, de: Array, ee: Array,
) -> None:  # fmt: skip  # pragma: no cover
    """D'D = R'R beyond its known part, D'e = s R'v, e'e.

    known_factor (J, k, k), active (J, d), mean and sd (g); normal deviates across (J, k, g, R), above (J, g(g-1)/2, R) and
    v (J, d, R); chi-squares (J, g + 1, R) of Bartlett's diagonal and of e'e.
    """
    J, d, R = v.shape
    k, g = known_factor.shape[1], len(mean)
    F = np.empty((d * (d + 1) // 2, R))
    for j in range(J):
        _factor(known_factor[j], active[j], mean, sd, across[j], above[j], squares[j], F)
        for r in range(R):
            ee[j, r] = squares[j, g, r]
        for i in range(d):
            column = i * (i + 1) // 2
            for r in range(R):
                de[j, i, r] = 0.0
                ee[j, r] += active[j, i] * v[j, i, r] * v[j, i, r]
            for m in range(i + 1):
                for r in range(R):
                    de[j, i, r] += sigma * F[column + m, r] * v[j, m, r]
            for h in range(i + 1 if i >= k else 0):
                row = h * (h + 1) // 2
                for r in range(R):
                    dd[j, column + h, r] = F[row, r] * F[column, r]
                for m in range(1, h + 1):
                    for r in range(R):
                        dd[j, column + h, r] += F[row + m, r] * F[column + m, r]
        for r in range(R):
            ee[j, r] *= sigma * sigma
