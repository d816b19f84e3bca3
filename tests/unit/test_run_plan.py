"""Tasks are cut by the time they take, at the edges of blocks; what is cut does not depend on it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import nestlab as nl
from nestlab.run.plan import ROWS_TASK, TASK_SECONDS, Job, Pace, Task, cut


@pytest.fixture
def task(slope: dict[str, Any]) -> Task:
    study = nl.Study.from_dict(slope)
    return Task(Job(0, study.conditions[0], ("key",)), (0,), 100, 2_000_000)


@pytest.mark.parametrize("microseconds", [0.5, 4.0, 300.0, 1e7])
def test_tasks_fill_the_wanted_time(task: Task, microseconds: float) -> None:
    pace = Pace()
    for _ in range(60):
        pace.learn(task, 1000, microseconds * 1e-6 * 1000)
    pieces = []
    for piece in cut([task], pace):
        pieces.append(piece)
        if len(pieces) == 20:
            break
    size = task.job.condition.block_size
    assert pieces[0].first == task.first
    assert all(a.last == b.first for a, b in pairwise(pieces))
    assert all(piece.last % size == 0 or piece.last == task.last for piece in pieces)
    seconds = (pieces[1].last - pieces[1].first) * microseconds * 1e-6 if len(pieces) > 1 else 0.0
    assert seconds <= 2 * TASK_SECONDS or pieces[1].last - pieces[1].first == size
    assert seconds >= 0.5 * TASK_SECONDS or len(pieces) < 3


def test_a_range_is_cut_without_gaps_while_the_pace_changes(task: Task) -> None:
    pace = Pace()
    covered = task.first
    for count, piece in enumerate(cut([task], pace)):
        assert piece.first == covered
        covered = piece.last
        pace.learn(piece, piece.last - piece.first, 10.0 ** (count % 4 - 2))
    assert covered == task.last


def test_methods_that_need_rows_have_small_tasks(task: Task) -> None:
    rows = Task(task.job, (0,), 10, 200, by_rows=True)
    assert [(p.first, p.last) for p in cut([rows], Pace())] == [(10, ROWS_TASK), (64, 128), (128, 192), (192, 200)]


def test_pace_recovers_from_tasks_of_one_block(task: Task) -> None:
    """A condition that is slow for its size, or a machine that slept, must not leave small tasks for ever."""
    pace = Pace()
    pace.warm = True
    pace.learn(task, 512, 600.0)
    pieces = cut([task], pace)
    first = next(pieces)
    assert first.last - first.first <= task.job.condition.block_size
    for piece in pieces:
        pace.learn(piece, piece.last - piece.first, 4e-6 * (piece.last - piece.first))
        if (piece.last - piece.first) * 4e-6 > 0.5 * TASK_SECONDS:
            return
    pytest.fail("tasks stayed small")
