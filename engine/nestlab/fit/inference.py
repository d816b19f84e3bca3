"""Degrees of freedom and tests of fixed effects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["between_within_df", "degrees_of_freedom"]


def degrees_of_freedom(rule: str, equation: tuple[int, ...], *, clusters: int, rows: int) -> NDArray[np.float64]:
    """Degrees of freedom of each fixed effect (p): inf for "z", `between_within_df` for "between-within"."""
    if rule == "z":
        return np.full(len(equation), np.inf)
    if rule == "between-within":
        return between_within_df(equation, clusters=clusters, rows=rows)
    raise ValueError(f'df = {rule!r}: allowed are "z" and "between-within"')


def between_within_df(equation: tuple[int, ...], *, clusters: int, rows: int) -> NDArray[np.float64]:
    """Between-within degrees of freedom (Schluchter & Elashoff 1990, extended to random slopes).

    equation: for each fixed effect the random column of which it is a cluster-constant multiple, or -1. An effect of random
    column k is judged on the clusters: clusters - number of fixed effects of that equation. The others are judged within
    clusters: rows - clusters - their number. nan where that leaves no degree of freedom.
    """
    df = np.empty(len(equation))
    for i, column in enumerate(equation):
        members = sum(other == column for other in equation)
        df[i] = (rows - clusters if column == -1 else clusters) - members
    df[df <= 0] = np.nan
    return df
