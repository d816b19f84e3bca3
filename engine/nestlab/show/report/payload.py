"""The table of measures as it travels in the page: names once, numbers in columns, compressed.

JSON that a script element can hold: {"columns": [...], "numbers": base64 of gzip of JSON}. A column of names is
{"name", "levels", "kind"}, and its entry among the numbers is a position in `levels`. Wilson's limits and the bounds of power and
coverage follow from value, n and missing, and are computed by the page.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import pandas as pd

from ...spec.measures import MEASURES

__all__ = ["in_script", "table_payload"]

#: Significant digits of values and MCSEs; summary.parquet holds all.
DIGITS = 6


def table_payload(summary: pd.DataFrame, factors: list[str], *, name: str) -> dict[str, Any]:
    """The summary as the page's table. factors: the columns that stand after the condition; name: of the CSV file."""
    columns: list[dict[str, Any]] = []
    numbers: dict[str, list[Any]] = {}
    for column in ("condition", *factors, "method", "estimand", "measure", "subset"):
        if column in summary:
            codes, levels = pd.factorize(summary[column].astype(object), sort=False, use_na_sentinel=False)
            plain = [_plain(level) for level in levels]
            factor = column in factors or column == "condition"
            columns.append({"name": column, "levels": plain, "kind": "factor" if factor else "name"})
            numbers[column] = codes.tolist()
    for column in ("value", "mcse"):
        numbers[column] = [_rounded(v) for v in summary[column].tolist()]
    numbers["n"] = summary["n"].tolist()
    numbers["missing"] = [None if pd.isna(v) else int(v) for v in summary["missing"]]
    packed = gzip.compress(json.dumps(numbers, separators=(",", ":")).encode(), compresslevel=9, mtime=0)
    return {
        "file": f"{name}-measures.csv",
        "rows": len(summary),
        "columns": columns,
        "proportions": sorted(name for name, row in MEASURES.items() if row.share),
        "numbers": base64.b64encode(packed).decode(),
    }


def in_script(value: Any) -> str:
    """JSON that stays data inside <script>: no end tag, comment or line separator can be read out of it.

    >>> in_script("</script>\\u2028")
    '"\\\\u003c/script\\\\u003e\\\\u2028"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(level: object) -> Any:
    """A level as JSON has it."""
    if level is None or (isinstance(level, float) and not np.isfinite(level)):
        return None
    return (
        level.item() if isinstance(level, np.generic) else level if isinstance(level, str | int | float) else str(level)
    )


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
