"""Values of predictors: of those that do not change over replicates as functions of cluster sizes, of others from normal scores.

Row i = 0, 1, ... of a cluster is its place there; order within a cluster is time. What is a function of the place, the cluster
and its size can be made for any sizes; predictors that are drawn once belong to the sizes of the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..spec.balanced import (
    allocated,
    alternating,
    has_odd_rows,
    kinds_of_clusters,
    odd_rows,
    takes_turns,
)
from ..spec.factors import contrast_values
from ..spec.far import far_constants
from ..spec.identity import layout_key
from ..spec.model import Condition, Predictor, source_of, term_variables
from .deviates import standard_normal
from .distributions import predictor_transform, score_correlations
from .sizes import fixed_sizes
from .streams import fixed_generator

__all__ = [
    "PLACED",
    "between_values",
    "coded",
    "known_columns",
    "known_predictors",
    "known_products",
    "lower_factor",
    "patterns",
    "realise",
    "strata",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Distributions of level 1 that are functions of the row's place, its cluster and the cluster's size.
PLACED = ("balanced", "time", "list", "schedule", "period", "arms")


def known_predictors(condition: Condition) -> list[Predictor]:
    """The level-1 predictors that are the same in every replicate."""
    return [p for p in condition.predictors if p.level == 1 and (p.distribution in PLACED or not p.redraw)]


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
    values: dict[str, Array] = {}
    earlier: list[Integers] = []
    more = _odd_rows(condition)
    for predictor in known_predictors(condition):
        if predictor.distribution == "balanced":
            earlier.append(alternating(sizes, earlier, predictor.shares))
            if takes_turns(predictor):
                earlier[-1] = earlier[-1] ^ np.repeat(more[predictor.name][which] * (sizes % 2), sizes)
            columns = coded(predictor, earlier[-1].astype(float))
        elif predictor.distribution in PLACED:
            columns = coded(predictor, _placed(predictor, sizes, which))
        else:
            columns = _drawn_once(condition, predictor, sizes)
        values |= zip(predictor.columns, columns, strict=True)
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
        if predictor.distribution == "schedule":
            parts.append(np.arange(J) % len(predictor.sequences))
        elif predictor.distribution == "arms":
            parts.append(_arms(predictor, np.arange(J)))
        elif predictor.distribution not in PLACED:
            parts.append(np.arange(J))
    return np.asarray(np.unique(np.stack(parts), axis=1, return_inverse=True)[1], dtype=np.int64).ravel()


def between_values(condition: Condition) -> Array:
    """(m, J): the columns of the level-2 predictors; nan where they are drawn in each replicate."""
    J = condition.layout.clusters
    one = np.array([J])
    found: dict[str, Array] = {}
    earlier: list[Integers] = []
    level2 = [p for p in condition.predictors if p.level == 2]
    for predictor in sorted(level2, key=lambda p: bool(p.blocks)):  # strata before what is allocated within them
        if predictor.blocks:
            numbers = allocated(predictor, list(strata(predictor, found, J)), J)
            found[predictor.name] = coded(predictor, numbers.astype(float))
        elif predictor.distribution == "balanced":
            earlier.append(alternating(one, earlier, predictor.shares))
            found[predictor.name] = coded(predictor, earlier[-1].astype(float))
        elif predictor.distribution == "arms":
            found[predictor.name] = coded(predictor, _arms(predictor, np.arange(J)).astype(float))
        elif predictor.distribution == "list":
            found[predictor.name] = coded(predictor, np.resize(np.array(predictor.values, dtype=float), J))
        elif predictor.redraw:
            found[predictor.name] = np.full((len(predictor.columns), J), np.nan)
        else:
            found[predictor.name] = _drawn_once(condition, predictor, one)
    rows = [row for predictor in level2 for row in found[predictor.name]]
    return np.array(rows).reshape(len(rows), J)


def strata(predictor: Predictor, columns: Mapping[str, Array], J: int) -> Array:
    """(k, J, ...): what tells the blocks apart within which a predictor is allocated, the first k rows deciding first.

    columns: by name those of the level-2 predictors that may be strata.
    """
    if isinstance(predictor.blocks, str):
        return columns[predictor.blocks]
    return np.asarray(np.arange(J) // predictor.blocks, dtype=float)[None]


def _odd_rows(condition: Condition) -> dict[str, Integers]:
    """Of each level-1 predictor in halves (J): the value that has a row more in clusters of an odd number of rows."""
    layout, halves = condition.layout, [p.name for p in condition.predictors if takes_turns(p)]
    if not has_odd_rows(condition.predictors, layout):
        return {name: np.zeros(layout.clusters, dtype=np.int64) for name in halves}
    odd = np.ones(layout.clusters, dtype=bool) if layout.redrawn else fixed_sizes(condition) % 2 == 1
    kinds = kinds_of_clusters(condition.predictors, layout.clusters)
    found: dict[str, Integers] = {}
    for name in halves:
        found[name] = odd_rows(odd, kinds)
        kinds.append(found[name].astype(float))
    return found


def _placed(predictor: Predictor, sizes: Integers, which: Integers) -> Array:
    """(N): values by the row's place; of arms by cluster."""
    if predictor.distribution == "arms":
        return np.repeat(_arms(predictor, which).astype(float), sizes)
    place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if predictor.distribution == "time":
        return np.asarray(predictor.mean + predictor.sd * place, dtype=float)
    if predictor.distribution == "schedule":
        sequences = np.array(predictor.sequences, dtype=float)
        row = np.repeat(which % len(sequences), sizes)
        return np.asarray(sequences[row, np.minimum(place, sequences.shape[1] - 1)])
    values = np.array(predictor.values, dtype=float)
    if predictor.distribution == "list":
        return np.asarray(values[place % len(values)])
    return np.asarray(values[np.minimum(place, len(values) - 1)])  # period; the last one goes on


def _arms(predictor: Predictor, clusters: Integers) -> Integers:
    """The arm, 0, 1, ..., of clusters by their numbers."""
    ends: Sequence[int] = np.cumsum(predictor.arms).tolist()
    return np.searchsorted(ends, clusters, side="right").astype(np.int64)


def coded(predictor: Predictor, values: Array) -> Array:
    """(columns, N): the values, or contrasts where they are numbers of categories."""
    if not predictor.categories:
        return values[None]
    return np.moveaxis(contrast_values(predictor)[values.astype(np.int64)], -1, 0)


def _drawn_once(condition: Condition, predictor: Predictor, sizes: Integers) -> Array:
    """(columns, N): a draw from a stream of the predictor's own; level 2 is one group of J."""
    assert predictor.level == 2 or not condition.layout.redrawn, "spec refuses them where sizes are redrawn"
    group = [p for p in condition.predictors if p.level == predictor.level and not _placed_or_redrawn(p)]
    R, shares = score_correlations(group, condition.correlations)
    own = group.index(predictor)
    g = np.zeros(int(sizes.sum()))
    for weight, other in zip(lower_factor(R)[own], group, strict=True):
        if weight:
            g = g + weight * _scores(condition, other, sizes, shares[own])
    return realise(predictor, g)


def _placed_or_redrawn(predictor: Predictor) -> bool:
    return predictor.redraw or predictor.distribution in PLACED


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
    if predictor.distribution == "normal":
        return np.asarray(predictor.mean + predictor.sd * g)[None]
    return coded(predictor, predictor_transform(predictor)(np.ascontiguousarray(g)))


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
