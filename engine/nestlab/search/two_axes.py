"""The cheapest pair of numbers, clusters and cluster size for example, that reaches a target, and which designs to simulate.

In a two-level model the variance of an estimated fixed effect is nearly v = (a + b / m) / J for J clusters of m rows, so that

    probit(power) = 1 / sqrt(v) - c,     log(width) = log(2) + log(v) / 2

in units that a and b absorb (Raudenbush 1997, Psychol Methods 2:173; c is near the critical value). With several grouping
factors J and m are any two numbers of the design, and v = sum_k exp(theta_k) J^-a_k m^-b_k has the terms of `counts.Spread`:
a / J + b / m + c / (J m) for J subjects and m items. The parameters are fitted to the designs tried, those near the target
counting most. The cheapest design on the curve "target reached" is
simulated, with designs along the curve and to both sides of it; limits of its cost and of its numbers come from draws of the
parameters' sampling distribution. The J that the chosen m needs is then settled by the designs of that m alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from ..spec.problems import StudyError
from .counts import Spread
from .crossing import BANDWIDTH, Tried, cross, link_of, to_link
from .one_axis import Axis, Goal

__all__ = ["Cheapest", "SurfaceSearch"]

Array = NDArray[np.float64]
Pair = tuple[int, int]

#: Draws of the parameters behind the limits of an answer.
DRAWS = 1000
#: Rounds after which a search ends, whatever is known.
MOST_ROUNDS = 12


@cache
def _scores(count: int, parameters: int) -> Array:
    """(count, parameters): normal scores of Halton's sequence (1960, Numer Math 2:84), so that limits do not hang on chance."""
    from scipy.stats.qmc import Halton

    return np.asarray(scipy.special.ndtri(Halton(parameters, scramble=False).random(count + 1)[1:]))


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The two numbers and the cost of the cheapest design that reaches the target, each with a 95 % interval by its name.

    reached: False where no allowed design reaches it, or none within the budget; the design is then the best one. sure: whether
    the interval of the cost is as narrow as was asked for.
    """

    first: int
    second: int
    cost: float
    intervals: dict[str, tuple[float, float]]
    reached: bool
    sure: bool


@dataclass
class SurfaceSearch:
    """The state of a search over two numbers J and m, as `one_axis.LineSearch`; designs are pairs (J, m).

    cost: of arrays of J and of m; names: of the axes, J's first. budget: designs may not cost more. Where the goal is None, the
    best design within the budget is looked for: the highest power.
    """

    first: Axis
    second: Axis
    goal: Goal
    cost: Callable[[Array, Array], Array]
    names: tuple[str, str] = ("clusters", "cluster_size")
    spread: Spread = field(default_factory=Spread)
    budget: float = math.inf
    maximise: bool = False
    tried: dict[Pair, Tried] = field(default_factory=dict)
    rung: int = 0
    rounds: int = 0

    def tell(self, found: Iterable[tuple[Pair, Tried]]) -> None:
        """What the simulations gave; a design that is told again replaces itself."""
        self.tried.update(found)

    def propose(self) -> dict[Pair, int]:
        """Designs with their replications in all; empty when the search is over."""
        if not self.tried:
            return self._first()
        self.rounds += 1
        answer = self.answer()
        self.rung = min(max(2 * self.rung, self.goal.first), self.goal.most)
        pair = answer.first, answer.second
        done = answer.sure and pair in self.tried and self.tried[pair].n >= self.rung / 2
        if done or self.rounds > MOST_ROUNDS:
            return {} if pair in self.tried else {pair: self.rung}
        wanted = dict.fromkeys(self._around(answer), self.rung) | {pair: min(2 * self.rung, self.goal.most)}
        return {p: n for p, n in wanted.items() if p not in self.tried or self.tried[p].n < 0.9 * n}

    # -- designs ---------------------------------------------------------------------------------------------------------

    def _first(self) -> dict[Pair, int]:
        J, m = self.first.start, self.second.start
        pairs = [(J, m), (J / 2, m), (2 * J, m), (J, m / 2.5), (J, 2.5 * m)]
        return dict.fromkeys((self._pair(*pair) for pair in pairs), self.goal.first)

    def _pair(self, J: float, m: float) -> Pair:
        return int(self.first.snap(J)), int(self.second.snap(m))

    def _around(self, answer: Cheapest) -> list[Pair]:
        """On both sides of the curve at the answer, and along it at half and twice the second number."""
        theta = self._fit()[0]
        J, m = answer.first, answer.second
        beside = [self._pair(0.8 * J, m), self._pair(1.25 * J, m)]
        along = [self._pair(min(float(self._needed(theta, np.array([n]))[0]), 4.0 * J), n) for n in (m / 2, 2 * m)]
        return [p for p in dict.fromkeys([*beside, *along]) if p != (J, m)]

    # -- curve -----------------------------------------------------------------------------------------------------------

    def _fit(self) -> tuple[Array, Array]:
        """Logarithms of the terms' coefficients, then c, and their covariance."""
        pairs, tried = list(self.tried), list(self.tried.values())
        J, m = (np.array([pair[k] for pair in pairs], dtype=np.float64) for k in (0, 1))
        y, se = to_link(tried, self.goal.kind)
        se = np.maximum(se, 1e-9)
        level = np.median(y) if self.maximise else link_of(self.goal.value, self.goal.kind)
        J0, m0, spread = self.first.start, self.second.start, self.spread
        logs = [math.log(share * J0**a * m0**b / 8) for share, (a, b) in zip(spread.shares, spread.powers, strict=True)]
        start = np.array([*logs, 1.96])
        near = np.ones_like(y)
        for _ in range(4):
            weight = np.sqrt(near) / se

            def residuals(theta: Array, weight: Array = weight) -> Array:
                own = weight * (y - self._link(theta, J, m))
                prior = [(theta[-1] - 1.96) / 0.3, *((theta[:-1] - start[:-1]) / spread.doubt)]
                return np.append(own, prior)

            found = scipy.optimize.least_squares(residuals, start, x_scale="jac", max_nfev=200)
            away = np.abs(self._link(found.x, J, m) - level) / (2 * BANDWIDTH[self.goal.kind])
            least = np.sort(away)[: min(5, len(away))][-1]
            near = np.clip(1 - (away / max(1.0, 1.5 * float(least))) ** 3, 0.0, None) ** 3
        covariance = np.linalg.pinv(found.jac.T @ found.jac)
        free = near.sum() - len(start)
        scatter = float(np.sum(found.fun[: -len(start)] ** 2)) / free if free > 1 else 1.0
        return found.x, covariance * max(1.0, scatter)

    def _link(self, theta: Array, J: Array, m: Array) -> Array:
        rest, scale = self._terms(theta, m)
        variance = rest + scale / J
        if self.goal.kind == "positive":
            return np.asarray(0.5 * np.log(variance) + theta[-1])
        return np.asarray(1 / np.sqrt(variance) - theta[-1])

    def _terms(self, theta: Array, m: Array) -> tuple[Array, Array]:
        """The variance of the estimate as rest + scale / J."""
        sums = [np.zeros_like(m), np.zeros_like(m)]
        for log, (a, b) in zip(theta, self.spread.powers, strict=False):  # theta has c beside them
            sums[a] = sums[a] + np.exp(log) / (m if b else 1.0)
        return sums[0], sums[1]

    @property
    def _sign(self) -> float:
        return -1.0 if self.goal.kind == "positive" else 1.0

    def _needed(self, theta: Array, m: Array) -> Array:
        """The first number, not rounded, with which values m of the second reach the target; infinite where none does."""
        aim, c = link_of(self.goal.value, self.goal.kind), theta[-1]
        rest, scale = self._terms(theta, m)
        precision = np.exp(2 * (c - aim)) if self.goal.kind == "positive" else max(aim + c, 1e-6) ** 2
        left = 1 - rest * precision
        return np.asarray(np.where(left > 0, scale * precision / np.where(left > 0, left, 1.0), np.inf))

    # -- answer ----------------------------------------------------------------------------------------------------------

    def _sizes(self) -> Array:
        """Values of the second number to choose from: all up to 200, then by steps of 1 %."""
        axis = self.second
        step = axis.step or 1.0
        few = np.arange(axis.low, min(axis.high, 200.0) + 0.5 * step, step)
        many = np.unique(np.round(np.geomspace(200, axis.high, 400) / step) * step) if axis.high > 200 else few[:0]
        return np.unique(np.concatenate([few, many[many <= axis.high]]))

    def _round_up(self, J: Array) -> Array:
        step = self.first.step or 1.0
        return np.asarray(np.maximum(np.ceil(np.round(J / step, 9)) * step, self.first.low))

    def _choose(self, theta: Array) -> tuple[float, float, float, bool]:
        """(J, m, cost, whether the target is reached) of the best design for one curve."""
        m = self._sizes()
        if self.maximise:
            return (*self._within_budget(theta, m), True)
        J = self._round_up(self._needed(theta, m))
        price = np.where(self.first.high >= J, self.cost(np.minimum(J, self.first.high), m), np.inf)
        cheap = np.where(price <= np.min(price) * (1 + 1e-12), self._sign * self._link(theta, J, m), -np.inf)
        k = int(np.argmax(cheap))  # of equally cheap ones the best
        if not price[k] <= self.budget or not np.isfinite(price[k]):
            return (*self._within_budget(theta, m), False)
        return float(J[k]), float(m[k]), float(price[k]), True

    @cached_property
    def _affordable(self) -> Array:
        """The largest J that the budget allows of each m; nan where it allows none."""
        step = self.first.step or 1.0
        J = np.arange(self.first.low, self.first.high + 0.5 * step, step)
        price = self.cost(J[:, None], self._sizes()[None, :])
        most = np.where(price <= self.budget, J[:, None], -np.inf).max(axis=0)
        return np.where(np.isfinite(most), most, np.nan)

    def _within_budget(self, theta: Array, m: Array) -> tuple[float, float, float]:
        """The best design that the budget allows: the largest J of each m, then the best m."""
        J = self._affordable
        if np.isnan(J).all():
            raise StudyError([f"--budget {self.budget:g}: even the smallest design costs more; raise it"])
        k = int(np.nanargmax(self._sign * self._link(theta, J, m)))
        return float(J[k]), float(m[k]), float(self.cost(J[k], m[k]))

    def answer(self) -> Cheapest:
        """The cheapest design, once `propose` has nothing more to ask for; before that, what is known so far."""
        theta, covariance = self._fit()
        J, m, price, reached = self._choose(theta)
        values, vectors = np.linalg.eigh(covariance)
        scores = _scores(DRAWS if reached else 100, len(theta)) * np.sqrt(np.maximum(values, 0.0))
        draws = [self._choose(theta + vectors @ row) for row in scores]
        limits = np.quantile(np.array([d[:3] for d in draws]), [0.025, 0.975], axis=0, method="nearest")
        intervals = {name: (float(limits[0, k]), float(limits[1, k])) for k, name in enumerate((*self.names, "cost"))}
        if reached and not self.maximise:
            J, intervals[self.names[0]] = self._settle(J, m, intervals[self.names[0]])
            price = float(self.cost(np.array(J), np.array(m)))
            intervals = {
                name: (min(low, at), max(high, at))
                for (name, (low, high)), at in zip(intervals.items(), (J, m, price), strict=True)
            }
            reached = price <= self.budget
        low, high = intervals["cost"]
        enough = max(
            2 * self.goal.precision * price, float(self.cost(np.array(J + self.first.step), np.array(m))) - price
        )
        return Cheapest(int(J), int(m), price, intervals, reached, self.maximise or high - low <= enough)

    def _settle(self, J: float, m: float, limits: tuple[float, float]) -> tuple[float, tuple[float, float]]:
        """The J that m needs, by the designs of that m, where there are three."""
        own = [Tried(float(pair[0]), t.value, t.mcse, t.n) for pair, t in self.tried.items() if pair[1] == m]
        if len(own) < 3:
            return J, limits
        found = cross(
            own, self.goal.value, kind=self.goal.kind, scale="sqrt" if self.goal.kind == "proportion" else "log"
        )
        if found is None or not min(t.x for t in own) <= found.x <= max(t.x for t in own):
            return J, limits
        x, low, high = (
            float(self._round_up(np.array(v))) for v in (found.x, max(found.lower, 1.0), min(found.upper, 1e9))
        )
        return x, (low, high)
