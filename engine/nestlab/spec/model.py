"""The words of a study as plain data: formula, truth, predictors, layout, method, condition.

Everything downstream of `spec` works with these frozen classes; the study file (`study.py`) is only one way to make
them.

Notation: cluster j of J has n_j rows; the fixed part has p terms, the random part q columns of one grouping factor, in
one or several terms (the covariance matrix of the random effects is block-diagonal over terms). A term is named as in
the formula, "Intercept", "x", "x:z".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .prior import Prior

__all__ = [
    "DF_RULES",
    "INTERCEPT",
    "LEAST_SQUARES",
    "Condition",
    "Contrast",
    "Formula",
    "Layout",
    "Method",
    "Predictor",
    "RandomTerm",
    "Truth",
    "term_variables",
]

INTERCEPT = "Intercept"
DF_RULES = ("z", "residual", "between-within", "satterthwaite", "kenward-roger", "clusters", "bell-mccaffrey")
LEAST_SQUARES = ("ols", "fixed-effects", "cluster-means")

Path = Literal["moments", "rows"]
FactorValue = int | float | str


def term_variables(term: str) -> tuple[str, ...]:
    """The predictors that a term multiplies: () for "Intercept", ("x", "z") for "x:z"."""
    return () if term == INTERCEPT else tuple(term.split(":"))


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """One random term, `(1 + x | cluster)`: its columns share a full covariance matrix."""

    group: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed mixed-model formula.

    `fixed` and the columns of `random` hold terms in lme4's order (by degree, then as written).
    """

    text: str
    response: str
    fixed: tuple[str, ...]
    random: tuple[RandomTerm, ...]

    @property
    def group(self) -> str:
        """The grouping factor (there is one); "" if the formula has no random term."""
        return self.random[0].group if self.random else ""

    @property
    def random_columns(self) -> tuple[str, ...]:
        """The q random columns, term by term."""
        return tuple(column for term in self.random for column in term.columns)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """The number of columns of each random term; they sum to q."""
        return tuple(len(term.columns) for term in self.random)


@dataclass(frozen=True, slots=True)
class Predictor:
    """How one predictor is made.

    level: 1 varies within clusters, 2 between them. distribution: "normal" (mean, sd > 0) or "balanced" (0/1, half of
    the rows of each cluster at level 1, half of the clusters at level 2; the odd one out is a 0). redraw: False keeps
    one draw for all replicates. A balanced predictor is never redrawn.
    """

    name: str
    level: Literal[1, 2]
    distribution: Literal["normal", "balanced"]
    mean: float = 0.0
    sd: float = 1.0
    redraw: bool = True


@dataclass(frozen=True, slots=True)
class Truth:
    """The data-generating model: y = X beta + Z u + e, u ~ N(0, covariance), e ~ N(0, residual_variance).

    fixed: p values in the order of `formula.fixed`; covariance: q x q in the order of `formula.random_columns`,
    positive semi-definite, 0 between terms.
    """

    formula: Formula
    fixed: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    residual_variance: float


@dataclass(frozen=True, slots=True)
class Layout:
    """How many rows each cluster has: J integers >= 1."""

    sizes: tuple[int, ...]

    @property
    def clusters(self) -> int:
        return len(self.sizes)

    @property
    def rows(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A target made of fixed effects: weights, a row of (term, weight) pairs; several rows are one joint hypothesis.

    standardise: divided by the square root of the residual variance, or of the "total" one, which adds that of the random
    intercept. The test is of null, against the alternative; equivalence (low, high): two one-sided tests instead.
    """

    name: str
    weights: tuple[tuple[tuple[str, float], ...], ...]
    standardise: Literal["residual", "total"] | None = None
    null: float = 0.0
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    equivalence: tuple[float, float] | None = None

    @property
    def joint(self) -> bool:
        """Whether it is several hypotheses, which have a test and no estimate."""
        return len(self.weights) > 1

    @property
    def terms(self) -> tuple[str, ...]:
        """The fixed effects that take part."""
        return tuple(dict.fromkeys(term for row in self.weights for term, _ in row))


@dataclass(frozen=True, slots=True)
class Method:
    """A way to analyse: estimator and inference.

    df: rules of degrees of freedom, one or several, all of one fit; singular_df: what Satterthwaite's does at the boundary.
    alpha is the level of tests and 1 - coverage of intervals, in (0, 1). contrasts: those of the study that it estimates.
    intervals: of fixed effects, by the rules of df ("t"), or one kind for all of them; variance_intervals: of variances, sds and
    correlations, if any. compare: the null model of a likelihood ratio test, whose p value is by `reference`. draws: of the
    bootstrap, and of simulated null distributions. robust: cluster-robust standard errors in place of the model's; weights: of
    cluster means. The formula of least squares has no random part, and that of "fixed-effects" no term that clusters absorb.
    """

    name: str
    formula: Formula
    estimator: Literal["lmm", "statsmodels", "ols", "fixed-effects", "cluster-means"] = "lmm"
    reml: bool = True
    df: tuple[str, ...] = ("satterthwaite",)
    singular_df: Literal["lmertest", "refit"] = "lmertest"
    alpha: float = 0.05
    contrasts: tuple[Contrast, ...] = ()
    intervals: Literal["t", "profile", "bootstrap"] = "t"
    variance_intervals: Literal["wald", "wald-log", "profile", "profile-reml", "bootstrap"] | None = None
    compare: Formula | None = None
    reference: Literal["asymptotic", "exact", "bootstrap"] = "asymptotic"
    draws: int = 999
    robust: Literal["CR0", "CR1", "CR1S", "CR2"] | None = None
    weights: Literal["size"] | None = None

    @property
    def least_squares(self) -> bool:
        """Whether it has no random effects: least squares, from the Gram."""
        return self.estimator in LEAST_SQUARES

    @property
    def by_rows(self) -> bool:
        """Whether it works on rows, not on the Gram."""
        return self.estimator != "lmm" and not self.least_squares

    @property
    def random(self) -> bool:
        """Whether the analysis itself draws numbers."""
        bootstrap = "bootstrap" in (self.intervals, self.variance_intervals)
        return bootstrap or (self.compare is not None and self.reference != "asymptotic")

    @property
    def labels(self) -> tuple[str, ...]:
        """What its results are called in the summary: its name, with the rule where there are several."""
        return (self.name,) if len(self.df) == 1 else tuple(f"{self.name}/{rule}" for rule in self.df)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the columns of each rule end in."""
        return ("",) if len(self.df) == 1 else tuple(f"/{rule}" for rule in self.df)


@dataclass(frozen=True, slots=True)
class Condition:
    """One point of the grid: its truth, predictors and layout, with the seed and the block size that fix its stream.

    factors: the grid's axes and their values here, for people; they are not part of the identity.
    path: "moments" draws sufficient statistics, "rows" draws rows and streams them into the same statistics.
    predictors: in order of name. block_size: replicates that share one random stream. held: correlations "a:b" that the
    covariance cannot show, because a variance is 0 here; for descriptions only. priors: (axis, prior) of each value of the
    truth that every replicate draws anew, in the order in which they act (`uncertain`); the truth then holds their means.
    A number instead of a prior is a short name (icc = 0.2) that is held while what it multiplies is drawn.
    """

    factors: Mapping[str, FactorValue] = field(compare=False)
    seed: int
    layout: Layout
    truth: Truth
    predictors: tuple[Predictor, ...]
    path: Path
    block_size: int
    held: Mapping[str, float] = field(default_factory=dict, compare=False)
    priors: tuple[tuple[str, Prior | float], ...] = ()

    def predictor(self, name: str) -> Predictor:
        return next(p for p in self.predictors if p.name == name)
