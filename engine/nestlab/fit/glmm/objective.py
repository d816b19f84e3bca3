"""The deviance of a generalised linear mixed model by Laplace's method or adaptive Gauss-Hermite quadrature, and its gradient.

    eta_i = o_i + x_i'beta + z_i'L v,  v ~ N(0, I);   h(v) = sum_i log f(y_i | eta_i) - v'v / 2

with mode v^ and H = I + L'Z'W Z L there, W the observed or the expected information about eta. With nodes x_k and weights w_k of
the standard normal distribution and C C' = H^-1, a level's likelihood is |C| sum_k w_k exp(h(v^ + C x_k) + x_k'x_k / 2). One
node, x = 0, makes it Laplace's (Pinheiro & Chao 2006, J. Comput. Graph. Stat. 15, 58-81); several factors have only this one.

The gradient is exact: v^ and C move with the parameters. Let p_k be the terms' shares, s_k = dh/dv at a node, r = sum p_k s_k,
P the lower triangle of I + sum p_k x_k (C's_k)' with half its diagonal, and M = C (P + P') C', which is H^-1 for Laplace. Then

    dl = sum_k p_k dh(v_k) + r'dv^ - tr(M dH) / 2,

dh at fixed v. dv^ = H_obs^-1 d(dh/dv) by the observed weights enters by one adjoint solve, and dH by the leverages a_i'M a_i,
with a_i = L'z_i, and the derivative W' of the weights. Checks: `tests/unit/test_glmm_objective.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from .families import Density
from .layout import EffectsLayout, Elimination, lower_times, times

__all__ = ["Curvature", "Evaluation", "Objective"]

Array = NDArray[np.float64]
Curvature = Literal["observed", "expected"]

#: Newton steps to the mode, and halvings of one.
MODE_STEPS, HALVINGS = 100, 40
#: Decrements of h below which a step is the last (what it leaves is of their size), and below which it needs no halving.
MODE_DECREMENT, SAFE_DECREMENT = 1e-11, 1e-2
#: Numbers that an evaluation of a batch may hold in one array of rows.
MOST_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Evaluation:
    """At B parameter vectors: deviance (B) = -2 log likelihood, inf where it can't be computed; gradient (B, n) of it; modes, by
    factor (levels, B, q); weights (N, B)."""

    deviance: Array
    gradient: Array
    modes: list[Array]
    weights: Array

    def only(self, k: int) -> Evaluation:
        """The one of parameter vector k."""
        at = slice(k, k + 1)
        return Evaluation(self.deviance[at], self.gradient[at], [v[:, at] for v in self.modes], self.weights[:, at])


@dataclass(frozen=True)
class Objective:
    """The deviance as a function of psi = (beta, theta, log k).

    X (N, p); offset (N); nodes: of the quadrature, 1 for Laplace; log k is there for negative binomial outcomes only.
    """

    outcome: Density
    X: Array
    offset: Array
    layout: EffectsLayout
    nodes: int = 1
    curvature: Curvature = "observed"

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    @property
    def n(self) -> int:
        """The number of parameters."""
        return self.p + len(self.layout.entries) + self.outcome.dispersed

    @property
    def theta(self) -> slice:
        """Where theta stands in psi."""
        return slice(self.p, self.p + len(self.layout.entries))

    @cached_property
    def rule(self) -> tuple[Array, Array]:
        """Nodes (K, q) of the standard normal distribution and the logarithms of their weights with exp(x'x / 2) (K)."""
        x, w = hermegauss(self.nodes)
        q = self.layout.factors[0].q
        log_w = np.log(w / np.sqrt(2 * np.pi)) + x * x / 2
        points = np.array(list(product(x, repeat=q)))
        return points, np.array([sum(each) for each in product(log_w, repeat=q)])

    def nothing(self, B: int = 1) -> list[Array]:
        """Modes of 0."""
        return [np.zeros((f.levels, B, f.q)) for f in self.layout.factors]

    def __call__(self, psi: Array, modes: list[Array] | None = None) -> Evaluation:
        """Evaluate at psi (B, n), the search for the modes beginning at those of one vector or of each, or at 0."""
        B = len(psi)
        start = self.nothing() if modes is None else modes
        start = [v if v.shape[1] == B else np.repeat(v, B, axis=1) for v in start]
        width = max(1, len(self.X) * (len(self.rule[1]) if self.nodes > 1 else 1), self._order)
        size = max(1, MOST_NUMBERS // width)
        parts = [self._evaluate(psi[k : k + size], [v[:, k : k + size] for v in start]) for k in range(0, B, size)]
        if len(parts) == 1:
            return parts[0]
        return Evaluation(
            np.concatenate([e.deviance for e in parts]), np.concatenate([e.gradient for e in parts]),
            [np.concatenate(vs, axis=1) for vs in zip(*(e.modes for e in parts), strict=True)],
            np.concatenate([e.weights for e in parts], axis=1),
        )  # fmt: skip

    @property
    def _order(self) -> int:
        """Entries of the largest matrix of the elimination."""
        orders = self.layout.orders
        return orders[0] * sum(orders[1:])

    def log_k(self, psi: Array) -> Array | float:
        return psi[None, :, -1] if self.outcome.dispersed else 0.0

    def fixed_part(self, psi: Array) -> Array:
        """(N, B): o + X beta."""
        return np.asarray(self.offset[:, None] + self.X @ psi[:, : self.p].T)

    def _evaluate(self, psi: Array, start: list[Array]) -> Evaluation:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._at_mode(psi, *self._mode(psi, start))

    def _mode(self, psi: Array, v: list[Array]) -> tuple[list[Array], list[Array], Array]:
        """L, v^ by damped Newton steps, and eta at the mode."""
        L = self.layout.factor_matrices(psi[:, self.theta])
        fixed, log_k = self.fixed_part(psi), self.log_k(psi)
        eta = fixed + self.layout.spread(L, v)
        for _ in range(MODE_STEPS):
            logf, g1, g2 = self.outcome.derivatives(eta, 2, log_k)
            slope = [lower_times(own, s) - each for own, s, each in zip(L, self.layout.gather(g1), v, strict=True)]
            step = self.layout.eliminate(L, -g2).solve(slope)
            decrement = self._by_unit([s * d for s, d in zip(slope, step, strict=True)])
            largest = float(decrement.max())
            if not np.isfinite(largest):
                break
            if largest < SAFE_DECREMENT:
                v = [a + b for a, b in zip(v, step, strict=True)]
                eta = fixed + self.layout.spread(L, v)
            else:
                v, eta = self._shortened(L, fixed, log_k, v, step, logf)
            if largest < MODE_DECREMENT:
                break
        return L, v, eta

    def _shortened(
        self, L: list[Array], fixed: Array, log_k: Array | float, v: list[Array], step: list[Array], logf: Array
    ) -> tuple[list[Array], Array]:  # fmt: skip
        """The point after a step, halved unit by unit until h rises; and its eta."""
        units = self.layout.units
        value = units @ logf - self._by_unit([a * a for a in v]) / 2
        t = np.ones_like(value)
        noise = 1e-13 * (1 + np.abs(value))
        for _ in range(HALVINGS):
            moved = [a + t[:, :, None] * b for a, b in zip(v, step, strict=True)]  # t: of one unit, or of each level
            eta = fixed + self.layout.spread(L, moved)
            (logf,) = self.outcome.derivatives(eta, 0, log_k)
            worse = ~(units @ logf - self._by_unit([a * a for a in moved]) / 2 >= value - noise)
            if not worse.any():
                break
            t = np.where(worse, t / 2, t)
        return moved, eta

    def _by_unit(self, squares: list[Array]) -> Array:
        """Sums over the effects of a unit: (levels, B), or (1, B) with several factors."""
        if len(squares) == 1:
            return np.asarray(squares[0].sum(axis=2))
        return np.asarray(sum(each.sum(axis=(0, 2)) for each in squares))[None]

    def _at_mode(self, psi: Array, L: list[Array], v: list[Array], eta: Array) -> Evaluation:
        layout, outcome, log_k = self.layout, self.outcome, self.log_k(psi)
        logf, g1, g2, g3 = outcome.derivatives(eta, 3, log_k)
        observed = layout.eliminate(L, -g2)
        if self.curvature == "expected" and not outcome.family.counts:
            W, dW = outcome.expected_weights(eta)
            scaled = layout.eliminate(L, W)
        else:
            W, dW, scaled = -g2, -g3, observed
        if self.nodes == 1:
            value = layout.units @ logf - self._by_unit([a * a for a in v]) / 2 - scaled.logdet / 2
            e, pull = scaled.rowwise(L), [np.zeros_like(a) for a in v]
            outer = [layout.gather(g1)[f][..., :, None] * v[f][..., None, :] for f in range(len(v))]
            direct, direct_k = g1, outcome.in_dispersion(eta, log_k)[0] if outcome.dispersed else g1
        else:
            value, e, pull, outer, direct, direct_k = self._quadrature(psi, L, v, scaled)
        d = sum((one * other).sum(axis=2) for one, other in zip(e, layout.columns(L), strict=True))
        # the adjoint of the mode
        bend = [lower_times(own, s) for own, s in zip(L, layout.gather(dW * d), strict=True)]
        s = observed.solve([r - b / 2 for r, b in zip(pull, bend, strict=True)])
        rho = -dW * d / 2 + g2 * layout.spread(L, s)
        gradient = np.empty((len(psi), self.n))
        gradient[:, : self.p] = (direct + rho).T @ self.X
        sums_rho, sums_g1 = layout.gather(rho), layout.gather(g1)
        by_factor = []
        for f in range(len(v)):
            slopes = (
                outer[f]
                + sums_rho[f][..., :, None] * v[f][..., None, :]
                + sums_g1[f][..., :, None] * s[f][..., None, :]
            )
            by_factor.append((slopes - layout.gather_within(f, W[:, :, None] * e[f])).sum(axis=0))
        for k, (f, one, other) in enumerate(layout.entries):
            gradient[:, self.p + k] = by_factor[f][:, one, other]
        if outcome.dispersed:
            _, g1_k, g2_k = outcome.in_dispersion(eta, log_k)
            gradient[:, -1] = (direct_k + g1_k * layout.spread(L, s) + g2_k * d / 2).sum(axis=0)
        deviance = -2 * value.sum(axis=0)
        deviance = np.where(np.isfinite(deviance) & np.isfinite(gradient).all(axis=1), deviance, np.inf)
        return Evaluation(deviance, -2 * gradient, v, W)

    def _quadrature(
        self, psi: Array, L: list[Array], modes: list[Array], scaled: Elimination
    ) -> tuple[Array, list[Array], list[Array], list[Array], Array, Array]:
        """By level the logarithm of the likelihood, and what the gradient needs of the nodes."""
        layout, outcome = self.layout, self.outcome
        factor, own, v = layout.factors[0], L[0], modes[0]
        x, log_w = self.rule
        J, B, q = v.shape
        K = len(x)
        C = _inverse_root(scaled)  # C C' = H^-1, upper triangular
        logdet_C = np.log(np.abs(np.diagonal(C, axis1=2, axis2=3))).sum(axis=2)
        points = v[:, :, None, :] + np.einsum("jbac,kc->jbka", C, x)  # (J, B, K, q)
        effects = points @ own.swapaxes(1, 2)
        eta = self.fixed_part(psi)[:, :, None] + np.einsum(
            "ibka,ia->ibk", effects[factor.codes], factor.Z, optimize=True
        )
        log_k = np.asarray(self.log_k(psi))[..., None] if outcome.dispersed else 0.0
        logf, g1 = outcome.derivatives(eta, 1, log_k)
        h = (layout.sums[0] @ logf.reshape(len(logf), -1)).reshape(J, B, K) - (points**2).sum(axis=3) / 2
        terms = h + log_w
        top = terms.max(axis=2, keepdims=True)
        shares = np.exp(terms - top)
        total = shares.sum(axis=2, keepdims=True)
        value = (np.log(total) + top)[..., 0] + logdet_C
        shares = shares / total
        slopes = (layout.sums[0] @ (g1[:, :, :, None] * factor.Z[:, None, None, :]).reshape(len(g1), -1)).reshape(
            J, B, K, q
        )
        s = slopes @ own - points  # dh/dv
        pull = np.einsum("jbk,jbka->jba", shares, s)
        Q = np.einsum("jbk,ka,jbkc->jbac", shares, x, s @ C, optimize=True) + np.eye(q)
        P = np.tril(Q)
        P[..., range(q), range(q)] /= 2
        M = C @ (P + P.swapaxes(2, 3)) @ C.swapaxes(2, 3)
        e = times(M[factor.codes], layout.columns(L)[0])
        outer = np.einsum("jbk,jbka,jbkc->jbac", shares, slopes, points, optimize=True)
        by_row = shares[factor.codes]
        direct = (by_row * g1).sum(axis=2)
        direct_k = (by_row * outcome.in_dispersion(eta, log_k)[0]).sum(axis=2) if outcome.dispersed else direct
        return value, [e], [pull], [outer], direct, direct_k


def _inverse_root(scaled: Elimination) -> Array:
    """C = R'^-1 with R R' = H, R lower triangular."""
    H = scaled.lead
    if H.shape[-1] == 1:
        return np.asarray(1 / np.sqrt(H))
    good = np.isfinite(H).all(axis=(2, 3)) & (np.linalg.eigvalsh(np.where(np.isfinite(H), H, 0.0))[..., 0] > 0)
    R = np.linalg.cholesky(np.where(good[..., None, None], H, np.eye(H.shape[-1])))
    C = np.linalg.inv(R).swapaxes(2, 3)
    return np.where(good[..., None, None], C, np.nan)
