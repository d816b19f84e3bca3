"""Tables as journals print them: value (MCSE), the same decimals throughout; as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..spec.measures import WHOLE
from ..spec.problems import StudyError, show
from .plots.choose import Asked, Dimension, ShownRows, pick, select
from .plots.roles import cells
from .plots.words import caption_of, fixed, label_of

if TYPE_CHECKING:
    from ..run.results import StoredResults

__all__ = [
    "FORMATS",
    "Cell",
    "MeasureTable",
    "decimals_for",
    "make_table",
    "to_csv",
    "to_frame",
    "to_latex",
    "to_markdown",
]

#: More decimals than the median MCSE needs are too many for one small MCSE.
_EXTRA, _MOST = 1, 8


@dataclass(frozen=True, slots=True)
class Cell:
    """A measure of one condition and method."""

    value: float
    mcse: float
    n: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A measure of a table, and what it is of: estimand "" for a method as a whole."""

    measure: str
    name: str
    estimand: str
    subset: str


@dataclass(frozen=True)
class MeasureTable:
    """rows, columns: factors, the last fastest; row_keys, column_keys: their levels; cells: by row key, then column key.

    shown: the measures; where there are several, "measure" is one of the rows or columns. label: what LaTeX refers to.
    """

    caption: str
    shown: tuple[Shown, ...]
    rows: tuple[Dimension, ...]
    columns: tuple[Dimension, ...]
    row_keys: tuple[tuple[Any, ...], ...]
    column_keys: tuple[tuple[Any, ...], ...]
    cells: dict[tuple[tuple[Any, ...], tuple[Any, ...]], Cell]
    label: str = ""

    def what(self, row: tuple[Any, ...], column: tuple[Any, ...]) -> Shown:
        """The measure of a cell."""
        levels = (*row, *column)
        named = [d.name for d in (*self.rows, *self.columns)]
        if "measure" not in named:
            return self.shown[0]
        return next(s for s in self.shown if s.measure == levels[named.index("measure")])

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Decimals of each measure."""
        mcses: dict[str, list[float]] = {s.measure: [] for s in self.shown}
        for (row, column), cell in self.cells.items():
            mcses[self.what(row, column).measure].append(cell.mcse)
        return {measure: decimals_for(found) for measure, found in mcses.items()}

    def text(self, row: tuple[Any, ...], column: tuple[Any, ...]) -> str:
        """A cell, "0.812 (0.006)"; "-" where there is none."""
        cell = self.cells.get((row, column))
        return "-" if cell is None else cell_text(cell, self.decimals[self.what(row, column).measure])


def decimals_for(mcses: Iterable[float]) -> int:
    """Decimals that show the first significant digit of every MCSE, but at most one more than the median MCSE needs.

    >>> decimals_for([0.012, 0.0049]), decimals_for([0.01, 0.01, 0.00001]), decimals_for([3.2]), decimals_for([0.0])
    (3, 3, 0, 3)
    """
    known = [m for m in mcses if math.isfinite(m) and m > 0]
    if not known:
        return 3
    needed = [max(-math.floor(math.log10(m) + 1e-12), 0) for m in (min(known), float(np.median(known)))]
    return min(needed[0], needed[1] + _EXTRA, _MOST)


def cell_text(cell: Cell, decimals: int) -> str:
    """Value and MCSE with these decimals; an MCSE that would round to 0 as "<0.001".

    >>> cell_text(Cell(0.8123, 0.0056, 100), 3), cell_text(Cell(0.9999, 0.0001, 100), 3), cell_text(Cell(2, float("nan"), 1), 1)
    ('0.812 (0.006)', '1.000 (<0.001)', '2.0 (-)')
    """
    if not math.isfinite(cell.value):
        return "-"
    value = fixed(cell.value, decimals)
    if not math.isfinite(cell.mcse):
        return f"{value} (-)"
    least = 10.0**-decimals
    small = 0 < cell.mcse < least / 2
    return f"{value} (<{least:.{decimals}f})" if small else f"{value} ({cell.mcse:.{decimals}f})"


def make_table(
    results: StoredResults,
    measure: str | Sequence[str] | None = None,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    estimand: str | None = None,
    method: str | None = None,
    subset: str | None = None,
    caption: str | None = None,
    label: str | None = None,
) -> MeasureTable:
    """Measures by factors (and "method"), none averaged over: those that vary and are not named stand on the rows.

    Nothing named: several measures stand on the columns, else several methods, else the last of several factors. Measures of a
    method as a whole (converged) are of all fits where the subset has none. caption, label: instead of the one that is written,
    and for \\ref of LaTeX. Raises StudyError for what does not exist, naming what there is.
    """
    if label is not None and not re.fullmatch(r"[A-Za-z0-9:._-]+", label):
        raise StudyError([f"label = {show(label)}: must have letters, digits, and : . _ - only; such as tab:power"])
    several = () if measure is None or isinstance(measure, str) else tuple(dict.fromkeys(measure))
    measures = several or (measure if isinstance(measure, str) else None,)
    parts = _parts(results, measures, Asked(estimand=estimand, method=method, subset=subset))
    chosen = _joined(parts)
    down, across = _roles(chosen, rows, columns)
    keys = [
        (tuple(row[d.name] for d in down), tuple(row[d.name] for d in across))
        for row in chosen.frame.to_dict("records")
    ]
    numbers = zip(chosen.frame["value"], chosen.frame["mcse"], chosen.frame["n"], strict=True)
    found = {key: Cell(float(v), float(m), int(n)) for key, (v, m, n) in zip(keys, numbers, strict=True)}
    there = ({k[0] for k in found}, {k[1] for k in found})
    written = caption_of(chosen, "Monte Carlo standard errors in parentheses", title=True)
    shown = tuple(Shown(p.measures[0], label_of(p), p.estimand, p.subset) for p in parts)
    return MeasureTable(
        written if caption is None else caption, shown, down, across,
        tuple(c for c in cells(down) if c in there[0]), tuple(c for c in cells(across) if c in there[1]), found, label or "",
    )  # fmt: skip


def _parts(results: StoredResults, measures: Sequence[str | None], asked: Asked) -> list[ShownRows]:
    """The rows of each measure: of one estimand, or of methods as a whole."""
    effects = [m for m in measures if m is not None and m not in WHOLE]
    if len(measures) == 1 or not effects:
        return [select(results, replace(asked, measure=m)) for m in measures]
    summary = results.summary()
    for measure in measures:
        pick("measure", measure, summary["measure"])
    focus = replace(asked, estimand=select(results, replace(asked, measure=effects[0]), effects).estimand)
    parts = []
    for measure in measures:
        if measure in effects:
            parts.append(select(results, replace(focus, measure=measure)))
            continue
        there = asked.subset in set(summary.loc[summary["measure"] == measure, "subset"])
        parts.append(
            select(results, Asked(method=asked.method, measure=measure, subset=asked.subset if there else "all"))
        )
    return parts


def _joined(parts: Sequence[ShownRows]) -> ShownRows:
    """The rows of all measures as one, with the measures as a dimension where there are several."""
    if len(parts) == 1:
        return parts[0]
    lead = next((p for p in parts if p.estimand), parts[0])
    measures = tuple(p.measures[0] for p in parts)
    names = tuple(label_of(p, bare=True) for p in parts)
    every = {name: d for p in parts for name, d in p.dimensions.items()}
    every["method"] = max((p.dimensions["method"] for p in parts), key=len)
    every["measure"] = Dimension("measure", "measure", measures, names, numeric=False)
    frame = pd.concat([p.frame for p in parts], ignore_index=True)
    nulls = next((p.nulls for p in parts if p.measures[0] == "power"), lead.nulls)
    notes = tuple(dict.fromkeys(note for p in parts for note in p.notes))
    return replace(lead, frame=frame, dimensions=every, measures=measures, nulls=nulls, notes=notes)


def _roles(
    chosen: ShownRows, rows: Sequence[str], columns: Sequence[str]
) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...]]:
    every = chosen.dimensions
    for option, names in (("rows", rows), ("columns", columns)):
        for name in names:
            pick(option, name, every, what="the results vary by")
    named = [*rows, *columns]
    twice = next((n for n in named if named.count(n) > 1), None)
    if twice is not None:
        raise StudyError([f"rows, columns = {show(named)}: {twice} is named twice; name every factor once"])
    varying = [n for n, d in every.items() if len(d) > 1]
    if not named:
        factors = [n for n in varying if n != "method"]
        columns = ["method"] if "method" in varying else factors[-1:] if len(factors) > 1 else []
    if "measure" in varying and "measure" not in named:
        columns = [*(columns if named else []), "measure"]
    rest = [n for n in varying if n not in named and n not in columns]
    return tuple(every[n] for n in [*rows, *rest]), tuple(every[n] for n in columns)


def to_frame(table: MeasureTable) -> pd.DataFrame:
    """The cells as text; factors as index and column levels; the caption in `attrs`."""
    values = [[table.text(row, column) for column in table.column_keys] for row in table.row_keys]
    labels = [tuple(d.label(v) for d, v in zip(table.rows, key, strict=True)) for key in table.row_keys]
    heads = [tuple(d.label(v) for d, v in zip(table.columns, key, strict=True)) for key in table.column_keys]
    frame = pd.DataFrame(values)
    if table.rows:
        frame.index = pd.MultiIndex.from_tuples(labels, names=[d.title for d in table.rows])
    frame.columns = (
        pd.MultiIndex.from_tuples(heads, names=[d.title for d in table.columns])
        if table.columns
        else [table.shown[0].name]
    )
    frame.attrs["caption"] = table.caption
    return frame


def _grid(table: MeasureTable, text: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Heads of all columns, and all rows, as text."""
    heads = [text(d.title) for d in table.rows]
    for key in table.column_keys:
        words = ", ".join(d.named(level) for d, level in zip(table.columns, key, strict=True))
        heads.append(text(words or table.shown[0].name))
    body = []
    for row in table.row_keys:
        labels = [text(d.label(level)) for d, level in zip(table.rows, row, strict=True)]
        body.append(labels + [table.text(row, column) for column in table.column_keys])
    return heads, body


def to_markdown(table: MeasureTable) -> str:
    """A pipe table under its caption, padded so that it reads as text too."""
    heads, body = _grid(table, lambda text: text.replace("\\", "\\\\").replace("|", "\\|"))
    widths = [max(3, *(len(line[k]) for line in [heads, *body])) for k in range(len(heads))]
    left = len(table.rows)

    def line(parts: Sequence[str]) -> str:
        padded = (p.ljust(w) if k < left else p.rjust(w) for k, (p, w) in enumerate(zip(parts, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if k < left else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join([table.caption, "", line(heads), line(rule), *map(line, body)]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",  # the last three would be arguments of the line end before them
}  # fmt: skip


def latex_escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> latex_escaped("50 % of x_1 & y^2")
    '50 \\% of x\\_1 \\& y\\textasciicircum{}2'
    """
    return "".join(_LATEX.get(c, c) for c in text)


def to_latex(table: MeasureTable) -> str:
    """A floating table for \\usepackage{booktabs}; heads of several factors in lines of their own."""
    left, right = len(table.rows), len(table.column_keys)
    _, body = _grid(table, latex_escaped)
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{latex_escaped(table.caption)}}}",
        *([rf"\label{{{table.label}}}"] if table.label else []),
        rf"\begin{{tabular}}{{{'l' * left}{'r' * right}}}", r"\toprule", *_latex_heads(table), r"\midrule",
        *(" & ".join([*row[:left], *map(_latex_number, row[left:])]) + r" \\" for row in body),
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _latex_heads(table: MeasureTable) -> list[str]:
    left = [latex_escaped(d.title) for d in table.rows]
    if not table.columns:
        return [" & ".join([*left, latex_escaped(table.shown[0].name)]) + r" \\"]
    lines = []
    for depth, dimension in enumerate(table.columns):
        last = depth == len(table.columns) - 1
        parts, rules, position = (left if last else [""] * len(left)), [], len(left)
        parts = list(parts)
        for key, group in groupby(table.column_keys, key=lambda k: k[: depth + 1]):
            count = sum(1 for _ in group)
            text = latex_escaped(dimension.named(key[-1]))
            parts.append(text if last else rf"\multicolumn{{{count}}}{{c}}{{{text}}}")
            rules.append(rf"\cmidrule(lr){{{position + 1}-{position + count}}}")
            position += count
        lines.append(" & ".join(parts) + r" \\")
        lines += [] if last else [" ".join(rules)]
    return lines


def _latex_number(text: str) -> str:
    if text == "-":
        return "--"
    text = text.replace("(-)", "(--)").replace("(<", r"($<$")
    return f"$-${text[1:]}" if text.startswith("-") else text


def to_csv(table: MeasureTable) -> str:
    """A row a cell: the factors, measure, value, mcse and n, with all digits."""
    named = [d.name for d in (*table.rows, *table.columns)]
    records = []
    for row in table.row_keys:
        for column in table.column_keys:
            cell = table.cells.get((row, column))
            if cell is not None:
                start = dict(zip(named, (*row, *column), strict=True))
                of = table.what(row, column)
                start.pop("measure", None)
                what = {"estimand": of.estimand, "measure": of.measure, "subset": of.subset}
                records.append({**start, **what, "value": cell.value, "mcse": cell.mcse, "n": cell.n})
    buffer = io.StringIO()
    pd.DataFrame(records).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


FORMATS: dict[str, Callable[[MeasureTable], str]] = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
