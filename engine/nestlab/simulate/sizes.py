"""Cluster sizes that are drawn: from a distribution with a stated mean and coefficient of variation, or from a file's values.

A size is a whole number, so a distribution of sizes is a table: sizes and their probabilities. The continuous ones (uniform,
lognormal) are rounded, and their parameters are such that the rounded sizes have the stated mean and coefficient of variation.
`minimum` comes after that: sizes below it are raised to it, which raises the mean and lowers the coefficient of variation
(`size_moments` gives both as they become): a negative binomial of mean 10 and cv 0.8 with minimum 2 has 10.11 and 0.78, a
Poisson of mean 3 with minimum 1 has 3.05 and 0.54 instead of 0.58.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import optimize, special

from ..spec.identity import sizes_key
from ..spec.model import Condition, Layout, Sizes
from ..spec.problems import StudyError
from .deviates import standard_normal
from .distributions import score_thresholds
from .lookup import step
from .streams import fixed_generator

__all__ = ["draw_sizes", "drawn_once", "drawn_sizes", "fixed_sizes", "size_distribution", "size_moments"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
#: Probability of the sizes that a table leaves out, at either end; the score of such a lognormal size; the greatest size.
RARE, RARE_SCORE, LARGEST = 1e-13, 7.3, 5_000_000


def draw_sizes(layout: Layout, fixed: Integers, generator: Generator, replicates: int) -> Integers:
    """(J, R): sizes of every cluster and replicate; those that are not redrawn repeat `fixed` (J).

    Draws a standard normal deviate a cluster and replicate, of the arms that are redrawn only.
    """
    drawn = np.repeat(fixed[:, None], replicates, axis=1)
    first = 0
    for clusters, sizes in layout.drawn:
        if sizes is not None and sizes.redraw:
            drawn[first : first + clusters] = drawn_sizes(sizes, generator, (clusters, replicates))
        first += clusters
    return drawn


def fixed_sizes(condition: Condition) -> Integers:
    """(J): the layout's sizes, with those of arms that are drawn once, from a stream that seed, arm and distribution name.

    With more clusters the first ones keep their sizes, so that a curve over clusters is one of designs that grow.
    """
    found = np.array(condition.layout.sizes, dtype=np.int64)
    first = 0
    for arm, (clusters, sizes) in enumerate(condition.layout.drawn):
        if sizes is not None and not sizes.redraw:
            generator = fixed_generator(condition.seed, sizes_key(condition, arm))
            found[first : first + clusters] = drawn_sizes(sizes, generator, (clusters,))
        first += clusters
    return found


def drawn_once(sizes: Sizes, seed: int, key: str, n: int) -> Integers:
    """(n): sizes from a stream of their own; more of them are those before, and others."""
    return drawn_sizes(sizes, fixed_generator(seed, key), (n,))


def drawn_sizes(sizes: Sizes, generator: Generator, shape: tuple[int, ...]) -> Integers:
    """Sizes by one standard normal deviate each."""
    values, probabilities = size_distribution(sizes)
    scores = standard_normal(generator, shape)
    step(score_thresholds(probabilities), values.astype(float), scores.reshape(-1), scores.reshape(-1))
    return scores.astype(np.int64)


def size_moments(sizes: Sizes) -> tuple[float, float]:
    """Mean and coefficient of variation of the sizes, after `minimum`."""
    values, probabilities = size_distribution(sizes)
    mean = float(values @ probabilities)
    return mean, math.sqrt(max(0.0, float((values - mean) ** 2 @ probabilities))) / mean


@lru_cache(maxsize=256)
def size_distribution(sizes: Sizes, path: str = "design.cluster_size") -> tuple[Integers, Array]:
    """Sizes in ascending order and their probabilities, with `minimum`. path: the key of the sizes.

    Raises StudyError for a mean and coefficient of variation that the distribution can't have.
    """
    made = {
        "poisson": _poisson,
        "negative-binomial": _negative_binomial,
        "uniform": _uniform,
        "lognormal": _lognormal,
        "empirical": _empirical,
    }[sizes.kind]
    try:
        values, probabilities = made(sizes)
    except _ImpossibleSizesError as impossible:
        raise StudyError([impossible.line(path)]) from None
    values, place = np.unique(np.maximum(values, sizes.minimum), return_inverse=True)
    return values, np.bincount(place, weights=probabilities / probabilities.sum()).astype(float)


def _empirical(sizes: Sizes) -> tuple[Integers, Array]:
    values, counts = np.unique(np.array(sizes.values, dtype=np.int64), return_counts=True)
    return values, counts / counts.sum()


def _poisson(sizes: Sizes) -> tuple[Integers, Array]:
    k = np.arange(int(sizes.mean + 12 * math.sqrt(sizes.mean) + 40))
    return _cut(k, np.exp(special.xlogy(k, sizes.mean) - sizes.mean - special.gammaln(k + 1)))


def _negative_binomial(sizes: Sizes) -> tuple[Integers, Array]:
    """Gamma mixture of Poissons: variance mean + mean^2 / n."""
    mean, variance = sizes.mean, (sizes.cv * sizes.mean) ** 2
    if variance <= mean:
        raise _ImpossibleSizesError(
            sizes, f"greater than 1 / sqrt(mean) = {1 / math.sqrt(mean):.3g}", 'distribution = "poisson"'
        )
    n = mean * mean / (variance - mean)
    # the tail falls by log(1 + n / mean) a unit, at most
    k = np.arange(int(mean + 12 * math.sqrt(variance) + 60 / math.log1p(n / mean)))
    log_p = special.gammaln(k + n) - special.gammaln(n) - special.gammaln(k + 1)
    return _cut(k, np.exp(log_p + n * math.log(n / (n + mean)) + k * math.log(mean / (n + mean))))


def _cut(k: Integers, p: Array) -> tuple[Integers, Array]:
    kept = (np.cumsum(p) > RARE) & (np.cumsum(p[::-1])[::-1] > RARE)
    return k[kept], p[kept]


def _uniform(sizes: Sizes) -> tuple[Integers, Array]:
    if sizes.cv * math.sqrt(3) > 1:
        raise _ImpossibleSizesError(
            sizes, "at most 0.577, beyond which sizes are negative", 'distribution = "negative-binomial"'
        )

    def below(limit: Array, mean: float, sd: float) -> Array:
        found: Array = np.clip((limit - mean) / (math.sqrt(12) * sd) + 0.5, 0.0, 1.0)
        return found

    return _rounded(sizes, below, lambda mean, sd: mean + 2 * sd + 2)


def _lognormal(sizes: Sizes) -> tuple[Integers, Array]:
    def log_sd(mean: float, sd: float) -> float:
        return math.sqrt(math.log1p((sd / mean) ** 2))

    def below(limit: Array, mean: float, sd: float) -> Array:
        s = log_sd(mean, sd)
        found: Array = special.ndtr((np.log(np.maximum(limit, 1e-300) / mean) + s * s / 2) / s)
        return found

    return _rounded(sizes, below, lambda mean, sd: mean * math.exp(RARE_SCORE * log_sd(mean, sd)) + 2)


def _rounded(
    sizes: Sizes, below: Callable[[Array, float, float], Array], most: Callable[[float, float], float]
) -> tuple[Integers, Array]:
    """A continuous distribution, rounded to whole numbers, whose mean and sd then are the stated ones.

    below: its distribution function given mean and sd; most: a size that it hardly ever exceeds.
    """
    mean, sd = sizes.mean, sizes.cv * sizes.mean
    part = mean - math.floor(mean)
    least = math.sqrt(part * (1 - part))
    if sd == 0.0 and part == 0.0:
        return np.array([round(mean)], dtype=np.int64), np.array([1.0])

    def table(m: float, s: float) -> tuple[Integers, Array]:
        k = np.arange(int(most(m, s)) + 1)
        ends = np.concatenate([[0.0], below(np.asarray(k + 0.5, dtype=float), m, s)])
        ends[-1] = 1.0
        return k, np.diff(ends)

    def gaps(at: NDArray[Any]) -> Array:
        k, p = table(*np.exp(np.clip(at, start - 1, start + 1)).tolist())
        found = float(k @ p)
        return np.array([found / mean - 1, float((k - found) ** 2 @ p) / sd**2 - 1])

    if most(mean, sd) > LARGEST:
        raise _ImpossibleSizesError(
            sizes, f"so small that sizes above {LARGEST:,} are hardly ever drawn", "a smaller mean"
        )
    for guess in (math.sqrt(max(sd * sd - 1 / 12, 0.01)), sd, 0.25, 0.35) if sd > least else ():
        start = np.log([mean, guess])
        exact = np.abs(gaps(start)).max() < 1e-9  # Sheppard's correction is, where the density is smooth
        at = start if exact else optimize.root(gaps, start, options={"xtol": 1e-13}).x
        if np.abs(gaps(at)).max() < 1e-9:
            k, p = table(*np.exp(at).tolist())
            return k[p > 0], p[p > 0]
    allowed = f"greater than about {max(least, 0.2) / mean:.2g}, as sizes are whole numbers"
    raise _ImpossibleSizesError(sizes, allowed, "")


class _ImpossibleSizesError(Exception):
    """A mean and coefficient of variation that a distribution can't have."""

    def __init__(self, sizes: Sizes, allowed: str, repair: str) -> None:
        super().__init__(allowed)
        self.sizes, self.allowed, self.repair = sizes, allowed, repair

    def line(self, path: str) -> str:
        """What is told of it."""
        sizes, repair = self.sizes, self.repair or f"{path.rpartition('.')[2]} = a list"
        return (
            f'{path}.cv = {sizes.cv:g}: must be {self.allowed}, for distribution = "{sizes.kind}" and mean = {sizes.mean:g}; '
            f"write such a cv, or {repair}"
        )
