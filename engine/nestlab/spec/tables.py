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
    "KeyTable",
    "MethodTable",
    "MissingTable",
    "OutcomeTable",
    "PredictorTable",
    "RandomTable",
    "ShapeTable",
    "SizesTable",
    "SourcedTable",
    "TruthTable",
    "WeibullTable",
]

kinds = values  # for tables that have a key of that name


def _kind(kind: values.Kind) -> PlainValidator:
    return PlainValidator(kind.check)


Number: TypeAlias = Annotated[float, _kind(values.NUMBER)]
PositiveSd: TypeAlias = Annotated[float, _kind(values.POSITIVE_SD)]
Matrix: TypeAlias = Annotated[tuple[tuple[float, ...], ...], _kind(values.MATRIX)]
FormulaText: TypeAlias = Annotated[str, _kind(values.FORMULA)]
MethodName: TypeAlias = Annotated[str, _kind(values.METHOD_NAME)]
Flag: TypeAlias = Annotated[bool, _kind(values.FLAG)]


def _as_written(value: float | Prior | StatedEffect) -> float | dict[str, Any]:
    return value.table() if isinstance(value, Prior | StatedEffect) else value


Written = PlainSerializer(_as_written)
# Numbers of the truth, or priors in their place; an effect may be in standard units.
Effect: TypeAlias = Annotated[float | Prior | StatedEffect, _kind(values.FIXED), Written]
Variance: TypeAlias = Annotated[float | Prior, _kind(values.VARIANCE), Written]
Sd: TypeAlias = Annotated[float | Prior, _kind(values.RANDOM_SD), Written]
Correlation: TypeAlias = Annotated[float | Prior, _kind(values.CORRELATION), Written]
ResidualVariance: TypeAlias = Annotated[float | Prior | None, _kind(values.RESIDUAL_VARIANCE), Written]
ResidualSd: TypeAlias = Annotated[float | Prior | None, _kind(values.RESIDUAL_SD), Written]


class KeyTable(BaseModel):
    """A table that holds the keys named here and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourcedTable(KeyTable):
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


class ArmSizesTable(KeyTable):
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


class DesignTable(KeyTable):
    """[design]: the layout; a value may be absent if an axis of the grid gives it."""

    clusters: Annotated[int | None, _kind(values.CLUSTERS)] = None
    cluster_size: Annotated[
        int | tuple[int, ...] | SizesTable | ArmSizesTable | None, PlainValidator(_cluster_size)
    ] = None


class ShapeTable(KeyTable):
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


class WeibullTable(KeyTable):
    """missing.weibull: the row beyond which a cluster is lost."""

    scale: Annotated[float | None, _kind(values.POSITIVE)] = None
    shape: Annotated[float | None, _kind(values.POSITIVE)] = None


class AtRandomTable(KeyTable):
    """missing.at_random: log odds that a row is lost."""

    on: Annotated[str | None, _kind(values.ON)] = None
    intercept: Number | None = None
    slope: Number | None = None
    monotone: Flag | None = None


class MissingTable(KeyTable):
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


class OutcomeTable(KeyTable):
    """[truth.outcome]: the outcome within arms, from which variances and a covariate's coefficient follow."""

    variance: Annotated[float | None, _kind(values.POSITIVE)] = None
    icc: Annotated[float | None, _kind(values.SHARE)] = None
    r2_within: Annotated[float | None, _kind(values.R2)] = None
    r2_between: Annotated[float | None, _kind(values.R2)] = None
    arm: Annotated[tuple[str, ...] | None, _kind(values.ARM)] = None


class TruthTable(KeyTable):
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

    level: Annotated[Literal[1, 2] | None, _kind(kinds.LEVEL)] = None
    distribution: Annotated[str | None, _kind(kinds.DISTRIBUTION)] = None
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


class MethodTable(KeyTable):
    """[[method]]: a way to analyse; formula None is the truth's."""

    name: MethodName
    estimator: Annotated[str, _kind(values.ESTIMATOR)] = "lmm"
    formula: FormulaText | None = None
    reml: Flag = True
    df: Annotated[tuple[str, ...] | None, _kind(values.DF)] = None
    singular_df: Annotated[Literal["lmertest", "refit"], _kind(values.SINGULAR_DF)] = "lmertest"
    intervals: Annotated[Literal["t", "profile", "bootstrap"], _kind(values.INTERVALS)] = "t"
    variance_intervals: Annotated[
        Literal["wald", "wald-log", "profile", "profile-reml", "bootstrap"] | None, _kind(values.VARIANCE_INTERVALS)
    ] = None
    compare: FormulaText | None = None
    reference: Annotated[Literal["asymptotic", "chisq", "exact", "bootstrap"] | None, _kind(values.REFERENCE)] = None
    draws: Annotated[int | None, _kind(values.DRAWS)] = None
    robust: Annotated[Literal["CR0", "CR1", "CR1S", "CR2"] | None, _kind(values.ROBUST)] = None
    weights: Annotated[Literal["size"] | None, _kind(values.CLUSTER_WEIGHTS)] = None
    alpha: Annotated[float | None, _kind(values.ALPHA)] = None
    max_failed: Annotated[float | None, _kind(values.MAX_FAILED)] = None
    select: Annotated[Literal["lrt", "aic"] | None, _kind(values.SELECT)] = None
    select_alpha: Annotated[float | None, _kind(values.ALPHA)] = None
    working: Annotated[Literal["exchangeable", "independence", "ar1"] | None, _kind(values.WORKING)] = None
    covariance: Annotated[Literal["robust", "naive", "bias_reduced"] | None, _kind(values.GEE_COVARIANCE)] = None
    function: Annotated[str | None, _kind(values.FUNCTION)] = None


class ContrastTable(KeyTable):
    """[[contrast]]: a target made of fixed effects, with its test."""

    name: Annotated[str, _kind(values.CONTRAST_NAME)]
    weights: Annotated[tuple[dict[str, float], ...], _kind(values.WEIGHTS)]
    standardise: Annotated[Literal["residual", "total"] | None, _kind(values.STANDARDISE)] = None
    test: Annotated[Literal["difference", "non-inferiority", "equivalence"], _kind(values.TEST)] = "difference"
    null: Number | None = None
    alternative: Annotated[Literal["two-sided", "greater", "less"] | None, _kind(values.ALTERNATIVE)] = None
    margin: Annotated[float | tuple[float, float] | None, _kind(values.MARGIN)] = None
