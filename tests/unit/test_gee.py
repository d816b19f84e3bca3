"""GEE on rows: statsmodels called directly on the same frame gives the same; failures are kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.genmod.cov_struct import Autoregressive, Exchangeable, Independence
from statsmodels.genmod.generalized_estimating_equations import GEE

import nestlab as nl
from nestlab.fit.reference import fit_gee
from nestlab.fit.reference.gee import GeeTable
from nestlab.fit.status import Status

UNEQUAL: dict[str, Any] = {
    "name": "gee",
    "seed": 3,
    "replications": 5,
    "design": {"clusters": 9, "cluster_size": [3, 7, 5, 8, 4, 6, 5, 9, 3]},
    "truth": {
        "formula": "y ~ x * arm + (1 | school)",
        "fixed": {"Intercept": 2, "x": 0.5, "arm": 0.3, "x:arm": 0},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.5}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "arm": {"level": 2, "distribution": "balanced"},
    },
}
TERMS = ("Intercept", "x", "arm", "x:arm")
STRUCTURES = {
    "exchangeable": Exchangeable,
    "independence": Independence,
    "ar1": lambda: Autoregressive(grid=True),
}


def study(*methods: dict[str, Any], **changes: Any) -> nl.Study:
    tables = [{"name": f"m{k}", "estimator": "gee", **method} for k, method in enumerate(methods)]
    return nl.Study.from_dict({**copy.deepcopy(UNEQUAL), "method": tables, **changes})


def test_gee_equals_statsmodels_on_the_frame(tmp_path: Path) -> None:
    kinds = [(w, c) for w in STRUCTURES for c in ("robust", "naive", "bias_reduced")]
    made = study(*({"working": w, "covariance": c} for w, c in kinds))
    rows = made.run(out=tmp_path, jobs=1).replicates().set_index(["method", "replicate"])
    assert (rows["status"] == "ok").all()
    for replicate in range(5):
        frame = made.data(0, replicate)
        X = np.column_stack([np.ones(len(frame)), frame["x"], frame["arm"], frame["x"] * frame["arm"]])
        for k, (working, covariance) in enumerate(kinds):
            model = GEE(frame["y"].to_numpy(), X, groups=frame["school"].to_numpy(), cov_struct=STRUCTURES[working]())
            direct, row = model.fit(cov_type=covariance), rows.loc[(f"m{k}", replicate)]
            np.testing.assert_allclose([row[f"estimate.{t}"] for t in TERMS], direct.params, rtol=1e-9)
            np.testing.assert_allclose([row[f"se.{t}"] for t in TERMS], direct.bse, rtol=1e-9)
            np.testing.assert_allclose(row["estimate.var:residual"], direct.scale, rtol=1e-9)


def test_gee_degrees_of_freedom_and_contrasts(tmp_path: Path) -> None:
    joint = [{"x": 1}, {"x:arm": 1}]
    contrasts = [{"name": "slope", "weights": {"x": 1, "x:arm": 1}}, {"name": "both", "weights": joint}]
    made = study({"df": ["z", "residual", "between-within"]}, contrast=contrasts)
    row = made.run(out=tmp_path, jobs=1).replicates().iloc[0]
    expected = {"z": [np.inf] * 4, "residual": [46] * 4, "between-within": [7, 39, 7, 39]}
    for rule, df in expected.items():
        assert [row[f"df.{term}/{rule}"] for term in TERMS] == df
    assert row["df.slope/between-within"] == 39
    assert row["estimate.slope"] == pytest.approx(row["estimate.x"] + row["estimate.x:arm"])
    frame = made.data(0, 0)
    X = np.column_stack([np.ones(len(frame)), frame["x"], frame["arm"], frame["x"] * frame["arm"]])
    direct = GEE(frame["y"].to_numpy(), X, groups=frame["school"].to_numpy(), cov_struct=Exchangeable()).fit()
    wald = direct.wald_test(np.eye(4)[[1, 3]], scalar=True).statistic
    assert row["p.both/z"] == pytest.approx(stats.chi2.sf(wald, 2), rel=1e-6)
    assert row["se.slope"] == pytest.approx(float(direct.t_test([0, 1, 0, 1]).sd[0, 0]), rel=1e-9)


def test_gee_takes_the_fixed_part_of_a_formula(tmp_path: Path) -> None:
    made = study({"formula": "y ~ arm"}, {"formula": "y ~ arm + (1 + x | school)"})
    results = made.run(out=tmp_path, jobs=1)
    rows = results.replicates().set_index(["method", "replicate"])
    np.testing.assert_array_equal(rows.loc["m0", "estimate.arm"], rows.loc["m1", "estimate.arm"])
    summary = results.summary()
    assert set(summary["estimand"]) == {"", "Intercept", "arm", "var:residual", "sd:residual"}
    assert (summary.query("estimand == 'arm' and measure == 'power'")["n"] == 5).all()


def _data(seed: int = 1) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(8), 5)
    return (
        rng.normal(size=40) + rng.normal(size=8)[cluster],
        np.column_stack([np.ones(40), rng.normal(size=40)]),
        cluster,
    )


def test_gee_that_stops_short_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = GEE.fit
    monkeypatch.setattr(GEE, "fit", lambda self, **words: whole(self, ctol=-1, **words))
    found = fit_gee([_data()], 2, working="exchangeable", covariance="robust")
    assert found.fits.status.tolist() == [Status.not_converged]
    assert found.messages[0].startswith("no convergence in 6")
    assert np.isfinite(found.fits.beta).all(), "what it found is kept"
    assert found.warnings[0] >= 1, "statsmodels warns of it"


def test_gee_exceptions_are_kept_and_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = GEE.fit, iter([True, False])

    def fit(self: Any, **words: Any) -> Any:
        if next(calls):
            raise np.linalg.LinAlgError("Singular matrix")
        return whole(self, **words)

    monkeypatch.setattr(GEE, "fit", fit)
    found = fit_gee([_data(), _data(2)], 2, working="exchangeable", covariance="naive")
    assert found.fits.status.tolist() == [Status.method_error, Status.ok]
    assert found.messages.tolist() == ["LinAlgError: Singular matrix", None]
    assert np.isnan(found.fits.beta[0]).all()
    assert np.isfinite(found.fits.beta[1]).all()


def test_gee_of_dependent_columns_is_rank_deficient() -> None:
    y, X, cluster = _data()
    found = fit_gee([(y, np.column_stack([X, X[:, 1]]), cluster)], 3, working="ar1", covariance="robust")
    assert found.fits.status.tolist() == [Status.rank_deficient]
    assert found.messages.tolist() == ["columns are linear combinations of one another"]
    assert np.isnan(found.fits.sigma2).all()


def test_gee_counts_the_rows_and_clusters_of_each_data_set() -> None:
    y, X, cluster = _data()
    some = cluster != 3
    found = fit_gee([(y, X, cluster), (y[some], X[some], cluster[some])], 2, working="ar1", covariance="robust")
    assert found.rows.tolist() == [40, 35]
    assert found.clusters.tolist() == [8, 7]


# -- standard errors that are rounding ---------------------------------------------------------------------------------------


def _two_arms(clusters: Sequence[int], n: int = 8, seed: int = 1, x: float | None = None) -> GeeTable:
    """clusters: the arm of each. x: the mean of a predictor of rows, if there is one."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(len(clusters)), n)
    arm = np.repeat(np.array(clusters, dtype=float), n)
    X = np.column_stack([np.ones(len(arm)), arm, *([] if x is None else [x + rng.normal(size=len(arm))])])
    return 5 + rng.normal(size=len(clusters))[cluster] + rng.normal(size=len(arm)), X, cluster


ARM, ARM_X = np.array([[0.0, 1.0]]), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("working", STRUCTURES)
@pytest.mark.parametrize(("covariance", "told"), [("robust", True), ("bias_reduced", True), ("naive", False)])
def test_one_cluster_an_arm_has_no_robust_test(working: str, covariance: str, told: bool) -> None:
    """Its residuals sum to 0: the sandwich is rounding. The model's own standard error is not."""
    found = fit_gee([_two_arms([0, 1]), _two_arms([0, 0, 1, 1])], 2, working=working, covariance=covariance)
    assert found.silent(ARM).tolist() == [told, False]
    se = found.fits.se[:, 1]
    assert np.isnan(se[0]) or (se[0] < 1e-12) == (covariance == "robust")
    assert se[1] > 0.01


def test_one_cluster_in_one_of_two_arms() -> None:
    """The other arm's clusters tell a standard error; that of one alone, divided by 1 - leverage, is undefined."""
    data = [_two_arms([0, 0, 0, 1])]
    assert not fit_gee(data, 2, working="exchangeable", covariance="robust").silent(ARM)[0]
    assert fit_gee(data, 2, working="exchangeable", covariance="bias_reduced").silent(ARM)[0]


def test_several_hypotheses_need_more_clusters() -> None:
    """The scores of J clusters have rank J - 1."""
    data = [_two_arms(arms, x=0.0) for arms in ([0, 1], [0, 1, 1], [0, 0, 1, 1])]
    found = fit_gee(data, 3, working="exchangeable", covariance="robust")
    assert found.silent(ARM_X).tolist() == [True, False, False]


@pytest.mark.parametrize("mean", [1e3, 1e5, 1e6])
@pytest.mark.parametrize("covariance", ["robust", "naive", "bias_reduced"])
def test_a_predictor_far_from_0(covariance: str, mean: float) -> None:
    """As of the predictor less its mean, but for the Intercept; no hypothesis is taken for rounding."""
    y, X, cluster = _two_arms([0, 0, 0, 1, 1, 1], x=mean)
    at_0 = X - [0, 0, mean]
    found, near = (fit_gee([(y, x, cluster)], 3, working="exchangeable", covariance=covariance) for x in (X, at_0))
    np.testing.assert_allclose(found.fits.beta[0, 1:], near.fits.beta[0, 1:], rtol=1e-8)
    np.testing.assert_allclose(found.fits.se[0, 1:], near.fits.se[0, 1:], rtol=1e-8)
    assert not found.silent(ARM_X)[0]
    assert not any(found.silent(np.eye(3)[[i]])[0] for i in range(3))


def test_a_perfect_fit_is_a_status() -> None:
    _, X, cluster = _two_arms([0, 0, 1, 1])
    found = fit_gee([(X @ [3.0, 2.0], X, cluster)], 2, working="independence", covariance="robust")
    assert found.fits.status[0] == Status.nonfinite


def test_replicates_without_a_test_are_counted_and_end_nothing(tmp_path: Path) -> None:
    """Lost clusters leave arms with one or none: no rejection is rounding, and a joint contrast is not the end of the run."""
    made = study(
        {},
        design={"clusters": 6, "cluster_size": 6},
        replications=60,
        missing={"clusters": 0.5},
        contrast=[{"name": "both", "weights": [{"x": 1}, {"arm": 1}]}],
    )
    results = made.run(out=tmp_path, jobs=1)
    rows = results.replicates()
    few = rows["status"].eq("ok") & rows["clusters"].le(2)
    assert few.sum() > 3
    assert (rows.loc[few, "inference"] == "no_df").all()
    assert rows.loc[few, "p.both"].isna().all()
    tested = rows["df.arm"].notna()
    assert tested.sum() > 10
    assert (rows.loc[tested, "se.arm"] > 1e-4).all()
    found = results.summary().query("measure == 'power' and subset == 'all'").set_index("estimand")
    assert found.loc["arm", "n"] == tested.sum()
    assert found.loc["both", "n"] == rows["p.both"].notna().sum() < tested.sum() + 1
