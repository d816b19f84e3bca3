"""The measures: one row each, which all that computes, prints, draws or asks for measures reads.

N replicates give estimates x_i, standard errors se_i and more of one estimand of truth theta. A measure is of one quantity
(`QUANTITIES`), columns x and y of the replicates that have it, and is one of three:

- a share of the replicates, of which x tells whether they are hits;
- a smooth function of `QuantityMoments`, written once: its derivatives make its Monte Carlo standard error (MCSE);
- a special one, with an MCSE of its own (the median).

The MCSE of a smooth measure is sqrt(sum psi_i^2 / (N (N - 1))), psi_i the empirical influence of replicate i: the derivatives
by means and variances times the influences on these (Efron and Stein 1981, Ann Stat 9:586). No distribution is assumed, and
what one replicate does to two columns (a large estimate with a large standard error) is in psi_i. For averages this is Table
6 of Morris, White and Crowther (2019, Stat Med 38:2074). Of a mean psi_i is x_i - mean; of the variance s^2 it is the
jackknife's, N/(N - 2) (d_i^2 - mean d^2) with d_i = x_i - mean, so that

    MCSE(empse) = empse/2 sqrt((N - 1) (kurtosis - 1)) / (N - 2),    kurtosis = mean d^4 / (mean d^2)^2.

In expectation it is never too small for s^2; under normality the ratio of its expected square to the true variance of s^2 is
(N - 1)/(N - 2). Table 6 has empse/sqrt(2 (N - 1)), right for a kurtosis of 3 only: 1.4 times too small for a variance
component of kurtosis 5 (`mcse = "morris"`: rows whose MCSE is another one then hold it). Few replicates do not show their
tails: for that component the MCSE of empse is right within 3 % at N = 500, 5 to 10 % too small at N = 50. Shares have sqrt(c
(1 - c)/N), which is 0 at 0 and 1: read Wilson's limits beside it.

A value that the replicates do not determine is nan, never a guess: an average needs N >= 1 and its MCSE 2, empse needs 2 and
its MCSE 3 (2 in Table 6), the MCSE of a median needs 3; a ratio whose denominator is 0 (constant estimates) is nan.

Where each replicate has a truth of its own (draws from a prior), errors x - truth take the place of estimates in all but mean
and median. Sources: Morris et al. (2019), Tables 1 and 6; type_s and type_m Gelman and Carlin (2014, Perspect Psychol Sci
9:641). As in Table 6 the MCSE of becover takes the mean of the estimates as known: right for symmetric estimates; for the
skewed ones in tests/calibration the spread is 1.1 to 1.3 times as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from .dual import Dual

__all__ = [
    "MEASURES", "QUANTITIES", "WHOLE", "Array", "Mask", "Measure", "Nulls", "OrderStatistic", "QuantityMoments", "Replicates",
]  # fmt: skip

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
#: Which of the values under test are true.
Nulls: TypeAlias = Literal["all", "some", "none"]
NAN = math.nan

#: What measures are of: the result that a replicate must have for it, and what sums keep, of `measure.sums.KINDS` ("": nothing).
QUANTITIES: dict[str, tuple[str, str]] = {
    "estimate": ("estimate", "spread"),  # x: estimates
    "error": (
        "estimate",
        "spread and mean",
    ),  # x: errors about truths of their own, y: these; with one truth: `estimate`
    "square": ("estimate", "mean"),  # x: squared errors
    "se": ("error", "spread and mean"),  # x: errors, y: squared standard errors
    "becover": ("interval", ""),  # x: errors, and the intervals
    "cover": ("interval", "count"),
    "below": ("interval", "count"),
    "above": ("interval", "count"),
    "width": ("interval", "mean"),
    "pair": ("pair", "spreads"),  # x: errors, y: those of the reference, less x
    "power": ("test", "count"),
    "drawn": ("test", ""),  # rejections, and what was drawn from the priors
    "wrong": ("test", "count"),  # among rejections: estimate and truth are on different sides of the null
    "size": ("test", "mean"),  # among rejections: x: |x - null|, y: |truth - null| ("means"); of one truth their ratio
    "": ("", "count"),  # methods as a whole
}


@dataclass(slots=True)
class QuantityMoments:
    """The moments of one quantity in n replicates.

    truth: the one truth; None where y holds one of each replicate. dot: (j, k), j <= k, to the inner product of the influences on
    two of the four moments that a `Slope` is by, but for the jackknife's factor.
    """

    n: int
    mean_x: float
    mean_y: float
    truth: float | None
    dot: Callable[[int, int], float]

    @property
    def x(self) -> Dual:
        """The mean of x."""
        return Dual(self.mean_x, (1.0, 0.0, 0.0, 0.0))

    @property
    def y(self) -> Dual:
        """The mean of y."""
        return Dual(self.mean_y, (0.0, 1.0, 0.0, 0.0))

    @property
    def variance(self) -> Dual:
        """The variance of x, with divisor n - 1."""
        return Dual(self._over(self.dot(0, 0)), (0.0, 0.0, 1.0, 0.0))

    @property
    def gain(self) -> Dual:
        """The variance of x + y less that of x: nothing cancels where y is small."""
        return Dual(self._over(2 * self.dot(0, 1) + self.dot(1, 1)), (0.0, 0.0, 0.0, 1.0))

    @property
    def true(self) -> Dual:
        """The truth, or the mean of the replicates' own."""
        return self.y if self.truth is None else Dual(self.truth)

    @property
    def bias(self) -> Dual:
        """The mean of the errors."""
        return self.x if self.truth is None else self.x - self.truth

    def _over(self, squares: float) -> float:
        return squares / (self.n - 1) if self.n > 1 else NAN


class Replicates(Protocol):
    """The columns of one quantity, for the special measures. ordered: x, sorted. more: half-widths of intervals, or both ends."""

    @property
    def x(self) -> Array: ...
    @property
    def mean(self) -> float: ...
    @property
    def deviation(self) -> Array: ...
    @property
    def ordered(self) -> Array: ...
    @property
    def more(self) -> Sequence[Array]: ...


class OrderStatistic(NamedTuple):
    """A special measure. direction: the influence of each replicate up to a factor, which its MCSE fixes."""

    value: float
    mcse: float
    direction: Callable[[], Array]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure.

    title: for axes and captions. formula: the definition in the report, with est, se, truth and null of a replicate and N.
    of: its quantity. value: of a smooth one; exists: whether there is such a measure; morris: its MCSE in Table 6 where that
    differs. hits: of a share, where x does not hold them. special: of the others. mcse_formula, morris_formula: in words, for the
    report. reference: levels of the tests and `Nulls` to what a value is compared with. stick: where a lollipop begins. percent:
    the unit. bounded: says how many replicates have no result. compared: whether methods are. unsummed: why sums of replicates
    do not hold it.
    """

    name: str
    title: str
    formula: str
    of: str
    value: Callable[[QuantityMoments], Dual] | None = None
    exists: Callable[[QuantityMoments], bool] = lambda _: True
    morris: Callable[[QuantityMoments], float] | None = None
    hits: Callable[[Replicates], Mask] | None = None
    special: Callable[[Replicates], OrderStatistic] | None = None
    mcse_formula: str = "influence function psi of the measure: sqrt( sum psi^2 / (N (N - 1)) )"
    morris_formula: str = ""
    reference: Callable[[Collection[float], Nulls], list[float]] = lambda *_: []
    stick: Literal["reference", "zero", "none"] = "reference"
    percent: bool = False
    bounded: bool = False
    compared: bool = True
    unsummed: str = ""

    @property
    def needs(self) -> str:
        """What a replicate must have: "estimate", "error" (a standard error), "interval", "test", "pair"; "" of whole methods."""
        return QUANTITIES[self.of][0]

    @property
    def counted(self) -> bool:
        """Whether it is a share of replicates whose x tells which are hits."""
        return self.value is None and QUANTITIES[self.of][1] == "count"

    @property
    def share(self) -> bool:
        """Whether it is a share of replicates, with Wilson's limits."""
        return self.hits is not None or self.counted

    def mcse_text(self, kind: str) -> str:
        """Say how the MCSE is computed; kind: "distribution-free" or "morris".

        >>> MEASURES["empse"].mcse_text("morris"), MEASURES["power"].mcse_text("morris")
        ('empse / sqrt( 2 (N - 1) )', 'sqrt( p (1 - p) / N )')
        """
        if self.share:
            return "sqrt( p (1 - p) / N )"
        return self.morris_formula if kind == "morris" and self.morris_formula else self.mcse_formula


def _known(m: QuantityMoments) -> bool:
    return m.truth is None or math.isfinite(m.truth)


def _not_zero(m: QuantityMoments) -> bool:
    return math.isfinite(m.true.value) and m.true.value != 0


def _one_truth(m: QuantityMoments) -> bool:
    return m.truth is not None and _not_zero(m)


def _level(alphas: Collection[float], _nulls: Nulls) -> list[float]:
    return [round(1 - a, 12) for a in alphas]


def _tails(alphas: Collection[float], _nulls: Nulls) -> list[float]:
    return [a / 2 for a in alphas]


def _power(alphas: Collection[float], nulls: Nulls) -> list[float]:
    """0.8 where there is an effect, the level of the test where there is none."""
    return [*([] if nulls == "all" else [0.8]), *(alphas if nulls != "none" else [])]


def _morris_empse(m: QuantityMoments) -> float:
    return m.variance.sqrt().value / math.sqrt(2 * (m.n - 1)) if m.n > 1 else NAN


def _morris_relerror(m: QuantityMoments) -> float:
    """Takes estimates as normal and independent of the standard errors."""
    if m.n < 2 or not m.mean_y > 0:
        return NAN
    relative = m.dot(1, 1) / m.n / (m.n - 1) / (4 * m.mean_y * m.mean_y) + 1 / (2 * (m.n - 1))
    return 100 * (m.y / m.variance).sqrt().value * math.sqrt(relative)


def _morris_relprec(m: QuantityMoments) -> float:
    """1 - corr^2 of x and x + y from the determinant of x and y: nothing cancels where y is small."""
    if m.n < 2:
        return NAN
    xx, xy, yy = m.dot(0, 0), m.dot(0, 1), m.dot(1, 1)
    determinant = xx * yy - xy * xy
    both = Dual(determinant if determinant > 1e-13 * xx * yy else 0.0) / (xx * (xx + 2 * xy + yy))
    return 200 * (1 + (m.gain / m.variance).value) * math.sqrt(both.value / (m.n - 1))


def _hold_mean(r: Replicates) -> Mask:
    if len(r.more) == 1:
        return np.abs(r.deviation) <= r.more[0]
    lower, upper = r.more
    return (lower <= r.mean) & (r.mean <= upper)


def _median(r: Replicates) -> OrderStatistic:
    value, mcse, *_ = _middle(r.ordered)
    return OrderStatistic(value, mcse, lambda: np.sign(r.x - value))


def _mad(r: Replicates) -> OrderStatistic:
    """1.4826 times the median D of |x - M|, M the median of x: as R's `mad`, the standard deviation where x is normal.

    Its influence is (sign(|x - M| - D) - k sign(x - M)) / (2 (f(M + D) + f(M - D))), k = (f(M + D) - f(M - D)) / f(M), f the
    density of x (Hampel 1974, JASA 69:383; Falk 1997, Ann Inst Stat Math 49:615): the median of |x - M| with M known, less what M
    moves it by. Densities stand in Price and Bonett's errors of D and M; how that at M + D compares to that at M - D is told by
    the side on which the replicates between the two order statistics about D lie.
    """
    n = r.ordered.size
    median, of_median, *_ = _middle(r.ordered)
    from_median = r.ordered - median
    value, known, low, high = _middle(np.sort(np.abs(from_median)))
    places = np.array((-high, -value, -low, 0.0, low, value, high))
    rounding = (
        4 * np.finfo(float).eps * max(map(abs, r.ordered[[0, -1]].tolist())) if n else 0.0
    )  # equal but for it: ties
    left = np.searchsorted(from_median, places - rounding, "left").tolist()
    right = np.searchsorted(from_median, places + rounding, "right").tolist()
    # of the replicates above and below M: those nearer than D, farther than D, and between the two order statistics
    near, far, close = max(left[5] - right[3], 0), n - right[5], right[6] - max(left[4], right[3])
    near_below, far_below, close_below = max(left[3] - right[1], 0), left[1], min(right[2], left[3]) - left[0]
    moved = of_median * (close - close_below) / (close + close_below) if close + close_below else of_median * 0.0
    both = (far - near - far_below + near_below) / n if n else NAN
    mcse = math.sqrt(max(known * known + moved * moved - 2 * both * known * moved, 0.0))

    def direction() -> Array:
        side, away = np.sign(r.x - median), np.sign(np.abs(r.x - median) - value)
        return np.asarray(known * away - moved * side)

    return OrderStatistic(_SCALE * value, _SCALE * mcse, direction)


#: Over the standard deviation, the quartile of a normal distribution; to the digits that R has.
_SCALE = 1.4826


def _middle(ordered: Array) -> tuple[float, float, float, float]:
    """The median of sorted values with Price and Bonett's standard error (2001, J Stat Comput Simul 68:295), nan below three.

    The distance between two order statistics, which are told too, about sqrt(N) ranks on either side, over twice the normal
    quantile of their binomial tail: no density is estimated.
    """
    n = ordered.size
    if n == 0:
        return NAN, NAN, NAN, NAN
    value = float(ordered[(n - 1) // 2]) / 2 + float(ordered[n // 2]) / 2
    if n < 3:
        return value, NAN, NAN, NAN
    rank, quantile = _rank_below(n)
    low, high = float(ordered[rank]), float(ordered[n - 1 - rank])
    return value, (high - low) / (2 * quantile), low, high


@lru_cache
def _rank_below(n: int) -> tuple[int, float]:
    """The rank, from 0, of the order statistic below the median, and the normal quantile of its tail."""
    rank = max(round((n + 1) / 2 - math.sqrt(n)), 1) - 1
    return rank, -float(scipy.special.ndtri(scipy.special.bdtr(rank, n, 0.5)))


# fmt: off
_ROWS = (
    Measure(
        "mean", "mean estimate", "mean of est", "estimate", value=lambda m: m.x, mcse_formula="empse / sqrt( N )",
        stick="none",
    ),
    Measure(
        "median", "median estimate", "median of est", "estimate", special=_median,
        mcse_formula="distance of two order statistics over twice a normal quantile (Price and Bonett 2001)", stick="none",
        unsummed="needs all estimates in order",
    ),
    Measure(
        "bias", "bias", "mean of est - truth", "error", value=lambda m: m.bias, exists=_known,
        mcse_formula="empse / sqrt( N )", reference=lambda *_: [0.0],
    ),
    Measure(
        "relbias", "relative bias (%)", "100 bias / truth, in percent; absent where the truth is 0", "error",
        value=lambda m: 100 * (m.bias / m.true), exists=_not_zero, mcse_formula="100 empse / ( sqrt( N ) |truth| )",
        reference=lambda *_: [0.0], percent=True,
    ),
    Measure(
        "empse", "empirical SE", "sqrt( sum (est - mean)^2 / (N - 1) )", "error", value=lambda m: m.variance.sqrt(),
        morris=_morris_empse, mcse_formula="empse / 2 sqrt( (N - 1) (kurtosis - 1) ) / (N - 2)",
        morris_formula="empse / sqrt( 2 (N - 1) )",
    ),
    Measure(
        "mad", "scaled median absolute deviation", "1.4826 median of |est - median|", "error", special=_mad,
        mcse_formula="influence function (Hampel 1974), its densities from order statistics (Price and Bonett 2001)",
        unsummed="needs all estimates in order, twice",
    ),
    Measure(
        "mse", "mean squared error", "mean of (est - truth)^2", "square", value=lambda m: m.x,
        mcse_formula="sqrt( sum ( (est - truth)^2 - mse )^2 / (N (N - 1)) )",
    ),
    Measure(
        "rmse", "root mean squared error", "sqrt( mse )", "square", value=lambda m: m.x.sqrt(),
        mcse_formula="MCSE(mse) / (2 rmse)",
    ),
    Measure(
        "relrmse", "relative root mean squared error (%)", "100 rmse / |truth|, in percent; absent where the truth is 0",
        "square", value=lambda m: 100 * (m.x.sqrt() / abs(m.true.value)), exists=_one_truth,
        mcse_formula="100 MCSE(mse) / (2 rmse |truth|)", percent=True,
    ),
    Measure(
        "modelse", "model SE", "sqrt( mean of se^2 )", "se", value=lambda m: m.y.sqrt(),
        mcse_formula="sqrt( Var(se^2) / (4 N modelse^2) )",
    ),
    Measure(
        "relerror", "relative error of the model SE (%)", "100 ( modelse / empse - 1 ), in percent", "se",
        value=lambda m: 100 * ((m.y / m.variance).sqrt() - 1), morris=_morris_relerror,
        morris_formula="100 (modelse / empse) sqrt( Var(se^2) / (4 N modelse^4) + 1 / (2 (N - 1)) )", reference=lambda *_: [0.0],
        percent=True,
    ),
    Measure("cover", "coverage", "share of intervals that hold the truth", "cover", reference=_level, bounded=True),
    Measure(
        "becover", "bias-eliminated coverage", "share of intervals that hold the mean of est", "becover", hits=_hold_mean,
        reference=_level, unsummed="needs every interval again once the mean of all estimates is known",
    ),
    Measure("below", "intervals below the truth", "share of intervals wholly below the truth", "below", reference=_tails),
    Measure("above", "intervals above the truth", "share of intervals wholly above the truth", "above", reference=_tails),
    Measure(
        "width", "mean interval width", "mean width of the intervals", "width", value=lambda m: m.x,
        mcse_formula="sd of the widths / sqrt( N )",
    ),
    Measure(
        "power", "power", "share of tests that reject; where what is tested is true this is the type I error rate", "power",
        reference=_power, stick="zero", bounded=True,
    ),
    *(
        Measure(
            name, title, f"{what}, over the prior, of the power given the values drawn", "drawn", compared=False,
            unsummed="fits a regression to all tests and the values drawn",
        )
        for name, title, what in (
            ("power_sd", "sd of the power", "standard deviation"),
            ("power_q10", "10 % quantile of the power", "10 % quantile"),
            ("power_q50", "median power", "median"),
            ("power_q90", "90 % quantile of the power", "90 % quantile"),
        )
    ),
    Measure(
        "type_s", "type S error", "share of rejections whose estimate is on the wrong side of the null; N counts rejections",
        "wrong",
    ),
    Measure(
        "type_m", "type M error (exaggeration)",
        "mean of |est - null| / |truth - null| over rejections; N counts rejections", "size", value=lambda m: m.x / m.true,
        mcse_formula="sd of the ratios / sqrt( N )", reference=lambda *_: [1.0],
    ),
    Measure(
        "relprec", "gain in precision (%)",
        "100 ( (empse of the first method / empse)^2 - 1 ), in percent, paired by replicate", "pair",
        value=lambda m: 100 * (m.gain / m.variance), morris=_morris_relprec,
        morris_formula="200 (empse of the first / empse)^2 sqrt( (1 - corr^2) / (N - 1) )", reference=lambda *_: [0.0],
        percent=True,
    ),
    Measure(
        "converged", "converged",
        "share of all replicates whose fit holds the certificate of an optimum, singular ones included", "",
    ),
    Measure("singular", "singular", "share of all replicates whose fit is on the boundary of the parameter space", ""),
    Measure("failed", "failed", "share of all replicates without any estimates", ""),
    Measure("inference_failed", "inference failed", "share of all replicates with estimates whose inference failed", ""),
    Measure(
        "selected", "larger model selected",
        "share of replicates, of those where a model could be fitted, in which the larger one was reported", "",
    ),
)
# fmt: on
#: By name, in the order of the tables.
MEASURES = {row.name: row for row in _ROWS}
#: The measures of a method as a whole: shares of all its replicates, named as the columns of `MethodResults`.
WHOLE = tuple(name for name, row in MEASURES.items() if not row.of)
