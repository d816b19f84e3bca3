"""The summary of a run as people read it: an overview that fits the terminal, and the rows asked for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..fit.status import Status, sentence_of
from ..measure.subsets import DEFAULT_SUBSET, in_subset, unconverged
from ..run.observed import Said, observed_line
from ..run.results import StoredResults
from ..spec.problems import StudyError, close_match, meant, show
from .countables import design_lines
from .levels import level_text
from .outcome import outcome_lines
from .own_truths import truth_lines
from .terminal import terminal

__all__ = [
    "decimals_of",
    "ends_text",
    "not_kept",
    "overview",
    "plain",
    "said_lines",
    "shown_lines",
    "summary_command",
    "typer_note",
    "unconverged_text",
    "value_with_mcse",
    "words",
]

#: Rows of the overview before it is cut.
MAX_ROWS = 24
#: Different statements of one effect that are printed; conditions.parquet has all.
MOST_STATED = 3
#: Other effects that are named.
MOST_OTHERS = 5
#: Characters of a header word before it is folded.
LONGEST_WORD = 8
#: Messages of failures that the overview lists of one method.
MAX_MESSAGES = 5
#: Replicates of a condition whose failures need no word in the overview.
FEW = 5


def ends_text(low: int, high: int) -> str:
    """Counts of least and most, "500 to 3,246"; one number where they are equal."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def unconverged_text(counts: Sequence[int], subset: str, of: str = "") -> str:
    """Say what became of the fits that did not converge; "" where all did. counts: how many, by row; of: what a row is called.

    >>> unconverged_text([0, 20], "converged", "a row"), unconverged_text([0], "all")
    ('fits that did not converge are left out: 0 to 20 a row', '')
    >>> unconverged_text([3], "all")
    'fits that did not converge are used if they have estimates: 3'
    """
    if not any(counts):
        return ""
    used = "left out" if subset == DEFAULT_SUBSET else "used if they have estimates"
    return f"fits that did not converge are {used}: {ends_text(min(counts), max(counts))} {of}".rstrip()


def value_with_mcse(value: Any, mcse: Any) -> str:
    """A measure as journals print it, "0.812 (0.006)".

    The MCSE has one significant digit, two if it begins with 1; the value as many decimals.
    """
    if not np.isfinite(value):
        return "-"
    if not np.isfinite(mcse):
        return f"{value:.4g}"
    if mcse == 0:
        return f"{value:.4g} (0)"
    decimals = decimals_of(mcse)
    return f"{round(float(value), decimals) + 0.0:.{decimals}f} ({mcse:.{decimals}f})"


def decimals_of(mcse: float) -> int:
    """Decimals of a value whose MCSE, > 0, has one significant digit, two if it begins with 1."""
    exponent = int(np.floor(np.log10(mcse)))
    digits = 1 if round(mcse / 10.0**exponent, 6) < 1.95 else 0
    return int(np.clip(digits - exponent, 0, 8))


def overview(results: StoredResults, width: int, *, rows: int | None = MAX_ROWS) -> Group:
    """One row per condition and method, with as many measures (MCSE) as fit into `width` characters.

    rows: the first so many, None for all.

    Power, coverage and bias of the study's estimand, or of another one that is tested by itself by most methods (`interest`), and
    power of joint contrasts; below, the extremes of the shares of converged and singular fits, and of failed inference if there
    is any, and why replicates failed. `nestlab summary` has all measures.
    """
    summary = results.summary()
    factors = results.factors
    whole = in_subset(summary)
    tested, covered = (set(whole.loc[whole["measure"] == m, "estimand"]) for m in ("power", "cover"))
    known = results.estimands
    effects = [e for e in whole["estimand"].unique() if e in tested & covered and known[e].effect]
    users = whole[whole["measure"] == "power"].groupby("estimand")["method"].nunique()
    effects = [e for e in effects if users[e] == users[effects].max()]
    focus = results.interest.among(effects, tested, covered)
    measures = ["power", "cover", "bias"]
    if results.priors() and "power_q10" not in results.unavailable:
        measures[1:1] = ["power_q10", "power_q90"]
    wanted = [(focus, m) for m in measures if focus]
    joint = [c.name for c in results.contrasts if c.joint and c.name in tested and c.name != focus]
    wanted[1:1] = [(name, "power") for name in joint]
    cells = {
        (row.condition, row.method, row.estimand, row.measure): value_with_mcse(row.value, row.mcse)
        for row in whole[whole["estimand"].isin([focus, *joint])].itertuples()
    }
    keys = whole[["condition", "method", *factors]].drop_duplicates()
    methods = keys["method"].nunique() > 1
    columns = [("", [str(v) for v in keys["condition"]])]
    columns += [(words(f), [plain(v) for v in keys[f]]) for f in factors]
    columns += [("method", list(keys["method"]))] if methods else []
    measured = [
        (f"{m} {e}".strip(), [cells.get((c, name, e, m), "-") for c, name in keys[["condition", "method"]].to_numpy()])
        for e, m in wanted
    ]
    table, shown = _fitted(columns, measured, width, rows)
    title = Text(f"{results.manifest['name']}: {ends_text(*results.asked)} replications a condition, value (MCSE)")
    notes = [Text(_extreme(whole, "converged", lowest=True)), Text(_extreme(whole, "singular", lowest=False))]
    failed = whole[whole["measure"] == "inference_failed"]
    if (failed["value"] > 0).any():
        notes.append(Text(_extreme(whole, "inference_failed", lowest=False)))
    if line := unconverged_text(list(unconverged(summary).values()), DEFAULT_SUBSET, "a row"):
        notes.append(Text(line))
    notes += [Text(line) for line in (level_text(measures, results.alphas), *truth_lines(results)) if line]
    notes += [Text(line) for line in design_lines(results.study.conditions())]
    notes.append(Text(results.path_line))
    if line := observed_line(results.observed()):
        notes.append(Text(line))
    if note := _over_priors(results):
        notes.insert(0, Text(note))
    lines = outcome_lines(results.study.conditions(), focus, results.contrasts)
    notes[:0] = [Text(line) for line in [*_stated(results), *lines]]
    notes += [Text(line) for line in results.stopping_lines()]
    notes += [Text(line) for line in flag_lines(summary)]
    if results.unavailable:
        notes.append(Text(f"sums of the replicates are kept; not available: {', '.join(results.unavailable)}"))
    messages = results.said()
    notes += [Text(line) for line in failure_lines(results, [said.method for said in messages])]
    notes += [Text(line) for said in messages for line in said_lines(said)]
    notes += [
        Text(line) for line in shown_lines(results, focus, tested | covered, f"nestlab summary {_quoted(results)}")
    ]
    notes += [Text(line) for line in _more(results.folder, len(keys) - (rows or len(keys)), wanted[shown:])]
    return Group(title, table, *notes)


def shown_lines(results: StoredResults, shown: str, there: Iterable[str], command: str) -> list[str]:
    """Which effect is shown and why, and the command that shows another one; nothing where there is no other.

    there: estimands that could be shown.
    """
    others = results.interest.others(shown, there)
    if not shown or not others:
        return []
    more = (
        f" (or {', '.join(others[1:MOST_OTHERS])}{', ...' if len(others) > MOST_OTHERS else ''})" if others[1:] else ""
    )
    told = results.interest.told(shown, others)
    return [f"shown: {told}; others: {command} --estimand {shlex.quote(others[0])}{more}"]


def _quoted(results: StoredResults) -> str:
    return shlex.quote(str(results.folder))


def flag_lines(summary: pd.DataFrame) -> list[str]:
    """What is said of conditions that ended early, or in which too many replicates failed; nothing where none is flagged."""
    if "flag" not in summary or not (summary["flag"] != "").any():
        return []
    flagged = summary.loc[summary["flag"] != "", ["condition", "method", "flag"]].drop_duplicates()
    lines = [
        f"flagged: condition {c}, {m}: {flag}" for c, m, flag in flagged.head(MAX_MESSAGES).itertuples(index=False)
    ]
    more = len(flagged) - len(lines)
    return [*lines, f"and {more:,} more that are flagged (column flag of the summary)"] if more > 0 else lines


def failure_lines(results: StoredResults, heard: Collection[str] = ()) -> list[str]:
    """Say why replicates failed, by condition, method and status, wherever more than a few did; the largest shares first.

    heard: methods whose own messages are told elsewhere, so that an error that they raised is not told here.
    """
    found = results.count_failures()
    own = (found["status"] == Status.method_error.name) & found["method"].isin(list(heard))
    found = found[(found["count"] > FEW) & ~own]
    found = found.assign(share=found["count"] / found["n"]).sort_values("share", ascending=False, kind="stable")
    lines = [
        f"condition {row['condition']}, {row['method']}: {row['status']} in {row['count']:,} of {row['n']:,} replicates: "
        f"{sentence_of(row['status'])}"
        for row in found.head(MAX_MESSAGES).to_dict("records")
    ]
    more = len(found) - len(lines)
    return [*lines, f"and {more:,} more: nestlab failures {shlex.quote(str(results.folder))}"] if more > 0 else lines


def _more(folder: Path, rows: int, left_out: Sequence[tuple[str, str]]) -> list[str]:
    """The commands that print the rows and the measures, (estimand, measure), that the overview has no room for."""
    command = f"nestlab summary {shlex.quote(str(folder))}"
    lines = [f"{rows:,} more rows: {command}"] if rows > 0 else []
    for estimand in dict.fromkeys(estimand for estimand, _ in left_out):
        measures = [measure for name, measure in left_out if name == estimand]
        own = f" --measure {measures[0]}" if len(measures) == 1 else ""
        lines.append(f"{', '.join(measures)}: {command} --estimand {shlex.quote(estimand)}{own}")
    return lines


def _over_priors(results: StoredResults) -> str:
    """What measures are averages over; "" without priors."""
    priors = [f"{name} ({' or '.join(texts)})" for name, texts in results.priors().items()]
    if not priors:
        return ""
    text = f"power (assurance), coverage and bias are averaged over the prior of {' and of '.join(priors)}"
    if "power_q10" in results.unavailable:
        return text
    return f"{text}; power_q10 and power_q90: quantiles of the power given what is drawn"


def _stated(results: StoredResults) -> list[str]:
    """Effects given in standard units, with what they became, a line a term."""
    lines = []
    for term, texts in results.stated().items():
        more = f" and {len(texts) - MOST_STATED} more" if len(texts) > MOST_STATED else ""
        lines.append(f"{term} = {', '.join(texts[:MOST_STATED])}{more}")
    return lines


def said_lines(said: Said) -> list[str]:
    """What a method said: failures by message, the most frequent first, and warnings, each with where it was said first."""
    failed = sum(count for count, *_ in said.messages.values())
    lines = (
        [f"{said.method}: {failed:,} of {said.replicates:,} replicates failed, see results.failures()"]
        if failed
        else []
    )
    shown = list(said.messages.items())[:MAX_MESSAGES]
    lines += [
        f"  {count:,} x {message} (first: condition {condition}, replicate {replicate:,})"
        for message, (count, condition, replicate) in shown
    ]
    if more := len(said.messages) - len(shown):
        lines.append(f"  and {more:,} other messages")
    if said.first_warned is not None:
        condition, replicate = said.first_warned
        lines.append(
            f"{said.method}: {said.warnings:,} warnings in {said.warned:,} of {said.replicates:,} replicates "
            f"(first: condition {condition}, replicate {replicate:,})"
        )
    return lines


def _extreme(whole: pd.DataFrame, measure: str, *, lowest: bool) -> str:
    rows = whole[whole["measure"] == measure]
    row = rows.sort_values("value", ascending=lowest).iloc[0]
    value = value_with_mcse(row["value"], row["mcse"])
    return f"{measure}: {'at least' if lowest else 'at most'} {value} of the fits (condition {row['condition']}, {row['method']})"


def _fitted(
    columns: list[tuple[str, list[str]]], measured: list[tuple[str, list[str]]], width: int, rows: int | None
) -> tuple[Table, int]:
    """A table of all columns and of the measures that fit; how many of those it shows."""

    whole = {"method", *(header for header, _ in measured)}  # their cells and headers are never broken

    def needed(column: tuple[str, list[str]]) -> int:
        parts = [column[0]] if column[0] in whole else [word[:LONGEST_WORD] for word in column[0].split()]
        words = max(map(len, parts), default=0)
        return 2 + max(words, *map(len, column[1][:rows]), 1)

    room = width - sum(map(needed, columns)) - 2
    shown: list[tuple[str, list[str]]] = []
    for column in measured:
        room -= needed(column)
        if shown and room < 0:
            break
        shown.append(column)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for header, _ in columns + shown:
        table.add_column(header, justify="right", overflow="fold", no_wrap=header in whole)
    for row in list(zip(*(cells for _, cells in columns + shown), strict=True))[:rows]:
        table.add_row(*row)
    return table, len(shown)


def summary_command(
    folder: Path,
    *,
    estimands: Sequence[str],
    measures: Sequence[str],
    methods: Sequence[str],
    subset: str | None,
    csv: bool,
) -> bool:
    """Print the rows asked for; True if the run is complete."""
    results = StoredResults(folder)
    frame = results.summary()
    missing = results.missing()
    if frame.empty:
        typer_note(f"nothing is stored yet: {missing:,} fits are missing")
        return False
    lost = unconverged(frame)
    frame = in_subset(frame, None if subset is None else _known("subset", subset, frame))
    for measure in measures:
        if reason := results.unavailable.get(measure):
            raise StudyError([f"--measure {show(measure)}: {not_kept(reason)}"])
    for column, wanted in (("estimand", estimands), ("measure", measures), ("method", methods)):
        if wanted:
            frame = frame[frame[column].isin([_known(column, w, frame) for w in wanted])]
    if csv:
        sys.stdout.write(frame.to_csv(index=False))
    elif not (estimands or measures or methods):
        terminal().print(overview(results, terminal().width, rows=None))
        terminal().print(_measures(frame))
    else:
        terminal().print(_rows(frame))
        shown = {label: alpha for label, alpha in results.alphas.items() if label in set(frame["method"])}
        of_estimands = frame[frame["estimand"] != ""]
        counts = [
            lost[key] for key in zip(of_estimands["condition"], of_estimands["method"], strict=True) if key in lost
        ]
        for line in (
            level_text(set(frame["measure"]), shown),
            unconverged_text(counts, subset or DEFAULT_SUBSET, "a row"),
        ):
            if line:
                terminal().print(Text(line))
        for line in flag_lines(frame):
            terminal().print(line, soft_wrap=True, highlight=False, markup=False)
        if note := _over_priors(results):
            terminal().print(Text(note))
    if missing:
        typer_note(results.incomplete)
    return missing == 0


def not_kept(reason: str) -> str:
    """Why results of sums do not have a measure, and the repair."""
    return (
        f"{reason}, and sums of the replicates are kept; run the study with them into another folder: nestlab run STUDY --keep "
        "replicates --out DIR"
    )


def typer_note(text: str) -> None:
    print(text, file=sys.stderr)


def _known(column: str, value: str, frame: pd.DataFrame) -> str:
    known = [str(v) for v in frame[column].unique()]
    if value not in known:
        guess = close_match(value, known)
        repair = meant(guess, value) if guess else "use one of them"
        raise StudyError([f"--{column} {show(value)}: the results have {', '.join(k for k in known if k)}; {repair}"])
    return value


def _rows(frame: pd.DataFrame) -> Group:
    """The rows as they are: factors, method, estimand, measure, value (MCSE), limits, n. What does not vary stands above."""
    fixed = {"condition", "method", "estimand", "measure", "subset", "value", "mcse", "n"}
    extra = {"lower", "upper", "missing", "bound_lower", "bound_upper", "flag"}
    factors = [c for c in frame.columns if c not in fixed | extra]
    named = ["method", "estimand", "measure"]
    varying = [c for c in named if frame[c].nunique() > 1]
    title = ", ".join(f"{c} {frame[c].iloc[0] or '(whole)'}" for c in named if c not in varying)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    limits = frame["lower"].notna().any()
    bounds = (frame["missing"].fillna(0) > 0).any()
    headers = [
        "",
        *(words(f) for f in factors),
        *varying,
        "value (MCSE)",
        *(["95 % limits"] if limits else []),
        "n",
    ]
    for header in headers + (["missing", "bounds"] if bounds else []):
        table.add_column(
            header, justify="right", overflow="fold", no_wrap=header in ("value (MCSE)", "95 % limits", "bounds")
        )
    for row in frame.to_dict("records"):
        cells = [str(row["condition"]), *(plain(row[f]) for f in factors), *(str(row[c]) for c in varying)]
        cells.append(value_with_mcse(row["value"], row["mcse"]))
        if limits:
            cells.append("" if pd.isna(row["lower"]) else f"{row['lower']:.3f}-{row['upper']:.3f}")
        cells.append(f"{row['n']:,}")
        if bounds:
            some = pd.notna(row["missing"]) and row["missing"] > 0
            ends = f"{row['bound_lower']:.3f}-{row['bound_upper']:.3f}"
            cells += [f"{row['missing']:,.0f}", ends] if some else ["", ""]
        table.add_row(*cells)
    return Group(Text(title), table)


def _measures(frame: pd.DataFrame) -> Text:
    estimands = ", ".join(e for e in frame["estimand"].unique() if e)
    measures = ", ".join(frame["measure"].unique())
    return Text(
        f"estimands: {estimands}\nmeasures: {measures}\nchoose by --estimand and --measure; --csv writes the rows"
    )


def words(factor: str) -> str:
    """A factor's name with places to break it."""
    return factor.replace("_", " ").replace(".", ". ")


def plain(value: object) -> str:
    """A factor's level as text."""
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
