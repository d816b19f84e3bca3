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
from ..spec.estimand import Column
from .files import RefusedError, is_plain_name

__all__ = ["CHECKPOINTS", "Part", "Parts", "Tally", "missing_ranges", "named_range", "part_name"]

#: Replicates of each failure that a part names.
EXAMPLES = 5
#: Replicates after which it is looked whether too many failed: 100, 200, 400, ...
CHECKPOINTS = tuple(100 * 2**k for k in range(40))
_NAMED = re.compile(r"c(\d{5,})-([0-9a-f]{12})-(\d{9,})-(\d{9,})\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tally:
    """Fits counted, as a footer and the manifest tell them of a part.

    n: replicates. statuses: fits by status, inference: those by other than ok. examples: the first replicates of each but ok and
    singular. failed: by checkpoint (first < checkpoint < last) the replicates below it without an optimum, where any part of
    them failed; None in sums of tallies, which tell no place.
    """

    n: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    inference: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[int]] = field(default_factory=dict)
    failed: Mapping[int, int] | None = None

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Tally:
        """Count fits. columns: replicate, status and every inference column, as codes."""
        replicate, status = columns["replicate"], columns["status"]
        statuses = {code.name: status == code for code in Status}
        inference = {
            f"{result.name}/{each.rule}" if each.rule else result.name: columns[name] == result
            for name, each in Column.of(columns, "inference").items()
            for result in InferenceStatus
            if result.failed
        }
        hits = {name: np.flatnonzero(hit) for name, hit in (statuses | inference).items()}
        first, last, lost = int(replicate[0]), int(replicate[-1]) + 1, replicate[~is_converged(status)]
        failed = (
            {check: int((lost < check).sum()) for check in CHECKPOINTS if first < check < last} if len(lost) else {}
        )
        return cls(
            len(replicate),
            {name: len(hits[name]) for name in statuses if len(hits[name])},
            {name: len(hits[name]) for name in inference if len(hits[name])},
            {
                name: [int(replicate[k]) for k in places[:EXAMPLES]]
                for name, places in hits.items()
                if len(places) and not _converged(name)
            },
            {check: count for check, count in failed.items() if count},
        )

    @classmethod
    def from_entry(cls, n: int, entry: Mapping[str, Any]) -> Tally | None:
        """What is told of a part of n replicates; None of one of an older version, which tells nothing."""
        if entry.get("statuses") is None:
            return None
        return cls(
            n, _counts(entry["statuses"]), _counts(entry.get("inference", {})),
            {str(name): [int(k) for k in found] for name, found in entry.get("examples", {}).items()},
            {int(check): int(count) for check, count in entry.get("failed", {}).items()},
        )  # fmt: skip

    def entry(self) -> dict[str, Any]:
        """What a footer says."""
        found = {name: dict(getattr(self, name)) for name in ("statuses", "inference", "examples")}
        return found if self.failed is None else {**found, "failed": dict(self.failed)}

    @property
    def lost(self) -> dict[str, int]:
        """The fits without a certified optimum, by status."""
        return {name: count for name, count in self.statuses.items() if not _converged(name)}

    def __add__(self, more: Tally) -> Tally:
        """The tally of these replicates and of later ones."""
        statuses, inference, examples = dict(self.statuses), dict(self.inference), dict(self.examples)
        for mine, its in ((statuses, more.statuses), (inference, more.inference)):
            for name, count in its.items():
                mine[name] = mine.get(name, 0) + count
        for name, found in more.examples.items():
            examples[name] = [*examples.get(name, []), *found][:EXAMPLES]
        return Tally(self.n + more.n, statuses, inference, examples)


def _converged(name: str) -> bool:
    return name in Status.__members__ and Status[name].converged


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in found.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of replicate rows: replicates first .. last - 1 of one condition and method.

    size, changed: bytes, and when the file was changed (ns), as they were when its checksum was known to be right. tally: its
    fits counted; None in parts of older versions.
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
    tally: Tally | None = None

    @classmethod
    def from_entry(cls, file: str, entry: Any, *, where: str) -> Part:
        """A part as a manifest or a footer has it. RefusedError for what cannot be one; unknown entries are left out."""
        try:
            numbers = [entry[name] for name in ("condition", "first", "last")]
            texts = [entry[name] for name in ("method", "result_key", "sha256")]
            right = (
                all(type(n) is int and n >= 0 for n in numbers) and numbers[1] < numbers[2] and isinstance(file, str)
            )
            right = right and all(isinstance(t, str) for t in texts) and bool(_SHA256.fullmatch(texts[2]))
            right = right and all(n is None or type(n) is int for n in (entry.get("size"), entry.get("changed")))
            part = cls(
                file, numbers[0], texts[0], texts[1], numbers[1], numbers[2], texts[2], entry.get("size"), entry.get("changed"),
                Tally.from_entry(numbers[2] - numbers[1], entry),
            )  # fmt: skip
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
        told = {} if self.tally is None else self.tally.entry()
        return found | {name: value for name, value in told.items() if value or name == "statuses"}

    def failed_below(self, replicate: int) -> int:
        """How many of its replicates below a checkpoint, or of all, have no certified optimum."""
        if self.tally is None:
            return 0
        if replicate >= self.last:
            return sum(self.tally.lost.values())
        return (self.tally.failed or {}).get(replicate, 0) if replicate > self.first else 0


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
