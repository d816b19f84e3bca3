"""Ready-made studies: by name in a checkout and in an installed wheel, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import nestlab as nl
from nestlab.show.ready_made import ready_made, ready_made_path, study_path, summarise_ready_made
from nestlab.spec.problems import StudyError

ROOT = Path(__file__).parents[2]
STUDIES = sorted(file.stem for file in (ROOT / "studies").glob("*.toml"))


def refusal(text: str) -> str:
    with pytest.raises(StudyError) as caught:
        study_path(text)
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_study_of_the_checkout_is_ready_made():
    assert list(ready_made()) == STUDIES
    assert "article" in STUDIES


def test_summaries_are_those_of_the_files():
    found = {study.name: study for study in summarise_ready_made()}
    assert list(found) == STUDIES
    assert (found["article"].conditions, found["article"].replications, found["article"].methods) == (54, 2000, 1)
    assert found["df_methods"].methods == 4
    assert all(study.title for study in found.values())
    for name, path in ready_made().items():
        assert nl.Study.from_toml(path).name == name, "the folder of results goes by the name that was typed"


def test_a_study_by_name_in_python():
    study = nl.Study.ready_made("article", replications=7)
    assert (study.name, study.file.replications, len(study.conditions)) == ("article", 7, 54)
    with pytest.raises(StudyError, match=r'^study articl: is no ready-made study; did you mean "article"\?$'):
        nl.Study.ready_made("articl")


def test_path_a_name_or_a_file(here: Path):
    assert study_path("article") == ready_made_path("article")
    (here / "mine.toml").write_text("")
    assert study_path("mine.toml") == Path("mine.toml")
    assert study_path("mine") == Path("mine.toml")


def test_path_a_copy_is_never_passed_over(here: Path):
    """Whoever copies a study, edits it and types its name runs what was edited."""
    (here / "article.toml").write_text("")
    assert study_path("article") == Path("article.toml")
    (here / "article").write_text("")
    assert study_path("article") == Path("article")


def test_path_a_folder_of_that_name_is_no_study(here: Path):
    (here / "article").mkdir()
    assert study_path("article") == ready_made_path("article")
    (here / "other").mkdir()
    assert study_path("other") == Path("other")  # read_toml refuses it


def test_path_refusals_name_what_is_near(here: Path):
    start = "study file article.tml: there is no such file, and no ready-made study of that name; "
    assert refusal("article.tml") == start + 'did you mean the ready-made "article"?'
    assert refusal("studies/article.toml").endswith('did you mean the ready-made "article"?')
    assert 'the ready-made "boundary"' in refusal("boundry")
    (here / "article_mine.toml").write_text("")
    assert refusal("article_mne.toml").endswith(
        'did you mean "article_mine.toml" or the ready-made "article_m3" or the ready-made "article_m2"?'
    )
    assert refusal("zzz").endswith("; check the path, or see nestlab studies for the ready-made ones")
    assert "check the path" in refusal("no/such/folder/zzz.toml")


def nestlab(*arguments: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    if path:
        environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-W", "error", "-m", "nestlab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, env=environment)


def test_studies_are_listed_printed_and_copied(tmp_path: Path):
    listed = nestlab("studies", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "54 x 2,000" in listed.stdout
    assert [line.split()[0] for line in listed.stdout.splitlines() if " x " in line and "," in line] == STUDIES
    assert "nestlab studies NAME --copy" in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    printed = nestlab("studies", "article", cwd=tmp_path)
    assert printed.stdout == (ROOT / "studies" / "article.toml").read_text()
    copied = nestlab("studies", "article", "--copy", cwd=tmp_path)
    assert copied.stdout == "written to article.toml; nestlab run article.toml runs it\n"
    assert (tmp_path / "article.toml").read_text() == printed.stdout
    again = nestlab("studies", "article", "--copy", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "error: article.toml: exists, and is not overwritten; remove or rename it first\n"
    assert nestlab("studies", "--copy", cwd=tmp_path).stderr.startswith("error: --copy: of which study?")
    assert nestlab("studies", "arti", cwd=tmp_path).returncode == 2


def test_run_and_simulate_take_a_name(tmp_path: Path):
    done = nestlab("run", "article_m0", "--replications", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "written to results/article_m0" in done.stdout
    assert done.stderr.splitlines()[0] == f"study file {ready_made_path('article_m0')}"
    done = nestlab("simulate", "article_m0", "--condition", "0", "--replicate", "0", "--out", "r.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1001
    done = nestlab("run", "article_m0.tml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {refusal('article_m0.tml')}"]


def install(wheel: Path, target: Path) -> None:
    """Install without dependencies, and lend it the machine code that this checkout has compiled (its name is a digest)."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", str(target), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in ("fit.kernel", "simulate.deviates"):
        caches = [getattr(kernel, "_cache", None) for kernel in vars(import_module(f"nestlab.{module}")).values()]
        folder = next(Path(cache.cache_path) for cache in caches if getattr(cache, "cache_path", None))
        for file in [*folder.glob("*.nbi"), *folder.glob("*.nbc")]:
            cache = target / "nestlab" / module.partition(".")[0] / "__pycache__"
            cache.mkdir(exist_ok=True)
            shutil.copy(file, cache)


def test_wheel_brings_the_studies(tmp_path: Path):
    """Built, installed beside nothing else and run by name from another folder."""
    builder = pytest.importorskip("hatchling.build")
    source, wheels, target, work = (tmp_path / name for name in ("source", "wheels", "target", "work"))
    for folder in (wheels, work):
        folder.mkdir()
    for name in ("engine", "studies"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.svg"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = subprocess.run(
        [sys.executable, "-c", f"import {builder.__name__} as b; b.build_wheel({str(wheels)!r})"],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    wheel = next(wheels.glob("*.whl"))
    inside = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith(".py")]
    assert sorted(Path(name).stem for name in inside if name.startswith("nestlab/studies/")) == STUDIES
    install(wheel, target)
    listed = nestlab("studies", cwd=work, path=target)
    assert listed.returncode == 0, listed.stderr
    assert "against_statsmodels" in listed.stdout
    where = "import nestlab.show.ready_made as r; print(r.ready_made_path('article'))"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=work, env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()) == target / "nestlab" / "studies" / "article.toml"
    done = nestlab("run", "article_m0", "--replications", "5", cwd=work, path=target)
    assert done.returncode == 0, done.stderr
    assert (work / "results" / "article_m0" / "summary.parquet").exists()
