"""Replicate rows of a method: its fits and what each rule of inference says of them, as columns by name.

One rule: `se.<term>`, `df.<term>`. Several rules share the estimates, and their columns end in "/<rule>"; a standard error that
is the model's own is stored once, without an ending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.inference import Hypotheses, Inference
from ..fit.lmm import Fits, Plan, pairs
from ..fit.status import InferenceStatus, Status
from ..simulate.centres import centres_of
from ..simulate.gram import Draw
from ..spec.contrasts import weights_of
from ..spec.estimand import ICC, RESIDUAL, Estimand
from ..spec.formula import find_term
from ..spec.inference import tested_estimand
from ..spec.model import INTERCEPT, Condition, Contrast, Method
from ..spec.truths import varying_names
from ..spec.uncertain import DrawnTruth, prior_names

__all__ = [
    "Columns",
    "components",
    "count_columns",
    "counted",
    "drawn_columns",
    "every_column",
    "fit_columns",
    "hypotheses_of",
    "inference_columns",
    "study_names",
    "truth_columns",
]

Array = NDArray[np.float64]
#: Columns of replicate rows by name, all of one length; statuses as codes.
Columns = dict[str, NDArray[np.generic]]


def hypotheses_of(method: Method) -> Hypotheses:
    """The coefficients of a method, then its contrasts."""
    fixed = method.formula.fixed
    return Hypotheses.of(len(fixed), [weights_of(contrast, fixed) for contrast in method.contrasts])


def components(plan: Plan) -> list[tuple[str, int]]:
    """The variances and covariances that a method estimates, and where the kernel put them."""
    columns, group = plan.formula.random_columns, plan.formula.group
    named = []
    for k, (a, b) in enumerate(pairs(len(columns))):
        if a == b:
            named.append((Estimand("var", group, (columns[a],)).name, k))
        elif plan.blocks[a] == plan.blocks[b]:
            named.append((Estimand("cov", group, (columns[a], columns[b])).name, k))
    return named


def fit_columns(plan: Plan, names: Sequence[str], fits: Fits, first: int, block_size: int) -> Columns:
    """What the fits of replicates first, first + 1, ... say. names: the fixed effects as the study calls them."""
    replicate = np.arange(first, first + len(fits.status), dtype=np.int64)
    columns: Columns = {
        "block": (replicate // block_size).astype(np.int32),
        "replicate": replicate,
        "status": fits.status.astype(np.int8),
        "singular": fits.status == Status.singular,
        "iterations": fits.iterations.astype(np.int16),
        "deviance": fits.deviance,
    }
    for i, name in enumerate(names):
        columns[f"estimate.{name}"] = fits.beta[:, i]
    for name, k in components(plan):
        columns[f"estimate.{name}"] = fits.varcomp[:, k]
    columns[f"estimate.{RESIDUAL.name}"] = fits.sigma2
    return columns


def inference_columns(
    method: Method, names: Sequence[str], fits: Fits, found: Mapping[str, Inference], variances: Array | None
) -> Columns:
    """What the rules say of fixed effects and contrasts. variances (R, k(k+1)/2): see `inference.variance_covariance`, needed for
    standardised contrasts."""
    columns: Columns = {}
    p = len(names)
    for rule, suffix in zip(method.df, method.suffixes, strict=True):
        inference = found[rule]
        failed = np.zeros(len(fits.status), dtype=bool)
        own = suffix if rule == "kenward-roger" else ""
        for i, name in enumerate(names):
            se = inference.se(np.eye(p)[i])
            df = np.where(np.isfinite(se), inference.df[:, i], np.nan)
            columns[f"se.{name}{own}"], columns[f"df.{name}{suffix}"] = se, df
            failed |= np.isnan(df)
        for h, contrast in enumerate(method.contrasts, start=p):
            made = _contrast_columns(contrast, h, method, fits, inference, variances)
            for kind, values in made.items():
                place = "" if kind == "estimate" else own if kind == "se" else suffix
                columns[f"{kind}.{contrast.name}{place}"] = values
            failed |= np.isnan(made["p" if contrast.joint else "df"])
        status = np.where(failed, InferenceStatus.no_df, InferenceStatus.ok)
        status[np.isnan(fits.sigma2)] = InferenceStatus.no_fit
        columns[f"inference{suffix}"] = status.astype(np.int8)
    return columns


def _contrast_columns(
    contrast: Contrast, h: int, method: Method, fits: Fits, inference: Inference, variances: Array | None
) -> dict[str, Array]:
    weights = weights_of(contrast, method.formula.fixed)
    if contrast.joint:
        return {"p": inference.joint_p(h, weights, fits.beta)}
    estimate, se = fits.beta @ weights[0], inference.se(weights[0])
    if contrast.standardise is not None:
        assert variances is not None
        estimate, se = _standardised(estimate, se, contrast, method, fits, variances)
    return {"estimate": estimate, "se": se, "df": np.where(np.isfinite(se), inference.df[:, h], np.nan)}


def _standardised(
    estimate: Array, se: Array, contrast: Contrast, method: Method, fits: Fits, variances: Array
) -> tuple[Array, Array]:
    """d = estimate / s and its standard error by the delta method, s2 taken as independent of the estimate (it is, for large
    samples): sqrt(se^2 / s2 + d^2 Var(s2) / (4 s2^2))."""
    k = fits.varcomp.shape[1] + 1
    packed = {place: i for i, place in enumerate(pairs(k))}
    variance, spread = fits.sigma2, variances[:, packed[k - 1, k - 1]]
    if contrast.standardise == "total":
        column = method.formula.random_columns.index(INTERCEPT)
        place = pairs(len(method.formula.random_columns)).index((column, column))
        variance = variance + fits.varcomp[:, place]
        spread = spread + variances[:, packed[place, place]] + 2 * variances[:, packed[place, k - 1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        d = estimate / np.sqrt(variance)
        return d, np.sqrt(se**2 / variance + d**2 * spread / (4 * variance**2))


def every_column(estimands: Mapping[str, Estimand], methods: Sequence[Method]) -> list[str]:
    """Every column of the study after `deviance`, in the order of the estimands: estimates, then what each rule makes."""
    known = [each for each in estimands.values() if not each.derived and each.kind != "test"]
    tested = {tested_estimand(method).name for method in methods if method.tests_ratio}
    fixed = [each.name for each in known if each.kind == "fixed"]
    variances = [each.name for each in known if each.kind in ("var", "cov")]
    correlations = [each.of("cor").name for each in known if each.kind == "cov"]
    wald = any((method.variance_intervals or "").startswith("wald") for method in methods)
    ends = [*fixed] * any(method.intervals != "t" for method in methods)
    ends += [*variances, *correlations] * any(method.variance_intervals is not None for method in methods)
    ends += [ICC.name] * any(method.variance_intervals == "bootstrap" for method in methods)
    suffixes = list(dict.fromkeys(suffix for method in methods for suffix in method.suffixes))
    joint = {c.name for method in methods for c in method.contrasts if c.joint}
    contrasts = [each.name for each in known if each.kind == "contrast"]
    single = [*fixed, *(name for name in contrasts if name not in joint)]
    errors = ["", *(s for s in suffixes if s == "/kenward-roger")]
    return [
        *(f"estimate.{each.name}" for each in known if each.name not in joint),
        *(f"se.{name}{suffix}" for name in single for suffix in errors),
        *(f"se.{name}" for name in [*variances, *correlations] if wald),
        *(f"df.{name}{suffix}" for name in single for suffix in suffixes),
        *(f"p.{name}{suffix}" for name in contrasts if name in joint for suffix in suffixes),
        *(f"p.{name}" for name in sorted(tested)),
        *(f"{end}.{name}" for name in ends for end in ("lower", "upper")),
        *(f"inference{suffix}" for suffix in suffixes),
        *(["selected"] if any(method.select is not None for method in methods) else []),
        *(["message", "warnings"] if any(method.keeps_messages for method in methods) else []),
    ]


def truth_columns(truths: DrawnTruth, varying: Sequence[str], values: Mapping[str, Any]) -> Columns:
    """What each replicate's truth is: `prior.<axis>`, the values drawn, and `true.<estimand>` of those that they change.

    values: the true values, of a method or shared by all (`truths.TrueValues`)."""
    shape = np.shape(next(iter(truths.values.values())))
    columns: Columns = {f"prior.{name}": drawn for name, drawn in truths.values.items()}
    return columns | {f"true.{name}": np.broadcast_to(values[name], shape) for name in varying}


def count_columns(draw: Draw) -> Columns:
    """What each replicate of a block has: `rows` and `clusters`, those with rows."""
    sizes = np.broadcast_to(draw.dd[:, 0], draw.ee.shape)
    return {"rows": np.rint(sizes.sum(axis=0)).astype(np.int32), "clusters": (sizes > 0.5).sum(axis=0, dtype=np.int32)}


def counted(conditions: Iterable[Condition]) -> list[str]:
    """The columns of `count_columns`, where replicates of some condition can differ in them."""
    differ = any(condition.layout.redrawn or condition.missing is not None for condition in conditions)
    return ["rows", "clusters"] if differ else []


def drawn_columns(conditions: Iterable[Condition], methods: Sequence[Method]) -> list[str]:
    """The columns of `truth_columns` that some condition has."""
    columns: dict[str, None] = {}
    for condition in conditions:
        if condition.priors:
            varying = varying_names(condition, methods, centres_of(condition))
            columns |= dict.fromkeys(f"prior.{name}" for name in prior_names(condition))
            columns |= dict.fromkeys(f"true.{name}" for name in varying)
    return sorted(columns)


def study_names(fixed: Sequence[str], formula_fixed: Sequence[str]) -> list[str]:
    """A method's fixed effects under the names that the truth gives them."""
    return [find_term(fixed, term) or term for term in formula_fixed]
