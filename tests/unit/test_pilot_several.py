"""`nestlab new --from-fit` with several grouping factors: made pilots of every kind. Their studies have the pilot's levels and
rows, its standard errors by dense generalised least squares, and its estimates as truths."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.from_fit import read_pilot
from nestlab.show.new_command import NewOptions, new_command
from nestlab.show.pilot_check import ALLOWED, ratios
from nestlab.spec.matrices import model_matrices
from nestlab.spec.study import StudyFile

ARMS = np.array(["control", "low", "high"])


@dataclass
class Pilot:
    """A made pilot. frame: its columns but for y, from a generator; levels: of each factor of the study; kinds: where predictors
    live and how the study makes them; listed: whether the rows are the pilot's; words: some of the keys of predictors."""

    formula: str
    frame: Callable[[np.random.Generator], pd.DataFrame]
    levels: dict[str, int]
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    listed: bool = False
    words: dict[str, Any] = field(default_factory=dict)
    terms: tuple[str, ...] = ()

    def made(self) -> pd.DataFrame:
        random = np.random.default_rng(7)
        frame = self.frame(random)
        y = 3 + random.normal(size=len(frame))
        for term in self.terms:
            codes = frame.groupby(term.split(":"), sort=False).ngroup().to_numpy()
            y += random.normal(0, 0.8, codes.max() + 1)[codes]
        return frame.assign(y=y)


def nested(random: np.random.Generator, schools: int = 12, classes: int = 3, rows: int = 6) -> pd.DataFrame:
    """Balanced; classes are numbered anew in each school."""
    school, cls, _ = (x.ravel() for x in np.indices((schools, classes, rows)))
    frame = pd.DataFrame({"school": school, "class": cls})
    return frame.assign(
        treat=school % 2, z=random.normal(size=schools)[school], w=random.normal(size=(schools, classes))[school, cls],
        x=random.normal(2, 3, len(frame)),
    )  # fmt: skip


def three_levels(random: np.random.Generator) -> pd.DataFrame:
    """Unbalanced; schools and classes have labels of their own, and class sizes differ."""
    rows = []
    for district in range(8):
        for school in range(random.integers(2, 5)):
            own = (f"d{district}", f"s{district}-{school}", district % 2, random.normal(), ARMS[random.integers(3)])
            for cls in range(random.integers(2, 4)):
                rows += [(*own, f"c{district}-{school}-{cls}", random.normal())] * random.integers(3, 9)
    frame = pd.DataFrame(rows, columns=["district", "school", "urban", "size", "arm", "class", "w"])
    return frame.assign(x=random.normal(size=len(frame)))


def crossed(random: np.random.Generator, subjects: int = 20, items: int = 8, rows: int = 1) -> pd.DataFrame:
    subject, item, _ = (x.ravel() for x in np.indices((subjects, items, rows)))
    return pd.DataFrame({"subject": subject, "item": item}).assign(
        cond=np.where((subject + item) % 2, 0.5, -0.5), group=np.where(subject % 2, "old", "young"),
        kind=ARMS[item % 3], length=random.normal(5, 2, items)[item], x=random.normal(size=len(subject)),
    )  # fmt: skip


def with_gaps(random: np.random.Generator) -> pd.DataFrame:
    frame = crossed(random)
    return frame[random.uniform(size=len(frame)) > 0.15].sample(frac=1, random_state=1).reset_index(drop=True)


def gaps_and_missing_values(random: np.random.Generator) -> pd.DataFrame:
    frame = with_gaps(random)
    frame.loc[[3, 9, 50], "x"] = np.nan
    return frame


def wedge(random: np.random.Generator) -> pd.DataFrame:
    cluster, period, person, _ = (x.ravel() for x in np.indices((9, 4, 5, 1)))
    return pd.DataFrame({"cluster": cluster, "period": period, "person": person}).assign(
        treat=(period > cluster % 3) * 1, x=random.normal(size=(9, 5))[cluster, person]
    )


def topics(random: np.random.Generator) -> pd.DataFrame:
    """Classes in schools, each of which works on every topic; rows differ in number."""
    frame = nested(random, 8, 2, 1)
    frame = frame.loc[np.repeat(frame.index, 4)].reset_index(drop=True).assign(topic=np.tile(np.arange(4), 16))
    frame = frame.loc[np.repeat(frame.index, random.integers(2, 6, len(frame)))].reset_index(drop=True)
    return frame.assign(x=random.normal(size=len(frame)), hard=(frame["topic"] > 1) * 1)


def movers(random: np.random.Generator) -> pd.DataFrame:
    primary = np.repeat(np.arange(12), 15)
    secondary = np.where(random.uniform(size=180) < 0.8, primary // 3, random.integers(0, 5, 180))
    return pd.DataFrame({"primary": primary, "secondary": secondary, "x": random.normal(size=180)})


MADE = {
    "nested, a predictor at each level": Pilot(
        "y ~ treat + z + w + x + (1 + x | school/class)", nested, {"school": 12, "class": 36},
        {"treat": ("school", "list"), "z": ("school", "list"), "w": ("class", "list"), "x": ("", "normal")},
        terms=("school", "school:class"),
    ),
    "three levels with labels of their own, unbalanced": Pilot(
        "y ~ urban + size + arm + w + x + (1 | district) + (1 | school) + (1 | class)", three_levels,
        {"district": 8, "school": 25, "class": 64},
        {"urban": ("district", "list"), "size": ("school", "list"), "arm": ("school", "list"), "w": ("class", "list"),
         "x": ("", "normal")},
        terms=("district", "school", "class"),
    ),
    "nested, many schools": Pilot(
        "y ~ treat + z + w + x + (1 | school/class)", lambda r: nested(r, 60), {"school": 60, "class": 180},
        {"treat": ("school", "balanced"), "z": ("school", "normal"), "w": ("class", "normal"), "x": ("", "normal")},
        terms=("school", "school:class"),
    ),
    "two factors of the same levels": Pilot(
        "y ~ x + (1 | school) + (0 + x | same)", lambda r: nested(r).assign(same=lambda d: d["school"] + 5),
        {"school": 12, "same": 12}, {"x": ("", "list")}, listed=True, terms=("school",),
    ),
    "classes alone": Pilot(
        "y ~ treat + x + (1 | school:class)", nested, {"school": 12, "class": 36},
        {"treat": ("school", "balanced"), "x": ("", "normal")}, terms=("school:class",),
    ),
    "crossed with slopes, counterbalanced": Pilot(
        "y ~ cond * group + length + (1 + cond | subject) + (1 + group | item)", crossed, {"subject": 20, "item": 8},
        {"cond": ("subject:item", "latin-square"), "group": ("subject", "list"), "length": ("item", "list")},
        words={"cond": {"values": [-0.5, 0.5]}}, terms=("subject", "item"),
    ),
    "crossed, categories of items": Pilot(
        "y ~ kind + x + (1 | subject) + (1 | item)", crossed, {"subject": 20, "item": 8},
        {"kind": ("item", "balanced"), "x": ("subject:item", "normal")},
        words={"kind": {"categories": ["control", "high", "low"], "shares": [3, 2, 3]}}, terms=("subject", "item"),
    ),
    "crossed with an interaction": Pilot(
        "y ~ cond + x + (1 | subject) + (1 | item) + (1 | subject:item)", lambda r: crossed(r, 12, 6, 4),
        {"subject": 12, "item": 6}, {"cond": ("subject:item", "latin-square"), "x": ("", "normal")},
        terms=("subject", "item", "subject:item"),
    ),
    "crossed, cells of any sizes": Pilot(
        "y ~ hard + treat + x + (1 | school/class) + (1 | topic)", topics, {"school": 8, "class": 16, "topic": 4},
        {"hard": ("topic", "balanced"), "treat": ("school", "balanced"), "x": ("", "normal")},
        terms=("school", "school:class", "topic"),
    ),
    "cells without rows": Pilot(
        "y ~ cond + group + x + (1 + cond | subject) + (1 | item)", with_gaps, {"subject": 20, "item": 8},
        {"cond": ("", "list"), "group": ("subject", "list"), "x": ("", "list")}, listed=True, terms=("subject", "item"),
    ),
    "cells without rows, missing values, functions, categories": Pilot(
        "y ~ kind + I(x^2) + factor(cond) + (1 | subject) + (1 | item)", gaps_and_missing_values, {"subject": 20, "item": 8},
        {"kind": ("item", "list"), "I_x_2": ("", "list"), "factor_cond": ("", "list")}, listed=True, terms=("subject", "item"),
    ),
    "partly crossed": Pilot(
        "y ~ x + (1 | primary) + (1 | secondary)", movers, {"primary": 12, "secondary": 5}, {"x": ("", "list")}, listed=True,
        terms=("primary", "secondary"),
    ),
    "a stepped wedge": Pilot(
        "y ~ factor(period) + treat + x + (1 | cluster) + (1 | cluster:period) + (1 | cluster:person)", wedge,
        {"cluster": 9, "period": 36, "person": 45},
        {"factor_period": ("period", "list"), "treat": ("period", "list"), "x": ("person", "list")},
        words={"factor_period": {"values": [0, 1, 2, 3]}}, terms=("cluster", "cluster:period", "cluster:person"),
    ),
    "a factor that is a predictor too": Pilot(
        "y ~ period * treat + (1 | cluster) + (1 | cluster:period)", wedge, {"cluster": 9, "period_2": 36},
        {"period": ("period_2", "list"), "treat": ("period_2", "list")}, terms=("cluster", "cluster:period"),
    ),
    "functions of one column": Pilot(
        "y ~ x + I(x^2) + (1 | school/class)", nested, {"school": 12, "class": 36},
        {"x": ("", "schedule"), "I_x_2": ("", "schedule")}, terms=("school", "school:class"),
    ),
    "functions of one column in cells of one row": Pilot(
        "y ~ x + I(x^2) + (1 | cluster) + (1 | cluster:period) + (1 | cluster:person)",
        lambda r: wedge(r).assign(x=r.normal(size=180)), {"cluster": 9, "period": 36, "person": 45},
        {"x": ("", "list"), "I_x_2": ("", "list")}, listed=True, terms=("cluster", "cluster:period", "cluster:person"),
    ),
    "an uneven condition": Pilot(
        "y ~ odd + (1 | subject) + (1 | item)", lambda r: crossed(r).assign(odd=lambda d: (d["subject"] * d["item"]) % 7 < 2),
        {"subject": 20, "item": 8}, {"odd": ("subject:item", "list")}, terms=("subject", "item"),
    ),
    "singular": Pilot(
        "y ~ x + (1 | school/class)", nested, {"school": 12, "class": 36}, {"x": ("", "normal")}, terms=("school",)
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(formula: str, data: str = "pilot.csv", file: str = "plan.toml", **options: Any) -> StudyFile:
    rest = {key: options.pop(key) for key in ("uncertain",) if key in options}
    made = NewOptions(options, seed=1, replications=2000, yes=True, force=True, solve=True, **rest)
    new_command(Path(file), made, (Path(data), formula))
    return StudyFile.from_toml(file)


def gls_errors(formula: str, frame: pd.DataFrame, fit: nl.Fit) -> dict[str, float]:
    """Standard errors of the fixed effects at a fit's variances, by dense matrices."""
    m = model_matrices(formula, frame)
    V = fit.sigma**2 * np.eye(len(m.y))
    for t, G in zip(fit.matrices.term_order, fit.varcomp.values(), strict=True):
        codes = m.levels[m.formula.random[t].group].codes
        V += (codes[:, None] == codes) * (m.Z[t] @ G @ m.Z[t].T)
    covariance = np.linalg.inv(m.X.T @ np.linalg.solve(V, m.X))
    return dict(zip(m.fixed_names, np.sqrt(np.diag(covariance)), strict=True))


@pytest.mark.parametrize("name", MADE)
def test_a_made_pilot_is_its_own_design(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pilot = MADE[name]
    frame = pilot.made()
    frame.to_csv("pilot.csv", index=False)
    study = new(pilot.formula)
    said = capsys.readouterr().out
    (condition,) = study.conditions()
    structure = condition.structure
    assert structure is not None
    assert {each.name: each.levels for each in structure.groupings} == pilot.levels
    assert bool(structure.listed) == pilot.listed
    assert {p.name: (p.at, p.distribution) for p in condition.predictors} == pilot.kinds
    written = study.to_dict()["predictors"]
    for predictor, keys in pilot.words.items():
        assert {key: written[predictor][key] for key in keys} == keys
    fit = nl.fit(pilot.formula, frame)
    whole = nl.Study.from_toml("plan.toml")
    each = [gls_errors(study.truth.formula, whole.data(0, r), fit) for r in range(20)]
    found = [np.mean([errors[term] for errors in each]) / se for term, se in zip(each[0], fit.se.values(), strict=True)]
    assert len(whole.data(0, 0)) == fit.rows
    assert np.all(np.abs(np.log(found)) < np.log1p(ALLOWED)), found
    ends = [float(word) for word in said.partition("pilot's estimates: ")[2].split(" of ")[0].split(" to ")]
    assert (ends[0], ends[-1]) == pytest.approx((min(found), max(found)), abs=0.05)
    assert ("singular" in said) == fit.singular
    assert fit.singular or name != "singular"
    check_estimates(study, fit)
    results = whole.run(replications=10, out=here / "o", jobs=1)
    assert len(results.replicates()) == 10
    places = condition.truth.formula.places
    assert {f"var:{group}:{column}" for group, column in places} <= set(results.summary()["estimand"])


def check_estimates(study: StudyFile, fit: nl.Fit) -> None:
    """Fixed effects, variances and correlations by factor and the residual variance."""
    truth = study.conditions()[0].truth
    assert truth.fixed == pytest.approx(list(fit.beta.values()), rel=1e-4, abs=1e-8)
    assert truth.residual_variance == pytest.approx(fit.sigma**2, rel=1e-5)
    ends = np.cumsum([0, *truth.formula.block_sizes])
    for t, block in zip(fit.matrices.term_order, fit.varcomp.values(), strict=True):
        part = np.array(truth.covariance)[ends[t] : ends[t + 1], ends[t] : ends[t + 1]]
        scale = np.sqrt(np.outer(np.diag(block), np.diag(block)))
        assert np.all(np.abs(part - block) <= 2e-5 * scale + 1e-8 * fit.sigma**2)


@pytest.mark.parametrize(
    ("name", "solved"),
    [("classes alone", True), ("cells of any sizes", False), ("cells without rows", False), ("a stepped wedge", True)],
)
def test_what_is_printed_next_works(name: str, solved: bool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands as they stand. Numbers of levels can't be searched where rows are listed by cell, or are the pilot's."""
    pilot = next(made for key, made in MADE.items() if key.endswith(name))
    pilot.made().to_csv("pilot.csv", index=False)
    new(pilot.formula)
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    nestlab ")]
    assert [command.split()[1] for command in commands] == ["run", "summary", *(["solve"] * solved)]
    more = {
        "run": ["--replications", "20", "--jobs", "1"],
        "summary": [],
        "solve": ["--max-replications", "500", "--precision", "1", "--jobs", "1"],
    }
    for command in commands:
        _, verb, *arguments = shlex.split(command)
        ran = CliRunner().invoke(app, [verb, *arguments, *more[verb]])
        assert ran.exit_code == 0, ran.output + ran.stderr


def test_more_levels_are_more_of_the_same(here: Path) -> None:
    """The grid that the file suggests: twice the schools have standard errors of 1 / sqrt 2."""
    formula = "y ~ urban + x + (1 | district) + (1 | class)"
    MADE["three levels with labels of their own, unbalanced"].made().to_csv("pilot.csv", index=False)
    new(formula)
    text = Path("plan.toml").read_text()
    axis = '"clusters.district" = [8, 16, 32]'
    Path("twice.toml").write_text(
        text.replace("# [grid] ", "[grid] ").replace(f"# {axis}", '"clusters.district" = [16]')
    )
    study = StudyFile.from_toml("twice.toml")
    found = ratios(read_pilot(Path("pilot.csv"), formula), study)
    assert list(found.values()) == pytest.approx([np.sqrt(0.5)] * len(found), rel=0.03)


def test_a_study_gives_the_pilots_estimates_back(here: Path) -> None:
    """Means over 1,000 fits; REML's estimates of variances are unbiased where none is cut off at 0."""
    pilot = MADE["crossed with slopes, counterbalanced"]
    pilot.made().to_csv("pilot.csv", index=False)
    new("y ~ cond * group + (1 | subject) + (1 | item)")
    fit = nl.fit("y ~ cond * group + (1 | subject) + (1 | item)", pilot.made())
    results = nl.Study.from_toml("plan.toml").run(replications=1000, out=here / "o", jobs=1)
    summary = results.summary().query("measure == 'bias' and subset == 'all'").set_index("estimand")
    truths = dict(zip(["Intercept", "cond", "group", "cond:group"], fit.beta.values(), strict=True))
    truths |= {f"var:{group}:Intercept": fit.varcomp[group][0, 0] for group in ("subject", "item")}
    for name, truth in truths.items():
        row = summary.loc[name]
        assert abs(row["value"]) < 4 * row["mcse"], name
        assert results.truths().query("estimand == @name")["value"].iloc[0] == pytest.approx(truth, rel=1e-5)


def test_what_stands_in_the_file(here: Path) -> None:
    MADE["nested, a predictor at each level"].made().to_csv("pilot.csv", index=False)
    new("y ~ treat + x + (1 | school/class)")
    text = Path("plan.toml").read_text()
    assert "rows = 6                                # in each class, as in the data" in text
    assert 'class = { within = "school", number = 3 }' in text
    assert "216 rows, 12 schools, 36 classes" in text.replace("\n# ", " ")
    MADE["cells without rows"].made().to_csv("pilot.csv", index=False)
    new("y ~ group + (1 | subject) + (1 | item)")
    text = Path("plan.toml").read_text()
    assert '[design.factors.subject]\nfile = "pilot.csv"\ncolumn = "subject"' in text
    said = " ".join(line.removeprefix("# ") for line in text.splitlines())
    assert (
        "The rows of the design are the pilot's, as some combinations of levels have no rows. For other numbers write"
        in said
    )
    assert "subject = 20, item = 8 in place of the file, rows = 1 in [design] and cells = 0.1" in said


def test_the_data_are_found_from_the_studys_folder(here: Path) -> None:
    MADE["partly crossed"].made().to_csv("pilot.csv", index=False)
    Path("plans").mkdir()
    study = new(MADE["partly crossed"].formula, file="plans/plan.toml")
    assert 'file = "../pilot.csv"' in Path("plans/plan.toml").read_text()
    assert len(study.conditions()[0].structure.listed[0]) == 180


def test_uncertain_estimates(here: Path) -> None:
    for name in ("crossed, cells of any sizes", "singular"):
        MADE[name].made().to_csv("pilot.csv", index=False)
        study = new(MADE[name].formula, uncertain=True)
        assert study.conditions()[0].priors
        assert len(nl.Study.from_toml("plan.toml").run(replications=20, out=here / name, jobs=1).replicates()) == 20


class TestRefusals:
    @pytest.mark.parametrize(
        ("formula", "message"),
        [
            (
                "y ~ x + offset(z) + (1 | school/class)",
                r"can't have offset\(z\) in a study; make it a column of the data, or",
            ),
            (
                "y ~ x + (1 + z | school/class)",
                "^the study of this fit: truth.formula = .* as it is constant within school",
            ),
        ],
    )
    def test_models(self, formula: str, message: str, here: Path) -> None:
        frame = nested(np.random.default_rng(2))
        frame.assign(y=frame["x"] ** 2 + frame["class"]).to_csv("pilot.csv", index=False)
        with pytest.raises(ValueError, match=message):
            new(formula)
        assert not Path("plan.toml").exists()

    @pytest.mark.parametrize("flag", ["clusters", "cluster_size"])
    def test_numbers_of_clusters(self, flag: str, here: Path) -> None:
        MADE["singular"].made().to_csv("pilot.csv", index=False)
        with pytest.raises(
            ValueError, match=r"is for one grouping factor; leave .* out, and edit the numbers in the file's"
        ):
            new(MADE["singular"].formula, **{flag: "20"})

    def test_more_rows_than_a_file_should_list(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nestlab.show.pilot_several.MOST_NUMBERS", 100)
        pilot = MADE["cells without rows, missing values, functions, categories"]
        pilot.made().to_csv("pilot.csv", index=False)
        with pytest.raises(
            ValueError, match="which the file does not have as they are; write a file of these rows alone"
        ):
            new(pilot.formula)
