"""What the outcome looks like within arms, against rows simulated by NumPy alone; effects and variances that follow from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nestlab.spec.effects import converted
from nestlab.spec.identity import data_key
from nestlab.spec.outcome import Outcome, UnknownVarianceError, arms_of, outcome
from nestlab.spec.study import StudyError, StudyFile

Array = NDArray[np.float64]
Columns = Callable[[np.random.Generator, int], Mapping[str, Array]]

#: Clusters of a batch, rows of each, batches, and how many standard errors from the truth are allowed.
J, N, BATCHES, WIDE = 2400, 6, 60, 4.5


# --- brute force: rows, without nestlab


def normal(g: np.random.Generator, J: int, mean: float, sd: float, icc: float) -> Array:
    return mean + sd * (math.sqrt(icc) * g.normal(size=(J, 1)) + math.sqrt(1 - icc) * g.normal(size=(J, N)))


def product(columns: Mapping[str, Array], term: str) -> Array:
    made = np.ones((J, N))
    for variable in [] if term == "Intercept" else term.split(":"):
        made = made * columns[variable]
    return made


def pair_moments(y: Array) -> tuple[float, float]:
    """Variance of a row, and covariance of two different rows of a cluster, about a mean of 0. y: (J, n)."""
    square, n = float((y**2).mean()), y.shape[1]
    both = float((y.sum(axis=1) ** 2).mean())
    return square, (both - n * square) / (n * (n - 1))


def brute_force(
    columns: Columns,
    fixed: Mapping[str, float],
    random: tuple[str, ...],
    G: Array,
    residual: Callable[..., Array],
    cells: Callable[[Mapping[str, Array]], list[tuple[Array, Array]]],
) -> Array:
    """(batches, 4): variance and covariance of pairs given the cell, of y, and of y less the fixed part.

    cells: indicators (J, n) of the rows of each cell, with the cell's mean of y to take off, from the columns.
    """
    found = []
    for batch in range(BATCHES):
        g = np.random.default_rng([20, batch])
        x = columns(g, J)
        u = g.multivariate_normal(np.zeros(len(random)), G, size=J)
        rest = sum((u[:, [k]] * product(x, term) for k, term in enumerate(random)), start=np.zeros((J, N)))
        rest = rest + g.normal(size=(J, N)) * np.sqrt(residual(x))
        y = rest + sum(b * product(x, term) for term, b in fixed.items())
        row = []
        for values in (y, rest):
            centred = np.zeros((J, N))
            for cell, _ in cells(x):
                centred = centred + cell * (values - (values * cell).sum() / cell.sum())
            row += pair_moments(centred)
        found.append(row)
    return np.array(found)


def close(found: Outcome, rows: Array) -> None:
    """All of an outcome's parts within Monte Carlo error of the rows'."""

    def check(of: Callable[..., Any], expected: float) -> None:
        means = rows.mean(axis=0)
        left_out = np.array([of(*((rows.sum(axis=0) - row) / (BATCHES - 1))) for row in rows])
        mcse = math.sqrt((BATCHES - 1) / BATCHES * ((left_out - left_out.mean()) ** 2).sum())
        assert abs(of(*means) - expected) < WIDE * mcse + 1e-12, (of(*means), expected, mcse)
        assert mcse < 0.02 * max(0.3, abs(expected)), "a test that could not fail"

    check(lambda v, c, r, d: v, found.variance)
    check(lambda v, c, r, d: c / v, found.icc)
    check(lambda v, c, r, d: 1 - (r - d) / (v - c), found.r2_within)
    check(lambda v, c, r, d: 1 - d / c, found.r2_between)


STUDY: dict[str, Any] = {
    "name": "outcome",
    "seed": 4,
    "replications": 40,
    "design": {"clusters": 40, "cluster_size": N},
    "truth": {
        "formula": "y ~ arm * x + z + (1 + x | g)",
        "fixed": {"Intercept": 2, "arm": 0.4, "x": 0.7, "z": 0.5, "arm:x": 0.4},
        "residual_variance": 0.6,
        "random": {"g": {"variance": {"Intercept": 0.3, "x": 0.2}, "correlation": {"Intercept:x": 0.4}}},
    },
    "predictors": {
        "arm": {"level": 2, "distribution": "balanced"},
        "x": {"level": 1, "distribution": "normal", "mean": 0.5, "sd": 1.2, "icc": 0.3},
        "z": {"level": 2, "distribution": "normal", "sd": 0.8},
    },
}


def tables(changes: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
    """STUDY with other values by "table/key"; None removes one."""
    made = copy.deepcopy(STUDY)
    for path, value in (changes or {}).items():
        *parents, last = path.split("/")
        holder = made
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = value
        if value is None:
            del holder[last]
    return made


def condition(changes: Mapping[str, Any] | None = None, /) -> Any:
    return StudyFile.from_dict(tables(changes)).conditions()[0]


def coefficients(made: Any) -> dict[str, float]:
    return dict(zip(made.truth.formula.fixed, made.truth.fixed, strict=True))


def refusal(changes: Mapping[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(tables(changes))
    return str(caught.value)


def halves(x: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    return [(arm, arm) for arm in (x["arm"], 1 - x["arm"])]


def whole_arms(g: np.random.Generator, J: int) -> dict[str, Array]:
    arm = np.tile(np.arange(J)[:, None] % 2, (1, N)).astype(float)
    return {"arm": arm, "x": normal(g, J, 0.5, 1.2, 0.3), "z": np.tile(0.8 * g.normal(size=(J, 1)), (1, N))}


def test_a_trial_with_an_interaction_and_a_random_slope() -> None:
    made = condition({"truth/errors": {"variance_ratio": {"arm": 2.0}}})
    G = np.array(made.truth.covariance)
    rows = brute_force(whole_arms, coefficients(made), ("Intercept", "x"), G, lambda x: 0.6 * 2.0 ** x["arm"], halves)
    found = outcome(made, ("arm",))
    close(found, rows)
    assert found.icc_conditional == pytest.approx(0.3 / (0.3 + 0.6 * 1.5))


def test_the_control_arm_of_it() -> None:
    made = condition({"truth/errors": {"variance_ratio": {"arm": 2.0}}})

    def control(g: np.random.Generator, J: int) -> dict[str, Array]:
        return {**whole_arms(g, J), "arm": np.zeros((J, N))}

    G = np.array(made.truth.covariance)
    rows = brute_force(
        control,
        coefficients(made),
        ("Intercept", "x"),
        G,
        lambda x: np.full((J, N), 0.6),
        lambda x: [(np.ones((J, N)),) * 2],
    )
    close(outcome(made, ("arm",), control=True), rows)


def test_arms_within_clusters_with_an_effect_that_varies() -> None:
    changes = {
        "truth/formula": "y ~ arm + x + z + (1 + arm | g)",
        "truth/fixed": {"Intercept": 2, "arm": 0.4, "x": 0.7, "z": 0.5},
        "truth/random": {"g": {"variance": {"Intercept": 0.3, "arm": 0.5}, "correlation": {"Intercept:arm": -0.4}}},
        "predictors/arm": {"level": 1, "distribution": "balanced"},
    }
    made = condition(changes)

    def rows_of(g: np.random.Generator, J: int) -> dict[str, Array]:
        return {**whole_arms(g, J), "arm": np.tile(np.arange(N) % 2, (J, 1)).astype(float)}

    found, G = outcome(made, ("arm",)), np.array(made.truth.covariance)
    rows = brute_force(rows_of, coefficients(made), ("Intercept", "arm"), G, lambda x: np.full((J, N), 0.6), halves)
    close(found, rows)


def test_three_arms_of_unlike_numbers_and_a_covariate_taken_apart() -> None:
    changes = {
        "truth/formula": "y ~ k + within(x) + between(x) + (1 | g)",
        "truth/fixed": {"Intercept": 0, "k[b]": 0.4, "k[c]": -0.6, "within(x)": 0.7, "between(x)": 1.1},
        "truth/random": {"g": {"variance": {"Intercept": 0.3}}},
        "predictors": {
            "k": {
                "level": 2,
                "distribution": "categorical",
                "categories": ["a", "b", "c"],
                "shares": [0.5, 0.25, 0.25],
            },
            "x": STUDY["predictors"]["x"],
        },
    }
    made = condition(changes)

    def columns(g: np.random.Generator, J: int) -> dict[str, Array]:
        x, k = normal(g, J, 0.5, 1.2, 0.3), np.tile(np.arange(J)[:, None] % 4, (1, N))
        mean = np.tile(x.mean(axis=1, keepdims=True), (1, N))
        return {"k[b]": (k == 1) * 1.0, "k[c]": (k == 2) * 1.0, "within(x)": x - mean, "between(x)": mean}

    def cells(x: Mapping[str, Array]) -> list[tuple[Array, Array]]:
        b, c = x["k[b]"], x["k[c]"]
        return [(cell, cell) for cell in (b, c, 1 - b - c)]

    found, G = outcome(made, ("k",)), np.array([[0.3]])
    close(found, brute_force(columns, coefficients(made), ("Intercept",), G, lambda x: np.full((J, N), 0.6), cells))
    assert outcome(made, ("k",), control=True).variance == pytest.approx(found.variance)  # arms differ by means alone


def test_growth_over_time_with_a_slope_of_its_own() -> None:
    changes = {
        "truth/formula": "y ~ arm * t + (1 + t | g)",
        "truth/fixed": {"Intercept": 0, "arm": 0.4, "t": 0.3, "arm:t": 0.2},
        "truth/random": {"g": {"variance": {"Intercept": 0.3, "t": 0.1}, "correlation": {"Intercept:t": 0.2}}},
        "predictors": {"arm": STUDY["predictors"]["arm"], "t": {"distribution": "time"}},
    }
    made = condition(changes)

    def columns(g: np.random.Generator, J: int) -> dict[str, Array]:
        return {"arm": whole_arms(g, J)["arm"], "t": np.tile(np.arange(N, dtype=float), (J, 1))}

    G = np.array(made.truth.covariance)
    rows = brute_force(columns, coefficients(made), ("Intercept", "t"), G, lambda x: np.full((J, N), 0.6), halves)
    close(outcome(made, ("arm",)), rows)
    given_both = outcome(made, ("arm", "t"))
    assert given_both.explained == pytest.approx((0, 0), abs=1e-12)


def test_a_covariate_that_goes_with_the_arms() -> None:
    """Two levels of clusters allocated together, and a covariate that is correlated with another."""
    changes = {
        "truth/formula": "y ~ arm + x + w + (1 | g)",
        "truth/fixed": {"Intercept": 0, "arm": 0.4, "x": 0.7, "w": 0.5},
        "truth/random": {"g": {"variance": {"Intercept": 0.3}}},
        "predictors/x": {"level": 1, "distribution": "normal", "sd": 1.2},
        "predictors/w": {"level": 1, "distribution": "binary", "share": 0.3},
        "predictors/z": None,
        "correlation": {"x:w": 0.4},
    }
    made = condition(changes)
    explained = 0.49 * 1.44 + 0.25 * 0.21 + 2 * 0.35 * 0.4 * 1.2 * math.sqrt(0.21)
    assert outcome(made, ("arm",)).variance == pytest.approx(0.9 + explained)
    given_w = outcome(made, ("w",))  # E Var(x | w) = (1 - r^2) Var(x), and the arms' variance
    assert given_w.variance == pytest.approx(0.9 + 0.49 * 1.44 * (1 - 0.16) + 0.16 * 0.25)


# --- effects by it


def test_d_by_outcome_is_of_the_sd_within_arms() -> None:
    for by, control in (("outcome", False), ("outcome-control", True)):
        made = condition({"truth/fixed/arm": {"d": -0.25, "by": by}, "truth/errors": {"variance_ratio": {"arm": 2.0}}})
        sd = math.sqrt(outcome(made, ("arm",), control=control).variance)
        assert coefficients(made)["arm"] == pytest.approx(-0.25 * sd, rel=1e-12)
        assert made.stated["arm"].by == by
    assert made.stated["arm"].text == "d = -0.25 by the control arm's outcome variance"


def test_effects_by_outcome_that_need_one_another() -> None:
    """Each is in the other's outcome; all shares hold at once."""
    fixed = {
        "Intercept": 0,
        "arm": {"d": 0.5, "by": "outcome"},
        "x": {"d": 0.4, "by": "outcome", "per": "sd"},
        "z": {"r2": 0.2},
    }
    made = condition(
        {
            "truth/formula": "y ~ arm + x + z + (1 | g)",
            "truth/fixed": fixed,
            "truth/random": {"g": {"variance": {"Intercept": 0.3}}},
        }
    )
    b = coefficients(made)
    assert b["arm"] == pytest.approx(0.5 * math.sqrt(outcome(made, ("arm",)).variance), rel=1e-10)
    assert b["x"] * 1.2 == pytest.approx(0.4 * math.sqrt(outcome(made, ("x",)).variance), rel=1e-10)
    between = 0.3 + b["arm"] ** 2 / 4 + b["x"] ** 2 * 1.44 * 0.3 + b["z"] ** 2 * 0.64
    assert b["z"] ** 2 * 0.64 == pytest.approx(0.2 * between, rel=1e-10)


def test_the_old_units_stay_the_default_and_their_keys() -> None:
    plain = condition({"truth/fixed/arm": {"d": 0.25}})
    assert coefficients(plain)["arm"] == 0.25 * math.sqrt(0.3 + 0.6)
    assert data_key(plain) == data_key(condition({"truth/fixed/arm": 0.25 * math.sqrt(0.3 + 0.6)}))


def test_priors_of_covariates_are_at_their_means_and_said_to_be() -> None:
    prior = {"distribution": "normal", "mean": 0.7, "sd": 0.1}
    made = condition({"truth/fixed/arm": {"d": 0.25, "by": "outcome"}, "truth/fixed/x": prior})
    assert coefficients(made) == coefficients(condition({"truth/fixed/arm": {"d": 0.25, "by": "outcome"}}))
    assert made.stated["arm"].text == "d = 0.25 by the outcome's variance, at the means of the priors"


# --- [truth.outcome]

TRIAL: dict[str, Any] = {
    "truth/formula": "y ~ arm + within(x) + between(x) + (1 | g)",
    "truth/fixed": {"Intercept": 0, "arm": {"d": 0.25, "by": "outcome"}},
    "truth/residual_variance": None,
    "truth/random": None,
    "truth/outcome": {"variance": 100.0, "icc": 0.2, "r2_within": 0.5, "r2_between": 0.6},
    "predictors/z": None,
}


def test_a_planners_numbers_are_met() -> None:
    made = condition(TRIAL)
    found = outcome(made, ("arm",))
    assert (found.variance, found.icc, found.r2_within, found.r2_between) == pytest.approx(
        (100, 0.2, 0.5, 0.6), rel=1e-12
    )
    assert made.truth.residual_variance == pytest.approx(0.8 * 100 * 0.5)
    assert made.truth.covariance[0][0] == pytest.approx(0.2 * 100 * 0.4)
    assert coefficients(made)["arm"] == pytest.approx(0.25 * 10)
    assert {term: effect.text for term, effect in made.stated.items()} == {
        "arm": "d = 0.25 by the outcome's variance",
        "within(x)": "r2 = 0.5 of level 1 within arms, with other covariates",
        "between(x)": "r2 = 0.6 of level 2 within arms, with other covariates",
    }


@pytest.mark.parametrize(
    "asked",
    [{"icc": 0.3}, {"r2_within": 0.4}, {"icc": 0.3, "r2_within": 0.4}, {"icc": 0.3, "r2_between": 0.4}, {"variance": 3.0},
     {"variance": 3.0, "icc": 0.3, "r2_within": 0.4}, {"variance": 3.0, "r2_within": 0.4}, {"variance": 3.0, "r2_between": 0.4}],
    ids=lambda asked: "-".join(asked),
)  # fmt: skip
def test_any_of_them_beside_what_the_study_gives(asked: dict[str, float]) -> None:
    """With a random slope and another covariate whose coefficient is given; what is not asked for stays as it is."""
    fixed = {"Intercept": 2, "arm": 0.4, "x": 0.7, "z": 0.5}
    for key, term in (("r2_within", "x"), ("r2_between", "z")):
        if key in asked:
            del fixed[term]
    changes: dict[str, Any] = {
        "truth/formula": "y ~ arm + x + z + (1 + x | g)",
        "truth/fixed": fixed,
        "truth/outcome": asked,
    }
    if "variance" in asked:
        changes["truth/residual_variance"] = None
    if "icc" in asked:
        changes["truth/random/g/variance"] = {"x": 0.2}
    made = condition(changes)
    found = outcome(made, ("arm",))
    for key, value in asked.items():
        assert getattr(found, key) == pytest.approx(value, rel=1e-11), key
    if "variance" not in asked:
        assert made.truth.residual_variance == 0.6
    if "icc" not in asked:
        assert made.truth.covariance[0][0] == pytest.approx(0.3, rel=1e-15)
    covariance = made.truth.covariance
    assert covariance[0][1] == pytest.approx(0.4 * math.sqrt(covariance[0][0] * 0.2), rel=1e-12)


def test_they_are_axes() -> None:
    grid = {"truth.outcome.icc": [0.1, 0.2], "truth.outcome.r2_within": [0.0, 0.5], "truth.fixed.arm.d": [0.2, 0.3]}
    made = StudyFile.from_dict(tables({**TRIAL, "grid": grid})).conditions()
    assert len(made) == 8
    for each in made:
        found = outcome(each, ("arm",))
        assert found.icc == pytest.approx(each.factors["truth.outcome.icc"], rel=1e-12)
        assert found.r2_within == pytest.approx(each.factors["truth.outcome.r2_within"], rel=1e-12)
        assert coefficients(each)["arm"] == pytest.approx(10 * each.factors["truth.fixed.arm.d"], rel=1e-12)


def test_axes_alone_give_what_the_file_does_not() -> None:
    changes = {
        **TRIAL,
        "truth/outcome": {"r2_within": 0.5, "r2_between": 0.6},
        "grid": {"truth.outcome.icc": [0.1, 0.2]},
    }
    made = StudyFile.from_dict(tables({**changes, "truth/residual_variance": 1.0})).conditions()
    assert [outcome(each, ("arm",)).icc for each in made] == pytest.approx([0.1, 0.2])
    assert {each.truth.residual_variance for each in made} == {1.0}


def test_a_study_with_them_reads_back() -> None:
    made = StudyFile.from_dict(tables({**TRIAL, "truth/outcome": {**TRIAL["truth/outcome"], "arm": "arm"}}))
    again = StudyFile.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict()
    assert again.conditions() == made.conditions()
    assert again.conditions()[0].stated == made.conditions()[0].stated
    assert again.conditions()[0].arms == ("arm",)


def test_arms_are_what_is_allocated_or_named() -> None:
    made = condition()
    assert arms_of(made) == ("arm",)
    changes = {"predictors/z": {"level": 1, "distribution": "balanced"}}
    assert arms_of(condition(changes)) == ("arm",)  # of whole clusters first
    assert arms_of(condition(changes), ["arm"]) == ("z",)
    named = condition({"truth/outcome": {"arm": ["arm", "z"]}, "truth/fixed/arm": {"d": 1, "by": "outcome"}})
    assert coefficients(named)["arm"] == pytest.approx(math.sqrt(outcome(named, ("arm", "z")).variance))


def without(*keys: str, **more: Any) -> dict[str, Any]:
    """TRIAL with some keys of [truth.outcome] removed, and others."""
    return {**TRIAL, "truth/outcome": {k: v for k, v in TRIAL["truth/outcome"].items() if k not in keys} | more}


ONE_SLOPE = {**TRIAL, "truth/formula": "y ~ arm + x + (1 | g)"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            ONE_SLOPE,
            "truth.outcome.r2_between = 0.6: needs a coefficient of its own: one slope of x can't meet r2_within and r2_between; "
            "write within(x) + between(x) for x in truth.formula, or remove one of the two",
        ),
        (
            {**ONE_SLOPE, "truth/outcome": {"variance": 1.0, "icc": 0.1, "r2_within": 0.6}},
            "truth.outcome.icc = 0.1: must be at least 0.2314, what other terms than the random intercept make "
            "of it; raise it, or "
            "lower r2_between and the coefficients of covariates",
        ),
        (
            without("r2_within", "r2_between"),
            "truth.fixed.within(x) is missing: every term of y ~ arm + within(x) + between(x) + (1 | g) needs a true value; add "
            '"within(x)" = 0, or its value\ntruth.fixed.between(x) is missing: every term of y ~ arm + within(x) + between(x) + '
            '(1 | g) needs a true value; add "between(x)" = 0, or its value',
        ),
        (
            without("r2_between"),
            "truth.outcome.r2_within = 0.5: gives the coefficient of one term, and between(x) has none, too; add "
            "between(x) = 0, say",
        ),
        (
            {**TRIAL, "truth/fixed": {**TRIAL["truth/fixed"], "within(x)": 0.3}},
            "truth.outcome.r2_within = 0.5: gives the coefficient of the one term of level 1 that has none, and "
            "all have one; leave "
            "out that of within(x)",
        ),
        (
            {**TRIAL, "truth/fixed": {"Intercept": 0}},
            "truth.outcome.r2_between = 0.6: gives the coefficient of the one term of level 2 that has none, and arm, between(x) "
            "have none; give all but one",
        ),
        (
            {**without("variance"), "truth/errors": {"ar1": 0.3}, "truth/residual_variance": 1.0},
            "truth.outcome.icc = 0.2: must be absent where errors are autocorrelated, as two rows of a cluster then have no one "
            "correlation; remove it, or truth.errors.ar1",
        ),
        (
            {**TRIAL, "truth/residual_variance": 1.0},
            "truth.residual_variance = 1: must not stand beside truth.outcome.variance, from which "
            "truth.residual_variance follows; "
            "remove one of the two",
        ),
        (
            {**TRIAL, "truth/random": {"g": {"variance": {"Intercept": 1}}}},
            "truth.random.g.variance.Intercept = 1: must not stand beside truth.outcome.icc, from which "
            "truth.random.g.variance.Intercept follows; remove one of the two",
        ),
        (
            {**TRIAL, "grid": {"icc": [0.1, 0.2]}},
            "grid.icc must not stand beside truth.outcome.variance, from which truth.residual_variance follows; "
            "remove one of the two\n"
            "grid.icc must not stand beside truth.outcome.icc, from which truth.random.g.variance.Intercept "
            "follows; remove one of "
            "the two",
        ),
        (
            {**without("variance"), "truth/residual_variance": 1.0,
             "prior": {"icc": {"distribution": "beta", "mean": 0.1, "sd": 0.05}}},
            "prior.icc must not stand beside truth.outcome.icc, from which truth.random.g.variance.Intercept "
            "follows; remove one of "
            "the two",
        ),
        (
            {**ONE_SLOPE, "truth/outcome": {"variance": 1.0, "icc": 0.1, "r2_between": 0.2},
             "predictors/x": {"level": 1, "distribution": "normal"}},
            "truth.outcome.r2_between = 0.2: needs a term that varies between clusters, and x does not; add one "
            "to truth.formula, or "
            "remove it",
        ),
        (
            {**TRIAL, "truth/formula": "y ~ arm + x + z + (1 | g)", "predictors/z": STUDY["predictors"]["z"],
             "truth/fixed": {"Intercept": 0, "arm": 0.3, "x": 0.7},
             "truth/outcome": {"variance": 2.0, "icc": 0.2, "r2_between": 0.4}},
            "truth.outcome.r2_between = 0.4: must be at least 0.5292, what other terms explain there; raise it, or lower their "
            "coefficients",
        ),
        (
            without(arm="amr"),
            'truth.outcome.arm = "amr": must name predictors of y ~ arm + within(x) + between(x) + (1 | g); did you mean "arm"?',
        ),
        (
            without(arm=3),
            'truth.outcome.arm = 3: must be the name of a predictor, or a list of names; write "treatment", say',
        ),
        (without(ic=0.1), 'truth.outcome.ic = 0.1: is no key of a study file; did you mean "icc"?'),
        (without(icc=1.0), "truth.outcome.icc = 1.0: must be a number from 0 to 1, 1 not included; write 0.2, say"),
        (
            {**without("r2_within"), "truth/fixed": {**TRIAL["truth/fixed"], "within(x)": 10.0}},
            "truth.outcome.variance = 100: must be more than 126, what covariates and random effects have of it; "
            "raise it, or lower "
            "the coefficients or r2",
        ),
        (
            {**TRIAL, "truth/formula": "y ~ arm + within(x) + between(x) + (0 + within(x) | g)",
             "truth/random": {"g": {"variance": {"within(x)": 0.2}}}},
            "truth.outcome.icc needs a random intercept, which y ~ arm + within(x) + between(x) + (0 + within(x) "
            "| g) has not; write "
            "(1 + ... | g), or remove it",
        ),
        (
            {**TRIAL, "design/cluster_size": {"distribution": "poisson", "mean": 9}},
            "truth.outcome.r2_between = 0.6: gives the coefficient of the one term of level 2 that has none, and "
            "all have one; leave "
            "out that of arm",
        ),
    ],
)  # fmt: skip
def test_refused_with_the_repair(changes: dict[str, Any], line: str) -> None:
    assert refusal(changes) == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"truth/fixed/z": {"d": 0.2, "by": "outcome-control"}},
            "truth.fixed.z.d = 0.2: must be of an outcome whose variance is known, and z has no control arm, "
            "being neither 0/1 nor "
            'categories; write by = "total" or by = "residual"',
        ),
        (
            {"predictors/z": {"level": 2, "distribution": "balanced"}, "truth/fixed/arm": {"d": 0.2, "by": "outcome-control"}},
            "truth.fixed.arm.d = 0.2: must be of an outcome whose variance is known, and that of the control arm does not follow "
            'where z goes with arm; write by = "total" or by = "residual"',
        ),
        (
            {"predictors/x": {"distribution": "time"}, "design/cluster_size": {"distribution": "poisson", "mean": 9},
             "truth/fixed/arm": {"d": 0.2, "by": "outcome"}},
            "truth.fixed.arm.d = 0.2: must be of an outcome whose variance is known, and the variance of x does "
            "not follow from the "
            'predictors; write by = "total" or by = "residual"',
        ),
        (
            {"truth/errors": {"variance_ratio": {"x": 2}}, "predictors/x": {"level": 1, "distribution": "uniform"},
             "truth/fixed/arm": {"d": 0.2, "by": "outcome"}},
            "truth.fixed.arm.d = 0.2: must be of an outcome whose variance is known, and the mean residual "
            "variance over x does not "
            'follow from the predictors; write by = "total" or by = "residual"',
        ),
        (
            {"truth/fixed": {"Intercept": 0, "arm": {"d": 3, "by": "outcome"}, "x": 0, "z": {"d": 3, "by": "outcome"},
                             "arm:x": 0}},
            "truth.fixed.arm.d = 3: must be an effect that can be met together with the others, and none "
            "settles; lower it, or give "
            "a coefficient",
        ),
    ],
)  # fmt: skip
def test_d_by_outcome_refused_with_the_repair(changes: dict[str, Any], line: str) -> None:
    assert line in refusal(changes).split("\n")


def test_autocorrelated_errors_have_no_icc() -> None:
    found = outcome(condition({"truth/errors": {"ar1": 0.4}}), ("arm",))
    assert math.isnan(found.icc)
    assert found.variance == pytest.approx(outcome(condition(), ("arm",)).variance)


def test_a_normal_predictor_of_the_residual_variance() -> None:
    made = condition({"truth/errors": {"variance_ratio": {"x": 1.5}}})
    g = np.random.default_rng(3)
    ratios = 1.5 ** g.normal(0.5, 1.2, size=1_000_000)
    found = outcome(made, ("arm",)).residual / 0.6
    assert found == pytest.approx(ratios.mean(), abs=4 * ratios.std() / 1000)


def test_an_outcome_without_effects_needs_no_moments() -> None:
    made, trouble = converted(condition({"design/cluster_size": {"distribution": "poisson", "mean": 9}}), {})
    assert not trouble
    assert outcome(made, ("arm",)).variance > 0
    with pytest.raises(UnknownVarianceError, match="no control arm"):
        outcome(made, ("x",), control=True)
