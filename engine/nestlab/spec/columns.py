"""One factor of a term on the data: a column, or a call such as `log(x)`, `I(x**2)` or `C(k)`.

Calls are read as Python's expressions, with `^` for `**` as in R, and evaluated here over a short list of functions: nothing
else can be called. Text and categories become indicator columns.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .problems import DataError

__all__ = ["FUNCTIONS", "TOKEN", "Factor", "Source", "factor", "plain", "source"]

Array = NDArray[np.float64]
if TYPE_CHECKING:
    Categories: TypeAlias = pd.Categorical[Any]

TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<quoted>`[^`]+`)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<call>[^\W\d][\w.]*(?=\s*\())|(?P<keyword>[^\W\d][\w.]*(?=\s*=[^=]))|(?P<name>[^\W\d][\w.]*)|(?P<other>.)",
    re.DOTALL,
)


def _log(x: Array, base: float | None = None) -> Array:
    logarithm: Array = np.log(x)
    return logarithm if base is None else logarithm / np.log(base)


def _scale(x: Array) -> Array:
    """R's scale: the sd has n - 1 in its denominator."""
    centred = x - x.mean()
    return np.asarray(centred / centred.std(ddof=1))


def _poly(x: Array, degree: float) -> Array:
    """R's poly: orthonormal polynomials without the constant, leading coefficients positive."""
    k = int(degree)
    if k != degree or not 1 <= k < len(np.unique(x)):
        raise ValueError(f"the degree of poly must be a whole number from 1 to {len(np.unique(x)) - 1}, not {degree:g}")
    Q, R = np.linalg.qr(np.vander(x - x.mean(), k + 1, increasing=True))
    return np.asarray((Q * np.sign(np.diag(R)))[:, 1:])


def _categories(x: Array | Categories, ref: float | str | None = None) -> Categories:
    found: Categories
    if isinstance(x, pd.Categorical):
        found = x
    else:
        labels = {v: _label(v) for v in map(float, np.unique(x))}
        found = pd.Categorical([labels[float(v)] for v in x], categories=list(labels.values()))
    if ref is None:
        return found
    first = _label(ref) if isinstance(ref, float) else ref
    if first not in found.categories:
        raise ValueError(f"ref = {first} is none of its categories: {', '.join(found.categories)}")
    return found.reorder_categories([first, *(c for c in found.categories if c != first)])


def _label(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "I": lambda x: x, "C": _categories, "factor": _categories, "center": lambda x: x - x.mean(), "scale": _scale, "poly": _poly,
    "log": _log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "exp": np.exp, "expm1": np.expm1, "sqrt": np.sqrt,
    "abs": np.abs, "sin": np.sin, "cos": np.cos, "tan": np.tan,
}  # fmt: skip

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A factor as written. name: its spelling for people; tree: its expression; variables: column of each of the tree's names."""

    name: str
    tree: ast.expr
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Factor:
    """A factor on N rows. columns: (N, k), with a label each; of a categorical one the indicators of all its categories."""

    columns: Array
    labels: tuple[str, ...]
    categorical: bool

    def coded(self, *, full: bool) -> Factor:
        """Treatment contrasts, the first category being the reference, unless `full`."""
        if full or not self.categorical:
            return self
        return Factor(self.columns[:, 1:], self.labels[1:], categorical=True)


def source(text: str) -> Source:
    """Read a factor: a column's name, plain or in backticks, or a call.

    Raises DataError for a call that is not possible.

    >>> source("I((x+1)^2)").name
    'I((x + 1) ** 2)'
    """
    variables: dict[str, str] = {}
    written: list[str] = []
    for match in TOKEN.finditer(text):
        found = match.group()
        if match.lastgroup in ("name", "quoted"):
            variables[f"_v{len(variables)}_"] = found.strip("`")
            written.append([*variables][-1])
        else:
            written.append("**" if found == "^" else found)
        if match.lastgroup == "call" and _function_name(found) not in FUNCTIONS:
            raise DataError(
                f"{found}(...) is not possible; allowed are {', '.join(FUNCTIONS)} (after a variable, write an operator before "
                "the parenthesis)"
            )
    try:
        tree = ast.parse("".join(written).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DataError(f"{text} cannot be read as an expression; rewrite it") from None
    quoted = {alias: v if re.fullmatch(r"[^\W\d][\w.]*", v) else f"`{v}`" for alias, v in variables.items()}
    name = re.sub("|".join(variables) or "$^", lambda alias: quoted[alias.group()], ast.unparse(tree))
    return Source(name, tree, variables)


def _function_name(written: str) -> str:
    """np.log is taken for log."""
    return written.removeprefix("np.")


def factor(source: Source, frame: pd.DataFrame) -> Factor:
    """Evaluate a factor on a frame without missing values. Raises DataError, naming the factor."""
    values = {alias: plain(frame, column) for alias, column in source.variables.items()}
    try:
        with np.errstate(all="ignore"):
            found = _evaluate(source.tree, values)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source.name} cannot be computed from the data: {reason}") from None
    if isinstance(found, pd.Categorical):
        return _indicators(source.name, found)
    columns = np.asarray(found, dtype=float)
    if not columns.ndim:
        raise DataError(f"{source.name} is one number, not a column; remove it")
    if not np.isfinite(columns).all():
        raise DataError(
            f"{source.name} has infinite or undefined values; remove those rows or transform it differently"
        )
    if columns.ndim == 1:
        return Factor(columns[:, None], (source.name,), categorical=False)
    return Factor(columns, tuple(f"{source.name}[{k + 1}]" for k in range(columns.shape[1])), categorical=False)


def _indicators(name: str, found: Categories) -> Factor:
    labels = [str(c) for c in found.categories]
    if len(labels) < 2:
        raise DataError(f'{name} has one category only, "{labels[0]}"; remove it from the formula')
    columns = np.asarray(found.codes)[:, None] == np.arange(len(labels))
    return Factor(columns.astype(float), tuple(f"{name}[{label}]" for label in labels), categorical=True)


def plain(frame: pd.DataFrame, name: str) -> Array | Categories:
    """A column as numbers (truth values as 0 and 1) or as those categories that occur: in their order, or sorted if text."""
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = pd.Categorical(column).remove_unused_categories()
        return used.rename_categories(str)
    kind = pd.api.types.infer_dtype(column)
    if kind in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        return np.asarray(column.to_numpy(dtype=float))
    if kind == "string":
        words = column.astype(str)
        found: Categories = pd.Categorical(words, categories=sorted(set(words)))
        return found
    raise DataError(f"column {name} holds {kind} values; allowed are numbers, truth values and text: convert it")


def _evaluate(node: ast.AST, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Constant(value=str() as text):
            return text
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(operand, values))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values))
        case ast.Call(func=func, args=arguments, keywords=keywords):
            options = {str(k.arg): _evaluate(k.value, values) for k in keywords}
            function = FUNCTIONS.get(_function_name(ast.unparse(func)))
            if function is not None:
                return function(*(_evaluate(a, values) for a in arguments), **options)
    raise ValueError(
        f"{ast.unparse(node)[:40]} is not possible; allowed are numbers, columns, + - * / ** and comparisons"
    )
