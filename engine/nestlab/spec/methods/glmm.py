"""Generalised linear mixed models of binary and count outcomes, by Laplace's approximation or adaptive quadrature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..model import Formula, Method
from ..problems import Problems
from .estimator import Estimator

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = ["GLMM"]


def _words(method: Method) -> Iterator[tuple[str, str]]:
    family = method.formula.family
    how = (
        "Laplace's approximation"
        if method.nodes == 1
        else f"adaptive Gauss-Hermite quadrature with {method.nodes} nodes"
    )
    yield (
        "estimator",
        f"generalised linear mixed model ({family.name}, link {family.link}) by maximum likelihood, {how}",
    )


def _check(key: str, table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    if method.nodes > 1 and len(written.random_columns) != 1:
        text = "must be 1 (Laplace's approximation) unless the model has one random effect a cluster; remove it"
        problems.add_value(f"{key}.nodes", method.nodes, text)


GLMM = Estimator(
    name="glmm",
    module="glmm",
    words=_words,
    keys=frozenset({"nodes"}),
    rules=("z", "between-within"),
    random=True,
    residual=False,
    outcomes=("binomial", "poisson"),
    by_family=True,
    content=lambda method: {"nodes": method.nodes},
    check=_check,
)
