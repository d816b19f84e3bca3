"""Fits of rows with several grouping factors, one replicate after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulate.several import SeveralDesign, SeveralDraw
from ...spec.formula import find_term
from ...spec.model import Formula
from ..inference import Hypotheses, Inference
from ..lmm import Fits, packed_map, pairs
from ..several.model import SeveralModel, fit_factors
from ..several.products import FactorColumns
from ..status import Status

__all__ = ["RowsFitter", "RowsProblem"]

Array = NDArray[np.float64]

#: What is left of a fixed column beside the others, over its length, that is rounding.
RANK = 1e-10
#: Residual sum of squares of the least-squares fit over y'y that is rounding.
PERFECT = 1e-24


@dataclass(frozen=True)
class RowsFitter:
    """A formula on one design."""

    design: SeveralDesign
    formula: Formula
    reml: bool
    singular_df: str

    @cached_property
    def true_beta(self) -> Array:
        """(p): the condition's coefficients, which y is without; 0 of terms that the truth has not."""
        truth = self.design.condition.truth
        names = [find_term(truth.formula.fixed, term) for term in self.formula.fixed]
        return np.array([0.0 if n is None else truth.fixed[truth.formula.fixed.index(n)] for n in names])

    def problem(self, draw: SeveralDraw, first: int, last: int) -> RowsProblem:
        """Replicates first .. last - 1 of a block."""
        part = draw.part(first, last)
        X = [part.term(term) for term in self.formula.fixed]
        Z = {group: [part.term(c) for c in self.formula.of(group).random_columns] for group in self.formula.groups}
        y = part.response(self.formula.fixed)
        models = [self._fit(part, X, Z, y, r) for r in range(last - first)]
        return RowsProblem(self, models)

    def _fit(
        self, part: SeveralDraw, X: Sequence[Array], Z: dict[str, list[Array]], y: Array, r: int
    ) -> _FittedRows | Status:
        kept = np.ones(len(y), dtype=bool) if part.kept is None else part.kept[:, r]

        def one(values: NDArray[Any]) -> NDArray[Any]:
            found: NDArray[Any] = values[kept, r if values.shape[1] > 1 else 0]
            return found

        columns, response = np.column_stack([one(x) for x in X]), one(y)
        if not np.isfinite(response).all() or not np.isfinite(columns).all():
            return Status.nonfinite
        if len(response) <= columns.shape[1] or _dependent(columns):
            return Status.rank_deficient
        factors = []
        for group, own in Z.items():
            present, codes = np.unique(one(part.codes[group]), return_inverse=True)
            sizes = tuple(len(term.columns) for term in self.formula.random if term.group == group)
            random = np.column_stack([one(z) for z in own])
            if len(present) < 2 or max(sizes) * len(present) >= len(response):
                return Status.rank_deficient
            factors.append(FactorColumns(codes.astype(np.int64), len(present), random, sizes))
        ols = np.asarray(np.linalg.lstsq(columns, response, rcond=None)[0], dtype=float)
        left = response - columns @ ols
        if not left @ left > PERFECT * (response @ response):
            return Status.nonfinite
        return _FittedRows(fit_factors(factors, columns, response, reml=self.reml, singular_df=self.singular_df), ols)


@dataclass(frozen=True)
class _FittedRows:
    """A model of what the least-squares fit leaves, and that fit's coefficients (p)."""

    model: SeveralModel
    ols: Array


def _dependent(X: Array) -> bool:
    """Whether a column of X is a combination of others, whatever their units."""
    scaled = X / np.maximum(np.sqrt((X * X).sum(axis=0)), 1e-300)
    return bool(np.abs(np.diag(np.linalg.qr(scaled, mode="r"))).min() < RANK)


@dataclass(frozen=True)
class RowsProblem:
    """Fits of R replicates, each a model, or what became of it."""

    fitter: RowsFitter
    models: Sequence[_FittedRows | Status]

    @cached_property
    def _usable(self) -> list[tuple[int, SeveralModel, Array]]:
        """Replicates with an estimate: their places, models and least-squares coefficients."""
        found = [(r, m.model, m.ols) for r, m in enumerate(self.models) if isinstance(m, _FittedRows)]
        return [(r, m, ols) for r, m, ols in found if m.optimum.deviance < np.inf and m.sigma2 > 0]

    @cached_property
    def _order(self) -> list[int]:
        """The places of the formula's random columns, factor by factor."""
        formula = self.fitter.formula
        return [k for group in formula.groups for k, (g, _) in enumerate(formula.places) if g == group]

    @cached_property
    def fits(self) -> Fits:
        formula, R = self.fitter.formula, len(self.models)
        p, q = len(formula.fixed), len(formula.random_columns)
        fits = Fits(
            np.array([int(m if isinstance(m, Status) else m.model.optimum.status) for m in self.models]),
            np.array([0 if isinstance(m, Status) else m.model.optimum.iterations for m in self.models]),
            np.full(R, np.nan), np.full(R, np.nan), np.full((R, p), np.nan), np.full((R, p * (p + 1) // 2), np.nan),
            np.full((R, q * (q + 1) // 2), np.nan), np.full(R, np.nan),
        )  # fmt: skip
        for r, model, ols in self._usable:
            back = model.back * model.scale
            fits.deviance[r], fits.residual[r] = model.neg2loglik, model.optimum.residual
            fits.beta[r] = ols + back @ model.beta + self.fitter.true_beta
            vcov = back @ model.vcov @ back.T
            fits.vcov[r] = [vcov[i, k] for i, k in pairs(p)]
            fits.sigma2[r] = model.sigma2 * model.scale**2
            C, start = np.zeros((q, q)), 0
            for T in model.covariances():
                own = self._order[start : start + len(T)]
                C[np.ix_(own, own)] = T @ T.T * fits.sigma2[r]
                start += len(T)
            fits.varcomp[r] = [C[i, k] for i, k in pairs(q)]
        return fits

    def infer(self, hypotheses: Hypotheses, rules: Sequence[str]) -> dict[str, Inference]:
        """Each rule on the hypotheses."""
        R, H, p = len(self.models), len(hypotheses), len(self.fitter.formula.fixed)
        found = {}
        for rule in rules:
            df, scale = np.full((R, H), np.nan), np.ones((R, H))
            vcov = np.full((R, p * (p + 1) // 2), np.nan)
            for r, model, _ in self._usable:
                one = model.infer(rule, self.fitter.singular_df, [hypotheses[h] for h in range(H)])
                back = model.back * model.scale
                V = np.zeros((p, p))
                for k, (i, j) in enumerate(pairs(p)):
                    V[i, j] = V[j, i] = one.vcov[0, k]
                V = back @ V @ back.T
                df[r], scale[r], vcov[r] = one.df[0], one.scale[0], [V[i, k] for i, k in pairs(p)]
            found[rule] = Inference(df, vcov, scale)
        return found

    def variances(self) -> Array:
        """Covariance (R, k(k+1)/2), by pairs, of the variance components, see `inference.variance_covariance`."""
        q = len(self._order)
        k = q * (q + 1) // 2 + 1
        back = np.eye(k)
        back[:-1, :-1] = packed_map(np.eye(q)[:, self._order])
        found = np.full((len(self.models), k * (k + 1) // 2), np.nan)
        for r, model, _ in self._usable:
            covariance = back @ model.variance_covariance() @ back.T
            found[r] = [covariance[i, j] for i, j in pairs(k)]
        return found
