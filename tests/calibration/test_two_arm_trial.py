"""Balanced two-arm cluster-randomised trials against exact rejection rates (golden/closed_form_grid.csv, total variance 1).

With J clusters of n rows, J/2 an arm, MSB ~ lam chi2_{J-2} / (J-2) and MSW are independent, which makes the rates of t with J - 2
degrees of freedom and of z on REML exact, the boundary included. The interior forms (z and LRT by ML) hold where singular fits
are rarer than 1e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, f, norm

import nestlab as nl

pytestmark = pytest.mark.calibration

GRID = pd.read_csv(Path(__file__).parents[1] / "golden" / "closed_form_grid.csv")
CELLS = GRID.iloc[::3]  # 30 of 90, each J, n and icc several times
REPLICATIONS = 50_000
RARE = 1e-4


def trial(cell: pd.Series, methods: list[dict[str, Any]], effect: float) -> nl.Study:
    tables: dict[str, Any] = {
        "name": "trial",
        "seed": 2024,
        "replications": REPLICATIONS,
        "design": {"clusters": int(cell["J"]), "cluster_size": int(cell["n"])},
        "truth": {
            "formula": "y ~ 1 + arm + (1 | cluster)",
            "fixed": {"Intercept": 1, "arm": effect},
            "residual_variance": 1 - cell["icc"],
            "random": {"cluster": {"variance": {"Intercept": cell["icc"]}}},
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
        "method": methods,
    }
    return nl.Study.from_dict(tables)


def rejections(summary: pd.DataFrame) -> pd.DataFrame:
    chosen = (summary["measure"] == "power") & (summary["estimand"] == "arm") & (summary["subset"] == "all")
    return summary[chosen].set_index("method")


def within_4_mcse(rate: float, exact: float) -> bool:
    """By the binomial tails of 4 standard errors, which hold at rates near 0 and 1 too; the grid has 6 digits."""
    count, tail = round(rate * REPLICATIONS), norm.sf(4)
    low, high = max(exact - 5e-7, 0.0), min(exact + 5e-7, 1.0)
    return bool(binom.ppf(tail, REPLICATIONS, low) <= count <= binom.isf(tail, REPLICATIONS, high))


def singular_rate(cell: pd.Series) -> float:
    """Of ML, which is higher than that of REML."""
    J, n, a = cell["J"], cell["n"], cell["J"] - 2
    r = (1 - cell["icc"]) / (1 - cell["icc"] + n * cell["icc"])
    return float(f.cdf(r * J / a, a, J * (n - 1)))


def test_thirty_cells_are_thirty() -> None:
    assert len(CELLS) == 30
    for column in ("J", "n", "icc"):
        assert set(CELLS[column]) == set(GRID[column])


@pytest.mark.parametrize("effect", [0.0, 0.5])
@pytest.mark.parametrize("number", CELLS.index)
def test_t_and_z_against_exact_rates(number: int, effect: float, tmp_path: Path) -> None:
    """Within 4 MCSE of the exact rate; Kenward and Roger's df is clusters - 2 in every replicate."""
    cell = GRID.loc[number]
    rules = ["z", "between-within", "kenward-roger"]
    results = trial(cell, [{"name": "reml", "df": rules}], effect).run(out=tmp_path)
    found = rejections(results.summary())
    name = "null" if effect == 0 else "beta.5"
    for rule, column in (("between-within", f"crt_{name}_t_J-2_exactREML"), ("z", f"crt_{name}_z_exactREML")):
        row = found.loc[f"reml/{rule}"]
        assert row["n"] == REPLICATIONS
        assert within_4_mcse(row["value"], cell[column]), (rule, row["value"], cell[column])
    df = results.replicates()["df.arm/kenward-roger"]
    np.testing.assert_allclose(df, cell["J"] - 2, rtol=1e-9)


@pytest.mark.parametrize("number", [i for i in CELLS.index if singular_rate(GRID.loc[i]) < RARE])
def test_maximum_likelihood_against_interior_forms(number: int, tmp_path: Path) -> None:
    """z and the likelihood ratio test by ML, where singular fits are rare."""
    cell = GRID.loc[number]
    methods = [
        {"name": "z", "reml": False, "df": "z"},
        {"name": "lrt", "reml": False, "compare": "y ~ 1 + (1 | cluster)"},
    ]
    found = rejections(trial(cell, methods, 0.0).run(out=tmp_path).summary())
    for method, column in (("z", "crt_null_z_ML"), ("lrt", "crt_null_LRT_ML")):
        assert within_4_mcse(found.loc[method, "value"], cell[column]), (
            method,
            found.loc[method, "value"],
            cell[column],
        )
