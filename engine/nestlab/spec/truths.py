"""True values of what the methods of a condition estimate.

A name means the truth's parameter of that name, 0 where the truth has none. Where a method centres predictors otherwise than the
truth, its parameters have true values of their own (`translation`), and so has everything that is derived from them.

icc = intercept variance / (intercept variance + residual variance), the other slopes' predictors at 0. The residual variance is
the stated one: where errors differ, that of rows whose predictors with a variance ratio are 0, in the mean over clusters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .contrasts import true_contrast
from .formula import canonical_term, find_term, formula_text
from .model import INTERCEPT, Condition, Contrast, Formula, Method, Truth
from .translation import Centres, Translation, translate
from .uncertain import DrawnTruth, drawn_truth, drawn_values, prior_names

__all__ = [
    "Centres",
    "TrueValues",
    "contrasts_of",
    "estimand_names",
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
        """The same with plain numbers for arrays of one."""
        own = {method: {name: float(v) for name, v in values.items()} for method, values in self.own.items()}
        return TrueValues({name: float(v) for name, v in self.shared.items()}, own, self.meanings, self.unknown)

    def of(self, method: str) -> dict[str, Any]:
        """All values, those of a method in place of the shared ones."""
        return {**self.shared, **self.own.get(method, {})}


def contrasts_of(methods: Iterable[Method]) -> tuple[Contrast, ...]:
    """The contrasts of all methods, each once."""
    return tuple(dict.fromkeys(contrast for method in methods for contrast in method.contrasts))


def estimand_names(condition: Condition, methods: Sequence[Method]) -> list[str]:
    """Everything that has a true value: fixed effects, contrasts, variances, covariances, then the derived ones."""
    return list(named_values(condition.truth, [method.formula for method in methods], contrasts_of(methods)))


def named_values(
    truth: Truth | DrawnTruth, formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()
) -> dict[str, Any]:
    """The truth's parameters by name, and 0 for the terms and random columns that only other formulas have."""
    return _named(truth, _Parts.of([truth.formula, *formulas]), contrasts).everything()


def true_values(
    condition: Condition, methods: Sequence[Method], centres: Centres, truth: Truth | DrawnTruth | None = None
) -> TrueValues:
    """The true values of what each method estimates.

    centres: the mean of a level-1 predictor over all rows, nan where it is not known. truth: of replicates, in place of the
    condition's, whose priors are at their means.
    """
    translations = [translate(condition, method, centres) for method in methods]
    found = translated(condition.truth if truth is None else truth, methods, translations)
    return found.as_numbers() if truth is None else found


def translated(
    truth: Truth | DrawnTruth, methods: Sequence[Method], translations: Sequence[Translation | None]
) -> TrueValues:
    """The true values where the translations of the methods are at hand."""
    parts = _Parts.of([truth.formula, *(method.formula for method in methods)])
    shared = _named(truth, parts, contrasts_of(methods)).everything()
    found = TrueValues(shared)
    by_name: set[str] = set(_named(truth, _Parts.of([truth.formula]), ()).everything())
    for method, translation in zip(methods, translations, strict=True):
        of_method = parts.within(method.formula)
        if translation is not None:
            _Own(truth, method, translation, of_method).add_to(found)
        by_name |= (
            _named(truth, of_method, method.contrasts).everything().keys() - found.own.get(method.name, {}).keys()
        )
    for name in shared.keys() - by_name:
        values = [own[name] for own in found.own.values() if name in own]
        if values:
            alike = all(np.array_equal(value, values[0], equal_nan=True) for value in values)
            shared[name] = values[0] if alike else math.nan
    return found


def varying_names(condition: Condition, methods: Sequence[Method], centres: Centres) -> list[str]:
    """The estimands, derived ones left out, that have different true values in different replicates."""
    priors = len(prior_names(condition))
    probes = np.arange(1.0, priors * _PROBES + 1).reshape(priors, _PROBES) * 0.6180339887498949 % 1
    found = true_values(condition, methods, centres, drawn_truth(condition, drawn_values(condition, probes)))
    parts = _Parts.of([condition.truth.formula, *(method.formula for method in methods)])
    stored = _named(condition.truth, parts, contrasts_of(methods)).stored()
    return [n for n in stored if any(np.ndim(v) and np.ptp(v) > 0 for v in _all_values(found, n))]


def _all_values(found: TrueValues, name: str) -> Iterator[Any]:
    yield found.shared[name]
    yield from (own[name] for own in found.own.values() if name in own)


# -- what is made of coefficients and covariances ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    """What formulas name, each thing once by the name it has first: fixed terms, random columns, pairs of columns of one term."""

    group: str
    fixed: tuple[str, ...]
    columns: tuple[str, ...]
    couples: tuple[tuple[str, str], ...]

    @staticmethod
    def of(formulas: Sequence[Formula]) -> _Parts:
        group = next((formula.group for formula in formulas if formula.random), "")
        columns = _distinct(column for formula in formulas for column in formula.random_columns)
        return _Parts(
            group, _distinct(term for f in formulas for term in f.fixed), columns, _couples(formulas, columns)
        )

    def within(self, formula: Formula) -> _Parts:
        """Those that one of the formulas has."""
        return _Parts(
            self.group,
            tuple(term for term in self.fixed if find_term(formula.fixed, term) is not None),
            tuple(column for column in self.columns if find_term(formula.random_columns, column) is not None),
            _couples([formula], self.columns),
        )


def _distinct(terms: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for term in terms:
        found.setdefault(canonical_term(term), term)
    return tuple(found.values())


def _couples(formulas: Iterable[Formula], columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of columns that share a random term of some formula, named and ordered as in `columns`."""
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for formula in formulas:
        for term in formula.random:
            places = sorted(columns.index(find_term(columns, column) or "") for column in term.columns)
            for i, j in itertools.combinations(places, 2):
                found.setdefault((i, j), (columns[i], columns[j]))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Values:
    """Values by name, from coefficients, a function of two random columns, and the residual variance."""

    parts: _Parts
    fixed: Mapping[str, Any]
    contrasts: Iterable[Contrast]
    covariance: Callable[[str, str], Any]
    residual: Any

    def stored(self) -> dict[str, Any]:
        """Those that replicates store."""
        group, covariance = self.parts.group, self.covariance
        intercept = covariance(INTERCEPT, INTERCEPT) if INTERCEPT in self.parts.columns else 0.0
        values = {term: self.fixed[term] for term in self.parts.fixed}
        values |= {c.name: true_contrast(c, self.fixed, self.residual, intercept) for c in self.contrasts}
        values |= {f"var:{group}:{a}": covariance(a, a) for a in self.parts.columns}
        values |= {f"cov:{group}:{a}:{b}": covariance(a, b) for a, b in self.parts.couples}
        return values | {"var:residual": self.residual}

    def everything(self) -> dict[str, Any]:
        """The derived ones too: sds, correlations (nan where a variance is 0), the icc."""
        group, values = self.parts.group, self.stored()
        variances = {a: self.covariance(a, a) for a in self.parts.columns}
        values |= {f"sd:{group}:{a}": np.sqrt(variance) for a, variance in variances.items()}
        values["sd:residual"] = np.sqrt(self.residual)
        for a, b in self.parts.couples:
            scale = np.sqrt(variances[a]) * np.sqrt(variances[b])
            with np.errstate(invalid="ignore", divide="ignore"):
                correlation = np.divide(self.covariance(a, b), scale)
            values[f"cor:{group}:{a}:{b}"] = np.where(scale > 0, correlation, np.nan)
        if INTERCEPT in variances:
            values["icc"] = variances[INTERCEPT] / (variances[INTERCEPT] + self.residual)
        return values


def _named(truth: Truth | DrawnTruth, parts: _Parts, contrasts: Iterable[Contrast]) -> _Values:
    """The truth's parameters by name, 0 where it has none."""
    terms, columns = truth.formula.fixed, truth.formula.random_columns

    def coefficient(term: str) -> Any:
        name = find_term(terms, term)
        return 0.0 if name is None else truth.fixed[terms.index(name)]

    def covariance(a: str, b: str) -> Any:
        found = [find_term(columns, column) for column in (a, b)]
        if found[0] is None or found[1] is None:
            return 0.0
        return truth.covariance[columns.index(found[0])][columns.index(found[1])]

    return _Values(parts, {t: coefficient(t) for t in parts.fixed}, contrasts, covariance, truth.residual_variance)


# -- of a method that centres otherwise ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Own:
    """What a method's parameters are worth and what they mean. parts: what of all names it has."""

    truth: Truth | DrawnTruth
    method: Method
    translation: Translation
    parts: _Parts

    def add_to(self, found: TrueValues) -> None:
        values = _Values(self.parts, self._fixed, self.method.contrasts, self._covariance, self._residual).everything()
        meanings, unknown = self._meanings(), {}
        for name, value in values.items():
            if np.isnan(value).any() and not np.isnan(found.shared[name]).any():
                unknown[name] = self._why
                meanings[name] = f"the limit under {formula_text(self.method.formula)} by {self.method.estimator}"
        found.own[self.method.name] = {n: v for n, v in values.items() if n in meanings or _differ(v, found.shared[n])}
        found.meanings[self.method.name], found.unknown[self.method.name] = meanings, unknown

    def _row(self, term: str) -> Any:
        own = self.method.formula.fixed
        return self.translation.fixed[own.index(find_term(own, term) or "")]

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        return {
            term: sum(a * b for a, b in zip(self._row(term), self.truth.fixed, strict=True))
            for term in self.parts.fixed
        }

    @cached_property
    def _matrix(self) -> list[list[Any]] | None:
        """The covariances of the method's random columns; None where they are unknown, or such as it can't have."""
        t, own = self.translation, self.method.formula
        if t.spread is None:
            return None
        T, b, places = self.truth.covariance, _outer(self.truth.fixed), range(len(own.random_columns))
        extra = np.zeros((len(places), len(places), 1, 1)) if t.leftover is None else t.leftover
        C = [[_quadratic(t.spread[i, j], T) + _quadratic(extra[i, j], b) for j in places] for i in places]
        block = [place for place, term in enumerate(own.random) for _ in term.columns]
        apart = [C[i][j] for i, j in itertools.combinations(places, 2) if block[i] != block[j]]
        return None if any(np.any(np.abs(c) > _ROUNDING) for c in apart) else C

    @property
    def _why(self) -> str:
        return self.translation.why or "the method has no covariance between random columns that vary together"

    def _covariance(self, a: str, b: str) -> Any:
        columns = self.method.formula.random_columns
        i, j = (columns.index(find_term(columns, column) or "") for column in (a, b))
        return math.nan if self._matrix is None else self._matrix[i][j]

    @property
    def _residual(self) -> Any:
        return math.nan if self._matrix is None else self.truth.residual_variance

    def _meanings(self) -> dict[str, str]:
        """What differs in meaning from the truth's parameter of that name, in the truth's parameters."""
        found: dict[str, str] = {}
        for term in self.parts.fixed:
            if (text := self._text(self._row(term))) != (find_term(self.truth.formula.fixed, term) or "0"):
                found[term] = text
        for contrast in self.method.contrasts:
            changed = {term: found[name] for term in contrast.terms if (name := find_term(list(found), term))}
            if changed:
                found[contrast.name] = f"with {', '.join(f'{term} = {text}' for term, text in changed.items())}"
        found |= self._random_meanings()
        return found

    def _text(self, row: Any) -> str:
        return combination(row, self.truth.formula.fixed)

    def _random_meanings(self) -> dict[str, str]:
        columns, of_truth, group = (
            self.method.formula.random_columns,
            self.truth.formula.random_columns,
            self.parts.group,
        )
        B = self.translation.random
        texts = {}
        for column in self.parts.columns:
            row = None if B is None else B[columns.index(find_term(columns, column) or "")]
            text = f"least-false {column}" if row is None else combination(row, of_truth)
            if text != (find_term(of_truth, column) or "0"):
                texts[column] = text
        found = {f"{kind}:{group}:{a}": f"{kind}({text})" for a, text in texts.items() for kind in ("var", "sd")}
        for a, b in self.parts.couples:
            if a in texts or b in texts:
                found |= {
                    f"{kind}:{group}:{a}:{b}": f"{kind}({texts.get(a, a)}, {texts.get(b, b)})"
                    for kind in ("cov", "cor")
                }
        if INTERCEPT in texts:
            found["icc"] = f"of var({texts[INTERCEPT]})"
        return found


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


def _outer(b: Sequence[Any]) -> list[list[Any]]:
    return [[x * y for y in b] for x in b]


def _differ(a: Any, b: Any) -> bool:
    return not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
