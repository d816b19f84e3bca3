"""Rows that have given statistics of strata: the exact conditional draw.

Given C'P_s Y, Y'P_s Y and the sum of squares within cells, what is left is spherical: in each stratum the part of Y beside P_s C
is E H with E'E given and E's columns uniform on the orthonormal frames there, within cells the part beside D has a given length
and any direction (M. L. Eaton 1983, Multivariate Statistics, prop. 7.3). So a Gaussian matrix is projected and given the right
products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..deviates import standard_normal
from .cells import CellDesign, CellStatistics, pair
from .draw import CellTruth
from .structure import Partition

__all__ = ["CellRows"]

Array = NDArray[np.float64]

#: Eigenvalue over the largest that is rounding.
ROUNDING = 1e-10


@dataclass(frozen=True)
class CellRows:
    """Draws rows of cells: `CellRows(design).noise(statistics, r, generator)`."""

    design: CellDesign

    @cached_property
    def _whole(self) -> Partition:
        cells = self.design.strata.cells
        return Partition(np.arange(cells), cells)

    def noise(
        self, statistics: CellStatistics, r: int, generator: Generator, drawn: Mapping[int, Array] | None = None
    ) -> Array:
        """(N): y of replicate r without fixed effects, cell by cell, with the replicate's statistics. drawn: values (levels, 1)
        of redrawn multipliers, by number."""
        d = self.design
        cells, n = d.strata.cells, len(d.basis)
        scores = standard_normal(generator, (cells, d.r + n, 1))[:, :, 0]
        spread = d.strata.tables(self._whole, scores[:, : d.r])
        Y = np.zeros((cells, d.r))
        one = statistics.subset([r])
        multipliers = d.tables_of(drawn or {})
        for s, stratum in enumerate(d.strata.strata):
            C = [m for m in range(d.k) if s in multipliers[m]]
            codes, sizes = stratum.partition.codes, stratum.partition.sizes.astype(float)
            X = np.stack([multipliers[m][s][:, 0] for m in C], axis=1) if C else np.zeros((len(sizes), 0))
            cc = (X * sizes[:, None]).T @ X
            inverse = np.linalg.pinv(cc, rcond=ROUNDING, hermitian=True)
            cy = one.cy[s, C, :, 0].reshape(len(C), d.r)
            mean = X @ (inverse @ cy)
            given = np.array([[one.yy[s, pair(a, b), 0] for b in range(d.r)] for a in range(d.r)])
            rest = given - cy.T @ inverse @ cy
            left = spread[s] - X @ (inverse @ (X.T @ (sizes[:, None] * spread[s])))
            made = (left * sizes[:, None]).T @ left
            Y += (mean + left @ _turned(made, rest))[codes]
        within = scores[:, d.r :]
        within = within - (within @ d.basis) @ d.basis.T
        length = float((within**2).sum())
        scale = np.sqrt(max(float(one.within[0]), 0.0) / length) if d.within_df else 0.0
        return np.asarray((Y @ d.basis.T + within * scale).ravel())

    def effects(self, truth: CellTruth, noise: Array, generator: Generator) -> list[Array]:
        """Random effects (levels, q) of each term given Z u + e: a draw of u and e corrected by what its sum misses."""
        d = self.design
        cells, n = d.strata.cells, len(d.basis)
        residual = float(np.ravel(truth.residual_variance)[0])
        drawn, total = [], np.zeros((cells, n))
        columns = [d.basis @ (d.root @ t.columns) for t in truth.terms]
        covariances = [
            np.asarray(t.covariance, float).reshape(t.columns.shape[1], t.columns.shape[1]) for t in truth.terms
        ]
        for t, Z, G in zip(truth.terms, columns, covariances, strict=True):
            levels = d.strata.factors[t.factor].levels
            u = standard_normal(generator, (levels, len(G), 1))[:, :, 0] @ _root(G).T
            drawn.append(u)
            total += u[d.strata.factors[t.factor].codes] @ Z.T
        total += np.sqrt(residual) * standard_normal(generator, (cells, n, 1))[:, :, 0]
        missed = self._weighed(truth, covariances, noise.reshape(cells, n) - total, residual)
        for k, (t, Z, G) in enumerate(zip(truth.terms, columns, covariances, strict=True)):
            factor = d.strata.factors[t.factor]
            sums = np.zeros((factor.levels, Z.shape[1]))
            np.add.at(sums, factor.codes, missed @ Z)
            drawn[k] = drawn[k] + sums @ G
        return drawn

    def _weighed(self, truth: CellTruth, covariances: list[Array], y: Array, residual: float) -> Array:
        """V^-1 y (cells, n)."""
        d = self.design
        t = y @ d.basis
        found = (y - t @ d.basis.T) / residual
        for s, table in d.strata.tables(self._whole, t).items():
            K = residual * np.eye(d.r)
            for term, G in zip(truth.terms, covariances, strict=True):
                if term.factor in d.strata.strata[s]:
                    Z = d.root @ term.columns
                    K += d.strata.cells_of(term.factor) * Z @ G @ Z.T
            found += (table @ np.linalg.inv(K))[d.strata.strata[s].partition.codes] @ d.basis.T
        return found


def _root(S: Array) -> Array:
    values, vectors = np.linalg.eigh(S)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _turned(made: Array, wanted: Array) -> Array:
    """T with T' made T = wanted, both positive semi-definite and the rank of the second at most that of the first."""
    values, vectors = np.linalg.eigh(made)
    kept = values > ROUNDING * max(float(values[-1]), 1e-300)
    m = int(kept.sum())
    if not m:
        return np.zeros_like(made)
    roots, directions = np.linalg.eigh(wanted)
    root = np.sqrt(np.maximum(roots[-m:], 0.0))[:, None] * directions[:, -m:].T
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])) @ root)
