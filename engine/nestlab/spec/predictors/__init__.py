"""DISTRIBUTIONS: the distributions that predictors may have, a row each. A file holds one of them, or a family."""

from __future__ import annotations

from ..model import Predictor
from .allotted import ARMS, BALANCED
from .beta import BETA
from .by_place import LATIN_SQUARE, LIST, PERIOD, SCHEDULE, TIME
from .by_steps import BINARY, CATEGORICAL, RESAMPLED
from .distribution import PredictorDistribution
from .scaled import SHAPES

__all__ = [
    "DISTRIBUTIONS",
    "SHAPES",
    "PredictorDistribution",
    "distribution_of",
    "is_allocated",
    "is_by_chance",
    "is_known",
]

#: By their names in study files, in the order in which people read them.
DISTRIBUTIONS = SHAPES | {
    row.name: row
    for row in (BETA, BALANCED, BINARY, CATEGORICAL, TIME, LIST, RESAMPLED, SCHEDULE, PERIOD, ARMS, LATIN_SQUARE)
}


def distribution_of(predictor: Predictor) -> PredictorDistribution:
    return DISTRIBUTIONS[predictor.distribution]


def is_known(predictor: Predictor) -> bool:
    """Whether it has the same values in every replicate, but for clusters that change places."""
    return distribution_of(predictor).known is not None


def is_allocated(predictor: Predictor) -> bool:
    """Whether its values are put to clusters at random in each replicate."""
    return predictor.level == 2 and predictor.redraw and distribution_of(predictor).allotted


def is_by_chance(predictor: Predictor) -> bool:
    """Whether each replicate draws anew to which category each cluster belongs, and so how many belong to each."""
    return predictor.level == 2 and predictor.redraw and distribution_of(predictor).by_chance
