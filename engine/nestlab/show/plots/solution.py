"""The designs that a search tried, the curve through them, and the answer with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ...measure.intervals import wilson
from ...search.crossing import Tried, from_axis, monotone, to_axis
from ...search.question import Trial
from ...search.solve import Solution, Solved
from ...spec.problems import StudyError, show
from ..answer import WORDS, read_solved, title_of
from ..countables import axis_of
from . import style
from .choose import Asked, group_of
from .choose import title_of as title_of_factor
from .compose import Panel, Picture
from .ticks import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["picture", "solution"]

#: Lines of one panel.
MOST_LINES = 6


def solution(results: StoredResults, asked: Asked) -> Picture:
    """The search that left these results. StudyError where none did, and for anything that is asked for."""
    named = next(
        (name for name, value in asdict(asked).items() if name != "size" and value != getattr(Asked(), name)), None
    )
    if named is not None:
        text = f"kind solve shows the search for a design; leave {named} out, or use another kind"
        raise StudyError([f"{named} = {show(getattr(asked, named))}: {text}"])
    return picture(read_solved(results.folder), group_of(results))


def picture(solved: Solved, group: str = "") -> Picture:
    """One axis: the measure at every design tried, with 95 % limits, a monotone curve, and each answer with its interval. Two
    axes: the designs on the plane, coloured by the measure, with the cheapest.
    """
    question = solved.question
    title, measure = title_of(solved), WORDS[question.target.measure].strip(",")
    if len(question.over) == 2:
        return _plane(solved, title, measure, group)
    split = _split(solved.solutions)
    panels, lines = _by(solved.solutions, slice(None, split)), _by(solved.solutions, slice(split, None))
    axis = _axis(question.over[0], group)
    looks = {id(solution): k for k, some in enumerate(lines.values()) for solution in some}
    made = [Panel(name, _line_painter(solved, some, looks), axis, measure) for name, some in panels.items()]
    legend = [("", _legend(list(lines)))] if len(lines) > 1 else []
    counts = [trial.n for solution in solved.solutions for trial in solution.tried]
    span = f"{min(counts):,} to {max(counts):,}" if min(counts) < max(counts) else f"{counts[0]:,}"
    lost = max(trial.missing for solution in solved.solutions for trial in solution.tried)
    left_out = f" (up to {lost:,} more did not converge or are without a result)" if lost else ""
    caption = (
        f"Points: designs tried, {span} replications each{left_out}, with 95 % limits. Curve: monotone through the points. "
        "Shaded: 95 % interval of the answer. Dotted: the target."
    )
    columns, size = (1, (6.6, 3.7)) if len(made) == 1 else (2, (3.6, 2.8))
    return Picture(title, made, legend, caption, columns=columns, size=size, alt=_alt(solved, measure))


def _axis(name: str, group: str) -> str:
    return axis_of(name, group) or title_of_factor(name)


def _alt(solved: Solved, measure: str) -> str:
    """What is seen: the measure at the smallest and the largest design tried of each line, the target, and the answer."""
    over, target = solved.question.over, solved.question.target
    said = []
    for solution in solved.solutions:
        tried = sorted(
            (t for t in solution.tried if np.isfinite(t.value)), key=lambda t: [t.values[name] for name in over]
        )
        ends = [f"{t.value:.3g} at {_at(t.values)}" for t in tried]
        text = f"{len(tried)} designs, {measure} " + (
            f"from {ends[0]} to {ends[-1]}" if len(ends) > 1 else "".join(ends)
        )
        text += f"; the answer is {_at(solution.values)}" if solution.reached else "; no design reaches the target"
        said.append(f"{_name(solution)}: {text}" if solution.factors else text[:1].upper() + text[1:])
    return f"Target {measure} {target.value:g}. " + ". ".join(said) + "."


def _at(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def _split(solutions: Sequence[Solution]) -> int:
    """How many of the factors make panels, so that a panel has few lines and all panels the same ones."""
    factors = len(solutions[0].factors)
    return next((k for k in range(factors) if len(_by(solutions, slice(k, None))) <= MOST_LINES), factors)


def _by(solutions: Sequence[Solution], chosen: slice) -> dict[str, list[Solution]]:
    """Solutions by the values of some of their factors."""
    found: dict[str, list[Solution]] = {}
    for solution in solutions:
        words = [f"{name.replace('_', ' ')} {value}" for name, value in list(solution.factors.items())[chosen]]
        found.setdefault(", ".join(words), []).append(solution)
    return found


def _name(solution: Solution) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in solution.factors.items())


def _legend(names: Sequence[str]) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    return [(Line2D([], [], **style.line_style(k).keywords), name) for k, name in enumerate(names)]


def _limits(solved: Solved, trials: Sequence[Trial]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    value, mcse, n = (np.array([getattr(t, name) for t in trials], dtype=float) for name in ("value", "mcse", "n"))
    if solved.question.target.kind == "proportion":
        return wilson(value * n, n)
    return value - 1.96 * mcse, value + 1.96 * mcse


def _line_painter(solved: Solved, group: Sequence[Solution], looks: Mapping[int, int]) -> Any:
    def paint(ax: Axes) -> None:
        name, target = solved.question.over[0], solved.question.target
        ends: list[float] = []
        for solution in group:
            trials = sorted((t for t in solution.tried if np.isfinite(t.value)), key=lambda t: t.values[name])
            look = style.line_style(looks[id(solution)])
            x, value = (np.array(v, dtype=float) for v in ([t.values[name] for t in trials], [t.value for t in trials]))
            low, high = _limits(solved, trials)
            ax.vlines(x, low, high, color=look.color, linewidth=1.0)
            ax.plot(x, value, linestyle="", marker=look.marker, markersize=4.5, color=look.color)
            _curve(ax, solved, trials, look)
            if name in solution.intervals:
                ax.axvspan(*solution.intervals[name], color=look.color, alpha=0.15, linewidth=0)
                ax.axvline(solution.values[name], color=look.color, linewidth=1.0)
            ends += list(x)
        ax.axhline(target.value, color=style.INK, linewidth=0.9, linestyle=(0, (1.2, 1.6)))
        if target.kind == "real" and target.side == "below":
            ax.axhline(-target.value, color=style.INK, linewidth=0.9, linestyle=(0, (1.2, 1.6)))
        if target.kind == "proportion" and target.measure != "cover":
            ax.set_ylim(0, 1.02)
        if min(ends) > 0 and max(ends) / min(ends) > 12:
            _log_ticks(ax, min(ends), max(ends))

    return paint


def _curve(ax: Axes, solved: Solved, trials: Sequence[Trial], look: style.LineStyle) -> None:
    """The monotone fit, smooth between its points."""
    from scipy.interpolate import PchipInterpolator

    name, kind = solved.question.over[0], solved.question.target.kind
    tried = [Tried(t.values[name], t.value, t.mcse, t.n) for t in trials]
    if len({t.x for t in tried}) < 2 or (kind == "positive" and min(t.value for t in tried) <= 0):
        return
    x, y = monotone(tried, kind=kind, scale=solved.scale)
    h = to_axis(x, solved.scale)
    fine = np.linspace(h[0], h[-1], 300)
    ax.plot(
        from_axis(fine, solved.scale),
        PchipInterpolator(h, y)(fine),
        color=look.color,
        linestyle=look.dashes,
        linewidth=1.4,
    )


def _log_ticks(ax: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    ax.set_xscale("log")
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [m * d for d in decades for m in (1, 2, 5) if low / 1.1 <= m * d <= high * 1.1]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _plane(solved: Solved, title: str, measure: str, group: str) -> Picture:
    axes = _both(solved.solutions[0])
    across, up = (_axis(name, group) for name in axes)
    panels = [Panel(_name(solution), _plane_painter(solution, axes), across, up) for solution in solved.solutions]
    caption = (
        f"Points: designs tried, with their {measure}; larger points had more replications. Cross: the design chosen, with the "
        "95 % intervals of its numbers."
    )
    return Picture(title, panels, [], caption, columns=min(2, len(panels)), size=(6.6, 4.2), alt=_alt(solved, measure))


def _both(solution: Solution) -> tuple[str, str]:
    """The axes of a plane: across and up; the design has them in the other order, the larger unit first."""
    up, across = solution.values
    return across, up


def _plane_painter(solution: Solution, axes: tuple[str, str]) -> Any:
    across, up = axes

    def paint(ax: Axes) -> None:
        x, y = (np.array([t.values[name] for t in solution.tried], dtype=float) for name in axes)
        n = np.array([t.n for t in solution.tried], dtype=float)
        size = 18 + 60 * np.sqrt(n / n.max())
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.scatter(x, y, s=size, color=style.BLUE, alpha=0.35, linewidth=0)
        at = (solution.values[across], solution.values[up])
        _labels(ax, solution, axes, at)
        if up in solution.intervals:
            ax.hlines(at[1], *solution.intervals[across], color=style.ORANGE, linewidth=1.6)
            ax.vlines(at[0], *solution.intervals[up], color=style.ORANGE, linewidth=1.6)
        ax.plot(*at, marker="P", color=style.ORANGE, markersize=9)
        _both_ticks(ax, x, y)

    return paint


def _labels(ax: Axes, solution: Solution, axes: tuple[str, str], at: tuple[float, float]) -> None:
    """The value beside each point; those that would lie on another label are left out, the answer's first."""
    width, height = ax.get_window_extent().width, ax.get_window_extent().height
    across, up = axes
    lx, ly = (np.log([t.values[name] for t in solution.tried]) for name in axes)
    px = (lx - lx.min()) / max(np.ptp(lx), 1e-9) * width * 0.8
    py = (ly - ly.min()) / max(np.ptp(ly), 1e-9) * height * 0.8
    order = sorted(range(len(lx)), key=lambda i: (lx[i] - np.log(at[0])) ** 2 + (ly[i] - np.log(at[1])) ** 2)
    taken: list[tuple[float, float]] = []
    for i in order:
        trial = solution.tried[i]
        text = f"{trial.value:.3f}" if abs(trial.value) < 10 else f"{trial.value:.1f}"
        wide = text_width(text) * ax.get_figure(root=True).dpi + 8  # type: ignore[union-attr]
        if any(abs(px[i] - a) < wide and abs(py[i] - b) < 16 for a, b in taken):
            continue
        taken.append((float(px[i]), float(py[i])))
        ax.annotate(
            text, (trial.values[across], trial.values[up]), xytext=(6, 5), textcoords="offset points",
            fontsize=style.SMALL,
        )  # fmt: skip


def _both_ticks(ax: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    for axis, values in ((ax.xaxis, x), (ax.yaxis, y)):
        low, high = float(values.min()), float(values.max())
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        axis.set_major_locator(
            FixedLocator([m * d for d in decades for m in (1, 2, 5) if low / 1.6 <= m * d <= high * 1.6])
        )
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
    ax.set_xlim(float(x.min()) / 1.5, float(x.max()) * 1.7)
    ax.set_ylim(float(y.min()) / 1.4, float(y.max()) * 1.5)
