"""alpha at the top of a study: the level of all methods, and said wherever a test is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.plots.choose import Asked, select
from nestlab.show.plots.words import caption_of
from nestlab.show.report import findings
from nestlab.show.report.material import Material
from nestlab.spec.identity import data_key, result_key
from nestlab.spec.study import StudyFile

TABLES = {
    "name": "levels", "seed": 5, "replications": 200, "design": {"clusters": 8, "cluster_size": 4},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0.8}, "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
}  # fmt: skip
TWO = [{"name": "reml"}, {"name": "strict", "alpha": 0.001}]


def levels(**more: object) -> list[float]:
    return [method.alpha for method in StudyFile.from_dict({**TABLES, **more}).methods()]


def test_a_methods_own_level_comes_first():
    assert levels() == [0.05]
    assert levels(alpha=0.01) == [0.01]
    assert levels(alpha=0.01, method=TWO) == [0.01, 0.001]
    assert levels(method=TWO) == [0.05, 0.001]


@pytest.mark.parametrize("alpha", [0, 1, -0.1, "5 %", True])
def test_what_is_no_level_is_refused(alpha):
    with pytest.raises(
        nl.StudyError, match=r"^alpha = .*: must be a number between 0 and 1, neither included; write 0.01, say"
    ):
        nl.Study.from_dict({**TABLES, "alpha": alpha})


def test_a_misspelt_level_is_guessed():
    with pytest.raises(nl.StudyError, match=r'alhpa = 0.01: is no key of a study file; did you mean "alpha"'):
        nl.Study.from_dict({**TABLES, "alhpa": 0.01})


def test_a_level_that_no_method_takes_is_refused(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(nl.Study.from_dict({**TABLES, "method": TWO[1:]}).text)
    said = "alpha = 0.01: is for methods without an alpha of their own, and all have one"
    with pytest.raises(nl.StudyError, match=said):
        nl.Study.from_toml(path, alpha=0.01)


def test_only_stored_interval_ends_depend_on_the_level():
    def keys(**more):
        study = StudyFile.from_dict({**TABLES, **more})
        return [result_key(data_key(study.conditions()[0]), method) for method in study.methods()]

    profile = [{"name": "profile", "variance_intervals": "profile"}]
    assert keys(alpha=0.01) == keys()
    assert keys(alpha=0.01, method=profile) != keys(method=profile)
    assert keys(alpha=0.01, method=profile) == keys(method=[{**profile[0], "alpha": 0.01}])


def test_measures_are_those_of_methods_that_name_the_level(tmp_path):
    top = nl.Study.from_dict({**TABLES, "alpha": 0.2}).run(out=tmp_path / "top", jobs=1)
    own = nl.Study.from_dict({**TABLES, "method": [{"name": "reml", "alpha": 0.2}]}).run(out=tmp_path / "own", jobs=1)
    default = nl.Study.from_dict(TABLES).run(out=tmp_path / "default", jobs=1)
    assert top.summary().equals(own.summary())
    power = [
        r.summary().query("measure == 'power' and estimand == 'arm' and subset == 'all'")["value"].iloc[0]
        for r in (default, top)
    ]
    assert power[0] < power[1]
    p = 2 * _tail(default.replicates())
    assert power == [np.mean(p <= 0.05), np.mean(p <= 0.2)]


def _tail(frame):
    from scipy import stats

    return stats.t.sf(np.abs(frame["estimate.arm"] / frame["se.arm"]), frame["df.arm"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("levels")
    study = path / "levels.toml"
    study.write_text(nl.Study.from_dict({**TABLES, "method": TWO}).text)
    made = CliRunner().invoke(app, ["run", str(study), "--alpha", "0.1", "--out", str(path / "out"), "--jobs", "1"])
    assert made.exit_code == 0, made.output
    assert "tests at level 0.1 (reml), 0.001 (strict); intervals of 90 % (reml), 99.9 % (strict)" in " ".join(
        made.output.split()
    )
    return path / "out"


def test_run_keeps_the_level_that_it_was_given(folder):
    assert re.search(r"^alpha = 0\.1$", (folder / "study.toml").read_text(), re.MULTILINE)
    assert nl.Results(folder).alphas == {"reml": 0.1, "strict": 0.001}


def said(*words: str) -> str:
    made = CliRunner().invoke(app, list(words))
    assert made.exit_code == 0, made.output
    return " ".join(made.output.split())


def test_whatever_names_a_test_says_its_level(folder):
    both = "ests at level 0.1 (reml), 0.001 (strict)"
    assert both in said("summary", str(folder))
    assert both in said("summary", str(folder), "--measure", "power")
    assert "tests at level 0.001" in said("summary", str(folder), "--measure", "power", "--method", "strict")
    assert "level" not in said("summary", str(folder), "--measure", "bias")
    assert both in said("compare", str(folder))
    assert both in said("table", str(folder))
    results = nl.Results(folder)
    assert both in caption_of(select(results, Asked(estimand="arm")))
    assert "Intervals of 99.9 %" in caption_of(select(results, Asked(measure="cover", method="strict")))
    leads = [found.lead for found in findings(Material.read(results)) if found.topic == "Power"]
    assert leads == ["arm (truth 0.8), reml, tests at level 0.1", "arm (truth 0.8), strict, tests at level 0.001"]


def test_only_levels_that_are_shown_are_lines_of_a_plot(folder):
    rows = select(nl.Results(folder), Asked(measure="cover", method="strict"))
    assert rows.alphas == {"strict": 0.001}


def test_solve_says_its_level(tmp_path):
    path = tmp_path / "levels.toml"
    path.write_text(nl.Study.from_dict(TABLES).text)
    words = ["solve", str(path), "--over", "clusters", "--power", "0.8", "--between", "10", "60", "--alpha", "0.2"]
    words += ["--precision", "0.5", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert " Tests at level 0.2." in said(*words, "--estimand", "arm")
    from nestlab.show.answer import read_solved, title_of

    solved = read_solved(tmp_path / "out")
    assert solved.question.target.alpha == 0.2
    assert title_of(solved) == "Power of arm, reml, tests at level 0.2"
