"""Differences between the methods of a run, condition by condition, from what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from ..measure.paired import COMPARED, Difference, as_table, compare
from ..spec.estimands import method_estimands
from ..spec.measures import WHOLE
from ..spec.model import Method
from ..spec.problems import StudyError, nearest, show
from .store import Store, StoredCondition
from .summarise import Summaries, beside_conditions

__all__ = ["Names", "compare_methods"]

Names = str | Sequence[str] | None


def compare_methods(
    store: Store,
    rows: Iterable[StoredCondition],
    methods: Sequence[Method],
    *,
    reference: str | None,
    measure: Names,
    estimand: Names,
    method: Names,
    known: Sequence[str],
) -> pd.DataFrame:
    """The table of `StoredResults.compare`. rows: the active conditions; known: the estimands that the results have."""
    base, others = _pairs(methods, reference, method)
    measures = [_known("measure", name, COMPARED) for name in _listed(measure)] or COMPARED
    estimands = [_known("estimand", name, [e for e in known if e]) for name in _listed(estimand)]
    if estimands and measure is None:
        measures = [m for m in measures if m not in WHOLE]
    rows, wanted = list(rows), {base, *others}
    summaries = Summaries(store, rows, methods, "distribution-free")
    found: dict[int, list[Difference]] = {}
    for row in rows:
        results = [r for r in summaries.results(row, wanted) if r.name in wanted]
        if any(r.name == base for r in results):
            made = compare(results, row.truth, reference=base, measures=measures, estimands=estimands or None)
            found[row.number] = made
    differences = as_table([each for made in found.values() for each in made])
    table = beside_conditions([(row, len(found.get(row.number, ()))) for row in rows], differences)
    table.attrs["reference"] = base
    table.attrs["apart"] = _apart(rows, methods, base, wanted, estimands)
    return table


def _apart(
    rows: Sequence[StoredCondition], methods: Sequence[Method], base: str, wanted: set[str], estimands: Sequence[str]
) -> dict[str, list[str]]:
    """The methods, by estimand, to which an estimand means something else than to the reference."""
    reference = next(m for m in methods if base in m.labels)
    known = next((row.estimands(methods) for row in rows), {})
    of_reference, asked = method_estimands(reference, known), estimands or list(known)
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        theirs = row.truths.meanings.get(reference.name, {})
        for method in (m for m in methods if wanted & set(m.labels)):
            mine = row.truths.meanings.get(method.name, {})
            for name in (n for n in method_estimands(method, known) if n in of_reference and n in asked):
                if mine.get(name) != theirs.get(name):
                    found.setdefault(name, {})[method.name] = None
    return {name: list(names) for name, names in found.items()}


def _pairs(methods: Sequence[Method], reference: str | None, method: Names) -> tuple[str, list[str]]:
    """The label of the reference and those that are compared with it."""
    labels = [label for m in methods for label in m.labels]
    if len(labels) < 2:
        text = f"the results have one method, {labels[0]}, and nothing to compare it with"
        raise StudyError([f"{text}; add a [[method]] or a rule of df"])
    chosen = labels[:1] if reference is None else _some("reference", reference, methods)
    if len(chosen) > 1:
        text = f"has several rules of df, and must be one; use {' or '.join(chosen)}"
        raise StudyError([f"reference = {show(reference)}: {text}"])
    base = chosen[0]
    others = [label for name in _listed(method) for label in _some("method", name, methods)] or labels
    if others == [base]:
        raise StudyError([f"method = {show(base)}: is the reference itself; name another, or another reference"])
    return base, others


def _listed(names: Names) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


def _known(key: str, name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    raise StudyError([f"{key} = {show(name)}: is no {key} that can be compared here; {nearest(name, known)}"])


def _some(key: str, name: str, methods: Sequence[Method]) -> tuple[str, ...]:
    """The labels that a name stands for: its own, or those of all rules of a method."""
    for m in methods:
        if name == m.name:
            return m.labels
    return (_known(key, name, [label for m in methods for label in m.labels]),)
