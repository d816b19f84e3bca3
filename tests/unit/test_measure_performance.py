"""The table of one condition: its rows, subsets, missing results, degenerate input and refusals."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nestlab.measure.performance import COLUMNS, SUBSETS, Estimates, MethodResults, summarise
from nestlab.spec.measures import MEASURES

OF_ESTIMATES = {name for name, row in MEASURES.items() if row.needs == "estimate"}
RELATIVE = {name for name in OF_ESTIMATES if MEASURES[name].percent}
OF_TRUTH = {"bias", "mse", "rmse", *RELATIVE}
OF_ERRORS = {"modelse", "relerror"}
OF_REJECTIONS = {"type_s", "type_m"}
OF_INTERVALS = {"cover", "becover", "below", "above", "width", "power"} | OF_REJECTIONS
PROPORTIONS = {"cover", "becover", "below", "above", "power", "type_s"}
NAN = math.nan


def method(name="a", x=None, *, se=None, df=None, estimands=None, **given):
    """A method whose fits all converged, with one estimand "x", unless something else is given."""
    estimands = {"x": Estimates(np.asarray(x, dtype=float), se, df)} if estimands is None else estimands
    size = len(next(iter(estimands.values())).estimate) if estimands else len(given["replicate"])
    flags = {"converged": np.ones(size, bool), "singular": np.zeros(size, bool), "failed": np.zeros(size, bool)}
    return MethodResults(**{"name": name, "replicate": np.arange(size), "estimands": estimands, **flags, **given})


def row(table, measure, *, method="a", estimand="x", subset="all"):
    """The one row asked for, as plain numbers."""
    keys = {"method": method, "estimand": estimand, "measure": measure, "subset": subset}
    found = table[np.logical_and.reduce([table[key] == value for key, value in keys.items()])]
    assert len(found) == 1, keys
    return found.iloc[0]


def measures_of(table, **keys):
    for key, value in keys.items():
        table = table[table[key] == value]
    return set(table["measure"])


@pytest.fixture
def normal():
    rng = np.random.default_rng(3)
    return rng.normal(0.3, 1, 50), rng.uniform(0.5, 1.5, 50)


def test_columns_and_types(normal):
    x, se = normal
    table = summarise([method(x=x, se=se, df=18.0)], {"x": 0.3})
    assert tuple(table.columns) == COLUMNS
    assert table["n"].dtype == np.int64
    assert table["missing"].dtype == pd.Int64Dtype()
    assert set(table["subset"]) == set(SUBSETS)
    assert not table.duplicated(["method", "estimand", "measure", "subset"]).any()
    in_order = table[(table["estimand"] == "x") & (table["subset"] == "all")]["measure"].tolist()
    assert in_order == [measure for measure in MEASURES if measure in in_order]


def test_what_exists_depends_on_se_df_truth_and_other_methods(normal):
    x, se = normal
    inference = {"estimands": {"x": Estimates(x, se, 18.0), "y": Estimates(x, se), "z": Estimates(x)}}
    alone = summarise([method(**inference)], {"x": 0.3, "y": 0.0, "z": NAN})
    assert measures_of(alone, estimand="x") == OF_ESTIMATES | OF_ERRORS | OF_INTERVALS
    assert measures_of(alone, estimand="y") == OF_ESTIMATES - RELATIVE | OF_ERRORS
    assert measures_of(alone, estimand="z") == OF_ESTIMATES - OF_TRUTH >= {"mean", "median", "empse"}
    no_truth = summarise([method(**inference)], {})
    assert measures_of(no_truth, estimand="x") == OF_ESTIMATES - OF_TRUTH | {"becover", "width", "power"} | OF_ERRORS
    two = summarise([method(x=x), method("b", estimands={"x": Estimates(x), "only": Estimates(x)})], {})
    assert "relprec" in measures_of(two, estimand="x", method="a")
    assert "relprec" in measures_of(two, estimand="x", method="b")
    assert "relprec" not in measures_of(two, estimand="only")


def test_relprec_is_absent_where_the_first_method_has_not_the_estimand(normal):
    x, _ = normal
    both = [method(name, estimands={"only": Estimates(x)}) for name in "bc"]
    assert "relprec" not in measures_of(summarise([method(x=x), *both], {}), estimand="only")


def test_power_is_the_t_test_at_alpha(normal):
    x, se = normal
    df = np.random.default_rng(5).uniform(1, 40, 50)
    for alpha in (0.05, 0.2):
        part = Estimates(x, se, df, null=0.2)
        power = row(summarise([method(estimands={"x": part}, alpha=alpha)], {"x": 0.3}), "power")
        assert power.value == np.mean(2 * stats.t.sf(np.abs(x - 0.2) / se, df) < alpha)


def test_cover_is_the_t_interval(normal):
    x, se = normal
    lower, upper = stats.t.interval(0.9, 7, loc=x, scale=se)
    table = summarise([method(x=x, se=se, df=np.full(50, 7.0), alpha=0.1)], {"x": 1.5})
    assert row(table, "cover").value == np.mean((lower <= 1.5) & (upper >= 1.5))
    assert row(table, "below").value == np.mean(upper < 1.5)
    assert row(table, "above").value == np.mean(lower > 1.5)
    assert row(table, "width").value == pytest.approx(np.mean(upper - lower), rel=1e-12)


def test_method_level_shares():
    converged = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    singular = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    failed = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], bool)
    table = summarise(
        [method(replicate=np.arange(10), estimands={}, converged=converged, singular=singular, failed=failed)], {}
    )
    shares = {measure: row(table, measure, estimand="") for measure in ("converged", "singular", "failed")}
    assert {measure: (share.value, share.n) for measure, share in shares.items()} == {
        "converged": (0.6, 10),
        "singular": (0.2, 10),
        "failed": (0.1, 10),
    }
    assert shares["converged"].mcse == pytest.approx(math.sqrt(0.6 * 0.4 / 10))
    given_converged = row(table, "singular", estimand="", subset="converged")
    assert (given_converged.value, given_converged.n) == (2 / 6, 6)
    assert len(table) == 4


def test_subsets_are_what_they_say(normal):
    x, se = normal
    rng = np.random.default_rng(8)
    xa, xb = np.where(rng.random(50) < 0.2, NAN, x), np.where(rng.random(50) < 0.2, NAN, x + 0.1)
    se_b = np.where(rng.random(50) < 0.2, NAN, se)
    converged = rng.random(50) < 0.8
    a = method("a", xa, se=se, df=np.inf, converged=converged)
    b = method("b", xb, se=se_b, df=np.inf)
    table = summarise([a, b], {"x": 0.0})
    ok_a, ok_b = np.isfinite(xa), np.isfinite(xb)
    inference_b = ok_b & np.isfinite(se_b)
    for subset, keep, keep_tests in [
        ("all", ok_a, ok_a),
        ("converged", ok_a & converged, ok_a & converged),
        ("common", ok_a & ok_b, ok_a & inference_b),
    ]:
        assert row(table, "mean", subset=subset).value == pytest.approx(xa[keep].mean())
        assert row(table, "mean", subset=subset).n == keep.sum()
        cover = np.abs(xa) <= stats.norm.isf(0.025) * se
        assert row(table, "cover", subset=subset).value == pytest.approx(cover[keep_tests].mean())
        assert row(table, "cover", subset=subset).n == keep_tests.sum()
        assert row(table, "modelse", subset=subset).n == keep_tests.sum()
    assert row(table, "mean", method="b").n == ok_b.sum()
    assert row(table, "power", method="b").n == inference_b.sum()
    for subset, pairs in [("all", ok_a & ok_b), ("converged", ok_a & ok_b & converged), ("common", ok_a & ok_b)]:
        relprec = row(table, "relprec", method="b", subset=subset)
        assert relprec.n == pairs.sum()
        assert relprec.value == pytest.approx(100 * (np.var(xa[pairs], ddof=1) / np.var(xb[pairs], ddof=1) - 1))


def test_a_subset_of_equal_size_is_not_taken_for_another(normal):
    """As many converged as common, but not the same ones."""
    x, _ = normal
    converged, seen = np.ones(50, bool), np.ones(50, bool)
    converged[:10], seen[10:20] = False, False
    b = method("b", np.where(seen, x, NAN))
    table = summarise([method("a", x, converged=converged), b], {"x": 0.0})
    assert row(table, "mean", subset="converged").value == pytest.approx(x[converged].mean())
    assert row(table, "mean", subset="common").value == pytest.approx(x[seen].mean())


def test_methods_are_paired_by_replicate_number(normal):
    x, se = normal
    order = np.random.default_rng(2).permutation(50)[:40]
    a = method("a", x, se=se, df=np.inf)
    b = method("b", x[order] * 2, se=se[order], df=np.full(40, 9.0), replicate=order)
    table = summarise([a, b], {"x": 0.0})
    relprec = row(table, "relprec", method="b")
    assert relprec.n == 40
    assert relprec.value == pytest.approx(-75)
    assert relprec.mcse == pytest.approx(0, abs=1e-10)
    assert row(table, "mean", subset="common").value == pytest.approx(x[order].mean())
    assert row(table, "mean", method="b").value == pytest.approx(2 * x[order].mean())
    assert row(table, "power", method="b").missing == 0
    assert row(table, "power", method="a", subset="common").missing == 0
    assert row(table, "converged", method="b", estimand="").n == 40


def test_missing_results_are_counted_and_bounded(normal):
    x, se = normal
    x = x.copy()
    x[:5] = NAN
    df = np.where(np.arange(50) < 8, NAN, 18.0)
    converged = np.arange(50) >= 3
    table = summarise([method(x=x, se=se, df=df, converged=converged)], {"x": 0.3})
    for measure in ("power", "cover"):
        everything, only_converged = row(table, measure), row(table, measure, subset="converged")
        assert (everything.n, everything.missing) == (42, 8)
        assert everything.bound_lower == pytest.approx(everything.value * 42 / 50)
        assert everything.bound_upper == pytest.approx((everything.value * 42 + 8) / 50)
        assert (only_converged.n, only_converged.missing) == (42, 5)
    assert table[~table["measure"].isin(["power", "cover"])]["missing"].isna().all()
    assert table[~table["measure"].isin(["power", "cover"])]["bound_upper"].isna().all()


def test_proportions_have_wilson_limits(normal):
    x, se = normal
    table = summarise([method(x=x, se=se, df=np.inf)], {"x": 0.3})
    for measure in PROPORTIONS:
        got = row(table, measure)
        assert got.n == (round(50 * row(table, "power").value) if measure == "type_s" else 50)
        limits = stats.binomtest(round(got.value * got.n), got.n).proportion_ci(method="wilson")
        assert (got.lower, got.upper) == pytest.approx(tuple(limits))
    limited = set(table[table["lower"].notna()]["measure"])
    assert limited == PROPORTIONS | {"converged", "singular", "failed"}


def test_a_failed_fit_has_no_result_whatever_it_left():
    failed = np.array([False, False, True])
    table = summarise([method(x=[1.0, 2.0, 99.0], failed=failed, converged=~failed)], {})
    assert (row(table, "mean").value, row(table, "mean").n) == (1.5, 2)


@pytest.mark.parametrize("bad", [NAN, np.inf, -np.inf])
def test_what_is_not_finite_is_no_result(bad):
    x, se = np.array([1.0, 2.0, bad, 4.0]), np.array([1.0, bad, 1.0, 1.0])
    table = summarise([method(x=x, se=se, df=np.array([3.0, 3.0, 3.0, -1.0]))], {"x": 0.0})
    assert [row(table, measure).n for measure in ("mean", "modelse", "cover")] == [3, 2, 1]


def test_a_negative_se_is_no_result():
    table = summarise([method(x=np.ones(2), se=np.array([-1.0, 1.0]), df=np.inf)], {"x": 0.0})
    assert (row(table, "modelse").n, row(table, "power").n) == (1, 1)


@pytest.mark.parametrize("mcse", ["distribution-free", "morris"])
def test_no_result_at_all_degenerate(mcse):
    nothing = np.full(4, NAN)
    part = Estimates(nothing, nothing, nothing)
    none, every = np.zeros(4, bool), np.ones(4, bool)
    methods = [method(name, estimands={"x": part}, converged=none, failed=every) for name in "ab"]
    table = summarise(methods, {"x": 1.0}, mcse=mcse)
    of_x = table[table["estimand"] == "x"]
    assert measures_of(of_x) == OF_ESTIMATES | OF_ERRORS | OF_INTERVALS | {"relprec"}
    assert (of_x["n"] == 0).all()
    assert of_x[["value", "mcse", "lower", "upper"]].isna().all(axis=None)
    power = row(table, "power")
    assert (power.missing, power.bound_lower, power.bound_upper) == (4, 0, 1)
    assert row(table, "failed", estimand="").value == 1
    assert row(table, "singular", estimand="", subset="converged").n == 0


def test_no_replicates_at_all_degenerate():
    table = summarise([method(x=np.array([]), se=np.array([]), df=np.array([]))], {"x": 1.0})
    assert (table["n"] == 0).all()
    assert table[["value", "mcse", "bound_lower", "bound_upper"]].isna().all(axis=None)
    assert row(table, "power").missing == 0


@pytest.mark.parametrize("mcse", ["distribution-free", "morris"])
def test_one_replicate_degenerate(mcse):
    methods = [method(name, [2.0], se=np.array([1.0]), df=np.inf) for name in "ab"]
    table = summarise(methods, {"x": 1.0}, mcse=mcse)
    got = {measure: row(table, measure) for measure in OF_ESTIMATES | OF_ERRORS | OF_INTERVALS | {"relprec"}}
    values = {"mean": 2, "median": 2, "bias": 1, "relbias": 100, "mse": 1, "rmse": 1, "modelse": 1, "cover": 1}
    assert {measure: got[measure].value for measure in values} == values
    for measure in ("empse", "relerror", "relprec"):
        assert math.isnan(got[measure].value)
    for measure in got.keys() - PROPORTIONS:
        assert math.isnan(got[measure].mcse), measure
    assert {share.n for share in got.values()} == {1}
    assert row(table, "power").value == 1
    assert row(table, "power").lower == pytest.approx(0.2065, abs=1e-4)


def test_two_replicates_degenerate():
    table = summarise([method(x=[1.0, 3.0], se=np.array([1.0, 2.0]), df=np.inf), method("b", [2.0, 5.0])], {"x": 1.0})
    assert row(table, "empse").value == pytest.approx(math.sqrt(2))
    assert row(table, "mean").mcse == pytest.approx(1)
    assert row(table, "relprec", method="b").value == pytest.approx(100 * (2 / 4.5 - 1))
    for measure in ("median", "empse", "relerror", "relprec"):
        assert math.isnan(row(table, measure).mcse)
    morris = summarise([method(x=[1.0, 3.0])], {}, mcse="morris")
    assert row(morris, "empse").mcse == pytest.approx(1)


@pytest.mark.parametrize("mcse", ["distribution-free", "morris"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e5 / 3, 1e9 + 0.1])
def test_constant_estimates_degenerate(mcse, value):
    same = np.full(7, value)
    methods = [method("a", same, se=np.full(7, 0.3), df=np.inf), method("b", np.arange(7.0)), method("c", same)]
    table = summarise(methods, {"x": value}, mcse=mcse)
    assert [row(table, measure).value for measure in ("bias", "empse", "mse", "rmse")] == [0, 0, 0, 0]
    assert (row(table, "mean").value, row(table, "mean").mcse, row(table, "median").mcse) == (value, 0, 0)
    assert (row(table, "modelse").value, row(table, "modelse").mcse) == (pytest.approx(0.3), 0)
    assert math.isnan(row(table, "relerror").value)
    assert math.isnan(row(table, "rmse").mcse)
    assert row(table, "cover").value == row(table, "becover").value == 1
    assert row(table, "relprec", method="b").value == -100
    assert math.isnan(row(table, "relprec", method="c").value)


def test_standard_errors_of_zero_are_taken_at_their_word():
    table = summarise([method(x=[0.0, 1.0, 1.0, 1.0], se=np.zeros(4), df=np.full(4, 5.0))], {"x": 1.0})
    assert (row(table, "power").value, row(table, "cover").value, row(table, "width").value) == (0.75, 0.75, 0)
    assert (row(table, "below").value, row(table, "above").value) == (0.25, 0)
    assert (row(table, "modelse").value, row(table, "relerror").value) == (0, -100)
    assert math.isnan(row(table, "modelse").mcse)


def test_overflow_is_nan_not_a_warning():
    huge = np.array([1e200, -1e200, 3e200, 0.0])
    table = summarise([method(x=huge, se=np.abs(huge), df=np.inf), method("b", huge / 2)], {"x": 1e-200})
    assert np.isfinite(row(table, "mean").value)
    assert math.isnan(row(table, "mse").value)
    assert row(table, "mse").n == 4
    assert not np.isinf(table[["value", "mcse"]].to_numpy()).any()


def test_the_input_is_not_changed(normal):
    x, se = (column.copy() for column in normal)
    for column in (x, se):
        column.flags.writeable = False
    summarise([method(x=x, se=se, df=np.inf), method("b", x, replicate=np.arange(50)[::-1])], {"x": 0.3})


def test_columns_as_a_file_gives_them():
    """Nullable and integer columns as pandas reads them, 0 and 1 for flags, single precision."""
    frame = pd.DataFrame({"x": [1.0, None, 3.0], "n": [1, 2, 3], "ok": [1, 0, 1]})
    part = Estimates(frame["x"].to_numpy(np.float32), se=frame["n"].to_numpy(), df=frame["n"])
    flags = {"converged": frame["ok"], "singular": 1 - frame["ok"].clip(lower=1), "failed": 1 - frame["ok"]}
    table = summarise([method(estimands={"x": part}, replicate=frame["n"], **flags)], {"x": 2.0})
    assert (row(table, "mean").value, row(table, "power").n) == (2, 2)
    assert row(table, "failed", estimand="").value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 5}, r"method 'a': alpha is 5; allowed is a number between 0 and 1, as 0\.05"),
        ({"converged": np.ones(2, bool)}, r"converged has shape \(2,\); allowed is one value per replicate, \(3,\)"),
        ({"se": np.ones(4)}, r"se\.x has shape \(4,\)"),
        ({"se": np.ones(3), "df": np.ones(1)}, r"df\.x has shape \(1,\)"),
        ({"df": np.ones(3)}, r"df\.x comes without se\.x"),
        ({"replicate": np.array([1, 2, 1])}, "replicate repeats a number"),
        ({"replicate": np.array([3, 1, 3], dtype=np.uint64)}, "replicate repeats a number"),
        ({"replicate": np.arange(4)}, r"shape \(3,\); allowed is one value per replicate, \(4,\)"),
        ({"failed": np.array([False, True, False])}, "failed is True in replicate 1, where converged says otherwise"),
        ({"singular": np.array([1, 0, 0], bool), "converged": np.zeros(3, bool)}, "singular is True in replicate 0"),
    ],
)
def test_method_results_refuse(given, message):
    with pytest.raises(ValueError, match=message):
        method(x=np.ones(3), **given)


@pytest.mark.parametrize(
    ("names", "mcse", "message"),
    [
        ("a", "jackknife", "mcse is 'jackknife'; allowed are 'distribution-free' and 'morris'"),
        ("aa", "morris", r"methods are named \['a', 'a'\]; allowed is one or more with distinct names"),
        ("", "morris", r"methods are named \[\]"),
    ],
)
def test_summarise_refuses(names, mcse, message):
    with pytest.raises(ValueError, match=message):
        summarise([method(name, np.ones(3)) for name in names], {}, mcse=mcse)


def test_hardly_any_degrees_of_freedom_are_no_inference():
    """At df = 0.01 the half-width is 1e100 standard errors: it would be the mean width. Only the inference is missing."""
    rng = np.random.default_rng(5)
    x, df = rng.normal(0.3, 1, 40), np.full(40, 6.0)
    df[[3, 17]] = 0.0125, 0.49
    df[20] = 0.5
    table = summarise([method(x=x, se=np.ones(40), df=df)], {"x": 0.3})
    half = stats.t.isf(0.025, np.delete(df, [3, 17]))
    assert row(table, "width")["value"] == pytest.approx(2 * half.mean(), rel=1e-12)
    for measure in ("width", "cover", "power"):
        assert row(table, measure)["n"] == 38
    for measure in ("cover", "power"):
        assert row(table, measure)["missing"] == 2
    assert row(table, "bias")["n"] == 40
    assert row(table, "bias")["value"] == pytest.approx(x.mean() - 0.3, rel=1e-12)
