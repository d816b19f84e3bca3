"""How much predictors and products of them vary, within clusters and between them.

Every predictor is taken apart as m + B + W: its mean, a part B of its cluster and a part W of the row about it. A level-2
predictor has no W, a level-1 predictor with an intraclass correlation has var(B) = icc var and var(W) = (1 - icc) var. These are
moments of the distribution (clusters of any size; redraw = false changes nothing). What is the same in every replicate (balanced,
time, list, schedule, arms) has the moments of its values: B its clusters' means, each counting once, W the rows about them.

Of a formula's functions, center(x) has mean 0, within(x) is W alone, and between(x) is a mean of n rows: var(B) + var(W) / n.
Where cluster sizes are drawn, between(x) and level-1 values that are the same in every replicate have no moments here.

Those parts answer how clusters differ. `PredictorMoments(..., pairs=True)` has in place of B the covariance of two different
rows of a cluster, and in place of W what is left of the variance. They differ where rows of a cluster are tied: within(x) has
the variance var(W) (1 - 1 / n) and the covariance -var(W) / n, and values that are the same in every replicate, with the variance
w of the n rows about their mean, have -w / (n - 1) on top of B. Both are exact for equal sizes; of unequal ones 1 / n is a mean.

Different predictors are independent unless the study correlates them or both are the same in every replicate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .model import Layout, Predictor, source_of, term_variables
from .predictors import distribution_of, is_allocated, is_known
from .predictors.categories import coded, contrast_values
from .predictors.distribution import Places
from .predictors.known import between_numbers, numbers_of_rows, odd_numbers, strata

__all__ = [
    "PredictorMoments",
    "VarianceParts",
    "cluster_moments",
    "moments_of",
    "predictor_mean",
    "predictor_variance",
]

Array = NDArray[np.float64]

#: Before the names of columns that are allocated within blocks: their means over allocations.
_EXPECTED = "expected "


@dataclass(frozen=True, slots=True)
class VarianceParts:
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


def predictor_mean(predictor: Predictor) -> float:
    """The mean of a predictor that is redrawn; nan where it is not defined by its distribution."""
    parts = None if is_known(predictor) else _parts(predictor, Layout((2,)), predictor.columns[0])
    return float("nan") if parts is None else parts.mean


def cluster_moments(predictor: Predictor, layout: Layout) -> VarianceParts | None:
    """Moments of a level-1 predictor in clusters of one size n: `between` of its means of n rows, `within` of rows about them.

    within has the divisor n - 1. None where they do not follow from the distribution.
    """
    parts, n = _parts(predictor, layout, predictor.columns[0]), layout.sizes[0]
    if parts is None or n < 2:
        return None
    if is_known(predictor):
        return VarianceParts(parts.mean, parts.between, parts.within * n / (n - 1))
    return VarianceParts(parts.mean, parts.between + parts.within / n, parts.within)


def _parts(predictor: Predictor, layout: Layout, column: str) -> VarianceParts | None:
    if is_known(predictor):
        return None if _unsized(predictor, layout) else _Known((predictor,), layout).parts(column)
    mean, variance = distribution_of(predictor).moments(predictor, column)
    if predictor.level == 2:
        return VarianceParts(mean, variance, 0.0)
    return VarianceParts(mean, predictor.icc * variance, (1 - predictor.icc) * variance)


# -- values that are the same in every replicate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """Predictors (in order of name) whose values the layout gives. Their columns go by the names that formulas have for them."""

    predictors: tuple[Predictor, ...]
    layout: Layout
    pairs: bool = False

    def parts(self, column: str) -> VarianceParts:
        total, between = self._products(column, column)
        mean = float(self._means(column).mean())
        shared = between - mean**2
        return VarianceParts(mean, shared if self.pairs else max(0.0, shared), max(0.0, total - between))

    def products(self, a: str, b: str) -> tuple[float, float]:
        """Mean of the product of two columns, and of the product of their clusters' means (each cluster counts once), or of two
        different rows of a cluster (pairs).

        What is allocated within blocks is at its blocks' means where it meets another predictor.
        """
        if source_of(a)[0] != source_of(b)[0]:
            a, b = (f"{_EXPECTED}{c}" if f"{_EXPECTED}{c}" in self._outer else c for c in (a, b))
        return self._products(a, b)

    def _products(self, a: str, b: str) -> tuple[float, float]:
        between = float((self._means(a) * self._means(b)).mean())
        rows = tied = 0.0
        for clusters, values in [] if {a, b} & self._outer.keys() else self._kinds:
            about = (values[a] - values[a].mean()) * (values[b] - values[b].mean())
            rows += len(clusters) * float(about.sum())
            tied += len(clusters) * float(about.sum()) / max(1, len(about) * (len(about) - 1))
        total = between + rows / self.layout.rows
        return total, between - tied / self.layout.clusters if self.pairs else between

    def tied(self, a: str, b: str) -> bool:
        """Whether the values of two predictors may go together: both are known, and neither varies apart from the other."""
        pair = [p for p in self.predictors if p.name in (a, b)]
        if len(pair) < 2 or _changes_place(pair[0]) != _changes_place(pair[1]):
            return False
        inner, outer = ([p for p in pair if p.outer == kind] for kind in (False, True))
        if len(inner) != 1 or len(set(self.layout.sizes)) > 1 or inner[0].sequences:
            return True
        return inner[0].name in self._odd and not self._evenly(inner[0].name, outer[0])

    def _evenly(self, inner: str, outer: Predictor) -> bool:
        """Whether clusters of one size have both kinds of odd rows equally often at each value of a level-2 predictor."""
        kinds = np.unique(
            np.stack([self._outer.get(_EXPECTED + c, self._outer[c]) for c in outer.columns]),
            axis=1,
            return_inverse=True,
        )[1].ravel()
        shares = np.bincount(kinds, weights=self._odd[inner]) / np.bincount(kinds)
        return bool(np.ptp(shares) == 0.0) or self.layout.sizes[0] % 2 == 0

    @cached_property
    def _outer(self) -> dict[str, Array]:
        """(J): of what is constant within clusters."""
        numbers, J = between_numbers(self.predictors, self.layout.clusters), self.layout.clusters
        outer = [p for p in self.predictors if p.outer]
        columns, values = {p.name: coded(p, numbers[p.name]) for p in outer}, dict[str, Array]()
        for p in outer:
            own = dict(zip(p.columns, columns[p.name], strict=True))
            values |= own
            if p.blocks and p.redraw:
                values |= _expected(own, strata(p, columns, J))
        return values

    @cached_property
    def _odd(self) -> dict[str, NDArray[np.int64]]:
        """(J), of predictors in halves of rows: the value that has a row more in clusters of an odd number of rows."""
        return odd_numbers(self.predictors, np.array(self.layout.sizes) % 2 == 1)

    @cached_property
    def _kinds(self) -> list[tuple[NDArray[np.int64], dict[str, Array]]]:
        """Clusters with the same rows: their numbers, and the rows (n) of each column that varies there."""
        cycle = math.lcm(*(len(p.sequences) or 1 for p in self.predictors))
        keys = [np.array(self.layout.sizes), np.arange(self.layout.clusters) % cycle, *self._odd.values()]
        kinds, of = np.unique(np.stack(keys), axis=1, return_inverse=True)
        alike = [np.flatnonzero(of.ravel() == k) for k in range(kinds.shape[1])]
        return [(clusters, self._rows(clusters[:1])) for clusters in alike]

    def _rows(self, cluster: NDArray[np.int64]) -> dict[str, Array]:
        """The rows of a cluster (1), by its number."""
        inner = [p for p in self.predictors if not p.outer]
        numbers = numbers_of_rows(inner, Places(np.array(self.layout.sizes)[cluster], cluster, self._odd))
        return {c: v for p in inner for c, v in zip(p.columns, coded(p, numbers[p.name]), strict=True)}

    def alike(self) -> dict[str, Array]:
        """(n) by column: the values by the row in its cluster, of what varies there in the same way in all clusters."""
        (_, first), *others = self._kinds
        return {c: v for c, v in first.items() if all(np.array_equal(v, values[c]) for _, values in others)}

    def _means(self, name: str) -> Array:
        """(J): means of the clusters."""
        if name in self._outer:
            return self._outer[name]
        means = np.empty(self.layout.clusters)
        for clusters, values in self._kinds:
            means[clusters] = values[name].mean()
        return means


def _expected(own: Mapping[str, Array], blocks: Array) -> dict[str, Array]:
    """The means over allocations of columns that are redrawn within blocks (k, J): those of the blocks."""
    block = np.unique(blocks, axis=1, return_inverse=True)[1].ravel()
    return {
        _EXPECTED + column: (np.bincount(block, weights=values) / np.bincount(block))[block]
        for column, values in own.items()
    }


# -- terms -----------------------------------------------------------------------------------------------------------------


class PredictorMoments:
    """Means, variances and covariances of terms, in their parts; None where they do not follow from the predictors.

    correlations: of pairs of predictors, as a condition has them. pairs: "between" is of two different rows of a cluster.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        layout: Layout,
        correlations: Sequence[tuple[str, str, float]] = (),
        *,
        pairs: bool = False,
    ) -> None:
        self._layout, self._pairs = layout, pairs
        self._predictors = {p.name: p for p in predictors}
        self._known = _Known(tuple(p for p in predictors if is_known(p)), layout, pairs)
        self._correlations = {frozenset((a, b)): r for a, b, r in correlations if r != 0}
        self.covariance, self._variable = cache(self._covariance), cache(self._parts_of)

    def parts(self, term: str) -> VarianceParts | None:
        """Mean and variances of a term."""
        mean, found = self._mean(term), self.covariance(term, term)
        return None if mean is None or found is None else VarianceParts(mean, *found)

    def is_constant(self, term: str, level: int) -> bool:
        """Whether a term has no part at a level, whatever its moments: one of level 2 within clusters, within(x) between them."""
        made = [source_of(v) for v in term_variables(term)]
        inner = [how for name, how in made if how != "between" and not self._predictors[name].outer]
        return not inner if level == 1 else inner == ["within"]

    def _covariance(self, a: str, b: str) -> tuple[float, float] | None:
        """The covariance of two terms (between, within) clusters."""
        if self.apart(a, b):
            return 0.0, 0.0
        means, found = (self._mean(a), self._mean(b)), self.products(a, b)
        if means[0] is None or means[1] is None or found is None:
            return None
        total, between = found
        return between - means[0] * means[1], total - between

    def apart(self, a: str, b: str) -> bool:
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

    def by_row(self) -> dict[str, Array]:
        """(n) by column: the values by the row in its cluster, of predictors that have the same in all clusters."""
        return self._known.alike()

    def _mean(self, term: str) -> float | None:
        variables = list(term_variables(term))
        if len(variables) > 1:
            found = self.products(variables[0], ":".join(variables[1:]))
            return None if found is None else found[0]
        parts = self._variable(variables[0]) if variables else VarianceParts(1.0, 0.0, 0.0)
        return None if parts is None else parts.mean

    def _parts_of(self, variable: str) -> VarianceParts | None:
        name, made = source_of(variable)
        predictor = self._predictors[name]
        known = is_known(predictor)
        column = variable if made.startswith("[") else name
        if _unsized(predictor, self._layout) and (known or made == "between"):
            return None
        parts = self._known.parts(column) if known else _parts(predictor, self._layout, column)
        if parts is None or made in ("", "center") or made.startswith("["):
            return parts if parts is None or made != "center" else VarianceParts(0.0, parts.between, parts.within)
        mean = parts.within * float(np.mean(1 / np.array(self._layout.sizes)))  # the variance of a mean of n rows
        if made == "within":
            return VarianceParts(0.0, -mean if self._pairs else 0.0, parts.within)
        return VarianceParts(parts.mean, parts.between + (mean if self._pairs or not known else 0.0), 0.0)

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
        if is_known(predictor):
            return self._known.products(v, w)
        values = contrast_values(predictor)[:, [predictor.columns.index(column) for column in (v, w)]]
        total = float((np.array(predictor.shares) * values.prod(axis=1)).sum())
        return total, total if predictor.level == 2 else means


@lru_cache(maxsize=64)
def moments_of(
    predictors: tuple[Predictor, ...],
    layout: Layout,
    correlations: tuple[tuple[str, str, float], ...],
    *,
    pairs: bool = False,
) -> PredictorMoments:
    """`PredictorMoments`, remembered over the points of a grid."""
    return PredictorMoments(predictors, layout, correlations, pairs=pairs)


def _unsized(predictor: Predictor, layout: Layout) -> bool:
    """Whether its values in a cluster go with a size that is drawn."""
    return not predictor.outer and any(sizes is not None for _, sizes in layout.drawn)


def _changes_place(predictor: Predictor) -> bool:
    """Whether its values change places in each replicate together with those of all such predictors."""
    return is_allocated(predictor) and not predictor.blocks
