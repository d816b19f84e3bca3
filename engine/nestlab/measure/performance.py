"""Replicates of one condition in, a tidy table of measures out.

Each method brings a column of estimates per estimand, with standard errors and degrees of freedom where its inference
makes them (`MethodResults`); `summarise` returns a row per method x estimand x measure x subset. Formulas and MCSEs
are in `measures.py`.

A replicate has a result for an estimand if its fit did not fail and the estimate is finite; for modelse and relerror
the standard error has to be finite and >= 0 too; for intervals and tests also df > 0. Whatever has no result stays
out of the value and is seen in `n`; nothing else is left out.

Subsets: "all", every replicate with a result; "converged", those of them whose fit converged; "common", those on
which every method that has this estimand (and, for measures of inference, its standard errors or tests) has a result.
Measures of a method as a whole, estimand "", are shares of all its replicates: converged (singular ones included),
singular, failed (no estimates); what is neither converged nor failed stopped short. In subset "converged" singular is
the share of converged fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .intervals import critical_values, wilson
from .measures import (
    Mcse,
    Measured,
    error_measures,
    estimate_measures,
    interval_measures,
    proportion,
    relative_precision,
)

__all__ = ["COLUMNS", "MEASURES", "SUBSETS", "Estimates", "MethodResults", "summarise"]

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

SUBSETS = ("all", "converged", "common")
MEASURES = (
    *("mean", "median", "bias", "relbias", "empse", "mse", "rmse", "modelse", "relerror"),
    *("cover", "becover", "below", "above", "width", "power", "relprec"),
    *("converged", "singular", "failed"),
)
COLUMNS = (
    *("method", "estimand", "measure", "subset", "value", "mcse", "n"),
    *("lower", "upper", "missing", "bound_lower", "bound_upper"),
)


@dataclass(frozen=True, slots=True)
class Estimates:
    """What one method says of one estimand in R replicates.

    estimate: (R,), nan where there is none. se: (R,), >= 0, nan where there is none; None if the method makes none
    for this estimand. df: (R,) or one number, inf for z, nan where inference failed; None if there is no test or
    interval for this estimand (measures of inference are then absent, rather than missing R times). null: the value
    under test.
    """

    estimate: Array
    se: Array | None = None
    df: Array | float | None = None
    null: float = 0.0


@dataclass(frozen=True, slots=True)
class MethodResults:
    """One method's replicates of one condition.

    replicate: (R,) distinct numbers, by which methods are paired. converged: (R,) status ok or singular; singular:
    (R,) a part of converged; failed: (R,) the fit gave no estimates, disjoint from converged. alpha in (0, 1): the
    level of tests, and 1 - that of intervals. ValueError where these do not hold.
    """

    name: str
    replicate: NDArray[np.integer[Any]]
    converged: Mask
    singular: Mask
    failed: Mask
    estimands: Mapping[str, Estimates]
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"method {self.name!r}: alpha is {self.alpha!r}; allowed is a number between 0 and 1, as 0.05"
            )
        object.__setattr__(self, "replicate", np.asarray(self.replicate))
        for flag in ("converged", "singular", "failed"):
            object.__setattr__(self, flag, np.asarray(getattr(self, flag), dtype=bool))
            _require_shape(self, flag, getattr(self, flag))
        for estimand, part in self.estimands.items():
            _require_shape(self, f"estimate.{estimand}", part.estimate)
            if part.se is not None:
                _require_shape(self, f"se.{estimand}", part.se)
            elif part.df is not None:
                raise ValueError(
                    f"method {self.name!r}: df.{estimand} comes without se.{estimand}; give it, or leave df out"
                )
            if part.df is not None and np.ndim(part.df) > 0:
                _require_shape(self, f"df.{estimand}", part.df)
        rising = bool((self.replicate[1:] > self.replicate[:-1]).all())
        if not rising and np.unique(self.replicate).size < self.replicate.size:
            raise ValueError(
                f"method {self.name!r}: replicate repeats a number; give each replicate of a condition once"
            )
        _refuse(self, "singular", self.singular & ~self.converged, "a singular fit counts as converged")
        _refuse(self, "failed", self.failed & self.converged, "a failed fit is not converged")


def summarise(
    methods: Sequence[MethodResults], truth: Mapping[str, float], *, mcse: Mcse = "distribution-free"
) -> pd.DataFrame:
    """All measures of one condition, the first method being the reference of relprec.

    truth: true value by estimand; nan or none where undefined (bias, mse, cover and the like are then absent). Rows
    go by estimand, method, subset, measure. Columns: `method`, `estimand` ("" for the method as a whole), `measure`,
    `subset`, `value`, `mcse`, `n` (replicates used); of proportions `lower` and `upper`, Wilson's 95 % limits; of
    cover and power `missing`, the replicates of the subset without a result, and `bound_lower`, `bound_upper`, the
    value when those count as 0 and as 1. A measure that cannot exist has no row; one that the replicates do not
    determine is nan beside its n. ValueError for an unknown `mcse`, no methods, or two of one name.

    >>> x = np.array([0.9, 1.4, 1.1, 0.8])
    >>> none = np.zeros(4, dtype=bool)
    >>> z = MethodResults("z", np.arange(4), ~none, none, none, {"x": Estimates(x, se=np.full(4, 0.5), df=np.inf)})
    >>> table = summarise([z], {"x": 1.0}).set_index(["estimand", "measure", "subset"])
    >>> table.loc[("x", "power", "all"), ["value", "mcse", "lower", "upper"]].round(3).tolist()
    [0.5, 0.25, 0.15, 0.85]
    """
    return as_table(measure(methods, truth, mcse=mcse))


def measure(methods: Sequence[MethodResults], truth: Mapping[str, float], *, mcse: Mcse) -> list[Row]:
    """The rows of `summarise`, for `as_table`: tables of many conditions are made faster in one piece."""
    if mcse not in get_args(Mcse):
        raise ValueError(
            f"mcse is {mcse!r}; allowed are {' and '.join(map(repr, get_args(Mcse)))}; leave it out for the first"
        )
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods are named {names}; allowed is one or more with distinct names: rename or drop one")
    runs = _aligned(methods)
    with np.errstate(all="ignore"):
        rows = [row for run in runs for row in _whole(run)]
        for estimand in dict.fromkeys(name for method in methods for name in method.estimands):
            rows.extend(_of_estimand(estimand, runs, truth.get(estimand, math.nan), mcse))
    return rows


class _Run(NamedTuple):
    """A method on the replicates of all methods; `ran` marks its own."""

    method: MethodResults
    ran: Mask


class Row(NamedTuple):
    """One measure of one method, before it stands in a table."""

    method: str
    estimand: str
    subset: str
    measured: Measured
    missing: int | None


def _aligned(methods: Sequence[MethodResults]) -> list[_Run]:
    """All methods on one sorted set of replicates, or as they are if that is the same already."""
    first = methods[0].replicate
    if all(np.array_equal(method.replicate, first) for method in methods[1:]):
        return [_Run(method, np.ones(first.size, dtype=bool)) for method in methods]
    union = np.unique(np.concatenate([method.replicate for method in methods]))
    return [_on(union, method) for method in methods]


def _on(union: NDArray[np.integer[Any]], method: MethodResults) -> _Run:
    places = np.searchsorted(union, method.replicate)

    def flags(values: Mask) -> Mask:
        out = np.zeros(union.size, dtype=bool)
        out[places] = values
        return out

    def numbers(values: Any) -> Any:
        if np.ndim(values) == 0:
            return values
        out = np.full(union.size, np.nan)
        out[places] = values
        return out

    estimands = {
        name: replace(part, estimate=numbers(part.estimate), se=numbers(part.se), df=numbers(part.df))
        for name, part in method.estimands.items()
    }
    whole = replace(
        method,
        replicate=union,
        converged=flags(method.converged),
        singular=flags(method.singular),
        failed=flags(method.failed),
        estimands=estimands,
    )
    return _Run(whole, flags(np.ones(places.size, dtype=bool)))


def _whole(run: _Run) -> Iterator[Row]:
    method = run.method
    for measure, hits in (("converged", method.converged), ("singular", method.singular), ("failed", method.failed)):
        yield Row(method.name, "", "all", proportion(measure, hits[run.ran]), None)
    yield Row(method.name, "", "converged", proportion("singular", method.singular[method.converged]), None)


@dataclass(frozen=True, slots=True)
class _Target:
    """One method's columns for one estimand.

    has: per kind of measure, where it has a result; "pair" where the reference of relprec, with estimates
    `reference`, has one too.
    """

    run: _Run
    x: Array
    se: Array | None
    half: Array | None
    null: float
    reference: Array | None
    has: Mapping[str, Mask]

    @staticmethod
    def of(run: _Run, part: Estimates) -> _Target:
        x = np.asarray(part.estimate, dtype=np.float64)
        has = {"estimate": np.isfinite(x) & ~run.method.failed}
        se = half = None
        if part.se is not None:
            se = np.asarray(part.se, dtype=np.float64)
            has["error"] = has["estimate"] & np.isfinite(se) & (se >= 0)
            if part.df is not None:
                half = critical_values(part.df, run.method.alpha) * se
                has["interval"] = has["error"] & np.isfinite(half)
        return _Target(run, x, se, half, part.null, None, has)

    def against(self, other: _Target) -> _Target:
        pair = self.has["estimate"] & other.has["estimate"]
        return replace(self, reference=other.x, has={**self.has, "pair": pair})


def _of_estimand(estimand: str, runs: Sequence[_Run], truth: float, mcse: Mcse) -> Iterator[Row]:
    targets = [_Target.of(run, run.method.estimands[estimand]) for run in runs if estimand in run.method.estimands]
    first = targets[0]
    if len(targets) > 1 and first.run is runs[0]:
        targets = [target.against(first) for target in targets]
    common = {
        kind: np.logical_and.reduce([target.has[kind] for target in targets if kind in target.has])
        for kind in ("estimate", "error", "interval", "pair")
        if any(kind in target.has for target in targets)
    }
    for target in targets:
        method = target.run.method
        converged = dict.fromkeys(target.has, method.converged)
        converged["pair"] = method.converged & first.run.method.converged
        subsets = (
            ("all", target.has, target.run.ran),
            ("converged", {kind: mask & converged[kind] for kind, mask in target.has.items()}, method.converged),
            ("common", {kind: common[kind] for kind in target.has}, common.get("interval", method.converged)),
        )
        for subset, measures, population in _of_subsets(target, subsets, truth, mcse):
            for measured in measures:
                missing = population - measured.n if measured.measure in ("cover", "power") else None
                yield Row(method.name, estimand, subset, measured, missing)


def _of_subsets(
    target: _Target, subsets: Iterable[tuple[str, Mapping[str, Mask], Mask]], truth: float, mcse: Mcse
) -> Iterator[tuple[str, list[Measured], int]]:
    """Each subset, its measures, its number of replicates.

    A subset is a part of "all", so one that is as large is "all": it is not computed again.
    """
    everything: tuple[list[int], list[Measured]] = ([], [])
    for subset, masks, population in subsets:
        sizes = [int(np.count_nonzero(mask)) for mask in masks.values()]
        measures = everything[1] if sizes == everything[0] else _measures(target, masks, truth, mcse)
        if subset == "all":
            everything = (sizes, measures)
        yield subset, measures, int(np.count_nonzero(population))


def _measures(target: _Target, masks: Mapping[str, Mask], truth: float, mcse: Mcse) -> list[Measured]:
    measures = estimate_measures(_at(masks["estimate"], target.x), truth, mcse=mcse)
    if target.se is not None:
        mask = masks["error"]
        measures += error_measures(_at(mask, target.x), _at(mask, target.se), mcse=mcse)
    if target.half is not None:
        mask = masks["interval"]
        measures += interval_measures(_at(mask, target.x), _at(mask, target.half), truth, target.null)
    if target.reference is not None:
        mask = masks["pair"]
        measures.append(relative_precision(_at(mask, target.x), _at(mask, target.reference), mcse=mcse))
    return sorted(measures, key=lambda measured: MEASURES.index(measured.measure))


def _at(mask: Mask, values: Array) -> Array:
    return values if mask.all() else values[mask]


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """A data frame of rows, with the limits and bounds of proportions."""
    measured = [row.measured for row in rows]
    value, mcse, successes = (
        np.array([getattr(m, column) for m in measured], dtype=np.float64) for column in ("value", "mcse", "successes")
    )
    n = np.array([m.n for m in measured], dtype=np.int64)
    missing = pd.array([row.missing for row in rows], dtype="Int64")
    unseen = missing.to_numpy(dtype=np.float64, na_value=math.nan)
    lower, upper = wilson(np.nan_to_num(successes), n)
    counted = np.isfinite(successes)
    population = np.where(n + unseen > 0, n + unseen, math.nan)
    columns = {
        "method": [row.method for row in rows],
        "estimand": [row.estimand for row in rows],
        "measure": [m.measure for m in measured],
        "subset": [row.subset for row in rows],
        "value": np.where(np.isfinite(value), value, math.nan),
        "mcse": np.where(np.isfinite(mcse), mcse, math.nan),
        "n": n,
        "lower": np.where(counted, lower, math.nan),
        "upper": np.where(counted, upper, math.nan),
        "missing": missing,
        "bound_lower": successes / population,
        "bound_upper": (successes + unseen) / population,
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _require_shape(method: MethodResults, column: str, values: Any) -> None:
    if np.shape(values) != method.replicate.shape:
        found, wanted = np.shape(values), method.replicate.shape
        raise ValueError(
            f"method {method.name!r}: {column} has shape {found}; allowed is one value per replicate, {wanted}"
        )


def _refuse(method: MethodResults, name: str, wrong: Mask, rule: str) -> None:
    if wrong.any():
        number = method.replicate[int(np.argmax(wrong))]
        raise ValueError(
            f"method {method.name!r}: {name} is True in replicate {number}, where converged says otherwise: {rule}"
        )
