"""The README's figure: where the article's single estimates lie among 20,000.

run: python studies/article_figure.py   (after nestlab run studies/article_m2.toml)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

import nestlab as nl
from nestlab.show.plots import sampling_distribution


def main() -> None:
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "nestlab"  # the same file from the same numbers
    frame = nl.Results("results/article_m2").replicates()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    sampling_distribution(
        frame["estimate.var:Cluster:X"], truth=3, marks={"the article's": 1.138}, label="slope variance", ax=left
    )
    sampling_distribution(
        frame["estimate.cor:Cluster:Intercept:X"],
        truth=0,
        marks={"the article's": 0.17},
        label="correlation of slopes and intercepts, drawn independently",
        ax=right,
    )
    right.set_xlim(-0.9, 0.9)
    figure.savefig(Path(__file__).with_name("article_figure.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
