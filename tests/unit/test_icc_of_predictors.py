"""A predictor of rows with parts that are those of the levels of several grouping factors: icc = { school = 0.2, hood = 0.1 }."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nestlab as nl
from nestlab.show.report.predictors import predictor_text
from nestlab.simulate.several import SeveralDraw
from nestlab.simulate.source import source_of_data
from nestlab.spec.identity import data_key, describe
from nestlab.spec.model import Condition
from nestlab.spec.problems import StudyError

MEAN, SD, SCHOOL, HOOD = 3.0, 2.0, 0.3, 0.2
JOINED: dict[str, Any] = tomllib.loads(f"""
name = "joined"
seed = 12
replications = 20
[design]
rows = 6
[design.factors]
school = 8
hood = {{ number = 16, given = "school", window = 0.25 }}
[truth]
formula = "y ~ x + (1 | school) + (1 | hood)"
fixed = {{ Intercept = 1, x = 0.4 }}
residual_variance = 0.7
[truth.random.school]
variance = {{ Intercept = 0.2 }}
[truth.random.hood]
variance = {{ Intercept = 0.1 }}
[predictors.x]
level = 1
distribution = "normal"
mean = {MEAN}
sd = {SD}
icc = {{ school = {SCHOOL}, hood = {HOOD} }}
""")
NESTED: dict[str, Any] = {
    **JOINED,
    "design": {"rows": 3, "factors": {"school": 6, "hood": {"within": "school", "number": 4}}},
}
CROSSED: dict[str, Any] = {**JOINED, "design": {"rows": 2, "factors": {"school": 6, "hood": 5}}}
DESIGNS = {"rows draw their hoods": JOINED, "hoods within schools": NESTED, "crossed": CROSSED}


def with_x(tables: dict[str, Any], **new: Any) -> dict[str, Any]:
    """The tables with other keys of x; None removes one."""
    made = copy.deepcopy(tables)
    x = made["predictors"]["x"] | new
    made["predictors"]["x"] = {key: value for key, value in x.items() if value is not None}
    return made


def condition_of(tables: dict[str, Any]) -> Condition:
    return nl.Study.from_dict(tables).conditions[0]


def draws(tables: dict[str, Any], blocks: int = 2) -> list[SeveralDraw]:
    condition = condition_of(tables)
    source = source_of_data(condition, [condition.truth.formula], data_key(condition))
    found = [source.draw(block) for block in range(blocks)]
    assert all(isinstance(draw, SeveralDraw) for draw in found)
    return found  # type: ignore[return-value]


def codes_of(draw: SeveralDraw, factor: str) -> np.ndarray:
    """(N, R)"""
    return np.broadcast_to(draw.codes[factor], (draw.members.rows, draw.replicates))


@pytest.mark.parametrize("name", DESIGNS)
def test_rows_covary_by_the_levels_that_they_share(name: str) -> None:
    """The mean product of two rows' deviations, by which levels they share; 4 standard errors over replicates."""
    products: dict[tuple[bool, bool], list[float]] = {}
    for draw in draws(DESIGNS[name]):
        x = draw.term("x") - MEAN
        school, hood = codes_of(draw, "school"), codes_of(draw, "hood")
        upper = np.triu(np.ones((len(x), len(x)), dtype=bool), 1)
        for r in range(draw.replicates):
            pairs = np.outer(x[:, r], x[:, r])
            same = [own[:, r, None] == own[None, :, r] for own in (school, hood)]
            for key in ((a, b) for a in (False, True) for b in (False, True)):
                chosen = upper & (same[0] == key[0]) & (same[1] == key[1])
                if chosen.any():
                    products.setdefault(key, []).append(pairs[chosen].mean())
    assert len(products) == (3 if name == "hoods within schools" else 4)
    for (of_school, of_hood), found in products.items():
        expected = SD**2 * (SCHOOL * of_school + HOOD * of_hood)
        assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(len(found)), (of_school, of_hood)


def test_values_and_differences_are_normal() -> None:
    """One row, and differences of rows that share a cell, a school, a hood or nothing, once per replicate."""
    x = np.concatenate([draw.term("x") for draw in draws(CROSSED, 8)], axis=1)
    cell = {(s, h): 2 * (5 * s + h) for s in range(6) for h in range(5)}  # the first row of each cell
    share = {"cell": SCHOOL + HOOD, "school": SCHOOL, "hood": HOOD, "none": 0.0}
    other = {"cell": cell[0, 0] + 1, "school": cell[0, 1], "hood": cell[1, 0], "none": cell[1, 1]}
    assert stats.kstest(x[cell[3, 3]], stats.norm(MEAN, SD).cdf).pvalue > 1e-4
    for name, place in other.items():
        sd = SD * np.sqrt(2 * (1 - share[name]))
        assert stats.kstest(x[0] - x[place], stats.norm(0, sd).cdf).pvalue > 1e-4, name
        assert stats.kstest(x[0] - x[place], stats.norm(0, 1.2 * sd).cdf).pvalue < 1e-4, "the test can tell"


def test_correlated_predictors_are_correlated_in_each_part() -> None:
    """Of rows by the stated number; of rows that share a school by what its parts have in common."""
    tables = with_x(CROSSED)
    tables["truth"] = tables["truth"] | {
        "formula": "y ~ x + v + w + (1 | school) + (1 | hood)", "fixed": {"Intercept": 1, "x": 0, "v": 0, "w": 0},
    }  # fmt: skip
    tables["predictors"]["v"] = {"level": 1, "distribution": "normal", "icc": {"school": 0.1}}
    tables["predictors"]["w"] = {"level": 1, "distribution": "normal"}
    tables["correlation"] = {"v:x": 0.5, "w:x": 0.4}
    found = draws(tables, 8)
    x, v, w = (np.concatenate([draw.term(name) for draw in found], axis=1) for name in "xvw")
    parts = np.sqrt([SCHOOL * 0.1, (1 - SCHOOL - HOOD) * 0.9])  # what x and v have of both
    of_parts = 0.5 / parts.sum()
    for a, b, expected in (
        (x[0], v[0], 0.5), (x[0], w[0], 0.4), (x[0], v[2], of_parts * parts[0]), (x[0], v[10], 0.0), (x[0], w[2], 0.0),
    ):  # fmt: skip
        r = np.corrcoef(a, b)[0, 1]
        assert abs(np.arctanh(r) - np.arctanh(expected)) < 4 / np.sqrt(len(a)), expected


def test_a_crossing_may_have_a_part() -> None:
    draw = draws(with_x(CROSSED, icc={"school:hood": 0.6}), 4)
    x = np.concatenate([each.term("x") for each in draw], axis=1)
    for place, expected in ((1, 0.6), (2, 0.0), (10, 0.0)):
        assert abs(np.corrcoef(x[0], x[place])[0, 1] - expected) < 4 / np.sqrt(x.shape[1])


def test_stored_fits_are_those_of_the_rows(tmp_path: Path) -> None:
    study = nl.Study.from_dict(JOINED)
    row = study.run(out=tmp_path / "r", jobs=1).replicates().iloc[7]
    fit = nl.fit(JOINED["truth"]["formula"], study.data(0, 7))
    assert row["estimate.x"] == pytest.approx(fit.beta["x"], rel=1e-6)
    assert row["se.x"] == pytest.approx(fit.se["x"], rel=1e-5)


def test_shares_are_part_of_what_is_drawn_and_named_in_its_description() -> None:
    some = [None, {"school": 0.3}, {"hood": 0.3}, {"school": 0.3, "hood": 0.1}, {"school": 0.3, "school:hood": 0.1}]
    keys = {data_key(condition_of(with_x(CROSSED, icc=icc))) for icc in some}
    assert len(keys) == len(some)
    assert data_key(condition_of(with_x(CROSSED, icc={"school": 0.0}))) in keys
    condition = condition_of(CROSSED)
    assert describe(condition)["predictors"]["x"]["icc"] == {"hood": HOOD, "school": SCHOOL}
    text = "of its variance 0.2 between levels of hood and 0.3 between levels of school"
    assert text in predictor_text(condition.predictor("x"), several=True)


def test_shares_are_axes(tmp_path: Path) -> None:
    tables = {**CROSSED, "grid": {"predictors.x.icc.school": [0.0, 0.1, 0.5]}}
    study = nl.Study.from_dict(tables)
    assert [dict(c.predictor("x").iccs).get("school", 0.0) for c in study.conditions] == [0.0, 0.1, 0.5]
    assert [dict(c.predictor("x").iccs)["hood"] for c in study.conditions] == [HOOD] * 3
    study.run(out=tmp_path / "r", jobs=1)
    again = nl.Study.from_toml(tmp_path / "r" / "study.toml")
    assert [data_key(c) for c in again.conditions] == [data_key(c) for c in study.conditions]


NUMBER = "must be a number from 0 to 1, 1 not included"


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (
            {"icc": 0.2},
            "predictors.x.icc = 0.2: must say between the levels of which factor; write icc = { school = 0.2 }, say",
        ),
        (
            {"icc": {"scool": 0.2}},
            "predictors.x.icc.scool = 0.2: must be of a factor of [design.factors], or of a crossing; did you mean "
            '"school"?',
        ),
        (
            {"icc": {"school": 0.7, "hood": 0.3}},
            'predictors.x.icc = {"hood": 0.3, "school": 0.7}: must have shares that sum to less than 1, and 0.3 + 0.7 = 1; '
            "lower them",
        ),
        (
            {"distribution": "gamma", "skewness": 1, "icc": {"school": 0.2}},
            'predictors.x.icc = {"school": 0.2}: must be absent for distribution = "gamma" with several grouping factors, '
            'where parts of levels and rows are added; remove it, or write distribution = "normal"',
        ),
        (
            {"redraw": False},
            "predictors.x.redraw = false: must be true or absent for a predictor with parts of several factors' levels; "
            "remove it",
        ),
        ({"icc": {"school": 1.0}}, f"predictors.x.icc.school = 1.0: {NUMBER}; write 0.1, say"),
        (
            {"icc": "school"},
            f'predictors.x.icc = "school": {NUMBER}, or with several factors a table of such; write 0.1 or '
            "{ school = 0.1 }",
        ),
        (
            {"level": "school", "icc": {"hood": 0.2}},
            'predictors.x.icc = {"hood": 0.2}: must be 0 or absent at level 2, where all of the variance is between '
            "clusters; remove it, or write level = 1",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(new: dict[str, Any], line: str) -> None:
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(with_x(CROSSED, **new)).conditions
    assert caught.value.problems == [line]


def test_a_number_beside_shares_is_refused() -> None:
    tables = {**with_x(CROSSED, icc=0.2), "grid": {"predictors.x.icc.school": [0.1, 0.2]}}
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(tables).conditions
    line = "predictors.x.icc = 0.2: must be absent beside predictors.x.icc.school; remove one of the two"
    assert caught.value.problems == [line]


def test_one_grouping_factor_has_a_number() -> None:
    tables = with_x(CROSSED, icc={"school": 0.2})
    tables["design"] = {"clusters": 8, "cluster_size": 5}
    tables["truth"] = tables["truth"] | {
        "formula": "y ~ x + (1 | school)",
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    }
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(tables).conditions
    line = 'predictors.x.icc = {"school": 0.2}: must be a number with one grouping factor; write icc = 0.2, say'
    assert caught.value.problems == [line]
    assert condition_of(with_x(tables, icc=0.2)).predictor("x").icc == 0.2
