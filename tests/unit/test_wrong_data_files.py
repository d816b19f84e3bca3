"""Wrong study files of data as they are: one line each, with the key, the value, what is allowed and the repair.

wrong/data_files.txt has them as people write them: the lines of a file that differ from BASE, then "-> " and the message.
"""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nestlab.show.cli import app
from nestlab.spec.identity import canonical_json, describe
from nestlab.spec.study import StudyError, StudyFile
from nestlab.spec.tables import MissingTable, PredictorTable, SizesTable
from nestlab.spec.writing import to_toml

BASE: dict[str, Any] = {
    "name": "plan",
    "seed": 1,
    "replications": 100,
    "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ x + z + (1 + x | school)",
        "fixed": {"Intercept": 1, "x": 0.5, "z": 0.2},
        "residual_variance": 4,
        "random": {"school": {"variance": {"Intercept": 1, "x": 0.5}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "z": {"level": 2, "distribution": "balanced"},
    },
}
TEXT = (Path(__file__).parent / "wrong" / "data_files.txt").read_text(encoding="utf-8")
WRONG = [tuple(case.strip().split("\n-> ")) for case in TEXT.split("\n\n")]


def merged(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in other.items():
        both = key not in ("variance", "cluster_size") and isinstance(value, dict) and isinstance(base.get(key), dict)
        found[key] = merged(base[key], value) if both else value
    return found


def whole(snippet: str) -> dict[str, Any]:
    """BASE with the snippet's values; a predictor of BASE that its formula does not name is left out."""
    own = tomllib.loads(snippet)
    tables = merged(copy.deepcopy(BASE), own)
    for name in ("x", "z"):
        if not re.search(rf"\b{name}\b", tables["truth"]["formula"]):
            del tables["predictors"][name]
    for name in BASE["truth"]["fixed"]:
        formula = tables["truth"]["formula"].replace(f"{name}[", "[").partition("(1")[0]
        if name != "Intercept" and not re.search(rf"(?<![\w(]){name}\b", formula):
            tables["truth"]["fixed"].pop(name, None)
    return tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    frame = pd.DataFrame({"n": [12, 20, 31], "ses": [0.5, 1.5, -0.25], "name": ["a", "b", "c"]})
    frame.to_csv(made / "schools.csv", index=False)
    (made / "schools.xlsx").touch()
    (made / "gaps.csv").write_text("ses,q\n1,2\n,3\n")
    return made


def test_there_are_many_and_no_two_alike() -> None:
    assert len({snippet for snippet, _ in WRONG}) == len(WRONG) > 150
    StudyFile.from_dict(BASE)


@pytest.mark.parametrize(("snippet", "message"), WRONG, ids=[message[:70] for _, message in WRONG])
def test_a_wrong_file_costs_one_line(snippet: str, message: str, folder: Path) -> None:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(whole(snippet), folder=folder)
    assert caught.value.problems == [message.replace("FOLDER", str(folder))]


def test_every_message_says_what_is_allowed_and_what_to_do() -> None:
    """Key, then value or verb, then after the last semicolon the repair."""
    for _, message in WRONG:
        key, _, rest = message.partition(" ")
        assert re.fullmatch(r"[\w.:\[\]()-]+", key), message
        assert "; " in rest, message
        assert len(message) < 420, message


@pytest.mark.parametrize("number", [0, 40, 80, 120])
def test_the_command_line_prints_it_and_writes_nothing(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippet, message = WRONG[number]
    (folder / "study.toml").write_text(to_toml(whole(snippet)), encoding="utf-8")
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["run", "study.toml"])
    assert done.exit_code == 2
    shown = " ".join(done.output.split())
    assert " ".join(message.split())[:200] in shown
    assert not (folder / "results").exists()


WORDS = st.sampled_from(
    ["", "x", "z", "k[b]", "previous", "poisson", "t", "gamma", "categorical", "schedule", "arms", "a:b", "é"]
)
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-3, 40), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=2)),
    max_leaves=5,
)
SIZE_KEYS, SHAPE_KEYS = tuple(SizesTable.model_fields), ("distribution", "df", "skewness", "share", "ratio")
KEYS = [
    *(f"design/cluster_size/{key}" for key in (*SIZE_KEYS, "arms")),
    *(f"predictors/{name}/{key}" for name in "xz" for key in PredictorTable.model_fields),
    *(f"truth/errors/{key}" for key in (*SHAPE_KEYS, "variance_ratio", "cluster_cv", "ar1")),
    *(f"truth/random/school/{key}" for key in SHAPE_KEYS),
    *(f"missing/{key}" for key in MissingTable.model_fields),
    *("missing/at_random/on", "missing/at_random/slope", "missing/weibull/scale", "correlation/x:z", "correlation/x"),
    *("design/cluster_size", "truth/errors", "missing", "correlation", "predictors/x"),
    *(
        "grid/truth.errors.ar1",
        "grid/predictors.z.distribution",
        "grid/design.cluster_size",
        "grid/missing",
        "truth/formula",
    ),
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=4))
def test_whatever_stands_there_is_read_or_refused(changes: list[tuple[str, Any]]) -> None:
    """Never another error; and what is read can be described and read back."""
    tables = copy.deepcopy(BASE)
    for path, value in changes:
        *parents, last = path.split("/")
        holder: Any = tables
        for parent in parents:
            if not isinstance(holder.get(parent), dict):
                holder[parent] = {}
            holder = holder[parent]
        holder[last] = value
    study, lines = None, []
    try:
        study = StudyFile.from_dict(tables)
    except StudyError as error:
        lines = error.problems
    assert (study is None) == bool(lines)
    assert not any("\n" in line for line in lines)
    if study is None:
        return
    for condition in study.conditions()[:2]:
        canonical_json(describe(condition))
    assert StudyFile.from_dict(study.to_dict()).resolve() == study.resolve()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("cut.csv", b"n,ses\n12,0.5\n20", "ends within a row (1 of 2 fields); it seems to be cut off: copy it again"),
        ("wide.csv", "n,ses\n12,1\n".encode("utf-16"), "is not UTF-8 text (UTF-16); save it as CSV in UTF-8"),
        ("twice.csv", b"n,n\n12,1\n", "has 2 columns named n; rename all but one"),
        ("long.csv", b"n,ses\n12,1,3\n", "has 2 names in its header but 3 fields in its first row; name every column"),
        ("table.csv", b"PAR1\x15\x04", "is a Parquet file; name it .parquet"),
    ],
)
def test_columns_are_read_as_a_fit_reads_them(name: str, content: bytes, fault: str, tmp_path: Path) -> None:
    """One reader for all data files: what one refuses, the other does."""
    (tmp_path / name).write_bytes(content)
    study = merged(BASE, {"design": {"cluster_size": {"file": name, "column": "n"}}})
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(study, folder=tmp_path)
    expected = f'design.cluster_size.file = "{name}": must be a data file, and {tmp_path / name} {fault}'
    assert caught.value.problems == [expected]


def test_columns_of_semicolons_and_points(tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_text("n;ses\n12;0,5\n20;1,5\n31;.\n")
    sizes = merged(BASE, {"design": {"cluster_size": {"file": "sizes.csv", "column": "n"}}})
    table: Any = StudyFile.from_dict(sizes, folder=tmp_path).design.cluster_size
    assert list(table.values) == [12, 20, 31]
    ses = {"distribution": "resampled", "file": "sizes.csv", "column": "ses"}
    gap = "must be a column without gaps, and row 3 of sizes.csv has no number (1 in all); fill or remove them"
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(merged(BASE, {"predictors": {"z": ses}}), folder=tmp_path)
    assert f'predictors.z.column = "ses": {gap}' in caught.value.problems
