"""How much predictors and products of them vary, within clusters and between them.

Every predictor is taken apart as m + B + W: its mean, a part B of its cluster and a part W of the row about it. A level-2
predictor has no W, a level-1 predictor with an intraclass correlation has var(B) = icc var and var(W) = (1 - icc) var. These are
moments of the distribution (clusters of any size; redraw = false changes nothing). What is the same in every replicate (balanced,
time, list, schedule, arms) has the moments of its values: B its clusters' means, each counting once, W the rows about them.

Of a formula's functions, center(x) has mean 0, within(x) is W alone, and between(x) is a mean of n rows: var(B) + var(W) / n.
Where cluster sizes are drawn, between(x) and level-1 values that are the same in every replicate have no moments here.

Different predictors are independent unless the study correlates them or both are the same in every replicate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .allocation import allotted
from .model import Layout, Predictor, source_of, term_variables

__all__ = ["Moments", "Parts", "moments_of", "predictor_variance"]

Array = NDArray[np.float64]

#: Distributions of which mean and sd are the predictor's own.
_SCALED = ("normal", "uniform", "t", "skew-normal", "gamma", "lognormal", "chi-square", "contaminated")
#: Those that are the same in every replicate.
_KNOWN = ("balanced", "time", "list", "schedule", "arms", "period")

#: Before the names of columns that are allocated within blocks: their means over allocations.
_EXPECTED = "expected "


@dataclass(frozen=True, slots=True)
class Parts:
    """Mean, and variance between and within clusters."""

    mean: float
    between: float
    within: float


def predictor_variance(predictor: Predictor, layout: Layout, variable: str = "") -> float:
    """The variance of a predictor, both parts together; nan where it is not defined by its distribution.

    variable: of a categorical predictor, the column. A balanced one has p (1 - p), p the share of ones that the layout allows.

    >>> predictor_variance(Predictor("z", 2, "balanced"), Layout((10,) * 5))
    0.24
    """
    parts = _parts(predictor, layout, variable or predictor.columns[0])
    return float("nan") if parts is None else parts.between + parts.within


def _parts(predictor: Predictor, layout: Layout, column: str) -> Parts | None:
    mean, variance = predictor.mean, predictor.sd**2
    match predictor.distribution:
        case "binary":
            variance = mean * (1 - mean)
        case "categorical":
            mean, variance = _contrast(predictor, column)
        case "resampled":
            values = np.array(predictor.values)
            mean, variance = float(values.mean()), float(values.var())
        case distribution if distribution in _KNOWN:
            return None if _unsized(predictor, layout) else _Known((predictor,), layout).parts(column)
        case distribution if distribution not in _SCALED:
            return None
    if predictor.level == 2:
        return Parts(mean, variance, 0.0)
    return Parts(mean, predictor.icc * variance, (1 - predictor.icc) * variance)


def _contrast(predictor: Predictor, column: str) -> tuple[float, float]:
    """Mean and variance of a category's contrast."""
    values, shares = contrast_values(predictor)[:, predictor.columns.index(column)], np.array(predictor.shares)
    mean = float((shares * values).sum())
    return mean, float((shares * values**2).sum()) - mean**2


def contrast_values(predictor: Predictor) -> Array:
    """(K, K - 1): the columns of a predictor of K categories, in each of them (`simulate.distributions` has them so)."""
    K = len(predictor.categories)
    if predictor.coding == "treatment":
        return np.eye(K)[:, 1:]
    if predictor.coding == "sum":
        return np.vstack([np.eye(K - 1), -np.ones((1, K - 1))])
    return np.diag(np.arange(1.0, K), -1)[:, :-1] - np.triu(np.ones((K, K - 1)))


# -- values that are the same in every replicate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """Predictors (in order of name) whose values the layout gives. Their columns go by the names that formulas have for them."""

    predictors: tuple[Predictor, ...]
    layout: Layout

    def parts(self, column: str) -> Parts:
        total, between = self._products(column, column)
        mean = float(self._means(column).mean())
        return Parts(mean, max(0.0, between - mean**2), max(0.0, total - between))

    def products(self, a: str, b: str) -> tuple[float, float]:
        """Mean of the product of two columns, and of the product of their clusters' means (each cluster counts once).

        What is allocated within blocks is at its blocks' means where it meets another predictor.
        """
        if source_of(a)[0] != source_of(b)[0]:
            a, b = (f"{_EXPECTED}{c}" if f"{_EXPECTED}{c}" in self._outer else c for c in (a, b))
        return self._products(a, b)

    def _products(self, a: str, b: str) -> tuple[float, float]:
        between = float((self._means(a) * self._means(b)).mean())
        rows = 0.0
        for clusters, values in [] if {a, b} & self._outer.keys() else self._kinds:
            about = (values[a] - values[a].mean()) * (values[b] - values[b].mean())
            rows += len(clusters) * float(about.sum())
        return between + rows / self.layout.rows, between

    def tied(self, a: str, b: str) -> bool:
        """Whether the values of two predictors may go together: both are known, and neither varies apart from the other."""
        pair = [p for p in self.predictors if p.name in (a, b)]
        if len(pair) < 2 or _is_allocated(pair[0]) != _is_allocated(pair[1]):
            return False
        inner = [p for p in pair if not _is_outer(p)]
        alike = len(set(self.layout.sizes)) == 1 and not any(p.sequences for p in inner)
        return len(inner) != 1 or not alike

    @cached_property
    def _outer(self) -> dict[str, Array]:
        """(J): of what is constant within clusters."""
        J, values = self.layout.clusters, dict[str, Array]()
        balanced: list[NDArray[np.int64]] = []
        for p in sorted(filter(_is_outer, self.predictors), key=lambda p: bool(p.blocks)):
            if p.blocks:
                values |= self._in_blocks(p, values)
            elif p.distribution == "balanced":
                balanced.append(_alternating(J, balanced, p.shares))
                values |= _columns(p, balanced[-1])
            elif p.distribution == "arms":
                values |= _columns(p, np.resize(np.repeat(np.arange(len(p.arms)), p.arms), J))
            else:
                values |= _columns(p, np.resize(np.array(p.values), J))
        return values

    def _in_blocks(self, p: Predictor, outer: Mapping[str, Array]) -> dict[str, Array]:
        """Columns of what is allocated block by block (as by `simulate.known`); where it is redrawn, their blocks' means, too."""
        J = self.layout.clusters
        if isinstance(p.blocks, str):
            keys = [values for column, values in outer.items() if source_of(column)[0] == p.blocks]
        else:
            keys = [np.asarray(np.arange(J) // p.blocks, dtype=float)]
        order = np.lexsort(keys[::-1]) if keys else np.arange(J)
        categories = np.empty(J, dtype=np.int64)
        categories[order] = allotted(p.shares or (0.5, 0.5), J)
        found = _columns(p, categories)
        if p.redraw:
            block = np.unique(np.array(keys).reshape(len(keys), J), axis=1, return_inverse=True)[1].ravel()
            for column, values in list(found.items()):
                found[_EXPECTED + column] = (np.bincount(block, weights=values) / np.bincount(block))[block]
        return found

    @cached_property
    def _kinds(self) -> list[tuple[NDArray[np.int64], dict[str, Array]]]:
        """Clusters with the same rows: their numbers, and the rows (n) of each column that varies there."""
        cycle = int(np.lcm.reduce([len(p.sequences) or 1 for p in self.predictors]))
        keys = np.array(self.layout.sizes) * cycle + np.arange(self.layout.clusters) % cycle
        kinds, of = np.unique(keys, return_inverse=True)
        return [(np.flatnonzero(of == k), self._rows(*divmod(int(key), cycle))) for k, key in enumerate(kinds)]

    def _rows(self, n: int, turn: int) -> dict[str, Array]:
        """The rows of a cluster of size n that takes a schedule's sequence of that turn."""
        values: dict[str, Array] = {}
        balanced: list[NDArray[np.int64]] = []
        for p in self.predictors:
            if _is_outer(p):
                continue
            if p.distribution == "balanced":
                balanced.append(_alternating(n, balanced, p.shares))
                values |= _columns(p, balanced[-1])
            elif p.distribution == "time":
                values[p.name] = p.mean + p.sd * np.arange(n, dtype=np.float64)
            else:
                of_rows = p.sequences[turn % len(p.sequences)] if p.sequences else p.values
                values |= _columns(p, np.resize(np.array(of_rows), n))
        return values

    def _means(self, name: str) -> Array:
        """(J): means of the clusters."""
        if name in self._outer:
            return self._outer[name]
        means = np.empty(self.layout.clusters)
        for clusters, values in self._kinds:
            means[clusters] = values[name].mean()
        return means


def _columns(predictor: Predictor, values: NDArray[Any]) -> dict[str, Array]:
    """Values of a predictor by its columns: itself, or contrasts where they are numbers of categories."""
    if not predictor.categories:
        return {predictor.name: values.astype(np.float64)}
    return dict(zip(predictor.columns, contrast_values(predictor)[values.astype(np.int64)].T, strict=True))


def _alternating(n: int, earlier: Sequence[NDArray[np.int64]], shares: tuple[float, ...]) -> NDArray[np.int64]:
    """0, 1, 0, ... over n units, or by shares, crossed with the balanced predictors before it (`simulate.known` has it so)."""
    keys = [np.bitwise_xor.reduce(earlier[:k], axis=0) for k in range(1, len(earlier) + 1)]
    values = np.empty(n, dtype=np.int64)
    values[np.lexsort(tuple(reversed(keys))) if keys else np.arange(n)] = allotted(shares or (0.5, 0.5), n)
    return values


# -- terms -----------------------------------------------------------------------------------------------------------------


class Moments:
    """Means, variances and covariances of terms, in their parts; None where they do not follow from the predictors.

    correlations: of pairs of predictors, as a condition has them.
    """

    def __init__(
        self, predictors: Sequence[Predictor], layout: Layout, correlations: Sequence[tuple[str, str, float]] = ()
    ) -> None:
        self._layout = layout
        self._predictors = {p.name: p for p in predictors}
        self._known = _Known(tuple(p for p in predictors if _is_known(p)), layout)
        self._correlations = {frozenset((a, b)): r for a, b, r in correlations if r != 0}
        self._found: dict[str, Parts | None] = {}
        self._covariances: dict[tuple[str, str], tuple[float, float] | None] = {}

    def parts(self, term: str) -> Parts | None:
        """Mean and variances of a term."""
        mean, found = self._mean(term), self.covariance(term, term)
        return None if mean is None or found is None else Parts(mean, *found)

    def is_constant(self, term: str, level: int) -> bool:
        """Whether a term has no part at a level, whatever its moments: one of level 2 within clusters, within(x) between them."""
        made = [source_of(v) for v in term_variables(term)]
        inner = [how for name, how in made if how != "between" and not _is_outer(self._predictors[name])]
        return not inner if level == 1 else inner == ["within"]

    def covariance(self, a: str, b: str) -> tuple[float, float] | None:
        """The covariance of two terms (between, within) clusters."""
        if (a, b) not in self._covariances:
            self._covariances[a, b] = self._covariance(a, b)
        return self._covariances[a, b]

    def _covariance(self, a: str, b: str) -> tuple[float, float] | None:
        if self._apart(a, b):
            return 0.0, 0.0
        means, found = (self._mean(a), self._mean(b)), self.products(a, b)
        if means[0] is None or means[1] is None or found is None:
            return None
        total, between = found
        return between - means[0] * means[1], total - between

    def _apart(self, a: str, b: str) -> bool:
        """Whether two terms have nothing to do with each other."""
        v, w = term_variables(a), term_variables(b)
        return not set(v) & set(w) and all((x in v) == (y in v) for x, y in self._tied([*v, *w]))

    def products(self, a: str, b: str) -> tuple[float, float] | None:
        """The mean of the product of two terms, and of the product of their parts between clusters."""
        power = {v: (v in term_variables(a)) + (v in term_variables(b)) for t in (a, b) for v in term_variables(t)}
        tied = list(self._tied(list(power)))
        total = between = 1.0
        if tied:
            (v, w), *others = tied
            joint = self._joint(v, w)
            if others or joint is None or power[v] == 2 or power[w] == 2:
                return None
            total, between = joint
        for variable in power.keys() - {v for pair in tied for v in pair}:
            parts = self._variable(variable)
            if parts is None:
                return None
            mean_square = parts.mean**2 + parts.between
            total *= parts.mean if power[variable] == 1 else mean_square + parts.within
            between *= parts.mean if power[variable] == 1 else mean_square
        return total, between

    def _mean(self, term: str) -> float | None:
        variables = list(term_variables(term))
        if len(variables) > 1:
            found = self.products(variables[0], ":".join(variables[1:]))
            return None if found is None else found[0]
        parts = self._variable(variables[0]) if variables else Parts(1.0, 0.0, 0.0)
        return None if parts is None else parts.mean

    def _variable(self, variable: str) -> Parts | None:
        if variable not in self._found:
            self._found[variable] = self._parts_of(variable)
        return self._found[variable]

    def _parts_of(self, variable: str) -> Parts | None:
        name, made = source_of(variable)
        predictor = self._predictors[name]
        known = _is_known(predictor)
        column = variable if made.startswith("[") else name
        if _unsized(predictor, self._layout) and (known or made == "between"):
            return None
        parts = self._known.parts(column) if known else _parts(predictor, self._layout, column)
        if parts is None or made in ("", "center") or made.startswith("["):
            return parts if parts is None or made != "center" else Parts(0.0, parts.between, parts.within)
        if made == "within":
            return Parts(0.0, 0.0, parts.within)
        rows = 0.0 if known else parts.within * float(np.mean(1 / np.array(self._layout.sizes)))
        return Parts(parts.mean, parts.between + rows, 0.0)

    def _tied(self, variables: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Pairs of variables that are not independent, or may be not."""
        for v, w in itertools.combinations(variables, 2):
            a, b = source_of(v)[0], source_of(w)[0]
            if a == b or frozenset((a, b)) in self._correlations or self._known.tied(a, b):
                yield v, w

    def _joint(self, v: str, w: str) -> tuple[float, float] | None:
        """`products` of two variables that are not independent."""
        parts = self._variable(v), self._variable(w)
        if parts[0] is None or parts[1] is None:
            return None
        (a, made), (b, other) = source_of(v), source_of(w)
        means = parts[0].mean * parts[1].mean
        if a == b:
            return self._same_source(v, w, means)
        if "between" in (made, other) or "within" in (made, other):
            return None
        if frozenset((a, b)) not in self._correlations:
            a, b = (name + made if made.startswith("[") else name for name, made in map(source_of, (v, w)))
            total, between = self._known.products(a, b)
            centred = means - self._known.parts(a).mean * self._known.parts(b).mean  # center() takes the means off
            return total + centred, between + centred
        first, second = self._predictors[a], self._predictors[b]
        r = self._correlations[frozenset((a, b))]
        covariance = r * np.sqrt((parts[0].between + parts[0].within) * (parts[1].between + parts[1].within))
        if first.level == second.level == 2:
            return means + covariance, means + covariance
        return None if first.icc or second.icc else (means + covariance, means)

    def _same_source(self, v: str, w: str, means: float) -> tuple[float, float] | None:
        """Of W and the cluster's mean, and of two contrasts of one factor."""
        (name, made), (_, other) = source_of(v), source_of(w)
        predictor = self._predictors[name]
        if {made, other} == {"within", "between"}:
            return means, means
        if not predictor.categories or not (made.startswith("[") and other.startswith("[")):
            return None
        if _is_known(predictor):
            return self._known.products(v, w)
        values = contrast_values(predictor)[:, [predictor.columns.index(column) for column in (v, w)]]
        total = float((np.array(predictor.shares) * values.prod(axis=1)).sum())
        return total, total if predictor.level == 2 else means


@lru_cache(maxsize=64)
def moments_of(
    predictors: tuple[Predictor, ...], layout: Layout, correlations: tuple[tuple[str, str, float], ...]
) -> Moments:
    """`Moments`, remembered over the points of a grid."""
    return Moments(predictors, layout, correlations)


def _is_known(predictor: Predictor) -> bool:
    return predictor.distribution in _KNOWN


def _is_outer(predictor: Predictor) -> bool:
    return predictor.level == 2 or predictor.distribution == "arms"


def _unsized(predictor: Predictor, layout: Layout) -> bool:
    """Whether its values in a cluster go with a size that is drawn."""
    return not _is_outer(predictor) and any(sizes is not None for _, sizes in layout.drawn)


def _is_allocated(predictor: Predictor) -> bool:
    """Whether its values are put to clusters anew in each replicate, those of all such predictors together."""
    anew = predictor.level == 2 and predictor.redraw and predictor.distribution in ("balanced", "arms")
    return anew and not predictor.blocks
