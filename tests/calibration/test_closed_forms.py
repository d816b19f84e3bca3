"""Balanced designs against exact results: singular rates, moments of the estimates, type I error of z.

J clusters of size n, p cluster-level fixed effects, lam = s2 + n tau2, r = s2/lam, a = J - p, b = J (n - 1). MSB ~ lam chi2_a / a
is independent of MSW ~ s2 chi2_b / b; REML has tau2 = (MSB - MSW) / n where that is positive, ML with SSB / J for MSB. The
expectations over the positive part follow from E[chi2_a g(chi2_a)] = a E[g(chi2_{a+2})].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f

import nestlab as nl

pytestmark = pytest.mark.calibration

REPLICATIONS = 20_000
SIZES = [(6, 5), (10, 5), (20, 5), (10, 30)]
ICCS = [0.01, 0.1, 0.3]


def study(clusters: int, size: int, out: Path) -> pd.DataFrame:
    tables: dict[str, Any] = {
        "name": "one-way",
        "seed": 20,
        "replications": REPLICATIONS,
        "design": {"clusters": clusters, "cluster_size": size},
        "grid": {"icc": ICCS},
        "truth": {
            "formula": "y ~ 1 + (1 | g)",
            "fixed": {"Intercept": 0},
            "residual_variance": 1,
            "random": {"g": {"variance": {"Intercept": 1}}},
        },
        "method": [{"name": "reml"}, {"name": "ml", "reml": False}],
    }
    summary = nl.Study.from_dict(tables).run(out=out).summary()
    return summary[summary["subset"] == "all"].set_index(["icc", "method", "estimand", "measure"])


def exact(J: int, n: int, icc: float, *, reml: bool) -> dict[tuple[str, str], float]:
    """Singular rate, E[tau2], RMSE of tau2 (REML) and E[s2] (REML), p = 1; tau2 and s2 in units of s2 = 1."""
    s2, tau2, p = 1.0, icc / (1 - icc), 1
    a, b = J - p, J * (n - 1)
    lam = s2 + n * tau2
    r = s2 / lam
    c = 1.0 if reml else J / a
    positive = lam / c * f.sf(r * c * a / (a + 2), a + 2, b) - s2 * f.sf(r * c * (b + 2) / b, a, b + 2)
    found = {("", "singular"): f.cdf(r * c, a, b), ("var:g:Intercept", "mean"): positive / n}
    if reml:
        square = (
            lam**2 * (a + 2) / a * f.sf(r * a / (a + 4), a + 4, b)
            - 2 * lam * s2 * f.sf(r * a / (a + 2) * (b + 2) / b, a + 2, b + 2)
            + s2**2 * (b + 2) / b * f.sf(r * (b + 4) / b, a, b + 4)
        ) / n**2
        found["var:g:Intercept", "rmse"] = float(np.sqrt(square - 2 * tau2 * positive / n + tau2**2))
        boundary = a * lam * f.cdf(r * a / (a + 2), a + 2, b) + b * s2 * f.cdf(r * (b + 2) / b, a, b + 2)
        found["var:residual", "mean"] = s2 * f.sf(r * (b + 2) / b, a, b + 2) + boundary / (J * n - p)
    return found


def test_exact_against_the_printed_example() -> None:
    """The formulas above, at J = 10, n = 5, ICC .1 with a total variance of 1."""
    values = exact(10, 5, 0.1, reml=True)
    assert values["", "singular"] == pytest.approx(0.2463, abs=5e-5)
    assert exact(10, 5, 0.1, reml=False)["", "singular"] == pytest.approx(0.3074, abs=5e-5)
    assert values["var:g:Intercept", "mean"] * 0.9 - 0.1 == pytest.approx(0.01393, abs=5e-6)
    assert values["var:g:Intercept", "rmse"] * 0.9 == pytest.approx(0.12252, abs=5e-6)


@pytest.mark.parametrize(("clusters", "size"), SIZES)
def test_one_way_against_theory(clusters: int, size: int, tmp_path: Path) -> None:
    """12 cells over the sizes and ICCs, REML and ML, each within 4 MCSE."""
    measured = study(clusters, size, tmp_path)
    worst = {}
    for icc in ICCS:
        for method in ("reml", "ml"):
            for (estimand, measure), value in exact(clusters, size, icc, reml=method == "reml").items():
                row = measured.loc[(icc, method, estimand, measure)]
                assert row["n"] == REPLICATIONS
                # a share of 0 or 1 has an MCSE of 0: take that of the exact value
                mcse = np.sqrt(value * (1 - value) / REPLICATIONS) if measure == "singular" else row["mcse"]
                worst[icc, method, estimand, measure] = abs(row["value"] - value) / mcse
    assert max(worst.values()) < 4, worst
    assert len(worst) == 3 * (4 + 2)


def test_two_arm_trial_against_theory(tmp_path: Path) -> None:
    """Where singular fits are rare the t test with J - 2 df is exact and z is not: .0500 and .0857 at 10 clusters."""
    tables: dict[str, Any] = {
        "name": "trial",
        "seed": 21,
        "replications": REPLICATIONS,
        "design": {"clusters": 10, "cluster_size": 30},
        "grid": {"icc": [0.5]},
        "truth": {
            "formula": "y ~ 1 + arm + (1 | g)",
            "fixed": {"Intercept": 0, "arm": 0},
            "residual_variance": 1,
            "random": {"g": {"variance": {"Intercept": 1}}},
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
        "method": [
            {"name": "t", "df": "between-within"},
            {"name": "z", "df": "z"},
            {"name": "z-ml", "reml": False, "df": "z"},
        ],
    }
    summary = nl.Study.from_dict(tables).run(out=tmp_path).summary()
    rows = summary.query("subset == 'all' and estimand == 'arm' and measure == 'power'").set_index("method")
    for method, value in {"t": 0.0500, "z": 0.0857, "z-ml": 0.1177}.items():
        assert abs(rows.loc[method, "value"] - value) < 4 * rows.loc[method, "mcse"] + 5e-5, method
    cover = summary.query("subset == 'all' and estimand == 'arm' and measure == 'cover'").set_index("method")
    np.testing.assert_allclose(cover["value"] + rows["value"], 1, err_msg="at a true 0 they are complements")
