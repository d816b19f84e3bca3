"""A sampling distribution, and rates by a factor: the figures of the ready-made studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["rates_by", "sampling_distribution"]

# Okabe and Ito's palette: distinct for colour-blind readers and in grey
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
_COLOURS = (ORANGE, "#E69F00", BLUE, "#009E73", "#CC79A7", "#56B4E9", "#000000")
_MARKERS, _LINES = "ovsD^Px", ("-", "--", "-", "--", ":", "-.", "-")


def sampling_distribution(
    values: pd.Series[float],
    *,
    truth: float,
    marks: Mapping[str, float] | None = None,
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """The distribution of an estimate over replicates, with its true value and single estimates marked.

    values: estimates (nan: no result); marks: label -> value, each drawn with the share of replicates at or below it.
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    known = values.dropna().to_numpy()
    low, high = np.quantile(known, [0.025, 0.975])
    ax.hist(known, bins=80, density=True, color=BLUE, alpha=0.55, histtype="stepfilled")
    ax.axvspan(float(low), float(high), color=GREY, alpha=0.18, linewidth=0, label=f"95 %: {low:.2f} to {high:.2f}")
    ax.axvline(truth, color="black", linewidth=1.4, label=f"truth {truth:g}")
    for name, value in (marks or {}).items():
        share = float((known <= value).mean())
        ax.axvline(value, color=ORANGE, linewidth=1.4, linestyle="--", label=f"{name} {value:g}: {share:.1%} lie below")
    ax.set_xlabel(label)
    ax.set_yticks([])
    ax.set_xlim(*np.quantile(known, [0.0005, 0.9995]))
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def rates_by(
    summary: pd.DataFrame,
    *,
    x: str,
    series: Mapping[str, str],
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A measure over a factor, a line a method, with bars of two MCSEs.

    summary: rows of one measure, estimand and subset, one for each value of x and method; series: method -> its name in the
    legend, in order (at most 7); reference: a horizontal line, such as the nominal level.
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    if reference is not None:
        ax.axhline(reference, color="black", linewidth=0.8)
    for k, (method, name) in enumerate(series.items()):
        rows = summary[summary["method"] == method].sort_values(x)
        ax.errorbar(
            rows[x], rows["value"], yerr=2 * rows["mcse"], label=name, color=_COLOURS[k], marker=_MARKERS[k],
            linestyle=_LINES[k], markersize=4.5, linewidth=1.3, elinewidth=0.8,
        )  # fmt: skip
    ax.set_xlabel(x.replace("_", " "))
    for side in ("right", "top"):
        ax.spines[side].set_visible(False)
    return ax
