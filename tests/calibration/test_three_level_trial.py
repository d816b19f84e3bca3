"""Balanced three-level trials with treated schools against exact power (golden/closed_form_three_level.csv, total variance 1).

The t test of the schools' means, `estimator = "by-units"` with `units = "school"`, has schools - 2 degrees of freedom and a
noncentral t distribution. All 540 rows: `PYTHONPATH=tests/calibration python tests/calibration/test_three_level_trial.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nct, t

import nestlab as nl
from nestlab.fit.methods.several_by_units import ByUnits
from nestlab.run.block import compile_condition

pytestmark = pytest.mark.calibration

GRID = pd.read_csv(Path(__file__).parents[1] / "golden" / "closed_form_three_level.csv")
REPLICATIONS = 50_000
SOME = range(0, len(GRID), 23)  # each number of schools, of classes and of pupils, each icc and effect several times


def trial(row: pd.Series[Any]) -> nl.Study:
    return nl.Study.from_dict({
        "name": "trial",
        "seed": 2024,
        "replications": REPLICATIONS,
        "design": {
            "rows": int(row["level1_per_level2"]),
            "factors": {
                "school": int(row["level3_units"]),
                "class": {"within": "school", "number": int(row["level2_per_level3"])},
            },
        },
        "truth": {
            "formula": "y ~ treat + (1 | school/class)",
            "fixed": {"Intercept": 1, "treat": float(row["d_total_sd"])},
            "residual_variance": 1 - row["icc3"] - row["icc2"],
            "random": {"school": {"variance": {"Intercept": row["icc3"]}}, "class": {"variance": {"Intercept": row["icc2"]}}},
        },
        "predictors": {"treat": {"level": "school", "distribution": "balanced"}},
        "method": [{"name": "means", "estimator": "by-units", "units": "school"}],
    })  # fmt: skip


def z_of(k: int) -> float:
    """How many standard errors row k's rejection rate is off."""
    row = GRID.iloc[k]
    study = trial(row)
    condition = compile_condition(study.conditions[0], study.methods)
    rejected, size = 0, condition.condition.block_size
    for block in range(-(-REPLICATIONS // size)):
        last = min(size, REPLICATIONS - block * size)
        found = condition.analyse(condition.draw(block), 0, block, 0, last).columns(0, size)
        df = np.asarray(found["df.treat"])
        assert (df == row["df"]).all()
        ratio = np.abs(np.asarray(found["estimate.treat"]) / np.asarray(found["se.treat"]))
        rejected += int((ratio > t.ppf(0.975, row["df"])).sum())
    analysis = condition.analyses[0]
    assert isinstance(analysis, ByUnits)
    assert analysis._plans["school"] is not None, "rows would take hours"
    power = exact_power(row["df"], row["ncp"])  # the table's, which is 1.000000 in some rows
    return float((rejected / REPLICATIONS - power) / np.sqrt(power * (1 - power) / REPLICATIONS))


def exact_power(df: Any, ncp: Any) -> Any:
    """Of a two-sided test of level 0.05."""
    q = t.ppf(0.975, df)
    return nct.sf(q, df, ncp) + nct.cdf(-q, df, ncp)


def test_the_table_is_the_noncentral_t() -> None:
    given = GRID[GRID["power"].notna()]  # all rows but one
    assert len(given) == len(GRID) - 1
    np.testing.assert_allclose(exact_power(given["df"], given["ncp"]), given["power"], atol=2e-6)


@pytest.mark.parametrize("k", SOME)
def test_the_power_of_the_t_test_of_cluster_means_is_exact(k: int) -> None:
    assert abs(z_of(k)) < 4


if __name__ == "__main__":
    found = np.array([z_of(k) for k in range(len(GRID))])
    print(f"{len(found)} rows, largest |z| {np.abs(found).max():.2f}, standard deviation {found.std():.3f}")
