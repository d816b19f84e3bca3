"""A model chosen by a test or the AIC: what is reported is the chosen model's own, and what that does to type I error."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import nestlab as nl
from nestlab.fit.compare import p_value
from nestlab.run.store import RefusedError
from nestlab.spec.comparison import compare
from nestlab.spec.formula import parse_formula

SMALL = "y ~ 1 + x + (1 | school)"
RULES = ["z", "residual", "between-within", "satterthwaite", "kenward-roger"]
CONTRASTS = [
    {"name": "line", "weights": {"Intercept": 1, "x": 2}},
    {"name": "both", "weights": [{"Intercept": 1}, {"x": 1}]},
]


@pytest.fixture
def chosen(slope: dict[str, Any], tmp_path: Path) -> Any:
    """results of methods on the data of a weak random slope."""

    def run(*methods: dict[str, Any], **changes: Any) -> nl.Results:
        tables = {**copy.deepcopy(slope), "method": list(methods), **changes}
        return nl.Study.from_dict(tables).run(out=tmp_path / "r", jobs=1)

    return run


def by_method(results: nl.Results) -> dict[str, pd.DataFrame]:
    rows = results.replicates()
    return {str(name): part.set_index("replicate") for name, part in rows.groupby("method")}


def test_what_is_reported_is_the_chosen_models_own(chosen: Any) -> None:
    """Every stored column, by every rule, with contrasts, equals that of the chosen model fitted as a method of its own."""
    results = chosen(
        {"name": "large", "df": RULES},
        {"name": "small", "df": RULES, "formula": SMALL},
        {"name": "sel", "df": RULES, "select": "lrt", "compare": SMALL},
        contrast=CONTRASTS,
    )
    rows = by_method(results)
    kept = rows["sel"]["selected"] == 1
    assert 60 < kept.sum() < 240, "both models are chosen"
    columns = [c for c in rows["sel"] if c not in ("method", "iterations", "selected")]
    for mask, name in ((kept, "large"), (~kept, "small")):
        pd.testing.assert_frame_equal(rows["sel"].loc[mask, columns], rows[name].loc[mask, columns])
    assert rows["sel"].loc[~kept, "estimate.var:school:x"].isna().all(), "the smaller model has no such variance"
    assert rows["sel"].loc[~kept, "p.both/z"].notna().all()
    assert (rows["sel"]["inference/satterthwaite"] == "ok").all()


@pytest.mark.parametrize(("reference", "weights"), [("asymptotic", {1: 0.5, 2: 0.5}), ("chisq", {2: 1.0})])
def test_selection_by_a_likelihood_ratio_test(chosen: Any, reference: str, weights: dict[int, float]) -> None:
    level = 0.2
    rows = by_method(
        chosen(
            {"name": "large"},
            {"name": "small", "formula": SMALL},
            {"name": "sel", "select": "lrt", "compare": SMALL, "reference": reference, "select_alpha": level},
        )
    )
    T = np.maximum(rows["small"]["deviance"] - rows["large"]["deviance"], 0)
    p = sum(weight * stats.chi2.sf(T, df) for df, weight in weights.items())
    np.testing.assert_array_equal(rows["sel"]["selected"] == 1, p <= level)


def test_selection_by_aic(chosen: Any) -> None:
    rows = by_method(
        chosen({"name": "large"}, {"name": "small", "formula": SMALL}, {"name": "a", "select": "aic", "compare": SMALL})
    )
    smaller_aic = rows["large"]["deviance"] + 2 * 2 < rows["small"]["deviance"]  # a variance and a covariance more
    np.testing.assert_array_equal(rows["a"]["selected"] == 1, smaller_aic)


def test_selection_by_ml_of_fixed_effects_leaves_dropped_terms_missing(chosen: Any) -> None:
    results = chosen({"name": "s", "reml": False, "select": "lrt", "compare": "y ~ 1 + (1 + x | school)"})
    rows = by_method(results)["s"]
    dropped = rows["selected"] == 0
    assert 0 < dropped.sum() < len(rows)
    assert rows.loc[dropped, ["estimate.x", "se.x", "df.x"]].isna().all(axis=None)
    assert rows.loc[~dropped, ["estimate.x", "se.x", "df.x"]].notna().all(axis=None)
    assert (rows["inference"] == "ok").all(), "a term that was dropped is no failed inference"
    power = results.summary().query("estimand == 'x' and measure == 'power' and subset == 'all'").iloc[0]
    assert (power["n"], power["missing"]) == (len(rows) - dropped.sum(), dropped.sum())


def test_without_random_terms_the_smaller_model_is_least_squares(chosen: Any) -> None:
    """Keep the random intercept only if its test rejects; otherwise statsmodels' OLS on the rows."""
    results = chosen(
        {"name": "s", "df": RULES, "formula": SMALL, "select": "lrt", "compare": "y ~ 1 + x", "select_alpha": 0.001},
        contrast=[*CONTRASTS, {"name": "d", "weights": {"x": 1}, "standardise": "residual"}],
    )
    rows = by_method(results)["s"]
    dropped = [int(r) for r in rows.index[rows["selected"] == 0]][:5]
    assert dropped
    for replicate in dropped:
        frame, row = results.data(0, replicate), rows.loc[replicate]
        fit = sm.OLS(frame["y"], sm.add_constant(frame[["x"]])).fit()
        assert row["estimate.x"] == pytest.approx(fit.params["x"], rel=1e-9)
        assert row["se.x"] == pytest.approx(fit.bse["x"], rel=1e-9)
        assert row["estimate.var:residual"] == pytest.approx(fit.scale, rel=1e-9)
        assert {row[f"df.x/{rule}"] for rule in RULES[1:]} == {46.0}
        assert row["df.x/z"] == np.inf
        assert row["p.both/residual"] == pytest.approx(float(fit.f_test(np.eye(2)).pvalue), rel=1e-7)
        d, s2 = fit.params["x"] / np.sqrt(fit.scale), fit.scale
        assert row["estimate.d"] == pytest.approx(d, rel=1e-9)
        assert row["se.d"] == pytest.approx(np.sqrt(fit.bse["x"] ** 2 / s2 + d**2 / (2 * 46)), rel=1e-9)


def test_selected_is_a_measure_of_the_method(chosen: Any) -> None:
    results = chosen({"name": "one"}, {"name": "sel", "select": "aic", "compare": SMALL})
    row = results.summary().query("measure == 'selected'")
    share = by_method(results)["sel"]["selected"].mean()
    assert row["method"].tolist() == ["sel"]
    assert row["value"].tolist() == [share]
    assert row["mcse"].iloc[0] == pytest.approx(np.sqrt(share * (1 - share) / 300))
    assert row["lower"].iloc[0] < share < row["upper"].iloc[0]


def test_chisq_reference_without_selection_is_the_naive_test(chosen: Any) -> None:
    rows = by_method(
        chosen(
            {"name": "naive", "compare": SMALL, "reference": "chisq"},
            {"name": "mixture", "compare": SMALL},
            {"name": "sel", "select": "aic", "compare": SMALL},
        )
    )
    p = rows["naive"]["p.var:school:x"], rows["mixture"]["p.var:school:x"]
    inside = p[0] < 1
    assert inside.any()
    assert (p[0][inside] > p[1][inside]).all(), "conservative at the boundary"
    assert rows["sel"]["p.var:school:x"].isna().all(), "a test that selects is no result of its own"


def test_a_method_that_no_longer_selects_is_refused(chosen: Any) -> None:
    chosen({"name": "s", "select": "aic", "compare": SMALL})
    with pytest.raises(RefusedError, match=r"method\.s\.select: stored 'aic', now None"):
        chosen({"name": "s", "compare": SMALL})
    with pytest.raises(RefusedError, match=r"method\.s\.compare: stored '.*', now None; method\.s\.reference"):
        chosen({"name": "s"})


def test_chisq_has_as_many_df_as_parameters() -> None:
    null, full = parse_formula("y ~ x"), parse_formula("y ~ x + (1 + x | g)")
    assert p_value(compare(null, full), 5.0, mixture=False) == pytest.approx(stats.chi2.sf(5.0, 3))
    with pytest.raises(ValueError, match="no known large-sample distribution"):
        p_value(compare(null, full), 5.0)


def test_a_model_that_cannot_be_fitted_is_not_chosen(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only one of the two is an optimum it is reported; where neither is, the larger with its status."""
    from nestlab.fit.methods import mixed
    from nestlab.fit.status import Status

    whole = mixed.fit_model
    lost = {"large": {0, 2}, "small": {1, 2}}

    def fit(plan: Any, gram: Any, first: int, last: int) -> Any:
        fits = whole(plan, gram, first, last)
        for k in lost["large" if len(plan.zcols) == 2 else "small"]:
            fits.status[k] = Status.not_converged
        return fits

    monkeypatch.setattr(mixed, "fit_model", fit)
    rows = by_method(
        chosen({"name": "large"}, {"name": "small", "formula": SMALL}, {"name": "s", "select": "lrt", "compare": SMALL})
    )
    found = rows["s"]["selected"]
    assert found.tolist()[:2] == [0.0, 1.0]
    assert np.isnan(found[2])
    for replicate, name in enumerate(("small", "large", "large")):
        for column in ("estimate.x", "se.x", "df.x", "deviance"):
            assert rows["s"].loc[replicate, column] == rows[name].loc[replicate, column]
    assert rows["s"].loc[2, "status"] == "not_converged"


@pytest.mark.calibration
def test_selection_inflates_type_I_error(slope: dict[str, Any], tmp_path: Path) -> None:
    """A slope variance that the test seldom finds: the analysis that drops it rejects a true null too often."""
    slope["truth"]["fixed"]["x"] = 0
    slope["truth"]["random"]["school"] = {"variance": {"Intercept": 0.3, "x": 0.1}}
    slope |= {"design": {"clusters": 10, "cluster_size": 10}, "replications": 4000}
    slope["method"] = [{"name": "maximal"}, {"name": "selected", "select": "lrt", "compare": SMALL}]
    summary = nl.Study.from_dict(slope).run(out=tmp_path).summary().query("subset == 'all'")
    found = summary.query("estimand == 'x' and measure == 'power'").set_index("method")
    share = summary.query("measure == 'selected'")["value"].item()
    assert 0.2 < share < 0.5, "the test has little power"
    assert abs(found.loc["maximal", "value"] - 0.05) < 4 * found.loc["maximal", "mcse"] + 0.005
    gap = found.loc["selected", "value"] - found.loc["maximal", "value"]
    assert gap > 4 * (found["mcse"] ** 2).sum() ** 0.5
