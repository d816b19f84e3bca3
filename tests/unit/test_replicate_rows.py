"""Any replicate as rows: the same data as behind its stored fit, on either path."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.run.block import CompiledCondition, compile_condition
from nestlab.simulate.layout import pair

FORMULA = "y ~ 1 + x + arm + w + z + x:z + (1 + x | school)"
STUDY: dict[str, Any] = {
    "name": "rows",
    "seed": 31,
    "replications": 40,
    "design": {"clusters": 9, "cluster_size": [1, 2, 3, 3, 4, 7, 12, 12, 30]},
    "truth": {
        "formula": FORMULA,
        "fixed": {"Intercept": 1000, "x": 0.5, "arm": 0.3, "w": 0.02, "z": 1, "x:z": -0.2},
        "residual_variance": 2,
        "random": {"school": {"variance": {"Intercept": 0.7, "x": 0.3}, "correlation": {"Intercept:x": -0.4}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal", "mean": 3, "sd": 2},
        "arm": {"level": 1, "distribution": "balanced"},
        "w": {"level": 1, "distribution": "normal", "sd": 50, "redraw": False},
        "z": {"level": 2, "distribution": "normal"},
    },
}


def compiled(path: str) -> CompiledCondition:
    study = nl.Study.from_dict(STUDY)
    return compile_condition(replace(study.conditions[0], path=path), study.methods)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["moments", "rows"])
@pytest.mark.parametrize("replicate", [0, 17, 600])
def test_rows_have_the_sufficient_statistics(path: str, replicate: int) -> None:
    work = compiled(path)
    block, r = divmod(replicate, work.condition.block_size)
    draw, rows = work.draw(block), work.source.rows(replicate)
    cluster = np.repeat(np.arange(9), work.source.design.sizes)
    for j in range(9):
        D, e = rows.D[cluster == j], rows.e[cluster == j]
        scale = np.sqrt(np.outer((D**2).sum(0), (D**2).sum(0)))
        scale[scale == 0] = 1
        gram = np.array([[draw.dd[j, pair(a, b), r] for b in range(4)] for a in range(4)])
        np.testing.assert_allclose(D.T @ D / scale, gram / scale, atol=1e-12)
        np.testing.assert_allclose(D.T @ e, draw.de[j, :, r], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(e @ e, draw.ee[j, r], rtol=1e-10)
    np.testing.assert_array_equal(rows.u, draw.u[:, :, r])


@pytest.mark.parametrize("path", ["moments", "rows"])
def test_fit_of_the_rows_is_the_stored_fit(path: str) -> None:
    work = compiled(path)
    (columns,) = work.replicates(0, 40)
    for replicate in (0, 5, 39):
        fit = nl.fit(FORMULA, work.frame(replicate))
        stored = {name: values[replicate] for name, values in columns.items()}
        assert fit.neg2loglik == pytest.approx(stored["deviance"], abs=1e-8)
        assert int(fit.status) == stored["status"]
        for term, value in fit.beta.items():
            assert value == pytest.approx(stored[f"estimate.{term}"], abs=1e-8, rel=1e-8)
            assert fit.se[term] == pytest.approx(stored[f"se.{term}"], rel=1e-7)
        assert fit.sigma**2 == pytest.approx(stored["estimate.var:residual"], rel=1e-8)
        for k, name in enumerate(("Intercept", "x")):
            assert fit.varcomp["school"][k, k] == pytest.approx(stored[f"estimate.var:school:{name}"], abs=1e-8)


def test_rows_of_a_product_of_predictors(slope: dict[str, Any]) -> None:
    """The truth multiplies level-1 predictors: the rows path, and its rows again."""
    slope["truth"]["formula"] = "y ~ 1 + x + v + v:x + (1 | school)"
    slope["truth"]["fixed"] = {"Intercept": 0, "x": 1, "v": 1, "x:v": 0.5}
    slope["truth"]["random"] = {"school": {"variance": {"Intercept": 0.5}}}
    slope["predictors"]["v"] = {"level": 1, "distribution": "normal"}
    study = nl.Study.from_dict(slope)
    assert study.conditions[0].path == "rows"
    frame = study.data(0, 3, truth=True)
    work = compile_condition(study.conditions[0], study.methods)
    (columns,) = work.replicates(0, 4)
    fit = nl.fit("y ~ 1 + x + v + v:x + (1 | school)", frame)
    assert fit.neg2loglik == pytest.approx(columns["deviance"][3], abs=1e-8)
    assert fit.beta["v:x"] == pytest.approx(columns["estimate.v:x"][3], abs=1e-8)
    expected = frame.x + frame.v + 0.5 * frame.x * frame.v + frame["u:Intercept"] + frame.e
    np.testing.assert_allclose(frame.y, expected, atol=1e-12)


def test_data_names_and_truth() -> None:
    study = nl.Study.from_dict(STUDY)
    frame = study.data(0, 2)
    assert list(frame.columns) == ["school", "arm", "w", "x", "z", "y"]
    assert frame.groupby("school").size().tolist() == STUDY["design"]["cluster_size"]
    assert (frame.groupby("school")["z"].nunique() == 1).all()
    full = study.data(0, 2, truth=True)
    pd.testing.assert_frame_equal(full[frame.columns], frame)
    fixed = 1000 + 0.5 * full.x + 0.3 * full.arm + 0.02 * full.w + full.z - 0.2 * full.x * full.z
    np.testing.assert_allclose(full.y, fixed + full["u:Intercept"] + full["u:x"] * full.x + full.e, rtol=1e-13)
    pd.testing.assert_series_equal(study.data(0, 7)["w"], frame["w"])
    assert not np.allclose(study.data(0, 7)["x"], frame["x"])


@pytest.mark.parametrize(
    ("condition", "replicate", "message"), [(1, 0, "conditions 0 to 0"), (0, -1, "must be 0 or more")]
)
def test_data_refuses_what_does_not_exist(condition: int, replicate: int, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        nl.Study.from_dict(STUDY).data(condition, replicate)


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "nestlab", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_simulate_command(slope: dict[str, Any], tmp_path: Path, ending: str) -> None:
    study = nl.Study.from_dict(slope)
    (tmp_path / "slope.toml").write_text(study.text)
    study.run(out=tmp_path / "r")
    out = tmp_path / f"rows.{ending}"
    done = command(
        "simulate", "slope.toml", "--condition", 0, "--replicate", 299, "--out", out, "--truth", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    pd.testing.assert_frame_equal(frame, study.data(0, 299, truth=True), check_exact=True)
    stored = nl.Results(tmp_path / "r").replicates().set_index("replicate").loc[299]
    fit = nl.fit("y ~ 1 + x + (1 + x | school)", frame)
    assert fit.beta["x"] == pytest.approx(stored["estimate.x"], abs=1e-8)
    assert fit.varcomp["school"][0, 1] == pytest.approx(stored["estimate.cov:school:Intercept:x"], abs=1e-8)
    pd.testing.assert_frame_equal(nl.Results(tmp_path / "r").data(0, 299, truth=True), frame, check_exact=True)


def test_simulate_command_refuses(slope: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "slope.toml").write_text(nl.Study.from_dict(slope).text)
    for arguments, message in (
        (("--condition", 4, "--replicate", 0, "--out", "a.csv"), "condition = 4: the study has conditions 0 to 0"),
        (
            ("--condition", 0, "--replicate", 0, "--out", "a.xlsx"),
            "--out a.xlsx: the name must end in .csv or .parquet",
        ),
        (("--condition", 0, "--replicate", 0, "--out", "no/a.csv"), "--out no/a.csv: the folder no does not exist"),
    ):
        done = command("simulate", "slope.toml", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_simulate_command_refuses_a_number_that_means_two_conditions(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """Stored numbers follow the order of arrival, a file's positions the order of the grid."""
    nl.Study.from_dict(two_arms).run(out=tmp_path / "results" / "two-arms", replications=20)
    two_arms["grid"]["icc"] = [0.3, 0.05]
    (tmp_path / "s.toml").write_text(nl.Study.from_dict(two_arms).text)
    done = command("simulate", "s.toml", "--condition", 0, "--replicate", 0, "--out", "a.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "has the number 2 in results/two-arms; give the folder instead" in done.stderr
    done = command("simulate", "results/two-arms", "--condition", 2, "--replicate", 0, "--out", "a.csv", cwd=tmp_path)
    assert done.returncode == 0
