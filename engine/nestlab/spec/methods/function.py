"""A Python function of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..model import Formula, Method
from ..problems import Problems
from .estimator import Estimator

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = ["FUNCTION"]


def _words(method: Method) -> Iterator[tuple[str, str]]:
    yield "estimator", f"the Python function {method.function}; SHA-256 of its module's source: {method.digest}"
    yield "degrees of freedom", "those the function gives; z where it gives none"


def _check(key: str, table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    if table.function is None:
        text = 'is missing: estimator = "function" calls it; add function = "module:function"'
        problems.add(f"{key}.function", text)
    if table.df is not None:
        text = "is not nestlab's to choose here: the function gives the degrees of freedom; remove it"
        problems.add_value(f"{key}.df", table.df[0] if len(table.df) == 1 else list(table.df), text)


FUNCTION = Estimator(
    name="function",
    module="function",
    words=_words,
    needs="rows",
    keys=frozenset({"function"}),
    residual=False,
    covariances=False,
    every_term=False,
    several=True,
    messages=True,
    check=_check,
    content=lambda method: {"function": method.function, "source": method.digest},
)
