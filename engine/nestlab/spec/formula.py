"""Mixed-model formulas in R's grammar: `y ~ x*z + (1 + x | g)` to terms.

A sum of products is expanded as R's terms() does: `*`, `:`, `/`, `^` and `%in%` combine sets of variables, 0, 1 and a minus set
the intercept and take terms out. Random terms are lme4's, `a/b` being the grouping factors a and a:b. A call such as `I(x^2)` is
one variable. What a study or a fit can't have is for them to refuse.

Terms stand in the order of R: Intercept, main effects, two-way products and so on, each as written. Term names do not
depend on the order of their factors: "z:x" means "x:z" (`same_term`, `find_term`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from .expression import Expression, Parser, ReadError, bare, outer_variables, printed
from .model import INTERCEPT, Formula, RandomTerm, source_of, term_variables

__all__ = [
    "OF_MEANS",
    "FormulaError",
    "canonical_term",
    "centring_group",
    "find_term",
    "formula_text",
    "parse_formula",
    "random_term_text",
    "respelled",
    "same_term",
]

#: Products that may stand for more terms are not expanded.
_MOST_TERMS = 1000
_MANY = 10**9
#: Words that no variable may be called.
WORDS = (INTERCEPT, "True", "False", "None", "TRUE", "FALSE")
_BARS = ("|", "||")


class FormulaError(ValueError):
    """A formula that cannot be used.

    text: the formula; reason: what is allowed and how to repair it. str() has both.

    >>> try:
    ...     parse_formula("y ~ x + (0 | a)")
    ... except FormulaError as error:
    ...     print(error.reason)
    a random term of a has no column; write (1 | a)
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f'formula "{self.text}": {self.reason}'


@lru_cache(maxsize=4096)
def canonical_term(term: str) -> str:
    """A name that does not depend on the order of the factors.

    >>> canonical_term("z:x"), canonical_term("Intercept")
    ('x:z', 'Intercept')
    """
    return ":".join(sorted(term_variables(term) or (INTERCEPT,)))


#: Calls that are of the means of a grouping factor's levels, which may be named: within(x, g).
OF_MEANS = ("within", "between")


def centring_group(node: Expression) -> str:
    """The canonical name of the grouping factor in within(x, g) or between(x, g); "" where none stands there.

    >>> from nestlab.spec.expression import read_variable
    >>> centring_group(read_variable("within(x, school:class)")), centring_group(read_variable("within(x)"))
    ('class:school', '')
    """
    part = bare(node.parts[1]) if len(node.parts) == 2 else None
    named = part is not None and part.kind in ("name", ":")
    return canonical_term(printed(part)) if named and part is not None else ""


def same_term(a: str, b: str) -> bool:
    """Whether two names mean one term.

    >>> same_term("z:x", "x:z")
    True
    """
    return canonical_term(a) == canonical_term(b)


def find_term(terms: Iterable[str], name: str) -> str | None:
    """The one of `terms` that `name` means, or None.

    >>> find_term(("Intercept", "x", "x:z"), "z:x")
    'x:z'
    """
    wanted = canonical_term(name)
    return next((term for term in terms if canonical_term(term) == wanted), None)


@lru_cache(maxsize=1024)
def parse_formula(text: str) -> Formula:
    """Read a formula. Raises FormulaError.

    >>> formula = parse_formula("y ~ x*z + (1 | a/b) + (0 + log(x) | a)")
    >>> formula.fixed
    ('Intercept', 'x', 'z', 'x:z')
    >>> [(term.group, *term.columns) for term in formula.random]
    [('a', 'Intercept'), ('a:b', 'Intercept'), ('a', 'log(x)')]
    """
    shown = " ".join(text.split())
    try:
        left, right = Parser(text).sides()
        if left.kind not in ("name", "call"):
            raise ReadError(f'the left side of "~" must be one name, not {printed(left)}; write it as "y ~ ..."')
        side = _Side()
        fixed = side.expand(right)
        if not fixed:
            raise ReadError("must have a fixed term; add 1, an intercept")
        formula = Formula(
            shown, printed(left), fixed, tuple(side.random), tuple(side.offsets), tuple(dict.fromkeys(side.names))
        )
        _check(formula)
    except ReadError as refused:
        raise FormulaError(shown, " ".join(str(refused).split())) from None
    return formula


def formula_text(formula: Formula) -> str:
    """The formula written out from its terms: equal for formulas that differ in spelling only.

    >>> formula_text(parse_formula("y~x*z+(x|g)"))
    'y ~ 1 + x + z + x:z + (1 + x | g)'
    """
    offsets = [f"offset({name})" for name in formula.offsets]
    random = map(random_term_text, formula.random)
    return " + ".join([f"{formula.response} ~ {_sum_text(formula.fixed)}", *offsets, *random])


def random_term_text(term: RandomTerm) -> str:
    """One random term as in a formula.

    >>> random_term_text(RandomTerm("g", ("x",)))
    '(0 + x | g)'
    """
    return f"({_sum_text(term.columns)} | {term.group})"


def _sum_text(terms: Sequence[str]) -> str:
    intercept = "1" if INTERCEPT in terms else "0"
    return " + ".join([intercept, *(term for term in terms if term != INTERCEPT)])


def respelled(text: str, new: Mapping[str, str]) -> str:
    """A formula as written, with other names for its variables and grouping factors.

    >>> respelled("y ~ log( x )*z + (1 | g)", {"log(x)": "log_x", "g": "school"})
    'y ~ log_x*z + (1 | school)'
    """
    made, done = "", 0
    for node in (found for side in Parser(text).sides() for found in outer_variables(side)):
        made += text[done : node.start] + new.get(printed(node), text[node.start : node.end])
        done = node.end
    return " ".join((made + text[done:]).split())


#: Terms by the sets of their variables: the variables in order as written.
_Terms = dict[frozenset[str], tuple[str, ...]]


class _Side:
    """The expansion of a sum, with what it meets on its way: intercept, offsets and random terms."""

    def __init__(self) -> None:
        self.intercept = True
        self.removing = False
        self.products = 0
        self.names: list[str] = []
        self.offsets: list[str] = []
        self.random: list[RandomTerm] = []

    def expand(self, node: Expression) -> tuple[str, ...]:
        """The names of the terms, in order."""
        count = _most_terms(node)
        if count > _MOST_TERMS:
            many = f"up to {count:,}" if count < _MANY else "more than a billion"
            raise ReadError(
                f"stands for {many} terms, and none has as many; write fewer products, (a + b + c)^2 for a*b*c"
            )
        terms = self.terms(node)
        intercept = (INTERCEPT,) if self.intercept else ()
        return (*intercept, *map(":".join, sorted(terms.values(), key=len)))

    def terms(self, node: Expression) -> _Terms:
        kind, parts = node.kind, node.parts
        if kind in ("name", "call", "number"):
            return self.single(node)
        if kind == "(" and parts[0].kind in _BARS:
            self.check_summand("a random term", "(1 | g)")
            self.random += _random_terms(parts[0].kind, *parts[0].parts)
            return {}
        if kind in ("(", "+"):
            return self.terms(parts[0])
        if kind in ("-", "sum"):
            return self.sum(parts if kind == "sum" else (node,))
        if kind in (":", "*", "/", "%in%", "^"):
            return self.product(kind, *parts)
        if kind in _BARS:
            raise ReadError('"|" belongs in a random term of its own, in parentheses; write ... + (1 | g)')
        raise ReadError(f"{printed(node)} is no name, product or call; write I({printed(node)}), or a name")

    def single(self, node: Expression) -> _Terms:
        name = printed(node)
        if name in WORDS:
            raise ReadError(f"{name} is reserved; write 1 for the intercept or rename the variable")
        if node.kind == "number":
            if name not in ("0", "1"):
                raise ReadError(f"the number {name} is not possible here; only + 1, + 0 and - 1")
            self.intercept = (name == "1") != self.removing
            return {}
        if node.kind == "call" and node.value == "offset":
            self.check_summand("an offset", "offset(x)")
            if len(node.parts) != 1:
                raise ReadError(f"{name} must have one column in its parentheses; write offset(x)")
            self.offsets.append(printed(node.parts[0]))
            return {}
        self.names.append(name)
        return {frozenset((name,)): (name,)}

    def check_summand(self, what: str, example: str) -> None:
        if self.products or self.removing:
            raise ReadError(f"{what} must be a summand of its own; write ... + {example}")

    def sum(self, parts: Iterable[Expression]) -> _Terms:
        found: _Terms = {}
        for part in parts:
            if part.kind == "-":
                self.removing = not self.removing
                gone = self.terms(part.parts[0])
                self.removing = not self.removing
                found = {key: term for key, term in found.items() if key not in gone}
            else:
                for key, term in self.terms(part).items():
                    found.setdefault(key, term)
        return found

    def product(self, sign: str, left: Expression, right: Expression) -> _Terms:
        operands = (left,) if sign == "^" else (left, right)
        if number := next((node for node in operands if bare(node).kind == "number"), None):
            raise ReadError(f"the number {printed(number)} is not possible in a product; only + 1, + 0 and - 1")
        self.products += 1
        terms = [self.terms(node) for node in operands]
        a, b = terms[0], terms[-1]
        self.products -= 1
        if sign == "^":
            for _ in range(min(_power(right), len(b)) - 1):
                a = _multiplied(a, b)
            return a
        if sign == "/":
            return _united(a, _multiplied(_whole(a), b))
        if sign == "%in%":
            return _multiplied(a, _whole(b))
        return _multiplied(a, b) if sign == ":" else _united(_united(a, b), _multiplied(a, b))


def _united(a: _Terms, b: _Terms) -> _Terms:
    return {**a, **{key: term for key, term in b.items() if key not in a}}


def _multiplied(a: _Terms, b: _Terms) -> _Terms:
    found: _Terms = {}
    for key, term in a.items():
        for other, more in b.items():
            found.setdefault(key | other, (*term, *(v for v in more if v not in key)))
    return found


def _whole(terms: _Terms) -> _Terms:
    """The product of all variables."""
    names = tuple(dict.fromkeys(name for term in terms.values() for name in term))
    return {frozenset(names): names}


def _power(node: Expression) -> int:
    if not node.value.isdigit() or not 0 < float(node.value) < 1000:
        raise ReadError(
            f"the power {printed(node)} must be a whole number, 1 or more; write (a + b)^2, or I(x^2) for a square"
        )
    return int(node.value)


def _most_terms(node: Expression) -> int:
    """The number of terms of an expression no two of whose products are one, at most _MANY."""
    kind = node.kind
    if kind in ("name", "call"):
        return 1
    if kind in ("(", "+", "-"):
        return _most_terms(node.parts[0])
    if kind == "sum":
        return min(sum(map(_most_terms, node.parts)), _MANY)
    if kind == "^":
        n, power = _most_terms(node.parts[0]), _power(node.parts[1])
        return min(sum(math.comb(n, k) for k in range(1, min(n, power, 20) + 1)), _MANY)
    if kind not in (":", "*", "/", "%in%"):
        return 0
    a, b = map(_most_terms, node.parts)
    return min({":": a * b, "*": a + b + a * b, "/": a + b, "%in%": a}[kind], _MANY)


def _random_terms(bar: str, left: Expression, right: Expression) -> Iterator[RandomTerm]:
    groups = _groups(right)
    if left.kind in _BARS:
        raise ReadError(f"has two bars in one random term; write ({printed(left)}) + (1 | {groups[0]})")
    side = _Side()
    columns = side.expand(left)
    if side.random or side.offsets:
        raise ReadError(
            f"a random term of {groups[0]} may hold columns only; write the rest outside of its parentheses"
        )
    if not columns:
        raise ReadError(f"a random term of {groups[0]} has no column; write (1 {bar} {groups[0]})")
    for group in groups:
        if any(group in term_variables(column) for column in columns):
            raise ReadError(f"the grouping factor {group} may not be a random column; remove it")
        for own in [(column,) for column in columns] if bar == "||" else [columns]:
            yield RandomTerm(group, own)


def _groups(node: Expression) -> list[str]:
    """The grouping factors right of a bar: a and a:b of a/b."""
    node, text = bare(node), printed(node)
    if node.kind == "call" and node.value in ("factor", "as.factor") and len(node.parts) == 1:
        node = bare(node.parts[0])
    if node.kind == "name" and text not in WORDS:
        return [printed(node)]
    if node.kind == "call":
        raise ReadError(
            f"the grouping factor {text} must be a column, whose values are taken as they are; write (1 | column)"
        )
    if node.kind not in (":", "/", "%in%"):
        one_each = " + ".join(f"(1 | {printed(part)})" for part in node.parts) or "(1 | g)"
        raise ReadError(f'the right side of "|" must be one grouping factor, not {text}; write {one_each}')
    a, b = map(_groups, node.parts if node.kind != "%in%" else node.parts[::-1])
    inner = [f"{a[-1]}:{group}" for group in b]
    return [*a, *inner] if node.kind == "/" else inner


def _check(formula: Formula) -> None:
    terms = (*formula.fixed, *formula.random_columns)
    if any(formula.response in (v, source_of(v)[0]) for term in terms for v in term_variables(term)):
        raise ReadError(f"the response {formula.response} may not be a predictor; remove it from the right side")
    seen: set[tuple[str, str]] = set()
    for group, column in ((term.group, column) for term in formula.random for column in term.columns):
        if (group, canonical_term(column)) in seen:
            text = "in two random terms; keep one of them (0 + ... omits an intercept)"
            raise ReadError(f"has the random column {column} {text}")
        seen.add((group, canonical_term(column)))
