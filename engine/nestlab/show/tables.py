"""Tables as journals print them: value (MCSE), the same decimals throughout; as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..spec.problems import StudyError, show
from .plots.choose import Asked, Dimension, Rows, pick, select
from .plots.roles import cells
from .plots.words import caption_of, fixed, label_of

if TYPE_CHECKING:
    from ..run.results import StoredResults

__all__ = ["FORMATS", "Cell", "Table", "decimals_for", "make_table", "to_csv", "to_frame", "to_latex", "to_markdown"]

#: More decimals than the median MCSE needs are too many for one small MCSE.
_EXTRA, _MOST = 1, 8


@dataclass(frozen=True, slots=True)
class Cell:
    """A measure of one condition and method."""

    value: float
    mcse: float
    n: int


@dataclass(frozen=True)
class Table:
    """rows, columns: factors, the last fastest; row_keys, column_keys: their levels; cells: by row key, then column key."""

    caption: str
    label: str
    measure: str
    estimand: str
    subset: str
    rows: tuple[Dimension, ...]
    columns: tuple[Dimension, ...]
    row_keys: tuple[tuple[Any, ...], ...]
    column_keys: tuple[tuple[Any, ...], ...]
    cells: dict[tuple[tuple[Any, ...], tuple[Any, ...]], Cell]

    @property
    def decimals(self) -> int:
        return decimals_for([cell.mcse for cell in self.cells.values()])

    def text(self, row: tuple[Any, ...], column: tuple[Any, ...]) -> str:
        """A cell, "0.812 (0.006)"; "-" where there is none."""
        cell = self.cells.get((row, column))
        return "-" if cell is None else cell_text(cell, self.decimals)


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
    measure: str | None = None,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    estimand: str | None = None,
    method: str | None = None,
    subset: str | None = None,
) -> Table:
    """One measure by factors (and "method"), none averaged over: those that vary and are not named stand on the rows.

    Nothing named: several methods stand on the columns, else the last of several factors. Raises StudyError for what does not
    exist, naming what there is.
    """
    chosen = select(results, Asked(estimand=estimand, method=method, measure=measure, subset=subset))
    down, across = _roles(chosen, rows, columns)
    keys = [
        (tuple(row[d.name] for d in down), tuple(row[d.name] for d in across))
        for row in chosen.frame.to_dict("records")
    ]
    numbers = zip(chosen.frame["value"], chosen.frame["mcse"], chosen.frame["n"], strict=True)
    found = {key: Cell(float(v), float(m), int(n)) for key, (v, m, n) in zip(keys, numbers, strict=True)}
    there = ({k[0] for k in found}, {k[1] for k in found})
    caption = caption_of(chosen, "Monte Carlo standard errors in parentheses", title=True)
    return Table(
        caption, label_of(chosen), chosen.measures[0], chosen.estimand, chosen.subset, down, across,
        tuple(c for c in cells(down) if c in there[0]), tuple(c for c in cells(across) if c in there[1]), found,
    )  # fmt: skip


def _roles(
    chosen: Rows, rows: Sequence[str], columns: Sequence[str]
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
    rest = [n for n in varying if n not in named and n not in columns]
    return tuple(every[n] for n in [*rows, *rest]), tuple(every[n] for n in columns)


def to_frame(table: Table) -> pd.DataFrame:
    """The cells as text; factors as index and column levels; the caption in `attrs`."""
    values = [[table.text(row, column) for column in table.column_keys] for row in table.row_keys]
    labels = [tuple(d.label(v) for d, v in zip(table.rows, key, strict=True)) for key in table.row_keys]
    heads = [tuple(d.label(v) for d, v in zip(table.columns, key, strict=True)) for key in table.column_keys]
    frame = pd.DataFrame(values)
    if table.rows:
        frame.index = pd.MultiIndex.from_tuples(labels, names=[d.title for d in table.rows])
    frame.columns = (
        pd.MultiIndex.from_tuples(heads, names=[d.title for d in table.columns]) if table.columns else [table.label]
    )
    frame.attrs["caption"] = table.caption
    return frame


def _grid(table: Table, text: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Heads of all columns, and all rows, as text."""
    heads = [text(d.title) for d in table.rows]
    for key in table.column_keys:
        words = ", ".join(d.named(level) for d, level in zip(table.columns, key, strict=True))
        heads.append(text(words or table.label))
    body = []
    for row in table.row_keys:
        labels = [text(d.label(level)) for d, level in zip(table.rows, row, strict=True)]
        body.append(labels + [table.text(row, column) for column in table.column_keys])
    return heads, body


def to_markdown(table: Table) -> str:
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


def to_latex(table: Table) -> str:
    """A floating table for \\usepackage{booktabs}; heads of several factors in lines of their own."""
    left, right = len(table.rows), len(table.column_keys)
    _, body = _grid(table, latex_escaped)
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{latex_escaped(table.caption)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * right}}}", r"\toprule", *_latex_heads(table), r"\midrule",
        *(" & ".join([*row[:left], *map(_latex_number, row[left:])]) + r" \\" for row in body),
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _latex_heads(table: Table) -> list[str]:
    left = [latex_escaped(d.title) for d in table.rows]
    if not table.columns:
        return [" & ".join([*left, latex_escaped(table.label)]) + r" \\"]
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


def to_csv(table: Table) -> str:
    """A row a cell: the factors, measure, value, mcse and n, with all digits."""
    named = [d.name for d in (*table.rows, *table.columns)]
    records = []
    for row in table.row_keys:
        for column in table.column_keys:
            cell = table.cells.get((row, column))
            if cell is not None:
                start = dict(zip(named, (*row, *column), strict=True))
                what = {"estimand": table.estimand, "measure": table.measure, "subset": table.subset}
                records.append({**start, **what, "value": cell.value, "mcse": cell.mcse, "n": cell.n})
    buffer = io.StringIO()
    pd.DataFrame(records).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
