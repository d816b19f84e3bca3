"""KEYS: every key of a study file, its type, default, example, and what is said of a value that it does not take."""

from __future__ import annotations

import copy
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nestlab.show.cli import app
from nestlab.show.keys_command import keys_page
from nestlab.spec.identity import data_key, result_key
from nestlab.spec.keys import AXES, KEYS, Key, find_key
from nestlab.spec.kinds import TABLE, limits_of
from nestlab.spec.study import StudyError, StudyFile

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
    "predictors": {"x": {"level": 1, "distribution": "normal"}, "z": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml"}],
}
NAMES = {
    "name": "x", "term": "x", "group": "school", "column": "x", "column:column": "Intercept:x", "predictor": "z",
    "name:name": "x:w", "arm": "2", "axis": "icc", "factor": "school",
}  # fmt: skip
JUNK: list[Any] = [True, 1, 2.5, -1, 0, 1e9, 10**30, math.nan, math.inf, "?!", "", [], [1, "a"], [[]], {}, {"q": 1}]
#: Those of priors and of effects stand in a value's place, which is told as a whole (test_prior, test_effects).
LEAVES = [
    key
    for key in KEYS.values()
    if key.allowed != TABLE
    and key.name not in ("method", "contrast", "<name>")
    and not key.path.startswith(("prior.", "truth.fixed.<term>."))
]


def words_of(key: Key) -> list[str]:
    """A path of the key in BASE, with a name for each placeholder."""
    words = [NAMES[word[1:-1]] if word.startswith("<") else word for word in key.path.split(".")]
    if words[0] in ("method", "contrast") and len(words) > 1:
        words[1] = "0"
    return words


def with_value(key: Key, value: Any) -> dict[str, Any]:
    tables = copy.deepcopy(BASE)
    if key.path.startswith("contrast."):
        tables["contrast"] = [{"name": "c", "weights": {"x": 1}}]
    if key.path.startswith("replications."):
        tables["replications"] = {"target_mcse": 0.005, "measure": "power", "estimand": "x"}
    if key.path.startswith("design.cluster_size."):
        tables["design"]["cluster_size"] = {"arms": [5, {}]} if "arms." in key.path else {}
    here: Any = tables
    *path, last = words_of(key)
    for word in path:
        if isinstance(here, list):
            here = here[int(word) - (path[:2] == ["design", "cluster_size"])]
            continue
        here = here.setdefault(word, {})
    here[int(last) - 1 if isinstance(here, list) else last] = value
    return tables


def wrong_values(key: Key) -> list[Any]:
    limits = limits_of(key.annotation)
    ends = [
        limits.low - 1,
        limits.high + 1,
        *([limits.low] if limits.open_low else []),
        *([limits.high] if limits.open_high else []),
    ]
    ends = [int(end) if float(end).is_integer() and end < 2**60 else end for end in ends if math.isfinite(end)]
    return [value for value in [*JUNK, *ends] if not key.accepts(value) and not (key.below and isinstance(value, dict))]


@pytest.mark.parametrize("key", [*KEYS.values(), *AXES.values()], ids=lambda key: key.path)
def test_has_a_line_for_people_and_an_example_that_it_takes(key: Key) -> None:
    assert key.text
    assert not key.text.endswith(".")
    assert key.accepts(key.example)
    assert key.required or key.default is None or key.accepts(key.default)


@pytest.mark.parametrize("key", LEAVES, ids=lambda key: key.path)
def test_a_value_that_it_does_not_take_costs_one_line(key: Key) -> None:
    """With its path, what is allowed, and a repair that it does take."""
    dotted = ".".join(words_of(key))
    dotted = re.sub(
        r"^(method|contrast)\.0",
        lambda m: f"{m[1]}.{'1' if key.name == 'name' else {'method': 'reml', 'contrast': 'c'}[m[1]]}",
        dotted,
    )
    wrong = wrong_values(key)
    assert len(wrong) >= 3 or key.words or key.path == "title"
    for value in wrong:
        with pytest.raises(StudyError) as caught:
            StudyFile.from_dict(with_value(key, value))
        found = [line for line in caught.value.problems if line.startswith((f"{dotted} = ", f"{dotted}."))]
        assert len(found) == 1, (value, caught.value.problems)
        assert "\n" not in found[0]
        if found[0].startswith(f"{dotted}."):  # a key below it that there is not, or is missing
            continue
        assert re.search(r": (must be|is no) .+; .+", found[0]), found[0]
        if written := re.fullmatch(r"write (.+), say", key.repair(value)):
            assert key.accepts(tomllib.loads(f"v = {written[1]}")["v"])


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([*KEYS]), st.sampled_from([*JUNK, None, {"<table>": 1}])), max_size=4))
def test_any_values_of_any_keys_are_read_or_refused_in_lines(changes: list[tuple[str, Any]]) -> None:
    """Never another exception, whatever stands beside what."""
    tables = copy.deepcopy(BASE)
    for path_of_key, value in changes:
        here: Any = tables
        *path, last = words_of(KEYS[path_of_key])
        for word in path:
            below = here.setdefault(word, {}) if isinstance(here, dict) else here[0] if here else {}
            here = below if isinstance(below, dict | list) else {}
        if isinstance(here, dict):
            here[last] = value
    lines = ["accepted"]
    try:
        StudyFile.from_dict(tables)
    except StudyError as error:
        lines = error.problems
    assert lines
    assert all("\n" not in line for line in lines)


def test_a_note_is_kept_with_the_study_and_changes_nothing_else() -> None:
    """One line in the tables makes a key that is read, checked, written back, documented and no part of an identity."""
    noted = {**BASE, "note": "registered as osf.io/abcde"}
    assert 'note = "registered as osf.io/abcde"\n' in StudyFile.from_dict(noted).to_toml()
    assert keys_of(noted) == keys_of(BASE)


def keys_of(tables: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    try:
        study = StudyFile.from_dict(tables)
    except StudyError:
        return None
    data = [data_key(condition) for condition in study.conditions()]
    return data, [result_key(key, method) for key in data for method in study.methods()]


def test_no_key_changes_more_than_the_part_that_it_is_of() -> None:
    """Where its example makes a study: data keys follow data only, result keys data and results."""
    changing: dict[str, list[str]] = {"data": [], "results": [], "neither": []}
    for key in LEAVES:
        named = KEYS["contrast.<name>.name"]
        before = keys_of(with_value(named, "c") if key.path.startswith("contrast.") else BASE)
        after = keys_of(with_value(key, key.example))
        if before is None or after is None:
            continue
        changed = "data" if after[0] != before[0] else "results" if after[1] != before[1] else "neither"
        assert changed in (key.part, "neither"), key.path
        changing[changed].append(key.path)
    assert {"seed", "missing.rows", "truth.errors.cluster_cv", "predictors.<name>.mean"} <= {*changing["data"]}
    assert {"method.<name>.singular_df", "method.<name>.variance_intervals"} <= {*changing["results"]}
    assert {"title", "replications", "method.<name>.name", "keep"} <= {*changing["neither"]}


def test_one_name_is_found_by_its_path() -> None:
    assert find_key(["truth", "random", "school", "variance", "x"]) is KEYS["truth.random.<group>.variance.<column>"]
    assert find_key(["design", "cluster_size", "arms", 1, "cv"]) is KEYS["design.cluster_size.arms.<arm>.cv"]
    assert find_key(["design", "clutsers"]) is None


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["keys", *words])
    assert result.exit_code == 0
    return result.output


def test_the_page_is_that_of_the_tables() -> None:
    page = Path(__file__).parents[2] / "studies" / "KEYS.md"
    assert page.read_text(encoding="utf-8") == keys_page(), "nestlab keys --markdown > studies/KEYS.md"
    for key in KEYS.values():
        assert f"| `{key.name}`" in keys_page() or key.path.endswith(">")


def test_one_key_in_full() -> None:
    assert said("max_failed").startswith(
        "max_failed\n"
        "  share of failed replicates of a method above which a condition ends early\n"
        "  takes    a number from 0 to 1, 1 not included\n"
        "  place    at the top of the file, as max_failed = 0.2\n"
        "  changed  stored replicates stay as they are\n"
        "\n"
        "method.<name>.max_failed\n"
    )
    assert '  axis     "missing.hazard" = [...] in [grid]\n' in said("missing.hazard")
    assert '  default  "lmm"\n' in said("method.reml.estimator")


@pytest.mark.parametrize("word", ["alpha", "weibull", "dropout", "truth.random.school.sd", "icc", "predictors", "d"])
def test_what_is_asked_for_is_found(word: str) -> None:
    assert f"{word}" in said(word) or word.startswith("truth.")


def test_all_are_listed_with_tables_as_a_file_opens_them() -> None:
    text = said()
    for opened in ("At the top of the file", "[design]", "[[method]]", "[truth.random.<group>]", "[grid]"):
        assert f"\n{opened}" in f"\n{text}"


def test_what_is_no_key_is_refused_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["keys", "alhpa"])
    assert result.exit_code == 2
    assert 'alhpa: is no key of a study file; did you mean "alpha"?' in result.output
