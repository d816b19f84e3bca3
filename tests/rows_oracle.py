"""Cluster-robust covariances and their degrees of freedom from rows, as they are defined: dense matrices, one data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nestlab.simulate.gram import Gram
from nestlab.simulate.layout import pair

Array = NDArray[np.float64]


def root(matrix: Array, power: float) -> Array:
    """A power of a positive semi-definite matrix, Moore and Penrose's where it is singular."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-10 * max(values.max(), 1.0)
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T


class Dense:
    """Estimates b, the sandwich and its factors of y = X b + e, Var(e_j) = V_j in working, by clusters g (N)."""

    def __init__(self, y: Array, X: Array, g: NDArray[np.int64], *, kind: str, V: Array | None = None) -> None:
        V = np.eye(len(y)) if V is None else V
        W = np.linalg.inv(V)
        C = np.linalg.cholesky(V)
        Q, R = np.linalg.qr(np.linalg.solve(C, X))
        M = np.linalg.inv(R) @ np.linalg.inv(R).T
        self.b = np.linalg.solve(R, Q.T @ np.linalg.solve(C, y))
        e = y - X @ self.b
        H = np.eye(len(y)) - X @ M @ X.T @ W
        labels = np.unique(g)
        self.loads = []  # of cluster j, (N, p): its score is loads'y
        meat = np.zeros_like(M)
        for label in labels:
            j = g == label
            A = np.eye(j.sum())
            if kind == "CR2":
                half = root(V[np.ix_(j, j)], 0.5)
                A = half @ root(half @ (V[np.ix_(j, j)] - X[j] @ M @ X[j].T) @ half, -0.5) @ half
            left = A @ W[np.ix_(j, j)] @ X[j] @ M
            score = left.T @ e[j]
            meat += np.outer(score, score)
            self.loads.append(H[j].T @ left)
        J, N, p = len(labels), len(y), X.shape[1]
        self.vcov = meat * {"CR1": J / (J - 1), "CR1S": J * (N - 1) / ((J - 1) * (N - p))}.get(kind, 1.0)
        self.V = V

    def htz(self, rows: Array) -> tuple[float, float]:
        """(df, scale of F) of a joint hypothesis; of one row: (Bell and McCaffrey's df, 1)."""
        r, U = len(rows), np.stack([load @ rows.T for load in self.loads])  # (J, N, r)
        P = np.einsum("ins,nm,jmt->stij", U, self.V, U)
        half = np.linalg.inv(np.linalg.cholesky(np.einsum("stii->st", P)))
        P = np.einsum("as,stij,bt->abij", half, P, half)
        variance = np.einsum("ssij,ttij->", P, P) + np.einsum("stij,tsij->", P, P)
        eta = r * (r + 1) / variance
        return eta - r + 1, (eta - r + 1) / eta


def gram_of(y: Array, D: Array, g: NDArray[np.int64], weights: Array | None = None) -> Gram:
    """The Gram of one data set: level-1 columns D (N, d), multipliers (w, J); clusters are numbered 0, 1, ..."""
    J, d = int(g.max()) + 1, D.shape[1]
    dd, dy, yy = np.zeros((J, d * (d + 1) // 2, 1)), np.zeros((J, d, 1)), np.zeros((J, 1))
    for j in range(J):
        rows = D[g == j]
        for k in range(d):
            for i in range(k + 1):
                dd[j, pair(i, k), 0] = rows[:, i] @ rows[:, k]
        dy[j, :, 0], yy[j, 0] = rows.T @ y[g == j], y[g == j] @ y[g == j]
    return Gram(
        dd, dy, yy, np.ones((1, J, 1)) if weights is None else np.vstack([np.ones((1, J)), weights])[:, :, None]
    )
