"""The design of a condition of several grouping factors: who belongs to what, and the predictors' values that are known.

Predictors that live on the levels of a factor, or of a crossing of factors, are those of level 2 of a design whose clusters are
these levels; those of rows are those of level 1 of a design whose clusters are the cells. So they are made by what makes them for
one grouping factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...spec.formula import parse_formula
from ...spec.model import INTERCEPT, Condition, Layout, Predictor, Structure, Truth, term_variables
from ...spec.paths import places_of
from ...spec.several import rows_of
from ...spec.structure import cells_of
from ..layout import Design, compile_design, lower_factor

__all__ = ["SeveralDesign", "compile_several"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SeveralDesign:
    """What depends on the condition alone.

    codes: (N) by factor, and by crossing that predictors or random effects live on: the level of each row. levels: how many
    there are. outer: by the factor or crossing, a design whose clusters are its levels, for the predictors that live there;
    inner: one whose clusters are the cells, for those of rows. factors: by grouping factor of the truth, the lower factor of its
    random effects' covariance (q, q).
    """

    condition: Condition
    structure: Structure
    codes: Mapping[str, Integers]
    levels: Mapping[str, int]
    outer: Mapping[str, Design]
    inner: Design
    factors: Mapping[str, Array]

    @property
    def rows(self) -> int:
        return rows_of(self.structure)

    @property
    def residual_sd(self) -> float:
        return float(np.sqrt(self.condition.truth.residual_variance))

    @property
    def settled(self) -> bool:
        """Whether all replicates have the same rows."""
        return self.condition.missing is None

    @cached_property
    def places(self) -> Mapping[str, str]:
        """Of every column of predictors the factor or crossing on whose levels it lives, "" for rows."""
        return places_of(self.condition.predictors)

    def code_of_cells(self, name: str) -> Integers:
        """(cells): the level of each cell, of a factor or a crossing of factors."""
        return _codes(self.structure, cells_of(self.structure), name)[0]

    def level_count(self, name: str) -> int:
        """How many levels a factor or a crossing has."""
        return _codes(self.structure, cells_of(self.structure), name)[1]

    def spread(self, group: str, values: Array) -> Array:
        """Values of a factor's levels (levels, ...) on its rows (N, ...)."""
        return values[self.codes[group]]

    def term(self, columns: Mapping[str, Array], name: str) -> Array:
        """(N, R or 1): a term such as "x:z" on the rows. columns: of a draw, by name, on the levels where they live."""
        value = np.ones((1, 1))
        for variable in () if name == INTERCEPT else term_variables(name):
            at, own = self.places[variable], columns[variable]
            value = value * (self.spread(at, own) if at else own)
        return np.broadcast_to(value, (self.rows, value.shape[1]))


def compile_several(condition: Condition, groups: Sequence[str] = ()) -> SeveralDesign:
    """Everything that replicates of this condition share. groups: grouping factors of methods beside the truth's."""
    structure = condition.structure
    assert structure is not None, "a condition of one grouping factor has a design of its own"
    cells = cells_of(structure)
    ats = dict.fromkeys(p.at for p in condition.predictors if p.at)
    named = [*structure.names, *dict.fromkeys([*ats, *condition.truth.formula.groups, *groups])]
    codes, levels = dict[str, Integers](), dict[str, int]()
    for name in dict.fromkeys(named):
        own, levels[name] = _codes(structure, cells, name)
        codes[name] = np.repeat(own, structure.rows)
    rows = [p for p in condition.predictors if not p.at]
    truth, places = condition.truth, condition.truth.formula.places
    covariance = np.array(truth.covariance, dtype=float).reshape(len(places), len(places))
    where = {g: [k for k, (group, _) in enumerate(places) if group == g] for g in truth.formula.groups}
    return SeveralDesign(
        condition=condition,
        structure=structure,
        codes=codes,
        levels=levels,
        outer={at: _as_clusters(condition, at, levels[at]) for at in ats},
        inner=compile_design(_alone(condition, rows, (structure.rows,) * len(next(iter(cells.values()))))),
        factors={group: lower_factor(covariance[np.ix_(own, own)]) for group, own in where.items()},
    )


def _codes(structure: Structure, cells: Mapping[str, Integers], name: str) -> tuple[Integers, int]:
    """(cells) and their number: the levels of a factor or of a crossing, the first factor's changing slowest."""
    code, levels = np.zeros(len(next(iter(cells.values()))), dtype=np.int64), 1
    for part in name.split(":"):
        own = structure.grouping(part).levels
        code, levels = code * own + cells[part], levels * own
    return code, levels


def _as_clusters(condition: Condition, at: str, levels: int) -> Design:
    """A design whose clusters are the levels of a factor, with the predictors that live there."""
    own = [replace(p, at="") for p in condition.predictors if p.at == at]
    return compile_design(_alone(condition, own, (1,) * levels))


def _alone(condition: Condition, predictors: Sequence[Predictor], sizes: tuple[int, ...]) -> Condition:
    """A condition of one grouping factor for some predictors, from which their values are made."""
    formula = parse_formula("y ~ 1 + (1 | level)")
    truth = Truth(formula, (0.0,), ((0.0,),), condition.truth.residual_variance)
    return Condition(
        factors={},
        seed=condition.seed,
        layout=Layout(sizes),
        truth=truth,
        predictors=tuple(predictors),
        path="rows",
        block_size=condition.block_size,
    )
