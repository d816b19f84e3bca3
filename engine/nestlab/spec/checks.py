"""What must hold within one condition: levels of the predictors, enough rows, possible correlations.

Results depend on little of a condition (the levels, the layout), so they are remembered over the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from .base import formula_key, named_formulas
from .formula import random_term_text
from .model import INTERCEPT, Formula, Layout, Method, term_variables
from .problems import Problem, Problems

__all__ = ["LEAST_BLOCK", "MOST_BLOCK", "Checks", "Structure", "block_size", "layout_of"]

MOST_BLOCK = 512
LEAST_BLOCK = 16
_BLOCK_BYTES = 32 * 2**20

Levels = tuple[tuple[str, Literal[1, 2], str], ...]  # (name, level, distribution) of each predictor


@dataclass(frozen=True, slots=True)
class Structure:
    """What the levels of the predictors decide. level_1: how many vary within clusters."""

    path: Literal["moments", "rows"]
    level_1: int
    problems: tuple[Problem, ...]


@lru_cache(maxsize=4096)
def layout_of(clusters: int, cluster_size: int | tuple[int, ...]) -> Layout:
    return Layout((cluster_size,) * clusters if isinstance(cluster_size, int) else cluster_size)


def block_size(clusters: int, level_1: int) -> int:
    """Replicates that share one stream: 512, halved while a block's Gram would take more than 32 MiB, 16 at least.

    >>> block_size(20, 1), block_size(10_000, 1)
    (512, 64)
    """
    d = 1 + level_1
    doubles = clusters * (d * (d + 1) // 2 + d + 1)
    size = MOST_BLOCK
    while doubles * 8 * size > _BLOCK_BYTES and size > LEAST_BLOCK:
        size //= 2
    return size


class Checks:
    """The checks of one study: its true formula (text for messages) and its methods."""

    def __init__(self, truth: Formula, methods: Sequence[Method]) -> None:
        self.truth = truth
        self.methods = methods
        self._structures: dict[Levels, Structure] = {}
        self._layouts: dict[tuple[Any, ...], tuple[Problem, ...]] = {}

    def structure(self, levels: Levels) -> Structure:
        """The path, the number of level-1 predictors, and what the levels forbid."""
        if levels not in self._structures:
            self._structures[levels] = self._structure({name: level for name, level, _ in levels})
        return self._structures[levels]

    def layout(self, clusters: int, cluster_size: int | tuple[int, ...], levels: Levels) -> tuple[Problem, ...]:
        """What the numbers of clusters and rows forbid."""
        key = (clusters, cluster_size, levels)
        if key not in self._layouts:
            self._layouts[key] = self._layout(clusters, cluster_size, levels)
        return self._layouts[key]

    def _structure(self, level: Mapping[str, int]) -> Structure:
        problems = Problems()
        for key, formula in named_formulas(self.truth, self.methods).items():
            for column in formula.random_columns:
                between = [v for v in term_variables(column) if level[v] == 2]
                if between:
                    what = column if between == [column] else f"{' and '.join(between)} in {column}"
                    names = " and ".join(f"predictors.{v}.level" for v in between)
                    problems.add_value(
                        key,
                        formula.text,
                        f"must have random slopes of level-1 predictors only, and {what} is constant "
                        f"within a cluster; remove {column} from the random term or set {names} to 1",
                    )
        rows = bool(_level_1_products(self.truth, level))
        for key, formula in named_formulas(self.truth, self.methods).items():
            products = _level_1_products(formula, level)
            if products and not rows:
                problems.add_value(
                    key,
                    formula.text,
                    f"must not multiply level-1 predictors ({products[0]}) unless truth.formula does; add "
                    f"{products[0]} to truth.formula with the true value 0",
                )
        return Structure("rows" if rows else "moments", sum(v == 1 for v in level.values()), tuple(problems))

    def _layout(self, clusters: int, cluster_size: int | tuple[int, ...], levels: Levels) -> tuple[Problem, ...]:
        problems = Problems()
        if not isinstance(cluster_size, int) and len(cluster_size) != clusters:
            text = (
                f"must have one size per cluster, {clusters} (design.clusters) and not {len(cluster_size)}; "
                "correct the list or the number of clusters"
            )
            problems.add_value("design.cluster_size", cluster_size, text)
            return tuple(problems)
        layout = layout_of(clusters, cluster_size)
        for name, level, distribution in levels:
            if distribution == "balanced" and level == 1 and max(layout.sizes) == 1:
                text = (
                    f"must be 2 or more in some cluster, or the balanced predictor {name} is 0 in every row; raise it"
                )
                problems.add_value("design.cluster_size", cluster_size, text)
        for method in self.methods:
            for text in _too_few(method, layout, {name: level for name, level, _ in levels}):
                problems.add_value(formula_key(self.truth, method), method.formula.text, text)
        return tuple(problems)


def _level_1_products(formula: Formula, level: Mapping[str, int]) -> list[str]:
    terms = (*formula.fixed, *formula.random_columns)
    return [term for term in terms if sum(level[v] == 1 for v in term_variables(term)) >= 2]


def _too_few(method: Method, layout: Layout, level: Mapping[str, int]) -> list[str]:
    """lme4's rules: more rows than random effects of each term, and than fixed effects; and enough clusters."""
    texts = _too_few_for_least_squares(method, layout)
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


def _too_few_for_least_squares(method: Method, layout: Layout) -> list[str]:
    """Degrees of freedom that effects or means of clusters leave."""
    p, clusters = len(method.formula.fixed), layout.clusters
    if method.estimator == "fixed-effects" and layout.rows <= clusters + p:
        return [
            f"must have fewer fixed terms than rows beyond one a cluster, and {', '.join(method.formula.fixed)} stand beside "
            f"the effects of {clusters} clusters for {layout.rows} rows; raise design.cluster_size or use fewer terms"
        ]
    if method.estimator == "cluster-means" and clusters <= p:
        return [
            f"must have fewer fixed terms than clusters, whose means are the data, and has {p} for {clusters}; raise "
            "design.clusters or use fewer terms"
        ]
    return []


def _level_1_part(term: str, level: Mapping[str, int]) -> frozenset[str]:
    return frozenset(v for v in term_variables(term) if level[v] == 1)
