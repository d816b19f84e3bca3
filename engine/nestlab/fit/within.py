"""Data as fixed effects of clusters, or their means, leave them: Grams of other responses and other columns.

A dummy for each cluster, partialled out, leaves deviations from the cluster means (the within estimator): with n_j = D_0'D_0,
column 0 the constant 1,

    within: D_a'D_b - (D_0'D_a)(D_0'D_b) / n_j        means: w_j (D_0'D_a)(D_0'D_b) / n_j^2,  w_j = 1 or n_j

and so for y. A cluster without rows is absent from both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..simulate.layout import pair
from .lmm import pairs
from .reduce import WITHIN_TOLERANCE

__all__ = ["means_gram", "within_gram"]

Array = NDArray[np.float64]


def within_gram(gram: Gram, columns: list[int]) -> Gram:
    """The Gram of these level-1 columns, in this order, and of y as deviations from cluster means.

    A column that is constant in a cluster is 0 there, without rounding.
    """
    n, sums, mean_y = _sums(gram, columns)
    means = sums / n
    dd = np.stack(
        [gram.dd[:, pair(columns[i], columns[k])] - means[i] * sums[k] for i, k in pairs(len(columns))], axis=1
    )
    dy = np.stack([gram.dy[:, c] - sums[i] * mean_y for i, c in enumerate(columns)], axis=1)
    yy = gram.yy - gram.dy[:, 0] * mean_y
    for i, c in enumerate(columns):
        constant = dd[:, pair(i, i)] <= WITHIN_TOLERANCE * gram.dd[:, pair(c, c)]
        for k in range(len(columns)):
            dd[:, pair(i, k)][constant] = 0.0
        dy[:, i][np.broadcast_to(constant, yy.shape)] = 0.0
    return Gram(dd, dy, np.maximum(yy, 0.0), gram.weights)


def means_gram(gram: Gram, columns: list[int], *, by_size: bool) -> Gram:
    """The Gram of the cluster means of these level-1 columns and of y: a row a cluster, by_size one that counts n_j times."""
    n, sums, mean_y = _sums(gram, columns)
    weight = n if by_size else np.ones_like(n)
    means = sums / n
    dd = np.stack([weight * means[i] * means[k] for i, k in pairs(len(columns))], axis=1)
    dy = np.stack([weight * mean * mean_y for mean in means], axis=1)
    return Gram(dd, dy, weight * mean_y**2, gram.weights)


def _sums(gram: Gram, columns: list[int]) -> tuple[Array, Array, Array]:
    """n (J, R or 1), at least 1; sums (columns, J, R or 1); the mean of y (J, R)."""
    n = np.maximum(gram.dd[:, 0], 1.0)
    return n, np.stack([gram.dd[:, pair(0, c)] for c in columns]), gram.dy[:, 0] / n
