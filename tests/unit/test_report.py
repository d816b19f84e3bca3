"""The report: what its sentences and tables say against the measures, and that text stays text."""

from __future__ import annotations

import base64
import copy
import doctest
import gzip
import hashlib
import html
import importlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.report import write_report
from nestlab.show.report.ademp import ademp
from nestlab.show.report.effects import departures, effect_kind
from nestlab.show.report.findings import findings
from nestlab.show.report.material import Material, ReportTable, Section, _distinct, levels_text, value_text
from nestlab.show.report.payload import in_script, table_payload
from nestlab.show.report.provenance import provenance_section
from nestlab.show.summary import value_with_mcse
from nestlab.spec.measures import MEASURES
from nestlab.spec.study import StudyFile
from nestlab.spec.truths import TrueValues

EVIL = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> & \'two\' "arms" \u2028 été'
ARMS: dict[str, Any] = {
    "name": "arms",
    "title": EVIL,
    "seed": 8,
    "replications": 120,
    "design": {"cluster_size": 6},
    "grid": {"clusters": [8, 20, 40], "truth.fixed.arm": [0.0, 1.2]},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 2, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml", "df": ["z", "satterthwaite"]}, {"name": "ml", "reml": False, "df": "z"}],
    "contrast": [
        {"name": "no worse", "weights": {"arm": 1}, "test": "non-inferiority", "margin": 0.2},
        {"name": "alike", "weights": {"arm": 1}, "test": "equivalence", "margin": 1.2},
        {"name": "all", "weights": [{"Intercept": 1}, {"arm": 1}]},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "arms"
    nl.Study.from_dict(copy.deepcopy(ARMS)).run(out=out, jobs=1)
    return out


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return Material.read(nl.Results(folder))


@pytest.fixture
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of plots: drawing all takes seconds."""
    monkeypatch.setattr("nestlab.show.report.figures.applicable", lambda results: ["estimate-se", "convergence"])


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nestlab.show.report.figures.MOST_ESTIMANDS", 1)
        assert nl.Results(folder).report(path) == path
    return path.read_text(encoding="utf-8")


def set_values(material: Material, **wanted: Any) -> Material:
    """The material with one measure's values replaced: estimand, method, measure, values by condition -> (value, n)."""
    summary = material.summary.copy()
    for condition, (value, n) in wanted["values"].items():
        rows = (
            (summary["condition"] == condition)
            & (summary["estimand"] == wanted["estimand"])
            & (summary["method"] == wanted["method"])
            & (summary["measure"] == wanted["measure"])
        )
        assert rows.any()
        mcse = np.sqrt(value * (1 - value) / n) if 0 <= value <= 1 else wanted["mcse"]
        summary.loc[rows, ["value", "mcse", "n"]] = value, wanted.get("mcse", mcse), n
        if "limits" in wanted:
            summary.loc[rows, ["lower", "upper"]] = wanted["limits"][condition]
    return replace(material, summary=summary)


def told(material: Material, topic: str, lead: str) -> str:
    found = [f.text for f in findings(material) if f.topic == topic and f.lead.startswith(lead)]
    assert len(found) == 1, [(f.topic, f.lead) for f in findings(material)]
    return found[0]


# -- findings --------------------------------------------------------------------------------------------------------------


def test_every_value_in_the_findings_is_a_measure_of_the_summary(material: Material) -> None:
    rows = material.whole
    known = {value_with_mcse(v, m) for v, m in zip(rows["value"], rows["mcse"], strict=True)}
    pairs = [
        pair
        for finding in findings(material)
        if finding.topic != "Comparison of methods"
        for pair in re.findall(r"-?\d[\d.]*(?:e[-+]?\d+)? \([\d.]+\)", finding.text)
    ]
    assert len(pairs) > 20
    assert [pair for pair in pairs if pair not in known] == []


def test_power_range_places_and_crossing(material: Material) -> None:
    # conditions 1, 3, 5 have arm = 1.2 at 8, 20, 40 clusters
    limits = {1: (0.2, 0.4), 3: (0.66, 0.74), 5: (0.86, 0.94)}
    values = {1: (0.3, 100), 3: (0.7, 400), 5: (0.9, 400)}
    some = set_values(material, estimand="arm", method="reml/z", measure="power", values=values, limits=limits)
    text = told(some, "Power", "arm (truth 1.2), reml/z")
    assert text == (
        "0.30 (0.05), n = 100 at clusters = 8 to 0.900 (0.015), n = 400 at clusters = 40. Wilson's 95 % limits lie "
        "above 0.8 in 1 of 3 conditions, below in 2. Along clusters it passes 0.8 between 20, where it is 0.70 "
        "(0.02), n = 400, and 40, where it is 0.900 (0.015), n = 400."
    )


@pytest.mark.parametrize(
    ("powers", "words"),
    [
        ((0.85, 0.9, 0.95), "at or below its smallest level, 8, where it is"),
        ((0.1, 0.2, 0.3), "at none of its levels, up to 40, where it is"),
        ((0.95, 0.9, 0.85), "at none of its levels, down to 40, where it is 0.850 (0.018)."),
        (
            (0.9, 0.85, 0.7),
            "passes 0.8 downwards between 20, where it is 0.850 (0.018), and 40, where it is 0.70 (0.02).",
        ),
        ((0.7, 0.9, 0.75), "passes 0.8 2 times, last downwards between 20, where it is 0.900 (0.015), and 40, where"),
        ((0.9, 0.7, 0.85), "and 40, where it is 0.850 (0.018) for good, after reaching it at a smaller level"),
    ],
)
def test_crossing_at_the_ends_and_back(material: Material, powers: tuple[float, ...], words: str) -> None:
    values = {c: (p, 400) for c, p in zip((1, 3, 5), powers, strict=True)}
    some = set_values(material, estimand="arm", method="reml/z", measure="power", values=values)
    assert words in told(some, "Power", "arm (truth 1.2), reml/z")


def test_type_one_error_is_told_apart_from_its_level(material: Material) -> None:
    values = {0: (0.09, 1000), 2: (0.05, 1000), 4: (0.02, 1000)}
    some = set_values(material, estimand="arm", method="reml/z", measure="power", values=values)
    text = told(some, "Type I error", "arm, reml/z")
    assert "at a rate of 0.020 (0.004) at clusters = 40 to 0.090 (0.009) at clusters = 8, n = 1,000 each" in text
    assert "1 of 3 rates lies below 0.05 and 1 above it beyond Monte Carlo error (at most 0.15 would by chance)" in text


def test_coverage_names_the_farthest(material: Material) -> None:
    values = dict.fromkeys(range(6), (0.95, 1000)) | {2: (0.90, 1000), 3: (0.91, 1000)}
    some = material
    for estimand in ("Intercept", "arm", "no worse", "alike"):
        some = set_values(
            some, estimand=estimand, method="ml", measure="cover", values=dict.fromkeys(range(6), (0.95, 1000))
        )
    some = set_values(some, estimand="arm", method="ml", measure="cover", values=values)
    text = told(some, "Coverage", "fixed effects and contrasts, ml")
    assert "of 24 rates of coverage (estimands x conditions) 2 lie below 0.95 and 0 above it" in text
    assert "lowest: arm, 0.900 (0.009), n = 1,000 at clusters = 20, truth.fixed.arm = 0" in text


def test_bias_counts_what_exceeds_its_mcse(material: Material) -> None:
    some = material
    names = [e for e in material.estimands if ":" not in e and e not in ("icc", "all")]
    for estimand in names:
        far = dict.fromkeys(range(6), (0.0, 100)) | ({5: (0.3, 100)} if estimand == "arm" else {})
        some = set_values(some, estimand=estimand, method="ml", measure="bias", values=far, mcse=0.1)
    some = set_values(some, estimand="arm", method="ml", measure="relbias", values={5: (25.0, 100)}, mcse=8.0)
    text = told(some, "Bias", "fixed effects and contrasts, ml")
    assert text.startswith(f"1 of {6 * len(names)} biases (estimands x conditions) exceeds 1.96 MCSEs")
    assert text.endswith("arm, 25 (8) %, n = 100 at clusters = 40, truth.fixed.arm = 1.2.")


def test_methods_are_compared_by_means_with_their_mcse(material: Material) -> None:
    some = material
    for method, power in (("reml/z", 0.6), ("reml/satterthwaite", 0.5), ("ml", 0.7)):
        values = dict.fromkeys((1, 3, 5), (power, 400))
        some = set_values(some, estimand="arm", method=method, measure="power", values=values)
    # sqrt(3 x .24/400)/3 = .0141, sqrt(3 x .25/400)/3 = .0144, sqrt(3 x .21/400)/3 = .0132
    assert told(some, "Comparison of methods", "arm, power").startswith(
        "mean over the 3 conditions where there is an effect: ml 0.700 (0.013), reml/z 0.600 (0.014), "
        "reml/satterthwaite 0.500 (0.014); n = 1,200 each. Differences from reml/z: "
    )


def test_differences_of_methods_are_paired(material: Material) -> None:
    """Means of the differences over conditions 1, 3, 5, with McNemar's variances; the unpaired MCSE would be 0.03."""
    text = told(material, "Comparison of methods", "arm, power")
    rejects = {}
    for label, name, df in (("reml/z", "reml", "df.arm/z"), ("ml", "ml", "df.arm")):
        frame = material.results.replicates(method=name).query("condition in (1, 3, 5)")
        assert np.isinf(frame[df]).all()
        hits = (frame["estimate.arm"] / frame["se.arm"]).abs() > 1.959964
        rejects[label] = hits.to_numpy().reshape(3, 120)
    b = (rejects["ml"] & ~rejects["reml/z"]).sum(axis=1)
    c = (rejects["reml/z"] & ~rejects["ml"]).sum(axis=1)
    variance = (b + c - (b - c) ** 2 / 120) / 120**2
    expected = value_with_mcse((b - c).sum() / 360, np.sqrt(variance.sum()) / 3)
    assert variance.sum() > 0
    assert f"ml {expected}" in text.partition("Differences from reml/z: ")[2]
    assert text.endswith("; n = 360 each.")


def test_where_no_replicate_differs_the_limits_stand_by(material: Material) -> None:
    from nestlab.measure.intervals import wilson
    from nestlab.show.report.findings import _differences

    rows = pd.DataFrame(
        {
            "method": ["ml"] * 3,
            "difference": 0.0,
            "mcse": 0.0,
            "gained": 0,
            "lost": 0,
            "n": [120, 120, 60],
            "condition": [1, 3, 5],
        }
    )
    end = f"{wilson(0, 300)[1]:.2g}"
    assert _differences("reml", rows) == f" Differences from reml: ml 0 (0), 95 % limits -{end} to {end}; n = 300 each."
    assert _differences("reml", rows.iloc[:0]) == ""


def test_failures_are_counted(material: Material) -> None:
    some = set_values(material, estimand="", method="ml", measure="converged", values={1: (0.75, 120)})
    some = set_values(some, estimand="", method="ml", measure="failed", values={1: (0.125, 120)})
    text = told(some, "Singular and failed fits", "ml")
    assert "690 of 720 fits converged; 30 did not, of which 15 have no estimates" in text
    assert "0.75 (0.04), n = 120 at clusters = 8, truth.fixed.arm = 1.2" in text


def test_failed_inference_is_told_of_its_own_method(material: Material) -> None:
    values = {1: (0.1, 120), 2: (0.3, 120)}
    some = set_values(material, estimand="", method="reml/satterthwaite", measure="inference_failed", values=values)
    text = told(some, "Singular and failed fits", "reml/satterthwaite")
    assert "in 2 conditions, at most at a rate of 0.30 (0.04), n = 120 at clusters = 20, truth.fixed.arm = 0." in text


def test_missing_tests_are_told_with_bounds(material: Material) -> None:
    summary = material.summary.copy()
    rows = (
        (summary["condition"] == 3)
        & (summary["estimand"] == "arm")
        & (summary["method"] == "ml")
        & (summary["measure"] == "power")
    )
    summary.loc[rows, ["n", "missing", "bound_lower", "bound_upper"]] = 100, 20, 0.5, 0.66
    text = told(replace(material, summary=summary), "Singular and failed fits", "ml, missing tests")
    assert "20 replicates are missing. Counted as 0 and as 1 they bound it by 0.5 and 0.66" in text


def test_departures_are_those_of_an_exact_binomial_test() -> None:
    n = 73
    k = np.arange(n + 1)
    rows = pd.DataFrame({"value": k / n, "n": n})
    expected = np.where(binom.cdf(k, n, 0.05) <= 0.025, -1, np.where(binom.sf(k - 1, n, 0.05) <= 0.025, 1, 0))
    np.testing.assert_array_equal(departures(rows, 0.05), expected)
    chance = binom.pmf(k, n, 0.05)[departures(rows, 0.05) != 0].sum()
    assert 0 < chance <= 0.05


def with_joint_test(material: Material) -> Material:
    """The material of a study that also has a likelihood ratio test of arm and the variance between schools."""
    ratio = {"name": "lrt", "reml": False, "df": "z", "compare": "y ~ 1", "reference": "bootstrap"}
    study = StudyFile.from_dict(copy.deepcopy(ARMS) | {"method": [*ARMS["method"], ratio]})
    return replace(material, study=study)


def test_effect_kind_of_every_test(material: Material) -> None:
    material = with_joint_test(material)
    # arm = 0 in condition 0, 1.2 in condition 1; margins: -0.2, and -1.2 to 1.2
    expected = {
        "arm": ("null", "effect"),
        "Intercept": ("effect", "effect"),
        "no worse": ("effect", "effect"),
        "alike": ("effect", "null"),
        "all": ("effect", "effect"),
        "arm, var:school:Intercept": ("effect", "effect"),
        "nothing": ("unknown", "unknown"),
    }
    assert {
        name: (effect_kind(material, 0, name, "ml"), effect_kind(material, 1, name, "ml")) for name in expected
    } == expected


def test_effect_kind_beyond_the_null(material: Material) -> None:
    low = replace(
        material.conditions[0],
        truths=TrueValues(
            {
                **material.conditions[0].truth,
                "no worse": -0.5,
                "alike": -2.0,
                "Intercept": 0.0,
                "var:school:Intercept": 0.0,
            }
        ),
    )
    some = replace(with_joint_test(material), conditions=(low, *material.conditions[1:]))
    names = ("no worse", "alike", "all", "arm, var:school:Intercept")
    kinds = {name: effect_kind(some, 0, name, "ml") for name in names}
    assert kinds == {"no worse": "beyond", "alike": "beyond", "all": "null", "arm, var:school:Intercept": "null"}


def test_a_truth_without_a_single_value_has_no_power_against_it(material: Material) -> None:
    vague = tuple(
        replace(c, truths=TrueValues({k: v for k, v in c.truth.items() if k != "arm"})) for c in material.conditions
    )
    some = replace(material, conditions=vague)
    assert effect_kind(some, 0, "arm", "ml") == "unknown"
    assert told(some, "Power", "arm, reml/z").count("n = 120")
    estimands = table(ademp(some), "Estimands", "Estimands and their true values")
    assert next(row for row in estimands.rows if row[0] == "arm")[2] == "no single value"


@pytest.mark.usefixtures("few_plots")
def test_a_truth_drawn_from_a_prior_is_neither_null_nor_fixed(material: Material) -> None:
    drawn = tuple(
        replace(c, spec={**c.spec, "prior.truth.fixed.arm": "normal(0, 0.2)"}) for c in material.conditions[:2]
    )
    some = replace(material, conditions=(*drawn, *material.conditions[2:]))
    joint = with_joint_test(some)
    kinds = {
        name: effect_kind(joint, 0, name, "ml")
        for name in ("arm", "no worse", "all", "arm, var:school:Intercept", "Intercept")
    }
    assert kinds == dict.fromkeys(("arm", "no worse", "all", "arm, var:school:Intercept"), "unknown") | {
        "Intercept": "effect"
    }
    lead = "arm (truth 1.2; truth drawn from normal(0, 0.2), power averaged over it), reml/z, tests at level 0.05"
    assert lead in [f.lead for f in findings(some) if f.topic == "Power"]
    assert "Each replicate draws its own truth: truth.fixed.arm from normal(0, 0.2)." in words(
        ademp(some), "Data-generating mechanism"
    )
    rows = {row[0]: row[2] for row in table(ademp(some), "Estimands", "Estimands").rows}
    assert rows["arm"] == "0, 1.2; the mean, where it is drawn from a prior"
    assert rows["var:residual"] == "1"
    shared = tuple(
        replace(c, spec={**c.spec, "prior.icc": "beta(0.1, 0.05)", "prior.x": 0.2}) for c in material.conditions
    )
    some = replace(material, conditions=shared)
    assert effect_kind(some, 0, "arm", "ml") == "null"
    assert effect_kind(some, 0, "var:school:Intercept", "ml") == "unknown"
    assert effect_kind(some, 0, "var:residual", "ml") == "effect"


def test_how_low_power_may_be_is_told_with_its_place(material: Material) -> None:
    shown = "measure == 'power' and estimand == 'arm' and method == 'ml' and subset == 'converged'"
    power = material.summary.query(shown)
    low = power.assign(measure="power_q10", value=0.4, mcse=0.03, lower=np.nan, upper=np.nan)
    low.loc[low["condition"] == 5, "value"] = 0.7
    some = replace(material, summary=pd.concat([material.summary, low], ignore_index=True))
    words = "with probability 0.1 less than 0.40 (0.03) at clusters = 8 to 0.70 (0.03) at clusters = 40, n = 120 each."
    assert told(some, "Power", "arm (truth 1.2), ml").endswith(words)


def test_every_measure_has_a_definition() -> None:
    for name, row in MEASURES.items():
        assert row.name == name
        assert all((row.title, row.formula, row.mcse_text("morris"), row.mcse_text("distribution-free"))), name


def test_the_answer_of_solve_comes_first(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "arms")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["solve"] = {"sentence": "For power 0.8 <of arm> 23 clusters are enough.", "solution": 23}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    answer = {
        "target": {"power": 0.8}, "estimand": "arm", "method": "reml", "over": "clusters", "solution": 23, "interval": [21, 25],
        "reached": True, "sure": True, "best": 23, "at_best": None, "scale": "sqrt", "replications": 1000,
        "sentence": manifest["solve"]["sentence"],
        "tried": [
            {"clusters": J, "value": value, "mcse": 0.02, "n": 500, "missing": 0, "condition": k}
            for k, (J, value) in enumerate([(8, 0.4), (40, 0.9)])
        ],
    }  # fmt: skip
    (copied / "solve.json").write_text(json.dumps(answer))
    results = nl.Results(copied)
    assert findings(Material.read(results))[0].text == manifest["solve"]["sentence"]
    text = results.report().read_text()
    figure = "<figcaption>The search of nestlab solve: the designs tried, and the answer with its interval</figcaption>"
    assert text.index("23 clusters are enough") < text.index(figure) < text.index("<h3>Power</h3>")
    assert text.count(figure) == 1
    assert "&lt;of arm&gt;" in text


# -- what a report must state ----------------------------------------------------------------------------------------------


def table(sections: tuple[Section, ...], title: str, caption: str) -> ReportTable:
    section = next(s for s in sections if s.title == title)
    return next(b for b in section.blocks if isinstance(b, ReportTable) and b.caption.startswith(caption))


def test_the_data_generating_model_is_stated_with_every_parameter(material: Material) -> None:
    sections = ademp(material)
    values = dict(table(sections, "Data-generating mechanism", "Every parameter").rows)
    assert values["truth.fixed.arm"] == "varies: 0, 1.2"
    assert values["truth.random.school.variance.Intercept"] == "0.2"
    assert values["design.clusters"] == "varies: 8, 20, 40"
    spec = set().union(*(c.spec for c in material.conditions))
    assert spec - set(values) == {"seed", "truth.formula", "path", "block_size", "draw_version"}
    factors = table(sections, "Data-generating mechanism", "Factors").rows
    assert factors == (("clusters", "3", "8, 20, 40"), ("truth.fixed.arm", "2", "0, 1.2"))
    text = words(sections, "Data-generating mechanism")
    assert "y ~ 1 + arm + (1 | school)" in text
    assert "fully crossed: 3 x 2 = 6 conditions" in text


def test_listed_cases_are_not_called_crossed(material: Material) -> None:
    left = [c for c in range(6) if c != 4]
    some = replace(
        material,
        conditions=tuple(material.conditions[c] for c in left),
        summary=material.summary[material.summary["condition"].isin(left)],
    )
    assert "5 conditions of 3 x 2 = 6 possible ones" in words(ademp(some), "Data-generating mechanism")


def test_estimands_have_true_values_derived_ones_too(material: Material) -> None:
    rows = {row[0]: row for row in table(ademp(material), "Estimands", "Estimands").rows}
    assert rows["icc"][2] == "0.166667"
    assert "derived" in rows["icc"][1]
    assert rows["arm"][2] == "0, 1.2"
    assert rows["all"][1:] == ("joint hypothesis: 1 Intercept = 0, 1 arm = 0", "tested only")


def test_methods_are_stated_with_criterion_rules_and_alpha(material: Material) -> None:
    reml, ml = (dict(table(ademp(material), "Methods", f"Method {name}").rows) for name in ("reml", "ml"))
    assert "REML" in reml["estimator"]
    assert "by ML" in ml["estimator"]
    assert reml["degrees of freedom"] == "z (infinite df); Satterthwaite's df, as lmerTest computes them"
    assert "alpha = 0.05" in reml["tests"]
    assert reml["contrast no worse"].startswith("1 arm: t test, is it greater than -0.2")
    assert reml["contrast alike"].startswith("1 arm: equivalence within -1.2 and 1.2")
    assert "Tolerances: Newton steps" in words(ademp(material), "Methods")


def test_every_measure_of_the_summary_is_defined(material: Material) -> None:
    rows = table(ademp(material), "Performance measures", "Measures").rows
    assert {row[0] for row in rows} == set(material.summary["measure"]) <= set(MEASURES)
    assert all(row[1] and row[2] for row in rows)


def test_mcses_of_differences_are_stated_where_there_are_methods_to_compare(material: Material) -> None:
    assert "(McNemar)" in words(ademp(material), "Performance measures")
    first = [{**ARMS["method"][1]}]
    alone = replace(material, study=nl.Study.from_dict({**copy.deepcopy(ARMS), "method": first}).file)
    assert "(McNemar)" not in words(ademp(alone), "Performance measures")


def test_replications_software_seed_and_streams(material: Material) -> None:
    sections = ademp(material)
    assert "Replications a condition: 120 were asked for; stored are 120 a condition and method." in words(
        sections, "Replications"
    )
    # sqrt(.25/120) = .0456
    assert "With 120 replicates the MCSE of a proportion is at most 0.046" in words(sections, "Replications")
    software = dict(table(sections, "Software, machine and random numbers", "Software").rows)
    assert software["numpy"] == np.__version__
    assert "Seed 8." in words(sections, "Software, machine and random numbers")


def test_fits_are_counted_by_condition_and_method(material: Material) -> None:
    rows = table(ademp(material), "Non-convergence and singular fits", "Fits by condition").rows
    assert len(rows) == 6 * 3
    singular = material.results.replicates(condition=0, method="ml")["singular"].sum()
    row = next(r for r in rows if r[0] == "0" and r[3] == "ml")
    assert row[4:] == ("120", "120", f"{singular:,}", "0", "0")
    assert singular > 0


def test_provenance_counts_parts_with_checksums(material: Material) -> None:
    items = dict(table((provenance_section(material),), "Provenance", "What the results are").rows)
    assert items["parts"] == "12 Parquet files, 12 with a SHA-256 in manifest.json"
    digest = hashlib.sha256((material.results.folder / "study.toml").read_bytes()).hexdigest()
    assert digest in items["study"]


def words(sections: tuple[Section, ...], title: str) -> str:
    section = next(s for s in sections if s.title == title)
    return " ".join(getattr(block, "text", "") for block in section.blocks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (None, "none"),
        (float("nan"), "none"),
        ([5, 5, 8], "[2 x 5, 8]"),
        ("[4, 36, 4, 36, 4, 36, 4, 36, 4, 36, 20]", "[5 x (4, 36), 20]"),
        (list(range(3, 30)), "[3, 4, 5, ..., 29 (27 values)]"),
        ("[no list", "[no list"),
        ({"distribution": "normal", "mean": 0.5}, "{ distribution = normal, mean = 0.5 }"),
        (True, "true"),
    ],
)
def test_value_text(value: object, text: str) -> None:
    assert value_text(value) == text


def test_a_prior_in_a_condition_is_printed_as_it_is(material: Material) -> None:
    prior: Mapping[str, Any] = {"distribution": "normal", "mean": 0.4, "sd": 0.1}
    vague = tuple(replace(c, spec={**c.spec, "truth.fixed.arm": prior}) for c in material.conditions)
    values = dict(
        table(ademp(replace(material, conditions=vague)), "Data-generating mechanism", "Every parameter").rows
    )
    assert values["truth.fixed.arm"] == "{ distribution = normal, mean = 0.4, sd = 0.1 }"


@pytest.mark.parametrize("module", ["material", "payload"])
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"nestlab.show.report.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_many_levels_are_given_by_their_ends() -> None:
    assert levels_text(list(range(1, 31))) == "30 values from 1 to 30"


# -- the page --------------------------------------------------------------------------------------------------------------


def test_text_stays_text(page: str) -> None:
    assert html.escape("</script><script>window.hacked = 1</script>", quote=False) in page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img src=x" not in page


def test_json_in_a_script_element_cannot_end_it() -> None:
    text = in_script({"a": EVIL + "<!--"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": EVIL + "<!--"}


def test_the_policy_lets_through_what_stands_in_the_page_and_nothing_else(page: str) -> None:
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]  # type: ignore[index]
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]  # type: ignore[index]
    hashes = ["sha256-" + base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src '{hashes[0]}'; script-src '{hashes[1]}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "@import" not in page
    assert "url(" not in style


def test_every_plot_stands_in_the_page(page: str, material: Material) -> None:
    from nestlab.show.plots import applicable

    kinds = set(re.findall(r'<figure data-kind="([^"]+)"', page))
    assert kinds == set(applicable(material.results))
    texts = dict(re.findall(r'<figure data-kind="([^"]+)"[^>]*><img src="[^"]+" alt="([^"]+)"', page))
    assert set(texts) == kinds
    estimand = re.match(r"Bias of (.+?)\. ", texts["bias"])[1]
    lowest = material.whole.query("measure == 'bias' and estimand == @estimand")["value"].min()
    assert f"Bias of {estimand} is from {lowest:.3g} at clusters " in texts["bias"], "what is seen, not the kind alone"


@pytest.mark.usefixtures("few_plots")
def test_two_reports_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = (write_report(nl.Results(folder), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_the_payload_holds_every_row(material: Material) -> None:
    payload = table_payload(material.summary, list(material.factors), name="arms")
    numbers = json.loads(gzip.decompress(base64.b64decode(payload["numbers"])))
    columns = {c["name"]: [c["levels"][code] for code in numbers[c["name"]]] for c in payload["columns"]}
    for name in ("condition", "clusters", "truth.fixed.arm", "method", "estimand", "measure", "subset"):
        assert columns[name] == material.summary[name].tolist()
    for name in ("value", "mcse"):
        stored = np.array(numbers[name], dtype=float)
        np.testing.assert_allclose(stored, material.summary[name].to_numpy(), rtol=5e-6)
    assert numbers["n"] == material.summary["n"].tolist()


def test_different_numbers_of_replicates_are_told(material: Material) -> None:
    from nestlab.show import report

    summary = material.summary.copy()
    summary.loc[summary["condition"] == 2, "n"] = 60
    notices = report._notices(replace(material, summary=summary))
    assert notices == [
        "Conditions have different numbers of replicates, 60 to 120; the n beside each measure tells how many."
    ]


# -- the command -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_plots")
def test_report_of_an_incomplete_run(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "arms")
    sorted((copied / "replicates").glob("c00003-*.parquet"))[0].unlink()
    arguments = ["report", copied, "--out", tmp_path / "page.html", "--title", "Some <i>title</i>"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 4
    assert "incomplete: 120 fits are missing; nestlab run goes on from here" in done.stderr
    text = (tmp_path / "page.html").read_text()
    assert text.index("Incomplete: 120 fits that the study asks for are not stored") < text.index("Main findings")
    assert "<title>Some &lt;i&gt;title&lt;/i&gt;</title>" in text
    assert "none stored" in text


def test_report_of_a_run_that_stored_nothing(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "arms")
    for part in (copied / "replicates").glob("*.parquet"):
        part.unlink()
    done = CliRunner().invoke(app, ["report", str(copied)])
    assert done.exit_code == 4, done.stderr
    text = (copied / "report.html").read_text()
    assert "No condition has replicates, so there is nothing to report." in text
    assert "Incomplete: 1,440 fits" in text
    assert "Every parameter of the data-generating model" in text


def test_report_command_refuses_a_folder_and_a_missing_one(folder: Path, tmp_path: Path) -> None:
    from nestlab.show.report_command import report_command

    with pytest.raises(nl.StudyError) as folder_given:
        report_command(folder, out=tmp_path, title=None)
    assert (
        str(folder_given.value)
        == f"--out {tmp_path}: is a folder, and must be a file; write {tmp_path / 'report.html'}"
    )
    missing = tmp_path / "no" / "page.html"
    with pytest.raises(nl.StudyError) as no_folder:
        report_command(folder, out=missing, title=None)
    assert str(no_folder.value) == f"--out {missing}: must be in a folder that exists; make {missing.parent} first"
    with pytest.raises(nl.RefusedError, match="holds no results"):
        report_command(tmp_path / "nothing", out=None, title=None)


def test_values_that_differ_by_rounding_are_listed_once() -> None:
    assert _distinct([0.26, 0.1, None, 0.1 + 0.16, 2, 2]) == [0.1, 0.26, 2]
    assert _distinct([0.3, 0.1 + 0.2]) == [0.3]
