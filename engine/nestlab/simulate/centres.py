"""The mean of a level-1 predictor over the rows that are observed, which center() takes off."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..spec.model import Condition, Missing, Predictor
from ..spec.variances import predictor_mean
from .known import known_columns, known_predictors
from .sizes import fixed_sizes

__all__ = ["centres_of", "mean_over_rows"]


def centres_of(condition: Condition) -> Callable[[str], float]:
    """`mean_over_rows` of a condition, by a predictor's name."""
    return partial(mean_over_rows, condition)


def mean_over_rows(condition: Condition, name: str) -> float:
    """The limit of a level-1 predictor's mean over the observed rows as clusters become many; nan where it is not known.

    Of a predictor with the same values in every replicate it is the mean of these values, each with the probability that its row
    is observed.
    """
    predictor, missing = condition.predictor(name), condition.missing
    if missing is not None and missing.at_random is not None and not _is_apart(predictor, condition, missing):
        return math.nan
    known = known_predictors(condition)
    if predictor not in known:
        return predictor_mean(predictor)
    if condition.layout.redrawn:
        return math.nan
    sizes = fixed_sizes(condition)
    columns = [column for p in known for column in p.columns]
    values = known_columns(condition, sizes)[:, 1 + columns.index(predictor.columns[0])]
    weights = np.ones(len(values)) if missing is None else _observed(missing, sizes)
    return float(values @ weights / weights.sum())


def _is_apart(predictor: Predictor, condition: Condition, missing: Missing) -> bool:
    """Whether the predictor has nothing to do with the rows that are lost at random."""
    assert missing.at_random is not None
    name = missing.at_random[0]
    if name == "previous" or predictor.name == name or predictor in known_predictors(condition):
        return False
    return not any({a, b} == {predictor.name, name} and r for a, b, r in condition.correlations)


def _observed(
    missing: Missing, sizes: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(N): the probability that each row outlasts its cluster's dropout."""
    place = np.concatenate([np.arange(n) for n in sizes.tolist()]).astype(np.float64)
    weights = (1 - missing.hazard) ** place
    if missing.weibull is not None:
        scale, shape = missing.weibull
        weights = weights * np.exp(-((place / scale) ** shape))
    return np.asarray(weights)
