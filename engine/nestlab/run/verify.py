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
from ..spec.identity import data_key
from ..spec.model import Condition, Method
from .block import compile_condition
from .consistency import check_parts, check_study, check_tables, missing_lines
from .folder import no_results, stored_study
from .manifest import machine, software
from .parts import Tally
from .reduce import reduced
from .series import Series, series_of
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

    def count(self, wrong: NDArray[np.bool_]) -> int | None:
        """Take in values that were compared; the place of the first that is wrong."""
        self.values += len(wrong)
        self.different += int(wrong.sum())
        return int(np.argmax(wrong)) if wrong.any() else None

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
    lasts = [max((p.last for s in series_of(store, [row], methods) for p in s.parts), default=0) for row in rows]
    sizes = [conditions[row.data_key].block_size for row in rows]
    counts = np.array([-(-last // size) for last, size in zip(lasts, sizes, strict=True)], dtype=np.int64)
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
    every = list(series_of(store, [row], methods))
    stored = [series.columns(block * size, (block + 1) * size) for series in every]
    found.blocks += 1
    last = max((int(kept["replicate"][-1]) + 1 for kept in stored if kept and len(kept["replicate"])), default=0)
    if not last:
        return
    made = compile_condition(condition, methods).replicates(block * size, last)
    for series, kept, fresh in zip(every, stored, made, strict=True):
        if kept:
            places = kept["replicate"].astype(np.int64) - block * size
            found.replicates += len(places)
            _compare(found, series, kept, {name: values[places] for name, values in fresh.items()})


def _compare_sums(
    found: Verified, store: Store, row: StoredCondition, condition: Condition, methods: Sequence[Method], block: int
) -> None:
    """The whole parts of sums that hold a block; one that was compared already is not compared again."""
    found.blocks += 1
    every, start = list(series_of(store, [row], methods)), block * condition.block_size
    whole = sums_key([series.result_key for series in every], methods)
    parts = [next((p for p in series.parts if p.first <= start < p.last), None) for series in every]
    compiled = compile_condition(condition, methods)
    for first, last in dict.fromkeys((part.first, part.last) for part in parts if part is not None):
        fresh = reduced(compiled, first, last)
        for part, made in zip(parts, fresh, strict=True):
            if part is None or (part.first, part.last) != (first, last) or part.file in found.compared:
                continue
            found.compared.add(part.file)
            found.replicates += last - first
            told, counts = (Tally() if part.tally is None else part.tally), made.tally
            if found.exact and (told.statuses, told.inference) != (counts.statuses, counts.inference):
                found.problems.append(
                    f"{part.file} counts other statuses than its replicates have, recomputed {counts.entry()}"
                )
            kept = read_sums(store, part, whole)
            for name in made.table:
                a, b = kept[name], np.asarray(made.table[name])
                wrong = _unequal(a, b, exact=found.exact) if len(a) == len(b) else np.ones(1, dtype=bool)
                if (k := found.count(wrong)) is not None:
                    column = f"{name} of {kept['estimand'][k]} {kept['quantity'][k]} ({kept['subset'][k]})"
                    place = part.condition, part.method, int(kept["first"][k])
                    found.differs.append(Differs(*place, column, _shown(a[k]), _shown(b[k]), part.file))


def _compare(found: Verified, series: Series, kept: Columns, fresh: Columns) -> None:
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
        if (k := found.count(wrong)) is not None:
            replicate = int(kept["replicate"][k])
            file = next(part.file for part in series.parts if part.first <= replicate < part.last)
            stored, recomputed = (_shown("nothing" if each is None else each[k]) for each in (a, b))
            place = series.condition, series.method.name, replicate
            found.differs.append(Differs(*place, name, stored, recomputed, file))


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
