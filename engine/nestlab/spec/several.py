"""What must hold within one condition of several grouping factors, and why its rows have to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from .base import formula_key, named_formulas
from .derived import Derived
from .formula import random_term_text
from .methods import estimator_of
from .model import (
    CENTRINGS,
    Errors,
    Formula,
    Method,
    Missing,
    Predictor,
    Structure,
    source_of,
    term_variables,
)
from .paths import LEAST_ROWS_BLOCK, MOST_BLOCK, places_of, several_reasons
from .predictors import distribution_of
from .problems import Problems
from .structure import ROWS, cells_of, holds

__all__ = ["check_several", "check_sizes", "rows_of", "several_block"]

_BLOCK_BYTES = 64 * 2**20

Predictors = tuple[Predictor, ...]


@lru_cache(maxsize=1024)
def rows_of(structure: Structure) -> int:
    """The rows of a data set before any are lost."""
    return len(next(iter(cells_of(structure).values()))) * structure.rows


def check_several(
    truth: Formula,
    methods: Sequence[Method],
    predictors: Predictors,
    errors: Errors,
    missing: Missing | None,
    structure: Structure,
) -> Derived:
    """What predictors, errors and missing rows of a condition forbid, and what follows from them."""
    problems = Problems()
    places = places_of(predictors)
    for key, formula in named_formulas(truth, methods).items():
        for variable in dict.fromkeys(v for t in (*formula.fixed, *formula.random_columns) for v in term_variables(t)):
            if source_of(variable)[1] in CENTRINGS:
                text = (
                    f"can't have {variable} where there are several grouping factors; give it as a predictor of its own"
                )
                problems.add_value(key, formula.text, text)
        for term in formula.random:
            for column in term.columns:
                variables = term_variables(column)
                if variables and all(v in places and holds(truth.factors, term.group, places[v]) for v in variables):
                    text = (
                        f"can't have {column} in {random_term_text(term)}, as it is constant within {term.group}; remove it "
                        "there"
                    )
                    problems.add_value(key, formula.text, text)
    for method in methods:
        _check_method(method, truth, predictors, problems)
    for predictor in predictors:
        if predictor.level != 1:
            continue
        if predictor.icc:
            text = "must be absent with several grouping factors; give a predictor of the factor, and one of rows"
            problems.add_number(f"predictors.{predictor.name}.icc", predictor.icc, text)
        if distribution_of(predictor).outer:
            text = "must be a factor of [design.factors] here, whose levels the arms are made of"
            problems.add_value(f"predictors.{predictor.name}.level", 1, text)
    if errors.ar1 or errors.cluster_cv:
        word = "ar1" if errors.ar1 else "cluster_cv"
        problems.add_number(
            f"truth.errors.{word}", getattr(errors, word), "is for one grouping factor: remove it, or [design.factors]"
        )
    if missing is not None and (missing.clusters or missing.selective):
        text = "may have rows only with several grouping factors; remove the other keys"
        problems.add("missing", text)
    reasons = several_reasons(truth, predictors, errors, missing, structure)
    return Derived(reasons, sum(len(p.columns) for p in predictors), len(truth.fixed), tuple(problems))


def _check_method(method: Method, truth: Formula, predictors: Predictors, problems: Problems) -> None:
    key, row = f"method.{method.name}", estimator_of(method)
    if not row.several:
        text = f"is for one grouping factor: write {row.instead(method)}, or keep one factor"
        problems.add_value(f"{key}.estimator", method.estimator, text)
        return
    if method.robust is not None and row.random:
        text = 'is of mixed models with one grouping factor; write estimator = "ols" or "fixed-effects", or remove it'
        problems.add_value(f"{key}.robust", method.robust, text)
    if method.compare is not None and method.reference == "exact":
        text = 'must be "asymptotic", "chisq" or "bootstrap" with several grouping factors; write one of these'
        problems.add_value(f"{key}.reference", method.reference, text)
    for text in row.misplaced(method, _places(predictors)):
        problems.add_value(formula_key(truth, method), method.formula.text, text)


def _places(predictors: Predictors) -> dict[str, str]:
    """The factor, or crossing, that each predictor lives on."""
    return {predictor.name: predictor.at for predictor in predictors}


def several_block(structure: Structure, columns: int, *, strata: bool) -> int:
    """Replicates that share one stream: 512, or fewer where their rows are held together."""
    size = MOST_BLOCK
    while not strata and rows_of(structure) * (columns + 3) * 8 * size > _BLOCK_BYTES and size > LEAST_ROWS_BLOCK:
        size //= 2
    return size


def check_sizes(
    truth: Formula, methods: Sequence[Method], predictors: Predictors, structure: Structure, problems: Problems
) -> None:
    """What the numbers of levels and rows forbid."""
    rows = rows_of(structure)
    for predictor in predictors:
        if predictor.level == 1 and predictor.distribution == "balanced" and structure.rows % 2:
            text = f"must be even, for half of each cell's rows have {predictor.name} = 1; change it, or that predictor's level"
            problems.add_value(ROWS, structure.rows, text)
    for method in methods:
        key = formula_key(truth, method)
        for term in method.formula.random:
            effects = structure.grouping(term.group).levels * len(term.columns)
            if effects >= rows:
                text = (
                    f"must have fewer random effects than rows, and {random_term_text(term)} has {effects:,} for {rows:,} rows; "
                    f"raise {ROWS} or use fewer random columns"
                )
                problems.add_value(key, method.formula.text, text)
        for text in estimator_of(method).too_few_levels(method, structure, rows, _places(predictors)):
            problems.add_value(key, method.formula.text, text)
        if rows <= len(method.formula.fixed):
            text = f"must have fewer fixed terms than the {rows} rows; raise a factor's number or {ROWS}"
            problems.add_value(key, method.formula.text, text)
