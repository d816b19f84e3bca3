"""Folders that lack something: what is said, and by which command it is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from conftest import TWO_ARMS
from nestlab.run.files import RefusedError
from nestlab.show.cli import app
from nestlab.spec.study import StudyError, StudyFile


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, which each test has a copy of."""
    folder = tmp_path_factory.mktemp("made") / "r"
    nl.Study.from_dict({**TWO_ARMS, "replications": 100}).run(out=folder, jobs=1)
    return folder


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


def cli(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("command", ["summary", "plot", "table", "compare", "report"])
def test_a_truncated_part_is_said_beside_a_whole_summary(command: str, ran: Path) -> None:
    """summary.parquet alone looks right, and says nothing of a part that was cut since."""
    part = next(iter(sorted((ran / "replicates").glob("*.parquet"))))
    part.write_bytes(part.read_bytes()[:-200])
    done = cli(command, ran)
    assert done.exit_code == 3, done.output
    assert f"{part} was altered or truncated since written; remove it and run again" in " ".join(done.stderr.split())
    with pytest.raises(RefusedError, match="truncated"):
        nl.Results(ran).summary()


@pytest.mark.parametrize(("search", "again"), [(False, "nestlab run"), (True, "the same nestlab solve")])
def test_what_goes_on_with_a_folder(search: bool, again: str, ran: Path) -> None:
    """A search that was killed goes on by itself: `nestlab run` refuses its folder."""
    next(iter(sorted((ran / "replicates").glob("*.parquet")))).unlink()
    if search:
        path = ran / "manifest.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "solve": {"target": {"measure": "power"}, "solution": None}})
        )
    line = f"incomplete: 100 fits are missing; {again} goes on from here"
    for command in ("plot", "table", "failures", "compare", "summary", "report"):
        done = cli(command, ran)
        assert done.exit_code == 4, (command, done.output)
        assert line in done.stderr, command
    assert f"{again} goes on from there" in (ran / "report.html").read_text()
    assert f"{again if search else f'nestlab run {ran}'} goes on from here" in cli("status", ran).output


def test_names_are_taken_with_commas_or_repeated_by_every_command(ran: Path) -> None:
    for command in ("summary", "compare"):
        comma = cli(command, ran, "--csv", "--measure", "bias,empse", "--estimand", "arm, Intercept")
        repeated = ("--measure", "bias", "--measure", "empse", "--estimand", "arm", "--estimand", "Intercept")
        assert comma.exit_code == 0, comma.output
        assert comma.stdout == cli(command, ran, "--csv", *repeated).stdout
        frame = pd.read_csv(pd.io.common.StringIO(comma.stdout))
        assert (set(frame["measure"]), set(frame["estimand"])) == ({"bias", "empse"}, {"arm", "Intercept"})
    assert set(pd.read_csv(pd.io.common.StringIO(cli("summary", ran, "--csv", "--method", "reml,ml").stdout))["method"]) == {
        "reml", "ml",
    }  # fmt: skip
    comma = cli("table", ran, "--measure", "bias,empse", "--rows", "icc,truth.fixed.arm")
    assert comma.exit_code == 0, comma.output
    assert (
        comma.stdout
        == cli(
            "table", ran, "--measure", "bias", "--measure", "empse", "--rows", "icc", "--rows", "truth.fixed.arm"
        ).stdout
    )


def test_clusters_of_one_row_cost_one_line() -> None:
    """Whatever the methods, and at every level of an axis: the sizes are at fault."""
    study = {**TWO_ARMS, "design": {"clusters": 10, "cluster_size": 1}, "grid": {"clusters": [10, 20, 30]}}
    study["method"] = [{"name": "a"}, {"name": "b", "reml": False}, {"name": "c", "estimator": "change-scores"}]
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(study).conditions()
    text = "must be above 1, for a cluster's one row can't tell its effect from the residual; raise it"
    assert caught.value.problems == [f"design.cluster_size = 1: {text}"]


def test_a_misspelt_measure_of_a_rule_is_guessed() -> None:
    for given, meant in (("powr", "power"), ("coverr", "cover"), ("Bias", "bias")):
        rule = {"target_mcse": 0.01, "measure": given, "estimand": "arm"}
        with pytest.raises(StudyError, match=rf'replications\.measure = "{given}": .*; did you mean "{meant}"\?'):
            StudyFile.from_dict({**TWO_ARMS, "replications": rule})
