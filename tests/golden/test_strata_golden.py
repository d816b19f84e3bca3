"""The golden data sets with several grouping factors that are balanced, fitted as strata, against lme4, lmerTest and pbkrtest."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tolerances
from nestlab.fit.inference import Hypotheses
from nestlab.fit.problem import symmetric
from nestlab.fit.strata.model import fit_cells, infer_cells
from nestlab.fit.strata.plan import CellEffect, CellTerm, compile_cells
from nestlab.simulate.strata.cells import Multiplier, cell_design, reduce_cells
from nestlab.simulate.strata.structure import UnbalancedError, find_strata
from nestlab.spec.data import read_frame
from several_oracle import columns_of

GOLDEN = Path(__file__).parent / "multi"
CASES = sorted(path.stem for path in GOLDEN.glob("[0-9][0-9]_*.json"))
UNSURE = 1e-6  # optimizer_spread at which lme4 disagrees with itself


def cells_of(factors, X, y):
    """(design, effects, terms, statistics) of rows, or None where they have no strata or cells differ in their rows."""
    codes = np.stack([f.codes for f in factors], axis=1)
    columns = np.hstack([f.Z for f in factors] + [X])
    order = np.lexsort((*columns.T[::-1], *codes.T[::-1]))
    cells, counts = np.unique(codes, axis=0, return_counts=True)
    if len(set(counts.tolist())) > 1:
        return None
    n, y, X = int(counts[0]), y[order], X[order]
    try:
        strata = find_strata(list(cells.T))
    except UnbalancedError:
        return None
    rows: list[np.ndarray] = []
    terms, effects, multipliers = [], [], [Multiplier.one(len(cells))]

    def combination(row):
        rows.append(row)
        return len(rows) - 1

    for f, factor in enumerate(factors):
        Z = factor.Z[order].reshape(len(cells), n, -1)
        if not (Z[:1] == Z).all():
            return None
        own = [combination(row) for row in Z[0].T]
        cuts = np.cumsum([0, *factor.sizes])
        terms += [(f, own[a:b]) for a, b in pairwise(cuts)]
    for column in X.T:
        table = column.reshape(len(cells), n)
        U, d, V = np.linalg.svd(table, full_matrices=False)
        if d[1:].sum() > 1e-10 * d[0]:
            return None
        constant = np.ptp(U[:, 0]) < 1e-12
        effects.append((combination(V[0] * d[0] * (U[0, 0] if constant else 1.0)), 0 if constant else len(multipliers)))
        if not constant:
            multipliers.append(Multiplier.of(np.arange(len(cells)), U[:, 0]))
    design = cell_design(strata, np.stack(rows, axis=1), multipliers)
    eye = np.eye(len(rows))
    return (
        design,
        [CellEffect(eye[c], m) for c, m in effects],
        [CellTerm(f, eye[:, own]) for f, own in terms],
        reduce_cells(design, y.reshape(len(cells), n, 1)),
    )


def read(case):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    return golden, *columns_of(golden["formula"], read_frame(GOLDEN / f"{case}.csv"))


BALANCED = [case for case in CASES if (lambda g, f, names, X, y: cells_of(f, X, y))(*read(case)) is not None]


def test_each_kind_of_balanced_design_is_among_them():
    assert {case[3:] for case in BALANCED} == {"crossvc", "cross", "nestvc", "wedge"}


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("case", BALANCED)
def test_strata_against_lme4(case, criterion):
    golden, factors, names, X, y = read(case)
    reml, theirs = criterion == "REML", golden[criterion]
    design, effects, terms, statistics = cells_of(factors, X, y)
    plan = compile_cells(design, effects, terms, reml=reml)
    fits = fit_cells(plan, statistics, 0, 1)
    assert fits.status[0] <= 1
    scale = 1 + 1e-12 * abs(theirs["neg2loglik"])
    assert fits.deviance[0] - theirs["neg2loglik"] <= tolerances.GOLDEN_DEVIANCE.limit * scale
    p = plan.p
    rules = infer_cells(
        plan,
        statistics,
        fits,
        0,
        1,
        Hypotheses.of(p),
        ["satterthwaite", "kenward-roger"] if reml else ["satterthwaite"],
    )
    limit = tolerances.GOLDEN_SATTERTHWAITE.limit
    np.testing.assert_allclose(rules["satterthwaite"].df[0], np.atleast_1d(theirs["df_satterthwaite"]), rtol=limit)
    if theirs["optimizer_spread"] >= UNSURE:
        return
    se = np.atleast_1d(theirs["se"])
    assert np.max(np.abs(fits.beta[0] - list(theirs["beta"].values())) / se) <= tolerances.GOLDEN_BETA.limit
    np.testing.assert_allclose(fits.se[0], se, rtol=tolerances.SEVERAL_SE.limit)
    limit = tolerances.GOLDEN_VARCOMP.limit
    assert fits.sigma2[0] == pytest.approx(theirs["sigma"] ** 2, rel=limit)
    labels = [
        name if k == 0 else f"{name}.{k}" for name, f in zip(names, factors, strict=True) for k in range(len(f.sizes))
    ]
    V, first = symmetric(plan.q, fits.varcomp[0]), 0
    for label, size in zip(labels, plan.sizes, strict=True):
        own, reference = slice(first, first + size), np.array(theirs["varcomp"][label])
        ratio = np.abs(V[own, own] - reference) / np.maximum(np.abs(reference), theirs["sigma"] ** 2)
        assert ratio.max() <= limit
        first += size
    if reml:
        found, limit = rules["kenward-roger"], tolerances.SEVERAL_KENWARD_ROGER.limit
        np.testing.assert_allclose(found.df[0], np.atleast_1d(theirs["kenward_roger"]["df"]), rtol=limit)
        variances = np.diag(symmetric(p, found.vcov[0]))
        np.testing.assert_allclose(np.sqrt(variances), np.atleast_1d(theirs["kenward_roger"]["se"]), rtol=limit)
