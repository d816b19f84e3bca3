"""Compilation to machine code, kept on disk for the next process, installed packages and workers included.

Numba's own disk cache looks at the file of the cached function only: a helper in another file may change and the old machine code
is used in silence; and wheels give all files one date. Here the names of the cache's files hold a digest of the sources of the
function's module and of all modules of this package that it imports, directly or not. So a stale cache can't be read, and two
versions can share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["compiled", "source_digest"]

_IMPORT = re.compile(r"^from (\.+)([\w.]*) import ([\w, ]*)", re.MULTILINE)


@cache
def source_digest(file: Path) -> str:
    """Hexadecimal digest of a module's source, of those of its package that it imports, and of the compiler's version."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for source in sorted(_closure(file)):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _closure(file: Path) -> set[Path]:
    """The module's file and those of all modules that it imports by relative imports, directly or not."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        source = waiting.pop()
        if source in found:
            continue
        found.add(source)
        for dots, name, names in _IMPORT.findall(source.read_text(encoding="utf-8")):
            folder = source.parents[len(dots) - 1].joinpath(*name.split("."))
            candidates = [folder.with_suffix(".py")] if name else []
            candidates += [folder / f"{part.strip()}.py" for part in names.split(",")]
            waiting += [candidate for candidate in candidates if candidate.is_file()]
    return found


class _SourceCache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        digest = source_digest(Path(function.__code__.co_filename).resolve())
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
