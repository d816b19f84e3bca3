"""100,000 small and singular data sets: each ends with a status, none with a wrong one.

200 random designs (2 to 30 clusters of 1 to 5 rows, true variances mostly 0) x 512 replicates, REML and ML; a sample is
fitted again by an independent optimiser from several places.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from nestlab.fit.deviance import Statistics, deviance, relative_covariance, statistics_of
from nestlab.fit.lmm import Fits, Plan, compile_plan, fit_gram
from nestlab.fit.status import Status
from nestlab.simulate.gram import Gram, respond
from nestlab.simulate.layout import compile_design
from nestlab.simulate.moments import MomentSampler
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]
DESIGNS, BLOCK, SAMPLE = 200, 512, 300
FORMULAS = [
    "y ~ 1 + (1 | g)",
    "y ~ x + (1 | g)",
    "y ~ x + z + (1 | g)",
    "y ~ x + (1 + x | g)",
    "y ~ x + z + x:z + (1 + x | g)",
    "y ~ x + (1 | g) + (0 + x | g)",
    "y ~ x + (0 + x | g)",
    "y ~ x + w + (1 + x + w | g)",
]


def design(rng: np.random.Generator) -> tuple[Plan, Gram]:
    """One random design as a block of grams, with a plan."""
    formula = parse_formula(FORMULAS[rng.integers(len(FORMULAS))])
    q = len(formula.random_columns)
    variances = rng.choice([0.0, 0.0, 0.1, 1.0], q)
    sizes = tuple(int(n) for n in rng.integers(1, 6, rng.integers(2, 31)))
    used = {v for term in (*formula.fixed, *formula.random_columns) for v in term.split(":") if v != "Intercept"}
    condition = Condition(
        factors={},
        seed=int(rng.integers(2**32)),
        layout=Layout(sizes),
        truth=Truth(formula, (0.0,) * len(formula.fixed), tuple(map(tuple, np.diag(variances))), 1.0),
        predictors=tuple(Predictor(v, 2 if v == "z" else 1, "normal") for v in sorted(used)),
        path="moments",
        block_size=BLOCK,
    )
    made = compile_design(condition)
    plan = compile_plan(made, Method("m", formula, reml=bool(rng.integers(2))))
    draw = MomentSampler(made)(np.random.Generator(np.random.SFC64(rng.integers(2**32))), BLOCK)
    return plan, respond(draw, made, plan.omitted, plan.multipliers)


def independent(s: Statistics, blocks: NDArray[np.int64], rng: np.random.Generator, *, reml: bool) -> float:
    """The lowest deviance that L-BFGS-B finds from several places, over the entries of L."""
    q = len(blocks)
    free = [(i, k) for k in range(q) for i in range(k, q) if blocks[i] == blocks[k]]

    def objective(theta: Array) -> float:
        L = np.zeros((q, q))
        for value, (i, k) in zip(theta, free, strict=True):
            L[i, k] = value
        return deviance(s, L @ L.T, reml=reml)

    starts = [rng.normal(size=len(free)) * scale for scale in (0.1, 0.5, 1.0, 2.0, 5.0)]
    with np.errstate(all="ignore"):
        return min(float(minimize(objective, start, method="L-BFGS-B").fun) for start in starts)


def test_random_designs_end_with_a_right_status() -> None:
    rng = np.random.default_rng(12)
    counts = np.zeros(len(Status), dtype=int)
    chosen: list[tuple[Plan, Gram, Fits, int]] = []
    for _ in range(DESIGNS):
        plan, gram = design(rng)
        fits = fit_gram(plan, gram, 0, BLOCK)
        counts += np.bincount(fits.status, minlength=len(Status))
        converged = fits.status <= Status.singular
        assert (fits.residual[converged] <= 1e-6).all()
        assert np.isfinite(fits.beta[converged]).all()
        assert (fits.sigma2[converged] > 0).all()
        assert np.isnan(fits.sigma2[fits.status >= Status.rank_deficient]).all()
        effects = [len(plan.groups) * int((plan.blocks == b).sum()) for b in np.unique(plan.blocks)]
        if plan.rows <= max(effects) or plan.rows <= len(plan.xcols):
            assert not converged.any(), "lme4's rule: more rows than random effects of a term"
        where = np.flatnonzero(converged)
        if len(where):
            chosen += [(plan, gram, fits, int(r)) for r in rng.choice(where, 3)]
    assert counts.sum() == DESIGNS * BLOCK
    assert counts[Status.singular] > 20_000
    assert counts[Status.ok] > 10_000
    assert counts[Status.not_converged] <= 5e-4 * counts.sum(), counts
    for plan, gram, fits, r in chosen[:SAMPLE]:
        s, G = statistics_of(plan, gram, r), relative_covariance(fits, r)
        ours = deviance(s, G, reml=plan.reml)
        assert ours == pytest.approx(fits.deviance[r], abs=1e-7)
        theirs = independent(s, plan.blocks, rng, reml=plan.reml)
        assert ours < theirs + 1e-6 * (1 + abs(theirs)), (
            plan.formula.text,
            r,
            Status(fits.status[r]).name,
            ours,
            theirs,
        )
        root = np.linalg.cholesky(s.A.mean(0) * (plan.blocks[:, None] == plan.blocks[None, :]))
        smallest = np.linalg.eigvalsh(root.T @ G @ root)[0]
        assert (smallest < 1e-7) == (fits.status[r] == Status.singular), (smallest, fits.status[r])
