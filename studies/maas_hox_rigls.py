"""What the estimator of Maas and Hox does where nestlab's REML is singular: RIGLS, which lets variances become negative.

Restricted iterative generalised least squares (Goldstein 1989, Biometrika 76) is Fisher scoring of the restricted likelihood.
With V_j = a 11' + b xx' + s2 I in group j it needs V to be regular, not a and b to be 0 or more; where both come out positive
it is nestlab's REML. It is fitted here to the very rows of the study's replicates.

run: python studies/maas_hox_rigls.py   (writes studies/maas_hox_rigls.csv: the conditions of 5 rows a group, two minutes)
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

import nestlab as nl
from nestlab.run.block import compile_condition

HERE = Path(__file__).parent
REPLICATES = 2000
PARAMETERS = ("var:group:Intercept", "var:group:x", "var:residual")


def _directions(X: np.ndarray) -> np.ndarray:
    """dV/da, dV/db, dV/ds2: (3, J, n, n)."""
    J, n = X.shape[:2]
    return np.stack([*(X[..., k, None] * X[..., None, :, k] for k in (0, 1)), np.broadcast_to(np.eye(n), (J, n, n))])


def _score(theta: np.ndarray, y: np.ndarray, X: np.ndarray, D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score and expected information of the restricted likelihood: with P = W - W X K X'W, K = (X'W X)^-1,

    score_k = (y'P D_k P y - tr P D_k) / 2,  information_km = tr(P D_k P D_m) / 2.
    """
    W = np.linalg.inv(np.tensordot(theta, D, 1))
    WX = W @ X
    K = np.linalg.inv(np.einsum("jap,jaq->pq", X, WX))
    beta = K @ np.einsum("jap,ja->p", WX, y)
    Py = (W @ (y - X @ beta)[..., None])[..., 0]
    WD, DWX = W @ D, D @ WX
    first = K @ np.einsum("jap,kjaq->kpq", WX, DWX)
    WDWX = W @ DWX
    second = K @ np.tensordot(DWX, WDWX, ((1, 2), (1, 2))).transpose(0, 2, 1, 3)
    trace = WD.trace(axis1=2, axis2=3).sum(axis=1) - first.trace(axis1=1, axis2=2)
    score = 0.5 * (np.einsum("ja,kja->k", Py, (D @ Py[..., None])[..., 0]) - trace)
    whole = np.tensordot(WD, WD.swapaxes(2, 3), ((1, 2, 3), (1, 2, 3)))
    crossed = np.tensordot(first, first.swapaxes(1, 2), ((1, 2), (1, 2)))
    return score, 0.5 * (whole - 2 * second.trace(axis1=2, axis2=3) + crossed)


def rigls(y: np.ndarray, X: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """(a, b, s2), their standard errors by the expected information, and whether the search settled.

    y (J, n); X (J, n, p), columns 1 and x first; start (3,).
    """
    theta, D = start, _directions(X)
    with suppress(np.linalg.LinAlgError):  # V or the information became singular on the way
        for _ in range(100):
            score, information = _score(theta, y, X, D)
            step = np.linalg.solve(information, score)
            theta = theta + step
            if np.abs(step).max() < 1e-9:
                return theta, np.sqrt(np.diag(np.linalg.inv(information))), True
            if not np.abs(theta).max() < 1e3:
                break
    return np.full(3, np.nan), np.full(3, np.nan), False


def refit(study: nl.Study, number: int, replicates: int) -> pd.DataFrame:
    """RIGLS on replicates 0, 1, ... of one condition: estimate, standard error and status, a row a replicate."""
    condition = study.conditions[number]
    compiled = compile_condition(condition, study.methods)
    truth = condition.truth
    start = np.array([truth.covariance[0][0], truth.covariance[1][1], truth.residual_variance])
    found = []
    for replicate in range(replicates):
        frame = compiled.frame(replicate)
        y, x, z = (frame[c].to_numpy().reshape(condition.layout.clusters, -1) for c in ("y", "x", "z"))
        theta, se, settled = rigls(y, np.stack([np.ones_like(x), x, z, x * z], axis=-1), start)
        found.append([settled, *theta, *se, *(np.abs(theta - start) > 1.959963984540054 * se)])
    names = [f"{what}.{p}" for what in ("estimate", "se", "miss") for p in PARAMETERS]
    return pd.DataFrame(found, columns=["settled", *names])


def main() -> None:
    study = nl.Study.from_toml(HERE / "maas_hox_2005.toml")
    rows = []
    for number, condition in enumerate(study.conditions):
        if condition.factors["cluster_size"] != 5:
            continue
        fits = refit(study, number, REPLICATES)
        kept = fits[fits["settled"]]
        row = {k: condition.factors[k] for k in ("clusters", "cluster_size", "icc")}
        row |= {"n": len(kept), "negative": (kept[[f"estimate.{p}" for p in PARAMETERS]] < 0).any(axis=1).mean()}
        rows.append(row | {p: kept[f"miss.{p}"].mean() for p in PARAMETERS})
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(HERE / "maas_hox_rigls.csv", index=False, float_format="%.5f", lineterminator="\n")


if __name__ == "__main__":
    main()
