"""What a generalised fit of one data set refuses, in the words of the data: DataError, with what was found and the repair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...spec.family import Family
from ...spec.matrices import ModelMatrices
from ...spec.problems import DataError
from ..checks import check_dependence, check_levels, check_sizes, one_of

__all__ = ["check_columns", "check_counts", "check_options", "family_of"]

Array = NDArray[np.float64]

#: The most nodes of a quadrature, with one random column and with two.
MOST_NODES, MOST_NODES_TWO = 25, 25


def family_of(name: str, link: str | None) -> Family:
    """The family and link by their names."""
    try:
        return Family.named(name, link)
    except ValueError as error:
        raise DataError(f"{str(error).rstrip('.')}; name another one") from None


def check_options(family: Family, *, nodes: int, curvature: str, df: str, rules: tuple[str, ...]) -> None:
    """Refuse options that are not possible whatever the data."""
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= MOST_NODES:
        raise DataError(
            f"nodes = {nodes!r}: allowed are whole numbers from 1 (Laplace) to {MOST_NODES}; use one of them"
        )
    one_of("curvature", curvature, ("observed", "expected"))
    one_of("df", df, rules)
    if curvature == "expected" and family.name == "negative-binomial":
        raise DataError("curvature = 'expected': negative binomial outcomes have the observed one only; leave it out")


def check_counts(m: ModelMatrices, family: Family, trials: Array | None, column: str | None) -> Array:
    """Return the trials of each row. Refuses outcomes that the family can't have."""
    y = m.y
    if family.counts:
        if trials is not None or m.trials is not None:
            given = f"trials = {column!r}" if column else f"response {m.response}"
            raise DataError(f"{given}: family {family.name} has no trials; use binomial, or one column of counts")
        _whole_numbers(m.response, y)
        return np.ones(len(y))
    if trials is not None and m.trials is not None:
        raise DataError(f"trials = {column!r}: response {m.response} has its own; leave one of them out")
    n = m.trials if m.trials is not None else trials
    if n is None:
        if not np.isin(y, (0.0, 1.0)).all():
            found = ", ".join(f"{v:g}" for v in np.unique(y[~np.isin(y, (0.0, 1.0))])[:3])
            raise DataError(
                f"response {m.response} has values other than 0 and 1 ({found}); give trials, or cbind(events, others)"
            )
        return np.ones(len(y))
    named = column or "trials"
    _whole_numbers(m.response, y)
    _whole_numbers(named, n)
    if (n < 1).any():
        raise DataError(
            f"{named} must be 1 or more, and {int((n < 1).sum())} of {len(n)} rows have none; remove those rows"
        )
    if (over := y > n).any():
        k = int(np.flatnonzero(over)[0])
        raise DataError(
            f"response {m.response} has {y[k]:g} events in {n[k]:g} trials; correct {int(over.sum())} such rows"
        )
    return n


def _whole_numbers(name: str, values: Array) -> None:
    if (values < 0).any():
        raise DataError(f"{name} has negative counts (the smallest is {values.min():g}); counts must be 0 or more")
    if (rough := values != np.round(values)).any():
        found = f"{values[rough][0]:g}"
        raise DataError(f"{name} has counts that are not whole numbers ({found}); round them, or fit family gaussian")
    if values.max() > 1e9:
        raise DataError(f"{name} has counts up to {values.max():.3g}; at most 1e9 are possible: use larger units")


def check_columns(m: ModelMatrices, family: Family, trials: Array, nodes: int) -> None:
    """Refuse designs without an answer."""
    check_levels(m)
    rows, p = m.X.shape
    if rows <= p:
        raise DataError(f"{rows} rows are not more than the {p} fixed effects; use fewer terms or more rows")
    check_sizes(m)
    check_dependence("fixed effect", m.X, m.fixed_names)
    for Z, names in zip(m.Z, m.random_names, strict=True):
        check_dependence("random column", Z, names)
    if nodes > 1 and len(m.levels) > 1:
        raise DataError(
            f"nodes = {nodes}: quadrature needs one grouping factor, and the formula has {len(m.levels)} "
            f"({', '.join(name.strip('`') for name in m.levels)}); use nodes = 1, Laplace"
        )
    columns = sum(map(len, m.random_names))
    if nodes > 1 and columns > 2:
        raise DataError(
            f"nodes = {nodes}: quadrature takes at most 2 random columns, not {columns}; use nodes = 1, Laplace"
        )
    if family.name == "binomial" and trials.max() == 1:
        for name, levels in m.levels.items():
            if len(levels.labels) == rows:
                raise DataError(
                    f"grouping factor {name.strip('`')} has one row a level; 0/1 outcomes can't tell its variance: leave it out"
                )
