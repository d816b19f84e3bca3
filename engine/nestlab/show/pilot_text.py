"""The study file of a pilot: each estimate with its standard error and interval beside it, and what it has not of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..spec.covariance import correlation_path, find_pair, not_semidefinite, variance_path
from ..spec.model import Formula
from ..spec.problems import StudyError
from .countables import counted
from .from_fit import Estimate, Pilot
from .pilot_predictors import PilotPlan
from .study_text import entry, header, limits, number, remark, resolved, table

__all__ = ["levels_text", "pilot_text", "plan_note"]

#: Digits tried for correlations: rounding must not leave them without a covariance matrix.
_DIGITS = (6, 12, 17)
#: The distribution of a variance with fewer df has no variance, and that of an effect or a variance with no more than these none
#: that a prior may have.
_HEAVY_TAIL = 4
_LEAST_DF = 2


def pilot_text(
    pilot: Pilot, plan: PilotPlan, *, name: str, file: str, seed: int, replications: int, uncertain: bool = False,
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
            *_design(pilot, plan, clusters, cluster_size),
            *_truth(pilot, uncertain),
            *_predictors(pilot, plan),
            table("[[method]]", [entry("name", "reml"), entry("df", "satterthwaite")], "how each data set is analysed"),
            "",
        ]
    )


def _head(pilot: Pilot, file: str, uncertain: bool) -> list[str]:
    dropped = f", {pilot.dropped:,} rows left out for missing values" if pilot.dropped else ""
    lines = [
        f"A pilot as a study: {pilot.written}, fitted by REML to {pilot.source} ({pilot.rows:,} rows, {levels_text(pilot)}"
        f"{dropped}).",
        "The truth is as uncertain as the estimates: every replication draws its own, from the priors that stand for "
        "numbers here."
        if uncertain
        else "The estimates stand here as if they were the truth, which they are not: look at their intervals, and try other "
        "values that lie in them.",
        "95 %: profile intervals, as nestlab fit --confint prints them (there of standard deviations, here of variances).",
    ]
    made = {column.name: column.written for column in pilot.columns if column.made}
    renamed = [
        f"{new} is {made[new]} of the data" if new in made else f'{new} is "{old}" in the data'
        for new, old in pilot.names.items()
    ]
    if renamed:
        lines.append(f"Names: {', '.join(renamed)}.")
    return [*map(remark, lines), "#", f"#     nestlab run {file}"]


def levels_text(pilot: Pilot) -> str:
    """How many levels each grouping factor has."""
    if pilot.several:
        return ", ".join(counted(factor.levels, factor.name) for factor in pilot.factors)
    return f"{len(pilot.sizes):,} clusters ({pilot.formula.group})"


def _design(pilot: Pilot, plan: PilotPlan, clusters: Sequence[int], cluster_size: Sequence[int]) -> list[str]:
    if pilot.several:
        return _several(pilot, plan)
    group, sizes = pilot.formula.group, pilot.sizes
    lines, grid, tables = [], [], []
    if len(clusters) > 1:
        grid.append(entry("clusters", list(clusters)))
    else:
        own = "" if clusters else f"number of clusters ({group}), as in the data"
        lines.append(entry("clusters", clusters[0] if clusters else len(sizes), own))
    if len(cluster_size) > 1:
        grid.append(entry("cluster_size", list(cluster_size)))
    elif cluster_size:
        lines.append(entry("cluster_size", cluster_size[0]))
    elif isinstance(plan.sizes, int):
        lines.append(entry("cluster_size", plan.sizes, f"rows of each {group}, as in the data"))
    elif plan.sizes is not None:
        tables = _sizes(plan.sizes, group)
    made = [*([table("design", lines)] if lines else []), *tables]
    if grid:
        return [*made, table("grid", grid, "every combination is a design")]
    if clusters:
        return made
    more = [len(sizes), 2 * len(sizes), 4 * len(sizes)]
    return [*made, table("# [grid]", [f"# clusters = {more}"], "designs to compare: remove the # of these lines")]


def _several(pilot: Pilot, plan: PilotPlan) -> list[str]:
    """The numbers of several grouping factors and of rows, or where the rows are."""
    if plan.of_rows:
        listed = [(name, words) for name, words in plan.factors.items() if isinstance(words, Mapping)]
        tables = [_in_lines(header("design", "factors", name), words) for name, words in listed]
        said = [f"The rows of the design are {plan_note(pilot, plan)}.", *_like_them(pilot)]
        return ["\n" + remark(" ".join(said)), *tables]
    innermost = {factor.name for factor in pilot.factors} - {factor.within for factor in pilot.factors}
    cell = f"each {innermost.pop()}" if len(innermost) == 1 else "each cell"
    rows, tables = list[str](), list[str]()
    if isinstance(plan.sizes, int):
        rows = [table("design", [entry("rows", plan.sizes, f"in {cell}, as in the data")])]
    else:
        tables.append(_in_lines("design.rows", plan.sizes or {}, f"of {cell}, as in the data, in turn"))
    nested = {name: own for name, own in plan.factors.items() if isinstance(own, Mapping)}
    tabled = any(
        not isinstance(own["number"], int) for own in nested.values()
    )  # factors stand in their order, all or none
    plain = [entry(name, own) for name, own in plan.factors.items() if not (tabled and name in nested)]
    parts = [*rows, table("design.factors", plain, "numbers of levels, as in the data")]
    for name, own in nested.items() if tabled else ():
        number = own["number"]
        count = [entry("number", number)] if isinstance(number, int) else []
        parts.append(table(header("design", "factors", name), [entry("within", own["within"]), *count]))
        if not count:
            what = f"in each {own['within']}, in turn"
            parts.append(_in_lines(header("design", "factors", name, "number"), number, what))
    top = pilot.factors[0]
    more = f'# "clusters.{top.name}" = {[top.levels, 2 * top.levels, 4 * top.levels]}'
    return [*parts, *tables, table("# [grid]", [more], "designs to compare: remove the # of these lines")]


def _like_them(pilot: Pilot) -> list[str]:
    """What to write for other numbers than the pilot's, where its factors are crossed and most combinations have rows."""
    cells = len(np.unique(np.stack([factor.codes for factor in pilot.factors]), axis=1).T)
    share = cells / math.prod(factor.levels for factor in pilot.factors)
    if share < 0.5 or any(factor.within for factor in pilot.factors):
        return []
    numbers = ", ".join(f"{factor.name} = {factor.levels}" for factor in pilot.factors)
    rows = max(1, round(pilot.rows / cells))
    return [
        f"For other numbers write {numbers} in place of the file, rows = {rows} in [design] and cells = "
        f"{number(1 - share, 3)} in [missing], and give predictors of rows a distribution."
    ]


def _in_lines(name: str, words: Mapping[str, Any], comment: str = "") -> str:
    return table(name, [entry(key, value) for key, value in words.items()], comment)


def _sizes(sizes: Mapping[str, Any], group: str) -> list[str]:
    """The tables of sizes that clusters take in turn."""
    arms = sizes.get("arms")
    if arms is None:
        lines = [entry("values", list(sizes["values"])), entry("in_turn", sizes["in_turn"])]
        return [table("design.cluster_size", lines, f"rows of each {group}, as in the data, in turn")]
    return [
        table(
            "[[design.cluster_size.arms]]",
            [entry("values", values), entry("in_turn", value=True)],
            f"rows of each {group}, by arm",
        )
        for size in arms
        for values in [[size] if isinstance(size, int) else list(size["values"])]
    ]


def _truth(pilot: Pilot, uncertain: bool) -> list[str]:
    residual = pilot.residual
    parts = [
        table(
            "truth",
            [
                entry("formula", pilot.text),
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
    for part in pilot.formula.parts:
        lines = []
        for column in part.random_columns:
            lines += _random_variance(column, pilot.variances[part.group, column], uncertain)
        what = f"levels of {part.group}" if pilot.several else "clusters"
        what = f"variances between {what}: of the intercept" + (", of slopes" if len(part.random_columns) > 1 else "")
        parts.append(table(header("truth", "random", part.group, "variance"), lines, what))
    if pilot.singular:
        parts.insert(2, "\n" + remark(_singular(pilot)))
    return parts + [text for part in pilot.formula.parts for text in _correlations(pilot, part)]


def _singular(pilot: Pilot) -> str:
    def named(text: str, group: str) -> str:
        return f"{text} of {group}" if pilot.several else text

    zero = [named(column, group) for (group, column), found in pilot.variances.items() if found.value == 0]
    edge = [
        named(f"{a}:{b}", group) for (group, a, b), found in pilot.correlations.items() if 1 - abs(found.value) < 1e-6
    ]
    what = [f"the variance of {_and(zero)} is estimated 0"] * bool(zero)
    what += [f"the correlation {_and(edge)} is estimated -1 or 1"] * bool(edge)
    found = " and ".join(what) or "the random effects have a covariance matrix without full rank"
    return (
        f"The fit of the pilot is singular: {found}. That is no evidence that it is so: the data are too few to tell. Plan with "
        "a value further inside its interval as well."
    )


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def _random_variance(column: str, found: Estimate, uncertain: bool) -> list[str]:
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


def _correlations(pilot: Pilot, part: Formula) -> list[str]:
    """Those of one grouping factor. part: the formula with its random terms only."""
    own = {(a, b): found for (group, a, b), found in pilot.correlations.items() if group == part.group}
    if not own:
        return []
    flat = {variance_path(part, c): max(pilot.variances[part.group, c].value, 0.0) for c in part.random_columns}
    for digits in _DIGITS:
        rounded = {pair: number(r.value, digits) for pair, r in own.items()}
        flat |= {correlation_path(part, a, b): r for (a, b), r in rounded.items()}
        if not_semidefinite(part, flat) is None:
            break
    lines = []
    for pair, r in rounded.items():
        key = ":".join(pair)
        if isinstance(find_pair(part, key), str):  # the key of products can be read in two ways
            text = "its random columns have correlations whose names can be read in two ways; use separate random terms"
            raise StudyError([f"{pilot.written}: {text}"])
        lines.append(entry(key, r, _beside(own[pair], uncertain=False)))
    return [table(header("truth", "random", part.group, "correlation"), lines)]


def _predictors(pilot: Pilot, plan: PilotPlan) -> list[str]:
    parts = []
    columns = {column.name: column for column in pilot.columns}
    if plan.why and not plan.of_rows:
        parts.append("\n" + remark(f"{plan_note(pilot, plan)}."))
    for p in plan.predictors:
        lines = [entry("level", p.level, _where(pilot, p.level))]
        zero, one = pilot.coded.get(p.name, ("", ""))
        said = [p.comment] * bool(p.comment) + [f'0 is "{zero}", 1 is "{one}"'] * bool(one)
        lines.append(entry("distribution", p.words["distribution"], ": ".join(said)))
        lines += [_key(key, value) for key, value in p.words.items() if key != "distribution"]
        named = zip(columns[p.name].categories, columns[p.name].labels, strict=True)
        renamed = [f'{name} is "{label}"' for name, label in named if name != label]
        notes = [*p.notes, *([f"in the data {', '.join(renamed)}"] if renamed else [])]
        parts.append(table(header("predictors", p.name), [*lines, *(remark(f"{note}.") for note in notes)]))
    if plan.correlations:
        lines = [entry(f"{a}:{b}", r) for a, b, r in plan.correlations]
        parts.append(table("correlation", lines, "of predictors, as in the data"))
    return parts


def _where(pilot: Pilot, level: int | str) -> str:
    """What a predictor's level means."""
    if level == 1:
        return "each row has its own value" if pilot.several else "varies within clusters"
    one = f"({pilot.formula.group})" if level == 2 else ""
    return f"one value a cluster {one}" if one else f"one value for each {str(level).replace(':', ' and ')}"


def plan_note(pilot: Pilot, plan: PilotPlan) -> str:
    """What is not drawn from a distribution, and why; of a design of the pilot's rows whose they are."""
    if plan.of_rows:
        return "the pilot's" + (f", as {plan.why}" if plan.why else "")
    names = [p.name for p in plan.predictors if p.in_turn]
    if pilot.several:
        return f"{_and(names)}: as in the pilot's levels and cells, which come in turn; {plan.why}"
    some = f" ({plan.taken:,} of them)" if 0 < plan.taken < len(pilot.sizes) else ""
    return f"{_and(names)}: as in the pilot's clusters{some}, which come in turn; {plan.why}"


def _key(key: str, value: Any) -> str:
    if key != "sequences":
        return entry(key, value)
    rows = [entry(key, row).partition(" = ")[2].replace("\n", "\n    ") for row in value]
    return "\n".join([f"{key} = [", *(f"    {row}," for row in rows), "]"])


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
