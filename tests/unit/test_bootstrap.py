"""The parametric bootstrap: draws against theory and against the simulator, intervals and tests against their definitions."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.random import SFC64, Generator
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from nestlab.fit import bootstrap
from nestlab.fit.bootstrap import Fitted, bootstrap_intervals, bootstrap_test, draw_gram, quantities, refit
from nestlab.fit.compare import lr_statistic
from nestlab.fit.lmm import Fits, compile_plan, pairs
from nestlab.fit.ols import fit_model
from nestlab.fit.status import Status
from nestlab.simulate.gram import Gram, respond
from nestlab.simulate.layout import Design, compile_design, pair
from nestlab.simulate.moments import MomentSampler
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

Array = NDArray[np.float64]
SIZES = (1, 2, 3, 9, 4, 30, 2, 7, 12, 5)
SLOPE = "y ~ x + z + x:z + (1 + x | g)"


def stream(seed: int) -> Generator:
    return Generator(SFC64(seed))


def fitted(
    formulas: tuple[str, ...], covariance: Any, replicates: int, *, truth: str = SLOPE, sizes: tuple[int, ...] = SIZES,
    reml: bool = False, redraw: bool = True, seed: int = 1, slope: float = 0.5,
) -> tuple[Design, list[Fitted]]:  # fmt: skip
    """Models fitted to the same replicates. slope: true value of all fixed effects but the intercept, which is 100."""
    formula = parse_formula(truth)
    predictors = (
        Predictor("x", 1, "normal", mean=2.0, redraw=redraw),
        Predictor("v", 1, "normal", redraw=redraw),
        Predictor("z", 2, "normal", redraw=redraw),
    )
    used = tuple(p for p in predictors if p.name in truth)
    parameters = Truth(formula, tuple(100.0 if t == "Intercept" else slope for t in formula.fixed), covariance, 2.0)
    design = compile_design(Condition({}, 4, Layout(sizes), parameters, used, "moments", replicates))
    draw = MomentSampler(design)(stream(seed), replicates)
    models = []
    for text in formulas:
        plan = compile_plan(design, Method("m", parse_formula(text), reml=reml))
        gram = respond(draw, design, plan.omitted, plan.multipliers)
        models.append(Fitted(plan, gram, fit_model(plan, gram, 0, replicates)))
    return design, models


def with_parameters(model: Fitted, G: Array, sigma2: float, beta: Array | None = None) -> Fitted:
    """The same with given numbers in place of the estimates of every replicate."""
    R = len(model.fits.status)
    fits = replace(
        model.fits,
        status=np.zeros(R, dtype=np.int64),
        varcomp=np.tile([G[i, k] for i, k in pairs(len(G))], (R, 1)).reshape(R, -1),
        sigma2=np.full(R, sigma2),
        beta=model.fits.beta if beta is None else np.tile(beta, (R, 1)),
    )
    return replace(model, fits=fits)


def whole(model: Fitted, r: int) -> Array:
    """(J, d, d): D'D of replicate r."""
    dd = model.gram.dd[:, :, r if model.gram.dd.shape[2] > 1 else 0]
    d = model.gram.dy.shape[1]
    return np.array([[dd[:, pair(i, k)] for k in range(d)] for i in range(d)]).transpose(2, 0, 1)


CASES = {
    "regular": ("(1 + x | g)", np.array([[0.5, 0.2], [0.2, 0.3]])),
    "correlation of 1": ("(1 + x | g)", np.array([[0.5, 0.5], [0.5, 0.5]])),
    "one variance 0": ("(1 + x | g)", np.array([[0.0, 0.0], [0.0, 0.7]])),
    "slope alone": ("(0 + x | g)", np.array([[0.6]])),
    "no random term": ("", np.zeros((0, 0))),
}


@pytest.mark.calibration
@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_draws_against_theory(case: str, redraw: bool) -> None:
    """Means and covariances of D'y and y'y, cluster by cluster, within 4.5 MCSE (400 of them); clusters of 1 row up to 30."""
    random, G = CASES[case]
    text = "y ~ x + v" + (f" + {random}" if random else "")
    truth = "y ~ x + v + (1 + x | g)"
    _, (model,) = fitted((text,), ((0.4, 0), (0, 0.4)), 12, truth=truth, redraw=redraw)
    model, draws, s2 = with_parameters(model, G, 1.7), 40_000, 1.7
    gram = draw_gram(model, 5, np.array(SIZES), [0, 1, 2], draws=draws, generator=stream(4))
    columns = list(model.plan.zcols)
    DD = whole(model, 5)
    np.testing.assert_array_equal(gram.dd[:, pair(1, 2), 0], DD[:, 1, 2])
    ZD = DD[:, columns]
    expected = np.einsum("jza,zy,jyb->jab", ZD, G, ZD) + s2 * DD
    GA = np.einsum("zy,jyx->jzx", G, DD[:, columns][:, :, columns])
    total = np.trace(GA, axis1=1, axis2=2) + s2 * np.array(SIZES)
    spread = 2 * (np.einsum("jab,jba->j", GA, GA) + 2 * s2 * np.trace(GA, axis1=1, axis2=2) + s2**2 * np.array(SIZES))
    z = [(gram.yy.mean(axis=1) - total) / np.sqrt(spread / draws)]
    squares = (gram.yy - total[:, None]) ** 2
    z += [(squares.mean(axis=1) - spread) / squares.std(axis=1) * np.sqrt(draws)]
    for a in range(3):
        z.append(gram.dy[:, a].mean(axis=1) / np.sqrt(expected[:, a, a] / draws))
        for b in range(a + 1):
            product = gram.dy[:, a] * gram.dy[:, b]
            z.append((product.mean(axis=1) - expected[:, a, b]) / (product.std(axis=1) / np.sqrt(draws)))
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(gram.yy[0] * DD[0, 0, 0], gram.dy[0, 0] ** 2, atol=1e-12, err_msg="one row: y'y = y^2")
    np.testing.assert_allclose(gram.dy[0, 1], gram.dy[0, 0] * DD[0, 0, 1], atol=1e-12)


@pytest.mark.calibration
@pytest.mark.parametrize("random", ["(1 + x | g)", "(1 | g) + (0 + x | g)"])
def test_refits_are_distributed_as_fits_of_simulated_data(random: str) -> None:
    """At the true parameters and one fixed design, the bootstrap is the simulation: all estimates by Kolmogorov-Smirnov."""
    text, draws = f"y ~ x + z + x:z + {random}", 8_000
    covariance = ((0.5, 0.2), (0.2, 0.3)) if "+ x" in random.split("|")[0] else ((0.5, 0.0), (0.0, 0.3))
    design, (model,) = fitted((text,), covariance, draws, truth=text, redraw=False)
    truth = design.condition.truth
    known = with_parameters(model, np.array(covariance), 2.0, np.array(truth.fixed))
    again = refit(known, 3, design.sizes, draws=draws, generator=stream(77))
    for one, other in zip(
        quantities(model.plan, model.fits).items(), quantities(model.plan, again).values(), strict=True
    ):
        name, values = one
        assert ks_2samp(values[np.isfinite(values)], other[np.isfinite(other)]).pvalue > 1e-3, name
    assert ks_2samp(model.fits.deviance, again.deviance).pvalue > 1e-3
    assert abs((model.fits.status == 1).mean() - (again.status == 1).mean()) < 4 * np.sqrt(0.5 / draws)


def test_refits_shift_with_beta() -> None:
    """Estimates are equivariant: a draw's beta is the fit's plus one that does not depend on it."""
    design, (model,) = fitted((SLOPE,), ((0.5, 0.1), (0.1, 0.3)), 8)
    r = int(np.flatnonzero(model.fits.status == Status.ok)[0])
    beta = np.array([5.0, -3.0, 0.0, 1e3])
    moved = replace(model, fits=replace(model.fits, beta=model.fits.beta + beta))
    one, other = (refit(m, r, design.sizes, draws=50, generator=stream(3)) for m in (model, moved))
    np.testing.assert_allclose(other.beta - one.beta, np.tile(beta, (50, 1)), rtol=1e-10, atol=1e-9)
    np.testing.assert_array_equal(other.varcomp, one.varcomp)
    assert abs(one.beta[:, 0].mean() - 100) < 3


def test_columns_that_the_model_lacks_are_not_drawn() -> None:
    """A model without x draws the intercept's column alone; a test draws those of both models."""
    design, models = fitted(
        ("y ~ z + (1 | g)", "y ~ v + z + (1 | g)", "y ~ v + (0 + v | g)"),
        ((0.5, 0), (0, 0)), 8, truth="y ~ x + v + z + (x || g)",
    )  # fmt: skip
    assert bootstrap._columns(models[0].plan) == [0]
    columns = bootstrap._columns(*(m.plan for m in models))
    assert columns == [0, design.columns.index("v")] == [0, 2]
    gram = draw_gram(models[1], 2, design.sizes, columns, draws=9, generator=stream(1))
    assert gram.dy.shape == (10, 2, 9)
    np.testing.assert_array_equal(gram.weights, models[1].gram.weights[:, :, 2:3])
    np.testing.assert_array_equal(gram.dd[:, 2, 0], models[1].gram.dd[:, pair(2, 2), 2])
    fits = refit(models[0], 2, design.sizes, draws=9, generator=stream(1))
    assert (fits.status <= Status.singular).all()
    slope = with_parameters(models[2], np.array([[9.0]]), 1e-6)  # y is almost a multiple of v in each cluster
    gram = draw_gram(slope, 2, design.sizes, [0, 2], draws=9, generator=stream(1))
    np.testing.assert_allclose(gram.dy[:, 1] ** 2, gram.yy * gram.dd[:, 2], rtol=0.1)
    assert 4 < refit(slope, 2, design.sizes, draws=200, generator=stream(1)).varcomp.mean() < 14


@pytest.mark.parametrize("redraw", [True, False])
def test_a_replicates_bootstrap_is_its_own_batch(redraw: bool) -> None:
    """The same bits whether a block or a part of it was fitted, and one stream gives one answer."""
    design, models = fitted(("y ~ x + z + (1 | g)", SLOPE), ((0.5, 0.1), (0.1, 0.3)), 9, redraw=redraw)
    parts = [replace(m, fits=fit_model(m.plan, m.gram, 4, 7), first=4) for m in models]
    for r in (4, 6):
        one, other = (bootstrap_test(*m, r, design.sizes, draws=40, generator=stream(r)) for m in (models, parts))
        assert one == other
        a, b = (
            bootstrap_intervals(m[1], r, design.sizes, level=0.9, draws=40, generator=stream(r))
            for m in (models, parts)
        )
        assert a == b


def test_test_by_its_definition() -> None:
    """(1 + number of draws at least as large) / (1 + draws), from draws made by hand; 1 at a statistic of 0."""
    design, (null, full) = fitted(("y ~ x + (1 | g)", "y ~ x + z + (1 + x | g)"), ((0.5, 0), (0, 0)), 12, slope=0.0)
    r = int(np.argmax(null.fits.deviance - full.fits.deviance > 3))
    found = bootstrap_test(null, full, r, design.sizes, draws=200, generator=stream(6))
    gram = draw_gram(null, r, design.sizes, [0, 1], draws=200, generator=stream(6))
    fits = [fit_model(m.plan, replace(gram, weights=m.weights(r)), 0, 200) for m in (null, full)]
    drawn = lr_statistic(fits[0].deviance, fits[1].deviance)
    assert found.statistic == pytest.approx(null.fits.deviance[r] - full.fits.deviance[r])
    assert found.p == pytest.approx((1 + (drawn >= found.statistic).sum()) / 201)
    assert (found.draws, found.failed_refits, found.failed) == (200, 0, False)
    assert 1 / 201 < found.p < 1
    same = replace(null, fits=replace(null.fits, deviance=full.fits.deviance + 1e-9))
    assert bootstrap_test(same, full, r, design.sizes, draws=9, generator=stream(6)).p == 1.0


def test_interval_by_its_definition() -> None:
    """39 draws at level .9: the 2nd and the 38th; every quantity that the model has."""
    design, (model,) = fitted((SLOPE,), ((0.5, 0.1), (0.1, 0.3)), 8)
    r = int(np.flatnonzero(model.fits.status == Status.ok)[0])
    found = bootstrap_intervals(model, r, design.sizes, level=0.9, draws=39, generator=stream(2))
    fits = refit(model, r, design.sizes, draws=39, generator=stream(2))
    assert found.lower["x"] == pytest.approx(np.sort(fits.beta[:, 1])[1])
    assert found.upper["x"] == pytest.approx(np.sort(fits.beta[:, 1])[37])
    assert found.upper["sd:g:x"] == pytest.approx(np.sqrt(np.sort(fits.varcomp[:, 2])[37]))
    assert found.upper["sd:residual"] ** 2 == pytest.approx(found.upper["var:residual"])
    assert set(found.lower) == set(found.upper) == set(found.used) == {
        "Intercept", "x", "z", "x:z", "var:g:Intercept", "var:g:x", "cov:g:Intercept:x", "cor:g:Intercept:x", "var:residual",
        "sd:g:Intercept", "sd:g:x", "sd:residual", "icc",
    }  # fmt: skip
    assert -1 <= found.lower["cor:g:Intercept:x"] < found.upper["cor:g:Intercept:x"] <= 1
    np.testing.assert_allclose(
        quantities(model.plan, fits)["icc"], fits.varcomp[:, 0] / (fits.varcomp[:, 0] + fits.sigma2), rtol=1e-12
    )


def test_models_without_random_terms() -> None:
    """Least squares has intervals of beta and of the residual variance."""
    design, (model,) = fitted(("y ~ x + z",), ((0.5, 0.1), (0.1, 0.3)), 8, redraw=False)
    found = bootstrap_intervals(model, 1, design.sizes, level=0.9, draws=199, generator=stream(2))
    assert list(found.lower) == ["Intercept", "x", "z", "var:residual", "sd:residual"]
    assert all(found.lower[name] < found.upper[name] for name in found.lower)


def test_undefined_draws_are_counted_and_left_out() -> None:
    """A correlation with a variance of 0 has no value; the other quantities keep theirs."""
    design, (model,) = fitted((SLOPE,), ((0.5, 0.1), (0.1, 0.3)), 8)
    model = with_parameters(model, np.diag([1e-3, 0.0]), 2.0)
    found = bootstrap_intervals(model, 0, design.sizes, level=0.9, draws=199, generator=stream(2))
    assert found.failed_refits == 0
    assert 0 < found.used["cor:g:Intercept:x"] < found.used["x"] == found.used["var:g:x"] == 199
    assert np.isfinite(list(found.lower.values())).all()


@pytest.mark.parametrize(("share", "failed"), [(0.05, False), (0.2, True)])
def test_failed_refits(share: float, failed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are left out and counted; many and there is no inference."""
    design, (null, full) = fitted(("y ~ x + (1 | g)", "y ~ x + z + (1 | g)"), ((0.5, 0), (0, 0)), 12)
    r = int(np.argmax(null.fits.deviance - full.fits.deviance < 3))
    sound = bootstrap_test(null, full, r, design.sizes, draws=100, generator=stream(6))

    def broken(plan: Any, gram: Gram, first: int, last: int) -> Fits:
        fits = fit_model(plan, gram, first, last)
        if len(plan.xcols) == 3:
            fits.status[: round(share * 100)] = Status.not_converged
            fits.beta[: round(share * 100)] = 1e9
        return fits

    monkeypatch.setattr(bootstrap, "fit_model", broken)
    test = bootstrap_test(null, full, r, design.sizes, draws=100, generator=stream(6))
    intervals = bootstrap_intervals(full, r, design.sizes, level=0.9, draws=100, generator=stream(6))
    assert test.failed_refits == intervals.failed_refits == round(share * 100)
    assert test.failed == intervals.failed == np.isnan(test.p) == np.isnan(intervals.lower["x"]) == failed
    assert intervals.used["x"] == 100 - round(share * 100)
    if not failed:
        assert intervals.upper["x"] < 1e3
        assert abs(test.p - sound.p) < 0.06


def test_worse_full_refits_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full refit whose deviance lies above the null's is no optimum."""
    design, (null, full) = fitted(("y ~ x + (1 | g)", "y ~ x + z + (1 | g)"), ((0.5, 0), (0, 0)), 12)

    def worse(plan: Any, gram: Gram, first: int, last: int) -> Fits:
        fits = fit_model(plan, gram, first, last)
        if len(plan.xcols) == 3:
            fits.deviance[:3] += 1e3
        return fits

    monkeypatch.setattr(bootstrap, "fit_model", worse)
    assert bootstrap_test(null, full, 0, design.sizes, draws=100, generator=stream(6)).failed_refits == 3


def test_no_inference_from_a_fit_that_is_none() -> None:
    design, (null, full) = fitted(("y ~ x + (1 | g)", "y ~ x + z + (1 | g)"), ((0.5, 0), (0, 0)), 4)
    for model in (null, full):
        model.fits.status[2] = Status.not_converged
        assert bootstrap_test(null, full, 2, design.sizes, draws=9, generator=stream(6)).failed
        found = bootstrap_intervals(model, 2, design.sizes, level=0.9, draws=9, generator=stream(6))
        assert found.failed
        assert np.isnan(list(found.upper.values())).all()
        assert set(found.used.values()) == {0}
    full.fits.deviance[1] = null.fits.deviance[1] + 1
    assert bootstrap_test(null, full, 1, design.sizes, draws=9, generator=stream(6)).failed


@pytest.mark.parametrize("name", [field.name for field in fields(Fits)])
def test_nothing_is_changed_in_place(name: str) -> None:
    design, (null, full) = fitted(("y ~ x + (1 | g)", "y ~ x + z + (1 | g)"), ((0.5, 0), (0, 0)), 4)
    before = [getattr(m.fits, name).copy() for m in (null, full)]
    bootstrap_test(null, full, 1, design.sizes, draws=9, generator=stream(6))
    refit(full, 1, design.sizes, draws=9, generator=stream(6))
    for m, old in zip((null, full), before, strict=True):
        np.testing.assert_array_equal(getattr(m.fits, name), old)


@pytest.mark.calibration
@pytest.mark.parametrize(
    ("null", "full", "variances", "reml", "exact"),
    [
        ("y ~ x", "y ~ x + (1 | g)", (0.0, 0.0), True, True),
        ("y ~ x", "y ~ x + z", (0.0, 0.0), False, True),
        ("y ~ x + (1 | g)", "y ~ x + (1 + x | g)", (1.0, 0.0), True, False),
        ("y ~ x + (1 | g)", "y ~ x + z + (1 | g)", (1.0, 0.0), False, False),
    ],
)
def test_type_one_error(null: str, full: str, variances: tuple[float, float], reml: bool, exact: bool) -> None:
    """At 1, 5 and 10 % within 4 MCSE: exact where the null has no parameter that matters, else with 1 % added for the estimated
    variance; 10 clusters, where chi-square is far off (x 1.5 at 5 %, for z)."""
    replicates, draws = 2_000, 99
    design, (small, large) = fitted(
        (null, full), tuple(map(tuple, np.diag(variances))), replicates, reml=reml,
        truth="y ~ x + z + (1 + x | g)", sizes=(5, 6, 7, 8, 9, 10, 11, 12, 13, 14), seed=3, slope=0.0,
    )  # fmt: skip
    found = [bootstrap_test(small, large, r, design.sizes, draws=draws, generator=stream(r)) for r in range(replicates)]
    assert sum(test.failed for test in found) == 0
    p = np.array([test.p for test in found])
    for level in (0.01, 0.05, 0.1):
        margin = 4 * np.sqrt(level * (1 - level) / replicates)
        assert abs((p <= level + 1e-12).mean() - level) < margin + (0 if exact else 0.01), level
    T = np.array([test.statistic for test in found])
    assert (p[T == 0] == 1).all()


@pytest.mark.calibration
def test_coverage_of_a_within_cluster_effect() -> None:
    """x varies within 10 clusters of 5 to 14 rows, 85 degrees of freedom: percentile intervals cover about as z's (.946)."""
    replicates = 1_500
    design, (model,) = fitted(
        ("y ~ x + (1 | g)",), ((1.0,),), replicates, truth="y ~ x + (1 | g)", sizes=tuple(range(5, 15)), reml=True
    )
    found = [
        bootstrap_intervals(model, r, design.sizes, level=0.95, draws=199, generator=stream(r))
        for r in range(replicates)
    ]
    for name, value in (("x", 0.5), ("Intercept", 100.0)):
        cover = np.mean([one.lower[name] <= value <= one.upper[name] for one in found])
        low, high = (0.92, 0.97) if name == "x" else (0.85, 0.95)
        assert low < cover < high, (name, cover)
