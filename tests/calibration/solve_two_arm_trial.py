"""nestlab solve against exact answers, by hand: `python tests/calibration/solve_two_arm_trial.py [SEEDS]`.

Two-arm trials with t by clusters - 2 degrees of freedom, whose power is that of the noncentral t while singular fits are rare.
For each trial and seed: is the answer within one pair of clusters of the exact one, does its 95 % interval hold it, and how long
did it take (start of Python and compilation left out).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import nct, t

import nestlab as nl

TRIALS = {
    "effect 0.4, icc 0.1, 20 a cluster": (0.4, 0.1, 20),
    "effect 0.2, icc 0.05, 50": (0.2, 0.05, 50),
    "effect 0.9, icc 0.2, 10": (0.9, 0.2, 10),
}


def trial(effect: float, icc: float, size: int, seed: int) -> dict[str, Any]:
    """Total variance 1."""
    return {
        "name": "trial", "seed": seed, "replications": 1000, "design": {"clusters": 20, "cluster_size": size},
        "truth": {
            "formula": "y ~ 1 + arm + (1 | cluster)", "fixed": {"Intercept": 0, "arm": effect}, "residual_variance": 1 - icc,
            "random": {"cluster": {"variance": {"Intercept": icc}}},
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
        "method": [{"name": "reml", "df": "between-within"}],
    }  # fmt: skip


def exact_power(clusters: float, effect: float, icc: float, size: int) -> float:
    """Of the two-sided t test at 5 %; interior fits (closed forms of the two-arm trial)."""
    ncp = effect / np.sqrt(4 * (1 - icc + size * icc) / (clusters * size))
    critical = t.ppf(0.975, clusters - 2)
    return float(1 - nct.cdf(critical, clusters - 2, ncp) + np.nan_to_num(nct.cdf(-critical, clusters - 2, ncp)))


def exact_clusters(effect: float, icc: float, size: int, power: float = 0.8) -> int:
    """The smallest even number of clusters with that power."""
    return next(J for J in range(4, 4000, 2) if exact_power(J, effect, icc, size) >= power)


def main(seeds: int) -> None:
    for name, (effect, icc, size) in TRIALS.items():
        exact = exact_clusters(effect, icc, size)
        near = covered = 0
        seconds = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                study = nl.Study.from_dict(trial(effect, icc, size, seed))
                solution = study.solve(over="clusters", power=0.8, out=Path(folder) / "solve", jobs=2).solutions[0]
                seconds.append(time.perf_counter() - start)
            low, high = solution.intervals["clusters"]
            near += abs(solution.values["clusters"] - exact) <= 2
            covered += low <= exact <= high
        print(
            f"{name}: exact {exact} clusters; within a pair {near} of {seeds}, interval holds it {covered} of {seeds}; "
            f"seconds: median {np.median(seconds):.2f}, most {max(seconds):.2f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
