"""Binary and count outcomes: drawn as their family says, the same on every path, fitted as their rows say, failures counted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy import stats
from test_family_keys import NONE, POISSON, tables
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.simulate.outcomes import draw_outcomes
from nestlab.spec.family import Family, linear_predictor
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Truth

Changes = dict[str, Any]
BINOMIAL = [Family("binomial", link) for link in ("logit", "probit", "cloglog")]
LOG = Family("poisson", "log")


def small(changes: Changes, **more: Any) -> Changes:
    return tables({"replications": 20, "design": {"clusters": 10, "cluster_size": 8}, **changes, **more})


# -- draws -----------------------------------------------------------------------------------------------------------------


def drawn(family: Family, mean: float, *, trials: int = 1, exposure: float = 1.0, n: int = 40_000) -> Any:
    """n outcomes of one mean (a probability, or a count with its exposure)."""
    formula = replace(parse_formula("y ~ 1 + (1 | g)"), family=family)
    truth = Truth(formula, (0.0,), ((1.0,),), 1.0, trials=trials, exposure=exposure)
    scores = np.random.default_rng(4).standard_normal(n)
    draw_outcomes(truth, np.full(n, float(linear_predictor(family.link, mean / exposure))), scores)
    return scores


def p_value(y: Any, distribution: Any) -> float:
    """Of Pearson's chi-square test of y, over cells of at least 30 expected."""
    n, edges, last = len(y), [-0.5], 0.0
    for k in range(int(distribution.ppf(1e-4)), int(distribution.ppf(1 - 1e-4)) + 2):
        below = distribution.cdf(k)
        if (below - last) * n >= 30 and (1 - below) * n >= 30:
            edges.append(k + 0.5)
            last = below
    p = np.diff([0.0, *distribution.cdf(edges[1:]), 1.0])
    seen = np.histogram(y, bins=[*edges, math.inf])[0]
    assert len(p) > 1
    return float(stats.chi2.sf(((seen - n * p) ** 2 / (n * p)).sum(), len(p) - 1))


# 33 tests with a fixed seed: all p are above 1e-4 with probability 0.997
@pytest.mark.parametrize("p", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("trials", [1, 10, 5000])
@pytest.mark.parametrize("family", BINOMIAL, ids=lambda family: family.link)
def test_successes_have_their_distribution(family: Family, trials: int, p: float) -> None:
    assert p_value(drawn(family, p, trials=trials), stats.binom(trials, p)) > 1e-4


@pytest.mark.parametrize("mean", [0.1, 5, 450, 501, 900, 1e5])
def test_counts_have_their_distribution(mean: float) -> None:
    y = drawn(LOG, mean, exposure=2.5, n=200_000)
    assert p_value(y, stats.poisson(mean)) > 1e-4
    assert abs(y.mean() - mean) < 4 * math.sqrt(mean / len(y))


# -- replicates as rows, and the fits behind them --------------------------------------------------------------------------

X: Changes = {
    "truth/formula": "y ~ trt + x + (1 | school)",
    "truth/fixed": {"trt": 0.5, "x": 0.3},
    "predictors/x": {"level": 1, "distribution": "normal"},
}
PARTS: Changes = {
    "truth/formula": "y ~ trt + within(x) + between(x) + (1 | school)",
    "truth/fixed": {"trt": 0.5, "within(x)": 0.3, "between(x)": 0.6},
    "predictors/x": {"level": 1, "distribution": "normal", "icc": 0.2},
}
SLOPE: Changes = {
    **X,
    "truth/formula": "y ~ trt + x + (1 + x | school)",
    "truth/random/school": {"variance": {"Intercept": 0.4, "x": 0.3}, "correlation": {"Intercept:x": 0.3}},
}
LOST = {"intercept": -1, "slope": 1}
NORMAL = {"distribution": "normal", "mean": 0.5, "sd": 0.1}
STUDIES: dict[str, Changes] = {
    "logit": {},
    "probit": {"truth/link": "probit", "truth/fixed/trt": {"difference": 0.2}},
    "cloglog": {"truth/link": "cloglog", "truth/fixed/trt": 0.4},
    "trials": {"truth/trials": 10},
    "poisson": {**POISSON, "truth/exposure": 2.5},
    "large counts": {**POISSON, "truth/baseline": 1e5},
    "nodes": {"method": [{"name": "aq", "nodes": 7}]},
    "within and between": PARTS,
    "slope": SLOPE,
    "slope of counts": {**SLOPE, "truth/family": "poisson"},
    "rows missing": {**PARTS, "missing": {"rows": 0.2}},
    "hazard": {**X, "missing": {"hazard": 0.1}},
    "at random on x": {**X, "missing": {"at_random": {"on": "x", **LOST}}},
    "at random on previous": {**X, "missing": {"at_random": {"on": "previous", **LOST}}},
    "sizes drawn": {**X, "design": {"clusters": 10, "cluster_size": {"distribution": "poisson", "mean": 8}}},
    "prior on icc": {"grid": {"icc": [{"distribution": "beta", "mean": 0.1, "sd": 0.03}]}},
    "prior on a coefficient": {"truth/fixed": {"trt": NORMAL}},
    "prior below a difference": {
        "truth/baseline": NONE, "truth/fixed": {"Intercept": NORMAL, "trt": {"difference": 0.1}},
    },
    "skew effects": {"truth/random/school": {"variance": {"Intercept": 0.3}, "distribution": "chi-square", "df": 1}},
    "contrast": {**X, "contrast": [{"name": "both", "weights": {"trt": 1, "x": 1}}]},
}  # fmt: skip


def refitted(study: nl.Study, replicate: int) -> Any:
    """The fit of a replicate's rows by the first method."""
    formula, frame = study.methods[0].formula, study.data(0, replicate)
    text, options = formula.text, {"family": formula.family.name, "link": formula.family.link}
    if "between(x)" in text:
        frame["b"] = frame.groupby("school").x.transform("mean")
        frame["w"] = frame.x - frame.b
        text = text.replace("within(x)", "w").replace("between(x)", "b")
    if "trials" in frame:
        options["trials"] = "trials"
    if "exposure" in frame:
        frame["log_exposure"] = np.log(frame.exposure)
        options["offset"] = "log_exposure"
    fit: Any = nl.fit
    return fit(text, frame, nodes=study.methods[0].nodes, **options)


@pytest.mark.parametrize("name", STUDIES)
def test_stored_estimates_are_those_of_the_rows_shown(name: str, tmp_path: Path) -> None:
    study = nl.Study.from_dict(small(STUDIES[name]))
    rows = study.run(out=tmp_path / "r").replicates()
    compared = 0
    for replicate in range(3):
        row, fit = rows[rows.replicate == replicate].iloc[0], refitted(study, replicate)
        assert (row.status in ("ok", "singular")) == fit.status.converged
        if not fit.status.converged:
            continue
        compared += 1
        stored = row[[f"estimate.{term}" for term in study.methods[0].formula.fixed]].to_numpy(float)
        assert np.abs(stored - np.array(list(fit.beta.values()))).max() < 1e-5
        assert row["estimate.var:school:Intercept"] == pytest.approx(float(fit.varcomp["school"][0, 0]), abs=1e-5)
    assert compared


# -- the same rows however they are made -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [PARTS, {**SLOPE, "truth/family": "poisson"}], ids=["binomial", "poisson"])
def test_workers_resuming_and_extension_change_no_bit(changes: Changes, tmp_path: Path) -> None:
    many = small({**changes, "missing": {"rows": 0.1}, "grid": {"clusters": [8, 10]}}, replications=1100)
    few = {**many, "replications": 300}
    whole = nl.Study.from_dict(many).run(out=tmp_path / "whole", jobs=1).replicates()
    nl.Study.from_dict(few).run(out=tmp_path / "cut", jobs=2)
    extended = nl.Study.from_dict(many).run(out=tmp_path / "cut", jobs=2).replicates()
    assert_same_rows(whole, extended)


def assert_same_rows(one: pd.DataFrame, other: pd.DataFrame) -> None:
    one, other = (frame.sort_values(["condition", "replicate"], ignore_index=True) for frame in (one, other))
    assert_frame_equal(one, other, check_exact=True)


def test_sums_say_what_replicates_say(tmp_path: Path) -> None:
    study = small({"grid": {"icc": [0.05, 0.2]}}, replications=400)
    each = nl.Study.from_dict(study).run(out=tmp_path / "each").summary()
    sums = nl.Study.from_dict({**study, "keep": "summary"}).run(out=tmp_path / "sums").summary()
    keys = ["condition", "method", "estimand", "measure", "subset"]
    both = each.merge(sums, on=keys, suffixes=("", "_of_sums"))
    assert {"power", "bias", "cover", "converged"} <= set(both.measure)
    assert np.allclose(both.value, both.value_of_sums, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_shards_and_stopping_rules(tmp_path: Path) -> None:
    rule = {"max": 1024, "estimand": "trt", "measure": "power", "target_mcse": 0.03}
    file = tmp_path / "plan.toml"
    file.write_text(nl.Study.from_dict(small({}, replications=600)).text)
    whole = nl.Study.from_toml(file).run(out=tmp_path / "whole").replicates()
    for shard in ("1/2", "2/2"):
        command("run", file, "--shard", shard, "--out", tmp_path / "parts")
    command("merge", tmp_path / "parts")
    parts = nl.Results(tmp_path / "parts").replicates()
    assert_same_rows(whole, parts)
    stopped = nl.Study.from_dict(small({}, replications=rule)).run(out=tmp_path / "ruled").summary()
    power = stopped.query("measure == 'power' and estimand == 'trt' and subset == 'all'").iloc[0]
    assert power.mcse <= 0.03 or power.n == 1024


# -- commands --------------------------------------------------------------------------------------------------------------


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module", params=["binomial", "poisson"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = {**POISSON, "truth/exposure": 2.5} if request.param == "poisson" else {"truth/trials": 3}
    folder = tmp_path_factory.mktemp(request.param) / "r"
    axis = {"grid": {"truth.baseline": [0.3, 0.6]}}
    nl.Study.from_dict(small({**own, **axis}, replications=64)).run(out=folder)
    return folder


def test_commands_read_them(results: Path) -> None:
    counts = results.parent.name.startswith("poisson")
    text = command("summary", results)
    assert "what the outcome looks like, given trt" in text
    assert f"{'rate' if counts else 'probability'} at trt = 0: " in text
    assert "all equal" in command("verify", results)
    assert "report.html" in command("report", results)
    command("plot", results, "--out", results.parent / "p.svg")
    command(
        "simulate", results / "study.toml", "--condition", 1, "--replicate", 17, "--out", results.parent / "rows.csv"
    )
    rows = pd.read_csv(results.parent / "rows.csv")
    assert list(rows.columns) == ["school", "trt", "y", "exposure" if counts else "trials"]
    assert (rows.y == rows.y.round()).all()


def test_conditions_have_the_true_values(results: Path) -> None:
    counts = results.parent.name.startswith("poisson")
    stored = pd.read_parquet(results / "conditions.parquet")
    baselines = np.array([0.3, 0.6])
    assert np.allclose(stored["true.Intercept"], np.log(baselines) if counts else np.log(baselines / (1 - baselines)))
    assert np.allclose(stored["true.trt"], math.log(1.5 if counts else 1.6))
    assert np.allclose(stored["stated.Intercept.baseline"], baselines)
    assert np.allclose(stored[f"stated.trt.{'rate' if counts else 'odds'}_ratio"], 1.5 if counts else 1.6)
    assert np.allclose(stored["true.var:school:Intercept"], 0.3)
    assert not {"true.var:residual", "true.icc"} & set(stored)
    assert stored["r2.between"].isna().all() if counts else np.allclose(stored["r2.between"], stored["r2.between"][0])


# -- failures and inference ------------------------------------------------------------------------------------------------


def test_separated_fits_are_failures_and_bound_power(tmp_path: Path) -> None:
    rare = {"design": {"clusters": 6, "cluster_size": 4}, "truth/baseline": 0.05}
    results = nl.Study.from_dict(small(rare, design=rare["design"], replications=400)).run(out=tmp_path / "r")
    rows, summary = results.replicates(), results.summary().query("subset == 'all'")
    separated = rows.status == "separated"
    assert 100 < separated.sum() < 390
    assert rows.loc[separated, "estimate.trt"].isna().all()
    failed = summary.query("measure == 'failed'").iloc[0]
    assert failed.value * 400 == pytest.approx((~rows.status.isin(["ok", "singular"])).sum())
    power = summary.query("measure == 'power' and estimand == 'trt'").iloc[0]
    known = rows.status.isin(["ok", "singular"])
    z = rows["estimate.trt"] / rows["se.trt"]
    rejected = (z[known].abs() > stats.norm.isf(0.025)).sum()
    assert power.n == known.sum()
    assert power.missing == 400 - known.sum()
    assert power.value == pytest.approx(rejected / known.sum())
    assert power.bound_lower == pytest.approx(rejected / 400)
    assert power.bound_upper == pytest.approx((rejected + power.missing) / 400)


def test_between_within_df_is_the_rule_by_hand(tmp_path: Path) -> None:
    """10 clusters of 8: trt and the Intercept share the clusters' 10 - 2, x has 80 - 10 - 1."""
    study = nl.Study.from_dict(small({**X, "method": [{"name": "m", "df": ["between-within", "z"]}]}))
    results = study.run(out=tmp_path / "r")
    rows = results.replicates()
    rows = rows[rows.status.isin(["ok", "singular"])]
    assert [set(rows[f"df.{term}/between-within"]) for term in ("Intercept", "trt", "x")] == [{8}, {8}, {69}]
    p = 2 * stats.t.sf((rows["estimate.trt"] / rows["se.trt"]).abs(), 8)
    power = results.summary().query("method == 'm/between-within' and estimand == 'trt' and measure == 'power'")
    assert power.query("subset == 'all'").value.item() == pytest.approx((p < 0.05).mean())


@pytest.mark.parametrize(
    ("axis", "between"),
    [
        ("clusters", ()),
        ("cluster_size", ()),
        ("truth.fixed.trt", ()),
        ("truth.fixed.trt.odds_ratio", ()),
        ("truth.baseline", (0.05, 0.4)),
    ],
)
def test_solve_finds_a_design(axis: str, between: tuple[float, ...], tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(nl.Study.from_dict(small({"truth/fixed/trt": {"odds_ratio": 3}})).text)
    ends = ["--between", *between] if between else []
    target = ["--power", 0.5, "--estimand", "trt", "--max-replications", 500, "--precision", 0.3]
    text = command("solve", file, "--over", axis, *ends, *target, "--out", tmp_path / "s")
    assert "50 % power" in text
    assert "Simulated there: power 0.5" in text or axis.startswith("truth")
