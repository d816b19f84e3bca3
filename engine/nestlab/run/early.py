"""Conditions that end early because a method fails too often: decided on the first 100, 200, 400, ... replicates alone.

The same replicates are counted whatever the workers, the order and the interruptions, so the same conditions end at the same
place. What was computed beyond it is kept and not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ..measure.intervals import wilson
from ..spec.identity import result_key
from ..spec.model import Method
from .parts import CHECKPOINTS, Part
from .store import Store, StoredCondition

__all__ = ["LEVEL", "Ended", "end_of", "failed_share", "find_end", "find_ends", "read_used", "used"]

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


def _whole_prefix(parts: Sequence[Part]) -> int:
    """How many replicates from the first on are stored without a gap."""
    reached = 0
    for part in parts:
        if part.first > reached:
            break
        reached = part.last
    return reached


def end_of(parts: Sequence[Part], limit: float, asked: int) -> tuple[int, int] | None:
    """(replicates, how many of them failed) where parts that are counted say that a condition ended; None where they do not."""
    reached = min(_whole_prefix(parts), asked - 1)
    for check in CHECKPOINTS:
        if check > reached:
            return None
        failed = sum(part.failed_below(check) for part in parts)
        if failed and wilson(failed, check, LEVEL)[0] > limit:
            return check, failed
    return None


def find_end(store: Store, number: int, key: str, method: Method, asked: int) -> Ended | None:
    """Where a condition ended by a method with max_failed; None if it did not, or not yet."""
    if method.max_failed is None:
        return None
    found = end_of([store.counted(part) for part in store.parts.of(number, key)], method.max_failed, asked)
    return None if found is None else Ended(number, method.name, found[0], asked, found[1], method.max_failed)


def find_ends(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> list[Ended]:
    """Every active condition that ended early, by each method."""
    limited = [method for method in methods if method.max_failed is not None]
    pairs = ((row, method) for row in rows if row.active for method in limited)
    found = (find_end(store, row.number, result_key(row.data_key, m), m, row.replications) for row, m in pairs)
    return [end for end in found if end is not None]


def used(store: Store, number: int, key: str, method: Method, asked: int) -> int:
    """How many replicates are to be computed and measured: those asked for, or up to where the condition ended."""
    end = find_end(store, number, key, method, asked)
    return asked if end is None else end.replications


def read_used(store: Store, row: StoredCondition, method: Method) -> dict[str, NDArray[Any]]:
    """The columns of one condition and method that are to be measured, see `Store.read_columns`."""
    key = result_key(row.data_key, method)
    return store.read_columns(row.number, key, used(store, row.number, key, method, row.replications))


def failed_share(store: Store, number: int, key: str, method: Method, asked: int) -> str:
    """The flag of a condition and method whose share of failures is above max_failed, ended or not; "" for any other."""
    end = find_end(store, number, key, method, asked)
    if end is not None:
        return end.flag
    parts = [store.counted(part) for part in store.parts.of(number, key) if part.last <= asked]
    n, failed = sum(p.last - p.first for p in parts), sum(p.failed_below(p.last) for p in parts)
    if method.max_failed is None or failed <= method.max_failed * n:
        return ""
    return f"{100 * failed / n:.1f} % of {n:,} failed (max_failed = {method.max_failed:g})"
