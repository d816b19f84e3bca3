"""The row of a way to analyse: what it needs and estimates, which keys of [[method]] it takes, what its coefficients mean.

Its fitting side is the module of the same name in `fit/methods`, whose `compile_analysis` prepares it on a design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from ..model import Condition, Formula, Layout, Method
    from ..problems import Problems
    from ..tables import MethodTable

__all__ = ["Estimator", "Levels", "UnknownError"]

#: The level of each predictor, None where an axis sets it.
Levels: TypeAlias = "Mapping[str, int | None]"


class UnknownError(Exception):
    """Why a true value of a method does not follow from the study."""


def _nothing(*_: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """A way to analyse, as a study file knows it.

    module: of `fit.methods`. words: what a report says of a method, item by item, "estimator" first. needs: what it works on,
    sufficient statistics or rows; methods on rows are Python code, in milliseconds a fit. keys: of [[method]], those that not
    all estimators take. rules: of degrees of freedom, the default first. random: whether it estimates the random part of its
    formula. residual: whether it estimates the residual variance of rows. covariances: whether it gives those of fixed effects,
    which contrasts need. variances_known: it knows the true variances. absorbs: clusters' effects take up what is constant in
    clusters. every_term: whether it estimates all terms of its formula, so that a missing one is a failure. messages: whether
    its rows hold the messages of failures and the number of warnings.

    left_out: fixed terms of a formula that it does not estimate. sees: whether a product of these parts of predictors at level
    1, "w" for deviations from the cluster's mean, is left in its data. equal_rows: whether every row has the same weight.
    check: adds to `problems` what its keys and the formula as written do not allow. too_few: what a layout forbids. content: what
    results depend on beside what all methods have. translate: where coefficients do not mean what their names say, (p, p_t) what
    each is in the truth's, nan where unknown, and why; raises UnknownError where none is known.
    """

    name: str
    module: str
    words: Callable[[Method], Iterator[tuple[str, str]]]
    needs: Literal["gram", "rows"] = "gram"
    keys: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ("z",)
    random: bool = False
    residual: bool = True
    covariances: bool = True
    variances_known: bool = False
    absorbs: bool = False
    every_term: bool = True
    messages: bool = False
    left_out: Callable[[Formula, Levels], Sequence[str]] = _nothing
    sees: Callable[[Sequence[str]], bool] = lambda parts: True
    equal_rows: Callable[[Method], bool] = lambda method: False
    check: Callable[[str, MethodTable, Method, Formula, Problems], object] = _nothing
    too_few: Callable[[Method, Layout], Sequence[str]] = _nothing
    content: Callable[[Method], Mapping[str, Any]] = lambda method: {}
    translate: Callable[[Condition, Method], tuple[np.ndarray[Any, np.dtype[np.float64]], str]] | None = None

    @property
    def by_rows(self) -> bool:
        """Whether it is Python code that works on rows."""
        return self.needs == "rows"

    def analysed(self, formula: Formula, level: Levels) -> Formula:
        """The part of a formula that it estimates.

        >>> from nestlab.spec.formula import formula_text, parse_formula
        >>> from nestlab.spec.methods import ESTIMATORS
        >>> formula = parse_formula("y ~ x * z + (1 | g)")
        >>> formula_text(ESTIMATORS["fixed-effects"].analysed(formula, {"x": 1, "z": 2}))
        'y ~ 0 + x + x:z'
        """
        if self.random:
            return formula
        gone = self.left_out(formula, level)
        return replace(formula, fixed=tuple(term for term in formula.fixed if term not in gone), random=())
