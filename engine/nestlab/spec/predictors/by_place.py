"""Predictors by the place of a row in its cluster: time, listed values, schedules of treatments, numbers of periods.

A list starts again after its last value, and runs over the clusters at level 2. Rows beyond the last period of a schedule have
the value of that period.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..model import Layout, Predictor
from ..problems import Problems
from .allocation import MOST_TURNS
from .categories import categories_text, check_numbers, check_two_values, coding_of, named
from .distribution import (
    Array,
    Given,
    Integers,
    Need,
    Places,
    PredictorDistribution,
    number_text,
    value_words,
)

__all__ = ["LATIN_SQUARE", "LIST", "PERIOD", "SCHEDULE", "TIME"]


# -- time ------------------------------------------------------------------------------------------------------------------


def _time_scale(p: Predictor, layout: Layout) -> tuple[float, float]:
    rows = layout.rows / layout.clusters
    return p.mean + p.sd * (rows - 1) / 2, abs(p.sd) * rows / 12**0.5


TIME = PredictorDistribution(
    name="time",
    keys=("start", "step"),
    make=lambda name, given, clusters: Predictor(
        name, given["level"], "time", given.get("start", 0.0), given.get("step", 1.0), redraw=False
    ),
    words=lambda p: {"start": float(p.mean), "step": float(p.sd)},
    text=lambda p: f"is {number_text(p.mean)} in a cluster's first row and {number_text(p.sd)} more in each next one",
    known=lambda p, places: np.asarray(p.mean + p.sd * places.place, dtype=float),
    scale=_time_scale,
    level=1,
)

# -- lists ----------------------------------------------------------------------------------------------------------------


def _check_list(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    check_two_values(given, key, clusters, problems)
    if not problems:
        check_numbers("values", given["values"], given, key, problems)


def _in_turn(p: Predictor, places: Places) -> Array:
    """By the row in its cluster, or by cluster; repeated."""
    values = np.array(p.values, dtype=float)
    return np.asarray(values[places.place % len(values)])


LIST = PredictorDistribution(
    name="list",
    keys=("values", "categories", "coding"),
    needs=(Need("values", "values = [1, 2, 5], say"),),
    categories=named,
    check=_check_list,
    make=lambda name, given, clusters: Predictor(
        name, given["level"], "list", redraw=False, values=given["values"], **coding_of(given)
    ),
    words=value_words,
    text=lambda p: f"takes {len(p.values)} listed values in turn{categories_text(p)}",
    known=_in_turn,
    levels=lambda p: np.unique(p.values),
)

# -- Latin squares --------------------------------------------------------------------------------------------------------


def _conditions(given: Given) -> tuple[float, ...]:
    """The conditions in the order of the square's first row: as given, all categories, or 0 and 1."""
    return tuple(given.get("values") or map(float, range(len(named(given)) or 2)))


def _check_latin(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    _check_list({**given, "values": _conditions(given)}, key, clusters, problems)


def _latin_square(p: Predictor, places: Places) -> Array:
    """By level i of the first factor and k of the second: the condition (i + k) mod their number."""
    values = np.array(p.values, dtype=float)
    first, second = np.divmod(places.place, p.crossing[1])
    return np.asarray(values[(first + second) % len(values)])


LATIN_SQUARE = PredictorDistribution(
    name="latin-square",
    keys=("values", "categories", "coding"),
    categories=named,
    check=_check_latin,
    make=lambda name, given, clusters: Predictor(
        name, given["level"], "latin-square", redraw=False, values=_conditions(given), **coding_of(given)
    ),
    words=value_words,
    text=lambda p: (
        f"is one of {len(p.values)} conditions, which take turns over {p.at.replace(':', ' and ')}{categories_text(p)}"
    ),
    known=_latin_square,
    turn=lambda p, clusters: clusters,
    levels=lambda p: np.unique(p.values),
    crossed=True,
)

# -- schedules -------------------------------------------------------------------------------------------------------------


def _check_schedule(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    if "sequences" in given:
        for word in ("design", "periods", "baseline"):
            if word in given:
                text = f"must not stand beside {key}.sequences, which say it; remove one of the two"
                problems.add_value(f"{key}.{word}", given[word], text)
    elif "periods" not in given:
        problems.add(f"{key}.periods", f'is missing: design = "{given["design"]}" needs it; add periods = 4, say')
    if problems:
        return
    if given.get("design") == "parallel-baseline":
        if given.get("baseline", 1) >= given["periods"]:
            text = f"must be less than {key}.periods, {given['periods']}, so that treatment has a period; lower it"
            problems.add_value(f"{key}.baseline", given["baseline"], text)
    elif "baseline" in given:
        text = 'must be absent unless design = "parallel-baseline"; remove it'
        problems.add_value(f"{key}.baseline", given["baseline"], text)
    if not problems:
        values = (value for sequence in _sequences(given) for value in sequence)
        check_numbers("sequences", values, given, key, problems)


def _sequences(given: Given) -> tuple[tuple[float, ...], ...]:
    """A value for every row: each period's repeated for its rows."""
    rows = given.get("rows_per_period", 1)
    sequences = given.get("sequences") or _designed(given["design"], given["periods"], given.get("baseline", 1))
    return tuple(tuple(float(value) for value in sequence for _ in range(rows)) for sequence in sequences)


def _designed(design: str, periods: int, baseline: int) -> list[list[int]]:
    """The sequences of a design by its name.

    >>> _designed("stepped-wedge", 3, 1), _designed("crossover", 2, 1), _designed("parallel-baseline", 3, 1)
    ([[0, 1, 1], [0, 0, 1]], [[0, 1], [1, 0]], [[0, 0, 0], [0, 1, 1]])
    """
    if design == "stepped-wedge":
        return [[int(period >= start) for period in range(periods)] for start in range(1, periods)]
    if design == "crossover":
        return [[(period + first) % 2 for period in range(periods)] for first in (0, 1)]
    return [[0] * periods, [int(period >= baseline) for period in range(periods)]]


def _schedule_words(p: Predictor) -> dict[str, Any]:
    rows = _rows_per_period(p)
    return {"sequences": [list(values[::rows]) for values in p.sequences], "rows_per_period": rows}


def _rows_per_period(p: Predictor) -> int:
    changes = [i for values in p.sequences for i in range(1, len(values)) if values[i] != values[i - 1]]
    return math.gcd(len(p.sequences[0]), *changes)


def _turn(p: Predictor, clusters: Integers) -> Integers:
    return clusters % len(p.sequences)


def _scheduled(p: Predictor, places: Places) -> Array:
    sequences = np.array(p.sequences, dtype=float)
    row = places.of_cluster(_turn(p, places.clusters))
    return np.asarray(sequences[row, np.minimum(places.place, sequences.shape[1] - 1)])


def _refuse_schedule(p: Predictor, layout: Layout, longest: float) -> str | None:
    """Each sequence needs all its periods, unless those that are left are schedules, too."""
    last = _refuse_rows(p.name, len(p.sequences[0]), _rows_per_period(p), longest)
    if last and longest <= len(p.sequences[0]):
        most = int(longest)
        if len(p.sequences) > MOST_TURNS or all(len(set(row[:most])) > 1 for row in p.sequences):
            return None
    return last


def _refuse_rows(name: str, length: int, per: int, longest: float) -> str | None:
    """What to do about clusters that have more rows than a schedule of `length`, or none in its last period of `per` rows."""
    if longest > length:
        bound = longest < math.inf
        rows = f"up to {longest:g} rows" if bound else "no bound"
        repair = "add periods, raise rows_per_period, or lower the sizes" if bound else "write sizes that have one"
        return f"must be at most {length}, the rows of the schedule {name}, and clusters have {rows}; {repair}"
    if longest <= length - per:
        return f"must be more than {length - per} in some cluster, or the last period of {name} has no row; raise it"
    return None


SCHEDULE = PredictorDistribution(
    name="schedule",
    keys=("sequences", "design", "periods", "baseline", "rows_per_period", "categories", "coding"),
    needs=(Need("sequences", "sequences = [[0, 1, 1], [0, 0, 1]], or a design", instead=("design",)),),
    categories=named,
    constant=lambda given: _never_changes(given.get("sequences") or ()),
    check=_check_schedule,
    make=lambda name, given, clusters: Predictor(
        name, given["level"], "schedule", redraw=False, sequences=_sequences(given), **coding_of(given)
    ),
    words=_schedule_words,
    text=lambda p: f"follows {len(p.sequences)} sequences, which clusters take in turn{categories_text(p)}",
    known=_scheduled,
    turn=_turn,
    levels=lambda p: np.unique(p.sequences),
    refuse_sizes=_refuse_schedule,
    level=1,
)


def _never_changes(sequences: Iterable[Iterable[float]]) -> bool:
    """Whether there are sequences, each of one value."""
    values = [set(sequence) for sequence in sequences]
    return bool(values) and all(len(each) == 1 for each in values)


# -- periods ---------------------------------------------------------------------------------------------------------------


def _numbers(given: Given) -> tuple[str, ...]:
    """The numbers of the periods, where they are coded as categories."""
    return tuple(map(str, range(given["periods"]))) if given.get("coding") and given.get("periods") else ()


def _make_period(name: str, given: Given, clusters: int | None) -> Predictor:
    values = tuple(float(k) for k in range(given["periods"]) for _ in range(given.get("rows_per_period", 1)))
    return Predictor(name, 1, "period", redraw=False, values=values, **coding_of(given, _numbers(given)))


def _periods(p: Predictor) -> int:
    return int(max(p.values)) + 1


def _in_period(p: Predictor, places: Places) -> Array:
    values = np.array(p.values, dtype=float)
    return np.asarray(values[np.minimum(places.place, len(values) - 1)])


PERIOD = PredictorDistribution(
    name="period",
    keys=("periods", "rows_per_period", "coding"),
    needs=(Need("periods", "periods = 4, say"),),
    categories=_numbers,
    make=_make_period,
    words=lambda p: {"periods": _periods(p), "rows_per_period": p.values.count(0.0)},
    text=lambda p: (
        f"is the number of the row's period, of {_periods(p)}" + (f", as {p.coding} contrasts" if p.categories else "")
    ),
    known=_in_period,
    levels=lambda p: np.unique(p.values),
    refuse_sizes=lambda p, layout, longest: _refuse_rows(p.name, len(p.values), p.values.count(0.0), longest),
    level=1,
)
