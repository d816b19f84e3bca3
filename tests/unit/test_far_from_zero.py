"""Predictors far from 0: the data, fits and tests are those of the predictor less a constant, in the formula's coordinates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nestlab as nl
from nestlab.fit.lmm import congruent, pairs
from nestlab.fit.status import Status
from nestlab.run.block import Columns, CompiledCondition, compile_condition
from nestlab.simulate.layout import pair
from nestlab.spec.far import far_constants
from nestlab.spec.identity import describe, draw_rules
from nestlab.spec.study import StudyFile

Array = NDArray[np.float64]
NORMAL: dict[str, Any] = {"level": 1, "distribution": "normal"}
BETWEEN: dict[str, Any] = {"level": 2, "distribution": "normal"}
METHODS: list[dict[str, Any]] = [
    {"name": "satterthwaite"},
    {"name": "rules", "df": ["z", "between-within", "kenward-roger"]},
    {"name": "ml", "reml": False, "variance_intervals": "wald"},
    {"name": "robust", "robust": "CR2", "df": "bell-mccaffrey"},
    {"name": "ols", "estimator": "ols", "robust": "CR1"},
    {"name": "fe", "estimator": "fixed-effects"},
    {"name": "fe-robust", "estimator": "fixed-effects", "robust": "CR2"},
    {"name": "means", "estimator": "cluster-means"},
    {"name": "gls", "estimator": "gls"},
]


def study(
    formula: str,
    predictors: dict[str, Any],
    means: dict[str, float],
    methods: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> StudyFile:
    terms = [t for t in ("Intercept", "x", "z", "x:z", "w", "x:w") if t == "Intercept" or t in _terms(formula)]
    table = {
        "name": "far",
        "seed": 3,
        "replications": 12,
        "design": {"clusters": 10, "cluster_size": [5, 8, 3, 6, 7, 4, 9, 5, 6, 4]},
        "truth": {
            "formula": formula,
            "fixed": dict.fromkeys(terms, 0.3),
            "residual_variance": 1,
            "random": {"g": {"variance": {"Intercept": 0.3}}},
        },
        "predictors": {k: p | ({"mean": means[k]} if k in means else {}) for k, p in predictors.items()},
        "method": METHODS if methods is None else methods,
    }
    return StudyFile.from_dict(table | changes)


def _terms(formula: str) -> list[str]:
    fixed = formula.split("~")[1].split("(")[0].strip(" +")
    if "*" not in fixed:
        return [t.strip() for t in fixed.split("+")]
    a, b = (t.strip() for t in fixed.split("*"))
    return [a, b, f"{a}:{b}"]


def both(made: StudyFile, near: StudyFile) -> tuple[CompiledCondition, CompiledCondition]:
    """Compiled, and drawn from one stream."""
    compiled = []
    for one in (made, near):
        (condition,) = one.conditions()
        compiled.append(compile_condition(condition, one.methods()))
    key = compiled[0].key
    return compiled[0], replace(compiled[1], key=key, source=replace(compiled[1].source, key=key))


def same(far: Columns, near: Columns, invariant: tuple[str, ...], rtol: float) -> None:
    """Columns that name an invariant estimand, and the statuses."""
    kept = [name for name in near if name.partition(".")[2].split("/")[0] in invariant]
    assert kept
    np.testing.assert_array_equal(far["status"], near["status"])
    assert (far["status"] <= Status.singular).all()
    for name in kept:
        np.testing.assert_allclose(far[name], near[name], rtol=rtol, atol=1e-9, err_msg=name)


X, Z, W = {"x": NORMAL}, {"z": BETWEEN}, {"w": NORMAL}
GAMMA = {"x": {"level": 1, "distribution": "gamma", "skewness": 1, "icc": 0.2}}
ONCE = {"x": {**NORMAL, "redraw": False}}
VARIANCES = ("var:g:Intercept", "var:residual")
#: Formula, predictors, those that are far, what does not depend on where they are.
MODELS = {
    "x": ("y ~ x + (1 | g)", X, ("x",), ("x", *VARIANCES)),
    "x * z": ("y ~ x * z + (1 | g)", X | Z, ("x",), ("x", "x:z", *VARIANCES)),
    "between": ("y ~ x * z + (1 | g)", X | Z, ("z",), ("z", "x:z", *VARIANCES)),
    "both": ("y ~ x * z + (1 | g)", X | Z, ("x", "z"), ("x:z", *VARIANCES)),
    "rows": ("y ~ x * w + (1 | g)", X | W, ("x",), ("x", "x:w", *VARIANCES)),
    "gamma": ("y ~ x + (1 | g)", GAMMA, ("x",), ("x", *VARIANCES)),
}


@pytest.mark.parametrize("mean", [200.0, 1e5, 1e6])
@pytest.mark.parametrize("name", MODELS)
def test_everything_is_as_at_0(name: str, mean: float) -> None:
    """Estimates, standard errors, df, variances by every estimator. At 1e6 the constant parts leave 1e-6 of what is computed from
    rows, whose x has 10 digits."""
    formula, predictors, far, invariant = MODELS[name]
    work, near = both(*(study(formula, predictors, dict.fromkeys(far, m)) for m in (mean, 0.0)))
    assert set(work.source.design.moved) == set(far)
    for method, a, b in zip(work.methods, work.replicates(0, 12), near.replicates(0, 12), strict=True):
        same(a, b, invariant, 1e-13 * mean + 1e-9)
        if name == "x" and method.estimator not in ("fixed-effects",):
            errors = [one["estimate.Intercept"] - 0.3 for one in (a, b)]
            np.testing.assert_allclose(
                errors[0], errors[1] - mean * (b["estimate.x"] - 0.3), rtol=1e-9, atol=1e-9 * mean
            )


@pytest.mark.parametrize("mean", [1e5, 1e6])
def test_joint_and_standardised_contrasts(mean: float) -> None:
    contrasts = [
        {"name": "any", "weights": [{"x": 1}, {"x:z": 1}]},
        {"name": "d", "weights": {"x": 1}, "standardise": "total"},
    ]
    made = [study("y ~ x * z + (1 | g)", X | Z, {"x": m}, METHODS[:1], contrast=contrasts) for m in (mean, 0.0)]
    work, near = both(*made)
    (a,), (b,) = work.replicates(0, 12), near.replicates(0, 12)
    assert np.isfinite(b["p.any"]).all()
    same(a, b, ("any", "d"), 1e-6)


def test_missing_rows_and_drawn_sizes() -> None:
    """Rows are lost by the predictor as it is stated."""
    changes: dict[str, Any] = {"design": {"clusters": 10, "cluster_size": {"distribution": "poisson", "mean": 8}}}
    lost = [{"missing": {"at_random": {"on": "x", "intercept": -1.0 - 2.0 * m, "slope": 2.0}}} for m in (5000.0, 0.0)]
    made = [
        study("y ~ x + (1 | g)", X, {"x": m}, METHODS[:6], **changes, **one)
        for m, one in zip((5000.0, 0.0), lost, strict=True)
    ]
    work, near = both(*made)
    for a, b in zip(work.replicates(0, 12), near.replicates(0, 12), strict=True):
        np.testing.assert_array_equal(a["rows"], b["rows"])
        same(a, b, ("x", *VARIANCES), 1e-8)


def test_rows_are_those_of_the_study() -> None:
    """x and y of the frames, on each path, and the means of clusters that a formula names."""
    for predictors, formula in ((X, "y ~ x + (1 | g)"), (GAMMA, "y ~ x + (1 | g)"), (X | W, "y ~ x * w + (1 | g)")):
        work, near = both(*(study(formula, predictors, {"x": m}, METHODS[:1]) for m in (1e4, 0.0)))
        frames = [one.frame(2, truth=True) for one in (work, near)]
        np.testing.assert_allclose(frames[0]["x"], frames[1]["x"] + 1e4, rtol=1e-13)
        expected = 0.3 * frames[0]["x"] + 0.3 + frames[0]["u:Intercept"] + frames[0]["e"]
        if "w" in predictors:
            expected += 0.3 * frames[0]["w"] * (1 + frames[0]["x"])
        np.testing.assert_allclose(frames[0]["y"], expected, rtol=1e-10)


@pytest.mark.parametrize("predictors", [X, GAMMA])
def test_means_of_clusters_are_those_of_the_study(predictors: dict[str, Any]) -> None:
    changes = {
        "truth": {
            "formula": "y ~ within(x) + between(x) + (1 | g)",
            "fixed": {"Intercept": 0.3, "within(x)": 0.3, "between(x)": 0.3},
            "residual_variance": 1,
            "random": {"g": {"variance": {"Intercept": 0.3}}},
        }
    }
    made = [study("y ~ x + (1 | g)", predictors, {"x": m}, METHODS[:1], **changes) for m in (1e5, 0.0)]
    work, near = both(*made)
    same(work.replicates(0, 12)[0], near.replicates(0, 12)[0], ("within(x)", "between(x)", *VARIANCES), 1e-7)
    np.testing.assert_allclose(work.draw(0).z, near.draw(0).z + 1e5, rtol=1e-13)


@pytest.mark.parametrize("mean", [200.0, 1e5])
def test_a_random_slope_on_a_predictor_far_from_0(mean: float) -> None:
    """As of x less its mean: the slope, and the covariance of u at x = 0 by the algebra of u_0 - mean u_1."""
    random = {"g": {"variance": {"Intercept": 0.3, "x": 0.2}, "correlation": {"Intercept:x": 0.3}}}
    truth = {
        "formula": "y ~ x + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 0.3},
        "residual_variance": 1,
        "random": random,
    }
    made = study("y ~ x + (1 | g)", X, {"x": mean}, METHODS[:1], truth=truth)
    (condition,) = made.conditions()
    work = compile_condition(condition, made.methods())
    (rows,) = work.replicates(0, 4)
    for r in range(4):
        frame = work.frame(r)
        frame["x"] -= mean
        fit = nl.fit("y ~ x + (1 + x | g)", frame)
        assert rows["status"][r] == fit.status == Status.ok or rows["status"][r] == Status.singular
        for kind, value in (("estimate", fit.beta["x"]), ("se", fit.se["x"]), ("df", fit.df["x"])):
            assert rows[f"{kind}.x"][r] == pytest.approx(value, rel=1e-6)
        v = fit.varcomp["g"]
        at_0 = v[0, 0] - 2 * mean * v[0, 1] + mean**2 * v[1, 1]
        assert rows["estimate.var:g:x"][r] == pytest.approx(v[1, 1], rel=1e-5)
        assert rows["estimate.var:g:Intercept"][r] == pytest.approx(at_0, rel=1e-4)


def test_a_predictor_that_is_drawn_once() -> None:
    (condition,) = (made := study("y ~ x + (1 | g)", ONCE, {"x": 1e5}, METHODS[:1])).conditions()
    work = compile_condition(condition, made.methods())
    (rows,) = work.replicates(0, 4)
    for r in range(4):
        frame = work.frame(r)
        frame["x"] -= 1e5
        fit = nl.fit("y ~ x + (1 | g)", frame)
        for kind, value in (("estimate", fit.beta["x"]), ("se", fit.se["x"]), ("df", fit.df["x"])):
            assert rows[f"{kind}.x"][r] == pytest.approx(value, rel=1e-8)


def test_uncorrelated_random_effects_are_those_of_the_study() -> None:
    """No constant can be taken off: u_0 + u_1 x with uncorrelated u is another model for every origin of x."""
    random = {"g": {"variance": {"Intercept": 0.3, "x": 1e-4}}}
    truth = {
        "formula": "y ~ x + (1 | g) + (0 + x | g)",
        "fixed": {"Intercept": 0, "x": 0.3},
        "residual_variance": 1,
        "random": random,
    }
    made = study("y ~ x + (1 | g)", X, {"x": 150.0}, METHODS[:1], truth=truth)
    (condition,) = made.conditions()
    work = compile_condition(condition, made.methods())
    (rows,) = work.replicates(0, 4)
    for r in range(4):
        fit = nl.fit("y ~ x + (1 | g) + (0 + x | g)", work.frame(r))
        assert rows["estimate.x"][r] == pytest.approx(fit.beta["x"], rel=1e-5)
        assert rows["se.x"][r] == pytest.approx(fit.se["x"], rel=1e-4)


def test_years() -> None:
    """2000 .. 2010 are far enough; the slope's test is that of 0 .. 10."""
    time = {"t": {"level": 1, "distribution": "time"}}
    truth = {
        "formula": "y ~ t + (1 | g)",
        "fixed": {"Intercept": 0, "t": 0.1},
        "residual_variance": 1,
        "random": {"g": {"variance": {"Intercept": 0.3}}},
    }
    made = []
    for start in (2000, 0):
        predictors = {"t": time["t"] | {"start": start}}
        design = {"clusters": 10, "cluster_size": 11}
        made.append(study("y ~ x + (1 | g)", predictors, {}, METHODS[:6], truth=truth, design=design))
    work, near = both(*made)
    assert dict(work.source.design.moved) == {"t": 2005.0}
    for a, b in zip(work.replicates(0, 12), near.replicates(0, 12), strict=True):
        same(a, b, ("t", *VARIANCES), 1e-9)


def test_the_gram_holds_digits_whatever_the_mean() -> None:
    """Sums of squares about the constant are those at 0, bit for bit; without a shift a Gram is that of the columns as stated."""
    work, near = both(*(study("y ~ x + (1 | g)", X, {"x": m}, METHODS[:1]) for m in (1e6, 0.0)))
    np.testing.assert_array_equal(work.draw(0).dd, near.draw(0).dd)
    gram = nl_respond(work)
    n, s, q = (near.draw(0).dd[:, k] for k in (0, pair(0, 1), pair(1, 1)))
    np.testing.assert_allclose(gram.dd[:, pair(0, 1)], s + 1e6 * n, rtol=1e-14)
    np.testing.assert_allclose(gram.dd[:, pair(1, 1)], q + 2e6 * s + 1e12 * n, rtol=1e-14)


def nl_respond(work: CompiledCondition) -> Any:
    from nestlab.simulate.gram import respond

    return respond(work.draw(0), work.source.design, {}, [()])


def test_congruence_of_packed_matrices() -> None:
    rng = np.random.default_rng(1)
    V, M = rng.normal(size=(5, 3, 3)), rng.normal(size=(3, 3))
    V = V + V.transpose(0, 2, 1)
    packed, expected = (np.stack([A[:, i, k] for i, k in pairs(3)], axis=1) for A in (V, M @ V @ M.T))
    np.testing.assert_allclose(congruent(packed, M), expected, rtol=1e-12)


def test_only_conditions_far_from_0_have_other_keys() -> None:
    for mean, sd, rule in ((99.0, 1.0, False), (101.0, 1.0, True), (-1e5, 1.0, True), (1e5, 1e4, False)):
        (condition,) = study("y ~ x + (1 | g)", {"x": NORMAL | {"sd": sd}}, {"x": mean}).conditions()
        assert bool(far_constants(condition)) is rule
        assert draw_rules(condition) == (["sums about a constant"] if rule else [])
        assert ("draw_rules" in describe(condition)) is rule
