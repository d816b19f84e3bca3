"""Run a study: find what is missing, simulate and fit it in parallel, keep it, and measure it.

Whoever stops a run loses the parts that were not finished, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..fit.own_code import with_code
from ..simulate.fittable import check_fittable
from ..simulate.possible import check_possible
from ..spec.estimands import study_estimands
from ..spec.identity import DRAW_VERSION, NUMERICS_VERSION
from ..spec.stopping import Stopping
from ..spec.study import StudyFile
from .cluster import Cluster
from .early import Ended, find_ends
from .files import RefusedError
from .folder import study_facts
from .log import RunLog
from .manifest import machine, software
from .names import other_names
from .plan import Job, Task, make_jobs, match_conditions, match_methods
from .repair import read_or_recover, repair_parts, set_aside_manifest
from .rounds import Rounds, as_asked
from .shard_files import take_entries
from .store import Store, StoredCondition
from .summarise import Known
from .sums import check_sums
from .telling import Meter, Progress, Quiet

__all__ = ["Run", "RunReport", "run_study"]

#: What the manifest says of a search for a design, or of a rule that stops, and no longer when the folder is run in another way.
_OF_A_SEARCH = ("solve", "replications_reason", "stopping", "own_replications")


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did: fits made now, fits found stored, seconds, and where the results are.

    ended: conditions that ended early, by a method; repaired: a line about each thing that was mended.
    """

    folder: Path
    made: int
    stored: int
    seconds: float
    ended: tuple[Ended, ...] = ()
    repaired: tuple[str, ...] = ()


def run_study(
    study: StudyFile, folder: Path, *, text: str, replications: int | Mapping[str, int] | Stopping, jobs: int = -1,
    progress: Progress | None = None, entries: Mapping[str, Any] | None = None, known: Known | None = None,
    code: Sequence[str] | None = None, repair: bool = False, cluster: Cluster | None = None,
) -> RunReport:  # fmt: skip
    """Do what is missing of `replications` replicates of every condition, and write the summary.

    replications: of all conditions, of each by its data key, or the rule by which each stops. entries: what else the manifest
    shall say. known: measures that a run of the same study made, not to be made again. code: consent to run the functions that
    methods name, with the folders where their modules are looked for first (`own_code`); without it a study that has any is
    refused by a StudyError. jobs: worker threads, -1 for all cores. repair: check every part, and compute those anew that are
    damaged. cluster: workers of other machines to compute by, instead of threads. Raises RefusedError where stored results don't
    fit the study, are damaged or are being written, StorageError where they cannot be written, StudyError where no data can be as
    the study says; KeyboardInterrupt passes through after finished parts and the manifest are safe.
    """
    run = Run(
        with_code(study, code), folder, text, jobs, progress or Quiet(), dict(entries or {}), known, tuple(code or ()),
        cluster,
    )  # fmt: skip
    check_possible(run.study.conditions())
    check_fittable(run.study.conditions(), run.study.methods())
    mended = set_aside_manifest(folder) if repair else []
    store = Store(folder)
    store.keep(study.keep)
    with store.locked():
        store.reread()
        store.forget_missing()
        if repair:
            mended += repair_parts(store)
        elif damaged := store.damaged():
            raise RefusedError(store.altered(damaged))
        store.adopt_unlisted()
        take_entries(store)
        return run(store, replications, mended)


@dataclass(frozen=True)
class Run:
    """One run of a study into a folder that is locked: `Run(...)(store, replications, mended)`."""

    study: StudyFile
    folder: Path
    text: str
    jobs: int
    progress: Progress
    entries: dict[str, Any]
    known: Known | None
    code: tuple[str, ...]
    cluster: Cluster | None = None

    def __call__(self, store: Store, replications: int | Mapping[str, int] | Stopping, mended: list[str]) -> RunReport:
        started = datetime.now(UTC)
        study, methods = self.study, self.study.methods()
        rows, todo = self.match(store, replications, mended)
        asked = max(row.replications for row in rows if row.active)
        store.manifest |= self.facts(replications, asked, store)
        store.write_study(self.text)
        rounds = Rounds(store, rows, todo, methods, replications, mcse=study.mcse, known=self.known)
        store.write_manifest()  # before anything is computed: who reads now finds files of one moment
        tasks = rounds.next()
        measured = not tasks and self.known is None and store.has_summary()
        log = RunLog(
            store, fits=sum(task.fits for task in tasks), jobs=self.jobs, started=started, cluster=self.cluster
        )
        log.write()
        self.progress.start(log.fits, len(todo))
        try:
            do = self.work(store, log.tick, rounds.complete, log.meter) if tasks else None
            while tasks and do is not None:
                do(tasks)
                tasks = rounds.next()
                if more := sum(task.fits for task in tasks):
                    log.expect(more)
                    self.progress.expect(more)
            rows = rounds.settle()
            if not measured:
                self.progress.stage("measuring")
                store.write_summary(rounds.summaries.table())
            ended = find_ends(store, rows, methods)
            log.close(ended)
        except BaseException as error:
            log.abandon(error)
            raise
        finally:
            self.progress.stop()
        total = len(methods) * sum(row.replications for row in rows if row.active)
        seconds = (datetime.now(UTC) - started).total_seconds()
        return RunReport(self.folder, log.meter.made, total - log.fits, seconds, tuple(ended), tuple(mended))

    def match(
        self, store: Store, replications: int | Mapping[str, int] | Stopping, mended: list[str]
    ) -> tuple[list[StoredCondition], list[Job]]:
        """Rows of conditions.parquet, and what to do of each condition of the study."""
        conditions, methods = self.study.conditions(), self.study.methods()
        stored, made = read_or_recover(store, conditions, methods) if mended else (store.read_conditions(), [])
        mended += made
        rows, numbers = match_conditions(stored, conditions, methods)
        rows = as_asked(rows, replications, methods, self.study.mcse)
        todo = make_jobs(conditions, numbers, methods, {row.number: row.replications for row in rows})
        if store.keeps == "summary":
            check_sums(store, todo, methods)
        store.manifest["methods"] = match_methods(store.manifest.get("methods", []), methods)
        return rows, todo

    def work(
        self, store: Store, tick: Callable[[], None], complete: Callable[[int], bool], meter: Meter
    ) -> Callable[[Sequence[Task]], None]:
        """What does tasks. It brings the compiler, which a run that finds all of its replicates stored does without."""
        from .workers import Work

        return Work(
            store, self.study.methods(), self.schema(), self.jobs, self.progress, tick, complete, self.code, meter=meter,
            cluster=self.cluster,
        ).run  # fmt: skip

    def schema(self) -> list[str]:
        """Columns of replicate rows after the common ones."""
        from .columns import counted, drawn_columns, every_column

        conditions, methods = self.study.conditions(), self.study.methods()
        truth = conditions[0].truth.formula
        estimands = study_estimands(truth, methods)
        names = [*counted(conditions), *every_column(estimands, methods), *drawn_columns(conditions, methods)]
        others = [other_names(method, study_estimands(truth, [method]), estimands) for method in methods]
        return [*names, *(own for each in others for own, name in each.items() if name in names)]

    def facts(self, asked: int | Mapping[str, int] | Stopping, replications: int, store: Store) -> dict[str, Any]:
        """What the manifest says of the study and of where it runs."""
        for key in set(_OF_A_SEARCH) - set(self.entries):
            store.manifest.pop(key, None)
        study = self.study
        if isinstance(asked, Stopping):
            store.manifest |= {"stopping": asked.entry(), "replications_reason": asked.text}
        if isinstance(asked, Mapping):
            store.manifest["own_replications"] = True
        return {
            **study_facts(study), "replications": replications, "draw_version": DRAW_VERSION,
            "numerics_version": NUMERICS_VERSION, "software": software(), "machine": machine(),
            **self.entries,
        }  # fmt: skip
