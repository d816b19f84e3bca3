"""studies/cross_classified.toml against Lee & Pustejovsky (2023, Psychol Methods), 1,000 data sets per figure there and here.

All designs of 20 schools with 30 pupils in 70 neighbourhoods, where assumptions are met and where the variance of errors depends
on x: the model (lme4 there) and least squares with two-way robust errors. Bounds are 4 joint standard errors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.run.block import compile_condition
from published_figures import figures

pytestmark = pytest.mark.calibration

ROOT = Path(__file__).parents[2]
PUBLISHED = pd.read_csv(
    ROOT / "tests" / "golden" / "published_cross_classified.csv", keep_default_na=False, na_values=[""]
)
OURS = THEIRS = 1000
#: Our method by theirs, and the rule of its tests.
METHODS = {"CCREM": ("model", "satterthwaite"), "OLS": ("OLS_CR1S", "residual")}
CONDITIONS = [(icc, name) for name in ("met", "heterosced") for icc in (0.05, 0.15, 0.25)]


def distances(number: int) -> list[float]:
    """Our figures of a condition less theirs, in joint standard errors. Estimates are equivariant, so that those of other true
    coefficients are the study's own, moved."""
    icc, assumption = CONDITIONS[number]
    study = nl.Study.from_toml(ROOT / "studies" / "cross_classified.toml")
    methods = [method for method in study.methods if method.name in dict(METHODS.values())]
    condition = study.conditions[number]
    assert condition.truth.covariance[0][0] == icc
    assert bool(condition.truth.errors.ratios) == (assumption == "heterosced")
    made = compile_condition(condition, methods).replicates(0, OURS)
    columns_of = {method.name: columns for method, columns in zip(methods, made, strict=True)}
    key = (PUBLISHED["ICC_h"] == icc) & (PUBLISHED["assumption"] == assumption) & PUBLISHED["method"].isin(METHODS)
    true = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    found = []
    for row in PUBLISHED[key].to_dict("records"):
        ours, rule = METHODS[row["method"]]
        columns, term = columns_of[ours], row["cov"].lower()
        published = row["gamma100"] if term == "x" else row["gamma010"]
        estimate = columns[f"estimate.{term}"] + published - true[term]
        df = columns[f"df.{term}/{rule}" if f"df.{term}/{rule}" in columns else f"df.{term}"]
        for name, value, variance in figures(estimate, columns[f"se.{term}"], df, published):
            if np.isfinite(row[name]):
                found.append((value - row[name]) / np.sqrt(variance * (1 / len(estimate) + 1 / THEIRS)))
                assert abs(found[-1]) < 4, (icc, assumption, row["method"], term, name, value, row[name])
    return found


def test_the_published_table_is_reproduced() -> None:
    """332 figures; those of one condition with other coefficients are of the same data sets here."""
    found = [z for number in range(len(CONDITIONS)) for z in distances(number)]
    assert len(found) == 332
    assert np.mean(np.square(found)) < 1.4
