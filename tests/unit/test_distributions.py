"""DISTRIBUTIONS is the one table of what predictors may be: everything else reads its rows."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import nestlab
from nestlab.simulate.known import between_values, known_columns
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Predictor, Truth
from nestlab.spec.predictors import DISTRIBUTIONS, SHAPES
from nestlab.spec.variances import PredictorMoments

PACKAGE = Path(nestlab.__file__).parent
#: Where these words name other things: distributions of priors and of cluster sizes, the key design.cluster_size.arms, and what
#: `nestlab new` offers.
OTHERS = {
    "spec/prior.py": {"normal", "uniform", "lognormal", "beta"},
    "spec/grid.py": {"normal", "beta"},
    "spec/sizes.py": {"uniform", "lognormal"},
    "spec/tables.py": {"uniform", "lognormal", "beta", "arms"},
    "spec/axes.py": {"arms"},
    "spec/reading.py": {"arms"},
    "simulate/sizes.py": {"uniform", "lognormal"},
    "show/questions.py": {"balanced", "normal"},
}
#: The letter of a test and of its intervals.
T = {"t"}


def words_in(nodes: Iterable[ast.AST | None]) -> set[str]:
    """The names of distributions among literals."""
    return {n.value for n in nodes if isinstance(n, ast.Constant) and n.value in DISTRIBUTIONS} - T


def asked_by_name(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Comparisons with names of distributions, cases of them, and lists of two or more of them, by line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for op, value in zip(node.ops, node.comparators, strict=True):
                both = [node.left, value] if isinstance(op, ast.Eq | ast.NotEq) else []
                listed = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else []
                yield node.lineno, words_in([*both, *listed])
        elif isinstance(node, ast.MatchValue):
            yield node.value.lineno, words_in([node.value])
        elif isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            found = words_in(node.keys if isinstance(node, ast.Dict) else node.elts)
            yield node.lineno, found if len(found) > 1 else set()


def test_no_other_file_tests_a_distribution_by_its_name() -> None:
    found, scanned = [], 0
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("spec/predictors/"):
            continue
        scanned += 1
        for line, words in asked_by_name(ast.parse(path.read_text())):
            if words - OTHERS.get(place, set()):
                found.append(f"{place}:{line}: {sorted(words)}")
    assert scanned > 200
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'p.distribution == "balanced"',
        'if p.distribution != "gamma": pass',
        'p.distribution in ("resampled",)',
        'p.distribution in ("arms", "schedule")',
        '{"time": 1, "list": 2}',
        'match kind:\n    case "period" | "binary":\n        pass',
    ],
)
def test_such_a_test_is_found(line: str) -> None:
    assert any(words for _, words in asked_by_name(ast.parse(line)))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_rows_are_whole(name: str) -> None:
    """Each row is drawn in one way or known, and stands under its own name."""
    row = DISTRIBUTIONS[name]
    assert row.name == name
    assert [row.standard, row.steps, row.known].count(None) == 2
    assert {need.key for need in row.needs} <= {*row.keys, "file"}
    assert name not in SHAPES or {"mean", "sd", "redraw", "icc"} <= {*row.keys}


KNOWN = (
    Predictor("x", 1, "balanced", redraw=False),
    Predictor("x", 1, "balanced", redraw=False, shares=(0.25, 0.75)),
    Predictor("x", 1, "time", 2.0, 0.5, redraw=False),
    Predictor("x", 1, "list", redraw=False, values=(1.0, 4.0, 2.0)),
    Predictor("x", 1, "schedule", redraw=False, sequences=((0.0, 1.0, 3.0), (2.0, 0.0, 1.0))),
    Predictor("x", 1, "period", redraw=False, values=(0.0, 0.0, 1.0, 2.0)),
    Predictor("x", 1, "arms", redraw=False, arms=(3, 2)),
    Predictor("x", 2, "balanced", redraw=False),
    Predictor("x", 2, "list", redraw=False, values=(1.0, 4.0, 2.0)),
    Predictor("x", 2, "arms", redraw=False, arms=(3, 2)),
)


@pytest.mark.parametrize("predictor", KNOWN, ids=lambda p: f"{p.distribution} of level {p.level}")
def test_known_values_have_the_moments_of_what_is_drawn(predictor: Predictor) -> None:
    """In clusters of 2 to 8 rows: a list starts again, the last value of a schedule and of periods stays."""
    layout = Layout((5, 2, 7, 8, 4))
    truth = Truth(parse_formula("y ~ x"), (0.0, 0.0), (), 1.0)
    condition = Condition({}, 1, layout, truth, (predictor,), "rows", 16)
    sizes = np.array(layout.sizes)
    if predictor.level == 2:
        clusters = [np.full(n, value) for n, value in zip(sizes, between_values(condition)[0], strict=True)]
    else:
        clusters = np.split(known_columns(condition, sizes)[:, 1], np.cumsum(sizes)[:-1])
    means = np.array([rows.mean() for rows in clusters])
    found = PredictorMoments([predictor], layout).parts("x")
    assert found is not None
    within = sum(((rows - rows.mean()) ** 2).sum() for rows in clusters) / layout.rows
    assert_allclose((found.mean, found.between, found.within), (means.mean(), means.var(), within), atol=1e-12)


def test_a_schedule_stays_at_its_last_value_and_a_list_starts_again() -> None:
    """What a cluster has beyond the last of three values."""
    layout, truth = Layout((7, 7)), Truth(parse_formula("y ~ x + w + v"), (0.0,) * 4, (), 1.0)
    predictors = (
        Predictor("x", 1, "schedule", redraw=False, sequences=((0.0, 1.0, 3.0), (2.0, 0.0, 1.0))),
        Predictor("w", 1, "period", redraw=False, values=(0.0, 1.0, 2.0)),
        Predictor("v", 1, "list", redraw=False, values=(1.0, 4.0, 2.0)),
    )
    condition = Condition({}, 1, layout, truth, predictors, "rows", 16)
    x, w, v = known_columns(condition, np.array(layout.sizes)).T[1:]
    assert x.tolist() == [0, 1, 3, 3, 3, 3, 3, 2, 0, 1, 1, 1, 1, 1]
    assert w.tolist() == [0, 1, 2, 2, 2, 2, 2] * 2
    assert v.tolist() == [1, 4, 2, 1, 4, 2, 1] * 2
