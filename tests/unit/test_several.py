"""Fits with several grouping factors: derivatives against a dense twin, one factor against the kernel, the same fit in other
words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nestlab.fit.inference import SINGULAR_DF
from nestlab.fit.problem import symmetric
from nestlab.fit.profile import profile_parameters
from nestlab.fit.several import curvature, products
from nestlab.fit.several.curvature import Derivatives
from nestlab.fit.several.held import hold
from nestlab.fit.several.model import fit_factors
from nestlab.fit.several.nesting import between_within_df, container_of
from nestlab.fit.several.point import point_at
from nestlab.fit.several.products import FactorColumns, make_products
from nestlab.fit.several.profile import profile_fit
from nestlab.fit.single import fit
from nestlab.fit.status import Status
from several_oracle import Dense

SHAPES = {
    "nested": ([1], [1]),
    "nested slopes": ([2], [1]),
    "crossed slopes": ([2], [2]),
    "crossed, uncorrelated": ([1, 1], [1, 1]),
    "three columns": ([3], [1, 2]),
    "one factor": ([2],),
    "three factors": ([1], [1], [1]),
}


def columns(rng, codes, sizes, x, w):
    Z = np.column_stack([np.ones(len(x)), x, w])[:, : sum(sizes)]
    return FactorColumns(codes.astype(np.int64), int(codes.max()) + 1, Z, tuple(sizes))


def made(shape: str, seed: int = 1, rows: int = 90):
    """(factors, X, y) of a small data set, with unequal numbers of rows and cells without any."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, rows))
    first = np.sort(np.unique(rng.integers(0, 14, rows), return_inverse=True)[1])
    second = first // 4 if "nested" in shape else np.unique(rng.integers(0, 6, rows), return_inverse=True)[1]
    third = rng.integers(0, 5, rows)
    factors = [columns(rng, c, s, x, w) for c, s in zip((first, second, third), SHAPES[shape], strict=False)]
    y = 1 + 0.5 * x + rng.normal(size=14)[first] * 0.8 + rng.normal(size=rows)
    y = y + (rng.normal(size=6)[second] * 0.7 if len(factors) > 1 else 0.0)
    return factors, np.column_stack([np.ones(rows), x, np.cos(np.arange(rows))]), y


def some_G(factors, rng, *, rank: str):
    """A G for each factor; rank "less": one column is a combination of others in the first term; "none": the first is 0."""
    found = []
    for f, factor in enumerate(factors):
        G, first = np.zeros((factor.q, factor.q)), 0
        for size in factor.sizes:
            L = rng.normal(size=(size, size)) * 0.6
            if rank == "less" and first == 0 and size > 1:
                L[-1] = L[0]
            G[first : first + size, first : first + size] = 0.0 if rank == "none" and f == 0 and first == 0 else L @ L.T
            first += size
        found.append(G)
    return found


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("rank", ["full", "less", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_deviance_gradient_and_hessian_of_a_dense_twin(shape, rank, reml):
    factors, X, y = made(shape)
    G = some_G(factors, np.random.default_rng(5), rank=rank)
    m = make_products(factors, X, y)
    ours, twin = Derivatives(point_at(m, G), reml), Dense(factors, X, y, G, reml=reml)
    free = m.entries
    along = [twin.along(e.factor, e.direction(m.q[e.factor])) for e in free]
    diagonal = np.log(np.diag(ours.C))
    deviance = (
        ours.point.logdet
        + 2 * reml * diagonal[:-1].sum()
        + ours.m * (1 + np.log(2 * np.pi / ours.m) + 2 * diagonal[-1])
    )
    assert deviance == pytest.approx(twin.deviance, abs=1e-10)
    slopes = [ours.gradient[e.factor][e.a, e.b] * (1 + (e.a != e.b)) for e in free]
    np.testing.assert_allclose(slopes, [twin.slope(dV) for dV in along], rtol=1e-10, atol=1e-10)
    H = np.array([[twin.curve(dV, dU) for dU in along] for dV in along])
    size = np.abs(H).max()
    np.testing.assert_allclose(ours.exact(), H, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(ours.differences(), H, rtol=0, atol=3e-6 * size)
    quadratic = [[twin.m / twin.rss * (y @ twin.P @ a @ twin.P @ b @ twin.P @ y) for b in along] for a in along]
    np.testing.assert_allclose(ours.quadratic(), quadratic, rtol=1e-9, atol=1e-9)
    slope = np.array([twin.m / twin.rss * (y @ twin.P @ a @ twin.P @ y) for a in along])
    expected = np.array([[np.trace((P := twin.P if reml else twin.inverse) @ a @ P @ b) for b in along] for a in along])
    mean = (H + expected - np.outer(slope, slope) / twin.m) / 2
    np.testing.assert_allclose(ours.average(), mean, rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("reml", [True, False])
def test_the_twin_by_differences_of_its_deviance(reml):
    factors, X, y = made("crossed slopes")
    G = some_G(factors, np.random.default_rng(3), rank="full")
    twin = Dense(factors, X, y, G, reml=reml)

    def at(f, E, h):
        return Dense(factors, X, y, [g + h * E if k == f else g for k, g in enumerate(G)], reml=reml)

    free = make_products(factors, X, y).entries
    for e in free:
        E, h = e.direction(2), 1e-5
        dV = twin.along(e.factor, E)
        ends = at(e.factor, E, -h), at(e.factor, E, h)
        assert twin.slope(dV) == pytest.approx((ends[1].deviance - ends[0].deviance) / (2 * h), rel=1e-6, abs=1e-6)
        for other in free:
            dU = twin.along(other.factor, other.direction(2))
            difference = (ends[1].slope(dU) - ends[0].slope(dU)) / (2 * h)
            assert twin.curve(dV, dU) == pytest.approx(difference, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("shape", ["nested slopes", "crossed slopes", "three columns", "three factors"])
def test_derivatives_with_a_parameter_held_by_differences(shape, reml):
    """The estimate is a stationary point of every chart, and away from it gradient and Hessian are those of D."""
    factors, X, y = made(shape)
    model = fit_factors(factors, X, y, reml=reml)
    parameters = profile_parameters(model.products.blocks.tolist(), 0 if reml else model.p)
    rng = np.random.default_rng(4)
    for parameter in parameters:
        held = hold(model, parameter)
        here = held.at(held.x, held.psi)
        assert here.value == pytest.approx(model.optimum.deviance, abs=1e-9)
        assert np.abs(here.g).max() < 1e-4
        z = np.append(held.x + 0.3 * rng.normal(size=len(held.x)), held.psi + 0.2)
        here, g, h = held.at(z[:-1], z[-1]), [], []
        for i in range(len(z)):
            ends = [held.at(end[:-1], end[-1]) for end in (z + step * np.eye(len(z))[i] for step in (-1e-6, 1e-6))]
            g.append((ends[1].value - ends[0].value) / 2e-6)
            h.append((ends[1].g - ends[0].g) / 2e-6)
        np.testing.assert_allclose(here.g, g, rtol=0, atol=1e-6 * np.abs(g).max(), err_msg=str(parameter))
        np.testing.assert_allclose(here.h, h, rtol=0, atol=1e-7 * np.abs(h).max(), err_msg=str(parameter))


def test_profiles_of_one_factor_are_the_kernels():
    frame = frame_of(1)
    kernel = fit("y ~ x + z + (1 + x | g)", frame)
    X = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    codes = np.unique(frame["g"], return_inverse=True)[1].astype(np.int64)
    ours = fit_factors([FactorColumns(codes, kernel.clusters, X[:, :2], (2,))], X, frame["y"].to_numpy(), reml=False)
    found = profile_fit(ours, contrasts=[np.array([0.0, 1.0, 0.0])])
    table = kernel.confint()
    moved = np.append(np.zeros(4), np.linalg.lstsq(X, frame["y"], rcond=None)[0])
    np.testing.assert_allclose(found.lower[0, :7] + moved, table["lower"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.upper[0, :7] + moved, table["upper"], rtol=1e-6, atol=1e-9)
    assert not found.failed.any()
    np.testing.assert_allclose(found.lower[0, 7], found.lower[0, 5])  # a contrast that is an effect


def test_large_problems_are_profiled_by_the_average():
    """Limits by steps of the average of Hessian and expectation are those by exact ones."""
    factors, X, y = made("crossed slopes")
    model = fit_factors(factors, X, y, reml=False)
    exact = profile_fit(model, starts=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curvature, "EXACT_ENTRIES", 0)
        averaged = profile_fit(model, starts=0)
    np.testing.assert_allclose(averaged.lower, exact.lower, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(averaged.upper, exact.upper, rtol=1e-5, atol=1e-6)


def frame_of(seed, groups=12, rows=90):
    rng = np.random.default_rng(seed)
    g = np.sort(rng.integers(0, groups, rows))
    x = rng.normal(size=rows)
    z = rng.normal(size=groups)[g]
    u, v = rng.normal(size=(2, groups)) * np.array([[0.9], [0.4 * (seed % 3)]])
    return pd.DataFrame({"g": g, "x": x, "z": z, "y": 100 + 0.3 * x + u[g] + v[g] * x + rng.normal(size=rows)})


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("random", "sizes"), [("(1 | g)", (1,)), ("(1 + x | g)", (2,)), ("(1 + x || g)", (1, 1)), ("(0 + x | g)", (1,))]
)
def test_one_factor_is_fitted_as_the_kernel_fits_it(random, sizes, seed, reml):
    frame = frame_of(seed)
    kernel = fit(f"y ~ x + z + {random}", frame, reml=reml)
    X = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
    Z = X[:, 1:2] if random == "(0 + x | g)" else X[:, : sum(sizes)]
    codes = np.unique(frame["g"], return_inverse=True)[1].astype(np.int64)
    ours = fit_factors([FactorColumns(codes, kernel.clusters, Z, sizes)], X, frame["y"].to_numpy(), reml=reml)
    assert ours.optimum.status == kernel.status
    se = np.array(list(kernel.se.values()))
    vcov = ours.back @ ours.vcov @ ours.back.T * ours.scale**2
    np.testing.assert_allclose(np.sqrt(np.diag(vcov)), se, rtol=1e-8)
    sigma2 = ours.sigma2 * ours.scale**2
    assert sigma2 == pytest.approx(kernel.sigma**2, rel=1e-9)
    for T, covariance in zip(ours.covariances(), kernel.varcomp.values(), strict=True):
        np.testing.assert_allclose(T @ T.T * sigma2, covariance, rtol=0, atol=1e-8 * kernel.sigma**2)
    np.testing.assert_allclose(ours.residuals / np.sqrt(ours.sigma2), kernel.scaled_residuals, atol=1e-7)
    contrasts = list(np.eye(3)[:, None, :])
    rules = ["z", "residual", "between-within", "satterthwaite", *(["kenward-roger"] if reml else [])]
    for rule in rules:
        for singular_df in SINGULAR_DF:
            theirs = fit(f"y ~ x + z + {random}", frame, reml=reml, df=rule, singular_df=singular_df)
            found = ours.infer(rule, singular_df, contrasts)
            np.testing.assert_allclose(
                found.df[0], list(theirs.df.values()), rtol=1e-5, err_msg=f"{rule} {singular_df}"
            )
            if theirs.status != Status.singular or rule != "satterthwaite":
                break
    by_terms, residual = kernel.se_variances
    ours_by_terms, ours_residual = ours.variances().ses
    np.testing.assert_allclose(np.concatenate(ours_by_terms), np.concatenate(by_terms), rtol=1e-6)
    assert ours_residual == pytest.approx(residual, rel=1e-6)


def estimates(model):
    sigma2 = model.sigma2 * model.scale**2
    variances = [T @ T.T * sigma2 for T in model.covariances()]
    vcov = model.back @ model.vcov @ model.back.T * model.scale**2
    contrasts = list(np.eye(model.p)[:, None, :])
    kr = model.infer("kenward-roger", "lmertest", contrasts)
    return [
        np.sqrt(np.diag(vcov)), sigma2, *variances, model.infer("satterthwaite", "lmertest", contrasts).df, kr.df,
        model.back @ symmetric(model.p, kr.vcov[0]) @ model.back.T * model.scale**2,
        *model.variances().ses[0],
    ]  # fmt: skip


def assert_same(one, other, rtol=1e-7):
    for a, b in zip(estimates(one), estimates(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_searches_by_the_average_end_where_exact_ones_do(shape, monkeypatch):
    """And differences of the gradient stand for the Hessian in standard errors and degrees of freedom."""
    factors, X, y = made(shape, rows=220)
    exact = fit_factors(factors, X, y, reml=True)
    monkeypatch.setattr(curvature, "EXACT_ENTRIES", 0)
    monkeypatch.setattr(curvature, "WHOLE_ENTRIES", 0)
    average = fit_factors(factors, X, y, reml=True)
    assert average.optimum.status == exact.optimum.status
    assert average.optimum.deviance == pytest.approx(exact.optimum.deviance, abs=1e-8)
    assert_same(average, exact, rtol=2e-5)


def test_units_of_many_shapes_are_filled_up_without_a_trace(monkeypatch):
    rng = np.random.default_rng(8)
    school = np.sort(np.r_[np.arange(20), rng.integers(0, 20, 380)])
    class_ = np.unique(school * 100 + rng.integers(0, 5, 400), return_inverse=True)[1]
    district = (school >= 17).astype(np.int64)  # of 17 and of 3 schools
    y = rng.normal(size=20)[school] + rng.normal(size=200)[class_] * 0.7 + rng.normal(size=400)
    factors = [
        FactorColumns(c.astype(np.int64), int(c.max()) + 1, np.ones((400, 1)), (1,)) for c in (class_, school, district)
    ]
    exact = make_products(factors, np.ones((400, 1)), y)
    monkeypatch.setattr(products, "MOST_SHAPES", 1)
    filled = make_products(factors, np.ones((400, 1)), y)
    assert [b.shape[1:] for b in exact.batches] == [(3, 1), (17, 1)]
    assert [b.shape[1:] for b in filled.batches] == [(3, 1), (18, 1)]
    G = [np.array([[0.5]]), np.array([[0.9]]), np.array([[0.2]])]
    one, other = (Derivatives(point_at(m, G), True) for m in (exact, filled))
    assert other.point.logdet == pytest.approx(one.point.logdet, abs=1e-10)
    np.testing.assert_allclose(other.exact(), one.exact(), rtol=1e-10)
    np.testing.assert_allclose(other.average(), one.average(), rtol=1e-10)


@pytest.mark.parametrize("shape", ["nested slopes", "crossed slopes", "three factors"])
def test_units_labels_and_order_of_rows_do_not_matter(shape):
    factors, X, y = made(shape, seed=2, rows=200)
    first = fit_factors(factors, X, y, reml=True)
    order = np.random.default_rng(1).permutation(len(y))
    relabelled = [replace(f, codes=(f.levels - 1 - f.codes)[order], Z=f.Z[order]) for f in factors]
    assert_same(fit_factors(relabelled, X[order], y[order], reml=True), first)
    assert_same(fit_factors(factors, X, y + 1e4 * X[:, 0], reml=True), first)
    scaled = fit_factors(factors, X, 1e-4 * y, reml=True)
    assert scaled.optimum.deviance == pytest.approx(first.optimum.deviance, abs=1e-8)
    assert scaled.sigma2 == pytest.approx(first.sigma2, rel=1e-8)
    reversed_ = fit_factors(factors[::-1], X, y, reml=True)
    assert reversed_.optimum.deviance == pytest.approx(first.optimum.deviance, abs=1e-8)
    np.testing.assert_allclose(reversed_.vcov, first.vcov, rtol=1e-7)


def test_two_factors_of_the_same_levels_cannot_be_told_apart():
    factors, X, y = made("crossed slopes")
    twice = [replace(factors[0], Z=np.ones((90, 1)), sizes=(1,))] * 2
    assert fit_factors(twice, X, y, reml=True).optimum.status == Status.rank_deficient


def test_a_response_without_noise_has_no_fit():
    factors, X, _ = made("three factors")
    y = X @ [1.0, 2.0, 3.0] + np.arange(14.0)[factors[0].codes] ** 2 + np.arange(6.0)[factors[1].codes] ** 1.5
    assert not fit_factors(factors, X, y, reml=True).optimum.status.converged


def test_containers_and_between_within_degrees_of_freedom():
    """Ten schools of four classes of six pupils, and eight raters who see all."""
    school = np.repeat(np.arange(10), 24)
    class_ = np.repeat(np.arange(40), 6)
    rater = np.tile(np.arange(8), 30)
    rng = np.random.default_rng(1)
    x, one = rng.normal(size=240), np.ones(240)
    z, trt = rng.normal(size=10)[school], (class_ % 2).astype(float)

    def factor(codes, *columns):
        return FactorColumns(codes, int(codes.max()) + 1, np.column_stack(columns), (len(columns),))

    nested = [factor(class_, one), factor(school, one)]
    assert [container_of(nested, f) for f in (0, 1)] == [1, None]
    X = np.column_stack([one, z, trt, x])
    # schools: 10 less Intercept and z; classes: 40 less 10 less trt; pupils: 240 less 40 less x
    np.testing.assert_array_equal(between_within_df(nested, X), [8, 8, 29, 199])
    slopes = [factor(class_, one), factor(school, one, x)]
    np.testing.assert_array_equal(between_within_df(slopes, X), [8, 8, 29, 9])
    deep = [factor(class_, one, x), factor(school, one)]  # schools have no slope: that of a class is judged on 40
    np.testing.assert_array_equal(between_within_df(deep, X), [8, 8, 29, 39])
    crossed = [factor(school, one), factor(rater, one)]
    assert [container_of(crossed, f) for f in (0, 1)] == [None, None]
    # the mean is judged on the factor with fewer levels; rows: 240 less (10 + 8 - 1) less trt and x
    np.testing.assert_array_equal(between_within_df(crossed, X), [7, 9, 221, 221])
    few = [factor(school // 5, one), factor(class_, one)]
    assert np.isnan(between_within_df(few, np.column_stack([one, (school > 4).astype(float)]))).all()
