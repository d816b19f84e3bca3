"""Degrees of freedom and adjusted covariances against dense matrices and finite differences, as the papers write them."""

from __future__ import annotations

import numpy as np
import pytest

from nestlab.fit.deviance import relative_covariance
from nestlab.fit.inference import Hypotheses, Inference, Model, definite, infer, variance_covariance
from nestlab.fit.lmm import Fits, fit_replicates, pairs
from nestlab.fit.workspace import make_shape
from nestlab.simulate.gram import Gram
from nestlab.spec.model import MAX_FIXED

# q, block of each random column, p, clusters, common cluster size (None: unequal)
CASES = {
    "intercept": ([0], 2, 12, None),
    "intercept, pooled": ([0], 2, 30, 6),
    "slope": ([0, 0], 2, 10, None),
    "independent": ([0, 1], 3, 12, None),
    "three": ([0, 0, 0], 3, 14, None),
    "four in two terms": ([0, 0, 1, 1], 3, 25, None),
    "six in two terms": ([0, 0, 0, 1, 1, 1], 3, 25, None),
    "forty fixed effects": ([0, 0], MAX_FIXED, 12, None),
}


class Problem:
    """One data set with the fit of it, and its dense matrices."""

    def __init__(self, name: str, seed: int, *, reml: bool = True) -> None:
        self.blocks, self.p, J, size = CASES[name]
        self.reml, self.q = reml, len(self.blocks)
        rng = np.random.default_rng(seed)
        sizes = np.full(J, size) if size else rng.integers(self.q + 3, self.q + 12, J)
        self.groups, self.N = np.repeat(np.arange(J), sizes), int(sizes.sum())
        width = max(self.q, self.p)
        D = np.column_stack([np.ones(self.N), rng.normal(size=(self.N, width - 1))])
        if size:
            D[:, 1] = np.tile(np.arange(size), J)
        u = rng.normal(size=(J, self.q)) * 0.8
        self.y = (D[:, : self.q] * u[self.groups]).sum(axis=1) + rng.normal(size=self.N)
        self.X, self.Z = D[:, : self.p], D[:, : self.q]
        upper = pairs(width)
        left, right = [i for i, _ in upper], [k for _, k in upper]
        members = [self.groups == j for j in range(J)]
        self.gram = Gram(
            dd=np.array([(D[s].T @ D[s])[left, right] for s in members])[:, :, None],
            dy=np.array([D[s].T @ self.y[s] for s in members])[:, :, None],
            yy=np.array([[self.y[s] @ self.y[s]] for s in members]),
            weights=np.ones((1, J, 1)),
        )
        start = np.full(self.q * (self.q + 1) // 2, -1.0)
        shape = make_shape(
            range(self.q), range(self.p), np.zeros(self.p, np.int64), np.array(self.blocks), start,
            rows=self.N, clusters=J, reml=reml,
        )  # fmt: skip
        pooled = np.zeros(J, np.int64) if name.endswith("pooled") else np.arange(J)
        self.model = Model(shape, pooled, self.N, (-1,) * self.p)
        self.fits = fit_replicates(shape, pooled, self.gram, 0, 1)
        self.G, self.sigma2 = relative_covariance(self.fits, 0), float(self.fits.sigma2[0])
        # (the matrices that Var(y) is a sum of): one for each entry within a term, then the identity
        self.free = [(i, k) for i, k in pairs(self.q) if self.blocks[i] == self.blocks[k]]
        same = self.groups[:, None] == self.groups[None, :]
        self.parts = []
        for i, k in self.free:
            E = np.zeros((self.q, self.q))
            E[i, k] = E[k, i] = 1.0
            self.parts.append(self.Z @ E @ self.Z.T * same)
        self.parts.append(np.eye(self.N))
        self.gamma = np.array([self.G[i, k] * self.sigma2 for i, k in self.free] + [self.sigma2])

    def V(self, gamma: np.ndarray) -> np.ndarray:
        return sum(g * part for g, part in zip(gamma, self.parts, strict=True))

    def deviance(self, gamma: np.ndarray) -> float:
        """-2 log (restricted) likelihood, b profiled out."""
        V = self.V(gamma)
        inverse = np.linalg.inv(V)
        S = self.X.T @ inverse @ self.X
        r = self.y - self.X @ np.linalg.solve(S, self.X.T @ inverse @ self.y)
        value = np.linalg.slogdet(V)[1] + r @ inverse @ r
        return float(value + (np.linalg.slogdet(S)[1] if self.reml else 0.0))

    def vcov(self, gamma: np.ndarray) -> np.ndarray:
        return np.linalg.inv(self.X.T @ np.linalg.solve(self.V(gamma), self.X))

    def expected_information(self) -> tuple[np.ndarray, np.ndarray]:
        """(expected information of gamma, W = its inverse)."""
        inverse = np.linalg.inv(self.V(self.gamma))
        known = inverse @ self.X @ self.vcov(self.gamma) @ self.X.T @ inverse
        P = inverse - known if self.reml else inverse
        traces = np.array([[np.trace(P @ a @ P @ b) for b in self.parts] for a in self.parts])
        return traces / 2, np.linalg.inv(traces / 2)


def numeric_hessian(f, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    n = len(x)
    H = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            ei, ej = np.eye(n)[i] * h, np.eye(n)[j] * h
            H[i, j] = (f(x + ei + ej) - f(x + ei - ej) - f(x - ei + ej) + f(x - ei - ej)) / (4 * h[i] * h[j])
            H[j, i] = H[i, j]
    return H


def satterthwaite(problem: Problem, contrasts: list[np.ndarray]) -> list[float]:
    """2 f^2 / (g'Vg) of each contrast in the parameters gamma, by finite differences."""
    h = 1e-3 * np.maximum(np.abs(problem.gamma), 0.05)
    V = 2 * np.linalg.inv(numeric_hessian(problem.deviance, problem.gamma, h))
    steps = np.diag(h)
    slopes = [
        (problem.vcov(problem.gamma + s) - problem.vcov(problem.gamma - s)) / (2 * step)
        for s, step in zip(steps, h, strict=True)
    ]
    found = []
    for contrast in contrasts:
        f, g = contrast @ problem.vcov(problem.gamma) @ contrast, np.array([contrast @ d @ contrast for d in slopes])
        found.append(2 * f**2 / float(g @ V @ g))
    return found


def kenward_roger(problem: Problem, L: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(adjusted covariance, df, scale), as Kenward & Roger (1997) and Halekoh & Hojsgaard (2014) write them."""
    X, inverse = problem.X, np.linalg.inv(problem.V(problem.gamma))
    Phi, W = problem.vcov(problem.gamma), problem.expected_information()[1]
    P = [-X.T @ inverse @ part @ inverse @ X for part in problem.parts]
    n = len(P)
    U = np.zeros_like(Phi)
    for i in range(n):
        for j in range(n):
            Q = X.T @ inverse @ problem.parts[i] @ inverse @ problem.parts[j] @ inverse @ X
            U += W[i, j] * (Q - P[i] @ Phi @ P[j])
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    A1 = A2 = 0.0
    for i in range(n):
        for j in range(n):
            left, right = Theta @ Phi @ P[i] @ Phi, Theta @ Phi @ P[j] @ Phi
            A1 += W[i, j] * np.trace(left) * np.trace(right)
            A2 += W[i, j] * np.trace(left @ right)
    r = len(L)
    B = (A1 + 6 * A2) / (2 * r)
    g = ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
    c = 3 * r + 2 * (1 - g)
    E = 1 / (1 - A2 / r)
    V = 2 / r * (1 + g / c * B) / ((1 - (r - g) / c * B) ** 2 * (1 - (r + 2 - g) / c * B))
    rho = V / (2 * E**2)
    df = 4 + (r + 2) / (r * rho - 1)
    return Phi + 2 * Phi @ U @ Phi, df, df / (E * (df - 2))


def interior(name: str, *, reml: bool = True) -> Problem:
    return next(p for p in (Problem(name, seed, reml=reml) for seed in range(50)) if p.fits.status[0] == 0)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_satterthwaite_against_finite_differences(name, reml):
    problem = interior(name, reml=reml)
    contrast = np.linspace(1.0, -0.5, problem.p)
    hypotheses = Hypotheses.of(problem.p, [contrast])
    df = infer(problem.model, problem.gram, problem.fits, 0, 1, hypotheses, ["satterthwaite"])["satterthwaite"].df[0]
    expected = satterthwaite(problem, [*np.eye(problem.p), contrast])
    np.testing.assert_allclose(df, expected, rtol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_kenward_roger_against_dense_matrices(name):
    problem = interior(name)
    rows = [np.eye(problem.p)[[0, 1]], np.array([[1.0, 0.5], [0.3, -1.0]]) @ np.eye(problem.p)[:2]]
    hypotheses = Hypotheses.of(problem.p, rows)
    found = infer(problem.model, problem.gram, problem.fits, 0, 1, hypotheses, ["kenward-roger"])["kenward-roger"]
    for h in range(len(hypotheses)):
        vcov, df, scale = kenward_roger(problem, hypotheses[h])
        assert found.df[0, h] == pytest.approx(df, rel=1e-7)
        assert found.scale[0, h] == pytest.approx(scale, rel=1e-7)
    np.testing.assert_allclose(found.vcov[0], [vcov[i, k] for i, k in pairs(problem.p)], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_variance_covariance_is_the_inverse_of_the_expected_information(name, reml):
    problem = interior(name, reml=reml)
    packed = variance_covariance(problem.model, problem.gram, problem.fits, 0, 1)[0]
    k = len(pairs(problem.q)) + 1
    places = [pairs(problem.q).index(pair) for pair in problem.free] + [k - 1]
    W = problem.expected_information()[1]
    for a, x in enumerate(places):
        for b, y in enumerate(places[: a + 1]):
            assert packed[pairs(k).index((min(x, y), max(x, y)))] == pytest.approx(W[a, b], rel=1e-7, abs=1e-12)


def test_joint_satterthwaite_of_one_effective_row_is_its_own():
    problem = interior("slope")
    rows = [np.eye(2)[[0]], np.diag([1.0, 1.0])]
    df = infer(problem.model, problem.gram, problem.fits, 0, 1, Hypotheses.of(2, rows), ["satterthwaite"])[
        "satterthwaite"
    ].df[0]
    assert df[2] == df[0]
    assert min(df[:2]) * 0.5 < df[3] < 2 * max(df[:2])


def test_lanes_and_prefixes_change_nothing():
    """The same replicate in any place of a block, alone or beside others, singular or not."""
    problems = [Problem("slope", seed) for seed in range(40)]
    sizes = {p.gram.dd.shape[0] for p in problems}
    assert len(sizes) == 1
    gram = Gram(
        dd=np.concatenate([p.gram.dd for p in problems], axis=2), dy=np.concatenate([p.gram.dy for p in problems], axis=2),
        yy=np.concatenate([p.gram.yy for p in problems], axis=1), weights=problems[0].gram.weights,
    )  # fmt: skip
    rows = np.array([p.N for p in problems])
    some = np.flatnonzero(rows == rows[0]) if (rows == rows[0]).sum() > 9 else np.arange(len(rows))
    model = problems[0].model
    fits = fit_replicates(model.shape, model.groups, gram, 0, len(problems))
    assert {0, 1} <= set(fits.status[some])
    hypotheses, rules = Hypotheses.of(2, [np.eye(2)]), ["satterthwaite", "kenward-roger"]
    whole = infer(model, gram, fits, 0, len(problems), hypotheses, rules)
    for first, last in ((0, 3), (5, 6), (11, 29), (39, 40)):
        part = Fits(*(getattr(fits, name)[first:last] for name in fits.__dataclass_fields__))
        found = infer(model, gram, part, first, last, hypotheses, rules)
        for rule in rules:
            np.testing.assert_array_equal(found[rule].df, whole[rule].df[first:last])
            np.testing.assert_array_equal(found[rule].vcov, whole[rule].vcov[first:last])


def test_a_fit_without_estimates_has_no_df():
    problem = interior("slope")
    nothing = Fits(
        *(np.full_like(getattr(problem.fits, n), 3 if n == "status" else 0) for n in problem.fits.__dataclass_fields__)
    )
    nothing.sigma2[:] = nothing.varcomp[:] = nothing.vcov[:] = np.nan
    found = infer(problem.model, problem.gram, nothing, 0, 1, Hypotheses.of(2), ["z", "satterthwaite", "kenward-roger"])
    assert all(np.isnan(inference.df).all() for inference in found.values())


class TestRefit:
    """Satterthwaite's df at the boundary."""

    def singular(self, name: str) -> Problem:
        return next(p for p in (Problem(name, seed) for seed in range(200)) if p.fits.status[0] == 1)

    def df(self, problem: Problem, singular_df: str) -> np.ndarray:
        hypotheses = Hypotheses.of(problem.p)
        found = infer(
            problem.model, problem.gram, problem.fits, 0, 1, hypotheses, ["satterthwaite"], singular_df=singular_df
        )
        return found["satterthwaite"].df[0]

    def test_interior_fits_are_left_alone(self):
        problem = interior("slope")
        np.testing.assert_array_equal(self.df(problem, "refit"), self.df(problem, "lmertest"))

    def test_a_vanished_correlated_slope_leaves_the_model_with_the_other_column(self):
        problem = self.singular("slope")
        scale = np.diag(problem.Z.T @ problem.Z)
        kept = int(np.argmax(np.diag(problem.G) * scale))
        shape = make_shape(
            [kept], range(problem.p), np.zeros(problem.p, np.int64), np.zeros(1, np.int64), np.full(1, -1.0),
            rows=problem.N, clusters=len(problem.model.groups), reml=True,
        )  # fmt: skip
        smaller = Model(shape, problem.model.groups, problem.N, problem.model.equation)
        fits = fit_replicates(shape, smaller.groups, problem.gram, 0, 1)
        assert fits.status[0] == 0
        expected = infer(smaller, problem.gram, fits, 0, 1, Hypotheses.of(2), ["satterthwaite"])["satterthwaite"].df[0]
        np.testing.assert_allclose(self.df(problem, "refit"), expected, rtol=1e-9)
        assert not np.allclose(self.df(problem, "lmertest"), expected, rtol=1e-3)

    def test_nothing_left_is_ordinary_regression(self):
        rng = np.random.default_rng(1)
        problem = interior("intercept")
        problem.gram.dy[:, 0, 0] -= problem.gram.dy[:, 0, 0].mean()  # no between variation left in the first column
        shrunk = Gram(
            problem.gram.dd,
            problem.gram.dy * 0.02,
            problem.gram.yy + rng.random(problem.gram.yy.shape),
            problem.gram.weights,
        )
        fits = fit_replicates(problem.model.shape, problem.model.groups, shrunk, 0, 1)
        assert fits.status[0] == 1
        for rule in ("lmertest", "refit"):
            found = infer(problem.model, shrunk, fits, 0, 1, Hypotheses.of(2), ["satterthwaite"], singular_df=rule)
            np.testing.assert_array_equal(found["satterthwaite"].df[0], [problem.N - 2] * 2)


# -- several hypotheses --------------------------------------------------------------------------------------------------------


def _joint(covariances: np.ndarray, beta: np.ndarray) -> np.ndarray:
    R, p = beta.shape
    vcov = np.stack([covariances[:, i, k] for i, k in pairs(p)], axis=1)
    return Inference(np.full((R, 1), 20.0), vcov, np.ones((R, 1))).joint_p(0, np.eye(p), beta)


def test_a_singular_covariance_has_no_joint_test_and_ends_nothing() -> None:
    """Singular, singular but for rounding, indefinite or not finite: nan, and the other replicates' bits are their own."""
    rng = np.random.default_rng(1)
    half = rng.normal(size=(8, 3, 3))
    covariances, beta = half @ half.transpose(0, 2, 1), rng.normal(size=(8, 3))
    alone = np.array([_joint(covariances[[r]], beta[[r]])[0] for r in range(8)])
    assert np.isfinite(alone).all()
    bad = covariances.copy()
    bad[1] = 0.0
    bad[3] = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    bad[4] = np.outer([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) + 1e-17 * covariances[4]
    bad[5, 2, 2] = -1.0
    bad[6, 0, 0] = np.nan
    found = _joint(bad, beta)
    assert np.isnan(found[[1, 3, 4, 5, 6]]).all()
    np.testing.assert_array_equal(found[[0, 2, 7]], alone[[0, 2, 7]])


def test_whether_a_covariance_is_singular_does_not_depend_on_units() -> None:
    rng = np.random.default_rng(2)
    half = rng.normal(size=(5, 3, 3))
    V, units = half @ half.transpose(0, 2, 1), np.diag([1e-9, 1.0, 1e7])
    np.testing.assert_allclose(_joint(units @ V @ units, rng.normal(size=(5, 3)) @ units) > 0, True)
    assert definite(units @ V @ units).all()
    V[2] = np.outer(half[2, 0], half[2, 0])
    assert definite(units @ V @ units).tolist() == [True, True, False, True, True]
