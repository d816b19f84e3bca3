"""The study file of a pilot: each estimate with its standard error and interval beside it, and what it has not of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..spec.covariance import find_pair, not_semidefinite
from ..spec.problems import StudyError
from .from_fit import Estimate, Pilot
from .study_text import entry, header, limits, number, remark, resolved, table

__all__ = ["pilot_text"]

#: Digits tried for correlations: rounding must not leave them without a covariance matrix.
_DIGITS = (6, 12, 17)
#: The distribution of a variance with fewer df has no variance, and that of an effect or a variance with no more than these none
#: that a prior may have.
_HEAVY_TAIL = 4
_LEAST_DF = 2


def pilot_text(
    pilot: Pilot, *, name: str, file: str, seed: int, replications: int, uncertain: bool = False,
    clusters: Sequence[int] = (), cluster_size: Sequence[int] = (), estimand: str = "",
) -> str:  # fmt: skip
    """The text of the study file.

    file: what it will be called. uncertain: the estimates' uncertainty as priors, not the estimates alone. clusters,
    cluster_size: designs instead of the pilot's own. estimand: what the study is about, left out if empty.
    """
    return "\n".join(
        [
            *_head(pilot, file, uncertain),
            entry("name", name),
            entry("title", f"{pilot.source}, {pilot.written}"),
            entry("seed", seed),
            entry("replications", replications, "of each design"),
            *([entry("estimand", estimand, "the effect that is shown where no other is named")] if estimand else []),
            *_design(pilot, clusters, cluster_size),
            *_truth(pilot, uncertain),
            *_predictors(pilot),
            table("[[method]]", [entry("name", "reml"), entry("df", "satterthwaite")], "how each data set is analysed"),
            "",
        ]
    )


def _head(pilot: Pilot, file: str, uncertain: bool) -> list[str]:
    group = pilot.formula.group
    dropped = f", {pilot.dropped:,} rows left out for missing values" if pilot.dropped else ""
    lines = [
        f"A pilot as a study: {pilot.written}, fitted by REML to {pilot.source} ({pilot.rows:,} rows, {len(pilot.sizes):,} "
        f"clusters ({group}){dropped}).",
        "The truth is as uncertain as the estimates: every replication draws its own, from the priors that stand for "
        "numbers here."
        if uncertain
        else "The estimates stand here as if they were the truth, which they are not: look at their intervals, and try other "
        "values that lie in them.",
        "95 %: profile intervals, as nestlab fit --confint prints them (there of standard deviations, here of variances).",
    ]
    renamed = [f'{new} is "{old}" in the data' for new, old in pilot.names.items()]
    if renamed:
        lines.append(f"Names: {', '.join(renamed)}.")
    return [*map(remark, lines), "#", f"#     nestlab run {file}"]


def _design(pilot: Pilot, clusters: Sequence[int], cluster_size: Sequence[int]) -> list[str]:
    group, sizes = pilot.formula.group, pilot.sizes
    mean = max(1, round(pilot.rows / len(sizes)))
    equal = len(set(sizes)) == 1
    own = sizes[0] if equal else mean if clusters else list(sizes)
    what = f"rows of each {group}, as in the data" if equal or not clusters else "the mean of the data's, which differ"
    lines, grid = [], []
    for key, wanted, value, comment in (
        ("clusters", clusters, len(sizes), f"number of clusters ({group}), as in the data"),
        ("cluster_size", cluster_size, own, what),
    ):
        if len(wanted) > 1:
            grid.append(entry(key, list(wanted)))
        elif wanted:
            lines.append(entry(key, wanted[0]))
        else:
            lines.append(entry(key, value, comment))
    made = [table("design", lines)] if lines else []
    if grid:
        return [*made, table("grid", grid, "every combination is a design")]
    if clusters:
        return made
    more = [len(sizes), 2 * len(sizes), 4 * len(sizes)]
    hint = (
        []
        if equal or cluster_size
        else [f"# with cluster_size = {mean} above, the mean: a list fits one number of clusters"]
    )
    return [
        *made,
        table("# [grid]", [*hint, f"# clusters = {more}"], "designs to compare: remove the # of these lines"),
    ]


def _truth(pilot: Pilot, uncertain: bool) -> list[str]:
    residual, group = pilot.residual, pilot.formula.group
    parts = [
        table(
            "truth",
            [
                entry("formula", pilot.formula.text),
                entry("residual_variance", _variance(residual, uncertain), _beside(residual, uncertain)),
                *_variance_remarks(residual, uncertain),
            ],
            "the model that makes the data",
        ),
    ]
    lines: list[str] = []
    for term, found in pilot.fixed.items():
        lines += [entry(term, _effect(found, uncertain), _beside(found, uncertain)), *_effect_remarks(found, uncertain)]
    parts.append(table("truth.fixed", lines))
    lines = []
    for column, found in pilot.variances.items():
        lines += _random_variance(pilot, column, found, uncertain)
    what = "variances between clusters: of the intercept" + (", of slopes" if len(pilot.variances) > 1 else "")
    parts.append(table(header("truth", "random", group, "variance"), lines, what))
    if pilot.singular:
        parts.insert(2, "\n" + remark(_singular(pilot)))
    return parts + _correlations(pilot)


def _singular(pilot: Pilot) -> str:
    zero = [column for column, found in pilot.variances.items() if found.value == 0]
    edge = [f"{a}:{b}" for (a, b), found in pilot.correlations.items() if 1 - abs(found.value) < 1e-6]
    what = [f"the variance of {_and(zero)} is estimated 0"] * bool(zero)
    what += [f"the correlation {_and(edge)} is estimated -1 or 1"] * bool(edge)
    found = " and ".join(what) or "the random effects have a covariance matrix without full rank"
    return (
        f"The fit of the pilot is singular: {found}. That is no evidence that it is so: the data are too few to tell. Plan with "
        "a value further inside its interval as well."
    )


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def _random_variance(pilot: Pilot, column: str, found: Estimate, uncertain: bool) -> list[str]:
    if found.value > 0:
        return [
            entry(column, _variance(found, uncertain), _beside(found, uncertain)),
            *_variance_remarks(found, uncertain),
        ]
    upper = number(found.upper, 3) if math.isfinite(found.upper) and found.upper > 0 else None
    if upper is None:
        return [entry(column, 0, "the pilot's estimate; not evidence of no variance")]
    if uncertain:
        prior = {"distribution": "uniform", "low": 0, "high": upper}
        return [entry(column, prior, "estimated 0, which has no sampling distribution: 0 to the 95 % limit")]
    return [entry(column, 0, f"not evidence of no variance: {upper} is its 95 % limit; try {column} = {upper} too")]


def _correlations(pilot: Pilot) -> list[str]:
    if not pilot.correlations:
        return []
    group, formula = pilot.formula.group, pilot.formula
    flat = {f"truth.random.{group}.variance.{c}": max(v.value, 0.0) for c, v in pilot.variances.items()}
    for digits in _DIGITS:
        rounded = {pair: number(r.value, digits) for pair, r in pilot.correlations.items()}
        flat |= {f"truth.random.{group}.correlation.{a}:{b}": r for (a, b), r in rounded.items()}
        if not_semidefinite(formula, flat) is None:
            break
    lines = []
    for pair, r in rounded.items():
        key = ":".join(pair)
        if isinstance(find_pair(formula, key), str):  # the key of products can be read in two ways
            text = "its random columns have correlations whose names can be read in two ways; use separate random terms"
            raise StudyError([f"{pilot.written}: {text}"])
        lines.append(entry(key, r, _beside(pilot.correlations[pair], uncertain=False)))
    return [table(header("truth", "random", group, "correlation"), lines)]


def _predictors(pilot: Pilot) -> list[str]:
    group, parts = pilot.formula.group, []
    for p in pilot.predictors:
        lines = [
            entry("level", p.level, "varies within clusters" if p.level == 1 else f"one value a cluster ({group})")
        ]
        if p.distribution == "balanced":
            half = (
                "half of the rows of each cluster are 0, half 1"
                if p.level == 1
                else "half of the clusters are 0, half 1"
            )
            zero, one = pilot.coded.get(p.name, ("", ""))
            lines.append(entry("distribution", "balanced", half + (f': 0 is "{zero}", 1 is "{one}"' if one else "")))
        else:
            lines += [
                entry("distribution", "normal"),
                entry("mean", resolved(p.mean, p.sd), "as in the data"),
                entry("sd", number(p.sd), "as in the data" + (", over clusters" if p.level == 2 else "")),
            ]
        parts.append(table(header("predictors", p.name), [*lines, *(remark(f"{note}.") for note in p.notes)]))
    return parts


def _effect(found: Estimate, uncertain: bool) -> Any:
    if not uncertain or not found.se > 0:
        return resolved(found.value, found.se)
    df = {"df": number(found.df)} if _LEAST_DF < found.df < math.inf else {}
    return {
        "distribution": "pilot",
        "estimate": resolved(found.value, found.se),
        "se": number(found.se),
        **df,
    }


def _variance(found: Estimate, uncertain: bool) -> Any:
    if not uncertain or math.isnan(found.df):
        return number(found.value)
    if found.df <= _LEAST_DF:
        return {"distribution": "lognormal", "mean": number(found.value), "sd": number(found.se)}
    return {"distribution": "pilot", "estimate": number(found.value), "df": number(found.df)}


def _effect_remarks(found: Estimate, uncertain: bool) -> list[str]:
    if uncertain and found.se > 0 and found.df <= _LEAST_DF:
        return [remark(f"{number(found.df, 2)} df are too few for a t distribution with a spread: normal instead.")]
    return []


def _variance_remarks(found: Estimate, uncertain: bool) -> list[str]:
    if not uncertain or found.df >= _HEAVY_TAIL:
        return []
    if math.isnan(found.df):
        return [remark("the pilot does not tell how uncertain that is: it is held at its estimate.")]
    df = number(found.df, 2)
    if found.df <= _LEAST_DF:
        return [remark(f"{df} df are too few for a scaled chi-square with a mean: lognormal instead.")]
    return [remark(f"with {df} df this reaches far above the estimate; put your own in its place if you know better.")]


def _beside(found: Estimate, uncertain: bool) -> str:
    """What stands beside an estimate; a prior shows its spread itself."""
    parts = [f"se {number(found.se, 3)}"] if found.se > 0 and not uncertain else []
    if math.isfinite(found.lower) and math.isfinite(found.upper):
        parts.append(f"95 % {limits(found.lower, found.upper)}")
    return ", ".join(parts)
