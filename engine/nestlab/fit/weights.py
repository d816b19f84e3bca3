"""Prior weights and an offset, as lmer's: y ~ N(offset + X b + Z u, s2 / w), row by row.

Rows times sqrt(w) have errors of one variance, so the weighted fit is that of the rows so multiplied. Its deviance is about the
multiplied y: the data's own has sum(log w) less.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..spec.matrices import ModelMatrices, model_matrices
from ..spec.problems import DataError, nearest, show

__all__ = ["read_counts", "read_rows", "weighted"]

Array = NDArray[np.float64]


def read_rows(
    formula: str, data: pd.DataFrame, *, weights: str | None = None, offset: str | None = None
) -> tuple[ModelMatrices, Array | None]:
    """Return the matrices of a formula, with y less the offset, and the weights (N), if there are any.

    weights, offset: columns of data. A row without one of them is dropped, as R does. Raises DataError for a column that is
    absent or no numbers, and for a weight that is not positive.
    """
    m, rows = _read(formula, data, {"weights": weights, "offset": offset}, counts=False)
    if "weights" in rows and not (rows["weights"] > 0).all():
        count, smallest = int((rows["weights"] <= 0).sum()), rows["weights"].min()
        rest = f"must be above 0, and {count} of {len(m.y)} are not (the smallest is {smallest:g}); remove those rows"
        raise DataError(f"weights = {show(weights)}: {rest}")
    return replace(m, y=m.y - rows.get("offset", 0.0), index=data.index[m.index]), rows.get("weights")


def read_counts(
    formula: str, data: pd.DataFrame, *, trials: str | None = None, offset: str | None = None
) -> tuple[ModelMatrices, Array | None, Array]:
    """Return the matrices of a formula whose response is of counts, the trials (N), if a column has them, and the offset (N)."""
    m, rows = _read(formula, data, {"trials": trials, "offset": offset}, counts=True)
    assert m.offset is not None
    return replace(m, index=data.index[m.index]), rows.get("trials"), m.offset + rows.get("offset", 0.0)


def _read(
    formula: str, data: pd.DataFrame, names: dict[str, str | None], *, counts: bool
) -> tuple[ModelMatrices, dict[str, Array]]:
    """The matrices, and on their rows the columns that are named beside the formula."""
    columns = {key: _numbers(data, key, name) for key, name in names.items() if name is not None}
    also = [name for name in names.values() if name is not None]
    m = model_matrices(formula, data.reset_index(drop=True), also=also, counts=counts)
    rows = {key: values[m.index.to_numpy()] for key, values in columns.items()}
    for key, values in rows.items():
        if not np.isfinite(values).all():
            raise DataError(f"{key} = {show(names[key])}: has infinite values; remove those rows")
    return m, rows


def weighted(m: ModelMatrices, weights: Array) -> ModelMatrices:
    """Return the matrices with their rows times the square roots of the weights (N)."""
    roots = np.sqrt(weights)
    return replace(m, y=m.y * roots, X=m.X * roots[:, None], Z=tuple(Z * roots[:, None] for Z in m.Z), roots=roots)


def _numbers(data: pd.DataFrame, key: str, name: str) -> Array:
    columns = [str(column) for column in data.columns]
    if columns.count(name) != 1:
        raise DataError(
            f"{key} = {show(name)}: must be a column of the data; {nearest(name, dict.fromkeys(columns[:30]))}"
        )
    column = data.iloc[:, columns.index(name)]
    if not pd.api.types.is_numeric_dtype(column):
        raise DataError(f"{key} = {show(name)}: must be a column of numbers; name another one or convert it")
    return column.to_numpy(dtype=float, na_value=np.nan)
