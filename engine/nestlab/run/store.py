"""What is kept on disk, and the promise that nothing in it is mixed, stale or half written.

A results folder holds study.toml, manifest.json, conditions.parquet, replicates/*.parquet and summary.parquet (results/README.md
documents each column). The manifest has a checksum of each of the others (`Store.write_file`). A part is one Parquet file of
replicate rows of one condition and method: written whole under a temporary name, then renamed. Its footer names its result key
and range, so that parts that the manifest does not list yet (a run that was killed) are found again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..spec.estimand import Column, Estimand
from ..spec.estimands import study_estimands
from ..spec.family import Family
from ..spec.formula import parse_formula
from ..spec.model import Method
from ..spec.truths import TrueValues
from .files import RefusedError, StorageError, clear_leftovers, make_folder, read_plain, write_whole
from .lock import locked
from .manifest import SCHEMA_VERSION, read_manifest, write_manifest
from .parquet import (
    BROKEN,
    arrays,
    footer,
    frame_bytes,
    join,
    one_type,
    read_table,
    table_bytes,
    write_frame,
)
from .parts import Part, Tally, named_range, part_name
from .shard_lock import SHARDS, refuse_shards

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Part",
    "RefusedError",
    "StorageError",
    "Store",
    "StoredCondition",
    "finite",
    "write_frame",
]


Keep = Literal["replicates", "summary"]
#: Files of which the manifest has a checksum.
FILES = ("study.toml", "conditions.parquet", "summary.parquet", "solve.json")
#: The folder of parts, by what a study keeps.
FOLDERS: Mapping[Keep, str] = {"replicates": "replicates", "summary": "sums"}


@dataclass(frozen=True, slots=True)
class StoredCondition:
    """A row of conditions.parquet. spec: the resolved condition, flat, in the study file's words; truths: by estimand and method.

    replications: how many were asked for when the condition was last active. stated: effects in standard units, by term as text
    ("d = 0.3 by total variance") and by term and unit as a number ("x.d"). stopped: why it has no more replications, where a rule
    decided that, stop_key: which rule (`run.stopping`).
    """

    number: int
    data_key: str
    active: bool
    factors: Mapping[str, Any]
    spec: Mapping[str, Any]
    truths: TrueValues = field(default_factory=lambda: TrueValues({}))
    replications: int = 0
    stated: Mapping[str, str | float] = field(default_factory=dict)
    stopped: str = ""
    stop_key: str = ""

    @property
    def truth(self) -> dict[str, float]:
        """The true values that methods share, by estimand, where they are known."""
        return {name: value for name, value in self.truths.shared.items() if not math.isnan(value)}

    def estimands(self, methods: Sequence[Method]) -> dict[str, Estimand]:
        """What each name stands for that a study with these methods has measures of."""
        family = Family.named(str(self.spec.get("truth.family", "gaussian")), self.spec.get("truth.link"))
        formula = replace(parse_formula(str(self.spec["truth.formula"])), family=family)
        return study_estimands(formula, methods)


class Store:
    """One results folder. Threads may write parts and read; one process writes at a time (`locked`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeps: Keep = "summary" if (folder / FOLDERS["summary"]).is_dir() else "replicates"
        linked = next((link for name in FOLDERS.values() if (link := folder / name).is_symlink()), None)
        if linked is not None:
            raise RefusedError(
                f"{linked} is a link: nestlab reads and writes inside the results folder only; move the whole folder, "
                "and name it with --out"
            )
        self.manifest, self.parts = read_manifest(folder)

    # -- opening ---------------------------------------------------------------------------------------------------------

    @property
    def replicates(self) -> Path:
        """Where the parts are, of replicates or of sums."""
        return self.folder / FOLDERS[self.keeps]

    def keep(self, what: Keep) -> None:
        """Make it a folder of replicates or of sums. RefusedError if it is one of the other already."""
        for other, name in FOLDERS.items():
            if other != what and any((self.folder / name).glob("*.parquet")):
                raise RefusedError(
                    f'{self.folder} holds {name}, and the study has keep = "{what}"; a folder holds one of both: write keep = '
                    f'"{other}", or use --out'
                )
        if what != self.keeps:
            with contextlib.suppress(OSError):  # an empty one is in the way of the other
                self.replicates.rmdir()
        self.keeps = what

    @property
    def exists(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def reread(self) -> None:
        """Take in what another process wrote since."""
        self.manifest, self.parts = read_manifest(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing. Raises RefusedError, with the owner, if another process holds it."""
        created = not self.folder.exists()
        make_folder(self.replicates)
        with locked(self.folder):
            refuse_shards(self.folder)
            for folder in (self.folder, self.replicates, self.folder / SHARDS):
                clear_leftovers(folder)
            yield
        if created and not self.exists and not any(self.replicates.iterdir()):
            self.replicates.rmdir()
            self.folder.rmdir()

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file that may be a part, with its size and time of change (ns)."""
        if not self.replicates.is_dir():
            return {}
        stats = ((p.name, p.lstat()) for p in self.replicates.iterdir() if p.suffix == ".parquet" and p.name[0] != ".")
        return {name: (found.st_size, found.st_mtime_ns) for name, found in stats}

    def adopt_unlisted(self) -> list[Part]:
        """Take in whole parts that the manifest does not list: those of a run that was killed."""
        return [self.adopt(name) for name in sorted(self.files()) if name not in self.parts]

    def adopt(self, name: str) -> Part:
        """Take in one whole part by its file. RefusedError if it is none, or is of another version."""
        part = self._from_footer(name)
        self.parts.add(part)
        return part

    def _from_footer(self, name: str) -> Part:
        path = self.replicates / name
        data = read_plain(path)
        try:
            entry = _entry(path, footer(data))
            found = path.lstat()
            sums = {"sha256": hashlib.sha256(data).hexdigest(), "size": found.st_size, "changed": found.st_mtime_ns}
            part = Part.from_entry(name, {**entry, **sums}, where=str(path))
        except BROKEN as error:
            raise RefusedError(
                f"{path} is not a whole part of this study ({_short(error)}); remove it and run again"
            ) from None
        range_ = named_range(name)
        if range_ is not None and range_ != (part.condition, part.result_key[:12], part.first, part.last):
            raise RefusedError(f"{path} holds other replicates than its name says; remove it and run again")
        return part

    def forget_missing(self) -> None:
        """Drop parts whose files were removed by hand, so that they are computed again."""
        there = self.files()
        for part in self.parts:
            if part.file not in there:
                self.parts.drop(part.file)

    def damaged(self, *, every: bool = False) -> list[Part]:
        """Listed parts whose files are not what was written. Read are those only whose size or time changed, or every one."""
        there, found = self.files(), []
        for part in self.parts:
            if part.file not in there or (not every and there[part.file] == (part.size, part.changed)):
                continue
            if _sha256_of(self.replicates / part.file) == part.sha256:
                size, changed = there[part.file]
                self.parts.add(replace(part, size=size, changed=changed))
            else:
                found.append(part)
        return found

    def resized(self) -> list[Part]:
        """Listed parts whose files are longer or shorter than what was written; none is read."""
        there = self.files()
        return [
            part for part in self.parts if part.size is not None and there.get(part.file, (part.size,))[0] != part.size
        ]

    def check(self) -> None:
        """RefusedError where parts are not what was written; those removed by hand are forgotten, to be computed again."""
        self.forget_missing()
        if damaged := self.damaged():
            raise RefusedError(self.altered(damaged))

    def remove(self, file: str) -> None:
        """Remove a part's file and forget it."""
        (self.replicates / file).unlink(missing_ok=True)
        self.parts.drop(file)

    # -- conditions ------------------------------------------------------------------------------------------------------

    def read_conditions(self) -> list[StoredCondition]:
        """conditions.parquet as it stands; none before the first run. RefusedError if it is damaged."""
        path = self.folder / "conditions.parquet"
        try:
            data = read_plain(path)
            if self.is_as_written(path.name, data):
                table, told = read_table(data), footer(data)
                factors, own = (json.loads(told.get(key, "[]")) for key in ("factors", "own_truths"))
                named = Column.of(table.column_names, "true", "stated")
                return [self._condition(row, factors, own, named) for row in table.to_pylist()]
            reason = "it was altered since it was written"
        except FileNotFoundError:
            if not len(self.parts):
                return []
            reason = "it is missing"
        except BROKEN as error:
            reason = _short(error)
        raise RefusedError(
            f"{path} is damaged ({reason}); restore it, or make it anew from the parts: nestlab run {self.folder} --repair"
        )

    def _condition(
        self,
        row: Mapping[str, Any],
        factors: Sequence[str],
        own: Sequence[tuple[str, str, str]],
        named: Mapping[str, Column],
    ) -> StoredCondition:
        """own: (column, method, estimand) of true values that are a method's own; named: the columns of estimands, by name."""
        owned = {column for column, _, _ in own}
        shared, stated = (
            {named[k].estimand: row[k] for k in named if named[k].quantity == quantity and k not in owned}
            for quantity in ("true", "stated")
        )
        told = json.loads(row.get("own_truths") or "{}")
        truths = TrueValues(
            {name: math.nan if value is None else value for name, value in shared.items()},
            {
                method: {e: math.nan if row[c] is None else row[c] for c, m, e in own if m == method}
                for method in dict.fromkeys(m for _, m, _ in own)
            },
            told.get("meanings", {}),
            told.get("unknown", {}),
        )
        stated = {name: value for name, value in stated.items() if value is not None}
        kept = {name: row[name] for name in factors if row[name] is not None}
        asked = row.get("replications") or int(self.manifest.get("replications", 0))  # older tables have no such column
        return StoredCondition(
            row["condition"], row["data_key"], row["active"], kept, json.loads(row["spec"]), truths, asked, stated,
            stopped=row.get("stopped") or "", stop_key=row.get("stop_key") or "",
        )  # fmt: skip

    def write_conditions(self, conditions: Sequence[StoredCondition], derived: Mapping[int, Mapping[str, Any]]) -> None:
        """Rewrite conditions.parquet; numbers are given once and never change."""
        self.write_file("conditions.parquet", self.conditions_bytes(conditions, derived))

    @staticmethod
    def conditions_bytes(conditions: Sequence[StoredCondition], derived: Mapping[int, Mapping[str, Any]]) -> bytes:
        """conditions.parquet. derived: further columns, by condition."""
        factors = list(dict.fromkeys(name for c in conditions for name in c.factors))
        estimands = list(dict.fromkeys(name for c in conditions for name in c.truths.shared))
        columns: dict[str, list[Any]] = {
            "condition": [c.number for c in conditions],
            "active": [c.active for c in conditions],
            "data_key": [c.data_key for c in conditions],
            "replications": [c.replications for c in conditions],
        }
        if any(c.stop_key for c in conditions):
            columns |= {name: [getattr(c, name) or None for c in conditions] for name in ("stopped", "stop_key")}
        for name in factors:
            columns[name] = one_type([c.factors.get(name) for c in conditions])
        for name in estimands:
            columns[Column("true", name).name] = [finite(c.truths.shared.get(name)) for c in conditions]
        own = _own_columns(conditions, columns)
        for column, method, name in own:
            columns[column] = [finite(c.truths.of(method).get(name)) for c in conditions]
        for name in dict.fromkeys(name for c in conditions for name in c.stated):
            columns[Column("stated", name).name] = [c.stated.get(name) for c in conditions]
        for name in dict.fromkeys(key for row in derived.values() for key in row):
            columns[name] = [derived.get(c.number, {}).get(name) for c in conditions]
        notes = {"factors": json.dumps(factors)}
        if own:
            columns["own_truths"] = [
                json.dumps({"meanings": c.truths.meanings, "unknown": c.truths.unknown}) for c in conditions
            ]
            notes["own_truths"] = json.dumps(own)
        columns["spec"] = [json.dumps(c.spec, sort_keys=True) for c in conditions]
        return table_bytes(columns, notes)

    # -- parts -----------------------------------------------------------------------------------------------------------

    def add(self, entry: Mapping[str, Any], data: bytes) -> Part:
        """Write a part and take it in."""
        path = self.replicates / part_name(*(entry[name] for name in ("condition", "result_key", "first", "last")))
        write_whole(path, data)
        found = path.lstat()
        sums = {"sha256": hashlib.sha256(data).hexdigest(), "size": found.st_size, "changed": found.st_mtime_ns}
        part = Part.from_entry(path.name, {**entry, **sums}, where=str(path))
        self.parts.add(part)
        return part

    def read(self, condition: int, result_key: str, replications: int) -> pd.DataFrame:
        """Rows of the first `replications` replicates of one condition and method, in order; checksums are verified.

        Raises RefusedError for a part that is missing, altered or truncated.
        """
        table = self._read_table(condition, result_key, replications)
        if table is None:
            import pandas as pd  # takes longer to import than most commands need

            return pd.DataFrame()
        frame: pd.DataFrame = table.to_pandas()
        return frame[frame["replicate"] < replications]

    def read_columns(
        self, condition: int, result_key: str, replications: int, *, first: int = 0
    ) -> dict[str, NDArray[Any]]:
        """The same as arrays by column, of replicates first .. replications - 1; `method` is left out, statuses are codes.

        Nothing stored: no columns.
        """
        table = self._read_table(condition, result_key, replications, first)
        if table is None:
            return {}
        columns = arrays(table)
        kept = (columns["replicate"] >= first) & (columns["replicate"] < replications)
        return columns if kept.all() else {name: values[kept] for name, values in columns.items()}

    def _read_table(self, condition: int, result_key: str, replications: int, first: int = 0) -> Any:
        wanted = [p for p in self.parts.of(condition, result_key) if p.first < replications and p.last > first]
        tables = [self._read_part(part) for part in wanted]
        return join(tables) if tables else None

    def bytes_of(self, part: Part) -> bytes:
        """A part's file, whose checksum is verified."""
        path = self.replicates / part.file
        try:
            data = read_plain(path)
        except FileNotFoundError:
            raise RefusedError(f"{path} is listed in the manifest but missing; run again to compute it anew") from None
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise RefusedError(self.altered([part]))
        return data

    def _read_part(self, part: Part) -> Any:
        path, data = self.replicates / part.file, self.bytes_of(part)
        try:
            table, _ = read_table(data), _entry(path, footer(data))
            whole = np.array_equal(table["replicate"].to_numpy(), np.arange(part.first, part.last))
        except BROKEN as error:
            raise RefusedError(
                f"{path} is not a part of this study ({_short(error)}); remove it and run again"
            ) from None
        if not whole:
            raise RefusedError(f"{path} holds other replicates than the manifest says; remove it and run again")
        return table

    def altered(self, parts: Sequence[Part]) -> str:
        """What is said of damaged parts."""
        more = f", and {len(parts) - 1:,} more parts," if len(parts) > 1 else ""
        was, it, its = ("were", "them", "their") if more else ("was", "it", "its")
        return (
            f"{self.replicates / parts[0].file}{more} {was} altered or truncated since written; remove {it} and run again, or "
            f"let nestlab do both: nestlab run {self.folder} --repair (only {its} replicates are computed anew)"
        )

    def counted(self, part: Part) -> Part:
        """The part with its fits counted; one of an older version, which says nothing of them, is read for it."""
        if part.tally is None:
            part = replace(part, tally=Tally.of(arrays(self._read_part(part))))
            self.parts.add(part)
        return part

    # -- tables and manifest ---------------------------------------------------------------------------------------------

    def state(self) -> str:
        """A digest of all that decides about the summary but the parts: the study and the conditions as they are stored."""
        files = (self.folder / name for name in ("study.toml", "conditions.parquet"))
        return hashlib.sha256(b"\0".join(read_plain(f) if f.exists() else b"" for f in files)).hexdigest()

    def write_summary(self, frame: pd.DataFrame) -> None:
        self.write_file("summary.parquet", frame_bytes(frame, {"nestlab.state": self.state()}))

    def has_summary(self) -> bool:
        """Whether there is a summary of the study and the conditions as they are stored now, with its checksum.

        False where an older version wrote it, or a run was killed before its checksum was written: it is measured anew then.
        RefusedError where it was altered.
        """
        path = self.folder / "summary.parquet"
        try:
            of = footer(read_plain(path)).get("nestlab.state")
        except (FileNotFoundError, *BROKEN):
            return False
        if path.name not in self.checksums or (of is not None and of != self.state()):
            return False
        self._unaltered_summary(path)
        return True

    def _unaltered_summary(self, path: Path) -> bytes:
        data = read_plain(path)
        if not self.is_as_written(path.name, data):
            repair = f"let nestlab make it anew from the parts: nestlab run {path.parent} --repair"
            raise RefusedError(f"{path} was altered since it was written; {repair}")
        return data

    def read_summary(self) -> pd.DataFrame:
        """summary.parquet. RefusedError where it is missing, damaged or altered."""
        path = self.folder / "summary.parquet"
        try:
            frame: pd.DataFrame = read_table(self._unaltered_summary(path)).to_pandas(use_threads=False)
        except FileNotFoundError:
            raise RefusedError(f"{path} does not exist; finish the run first: nestlab run") from None
        except BROKEN as error:
            raise RefusedError(
                f"{path} is damaged ({_short(error)}); remove it, and it is made anew from the parts"
            ) from None
        return frame

    def write_study(self, text: str) -> None:
        self.write_file("study.toml", text.encode())

    @property
    def checksums(self) -> Mapping[str, str]:
        """What the manifest says of the files besides the parts: SHA-256 by name."""
        found = self.manifest.get("files")
        return {name: found[name] for name in FILES if name in found} if isinstance(found, Mapping) else {}

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file of the folder whose checksum the manifest has; `write_manifest` writes the new one.

        An old checksum is taken out of the manifest before: whoever is killed in between leaves none, never a wrong one.
        """
        found = hashlib.sha256(data).hexdigest()
        if self.checksums.get(name, found) != found:
            self.forget_file(name)
            self.write_manifest()
        write_whole(self.folder / name, data)
        self.manifest["files"] = {**self.checksums, name: found}

    def forget_file(self, name: str) -> None:
        """Take the checksum of a file out of the manifest, so that it is not relied on."""
        self.manifest["files"] = {known: value for known, value in self.checksums.items() if known != name}

    def is_as_written(self, name: str, data: bytes) -> bool:
        """Whether a file is what the manifest says; True where it has no checksum of it.

        The manifest is read again before that is denied: the file may have been written since.
        """
        known, found = self.checksums.get(name), hashlib.sha256(data).hexdigest()
        if known in (None, found):
            return True
        now = read_manifest(self.folder)[0].get("files", {})
        return not isinstance(now, Mapping) or now.get(name) != known

    def is_sealed(self, name: str) -> bool:
        """Whether the manifest has a checksum of a file, and it is the file's."""
        path = self.folder / name
        return name in self.checksums and path.exists() and self.is_as_written(name, read_plain(path))

    def write_manifest(self, **entries: Any) -> None:
        """Write manifest.json with the parts as they stand; `entries` replace what it says under those names."""
        self.manifest = write_manifest(self.folder, {**self.manifest, **entries}, self.parts)


def _own_columns(conditions: Sequence[StoredCondition], taken: Collection[str]) -> list[tuple[str, str, str]]:
    """(column, method, estimand) of the true values that are methods' own."""
    found: dict[tuple[str, str], str] = {}
    for method, name in dict.fromkeys((m, e) for c in conditions for m, own in c.truths.own.items() for e in own):
        column = Column("true", name, method).name
        while column in taken or column in found.values():
            column += "'"
        found[method, name] = column
    return [(column, method, name) for (method, name), column in found.items()]


def finite(value: float | None) -> float | None:
    """The value, or None in place of nan and infinities."""
    return None if value is None or not np.isfinite(value) else float(value)


def _sha256_of(path: Path) -> str | None:
    """None where a link, a folder or a device stands."""
    try:
        return hashlib.sha256(read_plain(path)).hexdigest()
    except RefusedError:
        return None


def _entry(path: Path, found: Mapping[str, str]) -> dict[str, Any]:
    """What a part's footer says of it. RefusedError for one of another version of this file format."""
    entry: dict[str, Any] = json.loads(found["nestlab"])
    version = entry.get("schema_version", 1)
    if version != SCHEMA_VERSION:
        raise RefusedError(
            f"{path} has schema version {version!r:.40}, this nestlab reads {SCHEMA_VERSION}; remove it and run again"
        )
    return entry


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
