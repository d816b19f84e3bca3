"""Runs that are killed, run out of disk, meet damaged or foreign parts or another run: nothing is lost or wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import killing
import nestlab as nl
from conftest import TWO_ARMS
from nestlab.run import lock, plan, runner
from nestlab.run.files import StorageError, write_whole
from nestlab.run.store import Store
from nestlab.show.cli import app
from nestlab.spec import identity


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, which each test has a copy of."""
    folder = tmp_path_factory.mktemp("made") / "r"
    nl.Study.from_dict(TWO_ARMS).run(out=folder, jobs=2)
    return folder


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A study file whose run takes some seconds."""
    study = tmp_path / "long.toml"
    study.write_text(killing.STUDY.format(replications=60_000))
    return study


def nestlab(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    return subprocess.run(killing.command(*words), capture_output=True, text=True, timeout=120, check=False, **options)


def cli(*words: object) -> subprocess.CompletedProcess[str]:
    """The command in this process, which saves two seconds."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return subprocess.CompletedProcess([], done.exit_code, done.stdout, done.stderr)


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "replicates").glob("c*.parquet"))


# -- kill ------------------------------------------------------------------------------------------------------------------


def test_killed_while_writing_and_resumed_equals_an_uninterrupted_run(long: Path, tmp_path: Path) -> None:
    """The short version of calibration/kill_and_resume.py."""
    words = ("run", long, "--out", tmp_path / "killed", "--jobs", 2)
    kills = [killing.kill_while_writing(words, tmp_path / "killed", new=50_000) for _ in range(2)]
    assert [k.parts for k in kills] == sorted(k.parts for k in kills), "no finished part is lost"
    assert any(k.writing and not k.finished for k in kills), "killed while a file was half written"
    done = nestlab(*words)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "killed").rglob(".*")), "what was left half written is removed"
    nl.Study.from_toml(long).run(out=tmp_path / "whole")
    killing.assert_equal(tmp_path / "killed", tmp_path / "whole")


def test_killed_before_the_summary_was_made_leaves_no_stale_one(ran: Path, two_arms: dict[str, Any]) -> None:
    """All parts are there, and summary.parquet is of fewer replications."""
    old = (ran / "summary.parquet").read_bytes()
    longer = nl.Study.from_dict({**two_arms, "replications": 900})
    longer.run(out=ran)
    right = nl.Results(ran).summary()
    (ran / "summary.parquet").write_bytes(old)
    results = nl.Results(ran)
    assert results.missing() == 0
    assert_frame_equal(results.summary(), right, check_exact=True)
    _, report = longer.execute(out=ran)
    assert report.made == 0
    assert_frame_equal(nl.Results(ran)._store.read_summary(), right, check_exact=True)


def test_resuming_measures_nothing_anew_and_opens_no_part(
    ran: Path, two_arms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a part was opened")

    monkeypatch.setattr(Store, "_read_part", refuse)
    monkeypatch.setattr(Store, "_from_footer", refuse)
    _, report = nl.Study.from_dict(two_arms).execute(out=ran)
    assert report.made == 0


def test_sigterm_ends_a_run_as_ctrl_c_does(long: Path, tmp_path: Path) -> None:
    """Batch systems announce the end by it."""
    process = killing.start(("run", long, "--out", tmp_path / "r", "--replications", 3_000_000))
    while not parts(tmp_path / "r"):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted; finished parts are kept")
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert manifest["runs"][-1]["outcome"] == "interrupted"
    assert manifest["parts"].keys() == {p.name for p in parts(tmp_path / "r")}


# -- disk ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2.5 MB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_keeps_what_was_finished(small_disk: Path, long: Path, tmp_path: Path) -> None:
    folder = small_disk / "r"
    words = ("run", long, "--replications", 20_000, "--jobs", 2)
    done = nestlab(*words, "--out", folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {folder}")
    assert last.endswith(
        "cannot be written (No space left on device); what was finished is kept: make room, then give the same command again"
    )
    assert "Traceback" not in done.stderr
    assert not list(folder.rglob(".*")), "nothing half written, no lock"
    kept = {p.name: p.read_bytes() for p in parts(folder)}
    assert kept
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    done = nestlab(*words, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= {p.name: p.read_bytes() for p in parts(folder)}.items()
    nl.Study.from_toml(long).run(out=tmp_path / "whole", replications=20_000)
    killing.assert_equal(folder, tmp_path / "whole")


def test_limit_on_file_sizes(long: Path, tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = nestlab("run", long, "--out", tmp_path / "r", "--jobs", "1", preexec_fn=limited)
    assert done.returncode == 1
    assert "cannot be written (File too large); what was finished is kept: make room" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "r").rglob(".*"))


def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written .*check the folder and its permissions"):
        write_whole(tmp_path / "no such folder" / "x", b"")


# -- damaged parts ---------------------------------------------------------------------------------------------------------


def damage(path: Path, fault: str) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"altered": bytes(data), "truncated": bytes(data[:-100]), "empty": b""}[fault])


@pytest.mark.parametrize("fault", ["altered", "truncated", "empty"])
def test_repair_computes_damaged_parts_anew(ran: Path, two_arms: dict[str, Any], fault: str) -> None:
    before = nl.Results(ran).replicates()
    one, two = parts(ran)[1], parts(ran)[4]
    damage(one, fault)
    damage(two, fault)
    study = nl.Study.from_dict(two_arms)
    with pytest.raises(nl.RefusedError) as refused:
        study.run(out=ran)
    assert f"{one.name}, and 1 more parts, were altered or truncated since written" in str(refused.value)
    assert f"nestlab run {ran} --repair" in str(refused.value)
    done = cli("run", ran, "--repair")
    assert done.returncode == 0, done.stderr
    assert f"repair: 8 parts checked, 2 removed to be computed anew: {one.name}, {two.name}" in done.stdout
    assert "1,200 fits in" in done.stdout
    assert_frame_equal(nl.Results(ran).replicates(), before, check_exact=True)


def test_damage_that_keeps_size_and_time_is_found_when_the_part_is_read(ran: Path) -> None:
    part = parts(ran)[0]
    times = part.stat()
    damage(part, "altered")
    os.utime(part, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(nl.RefusedError, match=f"{part.name} was altered or truncated.*--repair"):
        nl.Results(ran).replicates()
    done = cli("run", ran, "--repair")
    assert "8 parts checked, 1 removed to be computed anew" in done.stdout


def test_a_copied_folder_is_as_good_as_the_first(ran: Path, two_arms: dict[str, Any]) -> None:
    """Other times of change: checksums are looked at once, and kept."""
    for part in parts(ran):
        os.utime(part)
    _, report = nl.Study.from_dict(two_arms).execute(out=ran)
    assert report.made == 0
    entries = json.loads((ran / "manifest.json").read_text())["parts"]
    assert all(entries[p.name]["changed"] == p.stat().st_mtime_ns for p in parts(ran))


@pytest.mark.parametrize("file", ["manifest.json", "conditions.parquet", "summary.parquet"])
@pytest.mark.parametrize("fault", ["altered", "truncated"])
def test_other_files_are_made_anew(ran: Path, file: str, fault: str) -> None:
    before, table = nl.Results(ran).replicates(), nl.Results(ran).summary()
    data = bytearray((ran / file).read_bytes())
    if file.endswith(".json"):
        data[0] = ord("(")
    else:
        data[len(data) // 8] ^= 255
    (ran / file).write_bytes(bytes(data) if fault == "altered" else bytes(data[:-50]))
    done = cli("summary", ran)
    if file == "summary.parquet":
        assert done.returncode == (3 if fault == "altered" else 0)
        (ran / file).unlink() if fault == "altered" else None
    else:
        assert done.returncode == 3
        assert f"nestlab run {ran} --repair" in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    done = cli("run", ran, "--repair")
    assert done.returncode == 0, done.stderr
    assert "0 fits in" in done.stdout, "nothing is computed twice"
    assert_frame_equal(nl.Results(ran).replicates(), before, check_exact=True)
    assert_frame_equal(nl.Results(ran).summary(), table, check_exact=True)


def test_conditions_that_are_missing_are_refused_not_numbered_anew(ran: Path, two_arms: dict[str, Any]) -> None:
    (ran / "conditions.parquet").unlink()
    with pytest.raises(nl.RefusedError, match=r"conditions\.parquet is damaged \(it is missing\).*--repair"):
        nl.Study.from_dict(two_arms).run(out=ran)
    turned = {**two_arms, "grid": {"icc": [0.3, 0.05], "truth.fixed.arm": [0.8, 0.0]}}
    results, report = nl.Study.from_dict(turned).execute(out=ran, repair=True)
    assert report.made == 0, "conditions are known by their parts, whatever their order"
    assert len(results.replicates()) == 4 * 2 * 600


def test_repair_removes_the_shorter_of_two_parts_that_overlap(ran: Path, two_arms: dict[str, Any]) -> None:
    part = parts(ran)[0]
    (ran / "replicates" / ("copy-" + part.name)).write_bytes(part.read_bytes())
    _, report = nl.Study.from_dict(two_arms).execute(out=ran, repair=True)
    assert report.made == 0
    assert report.repaired == (f"9 parts checked, 1 removed to be computed anew: copy-{part.name}",)


# -- versions --------------------------------------------------------------------------------------------------------------


def rewritten(path: Path, **changes: Any) -> None:
    """The part with other entries in its footer."""
    table = pq.read_table(path)
    entry = {**json.loads(table.schema.metadata[b"nestlab"]), **changes}
    pq.write_table(table.replace_schema_metadata({"nestlab": json.dumps(entry)}), path)


def test_part_of_another_schema_version_is_refused(ran: Path, two_arms: dict[str, Any]) -> None:
    part = parts(ran)[0]
    rewritten(part, schema_version=99)
    manifest = json.loads((ran / "manifest.json").read_text())
    del manifest["parts"][part.name]
    (ran / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(nl.RefusedError, match=f"{part.name} has schema version 99, this nestlab reads 1; remove it"):
        nl.Study.from_dict(two_arms).run(out=ran)
    _, report = nl.Study.from_dict(two_arms).execute(out=ran, repair=True)
    assert report.made == 600


def test_manifest_of_another_schema_version_is_refused(ran: Path, two_arms: dict[str, Any]) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    (ran / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    for repair in (False, True):
        with pytest.raises(
            nl.RefusedError, match="has schema version 99, this nestlab writes 1; choose another folder"
        ):
            nl.Study.from_dict(two_arms).run(out=ran, repair=repair)


@pytest.mark.parametrize("version", ["DRAW_VERSION", "NUMERICS_VERSION"])
def test_parts_of_another_draw_or_numerics_version_are_not_mixed(
    ran: Path, two_arms: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """A part that a later nestlab wrote is in the folder: its key is another, so it is counted as unused and never read."""
    study = nl.Study.from_dict(two_arms)
    with monkeypatch.context() as later:
        for room in (identity, plan, runner):
            if hasattr(room, version):
                later.setattr(room, version, 99)
        study.run(out=tmp_path / "later")
        with pytest.raises(nl.RefusedError, match="the study changed what stored"):
            study.run(out=ran)
    foreign = parts(tmp_path / "later")[0]
    assert foreign.name not in {p.name for p in parts(ran)}
    (ran / "replicates" / foreign.name).write_bytes(foreign.read_bytes())
    before = nl.Results(ran).replicates()
    _, report = study.execute(out=ran)
    assert report.made == 0
    assert_frame_equal(nl.Results(ran).replicates(), before, check_exact=True)
    assert "unused    1 part that no condition" in cli("status", ran).stdout


def test_part_with_other_columns_is_refused(ran: Path) -> None:
    part = parts(ran)[0]
    table = pq.read_table(part)
    pq.write_table(table.set_column(2, "replicate", pa.array(np.arange(5, 605, dtype=np.int64))), part)
    _doctor(ran, part)
    with pytest.raises(nl.RefusedError, match=f"{part.name} holds other replicates than the manifest says"):
        nl.Results(ran).replicates()


def _doctor(folder: Path, part: Path) -> None:
    """Give the manifest the right checksum of a part that was changed."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    found = part.stat()
    manifest["parts"][part.name] |= {
        "sha256": hashlib.sha256(part.read_bytes()).hexdigest(), "size": found.st_size, "changed": found.st_mtime_ns,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


# -- two runs at once ------------------------------------------------------------------------------------------------------


def test_second_run_is_told_who_holds_the_folder_and_a_killed_one_leaves_no_lock(long: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    process = killing.start(("run", long, "--out", folder, "--replications", 3_000_000))
    try:
        while not parts(folder):
            assert process.poll() is None
            time.sleep(0.02)
        second = cli("run", long, "--out", folder)
        assert second.returncode == 3
        (line,) = second.stderr.splitlines()
        owner = json.loads((folder / ".lock").read_text())
        assert owner["pid"] == process.pid
        assert (
            f"being written by another run (process {process.pid} of {owner['user']} on {owner['host']}, since 20"
            in line
        )
        assert f"nestlab status {folder}" in line
        status = cli("status", folder, "--json")
        assert status.returncode == 4
        assert json.loads(status.stdout)["running"]["pid"] == process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert (folder / ".lock").exists(), "SIGKILL leaves the file, not the lock"
    assert lock.holder(folder) is None
    shorter = nl.Study.from_toml(long, replications=1000)
    shorter.run(out=folder)
    assert not (folder / ".lock").exists()


def owned(folder: Path, **changes: Any) -> Path:
    """A lock file left by somebody."""
    owner = {"host": "elsewhere", "pid": 1, "user": "ada", "started": "2026-01-01T00:00:00+00:00", "born": 5}
    (folder / ".lock").write_text(json.dumps({**owner, **changes}))
    return folder / ".lock"


def test_lock_of_another_machine_that_beats_is_kept(
    ran: Path, two_arms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's lock is free, as on network folders whose flock reaches one machine only."""
    path = owned(ran)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.utime(path))
    with pytest.raises(nl.RefusedError, match=r"process 1 of ada on elsewhere, since 2026-01-01 00:00:00 UTC"):
        nl.Study.from_dict(two_arms).run(out=ran)
    assert lock.holder(ran) is not None


def test_lock_of_another_machine_that_is_silent_is_taken_over(
    ran: Path, two_arms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(ran)
    monkeypatch.setattr(lock, "SILENCE", 0.3)
    nl.Study.from_dict(two_arms).run(out=ran)
    assert not (ran / ".lock").exists()


def test_lock_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.locked(tmp_path):
        os.utime(tmp_path / ".lock", (1, 1))
        deadline = time.monotonic() + 20
        while (tmp_path / ".lock").stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / ".lock").stat().st_mtime > 1000


def test_lock_without_the_kernels_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that have no flock at all: the record decides."""
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = lock.Owner.this_process()
    owned(tmp_path, host=mine.host, pid=alive.pid, born=lock._born(alive.pid))
    with pytest.raises(nl.RefusedError, match=f"process {alive.pid} of ada"), lock.locked(tmp_path):
        pass
    alive.communicate()
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_lock_of_a_number_that_another_process_has_now(tmp_path: Path) -> None:
    mine = lock.Owner.this_process()
    owned(tmp_path, host=mine.host, pid=os.getppid(), born=1)
    assert lock.holder(tmp_path) is None


def test_lock_file_that_says_nothing_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 12")
    with lock.locked(tmp_path):
        pass
