"""statsmodels' MixedLM as a method: an independent implementation to hold against our own.

It works on rows, in tens of milliseconds a fit. It is a reference for fits inside the parameter space: at the boundary its
optimisers stop short of the optimum or fail, and its standard errors of fixed effects come from the Hessian of the whole
likelihood, which differs from lme4's (conditional on the variances) by up to a few percent in small samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..lmm import Fits, pairs
from ..status import Status

__all__ = ["fit_rows"]

Array = NDArray[np.float64]

#: A converged fit counts as singular when an eigenvalue of G, whitened by the mean of Z'Z over clusters, is below this: its
#: optimisers stop near the boundary, not on it.
BOUNDARY = 1e-4


def fit_rows(
    data: Sequence[tuple[Array, Array, Array]], groups: NDArray[np.int64], blocks: NDArray[np.int64], *, reml: bool
) -> Fits:
    """Fit data sets (y (N), X (N, p), Z (N, q)) one after another.

    blocks (q): the number of each random column's term; covariances between terms are held at 0. Exceptions become the status
    method_error, a fit that statsmodels does not call converged not_converged.
    """
    p, q = data[0][1].shape[1], data[0][2].shape[1]
    R = len(data)
    fits = Fits(
        status=np.full(R, Status.method_error, dtype=np.int64),
        iterations=np.zeros(R, dtype=np.int64),
        deviance=np.full(R, np.nan),
        residual=np.full(R, np.nan),
        beta=np.full((R, p), np.nan),
        vcov=np.full((R, p * (p + 1) // 2), np.nan),
        varcomp=np.full((R, q * (q + 1) // 2), np.nan),
        sigma2=np.full(R, np.nan),
    )
    for r, (y, X, Z) in enumerate(data):
        _fit_one(fits, r, y, X, Z, groups, blocks, reml)
    return fits


def _fit_one(
    fits: Fits, r: int, y: Array, X: Array, Z: Array, groups: NDArray[np.int64], blocks: NDArray[np.int64], reml: bool
) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

    p, q = X.shape[1], Z.shape[1]
    free = None
    if len(set(blocks)) > 1:
        together = (blocks[:, None] == blocks[None, :]).astype(float)
        free = MixedLMParams.from_components(np.ones(p), together)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = MixedLM(y, X, groups=groups, exog_re=Z).fit(reml=reml, free=free)
            covariance = np.asarray(result.cov_re, dtype=float)
            vcov = np.asarray(result.cov_params(), dtype=float)[:p, :p]
            values = np.asarray(result.fe_params, dtype=float)
            scale, likelihood, converged = float(result.scale), float(result.llf), bool(result.converged)
    except Exception:  # noqa: BLE001  (whatever it raises is a datum: the status says so)
        return
    fits.iterations[r] = sum(len(h.get("allvecs", ())) for h in getattr(result, "hist", None) or [])
    fits.deviance[r] = -2 * likelihood
    fits.beta[r] = values
    fits.vcov[r] = [vcov[i, k] for i, k in pairs(p)]
    fits.varcomp[r] = [covariance[i, k] for i, k in pairs(q)]
    fits.sigma2[r] = scale
    fits.status[r] = _status(fits, r, covariance, scale, Z, groups, converged)


def _status(
    fits: Fits, r: int, covariance: Array, scale: float, Z: Array, groups: NDArray[np.int64], converged: bool
) -> Status:
    if not (np.isfinite(fits.beta[r]).all() and np.isfinite(fits.deviance[r]) and scale > 0):
        return Status.nonfinite
    if not converged:
        return Status.not_converged
    try:
        root = np.linalg.cholesky(Z.T @ Z / (groups.max() + 1))
        smallest = np.linalg.eigvalsh(root.T @ covariance @ root / scale)[0]
    except np.linalg.LinAlgError:
        return Status.nonfinite  # columns of Z depend on one another, or the covariance is not finite
    return Status.singular if smallest < BOUNDARY else Status.ok
