"""The predictors of a pilot as a study can make them: level, distribution, and what of the data that leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["PilotPredictor", "describe_predictors"]

Array = NDArray[np.float64]

#: A correlation of two predictors that is worth a note, and the p value below which clusters differ in a predictor.
_CORRELATED = 0.2
_CERTAIN = 0.05
#: A share of the variance between clusters that is less than this makes no difference.
_LEAST_SHARE = 0.02
#: A predictor with at most so many values is called discrete.
_FEW = 10


@dataclass(frozen=True, slots=True)
class PilotPredictor:
    """A predictor as a study makes it. mean, sd: of a normal one, in the units of the data; notes: what differs from the data."""

    name: str
    level: Literal[1, 2]
    distribution: Literal["normal", "balanced"]
    mean: float = 0.0
    sd: float = 1.0
    notes: tuple[str, ...] = field(default=())


def describe_predictors(
    columns: Mapping[str, Array], groups: NDArray[np.int64], group: str
) -> tuple[PilotPredictor, ...]:
    """Describe each column (N) of the data.

    groups (N): the cluster of each row, 0 .. J - 1; group: what clusters are called, for the notes.
    """
    found = []
    for name, x in columns.items():
        made = _describe(name, x, groups, group)
        others = _correlated(name, columns, groups)
        found.append(PilotPredictor(name, made.level, made.distribution, made.mean, made.sd, made.notes + others))
    return tuple(found)


def _means(x: Array, groups: NDArray[np.int64]) -> Array:
    return np.asarray(np.bincount(groups, weights=x) / np.bincount(groups))


def _level(x: Array, groups: NDArray[np.int64]) -> Literal[1, 2]:
    """2 if it is constant within every cluster."""
    low, high = np.full(groups.max() + 1, np.inf), np.full(groups.max() + 1, -np.inf)
    np.minimum.at(low, groups, x)
    np.maximum.at(high, groups, x)
    return 2 if bool((low == high).all()) else 1


def _describe(name: str, x: Array, groups: NDArray[np.int64], group: str) -> PilotPredictor:
    level = _level(x, groups)
    values = np.unique(x)
    if set(values) == {0.0, 1.0}:
        share = _share_of_clusters(x, groups, group) if level == 2 else _share_of_rows(x, groups, group)
        return PilotPredictor(name, level, "balanced", notes=share)
    own = _means(x, groups) if level == 2 else x
    mean, sd = float(own.mean()), float(own.std(ddof=1))
    notes = _discrete(values, x, groups, level, group)
    # 40 clusters of 10, half of the variance between them: with the sd within clusters the standard error of the slope is 1.13 of
    # the pilot's, with that over all rows 0.77.
    within, between = _between(x, groups) if level == 1 else (sd, 0.0)
    if between >= _LEAST_SHARE:
        notes += (
            f"{100 * between:.0f} % of its variance lies between clusters ({group}), which a normal predictor of level 1 does "
            f"not have: its sd here is that within them, which is cautious; its sd over all rows is {sd:.4g}",
        )
        sd = within
    return PilotPredictor(name, level, "normal", mean, sd, notes)


def _share_of_clusters(x: Array, groups: NDArray[np.int64], group: str) -> tuple[str, ...]:
    ones, J = int(_means(x, groups).sum()), int(groups.max()) + 1
    if abs(2 * ones - J) <= 1:
        return ()
    return (f"in the data {ones} of {J} clusters ({group}) are 1; a balanced predictor makes it half",)


def _share_of_rows(x: Array, groups: NDArray[np.int64], group: str) -> tuple[str, ...]:
    ones, sizes = np.bincount(groups, weights=x), np.bincount(groups)
    if (np.abs(2 * ones - sizes) <= 1).all():
        return ()
    shares = ones / sizes
    return (
        f"in the data {100 * x.mean():.0f} % of the rows are 1, {100 * shares.min():.0f} to {100 * shares.max():.0f} % of a "
        f"cluster ({group}); a balanced predictor makes it half of each",
    )


def _discrete(values: Array, x: Array, groups: NDArray[np.int64], level: Literal[1, 2], group: str) -> tuple[str, ...]:
    if len(values) == 2:
        pair = " and ".join(f"{v:g}" for v in values)
        return (f"it has two values in the data, {pair}; coded 0 and 1 it would become a balanced predictor",)
    if level == 2 or len(values) > _FEW:
        return ()
    order = np.lexsort((x, groups))
    rows = np.split(x[order], np.cumsum(np.bincount(groups))[:-1])
    shown = ", ".join(f"{v:g}" for v in values)
    if all(len(row) == len(rows[0]) and (row == rows[0]).all() for row in rows):
        return (f"it has the same values ({shown}) in every cluster ({group}) of the data; here they are drawn",)
    return (f"it has {len(values)} different values in the data ({shown}); here it is continuous",)


def _between(x: Array, groups: NDArray[np.int64]) -> tuple[float, float]:
    """The sd within clusters, and the share of the variance that lies between them: 0 where an F test does not see it."""
    sizes, means = np.bincount(groups), _means(x, groups)
    N, J = len(x), len(sizes)
    ms_within = float(((x - means[groups]) ** 2).sum()) / (N - J)
    ms_between = float((sizes * (means - x.mean()) ** 2).sum()) / (J - 1)
    if not ms_within > 0 or float(scipy.special.fdtrc(J - 1, N - J, ms_between / ms_within)) >= _CERTAIN:
        return float(np.sqrt(ms_within)), 0.0
    size = (N - (sizes**2).sum() / N) / (J - 1)
    between = (ms_between - ms_within) / size
    return float(np.sqrt(ms_within)), float(between / (between + ms_within))


def _correlated(name: str, columns: Mapping[str, Array], groups: NDArray[np.int64]) -> tuple[str, ...]:
    """A note for each earlier column of the same level that is not independent of this one."""
    notes = []
    for other, z in columns.items():
        if other == name:
            break
        level = _level(z, groups)
        if level != _level(columns[name], groups):
            continue
        a, b = (v - _means(v, groups)[groups] if level == 1 else _means(v, groups) for v in (columns[name], z))
        r = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
        if abs(r) >= _CORRELATED:
            where = "within clusters" if level == 1 else "over clusters"
            notes.append(f"it correlates {r:.2f} with {other} {where} of the data; a study makes them independent")
    return tuple(notes)
