"""The compiled fit of generalised mixed models against its twin in NumPy, finite differences, and itself without pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.polynomial.hermite import hermgauss
from scipy.special import gammaln

import nestlab as nl
from nestlab.fit.glmm_kernel import evaluate_glmm, fit_glmm
from nestlab.fit.glmm_pooling import pool_rows
from nestlab.fit.status import Status
from nestlab.spec.family import KINDS, mean_of

Array = np.ndarray[Any, Any]
FAMILIES = [family for family in KINDS if family[0] != "negative-binomial"]


def design(rng: np.random.Generator, clusters: int, rows: int, q: int) -> tuple[Array, Array, Array]:
    N = clusters * rows
    g, x = np.repeat(np.arange(clusters), rows), rng.normal(size=N)
    X = np.stack([np.ones(N), x, g % 2])
    return X, np.stack([np.ones(N), x, rng.normal(size=N)])[:q], g


def outcomes(rng: np.random.Generator, family: tuple[str, str], eta: Array, trials: int) -> Array:
    if family[0] == "binomial":
        return rng.binomial(trials, mean_of(family[1], eta)).astype(float)
    return rng.poisson(np.exp(np.minimum(eta, 4))).astype(float)


def entries(q: int) -> tuple[Array, Array]:
    a, b = zip(*((i, k) for k in range(q) for i in range(k, q)), strict=True)
    return np.array(a), np.array(b)


def fitted(
    family: tuple[str, str],
    X: Array,
    Z: Array,
    y: Array,
    g: Array,
    *,
    trials: int = 1,
    nodes: int = 1,
    pool: bool = False,
) -> tuple[Status, float, Array, Array, Array]:
    """Status, -2 log likelihood, beta, standard errors and G of one data set."""
    J, q = int(g.max()) + 1, len(Z)
    (a, b), (t, w) = entries(q), hermgauss(nodes)
    starts = np.searchsorted(g, np.arange(J + 1))
    N, K = len(y), len(X) + len(a)
    status, steps, F = np.empty(1, dtype=np.int64), np.empty(1, dtype=np.int64), np.empty(1)
    psi, vcov, G = np.empty((1, K)), np.empty((1, K, K)), np.empty((1, q, q))
    constant, offset = 0.0, np.zeros(N)
    if family[0] == "binomial":
        constant = (gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)).sum()
    else:
        constant = -gammaln(y + 1).sum()
    n, cluster, repeat, repeats = np.full(N, float(trials)), g, np.ones(J), np.ones(N)
    first_row, first_cluster = np.array([0, N]), np.array([0, J])
    if pool:
        pooled = pool_rows(X, Z, y, starts, J, trials)
        X, Z, y, n, starts, cluster = pooled.X, pooled.Z, pooled.y, pooled.n, pooled.starts, pooled.cluster
        repeat, repeats, first_row, first_cluster = (
            pooled.repeat,
            pooled.repeats,
            pooled.first_row,
            pooled.first_cluster,
        )
        offset = np.log(n) if family[0] == "poisson" else np.zeros(len(y))
        constant -= pooled.added()[0] if family[0] == "poisson" else 0.0
    fit_glmm(
        KINDS[family], 1.0, a, b, t, np.log(w) + t * t, X, Z.copy(), y, n, offset, starts, cluster, repeat, repeats, first_row,
        first_cluster, status, steps, F, psi, vcov, G,
    )  # fmt: skip
    p = len(X)
    return Status(int(status[0])), 2 * (F[0] - constant), psi[0, :p], np.sqrt(np.diag(vcov[0])[:p]), G[0]


@pytest.mark.parametrize(("q", "nodes"), [(1, 1), (1, 5), (2, 1), (3, 1)])
@pytest.mark.parametrize("family", KINDS, ids="-".join)
def test_derivatives_are_those_of_the_objective(family: tuple[str, str], q: int, nodes: int) -> None:
    rng = np.random.default_rng(7)
    X, Z, g = design(rng, 6, 5, q)
    trials = 3 if family[0] == "binomial" else 1
    y = outcomes(rng, family, 0.4 * rng.normal(size=30), trials)
    (a, b), (t, w), K = entries(q), hermgauss(nodes), 3 + len(entries(q)[0])
    repeat = np.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])

    def at(psi: Array) -> tuple[float, Array, Array]:
        gradient, hessian = np.empty(K), np.empty((K, K))
        F = evaluate_glmm(
            KINDS[family], 1.7, a, b, t, np.log(w) + t * t, X, Z, y, np.full(30, float(trials)), 0.1 * X[1],
            np.arange(7) * 5, g, repeat, repeat[g], psi, gradient, hessian,
        )  # fmt: skip
        return F, gradient, np.tril(hessian) + np.tril(hessian, -1).T

    psi, h = 0.4 * rng.normal(size=K), 1e-5
    gradient, hessian = at(psi)[1:]
    steps = [(at(psi + h * e), at(psi - h * e)) for e in np.eye(K)]
    slopes = np.array([(up[0] - down[0]) / (2 * h) for up, down in steps])
    curves = np.array([(up[1] - down[1]) / (2 * h) for up, down in steps])
    assert np.abs(gradient - slopes).max() < 2e-8 * np.abs(gradient).max()
    assert np.abs(hessian - curves).max() < 2e-7 * np.abs(hessian).max()


@pytest.mark.parametrize("family", FAMILIES, ids="-".join)
def test_fits_are_those_of_the_twin(family: tuple[str, str]) -> None:
    """Statuses, deviances, estimates and standard errors; designs that end ok, singular or separated."""
    rng = np.random.default_rng(11)
    seen = set()
    for case in range(24):
        q, nodes, trials = (
            1 + case % 2,
            7 if case % 4 == 2 else 1,
            4 if case % 3 == 0 and family[0] == "binomial" else 1,
        )
        X, Z, g = design(rng, int(rng.integers(5, 12)), int(rng.integers(3, 7)), q)
        u = (0.0, 0.8)[case // 2 % 2] * rng.normal(size=g.max() + 1)
        y = outcomes(rng, family, -0.5 + 0.5 * X[1] + u[g], trials)
        frame = pd.DataFrame({"y": y, "x": X[1], "t": X[2], "g": g, "n": trials})
        twin = nl.fit(
            f"y ~ x + t + ({'1 + x' if q == 2 else '1'} | g)", frame, family=family[0], link=family[1], nodes=nodes,
            trials="n" if family[0] == "binomial" else None,
        )  # fmt: skip
        status, deviance, beta, se, G = fitted(family, X, Z, y, g, trials=trials, nodes=nodes)
        seen.add(status)
        if status == Status.separated or twin.status == Status.separated:
            assert status == twin.status, case
            continue
        assert status.converged, case
        assert deviance < twin.neg2loglik + 1e-6, case
        if status == twin.status == Status.ok and deviance > twin.neg2loglik - 1e-6:
            own = np.array(list(twin.se.values()))
            assert np.abs(beta - np.array(list(twin.beta.values()))).max() < 1e-4 * own.max(), case
            assert np.abs(se / own - 1).max() < 1e-4, case
            assert np.abs(G - twin.varcomp["g"]).max() < 1e-3 * max(1.0, np.abs(G).max()), case
    assert {Status.ok, Status.singular} <= seen


@pytest.mark.parametrize("family", [("binomial", "logit"), ("poisson", "log")], ids="-".join)
@pytest.mark.parametrize("nodes", [1, 7])
def test_pooled_counts_say_what_their_rows_say(family: tuple[str, str], nodes: int) -> None:
    rng = np.random.default_rng(5)
    g, N = np.repeat(np.arange(14), 12), 14 * 12
    X = np.stack([np.ones(N), g % 2, np.tile(np.arange(12) % 2, 14)]).astype(float)
    y = outcomes(rng, family, -0.3 + 0.5 * X[1] + 0.6 * rng.normal(size=14)[g], 1)
    rows = fitted(family, X, np.ones((1, N)), y, g, nodes=nodes)
    pooled = fitted(family, X, np.ones((1, N)), y, g, nodes=nodes, pool=True)
    assert rows[0] == pooled[0] == Status.ok
    assert rows[1] == pytest.approx(pooled[1], abs=1e-9)
    for one, other in zip(rows[2:], pooled[2:], strict=True):
        assert np.allclose(one, other, rtol=1e-7, atol=1e-9)


def test_deviance_of_a_study_is_that_of_its_rows(tmp_path: Path) -> None:
    """Counts with an exposure and events of several trials, pooled by the study and fitted row by row by `nl.fit`."""
    truths: list[dict[str, Any]] = [{"family": "poisson", "exposure": 2}, {"family": "binomial", "trials": 4}]
    for truth in truths:
        random = {"g": {"variance": {"Intercept": 0.4}}}
        study = nl.Study.from_dict({
            "name": "rows", "seed": 3, "replications": 3, "design": {"clusters": 10, "cluster_size": 6},
            "truth": {"formula": "y ~ x + (1 | g)", "fixed": {"Intercept": 0.2, "x": 0.3}, "random": random, **truth},
            "predictors": {"x": {"level": 1, "distribution": "balanced"}},
        })  # fmt: skip
        stored = study.run(out=tmp_path / truth["family"], jobs=1).replicates()
        for replicate in range(3):
            frame = study.data(0, replicate)
            given: dict[str, Any] = {"trials": "trials"} if "trials" in truth else {"offset": "time"}
            twin = nl.fit("y ~ x + (1 | g)", frame.assign(time=np.log(2.0)), family=truth["family"], **given)
            assert stored["deviance"][replicate] == pytest.approx(twin.neg2loglik, abs=1e-7)


def test_clusters_that_are_alike_are_one_with_a_count() -> None:
    X = np.ones((1, 12))
    y = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1], dtype=float)
    pooled = pool_rows(X, X, y, np.array([0, 3, 6, 9, 12]), 4, 1)
    assert pooled.y.tolist() == [1, 3]
    assert pooled.n.tolist() == [3, 3]
    assert pooled.repeat.tolist() == [3, 1]
    assert pooled.first_row.tolist() == [0, 2]


def test_an_arm_without_events_is_separated() -> None:
    g = np.repeat(np.arange(10), 6)
    X = np.stack([np.ones(60), g % 2]).astype(float)
    y = np.where(X[1] == 1, 0.0, (np.arange(60) % 3 == 0).astype(float))
    assert fitted(("binomial", "logit"), X, X[:1], y, g)[0] == Status.separated
    assert fitted(("binomial", "logit"), X, X[:1], y, g, nodes=7, pool=True)[0] == Status.separated
    assert fitted(("poisson", "log"), X, X[:1], y, g)[0] == Status.separated


def test_columns_that_depend_on_one_another_are_rank_deficient() -> None:
    g = np.repeat(np.arange(8), 5)
    X = np.stack([np.ones(40), g % 2, 1 - g % 2]).astype(float)
    y = (np.arange(40) % 2).astype(float)
    assert fitted(("binomial", "logit"), X, X[:1], y, g)[0] == Status.rank_deficient
