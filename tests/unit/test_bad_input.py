"""Input that no study means: exit code 2 and one line, whatever the command and however it got in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.show.cli import main
from nestlab.spec.cost import parse_cost
from nestlab.spec.problems import StudyError
from nestlab.spec.reading import read_toml
from nestlab.spec.study import StudyFile

STUDY = """\
name = "ok"
seed = 1
replications = 64
[design]
clusters = 20
cluster_size = 10
[truth]
formula = "y ~ x + (1 | g)"
fixed = { Intercept = 0, x = 0.3 }
residual_variance = 1
random.g.variance.Intercept = 0.2
[predictors.x]
level = 2
distribution = "balanced"
"""
DIGITS = "9" * 5000
DEEP = "must have at most 30 tables or lists within one another; remove the inner ones"
LONG = "aa"  # names that are too long begin like this, and are cut


def one_line(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints: a line, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["nestlab", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr()
    assert caught.value.code == 2, shown
    lines = shown.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 500
    return lines[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (STUDY + f"\n[grid]\nclusters = {'[' * 5000}{']' * 5000}\n", DEEP),
        (STUDY + f"\n[grid]\nclusters = {'[' * 40}{']' * 40}\n", DEEP),
        (f"a = {'{b = ' * 5000}1{'}' * 5000}\n", DEEP),
        (STUDY + f"\n{'.'.join(['a'] * 20_000)} = 1\n", DEEP),
        (STUDY + f"\n[{'.'.join(['a'] * 20_000)}]\n", DEEP),
        (STUDY.replace("seed = 1", f"seed = {DIGITS}"), "has a whole number of more than 4,300 digits"),
        (
            STUDY.replace("seed = 1", f"seed = 0x{'f' * 5000}"),
            "study: has a whole number of 6,021 digits; write a shorter one",
        ),
        (STUDY.replace("x = 0.3", f"x = {'9' * 4000}"), "must be a finite number; write 0.5, say"),
        (STUDY + f'\n[grid]\n"{"a" * 100_000}" = [1, 2]\n', "aaa ... = [1, 2]: names nothing"),
    ],
    ids=[
        "lists",
        "lists that are read",
        "tables",
        "dots",
        "a table's dots",
        "digits",
        "hexadecimal",
        "4000",
        "a long key",
    ],
)
def test_a_file_that_only_breaks_a_reader(
    text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bomb.toml").write_text(text)
    assert fault in one_line(["run", str(tmp_path / "bomb.toml")], monkeypatch, capsys)


def test_dictionaries_are_checked_as_files_are() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(StudyError, match=DEEP):
        StudyFile.from_dict({"grid": {"clusters": deep}})
    with pytest.raises(StudyError, match=r"has a whole number of 5,001 digits"):
        StudyFile.from_dict({"seed": 10**5000})


def test_a_file_too_large_for_a_study(tmp_path: Path) -> None:
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(10**9 + 1)
    with pytest.raises(StudyError, match=r"large\.toml: must have at most 1 GB; name the file of a study"):
        read_toml(tmp_path / "large.toml")


@pytest.mark.parametrize(
    "cost", ["9**9**9*clusters", "clusters**9**9**9", "0/0*clusters", f"{'9' * 900}*clusters", "clusters/0"]
)
def test_costs_that_overflow(cost: str) -> None:
    """Python's own numbers raise where arrays give infinity; warnings are errors in these tests."""
    with pytest.raises(StudyError, match="must be a finite number >= 0 for every design; correct the formula"):
        parse_cost(cost)(clusters=20, cluster_size=5)


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            [command, "a" * 300]
            for command in ("run", "summary", "plot", "report", "status", "verify", "merge", "failures")
        ),
        *([command, "a" * 300] for command in ("table", "compare", "simulate")),
        ["run", f"{'a' * 300}.toml"],
        ["run", "ok.toml", "--out", "a" * 300],
        ["run", "ok.toml", "--out", "aaaa/" * 2000],
        ["solve", "ok.toml", "--power", "0.8", "--over", "clusters", "--out", "a" * 300],
        ["submit", "ok.toml", "--slurm", "--array", "2", "--out", "a" * 300],
        ["simulate", "ok.toml", "--condition", "0", "--replicate", "0", "--out", f"{'a' * 300}.csv"],
        ["new", f"{'a' * 300}.toml", "--yes"],
        ["fit", f"{'a' * 300}.csv", "y ~ 1 + (1 | g)"],
    ],
    ids=lambda arguments: " ".join(word[:9] for word in arguments),
)
def test_names_that_are_too_long(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ok.toml").write_text(STUDY)
    if arguments[0] == "simulate" and len(arguments) == 2:
        arguments = [*arguments, "--condition", "0", "--replicate", "0", "--out", "x.csv"]
    shown = one_line(arguments, monkeypatch, capsys)
    assert LONG in shown
    assert "too long" in shown
    assert sorted(os.listdir()) == ["ok.toml"]


def test_a_folder_within_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ok.toml").write_text(STUDY)
    for out in ("ok.toml", "ok.toml/results"):
        shown = one_line(["run", "ok.toml", "--out", out], monkeypatch, capsys)
        assert "is no folder; correct it" in shown


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["run", "ok.toml", "--replications", DIGITS], "'--replications'"),
        (["run", "ok.toml", "--seed", DIGITS], "'--seed'"),
        (["run", "ok.toml", "--jobs", "x"], "'--jobs'"),
        (["run"], "Missing argument"),
        (["run", "--foo"], "No such option: --foo"),
        (["rnu"], "No such command 'rnu'"),
    ],
    ids=["replications", "seed", "jobs", "argument", "option", "command"],
)
def test_options_that_cannot_be_read(
    arguments: list[str], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = one_line(arguments, monkeypatch, capsys)
    assert fault in shown
    assert shown.endswith("--help says what is possible")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = command.replace("nestlab", f"'{sys.executable}' -m nestlab")
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=folder, timeout=120, check=False)


def test_closed_streams(tmp_path: Path) -> None:
    """Nothing to read is as good as a file that ends; an output that nobody can read is refused before anything is done."""
    (tmp_path / "ok.toml").write_text(STUDY)
    done = shell("nestlab new made.toml <&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "made.toml").exists()
    for command in ("run ok.toml", "new other.toml --yes", "--help"):
        done = shell(f"nestlab {command} >&-", tmp_path)
        assert done.returncode == 2
        assert done.stderr == "error: standard output is closed; open it, or send it to a file or to /dev/null\n"
    assert sorted(os.listdir(tmp_path)) == ["made.toml", "ok.toml"]
    assert shell("nestlab fit none.csv 'y ~ 1 + (1 | g)' 2>&-", tmp_path).returncode == 2
