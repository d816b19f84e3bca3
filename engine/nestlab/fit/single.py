"""One fit of one data set, with everything that people ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..spec.matrices import ModelMatrices
from ..spec.model import INTERCEPT, MAX_RANDOM
from ..spec.problems import DataError
from .checks import check_data, check_rules, check_sizes, refuse_generalised, refuse_unusable
from .hypotheses import Test, parse_hypotheses
from .inference import Model
from .lmm import Fits, fit_replicates
from .problem import (
    ScaledModel,
    gram_and_shape,
    members_of,
    own_columns,
    relative_factor,
    symmetric,
    term_numbers,
)
from .several.model import SeveralModel, factors_of, fit_factors
from .status import Status
from .weights import read_rows, weighted

if TYPE_CHECKING:
    import pandas as pd

    from .against import ModelTest
    from .glmm.single import GeneralisedFit

__all__ = ["Fit", "by_term", "finite", "fit", "fit_rows", "is_balanced", "term_names"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A linear mixed model fitted to one data set.

    It has p fixed effects, q random columns, N rows. formula, response: what was fitted, and the name of y. levels: the number of
    levels of each grouping factor, in lme4's order (most levels first); group and clusters are those of the only one, or of the
    first. reml: by REML, or by ML. rows: N; balanced: each factor has as many rows in every level; dropped: rows left out for
    missing values.
    beta, se, df: by term, in the order of lme4's; df is inf for Wald z and nan where the rule leaves none. se is Kenward and
    Roger's where df_rule is theirs; vcov_beta (p, p) is always the model's.
    theta: the free entries of the relative Cholesky factor L by columns, as lme4's; sigma: residual sd. varcomp: covariance
    of the random effects of each term, under lme4's names ("g", "g.1"); random_names: their columns. neg2loglik: -2 log
    likelihood, or the restricted criterion if reml. status: a `Status`; only ok and singular fits should be used. iterations:
    Newton steps; certificate: the largest entry of Sg G (see `kernel`), 0 at an optimum. scaled_residuals (N): conditional
    residuals over sigma, times the root of the weight. matrices: the data as the model sees them (y less the offset, rows times
    the roots of the weights), for `confint`. weights, offset: the names of their columns.

    >>> import numpy as np, pandas as pd
    >>> rng, school = np.random.default_rng(1), np.repeat(np.arange(12), 10)
    >>> x = rng.normal(size=120)
    >>> y = 1 + 0.5 * x + rng.normal(size=12)[school] + rng.normal(size=120)
    >>> found = fit("y ~ x + (1 | school)", pd.DataFrame({"y": y, "x": x, "school": school}))
    >>> round(found.beta["x"], 3), round(found.se["x"], 3), round(found.df["x"], 1), found.status.name
    (0.482, 0.106, 107.4, 'ok')
    >>> print(found.test("x = 0"))
    x = 0: t(107.4) = 4.564, p = 1.339e-05
    """

    formula: str
    response: str
    levels: dict[str, int]
    reml: bool
    rows: int
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
    matrices: ModelMatrices = field(repr=False, compare=False)
    _problem: ScaledModel | SeveralModel = field(repr=False, compare=False)
    weights: str | None = None
    offset: str | None = None

    @property
    def group(self) -> str:
        """The grouping factor; of several the one that has most levels."""
        return next(iter(self.levels))

    @property
    def clusters(self) -> int:
        """The number of its levels."""
        return self.levels[self.group]

    def test(self, hypotheses: str) -> Test:
        """Test linear hypotheses on beta jointly, by the rule of the fit: one by t, several by F.

        hypotheses: equations with commas between them, such as "x = 0, x:z = 0" or "x + 2*sex[m]:x = 0.5", of coefficients by the
        names that are printed, or by R's; or a term of the formula, "sex" or "sex:x", whose type III test it is (as lmerTest's
        anova). The rule must be one that has covariances for them ("z" gives a chi-square over its df as F). Raises DataError
        for a coefficient that the fit does not have and for equations that depend on one another.

        >>> import numpy as np, pandas as pd
        >>> g, x = np.repeat(np.arange(10), 5), np.cos(np.arange(50.0))
        >>> frame = pd.DataFrame({"g": g, "x": x, "y": np.sin(np.arange(50)) + 0.1 * g})
        >>> fit("y ~ x + (1 | g)", frame).test("x = 0").df  # singular: no variance between clusters
        48.0
        """
        m = self.matrices
        whole = {term: partial(m.type3, term) for term in m.formula.fixed if term != INTERCEPT}
        weights, values, joint = parse_hypotheses(hypotheses, m.fixed_names, m.r_names, whole)
        inference = self._problem.infer(self.df_rule, self._singular_df, [weights])
        return self._problem.test(
            inference, weights, values, np.array(list(self.beta.values())), hypotheses, joint=joint
        )

    def compare(self, null: str, *, reference: str = "asymptotic", draws: int = 999, seed: int = 1) -> ModelTest:
        """Test a smaller model within this one by the likelihood ratio, on the same rows.

        null: its formula, nested in this one factor by factor, such as "y ~ x + (1 | subject)" in "y ~ x + (1 | subject) +
        (1 | item)"; it may have no random terms. Where the fixed parts differ both are fitted by ML, otherwise as this fit was.
        reference: "asymptotic", chi-square or, for a variance, a mixture (see `spec.comparison`: with the variances of other
        factors on the boundary too it is conservative); "chisq", as anova in R; "bootstrap", `draws` responses from the null by
        the stream of `seed`. Raises DataError for models that are not nested and for tests without a known distribution.

        >>> import numpy as np, pandas as pd
        >>> g, x = np.repeat(np.arange(10), 5), np.cos(np.arange(50.0))
        >>> frame = pd.DataFrame({"g": g, "x": x, "y": np.sin(np.arange(50)) + 0.3 * g})
        >>> print(fit("y ~ x + (1 | g)", frame).compare("y ~ 1 + (1 | g)"))
        x = 0 (y ~ 1 + (1 | g)): likelihood ratio (ML) = 0.001238, p = 0.9719 by chi2(1)
        """
        from .against import test_against

        return test_against(self, null, reference=reference, draws=draws, seed=seed)

    @property
    def _singular_df(self) -> str:
        return self._problem.singular_df

    @property
    def singular(self) -> bool:
        """Whether the optimum lies on the boundary, by a rule that does not depend on units."""
        return self.status == Status.singular

    @cached_property
    def se_variances(self) -> tuple[tuple[Array, ...], float]:
        """Standard errors of the variances of each random term's columns (q_t), and of the residual variance.

        From the expected information (of the restricted likelihood for REML); nan where it is singular.
        """
        return self._problem.variances(self.matrices).ses

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

    def confint(
        self, level: float = 0.95, method: str = "profile", *, reml: bool = False, draws: int = 999, seed: int = 1
    ) -> pd.DataFrame:
        """Intervals of standard deviations, correlations, sigma and fixed effects by lme4's names, in the order of its confint.

        level: in (0, 1). method: "profile", by the ML deviance, for a REML fit too; "profile-reml" (or reml=True), by the
        restricted criterion, which has no fixed effects; "wald", by standard errors: of fixed effects with the fit's degrees of
        freedom, of variances with the expected information (the ends of an sd's are the roots of the variance's); "wald-log",
        these on the scales of log and Fisher's z; "bootstrap", percentiles of `draws` refits to responses drawn from the fit,
        by the stream of `seed`. Returns a frame of "lower" and "upper"; nan where a limit was not found. Raises DataError for
        another method, a level not between 0 and 1, or fewer than 19 draws.
        """
        from .confint import interval_table

        return interval_table(self, level=level, method="profile-reml" if reml and method == "profile" else method,
                              draws=draws, seed=seed)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """What `nestlab fit --json` prints, for json.dumps: the names of the golden files; null where a number is not finite."""
        result = {
            "neg2loglik": self.neg2loglik, "beta": self.beta, "se": list(self.se.values()), "vcov_beta": self.vcov_beta.tolist(),
            "theta": self.theta.tolist(), "sigma": self.sigma, "varcomp": {k: v.tolist() for k, v in self.varcomp.items()},
            "singular": self.singular, "lme4_isSingular": self.is_singular_lme4, "status": self.status.name,
            "status_sentence": self.status.sentence, "df": list(self.df.values()), "df_rule": self.df_rule,
            "certificate": self.certificate, "iterations": self.iterations, "dropped": self.dropped,
        }  # fmt: skip
        if self.df_rule == "satterthwaite":
            result["df_satterthwaite"] = list(self.df.values())
        if self.df_rule == "kenward-roger":
            result["se"] = np.sqrt(np.diag(self.vcov_beta)).tolist()
            result["kenward_roger"] = {"se": list(self.se.values()), "df": list(self.df.values())}
        names = {"weights": self.weights, "offset": self.offset}
        top = {
            "formula": self.formula,
            **{key: name for key, name in names.items() if name is not None},
            **({"clusters": self.clusters} if len(self.levels) == 1 else {"levels": self.levels}),
            "rows": self.rows,
            "balanced": self.balanced,
        }
        cleaned: dict[str, Any] = finite(top | {"REML" if self.reml else "ML": result})
        return cleaned


@overload
def fit(
    formula: str, data: pd.DataFrame, *, reml: bool = True, df: str | None = None, singular_df: str = "lmertest",
    weights: str | None = None, offset: str | None = None, family: Literal["gaussian"] = "gaussian",
) -> Fit: ...  # fmt: skip


@overload
def fit(
    formula: str, data: pd.DataFrame, *, reml: bool = True, df: str | None = None, singular_df: str = "lmertest",
    weights: str | None = None, offset: str | None = None, family: str, link: str | None = None, nodes: int = 1,
    trials: str | None = None, curvature: str = "observed", method: str = "likelihood", scale: str = "estimated",
) -> Fit | GeneralisedFit: ...  # fmt: skip


def fit(
    formula: str, data: pd.DataFrame, *, reml: bool = True, df: str | None = None, singular_df: str = "lmertest",
    weights: str | None = None, offset: str | None = None, family: str = "gaussian", link: str | None = None,
    nodes: int = 1, trials: str | None = None, curvature: str = "observed", method: str = "likelihood",
    scale: str = "estimated",
) -> Fit | GeneralisedFit:  # fmt: skip
    """Fit a mixed model to a data frame: linear, or generalised for binary, binomial and count outcomes.

    formula: `y ~ x + (1 + x | g)` in R's grammar, with any number of grouping factors, nested or crossed, at most 16 random
    columns and 40 fixed ones. data: a row an observation, a column a variable; text and categories are factors, rows with
    missing values are dropped. reml: restricted maximum likelihood, or maximum likelihood. df: "satterthwaite" (the default),
    "kenward-roger" (REML only), "between-within", "residual" (rows - fixed effects) or "z". singular_df: Satterthwaite's rule at
    the boundary, "lmertest" or "refit" (see `inference.infer`). weights: a column of numbers above 0, lmer's prior weights: the
    residual variance is s2 / w. offset: a column of numbers that are part of the linear predictor with coefficient 1.

    family: "gaussian", "binomial", "poisson" or "negative-binomial"; link: "logit", "probit" or "cloglog" of a binomial one.
    A binomial response is 0/1, cbind(events, others), or events with `trials`, a column of numbers. nodes: 1 for Laplace's
    method, up to 25 for adaptive Gauss-Hermite quadrature (one grouping factor, one or two random columns). curvature:
    "observed", as glmmTMB, or "expected", as glmer, whose Laplace differs with links other than the logit and the log. method:
    "likelihood", or "pql", penalised quasi-likelihood by REML or ML with a residual `scale`, "estimated" or "fixed" at 1.
    df is "z" (the default) or "between-within" for likelihoods, which are always maximised without restriction.

    Returns a `Fit`, or a `GeneralisedFit` of another family. Raises FormulaError and DataError (both ValueError), with what was
    found and the repair.

    >>> import numpy as np, pandas as pd
    >>> g = np.repeat(np.arange(10), 5)
    >>> frame = pd.DataFrame({"g": g, "y": np.sin(np.arange(50)) + 0.1 * g})
    >>> round(fit("y ~ 1 + (1 | g)", frame).beta["Intercept"], 3)
    0.453
    """
    if family != "gaussian":
        from .glmm.single import GeneralisedOptions, fit_generalised

        curved: Any = curvature
        options = GeneralisedOptions(family, link, nodes, curved, trials, method, scale, reml, df)
        return fit_generalised(formula, data, options, offset=offset, weights=weights)
    refuse_generalised(link=link, nodes=nodes, trials=trials, curvature=curvature, method=method, scale=scale)
    df = df or "satterthwaite"
    check_rules(df, singular_df, reml=reml)
    matrices, w = read_rows(formula, data, weights=weights, offset=offset)
    check_data(matrices, reml=reml)
    written = " ".join(formula.split())
    if w is None:
        return replace(fit_rows(matrices, written, reml=reml, df=df, singular_df=singular_df), offset=offset)
    matrices = weighted(matrices, w)
    check_sizes(matrices)
    found = fit_rows(matrices, written, reml=reml, df=df, singular_df=singular_df)
    return replace(found, neg2loglik=found.neg2loglik - float(np.log(w).sum()), weights=weights, offset=offset)


def fit_rows(m: ModelMatrices, formula: str, *, reml: bool, df: str, singular_df: str) -> Fit:
    """Fit a linear mixed model to its matrices; formula: as it is printed."""
    several = len(m.levels) > 1 or sum(map(len, m.random_names)) > MAX_RANDOM
    return (_fit_several if several else _fit_matrices)(m, formula, reml, df, singular_df)


def _fit_matrices(m: ModelMatrices, formula: str, reml: bool, df: str, singular_df: str) -> Fit:
    N, p = m.X.shape
    J = len(m.group_labels)
    # orthonormal columns and the residuals of the OLS fit: no digits are lost to means or units
    Q, R = np.linalg.qr(m.X)
    ols = Q.T @ m.y
    y = m.y - Q @ ols
    scale = float(np.sqrt(y @ y / N))
    _refuse_perfect(m, scale)
    factored = [np.linalg.qr(Z) for Z in m.Z]
    Z = np.column_stack([columns for columns, _ in factored]) * np.sqrt(N)
    members = members_of(m.groups)
    gram, shape = gram_and_shape(Z, Q * np.sqrt(N), y / scale, members, term_numbers(m), reml)
    model = Model(shape, np.arange(J), N, _equation(m))
    raw = fit_replicates(shape, model.groups, gram, 0, 1)
    status, sigma2 = Status(int(raw.status[0])), float(raw.sigma2[0]) * scale**2
    back = np.linalg.solve(R, np.eye(p)) * np.sqrt(N)
    beta = np.linalg.solve(R, ols) + back @ raw.beta[0] * scale
    vcov = back @ symmetric(p, raw.vcov[0]) @ back.T * scale**2
    refuse_unusable(status, usable=bool(sigma2 > 0 and (np.diag(vcov) > 0).all()), formula=formula)
    roots = _relative_roots(raw, [F / np.sqrt(N) for _, F in factored])
    terms = [m.group, *(f"{m.group}.{k}" for k in range(1, len(roots)))]
    own = own_columns(m, Q, y / scale, members, model) if status == Status.singular else None
    problem = ScaledModel(model, gram, raw, back, float(scale), singular_df, own)
    inference = problem.infer(df, singular_df, list(np.eye(p)[:, None, :]))
    adjusted = back @ symmetric(p, inference.vcov[0]) @ back.T * scale**2
    restricted = N - p if reml else N
    determinant = 2 * np.log(np.abs(np.diag(R))).sum() - p * np.log(N) if reml else 0.0
    residuals = y / scale - Q @ raw.beta[0] * np.sqrt(N)
    return Fit(
        formula=formula, response=m.response, levels={m.group: J}, reml=reml, rows=N, balanced=is_balanced(m), dropped=m.dropped,
        beta=by_term(m, beta), se=by_term(m, np.sqrt(np.diag(adjusted))), df=by_term(m, inference.df[0]), df_rule=df,
        vcov_beta=vcov,
        theta=np.concatenate([relative_factor(T).T[np.triu_indices(len(T))] for T in roots]), sigma=float(np.sqrt(sigma2)),
        varcomp={name: T @ T.T * sigma2 for name, T in zip(terms, roots, strict=True)}, random_names=m.random_names,
        neg2loglik=float(raw.deviance[0] + 2 * restricted * np.log(scale) + determinant), status=status,
        iterations=int(raw.iterations[0]), certificate=float(raw.residual[0]),
        scaled_residuals=(residuals - _random_effects(raw, Z, residuals, members)) / np.sqrt(raw.sigma2[0]), matrices=m,
        _problem=problem,
    )  # fmt: skip


def _fit_several(m: ModelMatrices, formula: str, reml: bool, df: str, singular_df: str) -> Fit:
    """The fit with several grouping factors; terms in lme4's order, those whose factor has most levels first."""
    p = len(m.fixed_names)
    ols = np.linalg.lstsq(m.X, m.y, rcond=None)[0]
    _refuse_perfect(m, float(np.sqrt(np.mean((m.y - m.X @ ols) ** 2))))
    model = fit_factors(factors_of(m), m.X, m.y, reml=reml, singular_df=singular_df)
    status, optimum = model.optimum.status, model.optimum
    refuse_unusable(status, usable=bool(optimum.deviance < np.inf and model.sigma2 > 0), formula=formula)
    back, sigma2 = model.back * model.scale, model.sigma2 * model.scale**2
    inference = model.infer(df, singular_df, list(np.eye(p)[:, None, :]))
    adjusted = back @ symmetric(p, inference.vcov[0]) @ back.T
    roots = model.covariances()
    groups = m.term_groups
    return Fit(
        formula=formula, response=m.response, reml=reml, rows=len(m.y), balanced=is_balanced(m), dropped=m.dropped,
        levels=dict(zip(dict.fromkeys(groups), model.products.levels, strict=True)),
        beta=by_term(m, ols + back @ model.beta), se=by_term(m, np.sqrt(np.diag(adjusted))),
        df=by_term(m, inference.df[0]), df_rule=df, vcov_beta=back @ model.vcov @ back.T,
        theta=np.concatenate([relative_factor(T).T[np.triu_indices(len(T))] for T in roots]), sigma=float(np.sqrt(sigma2)),
        varcomp={name: T @ T.T * sigma2 for name, T in zip(term_names(m), roots, strict=True)},
        random_names=tuple(m.random_names[t] for t in m.term_order), neg2loglik=model.neg2loglik, status=status,
        iterations=optimum.iterations, certificate=optimum.residual,
        scaled_residuals=model.residuals / np.sqrt(model.sigma2), matrices=m, _problem=model,
    )  # fmt: skip


def term_names(m: ModelMatrices) -> list[str]:
    """lme4's names of the random terms, in its order: the factor's, with .1 and so on for further ones."""
    groups = m.term_groups
    before = [groups[:k].count(name) for k, name in enumerate(groups)]
    return [f"{name}.{k}" if k else name for name, k in zip(groups, before, strict=True)]


def is_balanced(m: ModelMatrices) -> bool:
    """Whether each grouping factor has as many rows in every level."""
    sizes = [np.bincount(levels.codes) for levels in m.levels.values()]
    return all(bool((own == own[0]).all()) for own in sizes)


def _refuse_perfect(m: ModelMatrices, scale: float) -> None:
    if not scale > 1e-13 * np.abs(m.y).max():
        raise DataError(
            f"response {m.response} is fitted perfectly by the fixed effects; there is no variance to split"
        )


def finite(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def by_term(m: ModelMatrices, values: Array) -> dict[str, float]:
    """Values by the names of the fixed effects."""
    return {name: float(v) for name, v in zip(m.fixed_names, values, strict=True)}


def _random_effects(raw: Fits, Z: Array, residuals: Array, members: list[NDArray[np.int64]]) -> Array:
    """Z u-hat row by row: u_j = S (sigma2 I + A S)^-1 Z'(y - X b) with S the covariance of u."""
    q = Z.shape[1]
    S = symmetric(q, raw.varcomp[0])
    noise = raw.sigma2[0] * np.eye(q)
    effects = np.empty(len(residuals))
    for s in members:
        effects[s] = Z[s] @ S @ np.linalg.solve(noise + Z[s].T @ Z[s] @ S, Z[s].T @ residuals[s])
    return effects


def _relative_roots(raw: Fits, factors: list[Array]) -> list[Array]:
    """For each random term a T (q_t, rank) with T T' its G in the units of the data, from the G of columns Z F^-1."""
    full = symmetric(sum(map(len, factors)), raw.varcomp[0]) / raw.sigma2[0]
    roots, start = [], 0
    for F in factors:
        stop = start + len(F)
        values, vectors = np.linalg.eigh(full[start:stop, start:stop])
        kept = values > 1e-13 * max(values[-1], 0.0)
        roots.append(np.linalg.solve(F, vectors[:, kept] * np.sqrt(values[kept])))
        start = stop
    return roots


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
