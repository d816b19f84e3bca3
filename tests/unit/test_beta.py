"""Beta predictors: against SciPy's distribution, and what they do in a study."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

import nestlab as nl
from nestlab.show.report.predictors import predictor_text
from nestlab.simulate.deviates import standard_normal
from nestlab.simulate.distributions import predictor_transform
from nestlab.simulate.lookup import REACH
from nestlab.simulate.streams import block_generator
from nestlab.spec.identity import describe
from nestlab.spec.model import Layout, Predictor
from nestlab.spec.predictors import DISTRIBUTIONS
from nestlab.spec.problems import StudyError
from nestlab.spec.variances import PredictorMoments

#: mean, sd: one peak, a peak at 0, U-shaped, nearly 0/1, rare, nearly normal.
CASES = [(0.3, 0.1), (0.1, 0.12), (0.5, 0.4), (0.4, 0.48), (0.01, 0.03), (0.9, 0.001)]
ALL = pytest.mark.parametrize(("mean", "sd"), CASES)
SCORES = np.linspace(-REACH, REACH, 40_001)
WEIGHTS = stats.norm.pdf(SCORES) * (SCORES[1] - SCORES[0])


def beta(mean: float, sd: float) -> Any:
    n = mean * (1 - mean) / sd**2 - 1
    return stats.beta(n * mean, n * (1 - mean))


@ALL
def test_moments_by_quadrature(mean: float, sd: float) -> None:
    x = predictor_transform(Predictor("x", 1, "beta", mean, sd))(SCORES)
    assert_allclose((x @ WEIGHTS - mean) / sd, 0, atol=1e-7)
    assert_allclose((x - mean) ** 2 @ WEIGHTS, sd**2, rtol=1e-7)


@ALL
def test_quantiles_are_scipys(mean: float, sd: float) -> None:
    g = np.linspace(-6, 6, 501)
    x = predictor_transform(Predictor("x", 1, "beta", mean, sd))(g)
    expected = np.where(g < 0, beta(mean, sd).ppf(stats.norm.cdf(g)), beta(mean, sd).isf(stats.norm.sf(g)))
    assert_allclose(x, expected, rtol=0, atol=1e-7 * sd + 1e-9)


@ALL
def test_draws_follow_the_distribution(mean: float, sd: float) -> None:
    """200,000 draws: mean and variance within 4 MCSE, no value outside 0 .. 1, and Kolmogorov's distance.

    That is taken from 1e-9 to 1 - 1e-9: of 0.4, 0.48 a third of the values is below 1e-17, which are 0 or so beside the mean.
    """
    x = predictor_transform(Predictor("x", 1, "beta", mean, sd))(
        standard_normal(block_generator(3, "7" * 64, 0), (200_000,))
    )
    assert x.min() >= 0
    assert x.max() <= 1
    assert abs(x.mean() - mean) < 4 * x.std() / math.sqrt(len(x))
    squares = (x - mean) ** 2
    assert abs(squares.mean() - sd**2) < 4 * squares.std() / math.sqrt(len(x))
    x = np.sort(x)
    distance = np.abs(np.arange(1, len(x) + 1) / len(x) - beta(mean, sd).cdf(x))[(x > 1e-9) & (x < 1 - 1e-9)].max()
    assert distance < 1.95 / math.sqrt(len(x))  # p = 0.001


@pytest.mark.parametrize("rate", [-2.0, 0.7, math.log(10)])
@ALL
def test_mean_of_an_exponential(mean: float, sd: float, rate: float) -> None:
    """By the survival function: E exp(r x) = 1 + r integral of exp(r x) P(X > x)."""
    mean_exp = DISTRIBUTIONS["beta"].mean_exp
    assert mean_exp is not None
    upper, _ = integrate.quad(lambda x: math.exp(rate * x) * beta(mean, sd).sf(x), 0, 1, points=[mean], limit=500)
    assert mean_exp(Predictor("x", 1, "beta", mean, sd), rate) == pytest.approx(1 + rate * upper, rel=1e-7)


def study(**x: Any) -> dict[str, Any]:
    return {
        "name": "shares",
        "seed": 5,
        "replications": 100,
        "design": {"clusters": 200, "cluster_size": 10},
        "truth": {
            "formula": "y ~ x + w + z + (1 | g)",
            "fixed": {"Intercept": 1, "x": {"d": 0.2, "per": "sd"}, "w": 0, "z": {"r2": 0.1}},
            "residual_variance": 3,
            "random": {"g": {"variance": {"Intercept": 1}}},
        },
        "predictors": {
            "x": {"level": 1, "distribution": "beta", "mean": 0.3, "sd": 0.25, "icc": 0.2, **x},
            "w": {"level": 1, "distribution": "gamma", "skewness": 1},
            "z": {"level": 2, "distribution": "beta", "mean": 0.6, "sd": 0.1},
        },
        "correlation": {"w:x": 0.4},
    }


def test_in_a_study() -> None:
    """The stated mean, sd, icc and correlation over 10 data sets of 200 clusters; effects in standard units; its words again."""
    made = nl.Study.from_dict(study())
    frames = [made.data(0, r) for r in range(10)]
    x, w = (np.array([frame[name].to_numpy().reshape(200, 10) for frame in frames]) for name in "xw")
    assert x.min() >= 0
    assert x.max() <= 1
    assert abs(x.mean() - 0.3) < 4 * x.mean(axis=2).std() / math.sqrt(2000)
    assert_allclose(x.std(), 0.25, rtol=0.02)
    assert_allclose(np.corrcoef(x.ravel(), w.ravel())[0, 1], 0.4, atol=0.03)
    about = x - 0.3
    pairs = (about.sum(axis=2) ** 2 - (about**2).sum(axis=2)) / 90
    assert abs(pairs.mean() / 0.0625 - 0.2) < 4 * pairs.std() / 0.0625 / math.sqrt(2000)

    (condition,) = made.conditions
    fixed = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    assert fixed["x"] == pytest.approx(0.2 * 2 / 0.25)  # total sd 2
    z = fixed["z"]
    assert z**2 * 0.01 / (z**2 * 0.01 + (fixed["x"] * 0.25) ** 2 * 0.2 + 1) == pytest.approx(0.1)
    assert describe(condition)["predictors"]["x"] == {
        "level": 1, "distribution": "beta", "mean": 0.3, "sd": 0.25, "redraw": True, "icc": 0.2,
    }  # fmt: skip
    assert predictor_text(condition.predictor("x")) == (
        "x varies within clusters and is beta (mean 0.3, sd 0.25), 0.2 of its variance between clusters, drawn anew in each "
        "replicate"
    )


def test_moments_by_level() -> None:
    parts = PredictorMoments([Predictor("x", 1, "beta", 0.3, 0.2, icc=0.25)], Layout((5,) * 4)).parts("x")
    assert parts is not None
    assert (parts.mean, parts.between, parts.within) == pytest.approx((0.3, 0.01, 0.03))


OPEN = 'must be between 0 and 1, neither included, for distribution = "beta"; write a mean such as 0.3'
RANGE = 'must be from 0.000463 to 0.445 for distribution = "beta" with mean = 0.3; correct it, or write distribution ='


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": 1}, f"predictors.x.mean = 1: {OPEN}"),
        ({"sd": 0.5}, f'predictors.x.sd = 0.5: {RANGE} "binary"'),
        ({"sd": 1e-5}, f'predictors.x.sd = 1e-05: {RANGE} "normal"'),
        (
            {"df": 3},
            'predictors.x.df = 3: must be absent for distribution = "beta"; remove it, or write distribution = "t"',
        ),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        nl.Study.from_dict(study(**changes))
    assert caught.value.problems == [message]


@pytest.mark.parametrize(("key", "example"), [("mean", "0.3"), ("sd", "0.1")])
def test_mean_and_sd_are_needed(key: str, example: str) -> None:
    tables = study()
    del tables["predictors"]["x"][key]
    with pytest.raises(StudyError) as caught:
        nl.Study.from_dict(tables)
    assert caught.value.problems == [
        f'predictors.x.{key} is missing: distribution = "beta" needs it; add {key} = {example}, say'
    ]
