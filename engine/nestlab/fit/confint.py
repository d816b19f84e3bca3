"""Intervals of one data set, under lme4's names: confint(m, oldNames = FALSE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from ..simulate.streams import resampling_generator
from ..spec.matrices import ModelMatrices
from ..spec.model import INTERCEPT
from ..spec.problems import DataError
from .problem import gram_and_shape, members_of, term_numbers
from .profile import Parameter, Profiles, profile_parameters, profile_replicates
from .rformat import format_real, matrix_lines
from .several.bootstrap import bootstrap_fit
from .several.model import SeveralModel, factors_of, fit_factors
from .several.profile import by_criterion, profile_fit
from .wald import wald_intervals

if TYPE_CHECKING:
    import pandas as pd

    from .glmm.single import GeneralisedFit
    from .single import Fit

__all__ = ["INTERVALS", "check_intervals", "check_level", "confint_lines", "interval_table", "parameter_name"]

Array = NDArray[np.float64]
Limits = tuple[float, float]

#: The ways to make intervals.
INTERVALS = ("profile", "profile-reml", "wald", "wald-log", "bootstrap")
#: The fewest draws, as of a method of a study.
FEWEST_DRAWS = 19
#: The key of the stream of a single fit's bootstrap.
STREAM = "0" * 64

#: Other starts from which each limit is tried; one data set can afford many.
STARTS = 12


def interval_table(fit: Fit, *, level: float, method: str, draws: int = 999, seed: int = 1) -> pd.DataFrame:
    """Intervals of a fit as a frame: lme4's names by "lower" and "upper"; see `Fit.confint`."""
    import pandas as pd

    check_intervals(method, level=level, draws=draws)
    parameters = profile_parameters(_blocks(fit), 0 if method == "profile-reml" else len(fit.beta))
    if method.startswith("profile"):
        rows = _profiles(fit, parameters, level=level, reml=method == "profile-reml")
    elif method == "bootstrap":
        rows = _percentiles(fit, parameters, level=level, draws=draws, seed=seed)
    else:
        rows = _wald(fit, parameters, level=level, log=method == "wald-log")
    names = [parameter_name(fit, _blocks(fit), parameter) for parameter in parameters]
    return pd.DataFrame(rows, index=pd.Index(names), columns=["lower", "upper"])


def check_level(level: float) -> None:
    """Raise DataError for a coverage that is none."""
    if not 0 < level < 1:
        raise DataError(f"level = {level!r}: allowed are numbers between 0 and 1, for example 0.95")


def check_intervals(method: str, *, level: float, draws: int, name: str = "method") -> None:
    """Raise DataError for what is not possible; name: what the caller calls the method."""
    if method not in INTERVALS:
        allowed = f"{', '.join(INTERVALS[:-1])} and {INTERVALS[-1]}"
        raise DataError(f"{name} = {method!r}: allowed are {allowed}; use one of them")
    check_level(level)
    if draws < FEWEST_DRAWS:
        raise DataError(f"draws = {draws!r}: allowed are whole numbers from {FEWEST_DRAWS}, for example 999")


def _blocks(fit: Fit) -> list[int]:
    return [t for t, names in enumerate(fit.random_names) for _ in names]


def _profiles(fit: Fit, parameters: Sequence[Parameter], *, level: float, reml: bool) -> list[Limits]:
    m, model = fit.matrices, fit._problem
    if isinstance(model, SeveralModel):
        found = profile_fit(by_criterion(model, reml=reml), level=level, parameters=parameters)
        centre = np.array(list(fit.beta.values())) - model.back @ model.beta * model.scale  # what the OLS fit found
        moved = [centre[a] if kind == "fixed" else 0.0 for kind, a, _ in parameters]
        return [(float(a), float(b)) for a, b in zip(found.lower[0] + moved, found.upper[0] + moved, strict=True)]
    variances = [each for each in parameters if each[0] != "fixed"]
    rows = _variances(m, variances, level=level, reml=reml)
    return [*rows, *(_fixed(m, a, level=level) for kind, a, _ in parameters if kind == "fixed")]


def _wald(fit: Fit, parameters: Sequence[Parameter], *, level: float, log: bool) -> list[Limits]:
    """The estimate, less and plus a quantile of t or of the normal distribution times its standard error."""
    found = fit._problem.variances(fit.matrices)
    blocks, sigma2 = np.array(_blocks(fit)), np.array([found.sigma2])
    made = wald_intervals(found.varcomp[None], sigma2, found.packed, blocks, level=level, log=log)
    center, half, free = (np.array(list(values.values())) for values in (fit.beta, fit.se, fit.df))
    half = half * np.where(np.isinf(free), ndtri((1 + level) / 2), stdtrit(np.minimum(free, 1e300), (1 + level) / 2))
    rows = []
    for kind, b, a in parameters:
        if kind == "fixed":
            rows.append((float(center[a] - half[a]), float(center[a] + half[a])))
            continue
        each = made[{"sd": ("var", a, a), "cor": ("cor", a, b), "sigma": ("residual", -1, -1)}[kind]]
        ends = np.array([each.lower[0], each.upper[0]])
        rows.append(tuple((ends if kind == "cor" else np.sqrt(ends)).tolist()))
    return rows


def _percentiles(fit: Fit, parameters: Sequence[Parameter], *, level: float, draws: int, seed: int) -> list[Limits]:
    m, model = fit.matrices, fit._problem
    if not isinstance(model, SeveralModel):
        model = fit_factors(factors_of(m), m.X, m.y, reml=fit.reml)
    made = bootstrap_fit(model, draws=draws, generator=resampling_generator(seed, STREAM, 0, 0))
    centre = np.array(list(fit.beta.values())) - model.back @ model.beta * model.scale
    sizes = [varcomp.shape[1] for varcomp in made.varcomp]
    places = [(t, k) for t, size in enumerate(sizes) for k in range(size)]
    rows = []
    for kind, b, a in parameters:
        if kind == "fixed":
            values = made.beta[:, a] + centre[a]
        elif kind == "sigma":
            values = np.sqrt(made.sigma2)
        else:
            (term, i), (_, k) = places[b], places[a]
            varcomp = made.varcomp[term]
            values = np.sqrt(varcomp[:, i, i])
            if kind == "cor":
                scale = values * np.sqrt(varcomp[:, k, k])
                with np.errstate(invalid="ignore", divide="ignore"):
                    values = np.where(scale > 0, np.clip(varcomp[:, i, k] / scale, -1.0, 1.0), np.nan)
        rows.append(made.limits(values, level))
    return rows


def _variances(m: ModelMatrices, parameters: Sequence[Parameter], *, level: float, reml: bool) -> list[Limits]:
    found, scale = _profile(m, np.arange(m.X.shape[1]), parameters, level=level, reml=reml)
    scales = [1.0 if kind == "cor" else scale for kind, _, _ in parameters]
    return [(float(a * s), float(b * s)) for a, b, s in zip(found.lower[0], found.upper[0], scales, strict=True)]


def _fixed(m: ModelMatrices, k: int, *, level: float) -> tuple[float, float]:
    """Of fixed effect k, whose column comes last: it is then a multiple of the last orthonormal column's."""
    N, p = m.X.shape
    order = np.array([*(i for i in range(p) if i != k), k])
    found, scale = _profile(m, order, [("fixed", p - 1, p - 1)], level=level, reml=False)
    Q, R = np.linalg.qr(m.X[:, order])
    ols = Q[:, -1] @ m.y / R[-1, -1]
    limits = sorted(ols + np.array([found.lower[0, 0], found.upper[0, 0]]) * scale * np.sqrt(N) / R[-1, -1])
    return float(limits[0]), float(limits[1])


def _profile(
    m: ModelMatrices, order: NDArray[np.int64], parameters: Sequence[Parameter], *, level: float, reml: bool
) -> tuple[Profiles, float]:
    """Profiles on orthonormal columns and residuals of the OLS fit (no digits are lost to means or units), and y's unit."""
    N = len(m.y)
    Q, _ = np.linalg.qr(m.X[:, order])
    y = m.y - Q @ (Q.T @ m.y)
    scale = float(np.sqrt(y @ y / N))
    factored = [np.linalg.qr(Z) for Z in m.Z]
    Z = np.column_stack([columns for columns, _ in factored]) * np.sqrt(N)
    units = np.zeros((Z.shape[1], Z.shape[1]))
    start = 0
    for _, F in factored:
        stop = start + len(F)
        units[start:stop, start:stop] = F / np.sqrt(N)
        start = stop
    groups = members_of(m.groups)
    gram, shape = gram_and_shape(Z, Q * np.sqrt(N), y / scale, groups, term_numbers(m), reml)
    found = profile_replicates(
        shape, np.arange(len(groups)), gram, 0, 1, level=level, parameters=parameters, units=units, starts=STARTS
    )
    return found, scale


def parameter_name(fit: Fit | GeneralisedFit, blocks: Sequence[int], parameter: Parameter) -> str:
    """lme4's name of a parameter; blocks: the term of each random column."""
    kind, b, a = parameter
    if kind == "sigma":
        return "sigma"
    if kind == "fixed":
        return _r_name(list(fit.beta)[a])
    columns = [_r_name(name) for names in fit.random_names for name in names]
    group = fit.matrices.term_groups[blocks[a]]
    return f"sd_{columns[a]}|{group}" if kind == "sd" else f"cor_{columns[b]}.{columns[a]}|{group}"


def _r_name(term: str) -> str:
    return f"({INTERCEPT})" if term == INTERCEPT else term


def confint_lines(table: pd.DataFrame, level: float = 0.95) -> list[str]:
    """The table as R prints it: 7 significant digits a column, NA where there is no limit."""
    tails = (50 * (1 - level), 50 * (1 + level))
    columns = [[None if np.isnan(v) else float(v) for v in table[side]] for side in ("lower", "upper")]
    cells = list(zip(*(format_real(column) for column in columns), strict=True))
    return matrix_lines([str(name) for name in table.index], [f"{t:.3g} %" for t in tails], cells, right=True)
