"""Beta predictors: shares and rates, between 0 and 1.

With n = mean (1 - mean) / sd^2 - 1 the parameters are a = n mean and b = n (1 - mean). Where one is below 1 the density has a
peak at that end, where both are it is U-shaped; near a = b = 0 nearly all values are 0 or 1.
"""

from __future__ import annotations

import math

import numpy as np

from ..model import Distribution, Predictor
from ..problems import Problems
from .distribution import Array, Given, Need, PredictorDistribution
from .scaled import SCALED, scaled_text, scaled_words

__all__ = ["BETA"]

#: The least and the greatest sd as shares of sqrt(mean (1 - mean)): the table of quantiles then is within 4e-6 of them for means
#: from 1e-4 on (1e-7 for means from 0.1 to 0.9), and moments within 5e-12. Beyond, the quantile is a step, or takes minutes.
_LEAST, _MOST = 0.001, 0.98


def _check(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    mean, sd = given["mean"], given["sd"]
    if not 0 < mean < 1:
        text = 'must be between 0 and 1, neither included, for distribution = "beta"; write a mean such as 0.3'
        problems.add_number(f"{key}.mean", mean, text)
        return
    whole = math.sqrt(mean * (1 - mean))
    if not _LEAST * whole <= sd <= _MOST * whole:
        low, high = (float(f"{end * whole:.3g}") for end in (1.01 * _LEAST, 0.99 * _MOST))
        other = "binary" if sd > _MOST * whole else "normal"
        text = (
            f'must be from {low:g} to {high:g} for distribution = "beta" with mean = {mean:g}; correct it, or write '
            f'distribution = "{other}"'
        )
        problems.add_number(f"{key}.sd", sd, text)


def _make(name: str, given: Given, clusters: int | None) -> Predictor:
    redraw, icc = given.get("redraw", True), given.get("icc") or 0.0
    return Predictor(name, given["level"], "beta", given["mean"], given["sd"], redraw, icc=icc)


def _parameters(mean: float, sd: float) -> tuple[float, float]:
    n = mean * (1 - mean) / sd**2 - 1
    return n * mean, n * (1 - mean)


def _quantile(distribution: Distribution, g: Array) -> Array:
    """F^-1(Phi(g)) of (x - mean) / sd; the upper half by the survival function."""
    from scipy import special

    mean, sd = distribution["mean"], distribution["sd"]
    a, b = _parameters(mean, sd)
    low = special.betaincinv(a, b, special.ndtr(np.minimum(g, 0.0)))
    high = special.betainccinv(a, b, special.ndtr(-np.maximum(g, 0.0)))
    value: Array = (np.where(g < 0, low, high) - mean) / sd
    return value


def _mean_exp(p: Predictor, rate: float) -> float:
    from scipy import special

    a, b = _parameters(p.mean, p.sd)
    return float(special.hyp1f1(a, a + b, rate))


BETA = PredictorDistribution(
    name="beta",
    keys=SCALED,
    needs=(Need("mean", "mean = 0.3, say"), Need("sd", "sd = 0.1, say")),
    check=_check,
    make=_make,
    words=scaled_words,
    text=lambda p: scaled_text(p, "beta"),
    standard=lambda p: Distribution("beta", (("mean", float(p.mean)), ("sd", float(p.sd)))),
    quantile=_quantile,
    bounds=(0.0, 1.0),
    mean_exp=_mean_exp,
)
