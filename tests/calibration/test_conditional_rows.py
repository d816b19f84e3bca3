"""Rows drawn given their sufficient statistics are distributed as rows drawn outright.

Two-sample Kolmogorov-Smirnov tests of statistics that are not functions of the Gram: they see whether a conditional row is
the right row, which no fit can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

import nestlab as nl
from nestlab.run.block import CompiledCondition, compile_condition
from nestlab.simulate import replicate as module
from nestlab.simulate.replicate import ReplicateRows

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]
REPLICATES = 1_500

STUDY: dict[str, Any] = {
    "name": "rows",
    "seed": 77,
    "replications": 1,
    "design": {"clusters": 8, "cluster_size": [2, 3, 4, 5, 8, 8, 12, 12]},
    "truth": {
        "formula": "y ~ 1 + x + v + arm + (1 + x | g)",
        "fixed": {"Intercept": 1, "x": 0.5, "v": 0.2, "arm": 0.3},
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 0.7, "x": 0.3}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal", "mean": 1},
        "v": {"level": 1, "distribution": "normal", "sd": 3},
        "arm": {"level": 1, "distribution": "balanced"},
    },
}


def compiled(path: str) -> CompiledCondition:
    study = nl.Study.from_dict(STUDY)
    return compile_condition(replace(study.conditions[0], path=path), study.methods)  # type: ignore[arg-type]


def residuals(values: Array) -> Array:
    return (values - values.mean()) / values.std()


#: Columns of D: the predictors stand in order of name.
V, X = 2, 3
STATISTICS: dict[str, Callable[[ReplicateRows], float]] = {
    "skewness of the errors": lambda r: float((residuals(r.e) ** 3).mean()),
    "kurtosis of the errors": lambda r: float((residuals(r.e) ** 4).mean()),
    "lag-1 correlation of the errors": lambda r: float((r.e[1:] * r.e[:-1]).mean()),
    "first error": lambda r: float(r.e[0]),
    "last error": lambda r: float(r.e[-1]),
    "largest error": lambda r: float(r.e.max()),
    "skewness of x": lambda r: float((residuals(r.D[:, X]) ** 3).mean()),
    "lag-1 correlation of x": lambda r: float(((r.D[1:, X] - 1) * (r.D[:-1, X] - 1)).mean()),
    "first x": lambda r: float(r.D[0, X]),
    "x of the second arm, last cluster": lambda r: float(r.D[-1, X]),
    "x times v in the first row": lambda r: float(r.D[-2, X] * r.D[-2, V]),
    "x squared times e": lambda r: float((r.D[:, X] ** 2 * r.e).mean()),
    "smallest v of the last cluster": lambda r: float(r.D[-12:, V].min()),
    "v times e in one row": lambda r: float(r.D[20, V] * r.e[20]),
}


def sample(work: CompiledCondition) -> dict[str, Array]:
    size = work.condition.block_size
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for block in range(-(-REPLICATES // size)):
        draw = work.draw(block)
        for r in range(min(size, REPLICATES - block * size)):
            rows = work.source.rows(block * size + r, draw)
            for name, statistic in STATISTICS.items():
                found[name].append(statistic(rows))
    return {name: np.array(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def outright() -> dict[str, Array]:
    """REPLICATES data sets of plain rows, by NumPy alone."""
    rng = np.random.default_rng(4)
    design = compiled("moments").source.design
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for _ in range(REPLICATES):
        D = np.column_stack(
            [design.known_rows, 3 * rng.standard_normal(design.rows), 1 + rng.standard_normal(design.rows)]
        )
        e = np.sqrt(2) * rng.standard_normal(design.rows)
        rows = ReplicateRows(D, np.zeros((0, 8)), np.zeros((8, 2)), e)
        for name, statistic in STATISTICS.items():
            found[name].append(statistic(rows))
    return {name: np.array(values) for name, values in found.items()}


def p_values(one: dict[str, Array], two: dict[str, Array]) -> dict[str, float]:
    return {name: float(ks_2samp(one[name], two[name]).pvalue) for name in STATISTICS}


@pytest.mark.parametrize("path", ["moments", "rows"])
def test_rows_against_plain_rows(path: str, outright: dict[str, Array]) -> None:
    if path == "moments":
        found = p_values(sample(compiled(path)), outright)
    else:  # a replicate is drawn with its block, so fewer are looked at
        work = compiled(path)
        rows = [work.source.rows(r) for r in range(400)]
        few = {name: np.array([statistic(r) for r in rows]) for name, statistic in STATISTICS.items()}
        found = p_values(few, outright)
    assert min(found.values()) > 0.01 / len(STATISTICS), found


def test_rows_the_test_has_power(outright: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is orthonormal but not uniform leaves every Gram right and the rows wrong."""
    frame = module._frame

    def not_uniform(noise: Array, Q: Array) -> Array:
        return frame(np.broadcast_to(np.abs(noise[:1]) * np.arange(1, noise.shape[1] + 1)[:, None], noise.shape), Q)

    monkeypatch.setattr(module, "_frame", not_uniform)
    found = p_values(sample(compiled("moments")), outright)
    assert min(found.values()) < 1e-6
