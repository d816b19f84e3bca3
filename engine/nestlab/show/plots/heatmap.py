"""Heat map: a measure by two factors, with the numbers where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...spec.problems import StudyError
from . import style
from .alt import rows_alt
from .choose import Asked, Dimension, ShownRows, pick, select
from .compose import WIDTH, Panel, Picture
from .roles import arranged, assign, named, where
from .ticks import category_step, category_ticks, text_width
from .words import caption_of, fixed, label_of, largest_mcse, references, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from ...run.results import StoredResults

__all__ = ["heatmap"]


def heatmap(results: StoredResults, asked: Asked) -> Picture:
    """x: the factor along; color: the factor upwards; every further one has panels. Raises StudyError where there is one only."""
    rows = select(results, asked)
    across, up, facets = _roles(rows, asked)
    measure = rows.measures[0]
    scale = _scale(rows, references(rows), unit=measure == "power" and rows.nulls != "all")
    shown, columns = arranged(rows.frame, facets)
    page = asked.size[0] if asked.size else 6.6 if len(shown) == 1 else WIDTH
    width = (page - max(map(text_width, up.labels)) - 1.4) / columns - 0.15
    height = min(max(0.36 * len(up), 1.3 if len(shown) > 1 else 1.6), 5.0 if len(shown) == 1 else 2.6)
    if asked.size:
        height = max((asked.size[1] - 1.4) / math.ceil(len(shown) / columns) - 0.7, 0.2)
    paint = _HeatmapPainter(rows.frame, across, up, scale, width, height, _decimals(rows))
    labels = across.axis or across.title, up.axis or up.title
    panels = [
        None if c is None else Panel(named(facets, c), replace(paint, frame=where(rows.frame, facets, c)), *labels)
        for c in shown
    ]
    label = label_of(rows)
    parts = ["In brackets: MCSE" if paint.lines == 2 else largest_mcse(rows)]
    names, step = category_step(across.labels, width)
    parts += [f"One in {step} levels of {across.title} is named"] if step > 1 else []
    below = names / math.ceil(len(shown) / columns)
    size = (6.6 if len(shown) == 1 else WIDTH, height + 0.8 + below)

    tall = height * math.ceil(len(shown) / columns)

    def bar(figure: Figure, axes: Sequence[Axes]) -> None:
        made = figure.colorbar(
            _mappable(scale), ax=list(axes), label=label, fraction=0.05, pad=0.02, aspect=max(tall / 0.14, 4)
        )
        made.outline.set_visible(False)

    return Picture(
        title_of(rows),
        panels,
        (),
        caption_of(rows, *parts),
        columns,
        size,
        finish=bar,
        alt=f"By {across.title} and {up.title}. {rows_alt(rows)}",
    )


def _roles(rows: ShownRows, asked: Asked) -> tuple[Dimension, Dimension, tuple[Dimension, ...]]:
    roles = assign(rows, asked)
    every = {n: d for n, d in rows.dimensions.items() if len(d) > 1}
    if len(every) < 2:
        raise StudyError(
            [f'kind = "heatmap": needs two factors that vary, there is {", ".join(every) or "none"}; use measure']
        )
    taken = {asked.facet, roles.x.name}
    queue = sorted(
        (d for n, d in every.items() if n not in taken), key=lambda d: (d.name == "method", not d.numeric, -len(d))
    )
    up = pick("color", asked.color, rows.dimensions) if asked.color else (queue[0].name if queue else None)
    if up is None:
        raise StudyError([f'facet = "{asked.facet}": leaves one factor for a heat map; leave facet out'])
    rest = [d for d in (*roles.facets, *roles.lines, *([roles.color] if roles.color else [])) if d.name != up]
    return roles.x, rows.dimensions[up], tuple(rest)


def _decimals(rows: ShownRows) -> int:
    """Decimals that show the first digit of the largest MCSE: cells have little room."""
    mcse = float(rows.frame["mcse"].max())
    return int(np.clip(-math.floor(math.log10(mcse)), 0, 6)) if mcse > 0 else 2


@dataclass(frozen=True)
class _Scale:
    colours: str
    low: float
    high: float


def _scale(rows: ShownRows, marks: Sequence[float], *, unit: bool) -> _Scale:
    """Shades from dark to light; two-sided about 0 where that is the reference."""
    values = rows.frame["value"].to_numpy(float)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if marks == [0.0]:
        largest = max(abs(low), abs(high)) or 1.0
        return _Scale("PuOr", -largest, largest)
    if unit:
        return _Scale("cividis", 0.0, 1.0)
    pad = 0.0 if high > low else 0.5 * abs(high) or 0.5
    return _Scale("cividis", low - pad, high + pad)


def _mappable(scale: _Scale) -> ScalarMappable:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(scale.low, scale.high), colormaps[scale.colours])


@dataclass(frozen=True)
class _HeatmapPainter:
    frame: pd.DataFrame
    across: Dimension
    up: Dimension
    scale: _Scale
    width: float
    height: float
    decimals: int

    @property
    def lines(self) -> int:
        """Lines of text in a cell: none, the value, or the value and its MCSE."""
        wide, tall = self.width / len(self.across), self.height / len(self.up)
        if wide < self._text_width() + 0.04 or tall < 0.17:
            return 0
        return 2 if tall > 0.34 else 1

    def _text_width(self) -> float:
        decimals = self.decimals
        largest = self.frame["value"].abs().max()
        return text_width(
            f"-{largest:.{decimals}f}" if self.scale.low < 0 else f"{largest:.{decimals}f}", style.SMALL - 1
        )

    def _table(self, column: str) -> NDArray[np.float64]:
        table = self.frame.pivot(index=self.up.name, columns=self.across.name, values=column)
        return table.reindex(index=list(self.up.levels), columns=list(self.across.levels)).to_numpy(float)

    def __call__(self, ax: Axes) -> None:
        values, mcse = self._table("value"), self._table("mcse")
        map_ = _mappable(self.scale)
        ax.set_facecolor("#E8E8E8")
        image = np.ma.masked_invalid(values)
        ax.imshow(
            image,
            origin="lower",
            aspect="auto",
            cmap=map_.cmap,
            vmin=self.scale.low,
            vmax=self.scale.high,
            interpolation="nearest",
        )
        category_ticks(ax, self.across.labels, self.width)
        step = category_step(self.across.labels, self.width)[1]
        upward = max(math.ceil(1.45 * style.SMALL / 72 / (self.height / len(self.up))), 1)
        ax.set_yticks(range(0, len(self.up), upward), list(self.up.labels[::upward]))
        ax.set_xlim(-0.5, len(self.across) - 0.5)
        ax.grid(visible=False)
        if max(step, upward) == 1:
            ax.set_xticks(np.arange(1, len(self.across)) - 0.5, minor=True)
            ax.set_yticks(np.arange(1, len(self.up)) - 0.5, minor=True)
            ax.grid(which="minor", color="white", linewidth=1, visible=True)
        ax.tick_params(which="both", length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if self.lines:
            self._numbers(ax, values, mcse, map_)

    def _numbers(self, ax: Axes, values: NDArray[np.float64], mcse: NDArray[np.float64], map_: Any) -> None:
        decimals = self.decimals
        for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
            red, green, blue, _ = map_.to_rgba(values[i, j])
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            text = fixed(values[i, j], decimals)
            if self.lines == 2 and np.isfinite(mcse[i, j]):
                text += f"\n({mcse[i, j]:.{decimals}f})"
            ax.text(
                int(j), int(i), text, ha="center", va="center", fontsize=style.SMALL - 1, color=ink, linespacing=1.05
            )
