"""Predictors far from 0: those whose mean is large beside their standard deviation, as years are, or dates in seconds.

Sums of squares and products of such a predictor hold few digits of how it varies: at a mean of 1e6 sds, 4 of 16. So a constant is
taken off before anything is summed, and models are fitted to what is left. A model that has, beside each term with the predictor,
the term without it is the same model in other coordinates; estimates are put back into those of the formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from .model import CENTRINGS, Condition, Formula, Layout, Predictor, source_of, term_variables
from .predictors import distribution_of

__all__ = ["constant_of", "expanded", "far_constants"]

#: Mean over sd from which on a constant is taken off. Below, 12 of 16 digits of a sum of squares are left.
FAR = 100.0


def far_constants(condition: Condition) -> Mapping[str, float]:
    """What is taken off predictors, by name; nothing where there are several grouping factors, whose fits centre all columns."""
    if condition.structure is not None:
        return {}
    return _constants(condition.predictors, condition.layout, condition.truth.formula)


@lru_cache(maxsize=4096)
def _constants(predictors: tuple[Predictor, ...], layout: Layout, formula: Formula) -> Mapping[str, float]:
    found = {p.name: mean for p in predictors for mean, sd in [_moments(p, layout)] if 0 < FAR * sd < abs(mean)}
    inner = {p.name for p in predictors if p.level == 1}
    for term in (*formula.fixed, *formula.random_columns):
        if sum(source_of(v)[0] in inner and source_of(v)[1] != "between" for v in term_variables(term)) > 2:
            return MappingProxyType({})  # products of three have no column for each product of two
    return MappingProxyType(found)


def _moments(p: Predictor, layout: Layout) -> tuple[float, float]:
    """A mean and an sd, about; 0 and 0 of what has neither, or can't be far from 0."""
    row = distribution_of(p)
    if row.scale is not None:
        return row.scale(p, layout)
    if p.values and not p.categories:
        return float(np.mean(p.values)), float(np.std(p.values))
    return (0.0, 0.0) if p.categories or row.levels is not None else (p.mean, p.sd)


def constant_of(variable: str, constants: Mapping[str, float]) -> float:
    """What is taken off a variable of a formula: that of its predictor, or of its means; 0 of what is centred."""
    name, made = source_of(variable)
    return 0.0 if made in CENTRINGS and made != "between" else constants.get(name, 0.0)


def expanded(term: str, constants: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """A term as a sum of products of variables less their constants: {sorted variables: coefficient}, itself first.

    >>> expanded("x:z", {"x": 2000.0})
    {('x', 'z'): 1.0, ('z',): 2000.0}
    """
    found: dict[tuple[str, ...], float] = {(): 1.0}
    for variable in sorted(term_variables(term)):
        constant = constant_of(variable, constants)
        longer = {(*variables, variable): value for variables, value in found.items()}
        found = longer if constant == 0.0 else longer | {v: value * constant for v, value in found.items()}
    return found
