"""The exact null distribution of the restricted likelihood ratio of one variance.

The spectrum is held against dense projections, the maximiser against the kernel's optimum on the same data, the distribution
against refits of simulated data and against F in a balanced layout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.random import SFC64, Generator
from numpy.typing import NDArray
from scipy.stats import chi2, f, kstest

from nestlab.fit.compare import lr_statistic, p_value
from nestlab.fit.lanes import LANES
from nestlab.fit.lmm import Plan, compile_plan, fit_gram
from nestlab.fit.ols import fit_ols
from nestlab.fit.rlrt import NullDistribution, eigenvalues, exact_p_values, is_fixed_design, null_distribution
from nestlab.fit.spectrum import _logarithms, largest
from nestlab.simulate.gram import Gram, respond
from nestlab.simulate.layout import Design, compile_design, pair
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.replicate import ConditionalRows
from nestlab.simulate.streams import conditional_generator
from nestlab.spec.comparison import compare
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

Array = NDArray[np.float64]
SIZES = (1, 2, 3, 9, 4, 30, 2, 7, 12, 5)
#: fixed part, random column, sizes, whether predictors are redrawn
MODELS = {
    "intercept": ("y ~ x + z", "Intercept", SIZES, True),
    "slope": ("y ~ x + z", "x", SIZES, True),
    "fixed design": ("y ~ x + x:z", "Intercept", SIZES, False),
    "no intercept": ("y ~ 0 + x", "Intercept", SIZES, False),
    "redrawn between": ("y ~ z", "Intercept", SIZES, True),
    "balanced": ("y ~ z", "Intercept", (6,) * 8, False),
}


def stream(seed: int) -> Generator:
    return Generator(SFC64(seed))


def models(
    name: str, replicates: int, *, variance: float = 0.0, seed: int = 1, reml: bool = True
) -> tuple[Design, Any, list[Plan], Gram]:
    """The design, a draw, the plans of the full and the null model, the Gram for both."""
    fixed, column, sizes, redraw = MODELS[name]
    text = f"{fixed} + ({1 if column == 'Intercept' else '0 + x'} | g)"
    formula = parse_formula(text)
    predictors = (Predictor("x", 1, "normal", mean=2.0, redraw=redraw), Predictor("z", 2, "normal", redraw=redraw))
    truth = Truth(formula, (0.5,) * len(formula.fixed), ((variance,),), 2.0)
    used = tuple(p for p in predictors if p.name in text)
    design = compile_design(Condition({}, 4, Layout(sizes), truth, used, "moments", replicates))
    plans = [compile_plan(design, Method("m", parse_formula(t), reml=reml)) for t in (text, fixed)]
    draw = MomentSampler(design)(stream(seed), replicates)
    return design, draw, plans, respond(draw, design, {}, plans[0].multipliers)


def statistics(plans: list[Plan], gram: Gram, replicates: int) -> Array:
    full, null = fit_gram(plans[0], gram, 0, replicates), fit_ols(plans[1], gram, 0, replicates)
    assert full.status.max() <= 1
    return lr_statistic(null.deviance, full.deviance)


def dense(design: Design, draw: Any, plan: Plan, r: int) -> tuple[Array, Array]:
    """(mu, w): eigenvalues of P0 Z Z' P0 and y's coordinates on its eigenvectors, X projected off."""
    rows = ConditionalRows(design)(draw, r, conditional_generator(1, "0" * 64, 0, r))
    X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
    group = np.repeat(np.arange(design.clusters), design.sizes)
    Z = rows.D[:, list(plan.zcols)] * (group[:, None] == np.arange(design.clusters))
    Q = np.linalg.svd(X, full_matrices=True)[0][:, X.shape[1] :]
    mu, vectors = np.linalg.eigh(Q.T @ Z @ Z.T @ Q)
    w: Array = vectors.T @ (Q.T @ rows.response(design))
    return mu, w


@pytest.mark.parametrize("name", MODELS)
def test_spectrum_and_supremum_against_dense_rows(name: str) -> None:
    """Eigenvalues to 1e-9 of the largest. The supremum at the data's own w is the kernel's statistic, to 1e-7."""
    design, draw, plans, gram = models(name, 24, variance=0.1)
    T = statistics(plans, gram, 24)
    found = eigenvalues(plans[0], gram, np.arange(24))
    positive = 0
    for r in range(24):
        mu, w = dense(design, draw, plans[0], r)
        J = min(design.clusters, len(mu))
        np.testing.assert_allclose(found[r][-J:], mu[-J:], atol=1e-9 * mu[-1])
        kept = mu > 1e-8 * mu[-1]
        squares = np.repeat(np.append(w[kept][::-1] ** 2, (w[~kept] ** 2).sum())[:, None], LANES, axis=1)
        out = np.empty(LANES)
        largest(mu[kept][::-1].copy(), np.ones(kept.sum(), dtype=np.int64), len(w), squares, out)
        assert (out == out[0]).all()
        assert out[0] == pytest.approx(T[r], abs=1e-7)
        assert (out[0] == 0) == (T[r] == 0)
        positive += T[r] > 0
    assert 4 < positive < 24


def test_supremum_against_a_fine_grid() -> None:
    """Spread eigenvalues, few rows, signals from none to huge, against 4000 logarithmic steps; 0 is exactly 0."""
    rng = np.random.default_rng(2)
    g = np.append(0, np.geomspace(1e-7, 1e20, 4000))
    zeros = worse = 0
    for k, m in ((2, 4), (5, 7), (12, 300), (40, 45), (150, 30)):
        mu = np.sort(10 ** rng.uniform(-4, 2, k))[::-1].copy()
        repeats = rng.integers(1, 3, k)
        m = int(m + repeats.sum())
        signal = (1 + mu.max() * 10 ** rng.uniform(-4, 4, 200)) ** rng.integers(0, 2, (k + 1, 1))
        squares = rng.chisquare(1, (k + 1, 200)) * signal
        out = np.empty(200)
        largest(mu, repeats, m, squares, out)
        D = squares[k] + (squares[:k, None] / (1 + mu[:, None, None] * g[:, None])).sum(axis=0)
        t = m * np.log(squares.sum(axis=0) / D) - (repeats[:, None] * np.log1p(mu[:, None] * g)).sum(axis=0)[:, None]
        missed = t.max(axis=0) - out
        assert missed.max() < 0.2
        worse += int((missed > 1e-8).sum())
        assert (out <= t.max(axis=0) + 1e-3 * (1 + t.max(axis=0))).all()
        assert (out[t[1] > 1e-9] > 0).all()
        zeros += int((out == 0).sum())
    assert zeros > 50
    assert worse <= 2, "of 1000, the lower of two maxima that are nearly as high"


def test_logarithms_of_long_products() -> None:
    """300 factors of 1e4 would overflow."""
    mu, repeats = np.full(300, 10.0), np.ones(300, dtype=np.int64)
    repeats[7] = 3
    assert _logarithms.py_func(1e3, mu, repeats) == pytest.approx(302 * np.log1p(1e4))


def test_p_values_from_a_sample() -> None:
    """(1 + number >= T) / (1 + draws); 1 at 0 without a comparison; nan at nan."""
    null = NullDistribution(np.array([1.0, 0.5]), np.array([1, 1]), 9, np.array([0.0, 0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(null.p_value([0.0, 0.5, 1.0, 1.5, 3.0, np.nan]), [1.0, 0.6, 0.6, 0.4, 0.2, np.nan])


def test_draws_need_not_fill_lanes() -> None:
    mu = np.array([0.0, 1.0, 2.0, 4.0])
    for draws in (1, 7, 8, 999):
        sample = null_distribution(mu, 20, draws=draws, generator=stream(3)).sample
        assert sample is not None
        assert len(sample) == draws


@pytest.mark.parametrize("k", [1, 7])
def test_balanced_closed_form_against_the_statistic(k: int) -> None:
    """p is the survival function of F at the ratio that gives the statistic; no sample, no eigenvalue above 0: T is always 0."""
    mu, m = np.append(np.zeros(2), np.full(k, 5.0) * (1 + 1e-12 * np.arange(k))), 40
    null = null_distribution(mu, m, draws=99, generator=stream(1))
    assert null.sample is None
    F = np.array([1.0001, 1.2, 3.0, 50.0, 1e6])
    T = m * np.log((k * F + m - k) / m) - k * np.log(F)
    np.testing.assert_allclose(null.p_value(T), f.sf(F, k, m - k), rtol=1e-6)
    np.testing.assert_array_equal(null.p_value([0.0, np.nan]), [1.0, np.nan])
    assert null.p_value(1e-300) == pytest.approx(f.sf(1, k, m - k), abs=1e-3)
    np.testing.assert_array_equal(
        null_distribution(np.zeros(3), m, draws=9, generator=stream(1)).p_value([0.0, 1.0]), [1, 0]
    )


def test_balanced_layout_needs_no_simulation() -> None:
    design, _, plans, gram = models("balanced", 5)
    assert is_fixed_design(design, plans[0])
    null = null_distribution(eigenvalues(plans[0], gram, np.array([0]))[0], 46, draws=9, generator=stream(1))
    assert null.sample is None
    assert list(null.repeats) == [6]


@pytest.mark.parametrize("name", MODELS)
def test_fixed_designs_are_known(name: str) -> None:
    design, _, plans, gram = models(name, 8)
    mu = eigenvalues(plans[0], gram, np.arange(8))
    assert is_fixed_design(design, plans[0]) == (np.ptp(mu, axis=0).max() == 0) == (not MODELS[name][3])


def test_p_values_are_each_replicates_own() -> None:
    """Part of a block gives the same bits; a stream is asked for only where T > 0."""
    _, _, plans, gram = models("slope", 20, variance=0.05)
    T = statistics(plans, gram, 20)
    T[3] = np.nan
    asked: list[int] = []

    def own(r: int) -> Generator:
        asked.append(r)
        return stream(r)

    whole = exact_p_values(plans[0], gram, T, 0, draws=99, stream=own)
    assert asked == list(np.flatnonzero(T > 0))
    np.testing.assert_array_equal(exact_p_values(plans[0], gram, T[5:9], 5, draws=99, stream=own), whole[5:9])
    mu = eigenvalues(plans[0], gram, np.arange(20))
    for r in range(20):
        np.testing.assert_array_equal(eigenvalues(plans[0], gram, np.array([r]))[0], mu[r])
    np.testing.assert_array_equal(whole == 1, T == 0)
    assert np.isnan(whole[3])
    assert (np.delete(whole, 3) >= 0.01).all()


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["fixed design", "balanced"])
def test_distribution_against_refits(name: str) -> None:
    """100,000 data sets without a variance, fitted by the kernel: P(T = 0) and tail probabilities within 4 MCSE."""
    replicates, draws = 100_000, 400_000
    _, _, plans, gram = models(name, replicates, seed=5)
    T = statistics(plans, gram, replicates)
    mu = eigenvalues(plans[0], gram, np.array([0]))[0]
    null = null_distribution(mu, plans[0].rows - len(plans[0].xcols), draws=draws, generator=stream(2))
    levels = np.array([0.01, 0.05, 0.1, 0.2, 0.3])
    if null.sample is None:
        k, b = int(null.repeats[0]), null.m - int(null.repeats[0])
        share_zero, spread = f.cdf(1, k, b), 1 / replicates
    else:
        share_zero, spread = (null.sample == 0).mean(), 1 / replicates + 1 / draws
    assert abs((T == 0).mean() - share_zero) < 4 * np.sqrt(share_zero * (1 - share_zero) * spread)
    assert share_zero > 0.53, "so far from 1/2 that the mixture for many clusters is seen to be wrong"
    p = null.p_value(T)
    for level in levels:
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) * spread), level
    assert kstest(p[T > 0] / p[T > 0].max(), "uniform").pvalue > 1e-3


@pytest.mark.calibration
@pytest.mark.parametrize("reml", [True, False])
def test_share_of_zero_statistics_in_closed_form(reml: bool) -> None:
    """8 clusters of 6, 2 fixed parameters between them: the singular rate is CDF_{a,b}(1) by REML and CDF_{a,b}(J/a) by ML; the
    mixture's p-values are 1 as often, and too large above that (3.6 % instead of 5 by REML, 1.4 by ML)."""
    replicates, J, a, b = 50_000, 8, 6, 40
    _, _, plans, gram = models("balanced", replicates, seed=6, reml=reml)
    T = statistics(plans, gram, replicates)
    p = p_value(compare(plans[1].formula, plans[0].formula), T)
    F = np.linspace(1.0 if reml else J / a, 40, 400_001)
    m, k = (46, a) if reml else (48, J)
    scale = 1.0 if reml else a / J  # of F, to the ratio of the estimators' mean squares
    curve = m * np.log((k * scale * F + b) / (k + b)) - k * np.log(scale * F)
    for share, exact in (
        ((p == 1).mean(), f.cdf(1.0 if reml else J / a, a, b)),
        ((p <= 0.05).mean(), f.sf(F[np.searchsorted(curve, chi2.isf(0.1, 1))], a, b)),
        ((p <= 0.2).mean(), f.sf(F[np.searchsorted(curve, chi2.isf(0.4, 1))], a, b)),
    ):
        assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / replicates), (share, exact)
    assert (p <= 0.05).mean() < 0.045


@pytest.mark.calibration
def test_simulation_against_the_closed_form() -> None:
    """Eigenvalues that differ by 1e-6 are simulated, equal ones are not: one distribution."""
    mu, m, draws = np.full(9, 3.0), 50, 400_000
    exact = null_distribution(mu, m, draws=1, generator=stream(1))
    simulated = null_distribution(mu * (1 + 1e-6 * np.arange(9)), m, draws=draws, generator=stream(1))
    assert exact.sample is None
    assert simulated.sample is not None
    for T in (1e-4, 0.1, 1.0, 2.5, 5.0):
        p = exact.p_value(T)
        assert abs(simulated.p_value(T) - p) < 4 * np.sqrt(p * (1 - p) / draws) + 1 / draws


@pytest.mark.calibration
def test_uniform_p_values_where_designs_are_redrawn() -> None:
    """Each replicate by its own spectrum, 199 draws: P(p <= k/200) = k/200 exactly, below the point mass at 1."""
    replicates, draws = 40_000, 199
    _, _, plans, gram = models("slope", replicates, seed=8)
    T = statistics(plans, gram, replicates)
    p = exact_p_values(plans[0], gram, T, 0, draws=draws, stream=stream)
    for level in (0.01, 0.05, 0.1, 0.25):
        assert abs((p <= level + 1e-12).mean() - level) < 4 * np.sqrt(level * (1 - level) / replicates), level


def test_a_replicate_with_dependent_columns_has_no_spectrum_and_ends_nothing() -> None:
    """X'X of one replicate is singular: its p value is missing, those of the others have the same digits."""
    _, _, plans, gram = models("intercept", 8)
    before = eigenvalues(plans[0], gram, np.arange(8))
    dd = gram.dd.copy()
    dd[:, pair(0, 1), 3], dd[:, pair(1, 1), 3] = 2.0 * dd[:, 0, 3], 4.0 * dd[:, 0, 3]  # x is 2 throughout
    broken = replace(gram, dd=dd)
    found = eigenvalues(plans[0], broken, np.arange(8))
    assert np.isnan(found[3]).all()
    others = [r for r in range(8) if r != 3]
    np.testing.assert_array_equal(found[others], before[others])
    statistic = np.full(8, 1.0)
    p = exact_p_values(plans[0], broken, statistic, 0, draws=19, stream=stream)
    assert np.isnan(p[3])
    assert np.isfinite(p[others]).all()
