"""A model chosen among nested ones, with several grouping factors."""

from __future__ import annotations

from dataclasses import replace

from .analysis import PreparedSeveral
from .selection import TOLERANCES, Selection, nested_methods
from .several_mixed import SeveralMixed

__all__ = ["TOLERANCES", "compile_analysis"]


def compile_analysis(on: PreparedSeveral) -> Selection:
    """Prepare the choice between mixed models."""
    return Selection(tuple(SeveralMixed(replace(on, method=method)) for method in nested_methods(on.method)), on.method)
