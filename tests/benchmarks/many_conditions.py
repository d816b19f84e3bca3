"""1,000 conditions x 1,000 replications: files, and the seconds that planning, resuming and status take.

run: python tests/benchmarks/many_conditions.py [--folder DIR]
Planning: from a study file to the list of tasks of an empty folder. Resuming: the same of a complete one. Status: the
whole command, as a process. Medians of 5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nestlab.run.plan import make_jobs, match_conditions, plan_tasks
from nestlab.run.store import Store
from nestlab.spec.study import StudyFile

STUDY = """
name = "many"
seed = 3
replications = 1000
[design]
cluster_size = 5
[grid]
clusters = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28]
icc = [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45]
"truth.fixed.arm" = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
[truth]
formula = "y ~ 1 + arm + (1 | school)"
fixed = { Intercept = 2, arm = 0.5 }
residual_variance = 1
[truth.random.school]
variance = { Intercept = 0.2 }
[predictors.arm]
level = 2
distribution = "balanced"
[[method]]
name = "reml"
df = "between-within"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="nestlab-many-"))
    study = folder / "many.toml"
    study.write_text(STUDY)
    results = folder / "results"
    print(f"run: {timed(lambda: nestlab('run', study, '--out', results)):.1f} s")
    files = [p for p in results.rglob("*") if p.is_file()]
    print(f"files: {len(files):,}, manifest {(results / 'manifest.json').stat().st_size / 1e3:,.0f} kB")
    print(f"planning a new folder: {median(lambda: plan(study, folder / 'new'))}")
    print(f"planning a complete one: {median(lambda: plan(study, results))}")
    print(f"resuming a complete one, the command: {median(lambda: nestlab('run', results))}")
    print(f"status, the command: {median(lambda: nestlab('status', results))}")
    print(f"nestlab studies, the command: {median(lambda: nestlab('studies'))}")


def nestlab(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "nestlab", *map(str, words)], check=True, capture_output=True)


def plan(study: Path, folder: Path) -> None:
    """All that stands before the first replicate, checks of stored parts included."""
    file = StudyFile.from_toml(study)
    conditions, methods = file.conditions(), file.methods()
    store = Store(folder)
    store.forget_missing()
    assert not store.damaged()
    store.adopt_unlisted()
    rows, numbers = match_conditions(store.read_conditions(), conditions, methods)
    jobs = make_jobs(conditions, numbers, methods, {row.number: 1000 for row in rows})
    list(plan_tasks(store, jobs, methods))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(call: Callable[[], object]) -> str:
    """Median of 5, by the clock, and of the processor's time of this process and its children: other work takes the clock's."""

    def used() -> float:
        return sum(os.times()[:4])

    found = []
    for _ in range(5):
        before = used()
        found.append((timed(call), used() - before))
    return (
        f"{statistics.median(f[0] for f in found):.2f} s, {statistics.median(f[1] for f in found):.2f} s of processor"
    )


if __name__ == "__main__":
    main()
