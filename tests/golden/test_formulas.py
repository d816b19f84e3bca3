"""Formulas of all shapes against R (formulas.R, formulas.json): terms, columns of model.matrix, lme4's random terms."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tolerances
from nestlab.spec.data import read_frame
from nestlab.spec.formula import parse_formula
from nestlab.spec.matrices import ModelMatrices, model_matrices
from nestlab.spec.model import term_variables

GOLDEN = Path(__file__).parent
REFERENCE: dict[str, Any] = json.loads((GOLDEN / "formulas.json").read_text(encoding="utf-8"))
VECTORS = [np.array(v, dtype=float) for v in REFERENCE["vectors"]]
FORMULAS: list[dict[str, Any]] = REFERENCE["formulas"]
FIXED = [case for case in FORMULAS if not case["random"]]
RANDOM = [case for case in FORMULAS if case["random"]]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return read_frame(GOLDEN / "formulas.csv")


def plain(name: str) -> str:
    """R's name of a column or term and ours in one spelling: without spaces, factors of a product in one order."""
    if name in ("Intercept", "(Intercept)"):
        return "Intercept"
    for call, short in (("contr.sum", "sum"), ("contr.helmert", "helmert")):
        name = name.replace(call, short)
    name = re.sub(r"\s|`", "", name).replace("**", "^").replace('"', "'")
    return ":".join(sorted(name.split(":")))


def matrices(case: dict[str, Any], data: pd.DataFrame) -> ModelMatrices:
    return model_matrices(f"{case['formula']} + (1 | g)", data)


def test_there_are_many() -> None:
    assert len(FIXED) >= 200
    assert len(RANDOM) >= 30
    assert len(FORMULAS) == len({case["formula"] for case in FORMULAS})


@pytest.mark.parametrize("case", FIXED, ids=[case["formula"] for case in FIXED])
def test_columns_are_rs(case: dict[str, Any], data: pd.DataFrame) -> None:
    """Each by its name, with its values; those of a product may stand in another order, as our terms are as written."""
    m = matrices(case, data)
    names = case["names"] if "(s, contr." not in case["formula"] else m.r_names  # R numbers those that C names
    ours = dict(zip(map(plain, m.r_names), m.X.T, strict=True))
    theirs = {plain(name): VECTORS[k] for name, k in zip(names, case["columns"], strict=True)}
    assert len(ours) == len(m.r_names)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert np.max(np.abs(ours[name] - values)) <= tolerances.GOLDEN_COLUMN.limit * np.abs(values).max(), name
    own = [plain(name) for name in m.r_names]
    place = {name: k for k, name in enumerate(m.formula.variables)}
    orders = [[place[v] for v in term_variables(term)] for term in m.formula.fixed]
    reordered = any(order != sorted(order) for order in orders)
    assert reordered or own == [plain(name) for name in names]
    offset = 0.0 if case["offset"] is None else VECTORS[case["offset"]]
    assert np.max(np.abs(data["y"] - offset - m.y)) < 1e-12


@pytest.mark.parametrize("case", REFERENCE["missing"], ids=[case["formula"] for case in REFERENCE["missing"]])
def test_columns_are_rs_where_another_variable_is_missing(case: dict[str, Any], data: pd.DataFrame) -> None:
    """They are computed from all rows, then rows are dropped, then unused categories."""
    missing = data.copy()
    missing.loc[[1, 8], "z"] = np.nan
    missing.loc[missing["a"] == "C", "z"] = np.nan
    m = model_matrices(case["formula"].replace("I(x - mean(x))", "center(x)") + " + (1 | g)", missing)
    assert m.dropped == missing["z"].isna().sum()
    assert len(m.fixed_names) == len(case["names"])
    for ours, k in zip(m.X.T, case["columns"], strict=True):
        assert np.max(np.abs(ours - VECTORS[k])) <= tolerances.GOLDEN_COLUMN.limit * np.abs(VECTORS[k]).max()


@pytest.mark.parametrize("case", FIXED, ids=[case["formula"] for case in FIXED])
def test_terms_are_rs(case: dict[str, Any]) -> None:
    formula = parse_formula(case["formula"])
    ours = [plain(term) for term in formula.fixed if term != "Intercept"]
    assert ours == [plain(term) for term in case["terms"]]
    assert ("Intercept" in formula.fixed) == (0 in case["assign"])


@pytest.mark.parametrize("case", RANDOM, ids=[case["formula"] for case in RANDOM])
def test_random_terms_are_lme4s(case: dict[str, Any], data: pd.DataFrame) -> None:
    """Groups and columns of each; lme4 has the inner group of a/b first."""
    formula = parse_formula(case["formula"])

    ours = []
    for term in formula.random:
        right = " + ".join(
            ["1" if "Intercept" in term.columns else "0", *(c for c in term.columns if c != "Intercept")]
        )
        columns = model_matrices(f"y ~ {right} + (1 | g)", data)
        groups = sorted(v.strip("`") for v in term_variables(term.group))
        ours.append((groups, sorted(map(plain, columns.r_names))))
    theirs = [(random["group"], sorted(map(plain, random["columns"]))) for random in case["random"]]
    assert sorted(ours) == sorted(theirs)
