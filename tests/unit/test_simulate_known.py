"""Known columns at any sizes, by hand; contrasts; level-2 predictors of any distribution; random allocation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nestlab.simulate.between import draw_between
from nestlab.simulate.factors import FactorTable
from nestlab.simulate.known import known_columns, patterns
from nestlab.simulate.layout import compile_design, pair
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.streams import block_generator
from nestlab.spec.model import Condition, Errors, Formula, Layout, Missing, Predictor, RandomTerm, Sizes, Truth
from nestlab.spec.paths import rows_reasons

KEY = "8" * 64


def condition(terms: tuple[str, ...], predictors: list[Predictor], sizes: tuple[int, ...], **more: Any) -> Condition:
    formula = Formula("", "y", ("Intercept", *terms), (RandomTerm("g", ("Intercept",)),))
    truth = Truth(formula, (0.5,) * (1 + len(terms)), ((1.0,),), 1.0)
    layout = Layout(sizes, more.pop("drawn", ()))
    return Condition({}, 3, layout, truth, tuple(sorted(predictors, key=lambda p: p.name)), "moments", 16, **more)


def columns_of(predictor: Predictor, sizes: tuple[int, ...]) -> list[list[list[float]]]:
    """The values of each column by cluster."""
    design = compile_design(condition(predictor.columns, [predictor], sizes))
    assert design.columns == ("Intercept", *predictor.columns)
    ends = np.cumsum(sizes)
    return [
        [column[end - n : end].tolist() for n, end in zip(sizes, ends, strict=True)]
        for column in design.known_rows.T[1:]
    ]


# -- level 1 -------------------------------------------------------------------------------------------------------------------

WEDGE = Predictor("t", 1, "schedule", sequences=((0, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 1)))


def test_time_counts_rows() -> None:
    (time,) = columns_of(Predictor("t", 1, "time", mean=-1.0, sd=0.5), (3, 1, 2))
    assert time == [[-1, -0.5, 0], [-1], [-1, -0.5]]


def test_a_list_is_repeated_in_each_cluster() -> None:
    (values,) = columns_of(Predictor("t", 1, "list", values=(5.0, 7.0)), (3, 1, 2))
    assert values == [[5, 7, 5], [5], [5, 7]]


def test_clusters_take_sequences_in_turn() -> None:
    (treated,) = columns_of(WEDGE, (4, 4, 3, 4, 2))
    assert treated == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0], [0, 1, 1, 1], [0, 0]]


def test_rows_beyond_the_last_period_stay_in_it() -> None:
    (treated,) = columns_of(WEDGE, (6,))
    assert treated == [[0, 1, 1, 1, 1, 1]]
    (period,) = columns_of(Predictor("p", 1, "period", values=(0.0, 0.0, 1.0)), (5, 2))
    assert period == [[0, 0, 1, 1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("coding", "expected"),
    [  # R 4.2: contr.treatment(3), contr.sum(3), contr.helmert(3), by rows 1, 1, 2, 2, 3, 3
        ("treatment", [[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]),
        ("sum", [[1, 1, 0, 0, -1, -1], [0, 0, 1, 1, -1, -1]]),
        ("helmert", [[-1, -1, 1, 1, 0, 0], [-1, -1, -1, -1, 2, 2]]),
    ],
)
def test_periods_as_categories(coding: Any, expected: list[list[float]]) -> None:
    period = Predictor("p", 1, "period", values=(0, 0, 1, 1, 2, 2), categories=("0", "1", "2"), coding=coding)
    assert period.columns == (("p[0]", "p[1]") if coding == "sum" else ("p[1]", "p[2]"))
    assert columns_of(period, (6,)) == [[e] for e in expected]


def test_arms_at_level_1() -> None:
    (arm,) = columns_of(Predictor("a", 1, "arms", arms=(2, 1)), (1, 2, 3))
    assert arm == [[0], [0, 0], [1, 1, 1]]


PLACED = [
    WEDGE,
    Predictor("b", 1, "balanced"),
    Predictor("c", 1, "balanced"),
    Predictor("d", 1, "time"),
    Predictor("l", 1, "list", values=(1.0, -2.0, 5.0)),
    Predictor("z", 1, "arms", arms=(3, 2)),
]


def test_known_columns_at_other_sizes_are_those_of_a_design_with_them() -> None:
    """Products included; clusters without rows give none."""
    terms = ("t", "b", "c", "d", "l", "z", "b:d", "l:t")
    mean = condition(terms, PLACED, (4,) * 5, drawn=((5, Sizes("poisson", 4.0)),))
    for sizes in [(1, 2, 3, 4, 5), (7, 7, 7, 7, 7), (4, 4, 4, 4, 4)]:
        expected = compile_design(condition(terms, PLACED, sizes)).known_rows
        assert_array_equal(known_columns(mean, np.array(sizes)), expected)
    picked = known_columns(mean, np.array([3, 0, 5]), np.array([2, 1, 4]))
    full = compile_design(condition(terms, PLACED, (1, 2, 3, 4, 5))).known_rows
    assert_array_equal(picked, np.vstack([full[3:6], full[10:]]))


def test_patterns_are_clusters_with_the_same_columns() -> None:
    c = condition(
        ("t", "z"), [WEDGE, Predictor("z", 1, "arms", arms=(3, 2))], (4,) * 5, drawn=((5, Sizes("poisson", 4.0)),)
    )
    found = patterns(c)
    assert len(set(found.tolist())) == 5  # sequences 0 1 2 0 1 and arms 0 0 0 1 1
    assert patterns(replace(c, predictors=(PLACED[3],))).tolist() == [0] * 5
    assert patterns(replace(c, predictors=(PLACED[1], PLACED[3]))).tolist() == [0, 1, 0, 1, 0]  # the odd row
    assert patterns(replace(c, predictors=(WEDGE,))).tolist() == [0, 1, 2, 0, 1]


def test_factors_of_sizes_are_those_of_their_rows() -> None:
    terms = ("t", "b", "d", "z")
    c = condition(terms, PLACED, (4,) * 5, drawn=((5, Sizes("poisson", 4.0)),))
    design = compile_design(c)
    table = FactorTable(design, np.zeros(design.known))
    rng = np.random.default_rng(1)
    for _ in range(3):
        sizes = rng.poisson(5, (5, 30))
        factors, kind = table(sizes)
        for r in range(30):
            K = known_columns(c, sizes[:, r])
            ends = np.cumsum(sizes[:, r])
            for j in range(5):
                own = K[ends[j] - sizes[j, r] : ends[j]]
                gram, factor, t = own.T @ own, factors.factor[kind[j, r]], kind[j, r]
                assert factors.n[t] == sizes[j, r]
                assert_allclose(factor.T @ factor, gram, atol=1e-9)
                assert_allclose(
                    [factors.gram[t, pair(i, k)] for k in range(len(gram)) for i in range(len(gram))],
                    gram.ravel(),
                    atol=1e-12,
                )


# -- drawn once ----------------------------------------------------------------------------------------------------------------


def test_what_is_drawn_once_has_its_distribution_and_correlations() -> None:
    """20,000 clusters of 4; the normal one as it always was."""
    x = Predictor("x", 1, "normal", 2.0, 3.0, redraw=False, icc=0.3)
    w = Predictor("w", 1, "gamma", -1.0, 0.5, redraw=False, shape=(("skewness", 1.0),), icc=0.1)
    b = Predictor("b", 1, "binary", 0.3, redraw=False)
    design = compile_design(condition(("x", "w", "b"), [x, w, b], (4,) * 20_000, correlations=(("w", "x", 0.4),)))
    values = dict(zip(design.columns, design.known_rows.T, strict=True))
    for p, mean, sd, icc in [("x", 2, 3, 0.3), ("w", -1, 0.5, 0.1), ("b", 0.3, sqrt(0.21), 0)]:
        z = ((values[p] - mean) / sd).reshape(-1, 4)
        for found, expected in [(z, 0), (z**2, 1), (z[:, :1] * z[:, 1:2], icc), (z[:, 2:3] * z[:, 3:], icc)]:
            error = found.mean(axis=1).std() / sqrt(len(z))
            assert abs(found.mean() - expected) < 4 * error, p
    product = ((values["x"] - 2) / 3 * (values["w"] + 1) / 0.5).reshape(-1, 4).mean(axis=1)
    assert abs(product.mean() - 0.4) < 4 * product.std() / sqrt(len(product))


def test_categories_drawn_once() -> None:
    k = Predictor("k", 2, "categorical", redraw=False, categories=("a", "b", "c"), shares=(0.2, 0.3, 0.5), coding="sum")
    design = compile_design(condition(("k[a]", "k[b]"), [k], (1,) * 20_000))
    assert design.between == ("k[a]", "k[b]")
    assert not design.between_drawn.any()
    counts = Counter(map(tuple, design.between_fixed.T.tolist()))
    for row, share in zip([(1, 0), (0, 1), (-1, -1)], k.shares, strict=True):
        assert abs(counts[row] / 20_000 - share) < 4 * sqrt(share * (1 - share) / 20_000)


# -- level 2 -------------------------------------------------------------------------------------------------------------------


def between(predictors: list[Predictor], J: int, replicates: int, **more: Any) -> dict[str, Any]:
    terms = tuple(column for p in predictors for column in p.columns)
    design = compile_design(condition(terms, predictors, (2,) * J, **more))
    return dict(zip(design.between, draw_between(design, block_generator(1, KEY, 0), replicates), strict=True))


def test_level_2_predictors_have_their_distributions() -> None:
    k = Predictor("k", 2, "categorical", categories=("a", "b", "c"), shares=(0.3, 0.3, 0.4))
    r = Predictor("r", 2, "resampled", values=(1.0, 1.0, 4.0, 10.0))
    s = Predictor("s", 2, "lognormal", 5.0, 2.0, shape=(("skewness", 2.0),))
    t = Predictor("t", 2, "binary", 0.25)
    z = between([k, r, s, t], 4, 20_000, correlations=(("s", "t", 0.4), ("r", "s", -0.3)))
    n = 80_000
    moments = {
        "k[b]": (0.3, 0.21), "k[c]": (0.4, 0.24), "r": (4.0, np.var([1, 1, 4, 10])), "s": (5.0, 4.0), "t": (0.25, 0.1875)
    }  # fmt: skip
    for name, (mean, variance) in moments.items():
        for found, expected in [(z[name], mean), ((z[name] - mean) ** 2, variance)]:
            assert abs(found.mean() - expected) < 4 * found.std() / sqrt(n), name
    for a, b, rho in [("s", "t", 0.4), ("r", "s", -0.3), ("k[b]", "s", 0.0), ("r", "t", None)]:
        product = (z[a] - moments[a][0]) * (z[b] - moments[b][0]) / sqrt(moments[a][1] * moments[b][1])
        if rho is not None:
            assert abs(product.mean() - rho) < 4 * product.std() / sqrt(n), (a, b)
    assert not (z["k[b]"] * z["k[c]"]).any()
    assert set(np.unique(z["r"]).tolist()) == {1.0, 4.0, 10.0}


def test_lists_and_arms_by_cluster() -> None:
    z = between(
        [Predictor("a", 2, "arms", arms=(2, 1, 2), redraw=False), Predictor("l", 2, "list", values=(3.0, 9.0))], 5, 7
    )
    assert z["a"].tolist() == [[0], [0], [1], [2], [2]]
    assert z["l"].tolist() == [[3], [9], [3], [9], [3]]


def test_random_allocation_has_exact_counts_and_every_order() -> None:
    """4 of 2 and 2: six orders, as often as one another."""
    z = between([Predictor("a", 2, "arms", arms=(2, 2))], 4, 12_000)["a"]
    assert_array_equal(z.sum(axis=0), 2.0)
    counts = Counter(map(tuple, z.T.tolist()))
    assert len(counts) == comb(4, 2)
    assert all(abs(count - 2000) < 4 * sqrt(2000 * 5 / 6) for count in counts.values())


def test_allocated_predictors_stay_crossed() -> None:
    """Two balanced predictors move together: 8 clusters keep two in each of the four cells."""
    z = between([Predictor("a", 2, "balanced"), Predictor("b", 2, "balanced")], 8, 300)
    cells = 2 * z["a"] + z["b"]
    assert all((np.bincount(column.astype(int)) == 2).all() for column in cells.T)
    assert len({tuple(column) for column in cells.T.tolist()}) > 200


def values_of(predictors: list[Predictor], clusters: int) -> dict[str, list[float]]:
    """The level-2 columns that are the same in every replicate."""
    columns = tuple(column for p in predictors for column in p.columns)
    design = compile_design(condition(columns, predictors, (2,) * clusters))
    return {name: row.tolist() for name, row in zip(design.between, design.between_fixed, strict=True)}


def test_balanced_by_shares_and_categories() -> None:
    two_to_one = Predictor("z", 2, "balanced", shares=(2 / 3, 1 / 3), redraw=False)
    assert values_of([two_to_one], 7) == {"z": [0, 1, 0, 0, 1, 0, 0]}
    three = replace(two_to_one, shares=(1 / 3,) * 3, categories=("a", "b", "c"))
    assert values_of([three], 7) == {"z[b]": [0, 1, 0, 0, 1, 0, 0], "z[c]": [0, 0, 1, 0, 0, 1, 0]}
    (rows,) = columns_of(replace(two_to_one, level=1), (3, 1, 4))
    assert rows == [[0, 1, 0], [0], [0, 1, 0, 0]]


def test_odd_rows_take_turns_in_halves_only() -> None:
    """Also of two categories; and within each arm of what is allocated in blocks or strata, which the first one decides."""
    halves = Predictor("x", 1, "balanced", shares=(0.5, 0.5), categories=("a", "b"), redraw=False)
    assert columns_of(halves, (3, 3, 1)) == [[[0, 1, 0], [1, 0, 1], [0]]]
    assert columns_of(Predictor("x", 1, "balanced", shares=(0.6, 0.4), redraw=False), (3, 3)) == [[[0, 1, 0]] * 2]
    region = Predictor("r", 2, "list", values=(0.0, 2.0, 1.0), categories=("a", "b", "c"), coding="sum", redraw=False)
    for blocks in (2, "r"):
        arm = Predictor("arm", 2, "balanced", blocks=blocks, redraw=False)
        c = condition(
            ("x", "arm", *region.columns), [Predictor("x", 1, "balanced", redraw=False), arm, region], (3,) * 24
        )
        design = compile_design(c)
        ones = design.known_rows[:, 1].reshape(24, 3).sum(axis=1)
        arms = design.between_fixed[design.between.index("arm")]
        assert set(ones) == {1, 2}
        assert ones[arms == 0].mean() == ones[arms == 1].mean() == 1.5


def test_balanced_predictors_of_any_shares_are_crossed() -> None:
    """Three arms and 2:1 on 18 clusters: each of the six cells has its share, 4 or 2."""
    a = Predictor("a", 2, "balanced", shares=(1 / 3,) * 3, categories=("a", "b", "c"), redraw=False)
    found = values_of([a, Predictor("b", 2, "balanced", shares=(2 / 3, 1 / 3), redraw=False)], 18)
    assert Counter(zip(found["a[b]"], found["a[c]"], found["b"], strict=True)) == {
        (0, 0, 0): 4, (1, 0, 0): 4, (0, 1, 0): 4, (0, 0, 1): 2, (1, 0, 1): 2, (0, 1, 1): 2
    }  # fmt: skip


def test_lists_and_schedules_of_categories() -> None:
    listed = Predictor("k", 2, "list", values=(0.0, 2.0, 1.0), categories=("a", "b", "c"), redraw=False)
    assert values_of([listed], 4) == {"k[b]": [0, 0, 1, 0], "k[c]": [0, 1, 0, 0]}
    schedule = Predictor("k", 1, "schedule", sequences=((0.0, 1.0), (1.0, 0.0)), categories=("a", "b"), redraw=False)
    assert columns_of(schedule, (2, 2, 1)) == [[[0, 1], [1, 0], [0]]]


@pytest.mark.parametrize("redraw", [False, True])
def test_blocks_of_clusters_hold_the_shares(redraw: bool) -> None:
    arm = Predictor("arm", 2, "balanced", shares=(2 / 3, 1 / 3), blocks=3, redraw=redraw)
    z = between([arm], 12, 200)["arm"]
    assert (z.reshape(4, 3, -1).sum(axis=1) == 1).all()
    assert (len({tuple(column) for column in z.T.tolist()}) > 50) == redraw
    if redraw:  # each place in a block is as likely as another
        assert_allclose(z.reshape(4, 3, -1).mean(axis=(0, 2)), 1 / 3, atol=4 * sqrt(2 / 9 / 800))


@pytest.mark.parametrize("drawn", [False, True])
def test_strata_hold_the_shares(drawn: bool) -> None:
    """The odd cluster of a stratum is carried over to the next one: no stratum is off by one or more, nor are all of them."""
    made = (
        {"shares": (0.3, 0.3, 0.4), "redraw": True} if drawn else {"values": (0.0, 2.0, 1.0, 2.0, 0.0), "redraw": False}
    )
    kind = "categorical" if drawn else "list"
    region = Predictor("region", 2, kind, categories=("a", "b", "c"), **made)
    arm = Predictor("arm", 2, "balanced", blocks="region", redraw=True)
    z = between([arm, region], 20, 300)
    stratum = z["region[b]"] + 2 * z["region[c]"]
    assert (z["arm"].sum(axis=0) == 10).all()
    for value in range(3):
        inside = stratum == value
        assert np.abs((z["arm"] * inside).sum(axis=0) - inside.sum(axis=0) / 2).max() <= 0.5
    assert len({tuple(column) for column in z["arm"].T.tolist()}) > 100


# -- columns -------------------------------------------------------------------------------------------------------------------


def test_centred_columns_stand_before_products() -> None:
    x, w, time = Predictor("x", 1, "normal"), Predictor("w", 1, "normal"), Predictor("time", 1, "time")
    z = Predictor("z", 2, "normal")
    terms = ("time", "within(x)", "within(x):z", "within(x):w", "center(time)", "between(x):z", "time:within(w)")
    design = compile_design(condition(terms, [x, w, time, z], (3, 4)))
    assert design.columns == (
        "Intercept", "time", "w", "x", "center(time)", "within(w)", "within(x)", "w:within(x)", "time:within(w)"
    )  # fmt: skip
    assert (design.known, design.drawn) == (2, 2)
    assert design.centred == ((1, "center"), (2, "within"), (3, "within"))
    assert design.products == ((2, 6), (1, 5))
    assert design.between == ("z", "between(x)")
    assert design.means == (3,)
    assert design.split("within(x):z") == (6, ("z",))
    assert design.split("between(x):z") == (0, ("between(x)", "z"))
    assert design.split("within(x):w") == (7, ())


def test_settled_designs_have_the_same_rows_in_all_replicates() -> None:
    x = Predictor("x", 1, "normal")
    c = condition(("x",), [x], (3, 3))
    drawn = ((2, Sizes("poisson", 3.0, redraw=False)),)
    assert compile_design(c).settled
    assert not compile_design(replace(c, missing=Missing(rows=0.1))).settled
    assert not compile_design(replace(c, layout=Layout((3, 3), ((2, Sizes("poisson", 3.0)),)))).settled
    once = compile_design(replace(c, layout=Layout((3, 3), drawn)))
    assert once.settled
    assert_array_equal(once.sizes, compile_design(replace(c, layout=Layout((3, 3), drawn), predictors=())).sizes)


def test_products_with_centred_columns_need_rows() -> None:
    """Known predictors have known products; centred at a mean over rows they are made of the rows that there are."""
    c = condition(("t", "d", "d:t", "center(d):t"), [WEDGE, replace(PLACED[3], redraw=False)], (4,) * 3)
    predictors = tuple(replace(p, redraw=False) for p in c.predictors)
    without = Formula("", "y", ("Intercept", "t", "d", "d:t"), c.truth.formula.random)
    assert rows_reasons(without, predictors, Errors(), None) == ()
    assert rows_reasons(c.truth.formula, predictors, Errors(), None) == (
        "the truth multiplies level-1 predictors (center(d):t)",
    )
    design = compile_design(c)
    assert (design.known, design.columns[design.known :]) == (4, ("center(d)", "center(d):t"))
    with pytest.raises(AssertionError, match="rows path"):
        MomentSampler(design)
