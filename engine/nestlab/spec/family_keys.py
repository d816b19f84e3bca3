"""The keys of a study file that speak of the family of its outcome, and those that only Gaussian outcomes have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .axes import Setting
from .family import GAUSSIAN, Family
from .methods import ESTIMATORS, estimator_of
from .model import INTERCEPT, Effect, Formula
from .problems import Problems
from .tables import MethodTable, TruthTable

if TYPE_CHECKING:
    from .study import StudyFile

__all__ = ["as_analysed", "check_axes", "check_family", "check_outcomes", "outcome_values", "read_family"]

_OURS = "is for Gaussian outcomes; remove it, or truth.family"
#: Keys of [truth] with the families that have them.
_NEEDS = {"trials": ("binomial",), "exposure": ("poisson",), "baseline": ("binomial", "poisson")}
#: Those whose value is a column of the data that people are shown.
_COLUMNS = {"binomial": "trials", "poisson": "exposure"}
_INTERCEPT = f"truth.fixed.{INTERCEPT}"
_BESIDE = f"must not stand beside {_INTERCEPT}, which it sets; remove one of the two"


def read_family(truth: TruthTable, problems: Problems) -> Family:
    """The family and the link of the outcome; adds to `problems` what does not go with them."""
    try:
        family = Family.named(truth.family, truth.link)
    except ValueError:
        problems.add_value(
            "truth.link", truth.link, f"is for binomial outcomes, and the outcome is {truth.family}; remove it"
        )
        family = Family.named(truth.family)
    for word, families in _NEEDS.items():
        value = getattr(truth, word)
        if value is not None and family.name not in families:
            problems.add_number(f"truth.{word}", value, _needs(families))
    return family


def _needs(families: Iterable[str]) -> str:
    wanted = " or ".join(f'"{name}"' for name in families)
    return f"needs truth.family = {wanted}; add it, or remove this"


def outcome_values(truth: TruthTable, family: Family) -> dict[str, Any]:
    """The flat values of an outcome that is not Gaussian. The residual variance is that of the latent error, 1 for counts."""
    flat: dict[str, Any] = {"truth.residual_variance": 1.0 if family.counts else family.latent_variance}
    flat |= {f"truth.{word}": value for word in ("trials", "exposure") if (value := getattr(truth, word)) is not None}
    if truth.baseline is not None:
        flat[_INTERCEPT] = Effect("baseline", truth.baseline)
    return flat


def check_family(study: StudyFile, formula: Formula, problems: Problems) -> None:
    """Add to `problems` what a study file says that only Gaussian outcomes have."""
    truth = study.truth
    for word in ("residual_variance", "residual_sd"):
        if getattr(truth, word) is not None:
            problems.add_number(f"truth.{word}", getattr(truth, word), _OURS)
    for word in ("errors", "outcome"):
        if getattr(truth, word) is not None:
            problems.add(f"truth.{word}", _OURS)
    if truth.baseline is not None and truth.fixed.get(INTERCEPT) is not None:
        problems.add_number("truth.baseline", truth.baseline, _BESIDE)
    elif truth.baseline is not None and INTERCEPT not in formula.fixed:
        problems.add_number("truth.baseline", truth.baseline, f"needs an intercept, unlike {formula.text}; add 1 +")
    column = _COLUMNS[formula.family.name]
    if column in (*study.predictors, *formula.groups, formula.response):
        text = (
            f"must not name a variable {column}, which is the name of a column that the data have beside it; rename it"
        )
        problems.add_value("truth.formula", formula.text, text)
    if formula.factors:
        text = "must be gaussian with several grouping factors; remove it, or [design.factors]"
        problems.add_value("truth.family", truth.family, text)
    for contrast in study.contrast:
        if contrast.standardise is not None:
            problems.add_value(f"contrast.{contrast.name}.standardise", contrast.standardise, _OURS)


def check_axes(family: Family, settings: Mapping[str, Setting], given: Mapping[str, Any], problems: Problems) -> None:
    """Add to `problems` the axes and priors that the family of the outcome has not. given: the flat values of the file."""
    residual = "truth.residual_variance"
    for name, found in settings.items():
        families = _NEEDS.get(found.name.removeprefix("truth."), ())
        if families and family.name not in families:
            problems.add(f"grid.{name}", _needs(families))
        elif family.gaussian:
            continue
        elif found.name == "truth.baseline" and not isinstance(given.get(_INTERCEPT, Effect("baseline", 1)), Effect):
            problems.add(f"grid.{name}", _BESIDE)
        elif found.name == _INTERCEPT and isinstance(given.get(_INTERCEPT), Effect):
            text = "must not stand beside truth.baseline, which sets it; remove one of the two"
            problems.add(f"grid.{name}", text)
        elif residual in found.paths or found.name.startswith(("truth.errors", "truth.outcome")):
            problems.add(f"grid.{name}", _OURS)
        elif residual in found.reads and family.counts:
            text = "needs a residual variance, which counts have not; give the variance of the random intercept"
            problems.add(f"grid.{name}", text)


def as_analysed(table: MethodTable, family: Family) -> MethodTable:
    """A method's table with the estimator that it means where it names none."""
    if family == GAUSSIAN or "estimator" in table.model_fields_set:
        return table
    return table.model_copy(update={"estimator": "glmm"})


def check_outcomes(key: str, table: MethodTable, family: Family, problems: Problems) -> None:
    """Refuse an estimator that is not for the family of the outcome."""
    if family.name in estimator_of(table).outcomes:
        return
    if family.gaussian:
        families = " or ".join(f'"{name}"' for name in estimator_of(table).outcomes)
        text = f'is for other outcomes than Gaussian ones; write "lmm", or add family = {families} to [truth]'
    else:
        for_it = " or ".join(f'"{row.name}"' for row in ESTIMATORS.values() if family.name in row.outcomes)
        text = f"is not for {family.name} outcomes; write {for_it}"
    problems.add_value(f"{key}.estimator", table.estimator, text)
