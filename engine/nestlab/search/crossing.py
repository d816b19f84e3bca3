"""Where a curve of measures reaches a target, with an interval for the place.

Designs x_i (clusters, rows of a cluster, an effect, an icc) were tried by simulation: values v_i with Monte Carlo standard
errors. On a scale y on which the curve is nearly straight (the probit of a proportion, the logarithm of a width), against an
axis h (the root or the logarithm of x, or x), a parabola about the place where it reaches the target y*,

    y - y* = a + b d + c d^2,   d = h - h0,

is fitted by weighted least squares to the designs near the target: precisions of the values times tricube weights of the
distance from y* (Cleveland 1979, J Am Stat Assoc 74:829), with a normal prior of mean 0 for c, so that few designs are enough.
The interval holds the x about h0 at which the curve's distance from y* is within 1.96 of its standard errors (Fieller 1954, J R
Stat Soc B 16:175); designs that scatter more than their errors say make it wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BANDWIDTH",
    "Crossing",
    "Kind",
    "Scale",
    "Tried",
    "cross",
    "from_axis",
    "link_of",
    "monotone",
    "to_axis",
    "to_link",
]

Array: TypeAlias = NDArray[np.float64]
#: Of a measure: a proportion is fitted by its probit, a positive one by its logarithm.
Kind: TypeAlias = Literal["proportion", "positive", "real"]
#: Of the axis.
Scale: TypeAlias = Literal["sqrt", "log", "linear"]

#: Distance from the target at which designs no longer count, and the curvature's prior standard deviation, on the link's scale;
#: of a real measure in units of the target.
BANDWIDTH = {"proportion": 0.9, "positive": 0.5, "real": 1.0}
CURVATURE = {"proportion": 0.2, "positive": 0.4, "real": 0.4}
LIMITS = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Tried:
    """One design: its place on the axis, the measure's value there, its MCSE and the replicates behind it."""

    x: float
    value: float
    mcse: float
    n: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the curve reaches the target: x, and its 95 % limits (infinite where the designs do not determine one).

    slope: of the link's y by the axis' h, at x; positive where the measure rises with x.
    """

    x: float
    lower: float
    upper: float
    slope: float


def to_axis(x: ArrayLike, scale: Scale) -> Array:
    """An axis as it enters the curve; x >= 0 for "sqrt", > 0 for "log"."""
    x = np.asarray(x, dtype=np.float64)
    return np.sqrt(x) if scale == "sqrt" else np.log(x) if scale == "log" else x


def from_axis(h: ArrayLike, scale: Scale) -> Array:
    """The inverse of `to_axis`; below the root of 0 it is 0."""
    h = np.asarray(h, dtype=np.float64)
    return np.maximum(h, 0.0) ** 2 if scale == "sqrt" else np.exp(h) if scale == "log" else h


def to_link(tried: Sequence[Tried], kind: Kind) -> tuple[Array, Array]:
    """Values on the link's scale and their standard errors; a proportion counts half a success and half a failure more."""
    value, mcse, n = (np.array([getattr(t, name) for t in tried], dtype=np.float64) for name in ("value", "mcse", "n"))
    if kind == "proportion":
        p = (value * n + 0.5) / (n + 1)
        y = scipy.special.ndtri(p)
        return y, np.sqrt(p * (1 - p) / n) * math.sqrt(2 * math.pi) * np.exp(0.5 * y * y)
    if kind == "positive":
        return np.log(value), mcse / value
    return value, mcse


def link_of(target: float, kind: Kind) -> float:
    """The target on the link's scale."""
    if kind == "proportion":
        return float(scipy.special.ndtri(target))
    return math.log(target) if kind == "positive" else target


def cross(tried: Sequence[Tried], target: float, *, kind: Kind, scale: Scale) -> Crossing | None:
    """Where the curve through the designs reaches the target; None if they do not say: fewer than two, or no slope.

    It may lie outside the designs: there the line through the nearest of them leads to it.
    """
    known = [
        t for t in tried if math.isfinite(t.value) and t.n > 1 and t.mcse >= 0 and (kind != "positive" or t.value > 0)
    ]
    if len({t.x for t in known}) < 2:
        return None
    h, (y, se) = to_axis([t.x for t in known], scale), to_link(known, kind)
    gap, precision = y - link_of(target, kind), 1 / np.maximum(se, 1e-12) ** 2
    unit = abs(target) if kind == "real" else 1.0
    fit = _start(h, gap, precision)
    for _ in range(20):  # weights depend on the curve, and the curve on them
        if fit is None:
            return None
        before, fit = fit, _parabola(h, gap, precision, fit, BANDWIDTH[kind] * unit, CURVATURE[kind] / unit)
        if fit is not None and abs(fit.place - before.place) <= 1e-9 * (1 + abs(fit.place)):
            break
    if fit is None:
        return None
    lower, upper = _limits(fit, float(np.ptp(h)))
    x, low, high = (float(v) for v in from_axis([fit.place, max(lower, -700), min(upper, 700)], scale))
    return Crossing(
        x, low if math.isfinite(lower) else -math.inf, high if math.isfinite(upper) else math.inf, fit.slope
    )


class _Curve(NamedTuple):
    """y - y* = a + b d + c d^2 about `place`: the coefficients and their covariance, once fitted; a = 0 at the root."""

    place: float
    slope: float
    curvature: float = 0.0
    covariance: Array | None = None
    at: float = 0.0  # where d is 0 for the covariance

    def gap(self, h: Array) -> Array:
        d = h - self.place
        return np.asarray(self.slope * d + self.curvature * d * d)


def _start(h: Array, gap: Array, precision: Array) -> _Curve | None:
    """The place on the straight line between the monotone curve's neighbours of the target, else on one through all designs."""
    weights = np.minimum(precision, np.median(precision) * 4) * _tricube(gap / 6)
    if not (weights > 0).any():
        weights = precision
    centre = np.average(h, weights=weights)
    spread = np.average((h - centre) ** 2, weights=weights)
    if spread == 0:
        return None
    level = np.average(gap, weights=weights)
    slope = float(np.average((h - centre) * (gap - level), weights=weights) / spread)
    if slope == 0:
        return None
    places, curve = _isotonic(h, gap, precision, rising=slope > 0)
    signs = np.flatnonzero(np.diff(np.sign(curve)) != 0)
    if not len(signs):
        return _Curve(float(centre - level / slope), slope)
    k = int(signs[0])
    steep = float((curve[k + 1] - curve[k]) / (places[k + 1] - places[k]))
    return _Curve(float(places[k] - curve[k] / steep), steep)


def _parabola(h: Array, gap: Array, precision: Array, fit: _Curve, bandwidth: float, curvature: float) -> _Curve | None:
    """One weighted fit about the last one's place; None where the designs near the target show no slope."""
    # a parabola comes back to the target beyond its turn, its tangent does not
    distance = np.maximum(np.abs(fit.gap(h)), np.abs(fit.slope * (h - fit.place)))
    least = np.unique(distance)[: max(2, min(3, len(np.unique(h))))][-1]  # at least two places, three where there are
    near = _tricube(distance / max(bandwidth, 1.5 * float(least)))
    d = h - fit.place
    X = np.column_stack([np.ones_like(d), d, d * d])
    w = precision * near
    A = X.T @ (w[:, None] * X)
    A[2, 2] += 1 / max(curvature * fit.slope**2, 1e-300) ** 2
    try:
        V = np.asarray(np.linalg.inv(A), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    a, b, c = (float(v) for v in V @ (X.T @ (w * gap)))
    free = near.sum() - 2
    if free > 1:
        scatter = float(np.sum(w * (gap - X @ np.array([a, b, c])) ** 2)) / free
        V = np.asarray(V * max(1.0, scatter), dtype=np.float64)
    if b == 0 or not np.isfinite([a, b, c]).all() or (b > 0) != (fit.slope > 0):
        return None
    inside = b * b - 4 * a * c
    step = -2 * a / (b + math.copysign(math.sqrt(inside), b)) if inside > 0 else -a / b
    return _Curve(fit.place + step, b + 2 * c * step, c, V, fit.place)


def _limits(fit: _Curve, span: float) -> tuple[float, float]:
    """Where the curve leaves the band of its own standard errors, on both sides of its root."""
    assert fit.covariance is not None
    ends = []
    for side in (-1.0, 1.0):
        h = fit.place + side * np.geomspace(1e-7, 4.0, 4000) * max(span, abs(fit.place) * 1e-3, 1e-9)
        d = h - fit.at
        X = np.column_stack([np.ones_like(d), d, d * d])
        se = np.sqrt(np.einsum("ij,jk,ik->i", X, fit.covariance, X))
        outside = np.abs(fit.gap(h)) > LIMITS * se
        ends.append(float(h[np.argmax(outside)]) if outside.any() else side * math.inf)
    return ends[0], ends[1]


def monotone(tried: Sequence[Tried], *, kind: Kind, scale: Scale) -> tuple[Array, Array]:
    """The monotone curve through the designs: places x in order, and values; pooled adjacent violators, weighted by precision.

    Rising or falling as the designs do on the whole (Barlow et al. 1972, Statistical Inference under Order Restrictions).
    """
    known = [t for t in tried if math.isfinite(t.value)]
    h, (y, se) = to_axis([t.x for t in known], scale), to_link(known, kind)
    precision = 1 / np.maximum(se, 1e-12) ** 2
    centre = np.average(h, weights=precision)
    rising = bool(np.sum(precision * (h - centre) * y) >= 0)
    places, curve = _isotonic(h, y, precision, rising=rising)
    values = scipy.special.ndtr(curve) if kind == "proportion" else np.exp(curve) if kind == "positive" else curve
    return from_axis(places, scale), np.asarray(values)


def _isotonic(h: Array, y: Array, weights: Array, *, rising: bool) -> tuple[Array, Array]:
    order = np.argsort(h, kind="stable")
    fitted = scipy.optimize.isotonic_regression(y[order], weights=weights[order], increasing=rising)
    return h[order], np.asarray(fitted.x)


def _tricube(t: Array) -> Array:
    return np.asarray(np.clip(1 - np.abs(t) ** 3, 0.0, None) ** 3)
