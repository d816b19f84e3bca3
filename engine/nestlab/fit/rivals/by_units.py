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
with 1 and units - (effects of that base column) df. Each coefficient has its own test. A contrast of coefficients has one
where their base columns have the same products with the units' constants, for example of two conditions within subjects. There
are no joint tests: their usual F for three conditions or more takes variances as spherical.

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
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from ..inference import Hypotheses, Inference
from ..lmm import Fits, pairs
from ..reduce import PIVOT_TOLERANCE
from ..status import Status
from .regression import Regression, regress_pattern
from .rows import Array, Codes, CrossedRows, Pattern, level_sums, relabelled

__all__ = ["EffectTests", "UnitDesign", "UnitTests", "both_tests", "by_units", "min_f", "unit_design"]

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
class EffectTests:
    """t tests of H hypotheses in R replicates: estimate, se and df (R, H), nan where there is none."""

    estimate: Array
    se: Array
    df: Array

    @property
    def F(self) -> Array:
        """(R, H), with 1 and `df` degrees of freedom."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.estimate / self.se) ** 2)

    @property
    def p(self) -> Array:
        """(R, H), two-sided."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(2 * stdtr(self.df, -np.abs(self.estimate / self.se)))


@dataclass(frozen=True)
class UnitTests:
    """Tests of H hypotheses on p effects in R replicates.

    beta (R, p); vcov of beta (R, p(p+1)/2) by pairs; df (R, H); units (R): how many are in use; status (R). What is nan has no
    test: joint hypotheses, and contrasts of effects that units do not have in the same way.
    """

    hypotheses: Hypotheses
    beta: Array
    vcov: Array
    df: Array
    units: NDArray[np.int64]
    status: NDArray[np.int64]

    @property
    def fits(self) -> Fits:
        """Without variances and deviance, which such an analysis does not have."""
        R, none = len(self.status), np.full(len(self.status), np.nan)
        return Fits(self.status, np.zeros(R, dtype=np.int64), none, none, self.beta, self.vcov, np.empty((R, 0)), none)

    @property
    def inference(self) -> Inference:
        return Inference(self.df, self.vcov, np.ones_like(self.df))

    @cached_property
    def tests(self) -> EffectTests:
        rows = [self.hypotheses[h] for h in range(len(self.hypotheses))]
        none = np.full(len(self.beta), np.nan)
        estimate = [_weighted(self.beta, each[0]) if len(each) == 1 else none for each in rows]
        se = [self.inference.se(each[0]) if len(each) == 1 else none for each in rows]
        return EffectTests(np.stack(estimate, axis=1), np.stack(se, axis=1), self.df)


def _weighted(beta: Array, weights: Array) -> Array:
    used = weights != 0
    return np.asarray((beta[:, used] * weights[used]).sum(axis=1))


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


def by_units(
    rows: CrossedRows, factor: str, hypotheses: Hypotheses | None = None, design: UnitDesign | None = None
) -> UnitTests:
    """Test hypotheses, or every effect, by the units of a factor: F1 by subjects, F2 by items.

    design: by `unit_design`; where absent, that of the first replicate with all of its rows.
    """
    R, p = rows.replicates, len(rows.X)
    if hypotheses is None:
        hypotheses = Hypotheses.of(p)
    found = UnitTests(
        hypotheses, np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan), np.full((R, len(hypotheses)), np.nan),
        np.zeros(R, dtype=np.int64), np.full(R, Status.rank_deficient, dtype=np.int64),
    )  # fmt: skip
    if design is None:
        whole = rows.alone(np.array([0]), whole=True)
        design = unit_design(whole.X[0], whole.codes[factor])
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
    cells: _UnitCells, means: Array, present: NDArray[np.bool_], design: UnitDesign, found: UnitTests, at: NDArray[np.int64]
) -> None:  # fmt: skip
    """Fill in the replicates `at`, which have the cells that are present, by their means (replicates, M)."""
    means = np.ascontiguousarray(means[:, present])
    finite = np.isfinite(means).all(axis=1)
    found.status[at] = np.where(finite, Status.rank_deficient, Status.nonfinite)
    if not present.any() or not finite.any():
        return
    at, means = at[finite], means[finite]
    units, X = relabelled([cells.units[present]])[0], np.ascontiguousarray(cells.X[:, present])
    coefficients, used = _coefficients(means, X, units, design)
    found.units[at] = used.sum()
    first = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
    status, parts = np.full(len(at), Status.ok), []
    for place, base in enumerate(design.bases):
        effects = [k for k, own in enumerate(design.base) if own == base]
        Z = np.stack([_multiplier(X, k, base, units, first) for k in effects])[:, used]
        b = np.ascontiguousarray(coefficients[:, place][:, used])
        regression = regress_pattern(Pattern(at, np.ascontiguousarray(Z)[None], b, {}))
        status = np.maximum(status, regression.status)
        parts.append((effects, regression))
    found.status[at] = status
    ok = status == Status.ok
    if ok.any():
        _fill(parts, ok, found, at[ok])


def _fill(
    parts: list[tuple[list[int], Regression]], ok: NDArray[np.bool_], found: UnitTests, at: NDArray[np.int64]
) -> None:
    """Coefficients, their covariance and df of the replicates `at` from the regressions of each base column's effects.

    Effects of two base columns covary where their regressors over units are the same ones.
    """
    p = found.beta.shape[1]
    place = {pair: n for n, pair in enumerate(pairs(p))}
    left = np.full(p, np.nan)
    alike = np.zeros((p, p), dtype=bool)
    for own, one in parts:
        found.beta[at[:, None], own] = one.beta[ok]
        left[own] = one.rows - one.fixed
        unit = one.unit[0]
        for others, two in parts:
            if not np.array_equal(one.pattern.X, two.pattern.X):
                continue
            covariance = (one.residuals[ok] * two.residuals[ok]).sum(axis=1) / (one.rows - one.fixed)
            for i, k in enumerate(own):
                for j, m in enumerate(others):
                    alike[k, m] = True
                    if k <= m:
                        found.vcov[at, place[k, m]] = covariance * unit[i, j]
    for h in range(len(found.hypotheses)):
        weights = found.hypotheses[h]
        effects = np.flatnonzero(weights[0])
        if len(weights) == 1 and alike[np.ix_(effects, effects)].all():
            found.df[at, h] = left[effects].min()


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
        cells, number = relabelled([units, *pattern.X[0]])
        first = np.full(number, len(units))
        np.minimum.at(first, cells, np.arange(len(units)))
        order = np.argsort(units[first], kind="stable")
        rank = np.empty(number, dtype=np.int64)
        rank[order] = np.arange(number)
        return _UnitCells(rank[cells], units[first[order]], pattern.X[0][:, first[order]])

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
    both, own = (level_sums(X[base] * X[each], units, len(first)) for each in (k, base))
    return np.asarray(both / np.where(own > 0, own, 1.0))


def min_f(first: EffectTests, second: EffectTests) -> EffectTests:
    """min F', as the square of a t statistic: estimate, the mean of both analyses' estimates; se, |estimate| / sqrt(min F')."""
    F1, F2 = first.F, second.F
    with np.errstate(invalid="ignore", divide="ignore"):
        F = F1 * F2 / (F1 + F2)
        df = (F1 + F2) ** 2 / (F1**2 / second.df + F2**2 / first.df)
        estimate = (first.estimate + second.estimate) / 2
        return EffectTests(estimate, np.abs(estimate) / np.sqrt(F), df)


def both_tests(first: EffectTests, second: EffectTests) -> EffectTests:
    """Per effect the test with the larger p value: it rejects where both do."""
    known = np.isfinite(first.p + second.p)

    def chosen(one: Array, two: Array) -> Array:
        return np.where(known, np.where(first.p >= second.p, one, two), np.nan)

    names = ("estimate", "se", "df")
    return EffectTests(*(chosen(getattr(first, name), getattr(second, name)) for name in names))
