"""Tasks computed by the workers of a Dask cluster; this process cuts them, and writes what comes back.

So only this process needs the results folder, and its parts, lock and manifest are those of a run on one machine. A task whose
worker is lost is computed again by another one, from the same stream: bit for bit the same. joblib's own Dask backend is not
used, because it waits for ever for a task that was given up (KilledWorker; joblib 1.5).
"""

from __future__ import annotations

import contextlib
import platform
import queue
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from ..spec.identity import DRAW_VERSION, NUMERICS_VERSION
from ..spec.problems import StudyError, show
from .cluster import ClusterError
from .manifest import software
from .plan import TASK_SECONDS, Pace

__all__ = ["DaskCluster"]

#: Seconds to wait for the scheduler, and for a first worker.
CONNECT, FIRST_WORKER = 20.0, 60.0
#: Seconds that this process takes to write what a task of one worker gives, by which tasks of many workers are longer.
WRITING = 0.02
#: Tasks handed out for each worker thread: one at work, one waiting.
AHEAD = 2
#: Packages whose versions decide about the bits of results: they must be the same here and there.
_SAME = ("nestlab", "numpy", "scipy", "numba")
_KEPT = "what was finished is kept: give the same command again"


class DaskCluster:
    """The workers of the scheduler at an address ("tcp://host:8786"). StudyError where Dask is not installed."""

    def __init__(self, scheduler: str) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise StudyError(
                'backend = "dask": needs Dask, which is not installed; pip install "nestlab[dask]"'
            ) from None
        self.scheduler = scheduler
        self.pace = Pace()
        self._workers: Counter[str] = Counter()

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Generator[Any, None, None]:
        """See `cluster.Cluster`; the first argument of a call is a task, and each result has the task and its columns."""
        calls = iter(calls)
        first = next(calls, None)
        if first is None:
            return
        with _connected(self.scheduler) as client:
            threads = sum(client.ncores().values())
            self.pace.task_seconds = max(TASK_SECONDS, WRITING * threads)
            done: queue.SimpleQueue[Any] = queue.SimpleQueue()
            waiting: set[Any] = set()

            def submit(call: tuple[Any, ...]) -> None:
                future = client.submit(_at_worker, function, call, _versions(), pure=False)
                waiting.add(future)
                future.add_done_callback(done.put)

            submit(first)
            while waiting:
                wanted = AHEAD * max(1, self._cores(client)) - len(waiting)
                for _, call in zip(range(wanted), calls, strict=False):
                    submit(call)
                future = self._next(client, done)
                # Its worker went before the result was here: Dask makes it again.
                if future.status in ("lost", "pending"):
                    future.add_done_callback(done.put)
                    continue
                waiting.discard(future)
                task, columns, (worker, measured) = _result(self.scheduler, future)
                self._workers[worker] += 0 if task.skipped else task.fits
                if measured is not None:
                    self.pace.learn(task, *measured)
                yield task, columns

    def _cores(self, client: Any) -> int:
        """Threads of all workers. ClusterError where the scheduler is gone."""
        try:
            return int(sum(client.ncores().values()))
        except (OSError, TimeoutError) as error:
            raise self._gone(type(error).__name__) from None

    def _gone(self, sign: str) -> ClusterError:
        return ClusterError(f"the Dask scheduler at {self.scheduler} is gone ({sign}); {_KEPT}")

    def _next(self, client: Any, done: queue.SimpleQueue[Any]) -> Any:
        """The next future that is done. ClusterError where the scheduler is gone."""
        while True:
            with contextlib.suppress(queue.Empty):
                return done.get(timeout=1.0)
            if client.status not in ("running", "connecting"):
                raise self._gone(client.status)

    def entry(self) -> dict[str, Any]:
        """Backend, scheduler, and fits by worker."""
        return {"backend": "dask", "scheduler": self.scheduler, "workers": dict(self._workers)}


class _Stopwatch(Pace):
    """Keeps what one task would have taught."""

    measured: tuple[int, float] | None = None

    def learn(self, task: Any, replicates: int, seconds: float) -> None:
        self.measured = replicates, seconds


#: Whether a task was done in this process, so that the kernels are compiled.
_WARM = False


def _at_worker(function: Callable[..., Any], call: tuple[Any, ...], versions: dict[str, Any]) -> tuple[Any, ...]:
    """(task, columns, (worker, (replicates, seconds) that were timed)); a text where versions differ."""
    global _WARM
    from distributed import get_worker

    own = _versions()
    if own != versions:
        names = [name for name in versions if own[name] != versions[name]]
        return ("; ".join(f"{name} {own[name]} there, {versions[name]} here" for name in names),)
    watch = _Stopwatch()
    watch.warm = _WARM
    task, columns = function(*call, watch)
    _WARM = watch.warm
    return task, columns, (f"{platform.node()} {get_worker().address}", watch.measured)


def _versions() -> dict[str, Any]:
    """All that must be the same at a worker, so that nothing is mixed."""
    found = software()
    return {"draws": DRAW_VERSION, "numerics": NUMERICS_VERSION, **{name: found.get(name) for name in _SAME}}


def _result(scheduler: str, future: Any) -> tuple[Any, ...]:
    """What a worker returned. Its own exception, or ClusterError where there is no result."""
    if future.status == "error":
        error = future.exception()
        if type(error).__module__.startswith("distributed"):
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ClusterError(f"the Dask cluster at {scheduler} gave up a task ({text}); {_KEPT}")
        if isinstance(error, ImportError) or "deserialization" in str(error):
            raise ClusterError(
                f"the Dask cluster at {scheduler} cannot load nestlab, or a module that it needs ({_root(error)}); install the "
                "same there, for its scheduler too"
            ) from None
        raise error
    if future.status != "finished":
        raise ClusterError(f"the Dask scheduler at {scheduler} is gone (a task is {future.status}); {_KEPT}")
    found: tuple[Any, ...] = future.result()
    if len(found) == 1:
        raise ClusterError(
            f"a Dask worker at {scheduler} has other versions ({found[0]}), which would mix results; install the same there"
        )
    return found


def _root(error: BaseException) -> str:
    """What an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    """A client with a worker at least."""
    import distributed

    connect: Any = distributed.Client
    try:
        client = connect(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ClusterError(
            f"there is no Dask scheduler at {show(scheduler)} ({reason}); start one (dask scheduler), or correct --scheduler"
        ) from None
    try:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError:
            raise ClusterError(
                f"the Dask scheduler at {scheduler} has no worker after {FIRST_WORKER:g} s; start some: dask worker {scheduler}"
            ) from None
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)
