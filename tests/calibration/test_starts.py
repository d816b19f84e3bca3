"""The optimum must not depend on where the search starts: 10,000 replicates of every shape, from four places."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from nestlab.fit.lmm import Fits, compile_plan, fit_replicates, pairs
from nestlab.fit.status import Status
from nestlab.fit.workspace import make_shape
from nestlab.simulate.gram import respond
from nestlab.simulate.layout import compile_design
from nestlab.simulate.moments import MomentSampler
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]
REPLICATES, RANDOM_STARTS = 10_000, 5
SHAPES = {
    "intercept": ("y ~ x + (1 | g)", (0.3,)),
    "intercept, often singular": ("y ~ x + z + (1 | g)", (0.02,)),
    "slope": ("y ~ x + (1 + x | g)", (1.0, 0.6)),
    "slope, often singular": ("y ~ x + z + x:z + (1 + x | g)", (0.3, 0.02)),
    "slope alone": ("y ~ x + (0 + x | g)", (0.2,)),
    "apart": ("y ~ x + (1 | g) + (0 + x | g)", (0.3, 0.05)),
    "three columns": ("y ~ x + w + (1 + x + w | g)", (0.5, 0.3, 0.2)),
    "four columns": ("y ~ x + w + v + (1 + x + w + v | g)", (1.0, 0.6, 0.4, 0.8)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_deviance_from_four_starts(name: str) -> None:
    formula, variances = SHAPES[name]
    parsed = parse_formula(formula)
    used = {v for term in (*parsed.fixed, *parsed.random_columns) for v in term.split(":") if v != "Intercept"}
    condition = Condition(
        factors={}, seed=1, layout=Layout((18,) * 12 + (25,) * 12),
        truth=Truth(parsed, (0.0,) * len(parsed.fixed), tuple(map(tuple, np.diag(variances))), 1.0),
        predictors=tuple(Predictor(v, 2 if v == "z" else 1, "normal") for v in sorted(used)),
        path="moments", block_size=REPLICATES,
    )  # fmt: skip
    design = compile_design(condition)
    plan = compile_plan(design, Method("m", parsed))
    draw = MomentSampler(design)(np.random.Generator(np.random.SFC64(4)), REPLICATES)
    gram = respond(draw, design, plan.omitted, plan.multipliers)
    rng = np.random.default_rng(2)
    q = len(plan.zcols)

    def fit(start: Array, first: int = 0, last: int = REPLICATES, *, moments: bool = False) -> Fits:
        shape = make_shape(
            plan.zcols, plan.xcols, plan.xweights, plan.blocks, start,
            rows=plan.rows, clusters=design.clusters, reml=True, moments=moments,
        )  # fmt: skip
        return fit_replicates(shape, plan.groups, gram, first, last)

    def random_start() -> Array:
        L = np.tril(rng.normal(size=(q, q))) * 10 ** rng.uniform(-2, 1)
        return np.array([(L @ L.T)[i, k] for i, k in pairs(q)])

    edges = np.linspace(0, REPLICATES, RANDOM_STARTS + 1).astype(int)
    by_random = [fit(random_start(), int(a), int(b)) for a, b in pairwise(edges)]
    found = {
        "moments": fit(plan.start, moments=True).deviance,
        "truth": fit(plan.start).deviance,
        "identity": fit(np.full(len(plan.start), -1.0)).deviance,
        "random": np.concatenate([fits.deviance for fits in by_random]),
    }
    status = fit(plan.start, moments=True).status
    assert (status <= Status.singular).mean() > 0.9995
    together = np.stack(list(found.values()))
    assert np.isfinite(together).all()
    spread = together.max(axis=0) - together.min(axis=0)
    assert (spread < 1e-8).all(), (np.flatnonzero(spread >= 1e-8), spread.max())
