"""One condition, ready to run: what depends on it alone is paid once, then each call handles a block of replicates.

Nothing here reads or writes files; a call's result depends on its arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..fit.inference import degrees_of_freedom
from ..fit.lmm import Fits, Plan, compile_plan, fit_gram, pairs
from ..fit.status import Status
from ..simulate.gram import Draw, respond
from ..simulate.layout import Design, compile_design
from ..simulate.moments import Moments
from ..simulate.replicate import ConditionalRows, ReplicateRows
from ..simulate.rows import Rows
from ..simulate.streams import block_generator, conditional_generator
from ..spec.formula import find_term
from ..spec.identity import data_key
from ..spec.model import Condition, Method

__all__ = ["Columns", "CompiledCondition", "compile_condition"]

Array = NDArray[np.float64]
#: Columns of replicate rows by name, all of one length; status as codes.
Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class CompiledCondition:
    """A condition's sampler and its methods' plans: `condition.block(number)`, then `condition.fit(...)`."""

    condition: Condition
    key: str
    design: Design
    sampler: Moments | Rows
    methods: tuple[Method, ...]
    plans: tuple[Plan, ...]
    df: tuple[Array, ...]

    def draw(self, block: int) -> Draw:
        """The whole of a block (0, 1, ...), from its own stream."""
        generator = block_generator(self.condition.seed, self.key, block)
        return self.sampler(generator, self.condition.block_size)

    def rows(self, replicate: int, draw: Draw | None = None) -> ReplicateRows:
        """The rows of one replicate (0, 1, ...); draw: its block, where that is at hand."""
        condition = self.condition
        block, r = divmod(replicate, condition.block_size)
        if isinstance(self.sampler, Rows):
            return self.sampler.replicate(block_generator(condition.seed, self.key, block), condition.block_size, r)
        stream = conditional_generator(condition.seed, self.key, block, r)
        return self._conditional(self.draw(block) if draw is None else draw, r, stream)

    @cached_property
    def _conditional(self) -> ConditionalRows:
        return ConditionalRows(self.design)

    def fit(self, draw: Draw, method: int, first: int, last: int) -> Fits:
        """Fit replicates first .. last - 1 of a block by one of the methods, from the sufficient statistics."""
        plan = self.plans[method]
        return fit_gram(plan, respond(draw, self.design, plan.omitted, plan.multipliers), first, last)

    def fit_rows(self, draw: Draw, method: int, block: int, first: int, last: int) -> Fits:
        """The same for a method that needs rows."""
        from ..fit.reference import fit_rows

        design, plan = self.design, self.plans[method]
        origin = block * self.condition.block_size
        data = []
        for r in range(first, last):
            rows = self.rows(origin + r, draw)
            X = np.column_stack([rows.term(design, term) for term in plan.formula.fixed])
            data.append((rows.response(design), X, rows.D[:, list(plan.zcols)]))
        return fit_rows(data, np.repeat(np.arange(design.clusters), design.sizes), plan.blocks, reml=plan.reml)

    def frame(self, replicate: int, *, truth: bool = False) -> pd.DataFrame:
        """One replicate's rows under the study's names: the cluster (1, 2, ...), the predictors, the response.

        truth: also the random effects, "u:<column>", and the errors, "e".
        """
        design, rows = self.design, self.rows(replicate)
        formula = self.condition.truth.formula
        columns: dict[str, Array | NDArray[np.int64]] = {
            formula.group: np.repeat(np.arange(1, design.clusters + 1), design.sizes)
        }
        for predictor in self.condition.predictors:
            columns[predictor.name] = rows.term(design, predictor.name)
        columns[formula.response] = rows.response(design)
        if truth:
            for k, name in enumerate(formula.random_columns):
                columns[f"u:{name}"] = np.repeat(rows.u[:, k], design.sizes)
            columns["e"] = rows.e
        return pd.DataFrame(columns)

    def fits(self, first: int, last: int) -> Iterator[tuple[int, list[Fits]]]:
        """Fit replicates first .. last - 1, a block at a time: (replicates done, fits of each method)."""
        size = self.condition.block_size
        for block in range(first // size, (last - 1) // size + 1):
            origin = block * size
            start, stop = max(first, origin) - origin, min(last - origin, size)
            draw = self.draw(block)
            yield (
                stop - start,
                [
                    self.fit(draw, m, start, stop)
                    if method.estimator == "lmm"
                    else self.fit_rows(draw, m, block, start, stop)
                    for m, method in enumerate(self.methods)
                ],
            )

    def replicates(self, first: int, last: int) -> list[Columns]:
        """Rows of replicates first .. last - 1, a table a method."""
        parts = zip(*(fits for _, fits in self.fits(first, last)), strict=True)
        return [self.columns(m, first, Fits.concatenate(part)) for m, part in enumerate(parts)]

    def columns(self, method: int, first: int, fits: Fits) -> Columns:
        """The rows of a method's fits of replicates first, first + 1, ..."""
        plan, n = self.plans[method], len(fits.status)
        replicate = np.arange(first, first + n, dtype=np.int64)
        columns: Columns = {
            "block": (replicate // self.condition.block_size).astype(np.int32),
            "replicate": replicate,
            "status": fits.status.astype(np.int8),
            "singular": fits.status == Status.singular,
            "iterations": fits.iterations.astype(np.int16),
            "deviance": fits.deviance,
        }
        se = fits.se
        for i, term in enumerate(plan.formula.fixed):
            name = find_term(self.condition.truth.formula.fixed, term) or term
            columns[f"estimate.{name}"] = fits.beta[:, i]
            columns[f"se.{name}"] = se[:, i]
            columns[f"df.{name}"] = np.where(np.isfinite(se[:, i]), self.df[method][i], np.nan)
        for name, k in _components(plan):
            columns[f"estimate.{name}"] = fits.varcomp[:, k]
        columns["estimate.var:residual"] = fits.sigma2
        return columns


def compile_condition(condition: Condition, methods: Sequence[Method]) -> CompiledCondition:
    """Prepare a condition for the methods; milliseconds, unless a predictor with many rows is drawn once."""
    design = compile_design(condition)
    plans = tuple(compile_plan(design, method) for method in methods)
    df = tuple(
        degrees_of_freedom(method.df, plan.equation, clusters=design.clusters, rows=plan.rows)
        for method, plan in zip(methods, plans, strict=True)
    )
    sampler = Rows(design) if condition.path == "rows" else Moments(design)
    return CompiledCondition(condition, data_key(condition), design, sampler, tuple(methods), plans, df)


def _components(plan: Plan) -> list[tuple[str, int]]:
    """The variances and covariances that a method estimates, and where the kernel put them."""
    columns, group = plan.formula.random_columns, plan.formula.group
    named = []
    for k, (a, b) in enumerate(pairs(len(columns))):
        if a == b:
            named.append((f"var:{group}:{columns[a]}", k))
        elif plan.blocks[a] == plan.blocks[b]:
            named.append((f"cov:{group}:{columns[a]}:{columns[b]}", k))
    return named
