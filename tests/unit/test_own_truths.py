"""Replicates with truths of their own: drawn alike whatever the way, measured about their own truths."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.measure.assurance import SPREAD, Drawn, power_spread, spread_basis
from nestlab.measure.performance import Estimates, MethodResults, summarise
from nestlab.run.block import compile_condition
from nestlab.simulate.priors import draw_truths
from nestlab.spec.identity import data_key
from nestlab.spec.study import StudyFile

NORMAL = {"distribution": "normal", "mean": 0.5, "sd": 0.3}
PRIORS: dict[str, Any] = {
    "slope_correlation": {"distribution": "uniform", "low": -0.5, "high": 0.9},
    "icc": {"distribution": "beta", "mean": 0.2, "sd": 0.1},
    "truth.residual_variance": {"distribution": "lognormal", "mean": 2, "sd": 0.5},
    "truth.fixed.x": NORMAL,
    "truth.fixed.z": {"distribution": "pilot", "estimate": 0.4, "se": 0.2},
}
STUDY: dict[str, Any] = {
    "name": "own-truths",
    "seed": 11,
    "replications": 40,
    "design": {"clusters": 12, "cluster_size": 8},
    "prior": PRIORS,
    "truth": {
        "formula": "y ~ x + z + w + (1 + x | school)",
        "fixed": {"Intercept": 3, "x": 0, "z": 0, "w": 1},
        "residual_variance": 2,
        "random": {"school": {"variance": {"Intercept": 1, "x": 0.5}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "z": {"level": 2, "distribution": "balanced"},
        "w": {"level": 1, "distribution": "normal", "mean": 1},
    },
    "method": [{"name": "reml"}, {"name": "without z", "formula": "y ~ x + w + (1 | school)", "df": "z"}],
    "contrast": [
        {"name": "both", "weights": {"x": 1, "z": -1}},
        {"name": "d", "weights": {"x": 2}, "standardise": "total"},
    ],
}
STUDY["method"][1]["name"] = "less"
PRODUCT = copy.deepcopy(STUDY)
PRODUCT["truth"]["formula"] = "y ~ x*w + z + (1 + x | school)"
PRODUCT["truth"]["fixed"] = {"Intercept": 3, "x": 0, "z": 0, "w": 1, "x:w": NORMAL}


def compiled(tables: dict[str, Any]) -> Any:
    file = StudyFile.from_dict(tables)
    (condition,) = file.conditions()
    return compile_condition(condition, file.methods())


@pytest.mark.parametrize("tables", [STUDY, PRODUCT], ids=["moments", "rows"])
def test_rows_are_those_behind_the_fit(tables: dict[str, Any]) -> None:
    """The rows of a replicate have its own truth, and fitting them gives what was stored."""
    found = compiled(tables)
    assert found.condition.path == ("moments" if tables is STUDY else "rows")
    draw = found.draw(0)
    for m, formula in enumerate(method.formula for method in found.methods):
        fits = found.analyses[m].fit(draw, 0, 3)
        for r in range(3):
            frame = found.frame(r, truth=True)
            fit = nl.fit(formula.text, frame)
            np.testing.assert_allclose([fit.beta[term] for term in formula.fixed], fits.beta[r], rtol=1e-6, atol=1e-7)
            assert fit.sigma**2 == pytest.approx(fits.sigma2[r], rel=1e-5)
            truths = draw.truths
            y = sum(
                value[r] * (frame[list(term.split(":"))].prod(axis=1) if term != "Intercept" else 1)
                for term, value in zip(truths.formula.fixed, truths.fixed, strict=True)
            )
            y += frame["u:Intercept"] + frame["u:x"] * frame["x"] + frame["e"]
            np.testing.assert_allclose(frame["y"], y, rtol=1e-9)
            own = {term: value[r] for term, value in zip(truths.formula.fixed, truths.fixed, strict=True)}
            assert frame["true.x"].unique() == [own["x"]]
            assert frame["true.both"].unique() == pytest.approx([own["x"] - own["z"]])


@pytest.mark.parametrize("tables", [STUDY, PRODUCT], ids=["moments", "rows"])
def test_a_replicate_is_the_unit_replicate_under_its_truth(tables: dict[str, Any]) -> None:
    """u = L w and e = sigma times unit errors, from the block's own stream; no other draw is touched."""
    found = compiled(tables)
    draw, truths = found.draw(1), draw_truths(found.condition, found.key, 1)
    unit = found.source.sampler(nl.simulate.streams.block_generator(11, found.key, 1), found.condition.block_size)
    np.testing.assert_array_equal(draw.dd, unit.dd)
    np.testing.assert_array_equal(draw.z, unit.z)
    for r in (0, 100, 511):
        C = np.array([[c[r] for c in row] for row in truths.covariance])
        np.testing.assert_allclose(draw.u[:, :, r], unit.u[:, :, r] @ np.linalg.cholesky(C).T, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(draw.ee[:, r], unit.ee[:, r] * truths.residual_variance[r], rtol=1e-12)
        np.testing.assert_allclose(
            draw.de[:, :, r], unit.de[:, :, r] * np.sqrt(truths.residual_variance[r]), rtol=1e-12
        )


def test_variances_and_correlations_on_their_ends() -> None:
    """A correlation of 1 and a variance of 0 leave a factor of lower rank."""
    found = compiled(STUDY)
    truths = draw_truths(found.condition, found.key, 0)
    R = len(truths.residual_variance)
    one, zero = np.ones(R), np.zeros(R)
    for covariance in (((one, one), (one, one)), ((zero, zero), (zero, one)), ((4 * one, zero), (zero, zero))):
        drawn = found.source.sampler(nl.simulate.streams.block_generator(1, found.key, 0), R)
        unit = drawn.u.copy()
        flat = replace(truths, covariance=covariance)
        u = nl.simulate.priors.with_truths(drawn, flat).u
        C = np.array([[c[0] for c in row] for row in covariance])
        L = nl.simulate.layout.lower_factor(C)
        np.testing.assert_allclose(u[:, :, 0], unit[:, :, 0] @ L.T, atol=1e-14)


def test_a_narrow_prior_is_its_mean(tmp_path: Path) -> None:
    """As the priors' sds go to 0, the replicates become those of one truth, drawn in the same stream."""
    narrow = copy.deepcopy(STUDY)
    narrow["prior"] = {"truth.fixed.x": {**NORMAL, "sd": 1e-12}}
    found = compiled(narrow)
    truth = found.condition.truth
    L = np.linalg.cholesky(truth.covariance)
    unit = found.source.sampler(nl.simulate.streams.block_generator(11, found.key, 0), found.condition.block_size)
    draw = found.draw(0)
    np.testing.assert_allclose(draw.u, np.einsum("ik,jkr->jir", L, unit.u), rtol=1e-12, atol=1e-14)
    fits = found.analyses[0].fit(draw, 0, 5)
    gram = replace(draw, truths=None)
    np.testing.assert_allclose(found.analyses[0].fit(gram, 0, 5).beta, fits.beta, atol=1e-9)


def test_large_effects_keep_their_digits(tmp_path: Path) -> None:
    """The condition's truth is never added to y: an intercept of 1e9 beside a prior loses nothing."""
    tables = copy.deepcopy(STUDY)
    tables["truth"]["fixed"]["Intercept"] = 1e9
    far = compiled(tables)
    near = compiled(STUDY)
    draw = replace(far.source, key=near.key).draw(0)
    a, b = far.analyses[0].fit(draw, 0, 5), near.analyses[0].fit(near.draw(0), 0, 5)
    np.testing.assert_allclose(a.beta[:, 1:], b.beta[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(a.sigma2, b.sigma2, rtol=1e-12)


# -- runs ------------------------------------------------------------------------------------------------------------------


def run(tables: dict[str, Any], folder: Path, **options: Any) -> nl.Results:
    return nl.Study.from_dict(tables).run(out=folder, **options)


def test_invariance(tmp_path: Path) -> None:
    """Workers, extension and a new level of the grid change no stored replicate; conditions without a prior are as they were."""
    tables = {**copy.deepcopy(STUDY), "replications": 1100}
    one = run(tables, tmp_path / "one", jobs=1).replicates()
    run({**tables, "replications": 30}, tmp_path / "two", jobs=2)
    two = run(tables, tmp_path / "two", jobs=2).replicates()
    pd.testing.assert_frame_equal(one, two.sort_values(["method", "replicate"], key=_order(one), ignore_index=True))
    plain = {**copy.deepcopy(STUDY), "prior": {}, "grid": {"icc": [0.2]}}
    with_prior = {**plain, "grid": {"icc": [0.2, PRIORS["icc"]]}}
    before = run(plain, tmp_path / "plain").replicates()
    after = run(with_prior, tmp_path / "prior").replicates(condition=0)
    shared = [c for c in before.columns if c != "icc"]
    pd.testing.assert_frame_equal(before[shared], after[shared])
    more = run(with_prior, tmp_path / "plain")
    assert set(more.conditions()["icc"]) == {"0.2", "beta(0.2, 0.1)"}
    summary = more.summary()
    numbers = summary[summary["condition"] == 0]
    assert not numbers["measure"].isin(SPREAD).any()
    assert summary.loc[summary["condition"] == 1, "measure"].isin(SPREAD).any()


def _order(frame: pd.DataFrame) -> Any:
    places = {name: place for place, name in enumerate(frame["method"].unique())}
    return lambda column: column.map(places) if column.name == "method" else column


def test_stored_columns(tmp_path: Path) -> None:
    """What differs between replicates is stored with each; the condition has the truth at the means."""
    results = run({**copy.deepcopy(STUDY), "replications": 600}, tmp_path)
    rows = results.replicates(method="reml")
    own = {c.removeprefix("true.") for c in rows if c.startswith("true.")}
    assert own == {
        *("x", "z", "both", "d", "var:school:Intercept", "cov:school:Intercept:x", "var:residual"),
        *("sd:school:Intercept", "sd:residual", "cor:school:Intercept:x", "icc"),
    }
    np.testing.assert_allclose(rows["true.both"], rows["true.x"] - rows["true.z"])
    total = rows["true.var:school:Intercept"] + rows["true.var:residual"]
    np.testing.assert_allclose(rows["true.d"], 2 * rows["true.x"] / np.sqrt(total))
    np.testing.assert_allclose(rows["true.icc"], rows["prior.icc"])
    np.testing.assert_allclose(rows["true.cor:school:Intercept:x"], rows["prior.slope_correlation"], atol=1e-12)
    condition = results.conditions().iloc[0]
    assert condition["true.x"] == 0.5
    assert condition["true.icc"] == pytest.approx(0.2)
    assert results.priors()["icc"] == ["beta(0.2, 0.1)"]
    summary = results.summary()
    chosen = summary[(summary["estimand"] == "icc") & (summary["subset"] == "all") & (summary["method"] == "reml")]
    bias = chosen.set_index("measure").loc["bias"]
    assert bias["value"] == pytest.approx((rows["estimate.icc"] - rows["true.icc"]).mean(), rel=1e-9)


def test_what_has_no_truth_in_any_replicate(tmp_path: Path) -> None:
    """A correlation at a slope variance of 0 stays undefined; a condition without the prior keeps its number."""
    tables = {**copy.deepcopy(STUDY), "prior": {}, "grid": {"icc": [0.3, PRIORS["icc"]]}}
    tables["truth"]["random"] = {"school": {"variance": {"x": 0}}}
    results = run(tables, tmp_path)
    rows = results.replicates()
    assert rows["true.var:school:Intercept"].isna().equals(rows["icc"] == "0.3")
    assert "true.cor:school:Intercept:x" not in rows or rows["true.cor:school:Intercept:x"].isna().all()
    found = (
        results.summary().query("subset == 'all' and method == 'reml'").set_index(["estimand", "measure", "condition"])
    )
    assert ("cor:school:Intercept:x", "bias", 1) not in found.index
    own = rows[(rows["icc"] != "0.3") & (rows["method"] == "reml")]
    bias = (own["estimate.var:school:Intercept"] - own["true.var:school:Intercept"]).mean()
    assert found.loc[("var:school:Intercept", "bias", 1), "value"] == pytest.approx(bias)
    plain = rows[(rows["icc"] == "0.3") & (rows["method"] == "reml")]["estimate.icc"]
    assert found.loc[("icc", "bias", 0), "value"] == pytest.approx(plain.mean() - 0.3)


def test_other_methods_see_the_same_truths(tmp_path: Path) -> None:
    """Likelihood ratio tests, the bootstrap, profile limits and statsmodels work from the same Grams and rows."""
    tables = {**copy.deepcopy(STUDY), "replications": 6}
    random = {"school": {"variance": {"Intercept": 1}}}
    tables["truth"] = {**tables["truth"], "formula": "y ~ x + z + w + (1 | school)", "random": random}
    tables["prior"] = {k: v for k, v in PRIORS.items() if k != "slope_correlation"}
    tables["method"] = [
        {"name": "reml", "variance_intervals": "profile"},
        {"name": "lrt", "reml": False, "compare": "y ~ z + w + (1 | school)"},
        {"name": "boot", "intervals": "bootstrap", "draws": 19},
        {"name": "sm", "estimator": "statsmodels", "df": "z"},
    ]
    del tables["contrast"]
    rows = run(tables, tmp_path).replicates().set_index(["method", "replicate"])
    reml = rows.loc["reml"]
    converged = rows.loc["sm"]["status"] == "ok"
    assert converged.sum() >= 4
    np.testing.assert_allclose(rows.loc["sm"]["estimate.x"][converged], reml["estimate.x"][converged], atol=2e-3)
    np.testing.assert_allclose(rows.loc["boot"]["estimate.x"], reml["estimate.x"])
    assert (
        (rows.loc["boot"]["lower.x"] < reml["estimate.x"]) & (reml["estimate.x"] < rows.loc["boot"]["upper.x"])
    ).all()
    wald = ((reml["estimate.x"]) / reml["se.x"]) ** 2
    assert np.corrcoef(np.log(wald), np.log(rows.loc["lrt"]["p.x"]))[0, 1] < -0.5
    assert (reml["lower.var:residual"] < reml["estimate.var:residual"]).all()
    for name in ("lrt", "boot", "sm"):
        np.testing.assert_array_equal(rows.loc[name]["true.x"], reml["true.x"])


def test_what_people_read(tmp_path: Path) -> None:
    """A line says what power is averaged over; --truth writes the replicate's own truth."""
    tables = {**copy.deepcopy(STUDY), "replications": 200, "prior": {"icc": PRIORS["icc"]}, "grid": {"clusters": [10]}}
    run(tables, tmp_path)
    whole, rows = (nestlab("summary", tmp_path, *more) for more in ([], ["--measure", "power"]))
    for shown in (whole, rows):
        assert (
            "power (assurance), coverage and bias are averaged over the prior of icc (beta(0.2, 0.1)); power_q10 and power_q90: "
            "quantiles of the power given what is drawn"
        ) in shown
    assert "power_q10 d" in whole
    out = tmp_path / "rows.csv"
    nestlab("simulate", tmp_path, "--condition", "0", "--replicate", "3", "--truth", "--out", out)
    frame = pd.read_csv(out)
    stored = nl.Results(tmp_path).replicates(method="reml").loc[3]
    own = "true.var:school:Intercept"
    assert frame[own].iloc[0] == pytest.approx(stored[own], rel=1e-12)


def nestlab(*arguments: str | Path) -> str:
    """What a command prints, on one line."""
    command = [sys.executable, "-W", "error", "-m", "nestlab", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    return " ".join(done.stdout.split())


# -- measures --------------------------------------------------------------------------------------------------------------


def results(n: int = 400, *, missing: bool = False) -> tuple[MethodResults, dict[str, Any]]:
    g = np.random.default_rng(3)
    theta = g.normal(0.4, 0.3, n)
    x, se = theta + g.normal(0.02, 0.2, n), g.uniform(0.15, 0.25, n)
    lower, upper = x - 1.5 * se, x + 2.5 * se
    if missing:
        theta[:7] = np.nan
    none = np.zeros(n, dtype=bool)
    found = {
        "x": Estimates(x, se=se, df=np.full(n, 10.0), truth=theta),
        "ends": Estimates(x, se=se, df=np.full(n, 10.0), lower=lower, upper=upper, truth=theta, null=0.1),
    }
    method = MethodResults("m", np.arange(n), ~none, none, none, found, drawn=Drawn([np.nan_to_num(theta)]))
    return method, {"theta": theta, "x": x, "se": se, "lower": lower, "upper": upper}


def values(table: pd.DataFrame, estimand: str) -> pd.Series:
    chosen = table[(table["estimand"] == estimand) & (table["subset"] == "all")]
    return chosen.set_index("measure")["value"]


def test_measures_about_own_truths() -> None:
    """Each measure by its definition."""
    method, d = results()
    table = summarise([method], {"x": 99.0, "ends": 99.0})
    found, ends = values(table, "x"), values(table, "ends")
    error = d["x"] - d["theta"]
    half = 2.228138851964939 * d["se"]
    rejects = np.abs(d["x"]) > half
    expected = {
        "mean": d["x"].mean(),
        "median": np.median(d["x"]),
        "bias": error.mean(),
        "relbias": 100 * error.mean() / d["theta"].mean(),
        "empse": error.std(ddof=1),
        "mse": (error**2).mean(),
        "rmse": np.sqrt((error**2).mean()),
        "modelse": np.sqrt((d["se"] ** 2).mean()),
        "relerror": 100 * (np.sqrt((d["se"] ** 2).mean()) / error.std(ddof=1) - 1),
        "cover": (np.abs(error) <= half).mean(),
        "below": (d["x"] + half < d["theta"]).mean(),
        "above": (d["x"] - half > d["theta"]).mean(),
        "becover": (np.abs(error - error.mean()) <= half).mean(),
        "width": 2 * half.mean(),
        "power": rejects.mean(),
        "type_s": (np.sign(d["x"]) != np.sign(d["theta"]))[rejects].mean(),
        "type_m": np.abs(d["x"])[rejects].mean() / np.abs(d["theta"])[rejects].mean(),
    }
    for measure, value in expected.items():
        assert found[measure] == pytest.approx(value, rel=1e-9), measure
    assert set(found.index) >= {*expected, *SPREAD}
    assert ends["cover"] == pytest.approx(((d["lower"] <= d["theta"]) & (d["theta"] <= d["upper"])).mean())
    assert ends["below"] == pytest.approx((d["upper"] < d["theta"]).mean())
    shifted = np.abs(d["x"] - 0.1) > half
    wrong = (d["x"] - 0.1) * (d["theta"] - 0.1) < 0
    assert ends["type_s"] == pytest.approx(wrong[shifted].mean())


def test_relative_precision_of_errors() -> None:
    method, d = results()
    part = method.estimands["x"]
    other = replace(method, name="n", estimands={"x": replace(part, estimate=d["theta"] + 2 * (d["x"] - d["theta"]))})
    table = summarise([replace(method, estimands={"x": part}), other], {})
    chosen = table[(table["measure"] == "relprec") & (table["method"] == "n") & (table["subset"] == "all")]
    assert chosen["value"].iloc[0] == pytest.approx(-75)


def test_mcse_over_repeated_studies() -> None:
    """MCSEs of what is new: bias, relbias, type_m about truths of their own."""
    found: dict[str, list[tuple[float, float]]] = {"bias": [], "relbias": [], "empse": [], "type_m": []}
    for seed in range(300):
        g = np.random.default_rng(seed)
        theta = g.normal(1, 0.5, 300)
        x = theta + g.normal(0.1, 0.4, 300)
        none = np.zeros(300, dtype=bool)
        part = Estimates(x, se=np.full(300, 0.4), df=np.inf, truth=theta)
        table = summarise([MethodResults("m", np.arange(300), ~none, none, none, {"x": part})], {})
        chosen = table[table["subset"] == "all"].set_index("measure")
        for measure, pairs in found.items():
            pairs.append((chosen.loc[measure, "value"], chosen.loc[measure, "mcse"]))
    for measure, pairs in found.items():
        value, mcse = np.array(pairs).T
        assert value.std(ddof=1) == pytest.approx(np.sqrt((mcse**2).mean()), rel=0.13), measure  # 300 studies: sd 4 %


def test_a_missing_truth_is_a_missing_result() -> None:
    method, _ = results(missing=True)
    table = summarise([method], {})
    chosen = table[(table["estimand"] == "x") & (table["subset"] == "all")].set_index("measure")
    assert chosen.loc["bias", "n"] == chosen.loc["cover", "n"] == 393
    assert np.isfinite(chosen.loc["bias", "value"])


def test_methods_that_ran_on_other_replicates() -> None:
    """Truths and draws are aligned with the replicates as all columns are."""
    method, d = results()
    half = 200
    part = method.estimands["x"]
    short = Estimates(part.estimate[half:], se=part.se[half:], df=part.df[half:], truth=part.truth[half:])
    none = np.zeros(half, dtype=bool)
    other = MethodResults(
        "n", np.arange(half, 2 * half), ~none, none, none, {"x": short}, drawn=Drawn([d["theta"][half:]])
    )
    both = summarise([replace(method, estimands={"x": part}), other], {})
    alone = summarise([other], {})
    chosen = both[(both["method"] == "n") & (both["subset"] == "all")].set_index(["estimand", "measure"])["value"]
    for key, value in alone[alone["subset"] == "all"].set_index(["estimand", "measure"])["value"].items():
        np.testing.assert_allclose(chosen[key], value, rtol=1e-9)


def test_draws_of_another_length_are_refused() -> None:
    method, _ = results()
    with pytest.raises(ValueError, match=r"drawn\[0\] has shape \(3,\); allowed is one value per replicate, \(400,\)"):
        replace(method, drawn=Drawn([np.zeros(3)]))


# -- spread ----------------------------------------------------------------------------------------------------------------


def test_spread_needs_rejections_and_their_absence() -> None:
    basis = spread_basis([np.linspace(0, 1, 500)])
    for hits in (0, 9, 491, 500):
        found = power_spread(np.arange(500) < hits, basis)
        assert all(np.isnan(m.value) and np.isnan(m.mcse) and m.n == 500 for m in found)
    assert all(np.isfinite(m.value) for m in power_spread(np.arange(500) < 10, basis))


def test_spread_of_separated_tests() -> None:
    """Power 0 below, 1 above: the spread of a coin, with an MCSE."""
    drawn = np.random.default_rng(1).normal(size=2000)
    sd, low, _, high = power_spread(drawn > 0, spread_basis([drawn]))
    assert sd.value == pytest.approx(0.5, abs=0.01)
    assert low.value == pytest.approx(0, abs=0.001)
    assert high.value == pytest.approx(1, abs=0.001)
    assert low.mcse > 0.5 / 2000


def test_basis_is_orthonormal() -> None:
    g = np.random.default_rng(2)
    drawn = [g.normal(size=1000), g.beta(2, 5, 1000), np.full(1000, 3.0)]
    B = spread_basis(drawn)
    assert len(B) <= 25
    np.testing.assert_allclose(B @ B.T / 1000, np.eye(len(B)), atol=1e-7)
    np.testing.assert_array_equal(spread_basis([np.full(50, 2.0)]), np.ones((1, 50)))


def test_spread_does_not_depend_on_units() -> None:
    g = np.random.default_rng(4)
    drawn = g.normal(size=1000)
    rejects = g.uniform(size=1000) < 1 / (1 + np.exp(-drawn))
    one, other = (power_spread(rejects, spread_basis([d])) for d in (drawn, 1e6 + 1e-3 * drawn))
    np.testing.assert_allclose([m.value for m in one], [m.value for m in other], rtol=1e-4)


def test_keys_of_streams_differ() -> None:
    """Priors draw from a stream of their own: no block's words."""
    found = compiled(STUDY)
    key = data_key(found.condition)
    streams = nl.simulate.streams
    words = [
        streams.prior_generator(11, key, 0).bit_generator.random_raw(2).tolist(),
        streams.block_generator(11, key, 0).bit_generator.random_raw(2).tolist(),
        streams.resampling_generator(11, key, 0, 0).bit_generator.random_raw(2).tolist(),
        streams.null_generator(11, key).bit_generator.random_raw(2).tolist(),
        streams.conditional_generator(11, key, 0, 0).bit_generator.random_raw(2).tolist(),
    ]
    assert len({tuple(w) for w in words}) == 5
