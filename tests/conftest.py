"""Small studies that many tests share."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest

# Before NumPy is loaded: two test processes with several BLAS threads each get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TWO_ARMS: dict[str, Any] = {
    "name": "two-arms",
    "seed": 11,
    "replications": 600,
    "design": {"clusters": 10, "cluster_size": 5},
    "grid": {"icc": [0.05, 0.3], "truth.fixed.arm": [0.0, 0.8]},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 2, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml", "df": "between-within"}, {"name": "ml", "reml": False}],
}

SLOPE: dict[str, Any] = {
    "name": "slope",
    "seed": 5,
    "replications": 300,
    "design": {"clusters": 8, "cluster_size": 6},
    "truth": {
        "formula": "y ~ 1 + x + (1 + x | school)",
        "fixed": {"Intercept": 2, "x": 0.5},
        "residual_variance": 1,
        "random": {
            "school": {"variance": {"Intercept": 0.5, "x": 0.2}, "correlation": {"Intercept:x": 0.3}},
        },
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}


@pytest.fixture
def two_arms() -> dict[str, Any]:
    """4 conditions x 2 methods x 600 replications; fixed effects known, so only the response is drawn."""
    return copy.deepcopy(TWO_ARMS)


@pytest.fixture
def slope() -> dict[str, Any]:
    """One condition of a random slope with a redrawn predictor."""
    return copy.deepcopy(SLOPE)


@pytest.fixture
def changed() -> Callable[..., dict[str, Any]]:
    """A copy of a study's tables with values at dotted paths replaced: changed(tables, {"design.clusters": 12})."""

    def change(tables: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        result = copy.deepcopy(tables)
        for path, value in values.items():
            *parents, last = path.split("/")
            place = result
            for parent in parents:
                place = place[parent]
            place[last] = value
        return result

    return change
