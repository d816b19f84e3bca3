"""What the numbers that a search varies make of a design: how many levels and rows it has, and how the variance falls with them.

The levels of a factor, and the rows, grow in proportion to some of these numbers and not to others: twice the schools are twice
the classes, twice the items leave the subjects alone. Which ones is read off designs of which one number was doubled.

The variance of an estimated effect is nearly a sum of v / levels over what contributes: factors on whose levels the effect's
columns are constant, or vary at random, and the rows. For numbers J and m that gives the terms J^-a m^-b of `Spread`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec.axes import is_number, number_word
from ..spec.formula import find_term
from ..spec.model import INTERCEPT, Condition, Contrast, term_variables
from ..spec.paths import places_of
from ..spec.several import rows_of

__all__ = ["DesignCounts", "Spread", "counts_of", "number_of", "spread_of"]

Array = NDArray[np.float64]
Powers = tuple[int, ...]


@dataclass(frozen=True)
class DesignCounts:
    """How many there are in a whole design, by the words of a cost: factors times powers of the numbers that are searched."""

    powers: Mapping[str, Powers]
    factors: Mapping[str, float]

    def __call__(self, *numbers: ArrayLike) -> dict[str, Array]:
        """What there is of each where the numbers searched are these, which may be arrays.

        >>> made = DesignCounts({"school": (1, 0), "class": (1, 1), "rows": (1, 1)}, {"school": 1.0, "class": 1.0, "rows": 25.0})
        >>> {word: float(count) for word, count in made(20, 3).items()}
        {'school': 20.0, 'class': 60.0, 'rows': 1500.0}
        """
        found = {}
        for word, powers in self.powers.items():
            count = np.asarray(self.factors[word], dtype=np.float64)
            for number, power in zip(numbers, powers, strict=True):
                count = count * np.asarray(number, dtype=np.float64) if power else count
            found[word] = count
        return found


@dataclass(frozen=True, slots=True)
class Spread:
    """The terms of an estimate's variance: powers of the numbers searched, each with its share where the search starts.

    doubt: the prior standard deviation of the logarithm of a term's coefficient.
    """

    powers: tuple[Powers, ...] = ((1, 0), (1, 1))
    shares: tuple[float, ...] = (0.5, 0.5)
    doubt: float = 6.0

    @property
    def proportional(self) -> bool:
        """Whether the whole variance falls in proportion to the first number."""
        return all(powers[0] for powers in self.powers)


def number_of(condition: Condition, axis: str) -> float:
    """The number of a design that an axis sets; of one that differs between levels, or between clusters, the mean."""
    structure = condition.structure
    if structure is None:
        layout = condition.layout
        return layout.clusters if axis == "clusters" else layout.rows / layout.clusters
    if axis == "rows":
        return structure.rows
    numbers = structure.numbers[structure.names.index(number_word(axis))]
    return sum(numbers) / len(numbers)


def counts_of(
    over: Sequence[str], start: Sequence[float], made: Callable[[Sequence[float]], Condition]
) -> DesignCounts:
    """What designs have, from the one at `start` and those in which one of the numbers is twice as large."""
    condition = made(start)
    if condition.structure is None:
        words = ("clusters", "cluster_size")
        powers = {word: tuple(int(axis == word) for axis in over) for word in words}
        return DesignCounts(powers, {word: 1.0 if any(powers[word]) else number_of(condition, word) for word in words})
    base, doubled = _in_all(condition), []
    for k, axis in enumerate(over):
        more = [2 * x if j == k else x for j, x in enumerate(start)]
        doubled.append(_in_all(made(more)) if is_number(axis) else base)
    powers = {word: tuple(int(more[word] > 1.5 * count) for more in doubled) for word, count in base.items()}
    factors = {}
    for word, count in base.items():
        per = float(np.prod([x for x, power in zip(start, powers[word], strict=True) if power]))
        factors[word] = count / per
    return DesignCounts(powers, factors)


def _in_all(condition: Condition) -> dict[str, float]:
    structure = condition.structure
    assert structure is not None
    return {each.name: float(each.levels) for each in structure.groupings} | {"rows": float(rows_of(structure))}


def spread_of(condition: Condition, estimand: str, counts: DesignCounts, contrasts: Sequence[Contrast] = ()) -> Spread:
    """The terms of the variance of an estimate: of an effect, of a contrast's effects together, else as those of the mean."""
    structure, truth = condition.structure, condition.truth
    if structure is None:
        axes = len(next(iter(counts.powers.values())))
        both = tuple(counts.powers[word] for word in ("clusters", "cluster_size"))
        return Spread() if axes == 2 else Spread((both[0], tuple(map(max, *both))))
    found = defaultdict[Powers, float](float)
    for group, variance in _contributing(condition, estimand, contrasts).items():
        powers = tuple(max(each) for each in zip(*(counts.powers[name] for name in group.split(":")), strict=True))
        found[powers] += variance / structure.grouping(group).levels
    found[counts.powers["rows"]] += truth.residual_variance / rows_of(structure)
    whole = sum(found.values())
    return Spread(tuple(found), tuple(max(share / whole, 0.01) for share in found.values()), doubt=2.0)


def _contributing(condition: Condition, estimand: str, contrasts: Sequence[Contrast]) -> dict[str, float]:
    """The random variances that stay in an estimate, by grouping factor."""
    truth = condition.truth
    formula = truth.formula
    variances = {place: truth.covariance[k][k] for k, place in enumerate(formula.places)}
    named = next((contrast.terms for contrast in contrasts if contrast.name == estimand), (estimand,))
    terms = [term for name in named if (term := find_term(formula.fixed, name))] or [INTERCEPT]
    places, found = places_of(condition.predictors), dict[str, float]()
    for (group, column), variance in variances.items():
        for term in terms:
            rest = [v for v in _variables(term) if v not in _variables(column)]
            own = set(_variables(column)) <= set(_variables(term))
            if own and all(formula.holds(group, places.get(v, "")) for v in rest):
                found[group] = max(found.get(group, 0.0), variance)
    return found


def _variables(term: str) -> tuple[str, ...]:
    return () if term == INTERCEPT else tuple(term_variables(term))
