"""Rivals of mixed models for crossed factors against published simulations, on data drawn here in plain NumPy.

By-subject and by-item analyses: Barr, Levy, Scheepers & Tily (2013, J Mem Lang 68, 255-278), 100,000 data sets per rate, given to
three digits. Two-way robust errors: Lee & Pustejovsky (2023, Psychol Methods), 1,000 data sets per figure. Bounds are 4 joint
standard errors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nestlab.fit.inference import Hypotheses
from nestlab.fit.rivals.by_units import both_tests, by_units, min_f
from nestlab.fit.rivals.multiway import Robust
from nestlab.fit.rivals.regression import Regressed, regress
from nestlab.fit.rivals.rows import CrossedRows
from published_figures import figures

pytestmark = pytest.mark.calibration

GOLDEN = Path(__file__).parents[1] / "golden"
BY_UNITS = pd.read_csv(GOLDEN / "published_by_units.csv")
SUBJECTS, DATA_SETS, THEIRS = 24, 10_000, 100_000


def between_items(rng: np.random.Generator, items: int, effect: float, R: int) -> CrossedRows:
    """The between-items design: the condition is -.5 for odd items and .5 for even ones, and each subject sees each item once.

    For each data set are drawn: the intercept from U(-3, 3), the residual variance and the variances of subjects' intercepts and
    slopes and of items' intercepts from U(0, 3), the correlation of subjects' effects from U(-.8, .8), and a share from
    U(0, .05) of all rows, rounded to a number, that are missing completely at random.
    """
    subject, item = (each.ravel() for each in np.indices((SUBJECTS, items)))
    N, condition = SUBJECTS * items, item % 2 - 0.5
    residual, intercepts, slopes, of_items = np.sqrt(rng.uniform(0, 3, size=(4, R)))
    r = rng.uniform(-0.8, 0.8, size=R)
    a, b = rng.normal(size=(2, SUBJECTS, R))
    y = rng.uniform(-3, 3, size=R) + residual * rng.normal(size=(N, R)) + (of_items * rng.normal(size=(items, R)))[item]
    y += (intercepts * a)[subject] + condition[:, None] * (effect + (slopes * (r * a + np.sqrt(1 - r**2) * b))[subject])
    missing = np.rint(N * rng.uniform(0, 0.05, size=R))
    kept = rng.random((N, R)).argsort(axis=0).argsort(axis=0) >= missing
    X = np.stack([np.ones(N), condition])
    return CrossedRows(X[:, :, None], y, {"subject": subject, "item": item}, kept)


@pytest.mark.parametrize("items", [12, 24])
@pytest.mark.parametrize(("quantity", "effect"), [("type I", 0.0), ("power", 0.8)])
def test_rates_of_f1_f2_and_min_f_are_the_published_ones(items, quantity, effect):
    rng, found = np.random.default_rng([13, items, effect > 0]), []
    for _ in range(DATA_SETS // 500):
        rows = between_items(rng, items, effect, 500)
        one, two = by_units(rows, "subject").tests, by_units(rows, "item").tests
        found.append([tests.p[:, 1] for tests in (one, min_f(one, two), both_tests(one, two))])
    p = dict(zip(["F1", "min-F'", "F1xF2"], np.concatenate(found, axis=1), strict=True))
    published = BY_UNITS[(BY_UNITS["items"] == items) & (BY_UNITS["quantity"] == quantity)]
    assert len(published) == 6
    for row in published.to_dict("records"):
        ours, theirs = (p[row["analysis"]] < row["alpha"]).mean(), row["rate"]
        se = np.sqrt(theirs * (1 - theirs) * (1 / DATA_SETS + 1 / THEIRS) + 0.001**2 / 12)
        assert abs(ours - theirs) < 4 * se, row


# -- two-way robust errors ----------------------------------------------------------------------------------------------------

CROSSED = pd.read_csv(GOLDEN / "published_cross_classified.csv", keep_default_na=False, na_values=[""])
KEY = ["G", "H", "J", "ICC_h", "assumption"]
WITHIN_SETS, PUBLISHED_SETS = 500, 1000
FACTORS = ("school", "hood")
DESIGNS = [(70, 20, 30, 0.05, "met"), (70, 20, 30, 0.15, "met"), (70, 20, 30, 0.25, "met")] + [
    (70, 20, 30, 0.05, name) for name in ("exogeneity", "heterosced", "random slopes")
]


def cross_classified(
    rng: np.random.Generator, G: int, H: int, J: int, icc: float, assumption: str, gamma: tuple[float, ...], R: int
) -> CrossedRows:
    """Pupils of H schools with J pupils each, and of G neighbourhoods, all drawn anew for each data set.

    A pupil of school h = 1 .. H lives in neighbourhood round(h G / H) + d, less G where that is above G; d is uniform on
    1 .. floor(.1 G), and halves round to even. y = gamma (X, W, Z) + b_g + c_h + u, with variances .05 of neighbourhoods,
    icc of schools and the rest of 1 of pupils. X = X_g + X_h + X_p with variances 20, 20 and 60, W of neighbourhoods and Z
    of schools standard normal. exogeneity: b_g and X_g correlate by .4. heterosced: the variance of u is times
    exp((30 X - 100) / 450). random slopes: X_p has slopes with variance .05 over neighbourhoods.
    """
    school = np.repeat(np.arange(H), J)
    hood = np.rint((school + 1) * (G / H)).astype(int)[:, None] + rng.integers(1, int(0.1 * G) + 1, size=(H * J, R))
    hood = np.where(hood > G, hood - G, hood) - 1

    def of_hoods() -> np.ndarray:
        return rng.normal(size=(G, R))

    def spread(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, hood, axis=0)

    own, pupils = np.sqrt(20) * of_hoods(), np.sqrt(60) * rng.normal(size=(H * J, R))
    X = spread(own) + np.sqrt(20) * rng.normal(size=(H, R))[school] + pupils
    W, Z = spread(of_hoods()), rng.normal(size=(H, R))[school]
    b = np.sqrt(0.05) * of_hoods()
    if assumption == "exogeneity":
        b = 0.4 * np.sqrt(0.05 / 20) * own + np.sqrt(1 - 0.4**2) * b
    variance = 1 - 0.05 - icc
    if assumption == "heterosced":
        variance = variance * np.exp((30 * X - 100) / 450)
    y = gamma[0] * X + gamma[1] * W + gamma[2] * Z + spread(b) + np.sqrt(icc) * rng.normal(size=(H, R))[school]
    y += np.sqrt(variance) * rng.normal(size=(H * J, R))
    if assumption == "random slopes":
        y += spread(np.sqrt(0.05) * of_hoods()) * pupils
    return CrossedRows(np.stack([np.ones_like(X), X, W, Z]), y, {"school": school, "hood": hood})


def inferred(found: Regressed, k: int, rule: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates of coefficient k with their standard errors and df by a rule: lfe's residual ones, or, where dummies stand inside
    the clusters, the fewest clusters - 1."""
    p = found.fits.beta.shape[1]
    inference = found.by_rule(Hypotheses.of(p), [rule])[rule]
    return found.fits.beta[:, k], inference.se(np.eye(p)[k]), inference.df[:, k]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: f"{design[3]}-{design[4]}")
def test_two_way_robust_errors_have_the_published_performance(design):
    """Least squares with a factor J / (J - 1) (N - 1) / (N - p) for each set of factors; with dummies of both factors, which are
    not counted as parameters there, CR1."""
    published = CROSSED[(CROSSED[KEY] == pd.Series(design, index=KEY)).all(axis=1) & (CROSSED["method"] != "CCREM")]
    seen, distances = 0, []
    for (x, w), part in published.groupby(["gamma100", "gamma010"]):
        rng = np.random.default_rng([23, *design[:3], int(100 * design[3]), len(design[4]), int(100 * x)])
        rows = cross_classified(rng, *design, (x, w, w), WITHIN_SETS)
        ols = regress(rows, Hypotheses.of(4), robust=Robust("CR1S", FACTORS, satterthwaite=False))
        within = CrossedRows(rows.X[1:2], rows.y, rows.codes)
        fe = regress(within, Hypotheses.of(1), absorbed=FACTORS, robust=Robust("CR1", FACTORS, satterthwaite=False))
        for row in part.to_dict("records"):
            found, k, rule = (
                (fe, 0, "clusters") if row["method"] == "FE" else (ols, " XWZ".index(row["cov"]), "residual")
            )
            true = x if row["cov"] == "X" else w
            for name, value, variance in figures(*inferred(found, k, rule), true):
                if np.isfinite(row[name]):
                    se = np.sqrt(variance * (1 / WITHIN_SETS + 1 / PUBLISHED_SETS))
                    distances.append((value - row[name]) / se)
                    assert abs(distances[-1]) < 4, (row["method"], row["cov"], name, value, row[name])
                    seen += 1
    assert seen >= 20
    assert np.mean(np.square(distances)) < 2


def test_two_way_cr2_with_satterthwaites_df_holds_its_level():
    """True hypotheses on predictors of pupils, neighbourhoods and schools, in 20 designs with 500 data sets each. The smallest
    number of levels less 1 is not enough for that of schools."""
    rng, hypotheses, rejected = np.random.default_rng(77), Hypotheses.of(4), {"bell-mccaffrey": [], "clusters": []}
    drawn = cross_classified(rng, 70, 20, 30, 0.15, "met", (0.0, 0.0, 0.0), 20)
    for d in range(20):
        school, hood = drawn.codes["school"], drawn.codes["hood"][:, d]
        y = np.sqrt(0.05) * rng.normal(size=(70, 500))[hood] + np.sqrt(0.15) * rng.normal(size=(20, 500))[school]
        y += np.sqrt(0.8) * rng.normal(size=(len(y), 500))
        rows = CrossedRows(drawn.X[:, :, d : d + 1], y, {"school": school, "hood": hood})
        found = regress(rows, hypotheses, robust=Robust("CR2", FACTORS))
        for rule, inference in found.by_rule(hypotheses, list(rejected)).items():
            se = np.stack([inference.se(each) for each in np.eye(4)], axis=1)
            rejected[rule].append(2 * stats.t.sf(np.abs(found.fits.beta / se), inference.df[:, :4]) < 0.05)
    rates = {rule: np.concatenate(found).mean(axis=0)[1:] for rule, found in rejected.items()}
    assert (np.abs(rates["bell-mccaffrey"] - 0.05) < 0.01).all()
    assert rates["clusters"][2] > 0.06
