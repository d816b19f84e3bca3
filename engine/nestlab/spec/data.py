"""Data files: delimited text and Parquet to a data frame, for fits, pilots and the columns that a study names.

Text is parsed by pandas, which reads a million rows of four columns in half a second. What it may get wrong is read once more,
as words. These are columns that are not numbers and have missing values ("." is missing in a column of numbers and a word in one
of text), and whole numbers beyond 2^53, of which more than 18 digits are an identifier.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .problems import DataError

__all__ = ["DataFileError", "read_frame"]

TEXT, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
MISSING = ["", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"]
#: Missing where the other words of a column are numbers, as SAS writes it.
POINT = "."
#: Whole numbers from here on may have lost digits.
LARGE = 2.0**53
_SEPARATORS = ",;\t"
_LONGEST_ROW = 1 << 24
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(rb"\d,\d")
_TRUTH = {"true", "false"}
#: pandas before 3 rounds numbers of many digits unless it is asked not to; later ones warn of the question.
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if int(pd.__version__.split(".")[0]) < 3 else {}
_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\x1f\x8b": "compressed",
}


class DataFileError(DataError):
    """A file without data that can be used. fault: what is wrong with it and the repair, as words that follow its name."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"data file {path} {fault}")
        self.fault = fault


def read_frame(path: Path) -> pd.DataFrame:
    """Read delimited text (comma, semicolon or tab; UTF-8) or Parquet.

    In semicolon-separated text, decimal commas are understood. Empty fields and NA are missing values; so is "." where the
    other fields of its column are numbers.

    Raises DataFileError for a file that is absent, empty, cut off, of another kind or without rows.
    """
    kind = path.suffix.lower()
    if kind not in TEXT + PARQUET and not path.is_dir():
        fault = f"ends in {kind or 'no suffix'}; allowed are {', '.join(TEXT + PARQUET)}: convert it"
        raise DataFileError(path, fault)
    content = _content(path)
    if not content[:4096].strip() and not content.strip():
        raise DataFileError(path, "is empty; give a file with a header and rows")
    frame = _read_parquet(path, content) if kind in PARQUET else _read_text(path, content)
    if frame.empty:
        raise DataFileError(path, "has columns but no rows; give a file with rows")
    return frame


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else b""
    except FileNotFoundError:
        raise DataFileError(path, "does not exist; check the path") from None
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise DataFileError(path, f"cannot be read ({reason}); give a readable CSV or Parquet file") from None
    if stat.S_ISDIR(mode):
        raise DataFileError(path, "is a directory; give a CSV or Parquet file")
    if not stat.S_ISREG(mode):
        raise DataFileError(path, "is a pipe or a device; give a file")
    return content


def _read_parquet(path: Path, content: bytes) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001  (the engine raises many kinds)
        fault = f"is no complete Parquet file ({_first_line(error)}); write it again, or name it .csv if it is text"
        raise DataFileError(path, fault) from None
    return frame.reset_index() if any(name is not None for name in frame.index.names) else frame


def _read_text(path: Path, content: bytes) -> pd.DataFrame:
    separator = _check_text(path, content)
    comma = separator == ";" and _DECIMAL_COMMA.search(content[: 1 << 16]) is not None
    options: dict[str, Any] = {"sep": separator, "skipinitialspace": True, "keep_default_na": False}
    try:
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(content),
            na_values=[*MISSING, POINT],
            low_memory=False,
            decimal="," if comma else ".",
            **options,
            **_EXACT,
        )
        texts, large = _uncertain(frame)
        if lost := large + [k for k in texts if frame.iloc[:, k].hasnans]:
            written = pd.read_csv(io.BytesIO(content), usecols=sorted(lost), dtype=str, **options)
            for k, place in enumerate(sorted(lost)):
                frame.isetitem(place, written.iloc[:, k].to_numpy(dtype=object))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataFileError(path, f"is no table ({_first_line(error)}); each row needs the header's fields") from None
    for k in texts + large:
        frame.isetitem(k, _converted(frame.iloc[:, k], comma=separator == ";"))
    frame.columns = frame.columns.astype(str).str.strip()
    return frame


def _uncertain(frame: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The columns that are neither numbers nor truth values, and the numbers that may have lost digits."""
    kinds = [dtype.kind for dtype in frame.dtypes]
    numbers = np.flatnonzero([kind in "iuf" for kind in kinds])
    values = frame.iloc[:, numbers]
    large = np.maximum(values.max().to_numpy(), -values.min().to_numpy(dtype=float)) >= LARGE
    return [k for k, kind in enumerate(kinds) if kind not in "iufb"], numbers[large].tolist()


def _converted(column: pd.Series[Any], *, comma: bool) -> NDArray[Any]:
    """Numbers if all of a column's words are numbers, truth values likewise; else the words."""
    codes, found = pd.factorize(column)
    words = np.array([str(word).strip() for word in found], dtype=object)
    missing = np.isin(words, MISSING)
    values = _values([w for w in words[~missing] if w != POINT], comma=comma)
    if values is None:
        values = words[~missing]
    else:
        missing |= words == POINT
    if not missing.any() and (codes >= 0).all():
        return values[codes]
    table = np.full(
        len(words) + 1, np.nan, dtype=float if values.dtype.kind in "if" else object
    )  # the last is that of code -1
    table[:-1][~missing] = values
    return table[codes]


def _values(words: list[str], *, comma: bool) -> NDArray[Any] | None:
    """Whole numbers, numbers or truth values, if all words are; None for text."""
    if words and all(map(_INTEGER.fullmatch, words)):
        return None if max(map(len, words)) > 18 else np.array(words, dtype=np.int64)
    if words and {w.lower() for w in words[:2]} <= _TRUTH and {w.lower() for w in words} <= _TRUTH:
        return np.array([w.lower() == "true" for w in words])
    points = [w.replace(",", ".") for w in words] if comma else words
    return np.array(points, dtype=float) if all(map(_NUMBER.fullmatch, points)) else None


def _check_text(path: Path, content: bytes) -> str:
    """Return the separator of a text.

    Refuses what pandas would pass over: rows that are longer than the header shift its names, a cut last row gets blanks.
    """
    if content.startswith(b"PAR1"):
        raise DataFileError(path, "is a Parquet file; name it .parquet")
    if kind := next((name for mark, name in _MARKS.items() if content.startswith(mark)), None):
        raise DataFileError(path, f"is not UTF-8 text ({kind}); save it as CSV in UTF-8")
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataFileError(path, "is not UTF-8 text; save it as CSV in UTF-8") from None
    if b"\0" in content:
        raise DataFileError(path, "is not text; save it as CSV in UTF-8")
    lines = (line for line in io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="") if line.strip("\r\n"))
    start = next(lines)
    separator = max(_SEPARATORS, key=start.count)
    rows = csv.reader(itertools.chain([start], lines), delimiter=separator, skipinitialspace=True)
    end = content[-_LONGEST_ROW:].rstrip(b"\r\n")
    last = end[max(end.rfind(b"\n"), end.rfind(b"\r")) + 1 :].decode("utf-8-sig", "replace")
    try:
        header, first = next(rows), next(rows, None)
        fields = next(csv.reader([last], delimiter=separator), []) if last.count('"') % 2 == 0 else header
    except csv.Error as error:
        raise DataFileError(path, f"is no table ({error}); save it as CSV in UTF-8") from None
    if first and len(first) > len(header):
        fault = f"has {len(header)} names in its header but {len(first)} fields in its first row; name every column"
        raise DataFileError(path, fault)
    name, count = next(iter(Counter(name.strip() for name in header if name.strip()).most_common(1)), ("", 0))
    if count > 1:
        raise DataFileError(path, f"has {count} columns named {name}; rename all but one")
    if len(fields) < len(header):
        fault = f"ends within a row ({len(fields)} of {len(header)} fields); it seems to be cut off: copy it again"
        raise DataFileError(path, fault)
    return separator


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
