"""Locks of shards: each shard at work holds one of its own in the results folder, and a run that needs the whole folder sees it.

All shards at work are of one plan, a digest of the study and of the number of shards, without which their shares could overlap.
Each tells of its run in a file of its own in shards/, which is taken into the manifest when nobody writes the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import RefusedError, StorageError, make_folder, read_plain
from .lock import LOCK, SILENCE, BusyError, Owner, busy, holder, locked

if TYPE_CHECKING:
    from .shard import Shard
    from .store import Store

__all__ = [
    "SHARDS",
    "at_work",
    "entry_path",
    "hold_shard",
    "plan_digest",
    "read_entries",
    "refuse_shards",
    "take_entries",
    "wait_for_shards",
]

#: Folder of what shards tell of their runs, until it is merged into the manifest.
SHARDS = "shards"
#: Seconds that a shard waits for another process: its own former self, which is ending, or a run that merges.
PATIENCE = 60.0
_ENTRY = re.compile(r"\d{1,6}-of-\d{1,6}-[0-9TZ-]{1,40}\.json")
_NAME = re.compile(r"\.shard-(\d{1,6})-of-(\d{1,6})\.lock")


def plan_digest(text: str, of: int) -> str:
    """What all shards at work must have in common: the study file's text and the number of shards."""
    return hashlib.sha256(f"{of}\0{text}".encode()).hexdigest()


def at_work(folder: Path) -> dict[str, Owner]:
    """The shards at work ("3/8") and their processes, by their locks."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            named = _NAME.fullmatch(path.name)
            owner = holder(folder, path.name) if named else None
            if named and owner is not None:
                found[f"{int(named[1])}/{int(named[2])}"] = owner
    return dict(sorted(found.items(), key=lambda item: tuple(map(int, item[0].split("/")))))


def refuse_shards(folder: Path) -> None:
    """For a run that holds the folder: BusyError where shards are at work; locks of dead ones are removed."""
    for shard, owner in at_work(folder).items():
        raise BusyError(
            f"{folder} is being written by shard {shard} ({owner.text}); wait for the shards (nestlab status {folder}), or "
            "choose --out"
        )
    for path in folder.glob(".shard-*.lock"):
        if _NAME.fullmatch(path.name) and _is_dead(path):
            path.unlink(missing_ok=True)


def _is_dead(path: Path) -> bool:
    """Whether a lock was left by a process that is no more; one that is being made does not name its process yet."""
    try:
        owner, age = Owner.parse(read_plain(path)), time.time() - path.lstat().st_mtime
    except (OSError, RefusedError, StorageError):
        return False
    return owner is not None and (owner.is_alive_here() is False or age > 2 * SILENCE)


def wait_for_shards(folder: Path, seconds: float = 2 * SILENCE) -> None:
    """Wait until no shard shows signs of life, which one that was killed elsewhere ceases to do after a while."""
    end = time.monotonic() + seconds
    while at_work(folder) and time.monotonic() < end:
        time.sleep(1.0)


@contextmanager
def hold_shard(folder: Path, number: int, of: int, plan: str) -> Iterator[None]:
    """Be a shard at work. BusyError where it is at work already, RefusedError where shards of another plan are."""
    name = f".shard-{number}-of-{of}.lock"
    with locked(folder, name, patience=PATIENCE, says={"plan": plan}):
        for shard, owner in at_work(folder).items():
            other = folder / ".shard-{}-of-{}.lock".format(*shard.split("/"))
            if _plan_of(other) not in (plan, None):
                raise RefusedError(
                    f"{folder} is being written by shard {shard} of another study file or number of shards "
                    f"({owner.text}); wait for it (nestlab status {folder}), or choose --out"
                )
        # A run that held the folder before this shard's lock was there does not know of it.
        end = time.monotonic() + PATIENCE
        while (running := holder(folder)) is not None:
            if time.monotonic() > end:
                raise busy(folder / LOCK, running)
            time.sleep(0.2)
        yield


def _plan_of(path: Path) -> str | None:
    try:
        return str(json.loads(read_plain(path))["plan"])
    except (OSError, ValueError, KeyError, TypeError, RefusedError, StorageError):
        return None


# -- what shards tell of their runs ------------------------------------------------------------------------------------------


def entry_path(folder: Path, shard: Shard, started: datetime) -> Path:
    """Where one run of a shard tells of itself."""
    make_folder(folder / SHARDS)
    return folder / SHARDS / f"{shard.number}-of-{shard.of}-{started:%Y%m%dT%H%M%S}-{os.getpid()}.json"


def read_entries(folder: Path) -> dict[Path, dict[str, Any]]:
    """The runs of shards that the manifest does not list yet, by their files, in the order of their start."""
    found: dict[Path, dict[str, Any]] = {}
    if (folder / SHARDS).is_dir() and not (folder / SHARDS).is_symlink():
        for path in (folder / SHARDS).iterdir():
            if _ENTRY.fullmatch(path.name):
                try:
                    entry: Any = json.loads(read_plain(path))
                except (ValueError, RecursionError):
                    entry = None
                if not isinstance(entry, dict):
                    raise RefusedError(f"{path} is not what a shard writes; remove it and run again")
                found[path] = entry
    return dict(sorted(found.items(), key=lambda item: str(item[1].get("started"))))


def take_entries(store: Store) -> None:
    """Put them into the manifest and write it, then remove their files. Under the lock of the folder."""
    found = read_entries(store.folder)
    if not found:
        return
    store.write_manifest(runs=[*store.manifest.get("runs", []), *found.values()])
    for path in found:
        path.unlink(missing_ok=True)
