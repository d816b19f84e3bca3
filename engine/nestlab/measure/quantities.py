"""What replicates of one condition give to measure: the columns of each method for each estimand, and the quantities of them.

A replicate has a result for an estimand if its fit did not fail and the estimate is finite; for modelse and relerror
the standard error has to be finite and >= 0 too; for intervals and tests also df > 0. A stored interval needs the
estimate and lower <= upper, a stored p value only to lie in [0, 1]: a nan is a missing interval, a missing test, never
a miss or a non-rejection. Whatever has no result stays out of the value and is seen in `n`; nothing else is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..spec.measures import WHOLE, Array, Mask
from .assurance import Drawn
from .decisions import decide
from .intervals import critical_values
from .results import Estimates, MethodResults

__all__ = [
    "AlignedMethod", "EstimandColumns", "Masks", "Quantity", "aligned", "at", "columns_of", "of_estimates", "of_intervals",
    "of_method", "of_rejections", "quantities",
]  # fmt: skip

#: By what measures need of a replicate: where there is one.
Masks: TypeAlias = Mapping[str, Mask]


class Quantity(NamedTuple):
    """A quantity of `spec.measures.QUANTITIES`: columns x and y, or hits x, `within` some replicates. All (R,).

    truth: the one truth; None where y holds each replicate's own. more: half-widths of intervals about x, or lower and upper
    ends. serves: whose measures it is for, if not for its own alone.
    """

    name: str
    x: NDArray[Any]
    y: Array | None = None
    within: Mask | None = None
    truth: float | None = math.nan
    more: Sequence[Array] = ()
    serves: tuple[str, ...] = ()


class AlignedMethod(NamedTuple):
    """A method on the replicates of all methods; `ran` marks its own."""

    method: MethodResults
    ran: Mask


def aligned(methods: Sequence[MethodResults]) -> list[AlignedMethod]:
    """All methods on one sorted set of replicates, or as they are if that is the same already."""
    first = methods[0].replicate
    if all(np.array_equal(method.replicate, first) for method in methods[1:]):
        return [AlignedMethod(method, np.ones(first.size, dtype=bool)) for method in methods]
    union = np.unique(np.concatenate([method.replicate for method in methods]))
    return [_on(union, method) for method in methods]


def _on(union: NDArray[np.integer[Any]], method: MethodResults) -> AlignedMethod:
    places = np.searchsorted(union, method.replicate)

    def spread(values: Any) -> Any:
        """False or nan where the method has no replicate."""
        if np.ndim(values) == 0:  # None too
            return values
        values = np.asarray(values)
        out = np.zeros(union.size, dtype=bool) if values.dtype == bool else np.full(union.size, np.nan)
        out[places] = values
        return out

    columns = ("estimate", "se", "df", "lower", "upper", "p", "truth")
    estimands = {
        name: replace(part, **{column: spread(getattr(part, column)) for column in columns})
        for name, part in method.estimands.items()
    }
    drawn = None if method.drawn is None else Drawn([spread(values) for values in method.drawn.values])
    whole = {name: spread(getattr(method, name)) for name in WHOLE}
    moved = replace(method, replicate=union, estimands=estimands, drawn=drawn, **whole)
    return AlignedMethod(moved, spread(np.ones(places.size, dtype=bool)))


def of_method(method: MethodResults) -> Iterator[tuple[str, str, Mask, Mask]]:
    """(measure, subset, replicates that tell, hits) of a method as a whole."""
    for measure in WHOLE:
        values = getattr(method, measure)
        if values is not None:
            yield measure, "all", np.isfinite(values), values > 0
    yield "singular", "converged", method.converged, method.singular


@dataclass(frozen=True, slots=True)
class EstimandColumns:
    """One method's columns for one estimand, None for what it has not.

    error: the estimates less each replicate's own truth `own`, where it has one. intervals: half-widths, or both ends, less the
    own truth. rejects: decisions of the tests. has: where there is a result, by what measures need; "pair" where the reference
    of relprec, with errors `reference`, has one too.
    """

    run: AlignedMethod
    part: Estimates
    x: Array | None
    own: Array | None
    error: Array | None
    se: Array | None
    intervals: Array | tuple[Array, Array] | None
    rejects: Mask | None
    has: Masks
    reference: Array | None = None

    @staticmethod
    def of(run: AlignedMethod, part: Estimates) -> EstimandColumns:
        x, se, lower, upper, truth = (
            None if values is None else np.asarray(values, dtype=np.float64)
            for values in (part.estimate, part.se, part.lower, part.upper, part.truth)
        )
        error = x if x is None or truth is None else x - truth
        alpha, fitted = run.method.alpha, ~run.method.failed
        intervals: Array | tuple[Array, Array] | None = None
        has, half = {}, None
        if error is not None:
            has["estimate"] = np.isfinite(error) & fitted
        if se is not None:
            has["error"] = has["estimate"] & np.isfinite(se) & (se >= 0)
        if lower is not None and upper is not None:
            intervals = (lower, upper) if truth is None else (lower - truth, upper - truth)
            has["interval"] = has["estimate"] & (lower <= upper)
        elif se is not None and part.df is not None:
            intervals = half = critical_values(part.df, alpha) * se
            has["interval"] = has["error"] & np.isfinite(half)
        decided = decide(part, half, alpha)
        if decided is not None:
            has["test"] = decided.known & (fitted if part.p is not None else has["error"])
        rejects = None if decided is None else decided.rejects
        return EstimandColumns(run, part, x, truth, error, se, intervals, rejects, has)

    def against(self, other: EstimandColumns) -> EstimandColumns:
        """With the reference of relprec."""
        if self.x is None or other.x is None:
            return self
        pair = self.has["estimate"] & other.has["estimate"]
        return replace(self, reference=other.error, has={**self.has, "pair": pair})


def columns_of(
    estimand: str, runs: Sequence[AlignedMethod]
) -> Iterator[tuple[EstimandColumns, Sequence[tuple[str, Masks, Mask | None]]]]:
    """Every method's columns for an estimand, with its subsets: name, where each kind of measure has a result, and the replicates
    of which those without one are missing."""
    found = [
        EstimandColumns.of(run, run.method.estimands[estimand]) for run in runs if estimand in run.method.estimands
    ]
    first = found[0]
    if len(found) > 1 and first.run is runs[0]:
        base = first.run.method
        found = [t.against(first) if t.run.method.shares(estimand, base) else t for t in found]
    needed = dict.fromkeys(kind for each in found for kind in each.has)
    common = {kind: np.logical_and.reduce([t.has[kind] for t in found if kind in t.has]) for kind in needed}
    for each in found:
        method = each.run.method
        converged = dict.fromkeys(each.has, method.converged)
        converged["pair"] = method.converged & first.run.method.converged
        yield (
            each,
            (
                ("all", each.has, each.run.ran),
                ("converged", {kind: mask & converged[kind] for kind, mask in each.has.items()}, method.converged),
                ("common", {kind: common[kind] for kind in each.has}, None),
            ),
        )


def quantities(columns: EstimandColumns, truth: float) -> Iterator[Quantity]:
    """All that is measured of one method and estimand. truth: the one truth, for replicates that have none of their own."""
    part, x, error = columns.part, columns.x, columns.error
    true = truth if columns.own is None else columns.own
    if x is not None and error is not None:
        yield from of_estimates(x, true)
        if columns.se is not None:
            yield Quantity("se", error, columns.se * columns.se)
        if columns.intervals is not None:
            yield from of_intervals(error, columns.intervals, truth if columns.own is None else 0.0)
        if columns.reference is not None:
            yield Quantity("pair", error, columns.reference - error)
    if columns.rejects is not None:
        yield from of_rejections(columns.rejects, None if part.equivalence is not None else x, true, part.null)


def of_estimates(x: Array, truth: float | Array) -> Iterator[Quantity]:
    """Estimates and errors, about one truth or that of each replicate."""
    error = x - truth
    if isinstance(truth, np.ndarray):
        yield Quantity("estimate", x)
        yield Quantity("error", error, truth, truth=None)
        yield Quantity("square", error * error, truth=None)
        return
    yield Quantity("estimate", x, truth=truth, serves=("estimate", "error"))
    if math.isfinite(truth):
        yield Quantity("square", error * error, truth=truth)


def of_intervals(x: Array, intervals: Array | tuple[Array, Array], truth: float) -> Iterator[Quantity]:
    """Intervals x -+ half, half >= 0, or (lower, upper), lower <= upper; infinite ends give no width.

    cover: the interval holds the truth, ends included; below: it lies wholly below the truth; above: wholly above.
    """
    more: Sequence[Array]
    if isinstance(intervals, tuple):
        lower, upper = more = intervals
        below, above, width = upper < truth, lower > truth, upper - lower
    else:
        error, more = x - truth, (intervals,)
        below, above, width = -error > intervals, error > intervals, 2 * intervals
    if math.isfinite(truth):
        yield from (Quantity("cover", ~(below | above)), Quantity("below", below), Quantity("above", above))
    yield Quantity("becover", x, more=more)
    yield Quantity("width", width)


def of_rejections(rejects: Mask, x: Array | None, truth: float | Array, null: float) -> Iterator[Quantity]:
    """Tests, and of those that reject, where x holds the estimates: the wrong side of the null, and the exaggeration.

    These are absent where the truth is not finite or equals the null. Where each replicate has a truth of its own, signs are
    compared one by one, and sizes are |x - null| and |truth - null|: a mean of their ratios need not exist.
    """
    yield Quantity("power", rejects)
    effect = truth - null
    if x is None:
        return
    found = x - null
    if isinstance(effect, np.ndarray):
        kept = rejects & np.isfinite(found) & np.isfinite(effect)
        yield Quantity("wrong", found * effect < 0, within=kept)
        yield Quantity("size", np.abs(found), np.abs(effect), kept, truth=None)
    elif effect != 0 and math.isfinite(effect):
        found, kept = found / effect, rejects & np.isfinite(found)
        yield Quantity("wrong", found < 0, within=kept)
        yield Quantity("size", np.abs(found), within=kept, truth=1.0)


def at(mask: Mask, values: NDArray[Any]) -> NDArray[Any]:
    """The values of these replicates."""
    return values if np.count_nonzero(mask) == mask.size else values[mask]
