"""Study files that are good: what they mean, and what is filled in."""

from __future__ import annotations

import copy
import doctest
import importlib
import pickle
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Layout, Method, Predictor
from nestlab.spec.study import StudyError, StudyFile
from nestlab.spec.writing import to_toml

ARTICLE = """
name = "article"
title = "A random slope, over clusters, sizes, intraclass correlation and slope correlation"
seed = 707
replications = 2000

[design]
clusters = 20
cluster_size = 50

[grid]
clusters = [10, 20, 50]
icc = [0.1, 0.3]
slope_correlation = [0.0, 0.3]
"truth.fixed.x" = [0.0, 0.2]

[truth]
formula = "y ~ 1 + x + (1 + x | cluster)"
fixed = { Intercept = 2, x = 5 }
residual_variance = 3
[truth.random.cluster]
variance = { Intercept = 5, x = 3 }
correlation = { "Intercept:x" = 0.26 }

[predictors.x]
level = 1
distribution = "normal"
redraw = true

[[method]]
name = "reml"
estimator = "lmm"
reml = true
"""

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "replications": 10,
    "design": {"clusters": 4, "cluster_size": 5},
    "truth": {
        "formula": "y ~ x + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 1},
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 1, "x": 4}, "correlation": {"Intercept:x": 0.5}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}


def small(**tables: Any) -> StudyFile:
    return StudyFile.from_dict({**SMALL, **tables})


def truth(**changes: Any) -> dict[str, Any]:
    return {**SMALL["truth"], **changes}


@pytest.fixture
def article(tmp_path: Path) -> Path:
    path = tmp_path / "article.toml"
    path.write_text(ARTICLE, encoding="utf-8")
    return path


def test_article_study(article: Path) -> None:
    study = StudyFile.from_toml(article)
    conditions, methods = study.conditions(), study.methods()
    assert (study.name, study.seed, study.replications, study.mcse) == ("article", 707, 2000, "distribution-free")
    assert len(conditions) == 24
    assert methods == (Method("reml", parse_formula("y ~ 1 + x + (1 + x | cluster)")),)
    last = conditions[-1]
    assert last.factors == {"clusters": 50, "icc": 0.3, "slope_correlation": 0.3, "truth.fixed.x": 0.2}
    assert last.layout == Layout((50,) * 50)
    assert last.truth.fixed == (2.0, 0.2)
    assert last.truth.residual_variance == 3.0
    (tau, cov), (_, slope) = last.truth.covariance
    assert tau / (tau + 3) == pytest.approx(0.3, rel=1e-15)
    assert slope == 3.0
    assert cov == pytest.approx(0.3 * (tau * 3) ** 0.5, rel=1e-15)
    assert last.predictors == (Predictor("x", 1, "normal"),)
    assert (last.seed, last.path, last.block_size) == (707, "moments", 512)


def test_overrides_replace_the_file(article: Path) -> None:
    study = StudyFile.from_toml(article, seed=5, replications=7)
    assert (study.seed, study.replications) == (5, 7)
    assert {condition.seed for condition in study.conditions()} == {5}
    with pytest.raises(StudyError, match="replications = 0: must be a whole number >= 1"):
        StudyFile.from_toml(article, replications=0)


def test_byte_order_mark_and_line_ends_do_not_matter(article: Path) -> None:
    plain = StudyFile.from_toml(article)
    article.write_bytes(b"\xef\xbb\xbf" + ARTICLE.replace("\n", "\r\n").encode())
    assert StudyFile.from_toml(article).conditions() == plain.conditions()


def test_defaults() -> None:
    study = small()
    assert (study.title, study.mcse) == ("", "distribution-free")
    (method,) = study.methods()
    assert (method.name, method.estimator, method.reml, method.df, method.alpha) == (
        *("reml", "lmm", True),
        *(("satterthwaite",), 0.05),
    )
    (condition,) = study.conditions()
    assert method.formula == condition.truth.formula
    assert condition.factors == {}
    assert condition.predictors == (Predictor("x", 1, "normal", 0.0, 1.0, redraw=True),)


def test_methods_in_order() -> None:
    methods = [
        {"name": "b", "reml": False, "alpha": 0.1},
        {"name": "a", "formula": "y ~ x + (1 | g)", "df": "between-within"},
    ]
    b, a = small(method=methods).methods()
    assert (b.name, b.reml, b.alpha) == ("b", False, 0.1)
    assert (a.name, a.df, a.formula.random_columns) == ("a", ("between-within",), ("Intercept",))


def test_integers_are_floats_and_numpy_is_welcome() -> None:
    numbers = small(
        design={"clusters": np.int64(4), "cluster_size": (5, 6, 7, 8)},
        grid={"truth.fixed.x": np.array([0, 1]), "icc": (0.1, np.float64(0.2))},
    )
    assert [condition.truth.fixed[1] for condition in numbers.conditions()] == [0.0, 0.0, 1.0, 1.0]
    assert all(type(value) is float for condition in numbers.conditions() for value in condition.truth.fixed)
    assert numbers.conditions()[0].layout.sizes == (5, 6, 7, 8)
    assert small(grid={"clusters": range(2, 5)}).conditions()[2].layout.clusters == 4


@pytest.mark.parametrize(
    "random",
    [
        {"variance": {"Intercept": 1, "x": 4}, "correlation": {"Intercept:x": 0.5}},
        {"variance": {"x": 4, "Intercept": 1}, "correlation": {"x:Intercept": 0.5}},
        {"sd": {"Intercept": 1, "x": 2}, "correlation": {"Intercept:x": 0.5}},
        {"covariance": [[1, 1], [1, 4]]},
    ],
)
def test_covariance_in_all_its_forms(random: dict[str, Any]) -> None:
    (condition,) = small(truth=truth(random={"g": random})).conditions()
    assert condition == small().conditions()[0]
    assert condition.truth.covariance == ((1.0, 1.0), (1.0, 4.0))


def test_given_covariance_is_kept_to_the_last_bit() -> None:
    matrix = [[5, 0.3], [0.3, 1.7]]
    (condition,) = small(truth=truth(random={"g": {"covariance": matrix}})).conditions()
    assert condition.truth.covariance == ((5.0, 0.3), (0.3, 1.7))


def test_residual_sd_is_squared() -> None:
    tables = copy.deepcopy(SMALL)
    del tables["truth"]["residual_variance"]
    tables["truth"]["residual_sd"] = 3
    assert StudyFile.from_dict(tables).conditions()[0].truth.residual_variance == 9.0


def test_separate_random_terms_are_uncorrelated() -> None:
    apart = truth(formula="y ~ x + (0 + x | g) + (1 | g)", random={"g": {"variance": {"Intercept": 1, "x": 4}}})
    (condition,) = small(truth=apart).conditions()
    assert condition.truth.formula.random_columns == ("x", "Intercept")
    assert condition.truth.covariance == ((4.0, 0.0), (0.0, 1.0))


def test_terms_are_found_in_any_order_of_factors() -> None:
    tables = {
        "truth": {
            "formula": "y ~ x*z + (1 + x:w | g)",
            "fixed": {"z:x": 0.5, "z": 2, "x": 1, "Intercept": 0},
            "residual_variance": 1,
            "random": {"g": {"variance": {"Intercept": 1, "w:x": 2}, "correlation": {"w:x:Intercept": 0.1}}},
        },
        "predictors": {
            "x": {"level": 1, "distribution": "normal"},
            "w": {"level": 1, "distribution": "balanced"},
            "z": {"level": 2, "distribution": "normal", "mean": 3, "sd": 2, "redraw": False},
        },
        "grid": {"truth.fixed.z:x": [0.5, 1]},
    }
    first, second = small(**tables).conditions()
    assert first.truth.formula.fixed == ("Intercept", "x", "z", "x:z")
    assert (first.truth.fixed, second.truth.fixed) == ((0.0, 1.0, 2.0, 0.5), (0.0, 1.0, 2.0, 1.0))
    assert first.truth.covariance[0][1] == pytest.approx(0.1 * 2**0.5)
    assert [p.name for p in first.predictors] == ["w", "x", "z"]
    assert first.predictor("z") == Predictor("z", 2, "normal", 3.0, 2.0, redraw=False)
    assert not first.predictor("w").redraw


def product(formula: str, level_z: int) -> StudyFile:
    parsed = parse_formula(formula)
    return small(
        truth={
            "formula": formula,
            "fixed": dict.fromkeys(parsed.fixed, 1.0),
            "residual_variance": 1,
            "random": {"g": {"variance": dict.fromkeys(parsed.random_columns, 1.0)}},
        },
        predictors={
            "x": {"level": 1, "distribution": "normal"},
            "z": {"level": level_z, "distribution": "normal"},
        },
    )


@pytest.mark.parametrize(
    ("formula", "level_z", "path"),
    [
        ("y ~ x + z + (1 | g)", 1, "moments"),
        ("y ~ x*z + (1 | g)", 1, "rows"),
        ("y ~ x*z + (1 | g)", 2, "moments"),
        ("y ~ x + (0 + x:z | g)", 1, "rows"),
    ],
)
def test_path_follows_from_the_truth(formula: str, level_z: int, path: str) -> None:
    assert product(formula, level_z).conditions()[0].path == path


def test_level_1_products_of_a_method_need_rows_and_no_more() -> None:
    study = product("y ~ x*z + (1 | g)", 1)
    other = {**study.to_dict(), "method": [{"name": "a", "formula": "y ~ x + z + (1 + x:z | g)"}]}
    assert StudyFile.from_dict(other).conditions()[0].path == "rows"


# One level-1 predictor: d = 2, 6 doubles a cluster and replicate; 32 MiB / (6 x 8 x 512) = 1365.3 clusters.
@pytest.mark.parametrize(
    ("clusters", "size"),
    [(20, 512), (1365, 512), (1366, 256), (2730, 256), (2731, 128), (10_000, 64), (100_000, 16)],
)
def test_block_size_bounds_the_memory_of_a_block(clusters: int, size: int) -> None:
    assert small(design={"clusters": clusters, "cluster_size": 5}).conditions()[0].block_size == size


def test_file_reads_back_from_toml_and_dict(article: Path) -> None:
    study = StudyFile.from_toml(article, seed=11)
    assert StudyFile.from_dict(study.to_dict()).resolve() == study.resolve()
    again = article.with_name("again.toml")
    again.write_text(study.to_toml(), encoding="utf-8")
    assert StudyFile.from_toml(again).resolve() == study.resolve()
    assert StudyFile.from_toml(again).to_dict() == study.to_dict()


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_toml_text_reads_back(tables: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(tables)) == tables


def test_a_study_made_by_hand_is_checked_when_it_is_resolved() -> None:
    study = small()
    wrong = study.model_copy(update={"grid": {"iccc": [0.1]}})
    with pytest.raises(StudyError, match=r"grid\.iccc"):
        wrong.conditions()


def test_conditions_travel_between_processes() -> None:
    resolved = small(grid={"icc": [0.1, 0.2]}).resolve()
    assert pickle.loads(pickle.dumps(resolved)) == resolved
    assert pickle.loads(pickle.dumps(resolved)).conditions[1].factors == {"icc": 0.2}


def test_factors_are_no_part_of_a_condition() -> None:
    condition = small(grid={"icc": [0.1]}).conditions()[0]
    assert condition == replace(condition, factors={"other": 1})


def test_ten_thousand_conditions_expand() -> None:
    grid = {
        "clusters": list(range(10, 60)),
        "icc": [i / 20 for i in range(1, 11)],
        "truth.fixed.x": [i / 10 for i in range(20)],
    }
    assert len(small(grid=grid).conditions()) == 10_000


@pytest.mark.parametrize(
    "room",
    [
        "axes",
        "checks",
        "covariance",
        "estimands",
        "formula",
        "grid",
        "identity",
        "problems",
        "study",
        "values",
        "writing",
    ],
)
def test_examples_in_the_docstrings(room: str) -> None:
    assert doctest.testmod(importlib.import_module(f"nestlab.spec.{room}")).failed == 0
