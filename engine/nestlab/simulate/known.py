"""Values of predictors: of those that do not change over replicates as functions of cluster sizes, of others from normal scores.

Row i = 0, 1, ... of a cluster is its place there; order within a cluster is time. What is a function of the place, the cluster
and its size can be made for any sizes; predictors that are drawn once belong to the sizes of the layout.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..spec.far import far_constants
from ..spec.identity import layout_key
from ..spec.model import Condition, Predictor, source_of, term_variables
from ..spec.predictors import distribution_of, is_known
from ..spec.predictors.allotted import has_odd_rows
from ..spec.predictors.categories import coded, contrast_values
from ..spec.predictors.distribution import Places
from ..spec.predictors.known import between_numbers, numbers_of_rows, odd_numbers
from .deviates import standard_normal
from .distributions import predictor_transform, score_correlations
from .sizes import fixed_sizes
from .streams import fixed_generator

__all__ = [
    "between_values",
    "known_columns",
    "known_predictors",
    "known_products",
    "lower_factor",
    "patterns",
    "realise",
    "stated_values",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def known_predictors(condition: Condition) -> list[Predictor]:
    """The level-1 predictors that are the same in every replicate."""
    return [p for p in condition.predictors if p.level == 1 and (is_known(p) or not p.redraw)]


def known_products(condition: Condition) -> list[str]:
    """Products of known columns among the truth's terms, as names of columns."""
    known = {column for p in known_predictors(condition) for column in p.columns}
    level1 = {column for p in condition.predictors if p.level == 1 for column in p.columns}
    formula = condition.truth.formula
    found: dict[str, None] = {}
    for term in (*formula.fixed, *formula.random_columns):
        inner = sorted(v for v in term_variables(term) if v in level1 or source_of(v)[1] in ("within", "center"))
        if len(inner) > 1 and known.issuperset(inner):
            found[":".join(inner)] = None
    return list(found)


def known_columns(condition: Condition, sizes: Integers, clusters: Integers | None = None) -> Array:
    """(N, known): the known level-1 columns of clusters of any sizes (>= 0), in turn: Intercept, predictors, products; less the
    constants of those far from 0, see `spec.far`.

    clusters: which of the layout's clusters each is, 0, 1, ... by default; the same one may come again. Predictors that are drawn
    once have values for the condition's own sizes only.
    """
    which = np.arange(len(sizes)) if clusters is None else clusters
    inner = known_predictors(condition)
    numbers = numbers_of_rows(inner, Places(sizes, which, _odd_rows(condition)))
    values: dict[str, Array] = {}
    for p in inner:
        columns = coded(p, numbers[p.name]) if p.name in numbers else _drawn_once(condition, p, sizes)
        values |= zip(p.columns, columns, strict=True)
    for name, constant in far_constants(condition).items():
        if name in values:
            values[name] = values[name] - constant
    for product in known_products(condition):
        values[product] = np.prod([values[v] for v in term_variables(product)], axis=0)
    return np.stack([np.ones(int(sizes.sum())), *values.values()], axis=1)


def patterns(condition: Condition) -> Integers:
    """(J): a number for each of the layout's clusters; two that share it and have one size have the same known columns.

    Predictors that are drawn once make every cluster its own.
    """
    J = condition.layout.clusters
    parts: list[Integers] = [np.zeros(J, dtype=np.int64), *_odd_rows(condition).values()]
    for predictor in known_predictors(condition):
        if not is_known(predictor):
            parts.append(np.arange(J))
        elif turn := distribution_of(predictor).turn:
            parts.append(turn(predictor, np.arange(J)))
    return np.asarray(np.unique(np.stack(parts), axis=1, return_inverse=True)[1], dtype=np.int64).ravel()


def between_values(condition: Condition) -> Array:
    """(m, J): the columns of the level-2 predictors; nan where they are drawn in each replicate."""
    J = condition.layout.clusters
    level2 = [p for p in condition.predictors if p.level == 2]
    drawn = {
        p.name: np.full((len(p.columns), J), np.nan) if p.redraw else _drawn_once(condition, p, np.array([J]))
        for p in level2
        if not is_known(p)
    }
    numbers = between_numbers(level2, J, drawn)
    rows = [row for p in level2 for row in (coded(p, numbers[p.name]) if p.name in numbers else drawn[p.name])]
    return np.array(rows).reshape(len(rows), J)


def _odd_rows(condition: Condition) -> dict[str, Integers]:
    """Of each level-1 predictor in halves (J): the value that has a row more in clusters of an odd number of rows."""
    predictors, layout = condition.predictors, condition.layout
    if not has_odd_rows(predictors, layout):
        return {}
    return odd_numbers(
        predictors, np.ones(layout.clusters, dtype=bool) if layout.redrawn else fixed_sizes(condition) % 2 == 1
    )


def _drawn_once(condition: Condition, predictor: Predictor, sizes: Integers) -> Array:
    """(columns, N): a draw from a stream of the predictor's own; level 2 is one group of J."""
    assert predictor.level == 2 or not condition.layout.redrawn, "spec refuses them where sizes are redrawn"
    group = [p for p in condition.predictors if p.level == predictor.level and not (p.redraw or is_known(p))]
    R, shares = score_correlations(group, condition.correlations)
    own = group.index(predictor)
    g = np.zeros(int(sizes.sum()))
    for weight, other in zip(lower_factor(R)[own], group, strict=True):
        if weight:
            g = g + weight * _scores(condition, other, sizes, shares[own])
    return realise(predictor, g)


def _scores(condition: Condition, predictor: Predictor, sizes: Integers, share: float) -> Array:
    """(N): standard normal deviates of the predictor's own stream, of which groups share a part."""
    stream = fixed_generator(condition.seed, layout_key(condition, predictor.name))
    within = standard_normal(stream, (int(sizes.sum()),))
    if not share:
        return within
    between = standard_normal(stream, (len(sizes),))
    return np.asarray(np.sqrt(share) * np.repeat(between, sizes) + np.sqrt(1 - share) * within)


def realise(predictor: Predictor, g: Array) -> Array:
    """(columns, *g.shape): the columns of a random predictor, from normal scores of any shape."""
    if distribution_of(predictor).gaussian:
        return np.asarray(predictor.mean + predictor.sd * g)[None]
    return coded(predictor, predictor_transform(predictor)(np.ascontiguousarray(g)))


def stated_values(predictor: Predictor, term: Callable[[str], Array]) -> NDArray[np.generic]:
    """(N): a predictor's values on rows as people know them; of a categorical one the categories, found by their contrasts.

    term: the values (N) of a column of the predictor.
    """
    if not predictor.categories:
        return term(predictor.name)
    found = np.stack([term(column) for column in predictor.columns], axis=1)
    distance = np.abs(found[:, None, :] - contrast_values(predictor)[None, :, :]).sum(axis=2)
    return np.asarray(np.array(predictor.categories, dtype=object)[distance.argmin(axis=1)])


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
