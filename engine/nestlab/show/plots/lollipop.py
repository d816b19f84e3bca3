"""Lollipops: a row a condition, a measure with its Monte Carlo limits, and the number itself beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...spec.measures import MEASURES
from ...spec.problems import StudyError, show
from ..summary import value_with_mcse
from . import style
from .alt import rows_alt
from .choose import Asked, Dimension, ShownRows, pick, select
from .compose import WIDTH, Panel, Picture
from .roles import columns_for, existing, named, where
from .words import caption_of, label_of, references, title_of, uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["lollipop"]

#: Inches a line of numbers needs, and the height of all rows before some are left out.
_STEP, _TALL = 0.16, 8.5


@dataclass(frozen=True)
class _Row:
    levels: tuple[Any, ...] | None  # None: the place of those left out
    label: str


def lollipop(results: StoredResults, asked: Asked) -> Picture:
    """x: none, a row is a condition; color: what is side by side within a row (the methods); facet: what has a panel a level.

    Where there are more rows than a page holds, the lowest and the highest of the first line are shown, in order.
    """
    rows = select(results, asked)
    order, color, facets = _roles(rows, asked)
    lines = len(color) if color else 1
    height = _STEP * lines + 0.06
    made, note = _rows(
        rows, order, color, facets, most=max(int(((asked.size[1] - 2) if asked.size else _TALL) / height), 4)
    )
    looks = [style.line_style(k) for k in range(lines)]
    marks = references(rows)
    base = _base(rows.measures[0], marks)
    chosen = existing(rows.frame, facets)
    label = label_of(rows)
    limits = _limits(rows, order, made, marks, base)
    panels = [
        Panel(
            named(facets, c),
            _LollipopPainter(where(rows.frame, facets, c), made, order, color, looks, base, marks, limits), label,
        )
        for c in chosen
    ]  # fmt: skip
    parts = [
        f"Whiskers: {uncertainty(rows)}; numbers: value (MCSE)",
        *note,
    ]
    columns = len(panels) if len(panels) <= 4 else columns_for(len(panels))
    size = (7.0 if len(panels) == 1 else WIDTH, height * len(made) + 0.7)
    caption = caption_of(rows, *parts, marks=marks)
    return Picture(title_of(rows), panels, _legend(color, looks), caption, columns, size, alt=rows_alt(rows))


def _roles(rows: ShownRows, asked: Asked) -> tuple[list[Dimension], Dimension | None, list[Dimension]]:
    every = rows.dimensions
    if asked.x is not None:
        raise StudyError(
            [f"x = {show(asked.x)}: kind lollipop has a row a condition; leave x out, or use color or facet"]
        )
    for role in ("color", "facet"):
        if getattr(asked, role) is not None:
            pick(role, getattr(asked, role), every, what="the results vary by")
    if asked.color is not None and asked.color == asked.facet:
        raise StudyError(
            [f"facet = {show(asked.facet)}: stands for color already; choose another of {', '.join(every)}"]
        )
    several = len(every["method"]) > 1 and "method" not in (asked.color, asked.facet)
    color = every[asked.color] if asked.color else every["method"] if several else None
    facets = [every[asked.facet]] if asked.facet else []
    used = {d.name for d in (color, *facets) if d is not None}
    order = [d for n, d in every.items() if n not in used and len(d) > 1]
    return order, color, facets


def _rows(
    rows: ShownRows, order: Sequence[Dimension], color: Dimension | None, facets: Sequence[Dimension], *, most: int
) -> tuple[list[_Row], list[str]]:
    """All rows in the order of the factors, or the lowest and highest of the first line, with a note."""
    if not order:
        return [_Row((), "")], []
    made = [_Row(c, named(order, c)) for c in existing(rows.frame, order)]
    if len(made) <= most:
        return made, []
    lead = [*([color] if color else []), *facets]
    first = where(rows.frame, lead, [d.levels[0] for d in lead]).set_index([d.name for d in order])["value"]
    key = [r.levels[0] if r.levels is not None and len(order) == 1 else r.levels for r in made]
    value = first.reindex(key).to_numpy(float)
    rank = np.argsort(value, kind="stable")
    rank = rank[np.isfinite(value[rank])]
    half = (most - 1) // 2
    low, high, middle = rank[:half], rank[len(rank) - half :], rank[half : len(rank) - half]
    gap = _Row(None, f"... {len(made) - 2 * half:,} left out")
    ends = f"between {value[middle[0]]:.4g} and {value[middle[-1]]:.4g}"
    of = "" if not lead else f" by {named(lead, [d.levels[0] for d in lead])}"
    note = f"The {half} lowest and {half} highest of {len(made):,} conditions{of}; the others lie {ends}"
    return [*(made[k] for k in low), gap, *(made[k] for k in high)], [note]


def _base(measure: str, marks: Sequence[float]) -> float | None:
    """Where sticks begin: the reference, or 0; nowhere for estimates."""
    begin = MEASURES[measure].stick if measure in MEASURES else "zero"
    if begin == "none":
        return None
    return marks[0] if marks and begin == "reference" else 0.0


def _limits(
    rows: ShownRows, order: Sequence[Dimension], made: Sequence[_Row], marks: Sequence[float], base: float | None
) -> tuple[float, float]:
    shown = {r.levels for r in made}
    frame = rows.frame
    if order:
        frame = frame[[key in shown for key in zip(*(frame[d.name] for d in order), strict=True)]]
    values = [*frame["low"], *frame["high"], *marks, *([base] if base is not None else [])]
    known = np.asarray([v for v in values if np.isfinite(v)] or [0.0, 1.0])
    pad = 0.04 * float(np.ptp(known)) or 0.05
    return float(known.min()) - pad, float(known.max()) + pad


def _legend(color: Dimension | None, looks: Sequence[style.LineStyle]) -> list[tuple[str, list[tuple[Any, str]]]]:
    from matplotlib.lines import Line2D

    if color is None:
        return []
    made = [Line2D([], [], **(look.keywords | {"linestyle": "-", "linewidth": 1.0})) for look in looks]
    return [(color.title, list(zip(made, color.labels, strict=True)))]


@dataclass(frozen=True)
class _LollipopPainter:
    frame: pd.DataFrame
    rows: Sequence[_Row]
    order: Sequence[Dimension]
    color: Dimension | None
    looks: Sequence[style.LineStyle]
    base: float | None
    marks: Sequence[float]
    limits: tuple[float, float]

    def __call__(self, ax: Axes) -> None:
        for mark in self.marks:
            ax.axvline(mark, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1.5)
        count = len(self.looks)
        by = dict(tuple(self.frame.groupby([d.name for d in self.order], sort=False))) if self.order else {}
        for i, row in enumerate(self.rows):
            if row.levels is None:
                continue
            rows = by.get(row.levels) if self.order else self.frame
            for k, look in enumerate(self.looks):
                found = (
                    rows if self.color is None or rows is None else rows[rows[self.color.name] == self.color.levels[k]]
                )
                if found is not None and len(found):
                    self._stick(ax, i + (k - (count - 1) / 2) * 0.86 / count, found.iloc[0], look)
        ax.set_ylim(len(self.rows) - 0.4, -0.6)
        ax.set_yticks(range(len(self.rows)), [r.label for r in self.rows])
        ax.set_xlim(*self.limits)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", visible=True)
        style.bare(ax)

    def _stick(self, ax: Axes, y: float, row: pd.Series[Any], look: style.LineStyle) -> None:
        value, low, high = float(row["value"]), float(row["low"]), float(row["high"])
        beside = ax.get_yaxis_transform()
        text = value_with_mcse(value, row["mcse"])
        ax.text(1.01, y, text, transform=beside, fontsize=style.SMALL - 1, va="center", color=style.INK)
        if not np.isfinite(value):
            return
        if self.base is not None:
            ax.plot([self.base, value], [y, y], color=look.color, linewidth=1.0)
        ax.plot([low, high], [y, y], color=look.color, linewidth=2.6, alpha=0.4, solid_capstyle="butt")
        ax.plot([value], [y], **(look.keywords | {"linestyle": ""}))
