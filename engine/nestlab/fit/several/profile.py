"""Profile-likelihood intervals of fits with several grouping factors.

Limits are those of `fit.profile`, found as `fit.contour` finds them, one after another: with psi held, D is minimised over the
other coordinates by Newton steps; once they are nearly optimal, psi moves by a Newton step of zeta = sqrt(D_p - D_min), within a
bracket, and the others along their tangent. Bounds come first. At a limit D is minimised from other starts too, for it is not
convex, and the search continues from one that is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from ..contour import (
    BELOW,
    CHALLENGE_EVALUATIONS,
    CLOSE,
    COLLAPSED,
    COMPARED,
    DOUBTS,
    FAR,
    FLAT,
    FLATTEST,
    KEPT,
    LOWER,
    MAX_EVALUATIONS,
    MOST,
    NEAR,
    PERFECT,
    PINNED,
    SADDLE,
    SETTLED,
    SHARE,
    SHORTENINGS,
)
from ..profile import Parameter, Profiles, profile_parameters, undetermined
from ..search import ROOTS
from ..status import Status
from .held import ZERO, HeldParameter, Local, hold
from .model import SeveralModel
from .steer import find_optimum

__all__ = ["by_criterion", "profile_fit"]

Array = NDArray[np.float64]

#: Other starts from which each limit is tried, of small problems (see `curvature.is_small`).
STARTS = 3


class _LostError(Exception):
    """No limit can be found this way."""


def by_criterion(model: SeveralModel, *, reml: bool) -> SeveralModel:
    """The fit by REML, or by ML, of the same data."""
    if model.reml == reml:
        return model
    return replace(model, reml=reml, optimum=find_optimum(model.products, reml=reml))


def profile_fit(
    model: SeveralModel, *, level: float = 0.95, parameters: Sequence[Parameter] | None = None,
    contrasts: Sequence[Array] = (), starts: int | None = None,
) -> Profiles:  # fmt: skip
    """Profile limits (1, k) of the criterion that the model was fitted by, in the units of the data.

    parameters: as `profile_parameters` gives them, columns counted over all terms; None: all variance parameters and, by ML, the
    fixed effects. contrasts: also limits of these combinations (p) of the fixed effects. starts: other starts from which each
    limit is tried; None: 3, of large problems none. Fixed effects: less what the OLS fit found of them.
    """
    blocks = model.products.blocks.tolist()
    if parameters is None:
        parameters = profile_parameters(blocks, 0 if model.reml else model.p)
    whole: list[tuple[Parameter, Array | None]] = [(each, None) for each in parameters]
    whole += [(("fixed", -1, -1), np.asarray(c, dtype=float)) for c in contrasts]
    size = (1, len(whole), 2)
    limits, failed, counts = np.full(size, np.nan), np.ones(size, dtype=np.bool_), np.zeros(size, dtype=np.int64)
    found = Profiles(limits[..., 0], limits[..., 1], failed[..., 0], counts[..., 0])
    if model.optimum.status > Status.singular:
        return found
    target = float(np.sqrt(chdtri(1, 1 - level)))
    zero = _zeros(model)
    order = sorted(
        range(len(whole)), key=lambda i: whole[i][0][0] == "cor"
    )  # whether an sd may be 0 is asked of its limit
    for i in order:
        parameter, contrast = whole[i]
        known = parameter[0] == "cor" and (
            zero[list(parameter[1:])].any() or undetermined(limits, parameters, [parameter], len(blocks))[0, 0]
        )
        if known:
            limits[0, i], failed[0, i] = (-1.0, 1.0), False
            continue
        at = parameter[1]
        held = hold(model, parameter, zero=parameter[0] == "sd" and bool(zero[at]), contrast=contrast)
        for k, side in enumerate((-1.0, 1.0)):
            if side < 0 and parameter[0] == "sd" and zero[at]:
                limits[0, i, k], failed[0, i, k] = 0.0, False
                continue
            search = _Search(held, side, target, model.optimum.deviance, _starts(held, starts))
            try:
                limits[0, i, k] = held.in_units(search.run())
                failed[0, i, k] = False
            except _LostError:
                pass
            counts[0, i, k] = search.evaluations
    return replace(found, failed=failed[..., 0] | failed[..., 1], evaluations=counts.sum(axis=2))


def _starts(held: HeldParameter, asked: int | None) -> int:
    return asked if asked is not None else STARTS if held.small else 0


def _zeros(model: SeveralModel) -> NDArray[np.bool_]:
    """Whether the sd of each random column is estimated to be 0."""
    return np.concatenate(
        [
            ~((T * T).sum(axis=1) * (R * R).sum(axis=0) > ZERO)
            for T, R in zip(model.covariances(), model.roots, strict=True)
        ]
    )


@dataclass
class _At:
    """A point with x nearly optimal: D less the fit's, at the end of the last Newton step; slope and curvature of D_p; x at that
    end and its tangent; whether D is still falling."""

    rise: float
    slope: float
    curvature: float
    x: Array
    tangent: Array


class _Search:
    """For one limit: psi = centre + side t, from t = 0."""

    def __init__(self, held: HeldParameter, side: float, target: float, least: float, starts: int):
        self.held, self.side, self.target, self.least, self.starts = held, side, target, least, starts
        self.lengths = [held.second - 1, held.second] if held.kind == "cor" else []
        self.evaluations, self.most = 0, MAX_EVALUATIONS
        centre, self.bound = held.psi, np.inf
        if held.kind == "sd" and side < 0:
            self.bound = centre
        elif held.kind == "cor":
            if 1 - abs(np.sin(centre)) <= PERFECT:
                centre = float(np.copysign(np.pi / 2, centre))
            self.bound = np.pi / 2 - side * centre
        self.centre = centre

    def psi(self, t: float) -> float:
        return self.centre + self.side * t

    def run(self) -> float:
        x, outer = self.held.x, (np.inf, np.inf)
        if self.bound < np.inf:
            found = self._settle(x, self.bound, compared=True)
            for number in range(self.starts):
                if found.rise > self.target**2:
                    found = self._challenge(self.bound, number + 1) or found
            if found.rise <= self.target**2:
                return self.psi(self.bound)
            outer = self.bound, float(np.sqrt(found.rise))
        t, sure = self._root(self._settle(x, 0.0), 0.0, outer)
        for number in range(self.starts):
            lower = self._challenge(t, number + 1)
            if lower is not None and lower.rise < self.target**2 - LOWER:
                t, sure = self._root(lower, t, outer)
        if not sure:
            raise _LostError
        return self.psi(t)

    def _challenge(self, t: float, number: int) -> _At | None:
        """D_p at t from another start; None where that leads nowhere."""
        n = len(self.held.x)
        amplitude = 0.1 * 100.0 ** _spread(number, 5)
        x = np.array([amplitude * (2 * _spread(number + i // 5, i % 5) - 1) for i in range(n)])
        if self.held.kind != "sigma":
            x[-1] = -4 * _spread(number, 4)
        if self.held.kind == "cor":
            x[self.lengths] = np.abs(x[self.lengths]) + 0.01
        self.most = self.evaluations + CHALLENGE_EVALUATIONS
        try:
            return self._settle(x, t, compared=True)
        except _LostError:
            return None
        finally:
            self.most = self.evaluations + MAX_EVALUATIONS

    def _root(self, at: _At, t: float, outer: tuple[float, float]) -> tuple[float, bool]:
        """The t at which zeta is the target, from a point inside, and whether there is one: the bracket may collapse where the
        path jumped to another valley. outer: a t beyond, and its zeta."""
        inside, inner, low = t, at, float(np.sqrt(max(at.rise, 0.0)))
        (high, beyond), doubts = outer, DOUBTS
        while True:
            zeta = float(np.sqrt(max(at.rise, 0.0)))
            following = t + (self.target - zeta) * self._pace(at, zeta)
            if abs(zeta - self.target) <= CLOSE or (zeta <= self.target and t >= self.bound):
                return min(following, self.bound), True
            if zeta <= self.target:
                inside, inner, low = t, at, zeta
            else:
                high, beyond = t, zeta
            if inside > FAR:
                raise _LostError
            if high - inside < COLLAPSED * (1.0 + inside) and not doubts:
                return inside, False
            if zeta <= self.target and following >= high and doubts:  # was it the optimum of another valley?
                following, (high, beyond), doubts = high, outer, doubts - 1
            else:
                following = self._bracketed(following, (inside, low), (high, beyond))
            if zeta > self.target:
                at, t = inner, inside
            change = self.side * (following - t)
            reach = np.abs(at.tangent * change).max(initial=0.0)
            size = max(1.0, np.abs(at.x).max(initial=0.0))
            start = self._kept(at.x + at.tangent * change * min(1.0, size / reach if reach > 0 else 1.0), at.x)
            t, at = following, self._settle(start, following)

    def _pace(self, at: _At, zeta: float) -> float:
        """dt / dzeta."""
        slope = self.side * at.slope
        if zeta > NEAR and slope > 0:
            return 2 * zeta / slope
        return float(np.sqrt(2 / at.curvature)) if at.curvature > FLATTEST else 1.0 / self.target

    def _bracketed(self, t: float, inside: tuple[float, float], outside: tuple[float, float]) -> float:
        low, high = inside[0], outside[0]
        if high == np.inf:
            return min(t, 3.0 * low + 4.0) if t > low else low + 1.0
        if low < t < high:
            return t
        share = (self.target - inside[1]) / (outside[1] - inside[1])
        return low + min(max(share, 0.1), 0.9) * (high - low)

    def _settle(self, x: Array, t: float, *, compared: bool = False) -> _At:
        """Minimise over x at t until what is left is little beside D_p's distance from its target."""
        psi, aim = self.psi(t), self.target**2
        here = self._evaluate(x, psi)
        if not np.isfinite(here.value):
            raise _LostError
        while True:
            g, h = here.g, here.h
            pinned = [i for i in self.lengths if x[i] < PINNED and g[i] > 0]
            step, tangent, least = _newton(g, h, pinned)
            decrement = -float(g[:-1] @ step)
            rise = here.value - self.least
            if rise < -BELOW * (1.0 + abs(self.least)):
                raise _LostError  # the fit was not the optimum
            distance = abs(rise - decrement / 2 - aim)
            tolerance = max(SETTLED, COMPARED * distance if compared else min(MOST, SHARE * distance))
            if least[0] < -SADDLE and decrement <= SETTLED:
                away = self._walk(x, psi, here, least[1] * np.sqrt(min(1.0, -least[0])), -1e-3 * SETTLED)
                if away is not None:
                    x, here = away
                    continue
            if decrement <= tolerance and (least[0] >= -SADDLE or decrement <= SETTLED):
                curvature = float(h[-1, -1] + h[-1, :-1] @ tangent)
                slope = float(g[-1] + h[-1, :-1] @ step)
                return _At(rise - decrement / 2, slope, curvature, self._kept(x + step, x), tangent)
            following = self._walk(x, psi, here, step, -decrement)
            if following is None:
                raise _LostError
            x, here = following

    def _walk(self, x: Array, psi: float, here: Local, step: Array, slope: float) -> tuple[Array, Local] | None:
        """A step in x that lowers D, shortened as far as that takes; None if none does."""
        size = max(1.0, np.abs(x).max(initial=0.0))
        largest = np.abs(step).max(initial=0.0)
        if self.held.kind != "sigma":
            largest = max(largest, 2 * size * abs(step[-1]))
        factor = min(1.0, (1.0 + 2.0 * size) / largest) if largest > 0 else 1.0
        for tries in range(SHORTENINGS):
            end = self._kept(x + factor * step, x)
            made = self._evaluate(end, psi)
            if made.value <= here.value + 1e-4 * factor * slope + 1e-12 * (1.0 + abs(here.value)):
                return end, made
            factor *= 0.5 if tries < 4 else 0.1
        return None

    def _kept(self, end: Array, x: Array) -> Array:
        """The end of a step from x; the sds that a correlation is of keep a share, as they must be positive."""
        end[self.lengths] = np.maximum(end[self.lengths], KEPT * x[self.lengths])
        return end

    def _evaluate(self, x: Array, psi: float) -> Local:
        if self.evaluations >= self.most:
            raise _LostError
        self.evaluations += 1
        return self.held.at(x, psi)


def _spread(number: int, k: int) -> float:
    """Point `number` of a sequence that spreads evenly over (0, 1), one sequence for each k: those of `search`."""
    return float((0.5 + number * ROOTS[k]) % 1.0)


def _newton(g: Array, h: Array, pinned: Sequence[int]) -> tuple[Array, Array, tuple[float, Array]]:
    """Newton step of x and its tangent in psi, the last coordinate; the least eigenvalue over the largest, and its vector. Where
    the Hessian is indefinite its absolute eigenvalues count, and flat directions are left out of the tangent. Pinned coordinates
    stay."""
    if pinned:
        g, h = g.copy(), h.copy()
        g[pinned] = h[pinned, :] = h[:, pinned] = 0.0
        h[pinned, pinned] = np.abs(np.diag(h)[:-1]).max()
    values, vectors = np.linalg.eigh(h[:-1, :-1])
    largest = float(np.abs(values).max(initial=1e-300))
    down, along = vectors.T @ g[:-1], vectors.T @ h[:-1, -1]
    sizes = np.maximum(np.abs(values), FLAT * largest)
    bent = np.divide(along, values, out=np.zeros_like(along), where=values > SADDLE * largest)
    least = (float(values[0]) / largest, vectors[:, 0]) if len(values) else (0.0, np.zeros(0))
    return -vectors @ (down / sizes), -vectors @ bent, least
