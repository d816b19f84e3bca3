"""Priors in place of numbers: how they are written, refused, identified and drawn."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nestlab.run.plan import match_conditions
from nestlab.run.store import RefusedError
from nestlab.simulate.priors import draw_truths
from nestlab.spec.identity import data_key, describe, flatten
from nestlab.spec.prior import Domain, Prior, read_prior
from nestlab.spec.study import StudyError, StudyFile
from nestlab.spec.uncertain import drawn_truth, drawn_values, prior_names

BETA = {"distribution": "beta", "mean": 0.1, "sd": 0.05}
NORMAL = {"distribution": "normal", "mean": 0.5, "sd": 0.2}
LOGNORMAL = {"distribution": "lognormal", "mean": 2, "sd": 0.5}
PILOT = {"distribution": "pilot", "estimate": 0.4, "se": 0.1, "df": 12.3}
PILOT_VARIANCE = {"distribution": "pilot", "estimate": 0.2, "df": 14}

BASE: dict[str, Any] = {
    "name": "plan",
    "seed": 1,
    "replications": 100,
    "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ x + z + x:z + (1 + x | school)",
        "fixed": {"Intercept": 1, "x": 0.5, "z": 0.2, "x:z": 0.1},
        "residual_variance": 4,
        "random": {"school": {"variance": {"Intercept": 1, "x": 0.5}, "correlation": {"Intercept:x": 0.3}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "z": {"level": 2, "distribution": "balanced"},
    },
    "method": [{"name": "reml"}],
}
SCHOOL = "truth.random.school"
DOMAINS = {
    "effect": Domain(-np.inf, np.inf, "effect"),
    "variance": Domain(0.0, np.inf, "variance"),
    "sd": Domain(0.0, np.inf, "sd"),
    "share": Domain(0.0, 1.0, "share"),
}


def study(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with some values changed, by "table/key"."""
    tables = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("/")
        holder: Any = tables
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = value
    return tables


def conditions(changes: dict[str, Any]) -> Any:
    return StudyFile.from_dict(study(changes)).conditions()


def problems(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(study(changes))
    return caught.value.problems


def prior(table: dict[str, Any], of: str = "effect") -> Prior:
    return read_prior(table, DOMAINS[of], "a number")


# -- where priors may stand ------------------------------------------------------------------------------------------------

PLACES = {
    "a fixed effect": ({"truth/fixed/x": NORMAL}, "truth.fixed.x"),
    "a product by its other name": (
        {"truth/fixed": {"Intercept": 1, "x": 0, "z": 0, "z:x": NORMAL}},
        "truth.fixed.x:z",
    ),
    "the residual variance": ({"truth/residual_variance": LOGNORMAL}, "truth.residual_variance"),
    "a variance": ({"truth/random/school/variance/x": PILOT_VARIANCE}, f"{SCHOOL}.variance.x"),
    "a correlation": (
        {"truth/random/school/correlation/Intercept:x": {"distribution": "uniform", "low": -1, "high": 1}},
        f"{SCHOOL}.correlation.Intercept:x",
    ),
    "a short name": ({"prior/icc": BETA}, "icc"),
    "another short name": ({"prior/slope_variance_ratio": LOGNORMAL}, "slope_variance_ratio"),
    "a dotted path": ({"prior": {"truth.fixed.x": PILOT}}, "truth.fixed.x"),
    "nested tables": ({"prior": {"truth": {"fixed": {"x": PILOT}}}}, "truth.fixed.x"),
    "a level of an axis": ({"grid/icc": [BETA]}, "icc"),
    "a level of a dotted axis": ({"grid/truth.fixed.x": [NORMAL]}, "truth.fixed.x"),
    "a level of nested tables": ({"grid/truth/fixed/x": [NORMAL]}, "truth.fixed.x"),
    "a case": ({"grid/cases": [{"icc": BETA, "clusters": 10}]}, "icc"),
}


@pytest.mark.parametrize("place", PLACES)
def test_places(place: str) -> None:
    changes, name = PLACES[place]
    (condition,) = conditions(changes)
    assert prior_names(condition) == (name,)
    assert isinstance(condition.priors[0][1], Prior)


def test_sd_scale() -> None:
    changes = {
        "truth": {
            **BASE["truth"],
            "random": {"school": {"sd": {"Intercept": LOGNORMAL, "x": 0.5}}},
            "residual_sd": {"distribution": "uniform", "low": 1, "high": 3},
        }
    }
    del changes["truth"]["residual_variance"]
    (condition,) = conditions(changes)
    assert prior_names(condition) == (f"{SCHOOL}.sd.Intercept", "truth.residual_sd")
    assert condition.truth.covariance[0][0] == 4.0
    assert condition.truth.residual_variance == 4.0
    found = drawn_truth(condition, {f"{SCHOOL}.sd.Intercept": np.array([3.0]), "truth.residual_sd": np.array([1.5])})
    assert found.covariance[0][0] == 9.0
    assert found.residual_variance == 2.25


def test_the_truth_is_at_the_means() -> None:
    (condition,) = conditions({"truth/fixed/x": NORMAL, "prior/icc": BETA})
    assert condition.truth.fixed == (1.0, 0.5, 0.2, 0.1)
    assert condition.truth.covariance[0][0] == pytest.approx(4 / 9)
    assert condition.factors == {}


def test_factors_show_priors() -> None:
    found = conditions({"grid/icc": [0, 0.25, BETA], "grid/clusters": [10, 20]})
    assert [c.factors["icc"] for c in found] == ["0", "0", "0.25", "0.25", "beta(0.1, 0.05)", "beta(0.1, 0.05)"]
    assert [bool(c.priors) for c in found] == [False] * 4 + [True] * 2


def test_an_axis_overrides_the_file() -> None:
    """An axis of numbers takes the place of a prior in [truth]; icc that of a prior on the intercept variance."""
    for changes in (
        {"truth/fixed/x": NORMAL, "grid/truth.fixed.x": [0.5]},
        {"truth/random/school/variance/Intercept": LOGNORMAL, "grid/icc": [0.2]},
        {
            "truth/random/school/variance/Intercept": LOGNORMAL,
            f"grid/{SCHOOL}.variance.Intercept": [1],
        },
    ):
        (condition,) = conditions(changes)
        assert condition.priors == ()
    (condition,) = conditions({"truth/random/school/variance/Intercept": LOGNORMAL, "grid/icc": [BETA]})
    assert prior_names(condition) == ("icc",)


def test_numbers_that_follow_a_draw() -> None:
    """icc = 0.2 holds in each replicate where the residual variance is drawn, and the slope's ratio to the intercept's."""
    (condition,) = conditions(
        {"truth/residual_variance": LOGNORMAL, "grid/icc": [0.2], "grid/slope_variance_ratio": [0.5]}
    )
    assert [name for name, _ in condition.priors] == ["truth.residual_variance", "icc", "slope_variance_ratio"]
    residual = np.array([1.0, 2.0, 8.0])
    found = drawn_truth(condition, {"truth.residual_variance": residual})
    np.testing.assert_allclose(found.covariance[0][0], residual / 4)
    np.testing.assert_allclose(found.covariance[1][1], residual / 8)
    np.testing.assert_allclose(found.covariance[0][1], 0.3 * residual * np.sqrt(1 / 32))
    (apart,) = conditions({"truth/fixed/x": NORMAL, "grid/icc": [0.2]})
    assert prior_names(apart) == ("truth.fixed.x",)
    assert len(apart.priors) == 1


def test_drawn_truth_is_the_truth_of_the_numbers() -> None:
    """Each replicate's truth is that of the study with the drawn numbers in place of the priors."""
    priors = {
        "truth/fixed/x:z": PILOT,
        "truth/residual_variance": PILOT_VARIANCE,
        "truth/random/school/correlation/Intercept:x": {**NORMAL, "low": -1, "high": 1},
        "prior/icc": BETA,
        "prior/slope_variance_ratio": LOGNORMAL,
    }
    (condition,) = conditions(priors)
    uniforms = np.random.default_rng(1).uniform(size=(5, 4))
    values = drawn_values(condition, uniforms)
    found = drawn_truth(condition, values)
    for r in range(4):
        numbers = {
            "truth/fixed/x:z": float(values["truth.fixed.x:z"][r]),
            "truth/residual_variance": float(values["truth.residual_variance"][r]),
            "truth/random/school/correlation/Intercept:x": float(values[f"{SCHOOL}.correlation.Intercept:x"][r]),
            "grid/icc": [float(values["icc"][r])],
            "grid/slope_variance_ratio": [float(values["slope_variance_ratio"][r])],
        }
        (certain,) = conditions(numbers)
        np.testing.assert_allclose([v[r] for v in found.fixed], certain.truth.fixed, rtol=1e-14)
        np.testing.assert_allclose(np.array(found.covariance)[:, :, r], certain.truth.covariance, rtol=1e-13)
        assert found.residual_variance[r] == certain.truth.residual_variance


# -- identity --------------------------------------------------------------------------------------------------------------


def test_identity() -> None:
    """A prior is part of the data key, however it is written; without one, nothing is."""
    (plain,) = conditions({})
    (inline,) = conditions({"truth/fixed/x": NORMAL})
    (table,) = conditions({"prior": {"truth.fixed.x": NORMAL}})
    (axis,) = conditions({"grid/truth.fixed.x": [NORMAL]})
    (wider,) = conditions({"truth/fixed/x": {**NORMAL, "sd": 0.3}})
    assert data_key(inline) == data_key(table) == data_key(axis)
    assert len({data_key(plain), data_key(inline), data_key(wider)}) == 3
    assert "prior" not in describe(plain)
    assert flatten(describe(inline))["prior.truth.fixed.x"] == "normal(0.5, 0.2)"
    (other_order,) = conditions({"prior": {"truth.fixed.x": NORMAL, "truth.fixed.z": NORMAL}})
    (order,) = conditions({"prior": {"truth.fixed.z": NORMAL, "truth.fixed.x": NORMAL}})
    assert data_key(order) == data_key(other_order)


FIRST = {
    "truth.fixed.x": [0.3502564640854965, 0.6002203175365796],
    "truth.fixed.z": [0.4049619621364009, 0.4999564883629298],
    "truth.residual_variance": [0.24814557924294425, 0.1411830242101831],
    "icc": [0.0713924799880282, 0.08838611108887702],
    "slope_variance_ratio": [1.503783921508925, 1.388919784478997],
    "slope_correlation": [-0.23723383970027778, -0.5586226671090271],
}


def test_golden_draws() -> None:
    """A key must give the same truths for ever: first and last of block 2. Where this fails on purpose, raise DRAW_VERSION."""
    priors = {
        "icc": BETA,
        "truth.fixed.x": NORMAL,
        "truth.fixed.z": PILOT,
        "truth.residual_variance": PILOT_VARIANCE,
        "slope_variance_ratio": LOGNORMAL,
        "slope_correlation": {"distribution": "uniform", "low": -1, "high": 1},
    }
    (condition,) = conditions({"prior": priors})
    key = data_key(condition)
    assert key == "553d20e9ef8a120b12c2ebbdd89333da5bab3192778ab380729004de02e5e996"
    values = draw_truths(condition, key, 2).values
    assert list(values) == list(FIRST)
    for name, expected in FIRST.items():
        np.testing.assert_allclose(values[name][[0, 511]], expected, rtol=1e-12)


def test_round_trip() -> None:
    cut = {**NORMAL, "low": -1, "high": 1}
    file = StudyFile.from_dict(study({"truth/fixed/x": PILOT, "grid/icc": [0.1, BETA], "prior/slope_correlation": cut}))
    again = StudyFile.from_dict(tomllib.loads(file.to_toml()))
    assert again.conditions() == file.conditions()


def test_a_changed_prior_is_refused() -> None:
    """Stored conditions keep their meaning: a new level of an axis is new, another prior of the same study is not."""
    file = StudyFile.from_dict(study({"prior/icc": BETA, "grid/truth.residual_variance": [1, 2]}))
    stored, _ = match_conditions([], file.conditions(), file.methods())
    more = StudyFile.from_dict(study({"prior/icc": BETA, "grid/truth.residual_variance": [1, 2, {**NORMAL, "low": 0}]}))
    rows, numbers = match_conditions(stored, more.conditions(), more.methods())
    assert numbers == [0, 1, 2]
    assert rows[2].spec["prior.truth.residual_variance"] == "normal(0.5, 0.2; from 0)"
    changed = StudyFile.from_dict(study({"prior/icc": {**BETA, "sd": 0.02}, "grid/truth.residual_variance": [1, 2]}))
    with pytest.raises(RefusedError, match=r"prior.icc: stored 'beta\(0.1, 0.05\)', now 'beta\(0.1, 0.02\)'"):
        match_conditions(stored, changed.conditions(), changed.methods())


# -- distributions ---------------------------------------------------------------------------------------------------------

U = (np.arange(200_000) + 0.5) / 200_000
a, b = 0.1 * 35, 0.9 * 35  # mean (1 - mean) / sd^2 - 1 = 35
EXACT: dict[str, tuple[Prior, Any]] = {
    "normal": (prior(NORMAL), stats.norm(0.5, 0.2)),
    "normal, cut below": (prior({**NORMAL, "low": 0.4}), stats.truncnorm(-0.5, np.inf, 0.5, 0.2)),
    "normal, cut far above": (prior({**NORMAL, "low": 0.9, "high": 1.2}), stats.truncnorm(2, 3.5, 0.5, 0.2)),
    "uniform": (prior({"distribution": "uniform", "low": -1, "high": 3}), stats.uniform(-1, 4)),
    "beta": (prior(BETA, "share"), stats.beta(a, b)),
    "lognormal": (prior(LOGNORMAL), stats.lognorm(np.sqrt(np.log(1.0625)), scale=2 / np.sqrt(1.0625))),
    "pilot, effect": (prior(PILOT), stats.t(12.3, 0.4, 0.1)),
    "pilot, effect of known variance": (prior({k: v for k, v in PILOT.items() if k != "df"}), stats.norm(0.4, 0.1)),
    "pilot, variance": (prior(PILOT_VARIANCE, "variance"), stats.invgamma(7, scale=7 * 0.2)),
}


@pytest.mark.parametrize("name", EXACT)
def test_distribution(name: str) -> None:
    found, exact = EXACT[name]
    values = found.quantile(U)
    np.testing.assert_allclose(values[::997], exact.ppf(U[::997]), rtol=1e-9, atol=1e-12)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-9)
    low, high = found.support
    assert exact.support() == pytest.approx((low, high))


def test_beta_by_its_mean_and_sd() -> None:
    values = prior(BETA, "share").quantile(U)
    assert values.mean() == pytest.approx(0.1, abs=1e-5)
    assert values.std() == pytest.approx(0.05, abs=1e-5)


def test_pilot_of_an_sd() -> None:
    """The square of an sd's draw is that of its variance."""
    sd = prior({"distribution": "pilot", "estimate": 0.5, "df": 14}, "sd")
    variance = prior({"distribution": "pilot", "estimate": 0.25, "df": 14}, "variance")
    np.testing.assert_allclose(sd.quantile(U) ** 2, variance.quantile(U), rtol=1e-12)
    assert sd.mean == pytest.approx(sd.quantile(U).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (NORMAL, "normal(0.5, 0.2)"),
        ({**NORMAL, "low": 0}, "normal(0.5, 0.2; from 0)"),
        ({**NORMAL, "high": 1e-7}, "normal(0.5, 0.2; up to 1e-07)"),
        ({**NORMAL, "low": -1, "high": 1}, "normal(0.5, 0.2; -1 to 1)"),
        (PILOT, "pilot(0.4, 0.1, df 12.3)"),
        ({"distribution": "uniform", "high": 3, "low": -1}, "uniform(-1, 3)"),
    ],
)
def test_text(table: dict[str, Any], text: str) -> None:
    assert str(prior(table)) == text


def test_the_ends_of_an_open_range_are_never_drawn() -> None:
    values = prior({"distribution": "beta", "mean": 0.9, "sd": 0.299}, "share").quantile(
        np.array([2.0**-53, 1 - 2.0**-53])
    )
    assert (values > 0).all()
    assert (values < 1).all()


# -- refusals --------------------------------------------------------------------------------------------------------------

SHARE = "a number from 0 to 1, 1 not included"
KNOWN = '"normal", "uniform", "beta", "lognormal" or "pilot"'
TRUTH_ONLY = (
    "a prior may stand for effects, variances and correlations of the truth only: write a value, or several as an axis of "
    "the grid"
)
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"prior/icc": {"distribution": "bta", "mean": 0.1}},
        'prior.icc = {"distribution": "bta", "mean": 0.1}: must be a number or a prior with distribution = '
        f'{KNOWN}; did you mean "beta"?',
    ),
    (
        {"truth/fixed/x": {"mean": 0.1, "sd": 1}},
        'truth.fixed.x = {"mean": 0.1, "sd": 1}: must be a number or a prior with distribution = '
        f'{KNOWN}; write a prior such as {{ distribution = "normal", mean = 0.5, sd = 0.1 }}, or a number',
    ),
    (
        {"prior/icc": {"distribution": ["beta"]}},
        'prior.icc = {"distribution": ["beta"]}: must be a number or a prior with distribution = '
        f'{KNOWN}; write a prior such as {{ distribution = "normal", mean = 0.5, sd = 0.1 }}, or a number',
    ),
    (
        {"prior/icc": 0.1},
        'prior.icc = 0.1: must be a prior such as { distribution = "beta", mean = 0.1, sd = 0.05 }; '
        "a number is a level of the grid, or stands in [truth]",
    ),
    ({"prior": [1]}, "prior = [1]: must be a table; write [prior] and its keys below"),
    (
        {"truth/fixed/x": {"distribution": "normal", "mean": 0.1}},
        'truth.fixed.x = {"distribution": "normal", "mean": 0.1}: must be a prior with all keys of "normal", mean, sd; '
        "add sd = ...",
    ),
    (
        {"truth/fixed/x": {**NORMAL, "lo": 0}},
        'truth.fixed.x = {"distribution": "normal", "mean": 0.5, "sd": 0.2, "lo": 0}: '
        'must be a prior with the keys of "normal", mean, sd, low, high, and lo is none; did you mean "low"?',
    ),
    (
        {"truth/fixed/x": {**NORMAL, "sd": "a"}},
        'truth.fixed.x = {"distribution": "normal", "mean": 0.5, "sd": "a"}: '
        'must be a prior whose sd is a finite number, and it is "a"; write sd = 0.1, say',
    ),
    (
        {"truth/fixed/x": {**NORMAL, "sd": 0}},
        'truth.fixed.x = {"distribution": "normal", "mean": 0.5, "sd": 0}: '
        "must be a prior with sd > 0; write the number itself where nothing is uncertain",
    ),
    (
        {"truth/fixed/x": {"distribution": "uniform", "low": 1, "high": 1}},
        'truth.fixed.x = {"distribution": "uniform", "low": 1, "high": 1}: must be a prior with low < high; '
        "correct the two",
    ),
    (
        {"truth/fixed/x": {**NORMAL, "low": 9}},
        'truth.fixed.x = {"distribution": "normal", "mean": 0.5, "sd": 0.2, "low": 9}: must be a prior whose mean is '
        "not far outside low to high, which keep less than 0.0001 of it; correct mean, low or high",
    ),
    (
        {"prior/icc": {**BETA, "mean": 1.1}},
        'prior.icc = {"distribution": "beta", "mean": 1.1, "sd": 0.05}: must be a prior with a mean between 0 and 1; '
        "correct it",
    ),
    (
        {"prior/icc": {**BETA, "sd": 0.3}},
        'prior.icc = {"distribution": "beta", "mean": 0.1, "sd": 0.3}: must be a prior with sd < sqrt(mean (1 - mean)), '
        "here 0.3; lower sd",
    ),
    (
        {"truth/residual_variance": {**LOGNORMAL, "mean": 0}},
        'truth.residual_variance = {"distribution": "lognormal", "mean": 0, "sd": 0.5}: must be a prior with mean > 0; '
        'correct it, or use "normal"',
    ),
    (
        {"truth/residual_variance": {**PILOT_VARIANCE, "estimate": 0}},
        'truth.residual_variance = {"distribution": "pilot", "estimate": 0, "df": 14}: must be a prior with '
        "estimate > 0; write 0 itself, or a prior on it that is not the pilot's",
    ),
    (
        {"truth/fixed/x": {**PILOT, "df": 2}},
        'truth.fixed.x = {"distribution": "pilot", "estimate": 0.4, "se": 0.1, "df": 2}: must be a prior with df > 2, '
        'below which it has no finite mean and spread; use "normal", "uniform" or "lognormal"',
    ),
    (
        {"truth/residual_variance": PILOT},
        'truth.residual_variance = {"distribution": "pilot", "estimate": 0.4, "se": 0.1, "df": 12.3}: must be a prior '
        'with the keys of "pilot", estimate, df, and se is none; give df = 2 (estimate / se)^2 for it',
    ),
    (
        {"prior/icc": PILOT},
        f'prior.icc = {{"distribution": "pilot", "estimate": 0.4, "se": 0.1, "df": 12.3}}: must be {SHARE}, for which no '
        '"pilot" is known; use "beta", "uniform" or "normal" with low and high',
    ),
    (
        {"prior/icc": NORMAL},
        f'prior.icc = {{"distribution": "normal", "mean": 0.5, "sd": 0.2}}: must be {SHARE} wherever the prior reaches, '
        'and it reaches below 0 and above 1; add low = 0 and high = 1, or use "beta"',
    ),
    (
        {"truth/random/school/variance/x": NORMAL},
        f'{SCHOOL}.variance.x = {{"distribution": "normal", "mean": 0.5, "sd": 0.2}}: must be a finite number >= 0 '
        'wherever the prior reaches, and it reaches below 0; add low = 0, or use "lognormal"',
    ),
    (
        {"prior/slope_correlation": {"distribution": "uniform", "low": -2, "high": 1}},
        'prior.slope_correlation = {"distribution": "uniform", "low": -2, "high": 1}: must be a number from -1 to 1 '
        "wherever the prior reaches, and it reaches below -1; write low = -1",
    ),
    (
        {"prior/icc": LOGNORMAL},
        f'prior.icc = {{"distribution": "lognormal", "mean": 2, "sd": 0.5}}: must be {SHARE} wherever the prior reaches, '
        'and it reaches above 1; use "beta", or "uniform"',
    ),
    (
        {"prior/clusters": NORMAL},
        'prior.clusters = {"distribution": "normal", "mean": 0.5, "sd": 0.2}: must be a whole number from 2 to 1000000; '
        f"{TRUTH_ONLY}",
    ),
    (
        {"grid/design.cluster_size": [NORMAL]},
        'grid.design.cluster_size = {"distribution": "normal", "mean": 0.5, "sd": 0.2}: every value must be a whole number from '
        f"1 to 1000000000, or a list of one per cluster; {TRUTH_ONLY}",
    ),
    (
        {"predictors/x/mean": NORMAL},
        f'predictors.x.mean = {{"distribution": "normal", "mean": 0.5, "sd": 0.2}}: must be a finite number; {TRUTH_ONLY}',
    ),
    (
        {"grid/icc": NORMAL},
        'grid.icc = {"distribution": "normal", "mean": 0.5, "sd": 0.2}: must be a list of at least one value; '
        "write [ ] around it, or move it to [prior]",
    ),
    (
        {"grid/icc": [0.1, {**BETA, "sd": 1}]},
        'grid.icc = {"distribution": "beta", "mean": 0.1, "sd": 1}: every value must be a prior with '
        "sd < sqrt(mean (1 - mean)), here 0.3; lower sd",
    ),
    (
        {"prior/icc": BETA, "grid/variance_ratio": [0.1]},
        f'prior.icc = {{"distribution": "beta", "mean": 0.1, "sd": 0.05}}: must be the only prior that sets '
        f'{SCHOOL}.variance.Intercept; remove it or the axis "variance_ratio"',
    ),
    (
        {"prior": {"icc": BETA, "variance_ratio": LOGNORMAL}},
        'prior.variance_ratio = {"distribution": "lognormal", "mean": 2, "sd": 0.5}: must be the only prior that sets '
        f'{SCHOOL}.variance.Intercept; remove it or the prior "icc"',
    ),
    (
        {"prior": {"truth.fixed.x": NORMAL}, "truth/fixed/x": PILOT},
        'prior.truth.fixed.x = "normal(0.5, 0.2)": must be the only prior that sets truth.fixed.x; remove it or the one in '
        "[truth]",
    ),
    (
        {"prior": {"truth.residual_sd": LOGNORMAL}},
        'prior.truth.residual_sd = {"distribution": "lognormal", "mean": 2, "sd": 0.5}: the file gives '
        "truth.residual_variance; name that, or give truth.residual_sd in the file",
    ),
    (
        {"prior": {"truth.fixd.x": NORMAL}},
        'prior.truth.fixd.x = {"distribution": "normal", "mean": 0.5, "sd": 0.2}: names nothing that can vary; '
        'did you mean "truth.fixed.x"?',
    ),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=[line.split(" = ")[0] for _, line in REFUSED])
def test_refusals(changes: dict[str, Any], line: str) -> None:
    assert problems(changes) == [line]


def test_a_correlation_among_three_columns() -> None:
    """Draws could be no correlation matrix."""
    changes: dict[str, Any] = {
        "truth/formula": "y ~ x + z + x:z + w + (1 + x + w | school)",
        "truth/fixed/w": 0,
        "predictors/w": {"level": 1, "distribution": "normal"},
        "truth/random/school": {
            "variance": {"Intercept": 1, "x": 1, "w": 1},
            "correlation": {"x:w": {"distribution": "uniform", "low": 0, "high": 0.9}},
        },
    }
    assert problems(changes) == [
        f'{SCHOOL}.correlation.x:w = "uniform(0, 0.9)": must be a number, as 3 columns share a random term and some draws '
        "would make their correlations no positive semi-definite matrix; write the number, or a prior on the variances"
    ]
