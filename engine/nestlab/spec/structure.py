"""Several grouping factors: from [design.factors] to `model.Structure`, and the cells of rows that they make.

    [design]
    rows = 25                                     # in each cell
    [design.factors]
    school = 20                                   # factors without `within` are crossed: every level with every other one
    class = { within = "school", number = 3 }     # in each school; a list has a number for each

A random term names a factor; a nested one may be written with those that hold it, (1 | school:class), and a crossing of several
is the random effect of a cell, (1 | subject:item).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formula import FormulaError
from .model import Formula, Grouping, RandomTerm, Structure
from .problems import Items, Made, Problems, nearest

__all__ = [
    "FACTORS",
    "ROWS",
    "cells_of",
    "check_factors",
    "holds",
    "number_path",
    "read_structure",
    "structure_words",
    "with_factors",
]

Integers = NDArray[np.int64]

FACTORS, ROWS = "design.factors", "design.rows"
#: Rows of one data set of a study with several grouping factors.
MOST_ROWS = 10_000_000


def check_factors(factors: Mapping[str, Any], problems: Problems) -> tuple[tuple[str, str], ...]:
    """The factors of a study file's [design.factors], each after the one in which it is nested, with that one's name or ""."""
    holders = {name: getattr(table, "within", None) or "" for name, table in factors.items()}
    for name, holder in holders.items():
        if holder and holder not in holders:
            text = f"must be another factor; {nearest(holder, [n for n in holders if n != name])}"
            problems.add_value(f"{FACTORS}.{name}.within", holder, text)
            holders[name] = ""
    ordered: dict[str, str] = {}
    while len(ordered) < len(holders):
        ready = [
            n for n, holder in holders.items() if n not in ordered and (holder not in holders or holder in ordered)
        ]
        if not ready:
            left = [name for name in holders if name not in ordered]
            text = f"must not lie within itself, by way of {', '.join(left)}; name the larger one"
            problems.add_value(f"{FACTORS}.{left[0]}.within", holders[left[0]], text)
            holders |= dict.fromkeys(left, "")
            ready = left
        ordered |= {name: holders[name] for name in ready}
    return tuple(ordered.items())


def with_factors(formula: Formula, factors: Sequence[tuple[str, str]]) -> Formula:
    """The formula with its grouping factors named as in [design.factors]: "class" for school:class.

    Raises FormulaError for a factor that is not there.

    >>> from .formula import parse_formula
    >>> with_factors(parse_formula("y ~ 1 + (1 | a/b) + (1 | c:a)"), (("a", ""), ("b", "a"), ("c", ""))).groups
    ('a', 'b', 'a:c')
    """
    if not factors:
        if len(formula.groups) > 1:
            several = ", ".join(dict.fromkeys(name for group in formula.groups for name in group.split(":")))
            raise FormulaError(
                formula.text,
                f"has the grouping factors {', '.join(formula.groups)}, whose numbers are not given; add [design.factors] with a "
                f"line for each of {several}",
            )
        return formula
    random = tuple(RandomTerm(_group(term.group, formula, factors), term.columns) for term in formula.random)
    return replace(formula, random=random, factors=tuple(factors))


def _group(group: str, formula: Formula, factors: Sequence[tuple[str, str]]) -> str:
    holders = dict(factors)
    named = group.replace("`", "").split(":")
    for name in named:
        if name not in holders:
            repair = nearest(name, list(holders))
            raise FormulaError(
                formula.text, f"has the grouping factor {name}, which is not in [design.factors]; {repair}"
            )
    held = {above for name in named for above in _above(name, holders)}
    return ":".join(name for name in holders if name in named and name not in held)


def _above(name: str, holders: Mapping[str, str]) -> list[str]:
    found = []
    while holders.get(name):
        name = holders[name]
        found.append(name)
    return found


def holds(factors: Sequence[tuple[str, str]], group: str, at: str) -> bool:
    """Whether what lives on the levels of `at` ("" for rows) is constant within levels of `group`.

    >>> school, classes = ("school", ""), ("class", "school")
    >>> holds((school, classes), "class", "school"), holds((school, classes), "school", "class")
    (True, False)
    """
    if not at:
        return False
    holders = dict(factors)
    inside = {above for name in group.split(":") for above in (name, *_above(name, holders))}
    return set(at.split(":")) <= inside


def number_path(name: str, within: str) -> str:
    """The key of a factor's number of levels."""
    return f"{FACTORS}.{name}.number" if within else f"{FACTORS}.{name}"


def read_structure(flat: Mapping[str, Any], factors: Sequence[tuple[str, str]]) -> Made[Structure]:
    """The structure as the flat values have it."""
    paths = [number_path(*factor) for factor in factors]
    items = tuple((path, flat[path]) for path in (*paths, ROWS))
    return _read(items, tuple(factors))


@lru_cache(maxsize=4096)
def _read(items: Items, factors: tuple[tuple[str, str], ...]) -> Made[Structure]:
    problems, given = Problems(), dict(items)
    levels: dict[str, int] = {}
    groupings, numbers = [], []
    for name, within in factors:
        path = number_path(name, within)
        number = given[path]
        own = number if isinstance(number, tuple) else (number,) * (levels[within] if within else 1)
        if within and len(own) != levels[within]:
            text = (
                f"must have a number for each of the {levels[within]} levels of {within} and not {len(own)}; correct the list, "
                "or write one number for all"
            )
            problems.add_value(path, number, text)
            return Made(None, tuple(problems))
        levels[name] = sum(own)
        groupings.append(Grouping(name, sum(own), within or None))
        numbers.append(own)
    structure = Structure(tuple(groupings), tuple(numbers), given[ROWS])
    rows = (
        len(next(iter(cells_of(structure).values()))) * structure.rows
        if _cells(structure) <= MOST_ROWS
        else MOST_ROWS + 1
    )
    if rows > MOST_ROWS:
        text = f"must leave at most {MOST_ROWS:,} rows in all, and there are more; lower it, or a factor's number"
        problems.add_value(ROWS, structure.rows, text)
    return Made(None if problems else structure, tuple(problems))


def _cells(structure: Structure) -> float:
    """At least the number of cells."""
    found: dict[str, tuple[str, int]] = {}
    tops = 1.0
    for grouping in structure.groupings:
        top = grouping.name if grouping.within is None else found[grouping.within][0]
        found[grouping.name] = (top, grouping.levels)
    for name in {top for top, _ in found.values()}:
        tops *= max(levels for top, levels in found.values() if top == name)
    return tops


@lru_cache(maxsize=64)
def cells_of(structure: Structure) -> Mapping[str, Integers]:
    """(cells) each: the levels of the factors, 0, 1, ..., that go together; the first factor changes slowest."""
    codes: dict[str, Integers] = {}
    cells = 1
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        holder = np.zeros(cells, dtype=np.int64) if grouping.within is None else codes[grouping.within]
        own = np.array(numbers, dtype=np.int64)
        times = own[holder]
        first = np.repeat((np.cumsum(own) - own)[holder], times)
        ends = np.cumsum(times)
        codes = {name: np.repeat(values, times) for name, values in codes.items()}
        codes[grouping.name] = first + np.arange(int(ends[-1])) - np.repeat(ends - times, times)
        cells = int(ends[-1])
    return codes


def structure_words(structure: Structure) -> dict[str, Any]:
    """The structure in the words of [design]."""
    factors: dict[str, Any] = {}
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        number = numbers[0] if len(set(numbers)) == 1 else list(numbers)
        factors[grouping.name] = {"within": grouping.within, "number": number} if grouping.within else number
    return {"rows": structure.rows, "factors": factors}
