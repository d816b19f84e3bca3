"""The rows of blocks of several grouping factors, as rival analyses take them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulate.several import SeveralDraw
from ...spec.formula import find_term
from ..rivals.rows import CrossedRows
from .analysis import PreparedSeveral

__all__ = ["crossed_rows", "true_coefficients"]


def crossed_rows(
    draw: SeveralDraw, terms: Sequence[str], factors: Collection[str], *, without: Collection[str]
) -> CrossedRows:
    """Rows of a draw with columns for the terms; y is free of the condition's coefficients of the terms `without`."""
    columns = [draw.term(term) for term in terms]
    own = max((column.shape[1] for column in columns), default=1)
    X = np.stack([np.broadcast_to(column, (len(column), own)) for column in columns])
    codes = {name: own if (own := draw.codes[name]).shape[1] > 1 else own[:, 0] for name in factors}
    return CrossedRows(X, draw.response(without), codes, draw.kept)


def true_coefficients(on: PreparedSeveral) -> NDArray[Any]:
    """(p): the condition's coefficients of the method's terms; 0 of terms that the truth does not have."""
    truth = on.condition.truth
    names = [find_term(truth.formula.fixed, term) for term in on.method.formula.fixed]
    return np.array([0.0 if n is None else truth.fixed[truth.formula.fixed.index(n)] for n in names])
