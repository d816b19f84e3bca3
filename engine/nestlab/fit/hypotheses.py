"""Linear hypotheses on fixed effects, as text and as weights, and the result of their test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, ndtr, stdtr

from ..spec.formula import find_term
from ..spec.problems import DataError

__all__ = ["Test", "parse_hypotheses", "two_sided"]

Array = NDArray[np.float64]

_NUMBER = r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
_SUMMAND = re.compile(rf"\s*([+-]?)\s*(?:({_NUMBER})\s*(?:\*\s*)?)?((?:`[^`]+`|[^\W\d][^+\-*=,]*|\([^)]*\))?)\s*")


@dataclass(frozen=True)
class Test:
    """A test of linear hypotheses: t with df degrees of freedom for one, F with (df1, df) for several; p two-sided.

    estimate and se: of one hypothesis, less its right-hand side; nan for several. p is nan where df is.
    """

    __test__ = False

    hypotheses: str
    statistic: float
    df1: int
    df: float
    p: float
    estimate: float = float("nan")
    se: float = float("nan")

    def __str__(self) -> str:
        """The test in a line: "x = 0: t(17.2) = 2.31, p = 0.0334"."""
        one = np.isfinite(self.se)
        df = "Inf" if self.df == np.inf else f"{self.df:.4g}"
        name = ("z" if self.df == np.inf else f"t({df})") if one else f"F({self.df1}, {df})"
        p = "< 2.2e-16" if self.p < 2.2e-16 else f"= {self.p:.4g}"
        return f"{self.hypotheses}: {name} = {self.statistic:.4g}, p {p}"

    @staticmethod
    def t(hypotheses: str, estimate: float, se: float, df: float) -> Test:
        """Of one hypothesis."""
        statistic = estimate / se
        return Test(hypotheses, statistic, 1, df, two_sided(statistic, df), estimate, se)

    @staticmethod
    def f(hypotheses: str, statistic: float, df1: int, df: float) -> Test:
        """Of several; df infinite: chi-square over df1."""
        return Test(hypotheses, statistic, df1, df, float(fdtrc(df1, min(df, 1e12), statistic)))


def two_sided(t: float, df: float) -> float:
    """P value of a t statistic; of z where df is infinite.

    >>> round(two_sided(2.0, 18.0), 4), round(two_sided(1.96, float("inf")), 4)
    (0.0608, 0.05)
    """
    return float(2 * (ndtr(-abs(t)) if df == np.inf else stdtr(df, -abs(t))))


def parse_hypotheses(text: str, terms: Sequence[str]) -> tuple[Array, Array]:
    """Weights (r, p) and values (r) of equations such as "x = 0, x:z - 2*x = 1"; a side may be a sum of terms and numbers.

    Raises DataError.

    >>> parse_hypotheses("x - z = 1", ["Intercept", "x", "z"])
    (array([[ 0.,  1., -1.]]), array([1.]))
    """
    equations = [part.strip() for part in text.split(",")]
    weights, values = np.zeros((len(equations), len(terms))), np.zeros(len(equations))
    for row, equation in enumerate(equations):
        sides = equation.split("=")
        if len(sides) != 2:
            raise DataError(f"hypothesis {equation!r} must be one equation; write {equation or terms[-1]} = 0")
        for side, sign in zip(sides, (1.0, -1.0), strict=True):
            known, number = _side(side, equation, terms)
            weights[row] += sign * known
            values[row] -= sign * number
    rank = np.linalg.matrix_rank(weights)
    if rank < len(equations):
        raise DataError(
            f"hypotheses {text!r} depend on one another, or name no term; leave out what follows from the others"
        )
    return weights, values


def _side(side: str, equation: str, terms: Sequence[str]) -> tuple[Array, float]:
    """Weights (p) and the constant of one side."""
    weights, constant, place = np.zeros(len(terms)), 0.0, 0
    if not side.strip():
        raise DataError(f"hypothesis {equation!r} has an empty side; write = 0")
    while place < len(side):
        match = _SUMMAND.match(side, place)
        if match is None or match.end() == place or not (match[2] or match[3]) or (place > 0 and not match[1]):
            raise DataError(
                f"hypothesis {equation!r} cannot be read at {side[place:].strip()!r}; write a sum such as x - 2*z"
            )
        factor = (-1.0 if match[1] == "-" else 1.0) * (float(match[2]) if match[2] else 1.0)
        name = match[3].strip()
        if name:
            weights[_place(name, equation, terms)] += factor
        else:
            constant += factor
        place = match.end()
    return weights, constant


def _place(name: str, equation: str, terms: Sequence[str]) -> int:
    found = "Intercept" if name == "(Intercept)" else name if name in terms else find_term(terms, name)
    if found is None or found not in terms:
        raise DataError(
            f"hypothesis {equation!r} names {name}, which is no fixed effect of the fit; it has {', '.join(terms)}"
        )
    return list(terms).index(found)
