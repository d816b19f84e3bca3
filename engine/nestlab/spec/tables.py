"""The tables of a study file: every key once, with its type, its default and a line for people.

`keys.KEYS` reads all else off these. What several values must be together is in `base` and `checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Len
from pydantic import Discriminator, Tag

from . import values as v
from .family import STUDY_FAMILIES
from .kinds import TABLE, Flag, Holds, KeyTable, Nonblank, Number, OneOf, Part, Positive, Says, Share, Text, key
from .measures import MEASURES
from .methods import ESTIMATORS
from .predictors import DISTRIBUTIONS, SHAPES
from .prior import PriorTable

__all__ = [
    "ArmSizesTable",
    "AtRandomTable",
    "AxisTable",
    "ContrastTable",
    "DesignTable",
    "ErrorsTable",
    "GroupingTable",
    "MethodTable",
    "MissingTable",
    "OutcomeTable",
    "PredictorTable",
    "RandomTable",
    "ShapeTable",
    "SizesTable",
    "SourcedTable",
    "StudyTable",
    "TargetTable",
    "TruthTable",
    "WeibullTable",
]


class SourcedTable(KeyTable):
    """Numbers that may be a column of a file; once it is read they stand in `values`, and `source` says where they are from."""

    file: v.File | None = key(
        "a CSV or Parquet file beside the study file, from which they are drawn", "schools.csv", axis=False
    )
    column: v.ColumnName | None = key("the column of that file", "n", axis=False)
    source: Text | None = key("written by nestlab: where the values are from", "schools.csv, n", axis=False)


class SizesTable(SourcedTable):
    """design.cluster_size as a distribution."""

    distribution: Literal["poisson", "negative-binomial", "uniform", "lognormal"] | None = key(
        "of the sizes, rounded to whole numbers", "poisson"
    )
    mean: v.MeanSize | None = key("the mean size", 20)
    cv: v.Cv | None = key(
        "coefficient of variation, sd / mean: none for poisson, more than 1 / sqrt(mean) for negative-binomial", 0.5
    )
    values: v.SizeValues | None = key("in place of a distribution: sizes that are drawn with replacement", [12, 20, 31])
    minimum: v.FewRows | None = key("smaller draws are raised to it, which moves mean and cv; 1 where absent", 2)
    redraw: Flag | None = key(
        "false: sizes are drawn once and kept, for all methods and along a power curve; true where absent", False
    )
    in_turn: Flag | None = key("with values or a file: clusters take the sizes in turn, whatever their number", True)


def _shape_of_size(value: object) -> str:
    if isinstance(value, Mapping | KeyTable):
        return (
            "<arms>"
            if isinstance(value, ArmSizesTable) or (isinstance(value, Mapping) and "arms" in value)
            else "<table>"
        )
    return "<list>" if isinstance(value, list | tuple) else "<number>"


ArmSize: TypeAlias = Annotated[
    Annotated[v.Size, Tag("<number>")] | Annotated[SizesTable, Tag("<table>")],
    Discriminator(lambda value: "<table>" if isinstance(value, Mapping | KeyTable) else "<number>"),
    Says("a whole number from 1 to 1000000000, or a table of a distribution"),
]


class ArmSizesTable(KeyTable):
    """design.cluster_size by arm of the predictor whose distribution is "arms"."""

    arms: Annotated[list[ArmSize], Says("a list, a size for each arm", "write [1, 20], say")] = key(
        'a size for each arm of the predictor whose distribution is "arms": a number, or a table with the keys above',
        [1, {"distribution": "poisson", "mean": 20}],
        ..., each="arm",
    )  # fmt: skip


ClusterSize: TypeAlias = Annotated[
    Annotated[v.Size, Tag("<number>")] | Annotated[v.SizeList, Tag("<list>")] | Annotated[SizesTable, Tag("<table>")]
    | Annotated[ArmSizesTable, Tag("<arms>")],
    Discriminator(_shape_of_size),
    Says("a whole number from 1 to 1000000000, or a list of one per cluster"),
]  # fmt: skip


def _number_list_or_table(value: object) -> str:
    if isinstance(value, Mapping | KeyTable):
        return "<table>"
    return "<list>" if isinstance(value, list | tuple) else "<number>"


FactorNumber: TypeAlias = Annotated[
    Annotated[v.FactorNumber, Tag("<number>")] | Annotated[v.FactorNumbers, Tag("<list>")]
    | Annotated[SizesTable, Tag("<table>")],
    Discriminator(_number_list_or_table),
    Says("a whole number >= 1, a list of one for each level of the factor that holds it, or a table of a distribution"),
]  # fmt: skip

PredictorIcc: TypeAlias = Annotated[
    Annotated[Share, Tag("<number>")] | Annotated[dict[str, Share], Tag("<table>")],
    Discriminator(lambda value: "<table>" if isinstance(value, Mapping) else "<number>"),
    Says(
        "a number from 0 to 1, 1 not included, or with several factors a table of such", "write 0.1 or { school = 0.1 }"
    ),
]

CellRows: TypeAlias = Annotated[
    Annotated[v.FewRows, Tag("<number>")]
    | Annotated[v.RowsList, Tag("<list>")]
    | Annotated[SizesTable, Tag("<table>")],
    Discriminator(_number_list_or_table),
    Says("a whole number from 1 to 1000000, a list of one for each cell, or a table of a distribution"),
]


class GroupingTable(SourcedTable):
    """[design.factors.<factor>]: a grouping factor that is nested in another, that rows draw, or that is a column of a file."""

    within: Nonblank | None = key("the factor whose levels hold its own", "school", axis=False)
    number: FactorNumber | None = key(
        "how many levels there are, or each level of `within` has: a number, a list, or a table as of design.cluster_size",
        3,
    )
    given: Nonblank | None = key(
        "each row draws its level, given its level of this factor; else every level goes with every other", "school",
        axis=False,
    )  # fmt: skip
    window: v.ShareAbove0 | None = key(
        "with given: rows draw one of this share of the levels, beginning at the given level's own place", 0.1
    )
    mixing: v.Portion | None = key(
        "with given: share of rows that draw any of the levels; the others the own place", 0.2
    )
    redraw: Flag | None = key("with given: false: levels are drawn once and kept; true where absent", False)
    values: v.SizeValues | None = key(
        "in place of a number: the level of each row of the design, as a file and column give it", [1, 1, 2], axis=False
    )


FactorSize: TypeAlias = Annotated[
    Annotated[v.Clusters, Tag("<number>")] | Annotated[GroupingTable, Tag("<table>")],
    Discriminator(lambda value: "<table>" if isinstance(value, Mapping | KeyTable) else "<number>"),
    Says("a whole number from 2 to 1000000, or a table with within and number"),
]


class DesignTable(KeyTable):
    """[design]: the layout; a value may be absent if an axis of the grid gives it."""

    clusters: v.Clusters | None = key('how many clusters; absent where an "arms" predictor counts them', 20)
    cluster_size: ClusterSize | None = key(
        "rows of all clusters, of each in a list, or a table: a distribution, sizes in turn, or by arm", 25
    )
    factors: dict[str, FactorSize] = key(
        "several grouping factors: the number of levels of each; a table for one that is nested, drawn by rows or in a file",
        {"school": 20, "class": {"within": "school", "number": 3}}, {}, each="factor",
    )  # fmt: skip
    rows: CellRows | None = key(
        "with factors: rows of each cell, such as of a class, or of a subject and an item: a number, a list, or a table as of "
        "design.cluster_size",
        25,
    )


class ShapeTable(KeyTable):
    """A distribution but for its mean and variance."""

    distribution: Annotated[str, OneOf(tuple(SHAPES))] | None = key("normal where absent", "t")
    df: v.ShapeDf | None = key("degrees of freedom of t (> 2) and chi-square", 5)
    skewness: v.Skewness | None = key("of skew-normal (at most 0.995 either way), gamma and lognormal", 1)
    share: Share | None = key("of contaminated: the share that has a larger sd", 0.1)
    ratio: v.SdRatio | None = key("of contaminated: how many times the sd of the rest", 3)


class ErrorsTable(ShapeTable):
    """[truth.errors]: what the level-1 errors are beside their variance."""

    variance_ratio: dict[str, Positive] | None = key(
        "one more of a predictor multiplies the residual variance by this; the stated one is at 0",
        {"arm": 2},
        each="predictor",
    )
    cluster_cv: v.Cv | None = key(
        "each cluster has a residual variance of its own, lognormal about the stated one, with this sd / mean", 0.3
    )
    ar1: v.OpenCorrelation | None = key("correlation of neighbouring rows of a cluster", 0.4)


class WeibullTable(KeyTable):
    """missing.weibull: row t, counted from 0, and all later ones are lost with probability 1 - exp(-(t / scale)^shape)."""

    scale: Positive | None = key("the row that 63 % do not pass", 5)
    shape: Positive | None = key("below 1 early losses prevail, above 1 late ones", 1.2)


class AtRandomTable(KeyTable):
    """missing.at_random: the log odds that a row is lost are intercept + slope x."""

    on: v.On | None = key('x: a predictor, or "previous", the outcome of the row before, observed or not', "previous")
    intercept: Number | None = key("the log odds at x = 0", -2)
    slope: Number | None = key("what one more of x adds to them", 0.5)
    monotone: Flag | None = key("all later rows of the cluster are lost, too", True)


class MissingTable(KeyTable):
    """[missing]: which rows are never observed."""

    rows: Share | None = key("share of rows lost completely at random", 0.2)
    clusters: Share | None = key("attrition: share of clusters that are never observed", 0.1)
    hazard: Share | None = key(
        "dropout: probability that a cluster, observed until a row, is lost from the next one on", 0.1
    )
    weibull: WeibullTable | None = key(
        "in place of hazard: dropout by a Weibull distribution", {"scale": 5, "shape": 1.2}
    )
    cells: Share | None = key("with several factors: share of cells that are never observed", 0.1)
    levels: dict[str, Share] = key(
        "with several factors, attrition: share of a factor's levels that are never observed", {"pupil": 0.1}, {},
        each="factor",
    )  # fmt: skip
    at_random: AtRandomTable | None = key(
        "rows lost by a predictor or the outcome before", {"on": "previous", "intercept": -2, "slope": 0.5}
    )


class RandomTable(ShapeTable):
    """[truth.random.<group>]: the random effects of a grouping factor: variance or sd, with correlation; or covariance."""

    variance: dict[str, v.Variance] | None = key("of each random column", {"Intercept": 0.2}, each="column")
    sd: dict[str, v.RandomSd] | None = key("in place of variance", {"Intercept": 0.45}, each="column")
    correlation: dict[str, v.RandomCorrelation] | None = key(
        "of two columns of one term", {"Intercept:x": 0.3}, each="column:column"
    )
    covariance: v.Matrix | None = key("in place of all three, in the order of the formula", [[0.2, 0.05], [0.05, 0.1]])


class OutcomeTable(KeyTable):
    """[truth.outcome]: the outcome within arms, from which variances and a covariate's coefficient follow."""

    variance: Positive | None = key("of the outcome within arms; in place of the residual variance", 1)
    icc: Share | None = key("unconditional, before covariates; in place of the random intercept's variance", 0.2)
    r2_within: Share | None = key(
        "share of the variance within clusters that covariates explain; in place of a coefficient of level 1", 0.5
    )
    r2_between: Share | None = key("likewise between clusters; in place of a coefficient of level 2", 0.6)
    arm: v.Arm | None = key(
        "the predictors that are arms, where they are not found by their distribution", "treatment", axis=False
    )


class TruthTable(KeyTable):
    """[truth]: the data-generating model."""

    formula: v.FormulaText = key("the model, as in lme4", "y ~ x + (1 | cluster)", ..., axis=False)
    family: Annotated[str, OneOf(STUDY_FAMILIES)] = key("of the outcome", "binomial", "gaussian", axis=False)
    link: Literal["logit", "probit", "cloglog"] | None = key(
        "of a binomial outcome; logit where absent", "probit", axis=False
    )
    trials: v.Trials | None = key("binomial: the trials of each row; 1 where absent", 10)
    exposure: Positive | None = key("counts: the exposure of each row, time or persons; 1 where absent", 2.5)
    baseline: Positive | None = key(
        "in place of the Intercept: the probability or rate where all predictors and random effects are 0", 0.2
    )
    fixed: dict[str, v.FixedEffect] = key(
        "of each fixed term: the coefficient, a prior, or { d = 0.3 } or { r2 = 0.1 } in standard units", {"x": 0.5}, {},
        each="term",
    )  # fmt: skip
    residual_variance: v.ResidualVariance | None = key("of the level-1 errors", 1)
    residual_sd: v.ResidualSd | None = key("in place of residual_variance", 1)
    errors: ErrorsTable | None = key("what the errors are beside their variance", {"distribution": "t", "df": 5})
    random: dict[str, RandomTable] = key(
        "the random effects of the grouping factor", {"school": {"variance": {"Intercept": 0.2}}}, {}, each="group"
    )
    outcome: OutcomeTable | None = key("what the outcome looks like within arms", {"variance": 1, "icc": 0.2})


class PredictorTable(SourcedTable):
    """[predictors.<name>]: how a predictor is made."""

    level: v.Level | None = key(
        "1: varies within clusters, 2: between them only; with several factors 1, or the factor or crossing a:b where it lives",
        1,
    )
    distribution: Annotated[str, OneOf(tuple(DISTRIBUTIONS))] | None = key("how its values are made", "normal")
    mean: Number | None = key("the mean; 0 where absent", 50)
    sd: v.PositiveSd | None = key("the standard deviation; 1 where absent", 10)
    redraw: Flag | None = key(
        "false: one draw for all replicates; true for balanced and arms of level 2: allocated at random in each", False
    )
    df: v.ShapeDf | None = key("degrees of freedom of t (> 2) and chi-square", 5)
    skewness: v.Skewness | None = key("of skew-normal (at most 0.995 either way), gamma and lognormal", 1)
    share: Share | None = key("binary: the probability of 1; contaminated: the share that has a larger sd", 0.3)
    ratio: v.SdRatio | None = key("of contaminated: how many times the sd of the rest", 3)
    icc: PredictorIcc | None = key(
        "of level 1: the share of its variance that lies between clusters; with several factors by name, { school = 0.2 }", 0.1,
        each="factor",
    )  # fmt: skip
    categories: v.Categories | None = key(
        "names of categories; in formulas the name stands for their columns", ["a", "b", "c"], axis=False
    )
    shares: v.Shares | None = key("of each category, or of 0, 1, ...; equal where absent", [2, 1])
    coding: Literal["treatment", "sum", "helmert"] | None = key(
        "treatment: against the first category, sum: against the mean, helmert: against those before", "sum", axis=False
    )
    blocks: v.Blocks | None = key("balanced of level 2: within each so many clusters, or values of a predictor", 4)
    start: Number | None = key("time: the first row's value; 0 where absent", 1)
    step: v.Step | None = key("time: from a row to the next; 1 where absent", 0.5)
    values: v.Numbers | None = key("list: by row or by cluster, repeated; resampled: drawn with replacement", [1, 2, 5])
    sequences: v.Sequences | None = key(
        "schedule: a value for each period; clusters take them in turn", [[0, 1, 1], [0, 0, 1]]
    )
    design: Literal["stepped-wedge", "crossover", "parallel-baseline"] | None = key(
        "schedule: sequences by the name of a design, in place of a list", "stepped-wedge"
    )
    periods: v.Periods | None = key("schedule by a design, and period: how many periods there are", 4)
    baseline: v.Baseline | None = key("parallel-baseline: periods before treatment; 1 where absent", 2)
    rows_per_period: v.FewRows | None = key("schedule and period: rows of a cluster in each; 1 where absent", 10)
    clusters: v.ArmClusters | None = key("arms: the clusters of each arm", [12, 8])


class MethodTable(KeyTable):
    """[[method]]: a way to analyse."""

    part: ClassVar[Part] = "results"

    name: v.MethodName = key("what results call it", "reml", ..., part="neither")
    estimator: Annotated[str, OneOf(tuple(ESTIMATORS))] = key("how it is fitted", "ols", "lmm")
    formula: v.FormulaText | None = key("its model; that of the truth where absent", "y ~ x + (1 | cluster)")
    reml: Flag = key("false: maximum likelihood", False, True)
    nodes: v.Nodes = key("glmm: points of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation", 7, 1)
    df: v.DfRules | None = key(
        "degrees of freedom of its tests, one rule or several; of lmm satterthwaite where absent", "kenward-roger"
    )
    singular_df: Literal["lmertest", "refit"] = key(
        "Satterthwaite's df of a singular fit: as lmerTest's, or of the model without what is 0", "refit", "lmertest"
    )
    intervals: Literal["t", "profile", "bootstrap"] = key("of fixed effects", "profile", "t")
    variance_intervals: Literal["wald", "wald-log", "profile", "profile-reml", "bootstrap"] | None = key(
        "of variance parameters; none where absent", "profile"
    )
    compare: v.Formulas | None = key(
        "the smaller model of a likelihood ratio test; with select a list, from larger to smaller",
        "y ~ 1 + (1 | cluster)",
    )
    reference: Literal["asymptotic", "chisq", "exact", "bootstrap"] | None = key(
        "the distribution of that test; asymptotic (mixtures at the boundary) where absent", "exact"
    )
    draws: v.Draws | None = key("of the bootstrap, and of exact tests", 999)
    robust: Literal["CR0", "CR1", "CR1S", "CR2"] | None = key("cluster-robust standard errors", "CR2")
    cluster: v.FactorNames | None = key(
        "of several grouping factors those that robust errors are clustered by; where absent those that lie within no other",
        ["subject", "item"],
    )
    factors: v.FactorNames | None = key(
        "fixed-effects: of several grouping factors those that have dummies; all where absent", "item"
    )
    units: v.FactorNames | None = key(
        "by-units: the factor whose levels are analysed; min-f and both-units: two", "subject"
    )
    weights: Literal["size"] | None = key("cluster-means: means weighted by cluster sizes", "size")
    alpha: v.OpenShare | None = key(
        "level of its tests, and 1 - coverage of its intervals; before that of the file", 0.01
    )
    max_failed: Share | None = key("share of failed replicates above which a condition ends early", 0.2, part="neither")
    select: Literal["lrt", "aic"] | None = key(
        "chooses between formula and compare in each replicate: backward by tests, or the least AIC", "aic"
    )
    select_alpha: v.OpenShare | None = key("level of the test that selects", 0.2)
    working: Literal["exchangeable", "independence", "ar1"] | None = key(
        "gee: the working correlation; exchangeable where absent", "independence"
    )
    covariance: Literal["robust", "naive", "bias_reduced"] | None = key(
        "gee: of the coefficients; robust where absent", "bias_reduced"
    )
    function: v.Function | None = key("function: a Python function of one's own", "analyses:anova")


class ContrastTable(KeyTable):
    """[[contrast]]: a target made of fixed effects, with its test."""

    part: ClassVar[Part] = "results"

    name: v.ContrastName = key("what results call it", "simple slope", ...)
    weights: v.Weights = key("a weight for each term; several tables are one joint test", {"x": 1, "x:z": 1}, ...)
    standardise: Literal["residual", "total"] | None = key(
        "divides it by the residual sd, or by that of residual and random intercept", "total"
    )
    test: Literal["difference", "non-inferiority", "equivalence"] = key(
        "what is tested", "equivalence", "difference", part="neither"
    )
    null: Number | None = key("the value under test; 0 where absent", 0.1, part="neither")
    alternative: Literal["two-sided", "greater", "less"] | None = key(
        "two-sided where absent", "greater", part="neither"
    )
    margin: v.Margin | None = key("of non-inferiority and equivalence tests", 0.2, part="neither")


class TargetTable(KeyTable):
    """replications as a table: the Monte Carlo standard error that ends a condition, and how few and how many it may have."""

    part: ClassVar[Part] = "neither"

    target_mcse: Positive = key("the MCSE to reach", 0.005, ...)
    measure: Annotated[
        str, OneOf(tuple(MEASURES)), Says(f"a measure that has an MCSE, one of {', '.join(MEASURES)}")
    ] = key("of this measure", "power", ...)
    estimand: Nonblank | None = key("of this estimand", "x")
    method: Nonblank | None = key("by this method; by all where absent", "reml")
    min: v.Looks | None = key("fewest replications; 1000 where absent", 1000)
    max: v.Looks | None = key("most replications; 100000 where absent", 100_000)


def _shape_of_rule(value: object) -> str:
    if isinstance(value, Mapping | KeyTable):
        return "<table>"
    return "<list>" if isinstance(value, list | tuple) else "<number>"


Replications: TypeAlias = Annotated[
    Annotated[v.Replicates, Tag("<number>")]
    | Annotated[TargetTable, Tag("<table>")]
    | Annotated[list[TargetTable], Len(1), Tag("<list>")],
    Discriminator(_shape_of_rule),
    Says(
        "a whole number >= 1, a table of a target, or a list of such tables",
        'write 2000, say, or { target_mcse = 0.005, measure = "power", estimand = "x" }',
    ),
]


class AxisTable(KeyTable):
    """[grid]: axes by a short name, each a list of values; any number of the study is one by its dotted path."""

    clusters: v.Clusters | None = key("design.clusters", 20)
    cluster_size: v.SizeLevel | None = key("design.cluster_size; the mean of a distribution of sizes", 25)
    icc: v.Icc | None = key("intercept / (intercept + residual) variance: sets the random intercept's", 0.1)
    variance_ratio: v.Ratio | None = key("intercept / residual variance: sets the random intercept's", 0.5)
    slope_variance_ratio: v.Ratio | None = key("slope / intercept variance: sets the random slope's", 0.5)
    slope_correlation: v.RandomCorrelation | None = key("of the random intercept and slope", 0.3)


class StudyTable(KeyTable):
    """A study file."""

    name: v.Name = key("of the study, and of its folder of results", "study", ..., part="neither")
    title: Text = key("a line for the report", "School trial", "", part="neither")
    note: Text = key(
        "for readers: whose study it is, its registration; kept with the results", "osf.io/abcde", "", part="neither"
    )
    seed: v.Seed = key("of all random numbers", 707, ..., axis=False)
    replications: Replications = key("per condition: a number, or targets that end it", 2000, ..., part="neither")
    estimand: Text = key("what the study is about: shown first, and solved for", "x", "", part="neither")
    keep: Literal["replicates", "summary"] = key(
        "every replicate, or sums from which the measures follow", "summary", "replicates", part="neither"
    )
    mcse: Literal["distribution-free", "morris"] = key(
        "how Monte Carlo standard errors are computed; morris: Morris, White & Crowther (2019), Table 6",
        "morris", "distribution-free", part="neither",
    )  # fmt: skip
    alpha: v.OpenShare | None = key(
        "level of the tests of all methods, and 1 - coverage of their intervals; 0.05 where absent",
        0.01,
        part="results",
    )
    max_failed: Share | None = key(
        "share of failed replicates of a method above which a condition ends early", 0.2, part="neither"
    )
    design: DesignTable = key("clusters and their sizes", {"clusters": 20, "cluster_size": 25}, DesignTable())
    grid: dict[str, Any] = key("axes: what varies over conditions", {"icc": [0.1, 0.2]}, {})
    prior: dict[str, Annotated[Any, Holds(PriorTable), Says(TABLE)]] = key(
        "distributions of true values, by axis, for all conditions",
        {"icc": {"distribution": "beta", "mean": 0.1, "sd": 0.05}}, {}, each="axis",
    )  # fmt: skip
    truth: TruthTable = key("the data-generating model", {"formula": "y ~ x + (1 | cluster)"}, ...)
    correlation: dict[str, v.Correlation] = key(
        "of two predictors of one level, Pearson's", {"x:w": 0.3}, {}, each="name:name"
    )
    missing: MissingTable | None = key("which rows are never observed", {"rows": 0.1})
    predictors: dict[str, PredictorTable] = key(
        "how each predictor is made", {"x": {"level": 1, "distribution": "normal"}}, {}, each="name"
    )
    method: Annotated[list[MethodTable], Says("a list of tables", "write [[method]] before each")] = key(
        "ways to analyse; REML of the truth's formula where there is none",
        [{"name": "reml"}],
        [],
        each="name",
        part="results",
    )
    contrast: Annotated[list[ContrastTable], Says("a list of tables", "write [[contrast]] before each")] = key(
        "targets made of fixed effects", [{"name": "sum", "weights": {"x": 1}}], [], each="name", part="results"
    )
