"""Inference through a whole run: rules, contrasts, intervals and likelihood ratio tests, as stored and as measured."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as fisher
from scipy.stats import norm
from scipy.stats import t as student

import nestlab as nl
from conftest import SLOPE
from nestlab.fit.lmm import compile_plan
from nestlab.run.block import compile_condition

RULES = ["z", "residual", "between-within", "satterthwaite", "kenward-roger"]
CONTRASTS = [
    {"name": "at one", "weights": {"Intercept": 1, "x": 1}},
    {"name": "one-sided", "weights": {"x": 1}, "alternative": "greater", "null": 0.1},
    {"name": "non-inferior", "weights": {"x": 1}, "test": "non-inferiority", "margin": 0.2},
    {"name": "equivalent", "weights": {"x": 1}, "test": "equivalence", "margin": [0.0, 1.1]},
    {"name": "d", "weights": {"x": 1}, "standardise": "total"},
    {"name": "d within", "weights": {"x": 2}, "standardise": "residual"},
    {"name": "both", "weights": [{"x": 1}, {"Intercept": 1, "x": 2}]},
]
NULL = "y ~ 1 + (1 + x | school)"


def study(methods: list[dict[str, Any]], contrasts: list[dict[str, Any]] = (), **changes: Any) -> nl.Study:
    tables = copy.deepcopy(SLOPE) | {"method": methods, "contrast": list(contrasts)} | changes
    return nl.Study.from_dict(tables)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> nl.Results:
    return study([{"name": "reml", "df": RULES}, {"name": "alone"}], CONTRASTS).run(
        out=tmp_path_factory.mktemp("r") / "x"
    )


@pytest.fixture(scope="module")
def rows(results: nl.Results) -> pd.DataFrame:
    return results.replicates(method="reml")


def power(results: nl.Results, method: str, estimand: str) -> float:
    s = results.summary()
    row = s[(s["method"] == method) & (s["estimand"] == estimand) & (s["measure"] == "power") & (s["subset"] == "all")]
    return float(row["value"].iloc[0])


def test_rules_share_one_fit(results: nl.Results, rows: pd.DataFrame) -> None:
    """Estimates and the model's standard errors are stored once; a rule has columns of its own for what is its own."""
    columns = set(rows.columns)
    assert {f"df.x/{rule}" for rule in RULES} | {f"inference/{rule}" for rule in RULES} <= columns
    assert {"se.x", "se.x/kenward-roger"} <= columns
    assert not {"se.x/z", "estimate.x/z"} & columns
    assert (rows["df.x/z"] == np.inf).all()
    assert (rows["df.x/residual"] == 8 * 6 - 2).all()
    assert (rows["df.x/between-within"] == 7).all()
    alone = results.replicates(method="alone")
    np.testing.assert_array_equal(alone["df.x"], rows["df.x/satterthwaite"])
    np.testing.assert_array_equal(alone["se.x"], rows["se.x"])
    assert set(results.summary()["method"]) == {"alone", *(f"reml/{rule}" for rule in RULES)}


@pytest.mark.parametrize("rule", RULES)
def test_power_is_that_of_the_rule(results: nl.Results, rows: pd.DataFrame, rule: str) -> None:
    se = rows["se.x/kenward-roger"] if rule == "kenward-roger" else rows["se.x"]
    p = 2 * student.sf(np.abs(rows["estimate.x"] / se), rows[f"df.x/{rule}"])
    assert power(results, f"reml/{rule}", "x") == pytest.approx((p < 0.05).mean())


def test_contrasts_are_sums_of_effects(results: nl.Results, rows: pd.DataFrame) -> None:
    np.testing.assert_allclose(rows["estimate.at one"], rows["estimate.Intercept"] + rows["estimate.x"], rtol=1e-12)
    frame = results.data(0, 4)
    for rule in RULES:
        fit = nl.fit("y ~ x + (1 + x | school)", frame, df=rule)
        test = fit.test("Intercept + x = 0")
        row = rows.iloc[4]
        se = row.get("se.at one/kenward-roger") if rule == "kenward-roger" else row["se.at one"]
        assert row["estimate.at one"] == pytest.approx(test.estimate, rel=1e-8)
        assert se == pytest.approx(test.se, rel=1e-7)
        assert row[f"df.at one/{rule}"] == pytest.approx(test.df, rel=1e-6)
        joint = fit.test("x = 0, Intercept + 2*x = 0")
        assert row[f"p.both/{rule}"] == pytest.approx(joint.p, rel=1e-5)
    truth = results.conditions().iloc[0]
    assert truth["true.at one"] == 2.5
    assert truth["true.d"] == pytest.approx(0.5 / np.sqrt(1.5))
    assert truth["true.d within"] == pytest.approx(1.0)


def test_one_sided_noninferiority_and_equivalence(results: nl.Results, rows: pd.DataFrame) -> None:
    estimate, se, df = rows["estimate.x"], rows["se.x"], rows["df.x/satterthwaite"]
    one = student.ppf(0.95, df)
    expected = {
        "one-sided": (estimate - 0.1) / se > one,
        "non-inferior": (estimate + 0.2) / se > one,
        "equivalent": (estimate - one * se > 0.0) & (estimate + one * se < 1.1),
    }
    for name, rejected in expected.items():
        assert 0 < rejected.mean() < 1
        assert power(results, "reml/satterthwaite", name) == pytest.approx(rejected.mean())


def test_standardised_effects_divide_by_the_estimated_sd(rows: pd.DataFrame) -> None:
    total = np.sqrt(rows["estimate.var:school:Intercept"] + rows["estimate.var:residual"])
    np.testing.assert_allclose(rows["estimate.d"], rows["estimate.x"] / total, rtol=1e-12)
    np.testing.assert_allclose(
        rows["estimate.d within"], 2 * rows["estimate.x"] / rows["estimate.sd:residual"], rtol=1e-12
    )
    assert (rows["se.d"] > rows["se.x"] / total).all()


def test_a_joint_test_has_power_and_nothing_else(results: nl.Results) -> None:
    s = results.summary()
    of_both = s[s["estimand"] == "both"]
    assert set(of_both["measure"]) == {"power"}
    assert (of_both["missing"] == 0).all()


def test_a_joint_test_of_one_effect_is_its_t_squared() -> None:
    from nestlab.fit.inference import Inference

    vcov, beta = np.array([[1.0, 0.2, 0.5]]), np.array([[0.3, 1.1]])
    inference = Inference(np.array([[12.0]]), vcov, np.ones((1, 1)))
    p = inference.joint_p(0, np.array([[0.0, 1.0]]), beta)
    assert p[0] == pytest.approx(fisher.sf(1.1**2 / 0.5, 1, 12))


WITH_INTERVALS: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "wald", "variance_intervals": "wald"},
    {"name": "log", "variance_intervals": "wald-log", "alpha": 0.1},
    {"name": "profile", "variance_intervals": "profile", "intervals": "profile"},
    {"name": "restricted", "variance_intervals": "profile-reml"},
    {"name": "bootstrap", "variance_intervals": "bootstrap", "intervals": "bootstrap", "draws": 99},
]


@pytest.fixture(scope="module")
def with_intervals(tmp_path_factory: pytest.TempPathFactory) -> nl.Results:
    return study(WITH_INTERVALS, design={"clusters": 8, "cluster_size": 12}).run(
        replications=120, out=tmp_path_factory.mktemp("r") / "x"
    )


class TestIntervals:
    """Stored ends of intervals and their coverage."""

    def measured(self, with_intervals: nl.Results, method: str) -> pd.DataFrame:
        s = with_intervals.summary()
        return s[(s["method"] == method) & (s["subset"] == "all")].set_index(["estimand", "measure"])

    @pytest.mark.parametrize("method", ["wald", "log", "profile", "restricted", "bootstrap"])
    def test_coverage_is_counted_from_the_ends(self, with_intervals: nl.Results, method: str) -> None:
        rows, found = with_intervals.replicates(method=method), self.measured(with_intervals, method)
        truth = {"var:school:x": 0.2, "cor:school:Intercept:x": 0.3, "var:residual": 1.0}
        for name, value in truth.items():
            lower, upper = rows[f"lower.{name}"], rows[f"upper.{name}"]
            known = lower.notna()
            covered = (lower <= value) & (value <= upper)
            row = found.loc[(name, "cover")]
            assert row["value"] == pytest.approx(covered[known].mean())
            assert row["n"] == known.sum()
            assert ((lower >= (-1 if name.startswith("cor") else 0)) | ~known).all()
        sd = found.loc[("sd:school:x", "cover")]
        assert sd["value"] == pytest.approx(found.loc[("var:school:x", "cover"), "value"])
        assert (found.loc[("", "inference_failed"), "value"]) == 0

    def test_at_the_boundary_the_lower_limit_is_0(self, with_intervals: nl.Results) -> None:
        for method in ("wald", "log", "profile", "restricted"):
            rows = with_intervals.replicates(method=method)
            zero = rows["estimate.var:school:x"] <= 0
            lower = rows.loc[zero, "lower.var:school:x"]
            assert (lower == 0).all()
            assert (rows.loc[rows["lower.var:school:x"] == 0, "status"] != "").all()
        profile = with_intervals.replicates(method="profile")
        assert (profile["lower.var:school:x"] == 0).mean() > 0.05

    def test_a_method_without_intervals_has_none(self, with_intervals: nl.Results) -> None:
        found = self.measured(with_intervals, "plain")
        assert ("var:school:x", "cover") not in found.index
        assert ("var:school:x", "modelse") not in found.index
        assert ("x", "cover") in found.index
        assert ("var:school:x", "modelse") in self.measured(with_intervals, "wald").index

    def test_wald_limits_by_hand(self, with_intervals: nl.Results) -> None:
        rows = with_intervals.replicates(method="wald")
        v, se, z = rows["estimate.var:residual"], rows["se.var:residual"], norm.ppf(0.975)
        np.testing.assert_allclose(rows["upper.var:residual"], v + z * se, rtol=1e-12)
        log = with_intervals.replicates(method="log")
        z = norm.ppf(0.95)
        np.testing.assert_allclose(log["lower.var:residual"], v * np.exp(-z * se / v), rtol=1e-12)

    def test_fixed_effects_take_the_stored_ends(self, with_intervals: nl.Results) -> None:
        rows, found = with_intervals.replicates(method="profile"), self.measured(with_intervals, "profile")
        covered = (rows["lower.x"] <= 0.5) & (rows["upper.x"] >= 0.5)
        assert found.loc[("x", "cover"), "value"] == pytest.approx(covered.mean())
        assert ((rows["lower.x"] < rows["estimate.x"]) & (rows["estimate.x"] < rows["upper.x"])).all()

    def test_profile_equals_confint_of_the_rows(self, with_intervals: nl.Results) -> None:
        rows = with_intervals.replicates(method="profile")
        limits = nl.fit("y ~ x + (1 + x | school)", with_intervals.data(0, 7)).confint()
        row = rows.iloc[7]
        for name, ours in (
            ("x", "x"),
            ("sd_x|school", "sd:school:x"),
            ("sigma", "sd:residual"),
            ("(Intercept)", "Intercept"),
        ):
            end = {"lower": limits.loc[name, "lower"], "upper": limits.loc[name, "upper"]}
            for which, value in end.items():
                stored = row[f"{which}.{ours.replace('sd:', 'var:')}"]
                assert (np.sqrt(stored) if ours.startswith("sd:") else stored) == pytest.approx(
                    value, rel=1e-5, abs=1e-7
                )

    def test_workers_and_extension_change_nothing(self, with_intervals: nl.Results, tmp_path: Path) -> None:
        again = study(WITH_INTERVALS, design={"clusters": 8, "cluster_size": 12})
        again.run(replications=50, out=tmp_path / "x", jobs=1)
        extended = again.run(replications=120, out=tmp_path / "x", jobs=2)
        pd.testing.assert_frame_equal(extended.replicates(), with_intervals.replicates())

    def test_alpha_is_part_of_what_stored_intervals_mean(self, tmp_path: Path) -> None:
        methods = [{"name": "profile", "variance_intervals": "profile"}]
        study(methods).run(replications=3, out=tmp_path / "x")
        with pytest.raises(nl.RefusedError, match=r"alpha: stored 0\.05, now 0\.1"):
            study([methods[0] | {"alpha": 0.1}]).run(replications=3, out=tmp_path / "x")


COMPARING: list[dict[str, Any]] = [
    {"name": "fixed", "reml": False, "compare": NULL},
    {"name": "null", "reml": False, "formula": NULL},
    {"name": "full", "reml": False},
    {"name": "slope", "compare": "y ~ x + (1 | school)"},
    {"name": "intercept", "formula": "y ~ x + (1 | school)", "compare": "y ~ x"},
    {"name": "exact", "formula": "y ~ x + (1 | school)", "compare": "y ~ x", "reference": "exact", "draws": 199},
    {
        "name": "drawn",
        "formula": "y ~ x + (1 | school)",
        "compare": "y ~ x",
        "reference": "bootstrap",
        "draws": 199,
    },
    {"name": "both", "reml": False, "compare": "y ~ 1 + (1 | school)", "reference": "bootstrap", "draws": 99},
]


@pytest.fixture(scope="module")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> nl.Results:
    return study(COMPARING).run(replications=100, out=tmp_path_factory.mktemp("r") / "x")


class TestLikelihoodRatio:
    """Tests of a null model."""

    def test_a_fixed_effect_against_two_fits(self, comparing: nl.Results) -> None:
        from scipy.stats import chi2

        null, full = (comparing.replicates(method=name)["deviance"].to_numpy() for name in ("null", "full"))
        rows = comparing.replicates(method="fixed")
        np.testing.assert_allclose(rows["p.x"], chi2.sf(null - full, 1), rtol=1e-6)
        assert power(comparing, "fixed", "x") == pytest.approx((rows["p.x"] <= 0.05).mean())
        assert power(comparing, "full", "x") != power(comparing, "fixed", "x")

    def test_variances_are_tested_by_name(self, comparing: nl.Results) -> None:
        assert comparing.replicates(method="slope")["p.var:school:x"].between(0, 1).all()
        for name in ("intercept", "exact", "drawn"):
            assert power(comparing, name, "var:school:Intercept") > 0.5
        p = np.array(
            [comparing.replicates(method=n)["p.var:school:Intercept"] for n in ("intercept", "exact", "drawn")]
        )
        assert np.abs(p[1] - p[2]).max() < 0.15
        assert set(comparing.summary().query("estimand == 'x, cov:school:Intercept:x, var:school:x'")["measure"]) == {
            "power"
        }

    def test_exact_and_bootstrap_do_not_depend_on_workers(self, comparing: nl.Results, tmp_path: Path) -> None:
        again = study(COMPARING)
        again.run(replications=30, out=tmp_path / "x", jobs=1)
        pd.testing.assert_frame_equal(
            again.run(replications=100, out=tmp_path / "x").replicates(), comparing.replicates()
        )


def test_failed_inference_is_counted_and_never_a_non_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between-within df are undefined for 5 effects of the intercept's equation on 5 clusters: estimates stay, tests do not."""
    names = ["a", "b", "c"]
    tables = copy.deepcopy(SLOPE) | {
        "design": {"clusters": 5, "cluster_size": 8},
        "truth": {
            "formula": "y ~ a + b + c + (1 | school)",
            "fixed": {"Intercept": 0, **dict.fromkeys(names, 0)},
            "residual_variance": 1,
            "random": {"school": {"variance": {"Intercept": 0.1}}},
        },
        "predictors": {n: {"level": 2, "distribution": "normal"} for n in names},
        "method": [{"name": "m", "df": ["z", "between-within"]}, {"name": "ml", "reml": False}],
    }
    import nestlab.fit.methods.analysis as columns

    real = columns.Inference.se

    def broken(self: Any, weights: np.ndarray) -> np.ndarray:
        se = real(self, weights)
        se[::10] = np.nan
        return se

    monkeypatch.setattr(columns.Inference, "se", broken)
    ran = nl.Study.from_dict(tables).run(replications=100, out=tmp_path / "x")
    s = ran.summary()
    failed = s[(s["measure"] == "inference_failed") & (s["subset"] == "all")].set_index("method")["value"]
    assert failed["m/z"] == pytest.approx(0.1)
    row = s[(s["method"] == "m/z") & (s["estimand"] == "a") & (s["measure"] == "power") & (s["subset"] == "all")].iloc[
        0
    ]
    assert (row["n"], row["missing"]) == (90, 10)
    assert row["bound_upper"] - row["bound_lower"] == pytest.approx(0.1)
    rows = ran.replicates(method="m")
    assert set(rows["inference/z"]) == {"ok", "no_df"}
    assert rows["estimate.a"].notna().all()


def test_manifest_names_what_a_method_infers(results: nl.Results) -> None:
    manifest = json.loads((results.folder / "manifest.json").read_text())
    content = manifest["methods"][0]["content"]
    assert content["df"] == RULES
    assert content["singular_df"] == "lmertest"
    assert content["contrasts"]["at one"] == {"weights": [{"Intercept": 1.0, "x": 1.0}], "standardise": None}


def test_a_renamed_contrast_or_another_weight_is_another_result(results: nl.Results) -> None:
    with pytest.raises(nl.RefusedError, match=r"method\.reml\.contrasts: stored"):
        study(
            [{"name": "reml", "df": RULES}, {"name": "alone"}],
            [{"name": "at one", "weights": {"Intercept": 1, "x": 2}}, *CONTRASTS[1:]],
        ).run(out=results.folder)


def test_another_margin_needs_no_new_fit(results: nl.Results, tmp_path: Path) -> None:
    """What is derived from stored columns is measured anew."""
    import shutil

    shutil.copytree(results.folder, tmp_path / "x")
    changed = [c | ({"margin": 0.4} if c["name"] == "non-inferior" else {}) for c in CONTRASTS]
    again, report = study([{"name": "reml", "df": RULES}, {"name": "alone"}], changed).execute(out=tmp_path / "x")
    assert report.made == 0
    assert power(again, "reml/z", "non-inferior") > power(results, "reml/z", "non-inferior")


def test_null_plans_have_no_random_terms() -> None:
    chosen = study([{"name": "intercept", "formula": "y ~ x + (1 | school)", "compare": "y ~ x"}])
    work = compile_condition(chosen.conditions[0], chosen.methods)
    _, plan = work.analyses[0]._null
    assert plan.zcols == ()
    assert compile_plan(work.source.design, chosen.methods[0]).zcols == (0,)


def test_the_readmes_tests_and_intervals_are_a_study() -> None:
    import re
    import tomllib

    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = tomllib.loads(next(b for b in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[contrast]]" in b))
    shown["method"][1]["compare"] = "y ~ x*z + (1 + x | school)"  # the null of the model below
    truth = SLOPE["truth"] | {
        "formula": "y ~ x*z + arm + (1 + x | school)",
        "fixed": {"Intercept": 0, "x": 0.2, "z": 0.1, "x:z": 0.1, "arm": 0.3},
    }
    between = {name: {"level": 2, "distribution": "normal"} for name in ("z", "arm")}
    chosen = study(shown["method"], shown["contrast"], truth=truth, predictors=SLOPE["predictors"] | between)
    assert [len(method.contrasts) for method in chosen.methods] == [2, 2]
