"""Bad study files: every refusal names the key, the value received, what is allowed and the repair, on one line."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.spec.study import StudyError, StudyFile

BASE: dict[str, Any] = {
    "name": "plan",
    "seed": 1,
    "replications": 100,
    "design": {"clusters": 20, "cluster_size": 10},
    "truth": {
        "formula": "y ~ x + z + (1 + x | school)",
        "fixed": {"Intercept": 1, "x": 0.5, "z": 0.2},
        "residual_variance": 4,
        "random": {"school": {"variance": {"Intercept": 1, "x": 0.5}, "correlation": {"Intercept:x": 0.3}}},
    },
    "predictors": {
        "x": {"level": 1, "distribution": "normal"},
        "z": {"level": 2, "distribution": "balanced"},
    },
    "method": [{"name": "reml"}],
}

NONE = object()  # "without this key"
LEVEL_1 = {"level": 1, "distribution": "normal"}
SCHOOL = "truth.random.school"
APART = "y ~ x + z + (1 | school) + (0 + x | school)"
THREE = "y ~ x + z + (1 + x + w | school)"
CORRELATIONS = {"Intercept:x": 0.9, "Intercept:w": 0.9, "x:w": -0.9}


def study(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with some values changed, by "table/key"."""
    tables = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("/")
        holder: Any = tables
        for parent in parents:
            holder = holder[int(parent)] if isinstance(holder, list) else holder.setdefault(parent, {})
        if isinstance(holder, list):
            holder[int(last)] = value
        elif value is NONE:
            del holder[last]
        else:
            holder[last] = value
    return tables


def problems(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(study(changes))
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def test_the_base_is_good() -> None:
    assert len(StudyFile.from_dict(BASE).conditions()) == 1


R = "truth/random/school"
TOP = ", ".join(StudyFile.model_fields)
KINDS = (
    'must be "normal", "uniform", "t", "skew-normal", "gamma", "lognormal", "chi-square", "contaminated", "beta", "balanced", '
    '"binary", "categorical", "time", "list", "resampled", "schedule", "period", "arms" or "latin-square"'
)
DF = (
    'must be "z", "residual", "between-within", "satterthwaite", "kenward-roger", "clusters" or "bell-mccaffrey", or a list of '
    "them"
)
NAMES = "must be letters, digits, - _ . (at most 100, no . or - first, no . last)"
CLUSTERS = "must be a whole number from 2 to 1000000"
CLUSTER_SIZE = "must be a whole number from 1 to 1000000000, or a list of one per cluster"
SHARE = "a number from 0 to 1, 1 not included; write 0.1, say"
ESTIMATORS = (
    '"lmm", "glmm", "statsmodels", "gee", "function", "ols", "fixed-effects", "cluster-means", "gls", '
    '"change-scores", "ancova", "by-units", "min-f" or "both-units"'
)
FUNCTION = (
    'must be text such as "module:function"; name a module and a function in it, with a colon between, as in '
    "Python's import"
)
INTERCEPT_ONLY = "y ~ x + z + (1 | school)"
FORMULA = 'truth.formula = "y ~ x + z + (1 + x | school)"'

BAD: list[tuple[dict[str, Any], str]] = [
    # unknown keys
    ({"clusters": 3}, f"clusters = 3: is no key of a study file; use one of {TOP}"),
    ({"desing": {}}, 'desing = {}: is no key of a study file; did you mean "design"?'),
    ({"design/clutsers": 3}, 'design.clutsers = 3: is no key of a study file; did you mean "clusters"?'),
    ({"design/icc": 0.1}, "design.icc = 0.1: is no key of a study file; write icc in [grid], as an axis"),
    ({"design/clusters": [20, 40]}, f"design.clusters = [20, 40]: {CLUSTERS}; write several in [grid], as an axis"),
    ({"truth/Fixed": {}}, 'truth.Fixed = {}: is no key of a study file; did you mean "fixed"?'),
    (
        {f"{R}/var": {"x": 1}},
        'truth.random.school.var = {"x": 1}: is no key of a study file; '
        "use one of distribution, df, skewness, share, ratio, variance, sd, correlation, covariance",
    ),
    ({"predictors/x/sdd": 3}, 'predictors.x.sdd = 3: is no key of a study file; did you mean "sd"?'),
    ({"method/0/aplha": 0.1}, 'method.reml.aplha = 0.1: is no key of a study file; did you mean "alpha"?'),
    # top level
    ({"name": NONE}, 'name is missing; add name = "study"'),
    ({"seed": NONE}, "seed is missing; add seed = 707"),
    ({"seed": 7.0}, "seed = 7.0: must be a whole number >= 0 and < 2**64; write 7"),
    ({"replications": NONE}, "replications is missing; add replications = 2000"),
    (
        {"replications": "100"},
        "... or a list of such tables; write 100 without quotes",
    ),
    ({"mcse": "moris"}, 'mcse = "moris": must be "distribution-free" or "morris"; did you mean "morris"?'),
    # design
    ({"design/clusters": 20.0}, f"design.clusters = 20.0: {CLUSTERS}; write 20"),
    ({"design/clusters": NONE}, "design.clusters is missing; add clusters = 20 to [design], or an axis of the grid"),
    (
        {"design/cluster_size": NONE},
        "design.cluster_size is missing; add cluster_size = 50 to [design], or an axis of the grid",
    ),
    (
        {"design/cluster_size": [5, 6]},
        "design.cluster_size = [5, 6]: must have one size per cluster, 20 (design.clusters) and not 2; "
        "correct the list or the number of clusters",
    ),
    # truth
    ({"truth": NONE}, "truth is missing; add truth = { formula = ..., ... }, written as the table [truth]"),
    ({"truth/formula": NONE}, 'truth.formula is missing; add formula = "y ~ x + (1 | cluster)"'),
    ({"truth/formula": "y ~ x + z"}, 'truth.formula = "y ~ x + z": must have a random term; add + (1 | cluster)'),
    (
        {"truth/formula": "y ~ log(x) + (1 | school)"},
        'truth.formula = "y ~ log(x) + (1 | school)": calls such as log(...) are not possible in a study formula; '
        "give log_x a distribution of its own in [predictors.log_x] and write log_x",
    ),
    (
        {"truth/formula": "y ~ x + (1 | a.b)"},
        'truth.formula = "y ~ x + (1 | a.b)": must have a grouping factor without a dot; write a_b for a.b',
    ),
    ({"truth/fixed/x": " 0.5"}, 'truth.fixed.x = " 0.5": must be a finite number; write 0.5 without quotes'),
    (
        {"truth/fixed/x": NONE},
        "truth.fixed.x is missing: every term of y ~ x + z + (1 + x | school) needs a true value; "
        "add x = 0, or its value",
    ),
    (
        {"truth/fixed/w": 1},
        "truth.fixed.w = 1: must be a fixed term of y ~ x + z + (1 + x | school); "
        "add w to the formula or remove it here",
    ),
    (
        {"truth/fixed/intercept": 1.5},
        "truth.fixed.intercept = 1.5: must be a fixed term of y ~ x + z + (1 + x | school); "
        "add intercept to the formula or remove it here",
    ),
    (
        {"truth/formula": "y ~ x*z + (1 + x | school)", "truth/fixed/x:z": 1, "truth/fixed/z:x": 2},
        "truth.fixed.z:x = 2: must be given once, and the term x:z is given twice; remove one",
    ),
    (
        {"truth/residual_variance": NONE},
        "truth.residual_variance is missing: one of residual_variance and residual_sd is needed; "
        "add residual_variance = 1, say",
    ),
    (
        {"truth/residual_sd": 2},
        "truth.residual_sd = 2: must not stand beside truth.residual_variance; remove one of the two",
    ),
    # random effects
    (
        {"truth/random": {"shcool": BASE["truth"]["random"]["school"]}},
        "truth.random.shcool is no grouping factor of y ~ x + z + (1 + x | school); write [truth.random.school]",
    ),
    (
        {f"{R}/variance/x": NONE},
        f"{SCHOOL}.variance.x is missing: every term of y ~ x + z + (1 + x | school) needs a true value; "
        "add x = 0, or its value",
    ),
    (
        {f"{R}/variance/q": 1},
        f"{SCHOOL}.variance.q = 1: must be a random column of (1 + x | school); "
        "add q to the random term or remove it here",
    ),
    (
        {f"{R}/sd": {"x": 1}},
        f"{SCHOOL} must have one of variance, sd and covariance, not sd and variance; keep one",
    ),
    (
        {
            "truth/formula": "y ~ x + z + (0 + x:w | school)",
            "predictors/w": LEVEL_1,
            R: {"sd": {"x:w": 1, "w:x": 2}},
        },
        f"{SCHOOL}.sd.w:x = 2: must be given once, and x:w is given twice; remove one",
    ),
    (
        {f"{R}/correlation": {"Intercept:w": 0.2}},
        f"{SCHOOL}.correlation.Intercept:w = 0.2: must name two random columns of (1 + x | school); use Intercept:x",
    ),
    (
        {f"{R}/correlation": {"x": 0.2}},
        f"{SCHOOL}.correlation.x = 0.2: must name two random columns of (1 + x | school); use Intercept:x",
    ),
    (
        {f"{R}/correlation": {"x:Intercept": 0.2, "Intercept:x": 0.2}},
        f"{SCHOOL}.correlation.Intercept:x = 0.2: must be given once, and this pair is given twice; remove one",
    ),
    (
        {"truth/formula": APART},
        f"{SCHOOL}.correlation.Intercept:x = 0.3: must name two columns of one random term, and "
        "(1 | school) + (0 + x | school) holds them apart; join the terms or remove it",
    ),
    (
        {"truth/formula": THREE, "predictors/w": LEVEL_1, f"{R}/variance/w": 1, f"{R}/correlation": CORRELATIONS},
        f'{SCHOOL}.correlation = {{"Intercept:x": 0.9, "Intercept:w": 0.9, "x:w": -0.9}}: must be a positive '
        "semi-definite matrix (its smallest eigenvalue is -0.8); bring the correlations nearer 0, times 0.555 say",
    ),
    (
        {R: {"covariance": [[1]]}},
        f"{SCHOOL}.covariance = [[1]]: must be a 2 x 2 matrix, in the order Intercept, x; write 2 rows of 2",
    ),
    (
        {R: {"covariance": [[1, 0.5], [0.4, 1]]}},
        f"{SCHOOL}.covariance = [[1, 0.5], [0.4, 1]]: must be symmetric; make the two values for Intercept and x equal",
    ),
    (
        {R: {"covariance": [[-1, 0.5], [0.5, 1]]}},
        f"{SCHOOL}.covariance = [[-1, 0.5], [0.5, 1]]: must have variances >= 0 on its diagonal; correct the diagonal",
    ),
    (
        {R: {"covariance": [[1, 2], [2, 1]]}},
        f"{SCHOOL}.covariance = [[1, 2], [2, 1]]: must be positive semi-definite; "
        "bring the value for Intercept and x within +-sqrt(variance x variance)",
    ),
    (
        {
            "truth/formula": THREE,
            "predictors/w": LEVEL_1,
            R: {"covariance": [[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]]},
        },
        "... must be a positive semi-definite matrix (its smallest eigenvalue is -0.8); "
        "bring the correlations nearer 0, times 0.555 say",
    ),
    (
        {"truth/formula": APART, R: {"covariance": [[1, 0.5], [0.5, 1]]}},
        f"{SCHOOL}.covariance = [[1, 0.5], [0.5, 1]]: must be 0 between separate random terms; "
        "write 0 for Intercept and x or join the terms",
    ),
    (
        {R: {"covariance": [[1, 0], [0, 1]], "correlation": {"Intercept:x": 0}}},
        f"{SCHOOL}.correlation must not stand beside {SCHOOL}.covariance; remove one of the two",
    ),
    # predictors
    (
        {"predictors/x/level": NONE},
        "predictors.x.level is missing; add level = 1 to [predictors.x], or an axis of the grid",
    ),
    (
        {"predictors/x/distribution": NONE},
        'predictors.x.distribution is missing; add distribution = "normal" to [predictors.x], or an axis of the grid',
    ),
    (
        {"predictors/x/distribution": "nromal"},
        f'predictors.x.distribution = "nromal": {KINDS}; did you mean "normal"?',
    ),
    (
        {"predictors/x/redraw": "yes"},
        'predictors.x.redraw = "yes": must be true or false; write true or false, without quotes',
    ),
    (
        {"predictors/z/sd": 1},
        'predictors.z.sd = 1: must be absent for distribution = "balanced"; remove it, or write distribution = "normal"',
    ),
    (
        {"predictors/z/redraw": True, "predictors/z/level": 1},
        'predictors.z.redraw = true: must be false or absent for distribution = "balanced" at level 1, the same in every '
        "replicate; remove it",
    ),
    (
        {"predictors/w": LEVEL_1},
        "predictors.w is used by no formula; remove it, or add w to truth.formula with its true value",
    ),
    (
        {"predictors/school": LEVEL_1},
        "predictors.school has the name of the response or the grouping factor of y ~ x + z + (1 + x | school); "
        "rename one",
    ),
    (
        {"predictors/a.b": LEVEL_1},
        "predictors.a.b must be named by letters, digits and _, a letter first; rename it",
    ),
    (
        {"predictors/icc": LEVEL_1},
        "predictors.icc must not be named like one of Intercept, True, False, None, TRUE, FALSE, icc, var, sd, cov, cor, "
        "within, between, center, previous; rename it",
    ),
    (
        {"predictors/z": NONE},
        f"{FORMULA}: uses z, which is no predictor of the study; add [predictors.z]",
    ),
    # levels
    (
        {"predictors/x/level": 2},
        f"{FORMULA}: must have random slopes of level-1 predictors only, and x is constant within a cluster; "
        "remove x from the random term or set predictors.x.level to 1",
    ),
    (
        {"truth/formula": "y ~ x + z + (0 + x:z | school)", R: {"variance": {"z:x": 1}}},
        'truth.formula = "y ~ x + z + (0 + x:z | school)": must have random slopes of level-1 predictors only, and '
        "z in x:z is constant within a cluster; remove x:z from the random term or set predictors.z.level to 1",
    ),
    (
        {"method/0/formula": "y ~ x + (z | school)"},
        'method.reml.formula = "y ~ x + (z | school)": must have random slopes of level-1 predictors only, and '
        "z is constant within a cluster; remove z from the random term or set predictors.z.level to 1",
    ),
    (
        {"method/0/formula": "y ~ x*w + (1 | school)", "predictors/w": LEVEL_1},
        'method.reml.formula = "y ~ x*w + (1 | school)": must not multiply level-1 predictors (x:w) unless '
        "truth.formula does; add x:w to truth.formula with the true value 0",
    ),
    # too little data
    (
        {"design/cluster_size": 2},
        f"{FORMULA}: must have fewer random effects than rows, and (1 + x | school) has 40 for 40 rows; "
        "raise design.cluster_size or use fewer random columns",
    ),
    (
        {"design": {"clusters": 3, "cluster_size": [1, 1, 2]}, "method/0/formula": "y ~ x*z + (1 | school)"},
        'method.reml.formula = "y ~ x*z + (1 | school)": must have fewer fixed terms than rows, and has 4 for 4 rows; '
        "raise design.cluster_size or use fewer terms",
    ),
    (
        {
            "design/clusters": 2,
            "truth/formula": "y ~ x + z + v + (1 | school)",
            "truth/fixed/v": 1,
            "predictors/v": {"level": 2, "distribution": "normal"},
            R: {"variance": {"Intercept": 1}},
        },
        'truth.formula = "y ~ x + z + v + (1 | school)": must have at most 1 fixed terms that are Intercept times a '
        "constant of the cluster (Intercept, z, v) with 2 clusters; raise design.clusters or use fewer terms",
    ),
    (
        {"design/clusters": 2},
        'truth.formula = "y ~ x + z + (1 + x | school)": must have at most 1 fixed terms that are Intercept times a '
        "constant of the cluster (Intercept, z) with 2 clusters; raise design.clusters or use fewer terms",
    ),
    # methods
    ({"method/0/name": NONE}, 'method.1.name is missing; add name = "reml"'),
    (
        {"method/0/estimator": "lmn"},
        f'method.reml.estimator = "lmn": must be {ESTIMATORS}; did you mean "lmm"?',
    ),
    ({"method/0/reml": 1}, "method.reml.reml = 1: must be true or false; write true or false, without quotes"),
    (
        {"method/0/df": "betwen-within"},
        f'method.reml.df = "betwen-within": {DF}; did you mean "between-within"?',
    ),
    (
        {"method": [{"name": "a"}, {"name": "a", "reml": False}]},
        'method.a.name = "a": must be a name of its own (method 2 repeats it); rename or remove one',
    ),
    ({"method/0/formula": "y ~ x"}, 'method.reml.formula = "y ~ x": must have a random term; add + (1 | school)'),
    (
        {"method/0/formula": "w ~ x + (1 | school)"},
        'method.reml.formula = "w ~ x + (1 | school)": must have the response of truth.formula; write y for w',
    ),
    (
        {"method/0/formula": "y ~ x + (1 | class)"},
        'method.reml.formula = "y ~ x + (1 | class)": must have the grouping factor of truth.formula; '
        "write school for class",
    ),
    (
        {"method/0/formula": "y ~ q + (1 | school)"},
        'method.reml.formula = "y ~ q + (1 | school)": uses q, which is no predictor of the study; add [predictors.q]',
    ),
    (
        {"method/0/formula": "y ~ x + * (1 | school)"},
        'method.reml.formula = "y ~ x + * (1 | school)": "*" needs a term on its left; add one or remove the "*"',
    ),
    # axes: values
    ({"grid/icc": [0.1, 1.0]}, f"grid.icc = 1.0: every value must be {SHARE}"),
    ({"grid/icc": [-0.1]}, f"grid.icc = -0.1: every value must be {SHARE}"),
    ({"grid/icc": [float("nan")]}, f"grid.icc = nan: every value must be {SHARE}"),
    ({"grid/icc": []}, "grid.icc = []: must be a list of at least one value; list values or remove it"),
    ({"grid/icc": 0.3}, "grid.icc = 0.3: must be a list of at least one value; write [0.3]"),
    (
        {"grid/truth/fixed": {}},
        "grid.truth.fixed = {}: must be a list of at least one value; list values or remove it",
    ),
    ({"grid/clusters": [10, 1]}, f"grid.clusters = 1: every value {CLUSTERS}; write 20, say"),
    ({"grid/clusters": [10, "20"]}, f'grid.clusters = "20": every value {CLUSTERS}; write 20 without quotes'),
    (
        {"grid/truth.fixed.x": [0, 1, 0.0]},
        "grid.truth.fixed.x = [0, 1, 0.0]: must have every value once; remove the second 0.0",
    ),
    (
        {"grid/slope_correlation": [2]},
        "grid.slope_correlation = 2: every value must be a number from -1 to 1; write 0.3, say",
    ),
    (
        {"grid/variance_ratio": [-1]},
        "grid.variance_ratio = -1: every value must be a finite number >= 0; write 0.5, say",
    ),
    (
        {"grid/truth.residual_variance": [0]},
        "grid.truth.residual_variance = 0: every value must be a finite number > 0; write 1, say",
    ),
    (
        {"grid/predictors.x.level": [3]},
        "grid.predictors.x.level = 3: every value must be 1 (varies within clusters), 2 (between them), or a factor of "
        "[design.factors]; write 1 or 2",
    ),
    (
        {R: NONE, "grid": {f"{SCHOOL}.covariance": [[[1, 2], [2, 1]]]}},
        f"grid.{SCHOOL}.covariance = [[1, 2], [2, 1]]: every value must be positive semi-definite; "
        "bring the value for Intercept and x within +-sqrt(variance x variance)",
    ),
    (
        {"grid": {"clusters": list(range(2, 1002)), "truth.fixed.x": list(range(101))}},
        "grid has 101000 conditions: at most 100000 are possible; split the study",
    ),
    # axes: names
    ({"grid/clutsers": [10]}, 'grid.clutsers = [10]: names nothing that can vary; did you mean "clusters"?'),
    (
        {"grid/truth/fixd/x": [1]},
        'grid.truth.fixd.x = [1]: names nothing that can vary; did you mean "truth.fixed.x"?',
    ),
    (
        {"grid/truth.fixed.w": [1]},
        "grid.truth.fixed.w = [1]: names nothing that can vary; "
        "use one of truth.fixed.Intercept, truth.fixed.x, truth.fixed.z",
    ),
    (
        {"grid/predictors.w.sd": [1]},
        "grid.predictors.w.sd = [1]: names nothing that can vary; use clusters, cluster_size, icc, variance_ratio, "
        "slope_variance_ratio, slope_correlation or a dotted path such as truth.fixed.z",
    ),
    (
        {"grid/truth.formula": ["y ~ x + (1 | school)"]},
        'grid.truth.formula = ["y ~ x + (1 | school)"]: the formula is the same in all conditions; '
        "keep every term and vary its true value (0 removes it)",
    ),
    (
        {"grid/seed": [1, 2]},
        "grid.seed = [1, 2]: seed is the same in all conditions; remove it here, and run one study per seed if you must",
    ),
    (
        {"grid/method.reml.df": ["z"]},
        'grid.method.reml.df = ["z"]: method is the same in all conditions; remove it here, and run one study per '
        "method if you must",
    ),
    (
        {"truth/formula": "y ~ x + z + (0 + x | school)", R: {"variance": {"x": 1}}, "grid/icc": [0.1]},
        "grid.icc = [0.1]: needs a random intercept, which y ~ 1 + x + z + (0 + x | school) has not; "
        "write (1 + ... | school)",
    ),
    (
        {
            "truth/formula": "y ~ x + z + (1 | school)",
            R: {"variance": {"Intercept": 1}},
            "grid/slope_variance_ratio": [0.1],
        },
        "grid.slope_variance_ratio = [0.1]: needs a random intercept and one random slope, unlike "
        "y ~ 1 + x + z + (1 | school); name the variance by its dotted path",
    ),
    (
        {"truth/formula": APART, R: {"variance": {"Intercept": 1, "x": 1}}, "grid/slope_correlation": [0.1]},
        "grid.slope_correlation = [0.1]: needs an intercept and one slope in one random term, unlike "
        "y ~ 1 + x + z + (1 | school) + (0 + x | school); write (1 + x | school)",
    ),
    (
        {f"grid/{SCHOOL}.sd.x": [1]},
        f"grid.{SCHOOL}.sd.x = [1]: the file gives {SCHOOL}.variance; name {SCHOOL}.variance.<column>, "
        f"or give {SCHOOL}.sd in the file",
    ),
    (
        {R: {"sd": {"Intercept": 1, "x": 1}}, f"grid/{SCHOOL}.variance.x": [1]},
        f"grid.{SCHOOL}.variance.x = [1]: the file gives {SCHOOL}.sd; name {SCHOOL}.sd.<column>, "
        f"or give {SCHOOL}.variance in the file",
    ),
    (
        {R: {"covariance": [[1, 0], [0, 1]]}, f"grid/{SCHOOL}.sd.x": [1]},
        f"grid.{SCHOOL}.sd.x = [1]: the file gives {SCHOOL}.covariance; name {SCHOOL}.variance.<column>, "
        f"or give {SCHOOL}.sd in the file",
    ),
    (
        {"grid/truth.residual_sd": [1]},
        "grid.truth.residual_sd = [1]: the file gives truth.residual_variance; name that, "
        "or give truth.residual_sd in the file",
    ),
    # axes: two that set one value
    (
        {"grid": {"icc": [0.1], "variance_ratio": [0.1]}},
        f"grid.variance_ratio = [0.1]: must be the only axis that sets {SCHOOL}.variance.Intercept; "
        'remove it or the axis "icc"',
    ),
    (
        {"grid": {"clusters": [10], "design.clusters": [10]}},
        "grid.design.clusters = [10]: must be the only axis that sets design.clusters; "
        'remove it or the axis "clusters"',
    ),
    (
        {"grid": {"truth.fixed.x": [1], "truth": {"fixed": {"x": [2]}}}},
        "grid.truth.fixed.x = [2]: must be the only axis that sets truth.fixed.x; "
        'remove it or the axis "truth.fixed.x"',
    ),
    (
        {"grid": {"slope_correlation": [0.1], f"{SCHOOL}.correlation.x:Intercept": [0.2]}},
        f"grid.{SCHOOL}.correlation.x:Intercept = [0.2]: must be the only axis that sets "
        f'{SCHOOL}.correlation.Intercept:x; remove it or the axis "slope_correlation"',
    ),
    (
        {R: NONE, "grid": {"icc": [0.1], f"{SCHOOL}.covariance": [[[1, 0], [0, 1]]]}},
        f"grid.{SCHOOL}.covariance = [[[1, 0], [0, 1]]]: must be the only axis that sets {SCHOOL}.variance.Intercept; "
        'remove it or the axis "icc"',
    ),
    (
        {"grid": {"cases": [{"icc": 0.1}], "variance_ratio": [0.2]}},
        f"grid.variance_ratio = [0.2]: must be the only axis that sets {SCHOOL}.variance.Intercept; "
        'remove it or the axis "icc"',
    ),
    # cases
    ({"grid/cases": []}, "grid.cases = []: must be a list of at least one table; write [[grid.cases]] before each"),
    (
        {"grid/cases": {"icc": 0.1}},
        'grid.cases = {"icc": 0.1}: must be a list of at least one table; write [[grid.cases]] before each',
    ),
    (
        {"grid/cases": [{"icc": 0.1}, {"clusters": 10}]},
        'grid.cases.2 = {"clusters": 10}: all cases must name the same axes, at least one; make all like the first: icc',
    ),
    (
        {"grid/cases": [{}]},
        "grid.cases.1 = {}: all cases must name the same axes, at least one; make all like the first: give it an axis",
    ),
    ({"grid/cases": [{"icc": 0.1}, {"icc": 1.5}]}, f"grid.cases.2.icc = 1.5: must be {SHARE}"),
    ({"grid/cases": [{"icc": [0.1]}]}, f"grid.cases.1.icc = [0.1]: must be {SHARE}"),
    (
        {"grid/cases": [{"icc": 0.1}, {"icc": 0.1}]},
        'grid.cases.2 = {"icc": 0.1}: must be there once; it repeats case 1: remove it',
    ),
    (
        {"grid/cases": [{"icc": 0.1, "variance_ratio": 1}]},
        f"grid.cases.1.variance_ratio = 1: must be the only axis that sets {SCHOOL}.variance.Intercept; "
        'remove it or the axis "icc"',
    ),
    ({"grid/cases": [{"iccc": 0.1}]}, 'grid.cases.1.iccc = 0.1: names nothing that can vary; did you mean "icc"?'),
    # points of the grid
    (
        {"grid": {"icc": [0.1, 0], "slope_correlation": [0, 0.1]}},
        "grid has the same truth at icc = 0.0, slope_correlation = 0.0 and at icc = 0.0, slope_correlation = 0.1: "
        "all conditions must be different; keep one of each pair, by [[grid.cases]]",
    ),
    (
        {
            "truth/formula": THREE,
            "predictors/w": LEVEL_1,
            f"{R}/variance/w": 1,
            f"{R}/correlation": {"Intercept:x": 0.9, "x:w": -0.9},
            "grid": {"clusters": [20, 30], f"{SCHOOL}.correlation.w:Intercept": [-0.9, 0.9]},
        },
        '... "Intercept:w": 0.9, "x:w": -0.9}: must be a positive semi-definite matrix (its smallest eigenvalue is -0.8); '
        "bring the correlations nearer 0, times 0.555 say (at clusters = 20, "
        f"{SCHOOL}.correlation.w:Intercept = 0.9, and 1 more conditions)",
    ),
    (
        {"grid/cluster_size": [[3] * 20, [3] * 10]},
        "design.cluster_size = [3, 3, 3, 3, 3, 3, 3, 3, 3, 3]: must have one size per cluster, 20 (design.clusters) "
        "and not 10; correct the list or the number of clusters "
        '(at cluster_size = "[3, 3, 3, 3, 3, 3, 3, 3, 3, 3]")',
    ),
    (
        {"grid/predictors.x.distribution": ["normal", "t"]},
        'predictors.x.df is missing: distribution = "t" needs it; add df = 5, say (at predictors.x.distribution = "t")',
    ),
    (
        {"grid/variance_ratio": [1, 1e308], "truth/residual_variance": 100},
        f"{SCHOOL}.variance.Intercept = inf: must be a finite number >= 0; lower the ratio or the variance "
        "(at variance_ratio = 1e+308)",
    ),
    # inference of a method
    (
        {"method/0/df": "kenward-roger", "method/0/reml": False},
        'method.reml.df = "kenward-roger": must leave out "kenward-roger", which needs REML; remove reml = false, or write '
        '"satterthwaite"',
    ),
    (
        {"method/0/df": ["z", "satterthwaite"], "method/0/estimator": "statsmodels"},
        'method.reml.df = ["z", "satterthwaite"]: must be "z", "residual" or "between-within" for estimator = "statsmodels"; '
        "write one of these, or remove df",
    ),
    (
        {"method/0/intervals": "profile", "method/0/estimator": "statsmodels"},
        'method.reml.intervals = "profile": needs estimator = "lmm"; remove one of the two',
    ),
    (
        {"method/0/variance_intervals": "profle"},
        'method.reml.variance_intervals = "profle": must be "wald", "wald-log", "profile", "profile-reml" or "bootstrap"; '
        'did you mean "profile"?',
    ),
    (
        {"method/0/variance_intervals": "wald", "method/0/estimator": "statsmodels"},
        'method.reml.variance_intervals = "wald": needs estimator = "lmm"; remove one of the two',
    ),
    (
        {"method/0/draws": 999},
        "method.reml.draws = 999: is for the bootstrap and exact tests, and there is none; remove it",
    ),
    # estimators that work on rows
    (
        {"method/0/estimator": "gls", "method/0/robust": "CR1"},
        'method.reml.robust = "CR1": needs estimator = "lmm", "ols", "fixed-effects" or "cluster-means"; remove one of the two',
    ),
    (
        {"method/0/estimator": "gls", "method/0/df": "residual"},
        'method.reml.df = "residual": must be "z" for estimator = "gls"; write it, or remove df',
    ),
    (
        {"method/0/estimator": "gls", "prior": {"icc": {"distribution": "beta", "mean": 0.1, "sd": 0.05}}},
        'method.reml.estimator = "gls": knows the variances, and a prior draws truth.random.school.variance.Intercept anew in '
        "each replicate; remove the prior, or the method",
    ),
    (
        {"method/0/estimator": "gge"},
        f'method.reml.estimator = "gge": must be {ESTIMATORS}; did you mean "gee"?',
    ),
    (
        {"method/0/working": "ar"},
        'method.reml.working = "ar": must be "exchangeable", "independence" or "ar1"; did you mean "ar1"?',
    ),
    ({"method/0/working": "ar1"}, 'method.reml.working = "ar1": needs estimator = "gee"; add it, or remove this'),
    (
        {"method/0/covariance": "naive"},
        'method.reml.covariance = "naive": needs estimator = "gee"; add it, or remove this',
    ),
    (
        {"method/0/estimator": "gee", "method/0/reml": False},
        'method.reml.reml = false: needs estimator = "lmm" or "statsmodels"; remove one of the two',
    ),
    (
        {"method/0/estimator": "gee", "method/0/singular_df": "refit"},
        'method.reml.singular_df = "refit": needs estimator = "lmm" or "statsmodels"; remove one of the two',
    ),
    (
        {"method/0/estimator": "gee", "method/0/df": "satterthwaite"},
        'method.reml.df = "satterthwaite": must be "z", "residual" or "between-within" for estimator = "gee"; write one of '
        "these, or remove df",
    ),
    (
        {"method/0/estimator": "gee", "method/0/df": ["z", "clusters"]},
        'method.reml.df = ["z", "clusters"]: must be "z", "residual" or "between-within" for estimator = "gee"; write one of '
        "these, or remove df",
    ),
    (
        {"method/0/select": "lrt", "method/0/compare": INTERCEPT_ONLY, "method/0/robust": "CR2"},
        'method.reml.robust = "CR2": must not stand beside compare, for it changes no likelihood ratio; remove one of the two',
    ),
    (
        {"method/0/estimator": "gee", "method/0/robust": "CR2"},
        'method.reml.robust = "CR2": needs estimator = "lmm", "ols", "fixed-effects" or "cluster-means"; remove one of '
        "the two",
    ),
    (
        {"method/0/estimator": "gee", "method/0/compare": "y ~ x + (1 | school)"},
        'method.reml.compare = "y ~ x + (1 | school)": needs estimator = "lmm"; remove one of the two',
    ),
    (
        {"method/0/estimator": "gee", "method/0/formula": "y ~ x + z + (1 | class)"},
        'method.reml.formula = "y ~ x + z + (1 | class)": must have the grouping factor of truth.formula; write school for class',
    ),
    (
        {"method/0/estimator": "gee", "method/0/formula": "y ~ x + w"},
        'method.reml.formula = "y ~ x + w": uses w, which is no predictor of the study; add [predictors.w]',
    ),
    (
        {"method/0/estimator": "function"},
        'method.reml.function is missing: estimator = "function" calls it; add function = "module:function"',
    ),
    (
        {"method/0/function": "a:b"},
        'method.reml.function = "a:b": needs estimator = "function"; add it, or remove this',
    ),
    (
        {"method/0/estimator": "function", "method/0/function": "a:b", "method/0/df": "residual"},
        'method.reml.df = "residual": is not nestlab\'s to choose here: the function gives the degrees of freedom; remove it',
    ),
    (
        {
            "method/0/estimator": "function",
            "method/0/function": "a:b",
            "contrast": [{"name": "c", "weights": {"x": 1}}],
        },
        "contrast.c.weights is estimated by no method: none has all of x in its formula; add one",
    ),
    # a model chosen by the data
    ({"method/0/select": "bic"}, 'method.reml.select = "bic": must be "lrt" or "aic"; did you mean "aic"?'),
    (
        {"method/0/select": "aic"},
        'method.reml.select = "aic": needs the smaller model; add compare = "y ~ x + (1 | cluster)", say, or remove it',
    ),
    (
        {"method/0/select": "lrt", "method/0/estimator": "gee"},
        'method.reml.select = "lrt": needs estimator = "lmm"; remove one of the two',
    ),
    (
        {"method/0/select_alpha": 0.1},
        'method.reml.select_alpha = 0.1: is the level of a selecting test, and there is none; add select = "lrt", or remove it',
    ),
    (
        {"method/0/select": "aic", "method/0/compare": INTERCEPT_ONLY, "method/0/select_alpha": 0.1},
        'method.reml.select_alpha = 0.1: is the level of a selecting test, and there is none; add select = "lrt", or remove it',
    ),
    (
        {"method/0/select": "aic", "method/0/compare": INTERCEPT_ONLY, "method/0/reference": "chisq"},
        'method.reml.reference = "chisq": judges a test, and select = "aic" makes none; remove it, or write select = "lrt"',
    ),
    (
        {"method/0/select": "lrt", "method/0/compare": INTERCEPT_ONLY, "method/0/intervals": "profile"},
        'method.reml.intervals = "profile": must be absent beside select, which reports t intervals; remove it',
    ),
    (
        {"method/0/select": "lrt", "method/0/compare": INTERCEPT_ONLY, "method/0/variance_intervals": "wald"},
        'method.reml.variance_intervals = "wald": must be absent beside select, which reports t intervals; remove it',
    ),
    (
        {"method/0/select": "lrt", "method/0/compare": "y ~ x + (1 + x | school)"},
        'method.reml.compare = "y ~ x + (1 + x | school)": needs reml = false, for restricted likelihoods of different '
        "fixed effects can't be compared; add it",
    ),
    (
        {"method/0/reference": "exact"},
        'method.reml.reference = "exact": judges a likelihood ratio, and there is none; add compare',
    ),
    (
        {"method/0/compare": "y ~ z + (1 + x | school)"},
        'method.reml.compare = "y ~ z + (1 + x | school)": needs reml = false, for restricted likelihoods of different fixed '
        "effects can't be compared; add it",
    ),
    (
        {"method/0/compare": "y ~ x + z"},
        '... must be "bootstrap" for a test of var:school:Intercept, cov:school:Intercept:x, var:school:x, which has no known '
        "large-sample distribution; write it",
    ),
    (
        {"method/0/compare": "y ~ x + z + (1 | school)", "method/0/reference": "exact"},
        'method.reml.reference = "exact": must be "asymptotic" or "bootstrap" here: the exact test is of the only random column, '
        "against none, by REML; write one of these",
    ),
    (
        {"method/0/compare": "y ~ x + z + (1 + x | school)"},
        "... are the same model: leave out of the null what is to be tested",
    ),
    # contrasts
    ({"contrast": [{"weights": {"x": 1}}]}, '... name is missing; add name = "simple slope"'),
    (
        {"contrast": [{"name": "x", "weights": {"x": 1}}]},
        'contrast.x.name = "x": must not be the name of a fixed effect or of another estimand; rename it',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}}, {"name": "a", "weights": {"z": 1}}]},
        'contrast.a.name = "a": must be a name of its own, and is given twice; rename one',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"xx": 1}}]},
        'contrast.a.weights.xx = 1: must be a fixed effect of a formula; did you mean "x"?',
    ),
    (
        {"contrast": [{"name": "a", "weights": [{"x": 1}, {"x": 2}]}]},
        "contrast.a.weights must be rows that do not depend on one another; remove those that follow from the others",
    ),
    (
        {"contrast": [{"name": "a", "weights": [{"x": 1}, {"z": 1}], "alternative": "less"}]},
        "contrast.a is a joint test, which has no alternative; remove it, or give one row of weights",
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "margin": 0.2}]},
        'contrast.a.margin belongs to test = "non-inferiority" or "equivalence"; add test, or remove it',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "test": "equivalence"}]},
        'contrast.a.margin is missing: test = "equivalence" needs it; add margin = 0.2, say',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "test": "equivalence", "margin": 1, "alternative": "less"}]},
        'contrast.a.alternative has no meaning for test = "equivalence"; remove it',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "test": "non-inferiority", "margin": [-1, 1]}]},
        'contrast.a must have one margin, and alternative = "greater" (larger is better) or "less"; correct them',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "test": "non-inferiority", "margin": 1, "null": 2}]},
        'contrast.a.null = 2: must be absent for test = "non-inferiority": margin says it; remove it',
    ),
    (
        {"contrast": [{"name": "a", "weights": {"x": 1}, "test": "superiority"}]},
        'contrast.a.test = "superiority": must be "difference", "non-inferiority" or "equivalence"; did you mean '
        '"non-inferiority"?',
    ),
    (
        {
            "contrast": [{"name": "a", "weights": {"x": 1}, "standardise": "total"}],
            "method/0/formula": "y ~ x + (0 + x | school)",
        },
        'contrast.a.weights is estimated by no method: none has all of x in its formula, estimator = "lmm" and a random '
        "intercept; add one",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_study_is_refused(changes: dict[str, Any], message: str) -> None:
    """One problem, one line: nothing follows from it that is reported too."""
    (line,) = problems(changes)
    if message.startswith("... "):
        assert line.endswith(message[4:])
    else:
        assert line == message


def test_predictor_of_another_case_is_proposed() -> None:
    balanced = {"level": 2, "distribution": "balanced"}
    assert problems({"predictors/z": NONE, "predictors/Z": balanced}) == [
        'predictors.Z is used by no formula; did you mean "z"?'
    ]


SPELLED: dict[str, Any] = {
    "name": "s",
    "seed": 1,
    "replications": 10,
    "design": {"clusters": 10, "cluster_size": 5},
    "truth": {
        "formula": "y ~ treatment*score + (1 + score | school)",
        "fixed": {"Intercept": 0, "treatment": 1, "score": 0.5, "treatment:score": 0.1},
        "random": {"school": {"variance": {"Intercept": 1, "score": 0.2}, "correlation": {"Intercept:score": 0.1}}},
        "residual_variance": 1,
    },
    "predictors": {
        "treatment": {"level": 2, "distribution": "balanced"},
        "score": {"level": 1, "distribution": "normal"},
    },
    "method": [{"name": "m", "formula": "y ~ treatment + score + (1 + score | school)"}, {"name": "k"}],
    "contrast": [{"name": "c", "weights": {"treatment": 1, "treatment:score": 1}}],
    "grid": {"icc": [0.1, 0.2]},
}
TYPOS = [
    ("truth/formula", "treatmnt*score", "truth.formula", "treatment"),
    ("truth/formula", "treatment*scor", "truth.formula", "score"),
    ("truth/formula", "(1 + scor |", "truth.formula", "score"),
    ("method/0/formula", "treatmnt +", "method.m.formula", "treatment"),
    ("method/0/formula", "(1 + scor |", "method.m.formula", "score"),
    ("predictors/treatment", "treatmnt", "predictors.treatmnt", "treatment"),
    ("predictors/score", "scores", "predictors.scores", "score"),
    ("truth/fixed/Intercept", "intercept", "truth.fixed.intercept", "Intercept"),
    ("truth/fixed/treatment", "treatmnt", "truth.fixed.treatmnt", "treatment"),
    ("truth/fixed/score", "scor", "truth.fixed.scor", "score"),
    ("truth/fixed/treatment:score", "treatmnt:score", "truth.fixed.treatmnt:score", "treatment:score"),
    ("truth/random/school/variance/score", "scor", "truth.random.school.variance.scor", "score"),
    ("truth/random/school/variance", "varance", "truth.random.school.varance", "variance"),
    ("truth/random", "randm", "truth.randm", "random"),
    ("truth/fixed", "fixd", "truth.fixd", "fixed"),
    ("truth/formula", None, "truth.formla", "formula"),
    ("truth", "thruth", "thruth", "truth"),
    ("predictors", "predictrs", "predictrs", "predictors"),
    ("predictors/score/distribution", "distrbution", "predictors.score.distrbution", "distribution"),
    ("design", "desgn", "desgn", "design"),
    ("design/clusters", "clutsers", "design.clutsers", "clusters"),
    ("seed", "sede", "sede", "seed"),
    ("method/0/name", "nme", "method.1.nme", "name"),
]


@pytest.mark.parametrize(("path", "word", "key", "meant"), TYPOS, ids=[f"{key}, {word}" for _, word, key, _ in TYPOS])
def test_a_mistyped_name_is_one_problem_with_one_repair(path: str, word: str | None, key: str, meant: str) -> None:
    made = copy.deepcopy(SPELLED)
    *tables, last = path.split("/")
    table: Any = made
    for name in tables:
        table = table[int(name) if name.isdigit() else name]
    if word is not None and last == "formula":
        right = word.replace("treatmnt", "treatment").replace("scor ", "score ")
        right = right + "e" if right.endswith("scor") else right
        assert right in table[last]
        table[last] = table[last].replace(right, word)
    else:
        table[word or "formla"] = table.pop(last)
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(made)
    (line,) = caught.value.problems
    assert line.startswith(key)
    assert line.endswith(f'did you mean "{meant}"?')


@pytest.mark.parametrize(
    "axis", ["truth.fixed.scor", "truth.fxed.score", "clutsers", "truth.random.school.variance.scor"]
)
def test_a_mistyped_axis_is_one_problem_though_nothing_else_gives_the_value(axis: str) -> None:
    made = copy.deepcopy(SPELLED)
    made["grid"] = {axis: [1, 2] if "clu" not in axis else [10, 20]}
    for table, key in ((made["truth"]["fixed"], "score"), (made["design"], "clusters")):
        if "variance" not in axis and (key == "clusters") == ("clu" in axis):
            del table[key]
    if "variance" in axis:
        del made["truth"]["random"]["school"]["variance"]["score"]
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(made)
    (line,) = caught.value.problems
    assert line.startswith(f"grid.{axis} = ")
    assert 'names nothing that can vary; did you mean "' in line


def test_a_variable_that_is_no_predictor_is_told_once() -> None:
    made = copy.deepcopy(SPELLED)
    made["predictors"].pop("treatment")
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(made)
    assert caught.value.problems == [
        'truth.formula = "y ~ treatment*score + (1 + score | school)": uses treatment, which is no predictor of the study; '
        "add [predictors.treatment]"
    ]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "design",
        "truth",
        "truth/fixed",
        "truth/random/school",
        "predictors",
        "predictors/score",
        "grid",
        "correlation",
    ],
)
def test_fifty_thousand_unknown_keys_are_told_at_once(path: str) -> None:
    """10 s and more where a near key was looked for for each."""
    made = copy.deepcopy(SPELLED)
    table: Any = made
    for name in filter(None, path.split("/")):
        table = table.setdefault(name, {})
    table |= {f"key{k}": 1 for k in range(50_000)}
    start = time.process_time()
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(made)
    assert time.process_time() - start < 1
    (line,) = caught.value.problems
    assert ", and at most 5000 are possible; remove those that no study has" in line
    assert line.startswith(f"{path.replace('/', '.')}.key49999 is one of 500".lstrip("."))


def test_a_study_may_have_many_cases_and_methods() -> None:
    made = copy.deepcopy(SPELLED)
    made["grid"] = {"cases": [{"icc": k / 10_000} for k in range(1, 6001)]}
    made["method"] = [{"name": f"m{k}"} for k in range(300)]
    assert len(StudyFile.from_dict(made).methods()) == 300


def test_other_words_are_answered_with_ours() -> None:
    (line,) = problems({"predictors/x/distribution": "bernoulli"})
    assert line.endswith('; did you mean "binary"?')
    for word, ours in (
        ("coverage", 'did you mean "cover"?'),
        ("type1", TYPE_1),
        ("type I", TYPE_1),
        ("Type I error", TYPE_1),
    ):
        stopping = {"target_mcse": 0.005, "measure": word, "estimand": "x"}
        (line,) = problems({"replications": stopping})
        assert line.startswith(f'replications.measure = "{word}": must be a measure')
        assert line.endswith(ours)


TYPE_1 = 'did you mean "power"? It is the type I error rate where the true effect is 0'


def test_all_problems_come_together() -> None:
    changes = {
        "seed": "x",
        "design/clutsers": 3,
        "truth/fixed/x": float("nan"),
        "truth/fixed/q": 1,
        "predictors/z/level": 0,
        "method/0/df": "t",
        "grid": {"iccc": [1], "icc": [2]},
    }
    keys = [line.split(" = ")[0] for line in problems(changes)]
    assert keys == [
        "seed",
        "design.clutsers",
        "truth.fixed.x",
        "predictors.z.level",
        "method.reml.df",
        "truth.fixed.q",
        "grid.iccc",
        "grid.icc",
    ]


def test_many_points_with_one_trouble_are_summed_up() -> None:
    lines = problems({"grid": {"clusters": [10, 20, 30, 40, 50], "cluster_size": [2, 5]}})
    assert len(lines) == 4
    assert lines[0].endswith("(at clusters = 10, cluster_size = 2)")
    assert lines[-1] == "truth.formula has the same trouble in other conditions (2 more); correct the grid or the file"


def test_ambiguous_correlation_is_sent_to_covariance() -> None:
    columns = "0 + a + b:c + a:b + c"
    tables = study(
        {
            "truth/formula": f"y ~ a + ({columns} | school)",
            "truth/fixed": {"Intercept": 1, "a": 1},
            "truth/random": {
                "school": {"variance": {"a": 1, "c": 1, "a:b": 1, "b:c": 1}, "correlation": {"a:b:c": 0.1}}
            },
            "predictors": dict.fromkeys("abc", LEVEL_1),
        }
    )
    with pytest.raises(StudyError) as caught:
        StudyFile.from_dict(tables)
    assert caught.value.problems == [
        "truth.random.school.correlation.a:b:c = 0.1: must name two random columns, and a:b:c may be read in two ways "
        "in (0 + a + c + b:c + a:b | school); give covariance instead"
    ]


def refused_file(path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        StudyFile.from_toml(path)
    (line,) = caught.value.problems
    return line


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "article.toml").write_text("", encoding="utf-8")
    wrong = tmp_path / "artcle.toml"
    assert refused_file(wrong) == (
        f'study file {wrong}: there is no such file; did you mean "{tmp_path / "article.toml"}"?'
    )
    lost = tmp_path / "no" / "study.toml"
    assert refused_file(lost) == f"study file {lost}: there is no such file; check the path"
    assert refused_file(tmp_path) == f"study file {tmp_path}: is a folder; name a .toml file in it"
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name = "é"'.encode("latin-1"))
    assert refused_file(latin) == (
        f"study file {latin}: must be UTF-8 text, and has byte 0xe9 at position 8; save it as UTF-8"
    )


@pytest.mark.parametrize(
    ("text", "number", "line"),
    [
        ('name = "a"\nseed = = 3\n', 2, '"seed = = 3"'),
        ('name = "a"\n\nname = "b"\n', 3, '"name = \\"b\\""'),
        ("name = a b\n", 1, '"name = a b"'),
        ("[design\nclusters = 3\n", 1, '"[design"'),
        ('name = "a"\n[design]\nclusters = [1,', 3, '"clusters = [1,"'),
    ],
)
def test_toml_errors_show_the_line(tmp_path: Path, text: str, number: int, line: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    message = refused_file(path)
    assert message.startswith(f"study file {path}, line {number}: must be TOML, and {line} is not (")
    assert message.endswith("); correct that line")


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    path = tmp_path / "study.toml"
    path.touch()
    assert refused_file(path) == f"study file {path}: cannot be read (Permission denied); check its permissions"


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(StudyError, match="study = list: must be a dictionary of tables; read a file by from_toml"):
        StudyFile.from_dict([BASE])  # type: ignore[arg-type]


def paths(tables: Any, prefix: str = "") -> list[str]:
    if isinstance(tables, list):
        tables = {str(i): table for i, table in enumerate(tables)}
    if not isinstance(tables, dict):
        return []
    return [path for key, value in tables.items() for path in (prefix + key, *paths(value, f"{prefix}{key}/"))]


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 30),
    st.floats(),
    st.sampled_from(["normal", "y ~ x + (1 | school)", "x", "", "\n"]),
    st.lists(st.integers(-1, 3), max_size=3),
    st.dictionaries(st.sampled_from(["x", "Intercept", "icc", "clusters", "no"]), st.integers(-1, 3), max_size=2),
)
WHOLE = {**BASE, "grid": {"icc": [0.1, 0.2], "truth.fixed.x": [0, 1], "cases": [{"clusters": 10, "cluster_size": 5}]}}


def replace(tables: Any, words: list[str], value: Any) -> None:
    """Change a value, where it is still there after earlier changes."""
    if isinstance(tables, list) and words[0].isdigit() and int(words[0]) < len(tables):
        key: Any = int(words[0])
    elif isinstance(tables, dict) and words[0] in tables:
        key = words[0]
    else:
        return
    if len(words) == 1:
        tables[key] = value
    else:
        replace(tables[key], words[1:], value)


@given(st.dictionaries(st.sampled_from(paths(WHOLE)), ANYTHING, min_size=1, max_size=3))
def test_any_value_anywhere_is_read_or_refused_in_lines(changes: dict[str, Any]) -> None:
    """Never another exception, and what is accepted expands."""
    tables = copy.deepcopy(WHOLE)
    for path, value in changes.items():
        replace(tables, path.split("/"), value)
    lines = []
    try:
        count = len(StudyFile.from_dict(tables).conditions())
    except StudyError as error:
        lines, count = error.problems, 1
    assert count >= 1
    assert all("\n" not in line for line in lines)
