"""Files of a results folder, which may be somebody else's: written whole or not at all, read only where they are plain files.

No link is followed, so nothing outside the folder is read, changed or removed, whatever the folder holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from pathlib import Path

__all__ = [
    "RefusedError",
    "StorageError",
    "clear_leftovers",
    "is_plain_name",
    "make_folder",
    "read_plain",
    "write_whole",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\.parquet")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RefusedError(Exception):
    """Results that must not be used or mixed.

    They are stale, altered, or of another study; the message says which, and how to go on.
    """


class StorageError(Exception):
    """A file that could not be written or read: a full disk, missing permissions. Finished parts are kept."""


def is_plain_name(name: str) -> bool:
    """Whether a part may be called this: letters, digits and - _ . before .parquet, no folder, not hidden.

    >>> is_plain_name("c00001-0a-000000000-000001000.parquet"), is_plain_name("../x.parquet"), is_plain_name("/x.parquet")
    (True, False, False)
    """
    return _NAME.fullmatch(name) is not None


def read_plain(path: Path) -> bytes:
    """The bytes of a plain file. FileNotFoundError if there is none, RefusedError for a link, a folder, a pipe or a device."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, getattr(errno, "EMLINK", None)):
            raise RefusedError(_not_plain(path)) from None
        raise StorageError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RefusedError(_not_plain(path))
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _not_plain(path: Path) -> str:
    return (
        f"{path} is a link, a folder or a device, not a file; replace it by the file itself, or remove it and run again"
    )


def make_folder(folder: Path) -> None:
    """A folder of results; RefusedError where a link stands in its place."""
    if folder.is_symlink():
        raise RefusedError(
            f"{folder} is a link: nothing is written outside the results folder; move the whole folder, or choose --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name in the same folder, then a rename, which replaces a link.

    Raises StorageError where that fails; then nothing of it is left.
    """
    name = ""
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        if name:
            with contextlib.suppress(OSError):
                Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from None
        raise


def _unwritable(path: Path, error: OSError) -> StorageError:
    repair = "make room" if error.errno in _FULL else "check the folder and its permissions"
    return StorageError(
        f"{path} cannot be written ({error.strerror}); what was finished is kept: {repair}, then give the same command again"
    )


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed. Only for whoever holds the folder alone."""
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()
