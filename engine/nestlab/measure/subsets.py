"""Which replicates are shown where nobody names a subset: those whose fit converged.

A fit that did not converge has the best estimates that were found, which should not be used. So whatever shows a measure of an
estimand, or decides by one, leaves these fits out unless it is asked for another subset, by one rule for all methods.
Singular fits are optima, and stay in. Measures of a method as a whole are shares of all its replicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_SUBSET", "SUBSETS", "default_subset", "in_subset", "unconverged"]

SUBSETS = ("all", "converged", "common")
#: Of the measures of estimands.
DEFAULT_SUBSET = "converged"


def default_subset(estimand: str) -> str:
    """Return the subset whose measures are shown of an estimand; "" is the method as a whole.

    >>> default_subset("x"), default_subset("")
    ('converged', 'all')
    """
    return DEFAULT_SUBSET if estimand else "all"


def in_subset(summary: pd.DataFrame, subset: str | None = None) -> pd.DataFrame:
    """Return the rows of a summary that belong to a subset; None: those that are shown by default."""
    wanted = summary["estimand"].map(default_subset) if subset is None else subset
    found: pd.DataFrame = summary[summary["subset"] == wanted]
    return found


def unconverged(summary: pd.DataFrame) -> dict[tuple[int, str], int]:
    """Count the replicates of each condition and method whose fit did not converge, from the summary of all subsets."""
    rows = summary[(summary["measure"] == "converged") & (summary["subset"] == "all")]
    cells = rows[["condition", "method", "value", "n"]].itertuples(index=False)
    return {(int(c), str(m)): round((1 - value) * n) for c, m, value, n in cells if n}
