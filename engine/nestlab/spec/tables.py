"""The tables of a study file, each value of its kind.

What several values must be together is in `base` and `checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from . import values
from .model import Effect as StatedEffect
from .prior import Prior

__all__ = [
    "ArmSizesTable",
    "AtRandomTable",
    "ContrastTable",
    "DesignTable",
    "ErrorsTable",
    "MethodTable",
    "MissingTable",
    "OutcomeTable",
    "PredictorTable",
    "RandomTable",
    "ShapeTable",
    "SizesTable",
    "SourcedTable",
    "Table",
    "TruthTable",
    "WeibullTable",
]

Number: TypeAlias = Annotated[float, PlainValidator(values.NUMBER.check)]
PositiveSd: TypeAlias = Annotated[float, PlainValidator(values.POSITIVE_SD.check)]
Matrix: TypeAlias = Annotated[tuple[tuple[float, ...], ...], PlainValidator(values.MATRIX.check)]
FormulaText: TypeAlias = Annotated[str, PlainValidator(values.FORMULA.check)]
MethodName: TypeAlias = Annotated[str, PlainValidator(values.METHOD_NAME.check)]
Flag: TypeAlias = Annotated[bool, PlainValidator(values.FLAG.check)]


def _as_written(value: float | Prior | StatedEffect) -> float | dict[str, Any]:
    return value.table() if isinstance(value, Prior | StatedEffect) else value


Written = PlainSerializer(_as_written)
# Numbers of the truth, or priors in their place; an effect may be in standard units.
Effect: TypeAlias = Annotated[float | Prior | StatedEffect, PlainValidator(values.FIXED.check), Written]
Variance: TypeAlias = Annotated[float | Prior, PlainValidator(values.VARIANCE.check), Written]
Sd: TypeAlias = Annotated[float | Prior, PlainValidator(values.RANDOM_SD.check), Written]
Correlation: TypeAlias = Annotated[float | Prior, PlainValidator(values.CORRELATION.check), Written]
ResidualVariance: TypeAlias = Annotated[float | Prior | None, PlainValidator(values.RESIDUAL_VARIANCE.check), Written]
ResidualSd: TypeAlias = Annotated[float | Prior | None, PlainValidator(values.RESIDUAL_SD.check), Written]


class Table(BaseModel):
    """A table that holds the keys named here and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


kinds = values  # for tables that have a key of that name


def _kind(kind: values.Kind) -> PlainValidator:
    return PlainValidator(kind.check)


class SourcedTable(Table):
    """Numbers that may be a column of a file; once it is read they stand in `values`, and `source` says where they are from."""

    file: Annotated[str | None, _kind(kinds.FILE)] = None
    column: Annotated[str | None, _kind(kinds.COLUMN)] = None
    source: Annotated[str | None, _kind(kinds.TEXT)] = None


class SizesTable(SourcedTable):
    """design.cluster_size as a distribution."""

    distribution: Annotated[str | None, _kind(kinds.SIZES)] = None
    mean: Annotated[float | None, _kind(kinds.MEAN_SIZE)] = None
    cv: Annotated[float | None, _kind(kinds.CV)] = None
    values: Annotated[tuple[int, ...] | None, _kind(kinds.SIZE_VALUES)] = None
    minimum: Annotated[int | None, _kind(kinds.MINIMUM_SIZE)] = None
    redraw: Flag | None = None
    in_turn: Flag | None = None


def _size_of_arm(value: object) -> Any:
    if isinstance(value, Mapping):
        return SizesTable.model_validate(value)
    return values.ARM_SIZE.check(value)


class ArmSizesTable(Table):
    """design.cluster_size by arm of the predictor whose distribution is "arms"."""

    arms: list[Annotated[int | SizesTable, PlainValidator(_size_of_arm)]]


def _cluster_size(value: object) -> Any:
    if isinstance(value, SizesTable | ArmSizesTable):
        return value
    if isinstance(value, Mapping):
        return (ArmSizesTable if "arms" in value else SizesTable).model_validate(value)
    if isinstance(value, str) and value in values.SIZES.words:
        raise ValueError(f'must be a table; write {{ distribution = "{value}", mean = 20 }}')
    return values.CLUSTER_SIZE.check(value)


class DesignTable(Table):
    """[design]: the layout; a value may be absent if an axis of the grid gives it."""

    clusters: Annotated[int | None, PlainValidator(values.CLUSTERS.check)] = None
    cluster_size: Annotated[
        int | tuple[int, ...] | SizesTable | ArmSizesTable | None, PlainValidator(_cluster_size)
    ] = None


class ShapeTable(Table):
    """A distribution but for its mean and variance."""

    distribution: Annotated[str | None, _kind(values.SHAPE)] = None
    df: Annotated[float | None, _kind(values.SHAPE_DF)] = None
    skewness: Annotated[float | None, _kind(values.SKEWNESS)] = None
    share: Annotated[float | None, _kind(values.SHARE)] = None
    ratio: Annotated[float | None, _kind(values.SD_RATIO)] = None


class ErrorsTable(ShapeTable):
    """truth.errors: what the level-1 errors are beside their variance."""

    variance_ratio: dict[str, Annotated[float, _kind(values.VARIANCE_RATIO)]] | None = None
    cluster_cv: Annotated[float | None, _kind(values.CV)] = None
    ar1: Annotated[float | None, _kind(values.AR1)] = None


class WeibullTable(Table):
    """missing.weibull: the row beyond which a cluster is lost."""

    scale: Annotated[float | None, _kind(values.POSITIVE)] = None
    shape: Annotated[float | None, _kind(values.POSITIVE)] = None


class AtRandomTable(Table):
    """missing.at_random: log odds that a row is lost."""

    on: Annotated[str | None, _kind(values.ON)] = None
    intercept: Number | None = None
    slope: Number | None = None
    monotone: Flag | None = None


class MissingTable(Table):
    """[missing]: which rows are never observed."""

    rows: Annotated[float | None, _kind(values.SHARE)] = None
    clusters: Annotated[float | None, _kind(values.SHARE)] = None
    hazard: Annotated[float | None, _kind(values.SHARE)] = None
    weibull: WeibullTable | None = None
    at_random: AtRandomTable | None = None


class RandomTable(ShapeTable):
    """[truth.random.<group>]: variance or sd by column, with correlation by "a:b"; or covariance; and their distribution."""

    variance: dict[str, Variance] | None = None
    sd: dict[str, Sd] | None = None
    correlation: dict[str, Correlation] | None = None
    covariance: Matrix | None = None


class OutcomeTable(Table):
    """[truth.outcome]: the outcome within arms, from which variances and a covariate's coefficient follow."""

    variance: Annotated[float | None, _kind(values.POSITIVE)] = None
    icc: Annotated[float | None, _kind(values.SHARE)] = None
    r2_within: Annotated[float | None, _kind(values.R2)] = None
    r2_between: Annotated[float | None, _kind(values.R2)] = None
    arm: Annotated[tuple[str, ...] | None, _kind(values.ARM)] = None


class TruthTable(Table):
    """[truth]: the data-generating model."""

    formula: FormulaText
    fixed: dict[str, Effect] = {}
    residual_variance: ResidualVariance = None
    residual_sd: ResidualSd = None
    errors: ErrorsTable | None = None
    random: dict[str, RandomTable] = {}
    outcome: OutcomeTable | None = None


class PredictorTable(SourcedTable):
    """[predictors.<name>]: how a predictor is made; None where the file is silent."""

    level: Annotated[Literal[1, 2] | None, PlainValidator(kinds.LEVEL.check)] = None
    distribution: Annotated[str | None, PlainValidator(kinds.DISTRIBUTION.check)] = None
    mean: Number | None = None
    sd: PositiveSd | None = None
    redraw: Flag | None = None
    df: Annotated[float | None, _kind(kinds.SHAPE_DF)] = None
    skewness: Annotated[float | None, _kind(kinds.SKEWNESS)] = None
    share: Annotated[float | None, _kind(kinds.SHARE)] = None
    ratio: Annotated[float | None, _kind(kinds.SD_RATIO)] = None
    icc: Annotated[float | None, _kind(kinds.SHARE)] = None
    categories: Annotated[tuple[str, ...] | None, _kind(kinds.CATEGORIES)] = None
    shares: Annotated[tuple[float, ...] | None, _kind(kinds.SHARES)] = None
    coding: Annotated[str | None, _kind(kinds.CODING)] = None
    blocks: Annotated[int | str | None, _kind(kinds.BLOCKS)] = None
    start: Number | None = None
    step: Annotated[float | None, _kind(kinds.STEP)] = None
    values: Annotated[tuple[float, ...] | None, _kind(kinds.VALUES)] = None
    sequences: Annotated[tuple[tuple[float, ...], ...] | None, _kind(kinds.SEQUENCES)] = None
    design: Annotated[str | None, _kind(kinds.SCHEDULE)] = None
    periods: Annotated[int | None, _kind(kinds.PERIODS)] = None
    baseline: Annotated[int | None, _kind(kinds.BASELINE)] = None
    rows_per_period: Annotated[int | None, _kind(kinds.ROWS_PER_PERIOD)] = None
    clusters: Annotated[tuple[int, ...] | None, _kind(kinds.ARMS)] = None


class MethodTable(Table):
    """[[method]]: a way to analyse; formula None is the truth's."""

    name: MethodName
    estimator: Annotated[str, PlainValidator(values.ESTIMATOR.check)] = "lmm"
    formula: FormulaText | None = None
    reml: Flag = True
    df: Annotated[tuple[str, ...] | None, PlainValidator(values.DF.check)] = None
    singular_df: Annotated[Literal["lmertest", "refit"], PlainValidator(values.SINGULAR_DF.check)] = "lmertest"
    intervals: Annotated[Literal["t", "profile", "bootstrap"], PlainValidator(values.INTERVALS.check)] = "t"
    variance_intervals: Annotated[
        Literal["wald", "wald-log", "profile", "profile-reml", "bootstrap"] | None,
        PlainValidator(values.VARIANCE_INTERVALS.check),
    ] = None
    compare: FormulaText | None = None
    reference: Annotated[
        Literal["asymptotic", "chisq", "exact", "bootstrap"] | None, PlainValidator(values.REFERENCE.check)
    ] = None
    draws: Annotated[int | None, PlainValidator(values.DRAWS.check)] = None
    robust: Annotated[Literal["CR0", "CR1", "CR1S", "CR2"] | None, PlainValidator(values.ROBUST.check)] = None
    weights: Annotated[Literal["size"] | None, PlainValidator(values.CLUSTER_WEIGHTS.check)] = None
    alpha: Annotated[float | None, PlainValidator(values.ALPHA.check)] = None
    max_failed: Annotated[float | None, PlainValidator(values.MAX_FAILED.check)] = None
    select: Annotated[Literal["lrt", "aic"] | None, PlainValidator(values.SELECT.check)] = None
    select_alpha: Annotated[float | None, PlainValidator(values.ALPHA.check)] = None
    working: Annotated[Literal["exchangeable", "independence", "ar1"] | None, PlainValidator(values.WORKING.check)] = (
        None
    )
    covariance: Annotated[
        Literal["robust", "naive", "bias_reduced"] | None, PlainValidator(values.GEE_COVARIANCE.check)
    ] = None
    function: Annotated[str | None, PlainValidator(values.FUNCTION.check)] = None


class ContrastTable(Table):
    """[[contrast]]: a target made of fixed effects, with its test."""

    name: Annotated[str, PlainValidator(values.CONTRAST_NAME.check)]
    weights: Annotated[tuple[dict[str, float], ...], PlainValidator(values.WEIGHTS.check)]
    standardise: Annotated[Literal["residual", "total"] | None, PlainValidator(values.STANDARDISE.check)] = None
    test: Annotated[Literal["difference", "non-inferiority", "equivalence"], PlainValidator(values.TEST.check)] = (
        "difference"
    )
    null: Number | None = None
    alternative: Annotated[Literal["two-sided", "greater", "less"] | None, PlainValidator(values.ALTERNATIVE.check)] = (
        None
    )
    margin: Annotated[float | tuple[float, float] | None, PlainValidator(values.MARGIN.check)] = None
