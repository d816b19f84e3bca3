"""What is seen on a picture, in words, for those who do not see it: which measure, over what, from where to where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .choose import Dimension, ShownRows
from .roles import Roles, named
from .words import label_of

__all__ = ["lines_alt", "rows_alt"]

#: Levels that are named one by one.
_FEW = 6


def rows_alt(rows: ShownRows, what: str | None = None) -> str:
    """The lowest and the highest value of each measure, and where they are. what: a name for the measure."""
    said = []
    for measure in rows.measures:
        frame = rows.frame[(rows.frame["measure"] == measure) & rows.frame["value"].notna()]
        name = what or label_of(rows, measure)
        name = name[:1].upper() + name[1:]
        if frame.empty:
            said.append(f"{name} has no value")
            continue
        order = frame["value"].to_numpy(float)
        low, high = frame.iloc[int(order.argmin())], frame.iloc[int(order.argmax())]
        if low["value"] == high["value"]:
            said.append(f"{name} is {low['value']:.3g}" + (" everywhere" if len(frame) > 1 else ""))
            continue
        said.append(f"{name} is from {low['value']:.3g}{_at(rows, low)} to {high['value']:.3g}{_at(rows, high)}")
    return ". ".join(said) + "."


def _at(rows: ShownRows, row: pd.Series[Any]) -> str:
    varying = [d for d in rows.dimensions.values() if len(d) > 1 and d.name != "measure" and row[d.name] in d.levels]
    return f" at {named(varying, [row[d.name] for d in varying])}" if varying else ""


def lines_alt(rows: ShownRows, roles: Roles) -> str:
    """What the axes, lines and panels stand for, the ends of each measure, and how many lines rise or fall."""
    lines = [d for d in (roles.color, *roles.lines) if d is not None and len(d) > 1]
    panels = [d for d in roles.facets if len(d) > 1]
    parts = [f"Over {_levels(roles.x)}"] if len(roles.x) > 1 else []
    parts += [f"lines by {' and '.join(map(_levels, lines))}"] if lines else []
    parts += [f"panels by {' and '.join(map(_levels, panels))}"] if panels else []
    head = "; ".join(parts)
    head = head[:1].upper() + head[1:] + ". " if head else ""
    return head + rows_alt(rows) + _trend(rows, roles.x)


def _levels(dimension: Dimension) -> str:
    labels = dimension.labels
    shown = ", ".join(labels) if len(labels) <= _FEW else f"{labels[0]} to {labels[-1]}, {len(labels)} levels"
    return f"{dimension.title} ({shown})"


def _trend(rows: ShownRows, x: Dimension) -> str:
    """How many lines end higher or lower than they begin, by more than twice the MCSE of the difference."""
    if not x.numeric or len(x) < 2:
        return ""
    others: Sequence[str] = [d.name for d in rows.dimensions.values() if d.name != x.name and len(d) > 1]
    said = []
    for measure in rows.measures:
        frame = rows.frame[(rows.frame["measure"] == measure) & rows.frame["value"].notna()].sort_values(x.name)
        groups = [group for _, group in frame.groupby(list(others))] if others else [frame]
        ends = [(group.iloc[0], group.iloc[-1]) for group in groups if len(group) > 1]
        if not ends:
            continue
        steps = [(b["value"] - a["value"]) / max(np.hypot(a["mcse"], b["mcse"]), 1e-300) for a, b in ends]
        up, down = sum(z > 2 for z in steps), sum(z < -2 for z in steps)
        name = label_of(rows, measure, bare=True)
        name = name[:1].upper() + name[1:]
        words = [f"higher than it begins in {up}"] if up else []
        words += [f"lower than it begins in {down}"] if down else []
        ending = " and ".join(words) if words else "where it begins, within Monte Carlo error, in all"
        said.append(f" {name} ends {ending} of {len(ends)} line{'s' if len(ends) > 1 else ''}.")
    return "".join(said)
