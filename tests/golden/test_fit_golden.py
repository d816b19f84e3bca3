"""Fits of all golden data sets, REML and ML, against lme4 at tight tolerances (make_golden.R).

Where lme4's three optimisers ended apart, only the deviance is compared: it must not be higher than their lowest.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import tolerances
from nestlab.fit.single import fit
from nestlab.spec.data import read_frame

GOLDEN = Path(__file__).parent
CASES = sorted(path.stem for path in GOLDEN.glob("[0-9][0-9]_*.json"))
UNSURE = 1e-6  # optimizer_spread at which lme4 disagrees with itself


def fitted(case: str, criterion: str):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    return fit(golden["formula"], read_frame(GOLDEN / f"{case}.csv"), reml=criterion == "REML"), golden


def relative(ours, theirs, unit) -> float:
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), unit)))


def test_all_golden_files_are_there():
    assert len(CASES) == 31


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("case", CASES)
def test_fit_against_lme4(case, criterion):
    ours, golden = fitted(case, criterion)
    theirs = golden[criterion]
    assert ours.status.converged
    scale = 1 + 1e-12 * abs(theirs["neg2loglik"])
    assert ours.neg2loglik - theirs["neg2loglik"] <= tolerances.GOLDEN_DEVIANCE.limit * scale
    assert (ours.clusters, ours.rows, ours.balanced) == (golden["clusters"], golden["rows"], golden["balanced"])
    assert ours.is_singular_lme4 == theirs["singular"]
    if theirs["optimizer_spread"] >= UNSURE:
        return
    assert [name.replace("Intercept", "(Intercept)") for name in ours.beta] == list(theirs["beta"])
    se = np.atleast_1d(theirs["se"])
    beta = np.array(list(ours.beta.values()))
    assert np.max(np.abs(beta - list(theirs["beta"].values())) / se) <= tolerances.GOLDEN_BETA.limit
    assert relative(list(ours.se.values()), se, 0) <= tolerances.GOLDEN_SE.limit
    assert relative(ours.vcov_beta, theirs["vcov_beta"], np.outer(se, se)) <= 2 * tolerances.GOLDEN_SE.limit
    sigma2 = theirs["sigma"] ** 2
    assert relative(ours.sigma**2, sigma2, 0) <= tolerances.GOLDEN_VARCOMP.limit
    assert list(ours.varcomp) == list(theirs["varcomp"])
    for name, covariance in theirs["varcomp"].items():
        assert relative(ours.varcomp[name], covariance, sigma2) <= tolerances.GOLDEN_VARCOMP.limit


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("case", CASES)
def test_theta_and_sigma_make_the_variance_components(case, criterion):
    ours, _ = fitted(case, criterion)
    start = 0
    for covariance in ours.varcomp.values():
        q = len(covariance)
        L = np.zeros((q, q))
        size = q * (q + 1) // 2
        L.T[np.triu_indices(q)] = ours.theta[start : start + size]
        start += size
        np.testing.assert_allclose(ours.sigma**2 * L @ L.T, covariance, rtol=1e-12, atol=1e-12 * ours.sigma**2)
        assert (np.diag(L) >= 0).all()
    assert start == len(ours.theta)


def test_json_has_the_names_of_the_golden_files():
    ours, golden = fitted("05_cross", "REML")
    result = json.loads(json.dumps(ours.to_dict(), allow_nan=False))
    assert set(golden) - {"id", "ML", "profile_ci_95"} == set(result)
    assert set(golden["REML"]) - {"optimizer_spread", "kenward_roger"} <= set(result["REML"])
    assert list(result["REML"]["beta"]) == ["Intercept", "z", "x", "z:x"]
    assert result["REML"]["df"] == result["REML"]["df_satterthwaite"]
    assert result["REML"]["singular"] is True
    assert result["REML"]["lme4_isSingular"] is True
    assert result["REML"]["status"] == "singular"
    assert "boundary" in result["REML"]["status_sentence"]
    assert [len(row) for row in result["REML"]["vcov_beta"]] == [4] * 4
    ml = fitted("05_cross", "ML")[0].to_dict()
    assert "REML" not in ml
    assert ml["ML"]["neg2loglik"] == pytest.approx(golden["ML"]["neg2loglik"])
