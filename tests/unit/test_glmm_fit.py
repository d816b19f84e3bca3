"""Generalised fits of one data set: what they refuse, separation, boundaries, intervals, tests and comparisons."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from typer.testing import CliRunner

import nestlab as nl
from glmm_oracle import dense_deviance, random_design, usable
from nestlab.fit.glmm.model import fit_glmm
from nestlab.fit.status import Status
from nestlab.show.cli import app


def frame(seed=2, J=14, n=8, sd=0.8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    x, u = rng.normal(size=J * n), rng.normal(size=J) * sd
    eta = -0.3 + 0.7 * x + 0.4 * (g % 2) + u[g]
    return pd.DataFrame(
        {"g": g, "x": x, "trt": g % 2, "y": rng.binomial(1, 1 / (1 + np.exp(-eta))), "k": rng.poisson(np.exp(eta)),
         "h": rng.integers(0, 5, J * n), "t": rng.uniform(1, 3, J * n), "n": 3, "e": rng.binomial(3, 1 / (1 + np.exp(-eta)))}
    )  # fmt: skip


DATA = frame()
LOGIT = "y ~ x + trt + (1 | g)"


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        ("k ~ x + (1 | g)", {"family": "binomial"}, "response k has values other than 0 and 1 (2, 3, 4); give trials"),
        ("neg ~ x + (1 | g)", {"family": "poisson"}, "neg has negative counts (the smallest is -1)"),
        ("x ~ trt + (1 | g)", {"family": "negative-binomial"}, "x has negative counts"),
        ("half ~ x + (1 | g)", {"family": "poisson"}, "half has counts that are not whole numbers (2.5); round them"),
        ("e ~ x + (1 | g)", {"family": "binomial", "trials": "one"}, "response e has 2 events in 1 trials; correct"),
        ("e ~ x + (1 | g)", {"family": "binomial", "trials": "zero"}, "zero must be 1 or more"),
        ("e ~ x + (1 | g)", {"family": "binomial", "trials": "m"}, 'trials = "m": must be a column of the data'),
        ("k ~ x + (1 | g)", {"family": "poisson", "trials": "n"}, "trials = 'n': family poisson has no trials"),
        ("cbind(e, n - e) ~ x + (1 | g)", {"family": "poisson"}, "family poisson has no trials"),
        ("cbind(e, n - e) ~ x + (1 | g)", {"family": "binomial", "trials": "n"}, "has its own; leave one of them out"),
        ("cbind(e, n, k) ~ x + (1 | g)", {"family": "binomial"}, "must have two columns, events and others"),
        ("cbind(e, n - e) ~ x + (1 | g)", {}, 'is of counts: give family = "binomial"'),
        (LOGIT, {"family": "gamma"}, 'family = "gamma": must be one of gaussian, binomial'),
        ("k ~ x + (1 | g)", {"family": "poisson", "link": "logit"}, 'link = "logit": family poisson has link log'),
        (LOGIT, {"family": "binomial", "nodes": 0}, "nodes = 0: allowed are whole numbers from 1 (Laplace) to 25"),
        (LOGIT, {"family": "binomial", "nodes": 26}, "nodes = 26"),
        ("y ~ x + (1 | g) + (1 | h)", {"family": "binomial", "nodes": 5}, "quadrature needs one grouping factor"),
        ("y ~ x + (1 + x + t | g)", {"family": "binomial", "nodes": 3}, "takes at most 2 random columns, not 3"),
        (LOGIT, {"family": "binomial", "curvature": "both"}, "curvature = 'both': allowed are observed and expected"),
        ("k ~ x + (1 | g)", {"family": "negative-binomial", "curvature": "expected"}, "have the observed one only"),
        (LOGIT, {"family": "binomial", "df": "satterthwaite"}, "df = 'satterthwaite': allowed are z and between-within"),
        (LOGIT, {"family": "binomial", "weights": "t"}, "family binomial takes none; give trials"),
        (LOGIT, {"family": "binomial", "method": "em"}, "method = 'em': allowed are likelihood and pql"),
        (LOGIT, {"family": "binomial", "method": "pql", "scale": "free"}, "scale = 'free': allowed are estimated and fixed"),
        (LOGIT, {"family": "binomial", "method": "pql", "nodes": 3}, "penalised quasi-likelihood has no nodes"),
        ("k ~ x + (1 | g)", {"family": "negative-binomial", "method": "pql"}, "binomial and poisson are possible"),
        (LOGIT, {"nodes": 5}, "nodes = 5 is for families other than gaussian"),
        (LOGIT, {"link": "logit"}, "link = 'logit' is for families other than gaussian"),
        ("y ~ x + (1 | row)", {"family": "binomial"}, "one row a level; 0/1 outcomes can't tell its variance"),
        ("y ~ x + double + (1 | g)", {"family": "binomial"}, "linearly dependent"),
        ("y ~ x + (1 | one)", {"family": "binomial"}, "grouping factor one has 1 level"),
        ("word ~ x + (1 | g)", {"family": "binomial"}, "response word is not numeric"),
    ],
)  # fmt: skip
def test_refusals(formula, options, words):
    data = DATA.assign(
        neg=DATA["k"] - 1, half=DATA["k"] + 0.5, one=1, zero=DATA["n"] * (DATA["x"] > 0), double=2 * DATA["x"],
        row=np.arange(len(DATA)), word="yes",
    )  # fmt: skip
    with pytest.raises(nl.DataError) as caught:
        nl.fit(formula, data, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Ways to say one thing -----------------------------------------------------------------------------------------------


def same(a, b, rtol=1e-7):
    assert np.isclose(a.neg2loglik, b.neg2loglik, rtol=1e-10, equal_nan=True)
    assert np.allclose(list(a.beta.values()), list(b.beta.values()), rtol=rtol, atol=1e-9)
    assert np.allclose(list(a.se.values()), list(b.se.values()), rtol=rtol)
    assert np.allclose(a.theta, b.theta, rtol=rtol, atol=1e-9)


def test_trials_column_is_cbind():
    by_column = nl.fit("e ~ x + (1 | g)", DATA, family="binomial", trials="n")
    same(by_column, nl.fit("cbind(e, n - e) ~ x + (1 | g)", DATA, family="binomial"))
    same(by_column, nl.fit("cbind(e, f) ~ x + (1 | g)", DATA.assign(f=3 - DATA["e"]), family="binomial"))


def test_offset_in_the_formula_is_the_column():
    a = nl.fit("k ~ x + offset(log(t)) + (1 | g)", DATA, family="poisson")
    same(a, nl.fit("k ~ x + (1 | g)", DATA.assign(o=np.log(DATA["t"])), family="poisson", offset="o"))
    assert a.beta["x"] != nl.fit("k ~ x + (1 | g)", DATA, family="poisson").beta["x"]


def test_binary_rows_are_binomial_trials():
    """Rows of one cluster and covariate pattern pool; only the constant of the likelihood differs."""
    rows = DATA.assign(x=np.round(DATA["x"]))
    pooled = rows.groupby(["g", "x"], as_index=False).agg(e=("y", "sum"), n=("y", "size"))
    a = nl.fit("y ~ x + (1 | g)", rows, family="binomial", nodes=7)
    b = nl.fit("cbind(e, n - e) ~ x + (1 | g)", pooled, family="binomial", nodes=7)
    assert np.allclose(list(a.beta.values()), list(b.beta.values()), rtol=1e-7)
    assert np.allclose(list(a.se.values()), list(b.se.values()), rtol=1e-7)


@pytest.mark.parametrize("factor", [1e-6, 1e5])
def test_units_of_predictors_do_not_matter(factor):
    a = nl.fit("y ~ x + (1 + x | g)", DATA, family="binomial")
    b = nl.fit("y ~ x + (1 + x | g)", DATA.assign(x=DATA["x"] * factor), family="binomial")
    assert np.isclose(a.neg2loglik, b.neg2loglik, rtol=1e-10)
    assert np.isclose(a.beta["x"], b.beta["x"] * factor, rtol=1e-6)
    assert a.status == b.status


def test_events_and_others_mirror_each_other():
    a = nl.fit(LOGIT, DATA, family="binomial", link="probit")
    b = nl.fit(LOGIT, DATA.assign(y=1 - DATA["y"]), family="binomial", link="probit")
    assert np.isclose(a.neg2loglik, b.neg2loglik, rtol=1e-11)
    assert np.allclose(list(a.beta.values()), [-v for v in b.beta.values()], rtol=1e-6)


def test_missing_rows_are_dropped():
    data = DATA.copy()
    data.loc[[3, 7], "x"] = np.nan
    data.loc[5, "n"] = np.nan
    fit = nl.fit("e ~ x + (1 | g)", data, family="binomial", trials="n")
    assert (fit.dropped, fit.rows) == (3, len(DATA) - 3)
    assert "(3 observations deleted due to missingness)" in fit.summary()


def test_nested_and_crossed_factors():
    fit = nl.fit("y ~ x + (1 | g/h)", DATA, family="binomial")
    assert fit.status.converged
    assert fit.levels == {"g:h": DATA.groupby(["g", "h"]).ngroups, "g": 14}
    assert {name: u.shape for name, u in fit.modes.items()} == {"g:h": (fit.levels["g:h"], 1), "g": (14, 1)}


def test_modes_and_fitted_values():
    fit = nl.fit("k ~ x + (1 + x | g)", frame(5, 20, 10), family="poisson")
    data = frame(5, 20, 10)
    u = fit.modes["g"][data["g"]]
    eta = fit.beta["Intercept"] + fit.beta["x"] * data["x"] + u[:, 0] + u[:, 1] * data["x"]
    assert np.allclose(fit.fitted, np.exp(eta), rtol=1e-9)
    assert np.allclose(fit.scaled_residuals, (data["k"] - fit.fitted) / np.sqrt(fit.fitted))


# The boundary --------------------------------------------------------------------------------------------------------


def test_no_variance_is_singular_and_a_glm():
    data = frame(3, 12, 6, sd=0.0)
    fit = nl.fit("k ~ x + (1 | g)", data, family="poisson")
    assert fit.singular
    assert fit.theta.tolist() == [0.0]
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["k"].to_numpy()
    glm = minimize(lambda b: (np.exp(X @ b) - y * (X @ b)).sum(), np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    assert np.allclose(list(fit.beta.values()), glm.x, atol=1e-6)
    assert np.allclose(fit.vcov_beta, np.linalg.inv((X.T * np.exp(X @ glm.x)) @ X), rtol=1e-5)


def test_negative_binomial_at_poissons_limit_is_singular():
    data = DATA.assign(k=np.random.default_rng(1).binomial(4, 0.5, len(DATA)))  # less spread than Poisson's
    fit, poisson = (nl.fit("k ~ x + (1 | g)", data, family=f) for f in ("negative-binomial", "poisson"))
    assert fit.singular
    assert fit.dispersion == np.inf
    assert np.isclose(fit.neg2loglik, poisson.neg2loglik, rtol=1e-12)
    assert fit.parameters == poisson.parameters + 1


# Separation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 7])
def test_an_arm_of_events_leaves_the_other_coefficients(nodes):
    data = DATA.assign(y=np.where(DATA["trt"] == 1, 1, DATA["y"]))
    fit = nl.fit(LOGIT, data, family="binomial", nodes=nodes)
    assert fit.status == Status.separated
    assert fit.diverging == ("trt",)
    assert fit.beta["trt"] == np.inf
    assert np.isnan(fit.se["trt"])
    arm = nl.fit("y ~ x + (1 | g)", data[data["trt"] == 0], family="binomial", nodes=nodes)
    assert np.allclose([fit.beta["Intercept"], fit.beta["x"]], list(arm.beta.values()), rtol=1e-6)
    assert np.allclose([fit.se["Intercept"], fit.se["x"]], list(arm.se.values()), rtol=1e-6)
    assert np.isclose(fit.neg2loglik, arm.neg2loglik, rtol=1e-10)
    assert "no finite estimate: trt" in fit.summary()
    assert json.loads(json.dumps(fit.to_dict()))["ML"]["beta"]["trt"] is None
    with pytest.raises(nl.DataError, match="trt has no finite estimate"):
        fit.test("trt = 0")


def test_counts_of_zero_in_an_arm():
    fit = nl.fit("k ~ x + trt + (1 | g)", DATA.assign(k=DATA["k"] * (DATA["trt"] == 0)), family="poisson")
    assert (fit.status, fit.beta["trt"], fit.diverging) == (Status.separated, -np.inf, ("trt",))


def test_a_predictor_that_separates_all():
    fit = nl.fit(LOGIT, DATA.assign(y=(DATA["x"] > 0) * 1), family="binomial")
    assert fit.status == Status.separated
    assert fit.beta["x"] == np.inf
    assert np.isnan(fit.theta).all()
    assert fit.neg2loglik == 0.0


def test_quasi_separation_within_one_category():
    data = DATA.assign(z=np.where(DATA["x"] > 1, "high", "low"))
    data["y"] = np.where(data["z"] == "high", 1, data["y"])
    fit = nl.fit("y ~ z + trt + (1 | g)", data, family="binomial")
    # high is the reference: its log odds, the intercept, run off, and low's difference with them
    assert fit.status == Status.separated
    assert fit.beta["Intercept"] == np.inf
    assert fit.beta["z[low]"] == -np.inf
    assert np.isfinite(fit.beta["trt"])


@pytest.mark.parametrize("value", [0, 1])
def test_one_outcome_only(value):
    fit = nl.fit("y ~ 1 + (1 | g)", DATA.assign(y=value), family="binomial")
    assert fit.status == Status.separated
    assert fit.beta["Intercept"] == (np.inf if value else -np.inf)


@pytest.mark.parametrize("nodes", [1, 9])
def test_clusters_of_one_outcome_have_an_infinite_variance(nodes):
    u = np.random.default_rng(4).integers(0, 2, 14)
    fit = nl.fit("y ~ trt + (1 | g)", DATA.assign(y=u[DATA["g"]]), family="binomial", nodes=nodes)
    assert fit.status == Status.separated
    assert "theta" in fit.diverging
    assert np.isnan(list(fit.beta.values())).all()


def test_outcomes_separated_within_clusters():
    cut = np.random.default_rng(4).normal(size=14)
    fit = nl.fit("y ~ x + (1 | g)", DATA.assign(y=(DATA["x"] > cut[DATA["g"]]) * 1), family="binomial")
    assert fit.status == Status.separated


def test_large_but_finite_estimates_are_kept():
    """One level of mixed outcomes keeps the variance finite."""
    u = np.random.default_rng(4).integers(0, 2, 14)
    y = u[DATA["g"]]
    y[0] = 1 - y[0]
    fit = nl.fit("y ~ trt + (1 | g)", DATA.assign(y=y), family="binomial", nodes=25)
    assert fit.status in (Status.ok, Status.separated)
    if fit.status == Status.ok:
        assert fit.certificate < 1e-5


def test_pql_of_separated_outcomes():
    data = DATA.assign(y=np.where(DATA["trt"] == 1, 1, DATA["y"]))
    fit = nl.fit(LOGIT, data, family="binomial", method="pql")
    assert (fit.status, fit.diverging) == (Status.separated, ("trt",))


# Inference -----------------------------------------------------------------------------------------------------------


def test_wald_intervals():
    fit = nl.fit(LOGIT, DATA, family="binomial")
    table = fit.confint()
    assert list(table.index) == ["sd_(Intercept)|g", "(Intercept)", "x", "trt"]
    assert np.allclose(table.loc["x"], fit.beta["x"] + np.array([-1, 1]) * norm.ppf(0.975) * fit.se["x"])


@pytest.mark.parametrize(
    ("formula", "family"),
    [(LOGIT, "binomial"), ("k ~ x + (1 + x | g)", "poisson"), ("y ~ x + (1 | g) + (1 | h)", "binomial")],
)
def test_profile_limits_rise_by_the_quantile(formula, family):
    """With one fixed effect held at a limit by an offset, the deviance is the least plus the quantile of chi-square."""
    data = frame(8, 18, 8)
    fit = nl.fit(formula, data, family=family)
    limits = fit.confint(method="profile").loc["x"]
    random = formula.partition("x + ")[2]
    for value in limits:
        held = nl.fit(f"{fit.response} ~ {random}", data.assign(o=value * data["x"]), family=family, offset="o")
        assert np.isclose(held.neg2loglik - fit.neg2loglik, norm.ppf(0.975) ** 2, atol=2e-4)


def test_profile_limits_of_standard_deviations_and_correlations():
    data = frame(8, 25, 12)
    fit = nl.fit("k ~ x + (1 + x | g)", data, family="poisson")
    profile, wald = fit.confint(method="profile"), fit.confint()
    assert list(profile.index)[:3] == ["sd_(Intercept)|g", "cor_x.(Intercept)|g", "sd_x|g"]
    sd = np.sqrt(np.diag(fit.varcomp["g"]))
    assert profile.loc["sd_(Intercept)|g", "lower"] < sd[0] < profile.loc["sd_(Intercept)|g", "upper"]
    assert profile.loc["sd_(Intercept)|g", "upper"] > wald.loc["sd_(Intercept)|g", "upper"]  # skewed to the right
    assert profile.loc["cor_x.(Intercept)|g"].between(-1, 1).all()


def test_between_within_df():
    fit = nl.fit(LOGIT, DATA, family="binomial", df="between-within")
    assert fit.df == {"Intercept": 12.0, "x": 97.0, "trt": 12.0}
    assert "t value" in fit.summary()


def test_joint_test_is_walds():
    fit = nl.fit(LOGIT, DATA, family="binomial")
    b, V = np.array([fit.beta["x"], fit.beta["trt"]]), fit.vcov_beta[1:, 1:]
    assert np.isclose(fit.test("x = 0, trt = 0").statistic, b @ np.linalg.solve(V, b) / 2)
    assert np.isclose(fit.test("x = 0").statistic, fit.beta["x"] / fit.se["x"])


def test_comparisons():
    fit = nl.fit(LOGIT, DATA, family="binomial", nodes=5)
    smaller = nl.fit("y ~ trt + (1 | g)", DATA, family="binomial", nodes=5)
    test = fit.compare("y ~ trt + (1 | g)")
    assert np.isclose(test.statistic, smaller.neg2loglik - fit.neg2loglik, rtol=1e-8)
    assert test.mixture == ((1.0, 1),)
    assert fit.compare("y ~ x + trt").mixture == ((0.5, 0), (0.5, 1))
    with pytest.raises(nl.DataError, match="nested"):
        fit.compare("y ~ t + (1 | g)")
    with pytest.raises(nl.DataError, match="compared by asymptotic and chisq"):
        fit.compare("y ~ trt + (1 | g)", reference="bootstrap")
    with pytest.raises(nl.DataError, match="no likelihood to compare by"):
        nl.fit(LOGIT, DATA, family="binomial", method="pql").compare("y ~ trt + (1 | g)")


def test_a_negative_binomial_null_without_random_effects():
    data = frame(9, 16, 8)
    rng = np.random.default_rng(2)
    data["k"] = rng.negative_binomial(1.5, 1.5 / (1.5 + np.exp(0.3 + 0.2 * data["x"] + rng.normal(size=16)[data["g"]])))
    fit = nl.fit("k ~ x + (1 | g)", data, family="negative-binomial")
    assert fit.status == Status.ok
    assert 0.3 < fit.dispersion < 10
    assert fit.compare("k ~ x").p < 1e-4


def test_pql_has_the_rules_of_linear_models():
    fit = nl.fit(LOGIT, DATA, family="binomial", method="pql", df="kenward-roger")
    assert 5 < fit.df["trt"] < 14
    with pytest.raises(nl.DataError, match="no likelihood to profile"):
        fit.confint(method="profile")


# The command line ----------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_json(tmp_path):
    path = tmp_path / "d.csv"
    DATA.to_csv(path, index=False)
    run = CliRunner().invoke(app, ["fit", str(path), "e ~ x + trt + (1 | g)", "--family", "binomial", "--trials", "n",
                                   "--link", "probit", "--nodes", "7", "--confint", "--test", "x = 0",
                                   "--compare", "e ~ x + (1 | g)"])  # fmt: skip
    assert run.exit_code == 0, run.output
    assert " Family: binomial  ( probit )" in run.output
    assert "nAGQ = 7" in run.output
    assert "x = 0: z = " in run.output
    assert "by chi2(1)" in run.output
    assert "sd_(Intercept)|g" in run.output
    run = CliRunner().invoke(app, ["fit", str(path), "k ~ x + (1 | g)", "--family", "poisson", "--json"])
    made = json.loads(run.output)
    assert made["family"] == "poisson"
    assert set(made["ML"]["beta"]) == {"Intercept", "x"}
    run = CliRunner().invoke(app, ["fit", str(path), "k ~ x + (1 | g)", "--family", "poisson", "--pql", "--json"])
    assert "PQL, REML" in json.loads(run.output)
    assert CliRunner().invoke(app, ["fit", str(path), "k ~ x + (1 | g)", "--family", "binomial"]).exit_code == 2


# Random designs ------------------------------------------------------------------------------------------------------


def fits(seed, count):
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        design = random_design(rng)
        if usable(design):
            model = fit_glmm(design.outcome, design.X, design.factors, np.zeros(len(design.X)), nodes=design.nodes)
            yield i, rng, design, model


def test_random_designs_end_with_a_certificate():
    """Of 2,000 such designs 1,159 were singular, 571 ok, 264 separated, and none was without an end."""
    statuses = []
    for _, _, _, model in fits(1, 60):
        statuses.append(model.status)
        assert len(model.beta) == model.X.shape[1]
        if model.status.converged:
            assert np.isfinite(model.beta).all()
            assert np.isfinite(np.diag(model.vcov)).all()
    assert set(statuses) == {Status.ok, Status.singular, Status.separated}


def no_lower(seed, count, starts):
    """How many fits were compared with what SciPy finds on the dense likelihood, none of it lower."""
    compared = 0
    for i, rng, design, model in fits(seed, count):
        if not model.status.converged or model.limit:
            continue
        if design.nodes > 1 and design.factors[0].q > 1:
            continue  # few nodes of a product depend on the axes, which the oracle has turned otherwise
        tail = [np.log(model.dispersion)] if design.outcome.dispersed else []
        psi = np.concatenate([model.beta, model.theta, tail])
        assert np.isclose(dense_deviance(design, psi), model.deviance, rtol=0, atol=1e-5), i
        for size in starts:
            found = minimize(
                lambda at, design=design: dense_deviance(design, at) if np.abs(at).max() < 30 else 1e10,
                psi + size * rng.normal(size=len(psi)), method="L-BFGS-B", options={"maxiter": 40},
            )  # fmt: skip
            assert model.deviance <= found.fun + 1e-5, i
        compared += 1
    return compared


def test_another_optimiser_finds_nothing_lower():
    assert no_lower(5, 8, (0.5,)) >= 4


@pytest.mark.calibration
def test_two_thousand_random_designs():
    counts = np.bincount([model.status for *_, model in fits(2, 2000)], minlength=len(Status))
    assert counts[[Status.not_converged, Status.rank_deficient, Status.nonfinite]].sum() == 0
    assert counts[Status.separated] > 200


@pytest.mark.calibration
def test_another_optimiser_finds_nothing_lower_in_two_hundred():
    assert no_lower(6, 260, (0.1, 1.0)) >= 200
