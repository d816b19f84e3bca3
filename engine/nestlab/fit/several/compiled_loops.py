"""The compiled part of fits with several factors: loops over the leading factor's levels; search and inference, in a record of
one lane.

start .. order: see `products.Products`.
"""

from __future__ import annotations

import numpy as np

from ...simulate.compiled import compiled
from ..information import invert_information, satterthwaite_all, set_point, without_y
from ..search import advance, begin

__all__ = [
    "advance_search", "begin_search", "eliminate", "eliminated_blocks", "infer_without_y", "invert", "satterthwaite",
    "set_estimates", "to_lead", "to_rest",
]  # fmt: skip


@compiled()
def eliminate(start, place, values, U, matrix_base, order, rest_gram):
    """Subtract A_21 U A_12 from rest_gram, both triangles."""
    q = values.shape[1]
    left = np.empty(q)
    for j in range(len(start) - 1):
        s = order[j]
        for e in range(start[j], start[j + 1]):
            for a in range(q):
                left[a] = 0.0
                for b in range(q):
                    left[a] += U[j, a, b] * values[e, b]
            row = matrix_base[j] + place[e] * s
            for f in range(start[j], start[j + 1]):
                total = 0.0
                for a in range(q):
                    total += left[a] * values[f, a]
                rest_gram[row + place[f]] -= total


@compiled()
def eliminated_blocks(start, place, values, U, matrix_base, order, total):
    """Add to total (q, q) the sum over levels of A~_12 U_2 A~_12'; values: those of A~_12."""
    q = values.shape[1]
    right = np.empty(q)
    for j in range(len(start) - 1):
        s = order[j]
        for e in range(start[j], start[j + 1]):
            row = matrix_base[j] + place[e] * s
            for b in range(q):
                right[b] = 0.0
            for f in range(start[j], start[j + 1]):
                weight = U[row + place[f]]
                for b in range(q):
                    right[b] += weight * values[f, b]
            for a in range(q):
                for b in range(q):
                    total[a, b] += values[e, a] * right[b]


@compiled()
def to_rest(start, place, values, vector_base, lead, rest):
    """Add A_21 lead to rest; lead (levels, q, k), rest (effects, k)."""
    for j in range(len(start) - 1):
        for e in range(start[j], start[j + 1]):
            for a in range(values.shape[1]):
                for k in range(rest.shape[1]):
                    rest[vector_base[j] + place[e], k] += values[e, a] * lead[j, a, k]


@compiled()
def to_lead(start, place, values, vector_base, rest, lead):
    """Add A_12 rest to lead."""
    for j in range(len(start) - 1):
        for e in range(start[j], start[j + 1]):
            for a in range(values.shape[1]):
                for k in range(rest.shape[1]):
                    lead[j, a, k] += values[e, a] * rest[vector_base[j] + place[e], k]


@compiled()
def begin_search(shapes, memory):
    """Begin with the problem whose data stand in the record's lane."""
    begin(0, shapes[0], memory[0])


@compiled()
def advance_search(shapes, memory):
    """Take the search on to its next evaluation. Whether it is done instead."""
    return advance(0, shapes[0], memory[0])


@compiled()
def set_estimates(shapes, memory, varcomp, sigma2):
    """Set F and frame from the covariance of the random effects (1, .) and the residual variance (1)."""
    set_point(0, 0, shapes[0], varcomp, sigma2, memory[0])


@compiled()
def satterthwaite(shapes, memory, starts, rows, out):
    """Degrees of freedom of each hypothesis, into out (1, H)."""
    satterthwaite_all(0, 0, shapes[0], starts, rows, out, memory[0])


@compiled()
def invert(shapes, memory):
    """Twice the inverse of the information of G's entries, into `weights`. False if that is singular."""
    return invert_information(0, shapes[0], memory[0])


@compiled()
def infer_without_y(shapes, memory, starts, rows, varcomp, sigma2, df, scale, vcov, varcov):
    """Kenward and Roger's df, scales and covariance, or the covariance of the variances: see `information.inform_block`."""
    without_y(0, 0, shapes[0], starts, rows, varcomp, sigma2, df, scale, vcov, varcov, memory[0])
