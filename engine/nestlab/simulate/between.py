"""Level-2 predictors of a block: drawn from normal scores, or known ones that are allocated to clusters at random."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from ..spec.model import Predictor
from ..spec.predictors.allocation import allotted
from ..spec.predictors.allotted import HALVES
from ..spec.predictors.categories import coded
from ..spec.predictors.known import strata
from .deviates import standard_normal
from .distributions import score_correlations
from .known import lower_factor, realise
from .layout import Array, Design

__all__ = ["draw_between"]


def draw_between(design: Design, generator: Generator, replicates: int) -> Array:
    """(m, J, R or 1): the level-2 columns; those that are not redrawn repeat their values, means of clusters are left at 0."""
    fixed = design.between_fixed.copy()
    fixed[len(fixed) - len(design.means) :] = 0.0
    if not design.between_drawn.any():
        return fixed[:, :, None]
    z = np.repeat(fixed[:, :, None], replicates, axis=2)
    redrawn = [
        p for p in design.between_predictors if np.isnan(design.between_fixed[design.between.index(p.columns[0])]).any()
    ]
    scores = standard_normal(generator, (len(redrawn), design.clusters, replicates))
    L = lower_factor(score_correlations(redrawn, design.condition.correlations)[0])
    for i in reversed(range(len(redrawn))):  # score i needs scores 0 .. i
        if L[i, i] != 1.0:
            scores[i] *= L[i, i]
            for k in np.flatnonzero(L[i, :i]).tolist():
                scores[i] += L[i, k] * scores[k]
    for predictor, g in zip(redrawn, scores, strict=True):
        first = design.between.index(predictor.columns[0])
        z[first : first + len(predictor.columns)] = realise(predictor, g)
    if design.allocated:
        order = np.argsort(standard_normal(generator, (design.clusters, replicates)), axis=0)
        for k in design.allocated:
            z[k] = design.between_fixed[k][order]
    for predictor in design.blocked:
        _allocate(design, predictor, standard_normal(generator, (design.clusters, replicates)), z)
    return z


def _allocate(design: Design, predictor: Predictor, noise: Array, z: Array) -> None:
    """Put the values of a predictor to clusters at random within its blocks, by the ranks of `noise` (J, R) there."""
    columns = {p.name: z[design.places(p)] for p in design.between_predictors}
    blocks = strata(predictor, columns, design.clusters)
    keys = [np.broadcast_to(key if key.ndim == 2 else key[:, None], noise.shape) for key in blocks]
    order = np.lexsort((noise, *keys[::-1]), axis=0)
    turns = allotted(predictor.shares or HALVES, design.clusters)
    values = np.empty(noise.shape)
    np.put_along_axis(values, order, turns.astype(float)[:, None], axis=0)
    z[design.places(predictor)] = coded(predictor, values)
