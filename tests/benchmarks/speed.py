"""The speed table: nestlab, and lme4 and MCPower in the same run on the same core where they are installed.

run: python tests/benchmarks/speed.py [--mcpower PYTHON] [--plot FILE.svg] [--quick]
Prints markdown tables. One pinned core, BLAS threads at 1, medians of ROUNDS rounds after one that compiles; "stored" is the
whole way of a replicate: draw, REML fit with standard errors and all variance components, columns, Parquet on disk. Whole studies
are run as new processes, the last ones on two cores. Main and growth tables have df = "z", as lmer has; the inference table says
what each kind of inference adds. --mcpower: the Python of an environment that has MCPower; lme4 is found by
Rscript. --quick: the first table only, without rivals.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import nestlab as nl
from nestlab.run.block import CompiledCondition, compile_condition
from nestlab.run.series import Series
from nestlab.run.store import Store
from nestlab.spec.estimand import Column

ROUNDS, SECONDS = 7, 0.25
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PEERS = Path(__file__).parent / "peers"

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
    "method": [{"name": "reml", "df": "z"}],
}
HUNDRED = """
name = "hundred"
seed = 11
replications = {replications}
[design]
clusters = 20
cluster_size = 50
[grid]
icc = [0.1, 0.2, 0.3, 0.4, 0.5]
slope_correlation = [0.0, 0.1, 0.2, 0.3, 0.4]
"truth.fixed.x" = [0.0, 0.2, 0.4, 0.6]
[truth]
formula = "y ~ 1 + x + (1 + x | cluster)"
fixed = {{ Intercept = 2, x = 5 }}
residual_variance = 3
[truth.random.cluster]
variance = {{ Intercept = 5, x = 3 }}
[predictors.x]
level = 1
distribution = "normal"
"""


def study(**changes: Any) -> dict[str, Any]:
    """The random-slope study with values at dotted paths ("__" for ".") replaced."""
    made = copy.deepcopy(SLOPE)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = made
        for parent in parents:
            place = place[parent]
        place[last] = value
    return made


def columns(fixed: int, random: int) -> dict[str, Any]:
    """A study with an intercept and level-1 predictors: so many fixed effects, so many random columns."""
    names = [f"x{k}" for k in range(1, max(fixed, random))]
    terms, slopes = ["1", *names[: fixed - 1]], ["1", *names[: random - 1]]
    variance = {"Intercept": 5.0} | dict.fromkeys(names[: random - 1], 3.0)
    return study(
        truth__formula=f"y ~ {' + '.join(terms)} + ({' + '.join(slopes)} | g)",
        truth__fixed={"Intercept": 0.0} | dict.fromkeys(names[: fixed - 1], 1.0),
        truth__random={"g": {"variance": variance}},
        predictors={name: {"level": 1, "distribution": "normal"} for name in names},
    )


INTERCEPT = study(truth__formula="y ~ 1 + x + (1 | g)", truth__random={"g": {"variance": {"Intercept": 5}}})
FIXED_X = study(predictors__x__redraw=False)
SKEWED = study(
    predictors__x={"level": 1, "distribution": "gamma", "skewness": 2}, truth__errors={"distribution": "t", "df": 5}
)
SKEWED_X_FIXED = SKEWED | {"predictors": {"x": SKEWED["predictors"]["x"] | {"redraw": False}}}
MISSING = study(
    predictors__x=SKEWED["predictors"]["x"],
    truth__errors={"distribution": "t", "df": 5, "ar1": 0.4},
    missing={"rows": 0.2},
)


def compiled(made: dict[str, Any], path: str | None = None) -> CompiledCondition:
    asked = nl.Study.from_dict(made)
    condition = asked.conditions[0]
    return compile_condition(condition if path is None else replace(condition, path=path), asked.methods)  # type: ignore[arg-type]


def store_replicates(work: CompiledCondition, blocks: int, folder: Path) -> None:
    """Draw, fit and write, as a worker does."""
    (together,) = work.replicates(0, blocks * work.condition.block_size)
    schema = list(Column.of(together, "estimate", "se", "df", "p", "lower", "upper"))
    (folder / "replicates").mkdir(exist_ok=True)
    replicates = blocks * work.condition.block_size
    series = Series(Store(folder), 0, "0" * 64, work.methods[0], replicates)
    series.write(together, schema, 0, replicates)


def microseconds(work: CompiledCondition) -> tuple[float, float, float]:
    """(draw, draw + fit + columns, stored), in microseconds a replicate."""
    size = work.condition.block_size
    start = time.perf_counter()
    work.replicates(0, size)
    start = time.perf_counter()
    work.replicates(0, size)
    blocks = max(2, int(SECONDS / (time.perf_counter() - start)))
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            times = [time.perf_counter()]
            for block in range(blocks):
                work.draw(block)
            times.append(time.perf_counter())
            work.replicates(0, blocks * size)
            times.append(time.perf_counter())
            store_replicates(work, blocks, Path(folder))
            times.append(time.perf_counter())
            rounds.append([(b - a) / (blocks * size) * 1e6 for a, b in pairwise(times)])
    draw, fitted, stored = (statistics.median(column) for column in zip(*rounds, strict=True))
    return draw, fitted, stored


def rivals(mcpower: str | None) -> dict[str, float]:
    """Microseconds a replicate by "<program> <work>" of those that are installed; their scripts inherit the pinned core."""
    found: dict[str, float] = {}
    commands = []
    if shutil.which("Rscript"):
        commands.append((["Rscript", str(PEERS / "lme4_times.R")], "R", 1e3))
    if mcpower:
        commands.append(([mcpower, str(PEERS / "mcpower_times.py")], "MCPower", 1.0))
    for command, program, unit in commands:
        printed = subprocess.run(command, capture_output=True, text=True)
        if printed.returncode:
            print(f"{program} could not be run: {printed.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        for line in printed.stdout.splitlines():
            name, _, value = line.partition(",")
            if value:
                found[f"{program} {name}"] = float(value) * unit
    return found


def table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> None:
    print("\n| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main_table(others: dict[str, float]) -> dict[str, float]:
    works = {
        "random slope, 20 x 50": (compiled(study()), "R lmer", "MCPower slope_20x50"),
        "random intercept, 20 x 50": (compiled(INTERCEPT), "R lmer_intercept_only", "MCPower intercept_20x50"),
        "random slope, 100 x 20": (
            compiled(study(design__clusters=100, design__cluster_size=20)), "", "MCPower slope_100x20"
        ),
        "random slope, 20 x 5,000": (compiled(study(design__cluster_size=5000)), "", ""),
        "random slope, 200 x 50": (compiled(study(design__clusters=200)), "", ""),
        "rows path, x redrawn, 20 x 50": (compiled(study(), "rows"), "", ""),
        "rows path, x fixed, 20 x 50": (compiled(FIXED_X, "rows"), "", ""),
        "gamma x, t errors, 20 x 50": (compiled(SKEWED), "", ""),
        "gamma x fixed, t errors, 20 x 50": (compiled(SKEWED_X_FIXED), "", ""),
        "gamma x, t errors, AR(1), a fifth of the rows missing": (compiled(MISSING), "", ""),
    }  # fmt: skip
    stored = {}

    def rows() -> Iterator[list[str]]:
        for name, (work, lme4, mcpower) in works.items():
            draw, fitted, stored[name] = microseconds(work)
            ratios = [
                f"{others[o]:,.0f} ({others[o] / stored[name]:,.0f} x)" if o in others else "" for o in (lme4, mcpower)
            ]
            yield [name, f"{draw:.2f}", f"{fitted:.2f}", f"{stored[name]:.2f}", *ratios]

    table(["microseconds a replicate", "draw", "+ fit", "stored", "lmer (ratio)", "MCPower (ratio)"], rows())
    return stored


#: What is added to a fit with Wald z, and the key of a rival that adds the same.
INFERENCE: dict[str, tuple[dict[str, Any], str]] = {
    "Wald z": ({"df": "z"}, ""),
    "Satterthwaite": ({"df": "satterthwaite"}, "R satterthwaite_added"),
    "Kenward-Roger": ({"df": "kenward-roger"}, "R kenward_roger_added"),
    "z, between-within, Satterthwaite, Kenward-Roger": (
        {"df": ["z", "between-within", "satterthwaite", "kenward-roger"]}, ""
    ),
    "Wald intervals of variances": ({"df": "z", "variance_intervals": "wald"}, ""),
    "profile intervals of variances": ({"df": "z", "variance_intervals": "profile"}, ""),
    "profile intervals of all": (
        {"df": "z", "variance_intervals": "profile", "intervals": "profile"}, "R profile_ci_added"
    ),
    "likelihood ratio test of x (ML)": ({"df": "z", "reml": False, "compare": "y ~ 1 + (1 + x | g)"}, ""),
    "likelihood ratio test of the slope": ({"df": "z", "compare": "y ~ x + (1 | g)"}, ""),
    "exact test of the intercept, 999 draws": (
        {"df": "z", "formula": "y ~ x + (1 | g)", "compare": "y ~ x", "reference": "exact"}, ""
    ),
    "bootstrap intervals of all, 999 draws": (
        {"df": "z", "intervals": "bootstrap", "variance_intervals": "bootstrap", "draws": 999}, ""
    ),
    "bootstrap test of the slope, 999 draws": (
        {"df": "z", "compare": "y ~ x + (1 | g)", "reference": "bootstrap", "draws": 999}, ""
    ),
}  # fmt: skip


def inference_table(others: dict[str, float]) -> None:
    """What inference adds to a random slope, 20 x 50."""

    def rows() -> Iterator[list[str]]:
        base: float | None = None
        for name, (method, rival) in INFERENCE.items():
            work = compiled(study(method=[{"name": "reml", **method}]))
            few = 8 if "999" in name else 0
            fitted = analysis_microseconds(work, few)
            base = fitted if base is None else base
            added = fitted - base
            ratio = f"{others[rival]:,.0f} ({others[rival] / added:,.0f} x)" if rival in others else ""
            yield [name, f"{fitted:,.2f}", "" if fitted == base else f"+{added:,.2f}", ratio]

    table(["inference, random slope, 20 x 50", "us a replicate", "added", "R adds, us (ratio)"], rows())


ANALYSES: dict[str, dict[str, Any]] = {
    "REML, Satterthwaite": {},
    "REML, CR0": {"robust": "CR0"},
    "REML, CR2, Bell-McCaffrey": {"robust": "CR2"},
    "OLS": {"estimator": "ols"},
    "OLS, CR0": {"estimator": "ols", "robust": "CR0"},
    "OLS, CR2, Bell-McCaffrey": {"estimator": "ols", "robust": "CR2"},
    "fixed effects": {"estimator": "fixed-effects"},
    "fixed effects, CR2, Bell-McCaffrey": {"estimator": "fixed-effects", "robust": "CR2"},
    "cluster means": {"estimator": "cluster-means", "formula": "y ~ arm"},
}


def analyses_table() -> None:
    """Analyses that people compare, of a trial of 20 clusters of 50 with a covariate: fit and inference, data drawn once."""
    tables = study(
        truth__formula="y ~ 1 + x + arm + (1 | g)",
        truth__fixed={"Intercept": 2, "x": 5, "arm": 0},
        truth__random={"g": {"variance": {"Intercept": 5}}},
        predictors__arm={"level": 2, "distribution": "balanced"},
        method=[{"name": f"m{i}", **method} for i, method in enumerate(ANALYSES.values())],
    )
    work = compiled(tables)
    draw, size = work.draw(0), work.condition.block_size

    def rows() -> Iterator[list[str]]:
        for method, name in enumerate(ANALYSES):
            work.analyse(draw, method, 0, 0, size)
            times = []
            for _ in range(ROUNDS * 3):
                start = time.perf_counter()
                work.analyse(draw, method, 0, 0, size)
                times.append((time.perf_counter() - start) / size * 1e6)
            yield [name, f"{statistics.median(times):.2f}"]

    table(["fit and inference, two arms and x, 20 x 50", "us a replicate"], rows())


def analysis_microseconds(work: CompiledCondition, few: int) -> float:
    """Draw, fit and infer; of a whole block, or of a few replicates where each takes milliseconds."""
    last = few or work.condition.block_size
    work.replicates(0, last)
    times = []
    for _ in range(ROUNDS):
        start, made = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            work.replicates(0, last)
            made += last
        times.append((time.perf_counter() - start) / made * 1e6)
    return statistics.median(times)


def growth() -> dict[str, dict[int, float]]:
    """Stored microseconds along four axes."""
    axes = {
        "clusters (of 50)": {J: study(design__clusters=J) for J in (10, 20, 50, 100, 200, 500, 1000)},
        "cluster size (20 clusters)": {n: study(design__cluster_size=n) for n in (5, 10, 50, 500, 5000)},
        "fixed effects (random intercept, 20 x 50)": {p: columns(p, 1) for p in (1, 2, 4, 6, 8, 10)},
        "random columns (4 fixed effects, 20 x 50)": {q: columns(4, q) for q in (1, 2, 3, 4)},
    }
    found: dict[str, dict[int, float]] = {}
    for axis, points in axes.items():
        found[axis] = {value: microseconds(compiled(made))[2] for value, made in points.items()}
        table([axis, *map(str, found[axis])], [["stored, us", *(f"{us:.2f}" for us in found[axis].values())]])
    return found


def run_study(
    text: str, folder: Path, *, jobs: int, cores: set[int], cache: str | None = None
) -> tuple[float, float, float]:
    """(seconds from start to end of the process, seconds of the run as its manifest says, MB at most) of `nestlab run`."""
    file = folder / "study.toml"
    file.write_text(text)
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [
        sys.executable, "-c", "from nestlab.show.cli import main; main()",
        "run", str(file), "--jobs", str(jobs), "--out", str(folder / "out"),
    ]  # fmt: skip
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    start = time.perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, f"nestlab run ended with {status}"
    seconds = time.perf_counter() - start
    run = json.loads((folder / "out" / "manifest.json").read_text())["runs"][-1]
    inside = datetime.fromisoformat(run["ended"]) - datetime.fromisoformat(run["started"])
    return seconds, inside.total_seconds(), usage.ru_maxrss / 1024


def whole_runs(cores: set[int]) -> None:
    one = {min(cores)}
    tiny, big, large = (HUNDRED.format(replications=n) for n in (10, 10_000, 40_000))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold, _, _ = run_study(tiny, folder, jobs=1, cores=one, cache=str(folder / "cache"))
        warm, _, _ = run_study(tiny, folder, jobs=1, cores=one)
        runs = {
            (jobs, text): [run_study(text, folder, jobs=jobs, cores=c) for _ in range(3)]
            for jobs, c in ((1, one), (2, cores))
            for text in (big, large)
        }
    million = statistics.median(seconds for seconds, _, _ in runs[2, big])
    memory = max(mb for _, _, mb in runs[2, big])
    inside = {key: statistics.median(seconds for _, seconds, _ in made) for key, made in runs.items()}
    alone, together = (inside[jobs, large] - inside[jobs, big] for jobs in (1, 2))
    table(
        ["`nestlab run`", ""],
        [
            ["1,000 fits, first call after an installation, start to end", f"{cold:.1f} s"],
            ["1,000 fits, later calls", f"{warm:.1f} s"],
            ["100 conditions x 10,000, two workers, start to end", f"{million:.1f} s, {memory:.0f} MB"],
            ["3,000,000 fits more, one worker / two", f"{alone:.1f} s / {together:.1f} s: {alone / together:.2f} x"],
        ],
    )


def plot(found: dict[str, dict[int, float]], others: dict[str, float], file: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "nestlab"
    figure, panels = plt.subplots(1, 4, figsize=(12, 3), sharey=True)
    for panel, (axis, points) in zip(panels, found.items(), strict=True):
        panel.loglog(list(points), list(points.values()), marker="o", color="#1f4e79", label="nestlab, stored")
        panel.set_xlabel(axis.replace(" (", "\n("))
        panel.set_xticks(list(points), [f"{value:,}" for value in points], minor=False, fontsize=7)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for key, label, colour in (
        ("MCPower slope_20x50", "MCPower, power only", "#c55a11"),
        ("R lmer", "lmer", "#7f7f7f"),
    ):
        if key in others:
            for panel, value in zip(panels[:2], (20, 50), strict=True):
                panel.plot([value], [others[key]], marker="s", linestyle="", color=colour, label=label)
    panels[0].set_ylabel("microseconds a replicate")
    panels[0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mcpower", help="Python of an environment with MCPower")
    parser.add_argument("--plot", help="write the figure of the growth tables here")
    parser.add_argument("--quick", action="store_true", help="the first table only, without rivals")
    parser.add_argument(
        "--inference", action="store_true", help="the inference table only, with R where it is installed"
    )
    parser.add_argument("--analyses", action="store_true", help="the table of analyses that people compare only")
    options = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in THREADS):  # libraries read these when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if options.analyses:
        analyses_table()
        return
    others = {} if options.quick else rivals(options.mcpower)
    if options.inference:
        inference_table(others)
        return
    main_table(others)
    if options.quick:
        return
    inference_table(others)
    analyses_table()
    table(["rivals, microseconds", ""], [[name, f"{value:,.0f}"] for name, value in others.items()])
    found = growth()
    print(f"\nmemory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")
    whole_runs(set(sorted(cores)[:2]))
    if options.plot:
        plot(found, others, options.plot)


if __name__ == "__main__":
    main()
