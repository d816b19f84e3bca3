"""Expressions in R's grammar, `(1 + x | g)` or `log(x + 1)`: from text to trees and back.

Read by precedence climbing (Pratt 1973), with R's precedences. A tree is printed in one spelling, so that a variable's name gives
its tree again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, NoReturn

__all__ = [
    "NAME",
    "Expression",
    "Parser",
    "ReadError",
    "bare",
    "outer_variables",
    "printed",
    "read_variable",
    "variables_in",
]

#: A tree that is deeper could overflow the stack.
_DEEPEST = 100
_TOO_DEEP = f"is nested more than {_DEEPEST} deep; leave out parentheses, or write a sum of fewer products"
_ALLOWED = "a formula may hold names, 0, 1, + - * : / ^ %in%, parentheses, calls and random terms such as (1 + x | g)"

#: A column's name that needs no backticks, with a category of a factor behind it or without.
NAME = re.compile(r"(?:[^\W\d]|\.(?![0-9]))[\w.]*(?:\[[\w-]+\])?")
_TOKEN = re.compile(
    rf"(?P<name>{NAME.pattern})|`(?P<quoted>[^`\n\r]+)`|(?P<text>'[^'\n\r]*'|\"[^\"\n\r]*\")"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)L?"
    r"|(?P<sign>%in%|\*\*|\|\||&&|[=!<>]=|[-+*/:^|&!<>=~(),])|(?P<odd>\S)"
)
#: R's precedences of operators between two operands.
_BINDS = {
    **dict.fromkeys(("|", "||"), 1), **dict.fromkeys(("&", "&&"), 2), **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 4),
    "+": 5, "-": 5, "*": 6, "/": 6, "%in%": 7, ":": 8, "^": 10,
}  # fmt: skip
#: What people write behind a formula, and why it is not part of it.
_WORDS = {
    "family": "families other than the normal one are not possible yet",
    "weights": "weights are given beside it (--weights w)",
}
_NOT, _COMPARED, _SUM, _UNARY = 3, 4, 5, 9


class ReadError(Exception):
    """Why an expression can't be used, on its way to whoever knows the whole text."""


class Expression(NamedTuple):
    """A part of an expression.

    kind: "name", "number" (and TRUE, FALSE), "text", "call" (value: the function), "key" (an argument by its name), "(", "sum" of
    its parts; else the operator, with one part or two. start, end: of a name or call, where it stands in the text; deep: how many
    parts lie in one another.
    """

    kind: str
    value: str = ""
    parts: tuple[Expression, ...] = ()
    start: int = 0
    end: int = 0
    deep: int = 0


def bare(node: Expression) -> Expression:
    """An expression without the parentheses around it."""
    return bare(node.parts[0]) if node.kind == "(" else node


def variables_in(node: Expression) -> Iterator[str]:
    """The columns that an expression names, from left to right; the second argument of C names contrasts."""
    if node.kind == "name":
        yield node.value
    for part in node.parts[:1] if node.value == "C" else node.parts:
        yield from variables_in(part)


def outer_variables(node: Expression) -> Iterator[Expression]:
    """The names and calls that are in no other call, from left to right."""
    if node.kind in ("name", "call"):
        yield node
    else:
        for part in node.parts:
            yield from outer_variables(part)


def printed(node: Expression, binds: int = 0) -> str:
    """An expression in one spelling; in parentheses if it binds less than `binds`.

    >>> printed(read_variable("I( (x+1)^2*-w )"))
    'I((x + 1) ** 2 * -w)'
    """
    kind, value, parts = node.kind, node.value, node.parts
    if kind == "name":
        return value if NAME.fullmatch(value) and value not in ("TRUE", "FALSE") else f"`{value}`"
    if kind in ("number", "text"):
        return value
    if kind == "call":
        return f"{value}({', '.join(map(printed, parts))})"
    if kind == "key":
        return f"{value}={printed(parts[0])}"
    if kind == "(":
        return printed(parts[0], binds)
    if kind == "sum":
        own, text = _SUM, printed(parts[0], _SUM)
        for part in parts[1:]:
            text += f" - {printed(part.parts[0], _SUM + 1)}" if part.kind == "-" else f" + {printed(part, _SUM + 1)}"
    elif len(parts) == 1:
        own = _NOT if kind == "!" else _UNARY
        text = kind + printed(parts[0], own)
    else:
        own = _BINDS[kind]
        left, right = (own + 1, _UNARY) if kind == "^" else (own, own + 1)
        sign = {":": ":", "^": " ** "}.get(kind, f" {kind} ")
        text = f"{printed(parts[0], left)}{sign}{printed(parts[1], right)}"
    return f"({text})" if own < binds else text


@lru_cache(maxsize=4096)
def read_variable(name: str) -> Expression:
    """The tree of a variable of a formula, by its name."""
    return Parser(name).whole()


def _node(kind: str, *parts: Expression, value: str = "") -> Expression:
    deep = 1 + max((part.deep for part in parts), default=0)
    if deep > _DEEPEST:
        raise ReadError(_TOO_DEEP)
    return Expression(kind, value, parts, deep=deep)


class _Token(NamedTuple):
    """kind: a group of _TOKEN, or "" behind the last one."""

    kind: str = ""
    found: str = ""
    start: int = 0
    end: int = 0


class Parser:
    """The tokens of a text, and the place in them up to which they are read. Raises ReadError."""

    def __init__(self, text: str) -> None:
        matches = [(str(m.lastgroup), m) for m in _TOKEN.finditer(text)]
        self.tokens = [_Token(kind, m[kind], m.start(), m.end()) for kind, m in matches]
        self.place = self.depth = 0
        for kind, found, *_ in self.tokens:
            if kind == "odd" or found == "." or (kind == "name" and not (found[0].isalpha() or found[0] in "._")):
                raise ReadError(f"{found} is not possible here; {_ALLOWED}: remove it or rename the variable")

    def ahead(self, places: int = 0) -> _Token:
        place = self.place + places
        return self.tokens[place] if 0 <= place < len(self.tokens) else _Token()

    def take(self) -> _Token:
        self.place += 1
        return self.ahead(-1)

    def sides(self) -> tuple[Expression, Expression]:
        """The left and the right side of a formula."""
        tildes = sum(token.kind == "sign" and token.found == "~" for token in self.tokens)
        if tildes != 1:
            raise ReadError(f'must have exactly one "~" (it has {tildes}); write it as "y ~ x + (1 | g)"')
        if self.ahead().found == "~":
            raise ReadError('the left side of "~" must be one name, not nothing; write it as "y ~ ..."')
        left = self.expression()
        if self.ahead().found == "~":
            self.take()
            if not self.ahead().kind:
                raise ReadError('has nothing on the right side of "~"; write 1 for an intercept alone')
        return left, self.whole()

    def whole(self) -> Expression:
        """An expression that the text ends with."""
        node, rest = self.expression(), self.ahead()
        if rest.found == ")":
            raise ReadError('a ")" was never opened; remove it')
        if rest.found == ",":
            about = _WORDS.get(self.ahead(1).found, "it is one expression")
            raise ReadError(f'must end before the ","; {about}: remove the rest')
        if rest.kind:
            raise ReadError(f'"{rest.found}" is not possible here; {_ALLOWED}: remove it')
        return node

    def expression(self, floor: int = 0) -> Expression:
        """An expression whose operators bind at least as much as `floor`."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ReadError(_TOO_DEEP)
        node = self.operand()
        while self.ahead().kind:
            sign = "^" if self.ahead().found == "**" else self.ahead().found
            if self.ahead().kind != "sign" or sign == "(":
                before = printed(node) if node.kind in ("name", "call") else self.ahead(-1).found
                raise ReadError(f'"{before}" and "{sign}" need an operator between them; write + or * or :')
            binds = _BINDS.get(sign, -1)
            if binds < floor:
                break
            if binds == _COMPARED == _BINDS.get(node.kind):
                raise ReadError(f"{printed(node)} {sign} ... compares twice; write (a < b) * (b < c) for a < b < c")
            if binds == _SUM:
                node = self.sum(node)
            else:
                self.take()
                node = _node(sign, node, self.expression(binds + (sign != "^")))
        self.depth -= 1
        return node

    def sum(self, first: Expression) -> Expression:
        parts = [first]
        while self.ahead().kind == "sign" and self.ahead().found in "+-":
            sign, part = self.take().found, self.expression(_SUM + 1)
            parts.append(_node("-", part) if sign == "-" else part)
        return _node("sum", *parts)

    def operand(self) -> Expression:
        kind, found, start, end = self.ahead()
        opens = self.ahead(1).found == "(" and kind == "name"
        if kind in ("", "sign") and found not in ("(", "+", "-", "!"):
            self.refuse_place()
        self.take()
        if opens:
            self.take()
            call = _node("call", *self.arguments(), value=found)
            return call._replace(start=start, end=self.ahead(-1).end)
        if kind in ("name", "quoted"):
            constant = kind == "name" and found in ("TRUE", "FALSE")
            return Expression("number" if constant else "name", found, (), start, end)
        if kind == "number":
            return Expression("number", found if found.isdigit() else repr(float(found)))
        if kind == "text":
            return Expression("text", found if "'" in found[1:-1] else f"'{found[1:-1]}'")
        if found != "(":
            return _node(found, self.expression(_NOT if found == "!" else _UNARY))
        node = _node("(", self.expression())
        self.close()
        return node

    def arguments(self) -> list[Expression]:
        """The arguments of a call, to its ")"."""
        found: list[Expression] = []
        while self.ahead().found != ")":
            if self.ahead().kind == "name" and self.ahead(1).found == "=":
                key = self.take().found
                self.take()
                found.append(_node("key", self.expression(), value=key))
            else:
                found.append(self.expression())
            if self.ahead().found != ",":
                break
            self.take()
        self.close()
        return found

    def close(self) -> None:
        if not self.ahead().kind:
            raise ReadError('a "(" is never closed; add the ")"')
        if self.ahead().found != ")":
            raise ReadError(f'"{self.ahead().found}" is not possible in parentheses; remove it')
        self.take()

    def refuse_place(self) -> NoReturn:
        """Say what is missing where an operand should stand."""
        here, before = self.ahead().found, self.ahead(-1).found
        if here in ("|", "||"):
            raise ReadError(f'the left side of "{here}" is empty; write (1 {here} g)')
        if before in ("|", "||"):
            raise ReadError(
                f'the right side of "{before}" must be one grouping factor, not nothing; write it as (1 | g)'
            )
        if here in ("", ")", ",") and before not in ("", "(", ","):
            raise ReadError(f'"{before}" needs a term on its right; add one or remove the "{before}"')
        if not here:
            raise ReadError('a "(" is never closed; add the ")"')
        raise ReadError(f'"{here}" needs a term on its left; add one or remove the "{here}"')
