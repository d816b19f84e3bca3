"""What is done of a study and what is not: from the manifest, the conditions and the names of parts, none of which is opened.

So it takes no time, and tells of a run while it goes on, which lists its newest parts every ten seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec.identity import result_key
from ..spec.methods import estimator_of
from ..spec.model import Method
from .early import Ended, end_of
from .folder import no_results, read_as_run
from .lock import Owner, holder
from .parts import Part, missing_ranges, named_range
from .shard_files import read_entries
from .shard_lock import at_work
from .stopped import stopping_lines
from .store import Store, StoredCondition

__all__ = ["State", "read_state"]

#: Seconds of the latest runs that the pace is taken from.
ENOUGH = 20.0


@dataclass(frozen=True, slots=True)
class State:
    """Where a study stands. asked, stored: fits; those that a condition which ended early need not make are not asked.

    missing: fits by condition. statuses, inference: fits by status in the parts that count them, of which there are `counted`
    fits. left: seconds, None where nothing tells; per_second: fits. running: who writes now; shards: which shards ("3/8") do, if
    any. outcome: of the last run. unused: parts of no condition and method of the study as it is. stopping: which conditions
    stopped why, where a rule decides; of the undecided ones the most replications are asked.
    """

    folder: Path
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
    keys = {(row.number, method.name): result_key(row.data_key, method) for row in rows for method in methods}
    unused = _take_names(store, keys)
    tally = _Tally()
    for row in rows:
        for method in methods:
            tally.add(row, method, store.parts.of(row.number, keys[row.number, method.name]))
    runs = [*store.manifest["runs"], *read_entries(folder).values()]
    shards = at_work(folder)
    left, per_second = _left(tally, runs)
    last: Mapping[str, Any] = runs[-1] if runs else {}
    return State(
        folder=folder,
        name=str(store.manifest.get("name", folder.name)),
        conditions=len(rows),
        methods=tuple(m.name for m in methods),
        asked=tally.asked,
        stored=tally.stored,
        missing=dict(sorted(tally.missing.items())),
        statuses=dict(tally.statuses),
        inference=dict(tally.inference),
        counted=tally.counted,
        ended=tuple(tally.ended),
        left=left,
        per_second=per_second,
        workers=last.get("jobs"),
        running=holder(folder) or next(iter(shards.values()), None),
        outcome=_outcome(last),
        unused=unused,
        stopping=tuple(stopping_lines(rows)) if "stopping" in store.manifest else (),
        undecided=sum(not row.stopped for row in rows) if "stopping" in store.manifest else 0,
        shards=tuple(shards),
    )


def _outcome(run: Mapping[str, Any]) -> str:
    """How the last run ended; older manifests tell only whether it did."""
    if "outcome" in run:
        return str(run["outcome"])
    return "unknown" if run.get("ended") else "interrupted"


def _take_names(store: Store, keys: Mapping[tuple[int, str], str]) -> int:
    """Make the store's parts those whose files are there, the newest by their names; how many belong to nothing."""
    known = {(number, key[:12]): (name, key) for (number, name), key in keys.items()}
    there = store.files()
    for part in store.parts:
        if part.file not in there:
            store.parts.drop(part.file)
    wanted, unused = {(number, key) for (number, _), key in keys.items()}, 0
    for file in there:
        named = named_range(file)
        if file not in store.parts and named is not None and named[:2] in known:
            method, key = known[named[:2]]
            store.parts.add(Part(file, named[0], method, key, named[2], named[3], ""))
    for part in store.parts:
        unused += (part.condition, part.result_key) not in wanted
    return unused + sum(file not in store.parts for file in there)


class _Tally:
    """Sums over conditions and methods."""

    def __init__(self) -> None:
        self.asked = self.stored = self.counted = 0
        self.missing: Counter[int] = Counter()
        self.work: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.inference: Counter[str] = Counter()
        self.ended: list[Ended] = []

    def add(self, row: StoredCondition, method: Method, parts: Sequence[Part]) -> None:
        wanted = row.replications
        told = next((k for k, part in enumerate(parts) if part.statuses is None), len(parts))
        found = None if method.max_failed is None else end_of(parts[:told], method.max_failed, wanted)
        if found is not None and method.max_failed is not None:
            self.ended.append(Ended(row.number, method.name, found[0], wanted, found[1], method.max_failed))
            wanted = found[0]
        gaps = sum(last - first for first, last in missing_ranges([(p.first, p.last) for p in parts], wanted))
        self.asked += wanted
        self.stored += wanted - gaps
        if gaps:
            self.missing[row.number] += gaps
            self.work["rows" if estimator_of(method).by_rows else "compiled"] += gaps * int(
                row.spec.get("design.clusters", 1)
            )
        for part in parts:
            if part.statuses is not None and part.first < wanted:
                self._count(part, wanted)

    def _count(self, part: Part, wanted: int) -> None:
        """Statuses of a part's replicates below `wanted`; in the one that a condition's end cuts, failures only."""
        self.counted += min(part.last, wanted) - part.first
        if part.last <= wanted:
            self.statuses.update(part.statuses or {})
            self.inference.update(part.inference)
        elif failed := part.failed_below(wanted):
            kinds = [name for name in part.statuses or {} if name not in ("ok", "singular")]
            self.statuses[kinds[0] if len(kinds) == 1 else "failed in several ways"] += failed


def _left(tally: _Tally, runs: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """(seconds that the missing fits take, fits a second) at the pace of the latest runs, by the kind of method."""
    total, fits, spent = 0.0, 0.0, 0.0
    for kind, work in tally.work.items():
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
