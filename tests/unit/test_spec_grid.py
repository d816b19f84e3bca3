"""The grid: order, cases, short names and dotted paths, and what an axis sets."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.spec.axes import axis_paths
from nestlab.spec.formula import parse_formula
from nestlab.spec.identity import DERIVED_PATHS, describe, flatten
from nestlab.spec.keys import AXES as SHORT_NAMES
from nestlab.spec.model import Condition
from nestlab.spec.study import StudyFile

BASE: dict[str, Any] = {
    "name": "grid",
    "seed": 3,
    "replications": 10,
    "design": {"clusters": 8, "cluster_size": 5},
    "truth": {
        "formula": "y ~ x + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 1},
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 1, "x": 4}, "correlation": {"Intercept:x": 0.5}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}


def conditions(grid: dict[str, Any], **changes: Any) -> tuple[Condition, ...]:
    tables = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("__")
        holder = tables
        for parent in parents:
            holder = holder[parent]
        if value is None:
            del holder[last]
        else:
            holder[last] = value
    return StudyFile.from_dict({**tables, "grid": grid}).conditions()


def factors(grid: dict[str, Any], **changes: Any) -> list[Mapping[str, Any]]:
    return [condition.factors for condition in conditions(grid, **changes)]


def covariance(condition: Condition) -> tuple[float, float, float]:
    """Intercept variance, slope variance, correlation."""
    (a, c), (_, b) = condition.truth.covariance
    return a, b, c / math.sqrt(a * b) if a * b else math.nan


def test_no_grid_is_one_condition() -> None:
    assert factors({}) == [{}]


def test_last_axis_is_fastest_in_the_order_of_the_file() -> None:
    assert factors({"truth.fixed.x": [0, 1], "clusters": [4, 2], "icc": [0.1]}) == [
        {"truth.fixed.x": 0.0, "clusters": 4, "icc": 0.1},
        {"truth.fixed.x": 0.0, "clusters": 2, "icc": 0.1},
        {"truth.fixed.x": 1.0, "clusters": 4, "icc": 0.1},
        {"truth.fixed.x": 1.0, "clusters": 2, "icc": 0.1},
    ]
    assert list(factors({"icc": [0.1], "clusters": [3]})[0]) == ["icc", "clusters"]


def test_nested_tables_are_dotted_paths() -> None:
    nested = {"truth": {"fixed": {"x": [0, 1]}, "residual_variance": [2, 3]}}
    dotted = {"truth.fixed.x": [0, 1], "truth.residual_variance": [2, 3]}
    assert conditions(nested) == conditions(dotted)
    assert factors(nested) == factors(dotted)


def test_cases_are_crossed_with_axes() -> None:
    grid = {"icc": [0.1, 0.2], "cases": [{"clusters": 4, "cluster_size": 10}, {"clusters": 10, "cluster_size": 4}]}
    assert factors(grid) == [
        {"icc": 0.1, "clusters": 4, "cluster_size": 10},
        {"icc": 0.1, "clusters": 10, "cluster_size": 4},
        {"icc": 0.2, "clusters": 4, "cluster_size": 10},
        {"icc": 0.2, "clusters": 10, "cluster_size": 4},
    ]
    first = {"cases": grid["cases"], "icc": grid["icc"]}
    assert [point["icc"] for point in factors(first)] == [0.1, 0.2, 0.1, 0.2]


def test_cases_may_be_nested_and_in_any_order() -> None:
    cases = [{"clusters": 4, "truth": {"fixed": {"x": 0}}}, {"truth.fixed.x": 1, "clusters": 5}]
    assert factors({"cases": cases}) == [{"clusters": 4, "truth.fixed.x": 0.0}, {"clusters": 5, "truth.fixed.x": 1.0}]


def test_lists_of_sizes_are_json_factors() -> None:
    found = conditions({"cluster_size": [5, [1, 2, 3, 4, 5, 6, 7, 8]]})
    assert [condition.factors["cluster_size"] for condition in found] == ["5", "[1, 2, 3, 4, 5, 6, 7, 8]"]
    assert [condition.layout.sizes for condition in found] == [(5,) * 8, (1, 2, 3, 4, 5, 6, 7, 8)]
    assert factors({"cases": [{"clusters": 2, "cluster_size": [9, 4]}]}) == [{"clusters": 2, "cluster_size": "[9, 4]"}]


@pytest.mark.parametrize("icc", [0.0, 0.1, 0.625, 0.99])
def test_icc_sets_the_intercept_variance(icc: float) -> None:
    tau, slope, _ = covariance(conditions({"icc": [icc]})[0])
    assert tau / (tau + 2) == pytest.approx(icc, rel=1e-14)
    assert slope == 4


def test_variance_ratio_sets_the_intercept_variance() -> None:
    assert [covariance(c)[0] for c in conditions({"variance_ratio": [0, 0.25, 3]})] == [0, 0.5, 6]


def test_slope_variance_ratio_is_relative_to_the_intercept() -> None:
    assert [covariance(c)[1] for c in conditions({"slope_variance_ratio": [0.25, 3]})] == [0.25, 3]


def test_short_names_apply_after_dotted_paths_and_in_their_own_order() -> None:
    grid = {
        "slope_correlation": [-0.3],
        "slope_variance_ratio": [0.5],
        "icc": [0.5],
        "truth.residual_variance": [8],
    }
    tau, slope, correlation = covariance(conditions(grid)[0])
    assert (tau, slope) == (8, 4)
    assert correlation == pytest.approx(-0.3, rel=1e-15)


@pytest.mark.parametrize(
    "random",
    [
        BASE["truth"]["random"]["g"],
        {"sd": {"Intercept": 1, "x": 2}, "correlation": {"Intercept:x": 0.5}},
        {"covariance": [[1, 1], [1, 4]]},
    ],
)
def test_correlation_is_held_when_a_variance_varies(random: dict[str, Any]) -> None:
    for grid in ({"icc": [0.1, 0.7]}, {"slope_variance_ratio": [0.5, 9]}):
        for condition in conditions(grid, truth__random={"g": random}):
            assert covariance(condition)[2] == pytest.approx(0.5, rel=1e-14)


def test_an_axis_that_repeats_the_file_changes_no_bit() -> None:
    given = {"covariance": [[5, 0.3], [0.3, 1.7]]}
    (plain,) = conditions({}, truth__random={"g": given})
    (same,) = conditions({"truth.random.g.variance.x": [1.7]}, truth__random={"g": given})
    assert same == plain


def test_sd_axes() -> None:
    sds = {"sd": {"Intercept": 1, "x": 2}, "correlation": {"Intercept:x": 0.5}}
    assert covariance(conditions({"truth.random.g.sd.x": [3]}, truth__random={"g": sds})[0])[1] == 9
    (condition,) = conditions({"truth.residual_sd": [3]}, truth__residual_variance=None)
    assert condition.truth.residual_variance == 9


def test_covariance_axis() -> None:
    matrices = [[[1, 0], [0, 1]], [[2, -1], [-1, 2]]]
    found = conditions({"truth.random.g.covariance": matrices}, truth__random=None)
    assert [condition.truth.covariance for condition in found] == [((1, 0), (0, 1)), ((2, -1), (-1, 2))]
    assert found[1].factors == {"truth.random.g.covariance": "[[2.0, -1.0], [-1.0, 2.0]]"}


def test_axes_may_give_what_the_file_leaves_out() -> None:
    grid = {
        "clusters": [4],
        "cluster_size": [5],
        "truth.fixed.x": [1],
        "truth.residual_variance": [1],
        "icc": [0.2],
        "truth.random.g.variance.x": [1],
        "predictors.x.level": [1],
        "predictors.x.distribution": ["normal"],
    }
    changes: dict[str, Any] = {
        "design": {},
        "truth__fixed": {"Intercept": 0},
        "truth__residual_variance": None,
        "truth__random": {},
        "predictors": {"x": {}},
    }
    (condition,) = conditions(grid, **changes)
    assert condition.truth.covariance == ((0.25, 0.0), (0.0, 1.0))


def test_predictors_vary() -> None:
    grid = {"predictors.x.distribution": ["normal", "balanced"]}
    normal, balanced = conditions(grid)
    assert normal.predictor("x").redraw
    assert (balanced.predictor("x").distribution, balanced.predictor("x").redraw) == ("balanced", False)
    levels = conditions(
        {"predictors.x.level": [1, 2]},
        truth__formula="y ~ x + (1 | g)",
        truth__random={"g": {"variance": {"Intercept": 1}}},
    )
    assert [condition.predictor("x").level for condition in levels] == [1, 2]


AXES: dict[str, list[Any]] = {
    "clusters": [5, 2000],
    "cluster_size": [6, [2, 3, 4, 5, 6, 7, 8, 9]],
    "design.clusters": [5, 6],
    "design.cluster_size": [6, 7],
    "icc": [0.1, 0.0],
    "variance_ratio": [0.1, 0.0],
    "slope_variance_ratio": [0.1, 0.0],
    "slope_correlation": [0.1, -1],
    "truth.fixed.x": [0, -0.5],
    "truth.fixed.Intercept": [3, 4],
    "truth.residual_variance": [1, 7],
    "truth.random.g.variance.Intercept": [2, 0],
    "truth.random.g.variance.x": [2, 0],
    "truth.random.g.correlation.Intercept:x": [0.1, 0.2],
    "truth.random.g.correlation.x:Intercept": [0.1, 0.2],
    "predictors.x.distribution": ["normal", "balanced"],
    "predictors.x.mean": [1, 2],
    "predictors.x.sd": [2, 3],
    "predictors.x.redraw": [False],
}


@pytest.mark.parametrize("axis", AXES)
def test_axis_sets_its_paths_and_nothing_else(axis: str) -> None:
    """The store tells a changed study from a changed axis by these paths."""
    paths = axis_paths(axis, parse_formula("y ~ x + (1 + x | g)"))
    before = flatten(describe(conditions({})[0]))
    changed = set()
    for condition in conditions({axis: AXES[axis]}):
        after = flatten(describe(condition))
        changed |= {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed - set(DERIVED_PATHS)
    assert changed <= {*paths, *DERIVED_PATHS}
    if not axis.endswith(("distribution", "cluster_size")):
        assert set(paths) <= set(before)


def test_axis_paths_of_sd_and_covariance() -> None:
    formula = parse_formula("y ~ x + (1 + x | g)")
    assert axis_paths("truth.random.g.sd.x", formula) == ("truth.random.g.variance.x",)
    assert axis_paths("truth.residual_sd", formula) == ("truth.residual_variance",)
    assert axis_paths("truth.random.g.covariance", formula) == (
        "truth.random.g.variance.Intercept",
        "truth.random.g.variance.x",
        "truth.random.g.correlation.Intercept:x",
    )


@pytest.mark.parametrize(
    "axis", ["", "iccc", "truth", "truth.formula", "truth.fixed.q", "truth.random.h.variance.x", "seed", "method.a.df"]
)
def test_axis_paths_of_nothing(axis: str) -> None:
    assert axis_paths(axis, parse_formula("y ~ x + (1 + x | g)")) == ()


def test_short_names_that_do_not_fit_name_nothing() -> None:
    apart = parse_formula("y ~ x + (1 | g) + (0 + x | g)")
    assert [name for name in SHORT_NAMES if not axis_paths(name, apart)] == ["slope_correlation"]
    slope = parse_formula("y ~ x + (0 + x | g)")
    assert [name for name in SHORT_NAMES if axis_paths(name, slope)] == ["clusters", "cluster_size"]


@given(
    st.floats(0, 0.999),
    st.floats(0, 1e6),
    st.floats(-1, 1),
    st.floats(1e-6, 1e6),
)
def test_short_names_against_their_definitions(icc: float, ratio: float, correlation: float, residual: float) -> None:
    grid = {
        "icc": [icc],
        "slope_variance_ratio": [ratio],
        "slope_correlation": [correlation],
        "truth.residual_variance": [residual],
    }
    condition = conditions(grid)[0]
    (tau, cov), (_, slope) = condition.truth.covariance
    assert tau / (tau + residual) == pytest.approx(icc, rel=1e-9, abs=1e-300)
    assert slope == pytest.approx(ratio * tau, rel=1e-12)
    assert cov == pytest.approx(correlation * math.sqrt(tau) * math.sqrt(slope), rel=1e-12)
    described = flatten(describe(condition))["truth.random.g.correlation.Intercept:x"]
    if tau > 1e-100 and slope > 1e-100:
        assert described == pytest.approx(correlation, rel=1e-12, abs=1e-15)
    assert not math.copysign(1, cov) < 0 or cov < 0
