"""Distributions of which mean and sd are stated apart from the shape: of predictors, and of errors and random effects.

Quantiles are those of the distribution with mean 0 and variance 1 at the probabilities of normal scores, x = F^-1(Phi(g)), of a
skewness > 0. Each keeps its relative precision in both tails, where probabilities near 1 have none: the upper half is always
solved by its survival function. SciPy is imported where quantiles are asked for: reading a study needs none.

A. Azzalini (1985), A class of distributions which includes the normal ones, Scand. J. Statist. 12 (skew-normal); J. W. Tukey
(1960), A survey of sampling from contaminated distributions (contaminated).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..model import NORMAL, Distribution, Predictor
from ..problems import Problems
from .distribution import Array, Given, Need, PredictorDistribution, number_text

__all__ = ["SCALED", "SHAPES", "SKEW_NORMAL_LIMIT", "read_shape", "scaled_text", "scaled_words"]

#: Keys of every distribution with a mean and an sd.
SCALED = ("mean", "sd", "redraw", "icc")
#: Skewness of the half-normal, which no skew-normal reaches (0.9953), and the most that a study may have.
SKEW_NORMAL_LIMIT = math.sqrt(2) * (4 - math.pi) / (math.pi - 2) ** 1.5
_MOST_SKEWED = 0.995

# -- in a study file -------------------------------------------------------------------------------------------------------


def read_shape(kind: str, given: Given) -> Distribution:
    """Return the distribution; what is normal in all but its name is normal: a skewness, a share of contamination of 0."""
    parameters = tuple((key, float(given[key])) for key in SHAPES[kind].keys if key not in SCALED)
    found = dict(parameters)
    if found.get("skewness") == 0 or found.get("share") == 0 or found.get("ratio") == 1:
        return NORMAL
    return Distribution(kind, parameters)


def scaled_words(p: Predictor) -> dict[str, Any]:
    return {"mean": float(p.mean), "sd": float(p.sd), "redraw": p.redraw, **dict(p.shape)}


def scaled_text(p: Predictor, title: str) -> str:
    shape = "".join(f", {name} {number_text(value)}" for name, value in p.shape)
    return f"is {title} (mean {number_text(p.mean)}, sd {number_text(p.sd)}{shape})"


def _check_t(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    if given["df"] <= 2:
        text = 'must be > 2 for distribution = "t", which else has no variance; write 3 or more, say'
        problems.add_number(f"{key}.df", given["df"], text)


def _check_skew_normal(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    if abs(given["skewness"]) > _MOST_SKEWED:
        text = f'must be within +-{_MOST_SKEWED} for distribution = "skew-normal"; lower it, or write distribution = "gamma"'
        problems.add_number(f"{key}.skewness", given["skewness"], text)


# -- quantiles -------------------------------------------------------------------------------------------------------------


def _uniform(_: Distribution, g: Array) -> Array:
    from scipy import special

    half: Array = math.sqrt(3) * special.erf(g / math.sqrt(2))
    return half


def _t(distribution: Distribution, g: Array) -> Array:
    """By the incomplete beta function: in the tails of df / (df + t^2), about 0 of its complement."""
    from scipy import special

    df = distribution["df"]
    tail = special.betaincinv(df / 2, 0.5, np.minimum(2 * special.ndtr(-np.abs(g)), 1.0))
    centre = special.betaincinv(0.5, df / 2, special.erf(np.abs(g) / math.sqrt(2)))
    with np.errstate(divide="ignore"):
        squared = np.where(np.abs(g) < 1, centre / (1 - centre), (1 - tail) / tail)
    value: Array = np.sign(g) * np.sqrt((df - 2) * squared)
    return value


def _gamma_of(shape: float, g: Array) -> Array:
    """Nearly normal ones by Cornish and Fisher's expansion, to 1e-9: SciPy's inverse is off by up to 1e-3 there."""
    from scipy import special

    if shape > 1e5:
        s = 2 / math.sqrt(shape)
        second, fourth = g**2 - 1, g**4 - 6 * g**2 + 3
        curved = s * second / 6 + s**2 * ((g**3 - 3 * g) / 16 - (2 * g**3 - 5 * g) / 36)
        near: Array = g + curved - s**3 * (0.15 * fourth + 1.25 * second) / 324
        return near
    low = special.gammaincinv(shape, special.ndtr(np.minimum(g, 0.0)))
    high = special.gammainccinv(shape, special.ndtr(-np.maximum(g, 0.0)))
    value: Array = (np.where(g < 0, low, high) - shape) / math.sqrt(shape)
    return value


def _gamma(distribution: Distribution, g: Array) -> Array:
    return _gamma_of(4 / distribution["skewness"] ** 2, g)


def _chi_square(distribution: Distribution, g: Array) -> Array:
    return _gamma_of(distribution["df"] / 2, g)


def _lognormal(distribution: Distribution, g: Array) -> Array:
    """exp(s g), with w = exp(s^2): its skewness is (w + 2) sqrt(w - 1), a cubic in sqrt(w - 1) with one real root."""
    half = distribution["skewness"] / 2
    # v = sqrt(w - 1) solves v^3 + 3 v = skewness
    v = 2 * math.sinh(math.asinh(half) / 3)
    s = math.sqrt(math.log1p(v * v))
    value: Array = np.expm1(s * g - s * s / 2) / v
    return value


def _skew_normal(distribution: Distribution, g: Array) -> Array:
    """2 phi(x) Phi(a x), a > 0, delta = a / sqrt(1 + a^2): mean delta sqrt(2 / pi), variance 1 - mean^2."""
    from scipy import special

    power = distribution["skewness"] ** (2 / 3)
    delta2 = math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))
    a = math.sqrt(delta2 / (1 - delta2))
    mean = math.sqrt(delta2 * 2 / math.pi)

    def log_density(x: Array) -> Array:
        value: Array = math.log(2 / math.sqrt(2 * math.pi)) - x * x / 2 + special.log_ndtr(a * x)
        return value

    def log_survival(x: Array) -> Array:
        value: Array = np.log(special.ndtr(-x) + 2 * special.owens_t(x, a))
        return value

    nodes, weights = np.polynomial.legendre.leggauss(48)

    def log_below(x: Array) -> Array:
        """Left of 0 the density's integral, as Phi(x) - 2 T(x, a) has no digits there; it falls by e^-45 over `reach`."""
        h = np.maximum(-x, 0.0)
        reach = np.sqrt(h * h + 90 / (1 + a * a)) - h
        total = np.zeros_like(x)
        for start in (0.0, 0.25):  # the first quarter holds nearly all
            width = 0.25 if start == 0.0 else 0.75
            for node, weight in zip(nodes, weights, strict=True):
                t = h + reach * (start + width * (node + 1) / 2)
                total += weight / 2 * width * reach * np.exp(log_density(-t) - log_density(-h))
        left = np.log(total) + log_density(-h)
        right = np.log(special.ndtr(x) - 2 * special.owens_t(x, a), out=np.zeros_like(x), where=x > 0)
        return np.where(x > 0, right, left)

    found = np.empty_like(g)
    upper = g > 0
    found[upper] = _solve(
        log_survival, lambda x: -np.exp(log_density(x) - log_survival(x)), special.log_ndtr(-g[upper])
    )
    lower = _solve(
        lambda x: log_below(-x), lambda x: -np.exp(log_density(-x) - log_below(-x)), special.log_ndtr(g[~upper])
    )
    found[~upper] = -lower
    return (found - mean) / math.sqrt(1 - mean * mean)


def _contaminated(distribution: Distribution, g: Array) -> Array:
    """Symmetric; both parts have mean 0, a share of them `ratio` times the sd of the others."""
    from scipy import special

    share, ratio = distribution["share"], distribution["ratio"]
    s = 1 / math.sqrt(1 - share + share * ratio**2)
    weights, sds = (1 - share, share), (s, s * ratio)

    def log_survival(x: Array) -> Array:
        parts = [math.log(w) + special.log_ndtr(-x / sd) for w, sd in zip(weights, sds, strict=True)]
        value: Array = np.logaddexp(*parts)
        return value

    def slope(x: Array) -> Array:
        parts = [math.log(w / sd) - (x / sd) ** 2 / 2 for w, sd in zip(weights, sds, strict=True)]
        value: Array = -np.exp(np.logaddexp(*parts) - math.log(math.sqrt(2 * math.pi)) - log_survival(x))
        return value

    value: Array = np.sign(g) * _solve(log_survival, slope, special.log_ndtr(-np.abs(g)), 12 * max(sds))
    return value


def _solve(f: Callable[[Array], Array], slope: Callable[[Array], Array], target: Array, reach: float = 12.0) -> Array:
    """x in -reach .. reach with f(x) = target, f decreasing: a coarse grid, then Newton steps within its bracket."""
    grid = np.linspace(-reach, reach, 2401)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = f(grid)
    values = np.where(np.isnan(values), -np.inf, values)
    place = np.clip(len(grid) - np.searchsorted(values[::-1], target, side="left"), 1, len(grid) - 1)
    low, high = grid[place - 1], grid[place]
    x = (low + high) / 2
    for _ in range(60):
        gap = f(x) - target
        low, high = np.where(gap > 0, x, low), np.where(gap > 0, high, x)
        step = x - gap / slope(x)
        moved = np.where((step >= low) & (step <= high), step, (low + high) / 2)
        if np.all(np.abs(moved - x) <= 1e-15 * np.maximum(1.0, np.abs(x))):
            return moved
        x = moved
    return x


# -- rows ------------------------------------------------------------------------------------------------------------------

_EXAMPLES = {"df": "5", "skewness": "0.8", "share": "0.1", "ratio": "3"}


def _row(
    name: str, parameters: tuple[str, ...], quantile: Callable[[Distribution, Array], Array] | None, **more: Any
) -> PredictorDistribution:
    title = more.get("title", name)

    def make(predictor: str, given: Given, clusters: int | None) -> Predictor:
        shape = read_shape(name, given)
        mean, sd = given.get("mean", 0.0), given.get("sd", 1.0)
        redraw, icc = given.get("redraw", True), given.get("icc") or 0.0
        return Predictor(predictor, given["level"], shape.kind, mean, sd, redraw, shape=shape.parameters, icc=icc)

    return PredictorDistribution(
        name=name,
        keys=(*SCALED, *parameters),
        needs=tuple(Need(key, f"{key} = {_EXAMPLES[key]}, say") for key in parameters),
        make=make,
        words=scaled_words,
        text=lambda p: scaled_text(p, title),
        standard=lambda p: Distribution(p.distribution, p.shape),
        quantile=quantile,
        **more,
    )


def _mean_exp(p: Predictor, rate: float) -> float:
    return math.exp(rate * p.mean + rate**2 * p.sd**2 / 2)


SHAPES = {
    row.name: row
    for row in (
        _row("normal", (), None, mean_exp=_mean_exp, first=True),
        _row("uniform", (), _uniform),
        _row("t", ("df",), _t, check=_check_t),
        _row("skew-normal", ("skewness",), _skew_normal, check=_check_skew_normal),
        _row("gamma", ("skewness",), _gamma, usual=("skewness",)),
        _row("lognormal", ("skewness",), _lognormal),
        _row("chi-square", ("df",), _chi_square),
        _row("contaminated", ("share", "ratio"), _contaminated, title="contaminated normal"),
    )
}
