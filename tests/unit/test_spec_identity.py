"""Keys and descriptions: what they depend on, and golden values, which must never change unless a version is raised."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.spec import identity
from nestlab.spec.formula import parse_formula
from nestlab.spec.identity import (
    canonical_json,
    data_key,
    describe,
    draw_rules,
    flatten,
    key_words,
    layout_key,
    result_key,
)
from nestlab.spec.model import Condition, Distribution, Errors, Layout, Method, Predictor, Sizes, Truth
from nestlab.spec.predictors.categories import contrast_values
from nestlab.spec.study import StudyFile

FORMULA = parse_formula("y ~ x*z + (1 + x | g)")

CONDITION = Condition(
    factors={"clusters": 3},
    seed=7,
    layout=Layout((5, 5, 4)),
    truth=Truth(FORMULA, (1.0, 0.5, 0.0, -0.25), ((1.0, 0.3), (0.3, 2.0)), 4.0),
    predictors=(Predictor("x", 1, "normal", 0.0, 1.0), Predictor("z", 2, "balanced", redraw=False)),
    path="moments",
    block_size=512,
)

METHOD = Method("reml", FORMULA)


def with_truth(**changes: Any) -> Condition:
    return replace(CONDITION, truth=replace(CONDITION.truth, **changes))


def test_canonical_json_stages() -> None:
    text = canonical_json({"b": (1, -0.0), "a": {"y": None, "x": True}, "c": "é", "d": 1e-7})
    assert text == '{"a":{"x":true,"y":null},"b":[1,0.0],"c":"\\u00e9","d":1e-07}'
    assert json.loads(text)["c"] == "é"
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json([bad])


def test_data_key_stages() -> None:
    """The identity that the key is the sha256 of, written out."""
    text = (
        '{"block_size":512,"draw_version":1,"layout":[[2,5],[1,4]],"path":"moments",'
        '"predictors":{"x":{"distribution":"normal","level":1,"mean":0.0,"redraw":true,"sd":1.0},'
        '"z":{"distribution":"balanced","level":2}},"seed":7,'
        '"truth":{"covariance":[[1.0,0.3],[0.3,2.0]],"fixed":[1.0,0.5,0.0,-0.25],'
        '"formula":{"fixed":["Intercept","x","z","x:z"],"random":[["g",["Intercept","x"]]]},"residual_variance":4.0}}'
    )
    key = hashlib.sha256(text.encode()).hexdigest()
    assert data_key(CONDITION) == key
    words = key_words(key)
    assert "".join(f"{word:08x}" for word in words) == key
    assert len(words) == 8


def test_golden_keys() -> None:
    """A change of these orphans every stored result: raise DRAW_VERSION or NUMERICS_VERSION instead."""
    assert (identity.DRAW_VERSION, identity.NUMERICS_VERSION) == (1, 3)
    key = data_key(CONDITION)
    assert key == "8649197353799908c2a15109ef6252abbb664338d2be3630f7a770f25f5d3da1"
    assert layout_key(CONDITION, "x") == "5e3b448c4e343b672e9c40dd67432dd0444c520fd9ae06d15e769eae920914ce"
    assert result_key(key, METHOD) == "00f318bca3049f869fa007301fe674c81fd1529c6539240922bd367e164ee94a"
    assert key_words(key)[:2] == (2252937587, 1400477960)


SAME: dict[str, Condition] = {
    "factors": replace(CONDITION, factors={}),
    "spelling": with_truth(formula=parse_formula("y~1+x+z + x:z+(x|g)")),
    "response": with_truth(formula=parse_formula("score ~ x*z + (1 + x | g)")),
    "negative zero": with_truth(fixed=(1.0, 0.5, -0.0, -0.25)),
    "whole numbers": with_truth(fixed=(1, 0.5, 0, -0.25), covariance=((1, 0.3), (0.3, 2)), residual_variance=4),
    "numbers of a balanced predictor": replace(
        CONDITION, predictors=(Predictor("x", 1, "normal", 0, 1), Predictor("z", 2, "balanced", 1.0, 2.0, redraw=False))
    ),
    "held": replace(CONDITION, held={"Intercept:x": 0.5}),
}

OTHER: dict[str, Condition] = {
    "seed": replace(CONDITION, seed=8),
    "sizes": replace(CONDITION, layout=Layout((5, 4, 5))),
    "path": replace(CONDITION, path="rows"),
    "block": replace(CONDITION, block_size=256),
    "fixed": with_truth(fixed=(1.0, 0.5, 0.0, 0.25)),
    "covariance": with_truth(covariance=((1.0, 0.3), (0.3, 2.0000000000000004))),
    "residual": with_truth(residual_variance=4.5),
    "random terms": with_truth(formula=parse_formula("y ~ x*z + (1 | g) + (0 + x | g)")),
    "term name": with_truth(formula=parse_formula("y ~ x + z + z:x + (1 + x | g)")),
    "group": with_truth(formula=parse_formula("y ~ x*z + (1 + x | school)")),
    "predictor": replace(CONDITION, predictors=(Predictor("x", 1, "normal", 0.5), CONDITION.predictors[1])),
    "redraw": replace(CONDITION, predictors=(Predictor("x", 1, "normal", redraw=False), CONDITION.predictors[1])),
}


@pytest.mark.parametrize("what", SAME)
def test_data_key_ignores(what: str) -> None:
    assert data_key(SAME[what]) == data_key(CONDITION)


@pytest.mark.parametrize("what", OTHER)
def test_data_key_depends_on(what: str) -> None:
    assert data_key(OTHER[what]) != data_key(CONDITION)


def test_conditions_that_a_rule_draws_otherwise_have_keys_of_their_own() -> None:
    """Only autocorrelated errors with a shape; the key is that of the identity with the rule, beside the same draw version."""
    shape = Distribution("gamma", (("skewness", 2.0),))
    for errors in (Errors(), Errors(ar1=0.5), Errors(shape), Errors(shape, cluster_cv=0.3)):
        assert draw_rules(with_truth(errors=errors)) == []
        assert "draw_rules" not in describe(with_truth(errors=errors))
    both = with_truth(errors=Errors(shape, ar1=0.5))
    assert draw_rules(both) == ["ar1 of scores"]
    assert describe(both)["draw_rules"] == "ar1 of scores"
    assert data_key(both) == "1fc329122c181091621a9b7d7a9f1ec1dd0c986085168e9dc875194e580ac497"
    assert (
        data_key(with_truth(errors=Errors(ar1=0.5)))
        == "84263968cd22879198101128ba93b5e6e84a09c1c758c9ce4f05c4f77201179b"
    )


def test_odd_numbers_of_rows_of_a_balanced_predictor_are_drawn_by_a_rule() -> None:
    inner = Predictor("x", 1, "balanced", redraw=False)

    def rules(sizes: tuple[int, ...], predictor: Predictor = inner, drawn: Any = ()) -> list[str]:
        return draw_rules(replace(CONDITION, layout=Layout(sizes, drawn), predictors=(predictor,)))

    assert rules((5, 5, 4)) == rules((4, 4), drawn=((2, Sizes("poisson", 4.0)),)) == ["odd rows alternate"]
    assert rules((4, 4, 6)) == rules((4, 4, 6), drawn=((2, None), (1, None))) == []
    assert rules((5, 5, 5), Predictor("x", 2, "balanced")) == rules((5, 5, 5), Predictor("x", 1, "normal")) == []


@pytest.mark.parametrize(("coding", "names"), [("treatment", "bc"), ("sum", "ab"), ("helmert", "bc")])
def test_a_column_is_named_by_the_category_that_it_compares(coding: Any, names: str) -> None:
    """Its value there is above 0; in the categories that it is compared with, 0 or below."""
    k = Predictor("k", 1, "categorical", categories=("a", "b", "c"), shares=(0.2, 0.3, 0.5), coding=coding)
    assert k.columns == tuple(f"k[{name}]" for name in names)
    values = contrast_values(k)
    for column, name in enumerate(names):
        own = "abc".index(name)
        assert values[own, column] > 0
        assert (np.delete(values[:, column], own) <= 0).all()


def test_keys_depend_on_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_key(CONDITION), layout_key(CONDITION, "x"), result_key("a", METHOD)
    monkeypatch.setattr(identity, "DRAW_VERSION", 99)
    monkeypatch.setattr(identity, "NUMERICS_VERSION", 99)
    after = data_key(CONDITION), layout_key(CONDITION, "x"), result_key("a", METHOD)
    assert not set(before) & set(after)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda c: with_truth(residual_variance=1.0), True),
        (lambda c: replace(c, block_size=16, path="rows"), True),
        (lambda c: replace(c, predictors=(c.predictors[0],)), True),
        (lambda c: replace(c, seed=8), False),
        (lambda c: replace(c, layout=Layout((5, 5, 5))), False),
        (lambda c: replace(c, predictors=(Predictor("x", 1, "normal", 1.0),)), False),
    ],
)
def test_layout_key_is_shared_along_a_power_curve(change: Callable[[Condition], Condition], same: bool) -> None:
    assert (layout_key(change(CONDITION), "x") == layout_key(CONDITION, "x")) is same


def test_predictors_of_one_definition_have_their_own_layout_keys() -> None:
    twins = replace(CONDITION, predictors=(Predictor("x", 1, "normal"), Predictor("z", 1, "normal")))
    assert layout_key(twins, "x") != layout_key(twins, "z")


def test_result_key() -> None:
    key = data_key(CONDITION)
    same = [replace(METHOD, name="other"), replace(METHOD, alpha=0.1)]
    same.append(replace(METHOD, formula=parse_formula("y ~ 1+x+z+x:z + (x|g)")))
    other = [replace(METHOD, reml=False), replace(METHOD, df=("between-within",))]
    other.append(replace(METHOD, formula=parse_formula("y ~ x*z + (1 | g)")))
    assert {result_key(key, method) for method in [METHOD, *same]} == {result_key(key, METHOD)}
    assert len({result_key(key, method) for method in [METHOD, *other]} | {result_key("0", METHOD)}) == 5


def test_result_key_of_methods_by_rows_and_of_selection() -> None:
    """All that decides what they give; a level that no test uses is not part of it."""
    small = parse_formula("y ~ x*z + (1 | g)")
    gee = replace(METHOD, estimator="gee")
    own = replace(METHOD, estimator="function", function="a:f", digest="1")
    lrt = replace(METHOD, select="lrt", compare=small)
    aic = replace(lrt, select="aic")
    different = [
        METHOD, replace(METHOD, compare=small), gee, replace(gee, working="ar1"), replace(gee, covariance="naive"), own,
        replace(own, function="a:g"), replace(own, digest="2"), lrt, replace(lrt, select_alpha=0.1),
        replace(lrt, reference="chisq"), replace(lrt, compare=parse_formula("y ~ x*z")), aic,
    ]  # fmt: skip
    assert len({result_key("0", method) for method in different}) == len(different)
    assert result_key("0", replace(aic, select_alpha=0.1)) == result_key("0", aic)
    assert result_key("0", replace(METHOD, select_alpha=0.1, working="ar1", covariance="naive")) == result_key(
        "0", METHOD
    )


def test_describe_in_the_study_file_s_words() -> None:
    assert describe(CONDITION) == {
        "seed": 7,
        "path": "moments",
        "block_size": 512,
        "draw_version": 1,
        "design": {"clusters": 3, "cluster_size": [5, 5, 4]},
        "truth": {
            "formula": "y ~ 1 + x + z + x:z + (1 + x | g)",
            "fixed": {"Intercept": 1.0, "x": 0.5, "z": 0.0, "x:z": -0.25},
            "random": {
                "g": {
                    "variance": {"Intercept": 1.0, "x": 2.0},
                    "correlation": {"Intercept:x": pytest.approx(0.3 / 2**0.5, rel=1e-15)},
                }
            },
            "residual_variance": 4.0,
        },
        "predictors": {
            "x": {"level": 1, "distribution": "normal", "mean": 0.0, "sd": 1.0, "redraw": True},
            "z": {"level": 2, "distribution": "balanced"},
        },
    }
    assert flatten(describe(CONDITION))["truth.random.g.variance.x"] == 2.0
    assert flatten(describe(CONDITION))["design.cluster_size"] == [5, 5, 4]
    assert describe(replace(CONDITION, layout=Layout((5, 5))))["design"] == {"clusters": 2, "cluster_size": 5}


STUDY: dict[str, Any] = {
    "name": "s",
    "seed": 3,
    "replications": 10,
    "design": {"clusters": 8, "cluster_size": 5},
    "truth": {
        "formula": "y ~ x + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 1},
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 1, "x": 3}, "correlation": {"Intercept:x": 0.26}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}
CORRELATION = "truth.random.g.correlation.Intercept:x"


def conditions(grid: dict[str, Any]) -> tuple[Condition, ...]:
    return StudyFile.from_dict({**copy.deepcopy(STUDY), "grid": grid}).conditions()


def test_described_correlation_is_the_one_in_the_file() -> None:
    """0.26 and not 0.26000000000000006; and where a variance is 0, which hides it in the covariance, too."""
    for grid in ({}, {"icc": [0.1, 0.3, 0.0]}, {"slope_variance_ratio": [0.0, 0.7]}):
        for condition in conditions(grid):
            assert flatten(describe(condition))[CORRELATION] == 0.26


def test_a_description_is_json() -> None:
    assert json.loads(canonical_json(describe(CONDITION))) == describe(CONDITION)


def test_new_levels_leave_old_keys_alone() -> None:
    few = {data_key(condition) for condition in conditions({"icc": [0.1, 0.3], "clusters": [4, 8]})}
    many = {data_key(condition) for condition in conditions({"clusters": [8, 6, 4], "icc": [0.3, 0.2, 0.1]})}
    assert few < many
    assert len(many) == 9


@given(st.floats(-0.999, 0.999), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_description_reads_back(correlation: float, a: float, b: float) -> None:
    """The correlation that a description gives makes the same covariance, but for rounding."""
    tables = copy.deepcopy(STUDY)
    tables["truth"]["random"]["g"] = {"variance": {"Intercept": a, "x": b}, "correlation": {"Intercept:x": correlation}}
    (condition,) = StudyFile.from_dict(tables).conditions()
    tables["truth"]["random"]["g"] = describe(condition)["truth"]["random"]["g"]
    (again,) = StudyFile.from_dict(tables).conditions()
    assert again.truth.covariance[0][1] == pytest.approx(condition.truth.covariance[0][1], rel=1e-15, abs=1e-300)
