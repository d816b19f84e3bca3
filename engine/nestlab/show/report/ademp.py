"""What a report of a simulation study must state: aim, data-generating mechanism, estimands, methods, measures (ADEMP), the
number of replications, failures, software (Morris, White & Crowther 2019; Siepe et al. 2024), from the study and the manifest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ...run.observed import observed_line
from ...spec.estimand import Estimand
from ...spec.identity import DERIVED_PATHS
from ...spec.measures import MEASURES
from ...spec.model import INTERCEPT, Contrast, Structure
from ...spec.outcome import UnknownVarianceError
from ...spec.paths import path_line
from ..countables import structure_text
from ..drawn import priors_of
from ..outcome import label_of, outcome_texts
from ..summary import ends_text
from .analyses import methods_section
from .effects import drawn_from
from .failures import failures_section
from .material import Block, Material, Paragraph, ReportTable, Section, largest, levels_text, plural, value_text
from .predictors import missing_text, noise_text, predictor_text
from .provenance import software_section

__all__ = ["ademp"]

#: Rows of a table that stand open; longer ones are folded.
OPEN_ROWS = 16
#: Estimands that the aim names.
MOST_NAMED = 12
#: Effects whose outcome is told.
MOST_COLUMNS = 6


def ademp(material: Material) -> tuple[Section, ...]:
    """The sections of the report's second half, in the order of the acronym."""
    return (
        Section("Aim", tuple(_aim(material))),
        Section("Data-generating mechanism", tuple(_mechanism(material))),
        Section("Estimands", tuple(_estimands(material))),
        methods_section(material),
        Section("Performance measures", tuple(_measures(material))),
        Section("Replications", tuple(_replications(material))),
        failures_section(material),
        software_section(material),
    )


def _aim(material: Material) -> Iterator[Block]:
    if material.study.title:
        yield Paragraph(material.study.title)
    names = ", ".join(material.labels)
    known = material.results.estimands
    wanted = [e for e in material.estimands if known[e].kind not in ("sd", "cov")]
    over = ", ".join(name for name, levels in material.factors.items() if len(levels) > 1)
    shown = ", ".join(wanted[:MOST_NAMED]) + (
        f" and {len(wanted) - MOST_NAMED} more" if len(wanted) > MOST_NAMED else ""
    )
    text = (
        "To measure the bias, the precision, the coverage of intervals, the power and type I error rate of tests, "
        f"and the failures of {names} for {shown}"
    )
    yield Paragraph(f"{text}, over {over}." if over else f"{text}, in one condition.")


# -- data ------------------------------------------------------------------------------------------------------------------


def _mechanism(material: Material) -> Iterator[Block]:
    spec = material.conditions[0].spec
    formula = str(spec.get("truth.formula", ""))
    structure = material.study.resolve().conditions[0].structure
    rows = (
        "Row i of cluster j is y_ij = x_ij' beta + z_ij' u_j + e_ij with random effects u_j ~ N(0, G), one draw a cluster, and "
        "errors e_ij ~ N(0, sigma^2)"
    )
    if structure is not None:
        rows = (
            "Row i is y_i = x_i' beta + sum over grouping factors f of z_fi' u_f + e_i, u_f being that of the row's level of f, "
            "with random effects u_f ~ N(0, G_f), one draw per level, and errors e_i ~ N(0, sigma^2)"
        )
    family = material.study.resolve().conditions[0].truth.formula.family
    if not family.gaussian:
        mean = "the mean of y_ij per unit of exposure" if family.counts else "the probability of an event"
        rows = (
            f"Row i of cluster j is {family.name} with {family.link}({mean}) = x_ij' beta + z_ij' u_j, and random effects "
            "u_j ~ N(0, G), one draw a cluster"
        )
    yield Paragraph(f"Model: {formula}. {rows}, all independent, unless a value below says otherwise.")
    if structure is not None:
        yield Paragraph(f"Design of the first condition: {structure_text(structure)}. {_places(structure)}")
    predictors = material.study.resolve().conditions[0].predictors
    if predictors:
        yield Paragraph(
            "Predictors, at their values in the first condition: "
            + "; ".join(predictor_text(p, several=structure is not None) for p in predictors)
            + "."
        )
    first = material.study.resolve().conditions[0]
    if noise := noise_text(first.truth):
        yield Paragraph(f"In the first condition {noise}.")
    if missing := missing_text(first.missing):
        yield Paragraph(f"Missing in the first condition: {missing}. Analyses have the rows that are left.")
    yield Paragraph(f"D{path_line(material.study.resolve().conditions)[1:]}.")
    if line := observed_line(material.results.observed()):
        yield Paragraph(f"R{line[1:]}.")
    yield from _priors(material)
    yield from _stated(material)
    yield from _outcome(material)
    yield from _factors(material)
    yield _parameters(material)
    yield _conditions(material)


def _places(structure: Structure) -> str:
    """Which grouping factors are nested, and which are crossed."""
    nested = [f"every {each.name} lies in one {each.within}" for each in structure.groupings if each.within]
    joined = dict(structure.joined)
    tops = [each.name for each in structure.groupings if not each.within and each.name not in joined]
    crossed = [f"levels of {' and '.join(tops)} are crossed"] if len(tops) > 1 else []
    if structure.listed:
        crossed = ["which rows have which levels is given by a file"]
    drawn = [f"rows draw their {name}, given their {each.given}" for name, each in joined.items()]
    text = "; ".join([*crossed, *nested, *drawn])
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _priors(material: Material) -> Iterator[Block]:
    drawn: dict[str, dict[str, None]] = {}
    for stored in material.conditions:
        for axis, text in priors_of(stored).items():
            drawn.setdefault(axis, {})[text] = None
    if drawn:
        each = "; ".join(f"{axis} from {' or '.join(texts)}" for axis, texts in drawn.items())
        yield Paragraph(
            f"Each replicate draws its own truth: {each}. The error of an estimate is about that truth, and measures are "
            "averages over the prior; power is then the assurance. The true values below are those at the means of the priors."
        )


def _stated(material: Material) -> Iterator[Block]:
    given: dict[str, dict[str, None]] = {}
    for stored in material.conditions:
        for term, text in stored.stated.items():
            if isinstance(text, str):
                given.setdefault(term, {})[text] = None
    if given:
        each = "; ".join(f"{term}: {' or '.join(texts)}" for term, texts in given.items())
        kinds = {text.partition(" = ")[0] for texts in given.values() for text in texts}
        about = [text for kind, text in _UNITS.items() if kind in kinds]
        told = "Fixed effects in the units in which they are given, from which each condition's coefficients follow"
        yield Paragraph(f"{told}: {each}. {' '.join(about)}".rstrip())


#: What the units of effects mean.
_UNITS = {
    "d": "d divides by the square root of the random intercept's and the residual variance (total), of the residual variance, "
    "or of the outcome's own variance within arms.",
    "r2": "r2 is the share of the outcome's variance at the term's level that the term explains (Rights & Sterba 2019), or "
    "within arms that all covariates explain together.",
    "baseline": "The baseline is the probability, or rate, where all predictors and random effects are 0.",
    "difference": "A difference is what one unit adds to the baseline.",
}


def _outcome(material: Material) -> Iterator[Block]:
    """What the outcome looks like, a column an effect."""
    conditions, contrasts = material.study.conditions(), material.results.contrasts
    fixed = [term for term in conditions[0].truth.formula.fixed if term != INTERCEPT]
    named = [*fixed, *(c.name for c in contrasts if not c.joint)]
    effects = material.results.interest.in_order(named)[:MOST_COLUMNS]
    texts: dict[str, dict[str, str]] = {}
    head = "What the outcome looks like"
    for effect in effects:
        try:
            texts[effect] = outcome_texts(conditions, effect, contrasts)
        except UnknownVarianceError as unknown:
            yield Paragraph(f"{head} beside {effect} is not known, as {unknown}.")
    if texts:
        rows = tuple(
            (label_of(name), *(text.get(name, "none") for text in texts.values()))
            for name in dict.fromkeys(name for text in texts.values() for name in text)
        )
        yield ReportTable(f"{head}, given the predictors of an effect", ("", *texts), rows)
        if conditions[0].structure is not None or not conditions[0].truth.formula.family.gaussian:
            return
        yield Paragraph(
            "Variance and unconditional icc are the outcome's own within arms, before any other predictor is taken into "
            "account; R2 is what the other predictors explain of them. The icc given all predictors is that of the model's "
            "random intercept."
        )


def _factors(material: Material) -> Iterator[Block]:
    factors, count = material.factors, len(material.conditions)
    if not factors:
        yield Paragraph("The study has no grid: one condition.")
        return
    rows = tuple((name, str(len(levels)), levels_text(levels)) for name, levels in factors.items())
    yield ReportTable("Factors and their levels", ("factor", "levels", "values"), rows)
    product = math.prod(len(levels) for levels in factors.values())
    crossed = " x ".join(str(len(levels)) for levels in factors.values())
    if product == count:
        yield Paragraph(f"The factors are fully crossed: {crossed} = {plural(count, 'condition')}.")
    else:
        yield Paragraph(
            f"The combinations are listed (grid.cases), not fully crossed: {plural(count, 'condition')} of {crossed} "
            f"= {product:,} possible ones."
        )


def _parameters(material: Material) -> ReportTable:
    """Every value of the conditions: one value, or that it varies. Whatever a condition's spec holds is printed."""
    keys = dict.fromkeys(key for row in material.conditions for key in row.spec)
    hidden = {"seed", "truth.formula", *DERIVED_PATHS}
    rows = []
    for key in keys:
        if key in hidden:
            continue
        texts = dict.fromkeys(value_text(row.spec.get(key)) for row in material.conditions)
        if len(texts) == 1:
            rows.append((key, next(iter(texts))))
        else:
            values = sorted({row.spec[key] for row in material.conditions}) if _numbers(material, key) else list(texts)
            rows.append((key, f"varies: {levels_text(values)}"))
    return ReportTable(
        "Every parameter of the data-generating model", ("parameter", "value"), tuple(rows), len(rows) > OPEN_ROWS
    )


def _numbers(material: Material, key: str) -> bool:
    return all(isinstance(row.spec.get(key), int | float) for row in material.conditions)


def _conditions(material: Material) -> ReportTable:
    """A row a condition: factors, replicates, true values."""
    factors, estimands = list(material.factors), [e for e, values in material.estimands.items() if len(values) != 1]
    whole = material.whole
    done = (
        {}
        if whole.empty
        else whole[whole["measure"] == "failed"].groupby("condition")["n"].agg(["min", "max"]).to_dict("index")
    )
    rows = []
    for row in material.conditions:
        ends = done.get(row.number, {"min": 0, "max": 0})
        n = f"{ends['min']:,}" if ends["min"] == ends["max"] else f"{ends['min']:,} to {ends['max']:,}"
        cells = [str(row.number), *(value_text(row.factors.get(f)) for f in factors), n]
        rows.append((*cells, *(value_text(row.truth.get(e)) for e in estimands)))
    header = ("condition", *factors, "replicates", *(f"true {e}" for e in estimands))
    caption = f"The {plural(len(rows), 'condition')}, with the true values that vary"
    return ReportTable(caption, header, tuple(rows), len(rows) > OPEN_ROWS)


def _own_truths(material: Material) -> Iterator[Block]:
    """What methods with other parameters than the truth are held against."""
    table = material.results.truths()
    own = table[table["meaning"] != ""]
    rows = []
    for (method, estimand, meaning), found in own.groupby(["method", "estimand", "meaning"], sort=False):
        values = levels_text(sorted({float(v) for v in found["value"].dropna()}))
        rows.append((str(method), str(estimand), str(meaning), values or f"not known: {found['unknown'].iloc[0]}"))
    if rows:
        header = ("method", "estimand", "what it is in the truth's parameters", "true value")
        yield ReportTable("True values of methods that have other parameters than the truth", header, tuple(rows))


# -- estimands, measures ---------------------------------------------------------------------------------------------------


def _estimands(material: Material) -> Iterator[Block]:
    contrasts = {c.name: c for method in material.methods for c in method.contrasts}
    known, rows = material.results.estimands, []
    for name, values in material.estimands.items():
        true = (
            levels_text(values)
            if values
            else "tested only"
            if known[name].kind in ("contrast", "test")
            else "no single value"
        )
        if any(drawn_from(material, stored, name) for stored in material.conditions):
            true += "; the mean, where it is drawn from a prior"
        rows.append((name, _meaning(known[name], contrasts), true))
    yield ReportTable("Estimands and their true values", ("estimand", "what it is", "true value"), tuple(rows))
    interest = material.results.interest
    first = interest.among(interest.effects)
    if others := interest.others(first, interest.effects):
        yield Paragraph(f"Findings and plots show first: {interest.told(first, others)}.")
    yield from _own_truths(material)
    yield Paragraph(
        "Correlations are undefined where a variance is 0, of the truth or of an estimate; such replicates have no "
        "result for them and are not in their n."
    )


def _meaning(estimand: Estimand, contrasts: Mapping[str, Contrast]) -> str:
    if estimand.kind == "contrast":
        contrast = contrasts[estimand.name]
        rows = [" + ".join(f"{value_text(w)} {term}" for term, w in row) for row in contrast.weights]
        scale = {None: "", "residual": ", over the residual sd", "total": ", over the total sd"}[contrast.standardise]
        return f"joint hypothesis: {' = 0, '.join(rows)} = 0" if len(rows) > 1 else f"contrast {rows[0]}{scale}"
    if estimand.kind == "icc" and estimand.group:
        return f"intercept variance of {estimand.group} / (all intercept variances + residual variance); derived"
    if estimand.kind == "icc":
        return "intercept variance / (intercept variance + residual variance), at 0 of predictors with a random slope; derived"
    if estimand.effect:
        return "joint test of all of these" if estimand.kind == "test" else "fixed effect"
    kinds = {"var": "variance", "sd": "standard deviation", "cov": "covariance", "cor": "correlation"}
    of = f"of random effects: {' and '.join(estimand.columns)} by {estimand.group}"
    what = "of the errors" if estimand.residual else of
    return f"{kinds[estimand.kind]} {what}" + ("; derived" if estimand.derived else "")


_MCSE_NOTES = {
    "distribution-free": "Monte Carlo standard errors (MCSE) assume no distribution of the estimates.",
    "morris": "Monte Carlo standard errors (MCSE) are those of Morris et al. (2019), Table 6, which take estimates as normal.",
}

#: `measure.paired`.
_DIFFERENCES = (
    "Differences between methods are taken on the replicates where both have a result, and their MCSEs use that pairing: of "
    "proportions sqrt( b + c - (b - c)^2 / N ) / N, where b replicates are hits of the one method alone and c of the other alone "
    "(McNemar); of other measures by the differences of the two influences. Where b + c = 0 that MCSE is 0, and Tango's (1998) "
    "95 % limits stand beside it. nestlab compare prints those of all measures."
)


def _measures(material: Material) -> Iterator[Block]:
    kind = material.study.mcse
    present = set(material.summary["measure"]) if len(material.summary) else set()
    rows = tuple((name, row.formula, row.mcse_text(kind)) for name, row in MEASURES.items() if name in present)
    yield ReportTable("Measures and their Monte Carlo standard errors", ("measure", "definition", "MCSE"), rows)
    yield Paragraph(
        f"{_MCSE_NOTES[kind]} est and se are a replicate's estimate and standard error, p a proportion, N the number "
        "of replicates with a result, the n beside each measure; whatever has no result is in no measure, and n "
        "shows it. Of proportions the table also has Wilson's 95 % limits, since their MCSE is 0 at 0 and 1. Of "
        "power and coverage it has the number of replicates without a result and the bounds that count those as 0 "
        "and as 1. Subsets: all replicates with a result; converged fits only; those on which all methods have a "
        "result (common)."
    )
    if material.results.unavailable:
        listed = "; ".join(f"{measure} ({reason})" for measure, reason in material.results.unavailable.items())
        yield Paragraph(
            "Sums of the replicates were kept, not the replicates. The measures above follow from them; not available are "
            f"{listed}, differences between methods by their pairing, and pictures of single replicates."
        )
    elif len(material.labels) > 1:
        yield Paragraph(_DIFFERENCES)


def _replications(material: Material) -> Iterator[Block]:
    low, high = material.replications()
    asked = material.asked()
    differ = "" if low == high else " Conditions differ in their number of replicates: the column n tells."
    yield Paragraph(
        f"Replications a condition: {ends_text(*asked)} were asked for; stored are {ends_text(low, high)} a condition and "
        f"method.{differ}"
    )
    reason = material.manifest.get("replications_reason")
    yield Paragraph(
        (
            f"Why that many: {reason}. "
            if reason
            else "Why that many: the study file gives no reason; this is what the number buys. "
        )
        + _precision_bought(low or asked[0])
    )
    largest = _largest_mcse(material)
    if largest:
        yield ReportTable("The largest MCSE of each measure", ("measure", "largest MCSE", "n", "of"), tuple(largest))


def _precision_bought(n: int) -> str:
    def mcse(p: float) -> str:
        return f"{math.sqrt(p * (1 - p) / n):.2g}"

    return (
        f"With {n:,} replicates the MCSE of a proportion is at most {mcse(0.5)}; it is {mcse(0.8)} at a power of "
        f"0.8, {mcse(0.95)} at a coverage of 0.95 or a type I error rate of 0.05, and the MCSE of a bias is "
        f"{1 / math.sqrt(n):.2g} of the estimate's standard deviation."
    )


def _largest_mcse(material: Material) -> Iterator[tuple[str, ...]]:
    whole = material.whole
    if whole.empty:
        return
    known = {name: row for name, row in MEASURES.items() if row.share or (row.percent and row.needs != "pair")}
    rows = whole[whole["measure"].isin(known) & whole["mcse"].notna()]
    for measure in [m for m in known if m in set(rows["measure"])]:
        some = rows[rows["measure"] == measure]
        row = largest(some, some["mcse"])
        unit = " %" if known[measure].percent else ""
        where = ", ".join(part for part in (row["estimand"], row["method"], material.place(row)) if part)
        yield measure, f"{row['mcse']:.2g}{unit}", f"{int(row['n']):,}", where
