"""Least squares from the Gram: against dense rows, statsmodels, and the kernel where its variances are 0."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray

from nestlab.fit.lmm import Plan, compile_plan, fit_gram, pairs
from nestlab.fit.ols import fit_model, fit_ols
from nestlab.fit.status import Status
from nestlab.simulate.gram import Gram, respond
from nestlab.simulate.layout import Design, compile_design, pair
from nestlab.simulate.moments import MomentSampler
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

Array = NDArray[np.float64]
FIXED = "y ~ x + z + x:z"
BLOCK = 40


def plan_of(design: Design, formula: str, *, reml: bool) -> Plan:
    return compile_plan(design, Method("m", parse_formula(formula), reml=reml))


def block(
    *, redraw: bool = True, variance: float = 0.0, sizes: tuple[int, ...] = (1, 2, 3, 9, 9, 9, 12, 5)
) -> tuple[Design, Any]:
    truth = Truth(parse_formula(FIXED + " + (1 | g)"), (1e3, 0.5, -2.0, 0.25), ((variance,),), 2.0)
    predictors = (
        Predictor("x", 1, "normal", mean=30.0, redraw=redraw),
        Predictor("z", 2, "normal", redraw=redraw),
    )
    design = compile_design(Condition({}, 4, Layout(sizes), truth, predictors, "moments", BLOCK))
    return design, MomentSampler(design)(np.random.Generator(np.random.SFC64(9)), BLOCK)


def gram_of(design: Design, draw: Any, plan: Plan) -> Gram:
    return respond(draw, design, plan.omitted, plan.multipliers)


def rows_as_gram(y: Array, X: Array) -> tuple[Gram, tuple[int, ...]]:
    """One replicate in one cluster; columns of D are those of X."""
    p = X.shape[1]
    dd = np.array([X[:, i] @ X[:, k] for i, k in pairs(p)]).reshape(1, -1, 1)
    return Gram(dd, (X.T @ y).reshape(1, p, 1), np.array([[y @ y]]), np.ones((1, 1, 1))), tuple(range(p))


def bare_plan(p: int, rows: int, *, reml: bool) -> Plan:
    design, _ = block()
    plan = plan_of(design, "y ~ x", reml=reml)
    xweights = np.zeros(p, dtype=np.int64)
    return replace(plan, xcols=tuple(range(p)), xweights=xweights, rows=rows, true_beta=np.zeros(p))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_against_statsmodels(reml: bool, scale: float) -> None:
    rng = np.random.default_rng(3)
    N, p = 60, 4
    X = np.column_stack([np.ones(N), rng.normal(size=(N, p - 1)) * [1, scale, 1] + [0, 0, 20]])
    y = X @ np.array([1.0, 2.0, 3.0 / scale, -1.0]) + rng.normal(size=N)
    gram, _ = rows_as_gram(y, X)
    fits = fit_ols(bare_plan(p, N, reml=reml), gram, 0, 1)
    units = np.array([1.0, 1.0, scale, 1.0])  # its pseudo-inverse loses digits where columns differ so much in size
    reference = sm.OLS(y, X / units).fit()
    np.testing.assert_allclose(fits.beta[0], reference.params / units, rtol=1e-9)
    m = N - p if reml else N
    rss = float(reference.ssr)
    XX = (X / units).T @ (X / units)
    V = np.linalg.inv(XX) * rss / m / np.outer(units, units)
    np.testing.assert_allclose(fits.vcov[0], [V[i, k] for i, k in pairs(p)], rtol=1e-8)
    assert fits.sigma2[0] == pytest.approx(rss / m, rel=1e-9)
    restricted = m * (1 + np.log(2 * np.pi * rss / m)) + np.linalg.slogdet(XX)[1] + 2 * np.log(scale)
    assert fits.deviance[0] == pytest.approx(restricted if reml else -2 * reference.llf, abs=1e-8)
    assert fits.status[0] == Status.ok


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("reml", [True, False])
def test_equals_the_kernel_on_singular_fits(reml: bool, redraw: bool) -> None:
    """A random intercept whose variance is estimated as 0 is the model without it, to 1e-8 of deviance."""
    design, draw = block(redraw=redraw)
    mixed, null = (plan_of(design, FIXED + random, reml=reml) for random in (" + (1 | g)", ""))
    full = fit_gram(mixed, gram_of(design, draw, mixed), 0, BLOCK)
    fits = fit_ols(null, gram_of(design, draw, null), 0, BLOCK)
    singular = full.status == Status.singular
    assert 10 <= singular.sum() < BLOCK
    np.testing.assert_allclose(fits.deviance[singular], full.deviance[singular], atol=1e-8, rtol=0)
    np.testing.assert_allclose(fits.beta[singular], full.beta[singular], atol=1e-8)
    np.testing.assert_allclose(fits.vcov[singular], full.vcov[singular], rtol=1e-6)
    np.testing.assert_allclose(fits.sigma2[singular], full.sigma2[singular], rtol=1e-10)
    assert (fits.deviance[~singular] > full.deviance[~singular]).all()
    assert fits.varcomp.shape == (BLOCK, 0)


def test_limit_of_vanishing_variances() -> None:
    """The twin's deviance at G -> 0 tends to that of least squares, linearly."""
    from nestlab.fit.deviance import deviance, statistics_of

    design, draw = block(variance=1.0)
    mixed, null = (plan_of(design, FIXED + random, reml=True) for random in (" + (1 | g)", ""))
    gram = gram_of(design, draw, mixed)
    exact = fit_ols(null, gram, 0, BLOCK).deviance
    for r in range(0, BLOCK, 7):
        s = statistics_of(mixed, gram, r)
        assert deviance(s, np.zeros((1, 1)), reml=True) == pytest.approx(exact[r], abs=1e-8)
        near = [deviance(s, np.full((1, 1), g), reml=True) - exact[r] for g in (1e-4, 1e-5)]
        assert near[0] / near[1] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("redraw", [True, False])
def test_part_of_a_block_vectorised(redraw: bool) -> None:
    """The same bits for one replicate alone, some and all."""
    design, draw = block(redraw=redraw, sizes=(5,) * 30 + (1, 2, 9, 9, 12))
    plan = plan_of(design, FIXED, reml=True)
    gram = gram_of(design, draw, plan)
    whole = fit_ols(plan, gram, 0, BLOCK)
    for first, last in ((11, 14), *((r, r + 1) for r in range(BLOCK))):
        part = fit_ols(plan, gram, first, last)
        for field in fields(part):
            np.testing.assert_array_equal(
                getattr(part, field.name), getattr(whole, field.name)[first:last], strict=True
            )
    np.testing.assert_array_equal(fit_model(plan, gram, 0, BLOCK).beta, whole.beta)
    assert abs(whole.beta[:, 0] - 1e3).max() < 300, "the truth's part, subtracted from y, is added again"


def test_degenerate() -> None:
    """rank_deficient or nonfinite, and no numbers; neighbours are not touched."""
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(9), rng.normal(size=9)])
    y = rng.normal(size=9)
    cases = {
        "collinear": (y, np.column_stack([X, X @ [1, 2]]), Status.rank_deficient),
        "a column of zeros": (y, np.column_stack([X, 0 * y]), Status.rank_deficient),
        "as many columns as rows": (y[:2], X[:2], Status.rank_deficient),
        "constant response": (0 * y, X, Status.nonfinite),
        "perfect fit": (X @ [1, 2], X, Status.nonfinite),
        "not a number": (y * np.nan, X, Status.nonfinite),
    }
    for name, (response, columns, status) in cases.items():
        gram, _ = rows_as_gram(response, columns)
        for reml in (True, False):
            fits = fit_ols(bare_plan(columns.shape[1], len(response), reml=reml), gram, 0, 1)
            assert fits.status[0] == status, name
            assert np.isnan(fits.deviance[0]), name
            assert np.isnan(fits.beta).all(), name
            assert np.isnan(fits.vcov).all(), name
            assert np.isnan(fits.sigma2[0]), name
    design, draw = block()
    plan = plan_of(design, FIXED, reml=True)
    gram = gram_of(design, draw, plan)
    whole = fit_ols(plan, gram, 0, BLOCK)
    gram.yy[3, 5] = np.nan
    broken = fit_ols(plan, gram, 0, BLOCK)
    others = np.arange(BLOCK) != 5
    np.testing.assert_array_equal(broken.deviance[others], whole.deviance[others])
    assert broken.status[5] == Status.nonfinite


def test_products_of_fixed_effects_against_rows() -> None:
    """Level-2 multipliers enter X'X: x:z is z times the column x."""
    from nestlab.fit.ols import fixed_products

    design, draw = block()
    plan = plan_of(design, FIXED, reml=True)
    gram = gram_of(design, draw, plan)
    XX = fixed_products(plan, gram)
    z, xx = draw.z[0], gram.dd[:, pair(1, 1)]
    np.testing.assert_allclose(XX[:, 3, 3], (z**2 * xx).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(XX[:, 1, 3], (z * xx).sum(axis=0), rtol=1e-9)
