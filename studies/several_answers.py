"""Answers and pictures of the gallery's studies of several grouping factors: crossed, nested and cross-classified."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numbers_of import Numbers
from scipy.stats import nct, t

import nestlab as nl
from nestlab.show.plots import rates_by

# -- the maximal model -----------------------------------------------------------------------------------------------------

ITEM_SLOPE, CONDITION = "truth.random.item.variance.condition", "truth.fixed.condition"
MODELS = {
    "maximal": "maximal",
    "no_correlations": "without correlations",
    "by_tests": "chosen by tests",
    "by_AIC": "chosen by AIC",
    "intercepts": "intercepts only",
}


def crossed_maximal(results: nl.Results) -> str:
    rate = Numbers(results, "power", "condition")
    none, some = {ITEM_SLOPE: 0.0, CONDITION: 0.0}, {ITEM_SLOPE: 0.1, CONDITION: 0.0}
    effect = {ITEM_SLOPE: 0.0, CONDITION: 0.4}
    return f"""Where ten items differ in the effect (variance 0.1), random intercepts alone find one that is not there in
        {rate(**some, method="intercepts")} of the studies, and the maximal model in {rate(**some, method="maximal")}. Where items
        do not differ, the maximal model is conservative: {rate(**none, method="maximal")} false rejections and a power of
        {rate(**effect, method="maximal")} for an effect of 0.4, while the model that tests at level 0.2 choose has
        {rate(**none, method="by_tests")} and {rate(**effect, method="by_tests")}, and where items differ
        {rate(**some, method="by_tests")} false rejections; the AIC {rate(**none, method="by_AIC")},
        {rate(**effect, method="by_AIC")} and {rate(**some, method="by_AIC")}."""


def crossed_maximal_figure(results: nl.Results) -> Figure:
    """Rejections by how much items differ in the effect, a line a model, without an effect and with one."""
    found = measured(results, "power", "condition")
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 2)
    for ax, (effect, title, reference) in zip(axes, ((0.0, "no effect", 0.05), (0.4, "effect 0.4", None)), strict=True):
        rates_by(found[found[CONDITION] == effect], x=ITEM_SLOPE, series=MODELS, reference=reference, ax=ax)
        labelled(ax, title, "variance of the effect over items")
    axes[0].set_ylabel("share of data sets with p < 0.05")
    axes[0].set_ylim(0, None)
    legend(made, axes[0], 5)
    return made


# -- participants and stimuli ----------------------------------------------------------------------------------------------

PARTICIPANTS, STIMULI = "clusters.participant", "clusters.stimulus"


def westfall(results: nl.Results) -> str:
    power = Numbers(results, "power", "condition")
    few, others, many = ({PARTICIPANTS: n, STIMULI: 16, CONDITION: 0.25} for n in (16, 64, 1000))
    both = {PARTICIPANTS: 48, STIMULI: 24, CONDITION: 0.25}
    return f"""For a difference of half an sd and 16 stimuli, power is {power(**few)} with 16 participants, {power(**others)} with
        64, and with 1,000 no more than {power(**many)} (the article's formula gives 0.557, 0.765 and 0.835): the stimuli are a
        sample too. 48 participants with 24 stimuli have {power(**both)} (0.864)."""


def westfall_figure(results: nl.Results) -> Figure:
    """Power over the standardised difference, a line a design."""
    found = measured(results, "power", "condition")
    found = found.assign(
        difference=2 * found[CONDITION],  # the total variance is 1, the code -1 and 1
        method=[f"{p} x {s}" for p, s in zip(found[PARTICIPANTS], found[STIMULI], strict=True)],
    )
    designs = {f"{p} x {s}": f"{p:,} x {s}" for p, s in ((16, 16), (30, 16), (64, 16), (1000, 16), (48, 24))}
    made = Figure(figsize=(6.6, 3.8), layout="constrained")
    ax = made.subplots()
    rates_by(found, x="difference", series=designs, reference=0.8, ax=ax)
    labelled(ax, "", "difference of the conditions in total sds")
    ax.set_ylabel("power")
    ax.set_ylim(0, 1.02)
    made.legend(loc="outside right center", frameon=False, title="participants x stimuli")
    return made


# -- cross-classification --------------------------------------------------------------------------------------------------

SCHOOLS, RATIO = "truth.random.school.variance.Intercept", "truth.errors.variance_ratio.x"
ANALYSES = {
    "model/satterthwaite": "mixed model",
    "OLS_CR2": "OLS, CR2",
    "OLS_CR1S": "OLS, CR1S",
    "no_neighbourhoods": "mixed model without neighbourhoods",
}


def cross_classified(results: nl.Results) -> str:
    by = {name: Numbers(results, "cover", name) for name in ("x", "w", "z")}
    uneven = next(value for value in by["x"].rows[RATIO].unique() if value != 1)
    most, doubtful = {SCHOOLS: 0.25, RATIO: 1.0}, {SCHOOLS: 0.05, RATIO: uneven}

    def cover(term: str, method: str, where: Mapping[str, object] = most) -> str:
        return by[term](**where, method=method)

    return f"""With 20 schools, 95 % intervals of the effect of a school's covariate hold in
        {cover("z", "OLS_CR1S")} of the studies by least squares with two-way robust errors as they are often used (CR1S), in
        {cover("z", "OLS_CR2")} by CR2 with degrees of freedom of its own, and in
        {cover("z", "model/satterthwaite")} by the model; who leaves the neighbourhoods out has
        {cover("w", "no_neighbourhoods")} for theirs. What the model assumes of the errors is its own risk: if their variance
        grows with x, its intervals of x cover in
        {cover("x", "model/satterthwaite", doubtful)}, those of CR2 in {cover("x", "OLS_CR2", doubtful)}."""


def cross_classified_figure(results: nl.Results) -> Figure:
    """Coverage by the schools' variance, a line an analysis; a panel for each covariate, a row for each kind of errors."""
    made = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = made.subplots(2, 3, sharex=True, sharey=True)
    titles = {"x": "x, of pupils", "w": "w, of neighbourhoods", "z": "z, of schools"}
    for column, (term, title) in enumerate(titles.items()):
        found = measured(results, "cover", term)
        for ax, alike in zip(axes[:, column], (True, False), strict=True):
            rates_by(found[(found[RATIO] == 1) == alike], x=SCHOOLS, series=ANALYSES, reference=0.95, ax=ax)
            labelled(ax, title if alike else "", "" if alike else "variance between schools")
            ax.set_xticks([0.05, 0.15, 0.25])
    for ax, errors in zip(axes[:, 0], ("errors of one variance", "errors that vary with x"), strict=True):
        ax.set_ylabel(f"coverage\n{errors}")
    legend(made, axes[0, 0], 4)
    return made


# -- three levels ----------------------------------------------------------------------------------------------------------

NUMBER, ICC, TREAT = "clusters.school", "icc.school", "truth.fixed.treat.d"
TESTS = {
    "REML/satterthwaite": "REML, Satterthwaite",
    "REML/kenward-roger": "REML, Kenward-Roger or between-within",
    "no_classes": "REML without classes",
}


def exact_three_level(schools: int, icc: float, d: float) -> float:
    """The power of the t test of the schools' means: 4 classes of 20, an icc of classes of 0.05, half of the schools treated."""
    variance = icc + 0.05 / 4 + (1 - icc - 0.05) / 80
    shift, df = d * math.sqrt(schools / (4 * variance)), schools - 2
    q = t.ppf(0.975, df)
    return float(nct.sf(q, df, shift) + nct.cdf(-q, df, shift))


def three_level(results: nl.Results) -> str:
    rate = Numbers(results, "power", "treat")
    few, more = ({NUMBER: n, ICC: icc, TREAT: d} for n, icc, d in ((6, 0.02, 0.0), (20, 0.1, 0.5)))
    exact = exact_three_level(20, 0.1, 0.5)
    lost = {NUMBER: 6, ICC: 0.02, TREAT: 0.5}
    return f"""With 20 schools, an icc of 0.1 and an effect of half an sd, power is
        {rate(**more, method="REML/between-within")} by REML with schools - 2 degrees of freedom (the t test of the schools'
        means: exactly {exact:.3f}). With 6 schools and an icc of 0.02 a third of the fits have a variance of 0, and REML is not
        exact: {rate(**few, method="REML/between-within")} false rejections and a power of
        {rate(**lost, method="REML/between-within")} (the t test: 0.05 and {exact_three_level(6, 0.02, 0.5):.3f}), by
        Satterthwaite {rate(**few, method="REML/satterthwaite")} and {rate(**lost, method="REML/satterthwaite")}. Classes that are
        left out cost little here, as the treatment is the schools': {rate(**more, method="no_classes")}."""


def three_level_figure(results: nl.Results) -> Figure:
    """Rejections over the number of schools, a line a test; without an effect, and of half an sd with the exact power."""
    found = measured(results, "power", "treat")
    numbers, iccs = sorted(found[NUMBER].unique()), sorted(found[ICC].unique())
    made = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = made.subplots(2, 3, sharex=True, sharey="row")
    for column, icc in enumerate(iccs):
        for ax, effect in zip(axes[:, column], (0.0, 0.5), strict=True):
            chosen = found[(found[ICC] == icc) & (found[TREAT] == effect)]
            ax.plot(
                numbers, [exact_three_level(n, icc, effect) for n in numbers], color="black", linewidth=0.8,
                label="t test of means, exact",
            )  # fmt: skip
            rates_by(chosen, x=NUMBER, series=TESTS, ax=ax)
            labelled(ax, f"icc of schools {icc:g}" if not effect else "", "schools" if effect else "")
            ax.set_xscale("log")
            ax.set_xticks(numbers, [f"{n}" for n in numbers])
            ax.minorticks_off()
    axes[0, 0].set_ylabel("type I error rate")
    axes[0, 0].set_ylim(0, None)
    axes[1, 0].set_ylabel("power, effect of 0.5 sd")
    legend(made, axes[0, 0], 4)
    return made


# -- a cohort in a stepped wedge -------------------------------------------------------------------------------------------

CLUSTERS, TREATMENT = "clusters.cluster", "truth.fixed.treatment"
SOURCES = {
    "REML/kenward-roger": "all three, Kenward-Roger",
    "REML/satterthwaite": "all three, Satterthwaite",
    "no_cluster_periods": "without clusters' periods",
    "no_persons": "without persons",
}


def cohort_wedge(results: nl.Results) -> str:
    rate = Numbers(results, "power", "treatment")
    none, some = {CLUSTERS: 12, TREATMENT: 0.0}, {CLUSTERS: 12, TREATMENT: 0.3}
    full, more = {CLUSTERS: 24, TREATMENT: 0.0}, {CLUSTERS: 24, TREATMENT: 0.3}
    return f"""A closed cohort has three sources of correlation, and which one is left out decides. With 12 clusters a model
        without the cluster's periods rejects a true null in {rate(**none, method="no_cluster_periods")} of the trials, and 24 do
        not help: {rate(**full, method="no_cluster_periods")}. Without the persons the test is conservative,
        {rate(**none, method="no_persons")}, and power is {rate(**some, method="no_persons")} for an effect of 0.3 in place of
        {rate(**some, method="REML/kenward-roger")}. With all three and Kenward and Roger's df false rejections are
        {rate(**none, method="REML/kenward-roger")}, and 24 clusters have a power of
        {rate(**more, method="REML/kenward-roger")}."""


def cohort_wedge_figure(results: nl.Results) -> Figure:
    """Rejections over clusters, a line a model, without an effect and with one."""
    found = measured(results, "power", "treatment")
    made = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = made.subplots(1, 2)
    for ax, (effect, title, reference) in zip(axes, ((0.0, "no effect", 0.05), (0.3, "effect 0.3", 0.8)), strict=True):
        rates_by(found[found[TREATMENT] == effect], x=CLUSTERS, series=SOURCES, reference=reference, ax=ax)
        labelled(ax, title, "clusters")
        ax.set_xticks(sorted(found[CLUSTERS].unique()))
    axes[0].set_ylabel("share of trials with p < 0.05")
    axes[0].set_ylim(0, None)
    axes[1].set_ylim(0, 1)
    legend(made, axes[0], 4)
    return made


# -- shared ----------------------------------------------------------------------------------------------------------------


def measured(results: nl.Results, measure: str, estimand: str) -> pd.DataFrame:
    """The rows of one measure of an estimand, of all replicates that have a result."""
    found = results.summary()
    return found[(found["measure"] == measure) & (found["estimand"] == estimand) & (found["subset"] == "all")]


def labelled(ax: Axes, title: str, label: str) -> None:
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(label)


def legend(made: Figure, ax: Axes, columns: int) -> None:
    """One legend below all panels."""
    handles, labels = ax.get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
