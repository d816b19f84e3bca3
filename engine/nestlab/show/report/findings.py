"""The main findings of a study, in sentences that its measures bear out; every value with its MCSE and its n.

A rate departs from its nominal level only where an exact binomial test of it, at 5 %, says so; of rates that keep their level at
most 5 % do. A bias departs where it exceeds 1.96 MCSEs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...measure.intervals import Z, tango
from ..levels import level_text
from ..summary import ends_text, value_with_mcse
from .effects import departures, effect_kind, tests_of
from .material import Material, at, largest, levels_text, plural, span
from .powers import power_text, truth_text

__all__ = ["Finding", "findings"]

#: 1.96: a bias farther from 0 than this many MCSEs departs from it.
#: MCSE of a gain in precision, in percent, below which the two methods' estimates differ by rounding.
ROUNDING = 1e-6
_GROUPS = {False: "fixed effects and contrasts", True: "variances and what derives from them"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence or a few: what they are about, of which estimand or method (lead), and what was found."""

    topic: str
    lead: str
    text: str


def findings(material: Material) -> list[Finding]:
    """All findings; first what `nestlab solve` answered, if it did."""
    found = list(_solved(material.results.solution))
    if material.whole.empty:
        return [
            *found,
            Finding("Nothing is stored yet", "", "No condition has replicates, so there is nothing to report."),
        ]
    for topic, make in (
        ("Power", _power), ("Type I error", _type_one), ("Comparison of methods", _comparison), ("Coverage", _coverage),
        ("Bias", _bias), ("Standard errors", _standard_errors), ("Singular and failed fits", _fits),
    ):  # fmt: skip
        found += [Finding(topic, lead, text) for lead, text in make(material)]
    return found


def _solved(solve: Mapping[str, Any]) -> Iterator[Finding]:
    if solve.get("sentence"):
        yield Finding("Solution", "", str(solve["sentence"]))


Told = Iterator[tuple[str, str]]


def _split(rows: pd.DataFrame, first: str, second: str) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Rows by two columns of names, in the order in which they come."""
    for (a, b), some in rows.groupby([first, second], sort=False):
        yield (str(a), str(b)), some


# -- tests -----------------------------------------------------------------------------------------------------------------


def _power(material: Material) -> Told:
    tests = tests_of(material)
    for (estimand, label), rows in _split(tests, "estimand", "method"):
        some = rows[rows["kind"].isin(["effect", "unknown"])]
        if len(some):
            text = power_text(material, some) + _below_average(material, estimand, label)
            level = level_text(["power"], {label: material.labels[label].alpha})
            yield f"{estimand}{truth_text(material, estimand, label, some)}, {label}, {level}", text


def _below_average(material: Material, estimand: str, label: str) -> str:
    """How low power may be where its truth is drawn from a prior."""
    whole = material.whole
    rows = whole[(whole["measure"] == "power_q10") & (whole["estimand"] == estimand) & (whole["method"] == label)]
    kinds = [effect_kind(material, int(condition), estimand, label) for condition in rows["condition"]]
    rows = rows[rows["value"].notna() & np.array([kind != "null" for kind in kinds], dtype=bool)]
    if rows.empty:
        return ""
    return f" Over the priors the power given what is drawn is with probability 0.1 less than {span(material, rows)}."


def _type_one(material: Material) -> Told:
    tests = tests_of(material)
    for (estimand, label), rows in _split(tests, "estimand", "method"):
        alpha = material.labels[label].alpha
        exact, beyond = rows[rows["kind"] == "null"], rows[rows["kind"] == "beyond"]
        if len(exact):
            yield (
                f"{estimand}, {label}",
                f"where what is tested is true, the test at level {alpha:g} rejects at a rate of "
                f"{span(material, exact)}. {_against(exact, alpha)}",
            )
        if len(beyond):
            above = int((departures(beyond, alpha) > 0).sum())
            yield (
                f"{estimand}, {label}",
                f"where the truth lies beyond the value under test, on the null's side, the test at level {alpha:g} "
                f"rejects at a rate of {span(material, beyond)}; {above} of {plural(len(beyond), 'rate')} "
                f"{_verb(above, 'is', 'are')} above the level beyond Monte Carlo error.",
            )


def _against(rows: pd.DataFrame, nominal: float) -> str:
    """How many rates depart from a nominal one."""
    signs = departures(rows, nominal)
    low, high = int((signs < 0).sum()), int((signs > 0).sum())
    if len(rows) == 1:
        word = "below" if low else "above" if high else "not told apart from"
        return f"That is {word} {nominal:g} (exact binomial test at 5 %)."
    return (
        f"{low} of {len(rows):,} rates {_verb(low, 'lies', 'lie')} below {nominal:g} and {high} above it beyond "
        f"Monte Carlo error ({_by_chance(len(rows))})."
    )


def _verb(count: int, one: str, more: str) -> str:
    return one if count == 1 else more


def _by_chance(count: int) -> str:
    return f"at most {0.05 * count:.3g} would by chance"


def _extremes(material: Material, clear: pd.DataFrame, signs: Any, words: tuple[str, str], unit: str = "") -> str:
    """The farthest below and above among rows that depart, each with its estimand: "; lowest: x, 0.9 (0.01), n = ..."."""
    text = ""
    for sign, word in zip((-1, 1), words, strict=True):
        some = clear[signs == sign]
        if len(some):
            row = largest(some, some["value"] * sign)
            text += f"; {word}: {row['estimand']}, {at(material, row, unit=unit)}"
    return text


# -- comparison ------------------------------------------------------------------------------------------------------------


def _comparison(material: Material) -> Told:
    tests = tests_of(material)
    paired: dict[str, pd.DataFrame] = {}
    compared = False
    for estimand, rows in tests.groupby("estimand", sort=False):
        for kind, word in (("effect", "power"), ("null", "type I error rate")):
            some = _shared(rows[rows["kind"] == kind])
            if some["method"].nunique() > 1:
                base = str(some["method"].iloc[0])
                text = ""
                if material.results.keeps == "replicates":
                    if base not in paired:
                        paired[base] = material.results.compare(base, "power")
                    compared = True
                    differences = paired[base][paired[base]["condition"].isin(some["condition"])]
                    text = _differences(base, differences[differences["estimand"] == estimand])
                level = level_text(["power"], {name: material.labels[name].alpha for name in some["method"].unique()})
                yield f"{estimand}, {word}, {level}", f"{_means(word, some)}{text}"
    if compared:
        yield (
            "",
            (
                "Differences are taken on the replicates where both methods converged and have a result, and their MCSEs use "
                "that pairing. Power is comparable only between tests that keep their level."
            ),
        )
    yield from _precision(material)


def _shared(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the conditions that all of their methods have."""
    return rows[rows.groupby("condition")["method"].transform("nunique") == rows["method"].nunique()]


def _means(word: str, rows: pd.DataFrame) -> str:
    """Means over conditions, which are drawn independently, so that their errors add up as such."""
    count = rows["condition"].nunique()
    parts = []
    for label, mine in rows.groupby("method", sort=False):
        mcse = float(np.sqrt((mine["mcse"] ** 2).sum())) / count
        parts.append((float(mine["value"].mean()), f"{label} {value_with_mcse(mine['value'].mean(), mcse)}"))
    ordered = ", ".join(text for _, text in sorted(parts, key=lambda part: -part[0]))
    where = "where there is an effect" if word == "power" else "where what is tested is true"
    over = f"in the one condition {where}" if count == 1 else f"mean over the {count} conditions {where}"
    return f"{over}: {ordered}; n = {_ends(rows.groupby('method')['n'].sum())} each."


def _differences(base: str, rows: pd.DataFrame) -> str:
    """The same means less that of the first method, replicate by replicate; where no replicate differs, with Tango's limits."""
    parts = []
    for label, mine in rows.groupby("method", sort=False):
        mcse = float(np.sqrt((mine["mcse"] ** 2).sum())) / len(mine)
        text = f"{label} {value_with_mcse(mine['difference'].mean(), mcse)}"
        if mcse == 0:
            low, high = tango(*(mine[name].sum() for name in ("gained", "lost", "n")))
            text += f", 95 % limits {low:.2g} to {high:.2g}"
        parts.append(text)
    if not parts:
        return ""
    return f" Differences from {base}: {', '.join(parts)}; n = {_ends(rows.groupby('method')['n'].sum())} each."


def _ends(counts: pd.Series[int]) -> str:
    return ends_text(int(counts.min()), int(counts.max()))


def _precision(material: Material) -> Told:
    """Which estimates are more precise than the first method's, paired by replicate."""
    whole = material.whole
    first, *others = material.first_labels.items()
    for label, name in others:
        rows = whole[(whole["measure"] == "relprec") & (whole["method"] == label) & whole["mcse"].gt(ROUNDING)]
        if len(rows):
            clear = rows[rows["value"].abs() > Z * rows["mcse"]]
            ends = _extremes(material, clear, np.sign(clear["value"]), ("largest loss", "largest gain"), " %")
            yield (
                f"precision of {name} against {first[1]}, paired by replicate",
                f"{len(clear)} of {len(rows):,} gains (estimands x conditions) "
                f"{_verb(len(clear), 'differs', 'differ')} from 0 by more than 1.96 MCSEs{ends}.",
            )


# -- intervals, bias, standard errors --------------------------------------------------------------------------------------


def _grouped(material: Material, measure: str, labels: Iterable[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The rows of a measure by label and kind of estimand."""
    whole = material.whole
    rows = whole[(whole["measure"] == measure) & whole["value"].notna()]
    known = material.results.estimands
    variances = ~rows["estimand"].map(lambda e: known[e].effect).astype(bool)
    for label in labels:
        for flag, group in _GROUPS.items():
            some = rows[(rows["method"] == label) & (variances == flag)]
            if len(some):
                yield label, group, some


def _coverage(material: Material) -> Told:
    for label, group, rows in _grouped(material, "cover", material.labels):
        nominal = 1 - material.labels[label].alpha
        signs = departures(rows, nominal)
        low, high = int((signs < 0).sum()), int((signs > 0).sum())
        ends = _extremes(material, rows, signs, ("lowest", "highest"))
        yield (
            f"{group}, {label}",
            f"of {plural(len(rows), 'rate')} of coverage (estimands x conditions) {low} {_verb(low, 'lies', 'lie')} "
            f"below {nominal:g} and {high} above it beyond Monte Carlo error ({_by_chance(len(rows))}){ends}.",
        )


def _bias(material: Material) -> Told:
    whole = material.whole
    relative = whole[whole["measure"] == "relbias"].set_index(["condition", "method", "estimand"])
    for label, group, rows in _grouped(material, "bias", material.first_labels):
        rows = rows[rows["mcse"].gt(0)]
        if rows.empty:
            continue
        clear = rows[rows["value"].abs() > Z * rows["mcse"]]
        text = (
            f"{len(clear)} of {len(rows):,} biases (estimands x conditions) {_verb(len(clear), 'exceeds', 'exceed')} "
            f"1.96 MCSEs (about {0.05 * len(rows):.3g} would by chance if there were none)"
        )
        keys = [
            k for k in zip(clear["condition"], clear["method"], clear["estimand"], strict=True) if k in relative.index
        ]
        if keys:
            some = relative.loc[keys].reset_index()
            row = largest(some, some["value"].abs())
            text += f"; the largest of these relative to its truth: {row['estimand']}, {at(material, row, unit=' %')}"
        elif len(clear):
            row = largest(clear, (clear["value"] / clear["mcse"]).abs())
            text += f"; the clearest of these: {row['estimand']}, {at(material, row)}"
        yield f"{group}, {material.first_labels[label]}", f"{text}."


def _standard_errors(material: Material) -> Told:
    for label, group, rows in _grouped(material, "relerror", material.labels):
        rows = rows[rows["mcse"].gt(0)]
        if rows.empty:
            continue
        clear = rows[rows["value"].abs() > Z * rows["mcse"]]
        ends = _extremes(material, clear, np.sign(clear["value"]), ("too small by most", "too large by most"), " %")
        yield (
            f"{group}, {label}",
            f"against the spread of the estimates {len(clear)} of {len(rows):,} model standard errors (estimands x "
            f"conditions) {_verb(len(clear), 'is', 'are')} off by more than 1.96 MCSEs (about {0.05 * len(rows):.3g} "
            f"would by chance){ends}.",
        )


# -- fits ------------------------------------------------------------------------------------------------------------------


def _fits(material: Material) -> Told:
    whole = material.whole
    for label, name in material.first_labels.items():
        rows = whole[(whole["method"] == label) & (whole["estimand"] == "")]
        share = {measure: rows[rows["measure"] == measure] for measure in ("converged", "singular", "failed")}
        if share["converged"].empty:
            continue
        total = int(share["converged"]["n"].sum())
        counts = {m: round(float((r["value"] * r["n"]).sum())) for m, r in share.items()}
        text = f"{counts['converged']:,} of {plural(total, 'fit')} converged"
        if counts["converged"] < total:
            worst = share["converged"].sort_values("value").iloc[0]
            text += (
                f"; {total - counts['converged']:,} did not, of which {counts['failed']:,} have no estimates, and are left out "
                f"of all measures of estimands; the lowest rate of convergence is {at(material, worst)}"
            )
        text += (
            f". {counts['singular']:,} are singular: {span(material, share['singular'])}"
            if counts["singular"]
            else ". None is singular"
        )
        yield name, f"{text}."
    lost = whole[(whole["measure"] == "inference_failed") & (whole["value"] > 0)]
    for named, rows in lost.groupby("method", sort=False):
        worst = rows.sort_values("value", ascending=False).iloc[0]
        yield (
            str(named),
            (
                f"inference failed on fits with estimates in {plural(len(rows), 'condition')}, at most at a rate of "
                f"{at(material, worst)}."
            ),
        )
    yield from _missing(material)


def _missing(material: Material) -> Told:
    """Replicates without a test or interval, with the bounds of what they could have said."""
    whole = material.whole
    rows = whole[whole["measure"].isin(["power", "cover"]) & (whole["missing"].fillna(0) > 0)]
    for (label, measure), some in _split(rows, "method", "measure"):
        row = largest(some, some["missing"])
        what = ("test", "power") if measure == "power" else ("interval", "coverage")
        yield (
            f"{label}, missing {what[0]}s",
            (
                f"{len(some)} rates of {what[1]} ({levels_text(list(some['estimand'].unique()))}) have replicates "
                f"without {what[0]}; most has {row['estimand']}: {at(material, row)}, where "
                f"{plural(int(row['missing']), 'replicate')} {'is' if row['missing'] == 1 else 'are'} missing. "
                f"Counted as 0 and as 1 they bound it by {row['bound_lower']:.4g} and {row['bound_upper']:.4g}."
            ),
        )
