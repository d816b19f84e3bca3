"""The fitting side of `spec.methods.ESTIMATORS`: a method prepared on a design, then called for blocks of replicates.

A row's module is imported where a study has such a method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType

from ...simulate.outcomes import as_errors
from ...simulate.several import SeveralDesign
from ...simulate.source import AnyDesign
from ...spec.methods import estimator_of
from ...spec.model import Method
from .analysis import Analysed, Analysis, Block, Columns, MethodColumns, Prepared, PreparedSeveral

__all__ = ["Analysed", "Analysis", "Block", "Columns", "Prepared", "compile_analysis", "tolerances"]


def compile_analysis(design: AnyDesign, method: Method, key: str) -> Analysis:
    """Prepare a method on a design; key: the condition's data key, of which the analysis makes streams where it draws."""
    if isinstance(design, SeveralDesign):
        several = PreparedSeveral(design.condition, method, key, design)
        made: Analysis = _module(method).compile_analysis(several)
        return made
    linear = method.formula.family != design.condition.truth.formula.family
    one = as_errors(design) if linear else design
    analysis: Analysis = _module(method).compile_analysis(Prepared(design.condition, method, key, one))
    return OfOutcomes(analysis) if linear else analysis


@dataclass(frozen=True)
class OfOutcomes:
    """A linear model's analysis of outcomes that are not Gaussian, from their sufficient statistics."""

    analysis: Analysis

    @property
    def on(self) -> MethodColumns:
        return self.analysis.on

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        return self.analysis(replace(block, draw=block.draw.gram), first, last)  # type: ignore[type-var]


def tolerances(method: Method) -> str:
    """Say when a fit counts as converged, singular or rank deficient; "" where there is nothing to say."""
    return str(getattr(_module(method), "TOLERANCES", ""))


def _module(method: Method) -> ModuleType:
    row = estimator_of(method)
    own = row.module if method.select is None else "selection"
    several = method.formula.factors and not row.messages  # a function has data frames of any design
    return import_module(f".{'several_' if several else ''}{own}", __package__)
