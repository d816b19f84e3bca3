"""statsmodels as a method: the same data, its failures kept as statuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestlab as nl
from nestlab.fit.reference import fit_rows
from nestlab.fit.status import Status

METHODS = [{"name": "nestlab"}, {"name": "statsmodels", "estimator": "statsmodels"}]


@pytest.fixture
def interior(slope: dict[str, Any]) -> dict[str, Any]:
    """A design whose fits are interior."""
    slope["design"] = {"clusters": 30, "cluster_size": 10}
    slope["truth"]["random"]["school"]["variance"] = {"Intercept": 1, "x": 1}
    slope["method"] = METHODS
    return slope


def test_reference_agrees_on_interior_fits(interior: dict[str, Any], tmp_path: Path) -> None:
    results = nl.Study.from_dict(interior).run(out=tmp_path, replications=70, jobs=1)
    frame = results.replicates().set_index(["method", "replicate"])
    ours, theirs = frame.loc["nestlab"], frame.loc["statsmodels"]
    assert (ours["status"] == "ok").all()
    assert (theirs["status"] == "ok").mean() > 0.95
    both = theirs["status"] == "ok"
    # its optimiser stops at a gradient of about 1e-3 and its errors are of that order
    assert (theirs["deviance"] - ours["deviance"])[both].between(-1e-8, 1e-4).all()
    for term in ("Intercept", "x"):
        difference = (theirs[f"estimate.{term}"] - ours[f"estimate.{term}"]) / ours[f"se.{term}"]
        assert difference[both].abs().max() < 1e-3
        assert (theirs[f"se.{term}"] / ours[f"se.{term}"] - 1)[both].abs().max() < 0.05
    for name in ("var:school:Intercept", "var:school:x", "cov:school:Intercept:x", "var:residual"):
        assert (theirs[f"estimate.{name}"] - ours[f"estimate.{name}"])[both].abs().max() < 2e-3


def test_reference_in_processes_equals_in_this_one(interior: dict[str, Any], tmp_path: Path) -> None:
    interior["method"] = METHODS[1:]
    study = nl.Study.from_dict(interior)
    one = study.run(out=tmp_path / "one", replications=8, jobs=1).replicates()
    two = study.run(out=tmp_path / "two", replications=8, jobs=2).replicates()
    np.testing.assert_allclose(one["estimate.x"], two["estimate.x"], rtol=1e-10)


def test_reference_shares_the_data_and_the_summary(interior: dict[str, Any], tmp_path: Path) -> None:
    summary = nl.Study.from_dict(copy.deepcopy(interior)).run(out=tmp_path, replications=6, jobs=1).summary()
    rows = summary.query("estimand == 'x' and measure == 'relprec' and subset == 'common'").set_index("method")
    assert abs(rows.loc["statsmodels", "value"]) < 0.1, "percent: the estimates are the same"


def test_reference_exceptions_are_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever MixedLM raises is kept, and the next data set is fitted."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(10), 6)
    good = (rng.normal(size=60) + rng.normal(size=10)[groups], np.ones((60, 1)), np.ones((60, 1)))
    bad = (good[0], np.ones((60, 2)), good[2])  # a singular design: LinAlgError
    alone = fit_rows([bad], groups, np.zeros(1, np.int64), reml=True)
    assert alone.status[0] in (Status.method_error, Status.nonfinite, Status.not_converged)
    fits = fit_rows([good, good], groups, np.zeros(1, np.int64), reml=False)
    assert (fits.status == Status.ok).all()
    assert np.isfinite(fits.beta).all()

    from statsmodels.regression import mixed_linear_model

    def refuse(*_: Any, **__: Any) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(mixed_linear_model.MixedLM, "fit", refuse)
    fits = fit_rows([good], groups, np.zeros(1, np.int64), reml=True)
    assert fits.status[0] == Status.method_error
    assert np.isnan(fits.beta).all()


def test_reference_independent_terms(slope: dict[str, Any], tmp_path: Path) -> None:
    slope["truth"]["formula"] = "y ~ 1 + x + (1 | school) + (0 + x | school)"
    slope["truth"]["random"]["school"] = {"variance": {"Intercept": 1, "x": 1}}
    slope["design"] = {"clusters": 30, "cluster_size": 10}
    slope["method"] = METHODS
    frame = nl.Study.from_dict(slope).run(out=tmp_path, replications=5, jobs=1).replicates().set_index("method")
    for name in ("var:school:Intercept", "var:school:x"):
        column = frame[f"estimate.{name}"]
        np.testing.assert_allclose(column["nestlab"], column["statsmodels"], rtol=1e-3)
    assert not any(c.startswith("estimate.cov") for c in frame)
