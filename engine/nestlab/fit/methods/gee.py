"""Generalised estimating equations by statsmodels, one data set after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...simulate.replicate import ReplicateRows
from ..inference import Inference, between_within_df
from ..reference.gee import GeeTable
from .analysis import Analysed, Block, Prepared

__all__ = ["Gee", "compile_analysis"]

Array = NDArray[np.float64]


def compile_analysis(on: Prepared) -> Gee:
    """Prepare a GEE."""
    return Gee(on)


@dataclass(frozen=True)
class Gee:
    """A GEE on one design. Degrees of freedom count the rows and clusters of each data set."""

    on: Prepared

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        from ..reference import fit_gee

        on, method, hypotheses = self.on, self.on.method, self.on.hypotheses
        tables = map(self._table, block.rows(first, last))
        found = fit_gee(tables, len(on.names), working=method.working, covariance=method.covariance)
        silent = np.stack([found.silent(hypotheses[h]) for h in range(len(hypotheses))], axis=1)
        inferences = {
            rule: Inference(
                np.where(silent, np.nan, self._df(rule, found.rows, found.clusters)),
                found.fits.vcov,
                np.ones(silent.shape),
            )
            for rule in method.df
        }
        inferred = on.inferred(found.fits, inferences) | {"message": found.messages, "warnings": found.warnings}
        return on.analysed(found.fits, inferred)

    def _table(self, rows: ReplicateRows) -> GeeTable:
        """y (N), X (N, p) and the cluster of each row (N)."""
        design = self.on.design
        X = np.column_stack([rows.term(design, term) for term in self.on.plan.formula.fixed])
        return rows.response(design), X, rows.spread(design, np.arange(design.clusters))

    def _df(self, rule: str, rows: NDArray[np.int64], clusters: NDArray[np.int64]) -> Array:
        """Degrees of freedom (R, H): of a contrast, the smallest of its effects'. Between and within are told as beside a random
        intercept."""
        p = len(self.on.names)
        if rule == "between-within":
            # level-1 column 0 is the Intercept
            equation = [0 if column == 0 else -1 for column in self.on.plan.xcols]
            df = between_within_df(equation, clusters=clusters, rows=rows)
        else:
            left = np.full(len(rows), np.inf) if rule == "z" else np.where(rows > p, rows - p, np.nan)
            df = np.repeat(left[:, None], p, axis=1)
        return np.stack([df[:, members].min(axis=1) for members in self.on.hypotheses.effects], axis=1)
