"""A dense likelihood of generalised mixed models: SciPy's densities, differences for weights, and all of H at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, roots_hermitenorm
from scipy.stats import nbinom, norm, poisson

from nestlab.fit.glmm.families import ObservedRows
from nestlab.fit.several.products import FactorColumns
from nestlab.spec.family import Family

STEP = 1e-3


@dataclass(frozen=True)
class Design:
    outcome: ObservedRows
    X: np.ndarray
    factors: list[FactorColumns]
    nodes: int


def random_design(rng: np.random.Generator) -> Design:
    """A small design of any family, with one factor or two, often separated or singular."""
    kinds = [
        ("binomial", "logit"),
        ("binomial", "probit"),
        ("binomial", "cloglog"),
        ("poisson", "log"),
        ("negative-binomial", "log"),
    ]
    name, link = kinds[rng.integers(5)]
    J, n = int(rng.integers(3, 11)), int(rng.integers(2, 7))
    sizes = rng.integers(1, n + 1, J) if rng.random() < 0.4 else np.full(J, n)
    g = np.repeat(np.arange(J), sizes)
    N = len(g)
    x = rng.normal(size=N) if rng.random() < 0.6 else rng.integers(0, 2, N).astype(float)
    X = np.column_stack([np.ones(N), x, g % 2])[:, : rng.integers(1, 4)]
    q = int(rng.integers(1, 3)) if rng.random() < 0.4 else 1
    Z = np.column_stack([np.ones(N), rng.normal(size=N)])[:, :q]
    factors = [FactorColumns(g, J, Z, (q,) if rng.random() < 0.7 else (1,) * q)]
    nodes = 1
    if rng.random() < 0.2:
        K = int(rng.integers(2, 6))
        factors.append(FactorColumns(rng.permutation(np.arange(N) % K), K, np.ones((N, 1)), (1,)))
        factors.sort(key=lambda f: -f.levels)
    elif rng.random() < 0.3:
        nodes = int(rng.integers(2, 8))
    several = name == "binomial" and rng.random() < 0.4
    trials = rng.integers(1, 6, N).astype(float) if several else np.ones(N)
    b = rng.normal(size=X.shape[1]) * rng.choice([0.5, 1.5])
    eta = X @ b + (rng.normal(size=J) * rng.choice([0, 0.5, 2.0]))[g]
    mu = np.exp(np.clip(eta, -4, 4))
    if name == "binomial":
        y = rng.binomial(trials.astype(int), expit(eta))
    elif name == "poisson":
        y = rng.poisson(mu)
    else:
        k = rng.choice([0.5, 2.0, 50.0])
        y = rng.negative_binomial(k, k / (k + mu))
    return Design(ObservedRows(Family(name, link), y.astype(float), trials), X, factors, nodes)


def usable(design: Design) -> bool:
    """Whether X has full rank and each term's columns too."""
    ranks = [np.linalg.matrix_rank(f.Z) == f.q for f in design.factors]
    return len(design.X) > design.X.shape[1] and np.linalg.matrix_rank(design.X) == design.X.shape[1] and all(ranks)


def log_density(outcome: ObservedRows, eta: np.ndarray, k: float) -> np.ndarray:
    y, n = outcome.y, outcome.trials
    if outcome.family.counts:
        mu = np.exp(np.minimum(eta, 30))
        return poisson.logpmf(y, mu) if outcome.family.name == "poisson" else nbinom.logpmf(y, k, k / (k + mu))
    if outcome.family.link == "logit":
        p, rest = expit(eta), expit(-eta)
    elif outcome.family.link == "probit":
        p, rest = norm.cdf(eta), norm.sf(eta)
    else:
        t = np.exp(np.minimum(eta, 6))
        p, rest = -np.expm1(-t), np.exp(-t)
    return outcome.constant + y * np.log(np.maximum(p, 1e-300)) + (n - y) * np.log(np.maximum(rest, 1e-300))


def loadings(design: Design, theta: np.ndarray) -> np.ndarray:
    """A = Z L (N, all random effects) from lme4's theta."""
    blocks, c, N = [], 0, len(design.X)
    for f in design.factors:
        L, start = np.zeros((f.q, f.q)), 0
        for size in f.sizes:
            for b in range(size):
                L[start + b : start + size, start + b] = theta[c : c + size - b]
                c += size - b
            start += size
        A = np.zeros((N, f.levels, f.q))
        A[np.arange(N), f.codes] = f.Z @ L
        blocks.append(A.reshape(N, -1))
    return np.hstack(blocks)


def dense_deviance(design: Design, psi: np.ndarray) -> float:
    """-2 log likelihood at psi = (beta, theta, log k), by observed weights."""
    outcome, p = design.outcome, design.X.shape[1]
    k = float(np.exp(psi[-1])) if outcome.dispersed else 1.0
    A = loadings(design, psi[p:])
    fixed, v = design.X @ psi[:p], np.zeros(A.shape[1])

    def h(v: np.ndarray) -> float:
        return float(log_density(outcome, fixed + A @ v, k).sum() - v @ v / 2)

    def weights(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = [log_density(outcome, fixed + A @ v + s * STEP, k) for s in (-2, -1, 0, 1, 2)]
        slope = (8 * (at[3] - at[1]) - (at[4] - at[0])) / (12 * STEP)
        return slope, -(16 * (at[3] + at[1]) - at[4] - at[0] - 30 * at[2]) / (12 * STEP * STEP)

    for _ in range(100):
        slope, w = weights(v)
        step = np.linalg.solve(np.eye(len(v)) + A.T @ (np.maximum(w, 0)[:, None] * A), A.T @ slope - v)
        t = 1.0
        while t > 1e-10 and not h(v + t * step) >= h(v) - 1e-12:
            t /= 2
        v = v + t * step
        if np.abs(t * step).max() < 1e-8:
            break
    H = np.eye(len(v)) + A.T @ (weights(v)[1][:, None] * A)
    if design.nodes == 1:
        sign, logdet = np.linalg.slogdet(H)
        return -2 * (h(v) - logdet / 2) if sign > 0 else np.inf
    x, w = roots_hermitenorm(design.nodes)
    factor, total = design.factors[0], 0.0
    for j in range(factor.levels):
        rows, own = factor.codes == j, slice(j * factor.q, (j + 1) * factor.q)
        C = np.linalg.inv(np.linalg.cholesky(H[own, own])).T
        level = ObservedRows(outcome.family, outcome.y[rows], outcome.trials[rows])
        terms = []
        for chosen in itertools.product(range(design.nodes), repeat=factor.q):
            at, size = x[list(chosen)], np.log(w[list(chosen)] / np.sqrt(2 * np.pi)).sum()
            moved = v[own] + C @ at
            value = log_density(level, fixed[rows] + A[rows][:, own] @ moved, k).sum()
            terms.append(value + (at @ at - moved @ moved) / 2 + size)
        total += np.logaddexp.reduce(terms) + np.log(np.linalg.det(C))
    return -2 * float(total)


def integrated_deviance(design: Design, psi: np.ndarray) -> float:
    """-2 log likelihood with one random column, by the trapezoidal rule on 4,001 points."""
    outcome, p = design.outcome, design.X.shape[1]
    k = float(np.exp(psi[-1])) if outcome.dispersed else 1.0
    factor, total = design.factors[0], 0.0
    grid = np.linspace(-12, 12, 4001)
    for j in range(factor.levels):
        rows = np.flatnonzero(factor.codes == j)
        eta = (design.X @ psi[:p])[rows, None] + psi[p] * factor.Z[rows] * grid
        repeated = ObservedRows(
            outcome.family, np.repeat(outcome.y[rows], len(grid)), np.repeat(outcome.trials[rows], len(grid))
        )
        values = log_density(repeated, eta.ravel(), k).reshape(eta.shape).sum(axis=0) + norm.logpdf(grid)
        total += np.logaddexp.reduce(values) + np.log(grid[1] - grid[0])
    return -2 * float(total)
