"""Model selection against R: anova(refit = FALSE), AIC and lmerTest's summaries of both models (selection.R)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl

HERE = Path(__file__).parent
REPLICATES = 80
SMALL = "y ~ 1 + x + (1 | school)"
STUDY: dict[str, Any] = {
    "name": "selection",
    "seed": 21,
    "replications": REPLICATES,
    "design": {"clusters": 10, "cluster_size": 8},
    "truth": {
        "formula": "y ~ 1 + x + (1 + x | school)",
        "fixed": {"Intercept": 1, "x": 0.2},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.4, "x": 0.15}, "correlation": {"Intercept:x": 0.2}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
    "method": [
        {"name": "anova", "select": "lrt", "reference": "chisq", "compare": SMALL},
        {"name": "aic", "select": "aic", "compare": SMALL},
        {"name": "test", "compare": SMALL, "reference": "chisq"},
    ],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    results = nl.Study.from_dict(STUDY).run(out=tmp_path_factory.mktemp("golden"), jobs=1)
    return results.replicates().set_index(["method", "replicate"])


@pytest.fixture(scope="module")
def theirs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "selection.json").read_text().splitlines()]


def test_the_naive_p_value_is_anovas(rows: pd.DataFrame, theirs: list[dict[str, Any]]) -> None:
    assert len(theirs) == REPLICATES
    assert {each["df"] for each in theirs} == {2}
    ours = rows.loc["test", "p.var:school:x"]
    np.testing.assert_allclose(ours, [each["p"] for each in theirs], rtol=1e-6, atol=1e-8)


def test_what_is_kept_is_what_r_keeps(rows: pd.DataFrame, theirs: list[dict[str, Any]]) -> None:
    by_test = np.array([each["p"] <= 0.05 for each in theirs])
    by_aic = np.array([each["aic"][1] < each["aic"][0] for each in theirs])
    assert 0.2 < by_test.mean() < 0.8
    assert by_test.sum() < by_aic.sum()
    np.testing.assert_array_equal(rows.loc["anova", "selected"] == 1, by_test)
    np.testing.assert_array_equal(rows.loc["aic", "selected"] == 1, by_aic)


def test_what_is_reported_is_lmertests_summary_of_it(rows: pd.DataFrame, theirs: list[dict[str, Any]]) -> None:
    compared = 0
    for replicate, each in enumerate(theirs):
        ours = rows.loc[("anova", replicate)]
        estimate, se, df, _ = each["large"] if ours["selected"] else each["small"]
        assert (ours["estimate.x"] - estimate) / se == pytest.approx(0, abs=2e-6)
        assert ours["se.x"] == pytest.approx(se, rel=2e-6)
        if not (
            ours["selected"] and each["singular"]
        ):  # at the boundary lmerTest's df depends on where its optimiser stopped
            assert ours["df.x"] == pytest.approx(df, rel=1e-4)
            compared += 1
    assert compared > 0.8 * REPLICATES


if __name__ == "__main__":
    study = nl.Study.from_dict(STUDY)
    frames = [study.data(0, replicate).assign(set=replicate) for replicate in range(REPLICATES)]
    pd.concat(frames).to_csv(sys.argv[1], index=False)
