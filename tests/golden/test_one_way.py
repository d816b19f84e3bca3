"""Balanced one-way designs and two-arm trials: the optimum in closed form (Searle, Casella & McCulloch 1992, ch. 3-4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nestlab as nl
from nestlab.fit.lmm import fit_gram
from nestlab.run.block import compile_condition
from nestlab.simulate.gram import respond


def tables(clusters: int, size: int, variance: float, *, arms: bool) -> dict[str, Any]:
    return {
        "name": "anova",
        "seed": 8,
        "replications": 1,
        "design": {"clusters": clusters, "cluster_size": size},
        "truth": {
            "formula": "y ~ 1 + arm + (1 | g)" if arms else "y ~ 1 + (1 | g)",
            "fixed": {"Intercept": 3} | ({"arm": 1} if arms else {}),
            "residual_variance": 2,
            "random": {"g": {"variance": {"Intercept": variance}}},
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}} if arms else {},
        "method": [{"name": "reml"}, {"name": "ml", "reml": False}],
    }


@pytest.mark.parametrize("arms", [False, True])
@pytest.mark.parametrize("variance", [0.0, 0.05, 1.0, 50.0])
@pytest.mark.parametrize(("clusters", "size"), [(4, 2), (6, 5), (20, 30)])
def test_estimates_equal_anova(clusters: int, size: int, variance: float, arms: bool) -> None:
    """tau2, s2 and the mean squares to 1e-9; singular exactly where the between mean square is the smaller one."""
    study = nl.Study.from_dict(tables(clusters, size, variance, arms=arms))
    work = compile_condition(study.conditions[0], study.methods)
    draw = work.draw(0)
    p = 2 if arms else 1
    group = np.arange(clusters) % 2 if arms else np.zeros(clusters, dtype=int)
    # sums and squares of y less its fixed part: D'y = D'D u + D'e
    sums = size * draw.u[:, 0] + draw.de[:, 0]
    squares = size * draw.u[:, 0] ** 2 + 2 * draw.u[:, 0] * draw.de[:, 0] + draw.ee
    within = (squares - sums**2 / size).sum(0)
    means = sums / size
    centred = means - np.stack([means[group == g].mean(0) for g in range(p)])[group]
    between = size * (centred**2).sum(0)
    b = clusters * (size - 1)
    for method, divisor in enumerate((clusters - p, clusters)):
        plan = work.analyses[method].on.plan
        plan = replace(plan, zcols=np.array(plan.zcols), xcols=np.array(plan.xcols))
        fits = fit_gram(plan, respond(draw, work.source.design, plan.omitted, plan.multipliers), 0, 512)
        inside = between / divisor > within / b
        pooled = clusters * size - (p if method == 0 else 0)
        s2 = np.where(inside, within / b, (between + within) / pooled)
        tau2 = np.where(inside, (between / divisor - within / b) / size, 0.0)
        clear = np.abs(between / divisor * b / within - 1) > 1e-4  # at equality the optimum is on the edge itself
        assert ((fits.status == 0) == inside)[clear].all()
        assert ((fits.status == 1) == ~inside)[clear].all()
        np.testing.assert_allclose(fits.sigma2[clear], s2[clear], rtol=1e-9)
        np.testing.assert_allclose(fits.varcomp[clear, 0], tau2[clear], rtol=1e-9, atol=1e-9)
        if arms:
            difference = 1 + means[group == 1].mean(0) - means[group == 0].mean(0)
            np.testing.assert_allclose(fits.beta[:, 1], difference, rtol=1e-9, atol=1e-9)
            se = np.sqrt(4 * np.where(inside, size * tau2 + s2, s2) / (clusters * size))
            np.testing.assert_allclose(fits.se[clear, 1], se[clear], rtol=1e-9)
