"""Operations on columns of which only the products are kept: D'D (J, d(d+1)/2, R or 1) by pairs and D'e (J, d, R).

Centring is one of them. A column is centred while it is small, before its mean is added to it, so that within(x) and center(x)
keep their digits where x has a mean of 1e6 and a standard deviation of 1. Clusters without rows have products of 0.
"""

from __future__ import annotations

import numpy as np

from .layout import Array, Design, pair

__all__ = ["add_column", "centre", "centre_within", "cluster_means", "overall_mean", "scale_column"]

#: Of a column's sum of squares, what is left within clusters that is rounding.
ROUNDING = 1e-13


def scale_column(dd: Array, de: Array, column: int, factor: float) -> None:
    """Multiply a column."""
    for i in range(de.shape[1]):
        dd[:, pair(i, column)] *= factor * factor if i == column else factor
    de[:, column] *= factor


def add_column(dd: Array, de: Array, source: int, target: int, factor: float | Array) -> None:
    """Add `factor`, a number or (J or 1, R or 1), times one column to another one; dd must be as wide as the factor."""
    dd[:, pair(target, target)] += factor * (2.0 * dd[:, pair(source, target)] + factor * dd[:, pair(source, source)])
    for i in range(de.shape[1]):
        if i != target:
            dd[:, pair(i, target)] += factor * dd[:, pair(i, source)]
    de[:, target] += factor * de[:, source]


def cluster_means(dd: Array, column: int) -> Array:
    """(J, R or 1): a column's mean in each cluster, 0 without rows."""
    rows = dd[:, 0]
    return np.divide(dd[:, pair(0, column)], rows, out=np.zeros_like(rows), where=rows > 0)


def overall_mean(dd: Array, column: int) -> Array:
    """(R or 1): a column's mean over all rows, 0 without rows."""
    rows, total = dd[:, 0].sum(axis=0), dd[:, pair(0, column)].sum(axis=0)
    return np.asarray(np.divide(total, rows, out=np.zeros_like(rows), where=rows > 0))


def centre_within(design: Design, dd: Array, de: Array) -> None:
    """Fill the columns "within", deviations from the cluster's mean, where centred columns are 0 so far."""
    for target, (source, how) in enumerate(design.centred, start=design.known + design.drawn):
        if how != "within":
            continue
        _copy_column(dd, de, source, target)
        add_column(dd, de, 0, target, -cluster_means(dd, source))
        nothing = (dd[:, pair(target, target)] <= ROUNDING * dd[:, pair(source, source)]) | (dd[:, 0] <= 1.0)
        for i in range(de.shape[1]):
            dd[:, pair(i, target)][nothing] = 0.0
        dd[:, pair(0, target)] = 0.0
        de[:, target][np.broadcast_to(nothing, de[:, target].shape)] = 0.0


def centre(design: Design, dd: Array, de: Array) -> None:
    """Fill the columns "center", deviations from the mean of all rows."""
    for target, (source, how) in enumerate(design.centred, start=design.known + design.drawn):
        if how == "center":
            _copy_column(dd, de, source, target)
            add_column(dd, de, 0, target, -overall_mean(dd, source))


def _copy_column(dd: Array, de: Array, source: int, target: int) -> None:
    for i in range(de.shape[1]):
        if i != target:
            dd[:, pair(i, target)] = dd[:, pair(i, source)]
    dd[:, pair(target, target)] = dd[:, pair(source, source)]
    de[:, target] = de[:, source]
