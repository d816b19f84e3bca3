"""Likelihood ratio tests of one data set's fit against a smaller model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..simulate.streams import resampling_generator
from ..spec.comparison import Comparison, compare
from ..spec.formula import formula_text, parse_formula
from ..spec.problems import DataError
from .bootstrap import BootstrapTest
from .compare import lr_statistic, p_value
from .several.bootstrap import bootstrap_lrt
from .several.model import PlainModel, SeveralModel, factors_of, fit_factors
from .status import Status

if TYPE_CHECKING:
    from ..spec.model import Formula
    from .glmm.single import GeneralisedFit
    from .single import Fit

__all__ = ["REFERENCES", "ModelTest", "check_reference", "test_against", "test_generalised"]

#: What a likelihood ratio is judged by.
REFERENCES = ("asymptotic", "chisq", "bootstrap")
#: The key of the stream of the bootstrap.
STREAM = "1" * 64


@dataclass(frozen=True)
class ModelTest:
    """A likelihood ratio test of a null model. tested: the parameters that it sets to 0; reml: whether the likelihoods are
    restricted; statistic: the difference of the deviances, nan where one of the fits is no optimum; reference: what it was judged
    by; mixture: weights and degrees of freedom of the chi-squares, () for the bootstrap."""

    null: str
    tested: str
    reml: bool
    statistic: float
    reference: str
    mixture: tuple[tuple[float, int], ...]
    p: float

    def __str__(self) -> str:
        """The test in a line."""
        parts = [f"{'' if weight == 1 else f'{weight:g} '}chi2({df})" for weight, df in self.mixture]
        judge = " + ".join(parts) if parts else "the bootstrap"
        p = "< 2.2e-16" if self.p < 2.2e-16 else f"= {self.p:.4g}"
        kind = "REML" if self.reml else "ML"
        return f"{self.tested} = 0 ({self.null}): likelihood ratio ({kind}) = {self.statistic:.4g}, p {p} by {judge}"


def check_reference(reference: str) -> None:
    """Raise DataError for another one."""
    if reference not in REFERENCES:
        allowed = f"{', '.join(REFERENCES[:-1])} and {REFERENCES[-1]}"
        raise DataError(f"reference = {reference!r}: allowed are {allowed}; use one of them")


def test_against(fit: Fit, null: str, *, reference: str, draws: int, seed: int) -> ModelTest:
    """See `Fit.compare`."""
    formula, comparison = _compared(fit.matrices.formula, null, reference)
    if reference == "asymptotic" and not comparison.mixture:
        raise DataError(
            f"the test of {comparison.name} has no known large-sample distribution: take the bootstrap as reference, or test "
            "fewer parameters at once"
        )
    reml = fit.reml and not comparison.needs_ml
    before, after = _model(fit, null, reml=reml), _model(fit, None, reml=reml)
    assert isinstance(after, SeveralModel), "it has random terms"
    statistic = float(lr_statistic(before.neg2loglik, after.neg2loglik))
    if any(isinstance(each, SeveralModel) and each.optimum.status > Status.singular for each in (before, after)):
        statistic = np.nan
    written = formula_text(formula)
    if reference == "bootstrap":
        generator = resampling_generator(seed, STREAM, 0, 0)
        found: BootstrapTest = bootstrap_lrt(before, after, draws=draws, generator=generator)
        return ModelTest(written, comparison.name, reml, found.statistic, reference, (), found.p)
    p = float(p_value(comparison, statistic, mixture=reference == "asymptotic"))
    return ModelTest(written, comparison.name, reml, statistic, reference, _mixture(comparison, reference), p)


def test_generalised(fit: GeneralisedFit, null: str, *, reference: str) -> ModelTest:
    """See `GeneralisedFit.compare`."""
    formula, comparison = _compared(fit.matrices.formula, null, reference)
    if fit.method == "pql":
        raise DataError("penalised quasi-likelihood has no likelihood to compare by; fit with method = 'likelihood'")
    if reference == "bootstrap":
        raise DataError(
            "reference = 'bootstrap': families other than gaussian are compared by asymptotic and chisq; use one of them"
        )
    if reference == "asymptotic" and not comparison.mixture:
        raise DataError(
            f"the test of {comparison.name} has no known large-sample distribution: test fewer parameters at once, or take "
            "chisq, which is conservative"
        )
    before, after = fit.refit(null), fit.refit()
    statistic = float(lr_statistic(before.deviance, after.deviance))
    if before.status > Status.singular or after.status > Status.singular:
        statistic = np.nan
    p = float(p_value(comparison, statistic, mixture=reference == "asymptotic"))
    mixture = _mixture(comparison, reference)
    return ModelTest(formula_text(formula), comparison.name, False, statistic, reference, mixture, p)


def _compared(full: Formula, null: str, reference: str) -> tuple[Formula, Comparison]:
    """The null's formula, and what its comparison with the full one tests."""
    check_reference(reference)
    formula = parse_formula(null)
    try:
        return formula, compare(formula, full)
    except ValueError as error:
        raise DataError(str(error)) from None


def _mixture(comparison: Comparison, reference: str) -> tuple[tuple[float, int], ...]:
    return comparison.mixture if reference == "asymptotic" else ((1.0, len(comparison.tested)),)


def _model(fit: Fit, null: str | None, *, reml: bool) -> SeveralModel | PlainModel:
    """The model, or the null within it, fitted to the rows of the fit."""
    m = fit.matrices if null is None else fit.matrices.nested(parse_formula(null))
    if not m.Z:
        return PlainModel(m.X, m.y, reml)
    if null is None and isinstance(fit._problem, SeveralModel) and fit.reml == reml:
        return fit._problem
    return fit_factors(factors_of(m), m.X, m.y, reml=reml)
