"""Parts by condition and method: what each file holds, and what of a range of replicates is stored.

The files are the truth. The manifest lists them with their checksums, an index that is made again from the files' footers and
names: two lists of one folder's parts are merged by file name.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.status import InferenceStatus, Status, is_converged
from .files import RefusedError, is_plain_name

__all__ = ["CHECKPOINTS", "Part", "Parts", "missing_ranges", "named_range", "part_name", "tally"]

#: Replicates of each failure that a part names.
EXAMPLES = 5
#: Replicates after which it is looked whether too many failed: 100, 200, 400, ...
CHECKPOINTS = tuple(100 * 2**k for k in range(40))
_NAMED = re.compile(r"c(\d{5,})-([0-9a-f]{12})-(\d{9,})-(\d{9,})\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of replicate rows: replicates first .. last - 1 of one condition and method.

    size, changed: bytes, and when the file was changed (ns), as they were when its checksum was known to be right. statuses:
    fits by status, inference: those by other than ok; None in parts of older versions. examples: the first replicates of each
    but ok and singular. failed: by checkpoint (first < checkpoint < last) the replicates below it without an optimum, where any
    part of them failed.
    """

    file: str
    condition: int
    method: str
    result_key: str
    first: int
    last: int
    sha256: str
    size: int | None = None
    changed: int | None = None
    statuses: Mapping[str, int] | None = None
    inference: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[int]] = field(default_factory=dict)
    failed: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_entry(cls, file: str, entry: Any, *, where: str) -> Part:
        """A part as a manifest or a footer has it. RefusedError for what cannot be one; unknown entries are left out."""
        try:
            numbers = [entry[name] for name in ("condition", "first", "last")]
            texts = [entry[name] for name in ("method", "result_key", "sha256")]
            statuses = entry.get("statuses")
            part = cls(
                file, numbers[0], texts[0], texts[1], numbers[1], numbers[2], texts[2], entry.get("size"), entry.get("changed"),
                None if statuses is None else _counts(statuses), _counts(entry.get("inference", {})),
                {str(name): [int(k) for k in found] for name, found in entry.get("examples", {}).items()},
                {int(check): int(count) for check, count in entry.get("failed", {}).items()},
            )  # fmt: skip
            right = all(type(n) is int and n >= 0 for n in numbers) and part.first < part.last and isinstance(file, str)
            right = right and all(isinstance(t, str) for t in texts) and bool(_SHA256.fullmatch(part.sha256))
            right = right and all(n is None or type(n) is int for n in (part.size, part.changed))
        except (KeyError, TypeError, ValueError, AttributeError):
            right = False
        if not right or not is_plain_name(file):
            raise RefusedError(
                f"{where} names a part {file!r:.120} that cannot be one (a plain file name, condition, method, range and SHA-256 "
                "are needed); restore it, or make it anew from the parts: nestlab run FOLDER --repair"
            )
        return part

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the part; nothing for what is empty."""
        found: dict[str, Any] = {
            "condition": self.condition, "method": self.method, "result_key": self.result_key, "first": self.first,
            "last": self.last, "sha256": self.sha256,
        }  # fmt: skip
        if self.size is not None:
            found |= {"size": self.size, "changed": self.changed}
        if self.statuses is not None:
            found["statuses"] = dict(self.statuses)
        for name in ("inference", "examples", "failed"):
            if value := getattr(self, name):
                found[name] = dict(value)
        return found

    def failed_below(self, replicate: int) -> int:
        """How many of its replicates below a checkpoint, or of all, have no certified optimum."""
        if replicate >= self.last:
            return sum(n for name, n in (self.statuses or {}).items() if name not in ("ok", "singular"))
        return self.failed.get(replicate, 0) if replicate > self.first else 0


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in found.items()}


def tally(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What the manifest says of a part's fits: statuses, inference, examples and failed, see `Part`.

    columns: replicate, status and every inference column, as codes.
    """
    replicate, status = columns["replicate"], columns["status"]
    found: dict[str, dict[str, int]] = {"statuses": {}, "inference": {}}
    examples: dict[str, list[int]] = {}

    def count(which: str, name: str, hit: NDArray[Any], *, named: bool) -> None:
        places = np.flatnonzero(hit)
        if len(places):
            found[which][name] = len(places)
            if named:
                examples[name] = [int(replicate[k]) for k in places[:EXAMPLES]]

    for code in Status:
        count("statuses", code.name, status == code, named=not code.converged)
    for column in columns:
        if column.startswith("inference"):
            for result in InferenceStatus:
                if result.failed:
                    name = result.name + column.removeprefix("inference")
                    count("inference", name, columns[column] == result, named=True)
    first, last, lost = int(replicate[0]), int(replicate[-1]) + 1, replicate[~is_converged(status)]
    failed = {check: int((lost < check).sum()) for check in CHECKPOINTS if first < check < last} if len(lost) else {}
    return {**found, "examples": examples, "failed": {check: count for check, count in failed.items() if count}}


def part_name(condition: int, result_key: str, first: int, last: int) -> str:
    """The file of a part: what it holds, so that a folder is understood from its names.

    >>> part_name(3, "ab" * 32, 0, 1000)
    'c00003-abababababab-000000000-000001000.parquet'
    """
    return f"c{condition:05d}-{result_key[:12]}-{first:09d}-{last:09d}.parquet"


def named_range(file: str) -> tuple[int, str, int, int] | None:
    """(condition, start of the result key, first, last) by a part's name; None for another name.

    >>> named_range("c00003-abababababab-000000000-000001000.parquet")
    (3, 'abababababab', 0, 1000)
    """
    found = _NAMED.fullmatch(file)
    return None if found is None else (int(found[1]), found[2], int(found[3]), int(found[4]))


class Parts:
    """The parts of a folder by file, and by condition and result key. Threads may add while others read."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._guard = threading.Lock()
        self._files: dict[str, Part] = {}
        self._keys: dict[tuple[int, str], dict[str, Part]] = {}
        for part in parts:
            self.add(part)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, file: str) -> bool:
        return file in self._files

    def __iter__(self) -> Iterator[Part]:
        with self._guard:
            return iter(sorted(self._files.values(), key=lambda part: part.file))

    def add(self, part: Part) -> None:
        """Take in a part, or replace what is known of its file."""
        with self._guard:
            self._drop(part.file)
            self._files[part.file] = part
            self._keys.setdefault((part.condition, part.result_key), {})[part.file] = part

    def drop(self, file: str) -> None:
        with self._guard:
            self._drop(file)

    def _drop(self, file: str) -> None:
        part = self._files.pop(file, None)
        if part is not None:
            del self._keys[part.condition, part.result_key][file]

    def of(self, condition: int, result_key: str) -> list[Part]:
        """Those of one condition and method, in order. RefusedError where two hold the same replicates."""
        with self._guard:
            found = list(self._keys.get((condition, result_key), {}).values())
        found.sort(key=lambda part: (part.first, part.last))
        for a, b in pairwise(found):
            if b.first < a.last:
                raise RefusedError(
                    f"{a.file} and {b.file} in replicates/ hold the same replicates; remove one of them and run again"
                )
        return found


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
