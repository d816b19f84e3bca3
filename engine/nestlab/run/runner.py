"""Run a study: find what is missing, simulate and fit it in parallel, keep it, and measure it.

Whoever stops a run loses the parts that were not finished, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..simulate.possible import check_possible
from ..spec.effects import explained
from ..spec.model import Method
from ..spec.paths import path_reasons
from ..spec.study import StudyFile
from .columns import counted, drawn_columns, stored_columns
from .own_code import with_code
from .plan import Job, make_jobs, match_conditions, match_methods, plan_tasks
from .store import Store, StoredCondition, finite
from .summarise import Known, Summaries
from .workers import Progress, Quiet, Work

__all__ = ["RunReport", "run_study"]

#: What the manifest says of a search for a design, and no longer when the folder is run in another way.
_OF_A_SEARCH = ("solve", "replications_reason")
#: Seconds between rewrites of the manifest while a run goes on.
MANIFEST_INTERVAL = 10.0


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did: fits made now, fits found stored, seconds, and where the results are."""

    folder: Path
    made: int
    stored: int
    seconds: float


def run_study(
    study: StudyFile, folder: Path, *, text: str, replications: int | Mapping[str, int], jobs: int = -1,
    progress: Progress | None = None, entries: Mapping[str, Any] | None = None, known: Known | None = None,
    code: Sequence[str] | None = None,
) -> RunReport:  # fmt: skip
    """Do what is missing of `replications` replicates of every condition, and write the summary.

    replications: of all conditions, or of each by its data key. entries: what else the manifest shall say. known: measures that
    a run of the same study made, not to be made again. code: consent to run the functions that methods name, with the folders
    where their modules are looked for first (`own_code`); without it a study that has any is refused by a StudyError.
    jobs: worker threads, -1 for all cores. Raises RefusedError where stored results don't fit the study, StudyError where no data
    can be as it says; KeyboardInterrupt passes through after finished parts and the manifest are safe.
    """
    progress, study = progress or Quiet(), with_code(study, code)
    conditions, methods = study.conditions(), study.methods()
    check_possible(conditions)
    started = datetime.now(UTC)
    store = Store(folder)
    stored = store.read_conditions()
    rows, numbers = match_conditions(stored, conditions, methods)
    rows = [_asked(row, replications) for row in rows]
    listed = match_methods(store.manifest.get("methods", []), methods)
    todo = make_jobs(conditions, numbers, methods, {row.number: row.replications for row in rows})
    with store.locked():
        store.forget_missing()
        store.adopt_unlisted()
        tasks = list(plan_tasks(store, todo, methods))
        made = sum(task.fits for task in tasks)
        total = len(methods) * sum(job.replications for job in todo)
        active = {c.number: c for c in rows}
        runs = [
            *store.manifest.get("runs", []),
            {"started": started.isoformat(), "ended": None, "fits": made, "jobs": jobs},
        ]
        for key in set(_OF_A_SEARCH) - set(entries or {}):
            store.manifest.pop(key, None)
        store.write_conditions(rows, _derived(todo, active))
        store.write_study(text)
        store.write_manifest(
            name=study.name, seed=study.seed, replications=max(job.replications for job in todo), mcse=study.mcse,
            methods=listed, software=_software(), machine=_machine(), runs=runs, **(entries or {}),
        )  # fmt: skip
        schema = [*counted(conditions), *_schema(rows, methods), *drawn_columns(conditions, methods)]
        progress.start(made, len(conditions))
        try:
            summaries = Summaries(store, rows, methods, study.mcse, known)
            Work(store, methods, schema, jobs, progress, _Manifest(store), summaries.make, code or ()).run(tasks)
            progress.stage("measuring")
            store.write_summary(summaries.table())
            runs[-1]["ended"] = datetime.now(UTC).isoformat()
            store.write_manifest(runs=runs)
        except BaseException:
            store.adopt_unlisted()
            store.write_manifest()
            raise
        finally:
            progress.stop()
    return RunReport(folder, made, total - made, (datetime.now(UTC) - started).total_seconds())


def _asked(row: StoredCondition, replications: int | Mapping[str, int]) -> StoredCondition:
    """The row with the replications asked for; one that is not active keeps what it had."""
    if not row.active:
        return row
    return replace(row, replications=replications if isinstance(replications, int) else replications[row.data_key])


class _Manifest:
    """Rewrites the manifest now and then while a run goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > MANIFEST_INTERVAL:
            self._store.write_manifest()
            self._last = time.monotonic()


def _schema(rows: Sequence[Any], methods: Sequence[Method]) -> list[str]:
    """Every column that replicate rows of this study have, see `columns.stored_columns`."""
    names = list(dict.fromkeys(name for row in rows if row.active for name in row.truth))
    stored = [n for n in names if n.split(":")[0] not in ("sd", "cor") and n != "icc"]
    contrasts = {contrast.name for method in methods for contrast in method.contrasts}
    fixed = [n for n in stored if n.split(":")[0] not in ("var", "cov") and n not in contrasts]
    return stored_columns(methods, fixed, stored)


def _derived(jobs: Sequence[Job], rows: dict[int, Any]) -> dict[int, dict[str, Any]]:
    """Derived quantities of conditions.parquet: sizes, path and why, block size."""
    known = {}
    for job in jobs:
        layout = job.condition.layout
        known[job.number] = {
            "clusters_total": layout.clusters,
            "rows_total": layout.rows,
            "path": job.condition.path,
            "path_reason": "; ".join(path_reasons(job.condition)),
            "block_size": job.condition.block_size,
            **dict(zip(("r2.within", "r2.between"), map(finite, explained(job.condition)), strict=True)),
        }
    for number, row in rows.items():
        if number not in known:
            known[number] = {"path": row.spec.get("path"), "block_size": row.spec.get("block_size")}
    return known


def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in (
        "nestlab",
        "numpy",
        "scipy",
        "pandas",
        "pyarrow",
        "numba",
        "llvmlite",
        "joblib",
        "formulae",
        "pydantic",
        "statsmodels",
    ):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "cores": os.cpu_count(),
        "byteorder": sys.byteorder,
    }
