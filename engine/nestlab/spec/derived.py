"""What predictors, errors and missing rows of a condition decide."""

from __future__ import annotations

from dataclasses import dataclass

from .problems import Problem

__all__ = ["Derived"]


@dataclass(frozen=True, slots=True)
class Derived:
    """What predictors, errors and missing rows decide.

    reasons: why rows have to be drawn; level_1: columns of level-1 predictors; made: columns that the truth makes of these, by
    centring and multiplying.
    """

    reasons: tuple[str, ...]
    level_1: int
    made: int
    problems: tuple[Problem, ...]
