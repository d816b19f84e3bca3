"""Answers and pictures of the gallery's studies of binary and count outcomes."""

from __future__ import annotations

from matplotlib.figure import Figure
from numbers_of import Numbers
from several_answers import labelled, legend, measured

import nestlab as nl
from nestlab.show.plots import rates_by

# -- a trial with a binary outcome -----------------------------------------------------------------------------------------

ODDS_RATIO = "truth.fixed.trt.odds_ratio"
TESTS = {
    "laplace/z": "Laplace, z",
    "quadrature/z": "7 nodes, z",
    "laplace/between-within": "Laplace, between-within",
    "quadrature/between-within": "7 nodes, between-within",
}


def binary_trial(results: nl.Results) -> str:
    rate, cut = Numbers(results, "power", "trt"), Numbers(results, "singular", "")
    z, t = "quadrature/z", "quadrature/between-within"
    few, next_, many = ({"clusters": n, ODDS_RATIO: 1.0} for n in (8, 12, 50))
    enough = {"clusters": 50, ODDS_RATIO: 1.8}
    return f"""The z tests that software prints reject a true null in {rate(**few, method=z)} of the trials with 8 clusters and
        still in {rate(**many, method=z)} with 50; t tests with clusters - 2 df in {rate(**few, method=t)} with 8, where the
        variance is estimated as 0 in {cut(**few, method=t)}, {rate(**next_, method=t)} with 12 and
        {rate(**many, method=t)} with 50. Between Laplace's approximation and quadrature, {rate(**few, method="laplace/z")}
        and {rate(**few, method=z)} by z, there is nothing to choose in clusters of 20. Power for an odds ratio of 1.8 and 50
        clusters: {rate(**enough, method=t)}."""


def binary_trial_figure(results: nl.Results) -> Figure:
    """Rejections over clusters, a line a test, without an effect and with one."""
    found = measured(results, "power", "trt")
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 2)
    panels = ((1.0, "no effect", 0.05), (1.8, "odds ratio 1.8", 0.8))
    for ax, (effect, title, reference) in zip(axes, panels, strict=True):
        rates_by(found[found[ODDS_RATIO] == effect], x="clusters", series=TESTS, reference=reference, ax=ax)
        labelled(ax, title, "clusters")
        ax.set_xticks(sorted(found["clusters"].unique()))
    axes[0].set_ylabel("share of trials with p < 0.05")
    axes[0].set_ylim(0, None)
    axes[1].set_ylim(0, 1)
    legend(made, axes[0], 4)
    return made


# -- the bias of Laplace's approximation -----------------------------------------------------------------------------------

VARIANCE = "var:cluster:Intercept"
LIKELIHOODS = {"laplace": "Laplace", "quadrature": "quadrature, 15 nodes"}


def laplace_bias(results: nl.Results) -> str:
    variance, effect = Numbers(results, "relbias", VARIANCE), Numbers(results, "relbias", "trt")
    small, middle, large = ({"cluster_size": n, "icc": 0.3} for n in (3, 10, 30))
    return f"""The variance suffers, the coefficient hardly. With an icc of 0.3 the bias of the clusters' variance, in percent, is
        {variance(**small, method="laplace")} by Laplace in clusters of 3, {variance(**middle, method="laplace")} in clusters of
        10 and {variance(**large, method="laplace")} in clusters of 30, by quadrature
        {variance(**small, method="quadrature")}, {variance(**middle, method="quadrature")} and
        {variance(**large, method="quadrature")}. The bias of the log odds ratio in clusters of 3 is
        {effect(**small, method="laplace")} percent by Laplace and {effect(**small, method="quadrature")} by quadrature."""


def laplace_bias_figure(results: nl.Results) -> Figure:
    """Bias over cluster sizes, a line a likelihood; a panel for each icc, a row for the variance and for the coefficient."""
    made = Figure(figsize=(9.0, 5.4), layout="constrained")
    axes = made.subplots(2, 3, sharex=True, sharey="row")
    for row, estimand in zip(axes, (VARIANCE, "trt"), strict=True):
        found = measured(results, "relbias", estimand)
        for ax, icc in zip(row, sorted(found["icc"].unique()), strict=True):
            rates_by(found[found["icc"] == icc], x="cluster_size", series=LIKELIHOODS, reference=0, ax=ax)
            last = estimand == "trt"
            labelled(ax, "" if last else f"icc {icc:g}", "rows of a cluster" if last else "")
            ax.set_xticks(sorted(found["cluster_size"].unique()))
    axes[0, 0].set_ylabel("bias of the variance, %")
    axes[1, 0].set_ylabel("bias of the log odds ratio, %")
    axes[1, 0].set_ylim(-6, 6)
    legend(made, axes[0, 0], 2)
    return made


# -- rare events -----------------------------------------------------------------------------------------------------------

BASELINE = "truth.baseline"


def rare_events(results: nl.Results) -> str:
    failed, power, bias = (
        Numbers(results, "failed", ""),
        Numbers(results, "power", "trt"),
        Numbers(results, "bias", "trt"),
    )
    worst, enough = {"clusters": 10, BASELINE: 0.02}, {"clusters": 20, BASELINE: 0.2}
    row = power.row(**worst)
    return f"""With 10 clusters of 20 and 2 % of events among controls, {failed(**worst)} of the data sets are separated: an arm
        has no event, and the log odds ratio runs to infinity. Power lies between {row["bound_lower"]:.3f}, if none of these
        counts as significant, and {row["bound_upper"]:.3f}, if all do, a width that no more replications narrow. The data sets
        that are left are no fair sample: the log odds ratio, -0.916 in truth, has a bias of {bias(**worst)} in them, and its
        test rejects in {power(**worst)}. With 20 clusters and 20 % of events {failed(**enough)} are separated, and power is
        {power(**enough)}."""


def rare_events_figure(results: nl.Results) -> Figure:
    """The share of separated data sets, and power with its bounds, over the probability of an event."""
    failed, power = measured(results, "failed", ""), measured(results, "power", "trt")
    numbers = sorted(failed["clusters"].unique())
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 2, sharex=True, sharey=True)
    names = {f"{n}": f"{n} clusters" for n in numbers}
    for ax, found in zip(axes, (failed, power), strict=True):
        rates_by(found.assign(method=found["clusters"].astype(str)), x=BASELINE, series=names, ax=ax)
        ax.set_xticks(sorted(found[BASELINE].unique()))
    for line, number in zip(axes[1].get_lines()[: len(numbers)], numbers, strict=True):
        rows = power[power["clusters"] == number].sort_values(BASELINE)
        axes[1].fill_between(
            rows[BASELINE], rows["bound_lower"], rows["bound_upper"], color=line.get_color(), alpha=0.2
        )
    labelled(axes[0], "separated data sets", "probability of an event among controls")
    labelled(axes[1], "power; shaded: its bounds", "probability of an event among controls")
    axes[0].set_ylabel("share of data sets")
    axes[0].set_ylim(0, 1)
    legend(made, axes[0], len(numbers))
    return made


# -- counts ----------------------------------------------------------------------------------------------------------------

EXPOSURE, RATE_RATIO = "truth.exposure", "truth.fixed.trt.rate_ratio"


def counts(results: nl.Results) -> str:
    power, variance = Numbers(results, "power", "trt"), Numbers(results, "relbias", "var:clinic:Intercept")
    short, long = ({"clusters": 20, EXPOSURE: years, RATE_RATIO: 0.7} for years in (1.0, 8.0))
    more = {"clusters": 40, EXPOSURE: 2.0, RATE_RATIO: 0.7}
    few = {"clusters": 10, EXPOSURE: 8.0, RATE_RATIO: 1.0}
    return f"""With 20 clinics power for a rate ratio of 0.7 rises from {power(**short)} to {power(**long)} when patients are
        observed for eight years in place of one; with 40 clinics it is {power(**more)} after two. Years bring events, but
        clinics differ in their rates however long one looks. The t test with clinics - 2 df rejects a true null in
        {power(**few)} of the trials with 10 clinics and eight years, as the bias of their variance by maximum likelihood is
        {variance(**few)} percent."""


def counts_figure(results: nl.Results) -> Figure:
    """Rejections over the years of observation, a line a number of clinics; with an effect and without one."""
    found = measured(results, "power", "trt")
    found = found.assign(method=found["clusters"].astype(str))
    names = {f"{n}": f"{n} clinics" for n in sorted(found["clusters"].unique())}
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 2)
    panels = ((1.0, "no effect", 0.05), (0.7, "rate ratio 0.7", 0.8))
    for ax, (ratio, title, reference) in zip(axes, panels, strict=True):
        rates_by(found[found[RATE_RATIO] == ratio], x=EXPOSURE, series=names, reference=reference, ax=ax)
        labelled(ax, title, "years of observation")
        ax.set_xscale("log")
        ax.set_xticks(years := sorted(found[EXPOSURE].unique()), [f"{year:g}" for year in years])
        ax.minorticks_off()
    axes[0].set_ylabel("share of trials with p < 0.05")
    axes[0].set_ylim(0, None)
    axes[1].set_ylim(0, 1)
    legend(made, axes[0], len(names))
    return made
