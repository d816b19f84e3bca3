"""True values of terms on centred predictors, where a method writes the truth in other ones.

x = within(x) + between(x), and center(x) is x less a constant. So a truth with b x has b within(x) + b between(x), and a method's
x + between(x) has the difference of the two in its second term. Of each predictor, times the same others, the truth has one
coefficient of within(x) and one of between(x); what a method's terms are in these follows from which of them it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .formula import canonical_term
from .model import Formula, source_of, term_variables

__all__ = ["centred_columns", "centred_values"]

Family = tuple[str, tuple[str, ...]]
#: What contains both parts of a predictor.
_WHOLE = ("", "center")


def centred_values(truth: Formula, value: Callable[[str], Any], methods: Sequence[Formula]) -> dict[str, Any]:
    """The true value of each fixed effect on a predictor that any formula centres, by its canonical name.

    value: the truth's own of a term, 0 where it has none. nan: a method has x alone where the truth's coefficients within and
    between differ, or two methods mean different things by one term.
    """
    centred = _centred([truth, *methods])
    if not centred:
        return {}
    own = _families(truth.fixed, centred)
    found: dict[str, Any] = {}
    for formula in methods:
        for family, terms in _families(formula.fixed, centred).items():
            parts = {how: value(term) for how, term in own.get(family, {}).items()}
            whole = sum(parts.get(how, 0.0) for how in _WHOLE)
            within, between = whole + parts.get("within", 0.0), whole + parts.get("between", 0.0)
            for how, meant in _meanings(tuple(terms), within, between).items():
                name = canonical_term(terms[how])
                found[name] = meant if name not in found or _equal(found[name], meant) else math.nan
    return found


def centred_columns(truth: Formula, methods: Sequence[Formula]) -> dict[str, str]:
    """The truth's random column for each one that a method has in its place: x for within(x), or the reverse."""
    centred = _centred([truth, *methods])
    own = _families(truth.random_columns, centred)
    found: dict[str, str] = {}
    for formula in methods:
        for family, terms in _families(formula.random_columns, centred).items():
            if len(terms) == len(own.get(family, {})) == 1:
                found |= dict(zip(terms.values(), own[family].values(), strict=True))
    return found


def _centred(formulas: Sequence[Formula]) -> frozenset[str]:
    """The predictors that any of the formulas centres."""
    sources = (source_of(v) for f in formulas for t in (*f.fixed, *f.random_columns) for v in term_variables(t))
    return frozenset(name for name, how in sources if how in ("within", "between", "center"))


def _families(terms: Sequence[str], centred: frozenset[str]) -> dict[Family, dict[str, str]]:
    """Terms that differ in how one predictor is centred: {(predictor, other factors): {how: term}}."""
    families: dict[Family, dict[str, str]] = {}
    for term in terms:
        for name, how, others in _parts(term, centred):
            families.setdefault((name, others), {})[how] = term
    return families


def _parts(term: str, centred: frozenset[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(predictor, how, the term's other factors), of a term with one centred predictor; of others nothing is said."""
    variables = term_variables(term)
    own = [variable for variable in variables if source_of(variable)[0] in centred]
    if len(own) == 1:
        name, how = source_of(own[0])
        yield name, how, tuple(sorted(variable for variable in variables if variable != own[0]))


def _meanings(hows: Sequence[str], within: Any, between: Any) -> Mapping[str, Any]:
    """The coefficients of a method's terms; none where they could not be told apart."""
    whole = [how for how in hows if how in _WHOLE]
    match sorted(how for how in hows if how not in _WHOLE):
        case [] if len(whole) == 1:
            return {whole[0]: within if _equal(within, between) else math.nan}
        case ["between"] if len(whole) == 1:
            return {whole[0]: within, "between": between - within}
        case ["within"] if len(whole) == 1:
            return {whole[0]: between, "within": within - between}
        case parts if not whole:
            return {part: within if part == "within" else between for part in parts}
    return {}


def _equal(a: Any, b: Any) -> bool:
    return bool(np.all(np.asarray(a) == np.asarray(b)))
