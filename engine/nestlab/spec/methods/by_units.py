"""Analyses by the units of one of several grouping factors, and of two of them together: F1, F2, min F' and both at once.

An effect belongs to the product of those of its predictors that vary within a unit, its base column: x = z w, w the product and z
constant within the unit. Which do follows from the factor that each predictor lives on, so that all replicates have one analysis:
`fit.rivals.by_units` has the definitions. The coefficients are those of the formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..factor_keys import FACTORS
from ..model import Formula, Method, Structure, source_of, term_variables
from ..problems import Problems
from .estimator import Estimator, Levels
from .least_squares import check_factor_names

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = ["BOTH_UNITS", "BY_UNITS", "MIN_F", "unit_bases", "units_of"]


def units_of(method: Method) -> tuple[str, ...]:
    """The factors by whose levels there are analyses, in the study's order."""
    return tuple(name for name, _ in method.formula.factors if name in method.units)


def unit_bases(formula: Formula, unit: str, level: Levels) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The predictors of each fixed term that vary within levels of a factor, and those that do not.

    >>> from dataclasses import replace
    >>> from nestlab.spec.formula import parse_formula
    >>> crossed = replace(parse_formula("y ~ group * cond"), factors=(("subject", ""), ("item", "")))
    >>> unit_bases(crossed, "subject", {"group": "subject", "cond": "item"})[2:]
    ((('cond',), ()), (('cond',), ('group',)))
    """
    found = []
    for term in formula.fixed:
        variables = sorted(term_variables(term))
        outer = [v for v in variables if formula.holds(unit, str(level.get(source_of(v)[0]) or ""))]
        found.append((tuple(v for v in variables if v not in outer), tuple(outer)))
    return tuple(found)


def _combines(method: Method, terms: Sequence[str], level: Levels) -> bool:
    """Whether units have these effects in the same way: then a combination of them is a coefficient of each unit, too."""
    for unit in units_of(method):
        bases = unit_bases(method.formula, unit, level)
        own = {bases[k][0] for k, term in enumerate(method.formula.fixed) if term in terms}
        if len({tuple(outer for inner, outer in bases if inner == base) for base in own}) > 1:
            return False
    return True


# -- what is refused ----------------------------------------------------------------------------------------------------------


def _check(key: str, table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    factors, several = dict(written.factors), table.estimator != BY_UNITS.name
    if not factors:
        instead = "add" if several else 'write estimator = "cluster-means", or add'
        text = f"is for several grouping factors; {instead} [{FACTORS}]"
        problems.add_value(f"{key}.estimator", table.estimator, text)
        return
    names = table.units or ()
    shown: Any = names[0] if len(names) == 1 else list(names)
    wanted = "two factors" if several else "one factor"
    example = "[{}]".format(", ".join(f'"{n}"' for n in list(factors)[:2])) if several else f'"{next(iter(factors))}"'
    if not names:
        text = f'is missing: estimator = "{table.estimator}" analyses the levels of {wanted}; add units = {example}'
        problems.add(f"{key}.units", text)
    elif check_factor_names(f"{key}.units", names, written, problems) and len(names) != 1 + several:
        other = "" if several else '; for two write estimator = "min-f" or "both-units"'
        problems.add_value(f"{key}.units", shown, f"must be {wanted}; write units = {example}{other}")
    elif several and set(names) <= set(factors):
        inner = next((n for n in names if any(written.holds(n, other) for other in names if other != n)), "")
        if inner:
            outer = next(n for n in names if n != inner)
            text = f'must be crossed factors, and {inner} lies within {outer}; write estimator = "by-units" with one of them'
            problems.add_value(f"{key}.units", shown, text)


def _misplaced(method: Method, level: Levels) -> list[str]:
    """Each base column must be a term of its own: units have its coefficient."""
    found = []
    for unit in units_of(method):
        bases = unit_bases(method.formula, unit, level)
        for inner in dict.fromkeys(inner for inner, _ in bases):
            if (inner, ()) in bases:
                continue
            name = ":".join(inner) or "1"
            term = next(t for t, (own, _) in zip(method.formula.fixed, bases, strict=True) if own == inner)
            text = f"must have {name} beside {term} for an analysis by {unit}, whose levels each have its coefficient; add it"
            found.append(text)
    return found


def _too_few(method: Method, structure: Structure, rows: int, level: Levels) -> list[str]:
    found = []
    for unit in units_of(method):
        levels = structure.grouping(unit).levels
        bases = unit_bases(method.formula, unit, level)
        for inner in dict.fromkeys(inner for inner, _ in bases):
            terms = [t for t, (own, _) in zip(method.formula.fixed, bases, strict=True) if own == inner]
            if levels <= len(terms):
                found.append(
                    f"must have fewer effects that differ between levels of {unit} than levels, and {', '.join(terms)} stand "
                    f"beside {levels}; give {FACTORS}.{unit} more levels or use fewer terms"
                )
    return found


# -- the rows -----------------------------------------------------------------------------------------------------------------


def _row(name: str, text: str, df: str) -> Estimator:
    def words(method: Method) -> Iterator[tuple[str, str]]:
        units = units_of(method)
        yield "estimator", text.format(" and by ".join(units))
        unit = units[0] if len(units) == 1 else "the factor"
        yield "cells", f"rows of one level of {unit} with the same values of all terms are averaged, and count once"
        yield "degrees of freedom", df.format(*units)

    return Estimator(
        name=name,
        module="by_units",
        words=words,
        keys=frozenset({"units"}),
        rules=("residual",),
        residual=False,
        several=True,
        joint=False,
        shifts=name == "by-units",
        own_df=df.format("the factor"),
        by_level=True,
        combines=_combines,
        check=_check,
        misplaced=_misplaced,
        too_few_levels=_too_few,
        content=lambda method: {"units": list(units_of(method))},
    )


BY_UNITS = _row(
    "by-units",
    "t tests by {}: least squares within each level, then over the levels",
    "levels of {} less the effects that are tested by the same coefficient of theirs",
)
MIN_F = _row("min-f", "min F' (Clark 1973) of the t tests by {}", "Clark's, from those of both analyses")
BOTH_UNITS = _row(
    "both-units",
    "t tests by {}; an effect is significant where it is in both",
    "those of the analysis with the larger p value",
)
