"""What no measure may notice, and how it must follow a change of units (hypothesis)."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from nestlab.measure.performance import Estimates, MethodResults, summarise
from nestlab.spec.measures import MEASURES

TRUTH = 0.5
#: Powers of the unit of the estimates.
UNITS = {m: 1 for m, row in MEASURES.items() if not row.share and not row.percent and row.needs != "test"} | {"mse": 2}
#: Of the truth, which a shift makes another.
RELATIVE = [m for m, row in MEASURES.items() if row.percent and row.needs == "estimate"]
samples = st.builds(lambda seed, n: (seed, n), st.integers(0, 2**32 - 1), st.integers(15, 80))
quick = settings(max_examples=40, deadline=None)
modes = st.sampled_from(["distribution-free", "morris"])


def columns(sample):
    """Two methods' estimates, standard errors and df (some without a result), and who converged."""
    seed, n = sample
    rng = np.random.default_rng(seed)
    x = rng.standard_t(4, n) * 0.4 + TRUTH
    other = 0.5 * x + rng.normal(0, 0.3, n)
    other[rng.random(n) < 0.1] = np.nan
    return x, other, rng.uniform(0.2, 0.8, n), rng.uniform(1, 50, n), rng.random(n) < 0.9


def table(x, other, se, df, converged, *, truth=TRUTH, null=0.0, mcse="distribution-free", replicate=None):
    none = np.zeros(len(x), bool)
    replicate = np.arange(len(x)) if replicate is None else replicate
    methods = [
        MethodResults(name, replicate, converged, none, none, {"x": Estimates(values, se, df, null)})
        for name, values in (("a", x), ("b", other))
    ]
    return summarise(methods, {"x": truth}, mcse=mcse).set_index(["method", "estimand", "measure", "subset"])


def assert_same(left, right, rtol=1e-6):
    assert left.index.equals(right.index)
    for column in ("value", "mcse", "n", "lower", "upper", "bound_lower", "bound_upper"):
        assert_allclose(left[column].astype(float), right[column].astype(float), rtol=rtol, atol=1e-9, err_msg=column)


@quick
@given(samples, modes, st.floats(-100, 100))
def test_shift_equivariance(sample, mcse, shift):
    x, other, *rest = columns(sample)
    before = table(x, other, *rest, mcse=mcse).drop(RELATIVE, level="measure")
    after = table(x + shift, other + shift, *rest, truth=TRUTH + shift, null=shift, mcse=mcse)
    after = after.drop(RELATIVE, level="measure", errors="ignore")
    moved = before.index.get_level_values("measure").isin(["mean", "median"])
    before.loc[moved, "value"] += shift
    assert_same(before, after)


@quick
@given(samples, modes, st.floats(0.01, 100), st.sampled_from([1, -1]))
@example(
    (945024, 15), "distribution-free", 3.0, 1
)  # replicates as far from the median as one another, but for rounding
@example((945024, 15), "distribution-free", 3.0, -1)
def test_scale_equivariance(sample, mcse, size, sign):
    k = sign * size
    x, other, se, *rest = columns(sample)
    before = table(x, other, se, *rest, mcse=mcse)
    after = table(k * x, k * other, size * se, *rest, truth=k * TRUTH, mcse=mcse)
    if sign < 0:
        after = after.rename(index={"below": "above", "above": "below"}, level="measure").reindex(before.index)
    measure = before.index.get_level_values("measure")
    power = np.array([UNITS.get(name, 0) for name in measure])
    flips = np.where(measure.isin(["mean", "median", "bias"]), sign, 1)
    before["value"] *= flips * size**power
    before["mcse"] *= size**power
    assert_same(before, after)


@quick
@given(samples, modes, st.randoms(use_true_random=False))
def test_order_of_replicates_changes_nothing(sample, mcse, random):
    data = columns(sample)
    order = list(range(len(data[0])))
    random.shuffle(order)
    permuted = table(*(column[order] for column in data), mcse=mcse, replicate=np.array(order))
    assert_same(table(*data, mcse=mcse), permuted)


@quick
@given(samples)
def test_replicates_given_twice_keep_averages_and_shrink_their_mcse(sample):
    data = columns(sample)
    once, twice = table(*data), table(*(np.tile(column, 2) for column in data))
    averages = [m for m in MEASURES if m not in ("empse", "relerror", "relprec")]
    keep = [key for key in once.index if key[2] in averages]
    assert_allclose(once.loc[keep, "value"], twice.loc[keep, "value"], rtol=1e-9, atol=1e-12)
    assert (twice["n"] == 2 * once["n"]).all()
    for measure in ("mean", "bias", "relbias", "mse", "rmse", "modelse", "width", "cover", "power"):
        first = once.xs(measure, level="measure")
        n = first["n"].to_numpy()
        lost = n if measure in ("cover", "power") else n - 1
        shrink = np.sqrt(lost / np.where(measure in ("cover", "power"), 2 * n, 2 * n - 1))
        assert_allclose(twice.xs(measure, level="measure")["mcse"], first["mcse"] * shrink, rtol=1e-7, atol=1e-12)


@quick
@given(samples, modes)
def test_ranges(sample, mcse):
    got = table(*columns(sample), mcse=mcse)
    assert not (got["mcse"] < 0).any()
    shares = got[got["lower"].notna()]
    assert shares["value"].between(0, 1).all()
    assert (shares["lower"] <= shares["value"]).all()
    assert (shares["value"] <= shares["upper"]).all()
    bounded = got[got["missing"].notna()]
    assert (bounded["bound_lower"] <= bounded["value"] + 1e-12).all()
    assert (bounded["value"] <= bounded["bound_upper"] + 1e-12).all()


@pytest.mark.parametrize("mcse", ["distribution-free", "morris"])
def test_the_reference_gains_nothing_on_itself(mcse):
    x, _, *rest = columns((1, 40))
    relprec = table(x, x, *rest, mcse=mcse).xs("relprec", level="measure")
    assert (relprec["value"] == 0).all()
    assert (relprec["mcse"] == 0).all()
