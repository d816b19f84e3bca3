"""Derivatives of the deviance with respect to G.

Notation as in `kernel`, with sums over the levels j of a factor: C C' = S, v = T C'^-1 (its last column times sqrt(m)), weights
w_i = 1 for the fixed effects under REML, 0 under ML, and 1 for the last. For E in the space of factor f and F in that of g,

    Sg_f = sum_j [W_jj - sum_i w_i v_ij v_ij'],   D_ik(E) = sum_j v_ij'E v_kj
    H(E, F) = sum_jk [-tr(W_jk F W_kj E) + 2 sum_i w_i v_ij'E W_jk F v_ik] - products of D(E) and D(F)

All of W is needed for the traces: `exact` makes it unit by unit. Where that is too much, searches step by the average of H and
its expectation, in which the traces cancel (Gilmour, Thompson & Cullis 1995, Biometrics 51:1440), and H at a point comes of
differences of the exact gradient. They are central at the boundary too: V is positive definite a little beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from .point import Point, factor_of, point_at
from .products import Batch, Products

__all__ = ["Derivatives", "is_small"]

Array = NDArray[np.float64]

#: Entries of W, in all units together, up to which the exact Hessian is made at every step.
EXACT_ENTRIES = 300_000
#: Entries of W up to which it is made at the end of a search, of 8 bytes and in some five copies.
WHOLE_ENTRIES = 20_000_000
#: Step of the differences, in units of G (whitened) + 1.
DIFFERENCE = 3e-5


def is_small(m: Products) -> bool:
    """Whether the exact Hessian is affordable at every step."""
    lead = m.q[m.lead]
    return sum(b.units * (b.shape[0] * lead + b.order) ** 2 for b in m.batches) <= EXACT_ENTRIES


@dataclass(frozen=True)
class Derivatives:
    """Derivatives at a point of the restricted deviance (reml) or the deviance; with_y False: y counts for nothing, rss = inf.

    log_s2: the log of the residual variance where that is held; None: the deviance is a minimum over it.
    """

    point: Point
    reml: bool
    with_y: bool = True
    log_s2: float | None = None

    @property
    def products(self) -> Products:
        return self.point.products

    @property
    def p(self) -> int:
        return len(self.point.S) - 1

    @cached_property
    def m(self) -> float:
        return float(self.products.rows - (self.p if self.reml else 0))

    @cached_property
    def C(self) -> Array:
        """S's factor; nan where a pivot is not positive."""
        try:
            return np.asarray(np.linalg.cholesky(self.point.S), dtype=float)
        except np.linalg.LinAlgError:
            return np.full_like(self.point.S, np.nan)

    @cached_property
    def v(self) -> list[Array]:
        inverse = solve_triangular(self.C, np.eye(len(self.C)), lower=True, check_finite=False).T
        scale = np.sqrt(self.m) if self.log_s2 is None else self.C[-1, -1] * np.exp(-self.log_s2 / 2)
        inverse[:, -1] *= scale if self.with_y else 0.0
        return [T @ inverse for T in self.point.scores]

    @cached_property
    def weights(self) -> Array:
        """w (p + 1)."""
        return np.append(np.full(self.p, float(self.reml)), 1.0)

    @cached_property
    def gradient(self) -> list[Array]:
        """Sg by factor."""
        return [
            W - np.tensordot(v * self.weights, v, axes=([0, 2], [0, 2]))
            for W, v in zip(self.point.blocks, self.v, strict=True)
        ]

    @cached_property
    def D(self) -> Array:
        """(entries, p + 1, p + 1)."""
        width = self.p + 1
        found = np.zeros((len(self.products.entries), width * width))
        for v, E in zip(self.v, self.products.directions, strict=True):
            flat = v.reshape(len(v), -1)
            moments = (flat.T @ flat).reshape(v.shape[1], width, v.shape[1], width)
            found += E.T @ moments.transpose(0, 2, 1, 3).reshape(len(E), -1)
        return found.reshape(-1, width, width)

    def _less_products(self, H: Array) -> Array:
        """H less the products of D."""
        p = self.p
        D, last = self.D, self.D[:, p, p]
        fixed = D[:, :p, p]
        H = H - 2 * fixed @ fixed.T - (np.outer(last, last) / self.m if self.log_s2 is None else 0.0)
        if self.reml:
            H -= np.einsum("sik,uik->su", D[:, :p, :p], D[:, :p, :p])
        return H

    def exact(self) -> Array:
        """H over pairs of free entries, from all of W."""
        m = self.products
        sums = {(f, g): np.zeros((m.q[f] * m.q[g],) * 2) for f in range(len(m.q)) for g in range(f, len(m.q))}
        for b, W in self.point.whole():
            v = np.zeros((b.units, W.shape[1], self.p + 1))
            for f, own in enumerate(self.v):
                inside = np.flatnonzero((m.unit[f] >= b.first) & (m.unit[f] < b.first + b.units))
                begin = factor_of(m, b, f).start + m.local[f][inside] * m.q[f]
                for a in range(m.q[f]):
                    v[m.unit[f][inside] - b.first, begin + a] = own[inside, a]
            Y = 2 * ((v * self.weights) @ np.swapaxes(v, 1, 2)) - W
            for (f, g), total in sums.items():
                total += self._by_columns(b, W, f, g) @ self._by_columns(b, Y, f, g).T
        H = np.zeros((len(m.entries), len(m.entries)))
        for (f, g), total in sums.items():
            Q = total.reshape(m.q[f], m.q[g], m.q[f], m.q[g])  # [a, c, b, d]: sum W[a, c] Y[b, d]
            part = m.directions[f].T @ Q.transpose(2, 0, 1, 3).reshape(m.q[f] ** 2, -1) @ m.directions[g]
            H += part if f == g else part + part.T
        return self._less_products(H)

    def _by_columns(self, b: Batch, W: Array, f: int, g: int) -> Array:
        """(q_f q_g, .): the entries of W between columns a of f and c of g."""
        m = self.products
        part = W[:, factor_of(m, b, f), factor_of(m, b, g)]
        units, left, right = part.shape
        split = part.reshape(units, left // m.q[f], m.q[f], right // m.q[g], m.q[g])
        return np.ascontiguousarray(split.transpose(2, 4, 0, 1, 3)).reshape(m.q[f] * m.q[g], -1)

    def quadratic(self) -> Array:
        """(m / rss, or 1 / s2 where that is held) y'P V_s P V_u P y over pairs of free entries s, u: V_s = sum_j Z_j E_s Z_j'."""
        m, free, p = self.products, self.products.entries, self.p
        vectors = [np.zeros((*v.shape[:2], len(free))) for v in self.v]
        for s, e in enumerate(free):
            vectors[e.factor][:, :, s] = self.v[e.factor][:, :, p] @ e.direction(m.q[e.factor])
        weighted = self.point.multiply(vectors)
        fixed = self.D[:, :p, p]
        found = -fixed @ fixed.T
        for left, right in zip(vectors, weighted, strict=True):
            found += np.tensordot(left, right, axes=([0, 1], [0, 1]))
        return found

    def average(self) -> Array:
        """The mean of H and its expectation, but for the profiled residual variance's part, which is exact."""
        last = self.D[:, -1, -1]
        return self.quadratic() - np.outer(last, last) / self.m

    def differences(self) -> Array:
        """H by differences of the gradient."""
        m, free = self.products, self.products.entries

        def slopes(G: Sequence[Array]) -> Array:
            Sg = Derivatives(point_at(m, G), self.reml, self.with_y).gradient
            return np.array([Sg[e.factor][e.a, e.b] * (1.0 if e.a == e.b else 2.0) for e in free])

        H = []
        for e in free:
            E, G = e.direction(m.q[e.factor]), self.point.G
            step = DIFFERENCE * (1.0 + max(G[e.factor][e.a, e.a], G[e.factor][e.b, e.b]))
            ends = [slopes([g + h * E if f == e.factor else g for f, g in enumerate(G)]) for h in (-step, step)]
            H.append((ends[1] - ends[0]) / (2 * step))
        found = np.array(H)
        return np.asarray((found + found.T) / 2)

    def hessian(self) -> Array:
        """H over pairs of free entries: exact where that is affordable, or less work than differences."""
        return self.exact() if is_small(self.products) or _exact_pays(self.products) else self.differences()


def _exact_pays(m: Products) -> bool:
    """Whether all of W is less work than two points for each free entry, at some three products of a unit's rest each."""
    lead = m.q[m.lead]
    sizes = [(b.units, b.shape[0] * lead, b.order) for b in m.batches]
    exact = sum(units * (2 * first * s**2 + first**2 * s + s**3) for units, first, s in sizes)
    points = 2 * len(m.entries) * sum(units * 3 * s**3 for units, _, s in sizes)
    return exact < points and sum(units * (first + s) ** 2 for units, first, s in sizes) <= WHOLE_ENTRIES
