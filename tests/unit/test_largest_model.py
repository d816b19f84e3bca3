"""The largest models that a study may have: 40 fixed effects and 6 random columns, held against dense algebra on the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.fit.deviance import deviance, gradient, statistics
from nestlab.fit.single import fit
from nestlab.spec.factors import study_formula
from nestlab.spec.formula import FormulaError
from nestlab.spec.matrices import model_matrices
from nestlab.spec.model import MAX_FIXED, MAX_RANDOM, MOST_RANDOM
from nestlab.spec.problems import DataError

NAMES = [f"x{k}" for k in range(MAX_FIXED - 1)]
#: Errors that only rows can have.
ROWS = {"errors": {"distribution": "t", "df": 8}}


def wide(random: int, *, clusters: int = 100, size: int = 8, **truth: Any) -> dict[str, Any]:
    """A study of all fixed effects, 5 of them constant within clusters, and this many random columns."""
    columns = ["Intercept", *NAMES[5 : 4 + random]]
    return {
        "name": "wide",
        "seed": 4,
        "replications": 3,
        "design": {"clusters": clusters, "cluster_size": size},
        "truth": {
            "formula": f"y ~ {' + '.join(NAMES)} + ({' + '.join(['1', *columns[1:]])} | g)",
            "fixed": {"Intercept": 2, **{name: 0.1 * (k % 5) for k, name in enumerate(NAMES)}},
            "residual_variance": 1,
            "random": {"g": {"variance": {c: 0.5 + 0.2 * k for k, c in enumerate(columns)}}},
            **truth,
        },
        "predictors": {
            name: {"level": 2, "distribution": "balanced"} if k < 5 else {"level": 1, "distribution": "normal"}
            for k, name in enumerate(NAMES)
        },
        "method": [{"name": "reml", "df": ["satterthwaite", "kenward-roger", "between-within"]}],
    }


@pytest.mark.parametrize("truth", [{}, ROWS], ids=["moments", "rows"])
@pytest.mark.parametrize("random", [2, MAX_RANDOM])
def test_a_study_of_the_largest_models_fits_its_rows(random: int, truth: dict[str, Any], tmp_path: Path) -> None:
    study = nl.Study.from_dict(wide(random, size=8 if random == 2 else 14, **truth))
    results = study.run(out=tmp_path, jobs=1)
    frame = results.replicates()
    assert frame["status"].isin(["ok", "singular"]).all()
    assert set(results.summary()["method"]) == {"reml/satterthwaite", "reml/kenward-roger", "reml/between-within"}
    stored = frame.iloc[1]
    m = model_matrices(study.conditions[0].truth.formula.text, study.data(0, int(stored["replicate"])))
    assert m.X.shape[1] == MAX_FIXED
    columns = m.random_names[0]
    assert len(columns) == random
    V = np.empty((random, random))
    for a, left in enumerate(columns):
        for b, right in enumerate(columns[: a + 1]):
            name = f"var:g:{left}" if a == b else f"cov:g:{right}:{left}"
            V[a, b] = V[b, a] = stored[f"estimate.{name}"]
    sigma2 = stored["estimate.var:residual"]
    s = statistics(m.y, m.X, m.Z[0], m.groups)
    assert deviance(s, V / sigma2, reml=True) == pytest.approx(stored["deviance"], abs=1e-7)
    assert np.abs(gradient(s, V / sigma2, reml=True) @ V / sigma2).max() < 1e-4
    whole = sigma2 * np.eye(len(m.y)) + (m.Z[0] @ V @ m.Z[0].T) * (m.groups[:, None] == m.groups)
    S = m.X.T @ np.linalg.solve(whole, m.X)
    beta = np.linalg.solve(S, m.X.T @ np.linalg.solve(whole, m.y))
    np.testing.assert_allclose([stored[f"estimate.{name}"] for name in m.fixed_names], beta, rtol=1e-7, atol=1e-9)
    found = nl.fit(study.conditions[0].truth.formula.text, study.data(0, int(stored["replicate"])))
    np.testing.assert_allclose(
        [found.se[name] for name in m.fixed_names], np.sqrt(np.diag(np.linalg.inv(S))), rtol=1e-6
    )
    np.testing.assert_allclose(
        [stored[f"df.{name}/satterthwaite"] for name in NAMES], [found.df[name] for name in NAMES], rtol=1e-4
    )


def test_one_number_stands_in_all_messages() -> None:
    """A study's formula, and data whose categories make the columns, are refused in the same words."""
    formula = f"y ~ {' + '.join(NAMES)} + k + (1 | g)"
    with pytest.raises(FormulaError, match=f"has {MAX_FIXED + 1} fixed terms; at most {MAX_FIXED} are possible"):
        study_formula(formula, {})
    rows = np.arange(400)
    frame = pd.DataFrame({"y": np.sin(rows), "k": [f"k{r % 45}" for r in rows], "g": rows // 10})
    with pytest.raises(DataError, match=rf"45 columns on these data .*; at most {MAX_FIXED} are possible"):
        nl.fit("y ~ k + (1 | g)", frame)
    with pytest.raises(
        DataError, match=rf"\(0 \+ k \| g\) has 17 random columns .*; at most {MOST_RANDOM} are possible"
    ):
        nl.fit("y ~ 1 + (0 + k | g)", frame.assign(k=[f"k{r % 17}" for r in rows]))
    documented = f"at most {MOST_RANDOM} random columns and {MAX_FIXED} fixed ones"
    assert documented in " ".join(str(nl.fit.__doc__).split())
    assert documented in " ".join(str(fit.__doc__).split())


def test_categories_that_make_more_random_columns_than_the_kernel_holds() -> None:
    """One term of the formula, seven columns on the data: fitted as those of several factors are."""
    rng, rows = np.random.default_rng(2), np.arange(560)
    k, g = rows % (MAX_RANDOM + 1), rows // 28
    y = 1 + rng.normal(size=(20, MAX_RANDOM + 1))[g, k] + rng.normal(size=560)
    found = nl.fit("y ~ 1 + (0 + k | g)", pd.DataFrame({"y": y, "k": [f"k{c}" for c in k], "g": g}))
    assert found.status in (0, 1)
    assert len(found.random_names[0]) == MAX_RANDOM + 1
    assert found.certificate < 1e-6
