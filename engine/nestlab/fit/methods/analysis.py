"""What every way to analyse is given and gives: a method on a design, a block of replicates, and what was found in them.

Column names of what is inferred: with one rule `se.<term>`, `df.<term>`. Several rules share the estimates, and their columns end
in "/<rule>"; a standard error that is the model's own is stored once, without an ending.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from ...simulate.layout import Design
from ...simulate.replicate import ReplicateRows
from ...simulate.several import SeveralDesign, SeveralDraw
from ...simulate.streams import resampling_generator
from ...spec.contrasts import weights_of
from ...spec.estimand import RESIDUAL, Column, Estimand, Quantity
from ...spec.formula import find_term
from ...spec.methods import estimator_of
from ...spec.model import INTERCEPT, Condition, Contrast, Formula, Method
from ..inference import Hypotheses, Inference
from ..lmm import Fits, Plan, compile_plan, pairs
from ..status import InferenceStatus, Status, is_failed

__all__ = ["Analysed", "Analysis", "Block", "Candidate", "Columns", "MethodColumns", "Prepared", "PreparedSeveral"]

Array = NDArray[np.float64]
#: Columns of replicate rows by name, all of one length; statuses as codes.
Columns = dict[str, NDArray[np.generic]]


class Block(Protocol):
    """Replicates that share a stream: as sufficient statistics, or as rows of replicates first .. last - 1 of it."""

    @property
    def number(self) -> int: ...

    @property
    def draw(self) -> Any: ...

    def rows(self, first: int, last: int) -> Iterator[ReplicateRows]: ...

    def several_rows(self, first: int, last: int) -> SeveralDraw: ...

    def frames(self, first: int, last: int) -> Iterator[pd.DataFrame]: ...


@dataclass(frozen=True)
class Analysed:
    """All that is stored of R replicates by one method.

    status, iterations, criterion (R): of the fits; criterion: the deviance, nan where there is none. estimate: (R) by estimand,
    as the study calls it; inferred: standard errors, degrees of freedom, tests, limits and their status (R) by column.
    """

    status: NDArray[np.int64]
    iterations: NDArray[np.int64]
    criterion: Array
    estimate: Mapping[str, Array]
    inferred: Columns

    @staticmethod
    def concatenate(parts: Sequence[Analysed]) -> Analysed:
        """One after the other."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return Analysed(
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.iterations for part in parts]),
            np.concatenate([part.criterion for part in parts]),
            {name: np.concatenate([part.estimate[name] for part in parts]) for name in first.estimate},
            {name: np.concatenate([part.inferred[name] for part in parts]) for name in first.inferred},
        )

    def columns(self, first: int, block_size: int) -> Columns:
        """The rows of replicates first, first + 1, ..."""
        replicate = np.arange(first, first + len(self.status), dtype=np.int64)
        return {
            "block": (replicate // block_size).astype(np.int32),
            "replicate": replicate,
            "status": self.status.astype(np.int8),
            "singular": self.status == Status.singular,
            "iterations": self.iterations.astype(np.int16),
            "deviance": self.criterion,
            **{Column("estimate", name).name: values for name, values in self.estimate.items()},
            **self.inferred,
        }


@dataclass(frozen=True)
class Candidate:
    """One of the models that a method chooses from: its fits in its formula's coordinates and what is inferred from them; own:
    what the model needs for a test."""

    formula: Formula
    fits: Fits
    columns: Columns
    own: Any


def fixed_rules(on: MethodColumns, fits: Fits, rows: Array) -> Columns:
    """Inference by a model without random terms: every rule but z has the rows' degrees of freedom, rows (R or 1) - p."""
    p, shape = len(on.names), (len(fits.status), len(on.hypotheses))
    left = np.broadcast_to(rows - p, len(fits.status))
    df = np.where(np.isfinite(fits.sigma2) & (left > 0), left, np.nan)[:, None]
    rules = {
        rule: Inference(np.broadcast_to(df * np.inf if rule == "z" else df, shape), fits.vcov, np.ones(shape))
        for rule in on.method.df
    }
    return on.inferred(fits, rules, 2 * fits.sigma2[:, None] ** 2 / df)


class Analysis(Protocol):
    """A method on a design, ready to be called."""

    @property
    def on(self) -> MethodColumns: ...

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        ...


@dataclass(frozen=True)
class MethodColumns:
    """A method on a condition, and how its results are stored. key: the condition's data key."""

    condition: Condition
    method: Method
    key: str

    @cached_property
    def hypotheses(self) -> Hypotheses:
        """The coefficients of the method, then its contrasts."""
        fixed = self.method.formula.fixed
        return Hypotheses.of(len(fixed), [weights_of(contrast, fixed) for contrast in self.method.contrasts])

    @cached_property
    def names(self) -> list[str]:
        """The method's fixed effects as the study calls them."""
        fixed = self.condition.truth.formula.fixed
        return [find_term(fixed, term) or term for term in self.method.formula.fixed]

    def stream(self, block: int, replicate: int) -> Generator:
        """The stream of the numbers that the analysis of one replicate (its place in the block) draws."""
        return resampling_generator(self.condition.seed, self.key, block, replicate)

    def analysed(self, fits: Fits, inferred: Columns) -> Analysed:
        """What is stored of fits in the formula's coordinates."""
        found = {name: fits.beta[:, i] for i, name in enumerate(self.names)}
        found |= {name: fits.varcomp[:, k] for name, k in self._components}
        row = estimator_of(self.method)
        if row.residual or not row.every_term:  # a function has the column of a model, without a value
            found[RESIDUAL.name] = fits.sigma2
        return Analysed(fits.status, fits.iterations, fits.deviance, found, inferred)

    @cached_property
    def _components(self) -> list[tuple[str, int]]:
        """The variances and covariances that the method estimates, and where the kernel put them."""
        places = self.method.formula.places
        block = np.repeat(np.arange(len(self.method.formula.random)), self.method.formula.block_sizes)
        named = []
        for k, (a, b) in enumerate(pairs(len(places))):
            (group, column), (_, other) = places[a], places[b]
            if a == b:
                named.append((Estimand("var", group, (column,)).name, k))
            elif block[a] == block[b]:
                named.append((Estimand("cov", group, (column, other)).name, k))
        return named

    def inferred(self, fits: Fits, found: Mapping[str, Inference], variances: Array | None = None) -> Columns:
        """What the rules say of fixed effects and contrasts.

        variances (R, k(k+1)/2): see `inference.variance_covariance`, needed for standardised contrasts.
        """
        method, names = self.method, self.names
        columns: Columns = {}
        p, unit = len(names), np.eye(len(names))
        for rule, named in zip(method.df, method.rules, strict=True):
            inference = found[rule]
            failed = np.zeros(len(fits.status), dtype=bool)
            own = named if rule == "kenward-roger" else ""
            for i, name in enumerate(names):
                se = inference.se(unit[i])
                df = np.where(np.isfinite(se), inference.df[:, i], np.nan)
                columns[Column("se", name, own).name], columns[Column("df", name, named).name] = se, df
                failed |= np.isnan(df)
            for h, contrast in enumerate(method.contrasts, start=p):
                made = _of_contrast(contrast, h, method, fits, inference, variances)
                for quantity, values in made.items():
                    place = "" if quantity == "estimate" else own if quantity == "se" else named
                    columns[Column(quantity, contrast.name, place).name] = values
                failed |= np.isnan(made["p" if contrast.joint else "df"])
            status = np.where(failed, InferenceStatus.no_df, InferenceStatus.ok)
            status[is_failed(fits.status)] = InferenceStatus.no_fit
            columns[Column("inference", rule=named).name] = status.astype(np.int8)
        return columns


@dataclass(frozen=True)
class Prepared(MethodColumns):
    """A method on a design of one grouping factor."""

    design: Design

    @cached_property
    def plan(self) -> Plan:
        return compile_plan(self.design, self.method)


@dataclass(frozen=True)
class PreparedSeveral(MethodColumns):
    """A method on a design of several grouping factors."""

    design: SeveralDesign


def _of_contrast(
    contrast: Contrast, h: int, method: Method, fits: Fits, inference: Inference, variances: Array | None
) -> dict[Quantity, Array]:
    weights = weights_of(contrast, method.formula.fixed)
    if contrast.joint:
        return {"p": inference.joint_p(h, weights, fits.beta)}
    estimate, se = fits.beta @ weights[0], inference.se(weights[0])
    if contrast.standardise is not None:
        assert variances is not None
        estimate, se = _standardised(estimate, se, contrast, method, fits, variances)
    return {"estimate": estimate, "se": se, "df": np.where(np.isfinite(se), inference.df[:, h], np.nan)}


def _standardised(
    estimate: Array, se: Array, contrast: Contrast, method: Method, fits: Fits, variances: Array
) -> tuple[Array, Array]:
    """d = estimate / s and its standard error by the delta method, s2 taken as independent of the estimate (it is, for large
    samples): sqrt(se^2 / s2 + d^2 Var(s2) / (4 s2^2))."""
    k = fits.varcomp.shape[1] + 1
    packed = {place: i for i, place in enumerate(pairs(k))}
    variance, spread = fits.sigma2, variances[:, packed[k - 1, k - 1]]
    if contrast.standardise == "total":
        columns = method.formula.random_columns
        order = pairs(len(columns))
        own = [order.index((c, c)) for c, column in enumerate(columns) if column == INTERCEPT]
        for place in own:
            variance = variance + fits.varcomp[:, place]
            spread = spread + 2 * variances[:, packed[place, k - 1]]
            for other in own:
                spread = spread + variances[:, packed[min(place, other), max(place, other)]]
    with np.errstate(invalid="ignore", divide="ignore"):
        d = estimate / np.sqrt(variance)
        return d, np.sqrt(se**2 / variance + d**2 * spread / (4 * variance**2))
