"""Replicates of one condition in, a tidy table of measures out.

Each method brings a column of estimates per estimand, with what its inference makes: standard errors and degrees of
freedom, interval ends, p values (`MethodResults`, in `results.py`); `summarise` returns a row per method x estimand x
measure x subset. The measures are the rows of `spec.measures`; which replicates have a result is said in `quantities.py`, the
tests are in `decisions.py`.

Subsets: "all", every replicate with a result; "converged", those of them whose fit converged; "common", those on
which every method that has this estimand (and, for measures of inference, its standard errors, intervals or tests)
has a result. Measures of a method as a whole, estimand "", are shares of all its replicates: converged (singular ones
included), singular, failed (no estimates); what is neither converged nor failed stopped short; inference_failed
(estimates, but not all inference) where the method tells; selected, the share in which a method that chooses between two
models reports the larger one. In subset "converged" singular is the share of converged
fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np

from ..spec.measures import MEASURES, QUANTITIES, Array, Mask
from .assurance import power_spread
from .intervals import wilson
from .measured import Mcse, Measured, MeasureRow, of_counts, proportion
from .moments import CentredColumn, ColumnMoments, measured, of_sums, rows_of
from .quantities import EstimandColumns, Masks, Quantity, aligned, columns_of, of_method, quantities
from .results import Estimates, MethodResults
from .subsets import SUBSETS
from .sums import KINDS, SumKey

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS", "SUBSETS", "UNAVAILABLE", "Estimates", "MethodResults", "as_table", "measure", "measure_quantity",
    "measure_sums", "summarise",
]  # fmt: skip

#: Measures that sums do not hold, and why.
UNAVAILABLE: Mapping[str, str] = {name: row.unsummed for name, row in MEASURES.items() if row.unsummed}
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


def measure(methods: Sequence[MethodResults], truth: Mapping[str, float], *, mcse: Mcse) -> list[MeasureRow]:
    """The rows of `summarise`, for `as_table`: tables of many conditions are made faster in one piece."""
    _check_mcse(mcse)
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods are named {names}; allowed is one or more with distinct names: rename or drop one")
    rows, runs = [], aligned(methods)
    with np.errstate(all="ignore"):
        for method, ran in runs:
            for name, subset, told, hits in of_method(method):
                rows.append(MeasureRow(method.name, "", subset, proportion(name, hits, told & ran), None))
        for estimand in dict.fromkeys(name for method in methods for name in method.estimands):
            for columns, subsets in columns_of(estimand, runs):
                method = columns.run.method
                value = method.true_value(estimand, truth)
                for subset, measures, population in _of_subsets(columns, subsets, value, mcse):
                    rows += _in_order(method.name, estimand, subset, measures, population)
    return rows


def _check_mcse(mcse: Mcse) -> None:
    if mcse not in get_args(Mcse):
        raise ValueError(
            f"mcse is {mcse!r}; allowed are {' and '.join(map(repr, get_args(Mcse)))}; leave it out for the first"
        )


def _in_order(
    method: str, estimand: str, subset: str, measures: Iterable[Measured], population: int | None
) -> Iterator[MeasureRow]:
    """Rows in the order of MEASURES. population: the replicates of which those without a result are missing; None: none are."""
    found = {each.measure: each for each in measures}
    for name, row in MEASURES.items():
        if (each := found.get(name)) is not None:
            missing = (0 if population is None else population - each.n) if row.bounded else None
            yield MeasureRow(method, estimand, subset, each, missing)


def _of_subsets(
    columns: EstimandColumns, subsets: Iterable[tuple[str, Masks, Mask | None]], truth: float, mcse: Mcse
) -> Iterator[tuple[str, list[Measured], int | None]]:
    """Each subset, its measures, its number of replicates; None where those are the ones with a result, "common".

    A subset is a part of "all", so one that is as large is "all": it is not computed again. Quantities are made one at a time.
    """
    subsets = list(subsets)
    sizes = [[int(np.count_nonzero(mask)) for mask in masks.values()] for _, masks, _ in subsets]
    same = [0 if size == sizes[0] else place for place, size in enumerate(sizes)]
    found: dict[int, tuple[list[Measured], list[CentredColumn]]] = {place: ([], []) for place in same}
    for quantity in quantities(columns, truth):
        for place, (measures, known) in found.items():
            measures += measure_quantity(quantity, subsets[place][1][QUANTITIES[quantity.name][0]], mcse, known)
    drawn = columns.run.method.drawn
    if drawn is not None and columns.rejects is not None:
        for place, (measures, _) in found.items():
            mask = subsets[place][1]["test"]
            measures += power_spread(columns.rejects[mask], drawn.basis(mask))
    for place, (subset, _, population) in zip(same, subsets, strict=True):
        yield subset, found[place][0], None if population is None else int(np.count_nonzero(population))


def measure_quantity(quantity: Quantity, mask: Mask, mcse: Mcse, known: list[CentredColumn]) -> Iterator[Measured]:
    """The measures of one quantity on the replicates of the mask. known: as in `ColumnMoments`."""
    of = None
    for row in rows_of(quantity):
        if row.counted:
            yield proportion(row.name, quantity.x, mask if quantity.within is None else mask & quantity.within)
            continue
        of = of or ColumnMoments(quantity, mask, known)
        if row.value is not None:
            if (smooth := measured(row, of.moments, mcse)) is not None:
                yield smooth
        elif row.hits is not None:
            yield of_counts(row.name, int(np.count_nonzero(row.hits(of))), of.n)
        elif row.special is not None:
            found = row.special(of)
            yield Measured(row.name, found.value, found.mcse, of.n)


def measure_sums(
    sums: Mapping[SumKey, Array],
    truth: Mapping[str, float],
    *,
    mcse: Mcse,
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> list[MeasureRow]:
    """The rows of `measure`, but for those that are UNAVAILABLE. sums: by key (`Sums.total`), of all methods.

    truth: as the sums were collected with; own: true values of methods' own, by method and estimand. ValueError for an unknown
    `mcse`.
    """
    _check_mcse(mcse)
    groups: dict[tuple[str, str, str], dict[str, Array]] = {}
    for key, values in sums.items():
        groups.setdefault(key[:3], {})[key.quantity] = values
    methods = dict.fromkeys(key.method for key in sums)
    rows = []
    for method in methods:
        for subset in SUBSETS:
            for name, (n, hits) in groups.get((method, "", subset), {}).items():
                rows.append(MeasureRow(method, "", subset, of_counts(name, int(hits), int(n)), None))
    with np.errstate(all="ignore"):
        for estimand in dict.fromkeys(key.estimand for key in sums if key.estimand):
            for method in methods:
                value = (own or {}).get(method, {}).get(estimand, truth.get(estimand, math.nan))
                for subset in SUBSETS:
                    found = groups.get((method, estimand, subset), {})
                    population = int(found["population"][0]) if "population" in found else None
                    rows += _in_order(method, estimand, subset, _of_sums(found, value, mcse), population)
    return rows


def _of_sums(found: Mapping[str, Array], truth: float, mcse: Mcse) -> Iterator[Measured]:
    truths = {"estimate": truth, "error": None, "square": None if "error" in found else truth, "size": 1.0}
    for row in MEASURES.values():
        name = "estimate" if row.of == "error" and "error" not in found else row.of
        if name not in found or row.unsummed:
            continue
        values = found[name]
        if row.counted:
            yield of_counts(row.name, int(values[1]), int(values[0]))
            continue
        kind, about = QUANTITIES[name][1], truths.get(name)
        if name == "size" and len(values) == KINDS["means"].width:
            kind, about = "means", None
        if (smooth := measured(row, of_sums(values, kind, about), mcse)) is not None:
            yield smooth


def as_table(rows: Sequence[MeasureRow]) -> pd.DataFrame:
    """A data frame of rows, with the limits and bounds of proportions."""
    import pandas as pd  # takes longer to import than the rest of a command that makes no table

    told = [row.measured for row in rows]
    value, mcse, successes = (
        np.array([getattr(m, column) for m in told], dtype=np.float64) for column in ("value", "mcse", "successes")
    )
    n = np.array([m.n for m in told], dtype=np.int64)
    missing = pd.array([row.missing for row in rows], dtype="Int64")
    unseen = missing.to_numpy(dtype=np.float64, na_value=math.nan)
    lower, upper = wilson(np.nan_to_num(successes), n)
    counted = np.isfinite(successes)
    population = np.where(n + unseen > 0, n + unseen, math.nan)
    columns = {
        "method": [row.method for row in rows],
        "estimand": [row.estimand for row in rows],
        "measure": [m.measure for m in told],
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
