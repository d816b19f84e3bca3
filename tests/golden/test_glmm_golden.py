"""Generalised fits against glmmTMB and lme4's glmer (glmm/README.md), and PQL against nlme and MASS (glmm/pql.R)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import nestlab as nl
import tolerances
from nestlab.fit.glmm.printed import generalised_text

GOLDEN = Path(__file__).parent / "glmm"
CASES = sorted(path.stem for path in GOLDEN.glob("[0-9][0-9]_*.json"))
FAMILIES = {"nbinom2": "negative-binomial"}
PQL = json.loads((GOLDEN / "pql.json").read_text())


def golden(case):
    return json.loads((GOLDEN / f"{case}.json").read_text()), pd.read_csv(GOLDEN / f"{case}.csv")


def fitted(case, **options):
    made, frame = golden(case)
    family = FAMILIES.get(made["family"], made["family"])
    return nl.fit(made["formula"], frame, family=family, link=made["link"], **options)


def apart(fit, theirs, se):
    """The largest differences of beta, in standard errors, and of standard errors, relative."""
    beta = np.array(list(theirs["beta"].values()))
    ours, own = np.array(list(fit.beta.values())), np.array(list(fit.se.values()))
    return np.abs((ours - beta) / se).max(), np.abs(own / se - 1).max()


def test_all_golden_files_are_there():
    assert len(CASES) == 42


@pytest.mark.parametrize("case", CASES)
def test_laplace(case):
    made, _ = golden(case)
    canonical = made["link"] in ("logit", "log")
    fit = fitted(case)
    assert fit.status.converged
    references = [made.get("glmmTMB"), made.get("laplace") if canonical else None]
    references = [each for each in references if each]
    assert fit.neg2loglik <= min(each["neg2loglik"] for each in references) + tolerances.GLMM_DEVIANCE.limit
    tmb, singular = made.get("glmmTMB"), (made.get("laplace") or {}).get("singular", False)
    assert fit.singular == singular
    if tmb and not singular:
        beta, se = apart(fit, tmb, np.array(tmb["se"]))
        assert beta < tolerances.GLMM_BETA.limit
        assert se < tolerances.GLMM_SE.limit
        if tmb["dispersion"] is not None:
            assert np.isclose(fit.dispersion, tmb["dispersion"], rtol=1e-4)
        for name, theirs in tmb["varcomp"].items():
            assert np.allclose(fit.varcomp[name], theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if "probit" in case or "cloglog" in case])
def test_laplace_by_expected_weights(case):
    made, _ = golden(case)
    fit, theirs = fitted(case, curvature="expected"), made["laplace"]
    assert fit.neg2loglik <= theirs["neg2loglik"] + tolerances.GLMM_DEVIANCE.limit
    assert max(apart(fit, theirs, np.array(theirs["se_hessian"]))) < tolerances.GLMM_EXPECTED.limit
    assert fitted(case).neg2loglik != pytest.approx(fit.neg2loglik, abs=0.01)


@pytest.mark.parametrize(
    ("case", "nodes"), [(case, nodes) for case in CASES for nodes in (7, 25) if f"agq{nodes}" in golden(case)[0]]
)
def test_quadrature(case, nodes):
    made, _ = golden(case)
    theirs = made[f"agq{nodes}"]
    fit = fitted(case, nodes=nodes, curvature="expected" if made["link"] in ("probit", "cloglog") else "observed")
    assert fit.singular == theirs["singular"]
    assert max(apart(fit, theirs, np.array(theirs["se_hessian"]))) < tolerances.GLMM_QUADRATURE.limit
    if made["formula"].startswith("y") and made["family"] == "binomial":  # there are no constants to leave out
        assert fit.neg2loglik <= theirs["neg2loglik"] + tolerances.GLMM_DEVIANCE.limit


@pytest.mark.parametrize("case", [name for name in PQL if name.split()[-1] in ("estimated", "fixed")])
def test_pql(case):
    name, criterion, scale = case.split()
    fit, theirs = fitted(name, method="pql", reml=criterion == "REML", scale=scale), PQL[case]
    N, p = fit.rows, len(fit.beta)
    # se as summary(glmmPQL) has them; those of vcov(lme) in the file
    factor = np.sqrt(N / (N - p)) if (criterion, scale) == ("ML", "estimated") else 1.0
    if np.max(theirs["varcomp"]) < 1e-6:  # nlme never reaches 0
        assert fit.singular
        return
    assert fit.status.converged
    assert max(apart(fit, theirs, np.array(theirs["se"]) * factor)) < tolerances.GLMM_PQL.limit
    assert np.allclose(fit.varcomp["g"], theirs["varcomp"], rtol=1e-4)
    assert np.isclose(fit.scale, theirs["sigma"], rtol=1e-5)


def test_pql_prints_the_standard_errors_of_glmmpql():
    fit, theirs = fitted("03_trials", method="pql", reml=False), PQL["03_trials glmmPQL"]
    assert max(apart(fit, theirs, np.array(theirs["se_printed"]))) < 2e-4  # it stops at a change of 1e-6
    assert "penalised quasi-likelihood" in fit.summary()


def test_pql_at_a_fixed_scale_by_reml_against_dense_matrices():
    _, d = golden("03_trials")
    n, k, X = d["n"].to_numpy(float), d["k"].to_numpy(float), np.column_stack([np.ones(len(d)), d["x"]])
    Z = np.eye(8)[d["g"] - 1]
    eta = np.zeros(len(d))
    for _ in range(40):
        mu = 1 / (1 + np.exp(-eta))
        w = n * mu * (1 - mu)
        z = eta + (k - n * mu) / w

        def parts(v, w=w, z=z):
            V = np.diag(1 / w) + v * Z @ Z.T
            A = X.T @ np.linalg.solve(V, X)
            b = np.linalg.solve(A, X.T @ np.linalg.solve(V, z))
            return V, A, b, z - X @ b

        def criterion(v, parts=parts):
            V, A, _, e = parts(v)
            return np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + e @ np.linalg.solve(V, e)

        v = minimize_scalar(criterion, bounds=(1e-4, 2), method="bounded", options={"xatol": 1e-11}).x
        V, A, b, e = parts(v)
        eta = X @ b + v * Z @ Z.T @ np.linalg.solve(V, e)
    fit = fitted("03_trials", method="pql", scale="fixed")
    assert np.isclose(fit.varcomp["g"][0, 0], v, rtol=1e-6)
    assert np.allclose(list(fit.beta.values()), b, rtol=1e-7)
    assert np.allclose(list(fit.se.values()), np.sqrt(np.diag(np.linalg.inv(A))), rtol=1e-6)


@pytest.mark.parametrize("case", [path.stem[8:] for path in sorted(GOLDEN.glob("printed_*.txt"))])
def test_summary_is_printed_as_by_glmer(case):
    expected = (GOLDEN / f"printed_{case}.txt").read_text().splitlines()
    fit = fitted(case, nodes=7 if case == "01_crt" else 1)
    assert generalised_text(fit, data=f"{case}.csv").splitlines() == expected
