"""What a simulation study publishes of estimates and their tests, each figure with its Monte Carlo variance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats


def figures(estimate: np.ndarray, se: np.ndarray, df: np.ndarray, true: float) -> Iterator[tuple[str, float, float]]:
    """Each figure with its Monte Carlo variance for one data set, as in Lee & Pustejovsky (2023): tests are by t with df, and
    intervals by the normal distribution.

    estimate, se, df (R): of replicates; a few standard errors may be missing.
    """
    error, z = estimate - true, stats.norm.ppf(0.975)
    known = np.isfinite(se)
    assert known.mean() > 0.99
    yield "bias", error.mean(), estimate.var()
    yield "rmse", np.sqrt((error**2).mean()), (error**2).var() / (4 * (error**2).mean())
    rejected = 2 * stats.t.sf(np.abs(estimate / se)[known], df[known]) < 0.05
    for name, share in (("power", rejected.mean()), ("coverage", (np.abs(error / se)[known] < z).mean())):
        share_of = (share * len(estimate) + 2) / (len(estimate) + 4)  # not 0 at its ends
        yield name, share, share_of * (1 - share_of)
    yield "width", 2 * z * se[known].mean(), (2 * z) ** 2 * se[known].var()
    ratio = (se[known] ** 2).mean() / estimate.var(ddof=1)
    kurtosis = stats.kurtosis(estimate, fisher=False)
    yield "rel_bias_var", ratio, ratio**2 * (kurtosis - 1 + (se[known] ** 2).var() / (se[known] ** 2).mean() ** 2)
