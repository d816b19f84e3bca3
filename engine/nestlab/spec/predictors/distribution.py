"""What the program knows of a distribution of predictors: one row of `DISTRIBUTIONS`, which everything else reads.

A distribution is drawn or known. What is drawn becomes of a standard normal score g, as F^-1(Phi(g)) times sd plus mean, or by
steps between levels. What is known is the same in every replicate, a function of the row's place in its cluster, the cluster and
its size. A known predictor of level 2 runs over the clusters as one of level 1 runs over the rows of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..model import Distribution, Layout, Predictor
from ..problems import Problems

__all__ = [
    "Array",
    "Given",
    "Integers",
    "Need",
    "Places",
    "PredictorDistribution",
    "number_text",
    "value_words",
]

Array: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
#: The keys of [predictors.<name>] that a study file gives, with their values.
Given: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Need:
    """A key that a distribution needs. add: what to write; instead: the keys that may stand in its place, with words for them."""

    key: str
    add: str
    instead: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class Places:
    """N rows of clusters in turn, or all clusters as the rows of one group.

    sizes: the numbers of rows of the groups. clusters: which of the layout's clusters each group is, or each row of the one
    group. odd: by name of a predictor in halves (J), the value that has a row more in clusters of an odd number of rows.
    balanced: the numbers (N) of the balanced predictors so far; each adds its own.
    """

    sizes: Integers
    clusters: Integers
    odd: Mapping[str, Integers]
    balanced: list[Integers] = field(default_factory=list)

    @classmethod
    def of_clusters(cls, clusters: int) -> Places:
        return cls(np.array([clusters]), np.arange(clusters), {})

    @cached_property
    def place(self) -> Integers:
        """(N): the place of each row in its group, 0, 1, ..."""
        return np.arange(int(self.sizes.sum())) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)

    def of_cluster(self, values: Integers) -> Integers:
        """(N): the values of `clusters` on the rows."""
        return values if len(self.sizes) < len(values) else np.repeat(values, self.sizes)


def number_text(value: float) -> str:
    """Return a number as people write it: 0.5, 20."""
    return f"{value:.6g}"


def value_words(predictor: Predictor) -> dict[str, Any]:
    """Return the listed values in a study file's words."""
    return {"values": [float(v) for v in predictor.values]}


def _nothing(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    """Find nothing wrong."""


def _moments(predictor: Predictor, column: str) -> tuple[float, float]:
    return predictor.mean, predictor.sd**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorDistribution:
    """A distribution of predictors: how a study file has it, how its values are made, and what the program may do with it.

    It is drawn by quantiles (`standard`) or by steps (`steps`), or it is known (`known`).
    """

    name: str

    # -- in a study file
    #: Keys that it may have beside level and distribution.
    keys: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    #: Keys that people first think of this distribution for.
    usual: tuple[str, ...] = ()
    #: (given, key, clusters, problems): adds what is wrong with the values under predictors.<name>, `key`. None that it needs is
    #: missing. clusters: design.clusters, where the distribution is `allotted`.
    check: Callable[[Given, str, int | None, Problems], None] = _nothing
    #: (name, given, clusters): the predictor.
    make: Callable[[str, Given, int | None], Predictor]
    #: The predictor as a study file has it, beside level, distribution, coding and icc. Stored studies are found by them.
    words: Callable[[Predictor], dict[str, Any]]
    #: The categories that its columns are contrasts of.
    categories: Callable[[Given], tuple[str, ...]] = lambda given: ()
    #: Whether it has one value in each cluster, whatever its level.
    constant: Callable[[Given], bool] = lambda given: False

    # -- for people
    #: What it is, after the predictor's name.
    text: Callable[[Predictor], str]
    #: Its name in a sentence, where that is not `name`.
    title: str = ""

    # -- what is drawn
    #: The distribution with mean 0 and variance 1, to which the predictor's sd and mean are applied.
    standard: Callable[[Predictor], Distribution] | None = None
    #: F^-1(Phi(g)) of `standard` at scores g; None for the normal distribution.
    quantile: Callable[[Distribution, Array], Array] | None = None
    #: What its values are never below and above, rounding included.
    bounds: tuple[float, float] | None = None
    #: Ascending levels with their probabilities.
    steps: Callable[[Predictor], tuple[Array, Array]] | None = None
    #: The mean and variance of one of its columns.
    moments: Callable[[Predictor, str], tuple[float, float]] = _moments
    #: (predictor, rate): the mean of exp(rate x), where that is known.
    mean_exp: Callable[[Predictor, float], float] | None = None

    # -- what is known
    #: (N): the values, or numbers of categories, at places.
    known: Callable[[Predictor, Places], NDArray[Any]] | None = None
    #: What tells apart clusters that have different values at the same places.
    turn: Callable[[Predictor, Integers], Integers] | None = None

    # -- of either
    #: The values that it can take where it has no categories, if they are few.
    levels: Callable[[Predictor], Array] | None = None
    #: About its mean and sd, where these are neither stated nor those of listed values.
    scale: Callable[[Predictor, Layout], tuple[float, float]] | None = None
    #: (predictor, layout, longest): what is wrong with sizes of clusters, of which the largest has `longest` rows.
    refuse_sizes: Callable[[Predictor, Layout, float], str | None] = lambda predictor, layout, longest: None

    # -- what the program may do with it
    #: The default level; where that is 1, the only one: it runs over the rows of a cluster, or over what stands for them.
    level: Literal[1, 2] | None = None
    #: Lives on the crossing of two grouping factors only.
    crossed: bool = False
    #: Has one value in each cluster, and sizes of clusters may go by it.
    outer: bool = False
    #: The layout gives units to its categories by their shares.
    allotted: bool = False
    #: At level 2 it draws how many clusters belong to each category.
    by_chance: bool = False
    #: One of the first two distributions that there were: products of these are always drawn row by row.
    first: bool = False

    @property
    def gaussian(self) -> bool:
        """Whether scores are taken as they are."""
        return self.standard is not None and self.quantile is None

    @property
    def correlated(self) -> bool:
        """Whether it may have correlations: it is drawn, and its values are numbers."""
        return self.standard is not None or (self.steps is not None and self.levels is not None)

    @property
    def stratum(self) -> bool:
        """Whether other predictors may be allocated within its values: these are few, and clusters may have one each."""
        return self.level != 1 and (self.steps is not None or self.levels is not None)

    @property
    def alike(self) -> bool:
        """Whether all clusters of one size have the same values."""
        return self.known is not None and self.turn is None

    @property
    def listed(self) -> bool:
        """Whether its values stand in a study file one by one, so that a small design may lack some of them."""
        return self.known is not None and self.levels is not None and not self.allotted

    @property
    def assigned(self) -> bool:
        """Whether it says what the design does to clusters or rows, as treatments are assigned."""
        return self.allotted or self.turn is not None
