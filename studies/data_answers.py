"""Answers and pictures of the gallery's studies of data as they are: sizes, shapes, dropout, and the analyses people compare."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from numbers_of import Numbers
from scipy.stats import norm

import nestlab as nl
from nestlab.show.plots import rates_by

EFFECT = "truth.fixed.treatment"


def cluster_trial(results: nl.Results) -> str:
    rate = Numbers(results, "power", "treatment")
    at = {"clusters": 10, "icc": 0.2, EFFECT: 0.0}
    many = {"clusters": 30, "icc": 0.05, EFFECT: 0.4}
    return f"""With 10 clusters of about 20 people, unequal and skewed, an icc of 0.2 and no effect, least squares that ignores
        the clusters rejects in {rate(**at, method="ols")} of the trials; the mixed model in {rate(**at, method="mixed")}, robust
        standard errors (CR2) in {rate(**at, method="ols_cr2")}, a t test of the cluster means in
        {rate(**at, method="cluster_means")}. Among those that hold their level the choice matters less: with 30 clusters, an icc
        of 0.05 and an effect of 0.4, power is {rate(**many, method="mixed")}, {rate(**many, method="ols_cr2")} and
        {rate(**many, method="cluster_means")}."""


def type_one_figure(results: nl.Results) -> Figure:
    """Type I error by icc, a line an analysis, few clusters and many."""
    found = results.summary()
    found = found[(found["estimand"] == "treatment") & (found["subset"] == "all") & (found["measure"] == "power")]
    found = found[found[EFFECT] == 0]
    names = {
        "ols": "OLS, clusters ignored",
        "ols_cr2": "OLS, CR2",
        "cluster_means": "cluster means",
        "mixed": "mixed model",
    }
    made = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = made.subplots(1, 2, sharey=True)
    for ax, clusters in zip(axes, sorted(found["clusters"].unique()), strict=True):
        rates_by(found[found["clusters"] == clusters], x="icc", series=names, reference=0.05, ax=ax)
        ax.set_title(f"{clusters} clusters", loc="left")
        ax.set_xticks(sorted(found["icc"].unique()))
    axes[0].set_ylabel("type I error rate")
    axes[0].set_ylim(0, None)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return made


def hussey_hughes(clusters: int, *, periods: int, rows: int, between: float, within: float, effect: float) -> float:
    """Power of the z test in a stepped wedge, an equal number of clusters a step (Hussey and Hughes 2007, eq. 8)."""
    steps = periods - 1
    treated = [[int(period > step) for period in range(periods)] for step in range(steps)] * (clusters // steps)
    s2, T = within / rows, periods
    U = sum(map(sum, treated))
    W = sum(sum(row[t] for row in treated) ** 2 for t in range(T))
    V = sum(sum(row) ** 2 for row in treated)
    information = (clusters * U - W) * s2 + (U**2 + clusters * T * U - T * W - clusters * V) * between
    z = effect / math.sqrt(clusters * s2 * (s2 + T * between) / information)
    return float(norm.cdf(z - norm.ppf(0.975)) + norm.cdf(-z - norm.ppf(0.975)))


def stepped_wedge(results: nl.Results) -> str:
    power, bias = Numbers(results, "power", "treatment"), Numbers(results, "bias", "treatment")
    parts = []
    for clusters in (8, 12, 24):
        exact = hussey_hughes(clusters, periods=5, rows=10, between=0.1, within=1.0, effect=0.25)
        known = power(**{"clusters": clusters, EFFECT: 0.25, "method": "known"})
        parts.append(f"{known} with {clusters} clusters (exactly {exact:.4f})")
    few = {"clusters": 8, EFFECT: 0.0}
    return f"""For an effect of 0.25, the z test with known variances has the power of Hussey and Hughes' formula:
        {", ".join(parts)}. REML with Satterthwaite's df, which has to estimate the variances, rejects a true null in
        {power(**few, method="reml")} of the trials with 8 clusters. Who leaves the periods out takes the change over time for an
        effect of the treatment: bias {bias(**few, method="no_periods")}, false rejections {power(**few, method="no_periods")}."""


SHAPES = {
    "normal": "normal",
    "t": "t, 5 df",
    "gamma": "gamma, skewness 2",
    "contaminated": "5 % outliers, 5 times the sd",
}
ERRORS = "truth.errors.distribution"


def nonnormal(results: nl.Results) -> str:
    rate = Numbers(results, "power", "z")
    cover, residual = Numbers(results, "cover", "var:school:Intercept"), Numbers(results, "cover", "var:residual")

    def by_shape(numbers: Numbers, clusters: int) -> str:
        return ", ".join(f"{numbers(**{'clusters': clusters, ERRORS: shape})} ({SHAPES[shape]})" for shape in SHAPES)

    return f"""Tests of effects hardly mind: with 20 schools, a school-level predictor without an effect is significant in
        {by_shape(rate, 20)} of the studies. Intervals of variances do, and more schools do not help: with 100, the 95 % profile
        interval of the schools' variance covers in {by_shape(cover, 100)}, that of the residual variance in
        {by_shape(residual, 100)}."""


def shapes_figure(results: nl.Results) -> Figure:
    """Coverage of the intervals of both variances and of the effect of x, a line a shape."""
    found = results.summary()
    found = found[(found["measure"] == "cover") & (found["subset"] == "all")]
    found = found.assign(method=found[ERRORS].map(SHAPES))
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 3, sharey=True)
    titles = {"x": "x", "var:school:Intercept": "variance between schools", "var:residual": "residual variance"}
    for ax, (estimand, title) in zip(axes, titles.items(), strict=True):
        rows = found[found["estimand"] == estimand]
        rates_by(rows, x="clusters", series={name: name for name in SHAPES.values()}, reference=0.95, ax=ax)
        ax.set_title(title, loc="left")
        ax.set_xticks(sorted(found["clusters"].unique()))
    axes[0].set_ylabel("coverage of 95 % intervals")
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return made


def dropout(results: nl.Results) -> str:
    bias, cover = Numbers(results, "bias", "time"), Numbers(results, "cover", "time")
    slope = "missing.at_random.slope"
    most = {slope: -1.0}
    return f"""Nobody changes on average, but the better a patient did at a visit, the likelier is the next one. Least squares on
        the visits that took place, with standard errors robust to clustering, then finds an improvement of
        {bias(**most, method="independence")} a visit, and its intervals cover the truth in
        {cover(**most, method="independence")} of the studies; a random intercept alone leaves
        {bias(**most, method="intercept_only")}. The mixed model with the right random part uses what each patient was like
        before: {bias(**most, method="mixed")}, coverage {cover(**most, method="mixed")}; what is left of its bias goes with more
        patients."""


def selection(results: nl.Results) -> str:
    rate = Numbers(results, "power", "x")
    at = {"clusters": 10, "truth.random.school.variance.x": 0.1}
    return f"""With 10 schools and a slope variance of 0.1, the test of x rejects a true null in
        {rate(**at, method="maximal")} of the studies if the random slope is always kept, in {rate(**at, method="lrt")} if it is
        kept only where its likelihood ratio test rejects, in {rate(**at, method="aic")} if AIC decides, and in
        {rate(**at, method="intercept")} if it is never kept. A test that is seldom significant is no licence to leave the
        slope out."""
