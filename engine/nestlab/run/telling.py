"""What a run tells while it goes on, and what it measures of itself."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from .plan import Task

__all__ = ["Meter", "Progress", "Quiet"]


class Progress(Protocol):
    """What a run tells while it goes on. `advance`, `skip` (fits that need not be made) and `finished` (a condition, by its
    number) are called from worker threads; `expect` says that there are more fits than `start` said."""

    def start(self, fits: int, conditions: int) -> None: ...
    def expect(self, fits: int) -> None: ...
    def advance(self, fits: int) -> None: ...
    def skip(self, fits: int) -> None: ...
    def finished(self, condition: int) -> None: ...
    def stage(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Quiet:
    """No progress at all."""

    def start(self, fits: int, conditions: int) -> None: ...
    def expect(self, fits: int) -> None: ...
    def advance(self, fits: int) -> None: ...
    def skip(self, fits: int) -> None: ...
    def finished(self, condition: int) -> None: ...
    def stage(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Meter:
    """What was made so far, and how fast: fits, clusters fitted (work) and seconds, by the kind of method.

    The first task of a kind waited for the compilation: the clock starts when it is done, and it counts for nothing but `made`.
    """

    def __init__(self) -> None:
        self.made = 0
        self._guard = threading.Lock()
        self._started: dict[str, float] = {}
        self._pace: dict[str, dict[str, float]] = {}

    def add(self, task: Task) -> None:
        kind, now = "rows" if task.by_rows else "compiled", time.monotonic()
        with self._guard:
            self.made += task.fits
            if kind not in self._started:
                self._started[kind] = now
                return
            pace = self._pace.setdefault(kind, {"fits": 0, "work": 0, "seconds": 0.0})
            pace["fits"] += task.fits
            pace["work"] += task.work
            pace["seconds"] = round(now - self._started[kind], 3)

    def pace(self) -> dict[str, dict[str, float]]:
        """For the manifest."""
        with self._guard:
            return {kind: dict(values) for kind, values in self._pace.items()}
