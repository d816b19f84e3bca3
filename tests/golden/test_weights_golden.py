"""Prior weights and offsets against lme4 (weights.R), and against the fit of rows that were multiplied by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.printed import summary_text
from nestlab.show.cli import app
from nestlab.spec.data import read_frame
from nestlab.spec.problems import DataError

HERE = Path(__file__).parent
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "weights.json").read_text())


@pytest.fixture
def data() -> pd.DataFrame:
    return read_frame(HERE / "weights.csv")


@pytest.mark.parametrize("case", GOLDEN)
def test_fits_are_those_of_lmer(case: str, data: pd.DataFrame) -> None:
    theirs = GOLDEN[case]
    options = {"reml": theirs["reml"], "weights": theirs["weights"], "offset": theirs["offset"]}
    found = nl.fit(theirs["formula"], data, **options)
    assert (found.rows, found.dropped) == (theirs["rows"], 1 + bool(theirs["weights"] and theirs["offset"]))
    np.testing.assert_allclose(list(found.beta.values()), theirs["beta"], rtol=1e-6)
    np.testing.assert_allclose(list(found.se.values()), theirs["se"], rtol=1e-6)
    np.testing.assert_allclose(found.theta, theirs["theta"], rtol=1e-5, atol=1e-7)
    assert found.sigma == pytest.approx(theirs["sigma"], rel=1e-7)
    assert found.neg2loglik == pytest.approx(theirs["neg2loglik"], abs=1e-8)
    np.testing.assert_allclose(
        np.quantile(found.scaled_residuals, [0, 0.25, 0.5, 0.75, 1]), theirs["scaled"], rtol=1e-5
    )
    limits = found.confint()
    limits = limits[[not str(name).startswith(("(", "x")) for name in limits.index]]
    theirs_of = dict(zip(limits.index, np.reshape(theirs["confint"], (-1, 2)), strict=True))
    for name, (lower, upper) in limits.iterrows():
        tolerance = (
            5e-3 if str(name).startswith("cor") else 2e-5
        )  # lme4 interpolates; worst: 3.8e-3 of a correlation, 5e-6
        np.testing.assert_allclose([lower, upper], theirs_of[name], atol=tolerance)
    printed = summary_text(found, data="data").splitlines()
    assert [line for line in printed if line.startswith(("Formula", "   Data", "Weights", " Offset"))] == theirs[
        "printed"
    ]


@pytest.mark.parametrize("rule", ["satterthwaite", "kenward-roger", "between-within"])
def test_inference_is_that_of_rows_multiplied_by_hand(rule: str, data: pd.DataFrame) -> None:
    """y - v, the constant and x times sqrt(w): all but the deviance is the same."""
    data = data.dropna()
    root = np.sqrt(data["w"])
    by_hand = pd.DataFrame({"y": (data["y"] - data["v"]) * root, "one": root, "xs": data["x"] * root, "g": data["g"]})
    found = nl.fit("y ~ x + (1 + x | g)", data, df=rule, weights="w", offset="v")
    other = nl.fit("y ~ 0 + one + xs + (0 + one + xs | g)", by_hand, df=rule)
    for name in ("beta", "se", "df"):
        np.testing.assert_allclose(list(getattr(found, name).values()), list(getattr(other, name).values()), rtol=1e-7)
    assert found.neg2loglik == pytest.approx(other.neg2loglik - np.log(data["w"]).sum(), abs=1e-9)
    assert found.test("x = 0.2").p == pytest.approx(other.test("xs = 0.2").p, rel=1e-8)
    np.testing.assert_allclose(found.confint().to_numpy(), other.confint().to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.se_variances[0][0], other.se_variances[0][0], rtol=1e-7)


def test_equal_weights_scale_the_residual_variance_alone(data: pd.DataFrame) -> None:
    data = data.dropna().assign(w=4.0)
    plain, found = nl.fit("y ~ x + (1 | g)", data), nl.fit("y ~ x + (1 | g)", data, weights="w")
    assert found.sigma == pytest.approx(2 * plain.sigma, rel=1e-9)
    assert found.neg2loglik == pytest.approx(plain.neg2loglik, abs=1e-9)
    np.testing.assert_allclose(found.varcomp["g"], plain.varcomp["g"], rtol=1e-8)


def test_rows_without_a_weight_or_an_offset_are_dropped(data: pd.DataFrame) -> None:
    """As R drops them; the labels of rows stay."""
    data.index = pd.Index([f"row {k}" for k in range(len(data))])
    found = nl.fit("y ~ x + (1 | g)", data, weights="w", offset="v")
    assert found.dropped == 2
    assert set(data.index) - set(found.matrices.index) == {"row 4", "row 10"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"w": 0.0},
            {"weights": "w"},
            'weights = "w": must be above 0, and 1 of 84 are not (the smallest is 0); remove those rows',
        ),
        (
            {"w": -2.5},
            {"weights": "w"},
            'weights = "w": must be above 0, and 1 of 84 are not (the smallest is -2.5); remove',
        ),
        ({"w": np.inf}, {"weights": "w"}, 'weights = "w": has infinite values; remove those rows'),
        ({"v": -np.inf}, {"offset": "v"}, 'offset = "v": has infinite values; remove those rows'),
        ({"w": 1e300}, {"weights": "w"}, "y has values up to "),
        ({}, {"weights": "W"}, 'weights = "W": must be a column of the data; did you mean "w"?'),
        ({}, {"offset": "k"}, 'offset = "k": must be a column of numbers; name another one or convert it'),
    ],
)
def test_refused(change: dict[str, float], options: dict[str, str], message: str, data: pd.DataFrame) -> None:
    """lmer refuses a negative weight too, and calls the log likelihood of a weight of 0 infinite."""
    data = data.assign(k="text").fillna({"w": 1.0, "v": 1.0})
    for name, value in change.items():
        data.loc[7, name] = value
    with pytest.raises(DataError) as caught:
        nl.fit("y ~ x + (1 | g)", data, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_the_command_takes_them() -> None:
    arguments = [
        "fit",
        str(HERE / "weights.csv"),
        "y ~ x + (1 + x | g)",
        "--ml",
        "--df",
        "z",
        "--weights",
        "w",
        "--offset",
        "v",
    ]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    assert "Weights: w\n Offset: v\n" in printed.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (found["weights"], found["offset"]) == ("w", "v")
    assert found["ML"]["neg2loglik"] == pytest.approx(GOLDEN["slope_ml_offset"]["neg2loglik"], abs=1e-8)
    wrong = CliRunner().invoke(app, [*arguments[:-1], "q"])
    assert wrong.exit_code == 2
