"""Whether the files of a results folder agree: each is what follows from the study and from the stored replicates.

The manifest has checksums, and whoever can edit a file can edit its checksum. So `nestlab verify` relies on none: it reads the
footers and counts of all parts again, and makes conditions.parquet, the decisions of a rule and summary.parquet again. Each
function yields a line about each thing that is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..measure.subsets import default_subset
from ..spec.identity import DRAW_VERSION, NUMERICS_VERSION, describe, flatten
from ..spec.model import Condition, Method
from ..spec.problems import StudyError
from ..spec.study import StudyFile
from .files import RefusedError, read_plain
from .folder import changes, stored_solution
from .parquet import read_table
from .parts import Part
from .plan import Job, make_jobs, match_conditions
from .rounds import derived_columns
from .series import find_ends, series_of
from .stopping import Deciding
from .store import Store, StoredCondition
from .summarise import Summaries

__all__ = ["check_parts", "check_study", "check_tables", "missing_lines"]

#: Relative size of differences that are rounding on another machine, of measures also relative to the MCSE; size of numbers that
#: are 0 but for rounding.
ROUNDING, ZERO = 1e-6, 1e-12
#: Differences of one table that are listed.
LISTED = 5
#: What a part's footer does not say of it.
_OF_FILE = ("sha256", "size", "changed")


def check_study(store: Store, study: StudyFile, rows: Sequence[StoredCondition]) -> Iterator[str]:
    """Compare study.toml and the manifest with what is stored."""
    found = changes(study, store, rows, every=True)
    for change in found:
        yield f"study.toml is not the study as it was run: {change}"
    for name, now in (("draw_version", DRAW_VERSION), ("numerics_version", NUMERICS_VERSION)):
        stored = store.manifest.get(name)
        if stored != now:
            yield f"manifest.json: {name}: stored {stored!r}, now {now!r}; this nestlab can't make these replicates again"
    for name in store.checksums:
        if not (store.folder / name).exists():
            yield f"{name} is listed in manifest.json and missing"
        elif not store.is_sealed(name) and not (found and name == "study.toml"):
            yield f"{name} was altered since it was written"


# -- parts -----------------------------------------------------------------------------------------------------------------


def check_parts(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> Iterator[str]:
    """Read every part, listed or not, and compare what the manifest, its footer and its replicates say of it.

    The store has the parts as their files are afterwards, without those that can't be read.
    """
    yield from (store.altered([part]) for part in store.damaged(every=True))
    listed, there = {part.file: part for part in store.parts}, store.files()
    for file in listed.keys() - there.keys():
        store.parts.drop(file)
    yield from (f"{file} is listed in manifest.json and missing" for file in sorted(listed.keys() - there.keys()))
    for file in sorted(there):
        try:
            found = store.adopt(file)
            yield from _against_listed(store, found, listed.get(file))
        except RefusedError as error:
            store.parts.drop(file)
            yield str(error)
    yield from _strangers(store, rows, methods)


def _against_listed(store: Store, found: Part, listed: Part | None) -> Iterator[str]:
    if listed is not None:
        before, now = ({k: v for k, v in part.entry().items() if k not in _OF_FILE} for part in (listed, found))
        for name in before if listed.tally is None else {**before, **now}:
            if before.get(name) != now.get(name):
                yield f"{found.file}: manifest.json says {name} = {before.get(name)}, the file {now.get(name)}"
    if store.keeps == "replicates" and found.tally is not None:
        counted = store.counted(replace(found, tally=None)).tally
        store.parts.add(found)
        for name in ("statuses", "inference", "examples", "failed"):
            if getattr(counted, name) != getattr(found.tally, name):
                yield f"{found.file} says {name} = {getattr(found.tally, name)}, its replicates {getattr(counted, name)}"


def _strangers(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> Iterator[str]:
    """Name parts that are of no condition and method; those of removed ones are kept on purpose."""
    own = {(series.condition, series.result_key) for series in series_of(store, rows, methods)}
    left = {row.number for row in rows if not row.active}
    removed = {entry["name"] for entry in store.manifest["methods"] if not entry.get("active", True)}
    for part in store.parts:
        if (part.condition, part.result_key) not in own and part.condition not in left and part.method not in removed:
            yield f"{part.file} is of no condition and method of the study"


def missing_lines(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> Iterator[str]:
    """Count replicates that were asked for and are not stored, by condition and method."""
    for series in series_of(store, rows, methods):
        if series.missing:
            lost = f"{series.missing:,} of {series.wanted:,} replicates are missing, from {series.gaps[0][0]} on"
            yield f"condition {series.condition}, {series.method.name}: {lost}"


# -- tables ----------------------------------------------------------------------------------------------------------------


def check_tables(store: Store, study: StudyFile, rows: Sequence[StoredCondition]) -> Iterator[str]:
    """Make conditions.parquet, a rule's decisions and summary.parquet again, and compare the answer of a search with them.

    For folders in which nothing is missing.
    """
    methods, conditions = study.methods(), study.conditions()
    matched, numbers = match_conditions(rows, conditions, methods)
    jobs = make_jobs(conditions, numbers, methods, {row.number: row.replications for row in matched})
    yield from islice(_conditions(store, matched, dict(zip(numbers, conditions, strict=True)), jobs), LISTED)
    if study.stopping is not None:
        yield from _decisions(store, study, matched, jobs)
    entries = [end.entry() for end in find_ends(store, rows, methods)]
    if entries != store.manifest.get("ended_early", []):
        yield f"manifest.json: ended_early: stored {store.manifest.get('ended_early', [])}, now {entries}"
    summary = Summaries(store, matched, methods, study.mcse).table()
    yield from islice(_summary(store, summary), LISTED)
    yield from islice(_solution(store, summary), LISTED)


def _conditions(
    store: Store, matched: Sequence[StoredCondition], by_number: Mapping[int, Condition], jobs: Sequence[Job]
) -> Iterator[str]:
    rows = [
        replace(row, spec=flatten(describe(by_number[row.number]))) if row.number in by_number else row
        for row in matched
    ]
    fresh = read_table(store.conditions_bytes(rows, derived_columns(jobs, rows))).to_pylist()
    stored = read_table(read_plain(store.folder / "conditions.parquet")).to_pylist()
    if len(stored) != len(fresh):
        yield f"conditions.parquet has {len(stored):,} rows, {len(fresh):,} of which are conditions of their own"
        return
    for before, now in zip(stored, fresh, strict=True):
        for name in {**before, **now}:
            a, b = before.get(name), now.get(name)
            if not (_alike(json.loads(a or "{}"), json.loads(b)) if name == "spec" else _alike(a, b)):
                yield f"conditions.parquet: condition {now['condition']}: {name}: stored {a!r}, recomputed {b!r}"


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=ROUNDING, abs_tol=ZERO) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def _decisions(store: Store, study: StudyFile, rows: Sequence[StoredCondition], jobs: Sequence[Job]) -> Iterator[str]:
    """Decide again, from the same replicates, where a rule ends each condition."""
    assert study.stopping is not None
    before = {row.number: row for row in rows if row.active}
    anew = [
        replace(row, replications=study.stopping.most, stopped="", stop_key="") if row.active else row for row in rows
    ]
    deciding = Deciding(store, study.stopping, anew, jobs, study.methods(), study.mcse)
    try:
        for tasks in deciding.rounds():
            job = tasks[0].job
            yield f"conditions.parquet: condition {job.number}: stopped before the rule of replications ends it"
            return
    except StudyError as error:
        yield from error.problems
        return
    for row in deciding.rows:
        was = before.get(row.number, row)
        for name in ("replications", "stopped", "stop_key"):
            a, b = getattr(was, name), getattr(row, name)
            if a != b:
                yield f"conditions.parquet: condition {row.number}: {name}: stored {a!r}, now {b!r}"


def _summary(store: Store, fresh: pd.DataFrame) -> Iterator[str]:
    try:
        stored = store.read_summary()
    except RefusedError as error:
        yield str(error)
        return
    if list(stored.columns) != list(fresh.columns) or len(stored) != len(fresh):
        yield (
            f"summary.parquet has {len(stored):,} rows of {', '.join(map(str, stored.columns))}; recomputed it has "
            f"{len(fresh):,} of {', '.join(map(str, fresh.columns))}"
        )
        return
    scale = fresh["mcse"].fillna(0.0).to_numpy()
    for name in fresh.columns:
        for k in np.flatnonzero(_unlike(stored[name], fresh[name], scale)):
            row = fresh.iloc[k]
            of = f"{row['measure']} of {row['estimand'] or 'the method'} by {row['method']} ({row['subset']})"
            cells = f"is {stored[name].iloc[k]}, recomputed {row[name]}"
            yield f"summary.parquet: condition {row['condition']}: {name} of {of} {cells}"


def _unlike(stored: pd.Series, fresh: pd.Series, scale: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell where two columns differ by more than rounding: by more than sums of the same numbers in another order do."""
    absent = stored.isna().to_numpy() & fresh.isna().to_numpy()
    if fresh.dtype.kind != "f" or stored.dtype.kind != "f":
        different: NDArray[np.bool_] = (stored.astype(object) != fresh.astype(object)).to_numpy() & ~absent
        return different
    a, b = stored.to_numpy(), fresh.to_numpy()
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.maximum(np.abs(a), np.abs(b)), scale)
        alike = (a == b) | (np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= ROUNDING * size + ZERO))
    apart: NDArray[np.bool_] = ~(alike | absent)
    return apart


def _solution(store: Store, summary: pd.DataFrame) -> Iterator[str]:
    """Compare the manifest's answer of a search with solve.json, and each design tried with its measures."""
    try:
        made = stored_solution(store)
    except RefusedError as error:
        yield str(error)
        return
    if made is None:
        return
    answers = made.get("solutions", [made])
    try:
        of = (made["method"], made["estimand"], next(iter(made["target"])), default_subset(made["estimand"]))
        tried = {int(trial["condition"]): dict(trial) for answer in answers for trial in answer["tried"]}
    except (TypeError, KeyError, ValueError, AttributeError):
        yield "solve.json is damaged: it does not list the designs that were tried"
        return
    for row in summary.to_dict("records"):  # none of joint power, which the summary does not have
        trial = tried.get(row["condition"])
        if trial is None or (row["method"], row["estimand"], row["measure"], row["subset"]) != of:
            continue
        for name in ("value", "mcse", "n"):
            if not _alike(trial.get(name), row[name]) and not (trial.get(name) is None and pd.isna(row[name])):
                yield f"solve.json: condition {row['condition']}: {name} is {trial.get(name)}, recomputed {row[name]}"
