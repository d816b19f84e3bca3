"""Columns of data files that a study names, read once: their numbers become part of the study, which then stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .predictors import DISTRIBUTIONS
from .problems import Problems, nearest
from .values import MOST_VALUES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_columns"]

#: (column, its name, the file's name): the values that a column stands for.
Read: TypeAlias = "Callable[[pd.Series[Any], str, str], list[Any]]"


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
    for path, table, read in list(_tables(tables)):
        try:
            values = _column(path, table, folder, frames, read)
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


def _tables(tables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], Read]]:
    """(path, table, how its numbers are read) of the tables that name a file and may."""
    design = tables.get("design")
    places = dict(_sizes(design)) if isinstance(design, dict) else {}
    for path, table in places.items():
        if isinstance(table, dict) and "file" in table and "distribution" not in table:
            yield path, table, _whole_numbers
    factors = design.get("factors") if isinstance(design, dict) else None
    for name, table in factors.items() if isinstance(factors, dict) else ():
        if isinstance(table, dict) and "file" in table:
            yield f"design.factors.{name}", table, _labels
    predictors = tables.get("predictors")
    for name, table in predictors.items() if isinstance(predictors, dict) else ():
        if isinstance(table, dict) and "file" in table and _lists_values(table.get("distribution")):
            yield f"predictors.{name}", table, _numbers


def _sizes(design: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, value) of the numbers of [design] that may be tables of sizes."""
    size = design.get("cluster_size")
    yield "design.cluster_size", size
    arms = size.get("arms") if isinstance(size, dict) else None
    for number, arm in enumerate(arms if isinstance(arms, list) else [], start=1):
        yield f"design.cluster_size.arms.{number}", arm
    yield "design.rows", design.get("rows")
    factors = design.get("factors")
    for name, table in factors.items() if isinstance(factors, dict) else ():
        if isinstance(table, dict):
            yield f"design.factors.{name}.number", table.get("number")


def _lists_values(distribution: object) -> bool:
    """Whether predictors of a distribution have values that a file may hold."""
    return (
        isinstance(distribution, str) and distribution in DISTRIBUTIONS and "values" in DISTRIBUTIONS[distribution].keys
    )


def _column(
    path: str, table: Mapping[str, Any], folder: Path, frames: dict[Path, pd.DataFrame], read: Read
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
    found = frame.iloc[:, columns.index(column)]
    if len(found) > MOST_VALUES:
        text = f"must have at most {MOST_VALUES:,} rows, not {len(found):,}; take a part of them"
        raise _UnusableError("column", column, text)
    return read(found, column, name)


def _some(columns: list[str]) -> str:
    return f"the columns {', '.join(columns[:8])}{', ...' * (len(columns) > 8)}"


def _frame(file: Path, name: str) -> pd.DataFrame:
    from .data import DataFileError, read_frame

    try:
        return read_frame(file)
    except DataFileError as error:
        text = f"must be a data file, and {file} {error.fault}"
        raise _UnusableError("file", name, text) from None


def _labels(column: pd.Series[Any], name: str, file: str) -> list[int]:
    """The level of a factor in each row, 1, 2, ... in the order in which they come."""
    import pandas as pd

    codes, labels = pd.factorize(column)
    if (codes < 0).any():
        rows = f"row {int((codes < 0).argmax()) + 1} of {file} has none ({int((codes < 0).sum())} in all)"
        raise _UnusableError("column", name, f"must have a level in each row, and {rows}; fill or remove them")
    if len(labels) < 2:
        raise _UnusableError("column", name, f"must have 2 levels or more, and that of {file} has {len(labels)}")
    return [int(code) + 1 for code in codes]


def _numbers(column: pd.Series[Any], name: str, file: str) -> list[float]:
    """The numbers of a column."""
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
    return [float(value) for value in values]


def _whole_numbers(column: pd.Series[Any], name: str, file: str) -> list[int]:
    """The sizes in a column."""
    values = _numbers(column, name, file)
    bad = [row for row, value in enumerate(values) if value != round(value) or value < 1]
    if bad:
        row = f"row {bad[0] + 1} of {file} has {values[bad[0]]:g}"
        raise _UnusableError(
            "column", name, f"must be a column of cluster sizes, whole numbers >= 1, and {row}; correct it"
        )
    return [int(value) for value in values]
