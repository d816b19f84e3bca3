"""Estimands: names, order and true values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nestlab.spec.estimand import find_estimand, listed
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Contrast, Layout, Truth
from nestlab.spec.truths import named_values


def condition(formula: str, fixed: tuple[float, ...], covariance: tuple[tuple[float, ...], ...]) -> Condition:
    truth = Truth(parse_formula(formula), fixed, covariance, 3.0)
    return Condition({}, 1, Layout((5, 5)), truth, (), "moments", 512)


SLOPE = condition("y ~ x + (1 + x | g)", (2.0, 5.0), ((1.0, 0.5), (0.5, 4.0)))


def test_estimands_in_order_with_true_values() -> None:
    values = named_values(SLOPE.truth, [SLOPE.truth.formula])
    assert list(values.items()) == [
        ("Intercept", 2.0),
        ("x", 5.0),
        ("var:g:Intercept", 1.0),
        ("var:g:x", 4.0),
        ("cov:g:Intercept:x", 0.5),
        ("var:residual", 3.0),
        ("sd:g:Intercept", 1.0),
        ("sd:g:x", 2.0),
        ("sd:residual", math.sqrt(3)),
        ("cor:g:Intercept:x", 0.25),
        ("icc", 0.25),
    ]


def test_stored_before_derived() -> None:
    derived = [each.derived for each in listed([SLOPE.truth.formula]).values()]
    assert derived == sorted(derived)
    assert derived.count(True) == 5


def test_what_only_a_method_has_is_truly_zero() -> None:
    formulas = [parse_formula("y ~ z*x + (1 | g)"), parse_formula("y ~ x + w + x:z + (1 + x + w | g)")]
    values = named_values(SLOPE.truth, formulas)
    assert [name for name in values if ":" not in name or "z" in name][:5] == ["Intercept", "x", "z", "z:x", "w"]
    assert [values[name] for name in ("z", "z:x", "w", "var:g:w", "cov:g:x:w")] == [0.0] * 5
    assert "x:z" not in values
    assert math.isnan(values["cor:g:x:w"])
    assert list(values).index("var:g:w") == list(values).index("var:g:x") + 1


def test_columns_of_separate_terms_have_no_covariance() -> None:
    apart = condition("y ~ x + (1 | g) + (0 + x | g)", (0.0, 0.0), ((1.0, 0.0), (0.0, 4.0)))
    assert not [name for name in named_values(apart.truth, [apart.truth.formula]) if name.startswith(("cov", "cor"))]
    joined = named_values(apart.truth, [parse_formula("y ~ x + (x + 1 | g)")])
    assert joined["cov:g:Intercept:x"] == 0.0
    assert joined["cor:g:Intercept:x"] == 0.0


def test_pairs_are_named_in_the_order_of_the_truth() -> None:
    reverse = condition("y ~ x + (0 + x | g) + (1 | g)", (0.0, 0.0), ((4.0, 0.0), (0.0, 1.0)))
    values = named_values(reverse.truth, [parse_formula("y ~ x + (1 + x | g)")])
    assert [name for name in values if name.startswith("cov")] == ["cov:g:x:Intercept"]


def test_zero_variances() -> None:
    truth = replace(SLOPE.truth, covariance=((0.0, 0.0), (0.0, 4.0)))
    values = named_values(truth, [])
    assert values["icc"] == 0.0
    assert math.isnan(values["cor:g:Intercept:x"])


def test_icc_needs_a_random_intercept() -> None:
    slope = condition("y ~ x + (0 + x | g)", (0.0, 0.0), ((4.0,),))
    assert "icc" not in named_values(slope.truth, [slope.truth.formula])
    assert named_values(slope.truth, [parse_formula("y ~ x + (1 | g)")])["icc"] == 0.0


def test_three_columns_pair_in_lme4_s_order() -> None:
    three = condition("y ~ x + (1 + x + w | g)", (0.0, 0.0), ((1.0, 0.1, 0.2), (0.1, 1.0, 0.3), (0.2, 0.3, 1.0)))
    values = {name: value for name, value in named_values(three.truth, []).items() if name.startswith("cov")}
    assert values == {"cov:g:Intercept:x": 0.1, "cov:g:Intercept:w": 0.2, "cov:g:x:w": 0.3}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("x", "x"),
        ("z:x", "x:z"),
        ("x:z", "x:z"),
        ("icc", "icc"),
        ("var:g:Intercept", "var:g:Intercept"),
        ("cov:g:x:Intercept", "cov:g:Intercept:x"),
        ("cor:g:x:Intercept", "cor:g:Intercept:x"),
        ("var:residual", "var:residual"),
        ("var:h:Intercept", None),
        ("q", None),
        ("", None),
    ],
)
def test_find_estimand(asked: str, found: str | None) -> None:
    assert find_estimand(listed([SLOPE.truth.formula, parse_formula("y ~ x*z + (1 + x | g)")]), asked) == found


@pytest.mark.parametrize(
    "formulas",
    [
        ["y ~ x + (1 + x | g)"],
        ["y ~ x", "y ~ z:x + (1 + x | g)", "y ~ x:z + w + (1 | g) + (0 + w | g)"],
        ["y ~ iccx + (0 + iccx | var)", "y ~ iccx + (1 | var)"],
        ["y ~ x", "y ~ x"],
    ],
)
def test_estimands_are_listed_as_they_have_values(formulas: list[str]) -> None:
    read = [parse_formula(text) for text in formulas]
    truth = Truth(
        read[0],
        (0.0,) * len(read[0].fixed),
        tuple((0.0,) * q for q in [len(read[0].random_columns)] * len(read[0].random_columns)),
        1.0,
    )
    contrasts = (Contrast("sd", ((("Intercept", 1.0),),)), Contrast("icc x", ((("Intercept", 2.0),),)))
    values = named_values(truth, read[1:], contrasts)
    assert list(values) == list(listed(read, contrasts))
    assert all(name == each.name for name, each in listed(read, contrasts).items())
    assert listed(read, contrasts)["sd"].kind == listed(read, contrasts)["icc x"].kind == "contrast"
