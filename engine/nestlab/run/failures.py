"""Replicates that failed, with what was said of them, and how many warned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..fit.status import Status, is_converged
from ..spec.identity import result_key
from ..spec.methods import estimator_of
from ..spec.model import Method
from .early import read_used, used
from .parts import EXAMPLES, tally
from .store import Store, StoredCondition

__all__ = ["Said", "count_failures", "failures_of", "what_was_said"]

_COLUMNS = ("condition", "method", "replicate", "status", "message")


def failures_of(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a replicate without a certified optimum: condition, method, replicate, status, message (None where none is kept)."""
    found: list[tuple[int, str, int, str, str | None]] = []
    for row in rows:
        for method in methods:
            columns = read_used(store, row, method)
            if not columns:
                continue
            failed = np.flatnonzero(~is_converged(columns["status"]))
            messages = columns.get("message")
            found += [
                (
                    row.number,
                    method.name,
                    int(columns["replicate"][k]),
                    Status(int(columns["status"][k])).name,
                    None if messages is None else messages[k],
                )
                for k in failed
            ]
    return pd.DataFrame(found, columns=list(_COLUMNS))


def count_failures(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a condition, method and status other than ok and singular: count, n (replicates), first (some replicates).

    Statuses of fits and of inference ("no_df", with "/rule" where there are several). Parts that count them are not opened.
    """
    found = []
    for row in rows:
        for method in methods:
            key = result_key(row.data_key, method)
            wanted = used(store, row.number, key, method, row.replications)
            counts: Counter[str] = Counter()
            first: dict[str, list[int]] = {}
            n = 0
            for part in store.parts.of(row.number, key):
                if part.first >= wanted:
                    break
                n += min(part.last, wanted) - part.first
                if part.last <= wanted:
                    told: Mapping[str, Any] = store.counted(part).entry()
                else:  # what was made beyond the end of a condition does not count
                    told = tally(store.read_columns(row.number, key, wanted, first=part.first))
                counts.update({k: v for k, v in told["statuses"].items() if not Status[k].converged})
                counts.update(told.get("inference", {}))
                for name, replicates in told.get("examples", {}).items():
                    first.setdefault(name, []).extend(replicates)
            found += [(row.number, method.name, k, count, n, first[k][:EXAMPLES]) for k, count in counts.items()]
    return pd.DataFrame(found, columns=["condition", "method", "status", "count", "n", "first"])


@dataclass
class Said:
    """What one method said over all conditions.

    messages: {message: [replicates, condition and replicate of the first]}; warned: how many replicates warned, warnings: how
    often in all, first_warned: condition and replicate of the first.
    """

    method: str
    replicates: int = 0
    messages: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    warned: int = 0
    warnings: int = 0
    first_warned: tuple[int, int] | None = None


def what_was_said(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> Iterator[Said]:
    """Messages, the most frequent first, and warnings of each method that keeps them."""
    for method in methods:
        if not estimator_of(method).messages:
            continue
        said = Said(method.name)
        for row in rows:
            columns = read_used(store, row, method)
            if not columns:
                continue
            replicate, warned = columns["replicate"], np.nan_to_num(columns["warnings"])
            said.replicates += len(replicate)
            for k in np.flatnonzero(~is_converged(columns["status"])):
                text = columns["message"][k] or Status(int(columns["status"][k])).name
                count, *first = said.messages.get(text, (0, row.number, int(replicate[k])))
                said.messages[text] = (count + 1, first[0], first[1])
            if (warned > 0).any():
                said.first_warned = said.first_warned or (row.number, int(replicate[np.argmax(warned > 0)]))
                said.warned += int((warned > 0).sum())
                said.warnings += int(warned.sum())
        said.messages = dict(sorted(said.messages.items(), key=lambda item: -item[1][0]))
        yield said
