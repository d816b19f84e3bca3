"""By-subject and by-item analyses and regressions with dummies against R's aov and lm (units.R)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nestlab.fit.inference import Hypotheses
from nestlab.fit.rivals.by_units import by_units
from nestlab.fit.rivals.regression import regress
from nestlab.fit.rivals.rows import CrossedRows

HERE = Path(__file__).parent
DATA = pd.read_csv(HERE / "units.csv")
REFERENCE = json.loads((HERE / "units.json").read_text())
TERMS = ["", "g", "a", "b", "g:a", "g:b", "a:b", "g:a:b"]


def rows(terms: list[str], kept: bool) -> CrossedRows:
    X = np.array([np.prod([np.ones(len(DATA)), *(DATA[v] for v in term.split(":") if v)], axis=0) for term in terms])
    codes = {name: DATA[name].to_numpy() for name in ("subject", "item")}
    return CrossedRows(X[:, :, None], DATA[["y"]].to_numpy(), codes, DATA[["kept"]].to_numpy() == 1 if kept else None)


@pytest.mark.parametrize("factor", ["subject", "item"])
def test_tests_by_units_are_those_of_aov(factor):
    """Between and within units, and all their products: two strata by subjects, two more by items."""
    found = by_units(rows(TERMS, kept=False), factor)
    assert len(REFERENCE[factor]) == 7
    for term, wanted in REFERENCE[factor].items():
        k = TERMS.index(term)
        assert found.tests.F[0, k] == pytest.approx(wanted["F"], rel=1e-10)
        assert found.df[0, k] == wanted["df"]
        assert found.tests.p[0, k] == pytest.approx(wanted["p"], rel=1e-9)


@pytest.mark.parametrize("absorbed", ["subject", "item", "subject item"])
def test_absorbed_factors_are_those_of_lm(absorbed):
    wanted = REFERENCE["dummies"][absorbed]
    found = regress(rows(["a"], kept=True), Hypotheses.of(1), absorbed=absorbed.split())
    assert found.fits.beta[0, 0] == pytest.approx(wanted["beta"], rel=1e-11)
    assert np.sqrt(found.fits.vcov[0, 0]) == pytest.approx(wanted["se"], rel=1e-11)
    assert np.sqrt(found.fits.sigma2[0]) == pytest.approx(wanted["sigma"], rel=1e-11)
    assert found.sizes.rows[0] - found.sizes.fixed[0] == wanted["df"]
