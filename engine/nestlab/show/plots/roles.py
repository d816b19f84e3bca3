"""Which factor stands on x, which in colour, which in panels; what is left makes lines or panels of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...spec.problems import StudyError, show
from .choose import Asked, Dimension, ShownRows, pick

__all__ = ["MOST_PANELS", "Roles", "arranged", "assign", "cells", "columns_for", "existing", "named", "where"]

#: Lines of a panel before a factor that was not asked for makes panels instead.
MAX_LINES = 8
#: Panels of a picture before a factor that was not asked for makes lines, however many.
MOST_PANELS = 30
#: Panels beside one another.
MOST_COLUMNS = 5


@dataclass(frozen=True)
class Roles:
    """x; the dimension of colours, if any; those that make further lines; those that make panels."""

    x: Dimension
    color: Dimension | None
    lines: tuple[Dimension, ...]
    facets: tuple[Dimension, ...]


def assign(rows: ShownRows, asked: Asked, *, first: Sequence[str] = (), facets: Sequence[Dimension] = ()) -> Roles:
    """Roles as asked, the rest by choice: the numeric factor with most levels on x, then colour, then panels, methods last.

    first: dimensions that are taken for colour before others; facets: panels that there are in any case. Raises StudyError for
    a dimension that does not exist or is used twice.
    """
    every = rows.dimensions
    wanted = {role: getattr(asked, role) for role in ("x", "color", "facet") if getattr(asked, role) is not None}
    for role, name in wanted.items():
        pick(role, name, every, what="the results vary by")
        other = next((r for r, n in wanted.items() if n == name and r != role), None)
        if other:
            raise StudyError(
                [f"{role} = {show(name)}: stands for {other} already; choose another of {', '.join(every)}"]
            )
    free = {k: d for k, d in every.items() if k not in wanted.values() and len(d) > 1}
    x = every[asked.x] if asked.x else _longest(free, every)
    free.pop(x.name, None)
    queue = sorted(free.values(), key=lambda d: (d.name not in first, d.name == "method", -len(d)))
    color = every[asked.color] if asked.color else next((d for d in queue if d.numeric or len(d) <= 12), None)
    queue = [d for d in queue if d is not color]
    panels = [every[asked.facet]] if asked.facet else queue[:1]
    queue = [d for d in queue if d not in panels]
    lines: list[Dimension] = []
    for d in queue:
        several = math.prod(map(len, [*lines, d])) * (len(color) if color else 1)
        crowded = math.prod(map(len, [*facets, *panels, d])) > MOST_PANELS
        (lines if color is not None and (several <= MAX_LINES or crowded) else panels).append(d)
    return Roles(x, color, tuple(lines), (*facets, *panels))


def _longest(free: Mapping[str, Dimension], every: Mapping[str, Dimension]) -> Dimension:
    factors = [d for d in free.values() if d.name != "method"]
    numeric = [d for d in factors if d.numeric]
    return max(numeric or factors or [every["method"]], key=len)


def cells(dimensions: Sequence[Dimension]) -> Iterator[tuple[Any, ...]]:
    """Every combination of levels, the last dimension fastest."""
    yield from itertools.product(*(d.levels for d in dimensions))


def existing(frame: pd.DataFrame, dimensions: Sequence[Dimension]) -> list[tuple[Any, ...]]:
    """Those combinations of levels that have rows, in the order of `cells`."""
    if not dimensions:
        return [()]
    there = set(frame[[d.name for d in dimensions]].drop_duplicates().itertuples(index=False, name=None))
    return [c for c in cells(dimensions) if c in there]


def columns_for(count: int) -> int:
    """How many of so many panels stand beside one another."""
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 6 else 4


def arranged(frame: pd.DataFrame, facets: Sequence[Dimension]) -> tuple[list[tuple[Any, ...] | None], int]:
    """The combinations of levels that have rows, in reading order, and the number of columns.

    Two dimensions and more make a grid: a column per level of one, the last that has no more than MOST_COLUMNS; a row per
    combination of the others. None is a combination without rows, where the grid stays empty.
    """
    there = existing(frame, facets)
    across = next((d for d in reversed(facets) if 1 < len(d) <= MOST_COLUMNS), None)
    if sum(len(d) > 1 for d in facets) < 2 or across is None:
        return list(there), columns_for(len(there))
    at = facets.index(across)
    found = dict.fromkeys(there)
    levels = [level for level in across.levels if any(cell[at] == level for cell in there)]
    rows = dict.fromkeys((*cell[:at], *cell[at + 1 :]) for cell in there)
    grid = [(*row[:at], level, *row[at:]) for row in rows for level in levels]
    return [cell if cell in found else None for cell in grid], len(levels)


def where(frame: pd.DataFrame, dimensions: Sequence[Dimension], levels: Sequence[Any]) -> pd.DataFrame:
    """The rows of one combination."""
    for d, level in zip(dimensions, levels, strict=True):
        frame = frame[frame[d.name] == level]
    return frame


def named(dimensions: Sequence[Dimension], levels: Sequence[Any]) -> str:
    return ", ".join(d.named(level) for d, level in zip(dimensions, levels, strict=True))
