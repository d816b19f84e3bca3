"""Seconds that fits with two large crossed factors take: nestlab's, with standard errors and degrees of freedom, and lmer's.

python tests/benchmarks/several_factors.py [--lmer]     (nestlab compiles first; the second line of a size is without that)

The data are drawn here: as many rows and levels as lme4's InstEval (73,000 rows, 2,972 students, 1,128 lecturers) and 100,000
rows on 1,000 x 500 levels, intercepts of both factors, one predictor; the third size has slopes of both factors too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import nestlab as nl

SIZES = {
    "InstEval-like": (73_000, 2_972, 1_128, "y ~ x + (1 | s) + (1 | d)"),
    "1,000 x 500": (100_000, 1_000, 500, "y ~ x + (1 | s) + (1 | d)"),
    "1,000 x 500, slopes": (100_000, 1_000, 500, "y ~ x + (1 + x | s) + (1 + x | d)"),
}
LMER = """
suppressMessages(library(lme4)); d <- read.csv(commandArgs(TRUE)[1])
print(system.time(m <- lmer({formula}, d)))
cat(format(REMLcrit(m), digits = 12), "\\n")
"""


def drawn(rows: int, students: int, lecturers: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    s, d = rng.integers(0, students, rows), rng.integers(0, lecturers, rows)
    x = rng.normal(size=rows)
    u, v = rng.normal(size=(2, students)), rng.normal(size=(2, lecturers))
    y = 3 + 0.2 * x + 0.33 * u[0, s] + 0.5 * v[0, d] + x * (0.2 * u[1, s] + 0.15 * v[1, d]) + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "x": x, "s": s, "d": d})


def main() -> None:
    nl.fit(SIZES["InstEval-like"][3], drawn(500, 20, 15))  # compiles
    for name, (rows, students, lecturers, formula) in SIZES.items():
        data = drawn(rows, students, lecturers)
        for rule in ("z", "satterthwaite"):
            start, busy = time.perf_counter(), time.process_time()
            found = nl.fit(formula, data, df=rule)
            seconds, cpu = time.perf_counter() - start, time.process_time() - busy
            print(
                f"{name}: nestlab {seconds:.1f} s ({cpu:.1f} s of processors, {rule}), {found.iterations} steps, "
                f"{found.status.name}, criterion "
                f"{found.neg2loglik:.6f}, x = {found.beta['x']:.6f} ({found.se['x']:.6f}), df {found.df['x']:.1f}",
                flush=True,
            )
        if "--lmer" in sys.argv:
            with tempfile.TemporaryDirectory() as folder:
                data.to_csv(path := Path(folder) / "data.csv", index=False)
                done = subprocess.run(
                    ["Rscript", "-e", LMER.format(formula=formula), str(path)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
            print(f"{name}: lmer {' '.join(done.stdout.split())}", flush=True)


if __name__ == "__main__":
    main()
