"""lme4, where R is installed, on 200 replicates of the article study written as rows."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.run.block import compile_condition

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPLICATES = 200


def have_lme4() -> bool:
    if shutil.which("Rscript") is None:
        return False
    code = 'quit(status = !(requireNamespace("lme4", quietly = TRUE) && requireNamespace("jsonlite", quietly = TRUE)))'
    return subprocess.run(["Rscript", "-e", code], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not have_lme4(), reason="needs R with lme4 and jsonlite")
def test_lme4_agrees_on_stored_replicates(tmp_path: Path) -> None:
    """The tolerances are those of the golden files; where lme4's two optimisers differ, ours must not be higher."""
    study = nl.Study.from_toml(ROOT / "studies" / "article.toml")
    chosen = np.random.default_rng(1).integers(0, [[len(study.conditions)], [2000]], (2, REPLICATES)).T
    frames, stored = [], []
    compiled = {c: compile_condition(study.conditions[c], study.methods) for c in np.unique(chosen[:, 0])}
    for number, (condition, replicate) in enumerate(chosen):
        work = compiled[condition]
        frames.append(work.frame(int(replicate)).assign(set=number))
        (columns,) = work.replicates(int(replicate), int(replicate) + 1)
        stored.append({name: values[0] for name, values in columns.items()})
    pd.concat(frames).to_csv(tmp_path / "data.csv", index=False)
    done = subprocess.run(
        ["Rscript", str(HERE / "replicates.R"), str(tmp_path / "data.csv")], capture_output=True, text=True, check=True
    )
    lme4 = {row["set"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert len(lme4) == REPLICATES
    compared = 0
    for number, ours in enumerate(stored):
        theirs = lme4[number]
        assert ours["deviance"] - theirs["neg2loglik"] < 1e-6, (number, chosen[number])
        if theirs["spread"] > 1e-6 or abs(ours["deviance"] - theirs["neg2loglik"]) > 1e-6:
            continue
        compared += 1
        se = np.array(theirs["se"])
        beta = np.array([ours["estimate.Intercept"], ours["estimate.x"]])
        np.testing.assert_allclose((beta - theirs["beta"]) / se, 0, atol=1e-6)
        np.testing.assert_allclose([ours["se.Intercept"], ours["se.x"]], se, rtol=1e-6)
        names = ("var:cluster:Intercept", "cov:cluster:Intercept:x", "var:cluster:x")
        varcomp = np.array([ours[f"estimate.{name}"] for name in names])
        s2 = theirs["sigma"] ** 2
        np.testing.assert_allclose(varcomp / s2, np.array(theirs["varcomp"]) / s2, rtol=1e-5, atol=1e-5)
        assert ours["estimate.var:residual"] == pytest.approx(s2, rel=1e-5)
    assert compared > 0.8 * REPLICATES
