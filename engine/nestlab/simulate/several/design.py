"""The design of a condition of several grouping factors: what its replicates share, and the predictors' values that are known.

Predictors that live on the levels of a factor, or of a crossing of factors, are those of level 2 of a design whose clusters are
these levels; those of rows are those of level 1 of a design whose clusters are the cells. So they are made by what makes them for
one grouping factor. What runs over the rows of a cluster, such as time, may run over the levels within a level as well: over
visits within pupils, or over periods within clusters with which they are crossed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...spec.formula import parse_formula
from ...spec.model import Condition, Layout, Predictor, Structure, Truth
from ...spec.paths import places_of
from ...spec.predictors import distribution_of
from ...spec.several import placed
from ...spec.structure import cells_of
from ..layout import Design, compile_design, lower_factor
from .members import Members, settled_members, widest

__all__ = ["SeveralDesign", "compile_several"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SeveralDesign:
    """What depends on the condition alone.

    structure: with the most levels that there can be, where numbers are drawn in each replicate. levels: by factor, and by
    crossing that predictors or random effects live on, how many there are; members: who belongs to what, but for what is drawn
    in each replicate. outer: by the factor or crossing, a design whose clusters are its levels, for the predictors that live
    there; running: (levels), by name, those that run over levels within levels; inner: a design whose clusters are the cells, for
    predictors of rows. factors: by grouping factor of the truth, the lower factor of its random effects' covariance (q, q).
    """

    condition: Condition
    structure: Structure
    levels: Mapping[str, int]
    members: Members
    outer: Mapping[str, Design]
    running: Mapping[str, Array]
    inner: Design
    factors: Mapping[str, Array]

    @property
    def codes(self) -> Mapping[str, Integers]:
        """(N): the level of each row, by factor and crossing; without those that replicates draw."""
        return {name: own[:, 0] for name, own in self.members.codes.items()}

    @property
    def rows(self) -> int:
        """The rows of each replicate before any are lost, where their numbers are not drawn."""
        return self.members.rows

    @property
    def residual_sd(self) -> float:
        return float(np.sqrt(self.condition.truth.residual_variance))

    @property
    def settled(self) -> bool:
        """Whether all replicates have the same rows."""
        return not self.condition.uneven

    @cached_property
    def places(self) -> Mapping[str, str]:
        """Of every column of predictors the factor or crossing on whose levels it lives, "" for rows."""
        return places_of(self.condition.predictors)

    def code_of_cells(self, name: str) -> Integers:
        """(cells): the level of each cell, of a factor or a crossing of factors."""
        code = np.zeros(len(self.members.sizes), dtype=np.int64)
        for part in name.split(":"):
            code = code * self.structure.grouping(part).levels + cells_of(self.structure)[part]
        return code

    def spread(self, group: str, values: Array) -> Array:
        """Values of a factor's levels (levels, ...) on its rows (N, ...)."""
        return values[self.codes[group]]

    def term(self, columns: Mapping[str, Array], name: str) -> Array:
        """(N, R or 1): a term such as "x:z" on the rows. columns: of a draw, by name, on the levels where they live."""
        return self.members.term(columns, self.places, name)


def compile_several(condition: Condition, groups: Sequence[str] = ()) -> SeveralDesign:
    """Everything that replicates of this condition share. groups: grouping factors of methods beside the truth's."""
    structure = widest(condition)
    ats = dict.fromkeys(p.at for p in condition.predictors if p.at)
    parts = [factor for p in condition.predictors for factor, _ in p.iccs]
    named = dict.fromkeys([*structure.names, *ats, *condition.truth.formula.groups, *parts, *groups])
    levels = {name: structure.grouping(name).levels for name in named}
    members = settled_members(condition, structure, levels)
    runs = [p for p in condition.predictors if p.at and distribution_of(p).level == 1]
    truth, places = condition.truth, condition.truth.formula.places
    covariance = np.array(truth.covariance, dtype=float).reshape(len(places), len(places))
    where = {g: [k for k, (group, _) in enumerate(places) if group == g] for g in truth.formula.groups}
    return SeveralDesign(
        condition=condition,
        structure=structure,
        levels=levels,
        members=members,
        outer={at: _as_clusters(condition, at, levels[at]) for at in ats},
        running={name: values for p in runs for name, values in _running(condition, structure, p).items()},
        inner=_of_rows(condition, structure, members),
        factors={group: lower_factor(covariance[np.ix_(own, own)]) for group, own in where.items()},
    )


def _as_clusters(condition: Condition, at: str, levels: int) -> Design:
    """A design whose clusters are the levels of a factor, with the predictors that live there."""
    own = [p for p in condition.predictors if p.at == at and distribution_of(p).level != 1]
    return compile_design(_alone(condition, own, Layout((1,) * levels)))


def _running(condition: Condition, structure: Structure, predictor: Predictor) -> dict[str, Array]:
    """(levels), by column: the values of a predictor that runs over the levels of `at` within those of another factor."""
    own, layout = placed(predictor, structure)
    design = compile_design(_alone(condition, [own], layout))
    return {name: design.known_rows[:, k] for k, name in enumerate(design.columns[: design.known]) if k}


def _of_rows(condition: Condition, structure: Structure, members: Members) -> Design:
    """A design whose clusters are the cells, with the predictors of rows."""
    own = [p for p in condition.predictors if not p.at]
    sizes, rows = tuple(members.sizes[:, 0].tolist()), dict(structure.drawn).get("")
    redrawn = rows is not None and rows.redraw
    return compile_design(_alone(condition, own, Layout(sizes, ((len(sizes), rows),) if redrawn else ())))


def _alone(condition: Condition, predictors: Sequence[Predictor], layout: Layout) -> Condition:
    """A condition of one grouping factor for some predictors, from which their values are made."""
    formula = parse_formula("y ~ 1 + (1 | level)")
    truth = Truth(formula, (0.0,), ((0.0,),), condition.truth.residual_variance)
    names = {p.name for p in predictors}
    return Condition(
        factors={},
        seed=condition.seed,
        layout=layout,
        truth=truth,
        predictors=tuple(replace(p, at="") for p in predictors),
        path="rows",
        block_size=condition.block_size,
        correlations=tuple((a, b, r) for a, b, r in condition.correlations if {a, b} <= names),
    )
