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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .factor_keys import FACTORS, ROWS, number_path
from .formula import FormulaError
from .model import Formula, Grouping, Joined, RandomTerm, Sizes, Structure
from .problems import Items, Made, Problem, Problems, nearest
from .sizes import Turns, expected, read_size, size_words

__all__ = [
    "NO_FACTORS",
    "GroupingFactors",
    "cells_of",
    "check_factors",
    "factors_of",
    "least_cells",
    "read_structure",
    "rows_per_cell",
    "structure_words",
    "with_factors",
]

Integers = NDArray[np.int64]

#: Rows of one data set of a study with several grouping factors.
MOST_ROWS = 10_000_000


@dataclass(frozen=True, slots=True)
class GroupingFactors:
    """The factors of a study file's [design.factors], each after the one in which it is nested, with that one's name or "".

    tabled: those that are nested in none and have a table of their own.
    """

    holders: tuple[tuple[str, str], ...] = ()
    tabled: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.holders]

    def number_path(self, name: str) -> str:
        """The key of a factor's number of levels."""
        return number_path(name, name in self.tabled or dict(self.holders)[name])


NO_FACTORS = GroupingFactors()


def check_factors(factors: Mapping[str, Any], problems: Problems) -> GroupingFactors:
    """The factors of a study file's [design.factors]."""
    holders = {name: getattr(table, "within", None) or "" for name, table in factors.items()}
    given = {name: getattr(table, "given", None) or "" for name, table in factors.items()}
    _check_kinds(factors, problems)
    for word, above in (("within", holders), ("given", given)):
        for name, holder in above.items():
            text, others = "", [n for n in factors if n != name and not (word == "within" and given[n])]
            if holder and holder not in factors:
                text = f"must be another factor; {nearest(holder, others)}"
            elif holder and word == "within" and given[holder]:
                text = f"must divide the cells, and rows draw their level of {holder}; write one of {', '.join(others)}"
            if text:
                problems.add_value(f"{FACTORS}.{name}.{word}", holder, text)
                above[name] = ""
    ordered: dict[str, str] = {}
    while len(ordered) < len(holders):
        ready = [
            n
            for n in factors
            if n not in ordered
            and all(above in ("", *ordered) or above not in holders for above in (holders[n], given[n]))
        ]
        if not ready:
            left = [name for name in holders if name not in ordered]
            word, one = ("within", holders[left[0]]) if holders[left[0]] else ("given", given[left[0]])
            text = f"must not lie within itself, by way of {', '.join(left)}; name the larger one"
            problems.add_value(f"{FACTORS}.{left[0]}.{word}", one, text)
            holders |= dict.fromkeys(left, "")
            given |= dict.fromkeys(left, "")
            ready = left
        ordered |= {name: holders[name] for name in ready}
    if factors and all(given.values()):
        problems.add(FACTORS, "must have a factor that divides the rows into cells; remove given from one of them")
    tabled = [name for name, table in factors.items() if not isinstance(table, int) and not holders[name]]
    return GroupingFactors(tuple(ordered.items()), tuple(tabled))


def _check_kinds(factors: Mapping[str, Any], problems: Problems) -> None:
    """Which keys of a factor's table go together."""
    tables = {name: table for name, table in factors.items() if not isinstance(table, int)}
    listed = [name for name, table in tables.items() if table.values is not None]
    for name, table in tables.items():
        key = f"{FACTORS}.{name}"
        if table.given and table.within:
            text = f"must not stand beside {key}.given: a nested factor divides the cells; remove one of the two"
            problems.add_value(f"{key}.within", table.within, text)
        for word in ("window", "mixing", "redraw"):
            if (value := getattr(table, word)) is not None and not table.given:
                text = "is of factors whose levels rows draw; add given, the factor on which they depend, or remove it"
                problems.add_value(f"{key}.{word}", value, text)
        if table.values is not None:
            for word in ("number", "given"):
                if getattr(table, word) is not None:
                    text = f"must be absent where a file has the level of each row; remove it, or {key}.file"
                    problems.add(f"{key}.{word}", text)
    if listed and len(listed) < len(factors):
        other = next(name for name in factors if name not in listed)
        example = f'{{ file = "rows.csv", column = "{other}" }}'
        text = f"must be a column of a file as {listed[0]} is, or neither; write {other} = {example}"
        problems.add(f"{FACTORS}.{other}", text)
    lengths = {name: len(tables[name].values) for name in listed}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
        shortest = min(lengths, key=lambda name: lengths[name])
        text = f"must have as many rows as the other columns, and {shown}; take columns of one file"
        problems.add(f"{FACTORS}.{shortest}", text)


def with_factors(formula: Formula, given: GroupingFactors) -> Formula:
    """The formula with its grouping factors named as in [design.factors]: "class" for school:class.

    Raises FormulaError for a factor that is not there.

    >>> from .formula import parse_formula
    >>> factors = GroupingFactors((("a", ""), ("b", "a"), ("c", "")))
    >>> with_factors(parse_formula("y ~ 1 + (1 | a/b) + (1 | c:a)"), factors).groups
    ('a', 'b', 'a:c')
    """
    factors = given.holders
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
    return replace(formula, random=random, factors=factors, tabled=given.tabled)


def _group(group: str, formula: Formula, factors: tuple[tuple[str, str], ...]) -> str:
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


def factors_of(formula: Formula) -> GroupingFactors:
    """The factors of a formula's study."""
    return GroupingFactors(formula.factors, formula.tabled)


def read_structure(flat: Mapping[str, Any], factors: GroupingFactors) -> Made[Structure]:
    """The structure as the flat values have it."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith((f"{FACTORS}.", ROWS)))
    return _read(items, factors)


@lru_cache(maxsize=4096)
def _read(items: Items, factors: GroupingFactors) -> Made[Structure]:
    problems, flat = Problems(), dict(items)
    if any(f"{FACTORS}.{name}.values" in flat for name in factors.names):
        return Made(_listed(flat, factors))
    levels: dict[str, int] = {}
    groupings, numbers, drawn = list[Grouping](), list[tuple[int, ...]](), list[tuple[str, Sizes]]()
    joined, uneven = _joined(flat, factors), list[str]()
    for name, within in factors.holders:
        path, holders = factors.number_path(name), levels[within] if within else 1
        if within in uneven:
            _refuse_list(flat, path, within, problems)
        number = None if problems else _numbers(flat, path, holders, f"levels of {within}" if within else "", problems)
        if number is None:
            return Made(None, tuple(problems))
        own, sizes = number
        if sizes is not None:
            drawn.append((name, sizes))
        if sizes is not None or within in uneven:
            uneven.append(name)
        levels[name] = sum(own)
        if not within and levels[name] < 2:
            problems.add_value(path, flat.get(path, levels[name]), "must be 2 or more levels; raise it")
        groupings.append(Grouping(name, sum(own), within or None))
        numbers.append(own)
    structure = Structure(tuple(groupings), tuple(numbers), 1, drawn=tuple(drawn), joined=joined)
    if least_cells(structure) > MOST_ROWS:
        return Made(None, (*problems, _too_many(flat, problems)))
    cells = len(next(iter(cells_of(structure).values())))
    if uneven:
        _refuse_list(flat, ROWS, uneven[0], problems)
    rows = None if problems else _numbers(flat, ROWS, cells, "cells", problems)
    if rows is None or problems:
        return Made(None, tuple(problems))
    own, sizes = rows
    if sizes is not None:
        drawn.append(("", sizes))
    if sum(own) > MOST_ROWS:
        return Made(None, (_too_many(flat, problems),))
    one = len(set(own)) == 1
    mean = own[0] if one else max(1, round(sum(own) / len(own)))
    return Made(replace(structure, rows=mean, sizes=() if one else own, drawn=tuple(drawn)))


def _refuse_list(flat: Mapping[str, Any], path: str, factor: str, problems: Problems) -> None:
    if isinstance(flat.get(path), tuple) or flat.get(f"{path}.in_turn"):
        text = f"must be one number, or drawn, where the numbers of {factor} are drawn; write it, or a distribution"
        problems.add_value(path, flat.get(path, "{ ... }"), text)


def _too_many(flat: Mapping[str, Any], problems: Problems) -> Problem:
    text = f"must leave at most {MOST_ROWS:,} rows in all, and there are more; lower it, or a factor's number"
    own = Problems()
    if ROWS in flat:
        own.add_value(ROWS, flat[ROWS], text)
    else:
        own.add(ROWS, text)
    return next(iter(own))


def _numbers(
    flat: Mapping[str, Any], path: str, of: int, what: str, problems: Problems
) -> tuple[tuple[int, ...], Sizes | None] | None:
    """A number for each of `of` things, or rounded means and the distribution that numbers are drawn from; None if they can't be
    used. what: the things, "" where there is one number."""
    found = read_size(flat, path, problems)
    if found is None:
        return None
    if isinstance(found, int):
        return (found,) * of, None
    if not what:
        shown = flat.get(path, "{ ... }")
        text = "must be one whole number, for this factor is nested in none; write it, or add within"
        problems.add_value(path, shown, text)
        return None
    if isinstance(found, Sizes):
        return (expected(found),) * of, found
    if isinstance(found, Turns):
        return tuple(found.values[k % len(found.values)] for k in range(of)), None
    if len(found) != of:
        text = (
            f"must have a number for each of the {of} {what} and not {len(found)}; correct the list, or write one number for "
            "all"
        )
        problems.add_value(path, found, text)
        return None
    return found, None


def _joined(flat: Mapping[str, Any], factors: GroupingFactors) -> tuple[tuple[str, Joined], ...]:
    """The factors whose levels rows draw."""
    found = []
    for name in factors.names:
        path = f"{FACTORS}.{name}"
        if (given := flat.get(f"{path}.given")) is None:
            continue
        mixing = flat.get(f"{path}.mixing")
        window = flat.get(f"{path}.window", 0.0 if mixing is not None else 1.0)
        found.append((name, Joined(given, float(window), float(mixing or 0.0), flat.get(f"{path}.redraw", True))))
    return tuple(found)


def _listed(flat: Mapping[str, Any], factors: GroupingFactors) -> Structure:
    """The structure whose rows are those of a file."""
    codes: dict[str, Integers] = {}
    groupings, numbers = list[Grouping](), list[tuple[int, ...]]()
    for name, within in factors.holders:
        values = np.array(flat[f"{FACTORS}.{name}.values"], dtype=np.int64)
        if within:  # numbers may begin again in each level of the factor that holds them
            values = codes[within] * (values.max() + 1) + values
        _, first, codes[name] = np.unique(values, return_index=True, return_inverse=True)
        groupings.append(Grouping(name, len(first), within or None))
        holders = codes[within][first] if within else np.zeros(len(first), dtype=np.int64)
        numbers.append(tuple(np.bincount(holders).tolist()))
    listed = tuple(tuple(codes[name].tolist()) for name in codes)
    return Structure(tuple(groupings), tuple(numbers), len(listed[0]), listed=listed)


def least_cells(structure: Structure) -> float:
    """At least the number of cells."""
    found: dict[str, tuple[str, int]] = {}
    tops, joined = 1.0, dict(structure.joined)
    for grouping in structure.groupings:
        if grouping.name in joined:
            continue
        top = grouping.name if grouping.within is None else found[grouping.within][0]
        found[grouping.name] = (top, grouping.levels)
    for name in {top for top, _ in found.values()}:
        tops *= max(levels for top, levels in found.values() if top == name)
    return tops


@lru_cache(maxsize=64)
def cells_of(structure: Structure) -> Mapping[str, Integers]:
    """(cells) each: the levels of the factors, 0, 1, ..., that go together; the first factor changes slowest. Of rows that a file
    has, (rows) each; factors whose levels rows draw have none."""
    if structure.listed:
        return {name: np.array(own) for name, own in zip(structure.names, structure.listed, strict=True)}
    codes: dict[str, Integers] = {}
    cells, joined = 1, dict(structure.joined)
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        if grouping.name in joined:
            continue
        holder = np.zeros(cells, dtype=np.int64) if grouping.within is None else codes[grouping.within]
        own = np.array(numbers, dtype=np.int64)
        times = own[holder]
        first = np.repeat((np.cumsum(own) - own)[holder], times)
        ends = np.cumsum(times)
        codes = {name: np.repeat(values, times) for name, values in codes.items()}
        codes[grouping.name] = first + np.arange(int(ends[-1])) - np.repeat(ends - times, times)
        cells = int(ends[-1])
    return codes


def rows_per_cell(structure: Structure) -> tuple[int, ...]:
    """(cells): the rows of each, rounded means where they are drawn. All rows of a file are one cell."""
    if structure.listed:
        return (structure.rows,)
    return structure.sizes or (structure.rows,) * len(next(iter(cells_of(structure).values())))


def structure_words(structure: Structure) -> dict[str, Any]:
    """The structure in the words of [design]."""
    factors: dict[str, Any] = {}
    drawn, joined = {name: size_words(sizes) for name, sizes in structure.drawn}, dict(structure.joined)
    if structure.listed:
        for grouping, codes in zip(structure.groupings, structure.listed, strict=True):
            within = {"within": grouping.within} if grouping.within else {}
            factors[grouping.name] = within | {"values": [code + 1 for code in codes]}
        return {"factors": factors}
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        name = grouping.name
        number = drawn.get(name) or (numbers[0] if len(set(numbers)) == 1 else list(numbers))
        factors[name] = {"within": grouping.within, "number": number} if grouping.within else number
        if name in joined:
            how = joined[name]
            factors[name] = {"number": number, "given": how.given, "window": how.window, "mixing": how.mixing}
            factors[name]["redraw"] = how.redraw
    return {"rows": drawn.get("") or (list(structure.sizes) if structure.sizes else structure.rows), "factors": factors}
