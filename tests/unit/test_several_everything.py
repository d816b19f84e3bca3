"""What one grouping factor has, for several: stopping, resuming, shards, sums, priors, replay, own functions, report."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.run.store import RefusedError
from nestlab.run.verify import verify
from nestlab.show.cli import app
from nestlab.spec.problems import StudyError

STUDY = """
name = "schools"
seed = 11
replications = 24
estimand = "treat"

[design]
rows = 3

[design.factors]
school = 8
class = { within = "school", number = 2 }

[truth]
formula = "y ~ treat + x + (1 | school/class)"
fixed = { Intercept = 1, treat = 0.7, x = 0.2 }
residual_variance = 0.7

[truth.random.school]
variance = { Intercept = 0.2 }

[truth.random.class]
variance = { Intercept = 0.1 }

[predictors.treat]
level = "school"
distribution = "balanced"

[predictors.x]
level = 1
distribution = "normal"

[grid]
"clusters.class" = [2, 3]

[[method]]
name = "means"
estimator = "function"
function = "of_schools:means"

[[method]]
name = "first"
estimator = "function"
function = "of_schools:first_class"
"""
CODE = """
import numpy as np

def means(frame):
    found = frame.groupby("school")[["treat", "y"]].mean()
    return compared(found)

def first_class(frame):
    found = frame.groupby("school").apply(lambda f: f[f["class"] == f["class"].min()][["treat", "y"]].mean())
    return compared(found)

def compared(found):
    a, b = (found.y[found.treat == k] for k in (0, 1))
    pooled = (a.var() * (len(a) - 1) + b.var() * (len(b) - 1)) / (len(found) - 2)
    return {"treat": (b.mean() - a.mean(), float(np.sqrt(pooled * (1 / len(a) + 1 / len(b)))), len(found) - 2)}
"""


def cli(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout + done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "of_schools.py").write_text(CODE)
    path = tmp_path / "schools.toml"
    path.write_text(STUDY)
    return path


def edited(file: Path, *pairs: tuple[str, str]) -> Path:
    text = file.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = file.with_name("edited.toml")
    path.write_text(text)
    return path


def run(file: Path, folder: str, **how: Any) -> nl.Results:
    return nl.Study.from_toml(file).run(out=file.parent / folder, allow_code=True, **({"jobs": 1} | how))


def rows_of(results: nl.Results, **chosen: Any) -> pd.DataFrame:
    """Stored rows in one order."""
    return results.replicates(**chosen).sort_values(["condition", "method", "replicate"]).reset_index(drop=True)


# -- own functions, and the rows of a replicate ------------------------------------------------------------------------------


def test_a_function_gets_the_rows_that_a_replay_gives(file: Path) -> None:
    results = run(file, "r")
    stored = results.replicates(condition=1, method="means").set_index("replicate")
    study = nl.Study.from_toml(file)
    for replicate in (0, 13):
        frame = results.data(1, replicate)
        pd.testing.assert_frame_equal(frame, study.data(1, replicate))
        assert list(frame.columns) == ["school", "class", "treat", "x", "y"]
        assert (frame["school"].nunique(), frame["class"].nunique(), len(frame)) == (8, 24, 72)
        means = frame.groupby("school")[["treat", "y"]].mean()
        difference = means.y[means.treat == 1].mean() - means.y[means.treat == 0].mean()
        assert stored.loc[replicate, "estimate.treat"] == pytest.approx(difference, rel=1e-12)
    assert (stored["df.treat"] == 6).all()


def test_a_function_needs_consent(file: Path) -> None:
    done, said = cli("run", file, "--out", file.parent / "r")
    assert done == 2
    assert "--allow-code" in said


def test_random_effects_of_a_replay_make_the_response(file: Path) -> None:
    frame = nl.Study.from_toml(file).data(0, 5, truth=True)
    made = 1 + 0.7 * frame["treat"] + 0.2 * frame["x"]
    made += frame["u:school:Intercept"] + frame["u:class:Intercept"] + frame["e"]
    np.testing.assert_allclose(frame["y"], made, rtol=1e-12)
    assert (frame.groupby("class")["u:class:Intercept"].nunique() == 1).all()
    assert frame.groupby("school")["u:class:Intercept"].nunique().eq(2).all()
    done, said = cli("simulate", file, "--condition", 0, "--replicate", 5, "--out", file.parent / "rows.csv")
    assert done == 0, said
    np.testing.assert_array_equal(pd.read_csv(file.parent / "rows.csv")["y"], frame["y"])


@pytest.mark.parametrize(
    ("estimator", "instead"),
    [
        ("statsmodels", 'estimator = "lmm"'),
        ("gee", 'estimator = "ols" with robust = "CR2"'),
        ("cluster-means", 'estimator = "by-units" with units = "school"'),
    ],
)
def test_analyses_of_one_factor_are_refused(file: Path, estimator: str, instead: str) -> None:
    path = edited(file, ('estimator = "function"\nfunction = "of_schools:first_class"', f'estimator = "{estimator}"'))
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_toml(path).conditions
    line = f'method.first.estimator = "{estimator}": is for one grouping factor: write {instead}, or keep one factor'
    assert line in caught.value.problems


# -- the run ----------------------------------------------------------------------------------------------------------------


def test_workers_shards_and_extension_change_nothing(file: Path) -> None:
    whole = rows_of(run(file, "one", jobs=1))
    pd.testing.assert_frame_equal(rows_of(run(file, "two", jobs=2)), whole)
    study, out = nl.Study.from_toml(file), file.parent / "shards"
    for shard in ("2/2", "1/2"):
        study.run_shard(shard, out=out, jobs=1, allow_code=True)
    assert cli("merge", out)[0] == 0
    pd.testing.assert_frame_equal(rows_of(nl.Results(out)), whole)
    fewer = edited(
        file, ("replications = 24", "replications = 10"), ('"clusters.class" = [2, 3]', '"clusters.class" = [2]')
    )
    run(fewer, "extended")
    pd.testing.assert_frame_equal(rows_of(run(file, "extended")), whole)


def test_a_run_that_is_killed_goes_on(file: Path) -> None:
    """SIGKILL when the first part of four conditions is stored."""
    path = edited(file, ('"clusters.class" = [2, 3]', '"clusters.class" = [2, 3]\n"clusters.school" = [8, 12]'))
    out = file.parent / "killed"
    process = killing.start(["run", path, "--out", out, "--allow-code", "--jobs", 1])
    while not killing.names(out / "replicates")[0]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    run(path, "killed")
    run(path, "whole")
    killing.assert_equal(out, file.parent / "whole")


def test_shards_are_submitted(file: Path) -> None:
    done, said = cli("submit", file, "--slurm", "--array", "2", "--out", file.parent / "r", "--dry-run", "--allow-code")
    assert done == 0, said
    assert "--shard" in said
    assert not (file.parent / "r").exists()


def test_results_are_verified_repaired_and_not_mixed(file: Path) -> None:
    folder = file.parent / "r"
    whole = rows_of(run(file, "r"))
    found = verify(folder, blocks=10, seed=1, code=[str(file.parent)])
    assert not found.wrong
    assert found.values > 0
    with pytest.raises(RefusedError, match=r"truth\.residual_variance"):
        run(edited(file, ("residual_variance = 0.7", "residual_variance = 0.8")), "r")
    part = next((folder / "replicates").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(RefusedError):
        run(file, "r")
    pd.testing.assert_frame_equal(rows_of(run(file, "r", repair=True)), whole)


def test_sums_give_the_measures_of_replicates(file: Path) -> None:
    """Of mixed models: functions need replicates."""
    first, last = STUDY.index('[[method]]\nname = "means"'), len(STUDY)
    model = (STUDY[first:last], '[[method]]\nname = "reml"\ndf = "between-within"\n')
    few = ("replications = 24", "replications = 6")
    rows = run(edited(file, model, few), "rows").summary()
    sums = run(edited(file, model, (few[0], f'{few[1]}\nkeep = "summary"')), "sums").summary()
    both = rows.merge(sums, on=["condition", "method", "estimand", "measure", "subset"], suffixes=("", "_sums"))
    assert len(both) == len(sums)
    assert {"bias", "power", "cover"} <= set(both["measure"])
    np.testing.assert_allclose(both["value_sums"], both["value"], rtol=1e-6, atol=1e-9)


def test_a_rule_ends_each_condition(file: Path) -> None:
    rule = 'replications = { target_mcse = 0.045, measure = "power", estimand = "treat", min = 100, max = 150 }'
    results = run(edited(file, ("replications = 24", rule)), "r")
    found = results.stopping()
    assert set(found["replications"]) <= set(range(100, 151))
    assert len(found) == 2


def test_a_condition_whose_fits_fail_ends_early(file: Path) -> None:
    bad = CODE + "\n\ndef broken(frame):\n    raise ValueError(len(frame))\n"
    (file.parent / "of_schools.py").write_text(bad)
    path = edited(
        file,
        ("of_schools:first_class", "of_schools:broken"),
        ("replications = 24", "replications = 150\nmax_failed = 0.2"),
    )
    results = run(path, "r")
    ends = results.manifest["ended_early"]
    assert [(end["condition"], end["method"], end["replications"], end["failed"]) for end in ends] == [
        (0, "first", 100, 100),
        (1, "first", 100, 100),
    ]


# -- priors -----------------------------------------------------------------------------------------------------------------


def test_priors_of_an_icc_a_variance_and_an_effect(file: Path) -> None:
    prior = """
[prior]
"icc.school" = { distribution = "beta", mean = 0.2, sd = 0.05 }
"truth.fixed.treat" = { distribution = "normal", mean = 0.7, sd = 0.2 }
"truth.random.class.variance.Intercept" = { distribution = "uniform", low = 0.05, high = 0.15 }
"""
    path = edited(file, ("[grid]", f"{prior}\n[grid]"), ("[truth.random.school]\nvariance = { Intercept = 0.2 }\n", ""))
    results = run(path, "r")
    rows = results.replicates(condition=0, method="means")
    drawn = rows[["prior.icc.school", "prior.truth.random.class.variance.Intercept", "prior.truth.fixed.treat"]]
    assert (drawn.nunique() == 24).all()
    icc, variance, effect = (drawn[name].to_numpy() for name in drawn)
    study = nl.Study.from_toml(path)
    frame = study.data(0, 3, truth=True)
    assert frame["true.treat"].unique() == pytest.approx([effect[3]])
    made = 1 + effect[3] * frame["treat"] + 0.2 * frame["x"]
    made += frame["u:school:Intercept"] + frame["u:class:Intercept"] + frame["e"]
    np.testing.assert_allclose(frame["y"], made, rtol=1e-12)
    school = icc / (1 - icc) * (variance + 0.7)
    spread = [study.data(0, r, truth=True)["u:school:Intercept"].to_numpy().std() for r in range(24)]
    assert np.corrcoef(spread, np.sqrt(school))[0, 1] > -0.5  # eight schools tell little; the values are below
    condition = study.conditions[0]
    from nestlab.run.block import compile_condition

    truths = compile_condition(condition, study.methods).draw(0).truths
    assert truths is not None
    np.testing.assert_allclose(truths.covariance[0][0][:24], school, rtol=1e-12)
    assert "power_sd" in set(results.summary()["measure"])


# -- for people -------------------------------------------------------------------------------------------------------------


def test_summary_compare_plots_and_report(file: Path) -> None:
    results = run(file, "r")
    folder = file.parent / "r"
    said = cli("summary", folder)[1]
    assert "icc given all predictors: school 0.2, class 0.1" in said
    assert "effect of treat 0.7 raw" in said
    compared = results.compare("means")
    assert {"power", "bias"} <= set(compared["measure"])
    picture = results.plot.power(x="clusters.class")
    assert picture.get_xlabel() == "Number of classes"
    text = results.report().read_text(encoding="utf-8")
    for words in (
        "8 schools of 2 classes of 3 rows. Every class lies in one school.",
        "treat has a value for each level of school and is 0 or 1, 1 in half of the schools",
        "x varies by row",
        "sum over grouping factors f of z_fi",
        "intercept variance of school / (all intercept variances + residual variance)",
    ):
        assert words in text, words
