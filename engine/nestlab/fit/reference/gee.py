"""Generalised estimating equations with a Gaussian response and identity link (Liang & Zeger 1986, Biometrika 73, 13-22).

The model is of the mean alone: E(y) = X b, with a working correlation within clusters that need not be right. The standard errors
are robust (sandwich), naive (the working correlation is taken as true) or bias-reduced (Mancl & DeRouen 2001, Biometrics 57,
126-134, for few clusters).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..attempt import attempt
from ..inference import definite
from ..lmm import Fits, pairs
from ..status import Status

__all__ = ["GeeFits", "GeeTable", "fit_gee"]

Array = NDArray[np.float64]
#: One data set: y (N), X (N, p), the cluster of each row (N), rows of a cluster in their order in time.
GeeTable = tuple[Array, Array, NDArray[np.int64]]


#: Share of the model's variance at which that of a sandwich is expected to be rounding; what a leverage of 1 may lack of it.
SILENT, ALONE = 1e-8, 1e-10
#: Least pivot of X'X, over its diagonal, at which X is taken as it is; else in orthonormal columns, as R's functions take it.
PLAIN = 1e-6
#: Residual sum of squares over that of y that is rounding.
PERFECT = 1e-20


@dataclass(frozen=True)
class GeeFits:
    """Fits of R data sets. fits: no deviance and no random effects, sigma2 the scale, sum of squared residuals / (N - p).

    messages (R): of failures, None where there is none; warnings (R): how many there were; rows, clusters (R). model, expected
    (R, p, p): covariances of b if the working correlation is true, that of the estimate and the expected one of the sandwich,
    which is 0 where residuals are; nan where there is no fit.
    """

    fits: Fits
    messages: NDArray[np.object_]
    warnings: NDArray[np.int32]
    rows: NDArray[np.int64]
    clusters: NDArray[np.int64]
    model: Array
    expected: Array

    def silent(self, weights: Array) -> NDArray[np.bool_]:
        """(R): where a sandwich's standard error of weights (r, p) times b, or their joint covariance, is only rounding.

        So with one cluster in an arm: its residuals sum to 0 whatever the data are. Several rows need more clusters than rows.
        """
        model, expected = (np.einsum("si,rik,tk->rst", weights, V, weights) for V in (self.model, self.expected))
        told = definite(model)
        found = ~told
        root = np.linalg.inv(np.linalg.cholesky(model[told]))
        share = root @ expected[told] @ root.transpose(0, 2, 1)
        found[told] = np.linalg.eigvalsh(share)[:, 0] <= SILENT
        return found | (self.clusters <= len(weights)) if len(weights) > 1 else found


def fit_gee(data: Iterable[GeeTable], p: int, *, working: str, covariance: str) -> GeeFits:
    """Fit data sets of p fixed effects one after another.

    working: "exchangeable", "independence" or "ar1", over the order of a cluster's rows; covariance: "robust", "naive" or
    "bias_reduced". Exceptions become the status method_error, iterations that stop short not_converged.
    """
    found = [_fit_one(*table, working, covariance) for table in data]
    status, iterations, estimates, messages, warned, rows, clusters = zip(*found, strict=True)
    R = len(found)
    fits = Fits(
        status=np.array(status, dtype=np.int64),
        iterations=np.array(iterations, dtype=np.int64),
        deviance=np.full(R, np.nan),
        residual=np.full(R, np.nan),
        beta=np.array([one.beta for one in estimates]).reshape(R, p),
        vcov=np.array([[one.vcov[i, k] for i, k in pairs(p)] for one in estimates]),
        varcomp=np.empty((R, 0)),
        sigma2=np.array([one.scale for one in estimates]),
    )
    return GeeFits(
        fits, np.array(messages, dtype=object), np.array(warned, dtype=np.int32), np.array(rows), np.array(clusters),
        np.array([one.model for one in estimates]), np.array([one.expected for one in estimates]),
    )  # fmt: skip


class _GeeEstimates(NamedTuple):
    """b (p), its covariance, the scale, and the covariances of `GeeFits`."""

    beta: Array
    vcov: Array
    scale: float
    model: Array
    expected: Array


def _fit_one(
    y: Array, X: Array, cluster: NDArray[np.int64], working: str, covariance: str
) -> tuple[Status, int, _GeeEstimates, str | None, int, int, int]:
    """Status, iterations, estimates, message, warnings, rows, clusters."""
    p, size = X.shape[1], (len(y), len(np.unique(cluster)))
    empty = np.full((p, p), np.nan)
    nothing = _GeeEstimates(empty[0], empty, np.nan, empty, empty)
    if not np.isfinite(X).all() or np.linalg.matrix_rank(X) < p:
        return (Status.rank_deficient, 0, nothing, "columns are linear combinations of one another", 0, *size)
    tried = attempt(lambda: _estimate(y, X, cluster, working, covariance))
    if tried.value is None:
        return (Status.method_error, 0, nothing, tried.message, tried.warnings, *size)
    converged, iterations, found = tried.value
    message = None
    status = Status.ok if converged else Status.not_converged
    if not (np.isfinite(found.beta).all() and np.isfinite(found.vcov).all() and found.scale > 0):
        status, message = Status.nonfinite, "estimates or standard errors are not finite"
    elif found.scale * (len(y) - p) <= PERFECT * (y @ y):
        status, message = Status.nonfinite, "the model fits perfectly: residuals are rounding"
    elif not converged:
        message = f"no convergence in {iterations} iterations"
    return status, iterations, found, message, tried.warnings, *size


def _estimate(
    y: Array, X: Array, cluster: NDArray[np.int64], working: str, covariance: str
) -> tuple[bool, int, _GeeEstimates]:
    from statsmodels.genmod.cov_struct import Autoregressive, Exchangeable, Independence
    from statsmodels.genmod.generalized_estimating_equations import GEE

    # rows follow one another at equal distances: the lag-1 estimate on a grid, not a search over distances
    structures = {
        "exchangeable": Exchangeable,
        "independence": Independence,
        "ar1": lambda: Autoregressive(grid=True),
    }
    Q, R = np.linalg.qr(X)
    Q, back = Q * np.sqrt(len(y)), np.linalg.solve(R, np.eye(len(R))) * np.sqrt(len(y))
    plain = (np.diag(R) ** 2 >= PLAIN * (X * X).sum(axis=0)).all()
    result = GEE(y, X if plain else Q, groups=cluster, cov_struct=structures[working]()).fit(cov_type=covariance)
    beta, vcov = np.asarray(result.params, dtype=float), np.asarray(result.cov_params(), dtype=float)
    if not plain:
        beta, vcov = back @ beta, back @ vcov @ back.T
    model, expected = (back @ V @ back.T for V in _expected(result.model.cov_struct, Q, cluster, covariance))
    steps = len(result.fit_history["params"])
    return bool(result.converged), steps, _GeeEstimates(beta, vcov, float(result.scale), model, expected)


def _expected(structure: Any, X: Array, cluster: NDArray[np.int64], covariance: str) -> tuple[Array, Array]:
    """(model, expected) of `GeeFits`, over the scale: with A_j = X_j'V_j^-1 X_j and M = (sum A_j)^-1,

    M and M [ sum_j A_j - A_j M A_j ] M. V_j is the working correlation, or I where that is not one.
    """
    parts = [X[cluster == j] for j in np.unique(cluster)]
    try:
        roots = [np.linalg.cholesky(structure.covariance_matrix(np.zeros(len(part)), 0)[0]) for part in parts]
        whitened = [np.linalg.solve(root, part) for root, part in zip(roots, parts, strict=True)]
    except np.linalg.LinAlgError:
        whitened = parts
    A = np.stack([part.T @ part for part in whitened])
    M = np.linalg.inv(A.sum(axis=0))
    if covariance == "naive":
        return M, M
    if covariance == "bias_reduced":  # its residuals are divided by 1 - leverage, by 0 for a cluster alone
        root = np.linalg.cholesky(M)
        if np.linalg.eigvalsh(root.T @ A @ root)[:, -1].max() > 1 - ALONE:
            return M, np.zeros_like(M)
    return M, M @ (A - A @ M @ A).sum(axis=0) @ M
