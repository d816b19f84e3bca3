"""Memory of a run that keeps sums, by the number of replicates: `python tests/benchmarks/summary_memory.py [N ...]`.

Each N is a run of its own (a random intercept, 10 clusters of 5), in a process whose largest resident set the system tells
(ru_maxrss). `--keep replicates` measures the same of a run that keeps them, `--jobs` sets the workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name = "memory"
seed = 5
replications = 1000
design = { clusters = 10, cluster_size = 5 }

[truth]
formula = "y ~ 1 + x + (1 | g)"
fixed = { Intercept = 0, x = 0.3 }
residual_variance = 1
random.g.variance = { Intercept = 0.5 }

[predictors.x]
level = 1
distribution = "normal"
"""


def measured(n: int, *, keep: str, jobs: int) -> tuple[float, float, float, int]:
    """(largest resident set in MB, wall seconds, MB on disk, parts) of a run of n replicates."""
    with tempfile.TemporaryDirectory() as folder:
        study, out = Path(folder) / "memory.toml", Path(folder) / "out"
        study.write_text(STUDY, encoding="utf-8")
        run = [sys.executable, "-m", "nestlab", "run", str(study), "--out", str(out), "--keep", keep]
        resident, seconds = spent([*run, "--replications", str(n), "--jobs", str(jobs)])
        files = [path for path in out.rglob("*") if path.is_file()]
        parts = sum(path.parent.name in ("sums", "replicates") for path in files)
        return resident, seconds, sum(path.stat().st_size for path in files) / 1e6, parts


def spent(command: list[str]) -> tuple[float, float]:
    """(largest resident set in MB, wall seconds) of a command."""

    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(said)
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("replicates", nargs="*", type=int, default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--keep", default="summary")
    parser.add_argument("--jobs", type=int, default=-1)
    asked = parser.parse_args()
    print(f"{'replicates':>12} {'MB resident':>12} {'seconds':>8} {'MB stored':>10} {'parts':>6}")
    for n in asked.replicates:
        resident, seconds, stored, parts = measured(n, keep=asked.keep, jobs=asked.jobs)
        print(f"{n:>12,} {resident:>12.0f} {seconds:>8.1f} {stored:>10.1f} {parts:>6}", flush=True)


if __name__ == "__main__":
    main()
