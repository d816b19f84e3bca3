"""Designs: columns and multipliers of terms, balanced and fixed predictors, factors of covariances."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from nestlab.simulate.layout import compile_design, lower_factor, pair
from nestlab.simulate.streams import block_generator
from nestlab.spec.formula import parse_formula
from nestlab.spec.identity import data_key
from nestlab.spec.model import Condition, Layout, Predictor, Truth
from nestlab.spec.predictors.allotted import alternating as _balanced

PREDICTORS = (
    Predictor("a", 1, "normal", mean=1.0, sd=2.0),
    Predictor("b", 1, "balanced", redraw=False),
    Predictor("f", 1, "normal", mean=-1.0, sd=0.5, redraw=False),
    Predictor("s", 2, "normal", mean=3.0, sd=2.0),
    Predictor("t", 2, "balanced", redraw=False),
    Predictor("u", 2, "normal", redraw=False),
    Predictor("x", 1, "normal"),
)


def condition(formula, predictors=PREDICTORS, sizes=(3, 1, 4, 6), seed=1):
    parsed = parse_formula(formula)
    q = len(parsed.random_columns)
    truth = Truth(parsed, (1.0,) * len(parsed.fixed), tuple(map(tuple, np.eye(q).tolist())), 2.0)
    return Condition({}, seed, Layout(tuple(sizes)), truth, tuple(predictors), "rows", 16)


FORMULA = "y ~ x*t + a:x:s + b:f + f:b:u + a:b + (1 + x + f:b | g) + (0 + a | g)"


def test_columns_are_known_then_drawn_then_their_products():
    design = compile_design(condition(FORMULA))
    assert design.columns == ("Intercept", "b", "f", "b:f", "a", "x", "a:b", "a:x")
    assert (design.known, design.drawn) == (4, 2)
    assert design.products == ((4, 1), (4, 5))
    assert design.random == (0, 5, 3, 4)
    assert design.between == ("s", "t", "u")
    assert (design.drawn_mean.tolist(), design.drawn_sd.tolist()) == ([1, 0], [2, 1])
    assert_array_equal(design.known_rows[:, 3], design.known_rows[:, 1] * design.known_rows[:, 2])


@pytest.mark.parametrize(
    ("term", "column", "multipliers"),
    [
        ("Intercept", "Intercept", ()),
        ("t", "Intercept", ("t",)),
        ("u:s", "Intercept", ("s", "u")),
        ("x", "x", ()),
        ("t:x", "x", ("t",)),
        ("s:x:a", "a:x", ("s",)),
        ("x:s:a:t", "a:x", ("s", "t")),
        ("f:u:b", "b:f", ("u",)),
        ("b:a", "a:b", ()),
    ],
)
def test_a_term_is_a_column_times_multipliers(term, column, multipliers):
    design = compile_design(condition(FORMULA))
    index, outer = design.split(term)
    assert (design.columns[index], outer) == (column, multipliers)


@pytest.mark.parametrize("term", ["a:f", "a:b:x", "t:b:x", "nobody"])
def test_a_term_without_a_column_is_refused(term):
    with pytest.raises(ValueError, match=rf"'{term}' has no column among Intercept, b, .* add the product"):
        compile_design(condition(FORMULA)).split(term)


def test_a_random_slope_of_a_level_2_predictor_is_no_design():
    with pytest.raises(AssertionError, match="level-2"):
        compile_design(condition("y ~ x + (1 + t | g)"))


def test_known_gram_is_that_of_the_rows():
    design = compile_design(condition(FORMULA))
    start = 0
    for j, size in enumerate(design.sizes):
        K = design.known_rows[start : start + size]
        start += size
        for i, k in product(range(design.known), repeat=2):
            assert design.known_gram[j, pair(i, k)] == pytest.approx((K.T @ K)[i, k], rel=1e-13, abs=1e-13)
    assert_array_equal(design.known_gram[:, 0], design.sizes)


def test_pairs_are_the_upper_triangle_by_columns():
    assert [pair(i, k) for k in range(4) for i in range(k + 1)] == list(range(10))
    assert all(pair(i, k) == pair(k, i) for i, k in product(range(5), repeat=2))


@given(st.lists(st.integers(1, 13), min_size=1, max_size=6), st.integers(1, 4))
def test_balanced_halves_each_group(sizes, how_many):
    """The odd unit out is a 0, whatever the balanced predictors before."""
    earlier = []
    for _ in range(how_many):
        earlier.append(_balanced(np.array(sizes), earlier))
        ones = np.add.reduceat(earlier[-1], np.cumsum(sizes) - sizes)
        assert_array_equal(ones, np.array(sizes) // 2)


def test_balanced_alternates():
    assert _balanced(np.array([3, 4]), []).tolist() == [0, 1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("n", range(2, 41, 2))
def test_two_balanced_predictors_are_crossed(n):
    """Cells of n / 4 units, or as near as halves allow."""
    first = _balanced(np.array([n]), [])
    second = _balanced(np.array([n]), [first])
    cells = np.bincount(2 * first + second, minlength=4)
    assert cells.max() - cells.min() <= n % 4 / 2


@pytest.mark.parametrize(("n", "how_many"), [(4, 2), (4, 3), (8, 3), (8, 4), (12, 3), (16, 4), (24, 4)])
def test_balanced_predictors_have_separate_main_effects(n, how_many):
    """Orthogonal in pairs where 4 divides n, and a full factorial where 2^how_many does: three on four units are a half."""
    earlier = []
    for _ in range(how_many):
        earlier.append(_balanced(np.array([n]), earlier))
    signs = 2 * np.array(earlier) - 1
    off = signs @ signs.T - n * np.eye(how_many, dtype=int)
    assert np.abs(off).max() == 0
    if n % 2**how_many == 0:
        cells = np.bincount(2 ** np.arange(how_many) @ np.array(earlier), minlength=2**how_many)
        assert set(cells) == {n // 2**how_many}


@pytest.mark.parametrize("term", ["b", "t"])
def test_balanced_at_both_levels(term):
    design = compile_design(condition("y ~ b*t + (1 | g)", sizes=(3, 4, 5)))
    values = {"b": design.known_rows[:, 1], "t": design.between_fixed[1]}
    expected = {"b": [0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1], "t": [0, 1, 0]}
    assert values[term].tolist() == expected[term]


def fixed_values(c):
    design = compile_design(c)
    return design.known_rows[:, design.columns.index("f")], design.between_fixed[design.between.index("u")]


BASE = condition("y ~ f*u + x + (1 + x | g)")


@pytest.mark.parametrize(
    "other",
    [
        condition("y ~ 1 + (1 | h)"),
        replace(BASE, path="moments", block_size=64),
        replace(BASE, truth=replace(BASE.truth, residual_variance=9.0, fixed=(0.0,) * 5)),
        replace(BASE, predictors=tuple(p for p in PREDICTORS if p.name in "fux")),
    ],
    ids=["formula", "path and block", "true values", "other predictors"],
)
def test_conditions_of_one_layout_share_fixed_predictors(other):
    assert data_key(other) != data_key(BASE)
    for ours, theirs in zip(fixed_values(BASE), fixed_values(other), strict=True):
        assert_array_equal(ours, theirs)


def test_fixed_predictors_differ_by_seed_layout_and_name():
    f, u = fixed_values(BASE)
    for other in (replace(BASE, seed=2), replace(BASE, layout=Layout((4, 1, 3, 6)))):
        f2, u2 = fixed_values(other)
        assert not np.isin(f, f2).any()
        assert not np.isin(u, u2).any()
    renamed = replace(
        BASE, predictors=(Predictor("f", 1, "normal", redraw=False), Predictor("u", 1, "normal", redraw=False))
    )
    design = compile_design(replace(renamed, truth=condition("y ~ f + u + (1 | g)").truth))
    assert not np.isin(design.known_rows[:, 1], design.known_rows[:, 2]).any()


def test_a_fixed_predictor_has_its_mean_and_sd_and_is_in_no_block():
    c = condition("y ~ f + u + (1 | g)", sizes=(500,) * 40)
    f, _ = fixed_values(c)
    assert abs(f.mean() + 1) < 4 * 0.5 / np.sqrt(len(f))
    assert abs(f.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * len(f))
    block = block_generator(c.seed, data_key(c), 0).standard_normal(20_000)
    assert not np.isin(np.round((f + 1) / 0.5, 9), np.round(block, 9)).any()


@pytest.mark.parametrize("rank", range(5))
def test_factor_of_a_semidefinite_matrix(rank):
    """In units of the variances. A pivot of 1e-12 counts as 0, which can cost 1e-6 of a correlation (1.8e-7 was seen)."""
    rng = np.random.default_rng(rank)
    for _ in range(200):
        half = rng.normal(size=(4, rank)) * rng.lognormal(0, 3, size=(4, 1))
        covariance = half @ half.T
        L = lower_factor(covariance)
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance))) + 1e-300
        assert_allclose(L @ L.T / scale, covariance / scale, atol=1e-6 if rank in (2, 3) else 1e-14)
        assert_array_equal(L, np.tril(L))


def test_factor_of_variances_at_zero_and_correlations_at_one():
    assert_array_equal(lower_factor(np.zeros((2, 2))), np.zeros((2, 2)))
    assert_array_equal(lower_factor(np.array([[0.0, 0.0], [0.0, 4.0]])), [[0, 0], [0, 2]])
    assert_array_equal(lower_factor(np.array([[4.0, -2.0], [-2.0, 1.0]])), [[2, 0], [-1, 0]])
    assert lower_factor(np.zeros((0, 0))).shape == (0, 0)


# -- odd numbers of rows -------------------------------------------------------------------------------------------------------


def _ones(predictors, sizes, terms="x"):
    """(J): ones of the balanced predictor x in each cluster."""
    formula = parse_formula(f"y ~ {terms} + (1 | g)")
    truth = Truth(formula, (0.0,) * len(formula.fixed), ((1.0,),), 1.0)
    made = Condition({}, 1, Layout(sizes), truth, tuple(sorted(predictors, key=lambda p: p.name)), "moments", 8)
    design = compile_design(made)
    return design.cluster_sums(design.known_rows[:, design.columns.index("x")]).astype(int).tolist()


X = Predictor("x", 1, "balanced", redraw=False)


def test_the_odd_row_takes_turns():
    """Not always the smaller half is 1: over clusters of 5 there are as many of either."""
    assert _ones([X], (5,) * 6) == [2, 3, 2, 3, 2, 3]
    assert _ones([X], (5, 4, 5, 4, 6, 7, 2)) == [2, 2, 3, 2, 3, 3, 1]
    assert _ones([X], (1,) * 4) == [0, 1, 0, 1]
    assert _ones([X], (4, 6, 2)) == [2, 3, 1]


def test_the_odd_row_takes_turns_within_arms():
    """Whatever the order of the clusters is: neither arm has more ones."""
    z = Predictor("z", 2, "balanced", redraw=False)  # 0, 1, 0, 1, ...
    assert _ones([X, z], (3,) * 8, "x*z") == [1, 1, 2, 2, 1, 1, 2, 2]
    arms = Predictor("z", 2, "arms", arms=(3, 5), redraw=False)
    assert _ones([X, arms], (3,) * 8, "x*z") == [1, 2, 1, 2, 1, 2, 1, 2]
    listed = Predictor("z", 2, "list", values=(1.0, 5.0, 2.0), redraw=False)
    assert _ones([X, listed], (3,) * 6, "x*z") == [1, 1, 1, 2, 2, 2]


def test_two_balanced_predictors_of_rows_take_turns_apart():
    w = Predictor("w", 1, "balanced", redraw=False)
    formula = parse_formula("y ~ w + x + (1 | g)")
    truth = Truth(formula, (0.0,) * 3, ((1.0,),), 1.0)
    design = compile_design(Condition({}, 1, Layout((5,) * 8), truth, (w, X), "moments", 8))
    ones = [design.cluster_sums(design.known_rows[:, k]) for k in (1, 2)]
    assert sorted(zip(*ones, strict=True)) == [(2, 2), (2, 2), (2, 3), (2, 3), (3, 2), (3, 2), (3, 3), (3, 3)]
