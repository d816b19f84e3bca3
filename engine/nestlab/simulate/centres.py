"""The mean of a level-1 predictor that center() takes off: over all rows in the truth, over those observed in an analysis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..spec.model import Condition, Missing, Predictor
from ..spec.predictors import is_known
from ..spec.variances import predictor_mean

__all__ = ["centres_of", "mean_over_rows"]


def centres_of(condition: Condition) -> Callable[[str], tuple[float, float]]:
    """`mean_over_rows` of a condition, by a predictor's name: if no row were missing, and of the rows observed."""
    whole = replace(condition, missing=None)
    return lambda name: (mean_over_rows(whole, name), mean_over_rows(condition, name))


def mean_over_rows(condition: Condition, name: str) -> float:
    """The limit of a level-1 predictor's mean over the observed rows as clusters become many; nan where it is not known.

    Of a predictor with the same values in every replicate it is the mean of these values, each with the probability that its row
    is observed.
    """
    predictor, missing = condition.predictor(name), condition.missing
    stays = is_known(predictor) or not predictor.redraw
    if (
        missing is not None
        and missing.at_random is not None
        and (stays or not _is_apart(predictor, condition, missing))
    ):
        return math.nan
    if not stays:
        return predictor_mean(predictor)
    if condition.layout.redrawn:
        return math.nan
    from .known import known_columns, known_predictors  # they bring the compiler
    from .sizes import fixed_sizes

    sizes = fixed_sizes(condition)
    columns = [column for p in known_predictors(condition) for column in p.columns]
    values = known_columns(condition, sizes)[:, 1 + columns.index(predictor.columns[0])]
    weights = np.ones(len(values)) if missing is None else _observed(missing, sizes)
    return float(values @ weights / weights.sum())


def _is_apart(predictor: Predictor, condition: Condition, missing: Missing) -> bool:
    """Whether a predictor that is redrawn has nothing to do with the rows that are lost at random."""
    assert missing.at_random is not None
    name = missing.at_random[0]
    correlated = any({a, b} == {predictor.name, name} and r for a, b, r in condition.correlations)
    return name not in ("previous", predictor.name) and not correlated


def _observed(missing: Missing, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N): the probability that each row outlasts its cluster's dropout."""
    place = np.concatenate([np.arange(n) for n in sizes.tolist()]).astype(np.float64)
    weights = (1 - missing.hazard) ** place
    if missing.weibull is not None:
        scale, shape = missing.weibull
        weights = weights * np.exp(-((place / scale) ** shape))
    return np.asarray(weights)
