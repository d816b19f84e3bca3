"""The first numbers of rows of any kind, of distributions and of drawn sizes, as stored in first_rows.json.

Where a test here fails because draws have changed on purpose, raise DRAW_VERSION (spec/identity.py) and store the new draws:
`python tests/golden/test_first_rows.py`. Where they change for some conditions only, these get a rule of `identity.draw_rules`,
and so another key: the errors of "observed", "missing at random" and "dropout" were stored again when autocorrelated errors came
to have their distribution in every row; those of the other studies are as they were before that. Numbers are compared to 1e-9,
the error of the tables of quantiles, as SciPy's special functions may come to differ in last digits.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nestlab.simulate.distributions import transform
from nestlab.simulate.layout import compile_design
from nestlab.simulate.long import LongSampler
from nestlab.simulate.sizes import draw_sizes, fixed_sizes
from nestlab.simulate.streams import block_generator
from nestlab.spec.identity import DRAW_VERSION
from nestlab.spec.model import Distribution, Layout, Sizes
from nestlab.spec.study import StudyFile

PATH = Path(__file__).parent / "first_rows.json"
KEY = "0123456789abcdef" * 4
#: Replicates of a block of which the first and the last are stored.
REPLICATES, STORED = 16, [0, 15]

KINDS = {
    "uniform": {},
    "t": {"df": 5.0},
    "skew-normal": {"skewness": 0.8},
    "gamma": {"skewness": 2.0},
    "lognormal": {"skewness": -1.0},
    "chi-square": {"df": 3.0},
    "contaminated": {"share": 0.1, "ratio": 3.0},
}
SIZES = {
    "poisson": Sizes("poisson", 8.0),
    "negative-binomial": Sizes("negative-binomial", 8.0, 0.6),
    "uniform": Sizes("uniform", 8.0, 0.4),
    "lognormal": Sizes("lognormal", 8.0, 0.5, redraw=False),
    "empirical": Sizes("empirical", values=(3, 5, 5, 9)),
}
PREDICTORS = {
    "x": {"level": 1, "distribution": "gamma", "skewness": 2, "icc": 0.2, "mean": 1, "sd": 2},
    "v": {"level": 1, "distribution": "binary", "share": 0.3},
    "k": {"level": 1, "distribution": "categorical", "categories": ["a", "b", "c"], "shares": [0.2, 0.3, 0.5]},
    "time": {"level": 1, "distribution": "time"},
    "w": {"level": 2, "distribution": "lognormal", "skewness": 1},
}
TERMS = ["Intercept", "within(x)", "between(x)", "v", "k[b]", "k[c]", "time", "w", "v:w"]
STUDY = {
    "name": "first-rows",
    "seed": 707,
    "replications": 1,
    "design": {"clusters": 4, "cluster_size": {"distribution": "poisson", "mean": 6}},
    "truth": {
        "formula": "y ~ within(x) + between(x) + v*w + k + time + (1 + within(x) | g)",
        "fixed": dict.fromkeys(TERMS, 0.5),
        "residual_variance": 2,
        "errors": {"distribution": "t", "df": 5, "ar1": 0.4, "cluster_cv": 0.3, "variance_ratio": {"v": 2}},
        "random": {"g": {"variance": {"Intercept": 1, "within(x)": 0.5}, "distribution": "uniform"}},
    },
    "predictors": PREDICTORS,
    "correlation": {"v:x": 0.3},
}
NORMAL_ERRORS = {"ar1": 0.4, "cluster_cv": 0.3, "variance_ratio": {"v": 2}}
STUDIES = {
    "observed": STUDY,
    "normal errors": STUDY | {"truth": STUDY["truth"] | {"errors": NORMAL_ERRORS}},
    "independent errors": STUDY | {"truth": STUDY["truth"] | {"errors": {"distribution": "t", "df": 5}}},
    "missing at random": STUDY | {"missing": {"rows": 0.1, "clusters": 0.1, "hazard": 0.1}},
    "dropout": STUDY
    | {"missing": {"weibull": {"scale": 5, "shape": 1.5}, "at_random": {"on": "previous", "intercept": -2, "slope": 0.5}}},
}  # fmt: skip


def distributions():
    g = np.array([-3.0, -0.5, 0.0, 1.0, 4.0])
    return {kind: transform(Distribution(kind, tuple(words.items())))(g).tolist() for kind, words in KINDS.items()}


def sizes():
    (condition,) = StudyFile.from_dict(STUDY).conditions()
    found = {}
    for name, drawn in SIZES.items():
        layout = Layout((8,) * 5, ((5, drawn),))
        fixed = fixed_sizes(type(condition)({}, 707, layout, condition.truth, (), "rows", 16))
        found[name] = draw_sizes(layout, fixed, block_generator(707, KEY, 0), 2).tolist()
    return found


def rows(name):
    (condition,) = StudyFile.from_dict(STUDIES[name]).conditions()
    draw = LongSampler(compile_design(condition))(block_generator(condition.seed, KEY, 2), REPLICATES)
    parts = {part: getattr(draw, part)[..., STORED].tolist() for part in ("dd", "de", "ee", "u", "z")}
    return {"path": condition.path, **parts}


def first_rows():
    return {
        "draw_version": DRAW_VERSION,
        "distributions": distributions(),
        "sizes": sizes(),
        "rows": {name: rows(name) for name in STUDIES},
    }


GOLDEN = {} if __name__ == "__main__" else json.loads(PATH.read_text())


def test_draw_version():
    assert GOLDEN["draw_version"] == DRAW_VERSION, "store the draws of this version: see the top of this file"


@pytest.mark.parametrize("kind", KINDS)
def test_distributions(kind):
    assert_allclose(distributions()[kind], GOLDEN["distributions"][kind], rtol=1e-9)


def test_sizes():
    assert sizes() == GOLDEN["sizes"]


@pytest.mark.parametrize("name", STUDIES)
def test_rows(name):
    found, expected = rows(name), GOLDEN["rows"][name]
    assert found["path"] == expected["path"] == "rows"
    for part in ("dd", "de", "ee", "u", "z"):
        assert_allclose(found[part], expected[part], rtol=1e-8, atol=1e-8, err_msg=part)


if __name__ == "__main__":
    PATH.write_text(json.dumps(first_rows(), indent=1) + "\n")
