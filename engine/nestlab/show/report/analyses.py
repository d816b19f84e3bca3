"""The methods of a study in words: formula, criterion, tolerances, degrees of freedom, tests, intervals, alpha."""

from __future__ import annotations

from collections.abc import Iterator

from ...fit.methods import tolerances
from ...spec.formula import formula_text
from ...spec.methods import estimator_of
from ...spec.model import Contrast, Method
from .material import Material, Paragraph, ReportTable, Section, plural, value_text

__all__ = ["methods_section"]

_RULES = {
    "z": "z (infinite df)",
    "residual": "residual df (rows - fixed effects)",
    "between-within": "between-within df",
    "satterthwaite": "Satterthwaite's df, as lmerTest computes them",
    "kenward-roger": "Kenward and Roger's covariance and df, as pbkrtest computes them",
    "clusters": "clusters - 1",
    "bell-mccaffrey": "Bell and McCaffrey's df (Satterthwaite's under the working model), as clubSandwich computes them",
}
_ROBUST = {
    "CR0": "without a correction",
    "CR1": "times J / (J - 1) for J clusters",
    "CR1S": "times J (N - 1) / ((J - 1) (N - p)) for J clusters, N rows and p fixed effects",
    "CR2": "bias-reduced (Bell and McCaffrey 2002; Pustejovsky and Tipton 2018)",
}
_INTERVALS = {
    "profile": "profile likelihood (of the ML deviance)",
    "profile-reml": "profile of the restricted deviance",
    "bootstrap": "parametric bootstrap, percentiles",
    "wald": "Wald, from the expected information",
    "wald-log": "Wald on the log scale (Fisher's z of correlations), from the expected information",
}


def methods_section(material: Material) -> Section:
    """What each method does."""
    blocks = [ReportTable(f"Method {m.name}", ("item", "value"), tuple(_items(m))) for m in material.methods]
    return Section("Methods", (*blocks, Paragraph(_tolerances(material))))


def _items(method: Method) -> Iterator[tuple[str, str]]:
    yield "formula", formula_text(method.formula)
    row = estimator_of(method)
    said = dict(row.words(method))
    yield "estimator", said.pop("estimator")
    if method.robust is not None:
        yield "standard errors", f"{method.robust}, cluster-robust, {_ROBUST[method.robust]}"
    if "standard errors" in said:
        yield "standard errors", said.pop("standard errors")
    if len(method.df) > 1:
        yield "in the summary", f"one fit, {plural(len(method.df), 'rule')}: {', '.join(method.labels)}"
    rules = "; ".join(_RULES.get(rule, rule) for rule in method.df)
    df = said.pop("degrees of freedom", rules)
    yield from said.items()
    yield "degrees of freedom", df
    if "satterthwaite" in method.df:
        at = (
            "as lmerTest gives them"
            if method.singular_df == "lmertest"
            else "those of the model without what vanished (refit)"
        )
        yield "df at a singular fit", at
    level = f"level alpha = {method.alpha:g}"
    yield "tests", f"two-sided t tests (z where df are infinite) of every fixed effect against 0, {level}"
    if method.compare is not None:
        reference = {
            "asymptotic": "chi-square, or its mixture where a variance is tested at 0",
            "chisq": "chi-square, also where a variance is tested at 0 (conservative there)",
            "exact": f"exact restricted distribution (Crainiceanu and Ruppert 2004), {method.draws:,} draws",
            "bootstrap": f"parametric bootstrap, {method.draws:,} draws",
        }[method.reference]
        if method.select is None:
            yield "likelihood ratio test", f"against {formula_text(method.compare)}; reference: {reference}; {level}"
        else:
            by = f"a likelihood ratio test at level {method.select_alpha:g} rejects the smaller one (reference: {reference})"
            kept = by if method.select == "lrt" else "its AIC is smaller"
            text = f"this model is reported where {kept}; otherwise {formula_text(method.compare)}"
            if method.smaller:
                models = "; ".join(map(formula_text, (method.formula, method.compare, *method.smaller)))
                text = f"the model of least AIC among {models}"
            if method.smaller and method.select == "lrt":
                text = f"backward from the first of {models}: a model is reported where {by}, else the next is tried"
            yield "model selection", text + ". What is reported takes the chosen model as given."
    for contrast in method.contrasts:
        yield f"contrast {contrast.name}", f"{_contrast(contrast)}; {level}"
    share = f"{100 * (1 - method.alpha):g} %"
    t = "estimate -/+ t quantile x standard error, by the rule of df"
    yield f"{share} intervals of fixed effects", t if method.intervals == "t" else _INTERVALS[method.intervals]
    if row.residual:
        yield f"{share} intervals of variances", _INTERVALS.get(method.variance_intervals or "", "none")
    if "bootstrap" in (method.intervals, method.variance_intervals):
        yield "draws of the bootstrap", f"{method.draws:,}"


def _contrast(contrast: Contrast) -> str:
    if contrast.joint:
        return "joint F test"
    weights = " + ".join(f"{value_text(weight)} {term}" for term, weight in contrast.weights[0])
    if contrast.equivalence is not None:
        low, high = map(value_text, contrast.equivalence)
        return f"{weights}: equivalence within {low} and {high}, by two one-sided tests"
    sides = {"two-sided": "different from", "greater": "greater than", "less": "less than"}[contrast.alternative]
    return f"{weights}: t test, is it {sides} {value_text(contrast.null)}"


def _tolerances(material: Material) -> str:
    return " ".join(filter(None, dict.fromkeys(map(tolerances, material.methods))))
