"""A pilot as a study: a fit's estimates as truth, its cluster sizes as design, its predictors as a study can make them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..fit.read import read_frame
from ..fit.single import Fit, fit
from ..spec.columns import TOKEN, plain
from ..spec.estimand import RESERVED
from ..spec.formula import FormulaError, parse_formula
from ..spec.matrices import model_matrices
from ..spec.model import Formula, term_variables
from ..spec.problems import DataError
from .pilot_predictors import PilotPredictor, describe_predictors

__all__ = ["Estimate", "Pilot", "read_pilot"]

#: Words that a study takes for its own.

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

    formula: with names that a study can have; names: those of the data by them, where they differ; coded: for a text of two
    categories, the one that is 0 and the one that is 1. fixed, variances, correlations: by term, random column and pair of
    columns (absent where a variance is 0); rows left out for missing values: dropped. sizes (J): rows of each cluster.
    """

    source: str
    written: str
    formula: Formula
    names: dict[str, str]
    coded: dict[str, tuple[str, str]]
    fixed: dict[str, Estimate]
    variances: dict[str, Estimate]
    correlations: dict[tuple[str, str], Estimate]
    residual: Estimate
    predictors: tuple[PilotPredictor, ...]
    sizes: tuple[int, ...]
    dropped: int
    singular: bool

    @property
    def rows(self) -> int:
        return sum(self.sizes)


def read_pilot(data: Path, written: str) -> Pilot:
    """Fit a formula to a data file by REML and describe both. Raises DataError and FormulaError."""
    frame = read_frame(data).reset_index(drop=True)
    names = _names(written)
    frame, coded = _coded(frame, written, names)
    fitted = fit(written, frame)
    if not fitted.status.converged:
        raise DataError(f"{written}: {fitted.status.sentence} Use fewer random columns, or more data")
    formula = parse_formula(_renamed(written, names))
    used = frame.loc[fitted.matrices.index]
    variables = sorted({v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)})
    columns = {v: np.asarray(plain(used, names[v]), dtype=float) for v in variables}
    fixed, variances, correlations, residual = _estimates(fitted, formula)
    return Pilot(
        source=data.name, written=" ".join(written.split()), formula=formula,
        names={new: old for new, old in names.items() if new != old}, coded=coded,
        fixed=fixed, variances=variances, correlations=correlations, residual=residual,
        predictors=describe_predictors(columns, fitted.matrices.groups, formula.group),
        sizes=tuple(np.bincount(fitted.matrices.groups).tolist()), dropped=fitted.dropped, singular=fitted.singular,
    )  # fmt: skip


def _names(written: str) -> dict[str, str]:
    """The data's name of each variable by a name that a study can have. FormulaError for a transformation."""
    names: dict[str, str] = {}
    for match in TOKEN.finditer(written):
        found, kind = match.group(), match.lastgroup
        if kind == "call":
            raise FormulaError(
                " ".join(written.split()),
                f"{found}(...) is a transformation, and a study's formula has none; add the transformed column to the data",
            )
        if kind in ("name", "quoted") and (old := found.strip("`")) not in names.values():
            names[_free_name(old, names)] = old
    return names


def _free_name(old: str, taken: dict[str, str]) -> str:
    """Letters, digits and _, a letter first, and no word that is taken."""
    clean = re.sub(r"\W+", "_", old).strip("_") or "v"
    clean = clean if re.match(r"[^\W\d_]", clean) else f"v{clean}"
    clean = f"{clean}_" if clean in RESERVED else clean
    new, k = clean, 2
    while new in taken:
        new, k = f"{clean}_{k}", k + 1
    return new


def _renamed(written: str, names: dict[str, str]) -> str:
    """The formula with the study's names."""
    new = {old: name for name, old in names.items()}
    parts = [
        new[m.group().strip("`")] if m.lastgroup in ("name", "quoted") else m.group() for m in TOKEN.finditer(written)
    ]
    return " ".join("".join(parts).split())


def _coded(frame: pd.DataFrame, written: str, names: dict[str, str]) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    """Text of two categories as 0 and 1, where that is the same model; DataError for other text."""
    before = model_matrices(written, frame)
    formula = parse_formula(_renamed(written, names))
    coded: dict[str, tuple[str, str]] = {}
    changed = frame.copy()
    for variable in {v: None for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)}:
        column = names[variable]
        values = plain(frame.loc[before.index], column)
        if not isinstance(values, pd.Categorical):
            continue
        first, *others = map(str, values.categories)
        shown = ", ".join(f'"{c}"' for c in [first, *others][:4]) + (", ..." if len(others) > 3 else "")
        if len(others) != 1:
            raise DataError(
                f"{column} has the categories {shown}, and a study's predictors are numbers; make a column of 0 and 1 for "
                "each but one of them, and name those in the formula"
            )
        changed[column] = np.nan
        changed.loc[before.index, column] = (np.asarray(values.codes) == 1).astype(float)
        coded[variable] = (first, others[0])
    if not coded:
        return frame, coded
    after = model_matrices(written, changed)
    if after.X.shape != before.X.shape or [Z.shape for Z in after.Z] != [Z.shape for Z in before.Z]:
        text = " and ".join(names[v] for v in coded)
        raise DataError(f"{text} has a coefficient for each of its two categories here; make it a column of 0 and 1")
    return changed, coded


def _estimates(
    fitted: Fit, formula: Formula
) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[tuple[str, str], Estimate], Estimate]:
    """Fixed effects, variances, correlations and the residual variance, by the study's names."""
    limits = {str(name): (float(row["lower"]), float(row["upper"])) for name, row in fitted.confint().iterrows()}
    fixed = {
        term: Estimate(fitted.beta[old], fitted.se[old], fitted.df[old], *limits[_r_name(old)])
        for term, old in zip(formula.fixed, fitted.beta, strict=True)
    }
    ses, residual_se = fitted.se_variances
    variances: dict[str, Estimate] = {}
    correlations: dict[tuple[str, str], Estimate] = {}
    for term, old, Z, matrix, se in zip(
        formula.random, fitted.random_names, fitted.matrices.Z, fitted.varcomp.values(), ses, strict=True
    ):
        shares = np.diag(matrix) * (Z**2).mean(axis=0)
        zero = shares < _NEGLIGIBLE * fitted.sigma**2
        for a, column in enumerate(term.columns):
            lower, upper = limits[f"sd_{_r_name(old[a])}|{fitted.group}"]
            value = 0.0 if zero[a] else float(matrix[a, a])
            variances[column] = Estimate(value, float(se[a]), _df(value, float(se[a])), lower**2, upper**2)
            for b in range(a):
                if not zero[a] and not zero[b]:
                    r = float(np.clip(matrix[a, b] / np.sqrt(matrix[a, a] * matrix[b, b]), -1, 1))
                    ends = limits[f"cor_{_r_name(old[a])}.{_r_name(old[b])}|{fitted.group}"]
                    correlations[term.columns[b], column] = Estimate(r, lower=ends[0], upper=ends[1])
    low, high = limits["sigma"]
    residual = fitted.sigma**2
    return fixed, variances, correlations, Estimate(residual, residual_se, _df(residual, residual_se), low**2, high**2)


def _df(value: float, se: float) -> float:
    """Those of the chi-square that has the variance's relative standard error (Satterthwaite 1946)."""
    return 2 * (value / se) ** 2 if value > 0 and se > 0 else float("nan")


def _r_name(term: str) -> str:
    return "(Intercept)" if term == "Intercept" else term
