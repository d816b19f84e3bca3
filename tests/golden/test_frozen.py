"""What 200 random studies are called and what the first of them give, as stored in frozen.json.

Stored results are found by key, so a study must have the same keys for ever; where a test here fails because identities or
estimates have changed on purpose, raise the versions of spec/identity.py and store again:
`PYTHONPATH=tests python tests/golden/test_frozen.py`.
Keys are compared exactly; estimates to 1e-6, as processors differ in fused multiply-add and searches stop within tolerances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestlab.run.block import compile_condition
from nestlab.run.plan import method_content
from nestlab.spec.identity import data_key, result_key
from nestlab.spec.study import StudyFile
from random_studies import random_studies

PATH = Path(__file__).parent / "frozen.json"
STUDIES, FITTED, REPLICATES = 200, 60, 3
#: How often a search stepped, and the words of other software, are not results.
NOT_COMPARED = ("iterations", "certificate", "message", "warnings")


def short(keys: Iterable[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:16]


def keys_of(study: StudyFile) -> dict[str, Any]:
    """Digests of the data keys, and by method of the result key and of what a manifest says of it."""
    return {
        "data": short(data_key(condition) for condition in study.conditions()),
        "results": {method.name: result_key("a", method)[:16] for method in study.methods()},
        "contents": short(json.dumps(method_content(method), sort_keys=True) for method in study.methods()),
    }


def rows_of(study: StudyFile) -> dict[str, dict[str, list[float | None]]]:
    """By method and column, the stored rows of the first replicates of the first design; None for nan."""
    methods = [method for method in study.methods() if method.estimator != "function"]
    tables = compile_condition(study.conditions()[0], methods).replicates(0, REPLICATES)
    return {
        method.name: {
            name: [None if np.isnan(v) else float(v) for v in np.asarray(values, dtype=float)]
            for name, values in table.items()
            if name not in NOT_COMPARED
        }
        for method, table in zip(methods, tables, strict=True)
    }


def frozen() -> dict[str, Any]:
    studies = {name: study for name, (_, study) in random_studies(STUDIES).items()}
    return {
        "keys": {name: keys_of(study) for name, study in studies.items()},
        "rows": {name: rows_of(study) for name, study in list(studies.items())[:FITTED]},
    }


@pytest.fixture(scope="module")
def studies() -> Mapping[str, StudyFile]:
    return {name: study for name, (_, study) in random_studies(STUDIES).items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(json.loads(PATH.read_text()))


def test_random_studies_keep_their_keys(studies: Mapping[str, StudyFile], golden: dict[str, Any]) -> None:
    assert list(golden["keys"]) == list(studies)
    for name, study in studies.items():
        assert keys_of(study) == golden["keys"][name], name


def test_the_random_studies_are_of_all_kinds(studies: Mapping[str, StudyFile]) -> None:
    """So that the others say something: estimators, distributions, paths, priors, axes."""
    methods = [method for study in studies.values() for method in study.methods()]
    firsts = [study.conditions()[0] for study in studies.values()]
    assert {m.estimator for m in methods} >= {
        *("lmm", "statsmodels", "gee", "function", "ols", "fixed-effects", "cluster-means", "gls"),
    }
    assert {m.select for m in methods} == {None, "lrt", "aic"}
    assert len({p.distribution for c in firsts for p in c.predictors}) >= 7
    assert {c.path for c in firsts} == {"moments", "rows"}
    assert sum(bool(c.priors) for c in firsts) > 5
    assert sum(c.missing is not None for c in firsts) > 20


def test_random_studies_keep_their_estimates(studies: Mapping[str, StudyFile], golden: dict[str, Any]) -> None:
    assert len(golden["rows"]) == FITTED
    for name, expected in golden["rows"].items():
        found = rows_of(studies[name])
        assert list(found) == list(expected), name
        for method, columns in expected.items():
            assert list(found[method]) == list(columns), (name, method)
            for column, values in columns.items():
                stored = np.array([np.nan if v is None else v for v in values])
                mine = np.array([np.nan if v is None else v for v in found[method][column]])
                np.testing.assert_allclose(mine, stored, rtol=1e-6, atol=1e-7, err_msg=f"{name} {method} {column}")


if __name__ == "__main__":
    text = json.dumps(frozen(), separators=(",", ":"))
    PATH.write_text(text.replace('},"', '},\n"') + "\n")
