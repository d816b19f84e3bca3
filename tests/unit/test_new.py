"""`nestlab new`: what it asks, what it refuses, and the file that it writes from answers or from a pilot."""

from __future__ import annotations

import doctest
import json
import os
import pty
import re
import select
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

import nestlab as nl
from nestlab.show import study_text
from nestlab.show.from_fit import read_pilot
from nestlab.show.new_command import NewOptions, new_command
from nestlab.show.outcome import outcome_lines
from nestlab.show.pilot_check import plans
from nestlab.show.pilot_text import pilot_text
from nestlab.show.questions import QUESTIONS
from nestlab.spec.study import StudyFile

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(file: str | None = None, from_fit: tuple[str, str] | None = None, **options: Any) -> None:
    """`nestlab new` in this process; options: flags by their names."""
    rest = {key: options.pop(key) for key in ("seed", "replications", "force", "uncertain", "solve") if key in options}
    made = NewOptions(options, **({"seed": 1, "replications": 2000, "yes": True} | rest))
    new_command(Path(file) if file else None, made, (Path(from_fit[0]), from_fit[1]) if from_fit else None)


def refusal(*arguments: Any, **options: Any) -> list[str]:
    """The lines of the error, which left no file."""
    before = set(Path.cwd().iterdir())
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (StudyError, DataError and FormulaError)
        new(*arguments, **options)
    assert set(Path.cwd().iterdir()) == before
    return str(caught.value).splitlines()


def test_doctests():
    found = doctest.testmod(study_text)
    assert found.attempted >= 6
    assert found.failed == 0


class TestAnswers:
    def test_defaults(self, here: Path, capsys: pytest.CaptureFixture[str]):
        new()
        study = StudyFile.from_toml("study.toml")
        assert (study.name, study.seed, study.replications) == ("study", 1, 2000)
        assert [c.layout.clusters for c in study.conditions()] == [10, 20, 40]
        truth = study.conditions()[0].truth
        assert truth.fixed == (0.0, 0.2)
        assert truth.covariance == ((0.1, 0.0), (0.0, 0.02))
        assert truth.residual_variance == 0.9
        printed = capsys.readouterr().out.splitlines()
        assert printed == [
            *outcome_lines(study.conditions(), "x"),
            "written to study.toml; edit it, or go on:",
            "    nestlab run study.toml",
            "    nestlab summary results/study --estimand x --measure power",
        ]
        assert printed[4:6] == ["  effect of x 0.2 raw", "    = 0.198 outcome sd = 0.2 total sd = 0.2108 residual sd"]

    def test_flags(self, here: Path):
        new(
            "plan.toml", name="arms", outcome="score", cluster="class", predictor="arm", level="2", distribution="balanced",
            effect="-0.4", icc=".25", clusters="8, 20", cluster_size="10 30", question="bias", seed=9, replications=50,
        )  # fmt: skip
        study = StudyFile.from_toml("plan.toml")
        assert (study.name, study.seed, study.replications) == ("arms", 9, 50)
        assert [c.layout.sizes for c in study.conditions()] == [(n,) * J for J in (8, 20) for n in (10, 30)]
        condition = study.conditions()[0]
        assert condition.truth.formula.text == "score ~ 1 + arm + (1 | class)"
        assert condition.truth.fixed == (0.0, -0.4)
        assert condition.truth.covariance == ((0.25,),)
        assert (condition.truth.residual_variance, condition.predictors[0].distribution) == (0.75, "balanced")
        assert [(m.name, m.reml) for m in study.methods()] == [("reml", True), ("ml", False)]

    @pytest.mark.parametrize("level", ["within", "between"])
    @pytest.mark.parametrize("distribution", ["balanced", "normal"])
    @pytest.mark.parametrize("clusters", ["20", "20,40"])
    def test_every_kind_reads_and_says_what_it_is(self, here: Path, level: str, distribution: str, clusters: str):
        new(level=level, distribution=distribution, clusters=clusters, icc="0.07")
        study = StudyFile.from_toml("study.toml")
        predictor = study.conditions()[0].predictors[0]
        assert (predictor.level, predictor.distribution) == ({"within": 1, "between": 2}[level], distribution)
        assert len(study.conditions()[0].truth.covariance) == (2 if level == "within" else 1)
        assert len(study.conditions()) == clusters.count(",") + 1
        assert study.conditions()[0].truth.residual_variance == 0.93

    def test_no_slope_variance_is_no_random_slope(self, here: Path):
        new(slope_variance="0")
        assert StudyFile.from_toml("study.toml").conditions()[0].truth.formula.text == "y ~ 1 + x + (1 | school)"

    def test_commented_axes_can_be_uncommented(self, here: Path):
        for clusters, conditions in (("20", 4), ("20,30,40", 12)):
            new(clusters=clusters, force=True)
            text = Path("study.toml").read_text()
            edited = re.sub(r"^# (\[grid\]|icc =|\"truth\.fixed)", r"\1", text, flags=re.MULTILINE)
            study = StudyFile.from_dict(tomllib.loads(edited))
            assert len(study.conditions()) == conditions
            assert {c.factors["truth.fixed.x"] for c in study.conditions()} == {0, 0.2}

    def test_words_of_other_languages(self, here: Path):
        new("größe.toml", predictor="größe", cluster="schüler")
        study = StudyFile.from_toml("größe.toml")
        assert study.conditions()[0].truth.formula.text == "y ~ 1 + größe + (1 + größe | schüler)"
        assert study.name == "gr-e"

    def test_defaults_give_way_to_flags(self, here: Path):
        new(predictor="y", cluster="x")
        assert StudyFile.from_toml("study.toml").conditions()[0].truth.formula.text == "score ~ 1 + y + (1 + y | x)"

    def test_files_are_not_overwritten(self, here: Path):
        Path("study.toml").write_text("mine")
        assert refusal() == ["study.toml: exists, and is not overwritten; name another file, or add --force"]
        assert Path("study.toml").read_text() == "mine"
        new(force=True)
        assert StudyFile.from_toml("study.toml").name == "study"
        assert refusal("a/b.toml") == ["a/b.toml: the folder a does not exist; create it first"]
        assert refusal(".") == [".: is a folder; name a file in it, study.toml say"]

    def test_file_that_cannot_be_written(self, here: Path, monkeypatch: pytest.MonkeyPatch):
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        assert refusal() == ["study.toml: cannot be written (No space left on device); choose another folder"]

    @pytest.mark.parametrize(
        ("flag", "text", "message"),
        [
            (
                "name",
                "a b",
                "must be letters, digits, - _ . (at most 100, no . or - first, no . last); it names a folder",
            ),
            ("outcome", "2y", "must be one word of letters, digits and _, a letter first; write v2y, say"),
            ("outcome", "my y", "must be one word of letters, digits and _, a letter first; write my_y, say"),
            (
                "cluster",
                "sd",
                "is a word of formulas and measures (Intercept, True, False, None, TRUE, FALSE, icc, var, sd, cov, cor, ",
            ),
            ("level", "betwen", 'must be within (level 1) or between (level 2); did you mean "between"?'),
            ("distribution", "3", "must be balanced (0/1, half and half) or normal (continuous); use one of balanced"),
            ("effect", "big", "must be a finite number; write 0.5, say"),
            ("effect", "nan", "must be a finite number; write 0.5, say"),
            ("icc", "0,2", "must be a number from 0 to 1, 1 not included; write 0.2, with a point"),
            ("icc", "1", "must be a number from 0 to 1, 1 not included; write 0.1, say"),
            ("slope_variance", "-1", "must be a finite number >= 0; write 0.2, say"),
            ("clusters", "1", "must be a whole number of 2 or more, or several with commas between them; write 20,40"),
            (
                "clusters",
                "20,a",
                "must be a whole number of 2 or more, or several with commas between them; write 20,40",
            ),
            ("clusters", "20,20", "must be different numbers, and 20 is there twice; leave one out"),
            ("cluster_size", "0", "must be a whole number of 1 or more, or several with commas between them; write 25"),
            ("question", "powr", 'must be power or bias; did you mean "power"?'),
        ],
    )
    def test_refusals(self, here: Path, flag: str, text: str, message: str):
        lines = refusal(**{flag: text})
        assert len(lines) == 1
        assert lines[0].startswith(f'--{flag.replace("_", "-")} "{text}": {message}')

    def test_refusals_of_flags_together(self, here: Path):
        assert refusal(outcome="a", cluster="a") == [
            '--cluster "a": must be another word than the outcome; write a2, say'
        ]
        assert refusal(level="2", slope_variance="0.1")[0].startswith(
            '--slope-variance "0.1": must be 0 where the predictor varies between clusters only; leave it out'
        )
        assert refusal(level="2", clusters="2")[0].endswith("raise design.clusters or use fewer terms")
        assert refusal(uncertain=True) == [
            "--uncertain: is for a pilot's estimates; add --from-fit DATA FORMULA, or leave it out"
        ]

    def test_solve_is_named_where_there_is_one(self, here: Path, capsys: pytest.CaptureFixture[str]):
        new(solve=True)
        wanted = "    nestlab solve study.toml --power 0.8 --estimand x --over clusters"
        assert capsys.readouterr().out.splitlines()[-1] == wanted
        new("b.toml", solve=True, question="bias")
        assert "solve" not in capsys.readouterr().out


# -- on a terminal ---------------------------------------------------------------------------------------------------------

CTRL_C = b"\x03"


def on_terminal(answers: list[bytes], *arguments: str, cwd: Path) -> tuple[str, int]:
    """What is shown on a pseudo-terminal, and the exit code; each answer is typed at the next prompt.

    Ctrl-C is typed again where nothing happens: between the prompt and the wait for keys, Python notes it and waits all the same.
    """
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        os.chdir(cwd)
        os.environ["TERM"] = "dumb"
        os.execv(sys.executable, [sys.executable, "-m", "nestlab", "new", *arguments])
    shown, read, typed, end = "", 0, b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 2 if typed == CTRL_C else 0.2)[0]:
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part.decode(errors="replace")
        elif typed == CTRL_C:
            os.write(terminal, typed)
        if answers and re.search(r"\]: ", shown[read:]):
            read = len(shown)
            typed = answers.pop(0)
            os.write(terminal, typed)
    os.close(terminal)
    return shown.replace("\r", ""), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
class TestTerminal:
    def test_bad_answers_are_asked_again(self, tmp_path: Path):
        (tmp_path / "old.toml").write_text("mine")
        typed = [
            b"my study\n", b"old\n", b"arms\n", b"2y\n", b"score\n", b"\n", b"arm\n", b"2\n", b"\n", b"0,4\n", b"0.4\n",
            b"5%\n", b".05\n", b"2\n", b"8, 20\n", b"\n", b"\n",
        ]  # fmt: skip
        shown, code = on_terminal(typed, cwd=tmp_path)
        assert code == 0, shown
        for said in (
            '"my study": must be letters, digits',
            "old.toml: exists, and is not overwritten",
            '"2y": must be one word',
            '"0,4": must be a finite number; write 0.4, with a point',
            '"5%": must be a number from 0 to 1',
            "raise design.clusters or use fewer terms",
            "Does arm vary within each school, or only between? [within]: ",
            "Is arm 0/1, half and half (balanced), or continuous (normal)? [balanced]: ",
            "written to arms.toml; edit it, or go on:",
        ):
            assert said in shown
        assert "Variance of that effect" not in shown, "a predictor between clusters has no random slope"
        condition = StudyFile.from_toml(tmp_path / "arms.toml").conditions()[0]
        assert (condition.truth.fixed, condition.truth.covariance) == ((0.0, 0.4), ((0.05,),))
        assert condition.layout.sizes == (25,) * 8
        assert (tmp_path / "old.toml").read_text() == "mine"

    def test_flags_are_not_asked(self, tmp_path: Path):
        given = [
            f"--{q.key.replace('_', '-')}={q.default({})}" for q in QUESTIONS if q.key in ("name", "icc", "clusters")
        ]
        shown, code = on_terminal([b"\n"] * 20, *given, "--level", "1", cwd=tmp_path)
        assert code == 0, shown
        assert shown.count("]: ") == len(QUESTIONS) - 4
        assert (tmp_path / "study.toml").exists()

    def test_interrupted(self, tmp_path: Path):
        shown, code = on_terminal([b"a\n", CTRL_C], cwd=tmp_path)
        assert code == 130
        assert shown.endswith("error: interrupted; nothing was written\n")
        assert list(tmp_path.iterdir()) == []

    def test_answers_that_end(self, tmp_path: Path):
        shown, code = on_terminal([b"a\n", b"\x04"], cwd=tmp_path)
        assert code == 2
        assert shown.splitlines()[-1] == (
            "error: the answers ended before the last question, and nothing was written; --yes takes the defaults for the rest"
        )
        assert list(tmp_path.iterdir()) == []

    def test_yes_asks_nothing(self, tmp_path: Path):
        shown, code = on_terminal([], "--yes", cwd=tmp_path)
        assert code == 0
        assert "]: " not in shown


def test_interrupted_in_this_process(here: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(typer.Exit) as caught:
        new_command(None, NewOptions({}, 1, 10), None)
    assert caught.value.exit_code == 130


# -- from a pilot ----------------------------------------------------------------------------------------------------------


def rows(**columns: Any) -> pd.DataFrame:
    """14 clusters of 3 to 8 rows with a response y and what is given, which may be functions of the clusters and a generator."""
    random = np.random.default_rng(5)
    g = np.repeat(np.arange(14), random.integers(3, 9, 14))
    frame = pd.DataFrame({"g": g, "x": random.normal(size=g.size)})
    frame["y"] = 1 + 0.5 * frame["x"] + random.normal(size=14)[g] + random.normal(size=g.size)
    for name, values in columns.items():
        frame[name] = values(g, random) if callable(values) else values
    return frame


def written(frame: pd.DataFrame, formula: str, **options: Any) -> tuple[str, StudyFile]:
    """The text of the file that a pilot gives, and the study that it is."""
    frame.to_csv("pilot.csv", index=False)
    new("pilot.toml", ("pilot.csv", formula), force=True, **options)
    return Path("pilot.toml").read_text(), StudyFile.from_toml("pilot.toml")


def numbers(text: str, key: str) -> list[float]:
    """The numbers in the comment beside a key."""
    line = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", line.partition("#")[2])]


@pytest.mark.parametrize(
    "case", ["02_ri", "03_trt", "04_rs", "05_cross", "06_indep", "12_rs", "13_cross", "16_rs2", "24_rs2"]
)
def test_pilot_values_are_the_fits(here: Path, case: str):
    """Badly scaled, far from 0, unbalanced, singular: the truth of the file is the fit, to six digits at least."""
    formula = json.loads((GOLDEN / f"{case}.json").read_text())["formula"]
    frame = pd.read_csv(GOLDEN / f"{case}.csv")
    new("a.toml", (str(GOLDEN / f"{case}.csv"), formula))
    fit = nl.fit(formula, frame)
    (condition,) = StudyFile.from_toml("a.toml").conditions()
    assert condition.truth.formula.fixed == tuple(fit.beta)
    beta, se = np.array(list(fit.beta.values())), np.array(list(fit.se.values()))
    assert np.all(np.abs(condition.truth.fixed - beta) <= np.minimum(5.1e-6 * np.abs(beta), 1e-3 * se))
    assert condition.truth.residual_variance == pytest.approx(fit.sigma**2, rel=5.1e-6)
    G, start = np.array(condition.truth.covariance), 0
    for block in fit.varcomp.values():
        part = G[start : start + len(block), start : start + len(block)]
        scale = np.sqrt(np.outer(np.diag(block), np.diag(block)))
        assert np.all(np.abs(part - block) <= 2e-5 * scale + 1e-8 * fit.sigma**2)
        start += len(block)
    assert sorted(condition.layout.sizes) == sorted(frame.groupby("g").size())
    assert ("singular" in Path("a.toml").read_text()) == fit.singular


def test_pilot_comments_are_the_fits_intervals(here: Path):
    frame = rows()
    text, _ = written(frame, "y ~ x + (1 + x | g)")
    fit = nl.fit("y ~ x + (1 + x | g)", frame)
    limits = fit.confint()
    low, high = limits.loc["x"]
    assert numbers(text, "x") == pytest.approx([fit.se["x"], 95, low, high], rel=1e-2)
    low, high = limits.loc["sigma"] ** 2
    ses, residual = fit.se_variances
    assert numbers(text, "residual_variance") == pytest.approx([residual, 95, low, high], rel=1e-2)
    variance = text.partition("[truth.random.g.variance]")[2]
    low, high = limits.loc["sd_x|g"] ** 2
    assert numbers(variance, "x") == pytest.approx([ses[0][1], 95, low, high], rel=1e-2)
    low, high = limits.loc["cor_x.(Intercept)|g"]
    assert numbers(text, '"Intercept:x"') == pytest.approx([95, low, high], rel=1e-2)
    assert f"({len(frame)} rows, 14\n# clusters (g))" in text or f"({len(frame)} rows, 14 clusters (g))" in text


def test_pilot_study_runs_and_gives_its_truth_back(here: Path):
    _, study = written(rows(), "y ~ x + (1 | g)")
    results = nl.Study.from_toml("pilot.toml").run(replications=400, out=here / "o")
    summary = results.summary().query("measure == 'bias' and subset == 'all'").set_index("estimand")
    assert abs(summary.loc["x", "value"]) < 4 * summary.loc["x", "mcse"]
    sizes = study.conditions()[0].layout.sizes
    assert len(results.data(0, 3)) == sum(sizes)


def test_pilot_design_can_be_replaced(here: Path):
    formula = "y ~ x + (1 | g)"
    sizes = sorted(np.bincount(rows()["g"]).tolist())
    text, study = written(rows(), formula, clusters="28,42")
    assert [sorted(c.layout.sizes) for c in study.conditions()] == [sorted(sizes * 2), sorted(sizes * 3)]
    assert "rows of each g, as in the data, in turn" in text
    text, study = written(rows(), formula, clusters="30", cluster_size="4,9")
    assert [c.layout.sizes for c in study.conditions()] == [(4,) * 30, (9,) * 30]
    text, study = written(rows(), formula, name="p", seed=4, replications=7)
    assert (study.name, study.seed, study.replications) == ("p", 4, 7)
    edited = text.replace("# [grid]", "[grid]").replace("# clusters = [14, 28, 56]", "clusters = [14, 28, 56]")
    assert len(StudyFile.from_dict(tomllib.loads(edited)).conditions()) == 3


def test_pilot_of_many_unequal_clusters_is_readable(here: Path):
    random = np.random.default_rng(1)
    g = np.repeat(np.arange(120), random.integers(2, 30, 120))
    frame = pd.DataFrame({"g": g, "y": random.normal(size=g.size) + random.normal(size=120)[g]})
    text, study = written(frame, "y ~ 1 + (1 | g)")
    assert sorted(study.conditions()[0].layout.sizes) == sorted(np.bincount(g))
    assert max(map(len, text.splitlines())) <= 120


class TestPilotNames:
    def test_names_that_a_study_cannot_have(self, here: Path):
        frame = rows().rename(columns={"g": "School name", "x": "prior.score", "y": "y 1"})
        frame["icc"] = np.random.default_rng(2).normal(size=14)[rows()["g"]]
        frame["School name"] = frame["School name"].map("school {}".format)
        text, study = written(frame, "`y 1` ~ prior.score*icc + (1 + prior.score | `School name`)")
        assert study.truth.formula == "y_1 ~ prior_score*icc_ + (1 + prior_score | School_name)"
        assert study.conditions()[0].truth.formula.fixed == ("Intercept", "prior_score", "icc_", "prior_score:icc_")
        said = " ".join(line.removeprefix("# ") for line in text.splitlines())
        for pair in ('y_1 is "y 1"', 'prior_score is "prior.score"', 'icc_ is "icc"', 'School_name is "School name"'):
            assert f"{pair} in the data" in said

    def test_names_that_become_one(self, here: Path):
        frame = rows(**{"a b": lambda g, r: r.normal(size=g.size), "a.b": lambda g, r: r.normal(size=g.size)})
        _, study = written(frame, "y ~ `a b` + a.b + (1 | g)")
        assert study.truth.formula == "y ~ a_b + a_b_2 + (1 | g)"
        first = nl.fit("y ~ `a b` + a.b + (1 | g)", frame)
        assert study.truth.fixed["a_b"] == pytest.approx(first.beta["`a b`"], rel=1e-5)

    def test_data_file_with_spaces(self, here: Path, capsys: pytest.CaptureFixture[str]):
        rows().to_csv("my data.csv", index=False)
        new(None, ("my data.csv", "y ~ x + (1 | g)"))
        study = StudyFile.from_toml("my-data.toml")
        assert study.name == "my-data"
        printed = capsys.readouterr().out
        assert "nestlab run my-data.toml" in printed
        assert "\n".join(outcome_lines(study.conditions(), "x")) in printed


class TestPilotPredictors:
    def test_levels_and_distributions(self, here: Path, capsys: pytest.CaptureFixture[str]):
        frame = rows(
            arm=lambda g, r: (g % 2), z=lambda g, r: r.normal(0, 2, 14)[g],
            half=lambda g, r: np.concatenate([np.arange(n) % 2 for n in np.bincount(g)]),
        )  # fmt: skip
        _, study = written(frame, "y ~ arm + z + x + half + (1 | g)")
        made = {p.name: p for p in study.conditions()[0].predictors}
        assert [(made[n].level, made[n].distribution) for n in ("arm", "z", "x", "half")] == [
            (2, "arms"), (2, "normal"), (1, "normal"), (1, "balanced"),
        ]  # fmt: skip
        assert made["arm"].arms == (7, 7)
        z = frame.groupby("g")["z"].first()
        assert (made["z"].mean, made["z"].sd) == pytest.approx((z.mean(), z.std()), rel=1e-5)
        assert made["x"].mean == pytest.approx(frame["x"].mean(), rel=1e-5)
        assert made["x"].sd == pytest.approx(frame["x"].std(), rel=0.02)
        assert "note: arm" not in capsys.readouterr().out

    def test_text_of_two_categories(self, here: Path):
        frame = rows(arm=lambda g, r: np.where(g % 2, "treated", "control"))
        frame.loc[2, "x"] = np.nan
        text, study = written(frame, "y ~ arm * x + (1 | g)")
        fit = nl.fit("y ~ arm * x + (1 | g)", frame)
        assert study.conditions()[0].truth.fixed == pytest.approx(list(fit.beta.values()), rel=1e-5)
        assert '0 is "control", 1 is "treated"' in text
        assert "1 rows left out for missing values" in text.replace("\n# ", " ")


class TestPilotRefusals:
    @pytest.fixture
    def data(self, here: Path) -> str:
        frame = rows(
            c3=lambda g, r: r.choice(["a", "b", "c"], g.size), arm=lambda g, r: np.where(g % 2, "t", "c"),
            z=lambda g, r: r.normal(size=14)[g],
        )  # fmt: skip
        frame.to_csv("pilot.csv", index=False)
        return "pilot.csv"

    @pytest.mark.parametrize(
        ("formula", "message"),
        [
            ("y ~ 0 + c3 + (1 | g)", "c3 has a coefficient for each of its 3 categories here, and a study's factor has"),
            ("y ~ x:c3 + (1 | g)", "c3 has a coefficient for each of its 3 categories here, and a study's factor has"),
            ("y ~ c3 * poly(x, 13) + (1 | g)", "the fixed effects have 42 columns on these data (... "),
            ("y ~ spline(x) + (1 | g)", 'formula "y ~ spline(x) + (1 | g)": spline(...) is not possible; allowed are I, C, '),
            ("y ~ 0 + arm + (1 | g)", "arm has a coefficient for each of its two categories here; make it a column of 0 and"),
            ("y ~ x + (1 + z | g)", "the study of this fit: truth.formula = "),
            ("y ~ x + (1 | school)", "formula names school, which the data do not have; columns: "),
            ("y ~ x", 'formula "y ~ x": needs a random term; add one, (1 | group)'),
        ],
    )  # fmt: skip
    def test_models(self, data: str, formula: str, message: str):
        lines = refusal(None, (data, formula))
        assert len(lines) == 1
        assert lines[0].startswith(message)

    def test_flags_that_the_data_answer(self, data: str):
        assert refusal(None, (data, "y ~ x + (1 | g)"), icc="0.2") == [
            '--icc "0.2": a pilot\'s study takes that from the data; leave --icc out and edit the file'
        ]

    def test_missing_data_file(self, here: Path):
        assert refusal(None, ("none.csv", "y ~ x + (1 | g)")) == ["data file none.csv does not exist; check the path"]

    def test_existing_file(self, data: str):
        Path("pilot.toml").write_text("mine")
        assert refusal(None, (data, "y ~ x + (1 | g)"))[0].startswith("pilot.toml: exists, and is not overwritten")

    def test_fit_that_did_not_converge(self, data: str, monkeypatch: pytest.MonkeyPatch):
        from dataclasses import replace

        from nestlab.fit.single import fit
        from nestlab.fit.status import Status

        stuck = replace(fit("y ~ x + (1 | g)", pd.read_csv(data)), status=Status.not_converged)
        monkeypatch.setattr("nestlab.show.from_fit.fit", lambda *_: stuck)
        (line,) = refusal(None, (data, "y ~ x + (1 | g)"))
        assert line.startswith("y ~ x + (1 | g): No starting point led to an optimum")
        assert line.endswith("Use fewer random columns, or more data")


class TestUncertain:
    def text(self, formula: str, frame: pd.DataFrame) -> tuple[str, dict[str, Any]]:
        frame.to_csv("pilot.csv", index=False)
        pilot = read_pilot(Path("pilot.csv"), formula)
        plan = next(plans(pilot))
        text = pilot_text(pilot, plan, name="p", file="p.toml", seed=1, replications=50, uncertain=True)
        return text, tomllib.loads(text)["truth"]

    def test_priors_are_the_sampling_distributions(self, here: Path):
        frame = rows()
        _, truth = self.text("y ~ x + (1 | g)", frame)
        fit = nl.fit("y ~ x + (1 | g)", frame)
        prior = truth["fixed"]["x"]
        assert prior.pop("distribution") == "pilot"
        assert prior == pytest.approx({"estimate": fit.beta["x"], "se": fit.se["x"], "df": fit.df["x"]}, rel=1e-5)
        ((se,),), residual = fit.se_variances
        value = fit.varcomp["g"][0, 0]
        prior = truth["random"]["g"]["variance"]["Intercept"]
        assert prior.pop("distribution") == "pilot"
        assert prior == pytest.approx({"estimate": value, "df": 2 * (value / se) ** 2}, rel=1e-5)
        prior = truth["residual_variance"]
        assert prior.pop("distribution") == "pilot"
        assert prior == pytest.approx({"estimate": fit.sigma**2, "df": 2 * (fit.sigma**2 / residual) ** 2}, rel=1e-5)

    def test_variances_at_the_edge(self, here: Path):
        """Estimated 0: uniform up to the 95 % limit. Less than its standard error: lognormal, as its df have no mean."""
        zero = pd.read_csv(GOLDEN / "06_indep.csv")
        text, truth = self.text("y ~ x + (1 | g) + (0 + x | g)", zero)
        upper = nl.fit("y ~ x + (1 | g) + (0 + x | g)", zero).confint().loc["sd_x|g", "upper"] ** 2
        prior = truth["random"]["g"]["variance"]["x"]
        assert (prior.pop("distribution"), prior.pop("low")) == ("uniform", 0)
        assert prior == pytest.approx({"high": upper}, rel=5e-3)
        assert "estimated 0, which has no sampling distribution" in text
        small = pd.read_csv(GOLDEN / "16_rs2.csv")
        formula = "y ~ x + w + (1 + x + w | g)"
        text, truth = self.text(formula, small)
        ((_, se, _),), _ = nl.fit(formula, small).se_variances
        prior = truth["random"]["g"]["variance"]["x"]
        assert prior.pop("distribution") == "lognormal"
        assert prior == pytest.approx({"mean": nl.fit(formula, small).varcomp["g"][1, 1], "sd": se}, rel=1e-5)
        assert "df are too few for a scaled chi-square with a mean: lognormal instead" in text

    def test_study_reads_and_runs(self, here: Path):
        for case, formula in (("13_cross", "y ~ z * x + (1 + x | g)"), ("16_rs2", "y ~ x + w + (1 + x + w | g)")):
            new(f"{case}.toml", (str(GOLDEN / f"{case}.csv"), formula), uncertain=True)
            results = nl.Study.from_toml(f"{case}.toml").run(replications=20, out=here / case)
            assert len(results.replicates()) == 20


def test_se_of_variances_against_theory():
    """Balanced one-way: the variances of ANOVA's mean squares (Searle, Casella & McCulloch 1992, section 3.5)."""
    random = np.random.default_rng(3)
    J, n = 12, 6
    g = np.repeat(np.arange(J), n)
    y = random.normal(size=J)[g] * 50 + random.normal(size=J * n) * 40 + 7
    fit = nl.fit("y ~ 1 + (1 | g)", pd.DataFrame({"g": g, "y": y}))
    s2, t2 = fit.sigma**2, fit.varcomp["g"][0, 0]
    ((se,),), residual = fit.se_variances
    assert residual == pytest.approx(np.sqrt(2 * s2**2 / (J * (n - 1))), rel=1e-9)
    expected = 2 / n**2 * ((n * t2 + s2) ** 2 / (J - 1) + s2**2 / (J * (n - 1)))
    assert se == pytest.approx(np.sqrt(expected), rel=1e-9)


def test_se_of_variances_follow_the_units():
    frame = rows()
    frame["x10"] = 10 * frame["x"]
    ((_, before),), residual = nl.fit("y ~ x + (1 + x | g)", frame).se_variances
    ((_, after),), same = nl.fit("y ~ x10 + (1 + x10 | g)", frame).se_variances
    assert (100 * after, same) == pytest.approx((before, residual), rel=1e-6)
