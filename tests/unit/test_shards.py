"""Shards: disjoint shares that together are all, run beside one another into one folder, killed, repeated, merged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.run import shard_lock
from nestlab.run.plan import Job, make_jobs
from nestlab.run.shard import Shard, territory
from nestlab.run.shard_lock import at_work, hold_shard, plan_digest
from nestlab.run.shards import merge_shards, plan_shards
from nestlab.show.cli import app


def cli(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout + done.stderr


def jobs_of(tables: dict[str, Any]) -> tuple[list[Job], tuple[Any, ...]]:
    study = nl.Study.from_dict(tables)
    numbers = range(len(study.conditions))
    wanted = dict.fromkeys(numbers, study.file.replications)
    return make_jobs(study.conditions, list(numbers), study.methods, wanted), study.methods


@pytest.fixture
def study(two_arms: dict[str, Any], tmp_path: Path) -> Path:
    """A study file of 4 conditions x 2 methods x 3,000 replications, which is 24 blocks."""
    file = tmp_path / "two-arms.toml"
    file.write_text(nl.Study.from_dict({**two_arms, "replications": 3000}).text)
    return file


@pytest.fixture
def whole(study: Path, tmp_path: Path) -> Path:
    nl.Study.from_toml(study).run(out=tmp_path / "whole")
    return tmp_path / "whole"


# -- who does what ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("replications", [1, 600, 5000])
@pytest.mark.parametrize("sizes", [[10], [5, 80], list(range(4, 40))])
def test_shards_are_disjoint_and_are_all_replicates(
    two_arms: dict[str, Any], of: int, replications: int, sizes: list[int]
) -> None:
    tables = {**two_arms, "replications": replications}
    tables["grid"] = {**two_arms["grid"], "clusters": sizes}
    jobs, methods = jobs_of(tables)
    taken: dict[int, list[tuple[int, int]]] = {job.number: [] for job in jobs}
    for number in range(1, of + 1):
        for condition, ranges in territory(jobs, methods, Shard(number, of)).items():
            taken[condition] += ranges
    for job in jobs:
        ranges = sorted(taken[job.number])
        assert [first for first, _ in ranges] == [0, *(last for _, last in ranges[:-1])]
        assert ranges[-1][1] == replications
        assert all(first % job.condition.block_size == 0 for first, _ in ranges)


def test_shards_have_equal_work(two_arms: dict[str, Any]) -> None:
    """Conditions of 10 and of 200 clusters; ends are those of blocks, a few of which are the difference."""
    tables = {**two_arms, "replications": 100_000, "grid": {**two_arms["grid"], "clusters": [10, 50, 200]}}
    jobs, methods = jobs_of(tables)
    clusters = {job.number: job.condition.layout.clusters for job in jobs}
    work = [
        sum(
            clusters[c] * (last - first)
            for c, ranges in territory(jobs, methods, Shard(i, 16)).items()
            for first, last in ranges
        )
        for i in range(1, 17)
    ]
    assert max(work) < 1.05 * min(work)


def test_many_conditions_are_not_cut_into_many_parts(two_arms: dict[str, Any]) -> None:
    tables = {**two_arms, "replications": 1000, "grid": {**two_arms["grid"], "clusters": list(range(4, 104))}}
    jobs, methods = jobs_of(tables)
    pieces = sum(len(ranges) for i in range(1, 21) for ranges in territory(jobs, methods, Shard(i, 20)).values())
    assert len(jobs) == 400
    assert pieces < 400 + 20


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "1.0/2", "²/4", ""])
def test_other_shards_are_refused(study: Path, text: str) -> None:
    code, said = cli("run", study, "--shard", text)
    assert code == 2
    assert said.startswith("error: shard = ")
    assert "must be i/n with whole numbers 1 <= i <= n" in said
    assert len(said.splitlines()) == 1


# -- results -----------------------------------------------------------------------------------------------------------------


def test_shards_at_the_same_time_equal_a_whole_run(study: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    processes = [killing.start(("run", study, "--out", out, "--shard", f"{i}/3", "--jobs", 1)) for i in (1, 2, 3)]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert not (out / "summary.parquet").exists()
    assert cli("merge", out)[0] == 0
    killing.assert_equal(out, whole)
    runs = json.loads((out / "manifest.json").read_text())["runs"]
    assert sorted(run["shard"] for run in runs) == ["1/3", "2/3", "3/3"]
    assert {run["outcome"] for run in runs} == {"complete"}
    assert sum(run["made"] for run in runs) == 4 * 2 * 3000
    assert not list((out / "shards").iterdir())
    assert not list(out.glob(".*"))


def test_a_whole_run_takes_in_what_shards_left(study: Path, whole: Path, tmp_path: Path) -> None:
    loaded = nl.Study.from_toml(study)
    report = loaded.run_shard("2/3", out=tmp_path / "r")
    assert 0 < report.made < 4 * 2 * 3000
    _, rest = loaded.execute(out=tmp_path / "r")
    assert rest.stored == report.made
    killing.assert_equal(tmp_path / "r", whole)
    runs = json.loads((tmp_path / "r" / "manifest.json").read_text())["runs"]
    assert [run.get("shard") for run in runs] == ["2/3", None]


def test_shards_of_other_numbers_and_more_replications_go_on(study: Path, whole: Path, tmp_path: Path) -> None:
    loaded, out = nl.Study.from_toml(study), tmp_path / "r"
    loaded.run_shard("1/2", out=out, replications=1000)
    made = [loaded.run_shard(f"{i}/5", out=out).made for i in range(1, 6)]
    again = [loaded.run_shard(f"{i}/4", out=out).made for i in range(1, 5)]
    assert sum(made) < 4 * 2 * 3000
    assert sum(again) == 0
    assert merge_shards(out).missing == 0
    killing.assert_equal(out, whole)


def test_a_shard_that_was_killed_goes_on(tmp_path: Path) -> None:
    study, out = tmp_path / "long.toml", tmp_path / "r"
    study.write_text(killing.STUDY.format(replications=60_000))
    words = ("run", study, "--out", out, "--shard", "1/2", "--jobs", 1)
    process = killing.start(words)
    while len(killing.names(out / "replicates")[0]) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    kept = len(killing.names(out / "replicates")[0])
    assert not at_work(out), "a dead shard is not taken for one at work"
    loaded = nl.Study.from_toml(study)
    first = loaded.run_shard("1/2", out=out)
    assert first.stored > 0
    assert kept >= 2
    loaded.run_shard("2/2", out=out)
    assert cli("merge", out)[0] == 0
    loaded.run(out=tmp_path / "whole")
    killing.assert_equal(out, tmp_path / "whole")
    runs = json.loads((out / "manifest.json").read_text())["runs"]
    assert [run["outcome"] for run in runs] == ["running", "complete", "complete"]


def test_methods_that_are_python_code(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """They are cut finer than blocks."""
    tables = {**two_arms, "replications": 130, "grid": {}}
    tables["method"] = [{"name": "reml"}, {"name": "sm", "estimator": "statsmodels"}]
    study = nl.Study.from_dict(tables)
    made = [study.run_shard(f"{i}/2", out=tmp_path / "r", jobs=1).made for i in (1, 2)]
    assert min(made) > 0
    assert merge_shards(tmp_path / "r").missing == 0
    study.run(out=tmp_path / "whole", jobs=1)
    killing.assert_equal(tmp_path / "r", tmp_path / "whole")


# -- merging -----------------------------------------------------------------------------------------------------------------


def test_merge_says_what_is_missing_and_makes_no_summary_of_a_part(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    made = nl.Study.from_toml(study).run_shard("1/3", out=out).made
    code, said = cli("merge", out)
    assert code == 4
    missing = 4 * 2 * 3000 - made
    assert f"{made:,} fits; {missing:,} fits are missing, so there is no summary.parquet yet" in " ".join(said.split())
    assert not (out / "summary.parquet").exists()
    code, said = cli("status", out)
    assert code == 4
    assert f"{made:,} of 24,000 fits" in said


def test_merge_of_no_results(tmp_path: Path) -> None:
    code, said = cli("merge", tmp_path)
    assert code == 3
    assert "holds no results (no manifest.json)" in said


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000])
def test_a_file_that_no_shard_wrote_is_refused(study: Path, tmp_path: Path, content: str) -> None:
    nl.Study.from_toml(study).run_shard("1/3", out=tmp_path / "r")
    file = next((tmp_path / "r" / "shards").iterdir())
    file.write_text(content)
    code, said = cli("merge", tmp_path / "r")
    assert (code, said.splitlines()[-1]) == (3, f"error: {file} is not what a shard writes; remove it and run again")


# -- locks -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_lock, "PATIENCE", 0.0)


@pytest.fixture
def other_shard(study: Path, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Starts shard 1/3 of a long run, as another process."""
    processes = []

    def begin() -> subprocess.Popen[str]:
        words = ("run", study, "--out", tmp_path / "r", "--shard", "1/3", "--jobs", 1, "--replications", 10_000_000)
        processes.append(killing.start(words))
        while not killing.names(tmp_path / "r" / "replicates")[0]:
            assert processes[-1].poll() is None, processes[-1].communicate()
            time.sleep(0.02)
        return processes[-1]

    yield begin  # type: ignore[misc]
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.mark.usefixtures("impatient")
def test_who_else_may_write_beside_a_shard(
    study: Path, tmp_path: Path, other_shard: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, out = other_shard(), tmp_path / "r"
    owner = f"process {process.pid} of "
    code, said = cli("run", study, "--out", out)
    assert code == 3
    assert f"{out} is being written by shard 1/3 ({owner}" in said
    monkeypatch.setattr("nestlab.run.shards.wait_for_shards", lambda folder: None)
    assert cli("merge", out)[0] == 3
    code, said = cli("run", study, "--out", out, "--shard", "1/3", "--replications", 10_000_000)
    assert code == 3
    assert f"is being written by another run ({owner}" in said
    code, said = cli("run", study, "--out", out, "--shard", "2/4", "--replications", 10_000_000)
    assert code == 3
    assert f"is being written by shard 1/3 of another study file or number of shards ({owner}" in said
    code, said = cli("status", out)
    assert code == 4
    assert f"now       running: shard 1/3 ({owner}" in said
    assert json.loads(cli("status", out, "--json")[1])["shards"] == ["1/3"]
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 130
    entry = json.loads(next((out / "shards").iterdir()).read_text())
    assert (entry["shard"], entry["outcome"]) == ("1/3", "interrupted")


@pytest.mark.usefixtures("impatient")
def test_a_shard_waits_for_a_run_and_is_refused_then(study: Path, tmp_path: Path) -> None:
    from nestlab.run.store import Store

    nl.Study.from_toml(study).run_shard("1/3", out=tmp_path / "r")
    with Store(tmp_path / "r").locked():
        code, said = cli("run", study, "--out", tmp_path / "r", "--shard", "2/3")
    assert code == 3
    assert "is being written by another run (process " in said


def test_locks_of_shards_that_are_no_more_are_removed(study: Path, tmp_path: Path) -> None:
    loaded, out = nl.Study.from_toml(study), tmp_path / "r"
    loaded.run_shard("1/3", out=out)
    with hold_shard(out, 2, 3, plan_digest("", 3)):
        old = (out / ".shard-2-of-3.lock").read_text()
    dead = {**json.loads(old), "pid": 2**22 + 1, "born": 1}
    (out / ".shard-2-of-3.lock").write_text(json.dumps(dead))
    assert not at_work(out)
    loaded.run(out=out)
    assert not list(out.glob(".*"))


def test_shards_are_planned_beside_parts_that_no_manifest_lists(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """With max_failed too, which looks at what is stored: parts that are known by their names alone count no failures."""
    study = nl.Study.from_dict({**two_arms, "replications": 600, "max_failed": 0.5})
    file, folder = tmp_path / "study.toml", tmp_path / "r"
    file.write_text(study.text)
    assert cli("run", file, "--out", folder, "--shard", "1/2")[0] == 0
    planned = plan_shards(study.file, folder, text=study.text, of=2, write=False)
    assert list(planned.missing) == [2]


def test_shards_leave_what_others_are_writing(study: Path, tmp_path: Path) -> None:
    loaded, out = nl.Study.from_toml(study), tmp_path / "r"
    loaded.run_shard("1/3", out=out)
    half = out / "replicates" / ".half.tmp"
    half.touch()
    loaded.run_shard("2/3", out=out)
    assert half.exists()
    loaded.run(out=out)
    assert not half.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--repair",), "repair: is for the whole folder; leave out --shard, when no shard is at work"),
        (("--backend", "dask", "--scheduler", "x"), 'backend = "dask": spreads a whole study over machines; leave out'),
    ],
)
def test_what_one_shard_cannot_do(study: Path, words: tuple[str, ...], said: str) -> None:
    code, text = cli("run", study, "--shard", "1/3", *words)
    assert code == 2
    assert said in text


def test_a_job_of_slurm_is_named_in_the_manifest(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3"), ("JOB_ID", "15"), ("RESTART_COUNT", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert cli("run", study, "--out", tmp_path / "r", "--shard", "3/8")[0] == 0
    entry = json.loads(next((tmp_path / "r" / "shards").iterdir()).read_text())
    assert entry["job"] == "slurm 12_3, restart 1"


def test_sums_are_not_kept_in_shards_yet(study: Path, tmp_path: Path) -> None:
    code, said = cli("run", study, "--out", tmp_path / "r", "--shard", "1/3", "--keep", "summary")
    assert code == 2
    assert 'keep = "summary": cannot be run in shards yet; write keep = "replicates"' in said
    assert not (tmp_path / "r").exists()


def test_a_rule_that_stops_is_refused(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """Looks at a condition need all its replicates; a number in the place of the rule is welcome."""
    file, out = tmp_path / "study.toml", tmp_path / "r"
    rule = {"target_mcse": 0.02, "measure": "power", "estimand": "arm", "min": 300, "max": 600}
    file.write_text(nl.Study.from_dict({**two_arms, "replications": rule}).text)
    text = "replications: a rule that stops needs all replicates of a condition in one process"
    for words in (
        ("run", file, "--shard", "1/2", "--out", out),
        ("submit", file, "--slurm", "--array", 2, "--dry-run"),
    ):
        code, said = cli(*words)
        assert (code, text in said) == (2, True), said
    assert cli("run", file, "--shard", "1/2", "--replications", 300, "--out", out)[0] == 0
    assert cli("run", file, "--shard", "2/2", "--replications", 300, "--out", out)[0] == 0
    assert cli("merge", out)[0] == 0
