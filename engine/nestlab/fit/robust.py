"""Cluster-robust covariance of fixed effects, CR0 to CR2, with Bell and McCaffrey's degrees of freedom, from the Gram.

What they are, and how, stands in `sandwich`, the compiled part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from .inference import Hypotheses
from .sandwich import sandwich_block

__all__ = ["Sandwich", "sandwich"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sandwich:
    """Robust covariance (R, p(p+1)/2) of beta by pairs, before any factor of CR1; df (R, H) of Bell and McCaffrey and the scale
    (R, H) of F, which is 1 for single rows; nan where undefined.

    No rule has df where theirs are undefined, as for a treatment with one cluster in each arm, whose scores are always 0.
    """

    vcov: Array
    df: Array
    scale: Array


def sandwich(
    terms: tuple[Sequence[int], Sequence[int] | NDArray[np.int64]], gram: Gram, beta: Array, hypotheses: Hypotheses,
    first: int, last: int, *, adjusted: bool, zcols: Sequence[int] = (), relative: Array | None = None,
) -> Sandwich:  # fmt: skip
    """CR2 (adjusted) or CR0 of replicates first .. last - 1 of a Gram.

    terms: level-1 columns and multipliers (p) of the fixed effects, as in `lmm.Plan`; beta (R, p) of the Gram's own response, nan
    where there is no fit; zcols (q), relative (R, q(q+1)/2): the random columns and their covariance over the residual variance.
    """
    xcols, xweights = terms
    R, p, H = last - first, len(xcols), len(hypotheses)
    columns = sorted({*xcols, *zcols})
    found = Sandwich(np.full((R, p * (p + 1) // 2), np.nan), np.full((R, H), np.nan), np.full((R, H), np.nan))
    G = np.zeros((R, 0)) if relative is None else np.ascontiguousarray(relative)
    usable = np.isfinite(beta).all(axis=1) & np.isfinite(G).all(axis=1)
    sandwich_block(
        np.array(columns, dtype=np.int64), np.array([columns.index(c) for c in xcols], dtype=np.int64),
        np.asarray(xweights, dtype=np.int64), np.array([columns.index(c) for c in zcols], dtype=np.int64),
        _leading(gram.dd, first, last), _leading(gram.dy, first, last), _leading(gram.weights.swapaxes(0, 1), first, last),
        np.ascontiguousarray(beta), G, usable, adjusted, hypotheses.starts, hypotheses.rows, found.vcov, found.df, found.scale,
    )  # fmt: skip
    for values in (found.df, found.scale):
        values[~((values > 0) & np.isfinite(values))] = np.nan
    return found


def _leading(array: Array, first: int, last: int) -> Array:
    """Replicates first .. last - 1, or what all share, with the replicate's index first."""
    part = array if array.shape[2] == 1 else array[:, :, first:last]
    return np.ascontiguousarray(part.transpose(2, 0, 1))
