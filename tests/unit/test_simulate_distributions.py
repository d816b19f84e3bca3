"""Deviates from normal scores: against quadrature, scipy.stats, simulated moments, and correlations in closed form."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from nestlab.simulate.deviates import standard_normal
from nestlab.simulate.distributions import (
    Transform,
    attainable,
    latent_correlation,
    latent_icc,
    predictor_transform,
    score_correlations,
    transform,
)
from nestlab.simulate.lookup import REACH
from nestlab.simulate.streams import block_generator
from nestlab.spec.model import Distribution, Predictor
from nestlab.spec.predictors.categories import contrast_values
from nestlab.spec.predictors.scaled import SKEW_NORMAL_LIMIT
from nestlab.spec.problems import StudyError


def of(kind, **parameters):
    return Distribution(kind, tuple(parameters.items()))


def gamma(shape):
    return stats.gamma(shape, loc=-math.sqrt(shape), scale=1 / math.sqrt(shape))


def lognormal(skewness):
    v = 2 * math.sinh(math.asinh(skewness / 2) / 3)
    return stats.lognorm(math.sqrt(math.log1p(v * v)), loc=-1 / v, scale=1 / (v * math.sqrt(1 + v * v)))


def skew_normal(a):
    return stats.skewnorm(a, -stats.skewnorm.mean(a) / stats.skewnorm.std(a), 1 / stats.skewnorm.std(a))


#: Distribution, and scipy's where it has one, standardised.
CASES = {
    "normal": (of("normal"), stats.norm()),
    "uniform": (of("uniform"), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))),
    "t, 3": (of("t", df=3.0), stats.t(3, scale=math.sqrt(1 / 3))),
    "t, 5": (of("t", df=5.0), stats.t(5, scale=math.sqrt(3 / 5))),
    "t, 200": (of("t", df=200.0), stats.t(200, scale=math.sqrt(198 / 200))),
    "skew-normal": (of("skew-normal", skewness=float(stats.skewnorm.stats(4, moments="s"))), skew_normal(4)),
    "skew-normal, steep": (of("skew-normal", skewness=0.99), None),
    "skew-normal, round": (of("skew-normal", skewness=float(stats.skewnorm.stats(-2, moments="s"))), skew_normal(-2)),
    "gamma": (of("gamma", skewness=2.0), gamma(1)),
    "gamma, steep": (of("gamma", skewness=5.0), gamma(0.16)),
    "gamma, round": (of("gamma", skewness=-1.0), None),
    "gamma, nearly normal": (of("gamma", skewness=1e-3), None),
    "lognormal": (of("lognormal", skewness=1.0), lognormal(1)),
    "lognormal, steep": (of("lognormal", skewness=5.0), lognormal(5)),
    "lognormal, round": (of("lognormal", skewness=-2.0), None),
    "chi-square, 1": (of("chi-square", df=1.0), stats.chi2(1, -1 / math.sqrt(2), 1 / math.sqrt(2))),
    "chi-square, 20": (of("chi-square", df=20.0), stats.chi2(20, -20 / math.sqrt(40), 1 / math.sqrt(40))),
    "contaminated": (of("contaminated", share=0.1, ratio=3.0), None),
    "contaminated, rarely": (of("contaminated", share=0.01, ratio=10.0), None),
}
ALL = pytest.mark.parametrize("name", CASES)
SCORES = np.linspace(-REACH, REACH, 40_001)
WEIGHTS = stats.norm.pdf(SCORES) * (SCORES[1] - SCORES[0])


@ALL
def test_mean_and_variance_by_quadrature(name):
    x = transform(CASES[name][0])(SCORES)
    assert abs(x @ WEIGHTS) < 1e-6
    assert abs(x**2 @ WEIGHTS - 1) < 2e-6  # t with 3 df: 1.03e-6 of its variance is beyond all scores
    assert (np.diff(x) >= 0).all()


@pytest.mark.parametrize("name", [name for name, (case, _) in CASES.items() if dict(case.parameters).get("skewness")])
def test_skewness_by_quadrature(name):
    case = CASES[name][0]
    assert_allclose(transform(case)(SCORES) ** 3 @ WEIGHTS, case["skewness"], atol=1e-6)


@pytest.mark.parametrize("name", [name for name, (_, oracle) in CASES.items() if oracle is not None])
def test_quantiles_are_scipys(name):
    """At probabilities down to 1e-9; from the upper side where that has the digits. scipy's skewnorm has fewer."""
    case, oracle = CASES[name]
    g = np.linspace(-6, 6, 501) if case.kind != "skew-normal" else np.linspace(-3, 3, 101)
    expected = np.where(g < 0, oracle.ppf(stats.norm.cdf(g)), oracle.isf(stats.norm.sf(g)))
    found = transform(case)(g)
    tolerance = 1e-9 if case.kind != "skew-normal" else 1e-7
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() < tolerance


@pytest.mark.parametrize("name", ["contaminated", "contaminated, rarely", "skew-normal, steep"])
def test_distribution_functions_of_quantiles(name):
    """F(x(g)) = Phi(g), of densities written out."""
    case = CASES[name][0]
    g = np.linspace(-4, 4, 81)
    x = transform(case)(g)
    if case.kind == "contaminated":
        s = 1 / math.sqrt(1 - case["share"] + case["share"] * case["ratio"] ** 2)
        below = (1 - case["share"]) * stats.norm.cdf(x / s) + case["share"] * stats.norm.cdf(x / s / case["ratio"])
    else:
        power = (2 * case["skewness"] / (4 - math.pi)) ** (2 / 3)  # (mean / sd)^2, Azzalini 1985
        mean2 = power / (1 + power)
        delta2 = mean2 * math.pi / 2
        z = x * math.sqrt(1 - mean2) + math.sqrt(mean2)
        t = np.linspace(-9, 9, 200_001)
        density = 2 * stats.norm.pdf(t) * stats.norm.cdf(math.sqrt(delta2 / (1 - delta2)) * t)
        below = np.interp(z, t, np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * (t[1] - t[0])]))
    assert_allclose(below, stats.norm.cdf(g), rtol=0, atol=5e-8)  # of the interpolated integral


@ALL
def test_draws_have_the_stated_mean_and_variance(name):
    """200,000 draws: within 4 MCSE, and Kolmogorov's distance where scipy has the distribution."""
    case, oracle = CASES[name]
    x = transform(case)(standard_normal(block_generator(3, "7" * 64, 0), (200_000,)))
    assert abs(x.mean()) < 4 * x.std() / math.sqrt(len(x))
    squares = (x - x.mean()) ** 2
    if name != "t, 3":  # no fourth moment, so no MCSE
        assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(len(x))
    if oracle is not None:
        assert stats.kstest(x, oracle.cdf).pvalue > 0.001


def test_nearly_normal_gammas_join_the_others():
    """On both sides of where the expansion begins, shape 1e5."""
    g = np.linspace(-6, 6, 241)
    below, above = (transform(of("gamma", skewness=2 / math.sqrt(shape)))(g) for shape in (99_999.0, 100_001.0))
    assert np.abs(below - above).max() < 2e-6
    assert np.abs(below - above - (2 / math.sqrt(99_999) - 2 / math.sqrt(100_001)) * (g**2 - 1) / 6).max() < 2e-9


def test_a_heavy_tail_is_standardised_by_its_own_variance():
    """t with 2.1 df: quantiles are scipy's; what scores up to 9 hold of its variance is as documented."""
    x = transform(of("t", df=2.1))(SCORES)
    expected = stats.t.ppf(stats.norm.cdf(SCORES[SCORES < 0]), 2.1) * math.sqrt(0.1 / 2.1)
    assert_allclose(x[SCORES < 0], expected, rtol=1e-7)
    assert_allclose(1 - x**2 @ WEIGHTS, 0.138, atol=0.001)


def test_no_skewness_is_the_normal_distribution():
    for kind in ("gamma", "lognormal", "skew-normal"):
        assert transform(of(kind, skewness=0.0)).normal
    assert float(stats.halfnorm.stats(moments="s")) == pytest.approx(SKEW_NORMAL_LIMIT)


def test_scores_beyond_the_table_take_its_ends():
    uniform = transform(of("uniform"))
    assert_allclose(uniform(np.array([-50.0, 50.0, -REACH, REACH])), math.sqrt(3) * np.array([-1, 1, -1, 1]))


def test_predictors_have_their_mean_and_sd_or_levels():
    g = standard_normal(block_generator(3, "8" * 64, 0), (100_000,))
    x = predictor_transform(Predictor("x", 1, "gamma", 50.0, 10.0, shape=(("skewness", 1.0),)))(g)
    assert abs(x.mean() - 50) < 4 * 10 / math.sqrt(len(x))
    assert abs(x.std() - 10) < 0.15
    binary = predictor_transform(Predictor("b", 1, "binary", mean=0.3))(g)
    assert set(binary) == {0.0, 1.0}
    assert abs(binary.mean() - 0.3) < 4 * math.sqrt(0.21 / len(g))
    k = Predictor("k", 1, "categorical", categories=("a", "b", "c"), shares=(0.2, 0.3, 0.5))
    shares = np.bincount(predictor_transform(k)(g).astype(int)) / len(g)
    assert (np.abs(shares - k.shares) < 4 * np.sqrt(np.array(k.shares) * 0.8 / len(g))).all()
    drawn = predictor_transform(Predictor("r", 1, "resampled", values=(7.0, 1.0, 7.0, 3.5)))(g)
    assert_allclose([(drawn == v).mean() for v in (1.0, 3.5, 7.0)], [0.25, 0.25, 0.5], atol=0.006)
    assert set(drawn) == {1.0, 3.5, 7.0}


def test_a_share_of_0_or_1_has_one_level():
    g = np.linspace(-8, 8, 33)
    assert not predictor_transform(Predictor("b", 1, "binary", mean=0.0))(g).any()
    assert predictor_transform(Predictor("b", 1, "binary", mean=1.0))(g).all()


def test_a_predictor_that_is_not_drawn_has_no_transform():
    with pytest.raises(ValueError, match="'time' is not a distribution that is drawn from scores"):
        predictor_transform(Predictor("t", 1, "time"))


def test_contrasts_of_categories():
    """helmert as R's contr.helmert(4)."""

    def coded(coding):
        return contrast_values(Predictor("k", 1, "categorical", categories=tuple("abcd"), coding=coding))

    assert_array_equal(coded("treatment"), [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert_array_equal(coded("sum"), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]])
    assert_array_equal(coded("helmert"), [[-1, -1, -1], [1, -1, -1], [0, 2, -1], [0, 0, 3]])


# -- correlations


NORMAL = Predictor("n", 1, "normal")
LOG = Predictor("l", 1, "lognormal", shape=(("skewness", 2.0),))
UNIFORM = Predictor("u", 1, "uniform")
HALF = Predictor("h", 1, "binary", mean=0.5)
RARE = Predictor("b", 1, "binary", mean=0.2)
GAMMA = Predictor("g", 1, "gamma", shape=(("skewness", 3.0),))
T = Predictor("t", 1, "t", shape=(("df", 4.0),))
SOME = Predictor("r", 1, "resampled", values=(0.0, 1.0, 1.0, 5.0))


def latent(a, b, r):
    return latent_correlation(predictor_transform(a), predictor_transform(b), r)


def test_correlations_of_scores_in_closed_form():
    s = lognormal(2.0).args[0]
    assert latent(NORMAL, Predictor("m", 1, "normal", 5.0, 2.0), -0.37) == -0.37
    assert_allclose(latent(NORMAL, LOG, 0.4), 0.4 * math.sqrt(math.expm1(s * s)) / s, rtol=1e-9)
    assert_allclose(latent(LOG, LOG, -0.2), math.log1p(-0.2 * math.expm1(s * s)) / (s * s), rtol=1e-9)
    assert_allclose(latent(UNIFORM, UNIFORM, 0.6), 2 * math.sin(math.pi * 0.6 / 6), rtol=1e-8)
    assert_allclose(latent(HALF, HALF, 0.5), math.sin(math.pi / 2 * 0.5), rtol=1e-9)
    c = stats.norm.isf(0.2)
    assert_allclose(latent(RARE, NORMAL, 0.3), 0.3 * math.sqrt(0.2 * 0.8) / stats.norm.pdf(c), rtol=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "r"),
    [(GAMMA, GAMMA, 0.5), (GAMMA, RARE, 0.3), (RARE, HALF, -0.3), (T, UNIFORM, 0.7), (GAMMA, LOG, -0.25), (SOME, GAMMA, 0.4)],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_draws_have_the_stated_correlation(a, b, r):
    """Within 4 MCSE, by the influence function of a correlation."""
    rho = latent(a, b, r)
    g = standard_normal(block_generator(3, "9" * 64, 0), (2, 400_000))
    g[1] = rho * g[0] + math.sqrt(1 - rho * rho) * g[1]
    x, y = (predictor_transform(p)(scores) for p, scores in zip((a, b), g, strict=True))
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    found = (x * y).mean()
    influence = x * y - found * (x * x + y * y) / 2
    assert abs(found - r) < 4 * influence.std() / math.sqrt(len(x))


def test_attainable_correlations():
    b, h = predictor_transform(RARE), predictor_transform(HALF)
    assert_allclose(attainable(b, b), (-0.25, 1.0), atol=1e-9)  # -p / (1 - p)
    assert_allclose(attainable(b, h), (-0.5, 0.5), atol=1e-9)
    n, u = predictor_transform(NORMAL), predictor_transform(UNIFORM)
    assert_allclose(attainable(n, u), (-math.sqrt(3 / math.pi), math.sqrt(3 / math.pi)), rtol=1e-9)


def test_a_correlation_that_cannot_be_is_refused_with_the_range():
    with pytest.raises(StudyError) as refused:
        latent(RARE, HALF, 0.6)
    assert str(refused.value) == (
        "correlation = 0.6: must be between -0.5 and 0.5, all that variables of these distributions can have; "
        "write a weaker correlation or other distributions"
    )
    with pytest.raises(StudyError, match=r'correlation\."b:h" = 0\.6: must be between'):
        score_correlations((RARE, HALF), (("b", "h", 0.6),))


def test_intraclass_correlations_of_scores():
    assert latent_icc(Predictor("n", 1, "normal", icc=0.3)) == 0.3
    assert latent_icc(Predictor("n", 1, "gamma", shape=(("skewness", 2.0),))) == 0.0
    s = lognormal(2.0).args[0]
    found = latent_icc(Predictor("l", 1, "lognormal", icc=0.2, shape=(("skewness", 2.0),)))
    assert_allclose(found, math.log1p(0.2 * math.expm1(s * s)) / (s * s), rtol=1e-9)


def test_correlations_within_and_between_give_those_of_rows():
    a, b = Predictor("a", 1, "normal", icc=0.5), Predictor("b", 1, "normal", icc=0.1)
    R, shares = score_correlations((a, b), (("b", "a", 0.3),))
    assert_allclose(shares, [0.5, 0.1])
    assert_allclose(R[0, 1] * (math.sqrt(0.05) + math.sqrt(0.45)), 0.3)
    with pytest.raises(StudyError) as refused:
        score_correlations((a, b), (("a", "b", 0.9),))
    assert 'correlation."a:b" = 0.9: must be between -0.894 and 0.894 with these intraclass' in str(refused.value)


def test_correlations_that_contradict_each_other_are_refused():
    trio = tuple(Predictor(name, 2, "normal") for name in "abc")
    with pytest.raises(StudyError) as refused:
        score_correlations(trio, (("a", "b", 0.9), ("b", "c", 0.9), ("a", "c", -0.9)))
    assert "contradict each other (the smallest eigenvalue of the scores' correlations is -0.8" in str(refused.value)
    assert score_correlations(trio, (("a", "b", 0.5), ("x", "z", 0.9)))[0][0, 1] == 0.5


def test_transforms_write_where_they_are_told():
    g = np.linspace(-1, 1, 12).reshape(3, 4)
    expected = transform(of("uniform"))(g)
    assert expected.shape == (3, 4)
    assert transform(of("uniform"))(g, out=g) is g
    assert_array_equal(g, expected)
    assert_array_equal(Transform(mean=2.0, sd=3.0)(np.array([-1.0, 1.0])), [-1.0, 5.0])
    assert_array_equal(Transform(mean=2.0, sd=3.0, bounds=(0.0, 4.0))(np.array([-1.0, 0.5, 1.0])), [0.0, 3.5, 4.0])
