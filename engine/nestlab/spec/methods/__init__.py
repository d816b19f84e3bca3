"""ESTIMATORS: the ways to analyse, a row each; the fitting side of a row is its module in `fit/methods`."""

from __future__ import annotations

from typing import Protocol

from .by_units import BOTH_UNITS, BY_UNITS, MIN_F
from .estimator import Estimator, UnknownError
from .function import FUNCTION
from .gee import GEE
from .glmm import GLMM
from .least_squares import CLUSTER_MEANS, FIXED_EFFECTS, GLS, OLS
from .mixed import LMM, STATSMODELS
from .summary_measures import ANCOVA, CHANGE_SCORES

__all__ = ["ESTIMATORS", "Estimator", "UnknownError", "estimator_of"]

_ROWS = (
    LMM,
    GLMM,
    STATSMODELS,
    GEE,
    FUNCTION,
    OLS,
    FIXED_EFFECTS,
    CLUSTER_MEANS,
    GLS,
    CHANGE_SCORES,
    ANCOVA,
    BY_UNITS,
    MIN_F,
    BOTH_UNITS,
)
#: By the word of a study file.
ESTIMATORS = {row.name: row for row in _ROWS}


class _Named(Protocol):
    @property
    def estimator(self) -> str: ...


def estimator_of(method: _Named) -> Estimator:
    """The row of a method, or of its table in a study file."""
    return ESTIMATORS[method.estimator]
