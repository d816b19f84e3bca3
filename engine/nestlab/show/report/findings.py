"""The main findings of a study, in sentences that its measures bear out; every value with its MCSE and its n.

A rate departs from its nominal level only where an exact binomial test of it, at 5 %, says so; of rates that keep their level at
most 5 % do. A bias departs where it exceeds 1.96 MCSEs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr, bdtrc, ndtri

from ...spec.estimands import find_estimand
from ...spec.model import INTERCEPT, Contrast
from ..summary import value_with_mcse
from .material import Material, levels_text, measured, plural
from .powers import power_sentence

__all__ = ["Finding", "departures", "effect_kind", "findings"]

#: 1.96: a bias farther from 0 than this many MCSEs departs from it.
Z = float(ndtri(0.975))
_VARIANCE_LIKE = ("var:", "sd:", "cov:", "cor:", "icc")
_GROUPS = {False: "fixed effects and contrasts", True: "variances and what derives from them"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence or a few, and what they are about."""

    topic: str
    text: str


def findings(material: Material) -> list[Finding]:
    """All findings; first what `nestlab solve` answered, if it did."""
    found = list(_solved(material.manifest))
    if material.whole.empty:
        return [*found, Finding("Nothing is stored yet", "No condition has replicates, so there is nothing to report.")]
    for topic, make in (
        ("Power", _power), ("Type I error", _type_one), ("Comparison of methods", _comparison), ("Coverage", _coverage),
        ("Bias", _bias), ("Standard errors", _standard_errors), ("Singular and failed fits", _fits),
    ):  # fmt: skip
        found += [Finding(topic, sentence) for sentence in make(material)]
    return found


def _solved(manifest: Mapping[str, Any]) -> Iterator[Finding]:
    solve = manifest.get("solve")
    if isinstance(solve, Mapping) and solve.get("sentence"):
        yield Finding("Solution", str(solve["sentence"]))


# -- tests -----------------------------------------------------------------------------------------------------------------


def effect_kind(material: Material, condition: int, estimand: str) -> str:
    """What a test of an estimand meets in a condition.

    "null": the value under test is true, so that rejections are type I errors at the nominal rate; "beyond": the truth lies on the
    null's side of it, where at most that rate is allowed; "effect": there is something to find; "unknown": no single true value.
    """
    stored = next(c for c in material.conditions if c.number == condition)
    contrasts = {c.name: c for method in material.methods for c in method.contrasts}
    if estimand in contrasts:
        return _contrast_kind(contrasts[estimand], stored.truth)
    names = [find_estimand(stored.truth, part) for part in ([estimand] if estimand in stored.truth else estimand.split(", "))]
    values = [stored.truth.get(name) if name else None for name in names]
    if any(value is None or not np.isfinite(value) for value in values):
        return "unknown"
    return "effect" if any(value != 0 for value in values) else "null"


def _contrast_kind(contrast: Contrast, truth: Mapping[str, float]) -> str:
    if contrast.joint:
        rows = [
            sum(weight * truth.get(find_estimand(truth, term) or term, np.nan) for term, weight in row)
            for row in contrast.weights
        ]
        known = all(np.isfinite(value) for value in rows)
        return "unknown" if not known else "effect" if any(abs(value) > 1e-12 for value in rows) else "null"
    value = truth.get(contrast.name)
    if value is None or not np.isfinite(value):
        return "unknown"
    if contrast.equivalence is not None:
        inside = min(value - contrast.equivalence[0], contrast.equivalence[1] - value)
        return "effect" if inside > 1e-12 else "null" if inside > -1e-12 else "beyond"
    distance = value - contrast.null
    if abs(distance) <= 1e-12:
        return "null"
    wrong_side = {"two-sided": False, "greater": distance < 0, "less": distance > 0}[contrast.alternative]
    return "beyond" if wrong_side else "effect"


def _tests(material: Material) -> pd.DataFrame:
    """The rows of power, with what each test meets; of the intercept only if nothing else is tested."""
    whole = material.whole
    rows = whole[(whole["measure"] == "power") & whole["value"].notna()]
    if (rows["estimand"] != INTERCEPT).any():
        rows = rows[rows["estimand"] != INTERCEPT]
    keys = dict.fromkeys(zip(rows["condition"], rows["estimand"], strict=True))
    kinds = {(c, e): effect_kind(material, int(c), e) for c, e in keys}
    return rows.assign(kind=[kinds[key] for key in zip(rows["condition"], rows["estimand"], strict=True)])


def _power(material: Material) -> Iterator[str]:
    tests = _tests(material)
    for (estimand, label), rows in tests.groupby(["estimand", "method"], sort=False):
        yield from power_sentence(material, estimand, label, rows[rows["kind"].isin(["effect", "unknown"])])


def _type_one(material: Material) -> Iterator[str]:
    tests = _tests(material)
    for (estimand, label), rows in tests.groupby(["estimand", "method"], sort=False):
        alpha = material.labels[label].alpha
        exact, beyond = rows[rows["kind"] == "null"], rows[rows["kind"] == "beyond"]
        if len(exact):
            yield (
                f"{estimand}, {label}: where what is tested is true, the test at level {alpha:g} rejects at a rate of "
                f"{_range(material, exact)}. {_against(material, exact, alpha)}"
            )
        if len(beyond):
            above = int((departures(beyond, alpha) > 0).sum())
            yield (
                f"{estimand}, {label}: where the truth lies beyond the value under test, on the null's side, the test at level "
                f"{alpha:g} rejects at a rate of {_range(material, beyond)}; {above} of {plural(len(beyond), 'rate')} "
                f"{'is' if above == 1 else 'are'} significantly above the level."
            )


def departures(rows: pd.DataFrame, nominal: float) -> Any:
    """-1, 0 or 1 a row: a rate significantly below, not significantly off, significantly above `nominal`, by an exact
    two-sided binomial test at 5 %."""
    n = rows["n"].to_numpy(dtype=float)
    k = np.round(rows["value"].to_numpy(dtype=float) * n)
    below = bdtr(k, n.astype(int), nominal) <= 0.025
    above = np.where(k > 0, bdtrc(k - 1, n.astype(int), nominal), 1.0) <= 0.025
    return above.astype(int) - below.astype(int)


def _against(material: Material, rows: pd.DataFrame, nominal: float) -> str:
    """How many rates depart from a nominal one, and the farthest."""
    signs = departures(rows, nominal)
    low, high = int((signs < 0).sum()), int((signs > 0).sum())
    if len(rows) == 1:
        word = {-1: "significantly below", 0: "not significantly different from", 1: "significantly above"}[int(signs[0])]
        return f"That is {word} {nominal:g} (exact binomial test at 5 %)."
    text = (
        f"Of {len(rows)} rates {low + high} depart{'s' if low + high == 1 else ''} from {nominal:g} beyond Monte Carlo error "
        f"({low} below, {high} above; if all were {nominal:g}, at most {0.05 * len(rows):.3g} would be expected to)"
    )
    ends = []
    for sign, word, ascending in ((-1, "lowest", True), (1, "highest", False)):
        some = rows[signs == sign].sort_values("value", ascending=ascending)
        if len(some):
            ends.append(f"the {word} {_at(material, some.iloc[0])}")
    return f"{text}{': ' + '; '.join(ends) if ends else ''}."


def _range(material: Material, rows: pd.DataFrame) -> str:
    """ "a (MCSE), n = N, at ... to b (MCSE), n = N, at ..."."""
    ordered = rows.sort_values("value", kind="stable")
    first, last = ordered.iloc[0], ordered.iloc[-1]
    if len(rows) == 1 or first["value"] == last["value"]:
        return _at(material, first) if len(rows) == 1 else f"{measured(first)}, in all {plural(len(rows), 'condition')}"
    return f"{_at(material, first)}, to {_at(material, last)}"


def _at(material: Material, row: Any, *, unit: str = "") -> str:
    place = material.place(row)
    return measured(row, unit=unit) + (f" ({place})" if place else "")


# -- comparison ------------------------------------------------------------------------------------------------------------


def _comparison(material: Material) -> Iterator[str]:
    tests = _tests(material)
    for estimand, rows in tests.groupby("estimand", sort=False):
        for kind, word in (("effect", "power"), ("null", "type I error rate")):
            some = rows[rows["kind"] == kind]
            if some["method"].nunique() > 1:
                yield from _means(str(estimand), word, some)
    yield from _precision(material)


def _means(estimand: str, word: str, rows: pd.DataFrame) -> Iterator[str]:
    """Means over the conditions that all methods have; conditions are drawn independently, so their errors add up as such."""
    methods = list(rows["method"].unique())
    shared = rows.groupby("condition")["method"].transform("nunique") == len(methods)
    rows = rows[shared]
    count = rows["condition"].nunique()
    if not count:
        return
    parts = []
    for label in methods:
        mine = rows[rows["method"] == label]
        mcse = float(np.sqrt((mine["mcse"] ** 2).sum())) / count
        parts.append((float(mine["value"].mean()), f"{label} {value_with_mcse(mine['value'].mean(), mcse)}"))
    ordered = [text for _, text in sorted(parts, key=lambda part: -part[0])]
    over = "in the one condition" if count == 1 else f"mean over the {count} conditions"
    n = rows.groupby("method")["n"].sum()
    total = f"n = {n.min():,}" + (f" to {n.max():,}" if n.min() < n.max() else "")
    yield (
        f"{word.capitalize()} of {estimand}, {over} where {'there is an effect' if word == 'power' else 'there is none'} "
        f"({total} each): {', '.join(ordered)}. All methods saw the same data, so that their differences are less uncertain "
        "than these MCSEs say."
    )


def _precision(material: Material) -> Iterator[str]:
    """Which estimates are more precise than the first method's, paired by replicate."""
    whole = material.whole
    for label, name in list(material.first_labels.items())[1:]:
        rows = whole[(whole["measure"] == "relprec") & (whole["method"] == label) & whole["mcse"].gt(0)]
        clear = rows[rows["value"].abs() > Z * rows["mcse"]]
        if len(rows):
            text = (
                f"Estimates of {name} against {next(iter(material.first_labels.values()))}, paired by replicate: of {len(rows)} gains "
                f"in precision {len(clear)} differ from 0 by more than 1.96 MCSEs"
            )
            for sign, word in ((1, "largest gain"), (-1, "largest loss")):
                some = clear[clear["value"] * sign > 0]
                if len(some):
                    row = some.loc[(some["value"] * sign).idxmax()]
                    text += f"; {word}: {row['estimand']}, {_at(material, row, unit=' %')}"
            yield f"{text}."


# -- intervals, bias, standard errors --------------------------------------------------------------------------------------


def _grouped(material: Material, measure: str, labels: Any) -> Iterator[tuple[str, str, pd.DataFrame]]:
    whole = material.whole
    rows = whole[(whole["measure"] == measure) & whole["value"].notna() & whole["method"].isin(list(labels))]
    variances = rows["estimand"].str.startswith(_VARIANCE_LIKE)
    for label in labels:
        for flag, group in _GROUPS.items():
            some = rows[(rows["method"] == label) & (variances == flag)]
            if len(some):
                yield label, group, some


def _coverage(material: Material) -> Iterator[str]:
    for label, group, rows in _grouped(material, "cover", material.labels):
        nominal = 1 - material.labels[label].alpha
        signs = departures(rows, nominal)
        text = f"Intervals of {group}, {label}, nominal coverage {nominal:g}: "
        low, high = int((signs < 0).sum()), int((signs > 0).sum())
        text += (
            f"of {plural(len(rows), 'rate')} (estimands x conditions) {low} "
            f"lie{'s' if low == 1 else ''} below it and {high} above it beyond Monte Carlo error (if all kept it, at most "
            f"{0.05 * len(rows):.3g} would be expected to)"
        )
        for sign, word, ascending in ((-1, "lowest", True), (1, "highest", False)):
            some = rows[signs == sign].sort_values("value", ascending=ascending)
            if len(some):
                text += f"; the {word}: {some.iloc[0]['estimand']}, {_at(material, some.iloc[0])}"
        yield f"{text}."


def _bias(material: Material) -> Iterator[str]:
    whole = material.whole
    relative = whole[whole["measure"] == "relbias"].set_index(["condition", "method", "estimand"])
    for label, group, rows in _grouped(material, "bias", material.first_labels):
        rows = rows[rows["mcse"].gt(0)]
        clear = rows[rows["value"].abs() > Z * rows["mcse"]]
        if rows.empty:
            continue
        text = (
            f"Estimates of {group}, {material.first_labels[label]}: of {plural(len(rows), 'bias').replace('biass', 'biases')} "
            f"(estimands x conditions) {len(clear)} exceed{'s' if len(clear) == 1 else ''} 1.96 MCSEs (without any bias about "
            f"{0.05 * len(rows):.3g} would)"
        )
        keys = [key for key in zip(clear["condition"], clear["method"], clear["estimand"], strict=True) if key in relative.index]
        if keys:
            some = relative.loc[keys].reset_index()
            row = some.loc[some["value"].abs().idxmax()]
            text += f"; the largest of these, relative to the truth: {row['estimand']}, {_at(material, row, unit=' %')}"
        elif len(clear):
            row = clear.loc[(clear["value"] / clear["mcse"]).abs().idxmax()]
            text += f"; the clearest of these: {row['estimand']}, {_at(material, row)}"
        yield f"{text}."


def _standard_errors(material: Material) -> Iterator[str]:
    for label, group, rows in _grouped(material, "relerror", material.labels):
        rows = rows[rows["mcse"].gt(0)]
        if rows.empty:
            continue
        clear = rows[rows["value"].abs() > Z * rows["mcse"]]
        text = (
            f"Model standard errors of {group}, {label}, against the spread of the estimates: of {plural(len(rows), 'error')} "
            f"{len(clear)} exceed{'s' if len(clear) == 1 else ''} 1.96 MCSEs (without any about {0.05 * len(rows):.3g} would)"
        )
        for sign, word in ((-1, "too small by most"), (1, "too large by most")):
            some = clear[clear["value"] * sign > 0]
            if len(some):
                row = some.loc[(some["value"] * sign).idxmax()]
                text += f"; {word}: {row['estimand']}, {_at(material, row, unit=' %')}"
        yield f"{text}."


# -- fits ------------------------------------------------------------------------------------------------------------------


def _fits(material: Material) -> Iterator[str]:
    whole = material.whole
    for label, name in material.first_labels.items():
        rows = whole[(whole["method"] == label) & (whole["estimand"] == "")]
        share = {measure: rows[rows["measure"] == measure] for measure in ("converged", "singular", "failed")}
        if share["converged"].empty:
            continue
        total = int(share["converged"]["n"].sum())
        counts = {m: round(float((r["value"] * r["n"]).sum())) for m, r in share.items()}
        stopped = total - counts["converged"]
        text = f"{name}: {counts['converged']:,} of {plural(total, 'fit')} converged"
        if stopped:
            worst = share["converged"].sort_values("value").iloc[0]
            text += (
                f"; {stopped:,} did not, {counts['failed']:,} of which have no estimates. Convergence is lowest at "
                f"{_at(material, worst)}"
            )
        if counts["singular"]:
            text += f". {counts['singular']:,} are singular: {_range(material, share['singular'])}"
        else:
            text += ". None is singular"
        yield f"{text}."
    lost = whole[(whole["measure"] == "inference_failed") & (whole["value"] > 0)]
    for label, rows in lost.groupby("method", sort=False):
        worst = rows.sort_values("value", ascending=False).iloc[0]
        yield (
            f"{label}: inference failed on fits with estimates in {plural(len(rows), 'condition')}, at most at a rate of "
            f"{_at(material, worst)}."
        )
    yield from _untested(material)


def _untested(material: Material) -> Iterator[str]:
    """Replicates without a test or interval, with the bounds of what they could have said."""
    whole = material.whole
    rows = whole[whole["measure"].isin(["power", "cover"]) & (whole["missing"].fillna(0) > 0)]
    for (label, measure), some in rows.groupby(["method", "measure"], sort=False):
        row = some.loc[some["missing"].astype(int).idxmax()]
        what = "tests" if measure == "power" else "intervals"
        yield (
            f"{label}: {int(some['missing'].sum()):,} {what} are missing, in {len(some)} of its rates ({levels_text(list(some['estimand'].unique()))}); "
            f"at most {int(row['missing']):,} in one: {row['estimand']}, {_at(material, row)}. Counted as 0 and as 1 they bound "
            f"it by {row['bound_lower']:.4g} and {row['bound_upper']:.4g}."
        )
