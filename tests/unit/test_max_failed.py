"""max_failed: conditions that end early because a method fails too often, always at the same place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.status import Status
from nestlab.measure.intervals import wilson
from nestlab.run.parts import CHECKPOINTS, Part, Tally
from nestlab.run.series import LEVEL, end_of
from nestlab.run.telling import Quiet
from nestlab.show.cli import app

#: A predictor that is 0 in every row: such fits are rank deficient.
HOPELESS: dict[str, Any] = {
    "name": "hopeless",
    "seed": 5,
    "replications": 700,
    "max_failed": 0.2,
    "design": {"clusters": 8, "cluster_size": 3},
    "grid": {"predictors.x.share": [1e-12, 0.5]},
    "truth": {
        "formula": "y ~ 1 + x + (1 | school)",
        "fixed": {"Intercept": 2, "x": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.5}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "binary", "share": 0.5}},
}

#: Fails by the data: for a quarter of them, at random.
FUNCTION = """
def fit(frame):
    if frame["y"].mean() > 2.3:
        raise ValueError("too large")
    return {"Intercept": frame["y"].mean()}
"""


def counted(status: np.ndarray, cuts: list[int]) -> list[Part]:
    """Parts of replicates with these statuses, cut at some places."""
    found = []
    for first, last in zip([0, *cuts], [*cuts, len(status)], strict=True):
        columns = {"replicate": np.arange(first, last), "status": status[first:last]}
        entry = {"condition": 0, "method": "m", "result_key": "k", "first": first, "last": last, "sha256": "0" * 64}
        found.append(
            Part.from_entry("x.parquet", {**entry, **json.loads(json.dumps(Tally.of(columns).entry()))}, where="test")
        )
    return found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_end_does_not_depend_on_the_cut_of_parts(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    status = np.where(rng.random(5000) < share, Status.not_converged, Status.ok)
    ends = {end_of(counted(status, sorted(rng.integers(1, 5000, k).tolist())), 0.15, 5000) for k in (0, 1, 3, 8)}
    for cuts in ([100], [99, 101], [200, 400, 800], [64 * k for k in range(1, 78)]):
        ends.add(end_of(counted(status, cuts), 0.15, 5000))
    (end,) = ends
    checks = [c for c in CHECKPOINTS if c < 5000]
    failed = {c: int((status[:c] > Status.singular).sum()) for c in checks}
    expected = next(((c, n) for c, n in failed.items() if wilson(n, c, LEVEL)[0] > 0.15), None)
    assert end == expected


def test_end_waits_for_a_prefix_without_gaps() -> None:
    status = np.full(1000, Status.nonfinite)
    parts = counted(status, [50, 100, 300])
    assert end_of(parts, 0.5, 1000) == (100, 100)
    assert end_of(parts[1:], 0.5, 1000) is None
    assert end_of([parts[0], *parts[2:]], 0.5, 1000) is None
    assert end_of(parts, 0.5, 100) is None, "it would have been the end anyway"


def test_no_failure_is_too_many_at_zero() -> None:
    status = np.full(1000, Status.singular)
    assert end_of(counted(status, []), 0.0, 1000) is None
    status[250] = Status.not_converged
    assert end_of(counted(status, []), 0.0, 1000) == (400, 1)


class StopAfter(Quiet):
    def __init__(self, fits: int) -> None:
        self.left = fits

    def advance(self, fits: int) -> None:
        self.left -= fits
        if self.left < 0:
            raise KeyboardInterrupt


def test_hopeless_condition_ends_early_and_everything_says_so(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(nl.Study.from_dict(HOPELESS).text)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    said = "condition 0, reml: ended after 100 of 700: 100.0 % failed (max_failed = 0.2)"
    assert said in " ".join(done.stdout.split())
    results = nl.Results(tmp_path / "r")
    assert results.missing() == 0
    frame = results.replicates()
    assert dict(frame.groupby("condition").size()) == {0: 100, 1: 700}
    summary = results.summary()
    flags = dict(summary[["condition", "flag"]].drop_duplicates().itertuples(index=False))
    assert flags == {0: "ended after 100 of 700: 100.0 % failed (max_failed = 0.2)", 1: ""}
    assert set(summary.query("measure == 'failed' and condition == 0")["n"]) == {100}
    (end,) = results.manifest["ended_early"]
    assert end == {
        "condition": 0, "method": "reml", "replications": 100, "asked": 700, "failed": 100, "max_failed": 0.2,
    }  # fmt: skip
    status = CliRunner().invoke(app, ["status", str(tmp_path / "r")])
    assert status.exit_code == 0
    assert f"ended     {said}" in status.stdout
    assert "done      800 of 800 fits (100 %), 2 conditions complete" in status.stdout
    assert "failed    rank_deficient 100 (12.5 %) of 800 fits" in status.stdout, "nothing beyond the end counts"
    shown = CliRunner().invoke(app, ["summary", str(tmp_path / "r"), "--measure", "failed"])
    assert shown.stdout.count("ended after") == 1, "a flag is no factor"
    assert f"flagged: {said.split(': ', 1)[0]}: {said.split(': ', 1)[1]}" in shown.stdout


def test_what_was_made_beyond_the_end_is_kept_and_not_measured(tmp_path: Path) -> None:
    """The limit comes after the run; without it all replicates are there again."""
    free = {key: value for key, value in HOPELESS.items() if key != "max_failed"}
    before = nl.Study.from_dict(free).run(out=tmp_path / "r")
    whole, table = before.replicates(), before.summary()
    limited, report = nl.Study.from_dict(HOPELESS).execute(out=tmp_path / "r")
    assert report.made == 0
    assert [(e.condition, e.replications) for e in report.ended] == [(0, 100)]
    assert dict(limited.replicates().groupby("condition").size()) == {0: 100, 1: 700}
    assert set(limited.summary().query("condition == 0 and measure == 'failed'")["n"]) == {100}
    again, report = nl.Study.from_dict(free).execute(out=tmp_path / "r")
    assert (report.made, report.ended) == (0, ())
    assert_frame_equal(again.replicates(), whole, check_exact=True)
    assert_frame_equal(again.summary(), table, check_exact=True)


def partly(tmp_path: Path) -> nl.Study:
    """Two methods of which one fails for a share of the data, in one of two conditions."""
    (tmp_path / "own_means.py").write_text(FUNCTION)
    study = {
        **HOPELESS, "name": "partly", "replications": 500, "max_failed": 0.05, "grid": {"truth.fixed.Intercept": [2, 0]},
        "design": {"clusters": 12, "cluster_size": 3},
        "method": [{"name": "reml"}, {"name": "own", "estimator": "function", "function": "own_means:fit"}],
    }  # fmt: skip
    path = tmp_path / "partly.toml"
    path.write_text(nl.Study.from_dict(study).text)
    return nl.Study.from_toml(path)


def test_one_method_ends_early_wherever_the_run_is_cut(tmp_path: Path) -> None:
    study = partly(tmp_path)
    one = study.run(out=tmp_path / "one", jobs=1, allow_code=True)
    (end,) = one.manifest["ended_early"]
    assert (end["condition"], end["method"]) == (0, "own")
    assert end["replications"] in (100, 200, 400)
    assert 0 < end["failed"] < end["replications"], "some fail, not all"
    with pytest.raises(KeyboardInterrupt):
        study.run(out=tmp_path / "two", jobs=2, allow_code=True, progress=StopAfter(1130))
    two, report = study.execute(out=tmp_path / "two", jobs=2, allow_code=True)
    assert two.manifest["ended_early"] == one.manifest["ended_early"]
    assert_frame_equal(one.replicates(), two.replicates(), check_exact=True)
    assert_frame_equal(one.summary(), two.summary(), check_exact=True)
    sizes = one.replicates().groupby(["condition", "method"]).size().to_dict()
    assert sizes == {(0, "reml"): 500, (0, "own"): end["replications"], (1, "reml"): 500, (1, "own"): 500}
    common = one.summary().query(
        "subset == 'common' and condition == 0 and measure == 'mean' and estimand == 'Intercept'"
    )
    assert set(common["n"]) == {end["replications"] - end["failed"]}, "paired on what both have"
    assert report.made > 0


@pytest.mark.parametrize("where", ["study", "method"])
def test_limit_of_a_method_comes_before_that_of_the_study(where: str) -> None:
    tables = {**HOPELESS, "method": [{"name": "a", "max_failed": 0.5}, {"name": "b", "reml": False}]}
    if where == "method":
        del tables["max_failed"]
    assert [m.max_failed for m in nl.Study.from_dict(tables).methods] == [0.5, 0.2 if where == "study" else None]


def test_limit_changes_no_key() -> None:
    from nestlab.run.plan import method_content
    from nestlab.spec.identity import data_key, result_key

    free = nl.Study.from_dict({key: value for key, value in HOPELESS.items() if key != "max_failed"})
    limited = nl.Study.from_dict(HOPELESS)
    keys = [[result_key(data_key(c), m) for c in s.conditions for m in s.methods] for s in (free, limited)]
    assert keys[0] == keys[1]
    assert method_content(free.methods[0]) == method_content(limited.methods[0])


@pytest.mark.parametrize("value", [1, 1.0, -0.1, "0.2", True])
def test_limit_refused(value: Any) -> None:
    with pytest.raises(nl.StudyError, match=r"max_failed = .*must be a number from 0 to 1, 1 not included"):
        nl.Study.from_dict({**HOPELESS, "max_failed": value})


def test_share_above_the_limit_is_flagged_where_it_is_not_clear_enough_to_end(tmp_path: Path) -> None:
    study = partly(tmp_path)
    results = study.run(out=tmp_path / "r", replications=100, allow_code=True)
    failed = int((results.replicates().query("condition == 0 and method == 'own'")["status"] == "method_error").sum())
    assert failed > 5
    flags = results.summary().query("condition == 0 and method == 'own'")["flag"].unique()
    assert list(flags) == [f"{failed:.1f} % of 100 failed (max_failed = 0.05)"]
    assert isinstance(results.summary(), pd.DataFrame)
