"""Studies of binary outcomes, microseconds a replicate; glmer and MCPower in the same run where they are installed.

run: python tests/benchmarks/outcomes.py [--mcpower PYTHON]
Columns as in speed.py, on one pinned core with BLAS threads at 1: drawn; drawn and fitted with standard errors and the variances;
stored in Parquet.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from several_studies import rivals
from speed import THREADS, compiled, microseconds, table


def trial(clusters: int, size: int, formula: str, nodes: int = 1) -> dict[str, Any]:
    random = {"variance": {"Intercept": 0.64}}
    if "1 + x |" in formula:
        random = {"variance": {"Intercept": 0.64, "x": 0.2}, "correlation": {"Intercept:x": 0.0}}
    predictors: dict[str, Any] = {"trt": {"level": 2, "distribution": "balanced"}}
    fixed = {"Intercept": -0.5, "trt": 0.5}
    if "x" in formula:
        predictors["x"], fixed["x"] = {"level": 1, "distribution": "normal"}, 0.4
    return {
        "name": "trial", "seed": 1, "replications": 1, "design": {"clusters": clusters, "cluster_size": size},
        "truth": {"formula": formula, "family": "binomial", "fixed": fixed, "random": {"g": random}},
        "predictors": predictors, "method": [{"name": "glmm", "nodes": nodes}],
    }  # fmt: skip


WORKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "30 x 20, treatment, Laplace": (trial(30, 20, "y ~ trt + (1 | g)"), "logit_crt_30x20", "logit_crt_30x20"),
    "30 x 20, treatment, 7 nodes": (trial(30, 20, "y ~ trt + (1 | g)", 7), "", "logit_crt_30x20"),
    "100 x 5, treatment, Laplace": (trial(100, 5, "y ~ trt + (1 | g)"), "", ""),
    "30 x 20, a predictor of rows, Laplace": (trial(30, 20, "y ~ trt + x + (1 | g)"), "logit_x_30x20", "logit_x_30x20"),
    "30 x 20, a predictor of rows, 7 nodes": (trial(30, 20, "y ~ trt + x + (1 | g)", 7), "logit_x_30x20_agq7", ""),
    "30 x 20, its random slope, Laplace": (trial(30, 20, "y ~ trt + x + (1 + x | g)"), "logit_slope_30x20", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mcpower")
    asked = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others, rows = rivals(asked.mcpower), []
    for name, (study, *keys) in WORKS.items():
        draw, fitted, stored = microseconds(compiled(study))
        ratios = [
            f"{others[o]:,.0f} ({others[o] / stored:,.0f} x)" if (o := f"{program} {key}") in others else ""
            for program, key in zip(("lmer", "MCPower"), keys, strict=True)
        ]
        rows.append([name, f"{draw:.1f}", f"{fitted:.1f}", f"{stored:.1f}", *ratios])
    table(["microseconds a replicate", "draw", "+ fit", "stored", "glmer (ratio)", "MCPower (ratio)"], rows)


if __name__ == "__main__":
    main()
