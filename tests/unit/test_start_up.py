"""What each command imports: heavy modules only where they are used, so that short commands start at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nestlab

#: What takes long to import, in CPU seconds on the machine where this was written (Python itself starts in 0.02).
HEAVY = {
    "numba": 0.6, "scipy.optimize": 0.3, "scipy.special": 0.2, "scipy.stats": 0.6, "scipy.interpolate": 0.5, "pandas": 0.5,
    "pyarrow": 0.2, "statsmodels": 0.4, "matplotlib": 0.3, "jinja2": 0.1, "joblib": 0.2, "distributed": 1.0,
}  # fmt: skip

#: Command -> the heavy modules that it may import.
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": (),
    "--version": (),
    "solve --help": (),
    "studies": (),
    "new study.toml --predictor arm --level between --effect 0.4 --icc 0.1 --cluster-size 25 --yes": (),
    "status results/trial-over-clusters": ("pyarrow",),
    "summary results/trial-over-clusters": ("pyarrow", "pandas"),
    "summary results/trial-over-clusters --estimand arm --measure power": ("pyarrow", "pandas"),
    "failures results/trial-over-clusters": ("pyarrow", "pandas"),
    "table results/trial-over-clusters": ("pyarrow", "pandas"),
    "run results/trial": ("pyarrow", "pandas"),
    # the answer's interval is computed again from what is stored
    "solve trial.toml --power 0.8 --estimand arm --over clusters --precision 0.3": (
        "pyarrow", "pandas", "scipy.special", "scipy.optimize",
    ),
    "plot results/trial-over-clusters": (
        "pyarrow", "pandas", "scipy.special", "scipy.optimize", "scipy.interpolate", "matplotlib",
    ),
}  # fmt: skip

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(str(nestlab.__file__)).parents[1])}
CODE = """
import atexit, json, sys
told = sys.argv.pop()
atexit.register(lambda: open(told, "w").write(json.dumps(sorted(sys.modules))))


from nestlab.show.cli import app
app(prog_name="nestlab")
"""


def imported(folder: Path, command: str) -> set[str]:
    """The modules that a process of the command has imported when it ends."""
    told = folder / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command.split(), str(told)], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(told.read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study, its results, and those of a search."""
    made = tmp_path_factory.mktemp("start")
    for command in (
        "new trial.toml --predictor arm --level between --effect 0.4 --icc 0.1 --cluster-size 25 --yes",
        "run trial.toml --replications 50",
        "solve trial.toml --power 0.8 --estimand arm --over clusters --precision 0.3",
    ):
        imported(made, command)
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_what_it_uses(folder: Path, command: str) -> None:
    assert sorted(HEAVY.keys() & imported(folder, command)) == sorted(COMMANDS[command])


def test_only_what_is_new_needs_the_compiler(folder: Path) -> None:
    """The same search, one design further: the guard of the list above, which an unknown name in HEAVY would leave empty."""
    found = imported(
        folder, "solve trial.toml --power 0.81 --estimand arm --over clusters --precision 0.3 --out results/other"
    )
    assert {"numba", "joblib"} <= found
    assert not {"matplotlib", "statsmodels", "jinja2"} & found
    assert {"matplotlib", "jinja2"} <= imported(folder, "report results/trial")


def test_the_package_imports_nothing_heavy() -> None:
    code = "import nestlab, sys; nestlab.StudyError, nestlab.DataError, nestlab.FormulaError; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert not HEAVY.keys() & set(done.stdout.split())
