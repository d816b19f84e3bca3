"""The kinds of value that a study file may hold, the same for a key and for a grid axis that varies it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import Any, TypeVar

from .methods import ESTIMATORS
from .model import DF_RULES
from .predictors import DISTRIBUTIONS, SHAPES
from .prior import Domain, Prior, looks_like_prior, read_prior
from .problems import close_match
from .stated import looks_like_effect, read_effect

__all__ = ["MOST_VALUES", "Kind", "numbers", "whole_number"]

T = TypeVar("T")

# Far beyond any study, and small enough that one layout fits into memory.
_MOST_CLUSTERS = 1_000_000
_MOST_ROWS = 1_000_000_000

#: Most numbers of a list, such as a column of a file.
MOST_VALUES = 200_000

_LIKE = ' such as { distribution = "beta", mean = 0.1, sd = 0.05 }'
_NO_PRIOR = (
    "a prior may stand for effects, variances and correlations of the truth only: write a value, or several as an axis of "
    "the grid"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: `accept` gives the value as stored, or None if it is not one of the kind.

    domain: of a number for which a prior may stand.
    """

    allowed: str
    repair: str
    accept: Callable[[Any], Any]
    words: tuple[str, ...] = ()
    domain: Domain | None = None

    def check(self, value: object) -> Any:
        """The value as stored. ValueError, with what is allowed and the repair, if it is not of this kind."""
        if self.domain is not None and (isinstance(value, Prior) or looks_like_prior(value)):
            return self.check_prior(value)
        accepted = self.accept(value)
        if accepted is None:
            raise ValueError(f"must be {self.allowed}; {self._repair(value)}")
        return accepted

    def check_prior(self, value: object) -> Prior:
        """The prior that a table describes; ValueError if none may stand here, or it is none."""
        if self.domain is None:
            raise ValueError(f"must be {self.allowed}; {_NO_PRIOR}")
        table = value.table() if isinstance(value, Prior) else value
        if not isinstance(table, Mapping):
            raise ValueError(f"must be a prior{_LIKE}; a number is a level of the grid, or stands in [truth]")
        return read_prior(table, self.domain, self.allowed)

    def _repair(self, value: object) -> str:
        if isinstance(value, Mapping) and "distribution" in value:
            return _NO_PRIOR
        if isinstance(value, str):
            number = _number(value)
            if number is not None and self.accept(number) is not None:
                return f"write {value.strip()} without quotes"
        if isinstance(value, float) and value.is_integer() and self.accept(int(value)) is not None:
            return f"write {int(value)}"
        if isinstance(value, str) and (guess := close_match(value, self.words)):
            return f'did you mean "{guess}"?'
        return self.repair


@dataclass(frozen=True, slots=True)
class EffectKind(Kind):
    """A coefficient; tables: or an effect in standard units (`stated`), which is for the truth, not a level of an axis."""

    tables: bool = False

    def check(self, value: object) -> Any:
        if not looks_like_effect(value):
            return Kind.check(self, value)
        if not self.tables:
            raise ValueError(
                f"must be {self.allowed}; name the axis by the unit, truth.fixed.<term>.d or .r2, and list numbers"
            )
        return read_effect(value)


def _number(text: str) -> int | float | None:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _float(value: object, low: float = -math.inf, high: float = math.inf) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number + 0.0 if math.isfinite(number) and low <= number <= high else None


def _int(value: object, low: int, high: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if low <= value <= high else None


def _above_zero(value: object) -> float | None:
    number = _float(value, low=0.0)
    return number if number else None


def _sd(value: object, *, zero: bool) -> float | None:
    """A standard deviation whose square is representable."""
    number = _float(value, low=0.0)
    if number is None or not math.isfinite(number * number):
        return None
    return number if number * number > 0 or (zero and number == 0) else None


def _open_unit(value: object) -> float | None:
    number = _float(value)
    return number if number is not None and 0 < number < 1 else None


def _icc(value: object) -> float | None:
    number = _float(value)
    return number if number is not None and 0 <= number < 1 else None


_DISTRIBUTIONS_OF_SIZES = ("poisson", "negative-binomial", "uniform", "lognormal")


def _sizes(value: object) -> int | tuple[int, ...] | None:
    if isinstance(value, Mapping) and (
        value.get("distribution") in _DISTRIBUTIONS_OF_SIZES[:2]
        or not {"cv", "file", "values", "arms"}.isdisjoint(value)
    ):
        raise ValueError(
            "must be a whole number or a list of one per cluster; give the distribution in [design], and name its keys as axes, "
            "design.cluster_size.cv say"
        )
    one = _int(value, 1, _MOST_ROWS)
    return _listed(value, lambda size: _int(size, 1, _MOST_ROWS), most=math.inf) if one is None else one


def _listed(
    value: object, accept: Callable[[Any], T | None], least: int = 1, most: float = MOST_VALUES
) -> tuple[T, ...] | None:
    """A list of `least` to `most` values, all of which `accept` takes."""
    if not isinstance(value, list | tuple) or not least <= len(value) <= most:
        return None
    found = [taken for item in value if (taken := accept(item)) is not None]
    return tuple(found) if len(found) == len(value) else None


def _different(
    value: object, accept: Callable[[Any], T | None], least: int = 1, most: float = MOST_VALUES
) -> tuple[T, ...] | None:
    """A list of values that `accept` takes, each once."""
    found = _listed(value, accept, least, most)
    return found if found is not None and len(set(found)) == len(found) else None


def _matrix(value: object) -> tuple[tuple[float, ...], ...] | None:
    rows = _listed(value, numbers)
    return rows if rows is not None and all(len(row) == len(rows) for row in rows) else None


def numbers(value: object) -> tuple[float, ...] | None:
    """A list of finite numbers, one at least."""
    return _listed(value, _float)


def _sequences(value: object) -> tuple[tuple[float, ...], ...] | None:
    rows = _listed(value, numbers)
    if rows is not None and len({len(row) for row in rows}) > 1:
        lengths = ", ".join(str(len(row)) for row in rows)
        raise ValueError(f"must be lists of one length, and theirs are {lengths}; give each a value for every period")
    return rows


def _text(pattern: str) -> Callable[[object], str | None]:
    return lambda value: value if isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) else None


def _shares(value: object) -> tuple[float, ...] | None:
    found = numbers(value)
    return None if found is None or min(found) <= 0 else found


def _blocks(value: object) -> int | str | None:
    """A number of clusters, or the name of a predictor."""
    if isinstance(value, str):
        return value if value.isidentifier() else None
    return _int(value, 2, _MOST_CLUSTERS)


def _words(accept: Callable[[Any], str | None]) -> Callable[[object], tuple[str, ...] | None]:
    """One word that is accepted, or several different ones."""
    return lambda value: _different([value] if isinstance(value, str) else value, accept)


def _nonblank(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _function(value: object) -> str | None:
    module, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    words = [*module.split("."), name]
    return f"{module}:{name}" if all(word.isidentifier() and not iskeyword(word) for word in words) else None


def _weights(value: object) -> tuple[dict[str, float], ...] | None:
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list | tuple) or not rows:
        return None
    found = []
    for row in rows:
        if not isinstance(row, dict) or not row:
            return None
        numbers = {str(term): _float(weight) for term, weight in row.items()}
        if any(weight is None for weight in numbers.values()) or not any(numbers.values()):
            return None
        found.append({term: weight for term, weight in numbers.items() if weight is not None})
    return tuple(found)


def _margin(value: object) -> float | tuple[float, float] | None:
    if isinstance(value, list | tuple):
        ends = [_float(end) for end in value]
        if len(ends) != 2 or ends[0] is None or ends[1] is None or not ends[0] < ends[1]:
            return None
        return ends[0], ends[1]
    return _above_zero(value)


def whole_number(low: int, high: int, repair: str) -> Kind:
    """The kind of a whole number in a range."""
    return Kind(f"a whole number from {low} to {high}", repair, lambda value: _int(value, low, high))


def _choice(repair: str, *words: str) -> Kind:
    quoted = [f'"{word}"' for word in words]
    allowed = " or ".join(quoted) if len(words) < 7 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    return Kind(allowed, repair, lambda value: value if value in words else None, words)


_NAME = _text(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?")

TEXT = Kind("text", "write it in quotes", _text(".*"))
FORMULA = Kind('text such as "y ~ x + (1 | g)"', "write the formula in quotes", _nonblank)
NAME = Kind(
    "letters, digits, - _ . (at most 100, no . or - first, no . last)", "it names a folder: remove the rest", _NAME
)
METHOD_NAME = replace(NAME, repair="rename the method")
FLAG = Kind("true or false", "write true or false, without quotes", lambda v: v if isinstance(v, bool) else None)
NUMBER = Kind("a finite number", "write a number such as 0.5", _float)
POSITIVE = Kind("a finite number > 0", "write a number such as 1.0", _above_zero)
NONNEGATIVE = Kind("a finite number >= 0", "write 0 or more", lambda value: _float(value, low=0.0))
POSITIVE_SD = Kind("a finite number > 0", "write a number such as 1.0", lambda value: _sd(value, zero=False))
NONNEGATIVE_SD = Kind("a finite number >= 0", "write 0 or more", lambda value: _sd(value, zero=True))
CORRELATION = Kind(
    "a number in [-1, 1]",
    "write a number such as 0.3",
    lambda value: _float(value, -1.0, 1.0),
    domain=Domain(-1.0, 1.0, "share"),
)
ICC = Kind("a number in [0, 1), 1 not included", "write a share such as 0.1", _icc, domain=Domain(0.0, 1.0, "share"))
# What the truth may have; a continuous prior never takes the end of an open range.
EFFECT = EffectKind(NUMBER.allowed, NUMBER.repair, NUMBER.accept, domain=Domain(-math.inf, math.inf, "effect"))
FIXED = replace(EFFECT, tables=True)
SHARE = R2 = replace(ICC, domain=None)
RATIO = replace(NONNEGATIVE, domain=Domain(0.0, math.inf, "share"))
VARIANCE = replace(NONNEGATIVE, domain=Domain(0.0, math.inf, "variance"))
RESIDUAL_VARIANCE = replace(POSITIVE, domain=Domain(0.0, math.inf, "variance"))
RANDOM_SD = replace(NONNEGATIVE_SD, domain=Domain(0.0, math.inf, "sd"))
RESIDUAL_SD = replace(POSITIVE_SD, domain=Domain(0.0, math.inf, "sd"))
ALPHA = Kind("a number between 0 and 1, neither included", "write a level such as 0.05", _open_unit)
MAX_FAILED = Kind(
    "a share from 0 to 1, 1 not included", "write a share such as 0.2, or remove it to end no condition early", _icc
)
SEED = Kind("a whole number >= 0 and < 2**64", "write a seed such as 707", lambda value: _int(value, 0, 2**64 - 1))
REPLICATIONS = Kind("a whole number >= 1", "write a number such as 2000", lambda value: _int(value, 1, 2**53))
CLUSTERS = whole_number(2, _MOST_CLUSTERS, "use 2 or more clusters")
CLUSTER_SIZE = Kind(
    f"a whole number from 1 to {_MOST_ROWS}, or a list of one per cluster", "write a number such as 20", _sizes
)
ARM_SIZE = Kind(
    f"a whole number from 1 to {_MOST_ROWS}, or a table of a distribution",
    "write a number such as 20",
    lambda value: _int(value, 1, _MOST_ROWS),
)
ARM = Kind("the name of a predictor, or a list of names", 'write a name such as "treatment"', _words(_nonblank))
MATRIX = Kind("a square matrix of finite numbers", "write rows such as [[5, 1], [1, 3]]", _matrix)
LEVEL = Kind("1 (varies within clusters) or 2 (between them)", "write 1 or 2", lambda value: _int(value, 1, 2))
# -- data as they are --------------------------------------------------------------------------------------------------
DISTRIBUTION = _choice("use one of these", *DISTRIBUTIONS)
SHAPE = _choice("use one of these", *SHAPES)
SIZES = _choice("use one of these", *_DISTRIBUTIONS_OF_SIZES)
SHAPE_DF = Kind("a number from 0.1 to 1000000", "write a number such as 5", lambda value: _float(value, 0.1, 1e6))
SKEWNESS = Kind("a number from -10 to 10", "write a number such as 1", lambda value: _float(value, -10.0, 10.0))
SD_RATIO = Kind("a number from 0.001 to 1000", "write a number such as 3", lambda v: _float(v, 1e-3, 1e3))
VARIANCE_RATIO = Kind("a number > 0", "write a ratio such as 2", _above_zero)
AR1 = Kind(
    "a number between -1 and 1, neither included",
    "write a correlation such as 0.4",
    lambda v: found if (found := _float(v)) is not None and -1 < found < 1 else None,
)
CV = Kind("a number from 0 to 10", "write a coefficient of variation such as 0.5", lambda v: _float(v, 0.0, 10.0))
PLAIN_CORRELATION = replace(CORRELATION, domain=None)
STEP = Kind("a finite number other than 0", "write a number such as 1", lambda v: _float(v) or None)
MEAN_SIZE = Kind("a number from 1 to 1000000", "write a mean size such as 20", lambda v: _float(v, 1.0, 1e6))
MINIMUM_SIZE = whole_number(1, 1_000_000, "write a size such as 2")
PERIODS = whole_number(2, 1000, "write a number of periods such as 4")
BASELINE = whole_number(1, 999, "write a number of periods such as 1")
ROWS_PER_PERIOD = whole_number(1, 1_000_000, "write a number such as 10")
CATEGORIES = Kind(
    "a list of 2 to 20 different names of letters, digits, _ and -",
    'write names such as ["a", "b", "c"]',
    lambda v: _different(v, _text(r"[\w-]{1,40}"), 2, 20),
)
SHARES = Kind("a list of numbers > 0", "write shares such as [0.2, 0.3, 0.5]", _shares)
BLOCKS = Kind(
    "a number of clusters, 2 or more, or the name of a predictor of level 2",
    'write a number such as 4, or a name such as "region"',
    _blocks,
)
CODING = _choice("use one of these", "treatment", "sum", "helmert")
VALUES = Kind("a list of finite numbers", "write numbers such as [1, 2, 5]", numbers)
SIZE_VALUES = Kind(
    "a list of whole numbers >= 1",
    "write sizes such as [12, 20, 31]",
    lambda v: _listed(v, lambda n: _int(n, 1, _MOST_ROWS)),
)
SEQUENCES = Kind(
    "a list of sequences, each a list of a value for every period",
    "write sequences such as [[0, 1, 1], [0, 0, 1]]",
    _sequences,
)
SCHEDULE = _choice("use one of these, or give sequences", "stepped-wedge", "crossover", "parallel-baseline")
ARMS = Kind(
    "a list of whole numbers >= 1, the clusters of each arm",
    "write numbers such as [12, 8]",
    lambda v: _listed(v, lambda n: _int(n, 1, _MOST_CLUSTERS), 2),
)
FILE = Kind("the name of a CSV or Parquet file", "write it in quotes", _nonblank)
COLUMN = Kind("the name of a column of the file", "write it in quotes", _nonblank)
ON = Kind('the name of a predictor, or "previous" (outcome)', "write it in quotes", _nonblank)
SINGULAR_DF = _choice('remove it for "lmertest"', "lmertest", "refit")
ALTERNATIVE = _choice('remove it for "two-sided"', "two-sided", "greater", "less")
STANDARDISE = _choice("remove it for the coefficients' own units", "residual", "total")
TEST = _choice('remove it for "difference"', "difference", "non-inferiority", "equivalence")
CONTRAST_NAME = Kind(
    "letters, digits, spaces, - _ . (at most 60, a letter or digit first)",
    "rename the contrast",
    _text(r"[A-Za-z0-9](?:[A-Za-z0-9_. -]{0,58}[A-Za-z0-9_.-])?"),
)
WEIGHTS = Kind(
    'a table such as { x = 1, "x:z" = 0.5 }, or a list of those for a joint test',
    "write a weight for each term",
    _weights,
)
MARGIN = Kind("a number > 0, or [low, high] with low < high", "write a margin such as 0.2", _margin)
INTERVALS = _choice('remove it for "t"', "t", "profile", "bootstrap")
VARIANCE_INTERVALS = _choice("remove it for none", "wald", "wald-log", "profile", "profile-reml", "bootstrap")
REFERENCE = _choice('remove it for "asymptotic"', "asymptotic", "chisq", "exact", "bootstrap")
SELECT = _choice("remove it for no selection", "lrt", "aic")
WORKING = _choice('remove it for "exchangeable"', "exchangeable", "independence", "ar1")
GEE_COVARIANCE = _choice('remove it for "robust"', "robust", "naive", "bias_reduced")
FUNCTION = Kind(
    'text such as "module:function"',
    "name a module and a function in it, with a colon between, as in Python's import",
    _function,
)
DRAWS = whole_number(19, 1_000_000, "write a number such as 999")
KEEP = _choice('remove it for "replicates"', "replicates", "summary")
MCSE = _choice('remove it for "distribution-free"', "distribution-free", "morris")
ESTIMATOR = _choice('remove it for "lmm"', *ESTIMATORS)
ROBUST = _choice("remove it for the model's own standard errors", "CR0", "CR1", "CR1S", "CR2")
CLUSTER_WEIGHTS = Kind(
    '"size"', "remove it for equal weights", lambda value: value if value == "size" else None, ("size",)
)
DF = Kind(
    " or ".join(f'"{rule}"' for rule in DF_RULES) + ", or a list of them",
    'remove it for "satterthwaite"',
    _words(lambda rule: rule if rule in DF_RULES else None),
    DF_RULES,
)
