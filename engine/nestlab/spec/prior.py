"""A prior instead of a number: what is not known of a value, as a distribution that each replicate draws it from.

    { distribution = "normal", mean = 0.4, sd = 0.1 }          low, high: cut off there; mean and sd are those before the cut
    { distribution = "uniform", low = 0, high = 0.2 }
    { distribution = "beta", mean = 0.1, sd = 0.05 }           on (0, 1)
    { distribution = "lognormal", mean = 1, sd = 0.3 }         mean and sd of the value itself, not of its logarithm
    { distribution = "pilot", estimate = 0.42, se = 0.11, df = 12.3 }

"pilot" is the sampling distribution of a pilot study's estimate turned round: of an effect, estimate + se t_df (without df:
normal); of a variance, df estimate / chi2_df, and of a standard deviation its root. These are posteriors under flat priors
(Gelman et al. 2013, Bayesian Data Analysis, sections 3.2 and 2.6: uniform on the effect and on the logarithm of the variance).

Values are drawn by inversion, so one uniform number gives one draw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .kinds import KeyTable, Number, either, key, read_table
from .problems import close_match, meant, nearest

__all__ = ["DISTRIBUTIONS", "Domain", "Prior", "PriorTable", "looks_like_prior", "read_prior"]

Array: TypeAlias = NDArray[np.float64]
Of: TypeAlias = Literal["effect", "variance", "sd", "share"]


class PriorTable(KeyTable):
    """In place of a number of the truth: a distribution that each replicate draws it from."""

    distribution: Literal["normal", "uniform", "beta", "lognormal", "pilot"] = key(
        "pilot: the sampling distribution of a pilot study's estimate", "normal", ..., axis=False
    )
    mean: Number | None = key("of normal (before any cut), beta and lognormal", 0.5, axis=False)
    sd: Number | None = key("of normal (before any cut), beta and lognormal", 0.1, axis=False)
    low: Number | None = key("the least value of uniform; where a normal is cut off", 0, axis=False)
    high: Number | None = key("the greatest value of uniform; where a normal is cut off", 1, axis=False)
    estimate: Number | None = key("pilot: the estimate", 0.42, axis=False)
    se: Number | None = key("pilot: its standard error, of an effect", 0.11, axis=False)
    df: Number | None = key("pilot: its degrees of freedom; normal where absent, of an effect", 12.3, axis=False)


#: Keys of each distribution: those that it needs, and those that it may have.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "normal": (("mean", "sd"), ("low", "high")),
    "uniform": (("low", "high"), ()),
    "beta": (("mean", "sd"), ()),
    "lognormal": (("mean", "sd"), ()),
    "pilot": (("estimate", "se"), ("df",)),
}
DISTRIBUTIONS = tuple(_KEYS)
_WORDS = frozenset(PriorTable.model_fields)
_EXAMPLE = '{ distribution = "normal", mean = 0.5, sd = 0.1 }'

#: The least that a cut normal may keep of its probability.
_LEAST_MASS = 1e-4
_TINY = np.finfo(float).tiny


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a number may have, low to high, whose ends a continuous prior may reach; of: what kind of number it is."""

    low: float
    high: float
    of: Of


@dataclass(frozen=True, slots=True)
class Prior:
    """A distribution of one value of the truth. Made by `read_prior`, which checks it.

    parameters: (key, number) in the order of the keys above; of: what it is a prior of.
    """

    distribution: str
    parameters: tuple[tuple[str, float], ...]
    of: Of

    def __str__(self) -> str:
        return self.text

    def get(self, key: str, default: float = math.nan) -> float:
        return dict(self.parameters).get(key, default)

    @property
    def text(self) -> str:
        """For people, exact: "beta(0.1, 0.05)", "normal(0.5, 0.2; from 0)", "pilot(0.42, 0.11, df 12.3)"."""
        numbers = {key: _number_text(value) for key, value in self.parameters}
        shown = [f"df {number}" if key == "df" else number for key, number in numbers.items()]
        cut = ""
        if self.distribution == "normal" and len(numbers) > 2:
            low, high = numbers.get("low"), numbers.get("high")
            cut = f"; {low} to {high}" if low and high else f"; from {low}" if low else f"; up to {high}"
            shown = shown[:2]
        return f"{self.distribution}({', '.join(shown)}{cut})"

    def table(self) -> dict[str, Any]:
        """As a study file has it."""
        return {"distribution": self.distribution, **dict(self.parameters)}

    @property
    def support(self) -> tuple[float, float]:
        """The least and the greatest value."""
        if self.distribution in ("normal", "uniform"):
            return self.get("low", -math.inf), self.get("high", math.inf)
        if self.distribution == "beta":
            return 0.0, 1.0
        return (-math.inf if self.distribution == "pilot" and self.of == "effect" else 0.0), math.inf

    @property
    def mean(self) -> float:
        """The expected value."""
        match self.distribution:
            case "normal":
                return self._cut_mean()
            case "uniform":
                return (self.get("low") + self.get("high")) / 2
            case "beta" | "lognormal":
                return self.get("mean")
        estimate, df = self.get("estimate"), self.get("df")
        if self.of == "effect":
            return estimate
        if self.of == "variance":
            return estimate * df / (df - 2)
        return estimate * math.sqrt(df / 2) * math.exp(math.lgamma((df - 1) / 2) - math.lgamma(df / 2))

    def _cut_mean(self) -> float:
        mean, sd = self.get("mean"), self.get("sd")
        if len(self.parameters) == 2:
            return mean
        from scipy.special import ndtr

        a, b = ((end - mean) / sd for end in self.support)
        if a > 0:  # in the upper tail digits are kept by its mirror image
            a, b, sd = -b, -a, -sd
        mass = float(ndtr(b) - ndtr(a))
        density = [math.exp(-0.5 * end * end) if math.isfinite(end) else 0.0 for end in (a, b)]
        return mean + sd * (density[0] - density[1]) / math.sqrt(2 * math.pi) / mass

    def quantile(self, u: Array) -> Array:
        """The values below which shares u of the distribution lie, u in (0, 1), any shape."""
        from scipy.special import betaincinv, chdtri, ndtri, stdtrit

        match self.distribution:
            case "normal":
                return self._cut_quantile(u)
            case "uniform":
                low, high = self.get("low"), self.get("high")
                return np.asarray(low + (high - low) * u)
            case "beta":
                mean, sd = self.get("mean"), self.get("sd")
                size = mean * (1 - mean) / (sd * sd) - 1
                # Strictly inside (0, 1), as the distribution is: what rounds to an end is next to it.
                return np.asarray(np.clip(betaincinv(mean * size, (1 - mean) * size, u), _TINY, 1 - 2.0**-53))
            case "lognormal":
                mean, sd = self.get("mean"), self.get("sd")
                spread = math.log1p((sd / mean) ** 2)
                return np.asarray(np.exp(math.log(mean) - spread / 2 + math.sqrt(spread) * ndtri(u)))
        estimate, df = self.get("estimate"), self.get("df", math.inf)
        if self.of == "effect":
            noise = ndtri(u) if math.isinf(df) else stdtrit(df, u)
            return np.asarray(estimate + self.get("se") * noise)
        ratio = df / chdtri(df, u)  # chdtri takes the upper tail: u small, chi-square large, value small
        return np.asarray(estimate * (ratio if self.of == "variance" else np.sqrt(ratio)))

    def _cut_quantile(self, u: Array) -> Array:
        from scipy.special import ndtr, ndtri

        mean, sd = self.get("mean"), self.get("sd")
        if len(self.parameters) == 2:
            return np.asarray(mean + sd * ndtri(u))
        a, b = ((end - mean) / sd for end in self.support)
        if a > 0:
            a, b, u, sd = -b, -a, 1 - u, -sd
        low, high = ndtr(a), ndtr(b)
        return np.asarray(np.clip(mean + sd * ndtri(low + u * (high - low)), *self.support))


def looks_like_prior(value: object) -> bool:
    """Whether a table means to be a prior: it has one of a prior's keys."""
    return isinstance(value, Mapping) and not _WORDS.isdisjoint(value)


def read_prior(raw: Mapping[str, Any], domain: Domain, allowed: str) -> Prior:
    """The prior that a table describes; allowed: the values of `domain` in words.

    ValueError with what is allowed and the repair.
    """
    distribution = raw.get("distribution")
    if not isinstance(distribution, str) or distribution not in _KEYS:
        words = either(DISTRIBUTIONS)
        guess = close_match(distribution, DISTRIBUTIONS) if isinstance(distribution, str) else None
        repair = meant(guess, str(distribution)) if guess else f"write a prior such as {_EXAMPLE}, or a number"
        raise ValueError(f"must be a number or a prior with distribution = {words}; {repair}")
    if distribution == "pilot" and domain.of == "share":
        raise ValueError(
            f'must be {allowed}, for which no "pilot" is known; use "beta", "uniform" or "normal" with low and high'
        )
    required, optional = _KEYS[distribution]
    if distribution == "pilot" and domain.of != "effect":
        required, optional = ("estimate", "df"), ()
    numbers = _numbers(raw, distribution, required, optional)
    prior = Prior(
        distribution, tuple((key, numbers[key]) for key in (*required, *optional) if key in numbers), domain.of
    )
    if problem := _problem(prior, numbers):
        raise ValueError(f"must be a prior {problem}")
    _check_support(prior, domain, allowed)
    return prior


def _numbers(
    raw: Mapping[str, Any], distribution: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, float]:
    known = (*required, *optional)
    for word in raw:
        if word != "distribution" and word not in known:
            repair = nearest(str(word), known)
            if distribution == "pilot" and word == "se":
                repair = "give df = 2 (estimate / se)^2 for it"
            names = f'"{distribution}", {", ".join(known)}'
            raise ValueError(f"must be a prior with the keys of {names}, and {word} is none; {repair}")
    table = read_table(PriorTable, raw, "a prior")
    numbers = {word: value + 0.0 for word in known if (value := getattr(table, word)) is not None}
    missing = [key for key in required if key not in numbers]
    if missing:
        raise ValueError(
            f'must be a prior with all keys of "{distribution}", {", ".join(required)}; add {missing[0]} = ...'
        )
    return numbers


def _problem(prior: Prior, numbers: Mapping[str, float]) -> str | None:
    """What a prior must be, and how to make it so; None if it is."""
    for word in ("sd", "se"):
        if word in numbers and numbers[word] <= 0:
            return f"with {word} > 0; write the number itself where nothing is uncertain"
    low, high = numbers.get("low", -math.inf), numbers.get("high", math.inf)
    if low >= high:
        return "with low < high; correct the two"
    mean, sd = numbers.get("mean", 0.0), numbers.get("sd", 0.0)
    if prior.distribution == "normal" and _mass(mean, sd, low, high) < _LEAST_MASS:
        return f"whose mean is not far outside low to high, which keep less than {_LEAST_MASS} of it; correct mean, low or high"
    if prior.distribution == "beta":
        if not 0 < mean < 1:
            return "with a mean between 0 and 1; correct it"
        most = math.sqrt(mean * (1 - mean))
        if sd >= most * (1 - 1e-9):  # there it is 0 or 1, not beta
            return f"with sd < sqrt(mean (1 - mean)), here {most:.4g}; lower sd"
    if prior.distribution == "lognormal" and mean <= 0:
        return 'with mean > 0; correct it, or use "normal"'
    if prior.distribution == "pilot":
        if prior.of != "effect" and numbers["estimate"] <= 0:
            return "with estimate > 0; write 0 itself, or a prior on it that is not the pilot's"
        if numbers.get("df", math.inf) <= 2:
            return 'with df > 2, below which it has no finite mean and spread; use "normal", "uniform" or "lognormal"'
    return None


def _mass(mean: float, sd: float, low: float, high: float) -> float:
    a, b = ((end - mean) / (sd * math.sqrt(2)) for end in (low, high))
    if a > 0:
        a, b = -b, -a
    return (math.erfc(-b) - math.erfc(-a)) / 2


def _check_support(prior: Prior, domain: Domain, allowed: str) -> None:
    low, high = prior.support
    crossed = [("below", "low", _number_text(domain.low))] if low < domain.low else []
    crossed += [("above", "high", _number_text(domain.high))] if high > domain.high else []
    if not crossed:
        return
    beyond, ends = [f"{where} {end}" for where, _, end in crossed], [f"{key} = {end}" for _, key, end in crossed]
    if prior.distribution == "normal":
        inside = '"lognormal"' if domain.high == math.inf else '"beta"'
        repair = f"add {' and '.join(ends)}, or use {inside}"
    elif prior.distribution == "uniform":
        repair = f"write {' and '.join(ends)}"
    else:
        repair = 'use "beta", or "uniform"'
    raise ValueError(f"must be {allowed} wherever the prior reaches, and it reaches {' and '.join(beyond)}; {repair}")


def _number_text(value: float) -> str:
    return json.dumps(int(value) if value.is_integer() and abs(value) < 1e15 else value)
