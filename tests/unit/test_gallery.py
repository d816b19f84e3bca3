"""The gallery: every section, picture and number of studies/README.md is made by studies/gallery.py from results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import nestlab as nl
from study_scripts import STUDIES, script

NUMBER = re.compile(r"-?\d+(?:\.\d+)? \(\d+(?:\.\d+)?\)")
AGAIN = "run python studies/gallery.py"


gallery = script("gallery")
COMMITTED = (STUDIES / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole gallery of 300 replications a design; its results are in made/results."""
    folder = tmp_path_factory.mktemp("gallery")
    gallery.make(folder, results=folder / "results", replications=300)
    return folder


def sections(page: str) -> dict[str, str]:
    """Text by heading."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]


def answer(text: str) -> str:
    """The sentences below the picture, on one line."""
    return " ".join(text.rsplit(".svg)", 1)[1].split())


def test_the_committed_page_is_the_scripts(made: Path) -> None:
    """Same sections, in order, with the same study, commands, picture; replications are each study's own."""
    here, there = sections((made / "README.md").read_text(encoding="utf-8")), sections(COMMITTED)
    assert list(here) == list(there), AGAIN
    assert [*here][:-2] == [section.question for section in gallery.SECTIONS]
    for section in gallery.SECTIONS:
        text = there[section.question]
        assert commands(text) == commands(here[section.question]), AGAIN
        assert commands(text)[0] == f"nestlab run studies/{section.study}.toml"
        assert re.findall(r"!\[.*?\]\((.*?)\)", text) == [section.picture]
        study = nl.Study.from_toml(STUDIES / f"{section.study}.toml")
        assert f"[{section.study}.toml]({section.study}.toml), {study.file.replications:,} replications" in text, AGAIN
    assert here["The others"] == there["The others"], AGAIN


def test_the_searches_are_the_committed_ones(made: Path) -> None:
    """They choose their own replications, so the page holds what they always find."""
    here, there = sections((made / "README.md").read_text(encoding="utf-8")), sections(COMMITTED)
    assert here[gallery.SOLVE] == there[gallery.SOLVE], AGAIN
    assert len(re.findall(r"80 % power to detect arm", " ".join(there[gallery.SOLVE].split()))) == 4
    assert "at a cost of" in " ".join(there[gallery.SOLVE].split())
    for folder in (made, STUDIES):
        assert ElementTree.parse(folder / "solve.svg").getroot().tag.endswith("svg")


def test_every_study_is_on_the_page() -> None:
    for path in STUDIES.glob("*.toml"):
        assert f"[{path.name}]({path.name})" in COMMITTED, AGAIN


@pytest.mark.parametrize("section", gallery.SECTIONS, ids=lambda section: section.study)
def test_pictures_are_made(made: Path, section: Any) -> None:
    for folder in (made, STUDIES):
        picture = folder / section.picture
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")
        assert 5_000 < picture.stat().st_size < 150_000


@pytest.mark.parametrize("section", gallery.SECTIONS, ids=lambda section: section.study)
def test_numbers_are_those_of_the_results(made: Path, section: Any) -> None:
    """Every value with an MCSE is a row of the summary, or one of the averages over designs."""
    study = section.study
    summary = nl.Results(made / "results" / study).summary()
    known = {gallery.shown(row) for _, row in summary[summary["subset"] == "all"].iterrows()}
    if study == "maas_hox_2005":
        cells = gallery.published_table.noncoverage(summary)
        means = cells[cells["method"] == "independent"].groupby(["clusters", "estimand"])["noncoverage"].mean()
        averages = gallery.published_table.averages(cells)
        known |= {gallery.value_with_mcse(means[key], averages.loc[key, "mcse"]) for key in means.index}
    page = (made / "README.md").read_text(encoding="utf-8")
    found = NUMBER.findall(answer(sections(page)[section.question]))
    assert len(found) >= 4
    assert set(found) <= known
    assert len(NUMBER.findall(answer(sections(COMMITTED)[section.question]))) == len(found)


@pytest.mark.parametrize("study", ["how_many_schools", "ignored_slope"])
def test_the_committed_answers_are_those_of_a_full_run(study: str, tmp_path: Path) -> None:
    section = next(s for s in gallery.SECTIONS if s.study == study)
    results = nl.Study.from_toml(STUDIES / f"{study}.toml").run(out=tmp_path)
    assert gallery.filled(section.answer(results)) in COMMITTED, AGAIN


def test_how_many_schools_says_so_where_the_numbers_tried_are_too_few(tmp_path: Path) -> None:
    tables = {"name": "few", "seed": 1, "replications": 200, "design": {"cluster_size": 5}}
    grid = {"clusters": [10, 30], "icc": [0.1]}
    truth = {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 0, "arm": 0.1},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.1}}},
    }
    arm = {"level": 2, "distribution": "balanced"}
    results = nl.Study.from_dict({**tables, "grid": grid, "truth": truth, "predictors": {"arm": arm}}).run(out=tmp_path)
    text = gallery.how_many(results)
    assert "more than 30 at 0.1 (power with 30: " in text


def test_no_sentence_turns_into_a_list() -> None:
    """A wrapped line that begins with a dash or a number and a dot would be a list in Markdown."""
    for question, text in sections(COMMITTED).items():
        if question not in ("The others", gallery.SOLVE):
            assert not re.search(r"^(?:[-*+] |\d+\. )", text, flags=re.MULTILINE)


def test_solve_answers_each_icc(made: Path) -> None:
    for page in ((made / "README.md").read_text(encoding="utf-8"), COMMITTED):
        text = sections(page)[gallery.SOLVE]
        assert "nestlab solve studies/how_many_schools.toml --power 0.8 --estimand arm --over clusters" in commands(
            text
        )
        answers = re.findall(
            r"^- With icc = ([\d.]+): (\d+) clusters are needed for 80 % power to detect arm", text, re.MULTILINE
        )
        assert [icc for icc, _ in answers] == ["0.05", "0.1", "0.2"]
        needed = [int(clusters) for _, clusters in answers]
        assert needed == sorted(needed), "a larger icc needs more schools"
