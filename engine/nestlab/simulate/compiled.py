"""Compilation to machine code, kept on disk for the next process, installed packages and workers included.

Numba's own disk cache looks at the file of the cached function only: a helper in another file may change and the old machine code
is used in silence; and wheels give all files one date. Here the names of the cache's files hold a digest of the sources of the
function's module and of all modules of this package that it imports, directly or not. So a stale cache can't be read, and two
versions can share a folder.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["compiled", "source_digest"]


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
        if source not in found:
            found.add(source)
            waiting += _imports(source, source.read_bytes())
    return found


@cache
def _imports(file: Path, text: bytes) -> list[Path]:
    files = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            candidates = [folder.with_suffix(".py")] if node.module else []
            candidates += [folder / f"{name.name}.py" for name in node.names]
            files += [candidate for candidate in candidates if candidate.is_file()]
    return files


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
