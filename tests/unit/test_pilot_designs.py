"""The study of a pilot is the pilot's own design: made pilots of every kind, by dense generalised least squares on the rows of
the written study, and the commands that `nestlab new --from-fit` prints, run for real."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.from_fit import read_pilot
from nestlab.show.new_command import NewOptions, new_command
from nestlab.show.pilot_check import ALLOWED, ratios
from nestlab.spec.matrices import model_matrices
from nestlab.spec.study import StudyFile

Array = NDArray[np.float64]
Columns = dict[str, Any]
DATA = Path(__file__).parent / "pilots"


@dataclass
class Pilot:
    """A made pilot. columns: of clusters g and a generator; kinds: how the study makes predictors; keys: some of their words."""

    formula: str
    columns: Callable[[Any, np.random.Generator], Columns]
    kinds: dict[str, str]
    keys: dict[str, Any] = field(default_factory=dict)
    J: int = 30
    sizes: Callable[[np.random.Generator, int], Any] = lambda random, J: np.full(J, 8)
    correlated: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        random = np.random.default_rng(11)
        g = np.repeat(np.arange(self.J), self.sizes(random, self.J))
        made = self.columns(g, random)
        first = np.unique(next(iter(made.values())), return_inverse=True)[1]
        y = first / first.std() + random.normal(size=g.size) + random.normal(0, 0.6, self.J)[g]
        return pd.DataFrame({"g": g, "y": y, **made})


def _unequal(random: np.random.Generator, J: int) -> Any:
    return random.integers(3, 20, J)


def _places(g: Any) -> Any:
    """The place of each row in its cluster."""
    return np.arange(len(g)) - np.searchsorted(g, g)


def _clustered(share: float, g: Any, r: np.random.Generator) -> Any:
    """A binary column whose share differs between clusters."""
    shares = r.beta(share * 1.5, (1 - share) * 1.5, g.max() + 1)
    return (r.uniform(size=len(g)) < shares[g]) * 1


def _correlated(g: Any, r: np.random.Generator) -> Columns:
    """With one correlation within clusters and between them."""
    within, between = r.normal(size=(2, len(g))), r.normal(size=(2, g.max() + 1))
    a, other = within + between[:, g]
    return {"a": a, "b": 0.8 * a + 0.5 * other + 3}


def _contextual(g: Any, r: np.random.Generator) -> Columns:
    x = r.normal(size=len(g)) + r.normal(size=g.max() + 1)[g]
    return {"x": x, "m": (np.bincount(g, x) / np.bincount(g))[g]}


def _visits(g: Any, r: np.random.Generator) -> Columns:
    return {"week": np.array([0, 1, 2, 4, 8, 12, 18, 24])[_places(g)]}


def _gaps(g: Any, r: np.random.Generator) -> Columns:
    """Five of eight visits."""
    kept = np.concatenate([np.sort(r.choice(8, 5, replace=False)) for _ in range(g.max() + 1)])
    return {"week": kept, "arm": g % 2}


ARMS = np.array(["control", "low", "high"])
MADE = {
    "rare at level 2": Pilot(
        "y ~ z + (1 | g)", lambda g, r: {"z": (g % 10 == 3) * 1}, {"z": "balanced"}, {"z": {"shares": [9, 1]}}
    ),
    "2:1 in clusters of unequal sizes": Pilot(
        "y ~ z + (1 | g)", lambda g, r: {"z": (g % 3 == 0) * 1}, {"z": "arms"}, {"z": {"shares": [2, 1]}}, sizes=_unequal
    ),
    "three arms": Pilot(
        "y ~ arm + (1 | g)", lambda g, r: {"arm": ARMS[np.where(g < 18, 0, np.where(g < 27, 1, 2))]}, {"arm": "balanced"},
        {"arm": {"categories": ["control", "high", "low"], "shares": [6, 1, 3]}},
    ),
    "three arms in clusters of unequal sizes": Pilot(
        "y ~ arm + (1 | g)", lambda g, r: {"arm": ARMS[g % 3]}, {"arm": "arms"},
        {"arm": {"categories": ["control", "high", "low"], "shares": [1, 1, 1]}}, sizes=_unequal,
    ),
    "crossed at level 2": Pilot(
        "y ~ a * b + (1 | g)", lambda g, r: {"a": g % 2, "b": (g // 2) % 2}, {"a": "balanced", "b": "balanced"}, J=32
    ),
    "two that go together at level 2": Pilot(
        "y ~ a + b + (1 | g)", lambda g, r: {"a": (g < 10) * 1, "b": (g < 13) * 1}, {"a": "list", "b": "list"}
    ),
    "with a covariate at level 2": Pilot(
        "y ~ a + z + (1 | g)", lambda g, r: {"a": g % 2, "z": r.normal(size=60)[g]}, {"a": "balanced", "z": "normal"}, J=60
    ),
    "a few values at level 2": Pilot(
        "y ~ dose + (1 | g)", lambda g, r: {"dose": np.array([1, 2, 4, 8])[g % 4]}, {"dose": "list"}
    ),
    "single-sex clusters": Pilot(
        "y ~ x + (1 | g)", lambda g, r: {"x": np.where(g % 10 < 8, g % 2, _places(g) % 2)}, {"x": "binary"}
    ),
    "a minority": Pilot("y ~ x + (1 | g)", lambda g, r: {"x": _clustered(0.06, g, r)}, {"x": "binary"}, J=60),
    "half of each cluster": Pilot("y ~ x + (1 | g)", lambda g, r: {"x": _places(g) % 2}, {"x": "balanced"}, sizes=_unequal),
    "visits of every cluster": Pilot(
        "y ~ week * arm + (1 | g)", lambda g, r: {**_visits(g, r), "arm": g % 2}, {"week": "list", "arm": "balanced"}
    ),
    "equidistant visits, dropout": Pilot(
        "y ~ t + (1 + t | g)", lambda g, r: {"t": 2.5 * _places(g)}, {"t": "time"}, {"t": {"start": 0, "step": 2.5}},
        sizes=lambda random, J: random.integers(2, 9, J),
    ),
    "visits with gaps": Pilot(
        "y ~ week * arm + (1 | g)", _gaps, {"week": "schedule", "arm": "list"}, sizes=lambda random, J: np.full(J, 5)
    ),
    "correlated at level 1": Pilot(
        "y ~ a + b + (1 | g)", _correlated, {"a": "normal", "b": "normal"}, correlated=("a:b",)
    ),
    "a share between clusters": Pilot(
        "y ~ x + (1 | g)", lambda g, r: {"x": r.normal(size=len(g)) + r.normal(0, 2, 30)[g]}, {"x": "normal"}, sizes=_unequal
    ),
    "a context": Pilot("y ~ x + m + (1 | g)", _contextual, {"x": "schedule", "m": "list"}),
    "categories at level 1": Pilot(
        "y ~ k + x + (1 | g)",
        lambda g, r: {"k": r.choice(["a 1", "b+", "c", "d"], len(g), p=[0.5, 0.3, 0.15, 0.05]), "x": r.normal(size=len(g))},
        {"k": "categorical", "x": "normal"}, {"k": {"categories": ["a_1", "b", "c", "d"]}},
    ),
    "categories that clusters differ in": Pilot(
        "y ~ k + (1 | g)", lambda g, r: {"k": np.where(r.uniform(size=len(g)) < 0.85, ARMS[g % 3], r.choice(ARMS, len(g)))},
        {"k": "schedule"},
    ),
    "functions of one column": Pilot(
        "log(y + 9) ~ x + I(x^2) + (1 | g)", lambda g, r: {"x": r.gamma(2, size=len(g))}, {"x": "schedule", "I_x_2": "schedule"}
    ),
    "a polynomial of visits": Pilot(
        "y ~ poly(week, 2) + (1 | g)", _visits, {"poly_week_2__1": "list", "poly_week_2__2": "list"}
    ),
    "a logarithm, a factor": Pilot(
        "y ~ log(x) + factor(k) + (1 | g)", lambda g, r: {"x": r.gamma(4, size=len(g)), "k": g % 3 + 1},
        {"log_x": "normal", "factor_k": "balanced"}, {"factor_k": {"categories": ["1", "2", "3"]}},
    ),
    "random slopes of categories": Pilot(
        "y ~ k + (1 + k | g)", lambda g, r: {"k": np.array(["p", "q", "r", "p"])[_places(g) % 4]}, {"k": "list"}
    ),
    "few clusters": Pilot(
        "y ~ x + z + (1 | g)", lambda g, r: {"x": r.normal(size=len(g)), "z": r.normal(size=8)[g]},
        {"x": "normal", "z": "list"}, J=8,
    ),
    "three values at level 1": Pilot(
        "y ~ x + (1 | g)", lambda g, r: {"x": r.choice([-1, 1, 5], len(g))}, {"x": "resampled"}
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(formula: str, data: str = "pilot.csv", **options: Any) -> None:
    rest = {key: options.pop(key) for key in ("uncertain",) if key in options}
    made = NewOptions(options, seed=1, replications=2000, yes=True, force=True, solve=True, **rest)
    new_command(Path("plan.toml"), made, (Path(data), formula))


def gls_errors(formula: str, frame: pd.DataFrame, fit: Any) -> dict[str, float]:
    """Standard errors of the fixed effects at a fit's variances, by dense matrices."""
    m = model_matrices(formula, frame)
    information = np.zeros((m.X.shape[1],) * 2)
    for j in range(m.groups.max() + 1):
        rows = m.groups == j
        V = fit.sigma**2 * np.eye(rows.sum())
        V += sum(Z[rows] @ G @ Z[rows].T for Z, G in zip(m.Z, fit.varcomp.values(), strict=True))
        information += m.X[rows].T @ np.linalg.solve(V, m.X[rows])
    return dict(zip(m.fixed_names, np.sqrt(np.diag(np.linalg.inv(information))), strict=True))


def dense_ratios(study: nl.Study, fitted: str, frame: pd.DataFrame, formula: str, replicates: int) -> list[float]:
    """Standard errors of the written study's coefficients, means over replicates, over those of the pilot."""
    fit = nl.fit(formula, frame)
    each = [gls_errors(fitted, study.data(0, r), fit) for r in range(replicates)]
    means = [float(np.mean([errors[term] for errors in each])) for term in each[0]]
    return [mean / se for mean, se in zip(means, fit.se.values(), strict=True)]


@pytest.mark.parametrize("name", MADE)
def test_a_made_pilot_is_its_own_design(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pilot = MADE[name]
    frame = pilot.frame()
    frame.to_csv("pilot.csv", index=False)
    new(pilot.formula)
    said = capsys.readouterr().out
    study = StudyFile.from_toml("plan.toml")
    (condition,) = study.conditions()
    assert sorted(condition.layout.sizes) == sorted(frame.groupby("g").size())
    assert {p.name: p.distribution for p in condition.predictors} == pilot.kinds
    written = study.to_dict()["predictors"]
    for predictor, keys in pilot.keys.items():
        assert {key: written[predictor][key] for key in keys} == keys
    assert tuple(study.correlation) == pilot.correlated
    fitted = study.truth.formula.replace("k[q] + k[r]", "k")
    found = dense_ratios(nl.Study.from_toml("plan.toml"), fitted, pd.read_csv("pilot.csv"), pilot.formula, 30)
    assert np.all(np.abs(np.log(found)) < np.log1p(ALLOWED)), found
    ends = [float(word) for word in said.partition("pilot's estimates: ")[2].split(" of ")[0].split(" to ")]
    assert (ends[0], ends[-1]) == pytest.approx((min(found), max(found)), abs=0.05)
    assert "its standard error in this study is" not in said


@pytest.mark.parametrize("name", MADE)
def test_what_is_printed_next_works(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands as they stand, with few replications; none of them fails, and the study is searched from its own design."""
    MADE[name].frame().to_csv("pilot.csv", index=False)
    new(MADE[name].formula)
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    nestlab ")]
    assert [command.split()[1] for command in commands] == ["run", "summary", "solve"]
    more = {
        "run": ["--replications", "20", "--jobs", "1"],
        "summary": [],
        "solve": ["--max-replications", "500", "--precision", "1", "--jobs", "1"],
    }
    for command in commands:
        _, verb, *arguments = shlex.split(command)
        ran = CliRunner().invoke(app, [verb, *arguments, *more[verb]])
        assert ran.exit_code == 0, ran.output + ran.stderr
    assert "clusters" in ran.stdout


@pytest.mark.parametrize(("case", "term", "power"), [("rare_urban", "urban", 0.33), ("single_sex", "girl", 0.17)])
def test_power_of_the_pilots_own_design(case: str, term: str, power: float, here: Path) -> None:
    """Half and half would have .695 and .52."""
    new(f"y ~ {term} + (1 | school)", str(DATA / f"{case}.csv"))
    summary = nl.Study.from_toml("plan.toml").run(replications=1500, out=here / "o", jobs=1).summary()
    row = summary.query("measure == 'power' and subset == 'all' and estimand == @term").iloc[0]
    assert row["value"] == pytest.approx(power, abs=0.01 + 3 * row["mcse"])


def test_other_numbers_than_the_pilots(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares, sizes, values and rows follow the number of clusters; twice the clusters have standard errors of 1 / sqrt 2."""
    arms, gaps = "three arms in clusters of unequal sizes", "visits with gaps"
    for name in ("rare at level 2", arms, gaps, "two that go together at level 2"):
        frame = MADE[name].frame()
        frame.to_csv("pilot.csv", index=False)
        new(MADE[name].formula, clusters="60,75")
        twice, more = StudyFile.from_toml("plan.toml").conditions()
        assert (twice.layout.clusters, more.layout.clusters) == (60, 75)
        pilot = read_pilot(Path("pilot.csv"), MADE[name].formula)
        found = ratios(pilot, StudyFile.from_toml("plan.toml"))
        assert list(found.values()) == pytest.approx([np.sqrt(0.5)] * len(found), rel=0.03)
        new(MADE[name].formula, clusters="30", cluster_size="4,9")
        assert [c.layout.sizes for c in StudyFile.from_toml("plan.toml").conditions()] == [(4,) * 30, (9,) * 30]


def test_every_beginning_of_the_clusters_is_like_the_pilot(here: Path) -> None:
    """4 of 40 are rare: any 20 in turn have 2, any 30 have 3."""
    frame = Pilot(
        "", lambda g, r: {"z": (g < 4) * 1, "w": (g < 5) * 1}, {}, J=40, sizes=_unequal
    ).frame()  # fmt: skip
    frame.to_csv("pilot.csv", index=False)
    new("y ~ z + w + (1 | g)")
    tables = StudyFile.from_toml("plan.toml").to_dict()["predictors"]
    values = np.array(tables["z"]["values"])
    assert values.sum() == 4
    for n in range(10, 41):
        assert abs(values[:n].sum() - n / 10) <= 1


def test_more_rows_than_a_file_should_hold(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some of the clusters are taken, and what that costs is told where it is much."""
    monkeypatch.setattr("nestlab.show.pilot_predictors.MOST_NUMBERS", 40)
    pilot = MADE["visits with gaps"]
    pilot.frame().to_csv("pilot.csv", index=False)
    new(pilot.formula)
    said = capsys.readouterr().out
    assert len(StudyFile.from_toml("plan.toml").to_dict()["predictors"]["week"]["sequences"]) == 8
    assert "week: as in the pilot's clusters (8 of them), which come in turn" in said
    monkeypatch.setattr("nestlab.show.pilot_check.ALLOWED", 0.0)
    new(pilot.formula)
    told = [line for line in capsys.readouterr().out.splitlines() if "its standard error in this study is" in line]
    assert told
    assert told[0].endswith("its rows are those of 8 of the pilot's 30 clusters, as more are too many for a file")


def test_what_stands_in_the_file(here: Path) -> None:
    """Names, categories and reasons are said where they are not the data's."""
    frame = MADE["categories at level 1"].frame()
    frame.to_csv("pilot.csv", index=False)
    new("log(y + 9) ~ k + log(x + 9) + (1 | g)")
    text = " ".join(line.removeprefix("# ") for line in Path("plan.toml").read_text().splitlines())
    assert "log_x_9 is log(x + 9) of the data" in text
    assert 'in the data a_1 is "a 1", b is "b+".' in text
    MADE["visits with gaps"].frame().to_csv("pilot.csv", index=False)
    new("y ~ week * arm + (1 | g)")
    text = " ".join(line.removeprefix("# ") for line in Path("plan.toml").read_text().splitlines())
    why = "clusters have different values of week, each once"
    assert f"arm and week: as in the pilot's clusters, which come in turn; {why}." in text


def test_uncertain_estimates_of_any_design(here: Path) -> None:
    """Priors stand in a study with lists, schedules and categories, too, and it runs."""
    for name in ("visits with gaps", "three arms in clusters of unequal sizes"):
        MADE[name].frame().to_csv("pilot.csv", index=False)
        new(MADE[name].formula, uncertain=True)
        assert len(nl.Study.from_toml("plan.toml").run(replications=20, out=here / name, jobs=1).replicates()) == 20


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (
            lambda w, r: (np.arange(len(w)) % 40 == 7) * 1,
            "drawn from distributions like theirs, some data sets do not tell",
        ),
        (lambda w, r: (w > 0) * 1, "they have correlations that no such distributions have"),
    ],
    ids=["too rare to be drawn", "beyond the greatest correlation"],
)
def test_why_rows_are_taken(
    column: Callable[[Array, np.random.Generator], Any], why: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(3)
    g = np.repeat(np.arange(15), 8)
    w = random.choice([-1.0, 1.0], g.size) + random.normal(0, 0.1, g.size)
    frame = pd.DataFrame({"g": g, "w": w, "x": column(w, random)})
    frame["y"] = random.normal(size=g.size) + random.normal(size=15)[g]
    frame.to_csv("pilot.csv", index=False)
    new("y ~ w + x + (1 | g)")
    assert f"note: w and x: as in the pilot's clusters, which come in turn; {why}" in capsys.readouterr().out
    found = ratios(read_pilot(Path("pilot.csv"), "y ~ w + x + (1 | g)"), StudyFile.from_toml("plan.toml"))
    assert list(found.values()) == pytest.approx([1, 1, 1], abs=1e-4)
