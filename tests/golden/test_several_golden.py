"""Fits of golden data sets with several grouping factors against lme4, lmerTest and pbkrtest (multi/make_golden_multi.R).

REML and ML; nested and crossed factors, up to four levels, 14 of 39 singular. Where lme4's optimisers ended apart, only the
deviance is compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import nestlab as nl
import tolerances
from nestlab.fit.problem import symmetric
from nestlab.fit.several.model import fit_factors
from nestlab.spec.data import read_frame
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


HERE = GOLDEN.parent
MORE = json.loads((HERE / "several_more.json").read_text())


def crossed_with_weights() -> pd.DataFrame:
    data = pd.read_csv(GOLDEN / "05_crossvc.csv")
    row = np.arange(1, len(data) + 1)
    return data.assign(w=0.5 + row % 5 / 4, v=row % 7 / 3)


@pytest.mark.parametrize(
    ("name", "given"),
    [("weights_reml", {"weights": "w"}), ("both_ml", {"weights": "w", "offset": "v", "reml": False})],
)
def test_weights_and_offset_with_crossed_factors(name: str, given: dict[str, Any]) -> None:
    found = nl.fit("y ~ cond + (1 | subject) + (1 | item)", crossed_with_weights(), **given)
    check_more(found, MORE[name])


def test_seven_random_columns_of_one_factor() -> None:
    """More than the kernel of one factor has room for."""
    found = nl.fit("y ~ x1 + (x1 + x2 + x3 + x4 + x5 + x6 || g)", pd.read_csv(HERE / "seven_columns.csv"))
    check_more(found, MORE["seven_reml"])


def check_more(found: Any, golden: dict[str, list[float]]) -> None:
    assert found.neg2loglik <= golden["neg2loglik"][0] + 1e-6
    assert found.neg2loglik == pytest.approx(golden["neg2loglik"][0], abs=1e-5)
    np.testing.assert_allclose(list(found.beta.values()), golden["beta"], atol=1e-6)
    np.testing.assert_allclose(list(found.se.values()), golden["se"], rtol=1e-5)
    sds = [np.sqrt(np.diag(covariance)) for covariance in found.varcomp.values()]
    np.testing.assert_allclose([*np.concatenate(sds), found.sigma], golden["sd"], rtol=1e-4)


@pytest.mark.parametrize("pair", json.loads((GOLDEN / "comparisons.json").read_text()), ids=lambda pair: pair["null"])
def test_likelihood_ratios_against_lme4(pair: dict[str, Any]) -> None:
    """Of fixed effects (by ML) and variances (by REML); the last one is 0."""
    found = nl.fit(pair["full"], pd.read_csv(GOLDEN / f"{pair['case']}.csv")).compare(pair["null"])
    assert found.reml == pair["reml"]
    assert found.statistic == pytest.approx(pair["statistic"], rel=1e-7, abs=1e-8)
    k = found.mixture[-1][1]
    tail = chi2.sf(pair["statistic"], k)
    if len(found.mixture) == 2:
        tail = 0.5 * tail + 0.5 * (chi2.sf(pair["statistic"], k - 1) if k > 1 else found.statistic == 0)
    assert found.p == pytest.approx(1.0 if found.statistic == 0 else tail, rel=1e-6)
