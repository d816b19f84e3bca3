"""Keys of binary and count outcomes: what a study file may not say of them, each in one sentence."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nestlab.spec.study import StudyError, StudyFile

BASE: dict[str, Any] = {
    "name": "plan",
    "seed": 1,
    "replications": 100,
    "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ trt + (1 | school)",
        "family": "binomial",
        "baseline": 0.3,
        "fixed": {"trt": {"odds_ratio": 1.6}},
        "random": {"school": {"variance": {"Intercept": 0.3}}},
    },
    "predictors": {"trt": {"level": 2, "distribution": "balanced"}},
}
NONE = object()  # "without this key"
TRT = "truth/fixed/trt"
POISSON: dict[str, Any] = {"truth/family": "poisson", "truth/baseline": 2.0, TRT: {"rate_ratio": 1.5}}
GAUSSIAN: dict[str, Any] = {
    "truth/family": NONE, "truth/baseline": NONE, "truth/residual_variance": 1, "truth/fixed": {"Intercept": 0, "trt": 0.3},
}  # fmt: skip
NO_BASELINE: dict[str, Any] = {"truth/baseline": NONE, "truth/fixed": {"Intercept": -1, "trt": 0.3}}
SLOPE: dict[str, Any] = {
    "truth/formula": "y ~ trt + x + (1 + x | school)",
    "truth/fixed": {"trt": 0.3, "x": 0.2},
    "truth/random/school/variance": {"Intercept": 0.3, "x": 0.1},
    "predictors/x": {"level": 1, "distribution": "normal"},
}
FACTORS: dict[str, Any] = {
    "design": {"rows": 2, "factors": {"subject": {"number": 10}, "item": {"number": 8}}},
    "truth/formula": "y ~ trt + (1 | subject) + (1 | item)",
    "truth/random": {"subject": {"variance": {"Intercept": 0.3}}, "item": {"variance": {"Intercept": 0.2}}},
    "predictors/trt": {"level": "subject", "distribution": "balanced"},
}
LINKS = "needs the {} link, and the outcome is {} with link {}; write a coefficient or difference"
FOR_OUTCOMES = '"lmm" or "glmm" or "ols" or "cluster-means"'
OURS = "is for Gaussian outcomes; remove it, or truth.family"
STEP = "is for Gaussian outcomes; write a coefficient, {} or difference"


def tables(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with some values changed, by "table/key"."""
    found = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("/")
        holder: Any = found
        for parent in parents:
            holder = holder.setdefault(parent, {})
        if value is NONE:
            holder.pop(last, None)
        else:
            holder[last] = copy.deepcopy(value)
    return found


def method(**keys: Any) -> dict[str, Any]:
    return {"method": [{"name": "m", **keys}]}


def axis(name: str, *values: Any) -> dict[str, Any]:
    return {"grid": {name: list(values)}}


BAD: list[tuple[dict[str, Any], str]] = [
    # the family and its link
    ({"truth/link": "log"}, 'truth.link = "log": must be "logit", "probit" or "cloglog"; did you mean "logit"?'),
    (
        {**POISSON, "truth/link": "probit"},
        'truth.link = "probit": is for binomial outcomes, and the outcome is poisson; remove it',
    ),
    (
        {**GAUSSIAN, "truth/link": "logit"},
        'truth.link = "logit": is for binomial outcomes, and the outcome is gaussian; remove it',
    ),
    (
        {"truth/family": "bernoulli"},
        'truth.family = "bernoulli": must be "gaussian", "binomial" or "poisson"; remove it for "gaussian"',
    ),
    (
        {"truth/family": "negative-binomial"},
        'truth.family = "negative-binomial": must be "gaussian", "binomial" or "poisson"; did you mean "binomial"?',
    ),
    # trials, exposure
    ({**POISSON, "truth/trials": 5}, 'truth.trials = 5: needs truth.family = "binomial"; add it, or remove this'),
    ({**GAUSSIAN, "truth/trials": 5}, 'truth.trials = 5: needs truth.family = "binomial"; add it, or remove this'),
    ({"truth/trials": 0}, "truth.trials = 0: must be a whole number from 1 to 1000000; write 10, say"),
    ({"truth/exposure": 2}, 'truth.exposure = 2: needs truth.family = "poisson"; add it, or remove this'),
    ({**POISSON, "truth/exposure": 0}, "truth.exposure = 0: must be a finite number > 0; write 2.5, say"),
    (axis("truth.exposure", 1, 5), 'grid.truth.exposure needs truth.family = "poisson"; add it, or remove this'),
    ({**POISSON, **axis("truth.trials", 1, 5)}, 'grid.truth.trials needs truth.family = "binomial"; add it, or remove this'),
    (
        {"truth/formula": "y ~ trials + (1 | school)", "truth/fixed": {"trials": 0.3},
         "predictors": {"trials": BASE["predictors"]["trt"]}},
        'truth.formula = "y ~ trials + (1 | school)": must not name a variable trials, which is the name of a column that the '
        "data have beside it; rename it",
    ),
    # the baseline
    (
        {**GAUSSIAN, "truth/baseline": 0.3},
        'truth.baseline = 0.3: needs truth.family = "binomial" or "poisson"; add it, or remove this',
    ),
    (
        {"truth/fixed": {"Intercept": -1, "trt": 0.3}},
        "truth.baseline = 0.3: must not stand beside truth.fixed.Intercept, which it sets; remove one of the two",
    ),
    (
        {"truth/formula": "y ~ 0 + trt + (1 | school)"},
        "truth.baseline = 0.3: needs an intercept, unlike y ~ 0 + trt + (1 | school); add 1 +",
    ),
    ({"truth/baseline": 1.2}, "truth.baseline = 1.2: must be a probability between 0 and 1"),
    ({"truth/baseline": 0}, "truth.baseline = 0: must be a finite number > 0; write 0.2, say"),
    (
        {**POISSON, "truth/baseline": {"distribution": "gamma", "mean": 2, "sd": 1}},
        'truth.baseline = {"distribution": "gamma", "mean": 2, "sd": 1}: must be a finite number > 0; a prior may stand for '
        "effects, variances and correlations of the truth only: write a value, or several as an axis of the grid",
    ),
    (axis("truth.baseline", 0.1, 1.5), "truth.baseline = 1.5: must be a probability between 0 and 1 (at truth.baseline = 1.5)"),
    (
        {**GAUSSIAN, **axis("truth.baseline", 0.1, 0.5)},
        'grid.truth.baseline needs truth.family = "binomial" or "poisson"; add it, or remove this',
    ),
    (
        {**NO_BASELINE, **axis("truth.baseline", 0.1, 0.5)},
        "grid.truth.baseline must not stand beside truth.fixed.Intercept, which it sets; remove one of the two",
    ),
    (
        axis("truth.fixed.Intercept", -1, 0),
        "grid.truth.fixed.Intercept must not stand beside truth.baseline, which sets it; remove one of the two",
    ),
    # effects
    ({"truth/link": "probit"}, f"truth.fixed.trt.odds_ratio = 1.6: {LINKS.format('logit', 'binomial', 'probit')}"),
    ({**GAUSSIAN, TRT: {"odds_ratio": 2}}, f"truth.fixed.trt.odds_ratio = 2: {LINKS.format('logit', 'gaussian', 'identity')}"),
    ({**POISSON, TRT: {"odds_ratio": 2}}, f"truth.fixed.trt.odds_ratio = 2: {LINKS.format('logit', 'poisson', 'log')}"),
    ({TRT: {"rate_ratio": 2}}, f"truth.fixed.trt.rate_ratio = 2: {LINKS.format('log', 'binomial', 'logit')}"),
    (
        {TRT: {"difference": 0.7}},
        "truth.fixed.trt.difference = 0.7: must lead from the baseline, 0.3, to a probability between 0 and 1; lower it, or "
        "write a coefficient",
    ),
    (
        {**POISSON, TRT: {"difference": -3}},
        "truth.fixed.trt.difference = -3: must lead from the baseline, 2, to a rate > 0; lower it, or write a coefficient",
    ),
    (
        {**GAUSSIAN, TRT: {"difference": 0.1}},
        "truth.fixed.trt.difference = 0.1: is for binary outcomes and counts; write a coefficient, or add a family to [truth]",
    ),
    (
        {"truth/baseline": NONE, "truth/formula": "y ~ 0 + trt + (1 | school)", TRT: {"difference": 0.1}},
        "truth.fixed.trt.difference = 0.1: needs an intercept, whose mean is the baseline, unlike y ~ 0 + trt + (1 | school); "
        "add 1 +, or write a coefficient",
    ),
    (
        {"truth/baseline": NONE, "truth/fixed/Intercept": {"odds_ratio": 2}},
        "truth.fixed.Intercept.odds_ratio = 2: is the effect of a step, which the Intercept has not; write truth.baseline, or a "
        "coefficient",
    ),
    ({**POISSON, TRT: {"d": 0.3}}, f"truth.fixed.trt.d = 0.3: {STEP.format('rate_ratio')}"),
    ({TRT: {"d": 0.3, "by": "outcome"}}, f"truth.fixed.trt.d = 0.3: {STEP.format('odds_ratio')}"),
    ({TRT: {"r2": 0.1}}, f"truth.fixed.trt.r2 = 0.1: {STEP.format('odds_ratio')}"),
    # what only Gaussian outcomes have
    ({"truth/residual_variance": 1}, f"truth.residual_variance = 1: {OURS}"),
    ({"truth/residual_sd": 2}, f"truth.residual_sd = 2: {OURS}"),
    ({"truth/errors": {"ar1": 0.3}}, f"truth.errors {OURS}"),
    ({"truth/outcome": {"arm": ["trt"]}}, f"truth.outcome {OURS}"),
    (axis("truth.residual_variance", 1, 2), f"grid.truth.residual_variance {OURS}"),
    (axis("truth.errors.ar1", 0.1, 0.2), f"grid.truth.errors.ar1 {OURS}"),
    (
        {**POISSON, **axis("icc", 0.1, 0.2)},
        "grid.icc needs a residual variance, which counts have not; give the variance of the random intercept",
    ),
    (
        FACTORS,
        'truth.family = "binomial": must be gaussian with several grouping factors; remove it, or [design.factors]',
    ),
    ({"contrast": [{"name": "c", "weights": {"trt": 1}, "standardise": "total"}]}, f'contrast.c.standardise = "total": {OURS}'),
    # methods
    (method(estimator="gls"), f'method.m.estimator = "gls": is not for binomial outcomes; write {FOR_OUTCOMES}'),
    (method(estimator="ancova"), f'method.m.estimator = "ancova": is not for binomial outcomes; write {FOR_OUTCOMES}'),
    ({**POISSON, **method(estimator="gee")}, f'method.m.estimator = "gee": is not for poisson outcomes; write {FOR_OUTCOMES}'),
    (
        {**GAUSSIAN, **method(estimator="glmm")},
        'method.m.estimator = "glmm": is for other outcomes than Gaussian ones; write "lmm", or add family = "binomial" or '
        '"poisson" to [truth]',
    ),
    (
        {**SLOPE, **method(nodes=3)},
        "method.m.nodes = 3: must be 1 (Laplace's approximation) unless the model has one random effect a cluster; remove it",
    ),
    ({**GAUSSIAN, **method(estimator="lmm", nodes=3)}, 'method.m.nodes = 3: needs estimator = "glmm"; remove one of the two'),
    (method(nodes=26), "method.m.nodes = 26: must be a whole number from 1 to 25; write 7, say"),
    (
        method(df="satterthwaite"),
        'method.m.df = "satterthwaite": must be "z" or "between-within" for estimator = "glmm"; write one of these, or remove df',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), BAD, ids=[text[:60] for _, text in BAD])
def test_what_does_not_go_together_is_told(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(tables(changes))
    assert expected in caught.value.problems
    also = ("is estimated by no method", "is for one grouping factor")  # they follow from what is told
    assert [line for line in caught.value.problems if not any(text in line for text in also)] == [expected]


@pytest.mark.parametrize("changes", [{}, POISSON, GAUSSIAN, NO_BASELINE, SLOPE, method(nodes=7)])
def test_what_goes_together_is_read(changes: dict[str, Any]) -> None:
    assert len(StudyFile.from_dict(tables(changes)).conditions()) == 1
