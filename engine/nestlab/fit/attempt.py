"""Calls of code that may fail: the exception becomes a message, warnings a number, and nothing of either is printed."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["MAX_MESSAGE", "Attempt", "attempt", "described"]

#: Characters of a message that are kept.
MAX_MESSAGE = 500

Value = TypeVar("Value")


class Attempt(NamedTuple, Generic[Value]):
    """What a call gave: its value, or None and the exception's message; and how many warnings it raised."""

    value: Value | None
    message: str | None
    warnings: int


def attempt(call: Callable[[], Value], *, file: str | None = None) -> Attempt[Value]:
    """Call, whatever comes of it. file: a source file whose line is told where the exception passed through it.

    SystemExit is an exception like any other: a function that leaves must not take a worker with it. KeyboardInterrupt passes
    through. A call that never returns can't be ended from here.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = call()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever it raises is a datum)
            return Attempt(None, described(error, file), len(caught))
    return Attempt(value, None, len(caught))


def described(error: BaseException, file: str | None = None) -> str:
    """An exception in one line: its type, what it says, and the line of `file` that it came through last.

    >>> described(KeyError("x"))
    "KeyError: 'x'"
    """
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  (an exception whose own words fail is still counted)
        said = ""
    text = " ".join(f"{type(error).__name__}: {said}".split()).removesuffix(":")
    text = "".join(c if c.isprintable() else "?" for c in text)  # neither terminals nor UTF-8 take everything
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if file and frame.filename == file]
    place = f" (line {lines[-1]})" if lines else ""
    return text[: MAX_MESSAGE - len(place)] + place
