"""Cluster trials with binary outcomes and counts: bias with many clusters, and rejections against data drawn and fitted apart.

The study draws rows and fits them by the compiled kernel; what it is held against are totals of clusters that NumPy draws, with a
seed of its own, and that `nl.fit` fits, which is other code: dense, with a search and derivatives of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import kurtosis, norm, t

import nestlab as nl

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]


def study(
    *, replications: int, clusters: int, size: int, truth: dict[str, Any], methods: list[dict[str, Any]]
) -> nl.Study:
    """A trial whose arms are clusters, in turn."""
    tables = {
        "name": "trial",
        "seed": 2026,
        "replications": replications,
        "design": {"clusters": clusters, "cluster_size": size},
        "truth": {"formula": "y ~ 1 + trt + (1 | cluster)", **truth},
        "predictors": {"trt": {"level": 2, "distribution": "balanced"}},
        "method": [{"estimator": "glmm", **method} for method in methods],
    }
    return nl.Study.from_dict(tables)


def truth_of(variance: float, effect: float = 0.0, intercept: float = -0.8, **more: Any) -> dict[str, Any]:
    fixed = {"Intercept": intercept, "trt": effect}
    return {"fixed": fixed, "random": {"cluster": {"variance": {"Intercept": variance}}}, **more}


# -- bias ------------------------------------------------------------------------------------------------------------------

CLUSTERS, REPLICATIONS = 500, 1_000
OUTCOMES = {
    "logit": truth_of(1.0, 0.6, family="binomial"),
    "probit": truth_of(0.5, 0.4, family="binomial", link="probit"),
    "cloglog": truth_of(0.7, 0.5, family="binomial", link="cloglog"),
    "trials": truth_of(0.5, 0.6, family="binomial", trials=3),
    "counts": truth_of(0.4, 0.4, family="poisson", exposure=1.5),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_quadrature_is_unbiased_with_many_clusters(name: str, tmp_path: Path) -> None:
    """Within 4 MCSEs, coefficients and the variance; Laplace's variance is not, so that the test could tell."""
    methods: list[dict[str, Any]] = [{"name": "quadrature", "nodes": 15}, {"name": "laplace"}]
    found = study(replications=REPLICATIONS, clusters=CLUSTERS, size=4, truth=OUTCOMES[name], methods=methods)
    summary = found.run(out=tmp_path).summary()
    chosen = (summary["measure"] == "bias") & (summary["subset"] == "all")
    off = summary[chosen].assign(z=lambda rows: rows["value"] / rows["mcse"]).set_index(["method", "estimand"])["z"]
    names = ["Intercept", "trt", "var:cluster:Intercept"]
    assert np.abs(off["quadrature"][names]).max() < 4, off["quadrature"]
    assert off["laplace"]["var:cluster:Intercept"] < -4, off["laplace"]


# -- rejection rates under the null ----------------------------------------------------------------------------------------

J, SIZE, INTERCEPT, VARIANCE = 12, 20, math.log(0.3 / 0.7), 0.17
APART = 400


def apart() -> pd.DataFrame:
    """Estimates from clusters' totals drawn by NumPy and fitted by `nl.fit` with 7 nodes, a row a data set."""
    rng, arm = np.random.default_rng(411), np.arange(J) % 2
    rows = []
    for _ in range(APART):
        p = 1 / (1 + np.exp(-INTERCEPT - math.sqrt(VARIANCE) * rng.normal(size=J)))
        k = rng.binomial(SIZE, p)
        frame = pd.DataFrame({"k": k, "n": SIZE, "trt": arm, "cluster": np.arange(J)})
        fit = nl.fit("k ~ trt + (1 | cluster)", frame, family="binomial", trials="n", nodes=7)
        assert fit.status.converged
        variance = float(fit.varcomp["cluster"].item())
        rows.append(
            {"trt": fit.beta["trt"], "se": fit.se["trt"], "Intercept": fit.beta["Intercept"], "variance": variance}
        )
    return pd.DataFrame(rows)


def mean_off(a: Array, b: Array) -> float:
    """How many standard errors the means of two samples are apart."""
    return float((a.mean() - b.mean()) / math.sqrt(a.var() / len(a) + b.var() / len(b)))


def log_sd_off(a: Array, b: Array) -> float:
    """How many standard errors the logarithms of two standard deviations are apart, by the samples' kurtosis."""
    error = math.sqrt(sum((2 + kurtosis(x)) / (4 * len(x)) for x in (a, b)))
    return math.log(a.std() / b.std()) / error


def rate_off(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """How many standard errors two shares are apart, by their common share."""
    share = (a.sum() + b.sum()) / (len(a) + len(b))
    return float((a.mean() - b.mean()) / math.sqrt(share * (1 - share) * (1 / len(a) + 1 / len(b))))


def test_rejections_and_estimates_are_those_of_data_drawn_and_fitted_apart(tmp_path: Path) -> None:
    truth = truth_of(VARIANCE, intercept=INTERCEPT, family="binomial")
    methods: list[dict[str, Any]] = [{"name": "quadrature", "nodes": 7, "df": ["z", "between-within"]}]
    results = study(replications=8_000, clusters=J, size=SIZE, truth=truth, methods=methods).run(out=tmp_path)
    ours, theirs = results.replicates(), apart()
    columns = {
        "trt": "estimate.trt",
        "se": "se.trt",
        "Intercept": "estimate.Intercept",
        "variance": "estimate.var:cluster:Intercept",
    }
    for name, column in columns.items():
        a, b = ours[column].to_numpy(), theirs[name].to_numpy()
        assert abs(mean_off(a, b)) < 4, name
        assert abs(log_sd_off(a, b)) < 4, name
    ratio = [
        (rows[b] / rows[se]).abs().to_numpy()
        for rows, b, se in ((ours, "estimate.trt", "se.trt"), (theirs, "trt", "se"))
    ]
    summary = results.summary()
    power = summary[(summary["measure"] == "power") & (summary["estimand"] == "trt") & (summary["subset"] == "all")]
    for rule, limit in {"z": norm.ppf(0.975), "between-within": t.ppf(0.975, J - 2)}.items():
        told = power.set_index("method")["value"][f"quadrature/{rule}"]
        assert told == pytest.approx((ratio[0] > limit).mean(), abs=1e-12), rule
        assert abs(rate_off(ratio[0] > limit, ratio[1] > limit)) < 4, rule
    z = power.set_index("method")["value"]["quadrature/z"]
    assert z > 0.06, "12 clusters are too few for z, which rejects too often"
