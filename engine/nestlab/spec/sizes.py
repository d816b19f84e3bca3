"""Cluster sizes of one condition: from the flat values to `model.Layout`, and what is wrong with them.

The flat form has `design.cluster_size`, a number or one per cluster, or the keys of a distribution below it, or those of each
arm below `design.cluster_size.arms.1`, `.2`, ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from .model import Layout, Predictor, Sizes
from .problems import Items, Made, Problems, show
from .tables import SizesTable

__all__ = [
    "MOST_ARMS",
    "SIZE",
    "Turns",
    "expected",
    "layout_words",
    "longest",
    "read_layout",
    "read_size",
    "size_words",
]

SIZE = "design.cluster_size"
MOST_ARMS = 9
_KEYS = tuple(SizesTable.model_fields)
_FITTING = {
    "poisson": ("mean", "minimum", "redraw"),
    "negative-binomial": ("mean", "cv", "minimum", "redraw"),
    "uniform": ("mean", "cv", "minimum", "redraw"),
    "lognormal": ("mean", "cv", "minimum", "redraw"),
    "empirical": ("values", "minimum", "redraw", "in_turn"),
}
_EXAMPLE = '{ distribution = "poisson", mean = 20 }'

#: A predictor whose distribution is "arms": name, clusters of each arm, redraw, whether the clusters follow from shares.
Arms: TypeAlias = tuple[str, tuple[int, ...], bool, bool]


@dataclass(frozen=True, slots=True)
class Turns:
    """Sizes that clusters take in turn."""

    values: tuple[int, ...]


Size: TypeAlias = int | tuple[int, ...] | Turns | Sizes


def read_layout(flat: Mapping[str, Any], arms: Sequence[Predictor]) -> Made[Layout]:
    """The layout as the flat values have it. arms: the predictors whose distribution is "arms"."""
    items = tuple((path, value) for path, value in flat.items() if path.startswith(SIZE))
    counts = tuple((p.name, p.arms, p.redraw, bool(p.shares)) for p in arms)
    return _read(flat.get("design.clusters"), items, counts)


@lru_cache(maxsize=4096)
def _read(given: int | None, items: Items, arms: tuple[Arms, ...]) -> Made[Layout]:
    problems, flat = Problems(), dict(items)
    clusters = given if given is not None else sum(arms[0][1])
    for name, counts, _, _ in arms:
        if sum(counts) != clusters:
            whose = "design.clusters" if given is not None else f"predictors.{arms[0][0]}.clusters"
            text = f"must sum to the {clusters} clusters of {whose}, and sum to {sum(counts)}; correct one of the two"
            problems.add_value(f"predictors.{name}.clusters", counts, text)
    if problems:
        return Made(None, tuple(problems))
    below = sorted({path.split(".")[3] for path in flat if path.startswith(f"{SIZE}.arms.")})
    if below:
        return _by_arm(flat, below, arms, problems)
    read = read_size(flat, SIZE, problems)
    if read is None:
        return Made(None, tuple(problems))
    if isinstance(read, tuple) and len(read) != clusters:
        text = (
            f"must have one size per cluster, {clusters} (design.clusters) and not {len(read)}; "
            "correct the list or the number of clusters"
        )
        problems.add_value(SIZE, read, text)
        return Made(None, tuple(problems))
    return Made(_layout([(clusters, read)]))


def _by_arm(flat: Mapping[str, Any], below: Sequence[str], arms: Sequence[Arms], problems: Problems) -> Made[Layout]:
    written = [flat.get(f"{SIZE}.arms.{number}", "{ ... }") for number in below]
    if len(arms) != 1:
        what = "none" if not arms else f"{len(arms)} ({', '.join(arm[0] for arm in arms)})"
        text = (
            f'needs one predictor with distribution = "arms", and there is {what}; add one, or write one size for all'
        )
        problems.add(f"{SIZE}.arms", text)
        return Made(None, tuple(problems))
    name, counts, redraw, by_shares = arms[0]
    if len(below) != len(counts):
        text = f"must be a size for each arm of {name}, {len(counts)} and not {len(below)}; correct them"
        problems.add_value(f"{SIZE}.arms", written, text)
    if redraw:
        text = f"must be false or absent where {SIZE} goes by arm; remove it"
        problems.add_value(f"predictors.{name}.redraw", True, text)
    read = [read_size(flat, f"{SIZE}.arms.{number}", problems) for number in below]
    if problems:
        return Made(None, tuple(problems))
    parts = [(n, size) for n, size in zip(counts, read, strict=True) if size is not None]
    return Made(_layout(parts, scaling=by_shares))


def _layout(parts: Sequence[tuple[int, Size]], *, scaling: bool = False) -> Layout:
    """scaling: whether the parts are arms that follow the number of clusters."""
    sizes: list[int] = []
    for clusters, size in parts:
        each = expected(size) if isinstance(size, Sizes) else size
        if isinstance(each, Turns):
            each = tuple(each.values[k % len(each.values)] for k in range(clusters))
        sizes += [each] * clusters if isinstance(each, int) else each
    turns: tuple[tuple[int, ...], ...] = ()
    if scaling or any(isinstance(size, Turns) for _, size in parts):
        turns = tuple(
            size.values if isinstance(size, Turns) else (size,) if isinstance(size, int) else () for _, size in parts
        )
    drawn = tuple((n, size if isinstance(size, Sizes) else None) for n, size in parts)
    return Layout(tuple(sizes), drawn if any(size is not None for _, size in drawn) else (), turns)


def read_size(flat: Mapping[str, Any], path: str, problems: Problems) -> Size | None:
    """A number, a list, sizes in turn or a distribution; None if it cannot be used."""
    given = {key: flat[f"{path}.{key}"] for key in _KEYS if f"{path}.{key}" in flat}
    if path in flat:
        for key in given:
            example = f'{{ distribution = "lognormal", mean = {flat[path]}, cv = 0.5 }}'
            text = f"belongs to a distribution of sizes, and {path} = {show(flat[path])}; write {path} = {example}, or remove it"
            problems.add(f"{path}.{key}", text)
        size: int | tuple[int, ...] = flat[path]
        return None if given else size
    kind = given.get("distribution") or ("empirical" if "values" in given else None)
    if kind is None:
        text = f"must have a distribution, or file and column; write {path} = {_EXAMPLE}"
        problems.add_value(path, {key: given[key] for key in given}, text)
        return None
    for key in given:
        if key not in ("distribution", "source", *_FITTING[kind]) and not (key == "column" and "file" in given):
            problems.add_number(f"{path}.{key}", given[key], _idle(kind, key))
    for key in ("mean", "cv"):
        if key in _FITTING[kind] and key not in given:
            example = {"mean": "20", "cv": "0.5"}[key]
            problems.add(f"{path}.{key}", f'is missing: distribution = "{kind}" needs it; add {key} = {example}, say')
    if given.get("in_turn") and given.get("redraw"):
        text = "must be false or absent where clusters take the sizes in turn; remove it, or in_turn"
        problems.add_value(f"{path}.redraw", True, text)
    if problems:
        return None
    if given.get("in_turn"):
        sizes = tuple(max(given.get("minimum", 1), value) for value in given["values"])
        return sizes[0] if len(set(sizes)) == 1 else Turns(sizes)
    return _distribution(kind, given, path, problems)


def _idle(kind: str, key: str) -> str:
    if kind == "empirical":
        return "must be absent where sizes are those of a column; remove it, or remove file, column and values"
    if kind == "poisson" and key == "cv":
        return 'must be absent for distribution = "poisson", whose cv is 1 / sqrt(mean); remove it, or write "negative-binomial"'
    return f'must be absent for distribution = "{kind}"; remove it'


def _distribution(kind: str, given: Mapping[str, Any], path: str, problems: Problems) -> int | Sizes | None:
    mean, cv = float(given.get("mean", 0.0)), float(given.get("cv", 0.0))
    minimum, values = int(given.get("minimum", 1)), tuple(given.get("values", ()))
    if kind == "negative-binomial" and cv * cv * mean <= 1:
        least = 1 / math.sqrt(mean)
        text = (
            f'must be more than {least:.3g} = 1 / sqrt(mean) for distribution = "{kind}"; raise it, or write "poisson" (equal), '
            '"uniform" or "lognormal" (less)'
        )
        problems.add_number(f"{path}.cv", cv, text)
    most = (1 - minimum / mean) / math.sqrt(3) if mean else 0.0
    if kind == "uniform" and minimum <= mean and cv > most:
        text = (
            f"must be at most {most:.3g} for sizes that are uniform about {mean:g} and not below {minimum}; lower it, or write "
            'distribution = "lognormal"'
        )
        problems.add_number(f"{path}.cv", cv, text)
    if kind != "empirical" and minimum > mean:
        text = f"must be at most the mean, {mean:g}; lower it, or raise the mean"
        problems.add_value(f"{path}.minimum", minimum, text)
    if problems:
        return None
    if kind in ("uniform", "lognormal") and cv == 0:
        return int(max(minimum, round(mean)))
    if kind == "empirical" and max(minimum, min(values)) == max(minimum, max(values)):
        return int(max(minimum, max(values)))
    return Sizes(kind, mean, cv, values, minimum, given.get("redraw", True))


def expected(sizes: Sizes) -> int:
    """The mean size, rounded.

    >>> expected(Sizes("empirical", values=(1, 2, 6), minimum=2))
    3
    """
    if sizes.kind != "empirical":
        return max(sizes.minimum, round(sizes.mean))
    return round(sum(max(value, sizes.minimum) for value in sizes.values) / len(sizes.values))


def longest(layout: Layout) -> float:
    """The most rows that a cluster may have; infinite where sizes have no bound."""
    if not layout.drawn:
        return max(layout.sizes)
    most, first = 0.0, 0
    for clusters, sizes in layout.drawn:
        if sizes is None:
            most = max(most, *layout.sizes[first : first + clusters])
        elif sizes.kind == "empirical":
            most = max(most, *sizes.values)
        elif sizes.kind == "uniform":
            most = max(most, math.ceil(sizes.mean * (1 + math.sqrt(3) * sizes.cv)))
        else:
            return math.inf
        first += clusters
    return most


def layout_words(layout: Layout) -> Any:
    """A number, a list where sizes differ, or the words of their distribution; of arms one after the other."""
    if not layout.drawn and not layout.turns:
        return layout.sizes[0] if len(set(layout.sizes)) == 1 else list(layout.sizes)
    described: list[Any] = []
    first = 0
    for part, (clusters, sizes) in enumerate(layout.drawn or [(0, None)] * len(layout.turns)):
        turn = layout.turns[part] if layout.turns else (layout.sizes[first],)
        words: Any = turn[0] if len(turn) == 1 else {"values": list(turn), "in_turn": True}
        described.append(size_words(sizes) if sizes else words)
        first += clusters
    return (
        described[0] if len(described) == 1 else {"arms": {str(k): size for k, size in enumerate(described, start=1)}}
    )


def size_words(sizes: Sizes) -> dict[str, Any]:
    """The distribution in the study file's words."""
    made: dict[str, Any] = {}
    if sizes.kind == "empirical":
        made["values"] = list(sizes.values)
    else:
        made |= {"distribution": sizes.kind, "mean": float(sizes.mean)}
        made |= {"cv": float(sizes.cv)} if sizes.kind != "poisson" else {}
    return made | {"minimum": sizes.minimum, "redraw": sizes.redraw}
