"""Single replicates of one condition: estimates, standard errors and interval ends, as the measures take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...fit.status import InferenceStatus, Status
from ...measure.intervals import critical_values
from ...run.summarise import method_results
from ...spec.estimand import Column
from ...spec.problems import StudyError, show
from .choose import Asked, ShownRows, dimensions, select, study_of
from .words import references

if TYPE_CHECKING:
    from ...run.results import StoredResults

__all__ = ["Chosen", "Sample", "choose", "samples"]


@dataclass(frozen=True)
class Sample:
    """Replicates of one method that have an estimate and a standard error or an interval; arrays of one length.

    lower, upper, se: nan where there is none. total: replicates stored, with or without a result. truth: the true value, of the
    method; 0 where every replicate's own was taken off.
    """

    method: str
    estimate: NDArray[np.float64]
    se: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    singular: NDArray[np.bool_]
    total: int
    truth: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """One condition, the true value that methods share, and its rows of the summary. why: how it was chosen, if not by the
    caller.

    own: every replicate drew its own truth from a prior, which is taken off its sample; then truth is 0.
    """

    number: int
    label: str
    truth: float
    rows: ShownRows
    why: str
    own: bool = False

    @property
    def error(self) -> str:
        """The estimand, as an error where truths are drawn."""
        return f"{self.rows.estimand} - its truth" if self.own else self.rows.estimand

    @property
    def line(self) -> str:
        """What a line at the true value stands for."""
        if self.own:
            return "the true values, which replicates draw from a prior"
        return f"the true value, {self.truth:g}" if np.isfinite(self.truth) else "the method's own true value"


def choose(results: StoredResults, asked: Asked, *, measure: str) -> Chosen:
    """The condition asked for, or the one whose measure lies farthest from its reference for the first method.

    Raises StudyError for x, color or facet, which have no meaning here.
    """
    for role in ("x", "color", "facet"):
        if (value := getattr(asked, role)) is not None:
            raise StudyError([f"{role} = {show(value)}: the plot is of one condition; leave {role} out, use condition"])
    if asked.measure is not None:
        raise StudyError([f"measure = {show(asked.measure)}: the plot shows replicates; leave measure out"])
    rows = select(results, asked, [measure])
    number, why = asked.condition, ""
    if number is None:
        first = rows.frame[rows.frame["method"] == rows.dimensions["method"].levels[0]]
        mark = (references(rows) or [0.0])[0]
        distance = (first["value"] - mark).abs()
        number = int(first.loc[distance.fillna(-1.0).idxmax(), "condition"])
        if first["condition"].nunique() > 1:
            what = "coverage" if measure == "cover" else "relative error of the model SE"
            why = f"Of {first['condition'].nunique():,} conditions the one whose {what} is farthest from {mark:g}"
    conditions: Any = results.conditions().set_index("condition")
    label = ", ".join(d.named(_plain(conditions.loc[number, name])) for name, d in dimensions(results).items())
    truth = conditions.loc[number].get(Column("true", rows.estimand).name, np.nan)
    drawn = results.replicates(number).get(Column("true", rows.estimand).name)
    own = drawn is not None and drawn.nunique() > 1
    frame = rows.frame[rows.frame["condition"] == number]
    chosen = replace(rows, frame=frame.reset_index(drop=True))
    return Chosen(number, label, 0.0 if own else float(truth), chosen, why, own)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def samples(results: StoredResults, chosen: Chosen) -> list[Sample]:
    """The replicates of every method of the chosen rows, in their order, in the subset of the rows."""
    wanted = list(chosen.rows.frame["method"])
    name = chosen.rows.estimand
    whole = results.true_values(chosen.number)
    truths = replace(whole, shared={name: whole.shared.get(name, np.nan)})
    made: dict[str, tuple[Sample, NDArray[np.bool_]]] = {}
    for method in study_of(results).methods():
        if not set(method.labels) & set(wanted):
            continue
        columns = _columns(results.replicates(chosen.number, method.name))
        for found in method_results(columns, method, {name: results.estimands[name]}, truths):
            part = found.estimands.get(name)
            if part is None or part.estimate is None:
                continue
            sample, mask = _sample(found, part, converged=chosen.rows.subset == "converged")
            truth = truths.of(method.name)[name]
            sample = replace(sample, truth=0.0 if chosen.own else truth)
            drawn = columns.get(Column("true", name).name, np.array([np.nan]))  # of a method for which it does not vary
            drawn = drawn if np.isfinite(drawn).any() else np.full(len(columns["replicate"]), truth)
            made[found.name] = (_errors(sample, drawn) if chosen.own else sample), mask
    kept = [made[m] for m in wanted if m in made]
    if chosen.rows.subset == "common" and kept:
        common = reduce(np.logical_and, [mask for _, mask in kept])
        return [_cut(sample, common) for sample, _ in kept]
    return [_cut(sample, mask) for sample, mask in kept]


def _columns(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """A frame of replicates as `method_results` takes it: statuses as codes."""
    columns = {str(c): frame[c].to_numpy() for c in frame.columns}
    kinds: dict[str, Any] = {"status": Status, **dict.fromkeys(Column.of(columns, "inference"), InferenceStatus)}
    for name, kind in kinds.items():
        codes = {status.name: int(status) for status in kind}
        columns[name] = frame[name].astype(object).map(lambda v, codes=codes: codes.get(v, 0)).to_numpy(np.int8)
    return columns


def _sample(found: Any, part: Any, *, converged: bool) -> tuple[Sample, NDArray[np.bool_]]:
    x = np.asarray(part.estimate, dtype=float)
    absent = np.full(len(x), np.nan)
    se = absent if part.se is None else np.asarray(part.se, dtype=float)
    if part.lower is not None:
        lower, upper = np.asarray(part.lower, dtype=float), np.asarray(part.upper, dtype=float)
    elif part.df is not None:
        half = critical_values(part.df, found.alpha) * se
        lower, upper = x - half, x + half
    else:
        lower = upper = absent
    has = np.isfinite(x) & ~found.failed & ((lower <= upper) if np.isfinite(lower).any() else np.isfinite(se))
    if converged:
        has &= found.converged
    return Sample(found.name, x, se, lower, upper, np.asarray(found.singular, dtype=bool), len(x)), has


def _errors(sample: Sample, truths: NDArray[np.float64]) -> Sample:
    """The sample with each replicate's own truth taken off."""
    return replace(sample, estimate=sample.estimate - truths, lower=sample.lower - truths, upper=sample.upper - truths)


def _cut(sample: Sample, mask: NDArray[np.bool_]) -> Sample:
    return replace(
        sample, estimate=sample.estimate[mask], se=sample.se[mask], lower=sample.lower[mask], upper=sample.upper[mask],
        singular=sample.singular[mask],
    )  # fmt: skip
