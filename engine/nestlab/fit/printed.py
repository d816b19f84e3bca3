"""A fit in the layout of lme4's `print(summary(m))`; with tests, in that of lmerTest's.

Every number is rounded and aligned as R does it, so that the text can be compared line by line with R's.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..spec.model import INTERCEPT
from .hypotheses import two_sided
from .rformat import (
    abbreviate,
    cat_fill,
    format_pvalues,
    format_real,
    matrix_lines,
    named_lines,
    round_to,
    stars,
    zapsmall,
)
from .status import Status

if TYPE_CHECKING:
    from .glmm.single import GeneralisedFit
    from .single import Fit

__all__ = [
    "call_lines", "coefficient_lines", "correlation_lines", "information_lines", "observation_lines", "random_lines",
    "remark_lines", "residual_lines", "summary_text",
]  # fmt: skip

Array = NDArray[np.float64]

WIDTH = 80
DIGITS = 4
TEST_DIGITS = 3
MOST_CORRELATIONS = 12
_METHODS = {"satterthwaite": "Satterthwaite", "kenward-roger": "Kenward-Roger"}
_LEGEND = "0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1"


def summary_text(fit: Fit, *, data: str | None = None) -> str:
    """The fit as lmer prints it. data: what the line "Data:" names; without it there is no such line."""
    parts = [
        _title(fit), call_lines(fit, data), [""], _criterion(fit), [""], residual_lines(fit), [""], random_lines(fit, fit.sigma),
        observation_lines(fit), [""], coefficient_lines(fit), correlation_lines(fit), remark_lines(fit),
    ]  # fmt: skip
    return "\n".join(chain.from_iterable(parts))


def _title(fit: Fit) -> list[str]:
    title = "Linear mixed model fit by " + ("REML" if fit.reml else "maximum likelihood ")
    kind = "lmerMod"
    if fit.df_rule in _METHODS:
        title, kind = f"{title}. t-tests use {_METHODS[fit.df_rule]}'s method", "lmerModLmerTest"
    elif fit.df_rule != "z":
        title += f". t-tests use {fit.df_rule} df"
    if len(title) + 5 + len(kind) <= WIDTH:
        return [f"{title} ['{kind}']"]
    wrapped = textwrap.wrap(title, WIDTH - 3, subsequent_indent="  ")
    return cat_fill([*wrapped, " [", kind, "]"], "")


def call_lines(fit: Fit | GeneralisedFit, data: str | None) -> list[str]:
    """The formula, and the names of what else was given."""
    text = f"Formula: {fit.formula}"
    lines = textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    named = {"   Data": data, "Weights": fit.weights, " Offset": fit.offset}
    return [*lines, *(f"{label}: {name}" for label, name in named.items() if name is not None)]


def _criterion(fit: Fit) -> list[str]:
    if fit.reml:
        return [f"REML criterion at convergence: {format_real([round_to(fit.neg2loglik, 1)])[0]}"]
    return information_lines(fit.neg2loglik, len(fit.beta) + len(fit.theta) + 1, fit.rows)


def information_lines(deviance: float, parameters: int, rows: int) -> list[str]:
    """The line of AIC, BIC, log likelihood, deviance and residual df of a fit by maximum likelihood."""
    table = [deviance + 2 * parameters, deviance + math.log(rows) * parameters, -deviance / 2, deviance]
    residual_df = rows - parameters
    texts = format_real([round_to(v, 1) for v in [*table, residual_df]])
    return named_lines(["AIC", "BIC", "logLik", "deviance", "df.resid"], [*texts[:4], *format_real([residual_df])])


def residual_lines(fit: Fit | GeneralisedFit) -> list[str]:
    """Quartiles of the scaled residuals."""
    quantiles = np.quantile(fit.scaled_residuals, [0, 0.25, 0.5, 0.75, 1]).tolist()
    texts = format_real(zapsmall(quantiles, DIGITS + 1), DIGITS)
    return ["Scaled residuals: ", *named_lines(["Min", "1Q", "Median", "3Q", "Max"], texts)]


def random_lines(fit: Fit | GeneralisedFit, sigma: float | None = None) -> list[str]:
    """Variances, standard deviations and correlations of the random effects; sigma: that of a residual, if there is one."""
    groups: list[str] = []
    names: list[str] = []
    sds: list[float] = []
    correlations: list[list[str]] = []
    widest = max(map(len, fit.random_names))
    for (group, covariance), columns in zip(fit.varcomp.items(), fit.random_names, strict=True):
        groups += [group] + [""] * (len(columns) - 1)
        names += map(_r_name, columns)
        sds += np.sqrt(np.diag(covariance)).tolist()
        correlations += [(row + [""] * widest)[: widest - 1] for row in _lower(covariance, decimals=2)]
    if sigma is not None:
        groups, names, sds = [*groups, "Residual"], [*names, ""], [*sds, sigma]
        correlations.append([""] * (widest - 1))
    variances = format_real([sd**2 for sd in sds], DIGITS)
    rows = zip(groups, names, variances, format_real(sds, DIGITS), strict=True)
    cells = [[*row, *extra] for row, extra in zip(rows, correlations, strict=True)]
    heads = ["Groups", "Name", "Variance", "Std.Dev.", "Corr", *[""] * widest][: 3 + widest]
    return ["Random effects:", *matrix_lines([""] * len(cells), heads, cells)]


def _lower(covariance: Array, decimals: int) -> list[list[str]]:
    """The correlations as R formats them, blank on and above the diagonal."""
    p = len(covariance)
    sd = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / np.outer(sd, sd)
    np.fill_diagonal(correlation, 1.0)
    texts = format_real([round_to(float(v), decimals) for v in correlation.ravel()], nsmall=decimals)
    return [[texts[i * p + k] if k < i else "" for k in range(p)] for i in range(p)]


def observation_lines(fit: Fit | GeneralisedFit) -> list[str]:
    """The numbers of rows and of levels."""
    groups = "; ".join(f"{name}, {levels}" for name, levels in fit.levels.items())
    return cat_fill([f"Number of obs: {fit.rows}, groups: ", groups])


def coefficient_lines(fit: Fit | GeneralisedFit, *, z: bool = False) -> list[str]:
    """The table of fixed effects. z: print z and its p value where the statistic is normal, as glmer; lmer prints t alone."""
    names = list(map(_r_name, fit.beta))
    estimate, se = np.array(list(fit.beta.values())), np.array(list(fit.se.values()))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = estimate / se
    normal = fit.df_rule == "z"
    if normal and not z:
        columns = _coefficients([estimate, se], t)
        cells = [list(row) for row in zip(*columns, strict=True)]
        return ["Fixed effects:", *matrix_lines(names, ["Estimate", "Std. Error", "t value"], cells, right=True)]
    df = np.array(list(fit.df.values()))
    p = np.array([two_sided(*each) for each in zip(t, df, strict=True)])
    columns = [*_coefficients([estimate, se] if normal else [estimate, se, df], t), _p_values(p)]
    heads = ["Estimate", "Std. Error", *([] if normal else ["df"])]
    heads += ["z value", "Pr(>|z|)"] if normal else ["t value", "Pr(>|t|)"]
    legend = []
    if (p < 0.1).any():
        marks = stars(p.tolist())
        columns.append([mark.ljust(max(map(len, marks))) for mark in marks])
        heads.append("")
        legend = ["---", f"Signif. codes:  {_LEGEND}"]
    cells = [list(row) for row in zip(*columns, strict=True)]
    return ["Fixed effects:", *matrix_lines(names, heads, cells, right=True), *legend]


def _coefficients(columns: Sequence[Array], t: Array) -> list[list[str]]:
    """R's printCoefmat: the columns share their digits, which suit the smallest entry; t values have their own."""
    flat = np.concatenate(columns)
    sizes = np.abs(flat[np.isfinite(flat) & (flat != 0)])
    magnitude = 1 + (math.floor(math.log10(sizes.min())) if sizes.size else 0)
    values = [None if math.isnan(v) else float(v) for v in flat]
    places = max(1, DIGITS - magnitude)
    texts = format_real([None if v is None else round_to(v, places) for v in values], DIGITS)
    n = len(t)
    tests = format_real([round_to(float(v), TEST_DIGITS) for v in t], DIGITS)
    return [*(texts[k * n : (k + 1) * n] for k in range(len(columns))), tests]


def _p_values(p: Array) -> list[str]:
    texts = iter(format_pvalues([float(v) for v in p if not math.isnan(v)], TEST_DIGITS))
    return ["NA" if math.isnan(v) else next(texts) for v in p]


def correlation_lines(fit: Fit | GeneralisedFit) -> list[str]:
    """The correlations of the estimates."""
    p = len(fit.beta)
    if p == 1:
        return []
    if p > MOST_CORRELATIONS:
        return ["", f"Correlation matrix not shown by default, as p = {p} > {MOST_CORRELATIONS}."]
    names = [_r_name(name) for name in fit.beta]
    cells = [row[:-1] for row in _lower(fit.vcov_beta, decimals=3)[1:]]
    lines = matrix_lines(abbreviate(names, 11)[1:], abbreviate(names, 6)[:-1], cells)
    return ["", "Correlation of Fixed Effects:", *lines]


def remark_lines(fit: Fit | GeneralisedFit) -> list[str]:
    """What became of a fit that is not ok, and of rows with missing values."""
    heads = {
        Status.singular: "boundary (singular) fit", Status.not_converged: "Model failed to converge",
        Status.separated: "outcomes are separated",
    }  # fmt: skip
    lines = []
    if fit.status in heads:
        lines = [heads[fit.status], fit.status.sentence]
    if fit.dropped:
        lines.append(f"  ({fit.dropped} observation{'s' * (fit.dropped > 1)} deleted due to missingness)")
    return lines


def _r_name(term: str) -> str:
    return f"({INTERCEPT})" if term == INTERCEPT else term
