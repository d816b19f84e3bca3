"""Study files for people: keys with what they mean beside them, and files that are never overwritten by accident."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from ..spec.problems import StudyError
from ..spec.study import StudyFile
from ..spec.writing import to_toml

__all__ = [
    "check_text",
    "entry",
    "header",
    "limits",
    "number",
    "refuse_existing",
    "remark",
    "resolved",
    "table",
    "write_new",
]

#: Where the comments beside values start.
_COLUMN = 40
_WIDTH = 100


def number(value: float, digits: int = 6) -> int | float:
    """A number with so many significant digits, whole ones as integers.

    >>> number(2 / 3), number(3.0000000001), number(1.25e-7)
    (0.666667, 3, 1.25e-07)
    """
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def resolved(value: float, unit: float) -> int | float:
    """A number with 6 significant digits, or as many more as it takes to show a thousandth of `unit`.

    >>> resolved(1000.123456, 0.01), resolved(0.123456789, 10.0)
    (1000.12346, 0.123457)
    """
    if not (math.isfinite(unit) and unit > 0 and value):
        return number(value)
    return number(value, min(17, max(6, 4 + math.floor(math.log10(abs(value))) - math.floor(math.log10(unit)))))


def limits(lower: float, upper: float) -> str:
    """An interval, both ends to a hundredth of its width at least.

    >>> limits(999.5061, 1000.4939), limits(0.0, 0.21234)
    ('999.5061 to 1000.494', '0 to 0.212')
    """
    digits = (
        math.floor(math.log10(max(abs(lower), abs(upper)))) - math.floor(math.log10(upper - lower))
        if lower < upper
        else 0
    )
    return f"{number(lower, 3 + max(digits, 0))} to {number(upper, 3 + max(digits, 0))}"


def entry(key: str, value: Any, comment: str = "") -> str:
    """One line `key = value   # comment`; a long list goes over several.

    >>> entry("x:z", 0.5, "their product")
    '"x:z" = 0.5                             # their product'
    """
    line = to_toml({"table": {key: value}}).splitlines()[-1]
    if isinstance(value, Sequence) and not isinstance(value, str) and len(line) > _WIDTH:
        head, _, rest = line.partition("[")
        items = wrap(rest.removesuffix("]"), _WIDTH - 4)
        first = f"{head}[".ljust(_COLUMN - 1) + f" # {comment}" if comment else f"{head}["
        return "\n".join([first, *(f"    {item}" for item in items), "]"])
    return f"{line.ljust(_COLUMN - 1)} # {comment}" if comment else line


def header(*words: str) -> str:
    """The dotted name of a table, its words quoted where TOML wants that.

    >>> header("predictors", "größe")
    'predictors."größe"'
    """
    return ".".join(entry(word, 0).removesuffix(" = 0") for word in words)


def remark(text: str, indent: str = "") -> str:
    """A comment of its own, over as many lines as it needs."""
    return "\n".join(f"# {indent}{line}" for line in wrap(text, _WIDTH - 2 - len(indent), break_long_words=False))


def table(name: str, entries: Iterable[str], comment: str = "") -> str:
    """A table of entries (and remarks), with an empty line before it. name: see `header`; or a whole line, "[[method]]".

    >>> print(table("design", ["clusters = 20"], "what the grid does not vary"))
    <BLANKLINE>
    [design]                                # what the grid does not vary
    clusters = 20
    """
    line = name if name.startswith(("#", "[")) else f"[{name}]"
    first = f"{line.ljust(_COLUMN - 1)} # {comment}" if comment else line
    return "\n".join(["", first, *entries])


def check_text(text: str, folder: Path | None = None) -> StudyFile:
    """The study that the text of a file means, which will stand in a folder. StudyError tells all that is wrong."""
    return StudyFile.from_dict(tomllib.loads(text), folder=folder)


def refuse_existing(path: Path, *, force: bool, repair: str = "name another file, or add --force") -> None:
    """StudyError if a file cannot be written there, or is there and may not be replaced."""
    if path.is_dir():
        raise StudyError([f"{path}: is a folder; name a file in it, {path / 'study.toml'} say"])
    if path.exists() and not force:
        raise StudyError([f"{path}: exists, and is not overwritten; {repair}"])
    if not path.parent.is_dir():
        raise StudyError([f"{path}: the folder {path.parent} does not exist; create it first"])


def write_new(path: Path, text: str) -> None:
    """Write a file whole or not at all. StudyError where it cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StudyError([f"{path}: cannot be written ({error.strerror}); choose another folder"]) from None
