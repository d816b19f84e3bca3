"""One data set as the kernel sees it, and what is inferred from its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..spec.matrices import ModelMatrices
from .hypotheses import Test
from .inference import Hypotheses, Inference, Model, definite, infer, variance_covariance
from .lmm import Fits, fit_replicates, pairs
from .workspace import make_shape

__all__ = [
    "ScaledModel", "Variances", "gram_and_shape", "hypotheses_test", "members_of", "own_columns", "relative_factor",
    "symmetric", "term_numbers",
]  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScaledModel:
    """The data as the kernel saw them: orthonormal columns, y in units of `scale`; back (p, p): from its beta to the terms'.

    own: where the fit is singular, the same with the data's own random columns, as one of these may be left out.
    """

    model: Model
    gram: Gram
    raw: Fits
    back: Array
    scale: float
    singular_df: str
    own: tuple[Model, Gram, Fits] | None = None

    def infer(self, rule: str, singular_df: str, contrasts: Sequence[Array]) -> Inference:
        """A rule on contrasts of the data's own beta, each (r, p)."""
        p = len(self.back)
        hypotheses = Hypotheses.of(p, [weights @ self.back for weights in contrasts])
        refit = singular_df == "refit" and rule == "satterthwaite" and self.own is not None
        model, gram, raw = self.own if refit and self.own else (self.model, self.gram, self.raw)
        used = np.array([[np.abs(c[:, i]).sum() > 0 for i in range(p)] for c in map(np.atleast_2d, contrasts)])
        found = infer(model, gram, raw, 0, 1, hypotheses, [rule], singular_df=singular_df, terms=used)[rule]
        return Inference(found.df[:, p:], found.vcov, found.scale[:, p:])

    def test(self, inference: Inference, weights: Array, values: Array, beta: Array, text: str, *, joint: bool) -> Test:
        """The test that weights (r, p) times beta (p) are the values (r); joint: by F, if it is of one hypothesis too."""
        vcov = self.back @ symmetric(len(self.back), inference.vcov[0]) @ self.back.T * self.scale**2
        return hypotheses_test(inference, vcov, weights, values, beta, text, joint=joint)

    def variances(self, m: ModelMatrices) -> Variances:
        """G of the data's columns is T G' T' with G' that of the orthonormal ones."""
        inverses = [np.linalg.inv(np.linalg.qr(Z, mode="r") / np.sqrt(len(m.y))) for Z in m.Z]
        packed = variance_covariance(self.model, self.gram, self.raw, 0, 1)[0]
        return Variances.of(inverses, self.raw.varcomp[0], float(self.raw.sigma2[0]), packed, self.scale)


@dataclass(frozen=True)
class Variances:
    """Of one fit, in the units of the data: variances and covariances of the random columns by pairs (n), the residual variance,
    and the covariance of all of these (n + 1, n + 1), by the expected information; nan where that is singular. sizes: columns
    of each term."""

    varcomp: Array
    sigma2: float
    covariance: Array
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, terms: Sequence[Array], varcomp: Array, sigma2: float, covariance: Array, scale: float) -> Variances:
        """From those of other columns, by pairs: per term T (q_t, q_t) with u = T u' and y in units of `scale`."""
        q = sum(map(len, terms))
        units, start = np.zeros((q, q)), 0
        for T in terms:
            units[start : start + len(T), start : start + len(T)] = T
            start += len(T)
        i, k = np.array(pairs(q)).T
        weights = np.zeros((len(i) + 1, len(i) + 1))
        weights[:-1, :-1] = units[i][:, i] * units[k][:, k] + (i != k) * units[i][:, k] * units[k][:, i]
        weights[-1, -1] = 1.0
        whole = np.append(varcomp, sigma2)
        found = weights @ whole * scale**2
        full = weights @ symmetric(len(whole), covariance) @ weights.T * scale**4
        return cls(found[:-1], float(found[-1]), full, tuple(map(len, terms)))

    @property
    def packed(self) -> Array:
        """The covariance by pairs (1, .)."""
        i, k = np.array(pairs(len(self.covariance))).T
        found: Array = self.covariance[None, i, k]
        return found

    @property
    def ses(self) -> tuple[tuple[Array, ...], float]:
        """Standard errors of the variances of each term's columns, and of the residual variance."""
        squares = np.diag(self.covariance)
        found = np.sqrt(np.where(squares > 0, squares, np.nan))
        own = [number for number, (i, k) in enumerate(pairs(sum(self.sizes))) if i == k]
        return tuple(np.split(found[own], np.cumsum(self.sizes)[:-1])), float(found[-1])


def hypotheses_test(
    inference: Inference, vcov: Array, weights: Array, values: Array, beta: Array, text: str, *, joint: bool
) -> Test:
    """The test that weights (r, p) times beta (p), of covariance vcov, are the values (r); inference: of these contrasts."""
    covariance = weights @ vcov @ weights.T
    estimates = weights @ beta - values
    df = float(inference.df[0, 0])
    if len(weights) == 1 and not joint:
        se = float(np.sqrt(covariance[0, 0]))
        return Test.t(text, float(estimates[0]), se, df)
    if not definite(covariance[None])[0]:
        return Test.f(text, float("nan"), len(weights), df)
    F = float(estimates @ np.linalg.solve(covariance, estimates)) / len(weights) * float(inference.scale[0, 0])
    return Test.f(text, F, len(weights), df)


def own_columns(
    m: ModelMatrices, Q: Array, y: Array, members: list[NDArray[np.int64]], model: Model
) -> tuple[Model, Gram, Fits]:
    """The problem in the data's own random columns, scaled."""
    N = len(y)
    Z = np.column_stack(m.Z)
    Z = Z / np.sqrt((Z * Z).mean(axis=0))
    gram, shape = gram_and_shape(Z, Q * np.sqrt(N), y, members, term_numbers(m), bool(model.shape["reml"][0]))
    return replace(model, shape=shape), gram, fit_replicates(shape, model.groups, gram, 0, 1)


def members_of(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each cluster."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def term_numbers(m: ModelMatrices) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(m.Z)), [Z.shape[1] for Z in m.Z])


def gram_and_shape(
    Z: Array, X: Array, y: Array, members: list[NDArray[np.int64]], blocks: NDArray[np.int64], reml: bool
) -> tuple[Gram, NDArray[np.void]]:
    """One data set as the kernel takes it."""
    q, p = Z.shape[1], X.shape[1]
    D = np.column_stack([Z, X])
    upper = pairs(q + p)
    rows, columns = [i for i, _ in upper], [k for _, k in upper]
    gram = Gram(
        dd=np.array([(D[s].T @ D[s])[rows, columns] for s in members])[:, :, None],
        dy=np.array([D[s].T @ y[s] for s in members])[:, :, None],
        yy=np.array([[y[s] @ y[s]] for s in members]),
        weights=np.ones((1, len(members), 1)),
    )
    shape = make_shape(
        range(q), range(q, q + p), np.zeros(p, np.int64), blocks, np.full(q * (q + 1) // 2, -1.0),
        rows=len(y), clusters=len(members), reml=reml,
    )  # fmt: skip
    return gram, shape


def symmetric(n: int, packed: Array) -> Array:
    full = np.empty((n, n))
    for value, (i, k) in zip(packed, pairs(n), strict=True):
        full[i, k] = full[k, i] = value
    return full


def relative_factor(T: Array) -> Array:
    """L, lower triangular with L L' = T T'; a row that depends on those before it gets a zero column.

    Gram-Schmidt on the rows of T: a Cholesky factor of T T' would make the square root of its rounding errors a variance.
    """
    L = np.zeros((len(T), len(T)))
    directions = np.zeros_like(L, shape=(len(T), T.shape[1]))
    for j, row in enumerate(T):
        rest = row.copy()
        for _ in range(2):
            along = directions @ rest
            L[j] += along
            rest -= along @ directions
        size = np.linalg.norm(rest)
        if size > 1e-9 * np.linalg.norm(row):
            L[j, j], directions[j] = size, rest / size
    return L
