"""`nestlab solve` on odd questions: what it refuses, and answers that have closed forms or can be told by hand."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from scipy.optimize import brentq

from nestlab.search import solve as solving
from nestlab.search.crossing import Tried, cross
from nestlab.search.designs import Bench
from nestlab.search.one_axis import Axis, Goal, LineSearch
from nestlab.search.question import Question, SearchTarget, Trial
from nestlab.search.solve import Solved
from nestlab.show.answer import sentence, title_of
from nestlab.show.api import Results, Study
from nestlab.show.plots import as_svg
from nestlab.show.plots.compose import render
from nestlab.show.plots.solution import picture
from nestlab.show.summary import overview
from nestlab.show.tables import make_table
from nestlab.spec.problems import StudyError
from nestlab.spec.study import StudyFile

ARMS: dict[str, Any] = {
    "name": "arms", "seed": 1, "replications": 100, "design": {"clusters": 20, "cluster_size": 20},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0.5}, "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
}  # fmt: skip
SLOPES: dict[str, Any] = {
    "name": "slopes", "seed": 2, "replications": 100, "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ 1 + x * z + (1 + x | school)", "fixed": {"Intercept": 0, "x": 0.3, "z": 0.3, "x:z": 0.3},
        "residual_variance": 1, "random": {"school": {"variance": {"Intercept": 0.2, "x": 0.1}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}, "z": {"level": 2, "distribution": "normal"}},
}  # fmt: skip

Solve = Callable[..., Solved]


@pytest.fixture
def solved(tmp_path: Path) -> Solve:
    def ask(tables: dict[str, Any], **asked: Any) -> Solved:
        return Study.from_dict(tables).solve(jobs=1, out=tmp_path / "designs", **({"precision": 0.1} | asked))

    return ask


def refusal(solved: Solve, tables: dict[str, Any], **asked: Any) -> str:
    with pytest.raises(StudyError) as caught:
        solved(tables, **asked)
    return str(caught.value)


def power(J: int, n: int, effect: float, tau2: float) -> float:
    """Of the t test of a balanced two-arm trial, at 5 %."""
    df, shift = J - 2, effect / math.sqrt(4 * (1 + n * tau2) / (J * n))
    limit = stats.t.ppf(0.975, df)
    return float(stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift))


# -- cost ------------------------------------------------------------------------------------------------------------------


def test_a_cost_is_that_of_the_grids_own_point(solved: Solve) -> None:
    found = solved(
        ARMS | {"grid": {"cluster_size": [5, 40]}},
        over="clusters",
        power=0.8,
        cost="clusters * cluster_size",
        budget=700,
    )
    small, large = found.solutions
    assert small.reached
    assert small.cost == 5 * small.values["clusters"] <= 700
    assert not large.reached  # 32 clusters of 40 would be needed
    assert large.values["clusters"] == 16
    assert large.cost == 640


def test_of_equally_cheap_designs_the_best_is_chosen_and_lies_in_its_intervals(solved: Solve) -> None:
    found = solved(ARMS, over=["clusters", "cluster_size"], power=0.8, cost="clusters", precision=0.02).solutions[0]
    exact = next(J for J in range(4, 100, 2) if power(J, 1000, 0.5, 0.2) >= 0.8)
    assert abs(found.values["clusters"] - exact) <= 2
    for name, at in {**found.values, "cost": found.cost}.items():
        low, high = found.intervals[name]
        assert at is not None
        assert low <= at <= high


def test_two_axes_leave_out_designs_that_the_study_refuses(solved: Solve) -> None:
    found = solved(
        ARMS, over=["clusters", "cluster_size"], power=0.8, cost="clusters * cluster_size", between=[(0, 6), (0, 3)]
    )
    assert not found.solutions[0].reached
    assert all(trial.values["cluster_size"] >= 2 for trial in found.solutions[0].tried)


@pytest.mark.parametrize("over", [["clusters"], ["clusters", "cluster_size"]])
def test_no_design_has_more_replications_than_the_most(solved: Solve, over: list[str]) -> None:
    found = solved(
        ARMS | {"grid": {"truth.fixed.arm": [0.5, 0.1]}}, over=over, power=0.8, cost="clusters + cluster_size",
        max_replications=700, precision=0.02, between=[(4, 200), (2, 40)][: len(over)],
    )  # fmt: skip
    assert max(trial.n + trial.missing for s in found.solutions for trial in s.tried) == 700


# -- estimands and methods -------------------------------------------------------------------------------------------------


def test_an_interaction_may_be_spelled_either_way(solved: Solve) -> None:
    found = solved(SLOPES, over="truth.fixed.z:x", estimand="z:x", power=0.8)
    assert found.question.over == ("truth.fixed.x:z",)
    assert found.question.target.estimands == ("x:z",)
    assert 0.3 < found.solutions[0].values["truth.fixed.x:z"] < 0.4


def test_an_estimand_named_twice_counts_once(solved: Solve) -> None:
    found = solved(SLOPES, over="clusters", estimand=["x:z", "z:x", "x"], joint_power=0.5)
    assert found.question.target.estimands == ("x:z", "x")


def test_a_likelihood_ratio_test_is_the_estimand_of_its_method(solved: Solve) -> None:
    method = {"name": "lrt", "reml": False, "compare": "y ~ 1 + z + (1 + x | school)"}
    found = solved(SLOPES | {"method": [method]}, over="clusters", power=0.8)
    assert found.question.target.estimands == ("x, x:z",)
    assert found.solutions[0].reached


def test_joint_power_needs_tests(solved: Solve) -> None:
    truth = ARMS["truth"] | {"formula": "y ~ 1 + (1 | school)", "fixed": {"Intercept": 0}}
    only = {k: v for k, v in ARMS.items() if k != "predictors"} | {"truth": truth}
    assert "--estimand: is missing; add one of Intercept" in refusal(solved, only, over="effect", joint_power=0.8)
    text = refusal(solved, SLOPES, over="clusters", joint_power=0.8, estimand=["x", "var:school:x"])
    assert text == "--estimand var:school:x: method reml has no test of it; remove it, or use another --method"


# -- axes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2.5, 0.5, math.inf])
def test_whole_numbers_have_whole_steps(solved: Solve, step: float) -> None:
    text = refusal(solved, ARMS, over="clusters", power=0.8, step=step)
    assert text == f"--step {step}: must be a number > 0, a whole one; write 2, say"


def test_ends_without_a_multiple_between_them_are_refused(solved: Solve) -> None:
    text = refusal(solved, ARMS, over="clusters", power=0.8, between=(7, 7.5))
    assert text == "--between 7 7.5: no value of clusters between is a multiple of 2; widen it, or change --step"


def test_too_few_replications_are_refused(solved: Solve) -> None:
    text = refusal(solved, ARMS, over="clusters", power=0.8, max_replications=100)
    assert text == "--max-replications 100: must be at least 500; raise it"


@pytest.mark.parametrize(("between", "target"), [((0.1, 0.1234567), 0.99), ((0.1034567, 0.2), 0.01)])
def test_ends_of_many_digits_are_reached(solved: Solve, between: tuple[float, float], target: float) -> None:
    found = solved(ARMS, over="effect", power=target, between=between).solutions[0]
    assert found.values["truth.fixed.arm"] == between[1 if target == 0.99 else 0]
    assert found.reached == (target == 0.01)


def test_where_all_designs_reach_the_target_the_smallest_is_the_answer() -> None:
    def told(n_small: float, n_large: float) -> LineSearch:
        search = LineSearch(Axis(4, 6, 1, 4, "sqrt"), Goal(0.06, "above", "proportion"))
        search.tell([Tried(4.0, n_small, 0.015, 500), Tried(6.0, n_large, 0.015, 500)])
        return search

    for values in ((0.12, 0.14), (0.14, 0.12)):  # noise tells no direction
        assert (told(*values).answer().x, told(*values).answer().smallest) == (4, True)


def test_relative_bias_is_solved_where_it_falls_steeply(solved: Solve) -> None:
    """The REML estimate of a variance, 20 clusters of 20 in two arms: its bias at the boundary, in closed form."""
    found = solved(ARMS, over="icc", relbias=5, estimand="var:school:Intercept", max_replications=40_000).solutions[0]
    n, a, b = 20, 18, 380

    def relbias(icc: float) -> float:
        tau2 = icc / (1 - icc)
        lam = 1 + n * tau2
        r = 1 / lam
        mean = lam * stats.f.sf(r * a / (a + 2), a + 2, b) - stats.f.sf(r * (b + 2) / b, a, b + 2)
        return 100 * (float(mean) / n / tau2 - 1)

    exact = brentq(lambda icc: relbias(icc) - 5, 0.01, 0.2)
    low, high = found.intervals["icc"]
    assert low <= exact <= high < 0.05


def test_a_doubtful_answer_has_its_bracket_for_an_interval() -> None:
    search = LineSearch(Axis(0, 1, 0, 0.5, "linear"), Goal(5, "below", "real", absolute=True, most=500))
    search.tell([Tried(0.1, 30.0, 0.5, 500), Tried(0.5, 0.1, 0.5, 500), Tried(0.6, 0.2, 0.5, 500)])
    answer = search.answer()
    if answer.crossing is None:
        assert (answer.lower, answer.x, answer.upper, answer.sure) == (0.1, 0.5, 0.5, False)
    assert answer.lower < answer.upper
    assert search.propose()  # somewhere between


def test_a_design_without_a_value_ends_the_search_with_a_repair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    question = Question(SearchTarget("power", 0.8, ("arm",), "reml"), ("clusters",), (None,))

    def nothing(self: Bench, wanted: Any) -> Any:
        return {key: Trial({"clusters": key[1][0]}, math.nan, math.nan, 0, 500, 0) for key in wanted}

    monkeypatch.setattr(Bench, "simulate", nothing)
    with pytest.raises(StudyError) as caught:
        solving.solve(StudyFile.from_dict(ARMS), question, tmp_path)
    assert str(caught.value) == (
        "--between: at clusters = 8 no replicate of 500 tells power of arm by reml; search elsewhere, or by another --method"
    )


def test_results_of_a_search_say_what_each_design_had_until_they_are_run_otherwise(solved: Solve) -> None:
    found = solved(ARMS, over="clusters", power=0.8, precision=0.02)
    counts = [trial.n for trial in found.solutions[0].tried]
    results = Results(found.folder)
    ends = f"{min(counts):,} to {max(counts):,}"
    assert min(counts) < max(counts)
    assert results.asked == (min(counts), max(counts))
    assert f"({ends} asked for)" in make_table(results).caption
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(overview(results, 100))
    assert f"arms: {ends} replications a condition" in console.export_text()
    assert results.manifest["solve"]["solution"] == found.solutions[0].values["clusters"]
    later = Study.from_toml(found.folder / "study.toml").run(out=found.folder)
    assert later.asked == (max(counts), max(counts))
    assert not {"solve", "replications_reason"} & set(later.manifest)


def test_points_of_the_grid_are_named_as_the_file_has_them(solved: Solve) -> None:
    prior = {"distribution": "normal", "mean": 0.9, "sd": 0.1}
    axes = {"truth.fixed.arm": [prior], "cluster_size": [[5, 10, 15, 20]]}
    design = {"clusters": 4, "cluster_size": 5}
    found = solved(ARMS | {"design": design, "grid": axes}, over="icc", power=0.2, max_replications=500)
    assert sentence(found.question, found.solutions[0]).startswith(
        "With truth.fixed.arm = normal(mean 0.9, sd 0.1), cluster_size = [5, 10, 15, 20]: 20 % power to detect arm is reached up "
    )


def test_a_title_keeps_the_names_of_the_study(solved: Solve) -> None:
    method = {"name": "REML"}
    found = solved(ARMS | {"method": [method]}, over="clusters", bias=0.05, estimand="var:school:Intercept")
    drawn = as_svg(render(picture(found)))
    assert title_of(found) == "|bias| of var:school:Intercept, REML"
    assert "var:school:Intercept" in drawn


def test_ends_of_one_axis_may_be_a_plain_pair(solved: Solve) -> None:
    found = solved(ARMS, over="clusters", power=0.8, between=(10, 14))
    assert sentence(found.question, found.solutions[0]).startswith(
        "80 % power to detect arm is not reached between 10 and 14 clusters; the best is 14 clusters"
    )


def test_a_design_far_beyond_the_target_does_not_pull_the_curve_back() -> None:
    """Power falls along a variance, ever more slowly: a parabola through designs near the target turns before the last one."""
    exact = brentq(lambda tau2: power(20, 20, 0.9, tau2) - 0.8, 0.2, 0.6)
    designs = {0.28: 8_000, 0.303: 200_000, 0.411: 200_000, 0.5: 500, 0.542: 200_000, 1.0: 500}
    values = {tau2: power(20, 20, 0.9, tau2) for tau2 in designs}
    tried = [Tried(x, values[x], math.sqrt(values[x] * (1 - values[x]) / n), n) for x, n in designs.items()]
    found = cross(tried, 0.8, kind="proportion", scale="linear")
    assert found is not None
    assert found.x == pytest.approx(exact, abs=0.001)
    assert found.lower < exact < found.upper < found.lower + 0.005


def test_numbers_of_data_as_they_are_can_be_searched(solved: Solve) -> None:
    """The most uneven sizes, and the most that may be missing, that leave a power."""
    sizes = {"distribution": "negative-binomial", "mean": 20, "cv": 0.5, "minimum": 2}
    tables = ARMS | {"design": {"clusters": 30, "cluster_size": sizes}, "missing": {"clusters": 0.1}}
    for axis in ("design.cluster_size.cv", "missing.clusters"):
        (solution,) = solved(tables, over=axis, power=0.5, estimand="arm", between=(0.3, 0.9)).solutions
        assert axis in solution.values
        assert all(0.3 <= trial.values[axis] <= 0.9 for trial in solution.tried)


def test_the_rarest_treatment_that_leaves_a_power(solved: Solve) -> None:
    """The exact t test of 60 equal clusters, given how many are treated, averaged over the binomial."""
    arm = {"level": 2, "distribution": "binary", "share": 0.3}
    (solution,) = solved(
        ARMS | {"design": {"clusters": 60, "cluster_size": 20}, "predictors": {"arm": arm}},
        over="predictors.arm.share", power=0.7, estimand="arm", between=(0.05, 0.45), precision=0.3,
    ).solutions  # fmt: skip

    def power(share: float) -> float:
        treated = np.arange(2, 59)
        weights = stats.binom.pmf(treated, 60, share)
        away = 0.5 / np.sqrt((0.2 + 1 / 20) * (1 / treated + 1 / (60 - treated)))
        t = stats.t.isf(0.025, 58)
        return float(weights @ (stats.nct.sf(t, 58, away) + stats.nct.cdf(-t, 58, away)))

    low, high = solution.intervals["predictors.arm.share"]
    assert low - 0.02 < brentq(lambda share: power(share) - 0.7, 0.05, 0.45) < high + 0.02


@pytest.mark.parametrize("axis", ["truth.errors.distribution", "predictors.arm.level", "design.cluster_size.redraw"])
def test_an_axis_that_is_no_number_is_refused(solved: Solve, axis: str) -> None:
    text = refusal(solved, ARMS, over=axis, power=0.5, estimand="arm", between=(0, 1))
    assert text.startswith(f"--over {axis}: names nothing that can vary"), text


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"arms": [5, 20]},
            "sizes by arm; search the mean of one that is a distribution, such as design.cluster_size.arms.2.mean",
        ),
        ({"arms": [5, {"distribution": "poisson", "mean": 20}]}, "sizes by arm; search the mean of one"),
        ({"values": [3, 8, 25]}, 'sizes from data; write { distribution = "negative-binomial", mean = ..., cv = ... }'),
    ],
)
def test_sizes_that_no_number_stands_for_are_not_replaced_by_equal_ones(
    solved: Solve, sizes: dict[str, Any], message: str
) -> None:
    arm = {"level": 2, "distribution": "arms", "clusters": [10, 10]}
    tables = ARMS | {"design": {"clusters": 20, "cluster_size": sizes}, "predictors": {"arm": arm}}
    text = refusal(solved, tables, over="cluster_size", power=0.5, estimand="arm")
    assert text.startswith(
        "--over cluster_size: needs one size, or a distribution with a mean, and the study has " + message
    )


def test_the_size_of_one_arm_can_be_searched(solved: Solve) -> None:
    """The other arm keeps its own."""
    arm = {"level": 2, "distribution": "arms", "clusters": [10, 10]}
    tables = ARMS | {"design": {"clusters": 20, "cluster_size": {"arms": [5, 20]}}, "predictors": {"arm": arm}}
    axis = "design.cluster_size.arms.2.mean"
    tables["design"]["cluster_size"]["arms"][1] = {"distribution": "poisson", "mean": 20}
    (solution,) = solved(tables, over=axis, power=0.45, estimand="arm", between=(2, 60), precision=0.3).solutions
    assert 2 <= solution.values[axis] <= 60
