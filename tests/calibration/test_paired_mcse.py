"""Over 1,000 repeated studies of 200 replicates, the spread of each difference between two methods is what its paired MCSE says.

Two pairs of methods that saw the same data: normal estimates, correlated 0.9, with standard errors of their own; and REML's and
ML's variance component of a balanced one-way design (10 clusters of 5, ICC 0.1), drawn exactly. An SD over 1,000 has a relative
standard error of 2.2 %, a little more for heavy tails, which 200 replicates do not always show (worst: relerror, 1.09).
"""

from collections import defaultdict

import numpy as np
import pytest
from scipy.special import ndtri

from nestlab.measure.intervals import tango
from nestlab.measure.paired import compare
from nestlab.measure.performance import Estimates, MethodResults

pytestmark = pytest.mark.calibration

STUDIES, REPLICATES, BOUND = 1000, 200, 0.12
SHAPE = (STUDIES, REPLICATES)


def normal(rng):
    x = rng.normal(0.5, 1, SHAPE)
    y = 0.45 + 0.9 * (x - 0.5) + rng.normal(0, 0.4, SHAPE)
    chi = rng.chisquare(18, SHAPE) / 18
    return (x, 0.4 * np.sqrt(chi)), (y, 0.35 * np.sqrt(0.7 * chi + 0.3 * rng.chisquare(9, SHAPE) / 9)), 0.5


def variance_component(rng):
    clusters, size, tau2, s2 = 10, 5, 0.1, 0.9
    a, b = clusters - 1, clusters * (size - 1)
    between = (s2 + size * tau2) * rng.chisquare(a, SHAPE) / a
    within = s2 * rng.chisquare(b, SHAPE) / b
    error = np.sqrt(2 * (between**2 / a + within**2 / b)) / size
    reml, ml = (np.maximum(0, (c * between - within) / size) for c in (1, a / clusters))
    return (reml, error), (ml, a / clusters * error), tau2


def method(name, x, se):
    none = np.zeros(REPLICATES, bool)
    return MethodResults(name, np.arange(REPLICATES), ~none, none, none, {"x": Estimates(x, se, df=18.0)})


@pytest.mark.parametrize("population", [normal, variance_component])
def test_paired_mcse_is_the_spread_of_the_difference(population):
    first, second, truth = population(np.random.default_rng(17))
    found, errors, unpaired = defaultdict(list), defaultdict(list), defaultdict(list)
    for study in range(STUDIES):
        methods = [method(name, *(column[study] for column in part)) for name, part in (("a", first), ("b", second))]
        for row in compare(methods, {"x": truth}):
            found[row.measure].append(row.value - row.reference_value)
            errors[row.measure].append(row.mcse)
            unpaired[row.measure].append(row.unpaired_mcse)
    spread = {measure: np.std(column, ddof=1) for measure, column in found.items()}
    told = {measure: np.sqrt(np.mean(np.square(column))) for measure, column in errors.items()}
    apart = {measure: np.sqrt(np.mean(np.square(column))) for measure, column in unpaired.items()}
    moved = {measure for measure in spread if spread[measure] > 1e-12}
    assert moved >= {
        "mean",
        "median",
        "bias",
        "relbias",
        "empse",
        "mse",
        "rmse",
        "modelse",
        "relprec",
        "cover",
        "width",
    }
    ratio = {measure: spread[measure] / told[measure] for measure in moved}
    # The mean about which it counts is taken as known: it moves each share, and by different amounts.
    assert 0.85 < ratio.pop("becover") < 1.3
    # A median is no smooth function: for methods that hardly differ (the components) its MCSE is a fifth too large at N = 200.
    assert 0.75 < ratio.pop("median") < 1 + BOUND
    assert not {measure: r for measure, r in ratio.items() if abs(r - 1) > BOUND}
    for measure in ("bias", "empse", "rmse"):
        assert apart[measure] > 1.8 * spread[measure], "without the pairing it would be far too large"


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(0.02, 0.005, 50), (0.001, 0.001, 500), (0.1, 0.05, 200), (0.0, 0.01, 100)]
)
def test_limits_of_shares_hold_the_true_difference_where_few_replicates_differ(gained, lost, n):
    rng = np.random.default_rng(5)
    b, c, _ = rng.multinomial(n, [gained, lost, 1 - gained - lost], 20_000).T
    lower, upper = tango(b, c, n)
    d = gained - lost
    held = np.mean((lower <= d) & (d <= upper))
    assert held > 0.93
    if d != 0 and n * (gained + lost) < 2:
        wald = ndtri(0.975) * np.sqrt(b + c - (b - c) ** 2 / n) / n
        assert np.mean(np.abs((b - c) / n - d) <= wald) < 0.9
