"""Study files of data as they are: what their keys become, the path, identity, axes, and files of data."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.search.designs import Bench
from nestlab.show.report.predictors import missing_text, noise_text, predictor_text
from nestlab.simulate.centres import centres_of
from nestlab.spec.axes import axis_paths
from nestlab.spec.factors import expand, study_formula
from nestlab.spec.formula import FormulaError, formula_text, parse_formula
from nestlab.spec.identity import (
    DERIVED_PATHS,
    canonical_json,
    data_key,
    describe,
    flatten,
    layout_key,
    result_key,
    sizes_key,
)
from nestlab.spec.model import Condition, Distribution, Errors, Layout, Missing, Predictor, Sizes
from nestlab.spec.paths import block_size, is_plain, path_line, path_reasons
from nestlab.spec.study import StudyError, StudyFile
from nestlab.spec.truths import TrueValues, true_values

BASE: dict[str, Any] = {
    "name": "s",
    "seed": 3,
    "replications": 10,
    "design": {"clusters": 8, "cluster_size": 6},
    "truth": {
        "formula": "y ~ x + z + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 1, "z": 0.5},
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 1, "x": 3}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}, "z": {"level": 2, "distribution": "normal"}},
}


def tables(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with values changed by "table/key"."""
    found = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("/")
        holder = found
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = copy.deepcopy(value)
    return found


def conditions(changes: dict[str, Any]) -> tuple[Condition, ...]:
    return StudyFile.from_dict(tables(changes)).conditions()


def one(changes: dict[str, Any]) -> Condition:
    (condition,) = conditions(changes)
    return condition


SIZE, X, Z, R = "design/cluster_size", "predictors/x", "predictors/z", "truth/random"
K = {
    "truth/formula": "y ~ x + k + (1 + x | g)",
    "truth/fixed": {"Intercept": 0, "x": 1, "k[b]": 0.5, "k[c]": 0.25},
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "k": {"level": 2, "distribution": "categorical", "categories": ["a", "b", "c"]},
    },
}


def with_z(**table: Any) -> dict[str, Any]:
    return {Z: table}


# -- what keys become ------------------------------------------------------------------------------------------------------

LOGNORMAL = {"distribution": "lognormal", "mean": 20, "cv": 0.5}
SIZES: list[tuple[Any, Layout]] = [
    ({"distribution": "poisson", "mean": 19.6}, Layout((20,) * 8, ((8, Sizes("poisson", 19.6)),))),
    (
        {"distribution": "negative-binomial", "mean": 20, "cv": 0.8, "minimum": 2, "redraw": False},
        Layout((20,) * 8, ((8, Sizes("negative-binomial", 20, 0.8, minimum=2, redraw=False)),)),
    ),
    (LOGNORMAL, Layout((20,) * 8, ((8, Sizes("lognormal", 20, 0.5)),))),
    ({**LOGNORMAL, "cv": 0}, Layout((20,) * 8)),
    ({"distribution": "uniform", "mean": 10, "cv": 0.3}, Layout((10,) * 8, ((8, Sizes("uniform", 10, 0.3)),))),
    ({"values": [3, 8, 8], "minimum": 4}, Layout((7,) * 8, ((8, Sizes("empirical", values=(3, 8, 8), minimum=4)),))),
    ({"values": [5, 5]}, Layout((5,) * 8)),
]


@pytest.mark.parametrize(("size", "layout"), SIZES)
def test_cluster_sizes(size: Any, layout: Layout) -> None:
    found = one({SIZE: size}).layout
    assert found == layout
    assert found.redrawn == any(s is not None and s.redraw for _, s in layout.drawn)


def test_sizes_by_arm_and_counts_of_clusters() -> None:
    arms = with_z(distribution="arms", clusters=[5, 3])
    found = one({**arms, SIZE: {"arms": [1, LOGNORMAL]}})
    assert found.layout == Layout((1,) * 5 + (20,) * 3, ((5, None), (3, Sizes("lognormal", 20, 0.5))))
    assert found.predictor("z") == Predictor("z", 2, "arms", redraw=False, arms=(5, 3))
    assert one({**arms, SIZE: {"arms": [4, 9]}}).layout == Layout((4,) * 5 + (9,) * 3)
    absent = one({**with_z(distribution="arms", clusters=[6, 4]), "design": {"cluster_size": 5}})
    assert absent.layout == Layout((5,) * 10)
    assert one(with_z(level=2, distribution="arms", clusters=[5, 3], redraw=True)).predictor("z").redraw


PREDICTORS: list[tuple[dict[str, Any], Predictor]] = [
    (
        {"level": 2, "distribution": "t", "df": 5, "mean": 1, "sd": 2},
        Predictor("z", 2, "t", 1.0, 2.0, shape=(("df", 5.0),)),
    ),
    (
        {"level": 1, "distribution": "gamma", "skewness": -1.5, "icc": 0.2},
        Predictor("z", 1, "gamma", shape=(("skewness", -1.5),), icc=0.2),
    ),
    (
        {"level": 2, "distribution": "contaminated", "share": 0.1, "ratio": 3, "redraw": False},
        Predictor("z", 2, "contaminated", redraw=False, shape=(("share", 0.1), ("ratio", 3.0))),
    ),
    ({"level": 2, "distribution": "gamma", "skewness": 0, "sd": 2}, Predictor("z", 2, "normal", sd=2.0)),
    ({"level": 2, "distribution": "contaminated", "share": 0, "ratio": 3}, Predictor("z", 2, "normal")),
    ({"level": 2, "distribution": "uniform"}, Predictor("z", 2, "uniform")),
    ({"level": 1, "distribution": "binary", "share": 0.3, "icc": 0.1}, Predictor("z", 1, "binary", mean=0.3, icc=0.1)),
    ({"level": 2, "distribution": "balanced", "redraw": True}, Predictor("z", 2, "balanced")),
    ({"level": 2, "distribution": "balanced"}, Predictor("z", 2, "balanced", redraw=False)),
    ({"distribution": "time"}, Predictor("z", 1, "time", redraw=False)),
    ({"distribution": "time", "start": -1, "step": 0.5}, Predictor("z", 1, "time", -1.0, 0.5, redraw=False)),
    (
        {"level": 2, "distribution": "list", "values": [1, 2]},
        Predictor("z", 2, "list", redraw=False, values=(1.0, 2.0)),
    ),
    ({"level": 1, "distribution": "resampled", "values": [1, 2.5]}, Predictor("z", 1, "resampled", values=(1.0, 2.5))),
    (
        {"distribution": "schedule", "sequences": [[0, 1], [1, 0]], "rows_per_period": 3},
        Predictor("z", 1, "schedule", redraw=False, sequences=((0.0,) * 3 + (1.0,) * 3, (1.0,) * 3 + (0.0,) * 3)),
    ),
    (
        {"distribution": "schedule", "design": "stepped-wedge", "periods": 3, "rows_per_period": 2},
        Predictor(
            "z", 1, "schedule", redraw=False, sequences=((0.0, 0.0, 1.0, 1.0, 1.0, 1.0), (0.0,) * 4 + (1.0,) * 2)
        ),
    ),
    (
        {"distribution": "schedule", "design": "crossover", "periods": 6},
        Predictor("z", 1, "schedule", redraw=False, sequences=((0.0, 1.0) * 3, (1.0, 0.0) * 3)),
    ),
    (
        {"distribution": "schedule", "design": "parallel-baseline", "periods": 6, "baseline": 2},
        Predictor("z", 1, "schedule", redraw=False, sequences=((0.0,) * 6, (0.0,) * 2 + (1.0,) * 4)),
    ),
    (
        {"distribution": "period", "periods": 2, "rows_per_period": 3},
        Predictor("z", 1, "period", redraw=False, values=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0)),
    ),
]


@pytest.mark.parametrize(("table", "predictor"), PREDICTORS)
def test_predictors(table: dict[str, Any], predictor: Predictor) -> None:
    assert one({Z: table}).predictor("z") == predictor


@pytest.mark.parametrize("level", [1, 2])
def test_arms_have_columns_by_coding(level: int) -> None:
    """Three arms are no linear trend: with a coding each but one has a column, and sizes go by arm as before."""
    arms = {"level": level, "distribution": "arms", "clusters": [3, 3, 2], "coding": "treatment"}
    fixed = {"Intercept": 0, "x": 0, "z[1]": 0.5, "z[2]": 1}
    found = one({Z: arms, "truth/fixed": fixed, SIZE: {"arms": [4, 5, 6]}})
    assert found.predictor("z").columns == ("z[1]", "z[2]")
    assert found.truth.formula.fixed == ("Intercept", "x", "z[1]", "z[2]")
    assert found.layout.sizes == (4,) * 3 + (5,) * 3 + (6,) * 2
    study = nl.Study.from_dict(tables({Z: arms, "truth/fixed": fixed, SIZE: {"arms": [4, 5, 6]}}))
    rows = study.data(0, 0, truth=True)
    assert rows.groupby("z").size().to_dict() == {"0": 12, "1": 15, "2": 12}
    effects = 0.5 * (rows["z"] == "1") + 1.0 * (rows["z"] == "2")
    rest = rows["y"] - effects - rows["u:Intercept"] - rows["x"] * rows["u:x"] - rows["e"]
    assert rest.abs().max() < 1e-12
    assert predictor_text(found.predictor("z")).endswith("of 3 + 3 + 2 clusters, as treatment contrasts")
    (again,) = StudyFile.from_dict(tomllib.loads(study.text)).conditions()
    assert data_key(again) == data_key(found)


def test_categories_and_periods_have_columns() -> None:
    found = one(K)
    assert found.truth.formula.fixed == ("Intercept", "x", "k[b]", "k[c]")
    assert found.predictor("k").columns == ("k[b]", "k[c]")
    assert found.predictor("k").shares == (1 / 3,) * 3
    last = {**K["predictors"]["k"], "coding": "sum", "shares": [0.2, 0.3, 0.5]}
    summed = one({**K, "predictors/k": last, "truth/fixed": {"Intercept": 0, "x": 1, "k[a]": 1, "k[b]": 2}})
    assert (summed.predictor("k").columns, summed.predictor("k").shares) == (("k[a]", "k[b]"), (0.2, 0.3, 0.5))
    period = {"distribution": "period", "periods": 3, "rows_per_period": 2, "coding": "treatment"}
    changes = {
        "truth/formula": "y ~ x + z + (1 + x | g)",
        "truth/fixed": {"Intercept": 0, "x": 1, "z[1]": 1, "z[2]": 2},
    }
    made = one({**changes, Z: period})
    assert made.predictor("z").categories == ("0", "1", "2")
    assert dict(zip(made.truth.formula.fixed, made.truth.fixed, strict=True))["z[2]"] == 2


def test_errors_effects_missing_and_correlations() -> None:
    found = one(
        {
            "truth/errors": {
                "distribution": "chi-square",
                "df": 4,
                "cluster_cv": 0.3,
                "ar1": -0.4,
                "variance_ratio": {"z": 2},
            },
            "truth/random/g/distribution": "t",
            "truth/random/g/df": 5,
            "missing": {"rows": 0.1, "at_random": {"on": "x", "intercept": -2, "slope": 0.5, "monotone": True}},
        }
    )
    assert found.truth.errors == Errors(Distribution("chi-square", (("df", 4.0),)), (("z", 2.0),), 0.3, -0.4)
    assert found.truth.random == Distribution("t", (("df", 5.0),))
    assert found.missing == Missing(rows=0.1, at_random=("x", -2.0, 0.5), monotone=True)
    assert one({"missing": {"weibull": {"scale": 5, "shape": 1.2}}}).missing == Missing(weibull=(5.0, 1.2))
    both = one({**with_z(level=1, distribution="binary", share=0.5), "correlation": {"z:x": 0.3}})
    assert both.correlations == (("x", "z", 0.3),)


NOTHING: list[dict[str, Any]] = [
    {"truth/errors": {"distribution": "normal"}},
    {"truth/errors": {"distribution": "gamma", "skewness": 0}},
    {"truth/errors": {"ar1": 0, "cluster_cv": 0, "variance_ratio": {"z": 1}}},
    {"truth/random/g/distribution": "normal"},
    {"missing": {"rows": 0, "clusters": 0, "hazard": 0}},
    {"missing": {}},
    {f"{X}/icc": 0},
    {SIZE: {"distribution": "lognormal", "mean": 6, "cv": 0}},
]


@pytest.mark.parametrize("changes", NOTHING)
def test_what_changes_nothing_has_the_same_key(changes: dict[str, Any]) -> None:
    assert one(changes) == one({})
    assert data_key(one(changes)) == data_key(one({}))
    assert describe(one(changes)) == describe(one({}))


def test_true_values_are_the_stated_ones() -> None:
    """var:residual is the variance where predictors that multiply it are 0, and the mean over clusters; icc follows from it."""
    plain, other = (
        one({}),
        one({"truth/errors": {"distribution": "t", "df": 5, "variance_ratio": {"z": 3}, "cluster_cv": 0.5}}),
    )

    def own(condition: Condition) -> dict[str, float]:
        return true_values(condition, [], centres_of(condition)).shared

    assert own(plain) == pytest.approx(own(other), nan_ok=True)
    assert own(other)["var:residual"] == 2
    assert own(other)["icc"] == pytest.approx(1 / 3)


# -- formulas --------------------------------------------------------------------------------------------------------------


def test_centred_variables_in_formulas() -> None:
    formula = parse_formula("y ~ within( x )*z + between(x) + center(w) + (1 + within(x) || g)")
    assert formula.fixed == ("Intercept", "within(x)", "z", "between(x)", "center(w)", "within(x):z")
    assert [term.columns for term in formula.random] == [("Intercept",), ("within(x)",)]
    assert parse_formula(formula_text(formula)).fixed == formula.fixed
    assert formula.text == "y ~ within( x )*z + between(x) + center(w) + (1 + within(x) || g)"


def test_factors_in_formulas() -> None:
    """The first factor's columns vary fastest, as in R; categories in the text are columns of their own."""
    columns = {"k": ("k[b]", "k[c]"), "p": ("p[1]", "p[2]")}
    expanded = expand(parse_formula("y ~ k*p + (1 + k[b] | g)"), columns)
    products = ("k[b]:p[1]", "k[c]:p[1]", "k[b]:p[2]", "k[c]:p[2]")
    assert expanded.fixed == ("Intercept", "k[b]", "k[c]", "p[1]", "p[2]", *products)
    assert expanded.random_columns == ("Intercept", "k[b]")
    assert expand(parse_formula("y ~ k[c] + k + (1 | g)"), columns).fixed == ("Intercept", "k[c]", "k[b]")
    with pytest.raises(FormulaError, match=r"has 72 fixed terms \(columns: 2 of k, 2 of p\); at most 40"):
        expand(parse_formula("y ~ x*w*v*k*p + (1 | g)"), columns)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y ~ within(y) + (1 | g)", "the response y may not be a predictor"),
        ("y ~ within(x + z) + (1 | g)", r"within\(\.\.\.\) takes one predictor; write within\(x\)"),
        ("y ~ centre(x) + (1 | g)", r"did you mean center\(\.\.\.\)\?"),
        ("y ~ within(x) within(z) + (1 | g)", r'"within\(x\)" and "within" need an operator between them'),
        ("y ~ x[a b] + (1 | g)", r"\[ is not possible here"),
    ],
)
def test_formulas_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(FormulaError, match=reason):
        study_formula(text, {})


def test_terms_of_columns_in_either_order() -> None:
    changes = {**K, "truth/formula": "y ~ x*k + (1 + x | g)"}
    values = {"Intercept": 0, "x": 1, "k[b]": 2, "k[c]": 3, "k[b]:x": 4, "x:k[c]": 5}
    found = one({**changes, "truth/fixed": values, "grid": {"truth.fixed.k[c]:x": [7]}})
    assert dict(zip(found.truth.formula.fixed, found.truth.fixed, strict=True))["x:k[c]"] == 7


def test_dummies_of_clusters_absorb_what_is_constant_in_them() -> None:
    """Means of clusters, categories and arms of level 2."""
    changes = {**K, "truth/formula": "y ~ x*k + between(x) + arm + (1 + x | g)"}
    effects = {"k[b]": 1, "k[c]": 1, "x:k[b]": 1, "x:k[c]": 1, "between(x)": 0, "arm": 0}
    study = tables({**changes, "truth/fixed": {"Intercept": 0, "x": 1, **effects}})
    study["predictors"]["arm"] = {"distribution": "arms", "clusters": [4, 4]}
    method = {"name": "fe", "estimator": "fixed-effects", "df": "residual"}
    (made,) = StudyFile.from_dict({**study, "method": [method]}).methods()
    assert made.formula.fixed == ("x", "x:k[b]", "x:k[c]")


# -- the path --------------------------------------------------------------------------------------------------------------

LEVEL_1 = {"level": 1, "distribution": "normal"}
PRODUCT = {"truth/formula": "y ~ x*z + (1 + x | g)", "truth/fixed": {"Intercept": 0, "x": 1, "z": 1, "x:z": 1}}
PATHS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ()),
    ({"truth/random/g/distribution": "t", "truth/random/g/df": 5}, ()),
    ({"truth/errors": {"cluster_cv": 0.5, "variance_ratio": {"z": 2}}}, ()),
    ({"missing": {"clusters": 0.2}}, ()),
    ({SIZE: LOGNORMAL}, ()),
    ({f"{X}/icc": 0.3}, ()),
    (with_z(level=2, distribution="gamma", skewness=1), ()),
    (with_z(level=1, distribution="gamma", skewness=1, redraw=False), ()),
    ({**with_z(level=1, distribution="normal"), "correlation": {"x:z": 0.3}}, ()),
    (with_z(distribution="time"), ()),
    ({**PRODUCT, **with_z(level=2, distribution="binary", share=0.3)}, ()),
    (
        {
            "truth/formula": "y ~ z*w + x + (1 + x | g)",
            "truth/fixed": {"Intercept": 0, "x": 1, "z": 1, "w": 0, "z:w": 1},
            **with_z(distribution="time"),
            "predictors/w": {"distribution": "schedule", "sequences": [[0, 1]], "rows_per_period": 3},
        },
        (),
    ),
    ({"truth/formula": "y ~ within(x) + z + (1 | g)", "truth/random": {"g": {"variance": {"Intercept": 1}}},
      "truth/fixed": {"Intercept": 0, "within(x)": 1, "z": 1}}, ()),
    ({"truth/errors": {"distribution": "t", "df": 5}}, ("errors are t",)),
    ({"truth/errors": {"ar1": 0.2}}, ("errors are autocorrelated",)),
    ({"truth/errors": {"variance_ratio": {"x": 2}}}, ("the residual variance differs by x within clusters",)),
    ({"missing": {"rows": 0.1, "clusters": 0.1}}, ("rows are missing",)),
    ({"missing": {"hazard": 0.1}}, ("clusters drop out",)),
    (
        {"missing": {"at_random": {"on": "previous", "intercept": -2, "slope": 1}}},
        ("rows are missing at random",),
    ),
    (with_z(level=1, distribution="binary", share=0.3), ("z is binary within clusters",)),
    ({**PRODUCT, Z: LEVEL_1}, ("the truth multiplies level-1 predictors (x:z)",)),
    ({**PRODUCT, **with_z(distribution="time")}, ("the truth multiplies level-1 predictors (x:z)",)),
    (
        {"truth/formula": "y ~ x*z + within(x):x + (1 | g)", "truth/random": {"g": {"variance": {"Intercept": 1}}},
         "truth/fixed": {"Intercept": 0, "x": 1, "z": 1, "x:z": 0, "within(x):x": 1}},
        ("the truth multiplies level-1 predictors (within(x):x)",),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reasons"), PATHS)
def test_the_moments_path_wherever_it_is_exact(changes: dict[str, Any], reasons: tuple[str, ...]) -> None:
    found = one(changes)
    assert path_reasons(found) == reasons
    assert found.path == ("rows" if reasons else "moments")


def test_products_of_the_first_kinds_are_drawn_row_by_row_as_ever() -> None:
    """Balanced by balanced: known columns, but stored studies have the rows path in their keys."""
    balanced = {"level": 1, "distribution": "balanced"}
    found = one({**PRODUCT, X: balanced, Z: balanced})
    assert (found.path, is_plain(found), found.block_size) == ("rows", True, 512)


def test_what_people_are_told_of_the_path() -> None:
    assert path_line(conditions({})) == "data: sufficient statistics, drawn directly (moments path)"
    both = conditions({"grid": {"truth.errors.ar1": [0, 0.3, 0.6]}})
    assert [condition.path for condition in both] == ["moments", "rows", "rows"]
    assert path_line(both) == (
        "data: sufficient statistics, drawn directly (moments path) in 1 of 3 conditions; row by row (rows path) in 2, as "
        "errors are autocorrelated"
    )
    assert path_line(both[1:]) == "data: row by row (rows path), as errors are autocorrelated"


def test_blocks_of_rows_fit_into_memory() -> None:
    """Rows x (columns + 3) doubles x replicates are at most 32 MiB, but there are 8 replicates."""
    rows, errors = [10, 1000, 5000, 200_000], {"truth/errors": {"distribution": "uniform"}, SIZE: 6}
    found = [c.block_size for c in conditions({**errors, "grid": {"cluster_size": rows}})]
    for size, n in zip(found, rows, strict=True):
        assert size == 512 or 8 * n * (2 + 3) * 8 * size * 2 > 32 * 2**20
        assert size == 8 or 8 * n * (2 + 3) * 8 * size <= 32 * 2**20
    assert found[0] == 512
    assert found[-1] == 8
    assert [c.block_size for c in conditions({"grid": {"cluster_size": rows}})] == [512] * 4
    assert block_size(8, 3, rows=5000) <= block_size(8, 1, rows=5000)


# -- identity --------------------------------------------------------------------------------------------------------------

OTHERS = [changes for changes, _ in PATHS[1:]] + [{SIZE: size} for size, layout in SIZES if layout.drawn]
OTHERS += [{Z: table} for table, predictor in PREDICTORS if predictor.distribution != "normal"]
OTHERS += [{SIZE: {**LOGNORMAL, "minimum": 2}}, {SIZE: {**LOGNORMAL, "redraw": False}}, {SIZE: {"values": [5, 15]}}]


def test_every_key_is_part_of_the_identity() -> None:
    found = [one(changes) for changes in OTHERS]
    keys = {data_key(condition) for condition in [one({}), *found]}
    assert len(keys) == len({canonical_json(describe(c)) for c in [one({}), *found]}) == len(set(found)) + 1


def test_descriptions_are_json_in_the_study_s_words() -> None:
    for changes in OTHERS:
        words = describe(one(changes))
        assert json.loads(canonical_json(words)) == json.loads(json.dumps(words))
    found = flatten(
        describe(one({SIZE: LOGNORMAL, "missing": {"rows": 0.1}, "truth/errors": {"distribution": "t", "df": 5}}))
    )
    assert found["design.cluster_size.cv"] == 0.5
    assert (found["truth.errors.distribution"], found["truth.errors.df"], found["missing.rows"]) == ("t", 5.0, 0.1)
    arms = one({**with_z(distribution="arms", clusters=[5, 3]), SIZE: {"arms": [1, LOGNORMAL]}})
    assert flatten(describe(arms))["design.cluster_size.arms.1"] == 1
    assert flatten(describe(arms))["design.cluster_size.arms.2.mean"] == 20


@pytest.mark.parametrize("changes", OTHERS)
def test_a_description_reads_back_as_the_same_condition(changes: dict[str, Any]) -> None:
    condition = one(changes)
    words = json.loads(json.dumps(describe(condition)))
    again = {**tables({}), **{key: words[key] for key in ("design", "truth", "predictors")}}
    again |= {key: words[key] for key in ("missing", "correlation") if key in words}
    if "arms" in (size := words["design"]["cluster_size"] if isinstance(words["design"]["cluster_size"], dict) else {}):
        again["design"]["cluster_size"] = {"arms": [*size["arms"].values()]}
    (read,) = StudyFile.from_dict(again).conditions()
    assert data_key(read) == data_key(condition)


def test_keys_of_what_is_drawn_once() -> None:
    once = {SIZE: {**LOGNORMAL, "redraw": False}}
    a, b = one(once), one({**once, "truth/fixed/x": 2})
    assert sizes_key(a) == sizes_key(b)
    assert layout_key(a, "z") == layout_key(b, "z")
    assert sizes_key(a) != sizes_key(one({SIZE: {**LOGNORMAL, "cv": 0.6, "redraw": False}}))


def test_studies_of_before_keep_their_keys() -> None:
    """The keys of the ready-made studies as they were before data had these words; a study that is changed gets new ones here."""
    root = Path(__file__).parents[2]
    golden = json.loads((root / "tests" / "golden" / "study_keys.json").read_text())
    assert len(golden) > 10
    for name, expected in golden.items():
        study = StudyFile.from_toml(root / "studies" / name)
        keys = [data_key(condition) for condition in study.conditions()]
        results = [result_key("a", method) for method in study.methods()]
        assert hashlib.sha256("".join(keys).encode()).hexdigest() == expected["data_keys"], name
        assert hashlib.sha256("".join(results).encode()).hexdigest() == expected["result_keys"], name


# -- axes ------------------------------------------------------------------------------------------------------------------

STEPPED = {"distribution": "schedule", "design": "stepped-wedge", "periods": 3, "rows_per_period": 2}
MAR = {"missing/at_random": {"on": "x", "intercept": -2, "slope": 1}}
ARMS = {**with_z(distribution="arms", clusters=[5, 3]), SIZE: {"arms": [4, LOGNORMAL]}}
AXES: list[tuple[dict[str, Any], str, list[Any]]] = [
    ({SIZE: LOGNORMAL}, "design.cluster_size.cv", [0, 0.4]),
    ({SIZE: LOGNORMAL}, "design.cluster_size.mean", [10, 30]),
    ({SIZE: LOGNORMAL}, "design.cluster_size.minimum", [1, 5]),
    ({SIZE: LOGNORMAL}, "design.cluster_size.redraw", [True, False]),
    ({SIZE: LOGNORMAL}, "design.cluster_size.distribution", ["lognormal", "uniform"]),
    ({SIZE: LOGNORMAL}, "cluster_size", [10, 30, [5] * 8]),
    (ARMS, "design.cluster_size.arms.1", [2, 3]),
    (ARMS, "design.cluster_size.arms.2.cv", [0, 0.3]),
    (ARMS, "predictors.z.clusters", [[4, 4], [5, 3]]),
    ({}, "truth.errors.ar1", [0, 0.4]),
    ({}, "truth.errors.cluster_cv", [0, 0.4]),
    ({}, "truth.errors.variance_ratio.z", [1, 2]),
    ({"truth/errors/df": 5}, "truth.errors.distribution", ["normal", "t"]),
    ({"truth/errors/distribution": "gamma"}, "truth.errors.skewness", [0, 1]),
    ({"truth/random/g/df": 5}, "truth.random.g.distribution", ["normal", "t"]),
    ({"truth/random/g/distribution": "lognormal"}, "truth.random.g.skewness", [0, 1]),
    ({}, "missing.rows", [0, 0.1]),
    ({}, "missing.clusters", [0, 0.1]),
    ({}, "missing.hazard", [0, 0.1]),
    ({"missing/weibull": {"scale": 5, "shape": 1}}, "missing.weibull.shape", [0.8, 1.2]),
    (MAR, "missing.at_random.slope", [0, 1]),
    (MAR, "missing.at_random.on", ["x", "z", "previous"]),
    (MAR, "missing.at_random.monotone", [True, False]),
    ({f"{X}/skewness": 1}, "predictors.x.distribution", ["normal", "gamma", "uniform"]),
    ({f"{X}/distribution": "gamma"}, "predictors.x.skewness", [0, 1]),
    ({}, "predictors.x.icc", [0, 0.2]),
    (with_z(level=2, distribution="binary", share=0.5), "predictors.z.share", [0.2, 0.4]),
    (with_z(distribution="time"), "predictors.z.step", [1, 0.5]),
    (K, "predictors.k.shares", [[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]),
    ({**with_z(**{**STEPPED, "periods": 4}), SIZE: 20}, "predictors.z.rows_per_period", [5, 6]),
    (with_z(**STEPPED), "predictors.z.design", ["stepped-wedge", "crossover"]),
    (with_z(level=1, distribution="resampled", values=[1, 2]), "predictors.z.values", [[1, 2], [1, 3]]),
    ({Z: LEVEL_1}, "correlation.z:x", [0, 0.3]),
]


@pytest.mark.parametrize(("changes", "axis", "levels"), AXES, ids=[axis for _, axis, _ in AXES])
def test_every_number_is_an_axis(changes: dict[str, Any], axis: str, levels: list[Any]) -> None:
    """And sets its own paths of the description only, by which the store tells it from a changed study."""
    found = conditions({**changes, "grid": {axis: levels}})
    assert len({data_key(condition) for condition in found}) == len(levels)
    paths = {*axis_paths(axis, found[0].truth.formula), *DERIVED_PATHS}
    before = flatten(describe(found[0]))
    for condition in found[1:]:
        after = flatten(describe(condition))
        assert {path for path in {*before, *after} if before.get(path) != after.get(path)} <= paths


def test_axes_as_tables_and_in_cases() -> None:
    nested = conditions({"grid": {"truth": {"errors": {"ar1": [0, 0.4]}}, "missing": {"rows": [0, 0.1]}}})
    assert [c.factors for c in nested][3] == {"truth.errors.ar1": 0.4, "missing.rows": 0.1}
    kinds = [("normal", 5), ("t", 3), ("t", 5)]
    cases = [{"truth.errors.distribution": kind, "truth.errors.df": df} for kind, df in kinds]
    found = conditions({"grid": {"cases": cases}})
    assert [dict(c.truth.errors.distribution.parameters) for c in found] == [{}, {"df": 3.0}, {"df": 5.0}]


def test_the_short_name_cluster_size_is_the_mean_of_a_distribution() -> None:
    found = conditions({SIZE: LOGNORMAL, "grid": {"cluster_size": [10, [6] * 8]}})
    assert found[0].layout.drawn == ((8, Sizes("lognormal", 10.0, 0.5)),)
    assert found[1].layout == Layout((6,) * 8)


def test_searches_step_by_whole_sets_of_sequences() -> None:
    stepped = {**STEPPED, "periods": 4, "rows_per_period": 2}
    arm = {"predictors/arm": {"level": 2, "distribution": "balanced"}, "truth/fixed/arm": 0}
    formula = {"truth/formula": "y ~ x + z + arm + (1 + x | g)"}
    study = StudyFile.from_dict(tables({**with_z(**stepped), **arm, **formula, SIZE: 8}))
    assert Bench._step(SimpleNamespace(study=study), "clusters") == 6  # type: ignore[arg-type]
    assert Bench._step(SimpleNamespace(study=study), "cluster_size") == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("z", "step"),
    [
        ({"distribution": "balanced", "shares": [2, 1]}, 3),
        ({"distribution": "arms", "shares": [1, 1]}, 2),
        ({"distribution": "arms", "shares": [61, 39]}, 1),
        ({"distribution": "balanced", "blocks": 4, "redraw": True}, 4),
        ({"distribution": "list", "values": list(range(30))}, 1),
    ],
)
def test_steps_of_a_search_hold_shares_and_fill_blocks(z: dict[str, Any], step: int) -> None:
    study = StudyFile.from_dict(tables(with_z(**{"level": 2, **z})))
    assert Bench._step(SimpleNamespace(study=study), "clusters") == step  # type: ignore[arg-type]
    rows = {"level": 1, "distribution": "schedule", "sequences": [[k % 3, 1 - k % 2, 0] for k in range(13)]}
    copied = StudyFile.from_dict(tables({**with_z(**rows), SIZE: 3}))
    assert Bench._step(SimpleNamespace(study=copied), "clusters") == 1  # type: ignore[arg-type]


def test_sizes_in_turn_are_those_of_a_list() -> None:
    """The data are the same ones, and the description holds for any number of clusters."""
    in_turn = {SIZE: {"values": [3, 7, 4], "in_turn": True}}
    found = one(in_turn)
    sizes = [(3, 7, 4)[k % 3] for k in range(found.layout.clusters)]
    assert found.layout.sizes == tuple(sizes)
    assert data_key(found) == data_key(one({SIZE: sizes}))
    assert describe(found)["design"]["cluster_size"] == {"values": [3, 7, 4], "in_turn": True}
    more = conditions({**in_turn, "grid/clusters": [5, 12]})
    assert [c.layout.sizes for c in more] == [(3, 7, 4, 3, 7), (3, 7, 4) * 4]
    assert describe(more[0])["design"]["cluster_size"] == describe(more[1])["design"]["cluster_size"]


def test_sizes_in_turn_by_arm_follow_the_number_of_clusters() -> None:
    made = {"level": 2, "distribution": "arms", "shares": [2, 1]}
    sizes = {"arms": [{"values": [3, 7], "in_turn": True}, 5]}
    found = conditions({**with_z(**made), SIZE: sizes, "grid/clusters": [6, 9]})
    assert [c.layout.sizes for c in found] == [(3, 7, 3, 7, 5, 5), (3, 7, 3, 7, 3, 7, 5, 5, 5)]
    assert describe(found[0])["predictors"] == describe(found[1])["predictors"]
    assert describe(found[0])["design"]["cluster_size"] == describe(found[1])["design"]["cluster_size"]
    assert one({**with_z(**{**made, "shares": [1, 1]}), "design/clusters": 5}).predictor("z").arms == (3, 2)


def test_rows_of_many_clusters_may_be_cut() -> None:
    """A schedule of few sequences is one of periods, all of which have rows; that of many clusters has their rows."""
    few = {"level": 1, "distribution": "schedule", "sequences": [[0, 0, 0, 1], [0, 1, 1, 1]]}
    with pytest.raises(StudyError, match="must be more than 3 in some cluster, or the last period of z has no row"):
        StudyFile.from_dict(tables({**with_z(**few), SIZE: 3}))
    assert one({**with_z(**{**few, "sequences": [[0, 0, 0, 1], [0, 1, 1, 1]] * 7}), SIZE: 3}).layout.sizes[0] == 3


# -- for people ------------------------------------------------------------------------------------------------------------

WITHIN, BETWEEN, ANEW = "varies within clusters and", "varies between clusters only and", "drawn anew in each replicate"
SENTENCES = {
    "t": f"z {BETWEEN} is t (mean 1, sd 2, df 5), {ANEW}",
    "gamma": f"z {WITHIN} is gamma (mean 0, sd 1, skewness -1.5), 0.2 of its variance between clusters, {ANEW}",
    "contaminated": f"z {BETWEEN} is contaminated normal (mean 0, sd 1, share 0.1, ratio 3), drawn once and kept",
    "binary": f"z {WITHIN} is 0 or 1, 1 with probability 0.3, 0.1 of its variance between clusters, {ANEW}",
    "balanced": f"z {BETWEEN} is 0 or 1, 1 in half of the clusters (the odd one out is a 0), allocated at random in each "
    "replicate",
    "time": f"z {WITHIN} is 0 in a cluster's first row and 1 more in each next one",
    "list": f"z {BETWEEN} takes 2 listed values in turn",
    "resampled": f"z {WITHIN} is drawn from 2 values with replacement, {ANEW}",
    "schedule": f"z {WITHIN} follows 2 sequences, which clusters take in turn",
    "period": f"z {WITHIN} is the number of the row's period, of 2",
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_predictors_in_the_report(kind: str) -> None:
    predictor = next(p for _, p in PREDICTORS if p.distribution == kind)
    assert predictor_text(predictor) == SENTENCES[kind]


def test_factors_and_arms_in_the_report() -> None:
    assert predictor_text(one(K).predictor("k")) == (
        f"k {BETWEEN} is one of 3 categories with probabilities a 0.333333, b 0.333333, c 0.333333, as treatment "
        f"contrasts, which allocates clusters at random: their numbers differ between replicates, {ANEW}"
    )
    assert path_line([one(K)]).endswith(
        "; k is allocated at random: how many clusters are in each category differs between replicates (distribution = "
        '"balanced" or "arms" with shares holds it)'
    )
    shares = {"level": 2, "categories": ["a", "b", "c"], "shares": [2, 1, 1]}
    coded = {"truth/formula": "y ~ x + z + (1 + x | g)", "truth/fixed": {"Intercept": 1, "x": 0, "z[b]": 0, "z[c]": 0}}
    for made, words in (
        (
            {"distribution": "arms"},
            "is the cluster's arm, a in 0.5, b in 0.25, c in 0.25 of the clusters, as treatment contrasts",
        ),
        (
            {"distribution": "balanced", "blocks": 4, "redraw": True},
            "is a in 0.5, b in 0.25, c in 0.25 of the clusters, as treatment contrasts, allocated at random in each replicate "
            "within each 4 clusters",
        ),
    ):
        found = one({**with_z(**made, **shares), **coded})
        assert predictor_text(found.predictor("z")) == f"z {BETWEEN} {words}"
        assert describe(found)["predictors"]["z"]["shares"] == [0.5, 0.25, 0.25]
    listed = one({**with_z(level=2, distribution="list", categories=["a", "b", "c"], values=[0, 2, 1]), **coded})
    assert predictor_text(listed.predictor("z")).endswith(
        "takes 3 listed values in turn, the categories a, b, c, as treatment contrasts"
    )
    arms = one(with_z(distribution="arms", clusters=[5, 3]))
    assert (
        predictor_text(arms.predictor("z"))
        == "z varies between clusters only and is the cluster's arm, of 5 + 3 clusters"
    )


def test_errors_and_missing_rows_in_the_report() -> None:
    errors = {"distribution": "t", "df": 5, "cluster_cv": 0.3, "ar1": 0.4, "variance_ratio": {"z": 2}}
    rows: dict[str, Any] = {"rows": 0.1, "clusters": 0.2, "hazard": 0.05}
    rows["at_random"] = {"on": "previous", "intercept": -2, "slope": 1, "monotone": True}
    found = one({"truth/errors": errors, f"{R}/g/distribution": "uniform", "missing": rows})
    assert noise_text(found.truth) == (
        "errors are t (df 5), rescaled to their variance; their variance is multiplied by 2 for each unit of z; clusters have "
        "residual variances of their own, lognormal with a coefficient of variation of 0.3; neighbouring rows of a cluster have "
        "errors with a correlation of 0.4 (of rows k apart near its k-th power: a Gaussian copula); random effects are uniform, "
        "rescaled to their covariance"
    )
    normal = noise_text(one({"truth/errors": {"ar1": 0.4}}).truth)
    assert normal == "neighbouring rows of a cluster have errors with a correlation of 0.4"
    shaped = replace(found.truth, errors=Errors(), covariance=((1.0, 0.5), (0.5, 1.0)))
    assert noise_text(shaped) == (
        "random effects are uniform, rescaled to their covariance; correlated ones are mixtures of such, which are nearer to "
        "normal"
    )
    assert missing_text(found.missing) == (
        "0.1 of the rows completely at random; each cluster with probability 0.2; after each row all later ones of its cluster "
        "with probability 0.05; a row with log odds -2 + 1 times the outcome of the row before it, and then all later ones of "
        "its cluster"
    )
    weibull = one({"missing": {"weibull": {"scale": 5, "shape": 1.2}}})
    assert missing_text(weibull.missing) == (
        "rows of a cluster beyond a time with a Weibull distribution (scale 5, shape 1.2; first row 0)"
    )
    assert noise_text(one({}).truth) == missing_text(one({}).missing) == ""


IMPOSSIBLE = [
    (
        {**with_z(level=1, distribution="binary", share=0.1), "correlation": {"x:z": 0.9}},
        'correlation."x:z" = 0.9: must be between -0.584 and 0.584, all that variables of these distributions can have; write a '
        "weaker correlation or other distributions",
    ),
    (
        {SIZE: {**LOGNORMAL, "mean": 20.5, "cv": 0.001}},
        "design.cluster_size.cv = 0.001: must be greater than about 0.024, as sizes are whole numbers, for distribution = "
        '"lognormal" and mean = 20.5; write such a cv, or cluster_size = a list',
    ),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_what_no_data_can_be_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(nl.StudyError) as caught:
        nl.Study.from_dict(tables(changes)).run(out=tmp_path / "r", jobs=1)
    assert caught.value.problems == [message]
    assert not (tmp_path / "r").exists()


# -- files of data ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"n": [4, 5, 9] * 10, "ses": rng.normal(size=30)})
    frame.to_csv(tmp_path / "schools.csv", index=False)
    frame.to_parquet(tmp_path / "schools.parquet")
    return tmp_path


def from_files(kind: str) -> dict[str, Any]:
    return tables(
        {
            SIZE: {"file": f"schools.{kind}", "column": "n"},
            Z: {"level": 1, "distribution": "resampled", "file": f"schools.{kind}", "column": "ses"},
        }
    )


def test_a_study_stands_alone_once_its_files_are_read(folder: Path) -> None:
    (folder / "study.toml").write_text(nl.Study.from_dict(tables({})).text)
    study = StudyFile.from_dict(from_files("csv"), folder=folder)
    (condition,) = study.conditions()
    assert condition.layout.drawn[0][1] == Sizes("empirical", values=(4, 5, 9) * 10)
    written = pd.read_csv(folder / "schools.csv")["ses"]
    assert condition.predictor("z").values == tuple(written)
    (parquet,) = StudyFile.from_dict(from_files("parquet"), folder=folder).conditions()
    assert parquet.predictor("z").values == pytest.approx(condition.predictor("z").values, rel=1e-15)
    (folder / "schools.csv").unlink()
    (folder / "again.toml").write_text(study.to_toml())
    again = StudyFile.from_toml(folder / "again.toml")
    assert again.resolve() == study.resolve()
    assert again.to_dict() == study.to_dict()
    assert again.predictors["z"].source == "schools.csv, column ses"
    described = flatten(describe(condition))
    assert described["predictors.z.values"].startswith("30 numbers, mean ")
    changed = replace(condition.predictor("z"), values=(*condition.predictor("z").values[:-1], 0.0))
    other = replace(condition, predictors=(condition.predictor("x"), changed))
    assert data_key(other) != data_key(condition)
    assert flatten(describe(other))["predictors.z.values"] != described["predictors.z.values"]


def test_results_do_not_need_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nestlab.spec.writing import to_toml

    (folder / "study.toml").write_text(to_toml(from_files("csv")))
    study = nl.Study.from_toml(folder / "study.toml", replications=8)
    results = study.run(out=folder / "results", jobs=1)
    (folder / "schools.csv").unlink()
    again = nl.Results(folder / "results")
    pd.testing.assert_frame_equal(again.summary(), results.summary())
    stored = pd.read_parquet(folder / "results" / "conditions.parquet")
    assert stored[["path", "path_reason"]].to_numpy().tolist() == [["rows", "z is resampled within clusters"]]
    assert again.path_line == "data: row by row (rows path), as z is resampled within clusters"


def test_names_of_files_are_relative_to_the_study_or_to_where_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert StudyFile.from_dict(from_files("csv")) == StudyFile.from_dict(from_files("csv"), folder=folder)


def truths_of(study: StudyFile) -> TrueValues:
    condition = study.conditions()[0]
    return true_values(condition, study.methods(), centres_of(condition))


# -- true values of what methods centre ------------------------------------------------------------------------------------

SLOPE: dict[str, Any] = {"truth/random/g/correlation": {"Intercept:x": 0.2}}
CONTEXT = {
    **SLOPE,
    "truth/formula": "y ~ x + between(x) + z + (1 + x | g)",
    "truth/fixed": {"Intercept": 0, "x": 1, "between(x)": 0.5, "z": 0.5},
}


@pytest.mark.parametrize(
    ("changes", "formula", "values"),
    [
        (SLOPE, "y ~ within(x) + between(x) + z + (1 + within(x) | g)", {"within(x)": 1, "between(x)": 1}),
        (SLOPE, "y ~ x + between(x) + z + (1 | g)", {"x": 1, "between(x)": 0}),
        (SLOPE, "y ~ center(x) + z + (1 | g)", {"center(x)": 1}),
        (SLOPE, "y ~ within(x) + z + (1 | g)", {"within(x)": 1, "x": 1}),
        (CONTEXT, "y ~ within(x) + between(x) + z + (1 | g)", {"within(x)": 1, "between(x)": 1.5}),
        (CONTEXT, "y ~ x + within(x) + z + (1 | g)", {"x": 1.5, "within(x)": -0.5}),
        (CONTEXT, "y ~ x + z + (1 | g)", {"x": np.nan, "between(x)": 0.5}),  # its limit is between 1 and 1.5
        (CONTEXT, "y ~ x + between(x) + z + (1 | g)", {"x": 1, "between(x)": 0.5}),
    ],
)
def test_true_values_of_other_ways_to_centre(changes: dict[str, Any], formula: str, values: dict[str, float]) -> None:
    """x = within(x) + between(x): what a term of the method stands for in the truth, not 0."""
    method = {"name": "m", "formula": formula}
    study = StudyFile.from_dict({**tables(changes), "method": [method]})
    found = truths_of(study).of("m")
    assert {name: found[name] for name in values} == pytest.approx(values, nan_ok=True)
    assert found["z"] == 0.5
    if "within(x) |" in formula:
        assert (found["var:g:within(x)"], found["cov:g:Intercept:within(x)"]) == (3, found["cov:g:Intercept:x"])


def test_one_name_of_two_meanings_has_two_true_values() -> None:
    """between(x) is the whole effect of the mean beside within(x), and what is more than within beside x."""
    formulas = ["y ~ within(x) + between(x) + z + (1 | g)", "y ~ x + between(x) + z + (1 | g)"]
    methods = [{"name": name, "formula": formula} for name, formula in zip("ab", formulas, strict=True)]
    study = StudyFile.from_dict(
        {**tables({}), "method": methods, "contrast": [{"name": "c", "weights": {"x": 2, "z": 1}}]}
    )
    found = truths_of(study)
    assert (found.of("a")["between(x)"], found.of("b")["between(x)"]) == (1, 0)
    assert (found.shared["within(x)"], found.shared["x"], found.shared["c"]) == (1, 1, 2.5)


@pytest.mark.parametrize("errors", ["normal", "uniform"])
@pytest.mark.parametrize("terms", ["within(x) + between(x)", "x + between(x)"])
def test_estimates_of_centred_terms_are_about_their_true_values(terms: str, errors: str, tmp_path: Path) -> None:
    """On both paths."""
    random = {"g": {"variance": {"Intercept": 0.5}}}
    base = tables(
        {
            f"{X}/icc": 0.3,
            "truth/errors": {"distribution": errors},
            "truth/formula": "y ~ x + z + (1 | g)",
            "truth/random": random,
        }
    )
    method = {"name": "m", "formula": f"y ~ {terms} + z + (1 | g)"}
    summary = nl.Study.from_dict({**base, "replications": 512, "method": [method]}).run(out=tmp_path, jobs=1).summary()
    rows = summary[(summary["measure"] == "bias") & (summary["subset"] == "all")].set_index("estimand")
    for name in terms.split(" + "):
        assert abs(rows.loc[name, "value"]) < 4 * rows.loc[name, "mcse"]
