"""Effects in standard units: what they become, where that is kept, and that simulated data have them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

import nestlab as nl
from nestlab.run.store import RefusedError, Store
from nestlab.search.designs import Bench
from nestlab.show.report.ademp import ademp
from nestlab.show.report.material import Material
from nestlab.show.solve_command import Options, question_of
from nestlab.show.summary import overview
from nestlab.simulate.between import draw_between
from nestlab.simulate.layout import compile_design
from nestlab.spec.effects import converted, explained
from nestlab.spec.formula import parse_formula
from nestlab.spec.identity import data_key
from nestlab.spec.model import Condition, Effect, Errors, Layout, Predictor, Sizes, Truth
from nestlab.spec.study import StudyError, StudyFile
from nestlab.spec.variances import PredictorMoments, moments_of, predictor_variance

STUDY: dict[str, Any] = {
    "name": "effects",
    "seed": 4,
    "replications": 40,
    "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ x + z + arm + (1 | g)",
        "fixed": {"Intercept": 0, "x": 0, "z": 0, "arm": 0},
        "residual_variance": 3,
        "random": {"g": {"variance": {"Intercept": 1}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal", "mean": 5, "sd": 2},
        "z": {"level": 2, "distribution": "normal", "sd": 0.5},
        "arm": {"level": 2, "distribution": "balanced"},
    },
}


def study(changes: dict[str, Any] | None = None, /, **fixed: Any) -> StudyFile:
    return StudyFile.from_dict(tables(changes, **fixed))


def tables(changes: dict[str, Any] | None = None, /, **fixed: Any) -> dict[str, Any]:
    """STUDY with other effects, and other values by "table/key"."""
    made = copy.deepcopy(STUDY)
    made["truth"]["fixed"] |= fixed
    for path, value in (changes or {}).items():
        *parents, last = path.split("/")
        holder = made
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = value
    return made


def effects(made: StudyFile, condition: int = 0) -> dict[str, float]:
    truth = made.conditions()[condition].truth
    return dict(zip(truth.formula.fixed, truth.fixed, strict=True))


def of(condition: Condition) -> PredictorMoments:
    return moments_of(condition.predictors, condition.layout, condition.correlations)


# --- what they become: exact formulas


@pytest.mark.parametrize(
    ("stated", "coefficient"),
    [
        ({"d": 0.3}, 0.3 * math.sqrt(1 + 3)),
        ({"d": 0.3, "by": "total"}, 0.3 * math.sqrt(1 + 3)),
        ({"d": -0.3, "by": "residual"}, -0.3 * math.sqrt(3)),
        ({"d": 0.3, "per": "sd"}, 0.3 * math.sqrt(1 + 3) / 2),
        ({"d": 0.3, "by": "residual", "per": "unit"}, 0.3 * math.sqrt(3)),
        ({"r2": 0.1}, math.sqrt(0.1 / 0.9 * 3) / 2),
        ({"r2": 0.1, "sign": "-"}, -math.sqrt(0.1 / 0.9 * 3) / 2),
        ({"r2": 0.0, "sign": "-"}, 0.0),
    ],
)
def test_coefficient_of_a_level_1_predictor(stated: dict[str, Any], coefficient: float) -> None:
    made = effects(study(x=stated))["x"]
    assert made == pytest.approx(coefficient, rel=1e-14)
    assert math.copysign(1, made) == math.copysign(1, coefficient)


def test_share_of_the_variance_between_clusters() -> None:
    assert effects(study(z={"r2": 0.2}))["z"] == pytest.approx(math.sqrt(0.2 / 0.8 * 1) / 0.5, rel=1e-14)
    odd = study({"design/clusters": 5}, arm={"r2": 0.2})
    assert effects(odd)["arm"] == pytest.approx(math.sqrt(0.2 / 0.8 / (0.4 * 0.6)), rel=1e-14)


def test_an_intercept_may_be_standardised() -> None:
    assert effects(study(Intercept={"d": 0.5}))["Intercept"] == pytest.approx(0.5 * 2, rel=1e-14)


def test_several_shares_of_a_level_count_one_another() -> None:
    change = {"truth/formula": "y ~ x + w + z + (1 | g)", "predictors/w": {"level": 1, "distribution": "normal"}}
    made = tables(change, x={"r2": 0.1}, w={"r2": 0.3}, z={"r2": 0.2})
    del made["truth"]["fixed"]["arm"], made["predictors"]["arm"]
    condition = StudyFile.from_dict(made).conditions()[0]
    b = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    assert (b["x"] * 2) ** 2 == pytest.approx(0.1 / 0.6 * 3, rel=1e-14)
    assert b["w"] ** 2 == pytest.approx(0.3 / 0.6 * 3, rel=1e-14)
    assert (b["z"] * 0.5) ** 2 == pytest.approx(0.2 / 0.8 * 1, rel=1e-14)
    assert explained(condition) == pytest.approx((0.4, 0.2), rel=1e-14)


def test_other_effects_and_random_slopes_count_in_the_variance_of_the_level() -> None:
    change = {
        "truth/formula": "y ~ x + z + w + (1 + w | g)",
        "truth/random/g/variance": {"Intercept": 1, "w": 0.5},
        "truth/random/g/correlation": {"Intercept:w": 0.4},
        "predictors/w": {"level": 1, "distribution": "normal", "mean": 2, "sd": 3},
    }
    made = tables(change, x={"r2": 0.1}, z={"r2": 0.25}, w=0.7)
    del made["truth"]["fixed"]["arm"], made["predictors"]["arm"]
    condition = StudyFile.from_dict(made).conditions()[0]
    b = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    within = 3 + 0.49 * 9 + 0.5 * 9  # errors, w, the slopes of w
    between = 1 + 0.5 * 4 + 2 * 2 * 0.4 * math.sqrt(0.5)  # var(u0 + 2 u1)
    assert (b["x"] * 2) ** 2 == pytest.approx(0.1 / 0.9 * within, rel=1e-13)
    assert (b["z"] * 0.5) ** 2 == pytest.approx(0.25 / 0.75 * between, rel=1e-13)
    assert explained(condition)[0] == pytest.approx(0.1 + 0.49 * 9 / (within / 0.9), rel=1e-13)


def test_a_product_of_centred_predictors_is_of_the_lower_level() -> None:
    change = {
        "truth/formula": "y ~ x * z + (1 | g)",
        "predictors/x/mean": 0,
        "truth/fixed": {"Intercept": 0, "x": 0.4, "z": 0.9, "x:z": {"r2": 0.05}},
    }
    made = tables(change)
    del made["predictors"]["arm"]
    condition = StudyFile.from_dict(made).conditions()[0]
    b = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))
    assert b["x:z"] ** 2 * 4 * 0.25 == pytest.approx(0.05 / 0.95 * (3 + 0.16 * 4), rel=1e-13)
    assert condition.stated["x:z"].text == "r2 = 0.05 of level 1"


def condition_of(
    formula: str,
    predictors: tuple[Predictor, ...],
    fixed: tuple[float, ...],
    layout: Layout | None = None,
    **other: Any,
) -> Condition:
    truth = Truth(parse_formula(formula), fixed, ((0.5,),), 2.0, errors=other.pop("errors", Errors()))
    return Condition({}, 1, layout or Layout((8,) * 12), truth, predictors, "moments", 512, **other)


def test_a_level_1_predictor_with_an_icc_has_a_part_at_each_level() -> None:
    predictors = (Predictor("x", 1, "normal", 1.0, 2.0, icc=0.25), Predictor("z", 2, "uniform", 0.0, 1.5))
    condition, trouble = converted(
        condition_of("y ~ x + z + (1 | g)", predictors, (0.0,) * 3), {"x": Effect("r2", 0.2), "z": Effect("r2", 0.1)}
    )
    assert not trouble
    _, x, z = condition.truth.fixed
    assert x**2 * 0.75 * 4 == pytest.approx(0.2 / 0.8 * 2, rel=1e-13)
    between = 0.5 + x**2 * 0.25 * 4  # the clusters' part of x explains variance there, too
    assert z**2 * 1.5**2 == pytest.approx(0.1 / 0.9 * between, rel=1e-13)
    assert explained(condition) == pytest.approx((0.2, 1 - 0.5 / (between / 0.9)), rel=1e-13)


def test_functions_of_a_formula_have_their_own_variances() -> None:
    condition = condition_of("y ~ x + (1 | g)", (Predictor("x", 1, "normal", 3.0, 2.0, icc=0.25),), (0.0, 0.0))
    moments = of(condition)
    found = {v: moments.parts(v) for v in ("within(x)", "between(x)", "center(x)", "x")}
    shown = {v: (p.mean, p.between, p.within) for v, p in found.items() if p}
    assert shown == {
        "within(x)": (0.0, 0.0, 3.0), "between(x)": (3.0, 1.0 + 3.0 / 8, 0.0), "center(x)": (0.0, 1.0, 3.0),
        "x": (3.0, 1.0, 3.0),
    }  # fmt: skip
    assert moments.covariance("within(x)", "between(x)") == (0.0, 0.0)
    assert moments.covariance("x", "between(x)") is None


# --- variances of predictors

LAYOUT = Layout((3, 4, 5, 4))


@pytest.mark.parametrize(
    ("predictor", "variance"),
    [
        (Predictor("x", 1, "normal", 1.0, 3.0), 9.0),
        (Predictor("x", 2, "lognormal", 1.0, 3.0, shape=(("skewness", 1.0),)), 9.0),
        (Predictor("x", 1, "t", 0.0, 1.5, shape=(("df", 5.0),), icc=0.4), 2.25),
        (Predictor("x", 1, "binary", 0.3), 0.21),
        (Predictor("x", 1, "balanced"), (3 * 2 / 9 + 2 * 4 / 4 + 5 * 6 / 25) / 16 + np.var([1 / 3, 1 / 2, 3 / 5, 1 / 2])),
        (Predictor("x", 2, "balanced"), 0.25),
        (Predictor("x", 1, "time", 1.0, 2.0), 4 * ((2 + 5 + 10 + 5) / 16 + np.var([1, 1.5, 2, 1.5]))),
        (Predictor("x", 2, "list", values=(1.0, 4.0)), 2.25),
        (Predictor("x", 1, "resampled", values=(1.0, 2.0, 6.0)), np.var([1, 2, 6])),
        (Predictor("x", 2, "arms", arms=(1, 3)), 3 / 16),
        (Predictor("x", 1, "arms", arms=(1, 3)), 3 / 16),
        (Predictor("x", 1, "categorical", categories=("a", "b"), shares=(0.2, 0.8)), 0.16),
        (Predictor("x", 2, "categorical", categories=("a", "b"), shares=(0.2, 0.8), coding="sum"), 0.64),
    ],
)  # fmt: skip
def test_predictor_variance(predictor: Predictor, variance: float) -> None:
    assert predictor_variance(predictor, LAYOUT) == pytest.approx(variance, rel=1e-13)


def test_a_schedule_varies_within_and_between_clusters() -> None:
    wedge = Predictor("x", 1, "schedule", sequences=((0, 1, 1), (0, 0, 1)))
    parts = of(condition_of("y ~ x + (1 | g)", (wedge,), (0.0, 0.0), Layout((3,) * 4))).parts("x")
    assert parts is not None
    assert (parts.mean, parts.between, parts.within) == pytest.approx((1 / 2, 1 / 36, 2 / 9), rel=1e-13)


@pytest.mark.parametrize("coding", ["treatment", "sum", "helmert"])
@pytest.mark.parametrize("level", [1, 2])
def test_contrasts_of_one_factor_against_enumeration(coding: Any, level: Any) -> None:
    shares = (0.2, 0.3, 0.5)
    k = Predictor("k", level, "categorical", categories=("a", "b", "c"), shares=shares, coding=coding)
    rows = {
        "treatment": [[0, 0], [1, 0], [0, 1]],
        "sum": [[1, 0], [0, 1], [-1, -1]],
        "helmert": [[-1, -1], [1, -1], [0, 2]],
    }[coding]
    exact = np.cov(np.array(rows, dtype=float).T, aweights=shares, ddof=0)
    names = ("k[a]", "k[b]") if coding == "sum" else ("k[b]", "k[c]")
    moments = of(condition_of("y ~ x + (1 | g)", (k,), (0.0, 0.0)))
    for (i, a), (j, b) in ((p, q) for p in enumerate(names) for q in enumerate(names)):
        found = moments.covariance(a, b)
        assert found is not None
        assert found[2 - level] == pytest.approx(exact[i, j], abs=1e-14)
        assert found[level - 1] == pytest.approx(0, abs=1e-14)


KNOWN = (
    Predictor("a", 1, "balanced", redraw=False),
    Predictor("b", 1, "balanced", redraw=False),
    Predictor("c", 1, "balanced", redraw=False),
    Predictor("p", 1, "period", values=(0.0, 0, 1, 1, 2, 2, 2), categories=("0", "1", "2"), redraw=False),
    Predictor("q", 1, "arms", arms=(2, 3, 1), redraw=False),
    Predictor("s", 1, "schedule", sequences=((0, 0, 0, 1, 1, 1, 1), (0, 1, 1, 1, 1, 1, 1)), redraw=False),
    Predictor("t", 1, "time", 2.0, 0.5, redraw=False),
    Predictor("u", 1, "balanced", shares=(0.2, 0.3, 0.5), categories=("a", "b", "c"), redraw=False),
    Predictor("v", 1, "list", values=(1.0, 5.0, 2.0), redraw=False),
    Predictor(
        "w",
        1,
        "schedule",
        sequences=((0, 2, 1, 1, 0, 2, 1), (2, 2, 0, 0, 1, 1, 1)),
        categories=("a", "b", "c"),
        redraw=False,
    ),
    Predictor("za", 2, "balanced", redraw=False),
    Predictor("zb", 2, "balanced", redraw=False),
    Predictor("zc", 2, "balanced", redraw=False),
    Predictor("zd", 2, "balanced", shares=(0.5, 0.25, 0.25), categories=("a", "b", "c"), redraw=False),
    Predictor("zl", 2, "list", values=(1.0, 7.0, 3.0, 4.0), redraw=False),
    Predictor("zk", 2, "list", values=(1.0, 0.0, 2.0), categories=("a", "b", "c"), coding="sum", redraw=False),
    Predictor("zr", 2, "balanced", blocks="zl", redraw=False),
    Predictor("zs", 2, "balanced", blocks=2, redraw=False),
)


@pytest.mark.parametrize("sizes", [(6,) * 6, (2, 3, 5, 7, 4, 6)])
def test_covariances_of_known_predictors_against_the_design(sizes: tuple[int, ...]) -> None:
    columns = [column for predictor in KNOWN for column in predictor.columns]
    condition = condition_of("y ~ a + (1 | g)", KNOWN, (0.0, 0.0), Layout(sizes))
    design, moments = compile_design(condition), of(condition)
    group = np.repeat(np.arange(len(sizes)), sizes)
    outer = dict(zip(design.between, design.between_fixed, strict=True))
    inner = dict(zip(design.columns, design.known_rows.T, strict=False))
    rows = inner | {k: v[group] for k, v in outer.items()}
    means = {k: np.bincount(group, v) / np.array(sizes) for k, v in rows.items()}
    for a, b in combinations_with_replacement(columns, 2):
        found = moments.covariance(a, b)
        about = [rows[k] - means[k][group] for k in (a, b)]
        exact = np.cov(means[a], means[b], ddof=0)[0, 1], float(np.mean(about[0] * about[1]))
        if found is not None and found != (0.0, 0.0):
            assert found == pytest.approx(exact, abs=1e-13), (a, b)
        elif found is not None:
            assert exact == pytest.approx((0, 0), abs=1e-13), (a, b)
        else:
            raise AssertionError(f"{a} and {b} are known")


@pytest.mark.parametrize("blocks", [3, "zl"])
def test_covariances_of_what_is_allocated_within_blocks(blocks: Any) -> None:
    """Against means over 20,000 allocations; the stratum's and the predictor's own are exact in each of them."""
    predictors = (
        Predictor("t", 2, "balanced", shares=(2 / 3, 1 / 3), blocks=blocks, redraw=True),
        Predictor("zl", 2, "list", values=(1.0, 1.0, 2.0, 3.0), redraw=False),
        Predictor("zm", 2, "list", values=(1.0, 7.0, 3.0, 4.0, 9.0), redraw=False),
    )
    condition = condition_of("y ~ t + zm + (1 | g)", predictors, (0.0, 0.0, 0.0), Layout((4,) * 12))
    moments, design = of(condition), compile_design(condition)
    z = dict(zip(design.between, draw_between(design, np.random.Generator(np.random.SFC64(5)), 20_000), strict=True))
    for a, b in (("t", "t"), ("t", "zl"), ("t", "zm")):
        each = (z[a] * z[b]).mean(axis=0) - z[a].mean(axis=0) * z[b].mean(axis=0)
        found = moments.covariance(a, b)
        assert found == pytest.approx((each.mean(), 0.0), abs=1e-12 + 4 * float(each.std()) / math.sqrt(20_000))
        assert (each.std() < 1e-12) == (a == b or b == blocks)


def test_drawn_sizes_leave_no_moments_of_what_goes_with_them() -> None:
    layout = Layout((8,) * 12, ((12, Sizes("poisson", 8.0)),))
    predictors = (Predictor("t", 1, "time"), Predictor("x", 1, "normal"), Predictor("z", 2, "balanced"))
    condition = condition_of("y ~ x + (1 | g)", predictors, (0.0, 0.0), layout)
    moments = of(condition)
    assert [moments.parts(v) is None for v in ("t", "between(x)", "x", "within(x)", "z")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert math.isnan(predictor_variance(predictors[0], layout))
    both = condition_of("y ~ within(x) + between(x) + z + (1 | g)", predictors, (0.0, 0.0, 0.7, 0.0), layout)
    made, trouble = converted(both, {"within(x)": Effect("r2", 0.2)})
    assert not trouble  # what is not known is of the other level
    assert made.truth.fixed[1] == pytest.approx(math.sqrt(0.2 / 0.8 * 2), rel=1e-14)
    assert explained(made)[0] == pytest.approx(0.2)
    assert math.isnan(explained(made)[1])
    assert "z may be correlated with between(x)" not in str(converted(both, {"z": Effect("r2", 0.2)})[1])
    assert "that of level 2 does not follow" in converted(both, {"z": Effect("r2", 0.2)})[1][0].line


def test_correlated_predictors() -> None:
    predictors = (Predictor("x", 1, "normal", 1.0, 2.0), Predictor("w", 1, "uniform", 0.0, 3.0))
    condition = condition_of("y ~ w + x + (1 | g)", predictors, (0.0, 0.5, 1.0), correlations=(("w", "x", 0.3),))
    assert of(condition).covariance("w", "x") == pytest.approx((0, 0.3 * 6))
    fixed = 0.25 * 9 + 4 + 2 * 0.5 * 0.3 * 6
    assert explained(condition) == pytest.approx((fixed / (fixed + 2), 0))
    apart = condition_of("y ~ w:x + (1 | g)", predictors, (0.0, 0.5), correlations=(("w", "x", 0.3),))
    assert of(apart).covariance("w:x", "w:x") is None
    assert math.isnan(explained(apart)[0])


# --- axes, identity, priors


def test_d_stays_while_the_icc_varies() -> None:
    made = study({"grid/icc": [0.0, 0.1, 0.5], "grid/truth.fixed.arm.d": [0.2, 0.4]})
    for condition in made.conditions():
        truth = condition.truth
        total = truth.covariance[0][0] + truth.residual_variance
        d = condition.factors["truth.fixed.arm.d"]
        assert truth.fixed[-1] == pytest.approx(float(d) * math.sqrt(total), rel=1e-14)
        assert condition.stated["arm"] == Effect("d", float(d))


def test_an_axis_keeps_what_the_table_says_beside_the_number() -> None:
    made = study({"grid/truth.fixed.x": {"d": [0.2, 0.5]}}, x={"d": 1, "by": "residual", "per": "sd"})
    assert effects(made, 1)["x"] == pytest.approx(0.5 * math.sqrt(3) / 2, rel=1e-14)
    shares = study({"grid/truth.fixed.x.r2": [0.2, 0.5]}, x={"r2": 0.1, "sign": "-"})
    assert effects(shares, 1)["x"] == pytest.approx(-math.sqrt(3) / 2, rel=1e-14)


def test_an_axis_of_numbers_replaces_the_table() -> None:
    made = study({"grid/truth.fixed.x": [0.2, 0.5]}, x={"d": 1})
    assert [effects(made, i)["x"] for i in (0, 1)] == [0.2, 0.5]
    assert not made.conditions()[0].stated


def test_an_axis_of_a_residual_variance_and_of_a_predictor_moves_the_coefficient() -> None:
    made = study({"grid/truth.residual_variance": [3, 12], "grid/predictors.x.sd": [2, 4]}, x={"r2": 0.5})
    assert [effects(made, i)["x"] for i in range(4)] == pytest.approx(
        [math.sqrt(v) / s for v in (3, 12) for s in (2, 4)]
    )


def test_the_same_numbers_share_their_draws() -> None:
    stated = study(x={"r2": 0.1}, arm={"d": 0.3})
    plain = study(**effects(stated))
    assert data_key(stated.conditions()[0]) == data_key(plain.conditions()[0])
    assert stated.conditions() == plain.conditions()


def test_a_study_reads_back() -> None:
    made = study(x={"r2": 0.1, "sign": "-"}, arm={"d": 0.3, "by": "residual"}, z={"d": 0.1, "per": "sd"})
    again = StudyFile.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict()
    assert again.conditions()[0].stated == made.conditions()[0].stated
    assert 'x = { r2 = 0.1, sign = "-" }' in made.to_toml()


def test_priors_are_at_their_means_and_said_to_be() -> None:
    prior = {"distribution": "beta", "mean": 0.2, "sd": 0.05}
    made = study({"prior/icc": prior}, arm={"d": 0.3}, x={"d": 0.1, "by": "residual"}, z={"r2": 0.1})
    condition = made.conditions()[0]
    texts = {term: effect.text for term, effect in condition.stated.items()}
    assert texts == {
        "arm": "d = 0.3 by total variance, at the means of the priors",
        "x": "d = 0.1 by residual variance",
        "z": "r2 = 0.1 of level 2, at the means of the priors",
    }
    assert condition.truth.fixed[-1] == pytest.approx(0.3 * math.sqrt(3 / 0.8))


def test_a_prior_takes_the_place_of_a_stated_effect() -> None:
    made = study({"prior/truth.fixed.x": {"distribution": "normal", "mean": 0.4, "sd": 0.1}}, x={"d": 1})
    assert effects(made)["x"] == 0.4
    assert not made.conditions()[0].stated


# --- simulated data have them


def components(y: NDArray[np.float64], x: NDArray[np.float64], groups: int) -> tuple[float, float]:
    """Unbiased covariance components of two variables (J, n) within and between clusters; groups: of clusters, with own means."""
    J, n = y.shape
    a, b = y.mean(axis=1), x.mean(axis=1)
    within = float(((y - a[:, None]) * (x - b[:, None])).sum() / (J * (n - 1)))
    parts = zip(np.split(a, groups), np.split(b, groups), strict=True)
    between = sum(float(((c - c.mean()) * (d - d.mean())).sum()) for c, d in parts) / (J - groups)
    return within, between - within / n


def jackknife(values: NDArray[np.float64], of: Callable[[NDArray[np.float64]], float]) -> tuple[float, float]:
    """A function of the means of replicates' statistics (R, k), and its MCSE."""
    R = len(values)
    left = np.array([of((values.sum(axis=0) - row) / (R - 1)) for row in values])
    return of(values.mean(axis=0)), float(np.sqrt((R - 1) / R * ((left - left.mean()) ** 2).sum()))


def test_simulated_data_have_the_d_that_is_stated() -> None:
    changes = {"truth/formula": "y ~ arm + (1 | g)", "truth/fixed": {"Intercept": 1, "arm": {"d": 0.6}}, "seed": 8}
    made = tables(changes)
    del made["predictors"]["x"], made["predictors"]["z"]
    simulated, rows = nl.Study.from_dict(made), []
    for replicate in range(300):
        frame = simulated.data(0, replicate).sort_values(["arm", "g"], kind="stable")
        y = frame["y"].to_numpy().reshape(20, 10)
        rows.append((y[10:].mean() - y[:10].mean(), sum(components(y, y, groups=2))))
    d, mcse = jackknife(np.array(rows), lambda m: m[0] / math.sqrt(m[1]))
    assert abs(d - 0.6) < 4 * mcse
    assert mcse < 0.03


def test_simulated_data_have_the_shares_that_are_stated() -> None:
    change = {
        "truth/formula": "y ~ x + w + z + (1 + w | g)",
        "truth/random/g/variance": {"Intercept": 1, "w": 0.4},
        "truth/fixed": {"Intercept": 0, "x": {"r2": 0.1}, "w": {"r2": 0.3, "sign": "-"}, "z": {"r2": 0.4}},
        "predictors/w": {"level": 1, "distribution": "normal"},
    }
    made = tables(change)
    del made["predictors"]["arm"]
    simulated, rows = nl.Study.from_dict(made), []
    for replicate in range(300):
        frame = simulated.data(0, replicate)
        y, x, w, z = (frame[name].to_numpy().reshape(20, 10) for name in "yxwz")
        pairs = [components(a, b, 1) for a, b in ((y, y), (y, x), (x, x), (y, w), (w, w), (y, z), (z, z))]
        rows.append([pair[i] for pair, i in zip(pairs, (0, 0, 0, 0, 0, 1, 1), strict=True)] + [pairs[0][1]])
    for share, cov, own, whole in ((0.1, 1, 2, 0), (0.3, 3, 4, 0), (0.4, 5, 6, 7)):
        found, mcse = jackknife(np.array(rows), lambda m, c=cov, o=own, v=whole: m[c] ** 2 / (m[o] * m[v]))
        assert abs(found - share) < 4 * mcse
        assert mcse < share / 8
    assert np.array(rows)[:, 3].mean() < 0


def test_simulated_data_of_any_predictors_have_the_shares_that_are_stated() -> None:
    made = tables(
        {
            "truth/formula": "y ~ x + w + z + (1 | g)",
            "truth/fixed": {"Intercept": 0, "x": {"r2": 0.2}, "w": {"r2": 0.1}, "z": {"r2": 0.3}},
            "predictors/x": {"level": 1, "distribution": "gamma", "skewness": 1.0, "mean": 2, "sd": 3, "icc": 0.3},
            "predictors/w": {"level": 1, "distribution": "binary", "share": 0.3},
            "predictors/z": {"level": 2, "distribution": "lognormal", "skewness": 1.0},
        }
    )
    del made["predictors"]["arm"]
    simulated, rows = nl.Study.from_dict(made), []
    assert simulated.conditions[0].path == "rows"
    for replicate in range(300):
        frame = simulated.data(0, replicate)
        y, x, w, z = (frame[name].to_numpy(dtype=float).reshape(20, 10) for name in "yxwz")
        pairs = [components(a, b, 1) for a, b in ((y, y), (y, x), (x, x), (y, w), (w, w), (y, z), (z, z))]
        rows.append([pair[i] for pair, i in zip(pairs, (0, 0, 0, 0, 0, 1, 1), strict=True)] + [pairs[0][1]])
    for share, cov, own, whole in ((0.2, 1, 2, 0), (0.1, 3, 4, 0), (0.3, 5, 6, 7)):
        found, mcse = jackknife(np.array(rows), lambda m, c=cov, o=own, v=whole: m[c] ** 2 / (m[o] * m[v]))
        assert abs(found - share) < 4 * mcse
        assert mcse < share / 8


# --- where it is kept and shown


def test_stored_beside_the_true_values(tmp_path: Path) -> None:
    made = tables({"grid/icc": [0.1, 0.2]}, x={"r2": 0.1}, arm={"d": 0.3})
    nl.Study.from_dict(made).run(out=tmp_path)
    first = Store(tmp_path).read_conditions()[0]
    assert first.stated == {"x": "r2 = 0.1 of level 1", "x.r2": 0.1, "arm": "d = 0.3 by total variance", "arm.d": 0.3}
    assert first.truth["arm"] == pytest.approx(0.3 * math.sqrt(3 / 0.9))
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "conditions.parquet").to_pydict()
    assert table["stated.arm.d"] == [0.3, 0.3]
    assert table["r2.within"] == pytest.approx([0.1, 0.1])
    arm = 0.09 * 3 / 0.9 * 0.25
    assert table["r2.between"][0] == pytest.approx(arm / (arm + 3 / 9))
    nl.Study.from_dict(tables({"grid/icc": [0.1, 0.2, 0.3]}, x={"r2": 0.1}, arm={"d": 0.3})).run(out=tmp_path)
    assert len(Store(tmp_path).read_conditions()) == 3
    with pytest.raises(
        RefusedError, match=r"truth.fixed.arm: stored 'd = 0.3 by total variance', now 'd = 0.4 by total"
    ):
        nl.Study.from_dict(tables({"grid/icc": [0.4]}, x={"r2": 0.1}, arm={"d": 0.4})).run(out=tmp_path)


def test_shown_in_the_overview_and_the_report(tmp_path: Path) -> None:
    from rich.console import Console

    made = tables({"grid/icc": [0.1, 0.2]}, x={"r2": 0.1, "sign": "-"}, arm={"d": 0.3})
    results = nl.Study.from_dict(made).run(out=tmp_path / "out")
    assert results.stated() == {
        "x": ["-0.2887 (r2 = 0.1 of level 1, negative)"],
        "arm": ["0.5477 to 0.5809 (d = 0.3 by total variance)"],
    }
    console = Console(width=120, record=True, file=(tmp_path / "log").open("w", encoding="utf-8"))
    console.print(overview(results, 120))
    assert "arm = 0.5477 to 0.5809 (d = 0.3 by total variance)" in console.export_text()
    console.file.close()
    told = [getattr(block, "text", "") for section in ademp(Material.read(results)) for block in section.blocks]
    assert any("x: r2 = 0.1 of level 1, negative; arm: d = 0.3 by total variance" in text for text in told)


def test_many_statements_of_one_effect_are_cut(tmp_path: Path) -> None:
    from nestlab.show.summary import _stated

    made = tables({"grid/truth.fixed.arm.d": [0.1, 0.2, 0.3, 0.4, 0.5], "replications": 2})
    lines = _stated(nl.Study.from_dict(made).run(out=tmp_path))
    assert lines == [
        "arm = 0.2 (d = 0.1 by total variance), 0.4 (d = 0.2 by total variance), 0.6 (d = 0.3 by total variance) and 2 more"
    ]


# --- solve


def over(name: str, **fixed: Any) -> tuple[str, tuple[float, float]]:
    made = study(**fixed)
    targets = dict.fromkeys(("power", "joint_power", "width", "coverage", "bias", "relbias")) | {"power": 0.8}
    options = Options(targets, ["arm"], None, [name], (), None, None, 0.02, 1000, None)
    question = question_of(made, options)
    bench = Bench(made, question, Path("never-written"), 1)
    axis = bench.axis(question.over[0], None, bench.points[0])
    return question.over[0], (axis.low, axis.high)


def test_solve_over_an_effect_in_the_unit_of_the_file() -> None:
    assert over("effect", arm={"d": 0.3}) == ("truth.fixed.arm.d", (0.0, 3.0))
    assert over("effect", arm={"d": -1.0}) == ("truth.fixed.arm.d", (-4.0, 0.0))
    assert over("effect", arm=0.3)[0] == "truth.fixed.arm"
    assert over("truth.fixed.arm.d") == ("truth.fixed.arm.d", (0.0, 3.0))
    assert over("effect", arm={"r2": 0.3}, x={"r2": 0.5}) == ("truth.fixed.arm.r2", (0.0, pytest.approx(0.45)))


def test_solve_finds_the_smallest_d(tmp_path: Path) -> None:
    made = tables({"truth/formula": "y ~ arm + (1 | g)", "truth/fixed": {"Intercept": 0, "arm": {"d": 0.3}}})
    del made["predictors"]["x"], made["predictors"]["z"]
    solved = nl.Study.from_dict(made).solve(
        power=0.8, over="effect", out=tmp_path, precision=0.2, max_replications=4000
    )
    values = solved.solutions[0].values
    error = math.sqrt((1 + 3 / 10) * 4 / 20)  # the t test of 10 cluster means against 10
    shift = brentq(lambda delta: stats.nct.sf(stats.t.ppf(0.975, 18), 18, delta) - 0.8, 1, 5)
    assert values["truth.fixed.arm.d"] == pytest.approx(shift * error / 2, rel=0.1)


# --- refused, with the repair

UNITS = "d, r2, odds_ratio, rate_ratio, difference"
ONE = f"must be a number, a prior, or a table with one of {UNITS}, such as {{ d = 0.3 }}"
CHANGES = tuple[dict[str, Any], dict[str, Any], str]
SLOPE_ONLY = {"truth/formula": "y ~ x + z + arm + (0 + x | g)", "truth/random/g/variance": {"x": 1}}
PRODUCT = {"truth/formula": "y ~ x * z + arm + (1 | g)", "truth/fixed/x:z": 0.5}

BAD: list[CHANGES] = [
    ({}, {"x": {"D": 0.3}}, f'truth.fixed.x = {{"D": 0.3}}: {ONE}; did you mean "d"?'),
    ({}, {"x": {"eta": 0.3}}, f'truth.fixed.x = {{"eta": 0.3}}: {ONE}; use one of {UNITS}'),
    ({}, {"x": {"by": "total"}}, f'truth.fixed.x = {{"by": "total"}}: {ONE}; add one of them'),
    ({}, {"x": {"d": 1, "r2": 0.1}}, f'truth.fixed.x = {{"d": 1, "r2": 0.1}}: {ONE}; keep one of them'),
    (
        {},
        {"x": {"d": 1, "bye": "total"}},
        'truth.fixed.x = {"d": 1, "bye": "total"}: must be an effect with the keys d, r2, by, per, sign, odds_ratio, '
        "rate_ratio, difference, and bye is none; "
        'did you mean "by"?',
    ),
    (
        {},
        {"x": {"d": 1, "sign": "-"}},
        'truth.fixed.x = {"d": 1, "sign": "-"}: must be an effect with the keys d, by, per, and sign is none; '
        "write d = -0.3, say",
    ),
    (
        {},
        {"x": {"r2": 0.1, "by": "total"}},
        'truth.fixed.x = {"r2": 0.1, "by": "total"}: must be an effect with the keys r2, sign, and by is none; '
        "remove it: r2 is a share of the variance at the term's level",
    ),
    (
        {},
        {"x": {"d": 1, "by": "totl"}},
        'truth.fixed.x = {"d": 1, "by": "totl"}: must be an effect whose by is "total", "residual", '
        '"outcome" or "outcome-control", and it is "totl"; '
        'did you mean "total"?',
    ),
    (
        {},
        {"x": {"d": 1, "per": 2}},
        'truth.fixed.x = {"d": 1, "per": 2}: must be an effect whose per is "unit" or "sd", and it is 2; write per = "sd", say',
    ),
    (
        {},
        {"x": {"r2": 0.1, "sign": "minus"}},
        'truth.fixed.x = {"r2": 0.1, "sign": "minus"}: must be an effect whose sign is "+" or "-", and it is "minus"; '
        'write sign = "-", say',
    ),
    (
        {},
        {"x": {"d": "0.3"}},
        'truth.fixed.x = {"d": "0.3"}: must be an effect whose d is a finite number, and it is "0.3"; write d = 0.3, say',
    ),
    (
        {},
        {"x": {"d": {"distribution": "normal", "mean": 0, "sd": 1}}},
        'truth.fixed.x = {"d": {"distribution": "normal", "mean": 0, "sd": 1}}: must be an effect whose d is a number; '
        "no prior may stand for it: write a number, or a prior on the coefficient itself",
    ),
    (
        {},
        {"x": {"r2": 1}},
        'truth.fixed.x = {"r2": 1}: must be an effect whose r2 is a number from 0 to 1, 1 not included, and it is 1; '
        "write r2 = 0.1, say",
    ),
    (
        {},
        {"x": {"r2": -0.1}},
        'truth.fixed.x = {"r2": -0.1}: must be an effect whose r2 is 0 or more; write sign = "-" for a negative effect',
    ),
    (
        {},
        {"w": {"d": 0.3}},
        'truth.fixed.w = {"d": 0.3}: must be a fixed term of y ~ x + z + arm + (1 | g); '
        "add w to the formula or remove it here",
    ),
    (
        {},
        {"x": {"d": 1e308}, "z": {"d": 1e308, "by": "residual", "per": "sd"}},
        "truth.fixed.x.d = 1e+308: must become a finite coefficient; lower it, or the variances\n"
        "truth.fixed.z.d = 1e+308: must become a finite coefficient; lower it, or the variances",
    ),
    (
        {},
        {"Intercept": {"r2": 0.1}},
        "truth.fixed.Intercept.r2 = 0.1: must be of a term that varies: the Intercept explains no variance; "
        "write a number, or d",
    ),
    (
        {},
        {"Intercept": {"d": 0.1, "per": "sd"}},
        'truth.fixed.Intercept.d = 0.1: must be per = "unit" for Intercept, whose sd is 0; remove per',
    ),
    (
        SLOPE_ONLY,
        {"x": {"d": 0.3}},
        "truth.fixed.x.d = 0.3: must have a random intercept for its total variance, unlike "
        'y ~ x + z + arm + (0 + x | g); write by = "residual", or add the intercept',
    ),
    (
        {"truth/random/g/variance/Intercept": 0},
        {"z": {"r2": 0.3}},
        "truth.fixed.z.r2 = 0.3: must be 0 where no variance between clusters is unexplained; "
        "raise the random intercept's variance (or icc), or write d instead",
    ),
    (
        {"grid/icc": [0, 0.1]},
        {"z": {"r2": 0.3}},
        "truth.fixed.z.r2 = 0.3: must be 0 where no variance between clusters is unexplained; "
        "raise the random intercept's variance (or icc), or write d instead (at icc = 0.0)",
    ),
    (
        {},
        {"z": {"r2": 0.6}, "arm": {"r2": 0.4}},
        "truth.fixed.z.r2 = 0.6: all r2 of level 2 (z, arm) must sum to less than 1, and 0.6 + 0.4 = 1; lower them",
    ),
    (
        PRODUCT,
        {"z": {"r2": 0.3}},
        "truth.fixed.z.r2 = 0.3: must be of a term that is uncorrelated with the others of level 2, and z is correlated "
        "with x:z; write d instead, or center both",
    ),
    (
        {"grid/truth.fixed.x": [0.1, {"d": 0.3}]},
        {},
        'grid.truth.fixed.x = {"d": 0.3}: every value must be a finite number; name the axis by the unit, '
        "truth.fixed.<term>.d or .r2, and list numbers",
    ),
    (
        {"grid/truth.fixed.x.r2": [0.1, 1]},
        {},
        "grid.truth.fixed.x.r2 = 1: every value must be a number from 0 to 1, 1 not included; write 0.1, say",
    ),
    (
        {"grid/truth.fixed.x.d": [0.1, "a"]},
        {},
        'grid.truth.fixed.x.d = "a": every value must be a finite number; write 0.3, say',
    ),
    (
        {"grid/truth.fixed.x.d": [0.1], "grid/truth.fixed.x.r2": [0.1]},
        {},
        "grid.truth.fixed.x.r2 = [0.1]: must be the only axis that sets truth.fixed.x; remove it or the axis "
        '"truth.fixed.x.d"',
    ),
    (
        {"grid/truth.fixed.x.dd": [0.1]},
        {},
        'grid.truth.fixed.x.dd = [0.1]: names nothing that can vary; did you mean "truth.fixed.x.d"?',
    ),
    (
        {"grid/truth.fixed.Intercept.r2": [0.1]},
        {},
        "grid.truth.fixed.Intercept.r2 = [0.1]: names nothing that can vary; use clusters, cluster_size, icc, "
        "variance_ratio or a dotted path such as truth.fixed.arm",
    ),
    (
        {"prior/truth.fixed.x.d": {"distribution": "normal", "mean": 0, "sd": 1}},
        {},
        'prior.truth.fixed.x.d = {"distribution": "normal", "mean": 0, "sd": 1}: must be a finite number; a prior may '
        "stand for effects, variances and correlations of the truth only: write a value, or several as an axis of the grid",
    ),
]


@pytest.mark.parametrize(("changes", "fixed", "line"), BAD)
def test_refused_with_the_repair(changes: dict[str, Any], fixed: dict[str, Any], line: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(changes, **fixed)
    assert caught.value.problems == line.split("\n")


REFUSED: list[tuple[Condition, dict[str, Effect], str]] = [
    (
        condition_of("y ~ k + (1 | g)", (Predictor("k", 1, "time", 0.0, 0.0),), (0.0, 0.0)),
        {"k": Effect("r2", 0.1)},
        "truth.fixed.k.r2 = 0.1: must be of a term of known variance, and that of k is 0 or does not follow from the "
        "predictors; write d instead",
    ),
    (
        condition_of(
            "y ~ w + x + (1 | g)",
            (Predictor("w", 1, "normal"), Predictor("x", 1, "normal")),
            (0.0, 0.5, 0.0),
            correlations=(("w", "x", 0.3),),
        ),
        {"x": Effect("r2", 0.1)},
        "truth.fixed.x.r2 = 0.1: must be of a term that is uncorrelated with the others of level 1, and x is correlated with "
        "w; write d instead, or center both",
    ),
    (
        condition_of(
            "y ~ w + w:x + z + (1 | g)",
            (Predictor("w", 1, "normal", icc=0.1), Predictor("x", 1, "normal", icc=0.1), Predictor("z", 2, "normal")),
            (0.0, 0.5, 0.0, 0.1),
            correlations=(("w", "x", 0.3),),
        ),
        {"z": Effect("r2", 0.1)},
        "truth.fixed.z.r2 = 0.1: must be a share of a variance that is known, and that of level 2 does not follow from the "
        "predictors; write d instead",
    ),
    (
        condition_of(
            "y ~ x + (1 | g)",
            (Predictor("x", 1, "normal"), Predictor("z", 2, "normal")),
            (0.0, 0.0),
            errors=Errors(ratios=(("z", 2.0),)),
        ),
        {"x": Effect("r2", 0.1)},
        "truth.fixed.x.r2 = 0.1: must be of a model with one residual variance, and truth.errors.variance_ratio gives several; "
        "write d instead, or remove that",
    ),
]


@pytest.mark.parametrize(("condition", "stated", "line"), REFUSED)
def test_refused_of_conditions(condition: Condition, stated: dict[str, Effect], line: str) -> None:
    assert [problem.line for problem in converted(condition, stated)[1]] == [line]
