"""What the outcome looks like, for people: its variance within arms, its intraclass correlation, R2, and an effect in all units.

Every command and the report say it by the functions here, of a study's conditions and of the effect that is looked at. With
several grouping factors the outcome's own variance is not known here: what is said is given all predictors. Of binary outcomes
and counts it is the mean in each arm, the ratios of arms and iccs, within clusters and over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..spec.family import Family
from ..spec.formula import find_term
from ..spec.model import INTERCEPT, Condition, Contrast
from ..spec.outcome import UnknownVarianceError, arms_of, linear_is_normal, marginal_means, outcome, predictors_of
from ..spec.uncertain import prior_names

__all__ = ["LABELS", "label_of", "outcome_lines", "outcome_numbers", "outcome_texts"]

#: What is said, by its name in solve.json.
LABELS = {
    "variance": "variance",
    "sd": "standard deviation",
    "icc": "icc, unconditional",
    "icc_conditional": "icc, conditional: given all predictors",
    "r2_within": "R2 of the other predictors within clusters",
    "r2_between": "R2 of the other predictors between clusters",
    "effect": "effect, raw",
    "d_outcome": "effect in outcome sds",
    "d_total": "effect in total sds (intercept and residual)",
    "d_residual": "effect in residual sds",
}
#: What is said of an arm or a predictor, of outcomes that are not Gaussian.
_LABELS_AT = {
    "icc_latent": "icc, on the latent scale",
    "typical": "probability or rate at {}, in a typical cluster",
    "marginal": "probability or rate at {}, over all clusters",
    "ratio within": "odds or rate ratio of {}, within clusters",
    "ratio over all": "odds or rate ratio of {}, over all clusters",
    "icc_outcome": "icc at {}, on the outcome's own scale",
}
#: Conditions that are looked at; of more, the first one is.
MOST = 200


def outcome_numbers(condition: Condition, estimand: str, contrasts: Iterable[Contrast] = ()) -> dict[str, float]:
    """The outcome of a condition in the arms of an effect, by the names of LABELS; nan where something has no value.

    estimand: a fixed effect or a contrast; of any other the outcome in the arms that are allocated, without an effect. Raises
    UnknownVarianceError where it does not follow from the predictors.
    """
    weights, given = _weights(condition, estimand, contrasts), _given(condition, estimand, contrasts)
    fixed = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    effect = sum(weight * fixed[term] for term, weight in weights.items()) if weights else math.nan
    if not condition.truth.formula.family.gaussian:
        return {"effect": effect} | _numbers_of_family(condition, given)
    if condition.structure is not None:
        return _of_several(condition, effect)
    found = outcome(condition, given)
    scales = {"d_outcome": found.variance, "d_total": found.total, "d_residual": found.residual}
    return {
        "variance": found.variance,
        "sd": math.sqrt(found.variance),
        "icc": found.icc,
        "icc_conditional": found.icc_conditional,
        "r2_within": found.r2_within,
        "r2_between": found.r2_between,
        **_in_sds(effect, scales),
    }


def _in_sds(effect: float, scales: Mapping[str, float]) -> dict[str, float]:
    found = {name: effect / math.sqrt(v) if v > 0 else math.nan for name, v in scales.items()}
    return {"effect": effect, **found}


def _of_several(condition: Condition, effect: float) -> dict[str, float]:
    """The share of each grouping factor's intercept in all intercept variances and the residual one, and the effect's units."""
    truth = condition.truth
    intercepts = {
        group: truth.covariance[k][k] for k, (group, column) in enumerate(truth.formula.places) if column == INTERCEPT
    }
    total = sum(intercepts.values()) + truth.residual_variance
    shares = {f"icc:{group}": variance / total for group, variance in intercepts.items()} if total > 0 else {}
    return shares | _in_sds(effect, {"d_total": total if intercepts else 0.0, "d_residual": truth.residual_variance})


def label_of(name: str) -> str:
    """What is said by a name of `outcome_numbers`.

    >>> label_of("sd"), label_of("icc:school")
    ('standard deviation', 'icc of school, given all predictors')
    """
    kind, _, at = name.partition(":")
    return LABELS.get(name) or _LABELS_AT.get(kind, "icc of {}, given all predictors").format(at)


def outcome_texts(conditions: Sequence[Condition], estimand: str, contrasts: Iterable[Contrast] = ()) -> dict[str, str]:
    """`outcome_numbers` of several conditions as text, "0.05 to 0.2" where they differ, without what has no value."""
    every = [outcome_numbers(condition, estimand, contrasts) for condition in _looked_at(conditions)]
    found = {}
    for name in every[0]:
        values = [numbers[name] for numbers in every if not math.isnan(numbers[name])]
        if values:
            found[name] = _range(values)
    return found


def outcome_lines(conditions: Sequence[Condition], estimand: str, contrasts: Iterable[Contrast] = ()) -> list[str]:
    """What the outcome looks like, in a few lines: a headline, and two spaces before each of the others."""
    contrasts = tuple(contrasts)
    family = conditions[0].truth.formula.family
    given = ", ".join(_given(conditions[0], estimand, contrasts))
    head = f"what the outcome looks like{f', given {given}' if given else ''}"
    try:
        text = outcome_texts(conditions, estimand, contrasts)
    except UnknownVarianceError as unknown:
        return [f"{head}: not known, as {unknown}"]
    where = [] if len(_looked_at(conditions)) == len(conditions) else ["in the first condition"]
    where += ["at the means of the priors"] if any(prior_names(condition) for condition in conditions[:MOST]) else []
    if not family.gaussian:
        if not all(
            linear_is_normal(condition, _given(condition, estimand, contrasts)) for condition in _looked_at(conditions)
        ):
            where.append("its linear predictor taken as normal")
        return [f"{', '.join([head, *where])}:", *(f"  {line}" for line in _of_family(text, family))]
    lines = _of_one(text) if conditions[0].structure is None else []
    if shares := [f"{group} {value}" for name, value in text.items() if (group := name.partition(":")[2])]:
        lines.append(f"icc given all predictors: {', '.join(shares)}")
    if "effect" in text:
        sds = [f"{text[f'd_{unit}']} {unit} sd" for unit in ("outcome", "total", "residual") if f"d_{unit}" in text]
        lines += [f"effect of {estimand} {text['effect']} raw", f"  = {' = '.join(sds)}"]
    return [f"{', '.join([head, *where])}:", *(f"  {line}" for line in lines)]


def _numbers_of_family(condition: Condition, given: Sequence[str]) -> dict[str, float]:
    """What a truth of another family means: the mean in each arm, typical and marginal, ratios of arms, iccs on both scales."""
    truth, means = condition.truth, marginal_means(condition, given)
    counts, columns = truth.formula.family.counts, truth.formula.random_columns
    arms = [", ".join(f"{name} = {value:g}" for name, value in each.arm) or "all rows" for each in means]
    found = {f"typical:{arm}": each.typical for arm, each in zip(arms, means, strict=True)}
    found |= {f"marginal:{arm}": each.marginal for arm, each in zip(arms, means, strict=True)}
    first, *others = means
    for each in others if len(first.arm) == 1 else ():
        name = each.arm[0][0]
        for kind, at, base in (("within", each.typical, first.typical), ("over all", each.marginal, first.marginal)):
            found[f"ratio {kind}:{name}"] = at / base if counts else at / (1 - at) / (base / (1 - base))
    if INTERCEPT in columns and not counts:
        variance = truth.covariance[columns.index(INTERCEPT)][columns.index(INTERCEPT)]
        found["icc_latent"] = variance / (variance + truth.residual_variance)
    return found | {f"icc_outcome:{arm}": each.icc for arm, each in zip(arms, means, strict=True)}


def _of_family(text: Mapping[str, str], family: Family) -> list[str]:
    """The lines of an outcome that is not Gaussian."""
    what, ratio = ("rate", "rate ratio") if family.counts else ("probability", "odds ratio")
    lines, iccs = [], [text["icc_latent"] + " on the latent scale"] if "icc_latent" in text else []
    for name, value in text.items():
        kind, _, at = name.partition(":")
        if kind == "typical":
            lines.append(f"{what} at {at}: {value} in a typical cluster, {text[f'marginal:{at}']} over all clusters")
        elif kind == "ratio within":
            lines.append(f"{ratio} of {at}: {value} within clusters, {text[f'ratio over all:{at}']} over all")
        elif kind == "icc_outcome":
            iccs.append(f"{value} at {at}")
    return [*lines, f"icc: {', '.join(iccs)}"]


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value + 0.0:.4g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _of_one(text: Mapping[str, str]) -> list[str]:
    """The lines of one grouping factor alone."""
    lines = [f"variance {text['variance']} (sd {text['sd']})"]
    lines.append(
        f"icc {text['icc']} unconditional" if "icc" in text else "no unconditional icc, as errors are autocorrelated"
    )
    if "icc_conditional" in text:
        lines[-1] += f", {text['icc_conditional']} given all predictors"
    shares = [f"{text[f'r2_{where}']} {where} clusters" for where in ("within", "between") if f"r2_{where}" in text]
    return [*lines, f"R2 of the other predictors: {', '.join(shares)}"]


def _looked_at(conditions: Sequence[Condition]) -> Sequence[Condition]:
    return conditions if len(conditions) <= MOST else conditions[:1]


def _weights(condition: Condition, estimand: str, contrasts: Iterable[Contrast]) -> Mapping[str, float]:
    """The fixed effects that a single one, or a contrast of one row, is made of."""
    if term := find_term(condition.truth.formula.fixed, estimand):
        return {term: 1.0}
    found = next((c for c in contrasts if c.name == estimand and not c.joint), None)
    fixed = condition.truth.formula.fixed
    return dict(found.weights[0]) if found and set(found.terms) <= set(fixed) else {}


def _given(condition: Condition, estimand: str, contrasts: Iterable[Contrast]) -> tuple[str, ...]:
    """The predictors that are held: those of the effect and what is named as arms; without an effect what is allocated."""
    weights = _weights(condition, estimand, contrasts)
    own = [name for term in weights for name in predictors_of(term)]
    return tuple(dict.fromkeys([*own, *condition.arms])) or arms_of(condition)
