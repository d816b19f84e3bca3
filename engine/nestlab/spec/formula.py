"""Mixed-model formulas: `y ~ x*z + (1 + x | g)` to terms.

The library formulae expands the fixed part and the left side of each random term. It flattens the random terms of a
whole formula, so that `(1 + x | g)` and `(1 | g) + (0 + x | g)` come out alike; hence they are taken out of the text
first. It also passes over what it does not understand (`y ~ x z` becomes `y ~ x`), so every formula is checked here
before it is expanded.

Terms stand in the order of R: Intercept, main effects, two-way products and so on, each as written. Term names do not
depend on the order of their factors: "z:x" means "x:z" (`same_term`, `find_term`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from .model import CENTRINGS, INTERCEPT, MAX_FIXED, MAX_RANDOM, Formula, RandomTerm, source_of, term_variables
from .problems import close_match

__all__ = [
    "FormulaError",
    "canonical_term",
    "find_term",
    "formula_text",
    "parse_formula",
    "random_term_text",
    "same_term",
    "shield",
    "unshield",
]


class _Token(NamedTuple):
    kind: str  # "name", "number" or "operator"
    text: str


_TOKEN = re.compile(
    r"(?P<name>[^\W\d_][\w.]*)|(?P<number>\d+\.?\d*|\.\d+)|(?P<operator>\*\*|\|\||[-+*:()|~^/])|(?P<odd>\S)"
)
_VARIABLE = re.compile(r"\b(?:within|between|center)\s*\(\s*[^\W\d_]\w*\s*\)|(?<![\w.])[^\W\d_]\w*\[[\w-]+\]")
_CALL = re.compile(r"(?P<name>[^\W\d][\w.]*)\s*\(")
_RANDOM = _Token("name", "( | )")
#: Words that no variable may be called.
WORDS = (INTERCEPT, "True", "False", "None")
_ALLOWED = "a formula may hold names, 0, 1, +, - 1, *, :, parentheses and random terms such as (1 + x | g)"


class FormulaError(ValueError):
    """A formula that cannot be used.

    text: the formula; reason: what is allowed and how to repair it. str() has both.

    >>> try:
    ...     parse_formula("y ~ (1 | a) + (1 | b)")
    ... except FormulaError as error:
    ...     print(error.reason)
    has the grouping factors a, b; one is possible: keep one of them
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f'formula "{self.text}": {self.reason}'


class _TermError(Exception):
    """A reason on its way to `parse_formula`, which knows the whole text."""


@lru_cache(maxsize=4096)
def canonical_term(term: str) -> str:
    """A name that does not depend on the order of the factors.

    >>> canonical_term("z:x"), canonical_term("Intercept")
    ('x:z', 'Intercept')
    """
    return ":".join(sorted(term.split(":")))


def shield(text: str) -> tuple[str, dict[str, str]]:
    """The formula with a plain name for each within(x), between(x), center(x) and k[b], and what these names stand for.

    >>> shield("y ~ within( x ) + k[b]")
    ('y ~ variable0q + variable1q', {'variable0q': 'within(x)', 'variable1q': 'k[b]'})
    """
    words: dict[str, str] = {}
    spelled: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        found = "".join(match.group().split())
        if found not in spelled:
            spelled[found] = next(w for i in itertools.count(len(words)) if (w := f"variable{i}q") not in text)
            words[spelled[found]] = found
        return spelled[found]

    return _VARIABLE.sub(name, text), words


def unshield(text: str, words: Mapping[str, str]) -> str:
    """A text with what was written in place of plain names."""
    for word, written in words.items():
        text = text.replace(word, written)
    return text


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
    """Read a formula with at most one grouping factor, MAX_RANDOM random columns and MAX_FIXED fixed terms.

    Raises FormulaError for anything else. A formula without a random term is read; whoever needs one refuses it.

    >>> formula = parse_formula("y ~ x*z + (1 | g) + (0 + x | g)")
    >>> formula.fixed
    ('Intercept', 'x', 'z', 'x:z')
    >>> [term.columns for term in formula.random]
    [('Intercept',), ('x',)]
    """
    text = " ".join(text.split())
    plain, words = shield(text)
    try:
        if call := _CALL.search(plain):
            raise _TermError(_no_call(call["name"]))
        tokens = _tokens(plain)
        tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
        if len(tildes) != 1:
            raise _TermError(f'must have exactly one "~" (it has {len(tildes)}); write it as "y ~ x + (1 | g)"')
        response = _one_name(tokens[: tildes[0]], 'the left side of "~" must be one name', 'write it as "y ~ ..."')
        if tildes[0] == len(tokens) - 1:
            raise _TermError('has nothing on the right side of "~"; write 1 for an intercept alone')
        fixed_tokens, bars = _split_random(tokens[tildes[0] + 1 :])
        fixed = _expand(fixed_tokens or [_Token("number", "1")])
        random = tuple(term for left, bar, right in bars for term in _random_terms(left, bar, right))
        if not fixed:
            raise _TermError("must have a fixed term; add 1, an intercept")
        fixed = tuple(unshield(term, words) for term in fixed)
        random = tuple(RandomTerm(term.group, tuple(unshield(c, words) for c in term.columns)) for term in random)
        _check_limits(response, fixed, random)
        return Formula(text=text, response=response, fixed=fixed, random=random)
    except _TermError as refused:
        raise FormulaError(text, unshield(str(refused), words)) from None


def formula_text(formula: Formula) -> str:
    """The formula written out from its terms: equal for formulas that differ in spelling only.

    >>> formula_text(parse_formula("y~x*z+(x|g)"))
    'y ~ 1 + x + z + x:z + (1 + x | g)'
    """
    return " + ".join([f"{formula.response} ~ {_sum_text(formula.fixed)}", *map(random_term_text, formula.random)])


def random_term_text(term: RandomTerm) -> str:
    """One random term as in a formula.

    >>> random_term_text(RandomTerm("g", ("x",)))
    '(0 + x | g)'
    """
    return f"({_sum_text(term.columns)} | {term.group})"


def _sum_text(terms: Sequence[str]) -> str:
    intercept = "1" if INTERCEPT in terms else "0"
    return " + ".join([intercept, *(term for term in terms if term != INTERCEPT)])


def _no_call(name: str) -> str:
    if name in CENTRINGS:
        return f"{name}(...) takes one predictor; write {name}(x)"
    guess = close_match(name, CENTRINGS)
    repair = f"did you mean {guess}(...)?" if guess else "give the variable as a predictor"
    return f"calls such as {name}(...) are not possible in a study formula; {repair}"


def _check_limits(response: str, fixed: tuple[str, ...], random: tuple[RandomTerm, ...]) -> None:
    columns = [column for term in random for column in term.columns]
    groups = sorted({term.group for term in random})
    if any(response == source_of(v)[0] for term in (*fixed, *columns) for v in term_variables(term)):
        raise _TermError(f"the response {response} may not be a predictor; remove it from the right side")
    if len(fixed) > MAX_FIXED:
        raise _TermError(f"has {len(fixed)} fixed terms; at most {MAX_FIXED} are possible: remove some")
    if len(groups) > 1:
        raise _TermError(f"has the grouping factors {', '.join(groups)}; one is possible: keep one of them")
    if len(columns) > MAX_RANDOM:
        raise _TermError(f"has {len(columns)} random columns; at most {MAX_RANDOM} are possible: remove some")
    names = [canonical_term(column) for column in columns]
    for column, name in zip(columns, names, strict=True):
        if names.count(name) > 1:
            raise _TermError(
                f"has the random column {column} in two random terms; keep one of them (0 + ... omits an intercept)"
            )


def _tokens(text: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        kind, found = str(match.lastgroup), match.group()
        if kind == "odd":
            raise _TermError(f"{found} is not possible here; {_ALLOWED}: remove it or rename the variable")
        if found in ("**", "^"):
            raise _TermError(f"powers ({found}) are not possible; write products out, x*z for (x + z){found}2")
        if found == "/":
            raise _TermError('nesting ("/") is not possible; write x/z as x + x:z')
        if found in WORDS:
            raise _TermError(f"{found} is reserved; write 1 for the intercept or rename the variable")
        tokens.append(_Token(kind, found))
    return tokens


def _one_name(tokens: Sequence[_Token], need: str, repair: str) -> str:
    if len(tokens) != 1 or tokens[0].kind != "name":
        found = " ".join(token.text for token in tokens) or "nothing"
        raise _TermError(f"{need}, not {found}; {repair}")
    return tokens[0].text


def _closing(tokens: Sequence[_Token], opening: int) -> int:
    depth = 0
    for i in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if depth == 0:
            return i
    raise _TermError('a "(" is never closed; add the ")"')


def _split_random(tokens: list[_Token]) -> tuple[list[_Token], list[tuple[list[_Token], str, list[_Token]]]]:
    """The fixed part's tokens, and (left side, bar, right side) of each `( ... | ... )` that is a summand."""
    marked: list[_Token] = []
    bars: list[tuple[list[_Token], str, list[_Token]]] = []
    i = 0
    while i < len(tokens):
        end = _closing(tokens, i) if tokens[i].text == "(" else i
        inside = tokens[i + 1 : end]
        bar = _bar(inside)
        if bar is None:
            marked.extend(tokens[i : end + 1])
        else:
            bars.append((inside[:bar], inside[bar].text, inside[bar + 1 :]))
            marked.append(_RANDOM)
        i = end + 1
    _check_sum(marked)
    return _drop_marks(marked), bars


def _drop_marks(marked: Sequence[_Token]) -> list[_Token]:
    fixed: list[_Token] = []
    for i, token in enumerate(marked):
        if token is not _RANDOM:
            fixed.append(token)
            continue
        around = {marked[i - 1].text if i else "+", marked[i + 1].text if i + 1 < len(marked) else "+"}
        if not around <= {"+", "-"}:
            raise _TermError("a random term must be a summand of its own; write ... + (1 | g)")
        if fixed:
            fixed.pop()
    return fixed[1:] if fixed and fixed[0].text == "+" else fixed


def _bar(inside: Sequence[_Token]) -> int | None:
    depth = 0
    for i, token in enumerate(inside):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.text in ("|", "||"):
            return i
    return None


def _random_terms(left: list[_Token], bar: str, right: list[_Token]) -> tuple[RandomTerm, ...]:
    group = _one_name(right, f'the right side of "{bar}" must be one grouping factor', "write it as (1 | g)")
    if not left:
        raise _TermError(f'the left side of "{bar}" is empty; write (1 {bar} {group})')
    columns = _expand(left)
    if not columns:
        raise _TermError(f"a random term of {group} has no column; write (1 {bar} {group})")
    if any(group in term_variables(column) for column in columns):
        raise _TermError(f"the grouping factor {group} may not be a random column; remove it")
    if bar == "||":
        return tuple(RandomTerm(group, (column,)) for column in columns)
    return (RandomTerm(group, columns),)


def _expand(tokens: Sequence[_Token]) -> tuple[str, ...]:
    """Terms of a sum, put in order and freed of repetitions."""
    _check_sum(tokens)
    names = _plain_terms(tokens)
    if names is None:
        names = _described_terms(tokens)
    unique: dict[str, str] = {}
    for name in names:
        unique.setdefault(canonical_term(name), name)
    return tuple(sorted(unique.values(), key=lambda name: len(term_variables(name))))


def _plain_terms(tokens: Sequence[_Token]) -> list[str] | None:
    """The terms of a sum of names and products, as formulae has them, whose import takes most of a short command's time.

    None for all else: parentheses, a product of a variable with itself, several numbers, letters beyond a to z.
    """
    numbers = [i for i, token in enumerate(tokens) if token.kind == "number"]
    plain = all(token.text in "+-:*" if token.kind == "operator" else token.text.isascii() for token in tokens)
    if not plain or len(numbers) > 1 or tokens[0].kind == "operator":
        return None
    removed = any(tokens[i].text == "0" or (i and tokens[i - 1].text == "-") for i in numbers)
    terms = "".join(token.text for token in tokens).replace("-", "+").split("+")
    terms = [term for term in terms if term not in ("0", "1")]
    if any(len(set(parts)) < len(parts) for parts in (term.replace("*", ":").split(":") for term in terms)):
        return None
    found = [] if removed else [INTERCEPT]
    for term in terms:
        crossed: list[str] = []
        for factor in term.split("*"):
            crossed += [factor, *(f"{other}:{factor}" for other in crossed)]
        found += crossed
    return found


def _described_terms(tokens: Sequence[_Token]) -> list[str]:
    """The terms of any sum, by formulae."""
    from formulae.model_description import model_description  # 0.8 s: only formulas that need it pay

    source = " ".join(token.text for token in tokens)
    try:
        description = model_description(f"y ~ {source}")
    except Exception as error:  # noqa: BLE001  (formulae raises many kinds)
        raise _TermError(f"cannot be read near {source} ({error}); {_ALLOWED}: rewrite that part") from None
    return [term.name for term in description.common_terms]


def _check_sum(tokens: Sequence[_Token]) -> None:
    """Refuse all that formulae would misread or pass over in silence.

    At most one parenthesis per product: formulae takes `(x + z)*(x + z)` for `x + z`.
    """
    if any(token.text in ("|", "||") for token in tokens):
        raise _TermError('"|" belongs in a random term of its own, in parentheses; write ... + (1 | g)')
    depth, products, previous = 0, [0], _Token("operator", "+")
    for i, token in enumerate(tokens):
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        _check_neighbours(previous, token, following, first=i == 0, depth=depth)
        if token.text == "(":
            products[depth] += 1
            if products[depth] > 1:
                raise _TermError("a product may hold one parenthesis only; write its terms out")
            depth += 1
            products.append(0)
        elif token.text == ")":
            if depth == 0:
                raise _TermError('a ")" was never opened; remove it')
            depth -= 1
            products.pop()
        elif token.text in "+-":
            products[depth] = 0
        previous = token
    if not tokens or (previous.kind == "operator" and previous.text != ")"):
        raise _TermError(f'"{previous.text}" needs a term on its right; add one or remove the "{previous.text}"')
    assert depth == 0, "_closing has seen to that"


def _check_neighbours(previous: _Token, token: _Token, following: str, *, first: bool, depth: int) -> None:
    after_operand = previous.kind != "operator" or previous.text == ")"
    if token.kind == "operator" and token.text != "(":
        unary = first and token.text in "+-"
        if not after_operand and not unary:
            raise _TermError(f'"{token.text}" needs a term on its left; add one or remove the "{token.text}"')
        if token.text == "-" and following != "1":
            raise _TermError("only the intercept may be removed (- 1); write out the terms that you want")
        return
    if after_operand:
        raise _TermError(f'"{previous.text}" and "{token.text}" need an operator between them; write + or * or :')
    if token.kind == "number":
        joined = first or previous.text in "+-"
        if token.text not in ("0", "1") or depth or not joined or following not in ("", "+", "-"):
            raise _TermError(
                f"the number {token.text} is not possible here; only + 1, + 0 and - 1, outside parentheses"
            )
