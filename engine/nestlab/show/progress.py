"""How a run tells people where it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TaskID as _TaskID

from ..simulate.compiling import watched

__all__ = ["BarProgress", "LineProgress", "compiling_said", "duration", "plural", "progress_for"]

#: Seconds between plain lines, at first; then a twelfth of the time gone by; at most.
INTERVAL, SHARE, LONGEST = 5.0, 1 / 12, 600.0
#: Seconds without a fit after which it is said what is going on, and what.
PATIENCE = 1.5
COMPILING = "compiling the kernels (once: they are kept on disk)"


def progress_for(console: Console) -> BarProgress | LineProgress:
    """A bar if the console is a terminal, plain lines otherwise. Both write to standard error."""
    return BarProgress(console) if console.is_terminal else LineProgress()


@contextmanager
def compiling_said() -> Iterator[None]:
    """Say once, on standard error, that kernels are compiled, if within the block any are (and not found on disk)."""
    said = False

    def say() -> None:
        nonlocal said
        if not said:
            said = True
            print(COMPILING, file=sys.stderr, flush=True)

    with watched(say):
        yield


def _rate(done: int, total: int, seconds: float) -> str:
    if done == 0 or seconds <= 0:
        return "starting"
    rate = done / seconds
    return f"{rate:,.0f} fits/s, {duration((total - done) / rate)} left"


def plural(count: int, word: str) -> str:
    """1 condition, 2 conditions."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 12 s, 3 min 5 s, 2 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class BarProgress:
    """A rich progress bar with rate and time left."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), console=console, transient=True,
        )  # fmt: skip
        self._task: _TaskID | None = None
        self._first: float | None = None
        self._timer = threading.Timer(PATIENCE, self._compiling)
        self._timer.daemon = True

    def start(self, fits: int, conditions: int) -> None:
        if fits:
            self._bar.start()
            self._task = self._bar.add_task("fitting", total=fits, rate=_rate(0, fits, 0))
            self._timer.start()

    def _compiling(self) -> None:
        if self._first is None and self._task is not None:
            self._bar.update(self._task, rate=COMPILING)

    def advance(self, fits: int) -> None:
        if self._task is None:
            return
        task = self._bar.tasks[0]
        if self._first is None:  # time from the first block on: what came before is compilation
            self._first = time.monotonic()
        done = int(task.completed) + fits
        self._bar.update(
            self._task, advance=fits, rate=_rate(done, int(task.total or 0), time.monotonic() - self._first)
        )

    def expect(self, fits: int) -> None:
        self.skip(-fits)

    def skip(self, fits: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, total=(self._bar.tasks[0].total or 0) - fits)

    def finished(self, condition: int) -> None: ...

    def stage(self, text: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=text, rate="")

    def stop(self) -> None:
        self._timer.cancel()
        self._bar.stop()


class LineProgress:
    """A line now and then, with the time and the conditions done, for logs: every 5 s at first, every 5 min after an hour."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._total = self._done = self._finished = 0
        self._condition: int | None = None
        self._first: float | None = None
        self._last = time.monotonic()
        self._timer = threading.Timer(PATIENCE, self._compiling)
        self._timer.daemon = True

    def start(self, fits: int, conditions: int) -> None:
        self._total = fits
        if fits:
            self._say(f"{fits:,} fits in {conditions:,} condition{'s' * (conditions != 1)}")
            self._timer.start()

    def _compiling(self) -> None:
        if self._first is None:
            self._say(COMPILING)

    def advance(self, fits: int) -> None:
        with self._guard:
            now = time.monotonic()
            if self._first is None:
                self._first = self._last = now
            self._done += fits
            if now - self._last >= min(max(INTERVAL, SHARE * (now - self._first)), LONGEST):
                self._last = now
                self._say(
                    f"{self._done:,} of {self._total:,} fits, {self._where()}"
                    f"{_rate(self._done, self._total, now - self._first)}"
                )

    def _where(self) -> str:
        if self._condition is None:
            return ""
        return f"{plural(self._finished, 'condition')} finished, the last was {self._condition}, "

    def expect(self, fits: int) -> None:
        self.skip(-fits)

    def skip(self, fits: int) -> None:
        with self._guard:
            self._total -= fits

    def finished(self, condition: int) -> None:
        with self._guard:
            self._finished, self._condition = self._finished + 1, condition

    def stage(self, text: str) -> None:
        if self._total:
            self._say(text)

    def stop(self) -> None:
        self._timer.cancel()

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)
