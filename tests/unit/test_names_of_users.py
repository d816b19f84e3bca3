"""Names of users that begin, or read, like those of variances: every command takes them for what they are."""

from __future__ import annotations

import copy
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.run.columns import every_column
from nestlab.show.cli import app
from nestlab.show.plots import applicable
from nestlab.show.plots.choose import Asked, select
from nestlab.show.report.ademp import ademp
from nestlab.show.report.material import Material, ReportTable
from nestlab.spec.estimand import Column, Estimand, find_estimand, listed
from nestlab.spec.estimands import study_estimands
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Method
from nestlab.spec.problems import StudyError
from nestlab.spec.study import StudyFile

PREDICTORS = ("iccx", "variance", "sdx", "varx", "corx", "covid")
#: Each is a name that a reader of prefixes takes for a variance, or for what derives from one.
CONTRASTS = ("icc diff", "sd", "var", "cov", "cor", "var of x", "sd.residual", "icc-2")

STUDY: dict[str, Any] = {
    "name": "names",
    "seed": 5,
    "replications": 40,
    "design": {"clusters": 12, "cluster_size": 6},
    "grid": {"truth.fixed.iccx": [0.2, 0.6]},
    "truth": {
        "formula": f"y ~ {' + '.join(PREDICTORS[1:])} + iccx + (1 + iccx | cov)",
        "fixed": {"Intercept": 5, "iccx": 0.2, **dict.fromkeys(PREDICTORS[1:], 0.3)},
        "residual_variance": 1,
        "random": {"cov": {"variance": {"Intercept": 0.4, "iccx": 0.2}}},
    },
    "predictors": {name: {"level": 1, "distribution": "normal"} for name in PREDICTORS},
    "method": [
        {"name": "sd", "df": "z", "variance_intervals": "wald"},
        {"name": "icc", "reml": False, "df": "z", "variance_intervals": "wald"},
        {"name": "var", "reml": False, "df": "z", "compare": f"y ~ {' + '.join(PREDICTORS[2:])} + (1 + iccx | cov)"},
    ],
    "contrast": [{"name": name, "weights": {"iccx": 1 + k, "sdx": -1}} for k, name in enumerate(CONTRASTS)],
}
TESTED = "variance, iccx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "names"
    nl.Study.from_dict(copy.deepcopy(STUDY)).run(out=out, jobs=1)
    return out


@pytest.fixture(scope="module")
def results(folder: Path) -> nl.Results:
    return nl.Results(folder)


def done(*words: str | Path) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    return found.output


# -- the noun --------------------------------------------------------------------------------------------------------------


def test_every_name_is_listed_by_its_kind(results: nl.Results) -> None:
    known = results.estimands
    kinds = {name: each.kind for name, each in known.items()}
    assert {name for name, kind in kinds.items() if kind == "fixed"} == {"Intercept", *PREDICTORS}
    assert {name for name, kind in kinds.items() if kind == "contrast"} == set(CONTRASTS)
    assert [name for name, kind in kinds.items() if kind == "test"] == [TESTED]
    assert known["cov:cov:Intercept:iccx"] == Estimand("cov", "cov", ("Intercept", "iccx"))
    assert known["cor:cov:Intercept:iccx"].derived
    assert set(results.summary()["estimand"]) - {""} == set(known)


def test_stored_formulas_list_what_the_study_does(results: nl.Results, folder: Path) -> None:
    stored = [row.estimands(results.study.methods()) for row in results._active()]
    assert len(stored) == 2
    assert all(list(each.items()) == list(results.estimands.items()) for each in stored)


@pytest.mark.parametrize("text", ["icc", "var", "var:residual", "iccx:x", "x:iccx", "var:var:x", "var:var:iccx:x"])
def test_only_what_is_listed_is_found(text: str) -> None:
    known = listed([parse_formula("y ~ iccx*x + (1 + x + iccx:x | var)")])
    found = find_estimand(known, text)
    assert (found is None) == (text == "var")
    if found is not None:
        assert sorted(found.split(":")) == sorted(text.split(":"))


# -- columns and measures --------------------------------------------------------------------------------------------------


def test_columns_of_names_that_look_derived_are_stored(results: nl.Results) -> None:
    rows = results.replicates(0, "sd")
    for k, name in enumerate(CONTRASTS):
        expected = (1 + k) * rows["estimate.iccx"] - rows["estimate.sdx"]
        np.testing.assert_allclose(rows[f"estimate.{name}"], expected, rtol=1e-9, atol=1e-12)
        assert (rows[f"se.{name}"] > 0).all()
    correlation = rows["estimate.cov:cov:Intercept:iccx"] / np.sqrt(
        rows["estimate.var:cov:Intercept"] * rows["estimate.var:cov:iccx"]
    )
    shown = rows["estimate.cor:cov:Intercept:iccx"]
    np.testing.assert_allclose(shown[shown.notna()], np.clip(correlation[shown.notna()], -1, 1), rtol=1e-9)
    total = rows["estimate.var:cov:Intercept"] + rows["estimate.var:residual"]
    np.testing.assert_allclose(rows["estimate.icc"], rows["estimate.var:cov:Intercept"] / total, rtol=1e-12)
    assert np.isfinite(rows["lower.cor:cov:Intercept:iccx"]).any(), (
        'a group called cov: "cov:cov:..." is of "cor:cov:..."'
    )


def test_measures_of_all_names(results: nl.Results) -> None:
    summary = results.summary().query("subset == 'all' and method == 'sd' and condition == 0").set_index("estimand")
    truth = {name: (1 + k) * 0.2 - 0.3 for k, name in enumerate(CONTRASTS)} | {"iccx": 0.2, "sdx": 0.3}
    rows = results.replicates(0, "sd")
    for name, value in truth.items():
        mine = summary.loc[name].set_index("measure")["value"]
        assert {"power", "cover", "bias", "modelse"} <= set(mine.index)
        assert mine["bias"] == pytest.approx(rows[f"estimate.{name}"].mean() - value)


@pytest.mark.parametrize("name", ["sd", "icc diff", "var"])
def test_truths_of_each_replicate(tmp_path: Path, name: str) -> None:
    """A contrast that looks derived has its truth stored, so that errors are about it and not about the mean of the prior."""
    study = copy.deepcopy(STUDY) | {"grid": {}, "contrast": [{"name": name, "weights": {"iccx": 2}}]}
    study["method"] = [{"name": "m", "df": "z"}]
    study["truth"]["fixed"]["iccx"] = {"distribution": "normal", "mean": 0.5, "sd": 2}
    nl.Study.from_dict(study).run(out=tmp_path / "r", jobs=1)
    results = nl.Results(tmp_path / "r")
    rows = results.replicates(0)
    np.testing.assert_allclose(rows[f"true.{name}"], 2 * rows["prior.truth.fixed.iccx"], rtol=1e-12)
    summary = results.summary().query("subset == 'all' and estimand == @name").set_index("measure")["value"]
    assert summary["rmse"] == pytest.approx(np.sqrt(np.mean((rows[f"estimate.{name}"] - rows[f"true.{name}"]) ** 2)))
    report = done("report", tmp_path / "r", "--out", tmp_path / "r.html")
    assert report
    assert "drawn from normal(0.5, 2)" in (tmp_path / "r.html").read_text()


def test_sums_have_the_measures_of_replicates(tmp_path: Path, results: nl.Results) -> None:
    nl.Study.from_dict(copy.deepcopy(STUDY) | {"keep": "summary"}).run(out=tmp_path / "r", jobs=1)
    keys = ["condition", "method", "estimand", "measure", "subset"]
    sums = nl.Results(tmp_path / "r").summary().set_index(keys)["value"]
    whole = results.summary().set_index(keys)["value"].reindex(sums.index)
    np.testing.assert_allclose(sums, whole, rtol=1e-8, atol=1e-10)
    assert {"sd", "icc diff", "iccx"} <= set(sums.index.get_level_values("estimand"))


# -- commands --------------------------------------------------------------------------------------------------------------


def test_summary_is_of_the_last_effect(folder: Path) -> None:
    assert "power icc-2" in " ".join(done("summary", folder).split())
    for name in ("sd", "iccx", "icc diff"):
        assert "value (MCSE)" in done("summary", folder, "--estimand", name, "--measure", "power")


def test_compare_is_of_the_last_effect(folder: Path) -> None:
    shown = done("compare", folder)
    assert re.search(r"^bias icc-2: less that of sd", shown, re.MULTILINE)


def test_compare_shows_iccx_and_not_the_intercept(tmp_path: Path) -> None:
    study = copy.deepcopy(STUDY) | {"contrast": [], "grid": {}}
    study["truth"] |= {"formula": "y ~ iccx + (1 | g)", "fixed": {"Intercept": 0, "iccx": 0.2}}
    study["truth"]["random"] = {"g": {"variance": {"Intercept": 0.2}}}
    study["predictors"] = {"iccx": {"level": 1, "distribution": "normal"}}
    study["method"] = [{"name": "a"}, {"name": "b", "reml": False}]
    nl.Study.from_dict(study).run(out=tmp_path / "r", jobs=1)
    shown = done("compare", tmp_path / "r")
    assert re.findall(r"^(\w+ \w+): b less a", shown, re.MULTILINE) == [
        f"{m} iccx" for m in ("bias", "empse", "cover", "power")
    ]


@pytest.mark.parametrize("name", ["iccx", "icc diff"])
def test_plots_of_every_kind(results: nl.Results, folder: Path, tmp_path: Path, name: str) -> None:
    kinds = applicable(results)
    assert len(kinds) > 5
    for kind in kinds:
        own = [] if kind == "convergence" else ["--estimand", name]  # that one is of methods as a whole
        done("plot", folder, "--kind", kind, *own, "--out", tmp_path / f"{kind}.svg")
    assert select(results, Asked(estimand=name)).estimand == name


def test_plots_choose_an_effect_that_is_tested_by_itself(results: nl.Results) -> None:
    assert select(results, Asked()).estimand == CONTRASTS[-1]
    assert select(results, Asked(estimand=TESTED)).estimand == TESTED
    assert select(results, Asked(measure="bias", method="var")).estimand == CONTRASTS[-1]


def test_table(folder: Path) -> None:
    for name in ("iccx", "sd", "icc diff"):
        assert name in done("table", folder, "--measure", "power", "--estimand", name)


def test_report_says_what_each_is(results: nl.Results, folder: Path, tmp_path: Path) -> None:
    material = Material.read(results)
    tables = [b for section in ademp(material) for b in section.blocks if isinstance(b, ReportTable)]
    meaning = {row[0]: row[1] for row in next(t for t in tables if t.caption.startswith("Estimands")).rows}
    assert {meaning[name] for name in PREDICTORS} == {"fixed effect"}
    assert all(meaning[name].startswith("contrast ") for name in CONTRASTS)
    assert meaning[TESTED] == "joint test of all of these"
    assert meaning["var:cov:iccx"] == "variance of random effects: iccx by cov"
    assert meaning["cor:cov:Intercept:iccx"] == "correlation of random effects: Intercept and iccx by cov; derived"
    done("report", folder, "--out", tmp_path / "names.html")
    html = (tmp_path / "names.html").read_text()
    effects = len(PREDICTORS) + 1 + len(CONTRASTS)
    assert f"of {2 * effects} rates of coverage (estimands x conditions)" in html, "none of them counts as a variance"


@pytest.mark.parametrize("name", ["iccx", "sd", "icc diff"])
def test_solve(tmp_path: Path, name: str) -> None:
    study = copy.deepcopy(STUDY) | {"grid": {}}
    study["method"] = [{"name": "sd", "df": "z"}]
    study["truth"]["fixed"]["iccx"] = 0.9
    path = tmp_path / "s.toml"
    path.write_text(StudyFile.from_dict(study).to_toml())
    found = done("solve", path, "--power", "0.8", "--estimand", name, "--over", "clusters", "--precision", "0.2", "--json",
                 "--out", tmp_path / "r", "--jobs", "1")  # fmt: skip
    assert json.loads(found)["estimand"] == name


@pytest.mark.parametrize("name", ["iccx", "sd", "icc diff", "var:cov:iccx"])
def test_stopping(tmp_path: Path, name: str) -> None:
    rule = {"measure": "bias", "estimand": name, "target_mcse": 0.2, "min": 100, "max": 2000}
    study = copy.deepcopy(STUDY) | {"grid": {}, "replications": rule}
    nl.Study.from_dict(study).run(out=tmp_path / "r", jobs=1)
    assert nl.Results(tmp_path / "r").stopping()["met"].all()


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Intercept", "icc", "iccx", "sdx"])
def test_a_contrast_may_not_have_an_estimand_s_name(name: str) -> None:
    study = copy.deepcopy(STUDY) | {"contrast": [{"name": name, "weights": {"iccx": 1}}]}
    with pytest.raises(StudyError) as error:
        nl.Study.from_dict(study)
    text = f'contrast.{name}.name = "{name}": must not be the name of a fixed effect or of another estimand; rename it'
    assert str(error.value) == text


@pytest.mark.parametrize("name", ["var:residual", "var:cov:Intercept", "sd: a", "variance, iccx", "iccx/z"])
def test_a_contrast_may_not_hold_what_estimands_are_written_with(name: str) -> None:
    study = copy.deepcopy(STUDY) | {"contrast": [{"name": name, "weights": {"iccx": 1}}]}
    with pytest.raises(StudyError, match=r"letters, digits, spaces, - _ \. \(at most 60, .*; rename the contrast"):
        nl.Study.from_dict(study)


@pytest.mark.parametrize("name", ["icc", "var", "sd", "cov", "cor"])
def test_a_predictor_may_not_be_called_like_a_kind(name: str) -> None:
    study = copy.deepcopy(STUDY) | {"contrast": []}
    text = json.dumps(study).replace("covid", name)
    with pytest.raises(StudyError, match=rf"predictors\.{name} must not be named like one of .*; rename it"):
        nl.Study.from_dict(json.loads(text))


def test_stored_columns_are_read_as_they_are_written() -> None:
    """With predictors that are called like rules, and several rules."""
    formula = parse_formula("y ~ z + residual + p + (1 + z | true)")
    rules = ("z", "residual", "kenward-roger")
    method = Method("m", formula, df=rules, variance_intervals="wald", intervals="profile")
    names = every_column(study_estimands(formula, [method]), [method])
    read = {name: Column.read(name) for name in names}
    assert all(column is not None and column.name == name for name, column in read.items())
    assert {column.rule for column in Column.of(names, "df").values()} == set(rules)
    assert {column.estimand for column in Column.of(names, "df").values()} == set(formula.fixed)
    assert {column.rule for column in Column.of(names, "se").values()} == {"", "kenward-roger"}
    assert [name for name in names if name not in Column.of(names, "estimate", "se", "df", "lower", "upper")] == [
        f"inference/{rule}" for rule in rules
    ]


def test_no_code_reads_a_kind_from_the_beginning_of_a_name() -> None:
    """Estimands and stored columns are looked up; only `spec/estimand.py` knows how they are written."""
    import nestlab

    root = Path(str(nestlab.__file__)).parent
    kinds = "|".join(("var", "sd", "cov", "cor", "icc"))
    quantities = "|".join(("estimate", "se", "df", "p", "lower", "upper", "true", "stated", "inference"))
    forbidden = (
        rf'["\']({quantities})\.["\'{{]',
        r'f["\']\{(kind|end|head|quantity)\}\.',
        rf'(startswith|removeprefix|partition|split)\(\(?["\']({quantities})["\'./]',
        r'["\']inference[/{]',
        rf'startswith\(\(?["\']({kinds})[:"\']',
        rf'removeprefix\(["\']({kinds}):',
        r'split\(":"\)\[0\]',
        rf'["\']({kinds}):["\']',
    )
    for file, pattern in itertools.product(sorted(root.rglob("*.py")), forbidden):
        if file.name != "estimand.py":
            assert not re.search(pattern, file.read_text()), (file.name, pattern)
