"""Cluster sizes that are drawn: their tables against scipy.stats, their stated moments, and which clusters are drawn when."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from nestlab.simulate.sizes import draw_sizes, fixed_sizes, size_distribution, size_moments
from nestlab.simulate.streams import block_generator
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Sizes, Truth
from nestlab.spec.problems import StudyError

#: As stated, before the minimum.
STATED = [
    Sizes("poisson", 20.0, 1 / math.sqrt(20), minimum=0),
    Sizes("negative-binomial", 20.0, 0.5, minimum=0),
    Sizes("negative-binomial", 50.0, 2.0, minimum=0),
    Sizes("uniform", 20.0, 0.5, minimum=0),
    Sizes("uniform", 7.3, 0.57, minimum=0),
    Sizes("uniform", 20.5, 0.1, minimum=0),
    Sizes("lognormal", 20.0, 0.5, minimum=0),
    Sizes("lognormal", 20.0, 0.03, minimum=0),
    Sizes("lognormal", 20.0, 0.01, minimum=0),
    Sizes("lognormal", 500.0, 1.0, minimum=0),
    Sizes("lognormal", 5.0, 1.5, minimum=0),
]


@pytest.mark.parametrize("sizes", STATED, ids=lambda s: f"{s.kind} {s.mean} {s.cv:.2f}")
def test_stated_mean_and_cv_hold_before_the_minimum(sizes):
    assert_allclose(size_moments(sizes), (sizes.mean, sizes.cv), rtol=1e-8)
    values, probabilities = size_distribution(sizes)
    assert values.min() >= 0
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-12)


def test_tables_are_scipys():
    k, p = size_distribution(Sizes("poisson", 3.0, minimum=0))
    assert_allclose(p, stats.poisson.pmf(k, 3), rtol=1e-10)
    k, p = size_distribution(Sizes("negative-binomial", 10.0, 0.8, minimum=0))
    n = 100 / (64 - 10)
    assert_allclose(p, stats.nbinom.pmf(k, n, n / (n + 10)), rtol=1e-9)
    assert size_distribution(Sizes("uniform", 20.0, 0.0))[0].tolist() == [20]


def test_the_minimum_moves_mean_and_cv_as_documented():
    assert_allclose(size_moments(Sizes("negative-binomial", 10.0, 0.8, minimum=2)), (10.11, 0.78), atol=0.005)
    assert_allclose(size_moments(Sizes("poisson", 3.0, minimum=1)), (3.05, 0.54), atol=0.005)
    values, probabilities = size_distribution(Sizes("poisson", 3.0, minimum=2))
    assert values[0] == 2
    assert probabilities[0] == pytest.approx(stats.poisson.cdf(2, 3))


@pytest.mark.parametrize(
    "sizes", [*STATED[:9], Sizes("empirical", values=(3, 5, 5, 9))], ids=lambda s: f"{s.kind} {s.cv:.2f}"
)
def test_draws_follow_the_table(sizes):
    """200,000 draws: the mean and variance within 4 MCSE."""
    layout = Layout((20,) * 100, ((100, sizes),))
    drawn = draw_sizes(layout, np.zeros(100, dtype=np.int64), block_generator(1, "a" * 64, 0), 2000).ravel()
    mean, cv = size_moments(sizes)
    assert abs(drawn.mean() - mean) < 4 * drawn.std() / math.sqrt(len(drawn))
    squares = (drawn - mean) ** 2
    assert abs(squares.mean() - (cv * mean) ** 2) < 4 * squares.std() / math.sqrt(len(drawn))


def condition(layout, seed=1):
    return Condition({}, seed, layout, Truth(parse_formula("y ~ 1 + (1 | g)"), (0.0,), ((1.0,),), 1.0), (), "rows", 16)


def test_arms_are_drawn_each_in_its_way():
    once, anew = Sizes("poisson", 10.0, redraw=False), Sizes("lognormal", 30.0, 0.2)
    layout = Layout((4, 4, *(10,) * 5, *(30,) * 3), ((2, None), (5, once), (3, anew)))
    fixed = fixed_sizes(condition(layout))
    assert fixed[:2].tolist() == [4, 4]
    assert len(set(fixed[2:7])) > 1
    assert fixed[7:].tolist() == [30, 30, 30]
    drawn = draw_sizes(layout, fixed, block_generator(1, "a" * 64, 0), 50)
    assert_array_equal(drawn[:7], np.repeat(fixed[:7, None], 50, axis=1))
    assert drawn[7:].std(axis=1).min() > 2


def test_sizes_that_are_drawn_once_belong_to_seed_and_distribution():
    def sizes(seed=1, **changes):
        words = {"kind": "negative-binomial", "mean": 20.0, "cv": 0.6, "redraw": False} | changes
        return fixed_sizes(condition(Layout((20,) * 12, ((12, Sizes(**words)),)), seed)).tolist()

    assert sizes() == sizes()
    assert sizes() != sizes(seed=2)
    assert sizes() != sizes(cv=0.7)
    assert fixed_sizes(condition(Layout((7, 8, 9)))).tolist() == [7, 8, 9]


def test_more_clusters_are_the_same_ones_and_others():
    """Of each arm, too; arms of one distribution differ."""
    once = Sizes("poisson", 10.0, redraw=False)

    def sizes(*arms):
        layout = Layout((10,) * sum(arms), tuple((clusters, once) for clusters in arms))
        return fixed_sizes(condition(layout)).tolist()

    assert sizes(30)[:20] == sizes(20)
    few, many = sizes(8, 12), sizes(10, 20)
    assert few[:8] == many[:8]
    assert few[8:] == many[10:22]
    assert many[:10] != many[10:20]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            Sizes("uniform", 20.0, 0.6),
            "design.cluster_size.cv = 0.6: must be at most 0.577, beyond which sizes are negative, for distribution = "
            '"uniform" and mean = 20; write such a cv, or distribution = "negative-binomial"',
        ),
        (
            Sizes("negative-binomial", 10.0, 0.2),
            "design.cluster_size.cv = 0.2: must be greater than 1 / sqrt(mean) = 0.316, for distribution = "
            '"negative-binomial" and mean = 10; write such a cv, or distribution = "poisson"',
        ),
        (
            Sizes("lognormal", 20.5, 0.001),
            "design.cluster_size.cv = 0.001: must be greater than about 0.024, as sizes are whole numbers, for distribution = "
            '"lognormal" and mean = 20.5; write such a cv, or cluster_size = a list',
        ),
        (
            Sizes("lognormal", 5000.0, 3.0),
            "design.cluster_size.cv = 3: must be so small that sizes above 5,000,000 are hardly ever drawn, for distribution = "
            '"lognormal" and mean = 5000; write such a cv, or a smaller mean',
        ),
    ],
    ids=["uniform", "negative-binomial", "narrow", "wide"],
)
def test_what_no_distribution_of_sizes_has_is_refused(sizes, message):
    with pytest.raises(StudyError) as refused:
        size_distribution(sizes)
    assert str(refused.value) == message
