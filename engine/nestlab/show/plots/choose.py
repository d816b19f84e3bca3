"""What a picture or a table shows: rows of the summary, and what the factors stand for. Knows nothing of matplotlib.

No factor is ever averaged over: those that are left when x, colour and facet are chosen make lines or panels of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ...measure.subsets import DEFAULT_SUBSET, default_subset, in_subset, unconverged
from ...run.store import Store
from ...spec.interest import Interest
from ...spec.problems import StudyError, nearest, show
from ...spec.study import StudyFile
from ..countables import axis_of
from ..drawn import drawn_by
from ..summary import ends_text, not_kept, unconverged_text

if TYPE_CHECKING:
    from ...run.results import StoredResults

__all__ = [
    "Asked",
    "Dimension",
    "ShownRows",
    "dimensions",
    "factor_names",
    "group_of",
    "measures_of",
    "pick",
    "select",
    "study_of",
]

_LONG = 22


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller said; None: choose."""

    x: str | None = None
    color: str | None = None
    facet: str | None = None
    estimand: str | None = None
    method: str | None = None
    measure: str | None = None
    subset: str | None = None
    condition: int | None = None
    size: tuple[float, float] | None = None  # inches of the whole picture


@dataclass(frozen=True, slots=True)
class Dimension:
    """A factor, the methods, or the measures: levels in order and their labels."""

    name: str
    title: str
    levels: tuple[Any, ...]
    labels: tuple[str, ...]
    numeric: bool
    axis: str = ""  # what an axis is called, where it is more than the title

    def __len__(self) -> int:
        return len(self.levels)

    def label(self, level: Any) -> str:
        return self.labels[self.levels.index(level)]

    def named(self, level: Any) -> str:
        """ "icc 0.1"; methods and measures by their names alone."""
        text = self.label(level)
        return text if self.name in ("method", "measure") else f"{self.title} {text}"


@dataclass(frozen=True)
class ShownRows:
    """Rows of the summary (value, mcse, n, low, high, missing; a column a dimension) of one estimand and subset.

    low, high: Wilson's limits of proportions, value -/+ 1.96 MCSE of others. dimensions: all that varies, methods last. asked:
    the least and the most replications of a condition; alphas: levels of the methods that are shown, by their labels;
    nulls: in which conditions the value under test is true, so that power is the type I error rate.
    unconverged: how many fits of each row did not converge; none of methods as wholes.
    """

    frame: pd.DataFrame
    dimensions: dict[str, Dimension]
    estimand: str
    measures: tuple[str, ...]
    subset: str
    asked: tuple[int, int]
    alphas: Mapping[str, float]
    nulls: Literal["none", "some", "all"] = "none"
    notes: tuple[str, ...] = field(default=())
    shown: str = ""
    unconverged: tuple[int, ...] = ()

    def counts(self, what: str = "a point") -> str:
        """ "n = 380 to 400 of 400 replicates", with those that have no result, and points without a value."""
        n = self.frame["n"]
        low, high = (int(n.min()), int(n.max())) if len(n) else (0, 0)
        text = f"n = {ends_text(low, high)}" + f" replicates {what} ({ends_text(*self.asked)} asked for)"
        missing = self.frame["missing"].fillna(0).max() if len(n) else 0
        if missing:
            text += f", up to {int(missing):,} more without a result"
        if lost := unconverged_text(self.unconverged, self.subset):
            text += f"; {lost} {what}"
        undetermined = int(self.frame["value"].isna().sum())
        return text + (f"; {undetermined} have no value" if undetermined else "")


def study_of(results: StoredResults) -> StudyFile:
    """The study as run."""
    return results.study


def factor_names(results: StoredResults) -> list[str]:
    """The factors of the grid, in its order."""
    return results.factors


def dimensions(results: StoredResults, *, constant: bool = False) -> dict[str, Dimension]:
    """The factors that vary over the conditions (constant: also those of one level)."""
    table = results.conditions()
    group = group_of(results)
    made = {name: replace(_dimension(name, table[name]), axis=axis_of(name, group)) for name in factor_names(results)}
    titles = [d.title for d in made.values()]
    made = {k: replace(d, title=k) if titles.count(d.title) > 1 else d for k, d in made.items()}
    return {name: d for name, d in made.items() if len(d) > 1 or constant}


def _dimension(name: str, column: pd.Series[Any]) -> Dimension:
    levels = [v.item() if isinstance(v, np.generic) else v for v in column.dropna().unique()]
    numeric = bool(levels) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)
    levels = sorted(levels) if numeric else levels
    return Dimension(name, title_of(name), tuple(levels), _labels(levels), numeric)


def group_of(results: StoredResults) -> str:
    """The grouping factor; "" where no method has one."""
    return next((e.group for e in results.estimands.values() if e.group), "")


def title_of(name: str) -> str:
    """A factor's name for people.

    >>> [title_of(f"truth.{name}") for name in ("fixed.arm", "fixed.arm.d", "random.g.variance.x")]
    ['true arm', 'd of arm', 'variance of x']
    >>> [title_of(name) for name in ("clusters.class", "icc.item", "size.class", "design.factors.class.number")]
    ['classes', 'icc of item', 'size of class', 'classes']
    """
    match name.split("."):
        case ["icc" | "size" as word, factor]:
            return f"{word} of {factor}"
        case ["clusters", _] | ["design", "factors", *_]:
            return axis_of(name).removeprefix("Number of ")
        case ["truth", "fixed", term]:
            return f"true {term}"
        case ["truth", "fixed", term, unit]:
            return f"{unit} of {term}"
        case ["truth", "random", _, kind, column]:
            return f"{kind} of {column}"
        case ["predictors", predictor, key]:
            return f"{key} of {predictor}"
        case [*_, last]:
            return last.replace("_", " ")
    return name


def _labels(levels: Sequence[Any]) -> tuple[str, ...]:
    """Short and distinct: lists are cut, with their length."""
    labels = [_label(v) for v in levels]
    if len(set(labels)) < len(labels):
        labels = [f"{t} #{labels[: i + 1].count(t)}" if labels.count(t) > 1 else t for i, t in enumerate(labels)]
    return tuple(labels)


def _label(level: Any) -> str:
    if isinstance(level, float):
        return f"{level:.6g}"
    text = str(level)
    if len(text) <= _LONG:
        return text
    try:
        items = json.loads(text)
    except ValueError:
        return text
    if not isinstance(items, list):
        return text
    head = ", ".join(json.dumps(item) for item in items[:4])
    return f"[{head[: _LONG - 6]}, ...] of {len(items)}"


def measures_of(results: StoredResults) -> pd.DataFrame:
    """The pairs of estimand and measure that have a value anywhere."""
    summary = _summary(results)
    return summary.loc[summary["value"].notna(), ["estimand", "measure"]].drop_duplicates()


def _summary(results: StoredResults) -> pd.DataFrame:
    summary = results.summary()
    if summary.empty:
        raise StudyError([f"{results.folder}: nothing is stored yet; run the study first: nestlab run STUDY"])
    return summary


def pick(name: str, value: Any, known: Iterable[Any], *, what: str = "the results have") -> Any:
    """A value that exists. Raises StudyError naming what there is."""
    words = list(dict.fromkeys(known))
    if value in words:
        return value
    listed = ", ".join(str(w) for w in words[:20] if w != "") + (
        f" and {len(words) - 20} more" if len(words) > 20 else ""
    )
    repair = nearest(value, [w for w in words if w]) if isinstance(value, str) and words else ""
    hint = f"; {repair}" if repair.startswith("did you") else ""
    raise StudyError([f"{name} = {show(value)}: {what} {listed or 'none'}{hint}"])


def select(results: StoredResults, asked: Asked, measures: Sequence[str] | None = None) -> ShownRows:
    """The rows asked for. measures: all that are shown, or the one of `asked`, or power, or the first there is.

    Raises StudyError for an estimand, measure, method, subset or condition that does not exist.
    """
    summary = _summary(results)
    if reason := results.unavailable.get(asked.measure or ""):
        raise StudyError([f"measure = {show(asked.measure)}: {not_kept(reason)}"])
    lost = unconverged(summary)
    if asked.subset is not None:
        pick("subset", asked.subset, summary["subset"])
    summary = in_subset(summary, asked.subset)
    if asked.condition is not None:
        pick("condition", asked.condition, [int(c) for c in results.conditions()["condition"]])
        summary = summary[summary["condition"] == asked.condition]
    if asked.method is not None:
        pick("method", asked.method, summary["method"])
        summary = summary[summary["method"] == asked.method]
    wanted = list(measures) if measures else [_measure(summary, asked)]
    estimand, shown = _estimand(summary, asked, wanted, results.interest)
    frame = summary[(summary["estimand"] == estimand) & summary["measure"].isin(wanted)]
    lacking = [m for m in summary["method"].unique() if m not in set(frame["method"])]
    found = _varying(results, frame, asked)
    order = {c: i for i, c in enumerate(results.conditions()["condition"])}
    frame = frame.assign(**_limits(frame)).sort_values("condition", key=lambda c: c.map(order), kind="stable")
    notes = [f"Without {wanted[0]}{f' of {estimand}' if estimand else ''}: {', '.join(lacking)}"] if lacking else []
    return ShownRows(
        frame.reset_index(drop=True), found, estimand, tuple(m for m in wanted if m in set(frame["measure"])),
        asked.subset or default_subset(estimand),
        results.asked, {label: alpha for label, alpha in results.alphas.items() if label in set(frame["method"])},
        _nulls(results, estimand, frame), tuple(notes), shown,
        tuple(lost.get(key, 0) for key in zip(frame["condition"], frame["method"], strict=True)) if estimand else (),
    )  # fmt: skip


def _nulls(results: StoredResults, estimand: str, frame: pd.DataFrame) -> Literal["none", "some", "all"]:
    """Where a test of no effect has a true null hypothesis."""
    methods = study_of(results).methods()
    contrast = next((c for m in methods for c in m.contrasts if c.name == estimand), None)
    if contrast is not None and contrast.equivalence is not None:
        return "none"
    stored = {row.number: row for row in Store(results.folder).read_conditions()}
    names = {label: m.name for m in methods for label in m.labels}
    value, null = (contrast.null if contrast is not None else 0.0), []
    for number, label in frame[["condition", "method"]].drop_duplicates().itertuples(index=False):
        row = stored[int(number)]
        true = row.truths.of(names.get(label, "")).get(estimand)
        null.append(true == value and not drawn_by(row, estimand, methods))
    return "all" if null and all(null) else "some" if any(null) else "none"


def _varying(results: StoredResults, frame: pd.DataFrame, asked: Asked) -> dict[str, Dimension]:
    named = {asked.x, asked.color, asked.facet}
    every = dimensions(results, constant=True)
    if asked.condition is not None:
        every = {k: replace(_dimension(k, frame[k]), axis=d.axis) for k, d in every.items()}
    found = {k: d for k, d in every.items() if len(d) > 1 or k in named}
    methods = tuple(frame["method"].unique())
    found["method"] = Dimension("method", "method", methods, tuple(map(str, methods)), numeric=False)
    return found


def _measure(summary: pd.DataFrame, asked: Asked) -> str:
    known = list(summary["measure"].unique())
    if asked.measure is not None:
        return str(pick("measure", asked.measure, known))
    if asked.estimand is not None:
        pick("estimand", asked.estimand, summary["estimand"])
        known = list(summary.loc[summary["estimand"] == asked.estimand, "measure"].unique())
    return next((m for m in ("power", "cover", "bias") if m in known), str(known[0]))


def _estimand(summary: pd.DataFrame, asked: Asked, measures: Sequence[str], interest: Interest) -> tuple[str, str]:
    """The one asked for; or the study's, or another one that has all the measures, and what is said of that choice."""
    rows = summary[summary["measure"].isin(measures)]
    if rows.empty:
        there = ", ".join(summary["measure"].unique())
        raise StudyError([f"measure = {show(measures[0])}: subset {asked.subset or DEFAULT_SUBSET} has {there}"])
    known = [str(e) for e in rows["estimand"].unique()]
    if asked.estimand is not None and known == [""]:
        raise StudyError(
            [f"estimand = {show(asked.estimand)}: {measures[0]} is of a method as a whole; leave estimand out"]
        )
    if asked.estimand is not None:
        pick("estimand", asked.estimand, summary["estimand"])
        return str(pick("estimand", asked.estimand, known, what=f"with {measures[0]} there are")), ""
    complete = [e for e in known if set(measures) <= set(rows.loc[rows["estimand"] == e, "measure"])]
    chosen = interest.among(complete, known)  # "" of methods as a whole
    others = interest.others(chosen, known) if chosen else []
    return chosen, f"Shown: {interest.told(chosen, others)}; others by estimand: {', '.join(others)}" if others else ""


def _limits(frame: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    half = 1.96 * frame["mcse"]
    low, high = frame["lower"].fillna(frame["value"] - half), frame["upper"].fillna(frame["value"] + half)
    return {"low": low.where(frame["value"].notna(), math.nan), "high": high.where(frame["value"].notna(), math.nan)}
