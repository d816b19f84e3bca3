"""True values belong to methods: the same model in other parameters, other models, and what is not known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nestlab as nl
from nestlab.run.verify import verify
from nestlab.simulate.centres import centres_of, mean_over_rows
from nestlab.simulate.layout import compile_design
from nestlab.spec.polynomials import polynomial_of
from nestlab.spec.study import StudyFile
from nestlab.spec.truths import TrueValues, true_values

CENTRED: dict[str, Any] = {
    "name": "centred",
    "seed": 1,
    "replications": 400,
    "design": {"clusters": 40, "cluster_size": 20},
    "truth": {
        "formula": "y ~ x * z + (1 + x | g)",
        "fixed": {"Intercept": 0, "x": 0.3, "z": 0, "x:z": 0.2},
        "residual_variance": 1,
        "random": {"g": {"variance": {"Intercept": 0.2, "x": 0.1}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal", "mean": 3},
        "z": {"level": 2, "distribution": "balanced"},
    },
    "method": [
        {"name": "raw"},
        {"name": "centred", "formula": "y ~ center(x) * z + (1 + center(x) | g)"},
        {"name": "wb", "formula": "y ~ within(x) * z + between(x) + (1 + within(x) | g)"},
    ],
}
CONTEXT = {
    "formula": "y ~ x + between(x) + (1 | g)",
    "fixed": {"Intercept": 1, "x": 0.3, "between(x)": 0.5},
    "residual_variance": 1,
    "random": {"g": {"variance": {"Intercept": 0.2}}},
}
SCHEDULE = {"level": 1, "distribution": "schedule", "sequences": [[0, 1] * 10, [1, 0] * 10]}
HALF = {"level": 1, "distribution": "balanced"}
#: Of "centred": x = 0 there is x = 3.
AT_THE_MEAN: dict[str, float] = {
    "Intercept": 0.9,
    "center(x)": 0.3,
    "z": 0.6,
    "center(x):z": 0.2,
    "var:g:Intercept": 1.1,
    "var:g:center(x)": 0.1,
    "cov:g:Intercept:center(x)": 0.3,
    "var:residual": 1,
    "sd:g:Intercept": 1.1**0.5,
    "cor:g:Intercept:center(x)": 0.3 / 0.11**0.5,
    "icc": 1.1 / 2.1,
}


def tables(**changes: Any) -> dict[str, Any]:
    """`CENTRED` with other tables, or with changes of a table that is named by its path, "predictors__x"."""
    found = copy.deepcopy(CENTRED)
    for path, value in changes.items():
        *above, last = path.split("__")
        place = found
        for key in above:
            place = place[key]
        place[last] = {**place[last], **value} if isinstance(value, dict) and last in place and above else value
    return found


def truths(study: dict[str, Any]) -> TrueValues:
    read = StudyFile.from_dict(study)
    condition = read.conditions()[0]
    return true_values(condition, read.methods(), centres_of(condition))


def one(formula: str, **changes: Any) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    """The true values, their meanings and what is unknown of one method beside the truth's own."""
    more = {key: changes.pop(key) for key in ("estimator", "df") if key in changes}
    methods = [{"name": "own"}, {"name": "m", "formula": formula, **more}]
    found = truths(tables(method=methods, **changes))
    return found.of("m"), found.meanings.get("m", {}), found.unknown.get("m", {})


def test_a_polynomial_of_a_product() -> None:
    found = polynomial_of("center(x):z", {"x"}, {"x": 3.0})
    assert found == {(("x", "w"), ("z", "")): 1, (("x", "m"), ("z", "")): 1, (("z", ""),): -3}


def test_the_same_model_centred() -> None:
    """z is the effect of z at the mean of x; the intercept's variance that of the lines there."""
    found = truths(CENTRED)
    centred = found.of("centred")
    assert {name: centred[name] for name in AT_THE_MEAN} == pytest.approx(AT_THE_MEAN, rel=1e-9)
    raw = found.of("raw")
    assert (raw["z"], raw["var:g:Intercept"], raw["icc"]) == (0, 0.2, pytest.approx(1 / 6))
    assert found.meanings["centred"]["z"] == "z + 3 x:z"
    assert found.meanings["centred"]["var:g:Intercept"] == "var(Intercept + 3 x)"
    assert not any(found.unknown.values())


def test_dropout_moves_what_center_takes_off() -> None:
    """The truth takes off 3.5 from rows 0 to 7; later rows are lost, and analyses take off 0.8^i-weighted means of i."""
    truth = {
        "formula": "y ~ center(x) * z + (1 + center(x) | g)",
        "fixed": {"Intercept": 1, "center(x)": 0.5, "z": 0.3, "center(x):z": 0.4},
        "residual_variance": 1,
        "random": {"g": {"variance": {"Intercept": 0.5, "center(x)": 0.2}}},
    }
    methods = [{"name": "own"}, {"name": "raw", "formula": "y ~ x * z + (1 + x | g)"}]
    study = tables(
        truth=truth, method=methods, design={"clusters": 40, "cluster_size": 8}, missing={"hazard": 0.2},
        predictors={"x": {"distribution": "time"}, "z": CENTRED["predictors"]["z"]},
    )  # fmt: skip
    found = truths(study)
    weights = 0.8 ** np.arange(8)
    moved = 3.5 - weights @ np.arange(8) / weights.sum()
    raw, own = found.of("raw"), found.of("own")
    assert [raw[name] for name in ("Intercept", "z")] == pytest.approx([1 - 3.5 * 0.5, 0.3 - 3.5 * 0.4])
    assert raw["var:g:Intercept"] == pytest.approx(0.5 + 3.5**2 * 0.2)
    assert [own[name] for name in ("Intercept", "z")] == pytest.approx([1 - moved * 0.5, 0.3 - moved * 0.4])
    assert own["cov:g:Intercept:center(x)"] == pytest.approx(-moved * 0.2)
    lost = truths({**study, "missing": {"rows": 0.2}})  # of all rows alike: the mean stays
    assert lost.own.get("own", {}) == {}
    assert lost.of("raw")["z"] == pytest.approx(0.3 - 3.5 * 0.4)
    at_random = truths({**study, "missing": {"at_random": {"on": "previous", "intercept": -2, "slope": 0.5}}})
    assert np.isnan(at_random.of("own")["z"])
    assert "the mean of x over the observed rows" in at_random.unknown["own"]["z"]
    assert at_random.of("raw")["z"] == pytest.approx(0.3 - 3.5 * 0.4)


def test_means_of_clusters_over_observed_rows_have_no_limit() -> None:
    """The truth's between(x) is of all rows: that of the rows left is another predictor, with an error."""
    fixed = {"Intercept": 0, "within(x)": 0.5, "between(x)": 0.2, "z": 0.1, "between(x):z": 0.4}
    truth = {**CONTEXT, "formula": "y ~ within(x) + between(x) * z + (1 | g)", "fixed": fixed}
    formula = "y ~ within(x) + between(x) + z + (1 | g)"
    whole, _, _ = one(formula, truth=truth)
    assert np.isfinite(whole["between(x)"])
    found, _, unknown = one(formula, truth=truth, missing={"rows": 0.3})
    assert np.isnan(found["between(x)"])
    assert "means of x over all rows of a cluster" in unknown["between(x)"]


def test_the_reverse() -> None:
    """The truth centred, the method not."""
    fixed = {"Intercept": 0.9, "center(x)": 0.3, "z": 0.6, "center(x):z": 0.2}
    random = {
        "g": {"variance": {"Intercept": 1.1, "center(x)": 0.1}, "correlation": {"Intercept:center(x)": 0.3 / 0.11**0.5}}
    }
    truth = {
        "formula": "y ~ center(x) * z + (1 + center(x) | g)",
        "fixed": fixed,
        "random": random,
        "residual_variance": 1,
    }
    found, _, _ = one("y ~ x * z + (1 + x | g)", truth=truth)
    assert [found[name] for name in ("Intercept", "x", "z", "x:z")] == pytest.approx([0, 0.3, 0, 0.2], abs=1e-9)
    assert [found[f"var:g:{c}"] for c in ("Intercept", "x")] == pytest.approx([0.2, 0.1])
    assert found["cov:g:Intercept:x"] == pytest.approx(0, abs=1e-9)


def test_another_model_has_least_false_values() -> None:
    """x = w + m: m z is left out, and its projection on 1, z and m is -1.5 + 3 z + m / 2; u_x m goes to the intercept."""
    found, meanings, unknown = one("y ~ within(x) * z + between(x) + (1 + within(x) | g)")
    expected = {"Intercept": -0.3, "z": 0.6, "between(x)": 0.4, "within(x)": 0.3, "within(x):z": 0.2}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    left = 0.2**2 * 0.25 / 20  # of .2 m z, that is .2 (m - 3) (z - 1/2)
    assert found["var:g:Intercept"] == pytest.approx(0.2 + 0.1 * (9 + 1 / 20) + left)
    assert (found["var:g:within(x)"], found["cov:g:Intercept:within(x)"]) == (pytest.approx(0.1), pytest.approx(0.3))
    assert meanings["between(x)"] == "x + 0.5 x:z"
    assert not unknown


def test_a_product_that_is_left_out_is_averaged_over() -> None:
    """x is its mean effect over z. A random slope weighs the rows by x, and so decides about z and the Intercept."""
    found, meanings, unknown = one("y ~ x + z + (1 | g)")
    assert [found[name] for name in ("Intercept", "x", "z")] == pytest.approx([-0.3, 0.4, 0.6])
    assert meanings["x"] == "x + 0.5 x:z"
    assert np.isnan(found["var:residual"])
    assert unknown["var:residual"] == "the method has no random column for what varies with x within clusters"
    found, _, unknown = one("y ~ x + z + (1 + x | g)")
    assert found["x"] == pytest.approx(0.4)
    assert np.isnan([found["z"], found["var:g:x"]]).all()
    assert unknown["z"] == "its limit depends on how the method weighs rows and clusters"


@pytest.mark.parametrize("left_out", ["y ~ x * z + (1 | g)", "y ~ z + (1 | g)", "y ~ x + (1 + x | g)"])
def test_what_a_method_leaves_out_is_its_bias(left_out: str) -> None:
    """Without a slope or a covariate names mean the truth's parameters."""
    truth = {"formula": "y ~ x + z + (1 + x | g)", "fixed": {"Intercept": 0, "x": 0.3, "z": 0.5}}
    if "*" in left_out:
        truth = {"formula": "y ~ x * z + (1 + x | g)"}
    found, meanings, unknown = one(left_out, truth={**CENTRED["truth"], **truth})
    assert not meanings
    assert not unknown
    assert found["var:g:Intercept"] == 0.2


def test_a_second_method_takes_nothing_from_the_first() -> None:
    """y ~ x blends the effects within and between clusters: what it estimates hangs on its variances, and is not known."""
    methods = [{"name": "first"}, {"name": "second", "formula": "y ~ x + (1 | g)"}]
    alone, both = (
        truths(tables(truth=CONTEXT, predictors={"x": {"level": 1, "distribution": "normal"}}, method=methods[:n]))
        for n in (1, 2)
    )
    assert both.of("first") == pytest.approx(alone.of("first"), nan_ok=True)
    assert (both.of("first")["x"], both.of("first")["between(x)"]) == (0.3, 0.5)
    assert np.isnan(both.of("second")["x"])
    assert both.of("second")["Intercept"] == 1
    assert both.unknown["second"]["x"] == "its limit depends on how the method weighs rows and clusters"


@pytest.mark.parametrize(
    ("estimator", "formula", "expected"),
    [
        ("fixed-effects", "y ~ x + (1 | g)", {"x": 0.3}),
        ("cluster-means", "y ~ x + (1 | g)", {"Intercept": 1, "x": 0.8}),
        ("ols", "y ~ x + (1 | g)", {"Intercept": 1, "x": 0.3 + 0.5 / 20}),  # a twentieth of x varies between clusters
        ("gee", "y ~ x + (1 | g)", {"Intercept": 1, "x": np.nan}),
        ("ols", "y ~ within(x) + between(x) + (1 | g)", {"within(x)": 0.3, "between(x)": 0.8}),
    ],
)
def test_each_estimator_has_its_own_limit(estimator: str, formula: str, expected: dict[str, float]) -> None:
    x = {"x": {"level": 1, "distribution": "normal"}}
    found, _, _ = one(formula, estimator=estimator, truth=CONTEXT, predictors=x)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("a", "size", "expected"),
    [
        ({"level": 1, "shares": [2, 1]}, 20, 0.35),  # 7 of 20 rows
        ({"level": 1, "shares": [2, 1]}, 21, 1 / 3),
        ({"level": 1, "shares": [1, 1]}, 21, "a does not vary in the same way in all clusters"),
        ({"level": 1, "categories": ["p", "q"]}, 20, "a has categories that vary within clusters"),
        ({"level": 1, "distribution": "list", "values": [0, 1, 1], "categories": ["p", "q"]}, 20,
         "a has categories that vary within clusters"),
        ({"distribution": "list", "level": 1, "values": [0, 0, 1, 3]}, 20, 1),
        ({"distribution": "period", "periods": 4, "rows_per_period": 5}, 20, 1.5),
        ({"level": 2, "shares": [2, 1], "blocks": 4, "redraw": True}, 20, 13 / 40),
        ({"level": 2, "shares": [2, 1], "blocks": 4, "redraw": True}, {"values": [10, 20], "in_turn": True},
         "a goes with the sizes of the clusters"),
    ],
)  # fmt: skip
def test_a_product_left_out_is_averaged_over_shares(a: dict[str, Any], size: Any, expected: float | str) -> None:
    """x of y ~ x is its effect where a has its mean, if that is known."""
    column = "a[q]" if "categories" in a else "a"
    truth = {**CONTEXT, "formula": "y ~ x * a + (1 | g)"}
    truth["fixed"] = {"Intercept": 0, "x": 0.3, column: 0.1, f"x:{column}": 0.2}
    predictors = {"x": CENTRED["predictors"]["x"], "a": {"distribution": "balanced", **a}}
    found, _, unknown = one(
        "y ~ x + (1 | g)", truth=truth, predictors=predictors, design={"clusters": 40, "cluster_size": size}
    )
    if isinstance(expected, str):
        assert np.isnan(found["x"])
        assert unknown["x"] == expected
    else:
        assert found["x"] == pytest.approx(0.3 + 0.2 * expected)


def test_contrasts_of_a_method() -> None:
    """A contrast, standardised by the method's own variances."""
    contrasts = [
        {"name": "z at the mean", "weights": {"z": 1}},
        {"name": "d", "weights": {"z": 1}, "standardise": "total"},
    ]
    found = truths(tables(contrast=contrasts))
    assert found.of("centred")["z at the mean"] == pytest.approx(0.6)
    assert found.of("centred")["d"] == pytest.approx(0.6 / 2.1**0.5)
    assert (found.of("raw")["z at the mean"], found.of("raw")["d"]) == (0, 0)
    assert found.meanings["centred"]["d"] == "with z = z + 3 x:z"


def test_the_mean_that_centring_takes_off() -> None:
    """Of values that stay it is the mean of the observed rows; nan where rows are lost by what they are."""
    time = {"x": {"level": 1, "distribution": "time"}, "z": CENTRED["predictors"]["z"]}
    dropout = {"hazard": 0.2}
    weights = 0.8 ** np.arange(20)
    for missing, mean in ((None, 9.5), (dropout, np.arange(20) @ weights / weights.sum()), ({"rows": 0.3}, 9.5)):
        changes = {"missing": missing} if missing else {}
        condition = StudyFile.from_dict(tables(predictors=time, **changes)).conditions()[0]
        assert mean_over_rows(condition, "x") == pytest.approx(mean)
    lost = {"at_random": {"on": "x", "intercept": -1, "slope": 1}}
    for on, known in (("x", False), ("previous", False), ("z", True)):
        study = StudyFile.from_dict(tables(missing={"at_random": {**lost["at_random"], "on": on}}))
        assert np.isfinite(mean_over_rows(study.conditions()[0], "x")) == known
    once = StudyFile.from_dict(tables(predictors__x={"redraw": False})).conditions()[0]
    design = compile_design(once)
    assert mean_over_rows(once, "x") == pytest.approx(design.known_rows[:, 1].mean())
    assert mean_over_rows(once, "x") != pytest.approx(3, abs=1e-3)


def test_what_an_unknown_mean_changes_is_not_known() -> None:
    lost = {"at_random": {"on": "x", "intercept": -1, "slope": 1}}
    found, _, unknown = one("y ~ center(x) * z + (1 + center(x) | g)", missing=lost)
    assert (found["center(x)"], found["center(x):z"]) == (0.3, 0.2)
    assert np.isnan([found["Intercept"], found["z"], found["var:g:Intercept"], found["icc"]]).all()
    assert unknown["z"] == "the mean of x over the observed rows does not follow from the study"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"predictors__x": {"redraw": False}}, "x is drawn once"),
        ({"predictors__x": {"distribution": "gamma", "skewness": 1}}, "x is not normal, so that its spread in a cluster goes"),
        ({"predictors": {"x": SCHEDULE, "z": CENTRED["predictors"]["z"]}},
         "x does not vary in the same way in all clusters"),
        ({"predictors": {"x": HALF, "z": CENTRED["predictors"]["z"]}, "design": {"clusters": 40, "cluster_size": 5}},
         "x does not vary in the same way in all clusters"),
        ({"design": {"clusters": 4, "cluster_size": [4, 5, 6, 7]}}, "z goes with the sizes of the clusters"),
    ],
)  # fmt: skip
def test_reasons_why_a_limit_is_not_known(changes: dict[str, Any], why: str) -> None:
    found, _, unknown = one("y ~ within(x) * z + between(x) + (1 + within(x) | g)", **changes)
    assert np.isnan(found["z"])
    assert unknown["z"].startswith(why)


def test_truths_of_replicates() -> None:
    """With a prior on x:z every replicate has its own effect of z at the mean of x."""
    study = tables(prior={"truth.fixed.x:z": {"distribution": "normal", "mean": 0.2, "sd": 0.1}})
    study["replications"] = 20
    results = nl.Study.from_dict(study)
    frame = results.data(0, 3, truth=True)
    assert "true.x:z" in frame


def test_replicates_store_the_truth_of_their_method(tmp_path: Path) -> None:
    study = tables(prior={"truth.fixed.x:z": {"distribution": "normal", "mean": 0.2, "sd": 0.1}}, replications=200)
    results = nl.Study.from_dict(study).run(out=tmp_path / "r", jobs=1)
    raw, centred = (results.replicates(method=m) for m in ("raw", "centred"))
    np.testing.assert_allclose(centred["true.z"], 3 * raw["true.x:z"], rtol=1e-9)
    assert raw["true.z"].isna().all()  # of raw it is the condition's, 0 in all replicates
    summary = results.summary()
    bias = summary[(summary["estimand"] == "z") & (summary["measure"] == "bias") & (summary["subset"] == "all")]
    value = bias.set_index("method")["value"]
    assert value["centred"] == pytest.approx((centred["estimate.z"] - centred["true.z"]).mean())
    assert value["raw"] == pytest.approx(raw["estimate.z"].mean())


def test_replicates_of_priors_do_not_depend_on_other_methods(tmp_path: Path) -> None:
    """Parts that were written before a method was added are what the study gives; sums are about the same truths."""
    study = tables(prior={"truth.fixed.x:z": {"distribution": "normal", "mean": 0.2, "sd": 0.1}}, replications=100)
    for methods in (CENTRED["method"][::2], CENTRED["method"]):
        results = nl.Study.from_dict({**study, "method": methods}).run(out=tmp_path / "r", jobs=1)
    found = verify(tmp_path / "r", blocks=10, seed=1)
    assert (found.problems, found.differs, found.missing) == ([], [], [])
    summed = nl.Study.from_dict({**study, "keep": "summary"}).run(out=tmp_path / "s", jobs=1)
    keys = ["method", "estimand", "measure", "subset"]
    stored, sums = (each.summary().set_index(keys)["value"] for each in (results, summed))
    rows = stored.index.get_level_values("measure").isin(["bias", "cover", "mse"])
    np.testing.assert_allclose(sums[stored.index[rows]], stored[rows], rtol=1e-9, atol=1e-12)
    assert ("raw", "z", "bias", "all") in sums.index


@pytest.mark.parametrize("keep", ["replicates", "summary"])
def test_factors_in_another_order_are_one_estimand(keep: str, tmp_path: Path) -> None:
    """A product that only methods have, and the covariance of two slopes, whatever order a formula writes them in."""
    random = {"variance": {"Intercept": 0.4, "x": 0.2, "w": 0.2}, "correlation": {"x:w": 0.3}}
    predictors = {**CENTRED["predictors"], "w": {"level": 1, "distribution": "normal"}}
    study = {
        **CENTRED, "keep": keep, "replications": 100, "predictors": predictors,
        "truth": {
            "formula": "y ~ x + w + z + (1 + x + w | g)", "fixed": dict.fromkeys(["Intercept", "x", "w", "z"], 0.1),
            "residual_variance": 1, "random": {"g": random},
        },
    }  # fmt: skip
    one = {
        "name": "one",
        "formula": "y ~ w + x * z + (1 + w + x | g)",
        "df": ["z", "residual"],
        "variance_intervals": "wald",
    }
    two = {**one, "name": "two", "formula": "y ~ x + w + z * x + (1 + x + w | g)"}
    test = {"name": "lr", "reml": False, "formula": "y ~ x + w + z * x + (1 | g)", "compare": "y ~ x + w + z + (1 | g)"}
    if keep == "replicates":  # where a folder is extended, parts keep the names of their own method
        nl.Study.from_dict({**study, "method": [two]}).run(out=tmp_path / "r", jobs=1)
    results = nl.Study.from_dict({**study, "method": [one, two, test]}).run(out=tmp_path / "r", jobs=1)
    summary = results.summary()
    found = summary[summary["subset"] == "all"].set_index(["method", "estimand", "measure"])["value"].sort_index()
    assert "z:x" not in summary["estimand"].tolist()
    for name, rule in (("x:z", "/residual"), ("cov:g:x:w", "/z"), ("cor:g:x:w", "/z")):
        mine, its = (found[label + rule, name] for label in ("one", "two"))
        assert {"mean", "bias", "cover"} <= set(its.index)
        np.testing.assert_allclose(mine, its, rtol=1e-6, atol=1e-9)
        assert np.isfinite(its).all()
    assert np.isfinite(found["lr", "x:z", "power"])
    assert not verify(tmp_path / "r", blocks=3, seed=1).wrong
    if keep == "replicates":
        frames = [results.replicates(method=name)["estimate.x:z"] for name in ("one", "two")]
        np.testing.assert_allclose(*frames, rtol=1e-6)


@pytest.mark.parametrize("keep", ["replicates", "summary"])
def test_measures_are_about_the_method_s_truth(keep: str, tmp_path: Path) -> None:
    """Coverage is near its level for all three methods; what is read again is what was computed."""
    results = nl.Study.from_dict({**CENTRED, "keep": keep}).run(out=tmp_path / "r", jobs=1)
    read = nl.Results(tmp_path / "r")
    table = read.truths().set_index(["method", "estimand"])
    assert table.loc[("centred", "z"), ["value", "meaning"]].tolist() == [pytest.approx(0.6), "z + 3 x:z"]
    assert read.conditions()["true.z/centred"].tolist() == [pytest.approx(0.6)]
    for summary in (results.summary(), read.summary()):
        found = summary[summary["subset"] == "all"].set_index(["method", "estimand", "measure"])
        for method in ("raw", "centred", "wb"):
            for name in ("Intercept", "z"):
                assert abs(found.loc[(method, name, "bias"), "value"]) < 4 * found.loc[(method, name, "bias"), "mcse"]
                assert found.loc[(method, name, "cover"), "value"] > 0.91
        assert ("centred", "z", "type_s") in found.index
        assert ("raw", "z", "type_s") not in found.index  # its truth is 0
        assert ("centred", "z", "relprec") not in found.index  # another parameter than raw's z
        assert ("centred", "var:residual", "relprec") in found.index


def test_compare_compares_what_means_the_same(tmp_path: Path) -> None:
    results = nl.Study.from_dict({**CENTRED, "replications": 60}).run(out=tmp_path / "r", jobs=1)
    found = results.compare("raw", "bias")
    assert set(found["estimand"]) == {"var:residual", "sd:residual"}
    assert found.attrs["apart"]["z"] == ["centred", "wb"]
    assert set(results.compare("centred", "bias", method="wb")["estimand"]) == {"var:residual", "sd:residual"}


def test_the_report_calls_power_what_is_power(tmp_path: Path) -> None:
    """z = 0 is true for one method and false for another."""
    results = nl.Study.from_dict({**CENTRED, "replications": 60}).run(out=tmp_path / "r", jobs=1)
    text = results.report(tmp_path / "report.html").read_text()
    assert "True values of methods that have other parameters than the truth" in text
    assert "z + 3 x:z" in text
    assert "z (truth 0.6), centred" in text
