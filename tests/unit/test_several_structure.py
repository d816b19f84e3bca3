"""What [design.factors] may say beyond equal numbers: unequal and drawn numbers, levels that rows draw, Latin squares, what is
missing, and rows from a file."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl
from nestlab.run.observed import observed_line
from nestlab.run.summarise import derive
from nestlab.show.countables import design_lines
from nestlab.simulate.centres import centres_of
from nestlab.simulate.possible import check_possible
from nestlab.simulate.several import SeveralDraw
from nestlab.simulate.sizes import size_distribution
from nestlab.simulate.source import source_of_data
from nestlab.spec.estimands import method_estimands, study_estimands
from nestlab.spec.identity import data_key
from nestlab.spec.model import Condition, Structure
from nestlab.spec.paths import path_reasons
from nestlab.spec.problems import StudyError
from nestlab.spec.study import StudyFile
from nestlab.spec.truths import true_values
from nestlab.spec.writing import to_toml

NESTED: dict[str, Any] = tomllib.loads("""
name = "nested"
seed = 11
replications = 24
[design]
rows = 4
[design.factors]
school = 20
class = { within = "school", number = 2 }
[truth]
formula = "y ~ x + (1 | school/class)"
fixed = { Intercept = 1, x = 0.4 }
residual_variance = 0.7
[truth.random.school]
variance = { Intercept = 0.2 }
[truth.random.class]
variance = { Intercept = 0.1 }
[predictors.x]
level = 1
distribution = "normal"
""")
JOINED: dict[str, Any] = tomllib.loads("""
name = "joined"
seed = 11
replications = 24
[design]
rows = 30
[design.factors]
school = 20
hood = { number = 50, given = "school", window = 0.1 }
[truth]
formula = "y ~ w + (1 | school) + (1 | hood)"
fixed = { Intercept = 1, w = 0.4 }
residual_variance = 0.7
[truth.random.school]
variance = { Intercept = 0.2 }
[truth.random.hood]
variance = { Intercept = 0.1 }
[predictors.w]
level = "hood"
distribution = "normal"
""")
CROSSED: dict[str, Any] = tomllib.loads("""
name = "crossed"
seed = 11
replications = 24
[design]
rows = 2
[design.factors]
subject = 12
item = 8
[truth]
formula = "y ~ cond + (1 | subject) + (1 | item)"
fixed = { Intercept = 1, cond = 0.4 }
residual_variance = 0.7
[truth.random.subject]
variance = { Intercept = 0.2 }
[truth.random.item]
variance = { Intercept = 0.1 }
[predictors.cond]
level = "subject:item"
distribution = "latin-square"
""")
POISSON = {"distribution": "poisson", "mean": 3}


def changed(tables: dict[str, Any], **new: Any) -> dict[str, Any]:
    """The tables with values at paths such as design__rows; None removes a key."""
    made = copy.deepcopy(tables)
    for path, value in new.items():
        here = made
        *above, last = path.split("__")
        for word in above:
            here = here.setdefault(word, {})
        if value is None:
            del here[last]
        else:
            here[last] = value
    return made


def condition_of(tables: dict[str, Any]) -> Condition:
    return nl.Study.from_dict(tables).conditions[0]


def structure_of(tables: dict[str, Any]) -> Structure:
    found = condition_of(tables).structure
    assert found is not None
    return found


def drawn(tables: dict[str, Any], block: int = 0) -> SeveralDraw:
    condition = condition_of(tables)
    draw = source_of_data(condition, [condition.truth.formula], data_key(condition)).draw(block)
    assert isinstance(draw, SeveralDraw)
    return draw


def frames(tables: dict[str, Any], replicates: int = 3) -> list[pd.DataFrame]:
    study = nl.Study.from_dict(tables)
    return [study.data(0, replicate) for replicate in range(replicates)]


def key_of(tables: dict[str, Any]) -> str:
    return data_key(condition_of(tables))


# -- unequal numbers -------------------------------------------------------------------------------------------------------


def test_rows_of_each_cell_are_listed() -> None:
    sizes = [1 + k % 5 for k in range(40)]
    frame = frames(changed(NESTED, design__rows=sizes), 1)[0]
    assert frame.groupby("class").size().tolist() == sizes


def test_rows_are_taken_in_turn() -> None:
    frame = frames(changed(NESTED, design__rows={"values": [3, 5], "in_turn": True}), 1)[0]
    assert frame.groupby("class").size().tolist() == [3, 5] * 20


def test_numbers_of_classes_are_drawn_in_each_replicate() -> None:
    """Counts by school have the distribution's shares, and rows are those of the classes."""
    tables = changed(NESTED, design__factors__class={"within": "school", "number": POISSON})
    structure, draw = structure_of(tables), drawn(tables)
    assert draw.kept is not None
    counts = []
    for r in range(draw.replicates):
        kept = draw.kept[:, r]
        school, class_ = draw.codes["school"][kept, r], draw.codes["class"][kept, r]
        pairs, rows = np.unique(np.stack([school, class_]), axis=1, return_counts=True)
        assert set(rows.tolist()) == {4}
        counts.append(np.bincount(pairs[0], minlength=20))
    values, probabilities = size_distribution(dict(structure.drawn)["class"])
    found = np.bincount(np.concatenate(counts), minlength=int(values[-1]) + 1)[values]
    expected = probabilities * 20 * draw.replicates
    large = expected > 5
    z = (found - expected)[large] / np.sqrt(expected * (1 - probabilities))[large]
    assert np.abs(z).max() < 4
    np.testing.assert_array_equal(draw.counts["rows"], 4 * np.array(counts).sum(axis=1))
    assert len(set(draw.counts["rows"].tolist())) > 10


def test_numbers_that_are_drawn_once_are_those_of_fewer_schools_and_others() -> None:
    once = {"within": "school", "number": POISSON | {"redraw": False}}
    few, many = (frames(changed(NESTED, design__factors={"school": schools, "class": once}), 2) for schools in (10, 20))
    pd.testing.assert_series_equal(*(frame["class"] for frame in few))
    numbers = [frame.groupby("school")["class"].nunique().tolist() for frame in (few[0], many[0])]
    assert numbers[1][:10] == numbers[0]
    assert len(set(numbers[1])) > 2


def test_numbers_of_rows_are_drawn_in_each_replicate() -> None:
    tables = changed(NESTED, design__rows={"distribution": "negative-binomial", "mean": 6, "cv": 0.8})
    rows = drawn(tables).counts["rows"]
    # 40 cells, each of mean about 6.06 (at least 1) and sd about 4.7
    assert abs(rows.mean() - 40 * 6.06) < 5
    assert 22 < rows.std() < 37


def test_rows_and_classes_may_both_be_drawn() -> None:
    tables = changed(NESTED, design__rows=POISSON, design__factors__class={"within": "school", "number": POISSON})
    frame = frames(tables, 1)[0]
    assert frame["school"].nunique() == 20
    assert len(set(frame.groupby(["school", "class"]).size())) > 3


def test_halves_of_rows_take_turns_where_their_numbers_are_odd() -> None:
    tables = changed(NESTED, design__rows=[3, 5] * 20, predictors__x={"level": 1, "distribution": "balanced"})
    ones = frames(tables, 1)[0].groupby("class").x.sum()
    assert ones.tolist() == [1, 3] * 20


# -- levels that rows draw -------------------------------------------------------------------------------------------------


def test_rows_draw_one_of_a_window_of_levels() -> None:
    draw = drawn(JOINED)
    assert draw.codes["hood"].shape == (600, 512)
    own = draw.codes["school"] * 50 // 20
    steps = (draw.codes["hood"] - own) % 50
    found = np.bincount(steps.ravel(), minlength=50)
    assert found[5:].sum() == 0
    share = found[:5] / found.sum()
    assert np.abs(share - 0.2).max() < 4 * np.sqrt(0.16 / steps.size)
    assert not np.array_equal(draw.codes["hood"][:, 0], draw.codes["hood"][:, 1])


def test_windows_of_the_last_levels_go_on_with_the_first() -> None:
    draw = drawn(JOINED)
    last = draw.codes["hood"][draw.codes["school"][:, 0] == 19]
    assert set(np.unique(last).tolist()) == {47, 48, 49, 0, 1}


def test_a_share_of_rows_goes_anywhere() -> None:
    draw = drawn(changed(JOINED, design__factors__hood={"number": 10, "given": "school", "mixing": 0.2}))
    left = (draw.codes["hood"] - draw.codes["school"] // 2) % 10
    stayed = (left == 0).mean()
    assert abs(stayed - (0.8 + 0.2 / 10)) < 4 * np.sqrt(0.15 / left.size)
    found = np.bincount(left.ravel(), minlength=10)[1:] / left.size
    assert np.abs(found - 0.02).max() < 4 * np.sqrt(0.02 / left.size)


def test_without_window_and_mixing_every_level_is_as_likely() -> None:
    codes = drawn(changed(JOINED, design__factors__hood={"number": 10, "given": "school"})).codes["hood"]
    assert np.abs(np.bincount(codes.ravel()) / codes.size - 0.1).max() < 4 * np.sqrt(0.09 / codes.size)


def test_levels_of_rows_may_be_drawn_once() -> None:
    hood = {"number": 50, "given": "school", "window": 0.1, "redraw": False}
    first, second, _ = frames(changed(JOINED, design__factors__hood=hood))
    pd.testing.assert_series_equal(first["hood"], second["hood"])


def test_a_predictor_of_a_level_that_rows_draw_is_constant_there() -> None:
    for frame in frames(JOINED, 2):
        assert (frame.groupby("hood").w.nunique() == 1).all()
        assert frame["hood"].nunique() > 40


def test_a_crossing_with_a_level_that_rows_draw_may_have_effects_and_predictors() -> None:
    tables = changed(
        JOINED,
        truth__formula="y ~ w + (1 | school) + (1 | hood) + (1 | school:hood)",
        predictors__w__level="school:hood",
    )
    tables["truth"]["random"]["school:hood"] = {"variance": {"Intercept": 0.1}}
    draw, frame = drawn(tables), frames(tables, 1)[0]
    assert draw.codes["school:hood"].shape == (600, 512)
    np.testing.assert_array_equal(draw.codes["school:hood"], draw.codes["school"] * 50 + draw.codes["hood"])
    assert (frame.groupby(["school", "hood"]).w.nunique() == 1).all()
    assert frame.groupby("hood").w.nunique().max() > 1


def test_a_third_factor_may_follow_from_the_second() -> None:
    tables = changed(JOINED, design__factors__college={"number": 5, "given": "hood", "mixing": 0.0})
    frame = frames(tables, 1)[0]
    assert ((frame["college"] - 1) == (frame["hood"] - 1) * 5 // 50).all()


@pytest.mark.parametrize(
    "tables",
    [
        JOINED,
        changed(NESTED, design__factors__class={"within": "school", "number": POISSON}),
        changed(NESTED, missing={"cells": 0.1, "rows": 0.05}),
        changed(CROSSED, predictors__cond__values=[-0.5, 0.5]),
        changed(NESTED, predictors__x={"level": "class", "distribution": "time"}),
    ],
    ids=["joined", "numbers", "missing", "latin square", "time of classes"],
)
def test_stored_fits_are_those_of_the_rows(tables: dict[str, Any], tmp_path: Path) -> None:
    """A replicate's rows, fitted by themselves, give what is stored."""
    study = nl.Study.from_dict(tables)
    results = study.run(out=tmp_path / "r", jobs=1)
    stored, line = results.replicates(), observed_line(results.observed())
    assert ("rows" in stored) == line.startswith("rows analysed: ")
    assert "clusters" not in line
    for replicate in (0, 23):
        rows = study.data(0, replicate)
        fit = nl.fit(tables["truth"]["formula"], rows)
        row = stored[stored.replicate == replicate].iloc[0]
        for term, value in fit.beta.items():
            np.testing.assert_allclose(row[f"estimate.{term}"], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(row["estimate.var:residual"], fit.sigma**2, rtol=1e-5)
        if "rows" in row:
            assert row["rows"] == len(rows)


# -- predictors ------------------------------------------------------------------------------------------------------------


def test_conditions_of_a_latin_square_are_balanced_by_subject_and_by_item() -> None:
    cond = {"level": "subject:item", "distribution": "latin-square", "values": [-0.5, 0.5]}
    frame = frames(changed(CROSSED, predictors__cond=cond), 1)[0]
    assert set(frame["cond"]) == {-0.5, 0.5}
    for factor, rows in (("subject", 8), ("item", 12)):
        assert (frame.groupby([factor, "cond"]).size() == rows).all()
    assert (frame.groupby(["subject", "item"]).cond.nunique() == 1).all()


def test_a_latin_square_may_have_categories() -> None:
    cond = {
        "level": "subject:item",
        "distribution": "latin-square",
        "categories": ["a", "b", "c", "d"],
        "coding": "sum",
    }
    fixed = {"Intercept": 1, "cond[a]": 0.1, "cond[b]": 0.2, "cond[c]": 0.3}
    frame = frames(changed(CROSSED, predictors__cond=cond, truth__fixed=fixed), 1)[0]
    assert (frame.groupby(["subject", "cond"]).size() == 4).all()
    assert frame.groupby(["item", "cond"]).size().shape == (32,)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"distribution": "balanced"}, [0, 1, 0, 1, 0, 1, 0, 1]),
        ({"distribution": "arms", "clusters": [5, 3]}, [0, 0, 0, 0, 0, 1, 1, 1]),
        ({"distribution": "arms", "shares": [1, 3]}, [0, 0, 1, 1, 1, 1, 1, 1]),
        ({"distribution": "list", "values": [0, 0, 1]}, [0, 0, 1, 0, 0, 1, 0, 0]),
    ],
)
def test_items_may_be_of_conditions(given: dict[str, Any], values: list[float]) -> None:
    frame = frames(changed(CROSSED, predictors__cond=given | {"level": "item"}), 1)[0]
    assert frame.groupby("item").cond.first().tolist() == values
    assert (frame.groupby("item").cond.nunique() == 1).all()


def test_time_runs_over_the_levels_that_a_level_holds() -> None:
    tables = changed(
        NESTED, predictors__x={"level": "class", "distribution": "time"}, design__factors__class={"within": "school", "number": 3}
    )  # fmt: skip
    frame = frames(tables, 1)[0]
    assert frame.groupby("class").x.first().tolist() == [0, 1, 2] * 20


def test_a_schedule_runs_over_a_crossing() -> None:
    cond = {"level": "subject:item", "distribution": "schedule", "design": "stepped-wedge", "periods": 8}
    frame = frames(changed(CROSSED, predictors__cond=cond), 1)[0]
    starts = frame[frame.cond == 1].groupby("subject")["item"].min()
    assert starts.tolist() == [2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("level", [1, "school"])
def test_predictors_of_one_place_may_be_correlated(level: int | str) -> None:
    tables = changed(
        NESTED,
        truth__formula="y ~ x + w + (1 | school/class)",
        truth__fixed={"Intercept": 1, "x": 0.4, "w": 0.1},
        predictors__x={"level": level, "distribution": "normal"},
        predictors__w={"level": level, "distribution": "binary", "share": 0.3},
        correlation={"x:w": 0.5},
    )
    draw = drawn(tables)
    found = np.corrcoef(draw.columns["x"].ravel(), draw.columns["w"].ravel())[0, 1]
    assert abs(found - 0.5) < 4 / np.sqrt(draw.columns["x"].size)
    assert "predictors are correlated" in path_reasons(condition_of(tables))


def test_an_effect_may_be_stated_per_sd() -> None:
    school = {"level": "school", "distribution": "balanced"}
    effect = {"Intercept": 1, "x": {"d": 0.4, "per": "sd"}}
    for predictor, sd in ((school, 0.5), ({"level": 1, "distribution": "normal", "sd": 3}, 3.0)):
        truth = condition_of(changed(NESTED, predictors__x=predictor, truth__fixed=effect)).truth
        assert truth.fixed[1] == pytest.approx(0.4 * 1.0 / sd)  # the total variance is 0.2 + 0.1 + 0.7


# -- errors ----------------------------------------------------------------------------------------------------------------


def test_errors_follow_an_autoregression_within_cells() -> None:
    e = drawn(changed(NESTED, truth__errors={"ar1": 0.6})).e.reshape(40, 4, -1)
    n = np.sqrt(e[:, 0].size)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(e[:, 0].ravel(), e[:, lag].ravel())[0, 1] - 0.6**lag) < 4 / n
    assert abs(np.corrcoef(e[:-1, 3].ravel(), e[1:, 0].ravel())[0, 1]) < 4 / n
    assert abs(e.var() - 0.7) < 4 * 0.7 * np.sqrt(2 / e.size) * 2


def test_the_residual_variance_may_differ_by_a_predictor_of_a_factor() -> None:
    tables = changed(
        NESTED,
        predictors__x={"level": "school", "distribution": "balanced"},
        truth__errors={"variance_ratio": {"x": 3}},
    )
    draw = drawn(tables)
    treated = draw.term("x")[:, 0] == 1
    assert draw.e[treated].var() / draw.e[~treated].var() == pytest.approx(3, rel=0.05)


# -- missing ---------------------------------------------------------------------------------------------------------------


def test_whole_cells_are_lost() -> None:
    kept = drawn(changed(CROSSED, missing={"cells": 0.1})).kept
    assert kept is not None
    cells = kept.reshape(96, 2, -1)
    np.testing.assert_array_equal(cells[:, 0], cells[:, 1])
    assert abs(cells.mean() - 0.9) < 4 * np.sqrt(0.09 / cells[:, 0].size)


def test_levels_of_a_factor_are_lost() -> None:
    kept = drawn(changed(CROSSED, missing={"levels": {"subject": 0.25}})).kept
    assert kept is not None
    subjects = kept.reshape(12, 16, -1)
    assert (subjects.all(axis=1) | ~subjects.any(axis=1)).all()
    assert abs(subjects.mean() - 0.75) < 4 * np.sqrt(0.1875 / (12 * 512))


def test_rows_of_cells_drop_out_in_their_order() -> None:
    kept = drawn(changed(NESTED, missing={"hazard": 0.2})).kept
    assert kept is not None
    cells = kept.reshape(40, 4, -1)
    for place in range(4):
        assert abs(cells[:, place].mean() - 0.8**place) < 4 * np.sqrt(0.25 / cells[:, 0].size)
    assert (np.diff(cells.astype(int), axis=1) <= 0).all()


def test_rows_are_lost_by_a_predictor() -> None:
    draw = drawn(changed(NESTED, missing={"at_random": {"on": "x", "intercept": -1, "slope": 0.8}}))
    x, kept = draw.term("x"), draw.kept
    assert kept is not None
    for low, high in ((-2, -1), (-0.5, 0.5), (1, 2)):
        there = (x > low) & (x < high)
        expected = 1 / (1 + np.exp(-1 + 0.8 * x[there]))
        assert abs((~kept[there]).mean() - (1 - expected).mean()) < 4 * np.sqrt(0.25 / there.sum())


def test_rows_are_lost_by_the_outcome_before_in_their_cell() -> None:
    at_random = {"on": "previous", "intercept": -2, "slope": 1.5, "monotone": True}
    draw = drawn(changed(NESTED, missing={"at_random": at_random}))
    y, kept = draw.response().reshape(40, 4, -1), draw.kept
    assert kept is not None
    cells = kept.reshape(40, 4, -1)
    assert cells[:, 0].all()
    assert (np.diff(cells.astype(int), axis=1) <= 0).all()
    expected = 1 / (1 + np.exp(-(-2 + 1.5 * y[:, 0])))
    assert abs((~cells[:, 1]).mean() - expected.mean()) < 4 * np.sqrt(0.25 / expected.size)
    high = y[:, 0] > 1.5
    assert abs((~cells[:, 1])[high].mean() - expected[high].mean()) < 4 * np.sqrt(0.25 / high.sum())


# -- rows of a file --------------------------------------------------------------------------------------------------------

FILED: dict[str, Any] = tomllib.loads("""
name = "filed"
seed = 11
replications = 24
[design.factors]
school = { file = "rows.csv", column = "sch" }
class = { within = "school", file = "rows.csv", column = "cl" }
[truth]
formula = "y ~ ses + (1 | school/class)"
fixed = { Intercept = 1, ses = 0.4 }
residual_variance = 0.7
[truth.random.school]
variance = { Intercept = 0.2 }
[truth.random.class]
variance = { Intercept = 0.1 }
[predictors.ses]
level = 1
distribution = "list"
file = "rows.csv"
column = "ses"
""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = pd.DataFrame(
        {
            "sch": ["b", "b", "b", "a", "a", "c", "c", "c"] * 2,
            "cl": [1, 1, 2, 1, 2, 1, 2, 2] * 2,
            "ses": np.arange(16) / 4,
        }
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


def filed(folder: Path, **new: Any) -> nl.Study:
    text = folder / "study.toml"
    text.write_text(to_toml(changed(FILED, **new)))
    return nl.Study.from_toml(text)


def test_rows_are_those_of_a_file(folder: Path) -> None:
    study = filed(folder)
    frame = study.data(0, 0)
    assert frame["school"].tolist() == [1, 1, 1, 2, 2, 3, 3, 3] * 2
    assert frame["ses"].tolist() == (np.arange(16) / 4).tolist()
    assert frame["class"].nunique() == 6  # the file numbers classes anew in each school
    assert (frame.groupby("class").school.nunique() == 1).all()
    assert path_reasons(study.conditions[0]) == ("its rows are those of a file",)


def test_a_study_of_a_file_stands_alone(folder: Path) -> None:
    study = filed(folder)
    text = StudyFile.from_toml(folder / "study.toml").to_toml()
    (folder / "rows.csv").unlink()
    again = nl.Study.from_dict(tomllib.loads(text))
    assert data_key(again.conditions[0]) == data_key(study.conditions[0])
    assert "rows.csv, column sch" in text


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ({"design__rows": 4}, "design.rows = 4: must be absent where the rows are those of a file; remove it"),
        (
            {"design__factors__class": 3},
            'design.factors.class must be a column of a file as school is, or neither; write class = { file = "rows.csv", '
            'column = "class" }',
        ),
        (
            {"design__factors__class": {"values": [1, 2, 1]}},
            "design.factors.class must have as many rows as the other columns, and school has 16, class has 3; take columns of "
            "one file",
        ),
        (
            {"design__factors__class__number": 3},
            "design.factors.class.number must be absent where a file has the level of each row; remove it, or "
            "design.factors.class.file",
        ),
        (
            {"design__factors__class__column": "sc"},
            'design.factors.class.column = "sc": must be a column of rows.csv; did you mean "sch"?',
        ),
        (
            {"predictors__ses": {"level": 1, "distribution": "time"}},
            'predictors.ses.distribution = "time": must not be "time" where the rows are those of a file, whose order says '
            'nothing; write "list" with the file and a column of it',
        ),
        (
            {"predictors__ses": {"level": 1, "distribution": "list", "values": [0, 1]}},
            "predictors.ses.values must have a value for each of the 16 rows of the file, and has 2; name a column of that file",
        ),
        (
            {"missing": {"cells": 0.1}},
            "missing.cells needs cells, and the rows of a file are in one; write missing.rows or missing.levels",
        ),
        (
            {"missing": {"at_random": {"on": "previous", "intercept": -2, "slope": 1}}},
            "missing.at_random needs cells, and the rows of a file are in one; write missing.rows or missing.levels",
        ),
        (
            {"truth__errors": {"ar1": 0.4}},
            "truth.errors.ar1 = 0.4: needs cells whose rows are in order, and those of a file are in one cell; remove it",
        ),
    ],
)
def test_what_a_file_is_refused_for(new: dict[str, Any], line: str, folder: Path) -> None:
    with pytest.raises(StudyError) as caught:
        filed(folder, **new)
    assert line in caught.value.problems


@pytest.mark.parametrize(
    ("column", "line"),
    [
        (
            ["a", None, "b"],
            'column = "sch": must have a level in each row, and row 2 of rows.csv has none (1 in all); fill or remove them',
        ),
        (["a", "a", "a"], 'column = "sch": must have 2 levels or more, and that of rows.csv has 1'),
    ],
)  # fmt: skip
def test_columns_that_give_no_levels(column: list[Any], line: str, tmp_path: Path) -> None:
    pd.DataFrame({"sch": column, "cl": [1, 2, 1], "ses": [1, 2, 3]}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(StudyError) as caught:
        filed(tmp_path)
    assert f"design.factors.school.{line}" in caught.value.problems


# -- identity, axes, refusals ----------------------------------------------------------------------------------------------


def test_every_key_of_the_structure_is_part_of_what_is_drawn() -> None:
    class_ = {"within": "school", "number": POISSON}
    hood = {"number": 50, "given": "school", "window": 0.1}
    different = [
        NESTED,
        changed(NESTED, design__rows=[4] * 39 + [5]),
        changed(NESTED, design__rows=POISSON),
        changed(NESTED, design__rows=POISSON | {"redraw": False}),
        changed(NESTED, design__factors__class=class_),
        changed(NESTED, design__factors__class=class_ | {"number": POISSON | {"mean": 4}}),
        changed(NESTED, design__factors__class=class_ | {"number": POISSON | {"minimum": 2}}),
        changed(NESTED, missing={"cells": 0.1}),
        changed(NESTED, missing={"levels": {"school": 0.1}}),
        changed(NESTED, missing={"levels": {"class": 0.1}}),
        JOINED,
        *(
            changed(JOINED, design__factors__hood=hood | more)
            for more in ({"window": 0.2}, {"mixing": 0.1}, {"redraw": False}, {"number": 40})
        ),
        CROSSED,
        changed(CROSSED, predictors__cond__values=[-0.5, 0.5]),
    ]
    assert len({key_of(tables) for tables in different}) == len(different)


def test_words_are_no_part_of_what_is_drawn() -> None:
    assert key_of(NESTED) == key_of(changed(NESTED, design__rows=[4] * 40))
    assert key_of(NESTED) == key_of(changed(NESTED, design__factors__class__number=[2] * 20))
    assert key_of(NESTED) == key_of(changed(NESTED, design__rows={"values": [4], "in_turn": True}))
    assert key_of(JOINED) == key_of(changed(JOINED, design__factors__hood__mixing=0.0))
    values = {"level": "subject:item", "distribution": "latin-square", "values": [0, 1]}
    assert key_of(CROSSED) == key_of(changed(CROSSED, predictors__cond=values))


@pytest.mark.parametrize(
    ("tables", "axis", "values"),
    [
        (changed(NESTED, design__rows=POISSON), "design.rows.mean", [3, 4]),
        (changed(NESTED, design__rows=POISSON), "size.class", [3, 4]),
        (changed(NESTED, design__rows=POISSON), "design.rows", [3, 4]),
        (NESTED, "design.rows", [3, 4]),
        (
            changed(NESTED, design__factors__class={"within": "school", "number": POISSON}),
            "design.factors.class.number.mean",
            [2, 3],
        ),
        (
            changed(NESTED, design__factors__class={"within": "school", "number": POISSON}),
            "clusters.class",
            [2, 3],
        ),
        (NESTED, "design.factors.class.number", [2, 3]),
        (NESTED, "clusters.school", [10, 20]),
        (JOINED, "clusters.hood", [40, 50]),
        (JOINED, "design.factors.hood.number", [40, 50]),
        (JOINED, "design.factors.hood.window", [0.1, 0.5]),
        (JOINED, "design.factors.hood.mixing", [0.1, 0.5]),
        (NESTED, "missing.cells", [0.1, 0.2]),
        (changed(NESTED, missing={"levels": {"school": 0.1}}), "missing.levels.school", [0.1, 0.2]),
    ],
)
def test_numbers_are_axes(tables: dict[str, Any], axis: str, values: list[Any]) -> None:
    found = nl.Study.from_dict(changed(tables, grid={axis: values})).conditions
    assert len({data_key(condition) for condition in found}) == 2
    assert [c.factors[axis] for c in found] == values


@pytest.mark.parametrize(
    ("tables", "new", "line"),
    [
        (
            NESTED,
            {"design__rows": [3] * 39},
            "must have a number for each of the 40 cells and not 39; correct the list, or write one number for all",
        ),
        (
            NESTED,
            {"design__factors__class": {"within": "school", "number": POISSON}, "design__rows": [3] * 40},
            "must be one number, or drawn, where the numbers of class are drawn; write it, or a distribution",
        ),
        (
            NESTED,
            {"design__factors__school": {"number": POISSON}},
            'design.factors.school.number = "{ ... }": must be one whole number, for this factor is nested in none; write it, '
            "or add within",
        ),
        (
            NESTED,
            {"design__factors__class": {"within": "school", "number": 2, "window": 0.1}},
            "design.factors.class.window = 0.1: is of factors whose levels rows draw; add given, the factor on which they "
            "depend, or remove it",
        ),
        (
            JOINED,
            {"design__factors__hood__within": "school"},
            'design.factors.hood.within = "school": must not stand beside design.factors.hood.given: a nested factor divides the '
            "cells; remove one of the two",
        ),
        (
            JOINED,
            {"design__factors__hood__given": "shool"},
            'design.factors.hood.given = "shool": must be another factor; did you mean "school"?',
        ),
        (
            JOINED,
            {"design__factors__block": {"within": "hood", "number": 2}},
            'design.factors.block.within = "hood": must divide the cells, and rows draw their level of hood; write one of school',
        ),
        (
            JOINED,
            {"design__factors__school": {"number": 3, "given": "hood"}},
            'design.factors.school.given = "hood": must not lie within itself, by way of school, hood; name the larger one',
        ),
        (
            JOINED,
            {"design__factors__hood__redraw": False, "design__rows": POISSON},
            "design.factors.hood.redraw = false: must be true or absent, as numbers are drawn anew in each replicate; remove it, "
            "or add redraw = false there",
        ),
        (
            JOINED,
            {"design__factors__college": {"number": 3, "given": "hood", "redraw": False}},
            "design.factors.college.redraw = false: must be true or absent, as rows draw their hood anew in each replicate; "
            "remove it, or add redraw = false there",
        ),
        (
            NESTED,
            {"design__rows": POISSON, "predictors__x__redraw": False},
            "predictors.x.redraw = false: must be true or absent where numbers are drawn in each replicate; remove it, or add "
            "redraw = false to the numbers",
        ),
        (
            NESTED,
            {
                "design__factors__class": {"within": "school", "number": POISSON},
                "predictors__x": {"level": "class", "distribution": "balanced"},
            },
            'predictors.x.distribution = "balanced": must be drawn where the numbers of class are, for no level is sure to be '
            'there; write "binary", "categorical" or "normal", say',
        ),
        (
            NESTED,
            {"predictors__x": {"level": "school", "distribution": "arms", "clusters": [5, 6]}},
            "predictors.x.clusters = [5, 6]: must sum to the 20 levels of school, and sum to 11; correct one of the two",
        ),
        (
            NESTED,
            {"predictors__x": {"distribution": "arms", "clusters": [5, 15]}},
            'predictors.x.level is missing: distribution = "arms" needs a factor; add level = "school", say',
        ),
        (
            NESTED,
            {"predictors__x": {"level": "school", "distribution": "time"}},
            'predictors.x.level = "school": must be 1, a nested factor or a crossing of two for distribution = "time", which '
            'runs over what a level holds; write 1, or such as "school:visit"',
        ),
        (
            NESTED,
            {"predictors__x": {"level": 1, "distribution": "schedule", "design": "stepped-wedge", "periods": 3}},
            "design.rows = 4: must be at most 3, the rows of the schedule x, and cells have up to 4 rows; add periods, raise "
            "rows_per_period, or lower the sizes",
        ),
        (
            CROSSED,
            {"predictors__cond__level": "item"},
            'predictors.cond.level = "item": must be a crossing of two factors of [design.factors] for distribution = '
            '"latin-square"; write "subject:item", say',
        ),
        (
            CROSSED,
            {"design__factors__item": 3, "predictors__cond__values": [1, 2, 3, 4]},
            "predictors.cond.values = [1.0, 2.0, 3.0, 4.0]: must have at most as many conditions as levels of each factor, and "
            "subject:item have 12 and 3; raise those, or lower these",
        ),
        (
            NESTED,
            {
                "correlation": {"x:w": 0.3},
                "predictors__w": {"level": "school", "distribution": "normal"},
                "truth__formula": "y ~ x + w + (1 | school/class)",
                "truth__fixed__w": 0,
            },
            "correlation.w:x = 0.3: must be of predictors of one place, and w is of school and x of rows; remove it",
        ),
        (
            NESTED,
            {"missing": {"clusters": 0.1}},
            "missing.clusters = 0.1: is for one grouping factor; write missing.cells, or missing.levels.school = 0.1",
        ),
        (
            NESTED,
            {"missing": {"levels": {"clas": 0.1}}},
            'missing.levels.clas = 0.1: must be of a factor of [design.factors]; did you mean "class"?',
        ),
        (
            NESTED,
            {"truth__errors": {"cluster_cv": 0.3}},
            "truth.errors.cluster_cv = 0.3: is for one grouping factor: remove it, or [design.factors]",
        ),
        (
            NESTED,
            {"truth__fixed__x": {"d": 0.3, "by": "outcome"}},
            'truth.fixed.x.d = 0.3: goes by "total" or "residual" variance with several grouping factors; remove by',
        ),
        (
            NESTED,
            {"truth__fixed__x": {"r2": 0.3}},
            "truth.fixed.x.r2 = 0.3: needs one grouping factor, for levels are those of rows and clusters; write d, or a number",
        ),
        (
            NESTED,
            {"truth__fixed__Intercept": {"d": 0.3, "per": "sd"}},
            'truth.fixed.Intercept.d = 0.3: must be per = "unit" for Intercept, which is no predictor by itself; remove per',
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tables: dict[str, Any], new: dict[str, Any], line: str) -> None:
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(changed(tables, **new)).conditions
    assert any(problem == line or problem.endswith(f": {line}") for problem in caught.value.problems), (
        caught.value.problems
    )


@pytest.mark.parametrize(("word", "value"), [("cells", 0.1), ("levels", {"cluster": 0.1})])
def test_what_is_missing_of_several_factors_needs_them(word: str, value: Any) -> None:
    tables = {
        "name": "one", "seed": 1, "replications": 10, "design": {"clusters": 10, "cluster_size": 5}, "missing": {word: value},
        "truth": {
            "formula": "y ~ 1 + (1 | cluster)", "fixed": {"Intercept": 0}, "residual_variance": 1,
            "random": {"cluster": {"variance": {"Intercept": 1}}},
        },
    }  # fmt: skip
    with pytest.raises(StudyError) as caught:
        nl.Study.from_dict(tables)
    line = f"missing.{word} is for several grouping factors; write missing.clusters, or add [design.factors]"
    assert caught.value.problems == [line]


def test_sizes_that_no_distribution_has_are_named_by_their_key() -> None:
    number = {"distribution": "uniform", "mean": 3.5, "cv": 0.01}
    study = nl.Study.from_dict(changed(NESTED, design__factors__class={"within": "school", "number": number}))
    with pytest.raises(StudyError) as caught:
        check_possible(study.conditions)
    assert caught.value.problems == [
        "design.factors.class.number.cv = 0.01: must be greater than about 0.14, as sizes are whole numbers, for distribution = "
        '"uniform" and mean = 3.5; write such a cv, or number = a list',
    ]


# -- what people are told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "lines"),
    [
        (
            NESTED,
            [
                "design: 20 schools of 2 classes of 4 rows (160 rows in all)",
                "predictors: x of rows",
            ],
        ),
        (
            JOINED,
            [
                "design: 20 schools of 30 rows, each row in one of 50 hoods (600 rows in all)",
                "predictors: w of hood",
            ],
        ),
        (
            changed(
                NESTED, design__rows=POISSON, design__factors__class={"within": "school", "number": POISSON | {"redraw": False}}
            ),
            [
                "design: 20 schools of about 3 classes of about 3 rows (about 180 rows in all)",
                "predictors: x of rows",
            ],
        ),
        (
            changed(NESTED, design__rows=[3, 5] * 20, grid={"clusters": {"school": [20], "class": [2]}}),
            [
                "design: 20 schools of 2 classes of 3 to 5 rows (160 rows in all)",
                "predictors: x of rows",
            ],
        ),
        (
            changed(CROSSED, grid={"clusters": {"item": [8, 16]}}),
            [
                "design of the first condition: 12 subjects crossed with 8 items, 2 rows per cell (192 rows in all)",
                "predictors: cond of subject:item",
            ],
        ),
    ],
)  # fmt: skip
def test_the_design_in_words(tables: dict[str, Any], lines: list[str]) -> None:
    assert design_lines(nl.Study.from_dict(tables).conditions) == lines


def test_the_design_of_a_file_in_words(folder: Path) -> None:
    assert design_lines(filed(folder).conditions)[0] == "design: 3 schools, 6 classes in 16 rows"


def test_a_study_of_one_factor_has_no_such_lines() -> None:
    assert design_lines(nl.Study.from_toml("studies/article.toml").conditions) == []


def test_two_rows_of_a_class_have_a_correlation_of_their_own() -> None:
    """Its true value, and what is derived from stored columns, are the variances of school and class over all."""
    study = StudyFile.from_dict(NESTED)
    condition, estimands = study.conditions()[0], study_estimands(study.conditions()[0].truth.formula, study.methods())
    assert [name for name in estimands if name.startswith("icc")] == ["icc:school", "icc:class", "icc:school/class"]
    truths = true_values(condition, study.methods(), centres_of(condition)).shared
    assert truths["icc:school/class"] == pytest.approx(0.3)
    assert truths["icc:school/class"] == pytest.approx(truths["icc:school"] + truths["icc:class"])
    columns = {
        "estimate.var:school:Intercept": np.array([0.2, 0.0]),
        "estimate.var:class:Intercept": np.array([0.1, 0.5]),
        "estimate.var:residual": np.array([0.7, 0.5]),
    }
    found = derive(columns, estimands.values())
    np.testing.assert_allclose(found["estimate.icc:school/class"], [0.3, 0.5])
    np.testing.assert_allclose(found["estimate.icc:school"], [0.2, 0.0])


def test_a_method_without_the_larger_factor_has_no_correlation_of_two_rows() -> None:
    study = StudyFile.from_dict(changed(NESTED, method=[{"name": "m", "formula": "y ~ x + (1 | class)"}]))
    estimands = study_estimands(study.conditions()[0].truth.formula, study.methods())
    own = method_estimands(study.methods()[0], estimands)
    assert "icc:class" in own
    assert "icc:school/class" not in own


def test_rows_of_a_crossing_share_its_factors() -> None:
    formula = "y ~ cond + (1 | subject) + (1 | item) + (1 | subject:item)"
    tables = changed(CROSSED, truth__formula=formula)
    tables["truth"]["random"]["subject:item"] = {"variance": {"Intercept": 0.1}}
    found = condition_of(tables).truth.formula
    assert found.shared("subject:item", found.groups) == ("subject", "item", "subject:item")
    assert found.shared("item", found.groups) == ("item",)
