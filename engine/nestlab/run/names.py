"""Names of columns where formulas write the same product, or the same covariance, in different orders.

A part has the names that the truth and its own method give, so that it is the same whatever other methods stand beside it. The
study has one name for each estimand: that of the formula that has it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..spec.estimand import Column, Estimand, Quantity
from ..spec.estimands import spellings
from ..spec.model import Method

__all__ = ["as_named", "other_names"]

T = TypeVar("T")
#: What columns hold of an estimand; a likelihood ratio test keeps the name that its method gives it.
_QUANTITIES: tuple[Quantity, ...] = ("estimate", "se", "df", "lower", "upper", "true")


def other_names(method: Method, own: Mapping[str, Estimand], estimands: Mapping[str, Estimand]) -> dict[str, str]:
    """Columns of a method by their names among `own`, where those among `estimands` are others."""
    return {
        Column(quantity, name, rule).name: Column(quantity, known, rule).name
        for name, known in spellings(own, estimands).items()
        for quantity in _QUANTITIES
        for rule in dict.fromkeys(("", *method.rules))
    }


def as_named(
    columns: Mapping[str, T], method: Method, own: Mapping[str, Estimand], estimands: Mapping[str, Estimand]
) -> dict[str, T]:
    """A method's columns, named as among `own`, by their names among `estimands`."""
    found = dict(columns)
    return found | {
        known: found.pop(name) for name, known in other_names(method, own, estimands).items() if name in found
    }
