"""Likelihood ratio statistics of nested models, and their p values by a large-sample mixture of chi-squares.

The statistic is T = dev(null) - dev(full), in [0, inf); which distribution it has under the null says `spec.comparison`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from ..spec.comparison import Comparison
from .status import Status

if TYPE_CHECKING:
    from .lmm import Fits

__all__ = ["lr_statistic", "lr_statistics", "p_value"]

Array = NDArray[np.float64]

#: Differences of deviances below this, over 1 + |deviance|, are rounding: fits stop at certificates, not at equal digits.
ROUNDING = 1e-8


def lr_statistic(null: ArrayLike, full: ArrayLike) -> Array:
    """T from the deviances of the null and the full fits, any shape.

    0 where they are equal but for rounding; nan where the full fit is worse than the null by more, so that it is not the optimum,
    or where a deviance is nan.
    """
    before, after = np.asarray(null, dtype=float), np.asarray(full, dtype=float)
    gain, rounding = before - after, ROUNDING * (1.0 + np.abs(before))
    gain = np.where(gain < -rounding, np.nan, gain)
    return np.asarray(np.where(gain <= rounding, 0.0, gain), dtype=float)


def lr_statistics(null: Fits, full: Fits) -> Array:
    """T (R) of fits to the same replicates; nan also where one of the two is no optimum."""
    optima = (null.status <= Status.singular) & (full.status <= Status.singular)
    return np.where(optima, lr_statistic(null.deviance, full.deviance), np.nan)


def p_value(comparison: Comparison, statistic: ArrayLike, *, mixture: bool = True) -> Array:
    """P(T >= statistic) under the null by the mixture, of statistics made by `lr_statistic`; 1 at 0, nan at nan.

    mixture: False judges by chi-square with as many degrees of freedom as parameters are tested, as anova() in R does; for a
    variance, which lies on the boundary, that is conservative. Below 0 a statistic is no likelihood ratio of nested models'
    optima: nan.
    """
    parts = comparison.mixture if mixture else ((1.0, len(comparison.tested)),)
    if not parts:
        raise ValueError(
            f"the test of {comparison.name} has no known large-sample distribution: use the bootstrap, or test fewer parameters "
            "at once"
        )
    T = np.asarray(statistic, dtype=float)
    p = np.zeros_like(T)
    for weight, df in parts:
        p += weight * (chdtrc(df, np.maximum(T, 0.0)) if df else (T <= 0.0))
    return np.where(T >= 0.0, p, np.nan)
