"""Formulas: what they expand to, against an expansion written here, and what is refused."""

from __future__ import annotations

import itertools
import pickle
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nestlab.spec import formula
from nestlab.spec.formula import (
    FormulaError,
    canonical_term,
    find_term,
    formula_text,
    parse_formula,
    random_term_text,
    same_term,
)
from nestlab.spec.model import MAX_FIXED


def shape(text: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    formula = parse_formula(text)
    return formula.fixed, [term.columns for term in formula.random]


@pytest.mark.parametrize(
    ("text", "fixed", "random"),
    [
        ("y ~ 1", "Intercept", []),
        ("y ~ x", "Intercept x", []),
        ("y~0+x", "x", []),
        ("y ~ x - 1", "x", []),
        ("y ~ -1 + x", "x", []),
        ("y ~ (1 | g)", "Intercept", ["Intercept"]),
        ("y ~ (1 | g) - 1 + x", "x", ["Intercept"]),
        ("y ~ (1 | g) + x", "Intercept x", ["Intercept"]),
        ("y ~ x + (1 | g) + z", "Intercept x z", ["Intercept"]),
        ("y ~ + x + (1 | g)", "Intercept x", ["Intercept"]),
        ("y ~ x + (1 + x | g)", "Intercept x", ["Intercept x"]),
        ("y ~ x + (x | g)", "Intercept x", ["Intercept x"]),
        ("y ~ x + (x + 1 | g)", "Intercept x", ["Intercept x"]),
        ("y ~ x + (0 + x | g)", "Intercept x", ["x"]),
        ("y ~ x + (x - 1 | g)", "Intercept x", ["x"]),
        ("y ~ x + (1 | g) + (0 + x | g)", "Intercept x", ["Intercept", "x"]),
        ("y ~ x + (0 + x | g) + (1 | g)", "Intercept x", ["x", "Intercept"]),
        ("y ~ x + (x || g)", "Intercept x", ["Intercept", "x"]),
        ("y ~ x + (0 + x + w || g)", "Intercept x", ["x", "w"]),
        ("y ~ x + (1 + x + w | g)", "Intercept x", ["Intercept x w"]),
        ("y ~ x + (1 + x | g) + (0 + w | g)", "Intercept x", ["Intercept x", "w"]),
        ("y ~ x*z + (1 | g)", "Intercept x z x:z", ["Intercept"]),
        ("y ~ z*x + (1 | g)", "Intercept z x z:x", ["Intercept"]),
        ("y ~ x:z + x + (1 | g)", "Intercept x x:z", ["Intercept"]),
        ("y ~ x*z + z:x", "Intercept x z x:z", []),
        ("y ~ a*b*c", "Intercept a b c a:b a:c b:c a:b:c", []),
        ("y ~ a:b:c + b:c + d", "Intercept d b:c a:b:c", []),
        ("y ~ (x + z)*w", "Intercept x z w x:w z:w", []),
        ("y ~ x:(z + w)", "Intercept x:z x:w", []),
        ("y ~ x:x + x", "Intercept x", []),
        ("y ~ x + (x*z | g)", "Intercept x", ["Intercept x z x:z"]),
        ("y ~ x.1 + é + (1 | school_2)", "Intercept x.1 é", ["Intercept"]),
        ("y\n ~ x\t+\n (1|g)", "Intercept x", ["Intercept"]),
    ],
)
def test_formula_expands_as_in_lme4(text: str, fixed: str, random: list[str]) -> None:
    assert shape(text) == (tuple(fixed.split()), [tuple(columns.split()) for columns in random])


def test_formula_parts() -> None:
    formula = parse_formula("  score ~ x  + (1 + x | school) ")
    assert formula.text == "score ~ x + (1 + x | school)"
    assert (formula.response, formula.group) == ("score", "school")
    assert formula.random_columns == ("Intercept", "x")
    assert parse_formula("y ~ x").random == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'exactly one "~" (it has 0); write it as'),
        ("y + x", 'exactly one "~" (it has 0); write it as'),
        ("y ~ x ~ z", 'exactly one "~" (it has 2)'),
        ("~ x", "must be one name, not nothing; write it as"),
        ("y + w ~ x", "must be one name, not y + w; write it as"),
        ("y ~", 'nothing on the right side of "~"; write 1'),
        ("y ~ 0", "must have a fixed term; add 1"),
        ("y ~ 0 + (1 | g)", "must have a fixed term; add 1"),
        ("y ~ 1 + 0", "must have a fixed term; add 1"),
        ("y ~ x z", '"x" and "z" need an operator between them; write +'),
        ("y ~ x +", '"+" needs a term on its right; add one or remove'),
        ("y ~ * x", '"*" needs a term on its left; add one or remove'),
        ("y ~ x + * z", '"*" needs a term on its left'),
        ("y ~ x + -1", '"-" needs a term on its left'),
        ("y ~ ()", '")" needs a term on its left'),
        ("y ~ (x", 'a "(" is never closed; add the ")"'),
        ("y ~ x)", 'a ")" was never opened; remove it'),
        ("y ~ (x + z)(w)", '")" and "(" need an operator'),
        ("y ~ log(x)", "calls such as log(...) are not possible in a study formula; give the variable as a predictor"),
        ("y ~ I(x**2)", "calls such as I(...)"),
        ("y ~ poly(x, 2) + (1 | g)", "calls such as poly(...)"),
        ("log(y) ~ x", "calls such as log(...)"),
        ("y ~ x**2", "powers (**) are not possible; write products out"),
        ("y ~ (x + z)^2", "powers (^) are not possible; write products out"),
        ("y ~ x/z", 'nesting ("/") is not possible; write x/z as x + x:z'),
        ("y ~ x %in% z", "% is not possible here; a formula may hold names"),
        ("y ~ `a b`", "` is not possible here"),
        ("y ~ _x", "_ is not possible here"),
        ("y ~ ²x", "cannot be read near ²x (invalid literal"),
        ("y ~ .", ". is not possible here"),
        ("y ~ x == z", "= is not possible here"),
        ("y ~ 2*x", "the number 2 is not possible here; only + 1, + 0 and - 1"),
        ("y ~ x:1", "the number 1 is not possible here"),
        ("y ~ (1 + x)*z", "the number 1 is not possible here"),
        ("y ~ x + 0.5", "the number 0.5 is not possible here"),
        ("y ~ x*z - x:z", "only the intercept may be removed (- 1); write out the terms"),
        ("y ~ x - 0", "only the intercept may be removed"),
        ("y ~ (x + z)*(x + z)", "one parenthesis only; write its terms out"),
        ("y ~ Intercept + x", "Intercept is reserved; write 1 for the intercept or rename"),
        ("y ~ True", "True is reserved"),
        ("y ~ x + y", "the response y may not be a predictor; remove it"),
        ("y ~ x + (y | g)", "the response y may not be a predictor"),
        ("y ~ x | g", '"|" belongs in a random term of its own, in parentheses; write ... + (1 | g)'),
        ("y ~ ((1 | g) + x)", '"|" belongs in a random term of its own'),
        ("y ~ x*(1 | g)", "a random term must be a summand of its own; write ... + (1 | g)"),
        ("y ~ x - (1 | g)", "only the intercept may be removed"),
        ("y ~ x + (1 | g) +", '"+" needs a term on its right'),
        ("y ~ x + ( | g)", 'the left side of "|" is empty; write (1 | g)'),
        ("y ~ x + (1 | )", "must be one grouping factor, not nothing; write it as (1 | g)"),
        ("y ~ x + (0 | g)", "a random term of g has no column; write (1 | g)"),
        ("y ~ x + (1 | a:b)", "must be one grouping factor, not a : b; write it as (1 | g)"),
        ("y ~ x + (1 | a/b)", 'nesting ("/") is not possible'),
        ("y ~ x + (1 | a | b)", "must be one grouping factor, not a | b"),
        ("y ~ x + (g | g)", "the grouping factor g may not be a random column; remove it"),
        ("y ~ x + (1 | a) + (1 | b)", "has the grouping factors a, b; one is possible: keep one of them"),
        ("y ~ x + (1 | g) + (x | g)", "the random column Intercept in two random terms; keep one"),
        ("y ~ x + (0 + x:z | g) + (0 + z:x | g)", "the random column x:z in two random terms"),
        ("y ~ (a + b + c + d + e + f | g)", "has 7 random columns; at most 6 are possible: remove some"),
        (f"y ~ {'+'.join(f'x{k}' for k in range(40))}", "has 41 fixed terms; at most 40 are possible: remove some"),
    ],
)
def test_formula_is_refused_with_reason(text: str, reason: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert reason in caught.value.reason
    assert str(caught.value) == f'formula "{" ".join(text.split())}": {caught.value.reason}'
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_formula_limits_are_reached() -> None:
    assert len(parse_formula("y ~ a+b+c+d+e+f+h+i+j+k+l").fixed) == 12
    assert len(parse_formula("y ~ (a + b + c | g)").random_columns) == 4


def test_terms_do_not_depend_on_the_order_of_their_factors() -> None:
    assert same_term("x:z", "z:x")
    assert not same_term("x:z", "x")
    assert canonical_term("b:a:c") == "a:b:c"
    assert find_term(("Intercept", "x:z"), "z:x") == "x:z"
    assert find_term(("Intercept", "x:z"), "z") is None
    assert find_term(("Intercept", "x"), "Intercept") == "Intercept"


def test_formula_text_forgets_spelling() -> None:
    spelled = ("y~x*z+(x|g)", "y ~ 1 + x + z + x:z + (1 + x | g)", "y ~ x + z + z*x + (x + 1 | g)")
    assert formula_text(parse_formula(spelled[0])) == spelled[1]
    assert formula_text(parse_formula(spelled[1])) == spelled[1]
    assert formula_text(parse_formula("y ~ 0 + x + (0 + x || g)")) == "y ~ 0 + x + (0 + x | g)"
    assert random_term_text(parse_formula("y ~ (x | g)").random[0]) == "(1 + x | g)"


Terms = frozenset[frozenset[str]]


def products(a: Terms, b: Terms) -> Terms:
    return frozenset(s | t for s in a for t in b)


@st.composite
def sums(draw: st.DrawFn) -> tuple[str, Terms]:
    """A sum of products of names with at most one parenthesis each, and its terms."""
    texts, terms = [], frozenset[frozenset[str]]()
    for _ in range(draw(st.integers(1, 3))):
        factors: list[tuple[str, Terms]] = [
            (v, frozenset([frozenset([v])])) for v in draw(st.lists(names, min_size=1, max_size=3))
        ]
        if draw(st.booleans()):
            inside = draw(st.lists(names, min_size=1, max_size=3))
            group = (f"({' + '.join(inside)})", frozenset(frozenset([v]) for v in inside))
            factors.insert(draw(st.integers(0, len(factors))), group)
        # ":" binds more tightly than "*": join runs of ":" first
        text, (_, run), stars = factors[0][0], factors[0], []
        for word, factor in factors[1:]:
            operator = draw(st.sampled_from(["*", ":"]))
            text += f" {operator} {word}"
            if operator == ":":
                run = products(run, factor)
            else:
                stars.append(run)
                run = factor
        total, *rest = [*stars, run]
        for other in rest:
            total = total | other | products(total, other)
        texts.append(text)
        terms |= total
    return " + ".join(texts), terms


names = st.sampled_from(["a", "b", "x1", "zed"])


@given(sums())
def test_expansion_equals_set_algebra(drawn: tuple[str, Terms]) -> None:
    text, terms = drawn
    assume(len(terms) < MAX_FIXED)
    formula = parse_formula(f"y ~ {text}")
    assert {frozenset(term.split(":")) for term in formula.fixed[1:]} == terms
    assert len(formula.fixed) == 1 + len(terms)
    degrees = [len(term.split(":")) for term in formula.fixed[1:]]
    assert degrees == sorted(degrees)


@given(sums(), st.sampled_from(["", " + (1 | g)", " + (x1 || g)", " + (0 + a + b | g)"]))
def test_formula_text_reads_back(drawn: tuple[str, Terms], random: str) -> None:
    assume(len(drawn[1]) < MAX_FIXED)
    formula = parse_formula(f"y ~ {drawn[0]}{random}")
    again = parse_formula(formula_text(formula))
    assert (again.fixed, again.random) == (formula.fixed, formula.random)


@given(st.text(alphabet="yxzg01 ~+-*:()|/^.,", max_size=25))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        formula = parse_formula(text)
    except FormulaError as error:
        message = str(error)
    else:
        message = ""
        assert parse_formula(formula_text(formula)).fixed == formula.fixed
    assert "\n" not in message


NAMES = ("x", "z", "w", "x.y", "a1", "y_2", "within", "C", "log")
PRODUCT = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).flatmap(
    lambda names: st.lists(st.sampled_from("*:"), min_size=len(names) - 1, max_size=len(names) - 1).map(
        lambda signs: "".join(itertools.chain(*itertools.zip_longest(names, signs, fillvalue="")))
    )
)


@given(st.lists(PRODUCT, min_size=1, max_size=5), st.sampled_from(["", "0 + ", "1 + ", " + 0", " - 1", " + 1"]))
@settings(max_examples=400, deadline=None)
def test_sums_that_are_expanded_here_are_what_formulae_says(terms: list[str], number: str) -> None:
    source = " + ".join(terms)
    source = (number + source if number.endswith(" ") else source + number).strip("+ ") or "1"
    tokens = formula._tokens(source)
    formula._check_sum(tokens)
    found = formula._plain_terms(tokens)
    twice = any(len(set(re.split("[*:]", term))) < len(re.split("[*:]", term)) for term in terms)
    assert (found is None) == twice
    if found is not None:
        assert ordered(found) == ordered(formula._described_terms(tokens))


def ordered(names: list[str]) -> list[str]:
    """As `_expand` leaves them."""
    unique: dict[str, str] = {}
    for name in names:
        unique.setdefault(formula.canonical_term(name), name)
    return sorted(unique.values(), key=lambda name: len(formula.term_variables(name)))


@pytest.mark.parametrize("source", ["(x + z)*w", "x*(z + w)", "x:x", "1 + x + 0", "-1 + x", "é + x"])
def test_what_is_left_to_formulae(source: str) -> None:
    assert formula._plain_terms(formula._tokens(source)) is None
