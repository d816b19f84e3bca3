"""V^-1 at given G by elimination, and what the deviance and its gradient need of it.

Notation: factor 1 leads, 2 is all of the rest; A, B of `products` are Z'Z and Z'[X y]. With P_j = (I + A_j G_1)^-1 for level j of
factor 1 and U_j = G_1 P_j, V_1 = I + Z_1 G_1 Z_1' and

    Z_1'V_1^-1 Z_1 = P A,   A~_12 = P A_12,   A~_22 = A_22 - A_21 U A_12,   B~_2 = B_2 - A_21 U B_1

(Bates et al. 2015, J. Stat. Softw. 67(1), section 5, with G in place of its factor, so that a variance of 0 is a number like any
other.) Then, unit by unit, P_2 = (I + A~_22 G_2)^-1, U_2 = G_2 P_2, and of W = Z'V^-1 Z, T = Z'V^-1 [X y], S = [X y]'V^-1 [X y]

    W_22 = P_2 A~_22   W_12 = A~_12 P_2'   W_11 = P A - A~_12 U_2 A~_12'
    T_2 = P_2 B~_2     T_1 = P B_1 - A~_12 U_2 B~_2     S = [X y]'[X y] - B_1'U B_1 - B~_2'U_2 B~_2
    log|V| = sum log|I + A_j G_1| + sum over units log|I + A~_22 G_2|

No inverse is taken of a difference of large numbers. The gradient with respect to G_f needs the sum of the diagonal blocks of
W_ff only: no more of W is made than these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .compiled_loops import eliminate, eliminated_blocks, to_lead, to_rest
from .products import Batch, Products

__all__ = ["Point", "factor_of", "point_at"]

Array = NDArray[np.float64]

#: Order of a unit's rest from which LAPACK is called by itself: one factorisation for inverse and determinant.
LARGE = 64


@dataclass(frozen=True)
class Point:
    """V^-1 at G (its blocks by factor). logdet: log|V|; S and scores, by factor (levels, q, p + 1): T; blocks, by factor: the
    sum over levels of the diagonal blocks of W_ff. The rest: pieces of the module's formulas; rest_gram and rest_update: A~_22
    and U_2, rest_inverse: P_2."""

    products: Products
    G: tuple[Array, ...]
    logdet: float
    S: Array
    scores: tuple[Array, ...]
    blocks: tuple[Array, ...]
    P: Array
    values: Array
    rest_gram: Array
    rest_inverse: Array
    rest_update: Array

    def multiply(self, vectors: Sequence[Array]) -> list[Array]:
        """W times columns, by factor (levels, q, k)."""
        m = self.products
        k = vectors[0].shape[2]
        rest = np.zeros((len(m.rest_cross), k))
        for f in m.rest:
            rest[m.places[f]] = vectors[f]
        lead = self.P @ (m.A @ vectors[m.lead])
        to_lead(m.start, m.place, self.values, m.vector_base, rest, lead)
        right = np.empty_like(rest)
        for b in m.batches:
            b.vectors(right)[...] = b.matrices(self.rest_gram) @ b.vectors(rest)
        to_rest(m.start, m.place, self.values, m.vector_base, np.ascontiguousarray(vectors[m.lead]), right)
        inner = np.empty_like(rest)
        for b in m.batches:
            b.vectors(inner)[...] = -(b.matrices(self.rest_update) @ b.vectors(right))
            b.vectors(rest)[...] = b.matrices(self.rest_inverse) @ b.vectors(right)
        to_lead(m.start, m.place, self.values, m.vector_base, inner, lead)
        return [lead if f == m.lead else rest[m.places[f]] for f in range(len(m.q))]

    def whole(self) -> Iterator[tuple[Batch, Array]]:
        """W unit by unit: (units, order, order) of the leading factor's effects, then the rest's."""
        m = self.products
        q, own = m.q[m.lead], m.unit[m.lead]
        for b in m.batches:
            first = b.shape[0] * q
            A = b.matrices(self.rest_gram)
            P, U = b.matrices(self.rest_inverse), b.matrices(self.rest_update)
            W = np.zeros((b.units, first + b.order, first + b.order))
            inside = (own >= b.first) & (own < b.first + b.units)
            members, owners = np.flatnonzero(inside), np.flatnonzero(inside[m.owner])
            unit, begin = own - b.first, m.local[m.lead] * q
            across = np.zeros((b.units, first, b.order))
            for a in range(q):
                j = m.owner[owners]
                across[unit[j], begin[j] + a, m.place[owners]] = self.values[owners, a]
            W[:, first:, first:] = P @ A
            W[:, :first, first:] = across @ np.swapaxes(P, 1, 2)
            W[:, first:, :first] = np.swapaxes(W[:, :first, first:], 1, 2)
            W[:, :first, :first] = -(across @ U @ np.swapaxes(across, 1, 2))
            own_blocks = self.P[members] @ m.A[members]
            for a in range(q):
                for c in range(q):
                    W[unit[members], begin[members] + a, begin[members] + c] += own_blocks[:, a, c]
            yield b, W


def factor_of(m: Products, b: Batch, f: int) -> slice:
    """The effects of factor f among those of a unit, as in `Point.whole`."""
    first = b.shape[0] * m.q[m.lead]
    if f == m.lead:
        return slice(0, first)
    begin, levels = next((begin, levels) for g, begin, levels in m.segments(b) if g == f)
    return slice(first + begin, first + begin + levels * m.q[f])


def point_at(m: Products, G: Sequence[Array]) -> Point:
    """Evaluate at G, a matrix (q, q) for each factor, which need not be regular."""
    own = G[m.lead]
    M = np.eye(len(own)) + m.A @ own
    P = np.asarray(np.linalg.inv(M), dtype=float)
    logdet = float(np.linalg.slogdet(M)[1].sum())
    U = own @ P
    U = (U + np.swapaxes(U, 1, 2)) / 2
    rest_gram, rest_cross = m.rest_gram.copy(), m.rest_cross.copy()
    UB = U @ m.B
    S = m.XX - np.tensordot(m.B, UB, axes=([0, 1], [0, 1]))
    eliminate(m.start, m.place, m.values, U, m.matrix_base, m.order, rest_gram)
    to_rest(m.start, m.place, m.values, m.vector_base, -UB, rest_cross)
    values = np.einsum("eab,eb->ea", P[m.owner], m.values)
    rest_inverse, rest_update = np.empty_like(rest_gram), np.empty_like(rest_gram)
    T, inner = np.empty_like(rest_cross), np.empty_like(rest_cross)
    blocks = [np.zeros((q, q)) for q in m.q]
    for b in m.batches:
        A = b.matrices(rest_gram)
        inverse, log = _inverse(np.eye(b.order) + _by_segments(m, b, A, G))
        logdet += log
        P2, U2 = b.matrices(rest_inverse), b.matrices(rest_update)
        P2[...] = inverse
        U2[...] = np.swapaxes(_by_segments(m, b, np.swapaxes(inverse, 1, 2), G), 1, 2)
        U2[...] = (U2 + np.swapaxes(U2, 1, 2)) / 2
        B = b.vectors(rest_cross)
        b.vectors(T)[...] = P2 @ B
        b.vectors(inner)[...] = U2 @ B
        S -= np.tensordot(B, b.vectors(inner), axes=([0, 1], [0, 1]))
        for f, first, levels in m.segments(b):
            q = m.q[f]
            rows = P2[:, first : first + levels * q].reshape(b.units, levels, q, b.order)
            columns = A[:, first : first + levels * q].reshape(b.units, levels, q, b.order)  # symmetric
            for a in range(q):
                for c in range(q):
                    blocks[f][a, c] += np.einsum("uls,uls->", rows[:, :, a], columns[:, :, c])
    lead = P @ m.B
    to_lead(m.start, m.place, values, m.vector_base, -inner, lead)
    taken = np.zeros((len(own), len(own)))
    eliminated_blocks(m.start, m.place, values, rest_update, m.matrix_base, m.order, taken)
    blocks[m.lead] = np.tensordot(P, m.A, axes=([0, 2], [0, 1])) - taken
    scores = [lead if f == m.lead else T[m.places[f]] for f in range(len(m.q))]
    return Point(
        m,
        tuple(G),
        logdet,
        (S + S.T) / 2,
        tuple(scores),
        tuple((W + W.T) / 2 for W in blocks),
        P,
        values,
        rest_gram,
        rest_inverse,
        rest_update,
    )


def _by_segments(m: Products, b: Batch, M: Array, G: Sequence[Array]) -> Array:
    """M (units, k, order) times the block-diagonal G of the rest."""
    found = np.empty_like(M)
    for f, first, levels in m.segments(b):
        part = slice(first, first + levels * m.q[f])
        shape = (*M.shape[:2], levels, m.q[f])
        found[:, :, part] = (M[:, :, part].reshape(shape) @ G[f]).reshape(*M.shape[:2], -1)
    return found


def _inverse(M: Array) -> tuple[Array, float]:
    """Inverses of (units, s, s) and the sum of log|M|; determinants are positive."""
    if M.shape[1] < LARGE:
        return np.asarray(np.linalg.inv(M), dtype=float), float(np.linalg.slogdet(M)[1].sum())
    found, logdet = np.empty_like(M), 0.0
    work = int(lapack.dgetri_lwork(M.shape[1])[0].real)
    for each, inverse in zip(M, found, strict=True):
        lu, pivots, _ = lapack.dgetrf(each.T)  # of the transpose, which LAPACK takes without a copy
        logdet += float(np.log(np.abs(np.diag(lu))).sum())
        inverse[...] = lapack.dgetri(lu, pivots, lwork=work)[0].T
    return found, logdet
