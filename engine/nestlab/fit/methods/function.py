"""A Python function of one's own, with its messages and warnings as columns.

A function takes the rows that an analyst could see, as a data frame, and gives {term: (estimate, se, df)}; or (estimate, se),
with infinite df; or an estimate alone. A standard error or df that is nan, and a standard error of 0, leave the estimate
without a test. Whatever it raises, and any other result, is a failure of that replicate: its status is method_error, and its
message is kept. A call that never returns hangs the run: nothing here can end it.
"""

from __future__ import annotations

import math
import numbers
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from ...spec.estimand import Column
from ...spec.formula import find_term
from ..attempt import attempt
from ..lmm import Fits, pairs
from ..own_code import load_function, source_file
from ..status import InferenceStatus, Status
from .analysis import Analysed, Block, Columns, MethodColumns

__all__ = ["Function", "compile_analysis", "read_result"]

Array = NDArray[np.float64]
#: Estimate, standard error and degrees of freedom of one term; nan where the function gives none.
Estimated = tuple[float, float, float]
#: A function's standard error over its estimate that is rounding.
ROUNDING = 1e-12


def compile_analysis(on: MethodColumns) -> Function:
    """Prepare the calls of a function."""
    return Function(on)


@dataclass(frozen=True)
class Function:
    """A method's function, called for one data frame after another."""

    on: MethodColumns

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block.

        Python's and NumPy's global generators are seeded before each call, so that a function that draws from them gives the
        same whoever calls it and when.
        """
        streams = (self.on.stream(block.number, r) for r in range(first, last))
        return _analyse(self.on, block.frames(first, last), streams)


def _analyse(on: MethodColumns, frames: Iterable[pd.DataFrame], streams: Iterable[Generator]) -> Analysed:
    method, names, terms = on.method, on.names, on.method.formula.fixed
    assert method.function is not None
    function, file = load_function(method.name, method.function, method.digest), source_file(method.function)
    values, messages, warned = [], [], []
    for frame, stream in zip(frames, streams, strict=True):
        with _seeded(stream):
            tried = attempt(lambda frame=frame: read_result(function(frame), terms), file=file)  # type: ignore[misc]
        values.append(np.full((len(terms), 3), np.nan) if tried.value is None else tried.value)
        messages.append(tried.message)
        warned.append(tried.warnings)
    found = np.array(values)
    failed = np.array([message is not None for message in messages])
    undefined = _without_test(found)
    columns: Columns = {}
    for i, name in enumerate(names):
        columns |= {Column("se", name).name: found[:, i, 1], Column("df", name).name: found[:, i, 2]}
    status = np.where(undefined, InferenceStatus.no_df, InferenceStatus.ok)
    columns[Column("inference").name] = np.where(failed, InferenceStatus.no_fit, status).astype(np.int8)
    columns |= {"message": np.array(messages, dtype=object), "warnings": np.array(warned, dtype=np.int32)}
    return on.analysed(_fits(found[:, :, 0], failed), columns)


def _without_test(found: Array) -> NDArray[np.bool_]:
    """(R): whether an estimate has a standard error and no test by it; found (R, p, 3), whose df become nan there.

    A standard error or df that is not a number makes none, nor does a standard error that is 0 or rounding beside its estimate.
    """
    estimate, se, df = np.moveaxis(found, -1, 0)
    lost = (np.isnan(se) != np.isnan(df)) | (se <= ROUNDING * np.abs(estimate))
    df[lost] = np.nan
    return np.asarray(lost.any(axis=1))


def _fits(beta: Array, failed: NDArray[np.bool_]) -> Fits:
    R, p = beta.shape
    empty = np.full(R, np.nan)
    status = np.where(failed, Status.method_error, Status.ok).astype(np.int64)
    zero, none = np.zeros(R, dtype=np.int64), np.full((R, len(pairs(p))), np.nan)
    return Fits(status, zero, empty, empty, beta, none, np.empty((R, 0)), empty)


@contextmanager
def _seeded(stream: Generator) -> Iterator[None]:
    """Global generators seeded by a stream; put back afterwards, for in one process they are the caller's."""
    before, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(int(stream.integers(2**63)))
    np.random.seed(int(stream.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(legacy)  # noqa: NPY002


def read_result(result: object, terms: Sequence[str]) -> Array:
    """What a function gave, as (p, 3): estimate, standard error, degrees of freedom; nan for what it left out.

    Raises ValueError, with what is allowed, for anything else.

    >>> read_result({"x": (0.5, 0.1, None)}, ["Intercept", "x"]).tolist()
    [[nan, nan, nan], [0.5, 0.1, inf]]
    """
    if not isinstance(result, Mapping):
        raise ValueError(f"the function gave a {type(result).__name__}; it must give {{term: (estimate, se, df)}}")
    if not result:
        raise ValueError("the function gave no term; it must give {term: (estimate, se, df)}")
    found = np.full((len(terms), 3), np.nan)
    for name, value in result.items():
        term = find_term(terms, name) if isinstance(name, str) else None
        if term is None:
            raise ValueError(f"the function gave {name!r}, which is no term of its formula: {', '.join(terms)}")
        found[list(terms).index(term)] = _estimated(str(name), value)
    return found


def _estimated(name: str, value: Any) -> Estimated:
    parts = list(value) if isinstance(value, tuple | list | np.ndarray | pd.Series) else [value]
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            f"{name} has {len(parts)} values; it must be (estimate, se, df), (estimate, se) or an estimate"
        )
    estimate, se, df = [*parts, None, None][:3]
    b = _number(name, "estimate", estimate)
    if not math.isfinite(b):
        raise ValueError(f"the estimate of {name} is {b}; it must be finite")
    if se is None:
        return b, math.nan, math.nan
    s = _number(name, "standard error", se)
    s = s if math.isfinite(s) else math.nan
    if s < 0:
        raise ValueError(f"the standard error of {name} is negative; it must be 0 or more")
    d = math.inf if df is None else _number(name, "df", df)
    if d <= 0:
        raise ValueError(f"the df of {name} are {d:g}; they must be above 0, or None for a z test")
    return b, s, d


def _number(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ValueError(f"the {what} of {name} is a {type(value).__name__}; it must be a number")
    return float(value)
