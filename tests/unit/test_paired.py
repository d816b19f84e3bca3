"""Differences between methods on the same replicates: hand-made tables, and influences against the MCSEs of single methods."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from measuring import (
    end_measures,
    error_measures,
    estimate_measures,
    interval_measures,
    rejection_measures,
    relative_precision,
)
from nestlab.measure.intervals import critical_values, tango, wilson
from nestlab.measure.paired import COLUMNS, COMPARED, differences, functionals
from nestlab.measure.performance import Estimates, MethodResults, summarise
from nestlab.measure.quantities import Quantity, of_estimates, of_intervals, of_rejections
from nestlab.spec.measures import MEASURES

NAN = math.nan
N = 400
TRUTH, NULL = 0.4, 0.1
SHARES = {"cover", "becover", "below", "above", "power", "converged", "singular", "failed", "inference_failed"}


def method(name, estimands, **given):
    """A method whose fits all converged unless something else is given; estimands: name -> Estimates."""
    part = next(iter(estimands.values()))
    size = len(part.p if part.estimate is None else part.estimate)
    flags = {"converged": np.ones(size, bool), "singular": np.zeros(size, bool), "failed": np.zeros(size, bool)}
    return MethodResults(**{"name": name, "replicate": np.arange(size), "estimands": estimands, **flags, **given})


def one(table, measure, estimand="x", **keys):
    for key, value in {"measure": measure, "estimand": estimand, **keys}.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture(scope="module")
def data():
    """Skewed estimates with standard errors that go with them, and a second method on the same data."""
    rng = np.random.default_rng(20)
    x = rng.gamma(1.5, 0.4, N)
    se = 0.4 * np.exp(rng.normal(0, 0.2, N)) * (1 + x)
    return x, se, 0.7 * x + rng.normal(0, 0.3, N), 0.9 * se * np.exp(rng.normal(0, 0.05, N))


# -- Tango's limits --------------------------------------------------------------------------------------------------------


def test_tango_against_a_published_table():
    """Bentur et al.'s airway table, 1 and 7 of 21 pairs, in Fagerland, Lydersen and Laake (2014, Stat Med 33:2850)."""
    assert [round(float(end), 3) for end in tango(1, 7, 21)] == [-0.517, -0.026]


@pytest.mark.parametrize(("b", "c", "n"), [(1, 7, 21), (12, 5, 60), (3, 0, 40), (30, 31, 2000), (0, 9, 9)])
def test_tango_s_limits_are_where_the_score_test_of_the_likelihood_turns(b, c, n):
    """The statistic once more, with the shares under the null found by maximising the likelihood."""
    z = stats.norm.isf(0.025)

    def statistic(d):
        low, high = max(0.0, -d), (1 - d) / 2

        def minus_log_likelihood(q):  # q: share of lost pairs, q + d that of gained ones
            parts = [(b, q + d), (c, q), (n - b - c, 1 - 2 * q - d)]
            return -sum(k * math.log(max(p, 1e-300)) for k, p in parts if k)

        options = {"xatol": 1e-13}
        q = optimize.minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options=options).x
        return (b - c - n * d) / math.sqrt(n * (2 * q + d - d * d))

    lower, upper = map(float, tango(b, c, n))
    if lower > -1:
        assert statistic(lower) == pytest.approx(z, abs=1e-4)
    assert statistic(upper) == pytest.approx(-z, abs=1e-4)
    assert lower <= (b - c) / n < upper


@pytest.mark.parametrize("n", [1, 7, 100, 10_000])
def test_tango_without_discordant_pairs_is_wilson_s_limit_of_none(n):
    lower, upper = tango(0, 0, n)
    assert upper == pytest.approx(wilson(0, n)[1], rel=1e-12)
    assert lower == -upper


def test_tango_of_arrays_and_ends():
    lower, upper = tango([5, 0, 3, 0], [0, 5, 4, 0], [5, 5, 30, 0])
    swapped = tango([0, 5, 4, 0], [5, 0, 3, 0], [5, 5, 30, 0])
    np.testing.assert_allclose(lower[:3], -swapped[1][:3])
    assert (upper[0], lower[1]) == (1, -1)
    assert np.isnan([lower[3], upper[3]]).all()


def test_tango_refuses():
    with pytest.raises(ValueError, match=r"gained is 3, lost 4, n 6; allowed is 0 to n for both together: give counts"):
        tango(3, 4, 6)
    with pytest.raises(ValueError, match=r"level is 95; allowed is a number between 0 and 1"):
        tango(1, 1, 6, level=95)


# -- hand-made tables ------------------------------------------------------------------------------------------------------


def test_power_is_mcnemar_s_by_hand():
    """12 replicates: a alone rejects in 5, b alone in 1, both in 3, none in 3."""
    a = np.array([1] * 5 + [0] + [1] * 3 + [0] * 3)
    b = np.array([0] * 5 + [1] + [1] * 3 + [0] * 3)
    tests = [method(name, {"x": Estimates(p=np.where(r, 0.01, 0.5))}) for name, r in (("b", b), ("a", a))]
    row = one(differences(tests, {}), "power")
    assert (row["method"], row["reference"], row["n"], row["missing"]) == ("a", "b", 12, 0)
    assert (row["gained"], row["lost"]) == (5, 1)
    assert row["difference"] == pytest.approx(4 / 12)
    assert row["mcse"] ** 2 == pytest.approx(float((Fraction(6) - Fraction(16, 12)) / 144))
    assert row["unpaired_mcse"] ** 2 == pytest.approx((8 * 4 + 4 * 8) / 12**3)
    assert (row["lower"], row["upper"]) == tuple(map(float, tango(5, 1, 12)))


def test_bias_by_hand():
    x, y = np.array([1.0, 2.0, 4.0, 5.0]), np.array([1.5, 2.0, 5.0, 5.5])
    row = one(differences([method("a", {"x": Estimates(x)}), method("b", {"x": Estimates(y)})], {"x": 2.0}), "bias")
    # differences .5, 0, 1, .5: mean .5, sum of squares about it .5
    assert row["difference"] == 0.5
    assert row["mcse"] == pytest.approx(math.sqrt(0.5 / (4 * 3)))
    assert (row["value"], row["reference_value"]) == (1.5, 1.0)
    assert row["upper"] - row["lower"] == pytest.approx(2 * stats.norm.isf(0.025) * row["mcse"])
    assert row["gained"] is pd.NA


def test_empse_by_hand():
    """Of x = (-1, 0, 1, 4) the variance is 14/3, of x/2 a quarter of that: psi of empse halves with it."""
    x = np.array([-1.0, 0.0, 1.0, 4.0])
    table = differences([method("a", {"x": Estimates(x)}), method("half", {"x": Estimates(x / 2)})], {})
    row, single = one(table, "empse"), estimate_measures(x, NAN, mcse="distribution-free")[2]
    assert single.measure == "empse"
    assert row["difference"] == pytest.approx(-math.sqrt(14 / 3) / 2)
    assert row["mcse"] == pytest.approx(single.mcse / 2)
    assert row["unpaired_mcse"] == pytest.approx(single.mcse * math.hypot(1, 0.5))
    assert one(table, "relprec")["difference"] == pytest.approx(300)
    assert one(table, "relprec")["mcse"] == pytest.approx(0, abs=1e-10)


def test_where_no_replicate_differs_the_mcse_is_0_and_the_limits_tell():
    x, se = np.linspace(-1, 3, 50), np.full(50, 0.5)
    same = [method(name, {"x": Estimates(x, se, df=np.inf)}) for name in "ab"]
    table = differences(same, {"x": 1.0})
    assert (table["difference"] == 0).all()
    assert (table["mcse"] == 0).all()
    for measure in ("power", "cover", "converged"):
        row = one(table, measure, estimand="" if measure == "converged" else "x")
        assert (row["gained"], row["lost"]) == (0, 0)
        assert row["upper"] == -row["lower"] == pytest.approx(wilson(0, 50)[1])
    type_s = one(table, "type_s")
    assert type_s["lower"] < 0 < type_s["upper"]


def test_two_computations_of_the_same_numbers_do_not_differ(data):
    x, se, *_ = data
    noise = 1 + 1e-12 * np.random.default_rng(2).normal(1, 0.1, N)
    table = differences(
        [method("a", {"x": Estimates(x, se)}), method("b", {"x": Estimates(x * noise, se * noise)})], {}
    )
    assert (table[["difference", "mcse"]] == 0).all(axis=None)
    assert (table.loc[table["measure"] == "mean", ["lower", "upper"]] == 0).all(axis=None)
    shifted = differences([method("a", {"x": Estimates(x)}), method("b", {"x": Estimates(x * noise + 0.01)})], {})
    assert one(shifted, "mean")["difference"] == pytest.approx(0.01)


# -- influences ------------------------------------------------------------------------------------------------------------


def against_single(quantities, measures):
    """Values to an ulp or two, MCSEs by the influences to 1e-10 after the factors that the docstring states."""
    quantities = list(quantities)
    n = len(quantities[0].x)
    everyone = np.ones(n, dtype=bool)
    found = functionals(quantities, dict.fromkeys(("estimate", "error", "interval", "test"), everyone))
    assert found.keys() == {m.measure for m in measures}
    for m in measures:
        f = found[m.measure]
        assert f.value == pytest.approx(m.value, rel=1e-14), m.measure
        assert m.mcse > 0
        if m.measure not in ("type_s", "type_m"):
            assert f.mcse == pytest.approx(m.mcse, rel=1e-10), m.measure
        if m.measure in SHARES:
            assert np.count_nonzero(f.hits) == m.successes
            continue
        by_influence = math.sqrt(np.sum(f.influence**2) / (n * (n - 1)))
        factor = 1.0
        if m.measure == "type_s":
            factor = math.sqrt(n / (n - 1))
        elif m.measure == "type_m":
            factor = math.sqrt((m.n - 1) * n / (m.n * (n - 1)))
        assert by_influence == pytest.approx(factor * m.mcse, rel=1e-10), m.measure
        assert np.sum(f.influence) == pytest.approx(0, abs=1e-9 * n * max(1, np.abs(f.influence).max()))


@pytest.mark.parametrize("n", [N, 399, 5])
@pytest.mark.parametrize("truth", ["one", "own", "negative"])
def test_influences_reproduce_the_mcse_of_estimates(data, truth, n):
    x = data[0][:n]
    true = {"one": TRUTH, "negative": -2.5, "own": np.random.default_rng(1).normal(0.4, 0.2, n)}[truth]
    against_single(of_estimates(x, true), estimate_measures(x, true, mcse="distribution-free"))


def test_influences_reproduce_the_mcse_of_standard_errors_and_intervals(data):
    x, se, *_ = data
    against_single([Quantity("se", x, se * se)], error_measures(x, se, mcse="distribution-free"))
    half = critical_values(np.full(N, 9.0), 0.7) * se
    against_single(of_intervals(x, half, TRUTH), interval_measures(x, half, TRUTH))
    ends = (x - 0.7 * half, x + 1.2 * half)
    against_single(of_intervals(x, ends, TRUTH), end_measures(x, *ends, TRUTH))


@pytest.mark.parametrize("own", [False, True])
def test_influences_reproduce_the_mcse_of_rejections(data, own):
    x = data[0].copy()
    x[7] = NAN
    rng = np.random.default_rng(4)
    rejects = rng.random(N) < 0.6
    truth = rng.normal(0.4, 0.3, N) if own else TRUTH
    against_single(of_rejections(rejects, x, truth, NULL), rejection_measures(rejects, x, truth, NULL))


def test_influences_reproduce_the_mcse_of_relative_precision(data):
    """The MCSE on different data has what either method's variance does apart."""
    x, _, other, _ = data
    single = relative_precision(x, other, mcse="distribution-free")
    found = functionals([Quantity("pair", x, other - x)], {"pair": np.ones(N, dtype=bool)})["relprec"]
    assert found.value == single.value
    psi = found.influence
    assert math.sqrt(np.sum(psi**2) / (N * (N - 1))) == pytest.approx(single.mcse, rel=1e-10)
    parts = [
        4 * (m.mcse / m.value) ** 2
        for v in (x, other)
        for m in estimate_measures(v, NAN, mcse="distribution-free")
        if m.measure == "empse"
    ]
    assert found.mcse == pytest.approx((100 + single.value) * math.sqrt(sum(parts)), rel=1e-10)


def test_mcse_of_differences_is_the_jackknife_s(data):
    x, se, y, se_y = data[0], data[1] / 3, data[2], data[3] / 3
    a, b = (method(n, {"x": Estimates(v, s, df=np.inf)}) for n, v, s in (("a", x, se), ("b", y, se_y)))
    table = differences([a, b], {"x": TRUTH})
    kept = ~np.eye(N, dtype=bool)

    def spread(statistic):
        without = np.array([statistic(y[m], se_y[m]) - statistic(x[m], se[m]) for m in kept])
        return math.sqrt((N - 1) / N * np.sum((without - without.mean()) ** 2))

    for measure, statistic in {
        "bias": lambda v, s: v.mean() - TRUTH,
        "relbias": lambda v, s: 100 * (v.mean() - TRUTH) / TRUTH,
        "empse": lambda v, s: v.std(ddof=1),
        "mse": lambda v, s: np.mean((v - TRUTH) ** 2),
        "rmse": lambda v, s: math.sqrt(np.mean((v - TRUTH) ** 2)),
        "modelse": lambda v, s: math.sqrt(np.mean(s * s)),
        "relerror": lambda v, s: 100 * math.sqrt(np.mean(s * s)) / v.std(ddof=1),
        "cover": lambda v, s: np.mean(np.abs(v - TRUTH) <= 1.96 * s),
        "power": lambda v, s: np.mean(np.abs(v) > 1.96 * s),
        "type_m": lambda v, s: np.mean(np.abs(v[np.abs(v) > 1.96 * s])) / TRUTH,
        "width": lambda v, s: 2 * stats.norm.isf(0.025) * s.mean(),
    }.items():
        assert one(table, measure)["difference"] == pytest.approx(statistic(y, se_y) - statistic(x, se), rel=1e-9)
        # Worst here: relerror, 2.3 %.
        assert one(table, measure)["mcse"] == pytest.approx(spread(statistic), rel=0.03), measure


# -- which replicates ------------------------------------------------------------------------------------------------------


def with_gaps(data):
    """Two methods, each with failures, missing inference and replicates of its own."""
    x, se, y, se_y = (values.copy() for values in data)
    failed_a, failed_b = np.zeros(N, bool), np.zeros(N, bool)
    failed_a[:10], failed_b[5:20] = True, True
    x[30:40], se_y[35:50] = NAN, NAN
    a = method("a", {"x": Estimates(x, se, df=9.0)}, failed=failed_a, converged=~failed_a)
    later = slice(2, N)  # b did not run the first two
    part = Estimates(y[later], se_y[later], df=np.full(N - 2, 12.0))
    b = method("b", {"x": part}, replicate=np.arange(2, N), failed=failed_b[later], converged=~failed_b[later])
    return a, b


def test_measures_are_those_of_the_replicates_common_to_both(data):
    a, b = with_gaps(data)
    truth = {"x": TRUTH}
    table, summary = differences([a, b], truth), summarise([a, b], truth)
    common = summary[(summary["subset"] == "common") & (summary["estimand"] == "x")]
    assert set(table.loc[table["estimand"] == "x", "measure"]) == set(common["measure"])
    for row in table[table["estimand"] == "x"].to_dict("records"):
        mine, theirs = (
            common[(common["measure"] == row["measure"]) & (common["method"] == m)].iloc[0] for m in ("b", "a")
        )
        reference = 0 if row["measure"] == "relprec" else theirs["value"]
        assert row["value"] == pytest.approx(mine["value"], rel=1e-14), row["measure"]
        assert row["reference_value"] == pytest.approx(reference, rel=1e-14), row["measure"]
        if row["measure"] not in ("type_s", "type_m"):
            assert row["n"] == mine["n"]
            assert (
                row["unpaired_mcse"] == pytest.approx(math.hypot(mine["mcse"], theirs["mcse"]), rel=1e-10)
                or row["measure"] == "relprec"
            )
    # out of 400: 20 failed in one or the other, 10 estimates and 10 more standard errors are missing
    assert (one(table, "bias")["n"], one(table, "bias")["missing"]) == (370, 30)
    assert (one(table, "power")["n"], one(table, "power")["missing"]) == (360, 40)
    failed = one(table, "failed", "")
    assert (failed["n"], failed["missing"], failed["gained"], failed["lost"]) == (398, 2, 10, 3)


def test_methods_and_their_order_only_turn_the_sign(data):
    a, b = with_gaps(data)
    there, back = differences([a, b], {"x": TRUTH}), differences([a, b], {"x": TRUTH}, reference="b")
    for row in there[there["measure"] != "relprec"].to_dict("records"):
        other = one(back, row["measure"], row["estimand"])
        assert other["method"] == "a"
        assert other["difference"] == -row["difference"]
        assert other["mcse"] == pytest.approx(row["mcse"], rel=1e-12)
        assert (other["lower"], other["upper"]) == pytest.approx((-row["upper"], -row["lower"]))
    both = differences([b, a], {"x": TRUTH})
    assert both["difference"].tolist() == back["difference"].tolist()


def test_selected_is_compared_where_both_tell(data):
    x, se, *_ = data
    chosen = np.tile([0.0, 1.0, 1.0, np.nan], N)[:N], np.tile([0.0, 0.0, 1.0, 1.0], N)[:N]
    both = [method(n, {"x": Estimates(x, se, df=8.0)}, selected=s) for n, s in zip("ab", chosen, strict=True)]
    row = one(differences(both, {"x": TRUTH}), "selected", "")
    told = np.isfinite(chosen[0])
    assert (row["n"], row["missing"]) == (told.sum(), (~told).sum())
    assert row["difference"] == pytest.approx((chosen[1] - chosen[0])[told].mean())
    assert (row["gained"], row["lost"]) == (0, (chosen[0] > chosen[1])[told].sum())


def test_every_measure_but_the_spread_of_power_is_compared(data):
    x, se, y, se_y = data
    none = np.zeros(N, bool)
    both = [
        method(n, {"x": Estimates(v, s, df=8.0)}, inference_failed=none, selected=np.where(v > 0, 1.0, 0.0))
        for n, v, s in (("a", x, se), ("b", y, se_y))
    ]
    table = differences(both, {"x": TRUTH})
    assert set(table["measure"]) == set(COMPARED)
    assert set(MEASURES) - set(COMPARED) == {"power_sd", "power_q10", "power_q50", "power_q90"}
    assert tuple(table.columns) == COLUMNS
    assert table[["difference", "mcse", "lower", "upper"]].notna().all(axis=None)
    assert (table["lower"] <= table["difference"]).all()
    assert (table["upper"] >= table["difference"]).all()


def test_truths_of_their_own_are_those_of_the_errors(data):
    x, se, y, se_y = data
    truth = np.random.default_rng(9).normal(0.5, 0.3, N)
    own = [method(n, {"x": Estimates(v, s, df=np.inf, truth=truth)}) for n, v, s in (("a", x, se), ("b", y, se_y))]
    errors = [method(n, {"x": Estimates(v - truth, s, df=np.inf)}) for n, v, s in (("a", x, se), ("b", y, se_y))]
    got, plain = differences(own, {}), differences(errors, {"x": 0.0})
    for measure in ("bias", "empse", "rmse", "relerror", "cover", "relprec"):
        for column in ("difference", "mcse"):
            assert one(got, measure)[column] == pytest.approx(one(plain, measure)[column], rel=1e-9), measure
    ratio = (y - truth).mean() / truth.mean() - (x - truth).mean() / truth.mean()
    assert one(got, "relbias")["difference"] == pytest.approx(100 * ratio)


def test_what_only_one_has_and_degenerate_replicates():
    x = np.array([1.0, 2.0])
    a = method("a", {"x": Estimates(x, np.ones(2), df=np.inf), "only": Estimates(x)})
    b = method("b", {"x": Estimates(x + 1), "other": Estimates(x)})
    table = differences([a, b], {"x": 1.0})
    assert set(table["estimand"]) == {"", "x"}
    assert {"power", "cover", "modelse"}.isdisjoint(table["measure"])
    assert one(table, "bias")["mcse"] == 0  # a constant apart
    assert np.isnan(one(table, "empse")["mcse"])
    nothing = method("c", {"x": Estimates(np.full(2, NAN))}, failed=np.ones(2, bool), converged=np.zeros(2, bool))
    empty = one(differences([a, nothing], {"x": 1.0}), "bias")
    assert (empty["n"], empty["missing"]) == (0, 2)
    assert np.isnan([empty["difference"], empty["mcse"], empty["lower"]]).all()
    assert differences([a], {"x": 1.0}).empty


def test_an_unknown_reference_is_refused(data):
    with pytest.raises(KeyError, match="q"):
        differences([method("a", {"x": Estimates(data[0])})], {}, reference="q")
