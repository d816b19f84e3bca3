"""Do tasks in parallel and keep what they give.

Compiled methods run in threads: draws and fits release the GIL, so one process serves all cores and compiles once, and each
thread writes its own parts. Methods that are Python code run in processes, which hand their rows back to be written.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import joblib

from ..fit.methods import Analysed, Columns
from ..fit.own_code import make_importable
from ..spec.model import Method
from .block import CompiledCondition, compile_condition
from .cluster import Cluster
from .plan import Job, Pace, Task, cut
from .reduce import Reduced, Reduction
from .store import Store
from .sums import sums_key, write_sums
from .telling import Meter, Progress

__all__ = ["Work"]


class _Busy:
    """Counts the threads at work: `with busy:` in each of them."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_until_idle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)


class _Left:
    """Counts what is left to do of each condition."""

    def __init__(self) -> None:
        self._fits: Counter[int] = Counter()
        self._guard = threading.Lock()

    def expect(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._fits[task.job.number] += task.fits

    def done(self, task: Task) -> bool:
        """Whether this task was its condition's last."""
        with self._guard:
            self._fits[task.job.number] -= task.fits
            return self._fits[task.job.number] == 0


class _Ends:
    """Which conditions ended early, by which methods (indices), after how many replicates."""

    def __init__(self, store: Store, methods: Sequence[Method]) -> None:
        self._store, self._methods = store, methods
        self._found: dict[tuple[int, int], int] = {}

    def look(self, job: Job, method: int) -> None:
        """After a part was written."""
        if end := job.series(self._store, self._methods)[method].end:
            self._found[job.number, method] = end.replications

    def over(self, job: Job, method: int, first: int) -> bool:
        return self._found.get((job.number, method), first + 1) <= first


@dataclass(frozen=True)
class Work:
    """How tasks are done: `Work(...).run(tasks)`.

    jobs: workers, -1 for all cores; tick: called after each finished task; complete: called with a condition's number when its
    last task is done, by the worker that did it, and says whether nothing more is to come of it; code: folders of modules that
    methods name; cluster: workers of other machines.
    """

    store: Store
    methods: Sequence[Method]
    schema: Sequence[str]
    jobs: int
    progress: Progress
    tick: Callable[[], None]
    complete: Callable[[int], bool]
    code: Sequence[str] = ()
    cluster: Cluster | None = None
    pace: Pace = field(default_factory=Pace)
    meter: Meter = field(default_factory=Meter)
    busy: _Busy = field(default_factory=_Busy)
    left: _Left = field(default_factory=_Left)

    @cached_property
    def ends(self) -> _Ends:
        return _Ends(self.store, self.methods)

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, cut by the time they take. An exception, KeyboardInterrupt included, stops the workers; parts that were
        finished are kept."""
        self.left.expect(tasks)
        if self.cluster is not None:
            calls_apart = (
                (task, self._chosen(task), self.code) for task in cut(tasks, self.cluster.pace, self.ends.over)
            )
            with contextlib.closing(self.cluster.run(compute_apart, calls_apart)) as done:
                self._take(done)
            return
        compiled = [task for task in tasks if not task.by_rows]
        python = [task for task in tasks if task.by_rows]
        if compiled:
            stop = threading.Event()
            threads = joblib.Parallel(
                n_jobs=self.jobs, backend="threading", return_as="generator_unordered", batch_size=1
            )
            calls = (
                joblib.delayed(self._compute_and_write)(task, stop) for task in cut(compiled, self.pace, self.ends.over)
            )
            try:
                with _quick_turns(), _closing(threads(calls)) as done:
                    for _ in done:
                        self.tick()
            except BaseException:
                stop.set()
                self.busy.wait_until_idle()  # a thread that is writing a part finishes it
                raise
        if python:
            processes = joblib.Parallel(
                n_jobs=self.jobs, backend="loky", return_as="generator_unordered", batch_size=1, inner_max_num_threads=1
            )
            calls = (
                joblib.delayed(compute_apart)(task, self._chosen(task), self.code)
                for task in cut(python, self.pace, self.ends.over)
            )
            with _closing(processes(calls)) as done:
                self._take(done)

    def _take(self, done: Iterable[tuple[Task, Sequence[Columns]]]) -> None:
        """Write here what other processes, or machines, computed."""
        for task, columns in done:
            if not task.skipped:
                self._write(task, columns)
                self.progress.advance(task.fits)
            self._finish(task)
            self.tick()

    def _chosen(self, task: Task) -> list[Method]:
        return [self.methods[m] for m in task.methods]

    def _compute_and_write(self, task: Task, stop: threading.Event) -> None:
        with self.busy:
            if stop.is_set():
                return
            if task.skipped:
                self._finish(task)
                return
            columns = _compute(task, self._chosen(task), self.progress.advance, stop, self.pace)
            if columns:
                self._write(task, columns)
                if not stop.is_set():  # what is not measured now is measured when the run goes on
                    self._finish(task)

    def _finish(self, task: Task) -> None:
        if task.skipped:
            self.progress.skip(task.fits)
        else:
            self.meter.add(task)
        if self.left.done(task) and self.complete(task.job.number):
            self.progress.finished(task.job.number)

    def _write(self, task: Task, columns: Sequence[Columns | Reduced]) -> None:
        every = task.job.series(self.store, self.methods)
        for m, rows in zip(task.methods, columns, strict=True):
            if not isinstance(rows, Reduced):
                every[m].write(rows, self.schema, task.first, task.last)
                self.ends.look(task.job, m)
            elif task.sums is not None and m in task.sums:
                whole = sums_key(task.job.result_keys, self.methods)
                write_sums(every[m], rows.table, rows.tally, task.first, task.last, whole)


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Let threads that come out of compiled code wait 0.2 ms, not 5, for one that runs Python: 8 % of a run on two cores."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def _closing(results: Generator[Any, None, None]) -> Iterator[Generator[Any, None, None]]:
    """Dispatch no more tasks when the loop over `results` ends early."""
    try:
        yield results
    except BaseException:
        with contextlib.suppress(Exception):
            results.close()
        raise


def compute_apart(
    task: Task, methods: Sequence[Method], code: Sequence[str], pace: Pace | None = None
) -> tuple[Task, list[Columns] | list[Reduced]]:
    """A task and its rows, in a process of its own; pace: is told how long it took."""
    if task.skipped:
        return task, []
    make_importable(code)
    return task, _compute(task, methods, lambda fits: None, None, pace or Pace())


class _Collected:
    """Replicates first, first + 1, ... of a condition, added block by block, as rows."""

    def __init__(self, compiled: CompiledCondition, first: int) -> None:
        self._compiled, self._first = compiled, first
        self._parts: list[list[Analysed]] = [[] for _ in compiled.methods]

    def add(self, done: int, block: Sequence[Analysed]) -> None:
        for parts, of_block in zip(self._parts, block, strict=True):
            parts.append(of_block)

    def results(self) -> list[Columns]:
        """One table a method."""
        return [self._compiled.joined(m, self._first, parts) for m, parts in enumerate(self._parts)]


def _compute(
    task: Task, methods: Sequence[Method], advance: Callable[[int], None], stop: threading.Event | None, pace: Pace
) -> list[Columns] | list[Reduced]:
    """Rows of a task, or their sums, one table a method; none if it was told to stop."""
    compiled = compile_condition(task.job.condition, methods)
    collected = _Collected(compiled, task.first) if task.sums is None else Reduction(compiled, task.first)
    start = time.perf_counter() if pace.warm else None
    timed = 0
    for done, block in compiled.analysed(task.first, task.last):
        collected.add(done, block)
        advance(done * len(methods))
        if stop is not None and stop.is_set():
            return []
        if start is None:  # the first block waited for the compilation
            start = time.perf_counter()
        else:
            timed += done
    pace.warm = True
    if timed and start is not None:
        pace.learn(task, timed, time.perf_counter() - start)
    return collected.results()
