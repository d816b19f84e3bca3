"""statsmodels' MixedLM, one data set after another, with nestlab's inference on its fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..lmm import Fits
from .analysis import Analysed, Block, Prepared
from .mixed import MixedModel

__all__ = ["Statsmodels", "compile_analysis"]

TOLERANCES = "statsmodels' MixedLM runs at its own tolerances."


def compile_analysis(on: Prepared) -> Statsmodels:
    """Prepare fits by statsmodels."""
    return Statsmodels(on)


@dataclass(frozen=True)
class Statsmodels:
    """MixedLM on one design."""

    on: Prepared

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        model, fits = MixedModel(self.on), self._fit(block, first, last)
        gram = model.gram(block.draw) if self.on.design.condition.uneven else None  # it counts each replicate's rows
        return self.on.analysed(fits, model.rules(gram, fits, first, last))

    def _fit(self, block: Block, first: int, last: int) -> Fits:
        from ..reference import fit_rows

        design, plan = self.on.design, self.on.plan
        fits = []
        for rows in block.rows(first, last):
            X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
            data = (rows.response(design), X, rows.D[:, list(plan.zcols)])
            groups = rows.spread(design, np.arange(design.clusters))
            fits.append(fit_rows([data], groups, plan.blocks, reml=plan.reml))
        return Fits.concatenate(fits)
