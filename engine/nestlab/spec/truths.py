"""True values of what the methods of a condition estimate.

A name means the truth's parameter of that name, 0 where the truth has none. Where it means something else to a method, because
that centres predictors otherwise or leaves out a product, the method has true values of its own (`translation`), and so has
everything that is derived from them.

icc = intercept variance / (intercept variance + residual variance), the other slopes' predictors at 0; of one of several grouping
factors its intercept variance / (all intercept variances + residual variance). icc:school/class has those of school and of class
above the line: it is the correlation of two rows of one class. The residual variance is the stated one: where errors differ, that
of rows whose predictors with a variance ratio are 0, in the mean over clusters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .estimand import Estimand, listed
from .estimands import contrasts_of, method_estimands, study_estimands
from .formula import find_term, formula_text
from .model import INTERCEPT, Condition, Contrast, Formula, Method, Truth
from .translation import Centres, Translation, translate
from .uncertain import DrawnTruth, drawn_truth, drawn_values, prior_names

__all__ = [
    "Centres",
    "TrueValues",
    "named_values",
    "translated",
    "true_values",
    "varying_names",
]

#: Draws by which it is seen what varies.
_PROBES = 4
#: A covariance below this is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class TrueValues:
    """The true values of a condition's estimands.

    shared: by estimand, nan where it is undefined or methods differ. own: those that a method holds instead of them, {method:
    {estimand: value}}, nan where unknown. meanings: what these are in the truth's parameters; unknown: why they are not known.
    Values are numbers, or (R,) where replicates differ.
    """

    shared: dict[str, Any]
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    meanings: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: dict[str, dict[str, str]] = field(default_factory=dict)

    def as_numbers(self) -> TrueValues:
        """Return these values as plain numbers, where each is an array of one."""
        own = {method: {name: float(v) for name, v in values.items()} for method, values in self.own.items()}
        return TrueValues({name: float(v) for name, v in self.shared.items()}, own, self.meanings, self.unknown)

    def of(self, method: str) -> dict[str, Any]:
        """Return all values, a method's own in place of the shared ones."""
        return {**self.shared, **self.own.get(method, {})}


def named_values(
    truth: Truth | DrawnTruth, formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()
) -> dict[str, Any]:
    """The truth's parameters by name, and 0 for the terms and random columns that only other formulas have."""
    contrasts = tuple(contrasts)
    return _named(truth, contrasts).of(listed([truth.formula, *formulas], contrasts).values())


def true_values(
    condition: Condition, methods: Sequence[Method], centres: Centres, truth: Truth | DrawnTruth | None = None
) -> TrueValues:
    """The true values of what each method estimates.

    centres: what center() takes off a level-1 predictor, see `translation.Centres`. truth: of replicates, in place of the
    condition's, whose priors are at their means.
    """
    translations = [translate(condition, method, centres) for method in methods]
    found = translated(condition.truth if truth is None else truth, methods, translations)
    return found.as_numbers() if truth is None else found


def translated(
    truth: Truth | DrawnTruth, methods: Sequence[Method], translations: Sequence[Translation | None]
) -> TrueValues:
    """The true values where the translations of the methods are at hand."""
    estimands = study_estimands(truth.formula, methods)
    named = {name: each for name, each in estimands.items() if each.kind != "test"}
    found = TrueValues(_named(truth, contrasts_of(methods)).of(named.values()))
    by_name: set[str] = set(listed([truth.formula]))
    for method, translation in zip(methods, translations, strict=True):
        mine = method_estimands(method, named)
        if translation is not None:
            _Own(truth, method, translation, [named[name] for name in mine]).add_to(found)
        by_name |= set(mine) - found.own.get(method.name, {}).keys()
    for name in found.shared.keys() - by_name:
        values = [own[name] for own in found.own.values() if name in own]
        if values:
            alike = all(np.array_equal(value, values[0], equal_nan=True) for value in values)
            found.shared[name] = values[0] if alike else math.nan
    return found


def varying_names(condition: Condition, methods: Sequence[Method], centres: Centres) -> list[str]:
    """The estimands, derived ones left out, that have different true values in different replicates."""
    priors = len(prior_names(condition))
    probes = np.arange(1.0, priors * _PROBES + 1).reshape(priors, _PROBES) * 0.6180339887498949 % 1
    found = true_values(condition, methods, centres, drawn_truth(condition, drawn_values(condition, probes)))
    estimands = study_estimands(condition.truth.formula, methods)
    stored = [name for name in found.shared if not estimands[name].derived]
    values = {name: [v[name] for v in (found.shared, *found.own.values()) if name in v] for name in stored}
    return [name for name in stored if any(np.ndim(v) and np.ptp(v) > 0 for v in values[name])]


@dataclass(frozen=True, slots=True)
class _Values:
    """What estimands are worth: from coefficients by term, covariances of two random columns of a grouping factor, and the
    residual variance. groups: the grouping factors, "" for the only one."""

    coefficient: Callable[[str], Any]
    covariance: Callable[[str, str, str], Any]
    residual: Any
    contrasts: Mapping[str, Contrast]
    groups: Sequence[str] = ("",)

    def of(self, estimands: Iterable[Estimand]) -> dict[str, Any]:
        return {each.name: self._value(each) for each in estimands}

    def _value(self, each: Estimand) -> Any:
        match each.kind:
            case "fixed":
                return self.coefficient(each.name)
            case "contrast":
                contrast = self.contrasts[each.name]
                if contrast.joint:
                    return math.nan
                value = sum(weight * self.coefficient(term) for term, weight in contrast.weights[0])
                if contrast.standardise is None:
                    return value
                total = contrast.standardise == "total"
                return value / np.sqrt(self.residual + (self._intercepts if total else 0.0))
            case "var":
                return self.residual if each.residual else self.covariance(each.group, *each.columns, *each.columns)
            case "cov":
                return self.covariance(each.group, *each.columns)
            case "sd":
                return np.sqrt(self._value(each.of("var")))
            case "cor":
                a, b = (np.sqrt(self._value(variance)) for variance in each.variances())
                with np.errstate(invalid="ignore", divide="ignore"):
                    return np.where(a * b > 0, np.divide(self._value(each.of("cov")), a * b), np.nan)
            case "icc":
                own = (
                    sum(self.covariance(g, INTERCEPT, INTERCEPT) for g in each.groups)
                    if each.group
                    else self._intercepts
                )
                return own / (self._intercepts + self.residual)
        raise AssertionError(each.kind)

    @property
    def _intercepts(self) -> Any:
        """The sum of the variances of all random intercepts."""
        return sum(self.covariance(group, INTERCEPT, INTERCEPT) for group in self.groups)


def _named(truth: Truth | DrawnTruth, contrasts: Iterable[Contrast]) -> _Values:
    """The truth's parameters by name, 0 where it has none."""
    terms, places = truth.formula.fixed, truth.formula.places
    several = bool(truth.formula.factors)

    def coefficient(term: str) -> Any:
        name = find_term(terms, term)
        return 0.0 if name is None else truth.fixed[terms.index(name)]

    def covariance(group: str, a: str, b: str) -> Any:
        own = {column: k for k, (g, column) in enumerate(places) if g == group or not several}
        found = [find_term(own, column) for column in (a, b)]
        if found[0] is None or found[1] is None:
            return 0.0
        return truth.covariance[own[found[0]]][own[found[1]]]

    groups = truth.formula.groups if several else ("",)
    residual = truth.residual_variance if truth.formula.family.gaussian else math.nan
    return _Values(coefficient, covariance, residual, {c.name: c for c in contrasts}, groups)


# -- of a method whose parameters mean something else ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Own:
    """What a method's parameters are worth and what they mean. estimands: those that it estimates."""

    truth: Truth | DrawnTruth
    method: Method
    translation: Translation
    estimands: Sequence[Estimand]

    def add_to(self, found: TrueValues) -> None:
        contrasts = {contrast.name: contrast for contrast in self.method.contrasts}
        values = _Values(self._coefficient, self._covariance, self._residual, contrasts).of(self.estimands)
        meanings, unknown = self._meanings(), {}
        for name, value in values.items():
            if np.isnan(value).any() and not np.isnan(found.shared[name]).any():
                unknown[name] = self._why
                meanings[name] = f"the limit under {formula_text(self.method.formula)} by {self.method.estimator}"
        found.own[self.method.name] = {
            n: v for n, v in values.items() if n in meanings or not np.array_equal(v, found.shared[n], equal_nan=True)
        }
        found.meanings[self.method.name], found.unknown[self.method.name] = meanings, unknown

    def _row(self, term: str) -> Any:
        own = self.method.formula.fixed
        return self.translation.fixed[own.index(find_term(own, term) or "")]

    def _coefficient(self, term: str) -> Any:
        if self.translation.constant is not None:
            own = self.method.formula.fixed
            return self.translation.constant[own.index(find_term(own, term) or "")]
        return sum(a * b for a, b in zip(self._row(term), self.truth.fixed, strict=True))

    @cached_property
    def _matrix(self) -> list[list[Any]] | None:
        """The covariances of the method's random columns; None where they are unknown, or such as it can't have."""
        t, own, fixed = self.translation, self.method.formula, self.truth.fixed
        if t.spread is None:
            return None
        T, b, places = self.truth.covariance, [[x * y for y in fixed] for x in fixed], range(len(own.random_columns))
        extra = np.zeros((len(places), len(places), 1, 1)) if t.leftover is None else t.leftover
        C = [[_quadratic(t.spread[i, j], T) + _quadratic(extra[i, j], b) for j in places] for i in places]
        block = [place for place, term in enumerate(own.random) for _ in term.columns]
        apart = [C[i][j] for i, j in itertools.combinations(places, 2) if block[i] != block[j]]
        return None if any(np.any(np.abs(c) > _ROUNDING) for c in apart) else C

    @property
    def _why(self) -> str:
        if self.translation.constant is not None:
            return "variances of a linear model of such outcomes do not follow from those of the truth"
        return self.translation.why or "the method has no covariance between random columns that vary together"

    def _covariance(self, group: str, a: str, b: str) -> Any:
        columns = self.method.formula.random_columns
        i, j = (columns.index(find_term(columns, column) or "") for column in (a, b))
        return math.nan if self._matrix is None else self._matrix[i][j]

    @property
    def _residual(self) -> Any:
        return math.nan if self._matrix is None else self.truth.residual_variance

    def _meanings(self) -> dict[str, str]:
        """What differs in meaning from the truth's parameter of that name, in the truth's parameters."""
        of_truth, own = self.truth.formula, self.method.formula
        if self.translation.constant is not None:
            return {
                each.name: "on the scale of the outcome, over all clusters" for each in self.estimands if each.effect
            }
        texts = {term: combination(self._row(term), of_truth.fixed) for term in own.fixed}
        texts = {term: text for term, text in texts.items() if text != (find_term(of_truth.fixed, term) or "0")}
        B = self.translation.random
        columns = {c: f"least-false {c}" for c in own.random_columns}
        if B is not None:
            columns = {c: combination(row, of_truth.random_columns) for c, row in zip(columns, B, strict=True)}
        columns = {c: text for c, text in columns.items() if text != (find_term(of_truth.random_columns, c) or "0")}
        return {each.name: text for each in self.estimands if (text := self._meaning(each, texts, columns))}

    def _meaning(self, each: Estimand, texts: Mapping[str, str], columns: Mapping[str, str]) -> str:
        """ "" where it means what its name says. texts: of fixed terms, columns: of random columns that do not."""
        if each.kind == "fixed":
            return texts.get(find_term(list(texts), each.name) or "", "")
        if each.kind == "contrast":
            contrast = next(c for c in self.method.contrasts if c.name == each.name)
            changed = {term: texts[name] for term in contrast.terms if (name := find_term(list(texts), term))}
            return f"with {', '.join(f'{term} = {text}' for term, text in changed.items())}" if changed else ""
        if each.kind == "icc":
            return f"of var({columns[INTERCEPT]})" if INTERCEPT in columns else ""
        named = [find_term(list(columns), column) for column in each.columns]
        inside = [c if name is None else columns[name] for c, name in zip(each.columns, named, strict=True)]
        return f"{each.kind}({', '.join(inside)})" if any(named) else ""


def combination(row: Sequence[float], names: Sequence[str]) -> str:
    """A linear combination as text.

    >>> combination([1, 0, -3, 0.5], ["z", "x", "x:z", "w"])
    'z - 3 x:z + 0.5 w'
    """
    text = ""
    for weight, name in zip(row, names, strict=True):
        if weight:
            size = "" if abs(abs(weight) - 1) < _ROUNDING else f"{abs(weight):.4g} "
            text += f"{' - ' if weight < 0 else ' + '}{size}{name}"
    return (
        text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ") or "0"
    )


def _quadratic(Q: Any, T: Sequence[Sequence[Any]]) -> Any:
    return sum(Q[i, j] * T[i][j] for i in range(len(Q)) for j in range(len(Q)) if Q[i, j])
