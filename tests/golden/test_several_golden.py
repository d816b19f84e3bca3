"""Fits of golden data sets with several grouping factors against lme4, lmerTest and pbkrtest (multi/make_golden_multi.R).

REML and ML; nested and crossed factors, up to four levels, 14 of 39 singular. Where lme4's optimisers ended apart, only the
deviance is compared.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nestlab.fit.read import read_frame

import tolerances
from nestlab.fit.problem import symmetric
from nestlab.fit.several.model import fit_factors
from several_oracle import columns_of

GOLDEN = Path(__file__).parent / "multi"
CASES = sorted(path.stem for path in GOLDEN.glob("[0-9][0-9]_*.json"))
UNSURE = 1e-6  # optimizer_spread at which lme4 disagrees with itself


def test_all_golden_files_are_there():
    assert len(CASES) == 39


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("case", CASES)
def test_fit_and_inference_against_lme4(case, criterion):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    factors, names, X, y = columns_of(golden["formula"], read_frame(GOLDEN / f"{case}.csv"))
    reml, theirs = criterion == "REML", golden[criterion]
    model = fit_factors(factors, X, y, reml=reml)
    assert model.optimum.status.converged
    assert dict(zip(names, [f.levels for f in factors], strict=True)) == golden["levels"]
    scale = 1 + 1e-12 * abs(theirs["neg2loglik"])
    assert model.neg2loglik - theirs["neg2loglik"] <= tolerances.GOLDEN_DEVIANCE.limit * scale
    contrasts = list(np.eye(X.shape[1])[:, None, :])
    satterthwaite = model.infer("satterthwaite", "lmertest", contrasts).df[0]
    limit = tolerances.GOLDEN_SATTERTHWAITE.limit
    np.testing.assert_allclose(satterthwaite, np.atleast_1d(theirs["df_satterthwaite"]), rtol=limit)
    if theirs["optimizer_spread"] >= UNSURE:
        return
    se = np.atleast_1d(theirs["se"])
    beta = np.linalg.lstsq(X, y, rcond=None)[0] + model.back @ model.beta * model.scale
    assert np.max(np.abs(beta - list(theirs["beta"].values())) / se) <= tolerances.GOLDEN_BETA.limit
    back = model.back * model.scale
    np.testing.assert_allclose(np.sqrt(np.diag(back @ model.vcov @ back.T)), se, rtol=tolerances.SEVERAL_SE.limit)
    sigma2 = model.sigma2 * model.scale**2
    limit = tolerances.GOLDEN_VARCOMP.limit
    assert sigma2 == pytest.approx(theirs["sigma"] ** 2, rel=limit)
    terms = [
        name if k == 0 else f"{name}.{k}" for name, f in zip(names, factors, strict=True) for k in range(len(f.sizes))
    ]
    for term, T in zip(terms, model.covariances(), strict=True):
        reference = np.array(theirs["varcomp"][term])
        ratio = np.abs(T @ T.T * sigma2 - reference) / np.maximum(np.abs(reference), theirs["sigma"] ** 2)
        assert ratio.max() <= limit
    if reml:
        found = model.infer("kenward-roger", "lmertest", contrasts)
        limit = tolerances.SEVERAL_KENWARD_ROGER.limit
        np.testing.assert_allclose(found.df[0], np.atleast_1d(theirs["kenward_roger"]["df"]), rtol=limit)
        variances = np.diag(back @ symmetric(X.shape[1], found.vcov[0]) @ back.T)
        np.testing.assert_allclose(np.sqrt(variances), np.atleast_1d(theirs["kenward_roger"]["se"]), rtol=limit)
