"""Studies whose replicates have rows of their own: what is stored of them, and that workers change nothing."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.run.block import compile_condition
from nestlab.run.observed import observed_line
from nestlab.simulate.gram import respond
from nestlab.simulate.long import LongSampler

STUDY = {
    "name": "observed",
    "seed": 4,
    "replications": 600,
    "design": {"clusters": 9, "cluster_size": {"distribution": "poisson", "mean": 6, "minimum": 2}},
    "truth": {
        "formula": "y ~ 1 + time + x + (1 | person)",
        "fixed": {"Intercept": 1, "time": 0.2, "x": 0.5},
        "residual_variance": 1,
        "errors": {"distribution": "t", "df": 5, "ar1": 0.3},
        "random": {"person": {"variance": {"Intercept": 0.5}}},
    },
    "predictors": {
        "time": {"level": 1, "distribution": "time"},
        "x": {"level": 1, "distribution": "gamma", "skewness": 1.5},
    },
    "missing": {"clusters": 0.2, "at_random": {"on": "previous", "intercept": -2, "slope": 0.5, "monotone": True}},
}


def study(changed, **changes):
    return nl.Study.from_dict(changed(STUDY, changes))


def stored(folder):
    return pd.concat(map(pd.read_parquet, sorted((folder / "replicates").glob("*.parquet")))).set_index("replicate")


@pytest.mark.parametrize("missing", [True, False])
def test_counts_are_stored_where_they_can_differ(changed, tmp_path, missing):
    made = study(changed, missing=STUDY["missing"] if missing else {})
    made.run(out=tmp_path / "r", jobs=2)
    frame = stored(tmp_path / "r")
    assert frame[["rows", "clusters"]].dtypes.tolist() == [np.int32, np.int32]
    for replicate in (0, 17, 599):
        rows = made.data(0, replicate)
        assert frame.loc[replicate, "rows"] == len(rows)
        assert frame.loc[replicate, "clusters"] == rows.person.nunique()
    assert frame["rows"].nunique() > 10
    assert (frame["clusters"] < 9).any() == missing
    assert nl.Results(tmp_path / "r").replicates()["rows"].tolist() == frame["rows"].tolist()


def test_an_axis_called_clusters_stands_beside_the_number_observed(changed, tmp_path):
    results = study(changed, grid={"clusters": [4, 9]}, replications=40).run(out=tmp_path / "r", jobs=1)
    frame = results.replicates()
    assert frame.groupby("condition")["clusters"].unique().map(list).tolist() == [[4], [9]]
    assert (frame["observed.clusters"] <= frame["clusters"]).all()
    assert (frame["observed.clusters"] < frame["clusters"]).any()
    for replicate in (0, 39):
        rows = results.data(1, replicate)
        assert frame.query("condition == 1")["observed.clusters"].iloc[replicate] == rows.person.nunique()
    assert results.report(tmp_path / "report.html").exists()


def test_other_studies_have_no_such_columns(slope, tmp_path):
    results = nl.Study.from_dict(slope).run(out=tmp_path / "r", replications=20)
    assert not {"rows", "clusters"} & set(stored(tmp_path / "r"))
    assert results.observed().empty


def test_counts_are_summarised(changed, tmp_path):
    made = study(changed, grid={"missing.clusters": [0.0, 0.4]})
    results = made.run(out=tmp_path / "r", replications=300)
    counts, frame = results.observed(), stored(tmp_path / "r")
    for number, row in counts.set_index("condition").iterrows():
        own = frame[frame.condition == number]
        assert row["n"] == 300
        for name in ("rows", "clusters"):
            found = row[[name, f"{name}_mcse", f"{name}_min", f"{name}_max"]].tolist()
            np.testing.assert_allclose(found, [own[name].mean(), own[name].sem(), own[name].min(), own[name].max()])
    fewest, most = counts.iloc[1], counts.iloc[0]
    line = observed_line(counts)
    assert line.startswith(f"rows analysed: {fewest.rows:,.1f} ({fewest.rows_mcse:.2g}) on average")
    assert line.endswith(f"in {most.clusters:,.1f} clusters (condition 0)")
    done = subprocess.run(
        [sys.executable, "-m", "nestlab", "summary", str(tmp_path / "r")], capture_output=True, text=True, check=False
    )
    assert line in " ".join(done.stdout.split()), done.stderr
    page = results.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"R{line[1:]}." in page


def test_conditions_that_lose_nothing_have_their_counts_beside_others(changed, tmp_path):
    made = study(changed, missing={"hazard": 0.3}, **{"design/cluster_size": 5, "grid": {"missing.hazard": [0.0, 0.3]}})
    made.run(out=tmp_path / "r", replications=50)
    frame = stored(tmp_path / "r")
    assert (frame.loc[frame.condition == 0, "rows"] == 45).all()
    assert (frame.loc[frame.condition == 1, "rows"] < 45).all()


def test_workers_and_parts_change_nothing(changed, tmp_path):
    made = study(changed)
    made.run(out=tmp_path / "one", jobs=1)
    made.run(out=tmp_path / "two", jobs=2, replications=137)
    made.run(out=tmp_path / "two", jobs=2)
    pd.testing.assert_frame_equal(stored(tmp_path / "one"), stored(tmp_path / "two"), check_exact=True)


def test_simulate_command_writes_observed_rows(changed, tmp_path):
    made = study(changed)
    (tmp_path / "s.toml").write_text(made.text)
    line = [
        sys.executable,
        "-m",
        "nestlab",
        "simulate",
        "s.toml",
        "--condition",
        "0",
        "--replicate",
        "5",
        "--out",
        "a.csv",
    ]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(frame, made.data(0, 5), check_exact=True)
    places = frame.groupby("person").time.apply(list)
    assert all(place == list(range(len(place))) for place in places)  # dropout: first rows stay
    assert set(places.index) <= set(range(1, 10))


def test_replicates_with_truths_of_their_own(changed):
    """Priors on the rows path: the draw, its rows and the stored truths are of one kind."""
    prior = {"distribution": "normal", "mean": 0.5, "sd": 0.3}
    made = study(changed, prior={"truth.fixed.x": prior, "icc": {"distribution": "beta", "mean": 0.2, "sd": 0.1}})
    work = compile_condition(made.conditions[0], made.methods)
    assert isinstance(work.source.sampler, LongSampler)
    draw = work.draw(0)
    assert draw.truths is not None
    truth = work.condition.truth
    gram = respond(draw, work.source.design, dict(zip(truth.formula.fixed, truth.fixed, strict=True)), [()])
    for replicate in (0, 9):
        rows, frame = work.source.rows(replicate), work.frame(replicate, truth=True)
        assert rows.fixed[2] == draw.truths.fixed[2][replicate] == frame["true.x"].iloc[0]
        fixed = 1 + 0.2 * frame.time + frame["true.x"] * frame.x
        np.testing.assert_allclose(frame.y, fixed + frame["u:Intercept"] + frame.e, rtol=1e-10)
        np.testing.assert_allclose(gram.yy[:, replicate].sum(), frame.y @ frame.y, rtol=1e-9)
    assert np.ptp(draw.truths.covariance[0][0]) > 0.1


def test_other_programs_get_the_observed_rows(changed):
    """statsmodels' MixedLM, on the rows of each replicate, gives the estimates of the Gram's fit."""
    tables = changed(STUDY, {"method": [{"name": "gram"}, {"name": "rows", "estimator": "statsmodels", "df": "z"}]})
    made = nl.Study.from_dict(tables)
    gram, rows = compile_condition(made.conditions[0], made.methods).replicates(0, 6)
    ok = (gram["status"] == 0) & (rows["status"] == 0)
    assert ok.sum() >= 3
    for name in ("estimate.x", "estimate.time", "estimate.var:residual"):
        np.testing.assert_allclose(rows[name][ok], gram[name][ok], rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(rows["rows"], gram["rows"])


def test_rows_one_after_the_other_are_those_drawn_alone(changed):
    """A walk through a block gives what each replicate gives by itself, in any order."""
    made = study(changed)

    def work():
        return compile_condition(made.conditions[0], made.methods)

    walking = work()
    size = made.conditions[0].block_size
    for replicate in (3, 4, 5, size - 1, size, size + 1, 4, 5, 5, size + 2):
        pd.testing.assert_frame_equal(walking.frame(replicate), work().frame(replicate), check_exact=True)
