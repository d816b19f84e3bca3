"""Formulas: what they expand to, against an expansion written here, and what is refused (R's are in golden/test_formulas.py)."""

from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.spec.expression import printed, read_variable
from nestlab.spec.factors import study_formula
from nestlab.spec.formula import (
    FormulaError,
    canonical_term,
    find_term,
    formula_text,
    parse_formula,
    random_term_text,
    respelled,
    same_term,
)
from nestlab.spec.model import Formula


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
        ("y ~ x + -1", "x", []),
        ("y ~ x/z", "Intercept x x:z", []),
        ("y ~ (x + z)*(x + w)", "Intercept x z w x:w z:x z:w", []),
        ("y ~ (a + b + c)^2 - a:b", "Intercept a b c a:c b:c", []),
        ("y ~ ((1 | g) + x)", "Intercept x", ["Intercept"]),
        ("y ~ log(x) + within( x )", "Intercept log(x) within(x)", []),
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
        ("1 ~ x", "must be one name, not 1; write it as"),
        ("y ~", 'nothing on the right side of "~"; write 1'),
        ("y ~ 0", "must have a fixed term; add 1"),
        ("y ~ 0 + (1 | g)", "must have a fixed term; add 1"),
        ("y ~ 1 + 0", "must have a fixed term; add 1"),
        ("y ~ x - x - 1", "must have a fixed term; add 1"),
        ("y ~ x z", '"x" and "z" need an operator between them; write +'),
        ("y ~ x 2", '"x" and "2" need an operator between them; write +'),
        ("y ~ 'x' z", '"\'x\'" and "z" need an operator'),
        ("y ~ `a b` z", '"`a b`" and "z" need an operator between them'),
        ("y ~ log(x) z", '"log(x)" and "z" need an operator between them'),
        ("y ~ (x + z)(w)", '")" and "(" need an operator'),
        ("y ~ f(x)(z)", '"f(x)" and "(" need an operator'),
        ("y ~ x +", '"+" needs a term on its right; add one or remove'),
        ("y ~ (x +)", '"+" needs a term on its right; add one or remove'),
        ("y ~ x -", '"-" needs a term on its right; add one or remove'),
        ("y ~ f(x *, z)", '"*" needs a term on its right; add one or remove'),
        ("y ~ * x", '"*" needs a term on its left; add one or remove'),
        ("y ~ x + * z", '"*" needs a term on its left'),
        ("y ~ ()", '")" needs a term on its left'),
        ("y ~ f(, x)", '"," needs a term on its left'),
        ("y ~ (x", 'a "(" is never closed; add the ")"'),
        ("y ~ (", 'a "(" is never closed; add the ")"'),
        ("y ~ log(x + (1 | g)", 'a "(" is never closed; add the ")"'),
        ("y ~ x)", 'a ")" was never opened; remove it'),
        ("y ~ (x, z)", '"," is not possible in parentheses; remove it'),
        ("y ~ x = z", '"=" is not possible here; a formula may hold names'),
        ("y ~ x, family = binomial", "families other than the normal one are not possible yet: remove the rest"),
        ("y ~ x, weights = w", "weights are given beside it (--weights w): remove the rest"),
        ("y ~ x, z", 'must end before the ","; it is one expression: remove the rest'),
        ("y ~ ²x", "²x is not possible here"),
        ("y ~ x % z", "% is not possible here"),
        ("y ~ `a", "` is not possible here"),
        ("y ~ x[a b]", "[ is not possible here"),
        ("y ~ .", ". is not possible here"),
        ("y ~ x == z", "x == z is no name, product or call; write I(x == z)"),
        ("y ~ !x", "!x is no name, product or call; write I(!x)"),
        ("y ~ 'x'", "'x' is no name, product or call"),
        ("y ~ I(0 < x < 1)", "0 < x < ... compares twice; write (a < b) * (b < c)"),
        ("y ~ 2", "the number 2 is not possible here; only + 1, + 0 and - 1"),
        ("y ~ x + 0.5", "the number 0.5 is not possible here"),
        ("y ~ 2*x", "the number 2 is not possible in a product"),
        ("y ~ x:1", "the number 1 is not possible in a product"),
        ("y ~ x/((1))", "the number 1 is not possible in a product"),
        ("y ~ (x + z)^1.5", "the power 1.5 must be a whole number, 1 or more"),
        ("y ~ (x + z)^0", "the power 0 must be a whole number"),
        ("y ~ x^z", "the power z must be a whole number"),
        ("y ~ x^(1 + 1)", "the power 1 + 1 must be a whole number"),
        ("y ~ x^2^1", "the power 2 ** 1 must be a whole number"),
        ("y ~ Intercept + x", "Intercept is reserved; write 1 for the intercept or rename"),
        ("y ~ True", "True is reserved"),
        ("y ~ TRUE", "TRUE is reserved"),
        ("y ~ x + y", "the response y may not be a predictor; remove it"),
        ("y ~ x + within(y)", "the response y may not be a predictor; remove it"),
        ("y ~ x + (y | g)", "the response y may not be a predictor"),
        ("y ~ x | g", '"|" belongs in a random term of its own, in parentheses; write ... + (1 | g)'),
        ("y ~ x*(1 | g)", "a random term must be a summand of its own; write ... + (1 | g)"),
        ("y ~ x*((1 | g) + z)", "a random term must be a summand of its own"),
        ("y ~ x - (1 | g)", "a random term must be a summand of its own"),
        ("y ~ x:offset(z)", "an offset must be a summand of its own; write ... + offset(x)"),
        ("y ~ x - offset(z)", "an offset must be a summand of its own; write ... + offset(x)"),
        ("y ~ x + offset(z, w)", "offset(z, w) must have one column in its parentheses"),
        ("y ~ x + (offset(z) | g)", "a random term of g may hold columns only"),
        ("y ~ x + ((1 | a) + z | g)", "a random term of g may hold columns only"),
        ("y ~ x + (1 | g) +", '"+" needs a term on its right'),
        ("y ~ x + ( | g)", 'the left side of "|" is empty; write (1 | g)'),
        ("y ~ x + (1 | )", "must be one grouping factor, not nothing; write it as (1 | g)"),
        ("y ~ x + (0 | g)", "a random term of g has no column; write (1 | g)"),
        ("y ~ x + (1 | a + b)", "must be one grouping factor, not a + b; write (1 | a) + (1 | b)"),
        ("y ~ x + (1 | a*b)", "must be one grouping factor, not a * b; write (1 | a) + (1 | b)"),
        ("y ~ x + (1 | 2)", "must be one grouping factor, not 2; write (1 | g)"),
        ("y ~ x + (1 | log(g))", "the grouping factor log(g) must be a column"),
        ("y ~ x + (1 | a | b)", "has two bars in one random term; write (1 | a) + (1 | b)"),
        ("y ~ x + (g | g)", "the grouping factor g may not be a random column; remove it"),
        ("y ~ x + (1 | g) + (x | g)", "the random column Intercept in two random terms; keep one"),
        ("y ~ x + (0 + x:z | g) + (0 + z:x | g)", "the random column z:x in two random terms"),
        ("y ~ x + (1 | a/b) + (1 | a:b)", "the random column Intercept in two random terms; keep one"),
        (f"y ~ {'(' * 5000}x{')' * 5000}", "is nested more than 100 deep; leave out parentheses"),
        (f"y ~ {'-' * 5000}x", "is nested more than 100 deep"),
        (f"y ~ {'log(' * 200}x{')' * 200}", "is nested more than 100 deep"),
        ("y ~ " + ":".join(f"x{k}" for k in range(5000)), "is nested more than 100 deep"),
        (
            "y ~ " + "*".join("abcdefhijklmn"),
            "stands for up to 8,191 terms, and none has as many; write fewer products",
        ),
        ("y ~ " + "*".join(f"x{k}" for k in range(60)), "stands for more than a billion terms"),
        ("y ~ x - " + "*".join("abcdefhijklmn"), "stands for up to 8,192 terms"),
        ("y ~ x:(-(" + "*".join("abcdefhijklmn") + "))", "stands for up to 8,191 terms"),
        ("y ~ x + (" + "*".join("abcdefhijklmn") + " | g)", "stands for up to 8,191 terms"),
        ("y ~ " + "+".join(f"x{k}" for k in range(20000)), "stands for up to 20,000 terms"),
        ("y ~ (" + "+".join(f"x{k}" for k in range(200)) + ")^3", "stands for up to 1,333,500 terms"),
    ],
)
def test_formula_is_refused_with_reason(text: str, reason: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert reason in caught.value.reason
    assert str(caught.value) == f'formula "{" ".join(text.split())}": {caught.value.reason}'
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y ~ log(x)", "calls such as log(...) are not possible in a study formula; give log_x a distribution of its own in "
            "[predictors.log_x] and write log_x"),
        ("y ~ I(x**2)", "calls such as I(...) are not possible in a study formula; give it as a predictor of its own, x_2 with"),
        ("y ~ poly(x, 2) + (1 | g)", "give each power as a predictor of its own, x and x_2 with [predictors.x_2]"),
        ("y ~ scale(x) + (1 | g)", "write x, and mean = 0 and sd = 1 in [predictors.x]"),
        ("y ~ factor(x) + (1 | g)", 'write x, and categories = ["a", "b"] (the reference first) with its distribution'),
        ("y ~ relevel(x, ref = 'b') + (1 | g)", 'write x, and categories = ["a", "b"] (the reference first)'),
        ("y ~ C(x, sum) + (1 | g)", 'in [predictors.x], or coding = "sum" or "helmert"'),
        ("y ~ as.numeric(x) + (1 | g)", "study formula; write x"),
        ("y ~ z + offset(x) + (1 | g)", "leave it out, as it moves the outcome by known amounts and no estimate with it"),
        ("y ~ x + (log(z) | g)", "give log_z a distribution of its own"),
        ("y ~ f(x)", "calls such as f(...) are not possible in a study formula; give the variable as a predictor"),
        ("y ~ centre(x) + (1 | g)", "did you mean center(...)?"),
        ("y ~ within(x + z)", "within(...) takes one predictor; write within(x)"),
        ("y ~ within(x, z)", "within(...) takes one predictor; write within(x)"),
        ("y ~ between(within(x))", "between(...) takes one predictor; write between(x)"),
        ("log(y) ~ x", 'must be one name, not log(y); a study draws the outcome as it is analysed: write it as "y ~ ..."'),
        ("cbind(k, n - k) ~ x", "must be one name, not cbind(k, n - k); a study draws"),
        ("y ~ _x", "_x is no name of a predictor; rename it with letters, digits and _"),
        ("y ~ `a b`", "`a b` is no name of a predictor"),
        ("y ~ x + (1 | a:b)", "must have a grouping factor of one name; write a_b for a:b"),
        ("y ~ x + (1 | a) + (1 | b)", "has the grouping factors a, b, whose numbers are not given; add [design.factors] with a "
         "line for each of a, b"),
        ("y ~ x + (1 | a/b)", "has the grouping factors a, a:b, whose numbers are not given; add [design.factors]"),
        ("y ~ (a + b + c + d + e + f | g)", "has 7 random columns; at most 6 are possible: remove some"),
        (f"y ~ {'+'.join(f'x{k}' for k in range(40))}", "has 41 fixed terms; at most 40 are possible: remove some"),
        ("y ~ a*b*c*d*e*f*h*i*j", "has 512 fixed terms; at most 40 are possible: remove some"),
    ],
)  # fmt: skip
def test_what_a_study_cannot_have_is_answered_with_what_to_write(text: str, reason: str) -> None:
    parse_formula(text)
    with pytest.raises(FormulaError) as caught:
        study_formula(text, {"k": ("k[b]", "k[c]")})
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


def test_a_factor_of_a_study_may_be_written_as_in_r() -> None:
    columns = {"k": ("k[b]", "k[c]")}
    plain = study_formula("y ~ k*x + (1 | g)", columns)
    for call in ("factor(k)", "as.factor( k )"):
        found = study_formula(f"y ~ {call}*x + (1 | factor(g))", columns)
        assert (found.fixed, found.random) == (plain.fixed, plain.random)
        assert call.replace(" ", "") in found.text.replace(" ", "")


@pytest.mark.parametrize("count", [12, 13, 25, 5000])
def test_products_of_many_predictors_are_counted_before_they_are_expanded(count: int) -> None:
    """Expanded first, 12 took 9.6 s, and 25 would not end."""
    text = f"y ~ {'*'.join(f'x{k}' for k in range(count))} + (1 | g)"
    with pytest.raises(FormulaError, match=r"stands for up to|at most \d+ are possible|is nested more than"):
        study_formula(text, {})


def test_parts_of_a_formula_for_those_who_need_more() -> None:
    formula = parse_formula(
        "cbind(k, n - k) ~ z:x + offset(log(w)) + I( (x+1)^2 ) + (x || a/`b c`) + (1 | factor(h)) - 1"
    )
    assert formula.response == "cbind(k, n - k)"
    assert formula.fixed == ("I((x + 1) ** 2)", "z:x")
    assert formula.variables == ("z", "x", "I((x + 1) ** 2)")
    assert formula.offsets == ("log(w)",)
    assert formula.groups == ("a", "a:`b c`", "h")
    assert [(term.group, *term.columns) for term in formula.random] == [
        ("a", "Intercept"), ("a", "x"), ("a:`b c`", "Intercept"), ("a:`b c`", "x"), ("h", "Intercept")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("`x`", "x"), ("`a b`", "`a b`"), ("`TRUE`", "`TRUE`"), ("I( x^2 )", "I(x ** 2)"), ("I(-x^2)", "I(-x ** 2)"),
        ("I((-x)^2)", "I((-x) ** 2)"), ("I(2^-x)", "I(2 ** -x)"), ("I((x^2)^3)", "I((x ** 2) ** 3)"),
        ("I(x^2^3)", "I(x ** 2 ** 3)"),
        ("I((x+1)*2-w/2)", "I((x + 1) * 2 - w / 2)"), ("I(x-(z-w))", "I(x - (z - w))"), ("I(x/(z/w))", "I(x / (z / w))"),
        ("I((x))", "I(x)"), ("I(x>0&!(z==2))", "I(x > 0 & !z == 2)"), ('C(k,ref = "b")', "C(k, ref='b')"), ("f('it''s')", None),
        ('f("it\'s")', 'f("it\'s")'), ("log(x,2.50)", "log(x, 2.5)"), ("log(x,2L)", "log(x, 2)"),
        ("poly(x,2,raw=TRUE)", "poly(x, 2, raw=TRUE)"),
        ("I(1e-3*x)", "I(0.001 * x)"), ("f()", "f()"), (".x", ".x"), ("x.1", "x.1"), ("I(x:w)", "I(x:w)"), ("k[b-c]", "k[b-c]"),
    ],
)  # fmt: skip
def test_a_name_has_one_spelling_and_reads_back(written: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(FormulaError):
            parse_formula(f"y ~ {written}")
        return
    assert parse_formula(f"y ~ {written}").fixed == ("Intercept", name)
    assert printed(read_variable(name)) == name
    assert parse_formula(f"y ~ {name}:z").fixed == ("Intercept", f"{name}:z")
    assert canonical_term(f"z:{name}") == canonical_term(f"{name}:z")


def test_formula_limits_are_reached() -> None:
    assert len(study_formula("y ~ a+b+c+d+e+f+h+i+j+k+l", {}).fixed) == 12
    assert len(study_formula("y ~ (a + b + c | g)", {}).random_columns) == 4
    assert len(parse_formula("y ~ a*b*c*d*e*f*h*i*j").fixed) == 512
    assert len(parse_formula("y ~ (a + b + c + d + e + f + h + i + j)^99").fixed) == 512
    assert len(parse_formula(f"y ~ {'+'.join(f'x{k}' for k in range(1000))}").fixed) == 1001
    assert parse_formula(f"y ~ {'(' * 90}x{')' * 90}").fixed == ("Intercept", "x")


def test_terms_do_not_depend_on_the_order_of_their_factors() -> None:
    assert same_term("x:z", "z:x")
    assert not same_term("x:z", "x")
    assert canonical_term("b:a:c") == "a:b:c"
    assert find_term(("Intercept", "x:z"), "z:x") == "x:z"
    assert find_term(("Intercept", "x:z"), "z") is None
    assert find_term(("Intercept", "x"), "Intercept") == "Intercept"
    assert find_term(("Intercept", "x"), "") is None


def test_formula_text_forgets_spelling() -> None:
    spelled = ("y~x*z+(x|g)", "y ~ 1 + x + z + x:z + (1 + x | g)", "y ~ x + z + z*x + (x + 1 | g)")
    assert formula_text(parse_formula(spelled[0])) == spelled[1]
    assert formula_text(parse_formula(spelled[1])) == spelled[1]
    assert formula_text(parse_formula("y ~ 0 + x + (0 + x || g)")) == "y ~ 0 + x + (0 + x | g)"
    assert random_term_text(parse_formula("y ~ (x | g)").random[0]) == "(1 + x | g)"


Terms = frozenset[frozenset[str]]


def products(a: Terms, b: Terms) -> Terms:
    return frozenset(s | t for s in a for t in b)


def whole(a: Terms) -> Terms:
    return frozenset([frozenset().union(*a)])


names = st.sampled_from(["a", "b", "x1", "zed"])
leaves = names.map(lambda v: (v, frozenset([frozenset([v])])))


def joined(inner: st.SearchStrategy[tuple[str, Terms]]) -> st.SearchStrategy[tuple[str, Terms]]:
    """Two expressions in parentheses with an operator between them, or a power, with the set of its terms."""

    def both(a: tuple[str, Terms], sign: str, b: tuple[str, Terms]) -> tuple[str, Terms]:
        terms = {
            "+": a[1] | b[1], "-": a[1] - b[1], ":": products(a[1], b[1]), "*": a[1] | b[1] | products(a[1], b[1]),
            "/": a[1] | products(whole(a[1]), b[1]), "%in%": products(a[1], whole(b[1])),
        }  # fmt: skip
        return f"({a[0]}) {sign} ({b[0]})", terms[sign]

    def power(a: tuple[str, Terms], k: int) -> tuple[str, Terms]:
        terms = a[1]
        for _ in range(k - 1):
            terms = products(terms, a[1])
        return f"({a[0]})^{k}", terms

    signs = st.sampled_from(["+", "-", ":", "*", "/", "%in%"])
    return st.one_of(st.builds(both, inner, signs, inner), st.builds(power, inner, st.integers(1, 4)))


sums = st.recursive(leaves, joined, max_leaves=6)


@given(sums)
@settings(deadline=None)
def test_expansion_equals_set_algebra(drawn: tuple[str, Terms]) -> None:
    text, terms = drawn
    formula = parse_formula(f"y ~ {text}")
    assert {frozenset(term.split(":")) for term in formula.fixed[1:]} == terms
    assert len(formula.fixed) == 1 + len(terms)
    degrees = [len(term.split(":")) for term in formula.fixed[1:]]
    assert degrees == sorted(degrees)


@given(sums, st.sampled_from(["", " + (1 | g)", " + (x1 || g)", " + (0 + a + b | g)", " + (1 | g/h) + offset(w)"]))
@settings(deadline=None)
def test_formula_text_reads_back(drawn: tuple[str, Terms], random: str) -> None:
    formula = parse_formula(f"y ~ {drawn[0]}{random}")
    again = parse_formula(formula_text(formula))
    assert (again.fixed, again.random, again.offsets) == (formula.fixed, formula.random, formula.offsets)


def test_a_formula_is_respelled_where_names_stand() -> None:
    new = {"log(x)": "log_x", "`a b`": "a_b", "g": "school", "y": "score", "I(z ** 2)": "z_2"}
    text = "y ~ log( x )*`a b` + I(z^2):z - (log(x) + z)^2 + (1 + log(x) || g) + (1 | g/h)"
    assert respelled(text, new) == (
        "score ~ log_x*a_b + z_2:z - (log_x + z)^2 + (1 + log_x || school) + (1 | school/h)"
    )


WORDS = st.sampled_from(
    [*"yxzg01~+-*:()|/^.,!<>=&% '`\"[]", "||", "%in%", "**", "I(", "log(", "offset(", "poly(x, 2)", "within(x)", "TRUE", "2",
     ".5e3", "(1 | g)", "(x || a/b)", "`a b`", "k[b]", "y ~ ", "family", "==", "é", "²", "\u2028", "\n", "\0"]
)  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=25),
        st.lists(WORDS, max_size=25).map("".join),
        st.lists(WORDS, max_size=20).map("".join).map("y ~ {}".format),
    )
)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    formula = read(text)
    if isinstance(formula, FormulaError):
        assert len(str(formula).splitlines()) == 1
        assert ";" in formula.reason
        return
    again = parse_formula(formula_text(formula))
    assert (again.response, again.fixed, again.random, again.offsets) == (
        formula.response, formula.fixed, formula.random, formula.offsets,
    )  # fmt: skip
    with contextlib.suppress(FormulaError):
        study_formula(text, {"k": ("k[b]", "k[c]")})


def read(text: str) -> Formula | FormulaError:
    try:
        return parse_formula(text)
    except FormulaError as error:
        return error


@pytest.mark.parametrize("depth", [50, 95])
@pytest.mark.parametrize("inner", ["({})", "-{}", "log({})", "x:({})", "({})^2", "I(x + {})", "x*{}", "f(a=({}))"])
def test_nesting_never_overflows_the_stack(inner: str, depth: int) -> None:
    text = "x"
    for _ in range(depth):
        text = inner.format(text)
    formula = read(f"y ~ {text}")
    if isinstance(formula, FormulaError):
        assert "is nested more than 100 deep" in formula.reason or "more than a billion terms" in formula.reason
    else:
        assert parse_formula(formula_text(formula)).fixed == formula.fixed
