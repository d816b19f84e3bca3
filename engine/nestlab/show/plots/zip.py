"""Zip plot: every interval of a condition, by the rank of |z| (Morris, White & Crowther 2019, Stat Med 38:2074, Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spec.problems import StudyError
from ..levels import level_text
from . import style
from .alt import rows_alt
from .choose import Asked
from .compose import WIDTH, Panel, Picture
from .replicates import Sample, choose, samples
from .roles import columns_for
from .words import references

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["zip_plot"]

#: Intervals of a panel that are drawn; of more, evenly spaced ones by rank.
MOST = 1000


def zip_plot(results: StoredResults, asked: Asked) -> Picture:
    """A panel a method: intervals ordered by |z| = |estimate - truth| / se, those that miss the truth in another colour.

    Where limits are not symmetric (profile, bootstrap) the rank is by the distance from the truth in units of the interval's
    arm on that side. Horizontal lines: nominal coverage, and the Monte Carlo 95 % limits (Wilson) of the coverage found.
    """
    chosen = choose(results, asked, measure="cover")
    found = samples(results, chosen)
    found = [sample for sample in found if np.isfinite(sample.truth)]
    if not found:
        raise StudyError(
            [f"condition = {chosen.number}: the true {chosen.rows.estimand} is undefined there; choose another"]
        )
    nominal = references(chosen.rows)
    by: Any = chosen.rows.frame.set_index("method")
    ends = _ends(found)
    panels = []
    for sample in found:
        row = by.loc[sample.method]
        text = f"{sample.method}: {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}), n = {row['n']:,}"
        limits = (row["low"], row["high"])
        panels.append(
            Panel(text, _ZipPainter(sample, sample.truth, limits, nominal, ends), chosen.error, "centile of |z|")
        )
    columns = columns_for(len(panels))
    parts = [f"Condition {chosen.number}" + (f": {chosen.label}" if chosen.label else "")]
    parts += [chosen.why] if chosen.why else []
    parts.append("Above the panels: coverage (Wilson's 95 % limits), the band between the lines; dotted: nominal")
    levels = level_text(["cover"], chosen.rows.alphas)
    parts += [f"{levels[0].upper()}{levels[1:]}", f"White line: {chosen.line}"]
    missing = max((s.total - len(s.estimate) for s in found), default=0)
    parts += (
        [f"Up to {missing:,} replicates that did not converge or have no interval are not in it"] if missing else []
    )
    parts += [f"{MOST:,} intervals drawn, evenly by rank"] if max(len(s.estimate) for s in found) > MOST else []
    size = (5.4, 4.2) if len(panels) == 1 else (WIDTH, 4.0 if len(panels) <= 3 else 2.9)
    alt = rows_alt(chosen.rows, "The share of intervals that hold the true value")
    title = f"Intervals of {chosen.rows.estimand} by |z|"
    return Picture(title, panels, _legend(), ". ".join([*parts, *chosen.rows.notes]) + ".", columns, size, alt=alt)


def _ends(found: list[Sample]) -> tuple[float, float]:
    """The x axis: all but the outermost half per cent of the limits."""
    low = np.concatenate([s.lower for s in found])
    high = np.concatenate([s.upper for s in found])
    low, high = low[np.isfinite(low)], high[np.isfinite(high)]
    if not len(low) or not len(high):
        return 0.0, 1.0
    a, b = float(np.quantile(low, 0.005)), float(np.quantile(high, 0.995))
    return a - 0.03 * (b - a), b + 0.03 * (b - a)


def _legend() -> list[tuple[str, list[tuple[object, str]]]]:
    from matplotlib.lines import Line2D

    hit = Line2D([], [], color=style.PALE, linewidth=2)
    miss = Line2D([], [], color=style.ORANGE, linewidth=2)
    return [("", [(hit, "holds the true value"), (miss, "misses it")])]


def rank_key(sample: Sample, truth: float) -> NDArray[np.float64]:
    """What intervals are ordered by: |z|, or the distance in arms of the interval where it is not symmetric."""
    error = sample.estimate - truth
    arms = np.where(error > 0, sample.estimate - sample.lower, sample.upper - sample.estimate)
    symmetric = np.allclose(sample.upper - sample.estimate, sample.estimate - sample.lower, rtol=1e-6, equal_nan=True)
    scale = sample.se if symmetric and np.isfinite(sample.se).all() else arms
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.abs(error) / scale)


@dataclass(frozen=True)
class _ZipPainter:
    sample: Sample
    truth: float
    limits: tuple[float, float]
    nominal: list[float]
    ends: tuple[float, float]

    def __call__(self, ax: Axes) -> None:
        from matplotlib.collections import LineCollection

        sample, n = self.sample, len(self.sample.estimate)
        order = np.argsort(rank_key(sample, self.truth), kind="stable")
        centile = np.empty(n)
        centile[order] = 100 * (np.arange(n) + 0.5) / max(n, 1)
        kept = order if n <= MOST else order[np.linspace(0, n - 1, MOST).round().astype(int)]
        lower, upper = np.clip(sample.lower[kept], *self.ends), np.clip(sample.upper[kept], *self.ends)
        misses = (sample.lower[kept] > self.truth) | (sample.upper[kept] < self.truth)
        segments = np.stack([np.column_stack([lower, centile[kept]]), np.column_stack([upper, centile[kept]])], axis=1)
        wide = float(np.clip(220 / max(len(kept), 1), 0.35, 2.0))
        for mask, colour in ((~misses, style.PALE), (misses, style.ORANGE)):
            ax.add_collection(LineCollection(list(segments[mask]), colors=colour, linewidths=wide))
        ax.axvline(self.truth, color="white", linewidth=1.2)
        for limit in self.limits:
            if np.isfinite(limit):
                ax.axhline(100 * limit, color=style.INK, linewidth=0.9)
        for level in self.nominal:
            ax.axhline(100 * level, color=style.INK, linewidth=0.9, linestyle=(0, (1, 2)))
        ax.set_xlim(*self.ends)
        ax.set_ylim(0, 100)
        ax.set_yticks([0, 25, 50, 75, 100])
        ax.grid(visible=False)
