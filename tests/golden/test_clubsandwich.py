"""Cluster-robust standard errors and df against clubSandwich: of lm, of lm with dummies, of means and of lmer (clubsandwich.R).

Here fits start from rows, through the functions that studies use; `unit/test_rivals.py` has the methods of studies.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tolerances
from nestlab.fit.clustered import Counts, robust_rules
from nestlab.fit.inference import Hypotheses
from nestlab.fit.lmm import Fits, counts, pairs
from nestlab.fit.robust import sandwich
from nestlab.fit.single import fit
from nestlab.fit.within import means_gram, within_gram
from nestlab.simulate.gram import Gram
from rows_oracle import gram_of

GOLDEN = Path(__file__).parent
REFERENCE = {case["id"]: case for case in json.loads((GOLDEN / "clubsandwich.json").read_text())}
KINDS = ("CR0", "CR1", "CR1S", "CR2")
LIMIT = tolerances.GOLDEN_SANDWICH.limit


def read(case: str, names: list[str]) -> tuple[pd.DataFrame, Gram]:
    """The data and the Gram of the terms, each a level-1 column of its own."""
    data = pd.read_csv(GOLDEN / f"{case}.csv")
    columns = [np.prod([data[v] for v in name.split(":")], axis=0) for name in names if name != "(Intercept)"]
    D = np.column_stack([np.ones(len(data)), *columns])
    return data, gram_of(data["y"].to_numpy() - data["y"].mean(), D, np.unique(data["g"], return_inverse=True)[1])


def inferred(gram: Gram, terms: list[int], sizes: Counts, beta: np.ndarray, kind: str, **mixed) -> tuple:
    """(standard errors, df and the joint test of all but the first term) by one kind."""
    p = len(terms)
    hypotheses = Hypotheses.of(p, [np.eye(p)[1:]] if p > 2 else [])
    found = sandwich((terms, [0] * p), gram, beta[None], hypotheses, 0, 1, adjusted=kind == "CR2", **mixed)
    none = np.zeros((1, 0))
    fits = Fits(np.zeros(1, int), np.zeros(1, int), np.zeros(1), np.zeros(1), beta[None], none, none, np.ones(1))
    rule = robust_rules(kind, found, fits, sizes, hypotheses, ["bell-mccaffrey"])["bell-mccaffrey"]
    se = np.array([rule.se(row)[0] for row in np.eye(p)])
    return se, rule.df[0], (rule.joint_p(p, np.eye(p)[1:], beta[None])[0] if p > 2 else None)


def check(found: tuple, reference: dict) -> None:
    se, df, p = found
    np.testing.assert_allclose(se, reference["se"], rtol=LIMIT)
    np.testing.assert_allclose(df[: len(se)], reference["df"], rtol=LIMIT)
    if "htz" in reference:
        np.testing.assert_allclose(df[len(se)], reference["htz"]["df"], rtol=LIMIT)
        np.testing.assert_allclose(p, reference["htz"]["p"], rtol=LIMIT)


def solved(gram: Gram, terms: list[int]) -> np.ndarray:
    """Least squares from the Gram."""
    S = gram.dd[:, :, 0].sum(axis=0)
    k = gram.dy.shape[1]
    full = np.zeros((k, k))
    for value, (a, b) in zip(S, pairs(k), strict=True):
        full[a, b] = full[b, a] = value
    return np.linalg.solve(full[np.ix_(terms, terms)], gram.dy[:, terms, 0].sum(axis=0))


@pytest.mark.parametrize("case", REFERENCE)
def test_least_squares(case):
    reference = REFERENCE[case]["ols"]
    _, gram = read(case, reference["names"])
    terms = list(range(len(reference["names"])))
    rows, clusters = counts(0, gram, 0, 1)
    for kind in KINDS:
        sizes = Counts(rows, clusters, np.array([float(len(terms))]))
        check(inferred(gram, terms, sizes, solved(gram, terms), kind), reference[kind])


@pytest.mark.parametrize("case", [case for case in REFERENCE if "fixed_effects" in REFERENCE[case]])
def test_fixed_effects(case):
    """lm with a dummy for each cluster: they may be partialled out first (Pustejovsky & Tipton 2018, theorem 2)."""
    reference = REFERENCE[case]["fixed_effects"]
    _, full = read(case, ["(Intercept)", *reference["names"]])
    p = len(reference["names"])
    gram, (rows, clusters) = within_gram(full, list(range(1, p + 1))), counts(0, full, 0, 1)
    beta = solved(gram, list(range(p)))
    np.testing.assert_allclose(beta, reference["beta"], rtol=1e-6)
    for kind in KINDS:
        check(inferred(gram, list(range(p)), Counts(rows, clusters, p + clusters), beta, kind), reference[kind])


@pytest.mark.parametrize("case", REFERENCE)
def test_cluster_means(case):
    names = REFERENCE[case]["ols"]["names"]
    data, full = read(case, names)
    terms, (_, clusters) = list(range(len(names))), counts(0, full, 0, 1)
    for key, by_size in (("means", False), ("means_by_size", True)):
        reference = REFERENCE[case][key]
        gram = means_gram(full, terms, by_size=by_size)
        beta = solved(gram, terms)
        np.testing.assert_allclose(beta + np.eye(len(terms))[0] * data["y"].mean(), reference["beta"], rtol=1e-6)
        assert clusters[0] - len(terms) == reference["df"]
        for kind in KINDS if not by_size else ():
            sizes = Counts(clusters, clusters, np.array([float(len(terms))]))
            check(inferred(gram, terms, sizes, beta, kind), reference["robust"][kind])


@pytest.mark.parametrize("case", REFERENCE)
def test_mixed_models_at_lme4s_estimates(case):
    """The adjustment of CR2 for lmer too: its A_j does not depend on the root of V_j, so the Gram has it."""
    reference, names = REFERENCE[case]["lmm"], REFERENCE[case]["ols"]["names"]
    data, gram = read(case, names)
    formula = (
        "y ~ x + z + k + (1 + x | g)"
        if case == "edge"
        else json.loads((GOLDEN / f"{case}.json").read_text())["formula"]
    )
    random = [names.index("(Intercept)" if c in ("1", "") else c) for c in random_columns(formula)]
    beta = np.array(reference["beta"]) - np.eye(len(names))[0] * data["y"].mean()
    mixed = {"zcols": random, "relative": relative(formula, reference["theta"])}
    (rows, clusters), fixed = counts(0, gram, 0, 1), np.array([float(len(names))])
    for kind in KINDS:
        check(
            inferred(gram, list(range(len(names))), Counts(rows, clusters, fixed), beta, kind, **mixed), reference[kind]
        )


def random_columns(formula: str) -> list[str]:
    terms = [part.split("|")[0].replace("(", "").split("+") for part in formula.split("~")[1].split(" + (")[1:]]
    return [column.strip() for term in terms for column in term if column.strip() != "0"]


def relative(formula: str, theta: list[float]) -> np.ndarray:
    """The covariance of the random effects over the residual variance, by pairs (1, q(q+1)/2)."""
    sizes = [
        len([c for c in part.split("|")[0].split("+") if c.strip(" (") != "0"]) for part in formula.split(" + (")[1:]
    ]
    q, values = sum(sizes), iter(np.atleast_1d(theta))
    L = np.zeros((q, q))
    for size, start in zip(sizes, np.cumsum([0, *sizes]), strict=False):
        for k in range(size):
            for i in range(k, size):
                L[start + i, start + k] = next(values)
    G = L @ L.T
    return np.array([[G[i, k] for i, k in pairs(q)]])


def test_mixed_models_at_our_own_estimates():
    """A data set on which lme4's optimisers agree, from the rows to clubSandwich's numbers."""
    reference = REFERENCE["13_cross"]
    data, gram = read("13_cross", reference["ols"]["names"])
    ours = fit("y ~ z * x + (1 + x | g)", data, df="z")
    G = next(iter(ours.varcomp.values())) / ours.sigma**2
    beta = np.array(list(ours.beta.values())) - np.eye(4)[0] * data["y"].mean()
    mixed = {"zcols": [0, 2], "relative": np.array([[G[0, 0], G[0, 1], G[1, 1]]])}
    sizes = Counts(*counts(0, gram, 0, 1), np.array([4.0]))
    check(inferred(gram, [0, 1, 2, 3], sizes, beta, "CR2", **mixed), reference["lmm"]["CR2"])
