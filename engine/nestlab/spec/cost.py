"""What a design costs, as a formula of its numbers: "300*clusters + 20*clusters*cluster_size".

With several grouping factors each name is how many there are in the whole design, so that a formula is a list of prices:
"300*school + 60*class + 5*rows".
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .problems import StudyError, nearest

__all__ = ["Cost", "example_of", "parse_cost"]

NAMES = ("clusters", "cluster_size")
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ceil": np.ceil, "floor": np.floor, "sqrt": np.sqrt, "log": np.log, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
LONGEST = 1000
_LARGEST = 2**1023


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost: `cost(clusters=20, cluster_size=10)`, of numbers or arrays. names: what it depends on."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    def __call__(self, **values: ArrayLike) -> NDArray[np.float64]:
        """The cost. Raises StudyError where it is no finite number >= 0."""
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        with np.errstate(all="ignore"):
            found = np.asarray(_evaluate(self.tree, arrays, self.text), dtype=np.float64)
        if not (np.isfinite(found) & (found >= 0)).all():
            raise StudyError(
                f'cost = "{self.text}": must be a finite number >= 0 for every design; correct the formula'
            )
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        return np.broadcast_to(found, shape) if found.shape != shape else found


def example_of(names: Sequence[str]) -> str:
    """A cost that may be written where designs have these numbers.

    >>> example_of(NAMES), example_of(["school", "class", "rows"])
    ('300*clusters + 20*clusters*cluster_size', '300*school + 60*class + 5*rows')
    """
    if tuple(names) == NAMES:
        return "300*clusters + 20*clusters*cluster_size"
    prices = [5, 60, 300, 1000, *(1000 * 2**k for k in range(1, len(names)))]
    return " + ".join(f"{price}*{name}" for price, name in zip(reversed(prices[: len(names)]), names, strict=True))


def parse_cost(text: str, known: Sequence[str] = NAMES) -> Cost:
    """Read a cost: numbers, the names that are known, + - * / **, ceil, floor, sqrt, log, min, max. Raises StudyError.

    >>> float(parse_cost("300*clusters + 20*clusters*cluster_size")(clusters=10, cluster_size=5))
    4000.0
    """
    try:
        if len(text) > LONGEST:
            raise ValueError
        tree = _parsed(text.strip().replace("^", "**"), known)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal(text, f'must be a formula such as "{example_of(known)}"; correct it') from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}
    *others, last = known
    if unknown := sorted(names - set(known)):
        told = f"depends on {', '.join(others)} and {last} only, not on {unknown[0]}"
        raise _refusal(text, f"{told}; {nearest(unknown[0], list(known))}")
    if not names:
        raise _refusal(text, f"must depend on {', '.join(others)} or {last}; name one of them")
    cost = Cost(text.strip(), tree, frozenset(names))
    with np.errstate(all="ignore"):
        _evaluate(tree, {name: np.asarray(7.0) for name in known}, text)
    return cost


def _parsed(text: str, known: Sequence[str]) -> ast.expr:
    """The formula as Python reads it, in which a factor may be called "class" or "ward no."."""
    odd = {f"number_{k}": name for k, name in enumerate(known) if not name.isidentifier() or iskeyword(name)}
    for word, name in sorted(odd.items(), key=lambda item: -len(item[1])):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", word, text)
    tree = ast.parse(text, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = odd.get(node.id, node.id)
    return tree


def _evaluate(node: ast.AST, values: Mapping[str, Any], text: str) -> Any:
    match node:
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return (
                np.float64(number) if abs(number) < _LARGEST else np.float64(np.inf)
            )  # Python's own would raise, not overflow
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(operand, values, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, values, text), _evaluate(right, values, text))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            if len(arguments) != (2 if name in ("min", "max") else 1):
                raise _refusal(
                    text, f"{name} takes {'two numbers' if name in ('min', 'max') else 'one number'}; correct it"
                )
            return _FUNCTIONS[name](*(_evaluate(argument, values, text) for argument in arguments))
    allowed = f"numbers, {', '.join(values)}, + - * / **, {', '.join(_FUNCTIONS)}"
    raise _refusal(text, f"{ast.unparse(node)[:40]} is not possible; allowed are {allowed}")


def _refusal(text: str, reason: str) -> StudyError:
    return StudyError([f'cost = "{text[:80]}": {reason}'])
