"""One replicate as rows: for analyses that need rows, and for people who want to see the data behind a fit.

On the rows path a replicate's rows are drawn again from its block's stream. On the moments path they never existed: they
are drawn given the sufficient statistics, from a stream of their own. With K the known columns of a cluster (n rows), the
Gaussian columns X and the errors e have given products with K and with themselves, and rows that are otherwise spherical. So

    [X, e] = Q Q'[X, e] + H F,   Q an orthonormal basis of K,   F'F = [X, e]'(I - Q Q')[X, e],

with H uniform on the orthonormal frames of K's complement (Eaton 1983, Multivariate Statistics, prop. 7.3): a Gaussian matrix,
projected off K and orthonormalised with positive pivots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .deviates import standard_normal
from .gram import Draw
from .layout import Array, Design, pair

__all__ = ["ConditionalRows", "ReplicateRows"]

#: Singular values of known columns relative to the largest, below which a direction does not exist.
RANK = 1e-10


@dataclass(frozen=True)
class ReplicateRows:
    """N rows: D (N, d) the design's level-1 columns, z (m, J) the level-2 columns, u (J, q) random effects, e (N) errors.

    fixed: the true fixed effects, where they are the replicate's own; sizes (J): rows of each cluster, 0 of one that is absent,
    where they are. Where rows are missing, e has what the truth's centred predictors are beyond those of the rows that are left.
    """

    D: Array
    z: Array
    u: Array
    e: Array
    fixed: tuple[float, ...] | None = None
    sizes: NDArray[np.int64] | None = None

    def spread(self, design: Design, values: NDArray[Any]) -> NDArray[Any]:
        """(N): values of clusters (J), on their rows."""
        return np.repeat(values, design.sizes if self.sizes is None else self.sizes)

    def term(self, design: Design, name: str) -> Array:
        """(N): the values of a term, as "x:z"."""
        column, outer = design.split(name)
        values = self.D[:, column].copy()
        for predictor in outer:
            values *= self.spread(design, self.z[design.between.index(predictor)])
        return values

    def response(self, design: Design) -> Array:
        """(N): y = X beta + Z u + e of the truth."""
        truth = design.condition.truth
        y = self.e.copy()
        fixed = truth.fixed if self.fixed is None else self.fixed
        for name, value in zip(truth.formula.fixed, fixed, strict=True):
            if value != 0.0:
                y += value * self.term(design, name)
        for k, column in enumerate(design.random):
            y += self.D[:, column] * self.spread(design, self.u[:, k])
        return y


class ConditionalRows:
    """Draws the rows of one replicate given its sufficient statistics: `ConditionalRows(design)(draw, r, generator)`."""

    def __init__(self, design: Design) -> None:
        self.design = design
        ends = np.cumsum(design.sizes)
        self._groups: list[tuple[NDArray[np.int64], NDArray[np.int64], Array, Array, int]] = []
        for size in np.unique(design.sizes):
            clusters = np.flatnonzero(design.sizes == size)
            rows = (ends - design.sizes)[clusters, None] + np.arange(size)
            for members, K in _by_rank(clusters, design.known_rows[rows]):
                Q, s, V = np.linalg.svd(K, full_matrices=False)
                rank = int((s[0] > RANK * s[0].max()).sum())
                basis = V[:, :rank].transpose(0, 2, 1) / s[:, None, :rank]
                self._groups.append((members, rows[np.searchsorted(clusters, members)], Q[:, :, :rank], basis, rank))

    def __call__(self, draw: Draw, r: int, generator: Generator) -> ReplicateRows:
        """Rows of replicate r of a block."""
        design = self.design
        k, g = design.known, design.drawn
        D = np.empty((design.rows, k + g))
        D[:, :k] = design.known_rows
        e = np.empty(design.rows)
        across, among = _products(draw, r, k, g)
        for clusters, rows, Q, basis, rank in self._groups:
            size = rows.shape[1]
            P = np.einsum("jka,jkb->jab", basis, across[clusters])
            noise = standard_normal(generator, (len(clusters), size, g + 1))
            free = min(size - rank, g + 1)
            values = Q @ P
            if free > 0:
                values += _frame(noise[:, :, :free], Q) @ _root(among[clusters] - P.transpose(0, 2, 1) @ P, free)
            D[rows, k:] = values[:, :, :g]
            e[rows] = values[:, :, g]
        z = draw.z[:, :, r if draw.z.shape[2] > 1 else 0]
        return ReplicateRows(D, z, draw.u[:, :, r], e)


def _by_rank(clusters: NDArray[np.int64], K: Array) -> list[tuple[NDArray[np.int64], Array]]:
    """Clusters of one size, apart by the rank of their known columns."""
    ranks = np.linalg.matrix_rank(K, rtol=RANK)
    return [(clusters[ranks == rank], K[ranks == rank]) for rank in np.unique(ranks)]


def _products(draw: Draw, r: int, k: int, g: int) -> tuple[Array, Array]:
    """K'[X, e] (J, k, g + 1) and [X, e]'[X, e] (J, g + 1, g + 1)."""
    rd = r if draw.dd.shape[2] > 1 else 0
    J = len(draw.ee)
    across, among = np.empty((J, k, g + 1)), np.empty((J, g + 1, g + 1))
    for b in range(g):
        for a in range(k):
            across[:, a, b] = draw.dd[:, pair(a, k + b), rd]
        for a in range(g):
            among[:, a, b] = draw.dd[:, pair(k + a, k + b), rd]
        among[:, b, g] = among[:, g, b] = draw.de[:, k + b, r]
    across[:, :, g] = draw.de[:, :k, r]
    among[:, g, g] = draw.ee[:, r]
    return across, among


def _frame(noise: Array, Q: Array) -> Array:
    """A uniform orthonormal frame (., n, m) of the complement of Q (., n, rank)."""
    for _ in range(2):  # once more for what rounding left
        noise = noise - Q @ (Q.transpose(0, 2, 1) @ noise)
    frame, R = np.linalg.qr(noise)
    signs: Array = np.sign(np.diagonal(R, axis1=1, axis2=2))
    return frame * signs[:, None, :]


def _root(S: Array, m: int) -> Array:
    """F (., m, n) with F'F = S, of rank at most m; scaled, so that units of the columns do not matter."""
    scale = np.sqrt(np.maximum(np.diagonal(S, axis1=1, axis2=2), 1e-300))
    values, vectors = np.linalg.eigh(S / (scale[:, :, None] * scale[:, None, :]))
    root = np.sqrt(np.maximum(values[:, -m:], 0.0))[:, :, None] * vectors[:, :, -m:].transpose(0, 2, 1)
    scaled: Array = root * scale[:, None, :]
    return scaled
