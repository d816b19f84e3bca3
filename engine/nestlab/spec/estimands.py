"""Which estimands a study has, and which of them a method estimates; `truths` has their true values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from .estimand import Column, Estimand, Quantity, listed
from .formula import find_term
from .inference import tested_estimand
from .methods import estimator_of
from .model import Contrast, Formula, Method

__all__ = ["as_named", "contrasts_of", "method_estimands", "other_names", "study_estimands", "study_name"]

T = TypeVar("T")


def contrasts_of(methods: Iterable[Method]) -> tuple[Contrast, ...]:
    """The contrasts of all methods, each once."""
    return tuple(dict.fromkeys(contrast for method in methods for contrast in method.contrasts))


def study_estimands(truth: Formula, methods: Sequence[Method]) -> dict[str, Estimand]:
    """All that a study has measures of, by name and in order: the estimands, and what likelihood ratio tests test.

    >>> from .formula import parse_formula
    >>> formula = parse_formula("y ~ x + (1 | g)")
    >>> list(study_estimands(formula, [Method("m", formula, compare=parse_formula("y ~ 1"), reml=False)]))[-2:]
    ['icc', 'x, var:g:Intercept']
    """
    return dict(_study_estimands(truth, tuple(methods)))


@lru_cache(maxsize=64)
def _study_estimands(truth: Formula, methods: tuple[Method, ...]) -> dict[str, Estimand]:
    found = listed([truth, *(method.formula for method in methods)], contrasts_of(methods))
    tested = [tested_estimand(method) for method in methods if method.tests_ratio]
    return found | {each.name: each for each in tested if study_name(each, found) not in found}


def study_name(estimand: Estimand, estimands: Mapping[str, Estimand]) -> str:
    """What a study calls an estimand of a method: its own name where the study does not have it.

    >>> study_name(Estimand("fixed", columns=("z:x",)), {"x:z": Estimand("fixed", columns=("x:z",))})
    'x:z'
    """
    if estimand.name in estimands:
        return estimand.name
    return next((name for name, each in estimands.items() if each.same(estimand)), estimand.name)


def other_names(method: Method, own: Mapping[str, Estimand], estimands: Mapping[str, Estimand]) -> dict[str, str]:
    """Columns of a method by their names among `own`, where those among `estimands` are others.

    A part has the names that the truth and its own method give, so that it is the same whatever other methods stand beside it.
    The study has one name for each estimand: that of the formula that has it first, "x:z" where another one writes "z:x". A
    likelihood ratio test keeps the name that its method gives it.
    """
    quantities: tuple[Quantity, ...] = ("estimate", "se", "df", "lower", "upper", "true")
    return {
        Column(quantity, name, rule).name: Column(quantity, known, rule).name
        for name, each in own.items()
        if (known := study_name(each, estimands)) != name
        for quantity in quantities
        for rule in dict.fromkeys(("", *method.rules))
    }


def as_named(
    columns: Mapping[str, T], method: Method, own: Mapping[str, Estimand], estimands: Mapping[str, Estimand]
) -> dict[str, T]:
    """A method's columns, named as among `own`, by their names among `estimands`."""
    names = other_names(method, own, estimands)
    return {name: values for name, values in columns.items() if name not in names} | {
        known: columns[name] for name, known in names.items() if name in columns
    }


def method_estimands(method: Method, estimands: Mapping[str, Estimand]) -> list[str]:
    """The names of a study's estimands that a method estimates.

    >>> from .formula import parse_formula
    >>> m = Method("m", parse_formula("y ~ iccx + (1 | g)"))
    >>> method_estimands(m, study_estimands(parse_formula("y ~ iccx + z + (1 + iccx | g)"), [m]))
    ['Intercept', 'iccx', 'var:g:Intercept', 'var:residual', 'sd:g:Intercept', 'sd:residual', 'icc']
    """
    formula = method.formula
    contrasts = {contrast.name for contrast in method.contrasts if not contrast.joint}

    def estimated(each: Estimand) -> bool:
        match each.kind:
            case "fixed":
                return find_term(formula.fixed, each.name) is not None
            case "contrast":
                return each.name in contrasts
            case "test":
                return False
            case "icc":
                return set(each.groups or (formula.group,)) <= set(formula.intercepts)
        if each.residual:
            return estimator_of(method).residual
        terms = [term for term in formula.random if not formula.factors or term.group == each.group]
        return any(set(each.columns) <= set(term.columns) for term in terms)

    return [name for name, each in estimands.items() if estimated(each)]
