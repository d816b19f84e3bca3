"""What a report is made from: the study, its stored conditions, its measures, and words for values and places."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from ...measure.subsets import in_subset
from ...run.results import StoredResults
from ...run.store import Store, StoredCondition
from ...spec.model import Method
from ...spec.study import StudyFile
from ..summary import value_with_mcse

__all__ = [
    "Block",
    "Code",
    "Material",
    "Paragraph",
    "ReportTable",
    "Section",
    "at",
    "largest",
    "levels_text",
    "measured",
    "plural",
    "span",
    "value_text",
]

#: Levels of a factor or a true value that are listed; of more, the smallest and the largest.
MOST_LEVELS = 8


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text that is shown as it is written, folded away."""

    caption: str
    text: str


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Cells of text. folded: behind its caption until somebody opens it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


Block = Paragraph | Code | ReportTable


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Material:
    """A results folder as the report reads it.

    conditions: the active ones; summary: all measures; missing: fits that were asked for and are not stored.
    """

    results: StoredResults
    study: StudyFile
    conditions: tuple[StoredCondition, ...]
    summary: pd.DataFrame
    missing: int

    @classmethod
    def read(cls, results: StoredResults) -> Material:
        """Raises RefusedError where the folder holds no results, or altered ones."""
        stored = tuple(row for row in Store(results.folder).read_conditions() if row.active)
        return cls(results, results.study, stored, results.summary(), results.missing())

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.results.manifest

    @property
    def methods(self) -> tuple[Method, ...]:
        return self.study.methods()

    @property
    def labels(self) -> dict[str, Method]:
        """What the summary calls each method and rule -> the method."""
        return {label: method for method in self.methods for label in method.labels}

    @property
    def first_labels(self) -> dict[str, str]:
        """One label a method: rules of one method share their estimates, so what those say is said once."""
        return {method.labels[0]: method.name for method in self.methods}

    @property
    def whole(self) -> pd.DataFrame:
        """The measures that are shown: over the fits that converged, and of methods as wholes."""
        return in_subset(self.summary) if len(self.summary) else self.summary

    @property
    def factors(self) -> dict[str, list[Any]]:
        """Every factor with its levels, sorted."""
        names = dict.fromkeys(name for row in self.conditions for name in row.factors)
        return {name: _distinct(row.factors.get(name) for row in self.conditions) for name in names}

    @property
    def estimands(self) -> dict[str, list[float]]:
        """Every estimand with its distinct true values, sorted; none where it has no true value."""
        measured_too = [e for e in self.summary["estimand"].unique() if e] if len(self.summary) else []
        names = dict.fromkeys([*(name for row in self.conditions for name in row.truth), *measured_too])
        return {name: _distinct(row.truth.get(name) for row in self.conditions) for name in names}

    def replications(self) -> tuple[int, int]:
        """The least and the largest number of replicates that a condition has by one method; (0, 0) if nothing is stored."""
        whole = self.whole
        n = whole.loc[whole["measure"] == "failed", "n"] if len(whole) else pd.Series(dtype=int)
        return (int(n.min()), int(n.max())) if len(n) else (0, 0)

    def asked(self) -> tuple[int, int]:
        """The least and the largest number of replications that were asked for."""
        return self.results.asked

    def place(self, row: Any, *, among: pd.DataFrame | None = None, without: Sequence[str] = ()) -> str:
        """Where in the grid a row of the summary lies: "clusters = 8, icc = 0.1"; "" if there is one condition.

        among: rows of which this is one; factors that are the same in all of them are left out.
        """
        factors = next((c.factors for c in self.conditions if c.number == row["condition"]), {})
        names = [name for name, levels in self.factors.items() if len(levels) > 1 and name not in without]
        if among is not None:
            names = [name for name in names if among[name].nunique(dropna=False) > 1]
        return ", ".join(f"{name} = {value_text(factors.get(name))}" for name in names)


def _distinct(values: Any) -> list[Any]:
    """Values once each: numbers in order, else as they come; nothing for what is missing, one for what differs by rounding.

    >>> _distinct([0.26, 0.1, None, 0.26000000000000006])
    [0.1, 0.26]
    """
    seen: dict[str, Any] = {}
    for v in values:
        if v is not None and not _is_nan(v):
            seen.setdefault(f"{v:.12g}" if isinstance(v, float) else json.dumps(v, default=str), v)
    found = list(seen.values())
    if all(isinstance(v, int | float) for v in found):
        return sorted(found)
    return found


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def value_text(value: object) -> str:
    """A value as people write it: 0.5, 20, text as it is, lists in short."""
    if value is None or _is_nan(value):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith("["):  # a list where a table holds text
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list | tuple):
        return f"[{_list_text([value_text(item) for item in value])}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {value_text(item)}" for key, item in value.items()) + " }"
    return str(value)


def _list_text(items: list[str]) -> str:
    """Equal neighbours and patterns that come again are counted, what is still long is cut.

    >>> _list_text(["5", "5", "8"]), _list_text(["4", "36"] * 7 + ["20"])
    ('2 x 5, 8', '7 x (4, 36), 20')
    """
    runs = [(text, len(list(run))) for text, run in groupby(items)]
    if len(runs) <= MOST_LEVELS:
        return ", ".join(text if count == 1 else f"{count} x {text}" for text, count in runs)
    for period in range(2, MOST_LEVELS):
        times = len(items) // period
        if times > 1 and items[: times * period] == items[:period] * times:
            return ", ".join([f"{times} x ({', '.join(items[:period])})", *items[times * period :]])
    return f"{', '.join(items[:3])}, ..., {items[-1]} ({len(items)} values)"


def levels_text(levels: Sequence[Any]) -> str:
    """A few values listed, many by their ends."""
    if len(levels) <= MOST_LEVELS:
        return ", ".join(map(value_text, levels)) or "none"
    if all(isinstance(v, int | float) for v in levels):
        return f"{len(levels)} values from {value_text(levels[0])} to {value_text(levels[-1])}"
    return f"{len(levels)} values: {', '.join(map(value_text, levels[: MOST_LEVELS - 1]))}, ..."


def measured(row: Any, *, unit: str = "", n: bool = True) -> str:
    """A measure with its MCSE and the number of replicates, "0.812 (0.006), n = 4,000".

    Where the MCSE of a proportion is 0 Wilson's limits stand too.
    """
    text = value_with_mcse(row["value"], row["mcse"]) + unit
    if row["mcse"] == 0 and pd.notna(row["lower"]):
        text += f", 95 % limits {row['lower']:.4g} to {row['upper']:.4g}"
    return f"{text}, n = {int(row['n']):,}" if n else text


def at(material: Material, row: Any, *, among: pd.DataFrame | None = None, unit: str = "", n: bool = True) -> str:
    """A measure with the place in the grid where it was found."""
    place = material.place(row, among=among)
    return measured(row, unit=unit, n=n) + (f" at {place}" if place else "")


def span(material: Material, rows: pd.DataFrame) -> str:
    """The range of a measure: "0.34 (0.02) at clusters = 8 to 0.85 (0.02) at clusters = 40, n = 400 each"."""
    ordered = rows.sort_values("value", kind="stable")
    first, last = ordered.iloc[0], ordered.iloc[-1]
    if len(rows) == 1:
        return at(material, first)
    same = rows["n"].nunique() == 1
    end = f", n = {int(first['n']):,} each" if same else ""
    if first["value"] == last["value"]:
        return f"{measured(first, n=same)} in all {len(rows)} conditions" + (
            "" if same else f", n = {_ends(rows['n'])}"
        )
    return f"{at(material, first, among=rows, n=not same)} to {at(material, last, among=rows, n=not same)}{end}"


def largest(rows: pd.DataFrame, scores: pd.Series[Any]) -> Any:
    """The row with the largest score, the first of equals; scores: one a row, none missing."""
    return rows.iloc[int(scores.to_numpy(dtype=float).argmax())]


def _ends(counts: pd.Series[int]) -> str:
    return f"{counts.min():,} to {counts.max():,}"


def plural(count: int, word: str) -> str:
    """1 condition, 2 conditions.

    >>> plural(1, "condition"), plural(1200, "fit")
    ('1 condition', '1,200 fits')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
