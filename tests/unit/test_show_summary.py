"""How measures are printed."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from numba import njit
from rich.console import Console

import nestlab as nl
from nestlab.show.progress import COMPILING, compiling_said
from nestlab.show.summary import _known, overview, summary_command, value_with_mcse


@pytest.mark.parametrize(
    ("value", "mcse", "text"),
    [
        (0.8123, 0.0056, "0.812 (0.006)"),
        (0.8123, 0.0123, "0.812 (0.012)"),
        (0.81234, 0.00184, "0.8123 (0.0018)"),
        (0.81234, 0.00196, "0.812 (0.002)"),
        (-0.0001, 0.003, "0.000 (0.003)"),
        (12.3456, 3.2, "12 (3)"),
        (1.0, 0.0, "1 (0)"),
        (0.25, math.nan, "0.25"),
        (math.nan, 0.1, "-"),
    ],
)
def test_value_with_mcse(value: float, mcse: float, text: str) -> None:
    assert value_with_mcse(value, mcse) == text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_overview_fits_the_terminal(two_arms: dict[str, Any], tmp_path: Path, width: int) -> None:
    results = nl.Study.from_dict(two_arms).run(out=tmp_path, replications=50)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(overview(results, width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "two-arms: 50 replications a condition" in text
    assert "power" in text
    assert "converged: at least" in text
    for measure in ("cover", "bias"):
        assert measure in text, "shown, or named among what is left out"


def test_overview_says_how_to_see_what_it_leaves_out_and_summary_shows_all_rows(
    two_arms: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_arms["grid"], two_arms["method"] = {"clusters": [2 * k for k in range(2, 29)]}, two_arms["method"][:1]
    results = nl.Study.from_dict(two_arms).run(out=tmp_path, replications=5)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(overview(results, 40))
    text = console.export_text()
    assert f"3 more rows: nestlab summary {tmp_path}\n" in text
    assert f"cover, bias: nestlab summary {tmp_path} --estimand arm\n" in text
    assert len(re.findall(r"^ +\d+ ", text, re.MULTILINE)) == 24
    summary_command(tmp_path, estimands=[], measures=[], methods=[], subset="all", csv=False)
    shown = capsys.readouterr().out
    assert "more rows" not in shown
    assert len(re.findall(r"^ +\d+ ", shown, re.MULTILINE)) == 27


def test_overview_is_of_an_effect_that_all_methods_have_and_says_how_data_were_drawn(
    two_arms: dict[str, Any], tmp_path: Path
) -> None:
    two_arms["predictors"]["x"] = {"level": 1, "distribution": "binary", "share": 0.4}
    two_arms["truth"]["formula"] = "y ~ x + arm + (1 | school)"
    two_arms["truth"]["fixed"]["x"] = 0.2
    two_arms["method"] = [{"name": "a"}, {"name": "b", "formula": "y ~ arm + within(x) + between(x) + (1 | school)"}]
    results = nl.Study.from_dict(two_arms).run(out=tmp_path, replications=20)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(overview(results, 200))
    text = console.export_text()
    assert "power arm" in text
    assert "data: row by row (rows path), as x is binary within clusters\n" in text


def test_study_and_results_say_what_they_are(two_arms: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(two_arms)
    results = study.run(out=tmp_path, replications=20)
    assert repr(study).startswith("<Study two-arms: ")
    assert repr(results) == f"<Results in {tmp_path}: {len(study.conditions)} conditions x 20 replications>"


def test_compiling_is_said_once_and_only_where_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    @njit
    def twice(x: float) -> float:
        return 2 * x

    with compiling_said():
        assert (twice(1), twice(1.5)) == (2, 3)
    assert capsys.readouterr().err == f"{COMPILING}\n"
    with compiling_said():
        assert twice(2) == 4
    twice(1j)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("word", "repair"),
    [
        ("coverage", 'did you mean "cover"?'),
        ("powr", 'did you mean "power"?'),
        ("type1", 'did you mean "power"? It is the type I error rate where the true effect is 0'),
        ("q", "use one of them"),
    ],
)
def test_other_words_for_a_measure_are_answered_with_ours(word: str, repair: str) -> None:
    with pytest.raises(nl.StudyError) as caught:
        _known("measure", word, pd.DataFrame({"measure": ["bias", "cover", "power"]}))
    assert str(caught.value) == f'--measure "{word}": the results have bias, cover, power; {repair}'
