"""Profile-likelihood intervals of variance parameters and fixed effects.

The limits of a parameter psi are where D_p(psi) - D_min = chi2 with one degree of freedom, D_p the deviance minimised over all
other parameters (Bates et al. 2015, J. Stat. Softw. 67(1), section 5.1; lme4's confint(method = "profile")). The ML deviance is
profiled, unless the shape says REML: then the restricted criterion, variance parameters only. Parameters are on lme4's scale:
standard deviations of the random columns and of the residuals, correlations. Where D_p does not rise by chi2 on the way to 0, or
to -1 or 1, the limit is that bound; the correlations of a column whose sd is estimated 0 are not determined: -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from ..simulate.gram import Gram
from .chart import CORRELATION, FIXED, SD, SIGMA, get_states
from .contour import profile_block
from .lmm import Fits, fit_replicates, for_lanes
from .workspace import get_workspace

__all__ = ["Parameter", "Profiles", "profile_parameters", "profile_replicates", "undetermined"]

Array = NDArray[np.float64]
#: Kind ("sd", "cor", "sigma", "fixed") and columns: ("cor", b, a) is that of columns b and a < b.
Parameter = tuple[str, int, int]

_KINDS = {"sd": SD, "cor": CORRELATION, "sigma": SIGMA, "fixed": FIXED}


@dataclass(frozen=True)
class Profiles:
    """Limits of R replicates: lower, upper (R, k), in the order of `profile_parameters`; failed (R, k): a limit was not found
    and is nan, or there is no fit. evaluations (R, k): of the deviance, both limits together."""

    lower: Array
    upper: Array
    failed: NDArray[np.bool_]
    evaluations: NDArray[np.int64]


def profile_parameters(blocks: Sequence[int], fixed: int = 0) -> list[Parameter]:
    """(kind, a, b) in the order of lme4's confint(oldNames = FALSE).

    blocks (q): the number of each random column's term, rising. Term by term the columns of a lower triangle: ("sd", a, a) and
    ("cor", b, a); then ("sigma", -1, -1) and ("fixed", k, k) for k < fixed.

    >>> profile_parameters([0, 0])
    [('sd', 0, 0), ('cor', 1, 0), ('sd', 1, 1), ('sigma', -1, -1)]
    """
    q = len(blocks)
    found: list[Parameter] = []
    for a in range(q):
        found.append(("sd", a, a))
        found += [("cor", b, a) for b in range(a + 1, q) if blocks[b] == blocks[a]]
    return [*found, ("sigma", -1, -1), *(("fixed", k, k) for k in range(fixed))]


def profile_replicates(
    shape: NDArray[np.void], groups: NDArray[np.int64], gram: Gram, first: int, last: int, *,
    level: float = 0.95, fixed: bool = False, parameters: Sequence[Parameter] | None = None, units: Array | None = None,
    starts: int | None = None,
) -> Profiles:  # fmt: skip
    """Profile limits of replicates first .. last - 1 of a Gram, which are fitted first; shape, groups, gram: as `fit_replicates`.

    level: of the intervals. fixed: also the p fixed effects (ML only). parameters: only these, instead. units (q, q), upper
    triangular: the kernel's random columns times this are those that the standard deviations and correlations are of. starts: how
    many others confirm each limit (the deviance at it may be lower elsewhere); None: by the design, one at least.

    Raises ValueError if fixed effects are wanted of a REML shape, or level is not between 0 and 1.
    """
    q, p = int(shape["q"][0]), int(shape["p"][0])
    if parameters is None:
        parameters = profile_parameters(shape["blocks"][0][:q].tolist(), p if fixed else 0)
    _check(parameters, level, reml=bool(shape["reml"][0]))
    fits = fit_replicates(shape, groups, gram, first, last)
    R, k = last - first, len(parameters)
    found = (np.full((R, k, 2), np.nan), np.ones((R, k, 2), dtype=np.bool_), np.zeros((R, k, 2), dtype=np.int64))
    units = np.eye(q) if units is None else np.ascontiguousarray(units, dtype=float)
    correlated = np.array([kind == "cor" for kind, _, _ in parameters])
    for part in (np.flatnonzero(~correlated).tolist(), np.flatnonzero(correlated).tolist()):
        chosen = [parameters[i] for i in part]
        if chosen:
            known = undetermined(found[0], parameters, chosen, q)
            made = _run(shape, groups, gram, first, last, chosen, known, fits, level=level, units=units, starts=starts)
            for whole, values in zip(found, made, strict=True):
                whole[:, part] = values.reshape(R, -1, 2)
    limits, failed, evaluations = found
    return Profiles(limits[..., 0], limits[..., 1], failed[..., 0] | failed[..., 1], evaluations.sum(axis=2))


def _check(parameters: Sequence[Parameter], level: float, *, reml: bool) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level = {level}: allowed are numbers between 0 and 1")
    if reml and any(kind == "fixed" for kind, _, _ in parameters):
        raise ValueError("profiles of fixed effects with REML: the restricted criterion does not have them; use ML")


def undetermined(
    limits: Array, parameters: Sequence[Parameter], chosen: Sequence[Parameter], q: int
) -> NDArray[np.bool_]:
    """(R, 2 x chosen): correlations of an sd that may be 0. Any correlation has at most the deviance there."""
    zero = np.zeros((len(limits), q), dtype=np.bool_)
    for i, (kind, a, _) in enumerate(parameters):
        if kind == "sd":
            zero[:, a] = limits[:, i, 0] == 0
    known = np.array([zero[:, a] | zero[:, b] if kind == "cor" else zero[:, 0] & False for kind, b, a in chosen]).T
    return np.repeat(known, 2, axis=1)


def _run(
    shape: NDArray[np.void], groups: NDArray[np.int64], gram: Gram, first: int, last: int, parameters: Sequence[Parameter],
    known: NDArray[np.bool_], fits: Fits, *, level: float, units: Array, starts: int | None,
) -> tuple[Array, NDArray[np.bool_], NDArray[np.int64]]:  # fmt: skip
    """Limits, failures and evaluations (R, 2 k): lower and upper of each parameter in turn."""

    # of a correlation the earlier column comes first
    codes = np.array([(_KINDS[kind], max(a, 0), max(b, 0)) for kind, b, a in parameters], dtype=np.int64)
    size = (last - first, 2 * len(parameters))
    limits, failed, counts = np.full(size, np.nan), np.ones(size, dtype=np.bool_), np.zeros(size, dtype=np.int64)
    dd, weights = (array if array.shape[-1] == 1 else for_lanes(array) for array in (gram.dd, gram.weights))
    profile_block(
        groups, shape, get_workspace(), get_states(), dd, for_lanes(gram.dy), for_lanes(gram.yy), weights, first, last,
        units, codes, float(chdtri(1, 1 - level)), -1 if starts is None else starts, known, fits.status,
        (fits.deviance, fits.beta, fits.vcov, fits.varcomp, fits.sigma2), limits, failed, counts,
    )  # fmt: skip
    return limits, failed, counts
