"""The design of a pilot as a study can make it: clusters with their sizes, and each predictor as a distribution or as it is.

A plan says how every predictor is made. The first ones draw what was drawn in the pilot from a distribution like it: a share and
an intraclass correlation, a mean, an sd and correlations. The last one takes the pilot's own clusters in turn, row by row.
`pilot_check` chooses the first plan whose standard errors are those of the pilot. `pilot_several` makes those of several
grouping factors from the same parts: the levels of a factor, or the cells, are clusters there.

Clusters that come in turn stand in an order of which every beginning is like the whole: sorted by what distinguishes them, and
then taken in the order of the van der Corput sequence, whose first m points are spread evenly over the ranks whatever m is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.predictors import DISTRIBUTIONS, PredictorDistribution
from .pilot_columns import PilotColumn
from .study_text import number, resolved

__all__ = ["MOST_NUMBERS", "PilotPlan", "PilotPredictor", "PilotRows", "is_constant", "one_factor_plans", "reasons"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: A share of the variance between clusters, and a correlation, below which nothing is written.
_LEAST_SHARE = 0.005
_LEAST_CORRELATION = 0.01
#: Most numbers of a plan that takes rows as they are; with more it takes some of the clusters.
MOST_NUMBERS = 20_000
#: A predictor with at most so many values is called discrete; so many numbers tell its shares.
_FEW, _RESAMPLED = 10, 200


@dataclass(frozen=True, slots=True)
class PilotPredictor:
    """A predictor as a study makes it: its keys without the level, what is said beside the distribution, and what the data have
    otherwise. level: 1 or 2, or with several grouping factors the one, or the crossing, on whose levels it lives."""

    name: str
    level: int | str
    words: Mapping[str, Any]
    comment: str = ""
    notes: tuple[str, ...] = ()

    @property
    def in_turn(self) -> bool:
        """Whether clusters have the pilot's values, one after the other."""
        row = self.row
        return row.listed and not row.crossed and (self.level != 1 or row.turn is not None)

    @property
    def row(self) -> PredictorDistribution:
        return DISTRIBUTIONS[self.words["distribution"]]


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """Predictors, correlations between them, and sizes as a study has them. sizes: a number, or a table. factors: with several
    grouping factors, each as [design.factors] has it; sizes are those of cells then, absent where a file has the rows. taken:
    clusters that are taken row by row, 0 if none are. why: the plan is not the first, and what would be wrong with that."""

    predictors: tuple[PilotPredictor, ...]
    correlations: tuple[tuple[str, str, float], ...]
    sizes: int | Mapping[str, Any] | None
    factors: Mapping[str, int | Mapping[str, Any]] = field(default_factory=dict)
    taken: int = 0
    why: str = field(default="")

    @property
    def searchable(self) -> bool:
        """Whether `nestlab solve` can search numbers of levels: of several factors they must not be listed, nor be of rows."""
        lists = [
            self.sizes,
            *(own["number"] for own in self.factors.values() if isinstance(own, Mapping) and "number" in own),
        ]
        return not self.factors or all(isinstance(number, int) for number in lists)

    @property
    def of_rows(self) -> bool:
        """Whether the rows of the design are the pilot's, so that no number of levels can be another."""
        return self.sizes is None


def one_factor_plans(columns: Sequence[PilotColumn], groups: Integers, longest: int) -> Iterator[PilotPlan]:
    """The plans of a pilot of one grouping factor, the most like its predictors' distributions first.

    groups (N): the cluster of each row, 0 .. J - 1; longest: the rows of the largest cluster that the study will have.
    """
    pilot = PilotRows(columns, groups)
    if not pilot.kept:
        yield pilot.drawn()
    if pilot.outer or pilot.kept:
        yield pilot.in_turn(pilot.kept, longest)
    free = [c for c in pilot.inner if not pilot.is_placed(c)]
    if len(free) > len(pilot.kept.keys() & {c.name for c in free}):
        yield pilot.in_turn({c.name: "" for c in free}, longest)


class PilotRows:
    """A pilot's rows: sorted by cluster, in it by the visits that all clusters share.

    place: with several grouping factors, where all of the columns live: on the levels of a factor or a crossing, which are the
    clusters, or 1 for rows, of which the cells are clusters. What is drawn for rows is then drawn for each by itself.
    """

    def __init__(self, columns: Sequence[PilotColumn], groups: Integers, place: int | str | None = None) -> None:
        columns = [replace(column, values=_rounded(column.values)) for column in columns]
        self.J = int(groups.max()) + 1
        self.sizes = np.bincount(groups)
        self.alone, self.place = place is None, place or 2
        self.outer = tuple(c for c in columns if (is_constant(c.values, groups) if self.alone else place != 1))
        self.inner = tuple(c for c in columns if c not in self.outer)
        self.visits: dict[str, Array] = {}
        order = np.argsort(groups, kind="stable")
        for column in self.inner:
            tried = [*self.visits, column.name]
            sorted_by = [c.values for c in self.inner if c.name in tried]
            own = np.lexsort((*sorted_by[::-1], groups))
            if found := self._shared_rows(tried, own):
                self.visits, order = found, own
        self.groups, self.values = groups, {c.name: c.values for c in columns}
        if not self.visits:  # as visits if there are any, else so that the first rows of a cluster are like all of them
            visits = [c.values for c in self.inner if self._is_visit(c)]
            order = np.lexsort((*(visits or [np.random.default_rng(0).random(len(groups))])[::-1], groups))
        self.groups, self.values = groups[order], {c.name: c.values[order] for c in columns}
        self.ends = np.cumsum(self.sizes)
        self.turns = self._turns()
        self.kept = self._as_they_are()

    @property
    def cluster(self) -> str:
        """What a cluster is called."""
        return "cluster" if self.alone else "cell"

    @property
    def clusters(self) -> str:
        """What several are called."""
        if self.alone:
            return "clusters"
        return "cells" if self.place == 1 else f"levels of {self.place}"

    def _shared_rows(self, names: Sequence[str], order: Integers) -> dict[str, Array]:
        """The rows of the largest cluster, of which every cluster has the first ones; nothing if that is not so."""
        starts = np.cumsum(self.sizes) - self.sizes
        largest = int(self.sizes.argmax())
        place = np.arange(len(order)) - np.repeat(starts, self.sizes)
        found: dict[str, Array] = {}
        for column in (c for c in self.inner if c.name in names):
            values = column.values[order]
            found[column.name] = values[starts[largest] : starts[largest] + self.sizes[largest]]
            if (values != found[column.name][place]).any():
                return {}
        return found

    def is_placed(self, column: PilotColumn) -> bool:
        """Whether a level-1 predictor is a function of the row's place in its cluster."""
        return column.name in self.visits or self._is_halved(column)

    def _is_halved(self, column: PilotColumn) -> bool:
        odd = 1 if self.alone else 0  # with several grouping factors no turns are taken by odd rows
        missed = np.abs(2 * self._sums(column.name) - self.sizes)
        return set(np.unique(column.values)) == {0.0, 1.0} and bool((missed <= odd).all())

    def _sums(self, name: str) -> Array:
        return np.asarray(np.bincount(self.groups, weights=self.values[name]), dtype=float)

    def _means(self, name: str) -> Array:
        return np.asarray(self._sums(name) / self.sizes)

    def _turns(self) -> Integers:
        """Clusters in an order of which every beginning is like the whole."""
        outer = sorted(self.outer, key=lambda c: len(np.unique(c.values)))
        keys = [self._means(c.name) for c in outer] + [self.sizes.astype(float)]
        keys += [self._means(c.name) for c in self.inner]
        ranked = np.lexsort(keys[::-1])
        bits = max(1, int(self.J - 1).bit_length())
        order = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
        return np.asarray(ranked[[k for k in order if k < self.J]], dtype=np.int64)

    def _as_they_are(self) -> dict[str, str]:
        """Predictors whose values are the pilot's in every plan, and why: no distribution of one predictor has them."""
        found: dict[str, str] = {}
        for column in self.outer + self.inner:
            others = [c for c in self.outer + self.inner if c is not column and c.variables & column.variables]
            if others and not self.is_placed(column):
                found[column.name] = (
                    f"{column.name} goes with {' and '.join(c.name for c in others)}, made of one column"
                )
            elif column in self.outer and self._is_discrete(column):
                found[column.name] = f"{column.name} has a few values only"
            elif self._is_visit(column) and not self.is_placed(column):
                found[column.name] = f"clusters have different values of {column.name}, each once"
        return found

    def _is_discrete(self, column: PilotColumn) -> bool:
        values = np.unique(column.values)
        return len(values) <= _FEW and not column.categories and values.tolist() != [0.0, 1.0]

    def _is_visit(self, column: PilotColumn) -> bool:
        """Whether every cluster has each value once, of a few that clusters share."""
        if column in self.outer or column.categories:
            return False
        pairs = np.unique(np.stack([self.groups, self.values[column.name]]), axis=1)
        few = len(np.unique(column.values)) <= 2 * self.sizes.max()
        return bool(few and pairs.shape[1] == len(self.groups) > self.J)

    # -- plans -----------------------------------------------------------------------------------------------------------------

    def drawn(self) -> PilotPlan:
        """Every predictor from a distribution, or by its place."""
        between, within = self.drawn_between(), self.drawn_within()
        arms = next((p.name for p in between if p.row.outer), None)
        sizes = self._sizes(self.turns) if arms is None else self._sizes_by_arm(arms)
        return PilotPlan((*between, *within), self.correlations(between, within), sizes)

    def in_turn(self, kept: Mapping[str, str], longest: int) -> PilotPlan:
        """Level-2 predictors and those of level 1 in `kept` as the pilot's clusters have them, one after the other.

        kept: why, by predictor.
        """
        copied = sum(c.name in kept for c in self.inner)
        turns = self.turns[: max(2, MOST_NUMBERS // (longest * copied))] if copied else self.turns
        within = self.drawn_within(kept, turns, longest)
        return PilotPlan(
            (*self.listed(turns), *within), self.correlations([], within), self._sizes(turns),
            taken=len(turns) * bool(copied), why=reasons(kept),
        )  # fmt: skip

    def _sizes(self, turns: Integers) -> int | Mapping[str, Any]:
        sizes = self.sizes[turns].tolist()
        return sizes[0] if len(set(sizes)) == 1 else {"values": sizes, "in_turn": True}

    def _sizes_by_arm(self, name: str) -> Mapping[str, Any]:
        arm = self._means(name)[self.turns]
        return {"arms": [self._sizes(self.turns[arm == value]) for value in np.unique(arm)]}

    # -- level 2 ---------------------------------------------------------------------------------------------------------------

    def drawn_between(self) -> list[PilotPredictor]:
        """Level-2 predictors as allocations with the pilot's shares, and as distributions."""
        factors = [c for c in self.outer if c.categories or set(np.unique(c.values)) == {0.0, 1.0}]
        arms = self.alone and len(factors) == 1
        return [self._allocation(c, arms=arms) if c in factors else self._normal(c) for c in self.outer]

    def _allocation(self, column: PilotColumn, *, arms: bool) -> PilotPredictor:
        """arms: whether it is the only one, which sizes may go by."""
        counts = np.bincount(np.round(self._means(column.name)).astype(int))
        equal = len(set(self.sizes.tolist())) == 1
        comment = f"{' + '.join(map(str, counts))} {self.clusters}, as in the data"
        if not column.categories and abs(int(counts[0] - counts[1])) <= 1 and (equal or not arms):
            return PilotPredictor(
                column.name, self.place, {"distribution": "balanced"}, f"half of the {self.clusters} are 0, half 1"
            )
        words: dict[str, Any] = {"distribution": "balanced" if equal or not arms else "arms"}
        words |= {"categories": list(column.categories)} if column.categories else {}
        words["shares"] = (counts // np.gcd.reduce(counts)).tolist()
        return PilotPredictor(column.name, self.place, words, comment)

    def listed(self, turns: Integers | None = None) -> list[PilotPredictor]:
        """Level-2 predictors as the clusters have them."""
        found = []
        for column in self.outer:
            values = self._means(column.name)[self.turns if turns is None else turns]
            values = values[: self._period(values)]
            words: dict[str, Any] = {"distribution": "list"}
            if column.categories:
                words |= {"categories": list(column.categories), "values": np.round(values).astype(int).tolist()}
                comment = f"the pilot's {self.clusters} in turn, numbers of the categories"
            else:
                words["values"] = self._numbers(values)
                comment = f"the pilot's {self.clusters} in turn"
            found.append(PilotPredictor(column.name, self.place, words, comment))
        return found

    def _period(self, values: Array) -> int:
        """After how many levels of a factor their values come again, as a list does after its last one."""
        if self.alone:
            return len(values)
        sizes = (n for n in range(2, len(values) + 1) if len(values) % n == 0)
        return next(n for n in sizes if (values.reshape(-1, n) == values[:n]).all())

    def _numbers(self, values: Array) -> list[float]:
        spread = float(values.std())
        return [resolved(float(v), spread / 100) for v in values]

    # -- level 1 ---------------------------------------------------------------------------------------------------------------

    def drawn_within(
        self, kept: Collection[str] = (), turns: Integers | None = None, longest: int = 0
    ) -> list[PilotPredictor]:
        """Level-1 predictors by their place in the cluster or from a distribution, those in `kept` as clusters have them."""
        turns = self.turns if turns is None else turns
        return [
            self._sequences(c, turns, longest) if c.name in kept else self._placed(c) or self._distributed(c)
            for c in self.inner
        ]

    def _placed(self, column: PilotColumn) -> PilotPredictor | None:
        name = column.name
        if self._is_halved(column) and name not in self.visits:
            half = f"half of the rows of each {self.cluster} are 0, half 1"
            return PilotPredictor(name, 1, {"distribution": "balanced"}, half)
        if name not in self.visits:
            return None
        rows = self.visits[name]
        if column.categories:
            words = {"distribution": "list", "categories": list(column.categories), "values": rows.astype(int).tolist()}
            return PilotPredictor(name, 1, words, f"the rows of every {self.cluster}, numbers of the categories")
        steps = np.diff(rows)
        if len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9, atol=0):
            words = {"distribution": "time", "start": number(float(rows[0]), 15), "step": number(float(steps[0]), 15)}
            return PilotPredictor(name, 1, words, "as in the data")
        words = {"distribution": "list", "values": self._numbers(rows)}
        return PilotPredictor(name, 1, words, f"the rows of every {self.cluster}, as in the data")

    def _distributed(self, column: PilotColumn) -> PilotPredictor:
        name, x = column.name, self.values[column.name]
        if column.categories:
            counts = np.bincount(x.astype(int), minlength=len(column.categories))
            shares = [float(n) for n in counts / counts.sum()]
            words: dict[str, Any] = {
                "distribution": "categorical",
                "categories": list(column.categories),
                "shares": shares,
            }
            return PilotPredictor(name, 1, words, "shares as in the data")
        if set(np.unique(x)) == {0.0, 1.0}:
            share = float(x.mean())
            words = {"distribution": "binary", "share": number(share), **self._icc(self._components(name))}
            return PilotPredictor(name, 1, words, "share of ones as in the data")
        if self._is_discrete(column) and not self._icc(self._components(name)):
            values, counts = np.unique(x, return_counts=True)
            each = np.maximum(1, np.round(counts / counts.sum() * min(len(x), _RESAMPLED))).astype(int)
            each = each // np.gcd.reduce(each)
            words = {"distribution": "resampled", "values": [number(float(v), 15) for v in np.repeat(values, each)]}
            return PilotPredictor(name, 1, words, "drawn from these, in the shares of the data")
        return self._normal(column)

    def _normal(self, column: PilotColumn) -> PilotPredictor:
        x = self.values[column.name]
        if column in self.outer:
            own = self._means(column.name)
            words = {"mean": float(own.mean()), "sd": float(own.std(ddof=1))}
        else:
            within, between = self._components(column.name)
            words = {"mean": float(x.mean()), "sd": float(np.sqrt(within + between)), **self._icc((within, between))}
        words |= {"mean": resolved(words["mean"], words["sd"]), "sd": number(words["sd"])}
        level = self.place if column in self.outer else 1
        shown = ", ".join(f"{v:g}" for v in np.unique(x)[: _FEW + 1])
        notes = (f"it has the values {shown} in the data; here it is continuous",) * self._is_discrete(column)
        return PilotPredictor(column.name, level, {"distribution": "normal", **words}, notes=notes)

    def _components(self, name: str) -> tuple[float, float]:
        """The variances of a predictor within and between clusters, by the analysis of variance; none is below 0."""
        x, means, N = self.values[name], self._means(name), len(self.groups)
        if not self.alone:
            return float(x.var(ddof=1)), 0.0
        squares = float(((x - means[self.groups]) ** 2).sum())
        within = squares / max(1, N - self.J)
        size = (N - float((self.sizes**2).sum()) / N) / (self.J - 1)
        between = float((self.sizes * (means - x.mean()) ** 2).sum()) / (self.J - 1)
        return within, max(0.0, (between - within) / size)

    def _icc(self, components: tuple[float, float]) -> dict[str, float]:
        within, between = components
        share = between / (between + within) if between > 0 else 0.0
        return {"icc": number(min(share, 0.999), 4)} if share >= _LEAST_SHARE else {}

    def _sequences(self, column: PilotColumn, turns: Integers, longest: int) -> PilotPredictor:
        """A cluster's rows as a sequence; shorter clusters start again, so that every study size has rows like theirs."""
        x = self.values[column.name]
        values = x if column.categories else np.array(self._numbers(x))
        rows = [
            np.resize(values[self.ends[j] - self.sizes[j] : self.ends[j]], longest).tolist() for j in turns.tolist()
        ]
        words: dict[str, Any] = {"distribution": "schedule"}
        words |= {"categories": list(column.categories)} if column.categories else {}
        words["sequences"] = [[number(v, 15) for v in row] for row in rows]
        return PilotPredictor(column.name, 1, words, f"the rows of the pilot's {self.clusters}, which come in turn")

    # -- correlations ----------------------------------------------------------------------------------------------------------

    def correlations(
        self, between: Sequence[PilotPredictor], within: Sequence[PilotPredictor]
    ) -> tuple[tuple[str, str, float], ...]:
        """Of what is drawn; at level 1 those within clusters, of which a part of the variance is between them."""
        found = []
        for predictors in (between, within):
            drawn = [p for p in predictors if p.row.correlated]
            for a, b in combinations(drawn, 2):
                if a.level != 1:
                    r = _correlation(self._means(a.name), self._means(b.name))
                elif not self.alone:
                    r = _correlation(self.values[a.name], self.values[b.name])
                else:
                    x, z = (self.values[p.name] - self._means(p.name)[self.groups] for p in (a, b))
                    s, t = (float(p.words.get("icc", 0.0)) for p in (a, b))
                    r = _correlation(x, z) * float(np.sqrt(s * t) + np.sqrt((1 - s) * (1 - t)))
                if abs(r) >= _LEAST_CORRELATION:
                    found.append((a.name, b.name, float(number(r, 3))))
        return tuple(found)


def reasons(kept: Mapping[str, str]) -> str:
    """Why predictors are taken as they are, each reason once."""
    return "; ".join(dict.fromkeys(reason for reason in kept.values() if reason))


def _rounded(x: Array) -> Array:
    """Without the last digits, in which values that are computed differ although they are one."""
    most = float(np.abs(x).max())
    return np.asarray(np.round(x, 12 - int(np.ceil(np.log10(most))))) if most > 0 else x


def is_constant(x: Array, groups: Integers) -> bool:
    """Whether it has one value in every cluster."""
    low, high = np.full(groups.max() + 1, np.inf), np.full(groups.max() + 1, -np.inf)
    np.minimum.at(low, groups, x)
    np.maximum.at(high, groups, x)
    return bool((low == high).all())


def _correlation(x: Array, z: Array) -> float:
    return float(np.corrcoef(x, z)[0, 1]) if x.std() > 0 and z.std() > 0 else 0.0
