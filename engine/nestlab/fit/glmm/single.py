"""One generalised fit of one data set, with everything that people ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spec.family import Family, mean_of
from ...spec.matrices import ModelMatrices
from ...spec.model import INTERCEPT
from ...spec.problems import DataError, show
from ..checks import one_of, refuse_unusable
from ..hypotheses import Test, parse_hypotheses
from ..inference import Inference
from ..problem import hypotheses_test
from ..several.model import factors_of
from ..several.nesting import between_within_df
from ..single import by_term, finite, is_balanced, term_names
from ..status import Status
from ..weights import read_counts
from .checks import check_columns, check_counts, check_options, family_of
from .families import ObservedRows
from .model import GlmmModel, fit_glmm
from .objective import Curvature

if TYPE_CHECKING:
    import pandas as pd

    from ..against import ModelTest

__all__ = ["METHODS", "GeneralisedFit", "GeneralisedOptions", "fit_generalised"]

Array = NDArray[np.float64]

#: Rules of degrees of freedom.
RULES = ("z", "between-within")
#: Ways to fit.
METHODS = ("likelihood", "pql")


@dataclass(frozen=True)
class GeneralisedOptions:
    """How to fit, of `nestlab.fit`'s arguments. family, link: by name; nodes: of the quadrature, 1 for Laplace; curvature:
    "observed" or "expected"; trials: a column; method: "likelihood" or "pql"; scale and reml: of pql; df: a rule."""

    family: str
    link: str | None = None
    nodes: int = 1
    curvature: Curvature = "observed"
    trials: str | None = None
    method: str = "likelihood"
    scale: str = "estimated"
    reml: bool = True
    df: str | None = None


@dataclass(frozen=True)
class GeneralisedFit:
    """A generalised linear mixed model fitted to one data set.

    It has p fixed effects and N rows. formula, response: what was fitted, and the name of y. family, link: by name. levels: the
    number of levels of each grouping factor, in lme4's order (most levels first). nodes: of the quadrature, 1 for Laplace;
    curvature: the information about the linear predictor that scales them, "observed" or "expected"; method: "likelihood" or
    "pql". rows: N; balanced: each factor has as many rows in every level; dropped: rows left out for missing values.
    beta, se, df: by term, in the order of lme4's; df is inf for Wald z, by df_rule. A coefficient that runs to infinity is
    infinite, or nan where to either side, and has no se; diverging names it, and "theta" where standard deviations of random
    effects run there. vcov_beta (p, p): of beta.
    theta: the free entries of the Cholesky factor L of the random effects' covariance by columns, as lme4's. varcomp:
    covariance of the random effects of each term, under lme4's names; random_names: their columns. dispersion: k of
    a negative binomial family, Var y = mu + mu^2 / k, nan for others; scale: the residual standard deviation of pql, else nan.
    neg2loglik: -2 log likelihood with all its constants, nan for pql, which has none. status: a `Status`; only ok and singular
    fits should be used, and of a separated one the coefficients that are finite. iterations: Newton steps, or rounds of pql;
    certificate: the largest slope left, in units of deviance per standard error or relative change of G (see `search.SearchEnd`).
    modes: for each grouping factor the conditional modes of the random effects (levels, q). fitted (N): means of y at the
    modes. scaled_residuals (N): Pearson's. trials, offset: the columns, if they were named; weights: none. reml: whether pql is
    by REML. matrices: the data as the model sees them.

    >>> import numpy as np, pandas as pd, nestlab as nl
    >>> rng, school = np.random.default_rng(1), np.repeat(np.arange(20), 10)
    >>> x = rng.normal(size=200)
    >>> y = rng.binomial(1, 1 / (1 + np.exp(-x - rng.normal(size=20)[school])))
    >>> found = nl.fit("y ~ x + (1 | school)", pd.DataFrame({"y": y, "x": x, "school": school}), family="binomial")
    >>> round(found.beta["x"], 3), round(found.se["x"], 3), found.status.name
    (0.978, 0.216, 'ok')
    """

    formula: str
    response: str
    family: str
    link: str
    levels: dict[str, int]
    nodes: int
    curvature: str
    method: str
    rows: int
    balanced: bool
    dropped: int
    beta: dict[str, float]
    se: dict[str, float]
    df: dict[str, float]
    df_rule: str
    vcov_beta: Array
    theta: Array
    varcomp: dict[str, Array]
    random_names: tuple[tuple[str, ...], ...]
    dispersion: float
    scale: float
    neg2loglik: float
    status: Status
    diverging: tuple[str, ...]
    iterations: int
    certificate: float
    modes: dict[str, Array]
    fitted: Array
    scaled_residuals: Array
    matrices: ModelMatrices = field(repr=False, compare=False)
    _model: GlmmModel = field(repr=False, compare=False)
    weights: str | None = None
    offset: str | None = None
    trials: str | None = None
    reml: bool = False

    @property
    def parameters(self) -> int:
        """How many were estimated: fixed effects, theta and the dispersion."""
        return len(self.beta) + len(self.theta) + (self.family == "negative-binomial")

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return self.neg2loglik + 2 * self.parameters

    @property
    def deviance(self) -> float:
        """What glmer calls the deviance: -2 log likelihood."""
        return self.neg2loglik

    @property
    def singular(self) -> bool:
        """Whether the optimum lies on the boundary, by a rule that does not depend on units."""
        return self.status == Status.singular

    def test(self, hypotheses: str) -> Test:
        """Test linear hypotheses on beta jointly: one by z or t, several by F (chi-square over its df where df is "z").

        hypotheses: equations with commas between them, such as "x = 0, x:z = 0", or a term of the formula, as in `Fit.test`.
        Raises DataError for a coefficient that the fit does not have or that runs to infinity.

        >>> import numpy as np, pandas as pd, nestlab as nl
        >>> g, x = np.repeat(np.arange(10), 6), np.cos(np.arange(60.0))
        >>> frame = pd.DataFrame({"g": g, "x": x, "y": (np.arange(60) ** 2 + g) % 5 % 2})
        >>> print(nl.fit("y ~ x + (1 | g)", frame, family="binomial").test("x = 0"))
        x = 0: z = -0.7209, p = 0.471
        """
        m = self.matrices
        whole = {term: partial(m.type3, term) for term in m.formula.fixed if term != INTERCEPT}
        weights, values, joint = parse_hypotheses(hypotheses, m.fixed_names, m.r_names, whole)
        used = np.abs(weights).sum(axis=0) > 0
        beta = np.array(list(self.beta.values()))
        if not np.isfinite(beta[used]).all():
            lost = ", ".join(n for n, b, u in zip(self.beta, beta, used, strict=True) if u and not np.isfinite(b))
            raise DataError(f"hypotheses {hypotheses!r}: {lost} has no finite estimate; test others")
        df = np.array([[min(d for d, u in zip(self.df.values(), used, strict=True) if u)]])
        finite_beta = np.where(used, beta, 0.0)
        vcov = np.where(np.outer(used, used), self.vcov_beta, 0.0)
        inference = Inference(df, np.empty((1, 0)), np.ones((1, 1)))
        return hypotheses_test(inference, vcov, weights, values, finite_beta, hypotheses, joint=joint)

    def compare(self, null: str, *, reference: str = "asymptotic") -> ModelTest:
        """Test a smaller model within this one by the likelihood ratio, on the same rows.

        null: its formula, nested in this one factor by factor; it may have no random terms. reference: "asymptotic", chi-square
        or, for a variance, a mixture (see `spec.comparison`); "chisq", as anova in R. Raises DataError for models that are not
        nested, for pql, and for tests without a known distribution.

        >>> import numpy as np, pandas as pd, nestlab as nl
        >>> g, x = np.repeat(np.arange(10), 6), np.cos(np.arange(60.0))
        >>> frame = pd.DataFrame({"g": g, "x": x, "y": (np.arange(60) ** 2 + g) % 5 % 2})
        >>> print(nl.fit("y ~ x + (1 | g)", frame, family="binomial").compare("y ~ 1 + (1 | g)"))
        x = 0 (y ~ 1 + (1 | g)): likelihood ratio (ML) = 0.5248, p = 0.4688 by chi2(1)
        """
        from ..against import test_generalised

        return test_generalised(self, null, reference=reference)

    def refit(self, formula: str | None = None) -> GlmmModel:
        """Fit a model that is nested in this one, by its formula, to the same rows by the same method."""
        from ...spec.formula import parse_formula

        m, own = self.matrices, self._model
        if formula is None:
            return own
        nested = m.nested(parse_formula(formula))
        factors = factors_of(nested) if nested.Z else own.factors
        return fit_glmm(
            own.outcome, nested.X, factors, own.offset, nodes=self.nodes, curvature=_curvature(self.curvature),
            without_random=not nested.Z,
        )  # fmt: skip

    def summary(self) -> str:
        """The fit in glmer's layout, numbers by R's rule of joint significant digits."""
        from .printed import generalised_text

        return generalised_text(self)

    def confint(self, level: float = 0.95, method: str = "wald") -> pd.DataFrame:
        """Intervals of standard deviations, correlations and fixed effects by lme4's names, in the order of its confint.

        level: in (0, 1). method: "wald", by standard errors, of fixed effects with the fit's degrees of freedom and of standard
        deviations and correlations by the delta method; "profile", by the likelihood. Returns a frame of "lower" and "upper";
        nan where there is no limit. Raises DataError for another method, a level not between 0 and 1, and profiles of pql.
        """
        from .intervals import generalised_intervals

        return generalised_intervals(self, level=level, method=method)

    def to_dict(self) -> dict[str, Any]:
        """What `nestlab fit --json` prints, for json.dumps; null where a number is not finite."""
        result = {
            "neg2loglik": self.neg2loglik, "aic": self.aic, "beta": self.beta, "se": list(self.se.values()),
            "vcov_beta": self.vcov_beta.tolist(), "theta": self.theta.tolist(),
            "varcomp": {k: v.tolist() for k, v in self.varcomp.items()},
            **({"dispersion": self.dispersion} if self.family == "negative-binomial" else {}),
            **({"scale": self.scale} if self.method == "pql" else {}),
            "singular": self.singular, "status": self.status.name, "status_sentence": self.status.sentence,
            "diverging": list(self.diverging), "df": list(self.df.values()), "df_rule": self.df_rule,
            "certificate": self.certificate, "iterations": self.iterations, "dropped": self.dropped,
            "modes": {name: u.tolist() for name, u in self.modes.items()},
        }  # fmt: skip
        names = {"weights": self.weights, "offset": self.offset, "trials": self.trials}
        kind = {"likelihood": "ML", "pql": "PQL, REML" if self.reml else "PQL, ML"}[self.method]
        top = {
            "formula": self.formula, "family": self.family, "link": self.link,
            **({"nodes": self.nodes, "curvature": self.curvature} if self.method == "likelihood" else {}),
            **{key: name for key, name in names.items() if name is not None},
            "levels": self.levels, "rows": self.rows, "balanced": self.balanced,
        }  # fmt: skip
        cleaned: dict[str, Any] = finite(top | {kind: result})
        return cleaned


def fit_generalised(
    formula: str, data: pd.DataFrame, options: GeneralisedOptions, *, offset: str | None = None, weights: str | None = None
) -> GeneralisedFit:  # fmt: skip
    """Fit a family other than the normal one; see `nestlab.fit`."""
    family = family_of(options.family, options.link)
    one_of("method", options.method, METHODS)
    if weights is not None:
        raise DataError(
            f"weights = {show(weights)}: family {family.name} takes none; give trials of a binomial outcome"
        )
    if options.method == "pql":
        from .pql import fit_pql

        return fit_pql(formula, data, family, options, offset=offset)
    df = options.df or "z"
    check_options(family, nodes=options.nodes, curvature=options.curvature, df=df, rules=RULES)
    m, outcome, o = read_outcome(formula, data, family, options, offset=offset)
    check_columns(m, family, outcome.trials, options.nodes)
    model = fit_glmm(outcome, m.X, factors_of(m), o, nodes=options.nodes, curvature=_curvature(options.curvature))
    written = " ".join(formula.split())
    refuse_unusable(model.status, usable=True, formula=written)
    return replace(described(model, m, family, written, df), offset=offset, trials=options.trials)


def read_outcome(
    formula: str, data: pd.DataFrame, family: Family, options: GeneralisedOptions, *, offset: str | None
) -> tuple[ModelMatrices, ObservedRows, Array]:
    """The matrices, the outcome and the offset (N) of a formula on a frame."""
    m, trials, o = read_counts(formula, data, trials=options.trials, offset=offset)
    return m, ObservedRows(family, m.y, check_counts(m, family, trials, options.trials)), o


def described(model: GlmmModel, m: ModelMatrices, family: Family, formula: str, df: str) -> GeneralisedFit:
    """What people are told of a model."""
    factors, outcome, point = model.factors, model.outcome, model.point
    se = np.sqrt(np.diag(model.vcov))
    free = between_within_df(factors, m.X) if df == "between-within" else np.full(len(se), np.inf)
    fitted = mean_of(family.link, model.linear_predictor) * outcome.trials
    groups = tuple(dict.fromkeys(m.term_groups))
    objective = model.objective
    return GeneralisedFit(
        formula=formula, response=m.response, family=family.name, link=family.link,
        levels=dict(zip(groups, (f.levels for f in factors), strict=True)),
        nodes=objective.nodes if objective else 1, curvature=objective.curvature if objective else "observed",
        method="likelihood", rows=len(m.y), balanced=is_balanced(m), dropped=m.dropped, beta=by_term(m, model.beta),
        se=by_term(m, se), df=by_term(m, free), df_rule=df, vcov_beta=model.vcov, theta=model.theta,
        varcomp=dict(zip(term_names(m), model.covariances, strict=True)),
        random_names=tuple(m.random_names[t] for t in m.term_order), dispersion=model.dispersion, scale=float("nan"),
        neg2loglik=model.deviance, status=model.status,
        diverging=_diverging(model, m),
        iterations=point.iterations if point else 0, certificate=point.residual if point else float("nan"),
        modes=dict(zip(groups, model.modes, strict=True)), fitted=fitted,
        scaled_residuals=pearson(outcome, fitted, model.dispersion), matrices=m, _model=model,
    )  # fmt: skip


def _diverging(model: GlmmModel, m: ModelMatrices) -> tuple[str, ...]:
    """The coefficients that run to infinity, and "theta" where standard deviations of random effects do."""
    signs = model.recession.signs
    if model.lost and not model.recession.any:
        return (*m.fixed_names, "theta")
    return tuple(name for name, sign in zip(m.fixed_names, signs, strict=True) if sign != 0)


def pearson(outcome: ObservedRows, fitted: Array, dispersion: float) -> Array:
    """(N): what the outcomes differ by from their means, over their standard deviations; 0 in rows that are certain."""
    if outcome.family.name == "binomial":
        variance = fitted * (1 - fitted / outcome.trials)
    else:
        variance = fitted + (fitted**2 / dispersion if outcome.dispersed else 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 0, (outcome.y - fitted) / np.sqrt(variance), 0.0)


def _curvature(name: str) -> Curvature:
    return "expected" if name == "expected" else "observed"
