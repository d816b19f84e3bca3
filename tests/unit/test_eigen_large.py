"""Eigenvalues of large symmetric matrices in compiled code."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from nestlab.fit.small import eigen_large


@njit
def call(n, values, vectors, off):
    eigen_large(n, values, vectors, off)


@pytest.mark.parametrize("kind", ["full", "zero", "diagonal", "rank 1", "repeated", "graded"])
@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_eigenvalues_and_vectors(n, kind):
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n))
    Q = np.linalg.qr(A)[0]
    A = {
        "full": A + A.T, "zero": 0 * A, "diagonal": np.diag(A[0]), "rank 1": np.outer(A[0], A[0]),
        "repeated": Q @ np.diag(np.arange(n) // 2) @ Q.T, "graded": Q @ np.diag(10.0 ** -np.arange(n)) @ Q.T,
    }[kind]  # fmt: skip
    room = np.full((n + 2, n + 2), 7.0)
    room[:n, :n] = A
    values, off = np.zeros(n + 2), np.zeros(n + 2)
    call(n, values, room, off)
    V = room[:n, :n]
    np.testing.assert_allclose(V.T @ V, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(V * values[:n] @ V.T, A, atol=1e-13 * (1 + np.abs(A).max()))
    np.testing.assert_allclose(np.sort(values[:n]), np.linalg.eigvalsh(A), atol=1e-13 * (1 + np.abs(A).max()))
    assert (room[n:] == 7).all()
