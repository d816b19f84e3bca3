"""Categorical predictors and transformations are coded as R codes them (contr.treatment): lme4's fits in categories.json."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tolerances
from nestlab.fit.single import fit
from nestlab.spec.data import read_frame
from nestlab.spec.problems import DataError

GOLDEN = Path(__file__).parent
CASES = json.loads((GOLDEN / "categories.json").read_text())
CATEGORY = re.compile(r"\[([^\[\]]*)\]")


@pytest.fixture(scope="module")
def data():
    return read_frame(GOLDEN / "categories.csv")


def r_name(name: str) -> str:
    """Our name in R's spelling: "sex[m]:x" is "sexm:x"; R puts a truth value's TRUE behind its name."""
    name = CATEGORY.sub(r"\1", name).replace("Intercept", "(Intercept)").replace(" ** ", "^").replace(" / ", "/")
    return re.sub(r"^(flag|I\(x > 0\))$", r"\1TRUE", name)


# (1 | g) and the full covariance of (0 + sex | g), whose columns add up to 1: lme4 prints one of many splits of the variance
UNIDENTIFIED = "y ~ x + (1 | g) + (0 + sex | g)"
CASES = [case for case in CASES if case["formula"] != UNIDENTIFIED]


def test_variances_that_cannot_be_told_apart_are_refused(data):
    with pytest.raises(DataError, match="the data can't tell the variances apart"):
        fit(UNIDENTIFIED, data)


@pytest.mark.parametrize("case", CASES, ids=[case["formula"] for case in CASES])
def test_coding_against_r(data, case):
    ours = fit(case["formula"], data)
    theirs = dict(zip(case["names"], zip(case["beta"], case["se"], strict=True), strict=True))
    beta, se = np.array([theirs[r_name(name)] for name in ours.beta]).T
    assert np.max(np.abs(np.array(list(ours.beta.values())) - beta) / se) <= tolerances.GOLDEN_BETA.limit
    assert np.max(np.abs(np.array(list(ours.se.values())) / se - 1)) <= tolerances.GOLDEN_SE.limit
    assert abs(ours.neg2loglik - case["reml_criterion"]) <= tolerances.GOLDEN_DEVIANCE.limit
    assert len(ours.beta) == len(theirs)
    assert [r_name(name) for names in ours.random_names for name in names] == case["random"]


@pytest.mark.parametrize("case", CASES, ids=[case["formula"] for case in CASES])
def test_columns_stand_in_rs_order(data, case):
    assert [r_name(name) for name in fit(case["formula"], data).beta] == case["names"]
