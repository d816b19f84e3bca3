"""`nestlab compare`: differences between methods on the same replicates, as people read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..measure.paired import COLUMNS, COMPARED
from ..spec.problems import StudyError, show
from .api import Results
from .drawn import VARIANCE_LIKE
from .summary import LONGEST_WORD, decimals_of, plain, typer_note, value_with_mcse, words

__all__ = ["compare_command", "difference_cells"]

#: What is printed where no measure is named.
SHOWN = ("bias", "empse", "cover", "power")
#: A difference and an MCSE below this share of the unpaired MCSE are rounding: both methods gave the same numbers.
ROUNDING = 1e-6


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
    asked = [name.strip() for part in measures for name in part.split(",") if name.strip()]
    wanted = asked or (None if form else SHOWN)
    frame = results.compare(reference, wanted, estimands or None, method=methods or None)
    missing = results.missing()
    if frame.empty:
        if not missing:
            raise StudyError(
                [
                    f"reference = {show(frame.attrs['reference'])}: has nothing of what was asked for in common with another "
                    "method; name another reference, estimand or measure"
                ]
            )
        typer_note(f"nothing that can be compared is stored yet: {missing:,} fits are missing")
        return False
    if form == "csv":
        sys.stdout.write(frame.to_csv(index=False))
    elif form == "json":
        rows = json.loads(frame.to_json(orient="records"))
        print(json.dumps({"reference": frame.attrs["reference"], "differences": rows}, indent=1))
    else:
        console = Console()
        shown = frame if estimands else frame[frame["estimand"].isin([_last_tested(frame), ""])]
        console.print(_tables(shown))
        console.print(_choices(results, bool(asked), bool(estimands)))
    if missing:
        typer_note(f"incomplete: {missing:,} fits are missing; nestlab run goes on from here")
    return missing == 0


def _last_tested(frame: pd.DataFrame) -> str:
    """The last effect that both test and have intervals of, or the last effect, or the last estimand."""
    names = [str(e) for e in frame["estimand"].unique() if e]
    effects = [e for e in names if not (e == "icc" or e.startswith(VARIANCE_LIKE))]
    tested, covered = (set(frame.loc[frame["measure"] == m, "estimand"]) for m in ("power", "cover"))
    both = [e for e in effects if e in tested & covered]
    return (both or effects or names or [""])[-1]


def difference_cells(row: Any) -> tuple[str, str]:
    """A difference as "0.012 (0.003)" and its limits as "0.006, 0.018"; "" where both methods gave the same numbers."""
    difference, mcse, lower, upper = (float(row[name]) for name in ("difference", "mcse", "lower", "upper"))
    if max(abs(difference), mcse) < ROUNDING * float(row["unpaired_mcse"]):
        difference = mcse = 0.0
    width = upper - lower
    if not np.isfinite(width) or (mcse == 0 and pd.isna(row["gained"]) and row["measure"] != "type_s"):
        return value_with_mcse(difference, mcse), ""
    decimals = decimals_of(mcse if mcse > 0 else width / 4)
    ends = (f"{round(end, decimals) + 0.0:.{decimals}f}" for end in (lower, upper))
    return value_with_mcse(difference, mcse), ", ".join(ends)


def _tables(frame: pd.DataFrame) -> Group:
    """A table of each estimand and measure."""
    reference = frame["reference"].iloc[0]
    parts: list[Any] = [
        Text(f"Differences from {reference} on the replicates where both have a result; MCSEs by the pairing\n")
    ]
    factors = [c for c in frame.columns if c not in ("condition", *COLUMNS)]
    for (measure, estimand), rows in frame.groupby(["measure", "estimand"], sort=False):
        one = rows["method"].iloc[0] if rows["method"].nunique() == 1 else ""
        title = f"{measure} {estimand}".rstrip() + (
            f": {one} less {reference}" if one else f": less that of {reference}"
        )
        parts += [Text(title), _table(rows, factors, methods=not one)]
    return Group(*parts)


def _table(rows: pd.DataFrame, factors: Sequence[str], *, methods: bool) -> Table:
    """methods: whether they differ between the rows, and stand in a column."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    incomplete = bool((rows["missing"] > 0).any())
    for header in ("", *map(words, factors)):
        longest = max(map(len, header.split()), default=0)
        table.add_column(header, justify="right", overflow="fold", min_width=min(longest, LONGEST_WORD))
    for header in [
        *(["method"] if methods else []),
        "difference (MCSE)",
        "95 % limits",
        "n",
        *(["missing"] if incomplete else []),
    ]:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows.to_dict("records"):
        cells = [str(row["condition"]), *(plain(row[f]) for f in factors), *([row["method"]] if methods else [])]
        table.add_row(*cells, *difference_cells(row), f"{row['n']:,}", *([f"{row['missing']:,}"] if incomplete else []))
    return table


def _choices(results: Results, measured: bool, named: bool) -> Text:
    """What else there is, by the options that show it."""
    summary = results.summary()
    there = set(summary["measure"])
    lines = ["95 % limits: of shares Tango's score limits, of other measures difference -+ 1.96 MCSE"]
    if not measured:
        lines.append(f"measures: {', '.join(m for m in COMPARED if m in there)}; choose by --measure")
    if not named:
        lines.append(f"estimands: {', '.join(e for e in summary['estimand'].unique() if e)}; choose by --estimand")
    return Text("\n".join(lines))
