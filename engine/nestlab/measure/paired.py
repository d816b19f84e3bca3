"""Differences of measures between methods, with MCSEs that use the pairing: all methods saw the same replicates.

For a method and a reference each measure is taken on the N replicates on which both fits converged and both have a result for it.
Their difference is T - T', its MCSE that of one functional of N pairs, by the influences of `moments.py`:

    MCSE(T - T') = sqrt(sum (psi_i - psi'_i)^2 / (N (N - 1))).

Of shares (power, cover, converged, ...) it is McNemar's: b replicates are hits of the method alone, c of the reference alone,

    T - T' = (b - c)/N,    MCSE = sqrt(b + c - (b - c)^2 / N) / N,

which has N, as the MCSE of a single share has. 95 % limits are difference -+ 1.96 MCSE; of shares Tango's score limits; of type_s
Newcombe's (1998, Stat Med 17:2635), from Wilson's limits of each and the correlation of the influences. Where b + c = 0 the MCSE
is 0 and says nothing: read Tango's limits, -+ 3.84 / (N + 3.84), which are to the difference what Wilson's are to a share. An
MCSE of 0 of any other measure means that both methods gave the same numbers, or numbers a constant apart, in all N replicates;
a difference and an MCSE below a millionth of the unpaired MCSE are two computations of the same numbers, and are told as 0.

relprec is a comparison as it stands: it is the gain in precision over this reference, not a difference of two gains. The means
about which becover counts are taken as known, as in its own MCSE. For methods that hardly differ the MCSE of a difference of
medians is too large (a fifth at N = 200, a tenth at 1,000, for REML's and ML's variance component: tests/calibration). The spread
of power over a prior (power_sd, ...) is not compared. MCSEs are distribution-free, whatever a study's `mcse` says: normal theory
has none for these differences.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..spec.measures import MEASURES, Array, Mask, Measure
from .intervals import Z, tango, wilson
from .measured import of_counts
from .moments import CentredColumn, ColumnMoments, rows_of, standard_error
from .quantities import AlignedMethod, EstimandColumns, Quantity, aligned, of_method, quantities
from .results import MethodResults

__all__ = ["COLUMNS", "COMPARED", "Difference", "Functional", "as_table", "compare", "differences", "functionals"]

NAN = math.nan
#: A difference and an MCSE that are both below this share of the unpaired MCSE are rounding.
ROUNDING = 1e-6

COMPARED = tuple(name for name, row in MEASURES.items() if row.compared)
COLUMNS = (
    *("method", "reference", "estimand", "measure", "difference", "mcse", "lower", "upper", "n", "missing"),
    *("value", "reference_value", "unpaired_mcse", "gained", "lost"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of one method less that of the reference, on n replicates; missing: those that either ran, less n.

    gained, lost: of a share, the replicates that are hits of the method alone, of the reference alone. limits: where they are not
    to be had from these or from the MCSE.
    """

    method: str
    reference: str
    estimand: str
    measure: str
    value: float
    reference_value: float
    mcse: float
    unpaired_mcse: float
    n: int
    missing: int
    gained: float = NAN
    lost: float = NAN
    limits: tuple[float, float] | None = None


def differences(
    methods: Sequence[MethodResults], truth: Mapping[str, float], *, reference: str | None = None
) -> pd.DataFrame:
    """All measures of one condition, each method's less the reference's on the replicates where both converged with a result.

    reference: a method's name; None: the first. truth: true value by estimand; nan or none where undefined (bias, cover and the
    like are then absent). Rows go by estimand ("" for methods as a whole), method, measure. Columns: `method`, `reference`,
    `estimand`, `measure`; `difference`, `mcse`, 95 % limits `lower` and `upper`; `n` replicates used, `missing` of those that
    either method ran; the measures of both on these, `value` and `reference_value`; `unpaired_mcse`, what the MCSE would be on
    different data; of shares `gained` and `lost`, replicates that are hits of the method alone, of the reference alone. A measure
    that one of the two has not has no row; one that the replicates do not determine is nan beside its n. KeyError for an unknown
    reference.

    >>> x = np.array([0.9, 1.4, 1.1, 0.8, 1.3])
    >>> none = np.zeros(5, dtype=bool)
    >>> from .results import Estimates
    >>> def method(name, scale):
    ...     part = Estimates(scale * x, se=np.full(5, 0.5), df=np.inf)
    ...     return MethodResults(name, np.arange(5), ~none, none, none, {"x": part})
    >>> table = differences([method("a", 1.0), method("b", 0.9)], {"x": 1.0}).set_index("measure")
    >>> table.loc[["bias", "power"], ["difference", "mcse", "unpaired_mcse", "lower", "upper"]].round(3).values.tolist()
    [[-0.11, 0.011, 0.153, -0.132, -0.088], [0.0, 0.0, 0.31, -0.434, 0.434]]
    """
    return as_table(compare(methods, truth, reference=reference))


def compare(
    methods: Sequence[MethodResults],
    truth: Mapping[str, float],
    *,
    reference: str | None = None,
    measures: Collection[str] = COMPARED,
    estimands: Collection[str] | None = None,
) -> list[Difference]:
    """The rows of `differences`, for `as_table`; only these measures, and only of these estimands.

    An estimand that means something else to one of the methods is left out (`MethodResults.meanings`). Measures of methods as a
    whole have no estimand, so that `estimands` leaves them alone. KeyError for an unknown reference.
    """
    runs = aligned(methods)
    names = [run.method.name for run in runs]
    if reference is not None and reference not in names:
        raise KeyError(reference)
    base = runs[0 if reference is None else names.index(reference)]
    others = [run for run in runs if run is not base]
    with np.errstate(all="ignore"):
        rows = [row for run in others for row in _whole(run, base, measures)]
        for estimand, part in base.method.estimands.items():
            if estimands is not None and estimand not in estimands:
                continue
            theirs = EstimandColumns.of(base, part)
            for run in others:
                if estimand in run.method.estimands and run.method.shares(estimand, base.method):
                    mine = EstimandColumns.of(run, run.method.estimands[estimand]).against(theirs)
                    rows += _of_pair(estimand, mine, theirs, base.method.true_value(estimand, truth), measures)
    return rows


class Functional(NamedTuple):
    """A measure of n replicates, with its MCSE; of a share of them all, hits (n,); else the influence psi (n,), of a share of
    some of them with its limits.

    MCSEs are those of `performance.measure` (distribution-free); only of type_s, k rejections, they are sqrt(N / (N - 1)) times
    as large, of type_m sqrt((k - 1) N / (k (N - 1))) times.
    """

    value: float
    mcse: float
    influence: Array
    hits: Mask | None = None
    limits: tuple[float, float] | None = None


def functionals(
    listed: Iterable[Quantity], masks: Mapping[str, Mask], measures: Collection[str] = COMPARED
) -> dict[str, Functional]:
    """These measures of some quantities, by name, on the replicates of masks: by what measures need."""
    found = {}
    known: list[CentredColumn] = []
    for quantity in listed:
        of = None
        for row in rows_of(quantity):
            if row.name not in measures or row.needs not in masks:
                continue
            mask = masks[row.needs]
            if row.counted:
                found[row.name] = _share(quantity.x[mask], None if quantity.within is None else quantity.within[mask])
                continue
            of = of or ColumnMoments(quantity, mask, known)
            if row.hits is not None:
                found[row.name] = _share(row.hits(of), None)
            elif row.value is None or row.exists(of.moments):
                found[row.name] = _functional(row, of, None if quantity.within is None else quantity.within[mask])
    return found


def _share(hits: Mask, within: Mask | None) -> Functional:
    """Of all replicates, or of some, a ratio of means over all."""
    told = hits if within is None else hits[within]
    share = of_counts("", int(np.count_nonzero(told)), told.size)
    if within is None:
        return Functional(share.value, share.mcse, np.zeros(0), hits)
    whole = _among_all(np.asarray(told - share.value), within, least=1)
    return Functional(share.value, standard_error(whole), whole, limits=wilson(share.successes, share.n))


def _functional(row: Measure, of: ColumnMoments, within: Mask | None) -> Functional:
    if row.special is not None:
        value, mcse, direction = row.special(of)
        side = direction()
        length = standard_error(side)
        return Functional(value, mcse, side * (mcse / length if length > 0 else 0.0))
    assert row.value is not None
    found = row.value(of.moments)
    psi = of.influence(found.slope)
    if row.needs == "pair":  # the MCSE were x and the reference, x + y, from different data
        _, _, by_x, by_both = found.slope
        apart = (0.0, 0.0, by_x - by_both, 0.0), (0.0, 0.0, by_both, by_both)
        return Functional(found.value, math.hypot(*(standard_error(of.influence(part)) for part in apart)), psi)
    psi = psi if within is None else _among_all(psi, within, least=2)
    return Functional(found.value, standard_error(psi), psi)


def _among_all(influence: Array, within: Mask, *, least: int) -> Array:
    """The influences on a measure of k of N replicates: a ratio of means over all of them, which the others leave as it is."""
    n, k = within.size, influence.size
    if k < least:
        return np.full(n, NAN)
    whole = np.zeros(n)
    whole[within] = influence * (n / k)
    return whole


def _whole(run: AlignedMethod, base: AlignedMethod, measures: Collection[str]) -> Iterator[Difference]:
    theirs = {name: (told, hits) for name, subset, told, hits in of_method(base.method) if subset == "all"}
    for name, subset, told, hits in of_method(run.method):
        if name in measures and name in theirs and subset == "all":
            both = run.ran & base.ran & told & theirs[name][0]
            yield _difference(name, "", run, base, *(_share(x[both], None) for x in (hits, theirs[name][1])))


def _of_pair(
    estimand: str, mine: EstimandColumns, theirs: EstimandColumns, truth: float, measures: Collection[str]
) -> Iterator[Difference]:
    """The differences of one estimand, in the order of MEASURES."""
    converged = mine.run.method.converged & theirs.run.method.converged
    has = {**{kind: mask for kind, mask in mine.has.items() if kind == "pair"}, **theirs.has}
    masks = {kind: mine.has[kind] & has[kind] & converged for kind in mine.has.keys() & has.keys()}
    a, b = (functionals(quantities(each, truth), masks, measures) for each in (mine, theirs))
    for name in MEASURES:
        if name in a and (name in b or MEASURES[name].needs == "pair"):
            yield _difference(name, estimand, mine.run, theirs.run, a[name], b.get(name))


def _difference(
    measure: str, estimand: str, run: AlignedMethod, base: AlignedMethod, mine: Functional, theirs: Functional | None
) -> Difference:
    n = mine.influence.size if mine.hits is None else mine.hits.size
    theirs = theirs or Functional(0.0, 0.0, np.zeros(n))  # relprec is a comparison as it stands
    gained = lost = NAN
    limits = None
    if mine.hits is not None and theirs.hits is not None:
        gained = int(np.count_nonzero(mine.hits & ~theirs.hits))
        lost = int(np.count_nonzero(theirs.hits & ~mine.hits))
        mcse = math.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 0.0)) / n if n else NAN
    else:
        mcse = standard_error(mine.influence - theirs.influence)
        if mine.limits is not None and theirs.limits is not None:
            limits = _newcombe(mine, mine.limits, theirs, theirs.limits)
    return Difference(
        run.method.name, base.method.name, estimand, measure, mine.value, theirs.value, mcse,
        math.hypot(mine.mcse, theirs.mcse), n, int(np.count_nonzero(run.ran | base.ran)) - n, gained, lost, limits,
    )  # fmt: skip


def _newcombe(
    mine: Functional, own: tuple[float, float], theirs: Functional, other: tuple[float, float]
) -> tuple[float, float]:
    """Limits of a difference from the limits of both values and the correlation of their influences."""
    a, b = mine.influence, theirs.influence
    length = math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))
    correlation = float(np.sum(a * b)) / length if length > 0 else 0.0

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(first * first + second * second - 2 * correlation * first * second, 0.0))

    d = mine.value - theirs.value
    lower = d - reach(mine.value - own[0], other[1] - theirs.value)
    return lower, d + reach(own[1] - mine.value, theirs.value - other[0])


def as_table(rows: Sequence[Difference]) -> pd.DataFrame:
    """A data frame of rows, with the limits of shares."""
    names = ("value", "reference_value", "mcse", "unpaired_mcse", "gained", "lost")
    numbers = {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in names}
    finite = {name: np.where(np.isfinite(values), values, NAN) for name, values in numbers.items()}
    n = np.array([row.n for row in rows], dtype=np.int64)
    difference = finite["value"] - finite["reference_value"]
    same = np.maximum(np.abs(difference), finite["mcse"]) < ROUNDING * finite["unpaired_mcse"]
    difference[same] = finite["mcse"][same] = 0.0
    lower, upper = (difference + side * Z * finite["mcse"] for side in (-1, 1))
    counted = np.isfinite(finite["gained"])
    lower[counted], upper[counted] = tango(finite["gained"][counted], finite["lost"][counted], n[counted])
    for place, row in enumerate(rows):
        if row.limits is not None:
            lower[place], upper[place] = row.limits
    columns = {
        **{name: [getattr(row, name) for row in rows] for name in ("method", "reference", "estimand", "measure")},
        **finite,
        **{name: pd.array([None if v != v else int(v) for v in finite[name]], dtype="Int64") for name in ("gained", "lost")},
        "difference": difference,
        "lower": lower,
        "upper": upper,
        "n": n,
        "missing": np.array([row.missing for row in rows], dtype=np.int64),
    }  # fmt: skip
    return pd.DataFrame(columns, columns=list(COLUMNS))
