"""What the layout gives to clusters and rows: the values, or numbers of categories, of known predictors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Predictor
from . import distribution_of, is_known
from .allocation import allotted
from .allotted import HALVES, odd_rows, takes_turns
from .categories import coded
from .distribution import Array, Integers, Places

__all__ = ["between_numbers", "numbers_of_rows", "odd_numbers", "strata"]


def numbers_of_rows(predictors: Iterable[Predictor], places: Places) -> dict[str, NDArray[Any]]:
    """(N) each, by name: the values of known predictors at the rows of clusters."""
    return {p.name: known(p, places) for p in predictors if (known := distribution_of(p).known)}


def between_numbers(
    predictors: Sequence[Predictor], clusters: int, drawn: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """(J) each, by name: the values of known predictors that are constant within clusters.

    Strata come before what is allocated within them. drawn: columns (k, J) of predictors that may be strata and are not known.
    """
    columns, places, found = dict(drawn or {}), Places.of_clusters(clusters), dict[str, Array]()
    for p in sorted((p for p in predictors if p.outer and is_known(p)), key=lambda p: bool(p.blocks)):
        blocks = strata(p, columns, clusters) if p.blocks else None
        numbers = numbers_of_rows([p], places)[p.name] if blocks is None else _allocated(p, blocks, clusters)
        found[p.name] = numbers.astype(float)
        columns[p.name] = coded(p, found[p.name])
    return found


def strata(predictor: Predictor, columns: Mapping[str, Array], clusters: int) -> Array:
    """(k, J, ...): what tells the blocks apart within which a predictor is allocated, the first k rows deciding first.

    columns: by name those of the level-2 predictors that may be strata; without the one that is, nothing tells blocks apart.
    """
    if isinstance(predictor.blocks, str):
        return columns.get(predictor.blocks, np.empty((0, clusters)))
    return np.asarray(np.arange(clusters) // predictor.blocks, dtype=float)[None]


def _allocated(predictor: Predictor, blocks: Array, clusters: int) -> Integers:
    """(J): the numbers of a level-2 predictor, handed out block by block; without blocks in the order of the clusters."""
    values = np.empty(clusters, dtype=np.int64)
    order = np.lexsort(tuple(blocks[::-1])) if len(blocks) else np.arange(clusters)
    values[order] = allotted(predictor.shares or HALVES, clusters)
    return values


def odd_numbers(predictors: Sequence[Predictor], odd: NDArray[np.bool_]) -> dict[str, Integers]:
    """(J), of predictors in halves of rows: the value that has a row more in clusters of an odd number of rows, `odd` (J).

    It is 0 and 1 in turn among clusters of which the design knows the same: arms, balanced and listed values, sequences of
    schedules, and what the predictors in halves before it have.
    """
    if not any(map(takes_turns, predictors)):
        return {}
    clusters, found = np.arange(len(odd)), dict[str, Integers]()
    numbers = between_numbers(predictors, len(odd))
    for p in predictors:
        if p.name not in numbers and (turn := distribution_of(p).turn):
            numbers[p.name] = turn(p, clusters).astype(float)
    kinds = [numbers[p.name] for p in predictors if p.name in numbers]
    for p in filter(takes_turns, predictors):
        found[p.name] = odd_rows(odd, kinds)
        kinds.append(found[p.name].astype(float))
    return found
