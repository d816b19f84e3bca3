"""Conditions that stop when their targets are met: where, why, and always at the same place."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.measure.measured import Measured, MeasureRow
from nestlab.run.state import read_state, stopping_lines
from nestlab.run.stopping import half_width, judge, precision, stop_key
from nestlab.run.store import Store, StoredCondition
from nestlab.run.telling import Quiet
from nestlab.show.cli import app
from nestlab.show.solve_command import Options, solve_study
from nestlab.spec.formula import parse_formula
from nestlab.spec.measures import MEASURES, WHOLE
from nestlab.spec.model import Contrast, Method
from nestlab.spec.stopping import Stopping, StopTarget
from nestlab.spec.study import StudyError, StudyFile

POWER: dict[str, Any] = {"target_mcse": 0.02, "measure": "power", "estimand": "arm", "min": 200, "max": 1500}


@pytest.fixture
def ruled(two_arms: dict[str, Any]) -> dict[str, Any]:
    """The two-arm study, whose four conditions stop at different places."""
    return {**two_arms, "replications": dict(POWER)}


def with_rule(tables: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**tables, "replications": {**tables["replications"], **changes}}


def stops(results: nl.Results) -> dict[int, int]:
    return dict(results.stopping()[["condition", "replications"]].itertuples(index=False))


def assert_same(one: nl.Results, other: nl.Results) -> None:
    """The same replicates, summary and decisions, bit for bit."""
    killing.assert_equal(one.folder, other.folder)
    tables = [pd.read_parquet(results.folder / "conditions.parquet") for results in (one, other)]
    assert_frame_equal(*tables, check_exact=True)


# -- the rule --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 37, 64, 512])
@pytest.mark.parametrize(("least", "most"), [(100, 100), (100, 101), (1000, 100_000), (200, 1500), (700, 10**9)])
def test_looks_are_whole_blocks_that_grow(block: int, least: int, most: int) -> None:
    looks = Stopping((), least, most).looks(block)
    assert looks[-1] == most
    assert looks[0] >= least
    assert all(n % block == 0 for n in looks[:-1])
    steps = np.divide(looks[1:], looks[:-1])
    assert (steps > 1).all()
    assert all(b <= 1.5 * a + block for a, b in pairwise(looks))
    assert len(looks) <= 2 + math.log(most / least, 1.4) or block > least


@pytest.mark.parametrize(("hits", "n"), [(0, 100), (100, 100), (7, 250), (400, 1024)])
def test_precision_of_a_share_is_wilsons_half_width_against_its_formula(hits: int, n: int) -> None:
    z, p = 1.959963984540054, hits / n
    expected = math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    found = precision(Measured("power", p, math.sqrt(p * (1 - p) / n), n, hits))
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > 0
    assert half_width(np.array([hits]), np.array([n])) == pytest.approx(expected, rel=1e-12)


def test_precision_of_other_measures_is_their_mcse() -> None:
    assert precision(Measured("bias", 0.1, 0.003, 500)) == 0.003
    assert math.isnan(precision(Measured("type_s", math.nan, math.nan, 0, 0)))


def row(method: str, measure: str, hits: float, n: int, mcse: float = 0.5, subset: str = "converged") -> MeasureRow:
    return MeasureRow(method, "x", subset, Measured(measure, hits / n, mcse, n, hits), 0)


RULE = Stopping((StopTarget("power", 0.02, "x"), StopTarget("width", 0.1, "x", ("a",))), 100, 2000)


def measured(power_a: int, power_b: int, width: float, n: int = 600) -> list[MeasureRow]:
    return [
        row("a", "power", power_a, n), row("b", "power", power_b, n), row("b", "power", n // 2, n, subset="common"),
        MeasureRow("a", "x", "converged", Measured("width", 3.0, width, n), None),
        MeasureRow("b", "x", "converged", Measured("width", 3.0, 9.0, n), None),
    ]  # fmt: skip


def test_judge_stops_when_every_target_is_met_by_every_method() -> None:
    verdict = judge(RULE, measured(20, 60, 0.09), 600)
    assert (verdict.stops, verdict.reason) == (True, "met: power of x 0.0123 by b; width of x 0.09 by a")
    assert not judge(RULE, measured(20, 300, 0.09), 600).stops, "one method is not sure"
    assert not judge(RULE, measured(20, 60, 0.11), 600).stops, "one target is not met"


def test_judge_says_what_is_missing_at_the_maximum() -> None:
    verdict = judge(RULE, measured(20, 300, 0.11, n=601), 2000)
    assert verdict.stops
    assert verdict.reason == "maximum: power of x 0.0203 by b, target 0.02; width of x 0.11 by a, target 0.1"


def test_judge_takes_what_is_undetermined_as_not_met() -> None:
    assert not judge(RULE, measured(20, 60, math.nan), 600).stops
    assert judge(RULE, measured(20, 60, math.nan), 2000).reason == "maximum: width of x undetermined by a, target 0.1"


def test_judge_asks_nothing_of_what_does_not_exist_or_ended() -> None:
    assert judge(RULE, measured(20, 300, 0.09), 600, ["b"]).reason == (
        "met: power of x 0.00746 by a; width of x 0.09 by a; b ended early"
    )
    assert judge(RULE, [], 600).reason == "none: what is asked for does not exist here"
    assert judge(RULE, measured(20, 300, 0.11), 600, ["a", "b"]).reason == "ended: a ended early; b ended early"


@pytest.mark.parametrize("measure", MEASURES)
def test_a_rule_may_name_every_measure(ruled: dict[str, Any], measure: str) -> None:
    estimand = {} if measure in WHOLE else {"estimand": "arm"}
    rule = {"target_mcse": 0.01, "measure": measure, **estimand}
    study = nl.Study.from_dict({**ruled, "replications": rule})
    assert study is not None


# -- runs ------------------------------------------------------------------------------------------------------------------


def test_run_stops_where_the_first_replicates_say(ruled: dict[str, Any], tmp_path: Path) -> None:
    """Against the summaries of fixed runs of each look's length, and Wilson's formula."""
    study = nl.Study.from_dict(ruled)
    results = study.run(out=tmp_path / "r")
    expected: dict[int, int] = {}
    looks = POWER["min"], *(n for n in study.file.stopping.looks(study.conditions[0].block_size))
    for n in dict.fromkeys(looks[1:]):
        fixed = nl.Study.from_dict({**ruled, "replications": n}).run(out=tmp_path / f"f{n}")
        power = fixed.summary().query("measure == 'power' and estimand == 'arm' and subset == 'all'")
        for number, rows in power.groupby("condition"):
            half = (rows["upper"] - rows["lower"]).max() / 2 / 1.959963984540054
            if number not in expected and (half <= 0.02 or n == POWER["max"]):
                expected[number] = n
                mine = results.summary().query("condition == @number").reset_index(drop=True)
                theirs = fixed.summary().query("condition == @number").reset_index(drop=True)
                assert_frame_equal(mine, theirs, check_exact=True)
    assert stops(results) == expected
    assert len(set(expected.values())) > 1
    assert dict(results.replicates(method="ml").groupby("condition").size()) == expected
    assert results.missing() == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_does_not_depend_on_workers_or_interruption(ruled: dict[str, Any], tmp_path: Path, jobs: int) -> None:
    study = nl.Study.from_dict(ruled)
    whole = study.run(out=tmp_path / "whole", jobs=3 - jobs)

    class Stop(Quiet):
        left = 0

        def advance(self, fits: int) -> None:
            self.left -= fits
            if self.left < 0:
                raise KeyboardInterrupt

    made = 0
    for fits in (700, 2000, 3000, 10**9):
        progress = Stop()
        progress.left = fits
        try:
            made = study.execute(out=tmp_path / "r", jobs=jobs, progress=progress)[1].made
        except KeyboardInterrupt:
            assert nl.Results(tmp_path / "r").missing() > 0, "never complete before all is decided"
            state = read_state(tmp_path / "r")
            assert (state.complete, state.undecided > 0) == (False, True)
            assert f"{state.undecided} {'is' if state.undecided == 1 else 'are'} not decided yet" in state.stopping[0]
    assert 0 < made < sum(stops(whole).values()) * 2
    assert_same(nl.Results(tmp_path / "r"), whole)


def test_run_killed_and_resumed_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    text = killing.STUDY.format(
        replications='{ target_mcse = 0.002, measure = "power", estimand = "arm", min = 5000, max = 50000 }'
    )
    (tmp_path / "long.toml").write_text(text)
    words = ("run", tmp_path / "long.toml", "--out", tmp_path / "killed", "--jobs", 2)
    killed = killing.kill_while_writing(words, tmp_path / "killed", new=25_000)
    assert not killed.finished
    assert nl.Results(tmp_path / "killed").missing() > 0
    again = nl.Study.from_toml(tmp_path / "long.toml").run(out=tmp_path / "killed")
    whole = nl.Study.from_toml(tmp_path / "long.toml").run(out=tmp_path / "whole")
    assert_same(again, whole)
    assert len(set(stops(whole).values())) > 1


def test_run_extends_what_a_number_stored(ruled: dict[str, Any], tmp_path: Path) -> None:
    """More or fewer replicates than the rule needs are stored: the decisions are the same, and nothing is removed."""
    whole = nl.Study.from_dict(ruled).run(out=tmp_path / "whole")
    nl.Study.from_dict({**ruled, "replications": 700}).run(out=tmp_path / "r")
    files = {p.name for p in (tmp_path / "r" / "replicates").iterdir()}
    results, report = nl.Study.from_dict(ruled).execute(out=tmp_path / "r")
    assert report.made == 2 * sum(max(0, n - 700) for n in stops(whole).values())
    assert_same(results, whole)
    assert files <= {p.name for p in (tmp_path / "r" / "replicates").iterdir()}


def test_run_with_other_targets_extends_or_keeps(ruled: dict[str, Any], tmp_path: Path) -> None:
    rough, fine = (nl.Study.from_dict(with_rule(ruled, target_mcse=target)) for target in (0.03, 0.018))
    first = rough.run(out=tmp_path / "r")
    before = stops(first)
    extended = fine.run(out=tmp_path / "r")
    assert all(n >= before[number] for number, n in stops(extended).items())
    assert_same(extended, fine.run(out=tmp_path / "fine"))
    files = {p.name for p in (tmp_path / "r" / "replicates").iterdir()}
    back, report = rough.execute(out=tmp_path / "r")
    assert report.made == 0
    assert_same(back, rough.run(out=tmp_path / "rough"))
    assert {p.name for p in (tmp_path / "r" / "replicates").iterdir()} == files
    fixed, report = rough.execute(out=tmp_path / "r", replications=200)
    assert report.made == 0
    assert fixed.stopping().empty
    assert "stopping" not in fixed.manifest
    assert set(fixed.summary()["n"].loc[fixed.summary()["measure"] == "failed"]) == {200}


def test_run_decided_before_is_not_decided_again(
    ruled: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = nl.Study.from_dict(ruled)
    before = study.run(out=tmp_path / "r").summary()

    def fail(*_: Any) -> None:
        raise AssertionError("a part was opened")

    monkeypatch.setattr(Store, "_read_part", fail)
    results, report = study.execute(out=tmp_path / "r")
    assert report.made == 0
    assert report.stored == 2 * sum(stops(results).values())
    assert_frame_equal(results.summary(), before, check_exact=True)


def test_run_with_a_new_method_or_level_decides_anew(ruled: dict[str, Any], tmp_path: Path, changed: Any) -> None:
    nl.Study.from_dict(changed(ruled, {"grid/icc": [0.3], "method": ruled["method"][:1]})).run(out=tmp_path / "r")
    results = nl.Study.from_dict(ruled).run(out=tmp_path / "r")
    whole = nl.Study.from_dict(ruled).run(out=tmp_path / "whole")
    columns = ["icc", "truth.fixed.arm", "replications", "reason"]
    found, expected = (r.stopping()[columns].sort_values(columns[:2], ignore_index=True) for r in (results, whole))
    assert_frame_equal(found, expected)


def test_run_removed_part_of_a_decided_condition_is_made_again(ruled: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(ruled)
    study.run(out=tmp_path / "r")
    sorted((tmp_path / "r" / "replicates").iterdir())[0].unlink()
    assert nl.Results(tmp_path / "r").missing() > 0
    assert_same(study.run(out=tmp_path / "r"), study.run(out=tmp_path / "whole"))


def test_run_of_several_targets_and_measures(ruled: dict[str, Any], tmp_path: Path) -> None:
    targets = [
        {"target_mcse": 0.04, "measure": "bias", "estimand": "arm", "method": "reml", "min": 200, "max": 3000},
        {"target_mcse": 0.02, "measure": "converged"},
    ]
    results = nl.Study.from_dict({**ruled, "replications": targets}).run(out=tmp_path / "r")
    summary = results.summary().query("subset == 'all' and method == 'reml'")
    bias = summary.query("measure == 'bias' and estimand == 'arm'")
    assert (bias["mcse"] <= 0.04).all()
    assert results.stopping()["met"].all()
    assert (
        results.stopping()["reason"]
        .str.fullmatch(r"met: bias of arm 0\.0\d+ by reml; converged 0\.00\d+ by (reml|ml)")
        .all()
    )


def test_run_relbias_is_not_asked_of_a_truth_of_0(ruled: dict[str, Any], tmp_path: Path) -> None:
    rule = {"target_mcse": 8, "measure": "relbias", "estimand": "arm", "min": 200, "max": 400}
    results = nl.Study.from_dict({**ruled, "replications": rule}).run(out=tmp_path / "r")
    reasons = results.stopping().set_index("truth.fixed.arm")["reason"]
    assert set(reasons[0.0]) == {"none: what is asked for does not exist here"}
    assert all(reason.startswith(("met:", "maximum:")) for reason in reasons[0.8])
    assert "2 have nothing of what is asked for" in results.stopping_lines()[0]


def test_run_target_that_exists_nowhere_is_refused(ruled: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(with_rule(ruled, measure="cover", estimand="var:residual"))
    with pytest.raises(StudyError) as caught:
        study.run(out=tmp_path / "r")
    (line,) = caught.value.problems
    assert line.startswith(
        'replications.measure = "cover": no condition has a cover of var:residual; of var:residual there are'
    )
    assert "rmse" in line
    assert line.endswith("; choose another measure, estimand or method")


def test_run_method_that_ended_early_has_no_targets(ruled: dict[str, Any], tmp_path: Path) -> None:
    """A predictor that is 0 in every row fails always; max_failed ends it at 100."""
    tables = {
        **ruled, "max_failed": 0.2, "grid": {"predictors.x.share": [1e-12, 0.5]}, "method": [{"name": "reml"}],
        "truth": {**ruled["truth"], "formula": "y ~ 1 + x + (1 | school)", "fixed": {"Intercept": 2, "x": 0.1}},
        "predictors": {"x": {"level": 1, "distribution": "binary"}}, "replications": {**POWER, "estimand": "x"},
    }  # fmt: skip
    results = nl.Study.from_dict(tables).run(out=tmp_path / "r")
    assert list(results.stopping()["reason"].str.split(":").str[0]) == ["ended", "met"]
    assert results.missing() == 0
    assert dict(results.replicates().groupby("condition").size())[0] == 100
    assert "in 1 too many fits failed (max_failed)" in results.stopping_lines()[0]


def test_run_that_keeps_sums_stops_at_the_same_places(ruled: dict[str, Any], tmp_path: Path) -> None:
    whole = nl.Study.from_dict(ruled).run(out=tmp_path / "whole")
    study = nl.Study.from_dict({**ruled, "keep": "summary"})
    results = study.run(out=tmp_path / "r")
    assert_frame_equal(results.stopping(), whole.stopping())
    again, report = study.execute(out=tmp_path / "r")
    assert report.made == 0
    power, expected = (r.summary().query("measure == 'power' and subset == 'all'") for r in (again, whole))
    assert_frame_equal(power.reset_index(drop=True), expected.reset_index(drop=True), rtol=1e-10)


# -- what is said ----------------------------------------------------------------------------------------------------------


def test_cli_says_which_condition_stopped_why(ruled: dict[str, Any], tmp_path: Path) -> None:
    tables = with_rule(ruled, max=600)
    (tmp_path / "s.toml").write_text(nl.Study.from_dict(tables).text)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    results = nl.Results(tmp_path / "r")
    table = results.stopping()
    most = table[~table["met"]]
    assert 0 < len(most) < 4
    low, high = (
        f"{n:,}" for n in (table[table["met"]]["replications"].min(), table[table["met"]]["replications"].max())
    )
    after = low if low == high else f"{low} to {high}"
    said = f"{4 - len(most)} of 4 conditions met all targets, after {after} replications; {len(most)} reached the maximum, 600"
    shown = " ".join(done.stdout.split())
    assert said in shown
    for number, reason in most[["condition", "reason"]].head(3).itertuples(index=False):
        assert f"condition {number}: {reason}" in shown
        assert reason.startswith("maximum: power of arm 0.02")
    status = CliRunner().invoke(app, ["status", str(tmp_path / "r")])
    assert f"stopping  {said}" in status.stdout
    summary = CliRunner().invoke(app, ["summary", str(tmp_path / "r")])
    assert said in " ".join(summary.stdout.split())
    stored = pd.read_parquet(tmp_path / "r" / "conditions.parquet")
    assert list(stored["stopped"]) == list(table["reason"])
    assert list(stored["replications"]) == list(table["replications"])
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert manifest["stopping"] == {
        "targets": [{"measure": "power", "mcse": 0.02, "estimand": "arm", "methods": []}], "least": 200, "most": 600,
    }  # fmt: skip
    assert manifest["replications"] == 600
    assert "power of arm 0.02" in manifest["replications_reason"]


def test_lines_of_conditions_not_decided_yet() -> None:
    rows = [
        StoredCondition(k, "", True, {}, {}, replications=1000, stopped=stopped)
        for k, stopped in enumerate(["met: a", *["maximum: b"] * 5, ""])
    ]
    assert stopping_lines(rows) == [
        "1 of 7 conditions met all targets, after 1,000 replications; 5 reached the maximum, 1,000; 1 is not decided yet, "
        "and counted with the maximum",
        "condition 1: maximum: b", "condition 2: maximum: b", "condition 3: maximum: b",
        "and 2 more (conditions.parquet, column stopped)",
    ]  # fmt: skip
    assert stopping_lines(rows[:1])[1:] == ["condition 0: met: a"]
    assert stopping_lines(rows[-1:]) == [
        "0 of 1 condition met all targets; 1 is not decided yet, and counted with the maximum"
    ]


def test_cli_replications_replaces_the_rule(ruled: dict[str, Any], tmp_path: Path) -> None:
    rule = 'replications = [  # two\n  { target_mcse = 0.02, measure = "power", estimand = "arm" },\n'
    rule += '  { target_mcse = 0.01, measure = "cover", estimand = "arm" },\n]\n'
    text = rule + nl.Study.from_dict({**ruled, "replications": 7}).text.replace("replications = 7\n", "")
    (tmp_path / "s.toml").write_text(text)
    assert len(nl.Study.from_toml(tmp_path / "s.toml").file.stopping.targets) == 2
    words = ["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "r"), "--replications", "50"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    results = nl.Results(tmp_path / "r")
    assert results.asked == (50, 50)
    assert tomllib.loads((tmp_path / "r" / "study.toml").read_text())["replications"] == 50
    assert "stopping" not in results.manifest
    in_python, _ = nl.Study.from_toml(tmp_path / "s.toml").execute(replications=60, out=tmp_path / "r")
    assert in_python.asked == (60, 60)
    assert nl.Results(tmp_path / "r").study.replications == 60


def test_rule_reads_back_from_the_stored_study(ruled: dict[str, Any], tmp_path: Path) -> None:
    for asked in (ruled["replications"], [ruled["replications"], {"target_mcse": 0.04, "measure": "singular"}]):
        file = StudyFile.from_dict({**ruled, "replications": asked})
        assert StudyFile.from_dict(tomllib.loads(file.to_toml())).stopping == file.stopping
        assert file.most_replications == 1500
    assert repr(nl.Study.from_dict(ruled)).startswith("<Study two-arms: 4 conditions x at most 1,500 replications")


def test_solve_has_a_precision_of_its_own(ruled: dict[str, Any], tmp_path: Path) -> None:
    study, said = nl.Study.from_dict({**ruled, "grid": {}}), list[str]()
    options = Options({"power": 0.5}, ["arm"], over=["clusters"], precision=0.3, most=500)
    solved = solve_study(study.file, options, out=tmp_path / "r", jobs=2, tell=said.append)
    assert said[0] == "the study's rule of replications is not used: a search has --precision and --max-replications"
    assert all(trial.n <= 500 for trial in solved.solutions[0].tried)
    assert "stopping" not in nl.Results(tmp_path / "r").manifest


# -- refusals --------------------------------------------------------------------------------------------------------------

KNOWN = "Intercept, arm, var:school:Intercept, var:residual, sd:school:Intercept, sd:residual, icc"
COUNT = "must be a whole number from 100 to 1000000000; write"
TABLES = "must be a whole number >= 1, a table of a target, or a list of such tables; write 2000, say, or "
TABLES += '{ target_mcse = 0.005, measure = "power", estimand = "x" }'
BAD: list[tuple[Any, str]] = [
    ({"target_mcse": 0}, "replications.target_mcse = 0: must be a finite number > 0; write 0.005, say"),
    ({"target_mcse": -0.1}, "replications.target_mcse = -0.1: must be a finite number > 0; write 0.005, say"),
    ({"target_mcse": math.nan}, "replications.target_mcse = nan: must be a finite number > 0; write 0.005, say"),
    (
        {"target_mcse": 0.5},
        "replications.target_mcse = 0.5: must be below 0.05 for power, a share from 0 to 1; write half a percentage point as "
        "0.005",
    ),
    ({"target_mcse": None}, "replications.target_mcse is missing; add target_mcse = 0.005"),
    ({"measure": None}, 'replications.measure is missing; add measure = "power"'),
    ({"measure": "powr"}, '; did you mean "power"?'),
    ({"measure": "none"}, ', selected; use one of these'),
    ({"measure": "none"}, 'replications.measure = "none": must be a measure that has an MCSE, one of mean, median, bias'),
    ({"min": 99}, f"replications.min = 99: {COUNT}"),
    ({"min": 1e3}, f"replications.min = 1000.0: {COUNT} 1000"),
    ({"max": 10**9 + 1}, f"replications.max = 1000000001: {COUNT}"),
    ({"max": True}, f"replications.max = true: {COUNT}"),
    ({"min": 2000}, "replications.min = 2000: must be at most max, 1500; lower it, or raise max"),
    (
        {"min": 200_000, "max": None},
        "replications.min = 200000: must be at most max, 100000 unless it is given; lower it, or raise max",
    ),
    (
        {"max": 500, "min": None},
        "replications.max = 500: must be at least min, 1000 unless it is given; raise it, or lower min",
    ),
    ({"estimand": "arn"}, f'replications.estimand = "arn": the study has {KNOWN}; did you mean "arm"?'),
    ({"estimand": 3}, 'replications.estimand = 3: must be text; write it in quotes'),
    ({"estimand": None}, 'replications.estimand is missing: power is that of an estimand; add estimand = "arm"'),
    (
        {"estimand": "var:residual"},
        'replications.estimand = "var:residual": no method tests it; use one of Intercept, arm',
    ),
    (
        {"measure": "failed"},
        'replications.estimand = "arm": failed is a share of all fits of a method; remove the estimand',
    ),
    ({"method": "rml"}, 'replications.method = "rml": the study has reml, ml; did you mean "reml"?'),
    ({"mim": 300}, 'replications.mim = 300: is no key of a study file; did you mean "min"?'),
]  # fmt: skip
WHOLLY_BAD: list[tuple[Any, str]] = [
    ([], f"replications = []: {TABLES}"),
    ([2000], f"replications = [2000]: {TABLES}"),
    (
        "2000",
        "or a list of such tables; write 2000 without quotes",
    ),
    (
        0,
        "replications = 0: must be a whole number >= 1, a table of a target, or a list of such tables; write 2000, say",
    ),
    (
        [POWER, {**POWER, "max": 3000}],
        "replications.2.max = 3000: must be 1500, as in replications.1: a condition has one number of replications; write max "
        "once",
    ),
    (
        [POWER, {**POWER, "min": 100}],
        "replications.2.min = 100: must be 200, as in replications.1: a condition has one number of replications; write min once",
    ),
    (
        [POWER, {**POWER, "estimand": "z"}],
        f'replications.2.estimand = "z": the study has {KNOWN}; use one of {KNOWN}',
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_refusals_of_a_target(ruled: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    rule = {k: v for k, v in {**POWER, **changes}.items() if v is not None}
    refused({**ruled, "replications": rule}, message)


@pytest.mark.parametrize(("asked", "message"), WHOLLY_BAD, ids=[message[:50] for _, message in WHOLLY_BAD])
def test_refusals_of_replications(ruled: dict[str, Any], asked: Any, message: str) -> None:
    refused({**ruled, "replications": asked}, message)


def refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        nl.Study.from_dict(tables)
    (line,) = caught.value.problems
    assert message in line


def test_a_decision_hangs_on_results_and_how_they_are_judged() -> None:
    """A key of a method that changes no result and no measure leaves decisions as they are."""
    formula = parse_formula("y ~ x + (1 | g)")
    rule = Stopping((StopTarget("power", 0.01, "x"),), 100, 1000)
    contrast = Contrast("c", ((("x", 1.0),),))
    method = Method("m", formula, contrasts=(contrast,))

    def key(**changes: Any) -> str:
        return stop_key(rule, [replace(method, **changes)], "distribution-free")

    assert key(draws=77) == key(select_alpha=0.2) == key()
    others = [
        key(alpha=0.01), key(name="n"), key(reml=False), key(max_failed=0.1),
        key(contrasts=(replace(contrast, null=0.5),)), key(contrasts=(replace(contrast, alternative="less"),)),
        key(contrasts=(replace(contrast, equivalence=(-0.2, 0.2)),)),
    ]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1
