"""Profile-likelihood limits: each against the deviance minimised by SciPy with the parameter held, and their behaviour."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from test_kernel_lanes import block

import tolerances
from nestlab.fit.deviance import statistics, statistics_of
from nestlab.fit.lmm import fit_replicates
from nestlab.fit.profile import Profiles, _run, profile_parameters, profile_replicates
from nestlab.fit.single import fit
from nestlab.show.fit_command import fit_command
from nestlab.simulate.gram import Gram
from nestlab.spec.problems import DataError
from profile_oracle import as_kernel, estimate, held_minimum

TARGET = chi2.ppf(0.95, 1)
#: q, p, random terms
SHAPES = [(1, 1, 1), (1, 3, 1), (2, 2, 1), (2, 2, 2), (3, 3, 1), (3, 2, 2), (4, 4, 2)]


def data(seed: int, q: int, p: int, terms: int, *, clusters: int = 15) -> tuple[Any, Any]:
    """Statistics and blocks of unbalanced data; the variances of many seeds are estimated 0."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(clusters), rng.integers(2, 12, clusters))
    N = len(groups)
    Z = np.column_stack([np.ones(N), rng.normal(size=(N, q - 1)) + 0.3 * rng.normal(size=(clusters, q - 1))[groups]])
    X = np.column_stack([Z, rng.normal(size=(clusters, p))[groups]])[:, :p]
    u = rng.normal(size=(clusters, q)) * rng.uniform(0.0, 0.8, q)
    y = X @ rng.normal(size=p) + (Z * u[groups]).sum(1) + rng.normal(size=N)
    return statistics(y, X, Z, groups), np.minimum(np.arange(q), terms - 1)


def check(s: Any, blocks: Any, found: Profiles, r: int, parameters: Any, *, reml: bool) -> int:
    """Every limit of replicate r by the independent minimiser. How many lay at a bound."""
    made = estimate(s, blocks, reml=reml)
    assert made["status"] <= 1
    assert not found.failed[r].any()
    bounds = 0
    for k, parameter in enumerate(parameters):
        for value in (found.lower[r, k], found.upper[r, k]):
            held = held_minimum(
                s, blocks, parameter, value, reml=reml, covariance=made["varcomp"], sigma2=made["sigma2"]
            )
            rise = held - made["deviance"]
            bound = (parameter[0] == "sd" and value == 0) or (parameter[0] == "cor" and abs(value) == 1)
            bounds += bound
            if not bound:
                assert abs(rise - TARGET) <= tolerances.PROFILE_RISE.limit, (parameter, value, rise)
            elif parameter[0] == "sd":
                assert rise <= TARGET + tolerances.PROFILE_RISE.limit, (parameter, value, rise)
            else:  # an sd of 0 has any correlation
                zero = [
                    held_minimum(
                        s, blocks, ("sd", a, a), 0.0, reml=reml, covariance=made["varcomp"], sigma2=made["sigma2"]
                    )
                    for a in parameter[1:]
                ]
                least = min(held, *zero) - made["deviance"]
                assert least <= TARGET + tolerances.PROFILE_RISE.limit, (parameter, value, rise)
    return bounds


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(("q", "p", "terms"), SHAPES)
def test_limits_by_an_independent_minimiser(q: int, p: int, terms: int, reml: bool) -> None:
    bounds = 0
    for seed in range(4 if q < 4 else 1):
        s, blocks = data(seed, q, p, terms)
        gram, shape = as_kernel(s, blocks, reml=reml)
        found = profile_replicates(shape, np.arange(len(s.A)), gram, 0, 1, fixed=not reml)
        bounds += check(s, blocks, found, 0, profile_parameters(blocks.tolist(), 0 if reml else p), reml=reml)
    assert bounds > 0


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("model", ["intercept", "slope", "apart"])
def test_limits_of_a_block(model: str, redraw: bool) -> None:
    """Balanced clusters with a fixed predictor are pooled."""
    plan, gram = block(model, sizes=(6,) * 25, redraw=redraw, reml=False)
    found = profile_replicates(plan.shape, plan.groups, gram, 0, 6, fixed=True)
    blocks = plan.shape["blocks"][0][: len(plan.zcols)]
    for r in range(6):
        parameters = profile_parameters(blocks.tolist(), len(plan.xcols))
        check(statistics_of(plan, gram, r), blocks, found, r, parameters, reml=False)


@pytest.mark.parametrize("model", ["slope", "three"])
def test_bits_do_not_depend_on_neighbours(model: str) -> None:
    plan, gram = block(model, reml=False)
    whole = profile_replicates(plan.shape, plan.groups, gram, 0, 40, fixed=True)
    for first, last in ((0, 1), (5, 17), (30, 40)):
        part = profile_replicates(plan.shape, plan.groups, gram, first, last, fixed=True)
        for field in fields(Profiles):
            np.testing.assert_array_equal(getattr(part, field.name), getattr(whole, field.name)[first:last])


def test_no_limit_fails_and_other_starts_change_none_in_regular_designs() -> None:
    plan, gram = block("slope", sizes=(12,) * 16, reml=False)
    one = profile_replicates(plan.shape, plan.groups, gram, 0, 64, fixed=True)
    many = profile_replicates(plan.shape, plan.groups, gram, 0, 64, fixed=True, starts=20)
    assert not one.failed.any()
    width = one.upper - one.lower
    assert (np.abs(one.lower - many.lower) <= tolerances.SAME_PROFILE.limit * width).all()
    assert (np.abs(one.upper - many.upper) <= tolerances.SAME_PROFILE.limit * width).all()


def test_limits_hold_the_estimate_and_widen_with_the_level() -> None:
    plan, gram = block("slope", reml=False)
    fits = fit_replicates(plan.shape, plan.groups, gram, 0, 64)
    narrow, wide = (profile_replicates(plan.shape, plan.groups, gram, 0, 64, level=v) for v in (0.8, 0.95))
    assert (wide.lower <= narrow.lower).all()
    assert (wide.upper >= narrow.upper).all()
    sd = np.sqrt(np.column_stack([fits.varcomp[:, 0], fits.varcomp[:, 2], fits.sigma2]))
    at = [0, 2, 3]
    assert (narrow.lower[:, at] <= sd + 1e-8).all()
    assert (narrow.upper[:, at] > sd).all()


def test_an_sd_estimated_0_has_the_lower_limit_0() -> None:
    plan, gram = block("apart", reml=False)
    fits = fit_replicates(plan.shape, plan.groups, gram, 0, 64)
    found = profile_replicates(plan.shape, plan.groups, gram, 0, 64)
    zero = fits.varcomp[:, [0, 2]] < 1e-12
    assert zero.any()
    assert (found.lower[:, :2][zero] == 0).all()
    assert (found.upper[:, :2][zero] > 0).all()
    assert (found.lower[:, 2] > 0).all()


def test_an_sd_that_may_be_0_has_any_correlation() -> None:
    plan, gram = block("slope", reml=False)
    found = profile_replicates(plan.shape, plan.groups, gram, 0, 64)
    undetermined = (found.lower[:, [0, 2]] == 0).any(axis=1)
    assert undetermined.any()
    assert not undetermined.all()
    assert (found.lower[undetermined, 1] == -1).all()
    assert (found.upper[undetermined, 1] == 1).all()


def test_an_sd_far_from_0_is_far_from_0() -> None:
    plan, gram = block("intercept", sizes=(40,) * 30, redraw=True, reml=False)
    u = np.random.default_rng(1).normal(size=(30, 1)) * 3
    ones = gram.dd[:, 0, 0][:, None]
    dy = gram.dy.copy()
    dy[:, 0] += ones * u
    shifted = Gram(gram.dd, dy, gram.yy + 2 * gram.dy[:, 0] * u + ones * u**2, gram.weights)
    found = profile_replicates(plan.shape, plan.groups, shifted, 0, 8)
    assert (found.lower[:, 0] > 1.5).all()
    assert (found.upper[:, 0] < 5).all()


def test_a_fit_that_is_not_the_optimum_has_no_limits() -> None:
    """A deviance below the fit's is found on the way: every limit fails, none is silently wrong."""
    plan, gram = block("slope", reml=False)
    fits = fit_replicates(plan.shape, plan.groups, gram, 0, 16)
    parameters = profile_parameters([0, 0])
    found = _run(
        plan.shape, plan.groups, gram, 0, 16, parameters, np.zeros((16, 8), dtype=np.bool_),
        replace(fits, deviance=fits.deviance + 1.0), level=0.95, units=np.eye(2), starts=None,
    )  # fmt: skip
    limits, failed, _ = found
    sigma = slice(6, 8)
    assert failed[:, sigma].all()
    assert np.isnan(limits[failed]).all()


def test_a_replicate_without_a_fit_has_no_limits() -> None:
    plan, gram = block("slope", reml=False)
    yy = gram.yy.copy()
    yy[:, 3] = np.nan
    found = profile_replicates(plan.shape, plan.groups, replace(gram, yy=yy), 0, 8, fixed=True)
    assert found.failed[3].all()
    assert np.isnan(found.lower[3]).all()
    assert np.isnan(found.upper[3]).all()
    assert not np.delete(found.failed, 3, axis=0).any()


def test_parameters_are_in_lme4s_order() -> None:
    kinds = [f"{kind}{b}{a}" for kind, b, a in profile_parameters([0, 0, 0, 1], 2)]
    assert kinds[:4] == ["sd00", "cor10", "cor20", "sd11"]
    assert kinds[4:] == ["cor21", "sd22", "sd33", "sigma-1-1", "fixed00", "fixed11"]


def frame(seed: int = 3, clusters: int = 14, size: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), size)
    x = rng.normal(size=g.size)
    u = rng.normal(size=(clusters, 2)) * [0.9, 0.5]
    y = 1 + 0.4 * x + u[g, 0] + u[g, 1] * x + rng.normal(size=g.size)
    return pd.DataFrame({"g": g, "x": x, "y": y})


MODEL = "y ~ x + (1 + x | g)"


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(("by_y", "by_x"), [(1e6, 1.0), (1e-5, 1e3), (-3.0, 0.01), (2.0, -1.0)])
def test_units(by_y: float, by_x: float, reml: bool) -> None:
    """k y and c x: sds and effects are multiplied; the limits of what changes its sign change places."""
    rows = frame()
    plain = fit(MODEL, rows).confint(reml=reml)
    other = fit(MODEL, rows.assign(y=by_y * rows.y, x=by_x * rows.x)).confint(reml=reml)
    units = {
        "sd_(Intercept)|g": abs(by_y), "cor_x.(Intercept)|g": np.sign(by_x), "sd_x|g": abs(by_y / by_x), "sigma": abs(by_y),
        "(Intercept)": by_y, "x": by_y / by_x,
    }  # fmt: skip
    for name in plain.index:
        expected = np.sort(plain.loc[name].to_numpy() * units[name])
        width = expected[1] - expected[0]
        np.testing.assert_allclose(other.loc[name], expected, rtol=0, atol=tolerances.SAME_PROFILE.limit * width)


def test_shifts_and_the_order_of_rows_and_columns() -> None:
    rows = frame()
    plain = fit(MODEL, rows).confint()
    width = (plain.upper - plain.lower).to_numpy()[:, None]
    shifted = fit(MODEL, rows.assign(y=rows.y + 1000)).confint()
    shifted.loc["(Intercept)"] -= 1000
    shuffled = fit(MODEL, rows.sample(frac=1, random_state=1)).confint()
    for other in (shifted, shuffled):
        assert (np.abs(other.to_numpy() - plain.to_numpy()) <= tolerances.SAME_PROFILE.limit * width).all()
    moved = fit(MODEL, rows.assign(x=rows.x + 5)).confint()
    for name in ("sd_x|g", "sigma", "x"):
        error = np.abs(moved.loc[name] - plain.loc[name]).max()
        assert error <= tolerances.SAME_PROFILE.limit * (plain.upper - plain.lower)[name]


def test_reml_intervals_are_wider_and_have_no_fixed_effects() -> None:
    fitted = fit(MODEL, frame())
    ml, reml = fitted.confint(), fitted.confint(reml=True)
    assert list(reml.index) == list(ml.index)[:4]
    assert reml.loc["sd_(Intercept)|g", "upper"] > ml.loc["sd_(Intercept)|g", "upper"]
    assert fit(MODEL, frame(), reml=False).confint().equals(ml)


def test_refusals() -> None:
    fitted = fit(MODEL, frame())
    allowed = "method = 'boot': allowed are profile, profile-reml, wald, wald-log and bootstrap; use one of them"
    with pytest.raises(DataError, match=allowed):
        fitted.confint(method="boot")
    with pytest.raises(DataError, match=r"level = 95: allowed are numbers between 0 and 1, for example 0.95"):
        fitted.confint(level=95)
    with pytest.raises(DataError, match="draws = 5: allowed are whole numbers from 19, for example 999"):
        fitted.confint(method="bootstrap", draws=5)
    plan, gram = block("slope", reml=True)
    with pytest.raises(ValueError, match="profiles of fixed effects with REML"):
        profile_replicates(plan.shape, plan.groups, gram, 0, 8, fixed=True)


def test_fit_command_prints_the_intervals(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    frame().to_csv(path, index=False)
    plain = fit_command(path, MODEL, ml=False, df="z", as_json=False)
    text = fit_command(path, MODEL, ml=False, df="z", as_json=False, intervals="profile")
    assert text.startswith(plain + "\n\n")
    lines = text[len(plain) + 2 :].splitlines()
    assert lines[0].split() == ["2.5", "%", "97.5", "%"]
    assert [line.split()[0] for line in lines[1:]] == [
        "sd_(Intercept)|g", "cor_x.(Intercept)|g", "sd_x|g", "sigma", "(Intercept)", "x",
    ]  # fmt: skip
    made = json.loads(fit_command(path, MODEL, ml=False, df="z", as_json=True, intervals="profile"))
    table = fit(MODEL, pd.read_csv(path)).confint()
    assert made["confint"] == {name: list(limits) for name, limits in zip(table.index, table.to_numpy(), strict=True)}
    assert "confint" not in json.loads(fit_command(path, MODEL, ml=False, df="z", as_json=True))
