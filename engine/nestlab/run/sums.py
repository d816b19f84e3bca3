"""Sums as they are kept on disk: parts of a results folder whose study has keep = "summary", and what can be told from them.

A part holds the sums of replicates first .. last - 1 of one condition and method, a row a subtree of the tree of sums x estimand
x subset x quantity (`measure/sums.py`). What is "common" to the methods, and the precision relative to the first one, depend on
all of them, so that the sums of a condition are made by a set of methods (`sums_key`), which can't change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..measure.measured import MeasureRow
from ..measure.performance import measure_sums
from ..measure.sums import KINDS, LEAF, Node, SumKey, Sums, merge
from ..spec.model import Method
from ..spec.problems import StudyError, show
from .files import RefusedError
from .parquet import BROKEN, columns_of, footer, table_bytes
from .series import Series, series_of

if TYPE_CHECKING:
    from .parts import Part, Tally
    from .plan import Job
    from .store import Store, StoredCondition

__all__ = [
    "check_prefix",
    "check_sums",
    "measure_stored",
    "no_replicates",
    "read_sums",
    "summed_methods",
    "sums_key",
    "sums_of_table",
    "sums_table",
    "write_sums",
]  # fmt: skip

#: Of what is stored; another version is refused.
VERSION = 1
_MOMENTS = ("20", "11", "02", "30", "21", "12", "03", "40", "31", "22", "13", "04")
_NUMBERS = ("n", "hits", "origin", "origin_2", "mean", "mean_2", *(f"m{pq}" for pq in _MOMENTS))
_TEXTS = ("method", "estimand", "subset", "quantity")


def summed_methods(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """What sums depend on that replicates do not: the methods in their order, levels, and what contrasts are tested for."""
    return [
        {
            "name": method.name,
            "labels": list(method.labels),
            "alpha": method.alpha,
            "tests": {
                c.name: [c.null, c.alternative, None if c.equivalence is None else list(c.equivalence)]
                for c in method.contrasts
            },
        }
        for method in methods
    ]


def sums_key(result_keys: Sequence[str], methods: Sequence[Method]) -> str:
    """The identity of a condition's sums: SHA-256 of all that they depend on."""
    identity = {"version": VERSION, "leaf": LEAF, "results": list(result_keys), "methods": summed_methods(methods)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


# -- tables ------------------------------------------------------------------------------------------------------------------


def sums_table(sums: Sums) -> dict[str, Any]:
    """Columns of a part. first, last: the replicates of a subtree; numbers that a quantity has not are nan."""
    keys = [(key, kind, i) for kind, listed in sums.keys.items() for i, key in enumerate(listed)]
    rows = np.full((len(sums.nodes) * len(keys), len(_NUMBERS)), np.nan)
    place = 0
    for node in sums.nodes:
        for _, kind, i in keys:
            rows[place, _columns(kind)] = node.values[kind][i]
            place += 1
    columns: dict[str, Any] = {
        end: np.repeat([getattr(node, end) for node in sums.nodes], len(keys)) for end in ("first", "last")
    }
    columns |= {text: [getattr(key, text) for key, _, _ in keys] * len(sums.nodes) for text in _TEXTS}
    columns["kind"] = [kind for _, kind, _ in keys] * len(sums.nodes)
    return columns | {name: np.ascontiguousarray(rows[:, k]) for k, name in enumerate(_NUMBERS)}


def sums_of_table(columns: Mapping[str, NDArray[Any]]) -> Sums:
    """The sums of a part. ValueError or KeyError for a table that holds none."""
    firsts, lasts = columns["first"].tolist(), columns["last"].tolist()
    ranges = [key for key, _ in groupby(zip(firsts, lasts, strict=True))]
    size = len(firsts) // len(ranges)
    listed = [SumKey(*texts) for texts in zip(*(columns[text][:size].tolist() for text in _TEXTS), strict=True)]
    kinds = columns["kind"][:size].tolist()
    rows = np.array([columns[name] for name in _NUMBERS], dtype=np.float64).T
    numbers = rows.reshape(len(ranges), size, len(_NUMBERS))
    places = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
    keys = {kind: tuple(listed[i] for i in chosen) for kind, chosen in places.items()}
    nodes = (
        Node(*ends, {kind: of[chosen][:, _columns(kind)] for kind, chosen in places.items()})
        for ends, of in zip(ranges, numbers, strict=True)
    )
    return Sums(keys, tuple(nodes))


def _columns(kind: str) -> list[int]:
    """Where a kind's numbers stand among _NUMBERS."""
    moments = KINDS[kind].moments
    if not moments:
        return [0, 1]
    return [0, 2, 3, 4, 5, *(6 + _MOMENTS.index(f"{p}{q}") for p, q in moments)]


# -- what is stored ----------------------------------------------------------------------------------------------------------


def check_sums(store: Store, jobs: Sequence[Job], methods: Sequence[Method]) -> None:
    """RefusedError where stored sums are those of other methods, or hold more replicates than are asked for."""
    stored, wanted = store.manifest.get("sums"), {"version": VERSION, "methods": summed_methods(methods)}
    if stored is not None and stored != wanted and len(store.parts):
        changed = _changed(stored, wanted)
        raise RefusedError(
            f"{store.folder} keeps sums, which are of all methods together and can't be changed afterwards: {changed}. Restore "
            "it, or use --out"
        )
    store.manifest["sums"] = wanted
    for series in (series for job in jobs for series in job.series(store, methods)):
        check_prefix(series)


def check_prefix(series: Series) -> None:
    """RefusedError where some of the replicates asked for are in one sum with others."""
    for part in series.parts:
        if part.first < series.asked < part.last:
            raise RefusedError(
                f"replications = {series.asked}: {series.store.folder} keeps sums, out of which fewer replicates can't be taken "
                f"(condition {series.condition}: {part.first} to {part.last - 1} are in one part); ask for {part.last} or more, "
                "or use --out"
            )


def _changed(stored: Any, wanted: Mapping[str, Any]) -> str:
    """What differs between the methods of stored sums and the study's."""
    before, now = (stored.get("methods") if isinstance(stored, dict) else None), wanted["methods"]
    known = isinstance(before, list) and all(isinstance(method, dict) for method in before)
    if not known or before is None or stored.get("version") != wanted["version"]:
        version = stored.get("version") if isinstance(stored, dict) else stored
        return f"sums.version: stored {version!r:.40}, now {wanted['version']}"
    names = [[m.get("name") for m in listed] for listed in (before, now)]
    if names[0] != names[1]:
        return f"methods: stored {', '.join(map(str, names[0]))}, now {', '.join(names[1])}"
    pairs = [(a, b, word) for a, b in zip(before, now, strict=True) for word in b if a.get(word) != b[word]]
    return "; ".join(
        f"method.{b['name']}.{word}: stored {show(a.get(word))}, now {show(b[word])}" for a, b, word in pairs
    )


def measure_stored(store: Store, row: StoredCondition, methods: Sequence[Method], mcse: str) -> list[MeasureRow]:
    """The measures of one condition, of the replicates that are stored by all methods."""
    every = list(series_of(store, [row], methods))
    whole = sums_key([series.result_key for series in every], methods)
    missing = [series.gaps for series in every]
    total: dict[SumKey, NDArray[np.float64]] = {}
    for series in every:
        check_prefix(series)
        found: Sums | None = None
        for part in series.parts:
            gaps = (gap for ranges in missing for gap in ranges)
            if part.last <= row.replications and not any(a < part.last and part.first < b for a, b in gaps):
                sums = _read(store, part, whole)
                found = sums if found is None else merge([found, sums])
        if found is not None:
            total |= found.total()
    own = {label: row.truths.own.get(method.name, {}) for method in methods for label in method.labels}
    return measure_sums(total, row.truth, mcse=mcse, own=own) if total else []  # type: ignore[arg-type]


def write_sums(series: Series, table: Mapping[str, Any], tally: Tally, first: int, last: int, whole: str) -> None:
    """Write one part, whole or not at all. table: see `sums_table`; whole: see `sums_key`."""
    entry = series.entry(first, last) | {"sums": whole} | tally.entry()
    series.store.add(entry, table_bytes(table, {"nestlab": json.dumps(entry)}))


def read_sums(store: Store, part: Part, whole: str) -> dict[str, NDArray[Any]]:
    """The columns of a part. RefusedError for one that is damaged, or was made with other methods."""
    path, data = store.replicates / part.file, store.bytes_of(part)
    try:
        made, columns = json.loads(footer(data)["nestlab"]).get("sums"), columns_of(data)
    except (*BROKEN, AttributeError) as error:
        raise RefusedError(f"{path} is not a part of this study ({error!r:.80}); remove it and run again") from None
    if made != whole:
        raise RefusedError(f"{path} holds sums of other methods, or of another version; remove it and run again")
    return columns


def _read(store: Store, part: Part, whole: str) -> Sums:
    """The sums of a part. RefusedError for one that is damaged or none, or was made with other methods."""
    path, columns = store.replicates / part.file, read_sums(store, part, whole)
    try:
        sums = sums_of_table(columns)
    except (KeyError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        raise RefusedError(f"{path} holds no sums ({error!r:.80}); remove it and run again") from None
    ends = [part.first, *(node.last for node in sums.nodes)]
    if ends[-1] != part.last or any(node.first != end for node, end in zip(sums.nodes, ends, strict=False)):
        raise RefusedError(f"{path} holds other replicates than the manifest says; remove it and run again")
    return sums


# -- what sums do not tell ---------------------------------------------------------------------------------------------------


def no_replicates(folder: object, what: str) -> StudyError:
    """The refusal of what needs replicates."""
    return StudyError(
        f"{what}: needs replicates, and {folder} keeps sums of them; run the study with them into another folder: nestlab "
        "run STUDY --keep replicates --out DIR"
    )
