"""manifest.json: what ran, when, where and with what, and every part with its checksum (results/README.md says each entry)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .files import RefusedError, read_plain, write_whole
from .parts import Part, Parts

__all__ = ["SCHEMA_VERSION", "BrokenManifestError", "machine", "read_manifest", "software", "write_manifest"]

SCHEMA_VERSION = 1
_SOFTWARE = (
    "nestlab", "numpy", "scipy", "pandas", "pyarrow", "numba", "llvmlite", "joblib", "statsmodels", "pydantic",
)  # fmt: skip


class BrokenManifestError(RefusedError):
    """A manifest that cannot be read; it can be made anew from the parts."""


def read_manifest(folder: Path) -> tuple[dict[str, Any], Parts]:
    """The manifest and its parts; empty where there is none. RefusedError for one that is broken or of another version."""
    path = folder / "manifest.json"
    try:
        manifest: Any = json.loads(read_plain(path))
    except FileNotFoundError:
        return {}, Parts()
    except (ValueError, RecursionError) as error:
        raise BrokenManifestError(f"{path} cannot be read ({error}); {_repair(folder)}") from None
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        raise BrokenManifestError(f"{path} cannot be read (it has no schema_version); {_repair(folder)}")
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise RefusedError(
            f"{folder} has schema version {manifest['schema_version']!r:.40}, this nestlab writes {SCHEMA_VERSION}; "
            "choose another folder with --out"
        )
    for name, kind in (("parts", dict), ("runs", list), ("methods", list)):
        entries = manifest.setdefault(name, kind())
        inside = entries.values() if isinstance(entries, dict) else entries
        if not isinstance(entries, kind) or not all(isinstance(entry, dict) for entry in inside):
            raise BrokenManifestError(f"{path} cannot be read ({name} is not what nestlab writes); {_repair(folder)}")
    if not all(isinstance(method.get("name"), str) for method in manifest["methods"]):
        raise BrokenManifestError(f"{path} cannot be read (methods need names); {_repair(folder)}")
    try:
        return manifest, Parts(
            Part.from_entry(file, entry, where=str(path)) for file, entry in manifest["parts"].items()
        )
    except RefusedError as error:
        raise BrokenManifestError(str(error)) from None


def _repair(folder: Path) -> str:
    return (
        f"restore it, make it anew from the parts (nestlab run {folder} --repair), or choose another folder with --out"
    )


def write_manifest(folder: Path, manifest: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Write the manifest with the parts, one a line, as they stand; returns it."""
    whole = {**manifest, "schema_version": SCHEMA_VERSION, "parts": {part.file: part.entry() for part in parts}}
    lines = [f"  {json.dumps(file)}: {json.dumps(entry)}" for file, entry in whole["parts"].items()]
    head = json.dumps({name: value for name, value in whole.items() if name != "parts"}, indent=1, allow_nan=False)
    listed = ",\n".join(lines)
    text = f'{head[:-2]},\n "parts": {{\n{listed}\n }}\n}}\n' if lines else f'{head[:-2]},\n "parts": {{}}\n}}\n'
    write_whole(folder / "manifest.json", text.encode())
    return whole


def software() -> dict[str, str]:
    """Versions of all that decides about numbers."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, Any]:
    """Where a run is: system, processor, cores, and the host's name."""
    return {
        "host": platform.node(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "byteorder": sys.byteorder,
    }


def _processor() -> str:
    """The processor's model: on Linux platform.processor() does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
