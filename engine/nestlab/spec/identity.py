"""Names by content: what a condition is, in plain words and as the keys of its random streams and results.

The stages, each public: a part of the condition as plain data, its canonical JSON, the sha256 of that, and eight 32-bit
words for a SeedSequence. Two conditions have one data key exactly if their replicates are drawn alike; how a formula is
spelled, what the factors are called, the response's name and the number of replications are not part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from .covariance import pairs
from .formula import formula_text
from .model import Condition, Contrast, Formula, Layout, Method, Predictor, Truth
from .prior import Prior

__all__ = [
    "DERIVED_PATHS",
    "DRAW_VERSION",
    "NUMERICS_VERSION",
    "canonical_json",
    "data_key",
    "describe",
    "flatten",
    "key_words",
    "layout_key",
    "result_key",
]

DRAW_VERSION = 1  # raised when the same key comes to draw other numbers
NUMERICS_VERSION = 3  # raised when the same data come to give other estimates

DERIVED_PATHS = ("path", "block_size", "draw_version")  # of a description: they follow from the rest, or from nestlab


def canonical_json(obj: Any) -> str:
    """JSON with sorted keys, no spaces and no negative zero; ValueError for nan and infinities.

    >>> canonical_json({"b": -0.0, "a": [1, 2.5]})
    '{"a":[1,2.5],"b":0.0}'
    """
    return json.dumps(_canonical(obj), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj + 0.0
    if isinstance(obj, Mapping):
        return {str(key): _canonical(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_canonical(value) for value in obj]
    return obj


def data_key(condition: Condition) -> str:
    """The sha256, in hex, of all that decides which data a condition draws."""
    identity: dict[str, Any] = {
        "draw_version": DRAW_VERSION,
        "seed": condition.seed,
        "block_size": condition.block_size,
        "path": condition.path,
        "layout": _layout(condition.layout),
        "truth": _truth(condition.truth),
        "predictors": {predictor.name: _predictor(predictor) for predictor in condition.predictors},
    }
    if condition.priors:
        identity["priors"] = [[name, _drawn(value)] for name, value in condition.priors]
    return _sha256(identity)


def _drawn(value: Prior | float) -> dict[str, Any] | float:
    return value.table() if isinstance(value, Prior) else float(value)


def layout_key(condition: Condition, name: str) -> str:
    """The key of a predictor that is drawn once (redraw = false): conditions that share seed and layout share it."""
    predictor = condition.predictor(name)
    identity = {
        "draw_version": DRAW_VERSION,
        "seed": condition.seed,
        "layout": _layout(condition.layout),
        "predictor": {predictor.name: _predictor(predictor)},
    }
    return _sha256(identity)


def result_key(data_key: str, method: Method) -> str:
    """The key of a method's results on the data of `data_key`; the method's name is not part of it, and alpha is only
    where interval ends are stored."""
    identity = {
        "numerics_version": NUMERICS_VERSION,
        "data": data_key,
        "formula": _formula(method.formula),
        "estimator": method.estimator,
        "reml": method.reml,
        "df": list(method.df),
        "singular_df": method.singular_df,
        "contrasts": [_contrast(contrast) for contrast in method.contrasts],
    }
    if method.compare is not None:
        identity["compare"] = {"null": _formula(method.compare), "reference": method.reference}
    if method.random:
        identity["draws"] = method.draws
    if method.intervals != "t" or method.variance_intervals:
        identity["intervals"] = [method.intervals, method.variance_intervals, float(method.alpha)]
    if method.select is not None:
        identity["select"] = [method.select, float(method.select_alpha) if method.select == "lrt" else None]
    if method.estimator == "gee":
        identity["gee"] = [method.working, method.covariance]
    if method.estimator == "function":
        identity["function"] = [method.function, method.digest]
    return _sha256(identity)


def _contrast(contrast: Contrast) -> dict[str, Any]:
    """What a contrast's stored columns depend on: not the value under test, nor the kind of test."""
    return {"name": contrast.name, "weights": contrast.weights, "standardise": contrast.standardise}


@cache
def key_words(key: str) -> tuple[int, ...]:
    """A key's eight 32-bit words, the most significant first.

    >>> key_words("00000001" * 8)
    (1, 1, 1, 1, 1, 1, 1, 1)
    """
    return tuple(int(key[i : i + 8], 16) for i in range(0, 64, 8))


def _sha256(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _layout(layout: Layout) -> tuple[tuple[int, int], ...]:
    """Runs of (clusters, rows): 1,000 equal clusters need not be written out."""
    return tuple((len(list(run)), size) for size, run in groupby(layout.sizes))


def _formula(formula: Formula) -> dict[str, Any]:
    return {
        "fixed": formula.fixed,
        "random": [[term.group, term.columns] for term in formula.random],
    }


def _truth(truth: Truth) -> dict[str, Any]:
    return {
        "formula": _formula(truth.formula),
        "fixed": [float(value) for value in truth.fixed],
        "covariance": [[float(value) for value in row] for row in truth.covariance],
        "residual_variance": float(truth.residual_variance),
    }


def _predictor(predictor: Predictor) -> dict[str, Any]:
    """A predictor in the study file's words; a balanced one has neither mean nor sd and is never redrawn."""
    made: dict[str, Any] = {"level": predictor.level, "distribution": predictor.distribution}
    if predictor.distribution == "normal":
        made |= {"mean": float(predictor.mean), "sd": float(predictor.sd), "redraw": predictor.redraw}
    return made


def describe(condition: Condition) -> dict[str, Any]:
    """The condition as nested tables in the study file's own words; `flatten` gives the dotted paths of `axis_paths`.

    Variances and correlations whatever the file gave, cluster_size a list only where sizes differ, and the formula
    written out, so that equal conditions have equal descriptions. prior: by the axis's name, only where there is one; the
    truth beside it is at the means.
    """
    sizes = condition.layout.sizes
    truth = condition.truth
    priors = {name: value.text if isinstance(value, Prior) else float(value) for name, value in condition.priors}
    return {
        "seed": condition.seed,
        "path": condition.path,
        "block_size": condition.block_size,
        "draw_version": DRAW_VERSION,
        "design": {
            "clusters": len(sizes),
            "cluster_size": sizes[0] if len(set(sizes)) == 1 else list(sizes),
        },
        "truth": {
            "formula": formula_text(truth.formula),
            "fixed": dict(zip(truth.formula.fixed, (float(value) for value in truth.fixed), strict=True)),
            "random": {truth.formula.group: _random(truth, condition.held)} if truth.formula.random else {},
            "residual_variance": float(truth.residual_variance),
        },
        "predictors": {predictor.name: _predictor(predictor) for predictor in condition.predictors},
        **({"prior": priors} if priors else {}),
    }


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as {dotted path: value}; lists stay values.

    >>> flatten({"truth": {"fixed": {"x": 0.5}}, "seed": 1})
    {'truth.fixed.x': 0.5, 'seed': 1}
    """
    return dict(_leaves(tables, prefix))


def _leaves(tables: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _random(truth: Truth, held: Mapping[str, float]) -> dict[str, dict[str, float]]:
    columns = truth.formula.random_columns
    covariance = truth.covariance
    return {
        "variance": {column: float(covariance[i][i]) for i, column in enumerate(columns)},
        "correlation": {
            f"{columns[i]}:{columns[j]}": _correlation(covariance[i][j], covariance[i][i], covariance[j][j])
            for i, j in pairs(truth.formula)
        }
        | dict(held),
    }


def _correlation(covariance: float, variance_a: float, variance_b: float) -> float:
    """The shortest correlation that gives this covariance: 0.26, not 0.26000000000000006; 0 for a variance of 0."""
    sd_a, sd_b = math.sqrt(variance_a), math.sqrt(variance_b)
    if sd_a == 0 or sd_b == 0:
        return 0.0
    exact = max(-1.0, min(1.0, covariance / (sd_a * sd_b)))
    short = float(f"{exact:.15g}")
    return (short if short * sd_a * sd_b == covariance else exact) + 0.0
