"""What must hold within one condition: levels of the predictors, enough rows, possible correlations.

Results depend on little of a condition (the levels, the layout), so they are remembered over the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from .association import Correlations
from .base import formula_key, named_formulas
from .derived import Derived
from .formula import random_term_text
from .inference import check_known_errors
from .methods import estimator_of
from .model import (
    CENTRINGS,
    INTERCEPT,
    Errors,
    Formula,
    Layout,
    Method,
    Missing,
    Predictor,
    Structure,
    source_of,
    term_variables,
)
from .paths import rows_reasons, variable_levels
from .predictors import distribution_of, is_known
from .problems import Problem, Problems
from .several import check_several, check_sizes
from .sizes import layout_words, longest

__all__ = ["Checks"]

Predictors = tuple[Predictor, ...]


class Checks:
    """The checks of one study: its true formula (text for messages) and its methods."""

    def __init__(self, truth: Formula, methods: Sequence[Method]) -> None:
        self.truth, self.methods = truth, methods
        self.structure, self.layout = cache(self._structure), cache(self._layout)

    def _layout(self, layout: Layout, predictors: Predictors, structure: Structure | None) -> tuple[Problem, ...]:
        """What the numbers of clusters and rows forbid."""
        problems = Problems()
        if structure is not None:
            check_sizes(self.truth, self.methods, predictors, structure, problems)
            return tuple(problems)
        for predictor in predictors:
            if predictor.level == 1 and (text := _rows_refusal(predictor, layout)):
                problems.add_value("design.cluster_size", layout_words(layout), text)
        faults = [(m, text) for m in self.methods for text in _too_few(m, layout, variable_levels(predictors))]
        if faults and layout.rows <= layout.clusters:
            problems.add_value("design.cluster_size", layout_words(layout), _ONE_ROW)
            return tuple(problems)
        for method, text in faults:
            problems.add_value(formula_key(self.truth, method), method.formula.text, text)
        return tuple(problems)

    def _structure(
        self,
        predictors: Predictors,
        errors: Errors,
        missing: Missing | None,
        structure: Structure | None,
        correlations: Correlations = (),
    ) -> Derived:
        """Why rows are drawn, the number of level-1 columns, and what the predictors forbid."""
        if structure is not None:
            return check_several(self.truth, self.methods, predictors, errors, missing, structure, correlations)
        problems = Problems()
        if missing is not None and (missing.cells or missing.levels):
            text = "is for several grouping factors; write missing.clusters, or add [design.factors]"
            problems.add("missing.cells" if missing.cells else "missing.levels", text)
        for predictor in predictors:
            if predictor.iccs:
                text = f"must be a number with one grouping factor; write icc = {predictor.iccs[0][1]:g}, say"
                problems.add_number(f"predictors.{predictor.name}.icc", dict(predictor.iccs), text)
        level = variable_levels(predictors)
        constant = {p.name for p in predictors if p.level == 2}
        for key, formula in named_formulas(self.truth, self.methods).items():
            for variable in dict.fromkeys(
                v for t in (*formula.fixed, *formula.random_columns) for v in term_variables(t)
            ):
                name, made = source_of(variable)
                if made in CENTRINGS and name in constant:
                    repair = f"write {name}, or set predictors.{name}.level to 1"
                    text = f"must centre level-1 predictors only, and {name} is constant within a cluster; {repair}"
                    problems.add_value(key, formula.text, text)
        if problems:
            return Derived((), 0, 0, tuple(problems))
        for key, formula in named_formulas(self.truth, self.methods).items():
            for column in formula.random_columns:
                if refusal := _not_random(column, level, predictors):
                    problems.add_value(key, formula.text, refusal)
        products = set(_level_1_products(self.truth, level).values())
        for key, formula in named_formulas(self.truth, self.methods).items():
            for product, part in _level_1_products(formula, level).items():
                if part not in products:
                    problems.add_value(
                        key,
                        formula.text,
                        f"must not multiply level-1 predictors ({product}) unless truth.formula does; add "
                        f"{product} to truth.formula with the true value 0",
                    )
                    break
        check_known_errors(self.methods, errors, problems)
        reasons = rows_reasons(self.truth, predictors, errors, missing)
        level_1 = sum(len(p.columns) for p in predictors if p.level == 1)
        parts = {_level_1_part(term, level) for term in (*self.truth.fixed, *self.truth.random_columns)}
        plain = {frozenset({column}) for p in predictors for column in p.columns}
        return Derived(reasons, level_1, len(parts - plain - {frozenset()}), tuple(problems))


def _not_random(column: str, level: Mapping[str, int], predictors: Predictors) -> str | None:
    """What to do about a random column that is constant within clusters; None for one that varies."""
    between = [v for v in term_variables(column) if level[v] == 2]
    if not between:
        return None
    what = column if between == [column] else f"{' and '.join(between)} in {column}"
    names = [f"predictors.{v}.level" for v in between if source_of(v)[1] != "between"]
    repair = f"remove {column} from the random term"
    arms = [p.name for p in predictors if p.arms and p.name in between]
    if names:
        repair += f" or set {' and '.join(names)} to 1"
    if arms:
        repair += f" (level = 1 lets an arm have a random effect: (0 + {arms[0]} | ...))"
    return f"must have random slopes of level-1 predictors only, and {what} is constant within a cluster; {repair}"


def _rows_refusal(predictor: Predictor, layout: Layout) -> str | None:
    """What to do about sizes that a level-1 predictor cannot have."""
    if layout.redrawn and not predictor.redraw and not is_known(predictor):
        return (
            f"must not be redrawn beside {predictor.name}, which is drawn once at level 1; remove "
            f"predictors.{predictor.name}.redraw, or add redraw = false to the sizes"
        )
    return distribution_of(predictor).refuse_sizes(predictor, layout, longest(layout))


_ONE_ROW = "must be above 1, for a cluster's one row can't tell its effect from the residual; raise it"


def _level_1_products(formula: Formula, level: Mapping[str, int]) -> dict[str, frozenset[str]]:
    """The level-1 variables of each term that multiplies two or more of them."""
    terms = (*formula.fixed, *formula.random_columns)
    parts = {term: _level_1_part(term, level) for term in terms}
    return {term: part for term, part in parts.items() if len(part) > 1}


def _too_few(method: Method, layout: Layout, level: Mapping[str, int]) -> list[str]:
    """lme4's rules: more rows than random effects of each term, and than fixed effects; and enough clusters."""
    texts = [*estimator_of(method).too_few(method, layout)]
    for term in method.formula.random:
        effects = layout.clusters * len(term.columns)
        if layout.rows <= effects:
            texts.append(
                f"must have fewer random effects than rows, and {random_term_text(term)} has {effects} for "
                f"{layout.rows} rows; raise design.cluster_size or use fewer random columns"
            )
    fixed = method.formula.fixed
    if layout.rows <= len(fixed):
        texts.append(
            f"must have fewer fixed terms than rows, and has {len(fixed)} for {layout.rows} rows; "
            "raise design.cluster_size or use fewer terms"
        )
    random = method.formula.random_columns
    for column in dict.fromkeys((*random, INTERCEPT)):
        multiples = [term for term in fixed if _level_1_part(term, level) == _level_1_part(column, level)]
        most = layout.clusters - (column in random)  # as many as clusters leave nothing to tell the variance by
        if len(multiples) > most:
            texts.append(
                f"must have at most {most} fixed terms that are {column} times a constant of the cluster "
                f"({', '.join(multiples)}) with {layout.clusters} clusters; raise design.clusters or use fewer terms"
            )
    return texts


def _level_1_part(term: str, level: Mapping[str, int]) -> frozenset[str]:
    return frozenset(v for v in term_variables(term) if level[v] == 1)
