"""Linear hypotheses by the names of coefficients, as printed or as R has them, and tests of whole terms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tolerances
from nestlab.fit.hypotheses import parse_hypotheses
from nestlab.fit.single import Fit, fit
from nestlab.spec.data import read_frame
from nestlab.spec.problems import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
TYPE3 = json.loads((GOLDEN / "type3.json").read_text())
OURS = (
    "Intercept",
    "arm[drug, 2 mg]",
    "arm[a=b]",
    "sex[m]",
    "I(x ** 2)",
    "poly(z, 2)[1]",
    "arm[drug, 2 mg]:sex[m]",
    "x",
)
THEIRS = ("(Intercept)", "armdrug, 2 mg", "arma=b", "sexm", "I(x^2)", "poly(z, 2)1", "armdrug, 2 mg:sexm", "x")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return read_frame(GOLDEN / "categories.csv")


def row(**weights: float) -> list[float]:
    places = {"intercept": 0, "drug": 1, "ab": 2, "sex": 3, "square": 4, "poly": 5, "both": 6, "x": 7}
    made = [0.0] * len(OURS)
    for name, weight in weights.items():
        made[places[name]] = weight
    return made


@pytest.mark.parametrize(
    ("text", "weights", "values"),
    [
        ("x = 0", [row(x=1)], [0]),
        ("x", [row(x=1)], [0]),
        ("arm[drug, 2 mg] = 0", [row(drug=1)], [0]),
        ("armdrug, 2 mg = 0", [row(drug=1)], [0]),
        ("`armdrug, 2 mg` = 0", [row(drug=1)], [0]),
        ("arm[a=b] = 0", [row(ab=1)], [0]),
        ("arma=b = 2", [row(ab=1)], [2]),
        ("arm[a=b] = arm[drug, 2 mg]", [row(ab=1, drug=-1)], [0]),
        ("(Intercept) + 2*sexm = 1", [row(intercept=1, sex=2)], [1]),
        ("Intercept = 0.5", [row(intercept=1)], [0.5]),
        ("I(x^2) = 0", [row(square=1)], [0]),
        ("I( x**2 ) - 3 x = -1e-2", [row(square=1, x=-3)], [-0.01]),
        ("poly(z,2)1 = 0, poly(z, 2)[1] + x = 0", [row(poly=1), row(poly=1, x=1)], [0, 0]),
        ("sexm:armdrug, 2 mg = 0", [row(both=1)], [0]),
        ("sex[m]:arm[drug, 2 mg], x", [row(both=1), row(x=1)], [0, 0]),
        ("- x + 2 = 3 - sex[m]", [row(x=-1, sex=1)], [1]),
        ("2*x = 3", [row(x=2)], [3]),
    ],
)
def test_a_coefficient_has_the_name_that_is_printed_or_rs(
    text: str, weights: list[list[float]], values: list[float]
) -> None:
    found = parse_hypotheses(text, OURS, THEIRS)
    np.testing.assert_allclose(found[0], weights)
    np.testing.assert_allclose(found[1], values)
    assert found[2] is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "w = 0",
            "hypothesis 'w = 0' names w, which is no fixed effect of the fit; use one of Intercept, arm[drug, 2 mg], ",
        ),
        ("w", "names w, which is no fixed effect of the fit"),
        ("sex[f] = 0", 'names sex[f], which is no fixed effect of the fit; did you mean "sex[m]"?'),
        ("Intercpt = 0", 'names Intercpt, which is no fixed effect of the fit; did you mean "Intercept"?'),
        ("x + y:z = 0", "names y:z, which is no fixed effect of the fit"),
        ("x + sex[m]", "must be one equation; write ... = 0"),
        ("2*x", "must be one equation; write ... = 0"),
        ("-x", "must be one equation; write ... = 0"),
        ("x = 0 = sexm", "must be one equation; write x = 0"),
        ("x =", "has an empty side; write x = 0"),
        ("= 0", "has an empty side; write x = 0"),
        ("x = 0,", "has an empty side; write x = 0"),
        ("", "has an empty side; write x = 0"),
        ("x ++ sexm = 0", "cannot be read at '+sexm=0'; write a sum of coefficients such as x - 2*z"),
        ("x * sexm = 0", "names x, a whole term; write it alone"),
        ("x 2 = 0", "names x2, which is no fixed effect"),
        ("1 = 0", "depend on one another, or name no term; leave out"),
        ("x = 0, 2*x = 0", "depend on one another, or name no term; leave out"),
        ("arm = 0", "names arm, a whole term; write it alone, or a coefficient: Intercept, "),
        ("arm + x = 0", "names arm, a whole term; write it alone, or a coefficient: Intercept, "),
    ],
)
def test_what_is_no_hypothesis(text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_hypotheses(text, OURS, THEIRS, {"arm": lambda: np.eye(8)[1:3], "x": lambda: np.eye(8)[7:]})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ours_comes_first_where_r_calls_something_else_by_that_name() -> None:
    """A column am beside the category m of a."""
    assert parse_hypotheses("am = 0", ("a[m]", "am"), ("am", "am"))[0].tolist() == [[0, 1]]
    assert parse_hypotheses("a[m] = 0", ("a[m]", "am"), ("am", "am"))[0].tolist() == [[1, 0]]


@pytest.mark.parametrize("case", TYPE3, ids=[case["formula"] for case in TYPE3])
def test_a_whole_term_against_r(case: dict[str, object], data: pd.DataFrame) -> None:
    """Wald F of lme4's fit with sum contrasts; ours has treatment contrasts."""
    fitted = fit(str(case["formula"]), data, df="z")
    for term, df, F in zip(case["terms"], case["df"], case["F"], strict=True):  # type: ignore[call-overload]
        found = fitted.test(term.replace("x,", "x, ").replace("  ", " "))
        assert found.df1 == df
        assert found.statistic == pytest.approx(F, rel=tolerances.GOLDEN_TYPE3.limit)


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "between-within"])
def test_a_whole_term_is_the_joint_test_of_sum_contrasts(df: str, data: pd.DataFrame) -> None:
    """With the df of the rule in use; without products it is that of the coefficients themselves."""
    ours, sums = (fit(f"y ~ {text} + x + (1 | g)", data, df=df) for text in ("arm*sex", "C(arm, sum)*C(sex, sum)"))
    for term, other in (
        ("arm", "C(arm, sum)"),
        ("sex", "C(sex, sum)"),
        ("arm:sex", "C(arm, sum):C(sex, sum)"),
        ("x", "x"),
    ):
        compare(ours, term, sums, other)
    by_hand = "arm[drug] + 0.5*arm[drug]:sex[m] = 0, arm[placebo] + 0.5*arm[placebo]:sex[m] = 0"
    compare(ours, "arm", ours, by_hand)
    compare(ours, "sex:arm", ours, "armdrug:sexm = 0, armplacebo:sexm = 0")
    if df != "satterthwaite":  # whose df of a joint test depend on how the hypotheses are written, in lmerTest too
        compare(ours, "arm", sums, "C(arm, sum)[1] = 0, C(arm, sum)[2] = 0")
    plain = fit("y ~ arm + sex + x + (1 | g)", data, df=df)
    compare(plain, "arm", plain, "arm[drug] = 0, arm[placebo] = 0")
    single, t = plain.test("sex"), plain.test("sex[m] = 0")
    assert str(single).startswith("sex: F(1, ")
    assert (single.statistic, single.df, single.p) == pytest.approx((t.statistic**2, t.df, t.p), rel=1e-9)


def compare(a: Fit, left: str, b: Fit, right: str) -> None:
    one, other = a.test(left), b.test(right)
    assert one.df1 == other.df1
    assert (one.statistic, one.df, one.p) == pytest.approx((other.statistic, other.df, other.p), rel=1e-7)


def test_several_terms_at_once(data: pd.DataFrame) -> None:
    fitted = fit("y ~ arm + sex + x + (1 | g)", data)
    found = fitted.test("arm, sexm = 0")
    assert found.df1 == 3
    compare(fitted, "arm, sexm = 0", fitted, "arm[drug] = 0, arm[placebo] = 0, sex[m] = 0")


def test_a_term_of_a_weighted_fit_is_tested_by_the_coefficients_of_its_columns() -> None:
    """The hypothesis is about the rows as they are, not about rows times the roots of weights."""
    rng, g = np.random.default_rng(3), np.repeat(np.arange(15), 8)
    k, w = rng.choice(["a", "b", "c"], len(g)), rng.uniform(0.2, 3, len(g))
    y = rng.normal(size=15)[g] + (k == "b") * 0.5 + rng.normal(size=len(g)) / np.sqrt(w)
    frame = pd.DataFrame({"y": y, "k": k, "x": rng.normal(size=len(g)), "w": w, "g": g})
    found = fit("y ~ k + x + (1 | g)", frame, weights="w")
    whole, columns = found.test("k"), found.test("k[b] = 0, k[c] = 0")
    assert (whole.statistic, whole.p) == pytest.approx((columns.statistic, columns.p), rel=1e-9)
