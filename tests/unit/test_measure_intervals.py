"""t quantiles against scipy's distribution object, Wilson's limits against the score test that they invert."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.optimize import brentq

from nestlab.measure.intervals import critical_values, wilson


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.05, 0.01, 0.001, 1e-6, 1e-15])
def test_critical_values_vectorised(alpha):
    df = np.array([0.5, 1.0, 1.7, 2.0, 2.5, 4.0, 9.99, 18.0, 63.2, 498.0, 1e5, 1e9, np.inf])
    assert_allclose(critical_values(df, alpha), stats.t.isf(alpha / 2, df), rtol=2e-12)
    assert_allclose(critical_values(df, alpha, sides=1), stats.t.isf(alpha, df), rtol=2e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.55, 0.8, 0.99])
def test_critical_values_one_sided_above_one_half_vectorised(alpha):
    df = np.array([0.5, 1.7, 2.0, 4.0, 63.2, 1e9, np.inf])
    assert_allclose(critical_values(df, alpha, sides=1), stats.t.isf(alpha, df), rtol=2e-12)
    assert np.isnan(critical_values([1e-4, 1e-4], alpha, sides=1)).all()


def test_critical_values_one_sided_equal_two_sided_at_twice_alpha():
    df = np.array([0.5, 2.5, 18.0, 498.0, np.inf])
    assert (critical_values(df, 0.05, sides=1) == critical_values(df, 0.1)).all()


def test_critical_values_of_one_df_equal_those_among_many():
    df = np.array([2.5, 18.0, 63.2, 498.0])
    alone = [float(critical_values(np.full(3, value), 0.05)[0]) for value in df]
    assert_allclose(critical_values(df, 0.05), alone, rtol=1e-12)


def test_critical_values_of_a_number():
    assert float(critical_values(np.inf, 0.05)) == pytest.approx(1.959963984540054, rel=1e-12)
    assert critical_values(18, 0.1).shape == ()


@pytest.mark.parametrize("rest", [[], [18.0], [18.0, 18.0], [3.0, 18.0]])
def test_critical_values_degenerate(rest):
    bad = [np.nan, 0.0, -1.0, -np.inf, 1e-4, 0.3, 0.499]  # the quantile at 0.3 is 6582
    for sides in (1, 2):
        values = critical_values(np.array(bad + rest), 0.05, sides=sides)
        assert np.isnan(values[: len(bad)]).all()
        assert_allclose(values[len(bad) :], stats.t.isf(0.05 / sides, rest), rtol=1e-10)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (7, 20), (20, 20), (943, 1000), (1, 1), (0, 1), (1, 2)])
def test_wilson_inverts_the_score_test(k, n, level):
    z = stats.norm.isf((1 - level) / 2)

    def score(p):
        return (k / n - p) ** 2 * n - z * z * p * (1 - p)

    lower, upper = wilson(k, n, level)
    assert lower == (0 if k == 0 else pytest.approx(brentq(score, 1e-12, k / n - 1e-9), abs=1e-9))
    assert upper == (1 if k == n else pytest.approx(brentq(score, k / n + 1e-9, 1 - 1e-12), abs=1e-9))


def test_wilson_vectorised():
    lower, upper = wilson(np.array([0.0, 3.0, 9.0]), np.array([0, 10, 10]))
    assert math.isnan(lower[0])
    assert math.isnan(upper[0])
    for i in (1, 2):
        assert (lower[i], upper[i]) == wilson([0, 3, 9][i], 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2), "successes is 3 of n = 2.0; allowed is 0 to n"),
        ((-1, 2), "successes is -1"),
        ((math.nan, 2), "successes is nan"),
        ((1, 2, 95), "level is 95; allowed is a number between 0 and 1"),
    ],
)
def test_wilson_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson(*arguments)


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.001])
def test_critical_values_against_closed_forms(alpha):
    """df 1 is Cauchy's tangent, df 2 algebraic."""
    cauchy, two = critical_values([1.0, 2.0], alpha)
    assert cauchy == pytest.approx(math.tan(math.pi * (0.5 - alpha / 2)), rel=1e-11)
    assert two == pytest.approx((1 - alpha) / math.sqrt(2 * (1 - alpha / 2) * alpha / 2), rel=1e-11)
