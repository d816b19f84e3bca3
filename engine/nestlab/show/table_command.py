"""`nestlab table`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..spec.problems import StudyError, show
from .api import Results
from .tables import FORMATS, make_table

__all__ = ["table_command"]

_ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def table_command(
    folder: Path,
    *,
    measure: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str],
    estimand: str | None,
    method: str | None,
    subset: str | None,
    caption: str | None,
    label: str | None,
    form: str | None,
    out: Path | None,
) -> str:
    """Print a table, or write it to a file; the line about fits that are missing from it, if any."""
    if form is None:
        form = _ENDINGS.get(out.suffix.lower(), "markdown") if out is not None else "markdown"
    if form not in FORMATS:
        raise StudyError([f"format = {show(form)}: must be one of {', '.join(FORMATS)}; leave it out for markdown"])
    if label is not None and form != "latex":
        raise StudyError([f'label = {show(label)}: is only for format = "latex"; add --format latex, or leave it out'])
    if caption is not None and form == "csv":
        raise StudyError(
            [f'caption = {show(caption)}: format = "csv" has none; leave it out, or choose another format']
        )
    results = Results(folder)
    table = make_table(
        results, measure, rows=rows, columns=columns, estimand=estimand, method=method, subset=subset,
        caption=caption, label=label,
    )  # fmt: skip
    text = FORMATS[form](table)
    if out is None:
        sys.stdout.write(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8", newline="\n")
        print(f"written to {out}", file=sys.stderr)
    return results.incomplete
