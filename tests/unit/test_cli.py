"""The command line, as a process: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import nestlab as nl

STUDY = """
name = "small"
seed = 3
replications = 40

[design]
clusters = 10
cluster_size = 5

[grid]
icc = [0.1, 0.3]

[truth]
formula = "y ~ 1 + arm + (1 | school)"
fixed = { Intercept = 2, arm = 0.5 }
residual_variance = 1

[truth.random.school]
variance = { Intercept = 0.2 }

[predictors.arm]
level = 2
distribution = "balanced"
"""


def nestlab(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "nestlab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


def test_cli_version() -> None:
    assert nestlab("--version").stdout == f"nestlab {nl.__version__}\n"


def test_cli_help_imports_nothing_heavy() -> None:
    heavy = ["numpy", "pandas", "numba", "pyarrow", "pydantic", "joblib", "scipy", "rich.console"]
    code = (
        "import sys, nestlab.show.cli as c\n"
        "try: c.app(['--help'])\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "run" in done.stdout


def test_cli_run_writes_and_says_where(study: Path, tmp_path: Path) -> None:
    done = nestlab("run", study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "small: 40 replications a condition, value (MCSE)" in done.stdout
    assert "80 fits in" in done.stdout
    assert "written to results/small: summary.parquet, conditions.parquet, replicates/" in done.stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 80 fits in 2 conditions", done.stderr.splitlines()[0])
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    again = nestlab("run", study, cwd=tmp_path)
    assert "0 fits in" in again.stdout
    assert "(80 were stored already)" in again.stdout


def test_cli_run_options_replace_the_file(study: Path, tmp_path: Path) -> None:
    done = nestlab("run", study, "--out", tmp_path / "o", "--replications", "25", "--seed", "4", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    stored = nl.Study.from_toml(tmp_path / "o" / "study.toml").file
    assert (stored.replications, stored.seed) == (25, 4)
    assert len(nl.Results(tmp_path / "o").replicates()) == 50


def test_cli_bad_study_is_exit_2_and_writes_nothing(study: Path, tmp_path: Path) -> None:
    study.write_text(STUDY.replace("clusters = 10", "clusters = 1").replace("seed = 3", "sead = 3"))
    done = nestlab("run", study, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any("design.clusters = 1" in line for line in lines)
    assert any("sead" in line and "seed" in line for line in lines)
    assert not (tmp_path / "results").exists()


def test_cli_missing_study_is_exit_2(tmp_path: Path) -> None:
    done = nestlab("run", tmp_path / "none.toml")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "none.toml" in done.stderr


def test_cli_changed_study_is_exit_3(study: Path, tmp_path: Path) -> None:
    nestlab("run", study, "--out", tmp_path / "o")
    study.write_text(STUDY.replace("residual_variance = 1", "residual_variance = 2"))
    done = nestlab("run", study, "--out", tmp_path / "o")
    assert done.returncode == 3
    assert "truth.residual_variance: stored 1.0, now 2.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_cli_a_file_for_a_folder_is_exit_2(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = nestlab("run", study, "--out", tmp_path / "file" / "o")
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr


def test_cli_summary(study: Path, tmp_path: Path) -> None:
    nestlab("run", study, "--out", tmp_path / "o")
    text = nestlab("summary", tmp_path / "o")
    assert text.returncode == 0, text.stderr
    assert "estimands: Intercept, arm, var:school:Intercept, var:residual" in text.stdout.replace("\n", " ")
    rows = nestlab("summary", tmp_path / "o", "--estimand", "arm", "--measure", "power")
    assert "estimand arm, measure power" in rows.stdout
    csv = nestlab("summary", tmp_path / "o", "--estimand", "arm", "--csv")
    frame = pd.read_csv(pd.io.common.StringIO(csv.stdout))
    assert set(frame["estimand"]) == {"arm"}
    assert {"value", "mcse", "n", "icc", "condition", "subset"} <= set(frame.columns)


def test_cli_summary_of_nothing_is_exit_3(tmp_path: Path) -> None:
    done = nestlab("summary", tmp_path)
    assert done.returncode == 3
    assert "holds no results" in done.stderr


def test_cli_a_study_s_name_for_its_folder_is_met_with_the_folder(study: Path, tmp_path: Path) -> None:
    nestlab("run", study, "--out", tmp_path / "results" / "two", "--replications", "20")
    done = nestlab("summary", "two", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == 'error: two holds no results (no manifest.json); did you mean "results/two"?\n'


def test_cli_help_has_a_whole_line_for_each_command() -> None:
    assert "...\n" not in nestlab("--help").stdout.partition("Commands:")[2]


def test_cli_summary_names_the_known_estimands(study: Path, tmp_path: Path) -> None:
    nestlab("run", study, "--out", tmp_path / "o")
    done = nestlab("summary", tmp_path / "o", "--estimand", "amr")
    assert done.returncode == 2
    assert '--estimand "amr": the results have Intercept, arm' in done.stderr
    assert '; did you mean "arm"?' in done.stderr
    assert "arm" in done.stderr


def test_cli_summary_of_an_incomplete_run_is_exit_4(study: Path, tmp_path: Path) -> None:
    nestlab("run", study, "--out", tmp_path / "o")
    next((tmp_path / "o" / "replicates").glob("c00001-*")).unlink()
    done = nestlab("summary", tmp_path / "o")
    assert done.returncode == 4
    assert "incomplete: 40 fits are missing" in done.stderr


def test_cli_fit(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden"
    text = nestlab("fit", golden / "04_rs.csv", "y ~ x + (1 + x | g)")
    assert text.returncode == 0, text.stderr
    assert "Linear mixed model fit by REML. t-tests use Satterthwaite's method" in text.stdout
    plain = nestlab("fit", golden / "04_rs.csv", "y ~ x + (1 + x | g)", "--df", "z", "--test", "x = 0, Intercept = 2")
    assert "Linear mixed model fit by REML ['lmerMod']" in plain.stdout
    assert plain.stdout.splitlines()[-1].startswith("x = 0, Intercept = 2: F(2, Inf) = ")
    done = nestlab("fit", golden / "04_rs.csv", "y ~ x + (1 + x | g)", "--ml", "--json")
    reference = json.loads((golden / "04_rs.json").read_text())
    fit = json.loads(done.stdout)
    assert fit["ML"]["neg2loglik"] == pytest.approx(reference["ML"]["neg2loglik"], abs=1e-6)
    bad = nestlab("fit", golden / "04_rs.csv", "y ~ q + (1 + x | g)")
    assert bad.returncode == 2
    assert len(bad.stderr.splitlines()) == 1
