"""Studies with several grouping factors: [design.factors], what is drawn, and what is stored."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestlab as nl
from nestlab.spec.model import Structure
from nestlab.spec.problems import StudyError
from nestlab.spec.structure import cells_of

THREE: dict[str, Any] = tomllib.loads("""
name = "three"
seed = 11
replications = 30
[design]
rows = 3
[design.factors]
school = 8
class = { within = "school", number = 2 }
[truth]
formula = "y ~ treat + (1 | school/class)"
fixed = { Intercept = 1, treat = 0.4 }
residual_variance = 0.7
[truth.random.school]
variance = { Intercept = 0.2 }
[truth.random.class]
variance = { Intercept = 0.1 }
[predictors.treat]
level = "school"
distribution = "balanced"
""")
CROSSED: dict[str, Any] = tomllib.loads("""
name = "crossed"
seed = 11
replications = 30
[design]
rows = 2
[design.factors]
subject = 12
item = 6
[truth]
formula = "y ~ cond + (1 + cond | subject) + (1 + cond || item)"
fixed = { Intercept = 1, cond = 0.4 }
residual_variance = 0.7
[truth.random.subject]
variance = { Intercept = 0.2, cond = 0.1 }
correlation = { "Intercept:cond" = 0.3 }
[truth.random.item]
variance = { Intercept = 0.1, cond = 0.1 }
[predictors.cond]
level = 1
distribution = "list"
values = [-0.5, 0.5]
[[method]]
name = "ml"
reml = false
df = ["satterthwaite", "z"]
""")


def structure_of(tables: dict[str, Any]) -> Structure:
    found = nl.Study.from_dict(tables).conditions[0].structure
    assert found is not None
    return found


def changed(tables: dict[str, Any], **new: Any) -> dict[str, Any]:
    made = copy.deepcopy(tables)
    for path, value in new.items():
        here = made
        *above, last = path.split("__")
        for word in above:
            here = here.setdefault(word, {})
        here[last] = value
    return made


def test_cells_of_nested_and_crossed_factors() -> None:
    three = cells_of(structure_of(THREE))
    assert three["school"].tolist() == [k // 2 for k in range(16)]
    assert three["class"].tolist() == list(range(16))
    crossed = cells_of(structure_of(CROSSED))
    assert crossed["subject"].tolist() == [k // 6 for k in range(72)]
    assert crossed["item"].tolist() == [k % 6 for k in range(72)]


def test_numbers_of_a_nested_factor_may_differ() -> None:
    numbers = [1, 2, 3, 1, 1, 2, 2, 1]
    cells = cells_of(structure_of(changed(THREE, design__factors__class={"within": "school", "number": numbers})))
    assert np.bincount(cells["school"]).tolist() == numbers
    assert cells["class"].tolist() == list(range(13))


@pytest.mark.parametrize(
    "written", ["(1 | school/class)", "(1 | school) + (1 | class)", "(1 | class:school) + (1 | school)"]
)
def test_a_nested_factor_is_named_by_itself(written: str) -> None:
    study = nl.Study.from_dict(changed(THREE, truth__formula=f"y ~ treat + {written}"))
    assert set(study.conditions[0].truth.formula.groups) == {"school", "class"}


@pytest.mark.parametrize("tables", [THREE, CROSSED], ids=["three", "crossed"])
def test_stored_fits_are_those_of_the_rows(tables: dict[str, Any], tmp_path: Path) -> None:
    """A replicate's rows, fitted by themselves, give what is stored."""
    results = nl.Study.from_dict(tables).run(out=tmp_path / "r", jobs=1)
    stored, study = results.replicates(), nl.Study.from_dict(tables)
    formula = tables["truth"]["formula"]
    for replicate in (0, 7, 29):
        rows = study.data(0, replicate)
        fit = nl.fit(formula, rows, reml="method" not in tables)
        row = stored[stored.replicate == replicate].iloc[0]
        for term, value in fit.beta.items():
            np.testing.assert_allclose(row[f"estimate.{term}"], value, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(row["estimate.var:residual"], fit.sigma**2, rtol=1e-5)
        assert row["status"] == fit.status.name
        df = row["df.treat"] if tables is THREE else row["df.cond/satterthwaite"]
        np.testing.assert_allclose(df, list(fit.df.values())[1], rtol=1e-4)


def test_true_values_and_icc(tmp_path: Path) -> None:
    summary = nl.Study.from_dict(THREE).run(out=tmp_path / "r", jobs=1)
    truths = summary.true_values(0).shared
    assert truths["var:class:Intercept"] == 0.1
    assert truths["icc:school"] == pytest.approx(0.2)
    assert truths["icc:class"] == pytest.approx(0.1)


def test_iccs_are_solved_together() -> None:
    tables = changed(CROSSED, grid={"icc": {"subject": [0.2], "item": [0.1]}})
    del tables["truth"]["random"]["subject"]["variance"]["Intercept"]
    del tables["truth"]["random"]["item"]["variance"]["Intercept"]
    truth = nl.Study.from_dict(tables).conditions[0].truth
    variances = {place: truth.covariance[k][k] for k, place in enumerate(truth.formula.places)}
    subject, item = variances["subject", "Intercept"], variances["item", "Intercept"]
    assert subject == pytest.approx(0.2 * (subject + item + 0.7))
    assert item == pytest.approx(0.1 * (subject + item + 0.7))


def test_axes_by_factor() -> None:
    tables = changed(THREE, grid={"clusters": {"school": [6, 8], "class": [2, 3]}, "size": {"class": [4]}})
    found = {
        (s.groupings[0].levels, s.groupings[1].levels, s.rows)
        for c in nl.Study.from_dict(tables).conditions
        if (s := c.structure) is not None
    }
    assert found == {(6, 12, 4), (6, 18, 4), (8, 16, 4), (8, 24, 4)}


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (
            {"design__factors__class": {"within": "shool", "number": 2}},
            'design.factors.class.within = "shool": must be another factor; did you mean "school"?',
        ),
        (
            {"design__factors__class": {"within": "school", "number": [1, 2]}},
            "design.factors.class.number = [1, 2]: must have a number for each of the 8 levels of school and not 2; correct the "
            "list, or write one number for all",
        ),
        (
            {"design__factors__school": {"within": "class", "number": 2}},
            'design.factors.school.within = "class": must not lie within itself, by way of school, class; name the larger one',
        ),
        (
            {"design__clusters": 5},
            "design.clusters = 5: must be absent beside [design.factors]; give each factor its number there",
        ),
        (
            {"predictors__treat__level": 2},
            "predictors.treat.level = 2: must be 1 (varies by row) or the factor that it varies with; write one of school, class",
        ),
        (
            {"truth__formula": "y ~ treat + (1 | school) + (1 | clas)"},
            'truth.formula = "y ~ treat + (1 | school) + (1 | clas)": has the grouping factor clas, which is not in '
            '[design.factors]; did you mean "class"?',
        ),
        (
            {
                "truth__formula": "y ~ treat + (1 + treat | school) + (1 | class)",
                "truth__random__school__variance__treat": 1,
            },
            'truth.formula = "y ~ treat + (1 + treat | school) + (1 | class)": can\'t have treat in (1 + treat | school), as it '
            "is constant within school; remove it there",
        ),
        (
            {"design__factors__class": {"within": "school", "number": 1}},
            "design.factors.class.number = 1: must be 2 or more in some school, for with one in each the intercepts of school "
            "and class are one; raise it, or leave one of them out of the formulas",
        ),
        (
            {"grid": {"icc": [0.1]}},
            "grid.icc = [0.1]: needs the factor that is meant; use one of icc.school, icc.class",
        ),
        (
            {"grid": {"clusters": [5]}},
            "grid.clusters = [5]: is for one grouping factor; use one of rows, clusters.school, clusters.class",
        ),
        (
            {"grid": {"variance_ratio": [0.1]}},
            "grid.variance_ratio = [0.1]: is for one grouping factor; name the value by its dotted path, such as "
            "truth.random.class.variance.Intercept",
        ),
        (
            {"grid": {"icc": {"school": [0.5], "class": [0.6]}}},
            "truth.random.school.variance.Intercept = inf: must be a finite number >= 0; lower the ratio or the variance",
        ),
    ],
)
def test_what_is_refused(new: dict[str, Any], line: str) -> None:
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(changed(THREE, **new)).conditions
    assert line in caught.value.problems


def test_factors_need_a_structure() -> None:
    tables = changed(THREE, design={"clusters": 5, "cluster_size": 3})
    with pytest.raises(
        StudyError, match=r"whose numbers are not given; add \[design.factors\] with a line for each of school, class"
    ):
        nl.Study.from_dict(tables)


def test_limits_are_those_of_the_rows(tmp_path: Path) -> None:
    """Profile limits of a stored replicate are those of a fit of its rows."""
    tables = changed(CROSSED, replications=3, truth__formula="y ~ cond + (1 | subject) + (1 | item)")
    for group in ("subject", "item"):
        tables["truth"]["random"][group] = {"variance": {"Intercept": 0.4}}
    tables["method"] = [{"name": "m", "intervals": "profile", "variance_intervals": "profile"}]
    stored = nl.Study.from_dict(tables).run(out=tmp_path / "r", jobs=1).replicates()
    limits = nl.fit(tables["truth"]["formula"], nl.Study.from_dict(tables).data(0, 1)).confint()
    row = stored[stored.replicate == 1].iloc[0]
    np.testing.assert_allclose(row["lower.cond"], limits.loc["cond", "lower"], rtol=1e-4)
    np.testing.assert_allclose(
        row["upper.var:item:Intercept"], limits.loc["sd_(Intercept)|item", "upper"] ** 2, rtol=1e-4
    )
    np.testing.assert_allclose(row["upper.var:residual"], limits.loc["sigma", "upper"] ** 2, rtol=1e-4)


def test_a_model_is_chosen_among_several(tmp_path: Path) -> None:
    """Backward by tests: what is stored is one of the models' own results."""
    chain = ["y ~ cond + (1 + cond || subject) + (1 + cond || item)", "y ~ cond + (1 + cond || subject) + (1 | item)"]
    formulas = ["y ~ cond + (1 + cond | subject) + (1 + cond || item)", *chain]
    tables = changed(CROSSED, replications=200)
    tables["method"] = [{"name": f"m{k}", "formula": formula} for k, formula in enumerate(formulas)]
    tables["method"] += [{"name": by, "select": by, "compare": chain} for by in ("lrt", "aic")]
    rows = {
        name: own.set_index("replicate")
        for name, own in nl.Study.from_dict(tables).run(out=tmp_path / "r", jobs=1).replicates().groupby("method")
    }
    for by in ("lrt", "aic"):
        equal = [
            np.isclose(rows[by]["estimate.cond"], rows[f"m{k}"]["estimate.cond"])
            & np.isclose(rows[by]["se.cond"], rows[f"m{k}"]["se.cond"])
            for k in range(3)
        ]
        assert np.any(equal, axis=0).all()
        assert np.array_equal(rows[by]["selected"] == 1, rows[by]["estimate.cov:subject:Intercept:cond"].notna())
    free = np.array([0, 1, 2])[:, None]
    criteria = np.stack([rows[f"m{k}"]["deviance"] for k in range(3)]) - 2 * free
    best = criteria.argmin(axis=0)
    chosen = np.where(rows["aic"]["selected"] == 1, 0, np.where(rows["aic"]["estimate.var:item:cond"].notna(), 1, 2))
    assert (chosen == best).mean() > 0.99


def test_a_list_of_models_needs_a_choice() -> None:
    tables = changed(CROSSED)
    tables["method"] = [{"name": "m", "reml": False, "compare": ["y ~ cond + (1 | subject)", "y ~ 1 + (1 | subject)"]}]
    with pytest.raises(
        StudyError,
        match='must be one model, unless select chooses from a list; add select = "lrt" or "aic", or keep one',
    ):
        nl.Study.from_dict(tables)
