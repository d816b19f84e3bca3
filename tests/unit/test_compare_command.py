"""`Results.compare` and `nestlab compare`: from a run to differences between its methods, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.measure.paired import COLUMNS
from nestlab.show.cli import app
from nestlab.show.compare_command import difference_cells

STUDY: dict[str, Any] = {
    "name": "pairs",
    "seed": 3,
    "replications": 300,
    "design": {"clusters": 10, "cluster_size": [3, 8, 3, 8, 5, 6, 3, 9, 10, 4]},
    "grid": {"truth.fixed.arm": [0.0, 0.8]},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 2, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [
        {"name": "reml", "df": ["z", "satterthwaite"]},
        {"name": "ml", "reml": False, "df": "z"},
        {"name": "lrt", "reml": False, "df": "z", "compare": "y ~ 1 + (1 | school)"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "pairs"
    nl.Study.from_dict(copy.deepcopy(STUDY)).run(out=out, jobs=1)
    return out


@pytest.fixture(scope="module")
def results(folder: Path) -> nl.Results:
    return nl.Results(folder)


def one(frame: pd.DataFrame, **keys: Any) -> Any:
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1, keys
    return frame.iloc[0]


def compare(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


# -- from Python -----------------------------------------------------------------------------------------------------------


def test_columns_and_the_first_method_as_reference(results: nl.Results) -> None:
    frame = results.compare()
    assert list(frame.columns) == ["condition", "truth.fixed.arm", *COLUMNS]
    assert set(frame["reference"]) == {"reml/z"}
    assert set(frame["method"]) == {"reml/satterthwaite", "ml", "lrt"}
    assert not frame.duplicated(["condition", "method", "estimand", "measure"]).any()
    assert (frame["n"] == 300).all()
    assert (frame["missing"] == 0).all()


def test_ml_against_reml_is_far_more_certain_than_without_the_pairing(results: nl.Results) -> None:
    """ML's variance is smaller in each replicate; its bias differs by what one tenth of the MCSEs of the two can tell."""
    frame = results.compare("reml/z", "bias", "var:school:Intercept", method="ml")
    assert len(frame) == 2
    assert (frame["mcse"] < frame["unpaired_mcse"] / 2.5).all()
    assert (frame["upper"] < 0).all()
    arm = results.compare("reml/z", ["bias", "empse", "power"], "arm", method="ml")
    assert (arm["mcse"] < arm["unpaired_mcse"] / 2).all()
    assert (arm.loc[arm["measure"] != "power", "mcse"] < arm.loc[arm["measure"] != "power", "unpaired_mcse"] / 10).all()


def test_differences_are_those_of_the_replicates(results: nl.Results) -> None:
    """Bias and power of arm from the stored rows, by hand."""
    reml, ml = (results.replicates(condition=1, method=m).set_index("replicate") for m in ("reml", "ml"))
    gap = ml["estimate.arm"] - reml["estimate.arm"]
    row = one(results.compare(), condition=1, method="ml", estimand="arm", measure="bias")
    assert row["difference"] == pytest.approx(gap.mean(), rel=1e-9)
    assert row["mcse"] == pytest.approx(gap.std(ddof=1) / math.sqrt(300), rel=1e-9)
    rejects = [(f["estimate.arm"] / f["se.arm"]).abs() > 1.959964 for f in (reml, ml)]
    b, c = int((rejects[1] & ~rejects[0]).sum()), int((rejects[0] & ~rejects[1]).sum())
    row = one(results.compare(measure="power"), condition=1, method="ml", estimand="arm")
    assert (row["gained"], row["lost"]) == (b, c)
    assert row["difference"] == pytest.approx((b - c) / 300)
    assert row["mcse"] == pytest.approx(math.sqrt(b + c - (b - c) ** 2 / 300) / 300)
    assert b > 0


def test_rules_of_one_fit_share_estimates_and_differ_in_tests(results: nl.Results) -> None:
    frame = results.compare("reml/z", estimand="arm", method="reml/satterthwaite")
    shared = frame[frame["measure"].isin(["mean", "bias", "empse", "rmse", "modelse", "relprec"])]
    assert (shared[["difference", "mcse"]] == 0).all(axis=None)
    assert (frame.loc[frame["measure"] == "power", "lost"] > 0).all()


def test_a_method_s_name_stands_for_all_its_rules(results: nl.Results) -> None:
    assert set(results.compare("ml", "power", method="reml")["method"]) == {"reml/z", "reml/satterthwaite"}


def test_measures_of_a_method_as_a_whole(results: nl.Results) -> None:
    assert set(results.compare(measure=["converged", "power"], estimand="arm")["measure"]) == {"converged", "power"}
    assert "converged" not in set(results.compare(estimand="arm")["measure"])
    assert set(results.compare(measure="singular")["estimand"]) == {""}


def test_what_is_missing_is_counted(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "pairs")
    nl.Study.from_toml(copied / "study.toml", replications=400).run(out=copied, jobs=1)
    for part in (copied / "replicates").glob("c*-000000300-*.parquet"):
        if pd.read_parquet(part)["method"].iloc[0] == "ml":
            part.unlink()
    frame = nl.Results(copied).compare("reml/z", "bias", "arm", method=["ml", "lrt"])
    assert set(zip(frame["method"], frame["n"], frame["missing"], strict=True)) == {("ml", 300, 100), ("lrt", 400, 0)}
    done = compare(copied, "--measure", "bias", "--estimand", "arm")
    assert done.exit_code == 4
    assert "incomplete: 200 fits are missing" in done.stderr
    assert re.search(r"ml .* 300 +100 *$", done.stdout, re.MULTILINE)
    for part in (copied / "replicates").glob("*.parquet"):
        part.unlink()
    nothing = compare(copied)
    assert nothing.exit_code == 4
    assert nothing.stderr == "nothing that can be compared is stored yet: 2,400 fits are missing\n"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"reference": "mll"}, 'reference = "mll": is no reference that can be compared here; did you mean "ml"?'),
        (
            {"reference": "q"},
            'reference = "q": is no reference that can be compared here; use one of reml/z, reml/satterthwaite, ml, lrt',
        ),
        (
            {"reference": "reml"},
            'reference = "reml": has several rules of df, and must be one; use reml/z or reml/satterthwaite',
        ),
        ({"measure": "powr"}, 'measure = "powr": is no measure that can be compared here; did you mean "power"?'),
        ({"estimand": "amr"}, 'estimand = "amr": is no estimand that can be compared here; did you mean "arm"?'),
        ({"method": "reml/zz"}, 'method = "reml/zz": is no method that can be compared here; did you mean "reml/z"?'),
        ({"method": "reml/z"}, 'method = "reml/z": is the reference itself; name another, or another reference'),
    ],
)
def test_refusals(results: nl.Results, folder: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(nl.StudyError) as refused:
        results.compare(**asked)
    assert str(refused.value) == message
    done = compare(folder, *(f"--{key}={value}" for key, value in asked.items()))
    assert done.exit_code == 2
    assert done.stderr == f"error: {message}\n"


def test_one_method_has_nothing_to_be_compared_with(slope: dict[str, Any], tmp_path: Path) -> None:
    nl.Study.from_dict(slope).run(out=tmp_path / "o", replications=5, jobs=1)
    done = compare(tmp_path / "o")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: the results have one method, reml, and nothing to compare it with; add a [[method]] or a rule of df\n"
    )


def test_nothing_in_common_is_said(folder: Path) -> None:
    done = compare(folder, "--measure", "cover", "--estimand", "icc")
    assert done.exit_code == 2
    assert done.stderr == (
        'error: reference = "reml/z": has nothing of what was asked for in common with another method; name another '
        "reference, estimand or measure\n"
    )


# -- the command -----------------------------------------------------------------------------------------------------------


def test_the_terminal_shows_the_last_effect_and_four_measures(folder: Path) -> None:
    done = compare(folder)
    assert done.exit_code == 0, done.stderr
    text = done.stdout
    assert max(map(len, text.splitlines())) <= 80
    assert re.findall(r"^(\w+) (\w+): less that of reml/z$", text, re.MULTILINE) == [
        (m, "arm") for m in ("bias", "empse", "cover", "power")
    ]
    assert "choose by --measure" in text
    assert "choose by --estimand" in text


def test_the_terminal_shows_the_numbers_of_the_frame(folder: Path, results: nl.Results) -> None:
    done = compare(folder, "--measure", "power,cover", "--estimand", "arm", "--method", "ml")
    assert "power arm: ml less reml/z" in done.stdout
    frame = results.compare(measure=["power", "cover"], estimand="arm", method="ml")
    assert len(frame) == 4
    for row in frame.to_dict("records"):
        text, limits = difference_cells(row)
        assert re.search(rf" {re.escape(text)} +{re.escape(limits)} +300 *$", done.stdout, re.MULTILINE)


def test_a_narrow_terminal_cuts_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--measure", "power", "--estimand", "arm", "--reference", "ml")
    wide = compare(folder, *arguments).stdout
    monkeypatch.setenv("COLUMNS", "40")
    narrow = compare(folder, *arguments).stdout
    assert narrow != wide
    assert "…" not in narrow
    numbers = [re.findall(r"-?[\d.,]+", line) for line in wide.splitlines() if line.rstrip().endswith("300")]
    assert len(numbers) == 6
    assert [re.findall(r"-?[\d.,]+", line) for line in narrow.splitlines() if line.rstrip().endswith("300")] == numbers


def test_csv_and_json_hold_all_rows(folder: Path, results: nl.Results) -> None:
    frame = results.compare()
    csv = pd.read_csv(io.StringIO(compare(folder, "--csv").stdout), keep_default_na=False, na_values=[""])
    assert list(csv.columns) == list(frame.columns)
    np.testing.assert_allclose(csv["difference"].to_numpy(), frame["difference"].to_numpy(), rtol=1e-12)
    made = json.loads(compare(folder, "--json", "--reference", "ml", "--measure", "power").stdout)
    assert made["reference"] == "ml"
    assert json.loads(compare(folder, "--json", "--measure", "bias").stdout)["differences"][0]["gained"] is None
    wanted = results.compare("ml", "power")
    assert [row["difference"] for row in made["differences"]] == wanted["difference"].tolist()
    assert made["differences"][0]["value"] == wanted["value"].iloc[0]
    assert [row["gained"] for row in made["differences"]] == wanted["gained"].tolist()


def row_of(difference: float, mcse: float, **given: Any) -> dict[str, Any]:
    limits = {"lower": difference - 1.96 * mcse, "upper": difference + 1.96 * mcse}
    return {
        "difference": difference,
        "mcse": mcse,
        "unpaired_mcse": 0.1,
        "gained": pd.NA,
        "measure": "bias",
        **limits,
        **given,
    }


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (row_of(0.0123, 0.0031), ("0.012 (0.003)", "0.006, 0.018")),
        (row_of(-0.0123, 0.0012), ("-0.0123 (0.0012)", "-0.0147, -0.0099")),
        (row_of(0.0, 0.0), ("0 (0)", "")),
        (row_of(0.1, 0.0), ("0.1 (0)", "")),
        (row_of(0.0, 0.0, gained=0, measure="power", lower=-0.0038, upper=0.0038), ("0 (0)", "-0.0038, 0.0038")),
        (row_of(math.nan, math.nan), ("-", "")),
    ],
)
def test_difference_cells(row: dict[str, Any], cells: tuple[str, str]) -> None:
    assert difference_cells(row) == cells


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[2] / "results" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Differences between methods") :]
    assert [name for name in COLUMNS if f"`{name}`" not in section] == []
