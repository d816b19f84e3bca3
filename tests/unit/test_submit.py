"""nestlab submit: what would be submitted, how it is quoted, and what sbatch is asked, which a script plays."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.run.slurm import Array, ranges
from nestlab.show.cli import app

ODD = """o'dd "fol der" $HOME `id` %j ;& * ü"""


def cli(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout + done.stderr


@pytest.fixture
def study(two_arms: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "two-arms.toml"
    file.write_text(nl.Study.from_dict({**two_arms, "replications": 2000}).text)
    return file


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch and squeue that note their arguments in a file each and answer what `answers` holds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, answer in (("sbatch", "77"), ("squeue", "")):
        (folder / name).write_text(
            f'#!/bin/sh\nprintf "%s\\0" "$@" >> {folder}/{name}.calls\nprintf "\\n" >> {folder}/{name}.calls\n'
            f"cat {folder}/{name}.err >&2 2>/dev/null && exit 1\ncat {folder}/{name}.out\n"
        )
        (folder / name).chmod(0o755)
        (folder / f"{name}.out").write_text(answer)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def calls(slurm: Path, name: str) -> list[list[str]]:
    file = slurm / f"{name}.calls"
    return [line.split("\0")[:-1] for line in file.read_text().splitlines()] if file.exists() else []


def test_an_array_and_a_job_that_waits_for_it_are_submitted(study: Path, slurm: Path, tmp_path: Path) -> None:
    out = tmp_path / ODD
    options = ("--time", "2:00:00", "--partition", "main", "--mem", "4G", "--account", "a b", "--cpus", 2)
    code, said = cli(
        "submit", study, "--slurm", "--array", "5%3", *options, "--out", out, "--", "--comment=it's; $x", "-J", "j"
    )
    assert code == 0, said
    array, merge = calls(slurm, "sbatch")
    common = ["--time=2:00:00", "--partition=main", "--mem=4G", "--account=a b", "--comment=it's; $x", "-J", "j"]
    log = str(out).replace("%", "%%") + "/slurm/"
    assert array == [
        "--parsable", "--array=1-5%3", "--cpus-per-task=2", "--job-name=nestlab-two-arms", "--chdir=/",
        f"--output={log}%A_%a.log", "--open-mode=append", "--requeue", *common, f"{out}/slurm/array.sh",
    ]  # fmt: skip
    assert merge[:3] == ["--parsable", "--dependency=afterany:77", "--cpus-per-task=1"]
    assert merge[-1] == f"{out}/slurm/merge.sh"
    assert "job 77: 5 shards, 16,000 fits to be made" in said
    entry = json.loads((out / "manifest.json").read_text())["submissions"][0]
    assert (entry["array"], entry["merge"], entry["shards"], entry["tasks"]) == ("77", "77", 5, "1-5")
    assert entry["options"] == common


def test_the_level_of_the_tests_goes_with_the_folder(study: Path, slurm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("submit", study, "--slurm", "--array", "2", "--alpha", "0.01", "--out", out)[0] == 0
    assert {method.alpha for method in nl.Study.from_toml(out / "study.toml").file.methods()} == {0.01}


def test_the_scripts_run_in_folders_of_any_name(study: Path, slurm: Path, tmp_path: Path) -> None:
    """As sh reads them, without a batch system; then only what is missing is submitted again, and in the end nothing."""
    out = tmp_path / ODD
    words = ("submit", study, "--slurm", "--array", "2", "--out", out)
    assert cli(*words)[0] == 0
    script = out / "slurm" / "array.sh"
    for number in "12":
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": number}
        done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        code, said = cli(*words)
        assert code == 0
        if number == "1":
            assert calls(slurm, "sbatch")[-2][1] == "--array=2"
            assert "1 of 2 shards" in said
    assert f"nothing is missing in {out}; nestlab merge {shlex.quote(str(out))}" in said
    assert len(calls(slurm, "sbatch")) == 4
    done = subprocess.run(["sh", out / "slurm" / "merge.sh"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    nl.Study.from_toml(study).run(out=tmp_path / "whole")
    killing.assert_equal(out, tmp_path / "whole")


def test_dry_run_prints_both_scripts_and_writes_nothing(study: Path, slurm: Path, tmp_path: Path) -> None:
    out = tmp_path / ODD
    code, said = cli("submit", study, "--slurm", "--array", "4", "--out", out, "--dry-run")
    assert code == 0
    assert not out.exists()
    assert not calls(slurm, "sbatch")
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("sbatch ")]
    assert [words[2] for words in commands] == ["--array=1-4", "--dependency=afterany:ARRAY_JOB_ID"]
    assert [words[-1] for words in commands] == [f"{out}/slurm/array.sh", f"{out}/slurm/merge.sh"]
    work = next(line for line in said.splitlines() if line.startswith("exec ") and " run " in line)
    assert shlex.split(work)[4:] == [
        "run", str(out), "--out", str(out), "--jobs", "1", "--shard", "$SLURM_ARRAY_TASK_ID/4",
    ]  # fmt: skip


def test_code_is_found_where_the_study_is(tmp_path: Path) -> None:
    array = Array(tmp_path, "s", (1,), 1, code=("/the study's", "/here"))
    printed = subprocess.run(
        ["sh", "-c", array.script().rpartition("exec")[0] + 'echo "$PYTHONPATH"'],
        env={"PYTHONPATH": "/before"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout == "/the study's:/here:/before\n"
    assert "--allow-code" in array.script()
    assert "--allow-code" not in array.merge_script()


@pytest.mark.usefixtures("slurm")
def test_without_consent_no_code_is_submitted(two_arms: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    methods = [{"name": "own", "estimator": "function", "function": "os:getcwd"}]
    file.write_text(nl.Study.from_dict({**two_arms, "method": methods}).text)
    code, said = cli("submit", file, "--slurm", "--array", "5", "--out", tmp_path / "r")
    assert code == 2
    assert "needs your consent" in said


def test_jobs_in_the_queue_are_not_submitted_again(study: Path, slurm: Path, tmp_path: Path) -> None:
    words = ("submit", study, "--slurm", "--array", "5", "--out", tmp_path / "r")
    assert cli(*words)[0] == 0
    (slurm / "squeue.out").write_text("77_[1-5]\n")
    code, said = cli(*words)
    assert code == 3
    assert "has jobs in the queue (77); wait for them, or give them up: scancel 77" in said
    assert calls(slurm, "squeue")[-1] == ["--noheader", "--jobs=77", "--format=%i"]
    assert len(calls(slurm, "sbatch")) == 2


def test_what_sbatch_says_is_passed_on(study: Path, slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch.err").write_text(
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job failed\n"
    )
    code, said = cli("submit", study, "--slurm", "--array", "5", "--partition", "x", "--out", tmp_path / "r")
    assert code == 1
    assert said == "error: sbatch refused the job: invalid partition specified: x; Batch job failed\n"


def test_without_sbatch(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = cli("submit", study, "--slurm", "--array", "5", "--out", tmp_path / "r")
    assert code == 1
    assert said.startswith(
        "error: there is no sbatch here; submit from a machine of the cluster, or see the scripts by --dry-run"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--array", "5"), "slurm: must be given"),
        (("--slurm",), 'array = "": must be the number of jobs, 1 to 100,000, or N%M'),
        (("--slurm", "--array", "0"), 'array = "0": must be'),
        (("--slurm", "--array", "5%0"), 'array = "5%0": must be'),
        (("--slurm", "--array", "1-5"), 'array = "1-5": must be'),
        (
            ("--slurm", "--array", "5", "--", "--array=3"),
            'sbatch option "--array=3": is set by nestlab submit (--array)',
        ),
        (("--slurm", "--array", "5", "--", "--depend=x"), "is set by nestlab submit (--dependency)"),
        (("--slurm", "--array", "5", "--", "-o", "x"), "is set by nestlab submit (--output)"),
        (("--slurm", "--array", "5", "--", "-ox"), "is set by nestlab submit (--output)"),
        (("--slurm", "--array", "5", "--", "--wrap", "rm"), "is set by nestlab submit (--wrap)"),
        (("--slurm", "--array", "5", "--", "evil.sh"), 'sbatch option "evil.sh": must begin with -'),
        (("--slurm", "--array", "5", "--", "--mem=4G", "evil.sh"), 'sbatch option "evil.sh": must begin with -'),
        (("--slurm", "--array", "5", "--partition", "a\nb"), "must be printable text"),
        (("--slurm", "--array", "5", "--out", "a\\b"), "must have no \\ and no line ends"),
    ],
)
def test_what_is_not_submitted(study: Path, slurm: Path, words: tuple[str, ...], said: str) -> None:
    code, text = cli("submit", study, *words)
    assert code == 2
    assert said in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    assert not calls(slurm, "sbatch")


def test_numbers_as_slurm_has_them() -> None:
    assert ranges([5]) == "5"
    assert ranges([1, 2, 3, 5, 8, 9]) == "1-3,5,8-9"
