"""Replicates of one condition in, a tidy table of measures out.

Each method brings a column of estimates per estimand, with what its inference makes: standard errors and degrees of
freedom, interval ends, p values (`MethodResults`, in `results.py`); `summarise` returns a row per method x estimand x
measure x subset. Formulas and MCSEs are in `measures.py`, the tests in `decisions.py`.

A replicate has a result for an estimand if its fit did not fail and the estimate is finite; for modelse and relerror
the standard error has to be finite and >= 0 too; for intervals and tests also df > 0. A stored interval needs the
estimate and lower <= upper, a stored p value only to lie in [0, 1]: a nan is a missing interval, a missing test, never
a miss or a non-rejection. Whatever has no result stays out of the value and is seen in `n`; nothing else is left out.

Subsets: "all", every replicate with a result; "converged", those of them whose fit converged; "common", those on
which every method that has this estimand (and, for measures of inference, its standard errors, intervals or tests)
has a result. Measures of a method as a whole, estimand "", are shares of all its replicates: converged (singular ones
included), singular, failed (no estimates); what is neither converged nor failed stopped short; inference_failed
(estimates, but not all inference) where the method tells; selected, the share in which a method that chooses between two
models reports the larger one. In subset "converged" singular is the share of converged
fits.

Where each replicate has a truth of its own (`Estimates.truth`), x_i - truth_i takes the place of x_i in all measures but mean
and median, and the replicate's truth that of the condition; power is then the average over the prior, and its spread stands
beside it (`assurance.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from .assurance import SPREAD, Drawn, power_spread
from .decisions import decide
from .intervals import critical_values, wilson
from .measures import (
    Mcse,
    Measured,
    end_measures,
    error_measures,
    estimate_measures,
    interval_measures,
    proportion,
    rejection_measures,
    relative_precision,
)
from .results import Estimates, MethodResults
from .subsets import SUBSETS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BOUNDED", "COLUMNS", "MEASURES", "SUBSETS", "Estimates", "MethodResults", "Row", "Run", "Target", "aligned", "as_table",
    "at", "summarise", "targets_of",
]  # fmt: skip

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)

MEASURES = (
    *("mean", "median", "bias", "relbias", "empse", "mse", "rmse", "modelse", "relerror"),
    *("cover", "becover", "below", "above", "width", "power", *SPREAD, "type_s", "type_m", "relprec"),
    *("converged", "singular", "failed", "inference_failed", "selected"),
)
#: Measures that tell how many replicates have no result.
BOUNDED = ("cover", "power")
COLUMNS = (
    *("method", "estimand", "measure", "subset", "value", "mcse", "n"),
    *("lower", "upper", "missing", "bound_lower", "bound_upper"),
)


def summarise(
    methods: Sequence[MethodResults], truth: Mapping[str, float], *, mcse: Mcse = "distribution-free"
) -> pd.DataFrame:
    """All measures of one condition, the first method being the reference of relprec.

    truth: true value by estimand, of methods that have none of their own (`MethodResults.truth`); nan or none where undefined
    (bias, mse, cover and the like are then absent). relprec is absent where an estimand means something else to a method. Rows
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
    runs = aligned(methods)
    with np.errstate(all="ignore"):
        rows = [row for run in runs for row in _whole(run)]
        for estimand in dict.fromkeys(name for method in methods for name in method.estimands):
            rows.extend(_of_estimand(estimand, runs, truth, mcse))
    return rows


class Run(NamedTuple):
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


def aligned(methods: Sequence[MethodResults]) -> list[Run]:
    """All methods on one sorted set of replicates, or as they are if that is the same already."""
    first = methods[0].replicate
    if all(np.array_equal(method.replicate, first) for method in methods[1:]):
        return [Run(method, np.ones(first.size, dtype=bool)) for method in methods]
    union = np.unique(np.concatenate([method.replicate for method in methods]))
    return [_on(union, method) for method in methods]


def _on(union: NDArray[np.integer[Any]], method: MethodResults) -> Run:
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

    columns = ("estimate", "se", "df", "lower", "upper", "p", "truth")
    estimands = {
        name: replace(part, **{column: numbers(getattr(part, column)) for column in columns})
        for name, part in method.estimands.items()
    }
    unsure = method.inference_failed
    whole = replace(
        method,
        replicate=union,
        converged=flags(method.converged),
        singular=flags(method.singular),
        failed=flags(method.failed),
        estimands=estimands,
        inference_failed=None if unsure is None else flags(unsure),
        drawn=None if method.drawn is None else Drawn([numbers(values) for values in method.drawn.values]),
        selected=None if method.selected is None else numbers(method.selected),
    )
    return Run(whole, flags(np.ones(places.size, dtype=bool)))


def _whole(run: Run) -> Iterator[Row]:
    method = run.method
    for measure in ("converged", "singular", "failed", "inference_failed"):
        hits = getattr(method, measure)
        if hits is not None:
            yield Row(method.name, "", "all", proportion(measure, hits[run.ran]), None)
    if method.selected is not None:
        chosen = method.selected[run.ran & np.isfinite(method.selected)]
        yield Row(method.name, "", "all", proportion("selected", chosen > 0), None)
    yield Row(method.name, "", "converged", proportion("singular", method.singular[method.converged]), None)


@dataclass(frozen=True, slots=True)
class Target:
    """One method's columns for one estimand, None for what it has not.

    error: the estimates less each replicate's own truth, where it has one. half: half-widths of the intervals, unless `ends`
    holds both their ends, less the same. rejects: decisions of the tests. has: per kind of measure ("estimate", "error",
    "interval", "test"), where it has a result; "pair" where the reference of relprec, with errors `reference`, has one too.
    """

    run: Run
    part: Estimates
    x: Array | None
    error: Array | None
    se: Array | None
    half: Array | None
    ends: tuple[Array, Array] | None
    rejects: Mask | None
    reference: Array | None
    has: Mapping[str, Mask]

    @staticmethod
    def of(run: Run, part: Estimates) -> Target:
        x, se, lower, upper, truth = map(_floats, (part.estimate, part.se, part.lower, part.upper, part.truth))
        error = x if x is None or truth is None else x - truth
        alpha, fitted = run.method.alpha, ~run.method.failed
        has, half, ends = {}, None, None
        if x is not None:
            has["estimate"] = np.isfinite(x if error is None else error) & fitted
        if se is not None:
            has["error"] = has["estimate"] & np.isfinite(se) & (se >= 0)
        if lower is not None and upper is not None:
            ends = (lower, upper) if truth is None else (lower - truth, upper - truth)
            has["interval"] = has["estimate"] & (lower <= upper)
        elif se is not None and part.df is not None:
            half = critical_values(part.df, alpha) * se
            has["interval"] = has["error"] & np.isfinite(half)
        decided = decide(part, half, alpha)
        if decided is not None:
            has["test"] = decided.known & (fitted if part.p is not None else has["error"])
        return Target(run, part, x, error, se, half, ends, None if decided is None else decided.rejects, None, has)

    def against(self, other: Target) -> Target:
        if self.x is None or other.x is None:
            return self
        pair = self.has["estimate"] & other.has["estimate"]
        return replace(self, reference=other.error, has={**self.has, "pair": pair})


def _of_estimand(estimand: str, runs: Sequence[Run], truth: Mapping[str, float], mcse: Mcse) -> Iterator[Row]:
    for target, subsets in targets_of(estimand, runs):
        value = target.run.method.true_value(estimand, truth)
        for subset, measures, population in _of_subsets(target, subsets, value, mcse):
            for measured in measures:
                missing = 0 if population is None else population - measured.n
                bounded = measured.measure in BOUNDED
                yield Row(target.run.method.name, estimand, subset, measured, missing if bounded else None)


def targets_of(
    estimand: str, runs: Sequence[Run]
) -> Iterator[tuple[Target, Sequence[tuple[str, Mapping[str, Mask], Mask | None]]]]:
    """Every method's columns for an estimand, with its subsets: name, where each kind of measure has a result, and the replicates
    of which those without one are missing."""
    targets = [Target.of(run, run.method.estimands[estimand]) for run in runs if estimand in run.method.estimands]
    first = targets[0]
    if len(targets) > 1 and first.run is runs[0]:
        base = first.run.method
        targets = [t.against(first) if t.run.method.shares(estimand, base) else t for t in targets]
    common = {
        kind: np.logical_and.reduce([target.has[kind] for target in targets if kind in target.has])
        for kind in ("estimate", "error", "interval", "test", "pair")
        if any(kind in target.has for target in targets)
    }
    for target in targets:
        method = target.run.method
        converged = dict.fromkeys(target.has, method.converged)
        converged["pair"] = method.converged & first.run.method.converged
        yield (
            target,
            (
                ("all", target.has, target.run.ran),
                ("converged", {kind: mask & converged[kind] for kind, mask in target.has.items()}, method.converged),
                ("common", {kind: common[kind] for kind in target.has}, None),
            ),
        )


def _of_subsets(
    target: Target, subsets: Iterable[tuple[str, Mapping[str, Mask], Mask | None]], truth: float, mcse: Mcse
) -> Iterator[tuple[str, list[Measured], int | None]]:
    """Each subset, its measures, its number of replicates; None where those are the ones with a result, "common".

    A subset is a part of "all", so one that is as large is "all": it is not computed again.
    """
    everything: tuple[list[int], list[Measured]] = ([], [])
    for subset, masks, population in subsets:
        sizes = [int(np.count_nonzero(mask)) for mask in masks.values()]
        measures = everything[1] if sizes == everything[0] else _measures(target, masks, truth, mcse)
        if subset == "all":
            everything = (sizes, measures)
        yield subset, measures, None if population is None else int(np.count_nonzero(population))


def _measures(target: Target, masks: Mapping[str, Mask], truth: float, mcse: Mcse) -> list[Measured]:
    part, x, error = target.part, target.x, target.error
    own, drawn = _floats(part.truth), target.run.method.drawn
    measures = []
    if x is not None and error is not None:
        mask = masks["estimate"]
        measures += estimate_measures(at(mask, x), truth if own is None else at(mask, own), mcse=mcse)
        measures += _inference(target, error, masks, truth if own is None else 0.0, mcse)
    if target.rejects is not None:
        mask = masks["test"]
        tested = None if x is None or part.equivalence is not None else at(mask, x)
        rejects = at(mask, target.rejects)
        measures += rejection_measures(rejects, tested, truth if own is None else at(mask, own), part.null)
        if drawn is not None:
            measures += power_spread(rejects, drawn.basis(mask))
    return sorted(measures, key=lambda measured: MEASURES.index(measured.measure))


def _inference(target: Target, x: Array, masks: Mapping[str, Mask], truth: float, mcse: Mcse) -> Iterator[Measured]:
    """The measures of standard errors and intervals, and relprec; x: estimates, or errors about a truth of 0."""
    if target.se is not None:
        mask = masks["error"]
        yield from error_measures(at(mask, x), at(mask, target.se), mcse=mcse)
    if target.ends is not None:
        mask = masks["interval"]
        yield from end_measures(at(mask, x), at(mask, target.ends[0]), at(mask, target.ends[1]), truth)
    if target.half is not None:
        mask = masks["interval"]
        yield from interval_measures(at(mask, x), at(mask, target.half), truth)
    if target.reference is not None:
        mask = masks["pair"]
        yield relative_precision(at(mask, x), at(mask, target.reference), mcse=mcse)


def _floats(values: Array | None) -> Array | None:
    return None if values is None else np.asarray(values, dtype=np.float64)


def at(mask: Mask, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The values of these replicates."""
    return values if mask.all() else values[mask]


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """A data frame of rows, with the limits and bounds of proportions."""
    import pandas as pd  # takes longer to import than the rest of a command that makes no table

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
