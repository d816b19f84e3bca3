"""A real SLURM, of one node (`one_node.sh start`, from Debian's packages): an array, one task of which is cancelled and requeued.

Skipped where no cluster is up. A requeued task waits about two minutes, by SLURM's own rule.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import killing
import nestlab as nl

pytestmark = pytest.mark.slurm
PATIENCE = 600.0


def call(*words: object, check: bool = True) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


def is_up() -> bool:
    if not all(map(shutil.which, ("sbatch", "sinfo", "scancel", "scontrol"))):
        return False
    with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
        return any(
            state.strip("*~#!%$@^-") in ("idle", "mixed", "allocated") for state in call("sinfo", "-ho", "%T").split()
        )
    return False


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, call("squeue")
        time.sleep(0.1)


def state(job: str) -> str:
    return call("squeue", "-ho", "%T", f"--jobs={job}", check=False).strip()


@pytest.mark.skipif(not is_up(), reason="no SLURM cluster is up: tests/slurm/one_node.sh start")
def test_an_array_of_8_with_a_task_cancelled_and_requeued_equals_a_local_run(tmp_path: Path) -> None:
    study, out = tmp_path / "long.toml", tmp_path / "it's a folder, 100 %j"
    study.write_text(killing.STUDY.format(replications=200_000))
    words = ("submit", study, "--slurm", "--array", 8, "--time", "0:20:00", "--out", out)
    call(*killing.command(*words))
    submission = json.loads((out / "manifest.json").read_text())["submissions"][0]
    task = f"{submission['array']}_1"
    mine = f"c*-{'0' * 9}-*.parquet"
    wait(lambda: list((out / "replicates").glob(mine)))  # the first shard has the first replicates
    assert state(task) == "RUNNING"
    call("scancel", task)
    call("scontrol", "requeue", task)
    refused = subprocess.run(killing.command(*words), capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 3
    assert "has jobs in the queue" in refused.stderr
    wait(lambda: not state(submission["merge"]))
    log = (out / "slurm" / f"{task}.log").read_text()
    assert "CANCELLED" in log
    assert "shard 1/8: " in log, "it ran again"
    assert "were stored already" in log, "and went on from where it was"
    nl.Study.from_toml(study).run(out=tmp_path / "local")
    assert (out / "summary.parquet").exists(), (out / "slurm" / f"{submission['merge']}.log").read_text()
    killing.assert_equal(out, tmp_path / "local")
    runs = json.loads((out / "manifest.json").read_text())["runs"]
    assert sorted(run["shard"] for run in runs) == sorted([*(f"{i}/8" for i in range(1, 9)), "1/8"])
    assert f"slurm {task}, restart 1" in [run["job"] for run in runs]
    again = call(*killing.command(*words))
    assert again.startswith("nothing is missing in ")
    assert os.listdir(out / "shards") == []
