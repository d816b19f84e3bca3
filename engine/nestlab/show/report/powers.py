"""Sentences on power: its range, where it is .8, and between which levels of an axis it passes that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..summary import value_with_mcse
from .material import Material, levels_text, measured, plural, value_text

__all__ = ["power_sentence"]

#: The power that studies are planned for.
GOAL = 0.8
#: Combinations of the other factors whose crossing is told one by one.
MOST_SLICES = 3


def power_sentence(material: Material, estimand: str, label: str, rows: pd.DataFrame) -> Iterator[str]:
    """Nothing where there is no effect to find; else one text on power of one estimand by one method.

    rows: of power, one a condition.
    """
    if rows.empty:
        return
    ordered = rows.sort_values("value", kind="stable")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    text = f"{estimand}{_truth(material, estimand, rows)}, {label}: power is {_at(material, low)}"
    if len(rows) > 1:
        text = text.replace("power is", "power ranges from") + f", to {_at(material, high)}"
    yield f"{text}. {_where(rows)}{_passing(material, rows)}"


def _truth(material: Material, estimand: str, rows: pd.DataFrame) -> str:
    numbers = set(rows["condition"])
    values = {c.truth[estimand] for c in material.conditions if c.number in numbers and estimand in c.truth}
    return f" (true value {levels_text(sorted(values))})" if values else ""


def _at(material: Material, row: Any) -> str:
    place = material.place(row)
    return measured(row) + (f" ({place})" if place else "")


def _where(rows: pd.DataFrame) -> str:
    """In how many conditions power is above .8, below it, or not told apart from it by Wilson's limits."""
    above, below = int((rows["lower"] > GOAL).sum()), int((rows["upper"] < GOAL).sum())
    unsure = len(rows) - above - below
    if len(rows) == 1:
        word = "above" if above else "below" if below else "not told apart from"
        return f"That is {word} {GOAL} (Wilson's 95 % limits {rows['lower'].iloc[0]:.3f} to {rows['upper'].iloc[0]:.3f})."
    return (
        f"By Wilson's 95 % limits it is above {GOAL} in {above} of {plural(len(rows), 'condition')}, below in {below}, and not told "
        f"apart from it in {unsure}."
    )


def _axis(material: Material, rows: pd.DataFrame) -> str | None:
    """The axis along which power is followed: clusters, else cluster_size, else the first number that varies."""
    names = [
        name
        for name, levels in material.factors.items()
        if all(isinstance(v, int | float) for v in levels) and name in rows and rows[name].nunique() > 1
    ]
    preferred = [name for wanted in ("clusters", "cluster_size") for name in names if name.split(".")[-1] == wanted]
    return next(iter(preferred + names), None)


def _passing(material: Material, rows: pd.DataFrame) -> str:
    axis = _axis(material, rows)
    if axis is None:
        return ""
    others = [name for name in material.factors if name != axis]
    slices = [part for _, part in rows.groupby(others, sort=False, dropna=False)] if others else [rows]
    slices = [part.sort_values(axis) for part in slices if len(part) > 1]
    if not slices:
        return ""
    crossed = [(part, _crossing(part)) for part in slices]
    if len(slices) <= MOST_SLICES:
        told = [_told(material, axis, part, place) for part, place in crossed]
        return f" Along {axis} its estimate passes {GOAL} {'; '.join(told)}."
    inside = sum(0 < place < len(part) for part, place in crossed)
    never = sum(place == len(part) for part, place in crossed)
    return (
        f" Along {axis}, over {len(slices)} combinations of the other factors, its estimate passes {GOAL} between two levels in "
        f"{inside}, is at least {GOAL} from the smallest level on in {len(slices) - inside - never}, and does not stay there up to "
        f"the largest level in {never}."
    )


def _crossing(part: pd.DataFrame) -> int:
    """The first position from which on power is at least .8; the length if there is none."""
    reached = (part["value"] >= GOAL).to_list()
    place = len(reached)
    while place and reached[place - 1]:
        place -= 1
    return place


def _told(material: Material, axis: str, part: pd.DataFrame, place: int) -> str:
    where = material.place(part.iloc[0], without=[axis])
    where = f"at {where}: " if where else ""

    def cell(position: int) -> str:
        row = part.iloc[position]
        return f"{value_text(row[axis])} ({_short(row)})"

    if place == 0:
        return f"{where}at the smallest level already, {cell(0)}"
    if place == len(part):
        return f"{where}at none of its levels for good (largest: {cell(len(part) - 1)})"
    return f"{where}between {cell(place - 1)} and {cell(place)}"


def _short(row: Any) -> str:
    return f"power {value_with_mcse(row['value'], row['mcse'])}, n = {int(row['n']):,}"
