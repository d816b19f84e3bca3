"""What each replicate does to a measure: the measures of `measures.py` once more, as values with empirical influences.

A smooth functional T of N replicates moves by psi_i / N with the weight of replicate i, so that the MCSE of T is
sqrt(sum psi_i^2 / (N (N - 1))) (Efron and Stein 1981, Ann Stat 9:586; Hampel 1974, JASA 69:383), and that of a difference of two
functionals of the same replicates has psi_i - psi'_i in their place (`paired.py`). Of a share of hits psi_i is hit_i - share; of
s^2 the jackknife's; of a ratio the delta method's; of the median sign(x_i - median) times the slope that gives Price and Bonett's
standard error, which stands for 1 / (2 density).

MCSEs by these influences are those of `measures.py` (distribution-free), digit for digit; only of shares they are
sqrt(N / (N - 1)) times as large, of type_s, k rejections, too, and of type_m sqrt((k - 1) N / (k (N - 1))) times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .intervals import wilson
from .measures import Sample, median_measure, standard_error

__all__ = ["Functional", "of_errors", "of_estimates", "of_intervals", "of_precision", "of_rejections", "share"]

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
NAN = math.nan


class Functional(NamedTuple):
    """A measure of N replicates: value, influence psi (N,); of a share of them all, hits (N,); of one of some, its limits."""

    measure: str
    value: float
    influence: Array
    hits: Mask | None = None
    limits: tuple[float, float] | None = None

    @property
    def mcse(self) -> float:
        """As in `measures.py`: of a share sqrt(c (1 - c)/N), else by the influence; nan where undetermined."""
        if self.hits is None:
            return standard_error(self.influence)
        n = self.hits.size
        return math.sqrt(self.value * (1 - self.value) / n) if n else NAN


def share(measure: str, hits: Mask) -> Functional:
    """The share of N replicates that are hits."""
    value = int(np.count_nonzero(hits)) / hits.size if hits.size else NAN
    return Functional(measure, value, hits.astype(np.float64) - value, hits)


def of_estimates(x: Array, truth: float | Array) -> Iterator[Functional]:
    """mean, median, empse; bias, relbias, mse, rmse where the truth is finite; as `measures.estimate_measures`."""
    sample, median = Sample.of(x), median_measure(x)
    yield Functional("mean", sample.mean, sample.deviation)
    side = np.sign(x - median.value)
    counted = int(np.count_nonzero(side))
    slope = median.mcse * math.sqrt(x.size * (x.size - 1) / counted) if counted else 0.0
    yield Functional("median", median.value, side * slope)
    own = isinstance(truth, np.ndarray)
    error = x - truth
    spread = Sample.of(error) if own else sample
    empse = math.sqrt(spread.variance)
    yield Functional("empse", empse, _over(spread.variance_influence(), 2 * empse))
    if not own and not math.isfinite(truth):
        return
    if isinstance(truth, np.ndarray):
        yield Functional("bias", spread.mean, spread.deviation)
        true = Sample.of(truth)
        ratio, influence = _ratio(spread, true)
        if true.n and true.mean != 0:
            yield Functional("relbias", 100 * ratio, 100 * influence)
    else:
        yield Functional("bias", sample.mean - truth, sample.deviation)
        if truth != 0:
            yield Functional("relbias", 100 * (sample.mean - truth) / truth, 100 / truth * sample.deviation)
    square = Sample.of(error * error)
    rmse = math.sqrt(square.mean)
    yield Functional("mse", square.mean, square.deviation)
    yield Functional("rmse", rmse, _over(square.deviation, 2 * rmse))


def of_errors(x: Array, se: Array) -> Iterator[Functional]:
    """modelse and relerror; as `measures.error_measures`."""
    sample, square = Sample.of(x), Sample.of(se * se)
    modelse, empse = math.sqrt(square.mean), math.sqrt(sample.variance)
    yield Functional("modelse", modelse, _over(square.deviation, 2 * modelse))
    ratio = modelse / empse if empse > 0 else NAN
    influence = _over(square.deviation, 2 * square.mean) - _over(sample.variance_influence(), 2 * sample.variance)
    yield Functional("relerror", 100 * (ratio - 1), 100 * ratio * influence)


def of_intervals(x: Array, ends: tuple[Array, Array] | None, half: Array | None, truth: float) -> Iterator[Functional]:
    """becover, width; cover, below, above where the truth is finite, of intervals x -+ half, or with these ends.

    As `measures.interval_measures` and `end_measures`.
    """
    mean, error = Sample.of(x).mean, x - truth
    if ends is not None:
        lower, upper = ends
        becover, below, above = (lower <= mean) & (mean <= upper), upper < truth, lower > truth
        width = Sample.of(upper - lower)
    else:
        assert half is not None
        becover, below, above = np.abs(Sample.of(x).deviation) <= half, -error > half, error > half
        width = Sample.of(2 * half)
    yield share("becover", becover)
    if math.isfinite(truth):
        yield from (share("cover", ~(below | above)), share("below", below), share("above", above))
    yield Functional("width", width.mean, width.deviation)


def of_rejections(rejects: Mask, x: Array | None, truth: float | Array, null: float) -> Iterator[Functional]:
    """power; type_s and type_m of the method's own rejections, ratios of means over all N; as `measures.rejection_measures`."""
    yield share("power", rejects)
    own = isinstance(truth, np.ndarray)
    if x is None or not (own or (math.isfinite(truth) and truth != null)):
        return
    effect = np.broadcast_to(np.asarray(truth - null), x.shape)
    kept = rejects & np.isfinite(x) & np.isfinite(effect)
    wrong = kept & ((x - null) * effect < 0)
    k, s = int(np.count_nonzero(kept)), int(np.count_nonzero(wrong))
    ratio, influence = _ratio(Sample.of(wrong.astype(np.float64)), Sample.of(kept.astype(np.float64)))
    limits = wilson(s, k)
    yield Functional("type_s", ratio, influence, limits=(float(limits[0]), float(limits[1])))
    found, true = (np.where(kept, np.abs(values), 0.0) for values in (x - null, effect))
    ratio, influence = _ratio(Sample.of(found), Sample.of(true))
    yield Functional("type_m", ratio, influence if k > 1 else np.full(x.size, NAN))


def of_precision(x: Array, reference: Array) -> tuple[Functional, Functional]:
    """relprec of x and, 0, of the reference itself; their influences differ by that of `measures.relative_precision`."""
    a, b = Sample.of(reference), Sample.of(x)
    ratio = a.variance / b.variance if b.variance > 0 else NAN
    mine, theirs = (100 * _over(s.variance_influence(), b.variance) for s in (a, b))
    return Functional("relprec", 100 * (ratio - 1), mine), Functional("relprec", 0.0, ratio * theirs)


def _ratio(above: Sample, below: Sample) -> tuple[float, Array]:
    """The ratio of two means, with its influence; nan where the lower one is 0."""
    if not below.n or below.mean == 0:
        return NAN, np.full(below.n, NAN)
    ratio = above.mean / below.mean
    return ratio, (above.deviation - ratio * below.deviation) / below.mean


def _over(values: Array, scale: float) -> Array:
    return values / scale if scale > 0 else np.full(values.shape, NAN)
