"""A study as a SLURM array: the scripts, the commands, and their submission.

Options go to sbatch as arguments, never through a shell; what stands in a script (paths, which a study file from elsewhere may
name) is quoted for the shell. The merging job waits for the end of the array's tasks, not for their success (afterany): after a
failure it lists what there is and says what is missing, instead of waiting for ever.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cluster import ClusterError
from .files import RefusedError, make_folder, write_whole
from .lock import Owner

__all__ = ["Array", "ranges", "refuse_queued", "submit"]

#: Folder of scripts and logs.
FOLDER = "slurm"
ARRAY, MERGE = "array.sh", "merge.sh"
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Array:
    """What is to be submitted. shards: the numbers, of `of`; at_once: how many run at a time, 0: all; options: for sbatch.

    code: the folders of Python code that jobs may run, None without consent.
    """

    folder: Path
    name: str
    shards: tuple[int, ...]
    of: int
    cpus: int = 1
    at_once: int = 0
    options: tuple[str, ...] = ()
    code: tuple[str, ...] | None = None

    def script(self) -> str:
        """Runs one shard, its number that of the array's task."""
        allow = [] if self.code is None else ["--allow-code"]
        words = ["run", str(self.folder), *allow, "--out", str(self.folder), "--jobs", str(self.cpus), "--shard"]
        return self._script(f'{shlex.join(words)} "$SLURM_ARRAY_TASK_ID/{self.of}"')

    def merge_script(self) -> str:
        """Lists all parts and summarises."""
        return self._script(shlex.join(["merge", str(self.folder)]))

    def _script(self, words: str) -> str:
        path = (
            []
            if self.code is None
            else [f"export PYTHONPATH={shlex.join([os.pathsep.join(self.code)])}${{PYTHONPATH:+:$PYTHONPATH}}"]
        )
        lines = ["#!/bin/sh", f"cd {shlex.quote(os.getcwd())} || exit 1", *path]
        return "\n".join([*lines, f"exec {shlex.quote(sys.executable)} -m nestlab {words}", ""])

    def command(self) -> list[str]:
        """sbatch for the array, after `_START`."""
        limit = f"%{self.at_once}" if self.at_once else ""
        return [
            "sbatch", "--parsable", f"--array={ranges(self.shards)}{limit}", f"--cpus-per-task={self.cpus}",
            *self._common("%A_%a"), str(self._scripts / ARRAY),
        ]  # fmt: skip

    def merge_command(self, array: str) -> list[str]:
        """sbatch for the job that merges, after the array's id is known."""
        return [
            "sbatch", "--parsable", f"--dependency=afterany:{array}", "--cpus-per-task=1", *self._common("%j"),
            str(self._scripts / MERGE),
        ]  # fmt: skip

    @property
    def _scripts(self) -> Path:
        return self.folder / FOLDER

    def _common(self, job: str) -> list[str]:
        """SLURM replaces % in --output, and in --chdir too, where it cannot be doubled: scripts change the folder."""
        log = f"{str(self._scripts).replace('%', '%%')}/{job}.log"
        return [
            f"--job-name=nestlab-{self.name}", "--chdir=/", f"--output={log}", "--open-mode=append",
            "--requeue", *self.options,
        ]  # fmt: skip


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as SLURM has them.

    >>> ranges([1, 2, 3, 7, 9, 10])
    '1-3,7,9-10'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def submit(array: Array) -> dict[str, Any]:
    """Write the scripts and submit both jobs; what the manifest says of it. ClusterError where sbatch refuses."""
    make_folder(array.folder / FOLDER)
    for name, text in ((ARRAY, array.script()), (MERGE, array.merge_script())):
        write_whole(array.folder / FOLDER / name, text.encode())
    owner = Owner.this_process()
    entry: dict[str, Any] = {
        "submitted": datetime.now(UTC).isoformat(), "host": owner.host, "user": owner.user, "shards": array.of,
        "tasks": ranges(array.shards), "options": list(array.options), "array": None, "merge": None,
    }  # fmt: skip
    entry["array"] = _sbatch(array.command())
    try:
        entry["merge"] = _sbatch(array.merge_command(entry["array"]))
    except ClusterError as error:
        entry["error"] = f"the array is submitted as job {entry['array']}, but not the job that merges: {error}"
    return entry


def _sbatch(command: Sequence[str]) -> str:
    """The job's id."""
    found = _call(command)
    if found is None:
        raise ClusterError(
            "there is no sbatch here; submit from a machine of the cluster, or see the scripts by --dry-run"
        )
    if found.returncode != 0:
        lines = [line.removeprefix("sbatch: error: ") for line in found.stderr.strip().splitlines()]
        raise ClusterError(f"sbatch refused the job: {'; '.join(lines)[:500] or 'it gave no reason'}")
    return found.stdout.strip().splitlines()[-1].partition(";")[0]


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    """None where there is no such command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SBATCH_ARRAY")}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]} gave no answer in {PATIENCE:g} s; try again when the cluster is up") from None


def refuse_queued(folder: Path, submissions: Sequence[Mapping[str, Any]]) -> None:
    """RefusedError while jobs that were submitted before are in the queue."""
    queued = []
    jobs = (str(entry[name]) for entry in submissions for name in ("array", "merge") if entry.get(name))
    for job in dict.fromkeys(jobs):
        answer = _call(["squeue", "--noheader", f"--jobs={job}", "--format=%i"]) if job.isdigit() else None
        if answer is not None and answer.returncode == 0 and answer.stdout.strip():
            queued.append(job)
    if queued:
        raise RefusedError(
            f"{folder} has jobs in the queue ({', '.join(queued)}); wait for them, or give them up: "
            f"scancel {' '.join(queued)}"
        )
