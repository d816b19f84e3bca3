"""Damage that can be undone: parts that are computed anew, a manifest and a table of conditions that are made from the parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..simulate.centres import centres_of
from ..spec.identity import data_key, describe, flatten, result_key
from ..spec.model import Condition, Method
from ..spec.truths import true_values
from .files import RefusedError
from .lock import locked
from .manifest import BrokenManifestError, read_manifest
from .store import Store, StoredCondition

__all__ = ["read_or_recover", "repair_parts", "set_aside_manifest"]


def set_aside_manifest(folder: Path) -> list[str]:
    """Rename a manifest that cannot be read; says so."""
    try:
        read_manifest(folder)
    except BrokenManifestError:
        with locked(folder):
            os.replace(folder / "manifest.json", folder / "manifest.json.damaged")
        return ["manifest.json could not be read: made anew from the parts (the old one is manifest.json.damaged)"]
    return []


def repair_parts(store: Store) -> list[str]:
    """Remove every part that is not what was written, or that holds what another one holds, and have the summary measured anew;
    says which. Under the lock."""
    store.forget_missing()
    lost = [part.file for part in store.damaged(every=True)]
    for name in sorted(store.files()):
        if name not in store.parts:
            try:
                store.adopt(name)
            except RefusedError:
                lost.append(name)
    for file in lost:
        store.remove(file)
    lost += _doubled(store)
    listed = ", ".join(lost[:5]) + (f" and {len(lost) - 5:,} more" if len(lost) > 5 else "")
    checked = f"{len(store.parts) + len(lost):,} parts checked"
    said = f"{checked}, {len(lost):,} removed to be computed anew: {listed}" if lost else f"{checked}, all as written"
    told = [said]
    try:
        store.has_summary()
    except RefusedError:
        told.append("summary.parquet was altered: made anew from the parts")
    store.forget_file("summary.parquet")
    return told


def _doubled(store: Store) -> list[str]:
    """Remove the shorter of two parts that hold the same replicates."""
    groups: dict[tuple[int, str], list[tuple[int, int, str]]] = {}
    for part in store.parts:
        groups.setdefault((part.condition, part.result_key), []).append((part.first, part.last, part.file))
    lost = []
    for group in groups.values():
        group.sort()
        while clash := next(((a, b) for a, b in pairwise(group) if b[0] < a[1]), None):
            shorter = min(clash, key=lambda part: (part[1] - part[0], -len(part[2]), part[2]))
            group.remove(shorter)
            store.remove(shorter[2])
            lost.append(shorter[2])
    return lost


def read_or_recover(
    store: Store, conditions: Sequence[Condition], methods: Sequence[Method]
) -> tuple[list[StoredCondition], list[str]]:
    """conditions.parquet, or, where it is damaged, what the parts tell of the study's conditions; and what was done."""
    try:
        return store.read_conditions(), []
    except RefusedError:
        pass
    numbers = {part.result_key: part.condition for part in store.parts}
    taken = set(numbers.values())
    rows = []
    free = max([*taken, len(conditions) - 1]) + 1
    for position, condition in enumerate(conditions):
        key = data_key(condition)
        number = next((numbers[k] for m in methods if (k := result_key(key, m)) in numbers), None)
        if number is None and position not in taken:
            number = position
        elif number is None:
            number, free = free, free + 1
        truths = true_values(condition, methods, centres_of(condition))
        spec = flatten(describe(condition))
        rows.append(StoredCondition(number, key, True, dict(condition.factors), spec, truths))
    rows.sort(key=lambda row: row.number)
    return rows, ["conditions.parquet was damaged: made anew from the study and the parts"]
