"""keep = "summary": sums are stored in the place of replicates, and all that follows from them is the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.measure.performance import UNAVAILABLE
from nestlab.run import plan, reduce
from nestlab.run.store import Store
from nestlab.show.cli import app
from nestlab.show.plots.kinds import applicable
from nestlab.spec import paths

NUMBERS = ["value", "mcse", "lower", "upper", "bound_lower", "bound_upper"]

FEATURES: dict[str, Any] = {
    "name": "features",
    "seed": 8,
    "replications": 1100,
    "design": {"clusters": 8, "cluster_size": 5},
    "grid": {"truth.fixed.x": [0.0, 0.5]},
    "truth": {
        "formula": "y ~ 1 + x + arm + (1 + x | school)",
        "fixed": {"Intercept": 2e5, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.4, "x": 0.1}, "correlation": {"Intercept:x": 0.3}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "arm": {"level": 2, "distribution": "balanced"},
    },
    "method": [
        {"name": "reml", "df": ["satterthwaite", "between-within"]},
        {"name": "ml", "reml": False, "df": "z", "variance_intervals": "wald", "alpha": 0.1},
        {"name": "simple", "formula": "y ~ x + arm + (1 | school)", "reml": False, "compare": "y ~ x + (1 | school)"},
    ],
    "contrast": [
        {"name": "both", "weights": {"x": 1, "arm": 1}, "null": 0.2, "alternative": "greater"},
        {"name": "same", "weights": {"arm": 1}, "test": "equivalence", "margin": 1.5},
        {"name": "joint", "weights": [{"x": 1}, {"arm": 1}]},
    ],
}


def ran(tables: dict[str, Any], out: Path, **changes: Any) -> Path:
    nl.Study.from_dict({**tables, **changes}).run(out=out, jobs=1)
    return out


def cli(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def sums(folder: Path) -> list[Path]:
    return sorted((folder / "sums").glob("*.parquet"))


def stored(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "summary.parquet")


def assert_same_measures(kept: Path, whole: Path) -> None:
    """Every row of the replicates' summary but those that sums do not hold, to 1e-10."""
    a, b = stored(kept), stored(whole)
    b = b[~b["measure"].isin(UNAVAILABLE)].reset_index(drop=True)
    assert len(a) > 100
    assert_frame_equal(a.drop(columns=NUMBERS), b.drop(columns=NUMBERS))
    scale = pd.Series(1e-3, index=b.index).mask(b["measure"].isin(["relbias", "relerror", "relprec"]), 100.0)
    means = b[b["measure"] == "mean"].set_index(["condition", "method", "estimand", "subset"])["value"].abs()
    own = pd.MultiIndex.from_frame(b[["condition", "method", "estimand", "subset"]])
    mean = means.reindex(own).fillna(0.0).to_numpy()
    scale = scale.mask(b["measure"] == "bias", mean)  # a difference from the truth: of a mean of 2e5 to its last digit
    for name in NUMBERS:
        assert (a[name].isna() == b[name].isna()).all(), name
        away = (a[name] - b[name]).abs() / np.maximum(b[name].abs(), scale if name == "value" else 1e-3)
        assert not (away > 1e-10).any(), b[away > 1e-10].assign(away=away)


def test_every_measure_of_a_study_is_that_of_its_replicates(tmp_path: Path) -> None:
    """Several rules of df, contrasts of every kind, a likelihood ratio test, Wald intervals, unlike models, a mean of 2e5."""
    kept = ran(FEATURES, tmp_path / "kept", keep="summary")
    whole = ran(FEATURES, tmp_path / "whole")
    assert_same_measures(kept, whole)
    assert not (kept / "replicates").exists()
    assert len(sums(kept)) >= 2 * 3  # more where the machine was slow
    measures = set(stored(kept)["measure"])
    assert {"relprec", "type_s", "type_m", "relerror", "width", "inference_failed"} <= measures


def test_truths_of_their_own_with_a_part_of_one_replicate(tmp_path: Path) -> None:
    """Priors: errors about each replicate's truth, derived ones included; the last part shows no spread of truths."""
    tables = {**FEATURES, "grid": {"clusters": [8]}, "method": FEATURES["method"][:1], "replications": 513}
    tables = {k: v for k, v in tables.items() if k != "contrast"}
    tables["prior"] = {
        "truth.fixed.x": {"distribution": "normal", "mean": 0.4, "sd": 0.2},
        "icc": {"distribution": "uniform", "low": 0.1, "high": 0.4},
    }
    tables["truth"] = {**tables["truth"], "fixed": {"Intercept": 2, "arm": 0.5}}
    kept = ran(tables, tmp_path / "kept", keep="summary", replications=512)
    ran(tables, kept, keep="summary")
    assert [path.stem[-19:] for path in sums(kept)] == ["000000000-000000512", "000000512-000000513"]
    assert_same_measures(kept, ran(tables, tmp_path / "whole"))
    assert "power_sd" in set(stored(tmp_path / "whole")["measure"])
    text = cli("summary", kept).stdout
    assert "averaged over the prior" in text
    assert "quantiles of the power" not in text


def test_methods_on_rows(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """A Python method runs in processes, with the others of the study."""
    two_arms |= {"replications": 12, "grid": {"icc": [0.2]}}
    two_arms["method"] = [{"name": "reml"}, {"name": "mixedlm", "estimator": "statsmodels"}]
    kept = ran(two_arms, tmp_path / "kept", keep="summary")
    assert_same_measures(kept, ran(two_arms, tmp_path / "whole"))
    job = plan.Job(0, nl.Study.from_dict(two_arms).conditions[0], ("k",), 200)
    tasks = plan.cut([plan.Task(job, (0, 1), 0, 200, by_rows=True, sums=(0, 1))], plan.Pace())
    assert [task.last for task in tasks] == [64, 128, 192, 200], "a leaf at a time"


def test_other_estimators_and_uneven_clusters(two_arms: dict[str, Any], tmp_path: Path) -> None:
    """Methods that have no residual variance, a selection, GEE, and clusters of drawn sizes."""
    two_arms |= {"replications": 130, "grid": {"icc": [0.2]}}
    two_arms["design"] = {"clusters": 12, "cluster_size": {"distribution": "poisson", "mean": 6}}
    two_arms["method"] = [
        {"name": "reml", "df": ["satterthwaite", "kenward-roger"]},
        {"name": "gls", "estimator": "gls"},
        {"name": "means", "estimator": "cluster-means"},
        {"name": "ols", "estimator": "ols"},
        {"name": "chosen", "reml": False, "compare": "y ~ 1 + (1 | school)", "select": "lrt"},
    ]
    kept = ran(two_arms, tmp_path / "kept", keep="summary")
    assert_same_measures(kept, ran(two_arms, tmp_path / "whole"))
    assert "selected" in set(stored(kept)["measure"])


@pytest.fixture
def small(two_arms: dict[str, Any]) -> dict[str, Any]:
    """Two conditions, two methods, ten blocks and a piece of one."""
    return {**two_arms, "grid": {"icc": [0.05, 0.3]}, "replications": 5200, "keep": "summary"}


def test_workers_chunks_and_cuts_change_no_bit(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stored(ran(small, tmp_path / "whole"))
    assert len(sums(tmp_path / "whole")) == 4
    monkeypatch.setattr(plan, "TASK_SECONDS", 1e-6)
    monkeypatch.setattr(plan, "SUMS_PARTS", 10**6)
    monkeypatch.setattr(reduce, "CHUNK", 512)
    nl.Study.from_dict(small).run(out=tmp_path / "cut", jobs=3)
    assert len(sums(tmp_path / "cut")) == 4 * 11
    assert_frame_equal(stored(tmp_path / "cut"), whole, check_exact=True)


def test_blocks_smaller_than_leaves_and_a_start_within_one(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 16, extended from 1000: parts and chunks end at leaves."""
    monkeypatch.setattr(paths, "MOST_BLOCK", 16)
    folders = [ran(small, tmp_path / name, replications=1000) for name in ("one", "cut")]
    ran(small, folders[0], replications=2100)
    monkeypatch.setattr(plan, "TASK_SECONDS", 1e-6)
    monkeypatch.setattr(plan, "SUMS_PARTS", 10**6)
    monkeypatch.setattr(reduce, "CHUNK", 200)
    ran(small, folders[1], replications=2100)
    assert len(sums(folders[1])) > 2 * len(sums(folders[0]))
    monkeypatch.setattr(plan, "TASK_SECONDS", 0.5)
    folders.append(ran(small, tmp_path / "chunks", replications=1000))
    ran(small, folders[2], replications=2100)
    for folder in folders[1:]:
        assert_frame_equal(stored(folder), stored(folders[0]), check_exact=True)


def test_parts_are_few_however_many_replicates_there_are() -> None:
    """The plan of 10 million and of a billion replicates: some hundred parts, whole subtrees of the tree of sums."""
    for replications in (10**7, 10**9):
        study = nl.Study.from_dict({**FEATURES, "grid": {"truth.fixed.x": [0]}})
        job = plan.Job(0, study.conditions[0], ("k",), replications)
        tasks = list(plan.cut([plan.Task(job, (0,), 0, replications, sums=(0,))], plan.Pace()))
        assert len(tasks) < 600
        assert [t.first for t in tasks[1:]] == [t.last for t in tasks[:-1]]
        assert (tasks[0].first, tasks[-1].last) == (0, replications)
        for task in tasks[:-1]:
            size = task.last - task.first
            assert size & (size - 1) == 0
            assert task.first % size == 0


def test_what_is_missing_of_one_method_is_made_again_bit_for_bit(small: dict[str, Any], tmp_path: Path) -> None:
    """Killed between the parts of two methods: both are fitted, for what they have in common, and one is written."""
    folder = ran(small, tmp_path / "r")
    before, lost = stored(folder), sums(folder)[1]
    bits = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sums(folder)}
    lost.unlink()
    results = nl.Results(folder)
    assert results.missing() == 5200
    assert results.summary().query("condition == 0").empty, "measures of what both methods have"
    _, report = nl.Study.from_dict(small).execute(out=folder)
    assert report.made == 2 * 5200
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sums(folder)}
    assert {k: v for k, v in after.items() if k != lost.name} == {k: v for k, v in bits.items() if k != lost.name}
    assert after[lost.name][0] == bits[lost.name][0]
    assert_frame_equal(stored(folder), before, check_exact=True)


def test_killed_while_writing_and_resumed_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    """SIGKILL of the process group; finished parts are kept as they are."""
    study = tmp_path / "long.toml"
    study.write_text('keep = "summary"' + killing.STUDY.format(replications=15_000))
    words = ("run", study, "--out", tmp_path / "killed", "--jobs", 2)
    kill_after_parts(words, tmp_path / "killed", 1)
    found = {path.name: path.read_bytes() for path in sums(tmp_path / "killed")}
    assert cli(*words).exit_code == 0
    kept = {path.name: path.read_bytes() for path in sums(tmp_path / "killed")}
    assert {name: kept[name] for name in found} == found
    nl.Study.from_toml(study).run(out=tmp_path / "whole")
    assert_frame_equal(stored(tmp_path / "killed"), stored(tmp_path / "whole"), check_exact=True)
    assert not list((tmp_path / "killed").rglob(".*"))


def kill_after_parts(words: tuple[object, ...], folder: Path, parts: int) -> None:
    before = len(sums(folder))
    process = killing.start(words)
    while process.poll() is None and len(sums(folder)) < before + parts:
        time.sleep(0.001)
    assert process.poll() is None, "killed while it runs"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def test_extended_at_a_block_equals_a_run_of_all_and_elsewhere_to_rounding(
    small: dict[str, Any], tmp_path: Path
) -> None:
    direct = ran(small, tmp_path / "direct", replications=2048)
    extended = ran(small, tmp_path / "extended", replications=1024)
    _, report = nl.Study.from_dict({**small, "replications": 2048}).execute(out=extended)
    assert report.made == 4 * 1024
    assert_frame_equal(stored(extended), stored(direct), check_exact=True)
    uneven = ran(small, tmp_path / "uneven", replications=1000)
    ran(small, uneven, replications=2048)
    assert_frame_equal(stored(uneven), stored(direct), rtol=1e-10, atol=1e-12)


# -- refusals ----------------------------------------------------------------------------------------------------------------


REML, ML = {"name": "reml", "df": "between-within"}, {"name": "ml", "reml": False}
CONTRASTS = "; ".join(f'method.{m}.tests: stored {{}}, now {{"c": [0.0, "two-sided", null]}}' for m in ("reml", "ml"))


def refused(study: dict[str, Any], folder: Path) -> str:
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(nl.RefusedError) as error:
        nl.Study.from_dict(study).run(out=folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    return str(error.value)


def test_fewer_replicates_cannot_be_taken_out_of_sums(small: dict[str, Any], tmp_path: Path) -> None:
    folder = ran(small, tmp_path / "r", replications=1000)
    assert refused({**small, "replications": 600}, folder) == (
        f"replications = 600: {folder} keeps sums, out of which fewer replicates can't be taken (condition 0: 0 to 999 are "
        "in one part); ask for 1000 or more, or use --out"
    )
    store = Store(folder)
    study = nl.Study.from_dict(small)
    jobs = plan.make_jobs(study.conditions[:1], [0], study.methods, {0: 600})
    with pytest.raises(nl.RefusedError, match="ask for 1000 or more"):
        list(plan.plan_tasks(store, jobs, study.methods))
    ran(small, folder, replications=1500)
    direct = stored(ran(small, tmp_path / "direct", replications=1000))
    ran(small, folder, replications=1000)
    assert_frame_equal(stored(folder), direct, check_exact=True)


def test_replicates_and_sums_are_not_mixed(small: dict[str, Any], tmp_path: Path) -> None:
    kept = ran(small, tmp_path / "kept", replications=100)
    whole = ran(small, tmp_path / "whole", replications=100, keep="replicates")
    assert refused({**small, "keep": "replicates"}, kept) == (
        f'{kept} holds sums, and the study has keep = "replicates"; a folder holds one of both: write '
        'keep = "summary", or use --out'
    )
    assert refused(small, whole).startswith(f'{whole} holds replicates, and the study has keep = "summary"; a folder')


@pytest.mark.parametrize("entry", [7, {"version": 2}, {"version": 1, "methods": [3]}])
def test_sums_of_another_version_are_refused(small: dict[str, Any], tmp_path: Path, entry: Any) -> None:
    folder = ran(small, tmp_path / "r", replications=100)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sums": entry}))
    assert "can't be changed afterwards: sums.version: stored" in refused({**small, "replications": 100}, folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("kind", "pickle", "holds no sums (KeyError('pickle'))"),
        ("last", 64, "holds other replicates than the manifest says"),
        ("n", "many", "holds no sums (ValueError("),
    ],
)
def test_a_forged_part_is_refused(small: dict[str, Any], tmp_path: Path, column: str, value: Any, message: str) -> None:
    """With the right checksum: a folder may come from anybody."""
    folder = ran(small, tmp_path / "r", replications=100)
    part = sums(folder)[0]
    table = pq.read_table(part)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([value] * len(table))), part)
    with_checksum_of(part, folder)
    (folder / "summary.parquet").unlink()
    with pytest.raises(nl.RefusedError) as error:
        nl.Results(folder).summary()
    assert message in str(error.value)


def with_checksum_of(part: Path, folder: Path) -> None:
    """Let the manifest list a part as it is now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {"sha256": hashlib.sha256(part.read_bytes()).hexdigest(), "size": part.stat().st_size}
    manifest["parts"][part.name] |= {**found, "changed": part.stat().st_mtime_ns}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": [{**REML, "alpha": 0.1}, ML]}, "method.reml.alpha: stored 0.05, now 0.1"),
        ({"method": [REML]}, "methods: stored reml, ml, now reml"),
        ({"method": [ML, REML]}, "methods: stored reml, ml, now ml, reml"),
        ({"contrast": [{"name": "c", "weights": {"arm": 1}}]}, CONTRASTS),
    ],
)  # fmt: skip
def test_sums_of_other_methods_are_refused(
    small: dict[str, Any], tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    folder = ran(small, tmp_path / "r", replications=100)
    message = refused({**small, "replications": 100, **change}, folder)
    assert message == (
        f"{folder} keeps sums, which are of all methods together and can't be changed afterwards: {told}. Restore it, or use "
        "--out"
    )


def test_a_damaged_part_is_refused_and_repaired(small: dict[str, Any], tmp_path: Path) -> None:
    folder = ran(small, tmp_path / "r", replications=1000)
    before, part = stored(folder), sums(folder)[0]
    part.write_bytes(part.read_bytes()[:-100])
    assert "was altered or truncated since written" in refused({**small, "replications": 1000}, folder)
    _, report = nl.Study.from_dict({**small, "replications": 1000}).execute(out=folder, repair=True)
    assert report.made == 2000
    assert_frame_equal(stored(folder), before, check_exact=True)
    (folder / "manifest.json").write_text("{")
    (folder / "conditions.parquet").unlink()
    nl.Study.from_dict({**small, "replications": 1000}).run(out=folder, repair=True)
    assert_frame_equal(stored(folder), before, check_exact=True)


def test_a_part_made_with_other_methods_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    """Its name and result key are right, and what it has in common with the others is not."""
    folder = ran(small, tmp_path / "r", replications=100)
    other = ran({**small, "method": small["method"][:1]}, tmp_path / "other", replications=100)
    shutil.copy(sums(other)[0], folder / "sums" / sums(other)[0].name)
    assert sums(other)[0].name in {path.name for path in sums(folder)}
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][sums(other)[0].name] = json.loads((other / "manifest.json").read_text())["parts"][
        sums(other)[0].name
    ]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "summary.parquet").unlink()
    with pytest.raises(nl.RefusedError, match="holds sums of other methods, or of another version; remove it"):
        nl.Results(folder).summary()


REPLICATES = 'needs replicates, and keep = "summary" keeps sums of them; remove one of the two'


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"keep": "all"}, 'keep = "all": must be "replicates" or "summary"; remove it for "replicates"'),
        ({"max_failed": 0.2}, f"max_failed = 0.2: {REPLICATES}"),
        (
            {"method": [{"name": "m", "max_failed": 0.1}]},
            f"method.m.max_failed = 0.1: {REPLICATES}",
        ),
        (
            {"method": [{"name": "m", "estimator": "function", "function": "a:b"}]},
            f'method.m.estimator = "function": {REPLICATES}',
        ),
        ({"grid": {"keep": ["summary"]}}, "grid.keep"),
    ],
)  # fmt: skip
def test_study_files_that_cannot_keep_sums(small: dict[str, Any], change: dict[str, Any], line: str) -> None:
    with pytest.raises(nl.StudyError) as error:
        nl.Study.from_dict({**small, **change})
    assert any(problem.startswith(line) for problem in error.value.problems), error.value.problems


# -- what people ask for -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = {**FEATURES, "method": FEATURES["method"][:2], "replications": 200, "keep": "summary"}
    return ran(tables, tmp_path_factory.mktemp("kept") / "r")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("summary", "R", "--measure", "median"), '--measure "median": needs all estimates in order'),
        (("summary", "R", "--measure", "power_sd"), '--measure "power_sd": fits a regression to all tests and the values drawn'),
        (("table", "R", "--measure", "becover"), f'measure = "becover": {UNAVAILABLE["becover"]}'),
        (("plot", "R", "--kind", "measure", "--measure", "median"), 'measure = "median": needs all estimates in order'),
    ],
)  # fmt: skip
def test_measures_that_sums_do_not_hold_are_refused_by_name(kept: Path, words: tuple[str, ...], what: str) -> None:
    done = cli(*(str(kept) if word == "R" else word for word in words))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {what}, and sums of the replicates are kept; run the study with them into another folder: nestlab run STUDY "
        "--keep replicates --out DIR"
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("compare", "R"), "compare"),
        (("plot", "R", "--kind", "zip"), 'kind = "zip"'),
        (("plot", "R", "--kind", "estimate-se"), 'kind = "estimate-se"'),
    ],
)
def test_what_needs_replicates_is_refused(kept: Path, words: tuple[str, ...], what: str) -> None:
    done = cli(*(str(kept) if word == "R" else word for word in words))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"error: {needs(what, kept)}"


def needs(what: str, folder: Path) -> str:
    return (
        f"{what}: needs replicates, and {folder} keeps sums of them; run the study with them into another folder: nestlab run "
        "STUDY --keep replicates --out DIR"
    )


def test_results_in_python(kept: Path) -> None:
    results = nl.Results(kept)
    assert results.keeps == "summary"
    assert set(results.unavailable) == set(UNAVAILABLE)
    for ask, what in ((results.replicates, "replicates"), (results.failures, "failures"), (results.compare, "compare")):
        with pytest.raises(nl.StudyError) as error:
            ask()
        assert str(error.value) == needs(what, kept)
    assert "lollipop" in applicable(results)
    assert not {"zip", "estimate-se"} & set(applicable(results))
    assert list(results.count_failures().columns)
    assert len(results.data(1, 17)) == 40


def test_joint_power_is_refused_before_anything_is_simulated(small: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict({**small, "grid": {}})
    with pytest.raises(nl.StudyError, match="joint power: needs replicates"):
        study.solve(over="clusters", joint_power=0.8, estimand=["Intercept", "arm"], out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_solve_works_on_sums(small: dict[str, Any], tmp_path: Path) -> None:
    """The same answer as from replicates."""
    asked = {"over": "clusters", "power": 0.8, "estimand": "arm", "precision": 0.5}
    found = [
        nl.Study.from_dict({**small, "grid": {}, "keep": keep, "replications": 600})
        .solve(**asked, out=tmp_path / keep)
        .solutions[0]
        for keep in ("summary", "replicates")
    ]
    assert found[0].values == found[1].values
    assert (tmp_path / "summary" / "sums").is_dir()


def test_summary_status_table_plot_and_report_work(kept: Path, small: dict[str, Any], tmp_path: Path) -> None:
    text = " ".join(cli("summary", kept).stdout.split())
    assert f"sums of the replicates are kept; not available: {', '.join(UNAVAILABLE)}" in text
    assert "done" in cli("status", kept).stdout.lower() or "complete" in cli("status", kept).stdout.lower()
    assert cli("failures", kept).exit_code == 0
    assert cli("table", kept, "--measure", "power").exit_code == 0
    assert cli("plot", kept, "--kind", "power", "--out", tmp_path / "p.svg").exit_code == 0
    few = ran({**small, "grid": {}}, tmp_path / "few", replications=200)
    assert cli("report", few, "--out", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Sums of the replicates were kept" in page
    assert "median (needs all estimates in order)" in page
    assert "Every replicate is counted by its status" in page


def test_the_option_of_the_command_is_kept_with_the_study(tmp_path: Path) -> None:
    study = tmp_path / "s.toml"
    study.write_text(killing.STUDY.format(replications=100))
    done = cli("run", study, "--keep", "summary", "--out", tmp_path / "r")
    assert done.exit_code == 0
    assert "summary.parquet, conditions.parquet, sums/" in done.stdout
    assert 'keep = "summary"' in (tmp_path / "r" / "study.toml").read_text()
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["keep"] == "summary"
    assert cli("run", tmp_path / "r", "--replications", 150).exit_code == 0
    assert nl.Results(tmp_path / "r").keeps == "summary"
    assert cli("run", study, "--keep", "none").exit_code == 2


def test_verify_recomputes_parts_and_tells_an_altered_number(small: dict[str, Any], tmp_path: Path) -> None:
    folder = ran(small, tmp_path / "r", replications=1100)
    done = cli("verify", folder, "--blocks", 3, "--seed", 1)
    assert done.exit_code == 0, done.output
    part = next(p for p in sums(folder) if p.name.startswith("c00000"))
    table = pq.read_table(part)
    place = next(
        k
        for k, row in enumerate(table.to_pylist())
        if (row["estimand"], row["quantity"], row["subset"]) == ("arm", "power", "all")
    )
    hits = table["hits"].to_numpy().copy()
    hits[place] += 1
    changed = table.set_column(table.column_names.index("hits"), "hits", pa.array(hits))
    pq.write_table(changed, part, use_dictionary=False)
    with_checksum_of(part, folder)
    done = cli("verify", folder, "--blocks", 6, "--seed", 1)
    assert done.exit_code == 3
    assert "hits of arm power (all)" in " ".join(done.stderr.split())
