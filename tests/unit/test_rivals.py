"""Least squares and robust standard errors as methods of a study, against rows: statsmodels, SciPy and dense definitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import nestlab as nl
from nestlab.fit.status import InferenceStatus, Status, is_failed
from nestlab.run.block import CompiledCondition, compile_condition
from nestlab.run.store import RefusedError
from nestlab.show.report.analyses import _items
from nestlab.spec.study import StudyFile
from rows_oracle import Dense

SIZES = [1, 2, 3, 5, 8, 13, 4, 9]
KINDS = ["CR0", "CR1", "CR1S", "CR2"]
REPLICATES = (0, 7)


def study(methods: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Unequal clusters, a level-1 and a level-2 predictor with their product, a large mean."""
    return {
        "name": "rivals",
        "seed": 3,
        "replications": 40,
        "design": {"clusters": len(SIZES), "cluster_size": SIZES},
        "truth": {
            "formula": "y ~ x * arm + (1 + x | school)",
            "fixed": {"Intercept": 1000, "x": 0.5, "arm": 2, "x:arm": 0.3},
            "residual_variance": 1,
            "random": {"school": {"variance": {"Intercept": 1, "x": 0.3}}},
        },
        "predictors": {"x": {"level": 1, "distribution": "normal", "mean": 3}, "arm": {"level": 2, "distribution": "balanced"}},
        "method": methods,
        "contrast": [
            {"name": "slope in arm 1", "weights": {"x": 1, "x:arm": 1}},
            {"name": "both", "weights": [{"x": 1}, {"x:arm": 1}]},
        ],
    } | changes  # fmt: skip


def compiled(methods: list[dict[str, Any]], **changes: Any) -> CompiledCondition:
    full = any("formula" not in method for method in methods)
    file = StudyFile.from_dict(study(methods, **(changes if full else {"contrast": []} | changes)))
    return compile_condition(file.conditions()[0], file.methods())


def matrices(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, arm = frame["x"].to_numpy(), frame["arm"].to_numpy()
    return frame["y"].to_numpy(), np.column_stack([np.ones(len(x)), x, arm, x * arm]), frame["school"].to_numpy() - 1


def check(columns: dict[str, Any], r: int, names: list[str], b: Any, se: Any, df: Any) -> None:
    for kind, values in (("estimate", b), ("se", se), ("df", df)):
        found = [columns[f"{kind}.{name}"][r] for name in names]
        np.testing.assert_allclose(found, np.broadcast_to(values, len(names)), rtol=1e-7, err_msg=kind)


def check_dense(columns: dict[str, Any], r: int, dense: Dense, names: list[str]) -> None:
    """Estimates, standard errors and Bell and McCaffrey's df, of a sum and of a joint test too; the last two names take part."""
    p = len(names)
    df = [dense.htz(row[None])[0] for row in np.eye(p)]
    check(columns, r, names, dense.b, np.sqrt(np.diag(dense.vcov)), df)
    row = np.eye(p)[-2:] if p == 2 else np.eye(p)[[1, 3]]
    total = row.sum(axis=0)
    check(
        columns, r, ["slope in arm 1"], total @ dense.b, np.sqrt(total @ dense.vcov @ total), dense.htz(total[None])[0]
    )
    df, scale = dense.htz(row)
    F = (row @ dense.b) @ np.linalg.solve(row @ dense.vcov @ row.T, row @ dense.b) * scale / 2
    expected = stats.f.sf(F, 2, df) if df > 0 else np.nan
    np.testing.assert_allclose(columns["p.both"][r], expected, rtol=1e-6)


TERMS = ["Intercept", "x", "arm", "x:arm"]


@pytest.mark.parametrize("kind", KINDS)
def test_robust_least_squares_against_rows(kind):
    work = compiled([{"name": "a", "estimator": "ols", "robust": kind, "df": "bell-mccaffrey"}])
    (columns,) = work.replicates(0, 8)
    for r in REPLICATES:
        y, X, g = matrices(work.frame(r))
        check_dense(columns, r, Dense(y, X, g, kind=kind), TERMS)


@pytest.mark.parametrize("kind", KINDS)
def test_robust_mixed_models_against_rows(kind):
    """At the fit's own variances, singular fits too."""
    work = compiled([{"name": "a", "robust": kind, "df": "bell-mccaffrey"}])
    (columns,) = work.replicates(0, 12)
    assert {Status.ok, Status.singular} <= set(columns["status"])
    for r in range(12):
        y, X, g = matrices(work.frame(r))
        names = ("var:school:Intercept", "cov:school:Intercept:x", "var:school:x", "var:residual")
        intercept, covariance, slope, residual = (columns[f"estimate.{name}"][r] for name in names)
        G = np.array([[intercept, covariance], [covariance, slope]])
        V = (g[:, None] == g) * (X[:, :2] @ G @ X[:, :2].T) + residual * np.eye(len(y))
        dense = Dense(y, X, g, kind=kind, V=V / residual)
        check_dense(columns, r, dense, TERMS)


@pytest.mark.parametrize("kind", KINDS)
def test_robust_fixed_effects_against_rows_with_dummies(kind):
    work = compiled([{"name": "a", "estimator": "fixed-effects", "robust": kind, "df": "bell-mccaffrey"}])
    (columns,) = work.replicates(0, 8)
    assert not {"estimate.arm", "estimate.Intercept", "se.arm"} & set(columns), "absorbed"
    for r in REPLICATES:
        y, X, g = matrices(work.frame(r))
        dense = Dense(y, np.column_stack([X[:, [1, 3]], g[:, None] == np.unique(g)]), g, kind=kind)
        check_dense(columns, r, _first(dense, 2), ["x", "x:arm"])


def _first(dense: Dense, p: int) -> Dense:
    dense.b, dense.vcov, dense.loads = dense.b[:p], dense.vcov[:p, :p], [load[:, :p] for load in dense.loads]
    return dense


def test_models_own_standard_errors_against_statsmodels():
    """OLS, OLS with dummies, OLS and WLS of the cluster means, whose s2 is not of the rows."""
    means = {"estimator": "cluster-means", "formula": "y ~ arm"}
    work = compiled([{"name": "ols", "estimator": "ols"}, {"name": "fe", "estimator": "fixed-effects"}, {"name": "cm", **means},
                     {"name": "weighted", **means, "weights": "size"}])  # fmt: skip
    ols, fe, cm, weighted = work.replicates(0, 8)
    for r in REPLICATES:
        frame = work.frame(r)
        y, X, g = matrices(frame)
        found = sm.OLS(y, X).fit()
        check(ols, r, TERMS, found.params, found.bse, found.df_resid)
        assert ols["estimate.var:residual"][r] == pytest.approx(found.scale)
        found = sm.OLS(y, np.column_stack([X[:, [1, 3]], g[:, None] == np.unique(g)])).fit()
        check(fe, r, ["x", "x:arm"], found.params[:2], found.bse[:2], found.df_resid)
        assert fe["estimate.var:residual"][r] == pytest.approx(found.scale)
        mean, arm = (frame.groupby("school")[name].mean().to_numpy() for name in ("y", "arm"))
        found = sm.OLS(mean, sm.add_constant(arm)).fit()
        check(cm, r, ["Intercept", "arm"], found.params, found.bse, len(SIZES) - 2)
        found = sm.WLS(mean, sm.add_constant(arm), weights=SIZES).fit()
        check(weighted, r, ["Intercept", "arm"], found.params, found.bse, len(SIZES) - 2)
    for columns in (cm, weighted):
        assert "estimate.var:residual" not in columns
    for columns in (fe, cm):
        assert np.isnan(columns["deviance"]).all()


def test_cluster_means_are_scipys_t_test():
    work = compiled([{"name": "cm", "estimator": "cluster-means", "formula": "y ~ arm"}])
    (columns,) = work.replicates(0, 8)
    for r in range(8):
        means = work.frame(r).groupby("school")[["y", "arm"]].mean()
        expected = stats.ttest_ind(means["y"][means["arm"] == 1], means["y"][means["arm"] == 0])
        t, df = columns["estimate.arm"][r] / columns["se.arm"][r], columns["df.arm"][r]
        assert t == pytest.approx(expected.statistic, rel=1e-8)
        assert 2 * stats.t.sf(abs(t), df) == pytest.approx(expected.pvalue, rel=1e-8)


def test_cr2_of_two_balanced_arms_is_the_t_test_of_the_means():
    """In closed form: equal clusters leave the variance of the means and J - 2 degrees of freedom, of OLS and of REML."""
    methods = [
        {"name": "cm", "estimator": "cluster-means"},
        {"name": "ols", "estimator": "ols", "robust": "CR2"},
        {"name": "reml", "robust": "CR2"},
    ]
    work = compiled(
        [m | {"formula": "y ~ arm + (1 | school)"} for m in methods], design={"clusters": 8, "cluster_size": 6}
    )
    means, *others = work.replicates(0, 30)
    for columns in others:
        for name in ("estimate.arm", "se.arm", "df.arm"):
            np.testing.assert_allclose(columns[name], means[name], rtol=1e-7)
    assert (means["df.arm"] == 6).all()


def test_other_rules():
    """z, residual, clusters - 1 and, of mixed models, between-within df share one standard error; a joint test is by F."""
    rules = ["z", "residual", "clusters", "bell-mccaffrey"]
    work = compiled([{"name": "a", "estimator": "ols", "robust": "CR1", "df": rules},
                     {"name": "b", "robust": "CR1", "df": [*rules, "between-within"]}])  # fmt: skip
    ols, mixed = work.replicates(0, 8)
    for columns in (ols, mixed):
        assert (columns["df.x/z"] == np.inf).all()
        assert (columns["df.x/residual"] == sum(SIZES) - 4).all()
        assert (columns["df.x/clusters"] == len(SIZES) - 1).all()
        assert not any(name.startswith("se.x/") for name in columns)
    assert (mixed["df.x/between-within"] == len(SIZES) - 2).all()
    y, X, g = matrices(work.frame(0))
    dense, rows = Dense(y, X, g, kind="CR1"), np.eye(4)[[1, 3]]
    F = (rows @ dense.b) @ np.linalg.solve(rows @ dense.vcov @ rows.T, rows @ dense.b) / 2
    assert ols["p.both/clusters"][0] == pytest.approx(stats.f.sf(F, 2, len(SIZES) - 1), rel=1e-6)
    assert ols["p.both/z"][0] == pytest.approx(stats.chi2.sf(2 * F, 2), rel=1e-6)


def test_a_formula_needs_no_random_part_and_a_random_part_changes_nothing():
    work = compiled([{"name": "a", "estimator": "ols"}, {"name": "b", "estimator": "ols", "formula": "y ~ x * arm"},
                     {"name": "c", "estimator": "ols", "formula": "y ~ arm"}])  # fmt: skip
    a, b, c = work.replicates(0, 8)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    y, X, _ = matrices(work.frame(5))
    found = sm.OLS(y, X[:, [0, 2]]).fit()
    check(c, 5, ["Intercept", "arm"], found.params, found.bse, found.df_resid)


def test_rows_and_priors():
    """Where the truth multiplies level-1 predictors rows are drawn; where it has priors each replicate has its own truth."""
    table = study([{"name": "a", "estimator": "ols", "robust": "CR2"}, {"name": "b", "estimator": "fixed-effects"}])
    table["contrast"] = []
    table["truth"]["formula"] = "y ~ x * w + arm + (1 | school)"
    table["truth"]["fixed"] = {
        "Intercept": 5,
        "x": {"distribution": "normal", "mean": 0.2, "sd": 1},
        "w": 0,
        "x:w": 0.5,
        "arm": 1,
    }
    table["truth"]["random"] = {"school": {"variance": {"Intercept": 1}}}
    table["predictors"]["w"] = {"level": 1, "distribution": "normal"}
    file = StudyFile.from_dict(table)
    work = compile_condition(file.conditions()[0], file.methods())
    ols, fe = work.replicates(0, 8)
    for r in REPLICATES:
        frame = work.frame(r)
        y, g = frame["y"].to_numpy(), frame["school"].to_numpy()
        inner = np.column_stack([frame["x"], frame["w"], frame["x"] * frame["w"]])
        dense = Dense(y, np.column_stack([np.ones(len(y)), inner[:, :2], frame["arm"], inner[:, 2]]), g, kind="CR2")
        df = [dense.htz(row[None])[0] for row in np.eye(5)]
        check(ols, r, ["Intercept", "x", "w", "arm", "x:w"], dense.b, np.sqrt(np.diag(dense.vcov)), df)
        found = sm.OLS(y, np.column_stack([inner, g[:, None] == np.unique(g)])).fit()
        check(fe, r, ["x", "w", "x:w"], found.params[:3], found.bse[:3], found.df_resid)


METHODS = [
    {"name": "ols", "estimator": "ols", "robust": "CR2"},
    {"name": "fe", "estimator": "fixed-effects", "robust": "CR1"},
    {"name": "cm", "estimator": "cluster-means", "robust": "CR2", "formula": "y ~ arm"},
    {"name": "weighted", "estimator": "cluster-means", "weights": "size"},
    {"name": "mixed", "robust": "CR2"},
]


def test_part_of_a_block_is_the_whole_blocks():
    """To the last bit, in whatever ranges a run is cut."""
    work = compiled(METHODS)
    whole = work.replicates(0, 40)
    for first, last in ((7, 19), (39, 40)):
        for full, part in zip(whole, work.replicates(first, last), strict=True):
            for name, values in part.items():
                np.testing.assert_array_equal(values, full[name][first:last], err_msg=name)


# -- clusters that are absent, effects that no sandwich can judge ----------------------------------------------------------


def without(work: CompiledCondition, keep: list[int]) -> Any:
    """A block in which only some clusters have rows."""
    draw = work.draw(0)
    kept = np.isin(np.arange(work.source.design.clusters), keep).astype(float)[:, None]
    return replace(draw, dd=draw.dd * kept[:, :, None], de=draw.de * kept[:, :, None], ee=draw.ee * kept)


@pytest.mark.parametrize("method", METHODS[:4], ids=lambda m: m["name"])
def test_clusters_without_rows_are_absent(method):
    """The same as a study of the remaining rows, where clusters may be lost."""
    work = compiled([method], missing={"clusters": 1e-9})
    keep = [0, 2, 3, 4, 5, 7]
    found = work.analyse(without(work, keep), 0, 0, 0, 3)
    columns = found.columns(0, work.condition.block_size)
    frame = work.frame(2)
    frame = frame[(frame["school"] - 1).isin(keep)]
    y, X, g = matrices(frame)
    n = len(keep)
    if method["name"] in ("cm", "weighted"):
        means = frame.groupby("school").mean().reset_index()
        y, X, g = means["y"].to_numpy(), np.column_stack([np.ones(n), means["arm"]]), np.arange(n)
    if method["name"] == "weighted":
        _, X, _ = matrices(frame)
        X = pd.DataFrame(X).groupby(frame["school"].to_numpy()).mean().to_numpy()
        found = sm.WLS(y, X, weights=np.array(SIZES)[keep]).fit()
        check(
            columns,
            2,
            TERMS,
            found.params,
            found.bse,
            n - 4,
        )
        return
    if method["name"] == "fe":
        X = np.column_stack([X[:, [1, 3]], g[:, None] == np.unique(g)])
    dense = Dense(y, X, g, kind=method["robust"])
    names = {"ols": TERMS, "fe": ["x", "x:arm"], "cm": ["Intercept", "arm"]}[method["name"]]
    p = len(names)
    df = [dense.htz(row[None])[0] for row in np.eye(len(dense.b))[:p]] if method["robust"] == "CR2" else n - 1
    np.testing.assert_allclose([found.estimate[name][2] for name in names], dense.b[:p], rtol=1e-7)
    check(columns, 2, names, dense.b[:p], np.sqrt(np.diag(dense.vcov))[:p], df)


@pytest.mark.parametrize("kind", KINDS)
def test_one_cluster_left_has_no_robust_inference(kind):
    """Estimates, and no test: a failed inference, never a rejection."""
    rules = ["bell-mccaffrey", "clusters", "z"]
    work = compiled([{"name": "a", "estimator": "ols", "formula": "y ~ x", "robust": kind, "df": rules}])
    found = work.analyse(without(work, [5]), 0, 0, 0, 3)
    assert (found.status == Status.ok).all()
    for rule in rules:
        assert np.isnan(found.inferred[f"df.x/{rule}"]).all()
        assert (found.inferred[f"inference/{rule}"] == InferenceStatus.no_df).all()


def test_no_cluster_left_is_a_failed_fit():
    work = compiled(METHODS[:4])
    for m in range(4):
        found = work.analyse(without(work, []), m, 0, 0, 3)
        assert is_failed(found.status).all()
        assert (found.inferred["inference"] == InferenceStatus.no_fit).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_cluster_an_arm_has_no_robust_test_of_the_arm(kind):
    """Its scores are 0 whatever the data, and a standard error of 0 would reject always."""
    method = {"name": "a", "estimator": "ols", "formula": "y ~ arm", "robust": kind, "df": ["z", "bell-mccaffrey"]}
    truth = {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 0, "arm": 0},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 1}}},
    }
    arm = {"level": 2, "distribution": "balanced"}
    work = compiled([method], design={"clusters": 2, "cluster_size": 20}, predictors={"arm": arm}, truth=truth)
    (columns,) = work.replicates(0, 20)
    for rule in ("z", "bell-mccaffrey"):
        assert np.isnan(columns[f"df.arm/{rule}"]).all()
        assert (columns[f"inference/{rule}"] == InferenceStatus.no_df).all()


def test_cluster_means_leave_out_what_averages_to_nothing():
    """within(x) and its product with the arm are 0 in every mean; the rest is OLS of the observed rows' means."""
    truth = study([])["truth"] | {
        "formula": "y ~ within(x) * arm + between(x) + (1 | school)",
        "fixed": {"Intercept": 0, "within(x)": 0.5, "arm": 2, "between(x)": 1, "within(x):arm": 0.3},
        "random": {"school": {"variance": {"Intercept": 1}}},
    }
    file = StudyFile.from_dict(
        study([{"name": "cm", "estimator": "cluster-means"}], truth=truth, contrast=[], missing={"rows": 0.2})
    )
    work = compile_condition(file.conditions()[0], file.methods())
    (columns,) = work.replicates(0, 10)
    assert "estimate.within(x)" not in columns
    assert "estimate.within(x):arm" not in columns
    for r in REPLICATES:
        means = work.frame(r).groupby("school")[["y", "arm", "x"]].mean()
        fit = sm.OLS(means["y"], sm.add_constant(means[["arm", "x"]])).fit()
        check(columns, r, ["Intercept", "arm", "between(x)"], fit.params, fit.bse, fit.df_resid)


def test_means_of_a_balanced_predictor_are_rank_deficient():
    predictors = {"x": {"level": 1, "distribution": "balanced"}, "arm": {"level": 2, "distribution": "balanced"}}
    methods = [
        {"name": "cm", "estimator": "cluster-means", "formula": "y ~ x"},
        {"name": "fe", "estimator": "fixed-effects", "formula": "y ~ x"},
    ]
    work = compiled(methods, predictors=predictors, design={"clusters": 8, "cluster_size": 4}, contrast=[])
    cm, fe = work.replicates(0, 5)
    assert (cm["status"] == Status.rank_deficient).all()
    assert (fe["status"] == Status.ok).all()
    assert fe["df.x"][0] == 8 * 4 - 8 - 1


# -- a run ---------------------------------------------------------------------------------------------------------------------


def test_summary_has_what_each_method_estimates(tmp_path):
    """No zeros for what it does not: variances of least squares, absorbed terms, the rows' variance by means."""
    methods = [*METHODS, {"name": "reml"}]
    results = nl.Study.from_dict(study(methods)).run(out=tmp_path / "r")
    found = results.summary()
    estimands = {name: set(rows["estimand"]) - {""} for name, rows in found.groupby("method")}
    fixed = {"Intercept", "x", "arm", "x:arm", "slope in arm 1", "both"}
    residual = {"var:residual", "sd:residual"}
    assert estimands["ols"] == fixed | residual
    assert estimands["fe"] == {"x", "x:arm", "slope in arm 1", "both"} | residual
    assert estimands["cm"] == {"Intercept", "arm"}
    assert estimands["weighted"] == fixed
    assert estimands["mixed"] == estimands["reml"] > fixed | residual | {"icc", "var:school:x"}
    values = results.replicates(method="cm")
    assert values["estimate.var:residual"].isna().all()
    robust, model = results.replicates(method="mixed"), results.replicates(method="reml")
    np.testing.assert_array_equal(robust["estimate.x"], model["estimate.x"])
    assert (robust["se.x"] != model["se.x"]).all()


def test_a_changed_key_is_refused_under_the_old_name(tmp_path):
    nl.Study.from_dict(study([METHODS[0]])).run(out=tmp_path / "r")
    for change in ({"robust": "CR1"}, {"robust": None}):
        method = {key: value for key, value in (METHODS[0] | change).items() if value is not None}
        with pytest.raises(RefusedError, match=r"method\.ols\.robust: stored 'CR2', now"):
            nl.Study.from_dict(study([method])).run(out=tmp_path / "r")


def test_report_names_the_methods():
    methods = {m.name: dict(_items(m)) for m in StudyFile.from_dict(study(METHODS)).methods()}
    assert methods["ols"]["estimator"] == "least squares that ignores clusters"
    assert methods["fe"]["formula"] == "y ~ 0 + x + x:arm"
    assert "which absorb every term that is constant within clusters" in methods["fe"]["estimator"]
    assert methods["weighted"]["estimator"] == "least squares on the means of the clusters, weighted by their sizes"
    assert methods["mixed"]["estimator"].startswith("linear mixed model by REML")
    assert methods["mixed"]["standard errors"].startswith("CR2, cluster-robust, bias-reduced")
    assert "Bell and McCaffrey's df" in methods["mixed"]["degrees of freedom"]
    assert "standard errors" not in methods["weighted"]


def test_error_rates_of_six_analyses_of_one_trial(tmp_path):
    """Ten unequal clusters, ICC .2, no effect. Bounds are 4 MCSE about the level for tests that keep it; others are far above."""
    methods = [
        {"name": "ols", "estimator": "ols"},
        {"name": "cr0", "estimator": "ols", "robust": "CR0", "df": "z"},
        {"name": "cr2", "estimator": "ols", "robust": "CR2"},
        {"name": "means", "estimator": "cluster-means"},
        {"name": "reml"},
        {"name": "ml", "reml": False, "df": "z"},
        {"name": "narrow", "formula": "y ~ arm + (0 + w | school)"},
    ]
    predictors = {"arm": {"level": 2, "distribution": "balanced"}, "w": {"level": 1, "distribution": "normal"}}
    truth = {"formula": "y ~ arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0}, "residual_variance": 0.8,
             "random": {"school": {"variance": {"Intercept": 0.2}}}}  # fmt: skip
    table = study(methods, predictors=predictors, truth=truth, contrast=[], replications=4000,
                  design={"clusters": 10, "cluster_size": [10, 12, 15, 18, 20, 20, 22, 25, 28, 30]})  # fmt: skip
    s = nl.Study.from_dict(table).run(out=tmp_path / "r").summary()
    rate = s[(s["measure"] == "power") & (s["estimand"] == "arm") & (s["subset"] == "all")].set_index("method")
    assert (rate["n"] == 4000).all()
    for name in ("cr2", "means"):
        assert abs(rate.loc[name, "value"] - 0.05) < 4 * rate.loc[name, "mcse"], (name, rate.loc[name, "value"])
    assert rate.loc["ols", "value"] > 0.35
    assert rate.loc["narrow", "value"] > 0.35, "a random slope is no substitute for the intercept"
    assert 0.10 < rate.loc["cr0", "value"] < 0.20
    assert rate.loc["ml", "value"] > rate.loc["reml", "value"] + 4 * rate.loc["reml", "mcse"]


def test_fixed_effects_absorb_arms_of_level_1() -> None:
    """Level 1 lets an arm have random effects; it is constant within clusters all the same. So is a schedule without steps."""
    for predictor in (
        {"distribution": "arms", "clusters": [4, len(SIZES) - 4], "level": 1},
        {"distribution": "schedule", "sequences": [[0] * max(SIZES), [1] * max(SIZES)]},
    ):
        table = study([{"name": "fe", "estimator": "fixed-effects"}], replications=5)
        table["predictors"] = {**table["predictors"], "arm": predictor}
        made = StudyFile.from_dict(table)
        (method,), (condition,) = made.methods(), made.conditions()
        assert method.formula.fixed == ("x", "x:arm")
        rows = compile_condition(condition, [method]).replicates(0, 5)[0]
        assert (rows["status"] == Status.ok).all()
