"""Studies with several grouping factors, microseconds a replicate; lme4 and MCPower in the same run where they are installed.

run: python tests/benchmarks/several_studies.py [--mcpower PYTHON] [--curve]
Columns as in speed.py, on one pinned core with BLAS threads at 1: drawn; drawn and fitted by REML with standard errors and all
variance components; stored in Parquet. --curve: a power curve of four sizes, 10,000 data sets each, as a new process on one core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from speed import PEERS, THREADS, compiled, microseconds, table

CONDITION = {"level": 1, "distribution": "list", "values": [-0.5, 0.5]}
CURVE = """
name = "curve"
seed = 3
replications = 10000
[design]
rows = 4
[design.factors]
subject = 20
item = 24
[grid]
"clusters.subject" = [20, 40, 80, 160]
[truth]
formula = "y ~ 1 + a * b + (1 + a + b | subject) + (1 + a + b | item)"
residual_variance = 1
[truth.fixed]
Intercept = 0
a = 0.1
b = 0.1
"a:b" = 0.1
[truth.random.subject]
variance = { Intercept = 0.3, a = 0.05, b = 0.05 }
[truth.random.item]
variance = { Intercept = 0.2, a = 0.02, b = 0.02 }
[predictors.a]
level = 1
distribution = "list"
values = [-0.5, -0.5, 0.5, 0.5]
[predictors.b]
level = 1
distribution = "list"
values = [-0.5, 0.5, -0.5, 0.5]
"""


def crossed(subjects: int, items: int, slopes: str, **more: Any) -> dict[str, Any]:
    variance = {"Intercept": 0.11} | ({"cond": 0.04} if slopes != "1" else {})
    random = {"variance": variance} | ({"correlation": {"Intercept:cond": 0.6}} if slopes != "1" else {})
    return {
        "name": "crossed", "seed": 1, "replications": 1,
        "design": {"rows": 2, "factors": {"subject": subjects, "item": items}},
        "truth": {
            "formula": f"y ~ cond + ({slopes} | subject) + ({slopes} | item)",
            "fixed": {"Intercept": 0, "cond": 0.1}, "residual_variance": 1, "random": {"subject": random, "item": random},
        },
        "predictors": {"cond": CONDITION}, "method": [{"name": "reml", "df": "z"}],
    } | more  # fmt: skip


def three(number: Any, formula: str, predictors: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "three", "seed": 1, "replications": 1,
        "design": {"rows": 10, "factors": {"school": 20, "class": {"within": "school", "number": number}}},
        "truth": {
            "formula": f"y ~ {formula} + (1 | school/class)", "residual_variance": 1,
            "fixed": {"Intercept": 0} | dict.fromkeys(predictors, 0.3),
            "random": {name: {"variance": {"Intercept": 0.16}} for name in ("school", "class")},
        },
        "predictors": predictors, "method": [{"name": "reml", "df": "z"}],
    }  # fmt: skip


TREATED = {"treat": {"level": "school", "distribution": "balanced"}}
BOTH = TREATED | {"x": {"level": 1, "distribution": "normal"}}
WORKS: dict[str, tuple[dict[str, Any], str]] = {
    "crossed maximal, 30 x 10 x 2": (crossed(30, 10, "1 + cond"), "crossed_maximal_30x10x2"),
    "crossed maximal, 50 x 20 x 2": (crossed(50, 20, "1 + cond"), "crossed_maximal_50x20x2"),
    "crossed intercepts, 30 x 10 x 2": (crossed(30, 10, "1"), "crossed_intercepts_30x10x2"),
    "crossed intercepts, a tenth of the rows missing": (crossed(30, 10, "1", missing={"rows": 0.1}), ""),
    "three levels, 20 x 4 x 10": (three(4, "treat", TREATED), "nested_20x4x10"),
    "three levels, unequal classes": (three([3, 5] * 10, "treat", TREATED), ""),
    "three levels, a predictor of rows": (three(4, "treat + x", BOTH), "nested_20x4x10"),
}


def rivals(mcpower: str | None) -> dict[str, float]:
    """Microseconds by "<program> <work>" of those that are installed; their scripts inherit the pinned core."""
    found: dict[str, float] = {}
    commands = [(["Rscript", str(PEERS / "lme4_times_multi.R")], "lmer", 1e3)]
    if mcpower:
        commands.append(([mcpower, str(PEERS / "mcpower_times_multi.py")], "MCPower", 1.0))
    for command, program, unit in commands:
        try:
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{program} could not be run: {error}", file=sys.stderr)
            continue
        for line in printed.splitlines():
            name, _, value = line.partition(",")
            found[f"{program} {name}"] = float(value) * unit
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mcpower")
    parser.add_argument("--curve", action="store_true")
    asked = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others, rows = rivals(asked.mcpower), []
    for name, (study, rival) in WORKS.items():
        draw, fitted, stored = microseconds(compiled(study))
        ratios = [
            f"{others[o]:,.0f} ({others[o] / stored:,.0f} x)" if (o := f"{program} {rival}") in others else ""
            for program in ("lmer", "MCPower")
        ]
        rows.append([name, f"{draw:.2f}", f"{fitted:.2f}", f"{stored:.2f}", *ratios])
    table(["microseconds a replicate", "draw", "+ fit", "stored", "lmer (ratio)", "MCPower (ratio)"], rows)
    if asked.curve:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "curve.toml"
            path.write_text(CURVE)
            start = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "nestlab.show.cli",
                "run",
                str(path),
                "--jobs",
                "1",
                "--out",
                f"{folder}/r",
            ]
            subprocess.run(command, check=True, capture_output=True)
            print(
                f"\ncrossed power curve, 4 sizes x 10,000 data sets, whole process: {time.perf_counter() - start:.1f} s"
            )


if __name__ == "__main__":
    main()
