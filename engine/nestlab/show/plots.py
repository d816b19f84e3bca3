"""Pictures of results; the only place that imports matplotlib. Functions take and return Axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["sampling_distribution"]

# Okabe and Ito's palette: distinct for colour-blind readers and in grey
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


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
