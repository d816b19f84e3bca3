"""Bit-identical replicates whatever the workers, order, interruption, extension or neighbours in the grid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import nestlab as nl
from nestlab.run.block import compile_condition
from nestlab.run.runner import run_study
from nestlab.run.telling import Quiet
from nestlab.spec.identity import data_key


def rows(results: nl.Results, **wanted: Any) -> pd.DataFrame:
    """Replicates of the conditions with these factor values, without the condition's number."""
    frame = results.replicates()
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    order = [c for c in results.conditions().columns if c in frame and not c.startswith("true.") and c != "condition"]
    frame = frame.sort_values([*order, "method", "replicate"]).drop(columns="condition").reset_index(drop=True)
    return frame[sorted(frame.columns)]


def test_run_jobs(two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(two_arms)
    one = study.run(out=tmp_path / "one", jobs=1)
    two = study.run(out=tmp_path / "two", jobs=2)
    assert_frame_equal(rows(one), rows(two), check_exact=True)
    assert_frame_equal(one.summary(), two.summary(), check_exact=True)


def test_run_extended(slope: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(slope)
    study.run(out=tmp_path / "grown", replications=500)
    first = {p.name: p.read_bytes() for p in (tmp_path / "grown" / "replicates").iterdir()}
    grown = study.run(out=tmp_path / "grown", replications=2000)
    whole = study.run(out=tmp_path / "whole", replications=2000)
    assert_frame_equal(rows(grown), rows(whole), check_exact=True)
    assert_frame_equal(grown.summary(), whole.summary(), check_exact=True)
    kept = {p.name: p.read_bytes() for p in (tmp_path / "grown" / "replicates").iterdir()}
    assert first.items() <= kept.items(), "extending adds parts and touches none"
    assert len(kept) == 2


def test_run_new_level_in_the_middle(two_arms: dict[str, Any], tmp_path: Path, changed: Any) -> None:
    before = nl.Study.from_dict(two_arms).run(out=tmp_path / "r")
    numbers = before.conditions().set_index(["icc", "truth.fixed.arm"])["condition"]
    old = rows(before)
    after = nl.Study.from_dict(changed(two_arms, {"grid/icc": [0.05, 0.15, 0.3]})).run(out=tmp_path / "r")
    new = after.conditions().set_index(["icc", "truth.fixed.arm"])["condition"]
    assert_frame_equal(old, rows(after)[rows(after)["icc"] != 0.15].reset_index(drop=True), check_exact=True)
    assert (new[numbers.index] == numbers).all(), "numbers are given once"
    assert sorted(new.drop(numbers.index)) == [4, 5]


def test_run_one_fit_does_not_depend_on_its_neighbours(slope: dict[str, Any]) -> None:
    study = nl.Study.from_dict(slope)
    compiled = compile_condition(study.conditions[0], study.methods)
    draw = compiled.draw(0)
    many = compiled.analyses[0].fit(draw, 0, 40)
    one = compiled.analyses[0].fit(draw, 17, 18)
    assert many.deviance[17] == one.deviance[0]
    assert (many.beta[17] == one.beta[0]).all()


def test_run_second_time_does_nothing(two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(two_arms)
    study.run(out=tmp_path / "r")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r" / "replicates").iterdir()}
    _, report = study.execute(out=tmp_path / "r")
    assert (report.made, report.stored) == (0, 4 * 2 * 600)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "r" / "replicates").iterdir()}


def test_run_removed_condition_and_method_stay_inactive(two_arms: dict[str, Any], tmp_path: Path, changed: Any) -> None:
    nl.Study.from_dict(two_arms).run(out=tmp_path / "r")
    files = {p.name for p in (tmp_path / "r" / "replicates").iterdir()}
    less = changed(two_arms, {"grid/icc": [0.3], "method": two_arms["method"][:1]})
    results = nl.Study.from_dict(less).run(out=tmp_path / "r")
    assert {p.name for p in (tmp_path / "r" / "replicates").iterdir()} == files
    assert set(results.summary()["method"]) == {"reml"}
    assert set(results.summary()["condition"]) == {2, 3}
    again, report = nl.Study.from_dict(two_arms).execute(out=tmp_path / "r")
    assert report.made == 0
    assert len(again.conditions()) == 4


class StopAfter(Quiet):
    """Progress that interrupts the run after some fits, as Ctrl-C does."""

    def __init__(self, fits: int) -> None:
        self.left = fits

    def advance(self, fits: int) -> None:
        self.left -= fits
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_interrupted_and_resumed(two_arms: dict[str, Any], tmp_path: Path, jobs: int) -> None:
    study = nl.Study.from_dict(two_arms)
    with pytest.raises(KeyboardInterrupt):
        study.run(out=tmp_path / "r", jobs=jobs, progress=StopAfter(4000))
    assert nl.Results(tmp_path / "r").missing() > 0
    assert not list((tmp_path / "r" / "replicates").glob(".*"))
    resumed, report = study.execute(out=tmp_path / "r")
    assert 0 < report.made < 4 * 2 * 600
    assert_frame_equal(rows(resumed), rows(study.run(out=tmp_path / "whole")), check_exact=True)


STUDY = """
name = "long"
seed = 3
replications = 2000000
[design]
clusters = 40
cluster_size = 5
[grid]
icc = [0.05, 0.1, 0.2, 0.3]
[truth]
formula = "y ~ 1 + arm + (1 | school)"
fixed = { Intercept = 2, arm = 0.5 }
residual_variance = 1
[truth.random.school]
variance = { Intercept = 0.2 }
[predictors.arm]
level = 2
distribution = "balanced"
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_run_stopped_by_a_signal(tmp_path: Path, name: str) -> None:
    study = tmp_path / "long.toml"
    study.write_text(STUDY)
    command = [sys.executable, "-m", "nestlab", "run", str(study), "--out", str(tmp_path / "r"), "--jobs", "2"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "r" / "replicates").glob("c*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if name == "SIGINT" else -signal.SIGKILL)
    assert "Traceback" not in errors
    if name == "SIGINT":
        assert (
            errors.splitlines()[-1]
            == "error: interrupted; finished parts are kept, the same command goes on from there"
        )
        assert not list((tmp_path / "r" / "replicates").glob(".*"))
    stored = len(list((tmp_path / "r" / "replicates").glob("c*.parquet")))
    assert stored > 0
    before = {p: p.read_bytes() for p in (tmp_path / "r" / "replicates").glob("c*.parquet")}
    shorter = nl.Study.from_toml(study, replications=200_000)
    _, report = shorter.execute(out=tmp_path / "r")
    assert report.stored > 0
    assert report.made + report.stored == 4 * 200_000
    assert before == {p: p.read_bytes() for p in before}


def test_conditions_may_have_different_numbers_of_replications(two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(two_arms)
    asked = {data_key(condition): 40 + 30 * k for k, condition in enumerate(study.conditions)}
    assert len(asked) > 1
    run_study(study.file, tmp_path / "own", text=study.text, replications=asked)
    own, whole = nl.Results(tmp_path / "own"), study.run(out=tmp_path / "whole", replications=max(asked.values()))
    found, every = own.replicates(), whole.replicates()
    assert list(found[found["method"] == found["method"][0]].groupby("condition").size()) == list(asked.values())
    kept = every[every["replicate"] < every["condition"].map(dict(enumerate(asked.values())))].reset_index(drop=True)
    assert_frame_equal(found, kept, check_exact=True)
    assert own.missing() == 0
    assert own.replications == max(asked.values())
    assert set(own.summary().query("measure == 'mean'")["n"]) == set(asked.values())
