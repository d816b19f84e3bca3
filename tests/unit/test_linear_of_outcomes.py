"""Linear models of binary outcomes and counts: what they are fitted to, and the truth that they are held against."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.simulate.centres import centres_of
from nestlab.spec.outcome import marginal_means
from nestlab.spec.study import StudyFile
from nestlab.spec.truths import true_values

METHODS = [
    {"name": "laplace"},
    {"name": "lmm", "estimator": "lmm", "df": "between-within"},
    {"name": "ols", "estimator": "ols", "robust": "CR2"},
    {"name": "means", "estimator": "cluster-means"},
]


def tables(**truth: Any) -> dict[str, Any]:
    return {
        "name": "linear", "seed": 4, "replications": 40, "design": {"clusters": 12, "cluster_size": 8},
        "truth": {
            "formula": "y ~ trt + (1 | g)", "family": "binomial", "baseline": 0.3, "fixed": {"trt": {"odds_ratio": 2}},
            "random": {"g": {"variance": {"Intercept": 0.4}}},
        } | truth,
        "predictors": {"trt": {"level": 2, "distribution": "balanced"}}, "method": METHODS,
    }  # fmt: skip


def truths(**truth: Any) -> dict[str, dict[str, float]]:
    study = StudyFile.from_dict(tables(**truth))
    condition = study.conditions()[0]
    found = true_values(condition, study.methods(), centres_of(condition))
    return {method.name: found.of(method.name) for method in study.methods()}


def test_fits_are_those_of_the_replicates_rows(tmp_path: Path) -> None:
    """Mixed models by `nl.fit`, least squares and cluster means by their definitions, on the frames of replicates."""
    study = nl.Study.from_dict(tables())
    results = study.run(out=tmp_path / "r", jobs=1)
    stored = results.replicates().set_index(["method", "replicate"])
    for replicate in (0, 7, 39):
        frame = study.data(0, replicate)
        fitted = nl.fit("y ~ trt + (1 | g)", frame)
        X, y = np.column_stack([np.ones(96), frame["trt"]]), frame["y"].to_numpy()
        ols = np.linalg.lstsq(X, y, rcond=None)[0]
        means = frame.groupby("g")[["y", "trt"]].mean()
        for method, expected in (
            ("lmm", [fitted.beta["Intercept"], fitted.beta["trt"]]),
            ("ols", ols),
            ("means", [means["y"][means["trt"] == 0].mean(), np.diff(means.groupby("trt")["y"].mean())[0]]),
        ):
            row = stored.loc[(method, replicate)]
            assert [row["estimate.Intercept"], row["estimate.trt"]] == pytest.approx(list(expected), abs=1e-8)
        assert stored.loc[("lmm", replicate), "se.trt"] == pytest.approx(fitted.se["trt"], rel=1e-6)


def test_they_are_held_against_marginal_means() -> None:
    study = StudyFile.from_dict(tables())
    control, treated = (mean.marginal for mean in marginal_means(study.conditions()[0], ["trt"]))
    found = truths()
    for name in ("lmm", "ols", "means"):
        assert found[name]["Intercept"] == pytest.approx(control)
        assert found[name]["trt"] == pytest.approx(treated - control)
        assert math.isnan(found[name].get("var:residual", math.nan))
    assert found["laplace"]["trt"] == pytest.approx(math.log(2))
    assert math.isnan(found["lmm"]["var:g:Intercept"])
    why = true_values(study.conditions()[0], study.methods(), centres_of(study.conditions()[0])).unknown["lmm"]
    assert (
        why["var:g:Intercept"] == "variances of a linear model of such outcomes do not follow from those of the truth"
    )


def test_counts_have_rates_as_truth() -> None:
    found = truths(family="poisson", baseline=2.0, fixed={"trt": {"rate_ratio": 1.5}})
    assert found["ols"]["Intercept"] == pytest.approx(2 * math.exp(0.2))
    assert found["ols"]["trt"] == pytest.approx(math.exp(0.2))


def test_an_unknown_truth_says_why() -> None:
    """A covariate in the linear model, whose marginal effect is no difference of two means."""
    made = tables(formula="y ~ trt + x + (1 | g)", fixed={"trt": {"odds_ratio": 2}, "x": 0.5})
    made["predictors"]["x"] = {"level": 1, "distribution": "normal"}
    study = StudyFile.from_dict(made)
    condition = study.conditions()[0]
    found = true_values(condition, study.methods(), centres_of(condition))
    assert math.isnan(found.of("ols")["trt"])
    assert "on the scale of the outcome it is not known" in found.unknown["ols"]["trt"]
    made["method"] = [{"name": "ols", "estimator": "ols", "formula": "y ~ trt"}]
    study = StudyFile.from_dict(made)
    condition = study.conditions()[0]
    control, treated = (mean.marginal for mean in marginal_means(condition, ["trt"]))
    found = true_values(condition, study.methods(), centres_of(condition))
    assert found.of("ols")["trt"] == pytest.approx(treated - control)


def test_effects_that_do_not_add_up_on_the_scale_of_the_outcome_have_no_truth() -> None:
    """Two treatments that add up as log odds do not add up as probabilities."""
    made = tables(
        formula="y ~ trt + b + (1 | g)", baseline=0.2, fixed={"trt": {"odds_ratio": 3}, "b": {"odds_ratio": 3}}
    )
    made["predictors"]["b"] = {"level": 1, "distribution": "balanced"}
    study = StudyFile.from_dict(made)
    condition = study.conditions()[0]
    found = true_values(condition, study.methods(), centres_of(condition))
    assert math.isnan(found.of("ols")["trt"])
    assert found.unknown["ols"]["trt"] == "on the scale of the outcome the effects of its terms do not add up"


def test_no_residual_variance_is_invented() -> None:
    """Nor an icc beside it: the latent error's variance is no parameter of a linear model's outcome."""
    study = StudyFile.from_dict(tables())
    condition = study.conditions()[0]
    shared = true_values(condition, study.methods(), centres_of(condition)).shared
    assert math.isnan(shared["var:residual"])
    assert math.isnan(shared["icc"])


@pytest.mark.calibration
def test_linear_estimates_are_unbiased_for_their_own_truth(tmp_path: Path) -> None:
    made = tables() | {"replications": 4000}
    table = nl.Study.from_dict(made).run(out=tmp_path / "r").summary()
    bias = table[
        (table["measure"] == "bias") & (table["subset"] == "all") & table["estimand"].isin(["Intercept", "trt"])
    ]
    linear = bias[bias["method"].isin(["lmm", "ols", "means"])]
    assert len(linear) == 6
    assert (linear["value"].abs() < 4 * linear["mcse"]).all(), pd.DataFrame(linear)
