"""One fit of one data set, with everything that people ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..simulate.gram import Gram
from ..spec.matrices import DataError, ModelMatrices, model_matrices
from .inference import degrees_of_freedom
from .lmm import Fits, fit_replicates, pairs
from .status import Status
from .workspace import MAX_FIXED, make_shape

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fit", "fit"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A linear mixed model fitted to one data set. p fixed effects, q random columns, N rows, J clusters.

    beta, se, df: by term, in the order of lme4's; df is inf for Wald z and nan where the rule leaves none. vcov_beta (p, p).
    theta: the free entries of the relative Cholesky factor L by columns, as lme4's; sigma: residual sd. varcomp: covariance of
    the random effects of each term, under lme4's names ("g", "g.1"). neg2loglik: -2 log likelihood, or the restricted criterion
    if reml. certificate: the largest entry of Sg G (see `kernel`), 0 at an optimum. scaled_residuals (N): conditional residuals
    over sigma.
    """

    formula: str
    response: str
    group: str
    reml: bool
    rows: int
    clusters: int
    balanced: bool
    dropped: int
    beta: dict[str, float]
    se: dict[str, float]
    df: dict[str, float]
    df_rule: str
    vcov_beta: Array
    theta: Array
    sigma: float
    varcomp: dict[str, Array]
    random_names: tuple[tuple[str, ...], ...]
    neg2loglik: float
    status: Status
    iterations: int
    certificate: float
    scaled_residuals: Array

    @property
    def singular(self) -> bool:
        """Whether the optimum lies on the boundary, by a rule that does not depend on units."""
        return self.status == Status.singular

    @cached_property
    def is_singular_lme4(self) -> bool:
        """lme4's isSingular: a diagonal entry of L below 1e-4, which depends on the units of the predictors."""
        diagonal, start = [], 0
        for names in self.random_names:
            q = len(names)
            for k in range(q):
                diagonal.append(self.theta[start])
                start += q - k
        return bool(min(diagonal) < 1e-4)

    def summary(self) -> str:
        """The fit in lmer's layout, numbers by R's rule of joint significant digits."""
        from .printed import summary_text

        return summary_text(self)

    def to_dict(self) -> dict[str, Any]:
        """What `nestlab fit --json` prints, for json.dumps: the names of the golden files; null where a number is not finite."""
        result = {
            "neg2loglik": self.neg2loglik, "beta": self.beta, "se": list(self.se.values()), "vcov_beta": self.vcov_beta.tolist(),
            "theta": self.theta.tolist(), "sigma": self.sigma, "varcomp": {k: v.tolist() for k, v in self.varcomp.items()},
            "singular": self.singular, "lme4_isSingular": self.is_singular_lme4, "status": self.status.name,
            "status_sentence": self.status.sentence, "df": list(self.df.values()), "df_rule": self.df_rule,
            "certificate": self.certificate, "iterations": self.iterations, "dropped": self.dropped,
        }  # fmt: skip
        top = {"formula": self.formula, "clusters": self.clusters, "rows": self.rows, "balanced": self.balanced}
        finite: dict[str, Any] = _finite(top | {"REML" if self.reml else "ML": result})
        return finite


def fit(formula: str, data: pd.DataFrame, *, reml: bool = True, df: str = "z") -> Fit:
    """Fit a linear mixed model to a data frame.

    formula: `y ~ x + (1 + x | g)`, one grouping factor, at most 4 random columns and 12 fixed terms. reml: restricted maximum
    likelihood, or maximum likelihood. df: "z" (Wald) or "between-within".

    Raises FormulaError and DataError (both ValueError), with what was found and the repair.

    >>> import numpy as np, pandas as pd
    >>> g = np.repeat(np.arange(10), 5)
    >>> frame = pd.DataFrame({"g": g, "y": np.sin(np.arange(50)) + 0.1 * g})
    >>> round(fit("y ~ 1 + (1 | g)", frame).beta["Intercept"], 3)
    0.453
    """
    matrices = model_matrices(formula, data)
    _check(matrices)
    if reml:
        _check_identified(matrices)
    degrees_of_freedom(df, (), clusters=2, rows=2)
    return _fit_matrices(matrices, " ".join(formula.split()), reml, df)


def _check(m: ModelMatrices) -> None:
    """Refuse what has no answer, in the words of the data."""
    (rows, p), clusters = m.X.shape, len(m.group_labels)
    if clusters < 2:
        raise DataError(f"grouping factor {m.group} has {clusters} level; a random effect needs at least 2")
    for names, term in zip(m.random_names, m.terms, strict=True):
        effects = clusters * len(names)
        if rows <= effects:
            raise DataError(
                f"{rows} rows are not more than the {effects} random effects of {term}: the residual variance can't be told from "
                "theirs; use fewer random columns or more rows a cluster"
            )
    if p > MAX_FIXED:
        raise DataError(f"the fixed effects have {p} columns; allowed are {MAX_FIXED}: use fewer terms or categories")
    if rows <= p:
        raise DataError(f"{rows} rows are not more than the {p} fixed effects; use fewer terms or more rows")
    _check_sizes(m)
    _check_dependence("fixed effect", m.X, m.fixed_names)
    for Z, names in zip(m.Z, m.random_names, strict=True):
        _check_dependence("random column", Z, names)
    spread = m.y - m.y.mean()
    if not np.abs(spread).max() > 1e-13 * np.abs(m.y).max():
        raise DataError(f"response {m.response} is constant; there is nothing to fit")


def _check_sizes(m: ModelMatrices) -> None:
    """Refuse numbers whose squares would leave the range of floating point."""
    columns = [(m.response, m.y), *zip(m.fixed_names, m.X.T, strict=True)]
    columns += [
        (name, z) for names, Z in zip(m.random_names, m.Z, strict=True) for name, z in zip(names, Z.T, strict=True)
    ]
    for name, column in columns:
        largest = np.abs(column).max()
        if largest and not 1e-140 < largest < 1e140:
            raise DataError(f"{name} has values up to {largest:.3g}; allowed are 1e-140 to 1e140: rescale it")


def _check_dependence(what: str, X: Array, names: tuple[str, ...]) -> None:
    """Refuse columns that are combinations of the columns before them."""
    scaled = X / np.maximum(np.linalg.norm(X, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
    if dependent := [name for name, d in zip(names, diagonal, strict=True) if d < 1e-9]:
        repair = "remove it" if not any("[" in name for name in dependent) else "remove it or recode its categories"
        raise DataError(f"{what} {', '.join(dependent)}: linearly dependent on the columns before it; {repair}")


def _check_identified(m: ModelMatrices) -> None:
    """Refuse a random column that lies, cluster by cluster, in the span of the fixed effects: REML is flat in its variance."""
    Q, _ = np.linalg.qr(m.X)
    for Z, names in zip(m.Z, m.random_names, strict=True):
        for z, name in zip(Z.T, names, strict=True):
            explained = sum(np.sum(np.bincount(m.groups, weights=z * q) ** 2) for q in Q.T)
            if z @ z - explained < 1e-10 * (z @ z):
                raise DataError(
                    f"{len(m.group_labels)} levels of {m.group} can't tell the variance of {name} from the fixed effects that "
                    "are constant within them: use fewer of those or more levels"
                )


def _refuse_unusable(status: Status, *, usable: bool, formula: str) -> None:
    """usable: whether the variances are positive; they are not where the search ran into a residual variance of 0."""
    if not usable and status != Status.rank_deficient:
        status = Status.nonfinite
    if status in (Status.rank_deficient, Status.nonfinite):
        raise DataError(f"{formula} cannot be fitted to these data. {status.sentence}")


def _fit_matrices(m: ModelMatrices, formula: str, reml: bool, df: str) -> Fit:
    N, p = m.X.shape
    J = len(m.group_labels)
    sizes = np.bincount(m.groups)
    # orthonormal columns and the residuals of the OLS fit: no digits are lost to means or units
    Q, R = np.linalg.qr(m.X)
    ols = Q.T @ m.y
    y = m.y - Q @ ols
    scale = np.sqrt(y @ y / N)
    if not scale > 1e-13 * np.abs(m.y).max():
        raise DataError(
            f"response {m.response} is fitted perfectly by the fixed effects; there is no variance to split"
        )
    factored = [np.linalg.qr(Z) for Z in m.Z]
    Z = np.column_stack([columns for columns, _ in factored]) * np.sqrt(N)
    members = _members(m.groups)
    raw = _kernel(Z, Q * np.sqrt(N), y / scale, members, _blocks(m), reml)
    status, sigma2 = Status(int(raw.status[0])), float(raw.sigma2[0]) * scale**2
    back = np.linalg.solve(R, np.eye(p)) * np.sqrt(N)
    beta = np.linalg.solve(R, ols) + back @ raw.beta[0] * scale
    vcov = back @ _symmetric(p, raw.vcov[0]) @ back.T * scale**2
    _refuse_unusable(status, usable=bool(sigma2 > 0 and (np.diag(vcov) > 0).all()), formula=formula)
    roots = _relative_roots(raw, [F / np.sqrt(N) for _, F in factored])
    terms = [m.group, *(f"{m.group}.{k}" for k in range(1, len(roots)))]
    degrees = degrees_of_freedom(df, _equation(m), clusters=J, rows=N)
    restricted = N - p if reml else N
    determinant = 2 * np.log(np.abs(np.diag(R))).sum() - p * np.log(N) if reml else 0.0
    residuals = y / scale - Q @ raw.beta[0] * np.sqrt(N)
    se = np.sqrt(np.diag(vcov))
    return Fit(
        formula=formula, response=m.response, group=m.group, reml=reml, rows=N, clusters=J,
        balanced=bool((sizes == sizes[0]).all()), dropped=m.dropped,
        beta=_by_term(m, beta), se=_by_term(m, se), df=_by_term(m, degrees), df_rule=df, vcov_beta=vcov,
        theta=np.concatenate([_relative_factor(T).T[np.triu_indices(len(T))] for T in roots]), sigma=float(np.sqrt(sigma2)),
        varcomp={name: T @ T.T * sigma2 for name, T in zip(terms, roots, strict=True)}, random_names=m.random_names,
        neg2loglik=float(raw.deviance[0] + 2 * restricted * np.log(scale) + determinant), status=status,
        iterations=int(raw.iterations[0]), certificate=float(raw.residual[0]),
        scaled_residuals=(residuals - _random_effects(raw, Z, residuals, members)) / np.sqrt(raw.sigma2[0]),
    )  # fmt: skip


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _by_term(m: ModelMatrices, values: Array) -> dict[str, float]:
    return {name: float(v) for name, v in zip(m.fixed_names, values, strict=True)}


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each cluster."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _blocks(m: ModelMatrices) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(m.Z)), [Z.shape[1] for Z in m.Z])


def _kernel(
    Z: Array, X: Array, y: Array, members: list[NDArray[np.int64]], blocks: NDArray[np.int64], reml: bool
) -> Fits:
    """Run the kernel on one data set."""
    q, p = Z.shape[1], X.shape[1]
    D = np.column_stack([Z, X])
    upper = pairs(q + p)
    rows, columns = [i for i, _ in upper], [k for _, k in upper]
    gram = Gram(
        dd=np.array([(D[s].T @ D[s])[rows, columns] for s in members])[:, :, None],
        dy=np.array([D[s].T @ y[s] for s in members])[:, :, None],
        yy=np.array([[y[s] @ y[s]] for s in members]),
        weights=np.ones((1, len(members), 1)),
    )
    shape = make_shape(
        range(q), range(q, q + p), np.zeros(p, np.int64), blocks, np.full(q * (q + 1) // 2, -1.0),
        rows=len(y), clusters=len(members), reml=reml,
    )  # fmt: skip
    return fit_replicates(shape, np.arange(len(members)), gram, 0, 1)


def _symmetric(n: int, packed: Array) -> Array:
    full = np.empty((n, n))
    for value, (i, k) in zip(packed, pairs(n), strict=True):
        full[i, k] = full[k, i] = value
    return full


def _random_effects(raw: Fits, Z: Array, residuals: Array, members: list[NDArray[np.int64]]) -> Array:
    """Z u-hat row by row: u_j = S (sigma2 I + A S)^-1 Z'(y - X b) with S the covariance of u."""
    q = Z.shape[1]
    S = _symmetric(q, raw.varcomp[0])
    noise = raw.sigma2[0] * np.eye(q)
    effects = np.empty(len(residuals))
    for s in members:
        effects[s] = Z[s] @ S @ np.linalg.solve(noise + Z[s].T @ Z[s] @ S, Z[s].T @ residuals[s])
    return effects


def _relative_roots(raw: Fits, factors: list[Array]) -> list[Array]:
    """For each random term a T (q_t, rank) with T T' its G in the units of the data, from the G of columns Z F^-1."""
    full = _symmetric(sum(map(len, factors)), raw.varcomp[0]) / raw.sigma2[0]
    roots, start = [], 0
    for F in factors:
        stop = start + len(F)
        values, vectors = np.linalg.eigh(full[start:stop, start:stop])
        kept = values > 1e-13 * max(values[-1], 0.0)
        roots.append(np.linalg.solve(F, vectors[:, kept] * np.sqrt(values[kept])))
        start = stop
    return roots


def _relative_factor(T: Array) -> Array:
    """L, lower triangular with L L' = T T'; a row that depends on those before it gets a zero column.

    Gram-Schmidt on the rows of T: a Cholesky factor of T T' would make the square root of its rounding errors a variance.
    """
    L = np.zeros((len(T), len(T)))
    directions = np.zeros_like(L, shape=(len(T), T.shape[1]))
    for j, row in enumerate(T):
        rest = row.copy()
        for _ in range(2):
            along = directions @ rest
            L[j] += along
            rest -= along @ directions
        size = np.linalg.norm(rest)
        if size > 1e-9 * np.linalg.norm(row):
            L[j, j], directions[j] = size, rest / size
    return L


def _equation(m: ModelMatrices) -> tuple[int, ...]:
    """For each fixed effect the random column of which it is a cluster-constant multiple, or -1."""
    Z = np.column_stack(m.Z)
    found = []
    for x in m.X.T:
        columns = (k for k in range(Z.shape[1]) if _constant_multiple(x, Z[:, k], m.groups))
        found.append(next(columns, -1))
    return tuple(found)


def _constant_multiple(x: Array, z: Array, groups: NDArray[np.int64]) -> bool:
    zz, xz, xx = (np.bincount(groups, weights=w) for w in (z * z, x * z, x * x))
    explained = np.divide(xz**2, zz, out=np.zeros_like(zz), where=zz > 0)
    return bool(np.all(xx - explained <= 1e-10 * np.maximum(xx, 1e-300)))
