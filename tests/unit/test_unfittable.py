"""Conditions that nothing can fit by design are refused before they run; what failed in a run is said with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.status import Status
from nestlab.search.designs import Bench
from nestlab.search.question import Question, SearchTarget
from nestlab.show.cli import app
from nestlab.show.summary import failure_lines
from nestlab.simulate.fittable import check_fittable

TABLES = {
    "name": "unfittable", "seed": 17, "replications": 50, "design": {"cluster_size": 4}, "grid": {"clusters": [4, 10, 20]},
    "truth": {
        "formula": "y ~ 1 + inside + (1 | block)", "fixed": {"Intercept": 0, "inside": 0.8}, "residual_variance": 1,
        "random": {"block": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"inside": {"level": 2, "distribution": "list", "values": [0] * 10 + [1] * 10}},
}  # fmt: skip


def refused(tables, **more):
    study = nl.Study.from_dict({**tables, **more})
    with pytest.raises(nl.StudyError) as caught:
        check_fittable(study.conditions, study.methods)
    return caught.value.problems


def test_a_constant_predictor_is_refused_before_anything_is_written(tmp_path):
    study = nl.Study.from_dict(TABLES)
    with pytest.raises(nl.StudyError) as caught:
        study.run(out=tmp_path / "out", jobs=1)
    (line,) = caught.value.problems
    assert line.startswith(
        'truth.formula = "y ~ 1 + inside + (1 | block)": must have fixed terms that differ, and inside is 0 in all rows of every '
        "replicate here, so that nothing can be fitted; raise design.clusters or design.cluster_size, give inside other values"
    )
    assert line.endswith("(at clusters = 4, and 1 more conditions)")
    assert not (tmp_path / "out").exists()


def test_designs_that_can_be_fitted_are_not_refused():
    study = nl.Study.from_dict({**TABLES, "grid": {"clusters": [11, 20]}})
    check_fittable(study.conditions, study.methods)


def test_lists_of_rows_and_combinations_of_columns_are_of_the_kind():
    rows = {"inside": {"level": 1, "distribution": "list", "values": [2, 2, 2, 2, 5]}}
    (line,) = refused(TABLES, predictors=rows, grid={"clusters": [20]})
    assert "inside is 2 in all rows of every replicate" in line
    truth = {
        **TABLES["truth"], "formula": "y ~ 1 + inside + other + (1 | block)",
        "fixed": {"Intercept": 0, "inside": 0.8, "other": 0.1},
    }  # fmt: skip
    other = {"other": {"level": 2, "distribution": "list", "values": [3] * 10 + [5] * 10}}
    (line,) = refused(TABLES, truth=truth, predictors={**TABLES["predictors"], **other}, grid={"clusters": [20]})
    assert "other is a combination of Intercept, inside of every replicate" in line


@pytest.mark.parametrize(
    "methods",
    [
        [{"name": "reml"}, {"name": "without", "formula": "y ~ 1 + (1 | block)"}],
        [{"name": "within", "estimator": "function", "function": "own:fit"}],
    ],
)
def test_a_method_that_may_fit_lets_the_study_run(methods):
    study = nl.Study.from_dict({**TABLES, "method": methods})
    check_fittable(study.conditions, study.methods)


def test_a_search_starts_where_something_can_be_fitted(tmp_path):
    study = nl.Study.from_dict({**TABLES, "grid": {"clusters": [20]}}).file
    question = Question(SearchTarget("power", 0.8, ("inside",), "reml"), ("clusters",), (None,))
    bench = Bench(study, question, tmp_path, 1)
    assert bench.axis("clusters", (2, 40), bench.points[0]).low == 11


def test_what_is_refused_has_no_fit(tmp_path, monkeypatch):
    """The refusal is right: all methods but those that it lets through fail in every replicate."""
    monkeypatch.setattr("nestlab.run.runner.check_fittable", lambda *_: None)
    methods = [{"name": "lmm"}, *({"name": e, "estimator": e} for e in ("ols", "cluster-means", "gls"))]
    study = nl.Study.from_dict({**TABLES, "grid": {"clusters": [10]}, "method": methods})
    results = study.run(out=tmp_path / "out", jobs=1)
    counted = results.count_failures().set_index("method")
    assert (counted["count"] == 50).all()
    assert set(counted.index) == {"lmm", "ols", "cluster-means", "gls"}
    lines = failure_lines(results)
    assert f"condition 0, ols: rank_deficient in 50 of 50 replicates: {Status.rank_deficient.sentence}" in lines
    made = CliRunner().invoke(app, ["summary", str(results.folder)])
    assert " ".join(lines[0].split()) in " ".join(made.output.split())


class Counted:
    """Results of which only the counts of failures are asked."""

    folder = "out"

    def __init__(self, rows):
        self.rows = rows

    def count_failures(self):
        return pd.DataFrame(self.rows, columns=["condition", "method", "status", "count", "n", "first"])


def test_failures_are_told_where_they_are_more_than_a_few_the_most_frequent_first():
    rows = [(k, "reml", "not_converged", count, 1000, [0]) for k, count in enumerate((5, 6, 300, 7, 8, 9, 10, 11))]
    lines = failure_lines(Counted(rows))
    assert lines[0] == f"condition 2, reml: not_converged in 300 of 1,000 replicates: {Status.not_converged.sentence}"
    assert len(lines) == 6
    assert lines[-1] == "and 2 more: nestlab failures out"
    assert failure_lines(Counted(rows[:1])) == []


def test_an_error_whose_message_is_told_is_not_told_twice():
    rows = [(0, "gee", "method_error", 90, 100, [0]), (0, "gee", "no_df", 60, 100, [1])]
    assert [line.split(":")[1] for line in failure_lines(Counted(rows), ["gee"])] == [" no_df in 60 of 100 replicates"]
    assert len(failure_lines(Counted(rows))) == 2


def test_the_overview_has_the_power_of_joint_contrasts(tmp_path):
    tables = {
        **TABLES, "grid": {"clusters": [20]}, "replications": 100,
        "contrast": [{"name": "both", "weights": [{"Intercept": 1}, {"inside": 1}]}],
    }  # fmt: skip
    path = tmp_path / "study.toml"
    path.write_text(nl.Study.from_dict(tables).text)
    made = CliRunner().invoke(
        app, ["run", str(path), "--out", str(tmp_path / "out"), "--jobs", "1"], env={"COLUMNS": "120"}
    )
    assert made.exit_code == 0, made.output
    assert "power both" in made.output
    power = nl.Results(tmp_path / "out").summary().query("estimand == 'both' and measure == 'power'")["value"].iloc[0]
    assert f"{power:.2f}" in made.output or f"{np.round(power, 3):g}" in made.output
    narrow = CliRunner().invoke(app, ["summary", str(tmp_path / "out")], env={"COLUMNS": "40"})
    assert "both" in narrow.output
