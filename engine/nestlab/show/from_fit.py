"""A pilot as a study: a fit's estimates as truth, its cluster sizes as design, its predictors as a study can make them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..fit.single import Fit, fit
from ..spec.data import read_frame
from ..spec.factors import expand
from ..spec.formula import find_term, parse_formula
from ..spec.model import Formula, Predictor
from ..spec.problems import DataError
from ..spec.structure import GroupingFactors, with_factors
from .pilot_columns import PilotColumn, TakenOver, take_over
from .pilot_factors import PilotFactor, find_factors
from .pilot_several import PilotFile

__all__ = ["Estimate", "Pilot", "read_pilot"]

#: A variance is taken for 0 if its share of y is less than this part of the residual variance.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its standard error, df and 95 % profile limits; nan where there is none, df inf for a normal one."""

    value: float
    se: float = float("nan")
    df: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")


@dataclass(frozen=True)
class Pilot:
    """A fitted pilot in the words of a study.

    text, formula: with names that a study can have, and with the columns of categories; names: those of the data by them, where
    they differ; coded: for two categories, the one that is 0 and the one that is 1. fixed, variances, correlations: by term, by
    grouping factor and random column, and by factor and pair of columns (absent where a variance is 0). columns: the predictors
    on the N rows; factors: the grouping factors; file: the data, which folder has the study as well; dropped: the number of rows
    left out for missing values.
    """

    source: str
    written: str
    text: str
    formula: Formula
    names: dict[str, str]
    coded: dict[str, tuple[str, str]]
    fixed: dict[str, Estimate]
    variances: dict[tuple[str, str], Estimate]
    correlations: dict[tuple[str, str, str], Estimate]
    residual: Estimate
    columns: tuple[PilotColumn, ...]
    factors: tuple[PilotFactor, ...]
    file: PilotFile
    folder: Path
    dropped: int
    singular: bool

    @property
    def several(self) -> bool:
        """Whether it has several grouping factors."""
        return len(self.factors) > 1

    @property
    def groups(self) -> NDArray[np.int64]:
        """(N): the cluster of each row, 0 .. J - 1, where it has one grouping factor."""
        return self.factors[0].codes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each cluster."""
        return tuple(np.bincount(self.groups).tolist())

    @property
    def rows(self) -> int:
        return len(self.groups)


def read_pilot(data: Path, written: str, folder: Path = Path()) -> Pilot:
    """Fit a formula to a data file by REML and describe both. folder: that of the study. Raises DataError and FormulaError."""
    frame = read_frame(data).reset_index(drop=True)
    taken = take_over(frame, written)
    fitted = fit(taken.fitted, taken.frame)
    if not fitted.status.converged:
        raise DataError(f"{written}: {fitted.status.sentence} Use fewer random columns, or more data")
    read = parse_formula(taken.study)
    factors = find_factors(read, taken.frame, list(taken.groups))
    if len(factors) > 1:
        read = with_factors(read, GroupingFactors(tuple((factor.name, factor.within) for factor in factors)))
    formula = expand(read, {c.name: _columns_of(c) for c in taken.columns if c.categories})
    fixed, variances, correlations, residual = _estimates(fitted, formula)
    return Pilot(
        source=data.name, written=" ".join(written.split()), text=taken.study, formula=formula, names=taken.names,
        coded=taken.coded, fixed=fixed, variances=variances, correlations=correlations, residual=residual,
        columns=taken.columns, factors=factors, file=_file(data, folder, frame, taken), folder=folder,
        dropped=len(frame) - len(taken.frame), singular=fitted.singular,
    )  # fmt: skip


def _file(data: Path, folder: Path, frame: pd.DataFrame, taken: TakenOver) -> PilotFile:
    """The data file, with the columns that a study can take from it."""
    path = Path(os.path.relpath(data, folder)).as_posix()
    if len(taken.frame) < len(frame):
        return PilotFile(path, {})
    numbers = {
        c.name: c.written.strip("`")
        for c in taken.columns
        if not (c.made or c.categories or c.name in taken.coded)
        and pd.api.types.is_numeric_dtype(frame[c.written.strip("`")])
    }
    return PilotFile(path, {**numbers, **taken.groups})


def _columns_of(column: PilotColumn) -> tuple[str, ...]:
    return Predictor(column.name, 1, "categorical", categories=column.categories).columns


def _estimates(
    fitted: Fit, formula: Formula
) -> tuple[dict[str, Estimate], dict[tuple[str, str], Estimate], dict[tuple[str, str, str], Estimate], Estimate]:
    """Fixed effects, variances, correlations and the residual variance, by the study's names."""
    limits = {str(name): (float(row["lower"]), float(row["upper"])) for name, row in fitted.confint().iterrows()}
    own = {term: find_term(fitted.beta, term) for term in formula.fixed}
    fixed = {
        term: Estimate(fitted.beta[old], fitted.se[old], fitted.df[old], *limits[_r_name(old)])
        for term, old in own.items()
        if old is not None
    }
    ses, residual_se = fitted.se_variances
    variances: dict[tuple[str, str], Estimate] = {}
    correlations: dict[tuple[str, str, str], Estimate] = {}
    m = fitted.matrices
    fits = zip(fitted.random_names, m.term_groups, fitted.varcomp.values(), ses, strict=True)  # lme4's order
    for t, (old, group, matrix, se) in sorted(zip(m.term_order, fits, strict=True), key=lambda each: each[0]):
        term = formula.random[t]
        zero = np.diag(matrix) * (m.Z[t] ** 2).mean(axis=0) < _NEGLIGIBLE * fitted.sigma**2
        for a, column in enumerate(term.columns):
            lower, upper = limits[f"sd_{_r_name(old[a])}|{group}"]
            value = 0.0 if zero[a] else float(matrix[a, a])
            variances[term.group, column] = Estimate(value, float(se[a]), _df(value, float(se[a])), lower**2, upper**2)
            for b in range(a):
                if not zero[a] and not zero[b]:
                    r = float(np.clip(matrix[a, b] / np.sqrt(matrix[a, a] * matrix[b, b]), -1, 1))
                    ends = limits[f"cor_{_r_name(old[a])}.{_r_name(old[b])}|{group}"]
                    correlations[term.group, term.columns[b], column] = Estimate(r, lower=ends[0], upper=ends[1])
    low, high = limits["sigma"]
    residual = fitted.sigma**2
    return fixed, variances, correlations, Estimate(residual, residual_se, _df(residual, residual_se), low**2, high**2)


def _df(value: float, se: float) -> float:
    """Those of the chi-square that has the variance's relative standard error (Satterthwaite 1946)."""
    return 2 * (value / se) ** 2 if value > 0 and se > 0 else float("nan")


def _r_name(term: str) -> str:
    return "(Intercept)" if term == "Intercept" else term
