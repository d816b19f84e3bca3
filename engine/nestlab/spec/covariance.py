"""The covariance matrix of the random effects, as variances and correlations and back.

The study's own words are the keys: `truth.random.<group>.variance.<column>` and
`truth.random.<group>.correlation.<a>:<b>` for two columns of one random term. A correlation is held when a variance
changes; a covariance that the file gives is kept to the last bit for as long as its variances are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .formula import find_term, random_term_text, same_term
from .model import Formula

__all__ = [
    "Held",
    "correlation_path",
    "correlation_paths",
    "correlations",
    "covariance_paths",
    "covariance_problem",
    "decompose",
    "find_pair",
    "held_correlations",
    "not_semidefinite",
    "pairs",
    "prior_of_correlation",
    "true_covariance",
    "variance_path",
    "variance_paths",
]

Flat = Mapping[str, Any]
Matrix = Sequence[Sequence[float]]

# Correlations typed with two or three digits may miss semi-definiteness by rounding only.
_ROUNDING = 1e-10


class Held(NamedTuple):
    """A correlation, given as a covariance and the two variances that it belongs to."""

    covariance: float
    variance_a: float
    variance_b: float

    @property
    def correlation(self) -> float:
        scale = math.sqrt(self.variance_a) * math.sqrt(self.variance_b)
        return max(-1.0, min(1.0, self.covariance / scale)) if scale > 0 else 0.0


def variance_path(formula: Formula, column: str) -> str:
    return f"{formula.random_table}.variance.{column}"


def correlation_path(formula: Formula, a: str, b: str) -> str:
    return f"{formula.random_table}.correlation.{a}:{b}"


def pairs(formula: Formula) -> Iterator[tuple[int, int]]:
    """Positions (i < j) in the random columns of two columns that share a random term."""
    start = 0
    for size in formula.block_sizes:
        yield from itertools.combinations(range(start, start + size), 2)
        start += size


def variance_paths(formula: Formula) -> tuple[str, ...]:
    """The keys of the q variances, of all grouping factors."""
    return tuple(f"truth.random.{group}.variance.{column}" for group, column in formula.places)


def correlation_paths(formula: Formula) -> dict[tuple[int, int], str]:
    """The keys of the correlations, of all grouping factors, by the positions of their columns."""
    places = formula.places
    return {(i, j): f"truth.random.{places[i][0]}.correlation.{places[i][1]}:{places[j][1]}" for i, j in pairs(formula)}


def covariance_paths(formula: Formula) -> tuple[str, ...]:
    """All keys that covariance matrices set."""
    return (*variance_paths(formula), *correlation_paths(formula).values())


def find_pair(formula: Formula, key: str) -> tuple[int, int] | str:
    """The positions that a correlation's key "a:b" means, in either order; a sentence if it means none.

    Products make the key ambiguous in principle ("x:z" with "x" is "x:x:z"), so every split is tried.
    """
    columns, parts = formula.random_columns, key.split(":")
    found = set()
    for cut in range(1, len(parts)):
        a = find_term(columns, ":".join(parts[:cut]))
        b = find_term(columns, ":".join(parts[cut:]))
        if a is not None and b is not None and not same_term(a, b):
            i, j = sorted((columns.index(a), columns.index(b)))
            found.add((i, j))
    shared = found & set(pairs(formula))
    terms = " + ".join(map(random_term_text, formula.random))
    if len(shared) == 1:
        return shared.pop()
    if shared:
        return f"must name two random columns, and {key} may be read in two ways in {terms}; give covariance instead"
    if found:
        return f"must name two columns of one random term, and {terms} holds them apart; join the terms or remove it"
    known = [f"{columns[i]}:{columns[j]}" for i, j in pairs(formula)]
    return f"must name two random columns of {terms}; {'use ' + ' or '.join(known) if known else 'remove it'}"


def covariance_problem(formula: Formula, matrix: Matrix) -> str | None:
    """What is wrong with a given covariance matrix: allowed and repair, or None."""
    columns = formula.random_columns
    q = len(columns)
    if len(matrix) != q:
        return f"must be a {q} x {q} matrix, in the order {', '.join(columns)}; write {q} rows of {q}"
    if any(matrix[i][i] < 0 for i in range(q)):
        return "must have variances >= 0 on its diagonal; correct the diagonal"
    within = set(pairs(formula))
    for i, j in itertools.combinations(range(q), 2):
        if not math.isclose(matrix[i][j], matrix[j][i], rel_tol=1e-9, abs_tol=0.0):
            return f"must be symmetric; make the two values for {columns[i]} and {columns[j]} equal"
        if matrix[i][j] != 0 and (i, j) not in within:
            return (
                f"must be 0 between separate random terms; write 0 for {columns[i]} and {columns[j]} or join the terms"
            )
        if abs(matrix[i][j]) > math.sqrt(matrix[i][i]) * math.sqrt(matrix[j][j]) * (1 + _ROUNDING):
            return (
                "must be positive semi-definite; bring the value for "
                f"{columns[i]} and {columns[j]} within +-sqrt(variance x variance)"
            )
    return not_semidefinite(formula, decompose(formula, matrix))


def decompose(formula: Formula, matrix: Matrix) -> dict[str, Any]:
    """A covariance matrix as keys: variances, and correlations that remember their covariance."""
    columns = formula.random_columns
    flat: dict[str, Any] = {variance_path(formula, column): matrix[i][i] for i, column in enumerate(columns)}
    for i, j in pairs(formula):
        held = Held(matrix[i][j], matrix[i][i], matrix[j][j])
        flat[correlation_path(formula, columns[i], columns[j])] = held
    return flat


def true_covariance(formula: Formula, flat: Flat) -> tuple[tuple[float, ...], ...]:
    """The q x q matrix that the keys describe; a correlation that is absent is 0."""
    variances = [flat[path] for path in variance_paths(formula)]
    matrix = [[0.0] * len(variances) for _ in variances]
    for i, variance in enumerate(variances):
        matrix[i][i] = variance
    for (i, j), path in correlation_paths(formula).items():
        given = flat.get(path, 0.0)
        matrix[i][j] = matrix[j][i] = _covariance(given, variances[i], variances[j])
    return tuple(map(tuple, matrix))


def _covariance(given: float | Held, variance_a: float, variance_b: float) -> float:
    if isinstance(given, Held):
        if (variance_a, variance_b) == given[1:]:
            return given.covariance
        given = given.correlation
    return given * math.sqrt(variance_a) * math.sqrt(variance_b) + 0.0  # never -0.0


def correlations(formula: Formula, flat: Flat) -> dict[str, float]:
    """The correlation of each pair that shares a random term, 0 where none is given; of one grouping factor."""
    columns, found = formula.random_columns, {}
    for (i, j), path in correlation_paths(formula).items():
        found[f"{columns[i]}:{columns[j]}"] = _number(flat.get(path, 0.0))
    return found


def held_correlations(formula: Formula, flat: Flat) -> dict[str, float]:
    """The correlations, by their keys, that the covariance matrix does not show, because a variance is 0."""
    zero = [flat[path] == 0 for path in variance_paths(formula)]
    if not any(zero):
        return {}
    hidden = [path for (i, j), path in correlation_paths(formula).items() if zero[i] or zero[j]]
    return {path: _number(flat.get(path, 0.0)) for path in hidden}


def _number(given: float | Held) -> float:
    return given.correlation if isinstance(given, Held) else given


def not_semidefinite(formula: Formula, flat: Flat) -> str | None:
    """What to do about correlations that no random effects can have; None if they are positive semi-definite."""
    values = tuple(correlations(formula, flat).values())
    return indefinite(_smallest_eigenvalue(formula.block_sizes, values))


def indefinite(smallest: float) -> str | None:
    """What to do about correlations whose matrix has a negative eigenvalue; None where it has none."""
    if smallest >= -_ROUNDING:
        return None
    factor = math.floor(1000 / (1 - smallest)) / 1000
    return (
        f"must be a positive semi-definite matrix (its smallest eigenvalue is {smallest:.3g}); "
        f"bring the correlations nearer 0, times {factor:g} say"
    )


def prior_of_correlation(formula: Formula, name: str) -> str | None:
    """What to do about a prior on a correlation of which not every draw is possible; None if it is no such one."""
    key = name.partition(f"{formula.random_table}.correlation.")[2]
    found = find_pair(formula, key) if key else ""
    if isinstance(found, str):
        return None
    columns = next(term.columns for term in formula.random if formula.random_columns[found[0]] in term.columns)
    if len(columns) <= 2:
        return None
    return (
        f"must be a number, as {len(columns)} columns share a random term and some draws would make their correlations no "
        "positive semi-definite matrix; write the number, or a prior on the variances"
    )


@lru_cache(maxsize=4096)
def _smallest_eigenvalue(block_sizes: tuple[int, ...], correlations: tuple[float, ...]) -> float:
    if max(block_sizes) <= 2:  # a correlation in [-1, 1] is enough
        return 0.0
    import numpy as np

    matrix, start, values = np.eye(sum(block_sizes)), 0, iter(correlations)
    for size in block_sizes:
        for i, j in itertools.combinations(range(start, start + size), 2):
            matrix[i, j] = matrix[j, i] = next(values)
        start += size
    return float(np.linalg.eigvalsh(matrix)[0])
