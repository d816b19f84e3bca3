"""What a search for a design is asked, and what one design tried gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..spec.cost import Cost
from .crossing import Kind

__all__ = ["DEFAULT_MOST", "DEFAULT_PRECISION", "FIRST", "Measure", "Question", "SearchTarget", "Trial", "Values"]

Values: TypeAlias = tuple[float, ...]
Measure: TypeAlias = Literal["power", "joint power", "width", "cover", "bias", "relbias"]

_KINDS: dict[str, tuple[Literal["above", "below"], Kind]] = {
    "power": ("above", "proportion"), "joint power": ("above", "proportion"), "cover": ("above", "proportion"),
    "width": ("below", "positive"), "bias": ("below", "real"), "relbias": ("below", "real"),
}  # fmt: skip
DEFAULT_PRECISION, DEFAULT_MOST = 0.02, 200_000
#: Replications of the first designs.
FIRST = 500


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """A measure of an estimand by a method (its label), and the value that it is to reach: at least for power, joint power (all
    of several estimands rejected) and coverage, at most for the width of the interval, |bias| and |relbias| (percent). alpha: the
    level of the method's tests; None where an older answer does not tell it.
    """

    measure: Measure
    value: float
    estimands: tuple[str, ...]
    method: str
    alpha: float | None = None

    @property
    def side(self) -> Literal["above", "below"]:
        return _KINDS[self.measure][0]

    @property
    def kind(self) -> Kind:
        return _KINDS[self.measure][1]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. over: one axis, or clusters and cluster_size with a cost; between: ends of each, where given.

    budget: no design may cost more; maximise: the best design within it, instead of the cheapest that reaches the target.
    precision: the width of the answer's interval that is enough, relative to the answer. most: replications of any design. step:
    of the axis, where given.
    """

    target: SearchTarget
    over: tuple[str, ...]
    between: tuple[tuple[float, float] | None, ...]
    cost: Cost | None = None
    budget: float = math.inf
    maximise: bool = False
    precision: float = DEFAULT_PRECISION
    most: int = DEFAULT_MOST
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A design that was simulated: the axes' values, the target's measure there with its MCSE, replicates used and those
    that did not converge or are without a result, and the condition's number in the results.
    """

    values: Mapping[str, float]
    value: float
    mcse: float
    n: int
    missing: int
    condition: int
