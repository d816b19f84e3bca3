"""Shards of a study: disjoint shares of its replicates, about equal in work, that together are all of them.

Which shard a replicate is of follows from the study and the number of shards alone, so processes that know nothing of each other
never do the same work. Each condition is cut into pieces at the ends of blocks, fewer the more conditions there are; these are
laid end to end, the first of all conditions first, in the order of the keys, which is random; and the line is cut into
equal parts by work. Conditions that are slower than their neighbours in the grid are so spread over the shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..spec.methods import estimator_of
from ..spec.model import Method
from ..spec.problems import StudyError, show
from .plan import ROWS_TASK, Job, Task

__all__ = ["Shard", "clip", "overlaps", "territories", "territory"]

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
                f"shard = {show(text)}: must be i/n with whole numbers 1 <= i <= n <= {MOST:,}; write 1/8 for the first of "
                "eight shards"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def territories(jobs: Sequence[Job], methods: Sequence[Method], of: int) -> list[Territory]:
    """The replicates of each of `of` shards: ranges by the number of the condition, ends at those of blocks."""
    pieces = list(_line(jobs, methods, min(of, max(1, -(-PIECES * of // max(1, len(jobs)))))))
    total = sum(cost * (last - first) for _, cost, first, last in pieces)
    found: list[dict[int, list[tuple[int, int]]]] = [{} for _ in range(of)]
    start = 0
    for job, cost, first, last in pieces:
        length = cost * (last - first)
        for shard in range(start * of // total, -(-(start + length) * of // total)):
            begin, end = (
                min(last, max(first, _bound(job, methods, first + (edge * total - start * of) // (cost * of))))
                for edge in (shard, shard + 1)
            )
            if begin < end:
                found[shard].setdefault(job.number, []).append((begin, end))
        start += length
    return [{number: _joined(ranges) for number, ranges in own.items()} for own in found]


def territory(jobs: Sequence[Job], methods: Sequence[Method], shard: Shard) -> Territory:
    """The replicates of one shard."""
    return territories(jobs, methods, shard.of)[shard.number - 1]


def _line(jobs: Sequence[Job], methods: Sequence[Method], pieces: int) -> Iterator[tuple[Job, int, int, int]]:
    """(job, work of a replicate, first, last) of every piece that holds any replicates, in order."""
    by_rows = any(estimator_of(method).by_rows for method in methods)
    layouts = [(job.condition.layout, by_rows or job.condition.path == "rows") for job in jobs]
    # Work in units that conditions of one study share: clusters, and rows where these are made.
    costs = [layout.clusters + (layout.rows if made else 0) for layout, made in layouts]
    blocks = [-(-job.replications // _unit(job, methods)) for job in jobs]
    for k, _, which in sorted(
        (k, job.result_keys, place) for place, job in enumerate(jobs) for k in range(min(pieces, blocks[place]))
    ):
        job, cut = jobs[which], min(pieces, blocks[which])
        first, last = (_bound(job, methods, job.replications * edge // cut) for edge in (k, k + 1))
        if first < last:
            yield job, costs[which], first, last


def _bound(job: Job, methods: Sequence[Method], replicate: int) -> int:
    """The last end of a block, or of a task of Python code, at or before a replicate; the end of all is one."""
    if replicate >= job.replications:
        return job.replications
    unit = _unit(job, methods)
    return replicate // unit * unit


def _unit(job: Job, methods: Sequence[Method]) -> int:
    """Replicates that stay together."""
    return ROWS_TASK if any(estimator_of(method).by_rows for method in methods) else job.condition.block_size


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
