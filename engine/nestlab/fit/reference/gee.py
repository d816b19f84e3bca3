"""Generalised estimating equations with a Gaussian response and identity link (Liang & Zeger 1986, Biometrika 73, 13-22).

The model is of the mean alone: E(y) = X b, with a working correlation within clusters that need not be right. The standard errors
are robust (sandwich), naive (the working correlation is taken as true) or bias-reduced (Mancl & DeRouen 2001, Biometrics 57,
126-134, for few clusters).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..attempt import attempt
from ..lmm import Fits, pairs
from ..status import Status

__all__ = ["GeeFits", "GeeTable", "fit_gee"]

Array = NDArray[np.float64]
#: One data set: y (N), X (N, p), the cluster of each row (N), rows of a cluster in their order in time.
GeeTable = tuple[Array, Array, NDArray[np.int64]]


@dataclass(frozen=True)
class GeeFits:
    """Fits of R data sets. fits: no deviance and no random effects, sigma2 the scale, sum of squared residuals / (N - p).

    messages (R): of failures, None where there is none; warnings (R): how many there were; rows, clusters (R).
    """

    fits: Fits
    messages: NDArray[np.object_]
    warnings: NDArray[np.int32]
    rows: NDArray[np.int64]
    clusters: NDArray[np.int64]


def fit_gee(data: Iterable[GeeTable], p: int, *, working: str, covariance: str) -> GeeFits:
    """Fit data sets of p fixed effects one after another.

    working: "exchangeable", "independence" or "ar1", over the order of a cluster's rows; covariance: "robust", "naive" or
    "bias_reduced". Exceptions become the status method_error, iterations that stop short not_converged.
    """
    found = [_fit_one(*table, working, covariance) for table in data]
    status, iterations, beta, vcov, scale, messages, warned, rows, clusters = zip(*found, strict=True)
    R = len(found)
    fits = Fits(
        status=np.array(status, dtype=np.int64),
        iterations=np.array(iterations, dtype=np.int64),
        deviance=np.full(R, np.nan),
        residual=np.full(R, np.nan),
        beta=np.array(beta).reshape(R, p),
        vcov=np.array([[V[i, k] for i, k in pairs(p)] for V in vcov]),
        varcomp=np.empty((R, 0)),
        sigma2=np.array(scale),
    )
    return GeeFits(
        fits, np.array(messages, dtype=object), np.array(warned, dtype=np.int32), np.array(rows), np.array(clusters)
    )


def _fit_one(y: Array, X: Array, cluster: NDArray[np.int64], working: str, covariance: str) -> tuple[object, ...]:
    """Status, iterations, beta, its covariance, scale, message, warnings, rows, clusters."""
    p, size = X.shape[1], (len(y), len(np.unique(cluster)))
    nothing = np.full(p, np.nan), np.full((p, p), np.nan), np.nan
    if np.linalg.matrix_rank(X) < p:
        return (Status.rank_deficient, 0, *nothing, "columns are linear combinations of one another", 0, *size)
    tried = attempt(lambda: _estimate(y, X, cluster, working, covariance))
    if tried.value is None:
        return (Status.method_error, 0, *nothing, tried.message, tried.warnings, *size)
    converged, iterations, beta, vcov, scale = tried.value
    message = None
    status = Status.ok if converged else Status.not_converged
    if not (np.isfinite(beta).all() and np.isfinite(vcov).all() and scale > 0):
        status, message = Status.nonfinite, "estimates or standard errors are not finite"
    elif not converged:
        message = f"no convergence in {iterations} iterations"
    return status, iterations, beta, vcov, scale, message, tried.warnings, *size


def _estimate(
    y: Array, X: Array, cluster: NDArray[np.int64], working: str, covariance: str
) -> tuple[bool, int, Array, Array, float]:
    from statsmodels.genmod.cov_struct import Autoregressive, Exchangeable, Independence
    from statsmodels.genmod.generalized_estimating_equations import GEE

    # rows follow one another at equal distances: the lag-1 estimate on a grid, not a search over distances
    structures = {
        "exchangeable": Exchangeable,
        "independence": Independence,
        "ar1": lambda: Autoregressive(grid=True),
    }
    result = GEE(y, X, groups=cluster, cov_struct=structures[working]()).fit(cov_type=covariance)
    steps = len(result.fit_history["params"])
    return (
        bool(result.converged),
        steps,
        np.asarray(result.params, dtype=float),
        np.asarray(result.cov_params(), dtype=float),
        float(result.scale),
    )
