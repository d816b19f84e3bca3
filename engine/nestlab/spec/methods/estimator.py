"""The row of a way to analyse: what it needs and estimates, which keys of [[method]] it takes, what its coefficients mean.

Its fitting side is the module of the same name in `fit/methods`, whose `compile_analysis` prepares it on a design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from ..model import Condition, Formula, Layout, Method, Structure
    from ..problems import Problems
    from ..tables import MethodTable

__all__ = ["ALL", "Estimator", "Levels", "UnknownError"]

#: The level of each predictor, None where an axis sets it; with several grouping factors the factor, or crossing of factors, that
#: it lives on, "" for rows.
Levels: TypeAlias = "Mapping[str, int | str | None]"


class UnknownError(Exception):
    """Why a true value of a method does not follow from the study."""


#: Families of outcomes that linear models are fitted to, too, by those who ask what that does.
ALL = ("gaussian", "binomial", "poisson")


def _nothing(*_: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """A way to analyse, as a study file knows it.

    name: the word of a study file; module: of `fit.methods`.
    words: say for a report, item by item, what a method does; "estimator" comes first.
    needs: sufficient statistics, or rows. Methods on rows are Python code and take milliseconds per fit.
    keys: the keys of [[method]] that it takes and not all estimators do.
    rules: of degrees of freedom; the first is the default.
    outcomes: the families of outcomes that it is for; by_family: its model has the outcome's, and is a linear one otherwise.
    random: it estimates the random part of its formula; residual: and the residual variance of rows.
    covariances: it gives the covariance of fixed effects, which contrasts need; of_variances: and that of variances, which
    standardised contrasts need.
    variances_known: it knows the true variances.
    absorbs: clusters' effects take up what is constant in clusters.
    every_term: it estimates all terms of its formula, so that a missing one is a failure.
    several: it is for several grouping factors, too; instead: say what to write there where it is not. few_factors: it is for
    several only; say what to write with one.
    joint: it has joint tests of several contrasts; shifts: its tests of an effect may have any value for the null; own_df: it has
    degrees of freedom of its own, these.
    messages: its rows hold the messages of failures and the number of warnings.
    left_out: name the fixed terms of a formula that it does not estimate; absorbed: those with several grouping factors, by the
    factors that its key names.
    by_level: these depend on the levels of predictors, which no axis may change then.
    sees: tell whether a product of these parts of predictors at level 1 is left in its data; "w" stands for deviations from
    the cluster's mean.
    equal_rows: tell whether every row has the same weight.
    combines: tell whether it has a test of a combination of these terms.
    check: add to `problems` what its keys, and the formula as written, do not allow; too_few: say what a layout forbids.
    misplaced: say what does not go with the factors that predictors live on; too_few_levels: say what the numbers of levels and
    rows of several grouping factors forbid.
    content: what results depend on beside what all methods have.
    translate: where coefficients do not mean what their names say, (p, p_t) each in terms of the truth's, nan where unknown,
    and why. Raises UnknownError where none is known.
    """

    name: str
    module: str
    words: Callable[[Method], Iterator[tuple[str, str]]]
    needs: Literal["gram", "rows"] = "gram"
    keys: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ("z",)
    outcomes: tuple[str, ...] = ("gaussian",)
    by_family: bool = False
    random: bool = False
    residual: bool = True
    covariances: bool = True
    of_variances: bool = False
    variances_known: bool = False
    absorbs: bool = False
    by_level: bool = False
    every_term: bool = True
    several: bool = False
    instead: Callable[[Method], str] = lambda method: 'estimator = "lmm"'
    few_factors: str = ""
    joint: bool = True
    shifts: bool = True
    own_df: str = ""
    messages: bool = False
    left_out: Callable[[Formula, Levels], Sequence[str]] = _nothing
    absorbed: Callable[[Formula, Levels, Sequence[str]], Sequence[str]] = _nothing
    sees: Callable[[Sequence[str]], bool] = lambda parts: True
    equal_rows: Callable[[Method], bool] = lambda method: False
    combines: Callable[[Method, Sequence[str], Levels], bool] = lambda method, terms, level: True
    check: Callable[[str, MethodTable, Method, Formula, Problems], object] = _nothing
    too_few: Callable[[Method, Layout], Sequence[str]] = _nothing
    misplaced: Callable[[Method, Levels], Sequence[str]] = _nothing
    too_few_levels: Callable[[Method, Structure, int, Levels], Sequence[str]] = _nothing
    content: Callable[[Method], Mapping[str, Any]] = lambda method: {}
    translate: Callable[[Condition, Method], tuple[np.ndarray[Any, np.dtype[np.float64]], str]] | None = None

    @property
    def by_rows(self) -> bool:
        """Whether it is Python code that works on rows."""
        return self.needs == "rows"

    def analysed(self, formula: Formula, level: Levels, factors: Sequence[str] = ()) -> Formula:
        """The part of a formula that it estimates. factors: those that the method's key names.

        >>> from nestlab.spec.formula import formula_text, parse_formula
        >>> from nestlab.spec.methods import ESTIMATORS
        >>> formula = parse_formula("y ~ x * z + (1 | g)")
        >>> formula_text(ESTIMATORS["fixed-effects"].analysed(formula, {"x": 1, "z": 2}))
        'y ~ 0 + x + x:z'
        """
        if self.random:
            return formula
        gone = self.absorbed(formula, level, factors) if formula.factors else self.left_out(formula, level)
        return replace(formula, fixed=tuple(term for term in formula.fixed if term not in gone), random=())
