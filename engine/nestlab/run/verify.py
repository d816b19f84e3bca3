"""Recompute a random sample of stored blocks and compare: whether the numbers in a folder are what the study gives.

Bit for bit where the same versions ran on the same kind of processor, else to 1e-8 of each column's size. A checksum tells that a
file was damaged; this tells that it holds something else than it should. What is not a sample is compared as a whole
(`consistency`): the study with what is stored, every part with the manifest and with what was asked for, and the tables, the
summary among them, with those that follow from the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.methods import Columns
from ..fit.own_code import make_importable, with_code
from ..spec.identity import data_key, result_key
from ..spec.model import Condition, Method
from .block import compile_condition
from .consistency import check_parts, check_study, check_tables, missing_lines
from .folder import no_results, stored_study
from .manifest import machine, software
from .parts import Part
from .reduce import reduced
from .store import Store, StoredCondition
from .sums import read_sums, sums_key

__all__ = ["Differs", "Verified", "verify"]

TOLERANCE = 1e-8
#: What decides about the last bits: versions, and where they run.
_VERSIONS = ("nestlab", "numpy", "scipy", "numba", "llvmlite", "statsmodels")
_PLACE = ("system", "machine", "processor", "byteorder")


@dataclass(frozen=True, slots=True)
class Differs:
    """A stored value that is not what was recomputed."""

    condition: int
    method: str
    replicate: int
    column: str
    stored: Any
    recomputed: Any
    file: str

    @property
    def text(self) -> str:
        place = f"condition {self.condition}, {self.method}, replicate {self.replicate} ({self.file})"
        return f"{place}: {self.column} is {self.stored}, recomputed {self.recomputed}"


@dataclass
class Verified:
    """What was compared: blocks, of how many, replicates (by all methods), values, and whether bit for bit.

    elsewhere: in what the runs differ from here and now. differs: the values that do, the first of each block and column.
    compared: parts of sums that were. problems: a line about each thing that is wrong besides; missing: about replicates that
    were asked for and are not stored.
    """

    seed: int
    population: int
    elsewhere: tuple[str, ...]
    blocks: int = 0
    replicates: int = 0
    values: int = 0
    different: int = 0
    differs: list[Differs] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not self.elsewhere

    @property
    def wrong(self) -> bool:
        """Whether anything that is stored is not what it should be."""
        return bool(self.different or self.problems)

    @property
    def whole(self) -> bool:
        """Whether all that was asked for is stored, and something of it was compared."""
        return not self.missing and self.values > 0


def verify(
    folder: Path, *, blocks: int, seed: int, code: Sequence[str] | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Verified:  # fmt: skip
    """Recompute `blocks` stored blocks, drawn by `seed`, and compare them with what is stored; and check all else that is.

    code: consent to run the functions that methods name, see `run_study`. tell: called after each block. Raises RefusedError
    where the folder holds no results, and where the manifest or the conditions can't be read.
    """
    store = Store(folder)
    if not store.exists:
        raise no_results(folder)
    study = with_code(stored_study(folder, store.manifest), code)
    make_importable(code or ())
    conditions = {data_key(condition): condition for condition in study.conditions()}
    stored, methods = store.read_conditions(), study.methods()
    problems = [*check_study(store, study, stored), *check_parts(store, stored, methods)]
    rows = [row for row in stored if row.active and row.data_key in conditions]
    counts = np.array([_blocks(store, row, conditions[row.data_key], methods) for row in rows], dtype=np.int64)
    ends = np.cumsum(counts)
    population = int(ends[-1]) if len(ends) else 0
    found = Verified(seed, population, _elsewhere(store.manifest), problems=problems)
    found.missing += missing_lines(store, stored, methods)
    chosen = np.random.default_rng(seed).choice(population, size=min(blocks, population), replace=False)
    for position in np.sort(chosen):
        which = int(np.searchsorted(ends, position, side="right"))
        block = int(position - (ends[which] - counts[which]))
        _compare_block(found, store, rows[which], conditions[rows[which].data_key], methods, block)
        tell(found.blocks, len(chosen))
    if not problems and not found.missing:
        found.problems += check_tables(store, study, stored)
    return found


def _blocks(store: Store, row: StoredCondition, condition: Condition, methods: Sequence[Method]) -> int:
    """Blocks up to the last stored replicate of a condition."""
    ranges = [store.covered(row.number, result_key(row.data_key, method)) for method in methods]
    last = max((found[-1][1] for found in ranges if found), default=0)
    return -(-last // condition.block_size)


def _elsewhere(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """In which versions and processors the runs differ from here and now."""
    here = {**{k: v for k, v in software().items() if k in _VERSIONS}, **{k: machine()[k] for k in _PLACE}}
    found: dict[str, None] = {}
    for run in manifest["runs"] or [{}]:
        told = {**manifest.get("software", {}), **manifest.get("machine", {})}
        told |= {**run.get("software", {}), **run.get("machine", {})}
        for name, value in here.items():
            if told.get(name, value if name == "statsmodels" else None) != value:
                found[f"{name} {told.get(name) or 'unknown'}, now {value}"] = None
    return tuple(found)


def _compare_block(
    found: Verified, store: Store, row: StoredCondition, condition: Condition, methods: Sequence[Method], block: int
) -> None:
    if store.keeps == "summary":
        _compare_sums(found, store, row, condition, methods, block)
        return
    size = condition.block_size
    stored = {}
    for method in methods:
        key = result_key(row.data_key, method)
        columns = store.read_columns(row.number, key, (block + 1) * size, first=block * size)
        if columns and len(columns["replicate"]):
            stored[method.name] = columns
    found.blocks += 1
    if not stored:
        return
    last = max(int(columns["replicate"][-1]) for columns in stored.values()) + 1
    made = compile_condition(condition, methods).replicates(block * size, last)
    for method, fresh in zip(methods, made, strict=True):
        if method.name in stored:
            kept = stored[method.name]
            places = kept["replicate"].astype(np.int64) - block * size
            found.replicates += len(places)
            _compare(found, store, row, method, kept, {name: values[places] for name, values in fresh.items()})


def _compare_sums(
    found: Verified, store: Store, row: StoredCondition, condition: Condition, methods: Sequence[Method], block: int
) -> None:
    """The whole parts of sums that hold a block; one that was compared already is not compared again."""
    found.blocks += 1
    keys = [result_key(row.data_key, method) for method in methods]
    start = block * condition.block_size
    parts = [next((p for p in store.parts.of(row.number, key) if p.first <= start < p.last), None) for key in keys]
    compiled = compile_condition(condition, methods)
    for first, last in dict.fromkeys((part.first, part.last) for part in parts if part is not None):
        fresh = reduced(compiled, first, last)
        for part, made in zip(parts, fresh, strict=True):
            if part is None or (part.first, part.last) != (first, last) or part.file in found.compared:
                continue
            found.compared.add(part.file)
            found.replicates += last - first
            if found.exact and (part.statuses, part.inference) != (made.counts["statuses"], made.counts["inference"]):
                found.problems.append(
                    f"{part.file} counts other statuses than its replicates have, recomputed {made.counts}"
                )
            kept = read_sums(store, part, sums_key(keys, methods))
            for name in made.table:
                _compare_numbers(found, part, name, kept, made.table)


def _compare_numbers(found: Verified, part: Part, name: str, kept: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    a, b = kept[name], np.asarray(fresh[name])
    wrong = _unequal(a, b, exact=found.exact) if len(a) == len(b) else np.ones(1, dtype=bool)
    found.values += len(wrong)
    if wrong.any():
        k = int(np.argmax(wrong))
        column = f"{name} of {kept['estimand'][k]} {kept['quantity'][k]} ({kept['subset'][k]})"
        found.different += int(wrong.sum())
        place = part.condition, part.method, int(kept["first"][k])
        found.differs.append(Differs(*place, column, _shown(a[k]), _shown(b[k]), part.file))


def _compare(
    found: Verified, store: Store, row: StoredCondition, method: Method, kept: Columns, fresh: Columns
) -> None:
    """Column by column; one that is null throughout may be absent."""
    for name in dict.fromkeys([*kept, *fresh]):
        if name == "condition" or (name == "iterations" and not found.exact):
            continue
        a, b = kept.get(name), fresh.get(name)
        if a is None and name in ("rows", "clusters"):  # stored only where they differ
            continue
        if a is None or b is None:
            there = a if a is not None else b
            assert there is not None
            wrong = ~_is_null(there)
        else:
            wrong = _unequal(a, b, exact=found.exact)
        found.values += len(wrong)
        if wrong.any():
            k = int(np.argmax(wrong))
            replicate = int(kept["replicate"][k])
            parts = store.parts.of(row.number, result_key(row.data_key, method))
            file = next(part.file for part in parts if part.first <= replicate < part.last)
            stored, recomputed = (_shown("nothing" if each is None else each[k]) for each in (a, b))
            found.different += int(wrong.sum())
            found.differs.append(Differs(row.number, method.name, replicate, name, stored, recomputed, file))


def _unequal(a: NDArray[Any], b: NDArray[Any], *, exact: bool) -> NDArray[np.bool_]:
    """Where two columns differ; all nans are alike, 0 and -0 are not."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        a, b = a.astype(np.float64), b.astype(np.float64)
        both = np.isnan(a) & np.isnan(b)
        if exact:
            return np.asarray((a.view(np.int64) != b.view(np.int64)) & ~both, dtype=np.bool_)
        finite = np.concatenate([a[np.isfinite(a)], b[np.isfinite(b)]])
        scale = float(np.abs(finite).max()) if len(finite) else 1.0
        with np.errstate(invalid="ignore"):
            near = (a == b) | (np.abs(a - b) <= TOLERANCE * scale)
        different: NDArray[np.bool_] = ~(near | both)
        return different
    if a.dtype.kind == "O" or b.dtype.kind == "O":
        return np.array([x != y and not (_none(x) and _none(y)) for x, y in zip(a, b, strict=True)], dtype=bool)
    unlike: NDArray[np.bool_] = np.not_equal(a, b)
    return unlike


def _none(value: Any) -> bool:
    return value is None or value == "" or value != value


def _is_null(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        absent: NDArray[np.bool_] = np.isnan(values)
        return absent
    if values.dtype.kind == "O":
        return np.array([_none(value) for value in values], dtype=bool)
    return np.zeros(len(values), dtype=bool)


def _shown(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return value.name if hasattr(value, "name") else str(value)
