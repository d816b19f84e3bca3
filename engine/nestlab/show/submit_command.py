"""`nestlab submit`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..run.folder import check_resumable
from ..run.shards import Planned, plan_shards
from ..run.slurm import Array, refuse_queued, submit
from ..spec.problems import StudyError, show
from .api import Study

__all__ = ["Wanted", "submit_command"]

#: Options of sbatch that nestlab sets.
_OURS = ("--array", "--dependency", "--parsable", "--wrap", "--chdir", "--output", "--open-mode", "--cpus-per-task")
_SHORT = {"-a": "--array", "-d": "--dependency", "-D": "--chdir", "-o": "--output", "-c": "--cpus-per-task"}
#: Jobs of an array, at most.
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked of the batch system: jobs, how many at a time (0: all), cores of each, options of sbatch, consent."""

    jobs: int
    at_once: int
    cpus: int
    options: tuple[str, ...]
    code: bool

    @classmethod
    def checked(
        cls, *, slurm: bool, array: str, cpus: int, options: Mapping[str, str | None], sbatch: Sequence[str], code: bool
    ) -> Wanted:
        """StudyError for what cannot be asked."""
        if not slurm:
            raise StudyError(["slurm: must be given, the one batch system that is known so far; add --slurm"])
        found = re.fullmatch(r"(\d{1,6})(?:%(\d{1,6}))?", array, re.ASCII)
        if found is None or not 1 <= int(found[1]) <= MOST or found[2] == "0":
            raise StudyError(
                [f"array = {show(array)}: must be the number of jobs, 1 to {MOST:,}, or N%M; write --array 50 or 50%10"]
            )
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        _check_others(sbatch)
        for word in (*given, *sbatch):
            if not word.isprintable():
                raise StudyError(
                    [f"sbatch option {show(word)}: must be printable text; leave out line ends and the like"]
                )
        return cls(int(found[1]), int(found[2] or 0), cpus, (*given, *sbatch), code)


def _check_others(words: Sequence[str]) -> None:
    """Options after --, none of which may be one that nestlab sets, nor the script."""
    for before, word in zip(("", *words), words, strict=False):
        name = _SHORT.get(word[:2], word.partition("=")[0])
        ours = [own for own in _OURS if len(name) > 3 and own.startswith(name)]  # sbatch takes unique beginnings
        if ours:
            raise StudyError([f"sbatch option {show(word)}: is set by nestlab submit ({ours[0]}); leave it out"])
        if not word.startswith("-") and (not before.startswith("-") or "=" in before):
            raise StudyError([f"sbatch option {show(word)}: must begin with -; write it as --name=value"])
    if words and not words[-1].startswith("-") and len(words) < 2:
        raise StudyError([f"sbatch option {show(words[-1])}: must begin with -; write it as --name=value"])


def submit_command(
    path: Path,
    wanted: Wanted,
    *,
    replications: int | None,
    out: Path | None,
    seed: int | None,
    alpha: float | None,
    dry_run: bool,
) -> None:
    """Prepare the folder and submit what is missing, or print what would be submitted."""
    if path.is_dir():
        check_resumable(path)
        path, out = path / "study.toml", out if out is not None else path
    study = Study.from_toml(path, seed=seed, replications=replications, alpha=alpha)
    folder = (out if out is not None else Path("results") / study.name).absolute()
    if "\\" in str(folder) or not str(folder).isprintable():
        raise StudyError(
            [
                f"out = {show(str(folder))}: must have no \\ and no line ends, which SLURM cannot name; choose another --out"
            ]
        )
    code = tuple(study.code_folders()) if wanted.code else None
    planned = plan_shards(study.file, folder, text=study.text, of=wanted.jobs, code=code, write=not dry_run)
    if not planned.missing:
        print(f"nothing is missing in {folder}; nestlab merge {shlex.quote(str(folder))} summarises it")
        return
    array = Array(
        folder,
        _job_name(study.name),
        tuple(planned.missing),
        wanted.jobs,
        wanted.cpus,
        wanted.at_once,
        wanted.options,
        code,
    )
    if dry_run:
        print("\n".join(_plan(array)))
        return
    with planned.locked() as store:
        submissions = list(store.manifest.get("submissions", []))
        refuse_queued(folder, submissions)
        entry = submit(array)
        store.write_manifest(submissions=[*submissions, entry])
    print("\n".join(_said(array, planned, entry)))


def _job_name(name: str) -> str:
    """A study's name as that of a job: what else stands in it than letters, digits and - _ . becomes _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60]


def _plan(array: Array) -> Iterator[str]:
    """What --dry-run prints."""
    folder = array.folder / "slurm"
    for command, name, script in (
        (array.command(), "array.sh", array.script()),
        (array.merge_command("ARRAY_JOB_ID"), "merge.sh", array.merge_script()),
    ):
        yield f"# {folder / name}"
        yield script
        yield f"# submitted by\n{shlex.join(command)}\n"


def _said(array: Array, planned: Planned, entry: Mapping[str, object]) -> Iterator[str]:
    some = f"{len(array.shards):,} of {array.of:,}" if len(array.shards) < array.of else f"{array.of:,}"
    yield f"job {entry['array']}: {some} shards, {sum(planned.missing.values()):,} fits to be made"
    if entry["merge"] is None:
        yield f"error: {entry.get('error')}; when the array has ended: nestlab merge {shlex.quote(str(array.folder))}"
    else:
        yield f"job {entry['merge']}: merges and summarises when they have ended"
    yield f"results in {array.folder}, logs in its slurm/; nestlab status {shlex.quote(str(array.folder))} says how far it is"
