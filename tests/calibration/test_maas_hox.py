"""Published and exact results: noncoverage with 30, 50 and 100 groups (Maas and Hox 2005), and power of a two-arm trial.

Bounds are 4 joint standard errors of the published figure (9,000 replications) and of ours. In the designs of 5 rows a group
and icc .1 the article's estimator lets variances become negative and nestlab's does not: the level-2 variances are compared
without them, and with RIGLS in their place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm

import nestlab as nl
from study_scripts import STUDIES, script

pytestmark = pytest.mark.calibration

ROOT = Path(__file__).parents[2]
GRID = pd.read_csv(ROOT / "tests" / "golden" / "closed_form_grid.csv")
FEW = 300


table, rigls = script("published_table"), script("maas_hox_rigls")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """All 27 designs with another seed, other x and z, and few replications."""
    study = nl.Study.from_toml(STUDIES / "maas_hox_2005.toml", seed=86, replications=FEW)
    return table.noncoverage(study.run(out=tmp_path_factory.mktemp("maas_hox")).summary())


def apart(cells: pd.DataFrame) -> pd.Series:
    """Distance from the published figures in joint standard errors."""
    return table.distances(cells)


def without_explained(cells: pd.DataFrame) -> pd.DataFrame:
    explained = (cells["cluster_size"] == 5) & (cells["icc"] == 0.1) & cells["estimand"].isin(table.LEVEL2)
    return cells[~explained]


def test_a_fresh_run_is_within_4_standard_errors_of_the_published_figures(fresh: pd.DataFrame) -> None:
    assert len(fresh) == 27 * 2 * 7
    assert (fresh["n"] == FEW).all()
    distances = apart(without_explained(fresh))
    assert len(distances) == 21
    assert distances.abs().max() < 4, distances


def test_the_stored_run_is_within_4_standard_errors_of_the_published_figures() -> None:
    cells, refits, _ = table.stored()
    assert (cells["n"] == 10_000).all()
    assert apart(without_explained(cells)).abs().max() < 4
    assert apart(table.with_rigls(cells, refits)).abs().max() < 4
    distances = apart(cells)
    assert list(distances[distances.abs() > 4].index) == [(30, "var:group:Intercept")]


def test_the_stored_run_is_what_the_study_gives(fresh: pd.DataFrame) -> None:
    """Each of 27 x 2 x 7 rates, by the binomial tails of 4.5 standard errors."""
    key = ["clusters", "cluster_size", "icc", "method", "estimand"]
    both = fresh.merge(table.stored()[0], on=key, suffixes=("", "_stored"))
    assert len(both) == len(fresh)
    counts, rates, tail = (both["noncoverage"] * FEW).round(), both["noncoverage_stored"], norm.sf(4.5)
    assert (binom.ppf(tail, FEW, rates) <= counts).all()
    assert (counts <= binom.isf(tail, FEW, rates)).all()


def test_what_is_explained_is_there(fresh: pd.DataFrame) -> None:
    """Fits are singular in designs of 5 rows alone; most of all in 30 groups, where RIGLS misses small variances more often."""
    cells, refits, _ = table.stored()
    independent = cells[(cells["method"] == "independent") & cells["estimand"].isin(table.LEVEL2)]
    assert independent[independent["cluster_size"] > 5]["singular"].max() == 0
    worst = independent[
        (independent["cluster_size"] == 5) & (independent["icc"] == 0.1) & (independent["clusters"] == 30)
    ]
    theirs = refits[(refits["clusters"] == 30) & (refits["icc"] == 0.1)].iloc[0]
    for row in worst.to_dict("records"):
        rate = theirs[row["estimand"]]
        assert rate - row["noncoverage"] > 4 * np.sqrt(rate * (1 - rate) / theirs["n"])
    again = fresh[(fresh["cluster_size"] == 5) & (fresh["icc"] == 0.1) & (fresh["clusters"] == 30)]
    share = again[again["method"] == "independent"]["singular"].iloc[0]
    assert abs(share - theirs["negative"]) < 4 * np.sqrt(0.2 * 0.8 / FEW)


def test_rigls_is_reml_where_variances_are_positive(tmp_path: Path) -> None:
    """On the same rows: estimates and standard errors agree, and a fit is singular where RIGLS has a negative variance."""
    study = nl.Study.from_toml(STUDIES / "maas_hox_2005.toml", replications=100)
    refits = rigls.refit(study, 0, 100)
    condition = study.conditions[0]
    assert (condition.layout.clusters, condition.layout.sizes[0], condition.factors["icc"]) == (30, 5, 0.1)
    stored = nl.Study.from_dict(one_design(study)).run(out=tmp_path).replicates(method="independent")
    estimates = [f"estimate.{p}" for p in rigls.PARAMETERS]
    negative = (refits[estimates] < 0).any(axis=1)
    settled, singular = refits["settled"].to_numpy(bool), stored["singular"].to_numpy(bool)
    assert settled.sum() >= 95
    np.testing.assert_array_equal(negative[settled], singular[settled])
    inside = settled & ~singular
    assert 50 < inside.sum() < 95
    for column in (*estimates, *(f"se.{p}" for p in rigls.PARAMETERS)):
        np.testing.assert_allclose(refits[column][inside], stored[column][inside], rtol=1e-6, atol=1e-9)


def one_design(study: nl.Study) -> dict[str, object]:
    """The study's first design alone: data depend on the condition, not on the grid around it."""
    from nestlab.spec.reading import read_toml

    tables = read_toml(STUDIES / "maas_hox_2005.toml")
    grid = {"clusters": [30], "cluster_size": [5], "icc": [0.1], "slope_variance_ratio": [1.0]}
    return {**tables, "grid": grid, "replications": 100}


@pytest.mark.parametrize("number", GRID.index[::6])
def test_exact_power_is_that_of_the_golden_grid(number: int) -> None:
    """Six digits; midpoints in two dimensions are good to 5e-5."""
    cell = GRID.loc[number]
    for test, column in (("between-within", "t_J-2"), ("z", "z")):
        for effect, name in ((0.0, "null"), (0.5, "beta.5")):
            found = table.exact_power(
                clusters=int(cell["J"]),
                size=int(cell["n"]),
                icc=cell["icc"],
                effect=effect / np.sqrt(1 - cell["icc"]),
                test=test,
            )
            assert found == pytest.approx(cell[f"crt_{name}_{column}_exactREML"], abs=5e-5)


def test_power_of_the_two_arm_trial_is_exact(tmp_path: Path) -> None:
    """Stored and fresh rejections lie within 4 standard errors of exact ones, Satterthwaite's at the boundary too."""
    study = nl.Study.from_toml(STUDIES / "two_arm_trial.toml", seed=7, replications=5000)
    rates = pd.concat([table.stored()[2], table.rejections(study.run(out=tmp_path).summary())])
    assert len(rates) == 24
    for row in rates.to_dict("records"):
        exact = table.exact_power(
            clusters=row["clusters"], size=20, icc=row["icc"], effect=0.5, test=row["method"].removeprefix("reml/")
        )
        count, tail = round(row["value"] * row["n"]), norm.sf(4)
        assert binom.ppf(tail, row["n"], exact - 5e-5) <= count <= binom.isf(tail, row["n"], exact + 5e-5), row


def test_the_readme_says_what_the_numbers_say() -> None:
    section = table.section(*table.stored())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert section in readme
    assert table.replace_section(readme, section) == readme
    assert len(section.strip().splitlines()) <= 30
