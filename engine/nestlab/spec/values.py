"""The types of the values of a study file, each with its limits.

What is told of a value that is none follows from the type (`allowed`), or stands in its `Says`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Annotated, Any, TypeAlias, TypeVar

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema, core_schema

from .kinds import (
    Holds,
    Nonblank,
    NonNegative,
    Number,
    OneOf,
    Positive,
    Says,
    Share,
    Text,
    Whole,
    allowed,
    either,
    limits_of,
)
from .model import DF_RULES
from .model import Effect as StatedEffect
from .prior import Domain, Of, Prior, looks_like_prior, read_prior
from .stated import EffectTable, looks_like_effect, read_effect

T = TypeVar("T")

#: Most numbers of a list, such as a column of a file.
MOST_VALUES = 200_000
# Far beyond any study, and small enough that one layout fits into memory.
_MOST_CLUSTERS, _MOST_ROWS = 1_000_000, 1_000_000_000


def _written(value: float | Prior | StatedEffect) -> float | dict[str, Any]:
    return value.table() if isinstance(value, Prior | StatedEffect) else value


@dataclass(frozen=True, slots=True)
class MayBePrior:
    """A number of the truth, for which a prior may stand, or an effect in standard units where it may be `stated`."""

    number: Any
    of: Of
    stated: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._read,
            handler.generate_schema(self.number),
            serialization=core_schema.plain_serializer_function_ser_schema(_written),
        )

    def _read(self, value: object, number: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if self.stated and looks_like_effect(value):
            return read_effect(value)
        if isinstance(value, Prior) or looks_like_prior(value):
            return self.prior(value)
        return number(value)

    def prior(self, value: object) -> Prior:
        """The prior that a table describes. ValueError with what is allowed and the repair."""
        table = value.table() if isinstance(value, Prior) else value
        if not isinstance(table, Mapping):
            like = ' such as { distribution = "beta", mean = 0.1, sd = 0.05 }'
            raise ValueError(f"must be a prior{like}; a number is a level of the grid, or stands in [truth]")
        limits = limits_of(self.number)  # a continuous prior never takes the end of an open range
        return read_prior(table, Domain(limits.low, limits.high, self.of), allowed(self.number))


def _one_or_several(value: object) -> object:
    return [value] if isinstance(value, str | Mapping) else value


def _no_distribution(value: object) -> object:
    if isinstance(value, Mapping) and (
        value.get("distribution") in ("poisson", "negative-binomial")
        or not {"cv", "file", "values", "arms"}.isdisjoint(value)
    ):
        raise ValueError(
            "must be a whole number or a list of one per cluster; give the distribution in [design], and name its keys as "
            "axes, design.cluster_size.cv say"
        )
    return value


def _different(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError
    return values


def _has_square(sd: float) -> float:
    """A standard deviation whose square is representable."""
    if not math.isfinite(sd * sd) or (sd > 0 and sd * sd == 0):
        raise ValueError
    return sd


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError
    return value


def _square(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if any(len(row) != len(rows) for row in rows):
        raise ValueError
    return rows


def _one_length(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if len({len(row) for row in rows}) > 1:
        lengths = ", ".join(str(len(row)) for row in rows)
        raise ValueError(f"must be lists of one length, and theirs are {lengths}; give each a value for every period")
    return rows


def _name_of_predictor(name: str) -> str:
    if not name.isidentifier():
        raise ValueError
    return name


def _importable(text: str) -> str:
    module, _, name = text.partition(":")
    if not all(word.isidentifier() and not iskeyword(word) for word in (*module.split("."), name)):
        raise ValueError
    return text


def _with_weight(rows: tuple[dict[str, float], ...]) -> tuple[dict[str, float], ...]:
    if not all(any(row.values()) for row in rows):
        raise ValueError
    return rows


def _interval(margin: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(margin, tuple) and not margin[0] < margin[1]:
        raise ValueError
    return margin


PositiveSd: TypeAlias = Annotated[Positive, AfterValidator(_has_square)]
Sd: TypeAlias = Annotated[NonNegative, AfterValidator(_has_square)]
ShareAbove0: TypeAlias = Annotated[Number, Gt(0), Le(1)]
Portion: TypeAlias = Annotated[Number, Ge(0), Le(1)]
OpenShare: TypeAlias = Annotated[Number, Gt(0), Lt(1)]
Correlation: TypeAlias = Annotated[Number, Ge(-1), Le(1)]
OpenCorrelation: TypeAlias = Annotated[Number, Gt(-1), Lt(1)]
Step: TypeAlias = Annotated[Number, AfterValidator(_not_zero), Says("a finite number other than 0")]
Cv: TypeAlias = Annotated[Number, Ge(0), Le(10)]
MeanSize: TypeAlias = Annotated[Number, Ge(1), Le(1_000_000)]
ShapeDf: TypeAlias = Annotated[Number, Ge(0.1), Le(1_000_000)]
Skewness: TypeAlias = Annotated[Number, Ge(-10), Le(10)]
SdRatio: TypeAlias = Annotated[Number, Ge(0.001), Le(1000)]

Seed: TypeAlias = Annotated[Whole, Ge(0), Lt(2**64), Says("a whole number >= 0 and < 2**64")]
Replicates: TypeAlias = Annotated[Whole, Ge(1), Le(2**53), Says("a whole number >= 1")]
Looks: TypeAlias = Annotated[Whole, Ge(100), Le(10**9)]
Draws: TypeAlias = Annotated[Whole, Ge(19), Le(1_000_000)]
Clusters: TypeAlias = Annotated[Whole, Ge(2), Le(_MOST_CLUSTERS)]
Size: TypeAlias = Annotated[Whole, Ge(1), Le(_MOST_ROWS)]
FewRows: TypeAlias = Annotated[Whole, Ge(1), Le(1_000_000)]
Periods: TypeAlias = Annotated[Whole, Ge(2), Le(1000)]
Baseline: TypeAlias = Annotated[Whole, Ge(1), Le(999)]
Level: TypeAlias = Annotated[
    Annotated[Whole, Ge(1), Le(2)]
    | Annotated[str, StringConstraints(strict=True, pattern=r"^[^\W\d]\w*(:[^\W\d]\w*)*$")],
    Says("1 (varies within clusters), 2 (between them), or a factor of [design.factors]", "write 1 or 2"),
]

_NAME = r"^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?$"
_NAMES = "letters, digits, - _ . (at most 100, no . or - first, no . last)"
Name: TypeAlias = Annotated[
    str, StringConstraints(strict=True, pattern=_NAME), Says(_NAMES, "it names a folder: remove the rest")
]
MethodName: TypeAlias = Annotated[str, StringConstraints(strict=True, pattern=_NAME), Says(_NAMES, "rename the method")]
ContrastName: TypeAlias = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9_. -]{0,58}[A-Za-z0-9_.-])?$"),
    Says("letters, digits, spaces, - _ . (at most 60, a letter or digit first)", "rename the contrast"),
]
FormulaText: TypeAlias = Annotated[Nonblank, Says('text such as "y ~ x + (1 | g)"', "write the formula in quotes")]
Formulas: TypeAlias = Annotated[
    tuple[FormulaText, ...],
    Len(1, 20),
    BeforeValidator(_one_or_several),
    Says('text such as "y ~ x + (1 | g)", or a list of such', "write the formula in quotes"),
]
Function: TypeAlias = Annotated[
    Text,
    AfterValidator(_importable),
    Says(
        'text such as "module:function"',
        "name a module and a function in it, with a colon between, as in Python's import",
    ),
]
File: TypeAlias = Annotated[Nonblank, Says("the name of a CSV or Parquet file", "write it in quotes")]
ColumnName: TypeAlias = Annotated[Nonblank, Says("the name of a column of the file", "write it in quotes")]
On: TypeAlias = Annotated[Nonblank, Says('the name of a predictor, or "previous" (outcome)', "write it in quotes")]
Arm: TypeAlias = Annotated[
    tuple[Nonblank, ...],
    Len(1),
    AfterValidator(_different),
    BeforeValidator(_one_or_several),
    Says("the name of a predictor, or a list of names"),
]
Blocks: TypeAlias = Annotated[
    Annotated[Whole, Ge(2), Le(_MOST_CLUSTERS)] | Annotated[Text, AfterValidator(_name_of_predictor)],
    Says("a number of clusters, 2 or more, or the name of a predictor of level 2"),
]
DfRules: TypeAlias = Annotated[
    tuple[Annotated[str, OneOf(DF_RULES)], ...],
    Len(1),
    AfterValidator(_different),
    BeforeValidator(_one_or_several),
    Says(either(DF_RULES) + ", or a list of them"),
]

FactorNames: TypeAlias = Annotated[
    tuple[Nonblank, ...],
    Len(1),
    AfterValidator(_different),
    BeforeValidator(_one_or_several),
    Says("the name of a factor of [design.factors], or a list of names"),
]

Numbers: TypeAlias = Annotated[tuple[Number, ...], Len(1, MOST_VALUES), Says("a list of finite numbers")]
SizeValues: TypeAlias = Annotated[tuple[Size, ...], Len(1, MOST_VALUES), Says("a list of whole numbers >= 1")]
SizeList: TypeAlias = Annotated[tuple[Size, ...], Len(1)]
FactorNumber: TypeAlias = Annotated[Whole, Ge(1), Le(_MOST_CLUSTERS)]
FactorNumbers: TypeAlias = Annotated[tuple[FactorNumber, ...], Len(1)]
RowsList: TypeAlias = Annotated[tuple[FewRows, ...], Len(1)]
NumberLevel: TypeAlias = Annotated[
    FactorNumber | FactorNumbers,
    BeforeValidator(_no_distribution),
    Says("a whole number >= 1, or a list of one for each level of the factor that holds it"),
]
RowsLevel: TypeAlias = Annotated[
    FewRows | RowsList,
    BeforeValidator(_no_distribution),
    Says("a whole number from 1 to 1000000, or a list of one for each cell"),
]
SizeLevel: TypeAlias = Annotated[
    Size | SizeList,
    BeforeValidator(_no_distribution),
    Says("a whole number from 1 to 1000000000, or a list of one per cluster"),
]
Shares: TypeAlias = Annotated[tuple[Positive, ...], Len(1, MOST_VALUES), Says("a list of numbers > 0")]
ArmClusters: TypeAlias = Annotated[
    tuple[Annotated[Whole, Ge(1), Le(_MOST_CLUSTERS)], ...],
    Len(2, MOST_VALUES),
    Says("a list of whole numbers >= 1, the clusters of each arm"),
]
Categories: TypeAlias = Annotated[
    tuple[Annotated[str, StringConstraints(strict=True, pattern=r"^[\w-]{1,40}$")], ...],
    Len(2, 20),
    AfterValidator(_different),
    Says("a list of 2 to 20 different names of letters, digits, _ and -"),
]
Sequences: TypeAlias = Annotated[
    tuple[Numbers, ...],
    Len(1, MOST_VALUES),
    AfterValidator(_one_length),
    Says("a list of sequences, each a list of a value for every period"),
]
Matrix: TypeAlias = Annotated[
    tuple[Numbers, ...],
    Len(1),
    AfterValidator(_square),
    Says("a square matrix of finite numbers", "write rows such as [[5, 1], [1, 3]]"),
]
Weights: TypeAlias = Annotated[
    tuple[dict[str, Number], ...],
    Len(1),
    AfterValidator(_with_weight),
    BeforeValidator(_one_or_several),
    Says('a table such as { x = 1, "x:z" = 0.5 }, or a list of those for a joint test', "write a weight for each term"),
]
Margin: TypeAlias = Annotated[
    Positive | tuple[Number, Number], AfterValidator(_interval), Says("a number > 0, or [low, high] with low < high")
]

# Numbers of the truth, or priors in their place; a fixed effect of the file may be in standard units.
FixedEffect: TypeAlias = Annotated[
    float | Prior | StatedEffect, MayBePrior(Number, "effect", stated=True), Holds(EffectTable)
]
Trials: TypeAlias = Annotated[Whole, Ge(1), Le(1_000_000)]
Nodes: TypeAlias = Annotated[Whole, Ge(1), Le(25)]
EffectLevel: TypeAlias = Annotated[float | Prior, MayBePrior(Number, "effect")]
Variance: TypeAlias = Annotated[float | Prior, MayBePrior(NonNegative, "variance")]
RandomSd: TypeAlias = Annotated[float | Prior, MayBePrior(Sd, "sd")]
ResidualVariance: TypeAlias = Annotated[float | Prior, MayBePrior(Positive, "variance")]
ResidualSd: TypeAlias = Annotated[float | Prior, MayBePrior(PositiveSd, "sd")]
RandomCorrelation: TypeAlias = Annotated[float | Prior, MayBePrior(Correlation, "share")]
Icc: TypeAlias = Annotated[float | Prior, MayBePrior(Share, "share")]
Ratio: TypeAlias = Annotated[float | Prior, MayBePrior(NonNegative, "share")]
