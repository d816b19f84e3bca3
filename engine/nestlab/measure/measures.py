"""The measures of one column of results, each with its Monte Carlo standard error (MCSE).

N replicates give estimates x_i and standard errors se_i of one estimand of truth theta. Their mean is m, deviations are
d_i = x_i - m, the variance is s^2 = sum d_i^2 / (N - 1). Every function takes the replicates that have a result, and
returns what they say.

The MCSE of a measure T is sqrt(sum psi_i^2 / (N (N - 1))), psi_i the empirical influence of replicate i on T: no
distribution is assumed, and what one replicate does to two columns (a large estimate with a large standard error, two
methods on the same data) is in psi_i. For averages this is Table 6 of Morris, White and Crowther (2019, Stat Med
38:2074). For s^2 the influence is the jackknife's own, psi_i = N/(N - 2) (d_i^2 - mean d^2), so that

    MCSE(empse) = empse/2 sqrt((N - 1) (kurtosis - 1)) / (N - 2),    kurtosis = mean d^4 / (mean d^2)^2.

In expectation it is never too small for s^2 (Efron and Stein 1981, Ann Stat 9:586); under normality the ratio of its
expected square to the true variance of s^2 is (N - 1)/(N - 2). Table 6 has empse/sqrt(2 (N - 1)), right for a
kurtosis of 3 only: 1.4 times too small for a variance component of kurtosis 5. Few replicates do not show their
tails: for that component the MCSE of empse is right within 3 % at N = 500, 5 to 10 % too small at N = 50. Proportions
have sqrt(c (1 - c)/N), which is 0 at 0 and 1: read Wilson's limits beside it.

A value that the replicates do not determine is nan, never a guess: an average needs N >= 1 and its MCSE 2, empse
needs 2 and its MCSE 3 (2 in Table 6), the MCSE of a median needs 3; a ratio whose denominator is 0 (constant
estimates) is nan, as is anything that overflows. Estimates of any unit; relbias, relerror and relprec are
percentages, proportions lie in [0, 1], type_m is a ratio.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = [
    "Mcse",
    "Measured",
    "Sample",
    "end_measures",
    "error_measures",
    "estimate_measures",
    "interval_measures",
    "median_measure",
    "of_counts",
    "proportion",
    "rejection_measures",
    "relative_precision",
    "standard_error",
]

Array: TypeAlias = NDArray[np.float64]
Mcse: TypeAlias = Literal["distribution-free", "morris"]
NAN = math.nan


class Measured(NamedTuple):
    """One measure: value, MCSE (both nan where undetermined), replicates used, and the count behind a proportion."""

    measure: str
    value: float
    mcse: float
    n: int
    successes: float = NAN


def estimate_measures(x: Array, truth: float | Array, *, mcse: Mcse) -> list[Measured]:
    """mean, median, empse of N estimates; bias, relbias, mse, rmse where the truth is finite.

    relbias = 100 bias/truth, absent at truth 0. Morris et al. (2019), Table 6; relbias and rmse by the delta method. Where each
    replicate has a truth of its own (N,), finite, bias and empse are those of the errors x - truth, relbias is in percent of
    the mean truth.
    """
    sample = Sample.of(x)
    n, mean_mcse = sample.n, standard_error(sample.deviation)
    measures = [Measured("mean", sample.mean, mean_mcse, n), median_measure(x)]
    spread = Sample.of(x - truth) if isinstance(truth, np.ndarray) else sample
    empse = math.sqrt(spread.variance)
    if mcse == "morris":
        empse_mcse = empse / math.sqrt(2 * (n - 1)) if n > 1 else NAN
    else:
        empse_mcse = _ratio(standard_error(spread.variance_influence()), 2 * empse)
    measures.append(Measured("empse", empse, empse_mcse, n))
    if isinstance(truth, np.ndarray):
        measures += _own_bias(spread, Sample.of(truth))
    elif not math.isfinite(truth):
        return measures
    else:
        measures.append(Measured("bias", sample.mean - truth, mean_mcse, n))
        if truth != 0:
            percent = 100 / abs(truth)
            measures.append(Measured("relbias", 100 * (sample.mean - truth) / truth, percent * mean_mcse, n))
    error = x - truth
    square = Sample.of(error * error)
    rmse, mse_mcse = math.sqrt(square.mean), standard_error(square.deviation)
    measures.append(Measured("mse", square.mean, mse_mcse, n))
    measures.append(Measured("rmse", rmse, _ratio(mse_mcse, 2 * rmse), n))
    return measures


def _own_bias(error: Sample, truth: Sample) -> list[Measured]:
    """bias and relbias of errors about truths of their own; both means are random, so both are in the MCSE of relbias."""
    measures = [Measured("bias", error.mean, standard_error(error.deviation), error.n)]
    if truth.n and truth.mean != 0:
        ratio = error.mean / truth.mean
        relative = standard_error(error.deviation - ratio * truth.deviation) / abs(truth.mean)
        measures.append(Measured("relbias", 100 * ratio, 100 * relative, error.n))
    return measures


def error_measures(x: Array, se: Array, *, mcse: Mcse) -> list[Measured]:
    """modelse = sqrt(mean se^2) and relerror = 100 (modelse/empse - 1), empse from the same N replicates; se >= 0.

    Morris et al. (2019), Table 6, where the MCSE of relerror takes estimates as normal and independent of se; here it
    takes both from the replicates.
    """
    sample, square = Sample.of(x), Sample.of(se * se)
    n, variance = sample.n, square.mean
    modelse, empse = math.sqrt(variance), math.sqrt(sample.variance)
    modelse_mcse = _ratio(standard_error(square.deviation), 2 * modelse)
    ratio = _ratio(modelse, empse)
    if mcse == "morris":
        term = 1 / (2 * (n - 1)) if n > 1 else NAN
        relative = math.sqrt(_ratio(modelse_mcse * modelse_mcse, variance) + term)
    elif variance > 0 and sample.variance > 0:
        influence = square.deviation / (2 * variance) - sample.variance_influence() / (2 * sample.variance)
        relative = standard_error(influence)
    else:
        relative = NAN
    return [
        Measured("modelse", modelse, modelse_mcse, n),
        Measured("relerror", 100 * (ratio - 1), 100 * ratio * relative, n),
    ]


def interval_measures(x: Array, half: Array, truth: float) -> list[Measured]:
    """cover, becover, below, above, width of N intervals x_i +- half_i; half >= 0.

    cover: the interval holds the truth (ends included); below: it lies wholly below the truth; above: wholly above;
    the three sum to 1, and are absent where the truth is nan. becover: it holds m, the mean of these estimates. width:
    the mean of 2 half_i. Morris et al. (2019), Tables 1 and 6.

    As in Table 6 the MCSE of becover takes m as known. That is right for symmetric estimates; for the skewed ones in
    tests/calibration the spread is 1.1 to 1.3 times as large.
    """
    error = x - truth
    becover = np.abs(Sample.of(x).deviation) <= half
    return _of_intervals(-error > half, error > half, becover, 2 * half, truth)


def end_measures(x: Array, lower: Array, upper: Array, truth: float) -> list[Measured]:
    """The same of N intervals [lower_i, upper_i] about estimates x_i, lower <= upper; infinite ends give no width."""
    mean = Sample.of(x).mean
    becover = (lower <= mean) & (mean <= upper)
    return _of_intervals(upper < truth, lower > truth, becover, upper - lower, truth)


def _of_intervals(
    below: NDArray[np.bool_], above: NDArray[np.bool_], becover: NDArray[np.bool_], width: Array, truth: float
) -> list[Measured]:
    measures = [proportion("becover", becover)]
    if math.isfinite(truth):
        hits = (("cover", ~(below | above)), ("below", below), ("above", above))
        measures += [proportion(measure, hit) for measure, hit in hits]
    sample = Sample.of(width)
    measures.append(Measured("width", sample.mean, standard_error(sample.deviation), sample.n))
    return measures


def rejection_measures(
    rejects: NDArray[np.bool_], x: Array | None, truth: float | Array, null: float
) -> list[Measured]:
    """power of N tests; type_s and type_m of the rejections among them, where x holds the estimates.

    type_s: the share of rejections whose estimate lies on the wrong side of the null, (x - null)(truth - null) < 0.
    type_m: the mean of |x - null| / |truth - null| over rejections, the exaggeration ratio. Their n is the number of
    rejections (with a finite estimate); they are absent where the truth is not finite or equals the null. Gelman and
    Carlin (2014, Perspect Psychol Sci 9:641). Where each replicate has a truth of its own (N,), signs are compared one by
    one, and type_m is mean |x - null| / mean |truth - null| over rejections: the mean of ratios need not exist.
    """
    measures = [proportion("power", rejects)]
    if isinstance(truth, np.ndarray):
        return measures if x is None else measures + _own_types(rejects, x - null, truth - null)
    effect = truth - null
    if x is None or effect == 0 or not math.isfinite(effect):
        return measures
    found = (x[rejects & np.isfinite(x)] - null) / effect
    size = Sample.of(np.abs(found))
    measures.append(proportion("type_s", found < 0))
    measures.append(Measured("type_m", size.mean, standard_error(size.deviation), size.n))
    return measures


def _own_types(rejects: NDArray[np.bool_], found: Array, effect: Array) -> list[Measured]:
    kept = rejects & np.isfinite(found) & np.isfinite(effect)
    size, true_size = Sample.of(np.abs(found[kept])), Sample.of(np.abs(effect[kept]))
    ratio = _ratio(size.mean, true_size.mean)
    error = _ratio(standard_error(size.deviation - ratio * true_size.deviation), true_size.mean)
    return [proportion("type_s", found[kept] * effect[kept] < 0), Measured("type_m", ratio, error, size.n)]


def relative_precision(x: Array, reference: Array, *, mcse: Mcse) -> Measured:
    """relprec = 100 ((empse of reference / empse of x)^2 - 1): how much more precise x is, in per cent.

    x and reference hold the estimates of two methods on the same N replicates, in the same order. Morris et al.
    (2019), Table 6.
    """
    a, b = Sample.of(reference), Sample.of(x)
    ratio = _ratio(a.variance, b.variance)
    if mcse == "morris":
        covariance = _mean(a.deviation * b.deviation)
        unshared = 1 - _ratio(covariance * covariance, _mean(a.deviation**2) * _mean(b.deviation**2))
        error = 200 * ratio * math.sqrt(max(unshared, 0.0) / (a.n - 1)) if a.n > 1 and unshared == unshared else NAN
    elif b.variance > 0:
        error = 100 * standard_error(a.variance_influence() - ratio * b.variance_influence()) / b.variance
    else:
        error = NAN
    return Measured("relprec", 100 * (ratio - 1), error, a.n)


def proportion(measure: str, hits: NDArray[np.bool_]) -> Measured:
    """The share c of N replicates that are hits, with sqrt(c (1 - c)/N)."""
    return of_counts(measure, int(np.count_nonzero(hits)), hits.size)


def of_counts(measure: str, k: int, n: int) -> Measured:
    """The same of k hits among n replicates."""
    if n == 0:
        return Measured(measure, NAN, NAN, 0, 0)
    return Measured(measure, k / n, math.sqrt(k * (n - k) / n) / n, n, k)


class Sample(NamedTuple):
    """N values by their mean, deviations from it and variance (divisor N - 1; nan below two values)."""

    n: int
    mean: float
    deviation: Array
    variance: float

    @staticmethod
    def of(x: Array) -> Sample:
        n = x.size
        if n == 0:
            return Sample(0, NAN, x, NAN)
        # Shifted by one of the values: a constant column then has deviations of exactly 0, not of an ulp.
        shifted = x - x[0]
        offset = float(shifted.mean())
        deviation = shifted - offset
        return Sample(n, float(x[0]) + offset, deviation, _mean(deviation * deviation) * n / (n - 1) if n > 1 else NAN)

    def variance_influence(self) -> Array:
        """psi of s^2: the jackknife's pseudovalues about their mean; nan below three values."""
        if self.n < 3:
            return np.full(self.n, NAN)
        square = self.deviation * self.deviation
        influence: Array = (square - square.mean()) * (self.n / (self.n - 2))
        return influence


def median_measure(x: Array) -> Measured:
    """The median with Price and Bonett's standard error (2001, J Stat Comput Simul 68:295).

    The distance between two order statistics about sqrt(N) ranks on either side, over twice the normal quantile of
    their binomial tail: no density is estimated.
    """
    n = x.size
    if n == 0:
        return Measured("median", NAN, NAN, 0)
    rank = max(round((n + 1) / 2 - math.sqrt(n)), 1)
    low, high, middle = rank - 1, n - rank, ((n - 1) // 2, n // 2)
    ordered = np.partition(x, sorted({low, high, *middle}))
    value = float(ordered[middle[0]]) / 2 + float(ordered[middle[1]]) / 2
    if n < 3:
        return Measured("median", value, NAN, n)
    quantile = -float(scipy.special.ndtri(scipy.special.bdtr(low, n, 0.5)))
    return Measured("median", value, (float(ordered[high]) - float(ordered[low])) / (2 * quantile), n)


def standard_error(influence: Array) -> float:
    """sqrt(sum psi_i^2 / (N (N - 1))); nan below two values."""
    n = influence.size
    return math.sqrt(_mean(influence * influence) / (n - 1)) if n > 1 else NAN


def _mean(x: Array) -> float:
    return float(x.mean()) if x.size else NAN


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else NAN
