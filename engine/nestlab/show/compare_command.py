"""`nestlab compare`: differences between methods on the same replicates, as people read them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from ..measure.paired import COLUMNS, COMPARED
from ..spec.problems import StudyError, show
from .api import Results
from .levels import level_text
from .own_truths import apart_lines
from .summary import LONGEST_WORD, decimals_of, plain, shown_lines, typer_note, value_with_mcse, words
from .terminal import terminal

__all__ = ["compare_command", "difference_cells"]

#: What is printed where no measure is named.
SHOWN = ("bias", "empse", "cover", "power")


def compare_command(
    folder: Path,
    *,
    reference: str | None,
    measures: Sequence[str],
    estimands: Sequence[str],
    methods: Sequence[str],
    form: Literal["csv", "json"] | None,
) -> bool:
    """Print the differences asked for; True if the run is complete."""
    results = Results(folder)
    wanted = measures or (None if form else SHOWN)
    frame = results.compare(reference, wanted, estimands or None, method=methods or None)
    missing = results.missing()
    apart = apart_lines(frame.attrs["apart"], frame.attrs["reference"])
    if frame.empty:
        if not missing:
            raise StudyError(
                [
                    f"reference = {show(frame.attrs['reference'])}: has nothing of what was asked for in common with another "
                    "method; name another reference, estimand or measure",
                    *apart,
                ]
            )
        typer_note(f"nothing that can be compared is stored yet: {missing:,} fits are missing")
        return False
    if form == "csv":
        sys.stdout.write(frame.to_csv(index=False))
    elif form == "json":
        print(json.dumps({"reference": frame.attrs["reference"], "differences": _records(frame)}, indent=1))
    else:
        own = "" if estimands else _shown(results, frame)
        shown = frame if estimands else frame[frame["estimand"].isin([own, ""])]
        choices = _choices(results, bool(measures), bool(estimands))  # before anything is printed: it may be refused
        _print(shown, results.alphas)
        named = shown_lines(results, own, frame["estimand"], f"nestlab compare {shlex.quote(str(folder))}")
        terminal().print(Text("\n".join([*apart, *named, choices])))
    if missing:
        typer_note(results.incomplete)
    return missing == 0


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with all digits, null for what is missing."""
    plain_rows = frame.astype(object).to_dict("records")
    return [{str(key): None if pd.isna(value) else value for key, value in row.items()} for row in plain_rows]


def _shown(results: Results, frame: pd.DataFrame) -> str:
    """The estimand that is shown: one with tests and intervals rather than another effect, that rather than another estimand."""
    names, known = [str(e) for e in frame["estimand"].unique() if e], results.estimands
    effects = [e for e in names if known[e].effect]
    tested, covered = (set(frame.loc[frame["measure"] == m, "estimand"]) for m in ("power", "cover"))
    return results.interest.among([e for e in effects if e in tested & covered], effects, names)


def difference_cells(row: Any) -> tuple[str, str]:
    """A difference as "0.012 (0.003)" and its limits as "0.006, 0.018"; "" where both methods gave the same numbers."""
    difference, mcse, lower, upper = (float(row[name]) for name in ("difference", "mcse", "lower", "upper"))
    width = upper - lower
    if not np.isfinite(width) or (mcse == 0 and pd.isna(row["gained"]) and row["measure"] != "type_s"):
        return value_with_mcse(difference, mcse), ""
    decimals = decimals_of(mcse if mcse > 0 else width / 4)
    ends = (f"{round(end, decimals) + 0.0:.{decimals}f}" for end in (lower, upper))
    return value_with_mcse(difference, mcse), ", ".join(ends)


def _print(frame: pd.DataFrame, alphas: Mapping[str, float]) -> None:
    """A table of each estimand and measure, wider than the terminal rather than cut. alphas: the level of each method."""
    console = terminal()
    reference = frame["reference"].iloc[0]
    shown = {reference, *frame["method"]}
    levels = level_text(set(frame["measure"]), {label: alpha for label, alpha in alphas.items() if label in shown})
    console.print(
        f"Differences from {reference} on the replicates where both converged and have a result; MCSEs by the pairing"
        f"{f'; {levels}' if levels else ''}\n",
        highlight=False,
    )
    factors = [c for c in frame.columns if c not in ("condition", *COLUMNS)]
    for (measure, estimand), rows in frame.groupby(["measure", "estimand"], sort=False):
        one = rows["method"].iloc[0] if rows["method"].nunique() == 1 else ""
        what = f"{one} less {reference}" if one else f"less that of {reference}"
        table, needed = _table(rows, factors, methods=not one)
        wide = terminal(width=max(terminal().width, needed))
        wide.print(Text(f"{f'{measure} {estimand}'.rstrip()}: {what}"))
        wide.print(table)


def _table(rows: pd.DataFrame, factors: Sequence[str], *, methods: bool) -> tuple[Table, int]:
    """A table and the least width that cuts nothing. methods: whether they differ between the rows, and stand in a column."""
    records = rows.to_dict("records")
    columns = [("", [str(row["condition"]) for row in records])]
    columns += [(words(name), [plain(row[name]) for row in records]) for name in factors]
    foldable = len(columns)
    if methods:
        columns.append(("method", [str(row["method"]) for row in records]))
    cells = [difference_cells(row) for row in records]
    columns += [("difference (MCSE)", [cell[0] for cell in cells]), ("95 % limits", [cell[1] for cell in cells])]
    columns.append(("n", [f"{row['n']:,}" for row in records]))
    if (rows["missing"] > 0).any():
        columns.append(("missing", [f"{row['missing']:,}" for row in records]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    needed = 0
    for position, (header, column) in enumerate(columns):
        parts = [word[:LONGEST_WORD] for word in header.split()] if position < foldable else [header]
        width = max(map(len, [*parts, *column]))
        needed += width + 2
        table.add_column(header, justify="right", overflow="fold", min_width=width, no_wrap=position >= foldable)
    for line in zip(*(column for _, column in columns), strict=True):
        table.add_row(*line)
    return table, needed


def _choices(results: Results, measured: bool, named: bool) -> str:
    """What else there is, by the options that show it."""
    summary = results.summary()
    there = set(summary["measure"])
    lines = ["95 % limits: of shares Tango's score limits, of other measures difference -+ 1.96 MCSE"]
    if not measured:
        lines.append(f"measures: {', '.join(m for m in COMPARED if m in there)}; choose by --measure")
    if not named:
        lines.append(f"estimands: {', '.join(e for e in summary['estimand'].unique() if e)}; choose by --estimand")
    return "\n".join(lines)
