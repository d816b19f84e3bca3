"""The lock of a results folder: one process writes at a time, and whoever is turned away is told who that is.

`.lock` is locked by the kernel (flock), which frees it when its process dies, however it dies. It holds its owner as JSON and is
touched every few seconds. Those signs of life decide where the kernel cannot: on network folders whose flock holds on one machine
only, or that have none. A lock that shows none for a while, or whose process on this machine is dead, is taken over.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import RefusedError, StorageError, read_plain

__all__ = ["LOCK", "BusyError", "Owner", "busy", "holder", "locked"]

LOCK = ".lock"

#: Seconds between signs of life, and without any after which an owner elsewhere is taken for dead.
BEAT, SILENCE = 10.0, 35.0


class BusyError(RefusedError):
    """Another process holds the lock; the message names it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes a folder. born: the process's start in ticks since boot, which tells it from a later one of the same number."""

    host: str
    pid: int
    user: str
    started: str
    born: int | None = None

    @classmethod
    def this_process(cls) -> Owner:
        pid = os.getpid()
        return cls(platform.node(), pid, _user(), datetime.now(UTC).isoformat(timespec="seconds"), _born(pid))

    @classmethod
    def parse(cls, data: bytes) -> Owner | None:
        """The owner that a lock file names; None where it names none."""
        try:
            found: Any = json.loads(data)
            born = found.get("born")
            texts = ["".join(filter(str.isprintable, str(found[name])))[:100] for name in ("host", "user", "started")]
            return cls(texts[0], int(found["pid"]), texts[1], texts[2], None if born is None else int(born))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def text(self) -> str:
        since = self.started.replace("T", " ").removesuffix("+00:00")
        return f"process {self.pid} of {self.user} on {self.host}, since {since} UTC"

    def is_alive_here(self) -> bool | None:
        """Whether the process lives; None if it is of another machine."""
        if self.host != platform.node():
            return None
        if self.born is not None:
            return _born(self.pid) == self.born
        if os.name != "posix":  # there, a signal 0 would end the process
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (OverflowError, OSError):
            return True
        return True


def holder(folder: Path, name: str = LOCK) -> Owner | None:
    """Who writes a folder now, by its lock file; the lock itself is not touched."""
    path = folder / name
    try:
        owner = Owner.parse(read_plain(path))
        age = time.time() - path.lstat().st_mtime
    except (OSError, RefusedError, StorageError):
        return None
    if owner is None or owner.is_alive_here() is False:
        return None
    return owner if age < SILENCE or owner.is_alive_here() else None


@contextmanager
def locked(
    folder: Path, name: str = LOCK, *, patience: float = 0.0, says: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Hold a folder for writing, or what another lock in it stands for.

    patience: seconds to wait for another process; says: what else the lock's file shall tell. Raises BusyError, which names the
    owner, if another process holds it.
    """
    path = folder / name
    handle = _acquire_in_time(path, patience)
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(handle, over), daemon=True)
    try:
        try:
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps({**asdict(Owner.this_process()), **(says or {})}).encode())
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror}); make room, then run again") from None
        heart.start()
        yield
    finally:
        over.set()
        if heart.is_alive():
            heart.join()
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire_in_time(path: Path, patience: float) -> int:
    end = time.monotonic() + patience
    while True:
        try:
            return _acquire(path)
        except BusyError:
            if time.monotonic() >= end:
                raise
            time.sleep(min(0.5, patience))


def _acquire(path: Path) -> int:
    """An open, locked file at path."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RefusedError(f"{path} is a link; remove it and run again") from None
            raise StorageError(f"{path} cannot be written ({error.strerror}); check the folder's permissions") from None
        try:
            owner = Owner.parse(os.read(handle, 4096))
            if not _flock(handle):
                raise busy(path, owner)
            if owner is not None and _still_beats(path, owner):
                raise busy(path, owner)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner removed the file just now: lock the one that stands there


def busy(path: Path, owner: Owner | None) -> BusyError:
    """What is said to whoever is turned away by a lock at path."""
    who = "unknown" if owner is None else owner.text
    return BusyError(
        f"{path.parent} is being written by another run ({who}); wait for it (nestlab status {path.parent}), or choose --out"
    )


def _still_beats(path: Path, owner: Owner) -> bool:
    """Whether the owner that a free lock names lives after all: the kernel's lock may not reach other machines."""
    alive = owner.is_alive_here()
    if alive is not None:
        return alive and owner.pid != os.getpid()
    first = path.lstat().st_mtime_ns
    if time.time() - first / 1e9 > 2 * SILENCE:
        return False
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, SILENCE))
        try:
            if path.lstat().st_mtime_ns != first:
                return True
        except FileNotFoundError:
            return False
    return False


def _flock(handle: int) -> bool:
    """Whether the kernel gives the lock, or has none to give."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: signs of life decide
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _beat(handle: int, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError, NotImplementedError, TypeError):
            os.utime(handle)


def _born(pid: int) -> int | None:
    """A process's start in ticks since boot, from /proc; None where that is not to be had."""
    try:
        text = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return None if state == "Z" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
