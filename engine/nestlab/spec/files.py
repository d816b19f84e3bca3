"""Columns of data files that a study names, read once: their numbers become part of the study, which then stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .predictors import DISTRIBUTIONS
from .problems import Problems, nearest
from .values import MOST_VALUES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_columns"]

_EXAMPLE = '{ file = "schools.csv", column = "n" }'


class _UnusableError(Exception):
    """What is wrong with a file, at which key: key, value, allowed and repair."""

    def __init__(self, key: str, value: object, text: str) -> None:
        super().__init__(text)
        self.key, self.value, self.text = key, value, text


def read_columns(tables: dict[str, Any], folder: Path, problems: Problems) -> set[str]:
    """Put the numbers of every { file, column } into its table as `values`, and where they are from as `source`.

    Adds to `problems` what is wrong; returns the paths of the tables that could not be read. What is not the shape of a study
    is left to others.
    """
    unread: set[str] = set()
    frames: dict[Path, pd.DataFrame] = {}
    for path, table, whole in list(_tables(tables)):
        try:
            values = _column(path, table, folder, frames, whole=whole)
        except _UnusableError as found:
            if found.value is None:
                problems.add(f"{path}.{found.key}", found.text)
            else:
                problems.add_value(f"{path}.{found.key}", found.value, found.text)
            unread.add(path)
            values = [1, 2]  # stand-ins, so that the rest can be checked
        source = f"{table.pop('file')}, column {table.pop('column', '')}"
        table |= {"values": values, "source": source}
    return unread


def _tables(tables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(path, table, whether its numbers are whole ones >= 1) of the tables that name a file and may."""
    design = tables.get("design")
    size = design.get("cluster_size") if isinstance(design, dict) else None
    if isinstance(size, dict):
        arms = size.get("arms")
        places = {"design.cluster_size": size}
        for number, arm in enumerate(arms if isinstance(arms, list) else [], start=1):
            places[f"design.cluster_size.arms.{number}"] = arm
        for path, table in places.items():
            if isinstance(table, dict) and "file" in table and "distribution" not in table:
                yield path, table, True
    predictors = tables.get("predictors")
    for name, table in predictors.items() if isinstance(predictors, dict) else ():
        if isinstance(table, dict) and "file" in table and _lists_values(table.get("distribution")):
            yield f"predictors.{name}", table, False


def _lists_values(distribution: object) -> bool:
    """Whether predictors of a distribution have values that a file may hold."""
    return (
        isinstance(distribution, str) and distribution in DISTRIBUTIONS and "values" in DISTRIBUTIONS[distribution].keys
    )


def _column(
    path: str, table: Mapping[str, Any], folder: Path, frames: dict[Path, pd.DataFrame], *, whole: bool
) -> list[Any]:
    name, column = table["file"], table.get("column")
    if not isinstance(name, str) or not name.strip():
        raise _UnusableError("file", name, "must be the name of a CSV or Parquet file; write it in quotes")
    if "values" in table:
        raise _UnusableError("file", name, f"must not stand beside {path}.values; remove one of the two")
    file = folder / name
    if file not in frames:
        frames[file] = _frame(file, name)
    frame = frames[file]
    columns = [str(c) for c in frame.columns]
    if column is None:
        raise _UnusableError(
            "column", None, f'is missing: {name} has {_some(columns)}; add column = "{columns[0]}", say'
        )
    if column not in columns:
        guess = nearest(str(column), columns) if len(columns) <= 12 else f"it has {_some(columns)}"
        raise _UnusableError("column", column, f"must be a column of {name}; {guess}")
    return _numbers(frame.iloc[:, columns.index(column)], column, name, whole=whole)


def _some(columns: list[str]) -> str:
    return f"the columns {', '.join(columns[:8])}{', ...' * (len(columns) > 8)}"


def _frame(file: Path, name: str) -> pd.DataFrame:
    from .data import DataFileError, read_frame

    try:
        return read_frame(file)
    except DataFileError as error:
        text = f"must be a data file, and {file} {error.fault}"
        raise _UnusableError("file", name, text) from None


def _numbers(column: pd.Series[Any], name: str, file: str, *, whole: bool) -> list[Any]:
    import numpy as np
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        found = f'holds "{str(column.dropna().iloc[0])[:30]}"' if column.notna().any() else "is empty"
        text = f"must be a column of numbers, and that of {file} {found}; name another column, or recode it"
        raise _UnusableError("column", name, text)
    values = column.to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        rows = f"row {bad[0] + 1} of {file} has no number ({len(bad)} in all)"
        raise _UnusableError("column", name, f"must be a column without gaps, and {rows}; fill or remove them")
    if len(values) > MOST_VALUES:
        raise _UnusableError(
            "column", name, f"must have at most {MOST_VALUES:,} rows, not {len(values):,}; take a part of them"
        )
    if not whole:
        return [float(value) for value in values]
    bad = np.flatnonzero((values != np.round(values)) | (values < 1))
    if len(bad):
        row = f"row {bad[0] + 1} of {file} has {values[bad[0]]:g}"
        raise _UnusableError(
            "column", name, f"must be a column of cluster sizes, whole numbers >= 1, and {row}; correct it"
        )
    return [int(value) for value in values]
