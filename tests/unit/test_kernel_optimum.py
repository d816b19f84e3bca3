"""The fit in three layers: the deviance at a fixed G, its derivatives, the optimum.

The twin in `fit/deviance.py` is held against a dense likelihood and finite differences, the kernel against the twin.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nestlab.fit.deviance import Statistics, deviance, gradient, hessian, statistics
from nestlab.fit.lmm import fit_replicates, pairs
from nestlab.fit.workspace import make_shape
from nestlab.simulate.gram import Gram
from nestlab.spec.model import MAX_FIXED

Array = NDArray[np.float64]
#: q, p, random terms; the largest numbers of each.
SHAPES = [
    (1, 1, 1), (1, 3, 1), (2, 2, 1), (2, 2, 2), (3, 4, 1), (3, 3, 2), (4, 5, 1), (4, 12, 4), (5, 5, 1), (6, 6, 1), (6, 7, 2),
    (2, MAX_FIXED, 1),
]  # fmt: skip


def data(seed: int, q: int, p: int, terms: int, *, clusters: int = 14) -> tuple[Array, Array, Array, Any, Any]:
    """y, X, Z, groups, the number of each column's term; sizes from 1 up."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 14 if q <= 4 and p <= 12 else 26, clusters)
    groups = np.repeat(np.arange(clusters), sizes)
    N = len(groups)
    Z = np.column_stack([np.ones(N), rng.normal(size=(N, q - 1)) + rng.normal(size=(clusters, q - 1))[groups]])
    X = np.column_stack([Z, rng.normal(size=(clusters, p))[groups] * rng.normal(size=(N, p))])[:, :p]
    u = rng.normal(size=(clusters, q)) * rng.uniform(0.1, 2, q)
    y = X @ rng.normal(size=p) + (Z * u[groups]).sum(1) + rng.normal(size=N)
    blocks = np.minimum(np.arange(q), terms - 1)
    return y, X, Z, groups, blocks


def random_covariance(seed: int, blocks: Any) -> Array:
    rng = np.random.default_rng(seed)
    L = np.tril(rng.normal(size=(len(blocks), len(blocks)))) * (blocks[:, None] == blocks[None, :])
    G: Array = L @ L.T
    return G


def dense(y: Array, X: Array, Z: Array, groups: Any, G: Array, *, reml: bool) -> float:
    """-2 log likelihood by N x N matrices, sigma profiled out."""
    V = np.eye(len(y)) + (Z @ G @ Z.T) * (groups[:, None] == groups[None, :])
    Vi = np.linalg.inv(V)
    S = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(S, X.T @ Vi @ y)
    m = len(y) - X.shape[1] if reml else len(y)
    value = np.linalg.slogdet(V)[1] + m * (1 + np.log(2 * np.pi * (r @ Vi @ r) / m))
    return float(value + (np.linalg.slogdet(S)[1] if reml else 0))


def kernel(s: Statistics, blocks: Any, *, reml: bool, start: Array | None = None) -> dict[str, Any]:
    """The kernel on one data set, with X and Z as separate columns of D."""
    J, q, p = s.B.shape
    D = pairs(q + p)
    dd = np.zeros((J, len(D), 1))
    for k, (a, b) in enumerate(D):
        if b < q:
            dd[:, k, 0] = s.A[:, a, b]
        elif a < q:
            dd[:, k, 0] = s.B[:, a, b - q]
        else:
            dd[0, k, 0] = s.XX[a - q, b - q]
    dy = np.zeros((J, q + p, 1))
    dy[:, :q, 0] = s.c
    dy[0, q:, 0] = s.Xy
    yy = np.zeros((J, 1))
    yy[0] = s.yy
    G = np.full(q * (q + 1) // 2, -1.0) if start is None else np.array([start[i, k] for i, k in pairs(q)])
    shape = make_shape(
        range(q), range(q, q + p), np.zeros(p, np.int64), np.asarray(blocks, dtype=np.int64), G,
        rows=s.N, clusters=J, reml=reml, moments=start is None,
    )  # fmt: skip
    fits = fit_replicates(shape, np.arange(J), Gram(dd, dy, yy, np.ones((1, J, 1))), 0, 1)
    made: dict[str, Any] = {field.name: getattr(fits, field.name)[0] for field in fields(fits)}
    G = np.empty((q, q))
    for value, (i, k) in zip(made["varcomp"], pairs(q), strict=True):
        G[i, k] = G[k, i] = value / made["sigma2"]
    return made | {"G": G}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("q", "p", "terms"), SHAPES)
def test_twin_against_a_dense_likelihood(q: int, p: int, terms: int, reml: bool) -> None:
    y, X, Z, groups, blocks = data(q + 10 * p, q, p, terms)
    s = statistics(y, X, Z, groups)
    for seed in range(3):
        G = random_covariance(seed, blocks)
        assert deviance(s, G, reml=reml) == pytest.approx(dense(y, X, Z, groups, G, reml=reml), abs=1e-8)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("q", "p", "terms"), SHAPES)
def test_twin_derivatives_against_differences(q: int, p: int, terms: int, reml: bool) -> None:
    y, X, Z, groups, blocks = data(q + 10 * p, q, p, terms)
    s = statistics(y, X, Z, groups)
    G = random_covariance(1, blocks) + np.eye(q)
    rng = np.random.default_rng(2)
    Ea, Eb = ((E + E.T) / 2 for E in rng.normal(size=(2, q, q)))
    h = 1e-5
    slope = (deviance(s, G + h * Ea, reml=reml) - deviance(s, G - h * Ea, reml=reml)) / (2 * h)
    assert np.sum(gradient(s, G, reml=reml) * Ea) == pytest.approx(slope, rel=1e-6, abs=1e-6)
    bend = (gradient(s, G + h * Eb, reml=reml) - gradient(s, G - h * Eb, reml=reml)) / (2 * h)
    assert hessian(s, G, Ea, Eb, reml=reml) == pytest.approx(np.sum(bend * Ea), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("q", "p", "terms"), SHAPES)
def test_kernel_optimum_by_the_twin(q: int, p: int, terms: int, reml: bool) -> None:
    """The certificate again, by the twin: Sg_k G_k = 0, and Sg_k positive semi-definite on null(G_k)."""
    for seed in range(6 if q < 5 else 2):
        y, X, Z, groups, blocks = data(100 * seed + q + 10 * p, q, p, terms, clusters=20)
        s = statistics(y, X, Z, groups)
        fit = kernel(s, blocks, reml=reml)
        assert fit["status"] in (0, 1)
        G = fit["G"]
        assert deviance(s, G, reml=reml) == pytest.approx(fit["deviance"], abs=1e-8)
        Sg = gradient(s, G, reml=reml)
        singular = False
        for block in np.unique(blocks):
            at = np.ix_(blocks == block, blocks == block)
            assert np.abs(Sg[at] @ G[at]).max() < 1e-5
            values, vectors = np.linalg.eigh(G[at])
            null = vectors[:, values < 1e-7]
            singular = singular or null.shape[1] > 0
            if null.shape[1]:
                assert np.linalg.eigvalsh(null.T @ Sg[at] @ null).min() > -1e-4
        assert (fit["status"] == 1) == singular
        assert (G[blocks[:, None] != blocks[None, :]] == 0).all()


@pytest.mark.parametrize("reml", [True, False])
def test_kernel_estimates_by_generalised_least_squares(reml: bool) -> None:
    y, X, Z, groups, blocks = data(5, 2, 3, 1)
    fit = kernel(statistics(y, X, Z, groups), blocks, reml=reml)
    V = np.eye(len(y)) + (Z @ fit["G"] @ Z.T) * (groups[:, None] == groups[None, :])
    Vi = np.linalg.inv(V)
    S = X.T @ Vi @ X
    beta = np.linalg.solve(S, X.T @ Vi @ y)
    r = y - X @ beta
    sigma2 = r @ Vi @ r / (len(y) - 3 if reml else len(y))
    np.testing.assert_allclose(fit["beta"], beta, rtol=1e-9)
    assert fit["sigma2"] == pytest.approx(sigma2, rel=1e-10)
    np.testing.assert_allclose(fit["vcov"], [np.linalg.inv(S)[i, k] * sigma2 for i, k in pairs(3)], rtol=1e-8)


@pytest.mark.parametrize(("q", "p", "terms"), [(1, 2, 1), (2, 2, 1), (2, 2, 2), (3, 3, 1)])
def test_kernel_does_not_depend_on_the_start(q: int, p: int, terms: int) -> None:
    """From nowhere, from near the boundary and from random places: one deviance, to 1e-8."""
    for seed in range(150):
        y, X, Z, groups, blocks = data(seed, q, p, terms, clusters=9)
        s = statistics(y, X, Z, groups)
        starts = [None, 1e-4 * np.eye(q), 30.0 * np.eye(q), random_covariance(seed, blocks)]
        found = [kernel(s, blocks, reml=True, start=start)["deviance"] for start in starts]
        assert max(found) - min(found) < 1e-8 * (1 + abs(found[0])), (seed, found)


@pytest.mark.parametrize("scale", [1e-120, 1e-6, 1e5, 1e120])
def test_certificate_does_not_depend_on_units(scale: float) -> None:
    y, X, Z, groups, blocks = data(3, 2, 2, 1)
    plain = kernel(statistics(y, X, Z, groups), blocks, reml=True)
    for y2, X2, Z2 in (
        (scale * y, X, Z),
        (y, X * [1, min(max(scale, 1e-6), 1e6)], Z * [1, min(max(scale, 1e-6), 1e6)]),
    ):
        other = kernel(statistics(y2, X2, Z2, groups), blocks, reml=True)
        assert other["status"] == plain["status"]
        assert other["residual"] < 1e-8
        assert plain["residual"] < 1e-8
    shifted = kernel(statistics(y, X + np.array([0, 50]), Z + np.array([0, 50]), groups), blocks, reml=False)
    assert shifted["deviance"] == pytest.approx(
        kernel(statistics(y, X, Z, groups), blocks, reml=False)["deviance"], abs=1e-7
    )


def test_kernel_degenerate_data_end_with_a_status() -> None:
    """No answer exists: rank_deficient (3) or nonfinite (4), and no numbers."""
    y, X, Z, groups, blocks = data(3, 2, 2, 1)
    one = np.ones((len(y), 1))
    single = np.arange(len(y))
    cases = {
        "collinear fixed effects": (y, np.column_stack([X, X[:, :1] + X[:, 1:]]), Z, groups, blocks),
        "collinear random columns": (y, X, np.column_stack([Z[:, :1], 2 * Z[:, :1]]), groups, blocks),
        "one row a cluster": (y, X, one, single, np.zeros(1, int)),
        "as many fixed effects as rows": (y[:2], X[:2], one[:2], groups[:2], np.zeros(1, int)),
        "constant response": (0 * y, X, Z, groups, blocks),
        "perfect fit": (X @ [1.0, 2.0], X, Z, groups, blocks),
        "not a number": (y * np.nan, X, Z, groups, blocks),
        "infinite": (np.where(np.arange(len(y)) == 1, np.inf, y), X, Z, groups, blocks),
        "no residual variance": (groups.astype(float) ** 2, one, one, groups, np.zeros(1, int)),
    }
    for name, (y2, X2, Z2, groups2, blocks2) in cases.items():
        with np.errstate(invalid="ignore"):
            fit = kernel(statistics(y2, X2, Z2, groups2), blocks2, reml=True)
        assert fit["status"] in (3, 4), name
        assert np.isnan(fit["beta"]).all(), name
        assert np.isnan(fit["sigma2"]), name
