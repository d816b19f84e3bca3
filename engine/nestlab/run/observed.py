"""What replicates had of rows and clusters, where that differs: stored with each of them, here as means over a condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..spec.model import Method
from .early import read_used
from .store import Store, StoredCondition

__all__ = ["observed_counts", "observed_line"]


def observed_counts(store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method]) -> pd.DataFrame:
    """A row a condition: `condition`, `n` replicates, and of `rows` and `clusters` the mean, its MCSE, the least and the most.

    Empty where all replicates of the study have the same. Of the first method of which a condition has any.
    """
    found = []
    for row in rows:
        for method in methods:
            columns = read_used(store, row, method)
            if "rows" in columns:
                n = len(columns["rows"])
                made: dict[str, float] = {"condition": row.number, "n": n}
                for name in ("rows", "clusters"):
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
    return f"{rows}, in {row['clusters']:,.1f} clusters (condition {row['condition']:.0f})"
