"""Names of measures for people, what they are compared with, and where their axes end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...measure.subsets import default_subset
from ...spec.measures import MEASURES, WHOLE
from ..levels import level_text

if TYPE_CHECKING:
    from .choose import ShownRows

__all__ = ["caption_of", "fixed", "label_of", "largest_mcse", "references", "title_of", "uncertainty"]


def label_of(rows: ShownRows, measure: str | None = None, *, bare: bool = False) -> str:
    """ "coverage of x"; the name alone if bare, or of a method as a whole. Where all nulls are true, power is type I error."""
    measure = rows.measures[0] if measure is None else measure
    name = "type I error rate" if measure == "power" and rows.nulls == "all" else _name(measure)
    return name if bare or not rows.estimand else f"{name} of {rows.estimand}"


def title_of(rows: ShownRows) -> str:
    """`label_of` as a title; of several measures, those of the estimand first."""
    whole = [m for m in rows.measures if m in WHOLE] if len(rows.measures) > 1 else []
    of_estimand = [m for m in rows.measures if m not in whole]
    text = ", ".join(label_of(rows, m, bare=True) for m in of_estimand)
    text += f" of {rows.estimand}" if rows.estimand and of_estimand else ""
    text = "; ".join(t for t in (text, ", ".join(label_of(rows, m, bare=True) for m in whole)) if t)
    return text[:1].upper() + text[1:]


def references(rows: ShownRows, measure: str | None = None) -> list[float]:
    """What a measure is compared with: 0.8 and, where an effect is null, the level of the test; nominal coverage; 0; 1."""
    measure = rows.measures[0] if measure is None else measure
    row = MEASURES.get(measure)
    return [] if row is None else row.reference(sorted(set(rows.alphas.values())), rows.nulls)


def _name(measure: str) -> str:
    return MEASURES[measure].title if measure in MEASURES else measure


def caption_of(rows: ShownRows, *parts: str, marks: Sequence[float] = (), title: bool = False) -> str:
    """The title (of tables), n, what the caller says, reference lines, levels, a single method, what else is to be known."""
    head = [title_of(rows), rows.counts("a cell")] if title else [rows.counts()]
    said = [*head, *(p for p in parts if p)]
    if marks:
        said.append(f"Dotted: {', '.join(f'{m:g}' for m in sorted(marks))}")
    if levels := level_text(rows.measures, rows.alphas):
        said.append(f"{levels[0].upper()}{levels[1:]}")
    if "power" in rows.measures and rows.nulls == "some":
        said.append("Where the true effect is null, power is the type I error rate")
    if len(rows.dimensions["method"]) == 1:
        said.append(f"Method: {rows.dimensions['method'].labels[0]}")
    if rows.subset != default_subset(rows.estimand):
        said.append(f"Replicates: {rows.subset}")
    return ". ".join([*said, *rows.notes, *([rows.shown] if rows.shown else [])]) + "."


def fixed(value: float, decimals: int) -> str:
    """A number with these decimals, never "-0.00".

    >>> fixed(-0.001, 2), fixed(-0.009, 2)
    ('0.00', '-0.01')
    """
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def uncertainty(rows: ShownRows) -> str:
    """What the limits are."""
    shares = rows.frame["lower"].notna()
    if shares.any() and not shares.all():
        return "Wilson's 95 % limits of shares, value ± 1.96 MCSE of others"
    return "Wilson's 95 % limits" if shares.any() else "value ± 1.96 MCSE"


def largest_mcse(rows: ShownRows) -> str:
    """ "MCSE at most 0.012", of each measure."""
    worst = rows.frame.groupby("measure", sort=False)["mcse"].max()
    if len(worst) == 1:
        return f"MCSE at most {worst.iloc[0]:.2g}"
    return "MCSE at most " + ", ".join(f"{v:.2g} ({_name(str(m))})" for m, v in worst.items())
