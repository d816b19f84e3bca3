"""Many replicates at once: a replicate's result is its own, and the twin's.

Results must have the same bits in any lane, beside any neighbours, in any order; pooled clusters change nothing but rounding.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from nestlab.fit.deviance import deviance, gradient, relative_covariance, statistics_of
from nestlab.fit.lanes import LANES
from nestlab.fit.lmm import Fits, Plan, compile_plan, fit_gram
from nestlab.fit.search import _place
from nestlab.fit.status import Status
from nestlab.fit.workspace import get_workspace, make_shape
from nestlab.simulate.gram import Gram, respond
from nestlab.simulate.layout import compile_design
from nestlab.simulate.moments import MomentSampler
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

Array = NDArray[np.float64]
BLOCK = 64
SIZES = (3, 9, 9, 4, 9, 12, 9, 6, 9, 9, 9)
#: formula, variances that make many fits singular
MODELS = {
    "intercept": ("y ~ x + z + (1 | g)", (0.05,)),
    "slope": ("y ~ x + (1 + x | g)", (0.3, 0.05)),
    "apart": ("y ~ x + (1 | g) + (0 + x | g)", (0.3, 0.02)),
    "three": ("y ~ x + w + x:z + (1 + x + w | g)", (0.5, 0.3, 0.1)),
    "four": ("y ~ x + w + v + (1 + x | g) + (0 + w + v | g)", (0.5, 0.3, 0.1, 0.4)),
}


def block(model: str, *, sizes: tuple[int, ...] = SIZES, redraw: bool = True, reml: bool = True) -> tuple[Plan, Gram]:
    formula, variances = MODELS[model]
    parsed = parse_formula(formula)
    used = {v for term in (*parsed.fixed, *parsed.random_columns) for v in term.split(":") if v != "Intercept"}
    predictors = tuple(Predictor(v, 2 if v == "z" else 1, "normal" if redraw else "balanced") for v in sorted(used))
    condition = Condition(
        factors={}, seed=5, layout=Layout(sizes),
        truth=Truth(parsed, (0.0,) * len(parsed.fixed), tuple(map(tuple, np.diag(variances))), 1.0),
        predictors=predictors, path="moments", block_size=BLOCK,
    )  # fmt: skip
    design = compile_design(condition)
    plan = compile_plan(design, Method("m", parsed, reml=reml))
    draw = MomentSampler(design)(np.random.Generator(np.random.SFC64(3)), BLOCK)
    return plan, respond(draw, design, plan.omitted, plan.multipliers)


def assert_same_bits(one: Fits, other: Fits) -> None:
    for field in fields(Fits):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def rows(fits: Fits, which: Any) -> Fits:
    return Fits(**{field.name: getattr(fits, field.name)[which] for field in fields(Fits)})


@pytest.mark.parametrize("model", MODELS)
def test_bits_do_not_depend_on_lane_neighbours_or_order(model: str) -> None:
    plan, gram = block(model)
    whole = fit_gram(plan, gram, 0, BLOCK)
    assert (whole.status == Status.singular).any()
    assert (whole.status == Status.ok).any()
    for first, last in ((0, 1), (3, 20), (40, BLOCK), (BLOCK - 3, BLOCK)):
        assert_same_bits(fit_gram(plan, gram, first, last), rows(whole, slice(first, last)))
    order = np.random.default_rng(1).permutation(BLOCK)
    shuffled = Gram(*(a if a.shape[-1] == 1 else np.ascontiguousarray(a[..., order]) for a in
                      (gram.dd, gram.dy, gram.yy, gram.weights)))  # fmt: skip
    assert_same_bits(fit_gram(plan, shuffled, 0, BLOCK), rows(whole, order))


@pytest.mark.parametrize("model", ["intercept", "slope"])
def test_fewer_replicates_than_lanes(model: str) -> None:
    plan, gram = block(model)
    whole = fit_gram(plan, gram, 0, BLOCK)
    for count in (1, LANES - 1):
        few = Gram(*(a if a.shape[-1] == 1 else np.ascontiguousarray(a[..., :count]) for a in
                     (gram.dd, gram.dy, gram.yy, gram.weights)))  # fmt: skip
        assert_same_bits(fit_gram(plan, few, 0, count), rows(whole, slice(0, count)))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_lanes_against_the_twin(model: str, reml: bool) -> None:
    """The deviance at the kernel's G, and the twin's gradient there: the certificate, by other code."""
    plan, gram = block(model, reml=reml)
    fits = fit_gram(plan, gram, 0, BLOCK)
    same = plan.blocks[:, None] == plan.blocks[None, :]
    for r in np.flatnonzero(fits.status <= Status.singular):
        s, G = statistics_of(plan, gram, int(r)), relative_covariance(fits, int(r))
        assert deviance(s, G, reml=reml) == pytest.approx(fits.deviance[r], abs=1e-8)
        assert np.abs((gradient(s, G, reml=reml) * same) @ G).max() < 2e-6


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize("model", ["intercept", "slope", "apart"])
def test_pooled_clusters_change_only_rounding(model: str, redraw: bool) -> None:
    plan, gram = block(model, redraw=redraw, sizes=(9,) * 23 + (5, 5, 8))
    alone = replace(plan, groups=np.arange(len(plan.groups)))
    if redraw and model != "intercept":
        np.testing.assert_array_equal(plan.groups, alone.groups)
        return
    # one kind for each size; beside a balanced x two for odd sizes, by the value that has the odd row
    assert len(set(plan.groups)) == (3 if model == "intercept" else 5)
    pooled, plain = fit_gram(plan, gram, 0, BLOCK), fit_gram(alone, gram, 0, BLOCK)
    np.testing.assert_array_equal(pooled.status, plain.status)
    used = pooled.status <= Status.singular
    assert used.sum() > BLOCK / 2
    np.testing.assert_allclose(pooled.deviance[used], plain.deviance[used], atol=1e-9)
    np.testing.assert_allclose(pooled.beta[used], plain.beta[used], atol=1e-9)
    np.testing.assert_allclose(pooled.vcov[used], plain.vcov[used], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(pooled.varcomp[used], plain.varcomp[used], rtol=1e-6, atol=1e-9)


def test_a_failure_in_one_lane_is_its_own() -> None:
    plan, gram = block("slope")
    whole = fit_gram(plan, gram, 0, BLOCK)
    dy, yy = gram.dy.copy(), gram.yy.copy()
    yy[2, 9], dy[:, :, 17], yy[:, 17] = np.nan, 0.0, 0.0
    broken = fit_gram(plan, Gram(gram.dd, dy, yy, gram.weights), 0, BLOCK)
    assert list(broken.status[[9, 17]]) == [Status.nonfinite, Status.nonfinite]
    assert np.isnan(broken.beta[[9, 17]]).all()
    others = np.setdiff1d(np.arange(BLOCK), [9, 17])
    assert_same_bits(rows(broken, others), rows(whole, others))


@njit
def place(shapes: Any, memory: Any, which: int) -> None:
    _place(0, which, shapes[0], memory[0])


@pytest.mark.parametrize("given", [True, False])
def test_no_start_is_made_twice(given: bool) -> None:
    """Without moments and a given start, start 0 is the identity, and no later one is; with one, start 1 is."""
    plan, _ = block("slope")
    shape = make_shape(
        plan.zcols, plan.xcols, plan.xweights, plan.blocks, np.array([0.4, 0.0, 0.4]) if given else np.full(3, -1.0),
        rows=plan.rows, clusters=len(plan.groups), reml=True, moments=False,
    )  # fmt: skip
    memory = get_workspace()
    memory[0]["U"][:2, :2, 0] = np.eye(2)
    found = []
    for which in range(12):
        place(shape, memory, which)
        F = memory[0]["F"][:2, :2, 0]
        found.append((F @ F.T).round(12))
    identities = [which for which, G in enumerate(found) if np.array_equal(G, np.eye(2))]
    assert identities == ([1] if given else [0])
    assert len({G.tobytes() for G in found}) == len(found)
