"""From panels to a figure: title and legend above the axes, caption below, everything measured so that nothing overlaps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...spec.problems import StudyError, show
from . import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "Picture", "Wording", "on_axes", "render"]

#: Inches.
WIDTH, MARGIN, GAP = 9.0, 0.1, 0.08
#: Inches that a row of axes needs at least.
_LEAST = 0.9


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what stands above it, and how to draw on it. middle: height of the ylabel, as a share of the axes'."""

    title: str
    paint: Callable[[Axes], None]
    xlabel: str = ""
    ylabel: str = ""
    middle: float = 0.5


@dataclass(frozen=True)
class Picture:
    """Panels in reading order (None: a place that stays empty), with what they share.

    size: inches of a single panel; legend: (handle, label) by title.
    """

    title: str
    panels: Sequence[Panel | None]
    legend: Sequence[tuple[str, Sequence[tuple[Any, str]]]] = ()
    caption: str = ""
    columns: int = 1
    size: tuple[float, float] = (6.6, 3.7)
    inner: bool = True  # labels of axes only at the left and below
    alt: str = ""  # what is seen, for those who do not see it
    page: tuple[float, float] | None = None  # inches of the whole picture
    finish: Callable[[Figure, Sequence[Axes]], None] | None = None  # what panels share inside the figure: a colour bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What a caller sets of a picture, instead of what is written; size: width and height of all of it, in inches."""

    title: str | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    caption: str | None = None
    size: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not (len(self.size) == 2 and all(2 <= inches <= 100 for inches in self.size)):
            raise StudyError(
                [f"size = {show(list(self.size))}: must be width and height from 2 to 100 inches; such as 7 5"]
            )

    def of(self, picture: Picture) -> Picture:
        """The picture in these words."""
        panels = [
            panel
            and replace(panel, xlabel=_either(self.xlabel, panel.xlabel), ylabel=_either(self.ylabel, panel.ylabel))
            for panel in picture.panels
        ]
        title, caption = _either(self.title, picture.title), _either(self.caption, picture.caption)
        return replace(picture, panels=panels, title=title, caption=caption, page=self.size)


def _either(given: str | None, written: str) -> str:
    return written if given is None else given


def on_axes(picture: Picture, ax: Axes | None) -> Axes | np.ndarray[Any, Any]:
    """Draw on the axes given (one panel), or on those of a new figure, and return them: one, or an array (rows, columns).

    Raises StudyError where axes are given and the picture has several panels.
    """
    if ax is None:
        figure = render(picture)
        drawn = iter(figure.get_axes())
        axes = [None if panel is None else next(drawn) for panel in picture.panels]
        return figure.get_axes()[0] if len(axes) == 1 else _array(axes, picture.columns)
    shown = [panel for panel in picture.panels if panel is not None]
    if len(shown) > 1:
        names = "; ".join(p.title for p in shown[:6])
        raise StudyError(
            [f"ax = one pair of axes: the plot has {len(shown)} panels ({names}); leave ax out, or choose fewer by "
             "method, condition, measure or color"]
        )  # fmt: skip
    panel = shown[0]
    with style.context():
        panel.paint(ax)
        ax.set_xlabel(panel.xlabel)
        ax.set_ylabel(panel.ylabel, y=panel.middle)
        if picture.finish is not None:
            picture.finish(cast("Figure", ax.figure), [ax])
        entries = [entry for _, group in picture.legend for entry in group]
        if entries:
            handles, labels = zip(*entries, strict=True)
            title = ", ".join(t for t, _ in picture.legend if t)
            ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(labels), 4), title=title)
    return ax


def _array(axes: Sequence[Axes | None], columns: int) -> np.ndarray[Any, Any]:
    made = np.full((math.ceil(len(axes) / columns), columns), None, dtype=object)
    made.flat[: len(axes)] = axes
    return made


def render(picture: Picture) -> Figure:
    """A figure of its own, independent of pyplot."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context():
        width, height, rows = _extent(picture)
        figure = Figure(figsize=(width, height))
        figure.set_label(f"{picture.title}\n{picture.alt}")  # files and pages take the text from there
        FigureCanvasAgg(figure)
        places = {k: panel for k, panel in enumerate(picture.panels) if panel is not None}
        axes = [figure.add_subplot(rows, picture.columns, k + 1) for k in places]
        for (k, panel), ax in zip(places.items(), axes, strict=True):
            last = k + picture.columns not in places
            panel.paint(ax)
            if panel.title:
                ax.set_title(_wrapped(figure, panel.title, _panel_width(width, picture.columns)), fontsize=style.SMALL)
            ax.set_xlabel(panel.xlabel if last or not picture.inner else "")
            beside = k % picture.columns > 0 and k - 1 in places and places[k - 1].ylabel == panel.ylabel
            tall = picture.size[1] if picture.page is None else (picture.page[1] - 1) / rows
            upright = _wrapped(figure, panel.ylabel, tall - 0.5, rcParams["axes.labelsize"])
            ax.set_ylabel("" if beside and picture.inner else upright, y=panel.middle)
            if beside and picture.inner:
                ax.tick_params(labelleft=False)
            if picture.inner and not last:
                ax.tick_params(labelbottom=False)
        if picture.finish is not None:
            picture.finish(figure, axes)
        _frame(figure, picture)
    return figure


def _extent(picture: Picture) -> tuple[float, float, int]:
    rows = math.ceil(len(picture.panels) / picture.columns)
    width, height = picture.size
    if picture.page is not None:
        return *picture.page, rows
    if len(picture.panels) == 1:
        return width, height, rows
    return max(width, min(WIDTH, 3.6 * picture.columns)), height * rows, rows


def _panel_width(width: float, columns: int) -> float:
    return width / columns - 0.55


def _wrapped(figure: Figure, text: str, width: float, size: float = style.SMALL) -> str:
    """Text broken to a width in inches, as the renderer measures its words."""
    lines, room, space = [""], width, _inches(figure, "x x", size) - 2 * _inches(figure, "x", size)
    for word in text.split():
        wide = _inches(figure, word, size)
        if wide + space > room and lines[-1]:
            lines.append("")
            room = width
        if wide <= room:
            lines[-1] = f"{lines[-1]} {word}".strip()
            room -= wide + space
            continue
        # A word alone is too long: it is broken at its marks, or where it must be.
        for piece in re.split(r"(?<=[/_:.-])", word):
            if lines[-1] and _inches(figure, lines[-1] + piece, size) > width:
                lines.append("")
            for character in piece:
                if _inches(figure, lines[-1] + character, size) > width:
                    lines.append("")
                lines[-1] += character
        room = width - _inches(figure, lines[-1], size) - space
    return "\n".join(lines)


def _inches(figure: Figure, text: str, size: float) -> float:
    from matplotlib.font_manager import FontProperties

    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return float(renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / figure.dpi)


def _frame(figure: Figure, picture: Picture) -> None:
    """Put title, legends and caption around the axes, in a figure that grows by what they need."""
    width, inner = figure.get_size_inches()
    above = [*([_title(figure, picture.title, width)] if picture.title else []), *_legends(figure, picture, width)]
    below = None
    if picture.caption:
        text = _wrapped(figure, picture.caption, width - 2 * MARGIN)
        below = figure.text(0, 0, text, fontsize=style.SMALL, color="#444444", va="bottom", linespacing=1.3)
    heights = [_height(figure, artist) for artist in above]
    foot = _height(figure, below) + 2 * GAP if below is not None else GAP
    around = sum(heights) + GAP * (len(above) + 1) + foot
    total = inner + around if picture.page is None else picture.page[1]
    rows = math.ceil(len(picture.panels) / picture.columns)
    if total - around < _LEAST * rows:
        needed = math.ceil(10 * (around + _LEAST * rows)) / 10
        text = f"leaves {max(total - around, 0):.1f} inches for the axes; make it {needed:g} high"
        raise StudyError([f"size = {show([float(width), total])}: {text}"])
    figure.set_size_inches(width, total)
    position = total - GAP
    for artist, height in zip(above, heights, strict=True):
        _place(artist, MARGIN / width, position / total)
        position -= height + GAP
    if below is not None:
        below.set_position((MARGIN / width, GAP / total))
    left = 0.02 / width
    rect = (left, foot / total, 1 - 2 * left, (position - foot) / total)
    figure.set_layout_engine("constrained", rect=rect, w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)


def _title(figure: Figure, title: str, width: float) -> Artist:
    text = _wrapped(figure, title, width - 2 * MARGIN, size=11.0)
    return figure.text(0, 1, text, fontsize=11.0, va="top")


def _legends(figure: Figure, picture: Picture, width: float) -> list[Artist]:
    """One legend a group, each with as many columns as fit."""
    made: list[Artist] = []
    for title, entries in picture.legend:
        handles, labels = zip(*entries, strict=True)
        labels = tuple(_wrapped(figure, label, width - 1) for label in labels)
        columns = min(len(labels), 8)
        while True:
            legend = figure.legend(
                handles, labels, loc="upper left", bbox_to_anchor=(0, 1), ncols=columns, title=title or None, alignment="left",
                borderaxespad=0, borderpad=0, handlelength=3.0, columnspacing=1.6,
            )  # fmt: skip
            legend.set_in_layout(False)
            if columns == 1 or _width(figure, legend) <= width - 2 * MARGIN:
                break
            legend.remove()
            columns -= 1
        made.append(legend)
    return made


def _place(artist: Artist, x: float, y: float) -> None:
    if hasattr(artist, "set_bbox_to_anchor"):
        artist.set_bbox_to_anchor((x, y))
    else:
        artist.set_position((x, y))  # type: ignore[attr-defined]


def _height(figure: Figure, artist: Artist) -> float:
    return float(artist.get_window_extent(figure.canvas.get_renderer()).height / figure.dpi)  # type: ignore[attr-defined]


def _width(figure: Figure, artist: Artist) -> float:
    return float(artist.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi)  # type: ignore[attr-defined]
