"""How the data of a condition are drawn: sufficient statistics directly, wherever that is exact, or row by row; and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from .model import (
    CENTRINGS,
    NORMAL,
    Condition,
    Errors,
    Formula,
    Missing,
    Predictor,
    Structure,
    source_of,
    term_variables,
)
from .predictors import distribution_of, is_by_chance, is_known

__all__ = [
    "block_size",
    "is_plain",
    "path_line",
    "path_of",
    "path_reasons",
    "places_of",
    "rows_reasons",
    "several_reasons",
    "variable_levels",
]

MOST_BLOCK = 512
LEAST_BLOCK = 16
#: Of conditions whose rows are held together.
LEAST_ROWS_BLOCK = 8
_BLOCK_BYTES = 32 * 2**20

Level = Literal[1, 2]


def variable_levels(predictors: Iterable[Predictor]) -> dict[str, int]:
    """The level of every variable that formulas may have: columns of predictors and centred ones."""
    levels: dict[str, int] = {}
    for predictor in predictors:
        for column in predictor.columns:
            levels[column] = predictor.level
            if predictor.level == 1 and column == predictor.name:
                levels |= {f"within({column})": 1, f"center({column})": 1, f"between({column})": 2}
    return levels


def is_plain(condition: Condition) -> bool:
    """Whether there are only normal and balanced predictors, normal errors of one variance, normal effects and known sizes.

    Rows of such conditions are drawn by `simulate.rows`, those of all others by `simulate.long`.
    """
    usual = all(not p.icc and distribution_of(p).first and not (is_known(p) and p.redraw) for p in condition.predictors)
    truth, formula = condition.truth, condition.truth.formula
    terms = (*formula.fixed, *formula.random_columns)
    centred = any(source_of(v)[1] for term in terms for v in term_variables(term))
    errors = formula.family.gaussian and truth.errors == Errors() and truth.random == NORMAL
    return (
        usual and not centred and errors and not (condition.layout.drawn or condition.missing or condition.correlations)
    )


def path_of(reasons: Sequence[str], structure: Structure | None = None) -> Literal["moments", "rows", "strata"]:
    return "rows" if reasons else "moments" if structure is None else "strata"


def rows_reasons(
    truth: Formula, predictors: Sequence[Predictor], errors: Errors, missing: Missing | None
) -> tuple[str, ...]:
    """Why rows have to be drawn: none where the sufficient statistics can be drawn directly, and exactly."""
    reasons: list[str] = []
    levels = variable_levels(predictors)
    if not truth.family.gaussian:
        reasons.append(f"outcomes are {truth.family.name}")
    if errors.distribution != NORMAL:
        reasons.append(f"errors are {errors.distribution.kind}")
    if errors.ar1:
        reasons.append("errors are autocorrelated")
    within = [name for name, _ in errors.ratios if levels[name] == 1]
    if within:
        reasons.append(f"the residual variance differs by {' and '.join(within)} within clusters")
    if missing is not None:
        lost = {
            "rows are missing": missing.rows,
            "clusters drop out": missing.hazard or missing.weibull,
            "rows are missing at random": missing.at_random,
        }
        reasons += [reason for reason, there in lost.items() if there]
    reasons += [
        f"{p.name} is {p.distribution} within clusters"
        for p in predictors
        if p.level == 1 and p.redraw and not is_known(p) and not distribution_of(p).gaussian
    ]
    if product := _drawn_product(truth, predictors, levels):
        reasons.append(f"the truth multiplies level-1 predictors ({product})")
    return tuple(reasons)


def _drawn_product(truth: Formula, predictors: Sequence[Predictor], levels: Mapping[str, int]) -> str | None:
    """A product of level-1 variables that has to be drawn: one of them is, or is centred, or all are of the first kinds."""
    by_column = {column: p for p in predictors for column in p.columns}
    for term in (*truth.fixed, *truth.random_columns):
        sources = [(v, *source_of(v)) for v in term_variables(term) if levels[v] == 1]
        inner = [by_column[v if made.startswith("[") else name] for v, name, made in sources]
        if len(inner) < 2:
            continue
        centred = any(made in CENTRINGS for _, _, made in sources)
        if centred or any(p.redraw for p in inner) or all(distribution_of(p).first for p in inner):
            return term
    return None


def block_size(clusters: int, level_1: int, *, rows: int = 0) -> int:
    """Replicates that share one stream: 512, halved while a block's Gram would take more than 32 MiB, 16 at least.

    level_1: columns beside the Intercept. rows: of conditions whose rows are held together; these take no more than that either,
    8 replicates at least.

    >>> block_size(20, 1), block_size(10_000, 1), block_size(20, 1, rows=1000), block_size(20, 1, rows=10**6)
    (512, 64, 512, 8)
    """
    d = 1 + level_1
    doubles = clusters * (d * (d + 1) // 2 + d + 1)
    least = LEAST_ROWS_BLOCK if rows else LEAST_BLOCK
    size = MOST_BLOCK
    while max(doubles, rows * (d + 3)) * 8 * size > _BLOCK_BYTES and size > least:
        size //= 2
    return size


def path_reasons(condition: Condition) -> tuple[str, ...]:
    """Why the rows of a condition have to be drawn: none where its sufficient statistics are drawn directly."""
    truth, structure = condition.truth, condition.structure
    if structure is not None:
        return several_reasons(
            truth.formula, condition.predictors, truth.errors, condition.missing, structure, condition.correlations
        )
    return _reasons(truth.formula, condition.predictors, truth.errors, condition.missing)


_reasons = lru_cache(maxsize=1024)(rows_reasons)


@lru_cache(maxsize=4096)
def several_reasons(
    truth: Formula,
    predictors: Sequence[Predictor],
    errors: Errors,
    missing: Missing | None,
    structure: Structure,
    correlations: Sequence[tuple[str, str, float]] = (),
) -> tuple[str, ...]:
    """With several grouping factors, why rows have to be drawn: none where the statistics of the strata of a balanced design can
    be drawn directly."""
    reasons = list(_uneven(structure))
    if correlations:
        reasons.append("predictors are correlated")
    if errors.ar1:
        reasons.append("errors are autocorrelated")
    if errors.distribution != NORMAL:
        reasons.append(f"errors are {errors.distribution.kind}")
    if errors.ratios:
        reasons.append(f"the residual variance differs by {' and '.join(name for name, _ in errors.ratios)}")
    if missing is not None:
        lost = {
            "rows are missing": missing.rows,
            "cells are missing": missing.cells,
            **{f"levels of {name} are missing": share for name, share in missing.levels},
            "cells drop out": missing.hazard or missing.weibull,
            "rows are missing at random": missing.at_random,
        }
        reasons += [reason for reason, there in lost.items() if there]
    places = places_of(predictors)
    reasons += [f"{p.name} is drawn by row" for p in predictors if p.level == 1 and not is_known(p)]
    for term in truth.random:
        for column in term.columns:
            outside = [v for v in term_variables(column) if places[v]]
            if outside:
                reasons.append(f"{term.group} has a random effect of {column}, and {outside[0]} is not of rows")
    return tuple(dict.fromkeys(reasons))


def _uneven(structure: Structure) -> Iterator[str]:
    """Why a structure is not balanced."""
    if structure.listed:
        yield "its rows are those of a file"
        return
    drawn = dict(structure.drawn)
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        if grouping.name in drawn:
            yield f"the numbers of {grouping.name} are drawn"
        elif len(set(numbers)) > 1:
            yield f"levels of {grouping.within} have different numbers of {grouping.name}"
    if "" in drawn:
        yield "the numbers of rows are drawn"
    elif structure.sizes:
        yield "cells have different numbers of rows"
    for name, how in structure.joined:
        yield f"rows draw their {name} given their {how.given}"


def places_of(predictors: Iterable[Predictor]) -> dict[str, str]:
    """Of every column of predictors the factor, or crossing, on whose levels it lives; "" for rows."""
    return {column: predictor.at for predictor in predictors for column in predictor.columns}


def path_line(conditions: Sequence[Condition]) -> str:
    """What people are told of how the data of a study's conditions are drawn."""
    strata = sum(condition.path == "strata" for condition in conditions)
    direct = sum(condition.path == "moments" for condition in conditions)
    rows = len(conditions) - direct - strata
    reasons = dict.fromkeys(reason for condition in conditions for reason in path_reasons(condition))
    texts = []
    if direct:
        where = f" in {direct:,} of {len(conditions):,} conditions" if rows else ""
        texts.append(f"sufficient statistics, drawn directly (moments path){where}")
    if strata:
        where = f" in {strata:,} of {len(conditions):,} conditions" if rows else ""
        texts.append(f"statistics of the strata of a balanced design, drawn directly (strata path){where}")
    if rows:
        where = f" in {rows:,}" if direct or strata else ""
        texts.append(f"row by row (rows path){where}, as {', '.join(reasons)}")
    names = dict.fromkeys(p.name for c in conditions for p in c.predictors if is_by_chance(p))
    if names:
        are = "is" if len(names) == 1 else "are"
        units = "clusters" if conditions[0].structure is None else "levels"
        texts.append(
            f"{' and '.join(names)} {are} allocated at random: how many {units} are in each category differs between replicates "
            '(distribution = "balanced" or "arms" with shares holds it)'
        )
    return f"data: {'; '.join(texts)}"
