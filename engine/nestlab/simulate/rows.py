"""The rows path: rows are drawn and streamed into the sufficient statistics; none is kept.

Needed where the truth multiplies redrawn level-1 predictors: such products are not Gaussian. A row is drawn for all replicates
of the block at once, so sums run in the order of the rows, and how many rows are held at once changes nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from .centring import centre, centre_within, cluster_means
from .compiled import compiled
from .deviates import standard_normal
from .gram import Draw
from .layout import Array, Design, pair
from .moments import draw_between, draw_random_effects, with_known
from .replicate import ReplicateRows

__all__ = ["RowSampler"]

#: Normal deviates held at once: small enough for the second-level cache.
HELD = 65_536


class RowSampler:
    """Draws blocks of one condition by the rows path: `RowSampler(design)(generator, replicates)`.

    Columns that only analyses centre are made of the statistics, and change no draw.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self._cluster = np.repeat(np.arange(design.clusters), design.sizes)
        width = max((len(product) for product in design.products), default=0)
        self._products = np.array([(*p, *[-1] * (width - len(p))) for p in design.products], dtype=np.int64)
        self._products = self._products.reshape(len(design.products), width)

    def __call__(self, generator: Generator, replicates: int) -> Draw:
        """Draw a whole block. The order of the draws is part of the draw version."""
        design, J, R = self.design, self.design.clusters, replicates
        d, g, k = len(design.columns) - len(design.centred), design.drawn, design.known
        z = draw_between(design, generator, R)
        u = draw_random_effects(design, generator, R)
        dd = with_known(design.known_gram, d, R if g else 1)
        if g:
            dd[:, k * (k + 1) // 2 :] = 0.0
        de, ee = np.zeros((J, d, R)), np.zeros((J, R))
        x = np.empty((d - k, R))
        step = max(1, HELD // ((g + 1) * R))
        for first in range(0, design.rows, step):
            some = slice(first, min(first + step, design.rows))
            noise = standard_normal(generator, (some.stop - first, g + 1, R))
            _accumulate(
                self._cluster[some], design.known_rows[some], noise, design.drawn_mean, design.drawn_sd, self._products,
                x, dd, de, ee,
            )  # fmt: skip
        de *= design.residual_sd
        ee *= design.residual_sd**2
        return self._centred(Draw(dd, de, ee, u, z))

    def _centred(self, draw: Draw) -> Draw:
        """The block with what analyses centre."""
        design, d = self.design, len(self.design.columns)
        if not (design.centred or design.means):
            return draw
        first, R = design.known + design.drawn, draw.replicates
        places = [*range(first), *range(first + len(design.centred), d)]
        dd, de = np.zeros((design.clusters, d * (d + 1) // 2, R)), np.zeros((design.clusters, d, R))
        for i, column in enumerate(places):
            de[:, column] = draw.de[:, i]
            for m in range(i + 1):
                dd[:, pair(places[m], column)] = draw.dd[:, pair(m, i)]
        centre_within(design, dd, de)
        centre(design, dd, de)
        z = np.repeat(draw.z, R, axis=2) if draw.z.shape[2] == 1 else draw.z
        for row, source in enumerate(design.means, start=len(z) - len(design.means)):
            z[row] = cluster_means(dd, source) + design.constants[source]
        return Draw(dd, de, draw.ee, draw.u, z)

    def replicate(self, generator: Generator, replicates: int, r: int) -> ReplicateRows:
        """The rows of replicate r of a block, from the same stream as `__call__` draws it."""
        design, k, g = self.design, self.design.known, self.design.drawn
        z = draw_between(design, generator, replicates)
        u = draw_random_effects(design, generator, replicates)
        D, e = np.empty((design.rows, len(design.columns))), np.empty(design.rows)
        D[:, :k] = design.known_rows
        step = max(1, HELD // ((g + 1) * replicates))
        for first in range(0, design.rows, step):
            some = slice(first, min(first + step, design.rows))
            noise = standard_normal(generator, (some.stop - first, g + 1, replicates))[:, :, r]
            D[some, k : k + g] = design.drawn_mean + design.drawn_sd * noise[:, :g]
            e[some] = design.residual_sd * noise[:, g]
        for column, factors in enumerate(design.products, start=len(design.columns) - len(design.products)):
            D[:, column] = np.prod(D[:, list(factors)], axis=1)
        z = z[:, :, r if z.shape[2] > 1 else 0]
        for row, source in enumerate(design.means, start=len(z) - len(design.means)):
            z[row] = design.cluster_sums(D[:, source]) / design.sizes + design.constants[source]
        for column, (source, how) in enumerate(design.centred, start=k + g):
            mean = design.cluster_sums(D[:, source]) / design.sizes if how == "within" else np.mean(D[:, source])
            D[:, column] = D[:, source] - (np.repeat(mean, design.sizes) if how == "within" else mean)
        return ReplicateRows(design.stated(D), z, u[:, :, r], e)


@njit(error_model="numpy", fastmath={"contract"})
def _vary(
    known: Array, noise: Array, mean: Array, sd: Array, products: NDArray[np.int64], x: Array
) -> None:  # pragma: no cover
    """The columns of one row that vary over replicates, x (d - k, R): drawn predictors, then products."""
    k, g, R = len(known), len(mean), x.shape[1]
    for i in range(g):
        for r in range(R):
            x[i, r] = mean[i] + sd[i] * noise[i, r]
    for s in range(products.shape[0]):
        for r in range(R):
            x[g + s, r] = 1.0
        for f in range(products.shape[1]):
            factor = products[s, f]
            if factor >= k:
                for r in range(R):
                    x[g + s, r] *= x[factor - k, r]
            elif factor >= 0:
                for r in range(R):
                    x[g + s, r] *= known[factor]


@compiled(fastmath={"contract"})
def _accumulate(
    cluster: NDArray[np.int64], known: Array, noise: Array, mean: Array, sd: Array, products: NDArray[np.int64], x: Array,
    dd: Array, de: Array, ee: Array,
) -> None:  # fmt: skip  # pragma: no cover
    """Add rows to D'D beyond its known part, D'e and e'e, e of variance 1.

    cluster (n), known (n, k); noise (n, g + 1, R): the drawn predictors' and e; x (d - k, R): for one row's other columns.
    """
    n, k = known.shape
    R = noise.shape[2]
    for row in range(n):
        j = cluster[row]
        e = noise[row, len(mean)]
        _vary(known[row], noise[row], mean, sd, products, x)
        for r in range(R):
            ee[j, r] += e[r] * e[r]
        for h in range(k):
            value = known[row, h]
            for r in range(R):
                de[j, h, r] += value * e[r]
        for i in range(x.shape[0]):
            column = (k + i) * (k + i + 1) // 2
            for r in range(R):
                de[j, k + i, r] += x[i, r] * e[r]
            for h in range(k):
                value = known[row, h]
                for r in range(R):
                    dd[j, column + h, r] += value * x[i, r]
            for h in range(i + 1):
                for r in range(R):
                    dd[j, column + k + h, r] += x[h, r] * x[i, r]
