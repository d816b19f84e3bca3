"""What a task gives when a study keeps sums: blocks are reduced as they are fitted; memory does not grow with the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..fit.methods import Analysed, Columns
from ..measure.collect import collect
from ..measure.sums import LEAF, Sums, merge
from ..simulate.centres import centres_of
from ..simulate.priors import draw_truths
from ..spec.estimands import study_estimands
from ..spec.model import Method
from ..spec.truths import true_values
from .block import CompiledCondition
from .columns import every_column
from .names import as_named
from .parts import EXAMPLES, tally
from .summarise import derive, derive_truths, method_results
from .sums import sums_table

__all__ = ["Reduced", "Reduction", "reduced"]

#: Replicates that are reduced at once.
CHUNK = 16_384
_NUMBERS = ("estimate.", "se.", "df.", "p.", "lower.", "upper.")


class Reduced:
    """What is stored of a method: the table of its sums, and what the manifest says of its fits."""

    def __init__(self, table: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
        self.table, self.counts = table, counts


class Reduction:
    """Replicates first, first + 1, ... of a condition by all methods of the study, added block by block."""

    def __init__(self, compiled: CompiledCondition, first: int) -> None:
        self._compiled, self._methods = compiled, compiled.methods
        self._truths = true_values(compiled.condition, self._methods, centres_of(compiled.condition))
        self._estimands = study_estimands(compiled.condition.truth.formula, self._methods)
        self._own = self._own_truths()
        #: As in a part of replicates, a number that a method does not make is absent, not unknown.
        self._numbers = [name for name in every_column(self._estimands, self._methods) if name.startswith(_NUMBERS)]
        self._first, self._waiting = first, 0
        self._parts: list[list[Analysed]] = [[] for _ in self._methods]
        self._counts: list[dict[str, dict[str, Any]]] = [{} for _ in self._methods]
        self._sums: Sums | None = None

    def _own_truths(self) -> list[frozenset[str]]:
        """The estimands of each method, derived ones included, with a truth of each replicate's own: a whole block shows that
        they vary."""
        compiled = self._compiled
        if not compiled.condition.priors:
            return [frozenset()] * len(self._methods)
        drawn = draw_truths(compiled.condition, compiled.key, 0)
        found = []
        for method, columns in zip(self._methods, compiled.truths(drawn), strict=True):
            columns = self._as_named(columns, method)
            columns["replicate"] = np.arange(compiled.condition.block_size)
            columns |= derive_truths(columns, self._truths.of(method.name), self._estimands)
            found.append(frozenset(name.removeprefix("true.") for name in columns if name.startswith("true.")))
        return found

    def _as_named(self, columns: Columns, method: Method) -> Columns:
        own = study_estimands(self._compiled.condition.truth.formula, [method])
        return as_named(columns, method, own, self._estimands)

    def add(self, done: int, block: Sequence[Analysed]) -> None:
        for parts, of_block in zip(self._parts, block, strict=True):
            parts.append(of_block)
        self._waiting += done
        if self._waiting >= CHUNK and (self._first + self._waiting) % LEAF == 0:
            self._reduce()

    def _reduce(self) -> None:
        results = []
        for m, method in enumerate(self._methods):
            columns = self._compiled.joined(m, self._first, self._parts[m])
            columns = self._as_named(columns, method)
            columns = dict.fromkeys(self._numbers, np.full(self._waiting, np.nan)) | columns
            _add_counts(self._counts[m], tally(columns))
            columns |= derive_truths(columns, self._truths.of(method.name), self._estimands, own=self._own[m])
            columns |= derive(columns, self._estimands.values())
            results += method_results(columns, method, self._estimands, self._truths, own=self._own[m])
            self._parts[m].clear()
        found = collect(results, self._truths.shared)
        self._sums = found if self._sums is None else merge([self._sums, found])
        self._first, self._waiting = self._first + self._waiting, 0

    def results(self) -> list[Reduced]:
        """One a method."""
        if self._waiting:
            self._reduce()
        assert self._sums is not None
        return [
            Reduced(sums_table(self._sums.of(method.labels)), counts)
            for method, counts in zip(self._methods, self._counts, strict=True)
        ]


def reduced(compiled: CompiledCondition, first: int, last: int) -> list[Reduced]:
    """Replicates first .. last - 1 of a condition, one a method."""
    reduction = Reduction(compiled, first)
    for done, block in compiled.analysed(first, last):
        reduction.add(done, block)
    return reduction.results()


def _add_counts(counts: dict[str, dict[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> None:
    """Take in what `tally` says of the next replicates; where conditions ended early is not told of sums."""
    for which in ("statuses", "inference"):
        mine = counts.setdefault(which, {})
        for name, count in more[which].items():
            mine[name] = mine.get(name, 0) + count
    examples = counts.setdefault("examples", {})
    for name, found in more["examples"].items():
        examples[name] = [*examples.get(name, []), *found][:EXAMPLES]
