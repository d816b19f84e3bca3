"""How all pictures look: Okabe and Ito's colours, markers and line styles that survive grey print, files that are reproducible.

Pictures are matplotlib Figures of their own: no pyplot, no display, nothing global but rcParams, which are set for the time of
drawing and saving and put back, one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "COLOURS",
    "GREY",
    "INK",
    "ORANGE",
    "PALE",
    "SMALL",
    "LineStyle",
    "bare",
    "context",
    "line_style",
    "shade",
]

# Okabe and Ito (2008); in this order neighbours differ in grey too
BLUE, ORANGE, GREEN, PINK, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#A6CEE6"
COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, "#000000")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.6)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 3)),
)
#: Points of all small text.
SMALL = 8.0

_RC: Any = {
    "svg.hashsalt": "nestlab",
    "svg.fonttype": "none",  # text that can be found, read aloud and edited
    "pdf.fonttype": 42,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    "figure.dpi": 100,
}

_LOCK = threading.RLock()


@contextmanager
def context() -> Iterator[None]:
    """matplotlib's defaults with our style; what the caller had set is put back. Threads take turns."""
    import matplotlib as mpl

    with _LOCK, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


@dataclass(frozen=True, slots=True)
class LineStyle:
    """Colour, marker, dashes, and whether markers are filled."""

    color: Any
    marker: str
    dashes: Any
    filled: bool = True
    width: float = 1.5

    @property
    def keywords(self) -> dict[str, Any]:
        """For Axes.plot and Line2D."""
        return {
            "color": self.color, "marker": self.marker, "linestyle": self.dashes, "linewidth": self.width, "markersize": 4.5,
            "markerfacecolor": self.color if self.filled else "white", "markeredgecolor": self.color,
        }  # fmt: skip


def line_style(position: int, other: int | None = None) -> LineStyle:
    """The style of a level and, where lines differ in a second way, of that one: colour and marker; dashes and filling."""
    turn = position // len(COLOURS)
    dashes = _DASHES[(position % len(COLOURS) + turn if other is None else other) % len(_DASHES)]
    filled = turn % 2 == 0 if other is None else other % 2 == 0
    return LineStyle(COLOURS[position % len(COLOURS)], _MARKERS[position % len(_MARKERS)], dashes, filled)


def shade(position: int, count: int) -> LineStyle:
    """One of many ordered levels, from dark to light."""
    from matplotlib import colormaps

    return LineStyle(colormaps["viridis"](0.93 * position / max(count - 1, 1)), "", "-", width=1.0)


def bare(ax: Axes) -> None:
    """Axes without the vertical spine and ticks, for rows of names."""
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
