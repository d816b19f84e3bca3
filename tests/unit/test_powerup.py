"""The trial with a pretest, unequal schools and attrition, beside PowerUp!'s closed form, which is written out here again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import nct, t

import nestlab as nl
from nestlab.show.outcome import outcome_numbers
from study_scripts import STUDIES, script

powerup = script("powerup")


def closed_form(J: int, n: float, rho: float, R1: float, R2: float, P: float = 0.5, g: int = 0) -> float:
    """MDES of CRA2 (Dong and Maynard 2013), power 0.8 by a two-sided test at 0.05."""
    M = t.ppf(0.975, J - g - 2) + t.ppf(0.8, J - g - 2)
    return float(M * math.sqrt(rho * (1 - R2) / (P * (1 - P) * J) + (1 - rho) * (1 - R1) / (P * (1 - P) * J * n)))


@pytest.mark.parametrize("J", [12, 40])
@pytest.mark.parametrize(("n", "rho", "R1", "R2", "g"), [(20, 0.2, 0.0, 0.0, 0), (17, 0.15, 0.5, 0.4, 1)])
def test_mdes_is_the_closed_form(J: int, n: int, rho: float, R1: float, R2: float, g: int) -> None:
    given = {"rho": rho, "r2_within": R1, "r2_between": R2}
    mdes = closed_form(J, n, rho, R1, R2, g=g)
    assert powerup.mdes(J, n, g=g, **given) == pytest.approx(mdes, rel=1e-12)
    assert powerup.power(mdes, J, n, g=g, **given) == pytest.approx(0.8, rel=1e-12)
    assert powerup.schools(mdes * 1.0001, n, g=g, **given) == J
    assert powerup.schools(mdes * 0.9999, n, g=g, **given) == J + 2


def test_it_is_the_t_test_of_equal_schools_without_a_covariate() -> None:
    """But for the noncentral t, for which the sum of two quantiles stands."""
    for J in (10, 20, 60):
        d = closed_form(J, 20, 0.2, 0, 0)
        ncp = d / math.sqrt(4 / J * (0.2 + 0.8 / 20))
        exact = float(1 - nct.cdf(t.ppf(0.975, J - 2), J - 2, ncp))
        assert powerup.power(d, J, 20, rho=0.2) == pytest.approx(exact, abs=0.012 if J == 10 else 0.005)


def solved(study: nl.Study, folder: Path) -> tuple[int, dict[str, float]]:
    """The schools that solve asks for, and what it says of the outcome there."""
    answer = study.solve(over="clusters", power=0.8, estimand="treatment", out=folder, jobs=1)
    solution = answer.solutions[0]
    assert solution.reached
    return int(solution.values["clusters"]), outcome_numbers(solution.condition, "treatment")


@pytest.mark.parametrize(("cv", "corrected"), [(0.4, False), (0.6, True)])
def test_the_trial_is_solved_within_two_schools(cv: float, corrected: bool, tmp_path: Path) -> None:
    """Pretest, unequal schools and 15 % attrition, at the mean number of pupils that is left.

    corrected: by what unequal schools cost (van Breukelen, Candel and Berger 2007), 1 / (1 - cv^2 w (1 - w)) as many of them with
    w = n t2 / (n t2 + s2): a school at a cv of 0.4, and three at 0.6, which the closed form does not know.
    """
    tables = nl.Study.from_toml(STUDIES / "school_trial.toml").file.to_dict()
    tables["design"]["cluster_size"]["cv"] = cv
    del tables["grid"]
    schools, look = solved(nl.Study.from_dict(tables), tmp_path)
    asked = (
        look["d_outcome"],
        look["icc"],
        look["r2_within"],
        look["r2_between"],
    )  # one slope: the pretest lies as the outcome does
    assert asked == pytest.approx((0.3, 0.15, 0.5, 0.5), rel=1e-10)
    needed = next(J for J in range(4, 200, 2) if closed_form(J, 17, 0.15, 0.5, 0.5) <= 0.3)
    if corrected:
        w = 17 * 0.075 / (17 * 0.075 + 0.425)
        needed = round(needed / (1 - cv**2 * w * (1 - w)))
    assert abs(schools - needed) <= 2


def test_equal_schools_and_two_levels_of_the_pretest(tmp_path: Path) -> None:
    """R2 at each level, by the pretest's two parts: a school-level covariate more, so g = 1."""
    tables = nl.Study.from_toml(STUDIES / "school_trial.toml").file.to_dict()
    del tables["grid"], tables["missing"]
    tables["design"]["cluster_size"] = 17
    tables["truth"]["formula"] = "y ~ 1 + treatment + within(pretest) + between(pretest) + (1 | school)"
    tables["truth"]["outcome"]["r2_between"] = 0.7
    tables["method"] = [{"name": "reml"}]
    schools, look = solved(nl.Study.from_dict(tables), tmp_path)
    assert (look["icc"], look["r2_within"], look["r2_between"]) == pytest.approx((0.15, 0.5, 0.7), rel=1e-10)
    needed = next(J for J in range(6, 200, 2) if closed_form(J, 17, 0.15, 0.5, 0.7, g=1) <= 0.3)
    assert abs(schools - needed) <= 2


def test_the_rows_of_the_trial_are_what_the_study_says(tmp_path: Path) -> None:
    """Variance, icc and d of simulated rows, by moments of pairs within arms."""
    tables = nl.Study.from_toml(STUDIES / "school_trial.toml").file.to_dict()
    del tables["grid"]
    study = nl.Study.from_dict(tables)
    rows = []
    for replicate in range(200):
        frame = study.data(0, replicate)
        means = frame.groupby("treatment")["y"].mean()
        gap = means[1] - means[0]
        y = frame["y"] - 0.3 * frame["treatment"]
        sums = y.groupby(frame["school"]).agg(["sum", "count", lambda v: (v**2).sum()]).to_numpy()
        total, n, squares = sums.T
        rows.append((squares.sum() / n.sum(), (total**2 - squares).sum() / (n * (n - 1)).sum(), gap))
    found = np.array(rows)
    errors = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert found.mean(axis=0) == pytest.approx([1.0, 0.15, 0.3], abs=float(4 * errors.max()))
    assert (abs(found.mean(axis=0) - [1.0, 0.15, 0.3]) < 4 * errors).all()
    assert (errors < [0.01, 0.01, 0.02]).all()
