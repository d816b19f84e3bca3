"""What is done of a study and what is not: from the manifest, the conditions and the names of parts, none of which is opened.

So it takes no time, and tells of a run while it goes on, which lists its newest parts every ten seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec.methods import estimator_of
from .folder import no_results, read_as_run, resumed_by
from .lock import Owner, holder
from .parts import Tally
from .series import Ended, series_of, take_names
from .shard_lock import at_work, read_entries
from .store import Store, StoredCondition

__all__ = ["ENDED", "MAXIMUM", "MET", "NONE", "State", "read_state", "stopping_lines"]

#: What the reason of a condition begins with: its targets are met, it has the most replicates, too many failed by every
#: method that has targets, or it has none of what is asked for.
MET, MAXIMUM, ENDED, NONE = "met", "maximum", "ended", "none"
#: Conditions that reached the maximum and are listed.
LISTED = 3
#: Seconds of the latest runs that the pace is taken from.
ENOUGH = 20.0


@dataclass(frozen=True, slots=True)
class State:
    """Where a study stands. asked, stored: fits; those that a condition which ended early need not make are not asked.
    resumed: what goes on with it, see `folder.resumed_by`.

    missing: fits by condition. statuses, inference: fits by status in the parts that count them, of which there are `counted`
    fits. left: seconds, None where nothing tells; per_second: fits. running: who writes now; shards: which shards ("3/8") do, if
    any. outcome: of the last run. unused: parts of no condition and method of the study as it is. stopping: which conditions
    stopped why, where a rule decides; of the undecided ones the most replications are asked.
    """

    folder: Path
    resumed: str
    name: str
    conditions: int
    methods: tuple[str, ...]
    asked: int
    stored: int
    missing: Mapping[int, int]
    statuses: Mapping[str, int]
    inference: Mapping[str, int]
    counted: int
    ended: tuple[Ended, ...]
    left: float | None
    per_second: float | None
    workers: int | None
    running: Owner | None
    outcome: str
    unused: int
    stopping: tuple[str, ...] = ()
    undecided: int = 0
    shards: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.missing and self.outcome in ("complete", "unknown")


def read_state(folder: Path) -> State:
    """Where the study in a folder stands. RefusedError if the folder holds no results, or its manifest is damaged."""
    store = Store(folder)
    if not store.exists:
        raise no_results(folder)
    study, stored = read_as_run(store)
    methods, rows = study.methods(), [row for row in stored if row.active]
    store.forget_missing()
    every = list(series_of(store, rows, methods, opens=False))
    take_names(store, every)
    known = {(series.condition, series.result_key) for series in every}
    unused = [part for part in store.parts if (part.condition, part.result_key) not in known]
    strangers = [file for file in store.files() if file not in store.parts]
    asked, tally = sum(series.wanted for series in every), sum((series.tally for series in every), Tally())
    clusters = {row.number: int(row.spec.get("design.clusters", 1)) for row in rows}
    missing, work = Counter[int](), Counter[str]()
    for series in every:
        if lost := series.missing:
            missing[series.condition] += lost
            work["rows" if estimator_of(series.method).by_rows else "compiled"] += lost * clusters[series.condition]
    runs = [*store.manifest["runs"], *read_entries(folder).values()]
    shards = at_work(folder)
    left, per_second = _left(work, runs)
    last: Mapping[str, Any] = runs[-1] if runs else {}
    return State(
        folder=folder,
        resumed=resumed_by(store.manifest),
        name=str(store.manifest.get("name", folder.name)),
        conditions=len(rows),
        methods=tuple(m.name for m in methods),
        asked=asked,
        stored=asked - missing.total(),
        missing=dict(sorted(missing.items())),
        statuses=dict(tally.statuses),
        inference=dict(tally.inference),
        counted=tally.n,
        ended=tuple(series.end for series in every if series.end is not None),
        left=left,
        per_second=per_second,
        workers=last.get("jobs"),
        running=holder(folder) or next(iter(shards.values()), None),
        # older manifests tell only whether a run ended
        outcome=str(last.get("outcome", "unknown" if last.get("ended") else "interrupted")),
        unused=len(unused) + len(strangers),
        stopping=tuple(stopping_lines(rows)) if "stopping" in store.manifest else (),
        undecided=sum(not row.stopped for row in rows) if "stopping" in store.manifest else 0,
        shards=tuple(shards),
    )


def _left(kinds: Mapping[str, int], runs: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """(seconds that the missing fits take, fits a second) at the pace of the latest runs, by the kind of method."""
    total, fits, spent = 0.0, 0.0, 0.0
    for kind, work in kinds.items():
        seconds = done = 0.0
        for run in reversed(runs):
            pace = run.get("pace", {}).get(kind)
            if pace and pace["seconds"] > 0:
                seconds, done = seconds + pace["seconds"], done + pace["work"]
                fits, spent = fits + pace["fits"], spent + pace["seconds"]
            if seconds > ENOUGH:
                break
        if not done:
            return None, None
        total += work * seconds / done
    return total, fits / spent if spent else None


def stopping_lines(rows: Sequence[StoredCondition]) -> list[str]:
    """Which conditions stopped why, in a few lines; rows: active ones of a study with a rule."""
    by = {kind: [row for row in rows if row.stopped.startswith(f"{kind}:")] for kind in (MET, MAXIMUM, ENDED, NONE)}
    met, most = by[MET], by[MAXIMUM]
    undecided = len(rows) - sum(map(len, by.values()))
    said = [f"{len(met):,} of {len(rows):,} condition{'' if len(rows) == 1 else 's'} met all targets"]
    if met:
        low, high = min(row.replications for row in met), max(row.replications for row in met)
        said[0] += f", after {low:,}{f' to {high:,}' if high > low else ''} replications"
    if most:
        said.append(f"{len(most):,} reached the maximum, {most[0].replications:,}")
    if by[ENDED]:
        said.append(f"in {len(by[ENDED]):,} too many fits failed (max_failed)")
    if by[NONE]:
        said.append(f"{len(by[NONE]):,} {'has' if len(by[NONE]) == 1 else 'have'} nothing of what is asked for")
    if undecided:
        said.append(f"{undecided:,} {'is' if undecided == 1 else 'are'} not decided yet, and counted with the maximum")
    lines = ["; ".join(said)]
    lines += [f"condition {row.number}: {row.stopped}" for row in (met if len(rows) <= LISTED else [])]
    lines += [f"condition {row.number}: {row.stopped}" for row in most[:LISTED]]
    if len(most) > LISTED:
        lines.append(f"and {len(most) - LISTED:,} more (conditions.parquet, column stopped)")
    return lines
