"""The design of a condition: its level-1 columns, its level-2 multipliers and what is the same in every replicate.

Every term is a level-1 column times a level-2 multiplier: "x:z" with x at level 1 and z at level 2 is column "x" times "z". So
the sufficient statistics are kept for the distinct level-1 columns D = [Intercept, known, drawn, products] only.

Sums over rows are NumPy's own, never BLAS: its last digits depend on its number of threads, a block's must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..spec.identity import layout_key
from ..spec.model import INTERCEPT, Condition, Predictor, term_variables
from .deviates import standard_normal
from .streams import fixed_generator

__all__ = ["Design", "compile_design", "lower_factor", "pair"]

Array = NDArray[np.float64]


def pair(i: int, k: int) -> int:
    """Where the entry (i, k) of a symmetric matrix is stored: the upper triangle by columns."""
    return i + k * (k + 1) // 2 if i <= k else k + i * (i + 1) // 2


@dataclass(frozen=True)
class Design:
    """What depends on the condition alone.

    sizes (J); columns: names of the d level-1 columns, of which the first `known` are the same in every replicate (the
    Intercept, fixed and balanced predictors and their products), the next `drawn` are Gaussian (drawn_mean, drawn_sd), then come
    products of earlier ones (indices in `products`) and columns that are centred (index of the source, "within" its cluster or at
    the "center" of all rows). known_rows (N, known). between: names of the m level-2 columns, of which the last are cluster
    means of level-1 columns (`means`); between_fixed (m, J): nan where they are redrawn (between_mean, between_sd). random (q):
    the level-1 column of each of the truth's random effects; random_factor (q, q): lower factor of their covariance.
    """

    condition: Condition
    sizes: NDArray[np.int64]
    columns: tuple[str, ...]
    known: int
    drawn: int
    products: tuple[tuple[int, ...], ...]
    known_rows: Array
    drawn_mean: Array
    drawn_sd: Array
    between: tuple[str, ...]
    between_fixed: Array
    between_mean: Array
    between_sd: Array
    random: tuple[int, ...]
    random_factor: Array
    centred: tuple[tuple[int, str], ...] = ()
    means: tuple[int, ...] = ()

    @property
    def clusters(self) -> int:
        return len(self.sizes)

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    @property
    def residual_sd(self) -> float:
        return float(np.sqrt(self.condition.truth.residual_variance))

    @cached_property
    def known_gram(self) -> Array:
        """(J, known (known + 1) / 2): D'D of the known columns by pairs."""
        K = self.known_rows
        products = [K[:, i] * K[:, k] for k in range(self.known) for i in range(k + 1)]
        return np.stack([self.cluster_sums(product) for product in products], axis=1)

    def cluster_sums(self, values: Array) -> Array:
        """(J): sums over each cluster's rows of `values` (N)."""
        return np.add.reduceat(values, np.cumsum(self.sizes) - self.sizes)

    def split(self, term: str) -> tuple[int, tuple[str, ...]]:
        """A term's level-1 column and the level-2 predictors that multiply it."""
        return _split(term, self.columns, self.between)


def compile_design(condition: Condition) -> Design:
    """Everything that replicates of this condition share; paid once per condition."""
    level1 = [p for p in condition.predictors if p.level == 1]
    between = [p for p in condition.predictors if p.level == 2]
    known = [p for p in level1 if not _redrawn(p)]
    drawn = [p for p in level1 if _redrawn(p)]
    constant, varying = _products(condition, {p.name for p in known}, {p.name for p in drawn})
    columns = (INTERCEPT, *(p.name for p in known), *constant, *(p.name for p in drawn), *varying)
    names = tuple(p.name for p in between)
    sizes = np.array(condition.layout.sizes, dtype=np.int64)
    random = [_split(column, columns, names) for column in condition.truth.formula.random_columns]
    assert not any(outer for _, outer in random), "spec refuses random slopes of level-2 predictors"
    return Design(
        condition=condition,
        sizes=sizes,
        columns=columns,
        known=1 + len(known) + len(constant),
        drawn=len(drawn),
        products=tuple(tuple(columns.index(v) for v in term_variables(term)) for term in varying),
        known_rows=_known_rows(condition, known, constant, sizes),
        drawn_mean=np.array([p.mean for p in drawn]),
        drawn_sd=np.array([p.sd for p in drawn]),
        between=names,
        between_fixed=_between_fixed(condition, between, len(sizes)),
        between_mean=np.array([p.mean for p in between]),
        between_sd=np.array([p.sd for p in between]),
        random=tuple(column for column, _ in random),
        random_factor=lower_factor(np.array(condition.truth.covariance, dtype=float).reshape(len(random), len(random))),
    )


def _split(term: str, columns: Sequence[str], between: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    variables = term_variables(term)
    inner = sorted(v for v in variables if v not in between)
    outer = tuple(sorted(v for v in variables if v in between))
    for index, name in enumerate(columns):
        if sorted(term_variables(name)) == inner:
            return index, outer
    raise ValueError(
        f"term {term!r} has no column among {', '.join(columns)}: a method may multiply level-1 predictors only where the truth "
        "does; add the product to truth.formula with the true value 0"
    )


def _redrawn(predictor: Predictor) -> bool:
    return predictor.distribution == "normal" and predictor.redraw


def _products(condition: Condition, known: set[str], drawn: set[str]) -> tuple[list[str], list[str]]:
    """Products of level-1 predictors among the truth's terms: those that are the same in every replicate, and the others."""
    formula = condition.truth.formula
    found: dict[str, bool] = {}
    for term in (*formula.fixed, *formula.random_columns):
        inner = sorted(v for v in term_variables(term) if v in known | drawn)
        if len(inner) > 1:
            found[":".join(inner)] = known.issuperset(inner)
    return [name for name, constant in found.items() if constant], [
        name for name, constant in found.items() if not constant
    ]


def _balanced(sizes: NDArray[np.int64], earlier: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """0/1 alternating within each group of `sizes` units, crossed with the balanced predictors before it.

    Units are taken in the order of a Gray code of the earlier ones. So three of them on four units are half of a 2^3 design, with
    separate main effects; in plain order the third would equal the second.
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    keys = [np.bitwise_xor.reduce(earlier[:k], axis=0) for k in range(1, len(earlier) + 1)]
    order = np.lexsort((*reversed(keys), group))  # sorted by its last key first; ties keep their order
    values = np.empty(len(group), dtype=np.int64)
    values[order] = (np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)) % 2
    return values


def _values(condition: Condition, predictors: list[Predictor], sizes: NDArray[np.int64]) -> list[Array]:
    """The values of each predictor on groups of `sizes` units; nan where they are redrawn."""
    values: list[Array] = []
    balanced: list[NDArray[np.int64]] = []
    for predictor in predictors:
        if predictor.distribution == "balanced":
            balanced.append(_balanced(sizes, balanced))
            values.append(balanced[-1].astype(float))
        elif predictor.redraw:
            values.append(np.full(int(sizes.sum()), np.nan))
        else:
            stream = fixed_generator(condition.seed, layout_key(condition, predictor.name))
            values.append(predictor.mean + predictor.sd * standard_normal(stream, (int(sizes.sum()),)))
    return values


def _known_rows(condition: Condition, known: list[Predictor], products: list[str], sizes: NDArray[np.int64]) -> Array:
    values = dict(zip((p.name for p in known), _values(condition, known, sizes), strict=True))
    for product in products:
        values[product] = np.prod([values[v] for v in term_variables(product)], axis=0)
    return np.stack([np.ones(int(sizes.sum())), *values.values()], axis=1)


def _between_fixed(condition: Condition, between: list[Predictor], clusters: int) -> Array:
    return np.array(_values(condition, between, np.array([clusters]))).reshape(len(between), clusters)


def lower_factor(covariance: Array) -> Array:
    """A lower-triangular factor of a positive semi-definite matrix; a zero pivot leaves a zero column."""
    q = len(covariance)
    L = np.zeros((q, q))
    for j in range(q):
        pivot = covariance[j, j] - L[j, :j] @ L[j, :j]
        if pivot > 1e-12 * covariance[j, j]:
            L[j, j] = np.sqrt(pivot)
            L[j + 1 :, j] = (covariance[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L
