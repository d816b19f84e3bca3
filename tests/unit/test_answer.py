"""Sentences of a search: every target, axis and outcome, and that no sentence contradicts its own numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nestlab.search.question import Question, SearchTarget, Trial
from nestlab.search.solve import Solution
from nestlab.show.answer import sentence
from nestlab.spec.cost import parse_cost

COST = parse_cost("300*clusters + 20*clusters*cluster_size")


def said(
    values: dict[str, float], target: SearchTarget, value: float, mcse: float = 0.004, *,
    intervals: Any = None, reached: bool = True, sure: bool = True, smallest: bool = True, simulated: bool = True,
    missing: int = 0, cost: float | None = None, factors: Any = None, **question: Any,
) -> str:  # fmt: skip
    trial = Trial(values, value, mcse, 10_000, missing, 0)
    asked = Question(target, tuple(values), (None,) * len(values), **question)
    tried = (trial, Trial(values, value, mcse, 500, 0, 1))
    found = Solution(
        factors or {}, values, intervals or {}, reached, sure, smallest, trial if simulated else None, tried, cost
    )
    return sentence(asked, found)


POWER = SearchTarget("power", 0.8, ("arm",), "reml")
THERE = "Simulated there: power 0.834 (0.004), n = 10,000."


def test_clusters() -> None:
    text = said({"clusters": 30}, POWER, 0.834, intervals={"clusters": (28, 30)})
    assert text == f"30 clusters are needed for 80 % power to detect arm (95 % interval 28 to 30). {THERE}"


def test_a_simulation_on_the_other_side_of_the_target_is_told_apart_from_the_curve() -> None:
    text = said({"clusters": 50}, POWER, 0.799, 0.0004, intervals={"clusters": (48, 50)})
    assert text == (
        "50 clusters are needed for 80 % power to detect arm (95 % interval 48 to 50). There the curve through the 2 designs "
        "tried reaches the target; the simulation of this one alone has power 0.7990 (0.0004), n = 10,000, 2.5 MCSEs short of it."
    )
    text = said({"clusters": 50}, POWER, 0.81, reached=False)
    assert text == (
        "80 % power to detect arm is not reached; the best is 50 clusters. There the curve through the 2 designs tried does not "
        "reach the target; the simulation of this one alone has power 0.810 (0.004), n = 10,000, 2.5 MCSEs beyond it."
    )


def test_what_prints_as_the_target_is_not_short_of_it() -> None:
    assert said({"clusters": 50}, POWER, 0.7997).endswith("Simulated there: power 0.800 (0.004), n = 10,000.")


NEEDED = "30 clusters are needed for"


@pytest.mark.parametrize(
    ("target", "value", "goal", "simulated"),
    [
        (
            SearchTarget("joint power", 0.8, ("arm", "x"), "reml"), 0.81,
            "80 % power to detect arm and x together (joint power)", "joint power 0.810 (0.004)",
        ),
        (
            SearchTarget("width", 0.4, ("arm",), "reml"), 0.39,
            "a mean width of the interval of arm of at most 0.4", "width of the interval 0.390 (0.004)",
        ),
        (
            SearchTarget("cover", 0.94, ("arm",), "reml"), 0.945,
            "a coverage of arm of at least 94 %", "coverage 0.945 (0.004)",
        ),
        (SearchTarget("bias", 0.02, ("icc",), "reml"), -0.012, "a |bias| of icc of at most 0.02", "bias -0.012 (0.004)"),
        (
            SearchTarget("relbias", 5, ("icc",), "reml"), -4.9,
            "a |relative bias| of icc of at most 5 %", "relative bias -4.900 (0.004) %",
        ),
    ],
)  # fmt: skip
def test_targets(target: SearchTarget, value: float, goal: str, simulated: str) -> None:
    text = said({"clusters": 30}, target, value, intervals={"clusters": (28, 30)})
    assert text == f"{NEEDED} {goal} (95 % interval 28 to 30). Simulated there: {simulated}, n = 10,000."
    short = said({"clusters": 30}, target, target.value + (-0.1 if target.side == "above" else 0.1))
    assert "alone has" in short
    assert "short of it" in short


GOAL, ENDS = "80 % power to detect arm", "(95 % interval 0.1 to 0.2)."
LEAST = "The smallest effect of arm ({}) that is detected with 80 % power is {} {}"


@pytest.mark.parametrize(
    ("axis", "value", "smallest", "begins"),
    [
        ("cluster_size", 12, True, f"A cluster size of 12 is needed for {GOAL} {ENDS}"),
        ("truth.fixed.arm", 0.31, True, LEAST.format("coefficient", 0.31, ENDS)),
        ("truth.fixed.arm", -0.31, False, LEAST.format("coefficient", -0.31, ENDS)),
        ("truth.fixed.arm.d", 0.31, True, LEAST.format("d", 0.31, ENDS)),
        ("icc", 0.12, False, f"{GOAL} is reached up to icc = 0.12 {ENDS}"),
        ("icc", 0.12, True, f"{GOAL} needs icc = 0.12 or more {ENDS}"),
        ("truth.fixed.x", 0.12, True, f"{GOAL} needs truth.fixed.x = 0.12 or more {ENDS}"),
        ("clusters", 30, False, f"{GOAL} is reached up to 30 clusters {ENDS}"),
    ],
)
def test_axes(axis: str, value: float, smallest: bool, begins: str) -> None:
    assert said({axis: value}, POWER, 0.834, smallest=smallest, intervals={axis: (0.1, 0.2)}) == f"{begins} {THERE}"


def test_two_axes_and_budgets() -> None:
    design, ends = (
        {"clusters": 40, "cluster_size": 11},
        {"clusters": (40, 42), "cluster_size": (10, 13), "cost": (20_520, 21_280)},
    )
    assert said(design, POWER, 0.834, intervals=ends, cost=20_800.0) == (
        "The cheapest design for 80 % power to detect arm is 40 clusters (95 % interval 40 to 42) with cluster size 11 (95 % "
        f"interval 10 to 13), at a cost of 20,800 (95 % interval 20,520 to 21,280). {THERE}"
    )
    assert said(design, POWER, 0.834, cost=20_800.0, budget=20_000.0, reached=False).startswith(
        "80 % power to detect arm costs more than 20,000; the cheapest design is 40 clusters with cluster size 11, at a cost of "
    )
    assert said(design, POWER, 0.6, cost=19_800.0, budget=20_000.0, maximise=True) == (
        "Within a budget of 20,000 the highest power of arm is that of 40 clusters with cluster size 11, at a cost of 19,800. "
        "Simulated there: power 0.600 (0.004), n = 10,000."
    )
    assert said({"clusters": 14}, POWER, 0.6, cost=4_000.0, budget=5_000.0, reached=False).startswith(
        "80 % power to detect arm is not reached within a budget of 5,000; the best is 14 clusters, at a cost of 4,000."
    )


def test_grids_missing_replicates_and_what_is_not_sure() -> None:
    text = said({"clusters": 30}, POWER, 0.834, factors={"icc": 0.1}, missing=3, sure=False)
    assert text == (
        "With icc = 0.1: 30 clusters are needed for 80 % power to detect arm. Simulated there: power 0.834 (0.004), n = 10,000 "
        "(3 replicates did not converge or are without a result). The interval is wider than was asked for (--max-replications)."
    )
    assert said({"clusters": 30}, POWER, 0.6, reached=False, sure=False).endswith(
        "More replications may change this (--max-replications)."
    )
    assert said({"clusters": 30}, POWER, 0.834, simulated=False).endswith(
        "That is by the curve through the 2 designs tried; this one was not simulated."
    )


@pytest.mark.parametrize("value", [0.6, 0.79, 0.7951, 0.7999, 0.8, 0.8049, 0.81, 1.0])
@pytest.mark.parametrize("mcse", [0.0004, 0.004, 0.02])
def test_no_sentence_contradicts_its_number(value: float, mcse: float) -> None:
    text = said({"clusters": 30}, POWER, value, mcse)
    printed = float(re.search(r"power (\d\.\d+) \(", text)[1])  # type: ignore[index]
    assert (printed < 0.8) == ("alone has" in text) or abs(printed - 0.8) < 1e-12
