"""What using seed 111 twice did to the article's m1: its predictor Z and its first 20 errors are the same draws.

Draws m1 with R's generator for many seeds, once with the errors from the seed of Z, as the article does, and once from another
seed, fits both and prints the difference of every estimate, in standard errors, with its Monte Carlo standard error.

run: python studies/article_seed.py [SEEDS]
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import nestlab as nl
from nestlab.simulate.rcompat import RRandom

CLUSTERS, SIZE = 20, 50


def normal(seed: int, n: int, sd: float) -> np.ndarray:
    return RRandom(seed).rnorm(n, 0.0, sd)


def estimates(seed: int, errors: int) -> dict[str, float]:
    """m1 with everything from seeds made of `seed`, but the errors from seed `errors`."""
    cluster = np.repeat(np.arange(CLUSTERS), SIZE)
    Z = normal(seed, CLUSTERS, 3.0)[cluster]
    u = normal(seed + 1_000_000, CLUSTERS, 5.0**0.5)[cluster]
    X = normal(seed + 2_000_000, CLUSTERS * SIZE, 1.0)
    y = 2 + 3 * Z + u + 4 * X + normal(errors, CLUSTERS * SIZE, 3.0**0.5)
    fit = nl.fit("y ~ Z + X + (1 | Cluster)", pd.DataFrame({"y": y, "Z": Z, "X": X, "Cluster": cluster}))
    found = {**fit.beta, "var:Cluster": float(fit.varcomp["Cluster"][0, 0]), "var:residual": fit.sigma**2}
    return found | {f"se {term}": value for term, value in fit.se.items()}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    reused = pd.DataFrame([estimates(s, s) for s in range(1, seeds + 1)])
    apart = pd.DataFrame([estimates(s, s + 3_000_000) for s in range(1, seeds + 1)])
    table = pd.DataFrame(
        {
            "mean, seed reused": reused.mean(),
            "mean, seeds apart": apart.mean(),
            "difference in sd": (reused - apart).mean() / apart.std(),
            "mcse": (reused - apart).std() / apart.std() / seeds**0.5,
            "sd ratio": reused.std() / apart.std(),
        }
    )
    print(table.to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
