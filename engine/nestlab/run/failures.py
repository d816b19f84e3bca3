"""Replicates that failed, with what was said of them, and how many warned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..fit.status import Status
from ..spec.identity import result_key
from ..spec.model import Method
from .store import Store, StoredCondition

__all__ = ["Said", "failures_of", "what_was_said"]

_COLUMNS = ("condition", "method", "replicate", "status", "message")


def failures_of(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a replicate without a certified optimum: condition, method, replicate, status, message (None where none is kept)."""
    found: list[tuple[int, str, int, str, str | None]] = []
    for row in rows:
        for method in methods:
            columns = store.read_columns(row.number, result_key(row.data_key, method), row.replications)
            if not columns:
                continue
            failed = np.flatnonzero(columns["status"] > Status.singular)
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
        if not method.keeps_messages:
            continue
        said = Said(method.name)
        for row in rows:
            columns = store.read_columns(row.number, result_key(row.data_key, method), row.replications)
            if not columns:
                continue
            replicate, warned = columns["replicate"], np.nan_to_num(columns["warnings"])
            said.replicates += len(replicate)
            for k in np.flatnonzero(columns["status"] > Status.singular):
                text = columns["message"][k] or Status(int(columns["status"][k])).name
                count, *first = said.messages.get(text, (0, row.number, int(replicate[k])))
                said.messages[text] = (count + 1, first[0], first[1])
            if (warned > 0).any():
                said.first_warned = said.first_warned or (row.number, int(replicate[np.argmax(warned > 0)]))
                said.warned += int((warned > 0).sum())
                said.warnings += int(warned.sum())
        said.messages = dict(sorted(said.messages.items(), key=lambda item: -item[1][0]))
        yield said
