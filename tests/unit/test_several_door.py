"""`nl.fit` and `nestlab fit` with several grouping factors: what they give, and what they refuse in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.several import products
from nestlab.show.cli import app
from nestlab.spec.problems import DataError

MULTI = Path(__file__).parents[1] / "golden" / "multi"
NEST = MULTI / "02_nest.csv"


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_nesting_and_its_long_form_are_one_model():
    data = pd.read_csv(NEST)
    short = nl.fit("y ~ x + z + trt + (1 | school/class)", data)
    long = nl.fit("y ~ x + z + trt + (1 | school:class) + (1 | school)", data)
    assert short.levels == long.levels == {"school:class": 45, "school": 15}
    assert (short.group, short.clusters, short.balanced) == ("school:class", 45, True)
    assert short.neg2loglik == pytest.approx(long.neg2loglik, abs=1e-9)
    golden = json.loads((MULTI / "02_nest.json").read_text())["REML"]
    np.testing.assert_allclose(list(short.beta.values()), list(golden["beta"].values()), rtol=1e-6)
    np.testing.assert_allclose(short.theta, golden["theta"], rtol=1e-5)
    np.testing.assert_allclose(list(short.df.values()), golden["df_satterthwaite"], rtol=1e-5)
    assert list(short.varcomp) == list(golden["varcomp"])


def test_terms_stand_in_the_order_of_lme4():
    """Most levels first, whatever the order in the formula; a factor's second term gets a number."""
    data = pd.read_csv(MULTI / "08_crossind.csv")
    found = nl.fit("y ~ cond + (1 + cond || item) + (1 | subject) + (0 + cond | subject)", data)
    golden = json.loads((MULTI / "08_crossind.json").read_text())["REML"]
    assert list(found.varcomp) == ["subject", "subject.1", "item", "item.1"]
    assert found.random_names == (("Intercept",), ("cond",), ("Intercept",), ("cond",))
    for name, covariance in found.varcomp.items():
        np.testing.assert_allclose(covariance, golden["varcomp"][name], rtol=1e-5)
    assert len(found.se_variances[0]) == 4


def test_tests_and_intervals_of_fixed_effects():
    found = nl.fit("y ~ x + z + trt + (1 | school/class)", pd.read_csv(NEST), df="kenward-roger")
    one = found.test("x = 0")
    assert one.statistic == pytest.approx(found.beta["x"] / found.se["x"])
    assert one.df == pytest.approx(found.df["x"])
    assert found.test("z = 0, trt = 0").df1 == 2
    table = found.confint(method="wald", level=0.9)
    assert list(table.index) == [
        "sd_(Intercept)|school:class", "sd_(Intercept)|school", "sigma", "(Intercept)", "x", "z", "trt"
    ]  # fmt: skip
    from scipy.stats import t

    half = t.ppf(0.95, found.df["x"]) * found.se["x"]
    np.testing.assert_allclose(table.loc["x"], [found.beta["x"] - half, found.beta["x"] + half])
    z = nl.fit("y ~ x + (1 | school/class)", pd.read_csv(NEST), df="z")
    np.testing.assert_allclose(z.confint(method="wald").loc["x", "upper"], z.beta["x"] + 1.959963984540054 * z.se["x"])
    with pytest.raises(ValueError, match="level = 2: allowed are numbers between 0 and 1"):
        z.confint(2, method="wald")


@pytest.mark.parametrize("rule", ["satterthwaite", "kenward-roger", "between-within", "z"])
def test_the_command_prints_every_rule(rule):
    done = run("fit", str(NEST), "y ~ x + trt + (1 | school/class)", "--df", rule, "--test", "trt = 0")
    assert done.exit_code == 0, done.output
    assert "Number of obs: 360, groups:  school:class, 45; school, 15" in done.output
    assert "trt = 0: " in done.output


def test_json_has_the_levels_of_each_factor():
    done = run("fit", str(NEST), "y ~ x + (1 | school/class)", "--json", "--ml")
    made = json.loads(done.output)
    assert made["levels"] == {"school:class": 45, "school": 15}
    assert "clusters" not in made
    assert made["ML"]["status"] == "ok"
    assert list(made["ML"]["varcomp"]) == ["school:class", "school"]


def test_one_factor_with_many_random_columns():
    """The references are lme4's."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(40), 20)
    x = rng.normal(size=(4, 800))
    u = rng.normal(size=(40, 5))[g] * 0.5
    y = u[:, 0] + (x.T * u[:, 1:]).sum(axis=1) + rng.normal(size=800)
    found = nl.fit(
        "y ~ 1 + (1 + a + b + c + d | g)", pd.DataFrame(dict(zip("abcd", x, strict=True)) | {"g": g, "y": y})
    )
    assert found.status.converged
    assert found.clusters == 40
    assert found.varcomp["g"].shape == (5, 5)
    assert found.neg2loglik == pytest.approx(2603.553762, abs=1e-5)
    np.testing.assert_allclose(np.diag(found.varcomp["g"]), [0.34124, 0.44875, 0.25025, 0.21842, 0.19355], rtol=4e-4)


def test_wald_intervals_of_variances_are_those_of_one_factor():
    """A second factor that explains nothing apart: the variance scale by hand, one factor's by the kernel."""
    from scipy.stats import norm

    found = nl.fit("y ~ x + (1 | school/class)", pd.read_csv(NEST))
    (inner, outer), residual = found.se_variances
    z = norm.ppf(0.975)
    table, log = found.confint(method="wald"), found.confint(method="wald-log")
    for name, v, se in (
        ("sd_(Intercept)|school:class", found.varcomp["school:class"][0, 0], inner[0]),
        ("sd_(Intercept)|school", found.varcomp["school"][0, 0], outer[0]),
        ("sigma", found.sigma**2, residual),
    ):
        np.testing.assert_allclose(table.loc[name] ** 2, [max(v - z * se, 0), v + z * se], rtol=1e-9)
        np.testing.assert_allclose(log.loc[name] ** 2, [v * np.exp(-z * se / v), v * np.exp(z * se / v)], rtol=1e-9)
    slopes = nl.fit("y ~ x + (1 + x | school) + (1 | school:class)", pd.read_csv(MULTI / "17_nestmix.csv"))
    limits = slopes.confint(method="wald").loc["cor_x.(Intercept)|school"]
    G = slopes.varcomp["school"]
    assert limits.mean() == pytest.approx(G[1, 0] / np.sqrt(G[0, 0] * G[1, 1]))  # within (-1, 1): symmetric


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | school) + (1 | school:class)", "y ~ x + (1 + x | school)"])
def test_bootstrap_intervals(formula):
    """They keep their bits by seed, and cover what they are of; one factor has them too."""
    found = nl.fit(formula, pd.read_csv(MULTI / "17_nestmix.csv"))
    table = found.confint(method="bootstrap", draws=99)
    assert list(table.index) == list(found.confint(method="wald").index)
    assert table.equals(found.confint(method="bootstrap", draws=99, seed=1))
    assert not table.equals(found.confint(method="bootstrap", draws=99, seed=2))
    assert table.loc["x", "lower"] < found.beta["x"] < table.loc["x", "upper"]
    assert table.loc["sigma", "lower"] < found.sigma < table.loc["sigma", "upper"]
    wald = found.confint(method="wald")
    for name in ("(Intercept)", "x", "sigma"):
        ratio = (table.upper - table.lower)[name] / (wald.upper - wald.lower)[name]
        assert 0.7 < ratio < 1.4, name


def test_the_command_prints_intervals_of_every_kind():
    done = run("fit", str(NEST), "y ~ x + (1 | school/class)", "--confint")
    assert done.exit_code == 0, done.output
    assert "sd_(Intercept)|school:class 0.000" in done.output
    wald = run("fit", str(NEST), "y ~ x + (1 | school/class)", "--intervals", "wald", "--level", "0.9")
    assert wald.exit_code == 0, wald.output
    assert "5 %" in wald.output
    boot = run(
        "fit",
        str(NEST),
        "y ~ x + (1 | school/class)",
        "--json",
        "--intervals",
        "bootstrap",
        "--draws",
        "19",
        "--seed",
        "3",
    )
    made = json.loads(boot.output)
    expected = nl.fit("y ~ x + (1 | school/class)", pd.read_csv(NEST)).confint(method="bootstrap", draws=19, seed=3)
    assert made["confint"] == {name: list(row) for name, row in zip(expected.index, expected.to_numpy(), strict=True)}
    assert (made["confint_method"], made["confint_level"]) == ("bootstrap", 0.95)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--intervals", "boot"), "intervals = 'boot': allowed are profile, profile-reml, wald, wald-log and bootstrap; use one"),
        (("--confint", "--level", "95"), "level = 95.0: allowed are numbers between 0 and 1, for example 0.95"),
        (("--intervals", "bootstrap", "--draws", "3"), "draws = 3: allowed are whole numbers from 19, for example 999"),
    ],
)  # fmt: skip
def test_intervals_that_are_refused(options, said):
    done = run("fit", str(NEST), "y ~ x + (1 | school/class)", *options)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_smaller_model_is_tested_by_the_likelihood_ratio():
    data = pd.read_csv(MULTI / "05_crossvc.csv")
    full = "y ~ cond + (1 | subject) + (1 | item)"
    found = nl.fit(full, data)
    one = found.compare("y ~ cond + (1 | subject)", reference="chisq")
    assert one.p == pytest.approx(2 * found.compare("y ~ cond + (1 | subject)").p)
    ml = [nl.fit(f, data, reml=False).neg2loglik for f in ("y ~ 1 + (1 | subject) + (1 | item)", full)]
    assert found.compare("y ~ 1 + (1 | item) + (1 | subject)").statistic == pytest.approx(ml[0] - ml[1], abs=1e-7)
    done = run("fit", str(MULTI / "05_crossvc.csv"), full, "--compare", "y ~ 1 + (1 | subject) + (1 | item)", "--json")
    assert json.loads(done.output)["compared"][0]["statistic"] == pytest.approx(ml[0] - ml[1], abs=1e-7)
    text = run("fit", str(MULTI / "05_crossvc.csv"), full, "--compare", "y ~ cond + (1 | item)").output
    assert text.splitlines()[-1] == (
        "var:subject:Intercept = 0 (y ~ 1 + cond + (1 | item)): likelihood ratio (REML) = 61.38, p = 2.352e-15 by 0.5 chi2(0) + "
        "0.5 chi2(1)"
    )


def test_models_without_random_terms_and_weights_are_compared():
    """The null by least squares: with one factor too, and with weights, whose logs cancel."""
    data = pd.read_csv(NEST)
    data["w"] = 0.5 + np.arange(len(data)) % 3
    for weights in (None, "w"):
        found = nl.fit("y ~ x + (1 | school)", data, weights=weights, reml=False)
        w = data["w"].to_numpy() if weights else np.ones(len(data))
        X = np.column_stack([np.ones(len(data)), data["x"]]) * np.sqrt(w)[:, None]
        rss = np.linalg.lstsq(X, data["y"] * np.sqrt(w), rcond=None)[1][0]
        N = len(data)
        null = N * (1 + np.log(2 * np.pi * rss / N)) - np.log(w).sum()
        assert found.compare("y ~ x").statistic == pytest.approx(null - found.neg2loglik, abs=1e-7)


def test_likelihood_ratios_by_the_bootstrap():
    data = pd.read_csv(MULTI / "05_crossvc.csv")
    found = nl.fit("y ~ cond + (1 | subject) + (1 | item)", data)
    none = found.compare("y ~ cond", reference="bootstrap", draws=19)
    assert (none.p, none.mixture, none.reml) == (pytest.approx(1 / 20), (), True)
    assert str(none).endswith("p = 0.05 by the bootstrap")
    fixed = found.compare("y ~ 1 + (1 | subject) + (1 | item)", reference="bootstrap", draws=39)
    assert fixed == found.compare("y ~ 1 + (1 | subject) + (1 | item)", reference="bootstrap", draws=39)
    assert fixed.p < 0.15  # 0.011 by chi-square


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--compare", "y ~ cond + (1 | other)"), "it has random effects of other, and the full model of subject, item only"),
        (("--compare", "y ~ cond"), "no known large-sample distribution: take the bootstrap as reference, or test fewer"),
        (
            ("--compare", "y ~ 1 + (1 | item)", "--reference", "exact"),
            "reference = 'exact': allowed are asymptotic, chisq and bootstrap; use one of them",
        ),
        (("--compare", "y ~ cond + (1 | subject"), 'formula "y ~ cond + (1 | subject": a "(" is never closed'),
    ],
)  # fmt: skip
def test_comparisons_that_are_refused(options, said):
    done = run("fit", str(MULTI / "05_crossvc.csv"), "y ~ cond + (1 | subject) + (1 | item)", *options)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split()), done.output


def test_means_of_a_factor_that_is_named():
    """within(x, g) and between(x, g) are what columns made by hand are; one factor takes the short form too."""
    data = pd.read_csv(NEST)
    by_class = data.groupby(["school", "class"])["x"].transform("mean")
    by_school = data.groupby("school")["x"].transform("mean")
    made = data.assign(w=data.x - by_class, c=by_class - by_school, s=by_school)
    long = "y ~ within(x, school:class) + I(between(x, class:school) - between(x, school)) + between(x, school)"
    found = nl.fit(f"{long} + (1 | school/class)", data)
    plain = nl.fit("y ~ w + c + s + (1 | school/class)", made)
    assert found.neg2loglik == pytest.approx(plain.neg2loglik, abs=1e-8)
    np.testing.assert_allclose(list(found.beta.values()), list(plain.beta.values()), rtol=1e-8)
    assert list(found.beta)[1] == "within(x, school:class)"
    assert found.test("within(x, school:class) = 0").p == pytest.approx(plain.test("w = 0").p)
    slope = nl.fit("y ~ within(x, school) + (1 + within(x, school) | school) + (1 | school:class)", data)
    assert slope.random_names == (("Intercept",), ("Intercept", "within(x, school)"))
    one, short = (nl.fit(f"y ~ {term} + (1 | school)", data) for term in ("within(x, school)", "within(x)"))
    assert list(one.beta.values()) == list(short.beta.values())


@pytest.mark.parametrize(
    ("formula", "change", "said"),
    [
        ("y ~ x + (1 | school) + (1 | one)", {"one": 1}, "grouping factor one has 1 level; a random effect needs at least 2"),
        (
            "y ~ x + (1 | school) + (1 | row)", {"row": range(360)},
            "360 rows are not more than the 360 random effects of (1 | row)",
        ),
        ("y ~ x + (1 | school) + (1 | copy)", {"copy": "school"}, "the data can't tell the variances apart"),
        ("y ~ x + (1 + x | school) + (1 + v | class)", {"v": 1.0}, "random column v: linearly dependent"),
        ("one ~ x + (1 | school) + (1 | class)", {"one": 1.0}, "response one is constant"),
        ("w ~ x + (1 | school) + (1 | class)", {"w": "x"}, "response w is fitted perfectly by the fixed effects"),
        ("y ~ factor(school) + (1 | school) + (1 | class)", {}, "can't tell the variance of Intercept from the fixed effects"),
        (f"y ~ x + (1 | school) + ({' + '.join('abcdefghijklmnop')} | class)", {}, "has 18 random columns on these data"),
    ],
)  # fmt: skip
def test_data_without_an_answer(formula, change, said):
    data = pd.read_csv(NEST)
    rng = np.random.default_rng(1)
    for name in "abcdefghijklmnop":
        data[name] = rng.normal(size=360)
    for name, value in change.items():
        data[name] = data[value] if isinstance(value, str) else value
    with pytest.raises(DataError) as refused:
        nl.fit(formula, data)
    assert said in str(refused.value)


def test_factors_too_large_to_be_eliminated_are_refused(monkeypatch):
    monkeypatch.setattr(products, "MOST_ENTRIES", 100)
    data = pd.read_csv(MULTI / "05_crossvc.csv")
    with pytest.raises(DataError) as refused:
        nl.fit("y ~ 1 + (1 | subject) + (1 | item)", data)
    assert str(refused.value) == (
        "the grouping factors are too large to be fitted together: beside the one with most levels, 12 random effects are "
        "connected with one another, and at most 10 are possible; leave out a factor or a random column"
    )
