"""The Gram of a block of replicates: per cluster, all that a Gaussian analysis needs.

Arrays hold the replicate index last, so that a block is drawn in bulk and neighbouring replicates lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..spec.far import constant_of
from ..spec.uncertain import DrawnTruth
from .compiled import compiled
from .layout import Array, Design, pair

__all__ = ["Draw", "Gram", "Shift", "added_by_offsets", "respond", "response"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One block as drawn: d level-1 columns D, errors e, random effects u, level-2 predictors z; J clusters, R replicates.

    dd (J, d(d+1)/2, R or 1): D'D by pairs (`layout.pair`); 1 where no level-1 predictor is redrawn. de (J, d, R): D'e.
    ee (J, R): e'e. u (J, q, R). z (m, J, R or 1): 1 where no level-2 predictor is redrawn. To be read only: what replicates
    share may be the design's own. Clusters without rows have products of 0. truths: of each replicate, where the condition has
    priors. offsets (c, 1, R): what the truth's centred columns are less those in D, where lost clusters make them differ.
    """

    dd: Array
    de: Array
    ee: Array
    u: Array
    z: Array
    truths: DrawnTruth | None = None
    offsets: Array | None = None

    @property
    def replicates(self) -> int:
        return int(self.ee.shape[1])

    @property
    def counts(self) -> dict[str, NDArray[np.int32]]:
        """What each replicate has: `rows` and `clusters`, those with rows."""
        sizes = self.dd[:, 0]
        found = {"rows": np.rint(sizes.sum(axis=0)), "clusters": (sizes > 0.5).sum(axis=0)}
        return {name: np.broadcast_to(values.astype(np.int32), self.ee.shape[1:]) for name, values in found.items()}


@dataclass(frozen=True, slots=True)
class Gram:
    """D'D, D'y and y'y of each cluster and replicate, with the multipliers of level-2 terms (w, J, R or 1)."""

    dd: Array
    dy: Array
    yy: Array
    weights: Array


@dataclass(frozen=True, slots=True)
class Shift:
    """A model in coordinates without the constants of predictors far from 0 (`spec.far`): where the formula's fixed effects are b
    and its random effects u, these are F^-1 b and R^-1 u; fixed (p, p): F, random (q, q): R. true (p): the values of b that
    `respond` leaves out.

    extra: level-1 columns of the study that the model needs besides as they are; they follow the others of D.
    """

    fixed: Array
    random: Array
    true: Array
    extra: tuple[int, ...]


def respond(
    draw: Draw,
    design: Design,
    omitted: dict[str, float],
    multipliers: list[tuple[str, ...]],
    shift: Shift | None = None,
) -> Gram:
    """The Gram of y less the true contribution of the terms that the analysis contains.

    Estimates are equivariant, so the true values of those terms are added to the estimates instead: a mean of 1e6 with unit
    variance would lose its digits in y'y. omitted: true values of the fixed effects that the analysis leaves out. multipliers:
    the level-2 predictors of each product that the analysis needs; () is the constant 1. What is never added is the condition's
    truth: where a replicate has its own, the difference is part of y. shift: of predictors far from 0; without it, columns and
    multipliers are those of the study.
    """
    columns, w = _coefficients(draw, design, omitted)
    if design.moved:
        columns, moved = design.moved_weights(columns, np.swapaxes(w, 0, 1))
        w = np.ascontiguousarray(np.swapaxes(moved, 0, 1))
    dy, yy = response(draw.dd, draw.de, draw.ee, columns, w)
    weights = np.ones((len(multipliers), design.clusters, draw.z.shape[2] if any(multipliers) else 1))
    for k, outer in enumerate(multipliers):
        weights[k] = _multiplier(draw, design, outer, moved=shift is not None)
    if not design.moved or (shift is not None and not shift.extra):
        return Gram(draw.dd, dy, yy, weights)
    d = len(design.columns)
    T = design.as_stated if shift is None else np.hstack([np.eye(d), design.as_stated[:, list(shift.extra)]])
    return Gram(_products_of(draw.dd, T), np.asarray(np.einsum("ia,jir->jar", T, dy)), yy, weights)


def _products_of(dd: Array, T: Array) -> Array:
    """(J, pairs, R or 1): T'D'D T by pairs, T (d, columns)."""
    used = [np.flatnonzero(column).tolist() for column in T.T]
    found = np.zeros((len(dd), len(used) * (len(used) + 1) // 2, dd.shape[2]))
    for b, right in enumerate(used):
        for a in range(b + 1):
            for i in used[a]:
                for k in right:
                    found[:, pair(a, b)] += T[i, a] * T[k, b] * dd[:, pair(i, k)]
    return found


def response(dd: Array, de: Array, ee: Array, columns: Sequence[int], w: Array) -> tuple[Array, Array]:
    """D'y (J, d, R) and y'y (J, R) of y = D w + e, w (J, columns, R) on some columns of D; other arguments as in `Draw`."""
    dy, yy = np.empty_like(de), np.empty_like(ee)
    _respond(dd, de, ee, w, np.array(columns, dtype=np.int64), dy, yy)
    return dy, yy


def _coefficients(draw: Draw, design: Design, omitted: dict[str, float]) -> tuple[list[int], Array]:
    """Columns of D and their coefficients (J, columns, R): random effects, omitted fixed effects, and what drawn ones differ."""
    terms: list[tuple[int, tuple[str, ...], float | Array]]
    terms = [(*design.split(term), value) for term, value in omitted.items()]
    if draw.truths is not None:
        truth = design.condition.truth
        for term, central, drawn in zip(truth.formula.fixed, truth.fixed, draw.truths.fixed, strict=True):
            if (drawn != central).any():
                terms.append((*design.split(term), drawn - central))
    added = None if draw.offsets is None else added_by_offsets(draw, design)
    columns = list(
        dict.fromkeys([*design.random, *(column for column, _, _ in terms), *([0] if added is not None else [])])
    )
    if not terms and added is None:
        return columns, draw.u
    w = np.zeros((design.clusters, len(columns), draw.replicates))
    w[:, : draw.u.shape[1]] = draw.u
    for column, outer, value in terms:
        w[:, columns.index(column)] += value * _multiplier(draw, design, outer)
    if added is not None:
        w[:, columns.index(0)] += added
    return columns, w


def added_by_offsets(draw: Draw, design: Design) -> Array:
    """(J, R): what the truth's centred columns add to y beyond those of the rows that are left, with `draw.offsets`."""
    assert draw.offsets is not None, "asked for where rows were lost"
    truth, first = design.condition.truth, design.known + design.drawn
    fixed: Sequence[float | Array] = truth.fixed if draw.truths is None else draw.truths.fixed
    added = np.zeros((design.clusters, draw.replicates))
    for term, value in zip(truth.formula.fixed, fixed, strict=True):
        column, outer = design.split(term)
        if first <= column < first + len(design.centred):
            added += value * _multiplier(draw, design, outer) * draw.offsets[column - first]
    for k, column in enumerate(design.random):
        if first <= column < first + len(design.centred):
            added += draw.u[:, k] * draw.offsets[column - first]
    return added


def _multiplier(draw: Draw, design: Design, outer: tuple[str, ...], *, moved: bool = False) -> Array:
    """(J, R or 1): the product of level-2 predictors that multiplies a level-1 column; moved: less their constants."""
    value = np.ones((design.clusters, 1))
    for name in outer:
        constant = constant_of(name, design.moved) if moved else 0.0
        z = draw.z[design.between.index(name)]
        value = value * (z - constant if constant else z)
    return value


@compiled(fastmath={"contract"})
def _respond(
    dd: Array, de: Array, ee: Array, w: Array, columns: NDArray[np.int64], dy: Array, yy: Array
) -> None:  # pragma: no cover
    """dy = D'D w + D'e and yy = w'D'D w + 2 w'D'e + e'e, w (J, columns, R) on some columns of D."""
    J, d, R = de.shape
    redrawn = dd.shape[2] > 1
    for j in range(J):
        for i in range(d):
            for r in range(R):
                dy[j, i, r] = de[j, i, r]
            for k in range(len(columns)):
                low, high = min(i, columns[k]), max(i, columns[k])
                s = high * (high + 1) // 2 + low
                if redrawn:
                    for r in range(R):
                        dy[j, i, r] += dd[j, s, r] * w[j, k, r]
                else:
                    value = dd[j, s, 0]
                    for r in range(R):
                        dy[j, i, r] += value * w[j, k, r]
        for r in range(R):
            yy[j, r] = ee[j, r]
        for k in range(len(columns)):
            for r in range(R):
                yy[j, r] += w[j, k, r] * (de[j, columns[k], r] + dy[j, columns[k], r])
