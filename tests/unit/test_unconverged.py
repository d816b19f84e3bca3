"""Fits that did not converge: left out of what is shown and decided unless they are asked for, by one rule, and counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.status import Status
from nestlab.measure.decisions import reject_all
from nestlab.measure.measured import Measured, MeasureRow
from nestlab.measure.results import Estimates, MethodResults
from nestlab.measure.subsets import in_subset, unconverged
from nestlab.run.block import CompiledCondition
from nestlab.run.stopping import judge
from nestlab.show.cli import app
from nestlab.show.plots.choose import Asked, select
from nestlab.show.plots.replicates import choose, samples
from nestlab.show.plots.words import caption_of
from nestlab.show.report import findings
from nestlab.show.report.material import Material
from nestlab.spec.stopping import Stopping, StopTarget

TABLES = {
    "name": "lost", "seed": 5, "replications": 200, "design": {"clusters": 12, "cluster_size": 4},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0.8}, "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml"}, {"name": "ml", "reml": False}],
}  # fmt: skip
#: Every fifth fit of the first method stops short, 100 off.
LOST, OFF = 5, 100.0
LEFT_OUT = "its that did not converge are left out: 0 to 40"


@pytest.fixture(scope="module", params=["replicates", "summary"])
def results(tmp_path_factory, request):
    whole = CompiledCondition.analyse

    def analyse(self, draw, method, block, first, last):
        found = whole(self, draw, method, block, first, last)
        if method == 0:
            lost = (block * self.condition.block_size + np.arange(first, last)) % LOST == 0
            found.status[lost] = Status.not_converged
            for term in ("Intercept", "arm"):
                found.estimate[term][lost] += OFF
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledCondition, "analyse", analyse)
        folder = tmp_path_factory.mktemp("lost") / "out"
        return nl.Study.from_dict({**TABLES, "keep": request.param}).run(out=folder, jobs=1)


def said(*words: str) -> str:
    made = CliRunner().invoke(app, list(words))
    assert made.exit_code == 0, made.output
    return " ".join(made.output.split())


def test_the_default_leaves_them_out_of_estimands_and_counts_them_of_methods(results):
    summary = results.summary()
    shown = in_subset(summary).set_index(["method", "estimand", "measure"])
    assert abs(shown.loc[("reml", "arm", "bias"), "value"]) < 0.2
    assert shown.loc[("reml", "arm", "bias"), "n"] == 160
    assert shown.loc[("ml", "arm", "bias"), "n"] == 200
    assert shown.loc[("reml", "", "converged"), ["value", "n"]].tolist() == [0.8, 200]
    everything = in_subset(summary, "all").set_index(["method", "estimand", "measure"])
    assert everything.loc[("reml", "arm", "bias"), "value"] > 0.15 * OFF
    assert unconverged(summary) == {(0, "reml"): 40, (0, "ml"): 0}


def test_what_shows_numbers_says_how_many_are_left_out(results):
    folder = str(results.folder)
    assert f"f{LEFT_OUT} a row" in said("summary", folder)
    text = said("summary", folder, "--measure", "bias", "--estimand", "arm")
    assert f"f{LEFT_OUT} a row" in text
    assert " 160 " in text
    used = said("summary", folder, "--measure", "bias", "--estimand", "arm", "--subset", "all")
    assert "fits that did not converge are used if they have estimates: 0 to 40 a row" in used
    table = said("table", folder, "--measure", "bias", "--estimand", "arm")
    assert f"n = 160 to 200 replicates a cell (200 asked for); f{LEFT_OUT} a cell" in table
    rows = select(results, Asked(measure="bias", estimand="arm"))
    assert f"f{LEFT_OUT} a point" in caption_of(rows)
    assert "Replicates" not in caption_of(rows)
    assert "Replicates: all" in caption_of(select(results, Asked(measure="bias", estimand="arm", subset="all")))
    assert "left out" not in caption_of(select(results, Asked(measure="converged")))
    assert len(select(results, Asked(measure="failed")).frame) == 2


def test_the_report_leaves_them_out_and_says_so(results):
    material = Material.read(results)
    found = {f.lead: f.text for f in findings(material) if f.topic == "Singular and failed fits"}
    assert "40 did not, of which 0 have no estimates, and are left out of all measures of estimands" in found["reml"]
    bias = material.whole.query("measure == 'bias' and estimand == 'arm'")
    assert bias["value"].abs().max() < 0.2


def test_replicates_that_are_drawn_and_compared_are_those_that_converged(results):
    if results.keeps == "summary":
        pytest.skip("needs replicates")
    drawn = {s.method: s for s in samples(results, choose(results, Asked(estimand="arm"), measure="cover"))}
    assert (len(drawn["reml"].estimate), len(drawn["ml"].estimate)) == (160, 200)
    row = results.compare(measure="bias", estimand="arm").iloc[0]
    assert (row["n"], row["missing"]) == (160, 40)
    assert abs(row["difference"]) < 0.01
    assert "where both converged and have a result" in said("compare", str(results.folder))


def test_a_rule_that_stops_is_about_what_is_shown():
    def row(subset: str, mcse: float) -> MeasureRow:
        return MeasureRow("a", "x", subset, Measured("bias", 0.1, mcse, 500), None)

    rule = Stopping((StopTarget("bias", 0.02, "x"),), 100, 2000)
    assert judge(rule, [row("all", 0.5), row("converged", 0.01)], 500).stops
    assert not judge(rule, [row("all", 0.01), row("converged", 0.5)], 500).stops


def test_joint_power_is_that_of_fits_that_converged():
    converged = np.array([True, True, False, True])
    none = np.zeros(4, dtype=bool)
    part = Estimates(np.array([9.0, 0.0, 9.0, 9.0]), se=np.ones(4), df=np.inf)
    decided = reject_all(MethodResults("a", np.arange(4), converged, none, none, {"x": part}), ["x"])
    assert decided.known.tolist() == converged.tolist()
    assert decided.rejects.tolist() == [True, False, False, True]


def test_a_condition_without_replicates_counts_nothing():
    columns = ["condition", "method", "estimand", "measure", "subset", "value", "n"]
    rows = [(0, "a", "", "converged", "all", np.nan, 0), (1, "a", "", "converged", "all", 0.9, 10)]
    assert unconverged(pd.DataFrame(rows, columns=columns)) == {(1, "a"): 1}
