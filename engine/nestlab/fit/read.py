"""Data files for `nestlab fit`: delimited text and Parquet to a data frame."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..spec.problems import DataError

__all__ = ["read_frame"]

TEXT, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
MISSING = ["", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"]
_SEPARATORS = ",;\t"
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE)
_TRUTH = {"true", "false"}


def read_frame(path: Path) -> pd.DataFrame:
    """Read delimited text (comma, semicolon or tab; UTF-8) or Parquet.

    In semicolon-separated text, decimal commas are understood. Empty fields and NA are missing values.

    Raises DataError for a file that is absent, empty, cut off, of another kind or without rows.
    """
    kind = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"data file {path} is a directory; give a CSV or Parquet file")
    if kind not in TEXT + PARQUET:
        raise DataError(
            f"data file {path} ends in {kind or 'no suffix'}; allowed are {', '.join(TEXT + PARQUET)}: convert it"
        )
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"data file {path} does not exist; check the path") from None
    except OSError as error:
        raise DataError(
            f"data file {path} cannot be read ({error.strerror}); give a readable CSV or Parquet file"
        ) from None
    if not content.strip():
        raise DataError(f"data file {path} is empty; give a file with a header and rows")
    frame = _read_parquet(path) if kind in PARQUET else _read_text(path, content)
    if frame.empty:
        raise DataError(f"data file {path} has columns but no rows; give a file with rows")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # noqa: BLE001  (the engine raises many kinds)
        raise DataError(
            f"data file {path} is no complete Parquet file ({_first_line(error)}); write it again, or name it .csv if it is text"
        ) from None
    return frame.reset_index() if any(name is not None for name in frame.index.names) else frame


def _read_text(path: Path, content: bytes) -> pd.DataFrame:
    if content.startswith(b"PAR1"):
        raise DataError(f"data file {path} is a Parquet file; name it .parquet")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"data file {path} is not UTF-8 text; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"data file {path} is not text; save it as CSV in UTF-8")
    separator = max(_SEPARATORS, key=text.lstrip("\r\n").splitlines()[0].count)
    _check_shape(path, text, separator)
    try:
        words = pd.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"data file {path} is no table ({_first_line(error)}); each row needs the header's fields"
        ) from None
    columns = {str(name).strip(): _converted(words[name], comma=separator == ";") for name in words}
    return pd.DataFrame(columns, index=words.index)


def _converted(column: pd.Series[str], *, comma: bool) -> pd.Series[Any]:
    """Numbers if all of a column's words are numbers, truth values likewise; to the last digit, unlike pandas' older parsers."""
    missing = column.isna() | column.str.strip().isin(MISSING)
    words = column[~missing].str.strip().to_numpy(dtype=str)
    values: NDArray[Any]
    if len(words) and all(map(_INTEGER.fullmatch, words)):
        values = words if max(map(len, words)) > 18 else words.astype(np.int64)
    elif len(words) and {w.lower() for w in words[:2]} <= _TRUTH and {w.lower() for w in words} <= _TRUTH:
        values = np.char.lower(words) == "true"
    else:
        points = np.char.replace(words, ",", ".") if comma else words
        values = points.astype(float) if all(map(_NUMBER.fullmatch, points)) else words
    if not missing.any():
        return pd.Series(values, index=column.index)
    result = pd.Series(np.nan, index=column.index, dtype=float if values.dtype.kind in "if" else object)
    result[~missing] = values
    return result


def _check_shape(path: Path, text: str, separator: str) -> None:
    """Refuse what pandas would pass over: rows that are longer than the header shift its names, a cut last row gets blanks."""
    rows = csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=separator, skipinitialspace=True)
    try:
        header, first = next(rows), next(rows, None)
    except csv.Error as error:
        raise DataError(f"data file {path} is no table ({error}); save it as CSV in UTF-8") from None
    if first and len(first) > len(header):
        raise DataError(
            f"data file {path} has {len(header)} names in its header but {len(first)} fields in its first row; name every column"
        )
    names = [name.strip() for name in header if name.strip()]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"data file {path} has {names.count(double)} columns named {double}; rename all but one")
    last = text.rstrip("\r\n").splitlines()[-1]
    if last.count('"') % 2 == 0 and len(fields := next(csv.reader([last], delimiter=separator))) < len(header):
        raise DataError(
            f"data file {path} ends within a row ({len(fields)} of {len(header)} fields); it seems to be cut off: copy it again"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
