"""A Dask cluster on loopback, one of whose workers is killed; skipped where Dask is not installed."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import killing
import nestlab as nl
from nestlab.run import dask_backend
from nestlab.run.cluster import ClusterError
from nestlab.run.plan import Task
from nestlab.show.cli import app


def cli(*words: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, (done.stdout + done.stderr).splitlines()


class Loopback:
    """A scheduler and workers of one thread each."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = self._start("dask_scheduler", "--port", "0", says=r"Scheduler at:\s+(tcp://\S+)")

    def _start(self, module: str, *words: str, says: str) -> str:
        """Start a process and wait for what it says."""
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1", "--no-dashboard", *words]
        log = self.logs / f"{len(self.processes)}.log"
        with log.open("wb") as stream:
            here = Path(__file__).parent
            path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
            process = subprocess.Popen(
                command, stderr=stream, start_new_session=True, env={**os.environ, "PYTHONPATH": path}
            )
        self.processes.append(process)
        while not (found := re.search(says, log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        return found[1]

    def add_worker(self) -> None:
        self._start("dask_worker", self.address, "--nthreads", "1", "--no-nanny", says="(Registered to)")
        self.workers.append(self.processes[-1])

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    pytest.importorskip("distributed")
    cluster = Loopback(tmp_path_factory.mktemp("dask"))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(loopback: Loopback) -> Loopback:
    """With two workers at least."""
    while sum(worker.poll() is None for worker in loopback.workers) < 2:
        loopback.add_worker()
    return loopback


def test_a_worker_killed_in_the_middle_loses_nothing(cluster: Loopback, tmp_path: Path) -> None:
    """160,000 fits by two workers, of which the first is killed by SIGKILL when three parts are stored."""
    study, out = tmp_path / "long.toml", tmp_path / "r"
    study.write_text(killing.STUDY.format(replications=40_000))
    words = ("run", study, "--out", out, "--backend", "dask", "--scheduler", cluster.address)
    process = killing.start(words)
    while len(killing.names(out / "replicates")[0]) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    cluster.kill(next(worker for worker in cluster.workers if worker.poll() is None))
    assert process.poll() is None, "killed in the middle"
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    nl.Study.from_toml(study).run(out=tmp_path / "local")
    killing.assert_equal(out, tmp_path / "local")
    run = json.loads((out / "manifest.json").read_text())["runs"][-1]
    assert (run["backend"], run["scheduler"], run["made"]) == ("dask", cluster.address, 160_000)
    assert sum(run["workers"].values()) == 160_000


def test_methods_that_are_python_code_and_what_is_stored_already(
    cluster: Loopback, two_arms: dict[str, Any], tmp_path: Path
) -> None:
    tables = {**two_arms, "replications": 40, "grid": {}}
    tables["method"] = [{"name": "reml"}, {"name": "sm", "estimator": "statsmodels"}]
    study = nl.Study.from_dict(tables)
    study.run(out=tmp_path / "r", replications=20)
    study.run(out=tmp_path / "r", backend="dask", scheduler=cluster.address)
    study.run(out=tmp_path / "local", jobs=1)
    killing.assert_equal(tmp_path / "r", tmp_path / "local")
    _, report = study.execute(out=tmp_path / "r", backend="dask", scheduler="tcp://127.0.0.1:1")
    assert report.made == 0, "nothing to do needs no scheduler"


def test_several_grouping_factors(cluster: Loopback, tmp_path: Path) -> None:
    tables = {
        "name": "three",
        "seed": 11,
        "replications": 6,
        "design": {"rows": 3, "factors": {"school": 8, "class": {"within": "school", "number": 2}}},
        "truth": {
            "formula": "y ~ treat + (1 | school/class)",
            "fixed": {"Intercept": 1, "treat": 0.4},
            "residual_variance": 0.7,
            "random": {"school": {"variance": {"Intercept": 0.2}}, "class": {"variance": {"Intercept": 0.1}}},
        },
        "predictors": {"treat": {"level": "school", "distribution": "balanced"}},
        "grid": {"clusters": {"class": [2, 3]}, "rows": [4]},
    }
    study = nl.Study.from_dict(tables)
    study.run(out=tmp_path / "r", backend="dask", scheduler=cluster.address)
    study.run(out=tmp_path / "local", jobs=1)
    killing.assert_equal(tmp_path / "r", tmp_path / "local")


def test_a_task_that_ends_its_workers_ends_the_run(cluster: Loopback) -> None:
    """Dask gives it up after three more workers; joblib's backend would wait for ever."""
    while sum(worker.poll() is None for worker in cluster.workers) < 5:
        cluster.add_worker()
    dask = dask_backend.DaskCluster(cluster.address)
    with pytest.raises(ClusterError, match=r"gave up a task \(KilledWorker: .*what was finished is kept"):
        list(dask.run(_die, [(None,)]))


def test_an_error_at_a_worker_is_that_of_the_run(cluster: Loopback) -> None:
    with pytest.raises(ZeroDivisionError):
        list(dask_backend.DaskCluster(cluster.address).run(_divide, [(0,)]))


def test_machines_without_nestlab_are_refused(
    cluster: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played by a module that is here only."""
    (tmp_path / "only_here.py").write_text("def nothing(*_): return None, []")
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("only_here").nothing
    with pytest.raises(
        ClusterError, match=r"cannot load nestlab, or a module that it needs .*; install the same there"
    ):
        list(dask_backend.DaskCluster(cluster.address).run(function, [(None,)]))


def test_workers_of_other_versions_are_refused(cluster: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_backend, "_versions", lambda: {"draws": 1, "numerics": 1, "numpy": "1.0"})
    with pytest.raises(
        ClusterError, match=r"has other versions \(.*numpy 2\S+ there, 1\.0 here\), which would mix results"
    ):
        list(dask_backend.DaskCluster(cluster.address).run(_divide, [(1,)]))


def test_a_scheduler_that_dies_ends_the_run(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    own, out = Loopback(tmp_path), tmp_path / "r"
    try:
        own.add_worker()
        study = tmp_path / "long.toml"
        study.write_text(killing.STUDY.format(replications=3_000_000))
        process = killing.start(("run", study, "--out", out, "--backend", "dask", "--scheduler", own.address))
        while not killing.names(out / "replicates")[0]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        own.kill(own.processes[0])
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 1
        assert f"the Dask scheduler at {own.address} is gone" in errors.splitlines()[-1]
        assert json.loads((out / "manifest.json").read_text())["parts"].keys() == set(
            killing.names(out / "replicates")[0]
        )
    finally:
        own.close()


def test_no_scheduler(two_arms: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_backend, "CONNECT", 0.5)
    study = nl.Study.from_dict(two_arms)
    for address in ("tcp://127.0.0.1:1", "nowhere"):
        with pytest.raises(
            ClusterError, match=r"there is no Dask scheduler at .*; start one \(dask scheduler\), or correct"
        ):
            study.run(out=tmp_path / "r", backend="dask", scheduler=address)


def test_no_worker(two_arms: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_backend, "FIRST_WORKER", 0.5)
    own = Loopback(tmp_path)
    try:
        with pytest.raises(ClusterError, match=r"has no worker after 0.5 s; start some: dask worker tcp"):
            nl.Study.from_dict(two_arms).run(out=tmp_path / "r", backend="dask", scheduler=own.address)
    finally:
        own.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "dask"), 'backend = "dask": needs the address of a scheduler; add --scheduler tcp://HOST:8786'),
        (("--backend", "dsak"), 'backend = "dsak": must be threads or dask; did you mean "dask"?'),
        (("--scheduler", "x"), 'scheduler = "x": is only for backend = "dask"; add --backend dask, or leave it out'),
    ],
)
def test_backends_that_are_refused(words: tuple[str, ...], said: str, two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = tmp_path / "s.toml"
    study.write_text(nl.Study.from_dict(two_arms).text)
    assert cli("run", study, "--out", tmp_path / "r", *words) == (2, [f"error: {said}"])


def test_without_dask(two_arms: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    study = tmp_path / "s.toml"
    study.write_text(nl.Study.from_dict(two_arms).text)
    said = 'error: backend = "dask": needs Dask, which is not installed; pip install "nestlab[dask]"'
    words = ("run", study, "--out", tmp_path / "r", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:8786")
    assert cli(*words) == (2, [said])


def _die(*_: object) -> tuple[Task, list[Any]]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _divide(value: int, *_: object) -> Any:
    return 1 // value, []
