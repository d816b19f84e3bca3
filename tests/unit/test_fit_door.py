"""`nl.fit` and `nestlab fit`: what they take, what they refuse and in which words."""

import json
import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nestlab.fit.printed import summary_text
from nestlab.fit.problem import relative_factor
from nestlab.fit.single import fit
from nestlab.fit.status import Status
from nestlab.show.fit_command import fit_command
from nestlab.spec.data import read_frame
from nestlab.spec.formula import FormulaError
from nestlab.spec.matrices import model_matrices
from nestlab.spec.problems import DataError

MODEL = "y ~ x + (1 | g)"


def rows(clusters: int = 8, size: int = 5, seed: int = 1) -> pd.DataFrame:
    """A random intercept with a level-1 predictor x, a level-2 predictor z, a category c and a positive w."""
    random = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), size)
    x = random.normal(size=g.size)
    y = 2 + 0.5 * x + random.normal(size=clusters)[g] + random.normal(size=g.size)
    return pd.DataFrame(
        {
            "g": g,
            "y": y,
            "x": x,
            "z": random.normal(size=clusters)[g],
            "c": np.array(["b", "a", "c"])[np.arange(g.size) % 3],
            "w": random.uniform(1, 2, g.size),
        }
    )


def refusal(formula: str, frame: pd.DataFrame, **options: object) -> str:
    with pytest.raises((DataError, FormulaError)) as caught:
        fit(formula, frame, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestData:
    def test_missing_column(self):
        message = refusal("y ~ x + age + (1 | school)", rows())
        assert message == "formula names age, school, which the data do not have; columns: g, y, x, z, c, w"
        frame = rows().rename(columns={"x": "treatment"})
        message = refusal("y ~ treatmnt + (1 | g)", frame)
        assert message == 'formula names treatmnt, which the data do not have; did you mean "treatment"?'

    def test_column_twice(self):
        frame = rows()
        double = pd.concat([frame, frame[["x"]]], axis=1)
        assert refusal(MODEL, double) == "the data have 2 columns named x; rename all but one"
        assert fit("y ~ z + (1 | g)", double).status.converged

    def test_response_that_is_text(self):
        frame = rows()
        frame["y"] = frame["y"].astype(str)
        frame.loc[3, "y"] = "n/k"
        assert refusal(MODEL, frame) == 'response y is not numeric: y holds "n/k"; give numbers'
        assert refusal("c ~ x + (1 | g)", rows()) == 'response c is not numeric: c holds "a", "b", "c"; give numbers'

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (lambda n: pd.date_range("2020-01-01", periods=n), "datetime64"),
            (lambda n: np.arange(n) * 1j, "complex"),
            (lambda n: [1, "a"] * (n // 2), "mixed-integer"),
        ],
    )
    def test_types_that_are_neither_numbers_nor_categories(self, values, kind):
        frame = rows()
        frame["odd"] = values(len(frame))
        allowed = "allowed are numbers, truth values and text: convert it"
        assert refusal("y ~ odd + (1 | g)", frame) == f"column odd holds {kind} values; {allowed}"

    def test_infinite_values(self):
        for column, formula in (("y", MODEL), ("x", MODEL), ("x", "y ~ 1 + (1 + x | g)")):
            frame = rows()
            frame.loc[2, column] = np.inf
            assert refusal(formula, frame).startswith(f"{column} has infinite or undefined values; remove those rows")

    def test_undefined_values_of_a_transformation(self):
        assert refusal("y ~ log(x) + (1 | g)", rows()).startswith("log(x) has infinite or undefined values")
        assert refusal("log(x) ~ z + (1 | g)", rows()).startswith("log(x) has infinite or undefined values")

    def test_numbers_beyond_the_range(self):
        frame = rows()
        frame["x"] *= 1e200
        assert "x has values up to" in refusal(MODEL, frame)
        frame["y"] *= 1e-160
        assert "allowed are 1e-140 to 1e140: rescale it" in refusal("y ~ z + (1 | g)", frame)

    def test_no_complete_row(self):
        frame = rows()
        frame["x"] = np.nan
        message = refusal(MODEL, frame)
        assert message == "no row has a value for all of y, x, g (40 rows read); check the missing values"

    def test_one_category(self):
        frame = rows().assign(c="only")
        assert refusal("y ~ c + (1 | g)", frame) == 'c has one category only, "only"; remove it from the formula'

    def test_too_many_columns(self):
        frame = rows(40).assign(name=[f"n{k % 80}" for k in range(200)])
        assert "have 80 columns on these data" in refusal("y ~ name + (1 | g)", frame)
        assert "(1 + name | g) has 80 random columns" in refusal("y ~ 1 + (1 + name | g)", frame)


class TestDesign:
    def test_constant_response(self):
        for value in (0.0, 3.3, 1e6):
            assert refusal(MODEL, rows().assign(y=value)) == "response y is constant; there is nothing to fit"

    def test_response_without_noise(self):
        frame = rows()
        assert "fitted perfectly by the fixed effects" in refusal(MODEL, frame.assign(y=2 + 3 * frame["x"]))
        for formula in ("y ~ 1 + (1 | g)", MODEL):
            message = refusal(formula, frame.assign(y=frame["z"]))
            assert "cannot be fitted to these data" in message
            assert "residual variance is 0" in message

    def test_response_that_the_random_slopes_fit(self):
        """The search runs towards a residual variance of 0: a status or an error, never a number that looks right."""
        for seed in range(6):
            frame = rows(10, 5, seed)
            frame["y"] = frame["x"] * frame["z"]
            try:
                status = fit("y ~ x + (1 + x | g)", frame).status
            except DataError:
                status = Status.nonfinite
            assert not status.converged

    def test_one_row_a_cluster(self):
        message = refusal(MODEL, rows(12, 1))
        assert message.startswith("12 rows are not more than the 12 random effects of (1 | g)")
        assert message.endswith("use fewer random columns or more rows a cluster")
        assert "24 random effects of (1 + x | g)" in refusal("y ~ x + (x | g)", rows(12, 2))

    def test_clusters_of_one_row_among_others(self):
        frame = pd.concat([rows(5, 1), rows(1, 4).assign(g=99)])
        assert fit(MODEL, frame).clusters == 6

    def test_one_cluster(self):
        assert refusal(MODEL, rows(1, 9)) == "grouping factor g has 1 level; a random effect needs at least 2"

    def test_fewer_rows_than_parameters(self):
        frame = rows(2, 3)
        for k in range(6):
            frame[f"x{k}"] = np.random.default_rng(k).normal(size=6)
        for p in (6, 7):
            formula = f"y ~ {' + '.join(f'x{k}' for k in range(p - 1))} + (1 | g)"
            assert (
                refusal(formula, frame)
                == f"6 rows are not more than the {p} fixed effects; use fewer terms or more rows"
            )

    def test_dependent_columns(self):
        frame = rows()
        frame["twice"] = 2 * frame["x"] + 1
        frame["one"] = 1
        depends = "linearly dependent on the columns before it; remove it"
        assert refusal("y ~ x + twice + (1 | g)", frame) == f"fixed effect twice: {depends}"
        assert refusal("y ~ one + (1 | g)", frame) == f"fixed effect one: {depends}"
        assert refusal("y ~ 1 + (x + twice | g)", frame) == f"random column twice: {depends}"
        frame["d"] = frame["c"]
        assert refusal("y ~ c + d + (1 | g)", frame).endswith("remove it or recode its categories")

    def test_variance_that_the_fixed_effects_take_up(self):
        """With as many between effects as clusters REML is flat in the variance; ML is not (its estimate is 0)."""
        frame = rows(2, 6)
        message = refusal("y ~ z + (1 | g)", frame)
        assert message.startswith("2 levels of g can't tell the variance of Intercept from the fixed effects")
        assert "the variance of x from" in refusal("y ~ x + x:z + (0 + x | g)", frame)
        assert fit("y ~ z + (1 | g)", frame, reml=False).singular
        assert fit("y ~ 1 + (1 | g)", frame).status.converged

    def test_wide_category_ids_are_no_numbers(self, tmp_path):
        path = tmp_path / "ids.csv"
        path.write_text("id\n12345678901234567890\n12345678901234567891\n")
        assert read_frame(path)["id"].nunique() == 2


class TestMissing:
    def test_rows_with_missing_values_are_dropped_and_counted(self):
        frame = rows()
        frame["unused"] = np.nan
        clean = fit(MODEL, frame)
        assert clean.dropped == 0
        frame.loc[[0, 7], "x"] = np.nan
        frame.loc[[7, 11], "y"] = np.nan
        frame["g"] = frame["g"].astype(object)
        frame.loc[20, "g"] = None
        fitted = fit(MODEL, frame)
        assert (fitted.rows, fitted.dropped) == (36, 4)
        kept = fit(MODEL, rows().drop([0, 7, 11, 20]))
        assert fitted.beta == kept.beta
        assert fitted.neg2loglik == kept.neg2loglik
        assert fitted.summary().splitlines()[-1] == "  (4 observations deleted due to missingness)"

    def test_one_dropped_row_in_the_singular(self):
        frame = rows()
        frame.loc[0, "x"] = np.nan
        assert fit(MODEL, frame).summary().splitlines()[-1] == "  (1 observation deleted due to missingness)"


class TestFormula:
    @pytest.mark.parametrize(
        ("formula", "words"),
        [
            ("y ~ x z + (1 | g)", '"x" and "z" need an operator between them'),
            ("y ~ x z", '"x" and "z" need an operator between them'),
            ("y ~ x (1 | g)", "x(...) is not possible; allowed are I, C, factor"),
            ("y ~ x", "needs a random term; add one, (1 | group)"),
            ("y ~ x + log(offset(w)) + (1 | g)", "offset(...) is not possible"),
            ("y ~ x + offset(c) + (1 | g)", "offset(c) is not one numeric column; give numbers"),
            ("y ~ cbind(x, w) + (1 | g)", "cbind(...) is not possible"),
            ("y ~ poly.raw(x) + (1 | g)", "poly.raw(...) is not possible"),
            ("y ~ __import__('os').getcwd() + (1 | g)", 'and ".getcwd" need an operator between them'),
            ("y ~ I(x.__class__) + (1 | g)", "x.__class__"),
            ("y ~ `a b` z + (1 | g)", '"`a b`" and "z" need an operator between them'),
            ("y ~ log(x + (1 | g)", 'a "(" is never closed; add the ")"'),
            ("y ~ I(x +) + (1 | g)", '"+" needs a term on its right; add one'),
            ("y ~ x + (1 | log(g))", "the grouping factor log(g) must be a column"),
            ("y ~ x + (1 | C(g))", "the grouping factor C(g) must be a column"),
            ("y ~ log(x):(z + w + (1 | g)", 'a "(" is never closed'),
            (
                "y ~ within(x) + (1 | g) + (1 | c)",
                "within(x) must name the grouping factor whose means are meant; write within(x, g) or within(x, c)",
            ),
            (
                "y ~ log(2 + between(x)) + (1 | g/c)",
                "between(x) must name the grouping factor whose means are meant; write between(x, g) or between(x, g:c)",
            ),
            (
                "y ~ within(x, h) + (1 | g)",
                "within(x, h) must name a grouping factor of the formula; write within(x, g)",
            ),
            (
                "y ~ within(x, c) + (1 | g/c)",
                "must name a grouping factor of the formula; write within(x, g) or within(x, g:c)",
            ),
            ("y ~ within(x, log(g)) + (1 | g)", "must name a grouping factor of the formula; write within(x, g)"),
            ("y ~ between(x, g, c) + (1 | g)", "between takes x"),
            ("y ~ center(x, g) + (1 | g)", "center takes x"),
            ("y ~ y + (1 | g)", "the response y may not be a predictor"),
        ],
    )
    def test_refused(self, formula, words):
        message = refusal(formula, rows())
        assert words in message
        assert "word0q" not in message

    @pytest.mark.parametrize(
        ("term", "words"),
        [
            ("I(x if x else 1)", '"x" and "if" need an operator between them'),
            ("I(x and 1)", '"x" and "and" need an operator between them'),
            ("I(not x)", '"not" and "x" need an operator between them'),
            ("I(x % 2)", "% is not possible here"),
            ("I(x:z)", "x:z is not possible; allowed are numbers, columns, + - * / ^ and comparisons"),
            ("within(c)", "within(c) cannot be computed from the data"),
            ("factor(c, levels = 2)", "factor takes x, ref, contr"),
            ("scale()", "scale takes x, center, scale"),
            ("log2(x, 2)", "log2 takes x"),
            ("C(c, w)", "cannot be computed from the data"),
            ("I((x)(1))", '")" and "(" need an operator between them'),
            ("I([1, 2])", "[ is not possible here"),
            ("I(c + 1)", "I(c + 1) cannot be computed from the data"),
            ("log(c)", "log(c) cannot be computed from the data"),
            ("I(3)", "I(3) is one number, not a column; remove it"),
            ("C(c, ref='q')", "ref = q is none of its categories: a, b, c"),
            ("poly(x, 0)", "the degree of poly must be a whole number from 1 to 39, not 0"),
            ("poly(x, 1.5)", "the degree of poly must be a whole number from 1 to 39, not 1.5"),
            ("log(x, 2, 3)", "log(x, 2, 3) cannot be computed from the data: log takes x, base"),
        ],
    )
    def test_calls_that_cannot_be_computed(self, term, words):
        assert words in refusal(f"y ~ {term} + (1 | g)", rows())

    def test_transformations(self):
        frame = rows().assign(lw=lambda f: np.log(f["w"]), xx=lambda f: f["x"] ** 2, ly=lambda f: np.exp(f["y"]))
        plain = fit("y ~ lw + xx + (1 | g)", frame)
        for formula in (
            "y ~ log(w) + I(x**2) + (1 | g)",
            "y~np.log(w)+I( x ^2 )+(1|g)",
            "log(ly) ~ log(w) + I(x * x) + (1 | g)",
        ):
            fitted = fit(formula, frame)
            np.testing.assert_allclose(list(fitted.beta.values()), list(plain.beta.values()), rtol=1e-12)
        assert list(fit("y ~ log(w)*I((x+1)^2) + (1 | g)", frame).beta) == [
            "Intercept",
            "log(w)",
            "I((x + 1) ** 2)",
            "log(w):I((x + 1) ** 2)",
        ]

    def test_random_columns_may_be_calls(self):
        frame = rows(12, 8).assign(double=lambda f: 2 * f["x"])
        fitted = fit("y ~ 1 + (1 + I(2 * x) | g)", frame)
        assert fitted.random_names == (("Intercept", "I(2 * x)"),)
        assert fitted.neg2loglik == fit("y ~ 1 + (1 + double | g)", frame).neg2loglik

    def test_cluster_means(self):
        frame = rows(12, 8).assign(m=lambda f: f.groupby("g")["x"].transform("mean"), d=lambda f: f["x"] - f["m"])
        fitted = fit("y ~ within(x) + between( x ) + (1 + within(x) | g)", frame)
        plain = fit("y ~ d + m + (1 + d | g)", frame)
        assert list(fitted.beta) == ["Intercept", "within(x)", "between(x)"]
        np.testing.assert_allclose(list(fitted.beta.values()), list(plain.beta.values()), rtol=1e-9)
        centred = fit("y ~ center(x) + (1 | g)", frame).matrices.X[:, 1]
        np.testing.assert_allclose(centred, frame["x"] - frame["x"].mean(), atol=1e-14)

    def test_cluster_means_are_of_all_known_values(self):
        frame = rows(6, 5)
        frame.loc[[0, 7], "y"] = np.nan
        frame.loc[[1, 12], "x"] = np.nan
        means = fit("y ~ between(x) + (1 | g)", frame).matrices
        expected = frame.groupby("g")["x"].transform("mean")[means.index]
        assert means.dropped == 4
        np.testing.assert_allclose(means.X[:, 1], expected, rtol=1e-14)

    def test_an_offset_is_taken_off_the_response(self):
        frame = rows().assign(less=lambda f: f["y"] - 2 * f["w"] - f["z"])
        fitted = fit("y ~ x + offset(2 * w) + offset(z) + (1 | g)", frame)
        plain = fit("less ~ x + (1 | g)", frame)
        np.testing.assert_allclose(list(fitted.beta.values()), list(plain.beta.values()), rtol=1e-9)
        assert fitted.neg2loglik == pytest.approx(plain.neg2loglik, rel=1e-12)

    def test_a_product_of_columns_as_the_grouping_factor(self):
        frame = rows(9, 8).assign(h=lambda f: np.where(np.arange(len(f)) % 2, "u", "v"))
        pairs = frame.assign(gh=lambda f: f["g"].astype(str) + ":" + f["h"])
        fitted, plain = fit("y ~ x + (1 | g:h)", frame), fit("y ~ x + (1 | gh)", pairs)
        assert (fitted.group, fitted.clusters) == ("g:h", 18)
        assert fitted.neg2loglik == pytest.approx(plain.neg2loglik, rel=1e-12)
        assert sorted(fitted.matrices.group_labels) == sorted(plain.matrices.group_labels)
        frame.loc[3, "h"] = None
        assert fit("y ~ x + (1 | g:h)", frame).dropped == 1
        assert fit("y ~ x + (1 | factor(g))", frame).group == "g"

    def test_many_fixed_terms(self):
        """As many as the kernel takes, of a study's formula too."""
        frame = rows(12, 8).assign(**{f"v{k}": np.random.default_rng(k).normal(size=96) for k in range(41)})
        assert len(fit(f"y ~ {' + '.join(f'v{k}' for k in range(39))} + (1 | g)", frame).beta) == 40
        text = f"y ~ {' + '.join(f'v{k}' for k in range(41))} + (1 | g)"
        assert refusal(text, frame).startswith(
            "the fixed effects have 42 columns on these data (... v39, v40); at most 40"
        )

    def test_counts_are_refused_as_such(self):
        assert refusal("cbind(w, x) ~ z + (1 | g)", rows()) == (
            'response cbind(w, x) is of counts: give family = "binomial", or one column'
        )

    def test_unusual_names(self):
        frame = rows().rename(columns={"x": "Time (s)", "z": "_z", "w": "w.1"})
        fitted = fit("y ~ `Time (s)` * w.1 + _z + (1 | g)", frame)
        assert list(fitted.beta) == ["Intercept", "`Time (s)`", "w.1", "_z", "`Time (s)`:w.1"]
        same = fit("y ~ x * w + z + (1 | g)", rows())
        assert list(fitted.beta.values()) == list(same.beta.values())
        assert fit("y ~ 1 + (1 | `the group`)", rows().rename(columns={"g": "the group"})).group == "the group"

    def test_columns_named_like_functions(self):
        frame = rows().assign(log=lambda f: f["x"], np=lambda f: f["w"], I=lambda f: f["z"])
        fitted = fit("y ~ log + log(np) + I + np.log(np) : I + (1 | g)", frame)
        assert list(fitted.beta) == ["Intercept", "log", "log(np)", "I", "np.log(np):I"]
        assert list(fitted.beta.values()) == list(fit("y ~ x + log(w) + z + log(w):z + (1 | g)", frame).beta.values())

    def test_a_predictor_may_be_the_group(self):
        assert list(fit("y ~ g + (1 | g)", rows()).beta) == ["Intercept", "g"]

    def test_double_bar(self):
        fitted = fit("y ~ x + (1 + x || g)", rows(12, 8))
        assert list(fitted.varcomp) == ["g", "g.1"]


class TestCategories:
    def test_first_category_is_the_reference(self):
        fitted = fit("y ~ c + (1 | g)", rows())
        by_hand = rows().assign(b=lambda f: f["c"] == "b", cc=lambda f: (f["c"] == "c") * 1)
        assert list(fitted.beta) == ["Intercept", "c[b]", "c[c]"]
        assert list(fitted.beta.values()) == list(fit("y ~ b + cc + (1 | g)", by_hand).beta.values())

    def test_order_of_a_pandas_categorical_is_kept(self):
        frame = rows()
        frame["c"] = pd.Categorical(frame["c"], categories=["c", "z", "b", "a"])
        assert list(fit("y ~ c + (1 | g)", frame).beta) == ["Intercept", "c[b]", "c[a]"]
        assert list(fit("y ~ C(c, ref='a') + (1 | g)", frame).beta) == [
            "Intercept",
            "C(c, ref='a')[c]",
            "C(c, ref='a')[b]",
        ]

    def test_text_sorts_as_r_sorts_it_in_a_utf8_locale(self):
        """Without regard to case first: R's levels of these words."""
        words = ["b", "Ab", "a", "C", "ä", "B2", "_c", "10"]
        frame = rows(8, 8).assign(c=lambda f: np.array(words)[np.arange(len(f)) % 8])
        assert fit("y ~ 0 + c + (1 | g)", frame).matrices.factors["c"].labels == (
            "_c", "10", "a", "ä", "Ab", "b", "B2", "C"
        )  # fmt: skip

    def test_relevel_and_contrasts(self):
        frame = rows()
        assert list(fit("y ~ relevel(c, ref = 'b') + (1 | g)", frame).beta) == [
            "Intercept",
            "relevel(c, ref='b')[a]",
            "relevel(c, ref='b')[c]",
        ]
        by_hand = frame.assign(
            one=lambda f: f["c"].map({"a": 1, "b": 0, "c": -1}), two=lambda f: f["c"].map({"a": 0, "b": 1, "c": -1})
        )
        expected = list(fit("y ~ one + two + (1 | g)", by_hand).beta.values())
        for call in ("C(c, sum)", "C(c, contr.sum)", "C(c, 'contr.sum')", "C(c, contr = sum)"):
            np.testing.assert_allclose(list(fit(f"y ~ {call} + (1 | g)", frame).beta.values()), expected, rtol=1e-12)

    def test_numbers_of_categories(self):
        frame = rows().assign(k=lambda f: np.array(["10", "2", "7"])[np.arange(len(f)) % 3])
        text = fit("y ~ as.numeric(k) + (1 | g)", frame).matrices.X[:, 1]
        assert text[:3].tolist() == [10, 2, 7]
        factor = fit("y ~ as.numeric(factor(k)) + (1 | g)", frame).matrices.X[:, 1]
        assert factor[:3].tolist() == [1, 2, 3]
        assert "as.numeric(c) cannot be computed from the data" in refusal("y ~ as.numeric(c) + (1 | g)", rows())

    def test_truth_values_are_a_factor_where_both_have_a_column(self):
        frame = rows().assign(flag=lambda f: f["x"] > 0)
        assert list(fit("y ~ flag + (1 | g)", frame).beta) == ["Intercept", "flag"]
        assert list(fit("y ~ 0 + flag + (1 | g)", frame).beta) == ["flag[FALSE]", "flag[TRUE]"]
        assert list(fit("y ~ flag:w + (1 | g)", frame).beta) == ["Intercept", "flag[FALSE]:w", "flag[TRUE]:w"]

    def test_numbers_as_categories(self):
        frame = rows().assign(k=np.arange(40) % 3 * 5)
        assert list(fit("y ~ C(k) + (1 | g)", frame).beta) == ["Intercept", "C(k)[5]", "C(k)[10]"]
        assert list(fit("y ~ factor(k, ref=10) + (1 | g)", frame).beta)[1:] == [
            "factor(k, ref=10)[0]",
            "factor(k, ref=10)[5]",
        ]

    @pytest.mark.parametrize("dtype", ["boolean", object, bool])
    def test_truth_values_are_0_and_1(self, dtype):
        frame = rows()
        frame["flag"] = pd.Series(frame["x"] > 0).astype(dtype)
        expected = fit("y ~ I(x > 0) + (1 | g)", frame)
        assert list(fit("y ~ flag + (1 | g)", frame).beta.values()) == list(expected.beta.values())

    @pytest.mark.parametrize("dtype", ["Float64", object, "float32"])
    def test_number_types(self, dtype):
        frame = rows().round(2)
        frame["y"] = frame["y"].astype(dtype)
        assert fit(MODEL, frame).beta["x"] == pytest.approx(fit(MODEL, rows().round(2)).beta["x"], rel=1e-6)

    def test_groups_may_be_anything(self):
        frame = rows()
        expected = fit(MODEL, frame).neg2loglik
        for groups in (
            frame["g"].map("g{}".format),
            frame["g"] / 7,
            pd.Categorical(frame["g"]),
            [str(g) if g % 2 else g for g in frame["g"]],
        ):
            assert fit(MODEL, frame.assign(g=groups)).neg2loglik == pytest.approx(expected, rel=1e-12)


class TestDegreesOfFreedom:
    """Between-within by hand: 8 clusters of 5 rows."""

    @pytest.mark.parametrize(
        ("formula", "expected"),
        [
            ("y ~ 1 + (1 | g)", [7]),
            ("y ~ x + (1 | g)", [7, 40 - 8 - 1]),
            ("y ~ x + w + (1 | g)", [7, 30, 30]),
            ("y ~ z + x + (1 | g)", [6, 6, 31]),
            ("y ~ z * x + (1 | g)", [6, 6, 30, 30]),
            ("y ~ z * x + (1 + x | g)", [6, 6, 6, 6]),
            ("y ~ z * x + w + (1 + x | g)", [6, 6, 6, 31, 6]),
            ("y ~ x + (1 | g) + (0 + x | g)", [7, 7]),
            ("y ~ x + (0 + x | g)", [31, 7]),
        ],
    )
    def test_between_within(self, formula, expected):
        fitted = fit(formula, rows(), df="between-within")
        assert list(fitted.df.values()) == expected
        assert fitted.df_rule == "between-within"

    def test_none_left(self):
        fitted = fit("y ~ z + (1 | g)", rows(2, 6), reml=False, df="between-within")
        assert all(np.isnan(v) for v in fitted.df.values())
        assert fitted.to_dict()["ML"]["df"] == [None, None]

    def test_wald(self):
        assert set(fit(MODEL, rows(), df="z").df.values()) == {np.inf}

    def test_residual(self):
        assert set(fit(MODEL, rows(), df="residual").df.values()) == {38}

    def test_unknown_rule(self):
        with pytest.raises(
            ValueError, match=r"df = 'welch': allowed are z, residual, .* and kenward-roger; use one of them"
        ):
            fit(MODEL, rows(), df="welch")
        with pytest.raises(ValueError, match="singular_df = 'drop': allowed are lmertest and refit; use one of them"):
            fit(MODEL, rows(), singular_df="drop")

    def test_kenward_roger_needs_reml(self):
        with pytest.raises(DataError, match=r"df = 'kenward-roger' needs REML, .*; leave out ML, or use satterthwaite"):
            fit(MODEL, rows(), reml=False, df="kenward-roger")


class TestSingular:
    def test_lme4s_rule_depends_on_the_units_of_a_predictor_ours_does_not(self):
        frame = rows(12, 8)
        frame["y"] += np.random.default_rng(3).normal(size=12)[frame["g"]] * frame["x"]
        for unit, theirs in ((1.0, False), (1e6, True)):
            fitted = fit("y ~ x + (1 + x | g)", frame.assign(x=unit * frame["x"]))
            assert (fitted.singular, fitted.is_singular_lme4) == (False, theirs)
            assert fitted.to_dict()["REML"]["singular"] is False
            assert fitted.to_dict()["REML"]["lme4_isSingular"] is theirs

    def test_a_lost_dimension_is_an_exact_0_in_theta(self):
        for mean in (0.0, 1e3, 1e6):
            frame = rows(8, 4, seed=3).assign(x=lambda f, mean=mean: f["x"] + mean)
            fitted = fit("y ~ x + (1 + x | g)", frame)
            assert fitted.singular
            assert fitted.theta[-1] == 0.0
            assert fitted.theta[0] > 0

    @pytest.mark.parametrize("nearly", [1.0, 1e-7])
    def test_relative_factor_of_a_matrix_that_lost_two_dimensions(self, nearly):
        random = np.random.default_rng(1)
        for _ in range(50):
            T = random.normal(size=(4, 2))
            T[1] = T[0] + nearly * T[1]
            T *= 10.0 ** random.integers(-4, 5, size=(4, 1))
            L = relative_factor(T)
            assert sum(np.diag(L) > 0) == 2
            np.testing.assert_array_equal(L, np.tril(L))
            size = np.linalg.norm(T, axis=1)
            assert np.max(np.abs(L @ L.T - T @ T.T) / np.outer(size, size)) < 1e-14


class TestRemarks:
    def test_an_ordinary_fit_ends_with_its_tables(self):
        fitted = fit("y ~ x + (1 | g)", rows(12, 8), df="z")
        assert fitted.status == Status.ok
        assert fitted.summary().splitlines()[-3] == "Correlation of Fixed Effects:"

    def test_not_converged(self):
        fitted = replace(fit(MODEL, rows(), df="z"), status=Status.not_converged)
        assert summary_text(fitted).splitlines()[-2:] == ["Model failed to converge", Status.not_converged.sentence]

    def test_data_line_only_with_a_name(self):
        fitted = fit(MODEL, rows(), df="z")
        assert "   Data: " not in fitted.summary()
        assert summary_text(fitted, data="rows").splitlines()[2] == "   Data: rows"

    def test_many_fixed_effects_without_their_correlations(self):
        frame = rows(20, 10).assign(name=[f"n{k % 13:02}" for k in range(200)])
        assert (
            fit("y ~ name + (1 | g)", frame, df="z")
            .summary()
            .endswith("Correlation matrix not shown by default, as p = 13 > 12.")
        )

    def test_twelve_fixed_effects_with_their_correlations(self):
        frame = rows(20, 12).assign(name=[f"n{k % 12:02}" for k in range(240)])
        assert "Correlation of Fixed Effects:" in fit("y ~ name + (1 | g)", frame, df="z").summary()

    def test_long_formulas_are_wrapped(self):
        frame = rows()
        names = [f"a_rather_long_name_{k}" for k in range(6)]
        for k, name in enumerate(names):
            frame[name] = np.random.default_rng(k).normal(size=40)
        lines = fit(f"y ~ {' + '.join(names)} + (1 | g)", frame, df="z").summary().splitlines()
        assert all(len(line) <= 80 for line in lines[:4])
        assert " ".join(" ".join(lines[1:4]).split()).startswith(f"Formula: y ~ {' + '.join(names)} + (1 | g)")


class TestFiles:
    def write(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("data.xlsx", "y", "ends in .xlsx; allowed are .csv, .tsv, .txt, .parquet, .pq: convert it"),
            ("data", "y", "ends in no suffix"),
            ("empty.csv", "", "is empty; give a file with a header and rows"),
            ("empty.parquet", b"", "is empty"),
            ("blank.csv", " \n\n", "is empty"),
            ("header.csv", "y,g\n", "has columns but no rows"),
            ("cut.csv", "y,x,g\n1,2,1\n3,4", "ends within a row (2 of 3 fields); it seems to be cut off"),
            ("quote.csv", 'y,g\n1,"a\n2,3\n', "is no table"),
            (
                "ragged.csv",
                "y,g\n1,2\n3,4,5\n",
                "is no table (Error tokenizing data. C error: Expected 2 fields in line 3, saw 3)",
            ),
            ("trailing.csv", "y,g\n1,2,\n3,4,\n", "has 2 names in its header but 3 fields in its first row"),
            ("twice.csv", "y,g, y\n1,2,3\n", "has 2 columns named y; rename all but one"),
            ("latin.csv", b"y,g\n\xe9,1\n", "is not UTF-8 text; save it as CSV in UTF-8"),
            ("rubbish.csv", bytes(range(256)), "is not UTF-8 text"),
            ("nul.csv", b"\x00\x01\x02", "is not text"),
            ("utf16.csv", "y,g\n1,2\n".encode("utf-16"), "is not UTF-8 text (UTF-16); save it as CSV in UTF-8"),
            ("book.csv", b"PK\x03\x04\x14", "is not UTF-8 text (a spreadsheet or an archive); save it as CSV in UTF-8"),
            ("packed.csv", b"\x1f\x8b\x08", "is not UTF-8 text (compressed)"),
            ("field.csv", f"y,g\n1,{'a' * 200_000}\n", "is no table (field larger than field limit (131072))"),
            ("last.csv", f"y,g\n1,2\n3,4\n5,{'a' * 200_000}", "is no table (field larger than field limit (131072))"),
            ("parquet.csv", b"PAR1\x15\x04", "is a Parquet file; name it .parquet"),
            ("text.parquet", "y,g\n1,2\n", "is no complete Parquet file"),
        ],
    )
    def test_refused(self, tmp_path, name, content, words):
        path = self.write(tmp_path, name, content)
        with pytest.raises(DataError) as caught:
            read_frame(path)
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"data file {path} ")
        assert "\n" not in str(caught.value)

    def test_absent_or_a_directory(self, tmp_path):
        with pytest.raises(DataError, match=r"none\.csv does not exist; check the path"):
            read_frame(tmp_path / "none.csv")
        with pytest.raises(DataError, match="is a directory; give a CSV or Parquet file"):
            read_frame(tmp_path)

    def test_parquet_cut_in_half(self, tmp_path):
        whole = tmp_path / "whole.parquet"
        rows().to_parquet(whole)
        content = whole.read_bytes()
        half = self.write(tmp_path, "half.parquet", content[: len(content) // 2])
        with pytest.raises(DataError, match="is no complete Parquet file") as caught:
            read_frame(half)
        assert "\n" not in str(caught.value)

    def test_csv_and_parquet_give_the_same_frame(self, tmp_path):
        frame = rows()
        frame.to_parquet(tmp_path / "rows.parquet")
        frame.set_index("g").to_parquet(tmp_path / "indexed.parquet")
        frame.to_csv(tmp_path / "rows.csv", index=False)
        for name in ("rows.parquet", "rows.csv", "indexed.parquet"):
            read = read_frame(tmp_path / name)[list(frame)]
            for column in frame:
                assert read[column].tolist() == frame[column].tolist(), (name, column)

    @pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
    @pytest.mark.parametrize(("separator", "point"), [(",", "."), (";", "."), (";", ","), ("\t", ".")])
    def test_separators(self, tmp_path, separator, point, start):
        lines = [
            ["y", "flag", "n", "g"],
            [f"1{point}25", "TRUE", "1", "a b"],
            ["-2e-3", "false", "7", "NA"],
            ["", "TRUE", "-3", ""],
        ]
        text = start + "\n".join(separator.join(line) for line in lines) + "\n"
        frame = read_frame(self.write(tmp_path, "data.csv", text))
        assert frame["y"].tolist()[:2] == [1.25, -0.002]
        assert frame["y"].isna().tolist() == [False, False, True]
        assert frame["g"].isna().tolist() == [False, True, True]
        assert frame["flag"].tolist() == [True, False, True]
        assert frame["n"].tolist() == [1, 7, -3]
        assert frame["n"].dtype == np.int64

    def test_numbers_are_read_to_the_last_digit(self, tmp_path):
        numbers = np.random.default_rng(1).normal(size=500) * 10.0 ** np.arange(-250, 250)
        path = self.write(tmp_path, "n.csv", "y\n" + "\n".join(repr(float(v)) for v in numbers) + "\n")
        assert read_frame(path)["y"].tolist() == numbers.tolist()

    def test_words_that_are_no_numbers(self, tmp_path):
        frame = read_frame(self.write(tmp_path, "w.csv", 'a,b,c\n1_000,None,"1,5"\n2,0x1f,"x\ny"\n'))
        assert frame.to_dict("list") == {"a": ["1_000", "2"], "b": ["None", "0x1f"], "c": ["1,5", "x\ny"]}

    def test_names_with_spaces_around_them(self, tmp_path):
        assert list(read_frame(self.write(tmp_path, "s.csv", "y , g\n1, 2\n"))) == ["y", "g"]

    def test_a_point_is_missing_among_numbers_and_a_word_in_text(self, tmp_path):
        """As SAS and R write missing values; a column of truth values holds numbers too."""
        text = "y,n,k,t,all\n1.5,1,a,TRUE,.\n.,.,.,.,.\nNA,NA,NA,NA,NA\n .,3,b,false,.\n"
        frame = read_frame(self.write(tmp_path, "sas.csv", text))
        assert frame["y"].dtype == frame["n"].dtype == frame["all"].dtype == float
        assert frame["y"].isna().tolist() == [False, True, True, True]
        assert frame["n"].isna().tolist() == [False, True, True, False]
        assert frame["k"].isna().tolist() == [False, False, True, False]
        assert frame["k"].tolist()[1] == "."
        assert frame["t"].isna().tolist() == [False, True, True, False]
        assert frame["all"].isna().all()
        semicolons = read_frame(self.write(tmp_path, "euro.csv", "y;z\n1,5;0.5\n.;.\n"))
        assert semicolons["y"].tolist()[0] == 1.5
        assert semicolons["z"].tolist()[0] == 0.5
        assert semicolons.iloc[1].isna().all()

    def test_long_identifiers_keep_their_digits(self, tmp_path):
        """Beyond 2^53 a column with missing values would lose them as doubles; whole numbers of 5,000 digits are words too."""
        long = "9" * 5000
        text = f"a,b,c\n12345678901234567890,{long},9007199254740993\n12345678901234567891,1,9007199254740995\nNA,2,7\n"
        frame = read_frame(self.write(tmp_path, "ids.csv", text))
        assert frame["a"].tolist()[:2] == ["12345678901234567890", "12345678901234567891"]
        assert frame["b"].tolist() == [long, "1", "2"]
        assert frame["c"].tolist() == [9007199254740993, 9007199254740995, 7]

    def test_a_last_row_that_holds_another_kind_of_line_end(self, tmp_path):
        frame = read_frame(self.write(tmp_path, "lines.csv", "y,k\n1,a\n2,b\u2028c"))
        assert frame["k"].tolist() == ["a", "b\u2028c"]

    def test_thirty_thousand_columns(self, tmp_path):
        """The search for names that stand twice took time with the square of their number."""
        header = ",".join(["y", "g", *(f"c{k}" for k in range(30_000))])
        path = self.write(tmp_path, "wide.csv", header + "\n" + (",".join(["1"] * 30_002) + "\n") * 2)
        start = time.process_time()
        assert read_frame(path).shape == (2, 30_002)
        assert time.process_time() - start < 10

    def test_two_hundred_thousand_rows_in_less_than_a_second(self, tmp_path):
        """A million take 0.8 s; word by word they took 26."""
        random = np.random.default_rng(1)
        frame = pd.DataFrame(random.normal(size=(200_000, 2)), columns=["y", "x"]).assign(g=np.arange(200_000) // 20)
        frame["sex"] = random.choice(["girl", "boy", "."], len(frame))
        frame.to_csv(tmp_path / "rows.csv", index=False)
        start = time.process_time()
        read = read_frame(tmp_path / "rows.csv")
        assert time.process_time() - start < 1
        pd.testing.assert_frame_equal(read, frame, check_dtype=False)

    def test_a_pipe_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(DataError, match=r"pipe\.csv is a pipe or a device; give a file"):
            read_frame(tmp_path / "pipe.csv")

    def test_names_that_no_file_can_have(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_frame(tmp_path / "a\0b.csv")
        with pytest.raises(DataError, match="cannot be read"):
            read_frame(tmp_path / ("a" * 300 + ".csv"))


class TestCommand:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "rows.csv"
        frame = rows()
        frame.loc[0, "x"] = np.nan
        frame.to_csv(path, index=False)
        return path

    def test_text(self, path):
        lines = fit_command(path, MODEL, ml=False, df="z", as_json=False).splitlines()
        assert lines[:3] == [
            "Linear mixed model fit by REML ['lmerMod']",
            "Formula: y ~ x + (1 | g)",
            "   Data: rows.csv",
        ]
        assert lines[-1] == "  (1 observation deleted due to missingness)"

    def test_json(self, path):
        result = json.loads(fit_command(path, "y~x  + (1|g)", ml=True, df="between-within", as_json=True))
        assert {k: result[k] for k in ("formula", "clusters", "rows", "balanced")} == {
            "formula": "y~x + (1|g)",
            "clusters": 8,
            "rows": 39,
            "balanced": False,
        }
        assert result["ML"]["dropped"] == 1
        assert result["ML"]["df"] == [7, 30]
        assert result["ML"]["df_rule"] == "between-within"

    def test_json_holds_null_for_what_is_not_finite(self, path):
        text = fit_command(path, MODEL, ml=False, df="z", as_json=True)
        assert json.loads(text, parse_constant=pytest.fail)["REML"]["df"] == [None, None]

    def test_unknown_rule(self, path):
        with pytest.raises(
            DataError, match="df = 'welch': allowed are z, residual, between-within, satterthwaite and kenward-roger"
        ):
            fit_command(path, MODEL, ml=False, df="welch", as_json=False)


def test_model_matrices_keep_the_rows_and_their_labels():
    frame = rows(3, 2).set_index(pd.Index(list("abcdef")))
    frame.loc["b", "x"] = np.nan
    m = model_matrices("y ~ x + z + (1 + x | g)", frame)
    assert (m.response, m.group, m.fixed_names, m.random_names) == (
        "y",
        "g",
        ("Intercept", "x", "z"),
        (("Intercept", "x"),),
    )
    assert (list(m.index), m.dropped, m.groups.tolist(), m.group_labels) == (
        list("acdef"),
        1,
        [0, 1, 1, 2, 2],
        ("0", "1", "2"),
    )
    assert m.terms == ("(1 + x | g)",)
    np.testing.assert_array_equal(m.X, np.column_stack([np.ones(5), frame.drop("b")[["x", "z"]]]))
    np.testing.assert_array_equal(m.Z[0], m.X[:, :2])
    np.testing.assert_array_equal(m.y, frame.drop("b")["y"])
