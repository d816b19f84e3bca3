"""By-subject and by-item analyses against analyses of variance by statsmodels and t tests by SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from nestlab.fit.inference import Hypotheses
from nestlab.fit.rivals.by_units import EffectTests, both_tests, by_units, min_f, unit_design
from nestlab.fit.rivals.rows import CrossedRows
from nestlab.fit.status import Status

SUBJECTS, ITEMS, TIMES, REPLICATES = 12, 8, 2, 3


def crossed(*columns: np.ndarray, seed: int = 4, replicates: int = REPLICATES) -> CrossedRows:
    """Each subject gets each item `TIMES` times; an Intercept before the columns."""
    rng = np.random.default_rng(seed)
    subject, item, _ = grid()
    X = np.stack([np.ones(len(subject)), *columns])
    y = 3.0 + rng.normal(size=(len(subject), replicates))
    for x in X:
        of_subjects, of_items = rng.normal(size=(SUBJECTS, replicates)), rng.normal(size=(ITEMS, replicates))
        y += x[:, None] * (rng.normal() + of_subjects[subject] + of_items[item])
    return CrossedRows(X[:, :, None], y, {"subject": subject, "item": item})


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subject, item, time of each row."""
    return tuple(each.ravel() for each in np.indices((SUBJECTS, ITEMS, TIMES)))


def frame(rows: CrossedRows, r: int, **columns: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"y": rows.y[:, r], **rows.codes, **columns})


SUBJECT, ITEM, TIME = grid()
WITHIN = TIME - 0.5  # each subject and each item has both
BETWEEN_ITEMS = (ITEM % 2) - 0.5
BETWEEN_SUBJECTS = (SUBJECT % 2) - 0.5


def test_an_effect_within_subjects_and_items_is_a_paired_t_test():
    rows = crossed(WITHIN)
    for factor in ("subject", "item"):
        found = by_units(rows, factor)
        for r in range(REPLICATES):
            cells = frame(rows, r, a=WITHIN).groupby([factor, "a"])["y"].mean().unstack()
            wanted = stats.ttest_rel(cells[0.5], cells[-0.5])
            assert found.tests.estimate[r, 1] == pytest.approx((cells[0.5] - cells[-0.5]).mean(), rel=1e-12)
            assert np.sqrt(found.tests.F[r, 1]) == pytest.approx(abs(wanted.statistic), rel=1e-10)
            assert found.tests.p[r, 1] == pytest.approx(wanted.pvalue, rel=1e-9)
            assert found.df[r, 1] == len(cells) - 1
            mean = stats.ttest_1samp(cells.mean(axis=1), 0.0)
            assert found.tests.p[r, 0] == pytest.approx(mean.pvalue, rel=1e-9)
    assert (found.status == Status.ok).all()


def test_two_factors_within_subjects_are_repeated_measures_anova():
    """2 x 2 within subjects, one of them between items: F1 by AnovaRM, F2 of the item factor by the two-sample t test."""
    rows = crossed(BETWEEN_ITEMS, WITHIN, BETWEEN_ITEMS * WITHIN)
    one, two = by_units(rows, "subject"), by_units(rows, "item")
    for r in range(REPLICATES):
        data = frame(rows, r, a=BETWEEN_ITEMS, b=WITHIN)
        table = AnovaRM(data, "y", "subject", within=["a", "b"], aggregate_func="mean").fit().anova_table
        np.testing.assert_allclose(one.tests.F[r, 1:], table["F Value"], rtol=1e-9)
        np.testing.assert_allclose(one.df[r, 1:], table["Den DF"])
        np.testing.assert_allclose(one.tests.p[r, 1:], table["Pr > F"], rtol=1e-8)
        items = data.groupby(["item", "a"])["y"].mean().reset_index()
        halves = [items.loc[items["a"] == a, "y"] for a in (0.5, -0.5)]
        assert two.tests.p[r, 1] == pytest.approx(stats.ttest_ind(*halves).pvalue, rel=1e-9)
        assert two.df[r, 1] == ITEMS - 2


def test_a_mixed_design_is_the_split_plot_anova():
    """Between and within subjects: strata of subjects and of subject x condition, F by sums of squares written out."""
    rows = crossed(BETWEEN_SUBJECTS, WITHIN, BETWEEN_SUBJECTS * WITHIN)
    found = by_units(rows, "subject")
    for r in range(REPLICATES):
        cells = frame(rows, r, g=BETWEEN_SUBJECTS, a=WITHIN).groupby(["subject", "g", "a"])["y"].mean().reset_index()
        means = cells.groupby(["subject", "g"])["y"].mean().reset_index()
        gaps = cells.pivot(index=["subject", "g"], columns="a", values="y").reset_index()
        gaps["d"] = gaps[0.5] - gaps[-0.5]
        between = sm.OLS(means["y"], sm.add_constant(means["g"])).fit()
        within = sm.OLS(gaps["d"], sm.add_constant(gaps["g"])).fit()
        F_group = anova_f(means["y"].to_numpy(), means["g"].to_numpy())
        assert found.tests.F[r, 1] == pytest.approx(F_group, rel=1e-9)
        np.testing.assert_allclose(found.tests.p[r, [0, 1]], between.pvalues, rtol=1e-8)
        np.testing.assert_allclose(found.tests.p[r, [2, 3]], within.pvalues, rtol=1e-8)
        assert (found.df[r] == SUBJECTS - 2).all()


def anova_f(y: np.ndarray, groups: np.ndarray) -> float:
    return float(stats.f_oneway(*[y[groups == g] for g in np.unique(groups)]).statistic)


def test_a_covariate_of_items_is_a_slope_per_subject_and_a_regression_of_item_means():
    frequency = np.random.default_rng(1).normal(size=ITEMS)[ITEM]
    rows = crossed(frequency)
    one, two = by_units(rows, "subject"), by_units(rows, "item")
    for r in range(REPLICATES):
        data = frame(rows, r, x=frequency)
        slopes = [np.polyfit(own["x"], own["y"], 1)[0] for _, own in data.groupby("subject")]
        assert one.tests.p[r, 1] == pytest.approx(stats.ttest_1samp(slopes, 0.0).pvalue, rel=1e-8)
        items = data.groupby("item")[["x", "y"]].mean()
        assert two.tests.p[r, 1] == pytest.approx(stats.linregress(items["x"], items["y"]).pvalue, rel=1e-8)


def test_each_cell_counts_once_however_many_rows_it_has():
    rows = crossed(WITHIN)
    kept = np.random.default_rng(6).random(rows.y.shape) < 0.7
    found = by_units(CrossedRows(rows.X, rows.y, rows.codes, kept), "subject")
    for r in range(REPLICATES):
        data = frame(rows, r, a=WITHIN)[kept[:, r]]
        cells = data.groupby(["subject", "a"])["y"].mean().unstack()
        assert found.tests.p[r, 1] == pytest.approx(stats.ttest_rel(cells[0.5], cells[-0.5]).pvalue, rel=1e-9)


def test_a_unit_without_all_of_its_cells_is_left_out():
    rows = crossed(WITHIN)
    kept = np.ones(rows.y.shape, dtype=bool)
    kept[(SUBJECT == 0) & (TIME == 0), 1] = False
    found = by_units(CrossedRows(rows.X, rows.y, rows.codes, kept), "subject")
    assert found.units.tolist() == [SUBJECTS, SUBJECTS - 1, SUBJECTS]
    assert found.df[:, 1].tolist() == [SUBJECTS - 1, SUBJECTS - 2, SUBJECTS - 1]
    data = frame(rows, 1, a=WITHIN)
    cells = data[data["subject"] > 0].groupby(["subject", "a"])["y"].mean().unstack()
    assert found.tests.p[1, 1] == pytest.approx(stats.ttest_rel(cells[0.5], cells[-0.5]).pvalue, rel=1e-9)


def test_min_f_is_clarks():
    """His rule by hand: F' at least F1 F2 / (F1 + F2), denominator df from both."""
    one = EffectTests(np.array([[2.0]]), np.array([[0.5]]), np.array([[19.0]]))
    two = EffectTests(np.array([[2.0]]), np.array([[1.0]]), np.array([[9.0]]))
    found = min_f(one, two)  # F1 = 16, F2 = 4
    assert found.F[0, 0] == pytest.approx(64 / 20)
    assert found.df[0, 0] == pytest.approx(400 / (256 / 9 + 16 / 19))
    assert found.p[0, 0] == pytest.approx(stats.f.sf(3.2, 1, 400 / (256 / 9 + 16 / 19)))
    assert both_tests(one, two).p[0, 0] == pytest.approx(2 * stats.t.sf(2.0, 9))
    assert found.se[0, 0] == pytest.approx(np.hypot(0.5, 1.0))


def test_both_are_significant_where_the_larger_p_value_is():
    rows = crossed(WITHIN, replicates=50)
    one, two = by_units(rows, "subject").tests, by_units(rows, "item").tests
    both, smallest = both_tests(one, two), min_f(one, two)
    np.testing.assert_array_equal(both.p, np.maximum(one.p, two.p))
    assert 0 < (both.p[:, 1] < 0.05).mean() < 1
    np.testing.assert_allclose(smallest.se**2, one.se**2 + two.se**2, rtol=1e-9)
    assert (np.minimum(one.F, two.F) >= smallest.F).all()
    for combine in (both_tests, min_f):
        none = combine(one, EffectTests(two.estimate, two.se * np.nan, two.df))
        assert np.isnan(none.p).all()


def test_units_need_columns_that_vary_in_all_of_them_or_in_none():
    some = np.where(SUBJECT < 4, WITHIN, 0.5)
    found = unit_design(np.stack([np.ones(len(SUBJECT)), WITHIN, some]), SUBJECT)
    assert (found.column, found.reason) == (2, "varies within some units and not within others")
    assert unit_design(np.stack([np.ones(len(SUBJECT)), some]), ITEM).reason == ""
    rows = crossed(WITHIN, some)
    tests = by_units(rows, "subject")
    assert np.isnan(tests.tests.p).all()
    assert (tests.status == Status.rank_deficient).all()


def test_contrasts_of_conditions_are_paired_t_tests():
    """Three conditions within subjects; a contrast of a between and a within effect, or a joint test, has none."""
    kind = ITEM % 3
    rows = crossed((kind == 1) * 1.0, (kind == 2) * 1.0, BETWEEN_SUBJECTS)
    weights = [np.array([[0.0, 1.0, -1.0, 0.0]]), np.array([[0.0, 1.0, 0.0, 1.0]]), np.eye(4)[1:3]]
    found = by_units(rows, "subject", Hypotheses.of(4, weights))
    for r in range(REPLICATES):
        cells = frame(rows, r, kind=kind).groupby(["subject", "kind"])["y"].mean().unstack()
        wanted = stats.ttest_rel(cells[1], cells[2])
        assert found.tests.estimate[r, 4] == pytest.approx((cells[1] - cells[2]).mean(), rel=1e-10)
        assert found.tests.p[r, 4] == pytest.approx(wanted.pvalue, rel=1e-9)
        assert found.df[r, 4] == SUBJECTS - 1
    assert np.isfinite(found.tests.p[:, :5]).all()
    assert np.isnan(found.tests.p[:, 5:]).all()
    assert np.isnan(found.df[:, 5:]).all()


@pytest.mark.parametrize("broken", ["few", "missing", "infinite", "constant"])
def test_what_has_no_test_has_no_number(broken):
    rows = crossed(WITHIN)
    y = rows.y.copy()
    kept = None
    if broken in ("missing", "infinite"):
        y[5, 1] = np.nan if broken == "missing" else np.inf
    elif broken == "constant":
        y[:, 1] = 2.0
    else:
        kept = np.ones(y.shape, dtype=bool)
        kept[SUBJECT > 0, 1] = False
    found = by_units(CrossedRows(rows.X, y, rows.codes, kept), "subject")
    assert np.isnan(found.tests.p[1]).all()
    assert found.status[1] == (Status.rank_deficient if broken == "few" else Status.nonfinite)
    assert np.isfinite(found.tests.p[[0, 2]]).all()


def test_a_replicate_does_not_depend_on_its_neighbours():
    rows = crossed(BETWEEN_ITEMS, WITHIN, BETWEEN_ITEMS * WITHIN)
    together = by_units(rows, "subject")
    alone = by_units(CrossedRows(rows.X, rows.y[:, 1:2], rows.codes), "subject")
    whole = by_units(CrossedRows(rows.X, rows.y, rows.codes, np.ones(rows.y.shape, dtype=bool)), "subject")
    for name in ("beta", "vcov", "df", "units", "status"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name)[1:2])
        np.testing.assert_array_equal(getattr(whole, name), getattr(together, name))
