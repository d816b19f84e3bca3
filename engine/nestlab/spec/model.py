"""The words of a study as plain data: formula, truth, predictors, layout, method, condition.

Everything downstream of `spec` works with these frozen classes; the study file (`study.py`) is only one way to make
them.

Notation: cluster j of J has n_j rows; the fixed part has p terms, the random part q columns of one grouping factor, in
one or several terms (the covariance matrix of the random effects is block-diagonal over terms). A term is named as in
the formula, "Intercept", "x", "x:z".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from .family import GAUSSIAN, Family
from .prior import Prior

__all__ = [
    "CENTRINGS",
    "DF_RULES",
    "INTERCEPT",
    "MAX_FIXED",
    "MAX_RANDOM",
    "MOST_RANDOM",
    "NORMAL",
    "Condition",
    "Contrast",
    "Distribution",
    "Effect",
    "Errors",
    "Formula",
    "Grouping",
    "Joined",
    "Layout",
    "Method",
    "Missing",
    "Predictor",
    "RandomTerm",
    "Sizes",
    "Structure",
    "Truth",
    "source_of",
    "term_variables",
]

INTERCEPT = "Intercept"
#: Functions of a level-1 predictor that a formula may name: deviation from the cluster's mean, that mean, deviation from the mean
#: of all rows.
CENTRINGS = ("within", "between", "center")
DF_RULES = ("z", "residual", "between-within", "satterthwaite", "kenward-roger", "clusters", "bell-mccaffrey")

#: Colons and parentheses; quotes and categories, whose colons multiply nothing.
_MARKS = re.compile(r"""`[^`]*`|'[^']*'|"[^"]*"|\[[^]]*\]|[():]""")
#: Columns of the largest model, fixed and random: of study files, of data, and of the memory in which they are fitted. A fit of
#: 40 clusters of 30 rows takes 34 us with 4 random columns, 71 with 5, 204 with 6, 1,468 with 8; its profile limits 7 and 99 ms.
MAX_FIXED, MAX_RANDOM = 40, 6
#: Random columns of several grouping factors together.
MOST_RANDOM = 16

Path = Literal["moments", "rows", "strata"]
EffectKind = Literal["d", "r2", "odds_ratio", "rate_ratio", "difference", "baseline"]
FactorValue = int | float | str


@lru_cache(maxsize=4096)
def term_variables(term: str) -> tuple[str, ...]:
    """The predictors that a term multiplies: () for "Intercept", ("x", "z") for "x:z".

    >>> term_variables("C(k, 'a:b'):I(x > (z)):`odd:name`")
    ("C(k, 'a:b')", 'I(x > (z))', '`odd:name`')
    """
    if term == INTERCEPT:
        return ()
    parts, start, depth = [], 0, 0
    for match in _MARKS.finditer(term):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match[0] == ":" and depth == 0:
            parts.append(term[start : match.start()])
            start = match.end()
    return (*parts, term[start:])


def source_of(variable: str) -> tuple[str, str]:
    """The predictor behind a variable of a formula, and what is made of it: a centring, a category's contrast, or nothing.

    >>> source_of("within(x)"), source_of("k[b]"), source_of("x")
    (('x', 'within'), ('k', '[b]'), ('x', ''))
    """
    for centring in CENTRINGS:
        if variable.startswith(f"{centring}(") and variable.endswith(")"):
            return variable[len(centring) + 1 : -1], centring
    name, bracket, rest = variable.partition("[")
    return name, bracket + rest


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """One random term, `(1 + x | cluster)`: its columns share a full covariance matrix."""

    group: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed mixed-model formula.

    `fixed` and the columns of `random` hold terms in lme4's order (by degree, then as written); `offsets` what is in offset(...);
    `variables` the names and calls of the fixed part, in the order in which they first stand there. factors: of a study with
    several grouping factors, their names, and the factor in which each is nested or ""; tabled: those of them that are nested in
    none and have a table of their own, where their number of levels stands. family: of the response, and the link.
    """

    text: str
    response: str
    fixed: tuple[str, ...]
    random: tuple[RandomTerm, ...]
    offsets: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    factors: tuple[tuple[str, str], ...] = ()
    tabled: tuple[str, ...] = ()
    family: Family = GAUSSIAN

    @property
    def group(self) -> str:
        """The grouping factor of the first random term; "" if the formula has none."""
        return self.random[0].group if self.random else ""

    @property
    def groups(self) -> tuple[str, ...]:
        """The grouping factors; those of (1 | a/b) are "a" and "a:b"."""
        return tuple(dict.fromkeys(term.group for term in self.random))

    @property
    def parts(self) -> tuple[Formula, ...]:
        """The formula once for each grouping factor, with the random terms of that only; itself where it has one or none."""
        if len(self.groups) < 2:
            return (self,)
        return tuple(self.of(group) for group in self.groups)

    def of(self, group: str) -> Formula:
        """The formula with the random terms of one grouping factor."""
        return replace(self, random=tuple(term for term in self.random if term.group == group))

    def holds(self, group: str, at: str) -> bool:
        """Whether what lives on the levels of `at` ("" for rows) is constant within levels of `group`.

        >>> nested = Formula("", "y", (), (), factors=(("school", ""), ("class", "school")))
        >>> nested.holds("class", "school"), nested.holds("school", "class")
        (True, False)
        """
        holders, inside = dict(self.factors), set()
        for name in group.split(":"):
            while name:
                inside.add(name)
                name = holders.get(name, "")
        return bool(at) and set(at.split(":")) <= inside

    @property
    def random_table(self) -> str:
        """The table of a study file that the random effects of its one grouping factor stand in: "truth.random.school"."""
        return f"truth.random.{self.group}"

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """(grouping factor, column) of each of the q random columns, term by term."""
        return tuple((term.group, column) for term in self.random for column in term.columns)

    @property
    def intercepts(self) -> tuple[str, ...]:
        """The grouping factors that have a random intercept."""
        return tuple(group for group, column in self.places if column == INTERCEPT)

    def shared(self, group: str, among: Sequence[str]) -> tuple[str, ...]:
        """Those of some grouping factors of whose levels two rows share one that share a level of `group`: what holds it, or is
        crossed in it, and itself; of a formula of a study with several."""
        holders, inside = dict(self.factors), set[str]()
        for name in group.split(":"):
            while name:
                inside.add(name)
                name = holders[name]
        return tuple(each for each in among if inside.issuperset(each.split(":")))

    @property
    def random_columns(self) -> tuple[str, ...]:
        """The q random columns, term by term."""
        return tuple(column for term in self.random for column in term.columns)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """The number of columns of each random term; they sum to q."""
        return tuple(len(term.columns) for term in self.random)


@dataclass(frozen=True, slots=True)
class Effect:
    """A fixed effect in standard units, which `effects` turns into a coefficient.

    kind "d": value standard deviations of the response, by "total" (random intercept and residual) or "residual" variance, or by
    that of the "outcome" within arms, their mean or the control's ("outcome-control"), per unit of the term or per standard
    deviation of it. kind "r2": the share, in [0, 1), of the response's variance at a level that the term explains, by "outcome"
    that which all covariates explain within arms; negative: of its coefficient. Of other families: odds_ratio, rate_ratio, and
    difference, of the mean (a probability, a rate) from the baseline; baseline, of the Intercept, the mean where all predictors
    and random effects are 0. level: of that share, 1 within and 2 between
    clusters, 0 while it is not known. at_means: the coefficient follows from values that have priors, at their means.
    """

    kind: EffectKind
    value: float
    by: Literal["total", "residual", "outcome", "outcome-control"] = "total"
    per: Literal["unit", "sd"] = "unit"
    negative: bool = False
    level: Literal[0, 1, 2] = 0
    at_means: bool = False

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """For people: "d = 0.3 by total variance", "r2 = 0.1 of level 1, negative"."""
        return f"{self.kind} = {self.value:.10g} {self.unit}".rstrip() + (
            ", at the means of the priors" if self.at_means else ""
        )

    @property
    def unit(self) -> str:
        """What the number counts: "by total variance", "by residual variance, per sd", "of level 2"."""
        if self.kind not in ("d", "r2"):
            return ""
        if self.kind == "d":
            by = {"outcome": "the outcome's", "outcome-control": "the control arm's outcome"}.get(self.by, self.by)
            return f"by {by} variance" + (", per sd" if self.per == "sd" else "")
        whose = " within arms, with other covariates" if self.by == "outcome" else ""
        return (
            (f"of level {self.level}" if self.level else "of its level")
            + whose
            + (", negative" if self.negative else "")
        )

    def table(self) -> dict[str, float | str]:
        """As a study file has it, without what is at its default."""
        given: dict[str, float | str] = {self.kind: self.value}
        given |= {"by": self.by} if self.by != "total" else {}
        given |= {"per": self.per} if self.per != "unit" else {}
        return given | ({"sign": "-"} if self.negative else {})


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution but for its mean and variance, which are stated elsewhere; it is rescaled to them.

    kind: a name of `predictors.SHAPES`, or of a predictor's distribution; parameters: those that it needs. A negative skewness
    turns it round.
    """

    kind: str = "normal"
    parameters: tuple[tuple[str, float], ...] = ()

    def __getitem__(self, name: str) -> float:
        return dict(self.parameters)[name]


NORMAL = Distribution()


@dataclass(frozen=True, slots=True)
class Predictor:
    """How one predictor is made.

    level: 1 varies within clusters, 2 between them. at: of a study with several grouping factors, the one, or the crossing "a:b",
    on whose levels a predictor of level 2 lives; its level 1 is that of rows, and their place in their cell counts where a
    distribution speaks of clusters; crossing: how many levels each of its factors has. distribution: a name of
    `predictors.DISTRIBUTIONS`; each has a file that says what it makes of the rest. mean, sd, shape: of what is drawn from a
    distribution of numbers (binary: mean is the probability of a 1; time: the first row's value and the step). values, sequences:
    by the row in its cluster, or by cluster at level 2; with categories they hold the numbers of these, 0, 1, ... shares: of 0,
    1, ... or of the categories. arms: the numbers of clusters with the values 0, 1, ... blocks: shares hold within so many
    clusters, or where the level-2 predictor of that name has one value.

    redraw: False keeps one draw for all replicates. What is known is not drawn; at level 2 redraw then puts its values to
    clusters at random, within blocks where there are any. icc: of a level-1 predictor, the share of its variance between
    clusters, which is the correlation of two of its rows. iccs: of several grouping factors, (factor or crossing, share) of those
    between whose levels a part of its variance lies; the correlation of two rows is the sum over those that they share.
    """

    name: str
    level: Literal[1, 2]
    distribution: str
    mean: float = 0.0
    sd: float = 1.0
    redraw: bool = True
    shape: tuple[tuple[str, float], ...] = ()
    icc: float = 0.0
    iccs: tuple[tuple[str, float], ...] = ()
    values: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    coding: Literal["treatment", "sum", "helmert"] = "treatment"
    sequences: tuple[tuple[float, ...], ...] = ()
    arms: tuple[int, ...] = ()
    blocks: int | str = 0
    at: str = ""
    crossing: tuple[int, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The variables that it gives to formulas: its name, or where it has categories a contrast for all but one of them, named
        by the category that is compared: with the first (treatment), with the mean (sum) or with those before it (helmert)."""
        if not self.categories:
            return (self.name,)
        kept = self.categories[:-1] if self.coding == "sum" else self.categories[1:]
        return tuple(f"{self.name}[{category}]" for category in kept)

    @property
    def outer(self) -> bool:
        """Whether it has one value per cluster."""
        return self.level == 2 or bool(self.arms)


@dataclass(frozen=True, slots=True)
class Errors:
    """What the level-1 errors are beside their variance.

    ratios: predictors whose unit multiplies the variance, which is the stated one where they are 0. cluster_cv: coefficient of
    variation of the clusters' residual variances, lognormal with the stated mean. ar1: correlation of neighbouring rows of a
    cluster, in (-1, 1); they are made of normal scores that follow an autoregression, so that every row has the distribution.
    """

    distribution: Distribution = NORMAL
    ratios: tuple[tuple[str, float], ...] = ()
    cluster_cv: float = 0.0
    ar1: float = 0.0


@dataclass(frozen=True, slots=True)
class Truth:
    """The data-generating model: y = X beta + Z u + e, u ~ N(0, covariance), e ~ N(0, residual_variance).

    fixed: p values in the order of `formula.fixed`; covariance: q x q in the order of `formula.random_columns`,
    positive semi-definite, 0 between terms. errors, random: other distributions of e, and of u = L v: v has independent entries
    of that distribution with mean 0 and variance 1, L is the covariance's lower factor. shapes: of several grouping factors,
    those whose effects are not normal, in place of random.

    Outcomes of another family (`formula.family`): link(mean of y) = X beta + Z u; trials, exposure: of each row, as the family
    has them; residual_variance is then that of the latent error behind a binary outcome, 1 for counts, and is not drawn.
    """

    formula: Formula
    fixed: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    residual_variance: float
    errors: Errors = Errors()
    random: Distribution = NORMAL
    shapes: tuple[tuple[str, Distribution], ...] = ()
    trials: int = 1
    exposure: float = 1.0

    def shape_of(self, group: str) -> Distribution:
        """The distribution of a grouping factor's random effects."""
        return dict(self.shapes).get(group, self.random)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Cluster sizes as a distribution: kind "poisson", "negative-binomial", "uniform", "lognormal" (rounded) with `mean` and
    coefficient of variation `cv`, or "empirical", drawn from `values` with replacement. No cluster is smaller than `minimum`:
    smaller draws are raised to it. redraw: in every replicate, or once for all.
    """

    kind: str
    mean: float = 0.0
    cv: float = 0.0
    values: tuple[int, ...] = ()
    minimum: int = 1
    redraw: bool = True


@dataclass(frozen=True, slots=True)
class Grouping:
    """A factor that groups rows: its name in formulas ("" if none has it), and how many levels a design has of it.

    within: the grouping in whose levels its own are nested, if any.
    """

    name: str
    levels: int
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """How rows draw their levels of a factor that does not divide the cells, given their levels of the factor `given`.

    A share `mixing` of the rows goes to any of the G levels, each as likely as the others. The rest go to one of the levels of a
    window: `window` times G of them in turn, beginning at the place of the given level; level 1 follows level G. redraw: in each
    replicate, or once for all.
    """

    given: str
    window: float = 0.0
    mixing: float = 0.0
    redraw: bool = True

    def width(self, levels: int) -> int:
        """The number of levels of a window, at least 1."""
        return min(levels, max(1, round(self.window * levels)))


@dataclass(frozen=True, slots=True)
class Structure:
    """How several grouping factors divide the rows of a design into cells.

    groupings: in the order of the study file, a nested one after the one that holds it; their levels are counted in the whole
    design. numbers: of each, how many levels it has, one number for each level of the factor that holds it. Every level of a
    factor that is nested in none goes with every level of the others; rows: in each cell.

    What is not so: sizes, the rows of each cell where they differ; drawn, the distributions of numbers of levels, by factor, and
    of rows, by "", in which case numbers and rows are rounded means; joined, the factors that divide no cells, and how rows draw
    their levels; listed, of each factor the level 0, 1, ... of each row where a file has the rows: all of them are one cell then.
    """

    groupings: tuple[Grouping, ...]
    numbers: tuple[tuple[int, ...], ...]
    rows: int
    sizes: tuple[int, ...] = ()
    drawn: tuple[tuple[str, Sizes], ...] = ()
    joined: tuple[tuple[str, Joined], ...] = ()
    listed: tuple[tuple[int, ...], ...] = ()

    @property
    def redrawn(self) -> bool:
        """Whether replicates differ in their numbers of levels or rows."""
        return any(sizes.redraw for _, sizes in self.drawn)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(grouping.name for grouping in self.groupings)

    def grouping(self, name: str) -> Grouping:
        """The factor of this name, or the crossing "a:b" of several."""
        found = [each for each in self.groupings if each.name in name.split(":")]
        if len(found) == 1:
            return found[0]
        return Grouping(name, math.prod(each.levels for each in found))


@dataclass(frozen=True, slots=True)
class Layout:
    """How many rows each cluster has: J integers >= 1.

    drawn: the distribution from which they come, and of which `sizes` are then rounded means, of all clusters or, for a design
    by arm, of each arm in turn: (clusters, distribution or None where sizes hold). turns: sizes that all clusters, or those of
    each arm, take in turn, where they are given so; they say nothing that `sizes` does not, but hold for any number of clusters.
    """

    sizes: tuple[int, ...]
    drawn: tuple[tuple[int, Sizes | None], ...] = ()
    turns: tuple[tuple[int, ...], ...] = ()

    @property
    def clusters(self) -> int:
        return len(self.sizes)

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    @property
    def redrawn(self) -> bool:
        """Whether sizes differ between replicates."""
        return any(sizes is not None and sizes.redraw for _, sizes in self.drawn)


@dataclass(frozen=True, slots=True)
class Missing:
    """Which rows are never observed; those that remain are analysed.

    rows: share of rows lost completely at random; clusters: share of clusters lost, likewise. hazard: probability that a cluster,
    observed until a row, is lost from the next one on (the first is always observed); weibull: (scale, shape) of the row, counted
    from 0, beyond which a cluster is lost: S(t) = exp(-(t/scale)^shape). at_random: (predictor or "previous", intercept, slope)
    of the log odds that a row is lost; "previous" is the outcome of the row before it in the cluster, observed or not, and
    monotone then loses all later rows, too. Of several grouping factors, cells: share of cells lost, and levels: (factor, share)
    of those of whose levels some are; clusters are cells there.
    """

    rows: float = 0.0
    clusters: float = 0.0
    hazard: float = 0.0
    weibull: tuple[float, float] | None = None
    at_random: tuple[str, float, float] | None = None
    monotone: bool = False
    cells: float = 0.0
    levels: tuple[tuple[str, float], ...] = ()

    @property
    def loses_rows(self) -> bool:
        """Whether clusters that are observed may lose some of their rows."""
        return bool(self.rows) or self.selective

    @property
    def selective(self) -> bool:
        """Whether rows of clusters that are observed are lost otherwise than all with the same probability."""
        return bool(self.hazard) or self.weibull is not None or self.at_random is not None


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

    formula: the part that the estimator, a row of `methods.ESTIMATORS`, estimates. df: rules of degrees of freedom, one or more,
    all of one fit; singular_df: what Satterthwaite's does at the boundary. alpha is the level of tests and 1 - coverage of
    intervals, in (0, 1). contrasts: those of the study that it estimates. intervals: of fixed effects, by the rules of df ("t"),
    or one kind for all of them; variance_intervals: of variances, sds and correlations, if any. compare: the null model of a
    likelihood ratio test, whose p value is by `reference`. draws: of the bootstrap, and of simulated null distributions. robust:
    cluster-robust standard errors in place of the model's; cluster, factors, units: grouping factors that robust errors are
    clustered by, that have dummies, and by whose levels there are tests; weights: of cluster means. select: the method reports
    its formula's model, `compare`'s or one of `smaller`, each nested in the one before: that which tests at level select_alpha,
    or the AIC, choose. working, covariance: of a GEE, its correlation structure and its standard errors. function:
    "module:function"; digest: the SHA-256 of that module's source, "" until it is looked up. max_failed: the share of replicates
    without an optimum above which a condition ends early; it changes no replicate. nodes: of adaptive quadrature, 1 for Laplace's
    approximation.
    """

    name: str
    formula: Formula
    estimator: str = "lmm"
    reml: bool = True
    df: tuple[str, ...] = ("satterthwaite",)
    singular_df: Literal["lmertest", "refit"] = "lmertest"
    alpha: float = 0.05
    contrasts: tuple[Contrast, ...] = ()
    intervals: Literal["t", "profile", "bootstrap"] = "t"
    variance_intervals: Literal["wald", "wald-log", "profile", "profile-reml", "bootstrap"] | None = None
    compare: Formula | None = None
    smaller: tuple[Formula, ...] = ()
    reference: Literal["asymptotic", "chisq", "exact", "bootstrap"] = "asymptotic"
    draws: int = 999
    robust: Literal["CR0", "CR1", "CR1S", "CR2"] | None = None
    cluster: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    weights: Literal["size"] | None = None
    select: Literal["lrt", "aic"] | None = None
    select_alpha: float = 0.05
    working: Literal["exchangeable", "independence", "ar1"] = "exchangeable"
    covariance: Literal["robust", "naive", "bias_reduced"] = "robust"
    function: str | None = None
    digest: str = ""
    max_failed: float | None = None
    nodes: int = 1

    @property
    def tests_ratio(self) -> bool:
        """Whether a likelihood ratio test is its result, and not only what selects a model."""
        return self.compare is not None and self.select is None

    @property
    def random(self) -> bool:
        """Whether the analysis itself draws numbers."""
        bootstrap = "bootstrap" in (self.intervals, self.variance_intervals)
        return bootstrap or (self.compare is not None and self.reference in ("exact", "bootstrap"))

    @property
    def labels(self) -> tuple[str, ...]:
        """What its results are called in the summary: its name, with the rule where there are several."""
        return (self.name,) if len(self.df) == 1 else tuple(f"{self.name}/{rule}" for rule in self.df)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that its columns name: none but "" where there is one."""
        return ("",) if len(self.df) == 1 else self.df


@dataclass(frozen=True, slots=True)
class Condition:
    """One point of the grid: its truth, predictors and layout, with the seed and the block size that fix its stream.

    factors: the grid's axes and their values here, for people; they are not part of the identity.
    path: "moments" draws sufficient statistics, "strata" those of a balanced design with several factors, "rows" draws rows.
    structure: of several grouping factors; the layout then has all rows as those of one cluster.
    predictors: in order of name. block_size: replicates that share one random stream. held: correlations, by their keys, that the
    covariance cannot show, because a variance is 0 here; for descriptions only. stated: fixed effects that the file gives in
    standard units, by term, of which the truth has the coefficients; likewise. outcome: the keys of [truth.outcome], from which
    the truth follows; likewise. priors: (axis, prior) of each value of the truth that every replicate draws anew, in the order in
    which they act (`uncertain`); the truth then holds their means.
    A number instead of a prior is a short name (icc = 0.2) that is held while what it multiplies is drawn. correlations: of pairs
    of predictors of one level, as they are, not of normal scores behind them.
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
    correlations: tuple[tuple[str, str, float], ...] = ()
    missing: Missing | None = None
    stated: Mapping[str, Effect] = field(default_factory=dict, compare=False)
    outcome: Mapping[str, float | tuple[str, ...]] = field(default_factory=dict, compare=False)
    structure: Structure | None = None

    @property
    def grouping(self) -> Grouping:
        """The factor by which its rows are grouped."""
        return Grouping(self.truth.formula.group, self.layout.clusters)

    @property
    def uneven(self) -> bool:
        """Whether replicates differ in their rows: sizes that are redrawn, or rows that are missing."""
        redrawn = self.layout.redrawn or (self.structure is not None and self.structure.redrawn)
        return redrawn or self.missing is not None

    @property
    def arms(self) -> tuple[str, ...]:
        """The predictors that [truth.outcome] names as arms."""
        found = self.outcome.get("arm", ())
        return found if isinstance(found, tuple) else ()

    def predictor(self, name: str) -> Predictor:
        return next(p for p in self.predictors if p.name == name)
