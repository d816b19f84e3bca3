"""Generalised least squares at the true variances against dense matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nestlab.fit.gls import _inverse, fit_gls
from nestlab.fit.lmm import compile_plan, pairs
from nestlab.fit.status import Status
from nestlab.run.block import compile_condition
from nestlab.simulate.gram import Draw, respond
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

Array = NDArray[np.float64]
FORMULA = "y ~ x + z + x:z + (1 + x | g)"
COVARIANCE, S2 = ((0.6, 0.1), (0.1, 0.3)), 1.7


def condition(*, redraw: bool = True) -> Condition:
    truth = Truth(parse_formula(FORMULA), (30.0, 0.4, 0.2, 0.1), COVARIANCE, S2)
    predictors = (Predictor("x", 1, "normal", redraw=redraw), Predictor("z", 2, "normal", redraw=redraw))
    return Condition({}, 5, Layout((3, 1, 12, 7, 5, 9, 2)), truth, predictors, "moments", 16)


def dense(y: Array, X: Array, Z: Array, g: NDArray[np.int64], *, reml: bool) -> tuple[Array, Array, float]:
    V = S2 * np.eye(len(y)) + np.where(g[:, None] == g, Z @ np.array(COVARIANCE) @ Z.T, 0.0)
    W = np.linalg.inv(V)
    vcov = np.linalg.inv(X.T @ W @ X)
    beta = vcov @ X.T @ W @ y
    e = y - X @ beta
    deviance = len(y) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + e @ W @ e
    if reml:
        deviance -= X.shape[1] * np.log(2 * np.pi) + np.linalg.slogdet(vcov)[1]
    return beta, vcov, float(deviance)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("redraw", [True, False])
def test_against_dense_matrices(redraw: bool, reml: bool) -> None:
    compiled = compile_condition(condition(redraw=redraw), (Method("m", parse_formula(FORMULA)),))
    draw, design = compiled.draw(0), compiled.source.design
    plan = compile_plan(design, Method("m", parse_formula(FORMULA), reml=reml))
    gram = respond(draw, design, plan.omitted, plan.multipliers)
    fits = fit_gls(plan, gram, 2, 9, sigma2=S2)
    assert (fits.status == Status.ok).all()
    g = np.repeat(np.arange(design.clusters), design.sizes)
    for r in range(2, 9):
        rows = compiled.source.rows(r, draw)
        X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
        beta, vcov, deviance = dense(rows.response(design), X, rows.D[:, list(plan.zcols)], g, reml=reml)
        np.testing.assert_allclose(fits.beta[r - 2], beta, rtol=1e-9)
        np.testing.assert_allclose(fits.vcov[r - 2], [vcov[i, k] for i, k in pairs(4)], rtol=1e-8)
        np.testing.assert_allclose(fits.deviance[r - 2], deviance, rtol=1e-9)
    np.testing.assert_allclose(fits.varcomp, np.tile([0.6, 0.1, 0.3], (7, 1)))


def test_statuses() -> None:
    compiled = compile_condition(condition(), (Method("m", parse_formula(FORMULA)),))
    draw, design = compiled.draw(0), compiled.source.design
    plan = compile_plan(design, Method("m", parse_formula(FORMULA)))
    gram = respond(draw, design, plan.omitted, plan.multipliers)
    doubled = replace(plan, xcols=(*plan.xcols[:3], plan.xcols[1]), xweights=np.array([0, 0, 1, 0]))
    assert (fit_gls(doubled, gram, 0, 3, sigma2=S2).status == Status.rank_deficient).all()
    ruined = Draw(draw.dd, draw.de.copy(), draw.ee, draw.u, draw.z)
    ruined.de[0, 0, 1] = np.inf
    fits = fit_gls(plan, respond(ruined, design, plan.omitted, plan.multipliers), 0, 3, sigma2=S2)
    assert list(fits.status) == [Status.ok, Status.nonfinite, Status.ok]
    assert np.isnan(fits.beta[1]).all()


def test_one_singular_matrix_of_a_batch_is_nan_alone() -> None:
    """NumPy raises for all of them; the others have the digits that they have alone."""
    M = np.random.default_rng(1).normal(size=(3, 4, 2, 2))
    alone = np.linalg.inv(M)
    M[1, 2] = [[1.0, 2.0], [2.0, 4.0]]
    found = _inverse(M)
    assert np.isnan(found[1, 2]).all()
    kept = np.ones((3, 4), dtype=bool)
    kept[1, 2] = False
    np.testing.assert_array_equal(found[kept], alone[kept])
