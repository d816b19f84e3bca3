"""The compiled deviates against NumPy's, number by number, and against their distributions."""

import numpy as np
import pytest
from numpy.random import PCG64, SFC64, Generator
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from nestlab.simulate.deviates import TAIL, chi_square, standard_normal

SEEDS = pytest.mark.parametrize("seed", [0, 1, 20_250_701])


def generator(seed):
    return Generator(SFC64(seed))


def same_state(a, b):
    return a.bit_generator.random_raw() == b.bit_generator.random_raw()


@SEEDS
def test_normals_are_numpys(seed):
    """A million hold some 15,000 that the layers' edges decide, and 260 of the tail; the tables differ by 4e-14."""
    ours, theirs = generator(seed), generator(seed)
    x = standard_normal(ours, (10, 1000, 100))
    assert_allclose(x, theirs.standard_normal((10, 1000, 100)), rtol=1e-12)
    assert (np.abs(x) > TAIL).sum() > 100
    assert same_state(ours, theirs)


@SEEDS
@pytest.mark.parametrize("df", [3, 4, 5, 48, 4999])
def test_chi_squares_are_twice_numpys_gammas(seed, df):
    ours, theirs = generator(seed), generator(seed)
    x = chi_square(ours, np.array([df]), 50_000)
    assert_allclose(x[0], 2 * theirs.standard_gamma(df / 2, 50_000), rtol=1e-12)
    assert same_state(ours, theirs)


def test_few_degrees_of_freedom_are_summed_squares():
    ours, theirs = generator(3), generator(3)
    x = chi_square(ours, np.array([[0, 1], [2, 0]]), 1000)
    squares = standard_normal(theirs, (3000,)) ** 2
    assert x.shape == (2, 2, 1000)
    assert not x[0, 0].any()
    assert not x[1, 1].any()
    assert_array_equal(x[0, 1], squares[:1000])
    assert_array_equal(x[1, 0], squares[1000:].reshape(1000, 2).sum(axis=1))
    assert same_state(ours, theirs)


def test_one_stream_whatever_the_pieces():
    whole = standard_normal(generator(4), (50,))
    stream = generator(4)
    pieces = [standard_normal(stream, shape).ravel() for shape in [(7,), (0,), (3, 5), (2, 0, 4), (1,), (27,)]]
    assert_array_equal(np.concatenate(pieces), whole)


def test_other_distributions_of_numpy_go_on_in_the_stream():
    ours, theirs = generator(5), generator(5)
    standard_normal(ours, (999,))
    theirs.standard_normal(999)
    assert_array_equal(ours.random(10), theirs.random(10))
    assert_array_equal(ours.integers(0, 9, 11, dtype=np.int32), theirs.integers(0, 9, 11, dtype=np.int32))


def test_another_generator_is_refused():
    with pytest.raises(AssertionError, match="streams"):
        standard_normal(Generator(PCG64(1)), (3,))


def test_normals_against_theory():
    x = standard_normal(generator(6), (1_000_000,))
    assert stats.kstest(x, "norm").pvalue > 1e-3
    for power in (1, 2, 3, 4, 6):
        variance = stats.norm.moment(2 * power) - stats.norm.moment(power) ** 2
        assert abs(np.mean(x**power) - stats.norm.moment(power)) < 3.5 * np.sqrt(variance / len(x))
    for bound in (2.5, TAIL, 4.2):
        expected = 2 * stats.norm.sf(bound) * len(x)
        assert abs((np.abs(x) > bound).sum() - expected) < 3.5 * np.sqrt(expected)
    tail = np.abs(x[np.abs(x) > TAIL])
    assert stats.kstest(stats.norm.sf(tail) / stats.norm.sf(TAIL), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("df", [1, 2, 3, 4, 29])
def test_chi_squares_against_theory(df):
    assert stats.kstest(chi_square(generator(df), np.array([df]), 200_000)[0], "chi2", (df,)).pvalue > 1e-3
