"""Truths that differ from replicate to replicate: which values are drawn, and what follows from the draws.

A condition's priors act in order on the truth at their means: dotted paths first, then short names, as axes do. Correlations
are held where variances are drawn; a short name that is a number (icc = 0.2) holds where what it multiplies is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .axes import Setting, setting
from .covariance import Held, correlation_paths, variance_paths
from .model import Condition, Formula
from .prior import Prior

__all__ = ["DrawnTruth", "drawn_truth", "drawn_values", "prior_names", "steps"]

Array: TypeAlias = NDArray[np.float64]
Step: TypeAlias = tuple[str, Prior | float]


def steps(assignments: Iterable[tuple[Setting, Any]]) -> tuple[Step, ...]:
    """What has to be done anew for each replicate, of all settings in the order in which they act.

    A value that is set again by a number is not drawn; a number whose value depends on a drawn one is a step too.
    """
    kept: dict[str, tuple[int, Prior | float]] = {}
    drawn: dict[str, str] = {}
    for found, value in assignments:
        for path in found.paths:
            if path in drawn:
                del kept[drawn.pop(path)]
        if isinstance(value, Prior) or any(path in drawn for path in found.reads):
            kept[found.name] = found.rank, value
            drawn.update(dict.fromkeys(found.paths, found.name))
    ordered = sorted(kept.items(), key=lambda item: (item[1][0], item[0]))
    return tuple((name, value) for name, (_, value) in ordered)


def prior_names(condition: Condition) -> tuple[str, ...]:
    """The axes whose values are drawn, in order."""
    return tuple(name for name, value in condition.priors if isinstance(value, Prior))


@dataclass(frozen=True, slots=True)
class DrawnTruth:
    """The truths of R replicates, as `model.Truth` with arrays (R,) for numbers. values: what was drawn, by axis."""

    values: Mapping[str, Array]
    formula: Formula
    fixed: tuple[Array, ...]
    covariance: tuple[tuple[Array, ...], ...]
    residual_variance: Array

    def part(self, first: int, last: int) -> DrawnTruth:
        """The truths of replicates first .. last - 1."""
        return DrawnTruth(
            {name: value[first:last] for name, value in self.values.items()},
            self.formula,
            tuple(value[first:last] for value in self.fixed),
            tuple(tuple(value[first:last] for value in row) for row in self.covariance),
            self.residual_variance[first:last],
        )


def drawn_values(condition: Condition, uniforms: Array) -> dict[str, Array]:
    """The values of each prior's axis, (R,); uniforms (priors, R) in (0, 1), a row a prior."""
    priors = [(name, value) for name, value in condition.priors if isinstance(value, Prior)]
    return {name: prior.quantile(u) for (name, prior), u in zip(priors, uniforms, strict=True)}


def drawn_truth(condition: Condition, values: dict[str, Array]) -> DrawnTruth:
    """The truths that go with drawn values; values: {axis: (R,)}, an array for each prior."""
    truth, formula = condition.truth, condition.truth.formula
    C = truth.covariance
    flat: dict[str, Any] = {f"truth.fixed.{term}": v for term, v in zip(formula.fixed, truth.fixed, strict=True)}
    paths, joint = variance_paths(formula), correlation_paths(formula)
    flat |= {path: C[i][i] for i, path in enumerate(paths)}
    for (i, j), path in joint.items():
        flat[path] = Held(C[i][j], C[i][i], C[j][j]).correlation
    flat["truth.residual_variance"] = truth.residual_variance
    for name, value in condition.priors:
        found = setting(name, formula)
        assert found is not None, "conditions come from settings that exist"
        found.apply(flat, values[name] if isinstance(value, Prior) else value)
    shape = np.shape(next(iter(values.values())))

    def column_of(value: Any) -> Array:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), shape)

    variances = [column_of(flat[path]) for path in paths]
    covariance = [[np.zeros(shape) for _ in paths] for _ in paths]
    for i, variance in enumerate(variances):
        covariance[i][i] = variance
    for (i, j), path in joint.items():
        rho = flat[path]
        covariance[i][j] = covariance[j][i] = rho * np.sqrt(variances[i]) * np.sqrt(variances[j])
    return DrawnTruth(
        values=values,
        formula=formula,
        fixed=tuple(column_of(flat[f"truth.fixed.{term}"]) for term in formula.fixed),
        covariance=tuple(map(tuple, covariance)),
        residual_variance=column_of(flat["truth.residual_variance"]),
    )
