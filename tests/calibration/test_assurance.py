"""Assurance against theory: balanced two-arm trials with priors on the effect and on the ICC.

J clusters of n rows, J/2 an arm: given the truth, t = b / se is noncentral t on J - 2 df, ncp = effect / sqrt(4 lam / (J n)),
lam = residual variance + n x intercept variance, where singular fits are rare (closed_forms.md; here below 1e-4). So conditional
power is known, and assurance and its spread are integrals over the prior. With a normal prior on the effect alone the estimate is
normal again, and t scaled by s = sqrt(V + sd^2), V = 4 lam / (J n), is noncentral t: assurance is in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

import nestlab as nl
from nestlab.measure.assurance import SPREAD, power_spread, spread_basis

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]
J, N, REPLICATIONS = 20, 25, 20_000
#: What the splines can't follow: over 40 studies of 3,000 replicates of each case below, and 3 of 100,000, means were at most
#: 0.002 (0.0012) and 0.012 (0.004) from the exact sd and quantiles.
MODEL_SD, MODEL_QUANTILE = 0.003, 0.015


def trial(effect: Any, prior: dict[str, Any], path: Path, **more: Any) -> pd.DataFrame:
    """The measures of arm, by measure."""
    tables: dict[str, Any] = {
        "name": "trial",
        "seed": 31,
        "replications": REPLICATIONS,
        "design": {"clusters": J, "cluster_size": N},
        "prior": prior,
        "truth": {
            "formula": "y ~ 1 + arm + (1 | cluster)",
            "fixed": {"Intercept": 1, "arm": effect},
            "residual_variance": 1,
            "random": {"cluster": {"variance": {"Intercept": 0.25}}},
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
        "method": [{"name": "reml", "df": "between-within"}],
        **more,
    }
    summary = nl.Study.from_dict(tables).run(out=path).summary()
    return summary[(summary["estimand"] == "arm") & (summary["subset"] == "all")].set_index("measure")


def conditional_power(effect: Array | float, intercept_variance: Array | float) -> Array:
    ncp = np.asarray(effect / np.sqrt(4 * (1 + N * np.asarray(intercept_variance)) / (J * N)))
    c = stats.t.ppf(0.975, J - 2)
    # By the chi-square's quantiles: SciPy's noncentral t is nan for some large ncp.
    scale = np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, J - 2) / (J - 2)) * c
    flat = [stats.norm.sf(scale - d).mean() + stats.norm.cdf(-scale - d).mean() for d in ncp.ravel()]
    return np.array(flat).reshape(ncp.shape)


def near(row: pd.Series, exact: float, model: float = 0.0) -> bool:
    """Within 4 MCSE, and what the model of the measure is known to miss."""
    return bool(abs(row["value"] - exact) < 4 * row["mcse"] + model)


def check_spread(found: pd.DataFrame, power: Array) -> None:
    assert near(found.loc["power_sd"], float(power.std()), MODEL_SD)
    for share in (10, 50, 90):
        row = found.loc[f"power_q{share}"]
        assert near(row, float(np.quantile(power, share / 100)), MODEL_QUANTILE), (share, row)


@pytest.mark.parametrize(("mean", "sd"), [(0.5, 0.2), (0.0, 0.4), (0.8, 0.05)])
def test_normal_prior_on_the_effect(mean: float, sd: float, tmp_path: Path) -> None:
    found = trial({"distribution": "normal", "mean": mean, "sd": sd}, {}, tmp_path)
    V = 4 * (1 + N * 0.25) / (J * N)
    s, c = np.sqrt(V + sd**2), stats.t.ppf(0.975, J - 2)
    reach = c * np.sqrt(V) / s
    exact = stats.nct.sf(reach, J - 2, mean / s) + stats.nct.cdf(-reach, J - 2, mean / s)
    assert near(found.loc["power"], exact)
    effects = stats.norm.ppf((np.arange(4000) + 0.5) / 4000, mean, sd)
    power = conditional_power(effects, 0.25)
    assert power.mean() == pytest.approx(exact, abs=1e-3)
    check_spread(found, power)
    assert near(found.loc["bias"], 0.0)
    assert near(found.loc["empse"], np.sqrt(V))
    assert near(found.loc["mean"], mean)
    assert near(found.loc["cover"], 0.95)


def test_beta_prior_on_the_icc(tmp_path: Path) -> None:
    """Singular fits are rare here: the prior keeps away from 0."""
    found = trial(0.6, {"icc": {"distribution": "beta", "mean": 0.25, "sd": 0.06}}, tmp_path)
    size = 0.25 * 0.75 / 0.06**2 - 1
    icc = stats.beta.ppf((np.arange(4000) + 0.5) / 4000, 0.25 * size, 0.75 * size)
    variance = icc / (1 - icc)
    power = conditional_power(0.6, variance)
    assert near(found.loc["power"], float(power.mean()))
    check_spread(found, power)
    assert near(found.loc["empse"], float(np.sqrt((4 * (1 + N * variance) / (J * N)).mean())))
    assert near(found.loc["cover"], 0.95)
    assert near(found.loc["relerror"], 0.0)


def test_both(tmp_path: Path) -> None:
    effect = {"distribution": "pilot", "estimate": 0.6, "se": 0.15, "df": 18}
    found = trial(effect, {"icc": {"distribution": "beta", "mean": 0.25, "sd": 0.06}}, tmp_path)
    size = 0.25 * 0.75 / 0.06**2 - 1
    uniforms = stats.qmc.Halton(2, seed=1).random(20_000)
    effects = 0.6 + 0.15 * stats.t.ppf(uniforms[:, 0], 18)
    icc = stats.beta.ppf(uniforms[:, 1], 0.25 * size, 0.75 * size)
    power = conditional_power(effects, icc / (1 - icc))
    assert near(found.loc["power"], float(power.mean()))
    check_spread(found, power)


def test_truths_that_are_drawn_are_those_of_the_data(tmp_path: Path) -> None:
    """The residual variance's estimate over each replicate's own truth is chi-square, and estimates follow their truths."""
    variance = {"distribution": "pilot", "estimate": 2.0, "df": 10}
    tables: dict[str, Any] = {
        "name": "own",
        "seed": 5,
        "replications": 4000,
        "design": {"clusters": J, "cluster_size": N},
        "prior": {
            "icc": {"distribution": "uniform", "low": 0.2, "high": 0.5},
            "truth.fixed.arm": {"distribution": "normal", "mean": 3, "sd": 2},
        },
        "truth": {
            "formula": "y ~ 1 + arm + (1 | cluster)",
            "fixed": {"Intercept": 1},
            "residual_variance": variance,
        },
        "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    }
    rows = nl.Study.from_dict(tables).run(out=tmp_path).replicates()
    df = J * (N - 1)
    share = stats.chi2.cdf(df * rows["estimate.var:residual"] / rows["true.var:residual"], df)
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    lam = rows["true.var:residual"] + N * rows["true.var:cluster:Intercept"]
    z = (rows["estimate.arm"] - rows["true.arm"]) / np.sqrt(4 * lam / (J * N))
    assert stats.kstest(z, "norm").pvalue > 1e-3
    between = (rows["estimate.var:residual"] + N * rows["estimate.var:cluster:Intercept"]) / lam
    assert stats.kstest(stats.chi2.cdf((J - 2) * between, J - 2), "uniform").pvalue > 1e-3
    drawn = stats.invgamma.cdf(rows["true.var:residual"], 5, scale=10)
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(rows["prior.truth.fixed.arm"], rows["true.arm"])
    np.testing.assert_allclose(rows["true.icc"], rows["prior.icc"], rtol=1e-13)
    assert abs(np.corrcoef(rows["prior.icc"], rows["true.arm"])[0, 1]) < 4 / np.sqrt(4000)


# -- the spread alone, on tests that reject with known probability ------------------------------------------------------------


def two_sided(effect: Array, se: Array | float) -> Array:
    return np.asarray(stats.norm.sf(1.96 - effect / se) + stats.norm.cdf(-1.96 - effect / se))


CASES: dict[str, tuple[Callable[[np.random.Generator, int], list[Array]], Callable[..., Array]]] = {
    "an effect": (lambda g, n: [g.normal(0.5, 0.2, n)], lambda e: two_sided(e, 0.2)),
    "either sign": (lambda g, n: [g.normal(0, 1, n)], lambda e: two_sided(e, 0.2)),
    "hardly any spread": (lambda g, n: [g.normal(0.5, 0.01, n)], lambda e: two_sided(e, 0.2)),
    "none at all": (lambda g, n: [g.beta(3.5, 31.5, n)], lambda icc: np.full(len(icc), 0.05)),
    "uniform": (lambda g, n: [g.uniform(0, 1, n)], lambda e: two_sided(e, 0.2)),
    "nearly always": (lambda g, n: [g.normal(0.8, 0.2, n)], lambda e: two_sided(e, 0.2)),
    "effect and icc": (
        lambda g, n: [g.normal(0.5, 0.2, n), g.beta(3.5, 31.5, n)],
        lambda e, icc: two_sided(e, np.sqrt(4 * (1 + 9 * icc) / 200)),
    ),
    "a long tail": (
        lambda g, n: [g.normal(0.5, 0.2, n), 8 / g.chisquare(6, n)],
        lambda e, v: two_sided(e, np.sqrt(v / 50)),
    ),
    "four": (
        lambda g, n: [g.normal(0.5, 0.2, n), g.beta(3.5, 31.5, n), 16 / g.chisquare(14, n), g.normal(0, 1, n)],
        lambda e, icc, v, _: two_sided(e, np.sqrt(v * 4 * (1 + 9 * icc) / 200)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_spread(case: str) -> None:
    """Estimates about the exact value by their MCSE, over 20 studies of 3,000 replicates."""
    draw, power = CASES[case]
    exact = power(*draw(np.random.default_rng(1), 400_000))
    expected = np.array([exact.std(), *np.quantile(exact, [0.1, 0.5, 0.9])])
    values, errors = [], []
    for seed in range(20):
        g = np.random.default_rng(100 + seed)
        drawn = draw(g, 3000)
        found = power_spread(g.uniform(size=3000) < power(*drawn), spread_basis(drawn))
        assert [m.measure for m in found] == list(SPREAD)
        values.append([m.value for m in found])
        errors.append([m.mcse for m in found])
    mcse = np.sqrt(np.mean(np.square(errors), axis=0))
    spread = np.std(values, axis=0, ddof=1)
    off = np.abs(np.mean(values, axis=0) - expected)
    model = np.array([MODEL_SD, *[MODEL_QUANTILE] * 3])
    assert (off < 4 * spread / np.sqrt(20) + model).all(), (off, spread)
    # MCSEs: not too small beyond chance (20 studies: the sd of an sd is 16 %), nor useless
    assert (spread < 1.6 * mcse + 1e-3).all(), (spread, mcse)
    assert (mcse < 3 * spread + 5e-3).all(), (spread, mcse)
    # study by study: 0.93 of them lay within 2 MCSEs when this was set (60 studies of 1,000 and of 5,000 replicates a case)
    within = np.abs(np.array(values) - expected) < 2 * np.array(errors)
    assert within.mean() > 0.85, within.mean(axis=0)
