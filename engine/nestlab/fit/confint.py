"""Profile intervals of one data set, under lme4's names: confint(m, oldNames = FALSE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from ..spec.matrices import ModelMatrices
from ..spec.model import INTERCEPT
from .problem import gram_and_shape, members_of, term_numbers
from .profile import Parameter, Profiles, profile_parameters, profile_replicates
from .rformat import format_real, matrix_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["confint_lines", "profile_table", "wald_table"]

Array = NDArray[np.float64]

#: Other starts from which each limit is tried; one data set can afford many.
STARTS = 12


def profile_table(m: ModelMatrices, *, level: float, reml: bool) -> pd.DataFrame:
    """Profile limits as a frame: lme4's names by "lower" and "upper"; nan where a limit was not found.

    reml: of the restricted criterion, which has no fixed effects; else of the ML deviance, with them.
    """
    import pandas as pd

    parameters = profile_parameters(term_numbers(m).tolist())
    rows = _variances(m, parameters, level=level, reml=reml)
    names = [_name(m, parameter) for parameter in parameters]
    if not reml:
        rows += [_fixed(m, k, level=level) for k in range(m.X.shape[1])]
        names += [_r_name(name) for name in m.fixed_names]
    return pd.DataFrame(rows, index=pd.Index(names), columns=["lower", "upper"])


def wald_table(
    beta: Mapping[str, float], se: Mapping[str, float], df: Mapping[str, float], *, level: float
) -> pd.DataFrame:
    """Intervals of fixed effects: the estimate, less and plus a quantile of t times its standard error."""
    import pandas as pd

    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: allowed are numbers between 0 and 1")
    center, half = np.array(list(beta.values())), np.array(list(se.values()))
    free = np.array(list(df.values()))
    half = half * np.where(np.isinf(free), ndtri((1 + level) / 2), stdtrit(np.minimum(free, 1e300), (1 + level) / 2))
    names = pd.Index([_r_name(name) for name in beta])
    return pd.DataFrame({"lower": center - half, "upper": center + half}, index=names)


def _variances(
    m: ModelMatrices, parameters: Sequence[Parameter], *, level: float, reml: bool
) -> list[tuple[float, float]]:
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


def _name(m: ModelMatrices, parameter: Parameter) -> str:
    kind, b, a = parameter
    columns = [_r_name(name) for names in m.random_names for name in names]
    if kind == "sigma":
        return "sigma"
    return f"sd_{columns[a]}|{m.group}" if kind == "sd" else f"cor_{columns[b]}.{columns[a]}|{m.group}"


def _r_name(term: str) -> str:
    return f"({INTERCEPT})" if term == INTERCEPT else term


def confint_lines(table: pd.DataFrame, level: float = 0.95) -> list[str]:
    """The table as R prints it: 7 significant digits a column, NA where there is no limit."""
    tails = (50 * (1 - level), 50 * (1 + level))
    columns = [[None if np.isnan(v) else float(v) for v in table[side]] for side in ("lower", "upper")]
    cells = list(zip(*(format_real(column) for column in columns), strict=True))
    return matrix_lines([str(name) for name in table.index], [f"{t:.3g} %" for t in tails], cells, right=True)
