"""Questions, each with its study, its picture and an answer in two sentences: the page studies/README.md.

Every number of an answer is read from the results of its study; studies that are not stored yet are run first.

run: python studies/gallery.py   (results/ must be writable; about six minutes on two cores,
four of them for binary outcomes and counts)
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import data_answers
import df_methods_figure
import outcome_answers
import powerup
import published_table
import several_answers
from matplotlib.figure import Figure
from numbers_of import Numbers, shown

import nestlab as nl
from nestlab.show.answer import sentence
from nestlab.show.plots import draw, rates_by, save
from nestlab.show.summary import value_with_mcse

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """question; study: its file's name without .toml; figure, answer: what is made of its results; after: more commands.

    picture: the figure's file.
    """

    question: str
    study: str
    figure: Callable[[nl.Results], Figure]
    answer: Callable[[nl.Results], str]
    picture: str
    after: tuple[str, ...] = ()

    @property
    def commands(self) -> list[str]:
        return [f"nestlab run studies/{self.study}.toml", *self.after]


def how_many(results: nl.Results) -> str:
    power = Numbers(results, "power", "arm")
    rows = power.rows.sort_values("clusters")
    most = rows["clusters"].max()
    parts = []
    for icc in sorted(rows["icc"].unique()):
        enough = rows[(rows["icc"] == icc) & (rows["value"] >= 0.8)]
        if enough.empty:
            parts.append(f"more than {most} at {icc:g} (power with {most}: {power(icc=icc, clusters=most)})")
        else:
            parts.append(f"{enough['clusters'].iloc[0]} at {icc:g} (power {shown(enough.iloc[0])})")
    first, last = rows["icc"].min(), rows["icc"].max()
    return f"""Schools for a power of 0.8 and an effect of 0.4 residual standard deviations, of the numbers tried, by the icc:
        {", ".join(parts)}. What is assumed of the icc decides: with 30 schools, power is {power(icc=first, clusters=30)} at
        {first:g} and {power(icc=last, clusters=30)} at {last:g}."""


def reml_bias(results: nl.Results) -> str:
    bias, cut = Numbers(results, "relbias", "var:school:Intercept"), Numbers(results, "singular", "")
    high, low = {"clusters": 8, "icc": 0.3}, {"clusters": 8, "icc": 0.05}
    cut_low, cut_high = cut(**low, method="REML"), cut(**high, method="REML")
    return f"""With 8 schools of 10 pupils the bias of their variance, in percent of the truth, is {bias(**high, method="REML")}
        by REML and {bias(**high, method="ML")} by ML at an icc of 0.3, and {bias(**low, method="REML")} and
        {bias(**low, method="ML")} at 0.05. Without its boundary REML would be unbiased here; but where the unrestricted estimate
        is negative, in {cut_low} of the data sets at 0.05 and {cut_high} at 0.3, it is 0."""


def ignored(results: nl.Results) -> str:
    rate = Numbers(results, "power", "x")
    few, many = rate.rows["cluster_size"].min(), rate.rows["cluster_size"].max()
    least, most = ({"cluster_size": size} for size in (few, many))
    return f"""The test of x rejects a true null in {rate(**least, method="slope_ignored")} of the data sets with {few} pupils a
        school and in {rate(**most, method="slope_ignored")} with {many}: more pupils make it worse, for each is taken for
        independent information on x. With the slope in the model the rates are {rate(**least, method="slope_kept")} and
        {rate(**most, method="slope_kept")}."""


def degrees(results: nl.Results) -> str:
    rate, uneven = Numbers(results, "power", "z"), Numbers(results, "power", "z")
    rate.rows = rate.rows[rate.rows["cluster_size"] == "20"]
    uneven.rows = uneven.rows[uneven.rows["cluster_size"] != "20"]
    z, satterthwaite, kenward_roger = (f"reml/{rule}" for rule in ("z", "satterthwaite", "kenward-roger"))
    return f"""With 6 clusters of 20 rows and a level of 0.05, a predictor that varies between clusters and has no effect is
        significant in {rate(clusters=6, method=z)} of the data sets by z, in {rate(clusters=6, method=satterthwaite)} by
        Satterthwaite's df and in {rate(clusters=6, method=kenward_roger)} by Kenward and Roger's; 50 clusters bring z to
        {rate(clusters=50, method=z)}. If three of the 6 have 4 rows and three 36, Satterthwaite's test rejects in
        {uneven(clusters=6, method=satterthwaite)} and Kenward and Roger's in {uneven(clusters=6, method=kenward_roger)}."""


def icc_unsure(results: nl.Results) -> str:
    power, least, most = (Numbers(results, measure, "arm") for measure in ("power", "power_q10", "power_q90"))
    roughly, hardly = ({"clusters": 40, "icc": f"beta(0.1, {sd})"} for sd in ("0.03", "0.08"))
    return f"""With 40 schools and an icc of 0.1, power is {power(clusters=40, icc="0.1")}; if 0.1 is only the mean of what the
        icc may be, the mean power hardly tells: {power(**roughly)} with an sd of 0.03, {power(**hardly)} with one of 0.08. But
        then a tenth of what the icc may be has a power below {least(**roughly)}, or below {least(**hardly)}, and another tenth
        one above {most(**roughly)}, or above {most(**hardly)}."""


def icc_figure(results: nl.Results) -> Figure:
    """Power at a known icc, the mean over an uncertain one, and what a tenth of it stays below."""
    lines = {
        ("0.1", "power"): "icc 0.1",
        ("beta(0.1, 0.03)", "power"): "mean 0.1, sd 0.03",
        ("beta(0.1, 0.08)", "power"): "mean 0.1, sd 0.08",
        ("beta(0.1, 0.03)", "power_q10"): "sd 0.03: lowest tenth",
        ("beta(0.1, 0.08)", "power_q10"): "sd 0.08: lowest tenth",
    }
    found = results.summary()
    found = found[(found["estimand"] == "arm") & (found["subset"] == "all")]
    found = found.assign(method=[lines.get(key) for key in zip(found["icc"], found["measure"], strict=True)])
    made = Figure(figsize=(7.6, 3.8), layout="constrained")
    ax = made.subplots()
    rates_by(found, x="clusters", series={name: name for name in lines.values()}, reference=0.8, ax=ax)
    ax.set_ylabel("power")
    ax.set_ylim(0, 1)
    ax.set_xticks(sorted(found["clusters"].unique()))
    made.legend(loc="outside right center", frameon=False)
    return made


def pilot(results: nl.Results) -> str:
    power, effect = Numbers(results, "power", "arm"), "truth.fixed.arm"
    power.rows = power.rows[power.rows["method"] == "reml/satterthwaite"]
    uncertain = next(level for level in power.rows[effect].unique() if level.startswith("pilot"))
    averaged, taken = ([power(clusters=n, **{effect: level}) for n in (40, 80)] for level in (uncertain, "0.42"))
    return f"""A pilot's effect of 0.42 with a standard error of 0.16 leaves open what the effect is. Taken as the truth it
        promises a power of {taken[0]} with 40 schools and {taken[1]} with 80; averaged over what the pilot leaves open, power is
        {averaged[0]} and {averaged[1]}."""


def published(results: nl.Results) -> str:
    found = published_table.averages(published_table.noncoverage(results.summary()))
    name, rates = published_table.PUBLISHED["var:group:Intercept"]
    parts = []
    for groups, rate in zip(published_table.GROUPS, rates, strict=True):
        row = found.loc[(groups, "var:group:Intercept")]
        parts.append(f"{value_with_mcse(row['noncoverage'], row['mcse'])} with {groups} groups (published: {rate:.3f})")
    cover = Numbers(results, "cover", "var:group:Intercept")
    small = cover(clusters=30, cluster_size=5, icc=0.1, method="independent")
    return f"""Intervals of 95 % miss the {name} too often, mean of nine designs: {", ".join(parts)}; all figures stand in the
        [README](../README.md). What stands out in the picture, coverage {small} with 30 groups of 5 rows at an icc of 0.1, is the
        boundary: nestlab's variances are 0 or more, the article's could be negative, and it reports more misses."""


def exact(results: nl.Results) -> str:
    power = Numbers(results, "power", "arm")
    parts = []
    for clusters in (6, 30):
        for rule, name in {"z": "z", "between-within": f"t with {clusters - 2} df"}.items():
            truth = published_table.exact_power(clusters=clusters, size=20, icc=0.05, effect=0.5, test=rule)
            parts.append(
                f"{power(clusters=clusters, method=f'reml/{rule}')} by {name}, {clusters} clusters (exactly {truth:.4f})"
            )
    level = published_table.exact_power(clusters=6, size=20, icc=0.05, effect=0.0, test="z")
    return f"""It is, where it can be computed without simulation: {", ".join(parts)}. What z seems to gain with 6 clusters is
        paid for: where there is no effect it rejects in {level:.4f} of the data sets (exactly), not in 0.05."""


def line(kind: str, **asked: str) -> Callable[[nl.Results], Figure]:
    return lambda results: draw(results, kind, **asked)


SECTIONS = (
    Section(
        "How many schools?",
        "how_many_schools",
        line("power", x="clusters", color="icc", estimand="arm"),
        how_many,
        "how_many_schools.svg",
    ),
    Section(
        "Is REML biased at 8 clusters?",
        "reml_small",
        line("measure", measure="relbias", x="clusters", color="method", facet="icc", estimand="var:school:Intercept"),
        reml_bias,
        "reml_small.svg",
    ),
    Section(
        "What if I ignore the slope?",
        "ignored_slope",
        line("power", x="cluster_size", color="method", estimand="x"),
        ignored,
        "ignored_slope.svg",
    ),
    Section("How sure must I be of the icc?", "icc_unsure", icc_figure, icc_unsure, "icc_unsure.svg"),
    Section(
        "Is a pilot's estimate enough?",
        "assurance",
        line("power", x="clusters", color="truth.fixed.arm", estimand="arm", method="reml/satterthwaite"),
        pilot,
        "assurance.svg",
    ),
    Section("Which degrees of freedom?", "df_methods", df_methods_figure.figure, degrees, "df_methods.svg"),
    Section(
        "How should a cluster-randomised trial be analysed?",
        "cluster_trial",
        data_answers.type_one_figure,
        data_answers.cluster_trial,
        "cluster_trial.svg",
        ("nestlab compare results/cluster_trial --reference mixed --estimand treatment --measure power,cover",),
    ),
    Section(
        "What does a trial with a pretest, unequal schools and attrition need?",
        "school_trial",
        powerup.figure,
        powerup.school_trial,
        "school_trial.svg",
        ("nestlab solve studies/school_trial.toml --power 0.8 --estimand treatment --over clusters",),
    ),
    Section(
        "What power has a stepped wedge?",
        "stepped_wedge",
        line("power", x="clusters", color="method", facet="truth.fixed.treatment", estimand="treatment"),
        data_answers.stepped_wedge,
        "stepped_wedge.svg",
    ),
    Section(
        "What if nothing is normal?",
        "nonnormal",
        data_answers.shapes_figure,
        data_answers.nonnormal,
        "nonnormal.svg",
    ),
    Section(
        "What if those who do badly drop out?",
        "dropout",
        line("bias", x="missing.at_random.slope", color="method", estimand="time"),
        data_answers.dropout,
        "dropout.svg",
    ),
    Section(
        "May the data choose the random part?",
        "selection",
        line("power", x="truth.random.school.variance.x", color="method", facet="clusters", estimand="x"),
        data_answers.selection,
        "selection.svg",
    ),
    Section(
        "Must a model of subjects and items be maximal?",
        "crossed_maximal",
        several_answers.crossed_maximal_figure,
        several_answers.crossed_maximal,
        "crossed_maximal.svg",
    ),
    Section(
        "Do more participants make up for few stimuli? (Westfall, Kenny and Judd 2014)",
        "westfall_2014",
        several_answers.westfall_figure,
        several_answers.westfall,
        "westfall_2014.svg",
    ),
    Section(
        "A model or robust errors, where pupils are of schools and of neighbourhoods? (Lee and Pustejovsky 2023)",
        "cross_classified",
        several_answers.cross_classified_figure,
        several_answers.cross_classified,
        "cross_classified.svg",
    ),
    Section(
        "What power has a three-level trial with treated schools?",
        "three_level_trial",
        several_answers.three_level_figure,
        several_answers.three_level,
        "three_level_trial.svg",
    ),
    Section(
        "What if a stepped wedge follows the same people?",
        "cohort_wedge",
        several_answers.cohort_wedge_figure,
        several_answers.cohort_wedge,
        "cohort_wedge.svg",
    ),
    Section(
        "Which test has its level in a trial with a binary outcome?",
        "binary_trial",
        outcome_answers.binary_trial_figure,
        outcome_answers.binary_trial,
        "binary_trial.svg",
    ),
    Section(
        "When is Laplace's approximation too rough?",
        "laplace_bias",
        outcome_answers.laplace_bias_figure,
        outcome_answers.laplace_bias,
        "laplace_bias.svg",
    ),
    Section(
        "What if events are rare?",
        "rare_events",
        outcome_answers.rare_events_figure,
        outcome_answers.rare_events,
        "rare_events.svg",
    ),
    Section(
        "More clinics, or longer observation, where events are counted?",
        "counts",
        outcome_answers.counts_figure,
        outcome_answers.counts,
        "counts.svg",
    ),
    Section(
        "Do Wald intervals of variances hold? (Maas and Hox 2005)",
        "maas_hox_2005",
        line(
            "coverage",
            x="clusters",
            color="icc",
            facet="cluster_size",
            estimand="var:group:Intercept",
            method="independent",
        ),
        published,
        "maas_hox_2005.svg",
        ("python studies/published_table.py --numbers",),
    ),
    Section(
        "Is simulated power right?",
        "two_arm_trial",
        line("power", x="clusters", color="method", estimand="arm"),
        exact,
        "two_arm_trial.svg",
        ("python studies/published_table.py --numbers",),
    ),
)


SOLVE = "Which is the smallest, and which the cheapest, trial of 80 % power?"
COST = "300*clusters + 20*clusters*cluster_size"


def solve_section(folder: Path, results: Path) -> list[str]:
    """The designs themselves, searched for: by schools at each icc, then by schools and pupils at the least cost."""
    study = nl.Study.from_toml(HERE / "how_many_schools.toml")
    tables = study.file.to_dict()
    del tables["grid"]  # the file's own icc, 0.1 / 1.1
    plan = nl.Study.from_dict({**tables, "design": {**tables["design"], "clusters": 30}, "name": "cheapest"})
    by_schools = study.solve(over="clusters", power=0.8, estimand="arm", out=results / "solve_schools")
    cheapest = plan.solve(
        over=["clusters", "cluster_size"], power=0.8, estimand="arm", cost=COST, out=results / "solve_cost"
    )
    save(draw(nl.Results(results / "solve_schools"), "solve"), folder / "solve.svg")
    command = "nestlab solve studies/how_many_schools.toml --power 0.8 --estimand arm --over clusters"
    lines = [
        f"## {SOLVE}",
        "",
        f"[how_many_schools.toml](how_many_schools.toml), {by_schools.replications:,} replications in all:",
        "",
    ]
    lines += ["```sh", command, "```", "", f"![{SOLVE}](solve.svg)", ""]
    lines += [filled(f"- {sentence(by_schools.question, solution)}") for solution in by_schools.solutions]
    words = f"""With `--over cluster_size --cost "{COST}"` besides, and one icc of 0.09, {cheapest.replications:,} replications:
        {sentence(cheapest.question, cheapest.solutions[0])}"""
    return [*lines, "", filled(words), ""]


def written(section: Section, results: nl.Results) -> list[str]:
    """A section of the page."""
    file = f"{section.study}.toml"
    lines = [f"## {section.question}", "", f"[{file}]({file}), {results.replications:,} replications a design:", ""]
    lines += ["```sh", *section.commands, "```", "", f"![{section.question}]({section.picture})", ""]
    lines += [filled(section.answer(results)), ""]
    return lines


def filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 138, break_long_words=False, break_on_hyphens=False)


def make(folder: Path, *, results: Path, replications: int | None = None) -> Path:
    """Run what is missing, draw the pictures and write the page into `folder`; results are kept in a folder of their own.

    replications: of every study, instead of its own number.
    """
    intro = """Questions that people ask before they collect nested data, each with a study, its picture and an answer. Numbers in
        brackets are Monte Carlo standard errors; pictures show limits of about 95 %. `python studies/gallery.py` makes this
        page."""
    lines = ["# A gallery of studies", "", filled(intro), ""]
    for section in SECTIONS:
        study = nl.Study.from_toml(HERE / f"{section.study}.toml")
        found = study.run(out=results / section.study, replications=replications)
        save(section.figure(found), folder / section.picture)
        lines += written(section, found)
    lines += solve_section(folder, results)
    lines += ["## The others", "", *others(), ""]
    page = folder / "README.md"
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def others() -> list[str]:
    """The studies without a section, each by its title."""
    told = {section.study for section in SECTIONS}
    files = [path for path in sorted(HERE.glob("*.toml")) if path.stem not in told]
    return [f"- [{path.name}]({path.name}): {nl.Study.from_toml(path).file.title}" for path in files]


if __name__ == "__main__":
    make(HERE, results=Path("results"))
