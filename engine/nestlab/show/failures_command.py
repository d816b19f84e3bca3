"""`nestlab failures`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..fit.status import sentence_of
from ..spec.problems import StudyError
from .api import Results

__all__ = ["failures_command"]

#: Rows that are printed; --csv and --json give all.
MOST = 30


def failures_command(folder: Path, *, condition: int | None, method: str | None, csv: bool, as_json: bool) -> str:
    """Print what failed, by condition, method and status, with the first replicates and the command that shows one's rows.

    Returns the line about fits that are missing, if any. StudyError for a condition or method that the study does not have.
    """
    results = Results(folder)
    frame = results.count_failures()
    known = {"condition": set(results.conditions()["condition"]), "method": {m.name for m in results.study.methods()}}
    for name, wanted in (("condition", condition), ("method", method)):
        if wanted is not None:
            if wanted not in known[name]:
                has = ", ".join(map(str, sorted(known[name])[:20]))
                raise StudyError([f"--{name} {wanted}: is no {name} of the study; it has {has}"])
            frame = frame[frame[name] == wanted]
    frame = frame.assign(command=[_command(folder, row) for row in frame.to_dict("records")])
    if as_json:
        print(json.dumps(frame.to_dict("records"), indent=1))
    elif csv:
        print(frame.assign(first=[" ".join(map(str, f)) for f in frame["first"]]).to_csv(index=False), end="")
    else:
        print("\n".join(_lines(frame, results)))
    return results.incomplete


def _command(folder: Path, row: Mapping[Any, Any]) -> str:
    number, replicate = row["condition"], row["first"][0]
    out = f"condition-{number}-replicate-{replicate}.csv"
    return f"nestlab simulate {shlex.quote(str(folder))} --condition {number} --replicate {replicate} --out {out}"


def _lines(frame: pd.DataFrame, results: Results) -> Iterator[str]:
    if frame.empty:
        yield "nothing failed: every fit has a certified optimum and all of its inference"
        return
    ordered = frame.assign(share=frame["count"] / frame["n"]).sort_values("share", ascending=False, kind="stable")
    places = {row.pop("condition"): row for row in results.conditions().to_dict("records")}
    for row in ordered.head(MOST).to_dict("records"):
        factors = ", ".join(f"{k} = {v}" for k, v in places[row["condition"]].items() if k in results.factors)
        yield f"condition {row['condition']}{f' ({factors})' if factors else ''}, {row['method']}"
        yield f"  {row['status']}: {row['count']:,} of {row['n']:,} ({100 * row['share']:.3g} %). {sentence_of(row['status'])}"
        yield f"  first: {', '.join(map(str, row['first']))}; the rows: {row['command']}"
    if len(ordered) > MOST:
        yield f"and {len(ordered) - MOST:,} more rows; all of them: --csv"
