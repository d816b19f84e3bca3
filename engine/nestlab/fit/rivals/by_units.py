"""By-subject and by-item analyses: F1, F2, their combination min F', and both at once.

An analysis by the units of one factor (F1: subjects, F2: items) averages over all other factors. Rows become the means of the
cells of a unit, its rows with the same values of all fixed-effect columns: each cell counts once, however many rows it has.
Then, in two steps,

    within a unit   cell means are regressed on the base columns w_0 = 1, w_1, ..., the columns that vary in it: b_i0, b_i1, ...
    over the units  b_il is regressed on z, for the effects x = z w_l that are a constant z of the unit times w_l

So an effect that varies within units is tested by the mean of the units' coefficients (a paired t test; for a covariate, a
repeated-measures regression: Lorch & Myers 1990, J Exp Psychol Learn 16, 149-157), an effect that is constant within units by
regression of the units' means, and a product of the two by regression of the units' coefficients. With effects coded -1/2 and
1/2, these are the F tests of the analysis of variance of the units' cell means, whether effects are between or within: F = t^2
with 1 and units - (effects of that base column) df. Each coefficient has its own test; the levels of a categorical predictor
have no joint one here.

Base columns are found by rank: a column belongs to the first earlier one of which it is a multiple, constant within each unit.
There is no such analysis where a column varies within some units and not within others. A unit whose cells do not identify its
coefficients, because rows are missing, is left out of the replicate.

    min F' = F1 F2 / (F1 + F2),  df = (F1 + F2)^2 / (F1^2 / df2 + F2^2 / df1)

(Clark 1973, J Verb Learn Verb Behav 12, 335-359, p. 347; df1 and df2 are the denominator df of F1 and F2.) In balanced data both
have one estimate b, and b^2 / min F' = se1^2 + se2^2. "Both at once" rejects where F1 and F2 both do: its p value is the larger
one (Forster & Dickinson 1976; against it: Raaijmakers 2003, Can J Exp Psychol 57, 141-151).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr

from ..reduce import PIVOT_TOLERANCE
from ..status import Status
from .regression import regress_pattern
from .rows import Array, Codes, CrossedRows, Pattern, level_sums, relabelled

__all__ = ["BothTests", "UnitDesign", "UnitTests", "by_units", "min_f", "unit_design"]

#: How far, relative to its square, a column may be from a multiple of another in a unit and count as one.
MULTIPLE_TOLERANCE = 1e-10


@dataclass(frozen=True)
class UnitDesign:
    """How the columns of X stand to units. base (p): the base column of each effect, -1 for the units' constant.

    reason: why there are no tests, "" where there are; `column` is the effect that it is about.
    """

    base: tuple[int, ...]
    reason: str = ""
    column: int = -1

    @property
    def bases(self) -> tuple[int, ...]:
        """The base columns in use, -1 first."""
        return tuple(sorted(set(self.base)))


@dataclass(frozen=True)
class UnitTests:
    """Of R replicates and p effects: estimate, se, df (R, p), nan where there is no test; units (R) in use; status (R)."""

    estimate: Array
    se: Array
    df: Array
    units: NDArray[np.int64]
    status: NDArray[np.int64]

    @property
    def F(self) -> Array:
        """(R, p), with 1 and `df` degrees of freedom."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.estimate / self.se) ** 2)

    @property
    def p(self) -> Array:
        """(R, p), two-sided."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(2 * stdtr(self.df, -np.abs(self.estimate / self.se)))


@dataclass(frozen=True)
class BothTests:
    """F1 and F2 together, (R, p) each. estimate: the mean of the two; se: |estimate| / sqrt(F), which in balanced data is
    sqrt(se1^2 + se2^2); F and df of min F', its p value, and p_both, the larger one of F1 and F2."""

    estimate: Array
    se: Array
    F: Array
    df: Array
    p: Array
    p_both: Array


def unit_design(X: Array, units: NDArray[np.integer]) -> UnitDesign:
    """How columns X (p, N) of the whole design, missing rows included, stand to units (N).

    >>> group, cond = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0, 1]]) - 0.5
    >>> unit_design(np.array([group * 0 + 1, group, cond, group * cond]), np.array([0, 0, 1, 1, 2, 2, 3, 3])).base
    (-1, -1, 2, 2)
    """
    codes, levels = relabelled([units])
    sizes = level_sums(np.ones((1, len(codes))), codes, levels)[0]
    squares, sums = level_sums(X * X, codes, levels), level_sums(X, codes, levels)
    off = X - (sums / sizes)[:, codes]
    spread = level_sums(off * off, codes, levels)
    base: list[int] = []
    for k in range(len(X)):
        varies = spread[k] > MULTIPLE_TOLERANCE * squares[k]
        if not varies.any():
            base.append(-1)
            continue
        own = [one for one in sorted(set(base) - {-1}) if _is_multiple(X, squares, k, one, codes, levels)]
        if own:
            base.append(own[0])
            continue
        base.append(k)
        if not varies.all():
            return UnitDesign((*base, *[-1] * (len(X) - k - 1)), "varies within some units and not within others", k)
    return UnitDesign(tuple(base))


def _is_multiple(X: Array, squares: Array, k: int, base: int, codes: Codes, levels: int) -> bool:
    """Whether column k is, in every unit, a constant times the base column."""
    both = level_sums(X[k] * X[base], codes, levels)
    left = squares[k] * squares[base] - both * both
    return bool((left <= MULTIPLE_TOLERANCE * squares[k] * squares[base]).all())


def by_units(rows: CrossedRows, factor: str, design: UnitDesign | None = None) -> UnitTests:
    """Test every effect by the units of a factor: F1 by subjects, F2 by items. design: by `unit_design`, found where absent."""
    R, p = rows.replicates, len(rows.X)
    shape = (R, p)
    found = UnitTests(
        np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(R, dtype=np.int64),
        np.full(R, Status.rank_deficient, dtype=np.int64),
    )  # fmt: skip
    if design is None:
        whole = rows.alone(np.array([0]), whole=True)
        design = unit_design(whole.X, whole.codes[factor])
    if design.reason:
        return found
    for replicates in [np.arange(R)] if rows.shared else [np.array([r]) for r in range(R)]:
        whole = rows.alone(replicates, whole=True)
        cells = _UnitCells.of(whole, factor)
        kept = None if rows.kept is None else rows.kept[:, replicates].T
        means, present = cells.means(whole.y, kept)
        for alike in _alike(present):
            _test(cells, means[alike], present[alike[0]], design, found, replicates[alike])
    return found


def _alike(present: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The replicates (R, M) that have the same cells."""
    if present.all():
        return [np.arange(len(present))]
    _, which = np.unique(present, axis=0, return_inverse=True)
    which = which.reshape(-1)
    return [np.flatnonzero(which == k) for k in range(which.max() + 1)]


def _test(
    cells: _UnitCells,
    means: Array,
    present: NDArray[np.bool_],
    design: UnitDesign,
    found: UnitTests,
    at: NDArray[np.int64],
) -> None:
    """Fill in the replicates `at`, which have the cells that are present, by their means (replicates, M)."""
    finite = np.isfinite(means[:, present]).all(axis=1)
    found.status[at] = np.where(finite, Status.rank_deficient, Status.nonfinite)
    if not present.any() or not finite.any():
        return
    units, X = relabelled([cells.units[present]])[0], np.ascontiguousarray(cells.X[:, present])
    coefficients, used = _coefficients(np.ascontiguousarray(means[:, present]), X, units, design)
    found.units[at] = used.sum()
    first = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
    complete = np.ones(len(at), dtype=bool)
    for place, base in enumerate(design.bases):
        effects = [k for k, own in enumerate(design.base) if own == base]
        Z = np.stack([_multiplier(X, k, base, units, first) for k in effects])[:, used]
        b = np.ascontiguousarray(coefficients[:, place][:, used])
        regressed = regress_pattern(Pattern(at, np.ascontiguousarray(Z), b, {}))
        ok = regressed.status == Status.ok
        complete &= ok
        variance = (regressed.inverse * regressed.inverse).sum(axis=1)
        with np.errstate(invalid="ignore"):
            se = np.sqrt(regressed.sigma2[:, None] * variance)
        for i, k in enumerate(effects):
            found.estimate[at, k] = np.where(ok, regressed.beta[:, i], np.nan)
            found.se[at, k] = np.where(ok, se[:, i], np.nan)
            found.df[at, k] = np.where(ok, regressed.rows - regressed.fixed, np.nan)
    found.status[at[complete]] = Status.ok


@dataclass(frozen=True)
class _UnitCells:
    """The cells of units: the cell (N) of each row; of the M cells, unit by unit, their unit (M) and columns X (p, M)."""

    of_row: Codes
    units: Codes
    X: Array

    @staticmethod
    def of(pattern: Pattern, factor: str) -> _UnitCells:
        """Rows of one unit with the same columns are a cell."""
        units, _ = relabelled([pattern.codes[factor]])
        cells, number = relabelled([units, *pattern.X])
        first = np.full(number, len(units))
        np.minimum.at(first, cells, np.arange(len(units)))
        order = np.argsort(units[first], kind="stable")
        rank = np.empty(number, dtype=np.int64)
        rank[order] = np.arange(number)
        return _UnitCells(rank[cells], units[first[order]], pattern.X[:, first[order]])

    def means(self, y: Array, kept: NDArray[np.bool_] | None) -> tuple[Array, NDArray[np.bool_]]:
        """Means (replicates, M) of the cells' rows that are kept, 0 where there is none, and whether there is one."""
        M = len(self.units)
        if kept is None:
            return level_sums(y, self.of_row, M) / np.bincount(self.of_row, minlength=M), np.ones(
                (len(y), M), dtype=bool
            )
        sums, sizes = level_sums(np.where(kept, y, 0.0), self.of_row, M), level_sums(kept.astype(float), self.of_row, M)
        return sums / np.maximum(sizes, 1.0), sizes > 0


def _coefficients(means: Array, X: Array, units: Codes, design: UnitDesign) -> tuple[Array, NDArray[np.bool_]]:
    """Coefficients (replicates, bases, units) of the cell means (replicates, M), and the units that identify them all."""
    levels = int(units[-1]) + 1
    W = [np.ones(len(units)) if base < 0 else X[base] for base in design.bases]
    q, made = len(W), np.empty((len(means), len(W), levels))
    Q: list[Array] = []
    R = np.zeros((q, q, levels))
    used = np.ones(levels, dtype=bool)
    left = means
    for i, w in enumerate(W):  # Gram and Schmidt in all units at once
        size = level_sums(w * w, units, levels)
        v = w
        for _ in range(2):
            for k in range(i):
                step = level_sums(Q[k] * v, units, levels)
                R[k, i] += step
                v = v - step[units] * Q[k]
        pivot = level_sums(v * v, units, levels)
        used &= pivot > PIVOT_TOLERANCE * size
        R[i, i] = np.sqrt(np.where(pivot > 0, pivot, 1.0))
        Q.append(v / R[i, i][units])
        made[:, i] = level_sums(left * Q[i], units, levels)
        left = left - made[:, i][:, units] * Q[i]
    for i in range(q - 1, -1, -1):
        for k in range(i + 1, q):
            made[:, i] -= R[i, k] * made[:, k]
        made[:, i] /= R[i, i]
    return made, used


def _multiplier(X: Array, k: int, base: int, units: Codes, first: NDArray[np.int64]) -> Array:
    """z (units) of effect k, x = z w."""
    if base < 0:
        return np.asarray(X[k, first])
    levels = len(first)
    return np.asarray(level_sums(X[k] * X[base], units, levels) / level_sums(X[base] ** 2, units, levels))


def min_f(first: UnitTests, second: UnitTests) -> BothTests:
    """Combine F1 and F2; nan where either is missing."""
    F1, F2 = first.F, second.F
    with np.errstate(invalid="ignore", divide="ignore"):
        F = F1 * F2 / (F1 + F2)
        df = (F1 + F2) ** 2 / (F1**2 / second.df + F2**2 / first.df)
        estimate = (first.estimate + second.estimate) / 2
        p = fdtrc(1, df, F)
        return BothTests(estimate, np.abs(estimate) / np.sqrt(F), F, df, p, np.maximum(first.p, second.p))
