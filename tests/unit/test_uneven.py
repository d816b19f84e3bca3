"""Replicates of one block with different rows and clusters: each is fitted as if it had come alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from nestlab.fit.compare import lr_statistics
from nestlab.fit.deviance import statistics_of
from nestlab.fit.lmm import compile_plan, counts
from nestlab.fit.methods import Columns, Prepared
from nestlab.fit.methods.mixed import MixedModel
from nestlab.fit.methods.selection import compile_analysis
from nestlab.fit.ols import fit_ols
from nestlab.fit.rlrt import exact_p_values
from nestlab.fit.single import fit
from nestlab.fit.status import Status
from nestlab.simulate.gram import Draw
from nestlab.simulate.layout import compile_design, pair
from nestlab.spec.formula import parse_formula
from nestlab.spec.identity import data_key
from nestlab.spec.model import Condition, Layout, Method, Missing, Predictor, Truth

J, MOST, R = 9, 12, 11
FORMULA = "y ~ x + z + (1 + x | g)"


def condition() -> Condition:
    truth = Truth(parse_formula(FORMULA), (3.0, 0.4, 0.2), ((0.6, 0.1), (0.1, 0.3)), 1.0)
    predictors = (Predictor("x", 1, "normal"), Predictor("z", 2, "normal"))
    return Condition({}, 5, Layout((MOST,) * J), truth, predictors, "rows", 16, missing=Missing(rows=0.3))


@cache
def replicates() -> tuple[Draw, list[pd.DataFrame]]:
    """Replicates whose clusters have 0 to 12 rows, as a block and as data frames."""
    rng = np.random.default_rng(8)
    dd, de, ee = np.zeros((J, 3, R)), np.zeros((J, 2, R)), np.zeros((J, R))
    u, z = rng.normal(size=(J, 2, R)) * 0.7, rng.normal(size=(1, J, R))
    frames = []
    for r in range(R):
        sizes = rng.integers(0, MOST + 1, size=J)
        sizes[rng.choice(J, r % 4, replace=False)] = 0
        g = np.repeat(np.arange(J), sizes)
        D, e = np.column_stack([np.ones(len(g)), rng.normal(size=len(g))]), rng.normal(size=len(g))
        for j in range(J):
            A = D[g == j].T @ D[g == j]
            dd[j, :, r] = A[0, 0], A[0, 1], A[1, 1]
            de[j, :, r], ee[j, r] = D[g == j].T @ e[g == j], e[g == j] @ e[g == j]
        y = 3.0 + 0.4 * D[:, 1] + 0.2 * z[0, g, r] + (D * u[g, :, r]).sum(axis=1) + e
        frames.append(pd.DataFrame({"y": y, "x": D[:, 1], "z": z[0, g, r], "g": g}))
    return Draw(dd, de, ee, u, z), frames


def analysis(formula: str = FORMULA, **options: Any) -> MixedModel:
    made = condition()
    method = Method("m", parse_formula(formula), **options)
    return MixedModel(Prepared(made, method, data_key(made), compile_design(made)))


@dataclass(frozen=True)
class FirstBlock:
    """A block of which there are no rows."""

    draw: Draw
    number: int = 0
    rows = frames = None


def inferred(found: Any, draw: Draw, last: int = R) -> Columns:
    return found(FirstBlock(draw), 0, last).inferred


def test_numbers_come_from_the_gram() -> None:
    draw, frames = replicates()
    found = analysis()
    assert found.plan.rows == 0
    rows, clusters = counts(found.plan.rows, found.gram(draw), 2, 7)
    np.testing.assert_array_equal(rows, [len(frame) for frame in frames[2:7]])
    np.testing.assert_array_equal(clusters, [frame["g"].nunique() for frame in frames[2:7]])
    assert len(frames[3]) == statistics_of(found.plan, found.gram(draw), 3).N


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", [FORMULA, "y ~ x + z + (1 | g)", "y ~ x + (1 | g) + (0 + x | g)"])
def test_each_is_fitted_as_if_alone(formula: str, reml: bool) -> None:
    draw, frames = replicates()
    fits = analysis(formula, reml=reml).fit(draw, 0, R)
    for r, frame in enumerate(frames):
        alone = fit(formula, frame, reml=reml)
        assert fits.status[r] == alone.status
        np.testing.assert_allclose(fits.deviance[r], alone.neg2loglik, rtol=1e-9)
        np.testing.assert_allclose(fits.beta[r], list(alone.beta.values()), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(np.sqrt(fits.sigma2[r]), alone.sigma, rtol=1e-5)


@pytest.mark.parametrize("rule", ["z", "residual", "satterthwaite", "kenward-roger"])
def test_so_is_its_inference(rule: str) -> None:
    draw, frames = replicates()
    columns = inferred(analysis(df=(rule,)), draw)
    for r, frame in enumerate(frames):
        alone = fit(FORMULA, frame, df=rule)
        for term in ("Intercept", "x", "z"):
            np.testing.assert_allclose(columns[f"se.{term}"][r], alone.se[term], rtol=1e-5)
            np.testing.assert_allclose(columns[f"df.{term}"][r], alone.df[term], rtol=1e-4)


def test_between_within_counts_the_clusters_that_are_there() -> None:
    draw, frames = replicates()
    columns = inferred(analysis("y ~ x + z + (1 | g)", df=("between-within",)), draw)
    clusters = np.array([frame["g"].nunique() for frame in frames])
    rows = np.array([len(frame) for frame in frames])
    np.testing.assert_array_equal(columns["df.z"], clusters - 2)
    np.testing.assert_array_equal(columns["df.x"], rows - clusters - 1)


def test_refitted_df_of_singular_fits() -> None:
    draw, frames = replicates()
    found = analysis(singular_df="refit")
    fits, columns = found.fit(draw, 0, R), inferred(found, draw)
    singular = np.flatnonzero(fits.status == Status.singular)
    assert len(singular)
    compared = 0
    for r in singular:
        smaller = fit("y ~ x + z + (0 + x | g)", frames[r])
        if smaller.status == Status.ok:  # the intercept vanished
            np.testing.assert_allclose(columns["df.x"][r], smaller.df["x"], rtol=1e-4)
            np.testing.assert_allclose(fit(FORMULA, frames[r], singular_df="refit").df["x"], smaller.df["x"], rtol=1e-4)
            compared += 1
        else:  # nothing is left
            assert columns["df.x"][r] == len(frames[r]) - 3
    assert 0 < compared < len(singular)


def test_profile_and_wald_intervals() -> None:
    draw, frames = replicates()
    formula = "y ~ x + z + (1 | g)"
    for reml, kind in ((False, "profile"), (True, "wald")):
        columns = inferred(analysis(formula, reml=reml, variance_intervals=kind), draw)
        for r, frame in enumerate(frames):
            found = fit(formula, frame, reml=reml)
            if kind == "profile":
                limits = found.confint().loc["sigma"]
                np.testing.assert_allclose(columns["lower.var:residual"][r], limits["lower"] ** 2, rtol=1e-4)
                np.testing.assert_allclose(columns["upper.var:residual"][r], limits["upper"] ** 2, rtol=1e-4)
            else:
                np.testing.assert_allclose(columns["se.var:residual"][r], found.se_variances[1], rtol=1e-4)


def test_least_squares() -> None:
    draw, frames = replicates()
    found = analysis()
    plan = compile_plan(found.on.design, Method("m", parse_formula("y ~ x + z")))
    fits = fit_ols(plan, found.gram(draw, plan), 0, R)
    for r, frame in enumerate(frames):
        X = np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])
        beta, rss, *_ = np.linalg.lstsq(X, frame["y"], rcond=None)
        np.testing.assert_allclose(fits.beta[r], beta, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(fits.sigma2[r], rss[0] / (len(frame) - 3), rtol=1e-9)


def test_bootstrap_draws_the_rows_that_are_there() -> None:
    draw, frames = replicates()
    found = analysis("y ~ x + z + (1 | g)", intervals="bootstrap", draws=39)
    columns = inferred(found, draw, 4)
    assert np.isfinite(columns["lower.x"]).all()
    for r in range(4):
        plan, gram = found.plan.alone(found.gram(draw), r)
        assert (plan.rows, len(gram.dd)) == (len(frames[r]), frames[r]["g"].nunique())
        np.testing.assert_array_equal(gram.dd[:, pair(0, 0), 0], frames[r].groupby("g").size())


@pytest.mark.parametrize("reference", ["asymptotic", "exact", "bootstrap"])
def test_likelihood_ratio_tests(reference: Any) -> None:
    draw, _ = replicates()
    found = analysis("y ~ x + z + (1 | g)", compare=parse_formula("y ~ x + z"), reference=reference, draws=199)
    columns = inferred(found, draw)
    p = columns["p.var:g:Intercept"]
    assert np.isfinite(p).all()
    null = compile_plan(found.on.design, Method("m", parse_formula("y ~ x + z")))
    fits = found.fit(draw, 0, R)
    statistics = lr_statistics(fit_ols(null, found.gram(draw, null), 0, R), fits)
    if reference == "asymptotic":
        expected = np.where(statistics > 0, 0.5 * chi2.sf(statistics, 1), 1.0)
        np.testing.assert_allclose(p, expected, rtol=1e-9)
    elif reference == "exact":
        for r in range(R):
            plan, gram = found.plan.alone(found.gram(draw), r)
            alone = exact_p_values(
                plan, gram, statistics[[r]], 0, draws=199, stream=lambda _, r=r: found.on.stream(0, r)
            )
            np.testing.assert_allclose(p[r], alone[0], rtol=1e-12)
    else:
        assert np.argmax(statistics) == np.argmin(p)
        assert p.min() < 0.02


@pytest.mark.parametrize("smaller", ["y ~ x + z + (1 | g)", "y ~ x + z"])
def test_selected_models_are_those_fitted_alone(smaller: str) -> None:
    """Each by its own rows and clusters, least squares included."""
    draw, frames = replicates()
    large = analysis(
        "y ~ x + z + (1 | g)" if "|" not in smaller else FORMULA, compare=parse_formula(smaller), select="aic"
    )
    columns = inferred(compile_analysis(large.on), draw)
    chosen = columns["selected"] == 1
    assert 0 < chosen.sum() < R
    for r, frame in enumerate(frames):
        if not chosen[r] and "|" not in smaller:
            X = np.column_stack([np.ones(len(frame)), frame[["x", "z"]]])
            _, rss, *_ = np.linalg.lstsq(X, frame["y"].to_numpy())
            df = len(frame) - 3
            se = np.sqrt(rss[0] / df * np.linalg.inv(X.T @ X)[1, 1])
        else:
            alone = fit(large.method.formula.text if chosen[r] else smaller, frame)
            se, df = alone.se["x"], alone.df["x"]
        np.testing.assert_allclose(columns["se.x"][r], se, rtol=1e-5)
        np.testing.assert_allclose(columns["df.x"][r], df, rtol=1e-4)
