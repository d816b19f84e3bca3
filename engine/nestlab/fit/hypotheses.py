"""Linear hypotheses on fixed effects, as text and as weights, and the result of their test."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, ndtr, stdtr

from ..spec.model import term_variables
from ..spec.problems import DataError, nearest

__all__ = ["Test", "parse_hypotheses", "two_sided"]

Array = NDArray[np.float64]

#: What may stand before a name: a sign and a number.
_SIGN = re.compile(r"([+-]?)(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*?)?")
_WORD = re.compile(r"(?:`[^`]+`|[^\W\d]|\()[^+\-*=,]*")


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


def parse_hypotheses(
    text: str,
    terms: Sequence[str],
    r_names: Sequence[str] = (),
    whole: Mapping[str, Callable[[], Array]] | None = None,
) -> tuple[Array, Array, bool]:
    """Weights (r, p) and values (r) of equations such as "x = 0, x:z - 2*x = 1", and whether one names a whole term.

    A side is a sum of coefficients and numbers; an equation may be a coefficient alone, which is 0, or the name of a term in
    `whole`, which gives its weights: all of them are 0. r_names: what R calls the coefficients. Raises DataError.

    >>> parse_hypotheses("x - z = 1", ["Intercept", "x", "z"])
    (array([[ 0.,  1., -1.]]), array([1.]), False)
    """
    reader = _Equations(text, terms, _spelled(terms, r_names), whole or {})
    rows, values, joint = reader.read()
    weights = np.vstack(rows)
    if np.linalg.matrix_rank(weights) < len(weights):
        raise DataError(
            f"hypotheses {text!r} depend on one another, or name no term; leave out what follows from the others"
        )
    return weights, np.array(values), joint


def _squeezed(text: str) -> str:
    """A name without the freedom of its spelling: I(x^2) and I( x ** 2 ) are one."""
    return "".join(text.split()).replace("**", "^").replace('"', "'")


def _spelled(terms: Sequence[str], r_names: Sequence[str]) -> dict[str, int]:
    """The places of coefficients by all that may be written for them, without spaces."""
    found: dict[str, int] = {}
    for names in (terms, r_names):  # ours come first where R calls something else by that name
        for place, name in enumerate(names):
            parts = term_variables(name)
            orders = itertools.permutations(parts) if 1 < len(parts) < 5 else [(name,)]
            for written in (name, *map(":".join, orders)):
                found.setdefault(_squeezed(written), place)
                found.setdefault(f"`{_squeezed(written)}`", place)
    return found


class _Equations:
    """A text of equations and the place up to which it is read."""

    def __init__(
        self, text: str, terms: Sequence[str], spelled: Mapping[str, int], whole: Mapping[str, Callable[[], Array]]
    ) -> None:
        self.text, self.rest = text, _squeezed(text)
        self.terms, self.spelled = terms, spelled
        self.whole = {name: weights for term, weights in whole.items() for name in _spelled([term], ())}

    def read(self) -> tuple[list[Array], list[float], bool]:
        rows: list[Array] = []
        values: list[float] = []
        joint = False
        while True:
            if (name := self.name(self.whole, ",")) is not None:
                found = self.whole[name]()
                rows, values, joint = [*rows, *found], [*values, *[0.0] * len(found)], True
            else:
                weights, value = self.equation()
                rows, values = [*rows, weights], [*values, value]
            if not self.rest:
                return rows, values, joint
            self.rest = self.rest[1:]

    def name(self, known: Iterable[str], ends: str) -> str | None:
        """Read the longest known name that stands here, before one of `ends` or the end."""
        fits = [n for n in known if self.rest.startswith(n) and self.rest[len(n) : len(n) + 1] in ("", *ends)]
        name = max(fits, key=len, default=None)
        self.rest = self.rest[len(name or "") :]
        return name

    def equation(self) -> tuple[Array, float]:
        left, constant = self.side()
        if self.rest.startswith("="):
            self.rest = self.rest[1:]
            right, number = self.side()
            if self.rest[:1] not in ("", ","):
                raise DataError(f"hypothesis {self.text!r} must be one equation; write {self.terms[-1]} = 0")
            return left - right, number - constant
        if np.count_nonzero(left) != 1 or left.max() != 1.0 or constant:
            raise DataError(f"hypothesis {self.text!r} must be one equation; write ... = 0")
        return left, 0.0

    def side(self) -> tuple[Array, float]:
        """Weights (p) and the constant of a sum."""
        weights, constant, first = np.zeros(len(self.terms)), 0.0, True
        if self.rest[:1] in ("", "=", ","):
            raise DataError(f"hypothesis {self.text!r} has an empty side; write {self.terms[-1]} = 0")
        while self.rest[:1] not in ("", "=", ","):
            sign = _SIGN.match(self.rest)
            assert sign is not None, "all of it may be absent"
            if not first and not sign[1]:
                self.refuse()
            self.rest = self.rest[sign.end() :]
            factor = (-1.0 if sign[1] == "-" else 1.0) * float(sign[2] or 1.0)
            if (name := self.name(self.spelled, "+-=,")) is not None:
                weights[self.spelled[name]] += factor
            elif sign[2] and self.rest[:1] in ("", *"+-=,"):
                constant += factor
            else:
                self.refuse()
            first = False
        return weights, constant

    def refuse(self) -> NoReturn:
        word = _WORD.match(self.rest)
        if word is None:
            raise DataError(
                f"hypothesis {self.text!r} cannot be read at {self.rest!r}; write a sum of coefficients such as x - 2*z"
            )
        if word[0] in self.whole:
            raise DataError(
                f"hypothesis {self.text!r} names {word[0]}, a whole term; write it alone, or a coefficient: "
                f"{', '.join(self.terms)}"
            )
        repair = nearest(word[0], [*self.terms, *self.whole])
        raise DataError(f"hypothesis {self.text!r} names {word[0]}, which is no fixed effect of the fit; {repair}")
