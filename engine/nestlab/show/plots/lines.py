"""A measure by a factor: lines with bands of Monte Carlo uncertainty. Power, coverage, bias, convergence, methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import style
from .alt import lines_alt
from .choose import Asked, Dimension, ShownRows, measures_of, select
from .compose import WIDTH, Panel, Picture
from .roles import Roles, arranged, assign, cells, named, where
from .style import LineStyle
from .ticks import category_step, category_ticks, number_ticks
from .words import caption_of, label_of, largest_mcse, references, title_of, uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["by_factor", "compare_methods", "convergence"]

#: Lines of a panel that still have bands; more would hide one another.
MOST_BANDS = 8
#: Levels of a numeric factor in colours of their own; more are shades.
MOST_COLOURS = 8


@dataclass(frozen=True)
class Line:
    """One line of every panel: its levels, style and name."""

    levels: tuple[Any, ...]
    style: LineStyle
    label: str


def by_factor(results: StoredResults, asked: Asked) -> Picture:
    """One measure by a factor."""
    rows = select(results, asked)
    return _picture(rows, assign(rows, asked), title_of(rows), asked)


def convergence(results: StoredResults, asked: Asked) -> Picture:
    """Shares of fits that converged, and that are singular; failures where there are any."""
    if asked.measure is not None:
        return by_factor(results, asked)
    summary = results.summary()
    anywhere = set(summary.loc[(summary["estimand"] == "") & (summary["value"] > 0), "measure"])
    wanted = ["singular", "converged", *(m for m in ("failed", "inference_failed") if m in anywhere)]
    rows = select(results, asked, wanted)
    rates = rows.frame[rows.frame["measure"] == "converged"]["value"]
    if len(rates) and (rates == 1).all():
        rows = replace(rows, notes=("All fits converged", *rows.notes))
    return _several(rows, asked, "Convergence and singular fits", first=())


def compare_methods(results: StoredResults, asked: Asked) -> Picture:
    """Bias, empirical SE, coverage and power of every method, those that there are; or one measure."""
    if asked.measure is not None:
        rows = select(results, asked)
        return _picture(rows, assign(rows, asked, first=["method"]), f"Methods: {label_of(rows)}", asked)
    chosen = select(results, asked)
    focus = chosen.estimand
    there = set(measures_of(results).query("estimand == @focus")["measure"])
    wanted = [m for m in ("power", "cover", "bias", "empse") if m in there]
    rows = replace(select(results, replace(asked, estimand=focus), wanted), shown=chosen.shown)
    if rows.frame["method"].nunique() > 1:
        note = "Limits are of each method by itself; those of differences on the same data: nestlab compare"
        rows = replace(rows, notes=(*rows.notes, note))
    return _several(rows, asked, f"Methods: {focus}", first=["method"])


def _several(rows: ShownRows, asked: Asked, title: str, first: Sequence[str]) -> Picture:
    """A row of panels a measure."""
    names = tuple(label_of(rows, m, bare=True) for m in rows.measures)
    measures = Dimension("measure", "measure", rows.measures, names, numeric=False)
    return _picture(rows, assign(rows, asked, first=first, facets=[measures]), title, asked)


def _picture(rows: ShownRows, roles: Roles, title: str, asked: Asked) -> Picture:
    lines, shades = _lines(roles)
    shown, columns = arranged(rows.frame, roles.facets)
    bands = len(lines) <= MOST_BANDS and roles.x.numeric and len(roles.x) > 1
    width = (asked.size[0] if asked.size else 6.6 if len(shown) == 1 else WIDTH) / columns - 0.9
    several = any(d.name == "measure" for d in roles.facets)
    panels: list[Panel | None] = []
    for cell in shown:
        if cell is None:
            panels.append(None)
            continue
        measure = cell[0] if several else rows.measures[0]
        of_measure = rows.frame[rows.frame["measure"] == measure]
        marks = references(rows, measure)
        limits = _limits(of_measure, marks, whole=measure == "power" and rows.nulls != "all")
        panels.append(
            Panel(
                named(roles.facets, cell),
                _LinesPainter(where(of_measure, roles.facets, cell), roles, lines, bands, marks, limits, width),
                roles.x.axis or roles.x.title, label_of(rows, measure, bare=len(shown) > 1),
            )
        )  # fmt: skip
    caption = _caption(rows, roles, lines, bands)
    names, step = (0.0, 1) if roles.x.numeric else category_step(roles.x.labels, width)
    caption += f" One in {step} levels of {roles.x.title} is named." if step > 1 else ""
    below = names / math.ceil(len(shown) / columns)
    size = (6.6, 3.6 + below) if len(shown) == 1 else (WIDTH, max(min(0.72 * WIDTH / columns, 3.0), 1.7) + below)
    return Picture(title, panels, _legend(roles, lines, shades), caption, columns, size, alt=lines_alt(rows, roles))


def _lines(roles: Roles) -> tuple[list[Line], bool]:
    """The lines of a panel; whether they are shades of a numeric factor with many levels."""
    if roles.color is None:
        return [Line((), style.line_style(0), "")], False
    dimensions = (roles.color, *roles.lines)
    shades = roles.color.numeric and len(roles.color) > MOST_COLOURS and not roles.lines
    rest = list(cells(roles.lines))
    made = []
    for i, level in enumerate(roles.color.levels):
        for j, others in enumerate(rest):
            look = style.shade(i, len(roles.color)) if shades else style.line_style(i, j if roles.lines else None)
            made.append(Line((level, *others), look, named(dimensions, (level, *others))))
    return made, shades


def _legend(roles: Roles, lines: Sequence[Line], shades: bool) -> list[tuple[str, list[tuple[Any, str]]]]:
    from matplotlib.lines import Line2D

    if roles.color is None:
        return []
    if roles.lines:
        return [("", [(Line2D([], [], **line.style.keywords), line.label) for line in lines])]
    kept = range(len(lines))
    title = roles.color.title
    if shades:
        kept = sorted({round(k * (len(lines) - 1) / 4) for k in range(5)})  # type: ignore[assignment]
        title = f"{title} ({len(lines)} levels, from dark to light)"
    labels = roles.color.labels
    return [(title, [(Line2D([], [], **lines[k].style.keywords), labels[k]) for k in kept])]


def _limits(frame: pd.DataFrame, marks: Sequence[float], *, whole: bool) -> tuple[float, float]:
    """Ends of the y axis, shared by the panels of a measure."""
    if whole:
        return -0.03, 1.03
    if frame["lower"].notna().any():
        low, high = min(*frame["low"].fillna(1), *marks, 1.0), max(*frame["high"].fillna(0), *marks, 0.0)
        low, high = min(low, max(high - 0.1, 0.0)), max(high, min(low + 0.1, 1.0))
        return low - 0.05 * (high - low), high + 0.05 * (high - low)
    values = [v for v in (*frame["low"], *frame["high"], *frame["value"], *marks) if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - pad, high + pad


@dataclass(frozen=True)
class _LinesPainter:
    """Draws one panel."""

    frame: pd.DataFrame
    roles: Roles
    lines: Sequence[Line]
    bands: bool
    marks: Sequence[float]
    limits: tuple[float, float]
    width: float

    def __call__(self, ax: Axes) -> None:
        for mark in self.marks:
            ax.axhline(mark, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1.5)
        x = self.roles.x
        if x.numeric:
            number_ticks(ax, x, self.width)
        else:
            category_ticks(ax, x.labels, self.width)
        dimensions = () if self.roles.color is None else (self.roles.color, *self.roles.lines)
        for k, line in enumerate(self.lines):
            rows = where(self.frame, dimensions, line.levels)
            if not rows.empty:
                self._line(ax, line, rows, k)
        ax.set_ylim(*self.limits)

    def _line(self, ax: Axes, line: Line, rows: pd.DataFrame, k: int) -> None:
        x = self.roles.x
        if x.numeric and len(rows) > 1:
            rows = rows.sort_values(x.name)
            keywords = line.style.keywords | ({"marker": "", "linewidth": 1.0} if len(rows) > 30 else {})
            ax.plot(rows[x.name], rows["value"], label=line.label, **keywords)
            if self.bands:
                ax.fill_between(
                    rows[x.name].to_numpy(float), rows["low"].to_numpy(float), rows["high"].to_numpy(float),
                    color=line.style.color, alpha=0.18, linewidth=0,
                )  # fmt: skip
            return
        keywords = line.style.keywords | {"linestyle": ""}
        if x.numeric:
            places = rows[x.name].to_numpy(float)
        else:
            step = min(0.7 / len(self.lines), 0.18)
            offset = (k - (len(self.lines) - 1) / 2) * step
            places = np.array([x.levels.index(v) for v in rows[x.name]], dtype=float) + offset
        value = rows["value"].to_numpy(float)
        bars = np.abs(np.vstack([value - rows["low"], rows["high"] - value]))
        if not keywords["marker"] or len(x) > 60:
            keywords |= {"marker": ".", "markersize": 3}
        ax.errorbar(
            places,
            value,
            yerr=bars,
            label=line.label,
            elinewidth=1.2 if len(x) <= 60 else 0.5,
            capsize=2 if len(x) < 40 else 0,
            **keywords,
        )


def _caption(rows: ShownRows, roles: Roles, lines: Sequence[Line], bands: bool) -> str:
    crowded = not bands and roles.x.numeric and len(roles.x) > 1
    return caption_of(
        rows,
        f"{len(lines)} lines a panel, too many for bands: {largest_mcse(rows)}" if crowded else "",
        "" if crowded else f"{'Bands' if bands else 'Bars'}: {uncertainty(rows)}",
        marks=sorted({mark for measure in rows.measures for mark in references(rows, measure)}),
    )
