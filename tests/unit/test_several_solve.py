"""Searches over the numbers of studies with several grouping factors: what may be asked, and what is found.

Designs are not simulated: a normal approximation of the power, with binomial noise, stands for `Bench.simulate`.
"""

from __future__ import annotations

import copy
import json
import math
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy

import nestlab as nl
from nestlab.search.designs import Bench
from nestlab.search.question import Trial, Values
from nestlab.show.answer import read_solved, sentence
from nestlab.show.plots.solution import picture
from nestlab.show.solve_command import Options, question_of
from nestlab.spec.model import Structure
from nestlab.spec.problems import StudyError
from nestlab.spec.several import rows_of

SCHOOLS: dict[str, Any] = {
    "name": "schools",
    "seed": 4,
    "replications": 10,
    "design": {"rows": 5, "factors": {"school": 12, "class": {"within": "school", "number": 2}}},
    "truth": {
        "formula": "y ~ treat + (1 | school/class)",
        "fixed": {"Intercept": 0, "treat": 0.7},
        "residual_variance": 0.7,
        "random": {"school": {"variance": {"Intercept": 0.2}}, "class": {"variance": {"Intercept": 0.1}}},
    },
    "predictors": {"treat": {"level": "school", "distribution": "balanced"}},
}
WORDS: dict[str, Any] = {
    "name": "words",
    "seed": 4,
    "replications": 10,
    "design": {"rows": 2, "factors": {"subject": 16, "item": 8}},
    "truth": {
        "formula": "y ~ cond + (1 + cond || subject) + (1 + cond || item)",
        "fixed": {"Intercept": 0, "cond": 0.5},
        "residual_variance": 1.0,
        "random": {
            "subject": {"variance": {"Intercept": 0.4, "cond": 0.2}},
            "item": {"variance": {"Intercept": 0.4, "cond": 0.2}},
        },
    },
    "predictors": {"cond": {"level": 1, "distribution": "list", "values": [-0.5, 0.5]}},
}


def changed(tables: dict[str, Any], **new: Any) -> dict[str, Any]:
    made = copy.deepcopy(tables)
    for path, value in new.items():
        here = made
        *above, last = path.split("__")
        for word in above:
            here = here.setdefault(word, {})
        here[last] = value
    return made


def counts_of(structure: Structure) -> dict[str, int]:
    return {name: structure.grouping(name).levels for name in structure.names} | {"rows": rows_of(structure)}


def power_of(counts: Mapping[str, int]) -> float:
    """The z test's power of a design of the two studies, by what it has in all."""
    if "school" in counts:
        variance, effect = 4 * (0.2 / counts["school"] + 0.1 / counts["class"] + 0.7 / counts["rows"]), 0.7
    else:
        variance, effect = 0.2 / counts["subject"] + 0.2 / counts["item"] + 4 / counts["rows"], 0.5
    return float(scipy.special.ndtr(effect / math.sqrt(variance) - 1.96))


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(bench: Bench, wanted: Mapping[tuple[int, Values], int]) -> dict[tuple[int, Values], Trial]:
        trials = {}
        for (k, values), n in wanted.items():
            bench.asked[k, values] = max(n, bench.asked.get((k, values), 0))
            structure = bench.design(k, values).structure
            assert structure is not None
            draws = np.random.default_rng([zlib.crc32(repr((k, values)).encode()), n]).binomial(
                n, power_of(counts_of(structure))
            )
            p = draws / n
            made = dict(zip(bench.over, values, strict=True))
            trials[k, values] = Trial(made, p, math.sqrt(p * (1 - p) / n), n, 0, len(bench.found))
        bench.found |= trials
        return trials

    monkeypatch.setattr(Bench, "simulate", simulate)


def solved(tables: dict[str, Any], folder: Path, **asked: Any) -> Any:
    return nl.Study.from_dict(tables).solve(power=0.8, out=folder, jobs=1, **asked)


@pytest.mark.parametrize(
    ("tables", "over", "axis", "low"),
    [
        (SCHOOLS, "clusters.school", "clusters.school", 2),
        (SCHOOLS, "school", "clusters.school", 2),
        (SCHOOLS, "design.factors.school", "clusters.school", 2),
        (changed(SCHOOLS, truth__fixed__treat=0.7, design__factors__school=20), "class", "clusters.class", 2),
        (changed(SCHOOLS, design__factors__school=20), "size.school", "clusters.class", 2),
        (changed(SCHOOLS, design__factors__school=20), "size.class", "rows", 2),
        (WORDS, "clusters.subject", "clusters.subject", 2),
        (WORDS, "item", "clusters.item", 2),
    ],
)
def test_any_number(tables: dict[str, Any], over: str, axis: str, low: int, tmp_path: Path) -> None:
    """The smallest number that reaches the target by enumeration, within a step."""
    found = solved(tables, tmp_path / "s", over=over)
    (solution,) = found.solutions
    assert list(solution.values) == [axis]

    def power(number: int) -> float:
        return power_of(other(tables, {axis: number}))

    step = 2 if axis == "clusters.school" else 1
    needed = next((n for n in range(max(low, step), 400, step) if power(n) >= 0.8), None)
    if needed is None:
        assert not solution.reached
    else:
        assert solution.reached
        assert abs(solution.values[axis] - needed) <= max(step, 0.03 * needed)
    tried = [trial.values[axis] for trial in solution.tried]
    assert all(x % step == 0 for x in tried)


def test_a_number_of_items_that_no_number_makes_enough(tmp_path: Path) -> None:
    """With few subjects, items alone can't do it: 0.2 / 4 is too much."""
    tables = changed(WORDS, design__factors__subject=4)
    (solution,) = solved(tables, tmp_path / "s", over="item", between=(2, 200)).solutions
    assert not solution.reached


@pytest.mark.parametrize(
    ("tables", "over", "cost", "best"),
    [
        (SCHOOLS, "school,class", "300*school + 60*class + 5*rows", ("clusters.school", "clusters.class")),
        (SCHOOLS, "rows,school", "300*school + 60*class + 5*rows", ("clusters.school", "rows")),
        (WORDS, "subject,item", "20*subject + 30*item + 0.1*rows", ("clusters.subject", "clusters.item")),
    ],
)
def test_two_numbers_at_the_least_cost(
    tables: dict[str, Any], over: str, cost: str, best: tuple[str, str], tmp_path: Path
) -> None:
    """The cost is within 5 % of the cheapest of all designs, and the design reaches the target."""
    found = solved(tables, tmp_path / "s", over=over.split(","), cost=cost)
    (solution,) = found.solutions
    assert tuple(solution.values) == best

    def price(counts: Mapping[str, int]) -> float:
        return sum(float(each) * counts[name] for each, name in (term.split("*") for term in cost.split(" + ")))

    step = 2 if best[0] == "clusters.school" else 1
    cheapest = math.inf
    for first, second in product(range(4, 120, step), range(2, 60)):
        counts = other(tables, dict(zip(best, (first, second), strict=True)))
        if power_of(counts) >= 0.8:
            cheapest = min(cheapest, price(counts))
    assert solution.reached
    assert solution.cost == pytest.approx(cheapest, rel=0.05)
    assert solution.condition is not None
    assert solution.condition.structure is not None
    counts = counts_of(solution.condition.structure)
    assert solution.cost == pytest.approx(price(counts))
    assert 0.78 <= power_of(counts) <= 0.84  # whole numbers of classes


def other(tables: dict[str, Any], numbers: dict[str, int]) -> dict[str, int]:
    """What a design of one of the studies with other numbers has in all."""
    factors = tables["design"]["factors"]
    rows = numbers.get("rows", tables["design"]["rows"])
    if "school" in factors:
        school = numbers.get("clusters.school", factors["school"])
        classes = school * numbers.get("clusters.class", factors["class"]["number"])
        return {"school": school, "class": classes, "rows": classes * rows}
    subject, item = (numbers.get(f"clusters.{name}", factors[name]) for name in ("subject", "item"))
    return {"subject": subject, "item": item, "rows": subject * item * rows}


def test_the_best_design_within_a_budget(tmp_path: Path) -> None:
    study = nl.Study.from_dict(WORDS)
    found = study.solve(over=["subject", "item"], cost="20*subject + 30*item", budget=1000, out=tmp_path / "s", jobs=1)
    (solution,) = found.solutions
    assert solution.cost <= 1000
    best = max(
        power_of(other(WORDS, {"clusters.subject": s, "clusters.item": (1000 - 20 * s) // 30})) for s in range(2, 47)
    )
    assert solution.condition is not None
    assert solution.condition.structure is not None
    assert power_of(counts_of(solution.condition.structure)) == pytest.approx(best, abs=0.02)
    said = sentence(found.question, solution)
    assert said.startswith("Within a budget of 1,000 the highest power of cond is that of ")


def test_the_answer_names_the_whole_design(tmp_path: Path) -> None:
    found = solved(SCHOOLS, tmp_path / "s", over="school")
    (solution,) = found.solutions
    said, number = sentence(found.question, solution), solution.values["clusters.school"]
    assert said.startswith(f"{number} schools are needed for 80 % power to detect treat (95 % interval ")
    assert f"({number} schools of 2 classes of 5 rows)" in said
    stored = json.loads((tmp_path / "s" / "solve.json").read_text())
    assert (stored["over"], stored["solution"]) == ("clusters.school", number)
    assert all(trial["clusters.school"] % 2 == 0 for trial in stored["tried"])
    read = read_solved(tmp_path / "s")
    assert read.solutions[0].values == {"clusters.school": number}
    assert picture(read).panels[0].xlabel == "Number of schools"


def test_points_of_other_axes_are_searched_side_by_side(tmp_path: Path) -> None:
    tables = changed(SCHOOLS, grid={"clusters": {"class": [2, 6]}})
    few, many = solved(tables, tmp_path / "s", over="school").solutions
    assert (few.factors, many.factors) == ({"clusters.class": 2}, {"clusters.class": 6})
    assert few.values["clusters.school"] > many.values["clusters.school"]


@pytest.mark.parametrize(
    ("tables", "asked", "line"),
    [
        (
            changed(SCHOOLS, design__factors__class__number=[1, 3] * 6),
            {"over": ["school"]},
            "--over clusters.school: needs one number of class for every school, not a list; write number = 2, say",
        ),
        (
            changed(SCHOOLS, design__rows=[4, 6] * 12),
            {"over": ["school"]},
            "--over clusters.school: needs one number of rows for every cell, not a list; write rows = 5, say",
        ),
        (
            SCHOOLS,
            {"over": ["school", "class"]},
            '--over clusters.school, clusters.class: two axes need a cost; add --cost "300*school + 60*class + 5*rows", say',
        ),
        (
            SCHOOLS,
            {"over": ["school", "effect"], "cost": "300*school"},
            "--over clusters.school, truth.fixed.treat: must be one axis, or two of rows, clusters.school, clusters.class; "
            "remove the others",
        ),
        (
            SCHOOLS,
            {"over": ["school"], "cost": "300*schol"},
            'cost = "300*schol": depends on school, class and rows only, not on schol; did you mean "school"?',
        ),
        (
            SCHOOLS,
            {"over": ["effect"], "cost": "300*school"},
            "--cost 300*school: needs --over rows, --over clusters.school, --over clusters.class or two of them; remove it",
        ),
        (
            SCHOOLS,
            {"over": ["clusters"]},
            '--over clusters: names nothing that can vary; did you mean "clusters.class"?',
        ),
    ],
)
def test_what_is_refused(tables: dict[str, Any], asked: dict[str, Any], line: str) -> None:
    study = nl.Study.from_dict(tables)
    with pytest.raises(StudyError) as caught:
        question_of(study.file, Options(targets={"power": 0.8}, **asked))
    assert list(caught.value.problems) == [line]


def test_icc_of_a_factor(tmp_path: Path) -> None:
    """A search over an icc leaves room for those that are given."""
    tables = changed(SCHOOLS, grid={"icc": {"class": [0.3]}})
    del tables["truth"]["random"]["class"]
    study = nl.Study.from_dict(tables)
    question = question_of(study.file, Options(targets={"power": 0.8}, over=["icc.school"]))
    bench = Bench(study.file, question, tmp_path, 1)
    assert bench.axis("icc.school", None, bench.points[0]).high == pytest.approx(0.65)
