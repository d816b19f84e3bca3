"""Terms of formulas as polynomials in parts of their variables.

A predictor x that some formula centres is w + m: w its deviation from the cluster's mean, m that mean. So within(x) = w,
between(x) = m and center(x) = w + m - c, with c what it takes off.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .model import CENTRINGS, source_of, term_variables

__all__ = ["TOLERANCE", "Atom", "Means", "Polynomial", "codings", "polynomial_of", "solve"]

Array: TypeAlias = NDArray[np.float64]
#: A variable, or its part "w" within clusters or "m" of the cluster's mean.
Atom: TypeAlias = tuple[str, str]
Polynomial: TypeAlias = dict[tuple[Atom, ...], float]
#: What center() takes off each predictor.
Means: TypeAlias = Mapping[str, float]

#: A coefficient below this is rounding.
TOLERANCE = 1e-9


def codings(terms: Sequence[str]) -> dict[str, set[str]]:
    """How terms centre each predictor, "" for as it is: {"x": {"within", "between"}}."""
    found: dict[str, set[str]] = {}
    for name, made in (source_of(v) for term in terms for v in term_variables(term)):
        found.setdefault(name, set()).add(made if made in CENTRINGS else "")
    return found


def polynomial_of(term: str, split: set[str], centres: Means) -> Polynomial:
    """A term as a polynomial in its variables, the predictors in `split` taken apart.

    >>> polynomial_of("center(x):z", {"x"}, {"x": 3.0})
    {(('x', 'w'), ('z', '')): 1.0, (('x', 'm'), ('z', '')): 1.0, (('z', ''),): -3.0}
    """
    found: Polynomial = {(): 1.0}
    for variable in term_variables(term):
        name, made = source_of(variable)
        parts = {"within": "w", "between": "m"}.get(made, "wm") if name in split else ""
        factor: Polynomial = {((name, part),): 1.0 for part in parts} or {((variable, ""),): 1.0}
        if made == "center" and name in split:
            factor[()] = -centres[name]
        found = _times(found, factor)
    return found


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    found: Polynomial = {}
    for (s, x), (t, y) in itertools.product(a.items(), b.items()):
        key = tuple(sorted((*s, *t)))
        found[key] = found.get(key, 0.0) + x * y
    return {key: value for key, value in found.items() if value}


def solve(columns: Sequence[Polynomial], targets: Sequence[Polynomial]) -> Array:
    """(columns, targets): the coefficients of the columns that make each target, nan where there are none or several."""
    monomials = list(dict.fromkeys(m for polynomial in (*columns, *targets) for m in polynomial))
    X, Y = (
        np.array([[p.get(m, 0.0) for p in ps] for m in monomials]).reshape(len(monomials), len(ps))
        for ps in (columns, targets)
    )
    A: Array = np.linalg.pinv(X) @ Y
    single = np.linalg.matrix_rank(X) == len(columns)
    spanned = np.abs(X @ A - Y).max(axis=0, initial=0.0) <= TOLERANCE * np.maximum(
        1.0, np.abs(Y).max(axis=0, initial=0.0)
    )
    return np.where(single & spanned, np.where(np.abs(A) < TOLERANCE, 0.0, A), np.nan)
