"""The deviance by Laplace and quadrature: against dense likelihoods and integrals, and its gradient against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glmm_oracle import Design, dense_deviance, integrated_deviance
from nestlab.fit.glmm.families import ObservedRows
from nestlab.fit.glmm.layout import EffectsLayout
from nestlab.fit.glmm.objective import Objective
from nestlab.fit.glmm.search import hessian_at
from nestlab.fit.several.products import FactorColumns
from nestlab.spec.family import Family

KINDS = [
    ("binomial", "logit"),
    ("binomial", "probit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("negative-binomial", "log"),
]


def make(family, link, *, q=1, several=False, nodes=1, curvature="observed", seed=1):
    rng = np.random.default_rng(seed)
    J, n = 9, 6
    N, g = J * n, np.repeat(np.arange(J), n)
    x = rng.normal(size=N)
    Z = np.column_stack([np.ones(N), x])
    factors = [FactorColumns(g, J, Z[:, :q], (q,))]
    if several:
        factors.append(FactorColumns(np.tile(np.arange(n), J), n, np.ones((N, 1)), (1,)))
        factors.append(FactorColumns(rng.integers(0, 3, N), 3, Z, (1, 1)))
    trials = rng.integers(1, 4, N) if family == "binomial" else np.ones(N, dtype=int)
    y = rng.binomial(trials, 0.4) if family == "binomial" else rng.poisson(2.0, N)
    outcome = ObservedRows(Family(family, link), y.astype(float), trials.astype(float))
    objective = Objective(outcome, Z, np.zeros(N), EffectsLayout(tuple(factors)), nodes, curvature)
    psi = 0.2 + rng.normal(size=objective.n) * 0.4
    return objective, psi, Design(outcome, Z, factors, nodes)


SHAPES = [{}, {"q": 2}, {"q": 2, "several": True}, {"nodes": 5}, {"q": 2, "nodes": 4}]


@pytest.mark.parametrize(("family", "link"), KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_deviance_against_a_dense_likelihood(family, link, shape):
    objective, psi, design = make(family, link, **shape)
    assert np.isclose(objective(psi[None]).deviance[0], dense_deviance(design, psi), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("family", "link"), KINDS)
@pytest.mark.parametrize("curvature", ["observed", "expected"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_against_differences(family, link, curvature, shape):
    objective, psi, _ = make(family, link, curvature=curvature, **shape)
    now = objective(psi[None])
    E = 1e-3 * np.eye(len(psi))
    one, two, three, four = objective(np.concatenate([psi + E, psi - E, psi + 2 * E, psi - 2 * E])).deviance.reshape(
        4, -1
    )
    assert np.allclose((8 * (one - two) - (three - four)) / 12e-3, now.gradient[0], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("family", "link"), KINDS)
def test_one_node_is_laplace(family, link):
    objective, psi, _ = make(family, link, q=2)
    by_rule = objective._at_mode  # the formula of many nodes with one
    quadrature = replace(objective, nodes=1)
    L, v, eta = quadrature._mode(psi[None], quadrature.nothing())
    scaled = quadrature.layout.eliminate(L, -quadrature.outcome.derivatives(eta, 2, quadrature.log_k(psi[None]))[2])
    value, *_ = quadrature._quadrature(psi[None], L, v, scaled)
    assert np.isclose(-2 * value.sum(), by_rule(psi[None], L, v, eta).deviance[0], rtol=1e-12)


@pytest.mark.parametrize(("family", "link"), KINDS)
def test_many_nodes_are_the_integral(family, link):
    objective, psi, design = make(family, link, nodes=25)
    psi[objective.theta] = 0.6
    assert np.isclose(objective(psi[None]).deviance[0], integrated_deviance(design, psi), rtol=0, atol=1e-8)


def test_nodes_of_two_columns_converge():
    objective, psi, _ = make("binomial", "logit", q=2)
    psi[objective.theta] = [0.7, 0.2, 0.5]
    last = [replace(objective, nodes=n)(psi[None]).deviance[0] for n in (9, 15, 25)]
    assert abs(last[2] - last[1]) < 1e-8
    assert abs(last[1] - last[0]) < 1e-5


def test_a_batch_is_its_members_batch():
    objective, psi, _ = make("poisson", "log", q=2, several=True)
    other = psi + 0.1
    both = objective(np.stack([psi, other]))
    for k, own in enumerate((psi, other)):
        alone = objective(own[None])
        assert np.isclose(both.deviance[k], alone.deviance[0], rtol=1e-12)
        assert np.allclose(both.gradient[k], alone.gradient[0], rtol=1e-8, atol=1e-9)


def test_the_sign_of_a_column_of_l_changes_nothing():
    objective, psi, _ = make("binomial", "probit", q=2)
    flipped = psi.copy()
    flipped[objective.theta.start + 2] *= -1
    assert np.isclose(objective(psi[None]).deviance[0], objective(flipped[None]).deviance[0], rtol=1e-12)


def test_hessian_against_differences_of_another_step():
    objective, psi, _ = make("binomial", "cloglog", q=2)
    modes = objective(psi[None]).modes
    assert np.allclose(
        hessian_at(objective, psi, modes), hessian_at(objective, psi, modes, step=5e-3), rtol=1e-6, atol=1e-6
    )


def test_relabelled_levels_and_permuted_rows_change_nothing():
    objective, psi, _ = make("binomial", "logit", q=2, several=True)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(objective.X))
    factors = []
    for f in objective.layout.factors:
        names = rng.permutation(f.levels)
        factors.append(FactorColumns(names[f.codes][order], f.levels, f.Z[order], f.sizes))
    o = objective.outcome
    moved = Objective(
        ObservedRows(o.family, o.y[order], o.trials[order]),
        objective.X[order],
        objective.offset,
        EffectsLayout(tuple(factors)),
    )
    a, b = objective(psi[None]), moved(psi[None])
    assert np.isclose(a.deviance[0], b.deviance[0], rtol=1e-12)
    assert np.allclose(a.gradient, b.gradient, rtol=1e-8, atol=1e-9)
