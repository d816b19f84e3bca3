"""Rivals of mixed models in studies with several grouping factors: what is stored, said, and refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_several_studies import CROSSED, THREE, changed

import nestlab as nl
from nestlab.fit.inference import Hypotheses
from nestlab.fit.methods import tolerances
from nestlab.fit.methods.several_by_units import ByUnits
from nestlab.fit.rivals.by_units import EffectTests, UnitTests, both_tests, by_units, min_f
from nestlab.fit.rivals.multiway import Robust
from nestlab.fit.rivals.regression import regress
from nestlab.fit.rivals.rows import CrossedRows
from nestlab.run.block import CompiledCondition, DrawnBlock, compile_condition
from nestlab.show.report.analyses import _items
from nestlab.simulate.several import StrataDraw
from nestlab.spec.identity import result_key
from nestlab.spec.problems import StudyError

Tables = dict[str, Any]
REPLICATES = 12

#: A condition of rows, one of items, a group of subjects, and products of them.
MIXED: Tables = changed(
    CROSSED,
    truth__formula="y ~ cond + group + kind + cond:group + group:kind + (1 + cond | subject) + (1 | item)",
    truth__fixed={"Intercept": 100, "cond": 0.4, "group": 0.2, "kind": 0.3, "cond:group": 0.1, "group:kind": -0.2},
    truth__random__item={"variance": {"Intercept": 0.1}},
    predictors__group={"level": "subject", "distribution": "balanced"},
    predictors__kind={"level": "item", "distribution": "list", "values": [-0.5, 0.5]},
)
TERMS = ("Intercept", "cond", "group", "kind", "cond:group", "group:kind")


def with_methods(tables: Tables, *methods: Tables, **new: Any) -> Tables:
    named = [{"name": f"m{k}", **method} for k, method in enumerate(methods)]
    return changed(tables, method=named, **new)


def lines(tables: Tables) -> list[str]:
    with pytest.raises(StudyError) as caught:
        _ = nl.Study.from_dict(tables).conditions
    return list(caught.value.problems)


def compiled(tables: Tables) -> CompiledCondition:
    study = nl.Study.from_dict(tables)
    return compile_condition(study.conditions[0], study.methods)


def stored(tables: Tables, method: int = 0) -> dict[str, np.ndarray]:
    condition = compiled(tables)
    draw = condition.draw(0)
    found = condition.analyse(draw, method, 0, 0, REPLICATES)
    return {name: np.asarray(values) for name, values in found.columns(0, 512).items()}


def rows_of(tables: Tables, terms: tuple[str, ...] = TERMS) -> CrossedRows:
    """The rows of the first replicates, as people get them."""
    study = nl.Study.from_dict(tables)
    frames = [study.data(0, r) for r in range(REPLICATES)]
    names = [f for f in ("subject", "item", "school", "class") if f in frames[0]]

    def column(term: str) -> np.ndarray:
        value = np.ones((len(frames[0]), REPLICATES))
        for name in () if term == "Intercept" else term.split(":"):
            value = value * np.stack([frame[name].to_numpy(float) for frame in frames], axis=1)
        return value

    codes = {name: frames[0][name].to_numpy() for name in names}
    y = np.stack([frame["y"].to_numpy() for frame in frames], axis=1)
    return CrossedRows(np.stack([column(term) for term in terms]), y, codes)


def assert_tests(found: dict[str, np.ndarray], tests: EffectTests, terms: tuple[str, ...] = TERMS) -> None:
    for k, term in enumerate(terms):
        np.testing.assert_allclose(found[f"estimate.{term}"], tests.estimate[:, k], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found[f"se.{term}"], tests.se[:, k], rtol=1e-6)
        np.testing.assert_allclose(found[f"df.{term}"], tests.df[:, k], rtol=1e-6)


@pytest.mark.parametrize("unit", ["subject", "item"])
@pytest.mark.parametrize("missing", [{}, {"missing": {"rows": 0.05}}], ids=["complete", "missing"])
def test_an_analysis_by_units_is_that_of_the_rows(unit: str, missing: Tables) -> None:
    tables = with_methods(MIXED, {"estimator": "by-units", "units": unit}, **missing)
    if missing:
        study = nl.Study.from_dict(tables)
        found = stored(tables)
        terms = list(TERMS)
        for r in (0, REPLICATES - 1):
            frame = study.data(0, r)
            X = np.stack([frame.eval("*".join(t.split(":"))) if t != "Intercept" else frame.y * 0 + 1 for t in terms])
            whole = compiled(tables).analyses[0]
            assert isinstance(whole, ByUnits)
            rows = CrossedRows(X[:, :, None], frame[["y"]].to_numpy(), {unit: frame[unit].to_numpy()})
            tests = by_units(rows, unit, design=whole.design(unit)).tests
            for k, term in enumerate(terms):
                np.testing.assert_allclose(found[f"se.{term}"][r], tests.se[0, k], rtol=1e-6)
                np.testing.assert_allclose(found[f"df.{term}"][r], tests.df[0, k])
    else:
        assert_tests(stored(tables), by_units(rows_of(tables), unit).tests)


@pytest.mark.parametrize(("estimator", "combine"), [("min-f", min_f), ("both-units", both_tests)])
def test_two_analyses_together(estimator: str, combine: Any) -> None:
    tables = with_methods(MIXED, {"estimator": estimator, "units": ["item", "subject"]})
    rows = rows_of(tables)
    found = stored(tables)
    assert_tests(found, combine(by_units(rows, "subject").tests, by_units(rows, "item").tests))
    assert (found["inference"] == 0).all()


@pytest.mark.parametrize(
    ("keys", "absorbed", "robust"),
    [
        ({}, (), None),
        ({"robust": "CR2"}, (), Robust("CR2", ("subject", "item"))),
        ({"robust": "CR1", "cluster": "item"}, (), Robust("CR1", ("item",))),
        ({"robust": "CR0", "cluster": ["item", "subject"]}, (), Robust("CR0", ("subject", "item"))),
    ],
)
def test_least_squares_is_that_of_the_rows(keys: Tables, absorbed: tuple[str, ...], robust: Robust | None) -> None:
    tables = with_methods(MIXED, {"estimator": "ols", **keys})
    rows, found = rows_of(tables), stored(tables)
    hypotheses = Hypotheses.of(len(TERMS))
    wanted = regress(rows, hypotheses, absorbed=absorbed, robust=robust)
    rule = "residual" if robust is None else "bell-mccaffrey" if robust.kind == "CR2" else "clusters"
    inference = wanted.by_rule(hypotheses, [rule])[rule]
    for k, term in enumerate(TERMS):
        np.testing.assert_allclose(found[f"estimate.{term}"], wanted.fits.beta[:, k], rtol=1e-8, atol=1e-9)
        se = inference.se(np.eye(len(TERMS))[k])
        np.testing.assert_allclose(found[f"se.{term}"], se, rtol=1e-6)
        df = np.where(np.isfinite(se), inference.df[:, k], np.nan)
        np.testing.assert_allclose(found[f"df.{term}"], df, rtol=1e-6)
    np.testing.assert_allclose(found["estimate.var:residual"], wanted.fits.sigma2, rtol=1e-8)
    assert np.isfinite(found["deviance"]).all()


def test_the_deviance_of_least_squares_is_that_of_a_model_without_random_effects() -> None:
    """The likelihood ratio of a variance is the difference of two such deviances, so that they must be of one kind."""
    tables = with_methods(THREE, {"estimator": "ols"})
    rows, found = rows_of(tables, ("Intercept", "treat")), stored(tables)
    for r in (0, 5):
        X, y = rows.X[:, :, r].T, rows.y[:, r]
        rss = np.linalg.lstsq(X, y, rcond=None)[1]
        m = len(y) - 2
        wanted = m * (1 + np.log(2 * np.pi * rss[0] / m)) + np.linalg.slogdet(X.T @ X)[1]
        assert found["deviance"][r] == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize(
    ("factors", "left"),
    [
        (None, ("cond", "cond:group", "group:kind")),
        ("subject", ("cond", "kind", "cond:group", "group:kind")),
        ("item", ("cond", "group", "cond:group", "group:kind")),
    ],
)
def test_dummies_absorb_what_lives_on_their_factors(factors: str | None, left: tuple[str, ...]) -> None:
    keys = {} if factors is None else {"factors": factors}
    tables = with_methods(MIXED, {"estimator": "fixed-effects", "robust": "CR1", **keys})
    study = nl.Study.from_dict(tables)
    assert study.methods[0].formula.fixed == left
    names = ("subject", "item") if factors is None else (factors,)
    found, hypotheses = stored(tables), Hypotheses.of(len(left))
    wanted = regress(rows_of(tables, left), hypotheses, absorbed=names, robust=Robust("CR1", ("subject", "item")))
    inference = wanted.by_rule(hypotheses, ["clusters"])["clusters"]
    for k, term in enumerate(left):
        np.testing.assert_allclose(found[f"estimate.{term}"], wanted.fits.beta[:, k], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(found[f"se.{term}"], inference.se(np.eye(len(left))[k]), rtol=1e-6)
    assert np.isnan(found["deviance"]).all()


def test_a_nested_factor_absorbs_what_lives_on_the_one_that_holds_it() -> None:
    tables = changed(
        THREE, truth__formula="y ~ treat + x + (1 | school/class)", truth__fixed={"Intercept": 1, "treat": 0.4, "x": 0.3},
        predictors__x={"level": "class", "distribution": "normal"},
    )  # fmt: skip
    school = nl.Study.from_dict(with_methods(tables, {"estimator": "fixed-effects", "factors": "school"}))
    assert school.methods[0].formula.fixed == ("x",)
    assert lines(with_methods(tables, {"estimator": "fixed-effects"})) == [
        'truth.formula = "y ~ treat + x + (1 | school/class)": leaves nothing to estimate: Intercept, treat, x are constant '
        "within levels of school or class, whose effects absorb them; add a term that is not, name fewer factors, or choose "
        'another estimator than "fixed-effects"'
    ]


def test_a_product_that_dummies_absorb_leaves_true_values_alone(tmp_path: Path) -> None:
    """group:other lives on subjects; cond:group, which has one of its predictors, is what it was."""
    tables = changed(
        MIXED, truth__formula="y ~ cond * group + group:other + (1 + cond | subject) + (1 | item)",
        truth__fixed={"Intercept": 1, "cond": 0.4, "group": 0.2, "cond:group": 0.1, "group:other": 0.7},
        predictors__other={"level": "subject", "distribution": "normal"},
    )  # fmt: skip
    del tables["predictors"]["kind"]
    results = nl.Study.from_dict(with_methods(tables, {"estimator": "fixed-effects", "factors": "subject"})).run(
        out=tmp_path / "r", jobs=1
    )
    truths = results.true_values(0).of("m0")
    assert truths["cond:group"] == 0.1
    assert truths["cond"] == 0.4


def analysed_by(analysis: ByUnits, unit: str, block: DrawnBlock, first: int, last: int) -> UnitTests:
    return analysis.tests(unit, block.draw, first, last, lambda: analysis.rows(block, first, last))


# -- strata -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "unit", "strata"),
    [
        (THREE, "school", True),
        (THREE, "class", True),
        (CROSSED, "subject", True),
        (CROSSED, "item", True),
        (MIXED, "subject", False),
        (MIXED, "item", False),
        (changed(CROSSED, design__rows=3), "subject", False),
    ],
)
def test_statistics_of_strata_give_the_analysis_of_rows(tables: Tables, unit: str, strata: bool) -> None:
    """Kinds of items differ within subjects, so that items tell subjects' coefficients apart; of three rows, two have one
    condition, and cells weigh otherwise than rows."""
    tables = with_methods(tables, {"estimator": "by-units", "units": unit})
    condition = compiled(tables)
    analysis, draw = condition.analyses[0], condition.draw(0)
    assert isinstance(analysis, ByUnits)
    assert isinstance(draw, StrataDraw)
    assert (analysis._plan(unit, draw.sampler) is not None) == strata
    block = DrawnBlock(condition, 0, draw)
    found = analysed_by(analysis, unit, block, 0, REPLICATES)
    analysis._plans[unit] = None
    wanted = analysed_by(analysis, unit, block, 0, REPLICATES)
    for name in ("beta", "vcov", "df"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-7, atol=1e-9)
    for name in ("units", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_groups_of_units_that_differ_in_what_varies_within_them_come_from_strata() -> None:
    """A split plot: subjects in two groups, a condition within each."""
    formula = "y ~ cond * group + (1 + cond | subject) + (1 | item)"
    fixed = {"Intercept": 50, "cond": 0.4, "group": 0.2, "cond:group": 0.1}
    tables = changed(MIXED, truth__formula=formula, truth__fixed=fixed)
    del tables["predictors"]["kind"]
    tables = with_methods(tables, {"estimator": "by-units", "units": "subject"}, design__rows=4)
    tables["contrast"] = [{"name": "cond in group", "weights": {"cond": 1, "cond:group": 0.5}}]
    condition = compiled(tables)
    analysis, block = condition.analyses[0], DrawnBlock(condition, 0, condition.draw(0))
    assert isinstance(analysis, ByUnits)
    found = analysed_by(analysis, "subject", block, 3, 3 + REPLICATES)
    assert analysis._plans["subject"] is not None
    analysis._plans["subject"] = None
    wanted = analysed_by(analysis, "subject", block, 3, 3 + REPLICATES)
    for name in ("beta", "vcov", "df"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-7, atol=1e-9)
    assert (found.df == 10).all()
    assert found.df.shape[1] == 5


def test_units_that_cannot_tell_are_rank_deficient() -> None:
    """Where nearly all rows are lost, often no two items are left that have both conditions."""
    tables = with_methods(CROSSED, {"estimator": "by-units", "units": "item"}, missing={"rows": 0.95})
    found = stored(tables)
    bad = found["status"] == 3
    assert 0 < bad.sum() < REPLICATES
    np.testing.assert_array_equal(found["inference"], np.where(bad, 1, 0))
    np.testing.assert_array_equal(np.isnan(found["estimate.cond"]), bad)


def test_a_negative_variance_is_no_df() -> None:
    """Two factors of few levels: their errors' shares less the cells' need not be positive."""
    tables = with_methods(
        CROSSED, {"estimator": "ols", "robust": "CR0"}, design__factors={"subject": 3, "item": 3}, design__rows=2,
        truth__random={"subject": {"variance": {"Intercept": 0, "cond": 0}}, "item": {"variance": {"Intercept": 0, "cond": 0}}},
    )  # fmt: skip
    condition = compiled(tables)
    found = condition.analyse(condition.draw(0), 0, 0, 0, 200).columns(0, 512)
    bad = np.isnan(np.asarray(found["se.cond"])) | np.isnan(np.asarray(found["se.Intercept"]))
    assert 0 < bad.sum() < 200
    np.testing.assert_array_equal(np.asarray(found["inference"]), np.where(bad, 2, 0))
    assert np.isfinite(np.asarray(found["estimate.cond"])).all()


# -- identity, words, refusals ------------------------------------------------------------------------------------------------


def test_defaults_are_part_of_the_identity_as_if_written() -> None:
    def key(**keys: Any) -> str:
        return result_key("a", nl.Study.from_dict(with_methods(CROSSED, keys)).methods[0])

    ols = {"estimator": "ols", "robust": "CR2"}
    assert key(**ols) == key(**ols, cluster=["item", "subject"]) != key(**ols, cluster="item")
    dummies = {"estimator": "fixed-effects"}
    assert key(**dummies) == key(**dummies, factors=["subject", "item"]) != key(**dummies, factors="item")
    one, two = ({"estimator": "min-f", "units": units} for units in (["subject", "item"], ["item", "subject"]))
    assert key(**one) == key(**two) != key(**one | {"estimator": "both-units"})


def test_the_report_says_what_is_clustered_absorbed_and_tested() -> None:
    methods = [
        {"estimator": "ols", "robust": "CR2"},
        {"estimator": "fixed-effects", "robust": "CR1", "factors": "item", "cluster": "subject"},
        {"estimator": "by-units", "units": "subject"},
        {"estimator": "min-f", "units": ["subject", "item"]},
        {"estimator": "both-units", "units": ["subject", "item"]},
    ]
    said = [dict(_items(m)) for m in nl.Study.from_dict(with_methods(CROSSED, *methods)).methods]
    assert said[0]["clusters"] == (
        "clustered multiway (Cameron, Gelbach and Miller 2011) by subject and item; their number: that of the factor with the "
        "fewest levels"
    )
    assert said[1]["estimator"] == (
        "least squares with fixed effects of item, which absorb every term that is constant within levels of one"
    )
    assert said[1]["clusters"].startswith("clustered by subject;")
    assert said[2]["estimator"] == "t tests by subject: least squares within each level, then over the levels"
    assert said[2]["degrees of freedom"].startswith("levels of subject less the effects")
    assert said[3]["estimator"] == "min F' (Clark 1973) of the t tests by subject and by item"
    assert said[3]["degrees of freedom"] == "Clark's, from those of both analyses"
    assert said[4]["degrees of freedom"] == "those of the analysis with the larger p value"


def test_a_contrast_has_a_test_where_units_have_its_effects_in_the_same_way() -> None:
    contrast = {"name": "c", "weights": {"cond": 1, "group": 1}}
    study = nl.Study.from_dict(
        with_methods(MIXED, {"estimator": "by-units", "units": "item"}, {"estimator": "lmm"}) | {"contrast": [contrast]}
    )
    assert [len(m.contrasts) for m in study.methods] == [0, 1]


M = "method.m0"
REFUSED: list[tuple[Tables, Tables, str]] = [
    (CROSSED, {"estimator": "statsmodels"},
        f'{M}.estimator = "statsmodels": is for one grouping factor: write estimator = "lmm", or keep '
        'one factor'),
    (CROSSED, {"estimator": "gls"},
        f'{M}.estimator = "gls": is for one grouping factor: write estimator = "lmm", or keep one '
        'factor'),
    (
        CROSSED,
        {"estimator": "gee"},
        f'{M}.estimator = "gee": is for one grouping factor: write estimator = "ols" with robust = "CR2", or keep one factor',
    ),
    (
        THREE,
        {"estimator": "cluster-means"},
        f'{M}.estimator = "cluster-means": is for one grouping factor: write estimator = "by-units" with units = "school", or '
        "keep one factor",
    ),
    (
        CROSSED,
        {"robust": "CR2"},
        f'{M}.robust = "CR2": is of mixed models with one grouping factor; write estimator = "ols" or '
        '"fixed-effects", or remove it',
    ),
    (CROSSED, {"estimator": "ols", "robust": "CR2", "cluster": "subjct"},
        f'{M}.cluster = "subjct": must name factors of [design.factors]; did you mean '
        '"subject"?'),
    (
        CROSSED,
        {"estimator": "ols", "cluster": "subject"},
        f'{M}.cluster = "subject": says by what robust errors are clustered, and there are none; add '
        'robust = "CR2", or remove it',
    ),
    (CROSSED, {"estimator": "fixed-effects", "factors": "itm"},
        f'{M}.factors = "itm": must name factors of [design.factors]; did you mean '
        '"item"?'),
    (CROSSED, {"estimator": "ols", "factors": "item"},
        f'{M}.factors = "item": needs estimator = "fixed-effects"; remove one of the '
        'two'),
    (
        CROSSED,
        {"estimator": "by-units"},
        f'{M}.units is missing: estimator = "by-units" analyses the levels of one factor; add units = "subject"',
    ),
    (
        CROSSED,
        {"estimator": "by-units", "units": ["subject", "item"]},
        f'{M}.units = ["subject", "item"]: must be one factor; write units = "subject"; for two write estimator = "min-f" or '
        '"both-units"',
    ),
    (
        CROSSED,
        {"estimator": "min-f", "units": "subject"},
        f'{M}.units = "subject": must be two factors; write units = ["subject", "item"]',
    ),
    (
        THREE,
        {"estimator": "both-units", "units": ["school", "class"]},
        f'{M}.units = ["school", "class"]: must be crossed factors, and class lies within school; write estimator = "by-units" '
        "with one of them",
    ),
    (
        CROSSED,
        {"estimator": "by-units", "units": "subject", "df": "z"},
        f'{M}.df = "z": is not yours to choose here: they are levels of the factor less the effects that are tested by the same '
        "coefficient of theirs; remove it",
    ),
    (
        changed(MIXED, design__factors={"subject": 2, "item": 6}),
        {"estimator": "by-units", "units": "subject", "formula": "y ~ group"},
        f'{M}.formula = "y ~ group": must have fewer effects that differ between levels of subject than levels, and Intercept, '
        "group stand beside 2; give design.factors.subject more levels or use fewer terms",
    ),
    (
        changed(CROSSED, design__factors={"subject": 2, "item": 2}, design__rows=1),
        {"estimator": "fixed-effects"},
        'truth.formula = "y ~ cond + (1 + cond | subject) + (1 + cond || item)": must have fewer fixed '
        'terms than rows beyond the '
        "effects of subject and item, and cond stand beside 3 of them for 4 rows; raise design.rows or use fewer terms",
    ),
    (
        MIXED,
        {"estimator": "by-units", "units": "subject", "formula": "y ~ group + group:cond"},
        f'{M}.formula = "y ~ group + group:cond": must have cond beside group:cond for an analysis by subject, whose levels each '
        "have its coefficient; add it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "method", "line"), REFUSED, ids=[line[:60] for *_, line in REFUSED])
def test_what_is_refused(tables: Tables, method: Tables, line: str) -> None:
    assert line in lines(with_methods(tables, method))


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (
            {"estimator": "ols", "robust": "CR2", "cluster": "school"},
            f'{M}.cluster = "school": is for several grouping factors, and the study has one; remove it, or add [design.factors]',
        ),
        (
            {"estimator": "fixed-effects", "factors": ["school"]},
            f'{M}.factors = "school": is for several grouping factors, and the study has one; remove it, or add [design.factors]',
        ),
        (
            {"estimator": "by-units", "units": "school"},
            f'{M}.estimator = "by-units": is for several grouping factors; write estimator = "cluster-means", or add '
            "[design.factors]",
        ),
        (
            {"estimator": "min-f", "units": ["school", "x"]},
            f'{M}.estimator = "min-f": is for several grouping factors; add [design.factors]',
        ),
    ],
)
def test_what_is_refused_with_one_factor(method: Tables, line: str) -> None:
    one = tomllib.loads("""
name = "one"
seed = 1
replications = 1
design = { clusters = 8, cluster_size = 4 }
predictors.x = { level = 1, distribution = "normal" }
[truth]
formula = "y ~ x + (1 | school)"
fixed = { Intercept = 1, x = 0.4 }
residual_variance = 1
random.school.variance = { Intercept = 1 }
""")
    assert lines(with_methods(one, method)) == [line]


@pytest.mark.parametrize(
    ("contrast", "end"),
    [
        ({"weights": [{"cond": 1}, {"group": 1}]}, "has no test of these jointly; add one"),
        ({"weights": {"cond": 1, "group": 1}}, "has no test of these; add one"),
    ],
)
def test_contrasts_that_units_do_not_have(contrast: Tables, end: str) -> None:
    tables = with_methods(MIXED, {"estimator": "by-units", "units": "item"}) | {"contrast": [{"name": "c", **contrast}]}
    assert lines(tables) == [
        'contrast.c.weights is estimated by no method: none has all of cond, group in its formula; "by-units" tests effects one '
        f"by one, and {end}"
    ]


def test_levels_that_are_drawn_for_each_replicate_are_its_own() -> None:
    """Each pupil's hood is drawn given the school: errors are clustered by, and dummies are of, the hoods of the replicate."""
    tables = changed(
        THREE, design__rows=6, truth__formula="y ~ treat + (1 | school) + (1 | hood)",
        truth__random__hood={"variance": {"Intercept": 0.1}},
    )  # fmt: skip
    tables["design"]["factors"] = {"school": 10, "hood": {"number": 8, "given": "school", "window": 0.3}}
    del tables["truth"]["random"]["class"]
    methods = [{"estimator": "ols", "robust": "CR1"}, {"estimator": "fixed-effects", "factors": "hood"}]
    methods += [{"estimator": "by-units", "units": "school"}]
    tables = with_methods(tables, *methods)
    study, hypotheses = nl.Study.from_dict(tables), Hypotheses.of(2)
    found = [stored(tables, k) for k in range(3)]
    seen = set()
    for r in (0, 7):
        frame = study.data(0, r)
        seen.add(tuple(frame["hood"]))
        X = np.stack([np.ones(len(frame)), frame["treat"].to_numpy(float)])[:, :, None]
        codes = {name: frame[name].to_numpy() for name in ("school", "hood")}
        rows = CrossedRows(X, frame[["y"]].to_numpy(), codes)
        robust = Robust("CR1", ("school", "hood"))
        wanted = regress(rows, hypotheses, robust=robust).by_rule(hypotheses, ["clusters"])["clusters"]
        np.testing.assert_allclose(found[0]["se.treat"][r], wanted.se(np.eye(2)[1])[0], rtol=1e-6)
        inner = regress(CrossedRows(X[1:], rows.y, codes), Hypotheses.of(1), absorbed=["hood"])
        np.testing.assert_allclose(found[1]["estimate.treat"][r], inner.fits.beta[0, 0], rtol=1e-6)
        np.testing.assert_allclose(found[2]["se.treat"][r], by_units(rows, "school").tests.se[0, 1], rtol=1e-6)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "method", [{"estimator": "ols"}, {"estimator": "by-units", "units": "item"}, {"estimator": "lmm"}], ids=str
)
def test_the_report_has_the_tolerances_of_every_method(method: Tables) -> None:
    assert "counts as" in tolerances(nl.Study.from_dict(with_methods(CROSSED, method)).methods[0])
