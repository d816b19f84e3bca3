"""Run one shard of a study beside others, in one results folder; and make one study of what all of them left.

A shard writes parts, which are named by what they hold, and a file of its own that tells of its run: nothing that another shard
writes. The first one that comes prepares the folder (study.toml, conditions.parquet, manifest.json). No shard measures: parts are
listed in the manifest, and summarised, by `merge_shards` or by the next run of the whole study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..fit.own_code import with_code
from ..spec.problems import StudyError
from ..spec.study import StudyFile
from .files import make_folder, read_plain
from .folder import no_results, read_as_run
from .lock import locked
from .log import RunLog
from .parts import named_range
from .plan import Job, plan_tasks
from .rounds import derived_columns
from .runner import Run, RunReport
from .series import Ended, series_of, take_names
from .shard import Shard, Territory, clip, overlaps, territories, territory
from .shard_lock import PATIENCE, entry_path, hold_shard, plan_digest, take_entries, wait_for_shards
from .store import Store, StoredCondition
from .summarise import Summaries
from .telling import Progress, Quiet

__all__ = ["Merged", "Planned", "merge_shards", "plan_shards", "run_shard"]


def run_shard(
    study: StudyFile, folder: Path, *, text: str, replications: int | Mapping[str, int], shard: Shard, jobs: int = -1,
    progress: Progress | None = None, code: Sequence[str] | None = None, more: Mapping[str, Any] | None = None,
    fixed: bool = False,
) -> RunReport:  # fmt: skip
    """Do what is missing of one shard. Other shards of the same study may be at work in the folder, no other run.

    fixed: whether `replications` stands in the place of a rule of the study. more: what else the entry of this run shall say
    (the job of a batch system); everything else as in `run_study`. RefusedError where this shard is at work already, where
    shards of another study or number are, or another run.
    """
    _refuse_undivided(study, fixed=fixed)
    started, progress = datetime.now(UTC), progress or Quiet()
    run = Run(with_code(study, code), folder, text, jobs, progress, {}, None, tuple(code or ()))
    make_folder(folder / "replicates")
    with hold_shard(folder, shard.number, shard.of, plan_digest(text, shard.of)):
        store, todo = _prepare(run, replications)
        methods = run.study.methods()
        own = territory(todo, methods, shard)
        _adopt(store, todo, own)
        tasks = list(clip(plan_tasks(store, todo, methods), own))
        total = len(methods) * sum(last - first for ranges in own.values() for first, last in ranges)
        log = RunLog(
            store, fits=sum(task.fits for task in tasks), jobs=jobs, started=started,
            path=entry_path(folder, shard, started), more={"shard": str(shard), **(more or {})},
        )  # fmt: skip
        log.write()
        progress.start(log.fits, len(own))
        try:
            if tasks:
                run.work(store, log.tick, lambda number: True, log.meter)(tasks)
            log.close(())
        except BaseException as error:
            log.abandon(error)
            raise
        finally:
            progress.stop()
    seconds = (datetime.now(UTC) - started).total_seconds()
    return RunReport(folder, log.meter.made, total - log.fits, seconds)


def _refuse_undivided(study: StudyFile, *, fixed: bool) -> None:
    """What cannot be run in shards. fixed: whether a number of replications is given in the place of the study's."""
    if study.keep != "replicates":
        raise StudyError(
            f'keep = "{study.keep}": cannot be run in shards yet; write keep = "replicates", or run the study as a whole'
        )
    if study.stopping is not None and not fixed:
        raise StudyError(
            "replications: a rule that stops needs all replicates of a condition in one process, and shards divide them; "
            "add --replications N, or run the study as a whole"
        )


def _prepare(run: Run, replications: int | Mapping[str, int]) -> tuple[Store, list[Job]]:
    """The store and what to do of each condition, as a folder that is made ready for shards has them.

    A folder that is ready is not written, so that many shards can start at once.
    """
    store = _checked(run.folder)
    if store.exists and _is_ready(store, run.text):
        stored = store.read_conditions()
        before = store.manifest["methods"]
        rows, todo = run.match(store, replications, [])
        if rows == stored and before == store.manifest["methods"]:
            return store, todo
    run.check()
    with locked(run.folder, patience=PATIENCE):
        store = _checked(run.folder)
        rows, todo = run.match(store, replications, [])
        _write(run, store, rows, todo)
    return store, todo


def _write(run: Run, store: Store, rows: Sequence[StoredCondition], todo: Sequence[Job]) -> None:
    asked = max(job.replications for job in todo)
    store.manifest |= run.facts(asked, asked, store)
    store.write_conditions(rows, derived_columns(todo, rows))
    store.write_study(run.text)
    store.write_manifest()


def _checked(folder: Path) -> Store:
    store = Store(folder)
    store.check()
    return store


def _is_ready(store: Store, text: str) -> bool:
    try:
        return read_plain(store.folder / "study.toml") == text.encode()
    except FileNotFoundError:
        return False


def _adopt(store: Store, todo: Sequence[Job], own: Territory) -> None:
    """Take in the parts that hold any of a shard's replicates; those of others, which may be many, are not opened."""
    keys = {(job.number, key[:12]) for job in todo for key in job.result_keys}
    for file in sorted(store.files()):
        named = named_range(file)
        if named is None or file in store.parts or named[:2] not in keys:
            continue
        if overlaps(own, named[0], named[2], named[3]):
            store.adopt(file)


@dataclass(frozen=True, slots=True)
class Planned:
    """A study that is to be run in `of` shards. missing: fits by the number of the shard, of those that miss any."""

    folder: Path
    of: int
    missing: Mapping[int, int]

    @contextmanager
    def locked(self) -> Iterator[Store]:
        """The folder, for a change of its manifest while no run is at work."""
        store = Store(self.folder)
        with store.locked():
            store.reread()
            yield store


def plan_shards(
    study: StudyFile, folder: Path, *, text: str, of: int, code: Sequence[str] | None = None, write: bool = True
) -> Planned:
    """Make a folder ready for shards, and say what each misses. write: False to look only, and leave the folder as it is.

    Raises what `run_study` raises.
    """
    _refuse_undivided(study, fixed=False)
    run = Run(with_code(study, code), folder, text, 1, Quiet(), {}, None, tuple(code or ()))
    run.check()
    if not write:
        store = _checked(folder)
        todo = run.match(store, study.most_replications, [])[1]
    else:
        make_folder(folder / "replicates")
        with Store(folder).locked():
            store = _checked(folder)
            rows, todo = run.match(store, study.most_replications, [])
            _write(run, store, rows, todo)
    methods = run.study.methods()
    take_names(store, [series for job in todo for series in job.series(store, methods)])
    tasks = list(plan_tasks(store, todo, methods))
    fits = [sum(task.fits for task in clip(tasks, own)) for own in territories(todo, methods, of)]
    missing = {number: lost for number, lost in enumerate(fits, start=1) if lost}
    return Planned(folder, of, missing)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge found: fits by how many asked for are missing, conditions that ended early, parts now listed."""

    folder: Path
    stored: int
    missing: int
    parts: int
    ended: tuple[Ended, ...] = ()


def merge_shards(folder: Path, progress: Progress | None = None) -> Merged:
    """List all parts in the manifest, and write the summary if nothing is missing.

    Waits for shards that show signs of life. RefusedError where they go on, where another run writes, and for parts that are
    damaged or hold the same replicates; nothing is computed.
    """
    progress = progress or Quiet()
    wait_for_shards(folder)
    store = Store(folder)
    if not store.exists:
        raise no_results(folder)
    with store.locked():
        store.reread()
        store.check()
        store.adopt_unlisted()
        take_entries(store)
        study, rows = read_as_run(store)
        methods = study.methods()
        every = list(series_of(store, rows, methods))
        missing = sum(series.missing for series in every)
        stored = sum(series.wanted for series in every) - missing
        ended = [series.end for series in every if series.end is not None]
        if not missing:
            progress.stage("measuring")
            store.write_summary(Summaries(store, rows, methods, study.mcse, None).table())
        store.write_manifest(ended_early=[end.entry() for end in ended])
    return Merged(folder, stored, missing, len(store.parts), tuple(ended))
