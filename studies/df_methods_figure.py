"""The README's picture of type I error by test.

run: python studies/df_methods_figure.py   (after nestlab run studies/df_methods.toml)
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import nestlab as nl
from nestlab.show.plots import rates_by, save

EFFECTS = {"z": "z, between clusters", "x": "x, with a random slope", "x:z": "x:z, across levels"}
RULES = {
    "reml/z": "z",
    "reml/between-within": "between-within",
    "reml/satterthwaite": "Satterthwaite",
    "reml/kenward-roger": "Kenward-Roger",
    "lrt": "likelihood ratio",
}


def rates(summary: pd.DataFrame, effect: str) -> pd.DataFrame:
    """Rejection rates of one effect; of the three likelihood ratio tests the one that is about it."""
    chosen = summary[
        (summary["measure"] == "power") & (summary["subset"] == "all") & (summary["estimand"] == effect)
    ].copy()
    own = f"lrt_{effect.replace(':', '')}"
    chosen["method"] = chosen["method"].replace({own: "lrt"})
    return chosen


def figure(results: nl.Results) -> Figure:
    """Rates of each effect over clusters, a line a test; a row of panels for equal clusters, one for unequal ones."""
    summary = results.summary()
    equal = set(results.conditions().query("cluster_size == '20'")["condition"])
    made = Figure(figsize=(9.5, 5.4), layout="constrained")
    axes = made.subplots(2, 3, sharex=True, sharey=True)
    for row, (sizes, label) in zip(axes, ((True, "20 rows each"), (False, "4 and 36 rows")), strict=True):
        for ax, (effect, title) in zip(row, EFFECTS.items(), strict=True):
            chosen = rates(summary, effect)
            rates_by(
                chosen[chosen["condition"].isin(equal) == sizes], x="clusters", series=RULES, reference=0.05, ax=ax
            )
            ax.set_xscale("log")
            ax.set_xticks([6, 8, 10, 15, 20, 30, 50], [6, 8, 10, 15, 20, 30, 50])
            ax.minorticks_off()
            if sizes:
                ax.set_title(title, fontsize=10)
                ax.set_xlabel("")
        row[0].set_ylabel(f"type I error\nclusters of {label}")
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return made


def main() -> None:
    save(figure(nl.Results("results/df_methods")), Path(__file__).with_name("df_methods.svg"))


if __name__ == "__main__":
    main()
