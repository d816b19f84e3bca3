"""Keys of least squares and robust standard errors that do not go together: one line each, with the repair."""

from __future__ import annotations

from typing import Any

import pytest
from test_spec_refusals import BASE, problems, study

from nestlab.spec.study import StudyFile

OLS = {"method/0/estimator": "ols"}
FIXED = {"method/0/estimator": "fixed-effects"}
MEANS = {"method/0/estimator": "cluster-means"}
CR2 = {"method/0/robust": "CR2"}
M = "method.reml"

BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"method/0/robust": "CR3"},
        f'{M}.robust = "CR3": must be "CR0", "CR1", "CR1S" or "CR2"; did you mean "CR2"?',
    ),
    (
        {"method/0/robust": True},
        f'{M}.robust = true: must be "CR0", "CR1", "CR1S" or "CR2"; use one of these',
    ),
    (MEANS | {"method/0/weights": "n"}, f'{M}.weights = "n": must be "size"; use one of these'),
    (
        {"method/0/weights": "size"},
        f'{M}.weights = "size": needs estimator = "cluster-means"; add it, or remove this',
    ),
    (
        MEANS | CR2 | {"method/0/weights": "size"},
        f'{M}.robust = "CR2": must not stand beside weights; remove one of the two',
    ),
    (
        CR2 | {"method/0/estimator": "statsmodels"},
        f'{M}.robust = "CR2": needs estimator = "lmm", "ols", "fixed-effects" or "cluster-means"; remove one of the two',
    ),
    (
        CR2 | {"method/0/df": "kenward-roger"},
        f'{M}.df = "kenward-roger": must be "z", "residual", "between-within", "clusters" or "bell-mccaffrey" with robust; '
        "write one of these, or remove df",
    ),
    (
        CR2 | {"method/0/df": ["z", "satterthwaite"]},
        f'{M}.df = ["z", "satterthwaite"]: must be "z", "residual", "between-within", "clusters" or "bell-mccaffrey" with '
        "robust; write one of these, or remove df",
    ),
    (
        OLS | CR2 | {"method/0/df": "between-within"},
        f'{M}.df = "between-within": must be "z", "residual", "clusters" or "bell-mccaffrey" with robust; write one of these, '
        "or remove df",
    ),
    (
        OLS | {"method/0/df": "satterthwaite"},
        f'{M}.df = "satterthwaite": must be "z" or "residual" for estimator = "ols"; write one of these, or remove df',
    ),
    (
        OLS | {"method/0/df": "bell-mccaffrey"},
        f'{M}.df = "bell-mccaffrey": must leave out "bell-mccaffrey", for cluster-robust standard errors; add robust = "CR2", '
        "or remove df",
    ),
    (
        {"method/0/df": ["clusters", "z", "bell-mccaffrey"]},
        f'{M}.df = ["clusters", "z", "bell-mccaffrey"]: must leave out "clusters" and "bell-mccaffrey", for cluster-robust '
        'standard errors; add robust = "CR2", or remove df',
    ),
    (
        OLS | {"method/0/reml": False},
        f'{M}.reml = false: needs estimator = "lmm" or "statsmodels"; remove one of the two',
    ),
    (
        OLS | {"method/0/singular_df": "refit"},
        f'{M}.singular_df = "refit": needs estimator = "lmm" or "statsmodels"; remove one of the two',
    ),
    (
        CR2 | {"method/0/singular_df": "refit"},
        f'{M}.singular_df = "refit": is for df = "satterthwaite" only; remove it',
    ),
    (
        OLS | {"method/0/compare": "y ~ x + (1 | school)"},
        f'{M}.compare = "y ~ x + (1 | school)": needs estimator = "lmm"; remove one of the two',
    ),
    (
        MEANS | {"method/0/intervals": "profile"},
        f'{M}.intervals = "profile": needs estimator = "lmm"; remove one of the two',
    ),
    (
        FIXED | {"method/0/variance_intervals": "profile"},
        f'{M}.variance_intervals = "profile": needs estimator = "lmm"; remove one of the two',
    ),
    (
        CR2 | {"method/0/compare": "y ~ x + z + (1 | school)"},
        f'{M}.robust = "CR2": must not stand beside compare, for it changes no likelihood ratio; remove one of the two',
    ),
    (
        CR2 | {"method/0/intervals": "profile"},
        f'{M}.intervals = "profile": must be "t" with robust, for the others take the model\'s variances as right; remove one of '
        "the two",
    ),
    (
        FIXED | {"method/0/formula": "y ~ z"},
        f'{M}.formula = "y ~ z": leaves nothing to estimate: Intercept, z do not vary within clusters, whose effects absorb '
        'them; add a term that varies within clusters, or choose another estimator than "fixed-effects"',
    ),
    (
        FIXED | {"grid/predictors.z.level": [1, 2]},
        f'{M}.estimator = "fixed-effects": needs levels that no axis changes, and one sets predictors.z.level; remove the axis, '
        "or the method",
    ),
    (
        MEANS | {"design/clusters": 3},
        'truth.formula = "y ~ x + z + (1 + x | school)": must have fewer fixed terms than clusters, whose means are the data, '
        "and has 3 for 3; raise design.clusters or use fewer terms",
    ),
    (
        MEANS | {"method/0/formula": "y ~ 0 + within(x)"},
        f'{M}.formula = "y ~ 0 + within(x)": leaves nothing to estimate: within(x) average to 0 in every cluster; add a term '
        'that varies between clusters, or choose another estimator than "cluster-means"',
    ),
    (
        {"method/0/estimator": "gls", "truth/errors": {"ar1": 0.4}},
        'truth.errors.ar1 = 0.4: must be 0 beside estimator = "gls" (method reml), which weighs by the variances of the random '
        "effects and one residual variance; remove it, or the method",
    ),
    (
        {"method/0/estimator": "gls", "truth/errors": {"variance_ratio": {"z": 2}, "cluster_cv": 0.5}},
        'truth.errors.variance_ratio.z = 2: must be 1 beside estimator = "gls" (method reml), which weighs by the variances of '
        "the random effects and one residual variance; remove it, or the method",
    ),
    (
        OLS | {"method/0/formula": "y ~ x + q"},
        f'{M}.formula = "y ~ x + q": uses q, which is no predictor of the study; add [predictors.q]',
    ),
    (
        OLS | {"method/0/formula": "y ~ x + (1 | class)"},
        f'{M}.formula = "y ~ x + (1 | class)": must have the grouping factor of truth.formula; write school for class',
    ),
    (
        OLS | {"method/0/formula": "score ~ x"},
        f'{M}.formula = "score ~ x": must have the response of truth.formula; write y for score',
    ),
    (
        {"method/0/formula": "y ~ x"},
        f'{M}.formula = "y ~ x": must have a random term; add + (1 | school)',
    ),
    (
        FIXED | {"contrast": [{"name": "a", "weights": {"z": 1}}]},
        "contrast.a.weights is estimated by no method: none has all of z in its formula; add one",
    ),
    (
        OLS | {"contrast": [{"name": "a", "weights": {"x": 1}, "standardise": "residual"}]},
        'contrast.a.weights is estimated by no method: none has all of x in its formula, estimator = "lmm"; add one',
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_study_is_refused(changes: dict[str, Any], message: str) -> None:
    """One problem, one line."""
    (line,) = problems(changes)
    assert line == message


def test_too_few_rows_for_effects_of_clusters() -> None:
    """One row beyond one a cluster leaves no degree of freedom; no other line says so twice."""
    lines = problems(FIXED | {"design/cluster_size": [1] * 19 + [2]})
    wanted = (
        'truth.formula = "y ~ x + z + (1 + x | school)": must have fewer fixed terms than rows beyond one a cluster, and x '
        "stand beside the effects of 20 clusters for 21 rows; raise design.cluster_size or use fewer terms"
    )
    assert lines == [wanted]


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        (OLS, ("residual",)),
        (FIXED, ("residual",)),
        (MEANS, ("residual",)),
        (OLS | CR2, ("bell-mccaffrey",)),
        (FIXED | {"method/0/robust": "CR1S"}, ("clusters",)),
        (CR2, ("bell-mccaffrey",)),
        ({"method/0/robust": "CR0"}, ("clusters",)),
        (CR2 | {"method/0/df": ["z", "between-within"]}, ("z", "between-within")),
    ],
)
def test_default_rules(changes: dict[str, Any], rules: tuple[str, ...]) -> None:
    assert StudyFile.from_dict(study(changes)).methods()[0].df == rules


def test_what_a_method_estimates_of_a_formula() -> None:
    """No random part; and no term that effects of clusters absorb."""
    assert BASE["truth"]["formula"] == "y ~ x + z + (1 + x | school)"
    for changes, fixed in ((OLS, ("Intercept", "x", "z")), (FIXED, ("x",)), (MEANS, ("Intercept", "x", "z"))):
        (method,) = StudyFile.from_dict(study(changes)).methods()
        assert method.formula.fixed == fixed
        assert method.formula.random == ()
