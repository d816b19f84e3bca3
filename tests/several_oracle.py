"""A dense twin of fits with several grouping factors: V = I + sum Z G Z' in full, and the ten lines of likelihood theory."""

from __future__ import annotations

import re

import numpy as np
from scipy.linalg import block_diag

from nestlab.fit.several.curvature import Derivatives
from nestlab.fit.several.model import SeveralModel
from nestlab.fit.several.point import point_at
from nestlab.fit.several.products import FactorColumns, make_products
from profile_oracle import least_held


class Dense:
    """The deviance at G (a matrix per factor) of y ~ N(X b, s2 V), profiled over b and s2, with its derivatives in G's
    entries."""

    def __init__(self, factors: list[FactorColumns], X, y, G, *, reml: bool):
        N, p = X.shape
        self.factors, self.reml, self.m = factors, reml, N - p * reml
        self.Z = [[np.where(f.codes[:, None] == j, f.Z, 0.0) for j in range(f.levels)] for f in factors]
        V = np.eye(N) + sum(z @ g @ z.T for zs, g in zip(self.Z, G, strict=True) for z in zs)
        self.inverse = np.linalg.inv(V)
        S = X.T @ self.inverse @ X
        self.beta = np.linalg.solve(S, X.T @ self.inverse @ y)
        self.P = self.inverse - self.inverse @ X @ np.linalg.solve(S, X.T @ self.inverse)
        self.rss = y @ self.P @ y
        self.y, self.S = y, S
        self.deviance = np.linalg.slogdet(V)[1] + reml * np.linalg.slogdet(S)[1]
        self.deviance += self.m * (1 + np.log(2 * np.pi * self.rss / self.m))

    def along(self, f: int, E):
        """dV along E, a matrix of factor f."""
        return sum(z @ E @ z.T for z in self.Z[f])

    def slope(self, dV) -> float:
        trace = np.trace((self.P if self.reml else self.inverse) @ dV)
        return trace - self.m / self.rss * (self.y @ self.P @ dV @ self.P @ self.y)

    def curve(self, dV, dU) -> float:
        A, P, y = self.P if self.reml else self.inverse, self.P, self.y
        q, r = y @ P @ dV @ P @ y, y @ P @ dU @ P @ y
        mixed = y @ P @ dV @ P @ dU @ P @ y
        return -np.trace(A @ dV @ A @ dU) + self.m / self.rss * (2 * mixed - q * r / self.rss)


def columns_of(formula: str, frame, fixed=None):
    """(factors, names, X, y) of a formula, its fixed part plain names: a stand-in for the parser."""
    left, right = formula.split("~")
    bars = re.findall(r"\(([^|()]*)\|\s*([^()|]*)\)", right)
    names = [n.strip() for n in re.sub(r"\([^()]*\)", "", right).split("+") if n.strip() not in ("", "1")]
    names = [part for n in names for part in (*re.split(r" *\* *", n), *([n] if "*" in n else []))]
    names.sort(key=lambda n: n.count("*"))
    X = np.column_stack([np.ones(len(frame)), *(frame[re.split(r" *\* *", n)].prod(axis=1) for n in names)])
    found: dict[str, list] = {}
    for columns, group in bars:
        terms = [c.strip() for c in columns.split("+")]
        zero = "0" in terms
        own = [frame[c].to_numpy(float) for c in terms if c not in ("0", "1")]
        found.setdefault(group.strip(), []).append(np.column_stack([*([] if zero else [np.ones(len(frame))]), *own]))
    factors = []
    for group, terms in found.items():
        key = frame[group.split(":")].astype(str).agg("_".join, axis=1)
        codes = np.unique(key, return_inverse=True)[1].astype(np.int64)
        factors.append(FactorColumns(codes, int(codes.max()) + 1, np.hstack(terms), tuple(t.shape[1] for t in terms)))
    return factors, list(found), X, frame[left.strip()].to_numpy(float)


def rise_held(model: SeveralModel, parameter, value: float) -> float:
    """What the criterion of a fit rises to, above its minimum, with a parameter held at a value in the data's units (of a fixed
    effect less what the OLS fit found), minimised by SciPy in the plain chart of `profile_oracle`."""
    kind, k, _ = parameter
    m, R = model.products, block_diag(*model.roots)
    if kind == "fixed":
        X = model.X @ np.linalg.inv(model.back)
        y = model.y - X[:, k] * value / model.scale
        Q = np.linalg.qr(np.delete(X, k, axis=1))[0] * np.sqrt(len(y))
        m = make_products(model.white, Q, y)
    elif kind in ("sd", "sigma"):
        value /= model.scale

    def at(G, log_s2):
        with np.errstate(all="ignore"):
            W = R @ G @ R.T
            try:
                here = Derivatives(point_at(m, [W[own, own] for own in m.columns]), model.reml, log_s2=log_s2)
                C = here.C
            except np.linalg.LinAlgError:
                return 1e300, np.zeros_like(G), 0.0
            rss = C[-1, -1] ** 2 * np.exp(-log_s2)
            level = here.point.logdet + here.m * (np.log(2 * np.pi) + log_s2) + rss
            level += 2 * model.reml * np.log(np.diag(C)[:-1]).sum()
        if not np.isfinite(level):
            return 1e300, np.zeros_like(G), 0.0
        return float(level), R.T @ block_diag(*here.gradient) @ R, here.m - rss

    sizes = np.diag(R.T @ R)
    found = [(T * T).sum(axis=1) for T in model.covariances()]
    sd = np.sqrt((np.concatenate(found) + 1e-4 / sizes) * model.sigma2)
    held = least_held(at, m.blocks, parameter, value, sd=sd, sigma2=model.sigma2)
    return held - model.optimum.deviance
