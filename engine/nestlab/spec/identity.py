"""Names by content: what a condition is, in plain words and as the keys of its random streams and results.

The stages, each public: a part of the condition as plain data, its canonical JSON, the sha256 of that, and eight 32-bit
words for a SeedSequence. Two conditions have one data key exactly if their replicates are drawn alike; how a formula is
spelled, what the factors are called, the response's name and the number of replications are not part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from .covariance import correlation_paths, pairs
from .far import far_constants
from .formula import formula_text
from .methods import estimator_of
from .missing import missing_words
from .model import NORMAL, Condition, Formula, Layout, Method, Predictor, Structure, Truth
from .predictors.allotted import has_odd_rows
from .predictors.reading import predictor_words
from .prior import Prior
from .shapes import error_words, shape_words
from .sizes import layout_words, size_words
from .structure import structure_words

__all__ = [
    "DERIVED_PATHS",
    "DRAW_VERSION",
    "NUMERICS_VERSION",
    "canonical_json",
    "data_key",
    "describe",
    "draw_rules",
    "flatten",
    "key_words",
    "layout_key",
    "numbers_key",
    "result_key",
    "sizes_key",
]

DRAW_VERSION = 1  # raised when the same key comes to draw other numbers
NUMERICS_VERSION = 3  # raised when the same data come to give other estimates

DERIVED_PATHS = (
    "path",
    "block_size",
    "draw_version",
    "draw_rules",
)  # of a description: they follow from the rest, or from nestlab


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
        priors = condition.priors
        identity["priors"] = [[name, v.table() if isinstance(v, Prior) else float(v)] for name, v in priors]
    identity |= _sizes(condition.layout)
    if condition.structure is not None:
        identity["structure"] = _structure(condition.structure)
    if condition.correlations:
        identity["correlations"] = condition.correlations
    if condition.missing is not None:
        identity["missing"] = missing_words(condition.missing)
    if rules := draw_rules(condition):
        identity["draw_rules"] = rules
    return _sha256(identity)


def draw_rules(condition: Condition) -> list[str]:
    """Name the rules by which this condition is drawn that replaced earlier ones; conditions without them kept their keys."""
    errors, rules = condition.truth.errors, []
    if errors.ar1 and errors.distribution != NORMAL:
        rules.append("ar1 of scores")
    if condition.structure is None and has_odd_rows(condition.predictors, condition.layout):
        rules.append("odd rows alternate")
    if far_constants(condition):
        rules.append("sums about a constant")
    return rules


def layout_key(condition: Condition, name: str) -> str:
    """The key of a predictor that is drawn once (redraw = false): conditions that share seed and layout share it."""
    predictor = condition.predictor(name)
    identity = {
        "draw_version": DRAW_VERSION,
        "seed": condition.seed,
        "layout": _layout(condition.layout) if condition.structure is None else _structure(condition.structure),
        "predictor": {predictor.name: _predictor(predictor)},
    }
    return _sha256(identity | _sizes(condition.layout))


def sizes_key(condition: Condition, arm: int = 0) -> str:
    """The key of an arm's cluster sizes that are drawn once: conditions that share seed and distribution share them.

    The number of clusters is no part of it: more clusters are those before, and others.
    """
    sizes = condition.layout.drawn[arm][1]
    assert sizes is not None
    return _sha256({"draw_version": DRAW_VERSION, "seed": condition.seed, "arm": arm, "sizes": size_words(sizes)})


def numbers_key(condition: Condition, name: str) -> str:
    """The key of what is drawn once of a factor, its numbers of levels or the levels that rows have, or of rows, by "".

    Conditions that share seed and distribution share numbers, so that more schools are those before, and others; and those that
    share seed and structure share the levels of rows.
    """
    structure = condition.structure
    assert structure is not None, "one grouping factor has a layout"
    sizes = dict(structure.drawn).get(name)
    drawn: dict[str, Any] = {"structure": _structure(structure)} if sizes is None else {"sizes": size_words(sizes)}
    return _sha256({"draw_version": DRAW_VERSION, "seed": condition.seed, "numbers": name} | drawn)


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
        # Not the value under test, nor the kind of test, on which no stored column depends.
        "contrasts": [{"name": c.name, "weights": c.weights, "standardise": c.standardise} for c in method.contrasts],
    }
    if method.compare is not None:
        identity["compare"] = {"null": _formula(method.compare), "reference": method.reference}
    if method.smaller:
        identity["smaller"] = [_formula(each) for each in method.smaller]
    if method.random:
        identity["draws"] = method.draws
    if method.robust is not None:
        identity["robust"] = method.robust
    if method.weights is not None:
        identity["weights"] = method.weights
    if method.intervals != "t" or method.variance_intervals:
        identity["intervals"] = [method.intervals, method.variance_intervals, float(method.alpha)]
    if method.select is not None:
        identity["select"] = [method.select, float(method.select_alpha) if method.select == "lrt" else None]
    if content := estimator_of(method).content(method):
        identity[method.estimator] = list(content.values())
    return _sha256(identity)


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


@lru_cache(maxsize=256)
def _structure(structure: Structure) -> dict[str, Any]:
    """The structure in the study file's words, with digests of long lists."""
    return dict(_shortened(structure_words(structure), _list_digest))


@lru_cache(maxsize=4096)
def _sizes(layout: Layout) -> dict[str, Any]:
    """The distributions of the sizes, where they have any."""
    if not layout.drawn:
        return {}
    return {
        "sizes": [
            [clusters, None if sizes is None else _shortened(size_words(sizes), _list_digest)]
            for clusters, sizes in layout.drawn
        ]
    }


def _formula(formula: Formula) -> dict[str, Any]:
    family = formula.family
    return {
        "fixed": formula.fixed,
        "random": [[term.group, term.columns] for term in formula.random],
        **({} if family.gaussian else {"family": [family.name, family.link]}),
    }


def _truth(truth: Truth) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "formula": _formula(truth.formula),
        "fixed": [float(value) for value in truth.fixed],
        "covariance": [[float(value) for value in row] for row in truth.covariance],
        "residual_variance": float(truth.residual_variance),
    }
    identity |= _family(truth)
    if errors := error_words(truth.errors):
        identity["errors"] = errors
    if truth.random != NORMAL:
        identity["random"] = shape_words(truth.random)
    if truth.shapes:
        identity["random"] = {group: shape_words(shape) for group, shape in truth.shapes}
    return identity


def _family(truth: Truth) -> dict[str, Any]:
    """The family of the outcome in the study file's words; nothing for Gaussian ones."""
    family = truth.formula.family
    if family.gaussian:
        return {}
    if family.counts:
        return {"family": family.name, "exposure": float(truth.exposure)}
    return {"family": family.name, "link": family.link, "trials": truth.trials}


@lru_cache(maxsize=4096)
def _predictor(predictor: Predictor) -> dict[str, Any]:
    """A predictor in the study file's words, with digests of long lists."""
    return dict(_shortened(predictor_words(predictor), _list_digest))


@lru_cache(maxsize=4096)
def _described_predictor(predictor: Predictor) -> dict[str, Any]:
    """Words for people: a list of many numbers becomes their count, mean, sd and digest."""
    return dict(_shortened(predictor_words(predictor), _summary))


@lru_cache(maxsize=4096)
def _described_sizes(layout: Layout) -> Any:
    words = layout_words(layout)
    return _shortened(words, _summary) if isinstance(words, Mapping) else words


#: Longer lists are described, and identified, by their digest.
_LISTED = 20


def _shortened(words: Any, shorten: Callable[[Sequence[Any]], str]) -> Any:
    """Words with long lists below keys made short."""
    if isinstance(words, Mapping):
        return {key: _shortened(value, shorten) for key, value in words.items()}
    long = isinstance(words, list | tuple) and sum(len(v) if isinstance(v, list) else 1 for v in words) > _LISTED
    return shorten(words) if long else words


def _list_digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def _summary(values: Sequence[Any]) -> str:
    digest = _list_digest(values)[:12]
    if isinstance(values[0], list):
        return f"{len(values)} lists of {len(values[0])}, sha256 {digest}"
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return f"{len(values)} numbers, mean {mean:.6g}, sd {sd:.6g}, sha256 {digest}"


def describe(condition: Condition) -> dict[str, Any]:
    """The condition as nested tables in the study file's own words; `flatten` gives the dotted paths of `axis_paths`.

    Variances and correlations whatever the file gave, cluster_size a list only where sizes differ, and the formula
    written out, so that equal conditions have equal descriptions. prior: by the axis's name, only where there is one; the
    truth beside it is at the means.
    """
    truth, grouping = condition.truth, condition.grouping
    priors = {name: value.text if isinstance(value, Prior) else float(value) for name, value in condition.priors}
    outcome = {key: list(value) if isinstance(value, tuple) else value for key, value in condition.outcome.items()}
    return {
        "seed": condition.seed,
        "path": condition.path,
        "block_size": condition.block_size,
        "draw_version": DRAW_VERSION,
        "design": _shortened(structure_words(condition.structure), _summary)
        if condition.structure is not None
        else {
            "clusters": grouping.levels,
            "cluster_size": _described_sizes(condition.layout),
        },
        "truth": {
            "formula": formula_text(truth.formula),
            "fixed": dict(zip(truth.formula.fixed, (float(value) for value in truth.fixed), strict=True)),
            "random": {part.group: _random(truth, part, condition.held) for part in truth.formula.parts if part.random},
            **(
                {"residual_variance": float(truth.residual_variance)}
                if truth.formula.family.gaussian
                else _family(truth)
            ),
            **({"errors": errors} if (errors := error_words(truth.errors)) else {}),
            **({"outcome": outcome} if outcome else {}),
        },
        "predictors": {predictor.name: dict(_described_predictor(predictor)) for predictor in condition.predictors},
        **(
            {"correlation": {f"{a}:{b}": float(r) for a, b, r in condition.correlations}}
            if condition.correlations
            else {}
        ),
        **({"missing": missing_words(condition.missing)} if condition.missing else {}),
        **({"prior": priors} if priors else {}),
        **({"draw_rules": ", ".join(rules)} if (rules := draw_rules(condition)) else {}),
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


def _random(truth: Truth, part: Formula, held: Mapping[str, float]) -> dict[str, Any]:
    """The random effects of one grouping factor; part: the formula with its terms only."""
    columns, covariance, shape = part.random_columns, truth.covariance, truth.shape_of(part.group)
    where = [k for k, (group, _) in enumerate(truth.formula.places) if group == part.group]
    correlations = correlation_paths(part).values()
    return {
        "variance": {column: float(covariance[i][i]) for i, column in zip(where, columns, strict=True)},
        "correlation": {
            f"{columns[a]}:{columns[b]}": held[path]
            if path in held
            else _correlation(covariance[i][j], covariance[i][i], covariance[j][j])
            for path, (a, b) in zip(correlations, pairs(part), strict=True)
            for i, j in [(where[a], where[b])]
        },
        **({} if shape == NORMAL else shape_words(shape)),
    }


def _correlation(covariance: float, variance_a: float, variance_b: float) -> float:
    """The shortest correlation that gives this covariance: 0.26, not 0.26000000000000006; 0 for a variance of 0."""
    sd_a, sd_b = math.sqrt(variance_a), math.sqrt(variance_b)
    if sd_a == 0 or sd_b == 0:
        return 0.0
    exact = max(-1.0, min(1.0, covariance / (sd_a * sd_b)))
    short = float(f"{exact:.15g}")
    return (short if short * sd_a * sd_b == covariance else exact) + 0.0
