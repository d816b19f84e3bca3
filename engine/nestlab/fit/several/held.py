"""The deviance of a fit with one parameter held, and its derivatives in coordinates that have no constraints.

Notation and coordinates are those of `fit.chart` and `fit.held`: with s2 the estimated residual variance, the whitened random
columns of all factors have covariance s2 L L', L = sum x_i w_i d_i', the residuals s2 exp(delta), F = L exp(-delta / 2), G = F F'

    D = log|V| + [REML] log|S| + m (s + log 2 pi) + rss exp(-s),   s = log s2 + delta

The vector of coordinates z holds L's, delta and the parameter psi: an sd (whitened, over the residual sd), phi =
asin(correlation), delta itself, or (c'beta - estimate) / standard error of a contrast of the fixed effects. Where this is held at
v, X_ is the rest of X's space, w = X c / c'c, y - v w the response, and rss(v) has derivatives -2 w'P (y - v w) and 2 w'P w.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ..profile import Parameter
from .curvature import Derivatives, is_small
from .model import SeveralModel
from .point import Point, point_at

__all__ = ["ZERO", "HeldParameter", "Local", "hold"]

Array = NDArray[np.float64]

#: Whitened variance over s2 below which an estimate is 0, as the kernel's rule for `singular`.
ZERO = 1e-8


@dataclass(frozen=True)
class Local:
    """D at a point with its gradient and Hessian in z; None of these where D is not finite."""

    value: float
    g: Array
    h: Array


@dataclass(frozen=True)
class HeldParameter:
    """A fit with a parameter to be held.

    kind: of the parameter. w, d (n, q): directions of L's coordinates in whitened space and among L's columns; of an sd or a
    correlation the parameter's own comes last (of a correlation d turns with phi). x (k): the estimate of the coordinates that
    are not held; psi: that of the parameter. scale: a unit of psi in the data's units (see `in_units`). contrast (p): c over
    X's orthonormal columns; first, second: of a correlation the columns of L where its rows begin, and the coordinate of the
    second row's length.
    """

    model: SeveralModel
    reml: bool
    kind: str
    w: Array
    d: Array
    x: Array
    psi: float
    scale: float
    contrast: Array
    first: int
    second: int

    @cached_property
    def log_s2(self) -> float:
        return float(np.log(self.model.sigma2))

    @cached_property
    def small(self) -> bool:
        return is_small(self.model.products)

    def in_units(self, psi: float) -> float:
        """The parameter in the units of the data: an sd, a correlation, sigma, or c'beta."""
        if self.kind == "sd":
            return max(psi, 0.0) * self.scale
        if self.kind == "cor":
            return float(np.sin(np.clip(psi, -np.pi / 2, np.pi / 2)))
        if self.kind == "sigma":
            return float(np.exp(psi / 2)) * self.scale
        return float(self.contrast @ self.model.beta * self.model.scale + psi * self.scale)

    def at(self, x: Array, psi: float) -> Local:
        """D and its derivatives in z = (x, psi)."""
        with np.errstate(all="ignore"):
            try:
                return self._at(x, psi)
            except np.linalg.LinAlgError:
                return Local(np.nan, np.empty(0), np.empty(0))

    def _at(self, x: Array, psi: float) -> Local:
        own = self.kind in ("sd", "cor")
        L = np.append(x[:-1], psi) if own else x if self.kind == "sigma" else x[:-1]
        delta = psi if self.kind == "sigma" else float(x[-1])
        d = self._turned(L) if self.kind == "cor" else self.d
        weights = np.append(L[:-1], 0.0) if self.kind == "cor" else L
        scale = np.exp(-delta / 2)
        F = scale * np.einsum("i,ia,ie->ae", weights, self.w, d)
        G = F @ F.T
        m = self.model.products
        point = point_at(m, [G[own, own] for own in m.columns])
        effect = self._effect(point, psi) if self.kind == "fixed" else None
        here = Derivatives(point if effect is None else effect.point, self.reml, log_s2=self.log_s2 + delta)
        C = here.C
        if not (np.isfinite(C).all() and np.isfinite(point.logdet)):
            return Local(np.nan, np.empty(0), np.empty(0))
        s, rss = self.log_s2 + delta, float(C[-1, -1] ** 2)
        value = point.logdet + here.m * (s + np.log(2 * np.pi)) + rss * np.exp(-s)
        if self.reml:
            value += 2 * float(np.log(np.diag(C)[:-1]).sum())
        return Local(float(value), *self._chain(here, effect, F, G, d, L, scale, rss * np.exp(-s)))

    def _turned(self, L: Array) -> Array:
        """d at phi = L[-1]."""
        d, sine, cosine = self.d.copy(), np.sin(L[-1]), np.cos(L[-1])
        r = L[self.second]
        d[self.second, self.first : self.first + 2] = sine, cosine
        d[-1, self.first : self.first + 2] = r * cosine, -r * sine
        return d

    def _chain(
        self,
        here: Derivatives,
        effect: _OfEffect | None,
        F: Array,
        G: Array,
        d: Array,
        L: Array,
        scale: float,
        rest: float,
    ) -> tuple[Array, Array]:
        """Gradient and Hessian in z from those in G; rest: rss exp(-s)."""
        m, q, n = self.model.products, len(F), len(self.w)
        Sg = np.zeros((q, q))
        for own, gradient in zip(m.columns, here.gradient, strict=True):
            Sg[own, own] = gradient
        a, b = np.array([(m.columns[e.factor].start + e.a, m.columns[e.factor].start + e.b) for e in m.entries]).T
        f, Sw = d @ F.T, self.w @ Sg
        along = scale * (self.w[:, a] * f[:, b] + self.w[:, b] * f[:, a])
        along = np.vstack([along, -G[a, b]])  # of L's coordinates, then delta
        H = here.exact() if self.small else here.quadratic()
        last = here.D[:, -1, -1]
        g, h = np.zeros(n + 1), along @ H @ along.T
        g[:n] = 2 * scale * np.einsum("ia,ia->i", Sw, f)
        h[:n, :n] += 2 * scale**2 * (Sw @ self.w.T) * (d @ d.T)
        whole = float((Sg * G).sum())
        h[n, :n] += along[:n] @ last - g[:n]
        h[:n, n] = h[n, :n]
        h[n, n] += whole - 2 * float(last @ G[a, b]) + rest
        g[n] = here.m - rest - whole
        if self.kind == "cor":
            c, turned = self.second, np.zeros(q)
            turned[self.first : self.first + 2] = np.cos(L[-1]), -np.sin(L[-1])
            h[n - 1, n - 1] -= 2 * scale * L[c] * float(Sw[c] @ f[c])
            mixed = 2 * scale * float(Sw[c] @ (F @ turned))
            h[n - 1, c] += mixed
            h[c, n - 1] += mixed
        if effect is not None:
            g, h = effect.extend(g, h, along, here)
        if self.kind in ("sd", "cor"):  # psi last
            order = [*range(n - 1), n, n - 1]
            g, h = g[order], h[np.ix_(order, order)]
        return g, h

    @cached_property
    def _basis(self) -> tuple[Array, Array]:
        """(p, p - 1): an orthonormal basis of what is orthogonal to c; c / c'c."""
        c = self.contrast
        return np.linalg.svd(c[None])[2][1:].T, c / (c @ c)

    def _effect(self, point: Point, psi: float) -> _OfEffect:
        p = self.model.p
        basis, along = self._basis
        held = float(self.contrast @ self.model.beta) + psi * self.scale / self.model.scale
        M = np.zeros((p + 1, p + 1))  # columns: X_, w, y - v w
        M[:p, : p - 1], M[:p, p - 1], M[:p, p], M[p, p] = basis, along, -held * along, 1.0
        S = M.T @ point.S @ M
        scores = [T @ M for T in point.scores]
        kept = [*range(p - 1), p]
        C = np.linalg.cholesky(S)
        inverse = solve_triangular(C, np.eye(p + 1), lower=True).T
        reduced = replace(point, S=S[np.ix_(kept, kept)], scores=tuple(T[:, :, kept] for T in scores))
        unit = self.scale / self.model.scale
        return _OfEffect(
            reduced, [T @ inverse[:, p - 1] for T in scores], float(C[p - 1, p - 1]) * unit, float(C[p, p - 1])
        )


@dataclass(frozen=True)
class _OfEffect:
    """A held effect: the point of the rest; by factor (levels, q) Z'P w / root(w'P w); that root in units of psi; w'P (y - v w)
    over it."""

    point: Point
    scores: list[Array]
    own: float
    part: float

    def extend(self, g: Array, h: Array, along: Array, here: Derivatives) -> tuple[Array, Array]:
        """Gradient and Hessian with psi as the last coordinate."""
        m, n = here.products, len(g)
        assert here.log_s2 is not None, "it is held"
        root = np.exp(-here.log_s2 / 2)
        cross = np.zeros(len(m.entries))
        for t, v, E in zip(self.scores, here.v, m.directions, strict=True):
            cross += E.T @ (t.T @ v[:, :, -1]).ravel()
        slope = -2 * self.own * self.part * root**2
        g, h = np.append(g, slope), np.pad(h, ((0, 1), (0, 1)))
        h[n, :n] = 2 * self.own * root * (along @ cross)
        h[n, n - 1] -= slope
        h[:n, n] = h[n, :n]
        h[n, n] = 2 * self.own**2 * root**2
        return g, h


def hold(
    model: SeveralModel, parameter: Parameter, *, zero: bool = False, contrast: Array | None = None
) -> HeldParameter:
    """The coordinates in which a parameter of a fit is held, and the estimate in them.

    parameter: kind, b, a as in `profile_parameters`; zero: the sd's estimate is 0. contrast (p): of ("fixed", ., .), over the
    data's own effects; None: the effect's own.
    """
    kind, b, a = parameter
    q = sum(model.products.q)
    made = _Chart(q)
    length, psi, scale, first, second = 1.0, 0.0, model.scale, -1, -1
    start = 0
    for T, R in zip(model.covariances(), model.roots, strict=True):
        cov, size = T @ T.T, len(R)
        leads = [
            c - start for c in ((a,) if kind == "sd" else (a, b)) if kind in ("sd", "cor") and start <= c < start + size
        ]
        if leads and zero:
            cov[leads[0], :] = cov[:, leads[0]] = 0.0
        if len(leads) == 2:
            second = made.lead(start, R, cov, leads)
            first = start
        made.term(start, R, cov, leads)
        if leads:
            own = np.zeros(q)
            own[start : start + size] = R[:, leads[-1]]
            length = float(np.linalg.norm(own))
            at = np.zeros(q)
            at[start] = kind == "sd"
            tail = (own / length, at)
            psi = float(np.sqrt(cov[leads[0], leads[0]])) * length
            if kind == "cor":
                rho = cov[leads[1], leads[0]] / np.sqrt(cov[leads[0], leads[0]] * cov[leads[1], leads[1]])
                psi = float(np.arcsin(np.clip(rho, -1.0, 1.0)))
        start += size
    x = np.array(made.x)
    c = np.zeros(model.p)
    if kind in ("sd", "cor"):
        made.w.append(tail[0])
        made.d.append(tail[1])
        scale *= float(np.sqrt(model.sigma2)) / length
    elif kind == "sigma":
        scale *= float(np.sqrt(model.sigma2))
    else:
        c = model.back[a] if contrast is None else contrast @ model.back
        scale *= float(np.sqrt(c @ model.vcov @ c))
    if kind != "sigma":
        x = np.append(x, 0.0)
    return HeldParameter(
        model,
        model.reml,
        kind,
        np.array(made.w).reshape(-1, q),
        np.array(made.d).reshape(-1, q),
        x,
        psi,
        scale,
        c,
        first,
        second,
    )


class _Chart:
    """Coordinates of L as they are made: w, d, and the estimates x."""

    def __init__(self, q: int):
        self.q = q
        self.w: list[Array] = []
        self.d: list[Array] = []
        self.x: list[float] = []

    def add(self, start: int, direction: Array, column: int, x: float) -> int:
        w, d = np.zeros(self.q), np.zeros(self.q)
        w[start : start + len(direction)] = direction
        d[start + column] = 1.0
        self.w.append(w)
        self.d.append(d)
        self.x.append(x)
        return len(self.x) - 1

    def lead(self, start: int, R: Array, cov: Array, leads: list[int]) -> int:
        """Of a correlation: sd_a and r = sd_b. The number of r."""
        lengths = [float(np.linalg.norm(R[:, c])) for c in leads]
        found = -1
        for c, length in zip(leads, lengths, strict=True):
            found = self.add(start, R[:, c] / length, 0, float(np.sqrt(cov[c, c])) * length)
        return found

    def term(self, start: int, R: Array, cov: Array, leads: list[int]) -> None:
        """The rows that follow the leading ones: loadings on the columns of those, then a triangle in the eigenvectors of what is
        left of their covariance, so that what is singular is a last column of 0."""
        rest = [c for c in range(len(R)) if c not in leads]
        if not rest:
            return
        Q, T = np.linalg.qr(R[:, rest])
        loads = np.zeros((len(rest), len(leads)))
        left = cov[np.ix_(rest, rest)].copy()
        for k, c in enumerate(leads):
            along = cov[rest, c].copy()
            own = cov[c, c]
            if k:
                share = cov[c, leads[0]] / np.sqrt(cov[leads[0], leads[0]]) if cov[leads[0], leads[0]] > 0 else 0.0
                along, own = along - loads[:, 0] * share, own - share**2
            if own > 1e-14 * cov[c, c]:
                loads[:, k] = along / np.sqrt(own)
                left -= np.outer(loads[:, k], loads[:, k])
        values, vectors = np.linalg.eigh(T @ left @ T.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        frame, loads = Q @ vectors, vectors.T @ T @ loads
        for i in range(len(rest)):
            for k in range(len(leads)):
                self.add(start, frame[:, i], k, float(loads[i, k]))
            for k in range(i + 1):
                root = values[i] if k == i and values[i] > max(1e-12 * values[0], 0.01 * ZERO) else 0.0
                self.add(start, frame[:, i], len(leads) + k, float(np.sqrt(root)))
