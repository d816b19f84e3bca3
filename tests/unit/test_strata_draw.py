"""Statistics of strata drawn directly against those of rows that NumPy draws; the strata themselves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from nestlab.fit.strata.model import fit_cells
from nestlab.fit.strata.plan import CellEffect, CellTerm, compile_cells
from nestlab.simulate.strata.cells import Multiplier, cell_design, pair, reduce_cells
from nestlab.simulate.strata.draw import CellTruth, TrueTerm, draw_statistics
from nestlab.simulate.strata.structure import UnbalancedError, find_strata
from nestlab.simulate.streams import block_generator

#: Replicates of each sample, and the level of one comparison: some 500 are made.
SAMPLE, ALPHA = 1500, 1e-6


def crossing(*levels: int):
    return [np.array(c) for c in zip(*product(*map(range, levels)), strict=True)]


PAIR = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
FOUR = np.array([[1, a, b, a * b] for a in (0.0, 1) for b in (-0.5, 0.5)])
C = np.array([[1.0, 0.4], [0.4, 0.7]])
SUBJECT, ITEM = crossing(6, 4)
SCHOOL, CLASS = np.repeat(np.arange(5), 3), np.arange(15)
COVARIATE = np.array([0.3, -1.0, 2.0, 0.1, 0.5, 1.5])
#: Codes of factors, D, multipliers after the constant, true terms, analysis: fixed columns, random terms.
DESIGNS = {
    "crossed slopes": ([SUBJECT, ITEM], PAIR, [], [(0, np.eye(2), C), (1, np.eye(2), C / 2)], [([1, 0], 0), ([0, 1], 0)]),
    "crossed, few levels, 4 columns": (
        crossing(3, 7), FOUR, [], [(0, np.eye(4), np.eye(4) + 0.3), (1, np.eye(4)[:, :2], C)],
        [(row, 0) for row in np.eye(4)[:2]],
    ),
    "a covariate of subjects": (
        [SUBJECT, ITEM], PAIR, [(SUBJECT, COVARIATE)], [(0, np.eye(2), C), (1, np.eye(2)[:, :1], C[:1, :1])],
        [([1, 0], 0), ([0, 1], 0), ([0, 1], 1)],
    ),
    "nested, redrawn covariates": (
        [SCHOOL, CLASS], PAIR, [(CLASS, None), (SCHOOL, None)], [(0, np.eye(2), C), (1, np.eye(2)[:, :1], C[1:, 1:])],
        [([1, 0], 0), ([0, 1], 0), ([1, 0], 1), ([1, 0], 2)],
    ),
    "three factors": (
        [(c := crossing(6, 4))[0] // 2, c[0], c[1]], PAIR, [],
        [(0, np.eye(2)[:, :1], C[:1, :1]), (1, np.eye(2), C), (2, np.eye(2), C / 3)], [([1, 0], 0), ([0, 1], 0)],
    ),
}  # fmt: skip


def made(name):
    codes, D, multipliers, terms, effects = DESIGNS[name]
    design = cell_design(
        find_strata(codes), D, [Multiplier.one(len(codes[0])), *(Multiplier.of(*m) for m in multipliers)]
    )
    truth = CellTruth(tuple(TrueTerm(f, A, G) for f, A, G in terms), 1.5)
    plan = compile_cells(
        design, [CellEffect(np.array(c, float), m) for c, m in effects], [CellTerm(f, A) for f, A, _ in terms]
    )
    return design, truth, plan, codes, np.asarray(D, float)


def row_statistics(design, truth, codes, D, rng, drawn, *, effects=None, spread=1.0):
    """The statistics of rows, all drawn by NumPy; spread (R): the replicates' own scale of random effects and errors."""
    y = np.sqrt(truth.residual_variance) * rng.normal(size=(len(codes[0]), len(D), SAMPLE))
    for n, t in enumerate(truth.terms):
        size = (int(codes[t.factor].max()) + 1, t.columns.shape[1], SAMPLE)
        u = effects(n, size) if effects else rng.normal(size=size)
        u = np.einsum("ab,lbr->lar", np.linalg.cholesky(t.covariance), u)
        y += np.einsum("na,jar->jnr", D @ t.columns, u[codes[t.factor]])
    return reduce_cells(design, y * spread, drawn)


def assert_same_distribution(plan, left, right):
    """Every statistic, products of random combinations of them, and all estimates."""
    rng = np.random.default_rng(4)
    weights = rng.normal(size=(6, len(left.values))) / np.sqrt(left.values.var(axis=1) + 1e-12)
    pairs = [(a, b) for a, b in zip(left.values, right.values, strict=True)]
    pairs += [(w @ left.values, w @ right.values) for w in weights]
    ours, theirs = (fit_cells(plan, s, 0, SAMPLE) for s in (left, right))
    for field in ("deviance", "beta", "vcov", "varcomp", "sigma2", "se"):
        a, b = (np.atleast_2d(getattr(f, field).T) for f in (ours, theirs))
        pairs += list(zip(a, b, strict=True))
    compared = 0
    for a, b in pairs:
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if max(np.ptp(a), np.ptp(b)) > 1e-9 * max(1.0, np.abs(a).max()):
            assert stats.ks_2samp(a, b).pvalue > ALPHA
            compared += 1
    assert compared > 10
    assert abs((ours.status == 1).mean() - (theirs.status == 1).mean()) < 5 * np.sqrt(0.5 / SAMPLE)


@pytest.mark.parametrize("name", DESIGNS)
def test_draws_are_those_of_rows(name):
    design, truth, plan, codes, D = made(name)
    rng, generator = np.random.default_rng(1), block_generator(1, "0" * 64, 0)
    drawn = [
        {k: rng.normal(size=(m.partition.levels, SAMPLE)) for k, m in enumerate(design.multipliers) if m.values is None}
        for _ in range(2)
    ]
    found = draw_statistics(design, truth, generator, SAMPLE, drawn=drawn[0])
    assert_same_distribution(plan, found, row_statistics(design, truth, codes, D, rng, drawn[1]))


@pytest.mark.parametrize("name", ["crossed slopes", "nested, redrawn covariates"])
def test_random_effects_that_are_not_normal_are_drawn_by_level(name):
    design, truth, plan, codes, D = made(name)
    rng, generator = np.random.default_rng(2), block_generator(2, "0" * 64, 0)

    def skewed(n, size):
        return rng.exponential(size=size) - 1 if n == 0 else rng.normal(size=size)

    drawn = [
        {k: rng.normal(size=(m.partition.levels, SAMPLE)) for k, m in enumerate(design.multipliers) if m.values is None}
        for _ in range(2)
    ]
    levels, q = design.strata.factors[truth.terms[0].factor].levels, truth.terms[0].columns.shape[1]
    u = np.einsum("ab,lbr->lar", np.linalg.cholesky(truth.terms[0].covariance), skewed(0, (levels, q, SAMPLE)))
    found = draw_statistics(design, truth, generator, SAMPLE, drawn=drawn[0], effects={0: u})
    assert_same_distribution(plan, found, row_statistics(design, truth, codes, D, rng, drawn[1], effects=skewed))


def test_each_replicate_has_its_own_variances():
    design, truth, plan, codes, D = made("crossed slopes")
    rng, generator = np.random.default_rng(3), block_generator(3, "0" * 64, 0)
    spread = np.repeat([1.0, 3.0], SAMPLE // 2)
    own = CellTruth(
        tuple(TrueTerm(t.factor, t.columns, t.covariance[:, :, None] * spread**2) for t in truth.terms),
        truth.residual_variance * spread**2,
    )
    found = draw_statistics(design, own, generator, SAMPLE)
    assert_same_distribution(plan, found, row_statistics(design, truth, codes, D, rng, {}, spread=spread))


@pytest.mark.parametrize("name", ["a covariate of subjects", "nested, redrawn covariates"])
def test_fixed_effects_are_added_to_statistics_as_to_rows(name):
    design, _, _, codes, D = made(name)
    rng, R = np.random.default_rng(5), 7
    y = rng.normal(size=(len(codes[0]), len(D), R))
    drawn = {k: rng.normal(size=(m.partition.levels, R)) for k, m in enumerate(design.multipliers) if m.values is None}
    values = [drawn[k] if m.values is None else m.values[:, None] for k, m in enumerate(design.multipliers)]
    cells = [v[m.partition.codes] for v, m in zip(values, design.multipliers, strict=True)]
    effects = [([1.0, 0.5], 1, 2.0), ([0.0, 1.0], 0, rng.normal(size=R))]
    added = sum(np.einsum("jr,n->jnr", cells[m] * value, D @ np.array(c)) for c, m, value in effects)
    expected = reduce_cells(design, y + added, drawn)
    found = reduce_cells(design, y, drawn).with_fixed(effects)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, atol=1e-9)
    same = reduce_cells(design, y, drawn)
    assert same.with_fixed([]) is same


def test_a_block_is_the_same_whatever_follows():
    design, truth, *_ = made("nested, redrawn covariates")
    drawn = {
        k: np.ones((m.partition.levels, 1)) * np.arange(m.partition.levels)[:, None]
        for k, m in enumerate(design.multipliers)
    }
    first, second = (draw_statistics(design, truth, block_generator(1, "0" * 64, 0), 64, drawn=drawn) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def dense_projections(codes):
    """Joint eigenspaces of the averages, each with the factors that hold it, from matrices of cells x cells."""
    A = [(c[:, None] == c) / np.bincount(c)[c] for c in codes]
    spaces = {(): np.eye(len(codes[0]))}
    for f, average in enumerate(A):
        spaces = {key: P for own, Q in spaces.items() for key, P in (((*own, f), Q @ average), (own, Q - Q @ average))}
    return {own: P for own, P in spaces.items() if np.trace(P) > 0.5}


@pytest.mark.parametrize(
    "codes",
    [
        crossing(3, 4),
        [SCHOOL, CLASS],
        crossing(2, 3, 4),
        [(c := crossing(6, 4))[0] // 2, c[0], c[1]],
        [(c := crossing(6, 4))[0] // 2, c[0], c[1] // 2, c[1]],
        [(c := crossing(2, 3, 4))[0], c[0] * 3 + c[1], c[1] * 4 + c[2]],
        [np.arange(6)],
    ],
)
def test_strata_are_the_joint_eigenspaces_of_averages(codes):
    codes = [np.asarray(c) for c in codes]
    strata, dense = find_strata([7 - c for c in codes]), dense_projections(codes)
    assert sum(s.df for s in strata.strata) == len(codes[0])
    by_holders: dict[tuple[int, ...], int] = {}
    for s in strata.strata:
        by_holders[s.holders] = by_holders.get(s.holders, 0) + s.df
    assert by_holders == {own: round(np.trace(P)) for own, P in dense.items()}
    x = np.random.default_rng(0).normal(size=(len(codes[0]), 2))
    tables = strata.tables(strata.strata[-1].partition, x) if len(x) == strata.strata[-1].partition.levels else None
    if tables is None:
        return
    total = dict.fromkeys(dense, 0.0)
    for s, stratum in enumerate(strata.strata):
        total[stratum.holders] = total[stratum.holders] + tables[s][stratum.partition.codes]
    for own, P in dense.items():
        np.testing.assert_allclose(total[own], P @ x, atol=1e-12)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ([np.array([0, 0, 0, 1, 1])], "the levels of school have 2 to 3 cells each; strata need equally many"),
        (
            [np.arange(12) // 3, np.arange(12) // 4],
            "the levels of school and item meet in unequal numbers of cells; strata need factors that are nested or fully "
            "crossed",
        ),
    ],
)
def test_factors_without_strata_say_why(codes, reason):
    with pytest.raises(UnbalancedError) as found:
        find_strata(codes, ["school", "item"][: len(codes)])
    assert str(found.value) == reason


def test_hundreds_of_thousands_of_cells():
    codes = [np.repeat(np.arange(800), 500), np.tile(np.arange(500), 800)]
    strata = find_strata(codes)
    assert [s.df for s in strata.strata] == [1, 499, 799, 499 * 799]
    multiplier = Multiplier.of(codes[0], np.arange(800) % 2)
    design = cell_design(strata, PAIR, [Multiplier.one(400_000), multiplier])
    assert design.products is not None
    np.testing.assert_allclose(design.products[:, pair(1, 1)], [100_000, 0, 100_000, 0], atol=1e-6)


def test_dependent_columns_of_a_cell_have_no_coordinate():
    D = np.array([[1.0, 0, 0], [1, 1, 2], [1, 2, 4], [1, 3, 6]])
    design = cell_design(find_strata(crossing(3, 3)), D, [Multiplier.one(9)])
    assert design.r == 2
    np.testing.assert_allclose(design.basis @ design.root, D, atol=1e-12)
