"""Change scores and analysis of covariance: against statsmodels on the rows, and their own true values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import nestlab as nl
from nestlab.run.block import compile_condition

FIXED = {"Intercept": 5.0, "t": -0.3, "arm": 0.4, "t:arm": 0.25}
STUDY: dict[str, Any] = {
    "name": "growth",
    "seed": 3,
    "replications": 4000,
    "design": {"clusters": 30, "cluster_size": 5},
    "truth": {
        "formula": "y ~ t * arm + (1 + t | id)",
        "fixed": FIXED,
        "residual_variance": 1.0,
        "random": {"id": {"variance": {"Intercept": 1.0, "t": 0.05}, "correlation": {"Intercept:t": -0.3}}},
    },
    "predictors": {
        "t": {"level": 1, "distribution": "time"},
        "arm": {"level": 2, "distribution": "balanced"},
    },
    "method": [{"name": "change", "estimator": "change-scores"}, {"name": "ancova", "estimator": "ancova"}],
}


def study(**changes: Any) -> nl.Study:
    return nl.Study.from_dict({**STUDY, **changes})


def summaries(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per cluster with two rows or more."""
    rows = []
    for _, part in frame.groupby("id", sort=False):
        y = part["y"].to_numpy()
        if len(y) > 1:
            rows.append({"arm": part["arm"].iloc[0], "first": y[0], "later": y[1:].mean()})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("missing", [None, {"hazard": 0.2}, {"clusters": 0.2}], ids=["complete", "dropout", "clusters"])
@pytest.mark.parametrize("size", [2, 5])
def test_against_statsmodels(missing: dict[str, Any] | None, size: int) -> None:
    made = study(
        design={"clusters": 30, "cluster_size": size},
        **({} if missing is None else {"missing": missing}),
    )
    work = compile_condition(made.conditions[0], made.methods)
    change, ancova = work.replicates(0, 4)
    for r in range(4):
        frame = summaries(work.frame(r))
        arm, N = sm.add_constant(frame[["arm"]].to_numpy(float)), len(frame)
        fits = (
            (change, sm.OLS(frame["later"] - frame["first"], arm).fit(), N - 2),
            (ancova, sm.OLS(frame["later"], np.column_stack([arm, frame["first"]])).fit(), N - 3),
        )
        for columns, fit, df in fits:
            for k, name in enumerate(("Intercept", "arm")):
                assert columns[f"estimate.{name}"][r] == pytest.approx(np.asarray(fit.params)[k], rel=1e-9, abs=1e-11)
                assert columns[f"se.{name}"][r] == pytest.approx(np.asarray(fit.bse)[k], rel=1e-9)
                assert columns[f"df.{name}"][r] == df
            assert "estimate.var:residual" not in columns


def true_values(made: nl.Study, tmp_path: Path) -> dict[tuple[str, str], float]:
    table = made.run(out=tmp_path / "r", replications=10).truths()
    return {(row["method"], row["estimand"]): row["value"] for row in table.to_dict("records")}


def test_true_values_and_what_they_are_worth(tmp_path: Path) -> None:
    """The estimates' means are the true values, and intervals hold them; the slope of ancova by hand."""
    results = study().run(out=tmp_path / "r")
    table = results.summary().query("subset == 'all'").set_index(["method", "estimand", "measure"])
    z, later = np.array([1.0, 0.0]), np.array([1.0, 2.5])
    G = np.array([[1.0, -0.3 * np.sqrt(0.05)], [-0.3 * np.sqrt(0.05), 0.05]])
    c = later @ G @ z / (z @ G @ z + 1.0)
    known = {
        ("change", "arm"): 2.5 * 0.25,
        ("change", "Intercept"): 2.5 * -0.3,
        ("ancova", "arm"): 0.4 + 2.5 * 0.25 - c * 0.4,
        ("ancova", "Intercept"): 5 + 2.5 * -0.3 - c * 5,
    }
    for (method, estimand), value in known.items():
        mean, bias = (table.loc[(method, estimand, measure)] for measure in ("mean", "bias"))
        assert mean["value"] - bias["value"] == pytest.approx(value, abs=1e-9)
        assert abs(bias["value"]) < 4 * bias["mcse"]
        cover = table.loc[(method, estimand, "cover")]
        assert abs(cover["value"] - 0.95) < 4 * cover["mcse"]


def truth(formula: str, **fixed: float) -> dict[str, Any]:
    """A truth with a random intercept whose variance is that of a row about it."""
    return {
        "formula": formula,
        "fixed": fixed,
        "residual_variance": 1.0,
        "random": {"id": {"variance": {"Intercept": 1.0}}},
    }


def by(formula: str) -> list[dict[str, str]]:
    return [{**method, "formula": formula} for method in STUDY["method"]]


CASES: list[tuple[str, dict[str, Any], dict[tuple[str, str], float]]] = [
    (
        "a list of visits",
        {"predictors": {**STUDY["predictors"], "t": {"level": 1, "distribution": "list", "values": [0, 1, 4, 7, 8]}}},
        {("change", "arm"): 5 * 0.25},
    ),
    (
        "correlated errors leave the slope on the baseline unknown",
        {"truth": {**STUDY["truth"], "errors": {"ar1": 0.4}}},
        {("change", "arm"): 2.5 * 0.25, ("ancova", "arm"): np.nan},
    ),
    (
        "no effect at baseline needs no slope",
        {"truth": {**STUDY["truth"], "errors": {"ar1": 0.4}, "fixed": {**FIXED, "arm": 0.0}}},
        {("ancova", "arm"): 2.5 * 0.25, ("ancova", "Intercept"): np.nan},
    ),
    (
        "nothing that every replicate has",
        {
            "truth": truth("y ~ z + (1 | id)", Intercept=5.0, z=0.4),
            "predictors": {"z": {"level": 2, "distribution": "normal"}},
            "method": by("y ~ z"),
        },
        {("change", "z"): 0.0, ("ancova", "z"): 0.4 - 0.5 * 0.4},
    ),
    ("clusters of other sizes", {"design": {"clusters": 4, "cluster_size": [3, 4, 5, 6]}}, {("change", "arm"): np.nan}),
    (
        "a product that is left out is averaged over",
        {
            "truth": truth("y ~ t * arm + t * sex + (1 | id)", **{**FIXED, "sex": 0.5, "t:sex": 0.5}),
            "predictors": {**STUDY["predictors"], "sex": {"level": 2, "distribution": "binary", "share": 0.4}},
            "method": by("y ~ t * arm"),
        },
        {("change", "Intercept"): 2.5 * (-0.3 + 0.5 * 0.4), ("change", "arm"): 2.5 * 0.25, ("ancova", "arm"): np.nan},
    ),
    (
        "what is left out and drawn once has a mean of its own",
        {
            "truth": truth("y ~ t * arm + t * z + (1 | id)", **{**FIXED, "z": 0.5, "t:z": 0.5}),
            "predictors": {**STUDY["predictors"], "z": {"level": 2, "distribution": "normal", "redraw": False}},
            "method": by("y ~ t * arm"),
        },
        {("change", "Intercept"): np.nan, ("change", "arm"): np.nan},
    ),
    (
        "without an intercept the arms take it up",
        {"method": by("y ~ 0 + t * arm")},
        {("change", "arm"): 2.5 * (0.25 - 0.3), ("ancova", "arm"): np.nan},
    ),
    (
        "a covariate drawn by row shows in its clusters' means, given the baseline",
        {
            "truth": truth("y ~ t * arm + x + (1 | id)", **{**FIXED, "arm": 0.0, "x": 1.0}),
            "predictors": {**STUDY["predictors"], "x": {"level": 1, "distribution": "normal", "icc": 0.5}},
            "method": by("y ~ t * arm + between(x)"),
        },
        {("change", "between(x)"): 0.0, ("ancova", "between(x)"): np.nan, ("ancova", "arm"): 2.5 * 0.25},
    ),
    (
        "the time about its mean",
        {
            "truth": truth(
                "y ~ center(t) * arm + (1 | id)",
                **{"Intercept": 5.0, "center(t)": -0.3, "arm": 0.4, "center(t):arm": 0.25},
            )
        },
        {("change", "arm"): 2.5 * 0.25, ("ancova", "arm"): 0.4 + 0.5 * 0.25 - 0.5 * (0.4 - 2 * 0.25)},
    ),
    (
        "visits as categories",
        {
            "truth": truth(
                "y ~ v * arm + (1 | id)",
                **{"Intercept": 1.0, "v[m]": 0.3, "v[e]": 0.6, "arm": 0.2, "v[m]:arm": 0.3, "v[e]:arm": 0.5},
            ),
            "predictors": {
                "v": {"level": 1, "distribution": "list", "values": [0, 1, 2], "categories": ["b", "m", "e"]},
                "arm": STUDY["predictors"]["arm"],
            },
            "design": {"clusters": 30, "cluster_size": 3},
        },
        {("change", "arm"): 0.4, ("change", "Intercept"): 0.45, ("ancova", "arm"): 0.4 + 0.5 * 0.2},
    ),
    (
        "the mean of given values, 6, is in the baseline of one arm",
        {
            "truth": truth("y ~ t * arm + x:arm + (1 | id)", **{**FIXED, "arm": 0.0, "x:arm": 1.0}),
            "predictors": {
                **STUDY["predictors"],
                "x": {"level": 1, "distribution": "resampled", "values": [5, 6, 7]},
            },
        },
        {("change", "arm"): 2.5 * 0.25, ("ancova", "arm"): np.nan},
    ),
    ("rows that are lost", {"missing": {"hazard": 0.1}}, {("change", "arm"): np.nan, ("ancova", "arm"): np.nan}),
]


@pytest.mark.parametrize(("changes", "known"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_true_values_that_follow(changes: dict[str, Any], known: dict[tuple[str, str], float], tmp_path: Path) -> None:
    found = true_values(study(**changes), tmp_path)
    for key, value in known.items():
        assert found[key] == pytest.approx(value, nan_ok=True)


def test_far_from_zero_nothing_is_lost() -> None:
    made = study(truth={**STUDY["truth"], "fixed": {**FIXED, "Intercept": 1e6}})
    work = compile_condition(made.conditions[0], made.methods)
    change, ancova = work.replicates(0, 3)
    for r in range(3):
        frame = summaries(work.frame(r))
        first, later = frame["first"] - 1e6, frame["later"] - 1e6
        arm = sm.add_constant(frame[["arm"]].to_numpy(float))
        for columns, fit in (
            (change, sm.OLS(later - first, arm).fit()),
            (ancova, sm.OLS(later, np.column_stack([arm, first])).fit()),
        ):
            assert columns["estimate.arm"][r] == pytest.approx(np.asarray(fit.params)[1], rel=1e-6)
            assert columns["se.arm"][r] == pytest.approx(np.asarray(fit.bse)[1], rel=1e-6)


def test_too_few_clusters_are_a_failed_fit() -> None:
    made = study(design={"clusters": 4, "cluster_size": 3}, missing={"clusters": 0.6})
    work = compile_condition(made.conditions[0], made.methods)
    for columns in work.replicates(0, 30):
        few = columns["clusters"] <= 2
        assert few.any()
        assert (columns["status"][few] == 3).all()
        assert np.isnan(columns["estimate.arm"][few]).all()


def test_refusals() -> None:
    with pytest.raises(nl.StudyError, match="leaves nothing to estimate: t vary within clusters"):
        study(method=[{"name": "m", "estimator": "ancova", "formula": "y ~ 0 + t + (1 | id)"}])
    with pytest.raises(nl.StudyError, match='must be "z" or "residual" for estimator = "ancova"'):
        study(method=[{"name": "m", "estimator": "ancova", "df": "satterthwaite"}])
    with pytest.raises(nl.StudyError, match=r"design\.cluster_size = 1: must be above 1, for a cluster's one row"):
        study(design={"clusters": 30, "cluster_size": 1})
    text = (
        "fewer fixed terms and the baseline than clusters of two rows or more, and has 3 for 3; raise design.clusters"
    )
    with pytest.raises(nl.StudyError, match=text):
        study(design={"clusters": 3, "cluster_size": 5})
    study(design={"clusters": 3, "cluster_size": 5}, method=[{"name": "m", "estimator": "change-scores"}])


def test_levels_that_an_axis_sets_are_refused() -> None:
    """A term would be left out, or estimated, in every design alike."""
    predictors = {**STUDY["predictors"], "x": {"level": 1, "distribution": "normal"}}
    truth = {**STUDY["truth"], "formula": "y ~ t * arm + x + (1 + t | id)", "fixed": {**FIXED, "x": 0.2}}
    with pytest.raises(nl.StudyError, match=r"needs levels that no axis changes, and one sets predictors\.x\.level"):
        study(truth=truth, predictors=predictors, grid={"predictors.x.level": [1, 2]})
