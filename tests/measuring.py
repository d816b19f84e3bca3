"""The measures of columns, by what they are of: for tests that have columns and no method."""

import numpy as np

from nestlab.measure.performance import measure_quantity
from nestlab.measure.quantities import Quantity, of_estimates, of_intervals, of_rejections


def found(quantities, mcse):
    return [measured for q in quantities for measured in measure_quantity(q, np.ones(len(q.x), dtype=bool), mcse, [])]


def estimate_measures(x, truth, *, mcse):
    return found(of_estimates(x, truth), mcse)


def error_measures(x, se, *, mcse):
    return found([Quantity("se", x, se * se)], mcse)


def interval_measures(x, half, truth):
    return found(of_intervals(x, half, truth), "distribution-free")


def end_measures(x, lower, upper, truth):
    return found(of_intervals(x, (lower, upper), truth), "distribution-free")


def rejection_measures(rejects, x, truth, null):
    return found(of_rejections(rejects, x, truth, null), "distribution-free")


def relative_precision(x, reference, *, mcse):
    (measured,) = found([Quantity("pair", x, reference - x)], mcse)
    return measured
