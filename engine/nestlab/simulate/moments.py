"""The moments path: sufficient statistics drawn directly, without a row.

For cluster j with n rows, D = [K, X]: k known columns and g Gaussian ones, X = 1 mu' + noise, noise rows N(0, diag(sd^2)). With
K = Q R_K, Q orthonormal with a column for each of K's rank(K) independent columns, the factor R of D'D = R'R is

    R = [ R_K   Q'1 mu' + N(0, 1) sd ]    Q'1 is the first column of R_K, as K's first column is 1
        [ 0     T sd                 ]    T: Bartlett's upper factor of a Wishart with n - rank(K) degrees of freedom

(Bartlett 1933; trapezoidal, with n - rank(K) rows, where that is less than g). Given R, Gaussian errors give D'e = s R'v,
v ~ N(0, I), and e'e = s2 (v'v + chi2(n - rows of R)): exact in distribution, at a cost that does not depend on n.

A row of R that a small cluster or a dependent column lacks stands as a row of zeros, `active` is 0 there. Where sizes are
redrawn, R_K is looked up by size (`factors`). That is the plain draw; `varied` makes of it what data have beyond that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from ..spec.model import CENTRINGS, source_of, term_variables
from .between import draw_between
from .compiled import compiled
from .deviates import chi_square, standard_normal
from .distributions import transform
from .factors import Factors, FactorTable, known_factor, known_gram
from .gram import Draw
from .layout import Array, Design
from .sizes import draw_sizes
from .varied import Varied

__all__ = ["MomentSampler", "draw_between", "draw_errors", "draw_random_effects", "random_effects"]


class MomentSampler:
    """Draws blocks of one condition by the moments path: `MomentSampler(design)(generator, replicates)`."""

    def __init__(self, design: Design) -> None:
        assert not design.products, "products of redrawn predictors are not Gaussian: they need the rows path"
        self.design = design
        self._effects = transform(design.condition.truth.random)
        truth_varied = _is_varied(design)
        self._varied = varied = Varied(design) if truth_varied or design.centred or design.means else None
        self._exact: Plain | None = None
        usual = np.zeros(design.known), design.drawn_mean, design.drawn_sd
        if varied is None:
            self.plain = Plain(design, *usual)
            return
        self.plain = Plain(design, varied.origin, varied.mean, varied.sd)
        if not truth_varied and (varied.origin.any() or (varied.mean != design.drawn_mean).any()):
            self._exact = Plain(design, *usual)  # what analyses alone centre changes no digit of what others see

    def __call__(self, generator: Generator, replicates: int) -> Draw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, layout = self.design, self.design.condition.layout
        sizes = draw_sizes(layout, design.sizes, generator, replicates) if layout.redrawn else None
        z = draw_between(design, generator, replicates)
        deviates = self.plain.deviates(generator, replicates, sizes)
        dd, de, ee = self.plain.assemble(deviates, sizes)
        u = deviates.u
        if not self._effects.normal:
            self._effects(u, out=u)
        _correlate(design.random_factor, u)
        draw = Draw(dd, de, ee, u, z)
        if self._varied is not None:
            draw = self._varied(draw, generator)
        if self._exact is not None:
            dd, de, _ = self._exact.assemble(deviates, sizes)
            draw.dd[:, : dd.shape[1]] = dd
            draw.de[:, : de.shape[1]] = de
        return draw


def _is_varied(design: Design) -> bool:
    """Whether a condition has more than the plain draw."""
    truth = design.condition.truth
    terms = (*truth.formula.fixed, *truth.formula.random_columns)
    return (
        not design.settled
        or any(source_of(variable)[1] in CENTRINGS for term in terms for variable in term_variables(term))
        or bool(truth.errors.ratios or truth.errors.cluster_cv)
        or any(p.icc for p in design.predictors)
        or bool(design.condition.correlations)
    )


class _Deviates(NamedTuple):
    """Normal ones for random effects u (J, q, R), across, above and v, and chi-squares: see `_assemble`."""

    u: Array
    across: Array
    above: Array
    v: Array
    squares: Array


class Plain:
    """Draws columns and errors of blocks: known columns less their `origin` (known), drawn ones with `mean` and `sd` (drawn),
    independent, normal and without a share between clusters; errors of one variance.

    factor (J, k, k), active (J, k + g), df (J, g + 1): R_K, which columns do not depend on earlier ones, degrees of freedom of
    Bartlett's diagonal and of e'e; where sizes are redrawn `factors` has them.
    """

    def __init__(self, design: Design, origin: Array, mean: Array, sd: Array) -> None:
        self.design, self.mean, self.sd = design, mean, sd
        self._table = FactorTable(design, origin) if design.condition.layout.redrawn else None
        if self._table is None:
            known = design.known_rows - origin if origin.any() else design.known_rows
            self.gram = known_gram(known, design.sizes) if origin.any() else design.known_gram
            self.factor = known_factor(known, design.sizes)
            self.active, self.df = _degrees(self.factor, design.sizes, design.drawn)

    def deviates(self, generator: Generator, replicates: int, sizes: NDArray[np.int64] | None) -> _Deviates:
        """All of a block. sizes (J, R): where they are redrawn."""
        J, R = self.design.clusters, replicates
        k, g, q = self.design.known, self.design.drawn, len(self.design.random_factor)
        u, across, above, v = _normals(generator, (J, q, R), (J, k, g, R), (J, g * (g - 1) // 2, R), (J, k + g, R))
        if sizes is None:
            return _Deviates(u, across, above, v, chi_square(generator, self.df, R))
        factors, kind = self._kinds(sizes)
        df = _degrees(factors.factor, factors.n, g)[1]
        return _Deviates(u, across, above, v, chi_square(generator, np.moveaxis(df[kind], 2, 1), 1)[..., 0])

    def assemble(self, deviates: _Deviates, sizes: NDArray[np.int64] | None) -> tuple[Array, Array, Array]:
        """D'D, D'e and e'e as in `Draw`."""
        _, across, above, v, squares = deviates
        design, (J, d, R) = self.design, v.shape
        de, ee = np.empty_like(v), np.empty((J, R))
        if sizes is None:
            dd = with_known(self.gram, d, R)
            _assemble(
                self.factor, self.active, self.mean, self.sd, design.residual_sd, across, above, v, squares, dd, de, ee
            )
            return dd, de, ee
        factors, kind = self._kinds(sizes)
        active, _ = _degrees(factors.factor, factors.n, design.drawn)
        dd = np.empty((J, d * (d + 1) // 2, R))
        _assemble_kinds(
            kind, factors.factor, factors.gram, active, self.mean, self.sd, design.residual_sd,
            across, above, v, squares, dd, de, ee,
        )  # fmt: skip
        return dd, de, ee

    def _kinds(self, sizes: NDArray[np.int64]) -> tuple[Factors, NDArray[np.int64]]:
        assert self._table is not None, "sizes differ only where the layout says so"
        return self._table(sizes)


def _degrees(factor: Array, sizes: NDArray[np.int64], drawn: int) -> tuple[Array, NDArray[np.int64]]:
    """active (J, k + g) and df (J, g + 1) of clusters, see `Plain`."""
    known = np.diagonal(factor, axis1=1, axis2=2) > 0
    left = sizes - known.sum(axis=1)
    bartlett = np.maximum(left[:, None] - np.arange(drawn + 1), 0)
    df = np.column_stack([bartlett[:, :drawn], np.maximum(left - drawn, 0)])
    return np.column_stack([known, bartlett[:, :drawn] > 0]).astype(float), df


def _normals(generator: Generator, *shapes: tuple[int, ...]) -> list[Array]:
    """Several arrays of N(0, 1) one after the other, in one call."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    together = standard_normal(generator, (int(ends[-1]),))
    parts = np.split(together, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def with_known(gram: Array, columns: int, replicates: int) -> Array:
    """(J, pairs, replicates): D'D of so many columns whose first ones have `gram` (J, pairs); `gram` itself where that is all."""
    pairs = columns * (columns + 1) // 2
    if gram.shape[1] == pairs:
        return gram[:, :, None]
    dd = np.empty((len(gram), pairs, replicates))
    dd[:, : gram.shape[1]] = gram[:, :, None]
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


@compiled(fastmath={"contract"})
def _assemble_kinds(
    kind: NDArray[np.int64], factor: Array, gram: Array, active: Array, mean: Array, sd: Array, sigma: float, across: Array,
    above: Array, v: Array, squares: Array, dd: Array, de: Array, ee: Array,
) -> None:  # fmt: skip  # pragma: no cover
    """The same where known columns differ between replicates: factor (T, k, k), gram (T, pairs) and active (T, d) are those of
    kinds of clusters, kind (J, R) says which."""
    J, d, R = v.shape
    k, g = factor.shape[1], len(mean)
    F, A = np.empty((d * (d + 1) // 2, R)), np.empty((d, R))
    for j in range(J):
        for r in range(R):
            t = kind[j, r]
            for i in range(d):
                A[i, r] = active[t, i]
            for i in range(k):
                for m in range(i + 1):
                    F[i * (i + 1) // 2 + m, r] = factor[t, m, i]
                    dd[j, i * (i + 1) // 2 + m, r] = gram[t, i * (i + 1) // 2 + m]
            ee[j, r] = squares[j, g, r]
        for i in range(g):
            column = (k + i) * (k + i + 1) // 2
            for m in range(k):  # row 0 of the factor is Q'1, as the known columns' first is 1
                for r in range(R):
                    F[column + m, r] = mean[i] * F[0, r] * (m == 0) + sd[i] * A[m, r] * across[j, m, i, r]
            for m in range(i):
                for r in range(R):
                    F[column + k + m, r] = sd[i] * A[k + m, r] * above[j, i * (i - 1) // 2 + m, r]
            for r in range(R):
                F[column + k + i, r] = sd[i] * np.sqrt(squares[j, i, r])
        for i in range(d):
            column = i * (i + 1) // 2
            for r in range(R):
                de[j, i, r] = 0.0
                ee[j, r] += A[i, r] * v[j, i, r] * v[j, i, r]
            for m in range(i + 1):
                for r in range(R):
                    de[j, i, r] += sigma * F[column + m, r] * v[j, m, r]
            for h in range(i + 1 if i >= k else 0):
                row = h * (h + 1) // 2
                for r in range(R):
                    dd[j, column + h, r] = 0.0
                for m in range(h + 1):
                    for r in range(R):
                        dd[j, column + h, r] += F[row + m, r] * F[column + m, r]
        for r in range(R):
            ee[j, r] *= sigma * sigma
