"""The first numbers of every kind of draw, as stored in first_draws.json.

Results on disk are continued by drawing on, so a key must give the same numbers for ever. Where a test here fails because draws
have changed on purpose, raise DRAW_VERSION (spec/identity.py), which gives every condition a new key, and store the new draws:
`python tests/golden/test_first_draws.py`. Words of streams are compared exactly; numbers to 1e-12, as processors differ in fused
multiply-add.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nestlab.simulate.deviates import chi_square, standard_normal
from nestlab.simulate.layout import compile_design
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.rows import RowSampler
from nestlab.simulate.streams import block_generator, fixed_generator
from nestlab.spec.identity import DRAW_VERSION, data_key, layout_key
from nestlab.spec.study import StudyFile

PATH = Path(__file__).parent / "first_draws.json"
KEY = "0123456789abcdef" * 4
NAMES = {"first": (0, KEY, 0), "a block": (707, KEY, 3), "a seed of two words": (2**64 - 1, KEY, 1)}
#: Replicates of a block of which the first and the last are stored.
REPLICATES, STORED = 32, [0, 31]

STUDY = {
    "name": "first-draws",
    "seed": 707,
    "replications": 1,
    "design": {"clusters": 4, "cluster_size": [1, 2, 3, 20]},
    "truth": {
        "formula": "y ~ a + b*s + f + t + x + (1 + a | g)",
        "fixed": dict.fromkeys(["Intercept", "a", "b", "s", "b:s", "f", "t", "x"], 0.5),
        "residual_variance": 2,
        "random": {"g": {"variance": {"Intercept": 1, "a": 0.5}, "correlation": {"Intercept:a": 0.25}}},
    },
    "predictors": {
        "a": {"level": 1, "distribution": "normal", "mean": 1, "sd": 2},
        "b": {"level": 1, "distribution": "balanced"},
        "f": {"level": 1, "distribution": "normal", "redraw": False},
        "s": {"level": 2, "distribution": "normal", "mean": -1},
        "t": {"level": 2, "distribution": "normal", "redraw": False},
        "x": {"level": 1, "distribution": "normal"},
    },
    "method": [{"name": "reml", "formula": "y ~ a + (1 | g)"}],
}
PRODUCT = STUDY | {
    "truth": STUDY["truth"]
    | {
        "formula": "y ~ a*x + b + f + s + t + (1 + a | g)",
        "fixed": dict.fromkeys(["Intercept", "a", "b", "s", "f", "t", "x", "a:x"], 0.5),
    }
}
VARIED = {
    **{key: STUDY[key] for key in ("name", "seed", "replications")},
    "design": {
        "clusters": 7,
        "cluster_size": {"arms": [{"distribution": "poisson", "mean": 4}, 3]},
    },
    "correlation": {"a:x": 0.4, "s:u": -0.3},
    "missing": {"clusters": 0.2},
    "truth": {
        "formula": "y ~ arm + within(a) + between(a) + center(x) + time + s + u + (1 + within(a) | g)",
        "fixed": dict.fromkeys(["Intercept", "arm", "within(a)", "between(a)", "center(x)", "time", "s", "u"], 0.5),
        "residual_variance": 2,
        "errors": {"variance_ratio": {"arm": 2}, "cluster_cv": 0.4},
        "random": {
            "g": {
                "variance": {"Intercept": 1, "within(a)": 0.5},
                "correlation": {"Intercept:within(a)": 0.25},
                "distribution": "gamma",
                "skewness": 1,
            }
        },
    },
    "method": [{"name": "reml", "formula": "y ~ within(a) + (1 | g)"}],
    "predictors": {
        "a": {"level": 1, "distribution": "normal", "mean": 1, "sd": 2, "icc": 0.3},
        "arm": {"level": 2, "distribution": "arms", "clusters": [4, 3]},
        "s": {"level": 2, "distribution": "lognormal", "skewness": 1},
        "time": {"level": 1, "distribution": "time"},
        "u": {"level": 2, "distribution": "binary", "share": 0.4},
        "x": {"level": 1, "distribution": "normal"},
    },
}


EVEN = {"design": {"clusters": 4, "cluster_size": [2, 2, 4, 20]}}
STUDIES = {
    "moments": (STUDY, MomentSampler),
    "rows": (PRODUCT, RowSampler),
    "varied": (VARIED, MomentSampler),
    "moments, even sizes": (STUDY | EVEN, MomentSampler),
    "rows, even sizes": (PRODUCT | EVEN, RowSampler),
}


def streams():
    """Of each stream: the seed sequence's words for the generator, and the generator's first ones."""
    return {
        name: {
            "state": [int(word) for word in block_generator(*words).bit_generator.state["state"]["state"]],
            "first": [int(word) for word in block_generator(*words).bit_generator.random_raw(3)],
        }
        for name, words in NAMES.items()
    }


def deviates():
    return {
        "normal": standard_normal(block_generator(1, KEY, 0), (5,)).tolist(),
        "the 1,000,000th normal": standard_normal(block_generator(1, KEY, 0), (1_000_000,))[-1:].tolist(),
        "chi_square": chi_square(block_generator(1, KEY, 0), np.array([1, 2, 3, 40]), 2).ravel().tolist(),
        "fixed": standard_normal(fixed_generator(1, KEY), (3,)).tolist(),
    }


def conditions():
    found = {}
    for name, (study, sampler) in STUDIES.items():
        (condition,) = StudyFile.from_dict(study).conditions()
        key = data_key(condition)
        design = compile_design(condition)
        draw = sampler(design)(block_generator(condition.seed, key, 2), REPLICATES)
        found[name] = {
            "data_key": key,
            "layout_key": layout_key(condition, "f" if "f" in study["predictors"] else "arm"),
            "columns": list(design.columns),
            "known_rows": design.known_rows.tolist(),
            **{array: getattr(draw, array)[..., STORED].tolist() for array in ("dd", "de", "ee", "u", "z")},
        }
    return found


def first_draws():
    return {"draw_version": DRAW_VERSION, "streams": streams(), "deviates": deviates(), "conditions": conditions()}


GOLDEN = {} if __name__ == "__main__" else json.loads(PATH.read_text())


def test_draw_version():
    assert GOLDEN["draw_version"] == DRAW_VERSION, "store the draws of this version: see the top of this file"


def test_streams():
    assert streams() == GOLDEN["streams"]


@pytest.mark.parametrize("kind", ["normal", "the 1,000,000th normal", "chi_square", "fixed"])
def test_deviates(kind):
    assert_allclose(deviates()[kind], GOLDEN["deviates"][kind], rtol=1e-12)


@pytest.mark.parametrize("path", STUDIES)
def test_conditions(path):
    found, expected = conditions()[path], GOLDEN["conditions"][path]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value[0], str):
            assert found[name] == value, name
        else:
            assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


if __name__ == "__main__":
    PATH.write_text(json.dumps(first_draws(), indent=1) + "\n")
