"""Ticks at the levels of a factor, thinned so that no two labels meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .choose import Dimension

__all__ = ["apart", "category_step", "category_ticks", "is_log", "number_ticks", "text_width"]


def text_width(text: str, size: float = style.SMALL) -> float:
    """Inches of a line of text, rather too many than too few."""
    return max(map(len, text.split("\n"))) * 0.66 * size / 72


def is_log(levels: Sequence[float]) -> bool:
    """Whether levels are more even on a log scale: all positive, over a factor of 4 at least; always over one of 50.

    >>> is_log([5, 10, 20, 40]), is_log([10, 20, 30, 40]), is_log([4, 8, 1000]), is_log([0, 0.1, 10])
    (True, False, True, False)
    """
    if len(levels) < 3 or min(levels) <= 0 or max(levels) < 4 * min(levels):
        return False
    if max(levels) >= 50 * min(levels):
        return True
    plain, logs = np.diff(levels), np.diff(np.log(levels))
    return bool(logs.std() / logs.mean() < 0.75 * plain.std() / plain.mean())


def number_ticks(ax: Axes, dimension: Dimension, width: float) -> None:
    """The axis of a numeric factor on axes of `width` inches: a tick a level where there is room, else matplotlib's choice."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    levels = [float(v) for v in dimension.levels]
    labels = dict(zip(levels, dimension.labels, strict=True))
    log = is_log(levels)
    if log:
        ax.set_xscale("log")
    scaled = np.log(levels) if log else np.asarray(levels)
    span = float(scaled[-1] - scaled[0]) or 1.0
    pad = 0.04 * span
    ends = (scaled[0] - pad, scaled[-1] + pad)
    ax.set_xlim(*(np.exp(ends) if log else ends))
    places = (scaled - ends[0]) / (ends[1] - ends[0]) * width
    if len(levels) > 15 and not log:
        ax.xaxis.set_major_locator(MaxNLocator(max(int(width / 0.6), 2), steps=[1, 2, 5, 10]))
        return
    kept = apart(places, [text_width(labels[v]) + 0.06 for v in levels])
    ax.xaxis.set_major_locator(FixedLocator([levels[k] for k in kept]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: min(labels.items(), key=lambda item: abs(item[0] - v))[1]))
    ax.xaxis.set_minor_locator(NullLocator())


def apart(places: Any, widths: Sequence[float]) -> list[int]:
    """Positions of labels, the first and the last kept, of which no two meet.

    >>> apart([0.0, 0.1, 1.0, 2.0], [0.5] * 4)
    [0, 2, 3]
    """
    if not len(places):
        return []
    kept, last = [0], len(places) - 1
    for k in range(1, last):
        free = places[k] - places[kept[-1]] >= (widths[k] + widths[kept[-1]]) / 2
        if free and places[last] - places[k] >= (widths[k] + widths[last]) / 2:
            kept.append(k)
    return kept if last == 0 else [*kept, last]


def category_ticks(ax: Axes, labels: Sequence[str], width: float) -> None:
    """Names at 0, 1, ... on axes of `width` inches: level if they fit, else upright, every k-th where even those meet."""
    upright, step = category_step(labels, width)
    ax.set_xticks(range(0, len(labels), step), list(labels[::step]), rotation=90 if upright else 0)
    ax.set_xlim(-0.6, len(labels) - 0.4)


def category_step(labels: Sequence[str], width: float) -> tuple[float, int]:
    """Inches that upright names need below the axis (0: they are level), and every how many-th is named.

    >>> category_step(["a", "b"], 3.0), category_step(["x" * 20] * 90, 3.0)[1]
    ((0.0, 1), 5)
    """
    room = width / max(len(labels), 1)
    longest = max(map(text_width, labels), default=0.0)
    if longest + 0.08 <= room:
        return 0.0, 1
    return longest, max(int(np.ceil(1.45 * style.SMALL / 72 / room)), 1)
