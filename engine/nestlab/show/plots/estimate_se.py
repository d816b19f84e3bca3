"""Estimates against their standard errors, a dot a replicate (Morris, White & Crowther 2019, Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style
from .choose import Asked, ShownRows
from .compose import WIDTH, Panel, Picture
from .replicates import Sample, choose, samples
from .roles import columns_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["estimate_se"]

#: Dots of a panel; of more replicates, the first ones.
MOST = 2000


def estimate_se(results: StoredResults, asked: Asked) -> Picture:
    """A panel a method: a dot a replicate, singular fits apart, the empirical and the model SE as lines."""
    chosen = choose(results, asked, measure="relerror")
    found = _merged([s for s in samples(results, chosen) if np.isfinite(s.se).any()])
    ends = _ends([s for _, s in found])
    spread = _spread(results, chosen.rows, chosen.number)
    label = chosen.rows.estimand
    panels = [
        Panel(
            f"{names}: empirical SE {spread[s.method][0]:.3g}, model SE {spread[s.method][1]:.3g}, n = {len(s.se):,}",
            _EstimateSePainter(s, s.truth, spread[s.method], ends), f"estimate of {chosen.error}", "standard error",
        )
        for names, s in found
    ]  # fmt: skip
    columns = columns_for(len(panels))
    parts = [f"Condition {chosen.number}" + (f": {chosen.label}" if chosen.label else "")]
    parts += [chosen.why] if chosen.why else []
    parts += [f"Vertical line: {chosen.line}"] if any(np.isfinite(s.truth) for _, s in found) else []
    missing = max((s.total - len(s.se) for _, s in found), default=0)
    parts += (
        [f"Up to {missing:,} replicates that did not converge or have no standard error are not in it"]
        if missing
        else []
    )
    parts += [f"The first {MOST:,} replicates are drawn"] if max(len(s.se) for _, s in found) > MOST else []
    size = (5.8, 4.0) if len(panels) == 1 else (WIDTH, 3.6 if len(panels) <= 3 else 2.7)
    caption = ". ".join([*parts, *chosen.rows.notes]) + "."
    a, b, c, d = ends
    alt = f"Estimates lie between {a:.3g} and {b:.3g}, standard errors between {c:.3g} and {d:.3g}. "
    alt += "; ".join(
        f"{names}: empirical SE {spread[s.method][0]:.3g}, model SE {spread[s.method][1]:.3g}" for names, s in found
    )
    alt += "."
    legend = _legend(any(s.singular.any() for _, s in found))
    return Picture(f"Estimates of {label} and their standard errors", panels, legend, caption, columns, size, alt=alt)


def _merged(found: list[Sample]) -> list[tuple[str, Sample]]:
    """Methods whose estimates and standard errors are the same (rules of degrees of freedom) share a panel."""
    made: list[tuple[list[str], Sample]] = []
    for sample in found:
        for names, other in made:
            if np.array_equal(sample.estimate, other.estimate) and np.array_equal(sample.se, other.se):
                names.append(sample.method)
                break
        else:
            made.append(([sample.method], sample))
    return [(", ".join(names), sample) for names, sample in made]


def _spread(results: StoredResults, rows: ShownRows, number: int) -> dict[str, tuple[float, float]]:
    """Empirical and model SE by method, from the summary."""
    summary = results.summary()
    own = summary[
        (summary["condition"] == number) & (summary["estimand"] == rows.estimand) & (summary["subset"] == rows.subset)
    ]
    value = own.set_index(["method", "measure"])["value"]
    return {
        m: (float(value.get((m, "empse"), np.nan)), float(value.get((m, "modelse"), np.nan)))
        for m in rows.frame["method"]
    }


def _ends(found: list[Sample]) -> tuple[float, float, float, float]:
    x, y = np.concatenate([s.estimate[:MOST] for s in found]), np.concatenate([s.se[:MOST] for s in found])
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    a, b, c, d = (float(v) for v in (x.min(), x.max(), y.min(), y.max()))
    across, up = 0.04 * (b - a) or 0.05, 0.06 * (d - c) or 0.05 * abs(d) or 0.05
    return a - across, b + across, c - up, d + up


def _legend(singular: bool) -> list[tuple[str, list[tuple[Any, str]]]]:
    from matplotlib.lines import Line2D

    made = [(Line2D([], [], **_DOT, alpha=0.6), "a replicate")]
    if singular:
        made.append((Line2D([], [], **_SINGULAR), "a singular fit"))
    made.append((Line2D([], [], color=style.INK, linewidth=1.2), "empirical SE"))
    made.append((Line2D([], [], color=style.INK, linewidth=1.2, linestyle=(0, (4, 2))), "model SE"))
    return [("", made)]


_DOT: dict[str, Any] = {
    "linestyle": "", "marker": "o", "markersize": 3.2, "color": style.BLUE, "markeredgewidth": 0,
}  # fmt: skip
_SINGULAR: dict[str, Any] = {
    "linestyle": "", "marker": "x", "markersize": 3.6, "color": style.ORANGE, "markeredgewidth": 0.8,
}  # fmt: skip


@dataclass(frozen=True)
class _EstimateSePainter:
    sample: Sample
    truth: float
    spread: tuple[float, float]
    ends: tuple[float, float, float, float]

    def __call__(self, ax: Axes) -> None:
        x, y, singular = self.sample.estimate[:MOST], self.sample.se[:MOST], self.sample.singular[:MOST]
        ax.plot(x[~singular], y[~singular], **_DOT, alpha=0.35)
        ax.plot(x[singular], y[singular], **_SINGULAR, alpha=0.7)
        if np.isfinite(self.truth):
            ax.axvline(self.truth, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)))
        empirical, model = self.spread
        ax.axhline(empirical, color=style.INK, linewidth=1.2)
        ax.axhline(model, color=style.INK, linewidth=1.2, linestyle=(0, (4, 2)))
        low, high, bottom, top = self.ends
        ax.set_xlim(low, high)
        ax.set_ylim(min(bottom, 0.95 * empirical, 0.95 * model), max(top, 1.05 * empirical, 1.05 * model))
