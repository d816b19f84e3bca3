"""Three ways to one distribution of fits: a design drawn by strata, its rows fitted by cross-products, and NumPy's rows.

Two-sample Kolmogorov-Smirnov tests of every estimate, standard error and df; the three ways share no stream. The level is that of
all comparisons of this file together; seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nestlab as nl
from nestlab.fit.cross import CrossDesign, CrossMethod, CrossRows, compile_cross, fit
from nestlab.fit.lmm import pairs
from nestlab.fit.status import Status
from nestlab.run.block import compile_condition
from nestlab.simulate.several import SeveralDraw, StrataDraw
from nestlab.spec.estimand import Estimand

#: Replicates of each sample; the level of all comparisons, of which there are fewer than MOST.
SAMPLE, LEVEL, MOST = 2000, 0.001, 500

Array = np.ndarray
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Design:
    """A study, and its rows as NumPy has them: the level of each row by factor, and the columns (N) beside the constant."""

    formula: str
    factors: Mapping[str, Any]
    rows: int
    predictors: Mapping[str, Any]
    random: Mapping[str, Any]
    made: Callable[[], tuple[dict[str, Array], dict[str, Array]]]
    residual: float = 0.6

    @property
    def study(self) -> nl.Study:
        return nl.Study.from_dict({
            "name": "design", "seed": 33, "replications": SAMPLE,
            "design": {"rows": self.rows, "factors": self.factors},
            "truth": {
                "formula": self.formula, "residual_variance": self.residual, "random": self.random,
                "fixed": {"Intercept": 1.0} | dict.fromkeys(self.made()[1], 0.4),
            },
            "predictors": self.predictors,
        })  # fmt: skip


def crossed(subjects: int, items: int, cell: Mapping[str, list[float]]) -> tuple[dict[str, Array], dict[str, Array]]:
    n = len(next(iter(cell.values())))
    subject, item, place = (each.ravel() for each in np.indices((subjects, items, n)))
    return {"subject": subject, "item": item}, {name: np.array(values)[place] for name, values in cell.items()}


def nested(schools: int, classes: int, rows: int) -> tuple[dict[str, Array], Array]:
    school, own, place = (each.ravel() for each in np.indices((schools, classes, rows)))
    return {"school": school, "class": classes * school + own}, place


def by_factorial() -> tuple[dict[str, Array], dict[str, Array]]:
    codes, columns = crossed(12, 8, {"a": [-0.5, -0.5, 0.5, 0.5], "b": [-0.5, 0.5, -0.5, 0.5]})
    return codes, columns | {"a:b": columns["a"] * columns["b"]}


def by_school() -> tuple[dict[str, Array], dict[str, Array]]:
    codes, _ = nested(10, 3, 4)
    return codes, {"treat": (codes["school"] % 2).astype(float)}


def by_trend() -> tuple[dict[str, Array], dict[str, Array]]:
    codes, place = nested(10, 3, 4)
    return codes, {"x": np.array([0.0, 1.0, 2.0, 4.0])[place]}


def listed(values: list[float]) -> dict[str, Any]:
    return {"level": 1, "distribution": "list", "values": values}


PAIR = {"c": listed([-0.5, 0.5])}
CLASSES = {"school": 10, "class": {"within": "school", "number": 3}}
ALL = {"Intercept": 0.4, "a": 0.2, "b": 0.2, "a:b": 0.1}
DESIGNS = {
    "crossed intercepts": Design(
        "y ~ c + (1 | subject) + (1 | item)", {"subject": 12, "item": 8}, 2, PAIR,
        {"subject": {"variance": {"Intercept": 0.2}}, "item": {"variance": {"Intercept": 0.05}}},
        lambda: crossed(12, 8, {"c": [-0.5, 0.5]}),
    ),
    "crossed slopes": Design(
        "y ~ c + (1 + c | subject) + (1 + c || item)", {"subject": 12, "item": 8}, 2, PAIR,
        {
            "subject": {"variance": {"Intercept": 0.3, "c": 0.3}, "correlation": {"Intercept:c": 0.4}},
            "item": {"variance": {"Intercept": 0.1, "c": 0.2}},
        },
        lambda: crossed(12, 8, {"c": [-0.5, 0.5]}),
    ),
    "three levels": Design(
        "y ~ treat + (1 | school/class)", CLASSES, 4, {"treat": {"level": "school", "distribution": "balanced"}},
        {"school": {"variance": {"Intercept": 0.1}}, "class": {"variance": {"Intercept": 0.1}}}, by_school,
    ),
    "three levels, slope": Design(
        "y ~ x + (1 + x | school) + (1 | class)", CLASSES, 4, {"x": listed([0, 1, 2, 4])},
        {
            "school": {"variance": {"Intercept": 0.3, "x": 0.05}, "correlation": {"Intercept:x": -0.3}},
            "class": {"variance": {"Intercept": 0.1}},
        },
        by_trend,
    ),
    "2 x 2, maximal": Design(
        "y ~ a * b + (1 + a * b | subject) + (1 + a * b | item)", {"subject": 12, "item": 8}, 4,
        {"a": listed([-0.5, -0.5, 0.5, 0.5]), "b": listed([-0.5, 0.5, -0.5, 0.5])},
        {"subject": {"variance": ALL, "correlation": {"Intercept:a": 0.5}}, "item": {"variance": ALL}}, by_factorial,
    ),
}  # fmt: skip


def drawn(name: str, path: str) -> Columns:
    """The fits of a study whose statistics, or rows, nestlab draws."""
    study = DESIGNS[name].study
    condition = study.conditions[0]
    assert condition.path == "strata"
    compiled = compile_condition(replace(condition, path=path), study.methods)
    assert isinstance(compiled.draw(0), StrataDraw if path == "strata" else SeveralDraw)
    return compiled.replicates(0, SAMPLE)[0]


def of_numpy(name: str, *, seed: int = 5, residual: float | None = None) -> Columns:
    """The fits of rows that NumPy draws; residual: another variance of the errors."""
    design = DESIGNS[name]
    truth = design.study.conditions[0].truth
    codes, columns = design.made()
    N, places = len(codes[truth.formula.groups[0]]), truth.formula.places
    columns = {"Intercept": np.ones(N)} | columns
    rng, covariance = np.random.default_rng([seed, *map(ord, name)]), np.array(truth.covariance)
    X = np.stack([columns[term] for term in truth.formula.fixed], axis=1)
    y = (X @ np.array(truth.fixed))[:, None] + np.sqrt(residual or design.residual) * rng.normal(size=(N, SAMPLE))
    for group in truth.formula.groups:
        own = [k for k, (g, _) in enumerate(places) if g == group]
        levels = int(codes[group].max()) + 1
        u = rng.normal(size=(levels, SAMPLE, len(own))) @ np.linalg.cholesky(covariance[np.ix_(own, own)]).T
        for i, k in enumerate(own):
            y += columns[places[k][1]][:, None] * u[codes[group], :, i]
    groups, terms = list(truth.formula.groups), list(columns)
    random = tuple((groups.index(t.group), tuple(map(terms.index, t.columns))) for t in truth.formula.random)
    plan = compile_cross(
        CrossDesign(N, tuple(codes[g] for g in groups), tuple(int(codes[g].max()) + 1 for g in groups)),
        CrossMethod(random, tuple(map(terms.index, truth.formula.fixed))),
    )
    fits = fit(plan, CrossRows(tuple(columns.values()), y), 0, SAMPLE)
    found: dict[str, Array] = {"status": fits.status, "estimate.var:residual": fits.sigma2}
    for k, term in enumerate(truth.formula.fixed):
        found |= {f"estimate.{term}": fits.beta[:, k], f"se.{term}": fits.se[:, k]}
    term_of = np.repeat(np.arange(len(truth.formula.random)), truth.formula.block_sizes)
    for k, (i, j) in enumerate(pairs(len(places))):
        if term_of[i] == term_of[j]:
            kind, names = ("var", (places[i][1],)) if i == j else ("cov", (places[j][1], places[i][1]))
            found[f"estimate.{Estimand(kind, places[i][0], names).name}"] = fits.varcomp[:, k]
    return found


@cache
def samples(name: str) -> dict[str, Columns]:
    return {"strata": drawn(name, "strata"), "rows": drawn(name, "rows"), "NumPy": of_numpy(name)}


def p_values(one: Columns, two: Columns) -> dict[str, float]:
    """Of each quantity that both have, where it varies; the share of singular fits is one of them."""
    found = {}
    for column in one.keys() & two.keys():
        a, b = (np.asarray(each[column], dtype=float) for each in (one, two))
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if not column.startswith(("estimate.", "se.", "df.")) or min(len(a), len(b)) < SAMPLE / 2:
            continue
        size = 1e-5 * np.abs(a).max()  # df of singular fits are the same but for rounding, and would be told by it
        a, b = np.round(a / size), np.round(b / size)
        if max(np.ptp(a), np.ptp(b)) > 1:
            found[column] = float(stats.ks_2samp(a, b, method="asymp").pvalue)
    counts = [[(each["status"] == s).sum() for s in (Status.ok, Status.singular)] for each in (one, two)]
    if all(sum(column) for column in zip(*counts, strict=True)):
        found["singular"] = float(stats.chi2_contingency(counts).pvalue)
    return found


@pytest.mark.parametrize("name", DESIGNS)
def test_three_ways_have_one_distribution(name: str) -> None:
    found = samples(name)
    fixed, variances = 2 + 2 * (name == "2 x 2, maximal"), {"three levels": 2, "crossed intercepts": 2}.get(name, 4)
    for one, two in combinations(found, 2):
        p = p_values(found[one], found[two])
        assert len(p) >= 2 * fixed - 1 + variances
        assert min(p.values()) > LEVEL / MOST, (one, two, min(p, key=p.__getitem__))


def test_there_are_fewer_comparisons_than_the_level_allows_for() -> None:
    count = sum(
        len(p_values(found[one], found[two])) for found in map(samples, DESIGNS) for one, two in combinations(found, 2)
    )
    assert 150 < count < MOST


@pytest.mark.parametrize("name", [name for name in DESIGNS if "maximal" not in name])
def test_errors_with_a_larger_variance_are_told(name: str) -> None:
    """The comparison has power: a tenth more residual variance is no longer the same."""
    p = p_values(samples(name)["strata"], of_numpy(name, seed=6, residual=1.1 * DESIGNS[name].residual))
    assert p["estimate.var:residual"] < LEVEL / MOST
