"""A fitted model with several grouping factors: estimates, standard errors and degrees of freedom.

Formulas are those of `information`; sums over clusters become sums over the levels of each factor. Of Kenward and Roger's pieces,
sum_j v_j'M_j v_j is a sum over pairs of entries a, b of G, W_ab (E_a v)'W (E_b v), and the expected information comes from the
Hessian: tr(P V_a P V_b) = 2 (m / rss) y'P V_a P V_b P y - H_ab, the part of the profiled residual variance left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_solve

from ...spec.matrices import ModelMatrices
from ..hypotheses import Test
from ..inference import Hypotheses, Inference
from ..problem import Variances, hypotheses_test, symmetric
from ..status import Status
from .compiled_loops import infer_without_y, invert, satterthwaite, set_estimates
from .curvature import Derivatives
from .nesting import between_within_df
from .point import point_at
from .products import FactorColumns, Products, make_products
from .steer import Optimum, find_optimum, load, open_record, point_of

__all__ = ["Inferred", "PlainModel", "SeveralModel", "factors_of", "fit_factors"]

Array = NDArray[np.float64]

#: Eigenvalue of a term's G over the largest at which one of its columns has vanished.
VANISHED = 1e-10


@dataclass(frozen=True)
class Inferred:
    """What `SeveralModel.inform` finds, each nan where it is undefined or not asked for: df by Satterthwaite, df and scale of
    F by Kenward and Roger (1, H); the latter's covariance of beta, and the covariance of G's entries and s2 (1, .), by
    pairs."""

    satterthwaite: Array
    df: Array
    scale: Array
    vcov: Array
    varcov: Array


@dataclass(frozen=True)
class SeveralModel:
    """A fit of y on X and the factors' random columns, with what is inferred from it.

    X (N, p): orthonormal columns times sqrt(N); y in units of `scale`; back (p, p): from beta here to that of the terms.
    factors: the data's random columns; white: the same, whitened; roots: per term R with Z = white R.
    """

    factors: tuple[FactorColumns, ...]
    white: tuple[FactorColumns, ...]
    roots: tuple[Array, ...]
    X: Array
    y: Array
    reml: bool
    products: Products
    optimum: Optimum
    back: Array
    scale: float
    singular_df: str
    between: Array

    @cached_property
    def derivatives(self) -> Derivatives:
        return Derivatives(point_at(self.products, self.optimum.G), self.reml)

    @property
    def p(self) -> int:
        return self.products.p

    @cached_property
    def beta(self) -> Array:
        C = self.derivatives.C
        found: Array = cho_solve((C[:-1, :-1], True), self.derivatives.point.S[:-1, -1])
        return found

    @cached_property
    def sigma2(self) -> float:
        return float(self.derivatives.C[-1, -1] ** 2 / self.derivatives.m)

    @cached_property
    def vcov(self) -> Array:
        """Of beta."""
        found: Array = cho_solve((self.derivatives.C[:-1, :-1], True), np.eye(self.p)) * self.sigma2
        return found

    @property
    def neg2loglik(self) -> float:
        """-2 log likelihood, or the restricted criterion, of the data in their own units."""
        m = self.derivatives.m
        determinant = -2 * float(np.linalg.slogdet(self.back)[1]) if self.reml else 0.0
        return float(self.optimum.deviance + 2 * m * np.log(self.scale) + determinant)

    @cached_property
    def residuals(self) -> Array:
        """y - X b - Z u, u at its conditional mean."""
        left = self.y - self.X @ self.beta
        for factor, G, T in zip(self.white, self.optimum.G, self.derivatives.point.scores, strict=True):
            u = (T[:, :, -1] - T[:, :, :-1] @ self.beta) @ G
            left -= np.einsum("ia,ia->i", factor.Z, u[factor.codes])
        return left

    def covariances(self) -> list[Array]:
        """T (q_t, rank) per term with s2 T T' the covariance of its random effects, in the units of the data's columns and of
        y."""
        found, term = [], 0
        for sizes, G in zip(self.products.sizes, self.optimum.G, strict=True):
            first = 0
            for size in sizes:
                own = slice(first, first + size)
                values, vectors = np.linalg.eigh(G[own, own])
                kept = values > 1e-13 * max(values[-1], 0.0)
                found.append(np.linalg.solve(self.roots[term], vectors[:, kept] * np.sqrt(values[kept])))
                first, term = first + size, term + 1
        return found

    def infer(self, rule: str, singular_df: str, contrasts: Sequence[Array]) -> Inference:
        """A rule on contrasts of the data's own beta, each (r, p)."""
        packed = _packed(self.vcov)
        used = [np.abs(np.atleast_2d(c)).sum(axis=0) > 0 for c in contrasts]
        ones = np.ones((1, len(contrasts)))
        by_design = {
            "z": np.full(self.p, np.inf),
            "residual": np.full(self.p, float(self.products.rows - self.p)),
            "between-within": self.between,
        }
        if rule in by_design:
            return Inference(np.array([[by_design[rule][terms].min() for terms in used]]), packed, ones)
        hypotheses = Hypotheses.of(self.p, [weights @ self.back for weights in contrasts])
        if rule == "satterthwaite":
            refit = singular_df == "refit" and self.optimum.status == Status.singular
            df = self._refitted(hypotheses) if refit else self.inform(hypotheses, "satterthwaite").satterthwaite
            return Inference(df[:, self.p :], packed, ones)
        found = self.inform(hypotheses, "kenward-roger")
        return Inference(found.df[:, self.p :], found.vcov, found.scale[:, self.p :])

    def test(self, inference: Inference, weights: Array, values: Array, beta: Array, text: str, *, joint: bool) -> Test:
        """The test that weights (r, p) times beta (p) are the values (r); joint: by F, if it is of one hypothesis too."""
        vcov = self.back @ symmetric(self.p, inference.vcov[0]) @ self.back.T * self.scale**2
        return hypotheses_test(inference, vcov, weights, values, beta, text, joint=joint)

    def variances(self, _: ModelMatrices | None = None) -> Variances:
        """By the expected information."""
        G = block_diag(*self.optimum.G)
        packed = self.inform(Hypotheses.of(self.p), "variances").varcov[0]
        inverses = [np.asarray(np.linalg.inv(R), dtype=float) for R in self.roots]
        return Variances.of(inverses, _packed(G)[0] * self.sigma2, self.sigma2, packed, self.scale)

    def inform(self, hypotheses: Hypotheses, wanted: str) -> Inferred:
        """wanted: "satterthwaite", "kenward-roger" or "variances"."""
        m, p, q, H = self.products, self.p, sum(self.products.q), len(hypotheses)
        n = q * (q + 1) // 2
        varcomp, sigma2 = _packed(block_diag(*self.optimum.G)) * self.sigma2, np.array([self.sigma2])
        rooms = {"satterthwaite": (H,), "kenward-roger": (H, p * (p + 1) // 2), "variances": ((n + 1) * (n + 2) // 2,)}

        def room(rule: str, k: int = 0) -> Array:
            return np.full((1 if rule == wanted else 0, rooms[rule][k]), np.nan)

        found = Inferred(
            room("satterthwaite"),
            room("kenward-roger"),
            room("kenward-roger"),
            room("kenward-roger", 1),
            room("variances"),
        )
        shape, memory = open_record(m, reml=self.reml)
        set_estimates(shape, memory, varcomp, sigma2)
        here = Derivatives(point_of(m, memory[0]), self.reml)
        hessian = here.hessian()
        if wanted == "satterthwaite":
            self._load(here, hessian, shape, memory)
            satterthwaite(shape, memory, hypotheses.starts, hypotheses.rows, found.satterthwaite)
        else:
            last = here.D[:, -1, -1]
            expected = hessian + np.outer(last, last) / here.m - 2 * here.quadratic()
            without = Derivatives(here.point, self.reml, with_y=False)
            self._load(without, expected, shape, memory)
            if invert(shape, memory):
                if wanted == "kenward-roger":
                    self._adjust(without, memory[0])
                infer_without_y(
                    shape, memory, hypotheses.starts, hypotheses.rows, varcomp, sigma2,
                    found.df, found.scale, found.vcov, found.varcov,
                )  # fmt: skip
        for df in (found.satterthwaite, found.df):
            df[~((df > 0) & np.isfinite(df))] = np.nan
        return found

    def _load(self, found: Derivatives, H: Array, shape: NDArray[np.void], memory: NDArray[np.void]) -> None:
        load(found, H, shape, memory[0])
        i, k = np.tril_indices(self.p + 1)
        memory[0]["D"][:, :, 0] = 0.0
        memory[0]["D"][np.ix_(self._numbers, i * (i + 1) // 2 + k)] = found.D[:, i, k, None]

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """The place of each free entry among the pairs of all random columns."""
        columns = self.products.columns
        rows = np.array([(columns[e.factor].start + e.a, columns[e.factor].start + e.b) for e in self.products.entries])
        found: NDArray[np.int64] = rows[:, 0] * (rows[:, 0] + 1) // 2 + rows[:, 1]
        return found

    def _adjust(self, found: Derivatives, work: np.void) -> None:
        """Enter Kenward and Roger's adjustment, by pairs of fixed effects."""
        m, p, free = self.products, self.p, self.products.entries
        k = len(free)
        vectors = [np.zeros((*v.shape[:2], k, p)) for v in found.v]
        for s, e in enumerate(free):
            vectors[e.factor][:, :, s] = np.einsum(
                "ab,jbi->jai", e.direction(m.q[e.factor]), found.v[e.factor][:, :, :p]
            )
        flat = [each.reshape(*each.shape[:2], k * p) for each in vectors]
        products = np.zeros((k * p, k * p))
        for left, right in zip(flat, found.point.multiply(flat), strict=True):
            products += left.reshape(-1, k * p).T @ right.reshape(-1, k * p)
        W = work["weights"][np.ix_(self._numbers, self._numbers)][:, :, 0]
        D = found.D[:, :p, :p]
        total = np.einsum("su,siuk->ik", W, products.reshape(k, p, k, p)) - np.einsum(
            "su,sie,uek->ik", W, D, D, optimize=True
        )
        i, j = np.tril_indices(p)
        work["adjusted"][i * (i + 1) // 2 + j, 0] = (total + total.T)[i, j] / 2

    def _refitted(self, hypotheses: Hypotheses) -> Array:
        """Satterthwaite's df (1, H) of the model without the random columns that vanished.

        In each singular term the column of the smallest variance, times its mean square over the levels, is left out and the
        model fitted again, until the fit is not singular; with no column left, df = m.
        """
        model = self
        while model.optimum.status == Status.singular:
            kept = model._kept()
            factors = [_subset(f, keep) for f, keep in zip(model.factors, kept, strict=True) if any(map(len, keep))]
            if not factors:
                return np.full((1, len(hypotheses)), self.derivatives.m)
            model = replace(model, **_fitted(factors, self.X, self.y, reml=self.reml))
        if model.optimum.status != Status.ok:
            return np.full((1, len(hypotheses)), np.nan)
        return model.inform(hypotheses, "satterthwaite").satterthwaite

    def _kept(self) -> list[list[list[int]]]:
        """For each factor and term the columns that stay."""
        terms, smallest = [], (np.inf, (0, 0))
        roots = iter(self.covariances())
        for f, factor in enumerate(self.factors):
            first = 0
            for size in factor.sizes:
                Z = factor.Z[:, first : first + size]
                T = next(roots) * np.sqrt((Z * Z).sum(axis=0) / factor.levels)[:, None]
                values = np.linalg.eigvalsh(T @ T.T)
                least = int(np.argmin((T * T).sum(axis=1)))
                share = float(values[0] / max(values[-1], 1e-300))
                smallest = min(smallest, (share, (f, first + least)))
                terms.append((f, list(range(first, first + size)), first + least if share <= VANISHED else -1))
                first += size
        if all(gone < 0 for _, _, gone in terms):
            terms = [(f, own, smallest[1][1] if f == smallest[1][0] else -1) for f, own, _ in terms]
        return [[[c for c in own if c != gone] for g, own, gone in terms if g == f] for f in range(len(self.factors))]


def _subset(factor: FactorColumns, kept: Sequence[Sequence[int]]) -> FactorColumns:
    columns = [c for own in kept for c in own]
    return replace(factor, Z=factor.Z[:, columns], sizes=tuple(len(own) for own in kept if own))


def _packed(M: Array) -> Array:
    """A symmetric matrix by pairs, as one row."""
    rows, columns = np.tril_indices(len(M))
    return M[None, rows, columns]


def _fitted(
    factors: Sequence[FactorColumns], X: Array, y: Array, *, reml: bool, known: Sequence[Array] | None = None
) -> dict[str, Any]:
    """Those fields of a model that hang on its random columns; known: see `fit_factors`."""
    white, roots = [], []
    for factor in factors:
        columns, first = [], 0
        for size in factor.sizes:
            Q, R = np.linalg.qr(factor.Z[:, first : first + size])
            columns.append(Q * np.sqrt(factor.levels))
            roots.append(R / np.sqrt(factor.levels))
            first += size
        white.append(replace(factor, Z=np.hstack(columns)))
    products = make_products(white, X, y)
    optimum = find_optimum(products, reml=reml) if known is None else _known(factors, roots, known)
    return {
        "factors": tuple(factors), "white": tuple(white), "roots": tuple(roots), "products": products, "optimum": optimum,
    }  # fmt: skip


def _known(factors: Sequence[FactorColumns], roots: Sequence[Array], known: Sequence[Array]) -> Optimum:
    """The end of a search of which each term's G is known, in the units of the data's columns."""
    white = iter([R @ G @ R.T for R, G in zip(roots, known, strict=True)])
    G = []
    for factor in factors:
        G.append(np.zeros((factor.q, factor.q)))
        first = 0
        for size in factor.sizes:
            G[-1][first : first + size, first : first + size] = next(white)
            first += size
    return Optimum(Status.ok, 0, np.nan, np.nan, tuple(G))


@dataclass(frozen=True)
class PlainModel:
    """A model without random effects, of y (N) on X (N, p) of full rank, beside those that have some."""

    X: Array
    y: Array
    reml: bool
    scale: float = 1.0

    @cached_property
    def _fitted(self) -> tuple[float, float]:
        """The sum of squares of the residuals, and log|X'X|."""
        Q, R = np.linalg.qr(self.X)
        left = self.y - Q @ (Q.T @ self.y)
        return float(left @ left), 2 * float(np.log(np.abs(np.diag(R))).sum())

    @property
    def m(self) -> int:
        return len(self.y) - (int(self.X.shape[1]) if self.reml else 0)

    @property
    def sigma2(self) -> float:
        return self._fitted[0] / self.m

    @property
    def neg2loglik(self) -> float:
        """-2 log likelihood, or the restricted criterion."""
        return float(self.m * (1 + np.log(2 * np.pi * self.sigma2)) + (self._fitted[1] if self.reml else 0.0))


def factors_of(m: ModelMatrices) -> list[FactorColumns]:
    """The random columns of each grouping factor, terms in lme4's order."""
    found = []
    for group in dict.fromkeys(m.formula.random[t].group for t in m.term_order):
        own = [m.Z[t] for t in m.term_order if m.formula.random[t].group == group]
        levels = m.levels[group]
        sizes = tuple(Z.shape[1] for Z in own)
        found.append(FactorColumns(levels.codes, len(levels.labels), np.hstack(own), sizes))
    return found


def fit_factors(
    factors: Sequence[FactorColumns], X: Array, y: Array, *, reml: bool, singular_df: str = "lmertest",
    known: Sequence[Array] | None = None,
) -> SeveralModel:  # fmt: skip
    """Fit y (N) on X (N, p), of full rank, and the random columns of the factors.

    known: the covariance of each term's random effects over the residual variance, of a fit that was made before.

    Orthonormal columns and the residuals of the OLS fit take the place of X and y: no digits are lost to means or units. y must
    not be a combination of X's columns.
    """
    N, p = X.shape
    Q, R = np.linalg.qr(X)
    residuals = y - Q @ (Q.T @ y)
    scale = float(np.sqrt(residuals @ residuals / N))
    X_, y_ = Q * np.sqrt(N), residuals / scale
    return SeveralModel(
        X=X_, y=y_, reml=reml, back=np.linalg.solve(R, np.eye(p)) * np.sqrt(N), scale=scale, singular_df=singular_df,
        between=between_within_df(factors, X), **_fitted(factors, X_, y_, reml=reml, known=known),
    )  # fmt: skip
