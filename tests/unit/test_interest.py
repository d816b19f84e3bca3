"""The estimand of a study: what it may be, what is chosen without one, and that everything shown follows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import nestlab as nl
from nestlab.run.results import StoredResults
from nestlab.show.cli import app
from nestlab.show.plots import draw
from nestlab.show.plots.choose import Asked, select
from nestlab.show.report.figures import pictures
from nestlab.show.report.findings import findings
from nestlab.show.report.material import Material
from nestlab.show.summary import overview
from nestlab.spec.identity import data_key, result_key
from nestlab.spec.problems import StudyError
from nestlab.spec.study import StudyFile

TRIAL: dict[str, Any] = {
    "name": "trial", "seed": 1, "replications": 60, "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ 1 + treatment + pretest + (1 | school)", "residual_variance": 0.9,
        "fixed": {"Intercept": 0, "treatment": 0.4, "pretest": 0.3}, "random": {"school": {"variance": {"Intercept": 0.1}}},
    },
    "predictors": {
        "treatment": {"level": 2, "distribution": "balanced"}, "pretest": {"level": 1, "distribution": "normal"},
    },
    "method": [{"name": "reml", "df": "between-within"}, {"name": "ml", "reml": False, "df": "z"}],
}  # fmt: skip
#: As a user reaches it who asks for the treatment of a study whose last term is the pretest.
SHOWN = "shown: treatment (the study's estimand); others: nestlab "


def of(**changes: Any) -> StudyFile:
    return StudyFile.from_dict({**TRIAL, **changes})


def printed(results: StoredResults) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(overview(results, 200))
    return console.export_text()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `solve --estimand treatment`."""
    folder = tmp_path_factory.mktemp("interest") / "it is"
    nl.Study.from_dict(TRIAL).solve(
        over="clusters", power=0.8, estimand="treatment", precision=0.5, max_replications=500, out=folder
    )
    return folder


def test_everything_after_a_search_shows_what_was_asked_for(searched: Path) -> None:
    results = nl.Results(searched)
    assert results.study.estimand == "treatment"
    text = printed(results)
    assert "power treatment" in " ".join(text.split())
    assert "power pretest" not in " ".join(text.split())
    assert f"{SHOWN}summary '{searched}' --estimand pretest" in text
    assert "effect of treatment" in text, "what the outcome looks like is told of that effect"
    for kind in ("power", "coverage", "bias", "methods", "nested-loop", "lollipop", "heatmap", "zip", "estimate-se"):
        if kind in ("nested-loop", "heatmap"):
            continue  # of two factors
        figure = draw(results, kind)
        words = " ".join(str(t.get_text()) for t in figure.findobj(lambda a: hasattr(a, "get_text")))
        assert "treatment" in words, kind
    assert results.table().attrs["caption"].startswith("Power of treatment")
    material = Material.read(results)
    told = [finding.lead for finding in findings(material) if finding.topic == "Power"]
    assert told[0].startswith("treatment"), "the report begins with it"
    drawn = [picture.text for picture in pictures(material) if picture.kind == "power"]
    assert drawn[0].endswith(": treatment")


def test_commands_name_what_they_show(searched: Path) -> None:
    for command, of_method in (("summary", "summary"), ("compare", "compare")):
        out = CliRunner().invoke(app, [command, str(searched)], env={"COLUMNS": "200"}).output
        assert f"{SHOWN}{of_method} '{searched}' --estimand pretest" in out
    out = CliRunner().invoke(app, ["table", str(searched)]).output
    assert "Shown: treatment (the study's estimand); others by estimand: pretest" in out
    out = CliRunner().invoke(app, ["table", str(searched), "--estimand", "pretest"]).output
    assert "of pretest" in out
    assert "Shown" not in out, "who asked for it knows"


def test_a_search_without_a_name_is_for_the_studys_estimand(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="or write it as estimand in the study file"):
        nl.Study.from_dict(TRIAL).solve(over="clusters", power=0.8, out=tmp_path / "a")
    study = nl.Study.from_dict({**TRIAL, "estimand": "treatment"})
    found = study.solve(over="clusters", power=0.8, precision=0.5, max_replications=500, out=tmp_path / "b")
    assert found.question.target.estimands == ("treatment",)


def test_it_is_no_part_of_an_identity() -> None:
    plain, named = of(), of(estimand="treatment")
    assert [data_key(c) for c in plain.conditions()] == [data_key(c) for c in named.conditions()]
    keys = [[result_key("k", method) for method in study.methods()] for study in (plain, named)]
    assert keys[0] == keys[1]


def test_results_follow_a_study_that_names_it_later(tmp_path: Path) -> None:
    nl.Study.from_dict(TRIAL).run(out=tmp_path / "r")
    results = nl.Study.from_dict({**TRIAL, "estimand": "pretest"}).run(out=tmp_path / "r")
    assert "power pretest" in " ".join(printed(results).split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "treatmnt",
            'estimand = "treatmnt": must be an effect of the study, such as a term or a contrast; did you mean "treatment"?',
        ),
        (3, "estimand = 3: must be text; write it in quotes"),
    ],
)  # fmt: skip
def test_another_estimand_is_refused_in_a_line(given: Any, said: str) -> None:
    with pytest.raises(StudyError) as refused:
        of(estimand=given)
    assert refused.value.problems == [said]


ROWS = {**TRIAL["predictors"], "treatment": {"level": 1, "distribution": "balanced"}}
GAIN = [{"name": "gain", "weights": {"treatment": 1, "pretest": -1}}]
BOTH = [{"name": "both", "weights": [{"treatment": 1}, {"pretest": 1}]}]


@pytest.mark.parametrize(
    ("changes", "shown", "why"),
    [
        ({}, "treatment", "an effect between clusters"),
        ({"grid": {"truth.fixed.pretest": [0, 0.3]}}, "pretest", "an effect that the grid varies"),
        ({"grid": {"truth.fixed.pretest": [0.3]}}, "treatment", "an effect between clusters"),
        ({"estimand": "pretest", "grid": {"truth.fixed.treatment": [0, 0.4]}}, "pretest", "the study's estimand"),
        ({"contrast": GAIN}, "gain", "an effect between clusters"),
        ({"contrast": GAIN, "estimand": "treatment"}, "treatment", "the study's estimand"),
        ({"contrast": BOTH}, "treatment", "an effect between clusters"),
        ({"predictors": ROWS}, "pretest", "the last effect"),
    ],
)  # fmt: skip
def test_what_is_shown_without_a_name(changes: dict[str, Any], shown: str, why: str) -> None:
    interest = of(**changes).interest
    assert interest.among(interest.effects) == shown
    others = interest.others(shown, interest.effects)
    assert interest.told(shown, others) == f"{shown} ({why})"


def test_an_effect_in_other_units_varies_too() -> None:
    fixed = {"Intercept": 0, "treatment": 0.4, "pretest": {"d": 0.3}}
    study = of(truth={**TRIAL["truth"], "fixed": fixed}, grid={"truth.fixed.pretest.d": [0.1, 0.3]})
    assert study.interest.among(study.interest.effects) == "pretest"


def test_the_product_of_both_levels_varies_within_clusters() -> None:
    truth = {
        **TRIAL["truth"], "formula": "y ~ 1 + treatment + pretest + treatment:pretest + (1 | school)",
        "fixed": {"Intercept": 0, "treatment": 0.4, "pretest": 0.3, "treatment:pretest": 0.1},
    }  # fmt: skip
    assert of(truth=truth).interest.ranked[:3] == ("treatment", "treatment:pretest", "pretest")
    assert of(truth=truth, estimand="pretest:treatment").interest.named == "treatment:pretest"


def test_where_it_has_no_such_measure_the_next_is_shown(tmp_path: Path) -> None:
    """An icc has an interval's coverage at most: power is that of an effect."""
    results = nl.Study.from_dict({**TRIAL, "estimand": "icc"}).run(out=tmp_path / "r")
    assert select(results, Asked(measure="bias")).estimand == "icc"
    assert select(results, Asked(measure="power")).estimand == "treatment"
