"""What a method brings to the measures: columns of results by estimand, and a word on every fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .assurance import Drawn

__all__ = ["Alternative", "Estimates", "MethodResults"]

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Alternative: TypeAlias = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What one method says of one estimand in R replicates. All columns are (R,), nan where there is no result.

    estimate: None if there is only a test (a joint one), which `p` holds. se: >= 0; None if the method makes none for
    this estimand. df: a column or one number, inf for z, nan where inference failed; None if there is no test or
    interval by se for this estimand (measures of inference are then absent, rather than missing R times).

    lower, upper: stored ends of intervals at 1 - alpha (profile, bootstrap), lower <= upper, infinite ones allowed;
    they stand in for estimate -/+ t se. p: stored p values in [0, 1] (likelihood ratio, bootstrap, joint F); they stand
    in for the t test.

    null: the value under test. alternative: which side of null the test is for; one-sided tests use t_{1 - alpha}, and
    intervals stay two-sided at 1 - alpha whatever the test. Non-inferiority by a margin is "greater" with null -margin,
    or "less" with null margin. equivalence: (low, high), margins with low < high; the test is then two one-sided tests
    at alpha, which reject if estimate - t_{1 - alpha} se > low and estimate + t_{1 - alpha} se < high, and null plays
    no part (Schuirmann 1987, J Pharmacokinet Biopharm 15:657).

    truth: the true value of each replicate, where they differ (draws from a prior); it stands in for the condition's.
    """

    estimate: Array | None = None
    se: Array | None = None
    df: Array | float | None = None
    null: float = 0.0
    lower: Array | None = None
    upper: Array | None = None
    p: Array | None = None
    alternative: Alternative = "two-sided"
    equivalence: tuple[float, float] | None = None
    truth: Array | None = None


@dataclass(frozen=True, slots=True)
class MethodResults:
    """One method's replicates of one condition.

    replicate: (R,) distinct numbers, by which methods are paired. converged: (R,) status ok or singular; singular:
    (R,) a part of converged; failed: (R,) the fit gave no estimates, disjoint from converged. alpha in (0, 1): the
    level of tests, and 1 - that of intervals. inference_failed: (R,) the fit has estimates and its inference failed,
    disjoint from failed; it is counted, and what has no result for it is nan in its column. drawn: what replicates drew
    from priors, if they did. selected: (R,) of a method that chooses between two models, 1 where it reports the larger one, 0
    where the smaller one, nan where neither. truth: true values by estimand that the method holds instead of those of all.
    meanings: of estimands that mean something else to the method than their name says, what; methods are compared where these
    agree. ValueError where these do not hold.
    """

    name: str
    replicate: NDArray[np.integer[Any]]
    converged: Mask
    singular: Mask
    failed: Mask
    estimands: Mapping[str, Estimates]
    alpha: float = 0.05
    inference_failed: Mask | None = None
    drawn: Drawn | None = None
    selected: Array | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)

    def true_value(self, estimand: str, truth: Mapping[str, float]) -> float:
        """The method's own true value, or that of all; nan where there is none."""
        return self.truth.get(estimand, truth.get(estimand, math.nan))

    def shares(self, estimand: str, other: MethodResults) -> bool:
        """Whether an estimand means the same to two methods."""
        return self.meanings.get(estimand) == other.meanings.get(estimand)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"method {self.name!r}: alpha is {self.alpha!r}; allowed is a number between 0 and 1, as 0.05"
            )
        object.__setattr__(self, "replicate", np.asarray(self.replicate))
        for flag in ("converged", "singular", "failed", "inference_failed"):
            if getattr(self, flag) is not None:
                object.__setattr__(self, flag, np.asarray(getattr(self, flag), dtype=bool))
                _require_shape(self, flag, getattr(self, flag))
        for number, values in enumerate(() if self.drawn is None else self.drawn.values):
            _require_shape(self, f"drawn[{number}]", values)
        if self.selected is not None:
            _require_shape(self, "selected", self.selected)
        for estimand, part in self.estimands.items():
            _require_columns(self, estimand, part)
            _require_test(self, estimand, part)
        rising = bool((self.replicate[1:] > self.replicate[:-1]).all())
        if not rising and np.unique(self.replicate).size < self.replicate.size:
            raise ValueError(
                f"method {self.name!r}: replicate repeats a number; give each replicate of a condition once"
            )
        _refuse(self, "singular", "converged", self.singular & ~self.converged, "a singular fit counts as converged")
        _refuse(self, "failed", "converged", self.failed & self.converged, "a failed fit is not converged")
        if self.inference_failed is not None:
            rule = "a fit without estimates counts as failed only"
            _refuse(self, "inference_failed", "failed", self.inference_failed & self.failed, rule)


def _require_shape(method: MethodResults, column: str, values: Any) -> None:
    if np.shape(values) != method.replicate.shape:
        found, wanted = np.shape(values), method.replicate.shape
        raise ValueError(
            f"method {method.name!r}: {column} has shape {found}; allowed is one value per replicate, {wanted}"
        )


def _require_columns(method: MethodResults, estimand: str, part: Estimates) -> None:
    """Columns that come together, each with a value per replicate."""
    if part.estimate is None and part.p is None:
        raise ValueError(
            f"method {method.name!r}: {estimand} has neither estimates nor p; give one, or leave the estimand out"
        )
    needs = {"se": "estimate", "df": "se", "lower": "estimate", "upper": "lower"}
    for column, needed in (*needs.items(), ("lower", "upper")):
        if getattr(part, column) is not None and getattr(part, needed) is None:
            raise ValueError(
                f"method {method.name!r}: {column}.{estimand} comes without {needed}.{estimand}; give it, "
                f"or leave {column} out"
            )
    for column in ("estimate", "se", "df", "lower", "upper", "p", "truth"):
        values = getattr(part, column)
        if values is not None and not (column == "df" and np.ndim(values) == 0):
            _require_shape(method, f"{column}.{estimand}", values)


def _require_test(method: MethodResults, estimand: str, part: Estimates) -> None:
    """One test, well defined."""
    if part.alternative not in get_args(Alternative):
        raise ValueError(
            f"method {method.name!r}: alternative.{estimand} is {part.alternative!r}; allowed are "
            f"{', '.join(map(repr, get_args(Alternative)))}; leave it out for the first"
        )
    if part.equivalence is None:
        return
    if len(part.equivalence) != 2 or not part.equivalence[0] < part.equivalence[1]:
        raise ValueError(
            f"method {method.name!r}: equivalence.{estimand} is {part.equivalence!r}; allowed is (low, high) with "
            "low < high, as (-0.2, 0.2)"
        )
    other = "p" if part.p is not None else "alternative" if part.alternative != "two-sided" else ""
    if other:
        raise ValueError(
            f"method {method.name!r}: {estimand} has both equivalence and {other}; allowed is one test: leave out one"
        )


def _refuse(method: MethodResults, name: str, other: str, wrong: Mask, rule: str) -> None:
    if wrong.any():
        number = method.replicate[int(np.argmax(wrong))]
        raise ValueError(
            f"method {method.name!r}: {name} is True in replicate {number}, where {other} says otherwise: {rule}"
        )
