"""The exact null distribution of the restricted likelihood ratio test of one variance, by simulation from its spectrum.

Model y = X b + Z u + e with one random column and nothing else random, H0: Var(u) = 0. Let mu_1 .. mu_k be the non-zero
eigenvalues of Z'P0 Z, P0 the projection off X, m = N - p, and w_s independent N(0, 1). Then, whatever b and s2,

    T = sup_{g >= 0} { m log(W / D(g)) - sum_s log(1 + g mu_s) },   W = D(0),
    D(g) = sum_s w_s^2 / (1 + g mu_s) + w_{k+1}^2 + ... + w_m^2

(Crainiceanu & Ruppert 2004, JRSS B 66, 165-185, eq. 9, with N + D written as W). For cluster j, a_j = z_j'z_j and B_j = z_j'X_j,
Z'P0 Z = diag(a) - B (X'X)^-1 B': its eigenvalues come from the Gram. Equal eigenvalues are pooled, their squares are one
chi-square. If one distinct value is left (a balanced layout), T increases in the ratio of mean squares F on k and m - k degrees
of freedom and needs no simulation:

    T = m log((k F + m - k) / m) - k log F  for F > 1, else 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

from ..simulate.deviates import chi_square
from ..simulate.gram import Gram
from ..simulate.layout import Design, pair
from .inference import definite
from .lanes import LANES
from .lmm import Plan, counts
from .ols import fixed_products
from .spectrum import largest

__all__ = ["NullDistribution", "eigenvalues", "exact_p_values", "is_fixed_design", "null_distribution"]

Array = NDArray[np.float64]

#: Eigenvalues, over the largest, below which they are rounding, and differences that are.
ZERO, SAME = 1e-8, 1e-8


@dataclass(frozen=True)
class NullDistribution:
    """The distribution of T under the null: distinct eigenvalues mu (k) over the largest, falling, how often each occurs (k), m,
    and a sorted sample of T (draws); no sample where the distribution is known in closed form (k <= 1)."""

    mu: Array
    repeats: NDArray[np.int64]
    m: int
    sample: Array | None

    def p_value(self, statistic: ArrayLike) -> Array:
        """P(T >= statistic): 1 at 0, nan at nan; by simulation (1 + number of T >= statistic) / (1 + draws)."""
        T = np.asarray(statistic, dtype=float)
        if self.sample is None:
            p = _closed_form(T, self.m, int(self.repeats[0])) if len(self.mu) else np.zeros_like(T)
        else:
            draws = len(self.sample)
            p = (1.0 + draws - np.searchsorted(self.sample, T, side="left")) / (1.0 + draws)
        return np.where(T > 0.0, p, np.where(T == 0.0, 1.0, np.nan))


def null_distribution(mu: Array, m: int, *, draws: int, generator: Generator) -> NullDistribution:
    """Of eigenvalues mu (J), zeros among them, and m = N - p > k. The generator stays where it was if there is a closed form."""
    values, repeats = _pool(mu)
    if len(values) <= 1:
        return NullDistribution(values, repeats, m, None)
    assert m > repeats.sum(), "the kernel gives such fits no statistic: rank_deficient"
    sample = np.empty(-(-draws // LANES) * LANES)
    largest(values, repeats, m, chi_square(generator, np.append(repeats, m - repeats.sum()), len(sample)), sample)
    return NullDistribution(values, repeats, m, np.sort(sample[:draws]))


def exact_p_values(
    plan: Plan, gram: Gram, statistic: Array, first: int, *, draws: int, stream: Callable[[int], Generator]
) -> Array:
    """p-values (R) of the statistics (R, made by `compare.lr_statistic`) of replicates first, first + 1, ... of a Gram.

    plan: the full model's. stream(r): the generator of replicate r, its own, so that it does not matter which others are at
    work; it is asked for only where T > 0. Where replicates share the design (`is_fixed_design`) one `null_distribution` with
    many draws serves all.
    """
    p = np.where(statistic == 0.0, 1.0, np.nan)
    positive = np.flatnonzero(statistic > 0.0)
    if len(positive):
        mu = eigenvalues(plan, gram, positive + first)
        for i, r in enumerate(positive):
            if np.isnan(mu[i]).any():
                continue
            rows = int(counts(plan.rows, gram, int(r) + first, int(r) + first + 1)[0][0])
            null = null_distribution(mu[i], rows - len(plan.xcols), draws=draws, generator=stream(int(r) + first))
            p[r] = null.p_value(statistic[r])
    return p


def eigenvalues(plan: Plan, gram: Gram, replicates: NDArray[np.int64]) -> Array:
    """(R, J): eigenvalues of Z'P0 Z, rising, of the given replicates of a Gram; the plan has one random column. nan where X'X
    is singular.

    LAPACK's last digits may depend on its number of threads; a p-value depends on them only where a draw equals T in as many.
    """
    assert len(plan.zcols) == 1, "the spectrum is that of one variance"
    dd, weights = (array if array.shape[2] == 1 else array[:, :, replicates] for array in (gram.dd, gram.weights))
    z = plan.zcols[0]
    B = np.stack([weights[w] * dd[:, pair(z, x)] for x, w in zip(plan.xcols, plan.xweights, strict=True)], axis=-1)
    XX = fixed_products(plan, Gram(dd, gram.dy, gram.yy, weights))
    regular = definite(XX)
    XX[~regular] = np.eye(len(plan.xcols))
    scale = np.sqrt(np.einsum("rii->ri", XX))
    root = np.linalg.cholesky(XX / (scale[:, :, None] * scale[:, None, :]))
    B = np.linalg.solve(root, (B / scale).transpose(1, 2, 0))
    projected = -np.einsum("rij,rik->rjk", B, B)
    j = np.arange(len(dd))
    projected[:, j, j] += dd[:, pair(z, z)].T
    mu: Array = np.linalg.eigvalsh(projected)
    mu[~np.broadcast_to(regular, len(mu))] = np.nan
    return np.broadcast_to(mu, (len(replicates), mu.shape[1]))


def is_fixed_design(design: Design, plan: Plan) -> bool:
    """Whether all replicates share X and Z, and so the null distribution."""
    redrawn = {name for name, drawn in zip(design.between, design.between_drawn, strict=True) if drawn}
    outer = {name for names in plan.multipliers for name in names}
    return design.settled and max((*plan.xcols, *plan.zcols)) < design.known and not redrawn & outer


def _pool(mu: Array) -> tuple[Array, NDArray[np.int64]]:
    """Distinct eigenvalues above 0 over the largest, falling, and how often each occurs."""
    falling = np.sort(mu)[::-1]
    falling = falling[falling > ZERO * falling[0]] / falling[0] if falling[0] > 0 else falling[:0]
    new = np.concatenate([[True], np.diff(falling) < -SAME])[: len(falling)]
    starts = np.flatnonzero(new)
    repeats = np.diff(np.append(starts, len(falling)))
    return np.add.reduceat(falling, starts) / repeats if len(starts) else falling, repeats.astype(np.int64)


def _closed_form(statistic: Array, m: int, k: int) -> Array:
    """P(T >= statistic) of one distinct eigenvalue. x = log F solves T(x) = statistic by Newton: T is convex and rising on x > 0,
    so that steps from an upper bound of the root fall to it."""
    T = np.where(statistic > 0.0, np.maximum(statistic, 1e-12), 1.0)
    b = m - k
    x = (T + m * np.log(m / k)) / b
    for _ in range(100):
        share = k / (k + b * np.exp(-x))
        step = (m * (x + np.log(k / (m * share))) - k * x - T) / (m * share - k)
        x = x - step
        if np.all(np.abs(step) <= 1e-13 * (1.0 + x)):
            break
    return np.asarray(fdtrc(k, b, np.exp(x)), dtype=float)
