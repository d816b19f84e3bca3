"""Columns of predictors with categories: the contrasts that stand for them in formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Predictor

__all__ = ["coded", "contrast_values"]

Array = NDArray[np.float64]


def contrast_values(predictor: Predictor) -> Array:
    """Return (K, K - 1): the values of a predictor's columns for each of its K categories.

    treatment: 1 in its own category, the first has none; sum: 1 in its own, -1 in the last; helmert: column i holds -1 in
    categories 0 .. i and i + 1 in the next, as R's contr.helmert.
    """
    K = len(predictor.categories)
    if predictor.coding == "treatment":
        return np.eye(K)[:, 1:]
    if predictor.coding == "sum":
        return np.vstack([np.eye(K - 1), -np.ones((1, K - 1))])
    return np.diag(np.arange(1.0, K), -1)[:, :-1] - np.triu(np.ones((K, K - 1)))


def coded(predictor: Predictor, values: NDArray[Any]) -> dict[str, Array]:
    """Return the values of a predictor by its columns: itself, or contrasts where they are numbers of categories."""
    if not predictor.categories:
        return {predictor.name: values.astype(np.float64)}
    return dict(zip(predictor.columns, contrast_values(predictor)[values.astype(np.int64)].T, strict=True))
