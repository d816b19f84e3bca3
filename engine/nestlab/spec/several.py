"""What must hold within one condition of several grouping factors, and why its rows have to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from .association import Correlations
from .base import formula_key, named_formulas
from .derived import Derived
from .factor_keys import FACTORS, ROWS
from .formula import random_term_text
from .methods import estimator_of
from .missing import PREVIOUS
from .model import (
    CENTRINGS,
    Errors,
    Formula,
    Layout,
    Method,
    Missing,
    Predictor,
    Sizes,
    Structure,
    source_of,
    term_variables,
)
from .paths import LEAST_ROWS_BLOCK, MOST_BLOCK, places_of, several_reasons
from .predictors import distribution_of, is_known
from .predictors.allotted import takes_turns
from .problems import Problems, nearest
from .sizes import longest
from .structure import rows_per_cell

__all__ = ["check_several", "check_sizes", "placed", "rows_of", "several_block"]

_BLOCK_BYTES = 64 * 2**20

Predictors = tuple[Predictor, ...]


@lru_cache(maxsize=1024)
def rows_of(structure: Structure) -> int:
    """The rows of a data set before any are lost; about so many where numbers are drawn."""
    return sum(rows_per_cell(structure))


def placed(predictor: Predictor, structure: Structure) -> tuple[Predictor, Layout]:
    """A predictor as one of a design of one grouping factor, whose clusters stand for where it lives, and that design's layout.

    Levels are clusters of level 2, and cells are clusters of level 1. What runs over the rows of a cluster runs over the levels
    within another factor's: over visits within pupils, or over periods within clusters with which they are crossed.
    """
    if not predictor.at:
        return predictor, Layout(rows_per_cell(structure))
    if distribution_of(predictor).level != 1:
        return replace(predictor, at=""), Layout((1,) * structure.grouping(predictor.at).levels)
    found = [structure.grouping(name) for name in predictor.at.split(":")]
    own = structure.numbers[structure.names.index(found[0].name)]
    return replace(predictor, level=1, at=""), Layout(own if len(found) == 1 else (found[1].levels,) * found[0].levels)


def check_several(
    truth: Formula,
    methods: Sequence[Method],
    predictors: Predictors,
    errors: Errors,
    missing: Missing | None,
    structure: Structure,
    correlations: Correlations = (),
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
                if variables and all(v in places and truth.holds(term.group, places[v]) for v in variables):
                    text = (
                        f"can't have {column} in {random_term_text(term)}, as it is constant within {term.group}; remove it "
                        "there"
                    )
                    problems.add_value(key, formula.text, text)
    for method in methods:
        _check_method(method, truth, predictors, problems)
    for predictor in predictors:
        _check_predictor(predictor, structure, problems)
    if errors.cluster_cv:
        text = "is for one grouping factor: remove it, or [design.factors]"
        problems.add_number("truth.errors.cluster_cv", errors.cluster_cv, text)
    if structure.listed and errors.ar1:
        text = "needs cells whose rows are in order, and those of a file are in one cell; remove it"
        problems.add_number("truth.errors.ar1", errors.ar1, text)
    if missing is not None:
        _check_missing(missing, structure, problems)
    for name, how in structure.joined:
        if not how.redraw and (structure.redrawn or _redrawn(structure, how.given)):
            what = f"rows draw their {how.given} anew" if not structure.redrawn else "numbers are drawn anew"
            text = f"must be true or absent, as {what} in each replicate; remove it, or add redraw = false there"
            problems.add_value(f"{FACTORS}.{name}.redraw", False, text)
    reasons = several_reasons(truth, predictors, errors, missing, structure, correlations)
    return Derived(reasons, sum(len(p.columns) for p in predictors), len(truth.fixed), tuple(problems))


def _redrawn(structure: Structure, factor: str) -> bool:
    """Whether rows draw their level of a factor anew in each replicate."""
    how = dict(structure.joined).get(factor)
    return how is not None and how.redraw


def _check_predictor(predictor: Predictor, structure: Structure, problems: Problems) -> None:
    key, row = f"predictors.{predictor.name}", distribution_of(predictor)
    if predictor.at:
        _check_levels(predictor, structure, problems)
        return
    if predictor.level == 2:  # said of its key already
        return
    if predictor.icc:
        share = f"{predictor.icc:g}"
        text = f"must say between the levels of which factor; write icc = {{ {structure.names[0]} = {share} }}, say"
        problems.add_number(f"{key}.icc", predictor.icc, text)
    if predictor.iccs:
        _check_iccs(predictor, structure, problems)
    if row.outer:
        text = "must be a factor of [design.factors] here, whose levels the arms are made of"
        problems.add_value(f"{key}.level", predictor.level, text)
    if structure.redrawn and not predictor.redraw and not is_known(predictor):
        text = "must be true or absent where numbers are drawn in each replicate; remove it, or add redraw = false to the numbers"
        problems.add_value(f"{key}.redraw", False, text)
    if structure.listed:
        if row.level == 1:
            text = (
                f'must not be "{row.name}" where the rows are those of a file, whose order says nothing; write "list" with the '
                "file and a column of it"
            )
            problems.add_value(f"{key}.distribution", row.name, text)
        elif row.listed and len(predictor.values) != structure.rows:
            text = f"must have a value for each of the {structure.rows:,} rows of the file, and has {len(predictor.values):,}"
            problems.add(f"{key}.values", f"{text}; name a column of that file")
        return
    if refused := row.refuse_sizes(predictor, Layout(rows_per_cell(structure)), _longest(structure)):
        problems.add_value(ROWS, structure.rows, refused.replace("cluster", "cell"))


def _check_iccs(predictor: Predictor, structure: Structure, problems: Problems) -> None:
    """What forbids parts of a predictor of rows that are those of levels."""
    key = f"predictors.{predictor.name}.icc"
    for name, share in predictor.iccs:
        if unknown := [part for part in name.split(":") if part not in structure.names]:
            text = f"must be of a factor of [design.factors], or of a crossing; {nearest(unknown[0], structure.names)}"
            problems.add_number(f"{key}.{name}", share, text)
    shares = dict(predictor.iccs)
    if sum(shares.values()) >= 1:
        listed = " + ".join(f"{share:.10g}" for share in shares.values())
        text = f"must have shares that sum to less than 1, and {listed} = {sum(shares.values()):.10g}; lower them"
        problems.add_number(key, shares, text)
    if not distribution_of(predictor).gaussian:
        text = (
            f'must be absent for distribution = "{predictor.distribution}" with several grouping factors, where parts of levels '
            'and rows are added; remove it, or write distribution = "normal"'
        )
        problems.add_number(key, shares, text)
    if not predictor.redraw:
        text = "must be true or absent for a predictor with parts of several factors' levels; remove it"
        problems.add_value(f"predictors.{predictor.name}.redraw", False, text)


def _check_levels(predictor: Predictor, structure: Structure, problems: Problems) -> None:
    """What the levels on which a predictor lives forbid."""
    key, row, at = f"predictors.{predictor.name}", distribution_of(predictor), predictor.at
    levels, drawn = structure.grouping(at).levels, _drawn_above(structure, at)
    if row.outer and sum(predictor.arms) != levels and not drawn:
        text = f"must sum to the {levels} levels of {at}, and sum to {sum(predictor.arms)}; correct one of the two"
        problems.add_value(f"{key}.clusters", predictor.arms, text)
    if drawn and (row.allotted or (is_known(predictor) and row.level != 1 and not row.crossed)):
        text = (
            f'must be drawn where the numbers of {drawn} are, for no level is sure to be there; write "binary", "categorical" or '
            '"normal", say'
        )
        problems.add_value(f"{key}.distribution", row.name, text)
    if row.crossed and len(predictor.values) > min(predictor.crossing):
        text = (
            f"must have at most as many conditions as levels of each factor, and {at} have {predictor.crossing[0]} and "
            f"{predictor.crossing[1]}; raise those, or lower these"
        )
        problems.add_value(f"{key}.values", predictor.values, text)


def _drawn_above(structure: Structure, at: str) -> str:
    """The factor whose numbers are drawn, so that how many levels of `at` there are is not sure; "" if it is."""
    within, drawn = {grouping.name: grouping.within for grouping in structure.groupings}, dict(structure.drawn)
    for name in at.split(":"):
        above: str | None = name
        while above:
            if above in drawn:
                return above
            above = within[above]
    return ""


def _longest(structure: Structure) -> float:
    """The most rows that a cell may have; infinite where they have no bound."""
    sizes = dict(structure.drawn).get("")
    return longest(Layout(rows_per_cell(structure), ((1, sizes),) if sizes else ()))


def _check_missing(missing: Missing, structure: Structure, problems: Problems) -> None:
    if missing.clusters:
        example = f"missing.levels.{structure.names[0]} = {missing.clusters:g}"
        text = f"is for one grouping factor; write missing.cells, or {example}"
        problems.add_number("missing.clusters", missing.clusters, text)
    for name, share in missing.levels:
        if name not in structure.names:
            text = f"must be of a factor of [design.factors]; {nearest(name, structure.names)}"
            problems.add_number(f"missing.levels.{name}", share, text)
    if structure.listed:
        previous = missing.at_random is not None and (missing.at_random[0] == PREVIOUS or missing.monotone)
        lost = {"cells": missing.cells, "hazard": missing.hazard, "weibull": missing.weibull, "at_random": previous}
        for word, there in lost.items():
            if there:
                text = "needs cells, and the rows of a file are in one; write missing.rows or missing.levels"
                problems.add(f"missing.{word}", text)


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
    rows = rows_of(structure) * math.prod(_most(sizes) for _, sizes in structure.drawn)
    while not strata and rows * (columns + 3) * 8 * size > _BLOCK_BYTES and size > LEAST_ROWS_BLOCK:
        size //= 2
    return size


def _most(sizes: Sizes) -> float:
    """About the greatest total that a replicate of a block has, over the mean."""
    cv = sizes.cv or 1 / math.sqrt(max(1.0, sizes.mean))
    return 1 + cv


def check_sizes(
    truth: Formula, methods: Sequence[Method], predictors: Predictors, structure: Structure, problems: Problems
) -> None:
    """What the numbers of levels and rows forbid."""
    rows = rows_of(structure)
    for predictor in predictors:
        equal = not structure.listed and not structure.sizes and "" not in dict(structure.drawn)
        if equal and takes_turns(predictor) and structure.rows % 2:
            text = f"must be even, for half of each cell's rows have {predictor.name} = 1; change it, or that predictor's level"
            problems.add_value(ROWS, structure.rows, text)
    for method in methods:
        key = formula_key(truth, method)
        for term in method.formula.random:
            if ":" in term.group and (structure.joined or structure.listed):
                continue  # rows have few of all combinations
            effects = structure.grouping(term.group).levels * len(term.columns)
            if effects >= rows:
                text = (
                    f"must have fewer random effects than rows, and {random_term_text(term)} has {effects:,} for {rows:,} rows; "
                    f"raise {ROWS} or use fewer random columns"
                )
                problems.add_value(key, method.formula.text, text)
        for text in estimator_of(method).too_few_levels(method, structure, rows, _places(predictors)):
            problems.add_value(key, method.formula.text, text)
        _check_apart(method.formula, structure, problems)
        if rows <= len(method.formula.fixed):
            text = f"must have fewer fixed terms than the {rows} rows; raise a factor's number or {ROWS}"
            problems.add_value(key, method.formula.text, text)


def _check_apart(formula: Formula, structure: Structure, problems: Problems) -> None:
    """No two intercepts are of the same rows: a factor has more levels than the one in which it is nested."""
    for grouping in structure.groupings:
        holder = grouping.within
        if holder is None or not {grouping.name, holder} <= set(formula.intercepts):
            continue
        if grouping.levels == structure.grouping(holder).levels and grouping.name not in dict(structure.drawn):
            text = (
                f"must be 2 or more in some {holder}, for with one in each the intercepts of {holder} and {grouping.name} are "
                "one; raise it, or leave one of them out of the formulas"
            )
            problems.add_value(f"{FACTORS}.{grouping.name}.number", 1, text)
