"""What is kept on disk, and the promise that nothing in it is mixed, stale or half written.

A results folder holds study.toml, manifest.json, conditions.parquet, replicates/*.parquet and summary.parquet (results/README.md
documents each column). A part is one Parquet file of replicate rows of one condition and method: written whole under a temporary
name, then renamed. Its footer names its result key and range, so that parts that the manifest does not list yet (a run that was
killed) are found again. The only place that reads or writes Parquet with pyarrow.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..fit.status import InferenceStatus, Status

__all__ = ["Part", "RefusedError", "Store", "StoredCondition", "finite", "missing_ranges", "write_frame"]

SCHEMA_VERSION = 1
#: Columns after `deviance` that are neither numbers in double precision nor statuses.
_OTHER_TYPES = {"message": pa.string(), "warnings": pa.int32()}


class RefusedError(Exception):
    """Results that must not be used or mixed.

    They are stale, altered, or of another study; the message says which, and how to go on.
    """


@dataclass(frozen=True, slots=True)
class Part:
    """One file of replicate rows: replicates first .. last - 1 of one condition and method."""

    file: str
    condition: int
    method: str
    result_key: str
    first: int
    last: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredCondition:
    """A row of conditions.parquet. spec: the resolved condition, flat, in the study file's words; truth: by estimand.

    replications: how many were asked for when the condition was last active. stated: effects in standard units, by term as text
    ("d = 0.3 by total variance") and by term and unit as a number ("x.d").
    """

    number: int
    data_key: str
    active: bool
    factors: Mapping[str, Any]
    spec: Mapping[str, Any]
    truth: Mapping[str, float]
    replications: int = 0
    stated: Mapping[str, str | float] = field(default_factory=dict)


class Store:
    """One results folder. Threads may write parts and read; one process writes at a time (`locked`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replicates = folder / "replicates"
        self._guard = threading.Lock()
        self.manifest: dict[str, Any] = self._read_manifest()
        self.parts: dict[str, Part] = {}
        for file, entry in self.manifest.get("parts", {}).items():
            self.parts[file] = Part(file=file, **entry)

    # -- opening ---------------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not path.exists():
            return {}
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            version = manifest["schema_version"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RefusedError(
                f"{path} cannot be read ({error}); restore it, or choose another folder with --out"
            ) from None
        if version != SCHEMA_VERSION:
            raise RefusedError(
                f"{self.folder} has schema version {version}, this nestlab writes {SCHEMA_VERSION}; "
                "choose another folder with --out"
            )
        return dict(manifest)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing. Raises RefusedError if another process holds it."""
        created = not self.folder.exists()
        self.replicates.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        with path.open("a+", encoding="utf-8") as handle:
            if not _try_lock(handle.fileno()):
                handle.seek(0)
                owner = handle.read().strip() or "unknown"
                raise RefusedError(
                    f"{self.folder} is being written by another run ({owner}); wait for it, or choose --out"
                )
            handle.truncate(0)
            handle.write(f"process {os.getpid()}")
            handle.flush()
            try:
                for leftover in self.replicates.glob(".*.tmp"):
                    leftover.unlink()
                yield
            finally:
                path.unlink(missing_ok=True)
        if created and not self.exists and not any(self.replicates.iterdir()):
            self.replicates.rmdir()
            self.folder.rmdir()

    def adopt_unlisted(self) -> list[Part]:
        """Take in whole parts that the manifest does not list: those of a run that was killed."""
        found = []
        for path in sorted(self.replicates.glob("[!.]*.parquet")):
            if path.name in self.parts:
                continue
            data = path.read_bytes()
            try:
                footer = pq.read_metadata(pa.BufferReader(data)).metadata or {}
                entry = json.loads(footer[b"nestlab"])
            except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
                raise RefusedError(
                    f"{path} is not a whole part of this study ({error}); remove it and run again"
                ) from None
            part = Part(file=path.name, sha256=hashlib.sha256(data).hexdigest(), **entry)
            self.parts[part.file] = part
            found.append(part)
        return found

    # -- conditions ------------------------------------------------------------------------------------------------------

    def read_conditions(self) -> list[StoredCondition]:
        """conditions.parquet as it stands; none before the first run."""
        path = self.folder / "conditions.parquet"
        if not path.exists():
            return []
        table = pq.read_table(path)
        factors = json.loads((table.schema.metadata or {}).get(b"factors", b"[]"))
        stored = []
        for row in table.to_pylist():
            truth, stated = (
                {k.removeprefix(head): v for k, v in row.items() if k.startswith(head) and v is not None}
                for head in ("true.", "stated.")
            )
            spec = json.loads(row["spec"])
            kept = {name: row[name] for name in factors if row[name] is not None}
            asked = row.get("replications") or int(
                self.manifest.get("replications", 0)
            )  # older tables have no such column
            stored.append(
                StoredCondition(row["condition"], row["data_key"], row["active"], kept, spec, truth, asked, stated)
            )
        return stored

    def write_conditions(self, conditions: Sequence[StoredCondition], derived: Mapping[int, Mapping[str, Any]]) -> None:
        """Rewrite conditions.parquet; numbers are given once and never change."""
        factors = list(dict.fromkeys(name for c in conditions for name in c.factors))
        estimands = list(dict.fromkeys(name for c in conditions for name in c.truth))
        columns: dict[str, list[Any]] = {
            "condition": [c.number for c in conditions],
            "active": [c.active for c in conditions],
            "data_key": [c.data_key for c in conditions],
            "replications": [c.replications for c in conditions],
        }
        for name in factors:
            columns[name] = _one_type([c.factors.get(name) for c in conditions])
        for name in estimands:
            columns[f"true.{name}"] = [finite(c.truth.get(name)) for c in conditions]
        for name in dict.fromkeys(name for c in conditions for name in c.stated):
            columns[f"stated.{name}"] = [c.stated.get(name) for c in conditions]
        for name in dict.fromkeys(key for row in derived.values() for key in row):
            columns[name] = [derived.get(c.number, {}).get(name) for c in conditions]
        columns["spec"] = [json.dumps(c.spec, sort_keys=True) for c in conditions]
        table = pa.table(columns).replace_schema_metadata({"factors": json.dumps(factors)})
        _write_whole(self.folder / "conditions.parquet", _parquet(table))

    # -- parts -----------------------------------------------------------------------------------------------------------

    def covered(self, condition: int, result_key: str) -> list[tuple[int, int]]:
        """Stored ranges of one condition and method, in order. Raises RefusedError where parts overlap."""
        parts = self._parts_of(condition, result_key)
        for a, b in pairwise(parts):
            if b.first < a.last:
                raise RefusedError(
                    f"{a.file} and {b.file} in {self.replicates} hold the same replicates; remove one of them"
                )
        return [(p.first, p.last) for p in parts]

    def _parts_of(self, condition: int, result_key: str) -> list[Part]:
        with self._guard:
            parts = list(self.parts.values())
        wanted = (p for p in parts if p.condition == condition and p.result_key == result_key)
        return sorted(wanted, key=lambda p: (p.first, p.last))

    def write_part(
        self, columns: Mapping[str, NDArray[np.generic]], schema: Sequence[str], *, condition: int, method: str,
        result_key: str, first: int, last: int,
    ) -> Part:  # fmt: skip
        """Write one part, whole or not at all. columns: `block.Columns`; schema: every estimate, se and df column of the study,
        null where absent."""
        rows = last - first
        arrays: dict[str, Any] = {"condition": pa.array(np.full(rows, condition, dtype=np.int32))}
        for name in ("block", "replicate"):
            arrays[name] = pa.array(columns[name])
        arrays["method"] = _coded(np.zeros(rows, dtype=np.int8), [method])
        arrays["status"] = _coded(columns["status"], [status.name for status in Status])
        for name in ("singular", "iterations", "deviance"):
            arrays[name] = pa.array(columns[name])
        for name in schema:
            if name in ("rows", "clusters"):
                arrays[name] = pa.array(columns[name])
            elif name in _OTHER_TYPES:
                values = columns.get(name)
                arrays[name] = pa.array([None] * rows if values is None else values, type=_OTHER_TYPES[name])
            elif name.startswith("inference"):
                codes = columns.get(name, np.zeros(rows, dtype=np.int8))
                arrays[name] = _coded(codes, [status.name for status in InferenceStatus], absent=name not in columns)
            else:
                arrays[name] = pa.array(columns[name]) if name in columns else pa.nulls(rows, pa.float64())
        entry = {"condition": condition, "method": method, "result_key": result_key, "first": first, "last": last}
        table = pa.table(arrays).replace_schema_metadata({"nestlab": json.dumps(entry)})
        file = f"c{condition:05d}-{result_key[:12]}-{first:09d}-{last:09d}.parquet"
        data = _parquet(table)
        _write_whole(self.replicates / file, data)
        part = Part(file=file, sha256=hashlib.sha256(data).hexdigest(), **entry)  # type: ignore[arg-type]
        with self._guard:
            self.parts[file] = part
        return part

    def read(self, condition: int, result_key: str, replications: int) -> pd.DataFrame:
        """Rows of the first `replications` replicates of one condition and method, in order; checksums are verified.

        Raises RefusedError for a part that is missing, altered or truncated.
        """
        table = self._read_table(condition, result_key, replications)
        if table is None:
            return pd.DataFrame()
        frame: pd.DataFrame = table.to_pandas()
        return frame[frame["replicate"] < replications]

    def read_columns(self, condition: int, result_key: str, replications: int) -> dict[str, NDArray[Any]]:
        """The same as arrays by column, `method` left out and statuses as codes; nothing stored: no columns."""
        table = self._read_table(condition, result_key, replications)
        if table is None:
            return {}
        coded = {name for name in table.column_names if name == "status" or name.startswith("inference")}
        columns = {
            name: table[name].to_numpy() for name in table.column_names if name != "method" and name not in coded
        }
        for name in coded:
            if table[name].null_count == 0:
                columns[name] = _codes(table[name], Status if name == "status" else InferenceStatus)
        kept = columns["replicate"] < replications
        return columns if kept.all() else {name: values[kept] for name, values in columns.items()}

    def _read_table(self, condition: int, result_key: str, replications: int) -> pa.Table | None:
        self.covered(condition, result_key)
        tables = [self._read_part(p) for p in self._parts_of(condition, result_key) if p.first < replications]
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    def _read_part(self, part: Part) -> pa.Table:
        path = self.replicates / part.file
        repair = "remove it and run again: only its replicates are computed anew"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise RefusedError(f"{path} is listed in the manifest but missing; run again to compute it anew") from None
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise RefusedError(f"{path} was altered or truncated since it was written; {repair}")
        return pq.read_table(pa.BufferReader(data), use_threads=False)

    def forget_missing(self) -> None:
        """Drop parts whose files were removed by hand, so that they are computed again."""
        for file in [f for f in self.parts if not (self.replicates / f).exists()]:
            del self.parts[file]

    # -- tables and manifest ---------------------------------------------------------------------------------------------

    def write_summary(self, frame: pd.DataFrame) -> Path:
        path = self.folder / "summary.parquet"
        _write_whole(path, _parquet(pa.Table.from_pandas(frame, preserve_index=False)))
        return path

    def read_summary(self) -> pd.DataFrame:
        path = self.folder / "summary.parquet"
        if not path.exists():
            raise RefusedError(f"{path} does not exist; finish the run first: nestlab run")
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
        return frame

    def write_study(self, text: str) -> None:
        _write_whole(self.folder / "study.toml", text.encode())

    def write_manifest(self, **entries: Any) -> None:
        """Write manifest.json with the parts as they stand; `entries` replace what it says under those names."""
        with self._guard:
            parts = {
                file: {k: v for k, v in asdict(p).items() if k != "file"} for file, p in sorted(self.parts.items())
            }
            self.manifest = {**self.manifest, **entries, "schema_version": SCHEMA_VERSION, "parts": parts}
            text = json.dumps(self.manifest, indent=1, allow_nan=False)
        _write_whole(self.folder / "manifest.json", text.encode())


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV or Parquet, by the ending of its name; numbers keep all digits. ValueError for another ending."""
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: the name must end in .csv or .parquet")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    _write_whole(path, frame.to_csv(index=False).encode() if path.suffix == ".csv" else _parquet(table))


def missing_ranges(covered: Iterable[tuple[int, int]], replications: int) -> list[tuple[int, int]]:
    """What of 0 .. replications - 1 the sorted, disjoint ranges leave out.

    >>> missing_ranges([(0, 10), (20, 30)], 40)
    [(10, 20), (30, 40)]
    """
    missing, position = [], 0
    for first, last in covered:
        if first >= replications:
            break
        if first > position:
            missing.append((position, first))
        position = max(position, last)
    if position < replications:
        missing.append((position, replications))
    return missing


def finite(value: float | None) -> float | None:
    """The value, or None in place of nan and infinities."""
    return None if value is None or not np.isfinite(value) else float(value)


def _one_type(values: list[Any]) -> list[Any]:
    """Values that Arrow can hold in one column: all text if any is, all float if any is."""
    kinds = {type(v) for v in values if v is not None}
    if str in kinds and len(kinds) > 1:
        return [None if v is None else str(v) for v in values]
    return [float(v) if isinstance(v, int) and float in kinds else v for v in values]


def _coded(codes: NDArray[np.generic], names: Sequence[str], *, absent: bool = False) -> pa.DictionaryArray:
    """Names by their codes; absent: null in every row."""
    mask = np.ones(len(codes), dtype=bool) if absent else None
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8), mask=mask), pa.array(names))


def _codes(column: pa.ChunkedArray, kind: type[Status] | type[InferenceStatus]) -> NDArray[Any]:
    """The codes of a column of names."""
    return np.concatenate(
        [
            np.array([kind[name] for name in chunk.dictionary.to_pylist()])[chunk.indices.to_numpy()]
            for chunk in column.chunks
        ]
    )


def _parquet(table: pa.Table) -> bytes:
    """Bytes of a Parquet file.

    Doubles are split into streams of their first, second, ... bytes and then LZ4-compressed: 69 bytes a replicate of a random
    slope, written in 0.16 us and read in 0.09; zstd alone takes 69 bytes, 0.25 and 0.16 us, both together 63, 0.28 and 0.11.
    """
    sink = pa.BufferOutputStream()
    text = [f.name for f in table.schema if pa.types.is_dictionary(f.type) or pa.types.is_string(f.type)]
    split = {f.name: "BYTE_STREAM_SPLIT" for f in table.schema if pa.types.is_float64(f.type)}
    pq.write_table(
        table, sink, compression="lz4", use_dictionary=text, column_encoding=split or None, write_statistics=False
    )
    return bytes(sink.getvalue())


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name in the same folder, then a rename."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: no lock is better than no run
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
