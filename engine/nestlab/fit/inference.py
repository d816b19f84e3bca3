"""Tests of fixed effects: standard errors and degrees of freedom of contrasts by each rule.

Rules: "z" (df infinite), "residual" (rows - p), "between-within", "satterthwaite", "kenward-roger" (with its own covariance of
beta; it needs REML). A hypothesis is one row of weights on beta, tested by t, or several, tested jointly by F.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

from ..simulate.gram import Gram, Shift
from ..spec.model import DF_RULES
from .information import inform_block
from .lmm import Fits, congruent, counts, fit_replicates, for_lanes, pairs
from .status import Status
from .workspace import get_workspace, make_shape

__all__ = [
    "BY_DESIGN",
    "RULES",
    "SINGULAR_DF",
    "Hypotheses",
    "Inference",
    "Model",
    "between_within_df",
    "definite",
    "infer",
    "refit_df",
    "smallest_df",
    "vanished",
    "variance_covariance",
]

Array = NDArray[np.float64]

#: Of mixed models; robust standard errors have others besides.
RULES = DF_RULES[:5]
SINGULAR_DF = ("lmertest", "refit")
#: Least eigenvalue of a correlation matrix that is rounding: the estimates then have no joint test.
SINGULAR_COVARIANCE = 1e-12
#: Rules whose degrees of freedom the design decides.
BY_DESIGN = ("z", "residual", "between-within")


@dataclass(frozen=True)
class Hypotheses:
    """H hypotheses on p fixed effects: rows (k, p) of weights; starts (H + 1): hypothesis h is rows starts[h] .. starts[h + 1]
    - 1. named (H, p): the effects that each is about, where these are others than those of its rows."""

    rows: Array
    starts: NDArray[np.int64]
    named: NDArray[np.bool_] | None = None

    @staticmethod
    def of(p: int, contrasts: Sequence[Array] = ()) -> Hypotheses:
        """Each coefficient, then each contrast (r, p)."""
        blocks = [np.eye(p)[[i]] for i in range(p)] + [np.atleast_2d(c) for c in contrasts]
        return Hypotheses(np.vstack(blocks), np.cumsum([0, *map(len, blocks)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def effects(self) -> NDArray[np.bool_]:
        """(H, p): the effects that each is about."""
        if self.named is not None:
            return self.named
        return np.array([np.abs(self[h]).sum(axis=0) > 0 for h in range(len(self))])

    def moved(self, shift: Shift | None) -> Hypotheses:
        """The hypotheses on effects in other coordinates."""
        return self if shift is None else Hypotheses(self.rows @ shift.fixed, self.starts, self.effects)

    def __getitem__(self, h: int) -> Array:
        weights: Array = self.rows[self.starts[h] : self.starts[h + 1]]
        return weights


@dataclass(frozen=True)
class Model:
    """What the rules need to know of a model: the kernel's shape and groups (see `lmm.Plan`), the number of rows, and for each
    fixed effect the random column of which it is a cluster-constant multiple, -1 if there is none."""

    shape: NDArray[np.void]
    groups: NDArray[np.int64]
    rows: int
    equation: tuple[int, ...]


@dataclass(frozen=True)
class Inference:
    """One rule on R replicates and H hypotheses. df (R, H), nan where the rule fails; vcov (R, p(p+1)/2) of beta by pairs; scale
    (R, H): what F is multiplied by, 1 but for joint hypotheses by Kenward and Roger."""

    df: Array
    vcov: Array
    scale: Array

    def back(self, shift: Shift | None) -> Inference:
        """The inference on effects in the formula's own coordinates."""
        return self if shift is None else replace(self, vcov=congruent(self.vcov, shift.fixed))

    def se(self, weights: Array) -> Array:
        """Standard error (R) of weights (p) times beta; nan where the variance is negative."""
        return np.sqrt(_form(self.vcov, weights, weights))

    def joint_p(self, h: int, weights: Array, beta: Array) -> Array:
        """P value (R) of the F test that weights (r, p) times beta (R, p) is 0; nan where their covariance is singular."""
        r = len(weights)
        covariance = np.stack([[_form(self.vcov, a, b, signed=True) for a in weights] for b in weights]).transpose(
            2, 0, 1
        )
        values = beta @ weights.T
        usable = definite(covariance) & np.isfinite(values).all(axis=1) & (self.df[:, h] > 0)
        F = np.full(len(beta), np.nan)
        solved = np.linalg.solve(covariance[usable], values[usable][:, :, None])[:, :, 0]
        F[usable] = np.einsum("rk,rk->r", values[usable], solved) * self.scale[usable, h] / r
        with np.errstate(invalid="ignore"):
            return np.asarray(fdtrc(r, np.minimum(self.df[:, h], 1e10), F), dtype=float)


def definite(covariance: Array) -> NDArray[np.bool_]:
    """(R): whether covariance matrices (R, r, r) are positive definite, to more than rounding and whatever the units are."""
    variances = np.einsum("rii->ri", covariance)
    found = np.asarray(np.isfinite(covariance).all(axis=(1, 2)) & (variances > 0).all(axis=1))
    sd = np.sqrt(variances[found])
    found[found] = np.linalg.eigvalsh(covariance[found] / (sd[:, :, None] * sd[:, None, :]))[:, 0] > SINGULAR_COVARIANCE
    return found


def _form(packed: Array, left: Array, right: Array, *, signed: bool = False) -> Array:
    """left' V right (R) for symmetric V stored by pairs; without `signed`, nan where negative."""
    total = np.zeros(len(packed))
    for k, (i, j) in enumerate(pairs(len(left))):
        weight = left[i] * right[j] + (left[j] * right[i] if i != j else 0.0)
        if weight != 0:
            total = total + weight * packed[:, k]
    return total if signed else np.where(total >= 0, total, np.nan)


def infer(
    model: Model, gram: Gram | None, fits: Fits, first: int, last: int, hypotheses: Hypotheses, rules: Sequence[str],
    *, singular_df: str = "lmertest", terms: NDArray[np.bool_] | None = None,
) -> dict[str, Inference]:  # fmt: skip
    """Each rule on the fits of replicates first .. last - 1 of a Gram, which only "satterthwaite" and "kenward-roger" need.

    terms: for hypotheses after the coefficients the fixed effects that they name, where their rows are written in other columns.

    singular_df: what Satterthwaite's rule does at the boundary: "lmertest", derivatives along matrices of the estimate's rank;
    "refit", the df of the model without the random columns that vanished, see `_refitted`.
    """
    R, H = len(fits.status), len(hypotheses)
    ones = np.ones((R, H))
    assert model.rows or gram is not None, "without a Gram the rows of a replicate can't be counted"
    numbers = _numbers(model, gram, first, last)
    exact = {
        rule: Inference(
            np.where(np.isfinite(fits.sigma2)[:, None], _fixed_df(rule, model, hypotheses, terms, numbers), np.nan),
            fits.vcov,
            ones,
        )
        for rule in rules
        if rule in BY_DESIGN
    }
    satterthwaite, roger = "satterthwaite" in rules, "kenward-roger" in rules
    if satterthwaite or roger:
        assert gram is not None, "the front door refuses these rules where there are only rows"
        df, kr, scale, vcov, _ = _inform(model, gram, fits, first, last, hypotheses, satterthwaite, roger)
        if satterthwaite and singular_df == "refit":
            _refitted(model, gram, fits, first, hypotheses, df)
        exact["satterthwaite"] = Inference(df, fits.vcov, ones)
        exact["kenward-roger"] = Inference(kr, vcov, scale)
    return {rule: exact[rule] for rule in rules}


def variance_covariance(model: Model, gram: Gram, fits: Fits, first: int, last: int) -> Array:
    """Covariance (R, k(k+1)/2), by pairs, of the variance components (k = q(q+1)/2 + 1: those of `Fits.varcomp`, sigma2), from
    the expected information (of the restricted likelihood for REML); nan where it is singular."""
    p = len(model.equation)
    return _inform(model, gram, fits, first, last, Hypotheses.of(p), False, False, variances=True)[4]


def _inform(
    model: Model, gram: Gram, fits: Fits, first: int, last: int, hypotheses: Hypotheses, satterthwaite: bool, roger: bool,
    variances: bool = False,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    R, H, p = len(fits.status), len(hypotheses), len(model.equation)
    k = fits.varcomp.shape[1] + 1

    def room(wanted: bool, *size: int) -> Array:
        return np.full((R if wanted else 0, *size), np.nan)

    df, kr, scale = room(satterthwaite, H), room(roger, H), room(roger, H)
    vcov, varcov = room(roger, p * (p + 1) // 2), room(variances, k * (k + 1) // 2)
    dd, weights = (array if array.shape[-1] == 1 else for_lanes(array) for array in (gram.dd, gram.weights))
    usable = np.isfinite(fits.sigma2) & (fits.sigma2 > 0) & np.isfinite(fits.varcomp).all(axis=1)
    inform_block(
        model.groups, model.shape, get_workspace(), dd, for_lanes(gram.dy), for_lanes(gram.yy), weights, first, last,
        usable, fits.varcomp, fits.sigma2, hypotheses.starts, hypotheses.rows, df, kr, scale, vcov, varcov,
    )  # fmt: skip
    for found in (df, kr):
        found[~((found > 0) & np.isfinite(found))] = np.nan
    return df, kr, scale, vcov, varcov


def _refitted(model: Model, gram: Gram, fits: Fits, first: int, hypotheses: Hypotheses, df: Array) -> None:
    """Replace the df of singular fits by those of the model without the random columns that vanished, see `refit_df`."""
    shape = model.shape[0]
    q = int(shape["q"])

    def gone(r: int, columns: tuple[int, ...], varcomp: Array) -> set[int]:
        rd = first + r if gram.dd.shape[2] > 1 else 0
        scale = [np.sqrt(gram.dd[:, _diagonal(int(shape["zcols"][c])), rd].mean()) for c in columns]
        return vanished(columns, shape["blocks"][list(columns)], varcomp, np.array(scale))

    def again(kept: tuple[int, ...], members: list[int]) -> tuple[Fits, Array]:
        smaller = _without(model, kept)
        part = _take(gram, [first + r for r in members])
        found = fit_replicates(smaller.shape, smaller.groups, part, 0, len(members))
        return found, _inform(smaller, part, found, 0, len(members), hypotheses, True, False)[0]

    def ordinary(members: list[int]) -> Array:
        rows, _ = counts(model.rows, gram, 0, gram.yy.shape[1])
        rows = rows[[first + r for r in members]] if len(rows) > 1 else rows
        return rows[:, None] - (int(shape["p"]) if shape["reml"] else 0)

    refit_df(fits, q, df, gone, again, ordinary)


def refit_df(
    fits: Fits,
    q: int,
    df: Array,
    gone: Callable[[int, tuple[int, ...], Array], set[int]],
    again: Callable[[tuple[int, ...], list[int]], tuple[Fits, Array]],
    ordinary: Callable[[list[int]], Array],
) -> None:
    """Replace the df (R, H) of singular fits by those of the model without the random columns, of q, that vanished.

    In each singular random term the column of the smallest variance, times its mean square over the clusters, is left out and the
    model fitted again, until the fit is not singular; with no column left, df = m. gone: the columns that a replicate's fit with
    some columns leaves out; again: fits and df of replicates with the columns that are kept; ordinary: m of replicates.
    """
    pending = {(int(r), tuple(range(q))): fits.varcomp[r] for r in np.flatnonzero(fits.status == Status.singular)}
    while pending:
        groups: dict[tuple[int, ...], list[int]] = {}
        for (r, columns), varcomp in pending.items():
            left_out = gone(r, columns, varcomp)
            groups.setdefault(tuple(c for c in columns if c not in left_out), []).append(r)
        pending = {}
        for kept, members in groups.items():
            if not kept:
                df[members] = ordinary(members)
                continue
            smaller, found = again(kept, members)
            for k, r in enumerate(members):
                if smaller.status[k] == Status.singular:
                    pending[r, kept] = smaller.varcomp[k]
                else:
                    df[r] = found[k] if smaller.status[k] == Status.ok else np.nan


def vanished(columns: tuple[int, ...], blocks: NDArray[np.int64], varcomp: Array, scale: Array) -> set[int]:
    """Of random columns (their places in the full model), one of each singular term. blocks: their terms; varcomp: their
    covariance by pairs; scale: the roots of their mean squares."""
    size = len(columns)
    covariance = np.zeros((size, size))
    for value, (i, k) in zip(varcomp, pairs(size), strict=True):
        covariance[i, k] = covariance[k, i] = value
    covariance *= np.outer(scale, scale)
    found, smallest = set(), (np.inf, -1)
    for block in set(blocks.tolist()):
        members = [k for k in range(size) if blocks[k] == block]
        part = covariance[np.ix_(members, members)]
        values = np.linalg.eigvalsh(part)
        least = min(members, key=lambda k: float(covariance[k, k]))
        smallest = min(smallest, (values[0] / max(values[-1], 1e-300), columns[least]))
        if values[0] <= 1e-10 * values[-1]:
            found.add(columns[least])
    return found or {smallest[1]}


def _diagonal(k: int) -> int:
    return k * (k + 1) // 2 + k


def _without(model: Model, kept: tuple[int, ...]) -> Model:
    """The model with the random columns at these places only."""
    shape = model.shape[0]
    p, n = int(shape["p"]), len(kept) * (len(kept) + 1) // 2
    blocks = np.array([shape["blocks"][c] for c in kept])
    smaller = make_shape(
        [int(shape["zcols"][c]) for c in kept], [int(c) for c in shape["xcols"][:p]], shape["xweights"][:p],
        np.unique(blocks, return_inverse=True)[1].astype(np.int64), np.full(n, -1.0),
        rows=model.rows, clusters=int(shape["J"]), reml=bool(shape["reml"]),
    )  # fmt: skip
    return replace(model, shape=smaller)


def _take(gram: Gram, members: Sequence[int]) -> Gram:
    """A Gram of some of its replicates."""

    def take(array: Array) -> Array:
        return array if array.shape[-1] == 1 else np.ascontiguousarray(array[..., members])

    return Gram(dd=take(gram.dd), dy=gram.dy[..., members], yy=gram.yy[..., members], weights=take(gram.weights))


def _numbers(model: Model, gram: Gram | None, first: int, last: int) -> tuple[Array, Array]:
    """Rows and clusters of each replicate, or of all, see `lmm.counts`."""
    if gram is None or model.rows:
        return np.array([float(model.rows)]), np.array([float(model.shape["J"][0])])
    return counts(model.rows, gram, first, last)


def _fixed_df(
    rule: str, model: Model, hypotheses: Hypotheses, terms: NDArray[np.bool_] | None, numbers: tuple[Array, Array]
) -> Array:
    """Degrees of freedom (R or 1, H) that the design decides: of a contrast, the smallest of its effects'."""
    p, (rows, clusters) = len(model.equation), numbers
    if rule == "between-within":
        df = between_within_df(model.equation, clusters=clusters, rows=rows)
    else:
        df = np.repeat(np.full_like(rows, np.inf) if rule == "z" else rows - p, p).reshape(-1, p)
    return smallest_df(df, hypotheses, terms)


def smallest_df(df: Array, hypotheses: Hypotheses, terms: NDArray[np.bool_] | None) -> Array:
    """Of the degrees of freedom (R or 1, p) of effects, those (R or 1, H) of hypotheses: the smallest of the effects that each
    is about; terms: see `infer`."""
    used = list(hypotheses.effects)
    if terms is not None:
        used[df.shape[1] :] = list(terms)
    return np.stack([df[:, members].min(axis=1) for members in used], axis=1)


def between_within_df(equation: Sequence[int], *, clusters: ArrayLike, rows: ArrayLike) -> Array:
    """(..., p): Between-within degrees of freedom (Schluchter & Elashoff 1990, extended to random slopes).

    equation: for each fixed effect the random column of which it is a cluster-constant multiple, or -1. An effect of random
    column k is judged on the clusters: clusters - number of fixed effects of that equation. The others are judged within
    clusters: rows - clusters - their number. nan where that leaves no degree of freedom. clusters, rows: numbers, or (R) each.
    """
    clusters, rows = np.asarray(clusters, dtype=float), np.asarray(rows, dtype=float)
    df = np.empty((*rows.shape, len(equation)))
    for i, column in enumerate(equation):
        members = sum(other == column for other in equation)
        df[..., i] = (rows - clusters if column == -1 else clusters) - members
    df[df <= 0] = np.nan
    return df
