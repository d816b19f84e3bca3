"""Shards of a study: disjoint shares of its replicates, about equal in work, that together are all of them.

Which shard a replicate is of follows from the study and the number of shards alone, so processes that know nothing of each other
never do the same work. Each condition is cut into pieces at the ends of blocks, fewer the more conditions there are; these are
laid end to end, the first of all conditions first, in the order of the data keys, which is random; and the line is cut into
equal parts by work. Conditions that are slower than their neighbours in the grid are so spread over the shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..spec.identity import data_key
from ..spec.model import Method
from ..spec.problems import StudyError, show
from .plan import ROWS_TASK, Job, Task

__all__ = ["Shard", "clip", "overlaps", "territory"]

#: Pieces that a shard should have, so that the difference in work between shards is small beside the work of one.
PIECES = 8
#: The most shards of a study.
MOST = 100_000

#: Ranges of replicates (first, last) by the number of the condition.
Territory = Mapping[int, Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Share `number` (1 .. of) of a study.

    >>> Shard.parse("3/8")
    Shard(number=3, of=8)
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n". StudyError for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
            raise StudyError(
                [
                    f"shard = {show(text)}: must be i/n with whole numbers 1 <= i <= n <= {MOST:,}; write 1/8 for the first of "
                    "eight shards"
                ]
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def territory(jobs: Sequence[Job], methods: Sequence[Method], shard: Shard) -> Territory:
    """The replicates of a shard: ranges by the number of the condition, ends at those of blocks."""
    pieces = min(shard.of, max(1, -(-PIECES * shard.of // max(1, len(jobs)))))
    costs = [_cost(job, methods) for job in jobs]
    line = sorted((k, data_key(job.condition), place) for place, job in enumerate(jobs) for k in range(pieces))
    total = sum(cost * job.replications for cost, job in zip(costs, jobs, strict=True))
    begin, end = total * (shard.number - 1), total * shard.number  # in n-ths of a unit of work
    found: dict[int, list[tuple[int, int]]] = {}
    reached = 0
    for k, _, place in line:
        job, cost = jobs[place], costs[place]
        first, last = (_bound(job, methods, job.replications * edge // pieces) for edge in (k, k + 1))
        start, reached = reached, reached + cost * (last - first)
        if reached * shard.of <= begin or start * shard.of >= end or first == last:
            continue
        cut = [
            min(last, max(first, _bound(job, methods, first + (edge - start * shard.of) // (cost * shard.of))))
            for edge in (begin, end)
        ]
        if cut[0] < cut[1]:
            found.setdefault(job.number, []).append((cut[0], cut[1]))
    return {number: _joined(ranges) for number, ranges in found.items()}


def _cost(job: Job, methods: Sequence[Method]) -> int:
    """Work of a replicate, in units that conditions of one study share: clusters, and rows where these are made."""
    layout = job.condition.layout
    by_rows = job.condition.path == "rows" or any(method.by_rows for method in methods)
    return int(layout.clusters) + (int(layout.rows) if by_rows else 0)


def _bound(job: Job, methods: Sequence[Method], replicate: int) -> int:
    """The last end of a block, or of a task of Python code, at or before a replicate; the end of all is one."""
    if replicate >= job.replications:
        return job.replications
    unit = ROWS_TASK if any(method.by_rows for method in methods) else job.condition.block_size
    return replicate // unit * unit


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def clip(tasks: Iterable[Task], own: Territory) -> Iterator[Task]:
    """What of the tasks lies in a territory."""
    for task in tasks:
        for first, last in own.get(task.job.number, ()):
            if max(first, task.first) < min(last, task.last):
                yield replace(task, first=max(first, task.first), last=min(last, task.last))


def overlaps(own: Territory, number: int, first: int, last: int) -> bool:
    """Whether replicates first .. last - 1 of a condition are partly in a territory."""
    return any(a < last and first < b for a, b in own.get(number, ()))
