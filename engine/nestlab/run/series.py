"""A series: one condition by one method in a folder. What was asked for, what is stored, what is missing, what failed.

A series ends early where its method has max_failed and fails too often, decided on the first 100, 200, 400, ... replicates
alone. The same replicates are counted whatever the workers, the order and the interruptions, so the same series end at the same
place. What was computed beyond it is kept and not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..measure.intervals import wilson
from ..spec.identity import result_key
from ..spec.model import Method
from .manifest import SCHEMA_VERSION
from .parquet import rows_bytes
from .parts import CHECKPOINTS, Part, Tally, missing_ranges, named_range
from .store import Store, StoredCondition

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEVEL", "Ended", "Series", "end_of", "find_ends", "series_of", "take_names"]

#: Level of the Wilson interval whose lower limit must lie above max_failed: there are several looks.
LEVEL = 0.99


@dataclass(frozen=True, slots=True)
class Ended:
    """One condition and method that ended early: failed of its first `replications` replicates had no certified optimum."""

    condition: int
    method: str
    replications: int
    asked: int
    failed: int
    limit: float

    @property
    def flag(self) -> str:
        """What the summary says beside each measure."""
        share = f"{100 * self.failed / self.replications:.1f} % failed"
        return f"ended after {self.replications:,} of {self.asked:,}: {share} (max_failed = {self.limit:g})"

    @property
    def text(self) -> str:
        return f"condition {self.condition}, {self.method}: {self.flag}"

    def entry(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "condition": self.condition, "method": self.method, "replications": self.replications, "asked": self.asked,
            "failed": self.failed, "max_failed": self.limit,
        }  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One condition by one method, of which `asked` replicates are asked for, as its folder is when it is looked at.

    opens: whether a part of an older version, which counts nothing, is read for it.
    """

    store: Store
    condition: int
    result_key: str
    method: Method
    asked: int
    opens: bool = True

    @property
    def parts(self) -> list[Part]:
        """What is stored, in order. RefusedError where parts hold the same replicates."""
        return self.store.parts.of(self.condition, self.result_key)

    @cached_property
    def end(self) -> Ended | None:
        """Where it ended early; None if it did not, or not yet."""
        limit = self.method.max_failed
        if limit is None:
            return None
        counted = takewhile(lambda part: part.tally is not None, map(self._counted, self.parts))
        found = end_of(list(counted), limit, self.asked)
        return None if found is None else Ended(self.condition, self.method.name, found[0], self.asked, found[1], limit)

    def _counted(self, part: Part) -> Part:
        return self.store.counted(part) if self.opens and part.sha256 else part  # without: taken in by its name alone

    @property
    def wanted(self) -> int:
        """How many replicates are to be computed and measured: those asked for, or up to where it ended."""
        return self.asked if self.end is None else self.end.replications

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The ranges (first, last) that are wanted and not stored."""
        return missing_ranges(((part.first, part.last) for part in self.parts), self.wanted)

    @property
    def missing(self) -> int:
        """How many replicates are wanted and not stored."""
        return sum(last - first for first, last in self.gaps)

    @cached_property
    def tally(self) -> Tally:
        """The wanted replicates that are stored, counted; parts that count them are not opened.

        Where no part is opened, those that count nothing are left out, and of one that the end cuts the failures alone are known.
        """
        total = Tally()
        for part in (self._counted(part) for part in self.parts if part.first < self.wanted):
            if part.tally is None:
                continue
            if part.last <= self.wanted:
                total += part.tally
            elif self.opens:
                total += Tally.of(self.columns(part.first))
            else:
                total += Tally(self.wanted - part.first, _cut(part, self.wanted))
        return total

    def columns(self, first: int = 0, last: int | None = None) -> dict[str, NDArray[Any]]:
        """Columns of replicates first .. last - 1, or of all that are wanted: see `Store.read_columns`."""
        return self.store.read_columns(
            self.condition, self.result_key, self.wanted if last is None else last, first=first
        )

    def frame(self) -> pd.DataFrame:
        """The rows of all that are wanted."""
        return self.store.read(self.condition, self.result_key, self.wanted)

    @property
    def flag(self) -> str:
        """What warns of its measures: it ended early, or its share of failures is above max_failed; "" of any other."""
        if self.method.max_failed is None:
            return ""
        if self.end is not None:
            return self.end.flag
        n, failed = self.tally.n, sum(self.tally.lost.values())
        if failed <= self.method.max_failed * n:
            return ""
        return f"{100 * failed / n:.1f} % of {n:,} failed (max_failed = {self.method.max_failed:g})"

    def write(self, columns: Mapping[str, NDArray[np.generic]], schema: Sequence[str], first: int, last: int) -> Part:
        """Write one part of rows, whole or not at all. columns: `block.Columns`; schema: every estimate, se and df column of the
        study, null where absent."""
        entry = self.entry(first, last) | Tally.of(columns).entry()
        return self.store.add(entry, rows_bytes(columns, schema, entry, last - first))

    def entry(self, first: int, last: int) -> dict[str, Any]:
        """What the footer of a part of replicates first .. last - 1 says of their place."""
        return {
            "condition": self.condition, "method": self.method.name, "result_key": self.result_key, "first": first,
            "last": last, "schema_version": SCHEMA_VERSION,
        }  # fmt: skip


def series_of(
    store: Store, rows: Iterable[StoredCondition], methods: Sequence[Method], *, opens: bool = True
) -> Iterator[Series]:
    """Every active condition by every method."""
    for row in rows:
        for method in methods if row.active else ():
            yield Series(store, row.number, result_key(row.data_key, method), method, row.replications, opens)


def find_ends(store: Store, rows: Iterable[StoredCondition], methods: Sequence[Method]) -> list[Ended]:
    """Every active condition that ended early, by each method."""
    limited = [method for method in methods if method.max_failed is not None]
    return [series.end for series in series_of(store, rows, limited) if series.end is not None]


def take_names(store: Store, every: Iterable[Series]) -> None:
    """Take in the parts of series that the manifest does not list, by their names alone: none is opened."""
    known = {(series.condition, series.result_key[:12]): series for series in every}
    for file in store.files():
        named = named_range(file)
        if file not in store.parts and named is not None and (own := known.get(named[:2])):
            store.parts.add(Part(file, named[0], own.method.name, own.result_key, named[2], named[3], ""))


def end_of(parts: Sequence[Part], limit: float, asked: int) -> tuple[int, int] | None:
    """(replicates, how many of them failed) where parts that are counted say that a condition ended; None where they do not."""
    gaps = missing_ranges([(part.first, part.last) for part in parts], asked - 1)
    reached = gaps[0][0] if gaps else asked - 1
    for check in CHECKPOINTS:
        if check > reached:
            return None
        failed = sum(part.failed_below(check) for part in parts)
        if failed and wilson(failed, check, LEVEL)[0] > limit:
            return check, failed
    return None


def _cut(part: Part, wanted: int) -> dict[str, int]:
    """The failures of a part's replicates below a checkpoint, by status where they have but one."""
    failed, kinds = part.failed_below(wanted), [] if part.tally is None else list(part.tally.lost)
    return {kinds[0] if len(kinds) == 1 else "failed in several ways": failed} if failed else {}
