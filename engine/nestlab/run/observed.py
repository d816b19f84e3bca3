"""What replicates had: which failed, what was said of them, how many warned; and their rows and clusters, where these differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..fit.status import Status, is_converged
from ..spec.methods import estimator_of
from ..spec.model import Method
from .series import series_of
from .store import Store, StoredCondition

__all__ = ["Said", "count_failures", "failures_of", "observed_counts", "observed_line", "what_was_said"]

_COLUMNS = ("condition", "method", "replicate", "status", "message")


def failures_of(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a replicate without a certified optimum: condition, method, replicate, status, message (None where none is kept)."""
    found: list[tuple[int, str, int, str, str | None]] = []
    for series in series_of(store, rows, methods):
        columns = series.columns()
        for k in _failed(columns):
            message = columns["message"][k] if "message" in columns else None
            status = Status(int(columns["status"][k])).name
            found.append((series.condition, series.method.name, int(columns["replicate"][k]), status, message))
    return pd.DataFrame(found, columns=list(_COLUMNS))


def _failed(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """The places of replicates without a certified optimum; none where nothing is stored."""
    return np.flatnonzero(~is_converged(columns["status"])) if columns else np.empty(0, dtype=np.intp)


def count_failures(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a condition, method and status other than ok and singular: count, n (replicates), first (some replicates).

    Statuses of fits and of inference ("no_df", with "/rule" where there are several). Parts that count them are not opened.
    """
    found = []
    for series in series_of(store, rows, methods):
        tally = series.tally
        for name, count in {**tally.lost, **tally.inference}.items():
            found.append((series.condition, series.method.name, name, count, tally.n, tally.examples[name]))
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
        for series in series_of(store, rows, [method]):
            columns = series.columns()
            if not columns:
                continue
            replicate, warned = columns["replicate"], np.nan_to_num(columns["warnings"])
            said.replicates += len(replicate)
            for k in _failed(columns):
                text = columns["message"][k] or Status(int(columns["status"][k])).name
                count, *first = said.messages.get(text, (0, series.condition, int(replicate[k])))
                said.messages[text] = (count + 1, first[0], first[1])
            if (warned > 0).any():
                said.first_warned = said.first_warned or (series.condition, int(replicate[np.argmax(warned > 0)]))
                said.warned += int((warned > 0).sum())
                said.warnings += int(warned.sum())
        said.messages = dict(sorted(said.messages.items(), key=lambda item: -item[1][0]))
        yield said


def observed_counts(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a condition: `condition`, `n` replicates, and of `rows` and `clusters` the mean, its MCSE, the least and the most; of
    several grouping factors of `rows` alone.

    Empty where all replicates of the study have the same. Of the first method of which a condition has any.
    """
    found = []
    for row in rows:
        for series in series_of(store, [row], methods):
            columns = series.columns()
            if "rows" in columns:
                n = len(columns["rows"])
                made: dict[str, float] = {"condition": row.number, "n": n}
                for name in columns.keys() & {"rows", "clusters"}:
                    values = np.asarray(columns[name], dtype=float)
                    made[name] = float(values.mean())
                    made[f"{name}_mcse"] = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
                    made[f"{name}_min"], made[f"{name}_max"] = int(values.min()), int(values.max())
                found.append(made)
                break
    return pd.DataFrame(found)


def observed_line(counts: pd.DataFrame) -> str:
    """The conditions with the fewest and the most rows, in a sentence; "" where all replicates have the same."""
    if counts.empty:
        return ""
    mean = counts["rows"].to_numpy()
    few, many = (counts.iloc[int(place)] for place in (mean.argmin(), mean.argmax()))
    line = f"rows analysed: {_told(few)}"
    return line if few["condition"] == many["condition"] else f"{line} to {_told(many)}"


def _told(row: pd.Series) -> str:
    """Mean (MCSE), range, clusters."""
    rows = f"{row['rows']:,.1f} ({row['rows_mcse']:.2g}) on average, {row['rows_min']:,.0f} to {row['rows_max']:,.0f}"
    clusters = f", in {row['clusters']:,.1f} clusters" if "clusters" in row else ""
    return f"{rows}{clusters} (condition {row['condition']:.0f})"
