"""Which designs along one axis to simulate next, until the place where a measure reaches its target is known well enough.

    search = LineSearch(axis, goal)
    while wanted := search.propose():        # {x: replications in all}
        search.tell(simulate(wanted))
    search.answer()

First the target is bracketed, by few replications a design and steps as long as the curve so far allows. Then replications go
where they inform: to the fitted place and to both its sides, a third of a probit away, where the curve's slope and level are
told best; as many as the interval still lacks. Nothing here simulates; what is proposed depends on what was told, and on
nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .crossing import Crossing, Kind, Scale, Tried, cross, from_axis, monotone, to_axis
from .question import DEFAULT_MOST, FIRST

__all__ = ["Answer", "Axis", "Goal", "LineSearch"]

#: How far beside the place designs are tried, on the link's scale; of a real measure in units of the target.
ASIDE = {"proportion": 0.35, "positive": 0.15, "real": 0.4}
#: Standard errors that a design must lie on the wrong side of the target to be taken for out of reach.
SURE = 3.0
#: Rounds after which a search ends, whatever is known; a dozen is usual.
MOST_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied: between low and high (included), in steps (0: any value), from start.

    scale: on which the curve is nearly straight, and in which steps are taken.
    """

    low: float
    high: float
    step: float
    start: float
    scale: Scale

    def snap(self, x: float, side: Literal["near", "up", "down"] = "near") -> float:
        """The nearest allowed value, or the next one up or down, within the ends; three digits where there are no steps."""
        if self.low < x < self.high and x:
            step = self.step or 10.0 ** (math.floor(math.log10(abs(x))) - 2)
            rounded = math.ceil if side == "up" else math.floor if side == "down" else round
            x = float(f"{rounded(round(x / step, 9)) * step:.12g}")
        return min(max(x, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Goal:
    """The target: value, and whether the measure is to be at least ("above") or at most ("below") that.

    absolute: the measure's size is meant, whatever its sign. precision: the interval's width that is enough, relative to the
    answer; a step of the axis is always enough. first: replications of the first designs; most: of any design.
    """

    value: float
    side: Literal["above", "below"]
    kind: Kind
    absolute: bool = False
    precision: float = 0.02
    first: int = FIRST
    most: int = DEFAULT_MOST

    def reached(self, value: float) -> bool:
        return value >= self.value if self.side == "above" else value <= self.value

    def short(self, tried: Tried) -> float:
        """By how many standard errors a design misses the target; negative where it reaches it."""
        gap = self.value - tried.value if self.side == "above" else tried.value - self.value
        proportion = self.kind == "proportion"
        return gap / (math.sqrt(self.value * (1 - self.value) / tried.n) if proportion else max(tried.mcse, 1e-300))


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the target is reached. x: the smallest allowed value, or the largest where larger ones fail; lower, upper: its 95 %
    interval, in allowed values; reached: False where no allowed value reaches it, and x is then the best one tried.

    sure: whether the interval is as narrow as was asked for. crossing: the place on the curve, None where it isn't inside.
    smallest: False where x is the largest.
    """

    x: float
    lower: float
    upper: float
    reached: bool
    sure: bool
    smallest: bool
    crossing: Crossing | None


@dataclass
class LineSearch:
    """The state of one search: what was tried, and how many replications the last designs near the place had."""

    axis: Axis
    goal: Goal
    tried: dict[float, Tried] = field(default_factory=dict)
    rung: int = 0
    rounds: int = 0

    def tell(self, found: Iterable[Tried]) -> None:
        """What the simulations gave; a design that is told again replaces itself."""
        for each in found:
            self.tried[each.x] = each

    # -- what to do next -------------------------------------------------------------------------------------------------

    def propose(self) -> dict[float, int]:
        """Designs with their replications in all, earlier ones included; empty when the search is over."""
        self.rounds += 1
        if self.rounds > MOST_ROUNDS:
            return {}
        if not self.tried:
            return dict.fromkeys(self._around(self.axis.start), self.goal.first)
        if outward := self._outward():
            return outward
        if not self._bracketed():
            return {}
        crossing = self._inside()
        if crossing is None:
            return self._halfway() or self._doubtful()
        lacking = self._lacking(crossing)
        last = self.axis.snap(crossing.x, self._rounding(crossing))
        if lacking <= 1 or self.rung >= self.goal.most:
            return {} if self._tried_well(crossing, last) else {last: max(self.rung, self.goal.first)}
        factor = min(max(1.2 * lacking**2, 1.5), 16.0)
        self.rung = min(int(max(self.rung, self.goal.first) * factor), self.goal.most)
        return {x: n for x in self._informative(crossing) if not self._has(x, n := self.rung)} or {
            last: min(2 * self.rung, self.goal.most)
        }

    def _has(self, x: float, n: int) -> bool:
        return x in self.tried and self.tried[x].n >= 0.9 * n

    def _tried_well(self, crossing: Crossing, last: float) -> bool:
        """Whether the answer itself was tried, or, where there are no steps, a value that can't be told from it."""
        if self.axis.step or self._has(last, self.rung):
            return self._has(last, self.rung)
        return any(crossing.lower <= x <= crossing.upper and self._has(x, self.rung) for x in self.tried)

    def _bracketed(self) -> bool:
        """Whether designs lie on both sides of the target."""
        missed = [self.goal.short(t) for t in self._points()]
        return min(missed) < 0 < max(missed)

    def _halfway(self) -> dict[float, int]:
        """Between neighbours that lie clearly on different sides of the target, while they are far apart."""
        axis, points = self.axis, self._points()
        for a, b in itertools.pairwise(points):
            short = self.goal.short(a), self.goal.short(b)
            if min(short) < -SURE and max(short) > SURE and b.x - a.x > self._enough(b.x):
                middle = axis.snap(float(from_axis(np.mean(to_axis([a.x, b.x], axis.scale)), axis.scale)))
                if middle not in self.tried:
                    return {middle: min(4 * self.goal.first, self.goal.most)}
        return {}

    def _doubtful(self) -> dict[float, int]:
        """Four times the replications of the designs that come nearest to the target from either side, which show no slope."""
        goal = self.goal
        few = [t for t in self._points() if t.n < min(64 * goal.first, goal.most)]
        below = [t for t in few if goal.short(t) > 0]
        above = [t for t in few if goal.short(t) <= 0]
        nearest = [min(side, key=lambda t: abs(goal.short(t))) for side in (below, above) if side]
        return {t.x: min(4 * t.n, goal.most) for t in nearest}

    def _around(self, x: float) -> list[float]:
        """The place, with one below and one above it."""
        axis = self.axis
        h = float(to_axis(x, axis.scale))
        low, high = (float(v) for v in to_axis([axis.low, axis.high], axis.scale))
        reach = {"sqrt": 0.4 * h, "log": math.log(2), "linear": 0.25 * (high - low)}[axis.scale]
        places = from_axis([max(h - reach, low), h, min(h + reach, high)], axis.scale)
        return sorted({axis.snap(float(v)) for v in places})

    def _points(self) -> list[Tried]:
        """What was tried, in order; of signed measures whose size is meant, with the sign that they have on the whole."""
        points = sorted(self.tried.values(), key=lambda t: t.x)
        if not self.goal.absolute:
            return points
        sign = math.copysign(1.0, sum(t.value * abs(t.value) / max(t.mcse, 1e-300) ** 2 for t in points))
        return [Tried(t.x, sign * t.value, t.mcse, t.n) for t in points]

    def _outward(self) -> dict[float, int]:
        """Designs beyond those tried, while the target may lie there."""
        points, goal, axis = self._points(), self.goal, self.axis
        if self._bracketed():
            return {}
        missed = [goal.short(t) for t in points]
        fails = min(missed) >= 0
        crossing = cross(points, goal.value, kind=goal.kind, scale=axis.scale)
        wanted: dict[float, int] = {}
        for end, at, short in ((axis.low, points[0], missed[0]), (axis.high, points[-1], missed[-1])):
            if at.x == end:
                if abs(short) < SURE and at.n < min(16 * goal.first, goal.most):
                    wanted[end] = min(4 * at.n, goal.most)
                continue
            if self._is_wrong_way(end, fails=fails):
                continue
            wanted[self._beyond(at.x, end, crossing)] = goal.first
        return wanted

    def _is_wrong_way(self, end: float, *, fails: bool) -> bool:
        """Whether the curve clearly leads away from the target on the way to this end."""
        points = self._points()
        first, last = points[0], points[-1]
        error = math.hypot(first.mcse, last.mcse)
        rise = last.value - first.value
        if first.x == last.x or abs(rise) <= SURE * error:
            return False
        up = (self.goal.side == "above") == fails  # whether larger values of the measure are looked for
        return (rise > 0) != up if end > last.x else (rise > 0) == up

    def _beyond(self, x: float, end: float, crossing: Crossing | None) -> float:
        """Further towards the end: where the curve leads, between a half more and four times of the way."""
        axis = self.axis
        h, last = (float(v) for v in to_axis([x, end], axis.scale))
        all_h = to_axis(sorted(self.tried), axis.scale)
        unit = max(float(np.ptp(all_h)), {"sqrt": 0.4 * h, "log": math.log(2), "linear": abs(last - h) / 4}[axis.scale])
        guess = h + math.copysign(unit, last - h)
        if crossing is not None and math.isfinite(crossing.x) and (axis.scale == "linear" or crossing.x > 0):
            place = float(to_axis(max(crossing.x, 1e-12), axis.scale)) if axis.scale != "linear" else crossing.x
            aim = place + 0.1 * (place - h)
            if (aim - h) * (last - h) > 0:
                guess = h + math.copysign(min(max(abs(aim - h), 0.3 * unit), 3 * unit), last - h)
        if abs(guess - h) > abs(last - h):
            guess = last
        found = axis.snap(float(from_axis(guess, axis.scale)))
        if found == x:  # a step at least
            found = axis.snap(x + math.copysign(axis.step or abs(end - x), end - x))
        return found

    def _inside(self) -> Crossing | None:
        """The crossing, if it lies within the axis; its limits may not."""
        axis = self.axis
        crossing = cross(self._points(), self.goal.value, kind=self.goal.kind, scale=axis.scale)
        if crossing is None or not self._bracketed():
            return None
        x = min(max(crossing.x, axis.low), axis.high)
        return Crossing(x, min(crossing.lower, x), max(crossing.upper, x), crossing.slope)

    def _lacking(self, crossing: Crossing) -> float:
        """The interval's width over what is enough; at most 8."""
        return min((crossing.upper - crossing.lower) / self._enough(crossing.x), 8.0)

    def _enough(self, x: float) -> float:
        """The width of an interval about x that is asked for."""
        axis = self.axis
        # an icc of 0.01 need not be known to 0.0002
        least = 0.1 * (axis.high - axis.low) if axis.scale == "linear" else 0.0
        return max(axis.step, self.goal.precision * max(abs(x), least), 1e-12)

    def _informative(self, crossing: Crossing) -> list[float]:
        """The place and both its sides; designs that were tried nearby are used again."""
        axis, goal = self.axis, self.goal
        h = float(to_axis(crossing.x, axis.scale))
        aside = ASIDE[goal.kind] * (abs(goal.value) if goal.kind == "real" else 1.0) / abs(crossing.slope)
        low, high = (float(v) for v in to_axis([axis.low, axis.high], axis.scale))
        chosen: list[float] = []
        for sign in (-1, 0, 1):
            x = axis.snap(float(from_axis(min(max(h + sign * aside, low), high), axis.scale)))
            if sign and x == axis.snap(crossing.x):
                x = axis.snap(x + sign * axis.step)
            near = min(self.tried, key=lambda t: abs(float(to_axis(t, axis.scale)) - float(to_axis(x, axis.scale))))
            if abs(float(to_axis(near, axis.scale)) - float(to_axis(x, axis.scale))) <= 0.15 * aside:
                x = near
            chosen.append(x)
        return list(dict.fromkeys(chosen))

    # -- the answer ------------------------------------------------------------------------------------------------------

    def _rounding(self, crossing: Crossing) -> Literal["up", "down"]:
        return "up" if (crossing.slope > 0) == (self.goal.side == "above") else "down"

    def answer(self) -> Answer:
        """The place, once `propose` has nothing more to ask for; before that, what is known so far."""
        crossing, axis, points = self._inside(), self.axis, self._points()
        if crossing is not None:
            side = self._rounding(crossing)
            x, lower, upper = (axis.snap(v, side) for v in (crossing.x, crossing.lower, crossing.upper))
            if not axis.step:  # ends are rounded outwards
                lower, upper = axis.snap(crossing.lower, "down"), axis.snap(crossing.upper, "up")
            return Answer(x, lower, upper, True, self._lacking(crossing) <= 1, side == "up", crossing)
        rise = points[-1].value - points[0].value
        clear = abs(rise) > SURE * math.hypot(points[0].mcse, points[-1].mcse)
        smallest = (rise >= 0) == (self.goal.side == "above") or (self.axis.step > 0 and not clear)
        reached = [t for t in points if self.goal.reached(t.value)]
        if not reached:
            # The design nearest to the target by the monotone curve, which leaves chance out; of equals the one tried most.
            _, curve = monotone(points, kind=self.goal.kind, scale=self.axis.scale)
            sign = 1.0 if self.goal.side == "above" else -1.0
            top = float(np.max(sign * curve))
            alike = [t for t, value in zip(points, curve, strict=True) if sign * value >= top - 1e-12]
            best = max(alike, key=lambda t: t.n)
            return Answer(best.x, math.nan, math.nan, False, self.goal.short(best) > SURE, smallest, None)
        at = (min if smallest else max)(reached, key=lambda t: t.x)
        sure = len(reached) == len(points) and abs(self.goal.short(at)) > SURE
        beside = [t.x for t in points if t not in reached and (t.x < at.x) == smallest]
        ends = sorted((at.x, (max if smallest else min)(beside, default=at.x)))
        return Answer(at.x, ends[0], ends[1], True, sure, smallest, None)
