"""Log densities of outcomes given the linear predictor, and their derivatives, tails included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, nbinom, norm, poisson

from nestlab.fit.glmm import families
from nestlab.fit.glmm.families import FAR, ObservedRows
from nestlab.spec.family import Family, mean_of

BINOMIAL = [("binomial", link) for link in ("logit", "probit", "cloglog")]
COUNTS = [("poisson", "log"), ("negative-binomial", "log")]
ETA = np.array([-45.0, -25.0, -15.0, -8.0, -5.2, -4.8, -2.0, -0.7, -0.69, 0.0, 0.4, 1.5, 3.0])
LOG_K = 0.7


def outcome(family, link, y, n=4.0):
    return ObservedRows(Family(family, link), np.full(len(ETA), float(y)), np.full(len(ETA), n))


def difference(f, x, h):
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize(("family", "link"), BINOMIAL + COUNTS)
@pytest.mark.parametrize("y", [0, 1, 4])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_against_differences(family, link, y, order):
    made = outcome(family, link, y)

    def of(eta):
        return made.derivatives(eta, order - 1, LOG_K)[order - 1]

    exact = made.derivatives(ETA, order, LOG_K)[order]
    # rounding of the function itself: relative where it is large, absolute where it is far smaller than its terms
    noise = 1e-11 * (np.abs(of(ETA)) + 4e-3) + 1e-8 * np.abs(exact)
    assert (np.abs(difference(of, ETA, 1e-3) - exact) <= 20 * noise).all()


@pytest.mark.parametrize(("family", "link"), BINOMIAL)
def test_binomial_density_against_scipy(family, link):
    eta = np.linspace(-4, 1.5, 23)
    for y in (0, 1, 4):
        made = ObservedRows(Family(family, link), np.full(23, float(y)), np.full(23, 4.0))
        assert np.allclose(made.derivatives(eta, 0)[0], binom.logpmf(y, 4, mean_of(link, eta)), rtol=1e-11, atol=1e-12)


def test_count_densities_against_scipy():
    eta = np.linspace(-4, 4, 23)
    mu, k = np.exp(eta), np.exp(LOG_K)
    for y in (0, 3, 40):
        values = np.full(23, float(y))
        made = ObservedRows(Family("poisson", "log"), values, np.ones(23))
        assert np.allclose(made.derivatives(eta, 0)[0], poisson.logpmf(y, mu), rtol=1e-12)
        made = ObservedRows(Family("negative-binomial", "log"), values, np.ones(23))
        assert np.allclose(made.derivatives(eta, 0, LOG_K)[0], nbinom.logpmf(y, k, k / (k + mu)), rtol=1e-11)


def test_negative_binomial_goes_to_poisson_without_cancellation():
    eta, y = np.linspace(-2, 6, 30), np.arange(30.0)
    exact = ObservedRows(Family("poisson", "log"), y, np.ones(30)).derivatives(eta, 2)
    near = ObservedRows(Family("negative-binomial", "log"), y, np.ones(30)).derivatives(eta, 2, np.log(1e12))
    for a, b in zip(near, exact, strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_probit_tails_join():
    """The three ways to compute derivatives of log Phi agree where one takes over from another."""
    for edge in (-FAR, -5.0):
        made = [
            ObservedRows(Family("binomial", "probit"), np.ones(1), np.ones(1)).derivatives(np.array([edge + d]), 4)
            for d in (-1e-9, 1e-9)
        ]
        for k, (a, b) in enumerate(zip(*made, strict=True)):
            assert np.allclose(a, b, rtol=1e-6 if k == 4 else 1e-7)


def test_probit_far_out():
    x = np.array([-40.0, -100.0, -1e4])
    _, first, second, third, _ = ObservedRows(Family("binomial", "probit"), np.ones(3), np.ones(3)).derivatives(x, 4)
    assert np.allclose(first, -x - 1 / x + 2 / x**3, rtol=1e-7)
    assert np.allclose(second, -1 + 1 / x**2, rtol=1e-5)
    assert np.allclose(third, -2 / x**3, rtol=2e-2)
    assert np.isclose(first[0], np.exp(norm.logpdf(-40.0) - norm.logcdf(-40.0)), rtol=1e-12)


def test_cloglog_of_rare_events_and_of_certain_ones():
    made = ObservedRows(Family("binomial", "cloglog"), np.ones(3), np.ones(3))
    value, first, second, third, fourth = made.derivatives(np.array([-60.0, 4.0, 400.0]), 4)
    assert np.allclose(value, [-60.0, np.log(-np.expm1(-np.exp(4.0))), 0.0], rtol=1e-12, atol=1e-30)
    assert np.isclose(second[0], -np.exp(-60.0) / 2, rtol=1e-10)
    assert [float(d[2]) for d in (first, second, third, fourth)] == [0.0] * 4


@pytest.mark.parametrize(("family", "link"), [*BINOMIAL, ("poisson", "log")])
def test_expected_weights_are_the_mean_of_observed_ones(family, link):
    eta = np.linspace(-2, 1, 7)
    mu = mean_of(link, eta)
    counts = np.arange(60.0) if family == "poisson" else np.arange(5.0)
    probability = poisson.pmf(counts[:, None], mu) if family == "poisson" else binom.pmf(counts[:, None], 4, mu)
    observed = np.array(
        [-ObservedRows(Family(family, link), np.full(7, y), np.full(7, 4.0)).derivatives(eta, 2)[2] for y in counts]
    )
    made = ObservedRows(Family(family, link), np.zeros(7), np.full(7, 4.0))
    W, slope = made.expected_weights(eta)
    assert np.allclose(W, (probability * observed).sum(axis=0), rtol=1e-10)
    assert np.allclose(slope, difference(lambda e: made.expected_weights(e)[0], eta, 1e-3), rtol=1e-8)


@pytest.mark.parametrize("log_k", [-3.0, 0.0, 2.0, 6.0])
def test_derivatives_in_the_dispersion(log_k):
    eta = np.linspace(-3, 3, 9)
    made = ObservedRows(Family("negative-binomial", "log"), np.arange(9.0), np.ones(9))
    for k, exact in enumerate(made.in_dispersion(eta, log_k)):
        found = difference(lambda t, k=k: made.derivatives(eta, 2, t)[k], log_k, 1e-3)
        assert np.allclose(found, exact, rtol=1e-7, atol=1e-8)


def test_a_batch_of_predictors_and_dispersions():
    eta = np.random.default_rng(1).normal(size=(9, 4))
    log_k = np.linspace(-1, 2, 4)
    made = ObservedRows(Family("negative-binomial", "log"), np.arange(9.0), np.ones(9))
    together = made.derivatives(eta, 4, log_k[None])
    for b in range(4):
        for whole, own in zip(together, made.derivatives(eta[:, b], 4, log_k[b]), strict=True):
            assert np.allclose(whole[:, b], own, rtol=1e-13)


@pytest.mark.parametrize("log_k", [-2.0, 1.0, 3.0, 3.6, 8.0, 20.0])
def test_large_counts_are_as_exact_as_the_table(log_k, monkeypatch):
    eta, y = np.linspace(-1, 6, 8), np.array([0.0, 1.0, 5.0, 40.0, 400.0, 700.0, 900.0, 1000.0])
    made = ObservedRows(Family("negative-binomial", "log"), y, np.ones(8))
    table = [made.derivatives(eta, 0, log_k)[0], made.in_dispersion(eta, log_k)[0]]
    monkeypatch.setattr(families, "LONGEST_TABLE", 0)
    for a, b in zip(table, [made.derivatives(eta, 0, log_k)[0], made.in_dispersion(eta, log_k)[0]], strict=True):
        assert np.allclose(a, b, rtol=1e-12, atol=2e-11)
