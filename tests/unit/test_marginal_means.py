"""What a truth of a binary or count outcome means: marginal means, odds ratios and intraclass correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from nestlab.show.outcome import label_of, outcome_lines, outcome_numbers
from nestlab.spec.model import Condition
from nestlab.spec.outcome import marginal_means
from nestlab.spec.study import StudyFile


def condition(truth: dict[str, object], variance: float, **more: object) -> Condition:
    study = {
        "name": "m", "seed": 1, "replications": 10, "design": {"clusters": 20, "cluster_size": 10},
        "truth": {"formula": "y ~ trt + (1 | g)", "random": {"g": {"variance": {"Intercept": variance}}}} | truth,
        "predictors": {"trt": {"level": 2, "distribution": "balanced"}},
    } | more  # fmt: skip
    return StudyFile.from_dict(study).conditions()[0]


#: Prevalence, variance between areas and between individuals on the probability scale, icc: area variance 0.2 on the logit scale
#: (Merlo et al. 2006, J Epidemiol Community Health 60(4), by quadrature in place of their simulation).
MERLO = [
    (0.01, 0.000026, 0.010815, 0.00238), (0.1, 0.001855, 0.093613, 0.01943), (0.2, 0.005206, 0.158936, 0.03172),
    (0.3, 0.008754, 0.207967, 0.04039), (0.5, 0.011401, 0.238599, 0.0456), (0.8, 0.005206, 0.158936, 0.03172),
]  # fmt: skip


@pytest.mark.parametrize(("prevalence", "between", "within", "icc"), MERLO)
def test_icc_on_the_probability_scale_is_the_published_one(
    prevalence: float, between: float, within: float, icc: float
) -> None:
    intercept = round(float(logit(prevalence)), 1)
    (arm, _) = marginal_means(
        condition({"family": "binomial", "fixed": {"Intercept": intercept, "trt": 0}}, 0.2), ["trt"]
    )
    whole = arm.marginal * (1 - arm.marginal)
    exact = quad(lambda u: expit(intercept + u) * norm.pdf(u, scale=math.sqrt(0.2)), -8, 8, epsabs=1e-13)[0]
    assert arm.marginal == pytest.approx(exact, rel=1e-10)
    if abs(logit(prevalence) - intercept) < 0.02:  # the table has the exact intercept, and prints one decimal of it
        assert arm.icc == pytest.approx(icc, abs=3e-4)
        assert arm.icc * whole == pytest.approx(between, rel=0.03)
        assert (1 - arm.icc) * whole == pytest.approx(within, rel=0.03)


def test_numbers_of_a_binary_trial() -> None:
    truth = {"family": "binomial", "baseline": 0.3, "fixed": {"trt": {"odds_ratio": 1.6}}}
    numbers = outcome_numbers(condition(truth, 0.5), "trt")
    assert numbers["typical:trt = 0"] == pytest.approx(0.3)
    assert numbers["ratio within:trt"] == pytest.approx(1.6)
    over = [quad(lambda u, a=a: expit(a + u) * norm.pdf(u, scale=math.sqrt(0.5)), -9, 9)[0]
            for a in (logit(0.3), logit(0.3) + math.log(1.6))]  # fmt: skip
    assert numbers["marginal:trt = 0"] == pytest.approx(over[0], rel=1e-9)
    assert numbers["ratio over all:trt"] == pytest.approx(math.exp(logit(over[1]) - logit(over[0])), rel=1e-9)
    assert numbers["icc_latent"] == pytest.approx(0.5 / (0.5 + math.pi**2 / 3))
    assert label_of("marginal:trt = 0") == "probability or rate at trt = 0, over all clusters"


def test_rates_of_counts_have_closed_forms() -> None:
    """E exp(eta) of a normal eta is exp(mean + variance / 2); the rate ratio is the same within and over clusters.

    Var exp(eta) is (E exp(eta))^2 (exp(variance) - 1), to which Poisson sampling adds E exp(eta) / exposure.
    """
    truth = {"family": "poisson", "baseline": 2.0, "fixed": {"trt": {"rate_ratio": 1.5}}}
    numbers = outcome_numbers(condition(truth, 0.4), "trt")
    assert numbers["marginal:trt = 0"] == pytest.approx(2 * math.exp(0.2), rel=1e-9)
    assert numbers["ratio over all:trt"] == pytest.approx(1.5, rel=1e-9)
    assert "icc_latent" not in numbers
    for exposure in (1.0, 3.0):
        numbers = outcome_numbers(condition(truth | {"exposure": exposure}, 0.4), "trt")
        rate = 2 * math.exp(0.2)
        between = rate**2 * math.expm1(0.4)
        assert numbers["icc_outcome:trt = 0"] == pytest.approx(between / (between + rate / exposure), rel=1e-9)


def test_covariates_are_integrated_over() -> None:
    """With a normal covariate of level 1, against a draw of a million rows; with a random slope of it the sum is not normal."""
    study = {
        "truth": {
            "formula": "y ~ trt + x + (1 | g)", "family": "binomial", "link": "probit",
            "fixed": {"Intercept": -0.5, "trt": 0.4, "x": 0.5},
            "random": {"g": {"variance": {"Intercept": 0.3}}},
        },
        "predictors": {
            "trt": {"level": 2, "distribution": "balanced"}, "x": {"level": 1, "distribution": "normal", "mean": 1, "sd": 1},
        },
    }  # fmt: skip
    control, treated = marginal_means(condition(study["truth"], 0.3, predictors=study["predictors"]), ["trt"])
    rng = np.random.default_rng(3)
    x = rng.normal(1, 1, size=10**6)
    eta = -0.5 + 0.5 * x + rng.normal(size=10**6) * np.sqrt(0.3)
    for arm, shift in ((control, 0.0), (treated, 0.4)):
        assert arm.marginal == pytest.approx(norm.cdf(eta + shift).mean(), abs=2e-3)
    slope = study["truth"] | {"formula": "y ~ trt + x + (1 + x | g)"}
    slope["random"] = {"g": {"variance": {"Intercept": 0.3, "x": 0.2}, "correlation": {"Intercept:x": 0.0}}}
    with_slope = condition(slope, 0.3, predictors=study["predictors"])
    assert "its linear predictor taken as normal" in outcome_lines([with_slope], "trt")[0]


def test_lines_for_people() -> None:
    truth = {"family": "binomial", "baseline": 0.3, "fixed": {"trt": {"odds_ratio": 1.6}}}
    assert outcome_lines([condition(truth, 0.5)], "trt") == [
        "what the outcome looks like, given trt:",
        "  probability at trt = 0: 0.3 in a typical cluster, 0.3178 over all clusters",
        "  probability at trt = 1: 0.4068 in a typical cluster, 0.416 over all clusters",
        "  odds ratio of trt: 1.6 within clusters, 1.529 over all",
        "  icc: 0.1319 on the latent scale, 0.09181 at trt = 0, 0.0995 at trt = 1",
    ]
