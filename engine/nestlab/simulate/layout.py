"""The design of a condition: its level-1 columns, its level-2 multipliers and what is the same in every replicate.

Every term is a level-1 column times a level-2 multiplier: "x:z" with x at level 1 and z at level 2 is column "x" times "z". So
the sufficient statistics are kept for the distinct level-1 columns D = [Intercept, known, drawn, centred, products] only, and
the level-2 columns z = [predictors, means of clusters].

Sums over rows are NumPy's own, never BLAS: its last digits depend on its number of threads, a block's must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..spec.far import constant_of, expanded, far_constants
from ..spec.model import INTERCEPT, Condition, Formula, Predictor, source_of, term_variables
from ..spec.predictors import is_allocated
from .known import between_values, known_columns, known_predictors, known_products, lower_factor
from .sizes import fixed_sizes

__all__ = ["Design", "cluster_sums", "compile_design", "lower_factor", "pair"]

Array = NDArray[np.float64]


def pair(i: int, k: int) -> int:
    """Where the entry (i, k) of a symmetric matrix is stored: the upper triangle by columns."""
    return i + k * (k + 1) // 2 if i <= k else k + i * (i + 1) // 2


@dataclass(frozen=True)
class Design:
    """What depends on the condition alone.

    sizes (J): of clusters; their rounded means where sizes are redrawn. columns: names of the d level-1 columns, of which the
    first `known` are functions of the clusters' sizes (the Intercept, predictors that are not redrawn, their products), the next
    `drawn` are those of `predictors` (drawn_mean, drawn_sd; a categorical one has several, without these), then come centred
    columns (index of the source, "within" its cluster or "center": at the mean of all rows) and products of earlier ones (their
    indices). known_rows (N, known): of these sizes; `known.known_columns` gives them for others.

    between: names of the m level-2 columns, of which the last are cluster means of level-1 columns (`means`: their indices), the
    others those of `between_predictors`; between_fixed (m, J): nan where they are drawn or means. allocated: level-2 columns that
    are known but change places, all together, in each replicate. random (q): the level-1 column of each of the truth's random
    effects; random_factor (q, q): lower factor of their covariance.

    moved: what is taken off predictors far from 0, by name (`spec.far`). The level-1 columns, `known_rows` and `drawn_mean` are
    less these constants, and products are of such columns; level-2 columns are as they are.
    """

    condition: Condition
    sizes: NDArray[np.int64]
    columns: tuple[str, ...]
    known: int
    predictors: tuple[Predictor, ...]
    drawn_mean: Array
    drawn_sd: Array
    centred: tuple[tuple[int, str], ...]
    products: tuple[tuple[int, ...], ...]
    known_rows: Array
    between: tuple[str, ...]
    between_predictors: tuple[Predictor, ...]
    between_fixed: Array
    allocated: tuple[int, ...]
    means: tuple[int, ...]
    random: tuple[int, ...]
    random_factor: Array
    moved: Mapping[str, float]

    @property
    def clusters(self) -> int:
        return len(self.sizes)

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    @property
    def drawn(self) -> int:
        """The number of redrawn level-1 columns."""
        return len(self.drawn_mean)

    @property
    def residual_sd(self) -> float:
        return float(np.sqrt(self.condition.truth.residual_variance))

    @property
    def settled(self) -> bool:
        """Whether all replicates have the same rows: sizes that are not redrawn, nothing missing."""
        return not self.condition.uneven

    @property
    def between_drawn(self) -> NDArray[np.bool_]:
        """(m): whether a level-2 column differs between replicates."""
        drawn = np.asarray(np.isnan(self.between_fixed).any(axis=1))
        drawn[list(self.allocated)] = True
        for predictor in self.blocked:
            drawn[self.places(predictor)] = True
        return drawn

    @property
    def blocked(self) -> tuple[Predictor, ...]:
        """Level-2 predictors that change places within blocks in each replicate, each by itself."""
        return tuple(p for p in self.between_predictors if p.redraw and p.blocks)

    def places(self, predictor: Predictor) -> slice:
        """Where the columns of a level-2 predictor stand among the level-2 columns."""
        first = self.between.index(predictor.columns[0])
        return slice(first, first + len(predictor.columns))

    @cached_property
    def known_gram(self) -> Array:
        """(J, known (known + 1) / 2): D'D of the known columns by pairs."""
        K = self.known_rows
        products = [K[:, i] * K[:, k] for k in range(self.known) for i in range(k + 1)]
        return np.stack([self.cluster_sums(product) for product in products], axis=1)

    def cluster_sums(self, values: Array) -> Array:
        """(J): sums over each cluster's rows of `values` (N)."""
        return cluster_sums(values, self.sizes)

    @cached_property
    def constants(self) -> Array:
        """(d): what was taken off each level-1 column that is no product."""
        return np.array([0.0 if len(term_variables(c)) > 1 else constant_of(c, self.moved) for c in self.columns])

    @cached_property
    def as_stated(self) -> Array:
        """(d, d): the level-1 columns of the study are D times this, D less the constants."""
        place = {tuple(sorted(term_variables(name))): i for i, name in enumerate(self.columns)}
        made = np.zeros((len(self.columns), len(self.columns)))
        for k, name in enumerate(self.columns):
            for variables, value in expanded(name, self.moved).items():
                made[place[variables], k] = value
        return made

    def stated(self, D: Array) -> Array:
        """(N, d): the level-1 columns of the study, from rows (N, d) less the constants."""
        return np.einsum("ni,ik->nk", D, self.as_stated) if self.moved else D

    def moved_weights(self, columns: list[int], weights: Array) -> tuple[list[int], Array]:
        """Columns of D and weights (columns, ...) that give what these weights give of the columns of the study."""
        if not self.moved:
            return columns, weights
        part = self.as_stated[:, columns]
        used = np.flatnonzero(part.any(axis=1)).tolist()
        return used, np.asarray(np.einsum("ik,k...->i...", part[used], weights))

    def split(self, term: str) -> tuple[int, tuple[str, ...]]:
        """A term's level-1 column and the level-2 predictors that multiply it."""
        return _split(term, self.columns, self.between)


def cluster_sums(values: Array, sizes: NDArray[np.int64]) -> Array:
    """(J): sums of `values` (N) over the rows of clusters, 0 of empty ones."""
    starts = np.cumsum(sizes) - sizes
    if sizes.all():
        return np.add.reduceat(values, starts)
    sums, filled = np.zeros(len(sizes)), sizes > 0
    if filled.any():
        sums[filled] = np.add.reduceat(values, starts[filled])
    return sums


def compile_design(condition: Condition, formulas: Sequence[Formula] = ()) -> Design:
    """Everything that replicates of this condition share; paid once per condition.

    formulas: of analyses, whose centred predictors become columns, too; no draw depends on them.
    """
    level1 = [p for p in condition.predictors if p.level == 1]
    between = tuple(p for p in condition.predictors if p.level == 2)
    known = known_predictors(condition)
    drawn = tuple(p for p in level1 if p not in known)
    constant = known_products(condition)
    plain = (INTERCEPT, *_columns(known), *constant, *_columns(drawn))
    centred, means = _centred((condition.truth.formula, *formulas), plain)
    names = (*_columns(between), *(f"between({plain[source]})" for source in means))
    single = (*plain, *(f"{how}({plain[source]})" for source, how in centred))
    products = _products(condition.truth.formula, single, set(constant))
    columns = (*single, *products)
    sizes = fixed_sizes(condition)
    random = [_split(column, columns, names) for column in condition.truth.formula.random_columns]
    assert not any(outer for _, outer in random), "spec refuses random slopes of level-2 predictors"
    each = [p for p in drawn for _ in p.columns]
    moved = far_constants(condition)
    return Design(
        condition=condition,
        sizes=sizes,
        columns=columns,
        known=1 + len(_columns(known)) + len(constant),
        predictors=drawn,
        drawn_mean=np.array([p.mean - moved.get(p.name, 0.0) for p in each]),
        drawn_sd=np.array([p.sd for p in each]),
        centred=centred,
        products=tuple(tuple(columns.index(v) for v in term_variables(term)) for term in products),
        known_rows=known_columns(condition, sizes),
        between=names,
        between_predictors=between,
        between_fixed=np.vstack([between_values(condition), np.full((len(means), len(sizes)), np.nan)]),
        allocated=_allocated(between),
        means=means,
        random=tuple(column for column, _ in random),
        moved=moved,
        random_factor=lower_factor(np.array(condition.truth.covariance, dtype=float).reshape(len(random), len(random))),
    )


def _columns(predictors: Sequence[Predictor]) -> tuple[str, ...]:
    return tuple(column for predictor in predictors for column in predictor.columns)


def _allocated(between: Sequence[Predictor]) -> tuple[int, ...]:
    """Places among the level-2 columns of predictors that are allocated to clusters at random."""
    flags = [is_allocated(p) and not p.blocks for p in between for _ in p.columns]
    return tuple(k for k, flag in enumerate(flags) if flag)


def _centred(
    formulas: Sequence[Formula], plain: tuple[str, ...]
) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    """Centred columns as (source, "within" or "center"), and sources of cluster means, as formulas name them."""
    centred: dict[tuple[int, str], None] = {}
    means: dict[int, None] = {}
    for formula in formulas:
        for term in (*formula.fixed, *formula.random_columns):
            for variable in term_variables(term):
                name, how = source_of(variable)
                if how == "between":
                    means[plain.index(name)] = None
                elif how in ("within", "center"):
                    centred[plain.index(name), how] = None
    return tuple(sorted(centred)), tuple(sorted(means))


def _products(formula: Formula, single: tuple[str, ...], known: set[str]) -> list[str]:
    """Products of level-1 columns among the truth's terms, but for the known ones."""
    found: dict[str, None] = {}
    for term in (*formula.fixed, *formula.random_columns):
        inner = sorted(v for v in term_variables(term) if v in single)
        if len(inner) > 1 and ":".join(inner) not in known:
            found[":".join(inner)] = None
    return list(found)


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
