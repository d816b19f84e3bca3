"""What shards tell of their runs: a file each in shards/, which is taken into the manifest when nobody writes the folder."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import RefusedError, make_folder, read_plain
from .shard import Shard
from .shard_lock import SHARDS

if TYPE_CHECKING:
    from .store import Store

__all__ = ["entry_path", "read_entries", "take_entries"]

_NAME = re.compile(r"\d{1,6}-of-\d{1,6}-[0-9TZ-]{1,40}\.json")


def entry_path(folder: Path, shard: Shard, started: datetime) -> Path:
    """Where one run of a shard tells of itself."""
    make_folder(folder / SHARDS)
    return folder / SHARDS / f"{shard.number}-of-{shard.of}-{started:%Y%m%dT%H%M%S}-{os.getpid()}.json"


def read_entries(folder: Path) -> dict[Path, dict[str, Any]]:
    """The runs of shards that the manifest does not list yet, by their files, in the order of their start."""
    found: dict[Path, dict[str, Any]] = {}
    if (folder / SHARDS).is_dir() and not (folder / SHARDS).is_symlink():
        for path in (folder / SHARDS).iterdir():
            if _NAME.fullmatch(path.name):
                found[path] = _entry(path)
    return dict(sorted(found.items(), key=lambda item: str(item[1].get("started"))))


def _entry(path: Path) -> dict[str, Any]:
    try:
        entry: Any = json.loads(read_plain(path))
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise RefusedError(f"{path} is not what a shard writes; remove it and run again")
    return entry


def take_entries(store: Store) -> None:
    """Put them into the manifest and write it, then remove their files. Under the lock of the folder."""
    found = read_entries(store.folder)
    if not found:
        return
    store.write_manifest(runs=[*store.manifest.get("runs", []), *found.values()])
    for path in found:
        path.unlink(missing_ok=True)
