"""Nested-loop plot: a measure over all conditions in order, the levels of the factors as steps below (Ruecker & Schwarzer 2014,
BMC Med Res Methodol 14:129)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...spec.problems import StudyError, show
from . import style
from .alt import rows_alt
from .choose import Asked, Dimension, ShownRows, pick, select
from .compose import WIDTH, Panel, Picture
from .roles import existing, named, where
from .words import caption_of, label_of, largest_mcse, references, uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["nested_loop"]

#: Inches of the axes for the measure, and for each factor below it.
_DATA, _STRIP = 2.6, 0.38
_MOST_BANDS, _LONG = 3, 70


def nested_loop(results: StoredResults, asked: Asked) -> Picture:
    """x: the factor that changes fastest; color: what has a line a level (the methods); facet: what has a panel a level."""
    rows = select(results, asked)
    order, color, facets = _roles(rows, asked)
    sequence = _sequence(rows, order)
    looks = [style.line_style(k) for k in range(len(color) if color else 1)]
    marks = references(rows)
    limits = _limits(rows, marks, bands=len(looks) <= _MOST_BANDS)
    label = label_of(rows)
    names = ", ".join(d.title for d in order)
    xlabel = f"{len(sequence):,} conditions, by {names}" + (" (fastest)" if len(order) > 1 else "") if order else ""
    panels = []
    for c in existing(rows.frame, facets):
        frame = where(rows.frame, facets, c)
        paint = _NestedPainter(frame, sequence, order, color, looks, marks, limits)
        panels.append(Panel(named(facets, c), paint, xlabel, label, middle=(1 + _strips(order)) / 2))
    parts = [
        largest_mcse(rows),
        "Factors whose means differ most change slowest" if len(order) > 1 else "",
        f"Bands: {uncertainty(rows)}" if len(looks) <= _MOST_BANDS else "",
    ]
    size = (WIDTH, _DATA + _STRIP * len(order) + 0.55)
    caption = caption_of(rows, *parts, marks=marks)
    return Picture(f"Nested loops: {label}", panels, _legend(color, looks), caption, 1, size, alt=rows_alt(rows))


def _strips(order: Sequence[Dimension]) -> float:
    """The share of the axes' height that the factors' steps take, below."""
    return _STRIP * len(order) / (_DATA + _STRIP * len(order))


def _roles(rows: ShownRows, asked: Asked) -> tuple[list[Dimension], Dimension | None, list[Dimension]]:
    every = rows.dimensions
    for role in ("x", "color", "facet"):
        if getattr(asked, role) is not None:
            pick(role, getattr(asked, role), every, what="the results vary by")
    given = [n for n in (asked.x, asked.color, asked.facet) if n is not None]
    if len(set(given)) < len(given):
        raise StudyError([f"x, color, facet = {show(given)}: must be different; choose among {', '.join(every)}"])
    several = len(every["method"]) > 1 and "method" not in given
    color = every[asked.color] if asked.color else every["method"] if several else None
    facets = [every[asked.facet]] if asked.facet else [every["method"]] if asked.color and several else []
    rest = [d for n, d in every.items() if d is not color and d not in facets and n != asked.x and len(d) > 1]
    rest.sort(key=lambda d: -_spread(rows.frame, d))
    return [*rest, *([every[asked.x]] if asked.x else [])], color, facets


def _spread(frame: pd.DataFrame, factor: Dimension) -> float:
    """Standard deviation of a factor's level means; the most influential factor changes slowest."""
    spread = frame.groupby(factor.name)["value"].mean().std()
    return float(spread) if np.isfinite(spread) else 0.0


def _sequence(rows: ShownRows, order: Sequence[Dimension]) -> list[tuple[Any, ...]]:
    """The combinations of levels that exist, the last factor fastest."""
    return existing(rows.frame, order)


def _limits(rows: ShownRows, marks: Sequence[float], *, bands: bool) -> tuple[float, float]:
    frame = rows.frame
    if rows.measures[0] == "power" and rows.nulls != "all":
        return 0.0, 1.02
    columns = ("low", "high") if bands else ("value",)
    values = np.concatenate([*(frame[c].to_numpy(float) for c in columns), np.asarray(marks, dtype=float)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - pad, high + pad


def _legend(color: Dimension | None, looks: Sequence[style.LineStyle]) -> list[tuple[str, list[tuple[Any, str]]]]:
    from matplotlib.lines import Line2D

    if color is None:
        return []
    made = [
        (Line2D([], [], color=s.color, linestyle=s.dashes, linewidth=1.5), text)
        for s, text in zip(looks, color.labels, strict=True)
    ]
    return [(color.title, made)]


@dataclass(frozen=True)
class _NestedPainter:
    frame: pd.DataFrame
    sequence: Sequence[tuple[Any, ...]]
    order: Sequence[Dimension]
    color: Dimension | None
    looks: Sequence[style.LineStyle]
    marks: Sequence[float]
    limits: tuple[float, float]

    def __call__(self, ax: Axes) -> None:
        low, high = self.limits
        share = _strips(self.order)
        for mark in self.marks:
            ax.axhline(mark, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1.5)
        for k, look in enumerate(self.looks):
            rows = self.frame if self.color is None else self.frame[self.frame[self.color.name] == self.color.levels[k]]
            self._steps(ax, rows, look)
        ax.set_xlim(-0.5, len(self.sequence) - 0.5)
        ax.set_xticks([])
        ticks = [t for t in ax.yaxis.get_major_locator().tick_values(low, high) if low <= t <= high]
        ax.set_yticks(ticks)
        ax.set_ylim(low - share / (1 - share) * (high - low), high)
        ax.spines["left"].set_bounds(low, high)
        ax.spines["bottom"].set_visible(False)
        for k, factor in enumerate(self.order):
            self._strip(ax, k, factor, share / len(self.order), share)

    def _steps(self, ax: Axes, rows: pd.DataFrame, look: style.LineStyle) -> None:
        by = rows.set_index([d.name for d in self.order]) if self.order else rows
        keys: Any = [c[0] if len(c) == 1 else c for c in self.sequence]
        by = by.reindex(keys) if self.order else by
        edges = np.arange(len(self.sequence) + 1) - 0.5
        wide = 1.5 if len(self.sequence) <= 100 else 1.0
        value = by["value"].to_numpy(float)
        ax.stairs(value, edges, baseline=None, color=look.color, linestyle=look.dashes, linewidth=wide)
        if len(self.looks) <= _MOST_BANDS:
            ax.stairs(
                by["high"].to_numpy(float), edges, baseline=by["low"].to_numpy(float), fill=True, color=look.color, alpha=0.18,
                linewidth=0,
            )  # fmt: skip

    def _strip(self, ax: Axes, k: int, factor: Dimension, height: float, share: float) -> None:
        """The levels of one factor as steps, with their values in words above them."""
        top = share - k * height
        place = {level: i / max(len(factor) - 1, 1) for i, level in enumerate(factor.levels)}
        y = [top - height * (0.97 - 0.4 * place[c[k]]) for c in self.sequence]
        across = ax.get_xaxis_transform()
        ax.stairs(y, np.arange(len(y) + 1) - 0.5, baseline=None, color=style.GREY, linewidth=0.9, transform=across)
        ax.text(0, top - 0.12 * height, _levels(factor), transform=ax.transAxes, fontsize=style.SMALL - 1, va="top")


def _levels(factor: Dimension) -> str:
    text = ", ".join(factor.labels)
    if len(text) > _LONG:
        text = f"{factor.labels[0]} to {factor.labels[-1]} ({len(factor)} levels)"
    return f"{factor.title}: {text}"
