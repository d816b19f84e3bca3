"""Stepped wedges: power where the variances are known, against Hussey and Hughes (2007, Contemp Clin Trials 28:182, eq. 8)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import nestlab as nl

pytestmark = pytest.mark.calibration


def exact_power(X: list[list[int]], *, rows: int, between: float, within: float, effect: float) -> float:
    """Of the two-sided z test at 0.05 in `rows` people of each cluster and period; X (clusters, periods): 1 if treated."""
    treated = np.array(X)
    clusters, T = treated.shape
    s2 = within / rows
    U, W, V = treated.sum(), (treated.sum(axis=0) ** 2).sum(), (treated.sum(axis=1) ** 2).sum()
    information = (clusters * U - W) * s2 + (U**2 + clusters * T * U - T * W - clusters * V) * between
    variance = clusters * s2 * (s2 + T * between) / information
    z = effect / math.sqrt(variance)
    return float(norm.cdf(z - norm.ppf(0.975)) + norm.cdf(-z - norm.ppf(0.975)))


def study(clusters: int, rows: int, effect: float, schedule: dict[str, Any]) -> nl.Study:
    periods = schedule.get("periods") or len(schedule["sequences"][0])
    return nl.Study.from_dict(
        {
            "name": "wedge", "seed": 31, "replications": 20_000,
            "design": {"clusters": clusters, "cluster_size": periods * rows},
            "truth": {
                "formula": "y ~ 1 + treatment + period + (1 | cluster)", "residual_variance": 1.5,
                "fixed": {"Intercept": 3, "treatment": effect}
                | {f"period[{t}]": 0.2 * t for t in range(1, periods)},
                "random": {"cluster": {"variance": {"Intercept": 0.15}}},
            },
            "predictors": {
                "treatment": {"level": 1, "distribution": "schedule", "rows_per_period": rows, **schedule},
                "period": {
                    "level": 1, "distribution": "period", "periods": periods, "rows_per_period": rows, "coding": "treatment",
                },
            },
            "method": [{"name": "known", "estimator": "gls"}, {"name": "reml"}],
        }
    )  # fmt: skip


STEPS = [[0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
SCHEDULES: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    "stepped wedge": ({"design": "stepped-wedge", "periods": 5}, STEPS),
    "its sequences": ({"sequences": STEPS}, STEPS),
    "crossover": ({"design": "crossover", "periods": 2}, [[0, 1], [1, 0]]),
    "parallel, baseline": (
        {"design": "parallel-baseline", "periods": 4, "baseline": 1},
        [[0, 0, 0, 0], [0, 1, 1, 1]],
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("clusters", [4, 12])
def test_power_with_known_variances(name: str, clusters: int, tmp_path: Path) -> None:
    schedule, sequences = SCHEDULES[name]
    X = [sequences[j % len(sequences)] for j in range(clusters)]
    for effect in (0.0, 0.35):
        found = study(clusters, 6, effect, schedule).run(out=tmp_path / f"{effect}").summary()
        chosen = (found["measure"] == "power") & (found["estimand"] == "treatment") & (found["subset"] == "all")
        power = found[chosen].set_index("method")["value"]
        exact = exact_power(X, rows=6, between=0.15, within=1.5, effect=effect)
        assert abs(power["known"] - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000)
        if clusters == 12:  # with 4, tests that have to estimate the variances do not hold their level
            assert power["reml"] < power["known"] + 0.02
