"""Compilation to machine code, kept on disk for the next process, installed packages and workers included.

Numba's own disk cache looks at the file of the cached function only: a helper in another file may change and the old machine code
is used in silence; and wheels give all files one date. Here the names of the cache's files hold a digest of all sources of fit/
and simulate/, from which compiled functions take all that they use. So a stale cache can't be read, and two versions can share a
folder. One digest serves a whole process: reading these half a million bytes takes 2 ms.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

from .compiling import compiling

__all__ = ["ROOMS", "compiled", "source_digest"]

#: The folders of this package whose functions are compiled.
ROOMS = ("fit", "simulate")


@cache
def source_digest() -> str:
    """Hexadecimal digest of the names and bytes of all sources of the rooms, and of the compiler's version."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for source in sorted(file for room in ROOMS for file in (package / room).rglob("*.py")):
        content = source.read_bytes()
        digest.update(f"\0{source.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


class _Listener(event.Listener):
    def on_start(self, event: Any) -> None:
        compiling()

    def on_end(self, event: Any) -> None: ...


event.register("numba:compile", _Listener())  # type: ignore[no-untyped-call]


class _SourceCache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        digest = source_digest()
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}.{digest[:16]}",
            source_stamp=digest,
        )


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile at the first call, releasing the GIL, and keep the machine code on disk. options: Numba's.

    Where no folder can be written to, or Numba's internals are others than those known, it compiles in each process.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
        with contextlib.suppress(AttributeError, OSError, RuntimeError, TypeError):
            dispatcher._cache = _SourceCache(function)
        return dispatcher

    return decorate
