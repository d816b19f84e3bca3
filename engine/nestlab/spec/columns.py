"""One variable of a formula on the data: a column, or a call such as `log(x)`, `I(x^2)` or `C(k)`.

Calls are evaluated here over a short list of functions: nothing else can be called. As in R they see all rows of the data, those
with a missing value in another variable too. Text and categories become factors.
"""

from __future__ import annotations

import functools
import inspect
import operator
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .expression import Expression, bare, printed, read_variable
from .formula import OF_MEANS, centring_group
from .model import CENTRINGS
from .predictors.categories import CONTRASTS, contrasts
from .problems import DataError

__all__ = ["Factor", "Rows", "check_functions", "evaluate", "plain"]

Array = NDArray[np.float64]
if TYPE_CHECKING:
    Categories: TypeAlias = pd.Categorical[Any]


@dataclass(frozen=True)
class Rows:
    """The data of a fit. used (N): whether a row has a value in all variables; groups: of each grouping factor, by its canonical
    name, the number of each row's level (N), or -1."""

    frame: pd.DataFrame
    used: NDArray[np.bool_]
    groups: Mapping[str, NDArray[np.int64]]


class Coded(NamedTuple):
    """A factor's values with the name of its contrasts."""

    values: Categories
    contrasts: str = "treatment"


@dataclass(frozen=True)
class Factor:
    """A variable on the n rows that are used.

    columns: (n, k), of a factor the numbers of its categories (n, 1); labels: what stands behind the variable's name in those of
    the columns, or the categories. contrasts: the name of a factor's, else ""; truth: whether they are FALSE and TRUE.
    """

    columns: Array
    labels: tuple[str, ...]
    contrasts: str = ""
    truth: bool = False

    def coded(self, *, full: bool, contrast: str = "") -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
        """The columns, by contrasts, its own or another kind, unless `full`; their labels, here and in R."""
        if not self.contrasts:
            return self.columns, self.labels, self.labels
        codes = self.columns[:, 0].astype(np.int64)
        if full:
            return np.eye(len(self.labels))[codes], self.labels, self.labels
        found, labels = contrasts(contrast or self.contrasts, self.labels)
        return found[codes], ("",) if self.truth else labels, labels


def check_functions(node: Expression) -> None:
    """Raise DataError for a call that is not possible."""
    if node.kind == "call" and _function(node) is None:
        raise DataError(
            f"{node.value}(...) is not possible; allowed are {', '.join([*FUNCTIONS, *CENTRINGS])} (after a variable, write an "
            "operator before the parenthesis)"
        )
    for part in node.parts:
        check_functions(part)


def evaluate(name: str, rows: Rows) -> Factor:
    """A variable, by its name in a formula, on the rows that are used. Raises DataError, naming it."""
    try:
        with np.errstate(all="ignore"):
            found = _value(read_variable(name), rows)
    except DataError:
        raise
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be computed from the data: {reason}") from None
    if isinstance(found, Coded):
        return _coded_factor(name, found, rows.used)
    if isinstance(found, pd.Categorical) or _is_text(found):
        return _coded_factor(name, Coded(_categories(found)), rows.used)
    if isinstance(found, np.ndarray) and found.dtype == np.bool_:
        return Factor(found[rows.used, None].astype(float), ("FALSE", "TRUE"), "treatment", truth=True)
    columns = np.asarray(found, dtype=float)
    if not columns.ndim:
        raise DataError(f"{name} is one number, not a column; remove it")
    columns = columns[rows.used]
    if not np.isfinite(columns).all():
        raise DataError(f"{name} has infinite or undefined values; remove those rows or transform it differently")
    if columns.ndim == 1 or columns.shape[1] == 1:
        return Factor(columns.reshape(-1, 1), ("",))
    return Factor(columns, tuple(str(k + 1) for k in range(columns.shape[1])))


def _coded_factor(name: str, found: Coded, used: NDArray[np.bool_]) -> Factor:
    values = found.values[used].remove_unused_categories()
    labels = tuple(str(c) for c in values.categories)
    if len(labels) < 2:
        raise DataError(f'{name} has one category only, "{labels[0]}"; remove it from the formula')
    return Factor(np.asarray(values.codes)[:, None].astype(float), labels, found.contrasts)


def plain(frame: pd.DataFrame, name: str) -> Any:
    """A column as numbers, truth values, a pandas Categorical, or text (of the type object)."""
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Categorical(column).rename_categories(str)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy(dtype=float)
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean":
        return column.fillna(False).to_numpy(dtype=bool)  # rows where it is missing are not used
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return column.astype(object).where(column.notna(), np.nan).to_numpy(dtype=float)
    if kind == "string":
        return column.astype(object).to_numpy()
    raise DataError(f"column {name} holds {kind} values; allowed are numbers, truth values and text: convert it")


def _is_text(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.object_


def _number(value: Any) -> Any:
    """Truth values as 0 and 1."""
    return value.astype(float) if isinstance(value, np.ndarray) and value.dtype == np.bool_ else value


def _value(node: Expression, rows: Rows) -> Any:
    kind, parts = node.kind, node.parts
    if kind == "name":
        return plain(rows.frame, node.value)
    if kind == "number":
        return node.value == "TRUE" if node.value in ("TRUE", "FALSE") else float(node.value)
    if kind == "text":
        return node.value[1:-1]
    if kind == "(":
        return _value(parts[0], rows)
    if kind == "call":
        return _called(node, rows)
    operation = (_UNARY if len(parts) == 1 else _BINARY).get(kind)
    if operation is None:
        raise ValueError(
            f"{printed(node)[:40]} is not possible; allowed are numbers, columns, + - * / ^ and comparisons"
        )
    values = [_number(_value(part, rows)) for part in parts]
    return functools.reduce(operation, values) if len(values) > 1 else operation(*values)


def _called(node: Expression, rows: Rows) -> Any:
    options: dict[str, Any] = {}
    arguments: list[Any] = []
    named_group = node.value in OF_MEANS and len(node.parts) == 2
    for k, part in enumerate(node.parts[:1] if named_group else node.parts):
        value = bare(part.parts[0] if part.kind == "key" else part)
        named = k > 0 and node.value == "C" and value.value.strip("'\"").removeprefix("contr.") in CONTRASTS
        found = value.value.strip("'\"").removeprefix("contr.") if named else _value(value, rows)
        if part.kind == "key" or named:
            options["contr" if named else part.value] = found
        else:
            arguments.append(found if node.value == "I" else _number(found))
    function = _function(node)
    assert function is not None, "check_functions has seen to that"
    if node.value in CENTRINGS:
        own = rows.groups[centring_group(node)] if named_group else next(iter(rows.groups.values()))
        arguments = [own, *arguments]
    try:
        bound = inspect.signature(function).bind(*arguments, **options)
    except TypeError:
        allowed = [name for name in inspect.signature(function).parameters if name != "groups"]
        raise ValueError(f"{node.value} takes {', '.join(allowed)}") from None
    return function(*bound.args, **bound.kwargs)


def _function(node: Expression) -> Callable[..., Any] | None:
    """np.log is taken for log."""
    return {**FUNCTIONS, **_CENTRED}.get(node.value.removeprefix("np."))


def _log(x: Array, base: float | None = None) -> Array:
    logarithm: Array = np.log(x)
    return logarithm if base is None else logarithm / np.log(base)


def _scale(x: Array, center: bool | float = True, scale: bool | float = True) -> Array:
    """R's scale: the sd has n - 1 in its denominator."""
    moved = x - (np.nanmean(x) if center is True else float(center))
    root = np.sqrt(np.nansum(moved**2) / (np.isfinite(moved).sum() - 1))
    return np.asarray(moved / (root if scale is True else float(scale) or 1.0))


def _poly(x: Array, degree: float = 1.0, raw: bool = False) -> Array:
    """R's poly: powers, or orthonormal polynomials without the constant, leading coefficients positive."""
    k, known = int(degree), ~np.isnan(x)
    if k != degree or not 1 <= k < len(np.unique(x[known])):
        most = len(np.unique(x[known])) - 1
        raise ValueError(f"the degree of poly must be a whole number from 1 to {most}, not {degree:g}")
    if raw:
        return x[:, None] ** np.arange(1, k + 1)
    Q, R = np.linalg.qr(np.vander(x[known] - x[known].mean(), k + 1, increasing=True))
    found = np.full((len(x), k), np.nan)
    found[known] = (Q * np.sign(np.diag(R)))[:, 1:]
    return found


def _categories(x: Any) -> Categories:
    """A factor of numbers or text."""
    if isinstance(x, Coded):
        return x.values
    if isinstance(x, pd.Categorical):
        return x
    codes, levels = pd.factorize(x)
    order = sorted(range(len(levels)), key=lambda k: _collated(levels[k]) if _is_text(x) else levels[k])
    labels = [levels[k] if _is_text(x) else _label(float(levels[k])) for k in order]
    found: Categories = pd.Categorical.from_codes(np.append(np.argsort(order), -1)[codes], categories=pd.Index(labels))
    return found


def _factor(x: Any, ref: float | str | None = None, contr: str = "") -> Coded:
    found = _categories(x)
    if ref is not None:
        first = _label(ref) if isinstance(ref, float) else ref
        if first not in found.categories:
            raise ValueError(f"ref = {first} is none of its categories: {', '.join(found.categories)}")
        found = found.reorder_categories([first, *(c for c in found.categories if c != first)])
    return Coded(found, contr or (x.contrasts if isinstance(x, Coded) else "treatment"))


def _relevel(x: Any, ref: float | str) -> Coded:
    return _factor(x, ref)


def _collated(word: str) -> tuple[Any, ...]:
    """R's order of text in a UTF-8 locale: marks, digits, letters; without regard to case and accents, unless all else is equal.

    >>> sorted(["b", "A", "a2", "_a", "É", "a", "B", "a10", "e"], key=_collated)
    ['_a', 'a', 'A', 'a10', 'a2', 'b', 'B', 'e', 'É']
    """
    apart = unicodedata.normalize("NFKD", word)
    letters = [c for c in apart if not unicodedata.combining(c)]
    order = [(c.isalpha() + c.isalnum(), c.casefold()) for c in letters]
    return order, [c for c in apart if unicodedata.combining(c)], [c.isupper() for c in letters], word


def _label(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _numeric(x: Any) -> Array:
    """R's as.numeric: of text the numbers that it holds, of a factor the numbers of its categories."""
    if isinstance(x, Coded | pd.Categorical):
        codes = np.asarray(_categories(x).codes)
        return np.where(codes < 0, np.nan, codes + 1.0)
    return np.array([np.nan if pd.isna(v) else float(v) for v in x]) if _is_text(x) else np.asarray(x, dtype=float)


def _between(groups: NDArray[np.int64], x: Array) -> Array:
    """The mean of a row's cluster, over its known values."""
    known = (groups >= 0) & ~np.isnan(x)
    J = int(groups.max(initial=-1)) + 1
    means = np.bincount(groups[known], weights=x[known], minlength=J) / np.bincount(groups[known], minlength=J)
    return np.where(groups < 0, np.nan, means[groups])


_CENTRED: Mapping[str, Callable[..., Any]] = {
    "within": lambda groups, x: x - _between(groups, x),
    "between": _between,
    "center": lambda groups, x: x - np.nanmean(x),
}


def _of_one(function: np.ufunc) -> Callable[[Array], Array]:
    return lambda x: np.asarray(function(x))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "I": lambda x: x, "C": _factor, "factor": _factor, "as.factor": _factor, "relevel": _relevel, "as.numeric": _numeric,
    "scale": _scale, "poly": _poly, "log": _log,
    **{name: _of_one(getattr(np, name)) for name in
       ("log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")},
}  # fmt: skip

_UNARY: Mapping[str, Callable[..., Any]] = {"+": operator.pos, "-": np.negative, "!": np.logical_not}
_BINARY: Mapping[str, Callable[..., Any]] = {
    "sum": operator.add, "*": operator.mul, "/": operator.truediv, "^": operator.pow, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "&": np.logical_and, "|": np.logical_or,
}  # fmt: skip
