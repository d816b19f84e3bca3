"""Sentences on power: its range, where it is .8, and between which levels of an axis it passes that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .effects import drawn_from
from .material import Material, levels_text, measured, plural, span, value_text

__all__ = ["power_text", "truth_text"]

#: The power that studies are planned for.
GOAL = 0.8
#: Combinations of the other factors whose crossing is told one by one.
MOST_SLICES = 3


def truth_text(material: Material, estimand: str, label: str, rows: pd.DataFrame) -> str:
    """The true values that rows of a method's estimand have: " (truth 0.5)", or the priors that they are drawn from."""
    numbers = set(rows["condition"])
    stored = [condition for condition in material.conditions if condition.number in numbers]
    drawn = [drawn_from(material, condition, estimand) for condition in stored]
    method = material.labels[label].name
    values = [c.truths.of(method).get(estimand, np.nan) for c, d in zip(stored, drawn, strict=True) if not d]
    fixed = {value for value in values if np.isfinite(value)}
    priors = list(dict.fromkeys(text for texts in drawn for text in texts))
    told = [f"truth {levels_text(sorted(fixed))}"] if fixed else []
    told += [f"truth drawn from {' and '.join(priors)}, power averaged over it"] if priors else []
    return f" ({'; '.join(told)})" if told else ""


def power_text(material: Material, rows: pd.DataFrame) -> str:
    """The range of power, where it is above .8, and where along an axis it passes that.

    rows: of power, one a condition; at least one.
    """
    return f"{span(material, rows)}. {_where(rows)}{_passing(material, rows)}"


def _where(rows: pd.DataFrame) -> str:
    """In how many conditions power is above .8, below it, or not told apart from it by Wilson's limits."""
    above, below = int((rows["lower"] > GOAL).sum()), int((rows["upper"] < GOAL).sum())
    unsure = len(rows) - above - below
    if len(rows) == 1:
        word = "above" if above else "below" if below else "not told apart from"
        return (
            f"That is {word} {GOAL} (Wilson's 95 % limits {rows['lower'].iloc[0]:.3f} to {rows['upper'].iloc[0]:.3f})."
        )
    rest = f"; in {unsure} they hold {GOAL}" if unsure else ""
    return (
        f"Wilson's 95 % limits lie above {GOAL} in {above} of {plural(len(rows), 'condition')}, below in {below}{rest}."
    )


def _axis(material: Material, rows: pd.DataFrame) -> str | None:
    """The axis along which power is followed: clusters, else cluster_size, else levels of a factor or rows, else any number."""
    names = [
        name
        for name, levels in material.factors.items()
        if all(isinstance(v, int | float) for v in levels) and rows[name].nunique() > 1
    ]
    preferred = [name for wanted in ("clusters", "cluster_size") for name in names if name.split(".")[-1] == wanted]
    preferred += [
        name for name in names if name.startswith(("clusters.", "design.factors.", "size.")) or name == "rows"
    ]
    return next(iter(preferred + names), None)


def _passing(material: Material, rows: pd.DataFrame) -> str:
    axis = _axis(material, rows)
    if axis is None:
        return ""
    others = [name for name in material.factors if name != axis]
    slices = [part for _, part in rows.groupby(others, sort=False, dropna=False)] if others else [rows]
    crossed = [(part.sort_values(axis), _crossing(part.sort_values(axis))) for part in slices if len(part) > 1]
    if not crossed:
        return ""
    if len(crossed) <= MOST_SLICES:
        return f" Along {axis} it passes {GOAL} {'; '.join(_told(material, axis, rows, *each) for each in crossed)}."
    inside = sum(0 < place < len(part) for part, place in crossed)
    never = sum(place == len(part) for part, place in crossed)
    return (
        f" Along {axis}, over {len(crossed)} combinations of the other factors, it passes {GOAL} between two levels "
        f"in {inside}, is at least {GOAL} from the smallest level on in {len(crossed) - inside - never}, and is "
        f"below {GOAL} at the largest level in {never}."
    )


def _crossing(part: pd.DataFrame) -> int:
    """The first position from which on power is at least .8; the length if there is none."""
    reached = (part["value"] >= GOAL).to_list()
    place = len(reached)
    while place and reached[place - 1]:
        place -= 1
    return place


def _told(material: Material, axis: str, rows: pd.DataFrame, part: pd.DataFrame, place: int) -> str:
    where = material.place(part.iloc[0], among=rows, without=[axis])
    end = f" (at {where})" if where else ""
    same = rows["n"].nunique() == 1

    def level(position: int) -> str:
        row: Any = part.iloc[position]
        return f"{value_text(row[axis])}, where it is {measured(row, n=not same)}"

    reached = (part["value"] >= GOAL).to_list()
    changes = [k for k in range(1, len(part)) if reached[k] != reached[k - 1]]
    if place == len(part) and changes:  # below it at the largest level, not at all smaller ones
        k = changes[-1]
        text = f"downwards between {level(k - 1)}, and {level(k)}{end}"
        return text if len(changes) == 1 else f"{len(changes)} times, last {text}"
    if any(reached[:place]):
        end = f" for good, after reaching it at a smaller level{end}"
    if place == 0 and part["value"].iloc[-1] < part["value"].iloc[0]:
        return f"at none of its levels, down to {level(len(part) - 1)}{end}"
    if place == 0:
        return f"at or below its smallest level, {level(0)}{end}"
    if place == len(part):
        return f"at none of its levels, up to {level(place - 1)}{end}"
    return f"between {level(place - 1)}, and {level(place)}{end}"
