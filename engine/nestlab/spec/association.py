"""Correlations of predictors within one condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from .covariance import indefinite
from .model import Predictor
from .predictors import distribution_of
from .problems import Items, Made, Problems, nearest

__all__ = ["CORRELATION", "Correlations", "correlation_key", "read_correlations"]

CORRELATION = "correlation."
#: (predictor, predictor, correlation) of each pair that has one.
Correlations: TypeAlias = tuple[tuple[str, str, float], ...]


def correlation_key(pair: str) -> str:
    """The key of a pair whatever its order.

    >>> correlation_key("x:w")
    'correlation.w:x'
    """
    return CORRELATION + ":".join(sorted(pair.split(":")))


def read_correlations(flat: Mapping[str, Any], predictors: Sequence[Predictor]) -> Made[Correlations]:
    """The correlations as the flat values have them."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith(CORRELATION))
    return _read(items, tuple(predictors)) if items else Made(())


@lru_cache(maxsize=4096)
def _read(items: Items, predictors: tuple[Predictor, ...]) -> Made[Correlations]:
    problems, by_name = Problems(), {predictor.name: predictor for predictor in predictors}
    found: list[tuple[str, str, float]] = []
    for path, value in items:
        pair = path.removeprefix(CORRELATION).split(":")
        if text := _refusal(pair, by_name):
            problems.add_number(path, value, text)
        elif value != 0:
            found.append((pair[0], pair[1], value))
    if not problems:
        for place in dict.fromkeys((predictor.level, predictor.at) for predictor in predictors):
            names = [predictor.name for predictor in predictors if (predictor.level, predictor.at) == place]
            _check_semidefinite(names, found, problems)
    return Made(tuple(sorted(found)), tuple(problems))


def _refusal(pair: Sequence[str], by_name: Mapping[str, Predictor]) -> str | None:
    if len(pair) != 2 or pair[0] == pair[1]:
        return 'must be of two predictors; name them as "x:w"'
    for name in pair:
        if name not in by_name:
            return f"must be of two predictors, and {name} is none; {nearest(name, by_name)}"
    a, b = (by_name[name] for name in pair)
    if a.at != b.at:
        places = f"{a.name} is of {a.at or 'rows'} and {b.name} of {b.at or 'rows'}"
        return f"must be of predictors of one place, and {places}; remove it"
    if a.level != b.level:
        one, two = (a.name, b.name) if a.level == 1 else (b.name, a.name)
        return (
            f"must be of predictors of one level, and {one} varies within clusters and {two} between them; remove it, or set "
            f"predictors.{two}.level to 1"
        )
    for predictor in (a, b):
        if not distribution_of(predictor).correlated:
            return (
                f"must be of predictors that are drawn from a distribution of numbers, and {predictor.name} is "
                f'"{predictor.distribution}"; remove it, or write distribution = "normal" or "binary"'
            )
    if a.redraw != b.redraw:
        once, anew = (b, a) if a.redraw else (a, b)
        return (
            f"must be of predictors that are both redrawn or both not, and {once.name} is drawn once; write the same "
            f"redraw in [predictors.{once.name}] and [predictors.{anew.name}]"
        )
    return None


def _check_semidefinite(names: Sequence[str], found: Sequence[tuple[str, str, float]], problems: Problems) -> None:
    some = [(a, b, value) for a, b, value in found if a in names]
    if not some:
        return
    import numpy as np

    matrix = np.eye(len(names))
    for a, b, value in some:
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = value
    if text := indefinite(float(np.linalg.eigvalsh(matrix)[0])):
        problems.add_value("correlation", {f"{a}:{b}": value for a, b, value in some}, text)
