"""The deviance with one parameter held, minimised by SciPy on the NumPy twin: what profile limits are checked against.

Parameters (kind, a, b) as `nestlab.fit.profile.profile_parameters` gives them. The chart is the plain one: the rows of L in
the data's own units and order, but for the columns that a correlation or an sd is of, which come first; s the log of the
residual variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nestlab.fit.deviance import Statistics, _pieces, statistics
from nestlab.fit.lmm import fit_replicates, pairs
from nestlab.fit.workspace import make_shape
from nestlab.simulate.gram import Gram

Array = NDArray[np.float64]


def deviance_at(s: Statistics, G: Array, log_s2: float, *, reml: bool) -> tuple[float, Array, float]:
    """-2 log likelihood (or restricted) at covariance exp(log_s2) G and residual variance exp(log_s2), with the derivatives with
    respect to symmetric G and to log_s2."""
    try:
        v = _pieces(s, G, reml)
    except np.linalg.LinAlgError:
        return 1e300, np.zeros_like(G), 0.0
    scale = np.exp(-log_s2)
    if not v.rss > 0:
        return 1e300, np.zeros_like(G), 0.0
    value = (
        v.deviance - v.m * (1 + np.log(2 * np.pi * v.rss / v.m)) + v.m * (np.log(2 * np.pi) + log_s2) + v.rss * scale
    )
    Sg = v.W.sum(0) - scale * np.einsum("ja,jb->ab", v.t, v.t)
    if reml:
        Sg = Sg - np.einsum("jai,ik,jbk->ab", v.T, v.K, v.T)
    return float(value), Sg, v.m - v.rss * scale


def without(s: Statistics, k: int, value: float) -> Statistics:
    """Fixed effect k held at a value: its part taken from y, its column from X."""
    kept = np.arange(s.B.shape[2]) != k
    return replace(
        s,
        B=s.B[:, :, kept],
        c=s.c - value * s.B[:, :, k],
        XX=s.XX[np.ix_(kept, kept)],
        Xy=(s.Xy - value * s.XX[k])[kept],
        yy=s.yy - 2 * value * s.Xy[k] + value**2 * s.XX[k, k],
    )


def chart(blocks: Any, parameter: tuple[str, int, int], value: float) -> tuple[Array, Array]:
    """(F0 (q, q), T (n, q, q)): F = F0 + sum x_i T_i, covariance F F', residual variance apart."""
    kind, b, a = parameter
    q = len(blocks)
    lead = {"sd": [a], "cor": [a, b]}.get(kind, [])
    order = [*lead, *(k for k in range(q) if k not in lead)]
    place = {row: k for k, row in enumerate(order)}
    F0, T = np.zeros((q, q)), []
    for row in range(q):
        for other in range(q):
            if blocks[row] != blocks[other] or place[other] > place[row]:
                continue
            unit = np.zeros((q, q))
            unit[row, place[other]] = 1.0
            if kind == "sd" and row == a:
                F0[row, place[other]] = value
            elif kind == "cor" and row == b:
                if other == b:
                    unit[row, place[a]], unit[row, place[b]] = value, np.sqrt(1 - value**2)
                    T.append(unit)
            else:
                T.append(unit)
    return F0, np.array(T).reshape(-1, q, q)


def held_minimum(
    s: Statistics,
    blocks: Any,
    parameter: tuple[str, int, int],
    value: float,
    *,
    reml: bool,
    covariance: Array,
    sigma2: float,
) -> float:
    """The least deviance with a parameter held at a value, from starts near the estimate (covariance (q, q), sigma2) and far."""
    if parameter[0] == "fixed":
        s = without(s, parameter[1], value)
    sd = np.sqrt(np.diag(covariance) + 1e-4 * sigma2 / np.diag(s.A.mean(0)))

    def at(G: Array, log_s2: float) -> tuple[float, Array, float]:
        return deviance_at(s, G, log_s2, reml=reml)

    return least_held(at, blocks, parameter, value, sd=sd, sigma2=sigma2)


def least_held(
    at: Callable[[Array, float], tuple[float, Array, float]],
    blocks: Any,
    parameter: tuple[str, int, int],
    value: float,
    *,
    sd: Array,
    sigma2: float,
) -> float:
    """The least of `at`, the deviance and its derivatives at G and log s2, with a variance parameter held; sd (q): sizes."""
    kind = parameter[0]
    F0, T = chart(blocks, parameter, value)
    sizes = np.array([sd[np.flatnonzero(t.any(axis=1))[0]] for t in T])
    middle = 2 * np.log(value) if kind == "sigma" else np.log(sigma2)
    positive = [i for i, t in enumerate(T) if kind == "cor" and t[list(parameter[1:])].any()]
    bounds: list[tuple[float | None, float | None]] = [
        (0, None) if i in positive else (None, None) for i in range(len(T))
    ]

    def function(x: Array) -> tuple[float, Array]:
        log_s2 = middle if kind == "sigma" else middle + x[-1]
        F = F0 + np.tensordot(x[: len(T)] * sizes, T, axes=1)
        G = F @ F.T * np.exp(-log_s2)
        level, Sg, slope = at(G, log_s2)
        g = [2 * np.sum(Sg * (t @ F.T)) * np.exp(-log_s2) * size for t, size in zip(T, sizes, strict=True)]
        return level, np.array(g if kind == "sigma" else [*g, slope - np.sum(Sg * G)])

    best = np.inf
    rng = np.random.default_rng(1)
    with np.errstate(all="ignore"):
        for number in range(7):
            x = np.array(
                [abs(v) if i in positive else v for i, v in enumerate(rng.normal(size=len(T) + (kind != "sigma")))]
            )
            x *= 0.3 + 0.3 * number
            if kind != "sigma":
                x[-1] *= 0.1
                bounds = [*bounds[: len(T)], (-20.0, 20.0)]
            found = minimize(function, x, jac=True, method="L-BFGS-B", bounds=bounds,
                             options={"ftol": 1e-15, "gtol": 1e-7, "maxiter": 2000, "maxfun": 4000})  # fmt: skip
            best = min(best, float(found.fun))
    return best


def rise_of_rows(m: Any, parameter: tuple[str, int, int], value: float, *, reml: bool) -> float:
    """What the deviance of a data set (`ModelMatrices`) rises to, above its minimum, with a parameter held at a value.

    In y's and each random column's own scale, fixed effects orthonormal, the one that is held last: digits are then kept.
    """
    N, p = m.X.shape
    kind, k = parameter[:2]
    order = [*(i for i in range(p) if kind != "fixed" or i != k), *([k] if kind == "fixed" else [])]
    Q, R = np.linalg.qr(m.X[:, order])
    ols = Q.T @ m.y
    y = m.y - Q @ ols
    scale = np.sqrt(y @ y / N)
    Z = np.column_stack(m.Z)
    sizes = np.sqrt((Z**2).mean(0))
    s = statistics(y / scale, Q * np.sqrt(N), Z / sizes, m.groups)
    blocks = np.repeat(np.arange(len(m.Z)), [z.shape[1] for z in m.Z])
    if kind == "fixed":
        parameter = ("fixed", p - 1, p - 1)
        value = (value * R[-1, -1] - ols[-1]) / (scale * np.sqrt(N))
    elif kind == "sd":
        value *= sizes[parameter[1]] / scale
    elif kind == "sigma":
        value /= scale
    fit = estimate(s, blocks, reml=reml)
    held = held_minimum(s, blocks, parameter, value, reml=reml, covariance=fit["varcomp"], sigma2=fit["sigma2"])
    return held - float(fit["deviance"])


def estimate(s: Statistics, blocks: Any, *, reml: bool) -> dict[str, Any]:
    """The kernel's fit of statistics."""
    gram, shape = as_kernel(s, blocks, reml=reml)
    fits = fit_replicates(shape, np.arange(len(s.A)), gram, 0, 1)
    q = s.A.shape[1]
    covariance = np.empty((q, q))
    for v, (i, j) in zip(fits.varcomp[0], pairs(q), strict=True):
        covariance[i, j] = covariance[j, i] = v
    return {
        "status": int(fits.status[0]), "deviance": float(fits.deviance[0]), "varcomp": covariance,
        "sigma2": float(fits.sigma2[0]),
    }  # fmt: skip


def as_kernel(s: Statistics, blocks: Any, *, reml: bool) -> tuple[Gram, Any]:
    """Statistics as a Gram of one replicate, X and Z as separate columns, and the model's shape."""
    J, q, p = s.B.shape
    upper = pairs(q + p)
    dd, dy, yy = np.zeros((J, len(upper), 1)), np.zeros((J, q + p, 1)), np.zeros((J, 1))
    for number, (a, b) in enumerate(upper):
        if b < q:
            dd[:, number, 0] = s.A[:, a, b]
        elif a < q:
            dd[:, number, 0] = s.B[:, a, b - q]
        else:
            dd[0, number, 0] = s.XX[a - q, b - q]
    dy[:, :q, 0], dy[0, q:, 0], yy[0] = s.c, s.Xy, s.yy
    shape = make_shape(
        range(q), range(q, q + p), np.zeros(p, np.int64), np.asarray(blocks, dtype=np.int64), np.full(len(pairs(q)), -1.0),
        rows=s.N, clusters=J, reml=reml,
    )  # fmt: skip
    return Gram(dd, dy, yy, np.ones((1, J, 1))), shape
