"""A folder of results before anything in it is used: whether it holds any, the study as it was run, whether a run may go on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..spec.study import StudyFile
from .files import RefusedError, read_plain
from .own_code import stored_digests

__all__ = ["check_resumable", "no_results", "stored_study"]


def stored_study(folder: Path, manifest: Mapping[str, Any]) -> StudyFile:
    """The study as it was run, with the digests of its code. RefusedError where a link or a device stands in its place."""
    with contextlib.suppress(FileNotFoundError):  # which from_toml tells in its own words
        read_plain(folder / "study.toml")
    return StudyFile.from_toml(folder / "study.toml").with_digests(stored_digests(manifest))


def no_results(folder: Path) -> RefusedError:
    """What is said of a folder that holds no results."""
    named = Path("results") / folder
    repair = (
        f'did you mean "{named}"?' if (named / "manifest.json").exists() else "run the study first: nestlab run STUDY"
    )
    return RefusedError(f"{folder} holds no results (no manifest.json); {repair}")


def check_resumable(folder: Path) -> None:
    """RefusedError for a folder that `nestlab run` cannot go on with by itself: no results, or those of a search."""
    manifest = folder / "manifest.json"
    if not (folder / "study.toml").is_file() or (folder / "study.toml").is_symlink():
        raise RefusedError(f"{folder} holds no study.toml to go on with; name a study file")
    with contextlib.suppress(FileNotFoundError, ValueError, AttributeError, RecursionError):
        if json.loads(read_plain(manifest)).get("solve") is not None:
            raise RefusedError(f"{folder} holds the designs of a search; go on with it by the same nestlab solve")
