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
from .gram import Draw, added_by_offsets
from .known import known_columns
from .layout import Array, Design, cluster_sums, pair

__all__ = ["ConditionalRows", "ReplicateRows"]

#: Singular values of known columns relative to the largest, below which a direction does not exist.
RANK = 1e-10


@dataclass(frozen=True)
class ReplicateRows:
    """N rows: D (N, d) the design's level-1 columns, z (m, J) the level-2 columns, u (J, q) random effects, e (N) errors.

    Outcomes that are not Gaussian stand in e themselves.

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
        """(N): y = X beta + Z u + e of the truth, or what was drawn of another family."""
        truth = design.condition.truth
        y = self.e.copy()
        if not truth.formula.family.gaussian:
            return y
        fixed = truth.fixed if self.fixed is None else self.fixed
        for name, value in zip(truth.formula.fixed, fixed, strict=True):
            if value != 0.0:
                y += value * self.term(design, name)
        for k, column in enumerate(design.random):
            y += self.D[:, column] * self.spread(design, self.u[:, k])
        return y


@dataclass(frozen=True)
class _Alike:
    """Clusters (c) of one size n whose known columns K have one rank: their rows (c, n), an orthonormal basis Q (c, n, rank) of
    K, and basis (c, rank, known), which turns K'X into Q'X."""

    clusters: NDArray[np.int64]
    rows: NDArray[np.int64]
    Q: Array
    basis: Array


class ConditionalRows:
    """Draws the rows of one replicate given its sufficient statistics: `ConditionalRows(design)(draw, r, generator)`."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self._alike = _alike(design.known_rows, design.sizes) if design.settled else None
        # A column with a large mean keeps its digits in a centred one, where there is one.
        self._twins = [self._twin(column) for column in range(design.known, design.known + design.drawn)]

    def _twin(self, column: int) -> int:
        first = self.design.known + self.design.drawn
        return next((c for c, (source, _) in enumerate(self.design.centred, start=first) if source == column), column)

    def __call__(self, draw: Draw, r: int, generator: Generator) -> ReplicateRows:
        """Rows of replicate r of a block."""
        design, k, g = self.design, self.design.known, self.design.drawn
        dd = draw.dd[:, :, r if draw.dd.shape[2] > 1 else 0]
        sizes, known, alike = design.sizes, design.known_rows, self._alike
        if alike is None:
            sizes = dd[:, 0].round().astype(np.int64)
            known = self._known(sizes)
            alike = _alike(known, sizes)
        D = np.empty((len(known), k + g + len(design.centred)))
        D[:, :k] = known
        e = np.empty(len(known))
        across, among = _products(dd, draw.de[:, :, r], draw.ee[:, r], k, self._twins)
        for some in alike:
            size, rank = some.Q.shape[1:]
            P = np.einsum("jka,jkb->jab", some.basis, across[some.clusters])
            noise = standard_normal(generator, (len(some.clusters), size, g + 1))
            free = min(size - rank, g + 1)
            values = some.Q @ P
            if free > 0:
                values += _frame(noise[:, :, :free], some.Q) @ _root(
                    among[some.clusters] - P.transpose(0, 2, 1) @ P, free
                )
            D[some.rows, k : k + g] = values[:, :, :g]
            e[some.rows] = values[:, :, g]
        self._centre(D, dd, sizes)
        if draw.offsets is not None:
            e += np.repeat(added_by_offsets(draw, design)[:, r], sizes)
        z = draw.z[:, :, r if draw.z.shape[2] > 1 else 0]
        return ReplicateRows(design.stated(D), z, draw.u[:, :, r], e, sizes=None if design.settled else sizes)

    def _known(self, sizes: NDArray[np.int64]) -> Array:
        """(N, known): the known columns of clusters of these sizes, all or none of their rows where sizes are not redrawn."""
        design = self.design
        if design.condition.layout.redrawn:
            return known_columns(design.condition, sizes)
        return design.known_rows[np.repeat(sizes > 0, design.sizes)]

    def _centre(self, D: Array, dd: Array, sizes: NDArray[np.int64]) -> None:
        """Fill centred columns, and turn those that were drawn in place of a predictor into it; means are by the sums in D'D."""
        design, rows = self.design, np.maximum(sizes, 1)
        if not design.centred:
            return

        def moved(values: Array, column: int) -> Array:
            return values + np.repeat((dd[:, pair(0, column)] - cluster_sums(values, sizes)) / rows, sizes)

        for target, (source, _) in enumerate(design.centred, start=design.known + design.drawn):
            D[:, target] = moved(D[:, source], target)
        for column, twin in enumerate(self._twins, start=design.known):
            if twin != column:
                D[:, column] = moved(D[:, column], column)


def _alike(K: Array, sizes: NDArray[np.int64]) -> list[_Alike]:
    """Clusters by size, and by the rank of their known columns K (N, known)."""
    groups = []
    ends = np.cumsum(sizes)
    for size in np.unique(sizes[sizes > 0]):
        clusters = np.flatnonzero(sizes == size)
        rows = (ends - sizes)[clusters, None] + np.arange(size)
        for members, own in _by_rank(clusters, K[rows]):
            Q, s, V = np.linalg.svd(own, full_matrices=False)
            rank = int((s[0] > RANK * s[0].max()).sum())
            basis = V[:, :rank].transpose(0, 2, 1) / s[:, None, :rank]
            groups.append(_Alike(members, rows[np.searchsorted(clusters, members)], Q[:, :, :rank], basis))
    return groups


def _by_rank(clusters: NDArray[np.int64], K: Array) -> list[tuple[NDArray[np.int64], Array]]:
    """Clusters of one size, apart by the rank of their known columns."""
    ranks = np.linalg.matrix_rank(K, rtol=RANK)
    return [(clusters[ranks == rank], K[ranks == rank]) for rank in np.unique(ranks)]


def _products(dd: Array, de: Array, ee: Array, k: int, drawn: list[int]) -> tuple[Array, Array]:
    """K'[X, e] (J, k, g + 1) and [X, e]'[X, e] (J, g + 1, g + 1), X being some columns of D; of one replicate."""
    J, g = len(ee), len(drawn)
    across, among = np.empty((J, k, g + 1)), np.empty((J, g + 1, g + 1))
    for b, column in enumerate(drawn):
        for a in range(k):
            across[:, a, b] = dd[:, pair(a, column)]
        for a, other in enumerate(drawn):
            among[:, a, b] = dd[:, pair(other, column)]
        among[:, b, g] = among[:, g, b] = de[:, column]
    across[:, :, g] = de[:, :k]
    among[:, g, g] = ee
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
