"""Intervals of one generalised fit, under lme4's names: by standard errors, or by the profile of the likelihood.

The profile deviance of a parameter is the least over all others. A fixed effect is held by moving beta in the plane where it has
one value; a standard deviation or correlation by writing L through it: row a of a term's factor is its standard deviation times
a row of length 1, and with the rows of a pair first their correlation is the first entry of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import ndtri, stdtrit

from ...spec.problems import DataError
from ..checks import one_of
from ..confint import check_level, parameter_name
from ..problem import relative_factor
from ..profile import Parameter, profile_parameters
from .model import GlmmModel

if TYPE_CHECKING:
    import pandas as pd

    from .single import GeneralisedFit

__all__ = ["INTERVALS", "generalised_intervals"]

Array = NDArray[np.float64]
Limits = tuple[float, float]

#: The ways to make intervals.
INTERVALS = ("wald", "profile")
#: Steps outwards, each twice the last, after which there is no limit.
STEPS = 12
#: Where a standard deviation (whitened) that vanished begins, with another parameter held.
NUDGE = 0.1


def generalised_intervals(fit: GeneralisedFit, *, level: float, method: str) -> pd.DataFrame:
    """Intervals of a fit as a frame: lme4's names by "lower" and "upper"; see `GeneralisedFit.confint`."""
    import pandas as pd

    one_of("method", method, INTERVALS)
    check_level(level)
    if method == "profile" and fit.method == "pql":
        raise DataError("method = 'profile': penalised quasi-likelihood has no likelihood to profile; use wald")
    blocks = [t for t, names in enumerate(fit.random_names) for _ in names]
    parameters = [each for each in profile_parameters(blocks, len(fit.beta)) if each[0] != "sigma"]
    rows = [_wald(fit, each, blocks, level) for each in parameters]
    if method == "profile":
        rows = _profiles(fit, parameters, blocks, rows, level)
    names = [parameter_name(fit, blocks, each) for each in parameters]
    return pd.DataFrame(rows, index=pd.Index(names), columns=["lower", "upper"])


def _wald(fit: GeneralisedFit, parameter: Parameter, blocks: Sequence[int], level: float) -> Limits:
    kind, b, a = parameter
    tail = (1 + level) / 2
    if kind == "fixed":
        name = list(fit.beta)[a]
        df = fit.df[name]
        half = fit.se[name] * (ndtri(tail) if np.isinf(df) else stdtrit(df, tail))
        centre = fit.beta[name]
        return (centre - half, centre + half)
    model = fit._model
    if model.point is None or model.objective is None or fit.method == "pql" or not fit.status.converged:
        return (np.nan, np.nan)
    where = model.objective.theta
    term, i, k = blocks[a], _within(blocks, b), _within(blocks, a)
    psi = model.point.psi

    def value(theta: Array) -> float:
        there = psi.copy()
        there[where] = theta
        return _parameter(model.terms_of(there)[term], kind, i, k)

    theta = psi[where]
    steps = 1e-5 * np.eye(len(theta))
    slope = np.array([(value(theta + s) - value(theta - s)) / 2e-5 for s in steps])
    slope = np.where(model.used[where], slope, 0.0)
    variance = slope @ model.covariance[where, where] @ slope
    centre = value(theta)
    if not variance > 0:  # on the boundary
        return (np.nan, np.nan)
    half = float(np.sqrt(variance) * ndtri(tail))
    least, most = (0.0, np.inf) if kind == "sd" else (-1.0, 1.0)
    return (max(centre - half, least), min(centre + half, most))


def _within(blocks: Sequence[int], column: int) -> int:
    """The number of a random column within its term."""
    return column - blocks.index(blocks[column])


def _parameter(T: Array, kind: str, i: int, k: int) -> float:
    """A standard deviation (of k) or a correlation (of i and k) from T, T T' = G."""
    sd = np.linalg.norm(T, axis=1)
    if kind == "sd":
        return float(sd[k])
    return float(T[i] @ T[k] / (sd[i] * sd[k])) if sd[i] * sd[k] > 0 else np.nan


@dataclass(frozen=True)
class _Path:
    """The deviance as a function of one parameter and the others. place: psi of (value, others); others: at the optimum."""

    place: Callable[[float, Array], Array]
    others: Array
    centre: float
    scale: float
    least: float = -np.inf
    most: float = np.inf


def _profiles(
    fit: GeneralisedFit, parameters: Sequence[Parameter], blocks: Sequence[int], wald: Sequence[Limits], level: float
) -> list[Limits]:
    model = fit._model
    if not fit.status.converged or model.point is None:
        return [(np.nan, np.nan)] * len(parameters)
    found = []
    for (kind, b, a), ends in zip(parameters, wald, strict=True):
        half = (ends[1] - ends[0]) / 2
        if kind == "fixed":
            path = _fixed_path(model, a, half)
        elif np.isnan(
            _parameter(model.terms_of(model.point.psi)[blocks[a]], kind, _within(blocks, b), _within(blocks, a))
        ):
            found.append((np.nan, np.nan))
            continue
        else:
            path = _variance_path(model, kind, blocks[a], _within(blocks, b), _within(blocks, a), half)
        found.append((_limit(model, path, level, -1.0), _limit(model, path, level, 1.0)))
    return found


def _fixed_path(model: GlmmModel, k: int, half: float) -> _Path:
    """Of fixed effect k = w'b: b = w value / w'w + (what is orthogonal to w)."""
    assert model.point is not None
    assert model.objective is not None
    psi, p = model.point.psi, model.objective.p
    w = model.back[k]
    basis = np.linalg.svd(w[None])[2][1:]
    along = w / (w @ w)

    def place(value: float, others: Array) -> Array:
        return np.concatenate([along * value + others[: p - 1] @ basis, others[p - 1 :]])

    others = np.concatenate([basis @ psi[:p], _off_boundary(model)[p:]])
    return _Path(place, others, float(w @ psi[:p]), half)


def _variance_path(model: GlmmModel, kind: str, term: int, i: int, k: int, half: float) -> _Path:
    """Of a standard deviation or correlation of a term."""
    assert model.point is not None
    assert model.objective is not None
    psi, layout = model.point.psi, model.objective.layout
    nudged = _off_boundary(model)
    T = model.terms_of(nudged)[term]
    centre = _parameter(model.terms_of(psi)[term], kind, i, k)
    q = len(T)
    first = [k] if kind == "sd" else [i, k]
    order = [*first, *(row for row in range(q) if row not in first)]
    L = relative_factor(T[order])
    sizes = [size for f in layout.factors for size in f.sizes]
    before = model.objective.p + sum(size * (size + 1) // 2 for size in sizes[:term])
    own = slice(before, before + q * (q + 1) // 2)
    lower = np.tril_indices(q)
    R = model.roots[term]

    def factor(free: Array) -> Array:
        """psi's entries of L from the free entries of the factor of the rows in this order."""
        made = np.zeros((q, q))
        made[lower] = free
        back = np.empty((q, q))
        back[order] = made
        Q, upper = np.linalg.qr((R @ back).T)
        del Q
        return np.concatenate([upper.T[b:, b] for b in range(q)])

    rest = np.delete(nudged, np.arange(own.start, own.stop))
    entries = L[lower]

    def place(value: float, others: Array) -> Array:
        free = np.empty(len(entries))
        if kind == "sd":
            free[0], free[1:] = value, others[len(rest) :]
        else:
            free[0] = others[len(rest)]
            sd = others[len(rest) + 1]
            free[1], free[2] = sd * value, sd * np.sqrt(max(1 - value * value, 0.0))
            free[3:] = others[len(rest) + 2 :]
        made = np.empty(len(psi))
        made[: own.start], made[own.stop :] = others[: own.start], others[own.start : len(rest)]
        made[own] = factor(free)
        return made

    if kind == "sd":
        return _Path(place, np.concatenate([rest, entries[1:]]), centre, half, least=0.0)
    sd = float(np.hypot(L[1, 0], L[1, 1]))
    others = np.concatenate([rest, [L[0, 0], sd], entries[3:]])
    return _Path(place, others, centre, half, least=-1.0, most=1.0)


def _off_boundary(model: GlmmModel) -> Array:
    """The optimum, columns of L that vanished made a little of: at 0 their slope is 0 wherever the others go."""
    assert model.point is not None
    assert model.objective is not None
    psi = model.point.psi.copy()
    for k, (_, a, b) in enumerate(model.objective.layout.entries):
        place = model.objective.p + k
        if a == b and model.point.vanished[place]:
            psi[place] = NUDGE
    return psi


def _limit(model: GlmmModel, path: _Path, level: float, side: float) -> float:
    """Where the root of the profile deviance's rise is the normal quantile; nan where it is not reached."""
    assert model.point is not None
    target = float(ndtri((1 + level) / 2))
    others, modes = path.others, model.point.at.modes
    slopes = _slopes(path, path.centre, others)
    curvature = slopes @ model.point.hessian @ slopes.T + 1e-3 * np.eye(len(others))
    inverse: Array = np.eye(len(others))
    if np.linalg.eigvalsh(curvature).min(initial=1.0) > 0:
        inverse = np.asarray(np.linalg.inv(curvature))

    def rise(value: float) -> float:
        nonlocal others, modes
        deviance, others, modes = _least(model, path, value, others, modes, inverse)
        return float(np.sqrt(max(deviance - model.deviance, 0.0))) - target

    edge = path.least if side < 0 else path.most
    if abs(path.centre - edge) < 1e-9:
        return edge
    step = path.scale if np.isfinite(path.scale) and path.scale > 0 else 0.3
    inner, inside = path.centre, -target
    for _ in range(STEPS):
        outer = inner + side * step
        if (outer - edge) * side >= 0:
            outer = edge
        outside = rise(outer)
        if outside >= 0:
            return float(brentq(rise, *sorted((inner, outer)), xtol=1e-7 * step, rtol=1e-9))
        if outer == edge:
            return edge
        # the root rises about in proportion: aim a little beyond
        gained = (outside - inside) / abs(outer - inner)
        step = min(max(-outside / gained * 1.1, step / 4), 4 * step) if gained > 0 else 2 * step
        inner, inside = outer, outside
    return np.nan


def _least(
    model: GlmmModel, path: _Path, value: float, start: Array, modes: list[Array], inverse: Array
) -> tuple[float, Array, list[Array]]:
    """The least deviance at a value of the parameter, where it is, and the modes there."""
    assert model.objective is not None
    objective = model.objective
    held = modes

    def at(others: Array) -> tuple[float, Array]:
        nonlocal held
        psi = path.place(value, others)
        now = objective(psi[None], held)
        if not np.isfinite(now.deviance[0]):
            return 1e10, np.zeros_like(others)
        held = now.modes
        return float(now.deviance[0]), _slopes(path, value, others) @ now.gradient[0]

    if not len(start):
        return at(start)[0], start, held
    found = minimize(at, start, jac=True, method="BFGS", options={"gtol": 1e-4, "hess_inv0": (inverse + inverse.T) / 2})
    return float(found.fun), found.x, held


def _slopes(path: _Path, value: float, others: Array) -> Array:
    """The derivatives (others, n) of psi."""
    h = 1e-6
    moved = [(path.place(value, others + e) - path.place(value, others - e)) / (2 * h) for e in h * np.eye(len(others))]
    return np.array(moved).reshape(len(others), -1)
