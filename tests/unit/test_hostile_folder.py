"""A study file or a results folder from somebody else is data: nothing of it is run, nothing outside it is touched."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import nestlab as nl
from conftest import TWO_ARMS
from nestlab.run.store import Store
from nestlab.show.cli import app


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, which each test has a copy of."""
    folder = tmp_path_factory.mktemp("made") / "r"
    nl.Study.from_dict({**TWO_ARMS, "replications": 100}).run(out=folder, jobs=2)
    return folder


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return Path(shutil.copytree(made, tmp_path / "results" / "r"))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that is none of nestlab's business."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "precious"
    path.write_text("precious")
    return path


def cli(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


#: Commands that open a folder of results; `plot` and `report`, which take seconds, where they write what is meant.
COMMANDS = (
    ("run", "--repair"),
    ("run",),
    ("summary",),
    ("status",),
    ("failures",),
    ("verify", "--blocks", "1"),
    ("table",),
)
SLOW = {"plots": (("plot",),), "report.html": (("report",),)}


def untouched(outside: Path) -> None:
    assert outside.read_text() == "precious"
    assert [p.name for p in outside.parent.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "name",
    [
        "../../outside/precious",
        "{outside}",
        "..",
        ".hidden.parquet",
        "a/b.parquet",
        "x.parquet/../../y",
        "",
        "x\0.parquet",
    ],
)
def test_manifest_names_a_part_elsewhere(ran: Path, outside: Path, name: str) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    first = next(iter(manifest["parts"]))
    manifest["parts"][name.format(outside=outside)] = manifest["parts"].pop(first)
    (ran / "manifest.json").write_text(json.dumps(manifest))
    for command, *options in COMMANDS[1:3]:
        done = cli(command, ran, *options)
        assert done.exit_code == 3, (command, done.output)
        assert "names a part" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert cli("run", ran, "--repair").exit_code == 0
    untouched(outside)
    assert nl.Results(ran).missing() == 0


@pytest.mark.parametrize(
    "entry",
    [
        {"first": -1}, {"first": "0"}, {"first": True}, {"last": 0}, {"condition": None}, {"sha256": "x"}, {"method": 3},
        {"size": "1"}, {"statuses": {"ok": "many"}}, {"examples": 3}, {"failed": {"x": 1}},
    ],
)  # fmt: skip
def test_manifest_with_entries_of_other_kinds(ran: Path, entry: dict[str, Any]) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    manifest["parts"][next(iter(manifest["parts"]))] |= entry
    (ran / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(nl.RefusedError, match=r"names a part .* that cannot be one"):
        nl.Results(ran)


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"schema_version": 1, "parts": []}', '{"schema_version": 1, "runs": [1]}',
                                  '{"schema_version": 1, "methods": [{}]}', "[" * 100_000])  # fmt: skip
def test_manifest_that_is_something_else(ran: Path, text: str) -> None:
    (ran / "manifest.json").write_text(text)
    done = cli("summary", ran)
    assert done.exit_code == 3
    assert "cannot be read" in done.stderr
    assert cli("run", ran, "--repair").exit_code == 0


def test_replicates_that_link_elsewhere(ran: Path, outside: Path) -> None:
    os.rename(ran / "replicates", ran.parent / "moved")
    (ran / "replicates").symlink_to(outside.parent)
    for command, *options in COMMANDS:
        done = cli(command, ran, *options)
        assert done.exit_code == 3, (command, done.output)
        assert "is a link" in done.stderr
    untouched(outside)


def test_part_that_links_elsewhere(ran: Path, outside: Path) -> None:
    part = sorted((ran / "replicates").iterdir())[0]
    twin = outside.with_name("twin")
    os.rename(part, twin)
    part.symlink_to(twin)
    kept = twin.read_bytes()
    for command in ("run", "summary"):
        (ran / "summary.parquet").unlink(missing_ok=True)
        assert cli(command, ran).exit_code == 3
    assert cli("run", ran, "--repair").exit_code == 0
    assert not part.is_symlink()
    assert twin.read_bytes() == kept, "the link was replaced, not what it pointed to"


@pytest.mark.parametrize(
    "file", ["manifest.json", "conditions.parquet", "summary.parquet", "study.toml", ".lock", "report.html", "plots"]
)
def test_files_that_link_elsewhere(ran: Path, outside: Path, file: str, two_arms: dict[str, Any]) -> None:
    path = ran / file
    if path.exists():
        path.unlink()
    path.symlink_to(outside.parent if file == "plots" else outside)
    for command, *options in SLOW.get(file, COMMANDS):
        cli(command, ran, *options)
    nl_error: Exception | None = None
    try:
        nl.Study.from_dict({**two_arms, "replications": 100}).run(out=ran)
    except nl.RefusedError as error:
        nl_error = error
    assert nl_error is None or "link" in str(nl_error)
    untouched(outside)


@pytest.mark.parametrize("file", ["manifest.json", "study.toml", "conditions.parquet", "summary.parquet", "part"])
def test_pipes_do_not_hang(ran: Path, file: str) -> None:
    path = sorted((ran / "replicates").iterdir())[0] if file == "part" else ran / file
    path.unlink()
    os.mkfifo(path)
    for command in ("status", "summary", "verify"):
        done = cli(command, ran)
        assert done.exit_code in (0, 3), done.output
    assert "not a file" in cli("run", ran).stderr + cli("verify", ran).stderr + cli("summary", ran).stderr or file in (
        "summary.parquet",
    )


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_nothing_is_unpickled(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles where a careless reader would load them: as files, and in the metadata that pandas and Arrow look at."""
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    (ran / "replicates" / "x.parquet").write_bytes(bomb)
    part = sorted((ran / "replicates").glob("c*.parquet"))[0]
    table = pq.read_table(part)
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bomb}
    field = table.schema.field("deviance").with_metadata(extension)
    table = table.set_column(table.schema.get_field_index("deviance"), field, table["deviance"])
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"pandas": bomb}), part)
    for command, *options in (*COMMANDS, COMMANDS[0]):
        cli(command, ran, *options)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".", ".git", "-x", "a\\b", "x.", "con\n"])
def test_study_names_that_lead_elsewhere(two_arms: dict[str, Any], name: str) -> None:
    with pytest.raises(nl.StudyError, match=r"name = .*must be letters, digits"):
        nl.Study.from_dict({**two_arms, "name": name})


def test_names_in_a_study_file_are_no_paths(two_arms: dict[str, Any], changed: Any, tmp_path: Path) -> None:
    """What may be named freely is refused with a slash, or never part of a file's name."""
    for path, value in (("method", [{"name": "../x"}]), ("contrast", [{"name": "../x", "weights": {"arm": 1}}])):
        with pytest.raises(nl.StudyError, match=r"\.\./x"):
            nl.Study.from_dict(changed(two_arms, {path: value}))
    assert not (tmp_path.parent / "x").exists()


def test_status_reads_a_hostile_lock_as_text(ran: Path) -> None:
    owner = {"host": "\x1b[2Jevil", "pid": 10**30, "user": "a\nb", "started": "now", "born": None}
    (ran / ".lock").write_text(json.dumps(owner))
    done = cli("status", ran)
    assert "\x1b" not in done.stdout
    assert "a\nb" not in done.stdout
    assert done.exit_code in (0, 4)


def test_messages_show_names_without_control_characters(ran: Path) -> None:
    manifest = json.loads((ran / "manifest.json").read_text())
    manifest["parts"]["\x1b]0;x\x07.parquet"] = manifest["parts"].pop(next(iter(manifest["parts"])))
    (ran / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(nl.RefusedError) as refused:
        Store(ran)
    assert "\x1b" not in str(refused.value)
