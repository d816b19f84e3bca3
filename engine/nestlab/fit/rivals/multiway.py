"""Standard errors that are robust to clustering by one or several factors, by inclusion and exclusion.

With Q, e and R of `regression`, b = R^-1 Q y. For every set f of the factors, the clusters j are the rows that agree in all of
its factors, and the covariance is

    Cov(b) = R^-1 [ sum over f of s_f k_f sum_j u_fj u_fj' ] R'^-1,  u_fj = T_fj e_j,  s_f = 1 for an odd number of factors or -1
    CR0: T = Q, k = 1      CR1: k = J_f / (J_f - 1)      CR1S: k = J_f (N - 1) / ((J_f - 1) (N - parameters, dummies included))
    CR2: T_fj = Q_j A_fj, A_fj the symmetric (I - H_jj)^(-1/2), H the projection on regressors and dummies

(Cameron, Gelbach & Miller 2011, JBES 29, 238-249, with a factor of its own for every set of factors; CR2: Bell & McCaffrey 2002,
Pustejovsky & Tipton 2018, for each set of factors.) Where dummies stand inside the clusters, or there are none, Q A needs only
the p x p matrix Q_j Q_j'. By one factor this is clubSandwich's; for several it has no CR2.

Such a covariance need not be positive. A coefficient or contrast with a negative variance has no standard error (nan), and its
inference has the status no_df. `repair` sets negative eigenvalues of Cov(b) to 0 first, as Cameron, Gelbach and Miller propose
and lfe's felm(psdef = TRUE) does; it depends on the units of the predictors and is told per replicate.

Degrees of freedom. l'b has the variance estimate sum over u = (f, j) of s_u (t_u'e)^2, t_u' = l'R^-1 T_u: a quadratic form in e.
With independent errors as the working model its Satterthwaite df are (sum s_u G_uu)^2 / sum over u, v of s_u s_v G_uv^2, with
G_uv = t_u'(I - H) t_v. For one factor these are Bell and McCaffrey's, and joint hypotheses have Hotelling's T^2 (HTZ) in the same
way. For several factors the rule is nestlab's own; the common one is the smallest number of levels less 1 (Cameron & Miller
2015, J Hum Resour 50, 317-372).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..inference import Hypotheses, definite
from ..lmm import pairs
from ..robust import Sandwich
from ..sandwich import LEAST_ETA, ROUNDING, SILENT, SINGULAR_TOLERANCE
from .rows import Array, Codes, level_sums, relabelled

if TYPE_CHECKING:
    from .regression import Regression

__all__ = ["Robust", "robust_pattern"]


@dataclass(frozen=True)
class Robust:
    """How standard errors are made robust. clustered: the factors whose levels may have correlated errors. repair: negative
    eigenvalues of the covariance become 0."""

    kind: Literal["CR0", "CR1", "CR1S", "CR2"]
    clustered: tuple[str, ...]
    repair: bool = False


@dataclass(frozen=True)
class _ClusterSet:
    """The rows that agree in a set of factors: cluster (N) of each row, their number; sign; T (p, N)."""

    names: tuple[str, ...]
    codes: Codes
    levels: int
    sign: int
    T: Array


def robust_pattern(
    regression: Regression, robust: Robust, hypotheses: Hypotheses
) -> tuple[Sandwich, NDArray[np.bool_]]:
    """The covariance of b (replicates, p(p+1)/2), df and scale (H) of one pattern, and the replicates that were repaired.

    The factors of CR1 and CR1S are in the covariance. No df where a variance is expected to be 0 or less.
    """
    sets = list(_sets(regression, robust))
    p = len(regression.Q)
    meat = np.zeros((len(regression.residuals), p, p))
    for each in sets:
        u = np.stack([level_sums(t * regression.residuals, each.codes, each.levels) for t in each.T], axis=1)
        factor = each.sign * _factor(robust.kind, each.levels, regression)
        for i, k in pairs(p):
            meat[:, i, k] += factor * (u[:, i] * u[:, k]).sum(axis=1)
            meat[:, k, i] = meat[:, i, k]
    inverse = regression.inverse
    vcov = np.einsum("ai,rik,bk->rab", inverse, meat, inverse)
    mended = np.zeros(len(vcov), dtype=bool)
    if robust.repair and len(robust.clustered) > 1:
        vcov, mended = _repaired(vcov)
    df, scale = _satterthwaite(regression, sets, hypotheses)
    return Sandwich(np.stack([vcov[:, i, k] for i, k in pairs(p)], axis=1), df, scale), mended


def _sets(regression: Regression, robust: Robust) -> Iterator[_ClusterSet]:
    """Each set of factors; sets of the same clusters, as of nested factors, cancel."""
    codes, names = regression.pattern.codes, robust.clustered
    made: dict[bytes, tuple[tuple[str, ...], Codes, int, int]] = {}
    for size in range(1, len(names) + 1):
        for own in combinations(names, size):
            found, levels = relabelled([codes[name] for name in own])
            first, key = _by_appearance(found, levels)
            sign = made[key][3] if key in made else 0
            made[key] = (made[key][0] if key in made else own, first, levels, sign + (1 if size % 2 else -1))
    for own, found, levels, sign in made.values():
        if sign:
            T = _adjusted(regression, own, found, levels) if robust.kind == "CR2" else regression.Q
            yield _ClusterSet(own, found, levels, sign, T)


def _by_appearance(codes: Codes, levels: int) -> tuple[Codes, bytes]:
    """Clusters numbered by their first rows, and a name of the partition."""
    first = np.full(levels, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    order = np.empty(levels, dtype=np.int64)
    order[np.argsort(first)] = np.arange(levels)
    numbered = order[codes]
    return numbered, numbered.tobytes()


def _factor(kind: str, J: int, regression: Regression) -> float:
    """What CR0 is multiplied by; nan with one cluster."""
    N, left = regression.rows, regression.rows - regression.fixed
    if J < 2:
        return np.nan
    if kind == "CR1":
        return J / (J - 1)
    if kind == "CR1S":
        return J * (N - 1) / ((J - 1) * left)
    return 1.0


# -- CR2 ----------------------------------------------------------------------------------------------------------------------


def _adjusted(regression: Regression, own: tuple[str, ...], codes: Codes, levels: int) -> Array:
    """T (p, N) = A Q'."""
    tolerance = max(SINGULAR_TOLERANCE, ROUNDING / regression.least)
    Q = regression.Q
    if regression.dummies is not None and not _inside(regression, codes):
        return _adjusted_whole(regression, codes, levels, tolerance)
    p = len(Q)
    left = np.empty((levels, p, p))
    for i, k in pairs(p):
        left[:, i, k] = left[:, k, i] = (1.0 if i == k else 0.0) - level_sums(Q[i] * Q[k], codes, levels)
    root = _inverse_roots(left, tolerance)
    return np.asarray(np.einsum("nik,kn->in", root[codes], Q))


def _inside(regression: Regression, codes: Codes) -> bool:
    """Whether each level of all absorbed factors lies in one cluster: A leaves their dummies alone then."""
    dummies = regression.dummies
    assert dummies is not None
    columns = [dummies.first, *dummies.others]
    return all(relabelled([each, codes])[1] == len(np.unique(each)) for each in columns)


def _adjusted_whole(regression: Regression, codes: Codes, levels: int, tolerance: float) -> Array:
    """T with I - H_jj itself, clusters of one size together."""
    dummies, Q = regression.dummies, regression.Q
    assert dummies is not None
    basis = np.concatenate([dummies.basis, Q])
    T = np.empty_like(Q)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes, minlength=levels)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes):
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        own = basis[:, rows]
        root = _inverse_roots(np.eye(size) - np.einsum("bjm,bjn->jmn", own, own), tolerance)
        T[:, rows] = np.einsum("jmn,pjn->pjm", root, Q[:, rows])
    return T


def _inverse_roots(matrices: Array, tolerance: float) -> Array:
    """Symmetric inverse roots (k, m, m), of Moore and Penrose where an eigenvalue is 0."""
    values, vectors = np.linalg.eigh(matrices)
    scale = np.where(values > tolerance, 1 / np.sqrt(np.maximum(values, tolerance)), 0.0)
    return np.asarray(np.einsum("kia,ka,kja->kij", vectors, scale, vectors))


def _repaired(vcov: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Covariances with negative eigenvalues set to 0, and which had any."""
    finite = np.asarray(np.isfinite(vcov).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], vcov, 0.0))
    negative = finite & (values[:, 0] < 0)
    made = np.einsum("ria,ra,rja->rij", vectors, np.maximum(values, 0.0), vectors)
    return np.where(negative[:, None, None], made, vcov), negative


# -- degrees of freedom -------------------------------------------------------------------------------------------------------


def _satterthwaite(regression: Regression, sets: list[_ClusterSet], hypotheses: Hypotheses) -> tuple[Array, Array]:
    """df and scale of each hypothesis (H), the same for all replicates."""
    H, p = len(hypotheses), len(regression.Q)
    df, scale = np.full(H, np.nan), np.full(H, np.nan)
    least = SILENT * max(SINGULAR_TOLERANCE, ROUNDING / regression.least)
    fewest = LEAST_ETA if len(sets) == 1 else 0.0  # what is taken off may leave less than one df
    cells = _Overlaps(regression, sets)
    for h in range(H):
        rows = np.einsum("ik,hi->hk", regression.inverse, hypotheses[h])  # l'R^-1
        n = len(rows)
        omega, total = cells.variation(rows)
        if not (np.diagonal(omega) > least * (rows * rows).sum(axis=1)).all():
            continue
        if n == 1:
            eta = 2 * omega[0, 0] ** 2 / total
        else:
            if n > p or not definite(omega[None]).all():
                continue
            values, vectors = np.linalg.eigh(omega)
            whitened = np.einsum("ki,kj->ij", vectors / np.sqrt(values), rows)
            eta = n * (n + 1) / cells.variation(whitened)[1]
        if eta > fewest and eta - n + 1 > 0:
            df[h], scale[h] = eta - n + 1, (eta - n + 1) / eta
    return df, scale


class _Overlaps:
    """G_uv = t_u'(I - H) t_v of all clusters u, v of all sets of factors: t_u't_v, which only clusters with rows in common have,
    less a_u'a_v, a the products of t with an orthonormal basis of regressors and dummies."""

    def __init__(self, regression: Regression, sets: list[_ClusterSet]) -> None:
        self.sets, Q, dummies = sets, regression.Q, regression.dummies
        self.bases = [
            Q if dummies is None or _inside(regression, each.codes) else np.concatenate([dummies.basis, Q])
            for each in sets
        ]  # dummies inside the clusters have no product with T, which sums to 0 in their levels
        self.width = max((len(basis) for basis in self.bases), default=0)
        self.common: dict[tuple[int, int], tuple[Codes, int, Codes, Codes]] = {}
        for f, left in enumerate(sets):
            for g, right in enumerate(sets):
                cell, number = relabelled([left.codes, right.codes])
                u, v = np.empty(number, dtype=np.int64), np.empty(number, dtype=np.int64)
                u[cell], v[cell] = left.codes, right.codes
                self.common[f, g] = (cell, number, u, v)

    def variation(self, rows: Array) -> tuple[Array, float]:
        """omega (n, n), the expected covariance of n rows under the working model, and the sum of the variances of the entries of
        the estimated one."""
        n = len(rows)
        t = [np.einsum("hk,kn->hn", rows, each.T) for each in self.sets]  # (n, N)
        a = [self._products(f, each) for f, each in enumerate(t)]  # (n, levels, width)
        omega, total = np.zeros((n, n)), 0.0
        outer = [[[np.einsum("jb,jc->bc", each[s], each[q]) for q in range(n)] for s in range(n)] for each in a]
        for f, each in enumerate(self.sets):
            for s in range(n):
                for q in range(n):
                    omega[s, q] += each.sign * ((t[f][s] * t[f][q]).sum() - (a[f][s] * a[f][q]).sum())
        for f, left in enumerate(self.sets):
            for g, right in enumerate(self.sets):
                sign = left.sign * right.sign
                for s in range(n):
                    for q in range(n):
                        total += sign * self._squares(f, g, t, a, outer, ((s, s), (q, q)))
                        total += sign * self._squares(f, g, t, a, outer, ((s, q), (q, s)))
        return omega, total

    def _squares(self, f: int, g: int, t: list[Array], a: list[Array], outer: list[list[list[Array]]],
                 rows: tuple[tuple[int, int], tuple[int, int]]) -> float:  # fmt: skip
        """The sum over u of set f, v of set g of G_uv by rows (s, s') times G_uv by rows (q, q')."""
        (s, s2), (q, q2) = rows
        cell, number, u, v = self.common[f, g]
        S = level_sums(t[f][s] * t[g][s2], cell, number)
        S2 = S if (s, s2) == (q, q2) else level_sums(t[f][q] * t[g][q2], cell, number)
        A, A2 = ((a[f][i][u] * a[g][k][v]).sum(axis=1) for i, k in rows)
        return float((S * S2 - S * A2 - A * S2).sum() + (outer[f][s][q] * outer[g][s2][q2]).sum())

    def _products(self, f: int, t: Array) -> Array:
        """a (n, levels, width)."""
        each, basis = self.sets[f], self.bases[f]
        made = np.zeros((len(t), each.levels, self.width))
        for b, column in enumerate(basis):
            made[:, :, self.width - len(basis) + b] = level_sums(t * column, each.codes, each.levels)
        return made
