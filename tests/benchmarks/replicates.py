"""Microseconds per replicate on one core: draw, fit, standard errors and all columns, as a run makes them (Parquet aside).

run: taskset -c 0 env OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/replicates.py
Prints CSV: work, draw_us, total_us (medians of 7 rounds of 8 blocks, after one round that compiles).
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import replace
from typing import Any

import nestlab as nl
from nestlab.run.block import CompiledCondition, compile_condition
from nestlab.spec.model import Condition, Method

ROUNDS, BLOCKS = 7, 8

SLOPE: dict[str, Any] = {
    "name": "slope",
    "seed": 1,
    "replications": 1,
    "design": {"clusters": 20, "cluster_size": 50},
    "truth": {
        "formula": "y ~ 1 + x + (1 + x | g)",
        "fixed": {"Intercept": 2, "x": 5},
        "residual_variance": 3,
        "random": {"g": {"variance": {"Intercept": 5, "x": 3}, "correlation": {"Intercept:x": 0.26}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}


def tables(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(SLOPE)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = made
        for parent in parents:
            place = place[parent]
        place[last] = value
    return made


def compiled(made: dict[str, Any], path: str | None = None) -> CompiledCondition:
    study = nl.Study.from_dict(made)
    condition: Condition = study.conditions[0]
    methods: tuple[Method, ...] = study.methods
    return compile_condition(condition if path is None else replace(condition, path=path), methods)  # type: ignore[arg-type]


def measure(name: str, work: CompiledCondition) -> None:
    size = work.condition.block_size
    draws, totals = [], []
    for round_ in range(ROUNDS + 1):
        start = time.perf_counter()
        for block in range(BLOCKS):
            work.draw(block)
        middle = time.perf_counter()
        for _ in work.replicates(0, BLOCKS * size):
            pass
        end = time.perf_counter()
        if round_:
            draws.append((middle - start) / (BLOCKS * size) * 1e6)
            totals.append((end - middle) / (BLOCKS * size) * 1e6)
    print(f"{name},{statistics.median(draws):.2f},{statistics.median(totals):.2f}", flush=True)


def main() -> None:
    intercept = tables(
        truth__formula="y ~ 1 + x + (1 | g)",
        truth__random={"g": {"variance": {"Intercept": 5}}},
    )
    print("work,draw_us,total_us")
    measure("random slope 20 x 50, moments", compiled(tables()))
    measure("random slope 20 x 50, rows, x redrawn", compiled(tables(), "rows"))
    fixed = tables(predictors__x__redraw=False)
    measure("random slope 20 x 50, rows, x fixed", compiled(fixed, "rows"))
    measure("random intercept 20 x 50, moments", compiled(intercept))
    measure("random slope 20 x 5000, moments", compiled(tables(design__cluster_size=5000)))
    measure("random slope 200 x 50, moments", compiled(tables(design__clusters=200)))


if __name__ == "__main__":
    main()
