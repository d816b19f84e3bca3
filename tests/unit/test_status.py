"""nestlab status, failures and verify: what they say of real folders, and their exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import killing
import nestlab as nl
from conftest import TWO_ARMS
from nestlab.run import lock, state
from nestlab.run.store import Store
from nestlab.show.cli import app
from nestlab.show.progress import LineProgress


def cli(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, which each test has a copy of."""
    folder = tmp_path_factory.mktemp("made") / "r"
    nl.Study.from_dict(TWO_ARMS).run(out=folder, jobs=2)
    return folder


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


# -- status ----------------------------------------------------------------------------------------------------------------


def test_status_of_a_complete_run(ran: Path) -> None:
    done = cli("status", ran)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == [
        f"two-arms in {ran}: 4 conditions, 2 methods",
        "done      4,800 of 4,800 fits (100 %), 4 conditions complete",
    ]
    assert "failed    none of 4,800 fits" in done.stdout
    assert "now       complete" in done.stdout
    found = json.loads(cli("status", ran, "--json").stdout)
    assert found["complete"] is True
    assert found["fits"] == {"asked": 4800, "stored": 4800, "missing": 0}
    assert found["running"] is None
    assert found["seconds_left"] == 0
    replicates = nl.Results(ran).replicates()
    assert found["statuses"] == replicates["status"].astype(str).value_counts().to_dict()


def test_status_of_what_is_missing(ran: Path) -> None:
    for part in (ran / "replicates").glob("c00002-*"):
        part.unlink()
    done = cli("status", ran)
    assert done.exit_code == 4
    assert "done      3,600 of 4,800 fits (75 %), 3 conditions complete" in done.stdout
    assert "missing   1,200 fits in condition 2" in done.stdout
    assert f"now       not running; nestlab run {ran} goes on from here" in done.stdout
    assert json.loads(cli("status", ran, "--json").stdout)["missing"] == {"2": 1200}


def test_status_opens_no_part(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a part was opened")

    for name in ("_read_part", "_from_footer"):
        monkeypatch.setattr(Store, name, refuse)
    for part in (ran / "replicates").iterdir():
        part.write_bytes(b"not read")
    assert cli("status", ran).exit_code == 0


def test_status_counts_parts_that_the_manifest_does_not_list_yet(ran: Path) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    manifest["parts"] = dict(list(manifest["parts"].items())[:3])
    (ran / "manifest.json").write_text(json.dumps(manifest))
    found = json.loads(cli("status", ran, "--json").stdout)
    assert found["fits"]["stored"] == 4800
    assert found["counted"] == 1800


def test_status_says_how_long_the_rest_takes(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 clusters x 1,200 fits at 100 clusters a second: 2 min."""
    for part in (ran / "replicates").glob("c00002-*"):
        part.unlink()
    manifest = json.loads((ran / "manifest.json").read_text())
    pace = {"compiled": {"fits": 1000, "work": 10_000, "seconds": 100.0}}
    manifest["runs"] = [{**manifest["runs"][0], "pace": {"compiled": {"fits": 1, "work": 1, "seconds": 1000.0}}},
                        {**manifest["runs"][0], "pace": pace, "outcome": "interrupted"}]  # fmt: skip
    (ran / "manifest.json").write_text(json.dumps(manifest))
    done = cli("status", ran)
    assert "rest      about 2 min 0 s, at 10 fits a second by 2 workers" in done.stdout
    assert "now       not running (the last run was interrupted)" in done.stdout
    found = state.read_state(ran)
    assert found.left == pytest.approx(120)


def test_pace_is_measured(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """The seconds that the manifest tells are those that the fits took, the first task left out."""
    began = time.monotonic()
    nl.Study.from_dict({**two_arms, "replications": 40_000}).run(out=tmp_path / "r", jobs=1)
    spent = time.monotonic() - began
    run = json.loads((tmp_path / "r" / "manifest.json").read_text())["runs"][-1]
    pace = run["pace"]["compiled"]
    assert run["made"] == run["fits"] == 4 * 2 * 40_000
    assert 0 < pace["fits"] < run["made"]
    assert pace["work"] == 10 * pace["fits"]
    assert 0 < pace["seconds"] < spent


def test_status_of_nothing(tmp_path: Path) -> None:
    done = cli("status", tmp_path)
    assert done.exit_code == 3
    assert "holds no results (no manifest.json); run the study first" in done.stderr


def test_status_of_a_run_while_it_goes_on(tmp_path: Path) -> None:
    """As a process that is watched until it is killed."""
    study = tmp_path / "long.toml"
    study.write_text(killing.STUDY.format(replications=3_000_000))
    folder = tmp_path / "r"
    process = killing.start(("run", study, "--out", folder))
    try:
        deadline = time.monotonic() + 120
        while not list((folder / "replicates").glob("c*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        watched = killing.start(("status", folder, "--watch", "--interval", 0.3))
        first = watched.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    rest, _ = watched.communicate(timeout=60)
    assert first[20:].startswith("running: "), first
    last = rest.splitlines()[-1] if rest else first
    assert last[20:].startswith("not running: ")
    assert watched.returncode == 4
    done = cli("status", folder)
    assert "(the last run was killed)" in done.stdout
    stored = sum(int(p.stem.split("-")[3]) - int(p.stem.split("-")[2]) for p in (folder / "replicates").glob("c*"))
    assert f"done      {stored:,} of 12,000,000 fits" in done.stdout


def test_status_of_an_older_folder(ran: Path) -> None:
    """Manifests of older versions count no statuses, and tell neither pace nor outcome."""
    manifest = json.loads((ran / "manifest.json").read_text())
    known = ("condition", "method", "result_key", "first", "last", "sha256")
    manifest["parts"] = {file: {k: part[k] for k in known} for file, part in manifest["parts"].items()}
    manifest["runs"] = [{k: manifest["runs"][0][k] for k in ("started", "ended", "fits", "jobs")}]
    (ran / "manifest.json").write_text(json.dumps(manifest))
    done = cli("status", ran)
    assert done.exit_code == 0
    assert "not counted yet in parts that the manifest does not list, or of older versions" in done.stdout
    assert cli("failures", ran).exit_code == 0
    assert nl.Results(ran).missing() == 0


# -- failures --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A condition whose fits are all rank deficient, and methods whose intervals fail now and then."""
    folder = tmp_path_factory.mktemp("failing")
    study = {
        "name": "failing", "seed": 5, "replications": 60, "design": {"clusters": 8, "cluster_size": 4},
        "grid": {"predictors.x.share": [1e-12, 0.5]},
        "truth": {
            "formula": "y ~ 1 + x + (1 | school)", "fixed": {"Intercept": 2, "x": 0.5}, "residual_variance": 1,
            "random": {"school": {"variance": {"Intercept": 0.1}}},
        },
        "predictors": {"x": {"level": 1, "distribution": "binary", "share": 0.5}},
        "method": [{"name": "reml", "df": ["satterthwaite", "z"]}],
    }  # fmt: skip
    nl.Study.from_dict(study).run(out=folder / "a folder")
    return folder / "a folder"


def test_failures_count_what_the_replicates_hold(failing: Path) -> None:
    results = nl.Results(failing)
    frame, counts = results.replicates(), results.count_failures()
    lost = frame[~frame["status"].isin(["ok", "singular"])]
    expected = lost.groupby(["condition", "method", "status"], observed=True).size()
    fits = counts[counts["status"].isin(lost["status"].unique())].set_index(["condition", "method", "status"])
    assert fits["count"].to_dict() == expected.to_dict()
    assert len(fits) > 0
    for column in ("inference/satterthwaite", "inference/z"):
        wrong = frame[~frame[column].isin(["ok", "no_fit"])].groupby(["condition", "method", column], observed=True)
        own = counts.set_index(["condition", "method", "status"])
        for (condition, method, status), rows in wrong:
            row = own.loc[condition, method, f"{status}{column.removeprefix('inference')}"]
            assert (row["count"], row["n"]) == (len(rows), 60)
            assert row["first"] == list(rows["replicate"][:5])
    listed = results.failures()
    assert list(listed.columns) == ["condition", "method", "replicate", "status", "message"]
    assert listed["replicate"].tolist() == lost["replicate"].tolist()


def test_failures_command_shows_each_ones_rows(failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("failures", failing)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "condition 0 (predictors.x.share = 1e-12), reml"
    assert lines[1].startswith("  rank_deficient: 60 of 60 (100 %). Columns are linear combinations")
    assert lines[2].startswith("  first: 0, 1, 2, 3, 4; the rows: nestlab simulate '")
    command = shlex.split(lines[2].partition("the rows: nestlab ")[2])
    assert cli(*command).exit_code == 0
    rows = pd.read_csv(tmp_path / "condition-0-replicate-0.csv")
    assert len(rows) == 32
    table = pd.read_csv(__import__("io").StringIO(cli("failures", failing, "--csv").stdout))
    assert table.loc[0, ["condition", "status", "count", "n", "first"]].tolist() == [
        0,
        "rank_deficient",
        60,
        60,
        "0 1 2 3 4",
    ]
    assert json.loads(cli("failures", failing, "--json").stdout)[0]["first"] == [0, 1, 2, 3, 4]
    assert "rank_deficient" not in cli("failures", failing, "--condition", 1).stdout


def test_failures_refuses_what_there_is_not(failing: Path) -> None:
    done = cli("failures", failing, "--condition", 9)
    assert done.exit_code == 2
    assert done.stderr == "error: --condition 9: is no condition of the study; it has 0, 1\n"
    done = cli("failures", failing, "--method", "ml")
    assert (done.exit_code, done.stderr) == (2, "error: --method ml: is no method of the study; it has reml\n")


def test_failures_of_none(ran: Path) -> None:
    assert cli("failures", ran).stdout == "nothing failed: every fit has a certified optimum and all of its inference\n"


# -- verify ----------------------------------------------------------------------------------------------------------------


def doctor(folder: Path, column: str, change: Any) -> str:
    """Change a column of a part, and give it the right checksum; the part's name."""
    part = sorted((folder / "replicates").iterdir())[2]
    table = pq.read_table(part)
    values = change(table[column].to_numpy().copy())
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, [values]), part)
    manifest = json.loads((folder / "manifest.json").read_text())
    sums = {"sha256": hashlib.sha256(part.read_bytes()).hexdigest(), "size": part.stat().st_size,
            "changed": part.stat().st_mtime_ns}  # fmt: skip
    manifest["parts"][part.name] |= sums
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return part.name


def last_bit(values: np.ndarray) -> np.ndarray:
    values[450] = np.nextafter(values[450], np.inf)
    return values


def test_verify_right_results(ran: Path) -> None:
    done = cli("verify", ran, "--blocks", 3, "--seed", 1)
    assert done.exit_code == 0
    assert "3 of " in done.stdout
    assert "compared bit for bit: all equal" in done.stdout
    again = json.loads(cli("verify", ran, "--blocks", 1000, "--json").stdout)
    assert again["different"] == 0
    assert again["blocks"] == again["population"]
    assert again["replicates"] == 4800


def test_verify_tells_a_doctored_part_with_the_right_checksum(ran: Path) -> None:
    name = doctor(ran, "estimate.arm", last_bit)
    assert len(nl.Results(ran).replicates()) == 4800, "its checksum is right"
    done = cli("verify", ran, "--blocks", 1000)
    assert done.exit_code == 3
    assert ": 1 differ" in done.stderr
    assert (
        f"condition 1, ml, replicate 450 ({name}): estimate.arm is " in done.stderr
        or f"replicate 450 ({name})" in done.stderr
    )
    (found,) = json.loads(cli("verify", ran, "--blocks", 1000, "--json").stdout)["differs"]
    assert (found["column"], found["replicate"], found["file"]) == ("estimate.arm", 450, name)
    assert float(found["stored"]) == np.nextafter(float(found["recomputed"]), np.inf)


def test_verify_on_another_machine_allows_rounding(ran: Path) -> None:
    doctor(ran, "estimate.arm", last_bit)
    manifest = json.loads((ran / "manifest.json").read_text())
    manifest["runs"][0]["machine"]["processor"] = "another"
    (ran / "manifest.json").write_text(json.dumps(manifest))
    done = cli("verify", ran, "--blocks", 1000)
    assert done.exit_code == 0, done.stderr
    assert "compared to 1e-08: all equal" in done.stdout
    assert "not bit for bit, because made elsewhere: processor another, now " in done.stdout
    doctor(ran, "se.arm", lambda values: values * (1 + 1e-7))
    assert cli("verify", ran, "--blocks", 1000).exit_code == 3


def test_verify_refuses_damage(ran: Path) -> None:
    part = sorted((ran / "replicates").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-1])
    done = cli("verify", ran, "--blocks", 1000)
    assert done.exit_code == 3
    assert f"{part.name} was altered or truncated" in done.stderr


# -- provenance ------------------------------------------------------------------------------------------------------------


def test_manifest_says_what_ran_when_where_with_what(ran: Path, two_arms: dict[str, Any]) -> None:
    nl.Study.from_dict({**two_arms, "replications": 700}).run(out=ran, jobs=2)
    manifest = json.loads((ran / "manifest.json").read_text())
    assert {
        "name",
        "seed",
        "replications",
        "mcse",
        "methods",
        "draw_version",
        "numerics_version",
        "software",
        "machine",
    } <= (manifest.keys())
    first, second = manifest["runs"]
    owner = lock.Owner.this_process()
    for run, fits in ((first, 4800), (second, 800)):
        assert (run["host"], run["user"], run["pid"]) == (owner.host, owner.user, owner.pid)
        assert (run["fits"], run["made"], run["jobs"], run["outcome"]) == (fits, fits, 2, "complete")
        assert run["started"] < run["ended"]
        assert {"python", "numpy", "numba", "pyarrow"} <= run["software"].keys()
        assert {"host", "system", "processor", "cores"} <= run["machine"].keys()
    entry = next(iter(manifest["parts"].values()))
    assert sum(entry["statuses"].values()) == entry["last"] - entry["first"]
    text = (Path(__file__).parents[2] / "results" / "README.md").read_text()
    documented = (
        set(manifest) | set(first) | set(entry) | {"examples", "inference", "failed", "stopped", "ended_early", "solve"}
    )
    assert [name for name in sorted(documented) if f"`{name}`" not in text] == []


# -- progress and exit codes -----------------------------------------------------------------------------------------------


def test_log_lines_say_time_condition_and_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nestlab.show import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = LineProgress()
    lines.start(100_000, 50)
    for step in range(1000):
        now[0] = 10.0 * step
        lines.advance(100)
        if step % 20 == 19:
            lines.finished(step // 20)
    lines.skip(0)
    lines.stop()
    said = capsys.readouterr().err.splitlines()
    assert all(pd.to_datetime(line[:19]) is not None for line in said)
    assert said[0][20:] == "100,000 fits in 50 conditions"
    assert any(
        line.endswith("10 fits/s, 2 h 2 min left") or "conditions finished, the last was" in line for line in said
    )
    assert len(said) < 100, "fewer and fewer"
    done = [float(line.split()[2].replace(",", "")) for line in said[1:]]
    gaps = np.diff(done)
    assert gaps[-1] > 10 * gaps[0], "a line a twelfth of the time gone by"
    assert (gaps[1:] >= gaps[:-1] - 100).all()


def test_exit_codes(ran: Path, tmp_path: Path) -> None:
    """0 done, 2 bad input, 3 refused, 4 incomplete, 1 anything else; 130 interrupted: test_run_invariance, test_run_faults."""
    assert cli("run", ran).exit_code == 0
    (tmp_path / "bad.toml").write_text("name = 3")
    assert cli("run", tmp_path / "bad.toml").exit_code == 2
    assert cli("run", tmp_path / "none.toml").exit_code == 2
    assert cli("run", ran / "study.toml", "--out", ran, "--seed", 12).exit_code == 3
    (tmp_path / "r2").mkdir()
    (tmp_path / "r2" / "replicates").write_text("")
    done = cli("run", ran / "study.toml", "--out", tmp_path / "r2", "--replications", 10)
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: {tmp_path / 'r2' / 'replicates'} cannot be written (File exists); what was finished is kept: check the folder "
        "and its permissions, then give the same command again\n"
    )
    sorted((ran / "replicates").iterdir())[0].unlink()
    for command in ("status", "summary", "failures", "table"):
        assert cli(command, ran).exit_code == 4, command


def test_run_goes_on_with_a_folder(ran: Path, tmp_path: Path) -> None:
    sorted((ran / "replicates").iterdir())[0].unlink()
    done = cli("run", ran)
    assert done.exit_code == 0
    assert "600 fits in" in done.stdout
    assert f"written to {ran}:" in done.stdout
    done = cli("run", ran, "--replications", 650)
    assert "400 fits in" in done.stdout
    assert cli("run", tmp_path).exit_code == 3
    (ran / "study.toml").unlink()
    assert cli("run", ran).exit_code == 3


def test_run_does_not_go_on_with_a_search(ran: Path) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    (ran / "manifest.json").write_text(json.dumps({**manifest, "solve": {"over": ["clusters"]}}))
    done = cli("run", ran)
    assert (done.exit_code, len(done.stderr.splitlines())) == (3, 1)
    assert "holds the designs of a search; go on with it by the same nestlab solve" in done.stderr


def test_help_is_instant_and_names_the_commands() -> None:
    done = subprocess.run(killing.command("--help"), capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("status", "failures", "verify"))
