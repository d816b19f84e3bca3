"""Stored intervals and p values, one-sided and equivalence tests, and what rejections say (type S and type M)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nestlab.measure.performance import Estimates, MethodResults, summarise
from nestlab.spec.measures import MEASURES

NAN, INF = math.nan, math.inf
OF_ENDS = {"cover", "becover", "below", "above", "width"}
WITHOUT_INFERENCE = {name for name, row in MEASURES.items() if row.needs == "estimate"}
quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
alphas = st.sampled_from([0.01, 0.05, 0.2, 0.6])
alternatives = st.sampled_from(["two-sided", "greater", "less"])


def method(part, name="a", *, size=None, **given):
    size = len(part.p if part.estimate is None else part.estimate) if size is None else size
    flags = {"converged": np.ones(size, bool), "singular": np.zeros(size, bool), "failed": np.zeros(size, bool)}
    return MethodResults(**{"name": name, "replicate": np.arange(size), "estimands": {"x": part}, **flags, **given})


def table(*parts, truth=1.0, **given):
    """The measures of methods "a", "b", ... on estimand "x", by method, measure and subset."""
    methods = [method(part, name, **given) for part, name in zip(parts, "abc", strict=False)]
    return summarise(methods, {"x": truth}).set_index(["method", "measure", "subset"]).sort_index()


def names(measured, name="a"):
    frame = measured.reset_index()
    return set(frame.loc[(frame["method"] == name) & (frame["estimand"] == "x"), "measure"])


def got(measured, measure, subset="all", *, name="a"):
    return measured.loc[(name, measure, subset)]


def assert_same(left, right):
    for column in ("value", "mcse", "n"):
        assert left[column] == pytest.approx(right[column], rel=1e-12), column


def columns(seed, size=60):
    rng = np.random.default_rng(seed)
    return rng.normal(0.6, 1, size), rng.uniform(0.2, 0.8, size), rng.uniform(1, 40, size)


def p_value(x, se, df, null, alternative):
    t = (x - null) / se
    return {"two-sided": 2 * stats.t.sf(np.abs(t), df), "greater": stats.t.sf(t, df), "less": stats.t.cdf(t, df)}[
        alternative
    ]


X = np.array([0.0, 1.0, 2.0, 3.0])
LOWER, UPPER = np.array([-1.0, 0.5, 1.5, NAN]), np.array([0.5, 1.0, 4.0, 5.0])


def test_stored_intervals_by_hand():
    """Truth 1 lies above the first, at the end of the second, below the third; the fourth is missing. The mean is 1."""
    measured = table(Estimates(X, lower=LOWER, upper=UPPER))
    shares = {measure: got(measured, measure).value for measure in OF_ENDS}
    assert shares == pytest.approx({"cover": 1 / 3, "becover": 1 / 3, "below": 1 / 3, "above": 1 / 3, "width": 1.5})
    cover = got(measured, "cover")
    assert (cover.n, cover.missing, cover.bound_lower, cover.bound_upper) == (3, 1, 0.25, 0.5)
    assert got(measured, "mean").n == 4


def test_stored_intervals_alone_have_no_power():
    assert names(table(Estimates(X, lower=LOWER, upper=UPPER))) == WITHOUT_INFERENCE | OF_ENDS


def test_stored_intervals_leave_the_t_test_alone():
    x, se, df = columns(1)
    plain = table(Estimates(x, se, df))
    stored = table(Estimates(x, se, df, lower=x - 0.1, upper=x + 0.3))
    for measure in ("power", "type_s", "type_m", "relerror"):
        assert got(stored, measure).equals(got(plain, measure))
    assert got(stored, "width").value == pytest.approx(0.4)
    assert got(stored, "cover").value == np.mean((x - 0.1 <= 1) & (x + 0.3 >= 1))


def test_intervals_by_se_equal_the_same_ones_stored():
    x, se, df = columns(2)
    half = stats.t.isf(0.025, df) * se
    by_se, stored = table(Estimates(x, se, df)), table(Estimates(x, lower=x - half, upper=x + half))
    for measure in OF_ENDS:
        assert_same(got(stored, measure), got(by_se, measure))


def test_infinite_ends_cover_and_have_no_width():
    measured = table(Estimates(X, lower=np.full(4, -INF), upper=np.array([0.5, 1.0, 2.0, INF])))
    assert (got(measured, "cover").value, got(measured, "below").value, got(measured, "cover").n) == (0.75, 0.25, 4)
    assert math.isnan(got(measured, "width").value)
    assert math.isnan(got(measured, "width").mcse)
    both = table(Estimates(X, lower=np.full(4, -INF), upper=np.full(4, INF)))
    assert (got(both, "cover").value, got(both, "becover").value) == (1, 1)


def test_an_interval_upside_down_or_without_estimate_is_missing():
    x = np.array([1.0, 1.0, NAN])
    measured = table(Estimates(x, lower=np.array([0.0, 2.0, 0.0]), upper=np.array([2.0, 0.0, 2.0])))
    assert (got(measured, "cover").value, got(measured, "cover").n, got(measured, "cover").missing) == (1, 1, 2)


def test_p_values_by_hand():
    """Rejected at .05 itself; a nan and a number that is no p value are missing, never non-rejections."""
    p = np.array([0.01, 0.05, 0.06, 0.9, NAN, 1.5])
    power = got(table(Estimates(p=p)), "power")
    assert (power.value, power.n, power.missing) == (0.5, 4, 2)
    assert (power.bound_lower, power.bound_upper) == pytest.approx((2 / 6, 4 / 6))
    assert power.mcse == pytest.approx(0.25)


def test_p_alone_has_power_only():
    assert names(table(Estimates(p=np.array([0.2, NAN])))) == {"power"}
    assert names(table(Estimates(p=np.array([0.2, NAN])), truth=NAN)) == {"power"}


def test_a_failed_fit_has_no_p_value():
    failed = np.array([False, True])
    assert got(table(Estimates(p=np.array([0.9, 0.01])), failed=failed, converged=~failed), "power").value == 0


def test_p_replaces_the_t_test_only():
    x, se, df = columns(3)
    measured, plain = table(Estimates(x, se, df, p=np.full(60, 0.9))), table(Estimates(x, se, df))
    assert got(measured, "power").value == 0
    assert got(measured, "cover").equals(got(plain, "cover"))


def test_a_test_without_an_estimate_counts_in_power_alone():
    """A likelihood ratio test can stand where the estimate is undefined."""
    measured = table(Estimates(np.array([2.0, NAN, -1.0]), p=np.array([0.01, 0.01, 0.01])))
    assert (got(measured, "power").value, got(measured, "power").n) == (1, 3)
    assert (got(measured, "type_s").value, got(measured, "type_s").n) == (0.5, 2)
    assert (got(measured, "type_m").value, got(measured, "type_m").n) == (1.5, 2)


@quick
@given(seeds, alphas, alternatives, st.sampled_from([0.0, 0.3]))
def test_power_by_p_equals_power_by_t(seed, alpha, alternative, null):
    x, se, df = columns(seed)
    by_t = table(Estimates(x, se, df, null, alternative=alternative), alpha=alpha)
    p = p_value(x, se, df, null, alternative)
    by_p = table(Estimates(x, null=null, p=p, alternative=alternative), alpha=alpha)
    for measure in ("power", "type_s", "type_m"):
        assert got(by_p, measure).equals(got(by_t, measure))
    assert got(by_p, "power").value == np.mean(p <= alpha)


@quick
@given(seeds, alphas)
def test_one_sided_tests_mirror_each_other(seed, alpha):
    x, se, df = columns(seed)
    greater = table(Estimates(x, se, df, 0.2, alternative="greater"), alpha=alpha)
    less = table(Estimates(-x, se, df, -0.2, alternative="less"), truth=-1.0, alpha=alpha)
    for measure in ("power", "type_s", "type_m", "cover", "width"):
        assert got(less, measure).equals(got(greater, measure))


def test_one_sided_tests_by_hand():
    """z = 1.7 exceeds 1.645 and not 1.96; the interval stays two-sided."""
    x, se = np.array([1.7, -1.7, 1.6]), np.ones(3)
    powers = {
        a: got(table(Estimates(x, se, INF, alternative=a)), "power").value for a in ("two-sided", "greater", "less")
    }
    assert powers == pytest.approx({"two-sided": 0, "greater": 1 / 3, "less": 1 / 3})
    widths = {a: got(table(Estimates(x, se, INF, alternative=a)), "width").value for a in ("two-sided", "greater")}
    assert widths["greater"] == widths["two-sided"] == pytest.approx(2 * 1.959964)


def test_noninferiority_is_one_sided_against_the_margin():
    x, se, df = columns(4)
    measured = table(Estimates(x, se, df, null=-0.3, alternative="greater"))
    assert got(measured, "power").value == np.mean(x - stats.t.isf(0.05, df) * se > -0.3)


@quick
@given(seeds, alphas)
def test_equivalence_is_the_interval_at_1_minus_2_alpha_inside_the_margins(seed, alpha):
    x, se, df = columns(seed)
    x, se = 0.3 * x, 0.3 * se
    reach = stats.t.isf(alpha, df) * se
    power = got(table(Estimates(x, se, df, equivalence=(-0.4, 0.6)), alpha=alpha), "power")
    assert power.value == np.mean((x - reach > -0.4) & (x + reach < 0.6))
    one_sided = [
        Estimates(x, se, df, null=-0.4, alternative="greater"),
        Estimates(x, se, df, null=0.6, alternative="less"),
    ]
    assert power.value <= min(got(table(part, alpha=alpha), "power").value for part in one_sided)


def test_equivalence_by_hand():
    """z .05 is 1.645: 0.4 +- 0.1645 lies inside (-0.6, 0.6), 0.44 +- 0.1645 does not; without df there is no test."""
    x = np.array([0.4, 0.44, -0.4, 0.0])
    measured = table(Estimates(x, np.full(4, 0.1), INF, equivalence=(-0.6, 0.6)))
    assert got(measured, "power").value == 0.75
    assert not {"type_s", "type_m"} & names(measured)
    assert "power" not in names(table(Estimates(x, np.full(4, 0.1), equivalence=(-0.6, 0.6))))
    missing = table(Estimates(x, np.full(4, 0.1), np.array([9, NAN, 9, 9]), equivalence=(-0.6, 0.6)))
    assert (got(missing, "power").n, got(missing, "power").missing) == (3, 1)


def test_type_s_and_type_m_by_hand():
    """Five of six reject 0 at 1.96; one of them has the wrong sign; their sizes are 3, 2, 4, 2 and 5 times the truth."""
    x = np.array([3.0, 2.0, -4.0, 2.0, 5.0, 0.5])
    measured = table(Estimates(x, np.ones(6), INF))
    wrong, size = got(measured, "type_s"), got(measured, "type_m")
    assert (wrong.value, wrong.n, wrong.mcse) == (0.2, 5, pytest.approx(math.sqrt(0.2 * 0.8 / 5)))
    limits = stats.binomtest(1, 5).proportion_ci(method="wilson")
    assert (wrong.lower, wrong.upper) == pytest.approx(tuple(limits))
    sizes = [3, 2, 4, 2, 5]
    assert (size.value, size.n, size.mcse) == (3.2, 5, pytest.approx(np.std(sizes, ddof=1) / math.sqrt(5)))
    assert math.isnan(size.lower)


def test_type_s_and_type_m_are_about_the_null():
    """Truth 1 and null 3: an effect of -2; 6 lies 3 above the null, on the wrong side; -1 lies 4 below it."""
    measured = table(Estimates(np.array([6.0, -1.0, 3.1]), np.ones(3), INF, null=3.0))
    assert (got(measured, "type_s").value, got(measured, "type_m").value) == (0.5, 1.75)
    greater = table(Estimates(np.array([6.0, -1.0, 3.1]), np.ones(3), INF, null=3.0, alternative="greater"))
    assert (got(greater, "type_s").value, got(greater, "type_m").value, got(greater, "type_m").n) == (1, 1.5, 1)


@pytest.mark.parametrize("truth", [NAN, 0.4])
def test_no_effect_has_no_type_s_and_type_m(truth):
    x, se, df = columns(5)
    assert not {"type_s", "type_m"} & names(table(Estimates(x, se, df, null=0.4), truth=truth))


def test_no_rejections_degenerate():
    measured = table(Estimates(np.zeros(3), np.ones(3), INF))
    for measure in ("type_s", "type_m"):
        assert got(measured, measure).n == 0
        assert got(measured, measure)[["value", "mcse", "lower", "upper"]].isna().all()
    once = table(Estimates(np.array([0.0, 5.0]), np.ones(2), INF))
    assert (got(once, "type_m").value, got(once, "type_m").n) == (5, 1)
    assert math.isnan(got(once, "type_m").mcse)


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.8])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_type_s_and_type_m_against_theory(effect, alternative):
    """x ~ N(effect, 1), z tests of 0: moments of a normal beyond the critical values."""
    x = np.random.default_rng(9).normal(effect, 1, 40_000)
    measured = table(Estimates(x, np.ones(x.size), INF, alternative=alternative), truth=effect)
    two_sided = alternative == "two-sided"
    z = stats.norm.isf(0.025 if two_sided else 0.05)
    right, wrong = stats.norm.sf(z - effect), stats.norm.sf(z + effect) if two_sided else 0.0
    size = effect * right + stats.norm.pdf(z - effect)
    if two_sided:
        size += stats.norm.pdf(z + effect) - effect * wrong
    expected = {
        "power": right + wrong,
        "type_s": wrong / (right + wrong),
        "type_m": size / (right + wrong) / effect,
    }
    for measure, value in expected.items():
        share = got(measured, measure)
        probability = measure != "type_m"
        mcse = math.sqrt(value * (1 - value) / share.n) if probability else share.mcse
        assert abs(share.value - value) <= 4 * mcse, measure


def test_intervals_and_tests_have_their_own_common_replicates():
    """Method b has an interval and no test, c a test and no interval: each is common with a's own."""
    x, se, df = columns(6)
    rng = np.random.default_rng(7)
    lost = {kind: rng.random(60) < rate for kind, rate in {"df": 0.3, "lower": 0.3, "p": 0.1}.items()}
    a = Estimates(x, se, np.where(lost["df"], NAN, df))
    b = Estimates(x, lower=np.where(lost["lower"], NAN, x - 1), upper=x + 1)
    c = Estimates(p=np.where(lost["p"], NAN, p_value(x, se, df, 0, "two-sided")))
    measured = table(a, b, c)
    assert names(measured, "b") == WITHOUT_INFERENCE | OF_ENDS | {"relprec"}
    assert names(measured, "c") == {"power"}
    half = stats.t.isf(0.025, df) * se
    intervals, tests = ~(lost["df"] | lost["lower"]), ~(lost["df"] | lost["p"])
    assert intervals.sum() != tests.sum()
    for name, measure, keep, hits in [
        ("a", "cover", intervals, np.abs(x - 1) <= half),
        ("b", "cover", intervals, np.abs(x - 1) <= 1),
        ("a", "power", tests, np.abs(x) > half),
        ("c", "power", tests, np.abs(x) > half),
    ]:
        common = got(measured, measure, "common", name=name)
        assert (common.value, common.n, common.missing) == (pytest.approx(hits[keep].mean()), keep.sum(), 0)
    assert [got(measured, "cover", name=n).missing for n in "ab"] == [lost["df"].sum(), lost["lower"].sum()]
    assert [got(measured, "power", name=n).missing for n in "ac"] == [lost["df"].sum(), lost["p"].sum()]


def test_converged_counts_missing_intervals_and_tests_apart():
    p, converged = np.array([0.01, NAN, NAN, NAN]), np.array([True, True, True, False])
    measured = table(Estimates(X, lower=LOWER, upper=UPPER, p=p), converged=converged)
    cover, power = got(measured, "cover", "converged"), got(measured, "power", "converged")
    assert (cover.n, cover.missing, power.n, power.missing) == (3, 0, 1, 2)
    assert (power.bound_lower, power.bound_upper) == (pytest.approx(1 / 3), 1)


def test_columns_are_paired_by_replicate_number():
    x, se, df = columns(8)
    order = np.random.default_rng(8).permutation(60)[:50]
    p = p_value(x, se, df, 0, "two-sided")
    part = Estimates(x, lower=x - se, upper=x + 2 * se, p=p)
    some = Estimates(x[order], lower=(x - se)[order], upper=(x + 2 * se)[order], p=p[order])
    unsure = p > 0.5
    methods = [
        method(part, "a", inference_failed=unsure),
        method(some, "b", replicate=order, inference_failed=unsure[order]),
        method(Estimates(p=p[order]), "c", replicate=order),
    ]
    measured = summarise(methods, {"x": 1.0}).set_index(["method", "measure", "subset"]).sort_index()
    for measure in (*OF_ENDS - {"becover"}, "power", "type_s", "type_m"):
        a, b = got(measured, measure, "common"), got(measured, measure, "common", name="b")
        assert_same(b, a)
    assert got(measured, "power", name="c").n == 50
    assert got(measured, "inference_failed", name="b").value == unsure[order].mean()
    assert ("c", "inference_failed", "all") not in measured.index


def test_estimands_without_estimates_have_no_relative_precision():
    only, both = Estimates(p=np.full(4, 0.2)), Estimates(X, p=np.full(4, 0.2))
    assert "relprec" not in names(table(only, both), "b")
    measured = table(both, only, both)
    assert "relprec" not in names(measured, "b")
    assert got(measured, "relprec", name="c").value == 0


def test_inference_failed_is_a_share_of_all_replicates():
    failed = np.array([True, False, False, False])
    unsure = np.array([0, 1, 1, 0])
    measured = table(Estimates(X), failed=failed, converged=~failed, inference_failed=unsure)
    share = got(measured, "inference_failed")
    assert (share.value, share.n, share.estimand) == (0.5, 4, "")
    assert (share.lower, share.upper) == pytest.approx(tuple(stats.binomtest(2, 4).proportion_ci(method="wilson")))
    assert ("a", "inference_failed", "converged") not in measured.index
    assert ("a", "inference_failed", "all") not in table(Estimates(X)).index


def test_no_replicates_at_all_degenerate():
    none = np.array([])
    measured = table(Estimates(none, lower=none, upper=none, p=none), inference_failed=none)
    assert (measured["n"] == 0).all()
    assert measured[["value", "mcse"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("part", "given", "message"),
    [
        (Estimates(), {}, "method 'a': x has neither estimates nor p; give one, or leave the estimand out"),
        (Estimates(p=X[:2]), {}, r"p\.x has shape \(2,\); allowed is one value per replicate, \(4,\)"),
        (Estimates(X[:3]), {}, r"estimate\.x has shape \(3,\)"),
        (Estimates(X, lower=X[:2], upper=X), {}, r"lower\.x has shape \(2,\)"),
        (Estimates(X, lower=X, upper=np.float64(3)), {}, r"upper\.x has shape \(\)"),
        (Estimates(X, lower=X), {}, r"lower\.x comes without upper\.x; give it, or leave lower out"),
        (Estimates(X, upper=X), {}, r"upper\.x comes without lower\.x"),
        (Estimates(p=X, lower=X, upper=X), {}, r"lower\.x comes without estimate\.x"),
        (Estimates(p=X, se=X), {}, r"se\.x comes without estimate\.x"),
        (
            Estimates(X, alternative="larger"),
            {},
            r"alternative\.x is 'larger'; allowed are 'two-sided', 'greater', 'less'; leave it out for the first",
        ),
        (
            Estimates(X, equivalence=(0.2, 0.2)),
            {},
            r"equivalence\.x is \(0\.2, 0\.2\); allowed is \(low, high\) with low < high, as \(-0\.2, 0\.2\)",
        ),
        (Estimates(X, equivalence=(0.2, -0.2)), {}, r"equivalence\.x is \(0\.2, -0\.2\)"),
        (Estimates(X, equivalence=(NAN, 0.2)), {}, r"equivalence\.x is \(nan, 0\.2\)"),
        (Estimates(X, equivalence=(0.2,)), {}, r"equivalence\.x is \(0\.2,\)"),
        (
            Estimates(X, equivalence=(-1, 1), p=X),
            {},
            "x has both equivalence and p; allowed is one test: leave out one",
        ),
        (Estimates(X, equivalence=(-1, 1), alternative="less"), {}, "x has both equivalence and alternative"),
        (Estimates(X), {"inference_failed": np.zeros(3)}, r"inference_failed has shape \(3,\)"),
        (
            Estimates(X),
            {"inference_failed": X == 1, "failed": X == 1, "converged": X != 1},
            "inference_failed is True in replicate 1, where failed says otherwise: "
            "a fit without estimates counts as failed only",
        ),
    ],
)
def test_method_results_refuse(part, given, message):
    with pytest.raises(ValueError, match=message):
        method(part, size=4, **given)
