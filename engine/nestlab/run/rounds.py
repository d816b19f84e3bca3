"""What a run does, round by round: once all that is missing, or, where a rule decides, batches until it is content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..spec.effects import explained
from ..spec.model import Method
from ..spec.paths import path_reasons
from ..spec.stopping import Stopping
from .plan import Job, Task, plan_tasks
from .stopping import Deciding, stop_key
from .store import Store, StoredCondition, finite
from .summarise import Known, Summaries

__all__ = ["Rounds", "as_asked", "derived_columns"]

#: Of all conditions, of each by its data key, or the rule by which each stops.
Replications: TypeAlias = int | Mapping[str, int] | Stopping


def as_asked(
    rows: Sequence[StoredCondition], replications: Replications, methods: Sequence[Method], mcse: str
) -> list[StoredCondition]:
    """The rows with the replications asked for, the most by a rule where it has not decided yet; inactive ones keep theirs."""
    key = stop_key(replications, methods, mcse) if isinstance(replications, Stopping) else ""

    def asked(row: StoredCondition) -> StoredCondition:
        if not row.active or (key and row.stop_key == key):
            return row
        if isinstance(replications, Stopping):
            n = replications.most
        else:
            n = replications if isinstance(replications, int) else replications[row.data_key]
        return replace(row, replications=n, stopped="", stop_key="")

    return [asked(row) for row in rows]


class Rounds:
    """`next()` gives the tasks of a round, none when all is done; `settle()` then the conditions, and `summaries` measures them.

    conditions.parquet is kept up to date. rows: as asked (`as_asked`); jobs: of the active ones.
    """

    def __init__(
        self, store: Store, rows: list[StoredCondition], jobs: Sequence[Job], methods: Sequence[Method],
        replications: Replications, *, mcse: str, known: Known | None,
    ) -> None:  # fmt: skip
        self._store, self._rows, self._methods, self._mcse = store, rows, methods, mcse
        self._derived = derived_columns(jobs, rows)
        store.write_conditions(rows, self._derived)
        self._deciding: Deciding | None = None
        if isinstance(replications, Stopping):
            self._deciding = Deciding(store, replications, rows, jobs, methods, mcse)
            self._left = self._deciding.rounds()
        else:
            self._left = iter([list(plan_tasks(store, jobs, methods))])
        self.summaries = Summaries(store, rows, methods, mcse, known)

    def next(self) -> list[Task]:
        """The tasks of the next round; what the last one decided is written."""
        tasks = next(self._left, [])
        if self._deciding is not None and self._deciding.rows != self._rows:
            self._rows = self._deciding.rows
            self._store.write_conditions(self._rows, self._derived)
        return tasks

    def complete(self, number: int) -> bool:
        """When a condition has all replicates of a round: whether it has all that it will have. For worker threads."""
        if self._deciding is not None:
            return self._deciding.look(number)
        self.summaries.make(number)
        return True

    def settle(self) -> list[StoredCondition]:
        """The conditions as decided, after the last round."""
        if self._deciding is not None:
            self.summaries = Summaries(self._store, self._rows, self._methods, self._mcse, self._deciding.known)
            self._store.manifest["replications"] = max(row.replications for row in self._rows if row.active)
        return self._rows


def derived_columns(jobs: Sequence[Job], rows: Sequence[StoredCondition]) -> dict[int, dict[str, Any]]:
    """Derived quantities of conditions.parquet: sizes, path and why, block size."""
    known: dict[int, dict[str, Any]] = {}
    for number, condition in ((job.number, job.condition) for job in jobs):
        known[number] = {
            "clusters_total": condition.grouping.levels, "rows_total": condition.layout.rows, "path": condition.path,
            "path_reason": "; ".join(path_reasons(condition)), "block_size": condition.block_size,
            **dict(zip(("r2.within", "r2.between"), map(finite, explained(condition)), strict=True)),
        }  # fmt: skip
    others = [row for row in rows if row.number not in known]
    return known | {row.number: {name: row.spec.get(name) for name in ("path", "block_size")} for row in others}
