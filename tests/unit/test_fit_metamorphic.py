"""The same model in other words is the same fit: units, order and names of the data change nothing that they should not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from nestlab.fit.single import Fit, fit

FORMULAS = (
    "y ~ x + (1 | g)",
    "y ~ x + z + (1 + x | g)",
    "y ~ x * z + (1 | g) + (0 + x | g)",
    "y ~ x + (0 + x | g)",
)
EVERY = settings(max_examples=100, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)
formulas = st.sampled_from(FORMULAS)
factors = st.sampled_from([1e-6, -0.03, 7.0, 1e5])
shifts = st.sampled_from([-1e4, 0.5, 1e3])


def rows(seed: int, between: float = 1.0) -> pd.DataFrame:
    """5 to 12 clusters of 3 to 9 rows; about half of the fits are singular."""
    random = np.random.default_rng(seed)
    g = np.repeat(np.arange(random.integers(5, 13)), 3)
    g = np.sort(np.concatenate([g, random.choice(g, 2 * g.size)]))
    x, clusters = random.normal(size=g.size), g.max() + 1
    tau = between * random.choice([0.0, 0.5, 1.5], 2)
    u = random.normal(size=(clusters, 2)) * tau
    y = 1 + 0.5 * x + u[g, 0] + u[g, 1] * x + random.normal(size=g.size)
    return pd.DataFrame({"g": g, "x": x, "z": random.normal(size=clusters)[g], "y": y})


def numbers(f: Fit, *, y: float = 1.0) -> np.ndarray:
    """What a fit says, free of units: beta and se over se, theta, variances over sigma^2, residuals; y is the unit of y."""
    se = np.array(list(f.se.values()))
    beta = np.array(list(f.beta.values()))
    components = np.concatenate([(v / f.sigma**2).ravel() for v in f.varcomp.values()])
    return np.concatenate([beta / se, np.log(se / abs(y)), [np.log(f.sigma / abs(y))], f.theta, components])


def close(a: np.ndarray, b: np.ndarray) -> None:
    difference = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    assert difference.max() <= tolerances.SAME_FIT.limit, difference.max()


def same_status(a: Fit, b: Fit) -> None:
    assert a.status == b.status
    assert abs(a.certificate - b.certificate) <= tolerances.SAME_CERTIFICATE.limit


@EVERY
@given(seeds, formulas, shifts, st.booleans())
def test_a_constant_added_to_y_moves_the_intercept_only(seed, formula, shift, reml):
    data, limit = rows(seed), tolerances.SAME_FIT.limit * max(1.0, abs(shift))
    a, b = fit(formula, data, reml=reml), fit(formula, data.assign(y=data["y"] + shift), reml=reml)
    b = replace(b, beta=b.beta | {"Intercept": b.beta["Intercept"] - shift})
    assert np.max(np.abs(numbers(b) - numbers(a))) <= limit
    assert abs(b.neg2loglik - a.neg2loglik) <= limit
    same_status(a, b)


@EVERY
@given(seeds, formulas, factors, st.booleans())
def test_units_of_y(seed, formula, k, reml):
    data = rows(seed)
    a, b = fit(formula, data, reml=reml), fit(formula, data.assign(y=k * data["y"]), reml=reml)
    b_in_units_of_a = replace(b, beta={name: v * np.sign(k) for name, v in b.beta.items()})
    close(numbers(b_in_units_of_a, y=k), numbers(a))
    m = a.rows - len(a.beta) if reml else a.rows
    assert b.neg2loglik == pytest.approx(a.neg2loglik + 2 * m * np.log(abs(k)), abs=1e-9)
    same_status(a, b)


@EVERY
@given(seeds, formulas, st.integers(0, 10**6))
def test_order_of_rows_and_names_of_clusters(seed, formula, shuffle):
    data = rows(seed)
    order = np.random.default_rng(shuffle).permutation(len(data))
    names = np.random.default_rng(shuffle + 1).permutation(data["g"].max() + 1)
    shuffled = data.iloc[order].assign(g=lambda f: [f"cluster {names[g]}" for g in f["g"]])
    a, b = fit(formula, data), fit(formula, shuffled)
    close(numbers(b), numbers(a))
    close(b.scaled_residuals, a.scaled_residuals[order])
    assert abs(b.neg2loglik - a.neg2loglik) <= tolerances.SAME_FIT.limit
    same_status(a, b)


@EVERY
@given(seeds, st.sampled_from(["y ~ x + (1 | g)", "y ~ x * z + (1 + x | g)"]), shifts, factors, st.booleans())
def test_recoding_a_predictor(seed, formula, shift, k, reml):
    """x -> k (shift + x) keeps the space of the fixed and of the random columns; REML adds 2 log |k| for each with x in it."""
    data, limit = rows(seed), tolerances.SAME_FIT.limit * max(1.0, abs(shift))
    a, b = fit(formula, data, reml=reml), fit(formula, data.assign(x=k * (shift + data["x"])), reml=reml)
    determinant = 2 * sum("x" in name for name in a.beta) * np.log(abs(k)) if reml else 0.0
    assert abs(b.neg2loglik - determinant - a.neg2loglik) <= limit
    assert abs(k * b.beta["x"] - a.beta["x"]) <= limit * a.se["x"]
    assert abs(b.beta["Intercept"] + k * shift * b.beta["x"] - a.beta["Intercept"]) <= limit * a.se["Intercept"]
    assert abs(abs(k) * b.se["x"] / a.se["x"] - 1) <= limit
    assert abs(b.sigma / a.sigma - 1) <= limit
    assert np.max(np.abs(b.scaled_residuals - a.scaled_residuals)) <= limit
    same_status(a, b)


@EVERY
@given(seeds, factors)
def test_units_of_a_predictor_that_has_a_term_of_its_own(seed, k):
    """Without an intercept beside it, x may change its unit but not its zero."""
    data = rows(seed)
    a = fit("y ~ x + (1 | g) + (0 + x | g)", data)
    b = fit("y ~ x + (1 | g) + (0 + x | g)", data.assign(x=k * data["x"]))
    np.testing.assert_allclose(b.varcomp["g.1"] * k**2, a.varcomp["g.1"], atol=tolerances.SAME_FIT.limit * a.sigma**2)
    np.testing.assert_allclose(b.varcomp["g"], a.varcomp["g"], atol=tolerances.SAME_FIT.limit * a.sigma**2)
    same_status(a, b)


def test_both_kinds_of_fits_occur():
    kinds = [fit(FORMULAS[1], rows(seed)).singular for seed in range(40)]
    assert 5 < sum(kinds) < 35
