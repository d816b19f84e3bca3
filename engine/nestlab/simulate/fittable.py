"""Whether a condition can be fitted at all: fixed terms that the design makes linear combinations of one another never can.

A listed predictor is constant where there are fewer clusters (or rows) than its first values that are alike. Terms of predictors
that are drawn in each replicate are left to the fits, whose status says what became of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec.base import formula_key
from ..spec.far import far_constants
from ..spec.methods import estimator_of
from ..spec.model import INTERCEPT, Condition, FactorValue, Method, term_variables
from ..spec.predictors import distribution_of, is_allocated
from ..spec.problems import Problem, Problems
from ..spec.resolve import report_points

__all__ = ["check_fittable"]

Array = NDArray[np.float64]
#: What is left of a column of length 1 that is a combination of others: rounding.
ROUNDING = 1e-10


def check_fittable(conditions: Sequence[Condition], methods: Sequence[Method]) -> None:
    """Raise StudyError where no replicate of a condition can be fitted by any of the methods, before anything is drawn."""
    if not all(_needs_full_rank(method) for method in methods):
        return
    problems, found = Problems(), dict[Problem, list[Mapping[str, FactorValue]]]()
    seen: dict[Any, tuple[Problem, ...]] = {}
    for condition in conditions:
        if not any(distribution_of(p).listed for p in condition.predictors):
            continue
        key = (condition.layout, condition.structure, condition.predictors)
        if key not in seen:
            seen[key] = _problems(condition, methods)
        for problem in seen[key]:
            found.setdefault(problem, []).append(condition.factors)
    report_points(found, len(conditions), problems)
    problems.raise_if_any()


def _needs_full_rank(method: Method) -> bool:
    """Whether a method has no fit where its fixed terms depend on one another: others drop some, or choose a smaller model."""
    return not estimator_of(method).by_rows and method.select is None


def _problems(condition: Condition, methods: Sequence[Method]) -> tuple[Problem, ...]:
    """What keeps all methods from fitting this design; nothing where one of them may fit."""
    known = _known_terms(condition, dict.fromkeys(term for method in methods for term in method.formula.fixed))
    problems = Problems()
    numbers = "a factor's number" if condition.structure else "design.clusters or design.cluster_size"
    for method in methods:
        terms = [term for term in method.formula.fixed if term in known]
        place = _first_dependent([known[term] for term in terms])
        if place is None:
            return ()
        term, column = terms[place], known[terms[place]]
        same = f"{column[0]:g} in all rows" if np.ptp(column) == 0 else f"a combination of {', '.join(terms[:place])}"
        problems.add_value(
            formula_key(condition.truth.formula, method),
            method.formula.text,
            f"must have fixed terms that differ, and {term} is {same} of every replicate here, so that nothing can be fitted; "
            f"raise {numbers}, give {term} other values, or leave it out",
        )
    return tuple(problems)


def _known_terms(condition: Condition, terms: Iterable[str]) -> dict[str, Array]:
    """(N) each: the terms whose values are the same in every replicate, by their names.

    Rows that are missing leave dependent columns dependent. Where sizes are redrawn, only terms of whole clusters are known.
    """
    from .known import between_values, known_columns, known_predictors
    from .sizes import fixed_sizes

    if condition.structure is not None:
        return _known_of_levels(condition, terms)
    sizes = fixed_sizes(condition)
    level_2 = [(p, column) for p in condition.predictors if p.level == 2 for column in p.columns]
    values: dict[str, Array] = {}
    for (predictor, column), row in zip(level_2, between_values(condition), strict=True):
        if not is_allocated(predictor) and not np.isnan(row).any():
            values[column] = np.repeat(row, sizes)
    if not condition.layout.redrawn:
        inner = [column for p in known_predictors(condition) for column in p.columns]
        moved = far_constants(condition)
        columns = known_columns(condition, sizes)[:, 1 : 1 + len(inner)]
        values |= {name: columns[:, k] + moved.get(name, 0.0) for k, name in enumerate(inner)}
    found = {}
    for term in terms:
        variables = () if term == INTERCEPT else term_variables(term)
        if all(variable in values for variable in variables):
            found[term] = np.prod([np.ones(int(sizes.sum())), *(values[v] for v in variables)], axis=0)
    return found


def _known_of_levels(condition: Condition, terms: Iterable[str]) -> dict[str, Array]:
    """Of several grouping factors (N) each: the terms whose values are the same in every replicate."""
    from .several import compile_several

    design = compile_several(condition)
    members, inner = design.members, design.inner
    if condition.structure is None or condition.structure.redrawn or members.codes.keys() != design.levels.keys():
        return {}
    values = {name: column[:, None] for name, column in design.running.items()}
    for outer in design.outer.values():
        drawn = outer.between_drawn
        values |= {name: outer.between_fixed[k, :, None] for k, name in enumerate(outer.between) if not drawn[k]}
    values |= {name: inner.known_rows[:, k, None] for k, name in enumerate(inner.columns[: inner.known]) if k}
    known = [term for term in terms if term == INTERCEPT or all(v in values for v in term_variables(term))]
    return {term: members.term(values, design.places, term)[:, 0] for term in known}


def _first_dependent(columns: Sequence[Array]) -> int | None:
    """The first column that is a linear combination of those before it; None where all are independent."""
    basis: list[Array] = []
    for k, column in enumerate(columns):
        length = float(np.linalg.norm(column))
        rest = column / length if length else column
        for _ in range(2):  # twice, so that rounding of the first time is taken off, too
            for other in basis:
                rest = rest - (other @ rest) * other
        left = float(np.linalg.norm(rest))
        if left < ROUNDING:
            return k
        basis.append(rest / left)
    return None
