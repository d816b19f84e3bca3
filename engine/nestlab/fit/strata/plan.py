"""What the fit of a method to strata needs to know once.

A stratum s with the random columns of terms t enters through its own coordinates: O, an orthonormal basis of the span of all
R A_t, of order rho; then K = I + sum_t R_t G_t R_t', R_t = O'R A_t sqrt(n_f) U_t^-1, where U_t whitens a term's columns (mean
over the levels of Z'Z). Strata with the same terms have one K and are joined: a group. What is orthogonal to O, and strata
without terms, go to S0. A group's [C Y]'P_s [C Y] is factored, and each row of the factor gives a row B of [X y] (rho, p + 1):
column i is x_i = O'R a_i times the row's entry for the multiplier of i. So all that a fit starts from, S0 and each group's
products, is linear in the statistics (`entries.EntryMap`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...simulate.strata.cells import CellDesign, pair
from ...spec.model import MAX_FIXED, MOST_RANDOM
from ..lmm import pairs
from ..workspace import make_shape
from .entries import EntryMap

__all__ = ["CellEffect", "CellPlan", "CellTerm", "compile_cells"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Groups of strata at most.
MOST_GROUPS = 64
#: Pivot over its diagonal below which columns of a term are collinear, or a direction adds nothing to a basis.
PIVOT_TOLERANCE = 1e-10
#: Length over that of its column that is rounding.
ROUNDING = 1e-12
_FREE = MOST_RANDOM * (MOST_RANDOM + 1) // 2

#: By group: order rho, rows of its factor, multipliers among them; where its row entries begin among those of B, its columns
#: among `cols` and their number, its free entries among `free` and their number; where its R begins in `roots`, its K^-1/2 and
#: its sides in the pool, its products among the entries, its x_i in `fixed`; degrees of freedom, and those left beside the
#: multipliers. cols: random columns; local: a column's number within a group, or -1. order: terms as their moments are found;
#: own: the group that tells a term's variance, -1 if none; family: the number of the factor of each random column. W .. D: in
#: the pool.
_PARTS = np.dtype(
    [
        *((name, "i8", (MOST_GROUPS,)) for name in (
            "rho", "rows", "kg", "first", "cs", "nc", "fs", "nf", "root", "inverse", "side", "entry", "xs", "multiplied",
        )),
        ("df", "f8", (MOST_GROUPS,)), ("left", "f8", (MOST_GROUPS,)),
        ("cols", "i8", (MOST_GROUPS * MOST_RANDOM,)), ("free", "i8", (MOST_GROUPS * _FREE,)),
        ("local", "i8", (MOST_GROUPS, MOST_RANDOM)),
        ("order", "i8", (MOST_RANDOM,)), ("own", "i8", (MOST_RANDOM,)), ("family", "i8", (MOST_RANDOM,)),
        *((name, "i8") for name in (
            "groups", "terms", "entries", "lines", "rank", "W", "Y", "alpha", "Z", "half", "row", "D", "pool",
        )),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class CellEffect:
    """A fixed effect: its column is a combination (r0) of D's columns times a multiplier."""

    combination: Array
    multiplier: int


@dataclass(frozen=True)
class CellTerm:
    """A random term of a factor: columns (r0, q), combinations of D's."""

    factor: int
    columns: Array


@dataclass(frozen=True)
class _Group:
    """Strata with the same terms: their numbers, basis O (r, rho), R (rho, q) of all columns, multipliers that have a part, x_i
    (p, rho), rows of the factor of its products."""

    strata: tuple[int, ...]
    df: int
    terms: tuple[int, ...]
    basis: Array
    roots: Array
    multipliers: tuple[int, ...]
    fixed: Array
    rows: int

    @property
    def rho(self) -> int:
        return int(self.basis.shape[1])

    @property
    def order(self) -> int:
        """Of its products."""
        return len(self.multipliers) + self.rho


@dataclass(frozen=True)
class CellPlan:
    """One method on one design of cells, as the kernel takes it; made by `compile_cells`.

    deficient: the design itself decides that variances or columns can't be told apart. true_beta (p): added to estimates. U (q,
    q): whitens all random columns. start (pairs(q)): G relative to s2, a negative first entry if there is none.
    """

    design: CellDesign
    effects: tuple[CellEffect, ...]
    terms: tuple[CellTerm, ...]
    reml: bool
    start: Array
    true_beta: Array
    deficient: bool
    U: Array
    groups: tuple[_Group, ...]
    smaller: dict[tuple[int, ...], CellPlan] = field(default_factory=dict, compare=False, repr=False)

    @property
    def p(self) -> int:
        return len(self.effects)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Columns of each term."""
        return tuple(t.columns.shape[1] for t in self.terms)

    @cached_property
    def blocks(self) -> Indices:
        """The number of each random column's term."""
        return np.repeat(np.arange(len(self.terms)), self.sizes)

    @property
    def q(self) -> int:
        return len(self.blocks)

    @cached_property
    def x(self) -> Array:
        """(p, r): the fixed effects' columns in the coordinates of the cells' basis."""
        return np.array([self.design.root @ e.combination for e in self.effects])

    @cached_property
    def shape(self) -> NDArray[np.void]:
        levels = [self.design.strata.factors[t.factor].levels for t in self.terms]
        return make_shape(
            range(self.q), range(self.p), np.zeros(self.p, np.int64), self.blocks, self.start, rows=self.design.rows,
            clusters=max(levels), reml=self.reml, most=MOST_RANDOM,
        )  # fmt: skip

    @cached_property
    def lines(self) -> int:
        """Rows of B of all groups, of rho entries each group."""
        return int(sum(g.rows * g.rho for g in self.groups))

    @cached_property
    def parts(self) -> NDArray[np.void]:
        """One record, see `_PARTS`."""
        made = np.zeros(1, _PARTS)
        record, shape = made[0], self.shape[0]
        width = self.p + 1
        free = int(shape["free"])
        rows, columns = shape["rows"][:free], shape["cols"][:free]
        where = dict.fromkeys(("first", "cs", "fs", "root", "inverse", "side", "xs", "multiplied"), 0)
        where["entry"] = width * (width + 1) // 2
        record["local"] = -1
        for n, g in enumerate(self.groups):
            for name, value in where.items():
                record[name][n] = value
            own = np.flatnonzero(np.isin(self.blocks, g.terms))
            entries = [s for s in range(free) if rows[s] in own and columns[s] in own]
            record["cols"][where["cs"] : where["cs"] + len(own)] = own
            record["free"][where["fs"] : where["fs"] + len(entries)] = entries
            record["local"][n, own] = np.arange(len(own))
            k = len(g.multipliers)
            counts = {
                "rho": g.rho,
                "rows": g.rows,
                "kg": k,
                "nc": len(own),
                "nf": len(entries),
                "df": g.df,
                "left": g.df - k,
            }
            for name, value in counts.items():
                record[name][n] = value
            steps = {
                "first": g.rows * g.rho, "cs": len(own), "fs": len(entries), "root": g.roots.size, "inverse": g.rho**2,
                "side": 2 * len(own) * g.rho, "xs": g.fixed.size, "multiplied": self.p, "entry": g.order * (g.order + 1) // 2,
            }  # fmt: skip
            for name, step in steps.items():
                where[name] += step
        record["groups"], record["terms"], record["lines"] = len(self.groups), len(self.terms), self.lines
        record["entries"] = where["entry"]
        record["rank"] = sum(g.df * g.rho for g in self.groups)
        self._place_moments(record)
        sides = [2 * int(nc) for nc in record["nc"][: len(self.groups)]]
        rhos = [g.rho for g in self.groups]
        areas = {
            "inverse": where["inverse"], "side": where["side"],
            "W": max(max(sides) ** 2, self.q * max(rhos)), "Y": max(sides) ** 2,
            "alpha": max(s * g.rows for s, g in zip(sides, self.groups, strict=True)) * width,
            "Z": max(rhos) ** 2, "half": max(rhos) * max(sides), "row": max(g.rows * g.order for g in self.groups),
            "D": width * (width + 1) // 2 * free,
        }  # fmt: skip
        at = 0
        for name, size in areas.items():
            if name in ("inverse", "side"):
                record[name][: len(self.groups)] += at
            else:
                record[name] = at
            at += size
        record["pool"] = at
        return made

    def _place_moments(self, record: Any) -> None:
        """Which group tells each term's variance, and in what order: groups of one factor first."""
        family = [self.terms[t].factor for t in range(len(self.terms))]
        record["family"][: self.q] = [family[b] for b in self.blocks]
        kinds = [{family[t] for t in g.terms} for g in self.groups]
        own = []
        for t, factor in enumerate(family):
            able = [n for n, g in enumerate(self.groups) if t in g.terms and g.df > len(g.multipliers)]
            best = min(able, key=lambda n: (len(kinds[n]), -self.groups[n].df), default=-1)
            own.append(best)
            del factor
        record["own"][: len(own)] = own
        record["order"][: len(own)] = sorted(range(len(own)), key=lambda t: len(kinds[own[t]]) if own[t] >= 0 else 0)

    @cached_property
    def entry_map(self) -> EntryMap:
        """From statistics to what the kernel starts from."""
        places = [
            [g.multipliers.index(e.multiplier) if e.multiplier in g.multipliers else -1 for e in self.effects]
            for g in self.groups
        ]
        return EntryMap(
            *_linear(self),
            roots=np.concatenate([g.roots.ravel() for g in self.groups]),
            multiplied=np.array(places, np.int64).ravel(),
            fixed=np.concatenate([g.fixed.ravel() for g in self.groups]),
        )

    def without(self, kept: tuple[int, ...]) -> CellPlan:
        """The model with some of the random columns only."""
        if kept not in self.smaller:
            terms, first = [], 0
            for t in self.terms:
                own = [c - first for c in kept if first <= c < first + t.columns.shape[1]]
                first += t.columns.shape[1]
                if own:
                    terms.append(CellTerm(t.factor, t.columns[:, own]))
            self.smaller[kept] = replace(
                compile_cells(self.design, self.effects, terms, reml=self.reml), true_beta=self.true_beta
            )
        return self.smaller[kept]


def compile_cells(
    design: CellDesign, effects: Sequence[CellEffect], terms: Sequence[CellTerm], *, reml: bool = True,
    start: Sequence[ArrayLike] | None = None, true_beta: ArrayLike | None = None,
) -> CellPlan:  # fmt: skip
    """A method's plan on a design; paid once. start: per term G (q, q) relative to the residual variance, the truth's."""
    terms = tuple(CellTerm(t.factor, np.asarray(t.columns, float)) for t in terms)
    effects = tuple(CellEffect(np.asarray(e.combination, float), e.multiplier) for e in effects)
    q = sum(t.columns.shape[1] for t in terms)
    assert 1 <= q <= MOST_RANDOM, "the front door refuses larger models"
    assert 1 <= len(effects) <= MAX_FIXED, "the front door refuses larger models"
    U, whole, first = np.eye(q), np.zeros((q, q)), 0
    white, deficient = [], False
    for n, t in enumerate(terms):
        Z = design.root @ t.columns * np.sqrt(design.strata.cells_of(t.factor))
        size, levels = Z.shape[1], design.strata.factors[t.factor].levels
        own = slice(first, first + size)
        Q, R = np.linalg.qr(Z)
        sign = np.where(np.diag(R) < 0, -1.0, 1.0)
        Q, R = Q * sign, R * sign[:, None]
        lengths = (Z * Z).sum(axis=0)
        collinear = bool((np.diag(R) ** 2 <= PIVOT_TOLERANCE * lengths).any())
        deficient = deficient or collinear or levels < 2 or levels * size >= design.rows
        U[own, own] = np.eye(size) if collinear else R
        white.append(np.where(np.abs(Q) <= ROUNDING, 0.0, Q))
        if start is not None:
            whole[own, own] = np.asarray(start[n], float)
        first += size
    packed = np.array([whole[i, k] for i, k in pairs(q)])
    if start is None:
        packed[0] = -1.0
    groups = () if deficient else _groups(design, effects, terms, white)
    beta = np.zeros(len(effects)) if true_beta is None else np.asarray(true_beta, float)
    return CellPlan(design, effects, terms, reml, packed, beta, deficient, U, groups)


def _groups(
    design: CellDesign, effects: Sequence[CellEffect], terms: Sequence[CellTerm], white: Sequence[Array]
) -> tuple[_Group, ...]:
    members: dict[tuple[int, ...], list[int]] = {}
    for s, stratum in enumerate(design.strata.strata):
        own = tuple(n for n, t in enumerate(terms) if t.factor in stratum)
        if own:
            members.setdefault(own, []).append(s)
    assert len(members) <= MOST_GROUPS, "16 random columns have no more groups of strata in any design of use"
    cuts = np.cumsum([0, *(Q.shape[1] for Q in white)])
    x = np.array([design.root @ e.combination for e in effects])
    groups = []
    for own, strata in members.items():
        basis = _basis([white[n] for n in own])
        roots = np.zeros((basis.shape[1], cuts[-1]))
        for n in own:
            R = basis.T @ white[n]
            roots[:, cuts[n] : cuts[n + 1]] = np.where(np.abs(R) <= ROUNDING, 0.0, R)
        fixed = _cleaned(x @ basis, x)
        used = [
            m
            for m in range(design.k)
            if design.present[strata, m].any()
            and any(e.multiplier == m and fixed[i].any() for i, e in enumerate(effects))
        ]
        df = sum(design.strata.strata[s].df for s in strata)
        order = len(used) + basis.shape[1]
        alone = df == 1 and used and design.multipliers[used[0]].values is not None  # the first row is all there is
        groups.append(_Group(tuple(strata), df, own, basis, roots, tuple(used), fixed, 1 if alone else order))
    return tuple(groups)


def _cleaned(part: Array, whole: Array) -> Array:
    """Without what is rounding beside the length of its row."""
    lengths = np.sqrt((whole * whole).sum(axis=1))[:, None]
    return np.where(np.abs(part) <= ROUNDING * lengths, 0.0, part)


def _basis(blocks: Sequence[Array]) -> Array:
    """(r, rho): an orthonormal basis of the span of orthonormal blocks, the first one's columns first."""
    found: list[Array] = []
    for column in np.hstack(blocks).T:
        left = column.copy()
        for _ in range(2):
            for q in found:
                left -= (q @ left) * q
        if left @ left > PIVOT_TOLERANCE:
            left = np.where(np.abs(left) <= ROUNDING, 0.0, left)
            found.append(left / np.sqrt(left @ left))
    return np.stack(found, axis=1)


def _linear(plan: CellPlan) -> tuple[Indices, Indices, Array, Array, Indices, Array]:
    """start .. own of the entry map: S0 by pairs, then each group's products by pairs, multipliers before y's columns."""
    design, x, p = plan.design, plan.x, plan.p
    k, r, cuts = design.k, design.r, design.cuts
    kk, rr = k * (k + 1) // 2, r * (r + 1) // 2
    rows: list[dict[int, float]] = []
    bias: list[float] = []
    degree: list[int] = []

    def add(row: dict[int, float], place: int, weight: float) -> None:
        if weight != 0.0:
            row[place] = row.get(place, 0.0) + weight

    def add_cc(row: dict[int, float], s: int, m: int, n: int, weight: float) -> float:
        if weight == 0.0 or not (design.present[s, m] and design.present[s, n]):
            return 0.0
        if design.products is not None:
            return weight * float(design.products[s, pair(m, n)])
        add(row, s * kk + pair(m, n), weight)
        return 0.0

    def add_cy(row: dict[int, float], s: int, m: int, weights: Array) -> None:
        if design.present[s, m]:
            for a in range(r):
                add(row, cuts[1] + (s * k + m) * r + a, float(weights[a]))

    def add_yy(row: dict[int, float], s: int, M: Array) -> None:
        for b in range(r):
            for a in range(b + 1):
                add(row, cuts[2] + s * rr + pair(a, b), float(M[a, b] if a == b else M[a, b] + M[b, a]))

    def close(row: dict[int, float], constant: float, times: int) -> None:
        rows.append(row)
        bias.append(constant)
        degree.append(times)

    outside = [np.eye(r) for _ in design.strata.strata]
    for g in plan.groups:
        for s in g.strata:
            outside[s] = np.eye(r) - g.basis @ g.basis.T if g.rho < r else np.zeros((r, r))
    left = [_cleaned(x @ N, x) for N in outside]
    S = range(len(design.strata))
    for i in range(p + 1):
        for j in range(i + 1):
            row: dict[int, float] = {}
            constant = 0.0
            if i < p:
                m, n = plan.effects[i].multiplier, plan.effects[j].multiplier
                constant = sum(add_cc(row, s, m, n, float(left[s][i] @ left[s][j])) for s in S)
            elif j < p:
                for s in S:
                    add_cy(row, s, plan.effects[j].multiplier, left[s][j])
            else:
                for s in S:
                    add_yy(row, s, outside[s])
                add(row, cuts[3], 1.0)
            close(row, constant, (i == p) + (j == p))
    for g in plan.groups:
        for i in range(g.order):
            for j in range(i + 1):
                row, constant = {}, 0.0
                a, b = i - len(g.multipliers), j - len(g.multipliers)
                for s in g.strata:
                    if a < 0:
                        constant += add_cc(row, s, g.multipliers[i], g.multipliers[j], 1.0)
                    elif b < 0:
                        add_cy(row, s, g.multipliers[j], g.basis[:, a])
                    else:
                        add_yy(row, s, np.outer(g.basis[:, a], g.basis[:, b]))
                close(row, constant, (a >= 0) + (b >= 0))
    start = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    index = np.array([place for row in rows for place in row], np.int64)
    weight = np.array([value for row in rows for value in row.values()], float)
    own, first = np.zeros(len(rows)), (p + 1) * (p + 2) // 2
    own[first - 1] = 1.0
    for g in plan.groups:
        own[[first + pair(i, i) for i in range(len(g.multipliers), g.order)]] = 1.0
        first += g.order * (g.order + 1) // 2
    return start, index, weight, np.array(bias), np.array(degree, np.int64), own
