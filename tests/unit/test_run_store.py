"""The store: what it refuses, what it finds again, what it never does."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

import nestlab as nl
from nestlab.run.parts import missing_ranges
from nestlab.run.store import Part, Store


@pytest.fixture
def ran(two_arms: dict[str, Any], tmp_path: Path) -> Path:
    nl.Study.from_dict(two_arms).run(out=tmp_path / "r")
    return tmp_path / "r"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth/residual_variance": 2}, "truth.residual_variance: stored 1.0, now 2.0"),
        ({"seed": 12}, "seed: stored 11, now 12"),
        ({"design/cluster_size": 6}, "design.cluster_size: stored 5, now 6"),
        ({"truth/fixed": {"Intercept": 3, "arm": 0.5}}, "truth.fixed.Intercept: stored 2.0, now 3.0"),
        ({"predictors/arm": {"level": 2, "distribution": "normal"}}, "predictors.arm.distribution: stored 'balanced'"),
        ({"method": [{"name": "reml"}]}, "method.reml.df: stored 'between-within', now 'satterthwaite'"),
        ({"grid": {"icc": [0.1]}, "truth/residual_variance": 2}, "truth.residual_variance: stored 1.0, now 2.0"),
        ({"grid": {"clusters": [10, 12]}, "design": {"cluster_size": 7}}, "design.cluster_size: stored 5, now 7"),
    ],
)
def test_store_refuses_a_changed_study(
    ran: Path, two_arms: dict[str, Any], changed: Any, change: dict[str, Any], message: str
) -> None:
    before = tree(ran)
    with pytest.raises(nl.RefusedError, match="the study changed what stored") as refused:
        nl.Study.from_dict(changed(two_arms, change)).run(out=ran)
    assert message in str(refused.value)
    assert "--out" in str(refused.value)
    assert tree(ran) == before


@pytest.mark.parametrize(
    "change",
    [
        {"title": "another title"},
        {"method": [{"name": "reml", "df": "between-within", "alpha": 0.01}, {"name": "ml", "reml": False}]},
        {"method": [{"name": "renamed", "df": "between-within"}, {"name": "ml", "reml": False}]},
        {"grid": {"truth.fixed.arm": [0.8, 0.0], "icc": [0.3, 0.05]}},
        {"truth/random": {"school": {"variance": {"Intercept": 9}}}},
    ],
)
def test_store_keeps_what_still_means_the_same(ran: Path, two_arms: dict[str, Any], changed: Any, change: Any) -> None:
    results, report = nl.Study.from_dict(changed(two_arms, change)).execute(out=ran)
    assert report.made == 0
    assert len(results.replicates()) == 4 * 2 * 600


def test_store_renamed_method_keeps_its_rows(ran: Path, two_arms: dict[str, Any], changed: Any) -> None:
    before = nl.Results(ran).replicates(method="reml")
    methods = [{"name": "restricted", "df": "between-within"}, {"name": "ml", "reml": False}]
    after = nl.Study.from_dict(changed(two_arms, {"method": methods})).run(out=ran).replicates(method="restricted")
    assert_frame_equal(before.drop(columns="method"), after.drop(columns="method"), check_exact=True)


def test_store_alpha_changes_the_measures_only(ran: Path, two_arms: dict[str, Any], changed: Any) -> None:
    methods = [{"name": "reml", "df": "between-within", "alpha": 0.5}, {"name": "ml", "reml": False}]
    results = nl.Study.from_dict(changed(two_arms, {"method": methods})).run(out=ran)
    cover = results.summary().query("measure == 'cover' and method == 'reml' and estimand == 'arm' and subset == 'all'")
    assert (cover["value"] < 0.75).all()


@pytest.mark.parametrize("fault", ["altered", "truncated"])
def test_store_refuses_an_altered_part(ran: Path, two_arms: dict[str, Any], fault: str) -> None:
    part = sorted((ran / "replicates").iterdir())[3]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data) if fault == "altered" else bytes(data[:-100]))
    with pytest.raises(nl.RefusedError, match=f"{part.name} was altered or truncated.*remove it and run again"):
        nl.Results(ran).replicates()
    with pytest.raises(nl.RefusedError, match="altered or truncated"):
        nl.Study.from_dict(two_arms).run(out=ran)
    part.unlink()
    results, report = nl.Study.from_dict(two_arms).execute(out=ran)
    assert report.made == 600
    assert len(results.replicates()) == 4 * 2 * 600


def test_store_finds_parts_that_the_manifest_does_not_list(ran: Path, two_arms: dict[str, Any]) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    manifest["parts"] = {}
    (ran / "manifest.json").write_text(json.dumps(manifest))
    _, report = nl.Study.from_dict(two_arms).execute(out=ran)
    assert report.made == 0
    assert len(json.loads((ran / "manifest.json").read_text())["parts"]) == 8


def test_store_refuses_a_broken_unlisted_part(ran: Path, two_arms: dict[str, Any]) -> None:
    (ran / "replicates" / "c00099-x.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(nl.RefusedError, match=r"c00099-x\.parquet is not a whole part of this study"):
        nl.Study.from_dict(two_arms).run(out=ran)


def test_store_refuses_overlapping_parts(ran: Path, two_arms: dict[str, Any]) -> None:
    part = sorted((ran / "replicates").iterdir())[0]
    shutil.copy(part, part.with_name("copy-" + part.name))
    with pytest.raises(nl.RefusedError, match="hold the same replicates; remove one of them"):
        nl.Study.from_dict(two_arms).run(out=ran)


def test_store_refuses_a_broken_manifest(ran: Path, two_arms: dict[str, Any]) -> None:
    (ran / "manifest.json").write_text("{ half")
    with pytest.raises(nl.RefusedError, match=r"manifest\.json cannot be read"):
        nl.Study.from_dict(two_arms).run(out=ran)


def test_store_refuses_a_second_writer(ran: Path, two_arms: dict[str, Any]) -> None:
    with (
        Store(ran).locked(),
        pytest.raises(nl.RefusedError, match=r"being written by another run \(process \d+ of .* on "),
    ):
        nl.Study.from_dict(two_arms).run(out=ran)
    nl.Study.from_dict(two_arms).run(out=ran)


def test_store_layout_and_schema(ran: Path) -> None:
    names = {p.name for p in ran.iterdir()}
    assert names == {"study.toml", "manifest.json", "conditions.parquet", "replicates", "summary.parquet"}
    schemas = {pq.read_schema(p).remove_metadata() for p in (ran / "replicates").iterdir()}
    (schema,) = schemas
    assert schema.names == [
        *("condition", "block", "replicate", "method", "status", "singular", "iterations", "deviance"),
        *("estimate.Intercept", "estimate.arm", "estimate.var:school:Intercept", "estimate.var:residual"),
        *("se.Intercept", "se.arm", "df.Intercept", "df.arm", "inference"),
    ]
    for p in (ran / "replicates").iterdir():
        assert p.suffix == ".parquet"
    manifest = json.loads((ran / "manifest.json").read_text())
    for file, entry in manifest["parts"].items():
        assert hashlib.sha256((ran / "replicates" / file).read_bytes()).hexdigest() == entry["sha256"]
    assert {"python", "numpy", "numba"} <= manifest["software"].keys()
    assert manifest["seed"] == 11


def test_store_conditions_hold_the_truth(ran: Path) -> None:
    frame = pd.read_parquet(ran / "conditions.parquet")
    assert list(frame["icc"]) == [0.05, 0.05, 0.3, 0.3]
    np.testing.assert_allclose(frame["true.icc"], frame["icc"], rtol=1e-12)
    np.testing.assert_allclose(frame["true.var:school:Intercept"], frame["icc"] / (1 - frame["icc"]), rtol=1e-12)
    assert list(frame["true.arm"]) == [0.0, 0.8, 0.0, 0.8]
    assert (frame["path"] == "moments").all()


def test_store_study_is_as_run(two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(two_arms)
    study.run(out=tmp_path / "r", replications=40)
    assert nl.Study.from_toml(tmp_path / "r" / "study.toml").file.replications == 40
    assert nl.Study.from_toml(tmp_path / "r" / "study.toml").conditions == study.conditions


def test_store_summary_of_an_incomplete_run_uses_what_is_there(ran: Path) -> None:
    part = next(iter(sorted((ran / "replicates").glob("c00001-*"))))
    part.unlink()
    results = nl.Results(ran)
    assert results.missing() == 600
    used = results.summary().query("subset == 'all' and measure == 'converged'").set_index(["condition", "method"])["n"]
    assert len(used) == 7
    assert (used == 600).all()


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        ([], [(0, 40)]),
        ([(0, 40)], []),
        ([(0, 50)], []),
        ([(5, 10), (10, 12)], [(0, 5), (12, 40)]),
        ([(50, 60)], [(0, 40)]),
    ],
)
def test_missing_ranges(covered: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert missing_ranges(covered, 40) == expected


def test_parts_may_be_read_while_others_are_written(tmp_path: Path) -> None:
    """A worker that measures a finished condition lists parts while another one adds its own."""
    store = Store(tmp_path)
    for k in range(3000):
        store.parts.add(Part(str(k), k % 50, "m", "key", k, k + 1, ""))
    stop = threading.Event()

    def write() -> None:
        k = 3000
        while not stop.is_set():
            store.parts.add(Part(str(k), 50, "m", "key", k, k + 1, ""))
            k += 1

    writer = threading.Thread(target=write)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer.start()
    try:
        for k in range(100):
            assert len(store.parts.of(k % 50, "key")) == 60
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(before)
