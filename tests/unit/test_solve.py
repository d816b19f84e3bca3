"""`nestlab solve`: the search by itself, against exact curves; then through studies, the command and its files."""

from __future__ import annotations

import copy
import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import nct, t
from typer.testing import CliRunner

import nestlab as nl
from nestlab.search.crossing import Tried
from nestlab.search.one_axis import Axis, Goal, LineSearch
from nestlab.search.two_axes import SurfaceSearch
from nestlab.show.answer import read_solved, title_of
from nestlab.show.cli import app
from nestlab.show.plots import as_svg, draw
from nestlab.show.plots.compose import render
from nestlab.show.plots.solution import picture
from nestlab.spec.cost import parse_cost
from nestlab.spec.problems import StudyError

PLAN: dict[str, Any] = {
    "name": "plan", "seed": 1, "replications": 1000, "design": {"clusters": 20, "cluster_size": 20},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0.4}, "residual_variance": 0.9,
        "random": {"school": {"variance": {"Intercept": 0.1}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml", "df": "between-within"}],
}  # fmt: skip
COST = "300*clusters + 20*clusters*cluster_size"


def exact_power(clusters: float, effect: float = 0.4, icc: float = 0.1, size: float = 20) -> float:
    """Of the two-arm trial with total variance 1, by t with clusters - 2 df, interior fits."""
    ncp = effect / math.sqrt(4 * (1 - icc + size * icc) / (clusters * size))
    critical = t.ppf(0.975, clusters - 2)
    return float(1 - nct.cdf(critical, clusters - 2, ncp) + np.nan_to_num(nct.cdf(-critical, clusters - 2, ncp)))


def exact_clusters(**trial: float) -> int:
    return next(J for J in range(4, 2000, 2) if exact_power(J, **trial) >= 0.8)


def plan(**changes: Any) -> nl.Study:
    tables = copy.deepcopy(PLAN)
    tables.update(changes)
    return nl.Study.from_dict(tables)


class Simulated:
    """Binomial draws from an exact curve, each design's first replicates staying the same when it is extended."""

    def __init__(self, curve: Callable[..., float], seed: int) -> None:
        self.curve, self.seed = curve, seed

    def __call__(self, x: Any, n: int) -> Tried:
        place = x if isinstance(x, tuple) else (x,)
        generator = np.random.default_rng([self.seed, *(int(1000 * v) for v in place)])
        rate = float((generator.random(n) < self.curve(*place)).mean())
        return Tried(float(place[0]), rate, math.sqrt(rate * (1 - rate) / n), n)


def search_line(curve: Callable[..., float], axis: Axis, goal: Goal, seed: int) -> LineSearch:
    search, draw = LineSearch(axis, goal), Simulated(curve, seed)
    for _ in range(40):
        wanted = search.propose()
        if not wanted:
            return search
        search.tell([draw(x, n) for x, n in wanted.items()])
    raise AssertionError(f"the search does not end: {wanted}")


POWER = Goal(0.8, "above", "proportion")


@pytest.mark.parametrize("start", [8, 20, 300])
@pytest.mark.parametrize("effect", [0.3, 0.6, 1.2])
def test_line_clusters_against_theory(effect: float, start: int) -> None:
    exact = exact_clusters(effect=effect)
    for seed in range(5):
        answer = search_line(lambda J: exact_power(J, effect), Axis(4, 2000, 2, start, "sqrt"), POWER, seed).answer()
        assert answer.reached
        assert answer.sure
        assert abs(answer.x - exact) <= 2
        assert answer.lower - 2 <= exact <= answer.upper + 2


def test_line_falling_is_the_largest() -> None:
    search = search_line(lambda icc: exact_power(20, 0.6, icc), Axis(0, 0.9, 0, 0.1, "linear"), POWER, 1)
    answer = search.answer()
    assert not answer.smallest
    assert exact_power(20, 0.6, answer.x) == pytest.approx(0.8, abs=0.02)
    assert answer.lower < answer.x < answer.upper
    assert answer.crossing is not None
    assert answer.lower <= answer.crossing.lower < answer.crossing.upper <= answer.upper, "rounded outwards"


@pytest.mark.parametrize("precision", [1e-4, 0.5])
def test_line_ends_whatever_the_precision(precision: float) -> None:
    goal = Goal(0.8, "above", "proportion", precision=precision, most=20_000)
    answer = search_line(lambda e: exact_power(20, e), Axis(0, 3, 0, 0.5, "linear"), goal, 1).answer()
    assert answer.reached
    assert answer.sure == (precision > 0.1)


def test_line_unreachable_gives_the_best() -> None:
    answer = search_line(lambda m: exact_power(14, 0.5, size=m), Axis(2, 1000, 1, 20, "log"), POWER, 1).answer()
    assert (answer.reached, answer.sure) == (False, True)
    assert exact_power(14, 0.5, size=answer.x) > 0.75


def test_line_already_reached_at_the_end() -> None:
    answer = search_line(lambda J: exact_power(J, 2.0), Axis(8, 400, 2, 20, "sqrt"), POWER, 1).answer()
    assert (answer.x, answer.lower, answer.upper, answer.reached) == (8, 8, 8, True)


def test_line_flat_ends_unreached() -> None:
    answer = search_line(lambda J: 0.05, Axis(8, 400, 2, 20, "sqrt"), POWER, 1).answer()
    assert not answer.reached


def test_line_bias_in_size() -> None:
    goal = Goal(0.1, "below", "real", absolute=True)
    search = LineSearch(Axis(4, 400, 1, 20, "log"), goal)
    while wanted := search.propose():
        search.tell([Tried(x, -2 / x, 1 / math.sqrt(n * x), n) for x, n in wanted.items()])
    assert search.answer().x == pytest.approx(20, abs=2)


def test_surface_against_enumeration() -> None:
    cost = parse_cost(COST)
    cheapest = min(
        (float(cost(clusters=J, cluster_size=m)), J, m)
        for m in range(2, 60)
        for J in [next(J for J in range(4, 400, 2) if exact_power(J, size=m) >= 0.8)]
    )
    for seed in range(3):
        draw = Simulated(lambda J, m: exact_power(J, size=m), seed)
        search = SurfaceSearch(
            Axis(6, 400, 2, 20, "sqrt"),
            Axis(2, 500, 1, 20, "log"),
            POWER,
            lambda J, m: cost(clusters=J, cluster_size=m),
        )
        while wanted := search.propose():
            search.tell([(pair, draw(pair, n)) for pair, n in wanted.items()])
        found = search.answer()
        assert found.reached
        assert found.cost == pytest.approx(cheapest[0], rel=0.05)
        assert found.intervals["cost"][0] <= cheapest[0] * 1.02
        assert found.intervals["cost"][1] >= cheapest[0] * 0.98
        assert exact_power(found.first, size=found.second) == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize("seed", range(5))
def test_solve_two_arm_trial_against_noncentral_t(seed: int, tmp_path: Path) -> None:
    solved = plan(seed=seed).solve(over="clusters", power=0.8, out=tmp_path / "s")
    (solution,) = solved.solutions
    exact = exact_clusters()
    assert abs(solution.values["clusters"] - exact) <= 2
    low, high = solution.intervals["clusters"]
    assert low - 2 <= exact <= high + 2
    assert solution.trial is not None
    assert solution.trial.value == pytest.approx(exact_power(solution.values["clusters"]), abs=5 * solution.trial.mcse)


def test_solve_keeps_every_design(tmp_path: Path) -> None:
    solved = plan().solve(over="clusters", power=0.8, out=tmp_path / "s", jobs=1)
    results = nl.Results(tmp_path / "s")
    (solution,) = solved.solutions
    assert results.missing() == 0
    power = (
        results.summary().query("measure == 'power' and estimand == 'arm' and subset == 'all'").set_index("clusters")
    )
    assert {t.values["clusters"]: (t.value, t.n) for t in solution.tried} == {
        J: (row["value"], row["n"]) for J, row in power.iterrows()
    }
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert (tmp_path / "s" / "solve.json").stat().st_size > 1000
    assert not [name for name in names if name.endswith((".svg", ".png"))], "nothing is drawn"
    assert results.manifest["solve"]["sentence"].endswith(".")
    assert " clusters are needed for 80 % power to detect arm (95 % interval " in results.manifest["solve"]["sentence"]
    parts = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "s" / "replicates").iterdir()}
    again = plan().solve(over="clusters", power=0.8, out=tmp_path / "s", jobs=2)
    assert again.solutions == solved.solutions, "the same designs, found stored"
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "s" / "replicates").iterdir()} == parts
    elsewhere = plan().solve(over="clusters", power=0.8, out=tmp_path / "t", jobs=2)
    assert elsewhere.solutions == solved.solutions, "whatever the number of workers"


def test_solve_grid_gives_an_answer_for_each_point(tmp_path: Path) -> None:
    study = plan(grid={"icc": [0.02, 0.2], "clusters": [10, 20]})
    solved = study.solve(over="clusters", power=0.8, precision=0.1, out=tmp_path / "s")
    assert [dict(s.factors) for s in solved.solutions] == [{"icc": 0.02}, {"icc": 0.2}]
    few, many = (s.values["clusters"] for s in solved.solutions)
    assert few == pytest.approx(exact_clusters(effect=0.4 / math.sqrt(0.9 / 0.98), icc=0.02), abs=4)
    assert many > 2 * few


def test_solve_effect_icc_and_width(tmp_path: Path) -> None:
    effect = plan().solve(over="effect", power=0.8, precision=0.05, out=tmp_path / "e").solutions[0]
    assert exact_power(20, effect.values["truth.fixed.arm"]) == pytest.approx(0.8, abs=0.04)
    icc = plan(truth={**PLAN["truth"], "fixed": {"Intercept": 0, "arm": 0.6}}).solve(
        over="icc", power=0.8, precision=0.1, out=tmp_path / "i"
    ).solutions[0]  # fmt: skip
    assert not icc.smallest
    x = icc.values["icc"]  # the residual variance stays 0.9
    assert exact_power(20, 0.6 * math.sqrt((1 - x) / 0.9), x) == pytest.approx(0.8, abs=0.04)
    width = plan().solve(over="clusters", width=0.5, out=tmp_path / "w").solutions[0]
    assert width.trial is not None
    assert width.trial.value <= 0.5 + 3 * width.trial.mcse
    half = 2 * t.ppf(0.975, width.values["clusters"] - 2) * math.sqrt(4 * 2.9 / (20 * width.values["clusters"]))
    assert half == pytest.approx(0.5, rel=0.05)


def test_solve_negative_effect(tmp_path: Path) -> None:
    study = plan(truth={**PLAN["truth"], "fixed": {"Intercept": 0, "arm": -0.4}})
    found = study.solve(over="effect", power=0.8, precision=0.1, out=tmp_path / "e").solutions[0]
    assert exact_power(20, found.values["truth.fixed.arm"]) + exact_power(20, -found.values["truth.fixed.arm"]) > 0.75
    assert found.values["truth.fixed.arm"] < 0


def test_solve_joint_power(tmp_path: Path) -> None:
    tables = copy.deepcopy(PLAN)
    tables["truth"]["formula"] = "y ~ 1 + arm + x + (1 | school)"
    tables["truth"]["fixed"]["x"] = 0.15
    tables["predictors"]["x"] = {"level": 1, "distribution": "normal"}
    study = nl.Study.from_dict(tables)
    joint = study.solve(over="clusters", joint_power=0.8, estimand=["arm", "x"], precision=0.1, out=tmp_path / "j")
    trial = joint.solutions[0].trial
    assert trial is not None
    results = nl.Results(tmp_path / "j")
    rows = results.replicates(condition=trial.condition)
    reject = np.ones(len(rows), dtype=bool)
    for name in ("arm", "x"):
        reject &= np.abs(rows[f"estimate.{name}"] / rows[f"se.{name}"]) > t.ppf(0.975, rows[f"df.{name}"])
    assert trial.value == pytest.approx(reject.mean(), abs=1e-12)
    assert joint.solutions[0].values["clusters"] >= exact_clusters() - 2


def test_solve_unreachable_says_so(tmp_path: Path) -> None:
    found = plan(design={"clusters": 14, "cluster_size": 20}).solve(over="cluster_size", power=0.9, out=tmp_path / "s")
    (solution,) = found.solutions
    assert not solution.reached
    assert solution.intervals == {}
    sentence = nl.Results(tmp_path / "s").manifest["solve"]["sentence"]
    assert "is not reached" in sentence
    assert "the best is cluster size" in sentence


def test_solve_prior_is_assurance(tmp_path: Path) -> None:
    prior = {"distribution": "normal", "mean": 0.4, "sd": 0.1}
    truth = {**PLAN["truth"], "fixed": {"Intercept": 0, "arm": prior}}
    unsure = plan(truth=truth).solve(over="clusters", power=0.8, precision=0.1, out=tmp_path / "a").solutions[0]
    assert unsure.values["clusters"] > exact_clusters() + 2


def test_figure_of_a_grid(tmp_path: Path) -> None:
    """A line of designs for each answer, with its interval; panels by the first factors, one legend by the others."""
    grid = {"cluster_size": [10, 40], "icc": [0.02, 0.1, 0.2, 0.3]}
    solved = plan(grid=grid).solve(over="clusters", power=0.8, precision=0.3, out=tmp_path / "s")
    figure = render(picture(solved, "school"))
    axes = figure.axes
    assert [ax.get_title(loc="left") for ax in axes] == ["cluster size 10", "cluster size 40"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"icc {icc}" for icc in grid["icc"]]
    for ax, solutions in zip(axes, (solved.solutions[:4], solved.solutions[4:]), strict=True):
        drawn = [sorted(line.get_xdata()) for line in ax.get_lines() if line.get_linestyle() == "None"]
        assert drawn == [sorted(t.values["clusters"] for t in s.tried) for s in solutions]
        marks = [line.get_xdata()[0] for line in ax.get_lines() if len(set(line.get_xdata())) == 1]
        assert set(marks) >= {s.values["clusters"] for s in solutions}
    assert title_of(solved) == "Power of arm, reml, tests at level 0.05"
    assert as_svg(draw(nl.Results(tmp_path / "s"), "solve")) == as_svg(figure), "drawn from solve.json"


@pytest.mark.parametrize(
    "asked",
    [
        {"over": "clusters", "power": 0.8},
        {"over": "effect", "power": 0.8, "between": (0.1, 2)},
        {"over": "clusters", "bias": 1e-6},
        {"over": ["clusters", "cluster_size"], "power": 0.8, "cost": COST},
    ],
)
def test_an_answer_is_read_back_as_it_was(tmp_path: Path, asked: dict[str, Any]) -> None:
    found = plan().solve(precision=0.3, max_replications=500, out=tmp_path / "s", jobs=1, **asked)
    read = read_solved(tmp_path / "s")
    for one, other in zip(read.solutions, found.solutions, strict=True):
        assert (one.factors, one.values, one.reached, one.sure) == (
            dict(other.factors),
            other.values,
            other.reached,
            other.sure,
        )
        assert one.intervals == {n: tuple(map(float, ends)) for n, ends in other.intervals.items()}
        assert one.tried == other.tried
    assert (read.scale, read.question.target, read.question.over) == (
        found.scale,
        found.question.target,
        found.question.over,
    )
    assert as_svg(render(picture(read))) == as_svg(render(picture(found)))


def test_plot_and_report_draw_the_search(tmp_path: Path) -> None:
    plan().solve(over="clusters", power=0.8, precision=0.3, out=tmp_path / "s", jobs=1)
    found = CliRunner().invoke(app, ["plot", str(tmp_path / "s")])
    assert found.exit_code == 0
    assert "Power of arm, reml" in (tmp_path / "s" / "plots" / "solve.svg").read_text()
    found = CliRunner().invoke(app, ["plot", str(tmp_path / "s"), "--measure", "power"])
    assert found.exit_code == 0
    assert (tmp_path / "s" / "plots" / "power.svg").is_file()
    text = nl.Results(tmp_path / "s").report().read_text()
    assert text.count("<figcaption>The search of nestlab solve") == 1


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        (
            ["--kind", "solve", "--x", "clusters"],
            "",
            'x = "clusters": kind solve shows the search for a design; leave x out',
        ),
        (
            ["--kind", "solve"],
            None,
            "holds no search for a design; name a folder that nestlab solve wrote, or another --kind",
        ),
        ([], "{", "solve.json: is no answer that can be drawn (JSONDecodeError"),
        ([], "[]", "solve.json: is no answer that can be drawn (TypeError"),
        ([], '{"target": {}}', "solve.json: is no answer that can be drawn (ValueError"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, words: list[str], content: str | None, message: str) -> None:
    plan().solve(over="clusters", power=0.8, precision=0.3, max_replications=500, out=tmp_path / "s", jobs=1)
    if content is None:
        (tmp_path / "s" / "solve.json").unlink()
    elif content:
        (tmp_path / "s" / "solve.json").write_text(content)
    found = CliRunner().invoke(app, ["plot", str(tmp_path / "s"), *words])
    assert found.exit_code == 2
    assert message in " ".join(found.stderr.split())
    if content:
        with pytest.raises(nl.RefusedError, match=r"solve\.json is damaged; give the same nestlab solve again"):
            nl.Results(tmp_path / "s").report()


def write(folder: Path, tables: dict[str, Any] = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(nl.Study.from_dict(tables).text, encoding="utf-8")
    return path


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["solve", *map(str, arguments)])
    return found.exit_code, found.stdout, found.stderr


def test_cli_solve_two_axes_json(tmp_path: Path) -> None:
    code, out, err = invoke(
        write(tmp_path), "--power", "0.8", "--over", "clusters", "--over", "cluster_size", "--cost", COST, "--precision", "0.1",
        "--out", tmp_path / "s", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found["solution"]) == {"clusters", "cluster_size"}
    assert set(found["interval"]) == {"clusters", "cluster_size", "cost"}
    assert found["target"] == {"power": 0.8}
    assert all(isinstance(end, int) for end in found["interval"]["clusters"])
    cost = 300 * found["solution"]["clusters"] + 20 * found["solution"]["clusters"] * found["solution"]["cluster_size"]
    assert found["cost"] == cost
    assert exact_power(found["solution"]["clusters"], size=found["solution"]["cluster_size"]) == pytest.approx(
        0.8, abs=0.05
    )
    assert {"clusters", "cluster_size", "value", "mcse", "n", "missing", "condition"} == set(found["tried"][0])
    assert json.loads((tmp_path / "s" / "solve.json").read_text())["solution"] == found["solution"]


def test_cli_solve_prints(tmp_path: Path) -> None:
    code, out, err = invoke(
        write(tmp_path), "--power", "0.8", "--over", "clusters", "--between", "8", "100", "--out", tmp_path / "s"
    )
    assert (code, err) == (0, "")
    assert re.search(
        r"^\d+ clusters are needed for 80 % power to detect arm \(95 % interval \d+ to \d+\)\. .*0\.\d+ \(0\.\d+\), n = [\d,]+",
        out,
    )
    assert "power (MCSE)" in out


def test_cli_solve_budget(tmp_path: Path) -> None:
    study = write(tmp_path)
    common = [
        "--over",
        "clusters",
        "--over",
        "cluster_size",
        "--cost",
        COST,
        "--budget",
        "12000",
        "--precision",
        "0.1",
        "--json",
    ]
    code, out, _ = invoke(study, *common, "--out", tmp_path / "m")
    found = json.loads(out)
    assert code == 0
    assert found["cost"] <= 12000
    best = max(exact_power(J, size=m) for J in range(4, 40, 2) for m in range(2, 100) if 300 * J + 20 * J * m <= 12000)
    assert exact_power(found["best"]["clusters"], size=found["best"]["cluster_size"]) == pytest.approx(best, abs=0.02)
    code, out, _ = invoke(study, "--power", "0.8", *common, "--out", tmp_path / "p")
    found = json.loads(out)
    assert (code, found["solution"], found["reached"]) == (0, None, False)
    assert found["cost"] <= 12000
    code, out, _ = invoke(
        study,
        "--power",
        "0.8",
        "--over",
        "clusters",
        "--cost",
        COST,
        "--budget",
        "12000",
        "--json",
        "--out",
        tmp_path / "q",
    )
    found = json.loads(out)
    assert (found["solution"], found["best"], found["cost"]) == (None, 16, 11200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--power", "0.8"], "--over: is missing"),
        ([], "target: is missing; add --power 0.8"),
        (["--over", "clusters"], "target: is missing; add --power 0.8"),
        (["--power", "0.8", "--width", "1", "--over", "clusters"], "only one target can be solved for"),
        (["--power", "1.2", "--over", "clusters"], "--power 1.2: must be a number between 0 and 1"),
        (["--bias", "0", "--over", "clusters"], "--bias 0.0: must be a number > 0"),
        (["--power", "0.8", "--over", "clutsers"], 'names nothing that can vary; did you mean "clusters"?'),
        (["--power", "0.8", "--over", "clusters", "--estimand", "amr"], 'the study has Intercept, arm'),
        (["--power", "0.8", "--over", "clusters", "--estimand", "arm", "--estimand", "Intercept"], "only --joint-power takes"),
        (["--power", "0.8", "--over", "clusters", "--method", "ml"], "the study has reml"),
        (["--power", "0.8", "--over", "clusters", "--over", "cluster_size"], "two axes need a cost"),
        (["--power", "0.8", "--over", "clusters", "--over", "icc", "--cost", COST], "must be one axis, or clusters and"),
        (["--coverage", "0.9", "--over", "clusters", "--over", "cluster_size", "--cost", COST], "cover is solved over one axis"),
        (["--power", "0.8", "--over", "clusters", "--budget", "100"], "must be a number > 0, with a --cost"),
        (["--power", "0.8", "--over", "icc", "--cost", COST], "needs --over clusters, --over cluster_size or both"),
        (["--power", "0.8", "--over", "clusters", "--between", "40", "10"], "must be two numbers, the lower one first"),
        (["--power", "0.8", "--over", "clusters", "--between-second", "4", "10"], "needs a second --over"),
        (["--power", "0.8", "--over", "clusters", "--precision", "0"], "must be a number from 0.0001 to 1"),
        (["--power", "0.8", "--over", "clusters", "--step", "0"], "--step 0.0: must be"),
        (["--power", "0.8", "--over", "truth.residual_variance"], "does not know the range of truth.residual_variance"),
        (["--power", "0.8", "--over", "clusters", "--cost", "300*schools"], "depends on clusters and cluster_size only"),
        (["--power", "0.8", "--over", "clusters", "--cost", "300"], "must depend on clusters or cluster_size"),
        (["--power", "0.8", "--over", "clusters", "--cost", "__import__('os')*clusters"], "is not possible; allowed are numbers"),
        (["--power", "0.8", "--over", "clusters", "--cost", "clusters**"], "must be a formula such as"),
        (["--power", "0.8", "--over", "clusters", "--cost", "100*clusters", "--budget", "10"], "even 4 clusters cost more"),
        (["--power", "0.8", "--over", "clusters", "--between", "1.2", "1.8"], "no value of clusters between is a multiple of 2"),
    ],
)  # fmt: skip
def test_cli_solve_refusals(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, out, err = invoke(write(tmp_path), *arguments, "--out", tmp_path / "s")
    assert (code, out) == (2, "")
    assert message in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert not (tmp_path / "s").exists()


def test_solve_list_of_sizes_is_refused(tmp_path: Path) -> None:
    study = plan(design={"clusters": 4, "cluster_size": [10, 20, 30, 40]})
    text = (
        "not a list of one per cluster; write cluster_size = { values = [10, 20, 30, ...], in_turn = true } in [design]"
    )
    with pytest.raises(StudyError, match=re.escape(text)):
        study.solve(over="clusters", power=0.8, out=tmp_path / "s")


THREE_ARMS = """
name = "three_arms"
seed = 33
replications = 2000
design.cluster_size = 20
truth.formula = "y ~ 1 + arm + (1 | clinic)"
truth.residual_variance = 1
truth.fixed = { Intercept = 0, "arm[1]" = 0.2, "arm[2]" = 0.4 }
truth.random.clinic.variance = { Intercept = 0.05 }
predictors.arm = { level = 2, distribution = "arms", coding = "treatment" }
contrast = [{ name = "high - low", weights = { "arm[2]" = 1, "arm[1]" = -1 } }]
method = [{ name = "reml", df = "between-within" }]
"""
IN_TURN = {"values": [10, 20, 30], "in_turn": True}


@pytest.mark.parametrize(
    ("design", "arm", "information", "step"),
    [
        ({}, {"clusters": [10, 10, 10]}, (10 / 3, 10 / 3), 3),
        ({"clusters": 30}, {"shares": [1, 1, 1]}, (10 / 3, 10 / 3), 3),
        (
            {"clusters": 30, "cluster_size": {"arms": [20, 20, {"values": [10, 30], "in_turn": True}]}},
            {"shares": [2, 1, 1]},
            (10 / 4, (20 / 3 + 12) / 8),
            4,
        ),
        (
            {"clusters": 30, "cluster_size": IN_TURN},
            {"distribution": "balanced", "categories": ["0", "1", "2"], "blocks": 3, "redraw": True},
            ((20 / 3 + 10 + 12) / 9, (20 / 3 + 10 + 12) / 9),
            3,
        ),
    ],
    ids=["counts", "shares", "2:1:1 and sizes by arm", "balanced in blocks"],
)
def test_solve_over_clusters_of_several_arms(
    design: dict[str, Any], arm: dict[str, Any], information: tuple[float, float], step: int, tmp_path: Path
) -> None:
    """Against t with J - 3 df. information: that J clusters give about the mean of an arm, by J: the mean of 1 / (0.05 + 1 / n)
    times the arm's share."""
    tables = tomllib.loads(THREE_ARMS)
    tables["design"] |= design
    tables["predictors"]["arm"] |= arm
    (solution,) = nl.Study.from_dict(tables).solve(
        over="clusters", power=0.8, estimand="high - low", out=tmp_path / "s", precision=0.04
    ).solutions  # fmt: skip
    J = np.arange(30, 300)
    ncp = 0.2 / np.sqrt(sum(1 / i for i in information) / J)
    exact = J[1 - nct.cdf(t.ppf(0.975, J - 3), J - 3, ncp) >= 0.8][0]
    assert solution.values["clusters"] == pytest.approx(exact, rel=0.06)
    assert solution.values["clusters"] % step == 0


def test_solve_measure_that_the_method_has_not(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="method reml has no power of it; it has"):
        plan().solve(over="clusters", power=0.8, estimand="icc", out=tmp_path / "s")


def test_cost_values() -> None:
    cost = parse_cost("max(1000, 300*clusters) + ceil(cluster_size / 10)^2")
    assert cost(clusters=np.array([2, 10]), cluster_size=25).tolist() == [1009, 3009]
    with pytest.raises(StudyError, match="finite number >= 0"):
        parse_cost("100 - clusters")(clusters=200)
