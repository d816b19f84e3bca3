"""Profile intervals with several grouping factors: against lme4's confint (multi/make_golden_multi.R, multi/profiles.R), and
every limit against the deviance, minimised by SciPy with the parameter held.

lme4 is not compared where it could not find a limit, and on OFF.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

import nestlab as nl
import tolerances
from nestlab.fit.profile import profile_parameters
from nestlab.fit.several.profile import by_criterion
from nestlab.spec.data import read_frame
from several_oracle import rise_held

MULTI = Path(__file__).parent / "multi"
MORE = json.loads((MULTI / "profiles.json").read_text())
GOLDEN = {path.stem: json.loads(path.read_text()) for path in sorted(MULTI.glob("[0-9][0-9]_*.json"))}
THEIRS = {case: g["profile_ci_95"] for case, g in GOLDEN.items() if "profile_ci_95" in g} | MORE
TARGET = chi2.ppf(0.95, 1)
#: Limits of lme4's at which the deviance has not risen by chi2: it interpolates a profile of few points.
OFF = {
    ("06_cross", "sd_(Intercept)|item", "lower"),
    ("07_crossrs", "cor_cond.(Intercept)|item", "lower"),
    ("07_crossrs", "cor_cond.(Intercept)|item", "upper"),
    ("13_three", "sd_(Intercept)|c", "upper"),
    ("15_nest", "sd_(Intercept)|school:class", "upper"),
    ("17_nestmix", "cor_x.(Intercept)|school", "lower"),
    ("17_nestmix", "cor_x.(Intercept)|school", "upper"),
}


@cache
def fitted_and_limits(case: str, *, reml: bool = False):
    """The fit, its intervals, the fit by the criterion of these, and by row the parameter and the limits less OLS."""
    found = nl.fit(GOLDEN[case]["formula"], read_frame(MULTI / f"{case}.csv"))
    table = found.confint(reml=reml)
    model = by_criterion(found._problem, reml=reml)
    parameters = profile_parameters(model.products.blocks.tolist(), 0 if reml else model.p)
    ols = np.linalg.lstsq(found.matrices.X, found.matrices.y, rcond=None)[0]
    return found, table, model, list(zip(table.index, parameters, strict=True)), ols


@pytest.mark.parametrize(
    ("case", "reml"),
    [("03_nestrs", False), ("05_crossvc", True), ("06_cross", False), ("10_partial", False), ("12_four", True),
     ("13_three", False), ("17_nestmix", False), ("20_crossrs", False)],
)  # fmt: skip
def test_the_deviance_has_risen_by_chi2_at_every_limit(case, reml):
    """03_nestrs: slopes, and a correlation's limit of 1; 10_partial, 13_three, 20_crossrs: singular."""
    _, table, model, rows, ols = fitted_and_limits(case, reml=reml)
    for name, parameter in rows:
        for value in table.loc[name]:
            assert np.isfinite(value), (case, name)
            held = value - ols[parameter[1]] if parameter[0] == "fixed" else value
            rise = rise_held(model, parameter, held)
            bound = (parameter[0] == "sd" and value == 0) or (parameter[0] == "cor" and abs(value) == 1)
            error = max(rise - TARGET, 0) if bound else abs(rise - TARGET)
            assert error <= tolerances.PROFILE_RISE.limit, (name, value, rise)


@pytest.mark.parametrize("case", sorted(THEIRS))
def test_limits_against_lme4(case):
    _, ours, _, _, _ = fitted_and_limits(case)
    theirs = THEIRS[case]
    assert list(ours.index) == theirs["parameter"]
    width = ours.upper - ours.lower
    for side in ("lower", "upper"):
        for name, value in zip(theirs["parameter"], theirs[side], strict=True):
            if value != "NA" and (case, name, side) not in OFF:
                error = abs(value - ours.loc[name, side])
                assert error <= tolerances.SEVERAL_PROFILE.limit * width[name], (name, side, value)


@pytest.mark.parametrize(("case", "name", "side"), sorted(OFF))
def test_the_limits_left_out_are_lme4s_errors(case, name, side):
    _, _, model, rows, _ = fitted_and_limits(case)
    theirs = THEIRS[case]
    value = theirs[side][theirs["parameter"].index(name)]
    assert abs(rise_held(model, dict(rows)[name], value) - TARGET) > 3e-3
