"""Trials with treated schools, pupils in classes in schools: REML against its exact power.

The three mean squares are independent chi-squares over their degrees of freedom, times l3 = s2 + n v2 + n J v3 (schools),
l2 = s2 + n v2 (classes) and s2. REML's estimate of l3, whose order l3 >= l2 >= s2 it keeps, pools adjacent violators, weighed
by degrees of freedom: it is the largest of the mean squares of schools, of schools and classes, and of all. The effect is
independent of them with variance 4 l3 / N, so that the power of the t test with schools - 2 degrees of freedom is an integral
over the three. golden/closed_form_three_level.csv has the power of the t test of the schools' means, which does not pool.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2, nct, norm, t

import nestlab as nl

pytestmark = pytest.mark.calibration

HERE = Path(__file__).parent
REPLICATIONS = 20_000


def reml_power(K: int, J: int, n: int, v3: float, v2: float, d: float, *, nodes: int = 60) -> float:
    """Exact power of REML's t test with K - 2 degrees of freedom; total variance 1."""
    s2, N = 1 - v3 - v2, K * J * n
    df = np.array([K - 2, K * (J - 1), K * J * (n - 1)])
    size = np.array([s2 + n * v2 + n * J * v3, s2 + n * v2, s2])
    x, w = np.polynomial.legendre.leggauss(nodes)
    u, w = (x + 1) / 2, w / 2
    mean_squares = [chi2.ppf(u, k) / k * expected for k, expected in zip(df, size, strict=True)]
    M3, M2, M1 = np.meshgrid(*mean_squares, indexing="ij")
    W = w[:, None, None] * w[None, :, None] * w[None, None, :]
    two = (df[0] * M3 + df[1] * M2) / df[:2].sum()
    three = (df[0] * M3 + df[1] * M2 + df[2] * M1) / df.sum()
    pooled = np.maximum(np.maximum(M3, two), three)
    sd = math.sqrt(4 * size[0] / N)
    limit = t.ppf(0.975, K - 2) * np.sqrt(4 * pooled / N)
    power = norm.sf((limit - d) / sd) + norm.cdf((-limit - d) / sd)
    return float((W * power).sum())


def designs() -> list[dict[str, str]]:
    with (HERE.parent / "golden" / "closed_form_three_level.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_without_pooling_it_is_the_noncentral_t() -> None:
    """With much variance between schools nothing is pooled, and the integral is the power of the t test."""
    K, J, n, v3, v2, d = 10, 4, 20, 0.5, 0.05, 0.5
    ncp = d / math.sqrt(4 * (1 - v3 - v2 + n * v2 + n * J * v3) / (K * J * n))
    limit = t.ppf(0.975, K - 2)
    exact = nct.sf(limit, K - 2, ncp) + nct.cdf(-limit, K - 2, ncp)
    assert reml_power(K, J, n, v3, v2, d) == pytest.approx(exact, abs=5e-4)


def test_power_of_reml(tmp_path: Path) -> None:
    """Every ninth design: 60 of 540, within 4 Monte Carlo standard errors."""
    scores = []
    for k, row in enumerate(designs()[::9]):
        K, J, n = (int(row[word]) for word in ("level3_units", "level2_per_level3", "level1_per_level2"))
        v3, v2, d = (float(row[word]) for word in ("icc3", "icc2", "d_total_sd"))
        study = nl.Study.from_dict(
            {
                "name": "t", "seed": 1806, "replications": REPLICATIONS, "keep": "summary",
                "design": {"rows": n, "factors": {"school": K, "class": {"within": "school", "number": J}}},
                "truth": {
                    "formula": "y ~ treat + (1 | school/class)", "fixed": {"Intercept": 0, "treat": d},
                    "residual_variance": 1 - v3 - v2,
                    "random": {"school": {"variance": {"Intercept": v3}}, "class": {"variance": {"Intercept": v2}}},
                },
                "predictors": {"treat": {"level": "school", "distribution": "balanced"}},
                "method": [{"name": "reml", "df": "between-within"}],
            }
        )  # fmt: skip
        summary = study.run(out=tmp_path / str(k), jobs=2).summary()
        found = summary[(summary.estimand == "treat") & (summary.measure == "power") & (summary.subset == "all")].iloc[
            0
        ]
        exact = reml_power(K, J, n, v3, v2, d)
        scores.append((found.value - exact) / math.sqrt(exact * (1 - exact) / REPLICATIONS))
    assert max(map(abs, scores)) < 4
    assert sum(z * z for z in scores) / len(scores) < 1.8
