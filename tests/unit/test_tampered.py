"""Folders that somebody tampered with: `nestlab verify` names what is wrong, and nothing that shows results shows it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import nestlab as nl
from conftest import TWO_ARMS
from nestlab.run import folder as folder_room
from nestlab.run import results as results_room
from nestlab.run.store import Store
from nestlab.show.cli import app

STUDY = {**TWO_ARMS, "replications": 100}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Complete runs, of which each test has copies: of replicates, of sums, of a rule, and of another seed."""
    folder = tmp_path_factory.mktemp("made")
    rule = {"target_mcse": 0.04, "measure": "power", "estimand": "arm", "min": 100, "max": 400}
    small = {**STUDY, "grid": {"truth.fixed.arm": [0.0, 0.8]}}
    studies = {
        "r": STUDY, "sums": {**small, "keep": "summary"}, "rule": {**small, "replications": rule}, "other": {**STUDY, "seed": 12},
    }  # fmt: skip
    for name, study in studies.items():
        nl.Study.from_dict(study).run(out=folder / name, jobs=1)
    return {name: folder / name for name in studies}


@pytest.fixture
def copies(made: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in made.items()}


@pytest.fixture
def ran(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["r"], tmp_path / "r"))


def cli(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def parts(folder: Path, of: str = "replicates") -> list[Path]:
    return sorted((folder / of).iterdir())


# -- tools of a forger -----------------------------------------------------------------------------------------------------


def edit_study(old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / "study.toml").read_text()
        assert old in text
        (folder / "study.toml").write_text(text.replace(old, new))

    return edit


def edit_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


def edit_table(name: str, column: str, value: Any, *, where: dict[str, Any], sealed: bool) -> Callable[[Path], None]:
    """Change a cell of a table; sealed: and give the manifest the right checksum."""

    def edit(folder: Path) -> None:
        path = folder / name
        table = pq.read_table(path)
        rows = table.to_pylist()
        chosen = [k for k, row in enumerate(rows) if all(row[key] == wanted for key, wanted in where.items())]
        assert chosen
        cells = table[column].to_pylist()
        assert cells[chosen[0]] != value
        cells[chosen[0]] = value
        place = table.schema.get_field_index(column)
        pq.write_table(table.set_column(place, column, pa.array(cells, table.schema.field(column).type)), path)
        if sealed:
            seal(folder, name)

    return edit


def edit_condition(column: str, value: Any, *, sealed: bool = True) -> Callable[[Path], None]:
    return edit_table("conditions.parquet", column, value, where={"condition": 1}, sealed=sealed)


def edit_power(*, sealed: bool) -> Callable[[Path], None]:
    where = {"condition": 1, "method": "reml", "estimand": "arm", "measure": "power", "subset": "all"}
    return edit_table("summary.parquet", "value", 0.99, where=where, sealed=sealed)


def seal(folder: Path, name: str) -> None:
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_manifest(lambda manifest: manifest["files"].__setitem__(name, digest))(folder)


def list_as_it_is(folder: Path, part: Path) -> None:
    """Let the manifest list a part with the checksum that it has now."""
    found = part.stat()
    now = {"sha256": hashlib.sha256(part.read_bytes()).hexdigest(), "size": found.st_size, "changed": found.st_mtime_ns}
    edit_manifest(lambda manifest: manifest["parts"].setdefault(part.name, {}).update(now))(folder)


def remove(*places: int, listed: bool = True) -> Callable[[Path], None]:
    """Remove parts by their places; listed: and leave them in the manifest."""

    def edit(folder: Path) -> None:
        gone = [parts(folder)[place] for place in places]
        for part in gone:
            part.unlink()
            if not listed:
                edit_manifest(lambda manifest, name=part.name: manifest["parts"].pop(name))(folder)  # type: ignore[misc]

    return edit


def flip_a_bit(folder: Path) -> None:
    """The last bit of one estimate, with the right checksum."""
    part = parts(folder)[2]
    table = pq.read_table(part)
    values = table["estimate.arm"].to_numpy().copy()
    values[45] = np.nextafter(values[45], np.inf)
    pq.write_table(
        table.set_column(table.schema.get_field_index("estimate.arm"), "estimate.arm", pa.array(values)), part
    )
    list_as_it_is(folder, part)


def truncate(folder: Path) -> None:
    part = parts(folder)[1]
    part.write_bytes(part.read_bytes()[:-7])


def swap(folder: Path) -> None:
    """Two parts of one method and two conditions, each under the other's name, with the right checksums."""
    a, b = parts(folder)[0], parts(folder)[2]
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)
    for part in (a, b):
        list_as_it_is(folder, part)


def swap_with_footers(folder: Path) -> None:
    """The same rows under the name and with the footer of another condition: each part is whole by itself."""
    a, b = (part for part in parts(folder) if part.name[:6] in ("c00000", "c00002") and "reml" in method_of(part))
    tables = {part: pq.read_table(part) for part in (a, b)}
    for part, other in ((a, b), (b, a)):
        table = tables[other].replace_schema_metadata(tables[part].schema.metadata)
        pq.write_table(table, part)
        list_as_it_is(folder, part)


def method_of(part: Path) -> str:
    return str(json.loads(pq.read_metadata(part).metadata[b"nestlab"])["method"])


def rename(folder: Path) -> None:
    parts(folder)[0].rename(folder / "replicates" / "renamed.parquet")


def duplicate(folder: Path) -> None:
    part = parts(folder)[0]
    shutil.copy(part, part.with_name(f"copy-{part.name}"))


def foreign_part(folder: Path) -> None:
    """A part of the same study by another seed."""
    part = parts(folder.parent / "other")[0]
    shutil.copy(part, folder / "replicates" / part.name)


def other_summary(folder: Path) -> None:
    shutil.copy(folder.parent / "other" / "summary.parquet", folder / "summary.parquet")
    seal(folder, "summary.parquet")


def footer_counts(folder: Path) -> None:
    """A part, and the manifest, say that some of its fits failed."""
    part = parts(folder)[3]
    table = pq.read_table(part)
    entry = json.loads(table.schema.metadata[b"nestlab"])
    entry["statuses"] = {"ok": 60, "not_converged": 40}
    pq.write_table(table.replace_schema_metadata({"nestlab": json.dumps(entry)}), part)
    list_as_it_is(folder, part)
    edit_manifest(lambda manifest: manifest["parts"][part.name].update(statuses=entry["statuses"]))(folder)


def first_part(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        next(iter(manifest["parts"].values()))[name] = value

    return change


def in_method(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["methods"][1]["content"].__setitem__(name, value)


def dropped(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


#: What was done to the folder, how, and what verify says of it.
TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "study seed": (edit_study("seed = 11", "seed = 12"), "seed: stored 11, now 12"),
    "study effect": (edit_study("0.8]", "0.7]"), "condition 1 (icc = 0.05, truth.fixed.arm = 0.8): stored, and the study"),
    "study fixed value": (edit_study("Intercept = 2.0", "Intercept = 3.0"), "truth.fixed.Intercept: stored 2.0, now 3.0"),
    "study clusters": (edit_study("clusters = 10", "clusters = 12"), "design.clusters: stored 10, now 12"),
    "study name": (edit_study('"two-arms"', '"three-arms"'), "name: stored 'two-arms', now 'three-arms'"),
    "study replications": (edit_study("replications = 100", "replications = 200"), "replications: stored 100, now 200"),
    "study reml": (edit_study("reml = false", "reml = true"), "method.ml.reml: stored False, now True"),
    "study alpha": (edit_study("reml = false", "reml = false\nalpha = 0.1"), "method.ml.alpha: stored 0.05, now 0.1"),
    "study method renamed": (edit_study('"ml"', '"mle"'), "methods: stored reml, ml, now reml, mle"),
    "study method removed": (edit_study('[[method]]\nname = "ml"\nreml = false', ""), "methods: stored reml, ml, now reml"),
    "study axis": (edit_study("icc = [0.05, 0.3]", "icc = [0.05]"), "condition 2 (icc = 0.3, truth.fixed.arm = 0.0): stored"),
    "study mcse": (edit_study("seed = 11", 'seed = 11\nmcse = "morris"'), "mcse: stored 'distribution-free', now 'morris'"),
    "study contrast": (
        edit_study("[predictors]", '[[contrast]]\nname = "c"\nweights = { arm = 1 }\n\n[predictors]'),
        "method.reml.contrasts: stored {}, now {'c'",
    ),
    "study comment": (edit_study("seed = 11", "seed = 11  # x"), "study.toml was altered since it was written"),
    "one part removed": (remove(3), "is listed in manifest.json and missing"),
    "half of the parts removed": (remove(0, 2, 4, 6), ": 100 of 100 replicates are missing, from 0 on"),
    "all parts removed": (remove(*range(8)), "nothing was compared"),
    "parts removed and not listed": (remove(1, 5, listed=False), "100 of 100 replicates are missing, from 0 on"),
    "all parts removed and not listed": (remove(*range(8), listed=False), "nothing was compared"),
    "part renamed": (rename, "is listed in manifest.json and missing"),
    "parts swapped": (swap, "holds other replicates than its name says"),
    "parts swapped, footers too": (swap_with_footers, "estimate.arm is "),
    "part truncated": (truncate, "was altered or truncated since written"),
    "part with one bit flipped": (flip_a_bit, "replicate 45 (c00001"),
    "part duplicated": (duplicate, "hold the same replicates"),
    "part of another study": (foreign_part, "is of no condition and method of the study"),
    "part that counts failures": (footer_counts, "says statuses = {'ok': 60, 'not_converged': 40}, its replicates {"),
    "manifest statuses": (edit_manifest(first_part("statuses", {"ok": 1})), "manifest.json says statuses = {'ok': 1}, the file"),
    "manifest last": (edit_manifest(first_part("last", 50)), "manifest.json says last = 50, the file 100"),
    "manifest condition": (edit_manifest(first_part("condition", 3)), "manifest.json says condition = 3, the file 0"),
    "manifest checksum": (edit_manifest(first_part("sha256", "0" * 64)), "was altered or truncated since written"),
    "manifest alpha": (edit_manifest(lambda m: m["methods"][0].update(alpha=0.2)), "method.reml.alpha: stored 0.2, now 0.05"),
    "manifest method": (edit_manifest(in_method("reml", True)), "method.ml.reml: stored True, now False"),
    "manifest method removed": (edit_manifest(lambda m: m["methods"].pop()), "methods: stored reml, now reml, ml"),
    "manifest method inactive": (edit_manifest(lambda m: m["methods"][1].update(active=False)), "methods: stored reml, now"),
    "manifest replications": (edit_manifest(lambda m: m.update(replications=50)), "replications: stored 50, now 100"),
    "manifest seed": (edit_manifest(lambda m: m.update(seed=3)), "seed: stored 3, now 11"),
    "manifest draws": (edit_manifest(lambda m: m.update(draw_version=99)), "manifest.json: draw_version: stored 99, now "),
    "manifest numerics": (edit_manifest(lambda m: m.update(numerics_version=1)), "manifest.json: numerics_version: stored 1"),
    "manifest ended": (edit_manifest(lambda m: m.update(ended_early=[{"condition": 1}])), "ended_early: stored [{'cond"),
    "condition's key": (
        edit_condition("data_key", "0" * 64), "condition 1 (icc = 0.05",
    ),
    "condition inactive": (
        edit_condition("active", False), "not stored, and the study has it",
    ),
    "condition's replications": (
        edit_condition("replications", 64), "replications: stored 64, now 100",
    ),
    "condition's number": (
        edit_condition("condition", 9), "is of no condition and method of the study",
    ),
    "condition's factor": (
        edit_condition("icc", 0.4),
        "conditions.parquet: condition 1: icc: stored 0.4, recomputed 0.05",
    ),
    "condition's size": (
        edit_condition("rows_total", 500), "rows_total: stored 500, recomputed 50",
    ),
    "conditions unsealed": (
        edit_condition("icc", 0.4, sealed=False), "conditions.parquet is damaged (it was altered",
    ),
    "conditions removed": (dropped("conditions.parquet"), "conditions.parquet is damaged (it is missing)"),
    "summary": (
        edit_power(sealed=False), "summary.parquet was altered since it was written",
    ),
    "summary, sealed": (
        edit_power(sealed=True),
        "summary.parquet: condition 1: value of power of arm by reml (all) is 0.99, recomputed 0.",
    ),
    "summary removed": (dropped("summary.parquet"), "summary.parquet is listed in manifest.json and missing"),
    "summary of another run": (other_summary, "summary.parquet: condition "),
    "study removed": (dropped("study.toml"), "study.toml"),
}  # fmt: skip


def test_an_untampered_folder_is_verified(copies: dict[str, Path]) -> None:
    for name, folder in copies.items():
        done = cli("verify", folder, "--blocks", 100)
        assert done.exit_code == 0, (name, done.output)
        assert "bit for bit: all equal" in done.stdout
        assert done.stderr == ""


@pytest.mark.parametrize("kind", TAMPERED)
def test_verify_names_what_was_tampered_with(copies: dict[str, Path], kind: str) -> None:
    tamper, told = TAMPERED[kind]
    tamper(copies["r"])
    done = cli("verify", copies["r"], "--blocks", 100)
    assert done.exit_code in ((4,) if "not listed" in kind else (2,) if kind == "study removed" else (3,)), done.output
    assert told in done.stderr
    assert "all equal" not in done.output
    assert "Traceback" not in done.output


def true_column(folder: Path) -> str:
    names = pq.read_schema(folder / "conditions.parquet").names
    return next(name for name in names if name.startswith("true.") and name.endswith("arm"))


def test_verify_recomputes_true_values(ran: Path) -> None:
    edit_condition(true_column(ran), 0.5)(ran)
    done = cli("verify", ran)
    assert done.exit_code == 3
    assert f"conditions.parquet: condition 1: {true_column(ran)}: stored 0.5, recomputed 0.8" in done.stderr


def test_verify_json_has_the_same(ran: Path) -> None:
    found = json.loads(cli("verify", ran, "--json").stdout)
    assert (found["problems"], found["missing"]) == ([], [])
    remove(0, 1)(ran)
    done = cli("verify", ran, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 3
    assert (len(found["problems"]), len(found["missing"])) == (2, 2)


# -- sums and rules --------------------------------------------------------------------------------------------------------


def test_verify_tampered_sums(copies: dict[str, Path]) -> None:
    folder = copies["sums"]
    kept = (folder / "manifest.json").read_text()
    for change, told in (
        (lambda m: m["sums"].update(version=2), "sums.version: stored 2, now 1"),
        (lambda m: m["sums"]["methods"][0].update(alpha=0.2), "method.reml.alpha: stored 0.2, now 0.05"),
        (lambda m: m.update(keep="replicates"), "keep: stored 'replicates', now 'summary'"),
    ):
        edit_manifest(change)(folder)
        done = cli("verify", folder)
        assert (done.exit_code, told in done.stderr) == (3, True), done.output
        assert told in cli("summary", folder).stderr
        (folder / "manifest.json").write_text(kept)
    part = parts(folder, "sums")[0]
    table = pq.read_table(part)
    entry = json.loads(table.schema.metadata[b"nestlab"])
    entry["statuses"] = {"ok": 50, "nonfinite": 50}
    pq.write_table(table.replace_schema_metadata({"nestlab": json.dumps(entry)}), part)
    list_as_it_is(folder, part)
    edit_manifest(lambda manifest: manifest["parts"][part.name].update(statuses=entry["statuses"]))(folder)
    done = cli("verify", folder)
    assert done.exit_code == 3
    assert f"{part.name} counts other statuses than its replicates have" in done.stderr
    part.unlink()
    done = cli("verify", folder)
    assert (done.exit_code, f"{part.name} is listed in manifest.json and missing" in done.stderr) == (3, True)


@pytest.mark.parametrize(("column", "value"), [("stopped", "met: power of arm 0.001 by reml"), ("replications", 128)])
def test_verify_decides_a_rule_again(copies: dict[str, Path], column: str, value: Any) -> None:
    edit_condition(column, value)(copies["rule"])
    done = cli("verify", copies["rule"])
    assert done.exit_code == 3
    assert f"conditions.parquet: condition 1: {column}: stored {value!r}, now " in done.stderr


def test_another_rule_in_study_toml_is_refused(copies: dict[str, Path]) -> None:
    edit_study("0.04", "0.03")(copies["rule"])
    done = cli("status", copies["rule"])
    assert done.exit_code == 3
    assert "replications: stored {'targets': [{'measure': 'power', 'mcse': 0.04" in done.stderr


# -- what shows results ----------------------------------------------------------------------------------------------------

SHOWING = (
    ("status",), ("summary",), ("table",), ("compare",), ("failures",), ("plot",), ("report",), ("merge",),
    ("simulate", "--condition", "1", "--replicate", "3", "--out", "rows.csv"),
)  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["study seed", "study effect", "study clusters", "study reml", "study alpha", "manifest replications"]
)
@pytest.mark.parametrize("command", SHOWING)
def test_nothing_shows_results_of_an_edited_study(
    ran: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], kind: str
) -> None:
    monkeypatch.chdir(ran.parent)
    tamper, told = TAMPERED[kind]
    tamper(ran)
    done = cli(command[0], ran, *command[1:])
    assert (done.exit_code, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"{ran / 'study.toml'} is not the study as it was run: " in done.stderr
    assert told in done.stderr
    assert not (ran.parent / "rows.csv").exists()


@pytest.mark.parametrize("command", [c for c in SHOWING if c[0] not in ("status", "failures", "merge", "simulate")])
def test_nothing_shows_an_edited_summary(ran: Path, command: tuple[str, ...]) -> None:
    TAMPERED["summary"][0](ran)
    done = cli(command[0], ran, *command[1:])
    assert (done.exit_code, done.stdout) == (3, "")
    assert (
        f"{ran / 'summary.parquet'} was altered since it was written; let nestlab make it anew from the parts"
        in done.stderr
    )
    with pytest.raises(nl.RefusedError, match="altered since it was written"):
        nl.Results(ran).summary()


@pytest.mark.parametrize("command", SHOWING)
def test_nothing_shows_edited_conditions(ran: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.chdir(ran.parent)
    edit_condition(true_column(ran), 0.5, sealed=False)(ran)
    done = cli(command[0], ran, *command[1:])
    assert (done.exit_code, done.stdout) == (3, "")
    assert (
        "conditions.parquet is damaged (it was altered since it was written); restore it, or make it anew"
        in done.stderr
    )


@pytest.mark.parametrize("sealed", [False, True])
def test_repair_mends_the_summary(ran: Path, sealed: bool) -> None:
    right = nl.Results(ran).summary()
    TAMPERED["summary, sealed" if sealed else "summary"][0](ran)
    if not sealed:
        done = cli("run", ran)
        assert done.exit_code == 3
        assert "summary.parquet was altered since it was written" in done.stderr
        assert json.loads((ran / "manifest.json").read_text())["runs"][-1]["outcome"] == "complete"
    done = cli("run", ran, "--repair")
    assert done.exit_code == 0, done.stderr
    assert ("summary.parquet was altered: made anew from the parts" in done.output) == (not sealed)
    assert_frame_equal(pd.read_parquet(ran / "summary.parquet"), right, check_exact=True)
    assert cli("verify", ran).exit_code == 0


def test_repair_mends_the_conditions(ran: Path) -> None:
    edit_condition(true_column(ran), 0.5, sealed=False)(ran)
    assert cli("run", ran).exit_code == 3
    assert cli("run", ran, "--repair").exit_code == 0
    assert cli("verify", ran).exit_code == 0


# -- what is no tampering --------------------------------------------------------------------------------------------------


def test_comments_and_folders_without_checksums_are_read(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of an older version has no checksums: its summary is computed from the parts, and a run seals it."""
    right = nl.Results(ran).summary()
    edit_study("seed = 11", "seed = 11  # a comment")(ran)
    assert_frame_equal(nl.Results(ran).summary(), right, check_exact=True)
    edit_manifest(lambda manifest: manifest.pop("files"))(ran)
    TAMPERED["summary"][0](ran)
    assert_frame_equal(nl.Results(ran).summary(), right, check_exact=True)
    edit_study("seed = 11", "seed = 12")(ran)
    with pytest.raises(nl.RefusedError, match="seed: stored 11, now 12"):
        nl.Results(ran)
    edit_study("seed = 12", "seed = 11")(ran)
    assert cli("run", ran).exit_code == 0
    assert cli("verify", ran).exit_code == 0
    assert set(json.loads((ran / "manifest.json").read_text())["files"]) == {
        "study.toml",
        "conditions.parquet",
        "summary.parquet",
    }
    monkeypatch.setattr(folder_room, "data_key", None)
    assert len(nl.Results(ran).conditions()) == 4, "with checksums no key is made, so that reading stays fast"


def test_extended_and_reduced_studies_are_verified(ran: Path) -> None:
    longer = {**STUDY, "replications": 150, "grid": {"icc": [0.05, 0.2], "truth.fixed.arm": [0.0, 0.8]}}
    longer["method"] = [*STUDY["method"], {"name": "z", "df": "z"}]
    nl.Study.from_dict(longer).run(out=ran, jobs=1)
    assert cli("verify", ran).exit_code == 0, "conditions that were removed are not compared"
    shorter = {**STUDY, "method": STUDY["method"][:1]}
    nl.Study.from_dict(shorter).run(out=ran, jobs=1)
    done = cli("verify", ran)
    assert done.exit_code == 0, done.stderr
    assert len(nl.Results(ran).conditions()) == 4


def test_a_run_that_was_killed_before_its_checksums_is_read(ran: Path) -> None:
    """The summary and the conditions were written, and the manifest not yet."""
    right = nl.Results(ran).summary()
    store = Store(ran)
    store.write_summary(right.assign(value=0.5))
    assert_frame_equal(nl.Results(ran).summary(), right, check_exact=True)
    nl.Study.from_dict(STUDY).run(out=ran)
    assert_frame_equal(Store(ran).read_summary(), right, check_exact=True)


def test_incomplete_folders_are_not_verified(ran: Path) -> None:
    """A run that was interrupted: replicates are missing, and nothing is wrong."""
    remove(1, listed=False)(ran)
    done = cli("verify", ran)
    assert done.exit_code == 4
    assert "not verified: incomplete; nestlab run goes on from here" in done.stderr
    assert cli("run", ran).exit_code == 0
    assert cli("verify", ran).exit_code == 0


def test_shards_are_verified_before_and_after_the_merge(tmp_path: Path) -> None:
    study = nl.Study.from_dict(STUDY)
    study.run_shard("1/2", out=tmp_path / "r", jobs=1)
    assert cli("verify", tmp_path / "r").exit_code == 4
    study.run_shard("2/2", out=tmp_path / "r", jobs=1)
    assert cli("verify", tmp_path / "r").exit_code == 3, "there is no summary yet"
    assert cli("merge", tmp_path / "r").exit_code == 0
    done = cli("verify", tmp_path / "r")
    assert done.exit_code == 0, done.stderr


def test_while_another_process_writes_its_files_are_waited_for(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that extends a study has written the conditions, and study.toml not yet."""
    text = (ran / "study.toml").read_text()
    edit_study("seed = 11", "seed = 12")(ran)
    monkeypatch.setattr(folder_room, "holder", lambda folder: object())
    monkeypatch.setattr(folder_room.time, "sleep", lambda seconds: (ran / "study.toml").write_text(text))
    assert len(nl.Results(ran).conditions()) == 4


def test_rows_of_another_draw_version_are_refused(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_room, "data_key", lambda condition: "another")
    with pytest.raises(nl.RefusedError, match=r"condition 1 was drawn by draw version \d+, this nestlab draws by \d+"):
        nl.Results(ran).data(1, 3)


@pytest.mark.parametrize("files", [3, ["x"], {"../r/study.toml": "x"}, {"study.toml": 7}, {"summary.parquet": None}])
def test_checksums_that_are_none(ran: Path, files: Any) -> None:
    edit_manifest(lambda manifest: manifest.update(files=files))(ran)
    for command in ("status", "summary", "verify", "run"):
        done = cli(command, ran)
        assert done.exit_code in (0, 3), done.output
        assert "Error:" not in done.output


# -- searches --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    study = nl.Study.from_dict({**STUDY, "name": "s", "grid": {}})
    study.solve(
        over="clusters", power=0.8, estimand="arm", method="reml", between=(10, 60), precision=0.5, out=folder / "s"
    )
    return folder / "s"


def test_a_tampered_search(searched: Path, tmp_path: Path) -> None:
    done = cli("verify", searched)
    assert done.exit_code == 0, done.stderr

    def forged(name: str, *changes: Callable[[Path], object]) -> Path:
        folder = Path(shutil.copytree(searched, tmp_path / name))
        for change in changes:
            change(folder)
        return folder

    def edit_answer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
        def edit(folder: Path) -> None:
            made = json.loads((folder / "solve.json").read_text())
            change(made)
            (folder / "solve.json").write_text(json.dumps(made))

        return edit

    def sealed(folder: Path) -> None:
        seal(folder, "solve.json")

    answer = edit_answer(lambda made: made.update(solution=2))
    for name, changes, told in (
        ("altered", [answer], "solve.json was altered since it was written"),
        ("sealed", [answer, sealed], "solve.json is not what manifest.json says of the answer: solution: stored "),
        (
            "sentence",
            [edit_manifest(lambda m: m["solve"].update(sentence="2 are enough."))],
            "sentence: stored '2 are enough.'",
        ),
        ("tried", [edit_answer(lambda made: made["tried"][0].update(value=0.5)), sealed], "value is 0.5, recomputed "),
        (
            "missing",
            [lambda folder: (folder / "solve.json").unlink()],
            "solve.json is listed in manifest.json and missing",
        ),
    ):
        folder = forged(name, *changes)
        done = cli("verify", folder)
        assert (done.exit_code, told in done.stderr) == (3, True), (name, done.output)
        if name in ("altered", "sealed", "sentence"):
            with pytest.raises(nl.RefusedError, match=r"solve\.json"):
                _ = nl.Results(folder).solution
