"""The tables of a study file, each value of its kind.

What several values must be together is in `base` and `checks`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from . import values
from .prior import Prior

__all__ = ["ContrastTable", "DesignTable", "MethodTable", "PredictorTable", "RandomTable", "Table", "TruthTable"]

Number: TypeAlias = Annotated[float, PlainValidator(values.NUMBER.check)]
PositiveSd: TypeAlias = Annotated[float, PlainValidator(values.POSITIVE_SD.check)]
Matrix: TypeAlias = Annotated[tuple[tuple[float, ...], ...], PlainValidator(values.MATRIX.check)]
FormulaText: TypeAlias = Annotated[str, PlainValidator(values.FORMULA.check)]
MethodName: TypeAlias = Annotated[str, PlainValidator(values.METHOD_NAME.check)]
Flag: TypeAlias = Annotated[bool, PlainValidator(values.FLAG.check)]


def _as_written(value: float | Prior) -> float | dict[str, Any]:
    return value.table() if isinstance(value, Prior) else value


Written = PlainSerializer(_as_written)
# Numbers of the truth, or priors in their place.
Effect: TypeAlias = Annotated[float | Prior, PlainValidator(values.EFFECT.check), Written]
Variance: TypeAlias = Annotated[float | Prior, PlainValidator(values.VARIANCE.check), Written]
Sd: TypeAlias = Annotated[float | Prior, PlainValidator(values.RANDOM_SD.check), Written]
Correlation: TypeAlias = Annotated[float | Prior, PlainValidator(values.CORRELATION.check), Written]
ResidualVariance: TypeAlias = Annotated[float | Prior | None, PlainValidator(values.RESIDUAL_VARIANCE.check), Written]
ResidualSd: TypeAlias = Annotated[float | Prior | None, PlainValidator(values.RESIDUAL_SD.check), Written]


class Table(BaseModel):
    """A table that holds the keys named here and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DesignTable(Table):
    """[design]: the layout; a value may be absent if an axis of the grid gives it."""

    clusters: Annotated[int | None, PlainValidator(values.CLUSTERS.check)] = None
    cluster_size: Annotated[int | tuple[int, ...] | None, PlainValidator(values.CLUSTER_SIZE.check)] = None


class RandomTable(Table):
    """[truth.random.<group>]: variance or sd by column, with correlation by "a:b"; or covariance."""

    variance: dict[str, Variance] | None = None
    sd: dict[str, Sd] | None = None
    correlation: dict[str, Correlation] | None = None
    covariance: Matrix | None = None


class TruthTable(Table):
    """[truth]: the data-generating model."""

    formula: FormulaText
    fixed: dict[str, Effect] = {}
    residual_variance: ResidualVariance = None
    residual_sd: ResidualSd = None
    random: dict[str, RandomTable] = {}


class PredictorTable(Table):
    """[predictors.<name>]: how a predictor is made; None where the file is silent."""

    level: Annotated[Literal[1, 2] | None, PlainValidator(values.LEVEL.check)] = None
    distribution: Annotated[Literal["normal", "balanced"] | None, PlainValidator(values.DISTRIBUTION.check)] = None
    mean: Number | None = None
    sd: PositiveSd | None = None
    redraw: Flag | None = None


class MethodTable(Table):
    """[[method]]: a way to analyse; formula None is the truth's."""

    name: MethodName
    estimator: Annotated[Literal["lmm", "statsmodels", "gee", "function"], PlainValidator(values.ESTIMATOR.check)] = (
        "lmm"
    )
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
    alpha: Annotated[float, PlainValidator(values.ALPHA.check)] = 0.05
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
