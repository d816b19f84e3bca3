"""Who is told when a kernel is compiled. It knows no compiler, so that a command that compiles nothing need not import one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["compiling", "watched"]

_WATCHERS: list[Callable[[], None]] = []


@contextmanager
def watched(watcher: Callable[[], None]) -> Iterator[None]:
    """Call `watcher` whenever a kernel is compiled, and not found on disk, within the block."""
    _WATCHERS.append(watcher)
    try:
        yield
    finally:
        _WATCHERS.remove(watcher)


def compiling() -> None:
    """A kernel is being compiled."""
    for watcher in tuple(_WATCHERS):
        watcher()
