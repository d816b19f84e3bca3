"""Generalised estimating equations, by statsmodels."""

from __future__ import annotations

from collections.abc import Iterator

from ..model import Method
from .estimator import Estimator

__all__ = ["GEE"]


def _words(method: Method) -> Iterator[tuple[str, str]]:
    working = {"ar1": "AR(1), by the order of a cluster's rows"}.get(method.working, method.working)
    yield "estimator", f"GEE by statsmodels, Gaussian; working correlation: {working}"
    errors = {"bias_reduced": "bias-reduced (Mancl and DeRouen 2001)", "naive": "naive (model-based)"}
    yield "standard errors", errors.get(method.covariance, "robust (sandwich)")


GEE = Estimator(
    name="gee",
    module="gee",
    words=_words,
    needs="rows",
    keys=frozenset({"working", "covariance"}),
    rules=("z", "residual", "between-within"),
    instead=lambda method: 'estimator = "ols" with robust = "CR2"',
    messages=True,
    equal_rows=lambda method: method.working == "independence",
    content=lambda method: {"working": method.working, "covariance": method.covariance},
)
