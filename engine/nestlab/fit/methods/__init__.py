"""The fitting side of `spec.methods.ESTIMATORS`: a method prepared on a design, then called for blocks of replicates.

A row's module is imported where a study has such a method.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ...simulate.layout import Design
from ...spec.methods import estimator_of
from ...spec.model import Method
from .analysis import Analysed, Analysis, Block, Columns, Prepared

__all__ = ["Analysed", "Analysis", "Block", "Columns", "Prepared", "compile_analysis", "tolerances"]


def compile_analysis(design: Design, method: Method, key: str) -> Analysis:
    """Prepare a method on a design; key: the condition's data key, of which the analysis makes streams where it draws."""
    analysis: Analysis = _module(method).compile_analysis(Prepared(design, method, key))
    return analysis


def tolerances(method: Method) -> str:
    """Say when a fit counts as converged, singular or rank deficient; "" where there is nothing to say."""
    return str(getattr(_module(method), "TOLERANCES", ""))


def _module(method: Method) -> ModuleType:
    own = estimator_of(method).module if method.select is None else "selection"
    return import_module(f".{own}", __package__)
