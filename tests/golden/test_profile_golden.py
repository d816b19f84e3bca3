"""Profile intervals of the golden data sets and of the article's m2 and m3: against lme4's confint, and every limit against the
deviance, minimised by SciPy with the parameter held.

Where lme4 is not compared: singular ML fits (its limits are off there), limits that it could not find (NA, Inf), and OFF.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

import tolerances
from nestlab.fit.confint import confint_lines
from nestlab.fit.profile import profile_parameters
from nestlab.fit.single import fit
from nestlab.spec.data import read_frame
from profile_oracle import rise_of_rows

GOLDEN = Path(__file__).parent
ARTICLE = GOLDEN / "article"
CASES = sorted(path.stem for path in GOLDEN.glob("[0-9][0-9]_*.json"))
TARGET = chi2.ppf(0.95, 1)
PRINTED = json.loads((ARTICLE / "printed.json").read_text(encoding="utf-8"))
#: Limits of lme4's at which the deviance has not risen by chi2: it interpolates a profile of few points, or one with a jump.
OFF = {
    ("13_cross", "cor_x.(Intercept)|g", "lower"),
    ("28_rs", "sd_(Intercept)|g", "lower"),
    ("28_rs", "sd_(Intercept)|g", "upper"),
    ("28_rs", "sigma", "lower"),
}


def finite(value) -> float:
    """lme4's limit, nan where it has none ("NA", "Inf")."""
    value = np.nan if value == "NA" else float(value)
    return value if np.isfinite(value) else np.nan


def parameters_of(m):
    blocks = np.repeat(np.arange(len(m.Z)), [Z.shape[1] for Z in m.Z]).tolist()
    return profile_parameters(blocks, m.X.shape[1])


@pytest.mark.parametrize("case", CASES)
def test_profiles_of_golden_data(case):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    fitted = fit(golden["formula"], read_frame(GOLDEN / f"{case}.csv"))
    ours = fitted.confint()
    assert np.isfinite(ours.to_numpy()).all()
    for name, parameter in zip(ours.index, parameters_of(fitted.matrices), strict=True):
        for value in ours.loc[name]:
            rise = rise_of_rows(fitted.matrices, parameter, value, reml=False)
            bound = (parameter[0] == "sd" and value == 0) or (parameter[0] == "cor" and abs(value) == 1)
            error = max(rise - TARGET, 0) if bound else abs(rise - TARGET)
            assert error <= tolerances.PROFILE_RISE.limit, (name, value, rise)
    theirs = golden.get("profile_ci_95")
    if theirs is None:
        return
    assert list(ours.index) == theirs["parameter"]
    if golden["ML"]["singular"]:
        return
    width = ours.upper - ours.lower
    for side in ("lower", "upper"):
        for name, value in zip(theirs["parameter"], map(finite, theirs[side]), strict=True):
            if np.isfinite(value) and (case, name, side) not in OFF:
                assert abs(value - ours.loc[name, side]) <= tolerances.GOLDEN_PROFILE.limit * width[name], (name, side)


@pytest.mark.parametrize(("case", "name", "side"), sorted(OFF))
def test_the_limits_left_out_are_lme4s_errors(case, name, side):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    m = fit(golden["formula"], read_frame(GOLDEN / f"{case}.csv")).matrices
    at = golden["profile_ci_95"]["parameter"].index(name)
    rise = rise_of_rows(m, parameters_of(m)[at], golden["profile_ci_95"][side][at], reml=False)
    assert abs(rise - TARGET) > 0.05


@pytest.mark.parametrize("model", ["m2", "m3"])
def test_profiles_of_the_article(model):
    tight = json.loads((ARTICLE / "article.json").read_text())[model]
    ours = fit(tight["formula"], read_frame(ARTICLE / "article.csv")).confint()
    theirs = tight["profile_ci_95"]
    assert list(ours.index) == theirs["parameter"]
    width = (ours.upper - ours.lower).to_numpy()
    for side in ("lower", "upper"):
        assert (np.abs(ours[side] - theirs[side]) <= tolerances.GOLDEN_PROFILE.limit * width).all()


def test_the_articles_table_of_intervals():
    """To a unit of the last of printed.json's exact digits, and to its stated distance from those that are printed."""
    tight = json.loads((ARTICLE / "article.json").read_text())["m2"]
    ours = fit(tight["formula"], read_frame(ARTICLE / "article.csv")).confint()
    entries = [e for e in PRINTED["not_reproducible"] if e["id"].startswith("m2.confint/")]
    assert len(entries) == 8
    for entry in entries:
        _, name, side = entry["id"].split("/")
        value = ours.loc[name, {"2.5 %": "lower", "97.5 %": "upper"}[side]]
        assert abs(value - float(entry["exact"])) <= 1e-6
        assert abs(value - float(entry["printed"])) <= float(entry["within"])
    lower, upper = ours.loc["cor_X.(Intercept)|Cluster"]
    assert f"{lower:.2f}" == PRINTED["prose"]["m2.prose.correlation_lower"]["printed"]
    assert f"{upper:.2f}" == PRINTED["prose"]["m2.prose.correlation_upper"]["printed"]


def test_the_table_is_laid_out_as_rs():
    tight = json.loads((ARTICLE / "article.json").read_text())["m2"]
    lines = confint_lines(fit(tight["formula"], read_frame(ARTICLE / "article.csv")).confint())
    assert lines[:5] == [
        "                               2.5 %    97.5 %",
        "sd_(Intercept)|Cluster     1.7388371 3.2756355",
        "cor_X.(Intercept)|Cluster -0.2846442 0.5567508",
        "sd_X|Cluster               0.7661703 1.4882685",
        "sigma                      1.6205690 1.7722665",
    ]
